//! `farrier cat`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use farrier::tree::{LastLink, Tree};
use farrier_core::fs::{Attributes, Extent, ReadAhead};
use farrier_core::units::Inum;

use super::failure::{Failure, Outcome};
use super::names::escaped;
use super::source::TreeArguments;

/// Bytes that are read in one go.
const STEP: usize = 1 << 20;
/// Holes are written from this many zeros.
static ZEROS: [u8; 65536] = [0; 65536];

/// Write the contents of files to standard output.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    #[command(flatten)]
    tree: TreeArguments,

    /// Files, from the root of the PFS.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,
}

impl Cat {
    pub(crate) fn run(&self) -> Outcome {
        let tree = self.tree.open()?;
        let mut out = io::stdout().lock();
        for path in &self.paths {
            let path = path.as_bytes();
            let file = tree
                .resolve(path, LastLink::Follow)
                .map_err(|error| failed(&tree, path, &error))?;
            copy(&tree, path, &file, &mut out)?;
        }
        Ok(out.flush()?)
    }
}

fn copy(tree: &Tree, path: &[u8], file: &Attributes, out: &mut impl Write) -> Outcome {
    let mut ahead = ReadAhead::default();
    let mut offset = 0;
    loop {
        let extents = read(tree, file.inum, offset, &mut ahead)
            .map_err(|error| failed(tree, path, &error))?;
        if extents.is_empty() {
            return Ok(());
        }
        for extent in &extents {
            offset += extent.len() as u64;
            write_extent(out, extent)?;
        }
    }
}

fn read(
    tree: &Tree,
    inum: Inum,
    offset: u64,
    ahead: &mut ReadAhead,
) -> Result<Vec<Extent>, farrier_core::error::Error> {
    tree.read(inum, offset, STEP, ahead)
}

fn write_extent(out: &mut impl Write, extent: &Extent) -> io::Result<()> {
    match extent {
        Extent::Bytes(block, range) => out.write_all(&block[range.clone()]),
        Extent::Zeros(len) => {
            let mut left = *len;
            while left > 0 {
                let part = left.min(ZEROS.len());
                out.write_all(&ZEROS[..part])?;
                left -= part;
            }
            Ok(())
        }
    }
}

fn failed(tree: &Tree, path: &[u8], error: &farrier_core::error::Error) -> Failure {
    let text = tree.image().blocks().explain(error);
    Failure::new(format!("{}: {text}", escaped(path)))
}
