//! From a directory and a name to an inode (media format 6.4).

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::names::{self, named};
use super::node::Node;
use super::pfs::Pfs;
use crate::engine::{Operation, Stop, View};
use crate::error::Error;
use crate::media::dirent::NAME_LEN_MAX;
use crate::units::Inum;

/// Looks up a name in a directory.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The tree.
    pub pfs: Pfs,
    /// The directory.
    pub directory: Inum,
    /// The name; `.` and `..` are understood.
    pub name: Vec<u8>,
}

impl Operation for Lookup {
    type Output = Attributes;

    fn gather(&self, view: &mut View<'_>) -> Result<Attributes, Stop> {
        let directory = Node::find_directory(view, &self.pfs, self.directory)?;
        if self.name.len() > NAME_LEN_MAX {
            return Err(Error::NameTooLong.into());
        }
        match &self.name[..] {
            b"." => return Attributes::of(view, &self.pfs, &directory),
            b".." => {
                let parent = directory.parent();
                let parent = Node::find_directory(view, &self.pfs, parent)?;
                return Attributes::of(view, &self.pfs, &parent);
            }
            _ => {}
        }
        let entry = names::find(view, &self.pfs, &directory, &self.name)?.ok_or(Error::NoEntry)?;
        let node = named(view, &self.pfs, &entry)?;
        Attributes::of(view, &self.pfs, &node)
    }
}
