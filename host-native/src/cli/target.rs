//! A volume to be changed: one that is mounted, named by its directory, or one that is not, named
//! by its device.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use farrier::control::{Offline, Reply, Request, ask, perform};
use farrier::fuse::unmount::is_directory;
use farrier::source::Source;

use super::failure::Failure;

/// What to change.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Directory of a mounted volume, or image file or block device, and which PFS of it.
    #[arg(value_name = "DIR-or-DEVICE[@LABEL]")]
    target: OsString,

    /// A further volume of the same file system that is not mounted; may be given several times.
    #[arg(long = "volume", value_name = "DEVICE")]
    volumes: Vec<OsString>,
}

impl Target {
    /// Does what is asked, and gives its answer.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        let reply = match self.directory() {
            Some(directory) => ask(directory, request).map_err(Failure::new)?,
            None => perform(&self.open()?, request),
        };
        match reply {
            Reply::Failed { text } => Err(Failure::new(format!("{}: {text}", self.name()))),
            reply => Ok(reply),
        }
    }

    /// The volume, opened for writing; it must not be mounted.
    pub(crate) fn open(&self) -> Result<Offline, Failure> {
        let mut arguments = vec![self.target.clone()];
        arguments.extend_from_slice(&self.volumes);
        let source = Source::parse(&arguments).map_err(Failure::new)?;
        Offline::open(&source.devices, source.label.as_deref()).map_err(Failure::new)
    }

    /// The directory, if it is one: its volume is mounted.
    pub(crate) fn directory(&self) -> Option<&Path> {
        let path = Path::new(&self.target);
        is_directory(path).then_some(path)
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        PathBuf::from(&self.target).display().to_string()
    }
}

/// A label as it was typed.
pub(crate) fn label(argument: &OsString) -> Vec<u8> {
    argument.as_bytes().to_vec()
}
