//! The structures as they lie on media, byte for byte (media format 1.4, 3, 5, 8.4).
//!
//! Integers are little-endian and unaligned; unions are byte arrays, given a meaning by the types
//! of the sibling modules. To change a structure, edit a copy of its raw form: what nobody here
//! understands has to survive.

use core::mem::{offset_of, size_of};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A reference to a block, 128 bytes (media format 3).
#[derive(
    FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, Debug,
)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are described where they are parsed")]
pub struct RawBlockref {
    pub kind: u8,
    pub methods: u8,
    pub copy_id: u8,
    pub key_bits: u8,
    pub vradix: u8,
    pub flags: u8,
    pub leaf_count: U16,
    pub key: U64,
    pub mirror_tid: U64,
    pub modify_tid: U64,
    pub data_off: U64,
    pub update_tid: U64,
    /// Dirent header, or `{data_count, inode_count}`.
    pub embed: [u8; 16],
    /// Check code, short file name, or freemap hints.
    pub check: [u8; 64],
}

const _: () = {
    assert!(size_of::<RawBlockref>() == 128);
    assert!(offset_of!(RawBlockref, leaf_count) == 0x06);
    assert!(offset_of!(RawBlockref, key) == 0x08);
    assert!(offset_of!(RawBlockref, mirror_tid) == 0x10);
    assert!(offset_of!(RawBlockref, modify_tid) == 0x18);
    assert!(offset_of!(RawBlockref, data_off) == 0x20);
    assert!(offset_of!(RawBlockref, update_tid) == 0x28);
    assert!(offset_of!(RawBlockref, embed) == 0x30);
    assert!(offset_of!(RawBlockref, check) == 0x40);
};

/// The volume header, 64 KiB (media format 1.4). Keep it in a `Box`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are described where they are parsed")]
#[allow(missing_debug_implementations, reason = "nobody prints that many bytes")]
pub struct RawVolumeHeader {
    pub magic: U64,
    pub boot_beg: U64,
    pub boot_end: U64,
    pub aux_beg: U64,
    pub aux_end: U64,
    pub volu_size: U64,
    pub version: U32,
    pub flags: U32,
    pub copy_id: u8,
    pub freemap_version: u8,
    pub peer_type: u8,
    pub volu_id: u8,
    pub nvolumes: u8,
    pub reserved_3d: [u8; 3],
    pub fsid: [u8; 16],
    pub fstype: [u8; 16],
    pub allocator_size: U64,
    pub allocator_free: U64,
    pub allocator_beg: U64,
    pub mirror_tid: U64,
    pub reserved_80: [u8; 16],
    pub freemap_tid: U64,
    pub bulkfree_tid: U64,
    pub reserved_a0: [u8; 32],
    pub total_size: U64,
    pub copy_exists: [U32; 8],
    pub reserved_e8: [u8; 248],
    pub icrc_sects: [U32; 8],
    pub sroot_blockset: [RawBlockref; 4],
    pub sector2: [u8; 512],
    pub sector3: [u8; 512],
    pub freemap_blockset: [RawBlockref; 4],
    pub sector5: [u8; 512],
    pub sector6: [u8; 512],
    pub volu_loff: [U64; 64],
    pub copyinfo: [u8; 32768],
    pub reserved_9000: [u8; 28668],
    pub icrc_volheader: U32,
}

const _: () = {
    assert!(size_of::<RawVolumeHeader>() == 65536);
    assert!(offset_of!(RawVolumeHeader, volu_size) == 0x28);
    assert!(offset_of!(RawVolumeHeader, version) == 0x30);
    assert!(offset_of!(RawVolumeHeader, volu_id) == 0x3b);
    assert!(offset_of!(RawVolumeHeader, fsid) == 0x40);
    assert!(offset_of!(RawVolumeHeader, fstype) == 0x50);
    assert!(offset_of!(RawVolumeHeader, allocator_size) == 0x60);
    assert!(offset_of!(RawVolumeHeader, mirror_tid) == 0x78);
    assert!(offset_of!(RawVolumeHeader, freemap_tid) == 0x90);
    assert!(offset_of!(RawVolumeHeader, total_size) == 0xc0);
    assert!(offset_of!(RawVolumeHeader, icrc_sects) == 0x1e0);
    assert!(offset_of!(RawVolumeHeader, sroot_blockset) == 0x200);
    assert!(offset_of!(RawVolumeHeader, freemap_blockset) == 0x800);
    assert!(offset_of!(RawVolumeHeader, volu_loff) == 0xe00);
    assert!(offset_of!(RawVolumeHeader, copyinfo) == 0x1000);
    assert!(offset_of!(RawVolumeHeader, icrc_volheader) == 0xfffc);
};

/// An inode, 1 KiB (media format 5).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are described where they are parsed")]
#[allow(missing_debug_implementations, reason = "nobody prints that many bytes")]
pub struct RawInode {
    pub version: U16,
    pub reserved_02: u8,
    pub pfs_subtype: u8,
    pub uflags: U32,
    pub rmajor: U32,
    pub rminor: U32,
    pub ctime: U64,
    pub mtime: U64,
    pub atime: U64,
    pub btime: U64,
    pub uid: [u8; 16],
    pub gid: [u8; 16],
    pub kind: u8,
    pub op_flags: u8,
    pub cap_flags: U16,
    pub mode: U32,
    pub inum: U64,
    pub size: U64,
    pub nlinks: U64,
    pub iparent: U64,
    pub name_key: U64,
    pub name_len: U16,
    pub ncopies: u8,
    pub comp_algo: u8,
    pub unused_84: u8,
    pub check_algo: u8,
    pub pfs_nmasters: u8,
    pub pfs_type: u8,
    pub pfs_inum: U64,
    pub pfs_clid: [u8; 16],
    pub pfs_fsid: [u8; 16],
    pub data_quota: U64,
    pub unused_b8: U64,
    pub inode_quota: U64,
    pub unused_c8: U64,
    pub pfs_lsnap_tid: U64,
    pub reserved_d8: U64,
    pub decrypt_check: U64,
    pub reserved_e8: [u8; 24],
    pub filename: [u8; 256],
    /// Direct data, or four blockrefs.
    pub content: [u8; 512],
}

const _: () = {
    assert!(size_of::<RawInode>() == 1024);
    assert!(offset_of!(RawInode, uflags) == 0x04);
    assert!(offset_of!(RawInode, ctime) == 0x10);
    assert!(offset_of!(RawInode, uid) == 0x30);
    assert!(offset_of!(RawInode, kind) == 0x50);
    assert!(offset_of!(RawInode, mode) == 0x54);
    assert!(offset_of!(RawInode, inum) == 0x58);
    assert!(offset_of!(RawInode, iparent) == 0x70);
    assert!(offset_of!(RawInode, name_len) == 0x80);
    assert!(offset_of!(RawInode, comp_algo) == 0x83);
    assert!(offset_of!(RawInode, check_algo) == 0x85);
    assert!(offset_of!(RawInode, pfs_type) == 0x87);
    assert!(offset_of!(RawInode, pfs_inum) == 0x88);
    assert!(offset_of!(RawInode, pfs_clid) == 0x90);
    assert!(offset_of!(RawInode, data_quota) == 0xb0);
    assert!(offset_of!(RawInode, pfs_lsnap_tid) == 0xd0);
    assert!(offset_of!(RawInode, filename) == 0x100);
    assert!(offset_of!(RawInode, content) == 0x200);
};

impl RawInode {
    /// Sets the owner: a Unix user is the last four bytes of a UUID (media format 5).
    pub fn set_uid(&mut self, uid: u32) {
        self.uid = owner(uid);
    }

    /// Sets the group.
    pub fn set_gid(&mut self, gid: u32) {
        self.gid = owner(gid);
    }
}

fn owner(id: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[12..].copy_from_slice(&id.to_le_bytes());
    bytes
}

/// One 4 MiB segment of a freemap leaf, 128 bytes (media format 8.4).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are described where they are parsed")]
pub struct RawSegment {
    pub linear: U32,
    pub class: U16,
    pub reserved_06: U16,
    pub reserved_08: [u8; 20],
    pub avail: U32,
    pub reserved_20: [u8; 32],
    pub bitmap: [U64; 8],
}

const _: () = {
    assert!(size_of::<RawSegment>() == 128);
    assert!(offset_of!(RawSegment, class) == 0x04);
    assert!(offset_of!(RawSegment, avail) == 0x1c);
    assert!(offset_of!(RawSegment, bitmap) == 0x40);
};

/// The record of a group of copies, 4 KiB at 0x1000 of the volume header (copies, layout).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are described where they are parsed")]
#[allow(missing_debug_implementations, reason = "nobody prints that many bytes")]
pub struct RawCopyGroup {
    pub magic: U64,
    pub format: U32,
    pub self_slot: u8,
    pub configured: u8,
    pub min_copies: u8,
    pub runtime: u8,
    pub holder: u8,
    pub on_missing: u8,
    pub witness: u8,
    pub plain_slot: u8,
    /// Seconds to wait for the last copy that was lost.
    pub wait_seconds: U16,
    /// Whether `promote_seconds` says something.
    pub promote: u8,
    pub reserved_17: u8,
    pub compat: U64,
    pub ro_compat: U64,
    pub incompat: U64,
    pub group: [u8; 16],
    pub device: [u8; 16],
    pub flush_seq: U64,
    /// `mirror_tid` of the header that it lies in.
    pub header_tid: U64,
    /// CRC-32C of what lies in that header between its first sector and the record.
    pub header_crc: U32,
    /// Seconds that may be lost by a promotion that nobody asks for.
    pub promote_seconds: U32,
    /// When the commit was made that the header is of.
    pub commit_time: U64,
    /// In a shadow, the sectors by which its header differs from the one before it.
    pub changed: [u8; 16],
    /// The current epoch and the 15 before it, newest first.
    pub epochs: [RawEpoch; 16],
    pub reserved_580: [u8; 128],
    pub slots: [RawCopySlot; 4],
    pub witness_id: [u8; 16],
    pub witness_kind: u8,
    pub witness_len: u8,
    pub reserved_f12: [u8; 6],
    pub witness_place: [u8; 192],
    pub reserved_fd8: [u8; 36],
    /// CRC-32C of all before it.
    pub crc: U32,
}

const _: () = {
    assert!(size_of::<RawCopyGroup>() == 4096);
    assert!(offset_of!(RawCopyGroup, self_slot) == 0x00c);
    assert!(offset_of!(RawCopyGroup, compat) == 0x018);
    assert!(offset_of!(RawCopyGroup, group) == 0x030);
    assert!(offset_of!(RawCopyGroup, flush_seq) == 0x050);
    assert!(offset_of!(RawCopyGroup, header_tid) == 0x058);
    assert!(offset_of!(RawCopyGroup, header_crc) == 0x060);
    assert!(offset_of!(RawCopyGroup, wait_seconds) == 0x014);
    assert!(offset_of!(RawCopyGroup, promote_seconds) == 0x064);
    assert!(offset_of!(RawCopyGroup, commit_time) == 0x068);
    assert!(offset_of!(RawCopyGroup, epochs) == 0x080);
    assert!(offset_of!(RawCopyGroup, witness_id) == 0xf00);
    assert!(offset_of!(RawCopyGroup, witness_place) == 0xf18);
    assert!(offset_of!(RawCopyGroup, slots) == 0x600);
    assert!(offset_of!(RawCopyGroup, crc) == 0xffc);
};

/// The list of known damage, 4 KiB at 0x2000 of the volume header (copies, list of damage).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are described where they are parsed")]
#[allow(missing_debug_implementations, reason = "nobody prints that many bytes")]
pub struct RawDamageList {
    pub magic: U64,
    /// CRC-32C of all behind it.
    pub crc: U32,
    pub format: U32,
    pub count: U16,
    pub reserved_12: [u8; 2],
    pub flags: U32,
    pub reserved_18: [u8; 40],
    pub blocks: [RawDamagedBlock; 63],
}

const _: () = {
    assert!(size_of::<RawDamageList>() == 4096);
    assert!(offset_of!(RawDamageList, crc) == 0x08);
    assert!(offset_of!(RawDamageList, count) == 0x10);
    assert!(offset_of!(RawDamageList, flags) == 0x14);
    assert!(offset_of!(RawDamageList, blocks) == 0x40);
};

/// A block that is good on no copy, 64 bytes (copies, list of damage).
#[derive(
    FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, Debug,
)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are described where they are parsed")]
pub struct RawDamagedBlock {
    pub pfs: U64,
    pub inum: U64,
    pub offset: U64,
    pub len: U64,
    pub tid: U64,
    pub seen: U64,
    pub kind: u8,
    pub reserved_31: [u8; 15],
}

const _: () = assert!(size_of::<RawDamagedBlock>() == 64);

/// An epoch of a group of copies, 80 bytes (copies, layout).
#[derive(
    FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, Debug,
)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are described where they are parsed")]
pub struct RawEpoch {
    pub id: [u8; 16],
    pub parent: [u8; 16],
    pub host: [u8; 16],
    pub seq: U64,
    pub start_tid: U64,
    pub time: U64,
    pub members: u8,
    pub cause: u8,
    pub reserved_4a: [u8; 6],
}

const _: () = {
    assert!(size_of::<RawEpoch>() == 80);
    assert!(offset_of!(RawEpoch, seq) == 0x30);
    assert!(offset_of!(RawEpoch, members) == 0x48);
};

/// What a witness of a group of copies holds, 512 bytes (copies, witness).
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are described where they are parsed")]
#[allow(missing_debug_implementations, reason = "nobody prints that many bytes")]
pub struct RawWitness {
    pub magic: U64,
    pub format: U32,
    pub reserved_0c: [u8; 4],
    pub witness: [u8; 16],
    pub group: [u8; 16],
    pub reserved_30: [u8; 16],
    pub epochs: [RawEpoch; 4],
    pub reserved_180: [u8; 124],
    /// CRC-32C of all before it.
    pub crc: U32,
}

const _: () = {
    assert!(size_of::<RawWitness>() == 512);
    assert!(offset_of!(RawWitness, witness) == 0x10);
    assert!(offset_of!(RawWitness, epochs) == 0x40);
    assert!(offset_of!(RawWitness, crc) == 0x1fc);
};

/// One slot of a group of copies, 576 bytes (copies, layout).
#[derive(
    FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, PartialEq, Eq, Debug,
)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are described where they are parsed")]
pub struct RawCopySlot {
    pub device: [u8; 16],
    pub state: u8,
    pub distrusted: u8,
    pub hint_len: u8,
    pub reserved_13: [u8; 5],
    pub attach_gen: U64,
    pub barrier_tid: U64,
    pub left: [u8; 16],
    pub root_tid: U64,
    pub root_check: [u8; 40],
    /// Read, write, flush, check, healed, relocated.
    pub counters: [U64; 6],
    pub resync_since: U64,
    pub resync_done: U64,
    /// Pairs of low and high.
    pub distrust: [[U64; 2]; 8],
    pub hint: [u8; 192],
    pub reserved_1e8: [u8; 80],
    /// When the last commit was made that the copy has whole.
    pub root_time: U64,
}

const _: () = {
    assert!(size_of::<RawCopySlot>() == 576);
    assert!(offset_of!(RawCopySlot, attach_gen) == 0x18);
    assert!(offset_of!(RawCopySlot, left) == 0x28);
    assert!(offset_of!(RawCopySlot, root_tid) == 0x38);
    assert!(offset_of!(RawCopySlot, counters) == 0x68);
    assert!(offset_of!(RawCopySlot, resync_since) == 0x98);
    assert!(offset_of!(RawCopySlot, root_time) == 0x238);
    assert!(offset_of!(RawCopySlot, distrust) == 0xa8);
    assert!(offset_of!(RawCopySlot, hint) == 0x128);
};
