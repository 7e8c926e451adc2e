//! Another name for an inode (media format 6.6).

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::change::{NAMES_MAX, living_directory, new_key, put_name, touch, writable};
use super::node::Node;
use super::pfs::Pfs;
use crate::dirty::{Plan, Standing};
use crate::engine::{Change, Stop, View};
use crate::error::Error;
use crate::media::inode::ObjectKind;
use crate::units::{Inum, WallTime};

/// Makes another name for an inode that is no directory.
#[derive(Clone, Debug)]
pub struct Link {
    /// The tree.
    pub pfs: Pfs,
    /// The inode.
    pub inum: Inum,
    /// The directory that the name is made in.
    pub directory: Inum,
    /// The name.
    pub name: Vec<u8>,
    /// Now.
    pub now: WallTime,
}

impl Change for Link {
    type Output = Attributes;

    fn gather(&self, view: &mut View<'_>) -> Result<(Attributes, Plan), Stop> {
        writable(view, &self.pfs)?;
        let node = Node::find(view, &self.pfs, self.inum)?;
        if node.kind() == ObjectKind::Directory {
            return Err(Error::IsDirectory.into());
        }
        if node.standing() == Standing::Unlinked {
            return Err(Error::NoEntry.into());
        }
        let directory = living_directory(view, &self.pfs, self.directory)?;
        let key = new_key(view, &self.pfs, &directory, &self.name)?;
        let mut inode = node.raw();
        if inode.nlinks.get() >= NAMES_MAX {
            return Err(Error::TooManyNames.into());
        }
        inode.nlinks.set(inode.nlinks.get() + 1);
        inode.ctime.set(self.now.0);
        let allocated = node.allocated_bytes(view, &self.pfs)?;
        let attributes = Attributes::of_raw(&inode, allocated)?;
        let mut plan = Plan::new(self.pfs.id());
        touch(&mut plan, &directory, self.now);
        plan.set_inode(inode, Standing::Named);
        plan.edits.push(put_name(directory.inum(), key, &self.name, node.inum(), node.kind()));
        Ok((attributes, plan))
    }
}
