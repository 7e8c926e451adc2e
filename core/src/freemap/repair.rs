//! What seldom happens to a freemap: blocks that it missed, and a volume that grows (media format
//! 9.3, 11.3).

use super::layout::{Layout, Spot};
use super::segment;
use super::zone::{Age, Zone};
use super::{Class, Freemap, chunk_state};
use crate::media::blockref::Location;
use crate::media::freemap::ChunkState;
use crate::media::{CHUNK_LEN, SEGMENT_LEN};
use crate::units::MediaOffset;

/// Why nothing was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unready {
    /// What [`Freemap::unread_for`] names for this offset has to be loaded first.
    Unread(MediaOffset),
    /// The zone cannot be used, or is outside of the volume.
    Unusable,
}

impl Freemap {
    /// A block is referred to that the freemap may not know of, for it is newer than the freemap:
    /// marks it, and returns how many chunks were not marked before.
    ///
    /// Blocks in the formatter's own space are passed over.
    ///
    /// # Errors
    /// Its zone is not in memory, or cannot be.
    pub fn mark_recovered(&mut self, location: Location, class: Class) -> Result<u64, Unready> {
        let first = Spot::of(location.offset);
        if self.layout.is_below_base(first) {
            return Ok(0);
        }
        if !self.layout.usable(first.zone).contains(&first.segment) {
            return Err(Unready::Unusable);
        }
        if self.unread_for(location.offset).is_some() {
            return Err(Unready::Unread(location.offset));
        }
        if !self.materialize(first.zone) {
            return Err(Unready::Unusable);
        }
        let in_chunk = location.offset.0 % CHUNK_LEN + location.len() as u64;
        let count = usize::try_from(in_chunk.div_ceil(CHUNK_LEN)).unwrap_or(1);
        let in_segment = location.offset.0 % SEGMENT_LEN + location.len() as u64;
        let mut marked = 0;
        for chunk in first.chunk..first.chunk + count {
            let spot = Spot { chunk, ..first };
            let state = self.zones.get(&spot.zone).map(|zone| chunk_state(zone, spot));
            if state.is_some_and(|state| state != ChunkState::Allocated) {
                self.change(spot, 1, ChunkState::Allocated);
                marked += 1;
            }
            if self.age(spot) == Age::Waiting {
                self.queue.forget(spot.number());
            }
            self.set_age(spot, Age::Old);
            self.search.shut(spot.number());
        }
        let zone = self.zones.get_mut(&first.zone);
        if let Some(segment) = zone.and_then(|zone| zone.segment_mut(first.segment)) {
            let end = usize::try_from(in_segment).unwrap_or(usize::MAX);
            let is_unclassed = segment.class.get() == 0;
            if is_unclassed {
                segment.class.set(class.code());
            }
            if segment::withdraw_promise(segment, first.chunk, count, end) || is_unclassed {
                self.touch(first.zone);
            }
        }
        Ok(marked)
    }

    /// The volume has `total_size` bytes from now on; returns how many came free, by which
    /// [`free_bytes`](Self::free_bytes) has grown. A size that is not larger changes nothing.
    ///
    /// # Errors
    /// The leaf of the zone in which the volume ended so far is not in memory.
    pub fn grow(&mut self, total_size: u64) -> Result<u64, Unready> {
        let (old, new) = (self.layout, self.layout.with_total(total_size));
        if !new.ends_behind(&old) {
            return Ok(0);
        }
        let last = old.zone_count().saturating_sub(1);
        let gains_in_last = old.usable(last) != new.usable(last);
        // A node that reaches behind the end has to say what it holds there.
        let first_new = if gains_in_last { last } else { old.zone_count() };
        for zone in [first_new, old.zone_count()] {
            let start = Spot { zone, segment: 0, chunk: 0 }.offset();
            if self.unread_for(start).is_some() {
                return Err(Unready::Unread(start));
            }
        }
        let before = self.totals.counts.free_chunks;
        self.layout = new;
        if gains_in_last && let Some(zone) = self.zones.get_mut(&last) {
            zone.widen(new.usable(last));
            self.touch(last);
        }
        self.recount();
        let gained = self.totals.counts.free_chunks.saturating_sub(before) * CHUNK_LEN;
        self.totals.free_bytes = self.totals.free_bytes.saturating_add(gained);
        self.search.found_more();
        Ok(gained)
    }

    /// All counts from the beginning.
    fn recount(&mut self) {
        let layout: Layout = self.layout;
        let totals = &mut self.totals;
        totals.counts = super::Counts::default();
        totals.know_free(layout.usable_count(&(0..layout.zone_count())), true);
        for (start, unknown) in &self.unknown {
            totals.know_free(layout.usable_count(&(*start..unknown.end)), false);
            if unknown.is_readable {
                let inside = unknown.end.min(layout.zone_count()).saturating_sub(*start);
                totals.counts.unread_zones += inside;
            }
        }
        for (number, zone) in &self.zones {
            totals.know_free(layout.usable_count(&(*number..number + 1)), false);
            let Zone { free_chunks, free_groups, .. } = zone;
            totals.counts.free_chunks += u64::from(*free_chunks);
            totals.counts.free_groups += u64::from(*free_groups);
        }
    }
}
