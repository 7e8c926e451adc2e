//! Runs the module; see the library.
fn main() {}
