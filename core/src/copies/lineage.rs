//! What the copies that were found make together: whom to believe, and whether to write
//! (redundancy design 3.6).
//!
//! [`decide`] is a pure function of what was read and of what the operator said. A mount for writing
//! without the operator's word is allowed only where no copy that is not here can have gone on: all
//! members of the newest epoch are here, or a witness, a majority or the holder of the right to
//! write stands in for them.

mod judge;
mod refused;

use alloc::vec::Vec;

use crate::media::copy_group::{
    COPIES_MAX, Cause, CopyGroup, CopyGroupFault, CopySlot, CopyState, OnMissing, RO_COMPAT_KNOWN,
};
use crate::units::{DeviceIndex, Tid, Uuid};

use super::epoch::Stamp;
use super::transitions::TransitionFault;
use super::witness::{Heard, Told, needs_witness};
use judge::{Bench, choose_head};

pub use judge::{Return, returning};
pub use refused::{ReadOnly, Refused, Side};

/// What was found on a device.
#[derive(Clone, Debug)]
pub struct Found {
    /// The device.
    pub device: DeviceIndex,
    /// The file system's id, from its volume header.
    pub fsid: Uuid,
    /// The record of copies in its newest header that is whole, or what is wrong with that.
    pub group: Result<CopyGroup, CopyGroupFault>,
    /// The media transaction of that header. It rises with every header that is written to the
    /// device, also while the copy is out of date.
    pub tid: Tid,
    /// How many headers before the newest one the first is whose root can be read and verified: 0
    /// for the newest itself, `None` if there is no such header.
    pub root_behind: Option<u64>,
}

/// What the operator said, and what else is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Nothing is to be written.
    pub read_only: bool,
    /// Go on without members that may have gone on elsewhere.
    pub accept_missing: bool,
    /// Believe the copy in this slot, of several that could be.
    pub master: Option<u8>,
    /// Show what the copy in this slot holds by itself, read-only, whatever the others say.
    pub only_copy: Option<u8>,
    /// What the witness said, if it could be asked.
    pub witness: Option<Heard>,
    /// The list of known damage has no room for more. The opening sets it by what it finds.
    pub damage_list_full: bool,
    /// It may be full all the same: the operator is about to empty it.
    pub accept_damage: bool,
}

/// A new epoch that has to begin before anything is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mint {
    /// Its members, a bit for each slot.
    pub members: u8,
    /// Why.
    pub cause: Cause,
    /// The operator said, now or beforehand, that those who are left out may have gone on: the
    /// witness need not be reached.
    pub is_accepted: bool,
}

/// Something that the operator should know, and that stops nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// A member is behind by one flush that nobody was told of: it needs a header.
    Lagging(u8),
    /// A member is behind by so much that it must have been put back to an older state: it is
    /// brought up to date like one that was away. With the flushes that it is behind.
    RolledBack(u8, u64),
    /// A copy has a history of its own, and is left alone.
    Diverged(u8),
    /// A device was a copy of this group once and is none any more; it is left alone.
    Aside(DeviceIndex),
    /// A member has no root that can be read.
    NoRoot(u8),
    /// A device has no header that is whole: if it was a copy, it is one that is missing.
    NoHeader(DeviceIndex),
}

/// What to do with the devices.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Whether anything may be written, or why not.
    pub writable: Result<(), ReadOnly>,
    /// The slot of the copy whose root is the file system's.
    pub master: u8,
    /// The device of each copy that takes part.
    pub devices: [Option<DeviceIndex>; COPIES_MAX],
    /// The record of the group as it is from now on, in the master's view: the states and distrust
    /// that follow from what was found. The epoch in it is still the one that was found.
    pub group: CopyGroup,
    /// Members that need the master's header, a bit for each slot.
    pub lagging: u8,
    /// Of those, the ones that do not know of the newest epoch.
    pub uninformed: u8,
    /// The epoch that has to begin, if one has; never of a mount that writes nothing.
    pub mint: Option<Mint>,
    /// The newest transaction of all devices: the next one has to be greater.
    pub after: Tid,
    /// What the operator should know.
    pub notes: Vec<Note>,
    /// What the witness, if there is one, has to be told.
    pub told: Told,
    /// The operator said, now or beforehand, to go on whether others may have gone on or not.
    pub is_accepted: bool,
}

impl Decision {
    /// Copies that were away and are proven to be of the family catch up from now on, if anything
    /// may be written.
    pub fn take_back(&mut self) {
        let is_back = |slot: &CopySlot| matches!(slot.state, CopyState::Stale | CopyState::New);
        let back = (0..).zip(&self.group.slots).filter(|(_, slot)| is_back(slot));
        let back: Vec<u8> = back.map(|(number, _)| number).collect();
        for number in back.into_iter().filter(|_| self.writable.is_ok()) {
            // its state allows it
            let _ = self.group.resync(number, self.after);
        }
    }

    /// Begins the epoch that has to, if one has: the record is then what is to be written, with
    /// its next flush number, to all members before anything is acknowledged.
    ///
    /// # Errors
    /// The stamp's id is not a new one.
    pub fn begin(&mut self, stamp: &Stamp) -> Result<(), TransitionFault> {
        if let Some(mint) = self.mint {
            self.told.note(self.group.epoch.members, mint.members);
            if mint.is_accepted {
                self.told.forgive();
            }
            self.group.begin(mint.cause, stamp)?;
            self.group.flush_seq = self.group.flush_seq.saturating_add(1);
            self.mint = None;
        }
        Ok(())
    }
}

/// Judges the devices.
///
/// # Errors
/// Why they cannot be used together, or not at all.
pub fn decide(found: &[Found], options: &Options) -> Result<Decision, Refused> {
    let records = readable_records(found)?;
    one_group(&records)?;
    nobody_twice(&records)?;
    if let Some(slot) = options.only_copy {
        return view_of(slot, &records);
    }
    let head = choose_head(&records, options.master)?;
    let bench = Bench::new(&records, head)?;
    let master = bench.master(options.master)?;
    let (group, notes) = bench.settle(master);
    let safety = bench.safety(options);
    let accepted = is_accepted_by_rule(&group, safety);
    let mut writable = first_obstacle(found, &records, &group, options, safety);
    if let Err(ReadOnly::Missing { members }) = writable
        && bench.book().policy.on_missing == OnMissing::Refuse
    {
        return Err(Refused::Missing { members, sides: bench.sides() });
    }
    if let Some(slot) = bench.unacknowledged_root()
        && options.master.is_none()
        && writable.is_ok()
    {
        writable = Err(ReadOnly::OlderRoot { slot });
    }
    let members = group.in_sync();
    let is_accepted = safety.is_err() || options.accept_missing;
    let left = group.epoch.members & !members;
    let is_unheard = needs_witness(&group) && options.witness.is_none();
    if writable.is_ok() && left != 0 && is_unheard && !is_accepted {
        writable = Err(ReadOnly::Unwitnessed { members: left });
    }
    let token_used = safety.is_err() && !accepted;
    let mint = (writable.is_ok() && members != group.epoch.members).then_some(Mint {
        members,
        is_accepted,
        cause: if token_used {
            Cause::AcceptedMissing
        } else if bench.missing() == 0 {
            Cause::Ejected
        } else {
            Cause::Degraded
        },
    });
    Ok(Decision {
        writable,
        master,
        devices: bench.devices(&group),
        lagging: bench.lagging() & members,
        uninformed: bench.uninformed() & members,
        mint,
        after: bench.after(),
        group,
        notes,
        told: Told::opened(options.witness.as_ref(), is_accepted),
        is_accepted,
    })
}

/// A device with a record that can be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    device: DeviceIndex,
    fsid: Uuid,
    group: &'a CopyGroup,
    tid: Tid,
    root_behind: Option<u64>,
}

impl Record<'_> {
    fn slot(&self) -> u8 {
        self.group.self_slot
    }

    /// Its own state by its own record.
    fn state(&self) -> CopyState {
        self.group.slot(self.slot()).map_or(CopyState::Empty, |slot| slot.state)
    }
}

fn readable_records(found: &[Found]) -> Result<Vec<Record<'_>>, Refused> {
    let mut records = Vec::new();
    for one in found {
        let Found { device, fsid, tid, root_behind, .. } = *one;
        match &one.group {
            Ok(group) => records.push(Record { device, fsid, group, tid, root_behind }),
            Err(CopyGroupFault::Format(format)) => {
                return Err(Refused::Format { device, format: *format });
            }
            Err(CopyGroupFault::Features(bits)) => {
                return Err(Refused::Features { device, bits: *bits });
            }
            Err(CopyGroupFault::Absent) => return Err(Refused::NoCopy { device }),
            // told as an obstacle, if others make a group
            Err(_) => {}
        }
    }
    match (records.is_empty(), found.first()) {
        (false, _) => Ok(records),
        (true, Some(first)) => Err(Refused::NoRecord {
            device: first.device,
            fault: first.group.as_ref().err().copied().unwrap_or(CopyGroupFault::Absent),
        }),
        (true, None) => Err(Refused::Nothing),
    }
}

fn one_group(records: &[Record<'_>]) -> Result<(), Refused> {
    let Some(first) = records.first() else { return Err(Refused::Nothing) };
    let is_foreign =
        |one: &&Record<'_>| one.group.group != first.group.group || one.fsid != first.fsid;
    records.iter().find(is_foreign).map_or(Ok(()), |one| {
        let (group, expected) = (one.group.group, first.group.group);
        Err(Refused::Foreign { device: one.device, group, expected })
    })
}

fn nobody_twice(records: &[Record<'_>]) -> Result<(), Refused> {
    for (at, one) in records.iter().enumerate() {
        for other in &records[..at] {
            let (first, second) = (other.device, one.device);
            if one.group.device == other.group.device {
                return Err(Refused::SameDevice { first, second, device: one.group.device });
            }
            let retired = [one, other].map(|one| one.state() == CopyState::Retired);
            if one.slot() == other.slot() && retired == [false; 2] {
                return Err(Refused::SameSlot { first, second, slot: one.slot() });
            }
        }
    }
    Ok(())
}

/// One copy by itself: its own root, its own record, nothing else.
fn view_of(slot: u8, records: &[Record<'_>]) -> Result<Decision, Refused> {
    let mine = records.iter().find(|one| one.slot() == slot && one.root_behind.is_some());
    let one = mine.ok_or(Refused::NoSuchMaster { slot })?;
    let mut group = one.group.clone();
    for (at, copy) in (0_u8..).zip(&mut group.slots) {
        if at == slot {
            // its own root is complete on it, whatever its state
            copy.state = CopyState::InSync;
            copy.distrust = super::Distrust::NONE;
        } else if copy.state.is_configured() {
            copy.state = CopyState::Out;
            copy.distrust = super::Distrust::all_until(super::FOREVER);
        }
    }
    let mut devices = [None; COPIES_MAX];
    if let Some(place) = devices.get_mut(usize::from(slot)) {
        *place = Some(one.device);
    }
    let writable = Err(ReadOnly::OneCopy { slot });
    let (lagging, uninformed) = (0, 0);
    let (mint, after, notes) = (None, one.tid, Vec::new());
    let told = Told::default();
    Ok(Decision {
        writable,
        master: slot,
        devices,
        group,
        lagging,
        uninformed,
        mint,
        after,
        notes,
        told,
        is_accepted: false,
    })
}

/// The first reason not to write that the operator's word, as far as given, does not overcome.
fn first_obstacle(
    found: &[Found],
    records: &[Record<'_>],
    group: &CopyGroup,
    options: &Options,
    safety: Result<(), ReadOnly>,
) -> Result<(), ReadOnly> {
    if options.read_only {
        return Err(ReadOnly::Asked);
    }
    let unknown = |one: &Record<'_>| one.group.ro_compat & !RO_COMPAT_KNOWN;
    if let Some(one) = records.iter().find(|one| unknown(one) != 0) {
        return Err(ReadOnly::Features { device: one.device, bits: unknown(one) });
    }
    if options.damage_list_full && !options.accept_damage {
        return Err(ReadOnly::DamageList);
    }
    let broken = found.iter().find_map(|one| Some((one.device, *one.group.as_ref().err()?)));
    if let Some((device, fault)) = broken.filter(|_| !options.accept_missing) {
        return Err(ReadOnly::Record { device, fault });
    }
    if !options.accept_missing && !is_accepted_by_rule(group, safety) {
        safety?;
    }
    let (have, need) = (group.in_sync().count_ones(), group.min_copies);
    if have < u32::from(need) {
        return Err(ReadOnly::TooFew { have: have.to_le_bytes()[0], need });
    }
    Ok(())
}

/// Whether the rule of the group is to go on without those that are missing. It was stored beforehand:
/// it does not overrule a witness who knows better.
fn is_accepted_by_rule(group: &CopyGroup, safety: Result<(), ReadOnly>) -> bool {
    group.policy.on_missing == OnMissing::Accept && !matches!(safety, Err(ReadOnly::Witness { .. }))
}

#[cfg(test)]
mod tests;
