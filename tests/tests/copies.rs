//! Volumes of several copies: they hold the same, go on without one, and catch up.

use farrier_core::drive::change::Origin;
use farrier_core::drive::ready;
use farrier_core::fs::Pfs;
use farrier_core::media::header::Version;
use farrier_core::units::{DeviceIndex, Inum, Uuid, WallTime};
use farrier_core::volume::{FormatOptions, format};
use farrier_tests::against::{compare, compare_media};
use farrier_tests::model::Model;
use farrier_tests::ops::{Op, Random, Swarm, apply};
use farrier_tests::rack::{Mode, Rack};
use farrier_tests::session::nothing;
use farrier_tests::writing::WritingHost;

const LABEL: &str = "DATA";
const START: u64 = 1_700_000_000_000_000;
const CACHE: usize = 1 << 20;
const ENOUGH: u64 = u64::MAX;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn format_copies(rack: &Rack) {
    use farrier_core::storage::Storage as _;
    let count = u8::try_from(rack.device_count()).unwrap();
    let sizes = (0..count).map(|index| rack.size(DeviceIndex(index))).collect();
    let mut number = 0_u8;
    let options = FormatOptions {
        version: Version::Copies,
        ..FormatOptions::new(sizes, WallTime(1_600_000_000_000_000))
    };
    let formatted = format(&options, |bytes| {
        number += 1;
        bytes.fill(number);
    });
    ready(farrier_core::drive::format(rack, &formatted.unwrap())).unwrap();
}

/// A mounted volume and what it should hold.
struct Mounted {
    host: WritingHost<Rack>,
    pfs: Pfs,
    model: Model,
    committed: Model,
    time: u64,
}

impl Mounted {
    fn open(rack: &Rack, model: Option<Model>, time: u64) -> Self {
        let host = WritingHost::open(rack.clone(), CACHE).expect("it can be opened");
        let mut id = [0; 16];
        id[8..].copy_from_slice(&(time + 1).to_le_bytes());
        host.set_origin(Origin { id, host: Uuid([7; 16]), time: WallTime(START + time) });
        let pfs = host.open_pfs(LABEL).expect("it has that PFS");
        let model = model.unwrap_or_else(|| {
            let root = farrier_core::fs::GetAttributes { pfs, inum: Inum::ROOT };
            Model::new(host.run(&root).unwrap())
        });
        Self { host, pfs, committed: model.clone(), model, time }
    }

    fn apply(&mut self, op: &Op) -> Result<(), String> {
        self.time += 1;
        match op {
            Op::Flush { always } => {
                self.host.flush_always(*always).map_err(|error| format!("a flush: {error:?}"))?;
                self.committed = self.model.settled();
            }
            Op::Remount => {}
            op => {
                apply(&self.host, self.pfs, &mut self.model, op, START + self.time * 1000)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        self.apply(&Op::Flush { always: false })
    }

    fn work(&mut self, random: &mut Random, count: u64) -> Result<(), String> {
        let swarm = Swarm::new(random);
        for _ in 0..count {
            let op = swarm.next(random, &self.model);
            self.apply(&op)?;
        }
        self.flush()
    }

    fn resync(&self, budget: u64) -> (u8, u8) {
        let filled = ready(self.host.resync(budget)).expect("the volume goes on");
        assert_eq!(filled.unreadable, 0);
        (filled.joined, filled.behind)
    }

    fn check(&self) -> Result<(), String> {
        compare(&self.host, self.pfs, &self.model, true)
    }
}

/// Each of `disks` alone holds what was committed.
fn each_holds(rack: &Rack, disks: &[u8], committed: &Model) -> Result<(), String> {
    for disk in disks {
        let alone = rack.fork().show(&[*disk]);
        compare_media(&alone, LABEL, committed, nothing)
            .map_err(|error| format!("disk {disk} alone: {error}"))?;
    }
    Ok(())
}

#[test]
fn every_copy_holds_everything() {
    for count in 2..=4 {
        let rack = Rack::new(&vec![64 << 20; count]);
        format_copies(&rack);
        let mut mounted = Mounted::open(&rack, None, 0);
        let mut random = Random::new(count as u64);
        mounted.work(&mut random, 60).unwrap();
        mounted.check().unwrap();
        let disks: Vec<u8> = (0..u8::try_from(count).unwrap()).collect();
        each_holds(&rack, &disks, &mounted.committed).unwrap();
    }
}

#[test]
fn a_copy_that_was_away_catches_up() {
    for mode in [Mode::Gone, Mode::Late, Mode::NoWrites] {
        let rack = Rack::new(&[64 << 20, 64 << 20]);
        format_copies(&rack);
        let mut random = Random::new(5);
        let mut mounted = Mounted::open(&rack, None, 0);
        mounted.work(&mut random, 80).unwrap();
        rack.set(1, mode);
        mounted.work(&mut random, 60).unwrap();
        mounted.check().unwrap();
        each_holds(&rack, &[0], &mounted.committed).unwrap();
        rack.set(1, Mode::Fine);
        let mut mounted = Mounted::open(&rack, Some(mounted.committed.settled()), mounted.time);
        mounted.work(&mut random, 20).unwrap();
        mounted.check().unwrap();
        assert_eq!(mounted.resync(ENOUGH), (2, 0), "{mode:?}");
        mounted.check().unwrap();
        mounted.flush().unwrap();
        each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
    }
}

/// Work, pulled and late disks, remounts and resyncs in batches, in any order.
fn run(seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let sizes = *random.pick(&[[64 << 20, 64 << 20], [64 << 20, 128 << 20], [3 << 30, 64 << 20]]);
    let rack = Rack::new(&sizes);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let mut away: Option<u8> = None;
    let mut behind: Option<u8> = None;
    for _ in 0..random.below(14) + 4 {
        let count = random.below(40);
        mounted.work(&mut random, count)?;
        let action = random.below(5);
        match action {
            0 if away.is_none() && behind.is_none() => {
                let disk = u8::try_from(random.below(2)).unwrap();
                rack.set(disk, *random.pick(&[Mode::Gone, Mode::Late, Mode::NoWrites]));
                away = Some(disk);
            }
            1 | 2 => {
                if let Some(disk) = away.take() {
                    // it is noticed, or it was not away at all
                    mounted.work(&mut random, 3)?;
                    mounted.apply(&Op::Flush { always: true })?;
                    rack.set(disk, Mode::Fine);
                    behind = Some(disk);
                }
                let committed = mounted.committed.settled();
                mounted = Mounted::open(&rack, Some(committed), mounted.time);
            }
            3 => {
                if let Some(disk) = behind {
                    let budget = random.below(1 << 20);
                    let (joined, _) = mounted.resync(budget);
                    if joined != 0 {
                        assert_eq!(joined, 1 << disk);
                        behind = None;
                    }
                }
            }
            _ => {}
        }
        mounted.check()?;
    }
    mounted.flush()?;
    if let Some(disk) = behind {
        if mounted.resync(ENOUGH).1 != 0 {
            return Err(format!("disk {disk} does not get in sync"));
        }
        mounted.check()?;
    }
    mounted.flush()?;
    let whole: Vec<u8> = (0..2).filter(|disk| Some(*disk) != away).collect();
    each_holds(&rack, &whole, &mounted.committed)
}

#[test]
fn copies_come_and_go() {
    let first = setting("FARRIER_COPIES_SEED", 1);
    let runs = setting("FARRIER_COPIES_RUNS", 20);
    for seed in first..first + runs {
        run(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
