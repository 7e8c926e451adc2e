//! `farrier set`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use clap::Args;
use farrier::control::Request;
use farrier_core::media::check::CheckMethod;

use super::failure::{Failure, Outcome};
use super::format::options;
use super::target::Target;

/// Have a file, or what is made in a directory from now on, stored in another way.
///
/// What is stored already stays as it is until it is written again.
#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    target: Target,

    /// The file or directory, as a path within the PFS (default: its root, or the directory of a
    /// mounted volume that was named).
    #[arg(value_name = "PATH")]
    path: Option<OsString>,

    /// Compression: none, autozero, lz4, zlib, or zlib:LEVEL (6 to 9).
    #[arg(long, value_name = "METHOD", value_parser = options::compression)]
    compression: Option<u8>,

    /// Check codes: xxhash64, sha192, iscsi32, none or disabled.
    #[arg(long, value_name = "METHOD", value_parser = options::check)]
    check: Option<CheckMethod>,
}

impl Set {
    pub(crate) fn run(&self) -> Outcome {
        if self.compression.is_none() && self.check.is_none() {
            return Err(Failure::new("nothing to set; give --compression, --check, or both"));
        }
        let mut path = match self.target.directory() {
            Some(directory) => below_mount(directory)?,
            None => Vec::new(),
        };
        if let Some(more) = &self.path {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(more.as_bytes());
        }
        let (compression, check) = (self.compression, self.check.map(CheckMethod::code));
        self.target.ask(&Request::Set { path, compression, check })?;
        Ok(())
    }
}

/// The path of `directory` within what is mounted there.
fn below_mount(directory: &Path) -> Result<Vec<u8>, Failure> {
    let told = |error| Failure::new(format!("{}: {error}", directory.display()));
    let real = directory.canonicalize().map_err(told)?;
    let device = real.metadata().map_err(told)?.dev();
    let is_same = |path: &&Path| path.metadata().is_ok_and(|metadata| metadata.dev() == device);
    let root = real.ancestors().take_while(is_same).last().unwrap_or(&real);
    let below = real.strip_prefix(root).unwrap_or(Path::new(""));
    Ok(below.as_os_str().as_bytes().to_vec())
}
