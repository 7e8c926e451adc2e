//! Freeing what a scan of everything found unreferenced (media format 8.6, 8.7).
//!
//! In two steps, each a commit of its own: what is in use but not marked is *staged*, and what is
//! staged and still not marked is freed. Chunks that were allocated while the scan was on its way,
//! and those that wait to be free anyway, are passed over.
//!
//! It does not know what a scan is; it believes the marks.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::layout::Spot;
use super::marks::Marks;
use super::segment;
use super::zone::{Age, Note};
use super::{Freemap, chunk_state};
use crate::media::freemap::{ChunkState, SEGMENT_CHUNKS};

/// What one step did, in chunks of 16 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Staged {
    /// In use and unreferenced: now staged for freeing.
    pub staged: u64,
    /// Staged and unreferenced: now free.
    pub freed: u64,
    /// Staged earlier but referenced: in use again.
    pub kept: u64,
    /// Free by the freemap but referenced, which is corruption: in use now.
    pub corrupt: u64,
}

impl Staged {
    fn add(&mut self, other: &Self) {
        self.staged += other.staged;
        self.freed += other.freed;
        self.kept += other.kept;
        self.corrupt += other.corrupt;
    }
}

/// The two steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Stage,
    Free,
    /// Only what is in use is marked; nothing is freed.
    Keep,
}

impl Freemap {
    /// A scan begins: chunks that are allocated from now on are in use, whatever it finds.
    ///
    /// To be called when the tree that will be scanned is what refers to all that was allocated:
    /// right after [`committed`](Self::committed), with nothing allocated since its
    /// [`seal`](Self::seal). A scan that began earlier and is not done has lost its meaning then;
    /// [`scan_number`](Self::scan_number) tells them apart.
    pub fn begin_scan(&mut self) {
        self.is_scanning = true;
        self.scans += 1;
        self.zones.values_mut().for_each(|zone| {
            zone.revise_notes(|note| note.with_since_scan(false));
        });
    }

    /// The scan that [`begin_scan`](Self::begin_scan) began is done, or was given up: what was
    /// retired meanwhile becomes free in its turn.
    pub fn end_scan(&mut self) {
        self.is_scanning = false;
    }

    /// The scan that is on its way: another number for each; `None` if none is.
    #[must_use]
    pub fn scan_number(&self) -> Option<u64> {
        self.is_scanning.then_some(self.scans)
    }

    /// First step, over all zones in memory; `marks` are of a scan that began with
    /// [`begin_scan`](Self::begin_scan).
    pub fn stage(&mut self, marks: &Marks) -> Staged {
        self.each_zone(marks, Step::Stage)
    }

    /// Second step, over all zones in memory: in a later commit than the first, and, lest headers
    /// that could be fallen back to lose what they refer to, with as many commits between as the
    /// freemap's `reuse_delay`. `marks` may be those of the first step or newer ones.
    pub fn free_staged(&mut self, marks: &Marks) -> Staged {
        self.each_zone(marks, Step::Free)
    }

    /// First step for one zone; `None` if it is not in memory (see
    /// [`unread_for`](Self::unread_for)).
    pub fn stage_zone(&mut self, zone: u64, marks: &Marks) -> Option<Staged> {
        self.one_zone(zone, marks, Step::Stage)
    }

    /// Second step for one zone; `None` if it is not in memory.
    pub fn free_staged_zone(&mut self, zone: u64, marks: &Marks) -> Option<Staged> {
        self.one_zone(zone, marks, Step::Free)
    }

    pub(super) fn each_zone(&mut self, marks: &Marks, step: Step) -> Staged {
        let zones: BTreeSet<u64> = self.zones.keys().copied().chain(marks.zones()).collect();
        let mut sum = Staged::default();
        for zone in zones {
            sum.add(&self.one_zone(zone, marks, step).unwrap_or_default());
        }
        sum
    }

    fn one_zone(&mut self, number: u64, marks: &Marks, step: Step) -> Option<Staged> {
        if !self.zones.contains_key(&number) {
            return self.untouched_zone(number, marks);
        }
        let mut done = Staged::default();
        for segment in self.layout.usable(number) {
            let changes = self.segment_changes(number, segment, marks, step);
            for (spot, from, to) in &changes {
                self.apply(*spot, *to);
                *done.counter(*from, *to) += 1;
            }
            if changes.iter().any(|(_, _, to)| *to == ChunkState::Free) {
                self.settle(number, segment);
            }
        }
        Some(done)
    }

    /// What is marked there is corrupt.
    fn untouched_zone(&mut self, number: u64, marks: &Marks) -> Option<Staged> {
        if self.unknown_at(number).is_some() {
            return None;
        }
        let mut done = Staged::default();
        for segment in self.layout.usable(number) {
            for chunk in 0..SEGMENT_CHUNKS {
                let spot = Spot { zone: number, segment, chunk };
                if marks.has(spot) && self.materialize(number) {
                    self.apply(spot, ChunkState::Allocated);
                    done.corrupt += 1;
                }
            }
        }
        Some(done)
    }

    fn segment_changes(
        &self,
        zone: u64,
        segment: usize,
        marks: &Marks,
        step: Step,
    ) -> Vec<(Spot, ChunkState, ChunkState)> {
        let Some(loaded) = self.zones.get(&zone) else {
            return Vec::new();
        };
        let spots = (0..SEGMENT_CHUNKS).map(|chunk| Spot { zone, segment, chunk });
        let change = |spot: Spot| {
            let state = chunk_state(loaded, spot);
            let note = loaded.note(spot.segment, spot.chunk);
            let is_avoided = self.avoided.contains(&spot.number());
            next_state(state, marks.has(spot), (note, is_avoided), step)
                .map(|next| (spot, state, next))
        };
        spots.filter_map(change).collect()
    }

    /// A chunk that was free is in use.
    pub(super) fn allot(&mut self, spot: Spot) {
        self.apply(spot, ChunkState::Allocated);
    }

    fn apply(&mut self, spot: Spot, state: ChunkState) {
        match state {
            // Blocks of it that nothing refers to may have been retired or not: it is the scan's.
            ChunkState::PossiblyFree => self.search.shut(spot.number()),
            ChunkState::Free => self.set_age(spot, Age::Old),
            ChunkState::Allocated | ChunkState::Reserved => {}
        }
        self.change(spot, 1, state);
        if let Some(zone) = self.zones.get_mut(&spot.zone)
            && let Some(segment) = zone.segment_mut(spot.segment)
            && state == ChunkState::Allocated
        {
            segment::withdraw_promise(segment, spot.chunk, 1, usize::MAX);
            if segment.class.get() == 0 {
                segment.class.set(super::Class::Data.code());
            }
        }
    }

    /// After chunks of a segment were freed, no promise speaks of it (media format 8.7).
    fn settle(&mut self, zone: u64, segment: usize) {
        let segment = self.zones.get_mut(&zone).and_then(|zone| zone.segment_mut(segment));
        if let Some(segment) = segment {
            segment::withdraw_promise(segment, 0, SEGMENT_CHUNKS, usize::MAX);
        }
    }
}

impl Staged {
    const fn counter(&mut self, from: ChunkState, to: ChunkState) -> &mut u64 {
        match (from, to) {
            (_, ChunkState::PossiblyFree) => &mut self.staged,
            (_, ChunkState::Free) => &mut self.freed,
            (ChunkState::Free, _) => &mut self.corrupt,
            _ => &mut self.kept,
        }
    }
}

/// The table of media format 8.6, in two steps; `None` leaves the chunk as it is.
fn next_state(
    state: ChunkState,
    is_marked: bool,
    (note, is_avoided): (Note, bool),
    step: Step,
) -> Option<ChunkState> {
    let is_spared = is_avoided || note.is_since_scan() || note.age() == Age::Waiting;
    match (state, step) {
        (ChunkState::Free | ChunkState::PossiblyFree, _) if is_marked => {
            Some(ChunkState::Allocated)
        }
        (ChunkState::Allocated, Step::Stage) if !is_marked && !is_spared => {
            Some(ChunkState::PossiblyFree)
        }
        (ChunkState::PossiblyFree, Step::Free) if !is_spared => Some(ChunkState::Free),
        _ => None,
    }
}
