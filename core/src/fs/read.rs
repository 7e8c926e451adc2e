//! Reading the contents of a file (media format 7).

use alloc::vec::Vec;
use core::ops::Range;

use super::blocks::{FileBlock, blocks, index_of};
use super::node::Node;
use super::pfs::Pfs;
use crate::engine::{Block, Operation, Stop, View, Want};
use crate::error::Error;
use crate::media::FILE_BLOCK_LEN;
use crate::media::inode::{CONTENT_START, ObjectKind};
use crate::units::Inum;

/// Most bytes that one read gives; longer ones are cut.
pub const READ_MAX: usize = 8 << 20;

/// A stretch of a file's contents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Extent {
    /// This many zero bytes.
    Zeros(usize),
    /// These bytes of a block.
    Bytes(Block, Range<usize>),
}

impl Extent {
    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Zeros(len) => *len,
            Self::Bytes(_, range) => range.len(),
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads a range of a file or of a symbolic link.
///
/// Gives the bytes as extents of shared blocks, so that a host copies them once, to where it needs
/// them. Fewer bytes than were asked for mean the end of the file.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The tree.
    pub pfs: Pfs,
    /// The file.
    pub inum: Inum,
    /// Where to start, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub len: usize,
    /// How many bytes behind them will probably be asked for next; see [`ReadAhead`].
    pub ahead: usize,
}

impl Operation for Read {
    type Output = Vec<Extent>;

    fn gather(&self, view: &mut View<'_>) -> Result<Vec<Extent>, Stop> {
        let node = Node::find(view, &self.pfs, self.inum)?;
        match node.kind() {
            ObjectKind::Regular | ObjectKind::Symlink => {}
            ObjectKind::Directory => return Err(Error::IsDirectory.into()),
            _ => return Err(Error::NotRegular.into()),
        }
        contents(view, &self.pfs, &node, self.offset, self.len, self.ahead)
    }
}

/// Bytes `offset .. offset + len` of `node`, as far as it has them.
///
/// # Errors
/// [`Stop::Need`], or the first thing that is broken in that range.
pub fn contents(
    view: &mut View<'_>,
    pfs: &Pfs,
    node: &Node,
    offset: u64,
    len: usize,
    ahead: usize,
) -> Result<Vec<Extent>, Stop> {
    let inode = node.inode();
    let size = inode.size();
    let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let len = len.min(left).min(READ_MAX);
    if len == 0 {
        return Ok(Vec::new());
    }
    if inode.has_direct_data() {
        // parse() keeps direct data within the inode, and offset < size was seen above
        let start = CONTENT_START + usize::try_from(offset).unwrap_or(0);
        return Ok(alloc::vec![Extent::Bytes(node.block(), start..start + len)]);
    }
    // offset + len <= size <= i64::MAX
    let end = offset + len as u64;
    let (found, _) = blocks(view, pfs, node, index_of(offset), index_of(end - 1), usize::MAX)?;
    let mut stretches = Vec::with_capacity(found.len());
    for (index, block) in found {
        let block = match block {
            FileBlock::Changed(contents) => contents,
            // parse() gives every data blockref a location
            FileBlock::Stored(blockref) => match Want::of(&blockref) {
                None => continue,
                Some(want) => match view.want(&want) {
                    Some(block) => block?,
                    None => continue,
                },
            },
        };
        stretches.push((index * FILE_BLOCK_LEN, block));
    }
    view.settle()?;
    if ahead > 0 {
        advise_ahead(view, pfs, node, end, size.min(end.saturating_add(ahead as u64)));
    }
    Ok(assemble(stretches, offset, end))
}

/// Notes the blocks behind a read. What their tables are not in memory for is not worth a stop.
fn advise_ahead(view: &mut View<'_>, pfs: &Pfs, node: &Node, from: u64, to: u64) {
    if to <= from {
        return;
    }
    if let Ok((found, _)) = blocks(view, pfs, node, index_of(from), index_of(to - 1), usize::MAX) {
        for (_, block) in found {
            if let FileBlock::Stored(blockref) = block
                && let Some(want) = Want::of(&blockref)
            {
                view.advise(want);
            }
        }
    }
}

/// Lays blocks over a range of zeros. Blocks may be shorter than what they stand for.
fn assemble(blocks: Vec<(u64, Block)>, offset: u64, end: u64) -> Vec<Extent> {
    let mut extents = Vec::with_capacity(blocks.len() + 1);
    let mut at = offset;
    for (key, block) in blocks {
        let block_end = key.saturating_add((block.len() as u64).min(FILE_BLOCK_LEN)).min(end);
        if block_end <= at {
            continue;
        }
        let start = key.max(at);
        push_zeros(&mut extents, start - at);
        // both are within one file block of key
        let in_block = |position: u64| usize::try_from(position - key).unwrap_or(0);
        extents.push(Extent::Bytes(block, in_block(start)..in_block(block_end)));
        at = block_end;
    }
    push_zeros(&mut extents, end - at);
    extents
}

fn push_zeros(extents: &mut Vec<Extent>, len: u64) {
    // at most READ_MAX
    let len = usize::try_from(len).unwrap_or(READ_MAX);
    if len > 0 {
        extents.push(Extent::Zeros(len));
    }
}

/// Tells a reader who goes through a file from one who jumps, and how far to read ahead of him.
///
/// One for each open file; the window doubles while reads follow each other and closes with the
/// first that does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadAhead {
    expected: u64,
    window: usize,
}

impl ReadAhead {
    /// Smallest and largest window in bytes.
    const WINDOW: Range<usize> = (256 << 10)..(2 << 20);

    /// Takes note of a read; answers with how many bytes behind it are worth fetching.
    pub fn observe(&mut self, offset: u64, len: usize) -> usize {
        let follows = offset == self.expected;
        self.expected = offset.saturating_add(len as u64);
        self.window =
            if follows { (self.window * 2).clamp(Self::WINDOW.start, Self::WINDOW.end) } else { 0 };
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_for_who_reads_on_and_closes_for_who_jumps() {
        let mut ahead = ReadAhead::default();
        let windows: Vec<usize> = (0..6).map(|n| ahead.observe(n * 4096, 4096)).collect();
        assert_eq!(windows[..3], [256 << 10, 512 << 10, 1 << 20]);
        assert_eq!(windows[5], 2 << 20);
        assert_eq!(ahead.observe(1 << 30, 4096), 0);
    }
}
