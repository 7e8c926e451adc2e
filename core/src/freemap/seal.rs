//! From memory to the blocks of one commit (media format 8.1 to 8.4).
//!
//! A block that changed goes to the next of its eight places, at most once for each commit that
//! became durable: so the states of the last headers stay whole (trap 30). Nodes follow what is
//! below them, the header's table comes last.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use zerocopy::FromZeros;

use super::table::{Entry, Table};
use super::zone::Zone;
use super::{Freemap, ROOT_SLOTS};
use crate::media::check::Checks;
use crate::media::freemap::{block_offset, level};
use crate::media::raw::RawBlockref;
use crate::units::{MediaOffset, Tid};

/// What a commit writes of the freemap.
#[derive(Debug)]
pub struct Sealed {
    /// Blocks of 32 KiB and where they go, what is below before what refers to it.
    pub blocks: Vec<(MediaOffset, Vec<u8>)>,
    /// The table for the header.
    pub root: [RawBlockref; ROOT_SLOTS],
}

/// Radix of every freemap block.
const RADIX: u64 = 15;
/// Rotation sets.
const SETS: u64 = 8;

impl Freemap {
    /// The blocks that bring media to what is in memory, and the table for a header with
    /// `allocator_free` = [`free_bytes`](Self::free_bytes). Blockrefs that change are stamped with
    /// `tid`, the `mirror_tid` and `freemap_tid` of that header, and `modify_tid`, the
    /// super-root's.
    ///
    /// If nothing changed since the last time, there are no blocks, and the table is the same.
    /// Sealing again before [`committed`](Self::committed) writes to the same places again, as
    /// long as no header refers to them; after a header whose write failed, it is not known
    /// whether one does, and the volume must not be written any more.
    pub fn seal(&mut self, tid: Tid, modify_tid: Tid, checks: &Checks) -> Sealed {
        self.queue.seal();
        let changed = core::mem::take(&mut self.changed);
        let mut sealing = Sealing {
            zones: &mut self.zones,
            changed,
            commit: self.commit,
            tid,
            modify_tid,
            checks,
            blocks: Vec::new(),
        };
        sealing.table(&mut self.tree);
        let blocks = sealing.blocks;
        if !blocks.is_empty() {
            self.root = [RawBlockref::new_zeroed(); ROOT_SLOTS];
            for (slot, entry) in self.root.iter_mut().zip(&self.tree.entries) {
                *slot = entry.raw;
            }
        }
        Sealed { blocks, root: self.root }
    }
}

struct Sealing<'a> {
    zones: &'a mut BTreeMap<u64, Zone>,
    changed: BTreeSet<u64>,
    commit: u64,
    tid: Tid,
    modify_tid: Tid,
    checks: &'a Checks,
    blocks: Vec<(MediaOffset, Vec<u8>)>,
}

impl Sealing<'_> {
    /// Recursion ends after five levels: what is below an entry covers less.
    fn table(&mut self, table: &mut Table) {
        table.is_changed = false;
        for entry in &mut table.entries {
            let zones = entry.zones();
            if let Some(below) = &mut entry.below {
                if below.is_changed || self.changed.range(zones).next().is_some() {
                    self.table(below);
                    let (bytes, data_count) = (below.bytes(), below.data_count());
                    if let Some(count) = entry.raw.embed.get_mut(..8) {
                        count.copy_from_slice(&data_count.to_le_bytes());
                    }
                    self.place(entry, bytes);
                }
            } else if self.changed.contains(&zones.start)
                && let Some(zone) = self.zones.get_mut(&zones.start)
            {
                zone.is_changed = false;
                let bytes = zone.bytes();
                if let Some(bigmask) = entry.raw.check.get_mut(4..8) {
                    bigmask.fill(0xff);
                }
                self.place(entry, bytes);
            }
        }
    }

    fn place(&mut self, entry: &mut Entry, bytes: Vec<u8>) {
        let raw = &mut entry.raw;
        let set = match set_of(raw.data_off.get()) {
            Some(set) if entry.placed_in == self.commit => set % SETS,
            Some(set) => (set + 1) % SETS,
            None => 0,
        };
        entry.placed_in = self.commit;
        let level = level(raw.key_bits).unwrap_or(1);
        let offset = block_offset(raw.key.get(), level, set);
        raw.data_off.set(offset | RADIX);
        raw.methods = 0x50 | raw.methods & 0x0f;
        raw.mirror_tid.set(self.tid.0);
        raw.modify_tid.set(raw.modify_tid.get().max(self.modify_tid.0));
        if let Some(code) = raw.check.get_mut(..4) {
            code.copy_from_slice(&self.checks.crc32c(&bytes).to_le_bytes());
        }
        self.blocks.push((MediaOffset(offset), bytes));
    }
}

/// The rotation set that a block lies in; `None` if it was never written.
const fn set_of(data_off: u64) -> Option<u64> {
    if data_off == 0 {
        return None;
    }
    // slot 0 is a header's: what claims to lie there goes on as from the first set
    Some(((data_off & 0x3f_ffff) >> 16).saturating_sub(1) / 5)
}
