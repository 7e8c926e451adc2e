//! Copies that are behind: a thread brings them up to date beside everything else, and whoever
//! mounted is told what becomes of copies.
//!
//! A batch holds the flusher, so that commits wait for one batch at most; then they get their turn.
//! What was filled in is found by the next walk itself: an end at any moment loses nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use farrier_core::copies::{CopyGroup, CopySet, CopyState};
use farrier_core::drive::commit::Flusher;
use farrier_core::drive::ready;
use farrier_core::drive::resync::{Filled, resync};
use farrier_core::error::Error;

use super::Writing;
use crate::blocks::lock;
use crate::control::now;
use crate::copies::{Event, Seen};

/// Bytes that are filled in before others get the flusher.
const BATCH: u64 = 32 << 20;
/// Events that are kept.
const EVENTS_MAX: usize = 64;
/// How long the others have to get it.
const PAUSE: Duration = Duration::from_millis(5);

/// What is known of the copies while they are written.
#[derive(Debug)]
pub(super) struct Watch {
    state: Mutex<WatchState>,
    wake: Condvar,
}

#[derive(Debug)]
struct WatchState {
    /// The record of the group, as of the last change of its copies.
    group: CopyGroup,
    /// The filling in that goes on, or was the last.
    run: Option<Run>,
    /// Why it does not go on.
    stalled: Option<String>,
    /// What happened, oldest first.
    events: VecDeque<Event>,
    is_closing: bool,
}

/// Filling in, from the first batch until nothing is behind.
#[derive(Clone, Copy, Debug)]
struct Run {
    began: Instant,
    bytes: u64,
    unreadable: u64,
}

impl Watch {
    pub(super) fn of(flusher: &Flusher) -> Option<Self> {
        let group = flusher.lineage()?.group().clone();
        let state = WatchState {
            group,
            run: None,
            stalled: None,
            events: VecDeque::new(),
            is_closing: false,
        };
        Some(Self { state: Mutex::new(state), wake: Condvar::new() })
    }

    /// The thread ends after the batch that it is at.
    pub(super) fn close(&self) {
        lock(&self.state).is_closing = true;
        self.wake.notify_all();
    }
}

/// Copies that are written to and do not hold everything.
fn behind(group: &CopyGroup) -> u8 {
    let set = CopySet::of(group);
    set.attached() & !set.in_sync()
}

impl Writing {
    /// Starts the thread that brings copies up to date.
    pub(super) fn catch_up_beside(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        self.watch.as_ref()?;
        let writing = Arc::clone(self);
        let work = move || writing.catch_up_in_time();
        std::thread::Builder::new().name("resync".to_owned()).spawn(work).ok()
    }

    /// Goes on with filling in that could not go on before.
    pub(crate) fn catch_up_again(&self) {
        if let Some(watch) = &self.watch {
            lock(&watch.state).stalled = None;
            watch.wake.notify_all();
        }
    }

    /// What is known of the copies.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let watch = self.watch.as_ref()?;
        let failed = self.failed().map(|error| self.store.explain(&error));
        let state = lock(&watch.state);
        let run = state.run.as_ref();
        Some(Seen {
            group: Some(state.group.clone()),
            failed,
            stalled: state.stalled.clone(),
            unreadable: run.map_or(0, |run| run.unreadable),
            bytes: run.filter(|_| state.stalled.is_none()).map(|run| run.bytes),
            events: state.events.iter().cloned().collect(),
        })
    }

    fn catch_up_in_time(&self) {
        let Some(watch) = &self.watch else { return };
        loop {
            {
                let mut state = lock(&watch.state);
                while !state.is_closing && (behind(&state.group) == 0 || state.stalled.is_some()) {
                    state = watch.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.is_closing {
                    return;
                }
                if state.run.is_none() {
                    state.run = Some(Run { began: Instant::now(), bytes: 0, unreadable: 0 });
                    let copies = self.names(behind(&state.group));
                    drop(state);
                    self.tell_event(
                        watch,
                        format!("{copies}: behind; now being brought up to date"),
                    );
                }
            }
            self.catch_up_a_batch(watch);
            std::thread::sleep(PAUSE);
        }
    }

    fn catch_up_a_batch(&self, watch: &Watch) {
        let had_failed = self.failed().is_some();
        let mut flusher = self.lock_flusher();
        let filled = ready(resync(self, &mut flusher, BATCH));
        let is_behind = flusher.lineage().is_some_and(|lineage| behind(lineage.group()) != 0);
        if let (Ok(filled), Some(run)) = (&filled, &mut lock(&watch.state).run) {
            run.bytes += filled.leaf_bytes;
            run.unreadable = filled.unreadable;
        }
        self.note_copies(&flusher);
        drop(flusher);
        self.room.notify_all();
        match filled {
            Ok(filled) if is_behind => self.look_for_stall(watch, &filled),
            Ok(_) => lock(&watch.state).run = None,
            Err(error) => self.stall_for(watch, &error, had_failed),
        }
    }

    /// A batch that did nothing would be followed by others like it.
    fn look_for_stall(&self, watch: &Watch, filled: &Filled) {
        if filled.leaves > 0 || filled.tables > 0 || filled.joined != 0 {
            return;
        }
        let copies = self.names(filled.behind);
        let text = match filled.unreadable {
            0 => format!(
                "{copies}: stays behind: there is too little free space to go on; free some, then \
                 use `farrier copies resync DIR`"
            ),
            count => format!(
                "{copies}: stays behind: no copy could give {count} blocks that it lacks; remove \
                 what `farrier check` names, then use `farrier copies resync DIR`"
            ),
        };
        self.tell_event(watch, text.clone());
        lock(&watch.state).stalled = Some(text);
    }

    fn stall_for(&self, watch: &Watch, error: &Error, had_failed: bool) {
        let text = self.store.explain(error);
        if !had_failed {
            self.tell_failed(error);
        }
        lock(&watch.state).stalled = Some(text);
    }

    /// Tells what has become of copies since the last time. Called after every commit.
    pub(super) fn note_copies(&self, flusher: &Flusher) {
        let (Some(watch), Some(lineage)) = (&self.watch, flusher.lineage()) else {
            return;
        };
        let group = lineage.group();
        let (before, run) = {
            let mut state = lock(&watch.state);
            let is_same = CopySet::of(&state.group) == CopySet::of(group);
            if is_same && state.group.epoch.id == group.epoch.id {
                return;
            }
            (std::mem::replace(&mut state.group, group.clone()), state.run)
        };
        watch.wake.notify_all();
        for (slot, (old, new)) in (0..).zip(before.slots.iter().zip(&group.slots)) {
            if old.state != new.state
                && let Some(text) = self.event(slot, new.state, run)
            {
                self.tell_event(watch, text);
            }
        }
    }

    /// Tells whoever mounted, and keeps it for those who ask later.
    fn tell_event(&self, watch: &Watch, text: String) {
        self.store.tell(&text);
        let mut state = lock(&watch.state);
        if state.events.len() >= EVENTS_MAX {
            state.events.pop_front();
        }
        state.events.push_back(Event { time_us: now().0, text });
    }

    fn event(&self, slot: u8, state: CopyState, run: Option<Run>) -> Option<String> {
        let copy = self.names(1 << slot);
        match state {
            CopyState::Out | CopyState::Faulted => {
                let devices = self.store.devices();
                let live = self.store.volume().copies();
                let device = live.and_then(|live| live.device(slot));
                let fault = device.and_then(|device| devices.first_fault(device));
                let why = fault.map_or_else(String::new, |fault| format!(" ({})", fault.cause));
                Some(format!(
                    "{copy}: failed{why} and was left behind; the other copies go on; see to the \
                     device, then unmount and mount with all devices, which brings it up to date"
                ))
            }
            CopyState::InSync => {
                let (bytes, time) =
                    run.map_or((0, Duration::ZERO), |run| (run.bytes, run.began.elapsed()));
                Some(format!(
                    "{copy}: holds everything again; {bytes} bytes were filled in within {:.1} s",
                    time.as_secs_f64()
                ))
            }
            _ => None,
        }
    }

    /// `b.img (copy 1)`, for each copy of a mask.
    fn names(&self, copies: u8) -> String {
        let live = self.store.volume().copies();
        let name = |slot: u8| {
            let device = live.and_then(|live| live.device(slot));
            match device.and_then(|device| self.store.devices().path(device)) {
                Some(path) => format!("{} (copy {slot})", path.display()),
                None => format!("copy {slot}"),
            }
        };
        let names: Vec<_> = (0..8).filter(|slot| copies & 1 << slot != 0).map(name).collect();
        names.join(", ")
    }
}
