//! A volume with its files and its cache, as the driver wants them.

use std::cell::RefCell;
use std::fmt;

use farrier_core::drive::{self, Host};
use farrier_core::engine::{Block, BlockCache, BlockId, Cache, Operation, Want};
use farrier_core::error::Error;
use farrier_core::volume::{OpenOptions, Volume};
use web_sys::Blob;

use crate::files::FileSet;

/// No borrow of the cache lives across an await: operations overlap as promises do.
pub(crate) struct Engine {
    volume: Volume,
    files: FileSet,
    cache: RefCell<BlockCache>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("volume", &self.volume).finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) async fn open(files: Vec<Blob>, options: OpenOptions) -> Result<Self, Error> {
        let files = FileSet::new(files);
        let volume = drive::open(&files, options).await?;
        Ok(Self { volume, files, cache: RefCell::new(BlockCache::new(CACHE_BYTES_MAX)) })
    }

    pub(crate) const fn volume(&self) -> &Volume {
        &self.volume
    }

    pub(crate) const fn files(&self) -> &FileSet {
        &self.files
    }

    pub(crate) async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, Error>
    where
        O::Output: fmt::Debug,
    {
        drive::run(self, &operation).await
    }
}

impl Cache for Engine {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        self.cache.borrow().peek(id)
    }
}

impl Host for Engine {
    async fn fetch(&self, want: &Want) -> Result<Block, Error> {
        if let Some(block) = self.peek(want.id()) {
            return Ok(block);
        }
        let block = drive::read_block(&self.volume, &self.files, want).await?;
        self.cache.borrow_mut().insert(*want.id(), Block::clone(&block));
        Ok(block)
    }
}

/// Blocks kept in memory: the whole metadata of most volumes, and little beside a tab's own needs.
const CACHE_BYTES_MAX: usize = 32 << 20;
