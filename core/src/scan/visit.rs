//! What the checker does with a block: structure, names, and what hangs below.

use alloc::vec::Vec;

use super::check::{Check, Owner, Role, Root, Stage, Sums, Task};
use super::finding::FindingKind;
use super::space::Marked;
use crate::engine::{Block, Want};
use crate::error::{BlockKind, Damage, DamageKind, Error, InodeFault, Place};
use crate::media::ZONE_LEN;
use crate::media::blockref::{Blockref, is_zeroed, span_last};
use crate::media::dirent::DirentHeader;
use crate::media::dirhash::{COLLISION_MASK, NAME_BIT, dirhash};
use crate::media::inode::{Inode, ObjectKind, PfsKind};
use crate::tree::{Holder, Table};
use crate::units::Inum;

impl Check {
    pub(super) fn unreadable(&mut self, task: &Task, error: Error) {
        let place = error_place(&error).unwrap_or_else(|| task.blockref.place());
        let inum =
            if task.role == Role::Inode { Inum(task.blockref.key()) } else { task.owner.inum };
        if self.is_first_pass() {
            let kind = match task.role {
                Role::FreemapNode | Role::FreemapLeaf => FindingKind::FreemapDamaged(error),
                _ => FindingKind::Damaged(error),
            };
            self.report(kind, Some(place), Some(inum));
        }
        self.is_hiding |= matches!(
            task.role,
            Role::SuperRoot | Role::PfsRoot | Role::Inode | Role::Indirect { .. }
        );
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

    pub(super) fn visit(&mut self, task: &Task, block: Block) {
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

    pub(super) fn super_root(&mut self, task: &Task, block: Block) {
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

    pub(super) fn inode(&mut self, task: &Task, block: Block) {
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
            self.roots.push(Root { blockref: task.blockref, label, next_inum });
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
        // a root that says another number is told of, and is the root none the less
        let (inum, parent) = match task.role {
            Role::PfsRoot => (Inum::ROOT, Inum::ROOT),
            _ => (inode.inum(), inode.parent()),
        };
        let owner = Owner { holder, inum, size: inode.size() };
        self.names.inode(owner.inum.0, inode.kind(), inode.nlinks(), parent);
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
    pub(super) fn shared_contents(&mut self, task: &Task, holder: Holder) -> Option<Sums> {
        if holder != Holder::File || self.roots.len() < 2 {
            return None;
        }
        let sums = *self.shared.get(Want::of(&task.blockref)?.id())?;
        self.bytes += sums.statistics.data_count;
        Some(sums)
    }

    pub(super) fn root_facts(&mut self, task: &Task, inode: &Inode<'_>) {
        let owner = task.owner;
        if inode.kind() != ObjectKind::Directory {
            let damage = Damage::new(task.blockref.place(), DamageKind::NotAllowed);
            self.report_at(FindingKind::Damaged(damage.into()), &task.blockref, &owner);
        }
        if inode.is_pfs_root() != task.blockref.is_pfs_root() || !inode.is_pfs_root() {
            self.report_at(FindingKind::RootFlag, &task.blockref, &owner);
        }
        if inode.inum() != Inum::ROOT {
            self.report_at(FindingKind::RootNumber(inode.inum()), &task.blockref, &owner);
        }
        if (dirhash(inode.label()) ^ task.blockref.key()) & !COLLISION_MASK != 0 {
            let kind = DamageKind::Dirent(crate::error::DirentFault::Hash);
            let damage = Damage::new(task.blockref.place(), kind);
            self.report_at(FindingKind::Damaged(damage.into()), &task.blockref, &owner);
        }
    }

    /// Facts of an ordinary inode; `false` if it is not the one that it should be.
    pub(super) fn inode_facts(&mut self, task: &Task, inode: &Inode<'_>) -> bool {
        let key = Inum(task.blockref.key());
        if inode.inum() != key {
            let kind = DamageKind::Inode(InodeFault::Number(inode.inum()));
            self.unreadable(task, Damage::new(task.blockref.place(), kind).into());
            return false;
        }
        let Stage::Pfs { index, .. } = self.stage else {
            return true;
        };
        let next = self.roots.get(index).map_or(u64::MAX, |root| root.next_inum);
        let owner = Owner { inum: key, ..task.owner };
        if key.0 >= next {
            let next = Inum(next);
            self.report_at(FindingKind::NumberNotReserved { next }, &task.blockref, &owner);
        }
        if inode.is_pfs_root() || task.blockref.is_pfs_root() {
            self.report_at(FindingKind::RootFlag, &task.blockref, &owner);
        }
        true
    }

    /// Goes through a table: opens a node for what it counts, and pushes what is below it.
    pub(super) fn table(&mut self, task: &Task, table: &Table) {
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
                    self.is_hiding = true;
                    self.is_part |= task.owner.holder != Holder::File;
                    self.child_of(node, |sums| sums.is_part = true);
                }
            }
        }
        self.close_if_done(node);
    }

    pub(super) fn entry(
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
            BlockKind::Indirect => Role::Indirect { parent_bits: table.key_bits() },
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
            self.is_hiding = true;
            self.report_at(FindingKind::Damaged(damage.into()), &blockref, &owner);
            return;
        }
        self.push(blockref, role, Some(node), owner);
    }

    /// Space, age and what the parent counts.
    pub(super) fn account(&mut self, task: &Task, blockref: &Blockref, node: usize) {
        let len = blockref.location_on(self.header.home).map_or(0, |location| {
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
    pub(super) fn dirent(
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
                if header.target.0 & NAME_BIT != 0 {
                    self.report_at(FindingKind::Dangling, blockref, owner);
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
    pub(super) fn compare_names(
        &mut self,
        blockref: &Blockref,
        name: Vec<u8>,
        previous: &mut Option<(u64, Vec<u8>)>,
        owner: &Owner,
    ) {
        let window = blockref.key() & !COLLISION_MASK;
        if previous.as_ref().is_some_and(|(hash, other)| *hash == window && *other == name) {
            self.report_at(FindingKind::DuplicateName, blockref, owner);
        }
        *previous = Some((window, name));
    }
}

const fn error_place(error: &Error) -> Option<Place> {
    match error {
        Error::Damaged(damage) => Some(damage.place),
        _ => None,
    }
}
