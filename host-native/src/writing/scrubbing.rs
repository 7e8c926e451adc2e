//! Reading everything from every copy in sync, beside everything else, and healing what is bad.
//!
//! A thread does it, a step at a time, and holds the flusher only for that step. It ends with the
//! mount, and begins at the beginning the next time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use farrier_core::drive::ready;
use farrier_core::drive::scrub::{Scrub, Scrubbed, step};

use super::Writing;
use crate::blocks::lock;
use crate::copies::{EventKind, ScrubState, ScrubStatus, milliseconds};

/// Bytes that are read before others get the flusher.
const BATCH: u64 = 8 << 20;
/// How long the others have to get it.
const PAUSE: Duration = Duration::from_millis(2);

/// The scrub of a mount.
#[derive(Debug, Default)]
pub(super) struct Scrubbing {
    state: Mutex<State>,
    /// Somebody wants something else of it.
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    status: Option<ScrubStatus>,
    is_closing: bool,
    thread: Option<JoinHandle<()>>,
}

/// What to do about a scrub.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScrubWish {
    /// Begin one.
    Start,
    /// Let it rest.
    Pause,
    /// Go on with it.
    Resume,
    /// End it.
    Stop,
    /// Change only how much it reads in a second.
    Rate,
}

impl Scrubbing {
    pub(super) fn status(&self) -> Option<ScrubStatus> {
        lock(&self.state).status
    }

    /// Ends it, and waits for that.
    pub(super) fn close(&self) {
        let thread = {
            let mut state = lock(&self.state);
            state.is_closing = true;
            state.thread.take()
        };
        self.wake.notify_all();
        if let Some(thread) = thread {
            // a thread that panicked has nothing to give back
            let _ = thread.join();
        }
    }

    /// Waits while it is to rest, and then for `time`, or until somebody wants something; whether it
    /// goes on.
    fn rest(&self, time: Duration) -> bool {
        let state = lock(&self.state);
        let is_running = |state: &mut State| {
            state.status.is_some_and(|status| status.state == ScrubState::Running)
        };
        let waited = self
            .wake
            .wait_timeout_while(state, time, |state| is_running(state) && !state.is_closing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        while !state.is_closing
            && state.status.is_some_and(|status| status.state == ScrubState::Paused)
        {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        is_running(&mut state) && !state.is_closing
    }

    fn update<R>(&self, update: impl FnOnce(&mut ScrubStatus) -> R) -> Option<R> {
        lock(&self.state).status.as_mut().map(update)
    }
}

impl Writing {
    /// Does what is wished about the scrub.
    ///
    /// # Errors
    /// A sentence: why that makes no sense now.
    pub(super) fn scrub(
        self: &Arc<Self>,
        wish: ScrubWish,
        rate: Option<u64>,
    ) -> Result<(), String> {
        let scrubbing = &self.scrubbing;
        let mut state = lock(&scrubbing.state);
        let now = state.status.map(|status| status.state);
        let goes_on = matches!(now, Some(ScrubState::Running | ScrubState::Paused));
        if wish == ScrubWish::Start && !goes_on {
            return self.begin_scrub(&mut state, rate.unwrap_or(0));
        }
        let Some(status) = state.status.as_mut().filter(|_| goes_on) else {
            return Err("there is no scrub; `farrier copies scrub DIR` begins one".to_owned());
        };
        status.rate = rate.unwrap_or(status.rate);
        match (wish, status.state) {
            (ScrubWish::Start, _) if rate.is_none() => {
                return Err("a scrub goes on already; --pause, --resume and --stop are for that, \
                            and --wait waits for its end"
                    .to_owned());
            }
            (ScrubWish::Start | ScrubWish::Rate, _) => {}
            (ScrubWish::Pause, _) => status.state = ScrubState::Paused,
            (ScrubWish::Resume, _) => status.state = ScrubState::Running,
            (ScrubWish::Stop, _) => status.state = ScrubState::Stopped,
        }
        drop(state);
        scrubbing.wake.notify_all();
        Ok(())
    }

    fn begin_scrub(self: &Arc<Self>, state: &mut State, rate: u64) -> Result<(), String> {
        if self.watch.get().is_none() {
            return Err(crate::copies::no_copies());
        }
        if state.is_closing {
            return Err("it is being unmounted".to_owned());
        }
        if let Some(last) = state.thread.take() {
            // it is at its end, and takes no lock any more but this for a moment
            if !last.is_finished() {
                state.thread = Some(last);
                return Err("the last scrub is just ending; try again".to_owned());
            }
        }
        let writing = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("scrub".to_owned())
            .spawn(move || writing.scrub_in_steps())
            .map_err(|error| format!("no thread can be had for it: {error}"))?;
        state.thread = Some(thread);
        state.status = Some(ScrubStatus { rate, ..ScrubStatus::begun() });
        Ok(())
    }

    fn scrub_in_steps(&self) {
        let mut scrub = Scrub::new();
        self.keep_event(EventKind::ScrubStarted, None, "a scrub began".to_owned());
        // what was just put back is looked at, and not what it replaced; a failure ends the first step
        let _ = self.flush(&mut self.lock_flusher(), false);
        while self.scrubbing.rest(Duration::ZERO) {
            let began = Instant::now();
            let before = scrub.found().bytes;
            let mut flusher = self.lock_flusher();
            let stepped = ready(step(self, &mut flusher, &mut scrub, BATCH));
            self.note_copies(&flusher);
            if flusher.is_relocating() {
                self.ask_for_flush();
            }
            drop(flusher);
            self.room.notify_all();
            let found = scrub.found();
            let rate = self.scrubbing.update(|status| {
                note(status, &found);
                match stepped {
                    Ok(true) => {}
                    Ok(false) => status.state = ScrubState::Done,
                    Err(_) => status.state = ScrubState::Failed,
                }
                status.rate
            });
            let rest = rest(found.bytes - before, rate.unwrap_or(0), began.elapsed());
            self.scrubbing.rest(rest);
            let spent = milliseconds(began.elapsed());
            self.scrubbing.update(|status| status.ms += spent);
        }
        self.tell_scrubbed();
    }

    fn tell_scrubbed(&self) {
        let Some(status) = self.scrubbing.status() else { return };
        let ScrubStatus { bytes, bad, healed, failed, unreadable, .. } = status;
        let how = match status.state {
            ScrubState::Done => "read everything from every copy in sync",
            ScrubState::Failed => "ended with the volume",
            _ => "was stopped",
        };
        let text = format!(
            "a scrub {how}: {bytes} bytes; {bad} blocks were bad, {healed} were written again, \
             {failed} were not taken, {unreadable} no copy could give"
        );
        if unreadable > 0 {
            let text = format!(
                "{unreadable} blocks cannot be read from any copy; `farrier copies status` names what \
                 they belong to"
            );
            self.tell_event(EventKind::Damage, None, text);
        }
        // a healthy volume needs no more than that it was looked at
        match bad {
            0 => self.keep_event(EventKind::ScrubDone, None, text),
            _ => self.tell_event(EventKind::ScrubDone, None, text),
        }
    }
}

pub(crate) fn note(status: &mut ScrubStatus, found: &Scrubbed) {
    status.bytes = found.bytes;
    status.expected_bytes = found.bytes_expected;
    status.bad = found.bad;
    status.healed = found.healed.healed;
    status.failed = found.healed.failed;
    status.unreadable = found.healed.unhealable;
}

/// How long to wait after `bytes` took `spent`, to read `rate` bytes in a second.
pub(crate) fn rest(bytes: u64, rate: u64, spent: Duration) -> Duration {
    if rate == 0 {
        return PAUSE;
    }
    let whole = Duration::from_secs(bytes / rate);
    let part = Duration::from_nanos(
        u64::try_from(u128::from(bytes % rate) * 1_000_000_000 / u128::from(rate)).unwrap_or(0),
    );
    (whole + part).saturating_sub(spent).max(PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_by_resting() {
        let second = Duration::from_secs(1);
        assert_eq!(rest(8 << 20, 4 << 20, second / 2), second * 3 / 2);
        assert_eq!(rest(8 << 20, 4 << 20, second * 3), PAUSE);
        assert_eq!(rest(u64::MAX, 0, Duration::ZERO), PAUSE);
        assert_eq!(rest(u64::MAX, u64::MAX, Duration::ZERO), second);
    }
}
