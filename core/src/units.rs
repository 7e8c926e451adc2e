//! Quantities that must not be mixed up, each in a type of its own. Floor 0: imports nothing.
//!
//! Keys stay plain `u64`: they are hashes, inode numbers or file offsets, depending on the table
//! that they stand in, and every table says which.

use core::fmt;

/// Index of a device within the set that was handed to the volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DeviceIndex(pub u8);

impl fmt::Display for DeviceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {}", self.0)
    }
}

/// Byte offset in the *logical* address space of a file system, which its volumes share
/// (media format 1.5). The offset on a device is this minus the start of the volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MediaOffset(pub u64);

impl fmt::Display for MediaOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Base-two logarithm of a block's size in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Radix(u8);

impl Radix {
    /// Smallest allocation: 1 KiB.
    pub const MIN: Self = Self(10);
    /// Largest allocation: 64 KiB, which is also the logical block of a file.
    pub const MAX: Self = Self(16);

    /// The radix `bits`, if a block may have it.
    #[must_use]
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= Self::MIN.0 && bits <= Self::MAX.0 { Some(Self(bits)) } else { None }
    }

    /// The logarithm itself, 10 to 16.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The size in bytes, 1024 to 65536.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub const fn len(self) -> usize {
        1 << self.0
    }
}

/// A transaction id: of the media (`mirror_tid`) or of one PFS (`modify_tid`) (media format 9.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Tid(pub u64);

/// An inode number, unique within its PFS (media format 5.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Inum(pub u64);

impl Inum {
    /// The root directory of every PFS.
    pub const ROOT: Self = Self(1);
}

impl fmt::Display for Inum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inode {}", self.0)
    }
}

/// A point in time as the media keeps it: microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WallTime(pub u64);

impl WallTime {
    /// Whole seconds since 1970. Times before 1970 are stored wrapped around and come out negative.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.cast_signed().div_euclid(1_000_000)
    }

    /// Nanoseconds within the second, 0 to 999,999,000.
    #[must_use]
    pub const fn nanoseconds(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "below a million")]
        let micros = self.0.cast_signed().rem_euclid(1_000_000) as u32;
        micros * 1000
    }
}

/// A 16-byte UUID in media order: the first three groups little-endian (media format, conventions).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, e @ ..] = self.0;
        let (a, b, c) = (
            u32::from_le_bytes([a0, a1, a2, a3]),
            u16::from_le_bytes([b0, b1]),
            u16::from_le_bytes([c0, c1]),
        );
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d0:02x}{d1:02x}-")?;
        e.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_time_before_1970_counts_backwards() {
        let before = WallTime((-1_500_000_i64).cast_unsigned());
        assert_eq!((before.seconds(), before.nanoseconds()), (-2, 500_000_000));
    }

    #[test]
    fn the_type_uuid_of_hammer2_prints_as_documented() {
        let bytes = [
            0xd1, 0x9a, 0xbb, 0x5c, 0x2d, 0x86, 0xdc, 0x11, 0xa9, 0x4d, 0x01, 0x30, 0x1b, 0xb8,
            0xa9, 0xf5,
        ];
        assert_eq!(Uuid(bytes).to_string(), "5cbb9ad1-862d-11dc-a94d-01301bb8a9f5");
    }

    #[test]
    fn only_block_sizes_are_a_radix() {
        assert_eq!(Radix::new(9), None);
        assert_eq!(Radix::new(17), None);
        assert_eq!(Radix::new(14).map(Radix::len), Some(16384));
    }
}
