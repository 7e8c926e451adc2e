//! `farrier stat`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use farrier::tree::{LastLink, Tree};
use farrier_core::fs::Attributes;
use farrier_core::media::check::CheckMethod;
use farrier_core::media::inode::ObjectKind;
use farrier_core::text;
use serde::Serialize;

use super::failure::{Failure, Outcome, tell};
use super::names::{JsonName, escaped};
use super::source::TreeArguments;

/// Tell all about files.
#[derive(Debug, Args)]
pub(crate) struct Stat {
    #[command(flatten)]
    tree: TreeArguments,

    /// Files, from the root of the PFS.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,

    /// Tell about what a symbolic link points to instead of the link.
    #[arg(short = 'L', long)]
    dereference: bool,

    /// Write one JSON document for each PATH.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    path: JsonName,
    #[serde(flatten)]
    attributes: &'a Attributes,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<JsonName>,
}

impl Stat {
    pub(crate) fn run(&self) -> Outcome {
        let tree = self.tree.open()?;
        let last_link = if self.dereference { LastLink::Follow } else { LastLink::Keep };
        let mut out = io::stdout().lock();
        let mut is_whole = true;
        for path in &self.paths {
            let path = path.as_bytes();
            match look(&tree, path, last_link) {
                Ok((attributes, target)) => {
                    self.write(&mut out, path, &attributes, target.as_deref())?;
                }
                Err(error) => {
                    let text = tree.image().blocks().explain(&error);
                    tell(&format!("{}: {text}", escaped(path)));
                    is_whole = false;
                }
            }
        }
        out.flush()?;
        if is_whole { Ok(()) } else { Err(Failure::told()) }
    }

    fn write(
        &self,
        out: &mut impl Write,
        path: &[u8],
        attributes: &Attributes,
        target: Option<&[u8]>,
    ) -> Outcome {
        if self.json {
            let report = Report {
                format: "farrier-stat-1",
                path: JsonName::new(path),
                attributes,
                target: target.map(JsonName::new),
            };
            serde_json::to_writer_pretty(&mut *out, &report)?;
            return Ok(writeln!(out)?);
        }
        writeln!(out, "path        {}", escaped(path))?;
        writeln!(out, "kind        {}", attributes.kind.name())?;
        if let Some(target) = target {
            writeln!(out, "target      {}", escaped(target))?;
        }
        write_facts(out, attributes)?;
        Ok(())
    }
}

fn look(
    tree: &Tree,
    path: &[u8],
    last_link: LastLink,
) -> Result<(Attributes, Option<Vec<u8>>), farrier_core::error::Error> {
    let attributes = tree.resolve(path, last_link)?;
    let target = match attributes.kind {
        ObjectKind::Symlink => Some(tree.read_link(attributes.inum)?),
        _ => None,
    };
    Ok((attributes, target))
}

fn write_facts(out: &mut impl Write, attributes: &Attributes) -> io::Result<()> {
    let check =
        CheckMethod::from_code(attributes.check_request).map_or("unknown", CheckMethod::name);
    writeln!(out, "inode       {}", attributes.inum.0)?;
    let mode = text::mode(attributes.kind, attributes.mode);
    writeln!(out, "mode        {:04o} ({mode})", attributes.mode)?;
    writeln!(out, "owner       {}:{}", attributes.uid, attributes.gid)?;
    writeln!(out, "links       {}", attributes.nlinks)?;
    if matches!(attributes.kind, ObjectKind::CharDevice | ObjectKind::BlockDevice) {
        writeln!(out, "device      {}, {}", attributes.device.0, attributes.device.1)?;
    }
    writeln!(out, "size        {}", attributes.size)?;
    writeln!(out, "allocated   {}", attributes.allocated_bytes)?;
    writeln!(out, "modified    {}", text::time(attributes.mtime))?;
    writeln!(out, "changed     {}", text::time(attributes.ctime))?;
    writeln!(out, "created     {}", text::time(attributes.btime))?;
    writeln!(out, "flags       {:#x}", attributes.flags)?;
    writeln!(out, "check       {check}")?;
    writeln!(out, "compression {}", text::compression_request(attributes.compression_request))
}
