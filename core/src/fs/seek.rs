//! Finding data and holes of a file without reading it.

use super::node::Node;
use super::pfs::Pfs;
use crate::engine::{Operation, Stop, View};
use crate::error::Error;
use crate::media::inode::ObjectKind;
use crate::tree::{first, range};
use crate::units::Inum;

/// What to look for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeekTarget {
    /// The next byte that is stored.
    Data,
    /// The next byte that is not; the end of the file is one.
    Hole,
}

/// `lseek` with `SEEK_DATA` or `SEEK_HOLE`. Holes have the grain of file blocks, 64 KiB.
#[derive(Clone, Copy, Debug)]
pub struct Seek {
    /// The tree.
    pub pfs: Pfs,
    /// The file.
    pub inum: Inum,
    /// Where to start.
    pub offset: u64,
    /// What to look for.
    pub target: SeekTarget,
}

impl Operation for Seek {
    type Output = u64;

    fn gather(&self, view: &mut View<'_>) -> Result<u64, Stop> {
        let node = Node::find(view, &self.pfs, self.inum)?;
        match node.kind() {
            ObjectKind::Regular => {}
            ObjectKind::Directory => return Err(Error::IsDirectory.into()),
            _ => return Err(Error::NotRegular.into()),
        }
        let size = node.inode().size();
        if self.offset >= size {
            return Err(Error::NoData.into());
        }
        if node.inode().has_direct_data() {
            return Ok(match self.target {
                SeekTarget::Data => self.offset,
                SeekTarget::Hole => size,
            });
        }
        let table = node.table(&self.pfs)?;
        match self.target {
            SeekTarget::Data => {
                let found = first(view, &table, self.offset, size - 1)?.ok_or(Error::NoData)?;
                Ok(found.key().max(self.offset))
            }
            SeekTarget::Hole => {
                let mut at = self.offset;
                loop {
                    // Batches keep a file without holes from being listed as a whole.
                    let blocks = range(view, &table, at, size - 1, 512)?;
                    for blockref in &blocks {
                        if blockref.key() > at {
                            return Ok(at);
                        }
                        at = blockref.last_key().saturating_add(1);
                        if at >= size {
                            return Ok(size);
                        }
                    }
                    if blocks.is_empty() {
                        return Ok(at);
                    }
                }
            }
        }
    }
}
