//! What can go wrong, sorted by whose fault it is. Floor 0.
//!
//! * [`Error`]: what an operation reports. Refusals in the manner of POSIX, damage, device faults.
//! * [`Damage`]: the media says something that it may not; where, and what.
//! * [`DeviceFault`]: the device did not do what it was asked.
//! * [`Refusal`]: why a set of devices cannot be opened as a volume.
//!
//! All are values without strings, so that they can be compared in tests and travel anywhere; the
//! texts stand in the `Display` implementations. A missing block is *not* an error: see
//! [`Stop`](crate::engine::Stop).

use core::fmt;

use crate::units::{DeviceIndex, Inum, MediaOffset, Uuid};

/// Why an operation failed. It has changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// No entry of that name.
    NoEntry,
    /// The inode that was asked for does not exist (any more).
    NoInode(Inum),
    /// No PFS with that label.
    NoPfs,
    /// A directory is needed and this is none.
    NotDirectory,
    /// This is a directory, which the operation cannot take.
    IsDirectory,
    /// A symbolic link is needed and this is none.
    NotSymlink,
    /// A regular file is needed and this is none.
    NotRegular,
    /// The name is longer than 255 bytes.
    NameTooLong,
    /// A path leads through too many symbolic links.
    TooManyLinks,
    /// An argument that no object takes, such as an offset beyond the largest file.
    InvalidArgument,
    /// A seek for data or a hole behind the last one.
    NoData,
    /// The name is taken.
    Exists,
    /// The directory still has names.
    NotEmpty,
    /// There is no space left on the volume.
    NoSpace,
    /// The volume cannot be changed.
    ReadOnly,
    /// The last copy that was in sync is lost: nothing can be changed any more.
    Halted,
    /// A copy was lost, and the witness cannot be told of it: nothing can be changed any more.
    Unwitnessed,
    /// The file would become larger than one can be.
    FileTooLarge,
    /// An inode has as many names as it can have.
    TooManyNames,
    /// The operation is not one that this file system has.
    NotSupported,
    /// The directory is in use: the root, or moved into itself.
    Busy,
    /// The media is damaged.
    Damaged(Damage),
    /// A device failed.
    Device(DeviceFault),
    /// The devices cannot be opened as a volume.
    Refused(Refusal),
    /// A limit of ours was met.
    Limit(Limit),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEntry => f.write_str("no such file or directory"),
            Self::NoInode(inum) => write!(f, "{inum} does not exist"),
            Self::NoPfs => f.write_str("no PFS with that label"),
            Self::NotDirectory => f.write_str("not a directory"),
            Self::IsDirectory => f.write_str("is a directory"),
            Self::NotSymlink => f.write_str("not a symbolic link"),
            Self::NotRegular => f.write_str("not a regular file"),
            Self::NameTooLong => f.write_str("name longer than 255 bytes"),
            Self::TooManyLinks => f.write_str("too many symbolic links"),
            Self::InvalidArgument => f.write_str("invalid argument"),
            Self::NoData => f.write_str("no data or hole behind this offset"),
            Self::Exists => f.write_str("exists already"),
            Self::NotEmpty => f.write_str("directory not empty"),
            Self::NoSpace => f.write_str("no space left on the volume"),
            Self::ReadOnly => f.write_str("the volume cannot be changed"),
            Self::Halted => f.write_str(
                "the last good copy is lost; unmount, attach it again, or choose another one with \
                 `farrier copies promote`",
            ),
            Self::Unwitnessed => f.write_str(
                "a copy is lost, and the witness, which has to know of that, cannot be told; unmount, \
                 see to the witness, and mount again",
            ),
            Self::FileTooLarge => f.write_str("file too large"),
            Self::TooManyNames => f.write_str("too many names of one inode"),
            Self::NotSupported => f.write_str("not supported"),
            Self::Busy => f.write_str("in use"),
            Self::Damaged(damage) => write!(f, "damaged media: {damage}"),
            Self::Device(fault) => fault.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Limit(limit) => limit.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<DeviceFault> for Error {
    fn from(fault: DeviceFault) -> Self {
        Self::Device(fault)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A limit that an operation met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// The operation was restarted more often than any sane one is.
    Runs,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => f.write_str(
                "the operation found no end of blocks to read; please report this with the image",
            ),
        }
    }
}

/// What a block is, or what a blockref refers to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum BlockKind {
    /// The volume header.
    Volume,
    /// An inode.
    Inode,
    /// A table of blockrefs between an inode and its leaves.
    Indirect,
    /// File contents.
    Data,
    /// A directory entry.
    Dirent,
    /// A table of freemap blockrefs.
    FreemapNode,
    /// The chunk states of one zone.
    FreemapLeaf,
}

impl BlockKind {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Volume => "volume header",
            Self::Inode => "inode",
            Self::Indirect => "indirect block",
            Self::Data => "data block",
            Self::Dirent => "directory entry",
            Self::FreemapNode => "freemap node",
            Self::FreemapLeaf => "freemap leaf",
        }
    }
}

/// Where damage is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Place {
    /// Kind of the block, or of the one that is referred to.
    pub kind: BlockKind,
    /// Its offset, where it has a block.
    pub offset: Option<MediaOffset>,
    /// Its key: inode number, file offset, or hash of a name.
    pub key: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with key {:#x}", self.kind.name(), self.key)?;
        self.offset.map_or(Ok(()), |offset| write!(f, " at {offset}"))
    }
}

/// The media says something that it may not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Where.
    pub place: Place,
    /// What.
    pub kind: DamageKind,
}

impl Damage {
    /// `kind` at `place`.
    #[must_use]
    pub const fn new(place: Place, kind: DamageKind) -> Self {
        Self { place, kind }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.kind)
    }
}

/// Kinds of damage, one for each thing that is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DamageKind {
    /// The block does not have the check code that its blockref says.
    Check(CheckMismatch),
    /// The block cannot be expanded.
    Expand(ExpandFault),
    /// The blockref cannot be one.
    Blockref(BlockrefFault),
    /// A blockref of this kind does not belong into its table.
    NotAllowed,
    /// The entry does not stand behind the one before it.
    KeyOrder,
    /// The entry leaves the range of its table.
    KeyRange {
        /// First key of the table.
        low: u64,
        /// Last key of the table.
        high: u64,
    },
    /// The indirect block does not cover less than the one that it hangs in: a loop.
    Nesting,
    /// The block lies outside the volume.
    OutsideVolume,
    /// The block lies behind the end of a device that is shorter than its volume.
    BehindDevice,
    /// No copy that is there and counts has it.
    NoCopy,
    /// The inode cannot be one.
    Inode(InodeFault),
    /// The directory entry cannot be one.
    Dirent(DirentFault),
    /// A directory entry names an inode that is not there.
    Dangling(Inum),
    /// The volume header refers to no super-root.
    NoSuperRoot,
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(CheckMismatch { stored, computed }) => {
                write!(f, "check code is {stored}, the block has {computed}")
            }
            Self::Expand(fault) => fault.fmt(f),
            Self::Blockref(fault) => fault.fmt(f),
            Self::NotAllowed => f.write_str("not allowed in this table"),
            Self::KeyOrder => f.write_str("out of order in its table"),
            Self::KeyRange { low, high } => {
                write!(f, "outside the range {low:#x}..={high:#x} of its table")
            }
            Self::Nesting => f.write_str("covers no less than the table it hangs in (a loop)"),
            Self::OutsideVolume => f.write_str("lies outside the volume"),
            Self::BehindDevice => f.write_str("lies behind the end of the device"),
            Self::NoCopy => f.write_str("no copy that is here has it"),
            Self::Inode(fault) => fault.fmt(f),
            Self::Dirent(fault) => fault.fmt(f),
            Self::Dangling(inum) => write!(f, "names {inum}, which does not exist"),
            Self::NoSuperRoot => f.write_str("refers to no super-root"),
        }
    }
}

/// A check code, as stored or as computed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CheckCode {
    /// The block carries no code: its bytes are taken as they are.
    Unchecked,
    /// CRC-32C.
    Crc32c(u32),
    /// XXH64 with HAMMER2's seed.
    Xxhash64(u64),
    /// SHA-256 folded to 192 bits.
    Sha192([u8; 24]),
}

impl fmt::Display for CheckCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchecked => f.write_str("none"),
            Self::Crc32c(code) => write!(f, "{code:08x}"),
            Self::Xxhash64(code) => write!(f, "{code:016x}"),
            Self::Sha192(code) => code.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// The stored code and the one the bytes have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckMismatch {
    /// What the blockref says.
    pub stored: CheckCode,
    /// What the bytes say.
    pub computed: CheckCode,
}

/// Why a slot of a table is no blockref (media format 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockrefFault {
    /// No such kind.
    UnknownKind(u8),
    /// No block of this kind has this radix.
    Radix(u8),
    /// No block may lie here: reserved, or across the boundary of a device buffer.
    Offset(MediaOffset),
    /// Keys that its kind does not cover.
    Span {
        /// The key.
        key: u64,
        /// Log2 of the span.
        key_bits: u8,
    },
    /// No such check method: its block cannot be believed.
    UnknownCheck(u8),
    /// No such compression, or none that a block may have.
    UnknownCompression(u8),
    /// No set of copies: on a volume of copies, every block is on one of four at least.
    Copies(u8),
    /// No address that the block may have on this copy.
    CopyOffset {
        /// Which copy.
        copy: u8,
        /// The address.
        offset: MediaOffset,
    },
}

impl fmt::Display for BlockrefFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(f, "unknown kind {kind} of blockref"),
            Self::Radix(radix) => write!(f, "illegal radix {radix}"),
            Self::Offset(offset) => write!(f, "illegal block offset {offset}"),
            Self::Span { key, key_bits } => write!(f, "illegal key range {key:#x}/{key_bits}"),
            Self::UnknownCheck(code) => write!(f, "unknown check method {code}"),
            Self::UnknownCompression(code) => write!(f, "unknown compression {code}"),
            Self::Copies(mask) => write!(f, "illegal set of copies {mask:#x}"),
            Self::CopyOffset { copy, offset } => {
                write!(f, "illegal block offset {offset} on copy {copy}")
            }
        }
    }
}

/// Why a compressed block cannot be expanded (media format 7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExpandFault {
    /// The stream is said to be longer than its block.
    Length(u32),
    /// The stream is damaged, or expands to more than a file block.
    Stream,
}

impl fmt::Display for ExpandFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "compressed length {length} leaves the block"),
            Self::Stream => f.write_str("damaged compressed stream"),
        }
    }
}

/// Why a block is no inode (media format 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InodeFault {
    /// Not 1024 bytes.
    Length,
    /// Unknown version of the inode's layout.
    Version(u16),
    /// Unknown kind of object.
    Kind(u8),
    /// A size that its contents cannot have.
    Size(u64),
    /// A directory cannot hold direct data.
    DirectDirectory,
    /// A name longer than its field.
    NameLength(u16),
    /// The inode says another number than the key that it was found under.
    Number(Inum),
}

impl fmt::Display for InodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("an inode has 1024 bytes"),
            Self::Version(version) => write!(f, "unknown inode version {version}"),
            Self::Kind(kind) => write!(f, "unknown object type {kind}"),
            Self::Size(size) => write!(f, "impossible size {size}"),
            Self::DirectDirectory => f.write_str("directory with direct data"),
            Self::NameLength(length) => write!(f, "impossible name length {length}"),
            Self::Number(inum) => write!(f, "says that it is {inum}"),
        }
    }
}

/// Why a directory entry cannot be one (media format 6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirentFault {
    /// A length that no name has, or not where this one is kept.
    NameLength(u16),
    /// Unknown kind of object.
    Kind(u8),
    /// The name holds `/` or NUL, or is `.` or `..`.
    IllegalName,
    /// The name does not belong under this key.
    Hash,
}

impl fmt::Display for DirentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameLength(length) => write!(f, "impossible name length {length}"),
            Self::Kind(kind) => write!(f, "unknown object type {kind}"),
            Self::IllegalName => f.write_str("illegal name"),
            Self::Hash => f.write_str("name does not belong under its key"),
        }
    }
}

/// Why a header slot holds no usable volume header (media format 1.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderFault {
    /// Not 64 KiB.
    Length,
    /// No HAMMER2 magic.
    Magic(u64),
    /// HAMMER2, written by a machine of the other byte order.
    ForeignByteOrder,
    /// A check code differs: a torn or damaged header.
    Check {
        /// What the header says.
        stored: u32,
        /// What its bytes have.
        computed: u32,
    },
    /// What it says of copies is of another transaction than the rest: parts of two headers.
    Torn,
    /// A version that we do not know.
    Version(u32),
    /// Another type of file system under HAMMER2's magic.
    Type(Uuid),
    /// Volume numbers or sizes that contradict each other.
    Geometry,
    /// The slot could not be read.
    Unreadable,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("a volume header has 65536 bytes"),
            Self::Magic(magic) => write!(f, "bad magic {magic:016x}"),
            Self::ForeignByteOrder => f.write_str("opposite byte order"),
            Self::Check { stored, computed } => {
                write!(f, "check code is {stored:08x}, the header has {computed:08x}")
            }
            Self::Torn => f.write_str("parts of two headers"),
            Self::Version(version) => write!(f, "unsupported version {version}"),
            Self::Type(uuid) => write!(f, "file system type {uuid} is not HAMMER2"),
            Self::Geometry => f.write_str("volume numbers or sizes contradict each other"),
            Self::Unreadable => f.write_str("cannot be read"),
        }
    }
}

/// Why devices cannot be opened as a volume. Each text ends with what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// No device was given.
    NoDevices,
    /// More devices than a file system can have.
    TooManyDevices,
    /// The device cannot hold a volume header.
    TooSmall {
        /// Which device.
        device: DeviceIndex,
        /// Its size in bytes.
        size: u64,
    },
    /// The device holds something else.
    NotHammer2 {
        /// Which device.
        device: DeviceIndex,
    },
    /// HAMMER2, but no header of it can be used.
    Header {
        /// Which device.
        device: DeviceIndex,
        /// What is wrong with the header that says most.
        fault: HeaderFault,
    },
    /// The devices are copies that cannot be used together.
    Copies {
        /// Which rule forbids it.
        code: &'static str,
    },
    /// The devices belong to different file systems.
    Mixed {
        /// Which device differs from the first.
        device: DeviceIndex,
    },
    /// Two devices hold the same volume of the file system.
    SameVolume {
        /// The second of them.
        device: DeviceIndex,
        /// Which volume it is.
        volume: u8,
    },
    /// Volumes of the file system are missing.
    MissingVolumes {
        /// How many it has.
        need: u8,
        /// How many were given.
        given: u8,
        /// The first that is missing.
        missing: u8,
    },
    /// The sizes of the volumes do not add up.
    Geometry {
        /// The device whose header contradicts the root volume's.
        device: DeviceIndex,
    },
    /// The device ends before its volume does.
    Truncated {
        /// Which device.
        device: DeviceIndex,
        /// Its size in bytes.
        size: u64,
        /// The size that its volume needs.
        need: u64,
    },
    /// No super-root hangs in the volume header.
    NoSuperRoot,
}

impl Refusal {
    /// The device that it is about.
    #[must_use]
    pub const fn device(&self) -> Option<DeviceIndex> {
        match *self {
            Self::TooSmall { device, .. }
            | Self::NotHammer2 { device }
            | Self::Header { device, .. }
            | Self::Mixed { device }
            | Self::SameVolume { device, .. }
            | Self::Geometry { device }
            | Self::Truncated { device, .. } => Some(device),
            Self::NoDevices
            | Self::TooManyDevices
            | Self::MissingVolumes { .. }
            | Self::Copies { .. }
            | Self::NoSuperRoot => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevices => f.write_str("no device given; name at least one"),
            Self::TooManyDevices => f.write_str("a file system has at most 64 volumes"),
            Self::TooSmall { size, .. } => write!(
                f,
                "too small ({size} bytes) to hold a HAMMER2 volume header; \
                 is this the right file, and was it copied whole?"
            ),
            Self::NotHammer2 { .. } => f.write_str(
                "not a HAMMER2 volume (bad magic); if it is a whole disk, name the partition",
            ),
            Self::Header { fault: HeaderFault::ForeignByteOrder, .. } => f.write_str(
                "HAMMER2 of the opposite byte order; it can only be read by a machine like the \
                 one that wrote it",
            ),
            Self::Header { fault: fault @ HeaderFault::Version(_), .. } => {
                write!(f, "{fault}; this program knows versions 1 and 2, a newer one may do")
            }
            Self::Header { fault: fault @ HeaderFault::Type(_), .. } => {
                write!(f, "{fault}; another program made this volume")
            }
            Self::Header { fault: fault @ HeaderFault::Unreadable, .. } => {
                write!(f, "no volume header could be read ({fault}); check the device")
            }
            Self::Header { fault, .. } => {
                write!(f, "no valid volume header ({fault}); restore the volume from a backup")
            }
            Self::Copies { code } => write!(
                f,
                "{code}: these copies cannot be used together; `farrier copies status` tells why"
            ),
            Self::Mixed { .. } => f.write_str(
                "belongs to another file system than the first device; name the volumes of one",
            ),
            Self::SameVolume { volume, .. } => write!(
                f,
                "is volume {volume}, which was given already; leave out the copy that you do not \
                 want"
            ),
            Self::MissingVolumes { need, given, missing } => write!(
                f,
                "the file system needs {need} volumes, {given} given; add the device with volume \
                 {missing}"
            ),
            Self::Geometry { .. } => f.write_str(
                "volume numbers or sizes contradict the root volume's; are these the right devices?",
            ),
            Self::Truncated { size, need, .. } => write!(
                f,
                "truncated: the volume has {need} bytes, the device only {size}; copy it again, \
                 or read what is left with --allow-truncated"
            ),
            Self::NoSuperRoot => f.write_str("the volume header refers to no super-root"),
        }
    }
}

/// A device did not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceFault {
    /// Which device.
    pub device: DeviceIndex,
    /// What it was asked for.
    pub op: DeviceOp,
    /// Offset on the device in bytes; 0 for a barrier.
    pub offset: u64,
    /// Length in bytes; 0 for a barrier.
    pub len: usize,
    /// Why.
    pub cause: FaultCause,
}

impl DeviceFault {
    /// Reading `len` bytes at `offset` failed.
    #[must_use]
    pub const fn read(device: DeviceIndex, offset: u64, len: usize, cause: FaultCause) -> Self {
        Self { device, op: DeviceOp::Read, offset, len, cause }
    }

    /// Writing `len` bytes at `offset` failed. How many of them are on the device is not known.
    #[must_use]
    pub const fn write(device: DeviceIndex, offset: u64, len: usize, cause: FaultCause) -> Self {
        Self { device, op: DeviceOp::Write, offset, len, cause }
    }

    /// The barrier failed. Which of the writes before it will last is not known.
    #[must_use]
    pub const fn barrier(device: DeviceIndex, cause: FaultCause) -> Self {
        Self { device, op: DeviceOp::Barrier, offset: 0, len: 0, cause }
    }

    /// Its text, with `name` as the name of the device: for hosts that know a better one than its
    /// number.
    pub fn named(&self, name: impl fmt::Display) -> impl fmt::Display {
        let Self { op, offset, len, cause, .. } = *self;
        fmt::from_fn(move |f| match op {
            DeviceOp::Read => {
                write!(f, "{name}: reading {len} bytes at {offset:#x} failed: {cause}")
            }
            DeviceOp::Write => {
                write!(f, "{name}: writing {len} bytes at {offset:#x} failed: {cause}")
            }
            DeviceOp::Barrier => {
                write!(f, "{name}: bringing what was written to the medium failed: {cause}")
            }
        })
    }
}

impl fmt::Display for DeviceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.named(self.device).fmt(f)
    }
}

/// What a device was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceOp {
    /// To give bytes.
    Read,
    /// To take bytes.
    Write,
    /// To make lasting what it took before.
    Barrier,
}

/// Causes of a device fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultCause {
    /// The medium: reading or writing failed. With the host's error number, or 0.
    Medium(i32),
    /// The device ends before.
    OutOfRange,
    /// The device is gone.
    Gone,
    /// The caller may not.
    Denied,
    /// The device takes no writes, or was opened for reading only.
    ReadOnly,
    /// No room below it: the file system that holds an image file is full.
    NoSpace,
    /// It did not answer within the time that it had.
    Stalled,
}

impl fmt::Display for FaultCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Medium(0) => f.write_str("I/O error"),
            Self::Medium(code) => write!(f, "I/O error (os error {code})"),
            Self::OutOfRange => f.write_str("behind the end of the device"),
            Self::Gone => f.write_str("the device is gone"),
            Self::Denied => f.write_str("permission denied"),
            Self::ReadOnly => f.write_str("the device is open for reading only"),
            Self::NoSpace => {
                f.write_str("no space left where the image file lies; make room there")
            }
            Self::Stalled => f.write_str("it did not answer in time"),
        }
    }
}
