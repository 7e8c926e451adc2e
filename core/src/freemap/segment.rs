//! What is done to one segment of a leaf: finding room in its bitmap, changing chunks, and its
//! place for small blocks (media format 8.4).
//!
//! Invariant: after [`set`] the field `avail` is what the bitmap says, if it was before.
//! Any bits, any class and any `linear` may stand in a segment.

use crate::media::freemap::{ChunkState, SEGMENT_CHUNKS};
use crate::media::raw::RawSegment;
use crate::media::{CHUNK_LEN, SEGMENT_LEN};
use crate::units::Radix;

/// Chunks of an aligned group of 64 KiB, the largest block.
pub(super) const GROUP_CHUNKS: usize = 4;
/// A chunk as segments count.
pub(super) const CHUNK_BYTES: u32 = 16 << 10;
/// A segment as segments count.
pub(super) const SEGMENT_BYTES: u32 = 4 << 20;

/// Chunks that one word of a bitmap holds.
const WORD_CHUNKS: usize = 32;
/// The low bit of each chunk, of each pair, of each group.
const CHUNKS: u64 = 0x5555_5555_5555_5555;
const PAIRS: u64 = 0x1111_1111_1111_1111;
const GROUPS: u64 = 0x0101_0101_0101_0101;

/// Neighbouring chunks that are allocated together, aligned to their size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    /// 16 KiB.
    Chunk,
    /// 32 KiB.
    Pair,
    /// 64 KiB.
    Group,
}

impl Unit {
    /// What a block of `radix` takes; `None` if it shares a chunk with others.
    pub(super) const fn of(radix: Radix) -> Option<Self> {
        match radix.bits() {
            14 => Some(Self::Chunk),
            15 => Some(Self::Pair),
            16 => Some(Self::Group),
            _ => None,
        }
    }

    pub(super) const fn chunks(self) -> usize {
        match self {
            Self::Chunk => 1,
            Self::Pair => 2,
            Self::Group => GROUP_CHUNKS,
        }
    }

    /// The low bit of each free one in `word`.
    const fn free(self, word: u64) -> u64 {
        let chunks = !(word | word >> 1) & CHUNKS;
        match self {
            Self::Chunk => chunks,
            Self::Pair => chunks & chunks >> 2 & PAIRS,
            Self::Group => {
                let pairs = chunks & chunks >> 2 & PAIRS;
                pairs & pairs >> 4 & GROUPS
            }
        }
    }
}

/// Which room [`find`] may offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    /// Any.
    Any,
    /// Only in groups of which a part is taken already.
    Broken,
}

/// How many free chunks and whole free groups there are, or came (or went, if negative).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Free {
    pub(super) chunks: i32,
    pub(super) groups: i32,
}

impl Free {
    const fn of(word: u64) -> Self {
        Self {
            chunks: Unit::Chunk.free(word).count_ones().cast_signed(),
            groups: Unit::Group.free(word).count_ones().cast_signed(),
        }
    }
}

/// What is free in `segment`.
pub(super) fn free(segment: &RawSegment) -> Free {
    segment.bitmap.iter().fold(Free::default(), |sum, word| {
        let free = Free::of(word.get());
        Free { chunks: sum.chunks + free.chunks, groups: sum.groups + free.groups }
    })
}

/// First chunk of a free `unit` at or behind chunk `from`.
pub(super) fn find(segment: &RawSegment, unit: Unit, room: Room, from: usize) -> Option<usize> {
    (0..).zip(&segment.bitmap).skip(from / WORD_CHUNKS).find_map(|(index, word)| {
        let word = word.get();
        let mut free = unit.free(word);
        if room == Room::Broken {
            // every bit of a whole free group
            free &= !(Unit::Group.free(word) * 0xff);
        }
        let first: usize = index * WORD_CHUNKS;
        if from > first {
            free &= u64::MAX << (2 * (from - first));
        }
        (free != 0).then(|| first + (free.trailing_zeros() / 2) as usize)
    })
}

/// Whether the aligned `unit` at `chunk` is free.
pub(super) fn is_free(segment: &RawSegment, unit: Unit, chunk: usize) -> bool {
    let word = segment.bitmap.get(chunk / WORD_CHUNKS).map_or(u64::MAX, |word| word.get());
    unit.free(word) >> (2 * (chunk % WORD_CHUNKS)) & 1 == 1
}

/// Puts `count` chunks at `chunk` into `state`; they must not cross a group. Keeps `avail`.
pub(super) fn set(segment: &mut RawSegment, chunk: usize, count: usize, state: ChunkState) -> Free {
    let Some(word) = segment.bitmap.get_mut(chunk / WORD_CHUNKS) else {
        return Free::default();
    };
    let bits: u64 = match state {
        ChunkState::Free => 0,
        ChunkState::Reserved => CHUNKS,
        ChunkState::PossiblyFree => CHUNKS << 1,
        ChunkState::Allocated => u64::MAX,
    };
    let mask = ((1 << (2 * count.min(GROUP_CHUNKS))) - 1) << (2 * (chunk % WORD_CHUNKS));
    let before = word.get();
    let after = before & !mask | bits & mask;
    word.set(after);
    let (before, after) = (Free::of(before), Free::of(after));
    let change =
        Free { chunks: after.chunks - before.chunks, groups: after.groups - before.groups };
    let avail = i64::from(segment.avail.get()) + i64::from(change.chunks) * CHUNK_LEN as i64;
    segment.avail.set(u32::try_from(avail).unwrap_or(0));
    change
}

/// Makes `avail` and `linear` what they may be; the bitmap is what is believed.
pub(super) fn mend(segment: &mut RawSegment) {
    let chunks = free(segment).chunks.unsigned_abs();
    segment.avail.set(chunks * CHUNK_BYTES);
    let linear = segment.linear.get();
    if linear > SEGMENT_BYTES {
        segment.linear.set(SEGMENT_BYTES);
    } else if !linear.is_multiple_of(1024) {
        segment.linear.set(linear.next_multiple_of(CHUNK_BYTES));
    }
}

/// Takes back the promise that the rest of a chunk is unused, if it speaks of one of the `count`
/// chunks at `chunk`, and of a byte before `below` of the segment. Returns whether it did.
pub(super) fn withdraw_promise(
    segment: &mut RawSegment,
    chunk: usize,
    count: usize,
    below: usize,
) -> bool {
    let linear = segment.linear.get();
    let Ok(place) = usize::try_from(linear) else {
        return false;
    };
    let is_promise = !linear.is_multiple_of(CHUNK_BYTES);
    let len = CHUNK_BYTES as usize;
    if is_promise && (chunk..chunk + count).contains(&(place / len)) && place < below {
        segment.linear.set(linear.next_multiple_of(CHUNK_BYTES).min(SEGMENT_BYTES));
        return true;
    }
    false
}

/// Whether nothing is in use or staged, and the segment may forget its class.
pub(super) fn is_unused(segment: &RawSegment) -> bool {
    segment.bitmap.iter().all(|word| word.get() == 0)
}

/// Makes it a segment that the allocator never touched.
pub(super) fn reset(segment: &mut RawSegment) {
    segment.bitmap.iter_mut().for_each(|word| word.set(0));
    segment.avail.set(SEGMENT_BYTES);
    segment.linear.set(0);
    segment.class.set(0);
}

/// Makes it one in which nothing may be allocated.
pub(super) fn close(segment: &mut RawSegment) {
    segment.bitmap.iter_mut().for_each(|word| word.set(u64::MAX));
    segment.avail.set(0);
    segment.linear.set(SEGMENT_BYTES);
    segment.class.set(0);
}

/// Whether every chunk of it is marked as in use.
pub(super) fn is_full(segment: &RawSegment) -> bool {
    segment.bitmap.iter().all(|word| word.get() == u64::MAX)
}

const _: () = {
    assert!(SEGMENT_CHUNKS == 8 * WORD_CHUNKS);
    assert!(CHUNK_BYTES as u64 == CHUNK_LEN && SEGMENT_BYTES as u64 == SEGMENT_LEN);
};
