//! Making an inode with a name: files, directories, links, devices (media format 6.6).

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::change::{living_directory, new_inode, new_key, put_name, touch, writable};
use super::pfs::Pfs;
use crate::dirty::{Contents, DirtyBlock, Edit, Plan, Standing};
use crate::engine::{Change, Stop, View};
use crate::error::Error;
use crate::media::check::Verified;
use crate::media::dirhash::NAME_BIT;
use crate::media::inode::{DIRECT_DATA_MAX, OP_DIRECT_DATA, ObjectKind};
use crate::media::raw::RawInode;
use crate::units::{Inum, WallTime};

/// Longest target of a symbolic link.
pub const TARGET_LEN_MAX: usize = 4095;
/// A directory whose new files take over its group.
const SETGID: u32 = 0o2000;

/// What to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum New {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device, major and minor number.
    CharDevice(u32, u32),
    /// A block device, major and minor number.
    BlockDevice(u32, u32),
}

impl New {
    /// The kind of object that it is.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        match self {
            Self::File => ObjectKind::Regular,
            Self::Directory => ObjectKind::Directory,
            Self::Symlink(_) => ObjectKind::Symlink,
            Self::Fifo => ObjectKind::Fifo,
            Self::Socket => ObjectKind::Socket,
            Self::CharDevice(..) => ObjectKind::CharDevice,
            Self::BlockDevice(..) => ObjectKind::BlockDevice,
        }
    }
}

/// Makes an inode and its name.
#[derive(Clone, Debug)]
pub struct Create {
    /// The tree.
    pub pfs: Pfs,
    /// The directory that the name is made in.
    pub directory: Inum,
    /// The name.
    pub name: Vec<u8>,
    /// What to make.
    pub new: New,
    /// Permission, set-id and sticky bits, the creator's mask applied.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group; a directory with the set-group-id bit gives its own instead.
    pub gid: u32,
    /// Now.
    pub now: WallTime,
}

impl Change for Create {
    type Output = Attributes;

    fn gather(&self, view: &mut View<'_>) -> Result<(Attributes, Plan), Stop> {
        let tree = writable(view, &self.pfs)?;
        let directory = living_directory(view, &self.pfs, self.directory)?;
        let key = new_key(view, &self.pfs, &directory, &self.name)?;
        let inum = tree.next_inum();
        if inum.0 & NAME_BIT != 0 {
            return Err(Error::NoSpace.into());
        }
        let kind = self.new.kind();
        let mut inode = new_inode(inum, kind, &directory, self.now);
        self.set_owner(&mut inode, &directory.inode());
        let block = self.set_contents(&mut inode)?;
        let attributes = Attributes::of_raw(&inode, 0)?;
        let mut plan = Plan::new(self.pfs.id());
        touch(&mut plan, &directory, self.now);
        plan.set_inode(inode, Standing::New);
        plan.edits.push(put_name(directory.inum(), key, &self.name, inum, kind));
        plan.edits.extend(block.map(|block| Edit::Block { inum, index: 0, block }));
        plan.next_inum = Some(Inum(inum.0 + 1));
        Ok((attributes, plan))
    }
}

impl Create {
    fn set_owner(&self, inode: &mut RawInode, directory: &crate::media::inode::Inode<'_>) {
        let inherits = directory.mode() & SETGID != 0;
        let gid = if inherits { directory.gid() } else { self.gid };
        let mut mode = self.mode & 0o7777;
        if inherits && self.new == New::Directory {
            mode |= SETGID;
        }
        inode.mode.set(mode);
        inode.set_uid(self.uid);
        inode.set_gid(gid);
    }

    /// What an inode that is neither file nor directory holds; a long target needs a block.
    fn set_contents(&self, inode: &mut RawInode) -> Result<Option<DirtyBlock>, Error> {
        match &self.new {
            New::CharDevice(major, minor) | New::BlockDevice(major, minor) => {
                inode.rmajor.set(*major);
                inode.rminor.set(*minor);
            }
            New::Symlink(target) => {
                if target.is_empty() {
                    return Err(Error::NoEntry);
                }
                if target.len() > TARGET_LEN_MAX {
                    return Err(Error::NameTooLong);
                }
                inode.size.set(target.len() as u64);
                if target.len() as u64 > DIRECT_DATA_MAX {
                    inode.op_flags &= !OP_DIRECT_DATA;
                    let contents = Contents::new(Verified::ours(target.clone()));
                    return Ok(Some(DirtyBlock::Bytes(contents)));
                }
                inode.content[..target.len()].copy_from_slice(target);
            }
            New::File | New::Directory | New::Fifo | New::Socket => {}
        }
        Ok(None)
    }
}
