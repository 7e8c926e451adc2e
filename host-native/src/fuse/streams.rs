//! Who reads which file in order, so that the blocks behind can be fetched ahead.
//!
//! The kernel opens files without telling us, so there is nothing to hang this on but the inode:
//! a table of fixed size, where files that share a place forget about each other.

use std::sync::Mutex;

use farrier_core::fs::ReadAhead;

use crate::blocks::lock;

/// Files that can be watched at a time.
const PLACES: u64 = 256;

#[derive(Debug)]
pub(crate) struct Streams {
    places: Vec<Mutex<Place>>,
}

#[derive(Debug, Default)]
struct Place {
    inum: u64,
    ahead: ReadAhead,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self { places: (0..PLACES).map(|_| Mutex::default()).collect() }
    }

    /// Takes note of a read of `inum`; how many bytes behind it are worth fetching.
    pub(crate) fn observe(&self, inum: u64, offset: u64, len: usize) -> usize {
        // the remainder is below the number of places
        let index = usize::try_from(inum % PLACES).unwrap_or(0);
        let mut place = lock(&self.places[index]);
        if place.inum != inum {
            *place = Place { inum, ahead: ReadAhead::default() };
        }
        place.ahead.observe(offset, len)
    }
}
