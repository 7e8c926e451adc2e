//! `farrier umount`.

use std::path::PathBuf;

use clap::Args;
use farrier::fuse::unmount::unmount;

use super::failure::{Failure, Outcome};

/// Unmount what was mounted.
///
/// Ordinary users can unmount what they mounted; that needs fusermount3.
#[derive(Debug, Args)]
pub(crate) struct Umount {
    /// The directory where it is mounted.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Detach it even while it is in use; it goes when its last user goes.
    #[arg(short, long)]
    lazy: bool,
}

impl Umount {
    pub(crate) fn run(&self) -> Outcome {
        unmount(&self.directory, self.lazy).map_err(Failure::new)
    }
}
