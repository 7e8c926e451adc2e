//! The change of a tree in bulk: all edits of one tree are applied at once (media format 4).
//!
//! Nothing is written in place. Every table on the way to a changed leaf becomes a [`NewNode`],
//! which has no address yet; whole subtrees that no edit concerns stay as the blockref that they
//! were, unread. The flush gives the new nodes addresses from the leaves upwards, and frees what
//! [`Edited::dropped`] names.
//!
//! Invariants of the new tree, whatever the old one was:
//! * Tables are as media format 4.1 wants them: ascending, disjoint, in range, nested strictly
//!   narrower, at most 63 bits, and nothing beside a node that fits into it.
//! * Old references are either in the new tree, verbatim, or in `dropped`; never in both, never in
//!   neither. Replaced indirect blocks hand their unknown bytes on by [`NewNode::old`].
//! * What is not understood is not rewritten: damage in a table that an edit leads into fails the
//!   whole edit.
//! * The same blocks give the same answer, also after runs that missed some of them.
//!
//! Time and memory grow with the edits and with the tables that they touch.
//!
//! This module does not know what leaves mean, where space comes from, nor transactions. The
//! freemap's tree has fixed levels and is not changed here.

mod fit;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use self::fit::{Hoist, Item, Shape, fit};
use super::{Holder, Table};
use crate::engine::{Stop, View, Want};
use crate::error::{BlockKind, BlockrefFault, Damage, DamageKind, InodeFault};
use crate::media::blockref::{Blockref, span_last};
use crate::media::raw::RawBlockref;
use crate::units::Radix;

/// One change of the leaves of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edit {
    /// This leaf is there, in place of one with the same key.
    Put(RawBlockref),
    /// No leaf has this key; it need not have been there.
    Remove(u64),
    /// No leaf touches the keys `low ..= high`. Subtrees in the range go without being read.
    Cut {
        /// First key.
        low: u64,
        /// Last key.
        high: u64,
    },
}

impl Edit {
    /// First key that it is about.
    #[must_use]
    pub fn key(&self) -> u64 {
        match self {
            Self::Put(raw) => raw.key.get(),
            Self::Remove(key) => *key,
            Self::Cut { low, .. } => *low,
        }
    }

    /// Last key that it is about.
    #[must_use]
    pub fn last_key(&self) -> u64 {
        match self {
            Self::Put(raw) => span_last(raw.key.get(), raw.key_bits),
            Self::Remove(key) => *key,
            Self::Cut { high, .. } => *high,
        }
    }

    /// Whether it may be asked of the tree of `holder`.
    fn is_legal(&self, holder: Holder) -> bool {
        let Self::Put(raw) = self else {
            return self.key() <= self.last_key();
        };
        let kind = match raw.kind {
            1 => BlockKind::Inode,
            3 => BlockKind::Data,
            4 => BlockKind::Dirent,
            _ => return false,
        };
        let bits = leaf_bits(holder);
        holder.allows(kind) && raw.key_bits == bits && raw.key.get() & ((1 << bits) - 1) == 0
    }
}

/// What a table of the new tree holds in one slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// An entry of the old tree, verbatim: a leaf, or a whole subtree in which nothing changed.
    Kept(RawBlockref),
    /// A leaf as an [`Edit::Put`] gave it.
    Put(RawBlockref),
    /// A table that is to be written.
    Node(NewNode),
}

impl Entry {
    /// First key that it covers.
    #[must_use]
    pub fn key(&self) -> u64 {
        match self {
            Self::Kept(raw) | Self::Put(raw) => raw.key.get(),
            Self::Node(node) => node.key,
        }
    }

    /// Log2 of the number of keys that it covers.
    #[must_use]
    pub const fn key_bits(&self) -> u8 {
        match self {
            Self::Kept(raw) | Self::Put(raw) => raw.key_bits,
            Self::Node(node) => node.key_bits,
        }
    }

    /// Last key that it covers.
    #[must_use]
    pub fn last_key(&self) -> u64 {
        span_last(self.key(), self.key_bits())
    }
}

/// An indirect block that is to be written, and whatever below it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewNode {
    /// First key that it covers, a multiple of its span.
    pub key: u64,
    /// Log2 of the number of keys that it covers, at most 63.
    pub key_bits: u8,
    /// Its size: 4, 16 or 64 KiB.
    pub radix: Radix,
    /// The blockref of the indirect block that it replaces: what nobody understands in it is to be
    /// kept (media format 13, trap 33).
    pub old: Option<RawBlockref>,
    /// At least one and at most as many as it has slots, ascending.
    pub entries: Vec<Entry>,
}

/// What the old tree referred to and the new one does not.
///
/// It is about references: the block of a dropped leaf may live on under the [`Edit::Put`] that
/// replaced it, or in another tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// A leaf.
    Leaf(RawBlockref),
    /// An indirect block. What hung in it is accounted for on its own.
    Table(RawBlockref),
    /// An indirect block and everything below it, which was not read.
    Subtree(RawBlockref),
}

/// A tree after its edits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edited {
    /// What stands in the root table, ascending, at most as many as it has slots.
    pub entries: Vec<Entry>,
    /// What is no longer referred to, in no particular order.
    pub dropped: Vec<Dropped>,
}

/// Applies `edits` to the tree whose root table is `table` (media format 4.3, 4.4).
///
/// An edit that changes nothing leaves the entries as they were, and [`Edited::dropped`] empty.
///
/// # Errors
/// [`Stop::Need`], or the damage that was met on the way to an edit.
///
/// # Panics
/// If `edits` are not ascending and disjoint, or put what is no leaf of this tree.
pub fn edit(view: &mut View<'_>, table: &Table, edits: &[Edit]) -> Result<Edited, Stop> {
    assert!(
        edits.windows(2).all(|pair| pair[0].last_key() < pair[1].key()),
        "edits must be ascending and disjoint"
    );
    assert!(
        edits.iter().all(|edit| edit.is_legal(table.holder())),
        "edits must be legal leaves of their tree"
    );
    let mut editor = Editor { view, dropped: Vec::new(), missing: false };
    let edited = editor.root(table, edits);
    // Also a fault waits for the blocks that were missing before it: there may be another in them,
    // and the answer must not depend on which came first.
    editor.view.settle()?;
    Ok(Edited { entries: edited?, dropped: editor.dropped })
}

struct Editor<'v, 'a> {
    view: &'v mut View<'a>,
    dropped: Vec<Dropped>,
    /// Whether blocks are missing: the run only looks for more of them.
    missing: bool,
}

/// A table with its edits, before it is made to fit into its slots.
#[derive(Default)]
struct Merged {
    items: Vec<Item>,
    /// Whether it differs from the old table.
    changed: bool,
    /// Whether an entry went away, so that it may have become too small (media format 4.4).
    shrunk: bool,
}

impl Editor<'_, '_> {
    fn root(&mut self, table: &Table, edits: &[Edit]) -> Result<Vec<Entry>, Stop> {
        let place = table.place();
        if table.holder() == Holder::Freemap {
            return Err(Damage::new(place, DamageKind::NotAllowed).into());
        }
        // Below that, no split would make an entry fit.
        if table.slots().len() < ROOT_SLOTS {
            return Err(Damage::new(place, DamageKind::Inode(InodeFault::Length)).into());
        }
        let merged = self.merge(table, edits)?;
        if !merged.changed || self.missing {
            return Ok(merged.items.into_iter().map(|item| item.entry).collect());
        }
        Ok(fit(merged.items, &Shape::root(table.holder(), table.slots().len())))
    }

    /// Applies `edits`, which may reach beyond the table at both ends, to its entries.
    ///
    /// Recursion ends after at most 64 levels: [`verified`] wants each narrower than the last.
    fn merge(&mut self, table: &Table, edits: &[Edit]) -> Result<Merged, Stop> {
        let mut merged = Merged::default();
        let mut edits = edits;
        for old in verified(table)? {
            let before = edits.partition_point(|edit| edit.last_key() < old.key());
            merged.put_all(&edits[..before]);
            edits = &edits[before..];
            let touching = edits.partition_point(|edit| edit.key() <= old.last_key());
            let (here, _) = edits.split_at(touching);
            self.entry(table, &old, here, &mut merged)?;
            // A cut may go on behind the entry.
            let done = here.iter().take_while(|edit| edit.last_key() <= old.last_key()).count();
            edits = &edits[done..];
        }
        merged.put_all(edits);
        Ok(merged)
    }

    /// Applies `edits`, all of which touch `old`, to it.
    fn entry(
        &mut self,
        table: &Table,
        old: &Blockref,
        edits: &[Edit],
        merged: &mut Merged,
    ) -> Result<(), Stop> {
        if edits.is_empty() {
            merged.keep(old);
        } else if old.kind() == BlockKind::Indirect {
            self.indirect(table, old, edits, merged)?;
        } else {
            self.leaf(old, edits, merged);
        }
        Ok(())
    }

    fn leaf(&mut self, old: &Blockref, edits: &[Edit], merged: &mut Merged) {
        let put = edits.iter().find_map(|edit| match edit {
            Edit::Put(raw) => Some(raw),
            _ => None,
        });
        let removed = edits.iter().any(|edit| match edit {
            Edit::Put(_) => false,
            Edit::Remove(key) => *key == old.key(),
            Edit::Cut { .. } => true,
        });
        match put {
            Some(raw) if raw != old.raw() => {
                self.dropped.push(Dropped::Leaf(*old.raw()));
                merged.push(Entry::Put(*raw));
            }
            None if removed => {
                self.dropped.push(Dropped::Leaf(*old.raw()));
                merged.remove();
            }
            _ => merged.keep(old),
        }
    }

    fn indirect(
        &mut self,
        table: &Table,
        old: &Blockref,
        edits: &[Edit],
        merged: &mut Merged,
    ) -> Result<(), Stop> {
        let is_cut = |edit: &Edit| {
            let all = edit.key() <= old.key() && edit.last_key() >= old.last_key();
            all && matches!(edit, Edit::Cut { .. })
        };
        if edits.iter().any(is_cut) {
            self.dropped.push(Dropped::Subtree(*old.raw()));
            merged.remove();
            return Ok(());
        }
        let Some((below, radix)) = self.below(table, old)? else {
            merged.keep(old);
            return Ok(());
        };
        let inside = self.merge(&below, edits)?;
        if !inside.changed || self.missing {
            merged.keep(old);
            return Ok(());
        }
        self.dropped.push(Dropped::Table(*old.raw()));
        if inside.items.is_empty() {
            merged.remove();
            return Ok(());
        }
        merged.changed = true;
        merged.items.push(inside.into_node(table.holder(), old, radix));
        Ok(())
    }

    /// The table that `old` refers to, and its size; `None` if it is missing.
    fn below(&mut self, table: &Table, old: &Blockref) -> Result<Option<(Table, Radix)>, Stop> {
        // parse() gives every indirect blockref a location
        let Some(want) = Want::of(old) else {
            return Err(damage(old, BlockrefFault::Radix(0)).into());
        };
        let radix = want.location().radix;
        match self.view.want(&want) {
            None => {
                self.missing = true;
                Ok(None)
            }
            Some(block) => {
                let block = block?;
                if block.len() != radix.len() {
                    return Err(damage(old, BlockrefFault::Radix(radix.bits())).into());
                }
                Ok(Some((table.below(old, block)?, radix)))
            }
        }
    }
}

impl Merged {
    fn keep(&mut self, old: &Blockref) {
        self.items.push(Item { entry: Entry::Kept(*old.raw()), hoist: Hoist::Never });
    }

    /// The node that replaces `old`.
    fn into_node(self, holder: Holder, old: &Blockref, radix: Radix) -> Item {
        let shape = Shape::indirect(holder, old.key_bits(), radix);
        let hoist = if self.shrunk {
            Hoist::Few
        } else if shape.is_overfull(&self.items) {
            Hoist::Tables
        } else {
            Hoist::Never
        };
        let node = NewNode {
            key: old.key(),
            key_bits: old.key_bits(),
            radix,
            old: Some(*old.raw()),
            entries: fit(self.items, &shape),
        };
        Item { entry: Entry::Node(node), hoist }
    }

    fn push(&mut self, entry: Entry) {
        self.changed = true;
        self.items.push(Item { entry, hoist: Hoist::Never });
    }

    fn remove(&mut self) {
        self.changed = true;
        self.shrunk = true;
    }

    /// Takes in what is put where the old table has nothing.
    fn put_all(&mut self, edits: &[Edit]) {
        for edit in edits {
            if let Edit::Put(raw) = edit {
                self.push(Entry::Put(*raw));
            }
        }
    }
}

/// The entries of `table`, each of them understood.
fn verified(table: &Table) -> Result<Vec<Blockref>, Damage> {
    let mut entries = Vec::new();
    let mut previous_last = None;
    for raw in table.slots() {
        // Only the kind says that a slot is empty; its place in the order means nothing then.
        if raw.kind == 0 {
            continue;
        }
        let Some(blockref) = table.entry(raw, previous_last)? else {
            continue;
        };
        if blockref.kind() == BlockKind::Indirect {
            if blockref.key_bits() >= table.key_bits() {
                return Err(Damage::new(blockref.place(), DamageKind::Nesting));
            }
            // No leaf fits into it, but one may lie across it.
            if blockref.key_bits() < leaf_bits(table.holder()) {
                let (key, key_bits) = (blockref.key(), blockref.key_bits());
                return Err(damage(&blockref, BlockrefFault::Span { key, key_bits }));
            }
        }
        previous_last = Some(blockref.last_key());
        entries.push(blockref);
    }
    Ok(entries)
}

fn damage(blockref: &Blockref, fault: BlockrefFault) -> Damage {
    Damage::new(blockref.place(), DamageKind::Blockref(fault))
}

/// Log2 of the keys that a leaf covers (media format 3).
const fn leaf_bits(holder: Holder) -> u8 {
    match holder {
        Holder::File => 16,
        Holder::SuperRoot | Holder::PfsRoot | Holder::Directory => 0,
        Holder::Freemap => 30,
    }
}

/// Slots of the table in an inode (media format 4.1).
const ROOT_SLOTS: usize = 4;
