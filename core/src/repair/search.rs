//! The directory entries that repairs are about: who names these inodes?
//!
//! Invariants: a table is visited under what its parent says of it, so the search ends; it keeps no
//! more entries than [`FOUND_MAX`].

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::action::NameAt;
use crate::engine::{Block, Want};
use crate::error::{BlockKind, Error};
use crate::media::blockref::Blockref;
use crate::media::dirent::DirentHeader;
use crate::media::dirhash::NAME_BIT;
use crate::media::inode::{Inode, ObjectKind};
use crate::scan::Step;
use crate::tree::{Holder, Table};
use crate::units::Inum;

/// Blocks that are read side by side.
const BATCH: usize = 64;
/// Entries that are kept; who has more repairs them in a further run.
const FOUND_MAX: usize = 1 << 17;

/// A search for the names of some inodes. Resumable: each step is one batch of blocks.
#[derive(Debug)]
pub struct Search {
    wanted: BTreeMap<u32, BTreeSet<u64>>,
    stack: Vec<Task>,
    asked: Vec<Task>,
    found: Vec<(u32, NameAt)>,
}

#[derive(Clone, Debug)]
struct Task {
    pfs: u32,
    blockref: Blockref,
    holder: Holder,
    directory: Inum,
    parent_bits: u8,
}

impl Search {
    /// A search for who names `wanted`, by PFS; a number that no inode can have stands for all
    /// such numbers. `root` gives the root of a PFS.
    pub(super) fn new(
        wanted: BTreeMap<u32, BTreeSet<u64>>,
        root: impl Fn(u32) -> Option<Blockref>,
    ) -> Self {
        let task = |pfs: &u32| {
            let (holder, directory) = (Holder::PfsRoot, Inum::ROOT);
            Some(Task { pfs: *pfs, blockref: root(*pfs)?, holder, directory, parent_bits: 64 })
        };
        let stack = wanted.keys().filter_map(task).collect();
        Self { wanted, stack, asked: Vec::new(), found: Vec::new() }
    }

    /// What to read next.
    pub fn step(&mut self) -> Step {
        let from = self.stack.len().saturating_sub(BATCH);
        self.asked = self.stack.split_off(from);
        self.asked.retain(|task| Want::of(&task.blockref).is_some());
        let wants: Vec<Want> =
            self.asked.iter().filter_map(|task| Want::of(&task.blockref)).collect();
        if wants.is_empty() && self.stack.is_empty() { Step::Done } else { Step::Read(wants) }
    }

    /// Takes what was read, in the order in which it was asked for. What cannot be read has no
    /// names: the check told that.
    pub fn resume(&mut self, got: Vec<Result<Block, Error>>) {
        for (task, got) in core::mem::take(&mut self.asked).into_iter().zip(got) {
            let Ok(block) = got else { continue };
            match task.blockref.kind() {
                BlockKind::Inode => self.inode(&task, block),
                BlockKind::Indirect => {
                    let Task { blockref, holder, parent_bits, .. } = &task;
                    if let Ok(table) = Table::of_indirect(block, blockref, *holder, *parent_bits) {
                        self.table(&task, &table);
                    }
                }
                BlockKind::Dirent => self.name(&task, &task.blockref, Some(&block)),
                _ => {}
            }
        }
    }

    /// What was found.
    pub(super) fn finish(self) -> Vec<(u32, NameAt)> {
        self.found
    }

    fn inode(&mut self, task: &Task, block: Block) {
        let is_root = task.parent_bits == 64;
        let Ok(inode) = Inode::parse(&block) else { return };
        if inode.kind() != ObjectKind::Directory || inode.has_direct_data() {
            return;
        }
        let (holder, directory) = match is_root {
            true => (Holder::PfsRoot, Inum::ROOT),
            false => (Holder::Directory, inode.inum()),
        };
        let task = Task { holder, directory, ..task.clone() };
        let table = Table::of_inode(block, task.blockref.place(), holder);
        self.table(&task, &table);
    }

    fn table(&mut self, task: &Task, table: &Table) {
        for raw in table.slots() {
            let Ok(Some(blockref)) = Blockref::parse(raw) else { continue };
            match blockref.kind() {
                BlockKind::Indirect => {
                    let parent_bits = table.key_bits();
                    self.stack.push(Task { blockref, parent_bits, ..task.clone() });
                }
                BlockKind::Inode if task.holder == Holder::PfsRoot => {
                    // less than a root: only that one stands in no table of its PFS
                    self.stack.push(Task { blockref, parent_bits: 0, ..task.clone() });
                }
                BlockKind::Dirent if self.is_wanted(task.pfs, &blockref) => {
                    match blockref.location() {
                        Some(_) => self.stack.push(Task { blockref, ..task.clone() }),
                        None => self.name(task, &blockref, None),
                    }
                }
                _ => {}
            }
        }
    }

    fn is_wanted(&self, pfs: u32, blockref: &Blockref) -> bool {
        let Ok(header) = DirentHeader::parse(blockref) else { return false };
        let target = match header.target.0 & NAME_BIT {
            0 => header.target.0,
            _ => u64::MAX,
        };
        self.wanted.get(&pfs).is_some_and(|wanted| wanted.contains(&target))
    }

    fn name(&mut self, task: &Task, blockref: &Blockref, block: Option<&Block>) {
        let Ok(header) = DirentHeader::parse(blockref) else { return };
        let Ok(name) = header.name(blockref, block.map(|block| &**block)) else { return };
        if self.found.len() < FOUND_MAX {
            let (directory, key, target) = (task.directory, blockref.key(), header.target);
            self.found.push((task.pfs, NameAt { directory, key, name: name.to_vec(), target }));
        }
    }
}
