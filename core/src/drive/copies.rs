//! Copies that are added to a volume in use, and taken away; and the rules of their group (copies
//! 3.10).
//!
//! Everything here ends in a normal commit, whose headers say what the group is from then on; until
//! then nothing has happened. A copy that was added holds nothing: it gets what is written, and is
//! filled in by [`resync`](super::resync).
//!
//! Invariants:
//! * What a slot's former copy held is never believed of the new one: all transactions up to now are
//!   distrusted until the new copy is in sync (I19).
//! * A copy that is taken away is told so in its own header, by the same commit that tells the
//!   others, if it can be written. If it cannot, the others know.
//! * A device that is added loses every header that it had before it gets its first one.

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;

use zerocopy::FromZeros;

use super::REUSE_DELAY;
use super::change::WriteHost;
use super::commit::{Flusher, check_alive, flush};
use super::witness::hear;
use crate::copies::epoch::may_continue;
use crate::copies::witness::WitnessFault;
use crate::copies::{Cause, CopyState, Rules, Runtime, TransitionFault};
use crate::error::Error;
use crate::flush::HeaderWriter;
use crate::freemap::Freemap;
use crate::media::copy_group::COPIES_MAX;
use crate::media::header::{HEADER_LEN, HEADER_SLOTS, HEADER_STRIDE, SHADOW_OFFSET};
use crate::media::raw::{RawBlockref, RawVolumeHeader};
use crate::media::{SEGMENT_LEN, ZONE_LEN, ZONE_RESERVED_LEN};
use crate::units::{DeviceIndex, Tid, Uuid};

/// A device that is to hold a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewCopy {
    /// Its number in the storage, which can be written. What is on it is lost.
    pub device: DeviceIndex,
    /// Its size in bytes.
    pub size: u64,
    /// Its name in the group: random, and never used before.
    pub id: Uuid,
}

/// Why the copies of a volume cannot be changed like that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberError {
    /// The record of the group does not allow it.
    Transition(TransitionFault),
    /// There are as many copies as there can be.
    NoSlot,
    /// The device is too small for what every copy has.
    TooSmall {
        /// Bytes that it needs at least.
        need: u64,
    },
    /// The device is one that the volume is on.
    InUse,
    /// The copy holds the right to write, which has to be handed over first.
    Holder,
    /// By the rule of the group, the others may not go on without it.
    Rule,
    /// The new device did not take its first blocks.
    Unwritable,
    /// The volume has copies already.
    HasCopies,
    /// The volume has none any more on media, though this mount knew some.
    Stripped,
    /// It is a file system of several volumes, which can have no copies.
    Volumes {
        /// How many.
        count: usize,
    },
    /// Blockrefs that cannot be read keep the volume from having no copies.
    Damaged,
    /// Files that were deleted and are still open lie where they were before the volume had copies.
    OpenDeleted,
    /// There is no room for the tables that have to be written anew.
    NoRoom,
    /// The witness has to know of it, and was not told.
    Witness(WitnessFault),
    /// The volume failed, or has no copies.
    Failed(Error),
}

impl From<Error> for MemberError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<TransitionFault> for MemberError {
    fn from(fault: TransitionFault) -> Self {
        Self::Transition(fault)
    }
}

impl fmt::Display for MemberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transition(fault) => fault.fmt(f),
            Self::NoSlot => write!(f, "there are {COPIES_MAX} copies already"),
            Self::TooSmall { need } => {
                write!(f, "the device is too small: it needs at least {need} bytes")
            }
            Self::InUse => f.write_str("the device holds a copy already"),
            Self::Holder => f.write_str("the copy holds the right to write; hand that over first"),
            Self::Rule => {
                f.write_str("by the rule of the group, the others may not go on without it")
            }
            Self::Unwritable => f.write_str("the device does not take what is written to it"),
            Self::HasCopies => f.write_str("the volume has copies already; add another one to them"),
            Self::Stripped => f.write_str(
                "the volume has no copies on media any more, though this mount still knows one; \
                 unmount it and mount it again",
            ),
            Self::Volumes { count } => write!(
                f,
                "the file system lies on {count} volumes, and a copy is one device; copy it to a \
                 file system of one volume first"
            ),
            Self::Damaged => f.write_str(
                "some tables cannot be read; find them with a check, remove what they belong to, \
                 and go on",
            ),
            Self::OpenDeleted => f.write_str(
                "files are open that were deleted, and may lie on another copy only; close them, or \
                 unmount the volume and mount it again",
            ),
            Self::NoRoom => {
                f.write_str("no room for the tables that have to be written anew; free some space")
            }
            Self::Witness(fault) => write!(
                f,
                "the witness, which has to know of this, {fault}; see to it, or go on without one \
                 with 'farrier copies policy --witness none'"
            ),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// Adds a copy, and returns its slot: one that was never used, or that of a copy that was taken away.
/// What was changed is committed. The copy is filled in by [`resync`](super::resync) from then on.
///
/// # Errors
/// Why it cannot be added: nothing has changed then. Or the volume failed.
pub async fn add<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    new: NewCopy,
) -> Result<u8, MemberError> {
    check_alive(host)?;
    let lineage = lineage_of(flusher)?;
    if lineage.live().copy_on(new.device).is_some_and(|copy| is_used(flusher, copy)) {
        return Err(MemberError::InUse);
    }
    let slot = free_slot(flusher).ok_or(MemberError::NoSlot)?;
    let raw = header_for(flusher, &new)?;
    flush(host, flusher, false).await?;
    let now = flusher.header().mirror_tid();
    // it is tried first: what cannot be is found before anything is written
    lineage_of(flusher)?.group().clone().add(slot, new.id, now)?;
    let size = raw.volu_size.get();
    lineage_of(flusher)?.live().place(slot, new.device, size, new.size);
    lineage_of(flusher)?.live().reset_counts(slot);
    forget_headers(host, flusher, slot, new.size).await?;
    attach(flusher, slot, new.id, now, raw)?;
    // it has as many headers as the others then
    for _ in 0..HEADER_SLOTS {
        flush(host, flusher, true).await?;
    }
    Ok(slot)
}

/// Takes a copy away for good. Its own header is told, if it can be written; blockrefs lose its
/// addresses as they are written anew. What was changed is committed.
///
/// # Errors
/// Why it cannot be taken away: nothing has changed then. Or the volume failed.
pub async fn remove<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    slot: u8,
) -> Result<(), MemberError> {
    check_alive(host)?;
    let lineage = lineage_of(flusher)?;
    if lineage.group().policy.runtime == Runtime::Holder(slot) {
        return Err(MemberError::Holder);
    }
    lineage.group().clone().retire(slot)?;
    let origin = host.origin().ok_or(Error::ReadOnly)?;
    flush(host, flusher, false).await?;
    hear(host, flusher, slot).await?;
    let before = flusher.header().mirror_tid().0;
    let tid = Tid(before.checked_add(1).ok_or(Error::ReadOnly)?);
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    // what the flush before met may have changed what is possible
    lineage.change(|group| group.retire(slot))?;
    lineage.begin(Cause::Removed, origin, tid)?;
    let set = lineage.set();
    // it still gets the header that tells it, but nothing else
    flusher.writer.set_copies(set);
    let done = flush(host, flusher, true).await;
    flusher.headers.retain(|(copy, _)| *copy != slot);
    let live = lineage_of(flusher)?.live();
    live.set(&set);
    live.settle(1 << slot);
    done?;
    Ok(())
}

/// Leaves a copy behind on purpose, with everything that was changed so far on it. It is no member
/// from then on and may come back like one that failed: what it lacks by then is filled in.
///
/// # Errors
/// The others may not go on without it: nothing has changed then. Or the volume failed.
pub async fn detach<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    slot: u8,
) -> Result<(), MemberError> {
    check_alive(host)?;
    may_detach(lineage_of(flusher)?, slot)?;
    let origin = host.origin().ok_or(Error::ReadOnly)?;
    flush(host, flusher, false).await?;
    // what the flush met may have changed what is possible
    may_detach(lineage_of(flusher)?, slot)?;
    hear(host, flusher, slot).await?;
    let before = flusher.header().mirror_tid().0;
    let tid = Tid(before.checked_add(1).ok_or(Error::ReadOnly)?);
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    lineage.change(|group| group.detach(slot))?;
    lineage.begin(Cause::Removed, origin, tid)?;
    let set = lineage.set();
    lineage.live().set(&set);
    flusher.headers.retain(|(copy, _)| *copy != slot);
    flusher.writer.set_copies(set);
    flush(host, flusher, true).await?;
    Ok(())
}

fn may_detach(lineage: &super::finish::Lineage, slot: u8) -> Result<(), MemberError> {
    let group = lineage.group();
    if group.policy.runtime == Runtime::Holder(slot) {
        return Err(MemberError::Holder);
    }
    group.clone().detach(slot)?;
    let left = group.in_sync() & !(1 << slot);
    if !may_continue(group.policy.runtime, group.epoch.members, left) {
        return Err(MemberError::Rule);
    }
    Ok(())
}

/// Changes the rules of the group: who may go on without whom, what a mount does if members are
/// missing, how many copies it wants. A hand-over is that too: another holder. What was changed is
/// committed.
///
/// # Errors
/// Why the rules cannot be these: nothing has changed then. Or the volume failed.
pub async fn set_rules<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    rules: Rules,
) -> Result<(), MemberError> {
    check_alive(host)?;
    let group = lineage_of(flusher)?.group();
    if group.rules() == rules {
        return Ok(());
    }
    group.clone().set_rules(rules)?;
    let origin = host.origin().ok_or(Error::ReadOnly)?;
    flush(host, flusher, false).await?;
    let before = flusher.header().mirror_tid().0;
    let tid = Tid(before.checked_add(1).ok_or(Error::ReadOnly)?);
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    lineage.change_rules(rules, origin, tid)?;
    flush(host, flusher, true).await?;
    Ok(())
}

/// Puts a new device in the place of a copy: takes that away, and adds the new one in its slot.
///
/// # Errors
/// As [`remove`] and [`add`]. If only the new device cannot be had, the old one is gone all the same.
pub async fn replace<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    slot: u8,
    new: NewCopy,
) -> Result<u8, MemberError> {
    header_for(flusher, &new)?;
    remove(host, flusher, slot).await?;
    add(host, flusher, new).await
}

/// Counts what happens to a copy from zero again, once the operator has seen to it. What was changed is
/// committed.
///
/// # Errors
/// There is no such copy: nothing has changed then. Or the volume failed.
pub async fn reset_counters<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    slot: u8,
) -> Result<(), MemberError> {
    check_alive(host)?;
    let state = state(flusher, slot);
    if !state.is_configured() {
        return Err(TransitionFault::State { slot, state }.into());
    }
    lineage_of(flusher)?.live().reset_counts(slot);
    flush(host, flusher, true).await?;
    Ok(())
}

pub(super) fn lineage_of(flusher: &Flusher) -> Result<&super::finish::Lineage, MemberError> {
    let lineage = flusher.lineage.as_ref().ok_or(Error::NotSupported)?;
    if lineage.is_stripped() { Err(MemberError::Stripped) } else { Ok(lineage) }
}

fn state(flusher: &Flusher, slot: u8) -> CopyState {
    let lineage = flusher.lineage.as_ref();
    lineage.and_then(|lineage| lineage.group().slot(slot)).map_or(CopyState::Empty, |one| one.state)
}

fn is_used(flusher: &Flusher, slot: u8) -> bool {
    !matches!(state(flusher, slot), CopyState::Empty | CopyState::Retired)
}

/// A slot without a copy: one that never had any, if there is one.
fn free_slot(flusher: &Flusher) -> Option<u8> {
    let slots = || (0..).take(COPIES_MAX);
    let is_empty = |slot: &u8| state(flusher, *slot) == CopyState::Empty;
    slots().find(is_empty).or_else(|| slots().find(|slot| !is_used(flusher, *slot)))
}

/// The header of a copy without anything in it: that of the others, with a size and a freemap of its
/// own.
fn header_for(flusher: &Flusher, new: &NewCopy) -> Result<Box<RawVolumeHeader>, MemberError> {
    let mut raw = Box::new(flusher.header().raw().clone());
    let reserved = raw.aux_end.get();
    let need = (reserved + 2 * SEGMENT_LEN).next_multiple_of(SEGMENT_LEN);
    let total = new.size / VOLUME_UNIT * VOLUME_UNIT;
    if total < need.max(ZONE_RESERVED_LEN) {
        return Err(MemberError::TooSmall { need });
    }
    let zones = total.div_ceil(ZONE_LEN);
    let data = total
        .checked_sub(ZONE_RESERVED_LEN * zones)
        .and_then(|data| data.checked_sub(reserved.saturating_sub(ZONE_RESERVED_LEN)))
        .ok_or(MemberError::TooSmall { need })?;
    raw.volu_size.set(total);
    raw.allocator_size.set(data);
    raw.allocator_free.set(data);
    raw.allocator_beg.set(reserved);
    raw.freemap_blockset = [(); 4].map(|()| RawBlockref::new_zeroed());
    raw.sroot_blockset = [(); 4].map(|()| RawBlockref::new_zeroed());
    Ok(raw)
}

/// The device holds no file system from now on.
async fn forget_headers<H: WriteHost>(
    host: &H,
    flusher: &Flusher,
    slot: u8,
    size: u64,
) -> Result<(), MemberError> {
    let lineage = lineage_of(flusher)?;
    let live = lineage.live();
    live.settle(1 << slot);
    // for as long as this takes; nothing else is sent there yet
    live.set_written(slot, true);
    let headers = (0..HEADER_SLOTS).map(|number| number * HEADER_STRIDE);
    let mut done = Ok(());
    for offset in headers.chain([SHADOW_OFFSET]).filter(|at| at + HEADER_LEN as u64 <= size) {
        done = host.write_header(slot, offset, vec![0; HEADER_LEN]).await;
        if done.is_err() {
            break;
        }
    }
    if done.is_ok() {
        done = host.barrier().await;
    }
    live.set_written(slot, false);
    done?;
    if live.lost() & 1 << slot != 0 {
        live.settle(1 << slot);
        return Err(MemberError::Unwritable);
    }
    Ok(())
}

/// The copy is written to like the others from now on.
fn attach(
    flusher: &mut Flusher,
    slot: u8,
    id: Uuid,
    now: Tid,
    raw: Box<RawVolumeHeader>,
) -> Result<(), MemberError> {
    let freemap = Freemap::new(
        raw.volu_size.get(),
        crate::units::MediaOffset(raw.allocator_beg.get()),
        &raw.freemap_blockset,
        raw.allocator_free.get(),
        REUSE_DELAY,
    )
    .map_err(Error::from)?;
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    lineage.change(|group| {
        group.add(slot, id, now)?;
        group.resync(slot, now)
    })?;
    let set = lineage.set();
    lineage.live().set(&set);
    flusher.writer.add_copy(slot, freemap);
    flusher.writer.set_copies(set);
    flusher.headers.push((slot, HeaderWriter::first(raw)));
    Ok(())
}

/// What a copy's size is a multiple of.
const VOLUME_UNIT: u64 = SEGMENT_LEN * 2;
