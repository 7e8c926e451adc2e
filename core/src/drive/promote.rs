//! A copy is made the master by the operator's word, and what a copy holds is given up (copies 3.7).
//!
//! Promotion happens offline: the volume is opened by that copy alone
//! ([`only_copy`](crate::copies::lineage::Options)), to be read, and gets one header that says so.
//! Until that is durable nothing has happened. The others are not written: what becomes of them
//! is found when they are met.

use super::change::{Origin, WriteHost};
use super::commit::{Flusher, check_alive, flush};
use super::copies::MemberError;
use crate::copies::witness::{Heard, Telling, Told};
use crate::copies::{Cause, CopyGroup, EpochId};
use crate::error::Error;
use crate::flush::{HeaderWriter, Roots};
use crate::media::header::{SHADOW_OFFSET, VolumeHeader};
use crate::storage::Storage;
use crate::units::Tid;
use crate::volume::Volume;

/// What a promotion would do: to be shown before it is carried out.
#[derive(Clone, Debug)]
pub struct Promotion {
    /// The copy.
    pub copy: u8,
    /// The last transaction in the root that it has.
    pub root_tid: Tid,
    /// The newest transaction that it knows of on any copy. What lies between the two is lost; if the
    /// copy was cut off, others may have gone on without its knowing.
    pub known_tid: Tid,
    /// Copies that hold what is given up: they are diverged from then on.
    pub diverged: u8,
    header: VolumeHeader,
    group: CopyGroup,
}

impl Promotion {
    /// The same, by the rule of the group and nobody's word: the record says so.
    #[must_use]
    pub fn by_rule(mut self) -> Self {
        self.group.epoch.cause = Cause::PromotedByRule;
        self
    }

    /// What the witness of the group has to be told before this is carried out, if there is one; it
    /// said `heard` before, which is given up with the rest.
    #[must_use]
    pub fn telling(&self, heard: Option<&Heard>) -> Option<Telling> {
        Told::opened(heard, true).telling(&self.group, self.known_tid)
    }
}

/// Works out what it means to make the copy that `volume` was opened by the master. `volume` has to be
/// opened by that copy alone.
///
/// # Errors
/// Why it cannot be: it never was in sync, its record is damaged, or its freemap is behind its root.
pub fn plan(volume: &Volume, origin: Origin) -> Result<Promotion, MemberError> {
    let header = volume.header().clone();
    let mut group = header.copy_group().map_err(|_| Error::NotSupported)?;
    let copy = group.self_slot;
    if header.freemap_tid() != header.mirror_tid() {
        return Err(Error::ReadOnly.into());
    }
    let root_tid = volume.super_root().mirror_tid();
    let known_tid =
        group.slots.iter().map(|slot| slot.barrier_tid).fold(header.mirror_tid(), Ord::max);
    let start = Tid(known_tid.0.checked_add(1).ok_or(Error::ReadOnly)?);
    group.promote(copy, root_tid, &origin.stamp(start))?;
    let is_diverged = |slot: &u8| group.slot(*slot).is_some_and(|one| one.state == DIVERGED);
    let diverged = (0..4).filter(is_diverged).fold(0, |mask, slot| mask | 1 << slot);
    Ok(Promotion { copy, root_tid, known_tid, diverged, header, group })
}

/// Makes the copy the master: writes its header.
///
/// # Errors
/// Its device failed.
pub async fn promote<S: Storage>(
    storage: &S,
    volume: &Volume,
    promotion: &Promotion,
) -> Result<(), Error> {
    let device = volume.root_device();
    let checks = volume.checks();
    let Promotion { header, group, known_tid, .. } = promotion;
    let mut writer = HeaderWriter::new(header, volume.chosen_slot());
    if let Some(bytes) = writer.take_torn() {
        storage.write(device, 0, &bytes).await?;
        storage.barrier(device).await?;
    }
    let (own, freemap) = (*volume.super_root().raw(), header.raw().freemap_blockset);
    let tid = Tid(known_tid.0.checked_add(1).ok_or(Error::ReadOnly)?);
    let free_bytes = header.allocator_free();
    group.put(writer.raw_mut(), checks);
    let roots = Roots { super_root: &own, freemap: &freemap, free_bytes, tid };
    writer.next(roots);
    if writer.is_single() {
        storage.write(device, SHADOW_OFFSET, writer.sealed(checks).1).await?;
        storage.barrier(device).await?;
    }
    let (offset, bytes) = writer.sealed(checks);
    storage.write(device, offset, bytes).await?;
    storage.barrier(device).await?;
    Ok(())
}

/// Gives up what a copy with a history of its own holds. `epoch` is the one that its own newest header
/// names. The next time that the volume is mounted with it, it is brought up to date.
///
/// # Errors
/// The copy is in sync, or there is none; then nothing has changed. Or the volume failed.
pub async fn discard<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    copy: u8,
    epoch: EpochId,
) -> Result<(), MemberError> {
    check_alive(host)?;
    flush(host, flusher, false).await?;
    let now = flusher.header().mirror_tid();
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    lineage.change(|group| group.discard(copy, epoch, now))?;
    flush(host, flusher, true).await?;
    Ok(())
}

const DIVERGED: crate::copies::CopyState = crate::copies::CopyState::Diverged;
