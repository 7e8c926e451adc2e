//! Where a block lies on each of its copies (copies, addresses).
//!
//! On a volume without copies the bytes that are read here mean nothing, so nobody asks for
//! [`Addresses`] unless the volume's header says that it is one of copies.

use super::blockref::{Blockref, Location, RADIX_MASK, parse_kind, parse_location};
use super::check::CheckMethod;
use super::copy_group::COPIES_MAX;
use super::raw::RawBlockref;
use crate::error::BlockrefFault;
use crate::units::MediaOffset;

/// Where the addresses on copies 1, 2 and 3 begin in the check field.
const ALTERNATES: usize = 40;
/// All copies.
const ALL: u8 = (1 << COPIES_MAX) - 1;
/// On the one copy that the record of the group names for plain blockrefs.
const PLAIN: u8 = 0x80;
/// What stands for the set of copies in a plain blockref: 0, or 255 in what was formatted so.
const PLAIN_IDS: [u8; 2] = [0, 0xff];

/// The copies that hold a block, and where it lies on each of them. One copy at least holds it.
///
/// A *plain* blockref is as on a volume without copies: it names no copies, and means the one that
/// the record of the group says. Its addresses have to be [settled](Self::settled) before they say
/// anything of copies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Addresses {
    mask: u8,
    offsets: [u64; COPIES_MAX],
}

impl Addresses {
    /// Reads the addresses of a blockref that has a block.
    ///
    /// A blockref without a block (a directory entry with a short name keeps the name where the
    /// addresses of others are) has none: ask [`Blockref::location`](super::blockref::Blockref)
    /// first.
    ///
    /// # Errors
    /// No copy holds it, or a copy that cannot be; an address that no block of its kind and size
    /// may have, or one that is not aligned; an address on a copy that does not hold it; two addresses on the same copy; a
    /// check method that leaves no room for addresses.
    pub fn of(raw: &RawBlockref) -> Result<Self, BlockrefFault> {
        let kind = parse_kind(raw.kind)?;
        let code = raw.methods >> 4;
        let method = CheckMethod::from_code(code).ok_or(BlockrefFault::UnknownCheck(code))?;
        if code_len(method) > ALTERNATES {
            return Err(BlockrefFault::UnknownCheck(code));
        }
        let mask = raw.copy_id;
        let data_off = raw.data_off.get();
        if PLAIN_IDS.contains(&mask) {
            // other programs put blocks where they like, and leave noise behind the check code
            let location = parse_location(data_off, kind)?;
            let fault = BlockrefFault::CopyOffset { copy: 0, offset: MediaOffset(data_off) };
            let offset = location.ok_or(fault)?.offset;
            return Ok(Self { mask: PLAIN, offsets: [offset.0, 0, 0, 0] });
        }
        if mask & !ALL != 0 {
            return Err(BlockrefFault::Copies(mask));
        }
        let lowest = mask.trailing_zeros() as usize;
        let radix = data_off & RADIX_MASK;
        let mut offsets = alternates(raw);
        if lowest == 0 {
            offsets[0] = data_off & !RADIX_MASK;
        }
        for (copy, &offset) in (0_u8..).zip(&offsets) {
            let fault = BlockrefFault::CopyOffset { copy, offset: MediaOffset(offset) };
            if mask & 1 << copy == 0 {
                if offset != 0 {
                    return Err(fault);
                }
                continue;
            }
            let agrees = usize::from(copy) != lowest || offset == data_off & !RADIX_MASK;
            if !agrees || offset % alignment(radix) != 0 {
                return Err(fault);
            }
            let location = parse_location(offset | radix, kind).map_err(|found| match found {
                BlockrefFault::Offset(_) => fault,
                other => other,
            })?;
            if location.is_none() {
                return Err(fault);
            }
        }
        Ok(Self { mask, offsets })
    }

    /// One address, on copy 0.
    #[must_use]
    pub const fn single(offset: MediaOffset) -> Self {
        Self { mask: 1, offsets: [offset.0, 0, 0, 0] }
    }

    /// The address in a blockref that names no copies.
    #[must_use]
    pub const fn plain(offset: MediaOffset) -> Self {
        Self { mask: PLAIN, offsets: [offset.0, 0, 0, 0] }
    }

    /// Whether they are those of a blockref that names no copies.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.mask == PLAIN
    }

    /// The same; those of a plain blockref are on the copy `plain`.
    #[must_use]
    pub fn settled(self, plain: u8) -> Self {
        if !self.is_plain() {
            return self;
        }
        let mut settled = Self { mask: 0, offsets: [0; COPIES_MAX] };
        if let Some(offset) = settled.offsets.get_mut(usize::from(plain)) {
            (settled.mask, *offset) = (1 << plain, self.offsets[0]);
        }
        settled
    }

    /// The addresses in `places`, if there is one at least and each is on another of the four
    /// copies. Whether a block may lie there is not looked at.
    #[must_use]
    pub fn from_places(places: impl IntoIterator<Item = (u8, MediaOffset)>) -> Option<Self> {
        let mut addresses = Self { mask: 0, offsets: [0; COPIES_MAX] };
        for (copy, offset) in places {
            if addresses.get(copy).is_some() {
                return None;
            }
            addresses = addresses.with(copy, offset)?;
        }
        (addresses.mask != 0).then_some(addresses)
    }

    /// Writes them into a blockref: the set of copies, the address on the lowest of them beside the
    /// radix that stands there, and the other addresses with zeros where there are none.
    pub fn put(&self, raw: &mut RawBlockref) {
        let radix = raw.data_off.get() & RADIX_MASK;
        let (mask, offset) = if self.is_plain() {
            (PLAIN_IDS[0], self.offsets[0])
        } else {
            (self.mask, self.lowest().1.0)
        };
        raw.copy_id = mask;
        raw.data_off.set(offset & !RADIX_MASK | radix);
        for (field, offset) in raw.check[ALTERNATES..].chunks_exact_mut(8).zip(&self.offsets[1..]) {
            field.copy_from_slice(&offset.to_le_bytes());
        }
    }

    /// The copies that hold the block, a bit for each; none, if it is not said which.
    #[must_use]
    pub const fn mask(&self) -> u8 {
        self.mask & ALL
    }

    /// Where the block lies on `copy`, if it is there.
    #[must_use]
    pub fn get(&self, copy: u8) -> Option<MediaOffset> {
        let offset = *self.offsets.get(usize::from(copy))?;
        (self.mask() & 1 << copy != 0).then_some(MediaOffset(offset))
    }

    /// The lowest copy that holds it, and where.
    #[must_use]
    pub fn lowest(&self) -> (u8, MediaOffset) {
        self.iter().next().unwrap_or((0, MediaOffset(0)))
    }

    /// Every copy that holds it, and where, in order of copies.
    pub fn iter(&self) -> impl Iterator<Item = (u8, MediaOffset)> + use<> {
        let (mask, offsets) = (self.mask(), self.offsets);
        let offsets = (0_u8..).zip(offsets);
        offsets
            .filter(move |(copy, _)| mask & 1 << copy != 0)
            .map(|(copy, offset)| (copy, MediaOffset(offset)))
    }

    /// With an address on `copy`, instead of the one that it may have had there; `None` if there
    /// can be no such copy.
    #[must_use]
    pub fn with(mut self, copy: u8, offset: MediaOffset) -> Option<Self> {
        *self.offsets.get_mut(usize::from(copy))? = offset.0;
        self.mask |= 1 << copy;
        Some(self)
    }

    /// Without the copies of `mask`; `None` if no other holds the block.
    #[must_use]
    pub fn without(mut self, mask: u8) -> Option<Self> {
        self.mask &= !mask;
        for (copy, offset) in self.offsets.iter_mut().enumerate() {
            if self.mask & 1 << copy == 0 {
                *offset = 0;
            }
        }
        (self.mask != 0).then_some(self)
    }
}

/// A copy, and what has to be known of the group to tell what lies on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seat {
    /// The copy.
    pub copy: u8,
    /// The copy that plain blockrefs are on.
    pub plain: u8,
}

impl Blockref {
    /// Where its block lies on a copy; on a volume without copies, for `None`, where it lies.
    #[must_use]
    pub fn location_on(&self, seat: Option<Seat>) -> Option<Location> {
        let location = self.location()?;
        match seat {
            None => Some(location),
            Some(Seat { copy, plain }) => {
                let offset = Addresses::of(self.raw()).ok()?.settled(plain).get(copy)?;
                Some(Location { offset, ..location })
            }
        }
    }

    /// What tells its address from all others on a volume of copies: the lowest copy that it names,
    /// or a number that is none of theirs, and the address there.
    #[must_use]
    pub const fn address_key(&self) -> (u8, u64) {
        address_key(self.raw())
    }
}

/// As [`Blockref::address_key`].
#[must_use]
pub const fn address_key(raw: &RawBlockref) -> (u8, u64) {
    let copy = match raw.copy_id {
        0 | 0xff => COPIES_MAX.to_le_bytes()[0],
        mask => mask.trailing_zeros().to_le_bytes()[0],
    };
    (copy, raw.data_off.get())
}

/// Whether a blockref names no copies (copies, plain blockrefs).
#[must_use]
pub fn is_plain(raw: &RawBlockref) -> bool {
    PLAIN_IDS.contains(&raw.copy_id)
}

/// The addresses in the check field, with 0 for copy 0, which has none there.
fn alternates(raw: &RawBlockref) -> [u64; COPIES_MAX] {
    let mut offsets = [0; COPIES_MAX];
    for (offset, field) in offsets[1..].iter_mut().zip(raw.check[ALTERNATES..].chunks_exact(8)) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(field);
        *offset = u64::from_le_bytes(bytes);
    }
    offsets
}

/// What the address of a block with that radix is a multiple of: its size from 16 KiB on, and 1 KiB
/// for smaller ones, which share a chunk of the freemap.
const fn alignment(radix: u64) -> u64 {
    match radix {
        14..=16 => 1 << radix,
        _ => 1 << 10,
    }
}

/// Bytes of the check field that a method takes, hints of the freemap included.
const fn code_len(method: CheckMethod) -> usize {
    match method {
        CheckMethod::None | CheckMethod::Disabled => 0,
        CheckMethod::Iscsi32 => 4,
        CheckMethod::Xxhash64 => 8,
        CheckMethod::Freemap => 16,
        CheckMethod::Sha192 => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use zerocopy::{FromBytes, FromZeros};

    const AT: u64 = 0x840_0000;

    fn raw() -> RawBlockref {
        let mut raw = RawBlockref::new_zeroed();
        raw.kind = 3;
        raw.methods = 0x40;
        raw.key_bits = 16;
        raw.data_off.set(AT | 14);
        raw.check[..24].fill(0xaa);
        raw
    }

    fn places(mask: u8) -> Addresses {
        let places = (0..4).filter(|copy| mask & 1 << copy != 0);
        let at = |copy| (copy, MediaOffset(AT + u64::from(copy) * 0x4000));
        Addresses::from_places(places.map(at)).unwrap()
    }

    #[test]
    fn every_set_of_copies_goes_there_and_back() {
        for mask in 1..=15 {
            let mut entry = raw();
            entry.check[40..].fill(0xee);
            places(mask).put(&mut entry);
            assert_eq!(entry.copy_id, mask);
            assert_eq!(entry.data_off.get() & RADIX_MASK, 14);
            assert_eq!(Addresses::of(&entry), Ok(places(mask)));
            assert!(entry.check[..24].iter().all(|byte| *byte == 0xaa), "the code stays");
            let lowest = mask.trailing_zeros();
            assert_eq!(entry.data_off.get() & !RADIX_MASK, AT + u64::from(lowest) * 0x4000);
            assert_eq!(places(mask).iter().count(), mask.count_ones() as usize);
        }
    }

    #[test]
    fn a_single_address_leaves_the_check_field_zeroed_behind() {
        let mut entry = raw();
        Addresses::single(MediaOffset(AT)).put(&mut entry);
        assert_eq!((entry.copy_id, entry.data_off.get()), (1, AT | 14));
        assert!(entry.check[24..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn copies_come_and_go() {
        let all = places(15);
        assert_eq!(all.without(0b0101), Some(places(0b1010)));
        assert_eq!(all.without(15), None);
        assert_eq!(places(2).with(0, MediaOffset(AT)), Some(places(3)));
        assert_eq!(places(2).with(4, MediaOffset(AT)), None);
        assert_eq!(places(2).get(0), None);
        assert_eq!(places(2).lowest(), (1, MediaOffset(AT + 0x4000)));
        let twice = [(1, MediaOffset(AT)), (1, MediaOffset(AT))];
        assert_eq!(Addresses::from_places(twice), None);
        assert_eq!(Addresses::from_places([]), None);
    }

    #[test]
    fn a_plain_blockref_is_on_the_copy_that_the_group_says() {
        for id in [0, 0xff] {
            let mut entry = raw();
            entry.copy_id = id;
            // no multiple of its size, as others may put it; and noise where addresses are
            entry.data_off.set((AT + 0x400) | 13);
            entry.check[40..].fill(0x5a);
            let addresses = Addresses::of(&entry).unwrap();
            assert!(addresses.is_plain());
            assert_eq!(
                (addresses.mask(), addresses.get(0), addresses.iter().count()),
                (0, None, 0)
            );
            for plain in 0..4 {
                let settled = addresses.settled(plain);
                assert_eq!(settled.lowest(), (plain, MediaOffset(AT + 0x400)));
                assert_eq!((settled.mask(), settled.settled(3)), (1 << plain, settled));
            }
            assert_eq!(addresses.settled(200).mask(), 0);
            addresses.put(&mut entry);
            assert_eq!((entry.copy_id, entry.data_off.get()), (0, (AT + 0x400) | 13));
            assert!(entry.check[40..].iter().all(|byte| *byte == 0));
            assert_eq!(Addresses::of(&entry), Ok(Addresses::plain(MediaOffset(AT + 0x400))));
            assert_ne!(address_key(&entry), address_key(&RawBlockref { copy_id: 1, ..entry }));
        }
        let mut entry = raw();
        entry.copy_id = 0;
        entry.data_off.set((AT + 0x400) | 16);
        assert!(Addresses::of(&entry).is_err(), "it crosses what is read as one");
    }

    fn fault(mask: u8, change: impl FnOnce(&mut RawBlockref)) -> BlockrefFault {
        let mut entry = raw();
        places(mask).put(&mut entry);
        change(&mut entry);
        Addresses::of(&entry).unwrap_err()
    }

    #[test]
    fn every_refusal() {
        let at = |copy, offset| BlockrefFault::CopyOffset { copy, offset: MediaOffset(offset) };
        let second = |entry: &mut RawBlockref, offset: u64| {
            entry.check[40..48].copy_from_slice(&offset.to_le_bytes());
        };
        for mask in [16, 0x80, 0xfe] {
            assert_eq!(fault(3, |entry| entry.copy_id = mask), BlockrefFault::Copies(mask));
        }
        assert_eq!(fault(3, |entry| second(entry, 0)), at(1, 0));
        assert_eq!(fault(3, |entry| second(entry, AT | 14)), at(1, AT | 14), "a radix in it");
        let small = |entry: &mut RawBlockref, offset| {
            entry.data_off.set(AT | 13);
            second(entry, offset);
        };
        assert_eq!(fault(3, |entry| small(entry, AT + 0xf000)), at(1, AT + 0xf000), "crosses");
        assert_eq!(fault(3, |entry| small(entry, AT + 0x200)), at(1, AT + 0x200), "misaligned");
        assert_eq!(fault(3, |entry| second(entry, AT + 0x1000)), at(1, AT + 0x1000), "misaligned");
        assert_eq!(fault(3, |entry| second(entry, 1 << 30)), at(1, 1 << 30), "reserved");
        assert_eq!(fault(3, |entry| second(entry, u64::MAX - 63)), at(1, u64::MAX - 63));
        assert_eq!(fault(2, |entry| second(entry, AT)), at(1, AT), "two on the lowest");
        assert_eq!(fault(1, |entry| second(entry, AT)), at(1, AT), "on none of its copies");
        assert_eq!(fault(3, |entry| entry.data_off.set(14)), at(0, 0));
        assert_eq!(fault(3, |entry| entry.data_off.set(AT | 9)), BlockrefFault::Radix(9));
        assert_eq!(fault(3, |entry| entry.methods = 0x60), BlockrefFault::UnknownCheck(6));
        assert_eq!(fault(3, |entry| entry.kind = 0), BlockrefFault::UnknownKind(0));
        let nowhere = fault(1, |entry| {
            entry.kind = 4;
            entry.data_off.set(0);
        });
        assert_eq!(nowhere, at(0, 0), "a short name has no addresses");
    }

    #[test]
    fn the_freemap_lies_in_the_reserved_zones_of_its_copy() {
        let mut entry = raw();
        (entry.kind, entry.methods) = (6, 0x50);
        entry.data_off.set(15);
        Addresses::single(MediaOffset(0x1_0000)).put(&mut entry);
        assert!(Addresses::of(&entry).is_ok());
        Addresses::single(MediaOffset(AT)).put(&mut entry);
        assert!(Addresses::of(&entry).is_err());
    }

    #[test]
    fn every_method_leaves_room() {
        for code in 0..=15 {
            if let Some(method) = CheckMethod::from_code(code) {
                assert!(code_len(method) <= ALTERNATES, "{method:?}");
            }
        }
    }

    #[test]
    fn any_bytes_get_an_answer_that_comes_back() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..128).map(|_| byte()).collect();
            let mut any = RawBlockref::read_from_bytes(&bytes).unwrap();
            let _ = Addresses::of(&any);
            let mut near = raw();
            places(byte() & 15 | 1).put(&mut near);
            for _ in 0..2 {
                let bytes = zerocopy::IntoBytes::as_mut_bytes(&mut near);
                bytes[usize::from(byte()) % 128] = byte();
            }
            if let Ok(addresses) = Addresses::of(&near).map(|found| found.settled(0)) {
                if is_plain(&near) {
                    continue;
                }
                any = near;
                addresses.put(&mut any);
                assert_eq!(any, near);
            }
        }
    }
}
