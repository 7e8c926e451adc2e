//! `farrier pfs`.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Args, Subcommand};
use farrier::control::Request;
use farrier_core::fs::PfsInfo;
use farrier_core::media::inode::PfsKind;
use farrier_core::text;
use serde::Serialize;

use super::failure::{Failure, Outcome, tell};
use super::names::{JsonName, escaped};
use super::source::DeviceArguments;
use super::target::{self, Target};

/// List the PFSs, snapshots among them; or make, remove and rename them.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(override_usage = USAGE)]
pub(crate) struct PfsCommand {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    devices: DeviceArguments,

    /// Write one JSON document.
    #[arg(long)]
    json: bool,
}

const USAGE: &str = "farrier pfs [OPTIONS] DEVICE...
       farrier pfs create DIR-or-DEVICE LABEL
       farrier pfs delete DIR-or-DEVICE LABEL
       farrier pfs rename DIR-or-DEVICE LABEL NEW-LABEL";

/// A change of the PFSs.
#[derive(Debug, Subcommand)]
enum Action {
    /// Make an empty PFS.
    Create {
        #[command(flatten)]
        target: Target,
        /// Its label.
        label: OsString,
    },
    /// Remove a PFS, and everything in it, for good. Its space is free after a bulk scan.
    Delete {
        #[command(flatten)]
        target: Target,
        /// Its label.
        label: OsString,
    },
    /// Give a PFS another label.
    Rename {
        #[command(flatten)]
        target: Target,
        /// The label so far.
        label: OsString,
        /// The label from now on.
        new_label: OsString,
    },
}

impl Action {
    fn run(&self) -> Outcome {
        let (target, request) = match self {
            Self::Create { target, label } => {
                (target, Request::CreatePfs { label: target::label(label) })
            }
            Self::Delete { target, label } => {
                (target, Request::DeletePfs { label: target::label(label) })
            }
            Self::Rename { target, label, new_label } => {
                let (label, new_label) = (target::label(label), target::label(new_label));
                (target, Request::RenamePfs { label, new_label })
            }
        };
        target.ask(&request).map(|_| ())
    }
}

#[derive(Serialize)]
struct Report {
    format: &'static str,
    pfs: Vec<Row>,
    broken: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    label: JsonName,
    kind: PfsKind,
    is_snapshot: bool,
    cluster_id: String,
    pfs_id: String,
    created_us: u64,
    data_bytes: u64,
    inode_count: u64,
    next_inum: u64,
}

impl PfsCommand {
    pub(crate) fn run(&self) -> Outcome {
        if let Some(action) = &self.action {
            return action.run();
        }
        let image = self.devices.open()?;
        let list = image.list_pfs()?;
        let broken: Vec<_> =
            list.broken.iter().map(|error| image.blocks().explain(error)).collect();
        let mut out = io::stdout().lock();
        if self.json {
            let report = Report {
                format: "farrier-pfs-1",
                pfs: list.entries.iter().map(row).collect(),
                broken: broken.clone(),
            };
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        } else {
            write_table(&mut out, &list.entries)?;
        }
        out.flush()?;
        for text in &broken {
            tell(&format!("{}: {text}", image.path().display()));
        }
        if broken.is_empty() { Ok(()) } else { Err(Failure::told()) }
    }
}

fn row(info: &PfsInfo) -> Row {
    Row {
        label: JsonName::new(&info.label),
        kind: info.kind,
        is_snapshot: info.is_snapshot,
        cluster_id: info.cluster_id.to_string(),
        pfs_id: info.pfs_id.to_string(),
        created_us: info.created.0,
        data_bytes: info.data_bytes,
        inode_count: info.inode_count,
        next_inum: info.next_inum.0,
    }
}

fn write_table(out: &mut impl Write, entries: &[PfsInfo]) -> io::Result<()> {
    writeln!(
        out,
        "{:<10} {:<8} {:>14} {:>9} {:<19} LABEL",
        "KIND", "SNAPSHOT", "BYTES", "INODES", "CREATED"
    )?;
    for info in entries {
        writeln!(
            out,
            "{:<10} {:<8} {:>14} {:>9} {:<19} {}",
            info.kind.name(),
            if info.is_snapshot { "yes" } else { "no" },
            info.data_bytes,
            info.inode_count,
            text::time(info.created),
            escaped(&info.label)
        )?;
    }
    Ok(())
}
