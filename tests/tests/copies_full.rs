//! Copies on volumes with next to no room: what can be filled in is, and what cannot is told.

use farrier_core::copies::CopyState;
use farrier_core::drive::copies::MemberError;
use farrier_core::drive::ready;
use farrier_core::drive::resync::Filled;
use farrier_core::fs::New;
use farrier_tests::model::{Creation, Set};
use farrier_tests::mounted::{Mounted, each_holds, format_copies};
use farrier_tests::ops::{Op, Random};
use farrier_tests::rack::{Mode, Rack};

const MIB: u64 = 1 << 20;
const STEP: usize = 64 << 10;

fn state(mounted: &Mounted, slot: u8) -> CopyState {
    mounted.host.with_flusher(|flusher| {
        flusher.unwrap().lineage().unwrap().group().slot(slot).unwrap().state
    })
}

fn free(mounted: &Mounted) -> u64 {
    mounted.host.with_memory(farrier_core::dirty::Memory::free_bytes)
}

fn create(mounted: &mut Mounted, name: &str) -> u64 {
    let (directory, new) = (1, New::File);
    let name = name.as_bytes().to_vec();
    let creation = Creation { directory, name: name.clone(), new, mode: 0o644, uid: 1, gid: 2 };
    mounted.apply(&Op::Create(creation)).unwrap();
    mounted.model.get(1).unwrap().names[&name]
}

/// Writes to `inum` until there are less than `left` bytes of room; how many steps that took.
fn fill(mounted: &mut Mounted, inum: u64, left: u64) -> u64 {
    let mut steps = 0;
    while free(mounted) > left {
        let (offset, fill) = (Some(steps * STEP as u64), 6 * steps + 4);
        mounted.apply(&Op::Write { inum, offset, len: STEP, fill }).unwrap();
        steps += 1;
        if steps % 16 == 0 {
            mounted.flush().unwrap();
        }
    }
    mounted.flush().unwrap();
    steps
}

fn resync(mounted: &Mounted, budget: u64) -> Filled {
    let mut last = Filled { behind: 1, ..Filled::default() };
    for _ in 0..3000 {
        last = ready(mounted.host.resync(budget)).unwrap();
        let is_stuck = (last.leaves, last.tables, last.joined) == (0, 0, 0);
        if last.behind == 0 || is_stuck {
            return last;
        }
    }
    panic!("it neither ends nor stops: {last:?}");
}

#[test]
fn what_is_kept_free_is_a_part_of_the_smallest_copy() {
    let free_of = |sizes: &[u64]| {
        let rack = Rack::new(sizes);
        format_copies(&rack);
        free(&Mounted::open(&rack, None, 0))
    };
    // the large one comes first: it is the master
    assert_eq!(free_of(&[3072 * MIB, 48 * MIB]), free_of(&[48 * MIB, 48 * MIB]));
}

#[test]
fn a_copy_catches_up_with_next_to_no_room() {
    for (seed, left) in (1..4).zip([3 * MIB, 2 * MIB, 3 * MIB / 2]) {
        let rack = Rack::new(&[48 * MIB, 48 * MIB]);
        format_copies(&rack);
        let mut mounted = Mounted::open(&rack, None, 0);
        let mut random = Random::new(seed);
        mounted.work(&mut random, 60).unwrap();
        let filler = create(&mut mounted, "filler");
        let steps = fill(&mut mounted, filler, 8 * MIB);
        rack.set(1, Mode::Gone);
        // some of it is written anew, and some is new
        for _ in 0..4 {
            let offset = Some(random.below(steps) * STEP as u64);
            mounted.apply(&Op::Write { inum: filler, offset, len: 3000, fill: 40 }).unwrap();
        }
        mounted.flush().unwrap();
        let more = create(&mut mounted, "more");
        fill(&mut mounted, more, left);
        assert_eq!(state(&mounted, 1), CopyState::Out);
        rack.set(1, Mode::Fine);
        let mut mounted = mounted.again(&rack);
        let before = free(&mounted);
        assert!(before < 4 * MIB, "{before}");
        let filled = resync(&mounted, 256 << 10);
        assert_eq!(filled.behind, 0, "{left} bytes were left, {before} free: {filled:?}");
        assert_eq!(state(&mounted, 1), CopyState::InSync);
        mounted.check().unwrap();
        mounted.flush().unwrap();
        each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
    }
}

#[test]
fn no_room_at_all_is_told_and_harms_nobody() {
    let rack = Rack::new(&[48 * MIB, 48 * MIB]);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let filler = create(&mut mounted, "filler");
    rack.set(1, Mode::Gone);
    fill(&mut mounted, filler, 128 << 10);
    rack.set(1, Mode::Fine);
    let mut mounted = mounted.again(&rack);
    let filled = resync(&mounted, MIB);
    assert!(filled.is_short && filled.behind == 2, "{filled:?}");
    assert_eq!(state(&mounted, 1), CopyState::Resync);
    assert_eq!(ready(mounted.host.strip(0, MIB)), Err(MemberError::NoRoom));
    mounted.check().unwrap();
    mounted.flush().unwrap();
    each_holds(&rack, &[0], &mounted.committed).unwrap();
}

#[test]
fn a_copy_that_is_full_waits() {
    for seed in 1..4 {
        let rack = Rack::new(&[96 * MIB, 48 * MIB]);
        format_copies(&rack);
        let mut mounted = Mounted::open(&rack, None, 0);
        let mut random = Random::new(seed);
        mounted.work(&mut random, 60).unwrap();
        rack.set(1, Mode::Gone);
        mounted.work(&mut random, 10).unwrap();
        assert_eq!(state(&mounted, 1), CopyState::Out);
        // more than the other one has room for
        let big = create(&mut mounted, "big");
        fill(&mut mounted, big, 20 * MIB);
        rack.set(1, Mode::Fine);
        let mut mounted = mounted.again(&rack);
        let filled = resync(&mounted, 4 * MIB);
        assert_eq!((filled.full, filled.behind), (2, 2), "seed {seed}: {filled:?}");
        assert_eq!(state(&mounted, 1), CopyState::Resync, "it is not given up");
        mounted.work(&mut random, 20).unwrap();
        mounted.check().unwrap();
        each_holds(&rack, &[0], &mounted.committed).unwrap();
        // when there is room, it goes on
        let size = Some(0);
        let inum = mounted.model.get(1).unwrap().names.get(&b"big"[..]).copied();
        let Some(inum) = inum else { continue };
        mounted.apply(&Op::Set { inum, set: Set { size, ..Set::default() } }).unwrap();
        mounted.flush().unwrap();
        // what it got in vain is found by a scan, once it is in sync, or when it is mounted anew
        let mut mounted = mounted.again(&rack);
        let filled = resync(&mounted, 4 * MIB);
        println!("seed {seed}: {filled:?}");
        mounted.check().unwrap();
        mounted.flush().unwrap();
        each_holds(&rack, &[0], &mounted.committed).unwrap();
    }
}
