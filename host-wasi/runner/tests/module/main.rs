//! The module in a real wasmtime: golden images, damaged images, and the walls of the sandbox.

mod copies;
mod damaged;
mod golden;
mod harness;
mod sandbox;
mod writing;
