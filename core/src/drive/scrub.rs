//! Scrubbing: every block is read from every copy that should have it, and what is bad on one is
//! written again from another (copies 3.4, R9).
//!
//! Reading shows only what somebody reads, from the copy that is asked first. A scrub finds what
//! nobody reads before the other copy is gone. It goes through all trees in the order of their keys,
//! a step at a time, and what it remembers between two steps is a place and not a list of blocks: a
//! step holds the flusher, begins at the root of the last commit and goes down to that place. So what
//! it reads is in use while it does, and may be healed at once. What is changed between two steps is
//! met as it is then, or lies behind: blocks that are new are for the next scrub.
//!
//! Invariants:
//! * A block that several trees share is read once, as far as the memory set aside for that goes.
//! * Each step gets on, however small its budget.
//! * A block that is good on no copy is on the [list of damage](super::damage) from then on; at the
//!   end that names nothing else. One that several trees share is named under the first of them.
//!
//! Only copies in sync are looked at: what others lack is filled in by a
//! [resynchronisation](super::resync). The freemaps, which each copy has of its own, are not.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::change::WriteHost;
use super::commit::{Flusher, check_alive};
use super::damage::{Met, named, owner};
use super::heal::{HealRequest, Healed, each, heal};
use crate::copies::CopySet;
use crate::dirty::Memory;
use crate::engine::Want;
use crate::error::{BlockKind, Error};
use crate::media::blockref::{Blockref, slots, span_last};
use crate::media::damage::DamagedBlock;
use crate::media::inode::{CONTENT_START, INODE_LEN, Inode};
use crate::media::raw::RawBlockref;

/// Shared blocks that are remembered.
const SEEN_MAX: usize = 1 << 20;

/// How far a scrub is, and what it found. To be kept between its steps; to stop for good is to
/// forget it.
#[derive(Clone, Debug, Default)]
pub struct Scrub {
    /// Where to go on: for the super-root, and each inode on the way down from it, the key that is
    /// next in its table. Empty before the beginning.
    from: Vec<u64>,
    /// Shared blocks that are done with.
    seen: BTreeSet<(u64, u64)>,
    /// Tables that were begun with, on the way to that place.
    begun: Vec<(u64, u64)>,
    is_done: bool,
    found: Scrubbed,
    bytes_expected: u64,
    /// Blocks that no copy could give.
    met: Met,
}

/// What a scrub came to so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scrubbed {
    /// Different blocks.
    pub blocks: u64,
    /// Bytes read, from all copies.
    pub bytes: u64,
    /// Bytes that there were to read, about: what is in use on all copies in sync.
    pub bytes_expected: u64,
    /// Blocks that were bad, counted for each copy.
    pub bad: u64,
    /// What became of them. A block that is bad on all copies is unhealable on each.
    pub healed: Healed,
}

impl Scrub {
    /// At the beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// What it came to so far.
    #[must_use]
    pub fn found(&self) -> Scrubbed {
        // what was let go of and not freed yet was expected and is not met
        let expected = if self.is_done { 0 } else { self.bytes_expected };
        Scrubbed { bytes_expected: expected.max(self.found.bytes), ..self.found }
    }
}

/// Reads about `budget` bytes, counted on every copy, and heals what is bad. Returns whether there is
/// more to do. The flusher is held meanwhile: a host that wants commits to go on gives small budgets,
/// and one that wants devices to rest waits between two steps.
///
/// # Errors
/// [`Error::NotSupported`] on a volume without copies; the volume failed. What is bad is no error:
/// it is counted.
pub async fn step<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    scrub: &mut Scrub,
    budget: u64,
) -> Result<bool, Error> {
    check_alive(host)?;
    if flusher.lineage.is_none() {
        return Err(Error::NotSupported);
    }
    if scrub.is_done {
        return Ok(false);
    }
    let (root, now) = host
        .look(|memory| memory.map(|memory| (*memory.super_root(), Memory::commits(memory))))
        .ok_or(Error::ReadOnly)?;
    scrub.bytes_expected = in_use(flusher);
    if let Some(lineage) = &flusher.lineage {
        scrub.met.begin(&lineage.known);
    }
    let (bad, lost) = (Vec::new(), Vec::new());
    let mut walk = Walk { flusher, scrub, now, left: budget, moved: false, bad, lost };
    walk.run(host, &root).await;
    let (bad, lost) = (core::mem::take(&mut walk.bad), core::mem::take(&mut walk.lost));
    if let Some(lineage) = &mut flusher.lineage {
        let time = host.time().unwrap_or_default();
        for block in lost {
            scrub.met.note(&mut lineage.known, DamagedBlock { seen: time, ..block });
        }
        if scrub.is_done {
            scrub.met.end(&mut lineage.known);
        }
    }
    scrub.found.healed += heal(host, flusher, bad).await?;
    Ok(!scrub.is_done)
}

/// Bytes that are allocated on all copies in sync.
fn in_use(flusher: &mut Flusher) -> u64 {
    let in_sync = flusher.writer.copies().map_or(0, |set| set.in_sync());
    let sizes: Vec<(u8, u64)> = flusher
        .headers
        .iter()
        .map(|(copy, header)| (*copy, header.raw().allocator_size.get()))
        .collect();
    let freemaps = flusher.writer.freemaps_mut().filter(|(copy, _)| in_sync & 1 << copy != 0);
    freemaps
        .map(|(copy, freemap)| {
            let size = sizes.iter().find(|(one, _)| *one == copy).map_or(0, |(_, size)| *size);
            size.saturating_sub(freemap.free_bytes())
        })
        .sum()
}

/// One step.
struct Walk<'s> {
    flusher: &'s Flusher,
    scrub: &'s mut Scrub,
    /// Commits so far; there are no more while this goes on.
    now: u64,
    /// Bytes that may still be read.
    left: u64,
    /// The step may end here: the place where to go on is not the one that it began with, and says
    /// of everything that was read that it was.
    moved: bool,
    bad: Vec<HealRequest>,
    /// What no copy could give.
    lost: Vec<DamagedBlock>,
}

/// A table that is being gone through.
struct Frame {
    blockref: Blockref,
    slots: Vec<RawBlockref>,
    at: usize,
    /// How many inodes there are above what is in it, the super-root among them, less one.
    level: usize,
}

impl Walk<'_> {
    async fn run<H: WriteHost>(&mut self, host: &H, root: &Blockref) {
        let mut stack = Vec::new();
        self.root(host, root, &mut stack).await;
        while let Some(frame) = stack.last_mut() {
            if self.left == 0 && self.moved {
                return;
            }
            let (level, next) = (frame.level, frame.slots.get(frame.at).copied());
            frame.at += 1;
            match next {
                Some(raw) => {
                    if let Ok(Some(blockref)) = Blockref::parse(&raw)
                        && self.is_ahead(level, &blockref)
                        && let Some(below) = self.enter(host, &blockref, level).await
                    {
                        stack.push(below);
                    }
                }
                None => {
                    if let Some(frame) = stack.pop() {
                        self.leave(&frame);
                    }
                }
            }
        }
        self.scrub.is_done = true;
    }

    async fn root<H: WriteHost>(&mut self, host: &H, root: &Blockref, stack: &mut Vec<Frame>) {
        let is_new = self.scrub.from.is_empty();
        let Some(block) = self.block(host, root, is_new, None).await else {
            return;
        };
        if is_new {
            self.scrub.from.push(0);
            self.moved = true;
        }
        stack.extend(Frame::of(root, &block, 0));
    }

    /// Whether anything of an entry is still to be looked at.
    fn is_ahead(&self, level: usize, blockref: &Blockref) -> bool {
        let from = self.scrub.from.get(level).copied().unwrap_or(0);
        match blockref.kind() {
            BlockKind::Indirect => span_last(blockref.key(), blockref.key_bits()) >= from,
            _ => blockref.key() >= from,
        }
    }

    /// Deals with an entry; its table, if it has one.
    async fn enter<H: WriteHost>(
        &mut self,
        host: &H,
        blockref: &Blockref,
        level: usize,
    ) -> Option<Frame> {
        let key = blockref.key();
        let from = self.scrub.from.get(level).copied().unwrap_or(0);
        if blockref.kind() == BlockKind::Indirect {
            // an entry of the same key that was begun with is below this
            let is_begun = from == key && self.scrub.from.len() > level + 1;
            let is_new = from <= key && !is_begun;
            if is_new && self.is_seen(blockref) {
                return None;
            }
            // the place does not tell whether it was read, so the step does not end here
            self.moved &= !is_new;
            let block = self.block(host, blockref, is_new, Some(level)).await?;
            if is_new {
                self.scrub.begun.push(identity(blockref));
            }
            return Frame::of(blockref, &block, level);
        }
        let is_new = from != key || self.scrub.from.len() <= level + 1;
        if is_new {
            self.scrub.from.truncate(level + 1);
            if self.is_seen(blockref) {
                self.pass(level, key);
                return None;
            }
        }
        let block = self.block(host, blockref, is_new, Some(level)).await;
        let frame = match block {
            Some(block) if blockref.kind() == BlockKind::Inode => {
                Frame::of(blockref, &block, level + 1)
            }
            _ => None,
        };
        match frame {
            Some(frame) => {
                if is_new {
                    self.go_to(level, key);
                    self.scrub.from.push(0);
                    self.scrub.begun.push(identity(blockref));
                    self.moved = true;
                }
                Some(frame)
            }
            None => {
                self.saw(blockref);
                self.pass(level, key);
                None
            }
        }
    }

    /// Everything in a table was looked at.
    fn leave(&mut self, frame: &Frame) {
        // one that was changed while it was gone through is another one now
        let own = identity(&frame.blockref);
        if let Some(at) = self.scrub.begun.iter().rposition(|one| *one == own) {
            self.scrub.begun.truncate(at);
            self.saw(&frame.blockref);
        }
        if frame.blockref.kind() == BlockKind::Inode
            && let Some(level) = frame.level.checked_sub(1)
        {
            self.pass(level, frame.blockref.key());
        }
    }

    /// What has this key is behind us.
    fn pass(&mut self, level: usize, key: u64) {
        self.scrub.from.truncate(level + 1);
        self.go_to(level, key.saturating_add(1));
    }

    fn go_to(&mut self, level: usize, key: u64) {
        if let Some(from) = self.scrub.from.get_mut(level) {
            self.moved |= *from != key;
            *from = key;
        }
    }

    fn is_seen(&self, blockref: &Blockref) -> bool {
        self.scrub.seen.contains(&identity(blockref))
    }

    /// Only what more than one tree may refer to is remembered.
    fn saw(&mut self, blockref: &Blockref) {
        let may_be_shared = blockref.mirror_tid() <= self.flusher.writer().shared_tid();
        if may_be_shared && blockref.location().is_some() && self.scrub.seen.len() < SEEN_MAX {
            self.scrub.seen.insert(identity(blockref));
        }
    }

    /// The stored bytes of a block, from the first copy that has it. One that `is_new` is read from
    /// all of them.
    async fn block<H: WriteHost>(
        &mut self,
        host: &H,
        blockref: &Blockref,
        is_new: bool,
        level: Option<usize>,
    ) -> Option<Vec<u8>> {
        let plain = self.flusher.writer().copies().map_or(0, CopySet::plain);
        let want = Want::of(blockref)?.settled(plain).known_at(self.now);
        let (mut good, mut bad) = (None, 0);
        for copy in each(self.copies(&want)) {
            let Some(on_copy) = want.on(copy) else {
                continue;
            };
            let len = want.location().len() as u64;
            if is_new {
                self.scrub.found.bytes += len;
                self.left = self.left.saturating_sub(len);
            }
            match host.fetch_stored(&on_copy).await {
                Ok(stored) if good.is_none() => good = Some(stored),
                Ok(_) => {}
                Err(_) => bad |= 1 << copy,
            }
            if !is_new && good.is_some() {
                return good;
            }
        }
        if is_new {
            self.note(&want, bad, good.is_some());
        }
        if good.is_none() {
            good = self.lent(host, &want).await;
        }
        if good.is_none() {
            self.lose(blockref, level, is_new && bad != 0);
        }
        good
    }

    /// A block that no copy in sync could give, from one that is behind and has it.
    async fn lent<H: WriteHost>(&self, host: &H, want: &Want) -> Option<Vec<u8>> {
        let (set, addresses) = (self.flusher.writer().copies()?, want.addresses()?);
        let behind = set.valid_mask(addresses.mask(), want.tid()) & set.attached() & !set.in_sync();
        for copy in each(behind) {
            if let Some(on_copy) = want.on(copy)
                && let Ok(stored) = host.fetch_stored(&on_copy).await
            {
                return Some(stored);
            }
        }
        None
    }

    /// No copy gave a block. If that `is_known`, it is damaged; else it was good a step before, or
    /// there was no copy to ask, and what is below it is not known. So it is where the super-root is
    /// lost.
    fn lose(&mut self, blockref: &Blockref, level: Option<usize>, is_known: bool) {
        if !is_known || level.is_none() {
            self.scrub.met.pass_by();
        }
        if is_known {
            let above = level.map(|level| self.scrub.from.get(..level).unwrap_or_default());
            self.lost.push(named(blockref, owner(above, blockref), None));
        }
    }

    fn note(&mut self, want: &Want, bad: u8, is_healable: bool) {
        let (found, count) = (&mut self.scrub.found, u64::from(bad.count_ones()));
        found.blocks += 1;
        found.bad += count;
        if is_healable {
            self.bad.extend(HealRequest::on(want, bad));
        } else {
            found.healed.unhealable += count;
        }
    }

    /// The copies that have to have a block.
    fn copies(&self, want: &Want) -> u8 {
        let (Some(set), Some(addresses), Some(lineage)) =
            (self.flusher.writer().copies(), want.addresses(), &self.flusher.lineage)
        else {
            return 0;
        };
        let live = lineage.live();
        set.valid_mask(addresses.mask(), want.tid()) & set.in_sync() & live.written()
    }
}

impl Frame {
    /// The table in an inode or an indirect block, if there is anything in it.
    fn of(blockref: &Blockref, block: &[u8], level: usize) -> Option<Self> {
        let table = match blockref.kind() {
            BlockKind::Inode => {
                if Inode::parse(block).ok()?.has_direct_data() {
                    return None;
                }
                block.get(CONTENT_START..INODE_LEN)?
            }
            _ => block,
        };
        let mut slots: Vec<_> = slots(table).iter().filter(|raw| raw.kind != 0).copied().collect();
        // others may leave a table in any order
        slots.sort_by_key(|raw| raw.key.get());
        let is_empty = slots.is_empty();
        (!is_empty).then_some(Self { blockref: *blockref, slots, at: 0, level })
    }
}

fn identity(blockref: &Blockref) -> (u64, u64) {
    let (copy, address) = blockref.address_key();
    // what is behind the radix and before the least address is free
    (address | u64::from(copy) << 6, blockref.mirror_tid().0)
}
