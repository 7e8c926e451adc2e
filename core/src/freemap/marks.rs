//! Chunks that something refers to, as a scan finds them.
//!
//! Invariant: no more memory than 8 KiB for each zone of the volume, whatever is marked.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::layout::Spot;
use crate::media::blockref::Location;
use crate::media::freemap::{LEAF_SEGMENTS, SEGMENT_CHUNKS};
use crate::media::{CHUNK_LEN, ZONE_LEN};
use crate::units::MediaOffset;

/// A set of chunks of 16 KiB.
#[derive(Clone, Debug)]
pub struct Marks {
    zone_count: u64,
    /// A bit for each chunk of a zone.
    zones: BTreeMap<u64, Vec<u64>>,
}

impl Marks {
    /// None yet, for a volume of `total_size` bytes.
    #[must_use]
    pub const fn new(total_size: u64) -> Self {
        Self { zone_count: total_size.div_ceil(ZONE_LEN), zones: BTreeMap::new() }
    }

    /// Marks each chunk that the block at `location` lies in; what is outside of the volume is
    /// passed over.
    pub fn mark(&mut self, location: Location) {
        let first = Spot::of(location.offset).number();
        let last = location.offset.0.saturating_add(location.len() as u64 - 1) / CHUNK_LEN;
        for chunk in first..=last {
            let spot = Spot::numbered(chunk);
            if spot.zone >= self.zone_count {
                return;
            }
            let words = self.zones.entry(spot.zone).or_insert_with(|| vec![0; ZONE_WORDS]);
            let (word, bit) = place(spot);
            if let Some(word) = words.get_mut(word) {
                *word |= bit;
            }
        }
    }

    /// Whether the chunk that `offset` lies in is marked.
    #[must_use]
    pub fn is_marked(&self, offset: MediaOffset) -> bool {
        self.has(Spot::of(offset))
    }

    /// Number of marked chunks.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.zones.values().flatten().map(|word| u64::from(word.count_ones())).sum()
    }

    pub(super) fn has(&self, spot: Spot) -> bool {
        let (word, bit) = place(spot);
        let words = self.zones.get(&spot.zone);
        words.and_then(|words| words.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// Zones with a marked chunk.
    pub(super) fn zones(&self) -> impl Iterator<Item = u64> {
        self.zones.keys().copied()
    }
}

const ZONE_WORDS: usize = LEAF_SEGMENTS * SEGMENT_CHUNKS / 64;

/// The word of a zone that speaks of the chunk, and its bit in it.
const fn place(spot: Spot) -> (usize, u64) {
    let chunk = spot.segment * SEGMENT_CHUNKS + spot.chunk;
    (chunk / 64, 1 << (chunk % 64))
}
