//! Which space the tree refers to: chunks for the freemap, kilobytes for overlaps.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;

use crate::freemap::Marks;
use crate::media::blockref::Location;
use crate::media::{CHUNK_LEN, ZONE_LEN};
use crate::units::{MediaOffset, Radix};

/// Chunks of a zone.
const ZONE_CHUNKS: u64 = ZONE_LEN / CHUNK_LEN;
/// Radix of a chunk.
const CHUNK_RADIX: u8 = 14;
/// Smallest grain of a block.
const GRAIN_LEN: u64 = 1024;
const ZONE_GRAINS: u64 = ZONE_LEN / GRAIN_LEN;
/// Memory of one zone's grains, covered and start bits: two bits for each of 2^20 grains.
const GRAINS_COST: usize = 256 << 10;

/// A set of bits below a fixed number.
#[derive(Debug)]
struct Bits(Box<[u64]>);

impl Bits {
    fn new(bits: u64) -> Self {
        Self(vec![0; usize::try_from(bits / 64).unwrap_or(0)].into_boxed_slice())
    }

    fn get(&self, bit: u64) -> bool {
        let word = usize::try_from(bit / 64).ok().and_then(|index| self.0.get(index));
        word.is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    fn set(&mut self, bit: u64) {
        if let Some(word) = usize::try_from(bit / 64).ok().and_then(|at| self.0.get_mut(at)) {
            *word |= 1 << (bit % 64);
        }
    }
}

/// What is referred to in one zone.
#[derive(Debug)]
struct Zone {
    chunks: Bits,
    /// Covered grains and grains that a block starts at, within the limit of memory.
    grains: Option<(Bits, Bits)>,
}

/// What marking a block found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Marked {
    /// Nobody referred to it before.
    New,
    /// A block that starts here was referred to before: shared, as far as can be told.
    Shared,
    /// It shares bytes with a block that starts elsewhere.
    Overlaps,
}

/// The space that was referred to so far.
#[derive(Debug)]
pub(super) struct Space {
    zones: BTreeMap<u64, Zone>,
    grains_left: usize,
    /// Whether some zone had no room for grains.
    pub(super) is_coarse: bool,
    /// Blocks and bytes seen for the first time.
    pub(super) blocks: u64,
    pub(super) bytes: u64,
}

impl Space {
    /// Nothing referred to yet; `memory` bounds what the search for overlaps may take. The chunks
    /// take 8 KiB for each GiB in use beside that.
    pub(super) const fn new(memory: usize) -> Self {
        Self {
            zones: BTreeMap::new(),
            grains_left: memory / GRAINS_COST,
            is_coarse: false,
            blocks: 0,
            bytes: 0,
        }
    }

    /// Takes note that the block at `location` is referred to.
    pub(super) fn mark(&mut self, location: Location) -> Marked {
        let offset = location.offset.0;
        let zone = self.zones.entry(offset / ZONE_LEN).or_insert_with(|| {
            let grains = (self.grains_left > 0).then(|| {
                self.grains_left -= 1;
                (Bits::new(ZONE_GRAINS), Bits::new(ZONE_GRAINS))
            });
            self.is_coarse |= grains.is_none();
            Zone { chunks: Bits::new(ZONE_CHUNKS), grains }
        });
        let within = offset % ZONE_LEN;
        let last = within + location.len() as u64 - 1;
        for chunk in within / CHUNK_LEN..=last / CHUNK_LEN {
            zone.chunks.set(chunk);
        }
        let marked = match &mut zone.grains {
            None => Marked::New,
            Some((covered, starts)) => {
                let (first, last) = (within / GRAIN_LEN, last / GRAIN_LEN);
                if starts.get(first) {
                    Marked::Shared
                } else {
                    let overlaps = (first..=last).any(|grain| covered.get(grain));
                    starts.set(first);
                    (first..=last).for_each(|grain| covered.set(grain));
                    if overlaps { Marked::Overlaps } else { Marked::New }
                }
            }
        };
        if marked != Marked::Shared {
            self.blocks += 1;
            self.bytes += location.len() as u64;
        }
        marked
    }

    /// Whether anything refers to the chunk at `offset`.
    pub(super) fn is_referenced(&self, offset: u64) -> bool {
        self.zones
            .get(&(offset / ZONE_LEN))
            .is_some_and(|zone| zone.chunks.get(offset % ZONE_LEN / CHUNK_LEN))
    }

    /// Whether a block is known to lie over the kilobyte at `offset`.
    pub(super) fn is_grain_used(&self, offset: u64) -> bool {
        let zone = self.zones.get(&(offset / ZONE_LEN));
        zone.and_then(|zone| zone.grains.as_ref())
            .is_some_and(|(covered, _)| covered.get(offset % ZONE_LEN / GRAIN_LEN))
    }

    /// The chunks that anything refers to, on a volume of `total_size` bytes.
    pub(super) fn marks(&self, total_size: u64) -> Marks {
        let mut marks = Marks::new(total_size);
        let Some(radix) = Radix::new(CHUNK_RADIX) else { return marks };
        for (zone, space) in &self.zones {
            for chunk in (0..ZONE_CHUNKS).filter(|chunk| space.chunks.get(*chunk)) {
                let offset = MediaOffset(zone * ZONE_LEN + chunk * CHUNK_LEN);
                marks.mark(Location { offset, radix });
            }
        }
        marks
    }

    /// The zones in which anything is referred to.
    pub(super) fn zones(&self) -> impl Iterator<Item = u64> + '_ {
        self.zones.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64, radix: u8) -> Location {
        Location { offset: MediaOffset(offset), radix: Radix::new(radix).unwrap() }
    }

    #[test]
    fn sharing_is_fine_and_overlap_is_not() {
        let mut space = Space::new(GRAINS_COST);
        assert_eq!(space.mark(at(0x80_0000, 14)), Marked::New);
        assert_eq!(space.mark(at(0x80_0000, 14)), Marked::Shared);
        assert_eq!(space.mark(at(0x80_0400, 10)), Marked::Overlaps);
        assert_eq!(space.mark(at(0x80_4000, 10)), Marked::New);
        assert!(space.is_referenced(0x80_4000));
        assert!(!space.is_referenced(0x80_8000));
        assert_eq!((space.blocks, space.bytes), (3, 16384 + 2048));
    }

    #[test]
    fn a_zone_beyond_the_limit_still_counts_for_the_freemap() {
        let mut space = Space::new(0);
        space.mark(at(0x80_0000, 10));
        assert!(space.is_coarse && space.is_referenced(0x80_0000));
    }
}
