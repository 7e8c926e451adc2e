//! What went wrong with copies: counted, kept in their record, and a reason to leave one behind.

use farrier_core::copies::lineage::{Options, ReadOnly};
use farrier_core::copies::{CopyState, OnMissing, Rules, Runtime};
use farrier_core::drive::ready;
use farrier_core::drive::scrub::Scrub;
use farrier_core::error::{BlockKind, Error, Refusal};
use farrier_core::fs::New;
use farrier_core::media::copy_group::Counters;
use farrier_core::volume::{OpenOptions, Volume};
use farrier_tests::model::Creation;
use farrier_tests::mounted::{self, Mounted, TreeBlock, each_holds};
use farrier_tests::ops::{Op, Random};
use farrier_tests::rack::{Mode, Rack};
use farrier_tests::writing::WritingHost;

const SIZE: u64 = 64 << 20;
const MINUTE: u64 = 60 * 1_000_000;

fn used(count: usize, seed: u64) -> (Rack, Mounted, Random) {
    mounted::used(&vec![SIZE; count], (4, 40), seed)
}

/// What the newest header on a disk says of a copy.
fn recorded(rack: &Rack, disk: u8, copy: usize) -> Counters {
    let copies = Options { only_copy: Some(disk), ..Options::default() };
    let volume = opened(&rack.fork().show(&[disk]), copies).unwrap();
    volume.header().copy_group().unwrap().slots[copy].counters
}

fn opened(rack: &Rack, copies: Options) -> Result<Volume, Error> {
    let options = OpenOptions { copies, ..OpenOptions::default() };
    ready(farrier_core::drive::open(rack, options))
}

/// Makes `count` blocks bad on a disk, and has them healed.
fn spoil(rack: &Rack, mounted: &mut Mounted, disk: u8, count: usize) {
    let name = format!("victim {}", mounted.time).into_bytes();
    let (directory, new) = (1, New::File);
    let creation = Creation { directory, name: name.clone(), new, mode: 0o644, uid: 1, gid: 2 };
    mounted.apply(&Op::Create(creation)).unwrap();
    let inum = mounted.model.get(1).unwrap().names[&name];
    for number in 0..count as u64 {
        let (offset, fill) = (Some(number << 16), 6 * (mounted.time + number) + 4);
        mounted.apply(&Op::Write { inum, offset, len: 1 << 16, fill }).unwrap();
    }
    mounted.flush().unwrap();
    let blocks = mounted.blocks();
    let data = |block: &&TreeBlock| block.blockref.kind() == BlockKind::Data;
    let mut spoilt = 0;
    for block in blocks.iter().filter(data).take(count) {
        let offset = block.addresses.get(disk).expect("it is in sync").0;
        rack.patch(disk, offset, &[rack.bytes(disk, offset, 1)[0] ^ 1]);
        spoilt += 1;
    }
    assert_eq!(spoilt, count);
    let before = mounted.host.volume().copies().unwrap().totals(disk).healed;
    let mut scrub = Scrub::new();
    while ready(mounted.host.scrub(&mut scrub, 1 << 20)).unwrap() {}
    let healed = mounted.host.volume().copies().unwrap().totals(disk).healed - before;
    if mounted.host.with_flusher(|flusher| {
        flusher.unwrap().lineage().unwrap().set().in_sync().count_ones() > 1
    }) {
        assert_eq!(healed, count as u64);
    }
    mounted.flush().unwrap();
}

#[test]
fn counters_outlive_a_mount_until_they_are_reset() {
    let (rack, mut mounted, mut random) = used(2, 1);
    let blocks = mounted.blocks();
    for block in blocks.iter().filter(|block| !block.is_root).take(5) {
        let offset = block.addresses.get(1).unwrap().0;
        rack.patch(1, offset, &[rack.bytes(1, offset, 1)[0] ^ 1]);
    }
    let mut scrub = Scrub::new();
    while ready(mounted.host.scrub(&mut scrub, 1 << 20)).unwrap() {}
    mounted.flush().unwrap();
    let expected = Counters { check: 5, healed: 5, ..Counters::default() };
    for disk in [0, 1] {
        assert_eq!(recorded(&rack, disk, 1), expected, "on {disk}");
        assert_eq!(recorded(&rack, disk, 0), Counters::default(), "on {disk}");
    }
    let mut mounted = mounted.again(&rack);
    mounted.work(&mut random, 20).unwrap();
    let live = mounted.host.volume().copies().unwrap();
    assert_eq!((live.totals(1), live.counts(1).check_errors), (expected, 0));
    assert_eq!(recorded(&rack, 0, 1), expected);
    ready(mounted.host.reset_counters(1)).unwrap();
    assert_eq!(recorded(&rack, 0, 1), Counters::default());
    assert_eq!(recorded(&rack, 1, 1), Counters::default());
    assert!(ready(mounted.host.reset_counters(3)).is_err(), "there is none");
    // a copy that fails is told by its fault
    rack.set(1, Mode::Late);
    mounted.work(&mut random, 20).unwrap();
    let failed = recorded(&rack, 0, 1);
    assert_eq!((failed.flush, failed.write), (1, 0), "{failed:?}");
    assert_eq!(mounted.states()[1], CopyState::Out);
}

#[test]
fn a_copy_with_many_bad_blocks_is_left_behind() {
    for (bad, is_faulted) in [(31, false), (32, true)] {
        let (rack, mut mounted, mut random) = used(3, 2);
        spoil(&rack, &mut mounted, 1, bad);
        let expected = if is_faulted { CopyState::Faulted } else { CopyState::InSync };
        assert_eq!(mounted.states()[1], expected, "{bad} bad blocks");
        mounted.work(&mut random, 20).unwrap();
        mounted.check().unwrap();
        each_holds(&rack, &[0, 2], &mounted.committed).unwrap();
        let mut mounted = mounted.again(&rack);
        mounted.work(&mut random, 20).unwrap();
        assert_eq!(mounted.states()[1], expected, "it stays so until the operator says otherwise");
    }
}

#[test]
fn bad_blocks_long_ago_do_not_count() {
    let (rack, mut mounted, _) = used(3, 3);
    let mut time = 1_700_000_000_000_000;
    for round in 0..4 {
        mounted.host.set_origin(farrier_core::drive::change::Origin {
            id: [100 + round; 16],
            host: farrier_core::units::Uuid([7; 16]),
            time: farrier_core::units::WallTime(time),
        });
        spoil(&rack, &mut mounted, 1, 20);
        assert_eq!(mounted.states()[1], CopyState::InSync, "round {round}");
        time += 11 * MINUTE;
    }
    spoil(&rack, &mut mounted, 1, 20);
    assert_eq!(mounted.states()[1], CopyState::Faulted, "but so many at once do");
}

fn rules(on_missing: OnMissing, min_copies: u8) -> Rules {
    Rules { runtime: Runtime::Any, on_missing, min_copies, wait_seconds: 0, promote: None }
}

#[test]
fn the_rules_of_a_group_hold_when_it_is_mounted() {
    for on_missing in [OnMissing::ReadOnly, OnMissing::Refuse, OnMissing::Accept] {
        let (rack, mut mounted, mut random) = used(2, 5);
        ready(mounted.host.set_rules(rules(on_missing, 1))).unwrap();
        mounted.work(&mut random, 10).unwrap();
        let alone = rack.fork().show(&[0]);
        let volume = opened(&alone, Options::default());
        let writing = WritingHost::open(alone.clone(), 1 << 20);
        match on_missing {
            OnMissing::ReadOnly => {
                let decision = volume.unwrap().group().unwrap().decision().writable;
                assert_eq!(decision, Err(ReadOnly::Missing { members: 2 }));
                assert_eq!(writing.unwrap_err(), Error::ReadOnly);
            }
            OnMissing::Refuse => {
                let refused = Error::Refused(Refusal::Copies { code: "FC-S10" });
                assert_eq!((volume.unwrap_err(), writing.unwrap_err()), (refused, refused));
            }
            OnMissing::Accept => {
                assert!(writing.is_ok());
            }
        }
    }
}

#[test]
fn a_group_that_wants_two_copies_stops_with_one() {
    let (rack, mut mounted, mut random) = used(3, 6);
    ready(mounted.host.set_rules(rules(OnMissing::Accept, 2))).unwrap();
    mounted.work(&mut random, 10).unwrap();
    rack.set(2, Mode::Gone);
    mounted.work(&mut random, 10).unwrap();
    assert_eq!(mounted.states()[2], CopyState::Out, "two are enough");
    // bad blocks are no reason to stop
    spoil(&rack, &mut mounted, 1, 40);
    assert_eq!(mounted.states()[1], CopyState::InSync);
    rack.set(1, Mode::Gone);
    let before = mounted.committed.settled();
    assert_eq!(mounted.host.flush_always(true), Err(Error::Halted));
    each_holds(&rack, &[0], &before).unwrap();
    let alone = rack.fork().show(&[0]);
    let decision = opened(&alone, Options::default()).unwrap().group().unwrap().decision().writable;
    assert_eq!(decision, Err(ReadOnly::TooFew { have: 1, need: 2 }));
}
