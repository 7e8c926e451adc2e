//! Every short sequence of writes, losses, crashes and mounts, beside somebody who knows it all.
//!
//! The devices hold what the rules let be written on them. Beside them stands the true history: the
//! writes in the order in which each device came to hold them, and which were acknowledged. After
//! every mount for writing it is asked (redundancy design 4.1, I11 to I13):
//! * does a device, here or not, hold an acknowledged write that the master lacks, though no
//!   operator ever said to go on without it?
//! * does a device that may be written now hold an acknowledged write that the master lacks? Then
//!   two histories would be merged silently.
//!
//! With a witness, that comes and goes too; it is told by the same rules as by a commit
//! ([`drive::witness`](crate::drive::witness)).

use alloc::vec::Vec;

use crate::media::copy_group::{Cause, CopyGroup, CopySlot, CopyState, Epoch, EpochId, Runtime};
use crate::media::witness::Testimony;
use crate::units::{DeviceIndex, Tid, Uuid, WallTime};

use super::Distrust;
use super::WitnessPlace;
use super::epoch::{Stamp, may_continue};
use super::lineage::{Decision, Found, Options, Refused, decide};
use super::witness::{Heard, Told};

/// A write, as the omniscient sees it.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Write {
    /// Nobody else has it.
    number: u32,
    /// Whether it came with or first after an operator's word: here histories may part.
    by_token: bool,
}

/// What lies on a device.
#[derive(Clone)]
struct Disk {
    record: CopyGroup,
    tid: Tid,
    /// The writes below its root.
    holds: Vec<Write>,
}

/// A mounted group.
#[derive(Clone)]
struct Mounted {
    group: CopyGroup,
    /// Devices that are there.
    here: u8,
    holds: Vec<Write>,
    tid: Tid,
    /// An operator's word was used, and nothing written since.
    token: bool,
    told: Told,
}

/// The third place.
#[derive(Clone)]
struct Witness {
    holds: Testimony,
    is_reached: bool,
}

#[derive(Clone)]
struct World {
    disks: Vec<Disk>,
    witness: Option<Witness>,
    mounted: Option<Mounted>,
    acknowledged: Vec<u32>,
    next: u32,
    epochs: u8,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A write is flushed and acknowledged.
    Flush,
    /// A flush of which only these devices got a header, then a power cut.
    CrashIn(u8),
    /// Devices fail at once while mounted, and the flush that comes next notices.
    Lose(u8),
    /// A device fails, and the epoch without it reaches only these devices, then a power cut.
    LoseAndCrash(u8, u8),
    /// What is attached and out of date is brought up to date.
    Sync,
    /// The witness comes or goes.
    Reach(bool),
    /// The devices of this set are mounted, and power is cut when these have the new epoch.
    MountAndCrash(u8, u8),
    /// The devices of this set are mounted; with a token or without.
    Mount(u8, bool),
    /// The same, choosing the side of that slot.
    Choose(u8, u8),
}

fn bits(mask: u8) -> impl Iterator<Item = u8> {
    (0..4).filter(move |slot| mask & 1 << slot != 0)
}

impl World {
    fn new(count: u8, runtime: Runtime) -> Self {
        let epoch = Epoch {
            id: EpochId([1; 16]),
            parent: EpochId::NONE,
            seq: 1,
            start_tid: Tid(1),
            members: (1 << count) - 1,
            cause: Cause::Created,
            host: Uuid::default(),
            time: WallTime(0),
        };
        let mut group = CopyGroup::new(Uuid([9; 16]), Uuid([1; 16]), epoch);
        group.policy.runtime = runtime;
        for slot in 0..count {
            group.slots[usize::from(slot)] = CopySlot {
                device: Uuid([slot + 1; 16]),
                state: CopyState::InSync,
                ..CopySlot::EMPTY
            };
        }
        let disk =
            |slot| Disk { record: group.for_slot(slot).unwrap(), tid: Tid(1), holds: Vec::new() };
        let mut world = Self {
            disks: (0..count).map(disk).collect(),
            witness: None,
            mounted: None,
            acknowledged: Vec::new(),
            next: 0,
            epochs: 1,
        };
        world.mount((1 << count) - 1, Options::default());
        world
    }

    /// As [`new`](Self::new), with a witness.
    fn with_witness(count: u8, runtime: Runtime) -> Self {
        let mut world = Self::new(count, runtime);
        let id = Uuid([77; 16]);
        for disk in &mut world.disks {
            disk.record.set_witness(Some(WitnessPlace::new(id, b"w")));
        }
        let holds = Testimony::of(&world.disks[0].record);
        world.witness = Some(Witness { holds, is_reached: true });
        world.mount((1 << count) - 1, Options::default());
        world
    }

    /// What the witness says, if it is there.
    fn heard(&self) -> Option<Heard> {
        let witness = self.witness.as_ref().filter(|witness| witness.is_reached);
        witness.map(|witness| Heard::of(&witness.holds))
    }

    /// The witness is told of the epoch of what is mounted; if it has to know and cannot, that ends.
    fn tell(&mut self) {
        let Some(mounted) = self.mounted.as_mut() else { return };
        let Some(telling) = mounted.told.telling(&mounted.group, mounted.tid) else { return };
        let witness = self.witness.as_mut().filter(|witness| witness.is_reached);
        match witness {
            Some(witness) if telling.judge(&witness.holds).is_ok() => {
                witness.holds = telling.testimony();
                mounted.told.done(mounted.group.epoch.id);
            }
            _ if mounted.told.is_owed(&mounted.group) => self.mounted = None,
            _ => {}
        }
    }

    /// Begins an epoch, of which the witness is told.
    fn begin(&mut self, cause: Cause) {
        let tid = self.mounted.as_ref().map_or(Tid(0), |mounted| Tid(mounted.tid.0 + 1));
        let stamp = self.stamp(tid);
        if let Some(mounted) = self.mounted.as_mut() {
            let before = mounted.group.epoch.members;
            mounted.group.begin(cause, &stamp).unwrap();
            mounted.told.note(before, mounted.group.epoch.members);
        }
        self.tell();
    }

    fn stamp(&mut self, tid: Tid) -> Stamp {
        self.epochs += 1;
        let id = EpochId([self.epochs; 16]);
        Stamp { id, host: Uuid::default(), time: WallTime(0), start_tid: tid }
    }

    fn steps(&self) -> Vec<Step> {
        let all = (1_u8 << self.disks.len()) - 1;
        let mut steps = Vec::new();
        for set in 1..=all {
            steps.push(Step::Mount(set, false));
            // an operator's word counts only where something is in the way
            match self.decide(set, &self.options()) {
                Ok(decision) if decision.writable.is_ok() => {}
                Ok(_) => steps.push(Step::Mount(set, true)),
                Err(_) => steps.extend(bits(set).map(|slot| Step::Choose(set, slot))),
            }
            if self.witness.is_some() {
                let decision = self.decide(set, &self.options());
                let mint = decision.ok().and_then(|decision| decision.mint);
                let parts = mint.map_or(0, |mint| mint.members);
                let parts = (0..parts).filter(|part| part & !parts == 0);
                steps.extend(parts.map(|part| Step::MountAndCrash(set, part)));
            }
        }
        if let Some(witness) = &self.witness {
            steps.push(Step::Reach(!witness.is_reached));
        }
        let Some(mounted) = &self.mounted else { return steps };
        steps.extend([Step::Flush, Step::Sync]);
        let members = mounted.group.in_sync();
        steps.extend((1..members).filter(|set| set & !members == 0).map(Step::CrashIn));
        steps.extend((1..=mounted.here).filter(|set| set & !mounted.here == 0).map(Step::Lose));
        for slot in bits(mounted.here) {
            let rest = members & !(1 << slot);
            // told to the witness only, where there is one
            let first = u8::from(self.witness.is_none());
            let parts = (first..rest).filter(|set| set & !rest == 0);
            steps.extend(parts.map(|set| Step::LoseAndCrash(slot, set)));
        }
        steps
    }

    fn run(&mut self, step: Step) -> Result<(), &'static str> {
        match step {
            Step::Flush => {
                if let Some(mounted) = self.mounted.as_mut() {
                    let write = Write { number: self.next, by_token: mounted.token };
                    mounted.holds.push(write);
                    mounted.token = false;
                }
                self.tell();
                self.write_headers(0xff);
                if self.mounted.is_some() {
                    self.acknowledged.push(self.next);
                }
                self.next += 1;
            }
            Step::CrashIn(set) => {
                if let Some(mounted) = self.mounted.as_mut() {
                    let write = Write { number: self.next, by_token: mounted.token };
                    mounted.holds.push(write);
                }
                self.write_headers(set);
                self.next += 1;
                self.mounted = None;
            }
            Step::Lose(lost) => self.lose(lost, 0xff),
            Step::LoseAndCrash(slot, set) => {
                self.lose(1 << slot, set);
                self.mounted = None;
            }
            Step::Sync => self.sync(),
            Step::Reach(is_reached) => {
                if let Some(witness) = &mut self.witness {
                    witness.is_reached = is_reached;
                }
            }
            Step::MountAndCrash(set, headers) => {
                self.mount_with(set, self.options(), headers);
                self.mounted = None;
            }
            Step::Mount(set, token) => {
                let options = Options { accept_missing: token, ..self.options() };
                return self.check_mount(set, options);
            }
            Step::Choose(set, slot) => {
                let master = Some(slot);
                let options = Options { master, accept_missing: true, ..self.options() };
                return self.check_mount(set, options);
            }
        }
        Ok(())
    }

    /// The next header, on those members that are in `set` too, and on copies in sync only.
    fn write_headers(&mut self, set: u8) {
        let Some(mounted) = self.mounted.as_mut() else { return };
        mounted.group.flush_seq += 1;
        mounted.tid.0 += 1;
        for slot in bits(mounted.group.in_sync()) {
            mounted.group.slots[usize::from(slot)].barrier_tid = Tid(mounted.tid.0 - 1);
        }
        for slot in bits(mounted.group.in_sync() & set & mounted.here) {
            self.disks[usize::from(slot)] = Disk {
                record: mounted.group.for_slot(slot).unwrap(),
                tid: mounted.tid,
                holds: mounted.holds.clone(),
            };
        }
    }

    fn lose(&mut self, lost: u8, set: u8) {
        let Some(mut mounted) = self.mounted.clone() else { return };
        mounted.here &= !lost;
        let members = mounted.group.in_sync();
        let barrier = mounted.tid;
        for slot in bits(lost) {
            let _ = mounted.group.eject(slot, barrier, false);
        }
        if members & lost == 0 {
            self.mounted = Some(mounted);
            return;
        }
        let left = mounted.group.in_sync();
        if !may_continue(mounted.group.policy.runtime, members, left) {
            self.mounted = None;
            return;
        }
        self.mounted = Some(mounted);
        self.begin(Cause::Ejected);
        self.write_headers(set);
    }

    fn sync(&mut self) {
        let Some(mut mounted) = self.mounted.clone() else { return };
        let stale = mounted.group.slots_where(|state| state == CopyState::Stale) & mounted.here;
        if stale == 0 {
            return;
        }
        for slot in bits(stale) {
            mounted.group.resync(slot, mounted.tid).unwrap();
            mounted.group.joined(slot, mounted.tid).unwrap();
        }
        self.mounted = Some(mounted);
        self.begin(Cause::Joined);
        self.write_headers(0xff);
    }

    fn decide(&self, set: u8, options: &Options) -> Result<Decision, Refused> {
        let found: Vec<_> = bits(set)
            .map(|slot| {
                let disk = &self.disks[usize::from(slot)];
                let (device, fsid) = (DeviceIndex(slot), Uuid::default());
                let group = Ok(disk.record.clone());
                Found { device, fsid, group, tid: disk.tid, root_behind: Some(0) }
            })
            .collect();
        decide(&found, options)
    }

    /// What is known where nobody says anything.
    fn options(&self) -> Options {
        Options { witness: self.heard(), ..Options::default() }
    }

    /// Mounts for writing if that is allowed.
    fn mount(&mut self, set: u8, options: Options) -> Option<Decision> {
        self.mount_with(set, options, 0xff)
    }

    /// The same, with the header of a new epoch on those of `headers` only.
    fn mount_with(&mut self, set: u8, options: Options, headers: u8) -> Option<Decision> {
        self.mounted = None;
        let mut decision = self.decide(set, &options).ok()?;
        decision.writable.ok()?;
        let judged = decision.clone();
        let is_new_epoch = decision.mint.is_some();
        if is_new_epoch {
            let stamp = self.stamp(Tid(decision.after.0 + 1));
            decision.begin(&stamp).unwrap();
        }
        let master = &self.disks[usize::from(decision.master)];
        self.mounted = Some(Mounted {
            holds: master.holds.clone(),
            tid: decision.after,
            here: bits(set)
                .filter(|slot| decision.devices[usize::from(*slot)].is_some())
                .fold(0, |mask, slot| mask | 1 << slot),
            group: decision.group,
            token: options.accept_missing || options.master.is_some(),
            told: decision.told,
        });
        self.tell();
        if is_new_epoch || judged.lagging != 0 {
            self.mark();
            self.write_headers(headers);
        }
        self.mounted.as_ref().map(|_| judged)
    }

    /// An operator's word is on media from here on: a write that is none.
    fn mark(&mut self) {
        if let Some(mounted) = self.mounted.as_mut().filter(|mounted| mounted.token) {
            mounted.holds.push(Write { number: self.next, by_token: true });
            mounted.token = false;
            self.next += 1;
        }
    }

    fn check_mount(&mut self, set: u8, options: Options) -> Result<(), &'static str> {
        let before = self.disks.clone();
        let Some(decision) = self.mount(set, options) else { return Ok(()) };
        let master = &before[usize::from(decision.master)].holds;
        let is_unasked = !options.accept_missing && options.master.is_none();
        for (slot, disk) in (0_u8..).zip(&before) {
            let Some(lacking) = self.lacking(master, &disk.holds) else { continue };
            if is_unasked && !lacking.is_excused {
                return Err("goes on without an acknowledged write, and nobody said to");
            }
            let copy = &decision.group.slots[usize::from(slot)];
            if decision.devices[usize::from(slot)].is_some() {
                return Err("would write over a history of its own");
            }
            // One that may come back without being asked about must be known to be of our past.
            if set & 1 << slot != 0 && copy.state != CopyState::Diverged {
                return Err("is not known as a history of its own");
            }
        }
        Ok(())
    }

    /// Where `other` holds an acknowledged write that `master` lacks.
    fn lacking(&self, master: &[Write], other: &[Write]) -> Option<Lacking> {
        let common = master.iter().zip(other).take_while(|(a, b)| a.number == b.number).count();
        let is_acknowledged = |write: &Write| self.acknowledged.contains(&write.number);
        let first = other[common..].iter().position(is_acknowledged)?;
        let mut parted = other[common..=common + first].iter().chain(&master[common..]);
        Some(Lacking { is_excused: parted.any(|write| write.by_token) })
    }
}

struct Lacking {
    /// The histories parted by an operator's word.
    is_excused: bool,
}

/// Every sequence of `depth` steps from there.
fn explore(world: &World, depth: u32, path: &mut Vec<Step>, seen: &mut [u64; 3]) {
    if depth == 0 {
        seen[0] += 1;
        return;
    }
    let mut has_unmounted = world.mounted.is_none();
    for step in world.steps() {
        let mut next = world.clone();
        path.push(step);
        if let Err(what) = next.run(step) {
            panic!("{what}: {path:?}");
        }
        if matches!(step, Step::Mount(..) | Step::Choose(..)) && next.mounted.is_none() {
            // all mounts that are refused leave the same
            if core::mem::replace(&mut has_unmounted, true) {
                path.pop();
                continue;
            }
        }
        seen[1] += u64::from(next.mounted.is_some());
        seen[2] += u64::from(next.mounted.is_none());
        explore(&next, depth - 1, path, seen);
        path.pop();
    }
}

fn explore_all(count: u8, runtime: Runtime, depth: u32) {
    explore_from(&World::new(count, runtime), depth);
}

fn explore_from(world: &World, depth: u32) {
    let mut seen = [0; 3];
    explore(world, depth, &mut Vec::new(), &mut seen);
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn two_copies_of_which_one_may_go_on() {
    explore_all(2, Runtime::Any, 6);
}

#[test]
fn two_copies_with_a_holder() {
    explore_all(2, Runtime::Holder(1), 6);
}

#[test]
fn two_copies_that_want_a_majority() {
    explore_all(2, Runtime::Majority, 6);
}

#[test]
fn two_copies_and_a_witness() {
    explore_from(&World::with_witness(2, Runtime::Any), 5);
}

#[test]
fn three_copies_and_a_witness() {
    explore_from(&World::with_witness(3, Runtime::Any), 3);
}

#[test]
#[ignore = "some minutes"]
fn copies_with_a_witness_and_a_step_more() {
    explore_from(&World::with_witness(2, Runtime::Any), 6);
    for runtime in [Runtime::Any, Runtime::Majority, Runtime::Holder(0)] {
        explore_from(&World::with_witness(3, runtime), 4);
    }
}

#[test]
fn three_copies_of_which_one_may_go_on() {
    explore_all(3, Runtime::Any, 4);
}

#[test]
fn three_copies_that_want_a_majority() {
    explore_all(3, Runtime::Majority, 4);
}

#[test]
fn three_copies_with_a_holder() {
    explore_all(3, Runtime::Holder(0), 4);
}

#[test]
#[ignore = "half a minute and more"]
fn three_copies_and_a_step_more() {
    for runtime in [Runtime::Any, Runtime::Majority, Runtime::Holder(0)] {
        explore_all(3, runtime, 5);
    }
}

#[test]
fn the_model_notices_a_rule_that_is_too_weak() {
    // A stored rule to go on without anybody: what everything above is there to prevent.
    let mut world = World::new(2, Runtime::Any);
    for disk in &mut world.disks {
        disk.record.policy.on_missing = super::OnMissing::Accept;
    }
    let steps = [Step::Mount(3, false), Step::Lose(1), Step::Flush];
    steps.into_iter().for_each(|step| world.run(step).unwrap());
    assert!(world.run(Step::Mount(1, false)).is_err());
    // And a history that is taken for the past of another.
    let mut world = World::new(2, Runtime::Any);
    let steps = [Step::Lose(1), Step::Flush, Step::Mount(1, true), Step::Flush];
    steps.into_iter().for_each(|step| world.run(step).unwrap());
    world.disks[0].record.slots[1].left = world.disks[1].record.epoch.id;
    world.disks[0].record.slots[1].distrust = Distrust::NONE;
    assert!(world.run(Step::Mount(3, false)).is_err());
}
