//! The tree above the leaves: which freemap blocks there are, and how they hang together (media
//! format 4.3 c, 8.1).
//!
//! Invariants: entries stand in the order of their keys and do not overlap; what lies below an
//! entry covers less than it and lies in its range, so recursion ends after five levels; a node
//! holds everything that fits into it. Entries keep every byte that is not ours to set.
//!
//! It knows nothing of chunks, nor of which zones the volume has.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::{FromZeros, IntoBytes};

use crate::error::{BlockKind, Damage, DamageKind, Place};
use crate::media::ZONE_LEN;
use crate::media::blockref::{Blockref, span_last};
use crate::media::freemap::{FREEMAP_BLOCK_LEN, SEGMENT_CHUNKS};
use crate::media::raw::RawBlockref;
use crate::units::MediaOffset;

/// Entries of a node.
const NODE_SLOTS: usize = 256;
/// Span of a leaf.
pub(super) const LEAF_BITS: u8 = 30;
/// Each level covers this many bits more than the one below.
const LEVEL_BITS: u8 = 8;
/// Span of a node of the highest level.
const TOP_BITS: u8 = 62;
/// `methods` of every freemap blockref: the freemap's check, no compression.
const METHODS: u8 = 0x50;

const _: () = assert!(NODE_SLOTS * size_of::<RawBlockref>() == FREEMAP_BLOCK_LEN);
const _: () = assert!(SEGMENT_CHUNKS == NODE_SLOTS);

/// A table of freemap blockrefs: a node, or the one in the header.
#[derive(Default, Debug)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    /// Entries were moved, and the table was not sealed since. (What changes below shows anyway.)
    pub(super) is_changed: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// What stands in the table; without `data_off` as long as the block was never written.
    pub(super) raw: RawBlockref,
    /// What is below, if it is a node that is in memory.
    pub(super) below: Option<Box<Table>>,
    /// The commit that last gave its block a place.
    pub(super) placed_in: u64,
}

impl Entry {
    const fn new(raw: RawBlockref) -> Self {
        Self { raw, below: None, placed_in: 0 }
    }

    fn key(&self) -> u64 {
        self.raw.key.get()
    }

    fn covers(&self, key: u64) -> bool {
        (self.key()..=span_last(self.key(), self.raw.key_bits)).contains(&key)
    }

    pub(super) const fn is_leaf(&self) -> bool {
        self.raw.key_bits == LEAF_BITS
    }

    /// The zones that it covers.
    pub(super) fn zones(&self) -> Range<u64> {
        zones(self.key(), self.raw.key_bits)
    }
}

/// The zones of a span; they end where the key space does.
pub(super) fn zones(key: u64, key_bits: u8) -> Range<u64> {
    key / ZONE_LEN..span_last(key, key_bits) / ZONE_LEN + 1
}

impl Table {
    /// Reads the slots of the header, or of the node `above`.
    ///
    /// # Errors
    /// An entry that does not belong there: what follows it cannot be trusted either.
    pub(super) fn parse(slots: &[RawBlockref], above: Option<&Blockref>) -> Result<Self, Damage> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut previous_last = None;
        for raw in slots.iter().filter(|raw| raw.kind != 0) {
            let blockref = check_entry(raw, above, previous_last)?;
            previous_last = Some(blockref.last_key());
            entries.push(Entry::new(*raw));
        }
        Ok(Self { entries, is_changed: false })
    }

    /// The entry for the block with this span, whether it is in memory or not.
    pub(super) fn find(&mut self, key: u64, key_bits: u8) -> Option<&mut Entry> {
        let mut table = self;
        loop {
            let entry = table.covering(key)?;
            if entry.raw.key_bits <= key_bits {
                let is_it = entry.key() == key && entry.raw.key_bits == key_bits;
                return is_it.then_some(entry);
            }
            table = entry.below.as_deref_mut()?;
        }
    }

    /// The last entry on the way down to `key` that is known.
    pub(super) fn deepest(&self, key: u64) -> Option<&Entry> {
        let mut found = None;
        let mut table = Some(self);
        while let Some(entry) = table.and_then(|table| table.entries.get(table.place_of(key)?)) {
            found = Some(entry);
            table = entry.below.as_deref();
        }
        found
    }

    /// Every node on the way to `key` has to be written.
    pub(super) fn touch(&mut self, key: u64) {
        let below = self.covering(key).and_then(|entry| entry.below.as_deref_mut());
        if let Some(below) = below {
            below.is_changed = true;
            below.touch(key);
        }
    }

    fn place_of(&self, key: u64) -> Option<usize> {
        let behind = self.entries.partition_point(|entry| entry.key() <= key);
        let place = behind.checked_sub(1)?;
        self.entries.get(place).filter(|entry| entry.covers(key))?;
        Some(place)
    }

    fn covering(&mut self, key: u64) -> Option<&mut Entry> {
        let place = self.place_of(key)?;
        self.entries.get_mut(place)
    }

    /// Adds a leaf for `zone`, below the node that covers it, and nodes as they are needed.
    /// `avail` is the hint that its blockref carries for ever (media format 8.3).
    ///
    /// It has to be sealed with the next commit. Returns whether it has a place now; not so below a node that is not in memory.
    pub(super) fn add_leaf(&mut self, zone: u64, avail: u64, slots: usize) -> bool {
        let Some(key) = zone.checked_mul(ZONE_LEN) else {
            return false;
        };
        let mut raw = fresh(BlockKind::FreemapLeaf, key, LEAF_BITS);
        if let Some(hint) = raw.check.get_mut(8..16) {
            hint.copy_from_slice(&avail.to_le_bytes());
        }
        self.insert(raw, slots)
    }

    fn insert(&mut self, leaf: RawBlockref, slots: usize) -> bool {
        loop {
            if let Some(entry) = self.covering(leaf.key.get()) {
                return match &mut entry.below {
                    Some(below) => below.insert(leaf, NODE_SLOTS),
                    None => false,
                };
            }
            if self.entries.len() < slots {
                let place = self.entries.partition_point(|entry| entry.key() < leaf.key.get());
                self.entries.insert(place, Entry::new(leaf));
                return true;
            }
            // Each turn lifts an entry by a level, so this ends.
            if !self.push_down() {
                return false;
            }
        }
    }

    /// Makes a node for the lowest of the entries that cover least, and moves into it all that
    /// fits (media format 4.3 c).
    fn push_down(&mut self) -> bool {
        let smallest = self.entries.iter().map(|entry| (entry.raw.key_bits, entry.key())).min();
        let Some((bits, key)) = smallest.filter(|(bits, _)| *bits < TOP_BITS) else {
            return false;
        };
        let bits = bits + LEVEL_BITS;
        let key = key >> bits << bits;
        let last = span_last(key, bits);
        let start = self.entries.partition_point(|entry| entry.key() < key);
        let end = self.entries.partition_point(|entry| entry.key() <= last);
        let moved: Vec<Entry> = self.entries.drain(start..end).collect();
        let below = Self { entries: moved, is_changed: true };
        let raw = fresh(BlockKind::FreemapNode, key, bits);
        self.entries.insert(start, Entry { below: Some(Box::new(below)), ..Entry::new(raw) });
        self.is_changed = true;
        true
    }

    /// Bytes allocated for what is below (media format 3.2), by the blockrefs.
    pub(super) fn data_count(&self) -> u64 {
        self.entries.iter().fold(0, |sum: u64, entry| {
            let [count, _] = statistics(&entry.raw);
            let below = if entry.is_leaf() { 0 } else { count };
            sum.saturating_add(FREEMAP_BLOCK_LEN as u64).saturating_add(below)
        })
    }

    /// The node as it goes to media.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FREEMAP_BLOCK_LEN);
        for entry in &self.entries {
            bytes.extend_from_slice(entry.raw.as_bytes());
        }
        bytes.resize(FREEMAP_BLOCK_LEN, 0);
        bytes
    }
}

/// `data_count` and `inode_count` of a node's blockref.
fn statistics(raw: &RawBlockref) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = raw.embed;
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
}

/// A blockref for a block that was never written.
fn fresh(kind: BlockKind, key: u64, key_bits: u8) -> RawBlockref {
    let mut raw = RawBlockref::new_zeroed();
    raw.kind = if kind == BlockKind::FreemapLeaf { 6 } else { 5 };
    raw.methods = METHODS;
    raw.key_bits = key_bits;
    raw.key.set(key);
    raw
}

fn check_entry(
    raw: &RawBlockref,
    above: Option<&Blockref>,
    previous_last: Option<u64>,
) -> Result<Blockref, Damage> {
    let (key, offset) = (raw.key.get(), raw.data_off.get() & !0x3f);
    let kind = if raw.kind == 6 { BlockKind::FreemapLeaf } else { BlockKind::FreemapNode };
    let place = Place { kind, offset: (offset != 0).then_some(MediaOffset(offset)), key };
    let damage = |kind| Damage::new(place, kind);
    let blockref = Blockref::parse(raw)
        .map_err(|fault| damage(DamageKind::Blockref(fault)))?
        .filter(|blockref| {
            matches!(blockref.kind(), BlockKind::FreemapNode | BlockKind::FreemapLeaf)
        })
        .ok_or_else(|| damage(DamageKind::NotAllowed))?;
    if previous_last.is_some_and(|previous| key <= previous) {
        return Err(damage(DamageKind::KeyOrder));
    }
    if let Some(above) = above {
        if blockref.key_bits() >= above.key_bits() {
            return Err(damage(DamageKind::Nesting));
        }
        let (low, high) = (above.key(), above.last_key());
        if key < low || blockref.last_key() > high {
            return Err(damage(DamageKind::KeyRange { low, high }));
        }
    }
    Ok(blockref)
}
