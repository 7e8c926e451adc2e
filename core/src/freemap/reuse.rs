//! Giving back what this mount allocated itself, without a scan (traps 28, 29).
//!
//! A chunk whose blocks were all retired waits: first for the commit that no longer refers to
//! them, then until enough headers without them are durable. Until it is free it stays marked as
//! allocated, on media too; what still waits when the volume is closed is found by a scan.
//!
//! Invariants: a chunk waits at most once; only chunks that this mount opened ever do.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::Freemap;
use super::chunk_state;
use super::layout::Spot;
use super::segment::Unit;
use super::zone::Age;
use crate::media::blockref::Location;
use crate::media::freemap::ChunkState;

/// Neighbouring chunks, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    first: u64,
    count: u64,
}

/// What waits, by how long it still has to.
#[derive(Debug)]
pub(super) struct Queue {
    delay: usize,
    /// Not referred to by the commit that is being prepared.
    next: Vec<Run>,
    /// Not referred to by the commit that was sealed.
    sealed: Vec<Run>,
    /// Not referred to by headers that are durable, the oldest first.
    durable: VecDeque<Vec<Run>>,
}

impl Queue {
    pub(super) const fn new(delay: usize) -> Self {
        let delay = if delay == 0 { 1 } else { delay };
        Self { delay, next: Vec::new(), sealed: Vec::new(), durable: VecDeque::new() }
    }

    fn push(&mut self, chunk: u64) {
        match self.next.last_mut() {
            Some(run) if run.first + run.count == chunk => run.count += 1,
            _ => self.next.push(Run { first: chunk, count: 1 }),
        }
    }

    pub(super) fn seal(&mut self) {
        self.sealed.append(&mut self.next);
    }

    /// What need not wait any longer now that the sealed commit is durable. While `is_held`,
    /// everything goes on waiting.
    fn commit(&mut self, is_held: bool) -> Vec<Run> {
        self.durable.push_back(core::mem::take(&mut self.sealed));
        let mut ready = Vec::new();
        while !is_held && self.durable.len() >= self.delay {
            ready.extend(self.durable.pop_front().unwrap_or_default());
        }
        ready
    }

    /// `chunk` need not wait: it is referred to after all.
    pub(super) fn forget(&mut self, chunk: u64) {
        let lists = [&mut self.next, &mut self.sealed].into_iter().chain(&mut self.durable);
        for runs in lists {
            let of = |run: &Run| (run.first..run.first + run.count).contains(&chunk);
            let Some(at) = runs.iter().position(of) else {
                continue;
            };
            let run = runs.swap_remove(at);
            let below = Run { first: run.first, count: chunk - run.first };
            let above = Run { first: chunk + 1, count: run.first + run.count - chunk - 1 };
            runs.extend([below, above].into_iter().filter(|run| run.count > 0));
        }
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.next.iter().chain(&self.sealed).chain(self.durable.iter().flatten())
    }
}

impl Freemap {
    /// The block at `location` is not referred to any more, as of the commit that is being
    /// prepared, and was not shared with anything that stays.
    ///
    /// Only for blocks that this freemap allocated and that were not
    /// [forgotten](Self::forget_young) since, once for each of them. What it knows to be of
    /// another origin it leaves alone, and likewise chunks that hold older blocks too.
    pub fn retire(&mut self, location: Location) {
        let spot = Spot::of(location.offset);
        let Some(unit) = Unit::of(location.radix) else {
            return self.retire_piece(spot, location.radix.len() / 1024);
        };
        for chunk in spot.chunk..spot.chunk + unit.chunks() {
            let spot = Spot { chunk, ..spot };
            if self.age(spot) == Age::Young {
                self.wait(spot);
            }
        }
    }

    fn retire_piece(&mut self, spot: Spot, kib: usize) {
        let Age::Shared(live) = self.age(spot) else {
            return;
        };
        // more than there was: the caller is mistaken, and the chunk is left to a scan
        let Some(rest) = u8::try_from(kib).ok().and_then(|kib| live.checked_sub(kib)) else {
            return self.set_age(spot, Age::Old);
        };
        self.set_age(spot, Age::Shared(rest));
        if rest == 0 && !self.search.is_open(spot.number()) {
            self.wait(spot);
        }
    }

    /// A chunk takes no more small blocks.
    pub(super) fn closed(&mut self, spot: Spot) {
        if self.age(spot) == Age::Shared(0) {
            self.wait(spot);
        }
    }

    fn wait(&mut self, spot: Spot) {
        let is_allocated = self
            .zones
            .get(&spot.zone)
            .is_some_and(|zone| chunk_state(zone, spot) == ChunkState::Allocated);
        // A chunk that a scan has staged is the scan's.
        if is_allocated {
            self.set_age(spot, Age::Waiting);
            self.queue.push(spot.number());
        }
    }

    /// All that was allocated so far may be shared from now on, for a snapshot was taken: it is
    /// not given back by [`retire`](Self::retire). What was retired before stays so.
    pub fn forget_young(&mut self) {
        for zone in self.zones.values_mut() {
            zone.revise_notes(|note| match note.age() {
                Age::Waiting => note,
                Age::Old | Age::Young | Age::Shared(_) => note.with_age(Age::Old),
            });
        }
    }

    /// The header that refers to the sealed state is durable.
    ///
    /// What has waited for long enough becomes free; the next commit writes that down. While a
    /// scan is on its way nothing does, for the scan reads a tree that still refers to it.
    pub fn committed(&mut self) {
        self.commit += 1;
        for run in self.queue.commit(self.is_scanning) {
            for chunk in run.first..run.first + run.count {
                let spot = Spot::numbered(chunk);
                if self.age(spot) != Age::Waiting {
                    continue;
                }
                self.set_age(spot, Age::Old);
                let zone = self.zones.get(&spot.zone);
                if zone.is_some_and(|zone| chunk_state(zone, spot) == ChunkState::Allocated) {
                    self.change(spot, 1, ChunkState::Free);
                }
            }
        }
    }

    /// Chunks that were retired and are not free yet.
    #[must_use]
    pub fn waiting_chunks(&self) -> u64 {
        self.queue.runs().map(|run| run.count).sum()
    }

    pub(super) fn age(&self, spot: Spot) -> Age {
        let note = |zone: &super::Zone| zone.note(spot.segment, spot.chunk).age();
        self.zones.get(&spot.zone).map_or(Age::Old, note)
    }

    pub(super) fn set_age(&mut self, spot: Spot, age: Age) {
        if let Some(zone) = self.zones.get_mut(&spot.zone) {
            let note = zone.note(spot.segment, spot.chunk);
            zone.set_note(spot.segment, spot.chunk, note.with_age(age));
        }
    }
}
