//! One life of a group of copies: what happens to it, and what it should hold.

use std::collections::BTreeMap;

use farrier_core::copies::lineage;
use farrier_core::drive::change::Origin;
use farrier_core::drive::pfs::{Birth, PfsChange};
use farrier_core::drive::ready;
use farrier_core::error::{Error, Refusal};
use farrier_core::fs::{GetAttributes, New, OpenPfs, Pfs};
use farrier_core::media::header::Version;
use farrier_core::scan::Bulkfree;
use farrier_core::storage::Storage as _;
use farrier_core::units::{DeviceIndex, Inum, Uuid, WallTime};
use farrier_core::volume::{FormatOptions, OpenOptions, format};

use super::bay::{Bay, Silent};
use super::media::{Walked, fallback_roots, is_starved, merkle_and_identity, open};
use super::plan::Plan;
use super::{Ran, Trees};
use crate::against::{compare, compare_all};
use crate::host::TestHost;
use crate::model::{Creation, Model};
use crate::ops::{Op, Random, Swarm, apply};
use crate::rack::Mode;
use crate::writing::WritingHost;

const START: u64 = 1_700_000_000_000_000;
/// States that copies which are out of date may show are remembered, so many.
const HISTORY_MAX: usize = 400;

#[derive(Debug)]
struct Tree {
    pfs: Option<Pfs>,
    model: Model,
}

/// A group of copies, mounted or not, and what it should hold.
#[derive(Debug)]
pub struct Life {
    plan: Plan,
    bay: Bay,
    random: Random,
    swarm: Swarm,
    host: Option<WritingHost<Bay>>,
    shown: u8,
    trees: BTreeMap<Vec<u8>, Tree>,
    /// What the last commit that was acknowledged left.
    acked: Trees,
    /// What may be there instead, of commits that nobody was told of: until the next one is.
    maybe: Vec<Trees>,
    history: Vec<Trees>,
    scan: Option<Bulkfree>,
    /// A flush made room, perhaps by a scan of its own.
    is_overtaken: bool,
    time: u64,
    step: u64,
    ran: Ran,
    show: bool,
}

/// What goes wrong in a life: the core did, or the power went.
#[derive(Debug)]
enum Stop {
    Dark,
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

impl Life {
    /// A new group.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(plan: Plan, show: bool) -> Self {
        let mut random = Random::new(plan.seed);
        let bay = Bay::new(&plan.sizes, Random::new(random.next()));
        format_copies(&bay);
        let swarm = Swarm::new(&mut random);
        let shown = (1 << plan.sizes.len()) - 1;
        Self {
            plan,
            bay,
            random,
            swarm,
            host: None,
            shown,
            trees: BTreeMap::new(),
            acked: Trees::new(),
            maybe: Vec::new(),
            history: Vec::new(),
            scan: None,
            is_overtaken: false,
            time: 0,
            step: 0,
            ran: Ran::default(),
            show,
        }
    }

    /// The step that it is at.
    #[must_use]
    pub const fn step(&self) -> u64 {
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
        while self.step < self.plan.steps {
            self.step += 1;
            match self.act() {
                Ok(()) => {}
                Err(Stop::Dark) => self.power_cut()?,
                Err(Stop::Wrong(error)) => return Err(error),
            }
        }
        self.end()?;
        self.ran.harm = self.bay.harm();
        Ok(self.ran)
    }

    fn found(&mut self) -> Result<(), String> {
        let host = open(&self.bay, lineage::Options::default())?;
        for label in [b"LOCAL".to_vec(), b"DATA".to_vec()] {
            let super_root = host.volume().super_root();
            let pfs = host.run(&OpenPfs { super_root, label: label.clone() });
            let pfs = pfs.map_err(|error| format!("{error:?}"))?;
            let root = host.run(&GetAttributes { pfs, inum: Inum::ROOT });
            let root = root.map_err(|error| format!("{error:?}"))?;
            self.acked.insert(label, Model::new(root));
        }
        self.mount(self.shown, false)
    }

    fn all(&self) -> u8 {
        self.shown_mask(|_| true)
    }

    fn shown_mask(&self, is_one: impl Fn(u8) -> bool) -> u8 {
        let count = u8::try_from(self.plan.sizes.len()).unwrap_or(0);
        (0..count).filter(|disk| is_one(*disk)).fold(0, |mask, disk| mask | 1 << disk)
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

    fn told(&self, error: Error) -> Stop {
        match self.bay.is_dark() {
            true => Stop::Dark,
            false => Stop::Wrong(format!("{error:?}")),
        }
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

    fn act(&mut self) -> Result<(), Stop> {
        let action = self.random.below(20);
        if self.show {
            println!("step {}: action {action}", self.step);
        }
        self.work()?;
        match action {
            0 | 1 => self.pull(),
            2 | 3 => self.give_back(),
            4 | 5 => self.remount()?,
            6..=9 => self.resync()?,
            10 | 11 => {
                let fuse = self.random.below(60);
                self.bay.set_fuse(fuse);
                let budget = self.random.below(2 << 20);
                if self.random.once_in(2) {
                    self.batch(budget)?;
                }
                self.work()?;
                self.commit(true)?;
            }
            12 => self.change_pfs()?,
            13 => self.begin_scan()?,
            14 => self.end_scan()?,
            15 => self.split()?,
            16 => self.stale_mounts()?,
            17 => self.look()?,
            18 => self.pull_pair()?,
            _ if self.plan.is_crowded => self.bulk()?,
            _ => {}
        }
        self.check_memory()?;
        Ok(())
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
                    self.acknowledged(before);
                    self.ran.full += u64::from(!done);
                }
                Ok(())
            }
            Err(_) if self.bay.is_dark() => Err(Stop::Dark),
            Err(error) => Err(Stop::Wrong(format!("{op:?}: {error}"))),
        }
    }

    fn commits(&self) -> u64 {
        self.host().with_memory(|memory| memory.commits())
    }

    fn acknowledged(&mut self, trees: Trees) {
        self.ran.commits += 1;
        if self.acked != trees {
            self.history.push(std::mem::replace(&mut self.acked, trees));
            let len = self.history.len();
            self.history.drain(..len.saturating_sub(HISTORY_MAX));
        }
        self.maybe.clear();
    }

    /// What was to leave `trees` is done; it is acknowledged if there was anything to do.
    fn done(&mut self, commits: u64, trees: Trees) {
        if self.commits() == commits {
            self.maybe.pop();
        } else {
            self.acknowledged(trees);
        }
    }

    fn commit(&mut self, always: bool) -> Result<(), Stop> {
        let (commits, now) = (self.commits(), settled(&self.trees));
        self.maybe.push(now.clone());
        self.host().flush_always(always).map_err(|error| self.told(error))?;
        self.done(commits, now);
        Ok(self.epoch_on_all()?)
    }

    /// I11: what was acknowledged has its epoch on every copy in sync.
    fn epoch_on_all(&self) -> Result<(), String> {
        let is_begun = self.host().with_flusher(|flusher| {
            let lineage = flusher.and_then(|flusher| flusher.lineage());
            lineage.map(|lineage| (lineage.group().epoch.id, lineage.set().in_sync()))
        });
        let Some((id, members)) = is_begun else { return Ok(()) };
        for disk in (0..4).filter(|disk| members & !self.victim() & 1 << disk != 0) {
            let options = lineage::Options { only_copy: Some(disk), ..Default::default() };
            let host = open(&self.bay.show(1 << disk).durable(), options)?;
            let found = host.volume().group().map(|group| group.group().epoch.id);
            if found != Some(id) {
                return Err(format!("I11: copy {disk} has {found:?}, not {id:?}"));
            }
        }
        Ok(())
    }

    fn pull(&mut self) {
        let good = self.good();
        let whole: Vec<u8> = (0..4)
            .filter(|disk| self.fine() & self.shown & 1 << disk != 0)
            .filter(|disk| good & !(1 << disk) != 0)
            .collect();
        if whole.is_empty() || self.bay.switches() {
            return;
        }
        let disk = *self.random.pick(&whole);
        let mode = *self.random.pick(&[Mode::Gone, Mode::Late, Mode::NoWrites]);
        self.ran.pulled += 1;
        let after = self.random.below(40);
        if self.random.once_in(2) {
            self.bay.set_after(after, disk, mode);
        } else {
            self.bay.set(disk, mode);
        }
    }

    /// Two disks forget what they are told, and say so at the same barrier.
    fn pull_pair(&mut self) -> Result<(), Stop> {
        let good = self.good();
        let pair: Vec<u8> = (0..4).filter(|disk| good & 1 << disk != 0).skip(1).take(2).collect();
        if pair.len() < 2 || good.count_ones() < 3 {
            return Ok(());
        }
        self.work()?;
        pair.iter().for_each(|disk| self.bay.set(*disk, Mode::Late));
        self.ran.pulled += 2;
        self.work()?;
        if self.plan.is_crowded {
            self.bulk()?;
            self.bulk()?;
        }
        self.commit(true)?;
        if self.plan.is_crowded {
            // more than the small disk has room for, while it is away
            self.bulk()?;
            self.bulk()?;
        }
        self.give_back();
        self.remount()
    }

    /// Some megabytes at once.
    fn bulk(&mut self) -> Result<(), Stop> {
        const STEP: usize = 256 << 10;
        let label = b"DATA".to_vec();
        let pfs = self.open_tree(&label)?;
        let (directory, name) = (1, format!("bulk{}", self.time).into_bytes());
        let (new, mode, uid, gid) = (New::File, 0o600, 0, 0);
        let create = Creation { directory, name: name.clone(), new, mode, uid, gid };
        self.within(&label, pfs, &Op::Create(create))?;
        let inum = self.trees[&label].model.get(1).ok().and_then(|root| root.names.get(&name));
        let Some(inum) = inum.copied() else { return Ok(()) };
        for step in 0..8 + self.random.below(24) {
            let fill = 6 * self.random.below(1 << 40) + 4;
            let offset = Some(step * STEP as u64);
            self.within(&label, pfs, &Op::Write { inum, offset, len: STEP, fill })?;
        }
        Ok(())
    }

    fn give_back(&mut self) {
        self.bay.switch_now();
        let away = self.shown_mask(|disk| self.bay.mode(disk) != Mode::Fine);
        for disk in (0..4).filter(|disk| away & 1 << disk != 0) {
            if !self.random.once_in(3) {
                self.bay.set(disk, Mode::Fine);
            }
        }
    }

    /// The volume is left as it is, and mounted with the disks that are there.
    fn remount(&mut self) -> Result<(), Stop> {
        if self.random.once_in(2) {
            self.commit(false)?;
        }
        self.settle()?;
        Ok(())
    }

    /// Mounts what there is, after it was left in whatever state.
    fn settle(&mut self) -> Result<(), String> {
        self.bay.switch_now();
        self.host = None;
        self.scan = None;
        // what was held back by a cache is not lost by a mere unmounting
        self.stale_mounts()?;
        let fine = self.shown_mask(|disk| self.bay.mode(disk) == Mode::Fine);
        self.mount(fine, true)
    }

    fn power_cut(&mut self) -> Result<(), String> {
        self.ran.cuts += 1;
        self.host = None;
        self.bay.power_cycle();
        self.settle()
    }

    fn mount(&mut self, shown: u8, may_accept: bool) -> Result<(), String> {
        self.ran.mounts += 1;
        // a disk that lied may have no header left: it is not named then
        let has_header = |disk: u8| {
            let alone = lineage::Options { only_copy: Some(disk), ..Default::default() };
            self.victim() & 1 << disk == 0 || open(&self.bay.show(1 << disk).fork(), alone).is_ok()
        };
        let shown = shown & self.shown_mask(has_header);
        self.shown = shown;
        let bay = self.bay.show(shown);
        let looked = open(&bay.fork(), lineage::Options::default())?;
        let decision = looked.volume().group().ok_or("no copies")?.decision();
        let mut copies = lineage::Options::default();
        if let Err(why) = decision.writable {
            if !may_accept {
                return Err(format!("{why:?}"));
            }
            self.ran.accepted += 1;
            copies.accept_missing = true;
        }
        self.adopt(&looked)?;
        let options = OpenOptions { copies, ..OpenOptions::default() };
        let host = WritingHost::with(bay, options, self.plan.cache)
            .map_err(|error| format!("mounting {shown:b}: {error:?}"))?;
        self.time += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&(self.time + 1).to_le_bytes());
        host.set_origin(Origin { id, host: Uuid([7; 16]), time: WallTime(START + self.time) });
        self.host = Some(host);
        Ok(())
    }

    /// I1 and I2: what is visible is what was acknowledged last, or a later flush. Which one it is
    /// lasts only with the next commit.
    fn adopt(&mut self, host: &TestHost<Bay>) -> Result<(), String> {
        let mut wrong = String::new();
        for trees in [&self.acked].into_iter().chain(self.maybe.iter().rev()) {
            match compare_all(host, trees) {
                Ok(()) => {
                    let tree = |(label, model): (&Vec<u8>, &Model)| {
                        (label.clone(), Tree { pfs: None, model: model.clone() })
                    };
                    self.trees = trees.iter().map(tree).collect();
                    return Ok(());
                }
                Err(error) => wrong = format!("{wrong}\n{error}"),
            }
        }
        Err(format!("I1: neither of the states that may be there: {wrong}"))
    }

    /// I13: who may be written unasked has all that was acknowledged. I2 for the others.
    fn stale_mounts(&mut self) -> Result<(), String> {
        for mask in 1..=self.all() {
            let bay = self.bay.show(mask).fork();
            let Ok(host) = open(&bay, lineage::Options::default()) else { continue };
            let group = host.volume().group().ok_or("no copies")?;
            let is_writable = group.decision().writable.is_ok();
            let now = [&self.acked].into_iter().chain(&self.maybe);
            let mut past = now.clone().chain(self.history.iter().rev());
            if mask & !self.victim() == 0 {
                continue;
            }
            if is_writable {
                let mut now = now.map(|trees| compare_all(&host, trees));
                let first = now.next().unwrap_or(Ok(()));
                if first.is_err() && !now.any(|same| same.is_ok()) {
                    return Err(format!("I13: {mask:b} may be written: {first:?}"));
                }
            } else if mask & self.victim() == 0
                && self.random.once_in(4)
                && !past.any(|trees| compare_all(&host, trees).is_ok())
            {
                return Err(format!("I2: {mask:b} shows what never was a flush"));
            }
        }
        Ok(())
    }

    fn behind(&self) -> u8 {
        self.host().with_flusher(|flusher| {
            let set = flusher.and_then(|flusher| flusher.lineage()).map(|lineage| lineage.set());
            set.map_or(0, |set| set.attached() & !set.in_sync())
        })
    }

    fn resync(&mut self) -> Result<(), Stop> {
        let budget = match self.random.below(4) {
            0 => u64::MAX,
            1 => 1,
            _ => self.random.below(4 << 20),
        };
        if self.random.once_in(4) {
            self.pull();
        }
        self.commit(false)?;
        let behind = self.behind();
        let was_still = self.bay.is_still(self.shown);
        let before = self.walked()?;
        for disk in 0..4_u8.min(u8::try_from(self.plan.sizes.len()).unwrap_or(0)) {
            let _ = self.bay.take_traffic(disk);
        }
        self.batch(budget)?;
        let is_still = was_still && self.bay.is_still(self.shown);
        let is_quiet = self.victim() == 0 && is_still;
        if is_quiet && behind.count_ones() == 1 {
            let disk = u8::try_from(behind.trailing_zeros()).unwrap_or(0);
            let traffic = self.bay.take_traffic(disk);
            if traffic.reads > 0 {
                return Err(Stop::Wrong(format!("I6: copy {disk} was read: {traffic:?}")));
            }
        }
        if let (Some(before), Some(after)) = (before, self.walked()?) {
            for disk in (0..4).filter(|disk| is_quiet && behind & 1 << disk != 0) {
                let (was, is) = (before.lacking[disk], after.lacking[disk]);
                if is > was {
                    return Err(Stop::Wrong(format!("I7: copy {disk} lacks {is}, not {was}")));
                }
            }
        }
        Ok(())
    }

    fn walked(&mut self) -> Result<Option<Walked>, String> {
        let fine = self.fine() & self.shown;
        if self.in_sync() & !fine != 0
            || self.host().volume().copies().is_some_and(|l| l.lost() != 0)
        {
            return Ok(None);
        }
        self.ran.looks += 1;
        merkle_and_identity(&self.bay.show(self.shown), self.victim()).map(Some)
    }

    fn batch(&mut self, budget: u64) -> Result<(u8, u8), Stop> {
        let commits = self.commits();
        self.maybe.push(settled(&self.trees));
        self.ran.batches += 1;
        let filled = ready(self.host().resync(budget)).map_err(|error| self.told(error))?;
        self.done(commits, settled(&self.trees));
        if filled.unreadable != 0 && !self.bay.is_dark() {
            return Err(Stop::Wrong(format!("nobody has what is missing: {filled:?}")));
        }
        self.ran.joined += u64::from(filled.joined.count_ones());
        self.epoch_on_all()?;
        Ok((filled.joined, filled.behind))
    }

    fn change_pfs(&mut self) -> Result<(), Stop> {
        let labels: Vec<Vec<u8>> = self.trees.keys().cloned().collect();
        let label = self.random.pick(&labels).clone();
        self.time += 1;
        let time = START + self.time * 1000;
        self.commit(false)?;
        let is_open = self.trees[&label].pfs.is_some();
        let is_ours = matches!(&label[..], b"DATA" | b"LOCAL");
        let (change, after) = if !is_ours && !is_open && self.random.once_in(2) {
            let mut after = settled(&self.trees);
            after.remove(&label);
            (PfsChange::Delete { label }, after)
        } else {
            let pfs = self.open_tree(&label)?;
            let mut id = [0x11; 16];
            id[..8].copy_from_slice(&time.to_le_bytes());
            let mut other = id;
            other[15] = 0x22;
            let birth = Birth { cluster_id: Uuid(id), pfs_id: Uuid(other), now: WallTime(time) };
            let name = format!("snap{}", self.time).into_bytes();
            let mut after = settled(&self.trees);
            after.insert(name.clone(), self.trees[&label].model.snapshot(time));
            self.ran.snapshots += 1;
            (PfsChange::Snapshot { of: pfs.id(), label: name, birth }, after)
        };
        self.maybe.push(after.clone());
        match self.host().change_pfs(&change) {
            Ok(()) => {
                for (label, model) in &after {
                    let tree = || Tree { pfs: None, model: model.clone() };
                    self.trees.entry(label.clone()).or_insert_with(tree);
                }
                self.trees.retain(|label, _| after.contains_key(label));
                self.acknowledged(after);
                Ok(())
            }
            Err(Error::NoSpace) => {
                self.maybe.pop();
                self.is_overtaken = true;
                Ok(())
            }
            Err(error) => Err(self.told(error)),
        }
    }

    fn begin_scan(&mut self) -> Result<(), Stop> {
        let (commits, now) = (self.commits(), settled(&self.trees));
        self.maybe.push(now.clone());
        let scan = ready(self.host().begin_bulkfree()).map_err(|error| self.told(error))?;
        self.done(commits, now);
        (self.scan, self.is_overtaken) = (Some(scan), false);
        Ok(())
    }

    fn end_scan(&mut self) -> Result<(), Stop> {
        let Some(scan) = self.scan.take() else { return Ok(()) };
        let now = settled(&self.trees);
        self.maybe.push(now.clone());
        match ready(self.host().finish_bulkfree(scan)) {
            Ok(freed) if freed.corrupt_bytes == 0 => {
                self.ran.scans += 1;
                self.acknowledged(now);
                Ok(())
            }
            Ok(freed) => Err(Stop::Wrong(format!("I9: a scan found {freed:?}"))),
            Err(Error::Busy) if self.is_overtaken => Ok(()),
            Err(error) => Err(self.told(error)),
        }
    }

    /// I12: two sides that went on without each other are met as a split.
    fn split(&mut self) -> Result<(), Stop> {
        self.commit(true)?;
        let good = self.good();
        let members = self.in_sync();
        if good.count_ones() < 2
            || members & !good & !self.victim() != 0
            || !self.bay.is_still(self.shown)
        {
            return Ok(());
        }
        let first = 1 << good.trailing_zeros();
        let bay = self.bay.fork();
        for (side, number) in [(first, 1), (good & !first, 2)] {
            let copies = lineage::Options { accept_missing: true, ..Default::default() };
            let options = OpenOptions { copies, ..OpenOptions::default() };
            let host = WritingHost::with(bay.show(side), options, 1 << 20)
                .map_err(|error| format!("a side by itself: {error:?}"))?;
            let id = [number; 16];
            host.set_origin(Origin { id, host: Uuid(id), time: WallTime(START) });
            host.flush_always(true).map_err(|error| format!("a side by itself: {error:?}"))?;
        }
        self.ran.splits += 1;
        let met = TestHost::over(bay.show(good), false, 1 << 20);
        match met.map(|_| ()) {
            Err(Error::Refused(Refusal::Copies { code: "FC-S01" })) => Ok(()),
            other => Err(Stop::Wrong(format!("I12: a split is {other:?}"))),
        }
    }

    /// The invariants that speak of media.
    fn look(&mut self) -> Result<(), Stop> {
        self.commit(false)?;
        if self.walked()?.is_none() {
            return Ok(());
        }
        let roots = fallback_roots(&self.bay.show(self.shown), self.victim() | !self.fine())?;
        for (copy, host) in roots {
            let mut past =
                [&self.acked].into_iter().chain(&self.maybe).chain(self.history.iter().rev());
            if !past.any(|trees| compare_all(&host, trees).is_ok()) {
                return Err(Stop::Wrong(format!("I10: copy {copy} shows what never was")));
            }
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), Stop> {
        for (label, tree) in &self.trees {
            if let Some(pfs) = tree.pfs {
                compare(self.host(), pfs, &tree.model, true)
                    .map_err(|what| format!("memory, {}: {what}", label.escape_ascii()))
                    .map_err(|what| if self.bay.is_dark() { Stop::Dark } else { what.into() })?;
            }
        }
        Ok(())
    }

    /// I8: without faults everything gets in sync.
    fn end(&mut self) -> Result<(), String> {
        let wrong = |stop| match stop {
            Stop::Dark => "dark without a fuse".to_string(),
            Stop::Wrong(error) => error,
        };
        if self.bay.has_fuse() {
            self.power_cut()?;
        }
        self.bay.switch_now();
        for disk in 0..u8::try_from(self.plan.sizes.len()).unwrap_or(0) {
            self.bay.set(disk, Mode::Fine);
            self.bay.set_silent(disk, Silent::default());
        }
        self.bay.forgive();
        self.settle()?;
        self.commit(true).map_err(wrong)?;
        self.converge().map_err(wrong)?;
        self.look().map_err(wrong)?;
        self.check_memory().map_err(wrong)
    }

    fn converge(&mut self) -> Result<(), Stop> {
        let mut behind = self.behind();
        for number in 0..60 {
            if behind == 0 {
                return Ok(());
            }
            let budget = (64 << 10) + self.random.below(8 << 20);
            behind = self.batch(budget)?.1;
            if number % 10 == 9 {
                // tables that were written anew leave their places behind
                self.begin_scan()?;
                self.end_scan()?;
            }
        }
        // what has no room waits until it has some
        if is_starved(&self.bay.show(self.shown))? {
            self.ran.full += 1;
            return Ok(());
        }
        Err(Stop::Wrong(format!("I8: {behind:b} do not get in sync")))
    }
}

fn format_copies(bay: &Bay) {
    let count = u8::try_from(bay.device_count()).expect("four at most");
    let sizes = (0..count).map(|index| bay.size(DeviceIndex(index))).collect();
    let mut number = 0_u8;
    let options = FormatOptions {
        version: Version::Copies,
        ..FormatOptions::new(sizes, WallTime(1_600_000_000_000_000))
    };
    let formatted = format(&options, |bytes| {
        number += 1;
        bytes.fill(number);
    });
    ready(farrier_core::drive::format(bay, &formatted.expect("it can be formatted")))
        .expect("the disks are fine");
}
