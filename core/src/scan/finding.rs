//! What a check finds, graded.

use core::fmt;

use crate::error::{BlockKind, BlockrefFault, DamageKind, Error, HeaderFault, Place};
use crate::media::blockref::Statistics;
use crate::units::{DeviceIndex, Inum, MediaOffset};

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Grade {
    /// Worth knowing; nothing is wrong.
    Information,
    /// Wrong, but everything that was stored can still be had: it can be put right.
    Repairable,
    /// Something that was stored cannot be had, or cannot be told from something else.
    Fatal,
}

impl Grade {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Information => "information",
            Self::Repairable => "repairable",
            Self::Fatal => "fatal",
        }
    }
}

/// One finding: what, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The block that it was found in or about, where there is one.
    pub place: Option<Place>,
    /// Index of the PFS, in the order of [`Check::labels`](super::Check::labels).
    pub pfs: Option<u32>,
    /// The inode that it concerns, within that PFS.
    pub inum: Option<Inum>,
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub const fn grade(&self) -> Grade {
        self.kind.grade()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        self.kind.fmt(f)
    }
}

/// Kinds of finding, one for each thing that is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FindingKind {
    /// A header copy is not usable.
    Header {
        /// On which device.
        device: DeviceIndex,
        /// Which copy.
        slot: u8,
        /// Why.
        fault: HeaderFault,
    },
    /// A device ends before its volume does.
    Truncated {
        /// Which device.
        device: DeviceIndex,
        /// Its size in bytes.
        size: u64,
        /// The size that its volume needs.
        need: u64,
    },
    /// A block cannot be read or is not what it should be.
    Damaged(Error),
    /// A freemap block cannot be read or is not what it should be; it can be made again.
    FreemapDamaged(Error),
    /// A freemap block is not in its place.
    FreemapSlot,
    /// Statistics of a subtree are wrong.
    Statistics {
        /// What the blockref says.
        stored: Statistics,
        /// What is there.
        counted: Statistics,
    },
    /// The hint of the number of leaves is wrong.
    LeafCount {
        /// What the blockref says.
        stored: u16,
        /// What is there.
        counted: u16,
    },
    /// An empty slot of a table is not all zeros.
    DirtySlot,
    /// A blockref is newer than the one that it hangs below.
    NewerThanParent,
    /// Data behind the end of its file.
    BehindEnd {
        /// Size of the file.
        size: u64,
    },
    /// The flags of a PFS root in blockref and inode differ.
    RootFlag,
    /// A PFS root that has another number than 1.
    RootNumber(Inum),
    /// An inode number that the PFS would hand out again.
    NumberNotReserved {
        /// The next number by the PFS root.
        next: Inum,
    },
    /// Two entries of one directory have the same name.
    DuplicateName,
    /// The entry says another kind than its inode.
    WrongKind,
    /// The inode says another number of names than it has.
    Links {
        /// What the inode says.
        stored: u64,
        /// Names found.
        counted: u32,
    },
    /// An inode without a name.
    Orphan,
    /// An inode without a name, as an unlinked open file leaves it behind in a crash.
    Unlinked,
    /// A directory entry names an inode that is not there.
    Dangling,
    /// A directory has more than one name, or is below itself.
    DirectoryLoop,
    /// A directory says another parent than the one it is in.
    Parent {
        /// What the inode says.
        stored: Inum,
        /// The directory that it is in.
        found: Inum,
    },
    /// Two different blocks share bytes.
    Overlap,
    /// Blocks are in use, but the freemap says free: a writer may overwrite them.
    NotAllocated {
        /// First byte of the stretch.
        start: MediaOffset,
        /// Its length in bytes.
        len: u64,
    },
    /// Blocks are in use, but staged for freeing.
    PossiblyFree {
        /// First byte of the stretch.
        start: MediaOffset,
        /// Its length in bytes.
        len: u64,
    },
    /// Space that no block may lie in is not marked so.
    ReservedFree {
        /// The segment.
        segment: MediaOffset,
    },
    /// A segment's count of free space is wrong.
    SegmentAvail {
        /// The segment.
        segment: MediaOffset,
        /// What it says, in bytes.
        stored: u32,
        /// What its bitmap says.
        counted: u32,
    },
    /// A segment's place to go on packing small blocks is in use, or outside of it.
    SegmentLinear {
        /// The segment.
        segment: MediaOffset,
        /// What it says.
        stored: u32,
    },
    /// Space is marked as used that nothing refers to: a bulk free gives it back.
    Unreferenced {
        /// How many bytes.
        bytes: u64,
    },
    /// The volume header counts free space wrongly.
    AllocatorFree {
        /// What it says, in bytes.
        stored: u64,
        /// What the freemap says.
        counted: u64,
    },
    /// A limit of memory was met; what it kept from being checked.
    NotChecked(Unchecked),
}

/// What a check leaves out at its limit of memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unchecked {
    /// Whether blocks of further zones overlap.
    Overlaps,
    /// Whether further directories hang together.
    DirectoryTree,
    /// Names of further inodes.
    Names,
}

impl FindingKind {
    /// How bad it is.
    #[must_use]
    pub const fn grade(&self) -> Grade {
        match self {
            Self::Truncated { .. }
            | Self::Damaged(_)
            | Self::DirectoryLoop
            | Self::DuplicateName
            | Self::Overlap => Grade::Fatal,
            Self::Header { .. }
            | Self::FreemapDamaged(_)
            | Self::FreemapSlot
            | Self::Statistics { .. }
            | Self::RootFlag
            | Self::RootNumber(_)
            | Self::NumberNotReserved { .. }
            | Self::WrongKind
            | Self::Links { .. }
            | Self::Orphan
            | Self::Dangling
            | Self::NotAllocated { .. }
            | Self::PossiblyFree { .. }
            | Self::ReservedFree { .. }
            | Self::SegmentAvail { .. }
            | Self::SegmentLinear { .. } => Grade::Repairable,
            Self::LeafCount { .. }
            | Self::DirtySlot
            | Self::NewerThanParent
            | Self::BehindEnd { .. }
            | Self::Unlinked
            | Self::Parent { .. }
            | Self::Unreferenced { .. }
            | Self::AllocatorFree { .. }
            | Self::NotChecked(_) => Grade::Information,
        }
    }

    /// A word that stays the same while texts change: for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Header { .. } => "volume-header",
            Self::Truncated { .. } => "truncated",
            Self::Damaged(error) => damage_code(error),
            Self::FreemapDamaged(_) => "freemap",
            Self::FreemapSlot => "freemap-slot",
            Self::Statistics { .. } => "stats",
            Self::LeafCount { .. } => "leaf-count",
            Self::DirtySlot => "dirty-empty",
            Self::NewerThanParent => "mirror-tid",
            Self::BehindEnd { .. } => "beyond-eof",
            Self::RootFlag | Self::RootNumber(_) => "pfs",
            Self::NumberNotReserved { .. } => "inum-allocator",
            Self::DuplicateName => "duplicate-name",
            Self::WrongKind => "dirent-type",
            Self::Links { .. } => "nlinks",
            Self::Orphan => "orphan-inode",
            Self::Unlinked => "unlinked-inode",
            Self::Dangling => "dangling-dirent",
            Self::DirectoryLoop => "dir-loop",
            Self::Parent { .. } => "iparent",
            Self::Overlap => "overlap",
            Self::NotAllocated { .. } => "not-allocated",
            Self::PossiblyFree { .. } => "possibly-free",
            Self::ReservedFree { .. } => "freemap-reserved",
            Self::SegmentAvail { .. } => "freemap-avail",
            Self::SegmentLinear { .. } => "freemap-linear",
            Self::Unreferenced { .. } => "unreferenced",
            Self::AllocatorFree { .. } => "allocator-free",
            Self::NotChecked(_) => "not-checked",
        }
    }
}

const fn damage_code(error: &Error) -> &'static str {
    let Error::Damaged(damage) = error else {
        return "unreadable";
    };
    match damage.kind {
        DamageKind::Check(_) => match damage.place.kind {
            BlockKind::Volume => "check-header",
            BlockKind::Inode => "check-inode",
            BlockKind::Indirect => "check-indirect",
            BlockKind::Data => "check-data",
            BlockKind::Dirent => "check-dirent",
            BlockKind::FreemapNode | BlockKind::FreemapLeaf => "check-freemap",
        },
        DamageKind::Expand(_) => "decompress",
        DamageKind::Blockref(fault) => match fault {
            BlockrefFault::UnknownKind(_) => "bad-type",
            BlockrefFault::Radix(_) => "bad-radix",
            BlockrefFault::Offset(_) => "bad-offset",
            BlockrefFault::Copies(_) | BlockrefFault::CopyOffset { .. } => "bad-copies",
            BlockrefFault::Span { .. } => "bad-key",
            BlockrefFault::UnknownCheck(_) => "bad-check",
            BlockrefFault::UnknownCompression(_) => "bad-compression",
        },
        DamageKind::NotAllowed => "bad-type",
        DamageKind::KeyOrder => "key-order",
        DamageKind::KeyRange { .. } => "key-range",
        DamageKind::Nesting => "loop",
        DamageKind::OutsideVolume => "bad-offset",
        DamageKind::BehindDevice => "behind-device",
        DamageKind::NoCopy => "no-copy",
        DamageKind::Inode(_) => "inode",
        DamageKind::Dirent(_) => "dirent",
        DamageKind::Dangling(_) => "dangling-dirent",
        DamageKind::NoSuperRoot => "super-root",
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { device, slot, fault } => {
                write!(f, "volume header {slot} of {device}: {fault}")
            }
            Self::Truncated { device, size, need } => {
                write!(f, "{device} has {size} bytes, its volume needs {need}")
            }
            // the place is told already
            Self::Damaged(Error::Damaged(damage))
            | Self::FreemapDamaged(Error::Damaged(damage)) => damage.kind.fmt(f),
            Self::Damaged(error) | Self::FreemapDamaged(error) => error.fmt(f),
            Self::FreemapSlot => f.write_str("not in one of its reserved places"),
            Self::Statistics { stored, counted } => write!(
                f,
                "says {} bytes and {} inodes below it, {} and {} are",
                stored.data_count, stored.inode_count, counted.data_count, counted.inode_count
            ),
            Self::LeafCount { stored, counted } => {
                write!(f, "says {stored} leaves below it, {counted} are")
            }
            Self::DirtySlot => f.write_str("an empty slot of its table is not zeroed"),
            Self::NewerThanParent => f.write_str("newer than what refers to it"),
            Self::BehindEnd { size } => write!(f, "behind the end of its file at {size}"),
            Self::RootFlag => f.write_str("blockref and inode differ on being the root of a PFS"),
            Self::RootNumber(inum) => write!(f, "root of a PFS says that it is {inum}"),
            Self::NumberNotReserved { next } => {
                write!(f, "its number would be given again: the PFS goes on with {}", next.0)
            }
            Self::DuplicateName => f.write_str("the same name twice in a directory"),
            Self::WrongKind => f.write_str("the directory entry says another kind"),
            Self::Links { stored, counted } => write!(f, "says {stored} names, {counted} found"),
            Self::Orphan => f.write_str("has no name"),
            Self::Unlinked => f.write_str("was unlinked while open and is left over"),
            Self::Dangling => f.write_str("is named by a directory but does not exist"),
            Self::DirectoryLoop => f.write_str("directory with several names, or below itself"),
            Self::Parent { stored, found } => {
                write!(f, "says that it is in directory {}, found in {}", stored.0, found.0)
            }
            Self::Overlap => f.write_str("shares bytes with another block"),
            Self::NotAllocated { start, len } => {
                write!(f, "{len} bytes in use at {start} are free by the freemap")
            }
            Self::PossiblyFree { start, len } => {
                write!(f, "{len} bytes in use at {start} are staged for freeing")
            }
            Self::ReservedFree { segment } => {
                write!(f, "reserved space in the segment at {segment} is not marked allocated")
            }
            Self::SegmentAvail { segment, stored, counted } => {
                write!(f, "the segment at {segment} says {stored} bytes free, its bitmap {counted}")
            }
            Self::SegmentLinear { segment, stored } => {
                write!(
                    f,
                    "the segment at {segment} goes on packing at {stored:#x}, where it must not"
                )
            }
            Self::Unreferenced { bytes } => write!(
                f,
                "{bytes} bytes are marked as used and nothing refers to them; a bulk free returns \
                 them"
            ),
            Self::AllocatorFree { stored, counted } => {
                write!(f, "the volume header says {stored} bytes free, the freemap {counted}")
            }
            Self::NotChecked(Unchecked::Overlaps) => {
                f.write_str("too large to look for overlapping blocks everywhere")
            }
            Self::NotChecked(Unchecked::Names) => {
                f.write_str("inode numbers lie too far apart to look at the names of all")
            }
            Self::NotChecked(Unchecked::DirectoryTree) => {
                f.write_str("too many directories to see whether all hang together")
            }
        }
    }
}
