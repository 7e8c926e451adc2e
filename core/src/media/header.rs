//! Volume headers (media format 1.4, 1.5).

use alloc::boxed::Box;
use core::ops::Range;

use zerocopy::{FromBytes, IntoBytes};

use super::check::Checks;
use super::copy_group::{COPY_GROUP_LEN, CopyGroup, CopyGroupFault};
use super::damage::DamageList;
use super::raw::{RawBlockref, RawVolumeHeader};
use crate::error::HeaderFault;
use crate::units::{MediaOffset, Tid, Uuid};

/// Size of a volume header.
pub const HEADER_LEN: usize = 65536;
/// Most header copies of a volume.
pub const HEADER_SLOTS: u64 = 4;
/// Distance of the header copies.
pub const HEADER_STRIDE: u64 = 2 << 30;
/// Slot of the shadow header, which only we write, for volumes with room for one header only.
pub const SHADOW_SLOT: u8 = 4;
/// Where the shadow header lies: the last 64 KiB of the first reserved area, which nobody uses
/// (media format 1.2).
pub const SHADOW_OFFSET: u64 = 0x3f_0000;
/// Most volumes of a file system.
pub const VOLUMES_MAX: usize = 64;

/// First word of every header.
pub const MAGIC: u64 = 0x4841_4d32_0517_2011;
/// The type of file system that a header names.
pub const FSTYPE: [u8; 16] = [
    0xd1, 0x9a, 0xbb, 0x5c, 0x2d, 0x86, 0xdc, 0x11, 0xa9, 0x4d, 0x01, 0x30, 0x1b, 0xb8, 0xa9, 0xf5,
];
/// The type of file system of a volume of copies (copies, gate): other programs refuse it by name.
/// It prints as `7a3ec0b1-5d24-4f68-9c1e-66a2d0c4f517`.
pub const FSTYPE_COPIES: [u8; 16] = [
    0xb1, 0xc0, 0x3e, 0x7a, 0x24, 0x5d, 0x68, 0x4f, 0x9c, 0x1e, 0x66, 0xa2, 0xd0, 0xc4, 0xf5, 0x17,
];
/// `volu_loff` of a volume that is not there.
pub const NO_VOLUME: u64 = u64::MAX;

/// Format versions that we know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// One volume.
    V1,
    /// One to 64 volumes.
    V2,
    /// One of up to four copies, each laid out as one volume (copies, gate).
    Copies,
}

impl Version {
    /// The version with media number `number`, if we know it.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            16 => Some(Self::Copies),
            _ => None,
        }
    }

    /// Its number on media.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
            Self::Copies => 16,
        }
    }

    /// The type of file system that goes with it.
    #[must_use]
    pub const fn fstype(self) -> [u8; 16] {
        match self {
            Self::V1 | Self::V2 => FSTYPE,
            Self::Copies => FSTYPE_COPIES,
        }
    }
}

/// A volume header with good check codes, of a known version and type.
#[derive(Clone)]
pub struct VolumeHeader {
    raw: Box<RawVolumeHeader>,
    version: Version,
}

impl core::fmt::Debug for VolumeHeader {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "VolumeHeader(volume {}, tid {})", self.volume_id(), self.mirror_tid().0)
    }
}

impl VolumeHeader {
    /// Reads a header out of one of its slots.
    ///
    /// # Errors
    /// Why this slot holds none. Magic and byte order come first, so that foreign media is called
    /// what it is; the check codes come before anything else is believed.
    pub fn parse(bytes: &[u8], checks: &Checks) -> Result<Self, HeaderFault> {
        let raw = RawVolumeHeader::ref_from_bytes(bytes).map_err(|_| HeaderFault::Length)?;
        let magic = raw.magic.get();
        if magic == MAGIC.swap_bytes() {
            return Err(HeaderFault::ForeignByteOrder);
        }
        if magic != MAGIC {
            return Err(HeaderFault::Magic(magic));
        }
        verify(raw, checks)?;
        let number = raw.version.get();
        let version = Version::from_number(number).ok_or(HeaderFault::Version(number))?;
        if raw.fstype == FSTYPE && version == Version::Copies {
            return Err(HeaderFault::Version(number));
        }
        if raw.fstype != version.fstype() {
            return Err(HeaderFault::Type(Uuid(raw.fstype)));
        }
        if version == Version::Copies && !CopyGroup::is_bound(raw, checks) {
            return Err(HeaderFault::Torn);
        }
        let raw = RawVolumeHeader::read_from_bytes(bytes).map_err(|_| HeaderFault::Length)?;
        let header = Self { raw: Box::new(raw), version };
        header.check_geometry()?;
        Ok(header)
    }

    /// The bytes it was parsed from.
    #[must_use]
    pub const fn raw(&self) -> &RawVolumeHeader {
        &self.raw
    }

    /// Format version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Which volume of its file system this is; 0 holds the root.
    #[must_use]
    pub const fn volume_id(&self) -> u8 {
        self.raw.volu_id
    }

    /// Number of volumes of the file system.
    #[must_use]
    pub const fn volume_count(&self) -> u8 {
        match self.version {
            Version::V1 | Version::Copies => 1,
            Version::V2 => self.raw.nvolumes,
        }
    }

    /// Size of this volume in bytes.
    #[must_use]
    pub fn volume_size(&self) -> u64 {
        self.raw.volu_size.get()
    }

    /// Size of all volumes together.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        match self.version {
            Version::V1 | Version::Copies => self.volume_size(),
            Version::V2 => self.raw.total_size.get(),
        }
    }

    /// Where volume `id` starts in the logical address space, if there is one.
    #[must_use]
    pub fn volume_start(&self, id: u8) -> Option<MediaOffset> {
        match self.version {
            Version::V1 | Version::Copies => (id == 0).then_some(MediaOffset(0)),
            Version::V2 => {
                let start = self.raw.volu_loff.get(usize::from(id))?.get();
                (start != NO_VOLUME).then_some(MediaOffset(start))
            }
        }
    }

    /// Id of the file system, the same on all its volumes.
    #[must_use]
    pub const fn fsid(&self) -> Uuid {
        Uuid(self.raw.fsid)
    }

    /// The media transaction that this header committed: the highest one is the newest.
    #[must_use]
    pub fn mirror_tid(&self) -> Tid {
        Tid(self.raw.mirror_tid.get())
    }

    /// The media transaction up to which the freemap is complete.
    #[must_use]
    pub fn freemap_tid(&self) -> Tid {
        Tid(self.raw.freemap_tid.get())
    }

    /// Data space at format time, in bytes.
    #[must_use]
    pub fn allocator_size(&self) -> u64 {
        self.raw.allocator_size.get()
    }

    /// Free space as counted by the writers; a grown volume may claim more than there is.
    #[must_use]
    pub fn allocator_free(&self) -> u64 {
        self.raw.allocator_free.get()
    }

    /// First byte behind the formatter's own allocations.
    #[must_use]
    pub fn allocator_beg(&self) -> MediaOffset {
        MediaOffset(self.raw.allocator_beg.get())
    }

    /// Start and end of the boot area.
    #[must_use]
    pub fn boot_area(&self) -> (u64, u64) {
        (self.raw.boot_beg.get(), self.raw.boot_end.get())
    }

    /// Start and end of the auxiliary area.
    #[must_use]
    pub fn aux_area(&self) -> (u64, u64) {
        (self.raw.aux_beg.get(), self.raw.aux_end.get())
    }

    /// The table that holds the super-root.
    #[must_use]
    pub const fn super_root_table(&self) -> &[RawBlockref; 4] {
        &self.raw.sroot_blockset
    }

    /// The table that holds the roots of the freemap.
    #[must_use]
    pub const fn freemap_table(&self) -> &[RawBlockref; 4] {
        &self.raw.freemap_blockset
    }

    /// What the header says of the group of copies that its device belongs to (copies, layout).
    ///
    /// # Errors
    /// [`CopyGroupFault::Absent`] for a volume without copies; else why the record is of no use,
    /// though the header around it is whole.
    pub fn copy_group(&self) -> Result<CopyGroup, CopyGroupFault> {
        match self.version {
            Version::V1 | Version::V2 => Err(CopyGroupFault::Absent),
            Version::Copies => CopyGroup::parse(&self.raw.copyinfo[..COPY_GROUP_LEN]),
        }
    }

    /// What the header says is good on no copy: nothing, of a volume without copies (copies, list of
    /// damage).
    #[must_use]
    pub fn damage(&self) -> DamageList {
        match self.version {
            Version::V1 | Version::V2 => DamageList::EMPTY,
            Version::Copies => DamageList::of(&self.raw),
        }
    }

    /// Offset of header copy `slot` on a device, if the device is large enough to hold it.
    #[must_use]
    pub const fn slot_offset(slot: u64, device_size: u64) -> Option<u64> {
        let offset = slot * HEADER_STRIDE;
        if slot < HEADER_SLOTS && offset + HEADER_LEN as u64 <= device_size {
            Some(offset)
        } else {
            None
        }
    }

    /// Whether a volume of this size has room for one header only.
    #[must_use]
    pub const fn is_single(volume_size: u64) -> bool {
        volume_size < HEADER_STRIDE + super::ZONE_RESERVED_LEN
    }

    pub(super) const fn with_raw(&self, raw: Box<RawVolumeHeader>) -> Self {
        Self { raw, version: self.version }
    }

    /// What later arithmetic relies on: sizes that add up and fit a signed 64-bit number.
    fn check_geometry(&self) -> Result<(), HeaderFault> {
        let raw = &*self.raw;
        let sane = match self.version {
            Version::V1 | Version::Copies => {
                raw.volu_id == 0 && raw.nvolumes == 0 && raw.total_size.get() == 0
            }
            Version::V2 => {
                let count = usize::from(raw.nvolumes);
                let (used, unused) = raw.volu_loff.split_at(count.min(VOLUMES_MAX));
                (1..=VOLUMES_MAX).contains(&count)
                    && raw.volu_id < raw.nvolumes
                    && used.first().is_some_and(|start| start.get() == 0)
                    && used.windows(2).all(|pair| pair[0].get() < pair[1].get())
                    && unused.iter().all(|start| start.get() == NO_VOLUME)
            }
        };
        let total = self.total_size();
        let start = self.volume_start(self.volume_id());
        let end = start.and_then(|start| start.0.checked_add(self.volume_size()));
        let fits = total <= i64::MAX.cast_unsigned() && end.is_some_and(|end| end <= total);
        if sane && fits && self.volume_size() > 0 { Ok(()) } else { Err(HeaderFault::Geometry) }
    }
}

/// Gives `raw` the three check codes that its bytes have (media format 1.4): the last thing before
/// a header is written.
pub fn seal(raw: &mut RawVolumeHeader, checks: &Checks) {
    if raw.version.get() == Version::Copies.number() {
        CopyGroup::bind(raw, checks);
    }
    // each later one covers the earlier
    let root = checks.crc32c(&raw.as_bytes()[ROOT_CHECKED]);
    raw.icrc_sects[6].set(root);
    let head = checks.crc32c(&raw.as_bytes()[HEAD_CHECKED]);
    raw.icrc_sects[7].set(head);
    let whole = checks.crc32c(&raw.as_bytes()[WHOLE_CHECKED]);
    raw.icrc_volheader.set(whole);
}

const ROOT_CHECKED: Range<usize> = 0x200..0x400;
const HEAD_CHECKED: Range<usize> = 0..0x1fc;
const WHOLE_CHECKED: Range<usize> = 0..0xfffc;

/// The three check codes, in the order in which the later ones cover the earlier.
fn verify(raw: &RawVolumeHeader, checks: &Checks) -> Result<(), HeaderFault> {
    let bytes = raw.as_bytes();
    let [.., root, head] = raw.icrc_sects;
    let expected = [
        (&bytes[ROOT_CHECKED], root.get()),
        (&bytes[HEAD_CHECKED], head.get()),
        (&bytes[WHOLE_CHECKED], raw.icrc_volheader.get()),
    ];
    for (covered, stored) in expected {
        let computed = checks.crc32c(covered);
        if computed != stored {
            return Err(HeaderFault::Check { stored, computed });
        }
    }
    Ok(())
}
