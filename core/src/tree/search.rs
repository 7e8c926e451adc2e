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

    /// Recursion ends after at most 64 levels: [`Table::below`] wants each narrower than the last.
    fn descend(&mut self, table: &Table) {
        let mut previous_last = None;
        for raw in table.slots().iter().filter(|raw| raw.kind != 0) {
            if self.is_done() {
                return;
            }
            let (key, last) = (raw.key.get(), span_last(raw.key.get(), raw.key_bits));
            if let Err(damage) = table.check_order(raw, previous_last) {
                // Either this entry or the one before is misplaced: what was not found yet cannot
                // be ruled out.
                let last = self.found.last().map(Found::last_key);
                let from = last.map_or(self.low, |last| last.saturating_add(1));
                self.broken(from.max(table.bounds().0), table.bounds().1, damage.into());
                return;
            }
            previous_last = Some(last);
            // Entries beside the range are read as well: only a table in order has no others.
            if last >= self.low && key <= self.high {
                self.entry(table, raw, key, last);
            }
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
