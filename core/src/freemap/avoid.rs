//! Places that do not keep what is written there.
//!
//! They stay allocated, on media too, for as long as the volume is open: nothing that gives space back
//! gives them back. Of an earlier mount they are space that nothing refers to, which a scan frees.

use super::Freemap;
use super::chunk_state;
use super::layout::Spot;
use super::segment::Unit;
use super::zone::Age;
use crate::media::blockref::Location;
use crate::media::freemap::ChunkState;

/// Chunks that are remembered; a device with so many is none any more.
const AVOIDED_MAX: usize = 1 << 12;

impl Freemap {
    /// What is put at `location` does not stay there: its chunks are handed out no more, and not given
    /// back, whatever becomes of what lies there.
    pub fn avoid(&mut self, location: Location) {
        let first = Spot::of(location.offset).number();
        let count = Unit::of(location.radix).map_or(1, Unit::chunks) as u64;
        for chunk in first..first.saturating_add(count) {
            if self.avoided.len() < AVOIDED_MAX {
                self.avoided.insert(chunk);
            }
            self.withhold(Spot::numbered(chunk));
        }
    }

    /// The leaf of `zone` was just read.
    pub(super) fn avoid_again(&mut self, zone: u64) {
        let chunks = self.avoided.iter().map(|chunk| Spot::numbered(*chunk));
        let there: alloc::vec::Vec<_> = chunks.filter(|spot| spot.zone == zone).collect();
        there.into_iter().for_each(|spot| self.withhold(spot));
    }

    fn withhold(&mut self, spot: Spot) {
        self.search.shut(spot.number());
        self.queue.forget(spot.number());
        let is_usable = self.layout.usable(spot.zone).contains(&spot.segment);
        if !is_usable || !self.materialize(spot.zone) {
            return;
        }
        let state = self.zones.get(&spot.zone).map(|zone| chunk_state(zone, spot));
        if state.is_some_and(|state| state != ChunkState::Allocated) {
            self.allot(spot);
        }
        self.set_age(spot, Age::Old);
    }
}
