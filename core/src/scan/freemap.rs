//! The freemap against the tree, in both directions (media format 8).

use alloc::vec::Vec;

use super::check::{Check, Owner, Role, Stage, Task};
use super::finding::{FindingKind, Unchecked};
use super::space::Space;
use crate::engine::Block;
use crate::error::{BlockKind, Damage, DamageKind, Place};
use crate::media::blockref::{Blockref, slots, span_last};
use crate::media::check::CheckMethod;
use crate::media::freemap::{
    ChunkState, SEGMENT_CHUNKS, block_offset, chunk_state, level, segments,
};
use crate::media::raw::{RawBlockref, RawSegment};
use crate::media::{CHUNK_LEN, SEGMENT_LEN, ZONE_LEN};
use crate::tree::Holder;
use crate::units::{Inum, MediaOffset};

/// A chunk, as segments count.
const CHUNK_BYTES: u32 = 16 << 10;

/// What the leaves add up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Totals {
    /// Chunks in use, outside of reserved space.
    pub(super) allocated: u64,
    /// Chunks staged for freeing.
    pub(super) possibly_free: u64,
    /// Chunks marked as used or staged that nothing refers to.
    pub(super) unreferenced: u64,
}

/// The parts of the address space in which nothing is ever allocated (media format 8.4).
#[derive(Clone, Copy, Debug)]
pub(super) struct Static {
    /// End of the formatter's own space, rounded up to a segment.
    pub(super) below: u64,
    /// Size of the file system.
    pub(super) total: u64,
}

impl Static {
    pub(super) const fn contains(&self, segment: u64) -> bool {
        segment < self.below
            || segment.is_multiple_of(ZONE_LEN)
            || segment.saturating_add(SEGMENT_LEN) > self.total
    }
}

/// Compares the leaf of zone `zone` with what is referred to; no leaf says that all is free.
pub(super) fn compare(
    zone: u64,
    leaf: Option<&[RawSegment]>,
    reserved: &Static,
    space: &Space,
    totals: &mut Totals,
    mut report: impl FnMut(FindingKind),
) {
    let mut stretch: Option<Stretch> = None;
    for index in 0..ZONE_LEN / SEGMENT_LEN {
        let start = zone * ZONE_LEN + index * SEGMENT_LEN;
        let segment = leaf.and_then(|leaf| leaf.get(usize::try_from(index).ok()?));
        if reserved.contains(start) {
            let marked = segment.is_none_or(|s| s.bitmap.iter().all(|word| word.get() == u64::MAX));
            if !marked {
                report(FindingKind::ReservedFree { segment: MediaOffset(start) });
            }
            continue;
        }
        let mut free = 0;
        for chunk in 0..SEGMENT_CHUNKS {
            let offset = start + chunk as u64 * CHUNK_LEN;
            let state = segment.map_or(ChunkState::Free, |s| chunk_state(s, chunk));
            let referenced = space.is_referenced(offset);
            match state {
                ChunkState::Free => free += 1,
                ChunkState::PossiblyFree => totals.possibly_free += 1,
                ChunkState::Allocated | ChunkState::Reserved => totals.allocated += 1,
            }
            totals.unreferenced += u64::from(!referenced && state != ChunkState::Free);
            let wrong = referenced && matches!(state, ChunkState::Free | ChunkState::PossiblyFree);
            Stretch::extend(&mut stretch, wrong.then_some((offset, state)), &mut report);
        }
        if let Some(segment) = segment {
            check_counts(segment, start, free, space, &mut report);
        }
    }
    Stretch::extend(&mut stretch, None, &mut report);
}

fn check_counts(
    segment: &RawSegment,
    start: u64,
    free_chunks: u32,
    space: &Space,
    report: &mut impl FnMut(FindingKind),
) {
    let (stored, counted) = (segment.avail.get(), free_chunks * CHUNK_BYTES);
    if stored != counted {
        let segment = MediaOffset(start);
        report(FindingKind::SegmentAvail { segment, stored, counted });
    }
    let linear = segment.linear.get();
    // The place is a promise that the rest of its chunk is unused (media format 9.5).
    let place = start + u64::from(linear);
    let promised = place..place.next_multiple_of(CHUNK_LEN);
    let illegal = u64::from(linear) > SEGMENT_LEN || !linear.is_multiple_of(1024);
    if illegal || promised.step_by(1024).any(|offset| space.is_grain_used(offset)) {
        report(FindingKind::SegmentLinear { segment: MediaOffset(start), stored: linear });
    }
}

/// Neighbouring chunks with the same thing wrong: one finding, not hundreds.
struct Stretch {
    start: u64,
    end: u64,
    state: ChunkState,
}

impl Stretch {
    fn extend(
        stretch: &mut Option<Self>,
        wrong: Option<(u64, ChunkState)>,
        report: &mut impl FnMut(FindingKind),
    ) {
        if let (Some(open), Some((offset, state))) = (&mut *stretch, wrong)
            && open.end == offset
            && open.state == state
        {
            open.end += CHUNK_LEN;
            return;
        }
        if let Some(done) = stretch.take() {
            let (start, len) = (MediaOffset(done.start), done.end - done.start);
            report(match done.state {
                ChunkState::Free => FindingKind::NotAllocated { start, len },
                _ => FindingKind::PossiblyFree { start, len },
            });
        }
        *stretch = wrong.map(|(start, state)| Self { start, end: start + CHUNK_LEN, state });
    }
}

impl Check {
    pub(super) fn begin_freemap(&mut self) {
        self.stage = Stage::Freemap;
        let table = self.header.freemap_table;
        self.freemap_table(&table, None, 0, u64::MAX);
    }

    pub(super) fn freemap_table(
        &mut self,
        table: &[RawBlockref],
        below: Option<u8>,
        low: u64,
        high: u64,
    ) {
        let mut previous_last = None;
        for raw in table.iter().filter(|raw| raw.kind != 0) {
            let owner = Owner { holder: Holder::Freemap, inum: Inum(0), size: 0 };
            match freemap_entry(raw, below, low, high, previous_last) {
                Ok(blockref) => {
                    let role = match blockref.kind() {
                        BlockKind::FreemapLeaf => Role::FreemapLeaf,
                        _ => Role::FreemapNode,
                    };
                    self.freemap_slot(&blockref);
                    self.push(blockref, role, None, owner);
                }
                Err(damage) => {
                    let kind = FindingKind::FreemapDamaged(damage.into());
                    self.report(kind, Some(damage.place), None);
                    self.is_freemap_part = true;
                    self.leaves.insert(raw.key.get() / ZONE_LEN);
                }
            }
            previous_last = Some(span_last(raw.key.get(), raw.key_bits));
        }
    }

    pub(super) fn freemap_slot(&mut self, blockref: &Blockref) {
        let Some(location) = blockref.location() else {
            return;
        };
        let level = level(blockref.key_bits()).unwrap_or(1);
        let at_home =
            (0..8).any(|set| location.offset.0 == block_offset(blockref.key(), level, set));
        if !at_home || blockref.check_method() != CheckMethod::Freemap {
            self.report(FindingKind::FreemapSlot, Some(blockref.place()), None);
        }
    }

    pub(super) fn freemap_node(&mut self, task: &Task, block: &Block) {
        let bits = task.blockref.key_bits();
        let (low, high) = (task.blockref.key(), task.blockref.last_key());
        self.freemap_table(slots(block), Some(bits), low, high);
    }

    pub(super) fn freemap_leaf(&mut self, task: &Task, block: &Block) {
        let zone = task.blockref.key() / ZONE_LEN;
        self.leaves.insert(zone);
        self.compare_zone(zone, segments(block));
    }

    pub(super) fn compare_zone(&mut self, zone: u64, leaf: Option<&[RawSegment]>) {
        let mut found = Vec::new();
        let Self { header, space, totals, .. } = self;
        compare(zone, leaf, &header.reserved, space, totals, |kind| found.push(kind));
        for kind in found {
            self.report(kind, None, None);
        }
    }

    pub(super) fn end_freemap(&mut self) {
        // Zones in use without a leaf: all of it is free by the freemap.
        let bare: Vec<u64> =
            self.space.zones().filter(|zone| !self.leaves.contains(zone)).collect();
        for zone in bare {
            if zone * ZONE_LEN < self.header.total_size {
                self.compare_zone(zone, None);
            }
        }
        let in_use = (self.totals.allocated + self.totals.possibly_free) * CHUNK_LEN;
        self.summary.allocated_bytes = self.totals.allocated * CHUNK_LEN;
        self.summary.possibly_free_bytes = self.totals.possibly_free * CHUNK_LEN;
        let unreferenced = self.totals.unreferenced * CHUNK_LEN;
        // What could not be reached is not known to be unreferenced.
        if unreferenced > 0 && self.summary.fatal == 0 {
            self.summary.unreferenced_bytes = unreferenced;
            self.report(FindingKind::Unreferenced { bytes: unreferenced }, None, None);
        }
        let stored = self.header.allocator_free;
        let counted = self.header.allocator_size.saturating_sub(in_use);
        if stored != counted && !self.is_freemap_part {
            self.report(FindingKind::AllocatorFree { stored, counted }, None, None);
        }
        if self.space.is_coarse {
            self.report(FindingKind::NotChecked(Unchecked::Overlaps), None, None);
        }
    }
}

/// Reads a slot of a freemap table below a node of `below` key bits, or of the header.
fn freemap_entry(
    raw: &RawBlockref,
    below: Option<u8>,
    low: u64,
    high: u64,
    previous_last: Option<u64>,
) -> Result<Blockref, Damage> {
    let key = raw.key.get();
    let offset = raw.data_off.get() & !0x3f;
    let kind = if raw.kind == 6 { BlockKind::FreemapLeaf } else { BlockKind::FreemapNode };
    let place = Place { kind, offset: (offset != 0).then_some(MediaOffset(offset)), key };
    let damage = |kind| Damage::new(place, kind);
    let blockref = Blockref::parse(raw)
        .map_err(|fault| damage(DamageKind::Blockref(fault)))?
        .filter(|blockref| Holder::Freemap.allows(blockref.kind()))
        .ok_or_else(|| damage(DamageKind::NotAllowed))?;
    if below.is_some_and(|bits| blockref.key_bits() >= bits) {
        return Err(damage(DamageKind::Nesting));
    }
    if previous_last.is_some_and(|previous| key <= previous) {
        return Err(damage(DamageKind::KeyOrder));
    }
    if key < low || blockref.last_key() > high {
        return Err(damage(DamageKind::KeyRange { low, high }));
    }
    Ok(blockref)
}
