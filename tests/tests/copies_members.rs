//! Copies are added to a volume in use, and taken away from it.

use farrier_core::copies::lineage::Options;
use farrier_core::copies::{CopyState, EpochId, Rules, Runtime, TransitionFault};
use farrier_core::drive::change::Origin;
use farrier_core::drive::copies::{MemberError, NewCopy};
use farrier_core::drive::promote::{plan, promote};
use farrier_core::drive::ready;
use farrier_core::drive::scrub::Scrub;
use farrier_core::error::Error;
use farrier_core::units::{DeviceIndex, Uuid, WallTime};
use farrier_core::volume::OpenOptions;
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
    let sizes = [64 << 20; 5];
    for seed in 1..6 {
        let (rack, mut mounted, mut random) = used(&sizes, 2, seed);
        assert_eq!(ready(mounted.host.add_copy(new(2, sizes[2], 99))), Ok(2));
        resync(&mut mounted, &mut random);
        assert_eq!(ready(mounted.host.remove_copy(1)), Ok(()));
        mounted.work(&mut random, 30).unwrap();
        // the slot that never had a copy comes first, then the one that is free again
        assert_eq!(ready(mounted.host.add_copy(new(3, sizes[3], 100))), Ok(3));
        resync(&mut mounted, &mut random);
        assert_eq!(ready(mounted.host.replace_copy(3, new(4, sizes[4], 101))), Ok(1));
        assert_eq!(state(&mounted, 3), CopyState::Retired);
        // addresses of the former copy 1 are in all old tables
        mounted.check().unwrap();
        let mut mounted = mounted.again(&rack);
        mounted.check().unwrap();
        resync(&mut mounted, &mut random);
        mounted.work(&mut random, 30).unwrap();
        each_holds(&rack, &[0, 2, 4], &mounted.committed).unwrap();
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

#[test]
fn a_copy_that_is_detached_holds_everything_and_comes_back() {
    for seed in 1..5 {
        let sizes = [64 << 20, 64 << 20, 80 << 20];
        let (rack, mut mounted, mut random) = used(&sizes, 3, seed);
        mounted.work(&mut random, 20).unwrap();
        assert_eq!(ready(mounted.host.detach_copy(0)), Ok(()));
        assert_eq!(state(&mounted, 0), CopyState::Out);
        mounted.committed = mounted.model.settled();
        each_holds(&rack, &[0, 1, 2], &mounted.committed).unwrap();
        let left = rack.take_traffic(0);
        mounted.work(&mut random, 30).unwrap();
        let after = rack.take_traffic(0);
        assert_eq!(after.writes, 0, "{left:?} {after:?}");
        let twice = ready(mounted.host.detach_copy(0));
        assert!(matches!(twice, Err(MemberError::Transition(TransitionFault::State { .. }))));
        // those that stayed are all that has to be there
        let mut mounted = mounted.again(&rack.show(&[1, 2]));
        mounted.work(&mut random, 10).unwrap();
        assert!(WritingHost::open(rack.show(&[0]), 1 << 20).is_err(), "the others may go on");
        let mut mounted = mounted.again(&rack);
        resync(&mut mounted, &mut random);
        mounted.work(&mut random, 10).unwrap();
        each_holds(&rack, &[0, 1, 2], &mounted.committed).unwrap();
        ready(mounted.host.detach_copy(2)).unwrap();
        ready(mounted.host.detach_copy(1)).unwrap();
        let last = ready(mounted.host.detach_copy(0));
        assert_eq!(last, Err(MemberError::Transition(TransitionFault::LastInSync(0))));
    }
}

fn rules(mounted: &Mounted) -> Rules {
    mounted.host.with_flusher(|flusher| flusher.unwrap().lineage().unwrap().group().rules())
}

#[test]
fn the_right_to_write_moves_and_nobody_else_may_start() {
    let sizes = [64 << 20; 2];
    let (rack, mut mounted, mut random) = used(&sizes, 2, 5);
    let held_by = |slot| Rules { runtime: Runtime::Holder(slot), ..rules(&mounted) };
    let (by_0, by_1) = (held_by(0), held_by(1));
    assert_eq!(ready(mounted.host.set_rules(by_0)), Ok(()));
    assert_eq!(ready(mounted.host.detach_copy(0)), Err(MemberError::Holder));
    let opens = |disk: u8| WritingHost::open(rack.show(&[disk]), 1 << 20).is_ok();
    assert_eq!([opens(0), opens(1)], [true, false]);
    mounted.work(&mut random, 20).unwrap();
    assert_eq!(ready(mounted.host.set_rules(by_1)), Ok(()));
    assert_eq!([opens(0), opens(1)], [false, true]);
    mounted.committed = mounted.model.settled();
    each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
    mounted.work(&mut random, 20).unwrap();
    each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
    // the one that has the right does not hear that it lost it: then it did not
    rack.set(1, Mode::NoWrites);
    assert_eq!(ready(mounted.host.set_rules(by_0)), Err(MemberError::Failed(Error::Halted)));
    rack.set(1, Mode::Fine);
    assert_eq!([opens(0), opens(1)], [false, true]);
    let mut mounted = mounted.again(&rack);
    mounted.work(&mut random, 20).unwrap();
    each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
}

#[test]
fn rules_that_cannot_be_change_nothing() {
    let sizes = [64 << 20; 3];
    let (rack, mut mounted, mut random) = used(&sizes, 2, 6);
    let before = rules(&mounted);
    let fails = |rules: Rules| match ready(mounted.host.set_rules(rules)) {
        Err(MemberError::Transition(fault)) => fault,
        other => panic!("{rules:?}: {other:?}"),
    };
    let state = CopyState::Empty;
    let none = TransitionFault::State { slot: 2, state };
    assert_eq!(fails(Rules { runtime: Runtime::Holder(2), ..before }), none);
    let too_few = TransitionFault::TooFew { have: 2, need: 3 };
    assert_eq!(fails(Rules { min_copies: 3, ..before }), too_few);
    assert_eq!(rules(&mounted), before);
    let both = Rules { min_copies: 2, ..before };
    assert_eq!(ready(mounted.host.set_rules(both)), Ok(()));
    let too_few = MemberError::Transition(TransitionFault::TooFew { have: 1, need: 2 });
    assert_eq!(ready(mounted.host.detach_copy(1)), Err(too_few));
    let most = Rules { runtime: Runtime::Majority, ..before };
    assert_eq!(ready(mounted.host.set_rules(most)), Ok(()));
    assert_eq!(ready(mounted.host.detach_copy(1)), Err(MemberError::Rule));
    mounted.work(&mut random, 20).unwrap();
    each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
}

fn epoch_on(rack: &Rack, disk: u8) -> EpochId {
    let alone = rack.show(&[disk]);
    let volume = ready(farrier_core::drive::open(&alone, only(disk))).unwrap();
    volume.header().copy_group().unwrap().epoch.id
}

fn only(copy: u8) -> OpenOptions {
    let copies = Options { only_copy: Some(copy), ..Options::default() };
    OpenOptions { copies, ..OpenOptions::default() }
}

#[test]
fn an_old_copy_is_promoted_and_the_master_gives_up() {
    for seed in 1..7 {
        let sizes = [64 << 20, 64 << 20];
        let (rack, mut mounted, mut random) = used(&sizes, 2, seed);
        let then = mounted.committed.settled();
        rack.set(1, Mode::Gone);
        mounted.work(&mut random, 30).unwrap();
        mounted.work(&mut random, 30).unwrap();
        rack.set(1, Mode::Fine);
        // it is back and gets some of it, and then the other one is gone
        let mut mounted = mounted.again(&rack);
        mounted.work(&mut random, 5).unwrap();
        ready(mounted.host.resync(0)).unwrap();
        let time = mounted.time;
        drop(mounted);
        let alone = rack.show(&[1]);
        assert!(WritingHost::open(alone.clone(), 1 << 20).is_err(), "not without being told");
        let volume = ready(farrier_core::drive::open(&alone, only(1))).unwrap();
        let origin =
            Origin { id: [77; 16], host: Uuid([7; 16]), time: WallTime(1_700_000_000_000_000) };
        let promotion = plan(&volume, origin).unwrap();
        assert_eq!(promotion.copy, 1);
        assert!(promotion.known_tid > promotion.root_tid, "the loss is told: {promotion:?}");
        assert_eq!(promotion.diverged, 0b01);
        ready(promote(&alone, &volume, &promotion)).unwrap();

        let mut mounted = Mounted::open(&alone, Some(then), time + 1000);
        mounted.check().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        mounted.work(&mut random, 30).unwrap();
        // the old master is not believed, and not written, until it gives up what it has
        let before = epoch_on(&rack, 0);
        let mut mounted = mounted.again(&rack);
        assert_eq!(state(&mounted, 0), CopyState::Diverged);
        mounted.check().unwrap();
        mounted.work(&mut random, 10).unwrap();
        assert_eq!(epoch_on(&rack, 0), before);
        each_holds(&rack, &[1], &mounted.committed).unwrap();
        assert_eq!(ready(mounted.host.discard_copy(0, before)), Ok(()));
        let mut mounted = mounted.again(&rack);
        resync(&mut mounted, &mut random);
        mounted.work(&mut random, 10).unwrap();
        each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
    }
}

#[test]
fn a_new_copy_that_fails_holds_nobody_up() {
    for seed in 1..7 {
        let sizes = [64 << 20, 64 << 20, 80 << 20];
        let (rack, mut mounted, mut random) = used(&sizes, 2, seed);
        assert_eq!(ready(mounted.host.add_copy(new(2, sizes[2], 99))), Ok(2));
        let mode = *random.pick(&[Mode::Gone, Mode::Late, Mode::NoWrites]);
        rack.set(2, mode);
        mounted.work(&mut random, 20).unwrap();
        mounted.flush().unwrap();
        assert_eq!(state(&mounted, 2), CopyState::Out, "seed {seed}");
        mounted.check().unwrap();
        each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
        // without it everybody is there
        let mut mounted = mounted.again(&rack.show(&[0, 1]));
        mounted.work(&mut random, 20).unwrap();
        each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
        rack.set(2, Mode::Fine);
        let mut mounted = mounted.again(&rack);
        resync(&mut mounted, &mut random);
        mounted.work(&mut random, 10).unwrap();
        assert_eq!(state(&mounted, 2), CopyState::InSync);
        each_holds(&rack, &[0, 1, 2], &mounted.committed).unwrap();
    }
}

#[test]
fn what_was_added_and_is_bad_is_healed() {
    let sizes = [64 << 20, 64 << 20, 80 << 20];
    let (rack, mut mounted, mut random) = used(&sizes, 2, 5);
    assert_eq!(ready(mounted.host.add_copy(new(2, sizes[2], 99))), Ok(2));
    resync(&mut mounted, &mut random);
    mounted.flush().unwrap();
    let blocks = mounted.blocks();
    for block in &blocks {
        let offset = block.addresses.get(2).expect("it is in sync").0;
        rack.patch(2, offset, &[rack.bytes(2, offset, 1)[0] ^ 1]);
    }
    let mut scrub = Scrub::new();
    while ready(mounted.host.scrub(&mut scrub, 1 << 16)).unwrap() {}
    let found = scrub.found();
    assert_eq!(found.healed.healed, blocks.len() as u64);
    assert_eq!(found.bad, found.healed.healed);
    each_holds(&rack, &[0, 1, 2], &mounted.committed).unwrap();
}

#[test]
fn addresses_of_a_former_copy_mean_nothing_for_the_new_one() {
    for seed in 1..5 {
        let sizes = [64 << 20; 5];
        let (rack, mut mounted, mut random) = used(&sizes, 4, seed);
        // every old table names addresses in slot 1, and nothing was filled in since
        assert_eq!(ready(mounted.host.replace_copy(1, new(4, sizes[4], 99))), Ok(1));
        mounted.work(&mut random, 10).unwrap();
        mounted.check().unwrap();
        let live = mounted.host.volume().copies().unwrap().counts(1);
        assert_eq!((live.read_errors, live.check_errors), (0, 0), "nobody asks it for them");
        resync(&mut mounted, &mut random);
        each_holds(&rack, &[0, 2, 3, 4], &mounted.committed).unwrap();
    }
}
