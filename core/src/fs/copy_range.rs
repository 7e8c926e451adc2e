//! Copying a range of a file, by sharing its blocks where that can be done.

use super::blocks::{FileBlock, blocks, index_of};
use super::contents::{FileEdit, SIZE_MAX};
use super::node::Node;
use super::pfs::Pfs;
use super::read::{Extent, contents};
use crate::dirty::{DirtyBlock, Plan};
use crate::engine::{Change, Stop, View};
use crate::error::Error;
use crate::media::FILE_BLOCK_LEN;
use crate::media::inode::ObjectKind;
use crate::units::{Inum, WallTime};

/// Most bytes that one request copies by sharing.
const SHARED_MAX: u64 = 256 << 20;
/// Most bytes that one request copies through memory.
const COPIED_MAX: usize = 1 << 20;

/// Copies a range of one regular file into another, or into itself.
///
/// Whole blocks at the same place within a block are shared, not copied: both files refer to them
/// from then on. A request may copy less than was asked for.
#[derive(Clone, Copy, Debug)]
pub struct CopyRange {
    /// The tree.
    pub pfs: Pfs,
    /// The file that is read.
    pub source: Inum,
    /// First byte that is read.
    pub source_offset: u64,
    /// The file that is written.
    pub target: Inum,
    /// Where the bytes go.
    pub target_offset: u64,
    /// How many bytes.
    pub len: u64,
    /// Now.
    pub now: WallTime,
}

impl Change for CopyRange {
    /// Bytes copied: fewer than were asked for mean that there is more to ask for, or the end of
    /// the source.
    type Output = u64;

    fn gather(&self, view: &mut View<'_>) -> Result<(u64, Plan), Stop> {
        let source = Node::find(view, &self.pfs, self.source)?;
        match source.kind() {
            ObjectKind::Regular => {}
            ObjectKind::Directory => return Err(Error::IsDirectory.into()),
            _ => return Err(Error::NotRegular.into()),
        }
        let mut edit = FileEdit::begin(view, &self.pfs, self.target)?;
        let len = self.len.min(source.inode().size().saturating_sub(self.source_offset));
        let (from, to) = (self.source_offset, self.target_offset);
        if len == 0 {
            return Ok((0, Plan::new(self.pfs.id())));
        }
        if to.checked_add(len).is_none_or(|end| end > SIZE_MAX) {
            return Err(Error::FileTooLarge.into());
        }
        // neither sum leaves the largest file
        if self.source == self.target && from < to + len && to < from + len {
            return Err(Error::InvalidArgument.into());
        }
        let is_aligned = from % FILE_BLOCK_LEN == 0 && to % FILE_BLOCK_LEN == 0;
        let whole = len.min(SHARED_MAX) / FILE_BLOCK_LEN * FILE_BLOCK_LEN;
        let copied = if is_aligned && whole > 0 && !source.inode().has_direct_data() {
            self.share(view, &source, &mut edit, whole)?
        } else {
            self.copy(view, &source, &mut edit, len)?
        };
        Ok((copied, edit.finish(Some(self.now))))
    }
}

impl CopyRange {
    fn share(
        &self,
        view: &mut View<'_>,
        source: &Node,
        edit: &mut FileEdit<'_>,
        len: u64,
    ) -> Result<u64, Stop> {
        let (first, target) = (index_of(self.source_offset), index_of(self.target_offset));
        let count = len / FILE_BLOCK_LEN;
        let end = self.target_offset.saturating_add(len);
        edit.leave_inode();
        if self.target_offset > edit.size() {
            edit.seal_tail(view)?;
        }
        let (found, _) = blocks(view, &self.pfs, source, first, first + count - 1, usize::MAX)?;
        let mut found = found.into_iter().peekable();
        for number in 0..count {
            let block = found.next_if(|(index, _)| *index == first + number);
            let block = match block {
                None => DirtyBlock::Hole,
                Some((_, FileBlock::Changed(contents))) => DirtyBlock::Bytes(contents),
                Some((_, FileBlock::Stored(blockref))) => {
                    let mut raw = *blockref.raw();
                    raw.key.set((target + number) * FILE_BLOCK_LEN);
                    DirtyBlock::Shared(raw)
                }
            };
            edit.push_block(target + number, block);
        }
        if end > edit.size() {
            edit.inode().size.set(end);
        }
        Ok(len)
    }

    fn copy(
        &self,
        view: &mut View<'_>,
        source: &Node,
        edit: &mut FileEdit<'_>,
        len: u64,
    ) -> Result<u64, Stop> {
        // up to the next boundary, so that the rest can be shared
        let to_boundary = FILE_BLOCK_LEN - self.source_offset % FILE_BLOCK_LEN;
        let same = self.source_offset % FILE_BLOCK_LEN == self.target_offset % FILE_BLOCK_LEN;
        let len = if same { len.min(to_boundary) } else { len };
        let len = usize::try_from(len).unwrap_or(COPIED_MAX).min(COPIED_MAX);
        let mut bytes = alloc::vec::Vec::with_capacity(len);
        for extent in contents(view, &self.pfs, source, self.source_offset, len, 0)? {
            match extent {
                Extent::Zeros(len) => bytes.resize(bytes.len() + len, 0),
                Extent::Bytes(block, range) => {
                    bytes.extend_from_slice(block.get(range).unwrap_or_default());
                }
            }
        }
        edit.write(view, self.target_offset, &bytes)?;
        Ok(bytes.len() as u64)
    }
}
