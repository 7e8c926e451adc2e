//! `farrier ls`.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use farrier::tree::{LastLink, Tree};
use farrier_core::fs::Attributes;
use farrier_core::media::inode::ObjectKind;
use farrier_core::text;
use serde::Serialize;

use super::failure::{Failure, Outcome, tell};
use super::names::{JsonName, NameStyle, escaped};
use super::source::TreeArguments;

/// List directories.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    tree: TreeArguments,

    /// What to list, from the root of the PFS.
    #[arg(value_name = "PATH", default_value = "/")]
    paths: Vec<OsString>,

    /// Tell kind, mode, links, owner, size and time as well.
    #[arg(short, long)]
    long: bool,

    /// Write one JSON document for each PATH.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    format: &'static str,
    path: JsonName,
    entries: Vec<Row<'a>>,
    broken: Vec<String>,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    name: JsonName,
    #[serde(flatten)]
    attributes: Option<&'a Attributes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<JsonName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// One name to show, with what could be learnt about it.
struct Entry {
    name: Vec<u8>,
    kind: ObjectKind,
    attributes: Option<Attributes>,
    target: Option<Vec<u8>>,
    error: Option<String>,
}

impl Ls {
    pub(crate) fn run(&self) -> Outcome {
        let tree = self.tree.open()?;
        let mut out = BufWriter::new(io::stdout().lock());
        let mut is_whole = true;
        for path in &self.paths {
            if self.paths.len() > 1 && !self.json {
                out.write_all(&NameStyle::for_stdout().bytes(path.as_bytes()))?;
                writeln!(out, ":")?;
            }
            is_whole &= self.list(&tree, path.as_bytes(), &mut out)?;
        }
        out.flush()?;
        if is_whole { Ok(()) } else { Err(Failure::told()) }
    }

    fn list(&self, tree: &Tree, path: &[u8], out: &mut impl Write) -> Result<bool, Failure> {
        let (entries, broken) = match self.collect(tree, path) {
            Ok(collected) => collected,
            Err(text) => {
                tell(&format!("{}: {text}", escaped(path)));
                return Ok(false);
            }
        };
        for text in &broken {
            tell(&format!("{}: {text}", escaped(path)));
        }
        let is_whole = broken.is_empty() && entries.iter().all(|entry| entry.error.is_none());
        if self.json {
            write_json(out, path, &entries, broken)?;
        } else {
            for entry in &entries {
                self.write_entry(out, entry)?;
                if let Some(text) = &entry.error {
                    tell(&format!("{}: {text}", escaped(&entry.name)));
                }
            }
        }
        Ok(is_whole)
    }

    /// What to show of `path`, in order of names, and what could not be read.
    fn collect(&self, tree: &Tree, path: &[u8]) -> Result<(Vec<Entry>, Vec<String>), String> {
        let explain = |error: &_| tree.image().blocks().explain(error);
        let wants_more = self.long || self.json;
        let found = tree.resolve(path, LastLink::Follow).map_err(|error| explain(&error))?;
        if found.kind != ObjectKind::Directory {
            let entry = Entry::new(tree, path.to_vec(), found.kind, Some(Ok(found)));
            return Ok((vec![entry], Vec::new()));
        }
        let listing = tree.list(found.inum, wants_more).map_err(|error| explain(&error))?;
        let mut entries: Vec<_> = listing
            .entries
            .into_iter()
            .map(|entry| Entry::new(tree, entry.name, entry.kind, entry.attributes))
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let broken = listing.broken.iter().map(explain).collect();
        Ok((entries, broken))
    }

    fn write_entry(&self, out: &mut impl Write, entry: &Entry) -> io::Result<()> {
        if self.long {
            match &entry.attributes {
                Some(attributes) => write!(out, "{} ", long(attributes))?,
                None => write!(
                    out,
                    "{}?????????   ?     ?     ?            ? {:19} ",
                    &text::mode(entry.kind, 0)[..1],
                    "?"
                )?,
            }
        }
        let style = NameStyle::for_stdout();
        out.write_all(&style.bytes(&entry.name))?;
        if let Some(target) = entry.target.as_deref().filter(|_| self.long) {
            out.write_all(b" -> ")?;
            out.write_all(&style.bytes(target))?;
        }
        writeln!(out)
    }
}

impl Entry {
    fn new(
        tree: &Tree,
        name: Vec<u8>,
        kind: ObjectKind,
        attributes: Option<Result<Attributes, farrier_core::error::Error>>,
    ) -> Self {
        let explain = |error| tree.image().blocks().explain(&error);
        let mut entry = Self { name, kind, attributes: None, target: None, error: None };
        match attributes {
            None => {}
            Some(Err(error)) => entry.error = Some(explain(error)),
            Some(Ok(attributes)) => {
                if attributes.kind == ObjectKind::Symlink {
                    match tree.read_link(attributes.inum) {
                        Ok(target) => entry.target = Some(target),
                        Err(error) => entry.error = Some(explain(error)),
                    }
                }
                entry.attributes = Some(attributes);
            }
        }
        entry
    }
}

fn write_json(
    out: &mut impl Write,
    path: &[u8],
    entries: &[Entry],
    broken: Vec<String>,
) -> Outcome {
    let report = Report {
        format: "farrier-ls-1",
        path: JsonName::new(path),
        entries: entries
            .iter()
            .map(|entry| Row {
                name: JsonName::new(&entry.name),
                attributes: entry.attributes.as_ref(),
                target: entry.target.as_deref().map(JsonName::new),
                error: entry.error.clone(),
            })
            .collect(),
        broken,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    Ok(writeln!(out)?)
}

/// `-rw-r--r--   1  1000  1000         5000 2026-11-22 13:24:45`
fn long(attributes: &Attributes) -> String {
    let size = match attributes.kind {
        ObjectKind::CharDevice | ObjectKind::BlockDevice => {
            format!("{}, {}", attributes.device.0, attributes.device.1)
        }
        _ => attributes.size.to_string(),
    };
    format!(
        "{} {:>3} {:>5} {:>5} {size:>12} {}",
        text::mode(attributes.kind, attributes.mode),
        attributes.nlinks,
        attributes.uid,
        attributes.gid,
        text::time(attributes.mtime)
    )
}
