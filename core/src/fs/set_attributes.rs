//! Changing attributes of an inode, its size among them.

use super::attributes::Attributes;
use super::change::writable;
use super::contents::FileEdit;
use super::node::Node;
use super::pfs::Pfs;
use crate::dirty::Plan;
use crate::engine::{Change, Stop, View};
use crate::media::raw::RawInode;
use crate::units::{Inum, WallTime};

/// Changes attributes of an inode; what is `None` stays.
#[derive(Clone, Copy, Debug)]
pub struct SetAttributes {
    /// The tree.
    pub pfs: Pfs,
    /// The inode.
    pub inum: Inum,
    /// Permission, set-id and sticky bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length of a regular file in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<WallTime>,
    /// Last change of the contents.
    pub mtime: Option<WallTime>,
    /// Last change of the inode, where it is not [`now`](Self::now).
    pub ctime: Option<WallTime>,
    /// BSD's file flags.
    pub flags: Option<u32>,
    /// Compression asked for: algorithm in the low nibble, level in the high one; from the next
    /// write on.
    pub compression_request: Option<u8>,
    /// Check method asked for, as media code; from the next write on.
    pub check_request: Option<u8>,
    /// Now.
    pub now: WallTime,
}

impl SetAttributes {
    /// A request that changes nothing yet.
    #[must_use]
    pub const fn new(pfs: Pfs, inum: Inum, now: WallTime) -> Self {
        Self {
            pfs,
            inum,
            mode: None,
            uid: None,
            gid: None,
            size: None,
            atime: None,
            mtime: None,
            ctime: None,
            flags: None,
            compression_request: None,
            check_request: None,
            now,
        }
    }

    fn set(&self, inode: &mut RawInode) {
        if let Some(mode) = self.mode {
            inode.mode.set(mode & 0o7777);
        }
        if let Some(uid) = self.uid {
            inode.set_uid(uid);
        }
        if let Some(gid) = self.gid {
            inode.set_gid(gid);
        }
        if let Some(atime) = self.atime {
            inode.atime.set(atime.0);
        }
        if let Some(mtime) = self.mtime {
            inode.mtime.set(mtime.0);
        }
        if let Some(flags) = self.flags {
            inode.uflags.set(flags);
        }
        if let Some(request) = self.compression_request {
            inode.comp_algo = request;
        }
        if let Some(request) = self.check_request {
            inode.check_algo = request;
        }
        inode.ctime.set(self.ctime.unwrap_or(self.now).0);
    }
}

impl Change for SetAttributes {
    /// The inode as it is then.
    type Output = Attributes;

    fn gather(&self, view: &mut View<'_>) -> Result<(Attributes, Plan), Stop> {
        if let Some(size) = self.size {
            let mut edit = FileEdit::begin(view, &self.pfs, self.inum)?;
            if size < edit.size() {
                edit.frees();
            }
            edit.resize(view, size)?;
            let allocated = edit.node().allocated_bytes(view, &self.pfs)?;
            edit.inode().mtime.set(self.now.0);
            self.set(edit.inode());
            let attributes = Attributes::of_raw(edit.inode(), allocated)?;
            return Ok((attributes, edit.finish(None)));
        }
        writable(view, &self.pfs)?;
        let node = Node::find(view, &self.pfs, self.inum)?;
        let mut inode = node.raw();
        self.set(&mut inode);
        let allocated = node.allocated_bytes(view, &self.pfs)?;
        let attributes = Attributes::of_raw(&inode, allocated)?;
        let mut plan = Plan::new(self.pfs.id());
        plan.set_inode(inode, node.standing());
        Ok((attributes, plan))
    }
}
