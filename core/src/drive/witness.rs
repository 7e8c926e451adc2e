//! The witness of a group is told of its epochs, and set up (copies, witness).
//!
//! Invariant: no header names an epoch that leaves a member out, unless the witness knows that epoch
//! already. What adds a member, or changes rules, is told as well, but waits for nobody: whoever has the
//! epoch before has that one, too.

use super::change::WriteHost;
use super::commit::{Flusher, check_alive, flush};
use super::copies::{MemberError, lineage_of};
use super::finish::Lineage;
use crate::copies::witness::{WitnessFault, needs_witness};
use crate::copies::{CopyState, WitnessPlace};
use crate::error::Error;
use crate::units::Tid;

/// Tells the witness of the epoch that the commit `tid` is of, if it does not know.
///
/// # Errors
/// [`Error::Unwitnessed`]: it was not told, and has to be.
pub(super) async fn tell<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    tid: Tid,
) -> Result<(), Error> {
    let Some(lineage) = &mut flusher.lineage else {
        return Ok(());
    };
    let Some(telling) = lineage.told.telling(lineage.group(), Tid(tid.0.saturating_sub(1))) else {
        return Ok(());
    };
    match host.tell_witness(&telling).await {
        Ok(()) => lineage.told.done(telling.group().epoch.id),
        Err(_) if lineage.told.is_owed(lineage.group()) => return Err(Error::Unwitnessed),
        Err(_) => {}
    }
    Ok(())
}

/// Whether the witness, if it is needed, hears the epoch that there is; `tid` is the last commit.
pub(super) async fn is_heard<H: WriteHost>(host: &H, lineage: &mut Lineage, tid: Tid) -> bool {
    heard(host, lineage, tid).await.is_ok()
}

async fn heard<H: WriteHost>(
    host: &H,
    lineage: &mut Lineage,
    tid: Tid,
) -> Result<(), WitnessFault> {
    if needs_witness(lineage.group()) {
        let telling = lineage.told.again(lineage.group(), tid);
        host.tell_witness(&telling).await?;
        lineage.told.done(telling.group().epoch.id);
    }
    Ok(())
}

/// Before a member is left behind on purpose: fails where the witness could not be told.
pub(super) async fn hear<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    slot: u8,
) -> Result<(), MemberError> {
    let tid = flusher.header().mirror_tid();
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    let is_member = lineage.group().slot(slot).is_some_and(|one| one.state == CopyState::InSync);
    if is_member {
        heard(host, lineage, tid).await.map_err(MemberError::Witness)?;
    }
    Ok(())
}

/// Gives the group a witness, another one, or none. What was changed is committed. The new witness has
/// to hold the present epoch already.
///
/// Another one is two epochs: in the first the group has none. So no crash leaves two of them that
/// could each say yes to another side.
///
/// # Errors
/// Why it cannot be that: nothing has changed then. Or the volume failed.
pub async fn set_witness<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    witness: Option<WitnessPlace>,
) -> Result<(), MemberError> {
    check_alive(host)?;
    let has_one = lineage_of(flusher)?.group().policy.witness;
    flush(host, flusher, false).await?;
    if let Some(witness) = &witness {
        // one that cannot be reached is none
        let tid = flusher.header().mirror_tid();
        let lineage = lineage_of(flusher)?;
        let mut group = lineage.group().clone();
        group.set_witness(Some(witness.clone()));
        let telling = lineage.told.again(&group, tid);
        host.tell_witness(&telling).await.map_err(MemberError::Witness)?;
    }
    if has_one {
        change_witness(host, flusher, None).await?;
    }
    match witness {
        Some(witness) => change_witness(host, flusher, Some(witness)).await,
        None => Ok(()),
    }
}

async fn change_witness<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    witness: Option<WitnessPlace>,
) -> Result<(), MemberError> {
    let origin = host.origin().ok_or(Error::ReadOnly)?;
    let before = flusher.header().mirror_tid().0;
    let tid = Tid(before.checked_add(1).ok_or(Error::ReadOnly)?);
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    lineage.change_witness(witness, origin, tid)?;
    flush(host, flusher, true).await?;
    Ok(())
}
