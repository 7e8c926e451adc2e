//! Headers: the one write that makes a commit true (media format 1.4, 9.2).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use zerocopy::IntoBytes;

use crate::media::check::Checks;
use crate::media::copy_group::COPY_GROUP_LEN;
use crate::media::header::{HEADER_STRIDE, SHADOW_OFFSET, VolumeHeader, seal};
use crate::media::raw::{RawBlockref, RawVolumeHeader};
use crate::media::shadow::{as_shadow, changed_sectors};
use crate::media::{ZONE_RESERVED_LEN, header};
use crate::units::Tid;

/// Makes the headers of the root volume, one after the other.
#[derive(Clone)]
pub struct HeaderWriter {
    raw: Box<RawVolumeHeader>,
    /// Its check codes are those of its bytes.
    is_sealed: bool,
    slot: u64,
    /// The header that was found: as it was, whatever is changed since.
    found: Option<Vec<u8>>,
    /// A shadow had to stand for it, and nobody has made it whole yet.
    is_torn: bool,
    /// What was last written, by offset: only what differs has to be written over it.
    written: BTreeMap<u64, Vec<u8>>,
    /// The header of the last commit that came to its end.
    last: Option<Written>,
    /// What was written, or tried, for a commit that did not come to its end.
    tried: Vec<Written>,
}

/// What tells a header on media from any other.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Written {
    slot: u8,
    tid: u64,
    check: u32,
    /// The record of copies ends in a code of its own, by which all of them look the same to the
    /// header's.
    record_check: [u8; 4],
}

impl Written {
    fn of(slot: u8, raw: &RawVolumeHeader) -> Self {
        // a shadow stands for what was to be there
        let slot = if slot == header::SHADOW_SLOT { 0 } else { slot };
        let record = raw.copyinfo[..COPY_GROUP_LEN].last_chunk();
        Self {
            slot,
            tid: raw.mirror_tid.get(),
            check: raw.icrc_volheader.get(),
            record_check: record.copied().unwrap_or_default(),
        }
    }
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
            is_sealed: false,
            slot: u64::from(slot),
            // nobody asks for it where a header has others beside it
            found: VolumeHeader::is_single(header.volume_size())
                .then(|| header.raw().as_bytes().to_vec()),
            is_torn: slot == header::SHADOW_SLOT,
            written: BTreeMap::new(),
            last: Some(Written::of(slot, header.raw())),
            tried: Vec::new(),
        }
    }

    /// Begins anew with `raw`: on a device without any header, in its first slot.
    #[must_use]
    pub fn first(raw: Box<RawVolumeHeader>) -> Self {
        let slot = slot_count(raw.volu_size.get()) - 1;
        Self {
            raw,
            is_sealed: false,
            slot,
            found: None,
            is_torn: false,
            written: BTreeMap::new(),
            last: None,
            tried: Vec::new(),
        }
    }

    /// Whether `header`, which was found in `slot`, is the one of the last commit, or was written for
    /// the one after it: nobody else has written one since.
    #[must_use]
    pub fn is_own(&self, slot: u8, header: &VolumeHeader) -> bool {
        let found = Written::of(slot, header.raw());
        self.last == Some(found) || self.tried.contains(&found)
    }

    /// The commit that this header is of has come to its end.
    pub fn committed(&mut self) {
        self.last = self.tried.pop().or(self.last);
        self.tried.clear();
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
        self.is_sealed = false;
        &mut self.raw
    }

    /// Goes on to the next header: the slots take turns, as far as the volume has them.
    pub fn next(&mut self, roots: Roots<'_>) {
        self.slot = self.next_slot();
        self.is_sealed = false;
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
    }

    /// The header, whole, and where it goes on the root volume's device.
    pub fn sealed(&mut self, checks: &Checks) -> (u64, &[u8]) {
        self.seal(checks);
        (self.offset(), self.raw.as_bytes())
    }

    /// The parts of the header that differ from what was last written to its place: all of it the
    /// first time. A commit changes two or three sectors, and a header that was cut short in the midst
    /// of them fails its check like any other.
    pub fn changes(&mut self, checks: &Checks) -> Vec<(u64, Vec<u8>)> {
        self.seal(checks);
        self.tried.push(Written::of(u8::try_from(self.slot).unwrap_or(u8::MAX), &self.raw));
        let offset = self.offset();
        changes(&mut self.written, offset, self.raw.as_bytes())
    }

    /// As [`changes`](Self::changes), of the shadow of the same header, on a volume that has room for
    /// one only.
    pub fn shadow_changes(&mut self, checks: &Checks) -> Vec<(u64, Vec<u8>)> {
        self.seal(checks);
        let before = self.written.get(&self.offset()).or(self.found.as_ref());
        let changed = changed_sectors(&self.raw, before.map(Vec::as_slice));
        as_shadow(&mut self.raw, changed, checks, |raw| {
            changes(&mut self.written, SHADOW_OFFSET, raw.as_bytes())
        })
    }

    fn seal(&mut self, checks: &Checks) {
        if !self.is_sealed {
            seal(&mut self.raw, checks);
            self.is_sealed = true;
        }
    }

    const fn offset(&self) -> u64 {
        self.slot * HEADER_STRIDE
    }

    /// The super-root that the last header refers to.
    #[must_use]
    pub fn super_root(&self) -> Option<&RawBlockref> {
        self.raw.sroot_blockset.iter().find(|slot| slot.kind == 1 && slot.key.get() == 0)
    }

    /// The last commit's header, if its shadow had to stand for it: it has to be made to last in
    /// slot 0 before the shadow is written over, or a second crash leaves neither.
    pub fn take_torn(&mut self) -> Option<Vec<u8>> {
        if !core::mem::take(&mut self.is_torn) {
            return None;
        }
        self.slot = 0;
        let found = self.found.clone()?;
        self.written.insert(0, found.clone());
        Some(found)
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

/// The sectors of a header at `offset` that differ from what `written` says was last written there,
/// those side by side as one.
fn changes(
    written: &mut BTreeMap<u64, Vec<u8>>,
    offset: u64,
    header: &[u8],
) -> Vec<(u64, Vec<u8>)> {
    let Some(before) = written.get_mut(&offset) else {
        written.insert(offset, header.to_vec());
        return alloc::vec![(offset, header.to_vec())];
    };
    let mut changes: Vec<(u64, Vec<u8>)> = Vec::new();
    let sectors = header.chunks(SECTOR_LEN).zip(before.chunks_mut(SECTOR_LEN));
    for (at, (new, old)) in (offset..).step_by(SECTOR_LEN).zip(sectors) {
        if new == old {
            continue;
        }
        old.copy_from_slice(new);
        match changes.last_mut() {
            Some((start, bytes)) if *start + bytes.len() as u64 == at => {
                bytes.extend_from_slice(new);
            }
            _ => changes.push((at, new.to_vec())),
        }
    }
    changes
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

    #[test]
    fn a_slot_is_written_whole_once_and_then_where_it_changed() {
        let mut written = BTreeMap::new();
        let mut header = vec![0; 0x1_0000];
        assert_eq!(changes(&mut written, 0, &header), [(0, header.clone())]);
        header[20] = 1;
        header[0xffff] = 2;
        // another slot holds something else
        assert_eq!(changes(&mut written, HEADER_STRIDE, &header).len(), 1);
        let expected = [(0, header[..4096].to_vec()), (0xf000, header[0xf000..].to_vec())];
        assert_eq!(changes(&mut written, 0, &header), expected);
        let at = HEADER_STRIDE + 0x3000;
        header[0x3000] = 3;
        header[0x4fff] = 3;
        assert_eq!(
            changes(&mut written, HEADER_STRIDE, &header),
            [(at, header[0x3000..0x5000].to_vec())]
        );
        assert_eq!(changes(&mut written, HEADER_STRIDE, &header), []);
    }
}
