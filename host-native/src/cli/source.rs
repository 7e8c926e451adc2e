//! Arguments that name an image, shared by the commands.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use farrier::image::{Image, Options};
use farrier::source::Source;
use farrier::tree::Tree;
use farrier_core::copies::lineage;

use super::failure::Failure;

/// How to open the file system.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OpenArguments {
    /// Read what is left of a device that is shorter than its volume.
    #[arg(long)]
    allow_truncated: bool,

    /// Use header copy SLOT (0 to 3) instead of the newest one.
    #[arg(long, value_name = "SLOT", value_parser = clap::value_parser!(u8).range(0..4))]
    header: Option<u8>,

    /// Believe the copy in this slot, where the copies do not agree.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..4))]
    master: Option<u8>,

    /// Show what the copy in this slot holds by itself, whatever the others say.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..4))]
    only_copy: Option<u8>,
}

impl OpenArguments {
    pub(crate) fn open(&self, devices: &[PathBuf]) -> Result<Arc<Image>, Failure> {
        let options = Options {
            allow_truncated: self.allow_truncated,
            header_slot: self.header,
            copies: self.copies(),
            ..Options::default()
        };
        Ok(Image::open(devices, &options)?)
    }

    fn copies(&self) -> lineage::Options {
        let (master, only_copy) = (self.master, self.only_copy);
        lineage::Options { master, only_copy, ..lineage::Options::default() }
    }
}

/// A whole file system.
#[derive(Debug, Args)]
pub(crate) struct DeviceArguments {
    /// Image files or block devices: the volumes of one file system.
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<PathBuf>,

    #[command(flatten)]
    open: OpenArguments,
}

impl DeviceArguments {
    /// Opens a device that is shorter than its volume as well: for the check, which tells that.
    pub(crate) fn open_what_is_left(&self) -> Result<Arc<Image>, Failure> {
        OpenArguments { allow_truncated: true, ..self.open }.open(&self.devices)
    }

    pub(crate) fn open(&self) -> Result<Arc<Image>, Failure> {
        self.open.open(&self.devices)
    }
}

/// One PFS of a file system.
#[derive(Debug, Args)]
pub(crate) struct TreeArguments {
    /// Image file or block device, and which PFS of it.
    #[arg(value_name = "DEVICE[@LABEL]")]
    source: OsString,

    /// A further volume of the same file system; may be given several times.
    #[arg(long = "volume", value_name = "DEVICE")]
    volumes: Vec<OsString>,

    #[command(flatten)]
    open: OpenArguments,
}

impl TreeArguments {
    pub(crate) fn open(&self) -> Result<Tree, Failure> {
        let mut arguments = vec![self.source.clone()];
        arguments.extend_from_slice(&self.volumes);
        let source = Source::parse(&arguments).map_err(Failure::new)?;
        let image = self.open.open(&source.devices)?;
        Ok(image.tree(source.label.as_deref())?)
    }
}
