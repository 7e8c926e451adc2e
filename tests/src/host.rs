//! A host for tests: image files, one thread, and a cache of any size.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use farrier_core::drive::{self, Host};
use farrier_core::engine::{Block, BlockCache, BlockId, Cache, Operation, Want};
use farrier_core::error::{DeviceFault, Error, FaultCause};
use farrier_core::media::check::Checks;
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;
use farrier_core::volume::{OpenOptions, Volume};

/// Files as devices.
#[derive(Debug)]
pub struct Files {
    files: Vec<(File, u64)>,
    is_writable: bool,
}

impl Files {
    /// Opens `paths`, in this order.
    ///
    /// # Panics
    /// One cannot be opened.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Self {
        Self::open_for(paths, false)
    }

    /// Opens `paths` for writing too, in this order.
    ///
    /// # Panics
    /// One cannot be opened.
    pub fn open_writable<P: AsRef<Path>>(paths: &[P]) -> Self {
        Self::open_for(paths, true)
    }

    fn open_for<P: AsRef<Path>>(paths: &[P], is_writable: bool) -> Self {
        let open = |path: &P| {
            let options = File::options().read(true).write(is_writable).open(path);
            let file = options.expect("an unpacked image");
            let size = file.metadata().expect("an open file").len();
            (file, size)
        };
        Self { files: paths.iter().map(open).collect(), is_writable }
    }
}

impl Storage for Files {
    fn device_count(&self) -> usize {
        self.files.len()
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        self.files.get(usize::from(device.0)).map_or(0, |(_, size)| *size)
    }

    async fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, DeviceFault> {
        let mut bytes = vec![0; len];
        let (file, _) = &self.files[usize::from(device.0)];
        file.read_exact_at(&mut bytes, offset)
            .map(|()| bytes)
            .map_err(|error| DeviceFault::read(device, offset, len, cause(&error)))
    }

    fn is_writable(&self, _: DeviceIndex) -> bool {
        self.is_writable
    }

    async fn write(
        &self,
        device: DeviceIndex,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceFault> {
        let fault = |cause| DeviceFault::write(device, offset, bytes.len(), cause);
        if !self.is_writable {
            return Err(fault(FaultCause::ReadOnly));
        }
        // as on a block device, where a file would grow
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.size(device)) {
            return Err(fault(FaultCause::OutOfRange));
        }
        let (file, _) = &self.files[usize::from(device.0)];
        file.write_all_at(bytes, offset).map_err(|error| fault(cause(&error)))
    }

    async fn barrier(&self, device: DeviceIndex) -> Result<(), DeviceFault> {
        // tests outlive no power cut, and syncing costs them their time
        if self.is_writable {
            Ok(())
        } else {
            Err(DeviceFault::barrier(device, FaultCause::ReadOnly))
        }
    }
}

fn cause(error: &io::Error) -> FaultCause {
    FaultCause::Medium(error.raw_os_error().unwrap_or(0))
}

/// An opened volume and its cache.
pub struct TestHost<S = Files> {
    storage: S,
    volume: Volume,
    cache: RefCell<BlockCache>,
    seed: RefCell<u64>,
}

impl<S> fmt::Debug for TestHost<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestHost({:?})", self.volume)
    }
}

impl TestHost<Files> {
    /// Opens the file system in `paths`.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open<P: AsRef<Path>>(paths: &[P], allow_truncated: bool) -> Result<Self, Error> {
        Self::over(Files::open(paths), allow_truncated, 32 << 20)
    }
}

impl<S: Storage> TestHost<S> {
    /// Opens the file system on `storage` with a cache of `cache_bytes`.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn over(storage: S, allow_truncated: bool, cache_bytes: usize) -> Result<Self, Error> {
        Self::with(storage, OpenOptions { allow_truncated, ..OpenOptions::default() }, cache_bytes)
    }

    /// As [`TestHost::over`], opened as `options` say.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn with(storage: S, options: OpenOptions, cache_bytes: usize) -> Result<Self, Error> {
        let options = OpenOptions { checks: Checks::with_crc32c(crc32c::crc32c), ..options };
        let volume = drive::ready(drive::open(&storage, options))?;
        let cache = RefCell::new(BlockCache::new(cache_bytes));
        Ok(Self { storage, volume, cache, seed: RefCell::new(1) })
    }

    /// The volume.
    pub const fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The devices.
    pub const fn storage(&self) -> &S {
        &self.storage
    }

    /// Runs `operation` to its end.
    ///
    /// # Errors
    /// Why it failed.
    pub fn run<O: Operation>(&self, operation: &O) -> Result<O::Output, Error>
    where
        O::Output: fmt::Debug,
    {
        drive::ready(drive::run(self, operation))
    }
}

impl<S: Storage> Cache for TestHost<S> {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        self.cache.borrow().peek(id)
    }
}

impl<S: Storage> Host for TestHost<S> {
    async fn fetch(&self, want: &Want) -> Result<Block, Error> {
        let block = drive::read_block(&self.volume, &self.storage, want).await?;
        self.cache.borrow_mut().insert(*want.id(), Block::clone(&block));
        Ok(block)
    }

    fn miss_seed(&self) -> u64 {
        let mut seed = self.seed.borrow_mut();
        *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        *seed
    }
}
