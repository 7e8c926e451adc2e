//! An opened file system: its devices, its cache, and blocking calls.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use farrier_core::copies::lineage;
use farrier_core::drive::{self, ready};
use farrier_core::engine::Operation;
use farrier_core::error::{Error, Refusal};
use farrier_core::fs::pfs::PfsList;
use farrier_core::fs::{ListPfs, PfsInfo};
use farrier_core::media::check::Checks;
use farrier_core::volume::{OpenOptions, Volume};

use crate::blocks::Blocks;
use crate::copies::{WitnessLine, refused, with_paths};
use crate::device::{Devices, OpenFault};
use crate::tree::Tree;
use crate::writing::WriteOptions;

/// The label that is taken where none is named.
const DEFAULT_LABEL: &[u8] = b"DATA";
/// The label of the PFS that every formatter makes beside the user's own.
const LOCAL_LABEL: &[u8] = b"LOCAL";

/// Number of the refusal to write while members are missing, where that is the group's own rule.
const MISSING: &str = "FC-S10";

/// How to open an image.
#[derive(Clone, Debug)]
pub struct Options {
    /// Accept a device that is shorter than its volume.
    pub allow_truncated: bool,
    /// Use this header copy instead of the newest one.
    pub header_slot: Option<u8>,
    /// About how much memory blocks may take.
    pub cache_bytes: usize,
    /// Threads that read ahead.
    pub ahead_threads: usize,
    /// Open snapshots for writing too, where the volume is: they are kept as they are otherwise.
    pub writes_snapshots: bool,
    /// What the operator says about copies.
    pub copies: lineage::Options,
    /// How long a device may keep others waiting, if it holds a copy that the volume can do without;
    /// `None` for as long as it takes.
    pub stall_timeout: Option<Duration>,
    /// Where the witness of the copies is, if not where it was last.
    pub witness: Option<PathBuf>,
}

impl Options {
    /// Default of [`Options::cache_bytes`].
    pub const CACHE_BYTES: usize = 256 << 20;
    /// Default of [`Options::stall_timeout`].
    pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allow_truncated: false,
            header_slot: None,
            cache_bytes: Self::CACHE_BYTES,
            ahead_threads: std::thread::available_parallelism().map_or(2, |n| n.get().min(4)),
            writes_snapshots: false,
            copies: lineage::Options::default(),
            stall_timeout: Some(Self::STALL_TIMEOUT),
            witness: None,
        }
    }
}

/// Why an image, or a PFS of it, cannot be opened. Each text is one sentence that names the thing
/// and the remedy.
#[derive(Debug)]
pub enum OpenError {
    /// A device cannot be opened.
    Device(OpenFault),
    /// The devices hold no file system that we can read.
    Refused(PathBuf, Error),
    /// The devices are copies that cannot be used together: which rule forbids it, and the text
    /// that says why and what to do.
    Copies {
        /// The rule's number.
        code: &'static str,
        /// At length.
        text: String,
    },
    /// It can be read, and cannot be written.
    ReadOnly(PathBuf, Error),
    /// The copies that are here can be read, and must not be written.
    CopiesReadOnly {
        /// The rule's number.
        code: &'static str,
        /// At length.
        text: String,
    },
    /// The list of PFSs, or the PFS itself, cannot be read.
    Broken(PathBuf, String),
    /// There is no PFS with that label, or none that goes without saying.
    NoLabel {
        /// The first device.
        path: PathBuf,
        /// The label that was asked for.
        wanted: Option<Vec<u8>>,
        /// Those that there are.
        labels: Vec<Vec<u8>>,
    },
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(fault) => fault.fmt(f),
            Self::Refused(path, error) => write!(f, "{}: {error}", path.display()),
            Self::ReadOnly(path, error) => write!(
                f,
                "{}: can only be read: {error}; `farrier check` tells what is damaged",
                path.display()
            ),
            Self::Copies { text, .. } | Self::CopiesReadOnly { text, .. } => f.write_str(text),
            Self::Broken(path, error) => {
                write!(f, "{}: {error}; `farrier check` tells what else is damaged", path.display())
            }
            Self::NoLabel { path, wanted, labels } => {
                let path = path.display();
                let listed = list(labels);
                match wanted {
                    _ if labels.is_empty() => {
                        write!(f, "{path}: holds no PFS at all; make one where it was formatted")
                    }
                    Some(wanted) => write!(
                        f,
                        "{path}: no PFS labelled {}; there is {listed}",
                        wanted.escape_ascii()
                    ),
                    None => write!(
                        f,
                        "{path}: which PFS is meant? Write {path}@LABEL with one of {listed}"
                    ),
                }
            }
        }
    }
}

impl std::error::Error for OpenError {}

fn list(labels: &[Vec<u8>]) -> String {
    let names: Vec<_> = labels.iter().map(|label| label.escape_ascii().to_string()).collect();
    names.join(", ")
}

/// An opened file system.
#[derive(Debug)]
pub struct Image {
    blocks: Blocks,
    path: PathBuf,
    writes_snapshots: bool,
}

impl Image {
    /// Opens the file system on `devices`, which may be named in any order.
    ///
    /// # Errors
    /// Why they cannot be opened, or hold no file system that we can read.
    pub fn open(devices: &[PathBuf], options: &Options) -> Result<Arc<Self>, OpenError> {
        let opened = Devices::open(devices).map_err(OpenError::Device)?;
        let blocks = match Self::assemble(devices, opened, options) {
            // that is only the rule of those who write
            Err(OpenError::Copies { code: MISSING, .. }) => {
                let opened = Devices::open(devices).map_err(OpenError::Device)?;
                let copies = lineage::Options { read_only: true, ..options.copies };
                Self::assemble(devices, opened, &Options { copies, ..options.clone() })?
            }
            other => other?,
        };
        let path = devices.first().cloned().unwrap_or_default();
        let writes_snapshots = options.writes_snapshots;
        Ok(Arc::new(Self { blocks, path, writes_snapshots }))
    }

    /// As [`Image::open`], for writing too: the devices are ours alone then.
    ///
    /// # Errors
    /// As [`Image::open`], or [`OpenError::ReadOnly`].
    pub fn open_writable(
        devices: &[PathBuf],
        options: &Options,
        writing: WriteOptions,
    ) -> Result<Arc<Self>, OpenError> {
        let opened = Devices::open_writable(devices).map_err(OpenError::Device)?;
        let mut blocks = Self::assemble(devices, opened, options)?;
        let path = devices.first().cloned().unwrap_or_default();
        if let Some(group) = blocks.volume().group()
            && let Err(reason) = group.decision().writable
        {
            let name = |index| blocks.devices().path(index);
            let text = with_paths(&reason.to_string(), name) + &blocks.unheard();
            return Err(OpenError::CopiesReadOnly { code: reason.code(), text });
        }
        blocks
            .open_for_writing(writing)
            .map_err(|error| OpenError::ReadOnly(path.clone(), error))?;
        let writes_snapshots = options.writes_snapshots;
        Ok(Arc::new(Self { blocks, path, writes_snapshots }))
    }

    /// As [`Image::open`], with the devices ours alone: to look at what is to be repaired. A device
    /// that is shorter than its volume is accepted.
    ///
    /// # Errors
    /// As [`Image::open`]; or somebody uses them.
    pub fn open_alone(devices: &[PathBuf]) -> Result<Arc<Self>, OpenError> {
        let opened = Devices::open_writable(devices).map_err(OpenError::Device)?;
        let copies = lineage::Options { read_only: true, ..lineage::Options::default() };
        let options = Options { allow_truncated: true, copies, ..Options::default() };
        let blocks = Self::assemble(devices, opened, &options)?;
        let path = devices.first().cloned().unwrap_or_default();
        Ok(Arc::new(Self { blocks, path, writes_snapshots: false }))
    }

    fn assemble(
        devices: &[PathBuf],
        opened: Devices,
        options: &Options,
    ) -> Result<Blocks, OpenError> {
        let (witness, heard) = WitnessLine::ask(&opened, options.witness.as_deref());
        let core_options = OpenOptions {
            checks: Checks::with_crc32c(crc32c::crc32c),
            allow_truncated: options.allow_truncated,
            slot: options.header_slot,
            copies: lineage::Options { witness: heard, ..options.copies },
        };
        let volume = ready(drive::open(&opened, core_options)).map_err(|error| {
            if let Error::Refused(Refusal::Copies { code }) = error
                && let Some(refused) = refused(&opened, &core_options)
            {
                let text = with_paths(&refused.to_string(), |index| opened.path(index));
                return OpenError::Copies { code, text };
            }
            let about = match &error {
                Error::Refused(refusal) => device_of(refusal, &opened),
                _ => None,
            };
            let first = || devices.first().cloned().unwrap_or_default();
            OpenError::Refused(about.unwrap_or_else(first), error)
        })?;
        let sizes = (options.cache_bytes, options.ahead_threads);
        let blocks = Blocks::with(volume, opened, witness, sizes);
        if let Some(limit) = options.stall_timeout {
            blocks.limit_stalls(limit);
        }
        Ok(blocks)
    }

    /// Path of the first device, which is what messages call the file system.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its blocks.
    #[must_use]
    pub const fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The volume as a whole.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        self.blocks.volume()
    }

    /// Runs `operation`; waits for what it needs.
    ///
    /// # Errors
    /// Why the operation failed.
    pub fn run<O: Operation>(&self, operation: &O) -> Result<O::Output, Error>
    where
        O::Output: core::fmt::Debug,
    {
        self.blocks.run(operation)
    }

    /// Its PFSs, as far as they can be read.
    ///
    /// # Errors
    /// The super-root cannot be read.
    pub fn list_pfs(&self) -> Result<PfsList, OpenError> {
        let super_root = self.volume().super_root();
        self.run(&ListPfs { super_root }).map_err(|error| self.broken(&error))
    }

    /// The PFS with a label. Without one: `DATA`, else the only one that is not `LOCAL`.
    ///
    /// # Errors
    /// There is none, or it cannot be told, or it is damaged.
    pub fn tree(self: &Arc<Self>, label: Option<&[u8]>) -> Result<Tree, OpenError> {
        let list = self.list_pfs()?;
        if let Some(info) = choose(&list.entries, label) {
            return match self.blocks.writing() {
                Ok(writing) if self.writes_snapshots || !info.is_snapshot => {
                    let pfs =
                        writing.open_tree(&info.label).map_err(|error| self.broken(&error))?;
                    Ok(Tree::new(Arc::clone(self), info, pfs, true))
                }
                _ => Ok(Tree::new(Arc::clone(self), info, info.pfs, false)),
            };
        }
        // The one that is asked for may be among those that cannot be read.
        if let Some(error) = list.broken.first() {
            return Err(self.broken(error));
        }
        Err(OpenError::NoLabel {
            path: self.path.clone(),
            wanted: label.map(<[u8]>::to_vec),
            labels: list.entries.into_iter().map(|info| info.label).collect(),
        })
    }

    fn broken(&self, error: &Error) -> OpenError {
        OpenError::Broken(self.path.clone(), self.blocks.explain(error))
    }
}

pub(crate) fn choose<'a>(entries: &'a [PfsInfo], label: Option<&[u8]>) -> Option<&'a PfsInfo> {
    let named = |wanted: &[u8]| entries.iter().find(|info| info.label == wanted);
    if let Some(label) = label {
        return named(label);
    }
    named(DEFAULT_LABEL).or_else(|| {
        let mut own = entries.iter().filter(|info| info.label != LOCAL_LABEL);
        own.next().filter(|_| own.next().is_none())
    })
}

fn device_of(refusal: &Refusal, devices: &Devices) -> Option<PathBuf> {
    devices.path(refusal.device()?).map(Path::to_owned)
}
