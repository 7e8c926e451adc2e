//! Runs the `farrier-wasi` module in an embedded wasmtime.
//!
//! | module | what it is for |
//! |---|---|
//! | [`runner`] | the module in its sandbox, within limits |
//! | [`grant`] | the directories that a command line needs, and no others |
//! | [`listing`] | answers of the module as Rust values |
//! | [`failure`] | why a run did not come to its end |
//!
//! Invariants:
//! * The module gets nothing but its arguments, the directories that the caller grants, and two
//!   outputs: no environment, no network, no standard input.
//! * Directories are granted read-only, except the one that a copy goes to, and those of the
//!   volumes if the command writes to them; such volumes are locked for the run.
//! * A module that asks for anything but WASI preview 1 is refused before it runs.
//!
//! Nothing here knows HAMMER2; what a volume is only the module knows.
//!
//! ```no_run
//! use std::path::Path;
//! use farrier_wasi_runner::Runner;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runner = Runner::new(&std::fs::read("farrier.wasm")?)?;
//! for entry in runner.list(Path::new("disk.img"), "/")? {
//!     println!("{} {}", entry.kind.name(), entry.path);
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod failure;
pub mod grant;
pub mod listing;
pub mod runner;

pub use failure::Failure;
pub use farrier_wasi::report;
pub use grant::{Access, Preopen, grants};
pub use listing::Answer;
pub use runner::{Limits, Output, Runner};
