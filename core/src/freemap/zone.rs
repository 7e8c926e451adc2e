//! A zone in memory: its leaf, and what this mount knows of its chunks beyond that.
//!
//! Invariants: a leaf has 256 segments; the free counts are those of the usable segments; a
//! segment without a ledger has no chunk that was opened by this mount.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::{FromZeros, IntoBytes};

use super::segment::{self, Free};
use crate::media::freemap::{LEAF_SEGMENTS, SEGMENT_CHUNKS, segments};
use crate::media::raw::RawSegment;

/// What this mount knows of a chunk, in a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Note(u8);

/// Whether and how a chunk may be given back without a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Age {
    /// It may hold what this mount did not put there, or what others refer to.
    Old,
    /// Opened by this mount for a block that fills it.
    Young,
    /// Opened by this mount for small blocks, of which this many KiB are still referred to.
    Shared(u8),
    /// Nothing refers to it, and it waits until no header does either.
    Waiting,
}

impl Note {
    const SCANNED_SINCE: u8 = 0x20;
    const LIVE: u8 = 0x1f;
    const KIND: u8 = 0xc0;

    pub(super) const fn age(self) -> Age {
        match self.0 & Self::KIND {
            0x40 => Age::Young,
            0x80 => Age::Shared(self.0 & Self::LIVE),
            0xc0 => Age::Waiting,
            _ => Age::Old,
        }
    }

    pub(super) const fn with_age(self, age: Age) -> Self {
        let bits = match age {
            Age::Old => 0,
            Age::Young => 0x40,
            Age::Shared(live) => 0x80 | live & Self::LIVE,
            Age::Waiting => 0xc0,
        };
        Self(self.0 & Self::SCANNED_SINCE | bits)
    }

    /// Whether something was allocated in it since the scan began.
    pub(super) const fn is_since_scan(self) -> bool {
        self.0 & Self::SCANNED_SINCE != 0
    }

    pub(super) const fn with_since_scan(self, is_since: bool) -> Self {
        let rest = self.0 & !Self::SCANNED_SINCE;
        Self(if is_since { rest | Self::SCANNED_SINCE } else { rest })
    }
}

/// The notes of one segment.
type Ledger = Box<[Note; SEGMENT_CHUNKS]>;

#[derive(Debug)]
pub(super) struct Zone {
    segments: Vec<RawSegment>,
    /// Empty until the first note, then one for each segment.
    ledgers: Vec<Option<Ledger>>,
    pub(super) usable: Range<usize>,
    pub(super) free_chunks: u32,
    pub(super) free_groups: u32,
    /// Changed since it was last sealed.
    pub(super) is_changed: bool,
}

impl Zone {
    /// As the first allocation in it finds it (media format 8.4).
    pub(super) fn untouched(usable: Range<usize>) -> Self {
        let mut segments = vec![RawSegment::new_zeroed(); LEAF_SEGMENTS];
        for (index, segment) in segments.iter_mut().enumerate() {
            if usable.contains(&index) {
                segment::reset(segment);
            } else {
                segment::close(segment);
            }
        }
        Self::with_segments(segments, usable)
    }

    /// As it lies on media; `None` if that is no leaf.
    pub(super) fn loaded(bytes: &[u8], usable: Range<usize>) -> Option<Self> {
        let mut segments = segments(bytes)?.to_vec();
        segments.get_mut(usable.clone())?.iter_mut().for_each(segment::mend);
        Some(Self::with_segments(segments, usable))
    }

    fn with_segments(segments: Vec<RawSegment>, usable: Range<usize>) -> Self {
        let mut zone = Self {
            segments,
            ledgers: Vec::new(),
            usable,
            free_chunks: 0,
            free_groups: 0,
            is_changed: false,
        };
        zone.recount();
        zone
    }

    fn recount(&mut self) {
        let (mut chunks, mut groups) = (0, 0);
        for segment in self.segments.get(self.usable.clone()).unwrap_or_default() {
            let free = segment::free(segment);
            chunks += free.chunks.unsigned_abs();
            groups += free.groups.unsigned_abs();
        }
        (self.free_chunks, self.free_groups) = (chunks, groups);
    }

    /// Segments became usable: those that say so only because they were outside are emptied.
    pub(super) fn widen(&mut self, usable: Range<usize>) {
        let old = self.usable.clone();
        for (index, segment) in self.segments.iter_mut().enumerate() {
            if usable.contains(&index) && !old.contains(&index) {
                if segment::is_full(segment) {
                    segment::reset(segment);
                } else {
                    segment::mend(segment);
                }
            }
        }
        self.usable = usable;
        self.recount();
    }

    pub(super) fn segment(&self, index: usize) -> Option<&RawSegment> {
        self.segments.get(index)
    }

    /// A segment to change something in that no count speaks of.
    pub(super) fn segment_mut(&mut self, index: usize) -> Option<&mut RawSegment> {
        self.segments.get_mut(index)
    }

    /// The usable segments at or behind `from`, with their index.
    pub(super) fn usable_from(&self, from: usize) -> impl Iterator<Item = (usize, &RawSegment)> {
        let start = self.usable.start.max(from);
        (start..).zip(self.segments.get(start..self.usable.end).unwrap_or_default())
    }

    /// Chunks came free or were taken.
    pub(super) const fn count(&mut self, change: Free) {
        self.free_chunks = self.free_chunks.saturating_add_signed(change.chunks);
        self.free_groups = self.free_groups.saturating_add_signed(change.groups);
    }

    pub(super) fn note(&self, segment: usize, chunk: usize) -> Note {
        let ledger = self.ledgers.get(segment).and_then(Option::as_ref);
        ledger.and_then(|ledger| ledger.get(chunk)).copied().unwrap_or_default()
    }

    pub(super) fn set_note(&mut self, segment: usize, chunk: usize, note: Note) {
        if note == Note::default() && self.note(segment, chunk) == note {
            return;
        }
        if self.ledgers.is_empty() {
            self.ledgers.resize_with(LEAF_SEGMENTS, || None);
        }
        let Some(ledger) = self.ledgers.get_mut(segment) else {
            return;
        };
        let ledger = ledger.get_or_insert_with(|| Box::new([Note::default(); SEGMENT_CHUNKS]));
        if let Some(place) = ledger.get_mut(chunk) {
            *place = note;
        }
    }

    /// Changes every note that there is.
    pub(super) fn revise_notes(&mut self, revise: impl Fn(Note) -> Note) {
        for slot in &mut self.ledgers {
            if let Some(ledger) = slot {
                ledger.iter_mut().for_each(|note| *note = revise(*note));
                if ledger.iter().all(|note| *note == Note::default()) {
                    *slot = None;
                }
            }
        }
    }

    /// The leaf as it goes to media.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.segments.as_bytes().to_vec()
    }
}
