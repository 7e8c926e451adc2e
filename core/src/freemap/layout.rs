//! Which parts of the address space may be allocated at all (media format 8.4, trap 19).
//!
//! Nothing is ever allocated or freed in a *static* segment: the first one of a zone, those that
//! the formatter's own space reaches into, and those that are not wholly inside of the volume.
//! What is left of a zone is one stretch of segments.
//!
//! It knows nothing of what is in use.

use core::ops::Range;

use crate::media::freemap::{LEAF_SEGMENTS, SEGMENT_CHUNKS};
use crate::media::{CHUNK_LEN, SEGMENT_LEN, ZONE_LEN};
use crate::units::MediaOffset;

/// Segments of a zone.
const ZONE_SEGMENTS: u64 = ZONE_LEN / SEGMENT_LEN;
/// Chunks of a zone.
const ZONE_CHUNKS: u64 = ZONE_LEN / CHUNK_LEN;

/// The bounds of what may be allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    /// First segment behind the formatter's own space.
    base: u64,
    /// First segment that is not wholly inside of the volume.
    end: u64,
}

impl Layout {
    /// For a volume of `total_bytes` whose formatter's own space ends at `base_bytes`.
    pub(super) const fn new(total_bytes: u64, base_bytes: u64) -> Self {
        Self { base: base_bytes.div_ceil(SEGMENT_LEN), end: total_bytes / SEGMENT_LEN }
    }

    /// The same with another end.
    pub(super) const fn with_total(&self, total_bytes: u64) -> Self {
        Self { base: self.base, end: total_bytes / SEGMENT_LEN }
    }

    pub(super) const fn ends_behind(&self, other: &Self) -> bool {
        self.end > other.end
    }

    /// Whether the chunk lies in a segment that the formatter's own space reaches into.
    pub(super) const fn is_below_base(&self, spot: Spot) -> bool {
        spot.zone * ZONE_SEGMENTS + (spot.segment as u64) < self.base
    }

    /// Bytes up to the end.
    pub(super) const fn total_bytes(&self) -> u64 {
        self.end * SEGMENT_LEN
    }

    /// Number of zones, the last one perhaps not whole.
    pub(super) const fn zone_count(&self) -> u64 {
        self.end.div_ceil(ZONE_SEGMENTS)
    }

    /// The first zone in which anything may be allocated.
    pub(super) const fn first_zone(&self) -> u64 {
        self.base / ZONE_SEGMENTS
    }

    /// The segments of `zone` that may be allocated.
    pub(super) fn usable(&self, zone: u64) -> Range<usize> {
        let first = zone.saturating_mul(ZONE_SEGMENTS);
        let within = |segment: u64| {
            let segment = segment.saturating_sub(first).min(ZONE_SEGMENTS);
            usize::try_from(segment).unwrap_or(LEAF_SEGMENTS)
        };
        let (start, end) = (within(self.base).max(1), within(self.end));
        start..end.max(start)
    }

    /// Number of segments that may be allocated in `zones`.
    pub(super) fn usable_count(&self, zones: &Range<u64>) -> u64 {
        // of the segments below `end`, those that are not the first of their zone
        let below = |end: u64| end - end.div_ceil(ZONE_SEGMENTS);
        let end = zones.end.saturating_mul(ZONE_SEGMENTS).min(self.end);
        let start = zones.start.saturating_mul(ZONE_SEGMENTS).max(self.base).min(end);
        below(end) - below(start)
    }
}

/// A chunk by its zone, the segment in it, and its place in that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Spot {
    pub(super) zone: u64,
    /// 0 to 255.
    pub(super) segment: usize,
    /// 0 to 255.
    pub(super) chunk: usize,
}

impl Spot {
    /// The chunk that `offset` lies in.
    pub(super) const fn of(offset: MediaOffset) -> Self {
        Self::numbered(offset.0 / CHUNK_LEN)
    }

    /// The chunk with this number, counted from the start of the address space.
    pub(super) const fn numbered(number: u64) -> Self {
        let in_zone = number % ZONE_CHUNKS;
        Self {
            zone: number / ZONE_CHUNKS,
            segment: (in_zone / SEGMENT_CHUNKS as u64) as usize,
            chunk: (in_zone % SEGMENT_CHUNKS as u64) as usize,
        }
    }

    /// Its number, counted from the start of the address space.
    pub(super) const fn number(self) -> u64 {
        self.zone * ZONE_CHUNKS + (self.segment * SEGMENT_CHUNKS + self.chunk) as u64
    }

    /// Its first byte.
    pub(super) const fn offset(self) -> MediaOffset {
        MediaOffset(self.number() * CHUNK_LEN)
    }
}
