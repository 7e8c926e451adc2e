//! The blocks of a file as they are now: what the media has, under what was changed.

use alloc::vec::Vec;

use super::node::{Node, tree_of};
use super::pfs::Pfs;
use crate::dirty::{Contents, DirtyBlock};
use crate::engine::{Stop, View};
use crate::error::{Damage, DamageKind};
use crate::media::FILE_BLOCK_LEN;
use crate::media::blockref::Blockref;
use crate::tree::{Table, range};

/// A file block that is not a hole.
#[derive(Clone, Debug)]
pub enum FileBlock {
    /// On media.
    Stored(Blockref),
    /// In memory only.
    Changed(Contents),
}

/// Blocks by number, and the first number that the list does not speak of where it ended early.
pub type Listing = (Vec<(u64, FileBlock)>, Option<u64>);

/// Number of the block that holds byte `offset`.
#[must_use]
pub const fn index_of(offset: u64) -> u64 {
    offset / FILE_BLOCK_LEN
}

/// Blocks `first ..= last` of `node`, ascending, without holes, at most about `limit`: where they
/// are more, the list ends early, and the number of the first block that it does not speak of is
/// given beside it.
///
/// # Errors
/// [`Stop::Need`], or the first thing that is broken in that range.
pub fn blocks(
    view: &mut View<'_>,
    pfs: &Pfs,
    node: &Node,
    first: u64,
    last: u64,
    limit: usize,
) -> Result<Listing, Stop> {
    let Some(tree) = tree_of(view, pfs).filter(|tree| tree.head(node.inum()).is_some()) else {
        let found = match node.table(view, pfs)? {
            Some(table) => on_media(view, &table, first, last, limit)?,
            None => Vec::new(),
        };
        let next = next_of(&found, last, limit);
        let found = found.into_iter().map(|b| (index_of(b.key()), FileBlock::Stored(b))).collect();
        return Ok((found, next));
    };
    // Everything may have been changed, in which case no table has to be looked at.
    let inum = node.inum();
    let is_short = last - first < 64;
    let base = if is_short && (first..=last).all(|index| tree.block(inum, index).is_some()) {
        Vec::new()
    } else {
        match node.table(view, pfs)? {
            Some(table) => on_media(view, &table, first, last, limit)?,
            None => Vec::new(),
        }
    };
    let next = next_of(&base, last, limit);
    let covered = next.map_or(last, |next| next - 1);
    let mut blocks = Vec::new();
    for layer in tree.layers(inum) {
        for index in layer.blocks.range(first..=covered).map(|(index, _)| *index) {
            push_changed(&mut blocks, index, tree.block(inum, index))?;
        }
    }
    for blockref in base {
        let index = index_of(blockref.key());
        if tree.block(inum, index).is_none() {
            blocks.push((index, FileBlock::Stored(blockref)));
        }
    }
    blocks.sort_by_key(|(index, _)| *index);
    // both layers may know a block; what both gave is the same
    blocks.dedup_by_key(|(index, _)| *index);
    Ok((blocks, next))
}

fn push_changed(
    blocks: &mut Vec<(u64, FileBlock)>,
    index: u64,
    block: Option<DirtyBlock>,
) -> Result<(), Damage> {
    match block {
        Some(DirtyBlock::Bytes(contents)) => blocks.push((index, FileBlock::Changed(contents))),
        Some(DirtyBlock::Shared(raw)) => {
            if let Some(blockref) = parse(&raw)? {
                blocks.push((index, FileBlock::Stored(blockref)));
            }
        }
        Some(DirtyBlock::Hole) | None => {}
    }
    Ok(())
}

fn parse(raw: &crate::media::raw::RawBlockref) -> Result<Option<Blockref>, Damage> {
    use crate::error::{BlockKind, Place};
    Blockref::parse(raw).map_err(|fault| {
        let place = Place { kind: BlockKind::Data, offset: None, key: raw.key.get() };
        Damage::new(place, DamageKind::Blockref(fault))
    })
}

fn on_media(
    view: &mut View<'_>,
    table: &Table,
    first: u64,
    last: u64,
    limit: usize,
) -> Result<Vec<Blockref>, Stop> {
    let low = first.saturating_mul(FILE_BLOCK_LEN);
    let high = last.saturating_mul(FILE_BLOCK_LEN).saturating_add(FILE_BLOCK_LEN - 1);
    range(view, table, low, high, limit)
}

fn next_of(found: &[Blockref], last: u64, limit: usize) -> Option<u64> {
    let end = found.last().filter(|_| found.len() >= limit)?;
    Some(index_of(end.key()) + 1).filter(|next| *next <= last)
}
