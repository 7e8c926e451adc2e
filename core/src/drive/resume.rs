//! A volume that halted goes on when its copies are back (copies 3.7).
//!
//! The last copies that held everything were lost in the midst of a commit, and are there again: the
//! cable was loose, the host of a remote device rebooted. What was changed since the last commit is in
//! memory, so nothing is lost. The devices are looked at as at a mount, allocators and headers begin
//! with what is there, and the commit that did not come to its end is made once more.
//!
//! Invariants:
//! * Every device has the header of the last commit, or one that was written for the commit that
//!   failed, by all of its check codes: nobody else has written to it, and it was not put back.
//! * Whoever could not be mounted like this without a question does not go on like this either.
//! * What is in memory refers to the tree of the last commit, and so does what is written next, even
//!   where the commit that failed is on media in part. Whatever that wrote is found free by a scan.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::attach::{Appeared, AttachError};
use super::change::WriteHost;
use super::commit::{Flusher, flush};
use super::finish::Lineage;
use super::open::writer_of_copies;
use super::space::has_root;
use crate::copies::CopySet;
use crate::copies::lineage::{self, Decision, Found, ReadOnly, Refused, decide};
use crate::dirty::Memory;
use crate::error::{Damage, DamageKind, Error};
use crate::flush::HeaderWriter;
use crate::media::blockref::Seat;
use crate::media::copy_group::RO_COMPAT_KNOWN;
use crate::volume::{CopyHeader, LiveCopies};

/// Why a volume that halted does not go on with these devices. It stays as it is, and nothing was
/// written, but where a commit failed once more.
#[derive(Clone, Debug)]
pub enum ResumeError {
    /// It has not halted, or has no copies.
    NotHalted,
    /// A device holds no copy.
    Device(AttachError),
    /// The copy is another one than it was, or was written by somebody else meanwhile.
    Changed {
        /// Its slot.
        slot: u8,
    },
    /// The copies that are here make no volume.
    Refused(Refused),
    /// A mount of the copies that are here would not be for writing.
    Unsafe(ReadOnly),
    /// What a device said, or damage in what has to be known. [`Error::Halted`] again if copies were
    /// lost at once.
    Failed(Error),
}

impl From<Error> for ResumeError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHalted => f.write_str("the volume has not halted"),
            Self::Device(error) => error.fmt(f),
            Self::Changed { slot } => write!(
                f,
                "copy {slot} is not what it was when it was lost: it was written by somebody else, \
                 or put back; unmount the volume, and mount it again"
            ),
            Self::Refused(refused) => refused.fmt(f),
            Self::Unsafe(why) => why.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ResumeError {}

/// The copies of a volume that halted which it needs to go on: all that took part in the commit that
/// failed, a bit for each. Those that work need no other device than they have.
#[must_use]
pub fn needed(flusher: &Flusher) -> u8 {
    let headers = flusher.headers.iter().chain(&flusher.left);
    headers.fold(0, |mask, (copy, _)| mask | 1 << copy)
}

/// Goes on after [`Error::Halted`] with what was [found](super::attach::identify) on the devices of its
/// copies, and commits what was changed.
///
/// `found` has to be what the devices hold now, and nobody else may write to them.
///
/// # Errors
/// Why it cannot.
pub async fn resume<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    found: &[Appeared],
) -> Result<(), ResumeError> {
    let failed = host.look(|memory| memory.and_then(Memory::failed));
    if !failed.is_some_and(|error| is_for_want_of_copies(&error)) {
        return Err(ResumeError::NotHalted);
    }
    let lineage = flusher.lineage.as_ref().ok_or(ResumeError::NotHalted)?;
    let live = Arc::clone(lineage.shared());
    for one in found {
        if !is_own(flusher, one) {
            return Err(ResumeError::Changed { slot: one.group.self_slot });
        }
    }
    let lost = live.lost();
    for one in found {
        live.place(one.group.self_slot, one.device, one.header.volume_size(), one.size);
    }
    let here = found.iter().fold(0, |mask, one| mask | 1 << one.group.self_slot);
    // who was left behind at the mount by the operator's word is missed no more now, but nobody else
    let accept_missing = lineage.is_accepted && needed(flusher) & !here == 0;
    let mut decision = judge(host, &live, found, accept_missing).await?;
    // behind what any device got of the commit that failed
    decision.after = decision.after.max(flusher.header().mirror_tid());
    decision.take_back();
    live.settle(here);
    live.set(&CopySet::of(&decision.group));
    let renewed = renew(host, flusher, &live, decision, found).await;
    if let Err(error) = renewed {
        // they are not read either as long as it is not known what they hold
        live.lose_again(lost);
        return Err(error.into());
    }
    let budget = flusher.writer().budget();
    host.alter(|memory| memory.resume(budget));
    flush(host, flusher, true).await?;
    Ok(())
}

/// Whether a commit that failed like this may succeed with the same copies when they are back: they
/// did not take it, or did not give what it needed.
#[must_use]
pub const fn is_for_want_of_copies(error: &Error) -> bool {
    matches!(
        error,
        Error::Halted | Error::Device(_) | Error::Damaged(Damage { kind: DamageKind::NoCopy, .. })
    )
}

/// Whether a device holds a copy with the header that was written to it last, or tried.
fn is_own(flusher: &Flusher, found: &Appeared) -> bool {
    let (group, slot) = (&found.group, found.group.self_slot);
    let Some(book) = flusher.lineage().map(Lineage::group) else { return false };
    let is_named = group.group == book.group
        && book.slot(slot).is_some_and(|copy| copy.device == group.device)
        && group.ro_compat & !RO_COMPAT_KNOWN == 0
        && found.header.volume_size() <= found.size;
    let mut headers = flusher.headers.iter().chain(&flusher.left);
    let is_its = |header: &HeaderWriter| header.is_own(found.header_slot, &found.header);
    is_named && headers.any(|(copy, header)| *copy == slot && is_its(header))
}

/// Judges the devices as at a mount.
async fn judge<H: WriteHost>(
    host: &H,
    live: &LiveCopies,
    found: &[Appeared],
    accept_missing: bool,
) -> Result<Decision, ResumeError> {
    let mut all: Vec<Found> = Vec::with_capacity(found.len());
    for one in found {
        let seat = Seat { copy: one.group.self_slot, plain: live.plain() };
        let has_root = has_root(host, seat, &one.header).await;
        all.push(one.found(has_root.then_some(0)));
    }
    let options = lineage::Options { accept_missing, ..lineage::Options::default() };
    let decision = decide(&all, &options).map_err(ResumeError::Refused)?;
    decision.writable.map_err(ResumeError::Unsafe)?;
    Ok(decision)
}

/// Allocators, headers and lineage begin anew with what is on media.
async fn renew<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    live: &Arc<LiveCopies>,
    decision: Decision,
    found: &[Appeared],
) -> Result<(), Error> {
    let is_part = |one: &&Appeared| decision.devices.contains(&Some(one.device));
    let found = found.iter().filter(is_part).map(|one| CopyHeader {
        copy: one.group.self_slot,
        device: one.device,
        slot: one.header_slot,
        header: one.header.clone(),
    });
    let found: Vec<CopyHeader> = found.collect();
    let root = host.look(|memory| memory.map(|memory| *memory.super_root()));
    let root = root.ok_or(Error::ReadOnly)?;
    let checks = *flusher.writer.checks();
    let (writer, headers) = writer_of_copies(host, root, &decision, &found, checks).await?;
    let known = flusher.lineage.take().map(|lineage| lineage.known).unwrap_or_default();
    let lineage = Lineage::of(&decision, live, known);
    let scans = flusher.scans;
    *flusher = Flusher::of_copies(writer, headers, lineage);
    // a scan that was on its way is of what there was before
    flusher.scans = scans;
    Ok(())
}
