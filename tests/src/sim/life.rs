//! One life of a group of copies: what happens to it, and what it should hold.

mod checks;
mod converting;
mod faults;
mod filling;
mod losses;
mod members;
mod mounts;
mod pfs;

use std::collections::BTreeMap;

use farrier_core::copies::{CopySlot, lineage};
use farrier_core::dirty::Memory;
use farrier_core::drive::commit::Flusher;
use farrier_core::drive::ready;
use farrier_core::error::{Error, Refusal};
use farrier_core::fs::{GetAttributes, OpenPfs, Pfs};
use farrier_core::scan::Bulkfree;
use farrier_core::units::Inum;

use super::bay::Bay;
use super::group::format_copies;
use super::media::{open, try_open};
use super::plan::{Action, Plan, Step};
use super::{Ran, Trees};
use crate::against::compare;
use crate::model::Model;
use crate::ops::{Op, Random, Swarm, apply};
use crate::ram::RamDisk;
use crate::writing::WritingHost;

const START: u64 = 1_700_000_000_000_000;
/// There are as many as there can be copies.
const DISKS: usize = 4;
/// States that copies which are out of date may show are remembered, so many.
const HISTORY_MAX: usize = 4000;

#[derive(Debug)]
struct Tree {
    pfs: Option<Pfs>,
    model: Model,
}

/// A group of copies, mounted or not, and what it should hold. Copy *c* is on disk *c*.
#[derive(Debug)]
pub struct Life {
    plan: Plan,
    bay: Bay,
    random: Random,
    swarm: Swarm,
    host: Option<WritingHost<Bay>>,
    /// What the mounted volume was shown: it has a number for each of these disks.
    view: Bay,
    shown: u8,
    trees: BTreeMap<Vec<u8>, Tree>,
    /// What the last commit that was acknowledged left.
    acked: Trees,
    /// What may be there instead, of commits that nobody was told of: until the next one is.
    maybe: Vec<Trees>,
    history: Vec<Trees>,
    /// Disks that hold or held a copy.
    ever: u8,
    /// Disks that were put back to what they held before, and are not in sync yet.
    old: u8,
    /// Disks that lost what they held, and are not in sync yet.
    lost: u8,
    /// What a disk held once.
    image: Option<(u8, RamDisk, bool)>,
    /// Disks that hold the newest epoch; others may go on where the operator said so.
    line: u8,
    /// The operator's word left copies behind that may go on by the rules of the group.
    is_parted: bool,
    scan: Option<Bulkfree>,
    /// Copies that were in sync when it began, and have been ever since.
    scanned: u8,
    /// A flush made room, perhaps by a scan of its own.
    is_overtaken: bool,
    time: u64,
    step: usize,
    ran: Ran,
    show: bool,
}

/// What goes wrong in a life: the core did, the power went, or the group had to stop.
#[derive(Debug)]
enum Stop {
    Dark,
    Halted,
    Wrong(String),
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Self::Wrong(text)
    }
}

fn settled(trees: &BTreeMap<Vec<u8>, Tree>) -> Trees {
    trees.iter().map(|(label, tree)| (label.clone(), tree.model.settled())).collect()
}

/// The disks in a mask.
fn each(disks: u8) -> impl Iterator<Item = u8> {
    (0..4).filter(move |disk| disks & 1 << disk != 0)
}

impl Life {
    /// A new group.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(plan: Plan, show: bool) -> Self {
        let mut random = Random::new(plan.seed);
        let mut sizes = plan.sizes.clone();
        sizes.resize(DISKS, 1 << 20);
        let bay = Bay::new(&sizes, Random::new(random.next()));
        let shown = (1 << plan.sizes.len()) - 1;
        format_copies(&bay.show(shown), &plan.sizes, plan.policy);
        let swarm = Swarm::new(&mut random);
        Self {
            plan,
            view: bay.show(shown),
            bay,
            random,
            swarm,
            host: None,
            shown,
            trees: BTreeMap::new(),
            acked: Trees::new(),
            maybe: Vec::new(),
            history: Vec::new(),
            ever: shown,
            old: 0,
            lost: 0,
            image: None,
            line: shown,
            is_parted: false,
            scan: None,
            scanned: 0,
            is_overtaken: false,
            time: 0,
            step: 0,
            ran: Ran::default(),
            show,
        }
    }

    /// The step that it is at.
    #[must_use]
    pub const fn step(&self) -> usize {
        self.step
    }

    /// Lives it.
    ///
    /// # Errors
    /// What went wrong.
    pub fn live(&mut self) -> Result<Ran, String> {
        self.found()?;
        if let Some((victim, silent)) = self.plan.victim {
            self.bay.set_silent(victim, silent);
        }
        for step in self.plan.steps.clone() {
            self.step += 1;
            self.begin(step.seed);
            let done = self.act(step);
            self.settled_or_wrong(done)?;
        }
        self.begin(self.plan.seed);
        self.end()?;
        self.ran.harm = self.bay.harm();
        Ok(self.ran)
    }

    /// What follows is chosen by `seed`.
    fn begin(&mut self, seed: u64) {
        self.random = Random::new(seed);
        self.bay.reseed(Random::new(self.random.next()));
    }

    fn settled_or_wrong(&mut self, done: Result<(), Stop>) -> Result<(), String> {
        match done {
            Ok(()) => Ok(()),
            Err(Stop::Dark) => self.power_cut(),
            Err(Stop::Halted) => self.halted(),
            Err(Stop::Wrong(error)) => Err(error),
        }
    }

    fn tell(&self, text: impl FnOnce() -> String) {
        if self.show {
            println!("step {}: {}", self.step, text());
        }
    }

    /// What the mounted volume knows of its copies, for messages.
    fn told_group(&self) -> String {
        let group = self.host.as_ref().and_then(|host| {
            host.with_flusher(|flusher| Some(flusher?.lineage()?.group().clone()))
        });
        let Some(group) = group else { return "not mounted".into() };
        let told = |slot: &CopySlot| {
            let (state, tid) = (slot.state.name(), slot.barrier_tid.0);
            format!("{state} up to {tid}, not {:?}", slot.distrust)
        };
        let slots = group.slots.each_ref().map(told);
        let (members, seq) = (group.epoch.members, group.epoch.seq);
        format!("flush {}, epoch {seq} of {members:b}, {slots:?}", group.flush_seq)
    }

    fn found(&mut self) -> Result<(), String> {
        let host = open(&self.view, lineage::Options::default())?;
        for label in [b"LOCAL".to_vec(), b"DATA".to_vec()] {
            let super_root = host.volume().super_root();
            let pfs = host.run(&OpenPfs { super_root, label: label.clone() });
            let pfs = pfs.map_err(|error| format!("{error:?}"))?;
            let root = host.run(&GetAttributes { pfs, inum: Inum::ROOT });
            let root = root.map_err(|error| format!("{error:?}"))?;
            self.acked.insert(label, Model::new(root));
        }
        self.mount(self.shown)
    }

    fn all(&self) -> u8 {
        self.ever
    }

    fn shown_mask(&self, is_one: impl Fn(u8) -> bool) -> u8 {
        each(self.ever).filter(|disk| is_one(*disk)).fold(0, |mask, disk| mask | 1 << disk)
    }

    fn victim(&self) -> u8 {
        self.plan.victim.map_or(0, |(disk, _)| 1 << disk)
    }

    fn fine(&self) -> u8 {
        self.shown_mask(|disk| self.bay.is_sound(disk))
    }

    fn host(&self) -> &WritingHost<Bay> {
        self.host.as_ref().expect("mounted")
    }

    /// Copies that hold all, by what the mounted volume says of itself.
    fn in_sync(&self) -> u8 {
        self.host().with_flusher(|flusher| {
            let set = flusher.and_then(|flusher| flusher.lineage()).map(|lineage| lineage.set());
            set.map_or(0, |set| set.in_sync())
        })
    }

    /// Copies that hold all, work, and do not lie: one has to be left.
    fn good(&self) -> u8 {
        let lost = self.host().volume().copies().map_or(0, |live| live.lost());
        self.in_sync() & !lost & self.fine() & self.shown & !self.victim()
    }

    fn told(&self, error: Error) -> Stop {
        self.stopped(|| format!("{error:?}"))
    }

    fn stopped(&self, why: impl FnOnce() -> String) -> Stop {
        let failed = self.host.as_ref().and_then(|host| host.with_memory(Memory::failed));
        match (self.bay.is_dark(), failed) {
            (true, _) => Stop::Dark,
            (false, Some(Error::Halted)) => Stop::Halted,
            _ => Stop::Wrong(why()),
        }
    }

    /// What is asked for while it is looked at by somebody else.
    fn looking(&self) -> lineage::Options {
        let looking = lineage::Options { accept_missing: true, ..Default::default() };
        let split = Err(Error::Refused(Refusal::Copies { code: "FC-S01" }));
        let bay = || self.bay.show(self.shown).fork();
        if self.is_parted && try_open(&bay(), looking).map(|_| ()) == split {
            // the others have a history of their own until that is given up
            // of one that lies the newest root may not be there
            let line = self.line & self.shown;
            let master = each(line & !self.victim()).chain(each(line)).next();
            return lineage::Options { master, ..looking };
        }
        looking
    }

    fn act(&mut self, step: Step) -> Result<(), Stop> {
        self.tell(|| format!("{step:?}, {}", self.told_group()));
        self.work()?;
        match step.action {
            Action::Rest => {}
            Action::Bulk if self.plan.is_crowded => self.bulk()?,
            Action::Bulk => {}
            Action::Pull => self.pull(),
            Action::PullPair => self.pull_pair()?,
            Action::LosePair => self.lose_pair()?,
            Action::GiveBack => self.give_back(),
            Action::Remount => self.remount()?,
            Action::Resync => self.resync()?,
            Action::Cut => self.cut()?,
            Action::Snapshot => self.change_pfs()?,
            Action::BeginScan => self.begin_scan()?,
            Action::EndScan => self.end_scan()?,
            Action::Split => self.split()?,
            Action::Mounts => self.stale_mounts()?,
            Action::Look => self.look()?,
            Action::Heal => self.heal()?,
            Action::Members => self.change_members()?,
            Action::Lose => self.lose_disk()?,
            Action::PutBack => self.put_back()?,
            Action::Promote => self.promote()?,
            Action::Blackout => self.blackout()?,
        }
        self.check_memory()
    }

    fn work(&mut self) -> Result<(), Stop> {
        let count = self.random.below(self.plan.work);
        for _ in 0..count {
            let labels: Vec<Vec<u8>> = self.trees.keys().cloned().collect();
            let label = match self.random.once_in(4) {
                true => self.random.pick(&labels).clone(),
                false => b"DATA".to_vec(),
            };
            let pfs = self.open_tree(&label)?;
            let op = self.swarm.next(&mut self.random, &self.trees[&label].model);
            match op {
                Op::Flush { always } => self.commit(always)?,
                Op::Remount => {}
                op => self.within(&label, pfs, &op)?,
            }
        }
        if self.random.once_in(2) { self.commit(false) } else { Ok(()) }
    }

    fn open_tree(&mut self, label: &[u8]) -> Result<Pfs, Stop> {
        if let Some(pfs) = self.trees.get(label).and_then(|tree| tree.pfs) {
            return Ok(pfs);
        }
        let pfs = ready(self.host().open_tree(label)).map_err(|error| self.told(error))?;
        if let Some(tree) = self.trees.get_mut(label) {
            tree.pfs = Some(pfs);
        }
        Ok(pfs)
    }

    fn within(&mut self, label: &[u8], pfs: Pfs, op: &Op) -> Result<(), Stop> {
        self.time += 1;
        self.ran.operations += 1;
        let (commits, before) = (self.commits(), settled(&self.trees));
        self.maybe.push(before.clone());
        let host = self.host.as_ref().expect("mounted");
        let tree = self.trees.get_mut(label).expect("it is there");
        let done = apply(host, pfs, &mut tree.model, op, START + self.time * 1000);
        match done {
            Ok(done) => {
                self.maybe.pop();
                if self.commits() != commits {
                    self.is_overtaken = true;
                    self.acknowledged(before, self.in_sync());
                    self.ran.full += u64::from(!done);
                }
                Ok(())
            }
            Err(error) => Err(self.stopped(|| format!("{op:?}: {error}"))),
        }
    }

    fn commits(&self) -> u64 {
        self.host().with_memory(Memory::commits)
    }

    /// What was acknowledged is on these disks.
    fn acknowledged(&mut self, trees: Trees, line: u8) {
        self.ran.commits += 1;
        self.line = line;
        self.scanned &= line;
        (self.old, self.lost) = (self.old & !line, self.lost & !line);
        // a copy that was left in the midst of a commit may show that for ever
        let mut past = std::mem::take(&mut self.maybe);
        past.push(std::mem::replace(&mut self.acked, trees));
        past.retain(|trees| *trees != self.acked && self.history.last() != Some(trees));
        self.history.append(&mut past);
        let len = self.history.len();
        self.history.drain(..len.saturating_sub(HISTORY_MAX));
    }

    /// What was to leave `trees` is done; it is acknowledged if there was anything to do.
    fn done(&mut self, commits: u64, trees: Trees) {
        if self.commits() == commits {
            self.maybe.pop();
        } else {
            self.acknowledged(trees, self.in_sync());
        }
    }

    fn commit(&mut self, always: bool) -> Result<(), Stop> {
        let (commits, now) = (self.commits(), settled(&self.trees));
        self.maybe.push(now.clone());
        self.host().flush_always(always).map_err(|error| self.told(error))?;
        self.done(commits, now);
        Ok(self.epoch_on_all()?)
    }

    /// I5: whatever is read is what was written, whatever disks gave back. I15: nothing is kept for
    /// a copy that is away.
    fn check_memory(&self) -> Result<(), Stop> {
        let waiting = |flusher: &Flusher| flusher.writer().waiting_bytes();
        let waiting = self.host().with_flusher(|flusher| flusher.map_or(0, waiting));
        if waiting != 0 {
            return Err(Stop::Wrong(format!("I15: {waiting} bytes wait to be written")));
        }
        for (label, tree) in &self.trees {
            if let Some(pfs) = tree.pfs {
                compare(self.host(), pfs, &tree.model, true)
                    .map_err(|what| format!("memory, {}: {what}", label.escape_ascii()))
                    .map_err(|what| self.stopped(|| what))?;
            }
        }
        Ok(())
    }
}
