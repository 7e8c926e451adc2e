//! Crashes, failing devices and full volumes.
//!
//! `FARRIER_CRASH_SEED` is the first seed of the random workloads, `FARRIER_CRASH_RUNS` how many.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use farrier_core::error::Error;
use farrier_core::freemap::Class;
use farrier_core::fs::{Clash, New, Victim};
use farrier_core::media::inode::ObjectKind;
use farrier_core::storage::Storage;
use farrier_tests::against::compare_media;
use farrier_tests::crash::{Effort, Story, Tried};
use farrier_tests::crowded::crowd;
use farrier_tests::images::scratch;
use farrier_tests::model::{Copying, Creation, Inode, Model, Renaming, Set};
use farrier_tests::ops::{Op, Random, Swarm};
use farrier_tests::ram::{Event, RamDisk};
use farrier_tests::session::{LABEL, Session, a_header, nothing, text};
use farrier_tests::world::{Taste, World, WorldOp};
use farrier_tests::writing::format_storage;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn create(directory: u64, name: &str, new: New) -> Op {
    Op::Create(Creation { directory, name: name.into(), new, mode: 0o644, uid: 1, gid: 2 })
}

fn write(inum: u64, offset: u64, len: usize, fill: u64) -> Op {
    Op::Write { inum, offset: Some(offset), len, fill }
}

/// A bit of everything, with several flushes; `first` is the number of the first inode.
fn workload(first: u64) -> Vec<Op> {
    let flush = || Op::Flush { always: false };
    let mut ops = vec![
        create(1, "directory", New::Directory),
        create(first, "file", New::File),
        write(first + 1, 0, 100, 4),
        flush(),
        create(1, &"long".repeat(30), New::File),
        write(first + 2, 0, 200_000, 5),
        Op::Link { inum: first + 2, directory: first, name: b"link".to_vec() },
        flush(),
        write(first + 2, 70_000, 10, 10),
        write(first + 1, 600, 10, 10),
        Op::Rename(Renaming {
            directory: first,
            name: b"file".to_vec(),
            new_directory: 1,
            new_name: b"moved".to_vec(),
            clash: Clash::Replace,
            keep: false,
        }),
        flush(),
        Op::Copy(Copying {
            source: first + 2,
            source_offset: 0,
            target: first + 1,
            target_offset: 65_536,
            len: 131_072,
        }),
        Op::Set { inum: first + 2, set: Set { size: Some(65_536), ..Set::default() } },
        flush(),
        Op::Unlink {
            directory: 1,
            name: "long".repeat(30).into_bytes(),
            victim: Victim::File,
            keep: true,
        },
        Op::Unlink { directory: first, name: b"link".to_vec(), victim: Victim::File, keep: true },
        write(first + 2, 0, 300_000, 11),
        flush(),
        Op::Release { inum: first + 2 },
        flush(),
    ];
    for number in 0..8 {
        // round and round, so that space and slots are used again
        ops.push(write(first + 1, 0, 150_000, 17 + 6 * number));
        ops.push(create(first, &format!("n{number}"), New::Symlink(vec![b'x'; 600])));
        ops.push(flush());
    }
    ops
}

/// A file system of `count` volumes, each with room for blocks of some classes only: every commit
/// goes to several of them.
fn spread(count: u64) -> RamDisk {
    const VOLUME: u64 = 1 << 30;
    const SEGMENT: u64 = 4 << 20;
    let disk = RamDisk::of(&vec![VOLUME; usize::try_from(count).unwrap()]);
    format_storage(&disk);
    crowd(&disk, |offset| {
        let volume = usize::try_from(offset.0 / VOLUME).unwrap();
        let (segment, within) = (offset.0 % VOLUME / SEGMENT, offset.0 % SEGMENT);
        let stays_free = (100..118).contains(&segment) && within > 0;
        let classes = [Class::Inode, Class::Data, Class::Indirect, Class::Dirent];
        // of fewer volumes than classes, some have several
        let mine = classes.iter().skip(volume).step_by(disk.device_count());
        let mine: Vec<Class> = mine.copied().collect();
        (!stays_free).then(|| mine[usize::try_from(segment).unwrap() % mine.len()])
    });
    disk
}

/// Devices that were written to, but for headers and the freemap.
fn devices_written(story: &Story) -> usize {
    let device = |event: &Event| match event {
        Event::Write { device, offset, .. } if offset % (1 << 30) >= 4 << 20 => Some(*device),
        _ => None,
    };
    let mut devices: Vec<_> = story.events.iter().filter_map(device).collect();
    devices.sort_unstable();
    devices.dedup();
    devices.len()
}

fn cut_several_everywhere(count: u64, ops: usize, effort: Effort) {
    let mut session = Session::open(spread(count), 1 << 20, None).unwrap();
    let mut ops = workload(session.next_inum()).into_iter().take(ops);
    let story = Story::record(&mut session, |_| ops.next()).unwrap();
    assert_eq!(session.refused, 0);
    assert_eq!(devices_written(&story) as u64, count, "every device has its part");
    let tried = story.crash(&mut Random::new(count), effort);
    let tried = tried.unwrap_or_else(|error| panic!("{count} volumes: {error}"));
    println!("{count} volumes: {} events, {tried:?}", story.events.len());
}

#[test]
fn a_crash_of_several_volumes_at_any_point() {
    let effort = Effort { subsets: 2, tears: 0, ahead: 1, goes_on: 60, again: 600 };
    for count in [2, 3, 4] {
        cut_several_everywhere(count, 20, effort);
    }
}

#[test]
#[ignore = "takes minutes: more of the same"]
fn a_crash_of_several_volumes_at_any_point_in_every_way() {
    let effort = Effort { subsets: 40, tears: 4, ahead: u64::MAX, goes_on: 20, again: 200 };
    for count in [2, 3, 4] {
        cut_several_everywhere(count, usize::MAX, effort);
    }
}

#[test]
fn crashes_of_random_workloads_on_several_volumes() {
    let first = setting("FARRIER_CRASH_SEED", 1);
    let runs = setting("FARRIER_CRASH_RUNS", 3);
    for seed in first..first + runs {
        let mut random = Random::new(seed);
        let swarm = Swarm::new(&mut random);
        let disk = spread(2 + random.below(3));
        let mut session = Session::open(disk, 1 << 20, None).unwrap();
        let story = random_story(&mut session, &swarm, &mut random);
        let effort = Effort { subsets: 3, tears: 1, ahead: 1, goes_on: 20, again: 200 };
        match story
            .and_then(|story| Ok((devices_written(&story), story.crash(&mut random, effort)?)))
        {
            Ok((devices, tried)) => println!("seed {seed}: {devices} devices, {tried:?}"),
            Err(error) => panic!(
                "{error}\nFARRIER_CRASH_SEED={seed} FARRIER_CRASH_RUNS=1 \
                 cargo test -p farrier-tests --test crash on_several_volumes"
            ),
        }
    }
}

/// Some operations that `swarm` likes, with flushes.
fn random_story(
    session: &mut Session,
    swarm: &Swarm,
    random: &mut Random,
) -> Result<Story, String> {
    let mut left = 60;
    let mut ops = Random::new(random.next());
    Story::record(session, |model| {
        left -= 1;
        match swarm.next(&mut ops, model) {
            _ if left == 0 => None,
            _ if left % 12 == 1 => Some(Op::Flush { always: false }),
            Op::Remount => Some(Op::Flush { always: true }),
            op => Some(op),
        }
    })
}

/// PFSs that come, go and are copied, and bulk scans with live work beside them.
#[test]
fn crashes_amid_snapshots_and_scans() {
    let first = setting("FARRIER_CRASH_SEED", 1);
    let runs = setting("FARRIER_CRASH_RUNS", 3);
    for seed in first..first + runs {
        let mut random = Random::new(seed);
        let taste = Taste::new(&mut random);
        let mut world = World::new(*random.pick(&[64 << 20, 3 << 30]), 1 << 20);
        let (mut ops, mut current, mut left) = (Random::new(random.next()), b"DATA".to_vec(), 60);
        let story = Story::record_world(&mut world, |world| {
            left -= 1;
            match taste.next(&mut ops, world, &mut current) {
                _ if left == 0 => None,
                _ if left % 20 == 1 => Some(WorldOp::Flush { always: false }),
                op => Some(op),
            }
        });
        let effort = Effort { subsets: 2, tears: 1, ahead: 0, goes_on: 40, again: 400 };
        let tried =
            story.and_then(|story| Ok((story.marks.len(), story.crash(&mut random, effort)?)));
        match tried {
            Ok((marks, tried)) => println!("seed {seed}: {marks} marks, {tried:?}"),
            Err(error) => panic!(
                "{error}\nFARRIER_CRASH_SEED={seed} FARRIER_CRASH_RUNS=1 \
                 cargo test -p farrier-tests --test crash amid"
            ),
        }
    }
}

fn cut_everywhere(len: u64, effort: Effort) -> Tried {
    let mut session = Session::new(len, 1 << 20);
    let mut ops = workload(session.next_inum()).into_iter();
    let story = Story::record(&mut session, |_| ops.next()).unwrap();
    assert_eq!(session.refused, 0);
    assert!(story.events.len() > 40);
    let tried =
        story.crash(&mut Random::new(len), effort).unwrap_or_else(|error| panic!("{error}"));
    println!("{} MiB: {} events, {tried:?}", len >> 20, story.events.len());
    tried
}

const EFFORT: Effort = Effort { subsets: 6, tears: 3, ahead: 0, goes_on: 20, again: 400 };

#[test]
fn a_crash_at_any_point_leaves_what_was_acknowledged() {
    for len in [8 << 30, 3 << 30] {
        cut_everywhere(len, EFFORT);
    }
}

#[test]
fn a_crash_of_a_volume_with_one_header() {
    cut_everywhere(64 << 20, Effort { tears: 8, ..EFFORT });
}

/// The header is torn, the volume is opened by its shadow and written on, and there is a crash
/// again before the next header is whole.
#[test]
fn two_crashes_of_a_volume_with_one_header() {
    cut_everywhere(64 << 20, Effort { subsets: 0, tears: 1, ahead: 0, goes_on: 1000, again: 20 });
}

#[test]
fn crashes_of_random_workloads() {
    let first = setting("FARRIER_CRASH_SEED", 1);
    let runs = setting("FARRIER_CRASH_RUNS", 4);
    for seed in first..first + runs {
        let mut random = Random::new(seed);
        let swarm = Swarm::new(&mut random);
        let len = *random.pick(&[64 << 20, 3 << 30, 8 << 30]);
        let mut session = Session::new(len, 1 << 20);
        let story = random_story(&mut session, &swarm, &mut random);
        let tried = story.and_then(|story| {
            story.crash(
                &mut random,
                Effort { subsets: 3, tears: 1, ahead: 1, goes_on: 20, again: 200 },
            )
        });
        match tried {
            Ok(tried) => println!("seed {seed}: {tried:?}"),
            Err(error) => panic!(
                "{error}\nFARRIER_CRASH_SEED={seed} FARRIER_CRASH_RUNS=1 \
                 cargo test -p farrier-tests --test crash crashes_of_random"
            ),
        }
    }
}

/// The checker that shares no code with us, where this machine has it, over states that a crash may
/// leave: about each, that it is consistent.
#[test]
#[ignore = "takes a minute or two, and the independent checker"]
fn crash_states_and_the_independent_checker() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tools/check-image.py");
    assert!(tool.exists(), "{} is what this test is about", tool.display());
    let folder = scratch("crash-states");
    let mut random = Random::new(setting("FARRIER_CRASH_SEED", 1));
    // other tools do not know of the shadow that stands for a torn header where there is one only
    for (len, tears) in [(64 << 20, false), (3 << 30, true)] {
        let mut session = Session::new(len, 1 << 20);
        let mut ops = workload(session.next_inum()).into_iter();
        let story = Story::record(&mut session, |_| ops.next()).unwrap();
        let (mut clean, mut wrong) = (0, Vec::new());
        for number in 0..setting("FARRIER_CRASH_RUNS", 100) {
            let path = folder.join(format!("{}-{number}.img", len >> 20));
            let state = story.any_state(&mut random, tears);
            let file = File::create(&path).unwrap();
            file.set_len(len).unwrap();
            for (offset, page) in state.pages() {
                file.write_all_at(&page, offset).unwrap();
            }
            let output = Command::new("python3")
                .arg(&tool)
                .args(["--no-tree", "-q", "--allow-bad-headers"])
                .arg(&path)
                .output()
                .unwrap();
            if output.status.success() {
                clean += 1;
                fs::remove_file(&path).unwrap();
            } else {
                wrong.push(format!("{number}: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
        println!("{} MiB: {clean} states are consistent, {} are not", len >> 20, wrong.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The device fails after every number of writes and barriers.
#[test]
fn a_device_that_fails_stops_changes_and_loses_nothing() {
    for len in [64 << 20, 3 << 30] {
        let fresh = Session::new(len, 64 << 10);
        for count in 0.. {
            let disk = fresh.disk.fork();
            let model = fresh.model.clone();
            let mut session = Session::open(disk.clone(), 64 << 10, Some(model)).unwrap();
            disk.record();
            disk.fail_after(Some(count));
            let failed = workload(session.next_inum()).into_iter().find_map(|op| {
                let before = session.model.clone();
                session.apply(&op).err().map(|error| (op, before, error))
            });
            let Some((op, before, error)) = failed else {
                println!("{} MiB: {count} places to fail at", len >> 20);
                break;
            };
            assert!(matches!(op, Op::Flush { .. }), "{}: {error}", text(&op));
            let refused = session.apply(&create(1, "more", New::File)).unwrap_err();
            assert!(refused.contains("Err(Device("), "{refused}");
            assert!(matches!(session.host.flush(), Err(Error::Device(_))));
            session.model = before;
            session.check_memory().unwrap();
            disk.fail_after(None);
            assert!(matches!(session.host.flush(), Err(Error::Device(_))), "it stays so");
            // where only the last barrier failed, the commit may be there
            let is = |model: &Model| compare_media(&disk, LABEL, model, a_header);
            is(&session.committed)
                .or_else(|_| is(&session.model.settled()))
                .unwrap_or_else(|error| panic!("failing after {count}: {error}"));
            let is_write = |event: &Event| matches!(event, Event::Write { .. });
            let has_header = disk.events().iter().any(is_write);
            assert!(has_header || count < 2, "something was written");
        }
    }
}

/// How a volume is filled.
#[derive(Clone, Copy, Debug)]
enum Filling {
    TinyFiles,
    LongNames,
    OneFile,
    ShortBlocks,
    FarApart,
    Mixed,
}

impl Filling {
    const ALL: [Self; 6] = [
        Self::TinyFiles,
        Self::LongNames,
        Self::OneFile,
        Self::ShortBlocks,
        Self::FarApart,
        Self::Mixed,
    ];

    /// The same for each seed.
    const fn is_fixed(self) -> bool {
        !matches!(self, Self::FarApart | Self::Mixed)
    }

    fn next(self, number: u64, random: &mut Random, files: &[u64], root: &Inode) -> Op {
        let noise = 6 * random.next() + 4;
        let file = files[usize::try_from(number).unwrap() % files.len()];
        match self {
            // a directory now and then, for the model of a large one is slow
            Self::TinyFiles if number.is_multiple_of(500) => {
                create(1, &format!("directory {number}"), New::Directory)
            }
            Self::TinyFiles => {
                let name = format!("directory {}", number / 500 * 500).into_bytes();
                let directory = root.names.get(&name).copied().unwrap_or(1);
                create(directory, &format!("tiny {number}"), New::File)
            }
            Self::LongNames => {
                create(1, &format!("{number:0>200}"), New::Symlink(vec![b'x'; 3000]))
            }
            Self::OneFile => write(files[0], number * 200_000, 200_000, noise),
            Self::ShortBlocks => {
                let len = [8192, 4096, 1024, 8192, 16_000, 1024, 33_000][(number % 7) as usize];
                write(files[0], number * 65_536, len, noise)
            }
            Self::FarApart => {
                let len = *random.pick(&[1024, 9000, 65_536]);
                write(file, random.next() & 0xfff_ffff_0000, len, noise)
            }
            Self::Mixed => match random.below(4) {
                0 => create(1, &format!("mixed {number}"), New::Symlink(vec![b'y'; 700])),
                1 => write(file, random.below(1 << 22), 3000, noise),
                2 => write(file, random.below(1 << 30), 100_000, noise),
                _ => Op::Set {
                    inum: file,
                    set: Set { size: Some(random.below(1 << 24)), ..Set::default() },
                },
            },
        }
    }
}

/// Fills a volume, empties it and fills it again; only operations may find no space.
fn fill_up(len: u64, filling: Filling, flush_every: u64, seed: u64) -> Result<u64, String> {
    let mut session = Session::new(len, 1 << 20);
    let mut random = Random::new(seed);
    let mut filled = Vec::new();
    for round in 0..3 {
        let names: Vec<String> = (0..3).map(|number| format!("file {number}")).collect();
        for name in &names {
            session.apply(&create(1, name, New::File))?;
        }
        let inum =
            |session: &Session, name: &str| session.model.get(1).unwrap().names[name.as_bytes()];
        let files: Vec<u64> = names.iter().map(|name| inum(&session, name)).collect();
        let (mut number, mut refused) = (0, 0);
        while refused < 6 {
            let before = session.full;
            let root = session.model.get(1).map_err(|error| format!("{error:?}"))?;
            let op = filling.next(number, &mut random, &files, root);
            session.apply(&op)?;
            refused += session.full - before;
            number += 1;
            if number % flush_every == 0 {
                session.apply(&Op::Flush { always: false })?;
            }
            if number > 60_000 {
                return Err("it does not become full".into());
            }
        }
        filled.push(number);
        session.apply(&Op::Flush { always: false })?;
        session.check_memory()?;
        session.check_media()?;
        if round == 1 {
            session.apply(&Op::Remount)?;
        }
        empty(&mut session, 1).map_err(|what| format!("round {round}: {what}"))?;
        session.apply(&Op::Flush { always: false })?;
        session.check_media()?;
    }
    // what was removed can be used again
    if filled[2] * 10 < filled[0] * 7 {
        return Err(format!("a volume that was emptied takes less: {filled:?}"));
    }
    compare_media(&session.disk, LABEL, &session.committed, nothing)?;
    Ok(filled.iter().sum())
}

/// Removes what is in a directory, and below.
fn empty(session: &mut Session, directory: u64) -> Result<(), String> {
    let names = session.model.get(directory).map_err(|error| format!("{error:?}"))?.names.clone();
    for (name, inum) in names {
        let inode = session.model.get(inum).map_err(|error| format!("{error:?}"))?;
        let is_directory = inode.kind() == ObjectKind::Directory;
        let victim = if is_directory { Victim::Directory } else { Victim::File };
        if is_directory {
            empty(session, inum)?;
        }
        let before = session.full;
        session.apply(&Op::Unlink { directory, name, victim, keep: false })?;
        if session.full != before {
            return Err("removing finds no space".into());
        }
    }
    Ok(())
}

#[test]
fn a_full_volume_is_told_by_operations_and_never_by_a_flush() {
    for (number, filling) in Filling::ALL.into_iter().enumerate() {
        let (len, every) = [(32 << 20, 1_000_000), (40 << 20, 37)][number % 2];
        match fill_up(len, filling, every, 1) {
            Ok(count) => println!("{filling:?} on {} MiB: {count} operations", len >> 20),
            Err(error) => {
                panic!("{filling:?} on {} MiB, flushing each {every}: {error}", len >> 20)
            }
        }
    }
}

#[test]
#[ignore = "takes two minutes in a release build: every filling, size and rhythm of flushes"]
fn a_full_volume_in_every_way() {
    let mut wrong = Vec::new();
    for every in [1_000_000, 211, 37, 5] {
        for len in [32 << 20, 40 << 20] {
            // the slowest last
            for filling in Filling::ALL.into_iter().rev() {
                let seeds = if filling.is_fixed() { 1 } else { setting("FARRIER_CRASH_RUNS", 2) };
                for seed in 0..seeds {
                    let start = Instant::now();
                    let place =
                        format!("{filling:?}, {} MiB, each {every}, seed {seed}", len >> 20);
                    match fill_up(len, filling, every, seed) {
                        Ok(count) => {
                            let seconds = start.elapsed().as_secs_f64();
                            println!("{place}: {count} operations, {seconds:.1} s");
                        }
                        Err(error) => {
                            println!("{place}: {error}");
                            wrong.push(format!("{place}: {error}"));
                        }
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
