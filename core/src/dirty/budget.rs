//! Space that changes in memory may need on media.

use core::ops::{AddAssign, Sub};

/// Size of the unit in which large blocks are allocated: 64 KiB.
const GROUP_LEN: u64 = 64 << 10;
/// Size of a chunk, the unit of the freemap: 16 KiB.
const CHUNK_LEN: u64 = 16 << 10;

/// What something may need on media, in bytes, at worst.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// In blocks of 32 and 64 KiB.
    pub large: u64,
    /// In smaller blocks.
    pub small: u64,
}

impl Cost {
    /// The cost of a block of `len` bytes: allocations are powers of two from 1 KiB to 64 KiB.
    #[must_use]
    pub const fn of_block(len: usize) -> Self {
        let allocated = if len <= 1024 { 1024 } else { len.next_power_of_two() as u64 };
        if allocated > CHUNK_LEN {
            Self { large: GROUP_LEN, small: 0 }
        } else {
            Self { large: 0, small: allocated }
        }
    }

    /// A cost in small blocks only.
    #[must_use]
    pub const fn small(bytes: u64) -> Self {
        Self { large: 0, small: bytes }
    }

    /// All of it, in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.large + self.small
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.large = self.large.saturating_add(other.large);
        self.small = self.small.saturating_add(other.small);
    }
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            large: self.large.saturating_sub(other.large),
            small: self.small.saturating_sub(other.small),
        }
    }
}

/// Free space, as the allocator can hand it out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Budget {
    /// Free chunks of 16 KiB.
    pub free_chunks: u64,
    /// Whole aligned groups of 64 KiB among them.
    pub free_groups: u64,
    /// Bytes of it that only operations which make room may use.
    pub kept_bytes: u64,
}

impl Budget {
    /// Of a device of `total_bytes` with so much left.
    #[must_use]
    pub const fn of(total_bytes: u64, free_chunks: u64, free_groups: u64) -> Self {
        let part = total_bytes / KEPT_PART;
        let kept_bytes = if part < KEPT_MIN {
            KEPT_MIN
        } else if part > KEPT_MAX {
            KEPT_MAX
        } else {
            part
        };
        Self { free_chunks, free_groups, kept_bytes }
    }

    /// What two devices that both get everything have room for: what the fuller one has, and no more
    /// is kept than the smaller one can.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self {
            free_chunks: self.free_chunks.min(other.free_chunks),
            free_groups: self.free_groups.min(other.free_groups),
            kept_bytes: self.kept_bytes.min(other.kept_bytes),
        }
    }

    /// Whether `cost` fits, with `kept` bytes left over.
    #[must_use]
    pub const fn fits(&self, cost: Cost, kept: u64) -> bool {
        let groups = cost.large.div_ceil(GROUP_LEN);
        let bytes = cost.bytes().saturating_add(kept);
        groups <= self.free_groups && bytes <= self.free_chunks.saturating_mul(CHUNK_LEN)
    }

    /// Free bytes.
    #[must_use]
    pub const fn free_bytes(&self) -> u64 {
        self.free_chunks.saturating_mul(CHUNK_LEN)
    }
}

/// A part of this size is kept for operations that make room,
const KEPT_PART: u64 = 64;
/// but so much at least,
const KEPT_MIN: u64 = 512 << 10;
/// and no more than this.
const KEPT_MAX: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_group_holds_small_blocks_only() {
        let budget = Budget { free_chunks: 7, free_groups: 1, kept_bytes: 0 };
        let mut cost = Cost::of_block(65536);
        assert!(budget.fits(cost, 0));
        cost += Cost::of_block(20_000);
        assert!(!budget.fits(cost, 0), "there is one group only");
        let small = Cost::small(7 * CHUNK_LEN);
        assert!(budget.fits(small, 0));
        assert!(!budget.fits(small, 1), "nothing would be left over");
    }

    #[test]
    fn a_small_copy_beside_a_large_one_is_not_kept_empty() {
        let (large, small) = (Budget::of(3 << 30, 1000, 200), Budget::of(64 << 20, 3000, 100));
        let both = Budget { free_chunks: 1000, free_groups: 100, kept_bytes: 1 << 20 };
        assert_eq!((large.least(small), small.least(large)), (both, both));
        assert_eq!(Budget::of(1 << 20, 0, 0).kept_bytes, KEPT_MIN);
        assert_eq!(Budget::of(1 << 40, 0, 0).kept_bytes, KEPT_MAX);
    }
}
