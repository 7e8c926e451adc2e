//! The walk that goes through what falls short of a goal and puts it right: the inside of a
//! [resynchronisation](super::resync).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use zerocopy::FromZeros;

use super::change::WriteHost;
use super::damage::{named, owner};
use super::heal::each;
use super::relocate::{BadBlocks, Cursor};
use super::resync::Filled;
use crate::dirty::Cost;
use crate::engine::{Block, Want};
use crate::error::{BlockKind, Error};
use crate::flush::{Stamp, Writer, valid};
use crate::media::addresses::{Addresses, is_plain};
use crate::media::blockref::{Blockref, address_key, slots};
use crate::media::damage::{DAMAGE_MAX, DamagedBlock};
use crate::media::inode::{CONTENT_START, INODE_LEN, Inode};
use crate::media::raw::RawBlockref;
use crate::tree::{Entry, NewNode, render_into};
use crate::units::{Radix, Tid, WallTime};

/// What every entry of the tree is to be.
pub(super) enum Goal {
    /// On all of these copies.
    On(u8),
    /// Plain: naming no copies.
    Plain,
    /// Nowhere where it does not stay.
    Off(BadBlocks),
}

/// A walk that fills in.
pub(super) struct Fill<'w> {
    pub(super) writer: &'w mut Writer,
    pub(super) goal: Goal,
    pub(super) stamp: Stamp,
    /// Bytes that may still be copied.
    pub(super) left: u64,
    /// Space of the copies in sync that is left for the tables that are written anew.
    pub(super) room: Cost,
    /// The tables from the root to where the walk is.
    pub(super) stack: Vec<Frame>,
    /// What shared blocks became, by their address and transaction.
    pub(super) memo: BTreeMap<Identity, RawBlockref>,
    /// New roots of PFSs.
    pub(super) roots: Vec<RawBlockref>,
    pub(super) done: Filled,
    /// Where a walk goes on that leaves no trace in the tree, and how far it is.
    pub(super) place: Cursor,
    /// The copies that blocks got another place on, one for each.
    pub(super) moved: Vec<u8>,
    /// It stopped before the end.
    pub(super) is_cut: bool,
    /// What became of the file that was gone through last.
    pub(super) orphan: Option<Vec<u8>>,
    /// Blocks that no copy could give.
    pub(super) lost: Vec<DamagedBlock>,
}

/// A table that is being gone through.
pub(super) struct Frame {
    raw: RawBlockref,
    /// The inode that it stands in, if it is no indirect block.
    image: Option<Vec<u8>>,
    block: Block,
    slots: Vec<RawBlockref>,
    at: usize,
    is_changed: bool,
    /// It stands in a file that is in no tree.
    is_orphan: bool,
}

impl Goal {
    const fn is_off(&self) -> bool {
        matches!(self, Self::Off(_))
    }
}

impl Fill<'_> {
    /// Walks from `root` on; what became of it, if anything.
    pub(super) async fn run<H: WriteHost>(
        &mut self,
        host: &H,
        root: RawBlockref,
    ) -> Result<Option<RawBlockref>, Error> {
        let new = self.enter(host, root).await?;
        self.go(host, new).await
    }

    /// Walks through what a file has that is in no tree; its new image, if it has one.
    pub(super) async fn run_orphan<H: WriteHost>(
        &mut self,
        host: &H,
        image: &Block,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some(slots) = orphan_slots(image) else {
            return Ok(None);
        };
        self.stack.push(Frame {
            raw: RawBlockref::new_zeroed(),
            image: Some(image.to_vec()),
            block: Block::clone(image),
            slots,
            at: 0,
            is_changed: false,
            is_orphan: true,
        });
        self.go(host, None).await?;
        Ok(self.orphan.take())
    }

    async fn go<H: WriteHost>(
        &mut self,
        host: &H,
        mut new: Option<RawBlockref>,
    ) -> Result<Option<RawBlockref>, Error> {
        while let Some(frame) = self.stack.last_mut() {
            if let Some(raw) = new.take() {
                if let Some(slot) = frame.slots.get_mut(frame.at) {
                    *slot = raw;
                }
                frame.is_changed = true;
                frame.at += 1;
                continue;
            }
            let next = frame.slots.get(frame.at).copied();
            let is_spent = self.left == 0 && (self.place.has_moved() || !self.goal.is_off());
            let next = next.filter(|_| !is_spent);
            match next {
                Some(raw) if self.place.is_behind(self.level(), &raw) => self.skip(),
                Some(raw) if self.is_reached(&raw) => self.pass(&raw),
                Some(raw) if !self.is_tight() => {
                    let (depth, level) = (self.stack.len(), self.level());
                    new = self.enter(host, raw).await?;
                    if self.stack.len() > depth {
                        self.place.enter(level, &raw);
                    } else {
                        self.place.pass(level, &raw);
                        if new.is_none()
                            && let Some(frame) = self.stack.last_mut()
                        {
                            frame.at += 1;
                        }
                    }
                }
                _ => {
                    let Some(frame) = self.stack.pop() else { break };
                    self.is_cut |= frame.at < frame.slots.len();
                    if !self.is_cut && !self.stack.is_empty() {
                        let level = self.level();
                        self.place.pass(level, &frame.raw);
                    }
                    if frame.is_orphan {
                        self.orphan = frame.is_changed.then(|| frame.image()).flatten();
                        return Ok(None);
                    }
                    new = self.leave(&frame)?;
                    self.write_waiting(host).await?;
                    if self.stack.is_empty() {
                        return Ok(new);
                    }
                    if new.is_none()
                        && let Some(above) = self.stack.last_mut()
                    {
                        above.at += 1;
                    }
                    if let Some(new) = &new {
                        self.note(&frame.raw, new);
                    }
                }
            }
        }
        Ok(new)
    }

    /// Deals with an entry: what it became at once, or its table is on the stack now.
    async fn enter<H: WriteHost>(
        &mut self,
        host: &H,
        raw: RawBlockref,
    ) -> Result<Option<RawBlockref>, Error> {
        let blockref = match Blockref::parse(&raw) {
            Ok(Some(blockref)) if !self.is_reached(&raw) => blockref,
            // in sync, or nothing that we could put right
            _ => return Ok(None),
        };
        let Some(want) = Want::of(&blockref) else {
            return Ok(None);
        };
        if let Some(known) = self.memo.get(&identity(&raw)) {
            // the same block, but what refers to it may be of another file
            return Ok(Some(RawBlockref {
                key: raw.key,
                modify_tid: raw.modify_tid,
                flags: raw.flags,
                ..*known
            }));
        }
        let mut stored = None;
        if matches!(blockref.kind(), BlockKind::Inode | BlockKind::Indirect) {
            let Ok(block) = host.fetch(&want).await else {
                self.lose(&blockref, host.time());
                return Ok(None);
            };
            if self.goal.is_off() {
                self.left = self.left.saturating_sub(block.len() as u64);
            }
            if let Some(mut frame) = Frame::of(raw, &blockref, Block::clone(&block)) {
                if self.goal.is_off() {
                    // others may leave a table in any order
                    frame.slots.sort_by_key(|raw| raw.key.get());
                }
                self.stack.push(frame);
                return Ok(None);
            }
            // structure is stored as it is
            stored = Some(block.to_vec());
        }
        let (targets, bad) = match &self.goal {
            Goal::On(targets) => (*targets, 0),
            Goal::Off(blocks) => (blocks.on(&raw), blocks.on(&raw)),
            Goal::Plain => return Ok(self.make_plain(&raw)),
        };
        if targets == 0 {
            return Ok(None);
        }
        let stored = match stored {
            Some(stored) => Ok(stored),
            None => host.fetch_stored(&want).await,
        };
        match stored {
            Ok(stored) => {
                let new = self.writer.fill(&raw, (targets, bad), &stored, self.stamp)?;
                let full = self.writer.take_full();
                self.done.full |= full;
                if targets & !self.done.full == 0 && !self.goal.is_off() {
                    // there is no use in reading on
                    self.left = 0;
                }
                if let Some(new) = &new {
                    self.done.leaves += 1;
                    self.done.leaf_bytes += stored.len() as u64;
                    if bad != 0 {
                        self.room = self.room - Cost::of_block(stored.len());
                        self.note_moved(bad, &raw, new);
                    }
                    self.left = self.left.saturating_sub(stored.len() as u64);
                    self.note(&raw, new);
                }
                self.write_waiting(host).await?;
                Ok(new)
            }
            Err(_) => {
                self.lose(&blockref, host.time());
                Ok(None)
            }
        }
    }

    /// No copy could give a block. What a file has that is in no tree has no name to be told by.
    fn lose(&mut self, blockref: &Blockref, now: Option<WallTime>) {
        self.done.unreadable += 1;
        if self.stack.iter().any(|frame| frame.is_orphan) || self.lost.len() > DAMAGE_MAX {
            return;
        }
        let inodes = self.stack.iter().filter(|frame| frame.image.is_some());
        let keys: Vec<u64> = inodes.skip(1).map(|frame| frame.raw.key.get()).collect();
        let above = (!self.stack.is_empty()).then_some(&keys[..]);
        self.lost.push(named(blockref, owner(above, blockref), now));
    }

    /// What a table became. One that nothing below was filled in of is only copied.
    fn leave(&mut self, frame: &Frame) -> Result<Option<RawBlockref>, Error> {
        if !frame.is_changed {
            return match self.goal {
                Goal::On(targets) => {
                    let full = frame.slots.iter().fold(targets, |full, raw| full & self.valid(raw));
                    self.writer.fill(&frame.raw, (full, 0), &frame.block, self.stamp)
                }
                Goal::Off(ref blocks) => match blocks.on(&frame.raw) {
                    0 => Ok(None),
                    bad => {
                        let stored = &frame.block;
                        let new = self.writer.fill(&frame.raw, (bad, bad), stored, self.stamp)?;
                        self.room = self.room - Cost::of_block(stored.len());
                        if let Some(new) = &new {
                            self.note_moved(bad, &frame.raw, new);
                        }
                        Ok(new)
                    }
                },
                Goal::Plain if frame.slots.iter().all(|raw| self.is_reached(raw)) => {
                    Ok(self.make_plain(&frame.raw))
                }
                Goal::Plain => Ok(None),
            };
        }
        self.done.tables += 1;
        self.room = self.room - Cost::of_block(frame.block.len());
        if matches!(self.goal, Goal::Plain) {
            self.left = self.left.saturating_sub(frame.block.len() as u64);
        }
        let (raw, slots) = (&frame.raw, &frame.slots);
        let new = match frame.image() {
            Some(image) => {
                let (key, methods) = (raw.key.get(), raw.methods);
                self.writer.inode(Some(raw), key, image, methods, slots, self.stamp)?
            }
            None => {
                let bits = u8::try_from(frame.block.len().trailing_zeros()).unwrap_or(0);
                let node = NewNode {
                    key: raw.key.get(),
                    key_bits: raw.key_bits,
                    radix: Radix::new(bits).ok_or(Error::InvalidArgument)?,
                    old: Some(*raw),
                    entries: slots.iter().copied().map(Entry::Kept).collect(),
                };
                let written =
                    self.writer.entries(alloc::vec![Entry::Node(node)], raw.methods, self.stamp)?;
                written.first().copied().ok_or(Error::InvalidArgument)?
            }
        };
        if let Goal::Off(blocks) = &self.goal {
            let bad = blocks.on(raw);
            self.note_moved(bad, raw, &new);
        }
        self.writer.retire(raw);
        Ok(Some(new))
    }

    /// A block got another place on those of `bad` where there was one for it.
    fn note_moved(&mut self, bad: u8, old: &RawBlockref, new: &RawBlockref) {
        let (Ok(old), Ok(new)) = (Addresses::of(old), Addresses::of(new)) else { return };
        self.moved.extend(each(bad).filter(|copy| old.get(*copy) != new.get(*copy)));
    }

    /// How many inodes there are above what the walk is at, the super-root among them, less one.
    fn level(&self) -> usize {
        self.stack.iter().filter(|frame| frame.image.is_some()).count().saturating_sub(1)
    }

    /// Whether nothing is to be done about an entry.
    fn is_reached(&self, raw: &RawBlockref) -> bool {
        match self.goal {
            Goal::On(targets) => targets & !self.valid(raw) == 0,
            Goal::Plain => raw.kind == 0 || raw.data_off.get() == 0 || is_plain(raw),
            Goal::Off(ref blocks) => !blocks.may_be_below(raw),
        }
    }

    /// The entry names no copies from now on. Its block stays where it is.
    fn make_plain(&mut self, raw: &RawBlockref) -> Option<RawBlockref> {
        let new = self.writer.plain(raw);
        match &new {
            Some(new) => {
                self.done.leaves += 1;
                self.note(raw, new);
            }
            None => self.done.unreadable += 1,
        }
        new
    }

    /// The entry at hand is as it should be.
    fn pass(&mut self, raw: &RawBlockref) {
        if self.goal.is_off() && !self.stack.is_empty() {
            let level = self.level();
            self.place.pass(level, raw);
        }
        self.skip();
    }

    fn skip(&mut self) {
        if let Some(frame) = self.stack.last_mut() {
            frame.at += 1;
        }
    }

    /// Whether there is no room for one more table beside those that are open, which may all have to
    /// be written anew.
    fn is_tight(&mut self) -> bool {
        let mut need = Cost::of_block(TABLE_MAX);
        for frame in &self.stack {
            need += Cost::of_block(frame.block.len());
        }
        let is_tight = need.large > self.room.large || need.small > self.room.small;
        self.done.is_short |= is_tight;
        if is_tight && self.goal.is_off() {
            self.left = 0;
            self.place.stop();
        }
        is_tight
    }

    fn valid(&self, raw: &RawBlockref) -> u8 {
        self.writer.copies().map_or(u8::MAX, |set| valid(set, raw))
    }

    /// Remembers what a block became that others may refer to as well, and roots of PFSs.
    fn note(&mut self, old: &RawBlockref, new: &RawBlockref) {
        let in_super_root =
            !self.stack.is_empty() && self.stack.iter().skip(1).all(|frame| frame.image.is_none());
        if new.kind == KIND_INODE && in_super_root {
            self.roots.push(*new);
        }
        // also what a copy had no room for: else each of its trees would get a block of its own
        if Tid(old.mirror_tid.get()) <= self.writer.shared_tid() && self.memo.len() < MEMO_MAX {
            self.memo.insert(identity(old), *new);
        }
    }

    async fn write_waiting<H: WriteHost>(&mut self, host: &H) -> Result<(), Error> {
        if self.writer.waiting_bytes() >= WRITE_LEN {
            host.keep(self.writer.take_placed());
            host.write(self.writer.take_pieces()).await?;
        }
        Ok(())
    }
}

impl Frame {
    /// The table in an inode or an indirect block; `None` for an inode without one.
    fn of(raw: RawBlockref, blockref: &Blockref, block: Block) -> Option<Self> {
        let (image, table) = match blockref.kind() {
            BlockKind::Inode => {
                let inode = Inode::parse(&block).ok()?;
                if inode.has_direct_data() {
                    return None;
                }
                (Some(block.to_vec()), block.get(CONTENT_START..INODE_LEN)?)
            }
            _ => (None, &block[..]),
        };
        let slots: Vec<_> = slots(table).iter().filter(|raw| raw.kind != 0).copied().collect();
        if slots.is_empty() {
            return None;
        }
        Some(Self { raw, image, slots, at: 0, is_changed: false, is_orphan: false, block })
    }

    /// The inode that it stands in, if it does, with the table as it is now.
    fn image(&self) -> Option<Vec<u8>> {
        let mut image = self.image.clone()?;
        if let Some(table) = image.get_mut(CONTENT_START..INODE_LEN) {
            render_into(&self.slots, table);
        }
        Some(image)
    }
}

/// The table of a file that is in no tree, if it has one.
pub(super) fn orphan_slots(image: &[u8]) -> Option<Vec<RawBlockref>> {
    if Inode::parse(image).ok()?.has_direct_data() {
        return None;
    }
    let table = image.get(CONTENT_START..INODE_LEN)?;
    Some(slots(table).iter().filter(|raw| raw.kind != 0).copied().collect())
}

/// What tells a block from all others: the lowest of its copies, its address there, and its
/// transaction.
pub(super) type Identity = (u8, u64, u64);

fn identity(raw: &RawBlockref) -> Identity {
    let (copy, address) = address_key(raw);
    (copy, address, raw.mirror_tid.get())
}

const KIND_INODE: u8 = 1;
/// Shared blocks that are remembered within one batch.
const MEMO_MAX: usize = 1 << 16;
/// Bytes that are collected before they are written.
const WRITE_LEN: usize = 8 << 20;
/// The largest table.
const TABLE_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn the_same_address_on_another_copy_is_another_block() {
        let block = |copies, offset: u64, tid: u64| {
            let mut raw = RawBlockref::new_zeroed();
            raw.copy_id = copies;
            raw.data_off.set(offset);
            raw.mirror_tid.set(tid);
            identity(&raw)
        };
        let one = block(0b011, 0x1_000_00e, 7);
        assert_eq!(one, block(0b101, 0x1_000_00e, 7), "it was filled in elsewhere");
        assert_ne!(one, block(0b110, 0x1_000_00e, 7), "there the address is one on copy 1");
        assert_ne!(one, block(0b011, 0x1_000_00e, 8));
    }
}
