//! A new group on the disks of a bay, with rules of its own.

use farrier_core::copies::Policy;
use farrier_core::drive::{open, ready};
use farrier_core::flush::HeaderWriter;
use farrier_core::media::check::Checks;
use farrier_core::media::header::Version;
use farrier_core::storage::Storage as _;
use farrier_core::units::{DeviceIndex, WallTime};
use farrier_core::volume::{FormatOptions, OpenOptions, format};

use super::bay::Bay;

/// Makes a file system with a copy on each disk of `bay`.
///
/// # Panics
/// It cannot be made.
pub(super) fn format_copies(bay: &Bay, policy: Policy) {
    let count = u8::try_from(bay.device_count()).expect("four at most");
    let sizes = (0..count).map(|index| bay.size(DeviceIndex(index))).collect();
    let mut number = 0_u8;
    let options = FormatOptions {
        version: Version::Copies,
        ..FormatOptions::new(sizes, WallTime(1_600_000_000_000_000))
    };
    let formatted = format(&options, |bytes| {
        number += 1;
        bytes.fill(number);
    });
    ready(farrier_core::drive::format(bay, &formatted.expect("it can be formatted")))
        .expect("the disks are fine");
    set_policy(bay, policy);
}

/// Writes other rules into the newest headers.
fn set_policy(bay: &Bay, policy: Policy) {
    let checks = Checks::with_crc32c(crc32c::crc32c);
    let options = OpenOptions { checks, ..OpenOptions::default() };
    let volume = ready(open(bay, options)).expect("it was just made");
    for one in volume.group().expect("copies").headers() {
        let mut group = one.header.copy_group().expect("it was just made");
        group.policy = policy;
        let mut writer = HeaderWriter::new(&one.header, one.slot);
        group.put(writer.raw_mut());
        let (offset, bytes) = writer.again(&checks);
        ready(bay.write(one.device, offset, &bytes)).expect("the disks are fine");
        ready(bay.barrier(one.device)).expect("the disks are fine");
    }
}
