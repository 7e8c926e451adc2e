//! The shadow of a volume that has room for one header only: what stands for that header when it was
//! cut short in the midst of being written.
//!
//! A shadow is written in front of the barrier that its header waits for. So it counts only where the
//! write of its own header had begun: what it names may not be on the other copies before that. With a
//! disk whose barriers do nothing, the header may as well be torn by the write of the commit before.

use alloc::boxed::Box;
use alloc::vec::Vec;

use zerocopy::{FromBytes, IntoBytes};

use super::check::Checks;
use super::copy_group::CopyGroup;
use super::header::{MAGIC, Version, VolumeHeader, seal};
use super::raw::RawVolumeHeader;

/// What a device writes as a whole, at least.
const SECTOR_LEN: usize = 512;

/// `raw`, which is sealed, as the shadow of the header that is about to replace `before`: that of a
/// volume of copies says by which sectors the two differ.
pub(crate) fn shadow(raw: &RawVolumeHeader, before: Option<&[u8]>, checks: &Checks) -> Vec<u8> {
    if raw.version.get() != Version::Copies.number() {
        // stock media have no room for that
        return raw.as_bytes().to_vec();
    }
    let after = raw.as_bytes().chunks(SECTOR_LEN);
    let changed = match before {
        None => u128::MAX,
        Some(before) => (0..)
            .zip(after.zip(before.chunks(SECTOR_LEN)))
            .filter(|(_, (after, before))| after != before)
            .fold(0, |changed, (sector, _)| changed | 1 << sector),
    };
    with_changed(raw, changed, checks).as_bytes().to_vec()
}

fn with_changed(raw: &RawVolumeHeader, changed: u128, checks: &Checks) -> Box<RawVolumeHeader> {
    let mut raw = Box::new(raw.clone());
    CopyGroup::set_changed(&mut raw, changed);
    seal(&mut raw, checks);
    raw
}

impl VolumeHeader {
    /// The header that this one, a shadow, is of, if `torn` is what is left of a write of it: sectors
    /// of it, and of the header before it.
    ///
    /// The one before it is of the transaction before. Of copies it may be of any older one: a copy
    /// that missed some goes on with the others. Nobody but us writes those, and never without a
    /// shadow.
    #[must_use]
    pub fn torn_header(&self, torn: &[u8], checks: &Checks) -> Option<Self> {
        let sectors = torn.chunks(SECTOR_LEN);
        let torn = RawVolumeHeader::ref_from_bytes(torn).ok()?;
        let (tid, shadow) = (torn.mirror_tid.get(), self.mirror_tid().0);
        let is_of_it = torn.magic.get() == MAGIC
            && torn.fsid == self.raw().fsid
            && Self::is_single(self.volume_size());
        if !is_of_it {
            return None;
        }
        if self.version() != Version::Copies {
            let is_next = tid == shadow || tid.checked_add(1) == Some(shadow);
            return is_next.then(|| self.clone());
        }
        let changed = CopyGroup::changed(self.raw());
        let raw = with_changed(self.raw(), 0, checks);
        // one that leaves a copy behind differs in the record
        let has_begun = tid == shadow || CopyGroup::bound_tid(torn) == Some(shadow);
        let is_begun_at = |(sector, (torn, own)): (u32, (&[u8], &[u8]))| {
            changed & 1 << sector != 0 && torn == own
        };
        let mut sectors = (0..).zip(sectors.zip(raw.as_bytes().chunks(SECTOR_LEN)));
        let is_begun = has_begun || changed == 0 || sectors.any(is_begun_at);
        (tid <= shadow && is_begun).then(|| self.with_raw(raw))
    }
}
