//! `farrier pfs`.

use std::io::{self, Write};

use clap::Args;
use farrier_core::fs::PfsInfo;
use farrier_core::media::inode::PfsKind;
use farrier_core::text;
use serde::Serialize;

use super::failure::{Failure, Outcome, tell};
use super::names::{JsonName, escaped};
use super::source::DeviceArguments;

/// List the PFSs, snapshots among them.
#[derive(Debug, Args)]
pub(crate) struct PfsCommand {
    #[command(flatten)]
    devices: DeviceArguments,

    /// Write one JSON document.
    #[arg(long)]
    json: bool,
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
