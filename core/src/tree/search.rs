//! The search for a range of keys.

use alloc::vec::Vec;

use super::Table;
use crate::engine::{Stop, View, Want};
use crate::error::{BlockKind, Error};
use crate::media::blockref::{Blockref, span_last};
use crate::media::raw::RawBlockref;

/// Indirect blocks that one run notes as wanted side by side.
const SIBLINGS_MAX: usize = 16;

/// One thing that a search came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// A leaf.
    Leaf(Blockref),
    /// Keys `low ..= high` of the range cannot be told, because of `error`.
    Broken {
        /// First key that cannot be told.
        low: u64,
        /// Last key that cannot be told.
        high: u64,
        /// Why.
        error: Error,
    },
}

impl Found {
    /// First key that it is about.
    #[must_use]
    pub fn key(&self) -> u64 {
        match self {
            Self::Leaf(blockref) => blockref.key(),
            Self::Broken { low, .. } => *low,
        }
    }

    /// Last key that it is about.
    #[must_use]
    pub fn last_key(&self) -> u64 {
        match self {
            Self::Leaf(blockref) => blockref.last_key(),
            Self::Broken { high, .. } => *high,
        }
    }
}

/// The leaves of `table` that touch `low ..= high`, ascending, at most `limit`; where the media is
/// broken, one [`Found::Broken`] tells it in its place and the search goes on behind.
///
/// A table that is out of order is told behind its leaves, even beyond `limit`, and for all of its
/// keys: its leaves are there, but perhaps not the only ones.
///
/// # Errors
/// Only [`Stop::Need`].
pub fn search(
    view: &mut View<'_>,
    table: &Table,
    low: u64,
    high: u64,
    limit: usize,
) -> Result<Vec<Found>, Stop> {
    let mut search = Search { view, low, high, limit, found: Vec::new(), missing: 0 };
    search.descend(table);
    if search.missing > 0 {
        search.view.settle()?;
    }
    Ok(search.found)
}

/// As [`search`], for callers that can do nothing with a part: the first thing that is broken fails
/// it.
///
/// # Errors
/// [`Stop::Need`], or what is broken.
pub fn range(
    view: &mut View<'_>,
    table: &Table,
    low: u64,
    high: u64,
    limit: usize,
) -> Result<Vec<Blockref>, Stop> {
    search(view, table, low, high, limit)?
        .into_iter()
        .map(|found| match found {
            Found::Leaf(blockref) => Ok(blockref),
            Found::Broken { error, .. } => Err(Stop::Fail(error)),
        })
        .collect()
}

/// The first leaf of `table` that touches `low ..= high`.
///
/// # Errors
/// [`Stop::Need`], or what is broken before or at that leaf.
pub fn first(
    view: &mut View<'_>,
    table: &Table,
    low: u64,
    high: u64,
) -> Result<Option<Blockref>, Stop> {
    Ok(range(view, table, low, high, 1)?.pop())
}

struct Search<'v, 'a> {
    view: &'v mut View<'a>,
    low: u64,
    high: u64,
    limit: usize,
    found: Vec<Found>,
    /// Indirect blocks noted as wanted. Behind the first, `found` has gaps and is thrown away.
    missing: usize,
}

impl Search<'_, '_> {
    fn is_done(&self) -> bool {
        self.found.len() >= self.limit || self.missing >= SIBLINGS_MAX.min(self.limit)
    }

    /// Whether one leaf is all there can be: it covers everything that was asked for.
    fn is_answered(&self) -> bool {
        matches!(&self.found[..], [Found::Leaf(leaf)]
            if leaf.key() <= self.low && leaf.last_key() >= self.high)
    }

    /// Recursion ends after at most 64 levels: [`Table::below`] wants each narrower than the last.
    fn descend(&mut self, table: &Table) {
        if let Some(rows) = table.rows() {
            return self.halve(table, rows);
        }
        let mut previous_last = None;
        for raw in table.slots().iter().filter(|raw| raw.kind != 0) {
            let (key, last) = (raw.key.get(), span_last(raw.key.get(), raw.key_bits));
            if let Err(damage) = table.check_order(raw, previous_last) {
                // Either this entry or one before is misplaced: what was found may not be the
                // first there is, and what was not found cannot be ruled out.
                if !self.is_answered() {
                    self.broken(table.bounds().0, table.bounds().1, damage.into());
                }
                return;
            }
            previous_last = Some(last);
            // Entries beside the range, and behind the limit, are read as well: only a table in
            // order has no others.
            if last >= self.low && key <= self.high && !self.is_done() {
                self.entry(table, raw, key, last);
            }
        }
    }

    /// Goes through the part of a table in order that is asked for.
    fn halve(&mut self, table: &Table, rows: &[RawBlockref]) {
        let last = |raw: &RawBlockref| span_last(raw.key.get(), raw.key_bits);
        let from = rows.partition_point(|raw| last(raw) < self.low);
        for raw in rows.get(from..).unwrap_or_default() {
            if raw.key.get() > self.high || self.is_done() {
                return;
            }
            self.entry(table, raw, raw.key.get(), last(raw));
        }
    }

    fn entry(&mut self, table: &Table, raw: &RawBlockref, key: u64, last: u64) {
        match table.entry(raw, None) {
            Ok(Some(blockref)) if blockref.kind() == BlockKind::Indirect => {
                self.indirect(table, &blockref);
            }
            Ok(Some(blockref)) => self.found.push(Found::Leaf(blockref)),
            Ok(None) => {}
            Err(damage) => self.broken(key, last, damage.into()),
        }
    }

    fn indirect(&mut self, table: &Table, blockref: &Blockref) {
        // parse() gives every indirect blockref a location
        let Some(want) = Want::of(blockref) else {
            return;
        };
        let below = match self.view.want(&want) {
            None => {
                self.missing += 1;
                return;
            }
            Some(Ok(block)) => table.below(blockref, block).map_err(Error::from),
            Some(Err(error)) => Err(error),
        };
        match below {
            Ok(below) => self.descend(&below),
            Err(error) => self.broken(blockref.key(), blockref.last_key(), error),
        }
    }

    fn broken(&mut self, low: u64, high: u64, error: Error) {
        let (low, high) = (low.max(self.low), high.min(self.high));
        if low <= high {
            self.found.push(Found::Broken { low, high, error });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Block, BlockId, Cache, Turn};
    use crate::error::{DamageKind, Place};
    use crate::media::check::{CheckCode, Checks};
    use crate::tree::Holder;
    use zerocopy::{FromZeros, IntoBytes};

    struct Nothing;

    impl Cache for Nothing {
        fn peek(&self, _: &BlockId) -> Option<Block> {
            None
        }
    }

    /// The table of a file with data at `keys`, in this order.
    fn file(keys: &[u64]) -> Table {
        let mut inode = alloc::vec![0; 0x200];
        for (number, key) in (0..4).zip(keys) {
            let mut raw = RawBlockref::new_zeroed();
            raw.kind = 3;
            raw.key_bits = 16;
            raw.key.set(*key);
            raw.data_off.set((0x80_0000 + number * 0x1_0000) | 16);
            inode.extend(raw.as_bytes());
        }
        inode.resize(1024, 0);
        let block = Checks::PORTABLE.verify(inode, CheckCode::Unchecked).unwrap();
        let place = Place { kind: BlockKind::Inode, offset: None, key: 0 };
        Table::of_inode(Block::new(block), place, Holder::File)
    }

    fn first_from(table: &Table, low: u64) -> Result<Option<u64>, Stop> {
        first_from_to(table, low, u64::MAX)
    }

    fn first_from_to(table: &Table, low: u64, high: u64) -> Result<Option<u64>, Stop> {
        let mut turn = Turn::new();
        let found = first(&mut View::new(&mut turn, &Nothing), table, low, high)?;
        Ok(found.map(|blockref| blockref.key()))
    }

    #[test]
    fn the_first_of_a_table_in_order() {
        let table = file(&[0, 0x2_0000, 0x8_0000]);
        assert_eq!(first_from(&table, 0x1_0000), Ok(Some(0x2_0000)));
        assert_eq!(first_from(&table, 0x9_0000), Ok(None));
    }

    #[test]
    fn an_entry_behind_its_place_is_not_stepped_over() {
        // The first that is met is not the first there is, which only the rest of the table tells.
        let table = file(&[0, 0x8_0000, 0x2_0000]);
        assert_eq!(first_from_to(&table, 0x8_0000, 0x8_ffff), Ok(Some(0x8_0000)));
        let Err(Stop::Fail(Error::Damaged(damage))) = first_from(&table, 0x1_0000) else {
            panic!("a table out of order gave an answer");
        };
        assert_eq!(damage.kind, DamageKind::KeyOrder);
    }
}
