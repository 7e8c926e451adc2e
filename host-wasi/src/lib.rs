//! What the module and whoever embeds it have in common: the command line and the reports.
//!
//! The module itself is the binary of this package; see its page for what it does. An embedder
//! reads the [`arguments`] to know which files a run names (and nothing else of the machine is
//! its business), and the [`report`]s to know what came out.
//!
//! Nothing here opens a file or knows a runtime.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod name;
pub mod report;
