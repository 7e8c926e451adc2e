//! The core alone, over a storage and a cache of one's own: what a new host starts from.
//!
//! `own-storage IMAGE` reads a whole image into memory and lists the root of its first PFS.

use std::cell::RefCell;
use std::error::Error;

use farrier_core::drive::{self, Host};
use farrier_core::engine::{Block, BlockCache, BlockId, Cache, Want};
use farrier_core::error::{DeviceFault, Error as CoreError, FaultCause};
use farrier_core::fs::{ListPfs, ReadDir};
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, Inum};
use farrier_core::volume::{OpenOptions, Volume};

/// One device, in memory.
struct Memory(Vec<u8>);

// Writing is left out here: what a storage does not say, it refuses.
impl Storage for Memory {
    fn device_count(&self) -> usize {
        1
    }

    fn size(&self, _: DeviceIndex) -> u64 {
        self.0.len() as u64
    }

    async fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, DeviceFault> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.0.get(start..start.saturating_add(len));
        let fault = DeviceFault::read(device, offset, len, FaultCause::OutOfRange);
        bytes.map(<[u8]>::to_vec).ok_or(fault)
    }
}

/// A volume, and a cache that one thread uses.
struct OneThread {
    memory: Memory,
    volume: Volume,
    cache: RefCell<BlockCache>,
}

impl Cache for OneThread {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        self.cache.borrow().peek(id)
    }
}

impl Host for OneThread {
    async fn fetch(&self, want: &Want) -> Result<Block, CoreError> {
        let block = drive::read_block(&self.volume, &self.memory, want).await?;
        self.cache.borrow_mut().insert(*want.id(), Block::clone(&block));
        Ok(block)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let image = std::env::args_os().nth(1).ok_or("usage: own-storage IMAGE")?;
    let memory = Memory(std::fs::read(image)?);
    // Memory answers at once, so nothing here needs an executor.
    let volume = drive::ready(drive::open(&memory, OpenOptions::default()))?;
    let super_root = volume.super_root();
    let host = OneThread { memory, volume, cache: RefCell::new(BlockCache::new(16 << 20)) };

    let list = drive::ready(drive::run(&host, &ListPfs { super_root }))?;
    let info = list.entries.first().ok_or("the volume holds no PFS")?;
    println!("{}", info.label.escape_ascii());
    let mut position = Some(0);
    while let Some(from) = position {
        let page = ReadDir {
            pfs: info.pfs,
            directory: Inum::ROOT,
            position: from,
            limit: 100,
            with_attributes: false,
        };
        let page = drive::ready(drive::run(&host, &page))?;
        for entry in &page.entries {
            println!("  {} ({})", entry.name.escape_ascii(), entry.kind.name());
        }
        position = page.next;
    }
    Ok(())
}
