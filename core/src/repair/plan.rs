//! From findings to a plan.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;

use super::action::{Action, NameAt, Repair};
use super::search::Search;
use crate::freemap::Marks;
use crate::media::blockref::Blockref;
use crate::media::header::{HEADER_SLOTS, VolumeHeader};
use crate::scan::{Check, Finding, FindingKind, Grade};
use crate::units::{DeviceIndex, Inum};
use crate::volume::Volume;

/// Repairs that one plan holds; more are for a further run.
const REPAIRS_MAX: usize = 1 << 17;

/// What to do with inodes that have no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Orphans {
    /// Give them a name in `lost+found`.
    #[default]
    Attach,
    /// Delete them; a directory only if it is empty.
    Delete,
    /// Leave them.
    Leave,
}

/// What may be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RepairOptions {
    /// What to do with inodes that have no name.
    pub orphans: Orphans,
    /// Whether names of inodes that do not exist may be removed.
    pub drop_dangling: bool,
}

/// What becomes of a finding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is put right.
    Planned,
    /// It could be put right, and waits for consent.
    Withheld,
    /// Nothing is wrong.
    Fine,
    /// It cannot be put right.
    Beyond(Beyond),
}

/// Why something is not put right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beyond {
    /// There is no other copy of what is damaged.
    Lost,
    /// Nobody can tell which of two is right.
    Ambiguous,
    /// It lies where nothing of the volume does.
    Outside,
    /// The device ends before the volume does.
    Truncated,
    /// There are more repairs than one run does.
    TooMany,
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "there is no other copy; restore it from a snapshot or a backup",
            Self::Ambiguous => {
                "nobody can tell which one is right; copy out what is needed and decide"
            }
            Self::Outside => "it lies behind the end of the volume, where nothing reads it",
            Self::Truncated => "give the device its size back",
            Self::TooMany => "there is more to repair than one run does; run it again",
        })
    }
}

/// Why nothing at all may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// The freemap is wrong, and a part of the tree that it could be made from cannot be read:
    /// what is written might go over what is below that part.
    Hidden,
    /// A device ends before its volume does.
    Truncated,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hidden => {
                "the freemap is wrong and a part of the tree cannot be read, so nobody knows which \
                 space is free; copy out what is needed"
            }
            Self::Truncated => {
                "a device ends before its volume does; give it its size back, or copy out what is \
                 left"
            }
        })
    }
}

/// Every repair by name; nothing is done yet.
#[derive(Clone, Debug)]
pub struct Plan {
    repairs: Vec<Repair>,
    withheld: Vec<Repair>,
    roots: Vec<Blockref>,
    marks: Option<Marks>,
    doubt: Option<Doubt>,
}

impl Plan {
    /// What is to be done, in order.
    #[must_use]
    pub fn repairs(&self) -> &[Repair] {
        &self.repairs
    }

    /// What could be done, with consent.
    #[must_use]
    pub fn withheld(&self) -> &[Repair] {
        &self.withheld
    }

    /// Why nothing may be written, if so.
    #[must_use]
    pub const fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// The space that is in use, if all of it is known.
    #[must_use]
    pub const fn marks(&self) -> Option<&Marks> {
        self.marks.as_ref()
    }

    /// The root of a PFS, as the check found it.
    #[must_use]
    pub fn root(&self, pfs: u32) -> Option<&Blockref> {
        self.roots.get(usize::try_from(pfs).ok()?)
    }

    /// The PFS whose root is the first one at or behind `key` in the super-root.
    #[must_use]
    pub fn root_at(&self, key: u64) -> Option<&Blockref> {
        let behind = self.roots.iter().filter(|root| root.key() >= key);
        behind.min_by_key(|root| root.key())
    }

    /// Whether the freemap is among what is put right.
    #[must_use]
    pub fn changes_freemap(&self) -> bool {
        self.repairs.iter().any(|repair| repair.action.is_of_freemap())
    }

    /// Whether every header copy has to be written again, so that falling back to one does not
    /// bring back what was wrong.
    #[must_use]
    pub fn rewrites_headers(&self) -> bool {
        let is_header = |repair: &Repair| matches!(repair.action, Action::RewriteHeader { .. });
        self.changes_freemap() || self.repairs.iter().any(is_header)
    }
}

/// Makes a [`Plan`] of findings.
#[derive(Debug)]
pub struct Planner {
    options: RepairOptions,
    root_device: DeviceIndex,
    /// Which header slot comes after the one that is used, and how many there are, by device.
    slots: Vec<(DeviceIndex, u64)>,
    next_slot: u64,
    repairs: Vec<Repair>,
    withheld: Vec<Repair>,
    /// The numbers behind those that a PFS would hand out again.
    next: BTreeMap<u32, u64>,
    /// Inodes whose names say another kind, and inodes that are named and missing.
    kinds: BTreeMap<u32, BTreeSet<u64>>,
    missing: BTreeMap<u32, BTreeSet<u64>>,
    /// Keys of PFS roots that do not say that they are.
    wrong_roots: BTreeSet<u64>,
    is_truncated: bool,
}

impl Planner {
    /// A planner for `volume`.
    #[must_use]
    pub fn new(volume: &Volume, options: RepairOptions) -> Self {
        let count = |size| {
            let slots = 0..HEADER_SLOTS;
            slots.filter(|slot| VolumeHeader::slot_offset(*slot, size).is_some()).count() as u64
        };
        let slots: Vec<_> =
            volume.pieces().iter().map(|piece| (piece.device, count(piece.size))).collect();
        let mine = slots.first().map_or(1, |(_, count)| (*count).max(1));
        Self {
            options,
            root_device: volume.root_device(),
            next_slot: (u64::from(volume.chosen_slot()) + 1) % mine,
            slots,
            repairs: Vec::new(),
            withheld: Vec::new(),
            next: BTreeMap::new(),
            kinds: BTreeMap::new(),
            missing: BTreeMap::new(),
            wrong_roots: BTreeSet::new(),
            is_truncated: false,
        }
    }

    /// Decides about a finding.
    pub fn consider(&mut self, finding: &Finding) -> Verdict {
        if self.repairs.len() + self.withheld.len() >= REPAIRS_MAX {
            return match finding.grade() {
                Grade::Information => Verdict::Fine,
                Grade::Repairable | Grade::Fatal => Verdict::Beyond(Beyond::TooMany),
            };
        }
        match finding.kind {
            FindingKind::Truncated { .. } => {
                self.is_truncated = true;
                Verdict::Beyond(Beyond::Truncated)
            }
            FindingKind::Damaged(_) => Verdict::Beyond(Beyond::Lost),
            FindingKind::DirectoryLoop | FindingKind::DuplicateName | FindingKind::Overlap => {
                Verdict::Beyond(Beyond::Ambiguous)
            }
            FindingKind::Header { device, slot, .. } => self.header(device, slot),
            FindingKind::NotAllocated { start, len } | FindingKind::PossiblyFree { start, len } => {
                self.plan(None, Action::MarkAllocated { start, len })
            }
            FindingKind::FreemapDamaged(_) => self.of_place(finding, Action::RebuildFreemap),
            FindingKind::FreemapSlot => self.of_place(finding, Action::MoveFreemap),
            FindingKind::ReservedFree { segment }
            | FindingKind::SegmentAvail { segment, .. }
            | FindingKind::SegmentLinear { segment, .. } => {
                self.plan(None, Action::CorrectSegment(segment))
            }
            FindingKind::Statistics { .. } => {
                let (inum, pfs) = (finding.inum, finding.pfs);
                self.of_place(finding, |place| Action::Recount { inum: pfs.and(inum), place })
            }
            _ => self.consider_inode(finding),
        }
    }

    /// Findings about an inode or a name of a PFS.
    fn consider_inode(&mut self, finding: &Finding) -> Verdict {
        let (pfs, inum) = (finding.pfs, finding.inum.unwrap_or(Inum::ROOT));
        match finding.kind {
            // those of the roots are found in the super-root, before their PFS is gone through
            FindingKind::RootFlag | FindingKind::RootNumber(_) if pfs.is_none() => {
                self.wrong_roots.extend(finding.place.map(|place| place.key));
                Verdict::Planned
            }
            FindingKind::RootFlag => self.plan(pfs, Action::ClearRootFlag(inum)),
            FindingKind::NumberNotReserved { .. } => {
                let next = self.next.entry(pfs.unwrap_or(0)).or_default();
                *next = (*next).max(inum.0.saturating_add(1));
                Verdict::Planned
            }
            FindingKind::Links { stored, counted } => {
                self.plan(pfs, Action::SetLinks { inum, stored, counted })
            }
            FindingKind::WrongKind => {
                self.kinds.entry(pfs.unwrap_or(0)).or_default().insert(inum.0);
                Verdict::Planned
            }
            FindingKind::Dangling => {
                // found in the entry itself, and not by counting: a number that cannot be
                let target = if finding.place.is_some() { u64::MAX } else { inum.0 };
                self.missing.entry(pfs.unwrap_or(0)).or_default().insert(target);
                if self.options.drop_dangling { Verdict::Planned } else { Verdict::Withheld }
            }
            FindingKind::Orphan => match self.options.orphans {
                Orphans::Attach => self.plan(pfs, Action::Attach(inum)),
                Orphans::Delete => self.plan(pfs, Action::Delete(inum)),
                Orphans::Leave => {
                    self.withheld.push(Repair { pfs, action: Action::Attach(inum) });
                    Verdict::Withheld
                }
            },
            FindingKind::Unlinked if self.options.orphans == Orphans::Delete => {
                self.plan(pfs, Action::Delete(inum))
            }
            _ => match finding.grade() {
                Grade::Information => Verdict::Fine,
                Grade::Repairable | Grade::Fatal => Verdict::Beyond(Beyond::Ambiguous),
            },
        }
    }

    fn plan(&mut self, pfs: Option<u32>, action: Action) -> Verdict {
        let repair = Repair { pfs, action };
        if !self.repairs.contains(&repair) || self.repairs.len() > DEDUP_MAX {
            self.repairs.push(repair);
        }
        Verdict::Planned
    }

    fn of_place(
        &mut self,
        finding: &Finding,
        action: impl FnOnce(crate::error::Place) -> Action,
    ) -> Verdict {
        match finding.place {
            Some(place) => self.plan(finding.pfs, action(place)),
            None => Verdict::Beyond(Beyond::Ambiguous),
        }
    }

    fn header(&mut self, device: DeviceIndex, slot: u8) -> Verdict {
        let slots = self.slots.iter().find(|(mine, _)| *mine == device).map_or(0, |(_, n)| *n);
        if u64::from(slot) >= slots {
            return Verdict::Beyond(Beyond::Outside);
        }
        let may_be_newer = device == self.root_device && u64::from(slot) == self.next_slot;
        self.plan(None, Action::RewriteHeader { device, slot, may_be_newer })
    }

    /// The search for the names that repairs are about, when all findings were considered.
    #[must_use]
    pub fn search(&self, check: &Check) -> Search {
        let mut wanted = self.kinds.clone();
        for (pfs, inums) in &self.missing {
            wanted.entry(*pfs).or_default().extend(inums);
        }
        Search::new(wanted, |pfs| check.root(usize::try_from(pfs).ok()?))
    }

    /// The plan; `check` and `search` are done.
    #[must_use]
    pub fn finish(mut self, check: &Check, search: Search) -> Plan {
        for (pfs, name) in search.finish() {
            self.name(pfs, name);
        }
        for (pfs, next) in core::mem::take(&mut self.next) {
            let action = Action::ReserveNumbers { next: Inum(next) };
            self.repairs.push(Repair { pfs: Some(pfs), action });
        }
        let roots: Vec<Blockref> = (0..).map_while(|index| check.root(index)).collect();
        for (pfs, root) in (0_u32..).zip(&roots) {
            if self.wrong_roots.contains(&root.key()) {
                self.repairs.push(Repair { pfs: Some(pfs), action: Action::SetRoot });
            }
        }
        self.repairs.sort_by_key(|repair| repair.action.rank());
        let marks = check.sees_all().then(|| check.marks());
        let is_freemap_wrong = self.repairs.iter().any(|repair| repair.action.is_of_freemap());
        let doubt = match () {
            () if self.is_truncated => Some(Doubt::Truncated),
            () if is_freemap_wrong && marks.is_none() => Some(Doubt::Hidden),
            () => None,
        };
        Plan { repairs: self.repairs, withheld: self.withheld, roots, marks, doubt }
    }

    fn name(&mut self, pfs: u32, name: NameAt) {
        let has = |set: &BTreeMap<u32, BTreeSet<u64>>| {
            set.get(&pfs).is_some_and(|inums| inums.contains(&name.target.0))
        };
        let is_kind = has(&self.kinds);
        let action = if is_kind { Action::SetKind(name) } else { Action::RemoveName(name) };
        let repair = Repair { pfs: Some(pfs), action };
        if is_kind || self.options.drop_dangling {
            self.repairs.push(repair);
        } else {
            self.withheld.push(repair);
        }
    }
}

/// Repairs behind which the same one is not looked for.
const DEDUP_MAX: usize = 256;
