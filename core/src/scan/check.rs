//! The checker of a whole volume, as a cursor machine.
//!
//! It goes through the volume in stages: the super-root; each PFS (in passes over windows of inode
//! numbers, so that memory stays bounded); the freemap. Within a stage the place is a stack of
//! blocks to visit; each step takes a batch off it. Every block that is visited had its check code
//! verified and was expanded by whoever fetched it.
//!
//! Invariants:
//! * the stack is at most a batch times the slots of a table times the depth of a tree long;
//! * a block is visited under what its parent says of it, so the visit ends: tables get narrower;
//! * contents shared between PFSs are read once, while there is memory to remember them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::finding::{Finding, FindingKind, Grade, Unchecked};
use super::freemap::{self, Static, Totals};
use super::names::Names;
use super::space::{Marked, Space};
use crate::engine::{Block, BlockId, Want};
use crate::error::{BlockKind, Damage, DamageKind, Error, InodeFault, Place};
use crate::media::blockref::{Blockref, Statistics, is_zeroed, slots, span_last};
use crate::media::check::CheckMethod;
use crate::media::dirent::DirentHeader;
use crate::media::dirhash::{COLLISION_MASK, NAME_BIT, dirhash};
use crate::media::freemap::{block_offset, level, segments};
use crate::media::inode::{Inode, ObjectKind, PfsKind};
use crate::media::raw::RawBlockref;
use crate::media::{CHUNK_LEN, SEGMENT_LEN, ZONE_LEN};
use crate::tree::{Holder, Table};
use crate::units::{Inum, MediaOffset};
use crate::volume::Volume;

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Whether to read the contents of files; without, only structure is checked.
    pub data: bool,
    /// Blocks that one step asks for.
    pub batch: usize,
    /// Inode numbers that one pass over a PFS looks at. Each takes 12 bytes.
    pub inums_per_pass: usize,
    /// Directories whose place in the tree one pass remembers. Each takes about 64 bytes.
    pub directories_per_pass: usize,
    /// Files whose contents are remembered as read, for PFSs that share them. Each takes about 150
    /// bytes.
    pub shared_files: usize,
    /// Memory in bytes for the search for overlapping blocks: 256 KiB for each GiB in use.
    pub overlap_memory: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            data: true,
            batch: 64,
            inums_per_pass: 4 << 20,
            directories_per_pass: 1 << 20,
            shared_files: 512 << 10,
            overlap_memory: 128 << 20,
        }
    }
}

/// Where a check is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Reading the super-root.
    SuperRoot,
    /// In a PFS: its index, and the pass over it.
    Pfs {
        /// Index in the order of [`Check::labels`].
        index: usize,
        /// Number of the pass, from 0.
        pass: u64,
    },
    /// Comparing the freemap.
    Freemap,
    /// All is checked.
    Done,
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Fetch these and hand the outcomes to [`Check::resume`], in this order.
    Read(Vec<Want>),
    /// All is checked.
    Done,
}

/// How far a check is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Where it is.
    pub stage: Stage,
    /// Bytes checked so far.
    pub bytes: u64,
    /// Bytes that there are to check, as far as the volume's own statistics tell.
    pub bytes_expected: u64,
}

/// What a check came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Summary {
    /// Findings that are only worth knowing.
    pub information: u64,
    /// Findings that can be put right.
    pub repairable: u64,
    /// Findings of damage.
    pub fatal: u64,
    /// Different blocks of the trees.
    pub blocks: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Inodes, each counted once per PFS.
    pub inodes: u64,
    /// Directory entries.
    pub names: u64,
    /// Bytes in use by the freemap, reserved space aside.
    pub allocated_bytes: u64,
    /// Bytes staged for freeing.
    pub possibly_free_bytes: u64,
    /// Bytes in use by the freemap that nothing refers to.
    pub unreferenced_bytes: u64,
}

impl Summary {
    /// The worst grade that was found.
    #[must_use]
    pub const fn worst(&self) -> Option<Grade> {
        if self.fatal > 0 {
            Some(Grade::Fatal)
        } else if self.repairable > 0 {
            Some(Grade::Repairable)
        } else if self.information > 0 {
            Some(Grade::Information)
        } else {
            None
        }
    }
}

/// The checker.
#[derive(Debug)]
pub struct Check {
    options: CheckOptions,
    header: HeaderFacts,
    stage: Stage,
    stack: Vec<Task>,
    batch: Vec<Task>,
    open: Vec<Option<OpenNode>>,
    free_nodes: Vec<usize>,
    roots: Vec<Root>,
    names: Names,
    shared: BTreeMap<BlockId, Sums>,
    space: Space,
    leaves: BTreeSet<u64>,
    totals: Totals,
    findings: Vec<Finding>,
    summary: Summary,
    bytes: u64,
    bytes_expected: u64,
    /// Something of the PFS at hand could not be read: missing names are no news.
    is_part: bool,
    /// A freemap leaf could not be read: its totals are not whole.
    is_freemap_part: bool,
}

/// What the check needs of the volume header.
#[derive(Debug)]
struct HeaderFacts {
    freemap_table: [RawBlockref; 4],
    reserved: Static,
    total_size: u64,
    allocator_size: u64,
    allocator_free: u64,
}

/// A PFS to check.
#[derive(Debug)]
struct Root {
    blockref: Blockref,
    label: Vec<u8>,
    next_inum: u64,
}

/// A block to visit.
#[derive(Clone, Copy, Debug)]
struct Task {
    blockref: Blockref,
    role: Role,
    parent: Option<usize>,
    owner: Owner,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    SuperRoot,
    PfsRoot,
    Inode,
    Indirect { parent_bits: u8 },
    Data,
    Name,
    FreemapNode,
    FreemapLeaf,
}

/// The inode that a block belongs to.
#[derive(Clone, Copy, Debug)]
struct Owner {
    holder: Holder,
    inum: Inum,
    size: u64,
}

/// What is below a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sums {
    statistics: Statistics,
    leaves: u64,
    /// Something below could not be read, so the sums are not to be compared.
    is_part: bool,
}

/// A table whose subtrees are not all visited yet.
#[derive(Debug)]
struct OpenNode {
    task: Task,
    sums: Sums,
    pending: u32,
}

impl Check {
    /// A check of `volume` from the start.
    #[must_use]
    pub fn new(volume: &Volume, options: CheckOptions) -> Self {
        let header = volume.header();
        let total_size = header.total_size();
        let mut check = Self {
            options,
            header: HeaderFacts {
                freemap_table: *header.freemap_table(),
                reserved: Static {
                    below: header.allocator_beg().0.div_ceil(SEGMENT_LEN) * SEGMENT_LEN,
                    total: total_size,
                },
                total_size,
                allocator_size: header.allocator_size(),
                allocator_free: header.allocator_free(),
            },
            stage: Stage::SuperRoot,
            stack: Vec::new(),
            batch: Vec::new(),
            open: Vec::new(),
            free_nodes: Vec::new(),
            roots: Vec::new(),
            names: Names::new(0, 0, None, 0),
            shared: BTreeMap::new(),
            space: Space::new(options.overlap_memory),
            leaves: BTreeSet::new(),
            totals: Totals::default(),
            findings: Vec::new(),
            summary: Summary::default(),
            bytes: 0,
            bytes_expected: 0,
            is_part: false,
            is_freemap_part: false,
        };
        check.look_at_headers(volume);
        let super_root = volume.super_root();
        check.bytes_expected = super_root.statistics().unwrap_or_default().data_count;
        let owner = Owner {
            holder: Holder::SuperRoot,
            inum: Inum(0),
            size: 0,
        };
        if let Some(location) = super_root.location() {
            check.space.mark(location);
        }
        check.push(super_root, Role::SuperRoot, None, owner);
        check
    }

    /// Goes on until blocks are needed or all is done.
    pub fn step(&mut self) -> Step {
        loop {
            if !self.batch.is_empty() {
                return Step::Read(
                    self.batch
                        .iter()
                        .filter_map(|t| Want::of(&t.blockref))
                        .collect(),
                );
            }
            let from = self.stack.len() - self.stack.len().min(self.options.batch.max(1));
            self.batch = self.stack.split_off(from);
            if self.batch.is_empty() && !self.next_stage() {
                return Step::Done;
            }
        }
    }

    /// Takes the outcomes of the reads that [`Check::step`] asked for, in its order.
    pub fn resume(&mut self, got: Vec<Result<Block, Error>>) {
        for (task, got) in core::mem::take(&mut self.batch).into_iter().zip(got) {
            self.bytes += task.blockref.location().map_or(0, |at| at.len() as u64);
            match got {
                Ok(block) => self.visit(&task, block),
                Err(error) => self.unreadable(&task, error),
            }
        }
    }

    /// What was found since this was asked last.
    #[must_use]
    pub fn take_findings(&mut self) -> Vec<Finding> {
        core::mem::take(&mut self.findings)
    }

    /// Labels of the PFSs, known once the super-root is read.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        self.roots.iter().map(|root| &root.label[..])
    }

    /// Blockref of the root of PFS `index`, to look up more about a finding.
    #[must_use]
    pub fn root(&self, index: usize) -> Option<Blockref> {
        self.roots.get(index).map(|root| root.blockref)
    }

    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        Progress {
            stage: self.stage,
            bytes: self.bytes,
            bytes_expected: if self.bytes > self.bytes_expected {
                self.bytes
            } else {
                self.bytes_expected
            },
        }
    }

    /// What it came to; whole when the last step was [`Step::Done`].
    #[must_use]
    pub const fn summary(&self) -> Summary {
        Summary {
            blocks: self.space.blocks,
            bytes: self.space.bytes,
            ..self.summary
        }
    }

    fn look_at_headers(&mut self, volume: &Volume) {
        for slot in volume.header_slots() {
            if let Err(fault) = slot.state {
                let (device, slot) = (slot.device, slot.slot);
                self.report(
                    FindingKind::Header {
                        device,
                        slot,
                        fault,
                    },
                    None,
                    None,
                );
            }
        }
        for piece in volume
            .pieces()
            .iter()
            .filter(|piece| piece.device_size < piece.size)
        {
            let (device, size, need) = (piece.device, piece.device_size, piece.size);
            self.report(FindingKind::Truncated { device, size, need }, None, None);
        }
    }

    /// Ends the stage at hand and begins the next; `false` when there is none.
    fn next_stage(&mut self) -> bool {
        self.stage = match self.stage {
            Stage::SuperRoot => self.pfs_stage(0, 0),
            Stage::Pfs { index, pass } => {
                self.end_pass();
                let per_pass = self.options.inums_per_pass.max(1) as u64;
                let next_inum = self.roots.get(index).map_or(0, |root| root.next_inum);
                if (pass + 1).saturating_mul(per_pass) <= next_inum {
                    self.pfs_stage(index, pass + 1)
                } else {
                    self.pfs_stage(index + 1, 0)
                }
            }
            Stage::Freemap => {
                self.end_freemap();
                Stage::Done
            }
            Stage::Done => return false,
        };
        true
    }

    fn pfs_stage(&mut self, index: usize, pass: u64) -> Stage {
        let Some(root) = self.roots.get(index) else {
            self.begin_freemap();
            return Stage::Freemap;
        };
        let per_pass = self.options.inums_per_pass.max(1);
        let start = pass * per_pass as u64;
        // A number that was never handed out belongs to no entry, unless something is wrong.
        let len = usize::try_from(root.next_inum.saturating_sub(start).saturating_add(1));
        let len = if pass == 0 {
            len.unwrap_or(per_pass).max(2048).min(per_pass)
        } else {
            per_pass
        };
        // Pass 0 also looks at numbers behind the last pass.
        let passes = root.next_inum / per_pass as u64 + 1;
        let end = if passes == 1 {
            len as u64
        } else {
            passes * per_pass as u64
        };
        let stray_from = (pass == 0).then_some(end);
        let directories_max = self.options.directories_per_pass;
        self.names = Names::new(start, len, stray_from, directories_max);
        self.is_part = false;
        let (blockref, size) = (root.blockref, 0);
        let owner = Owner {
            holder: Holder::PfsRoot,
            inum: Inum::ROOT,
            size,
        };
        self.stage = Stage::Pfs { index, pass };
        self.push(blockref, Role::PfsRoot, None, owner);
        self.stage
    }

    fn end_pass(&mut self) {
        let names = core::mem::replace(&mut self.names, Names::new(0, 0, None, 0));
        let mut found = Vec::new();
        names.findings(!self.is_part, |inum, kind| found.push((inum, kind)));
        for (inum, kind) in found {
            self.report(kind, None, Some(inum));
        }
    }

    /// Whether this pass looks at blocks for the first time. Later ones only collect names.
    const fn is_first_pass(&self) -> bool {
        !matches!(self.stage, Stage::Pfs { pass: 1.., .. })
    }

    fn report(&mut self, kind: FindingKind, place: Option<Place>, inum: Option<Inum>) {
        let pfs = match self.stage {
            Stage::Pfs { index, .. } => u32::try_from(index).ok(),
            Stage::SuperRoot | Stage::Freemap | Stage::Done => None,
        };
        let inum = inum.filter(|_| pfs.is_some());
        self.findings.push(Finding {
            kind,
            place,
            pfs,
            inum,
        });
        match kind.grade() {
            Grade::Information => self.summary.information += 1,
            Grade::Repairable => self.summary.repairable += 1,
            Grade::Fatal => self.summary.fatal += 1,
        }
    }

    /// Reports what belongs to a block, in the first pass only.
    fn report_at(&mut self, kind: FindingKind, blockref: &Blockref, owner: &Owner) {
        if self.is_first_pass() {
            self.report(kind, Some(blockref.place()), Some(owner.inum));
        }
    }

    fn push(&mut self, blockref: Blockref, role: Role, parent: Option<usize>, owner: Owner) {
        if let Some(node) = parent.and_then(|parent| self.open.get_mut(parent)?.as_mut()) {
            node.pending += 1;
        }
        self.stack.push(Task {
            blockref,
            role,
            parent,
            owner,
        });
    }

    fn unreadable(&mut self, task: &Task, error: Error) {
        let place = error_place(&error).unwrap_or_else(|| task.blockref.place());
        let inum = if task.role == Role::Inode {
            Inum(task.blockref.key())
        } else {
            task.owner.inum
        };
        if self.is_first_pass() {
            let kind = match task.role {
                Role::FreemapNode | Role::FreemapLeaf => FindingKind::FreemapDamaged(error),
                _ => FindingKind::Damaged(error),
            };
            self.report(kind, Some(place), Some(inum));
        }
        match task.role {
            Role::Inode => {
                self.names.unreadable(task.blockref.key());
                self.is_part = true;
            }
            Role::Data => {}
            Role::FreemapNode | Role::FreemapLeaf => {
                self.is_freemap_part = true;
                self.leaves.insert(task.blockref.key() / ZONE_LEN);
            }
            Role::SuperRoot | Role::PfsRoot | Role::Indirect { .. } | Role::Name => {
                self.is_part = true;
            }
        }
        self.child_done(task.parent, |sums| sums.is_part |= task.role != Role::Data);
    }

    fn visit(&mut self, task: &Task, block: Block) {
        match task.role {
            Role::SuperRoot => self.super_root(task, block),
            Role::PfsRoot | Role::Inode => self.inode(task, block),
            Role::Indirect { parent_bits } => {
                let holder = task.owner.holder;
                match Table::of_indirect(block, &task.blockref, holder, parent_bits) {
                    Ok(table) => self.table(task, &table),
                    Err(damage) => self.unreadable(task, damage.into()),
                }
            }
            Role::Data => self.child_done(task.parent, |_| {}),
            Role::Name => {
                self.dirent(&task.blockref, Some(&block), &task.owner);
                self.child_done(task.parent, |_| {});
            }
            Role::FreemapNode => self.freemap_node(task, &block),
            Role::FreemapLeaf => self.freemap_leaf(task, &block),
        }
    }

    fn super_root(&mut self, task: &Task, block: Block) {
        let place = task.blockref.place();
        match Inode::parse(&block) {
            Err(fault) => {
                self.unreadable(task, Damage::new(place, DamageKind::Inode(fault)).into());
            }
            Ok(inode) if inode.pfs_kind() != PfsKind::SuperRoot => {
                self.unreadable(task, Damage::new(place, DamageKind::NoSuperRoot).into());
            }
            Ok(_) => self.table(task, &Table::of_inode(block, place, Holder::SuperRoot)),
        }
    }

    fn inode(&mut self, task: &Task, block: Block) {
        let place = task.blockref.place();
        let inode = match Inode::parse(&block) {
            Ok(inode) => inode,
            Err(fault) => {
                let damage = Damage::new(place, DamageKind::Inode(fault));
                return self.unreadable(task, damage.into());
            }
        };
        // In the super-root a PFS is only taken note of; its own stage visits it.
        if self.stage == Stage::SuperRoot {
            let label = inode.label().to_vec();
            let next_inum = inode.next_inum().0;
            self.root_facts(task, &inode);
            self.roots.push(Root {
                blockref: task.blockref,
                label,
                next_inum,
            });
            // Its own stage counts what is below it.
            let below = task.blockref.statistics().unwrap_or_default();
            return self.child_done(task.parent, |sums| sums.add_statistics(below));
        }
        if task.role == Role::Inode && !self.inode_facts(task, &inode) {
            return;
        }
        if self.is_first_pass() {
            self.summary.inodes += 1;
        }
        let holder = match inode.kind() {
            ObjectKind::Directory if task.role == Role::PfsRoot => Holder::PfsRoot,
            ObjectKind::Directory => Holder::Directory,
            _ => Holder::File,
        };
        let owner = Owner {
            holder,
            inum: inode.inum(),
            size: inode.size(),
        };
        let parent = if task.role == Role::PfsRoot {
            Inum::ROOT
        } else {
            inode.parent()
        };
        self.names
            .inode(owner.inum.0, inode.kind(), inode.nlinks(), parent);
        let has_table = match inode.kind() {
            ObjectKind::Directory => true,
            ObjectKind::Regular | ObjectKind::Symlink => {
                !inode.has_direct_data() && self.is_first_pass()
            }
            _ => false,
        };
        if !has_table {
            return self.child_done(task.parent, |_| {});
        }
        if let Some(sums) = self.shared_contents(task, holder) {
            return self.child_done(task.parent, |parent| parent.add_inode(&sums));
        }
        let task = Task { owner, ..*task };
        self.table(&task, &Table::of_inode(block, place, holder));
    }

    /// What was counted below a file that another PFS shares, if it is remembered.
    fn shared_contents(&mut self, task: &Task, holder: Holder) -> Option<Sums> {
        if holder != Holder::File || self.roots.len() < 2 {
            return None;
        }
        let sums = *self.shared.get(Want::of(&task.blockref)?.id())?;
        self.bytes += sums.statistics.data_count;
        Some(sums)
    }

    fn root_facts(&mut self, task: &Task, inode: &Inode<'_>) {
        let owner = task.owner;
        if inode.kind() != ObjectKind::Directory {
            let damage = Damage::new(task.blockref.place(), DamageKind::NotAllowed);
            self.report_at(FindingKind::Damaged(damage.into()), &task.blockref, &owner);
        }
        if inode.is_pfs_root() != task.blockref.is_pfs_root() || !inode.is_pfs_root() {
            self.report_at(FindingKind::RootFlag, &task.blockref, &owner);
        }
        if inode.inum() != Inum::ROOT {
            self.report_at(
                FindingKind::RootNumber(inode.inum()),
                &task.blockref,
                &owner,
            );
        }
        if (dirhash(inode.label()) ^ task.blockref.key()) & !COLLISION_MASK != 0 {
            let kind = DamageKind::Dirent(crate::error::DirentFault::Hash);
            let damage = Damage::new(task.blockref.place(), kind);
            self.report_at(FindingKind::Damaged(damage.into()), &task.blockref, &owner);
        }
    }

    /// Facts of an ordinary inode; `false` if it is not the one that it should be.
    fn inode_facts(&mut self, task: &Task, inode: &Inode<'_>) -> bool {
        let key = Inum(task.blockref.key());
        if inode.inum() != key {
            let kind = DamageKind::Inode(InodeFault::Number(inode.inum()));
            self.unreadable(task, Damage::new(task.blockref.place(), kind).into());
            return false;
        }
        let Stage::Pfs { index, .. } = self.stage else {
            return true;
        };
        let next = self
            .roots
            .get(index)
            .map_or(u64::MAX, |root| root.next_inum);
        let owner = Owner {
            inum: key,
            ..task.owner
        };
        if key.0 >= next {
            let next = Inum(next);
            self.report_at(
                FindingKind::NumberNotReserved { next },
                &task.blockref,
                &owner,
            );
        }
        if inode.is_pfs_root() || task.blockref.is_pfs_root() {
            self.report_at(FindingKind::RootFlag, &task.blockref, &owner);
        }
        true
    }

    /// Goes through a table: opens a node for what it counts, and pushes what is below it.
    fn table(&mut self, task: &Task, table: &Table) {
        let node = self.open_node(task);
        let mut previous_last = None;
        let mut previous_name: Option<(u64, Vec<u8>)> = None;
        for raw in table.slots() {
            if raw.kind == 0 {
                if !is_zeroed(raw) {
                    self.report_at(FindingKind::DirtySlot, &task.blockref, &task.owner);
                }
                continue;
            }
            let entry = table.entry(raw, previous_last);
            previous_last =
                Some(span_last(raw.key.get(), raw.key_bits).max(previous_last.unwrap_or(0)));
            match entry {
                Ok(Some(blockref)) => self.entry(task, table, node, blockref, &mut previous_name),
                Ok(None) => {}
                Err(damage) => {
                    if self.is_first_pass() {
                        let kind = FindingKind::Damaged(damage.into());
                        self.report(kind, Some(damage.place), Some(task.owner.inum));
                    }
                    self.is_part |= task.owner.holder != Holder::File;
                    self.child_of(node, |sums| sums.is_part = true);
                }
            }
        }
        self.close_if_done(node);
    }

    fn entry(
        &mut self,
        task: &Task,
        table: &Table,
        node: usize,
        blockref: Blockref,
        previous_name: &mut Option<(u64, Vec<u8>)>,
    ) {
        let owner = task.owner;
        if self.is_first_pass() {
            self.account(task, &blockref, node);
        }
        let role = match blockref.kind() {
            BlockKind::Indirect => Role::Indirect {
                parent_bits: table.key_bits(),
            },
            BlockKind::Inode => Role::Inode,
            BlockKind::Data => {
                if owner.size <= blockref.key() {
                    let kind = FindingKind::BehindEnd { size: owner.size };
                    self.report_at(kind, &blockref, &owner);
                }
                if !self.options.data {
                    return;
                }
                Role::Data
            }
            BlockKind::Dirent if blockref.location().is_some() => Role::Name,
            BlockKind::Dirent => {
                if let Some(name) = self.dirent(&blockref, None, &owner) {
                    self.compare_names(&blockref, name, previous_name, &owner);
                }
                return;
            }
            // allowed in no table that this is called for
            BlockKind::Volume | BlockKind::FreemapNode | BlockKind::FreemapLeaf => return,
        };
        if owner.holder == Holder::PfsRoot && role == Role::Inode && blockref.key() & NAME_BIT != 0
        {
            let damage = Damage::new(blockref.place(), DamageKind::NotAllowed);
            self.report_at(FindingKind::Damaged(damage.into()), &blockref, &owner);
            return;
        }
        self.push(blockref, role, Some(node), owner);
    }

    /// Space, age and what the parent counts.
    fn account(&mut self, task: &Task, blockref: &Blockref, node: usize) {
        let len = blockref.location().map_or(0, |location| {
            if self.space.mark(location) == Marked::Overlaps {
                self.report_at(FindingKind::Overlap, blockref, &task.owner);
            }
            location.len() as u64
        });
        if blockref.mirror_tid() > task.blockref.mirror_tid() {
            self.report_at(FindingKind::NewerThanParent, blockref, &task.owner);
        }
        let kind = blockref.kind();
        self.child_of(node, |sums| {
            sums.statistics.data_count = sums.statistics.data_count.wrapping_add(len);
            sums.statistics.inode_count += u64::from(kind == BlockKind::Inode);
            sums.leaves += u64::from(kind != BlockKind::Indirect);
        });
    }

    /// A directory entry; its name if it could be told.
    fn dirent(
        &mut self,
        blockref: &Blockref,
        block: Option<&Block>,
        owner: &Owner,
    ) -> Option<Vec<u8>> {
        let parsed = DirentHeader::parse(blockref).and_then(|header| {
            let name = header.name(blockref, block.map(|block| &**block))?;
            Ok((header, name.to_vec()))
        });
        match parsed {
            Ok((header, name)) => {
                if self.is_first_pass() {
                    self.summary.names += 1;
                }
                self.names.name(owner.inum.0, header.target.0, header.kind);
                Some(name)
            }
            Err(fault) => {
                let damage = Damage::new(blockref.place(), DamageKind::Dirent(fault));
                self.report_at(FindingKind::Damaged(damage.into()), blockref, owner);
                None
            }
        }
    }

    /// The same name twice stands side by side, since its entries compete for the same keys.
    fn compare_names(
        &mut self,
        blockref: &Blockref,
        name: Vec<u8>,
        previous: &mut Option<(u64, Vec<u8>)>,
        owner: &Owner,
    ) {
        let window = blockref.key() & !COLLISION_MASK;
        if previous
            .as_ref()
            .is_some_and(|(hash, other)| *hash == window && *other == name)
        {
            self.report_at(FindingKind::DuplicateName, blockref, owner);
        }
        *previous = Some((window, name));
    }

    fn open_node(&mut self, task: &Task) -> usize {
        let node = Some(OpenNode {
            task: *task,
            sums: Sums::default(),
            pending: 0,
        });
        match self.free_nodes.pop() {
            Some(index) => {
                self.open[index] = node;
                index
            }
            None => {
                self.open.push(node);
                self.open.len() - 1
            }
        }
    }

    fn child_of(&mut self, node: usize, add: impl FnOnce(&mut Sums)) {
        if let Some(node) = self.open.get_mut(node).and_then(Option::as_mut) {
            add(&mut node.sums);
        }
    }

    /// A child that was pushed for `parent` is done.
    fn child_done(&mut self, parent: Option<usize>, add: impl FnOnce(&mut Sums)) {
        let Some(index) = parent else { return };
        if let Some(node) = self.open.get_mut(index).and_then(Option::as_mut) {
            add(&mut node.sums);
            node.pending -= 1;
        }
        self.close_if_done(index);
    }

    /// Closes nodes whose subtrees are all visited, upwards.
    fn close_if_done(&mut self, index: usize) {
        let mut index = Some(index);
        while let Some(at) = index {
            let is_done = self.open[at].as_ref().is_some_and(|node| node.pending == 0);
            let Some(node) = self.open[at].take_if(|_| is_done) else {
                return;
            };
            self.free_nodes.push(at);
            self.compare_sums(&node);
            index = node.task.parent;
            if let Some(parent) = index.and_then(|i| self.open.get_mut(i)?.as_mut()) {
                parent.pending -= 1;
                match node.task.role {
                    Role::Indirect { .. } => parent.sums.add_indirect(&node.sums),
                    _ => parent.sums.add_inode(&node.sums),
                }
            }
        }
    }

    fn compare_sums(&mut self, node: &OpenNode) {
        let OpenNode { task, sums, .. } = node;
        if !self.is_first_pass() || sums.is_part {
            return;
        }
        let stored = task.blockref.statistics().unwrap_or_default();
        // The formatter leaves its own PFS roots out of the super-root (media format 3.2).
        if stored != sums.statistics && task.role != Role::SuperRoot {
            let counted = sums.statistics;
            self.report_at(
                FindingKind::Statistics { stored, counted },
                &task.blockref,
                &task.owner,
            );
        }
        let counted = u16::try_from(sums.leaves).unwrap_or(u16::MAX);
        let stored = task.blockref.leaf_count();
        if matches!(task.role, Role::Indirect { .. }) && stored != counted && stored != u16::MAX {
            self.report_at(
                FindingKind::LeafCount { stored, counted },
                &task.blockref,
                &task.owner,
            );
        }
        if task.role == Role::Inode
            && task.owner.holder == Holder::File
            && self.roots.len() > 1
            && self.shared.len() < self.options.shared_files
            && let Some(want) = Want::of(&task.blockref)
        {
            self.shared.insert(*want.id(), *sums);
        }
    }

    fn begin_freemap(&mut self) {
        self.stage = Stage::Freemap;
        let table = self.header.freemap_table;
        self.freemap_table(&table, None, 0, u64::MAX);
    }

    fn freemap_table(&mut self, table: &[RawBlockref], below: Option<u8>, low: u64, high: u64) {
        let mut previous_last = None;
        for raw in table.iter().filter(|raw| raw.kind != 0) {
            let owner = Owner {
                holder: Holder::Freemap,
                inum: Inum(0),
                size: 0,
            };
            match freemap_entry(raw, below, low, high, previous_last) {
                Ok(blockref) => {
                    let role = match blockref.kind() {
                        BlockKind::FreemapLeaf => Role::FreemapLeaf,
                        _ => Role::FreemapNode,
                    };
                    self.freemap_slot(&blockref);
                    self.push(blockref, role, None, owner);
                }
                Err(damage) => {
                    let kind = FindingKind::FreemapDamaged(damage.into());
                    self.report(kind, Some(damage.place), None);
                    self.is_freemap_part = true;
                    self.leaves.insert(raw.key.get() / ZONE_LEN);
                }
            }
            previous_last = Some(span_last(raw.key.get(), raw.key_bits));
        }
    }

    fn freemap_slot(&mut self, blockref: &Blockref) {
        let Some(location) = blockref.location() else {
            return;
        };
        let level = level(blockref.key_bits()).unwrap_or(1);
        let at_home =
            (0..8).any(|set| location.offset.0 == block_offset(blockref.key(), level, set));
        if !at_home || blockref.check_method() != CheckMethod::Freemap {
            self.report(FindingKind::FreemapSlot, Some(blockref.place()), None);
        }
    }

    fn freemap_node(&mut self, task: &Task, block: &Block) {
        let bits = task.blockref.key_bits();
        let (low, high) = (task.blockref.key(), task.blockref.last_key());
        self.freemap_table(slots(block), Some(bits), low, high);
    }

    fn freemap_leaf(&mut self, task: &Task, block: &Block) {
        let zone = task.blockref.key() / ZONE_LEN;
        self.leaves.insert(zone);
        self.compare_zone(zone, segments(block));
    }

    fn compare_zone(&mut self, zone: u64, leaf: Option<&[crate::media::raw::RawSegment]>) {
        let mut found = Vec::new();
        let Self {
            header,
            space,
            totals,
            ..
        } = self;
        freemap::compare(zone, leaf, &header.reserved, space, totals, |kind| {
            found.push(kind)
        });
        for kind in found {
            self.report(kind, None, None);
        }
    }

    fn end_freemap(&mut self) {
        // Zones in use without a leaf: all of it is free by the freemap.
        let bare: Vec<u64> = self
            .space
            .zones()
            .filter(|zone| !self.leaves.contains(zone))
            .collect();
        for zone in bare {
            if zone * ZONE_LEN < self.header.total_size {
                self.compare_zone(zone, None);
            }
        }
        let in_use = (self.totals.allocated + self.totals.possibly_free) * CHUNK_LEN;
        self.summary.allocated_bytes = self.totals.allocated * CHUNK_LEN;
        self.summary.possibly_free_bytes = self.totals.possibly_free * CHUNK_LEN;
        let unreferenced = self.totals.unreferenced * CHUNK_LEN;
        // What could not be reached is not known to be unreferenced.
        if unreferenced > 0 && self.summary.fatal == 0 {
            self.summary.unreferenced_bytes = unreferenced;
            self.report(
                FindingKind::Unreferenced {
                    bytes: unreferenced,
                },
                None,
                None,
            );
        }
        let stored = self.header.allocator_free;
        let counted = self.header.allocator_size.saturating_sub(in_use);
        if stored != counted && !self.is_freemap_part {
            self.report(FindingKind::AllocatorFree { stored, counted }, None, None);
        }
        if self.space.is_coarse {
            self.report(FindingKind::NotChecked(Unchecked::Overlaps), None, None);
        }
    }
}

impl Sums {
    const fn add_statistics(&mut self, below: Statistics) {
        // A volume's own numbers may be wrong enough to overflow.
        let sum = &mut self.statistics;
        sum.data_count = sum.data_count.wrapping_add(below.data_count);
        sum.inode_count = sum.inode_count.wrapping_add(below.inode_count);
    }

    /// Leaves do not count across inodes (media format 3.3).
    const fn add_inode(&mut self, below: &Self) {
        self.add_statistics(below.statistics);
        self.is_part |= below.is_part;
    }

    const fn add_indirect(&mut self, below: &Self) {
        self.add_inode(below);
        self.leaves = self.leaves.saturating_add(below.leaves);
    }
}

/// Reads a slot of a freemap table below a node of `below` key bits, or of the header.
fn freemap_entry(
    raw: &RawBlockref,
    below: Option<u8>,
    low: u64,
    high: u64,
    previous_last: Option<u64>,
) -> Result<Blockref, Damage> {
    let key = raw.key.get();
    let offset = raw.data_off.get() & !0x3f;
    let kind = if raw.kind == 6 {
        BlockKind::FreemapLeaf
    } else {
        BlockKind::FreemapNode
    };
    let place = Place {
        kind,
        offset: (offset != 0).then_some(MediaOffset(offset)),
        key,
    };
    let damage = |kind| Damage::new(place, kind);
    let blockref = Blockref::parse(raw)
        .map_err(|fault| damage(DamageKind::Blockref(fault)))?
        .filter(|blockref| Holder::Freemap.allows(blockref.kind()))
        .ok_or_else(|| damage(DamageKind::NotAllowed))?;
    if below.is_some_and(|bits| blockref.key_bits() >= bits) {
        return Err(damage(DamageKind::Nesting));
    }
    if previous_last.is_some_and(|previous| key <= previous) {
        return Err(damage(DamageKind::KeyOrder));
    }
    if key < low || blockref.last_key() > high {
        return Err(damage(DamageKind::KeyRange { low, high }));
    }
    Ok(blockref)
}

const fn error_place(error: &Error) -> Option<Place> {
    match error {
        Error::Damaged(damage) => Some(damage.place),
        _ => None,
    }
}
