//! Blockrefs: typed, keyed, checked references to blocks (media format 3).

use core::fmt;

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

pub use super::addresses::{Addresses, Seat, address_key};
use super::check::{CheckCode, CheckMethod};
use super::compress::Compression;
use super::raw::RawBlockref;
use super::{ZONE_LEN, ZONE_RESERVED_LEN};
use crate::error::{BlockKind, BlockrefFault, Place};
use crate::units::{MediaOffset, Radix, Tid};

/// Low bits of `data_off`, which hold the radix.
pub(super) const RADIX_MASK: u64 = 0x3f;
/// A blockref to the root inode of a PFS.
pub const FLAG_PFS_ROOT: u8 = 0x01;

/// Where a block lies and how large it is, in the logical address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Location {
    /// First byte.
    pub offset: MediaOffset,
    /// Log2 of the size.
    pub radix: Radix,
}

impl Location {
    /// Size in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub const fn len(self) -> usize {
        self.radix.len()
    }
}

/// A parsed blockref: kind, radix, offset, check and compression are legal for its kind.
///
/// Whether key and span fit the table that it stands in is the table's to check.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Blockref {
    raw: RawBlockref,
    kind: BlockKind,
    check: CheckMethod,
    compression: Compression,
    location: Option<Location>,
}

impl Blockref {
    /// Reads a slot of a table; an empty slot is `None`.
    ///
    /// # Errors
    /// The first thing that no blockref of its kind may say.
    pub fn parse(raw: &RawBlockref) -> Result<Option<Self>, BlockrefFault> {
        if raw.kind == 0 {
            return Ok(None);
        }
        let kind = parse_kind(raw.kind)?;
        let location = parse_location(raw.data_off.get(), kind)?;
        check_span(raw, kind)?;
        // Without a block there is nothing to check or expand, and both nibbles are noise.
        let (check, compression) = if location.is_some() {
            let check = CheckMethod::from_code(raw.methods >> 4)
                .ok_or(BlockrefFault::UnknownCheck(raw.methods >> 4))?;
            (check, parse_compression(raw.methods & 15, kind)?)
        } else {
            (CheckMethod::None, Compression::None)
        };
        Ok(Some(Self { raw: *raw, kind, check, compression, location }))
    }

    /// The bytes it was parsed from, unknown fields included.
    #[must_use]
    pub const fn raw(&self) -> &RawBlockref {
        &self.raw
    }

    /// What it refers to.
    #[must_use]
    pub const fn kind(&self) -> BlockKind {
        self.kind
    }

    /// First key that it covers.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.raw.key.get()
    }

    /// Last key that it covers.
    #[must_use]
    pub fn last_key(&self) -> u64 {
        span_last(self.key(), self.raw.key_bits)
    }

    /// Log2 of the number of keys that it covers.
    #[must_use]
    pub const fn key_bits(&self) -> u8 {
        self.raw.key_bits
    }

    /// How its block is checked.
    #[must_use]
    pub const fn check_method(&self) -> CheckMethod {
        self.check
    }

    /// The check code that its block must have.
    #[must_use]
    pub fn check_code(&self) -> CheckCode {
        self.check.stored(&self.raw.check)
    }

    /// How its block is compressed; always `None` for what is not file data.
    #[must_use]
    pub const fn compression(&self) -> Compression {
        self.compression
    }

    /// Where its block lies; only a directory entry with a short name has none.
    #[must_use]
    pub const fn location(&self) -> Option<Location> {
        self.location
    }

    /// Media transaction of the last change here or below.
    #[must_use]
    pub fn mirror_tid(&self) -> Tid {
        Tid(self.raw.mirror_tid.get())
    }

    /// Transaction of its PFS at the last logical change here or below.
    #[must_use]
    pub fn modify_tid(&self) -> Tid {
        Tid(self.raw.modify_tid.get())
    }

    /// Number of leaves below, saturating: a hint (media format 3.3).
    #[must_use]
    pub fn leaf_count(&self) -> u16 {
        self.raw.leaf_count.get()
    }

    /// Whether it is marked as the root of a PFS.
    #[must_use]
    pub const fn is_pfs_root(&self) -> bool {
        self.raw.flags & FLAG_PFS_ROOT != 0
    }

    /// What the subtree is said to hold, for inodes, indirect blocks and freemap nodes.
    #[must_use]
    pub fn statistics(&self) -> Option<Statistics> {
        match self.kind {
            BlockKind::Inode | BlockKind::Indirect | BlockKind::FreemapNode => {
                let (data, inodes) = self.raw.embed.split_at(8);
                let number = |bytes| U64::read_from_bytes(bytes).map_or(0, U64::get);
                Some(Statistics { data_count: number(data), inode_count: number(inodes) })
            }
            BlockKind::Volume | BlockKind::Data | BlockKind::Dirent | BlockKind::FreemapLeaf => {
                None
            }
        }
    }

    /// How a finding names it.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            kind: self.kind,
            offset: self.location.map(|location| location.offset),
            key: self.key(),
        }
    }
}

impl fmt::Debug for Blockref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:016x}/{} ", self.kind, self.key(), self.raw.key_bits)?;
        match self.location {
            Some(at) => write!(f, "@{}/{}", at.offset, at.radix.bits()),
            None => f.write_str("without block"),
        }
    }
}

/// What lies below a blockref (media format 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Bytes allocated below.
    pub data_count: u64,
    /// Inodes below.
    pub inode_count: u64,
}

/// Last key of the span that starts at `key`; a span that leaves the key space ends with it.
#[must_use]
pub const fn span_last(key: u64, key_bits: u8) -> u64 {
    if key_bits >= 64 { u64::MAX } else { key.saturating_add((1 << key_bits) - 1) }
}

/// The slots of a table of blockrefs.
///
/// Bytes behind the last whole slot are not looked at; every legal table has none.
#[must_use]
pub fn slots(table: &[u8]) -> &[RawBlockref] {
    let whole = table.len() - table.len() % size_of::<RawBlockref>();
    <[RawBlockref]>::ref_from_bytes(&table[..whole]).unwrap_or(&[])
}

/// Whether an empty slot really is: media format 4.1 wants it zeroed.
#[must_use]
pub fn is_zeroed(slot: &RawBlockref) -> bool {
    slot.as_bytes().iter().all(|byte| *byte == 0)
}

/// The kind of block with media code `code`; 0 is that of an empty slot, which has none.
pub(super) const fn parse_kind(code: u8) -> Result<BlockKind, BlockrefFault> {
    Ok(match code {
        1 => BlockKind::Inode,
        2 => BlockKind::Indirect,
        3 => BlockKind::Data,
        4 => BlockKind::Dirent,
        5 => BlockKind::FreemapNode,
        6 => BlockKind::FreemapLeaf,
        other => return Err(BlockrefFault::UnknownKind(other)),
    })
}

/// Where a block of `kind` lies by `data_off`; only a directory entry may have none.
pub(super) fn parse_location(
    data_off: u64,
    kind: BlockKind,
) -> Result<Option<Location>, BlockrefFault> {
    // the mask leaves six bits
    let bits = (data_off & RADIX_MASK) as u8;
    let offset = data_off & !RADIX_MASK;
    if bits == 0 {
        return match kind {
            BlockKind::Dirent if offset == 0 => Ok(None),
            BlockKind::Dirent => Err(BlockrefFault::Offset(MediaOffset(offset))),
            _ => Err(BlockrefFault::Radix(0)),
        };
    }
    let legal = match kind {
        BlockKind::Inode | BlockKind::Dirent => bits == 10,
        BlockKind::Indirect => matches!(bits, 12 | 14 | 16),
        BlockKind::FreemapNode | BlockKind::FreemapLeaf => bits == 15,
        BlockKind::Data | BlockKind::Volume => true,
    };
    let radix = Radix::new(bits).filter(|_| legal).ok_or(BlockrefFault::Radix(bits))?;
    let fault = BlockrefFault::Offset(MediaOffset(offset));
    let last = offset.checked_add(radix.len() as u64 - 1).ok_or(fault)?;
    let reserved = offset % ZONE_LEN < ZONE_RESERVED_LEN;
    let freemap = matches!(kind, BlockKind::FreemapNode | BlockKind::FreemapLeaf);
    // A block never crosses the buffer of 64 KiB that it is read with; the first one is a header.
    if offset >> 16 != last >> 16 || offset < 1 << 16 || reserved != freemap {
        return Err(fault);
    }
    Ok(Some(Location { offset: MediaOffset(offset), radix }))
}

fn check_span(raw: &RawBlockref, kind: BlockKind) -> Result<(), BlockrefFault> {
    let bits = raw.key_bits;
    let legal = match kind {
        BlockKind::Inode | BlockKind::Dirent | BlockKind::Volume => bits == 0,
        BlockKind::Data => bits == 16,
        BlockKind::Indirect => matches!(bits, 1..=63),
        BlockKind::FreemapLeaf => bits == 30,
        BlockKind::FreemapNode => matches!(bits, 38 | 46 | 54 | 62),
    };
    // legal spans are narrower than 64 bits, so the shift is defined
    if legal && raw.key.get() & ((1 << bits) - 1) == 0 {
        Ok(())
    } else {
        Err(BlockrefFault::Span { key: raw.key.get(), key_bits: bits })
    }
}

fn parse_compression(code: u8, kind: BlockKind) -> Result<Compression, BlockrefFault> {
    match (kind, code) {
        (BlockKind::Data, 0) => Ok(Compression::None),
        (BlockKind::Data, 2) => Ok(Compression::Lz4),
        (BlockKind::Data, 3) => Ok(Compression::Zlib),
        (BlockKind::Data, other) => Err(BlockrefFault::UnknownCompression(other)),
        // inherited noise: only file data is ever compressed
        _ => Ok(Compression::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn data() -> RawBlockref {
        let mut raw = RawBlockref::new_zeroed();
        raw.kind = 3;
        raw.methods = 0x32;
        raw.key_bits = 16;
        raw.key.set(0x30000);
        raw.data_off.set(0x840_0000 | 16);
        raw
    }

    fn fault(change: impl FnOnce(&mut RawBlockref)) -> BlockrefFault {
        let mut raw = data();
        change(&mut raw);
        Blockref::parse(&raw).unwrap_err()
    }

    #[test]
    fn a_data_blockref_says_where_and_how() {
        let parsed = Blockref::parse(&data()).unwrap().unwrap();
        assert_eq!((parsed.key(), parsed.last_key()), (0x30000, 0x3ffff));
        assert_eq!(parsed.location().unwrap().len(), 65536);
        assert_eq!(parsed.compression(), Compression::Lz4);
        assert_eq!(parsed.check_method(), CheckMethod::Xxhash64);
    }

    #[test]
    fn the_sample_dirent_of_the_specification() {
        let mut raw = RawBlockref::new_zeroed();
        raw.kind = 4;
        raw.methods = 0x30;
        raw.key.set(0x9430_a888_3cb8_8001);
        let parsed = Blockref::parse(&raw).unwrap().unwrap();
        assert_eq!(parsed.location(), None);
        assert_eq!(parsed.check_code(), CheckCode::Unchecked);
    }

    #[test]
    fn every_refusal() {
        assert_eq!(fault(|raw| raw.kind = 9), BlockrefFault::UnknownKind(9));
        for radix in [0, 9, 17, 63] {
            let refused = fault(|raw| raw.data_off.set(0x840_0000 | u64::from(radix)));
            assert_eq!(refused, BlockrefFault::Radix(radix));
        }
        assert_eq!(
            fault(|raw| raw.data_off.set(10)),
            BlockrefFault::Offset(MediaOffset(0)),
            "the volume header is no data"
        );
        assert_eq!(
            fault(|raw| raw.data_off.set(ZONE_LEN | 0x10000 | 16)),
            BlockrefFault::Offset(MediaOffset(ZONE_LEN | 0x10000)),
            "nor is the reserved start of a zone"
        );
        assert_eq!(
            fault(|raw| raw.data_off.set(0x840_0400 | 16)),
            BlockrefFault::Offset(MediaOffset(0x840_0400)),
            "nor what crosses a device buffer"
        );
        assert_eq!(fault(|raw| raw.methods = 0xc2), BlockrefFault::UnknownCheck(12));
        assert_eq!(fault(|raw| raw.methods = 0x39), BlockrefFault::UnknownCompression(9));
        assert_eq!(fault(|raw| raw.methods = 0x31), BlockrefFault::UnknownCompression(1));
        assert_eq!(
            fault(|raw| raw.key.set(1)),
            BlockrefFault::Span { key: 1, key_bits: 16 },
            "a key inside its own span"
        );
        assert_eq!(
            fault(|raw| raw.kind = 1),
            BlockrefFault::Radix(16),
            "an inode has one size only"
        );
    }

    #[test]
    fn a_span_at_the_top_ends_with_the_key_space() {
        assert_eq!(span_last(u64::MAX - 10, 63), u64::MAX);
        assert_eq!(span_last(5, 200), u64::MAX);
        assert_eq!(span_last(5, 0), 5);
    }
}
