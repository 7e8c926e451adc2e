//! Making a new file system: what has to be written, and in which order (media format 1.3 to 1.5,
//! 10, 11.1).
//!
//! [`format`] only computes; [`drive::format`](crate::drive::format) carries it out. Time and
//! randomness are arguments, so equal arguments give equal bytes.
//!
//! The order of the steps holds for every kind of interruption: first every header of a former file
//! system goes, then all but the headers comes, then the headers. Between two of these lies a
//! barrier, so devices whose formatting was cut short hold no file system, never half of one.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

mod copies;
mod geometry;
mod refusal;
#[cfg(test)]
mod tests;

pub use refusal::{Area, FormatRefusal};

use crate::media::addresses::Addresses;
use crate::media::check::{self, CheckMethod, Checks};
use crate::media::copy_group::CopyGroup;
use crate::media::dirhash::{COLLISION_MASK, dirhash};
use crate::media::header::{
    HEADER_LEN, HEADER_SLOTS, HEADER_STRIDE, MAGIC, NO_VOLUME, Version, seal,
};
use crate::media::inode::INODE_LEN;
use crate::media::raw::{RawBlockref, RawInode, RawVolumeHeader};
use crate::media::{ZONE_RESERVED_LEN, blockref};
use crate::units::{DeviceIndex, MediaOffset, Radix, Uuid, WallTime};

use geometry::Geometry;

/// What a new file system is to be. [`FormatOptions::new`] gives what everybody's formatter does
/// when nothing is asked for.
#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// Sizes of the devices in bytes, 1 to 64 of them: volume 0 first.
    ///
    /// A volume takes whole units of its device: 8 MiB, or 1 GiB where another volume follows.
    pub device_sizes: Vec<u64>,
    /// Limit of the size of all volumes together, in bytes; it is rounded down to 8 MiB. It has to
    /// reach into the last device, and what lies behind it there is left alone.
    pub size_max: Option<u64>,
    /// Size of the boot area in bytes: a multiple of 8 MiB. Without it 64 MiB, halved while that is
    /// more than a twentieth of the volumes, but not below 8 MiB.
    pub boot_size: Option<u64>,
    /// Size of the auxiliary area in bytes: a multiple of 8 MiB. Without it 256 MiB, halved as the
    /// boot area is.
    pub aux_size: Option<u64>,
    /// Version of the volume format. Only version 2 knows several volumes; with
    /// [`Version::Copies`], each device becomes one copy, and there may be up to four.
    pub version: Version,
    /// Labels of the PFSs to make beside LOCAL, at most three.
    pub labels: Vec<Vec<u8>>,
    /// Compression that the PFSs ask for and new files inherit, as an inode says it: the algorithm
    /// (0 none, 1 autozero, 2 LZ4, 3 zlib) in the low nibble, the level of zlib (6 to 9, or 0 for
    /// its default) in the high one. A PFS labelled BOOT, in whatever case, always has autozero.
    pub compression: u8,
    /// Check method that the PFSs ask for and new files inherit; all but
    /// [`CheckMethod::Freemap`].
    pub check: CheckMethod,
    /// Time of creation.
    pub now: WallTime,
    /// The arithmetic of check codes.
    pub checks: Checks,
}

impl FormatOptions {
    /// Version 2, a PFS labelled DATA beside LOCAL, LZ4 and XXH64, areas by their rules.
    #[must_use]
    pub fn new(device_sizes: Vec<u64>, now: WallTime) -> Self {
        Self {
            device_sizes,
            size_max: None,
            boot_size: None,
            aux_size: None,
            version: Version::V2,
            labels: vec![b"DATA".to_vec()],
            compression: 2,
            check: CheckMethod::Xxhash64,
            now,
            checks: Checks::PORTABLE,
        }
    }
}

/// One thing to do. They are done in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FormatStep {
    /// Fill a range of a device with zeros.
    Zero {
        /// Which device.
        device: DeviceIndex,
        /// First byte on the device.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Write a block.
    Write {
        /// Which device.
        device: DeviceIndex,
        /// First byte on the device.
        offset: u64,
        /// What; header copies share it.
        bytes: Arc<[u8]>,
    },
    /// Bring everything before it to the medium, on all devices.
    Barrier,
}

/// A volume of the new file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FormattedVolume {
    /// Its device; the volume has the same number.
    pub device: DeviceIndex,
    /// Where it starts in the logical address space.
    pub start: MediaOffset,
    /// Its size in bytes.
    pub size: u64,
    /// Size of the device in bytes, as the options said.
    pub device_size: u64,
}

/// Something that the user of the new file system will want to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormatNote {
    /// There is no room for even one file: all space goes to the structure of the volume itself.
    NoRoom,
}

impl core::fmt::Display for FormatNote {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoRoom => f.write_str(
                "no room for even one file; give it at least 32 MiB, or smaller boot and \
                 auxiliary areas",
            ),
        }
    }
}

/// A new file system, not yet on any device.
#[derive(Clone, Debug)]
pub struct Formatted {
    /// What has to be done, in this order.
    pub steps: Vec<FormatStep>,
    /// Its volumes, one to a device.
    pub volumes: Vec<FormattedVolume>,
    /// Its version.
    pub version: Version,
    /// Its id.
    pub fsid: Uuid,
    /// Labels of its PFSs, LOCAL first.
    pub labels: Vec<Vec<u8>>,
    /// Start and end of the boot area in bytes.
    pub boot_area: (u64, u64),
    /// Start and end of the auxiliary area in bytes.
    pub aux_area: (u64, u64),
    /// Size of all volumes together, in bytes.
    pub total_size: u64,
    /// Bytes that files and directories can take.
    pub usable_size: u64,
}

impl Formatted {
    /// What is worth a word beside the figures.
    #[must_use]
    pub const fn note(&self) -> Option<FormatNote> {
        if self.usable_size == 0 { Some(FormatNote::NoRoom) } else { None }
    }
}

/// Works out a new file system. `random` fills a buffer with random bytes, for the UUIDs; it is
/// asked for at most 11 times 16 of them.
///
/// # Errors
/// Why there can be no such file system.
pub fn format(
    options: &FormatOptions,
    mut random: impl FnMut(&mut [u8; 16]),
) -> Result<Formatted, FormatRefusal> {
    refusal::check_methods(options)?;
    refusal::check_labels(&options.labels)?;
    if options.version == Version::Copies {
        return copies::format(options, &mut random);
    }
    let geometry = Geometry::of(options)?;
    let mut uuids = Uuids { random: &mut random, given: Vec::new() };
    let fsid = uuids.next()?;
    let mut labels = vec![LOCAL.to_vec()];
    labels.extend_from_slice(&options.labels);
    let roots = Roots { options, geometry: &geometry, copies: None };
    let (inodes, super_root) = roots.block(&labels, &mut uuids)?;

    let mut steps = Vec::new();
    forget_former(&geometry, &mut steps);
    steps.push(FormatStep::Barrier);
    clear(options, &geometry, &mut steps);
    // the root volume is the first, so logical offsets are offsets on its device
    steps.push(write(DeviceIndex(0), geometry.aux_end, inodes.into()));
    steps.push(FormatStep::Barrier);
    // the root volume last: without its header there is nothing to open
    for volume in geometry.volumes.iter().rev() {
        let first_free = geometry.aux_end + (INODE_LEN * (1 + labels.len())) as u64;
        let header = Header { options, geometry: &geometry, fsid, group: None };
        let header: Arc<[u8]> = header.bytes(volume, first_free, &super_root).into();
        for offset in slots(volume.size) {
            steps.push(write(volume.device, offset, Arc::clone(&header)));
        }
    }
    steps.push(FormatStep::Barrier);
    Ok(Formatted {
        steps,
        version: options.version,
        fsid,
        labels,
        boot_area: (ZONE_RESERVED_LEN, geometry.boot_end),
        aux_area: (geometry.boot_end, geometry.aux_end),
        total_size: geometry.total,
        usable_size: geometry.usable(),
        volumes: geometry.volumes,
    })
}

const fn write(device: DeviceIndex, offset: u64, bytes: Arc<[u8]>) -> FormatStep {
    FormatStep::Write { device, offset, bytes }
}

/// Where header copies start, on a device or volume of `size`.
fn slots(size: u64) -> impl Iterator<Item = u64> {
    (0..HEADER_SLOTS).map(|slot| slot * HEADER_STRIDE).filter(move |offset| *offset < size)
}

/// Every slot of a header that the devices have, those behind the new volumes too: no header of a
/// former file system may be found again.
fn forget_former(geometry: &Geometry, steps: &mut Vec<FormatStep>) {
    for &FormattedVolume { device, device_size, .. } in &geometry.volumes {
        steps.extend(slots(device_size).map(|offset| FormatStep::Zero {
            device,
            offset,
            len: (HEADER_LEN as u64).min(device_size - offset),
        }));
    }
}

/// The starts of the volumes, the areas, and the ends.
fn clear(options: &FormatOptions, geometry: &Geometry, steps: &mut Vec<FormatStep>) {
    for &FormattedVolume { device, size, device_size, .. } in &geometry.volumes {
        let is_root = device == DeviceIndex(0) || options.version == Version::Copies;
        let head_end = if is_root { geometry.aux_end } else { ZONE_RESERVED_LEN };
        // slot 0 is zeroed already
        let head = (HEADER_LEN as u64, head_end);
        let tail = (size - TAIL_LEN, size);
        // Others mark the end of a device as theirs: RAID, ZFS, the second table of GPT. What lies
        // behind an explicit limit is none of our business.
        let end = match options.size_max {
            None => Some((device_size - FOREIGN_TAIL_LEN, device_size)),
            Some(_) => None,
        };
        for (from, to) in [Some(head), Some(tail), end].into_iter().flatten() {
            steps.push(FormatStep::Zero { device, offset: from, len: to - from });
        }
    }
}

/// UUIDs out of random bytes, each given once.
struct Uuids<'a> {
    random: &'a mut dyn FnMut(&mut [u8; 16]),
    given: Vec<Uuid>,
}

impl Uuids<'_> {
    fn next(&mut self) -> Result<Uuid, FormatRefusal> {
        let mut bytes = [0; 16];
        (self.random)(&mut bytes);
        // Version 4, in the fields of HAMMER2's byte order.
        bytes[7] = bytes[7] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let uuid = Uuid(bytes);
        // two PFSs with one id would be taken for one (media format 13, trap 23)
        if self.given.contains(&uuid) {
            return Err(FormatRefusal::Randomness);
        }
        self.given.push(uuid);
        Ok(uuid)
    }
}

/// The super-root and the roots of the PFSs: the one block that a formatter writes.
struct Roots<'a> {
    options: &'a FormatOptions,
    geometry: &'a Geometry,
    /// How many copies have the block, at the same place.
    copies: Option<u8>,
}

impl Roots<'_> {
    /// The block, and the blockref of the super-root in it.
    fn block(
        &self,
        labels: &[Vec<u8>],
        uuids: &mut Uuids<'_>,
    ) -> Result<(Vec<u8>, RawBlockref), FormatRefusal> {
        let mut super_root = self.inode(b"SUPROOT", 0, uuids)?;
        super_root.mode.set(0o700);
        super_root.nlinks.set(2);
        super_root.comp_algo = AUTOZERO;
        super_root.check_algo = CheckMethod::Xxhash64.code();
        super_root.pfs_type = PFS_SUPER_ROOT;

        let mut block = vec![0; Radix::MAX.len()];
        let mut table: Vec<RawBlockref> = Vec::new();
        let places = block.chunks_exact_mut(INODE_LEN).skip(1);
        for ((label, place), number) in labels.iter().zip(places).zip(1..) {
            let key = free_key(label, &table);
            let inode = self.pfs_root(label, key, uuids)?;
            place.copy_from_slice(inode.as_bytes());
            let mut blockref = self.blockref(key, number, &inode);
            blockref.methods = METHODS_PFS_ROOT;
            blockref.flags = blockref::FLAG_PFS_ROOT;
            table.push(blockref);
        }
        table.sort_by_key(|blockref| blockref.key.get());
        let table = table.as_bytes();
        // check_labels() left as many labels as the table has slots
        super_root.content[..table.len()].copy_from_slice(table);
        block[..INODE_LEN].copy_from_slice(super_root.as_bytes());
        let mut blockref = self.blockref(0, 0, &super_root);
        blockref.methods = METHODS_SUPER_ROOT;
        Ok((block, blockref))
    }

    fn pfs_root(
        &self,
        label: &[u8],
        key: u64,
        uuids: &mut Uuids<'_>,
    ) -> Result<RawInode, FormatRefusal> {
        let mut inode = self.inode(label, key, uuids)?;
        inode.op_flags = OP_PFS_ROOT;
        inode.mode.set(0o755);
        inode.inum.set(1);
        inode.nlinks.set(1);
        let is_boot = label.eq_ignore_ascii_case(b"BOOT");
        inode.comp_algo = if is_boot { AUTOZERO } else { self.options.compression };
        inode.check_algo = self.options.check.code();
        inode.pfs_type = PFS_MASTER;
        inode.pfs_inum.set(FIRST_TID);
        Ok(inode)
    }

    /// What every directory made here has in common.
    fn inode(
        &self,
        name: &[u8],
        key: u64,
        uuids: &mut Uuids<'_>,
    ) -> Result<RawInode, FormatRefusal> {
        let mut inode = RawInode::new_zeroed();
        inode.version.set(1);
        // atime stays 0, as every formatter leaves it
        for time in [&mut inode.ctime, &mut inode.mtime, &mut inode.btime] {
            time.set(self.options.now.0);
        }
        inode.kind = KIND_DIRECTORY;
        inode.name_key.set(key);
        // check_labels() keeps names below the length of the field
        inode.name_len.set(u16::try_from(name.len()).unwrap_or(0));
        inode.filename[..name.len()].copy_from_slice(name);
        inode.pfs_clid = uuids.next()?.0;
        inode.pfs_fsid = uuids.next()?.0;
        Ok(inode)
    }

    /// A blockref to `inode`, which is number `place` in the block.
    fn blockref(&self, key: u64, place: u64, inode: &RawInode) -> RawBlockref {
        let mut raw = RawBlockref::new_zeroed();
        raw.kind = KIND_INODE;
        raw.copy_id = 0xff;
        raw.vradix = Radix::MIN.bits();
        raw.key.set(key);
        raw.mirror_tid.set(FIRST_TID);
        let offset = self.geometry.aux_end + place * INODE_LEN as u64;
        raw.data_off.set(offset | u64::from(Radix::MIN.bits()));
        let code = self.options.checks.compute(inode.as_bytes(), CheckMethod::Xxhash64);
        check::store(code, &mut raw.check);
        if let Some(count) = self.copies
            && let Some(addresses) =
                Addresses::from_places((0..count).map(|copy| (copy, MediaOffset(offset))))
        {
            addresses.put(&mut raw);
        }
        raw
    }
}

/// The key of `label`: its hash, or the next that no other label has.
fn free_key(label: &[u8], table: &[RawBlockref]) -> u64 {
    let hash = dirhash(label);
    let is_free = |key: &u64| table.iter().all(|other| other.key.get() != *key);
    (hash..=hash | COLLISION_MASK).find(is_free).unwrap_or(hash)
}

struct Header<'a> {
    options: &'a FormatOptions,
    geometry: &'a Geometry,
    fsid: Uuid,
    /// What it says of copies, if it is the header of one.
    group: Option<&'a CopyGroup>,
}

impl Header<'_> {
    fn bytes(
        &self,
        volume: &FormattedVolume,
        first_free: u64,
        super_root: &RawBlockref,
    ) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        let raw = RawVolumeHeader::mut_from_bytes(&mut bytes).expect("as long as a header is");
        raw.magic.set(MAGIC);
        raw.volu_size.set(volume.size);
        raw.version.set(self.options.version.number());
        raw.peer_type = PEER_HAMMER2;
        raw.volu_id = if self.group.is_some() { 0 } else { volume.device.0 };
        raw.fsid = self.fsid.0;
        raw.fstype = self.options.version.fstype();
        raw.allocator_size.set(self.geometry.allocator_size());
        raw.mirror_tid.set(FIRST_TID);
        raw.freemap_tid.set(FIRST_TID);
        if self.options.version == Version::V2 {
            self.volumes(raw);
        }
        if volume.device == DeviceIndex(0) || self.group.is_some() {
            raw.boot_beg.set(ZONE_RESERVED_LEN);
            raw.boot_end.set(self.geometry.boot_end);
            raw.aux_beg.set(self.geometry.boot_end);
            raw.aux_end.set(self.geometry.aux_end);
            raw.allocator_free.set(self.geometry.allocator_size());
            raw.allocator_beg.set(first_free);
            raw.sroot_blockset[0] = *super_root;
        } else {
            for slot in &mut raw.sroot_blockset {
                slot.kind = KIND_INVALID;
            }
        }
        if let Some(group) = self.group {
            group.put(raw, &self.options.checks);
        }
        seal(raw, &self.options.checks);
        bytes
    }

    /// What only version 2 says.
    fn volumes(&self, raw: &mut RawVolumeHeader) {
        raw.nvolumes = u8::try_from(self.geometry.volumes.len()).unwrap_or(u8::MAX);
        raw.total_size.set(self.geometry.total);
        let starts = self.geometry.volumes.iter().map(|volume| volume.start.0);
        for (field, start) in
            raw.volu_loff.iter_mut().zip(starts.chain(core::iter::repeat(NO_VOLUME)))
        {
            field.set(start);
        }
    }
}

const LOCAL: &[u8] = b"LOCAL";
/// Most labels of all, LOCAL among them: so many slots has the table of the super-root.
const LABELS_MAX: usize = 4;
/// First transaction of the media, and the first number that a PFS hands out.
const FIRST_TID: u64 = 16;
/// What a formatter zeroes at the end of a volume.
const TAIL_LEN: u64 = 64 << 10;
/// What is zeroed at the end of a device: the labels of ZFS lie in its last 768 KiB, those of RAID
/// and the second table of GPT behind them.
const FOREIGN_TAIL_LEN: u64 = 1 << 20;
const AUTOZERO: u8 = 1;
const KIND_DIRECTORY: u8 = 1;
const KIND_INODE: u8 = 1;
/// Stands in the super-root's table of volumes that have none (media format 3).
const KIND_INVALID: u8 = 7;
const OP_PFS_ROOT: u8 = 0x02;
const PFS_MASTER: u8 = 6;
const PFS_SUPER_ROOT: u8 = 8;
const PEER_HAMMER2: u8 = 3;
/// XXH64, and the nibble of compression that formatters leave there: it means nothing.
const METHODS_SUPER_ROOT: u8 = 0x31;
const METHODS_PFS_ROOT: u8 = 0x30;
