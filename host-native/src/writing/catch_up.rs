//! Copies that are behind: a thread brings them up to date beside everything else.
//!
//! A batch holds the flusher, so that commits wait for one batch at most; then they get their turn.
//! What was filled in is found by the next walk itself: an end at any moment loses nothing.

use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use farrier_core::copies::CopyGroup;
use farrier_core::drive::commit::Flusher;
use farrier_core::drive::ready;
use farrier_core::drive::resync::{Filled, resync};
use farrier_core::error::Error;

use super::Writing;
use super::watch::{Run, Watch, WatchState, behind, slots};
use crate::copies::EventKind;

/// Bytes that are filled in before others get the flusher.
pub(super) const BATCH: u64 = 32 << 20;
/// How long the others have to get it.
pub(super) const PAUSE: Duration = Duration::from_millis(5);
/// How often it is told how far that is.
const TELL: Duration = Duration::from_secs(10);

impl Writing {
    /// Starts the thread that brings copies up to date.
    pub(super) fn catch_up_beside(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        self.watch.get()?;
        let writing = Arc::clone(self);
        let work = move || writing.catch_up_in_time();
        std::thread::Builder::new().name("resync".to_owned()).spawn(work).ok()
    }

    /// Goes on with filling in that could not go on before.
    pub(crate) fn catch_up_again(&self) {
        if let Some(watch) = self.watch.get() {
            watch.lock().stalled = None;
            watch.wake.notify_all();
        }
    }

    fn catch_up_in_time(&self) {
        let Some(watch) = self.watch.get() else { return };
        loop {
            {
                let mut state = watch.lock();
                let is_idle = |state: &WatchState| {
                    let goes_on = behind(&state.group) != 0 && state.stalled.is_none();
                    !goes_on && !state.is_replacement_due()
                };
                while !state.is_closing && is_idle(&state) {
                    state = watch.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.is_closing {
                    return;
                }
                if state.is_replacement_due() {
                    drop(state);
                    self.finish_replacements(watch);
                    continue;
                }
                if state.run.is_none() {
                    let behind = behind(&state.group);
                    let group = state.group.clone();
                    drop(state);
                    self.begin_run(watch, &group, behind);
                }
            }
            self.catch_up_a_batch(watch);
            std::thread::sleep(PAUSE);
        }
    }

    fn begin_run(&self, watch: &Watch, group: &CopyGroup, behind: u8) {
        let expected = self.expected(&mut self.lock_flusher(), group, behind);
        let now = Instant::now();
        let run = Run { began: now, bytes: 0, expected, unreadable: 0, told: now };
        watch.lock().run = Some(run);
        let copies = self.names(behind);
        let about = slots(behind).next().filter(|_| behind.count_ones() == 1);
        let text = format!("{copies}: behind; now being brought up to date");
        self.tell_event(EventKind::ResyncStarted, about, text);
    }

    /// What there is to fill in, about: all that the others hold, for copies that hold next to
    /// nothing. Of others it is not known before the walk through the tree.
    fn expected(&self, flusher: &mut Flusher, group: &CopyGroup, behind: u8) -> Option<u64> {
        let source = slots(group.in_sync()).find_map(|copy| flusher.used_bytes(copy))?;
        let missing = |copy: u8| {
            let used = flusher.used_bytes(copy)?;
            (used < source / 2).then(|| source - used)
        };
        slots(behind).map(missing).sum()
    }

    fn catch_up_a_batch(&self, watch: &Watch) {
        let had_failed = self.failed().is_some();
        let mut flusher = self.lock_flusher();
        let filled = ready(resync(self, &mut flusher, BATCH));
        let is_behind = flusher.lineage().is_some_and(|lineage| behind(lineage.group()) != 0);
        let mut so_far = None;
        if let (Ok(filled), Some(run)) = (&filled, &mut watch.lock().run) {
            run.bytes += filled.leaf_bytes;
            run.unreadable = filled.unreadable;
            if run.told.elapsed() >= TELL {
                run.told = Instant::now();
                so_far = Some(*run);
            }
        }
        self.note_copies(&flusher);
        drop(flusher);
        self.room.notify_all();
        if let Some(run) = so_far {
            let of = run.expected.map_or_else(String::new, |bytes| format!(" of about {bytes}"));
            let text = format!("{} bytes{of} are filled in", run.bytes);
            self.keep_event(EventKind::ResyncProgress, None, text);
        }
        match filled {
            Ok(filled) if is_behind => self.look_for_stall(watch, &filled),
            Ok(_) => watch.lock().run = None,
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
        self.tell_event(EventKind::ResyncStalled, None, text.clone());
        watch.lock().stalled = Some(text);
    }

    fn stall_for(&self, watch: &Watch, error: &Error, had_failed: bool) {
        let text = self.store.explain(error);
        if !had_failed {
            self.tell_failed(error);
        }
        watch.lock().stalled = Some(text);
    }
}
