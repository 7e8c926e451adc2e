//! Operations of a flush over trees that are on media.

use alloc::vec::Vec;

use crate::engine::{Operation, Stop, View, Want};
use crate::error::BlockKind;
use crate::fs::Pfs;
use crate::fs::node::Base;
use crate::media::blockref::Blockref;
use crate::media::raw::RawBlockref;
use crate::tree::{Edit, Edited, Table, edit};
use crate::units::{Inum, Tid};

/// Finds what the last commit left of an inode.
#[derive(Clone, Copy, Debug)]
pub struct FindBase {
    /// The tree.
    pub pfs: Pfs,
    /// The inode.
    pub inum: Inum,
}

impl Operation for FindBase {
    type Output = Option<Base>;

    fn gather(&self, view: &mut View<'_>) -> Result<Option<Base>, Stop> {
        Base::find(view, &self.pfs, self.inum)
    }
}

/// Works changes into a tree.
#[derive(Debug)]
pub struct EditTree<'e> {
    /// Its root table.
    pub table: Table,
    /// The changes, ascending.
    pub edits: &'e [Edit],
}

impl Operation for EditTree<'_> {
    type Output = Edited;

    fn gather(&self, view: &mut View<'_>) -> Result<Edited, Stop> {
        edit(view, &self.table, self.edits)
    }
}

/// Blocks of a tree that are newer than a transaction: nothing else can refer to them, so they can
/// be given back when the tree goes.
#[derive(Debug)]
pub struct YoungBlocks {
    /// Its root table.
    pub table: Table,
    /// The transaction.
    pub tid: Tid,
}

impl Operation for YoungBlocks {
    type Output = Vec<RawBlockref>;

    fn gather(&self, view: &mut View<'_>) -> Result<Vec<RawBlockref>, Stop> {
        let mut found = Vec::new();
        self.collect(view, &self.table, &mut found);
        view.settle()?;
        Ok(found)
    }
}

impl YoungBlocks {
    /// A parent is never older than what is below it, so old subtrees need not be looked at. What
    /// cannot be read stays for the bulk scan.
    fn collect(&self, view: &mut View<'_>, table: &Table, found: &mut Vec<RawBlockref>) {
        for raw in table.slots().iter().filter(|raw| raw.kind != 0) {
            let Ok(Some(blockref)) = Blockref::parse(raw) else {
                continue;
            };
            if blockref.mirror_tid() <= self.tid {
                continue;
            }
            if blockref.kind() == BlockKind::Indirect
                && let Some(want) = Want::of(&blockref)
                && let Some(Ok(block)) = view.want(&want)
                && let Ok(below) = table.below(&blockref, block)
            {
                self.collect(view, &below, found);
            }
            found.push(*raw);
        }
    }
}
