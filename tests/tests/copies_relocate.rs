//! A block that one place of a copy does not hold any more gets another place there, and the copy stays
//! in sync.

use farrier_core::drive::heal::{HealRequest, Healed};
use farrier_core::drive::pfs::{Birth, PfsChange};
use farrier_core::drive::ready;
use farrier_core::drive::relocate::Relocated;
use farrier_core::drive::scrub::Scrub;
use farrier_core::error::BlockKind;
use farrier_core::units::{DeviceIndex, Uuid, WallTime};
use farrier_core::volume::LiveCopies;
use farrier_tests::mounted::{Mounted, TreeBlock, each_holds, format_copies};
use farrier_tests::ops::Random;
use farrier_tests::rack::{Mode, Rack, Spot};

/// A volume in use on disks of these sizes, of which nothing is in memory.
fn used(sizes: &[u64], seed: u64) -> (Rack, Mounted) {
    let rack = Rack::new(sizes);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let mut random = Random::new(seed);
    // each likes other things
    for _ in 0..10 {
        mounted.work(&mut random, 40).unwrap();
    }
    let mounted = mounted.again(&rack);
    (rack, mounted)
}

/// The place of a block on a copy goes bad.
fn break_place(rack: &Rack, block: &TreeBlock, copy: u8, spot: Spot) {
    let offset = block.addresses.get(copy).unwrap().0;
    let byte = rack.bytes(copy, offset, 1)[0];
    rack.patch(copy, offset, &[byte ^ 0x10]);
    rack.set_spot(copy, offset..offset + block.len() as u64, spot);
}

fn live(mounted: &Mounted) -> &LiveCopies {
    mounted.host.volume().copies().unwrap()
}

fn in_sync(mounted: &Mounted) -> u8 {
    mounted.host.with_flusher(|flusher| flusher.unwrap().lineage().unwrap().group().in_sync())
}

/// Moves what is to be moved, in steps of `budget` bytes; how much that was.
fn move_all(mounted: &Mounted, budget: u64) -> u64 {
    let mut moved = 0;
    loop {
        let step: Relocated = ready(mounted.host.relocate(budget)).unwrap();
        moved += step.moved;
        if !step.goes_on {
            return moved;
        }
    }
}

/// Whether any block of the trees lies where `broken` did on `copy`.
fn is_used(mounted: &Mounted, broken: &TreeBlock, copy: u8) -> bool {
    let start = broken.addresses.get(copy).unwrap().0;
    let end = start + broken.len() as u64;
    mounted.references().iter().any(|block| {
        let at = block.addresses.get(copy).unwrap().0;
        at < end && start < at + block.len() as u64
    })
}

/// One block of each kind that there is, and one root.
fn samples(mounted: &Mounted, random: &mut Random) -> Vec<TreeBlock> {
    let blocks = mounted.blocks();
    let mut samples = Vec::new();
    let kinds = [BlockKind::Inode, BlockKind::Indirect, BlockKind::Data, BlockKind::Dirent];
    for kind in kinds {
        let of_kind: Vec<_> =
            blocks.iter().filter(|one| !one.is_root && one.blockref.kind() == kind).collect();
        if !of_kind.is_empty() {
            samples.push(**random.pick(&of_kind));
        }
    }
    let roots: Vec<_> = blocks.iter().filter(|one| one.is_root).collect();
    samples.push(**random.pick(&roots));
    samples
}

#[test]
fn what_a_place_does_not_take_goes_elsewhere() {
    let (mut all, mut kinds) = (0, std::collections::BTreeSet::new());
    for seed in 1..7 {
        let mut random = Random::new(seed);
        let (_, mounted) = used(&[64 << 20, 96 << 20], seed);
        let samples = samples(&mounted, &mut random);
        for (number, sample) in samples.iter().enumerate() {
            // each on a volume of its own: three such places are too many
            let (rack, mut mounted) = used(&[64 << 20, 96 << 20], seed);
            let copy = u8::try_from(random.below(2)).unwrap();
            let spot = *random.pick(&[Spot::Refuses, Spot::Forgets]);
            break_place(&rack, sample, copy, spot);
            let what = format!("seed {seed}, sample {number} on {copy}, {spot:?}: {sample:?}");
            kinds.insert(format!("{:?}", sample.blockref.kind()));
            let requests = HealRequest::on(&sample.want, 1 << copy).into_iter().collect();
            let healed = ready(mounted.host.heal_these(requests)).unwrap();
            assert_eq!(healed, Healed { failed: 1, ..Healed::default() }, "{what}");
            let budget = 1 << random.below(20);
            assert_eq!(move_all(&mounted, budget), 1, "{what}");
            assert_eq!(live(&mounted).counts(copy).relocated, 1, "{what}");
            assert!(!is_used(&mounted, sample, copy), "{what}");
            assert_eq!(in_sync(&mounted), 0b11, "{what}");
            each_holds(&rack, &[0, 1], &mounted.committed)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            // and nothing comes to lie there
            for _ in 0..4 {
                mounted.work(&mut random, 30).unwrap();
                mounted.host.bulkfree(|_| ()).unwrap();
                assert!(!is_used(&mounted, sample, copy), "{what}");
            }
            assert_eq!(in_sync(&mounted), 0b11, "{what}");
            mounted.check().unwrap();
            each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
            let group = mounted.again(&rack);
            assert_eq!(live(&group).totals(copy).relocated, 1, "it is on record");
            all += 1;
        }
    }
    assert!(all > 20 && kinds.len() == 4, "{all} {kinds:?}");
}

#[test]
fn reading_and_scrubs_have_blocks_moved() {
    for seed in 1..7 {
        for scrubs in [false, true] {
            let (rack, mounted) = used(&[64 << 20, 64 << 20], seed);
            let mut random = Random::new(seed);
            let data: Vec<_> =
                mounted.blocks().into_iter().filter(|block| !block.is_root).collect();
            let (one, two) = (*random.pick(&data), *random.pick(&data));
            let first = |block: &TreeBlock| live(&mounted).candidates(&block.want)[0].0;
            let mut broken = vec![(one, first(&one)), (two, first(&two))];
            // who reads finds one: after some errors the other copy is asked first
            broken.truncate(if scrubs { 2 } else { 1 });
            for (block, copy) in &broken {
                break_place(&rack, block, *copy, Spot::Refuses);
            }
            // what is in memory is not read
            let mut mounted = mounted.again(&rack);
            if scrubs {
                let mut scrub = Scrub::new();
                while ready(mounted.host.scrub(&mut scrub, 1 << 20)).unwrap() {}
                assert!(scrub.found().healed.failed > 0);
            } else {
                mounted.check().unwrap();
            }
            // every flush heals and moves a little
            for _ in 0..3 {
                mounted.flush().unwrap();
            }
            for (block, copy) in &broken {
                assert!(!is_used(&mounted, block, *copy), "seed {seed}, {scrubs}: {block:?}");
                let counts = live(&mounted).counts(*copy);
                assert!(counts.relocated > 0 && counts.relocated <= 2);
            }
            assert_eq!(in_sync(&mounted), 0b11);
            each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
            let mut scrub = Scrub::new();
            while ready(mounted.host.scrub(&mut scrub, 1 << 20)).unwrap() {}
            assert_eq!(scrub.found().bad, 0);
        }
    }
}

#[test]
fn snapshots_follow() {
    for seed in 1..7 {
        let (rack, mut mounted) = used(&[64 << 20, 64 << 20], seed);
        let mut random = Random::new(seed);
        let birth = Birth {
            cluster_id: Uuid([1; 16]),
            pfs_id: Uuid([2; 16]),
            now: WallTime(1_700_000_000_000_000),
        };
        let snapshot = PfsChange::Snapshot { of: mounted.pfs.id(), label: b"then".to_vec(), birth };
        mounted.host.change_pfs(&snapshot).unwrap();
        mounted.flush().unwrap();
        let data: Vec<_> = mounted.blocks().into_iter().filter(|block| !block.is_root).collect();
        let block = *random.pick(&data);
        break_place(&rack, &block, 1, Spot::Forgets);
        let requests = HealRequest::on(&block.want, 0b10).into_iter().collect();
        assert_eq!(ready(mounted.host.heal_these(requests)).unwrap().failed, 1);
        // with other work between the steps, whose commits are steps as well
        while ready(mounted.host.relocate(1 << random.below(16))).unwrap().goes_on {
            mounted.work(&mut random, 5).unwrap();
        }
        assert!(live(&mounted).counts(1).relocated > 0, "seed {seed}");
        let mut scrub = Scrub::new();
        while ready(mounted.host.scrub(&mut scrub, 1 << 20)).unwrap() {}
        move_all(&mounted, 1 << 20);
        assert!(!is_used(&mounted, &block, 1), "seed {seed}: {block:?}");
        let mut scrub = Scrub::new();
        while ready(mounted.host.scrub(&mut scrub, 1 << 20)).unwrap() {}
        assert_eq!(scrub.found().bad, 0, "seed {seed}");
        mounted.check().unwrap();
        each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
    }
}

#[test]
fn a_copy_that_comes_back_still_avoids_the_place() {
    let (rack, mut mounted) = used(&[64 << 20, 64 << 20], 3);
    let mut random = Random::new(3);
    let data: Vec<_> = mounted.blocks().into_iter().filter(|block| block.want.is_data()).collect();
    let block = data[0];
    break_place(&rack, &block, 1, Spot::Refuses);
    let requests = HealRequest::on(&block.want, 0b10).into_iter().collect();
    assert_eq!(ready(mounted.host.heal_these(requests)).unwrap().failed, 1);
    assert_eq!(move_all(&mounted, 1 << 20), 1);
    rack.set(1, Mode::Gone);
    for _ in 0..6 {
        mounted.work(&mut random, 30).unwrap();
    }
    assert_eq!(in_sync(&mounted), 0b01);
    rack.set(1, Mode::Fine);
    assert_eq!(ready(mounted.host.attach_copy(DeviceIndex(1), false)), Ok(1));
    while in_sync(&mounted) != 0b11 {
        ready(mounted.host.resync(1 << 20)).unwrap();
        mounted.work(&mut random, 30).unwrap();
        assert!(!is_used_where_it_is(&mounted, &block));
    }
    each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
}

/// As [`is_used`], where not everything is on copy 1.
fn is_used_where_it_is(mounted: &Mounted, broken: &TreeBlock) -> bool {
    let start = broken.addresses.get(1).unwrap().0;
    let end = start + broken.len() as u64;
    mounted.references().iter().any(|block| {
        let Some(at) = block.addresses.get(1) else { return false };
        let distrusted = !live(mounted).candidates(&block.want).iter().any(|(copy, ..)| *copy == 1);
        at.0 < end && start < at.0 + block.len() as u64 && !distrusted
    })
}

#[test]
fn where_there_is_no_other_place_it_stays() {
    let (rack, mounted) = used(&[64 << 20, 64 << 20], 5);
    let data: Vec<_> = mounted.blocks().into_iter().filter(|block| block.want.is_data()).collect();
    break_place(&rack, &data[0], 0, Spot::Refuses);
    // nobody has it
    break_place(&rack, &data[0], 1, Spot::Refuses);
    let requests = HealRequest::on(&data[0].want, 0b01).into_iter().collect();
    let healed = ready(mounted.host.heal_these(requests)).unwrap();
    assert_eq!(healed, Healed { unhealable: 1, ..Healed::default() });
    assert_eq!(move_all(&mounted, 1 << 20), 0);
    assert_eq!(in_sync(&mounted), 0b11);
}
