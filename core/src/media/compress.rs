//! Expanding compressed file blocks (media format 7.3).

use alloc::vec;
use alloc::vec::Vec;

use super::check::Verified;
use crate::error::ExpandFault;

/// How a file block is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Compression {
    /// As it is.
    None,
    /// A length word and one LZ4 block.
    Lz4,
    /// One zlib stream.
    Zlib,
}

impl Compression {
    /// The name that the tools of HAMMER2 use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zlib => "zlib",
        }
    }
}

/// The contents of a stored block: at most 64 KiB, whatever the bytes say, and in no more memory
/// than they need, for they stay in the cache.
///
/// # Errors
/// The stream is not one, or expands to more than a file block.
pub fn expand(stored: Verified, compression: Compression) -> Result<Verified, ExpandFault> {
    match compression {
        Compression::None => Ok(stored),
        Compression::Lz4 => stored.expand(|stored| expand_lz4(stored).map(fitted)),
        Compression::Zlib => stored.expand(|stored| expand_zlib(stored).map(fitted)),
    }
}

/// Expanding takes room for a whole file block; the end of a short file would keep it.
fn fitted(mut contents: Vec<u8>) -> Vec<u8> {
    contents.shrink_to_fit();
    contents
}

fn expand_lz4(stored: &[u8]) -> Result<Vec<u8>, ExpandFault> {
    let (length, stream) = stored.split_first_chunk().ok_or(ExpandFault::Length(0))?;
    let length = u32::from_le_bytes(*length);
    let stream = usize::try_from(length)
        .ok()
        .and_then(|length| stream.get(..length))
        .ok_or(ExpandFault::Length(length))?;
    let mut contents = vec![0; CONTENTS_MAX];
    let len =
        lz4_flex::block::decompress_into(stream, &mut contents).map_err(|_| ExpandFault::Stream)?;
    contents.truncate(len);
    Ok(contents)
}

fn expand_zlib(stored: &[u8]) -> Result<Vec<u8>, ExpandFault> {
    miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(stored, CONTENTS_MAX)
        .map_err(|_| ExpandFault::Stream)
}

/// A file block: nothing on media expands to more.
const CONTENTS_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::check::{CheckCode, Checks};

    fn expanded(stored: &[u8], compression: Compression) -> Result<Vec<u8>, ExpandFault> {
        let verified = Checks::PORTABLE.verify(stored.to_vec(), CheckCode::Unchecked).unwrap();
        expand(verified, compression).map(|contents| contents.to_vec())
    }

    fn lz4(contents: &[u8], padding: usize) -> Vec<u8> {
        let stream = lz4_flex::block::compress(contents);
        let mut stored = u32::try_from(stream.len()).unwrap().to_le_bytes().to_vec();
        stored.extend(stream);
        stored.resize(stored.len() + padding, 0);
        stored
    }

    #[test]
    fn padding_behind_a_stream_is_not_read() {
        let contents = b"farrier ".repeat(1000);
        assert_eq!(expanded(&lz4(&contents, 500), Compression::Lz4).unwrap(), contents);
        let mut zlib = miniz_oxide::deflate::compress_to_vec_zlib(&contents, 6);
        zlib.extend([0; 500]);
        assert_eq!(expanded(&zlib, Compression::Zlib).unwrap(), contents);
    }

    #[test]
    fn short_contents_keep_no_room_for_long_ones() {
        let contents = vec![7; 1024];
        let zlib = miniz_oxide::deflate::compress_to_vec_zlib(&contents, 6);
        for expanded in [expand_lz4(&lz4(&contents, 0)), expand_zlib(&zlib)] {
            assert!(fitted(expanded.unwrap()).capacity() < 2048);
        }
    }

    #[test]
    fn a_stream_may_not_leave_its_block_or_the_file_block() {
        let mut lying = lz4(b"short", 0);
        lying[..4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        assert_eq!(expanded(&lying, Compression::Lz4), Err(ExpandFault::Length(0x7fff_ffff)));
        assert_eq!(expanded(&[1, 0], Compression::Lz4), Err(ExpandFault::Length(0)));
        let large = vec![0; 65537];
        assert_eq!(expanded(&lz4(&large, 0), Compression::Lz4), Err(ExpandFault::Stream));
        let zlib = miniz_oxide::deflate::compress_to_vec_zlib(&large, 6);
        assert_eq!(expanded(&zlib, Compression::Zlib), Err(ExpandFault::Stream));
        assert_eq!(expanded(&[0xff; 64], Compression::Zlib), Err(ExpandFault::Stream));
        let cut = &miniz_oxide::deflate::compress_to_vec_zlib(b"cut off", 6)[..6];
        assert_eq!(expanded(cut, Compression::Zlib), Err(ExpandFault::Stream));
    }
}
