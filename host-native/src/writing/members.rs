//! Copies that come and go while the volume is in use.

use farrier_core::copies::{CopyGroup, CopyState, EpochId, Rules, WitnessPlace};
use farrier_core::drive::commit::Flusher;
use farrier_core::drive::convert::{NewGroup, strip, to_copies};
use farrier_core::drive::copies::{
    MemberError, NewCopy, add, detach, remove, replace, reset_counters, set_rules,
};
use farrier_core::drive::damage::clear_damage;
use farrier_core::drive::promote::discard;
use farrier_core::drive::ready;
use farrier_core::drive::witness::set_witness;
use farrier_core::volume::LiveCopies;

use std::path::Path;

use super::Writing;
use super::catch_up::{BATCH, PAUSE};
use super::watch::{Replaced, Watch};
use crate::copies::{Driver, EventKind};
use crate::device::Devices;

impl Writing {
    fn with_flusher<T>(
        &self,
        work: impl FnOnce(&mut Flusher) -> Result<T, MemberError>,
    ) -> Result<T, MemberError> {
        let had_failed = self.failed().is_some();
        let mut flusher = self.lock_flusher();
        let done = work(&mut flusher);
        self.note_copies(&flusher);
        drop(flusher);
        self.room.notify_all();
        if let Err(MemberError::Failed(error)) = &done
            && !had_failed
            && self.failed().is_some()
        {
            self.tell_failed(error);
        }
        done
    }

    /// Takes away copies whose successors hold everything.
    pub(super) fn finish_replacements(&self, watch: &Watch) {
        let due: Vec<Replaced> = {
            let mut state = watch.lock();
            let group = state.group.clone();
            let (due, on) = state.replaced.drain(..).partition(|one| one.is_due(&group));
            state.replaced = on;
            due
        };
        for Replaced { old, new } in due {
            let group = watch.lock().group.clone();
            let name = self.names(1 << old);
            if state_of(&group, new) != Some(CopyState::InSync) {
                let text = format!("{name}: stays, for copy {new} did not come to hold everything");
                self.tell_event(EventKind::ResyncStalled, Some(old), text);
            } else if let Err(error) = Driver::remove(self, old) {
                let text = format!(
                    "{name}: stays, though copy {new} holds everything: {error}; see to that, then \
                     `farrier copies remove DIR {old}`"
                );
                self.tell_event(EventKind::ResyncStalled, Some(old), text);
            } else if let Some(device) = self.live().and_then(|live| live.device(old)) {
                self.store.devices().release(device);
            }
        }
    }
}

fn state_of(group: &CopyGroup, slot: u8) -> Option<CopyState> {
    group.slot(slot).map(|slot| slot.state)
}

impl Driver for Writing {
    fn devices(&self) -> &Devices {
        self.store.devices()
    }

    fn live(&self) -> Option<&LiveCopies> {
        self.store.volume().copies()
    }

    fn group(&self) -> Option<CopyGroup> {
        Self::group(self)
    }

    fn convert(&self, new: NewGroup) -> Result<(), MemberError> {
        self.with_flusher(|flusher| {
            ready(to_copies(self, flusher, self.store.volume(), new))?;
            if let Some(watch) = Watch::of(flusher, self.options.only_named) {
                // nobody else makes one: the flusher is held
                let _ = self.watch.set(watch);
            }
            Ok(())
        })
    }

    fn strip(&self, keep: u8) -> Result<(), MemberError> {
        while !self.with_flusher(|flusher| ready(strip(self, flusher, keep, BATCH)))?.is_done {
            std::thread::sleep(PAUSE);
        }
        if let Some(watch) = self.watch.get() {
            watch.lock().is_stripped = true;
        }
        Ok(())
    }

    fn add(&self, new: NewCopy) -> Result<u8, MemberError> {
        self.with_flusher(|flusher| ready(add(self, flusher, new)))
    }

    fn remove(&self, slot: u8) -> Result<(), MemberError> {
        self.with_flusher(|flusher| ready(remove(self, flusher, slot)))
    }

    fn replace(&self, slot: u8, new: NewCopy) -> Result<u8, MemberError> {
        self.with_flusher(|flusher| ready(replace(self, flusher, slot, new)))
    }

    fn detach(&self, slot: u8) -> Result<(), MemberError> {
        let mark = |is_detached: bool| {
            if let Some(watch) = self.watch.get() {
                let bit = 1_u8.checked_shl(slot.into()).unwrap_or(0);
                let detached = &mut watch.lock().detached;
                *detached = if is_detached { *detached | bit } else { *detached & !bit };
            }
        };
        mark(true);
        let done = self.with_flusher(|flusher| ready(detach(self, flusher, slot)));
        if done.is_err() {
            mark(false);
        }
        done
    }

    fn attach(&self, path: &Path) -> Result<u8, String> {
        Self::attach(self, path)
    }

    fn discard(&self, slot: u8, epoch: EpochId) -> Result<(), MemberError> {
        self.with_flusher(|flusher| ready(discard(self, flusher, slot, epoch)))
    }

    fn reset_counters(&self, slot: u8) -> Result<(), MemberError> {
        self.with_flusher(|flusher| ready(reset_counters(self, flusher, slot)))
    }

    fn clear_damage(&self) -> Result<(), MemberError> {
        self.with_flusher(|flusher| ready(clear_damage(self, flusher)))
    }

    fn set_rules(&self, rules: Rules) -> Result<(), MemberError> {
        self.with_flusher(|flusher| ready(set_rules(self, flusher, rules)))
    }

    fn set_witness(&self, witness: Option<WitnessPlace>) -> Result<(), MemberError> {
        self.with_flusher(|flusher| ready(set_witness(self, flusher, witness)))
    }

    fn fill_in(&self, new: u8, old: Option<u8>) -> Result<String, String> {
        if let (Some(watch), Some(old)) = (self.watch.get(), old) {
            watch.lock().replaced.push(Replaced { old, new });
        }
        self.catch_up_again();
        let wait = "`farrier copies resync --wait DIR` waits for it";
        Ok(match old {
            Some(old) => format!(
                "it is being filled in; copy {old} goes when it holds everything, if the volume is \
                 mounted for so long, and stays otherwise; {wait}"
            ),
            None => format!("it is being filled in; {wait}"),
        })
    }
}
