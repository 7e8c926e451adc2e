//! What an operation wants changed.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::budget::Cost;
use super::layer::{DirtyBlock, DirtyName};
use super::{Contents, TreeId, layer};
use crate::media::raw::RawInode;
use crate::units::Inum;

/// One change.
#[derive(Clone, Debug)]
pub enum Edit {
    /// The inode is this now; its contents field counts only if it holds direct data.
    Inode {
        /// Which.
        inum: Inum,
        /// What it is now.
        inode: Box<InodeImage>,
        /// How it stands in its tree.
        standing: Standing,
    },
    /// The inode is gone.
    Remove {
        /// Which.
        inum: Inum,
    },
    /// A directory has this entry under `key`, or none.
    Name {
        /// The directory.
        directory: Inum,
        /// Key of the entry.
        key: u64,
        /// What it says, if it is there.
        name: Option<DirtyName>,
    },
    /// A file block is this now.
    Block {
        /// The file.
        inum: Inum,
        /// Number of the block.
        index: u64,
        /// What it is.
        block: DirtyBlock,
    },
    /// Bytes of a file block are these now.
    Patch {
        /// The file.
        inum: Inum,
        /// Number of the block.
        index: u64,
        /// Where in the block they go.
        at: usize,
        /// The bytes.
        bytes: Vec<u8>,
        /// What the block holds so far, where the active layer does not know.
        under: Option<Contents>,
    },
    /// File blocks from this one on are gone.
    Cut {
        /// The file.
        inum: Inum,
        /// The first one.
        index: u64,
    },
}

/// How an inode stands in its tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The operation makes it.
    New,
    /// It has a name.
    Named,
    /// It has no name any more; it stays for those who use it, until it is removed.
    Unlinked,
}

/// An inode's 1024 bytes.
#[derive(Clone)]
pub struct InodeImage(pub RawInode);

impl core::fmt::Debug for InodeImage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "InodeImage({})", self.0.inum.get())
    }
}

/// All that an operation wants changed in one tree; applied as a whole or not at all.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The tree.
    pub tree: TreeId,
    /// The changes, in order.
    pub edits: Vec<Edit>,
    /// The inode number to hand out next, if any was handed out.
    pub next_inum: Option<Inum>,
    /// Whether the operation makes room: it may use the space that is kept for such.
    pub frees: bool,
}

impl Plan {
    /// A plan that changes nothing yet.
    #[must_use]
    pub const fn new(tree: TreeId) -> Self {
        Self { tree, edits: Vec::new(), next_inum: None, frees: false }
    }

    /// The inode is this now.
    pub fn set_inode(&mut self, inode: RawInode, standing: Standing) {
        let inum = Inum(inode.inum.get());
        self.edits.push(Edit::Inode { inum, inode: Box::new(InodeImage(inode)), standing });
    }

    /// What it may need on media, at worst.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let mut cost = Cost::default();
        for edit in &self.edits {
            cost += match edit {
                Edit::Inode { .. } | Edit::Remove { .. } => layer::INODE_COST_MAX,
                Edit::Name { .. } => layer::NAME_COST,
                Edit::Block { block: DirtyBlock::Bytes(contents), .. } => {
                    let mut cost = Cost::of_block(contents.len());
                    cost += layer::BLOCK_TABLES_COST_MAX;
                    cost
                }
                Edit::Block { .. } | Edit::Cut { .. } => layer::BLOCK_TABLES_COST_MAX,
                Edit::Patch { at, bytes, under, .. } => {
                    let under = under.as_ref().map_or(0, |under| under.len());
                    let mut cost = Cost::of_block(under.max(at + bytes.len()));
                    cost += layer::BLOCK_TABLES_COST_MAX;
                    cost
                }
            };
        }
        cost
    }
}
