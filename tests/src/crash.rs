//! Crashes: every state that a device may be in when the power goes, by what it was told to do.
//!
//! Writes between two barriers reach the medium in any order or not at all, and the last one may
//! be torn; a barrier speaks of one device, and others wait for their own. What a flush acknowledged has to be there; a later flush may be there as a whole once
//! its header was on the way.

use std::collections::BTreeMap;

use farrier_core::media::ZONE_RESERVED_LEN;
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;

use crate::against::compare_trees;
use crate::model::Model;
use crate::ops::{Op, Random, Swarm};
use crate::ram::{Event, RamDisk};
use crate::session::{LABEL, Session, a_header};
use crate::world::{World, WorldOp};

/// Distance of the header slots.
const HEADER_STRIDE: u64 = 2 << 30;
/// Length of a header.
const HEADER_LEN: u64 = 65_536;
/// Smallest piece that a device writes as a whole.
const SECTOR: usize = 512;
/// Writes of which all subsets are tried.
const SUBSETS_MAX: usize = 4;

/// What was done to a device, and what it had to hold when.
#[derive(Debug)]
pub struct Story {
    /// The device as it was before.
    pub before: RamDisk,
    /// What happened to it.
    pub events: Vec<Event>,
    /// How many events had happened when a flush was acknowledged, and what it left; ascending,
    /// from the state before on.
    pub marks: Vec<(usize, Trees)>,
}

/// What PFSs hold, by label.
pub type Trees = BTreeMap<Vec<u8>, Model>;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Of epochs with many writes, so many subsets.
    pub subsets: u64,
    /// For each write, so many tears.
    pub tears: u64,
    /// Where several devices wait for a barrier, about so many states in which one of them is far
    /// ahead of the others, or far behind.
    pub ahead: u64,
    /// After one in so many states, writing goes on.
    pub goes_on: u64,
    /// After one in so many states, writing goes on and is cut short again.
    pub again: u64,
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    /// States of the medium.
    pub states: u64,
    /// States after which writing went on.
    pub went_on: u64,
}

impl Story {
    /// What happens to `session` while `ops` are done.
    ///
    /// # Errors
    /// The core and the model do not agree.
    pub fn record(
        session: &mut Session,
        ops: impl FnMut(&Model) -> Option<Op>,
    ) -> Result<Self, String> {
        let mut ops = ops;
        let before = session.disk.fork();
        session.disk.record();
        let trees = |model: &Model| Trees::from([(LABEL.into(), model.clone())]);
        let mut marks = vec![(0, trees(&session.committed))];
        while let Some(op) = ops(&session.model) {
            session.apply(&op)?;
            let now = trees(&session.committed);
            if now != marks[marks.len() - 1].1 || matches!(op, Op::Flush { .. }) {
                marks.push((session.disk.event_count(), now));
            }
        }
        Ok(Self { before, events: session.disk.events(), marks })
    }

    /// What happens to `world` while `ops` are done.
    ///
    /// # Errors
    /// The core and the models do not agree.
    pub fn record_world(
        world: &mut World,
        ops: impl FnMut(&World) -> Option<WorldOp>,
    ) -> Result<Self, String> {
        let (mut ops, disk) = (ops, world.disk().clone());
        let before = disk.fork();
        disk.record();
        let mut marks = vec![(0, world.on_media())];
        while let Some(op) = ops(world) {
            world.apply(&op).map_err(|error| format!("{op:?}: {error}"))?;
            let now = world.on_media();
            if now != marks[marks.len() - 1].1 || !matches!(op, WorldOp::In(..)) {
                marks.push((disk.event_count(), now));
            }
        }
        Ok(Self { before, events: disk.events(), marks })
    }

    /// Tries every crash.
    ///
    /// # Errors
    /// The first state that is not as it should be.
    pub fn crash(&self, random: &mut Random, effort: Effort) -> Result<Tried, String> {
        let mut tried = Tried::default();
        let disk = self.before.fork();
        // what was written and no barrier speaks of
        let mut waiting: Vec<&Event> = Vec::new();
        let mut start = 0;
        while start < self.events.len() {
            let end = self.events[start..].iter().position(|e| matches!(e, Event::Barrier(_)));
            let end = end.map_or(self.events.len(), |at| start + at);
            waiting.extend(&self.events[start..end]);
            self.epoch(&disk, (start, &waiting), random, effort, &mut tried)
                .map_err(|error| format!("events {start}..{end}, {error}"))?;
            if let Some(Event::Barrier(now)) = self.events.get(end) {
                let lasts = |event: &mut &Event| device_of(event) == *now;
                waiting.extract_if(.., lasts).for_each(|event| put(&disk, event, 0, usize::MAX));
            }
            start = end + 1;
        }
        waiting.iter().for_each(|event| put(&disk, event, 0, usize::MAX));
        self.state(&disk, start, false, random, effort, &mut tried)?;
        Ok(tried)
    }

    /// One state that a crash may leave: any moment, and any of what waits for a barrier then. With
    /// `tears`, a write may be there in part; without, a header is there as a whole or not at all.
    pub fn any_state(&self, random: &mut Random, tears: bool) -> RamDisk {
        let disk = self.before.fork();
        let mut waiting: Vec<&Event> = Vec::new();
        let end = random.below(self.events.len() as u64 + 1);
        let mut end = usize::try_from(end).unwrap_or(usize::MAX);
        while !tears && self.events.get(end).is_some_and(is_header) {
            end += 1;
        }
        for event in &self.events[..end] {
            match event {
                Event::Write { .. } => waiting.push(event),
                Event::Barrier(now) => waiting
                    .extract_if(.., |event| device_of(event) == *now)
                    .for_each(|event| put(&disk, event, 0, usize::MAX)),
            }
        }
        let (all, header) = (random.once_in(2), random.once_in(2));
        for event in waiting {
            let Event::Write { bytes, .. } = event else { continue };
            let sectors = (bytes.len() / SECTOR) as u64;
            match random.below(8) {
                _ if is_header(event) && !tears && !header => {}
                _ if is_header(event) && !tears => put(&disk, event, 0, usize::MAX),
                0..4 if !all => {}
                4 if tears => {
                    let to = SECTOR * usize::try_from(random.below(sectors + 1)).unwrap_or(0);
                    put(&disk, event, 0, to);
                }
                _ => put(&disk, event, 0, usize::MAX),
            }
        }
        disk
    }

    /// Crashes with everything on the medium but `writes`, of which any may be; the first `start`
    /// events have happened.
    fn epoch(
        &self,
        disk: &RamDisk,
        (start, writes): (usize, &[&Event]),
        random: &mut Random,
        effort: Effort,
        tried: &mut Tried,
    ) -> Result<(), String> {
        let all = writes.len();
        let with = |chosen: &dyn Fn(usize) -> bool| {
            let state = disk.fork();
            let mut header = false;
            for (_, event) in writes.iter().enumerate().filter(|(at, _)| chosen(*at)) {
                header |= is_header(event);
                put(&state, event, 0, usize::MAX);
            }
            (state, header)
        };
        let mut devices: Vec<DeviceIndex> = writes.iter().map(|event| device_of(event)).collect();
        for count in 0..=all {
            let (state, header) = with(&|at| at < count);
            self.state(&state, start, header, random, effort, tried)
                .map_err(|error| format!("the first {count} of {all}: {error}"))?;
        }
        let subsets = if all <= SUBSETS_MAX { 1 << all } else { effort.subsets };
        for number in 0..subsets {
            let mask = if all <= SUBSETS_MAX { number } else { random.next() };
            let (state, header) = with(&|at| mask >> (at % 56) & 1 == 1);
            self.state(&state, start, header, random, effort, tried)
                .map_err(|error| format!("subset {mask:#x} of {all}: {error}"))?;
        }
        let of = devices.clone();
        devices.sort_unstable();
        devices.dedup();
        for device in devices.iter().filter(|_| devices.len() > 1) {
            // one device is far ahead of the others, or far behind
            let mine: Vec<usize> = (0..all).filter(|at| of[*at] == *device).collect();
            for count in 0..=mine.len() {
                if random.below(mine.len() as u64 + 1) >= effort.ahead {
                    continue;
                }
                for others in [false, true] {
                    let is_there = |at: usize| match of[at] == *device {
                        true => mine[..count].contains(&at),
                        false => others,
                    };
                    let (state, header) = with(&is_there);
                    self.state(&state, start, header, random, effort, tried).map_err(|error| {
                        let place = device.0;
                        format!("{count} of {all} on device {place}, others {others}: {error}")
                    })?;
                }
            }
        }
        for (torn, event) in writes.iter().enumerate() {
            let (state, header) = with(&|at| at < torn);
            let Event::Write { bytes, .. } = event else { continue };
            let sectors = bytes.len() / SECTOR;
            for number in 0..effort.tears {
                let state = state.fork();
                let at = SECTOR * usize::try_from(random.below(sectors as u64 + 1)).unwrap_or(0);
                let (from, to) = if number % 2 == 0 { (0, at) } else { (at, usize::MAX) };
                put(&state, event, from, to);
                let header = header || is_header(event);
                self.state(&state, start, header, random, effort, tried)
                    .map_err(|error| format!("write {torn} torn to {from}..{to}: {error}"))?;
            }
        }
        Ok(())
    }

    /// One state of the medium; `header` says whether a header was on its way behind the last mark.
    fn state(
        &self,
        disk: &RamDisk,
        passed: usize,
        header: bool,
        random: &mut Random,
        effort: Effort,
        tried: &mut Tried,
    ) -> Result<(), String> {
        tried.states += 1;
        let last = self.marks.partition_point(|(at, _)| *at <= passed) - 1;
        let since = self.marks[last].0.min(passed);
        let header =
            header || self.events[since..passed.min(self.events.len())].iter().any(is_header);
        let until = if header { (last + 2).min(self.marks.len()) } else { last + 1 };
        let mut wrong = String::new();
        let found = self.marks[last..until].iter().find(|(_, trees)| {
            match compare_trees(disk, trees, a_header) {
                Ok(()) => true,
                Err(error) => {
                    wrong = format!("{wrong}\n{error}");
                    false
                }
            }
        });
        let Some((_, trees)) = found else {
            return Err(format!("neither of {} allowed states:{wrong}", until - last));
        };
        if !trees.contains_key(LABEL.as_bytes()) {
            return Ok(());
        }
        let is_cut_again = effort.again > 0 && random.once_in(effort.again);
        if is_cut_again || random.once_in(effort.goes_on) {
            tried.went_on += 1;
            let less = Effort { subsets: 4, tears: 4, ahead: 2, goes_on: 40, again: 0 };
            let more = go_on(disk, trees, random, is_cut_again.then_some(less))
                .map_err(|error| format!("going on: {error}"))?;
            tried.states += more.states;
            tried.went_on += more.went_on;
        }
        Ok(())
    }
}

/// Writes on where a crash ended, perhaps to the next one.
fn go_on(
    disk: &RamDisk,
    trees: &Trees,
    random: &mut Random,
    again: Option<Effort>,
) -> Result<Tried, String> {
    let disk = disk.fork();
    let session = Session::open(disk.clone(), 1 << 20, trees.get(LABEL.as_bytes()).cloned());
    let mut session = session.map_err(|error| format!("{error:?}"))?;
    let swarm = Swarm::new(random);
    let mut left = 24;
    let mut story_random = Random::new(random.next());
    let mut story = Story::record(&mut session, |model| {
        left -= 1;
        match left {
            0 => None,
            1 | 8 | 16 => Some(Op::Flush { always: false }),
            _ => loop {
                let op = swarm.next(&mut story_random, model);
                if !matches!(op, Op::Flush { .. } | Op::Remount) {
                    break Some(op);
                }
            },
        }
    })?;
    session.check_memory()?;
    // the others stay as they are
    for (_, now) in &mut story.marks {
        for (label, model) in trees {
            now.entry(label.clone()).or_insert_with(|| model.clone());
        }
    }
    if let Some((_, last)) = story.marks.last() {
        compare_trees(&disk, last, a_header)?;
    }
    match again {
        Some(effort) => story.crash(random, effort).map_err(|error| format!("again: {error}")),
        None => Ok(Tried::default()),
    }
}

/// A header of the root volume, or a part of one.
fn is_header(event: &Event) -> bool {
    const { assert!(HEADER_STRIDE > ZONE_RESERVED_LEN) };
    matches!(event, Event::Write { device: DeviceIndex(0), offset, .. }
        if offset % HEADER_STRIDE < HEADER_LEN)
}

const fn device_of(event: &Event) -> DeviceIndex {
    match event {
        Event::Write { device, .. } | Event::Barrier(device) => *device,
    }
}

/// Brings bytes `from .. to` of a write to the medium.
fn put(disk: &RamDisk, event: &Event, from: usize, to: usize) {
    if let Event::Write { device, offset, bytes } = event {
        let to = to.min(bytes.len());
        if from < to && offset + bytes.len() as u64 <= disk.size(*device) {
            disk.patch_on(*device, offset + from as u64, &bytes[from..to]);
        }
    }
}
