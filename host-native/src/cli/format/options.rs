//! Values of the options of `farrier format`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use farrier_core::media::check::CheckMethod;
use farrier_core::media::header::Version;

/// A number of bytes, with K, M, G or T behind it for the binary multiples.
pub(crate) fn size(value: &str) -> Result<u64, String> {
    let (digits, shift) = match value.as_bytes().last() {
        Some(b'k' | b'K') => (&value[..value.len() - 1], 10),
        Some(b'm' | b'M') => (&value[..value.len() - 1], 20),
        Some(b'g' | b'G') => (&value[..value.len() - 1], 30),
        Some(b't' | b'T') => (&value[..value.len() - 1], 40),
        _ => (value, 0),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "no size; write e.g. 512M, 10G or 2T".to_owned())
}

pub(super) fn version(value: &str) -> Result<Version, String> {
    let version = value.parse().ok().and_then(Version::from_number);
    if version == Some(Version::Copies) {
        return Err("a volume of copies is made with --copy A --copy B".to_owned());
    }
    version.ok_or_else(|| "unknown version; 1 and 2 are known".to_owned())
}

/// Compression as an inode asks for it.
pub(crate) fn compression(value: &str) -> Result<u8, String> {
    Ok(match value {
        "none" => 0,
        "autozero" => 1,
        "lz4" => 2,
        "zlib" => 3,
        _ => match value.strip_prefix("zlib:").and_then(|level| level.parse::<u8>().ok()) {
            Some(level @ 6..=9) => level << 4 | 3,
            _ => return Err("unknown; write none, autozero, lz4, zlib or zlib:6 to zlib:9".into()),
        },
    })
}

pub(crate) fn check(value: &str) -> Result<CheckMethod, String> {
    (0..=4)
        .filter_map(CheckMethod::from_code)
        .find(|method| method.name() == value)
        .ok_or_else(|| "unknown; write xxhash64, sha192, iscsi32, none or disabled".to_owned())
}

/// The labels, or none where that word stands alone.
pub(super) fn labels(values: &[OsString]) -> Vec<Vec<u8>> {
    match values {
        [one] if one == "none" => Vec::new(),
        _ => values.iter().map(|label| label.as_bytes().to_vec()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("123"), Ok(123));
        assert_eq!((size("4k"), size("3M"), size("2G")), (Ok(4096), Ok(3 << 20), Ok(2 << 30)));
        assert_eq!(size("1t"), Ok(1 << 40));
        for wrong in ["", "G", "-1", "1.5G", "1GiB", "99999999999T", "\u{e4}"] {
            assert!(size(wrong).unwrap_err().contains("512M"), "{wrong}");
        }
    }

    #[test]
    fn methods() {
        assert_eq!((compression("none"), compression("zlib")), (Ok(0), Ok(3)));
        assert_eq!(compression("zlib:9"), Ok(0x93));
        for wrong in ["zlib:5", "zlib:10", "gzip", "zlib:", ""] {
            assert!(compression(wrong).is_err(), "{wrong}");
        }
        assert_eq!(check("sha192"), Ok(CheckMethod::Sha192));
        assert!(check("freemap").is_err() && check("crc").is_err());
        assert!(version("1").is_ok() && version("3").is_err() && version("x").is_err());
        assert!(version("16").unwrap_err().contains("--copy"));
    }

    #[test]
    fn none_stands_for_no_label_only_alone() {
        let of = |values: &[&str]| {
            labels(&values.iter().map(|value| OsString::from(*value)).collect::<Vec<_>>())
        };
        assert_eq!(of(&["none"]), Vec::<Vec<u8>>::new());
        assert_eq!(of(&["none", "DATA"]), [b"none".to_vec(), b"DATA".to_vec()]);
    }
}
