//! Copies are added to a volume in use, and taken away from it.

use farrier_core::copies::{CopyState, TransitionFault};
use farrier_core::drive::copies::{MemberError, NewCopy};
use farrier_core::drive::ready;
use farrier_core::units::{DeviceIndex, Uuid};
use farrier_tests::mounted::{Mounted, each_holds, format_copies};
use farrier_tests::ops::Random;
use farrier_tests::rack::{Mode, Rack};
use farrier_tests::writing::WritingHost;

fn new(disk: u8, size: u64, id: u8) -> NewCopy {
    NewCopy { device: DeviceIndex(disk), size, id: Uuid([id; 16]) }
}

/// A volume on the first `count` disks, which sees the others later.
fn used(sizes: &[u64], count: u8, seed: u64) -> (Rack, Mounted, Random) {
    let disks: Vec<u8> = (0..count).collect();
    let rack = Rack::new(sizes).show(&disks);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let mut random = Random::new(seed);
    for _ in 0..6 {
        mounted.work(&mut random, 40).unwrap();
    }
    for disk in (count..).take(sizes.len() - disks.len()) {
        rack.reveal(disk);
    }
    (rack, mounted, random)
}

fn state(mounted: &Mounted, slot: u8) -> CopyState {
    mounted.host.with_flusher(|flusher| {
        flusher.unwrap().lineage().unwrap().group().slot(slot).unwrap().state
    })
}

fn resync(mounted: &mut Mounted, random: &mut Random) {
    for _ in 0..1000 {
        let filled = ready(mounted.host.resync(random.below(1 << 20))).unwrap();
        assert_eq!(filled.unreadable, 0);
        if filled.behind == 0 {
            return;
        }
        if random.once_in(3) {
            mounted.work(random, 5).unwrap();
        }
    }
    panic!("it does not get in sync");
}

#[test]
fn a_third_copy_is_added_and_the_first_taken_away() {
    for seed in 1..9 {
        let sizes = [64 << 20, 96 << 20, if seed % 2 == 0 { 72 << 20 } else { 3 << 30 }];
        let (rack, mut mounted, mut random) = used(&sizes, 2, seed);
        assert_eq!(ready(mounted.host.add_copy(new(2, sizes[2], 99))), Ok(2), "seed {seed}");
        assert_eq!(state(&mounted, 2), CopyState::Resync);
        mounted.work(&mut random, 20).unwrap();
        mounted.check().unwrap();
        if seed % 3 == 0 {
            mounted = mounted.again(&rack);
        }
        resync(&mut mounted, &mut random);
        assert_eq!(state(&mounted, 2), CopyState::InSync);
        mounted.work(&mut random, 20).unwrap();
        each_holds(&rack, &[0, 1, 2], &mounted.committed).unwrap();
        assert_eq!(ready(mounted.host.remove_copy(0)), Ok(()));
        let _ = rack.take_traffic(0);
        let old = mounted.committed.settled();
        mounted.work(&mut random, 40).unwrap();
        let traffic = rack.take_traffic(0);
        assert_eq!((traffic.reads, traffic.writes), (0, 0), "nobody asks it any more");
        mounted.check().unwrap();
        each_holds(&rack, &[1, 2], &mounted.committed).unwrap();
        let mut mounted = never_again(&rack, mounted, &old);
        mounted.work(&mut random, 20).unwrap();
        mounted.check().unwrap();
        each_holds(&rack, &[1, 2], &mounted.committed).unwrap();
    }
}

/// The first disk is no copy any more, alone or beside others.
fn never_again(rack: &Rack, mounted: Mounted, old: &farrier_tests::model::Model) -> Mounted {
    assert!(each_holds(rack, &[0], old).is_err(), "by itself it is nothing");
    assert!(WritingHost::open(rack.fork().show(&[0]), 1 << 20).is_err());
    let two = WritingHost::open(rack.fork().show(&[0, 1]), 1 << 20);
    assert!(two.is_err(), "it does not stand for the one that is missing");
    let mounted = mounted.again(rack);
    assert_eq!(state(&mounted, 0), CopyState::Retired);
    mounted.check().unwrap();
    mounted
}

#[test]
fn the_slot_of_a_former_copy_is_used_again() {
    let sizes = [64 << 20, 64 << 20, 64 << 20];
    for seed in 1..6 {
        let (rack, mut mounted, mut random) = used(&sizes, 2, seed);
        assert_eq!(ready(mounted.host.add_copy(new(2, sizes[2], 99))), Ok(2));
        resync(&mut mounted, &mut random);
        assert_eq!(ready(mounted.host.remove_copy(1)), Ok(()));
        mounted.work(&mut random, 30).unwrap();
        // the slot that never had a copy comes first, then the one that is free again
        let again = [new(1, sizes[1], 100), new(3, sizes[1], 101)];
        assert_eq!(ready(mounted.host.add_copy(again[0])), Ok(3));
        resync(&mut mounted, &mut random);
        assert_eq!(ready(mounted.host.replace_copy(3, new(1, sizes[1], 102))), Ok(1));
        assert_eq!(state(&mounted, 3), CopyState::Retired);
        // addresses of the former copy 1 are in all old tables
        mounted.check().unwrap();
        let mut mounted = mounted.again(&rack);
        mounted.check().unwrap();
        resync(&mut mounted, &mut random);
        mounted.work(&mut random, 30).unwrap();
        each_holds(&rack, &[0, 1, 2], &mounted.committed).unwrap();
    }
}

#[test]
fn what_cannot_be_changes_nothing() {
    let sizes = [64 << 20, 64 << 20, 64 << 20];
    let (rack, mut mounted, mut random) = used(&sizes, 2, 3);
    let host = &mounted.host;
    assert_eq!(ready(host.add_copy(new(1, sizes[1], 99))), Err(MemberError::InUse));
    let small = ready(host.add_copy(new(2, 8 << 20, 99)));
    assert!(matches!(small, Err(MemberError::TooSmall { .. })), "{small:?}");
    rack.set(2, Mode::NoWrites);
    assert_eq!(ready(host.add_copy(new(2, sizes[2], 99))), Err(MemberError::Unwritable));
    rack.set(2, Mode::Fine);
    assert_eq!(ready(host.remove_copy(1)), Ok(()));
    let last = ready(host.remove_copy(0));
    assert_eq!(last, Err(MemberError::Transition(TransitionFault::LastInSync(0))));
    mounted.work(&mut random, 20).unwrap();
    mounted.check().unwrap();
    each_holds(&rack, &[0], &mounted.committed).unwrap();
}

#[test]
fn a_copy_that_is_gone_is_taken_away_too() {
    let sizes = [64 << 20, 64 << 20, 64 << 20];
    let (rack, mut mounted, mut random) = used(&sizes, 2, 4);
    rack.set(0, Mode::Gone);
    mounted.work(&mut random, 20).unwrap();
    assert_eq!(state(&mounted, 0), CopyState::Out);
    assert_eq!(ready(mounted.host.replace_copy(0, new(2, sizes[2], 99))), Ok(2));
    resync(&mut mounted, &mut random);
    mounted.work(&mut random, 20).unwrap();
    each_holds(&rack, &[1, 2], &mounted.committed).unwrap();
    // it comes back, and was never told
    rack.set(0, Mode::Fine);
    let mut mounted = mounted.again(&rack);
    assert_eq!(state(&mounted, 0), CopyState::Retired);
    mounted.work(&mut random, 20).unwrap();
    mounted.check().unwrap();
    each_holds(&rack, &[1, 2], &mounted.committed).unwrap();
}
