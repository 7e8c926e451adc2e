//! The freemap against the tree, in both directions (media format 8).

use super::finding::FindingKind;
use super::space::Space;
use crate::media::freemap::{ChunkState, SEGMENT_CHUNKS, chunk_state};
use crate::media::raw::RawSegment;
use crate::media::{CHUNK_LEN, SEGMENT_LEN, ZONE_LEN};
use crate::units::MediaOffset;

/// What the leaves add up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Totals {
    /// Chunks in use, outside of reserved space.
    pub(super) allocated: u64,
    /// Chunks staged for freeing.
    pub(super) possibly_free: u64,
    /// Chunks marked as used or staged that nothing refers to.
    pub(super) unreferenced: u64,
}

/// The parts of the address space in which nothing is ever allocated (media format 8.4).
#[derive(Clone, Copy, Debug)]
pub(super) struct Static {
    /// End of the formatter's own space, rounded up to a segment.
    pub(super) below: u64,
    /// Size of the file system.
    pub(super) total: u64,
}

impl Static {
    pub(super) const fn contains(&self, segment: u64) -> bool {
        segment < self.below
            || segment.is_multiple_of(ZONE_LEN)
            || segment.saturating_add(SEGMENT_LEN) > self.total
    }
}

/// Compares the leaf of zone `zone` with what is referred to; no leaf says that all is free.
pub(super) fn compare(
    zone: u64,
    leaf: Option<&[RawSegment]>,
    reserved: &Static,
    space: &Space,
    totals: &mut Totals,
    mut report: impl FnMut(FindingKind),
) {
    let mut stretch: Option<Stretch> = None;
    for index in 0..ZONE_LEN / SEGMENT_LEN {
        let start = zone * ZONE_LEN + index * SEGMENT_LEN;
        let segment = leaf.and_then(|leaf| leaf.get(usize::try_from(index).ok()?));
        if reserved.contains(start) {
            let marked = segment.is_none_or(|s| s.bitmap.iter().all(|word| word.get() == u64::MAX));
            if !marked {
                report(FindingKind::ReservedFree {
                    segment: MediaOffset(start),
                });
            }
            continue;
        }
        let mut free = 0;
        for chunk in 0..SEGMENT_CHUNKS {
            let offset = start + chunk as u64 * CHUNK_LEN;
            let state = segment.map_or(ChunkState::Free, |s| chunk_state(s, chunk));
            let referenced = space.is_referenced(offset);
            match state {
                ChunkState::Free => free += 1,
                ChunkState::PossiblyFree => totals.possibly_free += 1,
                ChunkState::Allocated | ChunkState::Reserved => totals.allocated += 1,
            }
            totals.unreferenced += u64::from(!referenced && state != ChunkState::Free);
            let wrong = referenced && matches!(state, ChunkState::Free | ChunkState::PossiblyFree);
            Stretch::extend(&mut stretch, wrong.then_some((offset, state)), &mut report);
        }
        if let Some(segment) = segment {
            check_counts(segment, start, free, space, &mut report);
        }
    }
    Stretch::extend(&mut stretch, None, &mut report);
}

fn check_counts(
    segment: &RawSegment,
    start: u64,
    free_chunks: u32,
    space: &Space,
    report: &mut impl FnMut(FindingKind),
) {
    let (stored, counted) = (segment.avail.get(), free_chunks * CHUNK_LEN as u32);
    if stored != counted {
        let segment = MediaOffset(start);
        report(FindingKind::SegmentAvail {
            segment,
            stored,
            counted,
        });
    }
    let linear = segment.linear.get();
    // The place is a promise that the rest of its chunk is unused (media format 9.5).
    let place = start + u64::from(linear);
    let promised = place..place.next_multiple_of(CHUNK_LEN);
    let illegal = u64::from(linear) > SEGMENT_LEN || !linear.is_multiple_of(1024);
    if illegal
        || promised
            .step_by(1024)
            .any(|offset| space.is_grain_used(offset))
    {
        report(FindingKind::SegmentLinear {
            segment: MediaOffset(start),
            stored: linear,
        });
    }
}

/// Neighbouring chunks with the same thing wrong: one finding, not hundreds.
struct Stretch {
    start: u64,
    end: u64,
    state: ChunkState,
}

impl Stretch {
    fn extend(
        stretch: &mut Option<Self>,
        wrong: Option<(u64, ChunkState)>,
        report: &mut impl FnMut(FindingKind),
    ) {
        if let (Some(open), Some((offset, state))) = (&mut *stretch, wrong)
            && open.end == offset
            && open.state == state
        {
            open.end += CHUNK_LEN;
            return;
        }
        if let Some(done) = stretch.take() {
            let (start, len) = (MediaOffset(done.start), done.end - done.start);
            report(match done.state {
                ChunkState::Free => FindingKind::NotAllocated { start, len },
                _ => FindingKind::PossiblyFree { start, len },
            });
        }
        *stretch = wrong.map(|(start, state)| Self {
            start,
            end: start + CHUNK_LEN,
            state,
        });
    }
}
