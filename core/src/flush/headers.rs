//! Headers: the one write that makes a commit true (media format 1.4, 9.2).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use zerocopy::IntoBytes;

use crate::media::check::Checks;
use crate::media::header::{HEADER_STRIDE, VolumeHeader, seal};
use crate::media::raw::{RawBlockref, RawVolumeHeader};
use crate::media::shadow::shadow;
use crate::media::{ZONE_RESERVED_LEN, header};
use crate::units::Tid;

/// Makes the headers of the root volume, one after the other.
#[derive(Clone)]
pub struct HeaderWriter {
    raw: Box<RawVolumeHeader>,
    slot: u64,
    /// The header that was found: as it was, whatever is changed since.
    found: Option<Vec<u8>>,
    /// A shadow had to stand for it, and nobody has made it whole yet.
    is_torn: bool,
    /// What was last written, by offset: only what differs has to be written over it.
    written: BTreeMap<u64, Vec<u8>>,
}

/// What is compared, and written, as one: a sector of most devices.
const SECTOR_LEN: usize = 4096;

impl core::fmt::Debug for HeaderWriter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "HeaderWriter(tid {}, slot {})", self.mirror_tid().0, self.slot)
    }
}

/// What a commit puts into the header.
#[derive(Clone, Copy, Debug)]
pub struct Roots<'a> {
    /// The super-root.
    pub super_root: &'a RawBlockref,
    /// The freemap's table.
    pub freemap: &'a [RawBlockref; 4],
    /// `allocator_free`.
    pub free_bytes: u64,
    /// The transaction.
    pub tid: Tid,
}

impl HeaderWriter {
    /// Goes on from `header`, which was found in `slot`.
    #[must_use]
    pub fn new(header: &VolumeHeader, slot: u8) -> Self {
        Self {
            raw: Box::new(header.raw().clone()),
            slot: u64::from(slot),
            // nobody asks for it where a header has others beside it
            found: VolumeHeader::is_single(header.volume_size())
                .then(|| header.raw().as_bytes().to_vec()),
            is_torn: slot == header::SHADOW_SLOT,
            written: BTreeMap::new(),
        }
    }

    /// Begins anew with `raw`: on a device without any header, in its first slot.
    #[must_use]
    pub fn first(raw: Box<RawVolumeHeader>) -> Self {
        let slot = slot_count(raw.volu_size.get()) - 1;
        Self { raw, slot, found: None, is_torn: false, written: BTreeMap::new() }
    }

    /// The transaction of the last commit.
    #[must_use]
    pub fn mirror_tid(&self) -> Tid {
        Tid(self.raw.mirror_tid.get())
    }

    /// The header of the last commit.
    #[must_use]
    pub const fn raw(&self) -> &RawVolumeHeader {
        &self.raw
    }

    /// Size of all volumes together in bytes.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        // only version 2 knows several
        if self.raw.version.get() == 2 {
            self.raw.total_size.get()
        } else {
            self.raw.volu_size.get()
        }
    }

    /// The header of the last commit, to be changed beyond what [`HeaderWriter::next`] does.
    pub const fn raw_mut(&mut self) -> &mut RawVolumeHeader {
        &mut self.raw
    }

    /// The next header and where it goes on the root volume's device: the slots take turns, as far
    /// as the volume has them.
    pub fn next(&mut self, roots: Roots<'_>, checks: &Checks) -> (u64, Vec<u8>) {
        self.slot = self.next_slot();
        let raw = &mut *self.raw;
        let is_root = |slot: &RawBlockref| slot.kind == 1 && slot.key.get() == 0;
        // a copy that was added has none until it is in sync
        let at = raw.sroot_blockset.iter().position(is_root).unwrap_or(0);
        if let Some(slot) = raw.sroot_blockset.get_mut(at) {
            *slot = *roots.super_root;
        }
        raw.freemap_blockset = *roots.freemap;
        raw.allocator_free.set(roots.free_bytes);
        raw.mirror_tid.set(roots.tid.0);
        raw.freemap_tid.set(roots.tid.0);
        self.again(checks)
    }

    /// The same header once more, with what was changed of it since.
    pub fn again(&mut self, checks: &Checks) -> (u64, Vec<u8>) {
        seal(&mut self.raw, checks);
        (self.slot * HEADER_STRIDE, self.raw.as_bytes().to_vec())
    }

    /// The shadow of the same header, on a volume that has room for one only.
    pub fn shadow(&mut self, checks: &Checks) -> Vec<u8> {
        let (offset, _) = self.again(checks);
        let before = self.written.get(&offset).or(self.found.as_ref());
        shadow(&self.raw, before.map(Vec::as_slice), checks)
    }

    /// The super-root that the last header refers to.
    #[must_use]
    pub fn super_root(&self) -> Option<&RawBlockref> {
        self.raw.sroot_blockset.iter().find(|slot| slot.kind == 1 && slot.key.get() == 0)
    }

    /// The parts of a header at `offset` that differ from what was last written there: all of it the
    /// first time. A commit changes two sectors, and a header that was cut short in the midst of
    /// them fails its check like any other.
    pub fn changes(&mut self, offset: u64, header: Vec<u8>) -> Vec<(u64, Vec<u8>)> {
        let Some(before) = self.written.get(&offset) else {
            self.written.insert(offset, header.clone());
            return alloc::vec![(offset, header)];
        };
        let sectors = header.chunks(SECTOR_LEN).zip(before.chunks(SECTOR_LEN));
        let changes = (offset..)
            .step_by(SECTOR_LEN)
            .zip(sectors)
            .filter(|(_, (new, old))| new != old)
            .map(|(at, (new, _))| (at, new.to_vec()))
            .collect();
        self.written.insert(offset, header);
        changes
    }

    /// The last commit's header, if its shadow had to stand for it: it has to be made to last in
    /// slot 0 before the shadow is written over, or a second crash leaves neither.
    pub fn take_torn(&mut self) -> Option<Vec<u8>> {
        if !core::mem::take(&mut self.is_torn) {
            return None;
        }
        self.slot = 0;
        self.found.clone()
    }

    /// Whether the volume has room for one header only: a torn write then leaves none.
    #[must_use]
    pub fn is_single(&self) -> bool {
        VolumeHeader::is_single(self.raw.volu_size.get())
    }

    fn next_slot(&self) -> u64 {
        (self.slot + 1) % slot_count(self.raw.volu_size.get())
    }
}

/// Header slots that a volume of this size has.
fn slot_count(volume_size: u64) -> u64 {
    (1..header::HEADER_SLOTS)
        .take_while(|slot| slot * HEADER_STRIDE + ZONE_RESERVED_LEN <= volume_size)
        .count() as u64
        + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn writer() -> HeaderWriter {
        use zerocopy::FromZeros;
        let raw = Box::new(RawVolumeHeader::new_zeroed());
        HeaderWriter { raw, slot: 0, found: None, is_torn: false, written: BTreeMap::new() }
    }

    #[test]
    fn a_slot_is_written_whole_once_and_then_where_it_changed() {
        let mut writer = writer();
        let mut header = vec![0; 0x1_0000];
        assert_eq!(writer.changes(0, header.clone()), [(0, header.clone())]);
        header[20] = 1;
        header[0xffff] = 2;
        // another slot holds something else
        assert_eq!(writer.changes(HEADER_STRIDE, header.clone()).len(), 1);
        let changes = writer.changes(0, header.clone());
        assert_eq!(changes, [(0, header[..4096].to_vec()), (0xf000, header[0xf000..].to_vec())]);
        let at = HEADER_STRIDE + 0x3000;
        header[0x3000] = 3;
        assert_eq!(
            writer.changes(HEADER_STRIDE, header.clone()),
            [(at, header[0x3000..0x4000].to_vec())]
        );
        assert_eq!(writer.changes(HEADER_STRIDE, header), []);
    }
}
