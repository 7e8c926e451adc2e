//! One table of blockrefs: a region of a block, and the keys that it covers.

use core::ops::Range;

use crate::engine::Block;
use crate::error::{BlockKind, Damage, DamageKind, Place};
use crate::media::blockref::{Blockref, slots, span_last};
use crate::media::inode::{CONTENT_START, INODE_LEN};
use crate::media::raw::RawBlockref;

/// What the tree hangs in, which decides what its leaves may be (media format 3, 6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// The super-root inode: roots of PFSs.
    SuperRoot,
    /// The root inode of a PFS: its inodes, and the names of its root directory.
    PfsRoot,
    /// Any other directory: names.
    Directory,
    /// A file or symbolic link: contents.
    File,
    /// The volume header: the freemap.
    Freemap,
}

impl Holder {
    /// Whether a leaf of this kind belongs into the tree.
    #[must_use]
    pub const fn allows(self, kind: BlockKind) -> bool {
        match kind {
            BlockKind::Indirect => !matches!(self, Self::Freemap),
            BlockKind::Inode => matches!(self, Self::SuperRoot | Self::PfsRoot),
            BlockKind::Dirent => matches!(self, Self::PfsRoot | Self::Directory),
            BlockKind::Data => matches!(self, Self::File),
            BlockKind::FreemapNode | BlockKind::FreemapLeaf => matches!(self, Self::Freemap),
            BlockKind::Volume => false,
        }
    }
}

/// A table of blockrefs and the keys that it covers.
#[derive(Clone, Debug)]
pub struct Table {
    block: Block,
    region: Range<usize>,
    holder: Holder,
    place: Place,
    low: u64,
    high: u64,
    /// Log2 of the keys covered: 64 at the root of a tree.
    key_bits: u8,
}

impl Table {
    /// The table of an inode without direct data.
    #[must_use]
    pub const fn of_inode(block: Block, place: Place, holder: Holder) -> Self {
        let region = CONTENT_START..INODE_LEN;
        Self { block, region, holder, place, low: 0, high: u64::MAX, key_bits: 64 }
    }

    /// The table in the indirect block (or freemap node) that `blockref`, found in `self`, refers
    /// to.
    ///
    /// # Errors
    /// It covers no less than the table that it hangs in.
    pub fn below(&self, blockref: &Blockref, block: Block) -> Result<Self, Damage> {
        Self::of_indirect(block, blockref, self.holder, self.key_bits)
    }

    /// As [`Table::below`], for who holds no table: `parent_bits` is the log2 of the keys that the
    /// table above covers, 64 at the root.
    ///
    /// # Errors
    /// It covers no less than the table that it hangs in.
    pub fn of_indirect(
        block: Block,
        blockref: &Blockref,
        holder: Holder,
        parent_bits: u8,
    ) -> Result<Self, Damage> {
        if blockref.key_bits() >= parent_bits {
            return Err(Damage::new(blockref.place(), DamageKind::Nesting));
        }
        Ok(Self {
            region: 0..block.len(),
            block,
            holder,
            place: blockref.place(),
            low: blockref.key(),
            high: blockref.last_key(),
            key_bits: blockref.key_bits(),
        })
    }

    /// What the tree hangs in.
    #[must_use]
    pub const fn holder(&self) -> Holder {
        self.holder
    }

    /// What it stands in, for messages.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// First and last key that it covers.
    #[must_use]
    pub const fn bounds(&self) -> (u64, u64) {
        (self.low, self.high)
    }

    /// Log2 of the keys that it covers: 64 at the root of a tree.
    #[must_use]
    pub const fn key_bits(&self) -> u8 {
        self.key_bits
    }

    /// Its slots, empty ones included, in media order.
    #[must_use]
    pub fn slots(&self) -> &[RawBlockref] {
        self.block.get(self.region.clone()).map_or(&[], slots)
    }

    /// All entries, if they fill the front of the block in good order and nothing lies behind them:
    /// then they can be searched by halves. Everybody writes full tables like that; where it is
    /// not so, [`Table::check_order`] of each entry tells what is wrong, if anything is.
    #[must_use]
    pub fn rows(&self) -> Option<&[RawBlockref]> {
        if self.region != (0..self.block.len()) {
            return None;
        }
        let count = self.block.rows(|bytes| ascending(slots(bytes)))?;
        let rows = self.slots().get(..count)?;
        let is_within = match (rows.first(), rows.last()) {
            (Some(first), Some(last)) => {
                first.key.get() >= self.low && span_last(last.key.get(), last.key_bits) <= self.high
            }
            _ => true,
        };
        is_within.then_some(rows)
    }

    /// Reads `raw`, a non-empty slot of this table; `previous_last` is the last key of the entry
    /// before it.
    ///
    /// # Errors
    /// What keeps it from being an entry of this table.
    pub fn entry(
        &self,
        raw: &RawBlockref,
        previous_last: Option<u64>,
    ) -> Result<Option<Blockref>, Damage> {
        self.check_order(raw, previous_last)?;
        let damage = |kind| Damage::new(raw_place(raw), kind);
        let blockref = Blockref::parse(raw).map_err(|fault| damage(DamageKind::Blockref(fault)))?;
        match blockref {
            Some(blockref) if !self.holder.allows(blockref.kind()) => {
                Err(damage(DamageKind::NotAllowed))
            }
            other => Ok(other),
        }
    }

    /// Order and range, which concern a search even where it does not look at the entry itself.
    ///
    /// # Errors
    /// The entry stands where a search would miss it.
    pub fn check_order(&self, raw: &RawBlockref, previous_last: Option<u64>) -> Result<(), Damage> {
        let damage = |kind| Err(Damage::new(raw_place(raw), kind));
        let key = raw.key.get();
        if previous_last.is_some_and(|previous| key <= previous) {
            return damage(DamageKind::KeyOrder);
        }
        if key < self.low || span_last(key, raw.key_bits) > self.high {
            return damage(DamageKind::KeyRange { low: self.low, high: self.high });
        }
        Ok(())
    }
}

/// Entries at the front of `slots`, if they ascend without touching and nothing lies behind them.
fn ascending(slots: &[RawBlockref]) -> Option<usize> {
    let count = slots.iter().position(|raw| raw.kind == 0).unwrap_or(slots.len());
    let (rows, rest) = slots.split_at(count);
    let is_ascending = rows
        .windows(2)
        .all(|pair| span_last(pair[0].key.get(), pair[0].key_bits) < pair[1].key.get());
    (is_ascending && rest.iter().all(|raw| raw.kind == 0)).then_some(count)
}

/// How a message names a slot that may not even be a blockref.
fn raw_place(raw: &RawBlockref) -> Place {
    use crate::units::MediaOffset;
    let kind = match raw.kind {
        1 => BlockKind::Inode,
        2 => BlockKind::Indirect,
        4 => BlockKind::Dirent,
        5 => BlockKind::FreemapNode,
        6 => BlockKind::FreemapLeaf,
        _ => BlockKind::Data,
    };
    let offset = raw.data_off.get() & !0x3f;
    Place { kind, offset: (offset != 0).then_some(MediaOffset(offset)), key: raw.key.get() }
}
