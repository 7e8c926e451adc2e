//! Where the copies of a volume are: kept in the record of the group by whoever writes it, and looked
//! for by whoever has some of them and wants the others.
//!
//! A place is only a hint: what is there is believed to be a copy if its own record says so, by the
//! group's id and the device's.

use std::collections::BTreeSet;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use farrier_core::copies::CopyGroup;
use farrier_core::media::copy_group::COPIES_MAX;
use farrier_core::units::Uuid;
use farrier_core::volume::LiveCopies;

use super::record_at;
use crate::device::Devices;

/// Names of block devices that stay the same wherever they are attached.
const BY_ID: &str = "/dev/disk/by-id";
/// The kernel's list of block devices.
const BLOCK_DEVICES: &str = "/sys/class/block";

/// A copy that was looked for and found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundCopy {
    /// Its slot.
    pub slot: u8,
    /// Its device.
    pub path: PathBuf,
}

/// The copies that `devices` belong together with and that are not among them, as far as they are
/// where they were last, beside the first of `devices`, or on any block device.
#[must_use]
pub fn find_others(devices: &[PathBuf]) -> Vec<FoundCopy> {
    let records: Vec<CopyGroup> = devices.iter().filter_map(|path| record_at(path)).collect();
    // the one that knows most
    let Some(group) = records.iter().max_by_key(|record| (record.epoch.seq, record.flush_seq))
    else {
        return Vec::new();
    };
    let has = |device: Uuid| records.iter().any(|record| record.device == device);
    let beside = devices.first().and_then(|path| path.parent()).unwrap_or(Path::new(""));
    let wanted = (0_u8..).zip(&group.slots);
    let wanted = wanted.filter(|(_, slot)| slot.state.is_configured() && !has(slot.device));
    let mut everywhere = None;
    let mut found = Vec::new();
    for (slot, copy) in wanted {
        let is_it = |path: &PathBuf| {
            record_at(path)
                .is_some_and(|record| (record.group, record.device) == (group.group, copy.device))
        };
        let near = near(&copy.hint, beside);
        let path = near.into_iter().find(is_it).or_else(|| {
            everywhere.get_or_insert_with(block_devices).iter().find(|path| is_it(path)).cloned()
        });
        found.extend(path.map(|path| FoundCopy { slot, path }));
    }
    found
}

/// Where a hint leads to: itself; what has its name in the folder `beside`; and what its end leads to
/// from there and from the folders above, as where a whole tree was carried elsewhere, or a path was too
/// long for the hint.
fn near(hint: &[u8], beside: &Path) -> Vec<PathBuf> {
    let hint = PathBuf::from(std::ffi::OsString::from_vec(hint.to_vec()));
    let beside = std::path::absolute(beside).unwrap_or_default();
    let itself = hint.is_absolute().then(|| hint.clone());
    let name = hint.file_name().map(|name| beside.join(name));
    let parts: Vec<_> = hint.iter().skip(1).collect();
    let ends: Vec<PathBuf> = (0..parts.len()).map(|from| parts[from..].iter().collect()).collect();
    let from_above = beside.ancestors().flat_map(|folder| ends.iter().map(|end| folder.join(end)));
    let mut near: Vec<PathBuf> = Vec::new();
    for path in itself.into_iter().chain(name).chain(from_above) {
        // what is neither a file nor a device is not opened
        if !near.contains(&path) && is_device(&path) {
            near.push(path);
        }
    }
    near
}

fn is_device(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() || metadata.file_type().is_block_device())
}

/// All block devices, by the name that they keep where they have one.
fn block_devices() -> Vec<PathBuf> {
    let names = |folder: &str| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut real = BTreeSet::new();
    let by_id = names(BY_ID).map(|entry| entry.path());
    let by_name = names(BLOCK_DEVICES).map(|entry| Path::new("/dev").join(entry.file_name()));
    let is_new =
        |path: &PathBuf| is_device(path) && path.canonicalize().is_ok_and(|path| real.insert(path));
    by_id.chain(by_name).filter(is_new).collect()
}

/// The places of the copies that are here, for the record: a name that a block device keeps, or else
/// its path.
pub(crate) fn places(live: &LiveCopies, devices: &Devices) -> Vec<(u8, Vec<u8>)> {
    let place = |slot: u8| {
        let path = devices.path(live.device(slot)?)?;
        let kept = kept_name(path).or_else(|| std::path::absolute(path).ok())?;
        Some((slot, kept.as_os_str().as_bytes().to_vec()))
    };
    (0..).take(COPIES_MAX).filter_map(place).collect()
}

/// A name of a block device that stays the same wherever it is attached.
fn kept_name(path: &Path) -> Option<PathBuf> {
    let metadata = std::fs::metadata(path).ok()?;
    let real =
        metadata.file_type().is_block_device().then(|| path.canonicalize().ok()).flatten()?;
    let names = std::fs::read_dir(BY_ID).ok()?.flatten().map(|entry| entry.path());
    names.filter(|name| name.canonicalize().is_ok_and(|target| target == real)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_leads_to_itself_and_to_its_name_beside() {
        let folder = std::env::temp_dir().join(format!("farrier-places-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("b")).unwrap();
        let (a, b) = (folder.join("x.img"), folder.join("b/x.img"));
        std::fs::write(&b, "").unwrap();
        let hint = a.as_os_str().as_bytes();
        assert_eq!(near(hint, &folder.join("b")), std::slice::from_ref(&b));
        std::fs::write(&a, "").unwrap();
        assert_eq!(near(hint, &folder.join("b")), [a.clone(), b]);
        // the beginning of a long path is not kept
        assert_eq!(near(b"g/path/x.img", &folder), [a]);
        // a whole tree was carried elsewhere, or its path was too long
        let (c, deep) = (folder.join("b/c/y.img"), folder.join("b/d/e"));
        std::fs::create_dir_all(folder.join("b/c")).unwrap();
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(&c, "").unwrap();
        for hint in [&b"/media/usb/b/c/y.img"[..], b"where/it/was/b/c/y.img", b"g/c/y.img"] {
            assert_eq!(near(hint, &deep), std::slice::from_ref(&c));
        }
        assert!(near(b"/", &folder).is_empty() && near(b"", &folder).is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
