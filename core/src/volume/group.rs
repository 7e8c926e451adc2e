//! The devices of a volume of copies: which of them to believe, and what each needs.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::assemble::OpenOptions;
use super::headers::{Chosen, GotHeader, choose_all};
use super::live::LiveCopies;
use crate::copies::lineage::{self, Decision, Found, Note, ReadOnly, Refused, decide};
use crate::copies::{CopyGroup, CopySet};
use crate::error::{HeaderFault, Refusal};
use crate::media::damage::DamageList;
use crate::media::header::VolumeHeader;
use crate::units::DeviceIndex;

/// A copy that is there.
#[derive(Clone, Debug)]
pub struct CopyHeader {
    /// Its slot in the group.
    pub copy: u8,
    /// Its device.
    pub device: DeviceIndex,
    /// Which of its headers is in use.
    pub slot: u8,
    /// Its newest header.
    pub header: VolumeHeader,
}

/// The copies of a volume as they were found.
#[derive(Debug)]
pub struct Copies {
    decision: Decision,
    headers: Vec<CopyHeader>,
    live: Arc<LiveCopies>,
    damage: DamageList,
}

impl Copies {
    /// Decides which of the devices are believed. The master comes first among `chosen` then.
    ///
    /// # Errors
    /// Why the devices make no volume.
    pub(super) fn judge(
        chosen: &mut Vec<Chosen>,
        unknown: &[(DeviceIndex, HeaderFault)],
        options: &OpenOptions,
    ) -> Result<Self, Refusal> {
        let (mut decision, damage) = judge(chosen, &options.copies)
            .map_err(|refused| Refusal::Copies { code: refused.code() })?;
        // nobody knows which copies they were, but one that is missing may be one of them
        decision.notes.extend(unknown.iter().map(|(device, _)| Note::NoHeader(*device)));
        if let (Err(ReadOnly::Missing { members }), Some((device, fault))) =
            (decision.writable, unknown.first())
        {
            let (device, fault) = (*device, *fault);
            decision.writable = Err(ReadOnly::NoHeader { members, device, fault });
        }
        // what lies aside is no part of the volume
        let devices = decision.devices;
        chosen.retain(|one| devices.contains(&Some(one.device)));
        let mut headers = Vec::with_capacity(chosen.len());
        for (copy, device) in (0_u8..).zip(&devices) {
            let Some(one) = chosen.iter().find(|one| Some(one.device) == *device) else {
                continue;
            };
            let header = one.header.clone();
            headers.push(CopyHeader { copy, device: one.device, slot: one.slot, header });
            if copy == decision.master {
                let device = one.device;
                chosen.sort_by_key(|one| one.device != device);
            }
        }
        decision.take_back();
        let set = CopySet::of(&decision.group);
        let live = Arc::new(LiveCopies::new(devices, decision.master, &set));
        for (copy, slot) in (0..).zip(&decision.group.slots) {
            live.set_kept(copy, &slot.counters);
        }
        Ok(Self { decision, headers, live, damage })
    }

    /// What was decided, and what the next header will say.
    #[must_use]
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The record of the group: the master's, with what follows from who is there.
    #[must_use]
    pub const fn group(&self) -> &CopyGroup {
        &self.decision.group
    }

    /// The copies that are there.
    #[must_use]
    pub fn headers(&self) -> &[CopyHeader] {
        &self.headers
    }

    /// What the master says is good on no copy.
    #[must_use]
    pub const fn damage(&self) -> &DamageList {
        &self.damage
    }

    /// What everybody shares who reads and writes.
    #[must_use]
    pub const fn live(&self) -> &Arc<LiveCopies> {
        &self.live
    }
}

/// Why these header copies, which [`Volume::assemble`](super::Volume::assemble) refused as copies,
/// make no volume: at length, with what each of them says.
///
/// # Errors
/// That.
pub fn explain_copies(
    device_sizes: &[u64],
    got: &[GotHeader],
    rootless: &[(DeviceIndex, u8)],
    options: &OpenOptions,
) -> Result<Decision, Refused> {
    let (chosen, _) = choose_all(device_sizes, got, rootless, options).unwrap_or_default();
    judge(&chosen, &options.copies).map(|(decision, _)| decision)
}

/// Decides, and takes into account what the copy that was decided for says of damage.
fn judge(chosen: &[Chosen], options: &lineage::Options) -> Result<(Decision, DamageList), Refused> {
    let found = found(chosen);
    let decision = decide(&found, options)?;
    let device = decision.devices.get(usize::from(decision.master)).copied().flatten();
    let master = chosen.iter().find(|one| Some(one.device) == device);
    let damage = master.map_or(DamageList::EMPTY, |one| one.header.damage());
    if !damage.is_full() || options.accept_damage {
        return Ok((decision, damage));
    }
    let options = lineage::Options { damage_list_full: true, ..*options };
    Ok((decide(&found, &options)?, damage))
}

fn found(chosen: &[Chosen]) -> Vec<Found> {
    let found = chosen.iter().map(|one| {
        let newest = one.newest.as_ref().unwrap_or(&one.header);
        Found {
            device: one.device,
            fsid: newest.fsid(),
            group: newest.copy_group(),
            tid: newest.mirror_tid(),
            root_behind: (!one.is_rootless).then(|| flushes_between(&one.header, newest)),
        }
    });
    found.collect()
}

/// Flushes from the header in use to the newest one.
fn flushes_between(used: &VolumeHeader, newest: &VolumeHeader) -> u64 {
    let seq = |header: &VolumeHeader| header.copy_group().map_or(0, |group| group.flush_seq);
    let between = seq(newest).saturating_sub(seq(used));
    if used.mirror_tid() == newest.mirror_tid() { 0 } else { between.max(1) }
}
