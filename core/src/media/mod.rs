//! Bytes and their meaning: pure functions over the structures of HAMMER2 media. Floor 1.
//!
//! Three kinds of type stand for three degrees of trust (`docs/architecture.md`):
//! * [`raw`]: any bytes, seen through the layout of a structure;
//! * [`Verified`](check::Verified): bytes that their check code vouches for;
//! * parsed types ([`Blockref`](blockref::Blockref), [`Inode`](inode::Inode), ...): they can only
//!   hold what is legal, and parsing is where illegal bytes become a [`Fault`](crate::error).
//!
//! This room knows no device, no cache and no policy. Every function returns for every input.

pub mod addresses;
pub mod blockref;
pub mod check;
pub mod compress;
pub mod copy_group;
pub mod damage;
pub mod dirent;
pub mod dirhash;
pub mod distrust;
pub mod freemap;
pub mod header;
pub mod inode;
pub mod raw;
pub mod shadow;
pub mod witness;

/// A freemap leaf covers this much; its first 4 MiB are reserved (media format 1.1).
pub const ZONE_LEN: u64 = 1 << 30;
/// The reserved part at the start of every zone.
pub const ZONE_RESERVED_LEN: u64 = 4 << 20;
/// One segment of the freemap.
pub const SEGMENT_LEN: u64 = 4 << 20;
/// The granularity of the freemap's bitmap.
pub const CHUNK_LEN: u64 = 16 << 10;
/// The logical block of a file: the span of every data blockref.
pub const FILE_BLOCK_LEN: u64 = 64 << 10;
