//! One fact of a tree is made true: for repair, which knows that it is not.

use super::change::{put_name, writable};
use super::names::{self, Entry, Listed, check_empty};
use super::node::Node;
use super::pfs::Pfs;
use crate::dirty::{DirtyBlock, Edit, Plan};
use crate::engine::{Change, Stop, View};
use crate::error::{BlockKind, Damage, DamageKind, Error};
use crate::media::FILE_BLOCK_LEN;
use crate::media::inode::{OP_PFS_ROOT, ObjectKind};
use crate::tree::first;
use crate::units::Inum;

/// Log2 of the bytes that a file block covers.
const FILE_BLOCK_BITS: u8 = 16;

/// Makes a fact of a tree true.
#[derive(Clone, Copy, Debug)]
pub struct Correct {
    /// The tree.
    pub pfs: Pfs,
    /// The fact.
    pub what: Correction,
}

/// What is made true. Times stay as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Correction {
    /// The inode has this many names.
    Links {
        /// The inode.
        inum: Inum,
        /// How many.
        count: u64,
    },
    /// The root says that it is the root of a PFS, with the number 1.
    Root,
    /// The inode is no root of a PFS, and says so.
    NoRoot {
        /// The inode.
        inum: Inum,
    },
    /// No number below this one is handed out again.
    NextNumber(Inum),
    /// The entry says the kind that its inode has.
    Kind {
        /// The directory.
        directory: Inum,
        /// Key of the entry.
        key: u64,
    },
    /// The entry is not there.
    NoName {
        /// The directory.
        directory: Inum,
        /// Key of the entry.
        key: u64,
    },
    /// The inode, which has no name, is not there.
    NoInode {
        /// The inode.
        inum: Inum,
    },
    /// What leads to the inode, and its own table, is summed up.
    Sums {
        /// The inode.
        inum: Inum,
    },
    /// The tables that lead to the first leaf at or behind a key are summed up.
    SumsBelow {
        /// The inode that they belong to.
        inum: Inum,
        /// The key.
        key: u64,
    },
}

impl Change for Correct {
    type Output = ();

    fn gather(&self, view: &mut View<'_>) -> Result<((), Plan), Stop> {
        let tree = writable(view, &self.pfs)?;
        let mut plan = Plan::new(self.pfs.id());
        match self.what {
            Correction::NextNumber(next) => {
                self.set(view, &mut plan, Inum::ROOT, |_| {})?;
                plan.next_inum = Some(tree.next_inum().max(next));
            }
            Correction::Links { inum, count } => {
                self.set(view, &mut plan, inum, |inode| inode.nlinks.set(count))?;
            }
            Correction::Root => self.set(view, &mut plan, Inum::ROOT, |inode| {
                inode.inum.set(Inum::ROOT.0);
                inode.op_flags |= OP_PFS_ROOT;
            })?,
            Correction::NoRoot { inum } => {
                self.set(view, &mut plan, inum, |inode| inode.op_flags &= !OP_PFS_ROOT)?;
            }
            Correction::Sums { inum } => self.set(view, &mut plan, inum, |_| {})?,
            Correction::SumsBelow { inum, key } => self.sums_below(view, &mut plan, inum, key)?,
            Correction::Kind { directory, key } => self.kind(view, &mut plan, directory, key)?,
            Correction::NoName { directory, key } => {
                let entry = self.entry(view, directory, key)?;
                // what it names may have come to be since that was found out
                match Node::find(view, &self.pfs, entry.target) {
                    Err(Stop::Fail(Error::NoInode(_))) => {}
                    Err(stop) => return Err(stop),
                    Ok(_) => return Err(Error::Exists.into()),
                }
                self.set(view, &mut plan, directory, |_| {})?;
                plan.edits.push(Edit::Name { directory, key, name: None });
            }
            Correction::NoInode { inum } => {
                let node = Node::find(view, &self.pfs, inum)?;
                if node.kind() == ObjectKind::Directory {
                    check_empty(view, &self.pfs, &node)?;
                }
                plan.edits.push(Edit::Remove { inum });
                plan.frees = true;
            }
        }
        Ok(((), plan))
    }
}

impl Correct {
    fn set(
        &self,
        view: &mut View<'_>,
        plan: &mut Plan,
        inum: Inum,
        set: impl FnOnce(&mut crate::media::raw::RawInode),
    ) -> Result<(), Stop> {
        let node = Node::find(view, &self.pfs, inum)?;
        let mut inode = node.raw();
        set(&mut inode);
        plan.set_inode(inode, node.standing());
        Ok(())
    }

    /// The entry with a key.
    fn entry(&self, view: &mut View<'_>, directory: Inum, key: u64) -> Result<Entry, Stop> {
        let node = Node::find_directory(view, &self.pfs, directory)?;
        let (listed, _) = names::list(view, &self.pfs, &node, key, 1)?;
        match listed.into_iter().next() {
            Some(Listed::Entry(entry)) if entry.key == key => Ok(entry),
            Some(Listed::Broken(_, error)) => Err(error.into()),
            _ => Err(Error::NoEntry.into()),
        }
    }

    fn kind(
        &self,
        view: &mut View<'_>,
        plan: &mut Plan,
        directory: Inum,
        key: u64,
    ) -> Result<(), Stop> {
        let entry = self.entry(view, directory, key)?;
        let node = Node::find(view, &self.pfs, entry.target)?;
        self.set(view, plan, directory, |_| {})?;
        plan.edits.push(put_name(directory, key, &entry.name, entry.target, node.kind()));
        Ok(())
    }

    /// A leaf that is put anew as it is takes the tables that lead to it along.
    fn sums_below(
        &self,
        view: &mut View<'_>,
        plan: &mut Plan,
        inum: Inum,
        key: u64,
    ) -> Result<(), Stop> {
        let node = Node::find(view, &self.pfs, inum)?;
        let Some(table) = node.table(view, &self.pfs)? else {
            return Err(Error::NoEntry.into());
        };
        let leaf = first(view, &table, key, u64::MAX)?.ok_or(Error::NoEntry)?;
        match leaf.kind() {
            BlockKind::Inode => self.set(view, plan, Inum(leaf.key()), |_| {})?,
            BlockKind::Dirent => {
                let Entry { key, name, target, kind } = self.entry(view, inum, leaf.key())?;
                plan.set_inode(node.raw(), node.standing());
                plan.edits.push(put_name(inum, key, &name, target, kind));
            }
            BlockKind::Data
                if leaf.key_bits() == FILE_BLOCK_BITS && leaf.key() % FILE_BLOCK_LEN == 0 =>
            {
                plan.set_inode(node.raw(), node.standing());
                let (index, block) = (leaf.key() / FILE_BLOCK_LEN, DirtyBlock::Shared(*leaf.raw()));
                plan.edits.push(Edit::Block { inum, index, block });
            }
            _ => return Err(Damage::new(leaf.place(), DamageKind::NotAllowed).into()),
        }
        Ok(())
    }
}
