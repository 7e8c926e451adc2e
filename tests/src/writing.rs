//! A volume that is open for writing, for tests: one thread, any storage, and nothing waits.

use std::fmt;
use std::ops::Deref;

use farrier_core::dirty::Memory;
use farrier_core::drive::bulkfree::Freed;
use farrier_core::drive::pfs::PfsChange;
use farrier_core::drive::solo::Solo;
use farrier_core::drive::{Host, ready};
use farrier_core::engine::{Block, BlockId, Cache, Change, Operation, Want};
use farrier_core::error::Error;
use farrier_core::fs::Pfs;
use farrier_core::media::check::Checks;
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, WallTime};
use farrier_core::volume::{FormatOptions, OpenOptions, format};

/// A volume that is open for writing.
#[derive(Debug)]
pub struct WritingHost<S> {
    solo: Solo<S>,
}

impl<S> Deref for WritingHost<S> {
    type Target = Solo<S>;

    fn deref(&self) -> &Solo<S> {
        &self.solo
    }
}

/// Formats `storage` with PFSs LOCAL and DATA.
///
/// # Panics
/// It cannot be formatted.
pub fn format_storage<S: Storage>(storage: &S) {
    let count = u8::try_from(storage.device_count()).unwrap();
    let sizes = (0..count).map(|index| storage.size(DeviceIndex(index))).collect();
    let mut number = 0_u8;
    let options = FormatOptions::new(sizes, WallTime(1_600_000_000_000_000));
    let formatted = format(&options, |bytes| {
        number += 1;
        bytes.fill(number);
    });
    ready(farrier_core::drive::format(storage, &formatted.expect("it can be formatted"))).unwrap();
}

impl<S: Storage> WritingHost<S> {
    /// Opens the file system on `storage` for writing.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open(storage: S, cache_bytes: usize) -> Result<Self, Error> {
        Self::with(storage, OpenOptions::default(), cache_bytes)
    }

    /// As [`WritingHost::open`], opened as `options` say.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn with(storage: S, options: OpenOptions, cache_bytes: usize) -> Result<Self, Error> {
        let options = OpenOptions { checks: Checks::with_crc32c(crc32c::crc32c), ..options };
        let solo = ready(Solo::open_for_writing(storage, options, cache_bytes))?;
        solo.set_dirty_max(u64::MAX);
        Ok(Self { solo })
    }

    /// Opens a PFS for writing.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open_pfs(&self, label: &str) -> Result<Pfs, Error> {
        ready(self.solo.open_tree(label.as_bytes()))
    }

    /// Runs an operation that changes nothing.
    ///
    /// # Errors
    /// Why it failed.
    pub fn run<O: Operation>(&self, operation: &O) -> Result<O::Output, Error>
    where
        O::Output: fmt::Debug,
    {
        ready(self.solo.run(operation))
    }

    /// Runs an operation that changes something.
    ///
    /// # Errors
    /// Why it failed.
    pub fn change<C: Change>(&self, change: &C) -> Result<C::Output, Error>
    where
        C::Output: fmt::Debug,
    {
        ready(self.solo.change(change))
    }

    /// Commits what was changed.
    ///
    /// # Errors
    /// What a device said.
    pub fn flush(&self) -> Result<bool, Error> {
        self.flush_always(false)
    }

    /// Commits, even if nothing was changed.
    ///
    /// # Errors
    /// What a device said.
    pub fn flush_always(&self, always: bool) -> Result<bool, Error> {
        ready(self.solo.flush(always))
    }

    /// Commits a change of the PFSs.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn change_pfs(&self, change: &PfsChange) -> Result<(), Error> {
        ready(self.solo.change_pfs(change))
    }

    /// Frees what nothing refers to; `meanwhile` is done while the scan is on its way.
    ///
    /// # Errors
    /// What could not be read.
    pub fn bulkfree(&self, meanwhile: impl FnOnce(&Self)) -> Result<Freed, Error> {
        let scan = ready(self.solo.begin_bulkfree())?;
        meanwhile(self);
        ready(self.solo.finish_bulkfree(scan))
    }

    /// What is in memory.
    ///
    /// # Panics
    /// It is not open for writing.
    pub fn with_memory<R>(&self, look: impl FnOnce(&Memory) -> R) -> R {
        self.solo.with_memory(|memory| look(memory.expect("open for writing")))
    }
}

impl<S: Storage> Cache for WritingHost<S> {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        self.solo.peek(id)
    }
}

impl<S: Storage> Host for WritingHost<S> {
    fn fetch(&self, want: &Want) -> impl Future<Output = Result<Block, Error>> {
        self.solo.fetch(want)
    }

    fn look<R>(&self, look: impl FnOnce(Option<&Memory>) -> R) -> R {
        self.solo.look(look)
    }

    fn miss_seed(&self) -> u64 {
        self.solo.miss_seed()
    }
}
