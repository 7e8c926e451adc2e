//! How the record of a group changes when a copy fails, comes back, is added or taken away.
//!
//! None of these writes anything or begins an epoch. Where the copies in sync become others,
//! [`CopyGroup::needs_epoch`] says so, and [`CopyGroup::begin`] has to follow before the record is
//! written.

use core::fmt;

use crate::media::copy_group::{
    Cause, CopyGroup, CopySlot, CopyState, EpochId, OnMissing, Policy, Progress, RO_COMPAT_WITNESS,
    Runtime, WitnessPlace,
};
use crate::media::distrust::{Distrust, FOREVER};
use crate::units::{Tid, Uuid};

use super::epoch::{Stamp, mint};

impl CopyGroup {
    /// The copies in sync, a bit for each.
    #[must_use]
    pub fn in_sync(&self) -> u8 {
        self.slots_where(|state| state == CopyState::InSync)
    }

    /// A copy failed, or is not there: from `barrier_tid` on it is not believed, until it returns
    /// (redundancy design 3.3, F3). `barrier_tid` is the last transaction whose barrier the copy
    /// is known to have passed. `state` becomes [`CopyState::Faulted`] for too many errors, and
    /// [`CopyState::Out`] otherwise.
    ///
    /// # Errors
    /// There is no such copy, or it is thrown out already.
    pub fn eject(
        &mut self,
        slot: u8,
        barrier_tid: Tid,
        is_faulted: bool,
    ) -> Result<(), TransitionFault> {
        let epoch = self.epoch.id;
        let copy = self.in_state(slot, |state| {
            use CopyState as S;
            matches!(state, S::InSync | S::Resync | S::Stale | S::New | S::Out)
        })?;
        if copy.state == CopyState::InSync {
            copy.left = epoch;
        }
        let was_attached = matches!(copy.state, CopyState::InSync | CopyState::Resync);
        let barrier_tid =
            if was_attached { barrier_tid } else { copy.barrier_tid.min(barrier_tid) };
        copy.barrier_tid = barrier_tid;
        copy.distrust.add(barrier_tid, FOREVER);
        copy.state = if is_faulted { CopyState::Faulted } else { CopyState::Out };
        Ok(())
    }

    /// A copy of proven lineage is attached again; whatever is written after `now`, the newest
    /// transaction on media, may be sent to it.
    ///
    /// # Errors
    /// There is no such copy, or it is in sync, or has a history of its own.
    pub fn rejoin(&mut self, slot: u8, now: Tid) -> Result<(), TransitionFault> {
        let copy = self.in_state(slot, |state| {
            use CopyState as S;
            matches!(state, S::Out | S::Faulted | S::Stale | S::Resync | S::New)
        })?;
        copy.distrust.close(now);
        copy.attach_gen = copy.attach_gen.saturating_add(1);
        copy.state = CopyState::Stale;
        Ok(())
    }

    /// An attached copy is being brought up to date from now on: it gets every new block.
    ///
    /// # Errors
    /// The copy is not attached and out of date.
    pub fn resync(&mut self, slot: u8, since: Tid) -> Result<(), TransitionFault> {
        let copy =
            self.in_state(slot, |state| matches!(state, CopyState::Stale | CopyState::New))?;
        copy.distrust.close(since);
        copy.resync = Progress { since, done_bytes: 0 };
        copy.state = CopyState::Resync;
        Ok(())
    }

    /// A copy holds everything up to `now`: nothing of it is distrusted any more.
    ///
    /// # Errors
    /// It was not being brought up to date.
    pub fn joined(&mut self, slot: u8, now: Tid) -> Result<(), TransitionFault> {
        let copy = self.in_state(slot, |state| state == CopyState::Resync)?;
        copy.distrust = Distrust::NONE;
        (copy.left, copy.barrier_tid) = (EpochId::NONE, now);
        copy.resync = Progress::default();
        copy.state = CopyState::InSync;
        Ok(())
    }

    /// A new device becomes a copy, in a slot that no copy uses. Old snapshots may still name
    /// addresses of the copy that the slot had before, so nothing up to `now`, the newest
    /// transaction, is believed (redundancy design 3.10).
    ///
    /// # Errors
    /// The slot is in use or none, or the device is or was in the group: it needs a new name.
    pub fn add(&mut self, slot: u8, device: Uuid, now: Tid) -> Result<(), TransitionFault> {
        let is_new = self.slot_of(device).is_none();
        let copy =
            self.in_state(slot, |state| matches!(state, CopyState::Empty | CopyState::Retired))?;
        if !is_new {
            return Err(TransitionFault::SameDevice);
        }
        *copy = fresh(copy, device, now);
        Ok(())
    }

    /// Another device takes the place of a copy. The old one may serve as a source until the new
    /// one is in sync, but is no member any more.
    ///
    /// # Errors
    /// There is no such copy, it is the last in sync, or the device is or was in the group.
    pub fn replace(&mut self, slot: u8, device: Uuid, now: Tid) -> Result<(), TransitionFault> {
        let is_new = self.slot_of(device).is_none();
        self.keep_one(slot)?;
        let copy = self.in_state(slot, CopyState::is_configured)?;
        if !is_new {
            return Err(TransitionFault::SameDevice);
        }
        *copy = fresh(copy, device, now);
        Ok(())
    }

    /// Takes a copy out of the group for good. Its own header should be told, too, so that it can
    /// never come back by accident.
    ///
    /// # Errors
    /// There is no such copy, or it is the last in sync.
    pub fn retire(&mut self, slot: u8) -> Result<(), TransitionFault> {
        self.keep_one(slot)?;
        let epoch = self.epoch.id;
        let copy = self.in_state(slot, CopyState::is_configured)?;
        if copy.state == CopyState::InSync {
            copy.left = epoch;
        }
        copy.distrust = Distrust::all_until(FOREVER);
        copy.state = CopyState::Retired;
        let configured = self.configured();
        self.min_copies = self.min_copies.min(configured.max(1));
        Ok(())
    }

    /// Gives up what a copy with a history of its own holds, on the operator's word: it becomes a
    /// copy out of date that is believed nothing up to `now`. `epoch` is the one that its own
    /// header names, so that it is known when it is met again.
    ///
    /// # Errors
    /// There is no such copy, or it is in sync.
    pub fn discard(&mut self, slot: u8, epoch: EpochId, now: Tid) -> Result<(), TransitionFault> {
        let copy = self.in_state(slot, |state| {
            use CopyState as S;
            matches!(state, S::Diverged | S::Out | S::Stale | S::Faulted)
        })?;
        copy.left = epoch;
        copy.distrust = Distrust::all_until(now);
        copy.attach_gen = copy.attach_gen.saturating_add(1);
        (copy.barrier_tid, copy.state) = (Tid(0), CopyState::Stale);
        Ok(())
    }

    /// A copy was found to have a history of its own: it is believed nothing, and never written.
    ///
    /// # Errors
    /// There is no such copy.
    pub fn diverged(&mut self, slot: u8) -> Result<(), TransitionFault> {
        let copy = self.in_state(slot, CopyState::is_configured)?;
        copy.distrust = Distrust::all_until(FOREVER);
        copy.state = CopyState::Diverged;
        Ok(())
    }

    /// Makes the copy in `slot` the master by the operator's word, with the root that it has itself
    /// (redundancy design 3.7). The group must be the record from that copy's own newest header,
    /// and not mounted. `root_tid` is the transaction of that root.
    ///
    /// If the copy was out of date, the newer history that it knows of is given up: members of that
    /// are *diverged*, and known as such when they are met again. If it was in sync, the other
    /// members are out, as if they were missing. The right to write moves to it where one copy
    /// holds that. The epoch of the copy alone begins with this.
    ///
    /// # Errors
    /// There is no such copy, it has no root of its own, or the stamp's id is not a new one.
    pub fn promote(
        &mut self,
        slot: u8,
        root_tid: Tid,
        stamp: &Stamp,
    ) -> Result<(), TransitionFault> {
        let current = self.epoch;
        let copy = self.in_state(slot, |state| {
            use CopyState as S;
            matches!(state, S::InSync | S::Resync | S::Stale | S::Out | S::Faulted)
        })?;
        let was_in_sync = copy.state == CopyState::InSync;
        let fork = if was_in_sync { current.id } else { copy.left };
        if fork == EpochId::NONE {
            return Err(TransitionFault::NoRoot(slot));
        }
        if stamp.id == EpochId::NONE || self.descends_from(stamp.id) {
            return Err(TransitionFault::Id);
        }
        let forked_at = self.history().position(|epoch| epoch.id == fork);
        let past = self.history().skip(forked_at.unwrap_or(usize::MAX)).copied().collect();
        let parent = self.history().nth(forked_at.unwrap_or(0)).copied().unwrap_or(current);
        let mut epoch = mint(&parent, 1 << slot, Cause::Promoted, stamp);
        epoch.parent = fork;
        (self.epoch, self.past) = (epoch, past);
        self.past.truncate(crate::media::copy_group::EPOCHS_MAX);
        for other in (0..4).filter(|other| *other != slot) {
            self.leave_behind(other, current.members, current.id, was_in_sync, root_tid);
        }
        if let Some(copy) = self.slots.get_mut(usize::from(slot)) {
            copy.state = CopyState::InSync;
            copy.distrust = Distrust::NONE;
            (copy.left, copy.barrier_tid) = (EpochId::NONE, root_tid);
            copy.resync = Progress::default();
        }
        if let Runtime::Holder(_) = self.policy.runtime {
            self.policy.runtime = Runtime::Holder(slot);
        }
        self.min_copies = 1;
        self.flush_seq = self.flush_seq.saturating_add(1);
        Ok(())
    }

    /// Changes the rules of the group. An epoch has to follow, though its members stay the same, and
    /// its record has to be durable on every member, on one that gets the right to write by it after
    /// all others: so nobody who had that right can miss that it moved (redundancy design 3.6, E6).
    ///
    /// # Errors
    /// The holder would be a copy that is not in sync, or more copies would be wanted than there are
    /// in sync.
    pub fn set_rules(&mut self, rules: Rules) -> Result<(), TransitionFault> {
        if let Runtime::Holder(slot) = rules.runtime {
            self.in_state(slot, |state| state == CopyState::InSync)?;
        }
        let (have, need) = (self.in_sync().count_ones(), rules.min_copies);
        if need == 0 || have < u32::from(need) {
            return Err(TransitionFault::TooFew { have: have.to_le_bytes()[0], need });
        }
        let Rules { runtime, on_missing, min_copies, wait_seconds, promote } = rules;
        self.policy = Policy { runtime, on_missing, wait_seconds, promote, ..self.policy };
        self.min_copies = min_copies;
        Ok(())
    }

    /// The rules of the group, as [`set_rules`](Self::set_rules) takes them.
    #[must_use]
    pub const fn rules(&self) -> Rules {
        let Policy { runtime, on_missing, wait_seconds, promote, .. } = self.policy;
        Rules { runtime, on_missing, min_copies: self.min_copies, wait_seconds, promote }
    }

    /// Gives the group a witness, or none. An epoch has to follow, though its members stay the same.
    pub fn set_witness(&mut self, witness: Option<WitnessPlace>) {
        self.policy.witness = witness.is_some();
        if witness.is_some() {
            self.ro_compat |= RO_COMPAT_WITNESS;
        } else {
            self.ro_compat &= !RO_COMPAT_WITNESS;
        }
        self.witness = witness.unwrap_or_default();
    }

    /// Leaves a copy behind that is sound: it may come back like one that failed.
    ///
    /// # Errors
    /// It is not attached; it is the last in sync, or the group wants more copies than would be left.
    pub fn detach(&mut self, slot: u8) -> Result<(), TransitionFault> {
        self.keep_one(slot)?;
        let copy = self.in_state(slot, |state| {
            matches!(state, CopyState::InSync | CopyState::Resync | CopyState::Stale)
        })?;
        let barrier_tid = copy.barrier_tid;
        let left = self.in_sync() & !1_u8.checked_shl(slot.into()).unwrap_or(0);
        let (have, need) = (left.count_ones(), self.min_copies);
        if have < u32::from(need) {
            return Err(TransitionFault::TooFew { have: have.to_le_bytes()[0], need });
        }
        self.eject(slot, barrier_tid, false)
    }

    /// What becomes of a copy that does not take part in a promotion.
    fn leave_behind(
        &mut self,
        slot: u8,
        members: u8,
        epoch: EpochId,
        was_in_sync: bool,
        root_tid: Tid,
    ) {
        let was_member = members & 1 << slot != 0;
        let known = self
            .history()
            .map(|epoch| epoch.id)
            .find(|id| self.slot(slot).is_some_and(|copy| copy.left == *id));
        let Some(copy) = self.slots.get_mut(usize::from(slot)) else { return };
        if !copy.state.is_configured() {
            return;
        }
        let is_given_up = if was_member { !was_in_sync } else { known.is_none() };
        if was_member {
            copy.left = epoch;
        }
        if is_given_up {
            copy.distrust = Distrust::all_until(FOREVER);
            copy.state = CopyState::Diverged;
        } else {
            copy.distrust.add(copy.barrier_tid.min(root_tid), FOREVER);
            copy.state = CopyState::Out;
        }
    }

    /// Fails if the copy in `slot` is the only one in sync.
    fn keep_one(&self, slot: u8) -> Result<(), TransitionFault> {
        let is_last =
            self.in_sync().checked_shr(slot.into()) == Some(1) && self.in_sync().count_ones() == 1;
        if is_last { Err(TransitionFault::LastInSync(slot)) } else { Ok(()) }
    }

    fn in_state(
        &mut self,
        slot: u8,
        may: impl Fn(CopyState) -> bool,
    ) -> Result<&mut CopySlot, TransitionFault> {
        let copy = self.slots.get_mut(usize::from(slot)).ok_or(TransitionFault::NoSlot(slot))?;
        let state = copy.state;
        if may(state) { Ok(copy) } else { Err(TransitionFault::State { slot, state }) }
    }
}

/// A slot for a device that holds nothing yet.
fn fresh(old: &CopySlot, device: Uuid, now: Tid) -> CopySlot {
    CopySlot {
        device,
        state: CopyState::New,
        attach_gen: old.attach_gen.saturating_add(1),
        distrust: Distrust::all_until(now),
        ..CopySlot::EMPTY
    }
}

/// What the operator says on how the group is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Who may go on without whom.
    pub runtime: Runtime,
    /// What a mount does if members are missing.
    pub on_missing: OnMissing,
    /// Copies in sync that a mount for writing needs, 1 to 4.
    pub min_copies: u8,
    /// Seconds that a mount waits for the last copy that was lost to come back.
    /// Kept, and nobody goes by it yet.
    pub wait_seconds: u16,
    /// Seconds that a mount may give up to go on from an older state; `None`: never.
    pub promote: Option<u32>,
}

/// Why the record of a group cannot change like that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransitionFault {
    /// There are four slots.
    NoSlot(u8),
    /// The copy is in a state that does not allow it.
    State {
        /// Which copy.
        slot: u8,
        /// Its state.
        state: CopyState,
    },
    /// It is the only copy that holds everything.
    LastInSync(u8),
    /// No copy would hold everything.
    NoneInSync,
    /// The copy never was in sync: it has no root of its own.
    NoRoot(u8),
    /// The device is in the group, or was.
    SameDevice,
    /// The id of the new epoch is none, or used before.
    Id,
    /// Fewer copies would be in sync than the group wants.
    TooFew {
        /// Copies in sync then.
        have: u8,
        /// Copies that the group wants then.
        need: u8,
    },
}

impl fmt::Display for TransitionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlot(slot) => write!(f, "there is no copy {slot}: they are numbered 0 to 3"),
            Self::State { slot, state } => {
                write!(f, "copy {slot} is {}, which does not allow this", state.name())
            }
            Self::LastInSync(slot) => {
                write!(f, "copy {slot} is the only one in sync; add another and wait for it first")
            }
            Self::NoneInSync => f.write_str("no copy would be in sync"),
            Self::NoRoot(slot) => {
                write!(f, "copy {slot} never was in sync and cannot be the master")
            }
            Self::SameDevice => {
                f.write_str("the device is or was one of this group; give it a new id first")
            }
            Self::Id => f.write_str("the id of the new epoch is not a new one"),
            Self::TooFew { have, need } => {
                write!(f, "{have} copies would be in sync, and the group would want {need}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
