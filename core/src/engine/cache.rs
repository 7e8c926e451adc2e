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
    /// By address, which compares faster than a whole identity: one address holds one block, so
    /// what was there before it was reused is let go of.
    blocks: BTreeMap<u64, Entry>,
    /// Candidates for eviction, oldest first; each address of `blocks` once.
    queue: VecDeque<u64>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    id: BlockId,
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
        let entry = self.blocks.get(&id.offset().0).filter(|entry| entry.id == *id)?;
        entry.used.store(true, Ordering::Relaxed);
        Some(Block::clone(&entry.block))
    }

    /// Takes a block in, and lets go of others where the limit asks for it.
    ///
    /// A block that is larger than the whole cache is not kept.
    pub fn insert(&mut self, id: BlockId, block: Block) {
        let (offset, cost) = (id.offset().0, cost(&block));
        if cost > self.bytes_max {
            return;
        }
        if let Some(entry) = self.blocks.get_mut(&offset) {
            if entry.id == id {
                return;
            }
            // the address was reused; its place in the queue stays
            self.bytes -= self::cost(&entry.block);
            self.bytes += cost;
            *entry = Entry { id, block, used: AtomicBool::new(false) };
            return self.evict_to(self.bytes_max);
        }
        self.evict_to(self.bytes_max - cost);
        self.bytes += cost;
        self.blocks.insert(offset, Entry { id, block, used: AtomicBool::new(false) });
        self.queue.push_back(offset);
    }

    /// Bytes held.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.bytes
    }

    fn evict_to(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(offset) = self.queue.pop_front() else {
                return;
            };
            let Some(entry) = self.blocks.get(&offset) else {
                continue;
            };
            if entry.used.swap(false, Ordering::Relaxed) {
                self.queue.push_back(offset);
            } else if let Some(entry) = self.blocks.remove(&offset) {
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
        generation(number, 0)
    }

    /// As [`block`], written by the commit `tid`.
    fn generation(number: u64, tid: u64) -> (BlockId, Block) {
        let mut raw = RawBlockref::new_zeroed();
        raw.kind = 3;
        raw.key_bits = 16;
        raw.mirror_tid.set(tid);
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
    fn what_was_at_an_address_before_is_let_go_of() {
        let mut cache = BlockCache::new(2 * (65536 + ENTRY_OVERHEAD));
        let (old, new, other) = (generation(0, 1), generation(0, 2), block(1));
        for (id, contents) in [old.clone(), new.clone(), other.clone()] {
            cache.insert(id, contents);
        }
        assert_eq!(cache.peek(&old.0), None);
        assert!(cache.peek(&new.0).is_some() && cache.peek(&other.0).is_some());
        assert_eq!(cache.len_bytes(), 2 * (65536 + ENTRY_OVERHEAD));
        // the limit still lets go of everything that was taken in
        for number in 2..10 {
            let (id, contents) = block(number);
            cache.insert(id, contents);
            assert!(cache.len_bytes() <= 2 * (65536 + ENTRY_OVERHEAD));
        }
        assert_eq!(cache.peek(&new.0), None);
    }

    #[test]
    fn a_block_larger_than_the_cache_is_not_kept() {
        let mut cache = BlockCache::new(1000);
        let (id, contents) = block(0);
        cache.insert(id, contents);
        assert_eq!((cache.peek(&id), cache.len_bytes()), (None, 0));
    }
}
