//! Headers: the one write that makes a commit true (media format 1.4, 9.2).

use alloc::boxed::Box;
use alloc::vec::Vec;

use zerocopy::IntoBytes;

use crate::media::check::Checks;
use crate::media::header::{HEADER_STRIDE, VolumeHeader, seal};
use crate::media::raw::{RawBlockref, RawVolumeHeader};
use crate::media::{ZONE_RESERVED_LEN, header};
use crate::units::Tid;

/// Makes the headers of the root volume, one after the other.
#[derive(Clone)]
pub struct HeaderWriter {
    raw: Box<RawVolumeHeader>,
    slot: u64,
}

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
        Self { raw: Box::new(header.raw().clone()), slot: u64::from(slot) }
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

    /// The header of the last commit, to be changed beyond what [`HeaderWriter::next`] does.
    pub const fn raw_mut(&mut self) -> &mut RawVolumeHeader {
        &mut self.raw
    }

    /// The next header and where it goes on the root volume's device: the slots take turns, as far
    /// as the volume has them.
    pub fn next(&mut self, roots: Roots<'_>, checks: &Checks) -> (u64, Vec<u8>) {
        let raw = &mut *self.raw;
        if let Some(slot) =
            raw.sroot_blockset.iter_mut().find(|slot| slot.kind == 1 && slot.key.get() == 0)
        {
            *slot = *roots.super_root;
        }
        raw.freemap_blockset = *roots.freemap;
        raw.allocator_free.set(roots.free_bytes);
        raw.mirror_tid.set(roots.tid.0);
        raw.freemap_tid.set(roots.tid.0);
        seal(raw, checks);
        self.slot = self.next_slot();
        (self.slot * HEADER_STRIDE, self.raw.as_bytes().to_vec())
    }

    /// The last commit's header, if its shadow had to stand for it: it has to be made to last in
    /// slot 0 before the shadow is written over, or a second crash leaves neither.
    pub fn take_torn(&mut self) -> Option<Vec<u8>> {
        if self.slot != u64::from(header::SHADOW_SLOT) {
            return None;
        }
        self.slot = 0;
        Some(self.raw.as_bytes().to_vec())
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
