//! Healing: a block that one copy lost is written again from another (copies 3.4, R2, R3, R5, R8).
//!
//! A read that had to go on to another copy leaves a [`HealRequest`]; the host keeps some of them
//! ([`HealQueue`]) and hands them to [`heal`] while it holds the flusher. The good bytes go to the
//! address that the blockref names on the bad copy: no table, transaction or epoch changes (I17), and
//! a heal that is cut short leaves a block that was bad before.
//!
//! # Why it never writes over something else
//!
//! A place that was given back is used again, and then the old block's bytes would destroy the new
//! one's. That cannot happen, because:
//!
//! 1. Every request says how many commits there had been, N, when something certainly referred to the
//!    block. The window of an operation says so ([`View`](crate::engine::View)), whose every run
//!    begins at the root of the last commit; it says so of nothing else. What reads by references of
//!    its own (a root of a file system that is not open for writing, a scan, a read ahead)
//!    leaves no requests: its block may have been gone for long.
//! 2. What N referred to is given back by commit N + 1 at the earliest, and then waits for
//!    `REUSE_DELAY` (4) headers that do not refer to it; a scan for free space waits for as many
//!    between finding and freeing. So the first commit that may use the place again is
//!    N + 1 + `REUSE_DELAY`.
//! 3. Who holds the flusher keeps every commit from beginning. At M commits, with M < N +
//!    `REUSE_DELAY`, none has begun that could have used it. Later requests are
//!    dropped: whoever reads the block again makes a new one.
//! 4. Only copies that are in sync are healed, at addresses that still count there. A copy that was
//!    ejected meanwhile, or replaced by another device, is left alone.
//!
//! A place that does not take the block, or does not give it back, is not tried again: the block gets
//! [another one](super::relocate).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::REUSE_DELAY;
use super::change::WriteHost;
use super::commit::{Flusher, check_alive};
use crate::copies::CopySet;
use crate::copies::mutations::Rule;
use crate::dirty::Memory;
use crate::engine::Want;
use crate::error::Error;
use crate::flush::{Bytes, Piece};
use crate::units::MediaOffset;
use crate::volume::{CopyEvent, LiveCopies};

/// Requests that are kept; more of them are dropped, for a scrub or the next reader to make anew.
const QUEUE_MAX: usize = 256;

/// A block that was bad on some copies and good on another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealRequest {
    want: Want,
    known: u64,
    /// The copies, a bit for each.
    bad: u8,
}

impl HealRequest {
    /// To heal what [`read_any`](super::read_any) found bad; `None` if nothing was, or nobody knows
    /// whether the block is still in use.
    #[must_use]
    pub fn of(want: &Want, bad: &[(u8, MediaOffset)]) -> Option<Self> {
        let bad = bad.iter().fold(0, |mask, (copy, _)| mask | 1 << copy);
        Self::on(want, bad)
    }

    /// To heal the block on the copies of a mask; `None` if there is none, or nobody knows whether
    /// the block is still in use.
    #[must_use]
    pub fn on(want: &Want, bad: u8) -> Option<Self> {
        let known = want.known().filter(|_| bad != 0)?;
        Some(Self { want: *want, known, bad })
    }
}

/// What waits to be healed: a little, and each block once.
#[derive(Debug, Default)]
pub struct HealQueue {
    requests: VecDeque<HealRequest>,
}

impl HealQueue {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { requests: VecDeque::new() }
    }

    /// Notes a request. The oldest one has to go if there are too many.
    pub fn push(&mut self, request: HealRequest) {
        let same = |one: &&mut HealRequest| one.want.id() == request.want.id();
        if let Some(one) = self.requests.iter_mut().find(same) {
            let bad = one.bad | request.bad;
            *one = HealRequest { bad, ..request };
            return;
        }
        if self.requests.len() >= QUEUE_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    /// Everything that waits.
    pub fn take(&mut self) -> Vec<HealRequest> {
        core::mem::take(&mut self.requests).into()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

/// Writes that a copy may fail to take before it is lost.
const WRITES_MAX: u64 = 3;

/// What healing came to. Blocks are counted for each copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Healed {
    /// Blocks that were written again, and read back.
    pub healed: u64,
    /// Blocks that the copy did not take, or did not give back as they were written: they get another
    /// place there.
    pub failed: u64,
    /// Blocks that no copy could give any more.
    pub unhealable: u64,
    /// Blocks that were left alone: too many commits went by since they were read, or the copy does
    /// not count any more.
    pub dropped: u64,
}

impl core::ops::AddAssign for Healed {
    fn add_assign(&mut self, other: Self) {
        self.healed += other.healed;
        self.failed += other.failed;
        self.unhealable += other.unhealable;
        self.dropped += other.dropped;
    }
}

/// A block that was written again.
struct Rewritten {
    copy: u8,
    want: Want,
    stored: Vec<u8>,
    /// By another blockref it was already.
    is_again: bool,
}

/// Writes bad blocks again from good copies, reads them back and counts them, while the flusher is
/// held. See the [module](self) for why that is safe. A copy that failed to take blocks for the third
/// time is lost, and the next commit leaves it behind.
///
/// # Errors
/// The volume failed. That a block cannot be healed is no error: it is counted.
pub async fn heal<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    requests: Vec<HealRequest>,
) -> Result<Healed, Error> {
    let mut done = Healed::default();
    if requests.is_empty() {
        return Ok(done);
    }
    check_alive(host)?;
    let now = host.look(|memory| memory.map(Memory::commits)).ok_or(Error::ReadOnly)?;
    if flusher.lineage.is_none() {
        return Ok(done);
    }
    let plain = flusher.writer().copies().map_or(0, CopySet::plain);
    let mut rewritten = Vec::new();
    for request in requests {
        let want = request.want.settled(plain);
        let bad = u64::from(request.bad.count_ones());
        if !is_in_use(request.known, now) {
            done.dropped += bad;
            continue;
        }
        let usable = usable(flusher, &want);
        let targets = request.bad & usable;
        done.dropped += bad - u64::from(targets.count_ones());
        if targets == 0 {
            continue;
        }
        let Some(stored) = fetch_good(host, &want, usable & !targets).await else {
            done.unhealable += u64::from(targets.count_ones());
            continue;
        };
        for copy in each(targets) {
            rewrite(host, flusher, &want, copy, &stored, &mut rewritten, &mut done).await;
        }
    }
    if !rewritten.is_empty() {
        host.barrier().await?;
    }
    for one in rewritten {
        let read = host.fetch_stored(&one.want.trial()).await;
        let is_there = read.is_ok_and(|read| read == one.stored) || Rule::HealVerify.is_off();
        if is_there && one.is_again {
            continue;
        }
        // the next commit leaves behind what often gives back something else
        let event = if is_there { CopyEvent::Healed } else { CopyEvent::Unhealed };
        if let Some(lineage) = &flusher.lineage {
            lineage.live().count(one.copy, event);
        }
        if is_there {
            done.healed += 1;
        } else {
            flusher.give_up_place(one.copy, &one.want);
            done.failed += 1;
        }
    }
    Ok(done)
}

async fn rewrite<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    want: &Want,
    copy: u8,
    stored: &[u8],
    rewritten: &mut Vec<Rewritten>,
    done: &mut Healed,
) {
    let (Some(want), Some(lineage)) = (want.on(copy), &flusher.lineage) else {
        return;
    };
    let at = want.only_at();
    // two blockrefs may name it, one of them with another place on another copy
    let is_again = rewritten.iter().any(|one| one.copy == copy && one.want.only_at() == at);
    let live = lineage.live();
    let is_taken = if is_again {
        true
    } else if live.is_bad(copy, at) {
        // another reference to it was moved, and this one is to be
        false
    } else {
        let piece = Piece { copy, offset: at, bytes: Bytes::Owned(stored.to_vec()) };
        let is_taken = host.rewrite(piece).await.is_ok();
        if !is_taken {
            failed(live, copy);
        }
        is_taken
    };
    if is_taken {
        rewritten.push(Rewritten { copy, want, stored: stored.to_vec(), is_again });
    } else {
        flusher.give_up_place(copy, &want);
        done.failed += 1;
    }
}

/// Whether nothing else can have taken the place of a block that something referred to when there
/// had been `known` commits, now that there have been `now`.
const fn is_in_use(known: u64, now: u64) -> bool {
    known <= now && now - known < REUSE_DELAY as u64
}

/// The copies that a block counts on, are in sync, and take writes.
fn usable(flusher: &Flusher, want: &Want) -> u8 {
    let (Some(set), Some(addresses), Some(lineage)) =
        (flusher.writer().copies(), want.addresses(), &flusher.lineage)
    else {
        return 0;
    };
    set.valid_mask(addresses.mask(), want.tid()) & set.in_sync() & lineage.live().written()
}

/// The block as one of `copies` has it, if it is right there.
async fn fetch_good<H: WriteHost>(host: &H, want: &Want, copies: u8) -> Option<Vec<u8>> {
    for copy in each(copies) {
        if let Some(want) = want.on(copy)
            && let Ok(stored) = host.fetch_stored(&want).await
        {
            return Some(stored);
        }
    }
    None
}

fn failed(live: &LiveCopies, copy: u8) {
    if live.counts(copy).write_errors + 1 >= WRITES_MAX {
        live.lose(copy);
    } else {
        live.count(copy, CopyEvent::Write);
    }
}

/// The copies in a mask.
pub(super) fn each(copies: u8) -> impl Iterator<Item = u8> {
    (0..8).filter(move |copy| copies & 1 << copy != 0)
}
