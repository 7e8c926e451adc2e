//! Requests that no file system can meet. Each text ends with what to do.

use alloc::vec::Vec;
use core::fmt;

use super::{FormatOptions, LABELS_MAX, LOCAL};
use crate::media::check::CheckMethod;
use crate::units::DeviceIndex;

/// Why there can be no file system as asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FormatRefusal {
    /// No device was given.
    NoDevices,
    /// More devices than a file system can have.
    TooManyDevices {
        /// How many were given.
        count: usize,
    },
    /// Several devices, and a version that knows one volume only.
    SeveralVolumes,
    /// A device, or what may be used of it, is too small for its volume.
    TooSmall {
        /// Which device.
        device: DeviceIndex,
        /// How many bytes there are.
        size: u64,
        /// How many it would need.
        need: u64,
    },
    /// The limit of the size is more than the devices have.
    BeyondDevices {
        /// The limit in bytes.
        wanted: u64,
        /// What the devices have together.
        have: u64,
    },
    /// The limit of the size is reached before the last device.
    LimitLeavesOut {
        /// The device that nothing would be on.
        device: DeviceIndex,
        /// The smallest limit that uses it.
        need: u64,
    },
    /// Together the devices have more bytes than the format can count.
    TooLarge,
    /// An area cannot have that size.
    AreaSize {
        /// Which.
        area: Area,
        /// The size that was asked for, in bytes.
        size: u64,
    },
    /// Both areas together leave nothing of the first gigabyte.
    AreasTooLarge {
        /// Size of the boot area in bytes.
        boot: u64,
        /// Size of the auxiliary area in bytes.
        aux: u64,
    },
    /// More labels than the super-root has room for.
    TooManyLabels {
        /// How many were asked for beside LOCAL.
        count: usize,
    },
    /// The label is empty.
    EmptyLabel,
    /// The label is longer than 255 bytes.
    LabelTooLong {
        /// Which, counted from 0.
        index: usize,
    },
    /// The label holds NUL or `/`, or is `.` or `..`.
    IllegalLabel {
        /// Which, counted from 0.
        index: usize,
    },
    /// The label was given before, or is LOCAL, which is there anyway.
    DuplicateLabel {
        /// Which, counted from 0.
        index: usize,
    },
    /// No compression has this code.
    Compression(u8),
    /// Files cannot be checked by this method.
    Check(CheckMethod),
    /// The source of random bytes repeats itself.
    Randomness,
}

/// An area behind the first reserve of the root volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Area {
    /// For a boot loader.
    Boot,
    /// For nothing in particular.
    Aux,
}

impl Area {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot area",
            Self::Aux => "auxiliary area",
        }
    }

    /// What it has on a large volume when nothing is asked for.
    pub(super) const fn default_size(self) -> u64 {
        match self {
            Self::Boot => 64 << 20,
            Self::Aux => 256 << 20,
        }
    }

    pub(super) const fn max_size(self) -> u64 {
        match self {
            Self::Boot => 256 << 20,
            Self::Aux => 1 << 30,
        }
    }
}

impl FormatRefusal {
    /// The device that it is about.
    #[must_use]
    pub const fn device(&self) -> Option<DeviceIndex> {
        match *self {
            Self::TooSmall { device, .. } | Self::LimitLeavesOut { device, .. } => Some(device),
            _ => None,
        }
    }

    /// The label that it is about, counted from 0.
    #[must_use]
    pub const fn label(&self) -> Option<usize> {
        match *self {
            Self::LabelTooLong { index }
            | Self::IllegalLabel { index }
            | Self::DuplicateLabel { index } => Some(index),
            _ => None,
        }
    }
}

impl fmt::Display for FormatRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevices => f.write_str("no device given; name at least one"),
            Self::TooManyDevices { count } => {
                write!(f, "{count} devices, but a file system has at most 64 volumes; name fewer")
            }
            Self::SeveralVolumes => {
                f.write_str("version 1 knows one volume only; name one device, or use version 2")
            }
            Self::TooSmall { size, need, .. } => write!(
                f,
                "too small: {size} bytes, and this volume needs {need} ({} MiB); give it more",
                need >> 20
            ),
            Self::BeyondDevices { wanted, have } => write!(
                f,
                "{wanted} bytes asked for, but there are only {have}; ask for less, or add a device"
            ),
            Self::LimitLeavesOut { need, .. } => write!(
                f,
                "nothing would be on it with so small a size; leave it out, or ask for at least \
                 {need} bytes ({} MiB)",
                need >> 20
            ),
            Self::TooLarge => {
                f.write_str("more bytes than HAMMER2 can count (2^63); leave out a device")
            }
            Self::AreaSize { area, size } => write!(
                f,
                "a {} of {size} bytes cannot be; it has a multiple of 8 MiB, from 8 to {} MiB",
                area.name(),
                area.max_size() >> 20
            ),
            Self::AreasTooLarge { boot, aux } => write!(
                f,
                "boot area ({} MiB) and auxiliary area ({} MiB) have to end within the first \
                 gigabyte; make one smaller",
                boot >> 20,
                aux >> 20
            ),
            Self::TooManyLabels { count } => {
                write!(f, "{count} labels, but at most 3 PFSs can be made beside LOCAL; name fewer")
            }
            Self::EmptyLabel => f.write_str("an empty label; give it a name, such as DATA"),
            Self::LabelTooLong { .. } => {
                f.write_str("label longer than 255 bytes; choose a shorter one")
            }
            Self::IllegalLabel { .. } => f.write_str(
                "no label: it may not hold `/` or NUL, nor be `.` or `..`; choose another",
            ),
            Self::DuplicateLabel { .. } => {
                f.write_str("label given twice, or LOCAL, which is made anyway; leave it out")
            }
            Self::Compression(code) => write!(
                f,
                "no compression has the code {code:#04x}; use none, autozero, lz4 or zlib"
            ),
            Self::Check(method) => write!(
                f,
                "files cannot be checked by {}; use xxhash64, sha192, iscsi32, none or disabled",
                method.name()
            ),
            Self::Randomness => {
                f.write_str("the source of random bytes repeats itself; use a better one")
            }
        }
    }
}

impl core::error::Error for FormatRefusal {}

pub(super) const fn check_methods(options: &FormatOptions) -> Result<(), FormatRefusal> {
    let (algorithm, level) = (options.compression & 15, options.compression >> 4);
    match (algorithm, level) {
        (0..=2, 0) | (3, 0 | 6..=9) => {}
        _ => return Err(FormatRefusal::Compression(options.compression)),
    }
    match options.check {
        CheckMethod::Freemap => Err(FormatRefusal::Check(options.check)),
        _ => Ok(()),
    }
}

pub(super) fn check_labels(labels: &[Vec<u8>]) -> Result<(), FormatRefusal> {
    if labels.len() >= LABELS_MAX {
        return Err(FormatRefusal::TooManyLabels { count: labels.len() });
    }
    for (index, label) in labels.iter().enumerate() {
        if label.is_empty() {
            return Err(FormatRefusal::EmptyLabel);
        }
        if label.len() > LABEL_LEN_MAX {
            return Err(FormatRefusal::LabelTooLong { index });
        }
        if label.iter().any(|byte| matches!(byte, 0 | b'/')) || matches!(&label[..], b"." | b"..") {
            return Err(FormatRefusal::IllegalLabel { index });
        }
        if label == LOCAL || labels[..index].contains(label) {
            return Err(FormatRefusal::DuplicateLabel { index });
        }
    }
    Ok(())
}

/// Longest label in bytes: a NUL has to follow it in its field.
const LABEL_LEN_MAX: usize = 255;
