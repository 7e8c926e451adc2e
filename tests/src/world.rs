//! A whole volume in memory and its models, side by side: several PFSs, snapshots of them, remounts,
//! and bulk scans that go on beside everything else.
//!
//! A PFS is a [`Model`], a snapshot a copy of one. PFSs come and go with a commit of everything, so
//! what is on media has the same labels as what is in memory.

use std::collections::{BTreeMap, BTreeSet};

use farrier_core::drive::change::Origin;
use farrier_core::drive::pfs::{Birth, PfsChange};
use farrier_core::drive::{Host, ready};
use farrier_core::error::Error;
use farrier_core::fs::{GetAttributes, ListPfs, New, OpenPfs, Pfs};
use farrier_core::scan::{Bulkfree, Step};
use farrier_core::storage::Storage;
use farrier_core::units::{Inum, Uuid, WallTime};

use crate::against::{compare, compare_pfs, dirt};
use crate::host::TestHost;
use crate::model::{Creation, Model, Set};
use crate::ops::{Op, Random, Swarm, apply};
use crate::ram::RamDisk;
use crate::session::{Ran, nothing};
use crate::writing::{WritingHost, format_storage};

/// Time of the first operation.
const START: u64 = 1_700_000_000_000_000;

/// Something that happens to a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorldOp {
    /// An operation on the PFS with this label.
    In(Label, Op),
    /// Everything is committed.
    Flush {
        /// Even if nothing was changed.
        always: bool,
    },
    /// The volume is left as it is and opened again.
    Remount,
    /// An empty PFS is made.
    Create(Label),
    /// A snapshot: of the first, called the second.
    Snapshot(Label, Label),
    /// A PFS goes.
    Delete(Label),
    /// A PFS is called otherwise.
    Rename(Label, Label),
    /// A bulk scan begins; the one before has lost its meaning.
    Begin,
    /// The scan reads so many batches of blocks.
    Scan(u64),
    /// The scan ends, and what it did not find is freed.
    Finish,
    /// The scan is forgotten.
    Drop,
}

type Label = Vec<u8>;

/// A PFS, and what it should hold.
#[derive(Debug)]
struct Tree {
    /// If it is open for writing.
    pfs: Option<Pfs>,
    model: Model,
    committed: Model,
}

/// A scan on its way.
#[derive(Debug)]
struct Scanning {
    scan: Bulkfree,
    /// An operation may have made room by a scan of its own.
    may_be_overtaken: bool,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorldRan {
    /// Operations, refusals, comparisons.
    pub ran: Ran,
    /// PFSs that were made, snapshots among them.
    pub made: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// PFSs that went.
    pub deleted: u64,
    /// Scans that came to their end.
    pub scans: u64,
    /// Scans that another one overtook.
    pub overtaken: u64,
    /// Bytes that scans freed.
    pub freed: u64,
}

impl WorldRan {
    /// Both together.
    pub const fn add(&mut self, other: &Self) {
        self.ran.operations += other.ran.operations;
        self.ran.full += other.ran.full;
        self.ran.refused += other.ran.refused;
        self.ran.compared += other.ran.compared;
        self.made += other.made;
        self.snapshots += other.snapshots;
        self.deleted += other.deleted;
        self.scans += other.scans;
        self.overtaken += other.overtaken;
        self.freed += other.freed;
    }
}

/// A volume that is open for writing, and what it should hold.
#[derive(Debug)]
pub struct World<S = RamDisk> {
    disk: S,
    host: WritingHost<S>,
    trees: BTreeMap<Label, Tree>,
    scanning: Option<Scanning>,
    cache_bytes: usize,
    ran: WorldRan,
}

impl World {
    /// A new volume of `len` bytes.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(len: u64, cache_bytes: usize) -> Self {
        let disk = RamDisk::new(usize::try_from(len).expect("sizes fit"));
        Self::over(disk, cache_bytes)
    }
}

impl<S: Storage + Clone> World<S> {
    /// A new volume on `disk`.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn over(disk: S, cache_bytes: usize) -> Self {
        format_storage(&disk);
        let host =
            WritingHost::open(disk.clone(), cache_bytes).expect("a new volume can be opened");
        let (trees, ran) = (BTreeMap::new(), WorldRan::default());
        let mut world = Self { disk, host, trees, scanning: None, cache_bytes, ran };
        world.set_origin();
        for label in [b"LOCAL".to_vec(), b"DATA".to_vec()] {
            world.found(label).expect("a new volume has its PFSs");
        }
        world
    }

    /// Its host has chance and a clock.
    fn set_origin(&self) {
        let mut id = [1; 16];
        id[8..].copy_from_slice(&self.ran.ran.operations.to_le_bytes());
        self.host.set_origin(Origin { id, host: Uuid([7; 16]), time: WallTime(START) });
    }

    /// What it is open by.
    pub const fn host(&self) -> &WritingHost<S> {
        &self.host
    }

    /// From the next opening on it is on other devices.
    pub fn move_to(&mut self, disk: S) {
        self.disk = disk;
    }

    /// Does something to the volume that commits, if it does anything.
    pub fn with_host<R>(&mut self, work: impl FnOnce(&WritingHost<S>) -> R) -> R {
        let commits = self.commits();
        let result = work(&self.host);
        if self.commits() != commits {
            self.committed();
            if let Some(scanning) = &mut self.scanning {
                scanning.may_be_overtaken = true;
            }
        }
        result
    }

    /// A PFS that is empty is there.
    fn found(&mut self, label: Label) -> Result<(), String> {
        let super_root = self.host.with_memory(|memory| *memory.super_root());
        let open = OpenPfs { super_root, label: label.clone() };
        let told = |error: Error| format!("a PFS that is there: {error:?}");
        let pfs = self.host.run(&open).map_err(told)?;
        let root = self.host.run(&GetAttributes { pfs, inum: Inum::ROOT }).map_err(told)?;
        let model = Model::new(root);
        self.trees.insert(label, Tree { pfs: None, committed: model.clone(), model });
        Ok(())
    }

    fn open(&mut self, label: &Label) -> Result<Pfs, String> {
        let tree = self.trees.get_mut(label).ok_or("no such PFS")?;
        if let Some(pfs) = tree.pfs {
            return Ok(pfs);
        }
        let pfs = ready(self.host.open_tree(label)).map_err(|error| format!("{error:?}"))?;
        tree.pfs = Some(pfs);
        Ok(pfs)
    }

    /// The device.
    pub const fn disk(&self) -> &S {
        &self.disk
    }

    /// What the last commit left.
    pub fn on_media(&self) -> BTreeMap<Label, Model> {
        let committed = |(label, tree): (&Label, &Tree)| (label.clone(), tree.committed.clone());
        self.trees.iter().map(committed).collect()
    }

    fn commits(&self) -> u64 {
        self.host.with_memory(|memory| memory.commits())
    }

    fn committed(&mut self) {
        for tree in self.trees.values_mut() {
            tree.committed = tree.model.settled();
        }
    }

    /// Does `op` to both.
    ///
    /// # Errors
    /// What they do not agree on.
    pub fn apply(&mut self, op: &WorldOp) -> Result<(), String> {
        self.ran.ran.operations += 1;
        let time = START + self.ran.ran.operations * 1000;
        match op {
            WorldOp::In(label, op) => self.within(label, op, time),
            WorldOp::Flush { always } => {
                self.host.flush_always(*always).map_err(|error| format!("{error:?}"))?;
                self.committed();
                Ok(())
            }
            WorldOp::Remount => self.remount(),
            WorldOp::Create(label) => self.create(label, time),
            WorldOp::Snapshot(of, label) => self.snapshot(of, label, time),
            WorldOp::Delete(label) => {
                let refusal = self.refusal_of(label);
                if self.change(&PfsChange::Delete { label: label.clone() }, refusal)? {
                    self.trees.remove(label);
                    self.ran.deleted += 1;
                }
                Ok(())
            }
            WorldOp::Rename(label, new_label) => {
                let clash = self.trees.contains_key(new_label).then_some(Error::Exists);
                let refusal = self.refusal_of(label).or(clash);
                let (label, new_label) = (label.clone(), new_label.clone());
                let change = PfsChange::Rename { label: label.clone(), new_label };
                if self.change(&change, refusal)?
                    && let PfsChange::Rename { new_label, .. } = change
                    && let Some(tree) = self.trees.remove(&label)
                {
                    self.trees.insert(new_label, tree);
                }
                Ok(())
            }
            WorldOp::Begin => self.begin(),
            WorldOp::Scan(batches) => {
                if let Some(Scanning { scan, .. }) = &mut self.scanning {
                    for _ in 0..*batches {
                        let Step::Read(wants) = scan.step() else { break };
                        let got = wants.iter().map(|want| ready(self.host.fetch(want)));
                        scan.resume(got.collect());
                    }
                }
                Ok(())
            }
            WorldOp::Finish => self.finish(),
            WorldOp::Drop => {
                self.scanning = None;
                Ok(())
            }
        }
    }

    /// Leaves about `left` bytes of room.
    fn fill(&mut self, label: &Label, left: u64) -> Result<(), String> {
        const STEP: usize = 256 << 10;
        let (directory, name) = (1, b"filler".to_vec());
        let (new, mode, uid, gid) = (New::File, 0o600, 0, 0);
        let create = Creation { directory, name: name.clone(), new, mode, uid, gid };
        self.apply(&WorldOp::In(label.clone(), Op::Create(create)))?;
        let names = &self.trees[label].model.get(1).map_err(|error| format!("{error:?}"))?.names;
        let inum = *names.get(&name).ok_or("no room at all")?;
        let mut steps = 0;
        while self.ran.ran.full == 0 {
            let (offset, fill) = (Some(steps * STEP as u64), 6 * steps + 4);
            let write = Op::Write { inum, offset, len: STEP, fill };
            self.apply(&WorldOp::In(label.clone(), write))?;
            steps += 1;
        }
        let size = Some((steps * STEP as u64).saturating_sub(left));
        let cut = Op::Set { inum, set: Set { size, ..Set::default() } };
        self.apply(&WorldOp::In(label.clone(), cut))
    }

    /// Commits went by that nobody asked for: room was made.
    fn room_was_made(&mut self, before: &BTreeMap<Label, Model>) {
        for (label, tree) in &mut self.trees {
            tree.committed = before.get(label).unwrap_or(&tree.model).settled();
        }
        if let Some(scanning) = &mut self.scanning {
            scanning.may_be_overtaken = true;
        }
    }

    fn models(&self) -> BTreeMap<Label, Model> {
        self.trees.iter().map(|(label, tree)| (label.clone(), tree.model.clone())).collect()
    }

    fn within(&mut self, label: &Label, op: &Op, time: u64) -> Result<(), String> {
        let pfs = self.open(label)?;
        let (commits, before) = (self.commits(), self.models());
        let tree = self.trees.get_mut(label).ok_or("no such PFS")?;
        let changed = apply(&self.host, pfs, &mut tree.model, op, time);
        if self.commits() != commits {
            self.room_was_made(&before);
            self.ran.ran.full += u64::from(changed == Ok(false));
        }
        self.ran.ran.refused += u64::from(!changed?);
        Ok(())
    }

    fn remount(&mut self) -> Result<(), String> {
        self.scanning = None;
        let host = WritingHost::open(self.disk.clone(), self.cache_bytes);
        self.host = host.map_err(|error| format!("opening: {error:?}"))?;
        self.set_origin();
        for tree in self.trees.values_mut() {
            tree.pfs = None;
            tree.model = tree.committed.clone();
        }
        Ok(())
    }

    /// Why a PFS cannot go or be renamed.
    fn refusal_of(&self, label: &Label) -> Option<Error> {
        match self.trees.get(label) {
            None => Some(Error::NoPfs),
            Some(tree) => tree.pfs.map(|_| Error::Busy),
        }
    }

    fn birth(&self, time: u64) -> Birth {
        let mut id = [0x11; 16];
        id[..8].copy_from_slice(&self.ran.ran.operations.to_le_bytes());
        let mut other = id;
        other[15] = 0x22;
        Birth { cluster_id: Uuid(id), pfs_id: Uuid(other), now: WallTime(time) }
    }

    /// Whether `change` was made; it has to be refused with `refusal`, or be made, unless there is
    /// no room.
    fn change(&mut self, change: &PfsChange, refusal: Option<Error>) -> Result<bool, String> {
        let commits = self.commits();
        let changed = self.host.change_pfs(change);
        if self.commits() != commits {
            self.committed();
        }
        match (changed, refusal) {
            (Ok(()), None) => Ok(true),
            (Err(Error::NoSpace), None) => {
                self.ran.ran.full += 1;
                self.ran.ran.refused += 1;
                Ok(false)
            }
            (Err(error), Some(refusal)) if error == refusal => {
                self.ran.ran.refused += 1;
                Ok(false)
            }
            (changed, refusal) => Err(format!("{changed:?}, expected {refusal:?}")),
        }
    }

    fn create(&mut self, label: &Label, time: u64) -> Result<(), String> {
        let refusal = self.trees.contains_key(label).then_some(Error::Exists);
        let birth = self.birth(time);
        if self.change(&PfsChange::Create { label: label.clone(), birth }, refusal)? {
            self.found(label.clone())?;
            self.ran.made += 1;
        }
        Ok(())
    }

    fn snapshot(&mut self, of: &Label, label: &Label, time: u64) -> Result<(), String> {
        let refusal = self.trees.contains_key(label).then_some(Error::Exists);
        let birth = self.birth(time);
        let pfs = self.open(of)?;
        if self
            .change(&PfsChange::Snapshot { of: pfs.id(), label: label.clone(), birth }, refusal)?
        {
            let model = self.trees[of].model.snapshot(time);
            self.trees.insert(label.clone(), Tree { pfs: None, committed: model.clone(), model });
            self.ran.made += 1;
            self.ran.snapshots += 1;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), String> {
        let scan = ready(self.host.begin_bulkfree()).map_err(|error| format!("{error:?}"))?;
        self.committed();
        let overtaken = self.scanning.replace(Scanning { scan, may_be_overtaken: false });
        if let Some(Scanning { scan, .. }) = overtaken {
            match ready(self.host.finish_bulkfree(scan)) {
                Err(Error::Busy) => self.ran.overtaken += 1,
                other => return Err(format!("a scan that was overtaken came to {other:?}")),
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let Some(Scanning { scan, may_be_overtaken }) = self.scanning.take() else {
            return Ok(());
        };
        match ready(self.host.finish_bulkfree(scan)) {
            Ok(freed) if freed.corrupt_bytes == 0 => {
                self.committed();
                self.ran.scans += 1;
                self.ran.freed += freed.bytes;
                Ok(())
            }
            Err(Error::Busy) if may_be_overtaken => {
                self.ran.overtaken += 1;
                Ok(())
            }
            other => Err(format!("a scan came to {other:?}")),
        }
    }

    /// What is in memory is as the models say.
    ///
    /// # Errors
    /// The first difference.
    pub fn check_memory(&self) -> Result<(), String> {
        for (label, tree) in &self.trees {
            if let Some(pfs) = tree.pfs {
                compare(&self.host, pfs, &tree.model, true)
                    .map_err(|what| format!("memory, {}: {what}", label.escape_ascii()))?;
            }
        }
        Ok(())
    }

    /// What is on media is as the last commit left it, and clean.
    ///
    /// # Errors
    /// The first difference.
    pub fn check_media(&self) -> Result<(), String> {
        let host = TestHost::over(self.disk.clone(), false, 8 << 20).map_err(|e| e.to_string())?;
        let super_root = host.volume().super_root();
        let list = host.run(&ListPfs { super_root }).map_err(|error| error.to_string())?;
        let labels: BTreeSet<&Label> = list.entries.iter().map(|info| &info.label).collect();
        if !labels.iter().copied().eq(self.trees.keys()) || !list.broken.is_empty() {
            return Err(format!("media: PFSs {labels:?}, not {:?}", self.trees.keys()));
        }
        for (label, tree) in &self.trees {
            compare_pfs(&host, label, &tree.committed)
                .map_err(|what| format!("media, {}: {what}", label.escape_ascii()))?;
        }
        let findings = dirt(&host, nothing);
        if findings.is_empty() { Ok(()) } else { Err(format!("a check finds {findings:#?}")) }
    }
}

/// What a seed likes of what happens to PFSs.
#[derive(Debug)]
pub struct Taste {
    swarm: Swarm,
    /// PFSs change once in so many operations.
    changes: u64,
    /// Scans begin, go on or end once in so many.
    scans: u64,
    /// Another PFS is written to once in so many.
    switches: u64,
    /// Most PFSs.
    trees_max: usize,
    labels: Vec<Label>,
    remounts: u64,
}

impl Taste {
    /// What `random` likes.
    pub fn new(random: &mut Random) -> Self {
        Self {
            swarm: Swarm::new(random),
            changes: *random.pick(&[5, 12, 30, 100]),
            scans: *random.pick(&[3, 8, 20, 100]),
            switches: *random.pick(&[2, 6, 20, 60]),
            trees_max: *random.pick(&[3, 4, 7]),
            labels: [&b"LOCAL"[..], b"DATA", b"a", b"b.b", b"b-b", b"with space", &[b'x'; 255]]
                .map(<[u8]>::to_vec)
                .to_vec(),
            remounts: *random.pick(&[10, 30, 1000]),
        }
    }

    /// What happens next to `world`, of which `current` is the PFS that is written to.
    ///
    /// # Panics
    /// It has no PFSs.
    pub fn next<S>(&self, random: &mut Random, world: &World<S>, current: &mut Label) -> WorldOp {
        let there: Vec<&Label> = world.trees.keys().collect();
        if random.once_in(self.switches) || !world.trees.contains_key(current) {
            current.clone_from(*random.pick(&there));
        }
        if random.once_in(self.remounts) {
            return WorldOp::Remount;
        }
        if random.once_in(self.scans) {
            return match random.below(12) {
                0..4 if world.scanning.is_none() || random.once_in(4) => WorldOp::Begin,
                0..8 => WorldOp::Scan(1 + random.below(3)),
                8 if random.once_in(4) => WorldOp::Drop,
                _ => WorldOp::Finish,
            };
        }
        if random.once_in(self.changes) {
            let (label, other) = (random.pick(&self.labels), (*random.pick(&there)).clone());
            let closed = |label: &&&Label| world.trees[**label].pfs.is_none();
            let closed: Vec<&&Label> = there.iter().filter(closed).collect();
            let gone = if closed.is_empty() || random.once_in(8) {
                label.clone()
            } else {
                (**random.pick(&closed)).clone()
            };
            return match random.below(10) {
                0..5 if there.len() < self.trees_max => {
                    let of = if random.once_in(3) { other } else { current.clone() };
                    WorldOp::Snapshot(of, label.clone())
                }
                0..3 => WorldOp::Delete(gone),
                3..5 => WorldOp::Rename(gone, label.clone()),
                5 if there.len() < self.trees_max => WorldOp::Create(label.clone()),
                _ if there.len() > 1 => WorldOp::Delete(gone),
                _ => WorldOp::Create(label.clone()),
            };
        }
        match self.swarm.next(random, &world.trees[current].model) {
            Op::Flush { always } => WorldOp::Flush { always },
            Op::Remount => WorldOp::Remount,
            op => WorldOp::In(current.clone(), op),
        }
    }
}

/// Runs the first `count` operations of `seed`, with comparisons in between.
///
/// # Errors
/// At which operation they differ, and in what.
pub fn run_world(seed: u64, count: u64, show: bool) -> Result<WorldRan, String> {
    let mut random = Random::new(seed);
    let taste = Taste::new(&mut random);
    let len = *random.pick(&[32, 32, 40, 64, 1100]) << 20;
    let cache = *random.pick(&[64 << 10, 1 << 20, 16 << 20]);
    let mut world = World::new(len, cache);
    let mut current = b"DATA".to_vec();
    if len <= 40 << 20 && random.once_in(2) {
        let left = *random.pick(&[100_000, 1_000_000, 3_000_000]);
        world.fill(&current, left)?;
    }
    // what is compared when must not depend on the number of operations
    let mut sampler = Random::new(seed ^ 0xabcd);
    let dense = *random.pick(&[2, 5, 20]);
    for number in 0..count {
        let op = taste.next(&mut random, &world, &mut current);
        if show {
            println!("{number}: {}", text(&op));
        }
        let failed = |what: String| format!("operation {number}, {}: {what}", text(&op));
        world.apply(&op).map_err(failed)?;
        if !matches!(op, WorldOp::In(..) | WorldOp::Scan(_)) && sampler.once_in(dense) {
            world.check_memory().and_then(|()| world.check_media()).map_err(failed)?;
            world.ran.ran.compared += 1;
        }
    }
    let end = |what| format!("after operation {count}: {what}");
    world.check_memory().map_err(end)?;
    for op in [WorldOp::Finish, WorldOp::Flush { always: false }, WorldOp::Remount] {
        world.apply(&op).map_err(end)?;
        world.check_memory().and_then(|()| world.check_media()).map_err(end)?;
        world.ran.ran.compared += 1;
    }
    Ok(world.ran)
}

fn text(op: &WorldOp) -> String {
    let text = format!("{op:?}");
    if text.len() > 400 { text.chars().take(400).collect() } else { text }
}
