//! A new group on the disks of a bay, with rules of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;

use farrier_core::copies::Policy;
use farrier_core::drive::{open, ready};
use farrier_core::flush::HeaderWriter;
use farrier_core::media::check::Checks;
use farrier_core::media::header::Version;
use farrier_core::storage::Storage as _;
use farrier_core::units::WallTime;
use farrier_core::volume::{FormatOptions, OpenOptions, format};

use super::bay::Bay;
use crate::ram::RamDisk;

thread_local! {
    /// What was formatted before, by the sizes of the disks: there are not many.
    static FORMATTED: RefCell<BTreeMap<Vec<u64>, RamDisk>> = const { RefCell::new(BTreeMap::new()) };
}

/// Makes a file system with a copy on each of the disks, which are empty.
///
/// # Panics
/// It cannot be made.
pub(super) fn format_copies(bay: &Bay, sizes: &[u64], policy: Policy) {
    let formatted = FORMATTED.with_borrow_mut(|known| {
        known.entry(sizes.to_vec()).or_insert_with(|| formatted(sizes)).fork()
    });
    bay.fill(&formatted);
    set_policy(bay, policy);
}

/// Disks of these sizes with a file system on them.
fn formatted(sizes: &[u64]) -> RamDisk {
    let disks = RamDisk::of(sizes);
    let mut number = 0_u8;
    let options = FormatOptions {
        version: Version::Copies,
        ..FormatOptions::new(sizes.to_vec(), WallTime(1_600_000_000_000_000))
    };
    let formatted = format(&options, |bytes| {
        number += 1;
        bytes.fill(number);
    });
    ready(farrier_core::drive::format(&disks, &formatted.expect("it can be formatted")))
        .expect("the disks are fine");
    disks
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
        group.put(writer.raw_mut(), &checks);
        let (offset, bytes) = writer.sealed(&checks);
        ready(bay.write(one.device, offset, bytes)).expect("the disks are fine");
        ready(bay.barrier(one.device)).expect("the disks are fine");
    }
}
