//! Directory entries (media format 6.2).

use super::blockref::Blockref;
use super::check::Verified;
use super::dirhash::{COLLISION_MASK, dirhash};
use super::inode::ObjectKind;
use crate::error::DirentFault;
use crate::units::Inum;

/// Longest name that fits into the blockref itself.
pub const EMBEDDED_MAX: usize = 64;
/// Longest name.
pub const NAME_LEN_MAX: usize = 255;

/// The header of a directory entry; its name is embedded or in a block of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirentHeader {
    /// The inode that the name stands for.
    pub target: Inum,
    /// Length of the name in bytes, 1 to 255.
    pub name_len: usize,
    /// Kind of the inode, as the entry says.
    pub kind: ObjectKind,
}

impl DirentHeader {
    /// Reads the header out of a dirent blockref.
    ///
    /// # Errors
    /// The name's length does not fit where the name is, or the kind is unknown.
    pub fn parse(blockref: &Blockref) -> Result<Self, DirentFault> {
        let [target @ .., l0, l1, kind, _, _, _, _, _] = blockref.raw().embed;
        let name_len = u16::from_le_bytes([l0, l1]);
        let embedded = blockref.location().is_none();
        let len = usize::from(name_len);
        if len == 0 || len > NAME_LEN_MAX || (embedded && len > EMBEDDED_MAX) {
            return Err(DirentFault::NameLength(name_len));
        }
        let kind = ObjectKind::from_code(kind).ok_or(DirentFault::Kind(kind))?;
        Ok(Self { target: Inum(u64::from_le_bytes(target)), name_len: len, kind })
    }

    /// The name, out of the blockref or out of `block` where it has one.
    ///
    /// # Errors
    /// A name that cannot be one, or that does not belong under this entry's key.
    pub fn name<'a>(
        &self,
        blockref: &'a Blockref,
        block: Option<&'a Verified>,
    ) -> Result<&'a [u8], DirentFault> {
        let field = block.map_or(&blockref.raw().check[..], |block| &block[..]);
        // parse() compared the length with the smaller of the two
        let name = field.get(..self.name_len).ok_or(DirentFault::NameLength(0))?;
        if !is_legal_name(name) {
            return Err(DirentFault::IllegalName);
        }
        if (dirhash(name) ^ blockref.key()) & !COLLISION_MASK != 0 {
            return Err(DirentFault::Hash);
        }
        Ok(name)
    }
}

/// Whether a directory can hold `name`: 1 to 255 bytes without `/` and NUL, and not `.` or `..`.
#[must_use]
pub fn is_legal_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::raw::RawBlockref;
    use zerocopy::FromZeros;

    fn entry(name: &[u8], len: u16, key: u64) -> Blockref {
        let mut raw = RawBlockref::new_zeroed();
        raw.kind = 4;
        raw.key.set(key);
        raw.embed[..2].copy_from_slice(&[0, 4]);
        raw.embed[8..10].copy_from_slice(&len.to_le_bytes());
        raw.embed[10] = 2;
        raw.check[..name.len()].copy_from_slice(name);
        Blockref::parse(&raw).unwrap().unwrap()
    }

    #[test]
    fn the_sample_of_the_specification() {
        let blockref = entry(b"b1", 2, 0x9430_a888_3cb8_8001);
        let header = DirentHeader::parse(&blockref).unwrap();
        assert_eq!((header.target, header.kind), (Inum(0x400), ObjectKind::Regular));
        assert_eq!(header.name(&blockref, None).unwrap(), b"b1");
    }

    #[test]
    fn every_refusal() {
        for len in [0, 65, 300] {
            let fault = DirentHeader::parse(&entry(b"b1", len, 0)).unwrap_err();
            assert_eq!(fault, DirentFault::NameLength(len));
        }
        for name in [&b"a/"[..], b".", b"..", b"a\0"] {
            let blockref = entry(name, u16::try_from(name.len()).unwrap(), dirhash(name));
            let header = DirentHeader::parse(&blockref).unwrap();
            assert_eq!(header.name(&blockref, None), Err(DirentFault::IllegalName));
        }
        let misplaced = entry(b"b1", 2, 0x9430_a888_3cb9_8001);
        let header = DirentHeader::parse(&misplaced).unwrap();
        assert_eq!(header.name(&misplaced, None), Err(DirentFault::Hash));
    }
}
