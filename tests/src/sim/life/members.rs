//! Copies come and go while the volume is in use: added, taken away, replaced, detached, attached.
//!
//! A new copy gets the slot that the core chooses, and the disk with that number: an empty one, or
//! one with all that the slot's former copy left there (I19).

use farrier_core::copies::{CopyState, Runtime};
use farrier_core::drive::attach::AttachError;
use farrier_core::drive::copies::{MemberError, NewCopy};
use farrier_core::drive::ready;
use farrier_core::units::{DeviceIndex, Uuid};

use super::{Life, Stop, each, settled};
use crate::rack::Mode;

impl Life {
    /// Who writes has to have what the group allows, and nobody else.
    pub(super) fn change_members(&mut self) -> Result<(), Stop> {
        self.commit(false)?;
        match self.random.below(6) {
            0 => self.add(),
            1 => self.take_away(),
            2 => self.replace(),
            3 => self.detach(),
            _ => self.attach(),
        }
    }

    fn state_of(&self, slot: u8) -> CopyState {
        self.host().with_flusher(|flusher| {
            let group = flusher.and_then(|flusher| flusher.lineage()).map(|one| one.group());
            group.and_then(|group| group.slot(slot)).map_or(CopyState::Empty, |slot| slot.state)
        })
    }

    /// The rule of the group, which a promotion may have changed.
    pub(super) fn runtime(&self) -> Runtime {
        self.host().with_flusher(|flusher| {
            let lineage = flusher.and_then(|flusher| flusher.lineage());
            lineage.map_or(self.plan.policy.runtime, |lineage| lineage.group().policy.runtime)
        })
    }

    /// The number of a disk for the mounted volume.
    fn device(&self, disk: u8) -> DeviceIndex {
        self.view.device_of(disk).unwrap_or_else(|| self.view.reveal(disk))
    }

    /// A disk for the slot that the next copy gets, with what that copy is called.
    fn new_copy(&mut self, slot: u8) -> NewCopy {
        let has_left = self.ever & 1 << slot != 0 && self.bay.mode(slot) == Mode::Fine;
        // the same disk comes back now and then, with all that is on it
        if !has_left || !self.random.once_in(3) {
            let size = *self.random.pick(&[40_u64, 64, 96, 1100]) << 20;
            self.bay.renew(slot, size);
        }
        self.bay.forgive();
        self.ever |= 1 << slot;
        self.time += 1;
        let mut id = [0xc0; 16];
        id[..8].copy_from_slice(&self.time.to_le_bytes());
        NewCopy { device: self.device(slot), size: self.bay.disk_size(slot), id: Uuid(id) }
    }

    /// The slot that the core chooses: one that never was used, if there is one.
    fn free_slot(&self) -> Option<u8> {
        let free = |wanted| (0..4).find(|slot| self.state_of(*slot) == wanted);
        free(CopyState::Empty).or_else(|| free(CopyState::Retired))
    }

    /// What `change` does is a commit, if it is done.
    fn changed<T>(
        &mut self,
        what: &str,
        change: impl FnOnce(&Self) -> Result<T, MemberError>,
        may_refuse: impl Fn(&MemberError) -> bool,
    ) -> Result<Option<T>, Stop> {
        let (commits, now) = (self.commits(), settled(&self.trees));
        self.maybe.push(now.clone());
        let changed = change(self);
        self.tell(|| format!("{what}: {:?}", changed.as_ref().map(|_| ())));
        match changed {
            Ok(changed) => {
                self.ran.members += 1;
                self.done(commits, now);
                self.line = self.in_sync();
                self.epoch_on_all()?;
                Ok(Some(changed))
            }
            Err(error) => {
                let told = self.stopped(|| format!("{what}: {error:?}"));
                if !matches!(told, Stop::Wrong(_)) || !may_refuse(&error) {
                    return Err(told);
                }
                self.done(commits, now);
                Ok(None)
            }
        }
    }

    fn add(&mut self) -> Result<(), Stop> {
        let Some(slot) = self.free_slot() else { return Ok(()) };
        let new = self.new_copy(slot);
        let is_sound = self.bay.is_sound(slot);
        let added = self.changed(
            &format!("copy {slot} is added"),
            |life| ready(life.host().add_copy(new)),
            |error| match error {
                MemberError::TooSmall { need } => new.size < *need,
                MemberError::Unwritable => !is_sound,
                _ => false,
            },
        )?;
        match added {
            Some(got) if got != slot => Err(Stop::Wrong(format!("added as {got}, not {slot}"))),
            Some(_) => {
                self.shown |= 1 << slot;
                self.old &= !(1 << slot);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Copies that the group has, and can do without, so that one that works is left.
    fn spare(&mut self, may: impl Fn(CopyState) -> bool) -> Option<u8> {
        let good = self.good();
        let is_spare = |slot: &u8| good & !(1 << slot) != 0 && may(self.state_of(*slot));
        let spare: Vec<u8> = (0..4).filter(is_spare).collect();
        if spare.is_empty() { None } else { Some(*self.random.pick(&spare)) }
    }

    fn take_away(&mut self) -> Result<(), Stop> {
        let Some(slot) = self.spare(CopyState::is_configured) else { return Ok(()) };
        let holds = self.runtime() == Runtime::Holder(slot);
        let gone = self.changed(
            &format!("copy {slot} is taken away"),
            |life| ready(life.host().remove_copy(slot)),
            |error| matches!(error, MemberError::Holder) && holds,
        )?;
        if gone.is_some() {
            self.shown &= !(1 << slot);
        }
        Ok(())
    }

    /// The new copy gets the slot of the old one only if there is no other.
    fn replace(&mut self) -> Result<(), Stop> {
        let before = self.ran.members;
        self.take_away()?;
        if self.ran.members == before { Ok(()) } else { self.add() }
    }

    fn detach(&mut self) -> Result<(), Stop> {
        let spare = self.spare(|state| matches!(state, CopyState::InSync | CopyState::Resync));
        let Some(slot) = spare else { return Ok(()) };
        let runtime = self.runtime();
        self.changed(
            &format!("copy {slot} is detached"),
            |life| ready(life.host().detach_copy(slot)),
            |error| match error {
                MemberError::Holder => runtime == Runtime::Holder(slot),
                MemberError::Rule => runtime != Runtime::Any,
                // the flush before found that it failed
                MemberError::Transition(_) => true,
                _ => false,
            },
        )?;
        Ok(())
    }

    fn attach(&mut self) -> Result<(), Stop> {
        let is_away = |slot: &u8| {
            let state = self.state_of(*slot);
            let is_in = matches!(state, CopyState::InSync | CopyState::Resync);
            state.is_configured() && !is_in && self.bay.mode(*slot) == Mode::Fine
        };
        let away: Vec<u8> = (0..4).filter(is_away).collect();
        if away.is_empty() {
            return Ok(());
        }
        let slot = *self.random.pick(&away);
        let (state, is_asked_for) = (self.state_of(slot), self.random.once_in(2));
        let device = self.device(slot);
        let is_sound = self.bay.is_sound(slot);
        // what was put back or promoted may be of another history, and what is lost is of none
        let is_odd = self.is_parted
            || (self.old | self.lost | self.victim()) & 1 << slot != 0
            || !self.has_headers(slot);
        let (commits, now) = (self.commits(), settled(&self.trees));
        self.maybe.push(now.clone());
        let attached = ready(self.host().attach_copy(device, is_asked_for));
        self.tell(|| format!("copy {slot} is attached: {attached:?}"));
        if let Err(error) = &attached {
            let told = self.stopped(|| format!("copy {slot} is attached: {error:?}"));
            let may_refuse = match error {
                AttachError::Faulted { .. } => !is_asked_for && state == CopyState::Faulted,
                AttachError::Unwritable { .. } => !is_sound || self.victim() & 1 << slot != 0,
                AttachError::Failed(_) => false,
                _ => is_odd,
            };
            if !matches!(told, Stop::Wrong(_)) || !may_refuse {
                return Err(told);
            }
        } else {
            self.ran.members += 1;
            self.shown |= 1 << slot;
        }
        self.done(commits, now);
        self.line = self.in_sync();
        each(self.line).for_each(|copy| self.old &= !(1 << copy));
        Ok(self.epoch_on_all()?)
    }
}
