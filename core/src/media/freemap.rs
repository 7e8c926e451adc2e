//! Freemap leaves: which 16 KiB chunks of a zone are in use (media format 8).

use zerocopy::FromBytes;

use super::raw::RawSegment;
use super::{CHUNK_LEN, SEGMENT_LEN, ZONE_LEN};

/// Chunks of one segment.
pub const SEGMENT_CHUNKS: usize = (SEGMENT_LEN / CHUNK_LEN) as usize;
/// Segments of one leaf.
pub const LEAF_SEGMENTS: usize = (ZONE_LEN / SEGMENT_LEN) as usize;
/// Size of a freemap block of any level.
pub const FREEMAP_BLOCK_LEN: usize = 32768;

/// State of one chunk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChunkState {
    /// May be allocated.
    Free,
    /// Not used by any writer.
    Reserved,
    /// Staged for freeing by a bulk scan; not to be allocated.
    PossiblyFree,
    /// In use.
    Allocated,
}

/// The segments of a leaf; `None` unless `bytes` are a whole freemap block.
#[must_use]
pub fn segments(bytes: &[u8]) -> Option<&[RawSegment]> {
    <[RawSegment]>::ref_from_bytes(bytes).ok().filter(|segments| segments.len() == LEAF_SEGMENTS)
}

/// State of chunk `index` (0 to 255) of a segment.
#[must_use]
pub fn chunk_state(segment: &RawSegment, index: usize) -> ChunkState {
    let word = segment.bitmap.get(index / 32).map_or(u64::MAX, |word| word.get());
    match word >> (2 * (index % 32)) & 3 {
        0 => ChunkState::Free,
        1 => ChunkState::Reserved,
        2 => ChunkState::PossiblyFree,
        _ => ChunkState::Allocated,
    }
}

/// Where the freemap block of `level` (1 to 5) that covers `key` lies in rotation set `set`
/// (0 to 7).
#[must_use]
pub const fn block_offset(key: u64, level: u8, set: u64) -> u64 {
    let size_bits = 22 + 8 * level as u32;
    let base = if size_bits >= 64 { 0 } else { key >> size_bits << size_bits };
    base + (1 + 5 * set + (level as u64 - 1)) * 0x10000
}

/// The level of a freemap blockref with `key_bits`, 1 for leaves.
#[must_use]
pub const fn level(key_bits: u8) -> Option<u8> {
    match key_bits {
        30 => Some(1),
        38 => Some(2),
        46 => Some(3),
        54 => Some(4),
        62 => Some(5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn the_example_of_the_specification() {
        assert_eq!(block_offset(3 << 30, 1, 2), 0xc00b_0000);
        assert_eq!(block_offset(3 << 30, 2, 0), 0x2_0000);
        assert_eq!(level(46), Some(3));
    }

    #[test]
    fn chunk_states_by_their_bits() {
        let mut segment = RawSegment::new_zeroed();
        segment.bitmap[1].set(0b11_10_01_00);
        let states: alloc::vec::Vec<_> = (32..36).map(|at| chunk_state(&segment, at)).collect();
        assert_eq!(
            states,
            [
                ChunkState::Free,
                ChunkState::Reserved,
                ChunkState::PossiblyFree,
                ChunkState::Allocated
            ]
        );
        assert_eq!(chunk_state(&segment, 9999), ChunkState::Allocated, "no chunk is never free");
    }
}
