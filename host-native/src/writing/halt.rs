//! A volume that halted waits for its copies, if the rules of its group say so (copies 3.7).
//!
//! The last copies that held everything are lost: a cable is loose, a hub has no power. Instead of
//! failing at once, whoever wants something of the volume waits, up to the time that the rules name. The
//! thread that looks for copies opens their devices anew, and the core goes on with them if they hold
//! exactly what was written to them.
//!
//! Invariants:
//! * Nobody waits who holds the flusher, or the memory: the volume goes on by somebody who needs both.
//! * It is waited once for each halt. When the time is over, or the volume is closed, everybody is told
//!   the error that they met.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use farrier_core::copies::CopyGroup;
use farrier_core::drive::attach::{Appeared, identify};
use farrier_core::drive::commit::Flusher;
use farrier_core::drive::ready;
use farrier_core::drive::resume::{ResumeError, is_for_want_of_copies, needed, resume};
use farrier_core::error::Error;
use farrier_core::volume::LiveCopies;

use super::Writing;
use super::watch::{Watch, slots};
use crate::blocks::lock;
use crate::copies::{EventKind, record_at};

/// Who waits looks at the time not more often than this.
const PAUSE: Duration = Duration::from_millis(100);

/// A volume that waits for its copies.
#[derive(Clone, Debug)]
pub(super) struct Halt {
    /// Until then.
    until: Instant,
    /// Why it does not go on with what is there, as was told last.
    told: Option<String>,
}

impl Halt {
    /// How long it will wait, in whole seconds.
    pub(super) fn seconds_left(&self) -> u64 {
        self.until.saturating_duration_since(Instant::now()).as_secs()
    }
}

impl Writing {
    /// Does `work`, and does it once more when the volume had halted and went on.
    pub(crate) fn outlast<R>(&self, work: impl Fn() -> Result<R, Error>) -> Result<R, Error> {
        loop {
            let resumes = self.resumes.load(Ordering::Acquire);
            match work() {
                Err(error) if self.went_on(resumes, &error) => {}
                done => return done,
            }
        }
    }

    /// Waits for the copies that `error` may be for want of; whether the volume halted and went on
    /// since it had done so `resumes` times.
    fn went_on(&self, resumes: u64, error: &Error) -> bool {
        let Some(watch) = self.watch.get() else { return false };
        if !self.may_wait_for(error) {
            return false;
        }
        let went_on = || self.resumes.load(Ordering::Acquire) != resumes;
        {
            // whoever met this first may not have said so yet
            let mut flusher = self.lock_flusher();
            if self.failed().is_none() && !went_on() {
                // what could not be read may be bad, or gone with everything: a commit tells
                let _ = self.flush(&mut flusher, true);
            }
        }
        let mut state = watch.lock();
        while let Some(halt) = &state.halt {
            let left = halt.until.saturating_duration_since(Instant::now());
            let waited = watch.wake.wait_timeout(state, left.max(PAUSE));
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            // whoever looks for the copies may hang on one of them
            self.give_up_if_due(watch);
            state = watch.lock();
        }
        drop(state);
        went_on()
    }

    /// Whether the volume waits, or is about to, for what `error` is for want of.
    pub(super) fn may_wait_for(&self, error: &Error) -> bool {
        let waits = |watch: &Watch| {
            let state = watch.lock();
            state.group.policy.wait_seconds > 0 && !state.is_over && !state.is_closing
        };
        is_for_want_of_copies(error) && self.watch.get().is_some_and(waits)
    }

    /// Begins to wait if the volume has just halted. Called by whoever holds the flusher, after
    /// everything that may have made it halt.
    pub(super) fn note_halt(&self, watch: &Watch, flusher: &Flusher) {
        if !self.failed().is_some_and(|error| is_for_want_of_copies(&error)) {
            return;
        }
        let text = {
            let mut state = watch.lock();
            let seconds = state.group.policy.wait_seconds;
            if seconds == 0 || state.halt.is_some() || state.is_over || state.is_closing {
                return;
            }
            let until = Instant::now() + Duration::from_secs(seconds.into());
            state.halt = Some(Halt { until, told: None });
            format!(
                "the last good copies are lost; everything waits up to {seconds} s for {} to come \
                 back, and goes on then",
                self.names(needed(flusher))
            )
        };
        watch.wake.notify_all();
        self.tell_event(EventKind::Halted, None, text);
    }

    /// Looks whether the copies are back, and goes on; or ends the waiting when its time is over.
    pub(super) fn look_after_halt(&self, watch: &Watch, fresh: &BTreeSet<OsString>) {
        let Some(halt) = watch.lock().halt.clone() else { return };
        match self.go_on(watch, fresh) {
            Ok(copies) => {
                self.is_failure_told.store(false, Ordering::Relaxed);
                self.resumes.fetch_add(1, Ordering::AcqRel);
                {
                    let mut state = watch.lock();
                    (state.halt, state.is_over) = (None, false);
                    (state.stalled, state.run) = (None, None);
                    self.settle_all_reads(&mut state);
                }
                watch.wake.notify_all();
                let text = format!("{copies}: back; the volume goes on, and nothing was lost");
                self.tell_event(EventKind::Resumed, None, text);
                return;
            }
            Err(Some(why)) if halt.told.as_ref() != Some(&why) => {
                if let Some(halt) = &mut watch.lock().halt {
                    halt.told = Some(why.clone());
                }
                self.tell_event(EventKind::CopyRefused, None, why);
            }
            Err(_) => {}
        }
        self.give_up_if_due(watch);
    }

    /// Ends the waiting when its time is over.
    fn give_up_if_due(&self, watch: &Watch) {
        {
            let mut state = watch.lock();
            if state.halt.as_ref().is_none_or(|halt| halt.until > Instant::now()) {
                return;
            }
            (state.halt, state.is_over) = (None, true);
        }
        watch.wake.notify_all();
        if let Some(error) = self.failed() {
            self.tell_failed(&error);
        }
    }

    /// Goes on with the copies that are here: their names. Otherwise why not, if there is more to tell
    /// than that they are not.
    fn go_on(&self, watch: &Watch, fresh: &BTreeSet<OsString>) -> Result<String, Option<String>> {
        // what a device says stays true until it is used
        let _one_at_a_time = lock(&watch.attaching);
        let live = self.store.volume().copies().ok_or(None)?;
        let group = watch.lock().group.clone();
        let wanted = needed(&self.lock_flusher());
        let find = |slot| self.find_again(slot, &group, live, fresh);
        let found: Vec<Appeared> = slots(wanted).filter_map(find).collect();
        if found.is_empty() {
            return Err(None);
        }
        let mut flusher = self.lock_flusher();
        let resumed = ready(resume(self, &mut flusher, &found));
        self.note_copies(&flusher);
        drop(flusher);
        self.room.notify_all();
        match resumed {
            Ok(()) => Ok(self.names(wanted)),
            // others may come yet; or they failed again
            Err(ResumeError::Unsafe(_) | ResumeError::Failed(_)) => Err(None),
            Err(error) => Err(Some(error.to_string())),
        }
    }

    /// The device of a copy, if it is here and can be read.
    fn find_again(
        &self,
        slot: u8,
        group: &CopyGroup,
        live: &LiveCopies,
        fresh: &BTreeSet<OsString>,
    ) -> Option<Appeared> {
        let (devices, checks) = (self.store.devices(), self.store.volume().checks());
        let wanted = (group.group, group.slot(slot)?.device);
        let identified = |device| ready(identify(devices, device, checks)).ok();
        let is_it = |found: &Appeared| found.names() == wanted;
        let last = live.device(slot);
        if let Some(device) = last.filter(|device| devices.is_open(*device)) {
            if live.lost() & 1 << slot == 0
                && let Some(found) = identified(device).filter(is_it)
            {
                return Some(found);
            }
            // it may fail for good while what it was opened for is here again
            devices.release(device);
        }
        for path in self.places(slot, group, fresh) {
            // most of what appears somewhere is something else: it is only looked at
            let is_named = record_at(&path).is_some_and(|one| (one.group, one.device) == wanted);
            let Some(device) = is_named.then(|| devices.add(&path).ok()).flatten() else {
                continue;
            };
            match identified(device).filter(is_it) {
                Some(found) => return Some(found),
                None => devices.release(device),
            }
        }
        None
    }

    /// What is told of a volume that halted, while it waits.
    pub(super) fn waiting_text(&self) -> Option<String> {
        let halt = self.watch.get()?.lock().halt.clone()?;
        Some(format!(
            "the last good copies are lost; everything waits for them, up to {} s more; see to the \
             devices: it goes on by itself when they are back",
            halt.seconds_left()
        ))
    }
}
