//! A copy that was away comes back while the volume is in use.

use farrier_core::copies::CopyState;
use farrier_core::copies::lineage::Options;
use farrier_core::drive::attach::AttachError;
use farrier_core::drive::change::Origin;
use farrier_core::drive::ready;
use farrier_core::error::{Error, Refusal};
use farrier_core::fs::{Extent, Read, Victim};
use farrier_core::storage::Storage as _;
use farrier_core::units::{DeviceIndex, Inum, Uuid, WallTime};
use farrier_core::volume::OpenOptions;
use farrier_tests::against::compare;
use farrier_tests::model::Model;
use farrier_tests::mounted::{self, Mounted, each_holds, format_copies, format_copies_named};
use farrier_tests::ops::{Op, Random};
use farrier_tests::rack::{Mode, Rack};
use farrier_tests::writing::WritingHost;

const SIZE: u64 = 64 << 20;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// A volume on all disks of a rack that something was done to.
fn used(count: usize, seed: u64) -> (Rack, Mounted, Random) {
    mounted::used(&vec![SIZE; count], (4, 30), seed)
}

fn attach(mounted: &Mounted, device: u8) -> Result<u8, AttachError> {
    ready(mounted.host.attach_copy(DeviceIndex(device), false))
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

fn only(copy: u8) -> OpenOptions {
    let copies = Options { only_copy: Some(copy), ..Options::default() };
    OpenOptions { copies, ..OpenOptions::default() }
}

/// The copy by itself, whatever the others have, is what was committed then.
fn shows(rack: &Rack, copy: u8, then: &Model) -> Result<(), String> {
    let alone = rack.fork().show(&[copy]);
    let solo = farrier_core::drive::solo::Solo::open(alone, only(copy), 1 << 20);
    let solo = ready(solo).map_err(|error| error.to_string())?;
    let super_root = solo.volume().super_root();
    let open = farrier_core::fs::OpenPfs { super_root, label: b"DATA".to_vec() };
    let pfs = ready(solo.run(&open)).map_err(|error| error.to_string())?;
    compare(&solo, pfs, then, true)
}

/// Goes on with the copy in `slot` alone, by the operator's word.
fn go_on_alone(rack: &Rack, slot: u8, random: &mut Random, model: &Model, time: u64) -> Model {
    let copies = Options { accept_missing: true, ..Options::default() };
    let options = OpenOptions { copies, ..OpenOptions::default() };
    let host = WritingHost::with(rack.show(&[slot]), options, 1 << 20).unwrap();
    let mut id = [9; 16];
    id[8..].copy_from_slice(&time.to_le_bytes());
    host.set_origin(Origin { id, host: Uuid([8; 16]), time: WallTime(time) });
    let pfs = host.open_pfs("DATA").unwrap();
    let model = model.settled();
    let mut mounted = Mounted { host, pfs, committed: model.clone(), model, time };
    mounted.work(random, 10).unwrap();
    mounted.committed
}

/// A file that is open: its number.
fn open_file(mounted: &mut Mounted, name: &[u8], len: usize, fill: u64) -> u64 {
    let inum = mounted.new_file(name);
    mounted.apply(&Op::Write { inum, offset: Some(0), len, fill }).unwrap();
    inum
}

#[test]
fn what_is_deleted_and_open_is_filled_in_too() {
    for seed in 1..7 {
        let (rack, mut mounted, mut random) = used(2, seed);
        // one that was there before, one that is not, and one that is deleted when it is back
        let lens = [3 << 20, 300, 700_000];
        let names = [&b"before"[..], b"meanwhile", b"later"];
        let mut inums = Vec::new();
        for (number, (name, len)) in (0..).zip(names.into_iter().zip(lens)) {
            if number == 1 {
                rack.set(1, Mode::Gone);
            }
            inums.push(open_file(&mut mounted, name, len, number + seed));
            mounted.flush().unwrap();
        }
        let unlink = |name: &[u8]| Op::Unlink {
            directory: Inum::ROOT.0,
            name: name.to_vec(),
            victim: Victim::File,
            keep: true,
        };
        for (inum, name) in inums.iter().zip(&names[..2]) {
            // all of it, or a part, is new
            let len = 1 + usize::try_from(random.below(2 << 20)).unwrap();
            mounted.apply(&Op::Write { inum: *inum, offset: Some(0), len, fill: seed }).unwrap();
            mounted.apply(&unlink(name)).unwrap();
            mounted.flush().unwrap();
        }
        let all = |mounted: &Mounted| -> Vec<_> {
            let reads = inums.iter().flat_map(|inum| (0..4).map(|at| (*inum, at << 20)));
            let read = |(inum, offset)| {
                let (pfs, len) = (mounted.pfs, 1 << 20);
                let read = Read { pfs, inum: Inum(inum), offset, len, ahead: 0 };
                let mut bytes = Vec::new();
                for extent in mounted.host.run(&read).unwrap() {
                    match extent {
                        Extent::Zeros(len) => bytes.resize(bytes.len() + len, 0),
                        Extent::Bytes(block, range) => bytes.extend_from_slice(&block[range]),
                    }
                }
                bytes
            };
            reads.map(read).collect()
        };
        let before = all(&mounted);
        rack.set(1, Mode::Fine);
        assert_eq!(attach(&mounted, 1), Ok(1));
        mounted.apply(&unlink(names[2])).unwrap();
        for _ in 0..1000 {
            if ready(mounted.host.resync(1 + random.below(1 << 20))).unwrap().behind == 0 {
                break;
            }
        }
        assert_eq!(state(&mounted, 1), CopyState::InSync, "seed {seed}");
        rack.set(0, Mode::Gone);
        let after = all(&mounted);
        assert!(before == after, "seed {seed}");
        mounted.flush().unwrap();
        for inum in inums {
            mounted.apply(&Op::Release { inum }).unwrap();
        }
        mounted.work(&mut random, 20).unwrap();
        mounted.check().unwrap();
    }
}

#[test]
fn a_copy_comes_back_without_a_remount() {
    for mode in [Mode::Gone, Mode::Late, Mode::NoWrites] {
        for seed in 1..5 {
            let (rack, mut mounted, mut random) = used(2, seed);
            let disk = u8::from(seed % 2 == 0);
            rack.set(disk, mode);
            mounted.work(&mut random, 30).unwrap();
            assert_eq!(state(&mounted, disk), CopyState::Out, "{mode:?} {seed}");
            rack.set(disk, Mode::Fine);
            if seed > 2 {
                mounted.work(&mut random, 30).unwrap();
            }
            assert_eq!(attach(&mounted, disk), Ok(disk), "{mode:?} {seed}");
            assert_eq!(state(&mounted, disk), CopyState::Resync);
            mounted.check().unwrap();
            assert_eq!(attach(&mounted, disk), Err(AttachError::Attached { slot: disk }));
            mounted.work(&mut random, 30).unwrap();
            mounted.check().unwrap();
            resync(&mut mounted, &mut random);
            assert_eq!(state(&mounted, disk), CopyState::InSync);
            mounted.work(&mut random, 10).unwrap();
            each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
            let mounted = mounted.again(&rack);
            mounted.check().unwrap();
        }
    }
}

#[test]
fn a_loss_that_no_commit_has_met_yet_is_put_on_record_first() {
    let (rack, mut mounted, mut random) = used(2, 7);
    mounted.host.volume().copies().unwrap().lose(1);
    assert_eq!(attach(&mounted, 1), Ok(1));
    resync(&mut mounted, &mut random);
    mounted.work(&mut random, 10).unwrap();
    each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
}

#[test]
fn the_root_that_it_has_stays_whole_until_it_is_in_sync() {
    for seed in 1..7 {
        let (rack, mut mounted, mut random) = used(2, seed);
        let then = mounted.committed.settled();
        rack.set(1, Mode::Gone);
        for _ in 0..6 {
            mounted.work(&mut random, 20).unwrap();
        }
        rack.set(1, Mode::Fine);
        shows(&rack, 1, &then).unwrap();
        attach(&mounted, 1).unwrap();
        for _ in 0..8 {
            // what is removed now is given back, but not on the copy that needs it
            mounted.work(&mut random, 40).unwrap();
            ready(mounted.host.resync(1 << 14)).unwrap();
            if state(&mounted, 1) == CopyState::InSync {
                break;
            }
            shows(&rack, 1, &then).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
}

#[test]
fn a_copy_that_went_its_own_way_is_refused_and_not_touched() {
    let (rack, mut mounted, mut random) = used(2, 3);
    let then = mounted.committed.settled();
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 20).unwrap();
    rack.set(1, Mode::Fine);
    let own = go_on_alone(&rack, 1, &mut random, &then, 77);
    let _ = rack.take_traffic(1);
    let refused = attach(&mounted, 1).unwrap_err();
    assert_eq!(refused, AttachError::Diverged { slot: 1 });
    assert!(refused.to_string().starts_with("FC-S01: copy 1 went on without"), "{refused}");
    assert_eq!(rack.take_traffic(1).writes, 0);
    mounted.work(&mut random, 20).unwrap();
    mounted.check().unwrap();
    assert_eq!(rack.take_traffic(1).writes, 0);
    shows(&rack, 1, &own).unwrap();

    // what it holds is given up: then it comes back, behind all that it ever wrote
    let alone = rack.show(&[1]);
    let volume = ready(farrier_core::drive::open(&alone, only(1))).unwrap();
    let epoch = volume.header().copy_group().unwrap().epoch.id;
    ready(mounted.host.discard_copy(1, epoch)).unwrap();
    assert_eq!(attach(&mounted, 1), Ok(1));
    resync(&mut mounted, &mut random);
    mounted.work(&mut random, 10).unwrap();
    each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
    mounted.again(&rack).check().unwrap();
}

#[test]
fn what_holds_something_else_is_refused_and_not_touched() {
    let rack = Rack::new(&[SIZE; 5]);
    // another volume of copies
    let other = rack.show(&[3, 4]);
    format_copies_named(&other, 100);
    let mut one = Mounted::open(&other, None, 500);
    one.work(&mut Random::new(1), 10).unwrap();
    let rack = rack.show(&[0, 1]);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let mut random = Random::new(2);
    mounted.work(&mut random, 20).unwrap();
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 20).unwrap();
    let _ = rack.take_traffic(3);
    [2, 3].iter().for_each(|disk| rack.reveal(*disk));
    let [empty, foreign] = [2, 3].map(|device| attach(&mounted, device).unwrap_err());
    assert!(matches!(empty, AttachError::Refused(Refusal::NotHammer2 { .. })), "{empty}");
    assert!(matches!(foreign, AttachError::Foreign { .. }), "{foreign}");
    let gone = attach(&mounted, 1).unwrap_err();
    assert!(matches!(gone, AttachError::Refused(Refusal::Header { .. })), "{gone}");
    assert_eq!([2, 3].map(|disk| rack.take_traffic(disk).writes), [0, 0]);
    mounted.work(&mut random, 20).unwrap();
    mounted.check().unwrap();
    each_holds(&rack, &[0], &mounted.committed).unwrap();
}

#[test]
fn two_that_went_one_after_the_other_come_back_in_any_order() {
    for seed in 1..7 {
        let (rack, mut mounted, mut random) = used(3, seed);
        rack.set(2, Mode::Gone);
        mounted.work(&mut random, 20).unwrap();
        rack.set(1, Mode::Late);
        mounted.work(&mut random, 20).unwrap();
        [1, 2].iter().for_each(|disk| rack.set(*disk, Mode::Fine));
        let order = if seed % 2 == 0 { [1, 2] } else { [2, 1] };
        assert_eq!(attach(&mounted, order[0]), Ok(order[0]), "seed {seed}");
        mounted.work(&mut random, 10).unwrap();
        ready(mounted.host.resync(1 << 12)).unwrap();
        assert_eq!(attach(&mounted, order[1]), Ok(order[1]), "seed {seed}");
        mounted.check().unwrap();
        resync(&mut mounted, &mut random);
        mounted.work(&mut random, 10).unwrap();
        each_holds(&rack, &[0, 1, 2], &mounted.committed).unwrap();
    }
}

#[test]
fn one_that_was_missing_at_the_mount_comes_later() {
    let (rack, mut mounted, mut random) = used(2, 9);
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 20).unwrap();
    rack.set(1, Mode::Fine);
    let mut mounted = mounted.again(&rack.show(&[0]));
    mounted.work(&mut random, 20).unwrap();
    let shown = mounted.host.storage().clone();
    shown.reveal(1);
    assert_eq!(shown.device_count(), 2);
    assert_eq!(attach(&mounted, 1), Ok(1));
    resync(&mut mounted, &mut random);
    mounted.work(&mut random, 10).unwrap();
    each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
}

#[test]
fn one_that_fails_again_is_left_behind_again() {
    for seed in 1..5 {
        let (rack, mut mounted, mut random) = used(2, seed);
        rack.set(1, Mode::Gone);
        mounted.work(&mut random, 20).unwrap();
        for mode in [Mode::NoWrites, Mode::Late] {
            rack.set(1, mode);
            assert_eq!(attach(&mounted, 1), Err(AttachError::Unwritable { slot: 1 }));
            assert_eq!(state(&mounted, 1), CopyState::Out);
            mounted.work(&mut random, 10).unwrap();
            mounted.check().unwrap();
        }
        rack.set(1, Mode::Fine);
        assert_eq!(attach(&mounted, 1), Ok(1));
        ready(mounted.host.resync(1 << 14)).unwrap();
        // and once more, in the midst of being filled in
        rack.set(1, Mode::Late);
        mounted.work(&mut random, 10).unwrap();
        rack.set(1, Mode::Fine);
        assert_eq!(attach(&mounted, 1), Ok(1), "seed {seed}");
        mounted.check().unwrap();
        resync(&mut mounted, &mut random);
        mounted.work(&mut random, 10).unwrap();
        each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
    }
}

#[test]
fn a_crash_at_any_write_of_an_attachment_loses_nothing() {
    let mut crashes = 0;
    for seed in 1..4 {
        let (rack, mut mounted, mut random) = used(2, seed);
        rack.set(1, if seed == 2 { Mode::Late } else { Mode::Gone });
        mounted.work(&mut random, 30).unwrap();
        rack.set(1, Mode::Fine);
        let (committed, time) = (mounted.committed.settled(), mounted.time);
        drop(mounted);
        for count in 0.. {
            let rack = rack.fork();
            let mounted = Mounted::open(&rack.show(&[0]), Some(committed.clone()), time);
            mounted.host.storage().reveal(1);
            rack.cut_after(Some(count));
            let attached = attach(&mounted, 1);
            drop(mounted);
            rack.cut_after(None);
            let mut mounted = Mounted::open(&rack, Some(committed.clone()), time + 100);
            mounted.check().unwrap_or_else(|error| panic!("seed {seed}, {count}: {error}"));
            mounted.work(&mut random, 10).unwrap();
            resync(&mut mounted, &mut random);
            mounted.work(&mut random, 5).unwrap();
            each_holds(&rack, &[0, 1], &mounted.committed)
                .unwrap_or_else(|error| panic!("seed {seed}, {count}: {error}"));
            if attached.is_ok() {
                break;
            }
            assert!(count < 1000, "it comes to an end");
            crashes += 1;
        }
    }
    assert!(crashes > 10, "{crashes}");
}

/// Work, disks that are pulled and come back, resyncs in batches and remounts, in any order.
fn run(seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let count = u8::try_from(random.below(2) + 2).unwrap();
    let rack = Rack::new(&vec![SIZE; count.into()]);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let mut away = 0_u8;
    for _ in 0..random.below(30) + 6 {
        let work = random.below(30);
        mounted.work(&mut random, work)?;
        let disk = u8::try_from(random.below(count.into())).unwrap();
        match random.below(6) {
            0 | 1 if state(&mounted, disk) == CopyState::InSync => {
                let others = (0..count).filter(|one| *one != disk);
                if others.clone().any(|one| state(&mounted, one) == CopyState::InSync) {
                    rack.set(disk, *random.pick(&[Mode::Gone, Mode::Late, Mode::NoWrites]));
                    away |= 1 << disk;
                }
            }
            0 | 1 if state(&mounted, disk) == CopyState::Resync => {
                rack.set(disk, *random.pick(&[Mode::Gone, Mode::Late, Mode::NoWrites]));
                away |= 1 << disk;
            }
            2 | 3 if away & 1 << disk != 0 => {
                rack.set(disk, Mode::Fine);
                away &= !(1 << disk);
                if state(&mounted, disk) != CopyState::Out {
                    // it was not noticed
                    continue;
                }
                attach(&mounted, disk).map_err(|error| error.to_string())?;
            }
            4 => {
                let budget = random.below(1 << 18);
                ready(mounted.host.resync(budget)).map_err(|error| format!("{error:?}"))?;
            }
            5 if random.once_in(3) && away == 0 => mounted = mounted.again(&rack),
            _ => {}
        }
        mounted.check()?;
    }
    mounted.flush()?;
    for disk in 0..count {
        rack.set(disk, Mode::Fine);
        if state(&mounted, disk) == CopyState::Out {
            attach(&mounted, disk).map_err(|error| error.to_string())?;
        }
    }
    resync(&mut mounted, &mut random);
    mounted.flush()?;
    mounted.check()?;
    each_holds(&rack, &(0..count).collect::<Vec<_>>(), &mounted.committed)
}

#[test]
fn copies_go_and_come_back() {
    let first = setting("FARRIER_ATTACH_SEED", 1);
    let runs = setting("FARRIER_ATTACH_RUNS", 20);
    for seed in first..first + runs {
        run(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// A file that was deleted and is still open is in no tree, and has to be on a copy that is in sync all
/// the same: else whoever has it open loses it with the other copy.
#[test]
fn a_file_without_a_name_is_filled_in() {
    run(432).unwrap();
}

#[test]
fn a_volume_without_copies_has_none_to_attach() {
    let rack = Rack::new(&[SIZE, SIZE]).show(&[0]);
    farrier_tests::writing::format_storage(&rack);
    let host = WritingHost::open(rack.clone(), 1 << 20).unwrap();
    let copies = Rack::new(&[SIZE]);
    format_copies(&copies);
    rack.patch(1, 0, &copies.bytes(0, 0, 4 << 20));
    rack.reveal(1);
    let attached = ready(host.attach_copy(DeviceIndex(1), true));
    assert_eq!(attached, Err(AttachError::Failed(Error::NotSupported)));
}
