//! Blocks that one copy lost are written again from another, and nothing else ever is.

use std::collections::BTreeSet;

use farrier_core::drive::heal::{HealRequest, Healed};
use farrier_core::drive::pfs::{Birth, PfsChange};
use farrier_core::drive::ready;
use farrier_core::drive::scrub::{Scrub, Scrubbed};
use farrier_core::fs::{OpenPfs, Read};
use farrier_core::units::{Inum, Uuid, WallTime};
use farrier_tests::mounted::{Mounted, TreeBlock, each_holds, format_copies};
use farrier_tests::ops::{Op, Random};
use farrier_tests::rack::{Mode, Rack};

/// A volume in use on disks of these sizes, of which nothing is in memory.
fn used(sizes: &[u64], seed: u64, count: u64) -> (Rack, Mounted) {
    let rack = Rack::new(sizes);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let mut random = Random::new(seed);
    // each likes other things
    for _ in 0..10 {
        mounted.work(&mut random, count).unwrap();
    }
    let mounted = mounted.again(&rack);
    (rack, mounted)
}

/// Turns a bit of the block on one copy.
fn spoil(rack: &Rack, block: &TreeBlock, copy: u8, random: &mut Random) {
    let offset = block.addresses.get(copy).unwrap().0 + random.below(block.len() as u64);
    let byte = rack.bytes(copy, offset, 1)[0];
    rack.patch(copy, offset, &[byte ^ 1 << random.below(8)]);
}

fn on_disk(rack: &Rack, block: &TreeBlock, copy: u8) -> Vec<u8> {
    rack.bytes(copy, block.addresses.get(copy).unwrap().0, block.len())
}

/// The copy that is asked first.
fn first(mounted: &Mounted, block: &TreeBlock) -> u8 {
    mounted.host.volume().copies().unwrap().candidates(&block.want)[0].0
}

fn healed_count(mounted: &Mounted) -> u64 {
    let live = mounted.host.volume().copies().unwrap();
    (0..4).map(|copy| live.counts(copy).healed).sum()
}

#[test]
fn what_is_read_is_healed() {
    let mut all = 0;
    for seed in 1..8 {
        let (rack, mounted) = used(&[64 << 20, 96 << 20], seed, 60);
        let mut random = Random::new(seed);
        let mut spoiled = Vec::new();
        for block in mounted.blocks() {
            if !block.is_root && random.below(3) == 0 {
                let copy = first(&mounted, &block);
                spoiled.push((block, copy, on_disk(&rack, &block, copy)));
                spoil(&rack, &block, copy, &mut random);
            }
        }
        let commits = mounted.host.with_memory(farrier_core::dirty::Memory::commits);
        // the queue is short, and what is in memory is not read
        for _ in 0..100 {
            mounted.check().unwrap();
            if ready(mounted.host.heal()).unwrap() == Healed::default() {
                break;
            }
        }
        let mounted = mounted.again(&rack);
        mounted.check().unwrap();
        ready(mounted.host.heal()).unwrap();
        // a copy with many errors is asked last, and what else is bad there is found by a scrub
        let is_healed = |(block, copy, before): &&(TreeBlock, u8, Vec<u8>)| {
            on_disk(&rack, block, *copy) == *before
        };
        let healed = spoiled.iter().filter(is_healed).count();
        assert!(healed * 4 >= spoiled.len(), "seed {seed}: {healed} of {}", spoiled.len());
        let mut scrub = Scrub::new();
        while ready(mounted.host.scrub(&mut scrub, 1 << 20)).unwrap() {}
        for (block, copy, before) in &spoiled {
            assert!(on_disk(&rack, block, *copy) == *before, "seed {seed}: {block:?}");
        }
        assert_eq!(mounted.host.with_memory(farrier_core::dirty::Memory::commits), commits);
        each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
        all += spoiled.len();
    }
    assert!(all > 60, "{all}");
}

/// Scrubs to the end in steps of any size, with other work between them if there is to be some.
fn scrub(mounted: &mut Mounted, random: &mut Random, works: bool) -> Scrubbed {
    let mut scrub = Scrub::new();
    let mut last = Scrubbed::default();
    loop {
        let bits = random.below(21);
        let budget = random.below(1 << bits);
        let goes_on = ready(mounted.host.scrub(&mut scrub, budget)).unwrap();
        let found = scrub.found();
        assert!(found.bytes >= last.bytes && found.bytes <= found.bytes_expected, "{found:?}");
        last = found;
        if !goes_on {
            assert!(scrub.is_done());
            assert!(!ready(mounted.host.scrub(&mut scrub, 1 << 30)).unwrap());
            assert_eq!(scrub.found(), last);
            return last;
        }
        if works && random.once_in(4) {
            mounted.work(random, 10).unwrap();
        }
    }
}

#[test]
fn a_scrub_finds_what_nobody_reads() {
    let mut all = 0;
    for seed in 1..9 {
        let (rack, mut mounted) = used(&[64 << 20, 96 << 20, 64 << 20], seed, 60);
        let mut random = Random::new(seed);
        let blocks = mounted.blocks();
        let clean = scrub(&mut mounted, &mut random, false);
        assert_eq!((clean.bad, clean.healed), (0, Healed::default()), "seed {seed}");
        assert_eq!(clean.blocks, blocks.len() as u64, "seed {seed}: every block, and each once");
        let bytes: u64 = blocks.iter().map(|block| 3 * block.len() as u64).sum();
        assert_eq!(clean.bytes, bytes);
        let mut spoiled = Vec::new();
        for block in &blocks {
            if !random.once_in(3) {
                continue;
            }
            // one copy or two of three
            let spared = u8::try_from(random.below(3)).unwrap();
            for copy in (0..3).filter(|copy| *copy != spared) {
                if spoiled.is_empty() || random.once_in(2) {
                    spoiled.push((*block, copy, on_disk(&rack, block, copy)));
                    spoil(&rack, block, copy, &mut random);
                }
            }
        }
        let healed = spoiled.len() as u64;
        let found = scrub(&mut mounted, &mut random, false);
        assert_eq!((found.bad, found.blocks), (healed, clean.blocks), "seed {seed}");
        assert_eq!(found.healed, Healed { healed, ..Healed::default() });
        for (block, copy, before) in &spoiled {
            assert!(on_disk(&rack, block, *copy) == *before, "seed {seed}: {block:?}");
        }
        assert_eq!(healed_count(&mounted), healed);
        assert_eq!(scrub(&mut mounted, &mut random, false), clean);
        each_holds(&rack, &[0, 1, 2], &mounted.committed).unwrap();
        all += healed;
    }
    assert!(all > 60, "{all}");
}

#[test]
fn a_scrub_and_other_work_do_not_mind_each_other() {
    for seed in 1..9 {
        let (rack, mut mounted) = used(&[64 << 20, 64 << 20], seed, 30);
        let mut random = Random::new(seed + 100);
        for round in 0..3 {
            for block in &mounted.blocks() {
                let copy = u8::try_from(random.below(8)).unwrap();
                if copy < 2 {
                    spoil(&rack, block, copy, &mut random);
                }
            }
            let found = scrub(&mut mounted, &mut random, true);
            assert_eq!((found.healed.unhealable, found.healed.failed), (0, 0), "{seed} {round}");
            let rest = scrub(&mut mounted, &mut random, false);
            assert_eq!(rest.healed.unhealable, 0, "seed {seed} {round}");
            let clean = scrub(&mut mounted, &mut random, false);
            assert_eq!(clean.bad, 0, "seed {seed} {round}");
            each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
        }
        mounted.check().unwrap();
    }
}

#[test]
fn a_scrub_counts_what_is_bad_everywhere() {
    let (rack, mut mounted, ..) = spoiled_file(7);
    let mut random = Random::new(11);
    let data: Vec<_> = mounted.blocks().into_iter().filter(|block| block.want.is_data()).collect();
    let first = scrub(&mut mounted, &mut random, false);
    assert_eq!(first.healed.healed, data.len() as u64);
    let bad = &data[3..8];
    for block in bad {
        for copy in 0..2 {
            spoil(&rack, block, copy, &mut random);
        }
    }
    let before: Vec<_> =
        bad.iter().flat_map(|one| [0, 1].map(|copy| on_disk(&rack, one, copy))).collect();
    let found = scrub(&mut mounted, &mut random, false);
    let unhealable = 2 * bad.len() as u64;
    assert_eq!(found.healed, Healed { unhealable, ..Healed::default() });
    let after: Vec<_> =
        bad.iter().flat_map(|one| [0, 1].map(|copy| on_disk(&rack, one, copy))).collect();
    assert!(before == after, "nothing was written");
}

/// A file of `len` bytes that is no hole.
fn file(mounted: &mut Mounted, name: &[u8], len: usize) -> u64 {
    let inum = mounted.new_file(name);
    write(mounted, inum, len, 1);
    inum
}

fn write(mounted: &mut Mounted, inum: u64, len: usize, fill: u64) {
    let write = Op::Write { inum, offset: Some(0), len, fill };
    mounted.apply(&write).unwrap();
    mounted.flush().unwrap();
}

const FILE_LEN: usize = 1 << 20;

/// The blocks of a file, each of them bad on one copy, and the requests to heal them.
fn spoiled_file(seed: u64) -> (Rack, Mounted, u64, Vec<HealRequest>) {
    spoiled_on(&[32 << 20, 32 << 20], &[0, 1], seed)
}

/// As [`spoiled_file`], with disks of these sizes, and bad on one of these.
fn spoiled_on(sizes: &[u64], disks: &[u8], seed: u64) -> (Rack, Mounted, u64, Vec<HealRequest>) {
    let rack = Rack::new(sizes);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let inum = file(&mut mounted, b"file", FILE_LEN);
    let mut random = Random::new(seed);
    let mut requests = Vec::new();
    for block in mounted.blocks().iter().filter(|block| block.want.is_data()) {
        let copy = *random.pick(disks);
        spoil(&rack, block, copy, &mut random);
        requests.extend(HealRequest::on(&block.want, 1 << copy));
    }
    assert!(requests.len() >= 16, "{}", requests.len());
    (rack, mounted, inum, requests)
}

/// As two blockrefs do that name one block, one of them with an older place of it on another copy.
#[test]
fn what_is_asked_for_twice_is_healed_once() {
    let (_, mounted, _, requests) = spoiled_file(3);
    let count = requests.len() as u64;
    let twice = requests.iter().chain(&requests).cloned().collect();
    let healed = ready(mounted.host.heal_these(twice)).unwrap();
    assert_eq!(healed, Healed { healed: count, ..Healed::default() });
    assert_eq!(healed_count(&mounted), count);
    mounted.check().unwrap();
}

#[test]
fn a_place_that_was_used_again_is_left_alone() {
    let mut late = 0;
    for commits in 0..20 {
        // the large disk still has the old bytes where the small one has others
        let (rack, mut mounted, inum, requests) = spoiled_on(&[32 << 20, 2 << 30], &[0], commits);
        let count = requests.len() as u64;
        let bad: Vec<_> = mounted.blocks();
        // the blocks are given back with the first of these, and used again by the last
        for number in 0..commits {
            write(&mut mounted, inum, FILE_LEN, number + 2);
        }
        let now: BTreeSet<_> = mounted.blocks().iter().map(|one| one.addresses.get(0)).collect();
        let used = bad.iter().filter(|one| now.contains(&one.addresses.get(0))).count();
        let healed = ready(mounted.host.heal_these(requests)).unwrap();
        if commits < 4 {
            assert_eq!(healed, Healed { healed: count, ..Healed::default() }, "{commits}");
        } else {
            assert_eq!(healed, Healed { dropped: count, ..Healed::default() }, "{commits}");
            late += used;
        }
        mounted.check().unwrap();
        each_holds(&rack, &[0, 1], &mounted.committed)
            .unwrap_or_else(|error| panic!("{commits} commits later: {error}"));
    }
    assert!(late > 16, "only {late} places were used again");
}

#[test]
fn a_root_from_another_time_heals_nothing() {
    let (rack, mounted, inum, _) = spoiled_file(3);
    let snapshot = PfsChange::Snapshot {
        of: mounted.pfs.id(),
        label: b"then".to_vec(),
        birth: Birth {
            cluster_id: Uuid([1; 16]),
            pfs_id: Uuid([2; 16]),
            now: WallTime(1_700_000_000_000_000),
        },
    };
    mounted.host.change_pfs(&snapshot).unwrap();
    let super_root = mounted.host.with_memory(|memory| *memory.super_root());
    let open = OpenPfs { super_root, label: b"then".to_vec() };
    let then = mounted.host.run(&open).unwrap();
    let mounted = mounted.again(&rack);
    for (pfs, is_healed) in [(then, false), (mounted.pfs, true)] {
        let read = Read { pfs, inum: Inum(inum), offset: 0, len: FILE_LEN, ahead: 0 };
        mounted.host.run(&read).unwrap();
        // one root may be gone by now; of the other one is known that it is there
        assert_eq!(mounted.host.take_bad().is_empty(), !is_healed);
    }
}

#[test]
fn what_is_bad_everywhere_is_told_and_stays() {
    let (rack, mounted, ..) = spoiled_file(4);
    let mut random = Random::new(9);
    let mut before = Vec::new();
    for block in mounted.blocks().iter().filter(|block| block.want.is_data()) {
        for copy in 0..2 {
            spoil(&rack, block, copy, &mut random);
            before.push((*block, copy, on_disk(&rack, block, copy)));
        }
    }
    let requests: Vec<_> = before
        .iter()
        .filter_map(|(block, copy, _)| HealRequest::on(&block.want, 1 << copy))
        .collect();
    assert!(mounted.check().is_err());
    let requests_of_reads = mounted.host.take_bad();
    assert_eq!(requests_of_reads, [], "nobody has what it could be healed from");
    let unhealable = requests.len() as u64;
    let healed = ready(mounted.host.heal_these(requests)).unwrap();
    assert_eq!(healed, Healed { unhealable, ..Healed::default() });
    for (block, copy, bytes) in &before {
        assert!(on_disk(&rack, block, *copy) == *bytes, "nothing was written");
    }
}

#[test]
fn a_copy_that_takes_no_blocks_is_given_up() {
    let (rack, mut mounted, _, mut requests) = spoiled_file(5);
    rack.set(0, Mode::NoWrites);
    rack.set(1, Mode::Fine);
    requests.truncate(0);
    for block in mounted.blocks().iter().filter(|block| block.want.is_data()) {
        // what is right already may be written again
        requests.extend(HealRequest::on(&block.want, 1));
    }
    let live = |mounted: &Mounted| mounted.host.volume().copies().unwrap().lost();
    let all = requests.split_off(2);
    let healed = ready(mounted.host.heal_these(requests)).unwrap();
    assert_eq!(healed.healed, 0);
    assert_eq!(live(&mounted), 0, "twice is not often");
    ready(mounted.host.heal_these(all)).unwrap();
    assert_eq!(live(&mounted), 1);
    mounted.flush().unwrap();
    assert_eq!(live(&mounted), 0, "it is on record");
    let in_sync =
        mounted.host.with_flusher(|flusher| flusher.unwrap().lineage().unwrap().group().in_sync());
    assert_eq!(in_sync, 0b10);
}

#[test]
fn a_copy_that_forgets_what_was_healed_is_not_believed() {
    let (rack, mounted, _, requests) = spoiled_file(6);
    rack.set(0, Mode::Forgetful);
    rack.set(1, Mode::Forgetful);
    let healed = ready(mounted.host.heal_these(requests)).unwrap();
    assert_eq!(healed.healed, 0, "{healed:?}");
    assert_eq!(healed_count(&mounted), 0);
}
