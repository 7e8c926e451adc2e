//! What lies on a device already: before it is overwritten, whoever asked for that should know.
//!
//! Known by their magics, never parsed. That nothing is recognised does not mean that there is
//! nothing.

use std::path::Path;

use farrier_core::drive::ready;
use farrier_core::media::header::{HEADER_SLOTS, HEADER_STRIDE, MAGIC};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;

/// What `device` holds, in words that follow "holds": `an ext2, ext3 or ext4 file system`.
///
/// What cannot be read is taken to hold nothing.
pub fn recognise(storage: &impl Storage, device: DeviceIndex) -> Option<&'static str> {
    let size = storage.size(device);
    let read = |offset: u64, len: usize| -> Vec<u8> {
        let here = usize::try_from(size.saturating_sub(offset)).map_or(len, |rest| rest.min(len));
        if here == 0 {
            return Vec::new();
        }
        ready(storage.read(device, offset, here)).unwrap_or_default()
    };
    let is_hammer2 = |slot: u64| {
        let magic = read(slot * HEADER_STRIDE, 8);
        magic == MAGIC.to_le_bytes() || magic == MAGIC.swap_bytes().to_le_bytes()
    };
    if (0..HEADER_SLOTS).any(is_hammer2) {
        return Some("a HAMMER2 volume");
    }
    let head = read(0, HEAD_LEN);
    if let Some(magic) = MAGICS.iter().find(|magic| at(&head, magic.offset, magic.bytes)) {
        return Some(magic.what);
    }
    if is_zfs(&head) {
        return Some("a part of a ZFS pool");
    }
    let tail_start = size.saturating_sub(TAIL_LEN as u64) / 512 * 512;
    at_the_end(&read(tail_start, TAIL_LEN + 512), tail_start, size).or_else(|| boot_sector(&head))
}

/// What a device holds that is to be overwritten. A file of unknown contents is something too: more
/// often than a block device it is named by mistake.
pub fn contents(storage: &impl Storage, device: DeviceIndex, path: &Path) -> Option<&'static str> {
    let found = recognise(storage, device);
    let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    if found.is_none() && is_file && !is_blank(storage, device) {
        return Some("data of a kind that farrier does not know");
    }
    found
}

/// Whether `device` begins with nothing but zeros; what cannot be read does not.
pub fn is_blank(storage: &impl Storage, device: DeviceIndex) -> bool {
    let len = usize::try_from(storage.size(device)).map_or(HEAD_LEN, |size| size.min(HEAD_LEN));
    ready(storage.read(device, 0, len)).is_ok_and(|head| head.iter().all(|byte| *byte == 0))
}

fn at(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    bytes.get(offset..).is_some_and(|bytes| bytes.starts_with(magic))
}

/// A ring of uberblocks, in either byte order, stands in the second half of each label of 256 KiB.
fn is_zfs(head: &[u8]) -> bool {
    let rings = [128 << 10..256 << 10, 384 << 10..512 << 10];
    rings.into_iter().flat_map(|ring| ring.step_by(1024)).any(|offset| {
        at(head, offset, &0x00ba_b10c_u64.to_le_bytes())
            || at(head, offset, &0x00ba_b10c_u64.swap_bytes().to_le_bytes())
    })
}

/// RAID and the second table of GPT mark the end; `tail` starts at `start`.
fn at_the_end(tail: &[u8], start: u64, size: u64) -> Option<&'static str> {
    let at = |offset: Option<u64>, magic: &[u8]| {
        let place = offset.and_then(|offset| offset.checked_sub(start));
        place
            .and_then(|place| usize::try_from(place).ok())
            .is_some_and(|place| at(tail, place, magic))
    };
    // metadata 1.0: at least 8 KiB from the end; 0.90: the last whole 64 KiB but one
    let raid_1 = size.checked_sub(8 << 10).map(|offset| offset / 4096 * 4096);
    let raid_0 = (size / (64 << 10)).checked_sub(1).map(|number| number * (64 << 10));
    if [raid_1, raid_0].into_iter().any(|offset| at(offset, RAID)) {
        return Some("a part of a Linux RAID");
    }
    let gpt = [512, 4096].into_iter().any(|sector| at(size.checked_sub(sector), GPT));
    gpt.then_some("a partition table (GPT)")
}

/// Last, since file systems have boot sectors too.
fn boot_sector(head: &[u8]) -> Option<&'static str> {
    if !at(head, 510, &[0x55, 0xaa]) {
        return None;
    }
    let entries = head.get(446..510)?.chunks_exact(16);
    let is_table = entries.clone().all(|entry| matches!(entry, [0 | 0x80, ..]))
        && entries.clone().any(|entry| entry.get(4).is_some_and(|kind| *kind != 0));
    Some(if is_table { "a partition table (MBR)" } else { "a boot sector" })
}

struct Magic {
    offset: usize,
    bytes: &'static [u8],
    what: &'static str,
}

const fn magic(offset: usize, bytes: &'static [u8], what: &'static str) -> Magic {
    Magic { offset, bytes, what }
}

const RAID: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];
const GPT: &[u8] = b"EFI PART";
/// ZFS needs two labels of 256 KiB.
const HEAD_LEN: usize = 512 << 10;
const TAIL_LEN: usize = 128 << 10;

/// Those of containers first: what they hold lies deeper.
const MAGICS: &[Magic] = &[
    magic(0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    magic(0x4000, b"SKUL\xba\xbe", "an encrypted volume (LUKS)"),
    magic(3, b"-FVE-FS-", "an encrypted volume (BitLocker)"),
    magic(0x000, b"LABELONE", "a part of LVM"),
    magic(0x200, b"LABELONE", "a part of LVM"),
    magic(0x400, b"LABELONE", "a part of LVM"),
    magic(0x600, b"LABELONE", "a part of LVM"),
    magic(0, RAID, "a part of a Linux RAID"),
    magic(0x1000, RAID, "a part of a Linux RAID"),
    magic(0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "a part of bcache"),
    magic(0x1018, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9", "a bcachefs file system"),
    magic(0, b"QFI\xfb", "a disk image of QEMU (qcow2)"),
    magic(0, b"KDMV", "a disk image of VMware"),
    magic(0, b"vhdxfile", "a disk image of Hyper-V"),
    magic(0x40, b"\x7f\x10\xda\xbe", "a disk image of VirtualBox"),
    magic(0x438, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    magic(0, b"XFSB", "an XFS file system"),
    magic(0x1_0040, b"_BHRfS_M", "a Btrfs file system"),
    magic(3, b"NTFS    ", "an NTFS file system"),
    magic(3, b"ReFS\0\0\0\0", "a ReFS file system"),
    magic(3, b"EXFAT   ", "an exFAT file system"),
    magic(0x36, b"FAT12   ", "a FAT file system"),
    magic(0x36, b"FAT16   ", "a FAT file system"),
    magic(0x36, b"FAT     ", "a FAT file system"),
    magic(0x52, b"FAT32   ", "a FAT file system"),
    magic(0xff6, b"SWAPSPACE2", "swap space"),
    magic(0x1ff6, b"SWAPSPACE2", "swap space"),
    magic(0x3ff6, b"SWAPSPACE2", "swap space"),
    magic(0xfff6, b"SWAPSPACE2", "swap space"),
    magic(0xff6, b"SWAP-SPACE", "swap space"),
    magic(0xff6, b"S1SUSPEND", "a sleeping system (hibernation)"),
    magic(0xff6, b"LINHIB0001", "a sleeping system (hibernation)"),
    magic(0x8001, b"CD001", "an ISO 9660 file system"),
    magic(0x8001, b"BEA01", "a UDF file system"),
    magic(0x400, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    magic(0x400, b"\xe2\xe1\xf5\xe0", "an EROFS file system"),
    magic(0, b"hsqs", "a SquashFS file system"),
    magic(0x1_0034, b"ReIsEr", "a ReiserFS file system"),
    magic(0x8000, b"JFS1", "a JFS file system"),
    magic(0x400, b"H+\x00\x04", "an HFS+ file system"),
    magic(0x400, b"HX\x00\x05", "an HFS+ file system"),
    magic(0x20, b"NXSB", "an APFS container"),
    magic(0x255c, b"\x54\x19\x01\x00", "a UFS file system"),
    magic(0x1_055c, b"\x19\x01\x54\x19", "a UFS file system"),
    magic(0, b"\x31\x30\x52\xc5\x4d\x4d\x41\xc8", "a HAMMER file system"),
    magic(0x200, GPT, "a partition table (GPT)"),
    magic(0x1000, GPT, "a partition table (GPT)"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_core::error::DeviceFault;

    const SIZE: usize = 3 << 20;

    struct Memory(Vec<u8>);

    impl Storage for Memory {
        fn device_count(&self) -> usize {
            1
        }

        fn size(&self, _: DeviceIndex) -> u64 {
            self.0.len() as u64
        }

        async fn read(&self, _: DeviceIndex, at: u64, len: usize) -> Result<Vec<u8>, DeviceFault> {
            let at = usize::try_from(at).unwrap();
            Ok(self.0[at..at + len].to_vec())
        }
    }

    fn with(pieces: &[(usize, &[u8])]) -> Memory {
        let mut bytes = vec![0; SIZE];
        for (offset, piece) in pieces {
            bytes[*offset..offset + piece.len()].copy_from_slice(piece);
        }
        Memory(bytes)
    }

    fn found(pieces: &[(usize, &[u8])]) -> Option<&'static str> {
        let memory = with(pieces);
        assert_eq!(is_blank(&memory, DeviceIndex(0)), pieces.iter().all(|(at, _)| *at >= HEAD_LEN));
        recognise(&memory, DeviceIndex(0))
    }

    #[test]
    fn every_magic_is_found_where_it_stands() {
        assert_eq!(found(&[]), None);
        for magic in MAGICS {
            assert_eq!(found(&[(magic.offset, magic.bytes)]), Some(magic.what));
        }
        assert_eq!(found(&[(0, &MAGIC.to_le_bytes())]), Some("a HAMMER2 volume"));
        assert_eq!(found(&[(0, &MAGIC.swap_bytes().to_le_bytes())]), Some("a HAMMER2 volume"));
        assert_eq!(found(&[(0x2_4000, b"\x0c\xb1\xba\0\0\0\0\0")]), Some("a part of a ZFS pool"));
        assert_eq!(found(&[(0x7_fc00, b"\0\0\0\0\0\xba\xb1\x0c")]), Some("a part of a ZFS pool"));
    }

    #[test]
    fn the_end_counts_too() {
        assert_eq!(found(&[(SIZE - 8192, RAID)]), Some("a part of a Linux RAID"));
        assert_eq!(found(&[(SIZE - 65536, RAID)]), Some("a part of a Linux RAID"));
        assert_eq!(found(&[(SIZE - 512, GPT)]), Some("a partition table (GPT)"));
        assert_eq!(found(&[(SIZE - 4096, GPT)]), Some("a partition table (GPT)"));
    }

    #[test]
    fn a_boot_sector_is_told_from_a_partition_table_and_a_file_system() {
        let signature = (510, &b"\x55\xaa"[..]);
        assert_eq!(found(&[signature]), Some("a boot sector"));
        let entry = (446, &b"\x80\0\0\0\x83"[..]);
        assert_eq!(found(&[signature, entry]), Some("a partition table (MBR)"));
        assert_eq!(found(&[signature, (0x52, b"FAT32   ")]), Some("a FAT file system"));
    }

    #[test]
    fn small_and_odd_sizes_are_looked_at_without_harm() {
        for len in [0, 1, 511, 513, 8191, 70_001] {
            assert_eq!(recognise(&Memory(vec![0; len]), DeviceIndex(0)), None);
        }
        let last = [&[0; 100][..], GPT, &[0; 504][..]].concat();
        assert_eq!(recognise(&Memory(last), DeviceIndex(0)), Some("a partition table (GPT)"));
    }
}
