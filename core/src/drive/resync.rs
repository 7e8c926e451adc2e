//! Resynchronisation: what a copy lacks is filled in, a batch with each commit (copies 3.5).
//!
//! No list is kept of what a copy missed. The tree says it: an entry that counts on a copy is there
//! with everything below it, so a walk from the root stops at once at every branch that is in sync,
//! and what is left is what has to be copied. Progress is the tree itself: an interrupted walk begins
//! again at the root and finds done what was done.
//!
//! Invariants:
//! * The copy that is filled is not read to find out what it lacks.
//! * What is filled in gets the transaction of this commit, and loses every address that does not
//!   count any more at that moment: else an address that is not believed would be from then on (T4).
//! * A table goes to a copy only if everything that it refers to is there (W2, in the writer).
//! * A block that several trees share is filled in once, as far as the memory set aside for that
//!   goes (T2).
//!
//! A batch runs while the flusher is held: other commits wait for as long as it takes, reading and
//! changing go on.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::change::WriteHost;
use super::commit::{Flusher, check_alive, flush, parsed};
use super::finish::finish;
use crate::dirty::Cost;
use crate::engine::{Block, Want};
use crate::error::{BlockKind, Error};
use crate::flush::{Stamp, Writer, valid};
use crate::media::addresses::is_plain;
use crate::media::blockref::{Blockref, address_key, slots};
use crate::media::inode::{CONTENT_START, INODE_LEN, Inode};
use crate::media::raw::RawBlockref;
use crate::tree::{Entry, NewNode, render_into};
use crate::units::{Radix, Tid};

/// Shared blocks that are remembered within one batch.
const MEMO_MAX: usize = 1 << 16;

/// What a batch came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filled {
    /// Blocks that were copied as they are.
    pub leaves: u64,
    /// Their bytes.
    pub leaf_bytes: u64,
    /// Tables that were written anew.
    pub tables: u64,
    /// Blocks that no copy could give.
    pub unreadable: u64,
    /// Copies that came in sync with it.
    pub joined: u8,
    /// Copies that are not in sync yet.
    pub behind: u8,
    /// Copies among them that had no room for a block that they lack.
    pub full: u8,
    /// The room was used up that could be set aside on the copies in sync for the tables that have to be
    /// written anew. If nothing was done at all, there is too little.
    pub is_short: bool,
}

/// Fills in what copies lack, up to about `budget` bytes, and commits that. Copies that then lack
/// nothing are in sync.
///
/// # Errors
/// The volume failed. What a copy lacks and nobody has is no error: it is counted.
pub async fn resync<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    budget: u64,
) -> Result<Filled, Error> {
    check_alive(host)?;
    flush(host, flusher, false).await?;
    let targets = behind(flusher);
    if targets == 0 {
        return Ok(Filled::default());
    }
    let mut done = walk(host, flusher, Goal::On(targets), budget).await?;
    let joined = join(host, flusher, targets)?;
    if joined != 0 {
        // now their headers refer to the root that they have
        flush(host, flusher, true).await?;
    }
    (done.joined, done.behind) = (joined, targets & !joined);
    Ok(done)
}

/// Goes through what falls short of `goal`, puts it right and commits it.
async fn walk<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    goal: Goal,
    budget: u64,
) -> Result<Filled, Error> {
    let root = host.look(|memory| memory.map(|memory| *memory.super_root()));
    let root = root.ok_or(Error::ReadOnly)?;
    // changes that are made meanwhile have to fit beside it
    let room = ROOMS.into_iter().find(|room| host.alter(|memory| memory.reserve(*room)));
    let Some(room) = room else {
        return Ok(Filled { is_short: true, ..Filled::default() });
    };
    let before = flusher.header().mirror_tid().0;
    let tid = Tid(before.checked_add(1).ok_or(Error::ReadOnly)?);
    let mut fill = Fill {
        room,
        writer: &mut flusher.writer,
        goal,
        stamp: Stamp { mirror: tid, modify: Tid(0) },
        left: budget,
        stack: Vec::new(),
        memo: BTreeMap::new(),
        roots: Vec::new(),
        done: Filled::default(),
    };
    let filled = fill.run(host, *root.raw()).await;
    let (done, roots) = (fill.done, core::mem::take(&mut fill.roots));
    let committed = match filled {
        Ok(Some(new)) => commit_filled(host, flusher, &new, roots, tid).await,
        Ok(None) => {
            host.alter(|memory| memory.release(room));
            Ok(())
        }
        Err(error) => Err(error),
    };
    if let Err(error) = committed {
        host.alter(|memory| memory.fail(error));
        return Err(error);
    }
    Ok(done)
}

/// Makes blockrefs plain, up to about `budget` bytes of tables, and commits that: a part of
/// [`strip`](super::convert::strip). The writer is stripping.
///
/// # Errors
/// The volume failed.
pub(super) async fn strip_some<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    budget: u64,
) -> Result<Filled, Error> {
    flush(host, flusher, false).await?;
    walk(host, flusher, Goal::Plain, budget).await
}

/// Copies that are written to and are not in sync.
fn behind(flusher: &Flusher) -> u8 {
    flusher.writer().copies().map_or(0, |set| set.attached() & !set.in_sync())
}

async fn commit_filled<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    super_root: &RawBlockref,
    roots: Vec<RawBlockref>,
    tid: Tid,
) -> Result<(), Error> {
    finish(host, flusher, super_root, tid).await?;
    // What was filled in looks new, but others may refer to the same blocks: nothing of it is given
    // back without a scan.
    flusher.writer_mut().share(tid);
    let budget = flusher.writer().budget();
    let super_root = parsed(super_root)?;
    let roots = roots.iter().map(parsed).collect::<Result<Vec<_>, Error>>()?;
    host.alter(|memory| {
        for root in roots {
            memory.rebase(root);
        }
        memory.committed(super_root, budget);
    });
    Ok(())
}

/// Copies of `targets` that lack nothing any more are in sync from the next commit on.
fn join<H: WriteHost>(host: &H, flusher: &mut Flusher, targets: u8) -> Result<u8, Error> {
    let root = host.look(|memory| memory.map(|memory| *memory.super_root().raw()));
    let (Some(root), Some(set)) = (root, flusher.writer().copies()) else {
        return Ok(0);
    };
    let joined = valid(set, &root) & targets;
    if joined == 0 {
        return Ok(0);
    }
    let tid = Tid(flusher.header().mirror_tid().0 + 1);
    let origin = host.origin().ok_or(Error::ReadOnly)?;
    if let Some(lineage) = &mut flusher.lineage {
        lineage.join(joined, origin, tid)?;
        let set = lineage.set();
        flusher.writer.set_copies(set);
    }
    Ok(joined)
}

/// What every entry of the tree is to be.
#[derive(Clone, Copy)]
enum Goal {
    /// On all of these copies.
    On(u8),
    /// Plain: naming no copies.
    Plain,
}

/// A walk that fills in.
struct Fill<'w> {
    writer: &'w mut Writer,
    goal: Goal,
    stamp: Stamp,
    /// Bytes that may still be copied.
    left: u64,
    /// Space of the copies in sync that is left for the tables that are written anew.
    room: Cost,
    /// The tables from the root to where the walk is.
    stack: Vec<Frame>,
    /// What shared blocks became, by their address and transaction.
    memo: BTreeMap<Identity, RawBlockref>,
    /// New roots of PFSs.
    roots: Vec<RawBlockref>,
    done: Filled,
}

/// A table that is being gone through.
struct Frame {
    raw: RawBlockref,
    /// The inode that it stands in, if it is no indirect block.
    image: Option<Vec<u8>>,
    block: Block,
    slots: Vec<RawBlockref>,
    at: usize,
    is_changed: bool,
}

impl Fill<'_> {
    /// Walks from `root` on; what became of it, if anything.
    async fn run<H: WriteHost>(
        &mut self,
        host: &H,
        root: RawBlockref,
    ) -> Result<Option<RawBlockref>, Error> {
        let mut new = self.enter(host, root).await?;
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
            let next = next.filter(|_| self.left > 0);
            match next {
                Some(raw) if self.is_reached(&raw) => self.pass(),
                Some(raw) if !self.is_tight() => {
                    let depth = self.stack.len();
                    new = self.enter(host, raw).await?;
                    if new.is_none()
                        && self.stack.len() == depth
                        && let Some(frame) = self.stack.last_mut()
                    {
                        frame.at += 1;
                    }
                }
                _ => {
                    let Some(frame) = self.stack.pop() else { break };
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
                self.done.unreadable += 1;
                return Ok(None);
            };
            if let Some(frame) = Frame::of(raw, &blockref, Block::clone(&block)) {
                self.stack.push(frame);
                return Ok(None);
            }
            // structure is stored as it is
            stored = Some(block.to_vec());
        }
        let Goal::On(targets) = self.goal else {
            return Ok(self.make_plain(&raw));
        };
        let stored = match stored {
            Some(stored) => Ok(stored),
            None => host.fetch_stored(&want).await,
        };
        match stored {
            Ok(stored) => {
                let new = self.writer.fill(&raw, targets, &stored, self.stamp)?;
                let full = self.writer.take_full();
                self.done.full |= full;
                if targets & !self.done.full == 0 {
                    // there is no use in reading on
                    self.left = 0;
                }
                if let Some(new) = &new {
                    self.done.leaves += 1;
                    self.done.leaf_bytes += stored.len() as u64;
                    self.left = self.left.saturating_sub(stored.len() as u64);
                    self.note(&raw, new);
                }
                self.write_waiting(host).await?;
                Ok(new)
            }
            Err(_) => {
                self.done.unreadable += 1;
                Ok(None)
            }
        }
    }

    /// What a table became. One that nothing below was filled in of is only copied.
    fn leave(&mut self, frame: &Frame) -> Result<Option<RawBlockref>, Error> {
        if !frame.is_changed {
            return match self.goal {
                Goal::On(targets) => {
                    let full = frame.slots.iter().fold(targets, |full, raw| full & self.valid(raw));
                    self.writer.fill(&frame.raw, full, &frame.block, self.stamp)
                }
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
        let new = match &frame.image {
            Some(image) => {
                let mut image = image.clone();
                if let Some(table) = image.get_mut(CONTENT_START..INODE_LEN) {
                    render_into(slots, table);
                }
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
        self.writer.retire(raw);
        Ok(Some(new))
    }

    /// Whether nothing is to be done about an entry.
    fn is_reached(&self, raw: &RawBlockref) -> bool {
        match self.goal {
            Goal::On(targets) => targets & !self.valid(raw) == 0,
            Goal::Plain => raw.kind == 0 || raw.data_off.get() == 0 || is_plain(raw),
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
    fn pass(&mut self) {
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
        Some(Self { raw, image, slots, at: 0, is_changed: false, block })
    }
}

/// What tells a block from all others: the lowest of its copies, its address there, and its
/// transaction.
type Identity = (u8, u64, u64);

fn identity(raw: &RawBlockref) -> Identity {
    let (copy, address) = address_key(raw);
    (copy, address, raw.mirror_tid.get())
}

const KIND_INODE: u8 = 1;
/// Bytes that are collected before they are written.
const WRITE_LEN: usize = 8 << 20;
/// The largest table.
const TABLE_MAX: usize = 64 << 10;
/// Space that a batch may take on the copies in sync, for the tables that it writes anew: as much as
/// there is, and at least so much that the way to one block fits, which takes less than ten tables.
const ROOMS: [Cost; 4] = [
    Cost { large: 24 << 20, small: 8 << 20 },
    Cost { large: 6 << 20, small: 2 << 20 },
    Cost { large: 2 << 20, small: 512 << 10 },
    Cost { large: 640 << 10, small: 64 << 10 },
];

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
