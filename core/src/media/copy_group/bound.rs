//! The record of copies and the header that it lies in are of one time.
//!
//! The header's own check codes do not bind them together: that of a stretch which ends in its own CRC
//! is the same for all contents, so a header whose first sector, or whose record, is of another time
//! would pass for a whole one; and where both are, and the root is the same as before, one with the
//! freemap of another time.

use zerocopy::{FromBytes, IntoBytes};

use super::{CHECKED, COPY_GROUP_LEN, CopyGroup, is_whole};
use crate::media::check::Checks;
use crate::media::raw::{RawCopyGroup, RawVolumeHeader};

/// What of its header the record is bound to beside the transaction: the roots and all else between
/// the first sector and the record.
const BOUND: core::ops::Range<usize> = 0x200..0x1000;

impl CopyGroup {
    /// Has the record in `header`, if there is a whole one, say which transaction the header is of,
    /// and what lies between its first sector and the record.
    pub(in crate::media) fn bind(header: &mut RawVolumeHeader, checks: &Checks) {
        let tid = header.mirror_tid.get();
        let between = checks.crc32c(&header.as_bytes()[BOUND]);
        let Ok(raw) = RawCopyGroup::mut_from_bytes(&mut header.copyinfo[..COPY_GROUP_LEN]) else {
            return;
        };
        if is_whole(raw, checks) {
            raw.header_tid.set(tid);
            raw.header_crc.set(between);
            raw.crc.set(checks.crc32c(&raw.as_bytes()[..CHECKED]));
        }
    }

    /// The transaction that the record in `header` says it is of, if it is whole.
    pub(in crate::media) fn bound_tid(header: &RawVolumeHeader, checks: &Checks) -> Option<u64> {
        let raw = RawCopyGroup::ref_from_bytes(&header.copyinfo[..COPY_GROUP_LEN]).ok()?;
        is_whole(raw, checks).then(|| raw.header_tid.get())
    }

    /// The sectors by which the header of the shadow `header` differs from the one before it, a bit
    /// for each; 0 if it does not say.
    pub(in crate::media) fn changed(header: &RawVolumeHeader, checks: &Checks) -> u128 {
        let raw = RawCopyGroup::ref_from_bytes(&header.copyinfo[..COPY_GROUP_LEN]);
        raw.ok()
            .filter(|raw| is_whole(raw, checks))
            .map_or(0, |raw| u128::from_le_bytes(raw.changed))
    }

    /// Has the record in `header`, if there is a whole one, say that.
    pub(in crate::media) fn set_changed(
        header: &mut RawVolumeHeader,
        changed: u128,
        checks: &Checks,
    ) {
        let raw = RawCopyGroup::mut_from_bytes(&mut header.copyinfo[..COPY_GROUP_LEN]);
        if let Ok(raw) = raw
            && is_whole(raw, checks)
        {
            raw.changed = changed.to_le_bytes();
            raw.crc.set(checks.crc32c(&raw.as_bytes()[..CHECKED]));
        }
    }

    /// Whether the record in `header` is of the same transaction, and of what lies before it. One
    /// that does not say, or is damaged, is not found wrong here.
    pub(in crate::media) fn is_bound(header: &RawVolumeHeader, checks: &Checks) -> bool {
        let bytes = &header.copyinfo[..COPY_GROUP_LEN];
        let Ok(raw) = RawCopyGroup::ref_from_bytes(bytes) else { return true };
        let (tid, between) = (raw.header_tid.get(), raw.header_crc.get());
        let is_of_it = tid == header.mirror_tid.get()
            && (between == 0 || between == checks.crc32c(&header.as_bytes()[BOUND]));
        tid == 0 || is_of_it || !is_whole(raw, checks)
    }
}
