//! What the checker counts below a table, against what the table's blockref says.

use super::check::{Check, OpenNode, Role, Sums, Task};
use super::finding::FindingKind;
use crate::engine::Want;
use crate::media::blockref::Statistics;
use crate::tree::Holder;

impl Check {
    pub(super) fn open_node(&mut self, task: &Task) -> usize {
        let node = Some(OpenNode { task: *task, sums: Sums::default(), pending: 0 });
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

    pub(super) fn child_of(&mut self, node: usize, add: impl FnOnce(&mut Sums)) {
        if let Some(node) = self.open.get_mut(node).and_then(Option::as_mut) {
            add(&mut node.sums);
        }
    }

    /// A child that was pushed for `parent` is done.
    pub(super) fn child_done(&mut self, parent: Option<usize>, add: impl FnOnce(&mut Sums)) {
        let Some(index) = parent else { return };
        if let Some(node) = self.open.get_mut(index).and_then(Option::as_mut) {
            add(&mut node.sums);
            node.pending -= 1;
        }
        self.close_if_done(index);
    }

    /// Closes nodes whose subtrees are all visited, upwards.
    pub(super) fn close_if_done(&mut self, index: usize) {
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

    pub(super) fn compare_sums(&mut self, node: &OpenNode) {
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
            self.report_at(FindingKind::LeafCount { stored, counted }, &task.blockref, &task.owner);
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
}

impl Sums {
    pub(super) const fn add_statistics(&mut self, below: Statistics) {
        // A volume's own numbers may be wrong enough to overflow.
        let sum = &mut self.statistics;
        sum.data_count = sum.data_count.wrapping_add(below.data_count);
        sum.inode_count = sum.inode_count.wrapping_add(below.inode_count);
    }

    /// Leaves do not count across inodes (media format 3.3).
    pub(super) const fn add_inode(&mut self, below: &Self) {
        self.add_statistics(below.statistics);
        self.is_part |= below.is_part;
    }

    pub(super) const fn add_indirect(&mut self, below: &Self) {
        self.add_inode(below);
        self.leaves = self.leaves.saturating_add(below.leaves);
    }
}
