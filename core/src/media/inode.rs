//! Inodes (media format 5).

use zerocopy::FromBytes;

use super::raw::RawInode;
use crate::error::InodeFault;
use crate::units::{Inum, Uuid, WallTime};

/// Direct data, or the four blockrefs, start here within the inode.
pub const CONTENT_START: usize = 0x200;
/// Size of an inode, and with it of its block.
pub const INODE_LEN: usize = 1024;
/// Longest contents that an inode keeps in itself.
pub const DIRECT_DATA_MAX: u64 = 512;

/// The contents stand in the inode itself (media format 5.1).
pub const OP_DIRECT_DATA: u8 = 0x01;
/// The inode is the root of a PFS.
pub const OP_PFS_ROOT: u8 = 0x02;

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum ObjectKind {
    /// A directory.
    #[cfg_attr(feature = "serde", serde(rename = "dir"))]
    Directory,
    /// A regular file.
    #[cfg_attr(feature = "serde", serde(rename = "file"))]
    Regular,
    /// A named pipe.
    Fifo,
    /// A character device.
    #[cfg_attr(feature = "serde", serde(rename = "cdev"))]
    CharDevice,
    /// A block device.
    #[cfg_attr(feature = "serde", serde(rename = "bdev"))]
    BlockDevice,
    /// A symbolic link.
    Symlink,
    /// A socket.
    Socket,
    /// A whiteout of BSD's union mounts.
    Whiteout,
}

impl ObjectKind {
    /// The kind with media code `code`.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Directory,
            2 => Self::Regular,
            4 => Self::Fifo,
            5 => Self::CharDevice,
            6 => Self::BlockDevice,
            7 => Self::Symlink,
            9 => Self::Socket,
            10 => Self::Whiteout,
            _ => return None,
        })
    }

    /// Its media code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Directory => 1,
            Self::Regular => 2,
            Self::Fifo => 4,
            Self::CharDevice => 5,
            Self::BlockDevice => 6,
            Self::Symlink => 7,
            Self::Socket => 9,
            Self::Whiteout => 10,
        }
    }

    /// A short word for it: `dir`, `file`, `fifo`, `cdev`, `bdev`, `symlink`, `socket`,
    /// `whiteout`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "dir",
            Self::Regular => "file",
            Self::Fifo => "fifo",
            Self::CharDevice => "cdev",
            Self::BlockDevice => "bdev",
            Self::Symlink => "symlink",
            Self::Socket => "socket",
            Self::Whiteout => "whiteout",
        }
    }
}

/// A legal inode, seen in the bytes of its block.
#[derive(Clone, Copy)]
pub struct Inode<'a> {
    raw: &'a RawInode,
    kind: ObjectKind,
}

impl core::fmt::Debug for Inode<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Inode({}, {:?}, {} bytes)", self.inum().0, self.kind, self.size())
    }
}

impl<'a> Inode<'a> {
    /// Reads an inode; `bytes` is its whole block.
    ///
    /// # Errors
    /// The first thing that no inode may say.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InodeFault> {
        let raw = RawInode::ref_from_bytes(bytes).map_err(|_| InodeFault::Length)?;
        if raw.version.get() != 1 {
            return Err(InodeFault::Version(raw.version.get()));
        }
        let kind = ObjectKind::from_code(raw.kind).ok_or(InodeFault::Kind(raw.kind))?;
        let inode = Self { raw, kind };
        if inode.has_direct_data() && inode.size() > DIRECT_DATA_MAX {
            return Err(InodeFault::Size(inode.size()));
        }
        if inode.has_direct_data() && kind == ObjectKind::Directory {
            return Err(InodeFault::DirectDirectory);
        }
        if inode.size() > i64::MAX.cast_unsigned() {
            return Err(InodeFault::Size(inode.size()));
        }
        if usize::from(raw.name_len.get()) > raw.filename.len() {
            return Err(InodeFault::NameLength(raw.name_len.get()));
        }
        Ok(inode)
    }

    /// The bytes it was parsed from.
    #[must_use]
    pub const fn raw(&self) -> &'a RawInode {
        self.raw
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// Its number within the PFS.
    #[must_use]
    pub fn inum(&self) -> Inum {
        Inum(self.raw.inum.get())
    }

    /// The directory that (one of) its name(s) is in.
    #[must_use]
    pub fn parent(&self) -> Inum {
        Inum(self.raw.iparent.get())
    }

    /// Length of the contents in bytes; 0 for directories.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.raw.size.get()
    }

    /// Permission, set-id and sticky bits.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.raw.mode.get() & 0o7777
    }

    /// Names; always 1 for the directories of most writers (media format 5.3).
    #[must_use]
    pub fn nlinks(&self) -> u64 {
        self.raw.nlinks.get()
    }

    /// Owner.
    #[must_use]
    pub fn uid(&self) -> u32 {
        owner(&self.raw.uid)
    }

    /// Group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        owner(&self.raw.gid)
    }

    /// Last change of the inode.
    #[must_use]
    pub fn ctime(&self) -> WallTime {
        WallTime(self.raw.ctime.get())
    }

    /// Last change of the contents.
    #[must_use]
    pub fn mtime(&self) -> WallTime {
        WallTime(self.raw.mtime.get())
    }

    /// Last access; the media keeps the time of creation here.
    #[must_use]
    pub fn atime(&self) -> WallTime {
        WallTime(self.raw.atime.get())
    }

    /// Creation.
    #[must_use]
    pub fn btime(&self) -> WallTime {
        WallTime(self.raw.btime.get())
    }

    /// Major and minor number of a device node.
    #[must_use]
    pub fn device(&self) -> (u32, u32) {
        (self.raw.rmajor.get(), self.raw.rminor.get())
    }

    /// BSD's file flags.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.raw.uflags.get()
    }

    /// Compression asked for: algorithm (low nibble) and level (high nibble).
    #[must_use]
    pub const fn compression_request(&self) -> u8 {
        self.raw.comp_algo
    }

    /// Check method asked for, as media code.
    #[must_use]
    pub const fn check_request(&self) -> u8 {
        self.raw.check_algo & 15
    }

    /// Whether the contents stand in the inode itself.
    #[must_use]
    pub const fn has_direct_data(&self) -> bool {
        self.raw.op_flags & OP_DIRECT_DATA != 0
    }

    /// The contents of an inode with direct data.
    #[must_use]
    pub fn direct_data(&self) -> Option<&'a [u8]> {
        // parse() refused sizes beyond the field
        self.has_direct_data()
            .then(|| &self.raw.content[..usize::try_from(self.size()).unwrap_or(0).min(512)])
    }

    /// Whether it says of itself that it is the root of a PFS.
    #[must_use]
    pub const fn is_pfs_root(&self) -> bool {
        self.raw.op_flags & OP_PFS_ROOT != 0
    }

    /// Label of a PFS root: up to the first NUL.
    #[must_use]
    pub fn label(&self) -> &'a [u8] {
        self.raw.filename.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// What kind of PFS a PFS root is of.
    #[must_use]
    pub const fn pfs_kind(&self) -> PfsKind {
        match self.raw.pfs_type & 15 {
            0 => PfsKind::None,
            1 => PfsKind::Cache,
            3 => PfsKind::Slave,
            4 => PfsKind::SoftSlave,
            5 => PfsKind::SoftMaster,
            6 => PfsKind::Master,
            8 => PfsKind::SuperRoot,
            9 => PfsKind::Dummy,
            _ => PfsKind::Unknown,
        }
    }

    /// Whether a PFS root was made as a snapshot, by hand or by itself.
    #[must_use]
    pub const fn is_snapshot(&self) -> bool {
        matches!(self.raw.pfs_subtype, 1 | 2)
    }

    /// Cluster id of a PFS root.
    #[must_use]
    pub const fn cluster_id(&self) -> Uuid {
        Uuid(self.raw.pfs_clid)
    }

    /// Own id of a PFS root.
    #[must_use]
    pub const fn pfs_id(&self) -> Uuid {
        Uuid(self.raw.pfs_fsid)
    }

    /// Next inode number that a PFS root hands out.
    #[must_use]
    pub fn next_inum(&self) -> Inum {
        Inum(self.raw.pfs_inum.get())
    }
}

/// Kinds of PFS (media format 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[allow(missing_docs, reason = "the names are HAMMER2's own")]
pub enum PfsKind {
    None,
    Cache,
    Slave,
    SoftSlave,
    SoftMaster,
    Master,
    SuperRoot,
    Dummy,
    Unknown,
}

impl PfsKind {
    /// The name that the tools of HAMMER2 use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cache => "cache",
            Self::Slave => "slave",
            Self::SoftSlave => "soft-slave",
            Self::SoftMaster => "soft-master",
            Self::Master => "master",
            Self::SuperRoot => "super-root",
            Self::Dummy => "dummy",
            Self::Unknown => "unknown",
        }
    }
}

/// A Unix owner is the last word of its UUID (media format 13, trap 8).
fn owner(uuid: &[u8; 16]) -> u32 {
    let [.., a, b, c, d] = *uuid;
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromZeros, IntoBytes};

    fn file() -> RawInode {
        let mut raw = RawInode::new_zeroed();
        raw.version.set(1);
        raw.kind = 2;
        raw.op_flags = OP_DIRECT_DATA;
        raw.size.set(5);
        raw.content[..5].copy_from_slice(b"hello");
        raw
    }

    fn fault(change: impl FnOnce(&mut RawInode)) -> InodeFault {
        let mut raw = file();
        change(&mut raw);
        Inode::parse(raw.as_bytes()).unwrap_err()
    }

    #[test]
    fn direct_data_ends_with_the_size() {
        let raw = file();
        assert_eq!(Inode::parse(raw.as_bytes()).unwrap().direct_data(), Some(&b"hello"[..]));
    }

    #[test]
    fn an_owner_is_the_last_word() {
        let mut raw = file();
        raw.uid[12..].copy_from_slice(&1000_u32.to_le_bytes());
        assert_eq!(Inode::parse(raw.as_bytes()).unwrap().uid(), 1000);
    }

    #[test]
    fn every_refusal() {
        assert_eq!(fault(|raw| raw.version.set(2)), InodeFault::Version(2));
        assert_eq!(fault(|raw| raw.kind = 99), InodeFault::Kind(99));
        assert_eq!(fault(|raw| raw.kind = 0), InodeFault::Kind(0));
        assert_eq!(fault(|raw| raw.kind = 1), InodeFault::DirectDirectory);
        assert_eq!(fault(|raw| raw.size.set(513)), InodeFault::Size(513));
        let huge = (1 << 63) + 5;
        let refused = fault(|raw| {
            raw.op_flags = 0;
            raw.size.set(huge);
        });
        assert_eq!(refused, InodeFault::Size(huge));
        assert_eq!(fault(|raw| raw.name_len.set(257)), InodeFault::NameLength(257));
        assert_eq!(Inode::parse(&[0; 512]).unwrap_err(), InodeFault::Length);
    }
}
