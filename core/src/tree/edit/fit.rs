//! Makes entries fit into the slots of their table: splits and collapses (media format 4.3, 4.4).
//!
//! The ranges of new nodes are those of stock tools where that can be had in bulk: for files,
//! levels of aligned windows from the smallest entries upwards; for directories and sparse files,
//! the fuller half of the keys in use, again and again.
//!
//! Invariants:
//! * Every new node takes in at least two entries and covers fewer keys than its table. So each
//!   step makes progress and no depth exceeds 64.
//! * Keys with bit 63 set and clear never meet in one node: its span is at most 63 bits.
//! * A split is not undone by a collapse: leaves that a split moved down stay there, only tables
//!   come up again. So a full table that is split becomes two beside each other where their table
//!   has room, and the tree grows in depth only where it has not.
//!
//! It does not know what the entries refer to; it reads no blocks.

use alloc::vec;
use alloc::vec::Vec;

use super::{Entry, NewNode};
use crate::media::dirhash::NAME_BIT;
use crate::media::raw::RawBlockref;
use crate::tree::Holder;
use crate::units::Radix;

/// An entry on its way into a table.
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) hoist: Hoist,
}

/// Whether the entries of a node may stand in its table in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hoist {
    /// They stay where they are.
    Never,
    /// If they are tables only: the node was split, and would only make the tree deeper.
    Tables,
    /// If they are few: something was removed (media format 4.4).
    Few,
}

/// A table, as far as its entries do not tell.
pub(super) struct Shape {
    holder: Holder,
    /// Log2 of the keys that it covers: 64 at the root of a tree.
    key_bits: u8,
    /// The size of an indirect block; `None` for the table in an inode.
    radix: Option<Radix>,
    slots: usize,
}

impl Shape {
    /// The table in an inode.
    pub(super) const fn root(holder: Holder, slots: usize) -> Self {
        Self { holder, key_bits: 64, radix: None, slots }
    }

    /// The table in an indirect block.
    pub(super) const fn indirect(holder: Holder, key_bits: u8, radix: Radix) -> Self {
        Self { holder, key_bits, radix: Some(radix), slots: slots_of(radix) }
    }

    /// Whether it has to be split to hold `items`.
    pub(super) const fn is_overfull(&self, items: &[Item]) -> bool {
        items.len() > self.slots
    }

    /// Whether it is a small table of names, which are hashes and spread evenly: its tables are
    /// better off in the inode, and come up if they are no more than they have to be.
    fn is_step_of_names(&self, items: &[Item]) -> bool {
        let is_name = |item: &Item| item.entry.key() & NAME_BIT != 0;
        self.radix == Some(SMALL) && items.first().is_some_and(is_name)
    }

    /// The size of a new node in it (media format 4.3).
    fn radix_below(&self) -> Radix {
        match (self.radix, self.holder) {
            (None, Holder::SuperRoot | Holder::PfsRoot | Holder::Directory) => SMALL,
            (None, _) => USUAL,
            (Some(radix), _) => radix.max(USUAL),
        }
    }

    /// Log2 of the slots of a new node in it.
    fn slot_bits_below(&self) -> u8 {
        self.radix_below().bits() - SLOT_LEN_BITS
    }

    /// Log2 of the widest span of a new node in it.
    const fn key_bits_below(&self) -> u8 {
        self.key_bits.saturating_sub(1)
    }

    /// A new node in it, with whatever `items` need below.
    fn node(&self, key: u64, key_bits: u8, items: Vec<Item>) -> Entry {
        let radix = self.radix_below();
        let mut entries = fit(items, &Self::indirect(self.holder, key_bits, radix));
        // Everything lies in a part of the range: the table for that part does alone.
        match entries.pop() {
            Some(only @ Entry::Node(_)) if entries.is_empty() => return only,
            last => entries.extend(last),
        }
        Entry::Node(NewNode { key, key_bits, radix, old: None, entries })
    }
}

/// Makes `items`, ascending, fit into a table: collapses what shrank, then splits what is left
/// over.
pub(super) fn fit(items: Vec<Item>, shape: &Shape) -> Vec<Entry> {
    let mut items = collapse(items, shape.slots);
    if shape.is_overfull(&items) {
        items = match shape.holder {
            Holder::File => halves(levels(items, shape), shape),
            _ => halves(items, shape),
        };
        if !shape.is_step_of_names(&items) {
            items = collapse(items, shape.slots);
        }
    }
    items.into_iter().map(|item| item.entry).collect()
}

/// Puts entries of small nodes in the place of the nodes (media format 4.4).
fn collapse(items: Vec<Item>, slots: usize) -> Vec<Item> {
    if items.iter().all(|item| item.hoist == Hoist::Never) {
        return items;
    }
    let mut live = items.len();
    let mut collapsed = Vec::with_capacity(live);
    for item in items {
        match item {
            Item { entry: Entry::Node(node), hoist } if may_go(&node, hoist, live, slots) => {
                live += node.entries.len();
                live -= 1;
                let hoisted = node.entries.into_iter();
                collapsed.extend(hoisted.map(|entry| Item { entry, hoist: Hoist::Never }));
            }
            other => collapsed.push(other),
        }
    }
    collapsed
}

/// Whether the entries of `node` may and can stand in the table, with `live` entries, that it
/// hangs in. A node of one entry is not worth its block, even in a table that is too full.
fn may_go(node: &NewNode, hoist: Hoist, live: usize, slots: usize) -> bool {
    let inside = node.entries.len();
    let fits = live + inside <= slots + 1 && inside * 4 <= slots_of(node.radix) * 3;
    match hoist {
        Hoist::Never => false,
        Hoist::Tables => fits && node.entries.iter().all(is_table),
        Hoist::Few => fits || inside == 1,
    }
}

const fn is_table(entry: &Entry) -> bool {
    match entry {
        Entry::Kept(raw) => raw.kind == INDIRECT,
        Entry::Put(_) => false,
        Entry::Node(_) => true,
    }
}

/// Algorithm (b) of media format 4.3: halves the keys in use, and moves the fuller half into a
/// node.
///
/// Each turn moves at least half of the entries, so there are few. Once there is a node, the other
/// half becomes one as well unless it is small: both may then come up into the table above.
fn halves(mut items: Vec<Item>, shape: &Shape) -> Vec<Item> {
    let mut items_max = shape.slots;
    while items.len() > items_max
        && let [first, .., last] = &items[..]
    {
        let (low, high) = (first.entry.key(), last.entry.last_key());
        // Disjoint entries differ in a bit, and none lies across the halves that this bit makes.
        let half_bits = (low ^ high).checked_ilog2().map_or(0, narrow);
        let dense_bits = match shape.holder {
            Holder::File => smallest_bits(&items) + shape.slot_bits_below(),
            _ => shape.slot_bits_below(),
        };
        let wanted = half_bits.max(dense_bits);
        let key_bits = wanted.min(shape.key_bits_below());
        let middle = items.partition_point(|item| (item.entry.key() >> half_bits) & 1 == 0);
        let (range, key) = if key_bits > half_bits {
            (0..items.len(), low)
        } else if items.len() - middle > middle {
            (middle..items.len(), high)
        } else {
            (0..middle, low)
        };
        let at = range.start;
        let inside = items.drain(range).collect();
        let entry = shape.node((key >> key_bits) << key_bits, key_bits, inside);
        items.insert(at, Item { entry, hoist: Hoist::Tables });
        items_max = shape.slots.min(1 + slots_of(shape.radix_below()) / 4);
    }
    items
}

/// Algorithm (a) of media format 4.3: from the smallest entries upwards, each window of aligned
/// keys that is well filled becomes a node, until the rest fits.
///
/// In a sparse file it may not come to that: then halves have to do.
fn levels(mut items: Vec<Item>, shape: &Shape) -> Vec<Item> {
    let widest = shape.key_bits_below();
    let mut bits = smallest_bits(&items);
    while shape.is_overfull(&items) && bits + shape.slot_bits_below() <= widest {
        bits += shape.slot_bits_below();
        items = windows(items, bits, shape);
    }
    items
}

fn smallest_bits(items: &[Item]) -> u8 {
    items.iter().map(|item| item.entry.key_bits()).min().unwrap_or(0)
}

/// One level: windows of `bits`, from the lowest on, as long as there are too many entries.
fn windows(items: Vec<Item>, bits: u8, shape: &Shape) -> Vec<Item> {
    let mut excess = items.len().saturating_sub(shape.slots);
    let slots_below = slots_of(shape.radix_below());
    let mut level = Vec::with_capacity(items.len());
    let mut items = items.into_iter().peekable();
    while let Some(first) = items.next() {
        let window = first.entry.key() >> bits;
        let mut inside = vec![first];
        while excess > 0
            && let Some(next) = items.next_if(|next| next.entry.key() >> bits == window)
        {
            inside.push(next);
        }
        // A quarter of the slots, or most of what there is: in an inode that may be few.
        let most = (excess + shape.slots) / 2 + 1;
        if excess == 0 || inside.len() < most.min(slots_below / 4) {
            level.append(&mut inside);
            continue;
        }
        excess = excess.saturating_sub(inside.len() - 1);
        let hoist = if inside.len() > slots_below { Hoist::Tables } else { Hoist::Never };
        let entry = shape.node(window << bits, bits, inside);
        level.push(Item { entry, hoist });
    }
    level
}

/// Slots of an indirect block.
const fn slots_of(radix: Radix) -> usize {
    radix.len() / size_of::<RawBlockref>()
}

/// The logarithm of a `u64`.
const fn narrow(bits: u32) -> u8 {
    // at most 63
    (bits & 0x3f) as u8
}

const fn radix(bits: u8) -> Radix {
    match Radix::new(bits) {
        Some(radix) => radix,
        None => Radix::MAX,
    }
}

/// The kind of a blockref to an indirect block (media format 3).
const INDIRECT: u8 = 2;

/// Log2 of the length of a slot.
const SLOT_LEN_BITS: u8 = 7;

/// New nodes right under the inode of a directory.
const SMALL: Radix = radix(12);

/// New nodes elsewhere, unless their table is larger.
const USUAL: Radix = radix(14);

const _: () = {
    assert!(1 << SLOT_LEN_BITS == size_of::<RawBlockref>());
    assert!(SMALL.bits() == 12 && USUAL.bits() == 14);
};
