//! Header copies: which of them to read, and which of a device's count.

use alloc::vec::Vec;

use super::assemble::OpenOptions;
use crate::copies::{CopyGroup, CopyState};
use crate::engine::Want;
use crate::error::{BlockKind, DeviceFault, HeaderFault, Refusal};
use crate::media::blockref::{Blockref, Seat};
use crate::media::check::Checks;
use crate::media::header::{
    HEADER_LEN, HEADER_SLOTS, SHADOW_OFFSET, SHADOW_SLOT, VOLUMES_MAX, Version, VolumeHeader,
};
use crate::units::DeviceIndex;

/// A header copy to fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderRead {
    /// From which device.
    pub device: DeviceIndex,
    /// Which copy, 0 to 3; 4 is the shadow of a volume that has one header only.
    pub slot: u8,
    /// Where on the device.
    pub offset: u64,
    /// How many bytes.
    pub len: usize,
}

/// The header copies that devices of these sizes may hold.
///
/// # Errors
/// There is nothing to open, or a device cannot hold a header.
pub fn header_reads(device_sizes: &[u64]) -> Result<Vec<HeaderRead>, Refusal> {
    if device_sizes.is_empty() {
        return Err(Refusal::NoDevices);
    }
    if device_sizes.len() > VOLUMES_MAX {
        return Err(Refusal::TooManyDevices);
    }
    let mut reads = Vec::new();
    for (index, &size) in (0_u8..).zip(device_sizes) {
        reads.extend(header_reads_of(DeviceIndex(index), size)?);
    }
    Ok(reads)
}

/// The header copies that one device of this size may hold.
///
/// # Errors
/// It cannot hold a header.
pub fn header_reads_of(device: DeviceIndex, size: u64) -> Result<Vec<HeaderRead>, Refusal> {
    if size < HEADER_LEN as u64 {
        return Err(Refusal::TooSmall { device, size });
    }
    let slots = (0..4_u8).filter_map(|slot| {
        let offset = VolumeHeader::slot_offset(u64::from(slot), size)?;
        Some(HeaderRead { device, slot, offset, len: HEADER_LEN })
    });
    let mut reads: Vec<_> = slots.collect();
    if VolumeHeader::is_single(size) && SHADOW_OFFSET + HEADER_LEN as u64 <= size {
        let (slot, offset) = (SHADOW_SLOT, SHADOW_OFFSET);
        reads.push(HeaderRead { device, slot, offset, len: HEADER_LEN });
    }
    Ok(reads)
}

/// The newest header of one device and the slot that it is in, by what [`header_reads_of`] asked
/// for: for a device that appears while a volume is in use.
///
/// # Errors
/// The device holds no volume that we can read.
pub fn newest_header(
    device: DeviceIndex,
    got: &[GotHeader],
    checks: &Checks,
) -> Result<(u8, VolumeHeader), Refusal> {
    choose(device, &judge(got, checks), None)
}

/// What a header copy holds, or why it could not be read.
pub type GotHeader = (HeaderRead, Result<Vec<u8>, DeviceFault>);

/// What was found in a header slot.
pub(super) struct Candidate {
    pub(super) device: DeviceIndex,
    pub(super) slot: u8,
    pub(super) header: Result<VolumeHeader, HeaderFault>,
}

/// What is used of a device.
pub(super) struct Chosen {
    pub(super) device: DeviceIndex,
    pub(super) device_size: u64,
    pub(super) slot: u8,
    pub(super) header: VolumeHeader,
    /// The newest header that is whole, if its root is not: then [`header`](Self::header) is an older
    /// one, or the same if none has a root.
    pub(super) newest: Option<VolumeHeader>,
    /// There is no root at all.
    pub(super) is_rootless: bool,
}

/// What is in the header slots, in order of devices and slots.
pub(super) fn judge(got: &[GotHeader], checks: &Checks) -> Vec<Candidate> {
    let (shadows, got): (Vec<&GotHeader>, Vec<&GotHeader>) =
        got.iter().partition(|(read, _)| read.slot == SHADOW_SLOT);
    let stand_ins = shadows.into_iter().filter_map(|(read, bytes)| {
        let header = VolumeHeader::parse(bytes.as_ref().ok()?, checks).ok()?;
        // A shadow counts only where the header that it was written for was torn.
        let torn = got.iter().find_map(|(other, bytes)| {
            let is_first = other.device == read.device && other.slot == 0;
            bytes.as_ref().ok().filter(|_| is_first)
        })?;
        if VolumeHeader::parse(torn, checks).is_ok() {
            return None;
        }
        let header = header.torn_header(torn, checks)?;
        Some(Candidate { device: read.device, slot: SHADOW_SLOT, header: Ok(header) })
    });
    let stand_ins: Vec<_> = stand_ins.collect();
    let mut candidates: Vec<_> = got
        .into_iter()
        .map(|(read, bytes)| Candidate {
            device: read.device,
            slot: read.slot,
            header: bytes
                .as_ref()
                .map_err(|_| HeaderFault::Unreadable)
                .and_then(|bytes| VolumeHeader::parse(bytes, checks)),
        })
        .chain(stand_ins)
        .collect();
    candidates.sort_by_key(|candidate| (candidate.device, candidate.slot));
    candidates
}

/// The newest valid header of a device, the first of equals (media format 1.4).
fn choose(
    device: DeviceIndex,
    candidates: &[Candidate],
    slot: Option<u8>,
) -> Result<(u8, VolumeHeader), Refusal> {
    let mine = || candidates.iter().filter(|candidate| candidate.device == device);
    // A header that is whole but beyond us may be the newest: the older state that we could read
    // is not what the volume holds.
    let beyond = mine().find_map(|candidate| match candidate.header {
        Err(fault @ (HeaderFault::Version(_) | HeaderFault::Type(_))) => Some(fault),
        _ => None,
    });
    if let Some(fault) = beyond {
        return Err(Refusal::Header { device, fault });
    }
    let mut best: Option<(u8, &VolumeHeader)> = None;
    for candidate in mine().filter(|candidate| slot.is_none_or(|slot| slot == candidate.slot)) {
        if let Ok(header) = &candidate.header
            && best.is_none_or(|(_, best)| header.mirror_tid() > best.mirror_tid())
        {
            best = Some((candidate.slot, header));
        }
    }
    match best {
        Some((slot, header)) => Ok((slot, header.clone())),
        None => Err(no_header(device, mine().filter_map(|c| c.header.as_ref().err().copied()))),
    }
}

/// What is used of each device, and the devices without any header where others are copies: those may
/// do without.
pub(super) type EachChosen = (Vec<Chosen>, Vec<(DeviceIndex, HeaderFault)>);

pub(super) fn choose_each(
    device_sizes: &[u64],
    candidates: &[Candidate],
    rootless: &[(DeviceIndex, u8)],
    options: &OpenOptions,
) -> Result<EachChosen, Refusal> {
    let (mut chosen, mut unknown, mut refused) = (Vec::new(), Vec::new(), None);
    for (index, &device_size) in (0_u8..).zip(device_sizes) {
        let device = DeviceIndex(index);
        let (slot, newest) = match choose(device, candidates, options.slot) {
            Ok(found) => found,
            Err(refusal) => {
                unknown.push((device, lost_header(&refusal).ok_or(refusal)?));
                refused.get_or_insert(refusal);
                continue;
            }
        };
        let is_rootless = |slot: u8| rootless.contains(&(device, slot));
        if options.slot.is_some() || !is_rootless(slot) {
            let (header, newest, is_rootless) = (newest, None, false);
            chosen.push(Chosen { device, device_size, slot, header, newest, is_rootless });
            continue;
        }
        // what a copy keeps that is not in sync is the same in all of its headers
        let mut older = newest_first(device, candidates).filter(|_| is_own_member(&newest));
        let older = older.find(|(slot, header)| is_own_member(header) && !is_rootless(*slot));
        let is_rootless = older.is_none();
        let (slot, header) =
            older.map_or_else(|| (slot, newest.clone()), |(slot, header)| (slot, header.clone()));
        let newest = Some(newest);
        chosen.push(Chosen { device, device_size, slot, header, newest, is_rootless });
    }
    let are_copies = chosen.iter().any(|one| one.header.version() == Version::Copies);
    match refused {
        Some(refusal) if !are_copies => Err(refusal),
        _ => Ok((chosen, unknown)),
    }
}

/// What is wrong with a device that has no header any more, as opposed to one that holds something
/// which nobody here understands.
const fn lost_header(refusal: &Refusal) -> Option<HeaderFault> {
    match *refusal {
        Refusal::NotHammer2 { .. } => Some(HeaderFault::Magic(0)),
        Refusal::Header {
            fault:
                fault @ (HeaderFault::Check { .. } | HeaderFault::Unreadable | HeaderFault::Geometry),
            ..
        } => Some(fault),
        _ => None,
    }
}

/// Whether a header is one of a copy that was in sync.
fn is_own_member(header: &VolumeHeader) -> bool {
    let is_in_sync = |group: &CopyGroup| {
        let own = group.slot(group.self_slot);
        own.is_some_and(|own| own.state == CopyState::InSync)
    };
    header.copy_group().is_ok_and(|group| is_in_sync(&group))
}

/// The headers of a device that are whole, the newest first.
fn newest_first(
    device: DeviceIndex,
    candidates: &[Candidate],
) -> impl Iterator<Item = (u8, &VolumeHeader)> {
    let mine = candidates.iter().filter(move |candidate| candidate.device == device);
    let whole = mine.filter_map(|one| Some((one.slot, one.header.as_ref().ok()?)));
    let mut headers: Vec<_> = whole.collect();
    headers.sort_by_key(|(_, header)| core::cmp::Reverse(header.mirror_tid()));
    headers.into_iter()
}

/// What is used of each device, and the devices without any header.
pub(super) fn choose_all(
    device_sizes: &[u64],
    got: &[GotHeader],
    rootless: &[(DeviceIndex, u8)],
    options: &OpenOptions,
) -> Result<EachChosen, Refusal> {
    choose_each(device_sizes, &judge(got, &options.checks), rootless, options)
}

/// A root to look at: of copies, only a header counts whose super-root is there (copies 3.6, step 2).
#[derive(Clone, Copy, Debug)]
pub struct RootRead {
    /// The device.
    pub device: DeviceIndex,
    /// The header copy that it is the root of.
    pub slot: u8,
    /// Where it is, in the copy's own address space and so on the device.
    pub offset: u64,
    /// Its length.
    pub len: usize,
    want: Want,
}

impl RootRead {
    /// Whether what was read there is the root.
    #[must_use]
    pub fn is_it(&self, stored: Vec<u8>, checks: &Checks) -> bool {
        self.want.check(stored, checks).is_ok()
    }
}

/// The roots of a device's headers, the newest first: only of copies, and as long as none was found
/// good, the next one is worth a look. With it, the headers that refer to no root.
#[must_use]
pub fn root_reads(
    device: DeviceIndex,
    got: &[GotHeader],
    checks: &Checks,
) -> Vec<(u8, Option<RootRead>)> {
    let mine: Vec<GotHeader> =
        got.iter().filter(|(read, _)| read.device == device).cloned().collect();
    let candidates = judge(&mine, checks);
    let root = |(slot, header): (u8, &VolumeHeader)| {
        // without a record, or with a damaged one, nobody can tell where its root is
        let group = header.copy_group().ok()?;
        let root = find_super_root(header).ok().and_then(|root| {
            let seat = Seat { copy: group.self_slot, plain: group.plain_slot };
            let location = root.location_on(Some(seat))?;
            let (offset, len, want) = (location.offset.0, location.len(), Want::of(&root)?);
            Some(RootRead { device, slot, offset, len, want })
        });
        Some((slot, root))
    };
    newest_first(device, &candidates).filter_map(root).collect()
}

/// What to say when no slot is usable: the fault that tells most about what the device holds.
fn no_header(device: DeviceIndex, faults: impl Iterator<Item = HeaderFault>) -> Refusal {
    let telling = faults.min_by_key(|fault| match fault {
        HeaderFault::ForeignByteOrder => 0,
        HeaderFault::Geometry => 1,
        HeaderFault::Check { .. } => 2,
        HeaderFault::Unreadable => 3,
        _ => 4,
    });
    match telling {
        None | Some(HeaderFault::Magic(_)) => Refusal::NotHammer2 { device },
        Some(fault) => Refusal::Header { device, fault },
    }
}

/// Where everything starts.
pub(super) fn find_super_root(header: &VolumeHeader) -> Result<Blockref, Refusal> {
    header
        .super_root_table()
        .iter()
        .filter_map(|raw| Blockref::parse(raw).ok().flatten())
        .find(|blockref| blockref.kind() == BlockKind::Inode && blockref.key() == 0)
        .ok_or(Refusal::NoSuperRoot)
}

const _: () = assert!(HEADER_SLOTS == 4, "slots are numbered 0 to 3 here");
