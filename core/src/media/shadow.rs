//! The shadow of a volume that has room for one header only: what stands for that header when it was
//! cut short in the midst of being written.
//!
//! A shadow is written in front of the barrier that its header waits for. So it counts only where the
//! write of its own header had begun: what it names may not be on the other copies before that. With a
//! disk whose barriers do nothing, the header may as well be torn by the write of the commit before.

use alloc::boxed::Box;

use zerocopy::{FromBytes, IntoBytes};

use super::check::Checks;
use super::copy_group::{COPY_GROUP_LEN, CopyGroup};
use super::header::{MAGIC, Version, VolumeHeader};
use super::raw::RawVolumeHeader;

/// What a device writes as a whole, at least.
const SECTOR_LEN: usize = 512;

/// The sectors by which `raw`, which is sealed, differs from the header `before` it, a bit for each; all
/// of them, if nobody knows that one.
pub(crate) fn changed_sectors(raw: &RawVolumeHeader, before: Option<&[u8]>) -> u128 {
    let Some(before) = before else { return u128::MAX };
    let sectors = raw.as_bytes().chunks(SECTOR_LEN).zip(before.chunks(SECTOR_LEN));
    let changed = (0..).zip(sectors).filter(|(_, (after, before))| after != before);
    changed.fold(0, |changed, (sector, _)| changed | 1 << sector)
}

/// Has `then` see `raw`, which is sealed, as the shadow of the header that is about to be written: that
/// of a volume of copies says which sectors change by it. Behind it `raw` is as before. The header's own
/// check codes are those of both: whatever the record says, it ends in its own code.
pub(crate) fn as_shadow<T>(
    raw: &mut RawVolumeHeader,
    changed: u128,
    checks: &Checks,
    then: impl FnOnce(&RawVolumeHeader) -> T,
) -> T {
    if raw.version.get() != Version::Copies.number() {
        // stock media have no room for that
        return then(raw);
    }
    let copies = raw.copyinfo[..COPY_GROUP_LEN].to_vec();
    CopyGroup::set_changed(raw, changed, checks);
    let done = then(raw);
    raw.copyinfo[..COPY_GROUP_LEN].copy_from_slice(&copies);
    done
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
        let changed = CopyGroup::changed(self.raw(), checks);
        let mut raw = Box::new(self.raw().clone());
        CopyGroup::set_changed(&mut raw, 0, checks);
        // one that leaves a copy behind differs in the record
        let has_begun = tid == shadow || CopyGroup::bound_tid(torn, checks) == Some(shadow);
        let is_begun_at = |(sector, (torn, own)): (u32, (&[u8], &[u8]))| {
            changed & 1 << sector != 0 && torn == own
        };
        let mut sectors = (0..).zip(sectors.zip(raw.as_bytes().chunks(SECTOR_LEN)));
        let is_begun = has_begun || changed == 0 || sectors.any(is_begun_at);
        (tid <= shadow && is_begun).then(|| self.with_raw(raw))
    }
}
