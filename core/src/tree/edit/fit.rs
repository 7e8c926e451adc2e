//! Makes entries fit into the slots of their table: splits and collapses (media format 4.3, 4.4).
//!
//! The ranges of new nodes are those of stock tools where that can be had in bulk: for files,
//! levels of aligned windows from the smallest entries upwards; for directories, the fuller half
//! of the keys in use, again and again.
//!
//! Invariants:
//! * Every new node takes in at least two entries and covers fewer keys than its table. So each
//!   step makes progress and no depth exceeds 64.
//! * Keys with bit 63 set and clear never meet in one node: its span is at most 63 bits.
//! * What was split stays split: a collapse is only done where everything fits.
//!
//! It does not know what the entries refer to; it reads no blocks.

use alloc::vec;
use alloc::vec::Vec;

use super::{Entry, NewNode};
use crate::media::raw::RawBlockref;
use crate::tree::Holder;
use crate::units::Radix;

/// An entry on its way into a table.
pub(super) struct Item {
    pub(super) entry: Entry,
    /// Whether it is a node whose entries may stand in the table in its place.
    pub(super) hoist: bool,
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
        let entries = fit(items, &Self::indirect(self.holder, key_bits, radix));
        Entry::Node(NewNode { key, key_bits, radix, old: None, entries })
    }
}

/// Makes `items`, ascending, fit into a table: collapses what shrank, then splits what is left
/// over.
pub(super) fn fit(items: Vec<Item>, shape: &Shape) -> Vec<Entry> {
    let mut items = collapse(items, shape.slots);
    if items.len() > shape.slots {
        items = match shape.holder {
            Holder::File => levels(items, shape),
            _ => collapse(halves(items, shape), shape.slots),
        };
    }
    items.into_iter().map(|item| item.entry).collect()
}

/// Puts entries of small nodes in the place of the nodes (media format 4.4).
fn collapse(items: Vec<Item>, slots: usize) -> Vec<Item> {
    let mut live = items.len();
    let mut collapsed = Vec::with_capacity(live);
    for item in items {
        match item {
            Item { entry: Entry::Node(node), hoist: true } if is_small(&node, live, slots) => {
                live += node.entries.len();
                live -= 1;
                let hoisted = node.entries.into_iter();
                collapsed.extend(hoisted.map(|entry| Item { entry, hoist: false }));
            }
            other => collapsed.push(other),
        }
    }
    collapsed
}

/// Whether the entries of `node` are few, and fit into the table with `live` entries that it hangs
/// in. A node of one entry is never worth its block.
fn is_small(node: &NewNode, live: usize, slots: usize) -> bool {
    let inside = node.entries.len();
    let fits = live + inside <= slots + 1 && inside * 4 <= slots_of(node.radix) * 3;
    fits || inside == 1
}

/// Algorithm (b) of media format 4.3: halves the keys in use, and moves the fuller half into a
/// node.
///
/// Each turn moves at least half of the entries, so there are few. A rest that is too large to
/// collapse becomes a node as well, so that inode numbers in a row get nodes in a row. Afterwards,
/// nodes that had to be split on their own may collapse.
fn halves(mut items: Vec<Item>, shape: &Shape) -> Vec<Item> {
    let mut items_max = shape.slots;
    while items.len() > items_max
        && let [first, .., last] = &items[..]
    {
        let (low, high) = (first.entry.key(), last.entry.last_key());
        // Disjoint entries differ in a bit, and none lies across the halves that this bit makes.
        let half_bits = (low ^ high).checked_ilog2().map_or(0, narrow);
        let wanted = half_bits.max(shape.slot_bits_below());
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
        items.insert(at, Item { entry, hoist: true });
        items_max = shape.slots.min(1 + slots_of(shape.radix_below()) / 4 * 3);
    }
    items
}

/// Algorithm (a) of media format 4.3: from the smallest entries upwards, each window of aligned
/// keys that holds several becomes a node, until the rest fits.
///
/// Where windows hold one entry each (sparse files), wider ones do. The widest are the halves of
/// the table, and then two entries are left.
fn levels(mut items: Vec<Item>, shape: &Shape) -> Vec<Item> {
    let widest = shape.key_bits_below();
    let mut bits = items.iter().map(|item| item.entry.key_bits()).min().unwrap_or(0);
    while items.len() > shape.slots && bits < widest {
        // The windows of the level before hold one entry each: these have slots for theirs.
        bits = (bits + shape.slot_bits_below()).min(widest);
        items = windows(items, bits, shape);
    }
    items
}

/// One level: windows of `bits`, from the lowest on, as long as there are too many entries.
fn windows(items: Vec<Item>, bits: u8, shape: &Shape) -> Vec<Item> {
    let mut excess = items.len().saturating_sub(shape.slots);
    let mut level = Vec::with_capacity(items.len());
    let mut items = items.into_iter().peekable();
    while let Some(first) = items.next() {
        let window = first.entry.key() >> bits;
        if excess == 0 || items.peek().is_none_or(|next| next.entry.key() >> bits != window) {
            level.push(first);
            continue;
        }
        let mut inside = vec![first];
        while let Some(next) = items.next_if(|next| next.entry.key() >> bits == window) {
            inside.push(next);
        }
        excess = excess.saturating_sub(inside.len() - 1);
        let entry = shape.node(window << bits, bits, inside);
        level.push(Item { entry, hoist: false });
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
