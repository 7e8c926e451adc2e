//! The clean cache: recently used blocks up to a limit of bytes, second chance eviction.

use alloc::collections::{BTreeMap, VecDeque};
use core::sync::atomic::{AtomicBool, Ordering};

use super::{Block, BlockId};

/// What a cached block costs beside its bytes, roughly.
const ENTRY_OVERHEAD: usize = 192;

/// Blocks in memory, none of them changed.
///
/// Looking up takes `&self`, so that a host may share the cache under a read lock; the mark that
/// spares a used block at the next eviction is an atomic for that reason alone.
#[derive(Debug)]
pub struct BlockCache {
    blocks: BTreeMap<BlockId, Entry>,
    /// Candidates for eviction, oldest first.
    queue: VecDeque<BlockId>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    block: Block,
    used: AtomicBool,
}

impl BlockCache {
    /// An empty cache that holds at most `bytes_max` bytes, its own book-keeping included.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { blocks: BTreeMap::new(), queue: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// The block `id`, if it is here. Never waits.
    #[must_use]
    pub fn peek(&self, id: &BlockId) -> Option<Block> {
        let entry = self.blocks.get(id)?;
        entry.used.store(true, Ordering::Relaxed);
        Some(Block::clone(&entry.block))
    }

    /// Takes a block in, and lets go of others where the limit asks for it.
    ///
    /// A block that is larger than the whole cache is not kept.
    pub fn insert(&mut self, id: BlockId, block: Block) {
        let cost = cost(&block);
        if cost > self.bytes_max || self.blocks.contains_key(&id) {
            return;
        }
        self.evict_to(self.bytes_max - cost);
        self.bytes += cost;
        self.blocks.insert(id, Entry { block, used: AtomicBool::new(false) });
        self.queue.push_back(id);
    }

    /// Bytes held.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.bytes
    }

    fn evict_to(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(id) = self.queue.pop_front() else {
                return;
            };
            let Some(entry) = self.blocks.get(&id) else {
                continue;
            };
            if entry.used.swap(false, Ordering::Relaxed) {
                self.queue.push_back(id);
            } else if let Some(entry) = self.blocks.remove(&id) {
                self.bytes -= cost(&entry.block);
            }
        }
    }
}

fn cost(block: &Block) -> usize {
    block.len() + ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Want;
    use crate::media::blockref::Blockref;
    use crate::media::check::Checks;
    use crate::media::raw::RawBlockref;
    use alloc::vec;
    use zerocopy::FromZeros;

    /// A block of 64 KiB and its identity.
    fn block(number: u64) -> (BlockId, Block) {
        let mut raw = RawBlockref::new_zeroed();
        raw.kind = 3;
        raw.key_bits = 16;
        raw.data_off.set((0x80_0000 + number * 0x1_0000) | 16);
        let want = Want::of(&Blockref::parse(&raw).unwrap().unwrap()).unwrap();
        (*want.id(), want.admit(vec![0; 65536], &Checks::PORTABLE).unwrap())
    }

    #[test]
    fn the_limit_holds_and_a_used_block_outlives_unused_ones() {
        let mut cache = BlockCache::new(4 * (65536 + ENTRY_OVERHEAD));
        let (kept, contents) = block(0);
        cache.insert(kept, contents);
        for number in 1..20 {
            assert!(cache.peek(&kept).is_some(), "lost after {number} others");
            let (id, contents) = block(number);
            cache.insert(id, contents);
            assert!(cache.len_bytes() <= 4 * (65536 + ENTRY_OVERHEAD));
        }
        assert!(cache.peek(&block(1).0).is_none());
    }

    #[test]
    fn a_block_larger_than_the_cache_is_not_kept() {
        let mut cache = BlockCache::new(1000);
        let (id, contents) = block(0);
        cache.insert(id, contents);
        assert_eq!((cache.peek(&id), cache.len_bytes()), (None, 0));
    }
}
