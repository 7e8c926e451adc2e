//! Compressing file blocks, and expanding them (media format 7.3).

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

/// What an inode asks for its contents (media format 3, "as inode request").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Store them as they are, zeros as well.
    Store,
    /// Only turn blocks of zeros into holes.
    Holes,
    /// Turn zeros into holes, and compress with LZ4.
    Lz4,
    /// Turn zeros into holes, and compress with zlib at this level, 6 to 9.
    Zlib(u8),
}

impl Request {
    /// The request in an inode's `comp_algo`; one that we do not know is taken as "store".
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code & 15 {
            1 => Self::Holes,
            2 => Self::Lz4,
            3 => Self::Zlib(match code >> 4 {
                level @ 6..=9 => level,
                _ => 6,
            }),
            _ => Self::Store,
        }
    }
}

/// Compresses a padded file block, if that saves enough: what comes out has the size of its
/// allocation, padded with zeros.
#[must_use]
pub fn compress(contents: &[u8], request: Request) -> Option<(Vec<u8>, Compression)> {
    let half = contents.len() / 2;
    let (mut stored, compression) = match request {
        Request::Store | Request::Holes => return None,
        Request::Lz4 => {
            let mut stored = vec![0; 4 + lz4_flex::block::get_maximum_output_size(contents.len())];
            let len = lz4_flex::block::compress_into(contents, &mut stored[4..]).ok()?;
            if len > half.checked_sub(8)? {
                return None;
            }
            stored[..4].copy_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
            stored.truncate(4 + len);
            (stored, Compression::Lz4)
        }
        Request::Zlib(level) => {
            let stored = miniz_oxide::deflate::compress_to_vec_zlib(contents, level);
            if stored.len() > half {
                return None;
            }
            (stored, Compression::Zlib)
        }
    };
    let len = stored.len().next_power_of_two().max(1024);
    stored.resize(len, 0);
    // a block of 1 KiB still needs one, but all the same it is marked (media format 7.3)
    Some((stored, compression))
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
    fn what_was_compressed_expands_to_itself() {
        let text = b"farrier ".repeat(8192);
        for request in [Request::Lz4, Request::Zlib(6), Request::Zlib(9)] {
            let (stored, compression) = compress(&text, request).unwrap();
            assert!(stored.len().is_power_of_two() && stored.len() <= 32768, "{}", stored.len());
            assert_eq!(expanded(&stored, compression).unwrap(), text);
        }
        assert_eq!(compress(&text, Request::Store), None);
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        let noise: Vec<u8> = (0..65536).map(|_| next()).collect();
        assert_eq!(compress(&noise, Request::Lz4), None, "nothing would be saved");
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
