//! Cases with names.

use super::*;

/// `(key, bits, radix, entries)` of every new node of a table.
fn nodes(entries: &[Entry]) -> Vec<(u64, u8, u8, usize)> {
    let node = |entry: &Entry| match entry {
        Entry::Node(node) => Some((node.key, node.key_bits, node.radix.bits(), node.entries.len())),
        _ => None,
    };
    entries.iter().filter_map(node).collect()
}

fn node_at(entries: &[Entry], key: u64) -> &NewNode {
    let found = entries.iter().find_map(|entry| match entry {
        Entry::Node(node) if node.key == key => Some(node),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no node at {key:#x} in {:x?}", nodes(entries)))
}

fn blocks(many: u64) -> impl Iterator<Item = u64> {
    (0..many).map(|block| block << 16)
}

fn names(many: u64) -> impl Iterator<Item = u64> {
    (0..many).map(|number| dirhash(format!("file{number}.txt").as_bytes()) + 1)
}

/// A media with a tree of these leaves.
fn with(holder: Holder, keys: impl IntoIterator<Item = u64>) -> (Media, Edited) {
    let mut media = Media::new(holder);
    let edits = media.puts(keys);
    let edited = media.apply(&edits, "building");
    (media, edited)
}

fn error(media: &Media, edits: &[Edit]) -> DamageKind {
    let Err(Stop::Fail(Error::Damaged(warm))) = media.edit_warm(edits) else {
        panic!("a damaged table was edited");
    };
    let (cold, ..) = media.edit_cold(edits);
    assert_eq!(cold, Err(Error::Damaged(warm)), "cold is not warm");
    warm.kind
}

#[test]
fn the_levels_of_a_file_are_those_of_stock_tools() {
    let (_, edited) = with(Holder::File, blocks(4));
    assert_eq!(nodes(&edited.entries), []);
    let (_, edited) = with(Holder::File, blocks(128));
    assert_eq!(nodes(&edited.entries), [(0, 23, 14, 128)]);
    let (_, edited) = with(Holder::File, blocks(131));
    assert_eq!((nodes(&edited.entries), edited.entries.len()), (vec![(0, 23, 14, 128)], 4));
    let (_, edited) = with(Holder::File, blocks(1000));
    assert_eq!(nodes(&edited.entries), [(0, 30, 14, 8)]);
    assert_eq!(nodes(&node_at(&edited.entries, 0).entries)[7], (0x380_0000, 23, 14, 104));
    let (_, edited) = with(Holder::File, blocks(128 * 128 * 4 + 1));
    assert_eq!(nodes(&edited.entries), [(0, 37, 14, 5)]);
}

#[test]
fn blocks_far_apart_make_no_chains() {
    let (mut media, edited) = with(Holder::File, (0..5).map(|n| n << 30));
    assert_eq!(nodes(&edited.entries), [(0, 37, 14, 5)]);
    let edits = media.puts((0..64).map(|bit| (1 << bit) & !0xffff).filter(|key| *key != 0));
    media.apply(&edits, "a block at every power of two");
    assert_eq!(media.walk("").leaves.len(), 5 + 48 - 3, "1, 2 and 4 GiB were there");
}

#[test]
fn an_index_of_1532_inodes_is_that_of_the_specification() {
    let inodes = 0x400..0x400 + 1532;
    let (_, edited) = with(Holder::PfsRoot, inodes.chain(names(1500)));
    let index = node_at(&edited.entries, 0);
    assert_eq!((index.key_bits, index.radix.bits()), (63, 12));
    let leaves: Vec<_> =
        (0..12).map(|n| (0x400 + n * 128, 7, 14, if n < 11 { 128 } else { 124 })).collect();
    assert_eq!(nodes(&index.entries), leaves);
}

#[test]
fn a_directory_of_1500_names_is_that_of_the_specification() {
    let (_, edited) = with(Holder::Directory, names(1500));
    let found: Vec<_> =
        nodes(&edited.entries).iter().map(|node| (node.0, node.1, node.2)).collect();
    let quarters = [8, 0xa, 0xc, 0xe].map(|digit| (digit << 60, 61, 14));
    assert_eq!(found, quarters);
    for (key, ..) in quarters {
        let below = nodes(&node_at(&edited.entries, key).entries);
        let is_right = !below.is_empty() && below.iter().all(|node| matches!(node.1, 59 | 60));
        assert!(is_right, "{below:x?}");
    }
}

#[test]
fn inode_numbers_and_names_never_meet_in_a_node() {
    // walk() wants every span below 64 bits, and in range
    let (_, edited) = with(Holder::PfsRoot, [0, 1, 2, 1 << 62, u64::MAX, 1 << 63]);
    assert_eq!(nodes(&edited.entries), [(0, 63, 12, 4)]);
}

#[test]
fn keys_at_the_end_of_the_key_space() {
    let top = !0xffff_u64;
    let (mut media, edited) = with(Holder::File, (0..300).map(|n| top - (n << 16)));
    assert_eq!(nodes(&edited.entries).last().unwrap().1, 23);
    media.apply(&[Edit::Cut { low: u64::MAX, high: u64::MAX }], "the last byte");
    assert_eq!(media.walk("").leaves.len(), 299);
    let put = media.leaf(top);
    media.apply(&[Edit::Put(put)], "the last block again");
    assert_eq!(media.walk("").leaves.len(), 300);
    let (mut media, _) = with(Holder::Directory, (0..300).map(|n| u64::MAX - n));
    media.apply(&[Edit::Remove(u64::MAX)], "the last key");
    assert_eq!(media.walk("").leaves.len(), 299);
}

#[test]
fn a_table_of_64_kib_is_split_into_its_like_and_keeps_unknown_bytes() {
    let mut media = Media::new(Holder::File);
    let leaves: Vec<_> = blocks(512).map(|key| media.leaf(key)).collect();
    let mut raw = RawBlockref::new_zeroed();
    raw.key_bits = 37;
    raw.data_off.set(16);
    raw.copy_id = 7;
    raw.check[63] = 0x5a;
    let root = media.indirect(raw, &leaves);
    media.root = vec![root];
    let put = media.leaf(512 << 16);
    let edited = media.apply(&[Edit::Put(put)], "");
    assert_eq!(nodes(&edited.entries), [(0, 37, 16, 2)]);
    let node = node_at(&edited.entries, 0);
    assert_eq!(nodes(&node.entries), [(0, 25, 16, 512)]);
    assert_eq!(node.old, Some(root));
    assert_eq!((media.root[0].copy_id, media.root[0].check[63]), (7, 0x5a));
    assert_eq!(edited.dropped, [Dropped::Table(root)]);
}

#[test]
fn tables_smaller_than_their_range_are_split_below() {
    // 4 KiB for a range of 128 keys, as another writer may have it
    let mut media = Media::new(Holder::PfsRoot);
    let leaves: Vec<_> = (0..32).map(|key| media.leaf(0x400 + key * 2)).collect();
    media.root = vec![media.node(0x400, 7, 12, &leaves)];
    let edits = media.puts((0..64).map(|key| 0x401 + key * 2));
    let edited = media.apply(&edits, "");
    assert_eq!(nodes(&edited.entries), [(0x400, 6, 14, 64), (0x440, 6, 14, 32)]);
    assert_eq!(media.walk("").leaves.len(), 96);
}

#[test]
fn what_changes_nothing_keeps_everything() {
    let (media, _) = with(Holder::File, blocks(1000).chain([1 << 50]));
    let leaf = media.walk("").leaves[&0x5_0000];
    let idle = [Edit::Remove(0x1_0001), Edit::Put(leaf), Edit::Cut { low: 1 << 40, high: 1 << 41 }];
    let edited = media.edit_warm(&idle).unwrap();
    let kept: Vec<_> = media.root.iter().copied().map(Entry::Kept).collect();
    assert_eq!(edited, Edited { entries: kept, dropped: vec![] });
    assert_eq!(media.edit_warm(&[]).unwrap(), edited);
    assert_eq!(media.edit_cold(&[]).2, 0, "nothing is read for no edits");
}

#[test]
fn one_change_rewrites_one_path() {
    let (mut media, _) = with(Holder::File, blocks(128 * 128 * 5));
    let put = media.leaf(0x77_0000);
    let (edited, runs, read) = media.edit_cold(&[Edit::Put(put)]);
    assert_eq!((runs, read), (4, 3));
    assert_eq!(edited.unwrap().dropped.len(), 4);
}

#[test]
fn siblings_are_asked_for_together() {
    let (media, _) = with(Holder::File, blocks(128 * 100));
    let everywhere: Vec<_> = (0..100).map(|n| Edit::Remove(n << 23)).collect();
    let (edited, runs, read) = media.edit_cold(&everywhere);
    assert_eq!((runs, read), (3, 101));
    assert_eq!(edited.unwrap().dropped.len(), 201);
}

#[test]
fn a_truncation_reads_only_the_path_to_its_boundary() {
    let (mut media, _) = with(Holder::File, blocks(128 * 128 * 5));
    let cut = [Edit::Cut { low: 0x1234_0000, high: u64::MAX }];
    let (edited, runs, read) = media.edit_cold(&cut);
    assert_eq!((runs, read), (4, 3));
    let edited = edited.unwrap();
    assert!(edited.dropped.len() < 300, "{} dropped", edited.dropped.len());
    media.apply(&cut, "");
    assert_eq!(media.walk("").leaves.len(), 0x1234);
}

#[test]
fn without_leaves_there_are_no_tables() {
    for by_one in [true, false] {
        let (mut media, _) = with(Holder::Directory, names(2000));
        let old = media.root.clone();
        let edits = if by_one {
            media.walk("").leaves.keys().map(|key| Edit::Remove(*key)).collect()
        } else {
            vec![Edit::Cut { low: 0, high: u64::MAX }]
        };
        let edited = media.apply(&edits, "");
        assert_eq!(edited.entries, []);
        if !by_one {
            assert_eq!(edited.dropped, Vec::from_iter(old.into_iter().map(Dropped::Subtree)));
            assert_eq!(media.edit_cold(&edits).2, 0);
        }
    }
}

#[test]
fn a_tree_that_shrinks_comes_back_into_its_inode() {
    for (holder, keys) in [
        (Holder::Directory, names(1500).collect::<Vec<_>>()),
        (Holder::PfsRoot, (0x400..0xa00).collect()),
        (Holder::File, blocks(1000).collect()),
    ] {
        let (mut media, _) = with(holder, keys);
        let keys: Vec<u64> = media.walk("").leaves.keys().copied().collect();
        for key in keys[2..].iter().rev() {
            media.apply(&[Edit::Remove(*key)], &format!("{holder:?} without {key:x}"));
        }
        assert_eq!((media.walk("").depth, media.root.len()), (0, 2), "{holder:?}");
    }
}

#[test]
fn one_by_one_and_at_once_give_the_same_leaves() {
    let keys: Vec<u64> = (0x400..0x600).chain(names(400)).collect();
    let (mut media, _) = with(Holder::PfsRoot, []);
    for key in &keys {
        let put = media.leaf(*key);
        media.apply(&[Edit::Put(put)], &format!("{key:x}"));
    }
    let walk = media.walk("");
    assert_eq!(walk.leaves.len(), keys.len());
    assert!(walk.depth <= 4, "{}", walk.depth);
}

#[test]
fn trees_that_grow_in_small_batches_stay_flat_and_filled() {
    let shuffled: Vec<u64> = names(6000).collect();
    for (holder, keys) in [
        (Holder::Directory, shuffled),
        (Holder::PfsRoot, (0x400..0x400 + 6000).collect()),
        (Holder::File, blocks(6000).collect()),
        (Holder::File, (0..3000).map(|n| (n * 0x9e37_79b9 % 0x1_0000_0000) << 16).collect()),
    ] {
        let mut media = Media::new(holder);
        for (number, batch) in keys.chunks(50).enumerate() {
            let edits = media.puts(batch.iter().copied());
            media.apply(&edits, &format!("{holder:?}, batch {number}"));
        }
        let walk = media.walk("");
        let tables = walk.references.len() - keys.len();
        assert!(walk.depth <= 4, "{holder:?}: {} deep", walk.depth);
        assert!(tables <= keys.len() / 40, "{holder:?}: {tables} tables for {}", keys.len());
    }
}

#[test]
fn sparse_files_do_not_waste_tables() {
    let mut random = Random::new(7);
    let keys = (0..5000).map(|_| {
        let shift = random.below(48);
        (random.next() >> shift) & !0xffff
    });
    let (media, _) = with(Holder::File, keys);
    let walk = media.walk("");
    let tables = walk.references.len() - walk.leaves.len();
    assert!(walk.depth <= 8 && tables <= walk.leaves.len() / 40, "{tables} at {}", walk.depth);
}

/// A media with a spoiled table, and a sound one behind it.
fn damaged(holder: Holder, spoil: impl FnOnce(&mut Media) -> RawBlockref) -> Media {
    let mut media = Media::new(holder);
    let bad = spoil(&mut media);
    let leaf = media.leaf(3 << 40);
    let good = media.node(3 << 40, 40, 14, &[leaf]);
    media.root = vec![bad, good];
    media
}

#[test]
fn damaged_tables_are_not_rewritten() {
    let order = |media: &mut Media| {
        let leaves = [0x2_0000, 0x1_0000].map(|key| media.leaf(key));
        media.node(0, 30, 14, &leaves)
    };
    let range = |media: &mut Media| {
        let leaves = [0x2_0000, 1 << 30].map(|key| media.leaf(key));
        media.node(0, 30, 14, &leaves)
    };
    let kind = |media: &mut Media| {
        let mut leaf = media.leaf(0x2_0000);
        (leaf.kind, leaf.key_bits) = (4, 0);
        leaf.data_off.set(0);
        media.node(0, 30, 14, &[leaf])
    };
    let nesting = |media: &mut Media| {
        let leaf = media.leaf(0x2_0000);
        let below = media.node(0, 30, 14, &[leaf]);
        media.node(0, 30, 14, &[below])
    };
    let narrow = |media: &mut Media| {
        let below = media.node(0, 12, 14, &[]);
        media.node(0, 30, 14, &[below])
    };
    let unknown = |media: &mut Media| {
        let mut leaf = media.leaf(0x2_0000);
        leaf.methods = 0x31;
        media.node(0, 30, 14, &[leaf])
    };
    type Spoil<'a> = &'a dyn Fn(&mut Media) -> RawBlockref;
    let wanted: [(Spoil<'_>, DamageKind); 6] = [
        (&order, DamageKind::KeyOrder),
        (&range, DamageKind::KeyRange { low: 0, high: (1 << 30) - 1 }),
        (&kind, DamageKind::NotAllowed),
        (&nesting, DamageKind::Nesting),
        (&narrow, DamageKind::Blockref(BlockrefFault::Span { key: 0, key_bits: 12 })),
        (&unknown, DamageKind::Blockref(BlockrefFault::UnknownCompression(1))),
    ];
    for (spoil, kind) in wanted {
        let mut media = damaged(Holder::File, spoil);
        let [here, there] = [0x10_0000, (3 << 40) + 0x10_0000].map(|key| media.leaf(key));
        assert_eq!(error(&media, &[Edit::Put(here)]), kind);
        assert_eq!(error(&media, &[Edit::Put(here), Edit::Put(there)]), kind);
        // beside it, everything goes
        assert!(media.edit_warm(&[Edit::Put(there)]).is_ok());
        let (edited, ..) = media.edit_cold(&[Edit::Cut { low: 0, high: 1 << 40 }]);
        assert!(matches!(edited.unwrap().dropped[..], [Dropped::Subtree(_)]));
    }
}

#[test]
fn of_two_damaged_tables_the_first_is_told() {
    let mut media = Media::new(Holder::File);
    let leaves = [0x2_0000, 0x1_0000].map(|key| media.leaf(key));
    let first = media.node(0, 30, 14, &leaves);
    let second = media.node(1 << 30, 30, 14, &leaves);
    media.root = vec![first, second];
    let edits = [Edit::Remove(0), Edit::Remove(1 << 30)];
    assert_eq!(error(&media, &edits), DamageKind::KeyOrder);
    // Only the second in memory: the first is waited for.
    let mut cache = Media::new(Holder::File);
    let want = Want::of(&Blockref::parse(&second).unwrap().unwrap()).unwrap();
    cache.blocks.insert(*want.id(), media.peek(want.id()).unwrap());
    let (half, runs, _) = media.edit_over(Turn::new(), &cache, &edits);
    let Err(Stop::Fail(error)) = media.edit_warm(&edits) else { panic!("no damage") };
    assert_eq!((half, runs), (Err(error), 2));
}

#[test]
fn a_block_of_another_length_is_no_table() {
    let mut media = Media::new(Holder::File);
    let mut raw = media.node(0, 30, 12, &[]);
    let from = Want::of(&Blockref::parse(&raw).unwrap().unwrap()).unwrap();
    raw.data_off.set(raw.data_off.get() + 2);
    let to = Want::of(&Blockref::parse(&raw).unwrap().unwrap()).unwrap();
    media.blocks.insert(*to.id(), media.peek(from.id()).unwrap());
    media.root = vec![raw];
    let kind = error(&media, &[Edit::Remove(0)]);
    assert_eq!(kind, DamageKind::Blockref(BlockrefFault::Radix(14)));
}

#[test]
fn the_freemap_is_not_changed_here() {
    let media = Media::new(Holder::Freemap);
    assert_eq!(error(&media, &[]), DamageKind::NotAllowed);
}

#[test]
#[should_panic(expected = "ascending and disjoint")]
fn edits_out_of_order_are_our_own_mistake() {
    let media = Media::new(Holder::File);
    let _ = media.edit_warm(&[Edit::Remove(2), Edit::Remove(1)]);
}

#[test]
#[should_panic(expected = "legal leaves")]
fn a_name_in_a_file_is_our_own_mistake() {
    let leaf = Media::new(Holder::Directory).leaf(NAME_BIT);
    let _ = Media::new(Holder::File).edit_warm(&[Edit::Put(leaf)]);
}
