//! Who flushes when, and who waits for it.
//!
//! Whoever holds the flusher flushes: a thread of its own when something has waited for long enough
//! or there is much of it, and everybody who asks that what he changed be on media. The lock is
//! what makes commits shared: who got it late finds that the flush which he waited for was the one
//! that he needed, or makes one for all that wait behind him.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use farrier_core::dirty::TreeId;
use farrier_core::drive::bulkfree::Freed;
use farrier_core::drive::change::WriteHost;
use farrier_core::drive::commit::{Flusher, change_pfs, close, flush};
use farrier_core::drive::heal::heal;
use farrier_core::drive::pfs::PfsChange;
use farrier_core::drive::relocate::relocate;
use farrier_core::drive::{Host, bulkfree, join_all, load_freemap, ready};
use farrier_core::error::Error;
use farrier_core::scan::Step;
use farrier_core::units::Inum;

use super::scrubbing::ScrubWish;
use super::{Writing, attach};
use crate::blocks::lock;
use crate::copies::{self, EventKind};

/// The part of a volume, one in so many, whose space a scan is made for by itself.
const SCAN_SHARE: u64 = 128;
/// Least bytes that one is made for.
const SCAN_BYTES_MIN: u64 = 8 << 20;
/// Bytes of tables that a flush looks through for blocks that need another place.
const RELOCATE_BYTES: u64 = 4 << 20;

/// How far flushing has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Flushes begun, and ended.
    begun: u64,
    ended: u64,
    /// Times that room was made.
    relieved: u64,
    /// Since when something has waited to be flushed.
    since: Option<Instant>,
    /// Somebody asked for a flush.
    is_due: bool,
    /// The flush thread sleeps until it is woken.
    is_asleep: bool,
    /// The end is near: nothing long is begun or gone on with.
    is_closing: bool,
    is_closed: bool,
}

/// The thread that flushes, as long as this lives; what was changed is on media when it is gone.
#[derive(Debug)]
pub struct Flushing {
    writing: Arc<Writing>,
    thread: Option<JoinHandle<()>>,
    /// Brings copies up to date.
    catching_up: Option<JoinHandle<()>>,
    /// Looks for copies that come back.
    looking: Option<JoinHandle<()>>,
}

impl Flushing {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(crate) fn start(writing: Arc<Writing>) -> Result<Self, Error> {
        let of_thread = Arc::clone(&writing);
        let thread = std::thread::Builder::new()
            .name("flush".to_owned())
            .spawn(move || of_thread.flush_in_time())
            .map_err(|_| Error::ReadOnly)?;
        Ok(Self { writing, thread: Some(thread), catching_up: None, looking: None })
    }

    /// Has copies that are behind brought up to date from now on.
    pub(crate) fn catch_up(&mut self) {
        if self.catching_up.is_none() {
            self.catching_up = self.writing.catch_up_beside();
            self.looking = self.writing.look_for_copies_beside();
        }
    }

    /// Does what is wished about the scrub.
    ///
    /// # Errors
    /// A sentence: why that makes no sense now.
    pub(crate) fn scrub(&self, wish: ScrubWish, rate: Option<u64>) -> Result<(), String> {
        self.writing.scrub(wish, rate)
    }

    /// Commits what was changed and ends the thread.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        lock(&self.writing.progress).is_closing = true;
        if let Some(watch) = self.writing.watch.get() {
            watch.close();
        }
        self.writing.scrubbing.close();
        if let Some(thread) = self.catching_up.take() {
            // a thread that panicked has nothing to give back
            let _ = thread.join();
        }
        if let Some(thread) = self.looking.take() {
            attach::end(thread);
        }
        let result = {
            let _no_scan = lock(&self.writing.scanning);
            self.writing.close()
        };
        lock(&self.writing.progress).is_closed = true;
        self.writing.wake.notify_all();
        self.writing.room.notify_all();
        if let Some(thread) = self.thread.take() {
            // a thread that panicked has nothing to give back
            let _ = thread.join();
        }
        result
    }
}

impl Drop for Flushing {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // whoever wants to know asks before
            let _ = self.finish();
        }
    }
}

/// Where changes of an inode are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    OnMedia,
    /// A flush is on its way with them.
    Frozen,
    Active,
}

impl Writing {
    /// Commits everything that was changed before.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.sync_if(|| {
            self.with_memory(|memory| {
                if memory.active_bytes() > 0 {
                    Whereabouts::Active
                } else if memory.is_dirty() {
                    Whereabouts::Frozen
                } else {
                    Whereabouts::OnMedia
                }
            })
        })
    }

    /// Commits where a copy lacks the header of what the volume shows, or the record does not say
    /// where the copies are.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        let live = self.store.volume().copies();
        let places = live.map(|live| copies::places(live, self.store.devices()));
        let mut flusher = self.lock_flusher();
        let mut is_new = flusher.set_hints(&places.unwrap_or_default());
        let witness = flusher.lineage().map(|lineage| lineage.group().witness.id);
        if let Some(path) = witness.and_then(|id| self.store.witness.named(id)) {
            is_new |= flusher.set_witness_place(path.as_os_str().as_bytes());
        }
        match is_new || flusher.lineage().is_some_and(|lineage| lineage.is_lagging()) {
            true => self.flush(&mut flusher, is_new).map(|_| ()),
            false => Ok(()),
        }
    }

    /// Commits what was changed about `inum` before.
    pub(crate) fn sync_inode(&self, tree: TreeId, inum: Inum) -> Result<(), Error> {
        self.sync_if(|| {
            self.with_memory(|memory| match memory.tree(tree) {
                Some(tree) if tree.active().get(inum).is_some() => Whereabouts::Active,
                Some(tree) if tree.frozen().is_some_and(|layer| layer.get(inum).is_some()) => {
                    Whereabouts::Frozen
                }
                _ => Whereabouts::OnMedia,
            })
        })
    }

    /// Commits everything for the last time.
    fn close(&self) -> Result<(), Error> {
        let mut flusher = self.lock_flusher();
        self.flush(&mut flusher, false)?;
        let closed = ready(close(self, &mut flusher));
        self.note_copies(&flusher);
        closed
    }

    /// Commits a change of the PFSs, and everything that was changed before.
    pub(crate) fn change_pfs(&self, change: &PfsChange) -> Result<(), Error> {
        let mut flusher = self.lock_flusher();
        let changed = ready(change_pfs(self, &mut flusher, change));
        self.note_copies(&flusher);
        changed
    }

    fn sync_if(&self, whereabouts: impl Fn() -> Whereabouts) -> Result<(), Error> {
        let begun = lock(&self.progress).begun;
        let needed = match whereabouts() {
            Whereabouts::OnMedia => return Ok(()),
            Whereabouts::Frozen => begun,
            // one that has begun may have frozen before the change was made
            Whereabouts::Active => begun + 1,
        };
        let mut flusher = self.lock_flusher();
        let has_come = lock(&self.progress).ended >= needed;
        if has_come || whereabouts() == Whereabouts::OnMedia {
            return self.failed().map_or(Ok(()), Err);
        }
        self.flush(&mut flusher, false).map(|_| ())
    }

    /// The flusher, when it is free. One that somebody panicked with makes nothing any more.
    pub(super) fn lock_flusher(&self) -> MutexGuard<'_, Flusher> {
        self.flusher.lock().unwrap_or_else(|poisoned| {
            self.alter(|memory| memory.fail(Error::ReadOnly));
            PoisonError::into_inner(poisoned)
        })
    }

    pub(super) fn flush(&self, flusher: &mut Flusher, always: bool) -> Result<bool, Error> {
        {
            let mut progress = lock(&self.progress);
            progress.begun += 1;
            progress.is_due = false;
            progress.since = None;
        }
        // what is changed from here on is noted anew
        self.is_noted.store(false, Ordering::Relaxed);
        let had_failed = self.failed().is_some();
        let bad = self.store.take_bad();
        self.list_unread(flusher);
        let result = ready(async {
            heal(self, flusher, bad).await?;
            let is_new = flush(self, flusher, always).await?;
            relocate(self, flusher, RELOCATE_BYTES).await?;
            Ok(is_new)
        });
        self.note_copies(flusher);
        lock(&self.progress).ended += 1;
        self.room.notify_all();
        if flusher.is_relocating() {
            self.ask_for_flush();
        }
        if let Err(error) = &result
            && !had_failed
        {
            self.tell_failed(error);
        }
        result
    }

    /// Tells why nothing can be changed any more, unless it is waited for that to pass.
    pub(super) fn tell_failed(&self, error: &Error) {
        if self.waiting_text().is_some() {
            return;
        }
        let text = format!(
            "{}; nothing can be changed any more, and what was changed since the last commit is \
             lost when it is unmounted",
            self.store.explain(error)
        );
        self.tell_event(EventKind::MasterLost, None, text);
    }

    /// There is something to flush where there was nothing.
    pub(super) fn note_change(&self) {
        let mut progress = lock(&self.progress);
        progress.since.get_or_insert_with(Instant::now);
        // else it wakes up by itself before this is old
        if std::mem::take(&mut progress.is_asleep) {
            drop(progress);
            self.wake.notify_all();
        }
    }

    pub(super) fn ask_for_flush(&self) {
        let mut progress = lock(&self.progress);
        if !progress.is_due {
            progress.is_due = true;
            drop(progress);
            self.wake.notify_all();
        }
    }

    /// Waits until what was changed takes less memory than it may. A volume that failed lets
    /// everybody through, for they find out themselves.
    pub(super) fn wait_for_room(&self) {
        self.ask_for_flush();
        let mut progress = lock(&self.progress);
        while self.dirty_bytes.load(Ordering::Relaxed) > self.options.dirty_bytes_max
            && self.failed().is_none()
            && !progress.is_closed
        {
            progress = wait(&self.room, progress);
        }
    }

    /// What the flush thread does. It looks around once per interval for as long as it finds
    /// something, and sleeps only then: programs that commit all the time need not wake it up for
    /// each change.
    fn flush_in_time(self: &Arc<Self>) {
        let mut progress = lock(&self.progress);
        let mut found_nothing = false;
        loop {
            if progress.is_closed {
                return;
            }
            let age = progress.since.map(|since| since.elapsed());
            if progress.is_due || age.is_some_and(|age| age >= self.options.commit_interval) {
                drop(progress);
                // an error is told, and kept by the memory
                let _ = self.flush(&mut self.lock_flusher(), false);
                if self.failed().is_none() && self.is_scan_worth_it() {
                    self.scan_beside();
                }
                progress = lock(&self.progress);
                continue;
            }
            if age.is_none() && std::mem::take(&mut found_nothing) {
                progress.is_asleep = true;
                progress = wait(&self.wake, progress);
                progress.is_asleep = false;
            } else {
                let rest = self.options.commit_interval.saturating_sub(age.unwrap_or_default());
                let waited = self.wake.wait_timeout(progress, rest);
                progress = waited.unwrap_or_else(PoisonError::into_inner).0;
                found_nothing = progress.since.is_none();
            }
        }
    }

    /// Who deletes something large wants the space: frees it in a thread of its own, for flushes
    /// have to go on. Where not everything can be read, nothing is freed, and whoever reads that is
    /// told.
    fn scan_beside(self: &Arc<Self>) {
        if self.is_scanning.swap(true, Ordering::Relaxed) {
            return;
        }
        let writing = Arc::clone(self);
        let scan = move || {
            let _ = writing.bulkfree();
            writing.is_scanning.store(false, Ordering::Relaxed);
        };
        if std::thread::Builder::new().name("scan".to_owned()).spawn(scan).is_err() {
            self.is_scanning.store(false, Ordering::Relaxed);
        }
    }

    /// Makes room on media; the harder, the more often it was `asked` for before.
    pub(super) fn make_room(&self, asked: u32) -> Result<(), Error> {
        let relieved = lock(&self.progress).relieved;
        let mut flusher = self.lock_flusher();
        if lock(&self.progress).relieved != relieved {
            // somebody else did meanwhile
            return Ok(());
        }
        match asked {
            0 => {
                self.flush(&mut flusher, false)?;
            }
            1 => {
                self.load_more(&mut flusher)?;
                self.age(&mut flusher)?;
            }
            _ => {
                drop(flusher);
                return self.reclaim();
            }
        }
        lock(&self.progress).relieved += 1;
        Ok(())
    }

    /// Commits until what was given back so far can be used again.
    fn age(&self, flusher: &mut Flusher) -> Result<(), Error> {
        for _ in 0..=flusher.reuse_delay() {
            self.flush(flusher, true)?;
        }
        Ok(())
    }

    /// Loads what is left of the freemap.
    fn load_more(&self, flusher: &mut Flusher) -> Result<(), Error> {
        if flusher.writer().freemap().counts().unread_zones == 0 {
            return Ok(());
        }
        ready(load_freemap(self, 0, flusher.writer_mut().freemap_mut(), u64::MAX))?;
        let budget = flusher.writer().budget();
        self.alter(|memory| memory.set_budget(budget));
        self.unread_free_bytes.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Frees what nothing refers to: a scan of the whole volume, beside which everything goes on.
    fn reclaim(&self) -> Result<(), Error> {
        let relieved = lock(&self.progress).relieved;
        let one_at_a_time = lock(&self.scanning);
        if lock(&self.progress).relieved != relieved {
            return Ok(());
        }
        drop(one_at_a_time);
        self.bulkfree().map(|_| ())
    }

    /// As `reclaim`, for who wants to know what it came to.
    pub(crate) fn bulkfree(&self) -> Result<Freed, Error> {
        let _one_at_a_time = lock(&self.scanning);
        if lock(&self.progress).is_closing {
            return Err(Error::Busy);
        }
        let mut scan = {
            let mut flusher = self.lock_flusher();
            ready(bulkfree::begin(self, &mut flusher))?
        };
        while let Step::Read(wants) = scan.step() {
            if lock(&self.progress).is_closing {
                // the next mount will do it
                bulkfree::end_scan(&mut self.lock_flusher());
                return Err(Error::Busy);
            }
            scan.resume(ready(join_all(wants.iter().map(|want| self.fetch(want)).collect())));
        }
        let mut flusher = self.lock_flusher();
        let freed = ready(bulkfree::finish(self, &mut flusher, scan));
        self.note_copies(&flusher);
        let freed = freed?;
        self.unread_free_bytes.store(0, Ordering::Relaxed);
        lock(&self.progress).relieved += 1;
        Ok(freed)
    }

    /// Whether so much was let go of that only a scan finds that one is worth it by itself.
    fn is_scan_worth_it(&self) -> bool {
        let size = self.store.volume().space().size_bytes;
        let worth = (size / SCAN_SHARE).max(SCAN_BYTES_MIN);
        self.lock_flusher().writer().leaked_bytes() >= worth
    }
}

fn wait<'a>(signal: &Condvar, progress: MutexGuard<'a, Progress>) -> MutexGuard<'a, Progress> {
    signal.wait(progress).unwrap_or_else(PoisonError::into_inner)
}
