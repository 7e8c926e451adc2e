//! The list of known damage, in the volume header of each copy: blocks that are good on no copy
//! (copies, list of damage).
//!
//! It stands right behind the record of the group, in what the header's own check code covers. It is
//! there to be told to people, and nothing on media is decided by it: what it names may be mended, or
//! be gone, until somebody looks again.
//!
//! Invariants:
//! * An empty list is nothing but zeros, as on a volume without copies.
//! * Whatever the bytes are, there is an answer. Bytes that make no list stand for one that had no
//!   room for all that it should name: it is not known what is damaged.
//! * A list names each block once, and no more of them than it has room for.
//! * Its check code stands in front of what it covers. Behind it, the check code of the header would
//!   come out the same for every list, and a header that was cut short be taken for a whole one.

use alloc::boxed::Box;
use alloc::vec::Vec;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::check::{Checks, crc32c};
use super::copy_group::COPY_GROUP_LEN;
use super::dirhash::NAME_BIT;
use super::raw::{RawDamageList, RawDamagedBlock, RawVolumeHeader};
use crate::error::BlockKind;
use crate::units::{Inum, Tid, WallTime};

/// Size of the list in bytes.
pub const DAMAGE_LEN: usize = 4096;
/// Most blocks that it names.
pub const DAMAGE_MAX: usize = 63;
/// First word of the list: `FARDAMG1` in ASCII.
pub const DAMAGE_MAGIC: u64 = u64::from_le_bytes(*b"FARDAMG1");
/// The one format of the list so far.
pub const DAMAGE_FORMAT: u32 = 1;

/// There was more to name than there is room for.
const FLAG_FULL: u32 = 1;
/// The check code covers what is behind this.
const CHECKED_FROM: usize = 12;
/// Where the list lies within what the header has for copies.
const PLACE: core::ops::Range<usize> = COPY_GROUP_LEN..COPY_GROUP_LEN + DAMAGE_LEN;

/// A block that is good on no copy, by what people call it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DamagedBlock {
    /// The key of its PFS in the super-root, which follows from the label; 0 for the super-root.
    pub pfs: u64,
    /// The inode that it belongs to, or that it is; 0 for the super-root.
    pub inum: Inum,
    /// What kind of block it is: an inode, a table, contents or a name.
    pub kind: BlockKind,
    /// The first key that it covers: an offset in a file; in a directory, of a name.
    pub offset: u64,
    /// How many keys it covers: bytes, in a file.
    pub len: u64,
    /// The transaction of its blockref; 0 if that is not known.
    pub tid: Tid,
    /// When it was met first.
    pub seen: WallTime,
}

impl DamagedBlock {
    /// Whether both stand for the same place of the same tree.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        let place = |one: &Self| (one.pfs, one.inum, one.kind, one.offset, one.len);
        place(self) == place(other)
    }

    /// A stretch of a file that could not be read, as a read knows it.
    #[must_use]
    pub const fn unread(pfs: u64, inum: Inum, (offset, len): (u64, u64), seen: WallTime) -> Self {
        Self { pfs, inum, kind: BlockKind::Data, offset, len, tid: Tid(0), seen }
    }

    /// What it means to people that this block is lost.
    #[must_use]
    pub const fn lost(&self) -> Lost {
        if self.inum.0 == 0 {
            return Lost::Super;
        }
        let is_name = self.offset & NAME_BIT != 0;
        match self.kind {
            BlockKind::Inode => Lost::Inode,
            _ if is_name => Lost::Names,
            _ if self.inum.0 == Inum::ROOT.0 => Lost::Files,
            _ => Lost::Stretch,
        }
    }

    fn parse(raw: &RawDamagedBlock) -> Option<Self> {
        Some(Self {
            pfs: raw.pfs.get(),
            inum: Inum(raw.inum.get()),
            kind: kind_of(raw.kind)?,
            offset: raw.offset.get(),
            len: raw.len.get(),
            tid: Tid(raw.tid.get()),
            seen: WallTime(raw.seen.get()),
        })
    }

    fn store(&self, raw: &mut RawDamagedBlock) {
        raw.pfs.set(self.pfs);
        raw.inum.set(self.inum.0);
        raw.kind = code_of(self.kind);
        raw.offset.set(self.offset);
        raw.len.set(self.len);
        raw.tid.set(self.tid.0);
        raw.seen.set(self.seen.0);
    }
}

/// What is lost with a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// The list of PFSs, or a part of it.
    Super,
    /// Everything about a file or directory.
    Inode,
    /// A stretch of a file.
    Stretch,
    /// Names in a directory.
    Names,
    /// Files, by a range of inode numbers.
    Files,
}

/// Blocks that are good on no copy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DamageList {
    blocks: Vec<DamagedBlock>,
    is_full: bool,
}

impl DamageList {
    /// Nothing is known to be damaged.
    pub const EMPTY: Self = Self { blocks: Vec::new(), is_full: false };

    /// Reads the list.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        if bytes.len() == DAMAGE_LEN && bytes.iter().all(|byte| *byte == 0) {
            return Self::EMPTY;
        }
        Self::parse_some(bytes).unwrap_or(Self { blocks: Vec::new(), is_full: true })
    }

    fn parse_some(bytes: &[u8]) -> Option<Self> {
        let raw = RawDamageList::ref_from_bytes(bytes).ok()?;
        let is_whole = raw.magic.get() == DAMAGE_MAGIC
            && raw.crc.get() == crc32c(bytes.get(CHECKED_FROM..)?)
            && raw.format.get() == DAMAGE_FORMAT;
        let count = usize::from(raw.count.get());
        let named = raw.blocks.get(..count).filter(|_| is_whole)?;
        let mut list = Self { blocks: Vec::new(), is_full: raw.flags.get() & FLAG_FULL != 0 };
        for raw in named {
            list.note(DamagedBlock::parse(raw)?);
        }
        Some(list)
    }

    /// The bytes of it. Reading them gives an equal list.
    #[must_use]
    pub fn store(&self) -> [u8; DAMAGE_LEN] {
        self.store_with(&Checks::PORTABLE)
    }

    fn store_with(&self, checks: &Checks) -> [u8; DAMAGE_LEN] {
        let mut raw = Box::new(RawDamageList::new_zeroed());
        if !self.is_empty() {
            raw.magic.set(DAMAGE_MAGIC);
            raw.format.set(DAMAGE_FORMAT);
            raw.count.set(u16::try_from(self.blocks.len()).unwrap_or(0));
            raw.flags.set(if self.is_full { FLAG_FULL } else { 0 });
            for (raw, block) in raw.blocks.iter_mut().zip(&self.blocks) {
                block.store(raw);
            }
            let crc = checks.crc32c(&raw.as_bytes()[CHECKED_FROM..]);
            raw.crc.set(crc);
        }
        zerocopy::transmute!(*raw)
    }

    /// The list in a volume header.
    #[must_use]
    pub fn of(header: &RawVolumeHeader) -> Self {
        Self::parse(&header.copyinfo[PLACE])
    }

    /// Puts the list into a volume header, which still has to be sealed.
    pub fn put(&self, header: &mut RawVolumeHeader, checks: &Checks) {
        header.copyinfo[PLACE].copy_from_slice(&self.store_with(checks));
    }

    /// What it names.
    #[must_use]
    pub fn blocks(&self) -> &[DamagedBlock] {
        &self.blocks
    }

    /// Whether there was more to name than there is room for.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether nothing is known to be damaged.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.blocks.is_empty() && !self.is_full
    }

    /// Names a block. One that is named already keeps the time when it was met first. Returns what
    /// came of it.
    pub fn note(&mut self, block: DamagedBlock) -> Noted {
        if let Some(known) = self.blocks.iter_mut().find(|known| known.is_same_place(&block)) {
            let seen = known.seen;
            let is_same = known.tid == block.tid || block.tid == Tid(0);
            if is_same {
                return Noted::Known;
            }
            *known = DamagedBlock { seen, ..block };
            return Noted::New;
        }
        if self.blocks.len() >= DAMAGE_MAX {
            self.is_full = true;
            return Noted::NoRoom;
        }
        self.blocks.push(block);
        Noted::New
    }

    /// The list is from now on known to name everything, or not to.
    pub const fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// Keeps only what `is_kept` says.
    pub fn retain(&mut self, is_kept: impl FnMut(&DamagedBlock) -> bool) {
        self.blocks.retain(is_kept);
    }
}

/// What came of naming a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Noted {
    /// It is named now, or of another transaction.
    New,
    /// It was named before.
    Known,
    /// There is no room for it.
    NoRoom,
}

/// The kinds of blocks that can be named, with their codes, which are those of a blockref.
const KINDS: [(u8, BlockKind); 4] =
    [(1, BlockKind::Inode), (2, BlockKind::Indirect), (3, BlockKind::Data), (4, BlockKind::Dirent)];

fn kind_of(code: u8) -> Option<BlockKind> {
    KINDS.iter().find(|(one, _)| *one == code).map(|(_, kind)| *kind)
}

/// A kind that no tree has is told as contents.
fn code_of(kind: BlockKind) -> u8 {
    KINDS.iter().find(|(_, one)| *one == kind).map_or(3, |(code, _)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::header::seal;
    use alloc::vec;

    fn block(number: u64) -> DamagedBlock {
        DamagedBlock {
            pfs: 0x0102_0304_0506_0708,
            inum: Inum(1024 + number),
            kind: BlockKind::Data,
            offset: number << 16,
            len: 1 << 16,
            tid: Tid(40),
            seen: WallTime(1_700_000_000_000_000),
        }
    }

    fn list(count: u64) -> DamageList {
        let mut list = DamageList::EMPTY;
        for number in 0..count {
            assert_eq!(list.note(block(number)), Noted::New);
        }
        list
    }

    fn sealed(bytes: &mut [u8; DAMAGE_LEN]) {
        let crc = crc32c(&bytes[CHECKED_FROM..]);
        bytes[8..CHECKED_FROM].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn an_empty_list_is_zeros() {
        assert_eq!(DamageList::EMPTY.store(), [0; DAMAGE_LEN]);
        assert_eq!(DamageList::parse(&[0; DAMAGE_LEN]), DamageList::EMPTY);
        assert!(DamageList::EMPTY.is_empty() && !DamageList::EMPTY.is_full());
    }

    #[test]
    fn it_goes_there_and_back() {
        for count in [1, 2, 63] {
            let mut one = list(count);
            assert_eq!(DamageList::parse(&one.store()), one);
            one.set_full(true);
            assert_eq!(DamageList::parse(&one.store()), one);
        }
        let mut nothing_but_full = DamageList::EMPTY;
        nothing_but_full.set_full(true);
        assert_eq!(DamageList::parse(&nothing_but_full.store()), nothing_but_full);
        for (_, kind) in KINDS {
            let mut one = DamageList::EMPTY;
            one.note(DamagedBlock { kind, ..block(1) });
            assert_eq!(DamageList::parse(&one.store()), one);
        }
    }

    #[test]
    fn the_layout_is_where_the_document_says() {
        let mut one = list(2);
        one.set_full(true);
        let bytes = one.store();
        assert_eq!(&bytes[..8], b"FARDAMG1");
        assert_eq!(bytes[8..12], crc32c(&bytes[12..]).to_le_bytes());
        assert_eq!(bytes[12..0x18], [1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[0x18..0x40], [0; 40]);
        let second = &bytes[0x80..0xc0];
        assert_eq!(second[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(second[8..0x10], 1025_u64.to_le_bytes());
        assert_eq!(second[0x10..0x18], 0x1_0000_u64.to_le_bytes());
        assert_eq!(second[0x18..0x20], 0x1_0000_u64.to_le_bytes());
        assert_eq!(second[0x20..0x28], 40_u64.to_le_bytes());
        assert_eq!(second[0x28..0x30], 1_700_000_000_000_000_u64.to_le_bytes());
        assert_eq!((second[0x30], &second[0x31..]), (3, &[0; 15][..]));
        assert_eq!(bytes[0xc0..], [0; DAMAGE_LEN - 0xc0]);
    }

    #[test]
    fn it_is_told_what_is_lost() {
        let lost = |inum: u64, kind, offset| {
            DamagedBlock { inum: Inum(inum), kind, offset, ..block(0) }.lost()
        };
        assert_eq!(lost(0, BlockKind::Indirect, 7), Lost::Super);
        assert_eq!(lost(1, BlockKind::Inode, 7), Lost::Inode);
        assert_eq!(lost(1, BlockKind::Indirect, 1024), Lost::Files);
        assert_eq!(lost(1, BlockKind::Indirect, 1 << 63), Lost::Names);
        assert_eq!(lost(1030, BlockKind::Dirent, 1 << 63 | 5), Lost::Names);
        assert_eq!(lost(1030, BlockKind::Indirect, 0), Lost::Stretch);
        let read = DamagedBlock::unread(5, Inum(9), (1 << 16, 1 << 16), WallTime(3));
        assert_eq!((read.lost(), read.tid), (Lost::Stretch, Tid(0)));
    }

    #[test]
    fn a_block_is_named_once_and_what_does_not_fit_is_told() {
        let mut one = list(63);
        let later = DamagedBlock { seen: WallTime(9), ..block(5) };
        assert_eq!(one.note(later), Noted::Known);
        assert_eq!(one.note(DamagedBlock { tid: Tid(0), ..later }), Noted::Known);
        assert_eq!(one, list(63));
        assert_eq!(one.note(DamagedBlock { tid: Tid(41), ..later }), Noted::New);
        assert_eq!(one.blocks()[5], DamagedBlock { tid: Tid(41), ..block(5) });
        assert!(!one.is_full());
        assert_eq!(one.note(block(63)), Noted::NoRoom);
        assert!(one.is_full() && one.blocks().len() == DAMAGE_MAX);
    }

    #[test]
    fn what_makes_no_list_hides_damage() {
        let good = list(3).store();
        let unknown = |bytes: &[u8]| {
            let list = DamageList::parse(bytes);
            list.is_full() && list.blocks().is_empty()
        };
        for at in 0..DAMAGE_LEN {
            let mut bytes = good;
            bytes[at] ^= 0xff;
            assert!(unknown(&bytes), "{at}");
        }
        // a check code that is right proves nothing
        for (at, with) in [(0, 0), (12, 2), (16, 64), (16, 0xff), (17, 0xff), (0x70, 0), (0x70, 5)]
        {
            let mut bytes = good;
            bytes[at] = with;
            sealed(&mut bytes);
            assert!(unknown(&bytes), "{at}");
        }
        for len in [0, 1, 4095] {
            assert!(unknown(&vec![0; len]) && unknown(&good[..len]));
        }
        // more than there are, named twice, with anything for a flag
        let mut bytes = good;
        bytes.copy_within(0x40..0x80, 0x80);
        bytes[20..24].fill(0xfe);
        sealed(&mut bytes);
        assert_eq!(DamageList::parse(&bytes).blocks(), [block(0), block(2)]);
        assert!(!DamageList::parse(&bytes).is_full());
    }

    #[test]
    fn the_header_has_another_check_code_for_every_list() {
        let checks = Checks::default();
        let mut header = Box::new(RawVolumeHeader::new_zeroed());
        let mut codes = vec![];
        for count in 0..4 {
            list(count).put(&mut header, &checks);
            assert_eq!(DamageList::of(&header), list(count));
            seal(&mut header, &checks);
            codes.push(header.icrc_volheader.get());
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 4, "or a header that was cut short would pass for a whole one");
    }
}
