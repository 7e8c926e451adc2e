//! The tree above the leaves: its shape, and how little of it has to be in memory.

use super::*;
use crate::media::freemap::level;

/// Takes something in `zone`, so that it gets a leaf.
fn use_zone(freemap: &mut Freemap, zone: u64) {
    freemap.mark_recovered(at(zone * GIB + 512 * MIB, 16), Class::Data).unwrap();
}

/// Spans of a table: key in GiB and bits.
fn shape(table: &[RawBlockref]) -> Vec<(u64, u8)> {
    let full = table.iter().filter(|raw| raw.kind != 0);
    full.map(|raw| (raw.key.get() / GIB, raw.key_bits)).collect()
}

fn statistics(raw: &RawBlockref) -> u64 {
    Blockref::parse(raw).unwrap().unwrap().statistics().unwrap().data_count
}

fn check_homes(media: &Media, table: &[RawBlockref]) {
    for blockref in table.iter().filter_map(|raw| Blockref::parse(raw).unwrap()) {
        let (offset, key) = (blockref.location().unwrap().offset.0, blockref.key());
        let level = level(blockref.key_bits()).unwrap();
        let set = (offset / 0x10000 % 64 - u64::from(level)) / 5;
        assert_eq!(offset, crate::media::freemap::block_offset(key, level, set));
        assert_eq!(blockref.raw().methods, 0x50);
        assert_eq!(blockref.leaf_count(), 0);
        let hints = &blockref.raw().check;
        if blockref.kind() == BlockKind::FreemapLeaf {
            assert_eq!(hints[4..8], [0xff; 4]);
            let avail = if key == 0 { 222 * 4 * MIB } else { 255 * 4 * MIB };
            assert_eq!(hints[8..16], avail.to_le_bytes());
        } else {
            assert_eq!(hints[4..], [0; 60]);
            check_homes(media, slots(&media.read(&blockref)));
        }
    }
}

#[test]
fn four_leaves_hang_in_the_header_and_a_fifth_makes_a_node_of_all() {
    let mut freemap = empty(300 * GIB, 132 * MIB + 3072);
    let mut media = Media::default();
    [0, 1, 2, 3].into_iter().for_each(|zone| use_zone(&mut freemap, zone));
    let four = commit(&mut freemap, &mut media, 17);
    assert_eq!(shape(&four.root), [(0, 30), (1, 30), (2, 30), (3, 30)]);
    assert_eq!(four.blocks.len(), 4);
    use_zone(&mut freemap, 260);
    let five = commit(&mut freemap, &mut media, 18);
    assert_eq!(shape(&five.root), [(0, 38), (260, 30)], "only what fits, and unchanged leaves");
    assert_eq!(five.blocks.len(), 2);
    assert_eq!(statistics(&five.root[0]), 4 * 32768);
    use_zone(&mut freemap, 7);
    let six = commit(&mut freemap, &mut media, 19);
    assert_eq!(statistics(&six.root[0]), 5 * 32768);
    assert_eq!(six.blocks.len(), 2, "a leaf and its node");
    assert_eq!(six.root[1], five.root[1]);
    check_homes(&media, &six.root);
    let zones: Vec<u64> = media.leaves(&six.root).into_keys().collect();
    assert_eq!(zones, [0, 1, 2, 3, 7, 260]);
}

#[test]
fn zones_far_apart_need_higher_levels() {
    let total = 300 * TIB;
    let mut freemap = empty(total, 132 * MIB);
    let mut media = Media::default();
    // one leaf in each of many nodes of 256 GiB, over several of 64 TiB
    let zones: Vec<u64> = (0..290).map(|n| n * 1024 + n % 3).collect();
    for (tid, zone) in (17..).zip(&zones) {
        use_zone(&mut freemap, *zone);
        let sealed = commit(&mut freemap, &mut media, tid);
        check_homes_short(&sealed, tid);
        let found = media.leaves(&sealed.root);
        assert!(found.keys().eq(zones.iter().filter(|known| *known <= zone)));
    }
    let sealed = freemap.seal(Tid(999), Tid(1), &Checks::PORTABLE);
    assert!(sealed.root.iter().any(|raw| raw.key_bits == 54), "{:?}", shape(&sealed.root));
    let leaf = (32768 * zones.len()) as u64;
    let sum: u64 = sealed.root.iter().filter(|raw| raw.kind == 5).map(statistics).sum();
    assert!(sum > leaf && sum < 2 * leaf + 32768 * 16);
    // any order gives the same leaves
    let mut backwards = empty(total, 132 * MIB);
    zones.iter().rev().for_each(|zone| use_zone(&mut backwards, *zone));
    let sealed = commit(&mut backwards, &mut media, 1000);
    assert!(media.leaves(&sealed.root).keys().eq(&zones));
    assert_eq!(backwards.counts(), freemap.counts());
}

/// Only the leaf and what is above it, or was moved, is written.
fn check_homes_short(sealed: &Sealed, tid: u64) {
    assert!((1..=8).contains(&sealed.blocks.len()), "{} blocks", sealed.blocks.len());
    assert!(sealed.root.iter().any(|raw| raw.mirror_tid.get() == tid));
    let mut places: Vec<_> = sealed.blocks.iter().map(|(offset, _)| offset).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), sealed.blocks.len());
}

#[test]
fn a_large_volume_is_used_with_few_leaves_in_memory() {
    let total = 80 * TIB;
    let mut media = Media::default();
    let (root, free) = {
        let mut freemap = empty(total, 132 * MIB);
        (0..600).chain([20_000, 70_000]).for_each(|zone| use_zone(&mut freemap, zone));
        (commit(&mut freemap, &mut media, 17).root, freemap.free_bytes())
    };
    let mut freemap = Freemap::new(total, MediaOffset(132 * MIB), &root, free, DELAY).unwrap();
    assert!(!freemap.is_whole());
    let before = freemap.counts();
    assert_eq!(before.unread_zones, 65536 + 1, "below a node of 64 TiB, and a leaf");
    let early = freemap.allocate(Class::Inode, radix(16), None).unwrap();
    assert_eq!(early.0, 65536 * GIB + 4 * MIB, "the first zone that nothing speaks of");
    while let Some(node) = freemap.unread(1).pop().filter(|b| b.kind() == BlockKind::FreemapNode) {
        freemap.load(&node, &media.read(&node)).unwrap();
    }
    assert_eq!(freemap.counts().unread_zones, 602);
    let here = freemap.allocate(Class::Data, radix(16), None).unwrap();
    assert_eq!(here.0, 600 * GIB + 4 * MIB, "the node says that no leaf speaks of it");
    let leaf = freemap.unread_for(MediaOffset(20_000 * GIB + 5)).unwrap();
    assert_eq!(leaf.key(), 20_000 * GIB);
    freemap.load(&leaf, &media.read(&leaf)).unwrap();
    freemap.load(&leaf, &[]).unwrap();
    assert_eq!(freemap.unread_for(MediaOffset(20_000 * GIB + 5)), None);
    let near = MediaOffset(20_000 * GIB + 512 * MIB + 65536);
    assert_eq!(freemap.allocate(Class::Data, radix(16), Some(near)), Some(near));
    assert_eq!(freemap.free_bytes(), free - 3 * 65536);
    let sealed = commit(&mut freemap, &mut media, 18);
    let leaves = media.leaves(&sealed.root);
    assert_eq!(leaves.len(), 604);
    let again = Freemap::new(total, MediaOffset(132 * MIB), &sealed.root, free, DELAY);
    let mut again = again.unwrap();
    media.load(&mut again);
    assert_eq!(again.counts().free_chunks, freemap.free_bytes() / 16384);
}

#[test]
fn nothing_is_unread_twice_and_limits_hold() {
    let mut freemap = empty(10 * GIB, 132 * MIB);
    let mut media = Media::default();
    (0..10).for_each(|zone| use_zone(&mut freemap, zone));
    let sealed = commit(&mut freemap, &mut media, 17);
    let mut again = Freemap::new(10 * GIB, MediaOffset(132 * MIB), &sealed.root, 0, 1).unwrap();
    assert_eq!(again.unread(100).len(), 1);
    let node = again.unread(1)[0];
    again.load(&node, &media.read(&node)).unwrap();
    let zones: Vec<u64> = again.unread(4).iter().map(|leaf| leaf.key() / GIB).collect();
    assert_eq!(zones, [0, 1, 2, 3]);
    // the last one cannot be had
    let leaves = again.unread(100);
    again.unusable(&leaves[9]);
    again.unusable(&leaves[9]);
    assert_eq!(again.unread(100).len(), 9);
    media.load(&mut again);
    assert_eq!(again.state(MediaOffset(9 * GIB + 8 * MIB)), None);
    while let Some(place) = again.allocate(Class::Data, radix(16), None) {
        assert!(place.0 < 9 * GIB);
    }
    let marked = again.mark_recovered(at(9 * GIB + 8 * MIB, 16), Class::Data);
    assert_eq!(marked, Err(Unready::Unusable));
    let sealed = again.seal(Tid(18), Tid(7), &Checks::PORTABLE);
    media.write(&sealed);
    assert_eq!(media.leaves(&sealed.root)[&9][128].bitmap[0].get(), 0xff, "kept as it was");
}
