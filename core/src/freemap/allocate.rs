//! Finding room for a block (media format 3.1, 8.5).
//!
//! Each class fills segments of its own, from a cursor that walks on through the volume, so what
//! is written together lies together and nothing is looked at twice. A walk once around the
//! volume that found nothing is remembered until something comes free. When no segment of the
//! class has room, any has.
//!
//! Blocks below 16 KiB go into *open* chunks, which were taken from the bitmap for them by this
//! very mount; their ends are kept in memory, and told to others by `linear`.
//!
//! Invariants: an open chunk is allocated on the bitmap and has been since it was opened; what is
//! behind its end was never handed out.

use alloc::vec::Vec;

use super::layout::Spot;
use super::segment::{self, CHUNK_BYTES, GROUP_CHUNKS, Room, Unit};
use super::zone::{Age, Zone};
use super::{Freemap, Totals};
use crate::error::BlockKind;
use crate::media::CHUNK_LEN;
use crate::media::freemap::{ChunkState, LEAF_SEGMENTS};
use crate::media::raw::RawSegment;
use crate::units::{MediaOffset, Radix};

/// What a block is for: blocks of one class share segments of 4 MiB (media format 8.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// Inodes.
    Inode,
    /// Tables of blockrefs.
    Indirect,
    /// File contents.
    Data,
    /// Directory entries with long names.
    Dirent,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 4] = [Self::Inode, Self::Indirect, Self::Data, Self::Dirent];

    /// The class of blocks of `kind`; header and freemap blocks are not allocated.
    #[must_use]
    pub const fn of(kind: BlockKind) -> Option<Self> {
        match kind {
            BlockKind::Inode => Some(Self::Inode),
            BlockKind::Indirect => Some(Self::Indirect),
            BlockKind::Data => Some(Self::Data),
            BlockKind::Dirent => Some(Self::Dirent),
            BlockKind::Volume | BlockKind::FreemapNode | BlockKind::FreemapLeaf => None,
        }
    }

    /// As segments carry it: the type of the blockref, and 16.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Inode => 0x0110,
            Self::Indirect => 0x0210,
            Self::Data => 0x0310,
            Self::Dirent => 0x0410,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Inode => 0,
            Self::Indirect => 1,
            Self::Data => 2,
            Self::Dirent => 3,
        }
    }
}

/// Where room is looked for, in this order. The first two only when whole groups are scarce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pass {
    room: Room,
    /// In segments of other classes too.
    is_relaxed: bool,
}

impl Pass {
    const ALL: [Self; 4] = [
        Self { room: Room::Broken, is_relaxed: false },
        Self { room: Room::Broken, is_relaxed: true },
        Self { room: Room::Any, is_relaxed: false },
        Self { room: Room::Any, is_relaxed: true },
    ];

    const fn admits(self, segment: &RawSegment, class: Class) -> bool {
        let found = segment.class.get();
        self.is_relaxed || found == class.code() || found == 0
    }

    /// Whether `zone` may have what is looked for.
    const fn may_fit(self, zone: &Zone, unit: Unit) -> bool {
        match (self.room, unit) {
            (_, Unit::Group) => zone.free_groups > 0,
            (Room::Any, _) => zone.free_chunks > 0,
            (Room::Broken, _) => zone.free_chunks > 4 * zone.free_groups,
        }
    }
}

/// What is remembered between one allocation and the next.
#[derive(Debug)]
pub(super) struct Search {
    /// For each class and pass, behind what was last taken.
    cursors: [[Spot; Pass::ALL.len()]; Class::ALL.len()],
    /// For each class, pass and unit, a bit: all was looked through, and nothing came free since.
    exhausted: u64,
    /// Where a whole group was last taken apart.
    broken: Option<Spot>,
    open: [Vec<Open>; Class::ALL.len()],
}

/// A chunk that takes further small blocks.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Its number.
    chunk: u64,
    /// Bytes of it that were handed out.
    used: u32,
}

impl Search {
    pub(super) const fn new(zone: u64) -> Self {
        let start = Spot { zone, segment: 0, chunk: 0 };
        Self {
            cursors: [[start; Pass::ALL.len()]; Class::ALL.len()],
            exhausted: 0,
            broken: None,
            open: [const { Vec::new() }; Class::ALL.len()],
        }
    }

    /// There is room that earlier searches did not see.
    pub(super) const fn found_more(&mut self) {
        self.exhausted = 0;
    }

    pub(super) fn is_open(&self, chunk: u64) -> bool {
        self.open.iter().flatten().any(|open| open.chunk == chunk)
    }

    /// Nothing more is put into `chunk`.
    pub(super) fn shut(&mut self, chunk: u64) {
        self.open.iter_mut().for_each(|open| open.retain(|open| open.chunk != chunk));
    }

    fn cursor(&mut self, class: Class, pass: usize) -> Option<&mut Spot> {
        self.cursors.get_mut(class.index())?.get_mut(pass)
    }

    const fn exhausted_bit(class: Class, pass: usize, unit: Unit) -> u64 {
        1 << (16 * (unit as usize) + 4 * pass + class.index())
    }
}

impl Freemap {
    /// Takes room for a block; `None` if no zone in memory has any: load more, or the volume is
    /// full.
    ///
    /// Blocks of 16 KiB and more are aligned to their size, smaller ones to 1 KiB and lie within
    /// one chunk. A block of 16 KiB or more is put at `near` if that is free and of its class: the
    /// end of the block that comes before it in the file, if the caller knows one. Without it,
    /// blocks of one class that are allocated one after the other lie one after the other.
    pub fn allocate(
        &mut self,
        class: Class,
        radix: Radix,
        near: Option<MediaOffset>,
    ) -> Option<MediaOffset> {
        let Some(unit) = Unit::of(radix) else {
            return self.allocate_small(class, radix);
        };
        let near = near.and_then(|near| self.fits_at(near, class, unit));
        let spot = match near {
            Some(spot) => spot,
            None => self.search(class, unit)?,
        };
        self.take(spot, unit, class, Age::Young);
        Some(spot.offset())
    }

    fn allocate_small(&mut self, class: Class, radix: Radix) -> Option<MediaOffset> {
        // below 16 KiB
        let bytes = 1_u32 << radix.bits();
        let open = self.search.open.get(class.index())?;
        let fits = open.iter().filter(|open| open.used + bytes <= CHUNK_BYTES);
        // the fullest one that fits, so that the others stay good for larger blocks
        let fullest = fits.max_by_key(|open| open.used).copied();
        let (spot, used) = match fullest {
            Some(open) => {
                let spot = Spot::numbered(open.chunk);
                self.add_piece(spot, bytes);
                (spot, open.used)
            }
            None => {
                let spot = self.search(class, Unit::Chunk)?;
                self.take(spot, Unit::Chunk, class, Age::Shared(kib(bytes)));
                (spot, 0)
            }
        };
        let end = used + bytes;
        self.promise(spot, end);
        self.keep_open(class, Open { chunk: spot.number(), used: end });
        Some(MediaOffset(spot.offset().0 + u64::from(used)))
    }

    /// One more small block in a chunk that is open.
    fn add_piece(&mut self, spot: Spot, bytes: u32) {
        let is_scanning = self.is_scanning;
        let Some(zone) = self.zones.get_mut(&spot.zone) else {
            return;
        };
        let mut note = zone.note(spot.segment, spot.chunk);
        if let Age::Shared(live) = note.age() {
            note = note.with_age(Age::Shared(live + kib(bytes)));
        }
        if is_scanning {
            note = note.with_since_scan(true);
        }
        zone.set_note(spot.segment, spot.chunk, note);
    }

    /// Tells other writers that the chunk is in use up to `end`.
    fn promise(&mut self, spot: Spot, end: u32) {
        if let Some(zone) = self.zones.get_mut(&spot.zone)
            && let Some(segment) = zone.segment_mut(spot.segment)
            && let Ok(chunk) = u32::try_from(spot.chunk)
        {
            segment.linear.set(chunk * CHUNK_BYTES + end);
        }
        self.touch(spot.zone);
    }

    fn keep_open(&mut self, class: Class, now: Open) {
        let Some(open) = self.search.open.get_mut(class.index()) else {
            return;
        };
        match open.iter_mut().find(|open| open.chunk == now.chunk) {
            Some(open) => *open = now,
            None => open.push(now),
        }
        let fullest = (0..open.len()).max_by_key(|at| open.get(*at).map_or(0, |open| open.used));
        let is_full = |open: &Open| open.used >= CHUNK_BYTES;
        if let Some(at) = fullest
            && (open.len() > OPEN_MAX || open.get(at).is_some_and(is_full))
        {
            let closed = open.swap_remove(at);
            self.closed(Spot::numbered(closed.chunk));
        }
    }

    /// Where `unit` lies at `near`, if that is in memory, free, and no other class's.
    fn fits_at(&self, near: MediaOffset, class: Class, unit: Unit) -> Option<Spot> {
        let spot = Spot::of(near);
        let zone = self.zones.get(&spot.zone)?;
        let is_aligned = near.0.is_multiple_of(CHUNK_LEN * unit.chunks() as u64);
        if !is_aligned || !zone.usable.contains(&spot.segment) {
            return None;
        }
        let segment = zone.segment(spot.segment)?;
        let strict = Pass { room: Room::Any, is_relaxed: false };
        (strict.admits(segment, class) && segment::is_free(segment, unit, spot.chunk))
            .then_some(spot)
    }

    /// Marks what a search found, for a chunk's life to begin at `age`.
    fn take(&mut self, spot: Spot, unit: Unit, class: Class, age: Age) {
        let (count, is_scanning) = (unit.chunks(), self.is_scanning);
        self.change(spot, count, ChunkState::Allocated);
        let Some(zone) = self.zones.get_mut(&spot.zone) else {
            return;
        };
        for chunk in spot.chunk..spot.chunk + count {
            let note = zone.note(spot.segment, chunk);
            let note = note.with_age(age).with_since_scan(is_scanning);
            zone.set_note(spot.segment, chunk, note);
        }
        let Some(segment) = zone.segment_mut(spot.segment) else {
            return;
        };
        if segment.class.get() == 0 {
            segment.class.set(class.code());
        }
        segment::withdraw_promise(segment, spot.chunk, count, usize::MAX);
        let group = spot.chunk - spot.chunk % GROUP_CHUNKS;
        if unit != Unit::Group && segment::find(segment, Unit::Chunk, Room::Broken, group).is_some()
        {
            self.search.broken = Some(spot);
        }
    }

    /// Finds a free `unit`, in a zone that is in memory then.
    fn search(&mut self, class: Class, unit: Unit) -> Option<Spot> {
        let is_broken_preferred = unit != Unit::Group && are_groups_scarce(&self.totals);
        if is_broken_preferred && let Some(spot) = self.broken_again(class, unit) {
            return Some(spot);
        }
        (0..).zip(Pass::ALL).find_map(|(index, pass)| {
            if pass.room == Room::Broken && !is_broken_preferred {
                return None;
            }
            let bit = Search::exhausted_bit(class, index, unit);
            if self.search.exhausted & bit != 0 {
                return None;
            }
            let start = *self.search.cursor(class, index)?;
            let Some(found) = self.walk(start, class, unit, pass) else {
                self.search.exhausted |= bit;
                return None;
            };
            let cursor = self.search.cursor(class, index)?;
            *cursor = Spot { chunk: found.chunk + unit.chunks(), ..found };
            Some(found)
        })
    }

    /// In the segment in which a group was last taken apart: a search for such segments that found
    /// nothing did not see it.
    fn broken_again(&self, class: Class, unit: Unit) -> Option<Spot> {
        let spot = self.search.broken?;
        let segment = self.zones.get(&spot.zone)?.segment(spot.segment)?;
        let pass = Pass { room: Room::Broken, is_relaxed: false };
        if !pass.admits(segment, class) {
            return None;
        }
        let chunk = segment::find(segment, unit, Room::Broken, 0)?;
        Some(Spot { chunk, ..spot })
    }

    /// Once around the volume from `start`.
    fn walk(&mut self, start: Spot, class: Class, unit: Unit, pass: Pass) -> Option<Spot> {
        let mut from = start;
        let mut is_around = false;
        loop {
            let Some(zone) = self.next_zone(from.zone, unit, pass) else {
                if is_around {
                    return None;
                }
                is_around = true;
                from = Spot { zone: self.layout.first_zone(), segment: 0, chunk: 0 };
                continue;
            };
            if is_around && zone > start.zone {
                return None;
            }
            if zone != from.zone {
                from = Spot { zone, segment: 0, chunk: 0 };
            }
            if let Some(found) = self.search_zone(from, class, unit, pass) {
                return Some(found);
            }
            from = Spot { zone: zone + 1, segment: 0, chunk: 0 };
        }
    }

    /// The next zone at or behind `zone` that may have room.
    fn next_zone(&self, mut zone: u64, unit: Unit, pass: Pass) -> Option<u64> {
        if pass.room == Room::Broken {
            // what was never touched has no broken groups
            let mut zones = self.zones.range(zone..);
            return zones.find(|(_, zone)| pass.may_fit(zone, unit)).map(|(number, _)| *number);
        }
        while zone < self.layout.zone_count() {
            if let Some(loaded) = self.zones.get(&zone) {
                if pass.may_fit(loaded, unit) {
                    return Some(zone);
                }
            } else if let Some(unknown) = self.unknown_at(zone) {
                zone = unknown.end;
                continue;
            } else if !self.layout.usable(zone).is_empty() {
                return Some(zone);
            }
            zone += 1;
        }
        None
    }

    fn search_zone(&mut self, from: Spot, class: Class, unit: Unit, pass: Pass) -> Option<Spot> {
        if !self.materialize(from.zone) {
            return None;
        }
        let zone = self.zones.get(&from.zone)?;
        let needed = CHUNK_BYTES * u32::try_from(unit.chunks()).unwrap_or(u32::MAX);
        zone.usable_from(from.segment).find_map(|(index, segment)| {
            if segment.avail.get() < needed || !pass.admits(segment, class) {
                return None;
            }
            let chunk = if index == from.segment { from.chunk } else { 0 };
            let chunk = find_in(segment, unit, pass.room, chunk)?;
            Some(Spot { zone: from.zone, segment: index, chunk })
        })
    }
}

/// What is smaller than a group first fills up broken groups of the segment; then the cursor goes
/// on, and then back to what it passed over.
fn find_in(segment: &RawSegment, unit: Unit, room: Room, from: usize) -> Option<usize> {
    let broken =
        if unit == Unit::Group { None } else { segment::find(segment, unit, Room::Broken, 0) };
    broken
        .or_else(|| segment::find(segment, unit, room, from))
        .or_else(|| if from > 0 { segment::find(segment, unit, room, 0) } else { None })
}

/// Whether few groups are left that the largest blocks fit into, as such or of all that is free.
const fn are_groups_scarce(totals: &Totals) -> bool {
    let counts = &totals.counts;
    let in_groups = counts.free_groups.saturating_mul(GROUP_CHUNKS as u64);
    counts.free_groups < GROUPS_FEW || in_groups < counts.free_chunks / 8
}

/// A small block's size in KiB.
fn kib(bytes: u32) -> u8 {
    u8::try_from(bytes / 1024).unwrap_or(u8::MAX)
}

/// Fewer whole groups than these (4 MiB) are spared whatever else is free.
const GROUPS_FEW: u64 = 64;
/// Most open chunks of one class.
const OPEN_MAX: usize = 4;

const _: () = assert!(LEAF_SEGMENTS * CHUNK_BYTES as usize == 4 << 20);
