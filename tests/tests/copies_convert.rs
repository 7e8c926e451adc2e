//! A volume without copies gets some, and one of copies gets rid of them, while it is in use.
//!
//! `FARRIER_CONVERT_SEED` is the first seed of the random lives, `FARRIER_CONVERT_RUNS` how many.

use std::fs;

use farrier_core::copies::{CopyState, TransitionFault};
use farrier_core::drive::convert::{NewGroup, Stripped};
use farrier_core::drive::copies::{MemberError, NewCopy};
use farrier_core::drive::scrub::Scrub;
use farrier_core::drive::{self, ready};
use farrier_core::error::Refusal;
use farrier_core::media::header::Version;
use farrier_core::storage::Storage as _;
use farrier_core::units::{DeviceIndex, Uuid};
use farrier_core::volume::{OpenOptions, Volume};
use farrier_tests::against::{compare_trees, dirt};
use farrier_tests::checking::second_opinion;
use farrier_tests::crash::{Effort, Story, Trees};
use farrier_tests::host::TestHost;
use farrier_tests::images::scratch;
use farrier_tests::mounted::{Mounted, format_copies};
use farrier_tests::ops::{Op, Random};
use farrier_tests::rack::{Mode, Rack};
use farrier_tests::ram::RamDisk;
use farrier_tests::session::nothing;
use farrier_tests::world::{Taste, World, WorldOp};
use farrier_tests::writing::{WritingHost, format_storage};

const MIB: u64 = 1 << 20;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn names(number: u8) -> NewGroup {
    NewGroup { group: Uuid([number; 16]), device: Uuid([number + 1; 16]) }
}

/// The volume on the disks that `rack` shows, as it would be opened.
fn opened(rack: &Rack) -> Volume {
    ready(drive::open(rack, OpenOptions::default())).expect("a whole volume")
}

fn version(rack: &Rack, disk: u8) -> Version {
    opened(&rack.fork().show(&[disk])).header().version()
}

/// A world on a rack, and what happens in it.
struct Life {
    rack: Rack,
    world: World<Rack>,
    taste: Taste,
    random: Random,
    current: Vec<u8>,
    ids: u8,
}

impl Life {
    fn new(seed: u64, sizes: &[u64]) -> Self {
        let mut random = Random::new(seed);
        let rack = Rack::new(sizes).show(&[0]);
        let cache = *random.pick(&[64 << 10, 16 << 20]);
        let world = World::over(rack.clone(), cache);
        let taste = Taste::new(&mut random);
        Self { rack, world, taste, random, current: b"DATA".to_vec(), ids: 100 }
    }

    fn work(&mut self, count: u64) -> Result<(), String> {
        for _ in 0..count {
            let op = self.taste.next(&mut self.random, &self.world, &mut self.current);
            self.world.apply(&op).map_err(|what| format!("{op:?}: {what}"))?;
        }
        Ok(())
    }

    fn some_work(&mut self, most: u64) -> Result<(), String> {
        let count = self.random.below(most);
        self.work(count)
    }

    fn check(&mut self) -> Result<(), String> {
        self.world.check_memory()?;
        self.world.apply(&WorldOp::Flush { always: false })?;
        self.world.check_media()
    }

    fn convert(&mut self) -> Result<(), String> {
        let names = names(self.ids);
        self.ids += 2;
        self.world
            .with_host(|host| ready(host.to_copies(names)))
            .map_err(|error| format!("conversion: {error}"))
    }

    fn add(&mut self, disk: u8) -> Result<u8, String> {
        self.rack.reveal(disk);
        self.ids += 1;
        let size = self.rack.size(DeviceIndex(disk));
        let new = NewCopy { device: DeviceIndex(disk), size, id: Uuid([self.ids; 16]) };
        self.world
            .with_host(|host| ready(host.add_copy(new)))
            .map_err(|error| format!("adding: {error}"))
    }

    fn resync(&mut self) -> Result<(), String> {
        for _ in 0..2000 {
            let budget = self.random.below(1 << 20);
            let filled = self.world.with_host(|host| ready(host.resync(budget)));
            let filled = filled.map_err(|error| format!("resync: {error}"))?;
            if filled.unreadable > 0 {
                return Err(format!("{filled:?}"));
            }
            if filled.behind == 0 {
                return Ok(());
            }
            if self.random.once_in(3) {
                self.some_work(6)?;
            }
        }
        Err("it does not get in sync".into())
    }

    fn strip(&mut self, keep: u8) -> Result<(), String> {
        for _ in 0..2000 {
            let budget = self.random.below(1 << 18);
            let stripped = self.world.with_host(|host| ready(host.strip(keep, budget)));
            if stripped == Err(MemberError::OpenDeleted) {
                self.world.apply(&WorldOp::Remount)?;
                continue;
            }
            if stripped.map_err(|error| format!("strip: {error}"))?.is_done {
                return Ok(());
            }
            if self.random.once_in(3) {
                self.some_work(6)?;
            }
            if self.random.once_in(10) {
                // it goes on where the last commit was
                self.world.apply(&WorldOp::Remount)?;
            }
        }
        Err("it does not come to an end".into())
    }

    /// Each of `disks` alone holds what was committed.
    fn each_holds(&self, disks: &[u8]) -> Result<(), String> {
        let committed = self.world.on_media();
        for disk in disks {
            compare_trees(&self.rack.fork().show(&[*disk]), &committed, nothing)
                .map_err(|what| format!("disk {disk} alone: {what}"))?;
        }
        Ok(())
    }
}

/// What lies on a disk, as a file for a checker that is not ours.
fn second_opinion_on(rack: &Rack, disk: u8, name: &str) {
    let folder = scratch(name);
    let path = folder.join("copy.img");
    let size = rack.size(DeviceIndex(disk));
    let file = fs::File::create(&path).expect("a scratch file");
    file.set_len(size).expect("a sparse file");
    for (offset, page) in rack.pages(disk) {
        std::os::unix::fs::FileExt::write_all_at(&file, &page, offset).expect("room for it");
    }
    second_opinion(&path);
    fs::remove_dir_all(folder).expect("it was made here");
}

/// No copies, two, none on one of them, and copies again.
fn there_and_back(seed: u64) -> Result<(), String> {
    let sizes = [64 * MIB, *Random::new(seed).pick(&[64 * MIB, 96 * MIB, 9 << 30]), 64 * MIB];
    let mut life = Life::new(seed, &sizes);
    life.some_work(150)?;
    life.convert()?;
    life.check()?;
    assert_eq!(version(&life.rack, 0), Version::Copies);
    life.some_work(30)?;
    if life.random.once_in(2) {
        life.world.apply(&WorldOp::Remount)?;
        life.check()?;
    }
    life.add(1)?;
    life.some_work(30)?;
    life.resync()?;
    life.check()?;
    life.each_holds(&[0, 1])?;
    life.some_work(30)?;
    let mut scrub = Scrub::new();
    while life.world.with_host(|host| ready(host.scrub(&mut scrub, 1 << 20))).unwrap() {}
    let found = scrub.found();
    if found.bad > 0 {
        return Err(format!("a scrub finds {found:?}"));
    }
    if life.random.once_in(3) {
        life.add(2)?;
        life.some_work(20)?;
    }
    let keep = u8::try_from(life.random.below(2)).unwrap();
    life.strip(keep)?;
    life.world.move_to(life.rack.show(&[keep]));
    life.check_stripped(keep)?;
    // what it was mounted by goes on
    life.some_work(30)?;
    life.world.apply(&WorldOp::Flush { always: false })?;
    life.check_stripped(keep)?;
    life.world.apply(&WorldOp::Remount)?;
    life.some_work(60)?;
    life.check()?;
    second_opinion_on(&life.rack, keep, &format!("stripped-{seed}"));
    // once more: what has no copies any more can have some again
    life.convert()?;
    life.some_work(30)?;
    life.check()?;
    life.strip(0)?;
    life.check_stripped(keep)
}

impl Life {
    fn check_stripped(&mut self, keep: u8) -> Result<(), String> {
        self.world.check_memory()?;
        assert_eq!(version(&self.rack, keep), Version::V1);
        self.each_holds(&[keep])?;
        let alone = self.rack.fork().show(&[keep]);
        let volume = opened(&alone);
        assert!(volume.copies().is_none());
        let versions = volume.header_slots().iter().map(|slot| slot.state.is_ok());
        assert!(versions.clone().any(|is_good| is_good), "{:?}", volume.header_slots());
        let others: Vec<u8> =
            (0..2).filter(|disk| *disk != keep && self.rack.is_shown(*disk)).collect();
        for disk in others {
            let alone = WritingHost::open(self.rack.fork().show(&[disk]), 1 << 20);
            assert!(alone.is_err(), "the other one is nothing by itself");
            let both =
                ready(drive::open(&self.rack.fork().show(&[keep, disk]), OpenOptions::default()));
            assert!(both.is_err(), "nor beside what it left");
        }
        Ok(())
    }
}

#[test]
fn there_and_back_with_snapshots_and_scans() {
    let first = setting("FARRIER_CONVERT_SEED", 1);
    let runs = setting("FARRIER_CONVERT_RUNS", 12);
    for seed in first..first + runs {
        there_and_back(seed).unwrap_or_else(|error| panic!("FARRIER_CONVERT_SEED={seed}: {error}"));
    }
}

/// A world, and what it had to hold when.
struct Recorded {
    world: World,
    disk: RamDisk,
    taste: Taste,
    current: Vec<u8>,
    random: Random,
    marks: Vec<(usize, Trees)>,
}

impl Recorded {
    fn work(&mut self, count: u64) -> Result<(), String> {
        for number in 0..=count {
            let op = match number {
                _ if number == count => WorldOp::Flush { always: false },
                _ => self.taste.next(&mut self.random, &self.world, &mut self.current),
            };
            self.world.apply(&op).map_err(|what| format!("{op:?}: {what}"))?;
            self.mark();
        }
        Ok(())
    }

    fn mark(&mut self) {
        let now = self.world.on_media();
        if self.marks.last().is_none_or(|(_, last)| *last != now) {
            self.marks.push((self.disk.event_count(), now));
        }
    }
}

/// Power goes at any moment of a change, with work before and after it.
fn cut(seed: u64, size: u64, is_copies: bool) -> Result<(), String> {
    let mut random = Random::new(seed);
    let disk = RamDisk::new(usize::try_from(size).unwrap());
    let world = World::over(disk.clone(), 1 << 20);
    let (taste, current) = (Taste::new(&mut random), b"DATA".to_vec());
    let mut all = Recorded { world, disk, taste, current, random, marks: Vec::new() };
    all.work(60)?;
    if is_copies {
        all.world.with_host(|host| ready(host.to_copies(names(50)))).unwrap();
        all.work(60)?;
    }
    let before = all.disk.fork();
    all.disk.record();
    all.marks = vec![(0, all.world.on_media())];
    all.work(3)?;
    if is_copies {
        let mut steps = 0;
        while !all.world.with_host(|host| ready(host.strip(0, 64 << 10))).unwrap().is_done {
            all.mark();
            all.work(1)?;
            steps += 1;
            assert!(steps < 1000, "it comes to an end");
        }
    } else {
        all.world.with_host(|host| ready(host.to_copies(names(50)))).unwrap();
    }
    all.mark();
    all.work(3)?;
    let story = Story { before, events: all.disk.events(), marks: all.marks };
    let effort = Effort { subsets: 3, tears: 2, ahead: 0, goes_on: 25, again: 250 };
    let tried = story.crash(&mut all.random, effort)?;
    println!("seed {seed}: {} events, {tried:?}", story.events.len());
    Ok(())
}

#[test]
fn a_crash_at_any_point_of_the_conversion() {
    for seed in 1..5 {
        let size = if seed % 2 == 0 { 48 * MIB } else { 9 << 30 };
        cut(seed, size, false).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn a_crash_at_any_point_of_the_way_back() {
    for seed in 1..5 {
        let size = if seed % 2 == 0 { 48 * MIB } else { 9 << 30 };
        cut(seed, size, true).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn several_volumes_cannot_be_converted() {
    let disk = RamDisk::of(&[1 << 30, 1 << 30]);
    format_storage(&disk);
    let host = WritingHost::open(disk.clone(), 1 << 20).unwrap();
    host.set_origin(drive::change::Origin {
        id: [9; 16],
        host: Uuid([7; 16]),
        time: farrier_core::units::WallTime(1),
    });
    disk.record();
    let refused = ready(host.to_copies(names(1)));
    assert_eq!(refused, Err(MemberError::Volumes { count: 2 }));
    assert_eq!(disk.event_count(), 0, "nothing was written");
    let text = MemberError::Volumes { count: 2 }.to_string();
    assert!(text.contains("2 volumes") && text.contains("copy it"), "{text}");
}

#[test]
fn what_cannot_be_converted_stays_as_it_is() {
    let rack = Rack::new(&[64 * MIB, 64 * MIB]);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let mut random = Random::new(3);
    mounted.work(&mut random, 40).unwrap();
    assert_eq!(ready(mounted.host.to_copies(names(1))), Err(MemberError::HasCopies));
    let state = TransitionFault::State { slot: 2, state: CopyState::Empty };
    assert_eq!(ready(mounted.host.strip(2, 1 << 20)), Err(MemberError::Transition(state)));
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 10).unwrap();
    let state = TransitionFault::State { slot: 1, state: CopyState::Out };
    assert_eq!(ready(mounted.host.strip(1, 1 << 20)), Err(MemberError::Transition(state)));
    mounted.check().unwrap();
    // with one copy gone, the other can be kept; and the one that is gone is nothing any more
    let stripped = ready(mounted.host.strip(0, u64::MAX)).unwrap();
    assert!(stripped.is_done && stripped.tables > 0, "{stripped:?}");
    assert_eq!(
        ready(mounted.host.strip(0, 1)),
        Ok(Stripped { is_done: true, ..Stripped::default() })
    );
    let none = Err(MemberError::Stripped);
    assert_eq!(ready(mounted.host.to_copies(names(1))), none);
    assert_eq!(ready(mounted.host.remove_copy(0)), none);
    rack.set(1, Mode::Fine);
    let both = ready(drive::open(&rack, OpenOptions::default())).unwrap_err();
    let code = farrier_core::error::Error::Refused(Refusal::Copies { code: "FC-S06" });
    assert_eq!(both, code, "the one that was away is told from what has no copies");
    let mut mounted = mounted.again(&rack.show(&[0]));
    mounted.work(&mut random, 20).unwrap();
    mounted.check().unwrap();
}

/// Contents without check codes get some with their second copy.
#[test]
fn what_was_not_checked_is_checked_with_two_copies() {
    let mut life = Life::new(7, &[64 * MIB, 64 * MIB]);
    let bytes = 300_000;
    let in_data = |op| WorldOp::In(b"DATA".to_vec(), op);
    let unchecked = farrier_tests::model::Set { check: Some(0), ..Default::default() };
    life.world.apply(&in_data(Op::Set { inum: 1, set: unchecked })).unwrap();
    let create = farrier_tests::model::Creation {
        directory: 1,
        name: b"unchecked".to_vec(),
        new: farrier_core::fs::New::File,
        mode: 0o644,
        uid: 1,
        gid: 2,
    };
    life.world.apply(&in_data(Op::Create(create))).unwrap();
    let inum = 1024;
    let write = Op::Write { inum, offset: Some(0), len: bytes, fill: 5 };
    life.world.apply(&in_data(write)).unwrap();
    life.world.apply(&WorldOp::Flush { always: false }).unwrap();
    life.convert().unwrap();
    life.add(1).unwrap();
    life.resync().unwrap();
    life.check().unwrap();
    let host = TestHost::over(life.rack.fork(), false, 1 << 20).unwrap();
    let unchecked: Vec<_> = dirt(&host, nothing);
    assert_eq!(unchecked, []);
    // one of both is wrong everywhere: each block is told from the other's
    let mut changed = 0;
    for (offset, page) in life.rack.pages(1) {
        if offset >= 8 * MIB {
            let wrong: Vec<u8> = page.iter().map(|byte| byte ^ 0x55).collect();
            life.rack.patch(1, offset, &wrong);
            changed += 1;
        }
    }
    assert!(changed > 5, "{changed}");
    life.world.apply(&WorldOp::Remount).unwrap();
    life.world.check_media().unwrap();
}
