//! What is known of the copies while they are written, and who is told what becomes of them.
//!
//! After every commit the record of the group is compared with what it was: what changed is an
//! event, told to whoever mounted and kept for those who ask later.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use farrier_core::copies::witness::{Telling, WitnessFault};
use farrier_core::copies::{CopyGroup, CopySet, CopyState};
use farrier_core::drive::commit::Flusher;
use farrier_core::media::copy_group::COPIES_MAX;
use farrier_core::media::damage::{DAMAGE_MAX, DamageList, DamagedBlock};
use farrier_core::volume::Counts;

use super::Writing;
use super::halt::Halt;
use crate::blocks::lock;
use crate::copies::{Event, EventKind, Log, Seen};

/// What is known of the copies while they are written.
#[derive(Debug)]
pub(super) struct Watch {
    state: Mutex<WatchState>,
    /// Something about it changed.
    pub(super) wake: Condvar,
    /// Held while a copy that came back is looked at and attached.
    pub(super) attaching: Mutex<()>,
}

#[derive(Debug)]
pub(super) struct WatchState {
    /// The record of the group, as of the last change of its copies.
    pub(super) group: CopyGroup,
    /// The filling in that goes on, or was the last.
    pub(super) run: Option<Run>,
    /// Why it does not go on.
    pub(super) stalled: Option<String>,
    /// What happened.
    events: Log,
    /// What happened on each device so far, as was told.
    counts: [Counts; COPIES_MAX],
    /// Reads that had failed on each device when its copy came in sync.
    settled_reads: [u64; COPIES_MAX],
    /// Copies that somebody said to leave behind, and that do not come back by themselves.
    pub(super) detached: u8,
    /// Copies that were not here at the opening, where only those are to be used that were.
    pub(super) unnamed: u8,
    /// Copies that are taken away as soon as another one holds everything.
    pub(super) replaced: Vec<Replaced>,
    /// Whether the witness was told the last time.
    pub(super) is_witness_lost: bool,
    pub(super) is_closing: bool,
    /// It halted, and waits.
    pub(super) halt: Option<Halt>,
    /// It halted, and has waited long enough.
    pub(super) is_over: bool,
    /// The volume has no copies any more.
    pub(super) is_stripped: bool,
    /// What no copy can give.
    damage: DamageList,
}

/// Filling in, from the first batch until nothing is behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) began: Instant,
    pub(super) bytes: u64,
    /// Bytes that there are to fill in, about, where that can be told.
    pub(super) expected: Option<u64>,
    pub(super) unreadable: u64,
    /// When that was last told.
    pub(super) told: Instant,
}

/// A copy that has a successor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Replaced {
    /// It.
    pub(super) old: u8,
    /// The one that has to hold everything before it goes.
    pub(super) new: u8,
}

impl Replaced {
    /// Whether the successor is as far as it will come.
    pub(super) fn is_due(&self, group: &CopyGroup) -> bool {
        group.slot(self.new).is_none_or(|slot| slot.state != CopyState::Resync)
    }
}

impl WatchState {
    /// Copies that are out, and may come back without anybody's word.
    pub(super) fn awaited(&self) -> u8 {
        let is_out =
            |slot: &u8| self.group.slot(*slot).is_some_and(|copy| copy.state == CopyState::Out);
        let out = (0..4).filter(is_out).fold(0, |mask, slot| mask | 1 << slot);
        out & !self.detached & !self.unnamed
    }

    pub(super) fn is_replacement_due(&self) -> bool {
        self.replaced.iter().any(|one| one.is_due(&self.group))
    }
}

impl Watch {
    /// With `only_named`, copies that are not here are not waited for.
    pub(super) fn of(flusher: &Flusher, only_named: bool) -> Option<Self> {
        let lineage = flusher.lineage()?;
        let group = lineage.group().clone();
        let is_here = |slot: u8| lineage.live().device(slot).is_some();
        let unnamed = (0..4).filter(|slot| only_named && !is_here(*slot));
        let unnamed = unnamed.fold(0, |mask, slot| mask | 1 << slot);
        let state = WatchState {
            group,
            run: None,
            stalled: None,
            events: Log::default(),
            counts: Default::default(),
            settled_reads: [0; COPIES_MAX],
            detached: 0,
            unnamed,
            replaced: Vec::new(),
            is_witness_lost: false,
            is_closing: false,
            halt: None,
            is_over: false,
            is_stripped: false,
            damage: flusher.damage().cloned().unwrap_or_default(),
        };
        let (wake, attaching) = (Condvar::new(), Mutex::default());
        Some(Self { state: Mutex::new(state), wake, attaching })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, WatchState> {
        lock(&self.state)
    }

    /// The threads that look after copies end after what they are at.
    pub(super) fn close(&self) {
        {
            let mut state = self.lock();
            (state.is_closing, state.halt) = (true, None);
        }
        self.wake.notify_all();
    }
}

/// Copies that are written to and do not hold everything.
pub(super) fn behind(group: &CopyGroup) -> u8 {
    let set = CopySet::of(group);
    set.attached() & !set.in_sync()
}

impl Writing {
    /// What is known of the copies.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let watch = self.watch.get()?;
        let failed = self.failed().map(|error| self.store.explain(&error));
        let failed = failed.map(|text| self.waiting_text().unwrap_or(text));
        let scrub = self.scrubbing.status();
        let state = watch.lock();
        if state.is_stripped {
            return None;
        }
        let run = state.run.as_ref();
        let active = run.filter(|_| state.stalled.is_none());
        Some(Seen {
            group: Some(state.group.clone()),
            failed,
            stalled: state.stalled.clone(),
            unreadable: run.map_or(0, |run| run.unreadable),
            bytes: active.map(|run| run.bytes),
            expected_bytes: active.and_then(|run| run.expected),
            time: active.map(|run| run.began.elapsed()),
            scrub,
            detached: state.detached,
            failed_reads: self.failed_reads(&state),
            damage: Some(state.damage.clone()),
            events: state.events.after(0),
        })
    }

    /// What happened to copies behind the event with that number.
    pub(crate) fn events_after(&self, seq: u64) -> Option<Vec<Event>> {
        Some(self.watch.get()?.lock().events.after(seq))
    }

    /// The record of the group, as of the last commit that changed it.
    pub(crate) fn group(&self) -> Option<CopyGroup> {
        Some(self.watch.get()?.lock().group.clone())
    }

    /// Tells what has become of copies since the last time. Called after every commit.
    pub(super) fn note_copies(&self, flusher: &Flusher) {
        let (Some(watch), Some(lineage)) = (self.watch.get(), flusher.lineage()) else {
            return;
        };
        self.note_halt(watch, flusher);
        self.note_counts(watch);
        self.note_list(watch, flusher);
        let group = lineage.group();
        let (before, run, detached) = {
            let mut state = watch.lock();
            let is_same = CopySet::of(&state.group) == CopySet::of(group);
            if is_same && state.group.epoch.id == group.epoch.id {
                return;
            }
            let before = std::mem::replace(&mut state.group, group.clone());
            (before, state.run, state.detached)
        };
        watch.wake.notify_all();
        self.settle_reads(watch, &before, group);
        for (slot, (old, new)) in (0..).zip(before.slots.iter().zip(&group.slots)) {
            if old.state != new.state
                && let Some((kind, text)) = self.event(slot, old.state, new.state, run, detached)
            {
                self.tell_event(kind, Some(slot), text);
            }
        }
        if before.rules() != group.rules() {
            let text = format!("the rules of the group are now: {}", crate::copies::rules(group));
            self.tell_event(EventKind::PolicyChanged, None, text);
        }
        if before.epoch.id != group.epoch.id {
            let epoch = &group.epoch;
            let members: Vec<_> = slots(epoch.members).map(|slot| slot.to_string()).collect();
            let text = format!("epoch {} of copies {}", epoch.seq, members.join(", "));
            self.keep_event(EventKind::EpochMinted, None, text);
        }
    }

    /// A read could not get a block from any copy: the next commit lists it, and there is one soon.
    pub(crate) fn note_damage(&self, block: DamagedBlock) {
        let Some(watch) = self.watch.get() else { return };
        let is_it = |one: &DamagedBlock| one.is_same_place(&block);
        if watch.lock().damage.blocks().iter().any(is_it) {
            return;
        }
        let mut unread = lock(&self.unread);
        // as many as show that there is no room for all
        if unread.len() <= DAMAGE_MAX && !unread.iter().any(is_it) {
            unread.push(block);
            drop(unread);
            self.note_change();
        }
    }

    /// Lists what reads could not get.
    pub(super) fn list_unread(&self, flusher: &mut Flusher) {
        for block in std::mem::take(&mut *lock(&self.unread)) {
            flusher.note_damage(block);
        }
    }

    /// Keeps what no copy can give for those who ask, and tells if that became more.
    fn note_list(&self, watch: &Watch, flusher: &Flusher) {
        let Some(list) = flusher.damage() else { return };
        let before = {
            let mut state = watch.lock();
            if state.damage == *list {
                return;
            }
            std::mem::replace(&mut state.damage, list.clone())
        };
        if flusher.has_new_damage() {
            // it is to last, even if nothing else is changed
            self.note_change();
        }
        let count = list.blocks().len();
        if count > before.blocks().len() || list.is_full() && !before.is_full() {
            let more = if list.is_full() { ", and more than can be listed" } else { "" };
            let text = format!(
                "{count} blocks{more} can be had from no copy; `farrier copies status` names the files"
            );
            self.keep_event(EventKind::Damage, None, text);
        }
    }

    /// Tells whether the witness was told, where that is another answer than the last one.
    pub(super) fn note_witness(&self, telling: &Telling, told: &Result<(), WitnessFault>) {
        let Some(watch) = self.watch.get() else { return };
        let is_lost = told.is_err();
        if std::mem::replace(&mut watch.lock().is_witness_lost, is_lost) == is_lost {
            return;
        }
        if is_lost {
            let why = self.store.witness.fault().unwrap_or_else(|| "the witness".to_owned());
            let text = format!(
                "{why}; what is here goes on, but no copy can be left behind until it is told; see to \
                 it, or `farrier copies policy --witness none DIR`"
            );
            self.tell_event(EventKind::WitnessLost, None, text);
        } else {
            let text = format!("the witness was told of epoch {}", telling.group().epoch.seq);
            self.tell_event(EventKind::WitnessTold, None, text);
        }
    }

    /// Reads that failed on a copy before it was left behind are of no account once it holds
    /// everything again.
    fn settle_reads(&self, watch: &Watch, before: &CopyGroup, now: &CopyGroup) {
        let Some(live) = self.store.volume().copies() else { return };
        let mut state = watch.lock();
        let slots = (0..).zip(before.slots.iter().zip(&now.slots)).zip(&mut state.settled_reads);
        for ((slot, (before, now)), settled) in slots {
            if now.state == CopyState::InSync && before.state != CopyState::InSync {
                *settled = live.counts(slot).read_errors;
            }
        }
    }

    /// Reads that failed while the devices were not there are of no account when the volume goes on.
    pub(super) fn settle_all_reads(&self, state: &mut WatchState) {
        let Some(live) = self.store.volume().copies() else { return };
        for (slot, settled) in (0..).zip(&mut state.settled_reads) {
            *settled = live.counts(slot).read_errors;
        }
    }

    /// Reads that failed on each copy since it came in sync.
    fn failed_reads(&self, state: &WatchState) -> [u64; COPIES_MAX] {
        let mut failed = [0; COPIES_MAX];
        for ((slot, settled), failed) in (0..).zip(&state.settled_reads).zip(&mut failed) {
            let reads =
                self.store.volume().copies().map_or(0, |live| live.counts(slot).read_errors);
            // fewer than before: they were counted from zero again
            *failed = reads.checked_sub(*settled).unwrap_or(reads);
        }
        failed
    }

    /// Tells what was bad since the last time, and what was written again.
    fn note_counts(&self, watch: &Watch) {
        let Some(live) = self.store.volume().copies() else { return };
        for slot in (0..).take(COPIES_MAX) {
            let now = live.counts(slot);
            let before = {
                let mut state = watch.lock();
                let kept = state.counts.get_mut(usize::from(slot));
                kept.map_or(now, |kept| std::mem::replace(kept, now))
            };
            let copy = || self.names(1 << slot);
            let bad = (now.check_errors + now.read_errors)
                .saturating_sub(before.check_errors + before.read_errors);
            if bad > 0 {
                let text = format!(
                    "{}: {bad} reads failed or gave something else than was written; other copies \
                     were asked",
                    copy()
                );
                self.tell_event(EventKind::Damage, Some(slot), text);
            }
            let healed = now.healed.saturating_sub(before.healed);
            if healed > 0 {
                let text =
                    format!("{}: {healed} bad blocks were written again from another copy", copy());
                self.tell_event(EventKind::Healed, Some(slot), text);
            }
            let relocated = now.relocated.saturating_sub(before.relocated);
            if relocated > 0 {
                let text = format!(
                    "{}: {relocated} bad blocks were written to other places on it, since theirs \
                     take nothing any more; see to the device",
                    copy()
                );
                self.tell_event(EventKind::Relocated, Some(slot), text);
            }
        }
    }

    /// Keeps for those who ask that a copy was made the master by rule.
    pub(crate) fn note_promotion(&self, text: String) {
        self.keep_event(EventKind::Promoted, None, text);
    }

    /// Tells whoever mounted, and keeps it for those who ask later.
    pub(super) fn tell_event(&self, kind: EventKind, copy: Option<u8>, text: String) {
        self.store.tell(&text);
        self.keep_event(kind, copy, text);
    }

    /// Keeps it for those who ask.
    pub(super) fn keep_event(&self, kind: EventKind, copy: Option<u8>, text: String) {
        if let Some(watch) = self.watch.get() {
            watch.lock().events.push(kind, copy, text);
        }
    }

    /// What it means that the state of a copy became another one.
    fn event(
        &self,
        slot: u8,
        old: CopyState,
        new: CopyState,
        run: Option<Run>,
        detached: u8,
    ) -> Option<(EventKind, String)> {
        use CopyState as S;
        let copy = self.names(1 << slot);
        Some(match (old, new) {
            (_, S::Out | S::Faulted) if detached & 1 << slot != 0 => (
                EventKind::CopyDetached,
                format!("{copy}: detached; it holds everything up to now and may come back"),
            ),
            (_, S::Faulted) => (
                EventKind::CopyEjected,
                format!(
                    "{copy}: too many of its blocks were bad within a few minutes, and it was left \
                     behind; the other copies go on; see to the device, then `farrier copies attach`, \
                     or replace it"
                ),
            ),
            (_, S::Out) => {
                let devices = self.store.devices();
                let live = self.store.volume().copies();
                let device = live.and_then(|live| live.device(slot));
                let fault = device.and_then(|device| devices.first_fault(device));
                let why = fault.map_or_else(String::new, |fault| format!(" ({})", fault.cause));
                (
                    EventKind::CopyEjected,
                    format!(
                        "{copy}: failed{why} and was left behind; the other copies go on; see to \
                         the device; it is brought up to date when it comes back"
                    ),
                )
            }
            (_, S::InSync) => {
                let (bytes, time) =
                    run.map_or((0, Duration::ZERO), |run| (run.bytes, run.began.elapsed()));
                (
                    EventKind::ResyncDone,
                    format!(
                        "{copy}: holds everything again; {bytes} bytes were filled in within {:.1} s",
                        time.as_secs_f64()
                    ),
                )
            }
            (_, S::Retired) => (
                EventKind::CopyRemoved,
                format!("{copy}: taken away for good; the device is free for something else"),
            ),
            (S::Empty | S::Retired | S::New, S::Resync | S::New) => {
                (EventKind::CopyAdded, format!("{copy}: added; now being filled in"))
            }
            (S::Out | S::Faulted | S::Diverged, S::Resync | S::Stale) => {
                (EventKind::CopyReturned, format!("{copy}: is back and will be brought up to date"))
            }
            _ => return None,
        })
    }

    /// `b.img (copy 1)`, for each copy of a mask.
    pub(super) fn names(&self, copies: u8) -> String {
        let live = self.store.volume().copies();
        let name = |slot: u8| {
            let device = live.and_then(|live| live.device(slot));
            match device.and_then(|device| self.store.devices().path(device)) {
                Some(path) => format!("{} (copy {slot})", path.display()),
                None => format!("copy {slot}"),
            }
        };
        let names: Vec<_> = slots(copies).map(name).collect();
        names.join(", ")
    }
}

/// The copies of a mask.
pub(super) fn slots(copies: u8) -> impl Iterator<Item = u8> {
    (0..8).filter(move |slot| copies & 1 << slot != 0)
}
