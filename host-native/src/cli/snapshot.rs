//! `farrier snapshot`.

use std::ffi::OsString;

use clap::Args;
use farrier::control::Request;

use super::failure::Outcome;
use super::names::escaped;
use super::target::{Target, label};

/// Make a snapshot: a copy of a PFS as it is now, which shares its space.
///
/// It takes no longer for many files than for few. A snapshot is a PFS like any other: it can be
/// mounted (DEVICE@NAME), changed, and removed with `farrier pfs delete`.
#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    #[command(flatten)]
    target: Target,

    /// Label of the snapshot.
    #[arg(value_name = "NAME")]
    name: OsString,
}

impl Snapshot {
    pub(crate) fn run(&self) -> Outcome {
        let label = label(&self.name);
        self.target.ask(&Request::Snapshot { label: label.clone() })?;
        println!("snapshot {} of {}", escaped(&label), self.target.name());
        Ok(())
    }
}
