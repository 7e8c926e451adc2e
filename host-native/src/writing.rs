//! The write side of a volume: what was changed, in memory, and the way of it to the devices.
//!
//! | module | what it is for |
//! |---|---|
//! | `attach` | copies that come back |
//! | `halt` | waiting for copies that a volume cannot go on without |
//! | `host` | what the core asks of a host that writes |
//! | `catch_up` | copies that are behind |
//! | `commit` | who flushes when, and who waits for it |
//! | `members` | copies that come and go |
//! | `queue` | threads that write to the devices beside the flush |
//! | `scrubbing` | reading everything from every copy |
//! | `spread` | work on many items with several threads |
//! | `watch` | what becomes of copies, and who is told |
//!
//! Invariants:
//! * One flush at a time: whoever holds the flusher's lock. Who waits for the lock shares the flush
//!   that the next holder makes.
//! * The memory's lock is held for the microseconds that looking or changing takes, never while a
//!   device works.
//! * What was changed and cannot be written stays readable; from then on every change is refused.

mod attach;
mod catch_up;
mod commit;
mod halt;
mod host;
mod members;
mod queue;
mod scrubbing;
mod spread;
mod watch;

pub use commit::Flushing;
pub use scrubbing::ScrubWish;
pub(crate) use scrubbing::{note as note_scrub, rest as rest_of_scrub};

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use farrier_core::dirty::Memory;
use farrier_core::drive::change;
use farrier_core::drive::commit::Flusher;
use farrier_core::drive::open::{open_for_writing, open_tree};
use farrier_core::drive::ready;
use farrier_core::engine::Change;
use farrier_core::error::Error;
use farrier_core::fs::Pfs;
use farrier_core::media::damage::DamagedBlock;

use crate::blocks::Store;
use commit::Progress;
use queue::WriteQueue;
use scrubbing::Scrubbing;
use watch::Watch;

/// How to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteOptions {
    /// Memory that changes may take before who makes more has to wait.
    pub dirty_bytes_max: u64,
    /// How long a change stays in memory at most, if nobody asks for it to be written.
    pub commit_interval: Duration,
    /// Threads that compress and compute check codes.
    pub threads: usize,
    /// Copies that are not here at the opening are left alone, wherever they appear: they come back
    /// by somebody's word only.
    pub only_named: bool,
}

impl WriteOptions {
    /// Most that changes may take by default.
    pub const DIRTY_BYTES: u64 = 256 << 20;
    /// Default of [`WriteOptions::commit_interval`].
    pub const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
}

impl Default for WriteOptions {
    fn default() -> Self {
        let system = rustix::system::sysinfo();
        // wide enough for every kind of number that the system counts in
        let part = u128::from(system.totalram) * u128::from(system.mem_unit) / 8;
        let part = u64::try_from(part).unwrap_or(u64::MAX);
        Self {
            dirty_bytes_max: part.clamp(DIRTY_BYTES_MIN, Self::DIRTY_BYTES),
            commit_interval: Self::COMMIT_INTERVAL,
            threads: std::thread::available_parallelism().map_or(2, |n| n.get().clamp(1, 4)),
            only_named: false,
        }
    }
}

/// Least that a flush is worth with: a few pieces for each thread.
pub(crate) const DIRTY_BYTES_MIN: u64 = 8 << 20;

/// A volume that is open for writing.
#[derive(Debug)]
pub(crate) struct Writing {
    store: Arc<Store>,
    options: WriteOptions,
    memory: RwLock<Memory>,
    flusher: Mutex<Flusher>,
    /// Held while a scan for free space goes on.
    scanning: Mutex<()>,
    /// Whether one was begun without anybody asking.
    is_scanning: AtomicBool,
    progress: Mutex<Progress>,
    /// Something about `progress` changed.
    /// The flush thread has something to do.
    wake: Condvar,
    /// A flush is over.
    room: Condvar,
    /// What the memory said last, for those who do not want its lock.
    dirty_bytes: AtomicU64,
    active_bytes: AtomicU64,
    /// Whether the flush thread knows that there is something to do.
    is_noted: AtomicBool,
    /// Free bytes in the part of the freemap that is not in memory.
    unread_free_bytes: AtomicU64,
    /// Whether somebody was told why changes are refused.
    is_failure_told: AtomicBool,
    /// Times that it halted and went on.
    resumes: AtomicU64,
    queue: WriteQueue,
    /// On a volume of copies; one that has none may get some while it is open.
    watch: OnceLock<Watch>,
    scrubbing: Scrubbing,
    /// What reads could not get from any copy; the next flush lists it.
    unread: Mutex<Vec<DamagedBlock>>,
}

impl Writing {
    /// Opens the volume of `store` for writing.
    pub(crate) fn open(store: &Arc<Store>, options: WriteOptions) -> Result<Self, Error> {
        let (flusher, memory) = ready(open_for_writing(&**store, store.volume()))?;
        let unread = match flusher.writer().freemap().counts().unread_zones {
            0 => 0,
            _ => flusher
                .writer()
                .freemap()
                .free_bytes()
                .saturating_sub(flusher.writer().budget().free_bytes()),
        };
        Ok(Self {
            queue: WriteQueue::new(Arc::clone(store)),
            store: Arc::clone(store),
            options,
            memory: RwLock::new(memory),
            watch: Watch::of(&flusher, options.only_named)
                .map_or_else(OnceLock::new, OnceLock::from),
            scrubbing: Scrubbing::default(),
            unread: Mutex::default(),
            flusher: Mutex::new(flusher),
            scanning: Mutex::default(),
            is_scanning: AtomicBool::new(false),
            progress: Mutex::default(),
            wake: Condvar::new(),
            room: Condvar::new(),
            dirty_bytes: AtomicU64::new(0),
            active_bytes: AtomicU64::new(0),
            is_noted: AtomicBool::new(false),
            unread_free_bytes: AtomicU64::new(unread),
            is_failure_told: AtomicBool::new(false),
            resumes: AtomicU64::new(0),
        })
    }

    /// Opens a PFS for writing.
    pub(crate) fn open_tree(&self, label: &[u8]) -> Result<Pfs, Error> {
        ready(open_tree(self, label))
    }

    /// Makes a change. On a volume that failed, the first one is told why; the others only that
    /// nothing can be changed.
    pub(crate) fn change<C: Change>(&self, change: &C) -> Result<C::Output, Error>
    where
        C::Output: core::fmt::Debug,
    {
        let result = ready(change::change(self, change));
        match result {
            Err(error) if self.failed() == Some(error) && !self.may_wait_for(&error) => {
                let is_told = self.is_failure_told.swap(true, Ordering::Relaxed);
                Err(if is_told { Error::ReadOnly } else { error })
            }
            other => other,
        }
    }

    /// Lets `look` see what was changed.
    pub(crate) fn with_memory<R>(&self, look: impl FnOnce(&Memory) -> R) -> R {
        // What panicked has not changed it, or marked it as failed: see `alter`.
        look(&self.memory.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why nothing can be changed any more, if so.
    pub(crate) fn failed(&self) -> Option<Error> {
        self.with_memory(Memory::failed)
    }

    /// Free bytes, those that are reserved for changes taken off.
    pub(crate) fn free_bytes(&self) -> u64 {
        let unread = self.unread_free_bytes.load(Ordering::Relaxed);
        self.with_memory(Memory::free_bytes).saturating_add(unread)
    }
}
