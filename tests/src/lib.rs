//! The harness of the tests that cross crates: images, manifests, and a host for them.
//!
//! Nothing here knows how the core works inside: what is compared is what a user would see.

pub mod against;
pub mod checking;
pub mod crash;
pub mod crowded;
pub mod fuzzing;
pub mod host;
pub mod images;
pub mod manifest;
pub mod model;
pub mod mounted;
pub mod ops;
pub mod rack;
pub mod ram;
pub mod repairing;
pub mod script;
pub mod session;
pub mod sim;
pub mod surgeon;
pub mod walk;
pub mod world;
pub mod writing;
