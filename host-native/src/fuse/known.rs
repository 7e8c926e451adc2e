//! Inodes that the kernel knows, and how often it was told of each.
//!
//! The kernel opens and closes files without telling us. What it tells is that it forgets an inode:
//! one that has no name any more goes then, and not before.
//!
//! Invariants: an inode is counted before the answer that names it is sent; the kernel takes back as
//! much as it was told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Mutex;

use crate::blocks::lock;

/// Parts with a lock of their own.
const SHARDS: u64 = 16;

type Shard = HashMap<u64, Count, BuildHasherDefault<DefaultHasher>>;

#[derive(Debug)]
pub(crate) struct Known {
    shards: Vec<Mutex<Shard>>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Count {
    told: u64,
    /// It may have no name any more.
    has_lost_name: bool,
}

impl Known {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// The kernel is told of `inum`.
    pub(crate) fn tell(&self, inum: u64) {
        lock(self.shard(inum)).entry(inum).or_default().told += 1;
    }

    /// `inum` lost a name; whether the kernel does not know it, so that it may go at once.
    pub(crate) fn lose_name(&self, inum: u64) -> bool {
        match lock(self.shard(inum)).entry(inum) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().has_lost_name = true;
                false
            }
            Entry::Vacant(_) => true,
        }
    }

    /// The kernel takes back `count`; whether it may be time for `inum` to go.
    pub(crate) fn forget(&self, inum: u64, count: u64) -> bool {
        match lock(self.shard(inum)).entry(inum) {
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.told = known.told.saturating_sub(count);
                known.told == 0 && entry.remove().has_lost_name
            }
            Entry::Vacant(_) => false,
        }
    }

    /// Those that may have no name any more, for the end: the kernel has forgotten everything.
    pub(crate) fn nameless(&self) -> Vec<u64> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            all.extend(
                shard.iter().filter(|(_, count)| count.has_lost_name).map(|(inum, _)| *inum),
            );
        }
        all.sort_unstable();
        all
    }

    fn shard(&self, inum: u64) -> &Mutex<Shard> {
        // the remainder is below the number of shards
        &self.shards[usize::try_from(inum % SHARDS).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_without_a_name_goes_with_the_last_that_the_kernel_forgets() {
        let known = Known::new();
        known.tell(5);
        known.tell(5);
        known.tell(6);
        assert!(known.lose_name(7), "nobody knows it");
        assert!(!known.lose_name(5));
        assert_eq!(known.nameless(), [5]);
        assert!(!known.forget(5, 1));
        assert!(known.forget(5, 1));
        assert!(!known.forget(6, 1), "it has its name");
        assert!(!known.forget(6, 1), "forgotten already");
        assert!(known.nameless().is_empty());
    }
}
