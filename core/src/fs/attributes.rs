//! Attributes of an inode.

use zerocopy::IntoBytes;

use super::node::Node;
use super::pfs::Pfs;
use crate::engine::{Operation, Stop, View};
use crate::error::{BlockKind, Damage, DamageKind, Error, Place};
use crate::media::inode::{Inode, ObjectKind};
use crate::media::raw::RawInode;
use crate::units::{Inum, WallTime};

/// What `stat` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Attributes {
    /// Number within the PFS.
    pub inum: Inum,
    /// What it is.
    pub kind: ObjectKind,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Names. 1 for a directory: HAMMER2 does not count its subdirectories, and 1 is how Unix
    /// says so.
    pub nlinks: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of the contents in bytes.
    pub size: u64,
    /// Bytes allocated for contents and tables.
    pub allocated_bytes: u64,
    /// Last access (the media keeps the time of creation here).
    pub atime: WallTime,
    /// Last change of the contents.
    pub mtime: WallTime,
    /// Last change of the inode.
    pub ctime: WallTime,
    /// Creation.
    pub btime: WallTime,
    /// Major and minor number of a device node, 0 for everything else.
    pub device: (u32, u32),
    /// BSD's file flags.
    pub flags: u32,
    /// The directory that (one of) its name(s) is in; a root is its own.
    pub parent: Inum,
    /// Compression asked for: algorithm in the low nibble, level in the high one.
    pub compression_request: u8,
    /// Check method asked for, as media code.
    pub check_request: u8,
}

impl Attributes {
    /// The attributes of `node`.
    ///
    /// # Errors
    /// As [`Node::allocated_bytes`].
    pub fn of(view: &mut View<'_>, pfs: &Pfs, node: &Node) -> Result<Self, Stop> {
        let attributes = Self::of_inode(&node.inode(), node.allocated_bytes(view, pfs)?);
        // the root of a PFS made by other tools may say something else
        Ok(Self { inum: node.inum(), ..attributes })
    }

    /// The attributes of an inode that is being made or changed.
    ///
    /// # Errors
    /// It is not a legal inode.
    pub fn of_raw(inode: &RawInode, allocated_bytes: u64) -> Result<Self, Error> {
        let place = Place { kind: BlockKind::Inode, offset: None, key: inode.inum.get() };
        let parsed = Inode::parse(inode.as_bytes())
            .map_err(|fault| Damage::new(place, DamageKind::Inode(fault)))?;
        Ok(Self::of_inode(&parsed, allocated_bytes))
    }

    fn of_inode(inode: &Inode<'_>, allocated_bytes: u64) -> Self {
        let kind = inode.kind();
        let is_device = matches!(kind, ObjectKind::CharDevice | ObjectKind::BlockDevice);
        Self {
            inum: inode.inum(),
            kind,
            mode: inode.mode(),
            nlinks: if kind == ObjectKind::Directory {
                1
            } else {
                u32::try_from(inode.nlinks()).unwrap_or(u32::MAX)
            },
            uid: inode.uid(),
            gid: inode.gid(),
            size: inode.size(),
            allocated_bytes,
            atime: inode.atime(),
            mtime: inode.mtime(),
            ctime: inode.ctime(),
            btime: inode.btime(),
            device: if is_device { inode.device() } else { (0, 0) },
            flags: inode.flags(),
            parent: if inode.is_pfs_root() { inode.inum() } else { inode.parent() },
            compression_request: inode.compression_request(),
            check_request: inode.check_request(),
        }
    }
}

/// Reads the attributes of an inode.
#[derive(Clone, Copy, Debug)]
pub struct GetAttributes {
    /// The tree it is in.
    pub pfs: Pfs,
    /// Its number.
    pub inum: Inum,
}

impl Operation for GetAttributes {
    type Output = Attributes;

    fn gather(&self, view: &mut View<'_>) -> Result<Attributes, Stop> {
        let node = Node::find(view, &self.pfs, self.inum)?;
        Attributes::of(view, &self.pfs, &node)
    }
}
