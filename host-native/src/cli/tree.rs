//! `farrier tree`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use farrier::tree::{LastLink, Tree};
use farrier_core::error::Error;
use farrier_core::fs::DirEntry;
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::Inum;
use serde::Serialize;

use super::failure::{Failure, Outcome, tell};
use super::names::{JsonName, NameStyle, escaped};
use super::source::TreeArguments;

/// List a directory and all below it.
#[derive(Debug, Args)]
pub(crate) struct TreeCommand {
    #[command(flatten)]
    tree: TreeArguments,

    /// Where to start, from the root of the PFS.
    #[arg(value_name = "PATH", default_value = "/")]
    path: OsString,

    /// Directories to go down at most.
    #[arg(short, long, value_name = "NUMBER")]
    depth: Option<usize>,

    /// Write one JSON object per line, each with the whole path.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    path: JsonName,
    kind: ObjectKind,
    inum: Inum,
}

impl TreeCommand {
    pub(crate) fn run(&self) -> Outcome {
        let tree = self.tree.open()?;
        let path = self.path.as_bytes();
        let found = tree.resolve(path, LastLink::Follow);
        let start = found.and_then(|found| match found.kind {
            ObjectKind::Directory => Ok(found.inum),
            _ => Err(Error::NotDirectory),
        });
        let start = start.map_err(|error| {
            let text = tree.image().blocks().explain(&error);
            Failure::new(format!("{}: {text}", escaped(path)))
        })?;
        let mut walk = Walk {
            tree: &tree,
            out: BufWriter::new(io::stdout().lock()),
            is_json: self.json,
            seen: BTreeSet::from([start]),
            is_whole: true,
        };
        walk.walk(start, path, self.depth.unwrap_or(usize::MAX))?;
        walk.out.flush()?;
        if walk.is_whole { Ok(()) } else { Err(Failure::told()) }
    }
}

struct Walk<'a> {
    tree: &'a Tree,
    out: BufWriter<io::StdoutLock<'static>>,
    is_json: bool,
    /// Directories listed: a second name for one would lead round in a circle.
    seen: BTreeSet<Inum>,
    is_whole: bool,
}

/// A directory whose entries are not all written yet, last one first.
struct Open {
    path: Vec<u8>,
    entries: Vec<DirEntry>,
}

impl Walk<'_> {
    /// Without recursion: how deep a tree goes is up to whoever made the image.
    fn walk(&mut self, start: Inum, path: &[u8], depth_max: usize) -> Outcome {
        let mut stack = vec![self.open(start, path.to_vec())];
        while let Some(top) = stack.last_mut() {
            let Some(entry) = top.entries.pop() else {
                stack.pop();
                continue;
            };
            let mut path = top.path.clone();
            if path.last() != Some(&b'/') {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            self.write(&entry, &path, stack.len())?;
            if entry.kind != ObjectKind::Directory || stack.len() >= depth_max {
                continue;
            }
            if self.seen.insert(entry.inum) {
                stack.push(self.open(entry.inum, path));
            } else {
                self.failed(&path, "a directory with a second name, or below itself");
            }
        }
        Ok(())
    }

    fn open(&mut self, directory: Inum, path: Vec<u8>) -> Open {
        let mut entries = Vec::new();
        match self.tree.list(directory, false) {
            Ok(listing) => {
                for error in &listing.broken {
                    self.failed(&path, &self.tree.image().blocks().explain(error));
                }
                entries = listing.entries;
                entries.sort_by(|a, b| b.name.cmp(&a.name));
            }
            Err(error) => self.failed(&path, &self.tree.image().blocks().explain(&error)),
        }
        Open { path, entries }
    }

    fn failed(&mut self, path: &[u8], text: &str) {
        self.is_whole = false;
        tell(&format!("{}: {text}", escaped(path)));
    }

    fn write(&mut self, entry: &DirEntry, path: &[u8], depth: usize) -> Outcome {
        if self.is_json {
            let row = Row { path: JsonName::new(path), kind: entry.kind, inum: entry.inum };
            serde_json::to_writer(&mut self.out, &row)?;
        } else {
            write!(self.out, "{:width$}", "", width = 2 * (depth - 1))?;
            self.out.write_all(&NameStyle::for_stdout().bytes(&entry.name))?;
            if entry.kind == ObjectKind::Directory {
                self.out.write_all(b"/")?;
            }
        }
        Ok(writeln!(self.out)?)
    }
}
