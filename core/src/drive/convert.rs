//! A volume without copies becomes one of copies, and the other way round, while it is in use
//! (copies, conversion).
//!
//! To have copies takes one commit. Blockrefs that were written before stay as they are: they name no
//! copies, and the record of the group says which copy that means. So the header is all that changes,
//! and it is written last, behind everything else.
//!
//! To have none any more takes a walk: every blockref has to be as on a volume without copies before
//! the header may say that it is one. A batch of it is a commit, progress is the tree itself, and
//! until the last commit the volume is one of copies, of which one is left.
//!
//! Invariants:
//! * Plain blockrefs are on one copy, and that copy is the only one in sync for as long as there are
//!   any: a copy that comes in sync was filled in everywhere, and what is filled in names its copies.
//! * A header says that there are no copies only if its super-root is plain, and a table is plain
//!   only if everything in it is.
//! * Copies that are left behind are told so before the walk begins.
//! * A header that says that there are copies has a record of them, however it was torn: so the record
//!   comes before that word, and goes after it. The check code of the whole header does not see to
//!   it, since the code of its first sector, which stands at the end of that, cancels out what the
//!   sector holds.

use alloc::sync::Arc;

use super::bulkfree::end_scan;
use super::change::WriteHost;
use super::commit::{Flusher, check_alive, flush};
use super::copies::{MemberError, remove};
use super::damage::Known;
use super::open::load_freemap;
use super::resync::{Filled, strip_some};
use crate::copies::witness::Told;
use crate::copies::{Cause, CopyGroup, CopySet, CopyState, EpochId, TransitionFault};
use crate::dirty::{Memory, Tree};
use crate::error::Error;
use crate::media::addresses::is_plain;
use crate::media::check::Checks;
use crate::media::copy_group::{COPIES_MAX, COPY_GROUP_LEN, Epoch, INCOMPAT_PLAIN};
use crate::media::damage::DamageList;
use crate::media::header::{HEADER_SLOTS, Version};
use crate::media::raw::{RawBlockref, RawVolumeHeader};
use crate::units::{Tid, Uuid};
use crate::volume::Volume;

/// The names of a new group and of its first copy: random, and never used before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewGroup {
    /// The group.
    pub group: Uuid,
    /// The device that the volume is on.
    pub device: Uuid,
}

/// Makes a volume without copies one of copies, of which it is the first, in slot 0. What was changed
/// is committed. `volume` is the open volume: whoever reads by it goes on.
///
/// After that, [`add`](super::copies::add) adds another copy.
///
/// # Errors
/// Why it cannot be: nothing has changed then. Or the volume failed.
pub async fn to_copies<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    volume: &Volume,
    new: NewGroup,
) -> Result<(), MemberError> {
    check_alive(host)?;
    if let Some(lineage) = &flusher.lineage {
        return Err(match lineage.is_stripped() {
            true => MemberError::Stripped,
            false => MemberError::HasCopies,
        });
    }
    let [piece] = volume.pieces() else {
        return Err(MemberError::Volumes { count: volume.pieces().len() });
    };
    let origin = host.origin().ok_or(Error::ReadOnly)?;
    if origin.id == EpochId::NONE.0 || new.device == Uuid::default() {
        return Err(TransitionFault::Id.into());
    }
    flush(host, flusher, false).await?;
    // what is free of a copy is looked for in all of it
    load_freemap(host, 0, flusher.writer.freemap_mut(), u64::MAX).await?;
    let before = flusher.header().mirror_tid();
    let epoch = Epoch {
        id: EpochId(origin.id),
        parent: EpochId::NONE,
        seq: 1,
        start_tid: Tid(before.0.checked_add(1).ok_or(Error::ReadOnly)?),
        members: 1,
        cause: Cause::Created,
        host: origin.host,
        time: origin.time,
    };
    let mut group = CopyGroup::new(new.group, new.device, epoch);
    group.incompat |= INCOMPAT_PLAIN;
    group.slots[0].barrier_tid = before;
    let set = CopySet::of(&group);
    let live = volume.live();
    live.place(0, piece.device, flusher.header().total_size(), piece.device_size);
    live.set(&set);
    live.turn_on();
    flusher.writer.set_copies(set);
    let (told, known) = (Told::default(), Known::default());
    let lineage =
        super::finish::Lineage::new(group, (None, told), (false, false), Arc::clone(live), known);
    flusher.lineage = Some(lineage);
    every_header(host, flusher).await?;
    put_version(flusher.header_mut().raw_mut(), Version::Copies);
    every_header(host, flusher).await?;
    Ok(())
}

/// What a batch of [`strip`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stripped {
    /// Blocks that are not tables whose blockrefs were written anew.
    pub leaves: u64,
    /// Tables that were written anew.
    pub tables: u64,
    /// The volume has no copies any more on media.
    pub is_done: bool,
}

/// Makes a volume of copies one without, on the device of the copy `keep`, which has to be in sync:
/// a part of it of about `budget` bytes of tables. To be called again until it is done; a call after a
/// crash, or after another mount, goes on where the last commit was. Until it is done the volume is
/// one of copies, and others can be added as ever.
///
/// The first call takes away all other copies: they are told in their headers, if they can be
/// written. What was changed is committed.
///
/// When it is done, the media hold a volume without copies. This mount goes on as it is, but can take
/// no copies any more: for that the volume has to be mounted anew.
///
/// # Errors
/// Why it cannot be, or not go on. Or the volume failed.
pub async fn strip<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    keep: u8,
    budget: u64,
) -> Result<Stripped, MemberError> {
    check_alive(host)?;
    if flusher.lineage.as_ref().ok_or(Error::NotSupported)?.is_stripped() {
        return Ok(Stripped { is_done: true, ..Stripped::default() });
    }
    begin(host, flusher, keep).await?;
    let filled = strip_some(host, flusher, budget).await;
    let (done, filled) = match filled {
        Ok(filled) if root_is_plain(host) => (finish(host, flusher).await, filled),
        Ok(filled) => (Ok(false), filled),
        Err(error) => (Err(error), Filled::default()),
    };
    // what is written between two calls is as ever, so that copies can be added
    if !matches!(done, Ok(true)) {
        flusher.writer.set_stripping(false);
    }
    let is_done = done?;
    if !is_done && (filled.leaves, filled.tables) == (0, 0) {
        return Err(if filled.unreadable > 0 { MemberError::Damaged } else { MemberError::NoRoom });
    }
    Ok(Stripped { leaves: filled.leaves, tables: filled.tables, is_done })
}

/// The copy `keep` is the only one, and new blockrefs may be plain.
async fn begin<H: WriteHost>(host: &H, flusher: &mut Flusher, keep: u8) -> Result<(), MemberError> {
    let state = |flusher: &Flusher, slot: u8| {
        let group = flusher.lineage().map(super::finish::Lineage::group);
        group.and_then(|group| group.slot(slot)).map_or(CopyState::Empty, |copy| copy.state)
    };
    let now = state(flusher, keep);
    if now != CopyState::InSync {
        return Err(TransitionFault::State { slot: keep, state: now }.into());
    }
    for other in (0..).take(COPIES_MAX).filter(|other| *other != keep) {
        if state(flusher, other).is_configured() {
            remove(host, flusher, other).await?;
        }
    }
    let group = flusher.lineage().ok_or(Error::NotSupported)?.group();
    let had_plain = group.incompat & INCOMPAT_PLAIN != 0;
    if had_plain && group.plain_slot != keep {
        // what was unlinked before the volume had copies, and is in use still, is where it was
        let has_orphans = |memory: &Memory| {
            let orphans = |tree: &Tree| tree.orphans().next().is_some();
            memory.trees().any(|(_, tree)| orphans(tree))
        };
        if host.look(|memory| memory.is_some_and(has_orphans)) {
            return Err(MemberError::OpenDeleted);
        }
        // a scan for free space knows another copy by that
        end_scan(flusher);
    }
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    lineage.change(|group| {
        group.incompat |= INCOMPAT_PLAIN;
        group.plain_slot = keep;
        Ok(())
    })?;
    let set = lineage.set();
    lineage.live().set(&set);
    flusher.writer.set_copies(set);
    flusher.writer.set_stripping(true);
    Ok(())
}

/// The header may say that there are no copies, if what was changed meanwhile is plain as well.
async fn finish<H: WriteHost>(host: &H, flusher: &mut Flusher) -> Result<bool, Error> {
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    lineage.set_ending(true);
    let done = flush(host, flusher, true).await;
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    lineage.set_ending(false);
    let is_stripped = lineage.is_stripped();
    done?;
    if is_stripped {
        every_header(host, flusher).await?;
        flusher.header_mut().raw_mut().copyinfo[..COPY_GROUP_LEN].fill(0);
        every_header(host, flusher).await?;
    }
    Ok(is_stripped)
}

fn root_is_plain<H: WriteHost>(host: &H) -> bool {
    host.look(|memory| memory.is_some_and(|memory| is_plain(memory.super_root().raw())))
}

/// No header is left that says what the volume was.
async fn every_header<H: WriteHost>(host: &H, flusher: &mut Flusher) -> Result<(), Error> {
    for _ in 0..HEADER_SLOTS {
        flush(host, flusher, true).await?;
    }
    Ok(())
}

/// A header says that its volume has no copies, and so knows of no damage.
pub(super) fn without_copies(raw: &mut RawVolumeHeader, checks: &Checks) {
    put_version(raw, Version::V1);
    DamageList::EMPTY.put(raw, checks);
}

/// Both versions know one volume, and nothing of its number or of a total.
fn put_version(raw: &mut RawVolumeHeader, version: Version) {
    raw.version.set(version.number());
    raw.fstype = version.fstype();
    (raw.volu_id, raw.nvolumes) = (0, 0);
    raw.total_size.set(0);
    for start in &mut raw.volu_loff {
        start.set(0);
    }
}

/// Whether a header with that super-root can be one of a volume without copies.
pub(super) fn may_be_without_copies(super_root: &RawBlockref) -> bool {
    is_plain(super_root)
}
