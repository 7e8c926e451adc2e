//! Finding data and holes of a file without reading it.

use super::blocks::{blocks, index_of};
use super::node::Node;
use super::pfs::Pfs;
use crate::engine::{Operation, Stop, View};
use crate::error::Error;
use crate::media::FILE_BLOCK_LEN;
use crate::media::inode::ObjectKind;
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
        let last = index_of(size - 1);
        let mut at = self.offset;
        loop {
            // Batches keep a large file from being listed as a whole.
            let (found, next) = blocks(view, &self.pfs, &node, index_of(at), last, BATCH)?;
            match self.target {
                SeekTarget::Data => {
                    if let Some((index, _)) = found.first() {
                        return Ok(at.max(index * FILE_BLOCK_LEN));
                    }
                }
                SeekTarget::Hole => {
                    for (index, _) in &found {
                        if index_of(at) != *index {
                            return Ok(at);
                        }
                        at = (index + 1).saturating_mul(FILE_BLOCK_LEN);
                        if at >= size {
                            return Ok(size);
                        }
                    }
                }
            }
            match next {
                Some(next) if self.target == SeekTarget::Hole && index_of(at) != next => {
                    return Ok(at);
                }
                Some(next) => at = at.max(next.saturating_mul(FILE_BLOCK_LEN)),
                None if self.target == SeekTarget::Hole => return Ok(at),
                None => return Err(Error::NoData.into()),
            }
        }
    }
}

/// Blocks that are looked at in one go.
const BATCH: usize = 512;
