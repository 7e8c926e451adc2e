//! A freemap that a check found wrong is made right again from what is known to be in use (media
//! format 8).
//!
//! Invariants: nothing that was marked as in use comes free here, but for the zones of blocks that
//! cannot be read: what is in use there is what the marks say.

use alloc::boxed::Box;
use alloc::vec::Vec;

use zerocopy::FromZeros;

use super::bulkfree::Step;
use super::layout::Spot;
use super::marks::Marks;
use super::table::{LEAF_BITS, Table};
use super::zone::Zone;
use super::{Freemap, ROOT_SLOTS, Unknown, segment};
use crate::error::Damage;
use crate::media::freemap::SEGMENT_CHUNKS;
use crate::media::raw::RawBlockref;
use crate::media::{SEGMENT_LEN, ZONE_LEN};
use crate::units::MediaOffset;

impl Freemap {
    /// As [`Freemap::new`], of a table that may have entries which cannot be ones: they are left
    /// out, as if their zones had never been touched. Nothing may be allocated before
    /// [`keep`](Self::keep).
    ///
    /// # Errors
    /// None is left: the sound entries make a sound table.
    pub fn salvaged(
        total_size: u64,
        allocator_beg: MediaOffset,
        root: &[RawBlockref; ROOT_SLOTS],
        free_bytes: u64,
        reuse_delay: usize,
    ) -> Result<Self, Damage> {
        let mut sound = [RawBlockref::new_zeroed(); ROOT_SLOTS];
        let mut count = 0;
        for raw in root.iter().filter(|raw| raw.kind != 0) {
            let Some(slot) = sound.get_mut(count) else { break };
            *slot = *raw;
            if Table::parse(&sound, None).is_ok() {
                count += 1;
            } else if let Some(slot) = sound.get_mut(count) {
                *slot = RawBlockref::new_zeroed();
            }
        }
        Self::new(total_size, allocator_beg, &sound, free_bytes, reuse_delay)
    }

    /// Whether a part of it was declared [`unusable`](Self::unusable).
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let count = self.layout.zone_count();
        self.unknown.iter().any(|(start, unknown)| !unknown.is_readable && *start < count)
    }

    /// Makes the blocks that were declared [`unusable`](Self::unusable) anew, as if nothing in
    /// their zones had ever been touched; returns how many there were. Nothing may be allocated
    /// before [`keep`](Self::keep).
    pub fn rebuild(&mut self) -> usize {
        let count = self.layout.zone_count();
        let is_lost = |start: u64, unknown: &Unknown| !unknown.is_readable && start < count;
        let lost: Vec<(u64, Unknown)> = self
            .unknown
            .iter()
            .filter(|(start, unknown)| is_lost(**start, unknown))
            .map(|(start, unknown)| (*start, *unknown))
            .collect();
        for (start, unknown) in &lost {
            self.rebuild_one(*start, unknown);
        }
        self.search.found_more();
        lost.len()
    }

    fn rebuild_one(&mut self, start: u64, unknown: &Unknown) {
        let zones = start..unknown.end;
        self.remove_unknown(&zones);
        if unknown.key_bits == LEAF_BITS {
            let zone = Zone::untouched(self.layout.usable(start));
            self.totals.know_free(self.layout.usable_count(&zones), false);
            self.totals.counts.free_chunks += u64::from(zone.free_chunks);
            self.totals.counts.free_groups += u64::from(zone.free_groups);
            self.zones.insert(start, zone);
            self.touch(start);
        } else if let Some(key) = start.checked_mul(ZONE_LEN) {
            if let Some(entry) = self.tree.find(key, unknown.key_bits) {
                entry.below = Some(Box::new(Table { is_changed: true, ..Table::default() }));
            }
            self.tree.touch(key);
        }
    }

    /// Marks everything as in use that `marks` says is, in the zones that are in memory; returns
    /// how many chunks were not. Nothing is freed.
    pub fn keep(&mut self, marks: &Marks) -> u64 {
        let done = self.each_zone(marks, Step::Keep);
        done.corrupt + done.kept
    }

    /// Makes the sums of a segment what its bitmap says, takes back what it promised, and closes
    /// it if nothing may lie in it. Its leaf is written with the next commit.
    pub fn correct(&mut self, segment: MediaOffset) {
        let spot = Spot::of(segment);
        self.materialize(spot.zone);
        let is_usable = self.layout.usable(spot.zone).contains(&spot.segment);
        let found = self.zones.get_mut(&spot.zone).and_then(|zone| zone.segment_mut(spot.segment));
        let Some(found) = found else { return };
        if is_usable {
            segment::mend(found);
            segment::withdraw_promise(found, 0, SEGMENT_CHUNKS, usize::MAX);
        } else {
            segment::close(found);
        }
        self.touch(spot.zone);
    }

    /// The blocks that speak of `key` are written with the next commit, to their next reserved
    /// places.
    pub fn rewrite(&mut self, key: u64) {
        self.touch(key / ZONE_LEN);
        self.tree.touch(key);
    }

    /// Makes [`free_bytes`](Self::free_bytes) what the bitmaps say, on a volume that can hold
    /// `allocator_size` bytes; not while a part of the freemap is not known.
    pub fn recount_free(&mut self, allocator_size: u64) {
        if !self.unknown.is_empty() {
            return;
        }
        let usable = self.layout.usable_count(&(0..self.layout.zone_count())) * SEGMENT_LEN;
        let free = self.totals.counts.free_chunks * crate::media::CHUNK_LEN;
        let in_use = usable.saturating_sub(free);
        self.totals.free_bytes = allocator_size.saturating_sub(in_use);
    }
}
