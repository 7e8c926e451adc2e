//! A host for tests that writes: one thread, any storage, and a cache of any size.

use std::cell::{Cell, RefCell};
use std::fmt;

use farrier_core::dirty::Memory;
use farrier_core::drive::bulkfree::{self, Freed};
use farrier_core::drive::change::{self, Pressure, WriteHost};
use farrier_core::drive::commit::{self, Flusher};
use farrier_core::drive::pfs::PfsChange;
use farrier_core::drive::{self, Host, open};
use farrier_core::engine::{Block, BlockCache, BlockId, Cache, Change, Operation, Want};
use farrier_core::error::Error;
use farrier_core::flush::{Piece, Placed};
use farrier_core::fs::Pfs;
use farrier_core::media::check::Checks;
use farrier_core::storage::Storage;
use farrier_core::units::WallTime;
use farrier_core::volume::{FormatOptions, OpenOptions, Volume, format};

/// A volume that is open for writing.
pub struct WritingHost<S> {
    storage: S,
    volume: Volume,
    cache: RefCell<BlockCache>,
    memory: RefCell<Memory>,
    flusher: RefCell<Option<Flusher>>,
    seed: Cell<u64>,
}

impl<S> fmt::Debug for WritingHost<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WritingHost({:?})", self.volume)
    }
}

/// Formats `storage` with PFSs LOCAL and DATA.
///
/// # Panics
/// It cannot be formatted.
pub fn format_storage<S: Storage>(storage: &S) {
    let count = u8::try_from(storage.device_count()).unwrap();
    let sizes =
        (0..count).map(|index| storage.size(farrier_core::units::DeviceIndex(index))).collect();
    let mut number = 0_u8;
    let options = FormatOptions::new(sizes, WallTime(1_600_000_000_000_000));
    let formatted = format(&options, |bytes| {
        number += 1;
        bytes.fill(number);
    });
    drive::ready(drive::format(storage, &formatted.expect("it can be formatted"))).unwrap();
}

impl<S: Storage> WritingHost<S> {
    /// Opens the file system on `storage` for writing.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open(storage: S, cache_bytes: usize) -> Result<Self, Error> {
        let checks = Checks::with_crc32c(crc32c::crc32c);
        let options = OpenOptions { checks, ..OpenOptions::default() };
        let volume = drive::ready(open(&storage, options))?;
        let cache = RefCell::new(BlockCache::new(cache_bytes));
        let nothing = Memory::new(volume.super_root(), farrier_core::dirty::Budget::default(), 0);
        let host = Self {
            storage,
            volume,
            cache,
            memory: RefCell::new(nothing),
            flusher: RefCell::new(None),
            seed: Cell::new(1),
        };
        let (flusher, memory) = drive::ready(open::open_for_writing(&host, &host.volume))?;
        host.memory.replace(memory);
        host.flusher.replace(Some(flusher));
        Ok(host)
    }

    /// Opens a PFS for writing.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open_pfs(&self, label: &str) -> Result<Pfs, Error> {
        drive::ready(open::open_tree(self, label.as_bytes()))
    }

    /// The devices.
    pub const fn storage(&self) -> &S {
        &self.storage
    }

    /// The volume as it was opened.
    pub const fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Runs an operation that changes nothing.
    ///
    /// # Errors
    /// Why it failed.
    pub fn run<O: Operation>(&self, operation: &O) -> Result<O::Output, Error>
    where
        O::Output: fmt::Debug,
    {
        drive::ready(drive::run(self, operation))
    }

    /// Runs an operation that changes something.
    ///
    /// # Errors
    /// Why it failed.
    pub fn change<C: Change>(&self, change: &C) -> Result<C::Output, Error>
    where
        C::Output: fmt::Debug,
    {
        drive::ready(change::change(self, change))
    }

    /// Commits what was changed.
    ///
    /// # Errors
    /// What a device said.
    ///
    /// # Panics
    /// Within another flush.
    pub fn flush(&self) -> Result<bool, Error> {
        self.flush_always(false)
    }

    /// Commits, even if nothing was changed.
    ///
    /// # Errors
    /// What a device said.
    ///
    /// # Panics
    /// Within another flush.
    pub fn flush_always(&self, always: bool) -> Result<bool, Error> {
        let mut flusher = self.flusher.borrow_mut();
        let flusher = flusher.as_mut().expect("open for writing");
        drive::ready(commit::flush(self, flusher, always))
    }

    /// Commits a change of the PFSs.
    ///
    /// # Errors
    /// Why it cannot be made.
    ///
    /// # Panics
    /// Within another flush.
    pub fn change_pfs(&self, change: &PfsChange) -> Result<(), Error> {
        let mut flusher = self.flusher.borrow_mut();
        let flusher = flusher.as_mut().expect("open for writing");
        drive::ready(commit::change_pfs(self, flusher, change))
    }

    /// Frees what nothing refers to; `meanwhile` is done while the scan is on its way.
    ///
    /// # Errors
    /// What could not be read.
    ///
    /// # Panics
    /// Within another flush.
    pub fn bulkfree(&self, meanwhile: impl FnOnce(&Self)) -> Result<Freed, Error> {
        let mut scan = {
            let mut flusher = self.flusher.borrow_mut();
            drive::ready(bulkfree::begin(self, flusher.as_mut().expect("open for writing")))?
        };
        meanwhile(self);
        drive::ready(bulkfree::run_scan(self, &mut scan));
        let mut flusher = self.flusher.borrow_mut();
        let flusher = flusher.as_mut().expect("open for writing");
        drive::ready(bulkfree::finish(self, flusher, scan))
    }

    /// What is in memory.
    pub fn with_memory<R>(&self, look: impl FnOnce(&Memory) -> R) -> R {
        look(&self.memory.borrow())
    }
}

impl<S: Storage> Cache for WritingHost<S> {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        self.cache.borrow().peek(id)
    }
}

impl<S: Storage> Host for WritingHost<S> {
    async fn fetch(&self, want: &Want) -> Result<Block, Error> {
        let block = drive::read_block(&self.volume, &self.storage, want).await?;
        self.cache.borrow_mut().insert(*want.id(), Block::clone(&block));
        Ok(block)
    }

    fn look<R>(&self, look: impl FnOnce(Option<&Memory>) -> R) -> R {
        look(Some(&self.memory.borrow()))
    }

    fn miss_seed(&self) -> u64 {
        let seed = self.seed.get().wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        self.seed.set(seed);
        seed
    }
}

impl<S: Storage> WriteHost for WritingHost<S> {
    fn alter<R>(&self, alter: impl FnOnce(&mut Memory) -> R) -> R {
        alter(&mut self.memory.borrow_mut())
    }

    async fn admit(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn relieve(&self, _: Pressure) -> Result<(), Error> {
        for _ in 0..5 {
            self.flush_always(true)?;
        }
        Ok(())
    }

    async fn write(&self, pieces: Vec<Piece>) -> Result<(), Error> {
        for piece in pieces {
            let (device, offset) = self.volume.place_of(piece.offset, piece.bytes.len())?;
            self.storage.write(device, offset, &piece.bytes).await?;
        }
        Ok(())
    }

    async fn write_header(&self, offset: u64, bytes: Vec<u8>) -> Result<(), Error> {
        Ok(self.storage.write(self.volume.root_device(), offset, &bytes).await?)
    }

    async fn barrier(&self) -> Result<(), Error> {
        for piece in self.volume.pieces() {
            self.storage.barrier(piece.device).await?;
        }
        Ok(())
    }

    fn keep(&self, placed: Vec<Placed>) {
        let mut cache = self.cache.borrow_mut();
        for Placed { want, block } in placed {
            cache.insert(*want.id(), block);
        }
    }
}
