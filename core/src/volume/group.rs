//! The devices of a volume of copies: which of them to believe, and what each needs.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::assemble::{Chosen, HeaderRead, OpenOptions, choose_all};
use super::live::LiveCopies;
use crate::copies::lineage::{Decision, Found, Refused, decide};
use crate::copies::{CopyGroup, CopySet, CopyState};
use crate::error::{DeviceFault, Refusal};
use crate::media::copy_group::COPIES_MAX;
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
}

impl Copies {
    /// Decides which of the devices are believed. The master comes first among `chosen` then.
    ///
    /// # Errors
    /// Why the devices make no volume.
    pub(super) fn judge(chosen: &mut Vec<Chosen>, options: &OpenOptions) -> Result<Self, Refusal> {
        let mut decision = decide(&found(chosen), &options.copies)
            .map_err(|refused| Refusal::Copies { code: refused.code() })?;
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
        let after = decision.after;
        if decision.writable.is_ok() {
            // those that were away and are proven to be of the family catch up
            for slot in (0..).take(COPIES_MAX) {
                if is_back(&decision.group, slot) {
                    // its state allows it
                    let _ = decision.group.resync(slot, after);
                }
            }
        }
        let set = CopySet::of(&decision.group);
        let live = Arc::new(LiveCopies::new(devices, decision.master, &set));
        Ok(Self { decision, headers, live })
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
    got: Vec<(HeaderRead, Result<Vec<u8>, DeviceFault>)>,
    options: &OpenOptions,
) -> Result<Decision, Refused> {
    let chosen = choose_all(device_sizes, got, options).unwrap_or_default();
    decide(&found(&chosen), &options.copies)
}

fn found(chosen: &[Chosen]) -> Vec<Found> {
    let found = chosen.iter().map(|one| Found {
        device: one.device,
        fsid: one.header.fsid(),
        group: one.header.copy_group(),
        tid: one.header.mirror_tid(),
        root_behind: Some(0),
    });
    found.collect()
}

fn is_back(group: &CopyGroup, slot: u8) -> bool {
    let state = group.slot(slot).map(|slot| slot.state);
    matches!(state, Some(CopyState::Stale | CopyState::New))
}
