//! A copy that was away comes back while the volume is in use (copies 3.6, E3).
//!
//! It is judged as at a mount, by what its own newest header says, and begins where a mount would
//! begin: with the freemap and the root that it has, and distrusted what it missed. From then on it
//! gets what is written, and [`resync`](super::resync) fills in the rest.
//!
//! Invariants:
//! * Nothing is written to the device before its headers prove that its history is a part of the
//!   group's. What holds something else is not touched.
//! * What hangs in the root that the copy has stays there until it is in sync: nothing that was
//!   written up to now is given back without a scan.
//! * No device ever held a transaction that comes after the one that follows.

use alloc::vec::Vec;
use core::fmt;

use super::change::WriteHost;
use super::commit::{Flusher, check_alive, flush};
use super::space::{allocator, has_root};
use crate::copies::lineage::{Found, Return, returning};
use crate::copies::{CopyGroup, CopyGroupFault, CopySet, CopyState, EpochId};
use crate::error::{Error, Refusal};
use crate::flush::HeaderWriter;
use crate::media::blockref::Seat;
use crate::media::check::Checks;
use crate::media::copy_group::RO_COMPAT_KNOWN;
use crate::media::header::VolumeHeader;
use crate::storage::Storage;
use crate::units::{DeviceIndex, Tid, Uuid};
use crate::volume::{header_reads_of, newest_header};

/// What was found on a device that appeared.
#[derive(Clone, Debug)]
pub struct Appeared {
    pub(super) device: DeviceIndex,
    /// Size of the device in bytes.
    pub(super) size: u64,
    /// The header slot in use.
    pub(super) header_slot: u8,
    pub(super) header: VolumeHeader,
    pub(super) group: CopyGroup,
}

impl Appeared {
    /// Its number in the storage.
    #[must_use]
    pub const fn device(&self) -> DeviceIndex {
        self.device
    }

    /// The group that it says it is of, and the device of that that it says it is.
    #[must_use]
    pub const fn names(&self) -> (Uuid, Uuid) {
        (self.group.group, self.group.device)
    }

    /// What of it decides who is believed. `root_behind`: how many flushes its root is behind, if it
    /// has one.
    pub(super) fn found(&self, root_behind: Option<u64>) -> Found {
        Found {
            device: self.device,
            fsid: self.header.fsid(),
            group: Ok(self.group.clone()),
            tid: self.header.mirror_tid(),
            root_behind,
        }
    }
}

/// Why a device cannot be attached. Nothing was written to it, but where it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachError {
    /// It holds no volume that can be read.
    Refused(Refusal),
    /// It holds a volume, and no copy of one, or one whose record cannot be used.
    Record(CopyGroupFault),
    /// A newer program put something into the record that has to be known to write.
    Features(u64),
    /// It is of another group.
    Foreign {
        /// Which.
        group: Uuid,
    },
    /// It was a copy of this group once, and is none any more.
    Aside,
    /// It went on without the others: it holds a history of its own.
    Diverged {
        /// The copy.
        slot: u8,
    },
    /// It was left behind for its errors, which only the operator can overrule.
    Faulted {
        /// The copy.
        slot: u8,
    },
    /// The copy is attached: on this device, or on another one that says it is the same.
    Attached {
        /// The copy.
        slot: u8,
    },
    /// The device is shorter than the copy on it.
    TooSmall {
        /// Its size.
        size: u64,
        /// What the copy needs, in bytes.
        need: u64,
    },
    /// It did not take its header, and was left behind again.
    Unwritable {
        /// The copy.
        slot: u8,
    },
    /// The volume failed, or has no copies.
    Failed(Error),
}

impl AttachError {
    /// The number of the rule that forbids it, as a mount would name it.
    #[must_use]
    pub const fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Diverged { .. } => "FC-S01",
            Self::Foreign { .. } => "FC-S05",
            Self::Record(CopyGroupFault::Absent) => "FC-S06",
            Self::Record(CopyGroupFault::Format(_)) => "FC-S07",
            Self::Record(CopyGroupFault::Features(_)) => "FC-S08",
            Self::Record(_) => "FC-D07",
            Self::Features(_) => "FC-D08",
            _ => return None,
        })
    }
}

impl From<Error> for AttachError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.code() {
            write!(f, "{code}: ")?;
        }
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Record(CopyGroupFault::Absent) => f.write_str("holds no copy of a volume"),
            Self::Record(fault) => write!(f, "its record of copies cannot be used: {fault}"),
            Self::Features(bits) => {
                write!(f, "a newer program wrote it (features {bits:#x}); use that")
            }
            Self::Foreign { group } => write!(f, "holds a copy of another volume, group {group}"),
            Self::Aside => f.write_str("was a copy of this volume once and is none any more"),
            Self::Diverged { slot } => write!(
                f,
                "copy {slot} went on without the others and holds a history of its own; look at it \
                 with --only-copy {slot}, or give it up with `farrier copies rejoin --discard-its-data DIR {slot}`"
            ),
            Self::Faulted { slot } => write!(
                f,
                "copy {slot} was left behind for its errors; see to the device, then attach it with \
                 `farrier copies attach`, or replace it"
            ),
            Self::Attached { slot } => write!(f, "copy {slot} is attached already"),
            Self::TooSmall { size, need } => write!(
                f,
                "the device has {size} bytes and the copy on it needs {need}; see whether it is \
                 the whole device"
            ),
            Self::Unwritable { slot } => {
                write!(f, "copy {slot} did not take what was written, and was left behind again")
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AttachError {}

/// Reads what a device says that it is. Nobody else may write to it.
///
/// # Errors
/// It holds no copy of a volume, or none that can be read.
pub async fn identify<S: Storage>(
    storage: &S,
    device: DeviceIndex,
    checks: &Checks,
) -> Result<Appeared, AttachError> {
    let size = storage.size(device);
    let mut got = Vec::new();
    for read in header_reads_of(device, size).map_err(AttachError::Refused)? {
        got.push((read, storage.read(device, read.offset, read.len).await));
    }
    let (header_slot, header) =
        newest_header(device, &got, checks).map_err(AttachError::Refused)?;
    let group = header.copy_group().map_err(AttachError::Record)?;
    Ok(Appeared { device, size, header_slot, header, group })
}

/// Attaches a copy that came back, and returns its slot. What was changed is committed, and the copy
/// gets its header. With `is_asked_for` also one that was left behind for its errors.
///
/// Other commits wait until the freemap of the copy has been read, and what was written since it
/// failed has been looked through for what lies on it. `found` has to be what the device holds now:
/// nothing may be attached between [`identify`] and this.
///
/// # Errors
/// Why it cannot be attached: the group is as it was then. Or the volume failed.
pub async fn attach<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    found: &Appeared,
    is_asked_for: bool,
) -> Result<u8, AttachError> {
    check_alive(host)?;
    let lineage = flusher.lineage.as_ref().ok_or(Error::NotSupported)?;
    // it may be that the loss of this very copy is not on record yet
    let is_lost = lineage.live().lost() & lineage.set().attached() != 0;
    flush(host, flusher, is_lost).await?;
    let (slot, from) = judge(flusher, found, is_asked_for)?;
    let (size, need) = (found.size, found.header.volume_size());
    if need > size {
        return Err(AttachError::TooSmall { size, need });
    }
    let lineage = flusher.lineage.as_ref().ok_or(Error::NotSupported)?;
    lineage.live().place(slot, found.device, need, size);
    let root = host.look(|memory| memory.map(|memory| *memory.super_root()));
    let root = root.ok_or(Error::ReadOnly)?;
    let plain = flusher.writer.copies().map_or(0, CopySet::plain);
    let seat = Seat { copy: slot, plain };
    // one that was in sync once has a root of its own: where that is lost, more may be
    let had_root = lineage.group().slot(slot).is_some_and(|copy| copy.left != EpochId::NONE);
    let is_lost = had_root && !has_root(host, seat, &found.header).await;
    let from = if is_lost { Some(Tid(0)) } else { from };
    let mut freemap = allocator(host, root, seat, &found.header, false).await?;
    let lineage = flusher.lineage.as_ref().ok_or(Error::NotSupported)?;
    lineage.live().bad_places(slot).into_iter().for_each(|place| freemap.avoid(place));

    // behind what any device ever held
    let after = flusher.header().mirror_tid().max(found.header.mirror_tid());
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    let change = |group: &mut CopyGroup| {
        group.rejoin(slot, after)?;
        if let (Some(from), Some(copy)) = (from, group.slots.get_mut(usize::from(slot))) {
            copy.distrust.add(from, after);
        }
        group.resync(slot, after)
    };
    lineage.change(change).map_err(|_| AttachError::Attached { slot })?;
    let set = lineage.set();
    lineage.live().settle(1 << slot);
    lineage.live().set(&set);
    flusher.writer.add_copy(slot, freemap);
    flusher.writer.set_copies(set);
    flusher.writer.share(after);
    flusher.headers.push((slot, HeaderWriter::new(&found.header, found.header_slot)));
    for (_, header) in &mut flusher.headers {
        header.raw_mut().mirror_tid.set(after.0);
    }
    flush(host, flusher, true).await?;
    match state(flusher, slot) {
        CopyState::Resync => Ok(slot),
        _ => Err(AttachError::Unwritable { slot }),
    }
}

/// Which copy it is, and the transactions after which it is distrusted beside what is on record.
fn judge(
    flusher: &Flusher,
    found: &Appeared,
    is_asked_for: bool,
) -> Result<(u8, Option<Tid>), AttachError> {
    let lineage = flusher.lineage.as_ref().ok_or(Error::NotSupported)?;
    let (book, slot) = (lineage.group(), found.group.self_slot);
    let is_ours = found.header.fsid() == Uuid(flusher.header().raw().fsid);
    if found.group.group != book.group || !is_ours {
        return Err(AttachError::Foreign { group: found.group.group });
    }
    let unknown = found.group.ro_compat & !RO_COMPAT_KNOWN;
    if unknown != 0 {
        return Err(AttachError::Features(unknown));
    }
    let header = &found.header;
    let seen = found.found(Some(0));
    if lineage.set().attached() & 1 << slot != 0
        && book.slot(slot).is_some_and(|copy| copy.device == found.group.device)
    {
        return Err(AttachError::Attached { slot });
    }
    match returning(book, &seen) {
        Return::Stale(from) => Ok((slot, from)),
        Return::Faulted if is_asked_for => {
            let is_older = header.mirror_tid() < book.slot(slot).map_or(Tid(0), |s| s.barrier_tid);
            Ok((slot, is_older.then_some(header.mirror_tid())))
        }
        Return::Faulted => Err(AttachError::Faulted { slot }),
        Return::Diverged => Err(AttachError::Diverged { slot }),
        Return::Aside => Err(AttachError::Aside),
    }
}

fn state(flusher: &Flusher, slot: u8) -> CopyState {
    let lineage = flusher.lineage.as_ref();
    lineage.and_then(|lineage| lineage.group().slot(slot)).map_or(CopyState::Empty, |one| one.state)
}
