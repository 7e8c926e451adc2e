//! A volume that halted goes on when its copies are back, and only with those that it had.

use farrier_core::copies::CopyState;
use farrier_core::copies::lineage::ReadOnly;
use farrier_core::drive::ready;
use farrier_core::drive::resume::{ResumeError, is_for_want_of_copies};
use farrier_core::fs::Victim;
use farrier_core::units::DeviceIndex;
use farrier_tests::mounted::{self, Mounted, each_holds, format_copies};
use farrier_tests::ops::{Op, Random};
use farrier_tests::rack::{Mode, Rack};
use farrier_tests::writing::WritingHost;

const SIZE: u64 = 64 << 20;

fn used(count: usize, seed: u64) -> (Rack, Mounted, Random) {
    mounted::used(&vec![SIZE; count], (4, 40), seed)
}

fn set(rack: &Rack, disks: &[u8], mode: Mode) {
    disks.iter().for_each(|disk| rack.set(*disk, mode));
}

fn resume(mounted: &Mounted, devices: &[u8]) -> Result<(), ResumeError> {
    let devices: Vec<_> = devices.iter().map(|device| DeviceIndex(*device)).collect();
    ready(mounted.host.resume(&devices))
}

/// Changes something that is not committed, and loses the disks.
fn lose(rack: &Rack, mounted: &mut Mounted, disks: &[u8], mode: Mode) {
    mounted.new_file(b"not committed");
    set(rack, disks, mode);
    let why = mounted.host.flush().unwrap_err();
    assert!(is_for_want_of_copies(&why), "{why:?}");
    is_halted(mounted);
}

/// Nothing can be changed, even if the disks work.
fn is_halted(mounted: &Mounted) {
    assert!(is_for_want_of_copies(&mounted.host.flush().unwrap_err()));
}

#[test]
fn what_was_not_committed_is_there_when_the_copies_are_back() {
    for mode in [Mode::Gone, Mode::NoWrites, Mode::Late] {
        let (rack, mut mounted, mut random) = used(2, 1);
        lose(&rack, &mut mounted, &[0, 1], mode);
        set(&rack, &[0, 1], Mode::Fine);
        resume(&mounted, &[0, 1]).unwrap();
        assert_eq!(mounted.states()[..2], [CopyState::InSync; 2], "{mode:?}");
        mounted.committed.clone_from(&mounted.model);
        mounted.check().unwrap();
        each_holds(&rack, &[0], &mounted.committed.settled()).unwrap();
        each_holds(&rack, &[1], &mounted.committed.settled()).unwrap();
        mounted.work(&mut random, 40).unwrap();
    }
}

#[test]
fn a_file_that_is_open_and_has_no_name_outlasts_it() {
    let (rack, mut mounted, _) = used(2, 2);
    let inum = mounted.new_file(b"open");
    mounted.apply(&Op::Write { inum, offset: Some(0), len: 200_000, fill: 10 }).unwrap();
    let (name, victim) = (b"open".to_vec(), Victim::File);
    mounted.apply(&Op::Unlink { directory: 1, name, victim, keep: true }).unwrap();
    mounted.host.flush().unwrap();
    lose(&rack, &mut mounted, &[0, 1], Mode::Gone);
    set(&rack, &[0, 1], Mode::Fine);
    resume(&mounted, &[0, 1]).unwrap();
    mounted.check().unwrap();
    mounted.apply(&Op::Write { inum, offset: Some(100), len: 100_000, fill: 16 }).unwrap();
    mounted.host.flush().unwrap();
    mounted.check().unwrap();
}

#[test]
fn one_of_two_that_were_lost_together_proves_nothing_of_the_other() {
    let (rack, mut mounted, _) = used(2, 3);
    lose(&rack, &mut mounted, &[0, 1], Mode::Gone);
    rack.set(0, Mode::Fine);
    let refused = resume(&mounted, &[0]);
    assert!(matches!(refused, Err(ResumeError::Unsafe(ReadOnly::Missing { members: 2 }))));
    is_halted(&mounted);
    rack.set(1, Mode::Fine);
    resume(&mounted, &[0, 1]).unwrap();
    mounted.check().unwrap();
}

#[test]
fn the_last_one_suffices_where_the_other_was_left_behind_before() {
    let (rack, mut mounted, mut random) = used(2, 4);
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 10).unwrap();
    lose(&rack, &mut mounted, &[0], Mode::Gone);
    rack.set(0, Mode::Fine);
    resume(&mounted, &[0]).unwrap();
    assert_eq!(mounted.states()[..2], [CopyState::InSync, CopyState::Out]);
    mounted.check().unwrap();
    rack.set(1, Mode::Fine);
    ready(mounted.host.attach_copy(DeviceIndex(1), false)).unwrap();
    let joins = |_| ready(mounted.host.resync(u64::MAX)).unwrap().joined > 0;
    assert!((0..4).any(joins), "it is brought up to date");
    assert_eq!(mounted.states()[..2], [CopyState::InSync; 2]);
}

#[test]
fn a_copy_that_somebody_else_wrote_to_meanwhile_is_another_one() {
    let (rack, mut mounted, mut random) = used(2, 5);
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 10).unwrap();
    lose(&rack, &mut mounted, &[0], Mode::Gone);
    rack.set(0, Mode::Fine);
    // it is carried to another machine, mounted there, and brought back
    let elsewhere = WritingHost::open(rack.show(&[0]), 1 << 20).unwrap();
    elsewhere.flush_always(true).unwrap();
    drop(elsewhere);
    assert!(matches!(resume(&mounted, &[0]), Err(ResumeError::Changed { slot: 0 })));
    is_halted(&mounted);
    // a mount finds what was done there
    assert!(WritingHost::open(rack.show(&[0]), 1 << 20).is_ok());
}

#[test]
fn a_copy_that_was_put_back_is_another_one() {
    let (rack, mut mounted, mut random) = used(2, 6);
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 10).unwrap();
    let image = rack.pages(0);
    mounted.work(&mut random, 10).unwrap();
    lose(&rack, &mut mounted, &[0], Mode::Gone);
    rack.set(0, Mode::Fine);
    for (offset, page) in image {
        rack.patch(0, offset, &page);
    }
    assert!(matches!(resume(&mounted, &[0]), Err(ResumeError::Changed { slot: 0 })));
}

#[test]
fn another_device_in_its_place_is_none_of_it() {
    let (rack, mut mounted, _) = used(2, 7);
    let others = Rack::new(&[SIZE; 2]);
    format_copies(&others);
    lose(&rack, &mut mounted, &[0, 1], Mode::Gone);
    set(&rack, &[0, 1], Mode::Fine);
    let kept = rack.pages(0);
    others.pages(0).iter().for_each(|(offset, page)| rack.patch(0, *offset, page));
    assert!(resume(&mounted, &[0, 1]).is_err());
    is_halted(&mounted);
    kept.iter().for_each(|(offset, page)| rack.patch(0, *offset, page));
    resume(&mounted, &[0, 1]).unwrap();
    mounted.check().unwrap();
}

#[test]
fn a_volume_that_did_not_halt_is_left_alone() {
    let (rack, mut mounted, _) = used(2, 8);
    let before = rack.pages(0);
    assert!(matches!(resume(&mounted, &[0, 1]), Err(ResumeError::NotHalted)));
    assert_eq!(rack.pages(0), before);
    mounted.new_file(b"goes on");
    mounted.host.flush().unwrap();
}
