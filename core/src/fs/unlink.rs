//! Taking names away, and letting go of what has none (media format 6.6).

use alloc::vec::Vec;

use super::change::{drop_name, existing, touch, writable};
use super::names::{self, named};
use super::node::Node;
use super::pfs::Pfs;
use crate::dirty::{Edit, Plan, Standing};
use crate::engine::{Change, Stop, View};
use crate::error::Error;
use crate::media::inode::ObjectKind;
use crate::units::{Inum, WallTime};

/// Which kind of object may lose its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Victim {
    /// Anything but a directory: `unlink`.
    File,
    /// An empty directory: `rmdir`.
    Directory,
}

/// Takes a name away.
#[derive(Clone, Debug)]
pub struct Unlink {
    /// The tree.
    pub pfs: Pfs,
    /// The directory.
    pub directory: Inum,
    /// The name.
    pub name: Vec<u8>,
    /// Which kind of object it may name.
    pub victim: Victim,
    /// Whether the object may be in use without a name: it then stays until [`Release`].
    pub keep: bool,
    /// Now.
    pub now: WallTime,
}

impl Change for Unlink {
    /// The inode that lost a name.
    type Output = Inum;

    fn gather(&self, view: &mut View<'_>) -> Result<(Inum, Plan), Stop> {
        writable(view, &self.pfs)?;
        let directory = Node::find_directory(view, &self.pfs, self.directory)?;
        let entry = existing(view, &self.pfs, &directory, &self.name)?;
        let node = named(view, &self.pfs, &entry)?;
        match (self.victim, node.kind()) {
            (Victim::File, ObjectKind::Directory) => return Err(Error::IsDirectory.into()),
            (Victim::File, _) => {}
            (Victim::Directory, ObjectKind::Directory) => {
                names::check_empty(view, &self.pfs, &node)?;
            }
            (Victim::Directory, _) => return Err(Error::NotDirectory.into()),
        }
        let mut plan = Plan::new(self.pfs.id());
        plan.frees = true;
        touch(&mut plan, &directory, self.now);
        let (directory, key) = (directory.inum(), entry.key);
        plan.edits.push(Edit::Name { directory, key, name: None });
        drop_name(&mut plan, &node, self.now, self.keep);
        Ok((node.inum(), plan))
    }
}

/// Lets go of an inode that nobody uses any more: if it has no name, it goes.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// The tree.
    pub pfs: Pfs,
    /// The inode.
    pub inum: Inum,
}

impl Change for Release {
    type Output = ();

    fn gather(&self, view: &mut View<'_>) -> Result<((), Plan), Stop> {
        writable(view, &self.pfs)?;
        let mut plan = Plan::new(self.pfs.id());
        plan.frees = true;
        match Node::find(view, &self.pfs, self.inum) {
            Ok(node) if node.standing() == Standing::Unlinked => {
                plan.edits.push(Edit::Remove { inum: self.inum });
            }
            Ok(_) | Err(Stop::Fail(Error::NoInode(_))) => {}
            Err(stop) => return Err(stop),
        }
        Ok(((), plan))
    }
}
