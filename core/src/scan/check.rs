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
use super::freemap::{Static, Totals};
use super::names::Names;
use super::space::Space;
use crate::engine::{Block, BlockId, Want};
use crate::error::{Damage, DamageKind, Error, HeaderFault, Place};
use crate::freemap::Marks;
use crate::media::SEGMENT_LEN;
use crate::media::blockref::{Blockref, Seat, Statistics};
use crate::media::header::{HEADER_STRIDE, VolumeHeader};
use crate::media::raw::RawBlockref;
use crate::tree::Holder;
use crate::units::{DeviceIndex, Inum};
use crate::volume::{Piece, Volume};

/// Passes over one PFS before its names are given up: more than any sound one needs.
const PASSES_MAX: u64 = 4096;
/// Smallest window of inode numbers.
const WINDOW_MIN: usize = 2048;

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
    /// The copy to check, of a volume of copies: every block is read from there and from nowhere
    /// else, and its own freemap is compared. It has to be one of [`Check::copies`]. Without, blocks
    /// are read wherever they are good, and the freemap is that of the [home](Volume::home).
    pub copy: Option<u8>,
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
            copy: None,
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

impl core::ops::AddAssign for Summary {
    /// Of several copies of a volume: the findings of all, and what there is by the one that has the
    /// most of it.
    fn add_assign(&mut self, other: Self) {
        let most = if other.bytes > self.bytes { other } else { *self };
        *self = Self {
            information: self.information + other.information,
            repairable: self.repairable + other.repairable,
            fatal: self.fatal + other.fatal,
            ..most
        };
    }
}

/// The checker.
#[derive(Debug)]
pub struct Check {
    pub(super) options: CheckOptions,
    pub(super) header: HeaderFacts,
    pub(super) stage: Stage,
    pub(super) stack: Vec<Task>,
    pub(super) batch: Vec<Task>,
    pub(super) open: Vec<Option<OpenNode>>,
    pub(super) free_nodes: Vec<usize>,
    pub(super) roots: Vec<Root>,
    pub(super) names: Names,
    /// Where the next pass over the PFS at hand starts.
    pass_next: Option<u64>,
    pub(super) shared: BTreeMap<BlockId, Sums>,
    pub(super) space: Space,
    pub(super) leaves: BTreeSet<u64>,
    pub(super) totals: Totals,
    pub(super) findings: Vec<Finding>,
    pub(super) summary: Summary,
    pub(super) bytes: u64,
    pub(super) bytes_expected: u64,
    /// Something of the PFS at hand could not be read: missing names are no news.
    pub(super) is_part: bool,
    /// A freemap leaf could not be read: its totals are not whole.
    pub(super) is_freemap_part: bool,
    /// Something could not be read that may refer to further blocks.
    pub(super) is_hiding: bool,
}

/// What the check needs of the volume header.
#[derive(Debug)]
pub(super) struct HeaderFacts {
    /// The copy whose freemap is checked.
    pub(super) home: Option<Seat>,
    pub(super) freemap_table: [RawBlockref; 4],
    pub(super) reserved: Static,
    pub(super) total_size: u64,
    pub(super) allocator_size: u64,
    pub(super) allocator_free: u64,
}

/// A PFS to check.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) blockref: Blockref,
    pub(super) label: Vec<u8>,
    pub(super) next_inum: u64,
}

/// A block to visit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task {
    pub(super) blockref: Blockref,
    pub(super) role: Role,
    pub(super) parent: Option<usize>,
    pub(super) owner: Owner,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
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
pub(super) struct Owner {
    pub(super) holder: Holder,
    pub(super) inum: Inum,
    pub(super) size: u64,
}

/// What is below a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sums {
    pub(super) statistics: Statistics,
    pub(super) leaves: u64,
    /// Something below could not be read, so the sums are not to be compared.
    pub(super) is_part: bool,
}

/// A table whose subtrees are not all visited yet.
#[derive(Debug)]
pub(super) struct OpenNode {
    pub(super) task: Task,
    pub(super) sums: Sums,
    pub(super) pending: u32,
}

impl Check {
    /// The copies of `volume` that can be checked by themselves: those that are there, in sync, and
    /// have the newest header. What another one holds is an older state, or a part of this one. None
    /// on a volume without copies.
    #[must_use]
    pub fn copies(volume: &Volume) -> Vec<u8> {
        let Some(copies) = volume.group() else {
            return Vec::new();
        };
        let in_sync = copies.group().in_sync() & !copies.decision().lagging;
        let checked = copies.headers().iter().map(|one| one.copy);
        checked.filter(|copy| in_sync & 1 << copy != 0).collect()
    }

    /// A check of `volume` from the start.
    #[must_use]
    pub fn new(volume: &Volume, options: CheckOptions) -> Self {
        let header = header_of(volume, options.copy);
        let total_size = header.total_size();
        let mut check = Self {
            options,
            header: HeaderFacts {
                home: volume.seat(options.copy.or_else(|| volume.home())),
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
            names: Names::new(0, 0, 0),
            pass_next: None,
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
            is_hiding: false,
        };
        check.look_at_headers(volume);
        let super_root = volume.super_root();
        check.bytes_expected = super_root.statistics().unwrap_or_default().data_count;
        let owner = Owner { holder: Holder::SuperRoot, inum: Inum(0), size: 0 };
        if let Some(location) = super_root.location_on(check.header.home) {
            check.space.mark(location);
        }
        check.push(super_root, Role::SuperRoot, None, owner);
        check
    }

    /// Goes on until blocks are needed or all is done.
    pub fn step(&mut self) -> Step {
        loop {
            if !self.batch.is_empty() {
                return Step::Read(self.batch.iter().filter_map(|task| self.want(task)).collect());
            }
            let from = self.stack.len() - self.stack.len().min(self.options.batch.max(1));
            let tasks = self.stack.split_off(from);
            if tasks.is_empty() && !self.next_stage() {
                return Step::Done;
            }
            for task in tasks {
                if self.want(&task).is_some() {
                    self.batch.push(task);
                } else {
                    let damage = Damage::new(task.blockref.place(), DamageKind::NoCopy);
                    self.unreadable(&task, damage.into());
                }
            }
        }
    }

    /// How the block of a task is asked for; `None` if the copy that is checked does not have it.
    fn want(&self, task: &Task) -> Option<Want> {
        let want = Want::of(&task.blockref)?;
        match (self.options.copy, task.role) {
            (None, _) => Some(want),
            (Some(copy), Role::FreemapNode | Role::FreemapLeaf) => Some(want.only_on(copy)),
            (Some(copy), _) => want.on(copy),
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
        Summary { blocks: self.space.blocks, bytes: self.space.bytes, ..self.summary }
    }

    /// The space that blocks were found in; whole when the last step was [`Step::Done`] and
    /// [`sees_all`](Self::sees_all) says so.
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.space.marks(self.header.total_size)
    }

    /// Whether everything was read so far that may refer to further blocks.
    #[must_use]
    pub const fn sees_all(&self) -> bool {
        !self.is_hiding
    }

    fn look_at_headers(&mut self, volume: &Volume) {
        let device = self.options.copy.and_then(|copy| volume.copies()?.device(copy));
        let is_meant = |of: DeviceIndex| device.is_none_or(|device| device == of);
        for slot in volume.header_slots().iter().filter(|slot| is_meant(slot.device)) {
            // A volume may be smaller than its device; then nothing is owed to the slots behind it.
            let offset = u64::from(slot.slot) * HEADER_STRIDE;
            let is_behind = |piece: &Piece| piece.device == slot.device && offset >= piece.size;
            match slot.state {
                Err(HeaderFault::Magic(_)) if volume.pieces().iter().any(is_behind) => continue,
                _ => {}
            }
            if let Err(fault) = slot.state {
                let (device, slot) = (slot.device, slot.slot);
                self.report(FindingKind::Header { device, slot, fault }, None, None);
            }
        }
        let is_cut = |piece: &&Piece| is_meant(piece.device) && piece.device_size < piece.size;
        for piece in volume.pieces().iter().filter(is_cut) {
            let (device, size, need) = (piece.device, piece.device_size, piece.size);
            self.report(FindingKind::Truncated { device, size, need }, None, None);
        }
    }

    /// Ends the stage at hand and begins the next; `false` when there is none.
    fn next_stage(&mut self) -> bool {
        self.stage = match self.stage {
            Stage::SuperRoot => self.pfs_stage(0, 0, 0),
            Stage::Pfs { index, pass } => {
                self.end_pass();
                match self.pass_next.take() {
                    Some(_) if pass + 1 >= PASSES_MAX => {
                        self.report(FindingKind::NotChecked(Unchecked::Names), None, None);
                        self.pfs_stage(index + 1, 0, 0)
                    }
                    Some(start) => self.pfs_stage(index, pass + 1, start),
                    None => self.pfs_stage(index + 1, 0, 0),
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

    fn pfs_stage(&mut self, index: usize, pass: u64, start: u64) -> Stage {
        let Some(root) = self.roots.get(index) else {
            self.begin_freemap();
            return Stage::Freemap;
        };
        // No more room than the numbers that were handed out take, if the PFS says so truly.
        let handed_out = root.next_inum.saturating_sub(start).saturating_add(1);
        let len = usize::try_from(handed_out).unwrap_or(usize::MAX).max(WINDOW_MIN);
        let len = len.min(self.options.inums_per_pass.max(1));
        self.names = Names::new(start, len, self.options.directories_per_pass);
        self.is_part = false;
        let (blockref, size) = (root.blockref, 0);
        let owner = Owner { holder: Holder::PfsRoot, inum: Inum::ROOT, size };
        self.stage = Stage::Pfs { index, pass };
        self.push(blockref, Role::PfsRoot, None, owner);
        self.stage
    }

    fn end_pass(&mut self) {
        let names = core::mem::replace(&mut self.names, Names::new(0, 0, 0));
        self.pass_next = names.next();
        let mut found = Vec::new();
        names.findings(!self.is_part, |inum, kind| found.push((inum, kind)));
        for (inum, kind) in found {
            self.report(kind, None, Some(inum));
        }
    }

    /// Whether this pass looks at blocks for the first time. Later ones only collect names.
    pub(super) const fn is_first_pass(&self) -> bool {
        !matches!(self.stage, Stage::Pfs { pass: 1.., .. })
    }

    pub(super) fn report(&mut self, kind: FindingKind, place: Option<Place>, inum: Option<Inum>) {
        let pfs = match self.stage {
            Stage::Pfs { index, .. } => u32::try_from(index).ok(),
            Stage::SuperRoot | Stage::Freemap | Stage::Done => None,
        };
        let inum = inum.filter(|_| pfs.is_some());
        self.findings.push(Finding { kind, place, pfs, inum });
        match kind.grade() {
            Grade::Information => self.summary.information += 1,
            Grade::Repairable => self.summary.repairable += 1,
            Grade::Fatal => self.summary.fatal += 1,
        }
    }

    /// Reports what belongs to a block, in the first pass only.
    pub(super) fn report_at(&mut self, kind: FindingKind, blockref: &Blockref, owner: &Owner) {
        if self.is_first_pass() {
            self.report(kind, Some(blockref.place()), Some(owner.inum));
        }
    }

    pub(super) fn push(
        &mut self,
        blockref: Blockref,
        role: Role,
        parent: Option<usize>,
        owner: Owner,
    ) {
        if let Some(node) = parent.and_then(|parent| self.open.get_mut(parent)?.as_mut()) {
            node.pending += 1;
        }
        self.stack.push(Task { blockref, role, parent, owner });
    }
}

/// The header of `copy`, or of the volume.
fn header_of(volume: &Volume, copy: Option<u8>) -> &VolumeHeader {
    let copies = volume.group().map_or(&[][..], |copies| copies.headers());
    let own = copies.iter().find(|one| Some(one.copy) == copy);
    own.map_or_else(|| volume.header(), |one| &one.header)
}
