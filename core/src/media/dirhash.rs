//! The directory hash: from a name to the key its entry is looked up under (media format 6.3).

use super::check::crc32c;

/// Keys below the hash that names with one hash compete for (media format 6.4).
pub const COLLISION_MASK: u64 = 0x7fff;

/// Bit that every key of a name has and no inode number has.
pub const NAME_BIT: u64 = 1 << 63;

/// The key of `name`; entries with this hash stand at `hash ..= hash | COLLISION_MASK`.
#[must_use]
pub fn dirhash(name: &[u8]) -> u64 {
    let pieces = name
        .split(|byte| matches!(byte, b'.' | b'-' | b'_' | b'~'))
        .filter(|piece| !piece.is_empty())
        .fold(0_u32, |sum, piece| sum.wrapping_add(crc32c(piece)));
    let whole = crc32c(name);
    let whole = whole ^ (whole << 16);
    (u64::from(pieces | 0x8000_0000) << 32) | u64::from(whole & 0xffff_0000) | 0x8000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_the_specification() {
        let vectors: &[(&[u8], u64)] = &[
            (b"", 0x8000_0000_0000_8000),
            (b"a", 0xc1d0_4330_82e0_8000),
            (b"LOCAL", 0xde25_e1c4_3fe1_8000),
            (b"BOOT", 0xd9b3_6ce1_3552_8000),
            (b"DATA", 0xc78f_ff92_381d_8000),
            (b"SUPROOT", 0xb6d9_4834_7eed_8000),
            (b"hello.txt", 0xd6e8_9056_8870_8000),
            (b"hello_txt", 0xd6e8_9056_903b_8000),
            (b"txt.hello", 0xd6e8_9056_bc30_8000),
            (b".", 0x8000_0000_bc10_8000),
            (b"...", 0x8000_0000_bf98_8000),
            (b"foo-bar_baz~1.2", 0xef85_1146_2198_8000),
            ("na\u{ef}ve.txt".as_bytes(), 0xba81_9acd_5d5c_8000),
            (&[b'a'; 64], 0xb7ae_ee33_d99d_8000),
            (&[b'a'; 65], 0xe254_579b_b5cf_8000),
            (&[b'a'; 255], 0xf0a0_23de_d37e_8000),
        ];
        for (name, hash) in vectors {
            assert_eq!(dirhash(name), *hash, "{}", alloc::string::String::from_utf8_lossy(name));
        }
    }
}
