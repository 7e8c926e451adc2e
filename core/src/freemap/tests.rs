//! The allocator against a naive model of it, and rule by rule.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::*;
use crate::media::ZONE_LEN;
use crate::media::blockref::Location;
use crate::media::check::{CheckMethod, Checks};
use crate::media::freemap::{chunk_state, segments};
use crate::media::raw::RawSegment;
use crate::units::{Radix, Tid};

mod levels;
mod rare;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const DELAY: usize = 4;
const NO_ROOT: [RawBlockref; 4] = [EMPTY; 4];
const EMPTY: RawBlockref = zerocopy::transmute!([0_u8; 128]);

/// Marsaglia's xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % end
    }
}

/// Devices and headers: what was sealed, as it lies on media.
#[derive(Default)]
struct Media {
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Media {
    fn write(&mut self, sealed: &Sealed) {
        for (offset, bytes) in &sealed.blocks {
            assert_eq!(bytes.len(), 32768);
            self.blocks.insert(offset.0, bytes.clone());
        }
    }

    /// Everything that `freemap` wants, verified.
    fn load(&self, freemap: &mut Freemap) {
        loop {
            let wanted = freemap.unread(3);
            if wanted.is_empty() {
                assert!(freemap.is_whole());
                return;
            }
            for blockref in wanted {
                freemap.load(&blockref, &self.read(&blockref)).unwrap();
            }
        }
    }

    fn read(&self, blockref: &Blockref) -> Vec<u8> {
        assert_eq!(blockref.check_method(), CheckMethod::Freemap);
        let bytes = self.blocks[&blockref.location().unwrap().offset.0].clone();
        Checks::PORTABLE.verify(bytes, blockref.check_code()).unwrap().to_vec()
    }

    /// The leaves below `root`, by zone.
    fn leaves(&self, root: &[RawBlockref]) -> BTreeMap<u64, Vec<RawSegment>> {
        let mut leaves = BTreeMap::new();
        for blockref in root.iter().filter_map(|raw| Blockref::parse(raw).unwrap()) {
            let bytes = self.read(&blockref);
            if blockref.kind() == BlockKind::FreemapLeaf {
                let old =
                    leaves.insert(blockref.key() / ZONE_LEN, segments(&bytes).unwrap().to_vec());
                assert!(old.is_none());
            } else {
                let mut below = self.leaves(slots(&bytes));
                assert!(below.keys().all(|zone| {
                    (blockref.key()..=blockref.last_key()).contains(&(zone * ZONE_LEN))
                }));
                leaves.append(&mut below);
            }
        }
        leaves
    }
}

fn radix(bits: u8) -> Radix {
    Radix::new(bits).unwrap()
}

fn class(number: u64) -> Class {
    match number % 4 {
        0 => Class::Inode,
        1 => Class::Indirect,
        2 => Class::Data,
        _ => Class::Dirent,
    }
}

fn at(offset: u64, bits: u8) -> Location {
    Location { offset: MediaOffset(offset), radix: radix(bits) }
}

fn empty(total: u64, base: u64) -> Freemap {
    let layout = Layout::new(total, base);
    let free = layout.usable_count(&(0..layout.zone_count())) * SEGMENT_LEN;
    Freemap::new(total, MediaOffset(base), &NO_ROOT, free, DELAY).unwrap()
}

fn commit(freemap: &mut Freemap, media: &mut Media, tid: u64) -> Sealed {
    let sealed = freemap.seal(Tid(tid), Tid(7), &Checks::PORTABLE);
    media.write(&sealed);
    freemap.committed();
    sealed
}

/// Counts from nothing but the zones.
fn recounted(freemap: &Freemap) -> Counts {
    let mut counts = Counts { unread_zones: freemap.counts().unread_zones, ..Counts::default() };
    for zone in 0..freemap.layout.zone_count() {
        for segment in freemap.layout.usable(zone) {
            let spot = |chunk| Spot { zone, segment, chunk };
            let is_free: Vec<bool> = (0..256)
                .map(|chunk| freemap.state(spot(chunk).offset()) == Some(ChunkState::Free))
                .collect();
            counts.free_chunks += is_free.iter().filter(|free| **free).count() as u64;
            let groups = is_free.chunks(4).filter(|group| group.iter().all(|free| *free));
            counts.free_groups += groups.count() as u64;
        }
    }
    counts
}

/// What every sealed leaf has to satisfy.
fn check_leaves(leaves: &BTreeMap<u64, Vec<RawSegment>>, total: u64, base: u64, seed: u64) {
    for (zone, leaf) in leaves {
        for (index, segment) in (0_u64..).zip(leaf) {
            let start = zone * GIB + index * 4 * MIB;
            let free = (0..256).filter(|c| chunk_state(segment, *c) == ChunkState::Free).count();
            assert_eq!(segment.avail.get() as usize, 16384 * free, "seed {seed}, {start:#x}");
            let is_static = start.is_multiple_of(GIB) || start < base || start + 4 * MIB > total;
            if is_static {
                assert_eq!(free, 0, "seed {seed}, {start:#x}");
                assert_eq!(segment.linear.get(), 0x40_0000);
            }
            let used = (0..256).any(|c| chunk_state(segment, c) != ChunkState::Free);
            assert_eq!(segment.class.get() != 0, used && !is_static, "seed {seed}, {start:#x}");
            let linear = segment.linear.get();
            if linear % 16384 != 0 {
                let chunk = (linear / 16384) as usize;
                assert_eq!(chunk_state(segment, chunk), ChunkState::Allocated, "seed {seed}");
            }
        }
    }
}

struct Model {
    freemap: Freemap,
    media: Media,
    random: Random,
    seed: u64,
    total: u64,
    base: u64,
    tid: u64,
    /// Allocated and not retired, or retired and perhaps referred to by one of four headers:
    /// start, (end, the commit that no longer refers to it).
    blocks: BTreeMap<u64, (u64, Option<u64>)>,
    /// Chunks that hold anything: how many blocks.
    chunks: BTreeMap<u64, u32>,
    root: [RawBlockref; 4],
}

impl Model {
    fn new(total: u64, base: u64, seed: u64) -> Self {
        Self {
            freemap: empty(total, base),
            media: Media::default(),
            random: Random(seed | 1),
            seed,
            total,
            base: base.next_multiple_of(4 * MIB),
            tid: 17,
            blocks: BTreeMap::new(),
            chunks: BTreeMap::new(),
            root: NO_ROOT,
        }
    }

    fn allocate(&mut self) -> bool {
        let bits = u8::try_from(10 + self.random.below(7)).unwrap();
        let class = class(self.random.below(4));
        let near = match self.random.below(4) {
            0 => Some(MediaOffset(self.random.below(self.total * 2))),
            1 => self.blocks.last_key_value().map(|(_, (end, _))| MediaOffset(*end)),
            _ => None,
        };
        let seed = self.seed;
        let Some(MediaOffset(start)) = self.freemap.allocate(class, radix(bits), near) else {
            return false;
        };
        let (len, end) = (1 << bits, start + (1 << bits));
        assert!(start.is_multiple_of(if bits >= 14 { len } else { 1024 }), "seed {seed}");
        assert!(bits >= 14 || start / 16384 == (end - 1) / 16384, "seed {seed}");
        assert!(start >= self.base && end <= self.total, "seed {seed}: {start:#x}");
        assert!(start % GIB >= 4 * MIB, "seed {seed}: {start:#x}");
        let before = self.blocks.range(..end).next_back();
        assert!(before.is_none_or(|(_, (end, _))| *end <= start), "seed {seed}: {start:#x}");
        self.blocks.insert(start, (end, None));
        for chunk in start / 16384..end.div_ceil(16384) {
            *self.chunks.entry(chunk).or_default() += 1;
        }
        true
    }

    fn retire(&mut self) {
        let from = self.random.below(self.total);
        let next = self.blocks.range_mut(from..).find(|(_, (_, retired))| retired.is_none());
        if let Some((start, (end, retired))) = next {
            *retired = Some(self.tid);
            let bits = (*end - *start).trailing_zeros();
            self.freemap.retire(at(*start, u8::try_from(bits).unwrap()));
        }
    }

    fn commit(&mut self) {
        let sealed = commit(&mut self.freemap, &mut self.media, self.tid);
        self.root = sealed.root;
        let leaves = self.media.leaves(&sealed.root);
        check_leaves(&leaves, self.total, self.base, self.seed);
        for chunk in self.chunks.keys() {
            let (zone, rest) = (chunk / 65536, chunk % 65536);
            let segment = &leaves[&zone][(rest / 256) as usize];
            let state = chunk_state(segment, (rest % 256) as usize);
            assert_eq!(state, ChunkState::Allocated, "seed {}: chunk {chunk:#x}", self.seed);
        }
        // with this commit durable, headers of it and the three before it are good
        let gone = self.tid.saturating_sub(DELAY as u64 - 1);
        self.blocks.retain(|start, (end, retired)| {
            let is_gone = retired.is_some_and(|tid| tid <= gone);
            if is_gone {
                for chunk in *start / 16384..end.div_ceil(16384) {
                    *self.chunks.get_mut(&chunk).unwrap() -= 1;
                }
            }
            !is_gone
        });
        self.chunks.retain(|_, count| *count > 0);
        self.tid += 1;
        assert_eq!(self.freemap.counts(), recounted(&self.freemap), "seed {}", self.seed);
        assert_eq!(self.freemap.free_bytes(), self.freemap.counts().free_chunks * 16384);
    }

    /// A mount later, the same is known, but for what was waiting.
    fn check_reload(&mut self) {
        self.commit();
        for _ in 0..DELAY {
            self.commit();
        }
        let (free, counts) = (self.freemap.free_bytes(), self.freemap.counts());
        let base = MediaOffset(self.base);
        let mut again = Freemap::new(self.total, base, &self.root, free, DELAY).unwrap();
        self.media.load(&mut again);
        assert_eq!(again.counts(), counts, "seed {}", self.seed);
        for (number, zone) in &again.zones {
            assert!(zone.bytes() == self.freemap.zones[number].bytes(), "seed {}", self.seed);
        }
        assert_eq!(again.zones.len(), self.freemap.zones.len());
        assert!(again.seal(Tid(99), Tid(7), &Checks::PORTABLE).blocks.is_empty());
    }
}

#[test]
fn random_use_agrees_with_the_model() {
    let sizes = [(32 * MIB, 20 * MIB + 3072), (48 * MIB, 21 * MIB), (GIB + 8 * MIB, GIB - 8 * MIB)];
    for seed in 1..=24_u64 {
        let (total, base) =
            if seed % 3 == 0 { sizes[2] } else { sizes[usize::from(seed % 3 == 1)] };
        let mut model = Model::new(total, base, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..6000 {
            match model.random.below(100) {
                0 => model.commit(),
                1..=40 => model.retire(),
                _ => _ = model.allocate(),
            }
        }
        model.check_reload();
    }
}

#[test]
fn what_is_full_says_so_and_only_then() {
    for bits in 10..=16 {
        let mut freemap = empty(40 * MIB, 20 * MIB + 3072);
        let mut count = 0_u64;
        while freemap.allocate(class(count), radix(bits), None).is_some() {
            count += 1;
        }
        // small blocks of four classes fill their last chunks unevenly
        assert_eq!(count << bits, 16 * MIB, "radix {bits}");
        assert_eq!(freemap.counts(), Counts::default());
        assert_eq!(freemap.free_bytes(), 0);
    }
    let mut nothing = empty(24 * MIB, 20 * MIB + 3072);
    assert_eq!(nothing.counts(), Counts::default());
    assert_eq!(nothing.allocate(Class::Inode, radix(10), None), None);
    assert!(nothing.seal(Tid(17), Tid(1), &Checks::PORTABLE).blocks.is_empty());
}

#[test]
fn a_file_lies_in_one_piece_beside_metadata() {
    let mut freemap = empty(3 * GIB, 132 * MIB + 3072);
    let mut expected = None;
    let mut jumps = 0;
    for turn in 0..2000 {
        let here = freemap.allocate(Class::Data, radix(16), None).unwrap().0;
        jumps += u32::from(expected.is_some_and(|expected| expected != here));
        expected = Some(here + 65536);
        if turn % 8 == 0 {
            freemap.allocate(Class::Inode, radix(10), None).unwrap();
            freemap.allocate(Class::Indirect, radix(14), None).unwrap();
        }
    }
    assert!(jumps <= 3, "{jumps} jumps");
}

#[test]
fn small_blocks_share_chunks_whatever_their_sizes() {
    let mut freemap = empty(3 * GIB, 132 * MIB);
    let mut random = Random(5);
    let mut bytes = 0;
    let before = freemap.counts().free_chunks;
    for _ in 0..10000 {
        let bits = u8::try_from(10 + random.below(4)).unwrap();
        freemap.allocate(Class::Data, radix(bits), None).unwrap();
        bytes += 1 << bits;
    }
    let taken = (before - freemap.counts().free_chunks) * 16384;
    assert!(taken < bytes + 5 * 16384, "{taken} bytes taken for {bytes}");
}

#[test]
fn small_blocks_spare_whole_groups_when_those_are_scarce() {
    let mut freemap = empty(64 * MIB, 20 * MIB);
    let mut blocks = Vec::new();
    while let Some(offset) = freemap.allocate(Class::Data, radix(14), None) {
        blocks.push(offset);
    }
    // every second chunk, and one whole group
    for (index, offset) in blocks.iter().enumerate() {
        if index % 2 == 0 || index < 4 {
            freemap.retire(Location { offset: *offset, radix: radix(14) });
        }
    }
    let mut media = Media::default();
    (0..4).for_each(|tid| _ = commit(&mut freemap, &mut media, 17 + tid));
    assert_eq!(freemap.counts().free_groups, 1);
    while freemap.counts().free_chunks > 4 {
        freemap.allocate(Class::Inode, radix(14), None).unwrap();
    }
    assert_eq!(freemap.counts().free_groups, 1);
    assert!(freemap.allocate(Class::Data, radix(16), None).is_some());
}

#[test]
fn a_retired_block_waits_for_all_headers_that_may_refer_to_it() {
    for bits in [10, 13, 14, 16] {
        let mut freemap = empty(32 * MIB, 20 * MIB);
        let mut media = Media::default();
        let count = 16384_u64.div_ceil(1 << bits);
        let blocks: Vec<_> =
            (0..count).map(|_| freemap.allocate(Class::Data, radix(bits), None).unwrap()).collect();
        let before = freemap.free_bytes();
        commit(&mut freemap, &mut media, 17);
        blocks.iter().for_each(|block| freemap.retire(at(block.0, bits)));
        for tid in 18..21 {
            commit(&mut freemap, &mut media, tid);
            assert_eq!(freemap.free_bytes(), before, "radix {bits}, commit {tid}");
            assert_eq!(freemap.state(blocks[0]), Some(ChunkState::Allocated));
        }
        commit(&mut freemap, &mut media, 21);
        assert_eq!(freemap.free_bytes(), before + (count << bits));
        assert_eq!(freemap.state(blocks[0]), Some(ChunkState::Free));
        assert_eq!(freemap.waiting_chunks(), 0);
        let sealed = commit(&mut freemap, &mut media, 22);
        let leaf = &media.leaves(&sealed.root)[&0];
        assert_eq!((leaf[5].class.get(), leaf[5].linear.get()), (0, 0), "unused again");
    }
}

#[test]
fn chunks_with_blocks_of_others_are_not_given_back() {
    let mut freemap = empty(32 * MIB, 20 * MIB);
    let mut media = Media::default();
    let shared: Vec<_> =
        (0..15).map(|_| freemap.allocate(Class::Inode, radix(10), None).unwrap()).collect();
    let large = freemap.allocate(Class::Data, radix(16), None).unwrap();
    freemap.forget_young();
    // fills the chunk, which stays open
    let late = freemap.allocate(Class::Inode, radix(10), None).unwrap();
    assert_eq!(late.0 / 16384, shared[0].0 / 16384);
    shared.iter().chain([&late]).for_each(|block| freemap.retire(at(block.0, 10)));
    freemap.retire(at(large.0, 16));
    // what was never allocated, and what is not there
    for wrong in [24 * MIB, 0, u64::MAX - 65535, 5 * GIB] {
        freemap.retire(at(wrong, 16));
        freemap.retire(at(wrong, 10));
    }
    let before = freemap.counts();
    (17..30).for_each(|tid| _ = commit(&mut freemap, &mut media, tid));
    assert_eq!(freemap.counts(), before);
}

#[test]
fn a_mistaken_second_retire_frees_nothing_else() {
    let mut freemap = empty(32 * MIB, 20 * MIB);
    let mut media = Media::default();
    let block = freemap.allocate(Class::Data, radix(16), None).unwrap();
    let small: Vec<_> =
        (0..16).map(|_| freemap.allocate(Class::Data, radix(10), None).unwrap()).collect();
    freemap.retire(at(block.0, 16));
    freemap.retire(at(block.0, 16));
    (0..17).for_each(|_| freemap.retire(at(small[0].0, 10)));
    assert_eq!(freemap.waiting_chunks(), 5);
    (17..30).for_each(|tid| _ = commit(&mut freemap, &mut media, tid));
    assert_eq!(freemap.counts(), recounted(&freemap));
}

#[test]
fn blocks_walk_through_the_eight_sets() {
    let mut freemap = empty(2 * GIB, 132 * MIB);
    let mut media = Media::default();
    let places: Vec<u64> = (0..10)
        .map(|turn| {
            freemap.allocate(Class::Data, radix(16), None).unwrap();
            let sealed = commit(&mut freemap, &mut media, 17 + turn);
            assert_eq!(sealed.blocks.len(), 1);
            assert_eq!(sealed.root[0].mirror_tid.get(), 17 + turn);
            sealed.blocks[0].0.0
        })
        .collect();
    let sets = [0x1, 0x6, 0xb, 0x10, 0x15, 0x1a, 0x1f, 0x24, 0x1, 0x6];
    assert_eq!(places, sets.map(|slot: u64| slot << 16));
    // not durable: the same place
    freemap.allocate(Class::Data, radix(16), None).unwrap();
    let first = freemap.seal(Tid(30), Tid(7), &Checks::PORTABLE);
    assert!(freemap.seal(Tid(30), Tid(7), &Checks::PORTABLE).blocks.is_empty());
    freemap.allocate(Class::Data, radix(16), None).unwrap();
    let second = freemap.seal(Tid(30), Tid(7), &Checks::PORTABLE);
    assert_eq!(first.blocks[0].0, second.blocks[0].0);
    assert_ne!(first.root, second.root);
}

#[test]
fn other_writers_are_told_where_a_chunk_is_unused() {
    let mut freemap = empty(32 * MIB, 20 * MIB);
    for (count, linear) in [(1, 1024), (3, 4096), (12, 16384), (1, 16384 + 1024)] {
        (0..count).for_each(|_| _ = freemap.allocate(Class::Inode, radix(10), None).unwrap());
        let sealed = freemap.seal(Tid(17), Tid(1), &Checks::PORTABLE);
        assert_eq!(segments(&sealed.blocks[0].1).unwrap()[5].linear.get(), linear);
    }
}

#[test]
fn a_snapshot_keeps_nothing_that_was_retired_before_it() {
    let (mut freemap, mut media) = (empty(32 * MIB, 20 * MIB), Media::default());
    let before = freemap.free_bytes();
    let block = freemap.allocate(Class::Data, radix(16), None).unwrap();
    freemap.retire(at(block.0, 16));
    freemap.forget_young();
    (17..21).for_each(|tid| _ = commit(&mut freemap, &mut media, tid));
    assert_eq!(freemap.free_bytes(), before);
}

#[test]
fn what_is_referred_to_after_all_waits_no_longer() {
    let (mut freemap, mut media) = (empty(32 * MIB, 20 * MIB), Media::default());
    let block = freemap.allocate(Class::Data, radix(16), None).unwrap();
    freemap.retire(at(block.0, 16));
    let middle = at(block.0 + 16384, 14);
    assert_eq!(freemap.mark_recovered(middle, Class::Data), Ok(0));
    assert_eq!(freemap.waiting_chunks(), 3);
    (17..21).for_each(|tid| _ = commit(&mut freemap, &mut media, tid));
    assert_eq!(freemap.state(middle.offset), Some(ChunkState::Allocated));
    assert_eq!(freemap.state(block), Some(ChunkState::Free));
    assert_eq!(freemap.counts(), recounted(&freemap));
}

#[test]
fn six_zones_are_filled_to_the_last_group() {
    let (total, base) = (6 * GIB + 8 * MIB, GIB - 8 * MIB);
    let mut freemap = empty(total, base);
    let groups = freemap.counts().free_groups;
    assert_eq!(groups, (2 + 5 * 255 + 1) * 64);
    let (mut media, mut seen) = (Media::default(), BTreeSet::new());
    while let Some(place) = freemap.allocate(class(seen.len() as u64), radix(16), None) {
        assert!(seen.insert(place.0));
    }
    assert_eq!(seen.len() as u64, groups);
    let sealed = commit(&mut freemap, &mut media, 17);
    let leaves = media.leaves(&sealed.root);
    assert_eq!((leaves.len(), sealed.blocks.len()), (7, 8));
    check_leaves(&leaves, total, base, 0);
    let mut again = Freemap::new(total, MediaOffset(base), &sealed.root, 0, DELAY).unwrap();
    media.load(&mut again);
    assert_eq!(again.counts(), Counts::default());
    // what comes free is found again, wherever it is
    let last = *seen.last().unwrap();
    freemap.retire(at(last, 16));
    (18..22).for_each(|tid| _ = commit(&mut freemap, &mut media, tid));
    assert_eq!(freemap.allocate(Class::Dirent, radix(16), None), Some(MediaOffset(last)));
    assert_eq!(freemap.allocate(Class::Dirent, radix(10), None), None);
}
