//! Hostile bytes, scans, recovery, growth.

use zerocopy::IntoBytes;

use super::*;
use crate::error::DamageKind;

const TOTAL: u64 = GIB + 64 * MIB;
const BASE: u64 = GIB - 32 * MIB;

/// A freemap of two leaves whose first one says `bytes`.
fn with_leaf(change: impl Fn(usize, &mut RawSegment)) -> (Freemap, RawBlockref) {
    let mut first = empty(TOTAL, BASE);
    let mut media = Media::default();
    first.mark_recovered(at(BASE + 8 * MIB, 16), Class::Data).unwrap();
    let mut root = commit(&mut first, &mut media, 17).root;
    root[0].copy_id = 0xa5;
    root[0].check[60] = 0x5a;
    root[0].embed[15] = 3;
    let blockref = Blockref::parse(&root[0]).unwrap().unwrap();
    let mut leaf = segments(&media.read(&blockref)).unwrap().to_vec();
    (0..).zip(&mut leaf).for_each(|(index, segment)| change(index, segment));
    let mut freemap =
        Freemap::new(TOTAL, MediaOffset(BASE), &root, first.free_bytes(), DELAY).unwrap();
    freemap.load(&blockref, leaf.as_bytes()).unwrap();
    (freemap, root[0])
}

#[test]
fn a_leaf_may_say_anything() {
    for seed in 1..200 {
        let start = 0x1234_5678_9abc_def1_u64.wrapping_mul(seed) | 1;
        let (mut freemap, _) = with_leaf(|index, segment| {
            let mut random = Random(start ^ ((index as u64 + 1) * 0x9e37_79b9_0000));
            for byte in segment.as_mut_bytes() {
                *byte = random.below(256).to_le_bytes()[0];
            }
            if random.below(2) == 0 {
                segment.bitmap.iter_mut().for_each(|word| word.set(word.get() & 0x3_f000_00ff));
            }
        });
        assert_eq!(freemap.counts(), recounted(&freemap), "seed {seed}");
        let mut media = Media::default();
        let mut random = Random(start);
        let mut taken = BTreeMap::new();
        let mut step = |freemap: &mut Freemap, random: &mut Random| {
            let bits = u8::try_from(10 + random.below(7)).unwrap();
            let Some(place) = freemap.allocate(class(random.below(4)), radix(bits), None) else {
                return false;
            };
            let end = place.0 + (1 << bits);
            let before = taken.range(..end).next_back();
            assert!(before.is_none_or(|(_, end)| *end <= place.0), "seed {seed}");
            taken.insert(place.0, end);
            assert!(place.0 >= BASE && end <= TOTAL && place.0 % GIB >= 4 * MIB);
            random.below(3) == 0 || {
                freemap.retire(at(place.0, bits));
                true
            }
        };
        (0..300).for_each(|_| _ = step(&mut freemap, &mut random));
        freemap.begin_scan();
        let mut marks = Marks::new(TOTAL);
        (0..100).for_each(|_| marks.mark(at(random.below(TOTAL * 2) & !0x3ff, 16)));
        freemap.stage(&marks);
        freemap.free_staged(&marks);
        freemap.mark_recovered(at(BASE + 4 * MIB, 16), Class::Inode).unwrap();
        let sealed = freemap.seal(Tid(18), Tid(7), &Checks::PORTABLE);
        media.write(&sealed);
        for segment in freemap.layout.usable(0) {
            let segment = &media.leaves(&sealed.root)[&0][segment];
            let free = (0..256).filter(|c| chunk_state(segment, *c) == ChunkState::Free).count();
            assert_eq!(segment.avail.get() as usize, 16384 * free);
            assert!(segment.linear.get() <= 0x40_0000 && segment.linear.get() % 1024 == 0);
        }
        assert_eq!(freemap.counts(), recounted(&freemap), "seed {seed}");
        freemap.grow(TOTAL + 128 * MIB).unwrap();
        assert_eq!(freemap.counts(), recounted(&freemap), "seed {seed}");
    }
}

#[test]
fn what_is_not_ours_to_set_survives() {
    let (mut freemap, old) = with_leaf(|_, segment| segment.reserved_20 = [9; 32]);
    assert!(freemap.seal(Tid(18), Tid(1), &Checks::PORTABLE).blocks.is_empty(), "only loaded");
    freemap.allocate(Class::Inode, radix(10), None).unwrap();
    let sealed = freemap.seal(Tid(18), Tid(1), &Checks::PORTABLE);
    let new = &sealed.root[0];
    assert_eq!((new.copy_id, new.check[60], new.embed[15]), (0xa5, 0x5a, 3));
    assert_eq!(new.check[8..16], old.check[8..16], "the hint of its creation");
    assert_eq!(new.modify_tid.get(), 7, "the highest");
    let leaf = segments(&sealed.blocks[0].1).unwrap();
    assert!(leaf.iter().all(|segment| segment.reserved_20 == [9; 32]));
}

#[test]
fn a_promise_of_others_is_kept_and_not_used() {
    let index = ((BASE + 8 * MIB) / (4 * MIB)) as usize % 256;
    // inodes of another writer: half of chunk 8, and the promise about the rest of it
    let foreign = |at: usize, segment: &mut RawSegment| {
        if at == index {
            segment.class.set(Class::Inode.code());
            segment.bitmap[0].set(0x3_ffff);
            segment.linear.set(8 * 16384 + 8192);
        }
    };
    let (mut freemap, _) = with_leaf(foreign);
    let from = BASE + 8 * MIB + 8 * 16384;
    for _ in 0..2000 {
        let place = freemap.allocate(Class::Inode, radix(10), None).unwrap().0;
        assert!(!(from..from + 16384).contains(&place));
    }
    // a promise about a chunk that is free is void once it is taken
    let (mut freemap, _) = with_leaf(|at, segment| {
        foreign(at, segment);
        if at == index {
            segment.linear.set(12 * 16384 + 1024);
        }
    });
    let near = MediaOffset(BASE + 8 * MIB + 12 * 16384);
    freemap.allocate(Class::Inode, radix(16), Some(near)).unwrap();
    let sealed = freemap.seal(Tid(18), Tid(1), &Checks::PORTABLE);
    assert_eq!(segments(&sealed.blocks[0].1).unwrap()[index].linear.get(), 13 * 16384);
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let (freemap, leaf) = with_leaf(|_, _| ());
    let new = |root: [RawBlockref; 4]| {
        Freemap::new(TOTAL, MediaOffset(BASE), &root, 0, 1).map(|_| ()).map_err(|error| error.kind)
    };
    assert_eq!(new([leaf, leaf, EMPTY, EMPTY]), Err(DamageKind::KeyOrder));
    let mut data = leaf;
    (data.kind, data.key_bits) = (3, 16);
    data.data_off.set(0x800_0000 | 16);
    data.methods = 0x30;
    assert_eq!(new([data, EMPTY, EMPTY, EMPTY]), Err(DamageKind::NotAllowed));
    let mut node = leaf;
    (node.kind, node.key_bits) = (5, 38);
    let whole = Freemap::new(TOTAL, MediaOffset(BASE), &[node, EMPTY, EMPTY, EMPTY], 0, 1);
    let mut whole = whole.unwrap();
    let blockref = whole.unread(1)[0];
    let mut table = alloc::vec![EMPTY; 256];
    table[0] = node;
    let kind = |result: Result<(), Damage>| result.map_err(|error| error.kind);
    assert_eq!(kind(whole.load(&blockref, table.as_bytes())), Err(DamageKind::Nesting));
    table[0] = leaf;
    table[0].key.set(256 * GIB);
    let range = DamageKind::KeyRange { low: 0, high: 256 * GIB - 1 };
    assert_eq!(kind(whole.load(&blockref, table.as_bytes())), Err(range));
    assert!(whole.load(&blockref, &[0; 100]).is_err());
    whole.unusable(&blockref);
    assert!(whole.is_whole());
    assert_eq!(whole.allocate(Class::Data, radix(16), None), None);
    table[0] = leaf;
    whole.load(&blockref, table.as_bytes()).unwrap();
    assert_eq!(whole.counts(), Counts::default(), "given up is given up");
    drop(freemap);
}

#[test]
fn a_scan_frees_in_two_steps_what_it_did_not_mark() {
    let (mut freemap, mut media) = (empty(TOTAL, BASE), Media::default());
    let data = |freemap: &mut Freemap| freemap.allocate(Class::Data, radix(16), None).unwrap();
    let (kept, lost, retired) = (data(&mut freemap), data(&mut freemap), data(&mut freemap));
    let small = freemap.allocate(Class::Inode, radix(10), None).unwrap();
    commit(&mut freemap, &mut media, 17);
    freemap.begin_scan();
    let newer = data(&mut freemap);
    freemap.retire(at(retired.0, 16));
    let mut marks = Marks::new(TOTAL);
    marks.mark(at(kept.0, 16));
    marks.mark(at(u64::MAX - 65535, 16));
    marks.mark(at(5 * MIB, 16));
    assert_eq!(marks.count(), 8);
    let free = freemap.free_bytes();
    let staged = freemap.stage(&marks);
    assert_eq!(staged, Staged { staged: 5, ..Staged::default() }, "lost, and an inode's chunk");
    assert_eq!(freemap.state(lost), Some(ChunkState::PossiblyFree));
    assert_eq!(freemap.stage(&marks), Staged::default());
    // staged chunks are nobody's: no room for small blocks, nothing to retire
    let other = freemap.allocate(Class::Inode, radix(10), None).unwrap();
    assert_ne!(other.0 / 16384, small.0 / 16384);
    freemap.retire(at(lost.0, 16));
    assert_eq!(freemap.free_bytes(), free - 16384);
    commit(&mut freemap, &mut media, 18);
    // somebody refers to a part of it after all
    marks.mark(at(lost.0, 14));
    let freed = freemap.free_staged(&marks);
    assert_eq!(freed, Staged { freed: 4, kept: 1, ..Staged::default() });
    assert_eq!(freemap.free_bytes(), free - 16384 + 4 * 16384);
    for (place, state) in [
        (kept, ChunkState::Allocated),
        (newer, ChunkState::Allocated),
        (retired, ChunkState::Allocated),
        (lost, ChunkState::Allocated),
        (MediaOffset(lost.0 + 16384), ChunkState::Free),
        (small, ChunkState::Free),
        (other, ChunkState::Allocated),
    ] {
        assert_eq!(freemap.state(place), Some(state), "{place}");
    }
    let sealed = commit(&mut freemap, &mut media, 19);
    check_leaves(&media.leaves(&sealed.root), TOTAL, BASE, 0);
    assert_eq!(freemap.counts(), recounted(&freemap));
}

#[test]
fn a_small_block_in_an_open_chunk_is_spared_by_the_scan() {
    let mut freemap = empty(TOTAL, BASE);
    let old = freemap.allocate(Class::Inode, radix(10), None).unwrap();
    freemap.begin_scan();
    let new = freemap.allocate(Class::Inode, radix(10), None).unwrap();
    assert_eq!(old.0 + 1024, new.0);
    assert_eq!(freemap.stage(&Marks::new(TOTAL)), Staged::default());
}

#[test]
fn what_is_referenced_and_free_is_told() {
    let mut freemap = empty(TOTAL, BASE);
    let mut marks = Marks::new(TOTAL);
    marks.mark(at(GIB + 4 * MIB, 15));
    marks.mark(at(GIB + 64 * 1024, 15));
    let free = freemap.free_bytes();
    assert_eq!(freemap.stage_zone(1, &marks).unwrap().corrupt, 2);
    assert_eq!(freemap.free_bytes(), free - 32768);
    assert_eq!(freemap.free_staged_zone(1, &marks), Some(Staged::default()));
    assert_eq!(freemap.counts(), recounted(&freemap));
    let (_, leaf) = with_leaf(|_, _| ());
    let root = [leaf, EMPTY, EMPTY, EMPTY];
    let mut unread = Freemap::new(TOTAL, MediaOffset(BASE), &root, 0, 1).unwrap();
    assert_eq!(unread.stage_zone(0, &marks), None);
}

#[test]
fn recovery_marks_what_is_missing_and_makes_leaves() {
    let (mut freemap, mut media) = (empty(TOTAL, BASE), Media::default());
    // the upper half of 512 KiB, where others err
    let block = at(GIB + 4 * MIB + 20 * 16384, 15);
    let free = freemap.free_bytes();
    assert_eq!(freemap.mark_recovered(block, Class::Indirect), Ok(2));
    assert_eq!(freemap.mark_recovered(block, Class::Indirect), Ok(0));
    assert_eq!(freemap.free_bytes(), free - 32768);
    assert_eq!(freemap.mark_recovered(at(BASE - 1024, 10), Class::Inode), Ok(0), "static");
    for outside in [TOTAL, GIB, 500 * GIB] {
        let marked = freemap.mark_recovered(at(outside, 10), Class::Inode);
        assert_eq!(marked, Err(Unready::Unusable));
    }
    let sealed = commit(&mut freemap, &mut media, 17);
    let leaves = media.leaves(&sealed.root);
    assert_eq!(leaves[&1][1].bitmap[0].get(), 0xf << 40);
    assert_eq!(leaves[&1][1].class.get(), Class::Indirect.code());
    // a promise that is too old, and one that holds
    for (linear, left) in [(2048, 16384), (4096, 4096)] {
        let index = (BASE / (4 * MIB)) as usize;
        let (mut freemap, _) = with_leaf(|at, segment| {
            if at == index {
                segment.bitmap[0].set(3);
                segment.linear.set(linear);
            }
        });
        assert_eq!(freemap.mark_recovered(at(BASE + 3072, 10), Class::Inode), Ok(0));
        let sealed = freemap.seal(Tid(18), Tid(1), &Checks::PORTABLE);
        let leaf = segments(&sealed.blocks[0].1).unwrap();
        assert_eq!(leaf[index].linear.get(), left);
    }
}

#[test]
fn a_volume_grows_by_what_comes_free() {
    for (from, to) in [(TOTAL, TOTAL + 64 * MIB), (TOTAL, 7 * GIB), (2 * GIB, 2 * GIB + 8 * MIB)] {
        for is_touched in [false, true] {
            let (mut freemap, mut media) = (empty(from, BASE), Media::default());
            if is_touched {
                freemap.mark_recovered(at(GIB + 8 * MIB, 16), Class::Data).unwrap();
                commit(&mut freemap, &mut media, 17);
            }
            let (free, fresh) = (freemap.free_bytes(), empty(to, BASE).free_bytes());
            let gained = fresh - empty(from, BASE).free_bytes();
            assert_eq!(freemap.grow(to), Ok(gained));
            assert_eq!(freemap.grow(to), Ok(0), "once");
            assert_eq!(freemap.free_bytes(), free + gained);
            assert_eq!(freemap.counts(), recounted(&freemap));
            let sealed = commit(&mut freemap, &mut media, 18);
            check_leaves(&media.leaves(&sealed.root), to, BASE, 0);
            let mut again =
                Freemap::new(to, MediaOffset(BASE), &sealed.root, free + gained, 1).unwrap();
            media.load(&mut again);
            assert_eq!(again.counts(), freemap.counts());
            let new = freemap.allocate(Class::Data, radix(16), Some(MediaOffset(to - 65536)));
            assert!(new.is_some());
        }
    }
    let (_, leaf) = with_leaf(|_, _| ());
    let root = [leaf, EMPTY, EMPTY, EMPTY];
    let mut unread = Freemap::new(GIB - 8 * MIB, MediaOffset(BASE), &root, 0, 1).unwrap();
    assert_eq!(unread.grow(GIB), Err(Unready::Unread(MediaOffset(0))));
    assert_eq!(unread.grow(GIB - 16 * MIB), Ok(0));
}

#[test]
fn sizes_that_no_device_has_are_harmless() {
    for (total, base) in [(u64::MAX, 0), (u64::MAX, u64::MAX), (0, u64::MAX), (0, 0), (1, GIB)] {
        let mut freemap = Freemap::new(total, MediaOffset(base), &NO_ROOT, 0, 0).unwrap();
        let place = freemap.allocate(Class::Data, radix(16), None);
        assert_eq!(place.is_some(), (total, base) == (u64::MAX, 0));
        freemap.grow(u64::MAX).unwrap();
        assert_eq!(freemap.free_bytes() > 0, base != u64::MAX && total != u64::MAX);
        freemap.seal(Tid(17), Tid(1), &Checks::PORTABLE);
        freemap.committed();
    }
}
