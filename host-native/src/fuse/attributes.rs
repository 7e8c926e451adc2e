//! Attributes as the kernel wants them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farrier_core::fs::Attributes;
use farrier_core::media::inode::{DIRECT_DATA_MAX, ObjectKind};
use farrier_core::units::WallTime;
use fuser::{FileAttr, FileType, INodeNo};

/// Owner that all files shall seem to have.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

pub(crate) fn file_attr(attributes: &Attributes, owner: Owner) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.inum.0),
        size: attributes.size,
        blocks: blocks(attributes),
        atime: system_time(attributes.atime),
        mtime: system_time(attributes.mtime),
        ctime: system_time(attributes.ctime),
        crtime: system_time(attributes.btime),
        kind: file_type(attributes.kind),
        // twelve bits
        perm: (attributes.mode & 0o7777) as u16,
        nlink: attributes.nlinks,
        uid: owner.uid.unwrap_or(attributes.uid),
        gid: owner.gid.unwrap_or(attributes.gid),
        rdev: device_number(attributes.device),
        blksize: 65536,
        flags: attributes.flags,
    }
}

/// Attributes for an entry whose inode cannot be read: enough for its name to be listed.
pub(crate) fn bare_attr(inum: u64, kind: ObjectKind) -> FileAttr {
    FileAttr {
        ino: INodeNo(inum),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 65536,
        flags: 0,
    }
}

/// In 512 bytes. Direct data counts with the inode that holds it: programs take a file with
/// contents and no blocks for one hole, and do not read it.
fn blocks(attributes: &Attributes) -> u64 {
    let blocks = attributes.allocated_bytes.div_ceil(512);
    let may_be_direct = (1..=DIRECT_DATA_MAX).contains(&attributes.size);
    if blocks == 0 && may_be_direct { 1 } else { blocks }
}

pub(crate) const fn file_type(kind: ObjectKind) -> FileType {
    match kind {
        ObjectKind::Directory => FileType::Directory,
        ObjectKind::Regular => FileType::RegularFile,
        ObjectKind::Fifo => FileType::NamedPipe,
        // Linux has no whiteouts of its own; union mounts write them as character device 0:0.
        ObjectKind::CharDevice | ObjectKind::Whiteout => FileType::CharDevice,
        ObjectKind::BlockDevice => FileType::BlockDevice,
        ObjectKind::Symlink => FileType::Symlink,
        ObjectKind::Socket => FileType::Socket,
    }
}

/// Linux has 12 bits for the major number and 20 for the minor one.
const fn device_number((major, minor): (u32, u32)) -> u32 {
    let (major, minor) = (major & 0xfff, minor & 0xf_ffff);
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

pub(crate) fn system_time(time: WallTime) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds().unsigned_abs());
    let whole = if time.seconds() < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    let nanoseconds = Duration::from_nanos(u64::from(time.nanoseconds()));
    whole.and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_keeps_its_fraction() {
        let time = WallTime((-1_500_000_i64).cast_unsigned());
        let before = UNIX_EPOCH.duration_since(system_time(time)).unwrap();
        assert_eq!(before, Duration::from_millis(1500));
    }

    #[test]
    fn device_numbers_as_linux_packs_them() {
        assert_eq!(device_number((8, 1)), 0x801);
        assert_eq!(device_number((0xfff, 0xf_ffff)), u32::MAX);
    }
}
