//! The block allocator: which space is free, taken, or to be freed (media format 8). Floor 4.
//!
//! A [`Freemap`] holds the leaves that were handed to it, allocates from them, and hands out the
//! blocks that a commit has to write. It reads and writes nothing itself, and no clock or
//! randomness tells it what to do: the same calls give the same bytes.
//!
//! * [`Freemap::new`], [`unread`](Freemap::unread), [`load`](Freemap::load): from media, as far
//!   as it is needed. A zone (1 GiB) that no leaf speaks of was never touched and is free.
//! * [`Freemap::allocate`] takes space, [`Freemap::retire`] gives back what this mount took.
//! * [`Freemap::seal`] makes the blocks of one commit, [`Freemap::committed`] hears of its end.
//! * [`Freemap::begin_scan`], [`stage`](Freemap::stage), [`free_staged`](Freemap::free_staged)
//!   with [`Marks`]: freeing what a scan of everything found unreferenced.
//! * [`Freemap::avoid`]: places that nothing stays at.
//! * [`Freemap::mark_recovered`], [`Freemap::grow`]: what seldom happens.
//! * [`Freemap::salvaged`], [`rebuild`](Freemap::rebuild), [`keep`](Freemap::keep): repair.
//!
//! What always holds:
//! * Only chunks that are free on media *and* in memory are allocated, never in reserved space.
//! * `avail` of every usable segment in memory is what its bitmap says, whatever lay on media; the
//!   bitmaps alone are believed. `allocator_free` moves by 16 KiB with each chunk that stops or
//!   starts to be free, and by nothing else.
//! * `linear` promises that the rest of a chunk is unused (media format 9.5). It is kept true for
//!   others, and never used: this mount puts small blocks only into chunks that it opened itself.
//! * A chunk that was retired stays marked as allocated until as many headers without it are
//!   durable as could be fallen back to (trap 29).
//!
//! What it does not know: the tree of the volume, who refers to a block and how often, whether a
//! block that it handed out was written, and how many devices there are.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

pub use allocate::Class;
pub use bulkfree::Staged;
pub use marks::Marks;
pub use repair::Unready;
pub use seal::Sealed;

use crate::error::{BlockKind, Damage, DamageKind};
use crate::media::blockref::{Blockref, slots};
use crate::media::freemap::{ChunkState, FREEMAP_BLOCK_LEN};
use crate::media::raw::RawBlockref;
use crate::media::{CHUNK_LEN, SEGMENT_LEN};
use crate::units::MediaOffset;
use allocate::Search;
use layout::{Layout, Spot};
use reuse::Queue;
use segment::Free;
use table::{LEAF_BITS, Table};
use zone::Zone;

mod allocate;
mod avoid;
mod bulkfree;
mod layout;
mod marks;
mod repair;
mod restore;
mod reuse;
mod seal;
mod segment;
mod table;
mod zone;

/// The allocator of one volume.
#[derive(Debug)]
pub struct Freemap {
    layout: Layout,
    tree: Table,
    /// The header's table as it was last read or sealed.
    root: [RawBlockref; ROOT_SLOTS],
    /// Zones in memory, by number.
    zones: BTreeMap<u64, Zone>,
    /// Stretches of zones that are not in memory though a blockref speaks of them, by first zone.
    unknown: BTreeMap<u64, Unknown>,
    totals: Totals,
    /// Zones whose leaf has to be written.
    changed: BTreeSet<u64>,
    /// Commits that were sealed and are durable; distinguishes one commit from the next.
    commit: u64,
    search: Search,
    queue: Queue,
    /// Chunks that are handed out no more, by number.
    avoided: BTreeSet<u64>,
    is_scanning: bool,
    /// Scans that began so far.
    scans: u64,
}

/// What is free in the zones whose state is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Chunks of 16 KiB.
    pub free_chunks: u64,
    /// Groups of four of them that a block of 64 KiB fits into.
    pub free_groups: u64,
    /// Zones whose leaf is not in memory and can be loaded; nothing is allocated from them.
    pub unread_zones: u64,
}

#[derive(Clone, Copy, Debug)]
struct Totals {
    counts: Counts,
    /// `allocator_free` of the header.
    free_bytes: u64,
}

impl Totals {
    const fn count(&mut self, change: Free) {
        let counts = &mut self.counts;
        counts.free_chunks = counts.free_chunks.saturating_add_signed(change.chunks as i64);
        counts.free_groups = counts.free_groups.saturating_add_signed(change.groups as i64);
        let bytes = change.chunks as i64 * CHUNK_LEN as i64;
        self.free_bytes = self.free_bytes.saturating_add_signed(bytes);
    }

    /// `segments` wholly free ones became known, or no longer are.
    const fn know_free(&mut self, segments: u64, is_known: bool) {
        let (chunks, groups) = (segments * (SEGMENT_LEN / CHUNK_LEN), segments * 64);
        let counts = &mut self.counts;
        if is_known {
            counts.free_chunks += chunks;
            counts.free_groups += groups;
        } else {
            counts.free_chunks = counts.free_chunks.saturating_sub(chunks);
            counts.free_groups = counts.free_groups.saturating_sub(groups);
        }
    }
}

/// A stretch of zones that a blockref speaks of.
#[derive(Clone, Copy, Debug)]
struct Unknown {
    /// Behind its last zone.
    end: u64,
    key_bits: u8,
    /// Its block may be asked for: it was not declared unusable, and is inside of the volume.
    is_readable: bool,
}

/// Slots of the header's table.
const ROOT_SLOTS: usize = 4;

impl Freemap {
    /// For a volume of `total_size` bytes by its header: `allocator_beg`, the freemap's table and
    /// `allocator_free`.
    ///
    /// A chunk that is [retired](Self::retire) becomes free when `reuse_delay` headers without it
    /// are durable: 4 if each header slot shall stay good to fall back to, at least 1.
    ///
    /// # Errors
    /// An entry of the table that cannot be one. Nothing can be allocated then.
    pub fn new(
        total_size: u64,
        allocator_beg: MediaOffset,
        root: &[RawBlockref; ROOT_SLOTS],
        free_bytes: u64,
        reuse_delay: usize,
    ) -> Result<Self, Damage> {
        let layout = Layout::new(total_size, allocator_beg.0);
        let mut freemap = Self {
            layout,
            tree: Table::parse(root, None)?,
            root: *root,
            zones: BTreeMap::new(),
            unknown: BTreeMap::new(),
            totals: Totals { counts: Counts::default(), free_bytes },
            changed: BTreeSet::new(),
            commit: 1,
            search: Search::new(layout.first_zone()),
            queue: Queue::new(reuse_delay),
            avoided: BTreeSet::new(),
            is_scanning: false,
            scans: 0,
        };
        let all = 0..layout.zone_count();
        freemap.totals.know_free(layout.usable_count(&all), true);
        let spans: Vec<_> = spans(&freemap.tree).collect();
        spans.into_iter().for_each(|(zones, bits)| freemap.add_unknown(zones, bits));
        Ok(freemap)
    }

    /// Blocks of the freemap that are not in memory, at most `limit`: nodes first, for they lead
    /// to more, then leaves in the order of their zones.
    #[must_use]
    pub fn unread(&self, limit: usize) -> Vec<Blockref> {
        let of = |is_leaf: bool| {
            let wanted = move |unknown: &Unknown| {
                unknown.is_readable && (unknown.key_bits == LEAF_BITS) == is_leaf
            };
            self.unknown.iter().filter(move |(_, unknown)| wanted(unknown))
        };
        let blockref = |(zone, _): (&u64, &Unknown)| self.unread_at(*zone);
        of(false).chain(of(true)).filter_map(blockref).take(limit).collect()
    }

    /// The block that has to be loaded before anything can be known of the zone of `offset`, if
    /// one can be.
    #[must_use]
    pub fn unread_for(&self, offset: MediaOffset) -> Option<Blockref> {
        let zone = Spot::of(offset).zone;
        self.unknown_at(zone).filter(|unknown| unknown.is_readable)?;
        self.unread_at(zone)
    }

    fn unread_at(&self, zone: u64) -> Option<Blockref> {
        let entry = self.tree.deepest(zone.checked_mul(crate::media::ZONE_LEN)?)?;
        Blockref::parse(&entry.raw).ok().flatten()
    }

    /// Whether all that can be known is.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.totals.counts.unread_zones == 0
    }

    /// Takes the contents of a block that [`unread`](Self::unread) named, which its check code
    /// vouches for. Other blocks, and those that are in memory already, are passed over.
    ///
    /// A leaf may say anything: where its sums do not agree with its bitmaps, they are mended in
    /// memory, and on media when the leaf changes.
    ///
    /// # Errors
    /// What a node may not say, or the wrong number of bytes. See [`unusable`](Self::unusable).
    pub fn load(&mut self, blockref: &Blockref, bytes: &[u8]) -> Result<(), Damage> {
        let zones = table::zones(blockref.key(), blockref.key_bits());
        let is_wanted =
            |unknown: &Unknown| unknown.is_readable && unknown.key_bits == blockref.key_bits();
        if !self.unknown.get(&zones.start).is_some_and(is_wanted) {
            return Ok(());
        }
        if bytes.len() != FREEMAP_BLOCK_LEN {
            return Err(Damage::new(blockref.place(), DamageKind::NotAllowed));
        }
        if blockref.kind() == BlockKind::FreemapLeaf {
            if let Some(zone) = Zone::loaded(bytes, self.layout.usable(zones.start)) {
                self.remove_unknown(&zones);
                self.totals.know_free(self.layout.usable_count(&zones), false);
                self.totals.counts.free_chunks += u64::from(zone.free_chunks);
                self.totals.counts.free_groups += u64::from(zone.free_groups);
                self.zones.insert(zones.start, zone);
                self.avoid_again(zones.start);
            }
        } else {
            let below = Table::parse(slots(bytes), Some(blockref))?;
            let spans: Vec<_> = spans(&below).collect();
            if let Some(entry) = self.tree.find(blockref.key(), blockref.key_bits()) {
                entry.below = Some(below.into());
                self.remove_unknown(&zones);
                spans.into_iter().for_each(|(zones, bits)| self.add_unknown(zones, bits));
            }
        }
        self.search.found_more();
        Ok(())
    }

    /// The block cannot be had, or says what it may not: nothing is allocated from the zones that
    /// it covers, nothing in them is freed, and it stays on media as it is.
    pub fn unusable(&mut self, blockref: &Blockref) {
        let zones = table::zones(blockref.key(), blockref.key_bits());
        let known = self.layout.zone_count();
        let unknown = self.unknown.get_mut(&zones.start);
        if let Some(unknown) = unknown.filter(|unknown| unknown.key_bits == blockref.key_bits())
            && unknown.is_readable
        {
            unknown.is_readable = false;
            let inside = zones.end.min(known).saturating_sub(zones.start);
            let unread = &mut self.totals.counts.unread_zones;
            *unread = unread.saturating_sub(inside);
        }
    }

    /// Bytes that the volume has, as far as its segments are whole.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        self.layout.total_bytes()
    }

    /// What is free in the zones whose state is known.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.totals.counts
    }

    /// What the header says is free, `allocator_free`, in bytes. It covers zones that are not in
    /// memory too, and may exceed what can be allocated (media format 8.4).
    #[must_use]
    pub const fn free_bytes(&self) -> u64 {
        self.totals.free_bytes
    }

    /// State of the chunk that `offset` lies in; `None` in zones that are not known. Reserved
    /// space is allocated.
    #[must_use]
    pub fn state(&self, offset: MediaOffset) -> Option<ChunkState> {
        let spot = Spot::of(offset);
        if !self.layout.usable(spot.zone).contains(&spot.segment) {
            return Some(ChunkState::Allocated);
        }
        match self.zones.get(&spot.zone) {
            Some(zone) => Some(chunk_state(zone, spot)),
            None => self.unknown_at(spot.zone).is_none().then_some(ChunkState::Free),
        }
    }

    fn add_unknown(&mut self, zones: Range<u64>, key_bits: u8) {
        let count = self.layout.zone_count();
        let is_readable = zones.start < count;
        if is_readable {
            self.totals.counts.unread_zones += zones.end.min(count) - zones.start;
        }
        self.totals.know_free(self.layout.usable_count(&zones), false);
        self.unknown.insert(zones.start, Unknown { end: zones.end, key_bits, is_readable });
    }

    /// As if no blockref spoke of `zones`.
    fn remove_unknown(&mut self, zones: &Range<u64>) {
        if let Some(unknown) = self.unknown.remove(&zones.start) {
            self.totals.know_free(self.layout.usable_count(zones), true);
            if unknown.is_readable {
                let inside = zones.end.min(self.layout.zone_count()).saturating_sub(zones.start);
                let unread = &mut self.totals.counts.unread_zones;
                *unread = unread.saturating_sub(inside);
            }
        }
    }

    fn unknown_at(&self, zone: u64) -> Option<&Unknown> {
        let (_, unknown) = self.unknown.range(..=zone).next_back()?;
        (zone < unknown.end).then_some(unknown)
    }

    /// Whether `zone` is in memory, if need be because it is now: a leaf for one that was never
    /// touched.
    fn materialize(&mut self, zone: u64) -> bool {
        if self.zones.contains_key(&zone) {
            return true;
        }
        let usable = self.layout.usable(zone);
        if usable.is_empty() || self.unknown_at(zone).is_some() {
            return false;
        }
        if !self.tree.add_leaf(zone, usable.len() as u64 * SEGMENT_LEN, ROOT_SLOTS) {
            // No tree that was read leads here; if one does, the zone is left alone.
            self.add_unknown(zone..zone + 1, LEAF_BITS);
            if let Some(unknown) = self.unknown.get_mut(&zone) {
                unknown.is_readable = false;
            }
            let unread = &mut self.totals.counts.unread_zones;
            *unread = unread.saturating_sub(1);
            return false;
        }
        self.zones.insert(zone, Zone::untouched(usable));
        self.touch(zone);
        true
    }

    /// Puts `count` chunks (of one group) at `spot` into `state`, with every count that speaks of
    /// them. Freed chunks are forgotten, and so is what their segment promised.
    fn change(&mut self, spot: Spot, count: usize, state: ChunkState) {
        let Some(zone) = self.zones.get_mut(&spot.zone) else {
            return;
        };
        let Some(segment) = zone.segment_mut(spot.segment) else {
            return;
        };
        let change = segment::set(segment, spot.chunk, count, state);
        if state == ChunkState::Free {
            segment::withdraw_promise(segment, spot.chunk, count, usize::MAX);
            if segment::is_unused(segment) {
                segment::reset(segment);
            }
            self.search.found_more();
        }
        zone.count(change);
        self.totals.count(change);
        self.touch(spot.zone);
    }

    /// The leaf of `zone` has to be written.
    fn touch(&mut self, zone: u64) {
        if let Some(loaded) = self.zones.get_mut(&zone)
            && !loaded.is_changed
        {
            loaded.is_changed = true;
            self.changed.insert(zone);
        }
    }
}

fn chunk_state(zone: &Zone, spot: Spot) -> ChunkState {
    let state = |segment| crate::media::freemap::chunk_state(segment, spot.chunk);
    zone.segment(spot.segment).map_or(ChunkState::Allocated, state)
}

/// The zones of each entry, and its span.
fn spans(table: &Table) -> impl Iterator<Item = (Range<u64>, u8)> {
    table.entries.iter().map(|entry| (entry.zones(), entry.raw.key_bits))
}

#[cfg(test)]
mod tests;
