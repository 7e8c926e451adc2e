//! From an inode number back to a path, for messages about damage.

use alloc::vec::Vec;

use super::names::{self, Listed};
use super::node::Node;
use super::pfs::Pfs;
use crate::engine::{Operation, Stop, View};
use crate::error::Error;
use crate::media::dirhash::NAME_BIT;
use crate::units::Inum;

/// Directories that a path is followed up through; deeper ones have no message worth reading.
const DEPTH_MAX: usize = 4096;
/// Entries that are looked at in one go.
const BATCH: usize = 512;

/// Finds one path of an inode, by its own word on its parent.
///
/// Goes through whole directories: for messages, not for work. Damage on the way is stepped over,
/// and ends in [`Error::NoEntry`] where it hides the name.
#[derive(Clone, Copy, Debug)]
pub struct PathOf {
    /// The tree.
    pub pfs: Pfs,
    /// The inode.
    pub inum: Inum,
}

impl Operation for PathOf {
    type Output = Vec<u8>;

    fn gather(&self, view: &mut View<'_>) -> Result<Vec<u8>, Stop> {
        let mut names = Vec::new();
        let mut inum = self.inum;
        while inum != Inum::ROOT {
            if names.len() >= DEPTH_MAX {
                return Err(Error::NoEntry.into());
            }
            let parent = Node::find(view, &self.pfs, inum)?.parent();
            names.push(self.name_in(view, parent, inum)?);
            inum = parent;
        }
        if names.is_empty() {
            return Ok(b"/".to_vec());
        }
        Ok(names.iter().rev().flat_map(|name| b"/".iter().chain(name)).copied().collect())
    }
}

impl PathOf {
    fn name_in(&self, view: &mut View<'_>, parent: Inum, inum: Inum) -> Result<Vec<u8>, Stop> {
        let directory = Node::find_directory(view, &self.pfs, parent)?;
        let mut low = Some(NAME_BIT);
        while let Some(from) = low {
            let (listed, next) = names::list(view, &self.pfs, &directory, from, BATCH)?;
            low = next;
            for listed in listed {
                if let Listed::Entry(entry) = listed
                    && entry.target == inum
                {
                    return Ok(entry.name);
                }
            }
        }
        Err(Error::NoEntry.into())
    }
}
