//! Changing the contents of a file, as far as writing, cutting and punching share it (media format
//! 5.1, 7).
//!
//! Contents of 512 bytes at most stand in the inode until they first grow beyond. A block that is
//! changed in part is put together in memory: what the media has of it, with the new bytes over
//! it. Bytes behind the end of a file are zero, in every block that we write.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::blocks::{FileBlock, blocks, index_of};
use super::change::writable;
use super::node::Node;
use super::pfs::Pfs;
use crate::dirty::{Contents, DirtyBlock, Edit, Plan, Tree};
use crate::engine::{Stop, View, Want};
use crate::error::Error;
use crate::media::FILE_BLOCK_LEN;
use crate::media::check::Verified;
use crate::media::inode::{DIRECT_DATA_MAX, OP_DIRECT_DATA, ObjectKind};
use crate::media::raw::RawInode;
use crate::units::{Inum, WallTime};

/// Largest file: what an offset can say.
pub(super) const SIZE_MAX: u64 = i64::MAX.cast_unsigned();

/// A file whose contents are being changed in a plan.
pub(super) struct FileEdit<'a> {
    pfs: Pfs,
    tree: &'a Tree,
    node: Node,
    /// The inode as it will be.
    inode: Box<RawInode>,
    plan: Plan,
    /// Block 0 is in the plan already: the contents left the inode.
    is_spilled: bool,
    /// What lies behind the end is zero, in what the plan makes of it.
    is_sealed: bool,
}

/// What a block holds before it is changed.
enum Current {
    /// The active layer has it: changes go into it in place.
    Active,
    /// This.
    Contents(Contents),
    /// Nothing.
    Hole,
    /// Its block has to be read first, which is noted.
    Missing,
}

impl<'a> FileEdit<'a> {
    /// Begins to change regular file `inum`.
    ///
    /// # Errors
    /// [`Stop::Need`], or why it cannot be changed.
    pub(super) fn begin(view: &mut View<'a>, pfs: &Pfs, inum: Inum) -> Result<Self, Stop> {
        let tree = writable(view, pfs)?;
        let node = Node::find(view, pfs, inum)?;
        match node.kind() {
            ObjectKind::Regular => {}
            ObjectKind::Directory => return Err(Error::IsDirectory.into()),
            _ => return Err(Error::NotRegular.into()),
        }
        let inode = Box::new(node.raw());
        let plan = Plan::new(pfs.id());
        Ok(Self { pfs: *pfs, tree, node, inode, plan, is_spilled: false, is_sealed: false })
    }

    /// The file as it was.
    pub(super) const fn node(&self) -> &Node {
        &self.node
    }

    /// Its inode as it will be.
    pub(super) fn inode(&mut self) -> &mut RawInode {
        &mut self.inode
    }

    /// Its size as it will be.
    pub(super) fn size(&self) -> u64 {
        self.inode.size.get()
    }

    /// Marks the plan as one that makes room.
    pub(super) const fn frees(&mut self) {
        self.plan.frees = true;
    }

    /// The plan, with the contents changed at `now`, if they were.
    pub(super) fn finish(mut self, now: Option<WallTime>) -> Plan {
        if let Some(now) = now {
            self.inode.mtime.set(now.0);
            self.inode.ctime.set(now.0);
        }
        let edits = core::mem::take(&mut self.plan.edits);
        self.plan.set_inode(*self.inode, self.node.standing());
        self.plan.edits.extend(edits);
        self.plan
    }

    /// Puts `bytes` at `offset`.
    ///
    /// # Errors
    /// [`Stop::Need`]; [`Error::FileTooLarge`]; or why a block cannot be read.
    pub(super) fn write(
        &mut self,
        view: &mut View<'_>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Stop> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= SIZE_MAX);
        let end = end.ok_or(Error::FileTooLarge)?;
        if bytes.is_empty() {
            return Ok(());
        }
        if self.is_direct() && end <= DIRECT_DATA_MAX {
            let at = usize::try_from(offset).unwrap_or(0);
            self.inode.content[at..at + bytes.len()].copy_from_slice(bytes);
        } else {
            if self.is_direct() {
                self.spill();
            } else if offset > self.size() && index_of(offset) != index_of(self.size()) {
                self.seal_tail(view)?;
            }
            self.patch(view, offset, bytes)?;
        }
        if end > self.size() {
            self.inode.size.set(end);
        }
        Ok(())
    }

    /// Makes the file `size` bytes long.
    ///
    /// # Errors
    /// As [`FileEdit::write`].
    pub(super) fn resize(&mut self, view: &mut View<'_>, size: u64) -> Result<(), Stop> {
        if size > SIZE_MAX {
            return Err(Error::FileTooLarge.into());
        }
        if self.is_direct() {
            match usize::try_from(size) {
                Ok(len) if size <= DIRECT_DATA_MAX => self.inode.content[len..].fill(0),
                _ => self.spill(),
            }
        } else if size < self.size() {
            self.cut(view, size)?;
        } else {
            self.seal_tail(view)?;
        }
        self.inode.size.set(size);
        Ok(())
    }

    /// Makes bytes `from .. to` zero, and gives back the space of whole blocks.
    ///
    /// # Errors
    /// As [`FileEdit::write`].
    pub(super) fn punch(&mut self, view: &mut View<'_>, from: u64, to: u64) -> Result<(), Stop> {
        let to = to.min(self.size());
        if from >= to {
            return Ok(());
        }
        if self.is_direct() {
            let at = |offset| usize::try_from(offset).unwrap_or(0);
            self.inode.content[at(from)..at(to)].fill(0);
            return Ok(());
        }
        let (found, _) =
            blocks(view, &self.pfs, &self.node, index_of(from), index_of(to - 1), usize::MAX)?;
        for (index, _) in found {
            let start = index * FILE_BLOCK_LEN;
            let end = start.saturating_add(FILE_BLOCK_LEN).min(self.size());
            if from <= start && end <= to {
                self.push_block(index, DirtyBlock::Hole);
            } else {
                let (from, to) = (from.max(start), to.min(end));
                let zeros = vec![0; usize::try_from(to - from).unwrap_or(0)];
                self.patch(view, from, &zeros)?;
            }
        }
        Ok(())
    }

    /// Block `index` is `block` now.
    pub(super) fn push_block(&mut self, index: u64, block: DirtyBlock) {
        self.plan.edits.push(Edit::Block { inum: self.node.inum(), index, block });
    }

    /// Moves the contents out of the inode, if they are in it.
    pub(super) fn leave_inode(&mut self) {
        if self.is_direct() {
            self.spill();
        }
    }

    /// Makes sure that what lies behind the end in its block is zero, before the end moves on.
    /// Blocks that we wrote are so; other writers' may not be. Whoever changes the block as well
    /// does so afterwards.
    ///
    /// # Errors
    /// [`Stop::Need`], or why the block cannot be read.
    pub(super) fn seal_tail(&mut self, view: &mut View<'_>) -> Result<(), Stop> {
        let len = usize::try_from(self.size() % FILE_BLOCK_LEN).unwrap_or(0);
        if len == 0 || self.is_spilled || self.is_sealed {
            return Ok(());
        }
        self.is_sealed = true;
        let index = index_of(self.size());
        let current = self.current(view, index)?;
        view.settle()?;
        if let Current::Contents(contents) = current
            && contents.get(len..).is_some_and(|behind| behind.iter().any(|byte| *byte != 0))
        {
            self.push_block(index, clipped(&contents, len));
        }
        Ok(())
    }

    fn is_direct(&self) -> bool {
        self.inode.op_flags & OP_DIRECT_DATA != 0
    }

    fn spill(&mut self) {
        let len = usize::try_from(self.size()).unwrap_or(0).min(512);
        if len > 0 {
            let contents = self.inode.content[..len].to_vec();
            self.push_block(0, DirtyBlock::Bytes(Contents::new(Verified::ours(contents))));
        }
        self.inode.content.fill(0);
        self.inode.op_flags &= !OP_DIRECT_DATA;
        self.is_spilled = len > 0;
    }

    fn cut(&mut self, view: &mut View<'_>, size: u64) -> Result<(), Stop> {
        let len = usize::try_from(size % FILE_BLOCK_LEN).unwrap_or(0);
        let index = index_of(size);
        if len > 0 {
            let current = self.current(view, index)?;
            view.settle()?;
            let contents = match current {
                Current::Contents(contents) => Some(contents),
                Current::Active => match self.tree.block(self.node.inum(), index) {
                    Some(DirtyBlock::Bytes(contents)) => Some(contents),
                    _ => None,
                },
                Current::Hole | Current::Missing => None,
            };
            if let Some(contents) = contents.filter(|contents| contents.len() > len) {
                self.push_block(index, clipped(&contents, len));
            }
        }
        let inum = self.node.inum();
        self.plan.edits.push(Edit::Cut { inum, index: size.div_ceil(FILE_BLOCK_LEN) });
        Ok(())
    }

    fn patch(&mut self, view: &mut View<'_>, offset: u64, bytes: &[u8]) -> Result<(), Stop> {
        let end = offset + bytes.len() as u64;
        let (first, last) = (index_of(offset), index_of(end - 1));
        // only the blocks at both ends can be changed in part
        let mut under = Vec::new();
        for index in if first == last { vec![first] } else { vec![first, last] } {
            let start = index * FILE_BLOCK_LEN;
            let is_whole = offset <= start && end - start >= FILE_BLOCK_LEN;
            under.push((index, if is_whole { Current::Hole } else { self.current(view, index)? }));
        }
        view.settle()?;
        for index in first..=last {
            let start = index * FILE_BLOCK_LEN;
            let (from, to) = (offset.max(start), end.min(start.saturating_add(FILE_BLOCK_LEN)));
            // both lie within `bytes`, and within one block
            let within = |at: u64| usize::try_from(at - offset).unwrap_or(0);
            let part = bytes[within(from)..within(to)].to_vec();
            let at = usize::try_from(from - start).unwrap_or(0);
            if part.len() as u64 == FILE_BLOCK_LEN {
                self.push_block(index, DirtyBlock::Bytes(Contents::new(Verified::ours(part))));
                continue;
            }
            let under =
                under.iter().find(|(of, _)| *of == index).and_then(|(_, current)| match current {
                    Current::Contents(contents) => Some(self.as_far_as_the_file(contents, start)),
                    Current::Active | Current::Hole | Current::Missing => None,
                });
            let inum = self.node.inum();
            self.plan.edits.push(Edit::Patch { inum, index, at, bytes: part, under });
        }
        Ok(())
    }

    /// What counts of a block that starts at `start`: nothing behind the end of the file.
    fn as_far_as_the_file(&self, contents: &Contents, start: u64) -> Contents {
        let counts = usize::try_from(self.size().saturating_sub(start)).unwrap_or(usize::MAX);
        if contents.len() <= counts {
            return Contents::clone(contents);
        }
        Contents::new(Verified::ours(contents[..counts].to_vec()))
    }

    fn current(&self, view: &mut View<'_>, index: u64) -> Result<Current, Stop> {
        let inum = self.node.inum();
        if (self.is_spilled && index == 0) || self.tree.is_block_active(inum, index) {
            return Ok(Current::Active);
        }
        let (found, _) = blocks(view, &self.pfs, &self.node, index, index, 1)?;
        let Some((_, block)) = found.into_iter().next() else {
            return Ok(Current::Hole);
        };
        Ok(match block {
            FileBlock::Changed(contents) => Current::Contents(contents),
            FileBlock::Stored(blockref) => match Want::of(&blockref) {
                None => Current::Hole,
                Some(want) => match view.want(&want) {
                    Some(block) => Current::Contents(block?),
                    None => Current::Missing,
                },
            },
        })
    }
}

fn clipped(contents: &Contents, len: usize) -> DirtyBlock {
    DirtyBlock::Bytes(Contents::new(Verified::ours(contents[..len].to_vec())))
}
