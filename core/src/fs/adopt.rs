//! An inode that lost its name gets one (media format 6.6): for repair.

use alloc::vec::Vec;

use super::change::{living_directory, new_key, put_name, touch, writable};
use super::node::Node;
use super::pfs::Pfs;
use crate::dirty::{Plan, Standing};
use crate::engine::{Change, Stop, View};
use crate::units::{Inum, WallTime};

/// Gives an inode that no directory names a name, its only one. Unlike
/// [`Link`](super::Link) it takes directories too.
///
/// Who asks has to know that the inode has no name: that is not looked for.
#[derive(Clone, Debug)]
pub struct Adopt {
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

impl Change for Adopt {
    type Output = ();

    fn gather(&self, view: &mut View<'_>) -> Result<((), Plan), Stop> {
        writable(view, &self.pfs)?;
        let node = Node::find(view, &self.pfs, self.inum)?;
        let directory = living_directory(view, &self.pfs, self.directory)?;
        let key = new_key(view, &self.pfs, &directory, &self.name)?;
        let mut inode = node.raw();
        inode.nlinks.set(1);
        inode.iparent.set(directory.inum().0);
        inode.ctime.set(self.now.0);
        let mut plan = Plan::new(self.pfs.id());
        touch(&mut plan, &directory, self.now);
        plan.set_inode(inode, Standing::Named);
        plan.edits.push(put_name(directory.inum(), key, &self.name, node.inum(), node.kind()));
        Ok(((), plan))
    }
}
