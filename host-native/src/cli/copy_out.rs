//! `farrier copy-out`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use farrier::copy::{Event, copy_out};
use farrier::tree::LastLink;

use super::failure::{Failure, Outcome, tell};
use super::names::escaped;
use super::progress;
use super::source::TreeArguments;

/// Copy a file or a directory with all below it.
///
/// Keeps times, modes, hard and symbolic links, holes and fifos; for root also owners and device
/// nodes. What cannot be read is told and left out, and the rest is copied; the exit code is then
/// 1. Files that are there already are not touched.
#[derive(Debug, Args)]
pub(crate) struct CopyOut {
    #[command(flatten)]
    tree: TreeArguments,

    /// What to copy, from the root of the PFS.
    #[arg(value_name = "PATH")]
    path: OsString,

    /// A directory to copy it into, or the name of the copy. The root of the PFS is copied as the
    /// directory itself.
    #[arg(value_name = "DEST")]
    destination: PathBuf,
}

impl CopyOut {
    pub(crate) fn run(&self) -> Outcome {
        let tree = self.tree.open()?;
        let path = self.path.as_bytes();
        let source = tree.resolve(path, LastLink::Keep).map_err(|error| {
            let text = tree.image().blocks().explain(&error);
            Failure::new(format!("{}: {text}", escaped(path)))
        })?;
        let (base, name) = self.place(path)?;
        let bar = progress::spinner();
        let mut listen = |event: Event<'_>| match event {
            Event::Begin(path) => bar.set_message(escaped(path.as_os_str().as_bytes())),
            Event::Bytes(len) => bar.inc(len),
            Event::Failed(path, text) => bar.suspend(|| {
                tell(&format!("{}: {text}", escaped(base.join(path).as_os_str().as_bytes())));
            }),
        };
        let copied = copy_out(&tree, &source, &base, &name, &mut listen).map_err(|error| {
            Failure::new(format!("{}: {error}; name a directory that exists", base.display()))
        })?;
        bar.finish_and_clear();
        match copied.failures {
            0 => Ok(()),
            1 => Err(Failure::new("one thing could not be copied")),
            many => Err(Failure::new(format!("{many} things could not be copied"))),
        }
    }

    /// The directory to copy into, and the name to give there.
    fn place(&self, path: &[u8]) -> Result<(PathBuf, OsString), Failure> {
        let own_name = path.split(|byte| *byte == b'/').rfind(|part| !part.is_empty());
        let destination = &self.destination;
        if let Some(name) = own_name
            && destination.is_dir()
        {
            if matches!(name, b"." | b"..") {
                return Err(Failure::new("PATH has to end with a name, or be /"));
            }
            return Ok((destination.clone(), OsStr::from_bytes(name).to_owned()));
        }
        // Made whole, `.` and `dir/..` have names like all others.
        let whole = std::path::absolute(destination)
            .ok()
            .map(|path| path.canonicalize().unwrap_or(path))
            .filter(|path| path.file_name().is_some());
        let Some(whole) = whole else {
            return Err(Failure::new(format!(
                "{}: cannot be the copy; name a directory below it",
                destination.display()
            )));
        };
        let base = whole.parent().unwrap_or(Path::new("/")).to_owned();
        Ok((base, whole.file_name().unwrap_or_default().to_owned()))
    }
}
