//! One layer of changes to one tree.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Contents;
use super::budget::Cost;
use super::plan::{Edit, Standing};
use crate::media::check::Verified;
use crate::media::inode::ObjectKind;
use crate::media::raw::{RawBlockref, RawInode};
use crate::units::Inum;

/// What an inode costs at worst: itself, and a path of tables of its own to it.
pub(super) const INODE_COST_MAX: Cost = Cost { large: 0, small: 65 << 10 };
/// An inode beside another one that is dirty as well: they share their tables.
const INODE_COST_NEAR: Cost = Cost { large: 0, small: 3 << 10 };
/// Inodes with a common `inum >> INODE_GROUP` stand in one or two tables.
const INODE_GROUP: u32 = 5;
/// What a name costs at worst: a block for a long one, and a table or two.
pub(super) const NAME_COST: Cost = Cost { large: 0, small: 17 << 10 };
/// In a new directory tables are made full.
const NAME_COST_NEW: Cost = Cost { large: 0, small: 2 << 10 };
/// What the tables of a file block cost at worst.
pub(super) const BLOCK_TABLES_COST_MAX: Cost = Cost { large: 0, small: 32 << 10 };
/// Beside another dirty block they are shared.
const BLOCK_TABLES_COST_NEAR: Cost = Cost { large: 0, small: 1 << 10 };
/// File blocks with a common `index >> BLOCK_GROUP` stand in one or two tables.
const BLOCK_GROUP: u32 = 6;

/// Memory that a dirty inode takes beside its file blocks, roughly.
const INODE_BYTES: u64 = 1400;
/// Memory that a dirty name takes, roughly.
const NAME_BYTES: u64 = 160;

/// What an inode is in a layer.
#[derive(Clone)]
pub enum Head {
    /// This.
    Present(Arc<RawInode>),
    /// This, and it has no name any more: it goes when its last user lets go of it.
    Unlinked(Arc<RawInode>),
    /// Gone.
    Removed,
}

impl Head {
    /// The inode, if there is one.
    #[must_use]
    pub const fn inode(&self) -> Option<&Arc<RawInode>> {
        match self {
            Self::Present(inode) | Self::Unlinked(inode) => Some(inode),
            Self::Removed => None,
        }
    }
}

impl core::fmt::Debug for Head {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Present(_) => "Present",
            Self::Unlinked(_) => "Unlinked",
            Self::Removed => "Removed",
        })
    }
}

/// A changed directory entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirtyName {
    /// The name.
    pub name: Box<[u8]>,
    /// What it names.
    pub target: Inum,
    /// Kind of what it names.
    pub kind: ObjectKind,
}

/// A changed file block.
#[derive(Clone, Debug)]
pub enum DirtyBlock {
    /// These bytes; behind them it is zero.
    Bytes(Contents),
    /// A block that is on media already, and is shared with whoever else refers to it. The key is
    /// the one of this file.
    Shared(RawBlockref),
    /// Nothing: a hole.
    Hole,
}

impl DirtyBlock {
    fn memory_bytes(&self) -> u64 {
        match self {
            Self::Bytes(contents) => contents.len() as u64,
            Self::Shared(_) | Self::Hole => 0,
        }
    }

    fn cost(&self) -> Cost {
        match self {
            Self::Bytes(contents) => Cost::of_block(contents.len()),
            Self::Shared(_) | Self::Hole => Cost::default(),
        }
    }
}

/// What became of one inode.
#[derive(Clone, Debug)]
pub struct DirtyInode {
    /// The inode.
    pub head: Head,
    /// Whether nothing below this layer knows it.
    pub is_new: bool,
    /// Its entries that changed, if it is a directory: there, or gone.
    pub names: BTreeMap<u64, Option<DirtyName>>,
    /// Its file blocks that changed, by number.
    pub blocks: BTreeMap<u64, DirtyBlock>,
    /// What the layers below say of file blocks from this one on does not count.
    pub cut: Option<u64>,
    /// What it reserved.
    cost: Cost,
    /// What it takes of memory.
    bytes: u64,
}

impl DirtyInode {
    /// Bytes of its changed file blocks.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.bytes.saturating_sub(INODE_BYTES + self.names.len() as u64 * NAME_BYTES)
    }
}

/// Changes to one tree, by inode.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    inodes: BTreeMap<u64, DirtyInode>,
    shares: bool,
    cost: Cost,
    bytes: u64,
}

impl Layer {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }

    /// What became of `inum`, if anything did.
    #[must_use]
    pub fn get(&self, inum: Inum) -> Option<&DirtyInode> {
        self.inodes.get(&inum.0)
    }

    /// All inodes that changed, by number.
    pub fn inodes(&self) -> impl Iterator<Item = (Inum, &DirtyInode)> {
        self.inodes.iter().map(|(inum, inode)| (Inum(*inum), inode))
    }

    /// What it may need on media.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Memory that it takes, in bytes.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a block that is on media already gets one more reference.
    #[must_use]
    pub const fn shares(&self) -> bool {
        self.shares
    }

    /// Makes a change.
    pub(super) fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Inode { inum, inode, standing } => {
                let inode = Arc::new(inode.0);
                let head = match standing {
                    Standing::New | Standing::Named => Head::Present(inode),
                    Standing::Unlinked => Head::Unlinked(inode),
                };
                self.set_head(inum, head, standing == Standing::New);
            }
            Edit::Remove { inum } => self.remove(inum),
            Edit::Name { directory, key, name } => self.set_name(directory, key, name),
            Edit::Block { inum, index, block } => self.set_block(inum, index, block),
            Edit::Patch { inum, index, at, bytes, under } => {
                self.patch(inum, index, at, &bytes, under);
            }
            Edit::Cut { inum, index } => self.cut(inum, index),
        }
    }

    fn set_head(&mut self, inum: Inum, head: Head, is_new: bool) {
        if let Some(inode) = self.inodes.get_mut(&inum.0) {
            inode.head = head;
            return;
        }
        let group = inum.0 >> INODE_GROUP << INODE_GROUP;
        let is_near = self.inodes.range(group..=group + (1 << INODE_GROUP) - 1).next().is_some();
        let cost = if is_near { INODE_COST_NEAR } else { INODE_COST_MAX };
        self.cost += cost;
        self.bytes += INODE_BYTES;
        self.inodes.insert(
            inum.0,
            DirtyInode {
                head,
                is_new,
                names: BTreeMap::new(),
                blocks: BTreeMap::new(),
                cut: None,
                cost,
                bytes: INODE_BYTES,
            },
        );
    }

    fn remove(&mut self, inum: Inum) {
        if let Some(inode) = self.inodes.remove(&inum.0) {
            self.cost = self.cost - inode.cost;
            self.bytes -= inode.bytes;
            if inode.is_new {
                return;
            }
        }
        self.set_head(inum, Head::Removed, false);
    }

    /// Changes to an inode that is not in the layer are a mistake of the operation: its attributes
    /// change with everything else that does.
    fn entry(&mut self, inum: Inum) -> Option<&mut DirtyInode> {
        let inode = self.inodes.get_mut(&inum.0);
        debug_assert!(inode.is_some(), "{inum} changes, but its inode does not");
        inode
    }

    fn set_name(&mut self, directory: Inum, key: u64, entry: Option<DirtyName>) {
        let Some(inode) = self.entry(directory) else {
            return;
        };
        let cost = if inode.is_new { NAME_COST_NEW } else { NAME_COST };
        let (name, nothing) = ((cost, NAME_BYTES), (Cost::default(), 0));
        if inode.is_new && entry.is_none() {
            if inode.names.remove(&key).is_some() {
                self.account(directory, nothing, name);
            }
        } else if inode.names.insert(key, entry).is_none() {
            self.account(directory, name, nothing);
        }
    }

    fn set_block(&mut self, inum: Inum, index: u64, block: DirtyBlock) {
        let Some(inode) = self.entry(inum) else {
            return;
        };
        let is_shared = matches!(block, DirtyBlock::Shared(_));
        let mut added = (block.cost(), block.memory_bytes());
        let taken = match inode.blocks.insert(index, block) {
            Some(before) => (before.cost(), before.memory_bytes()),
            None => {
                added.0 += tables_cost(&inode.blocks, index);
                (Cost::default(), 0)
            }
        };
        self.shares |= is_shared;
        self.account(inum, added, taken);
    }

    fn patch(&mut self, inum: Inum, index: u64, at: usize, bytes: &[u8], under: Option<Contents>) {
        let Some(inode) = self.entry(inum) else {
            return;
        };
        let Some(DirtyBlock::Bytes(contents)) = inode.blocks.get_mut(&index) else {
            let mut contents = under.unwrap_or_else(|| Arc::new(Verified::ours(Vec::new())));
            write_into(&mut contents, at, bytes);
            return self.set_block(inum, index, DirtyBlock::Bytes(contents));
        };
        let before = (Cost::of_block(contents.len()), contents.len() as u64);
        write_into(contents, at, bytes);
        let after = (Cost::of_block(contents.len()), contents.len() as u64);
        self.account(inum, after, before);
    }

    fn cut(&mut self, inum: Inum, index: u64) {
        let Some(inode) = self.entry(inum) else {
            return;
        };
        let gone = inode.blocks.split_off(&index);
        if !inode.is_new {
            inode.cut = Some(inode.cut.map_or(index, |cut| cut.min(index)));
        }
        let mut taken = (Cost::default(), 0);
        for block in gone.values() {
            taken.0 += block.cost();
            taken.1 += block.memory_bytes();
        }
        self.account(inum, (Cost::default(), 0), taken);
    }

    /// Counts what a change to `inum` added and took away, in space and in memory.
    fn account(&mut self, inum: Inum, added: (Cost, u64), taken: (Cost, u64)) {
        self.cost += added.0;
        self.cost = self.cost - taken.0;
        self.bytes = (self.bytes + added.1).saturating_sub(taken.1);
        if let Some(inode) = self.inodes.get_mut(&inum.0) {
            inode.cost += added.0;
            inode.cost = inode.cost - taken.0;
            inode.bytes = (inode.bytes + added.1).saturating_sub(taken.1);
        }
    }
}

/// What the tables of block `index`, which was just added to `blocks`, cost.
fn tables_cost(blocks: &BTreeMap<u64, DirtyBlock>, index: u64) -> Cost {
    let group = index >> BLOCK_GROUP << BLOCK_GROUP;
    if blocks.range(group..=group + (1 << BLOCK_GROUP) - 1).nth(1).is_some() {
        BLOCK_TABLES_COST_NEAR
    } else {
        BLOCK_TABLES_COST_MAX
    }
}

/// Writes `bytes` over `contents` from `at` on; what lies between its end and `at` is zero.
fn write_into(contents: &mut Contents, at: usize, bytes: &[u8]) {
    let buffer = Arc::make_mut(contents).ours_mut();
    if at >= buffer.len() {
        buffer.resize(at, 0);
        buffer.extend_from_slice(bytes);
        return;
    }
    let inside = bytes.len().min(buffer.len() - at);
    buffer[at..at + inside].copy_from_slice(&bytes[..inside]);
    buffer.extend_from_slice(&bytes[inside..]);
}
