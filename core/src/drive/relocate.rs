//! Relocation: a block that one place of a copy does not hold any more gets another place on that copy
//! (copies 3.4, R4).
//!
//! A [heal](super::heal) whose write fails, or comes back as something else, notes the place
//! (`Moves`). Nothing is put there any more, and [`relocate`] looks for what refers to it: a walk
//! from the super-root that goes only where something of that transaction or a newer one can be. What
//! it finds is filled in at another place, as if it had not been on that copy, and the tables above are
//! written anew. The copy stays in sync.
//!
//! The walk leaves no trace in the tree where it finds nothing, so it remembers how far it is by keys,
//! and begins each step at the root of the last commit. What it does not find is told by the next who
//! reads it.
//!
//! Invariants:
//! * A place is bad for as long as the volume is open, and never given to another block
//!   ([`Freemap::avoid`](crate::freemap::Freemap::avoid)). So what refers to it is the block that it
//!   was, however late that is found.
//! * A copy that gets no new place keeps the old one: no block is named by fewer copies for it.

use alloc::vec::Vec;

use super::change::WriteHost;
use super::commit::{Flusher, check_alive};
use super::fill::Goal;
use super::resync::walk;
use crate::engine::Want;
use crate::error::Error;
use crate::media::addresses::Addresses;
use crate::media::blockref::{Location, span_last};
use crate::media::raw::RawBlockref;
use crate::units::Tid;
use crate::volume::CopyEvent;

/// Blocks that wait to be moved; more of them wait until they are read again.
const MOVES_MAX: usize = 64;

/// A block that one copy does not hold where its blockref says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct BadBlock {
    copy: u8,
    location: Location,
    tid: Tid,
}

/// Blocks that have to get another place, and how far the search for what refers to them is.
#[derive(Debug, Default)]
pub(super) struct Moves {
    blocks: BadBlocks,
    place: Cursor,
}

/// Some bad blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct BadBlocks {
    blocks: Vec<BadBlock>,
    /// The copy that blockrefs are on which name none.
    plain: u8,
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Relocated {
    /// Blocks that have another place now, each counted once on each copy.
    pub moved: u64,
    /// There is more to look through.
    pub goes_on: bool,
}

impl Flusher {
    /// Whether there are blocks to be moved.
    #[must_use]
    pub const fn is_relocating(&self) -> bool {
        !self.moves.blocks.blocks.is_empty()
    }

    /// What `want` is wanted for does not stay where it is on `copy`.
    pub(super) fn give_up_place(&mut self, copy: u8, want: &Want) {
        let Some(offset) = want.addresses().and_then(|addresses| addresses.get(copy)) else {
            return;
        };
        let location = Location { offset, ..want.location() };
        if let Some(lineage) = &self.lineage {
            lineage.live().note_bad(copy, location);
        }
        for (_, freemap) in self.writer.freemaps_mut().filter(|(one, _)| *one == copy) {
            freemap.avoid(location);
        }
        self.moves.add(BadBlock { copy, location, tid: want.tid() });
    }
}

impl Moves {
    fn add(&mut self, block: BadBlock) {
        let blocks = &mut self.blocks.blocks;
        if !blocks.contains(&block) && blocks.len() < MOVES_MAX {
            blocks.push(block);
            // it may lie where the search was already
            self.place = Cursor::default();
        }
    }
}

impl BadBlocks {
    /// The copies on which a blockref names a bad place.
    pub(super) fn on(&self, raw: &RawBlockref) -> u8 {
        if raw.kind == 0 || raw.data_off.get() == 0 {
            return 0;
        }
        let Ok(addresses) = Addresses::of(raw).map(|addresses| addresses.settled(self.plain))
        else {
            return 0;
        };
        let is_at = |block: &&BadBlock| addresses.get(block.copy) == Some(block.location.offset);
        self.blocks.iter().filter(is_at).fold(0, |mask, block| mask | 1 << block.copy)
    }

    /// Whether it is one of them, or a table under which there may be one.
    pub(super) fn may_be_below(&self, raw: &RawBlockref) -> bool {
        let is_table = matches!(raw.kind, KIND_INODE | KIND_INDIRECT);
        let tid = Tid(raw.mirror_tid.get());
        is_table && self.blocks.iter().any(|block| block.tid <= tid) || self.on(raw) != 0
    }
}

/// A place in the tree: for the super-root, and each inode on the way down from it, the key that is next
/// in its table.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    next: Vec<u64>,
    has_moved: bool,
}

impl Cursor {
    /// Whether it is elsewhere than when the step began.
    pub(super) const fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// The step ends here.
    pub(super) const fn stop(&mut self) {
        self.has_moved = true;
    }

    /// Whether an entry was dealt with in an earlier step.
    pub(super) fn is_behind(&self, level: usize, raw: &RawBlockref) -> bool {
        self.next.get(level).is_some_and(|next| last_key(raw) < *next)
    }

    /// The table of an entry is gone through next.
    pub(super) fn enter(&mut self, level: usize, raw: &RawBlockref) {
        let is_begun = self.next.get(level) == Some(&raw.key.get());
        if raw.kind == KIND_INODE && !(is_begun && self.next.len() > level + 1) {
            self.go_to(level, raw.key.get());
            self.next.push(0);
        }
    }

    /// An entry is dealt with, and everything below it.
    pub(super) fn pass(&mut self, level: usize, raw: &RawBlockref) {
        self.go_to(level, last_key(raw).saturating_add(1));
    }

    fn go_to(&mut self, level: usize, key: u64) {
        self.has_moved |= self.next.get(level) != Some(&key);
        self.next.resize(level, 0);
        self.next.push(key);
    }
}

fn last_key(raw: &RawBlockref) -> u64 {
    match raw.kind {
        KIND_INDIRECT => span_last(raw.key.get(), raw.key_bits),
        _ => raw.key.get(),
    }
}

/// Gives blocks that lie at bad places other ones, after a search through about `budget` bytes of
/// tables, and commits that.
///
/// # Errors
/// The volume failed. That there is no other place for a block, or nobody who has it, is no error: it
/// stays as it is.
pub async fn relocate<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    budget: u64,
) -> Result<Relocated, Error> {
    check_alive(host)?;
    let set = flusher.writer.copies().copied().unwrap_or_default();
    let in_sync = set.in_sync();
    let moves = &mut flusher.moves;
    // what others lack is filled in elsewhere anyway
    moves.blocks.blocks.retain(|block| in_sync & 1 << block.copy != 0);
    moves.blocks.plain = set.plain();
    if moves.blocks.blocks.is_empty() {
        return Ok(Relocated::default());
    }
    let mut place = core::mem::take(&mut moves.place);
    place.has_moved = false;
    let goal = Goal::Off(moves.blocks.clone());
    let walked = walk(host, flusher, goal, budget, place).await?;
    if let Some(lineage) = &flusher.lineage {
        walked.moved.iter().for_each(|copy| lineage.live().count(*copy, CopyEvent::Relocated));
    }
    let moved = walked.moved.len() as u64;
    let is_short = walked.done.is_short && moved == 0;
    if walked.is_through || is_short {
        flusher.moves = Moves::default();
    } else {
        flusher.moves.place = walked.place;
    }
    Ok(Relocated { moved, goes_on: flusher.is_relocating() })
}

const KIND_INODE: u8 = 1;
const KIND_INDIRECT: u8 = 2;
