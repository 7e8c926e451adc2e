//! Places on a copy that do not keep what is written there.
//!
//! Some of them are remembered for as long as the volume is open, whatever becomes of the copy
//! meanwhile: nothing is read from there if another copy has it, and nothing is put there.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use alloc::vec::Vec;

use crate::media::blockref::Location;
use crate::units::{MediaOffset, Radix};

/// Places that are remembered of one copy; the oldest goes if there are more. A copy on which as many
/// are found within some minutes is left behind.
const PLACES_MAX: usize = 32;

/// Bad places of one copy.
#[derive(Debug, Default)]
pub(super) struct BadPlaces {
    /// Address and radix, as a blockref has them; 0 for none.
    places: [AtomicU64; PLACES_MAX],
    /// How many were noted.
    count: AtomicUsize,
}

impl BadPlaces {
    pub(super) fn note(&self, location: Location) {
        if self.has(location.offset) {
            return;
        }
        let at = self.count.fetch_add(1, Ordering::AcqRel) % PLACES_MAX;
        if let Some(place) = self.places.get(at) {
            place.store(location.offset.0 | u64::from(location.radix.bits()), Ordering::Release);
        }
    }

    pub(super) fn has(&self, offset: MediaOffset) -> bool {
        // that there is none is nearly always so
        self.count.load(Ordering::Acquire) != 0 && self.all().any(|place| place.offset == offset)
    }

    pub(super) fn forget_all(&self) {
        self.places.iter().for_each(|place| place.store(0, Ordering::Release));
        self.count.store(0, Ordering::Release);
    }

    pub(super) fn list(&self) -> Vec<Location> {
        self.all().collect()
    }

    fn all(&self) -> impl Iterator<Item = Location> {
        self.places.iter().filter_map(|place| {
            let place = place.load(Ordering::Acquire);
            // what is below the least address is the radix
            let radix = Radix::new(u8::try_from(place & RADIX_MASK).ok()?)?;
            Some(Location { offset: MediaOffset(place & !RADIX_MASK), radix })
                .filter(|location| location.offset.0 != 0)
        })
    }
}

const RADIX_MASK: u64 = 0x3f;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u64) -> Location {
        Location { offset: MediaOffset((number + 1) << 14), radix: Radix::new(14).unwrap() }
    }

    #[test]
    fn the_newest_places_are_known() {
        let places = BadPlaces::default();
        assert!(!places.has(MediaOffset(0)) && places.list().is_empty());
        for number in 0..PLACES_MAX as u64 + 3 {
            places.note(place(number));
            places.note(place(number));
            assert!(places.has(place(number).offset));
        }
        assert!(!places.has(place(2).offset) && places.has(place(3).offset));
        assert_eq!(places.list().len(), PLACES_MAX);
        assert!(places.list().contains(&place(7)));
        places.forget_all();
        assert!(places.list().is_empty() && !places.has(place(7).offset));
    }
}
