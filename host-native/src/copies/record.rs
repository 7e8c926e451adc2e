//! What a device says of the group that it is a copy of: its newest header that is whole.

use std::path::Path;

use farrier_core::copies::CopyGroup;
use farrier_core::drive::ready;
use farrier_core::media::check::Checks;
use farrier_core::media::header::{
    HEADER_LEN, HEADER_SLOTS, HEADER_STRIDE, SHADOW_OFFSET, VolumeHeader,
};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;

use crate::device::Devices;

/// The record on the device or image at `path`; `None` if it holds no copy, or cannot be read. Nobody
/// is kept from using it.
#[must_use]
pub fn record_at(path: &Path) -> Option<CopyGroup> {
    let devices = Devices::open(&[path.to_owned()]).ok()?;
    record_on(&devices, DeviceIndex(0))
}

/// The record on one of `devices`.
pub(crate) fn record_on(devices: &impl Storage, device: DeviceIndex) -> Option<CopyGroup> {
    let checks = Checks::with_crc32c(crc32c::crc32c);
    let size = devices.size(device);
    let header = |at: u64| {
        let is_there = at.checked_add(HEADER_LEN as u64).is_some_and(|end| end <= size);
        let bytes = is_there.then(|| ready(devices.read(device, at, HEADER_LEN)).ok()).flatten()?;
        VolumeHeader::parse(&bytes, &checks).ok()
    };
    let slots = (0..HEADER_SLOTS).filter_map(|slot| header(slot * HEADER_STRIDE));
    // of a small volume whose only header was torn
    let newest = slots.max_by_key(VolumeHeader::mirror_tid).or_else(|| header(SHADOW_OFFSET))?;
    newest.copy_group().ok()
}
