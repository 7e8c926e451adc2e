//! Copies that were away and come back while the volume is in use: noticed, and attached.
//!
//! A thread looks about once a second where the device of a copy that is out was last seen, and at
//! block devices that appear under any name. What says there that it is that copy is attached; the
//! core judges whether it is. Nothing else is touched.
//!
//! Invariants:
//! * A device is opened again only when everything that was sent to it before has come to its end.
//! * One that fails again is tried ever less often, up to a limit, so that it does not keep the
//!   volume busy with leaving it behind.
//! * A copy that somebody detached, that was left behind for its errors, or that was left out at the
//!   mount (`--only`) is not looked for.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use farrier_core::copies::{CopyGroup, CopySet};
use farrier_core::drive::attach::{AttachError, attach, identify};
use farrier_core::drive::ready;
use farrier_core::media::copy_group::COPIES_MAX;
use farrier_core::units::DeviceIndex;

use super::Writing;
use super::watch::Watch;
use crate::blocks::lock;
use crate::copies::{EventKind, record_at};

/// How often is looked while a copy is out.
const LOOK: Duration = Duration::from_secs(1);
/// How often while none is: for one that was lost and that no commit has met yet.
const REST: Duration = Duration::from_secs(5);
/// How long it takes until a device that failed is tried again, at first.
const DELAY: Duration = Duration::from_secs(1);
/// And at most.
const DELAY_MAX: Duration = Duration::from_secs(300);
/// Who has been attached for so long did not fail at once.
const SOON: Duration = Duration::from_secs(60);
/// How long the thread is waited for at the end: it may be looking at a device that hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where the kernel lists block devices.
const BLOCK_DEVICES: &str = "/sys/class/block";

/// What is known of a copy that is out.
#[derive(Clone, Debug)]
struct Absent {
    /// Not before then.
    next: Instant,
    /// How long it takes until it is tried once more.
    delay: Duration,
    /// When it was attached last.
    attached: Option<Instant>,
    /// Why it was not, as was told last.
    told: Option<String>,
    is_out: bool,
}

impl Absent {
    fn new(now: Instant) -> Self {
        Self { next: now, delay: DELAY, attached: None, told: None, is_out: false }
    }

    /// It was found to be out.
    fn note_out(&mut self, now: Instant) {
        if self.is_out {
            return;
        }
        self.is_out = true;
        if self.attached.is_none_or(|attached| now.duration_since(attached) >= SOON) {
            self.delay = DELAY;
        }
        self.put_off(now);
    }

    /// The next time comes later, and the one after it later still.
    fn put_off(&mut self, now: Instant) {
        self.next = now + self.delay;
        self.delay = (self.delay * 2).min(DELAY_MAX);
    }
}

/// Why a device was not attached.
#[derive(Debug)]
enum NotAttached {
    /// It is not there, is used by somebody, or cannot be opened.
    Open(String),
    /// It is another copy than the one that was looked for, or none.
    Other,
    /// It may not be.
    Refused(AttachError),
}

impl Writing {
    /// Starts the thread that looks for copies that come back.
    pub(super) fn look_for_copies_beside(self: &Arc<Self>) -> Option<JoinHandle<()>> {
        self.watch.get()?;
        let writing = Arc::clone(self);
        let work = move || writing.look_for_copies();
        std::thread::Builder::new().name("attach".to_owned()).spawn(work).ok()
    }

    fn look_for_copies(&self) {
        let Some(watch) = self.watch.get() else { return };
        let now = Instant::now();
        let mut absent: [Absent; COPIES_MAX] = std::array::from_fn(|_| Absent::new(now));
        let mut known = block_devices();
        let mut fresh = BTreeSet::new();
        loop {
            let (group, awaited, is_halted) = {
                let state = watch.lock();
                let (awaited, is_halted) = (state.awaited(), state.halt.is_some());
                let pause = if awaited == 0 && !is_halted { REST } else { LOOK };
                let is_same = |state: &mut super::watch::WatchState| {
                    let now = (state.awaited(), state.halt.is_some());
                    !state.is_closing && now == (awaited, is_halted)
                };
                let waited = watch.wake.wait_timeout_while(state, pause, is_same);
                let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                if state.is_closing {
                    return;
                }
                (state.group.clone(), state.awaited(), state.halt.is_some())
            };
            self.record_losses();
            if awaited == 0 && !is_halted {
                (known, fresh) = (block_devices(), BTreeSet::new());
            } else {
                let now = block_devices();
                fresh.extend(now.difference(&known).cloned());
                fresh.retain(|name| now.contains(name));
                known = now;
            }
            if is_halted {
                // nothing else can be done before that
                self.look_after_halt(watch, &fresh);
                continue;
            }
            for (slot, absent) in (0..).zip(&mut absent) {
                if awaited & 1 << slot == 0 {
                    absent.is_out = false;
                    continue;
                }
                absent.note_out(Instant::now());
                self.look_for(watch, &group, slot, absent, &fresh);
            }
        }
    }

    /// A copy that was lost while nothing was written is left behind by a commit of its own.
    fn record_losses(&self) {
        let Some(live) = self.store.volume().copies() else { return };
        if live.lost() & !live.written() != 0 && self.failed().is_none() {
            let mut flusher = self.lock_flusher();
            let is_new = flusher
                .lineage()
                .is_some_and(|lineage| lineage.set().attached() & lineage.live().lost() != 0);
            if is_new {
                // what it fails with is told there
                let _ = self.flush(&mut flusher, true);
            }
        }
    }

    fn look_for(
        &self,
        watch: &Watch,
        group: &CopyGroup,
        slot: u8,
        absent: &mut Absent,
        fresh: &BTreeSet<OsString>,
    ) {
        let devices = self.store.devices();
        let last = self.store.volume().copies().and_then(|live| live.device(slot));
        // its descriptor keeps a device that was pulled from coming back
        if let Some(device) = last.filter(|device| devices.is_open(*device)) {
            devices.release(device);
        }
        if Instant::now() < absent.next {
            return;
        }
        for path in self.places(slot, group, fresh) {
            match self.attach_if(&path, Some(slot), false) {
                Ok(_) => {
                    absent.attached = Some(Instant::now());
                    absent.told = None;
                    return;
                }
                Err(NotAttached::Open(_) | NotAttached::Other) => {}
                Err(NotAttached::Refused(error)) => {
                    let text = format!("{}: {error}", path.display());
                    if absent.told.as_ref() != Some(&text) {
                        self.tell_event(EventKind::CopyRefused, Some(slot), text.clone());
                        absent.told = Some(text);
                    }
                    absent.put_off(Instant::now());
                }
            }
            if watch.lock().is_closing {
                return;
            }
        }
    }

    /// Where the device of a copy may be: where it was last, where its record says, and what appeared.
    pub(super) fn places(
        &self,
        slot: u8,
        group: &CopyGroup,
        fresh: &BTreeSet<OsString>,
    ) -> Vec<PathBuf> {
        let last = self.store.volume().copies().and_then(|live| live.device(slot));
        let last = last.and_then(|device| self.store.devices().path(device));
        let hinted = group.slot(slot).and_then(|copy| hinted(&copy.hint));
        let fresh = fresh.iter().map(|name| Path::new("/dev").join(name));
        last.map(Path::to_owned).into_iter().chain(hinted).chain(fresh).collect()
    }

    /// Attaches the copy on the device at `path`, on somebody's word.
    ///
    /// # Errors
    /// A sentence: why not, and what to do.
    pub(crate) fn attach(&self, path: &Path) -> Result<u8, String> {
        if let (Some(group), Some(live)) = (self.group(), self.store.volume().copies()) {
            let devices = self.store.devices();
            // what failed there before is over, on somebody's word
            let is_left = |slot: u8| CopySet::of(&group).attached() & 1 << slot == 0;
            let left = (0..4).filter(|slot| is_left(*slot)).filter_map(|slot| live.device(slot));
            left.for_each(|device| devices.release(device));
        }
        let done = self.attach_if(path, None, true);
        if let (Ok(slot), Some(watch)) = (&done, self.watch.get()) {
            let state = &mut *watch.lock();
            state.detached &= !(1 << slot);
            state.unnamed &= !(1 << slot);
        }
        done.map_err(|error| match error {
            NotAttached::Open(text) => text,
            NotAttached::Other => format!("{}: holds no copy of this volume", path.display()),
            NotAttached::Refused(error) => format!("{}: {error}", path.display()),
        })
    }

    /// Attaches the copy on the device at `path`, if it is that of `wanted` or any is.
    fn attach_if(
        &self,
        path: &Path,
        wanted: Option<u8>,
        is_asked_for: bool,
    ) -> Result<u8, NotAttached> {
        let watch = self.watch.get().ok_or(NotAttached::Other)?;
        // what a device says stays true until it is attached
        let _one_at_a_time = lock(&watch.attaching);
        if let Some(slot) = wanted {
            // most of what appears somewhere is something else: it is only looked at
            let record = record_at(path).ok_or(NotAttached::Other)?;
            let state = watch.lock();
            let copy = state.group.slot(slot).ok_or(NotAttached::Other)?;
            if record.group != state.group.group || record.device != copy.device {
                return Err(NotAttached::Other);
            }
        }
        let devices = self.store.devices();
        let device = devices.add(path).map_err(|fault| NotAttached::Open(fault.to_string()))?;
        let attached = self.attach_device(device, is_asked_for);
        if attached.is_err() {
            devices.release(device);
        }
        attached.map_err(NotAttached::Refused)
    }

    fn attach_device(&self, device: DeviceIndex, is_asked_for: bool) -> Result<u8, AttachError> {
        let checks = self.store.volume().checks();
        let found = ready(identify(self.store.devices(), device, checks))?;
        let had_failed = self.failed().is_some();
        let mut flusher = self.lock_flusher();
        let attached = ready(attach(self, &mut flusher, &found, is_asked_for));
        self.note_copies(&flusher);
        drop(flusher);
        self.room.notify_all();
        if let (Err(AttachError::Failed(error)), false) = (&attached, had_failed)
            && self.failed().is_some()
        {
            self.tell_failed(error);
        }
        attached
    }
}

/// Waits for the thread, unless it is looking at a device that does not answer.
pub(super) fn end(thread: JoinHandle<()>) {
    let begin = Instant::now();
    while !thread.is_finished() && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    if thread.is_finished() {
        // a thread that panicked has nothing to give back
        let _ = thread.join();
    }
}

/// The place that a record names, if it is one.
fn hinted(hint: &[u8]) -> Option<PathBuf> {
    let path = PathBuf::from(std::str::from_utf8(hint).ok()?);
    path.is_absolute().then_some(path)
}

/// The names of all block devices; none where the system does not tell.
fn block_devices() -> BTreeSet<OsString> {
    let list = std::fs::read_dir(BLOCK_DEVICES).into_iter().flatten();
    list.flatten().map(|entry| entry.file_name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_fails_again_and_again_is_tried_ever_less_often() {
        let mut now = Instant::now();
        let mut absent = Absent::new(now);
        let mut delays = Vec::new();
        for _ in 0..12 {
            absent.note_out(now);
            delays.push((absent.next - now).as_secs());
            now = absent.next;
            absent.attached = Some(now);
            absent.is_out = false;
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        // it was there for long enough
        now += SOON;
        absent.note_out(now);
        assert_eq!(absent.next - now, DELAY);
        // nothing comes of it as long as it is out
        let next = absent.next;
        absent.note_out(now + LOOK);
        assert_eq!(absent.next, next);
    }
}
