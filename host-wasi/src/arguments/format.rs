//! The options of `format`, in the words of the native command.

use farrier_core::media::check::CheckMethod;

/// A file system that is to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewFileSystem {
    /// Limit of its size in bytes; an image file that is not there yet is made that large.
    pub size: Option<u64>,
    /// Labels of the PFSs to make beside LOCAL.
    pub labels: Vec<Vec<u8>>,
    /// Compression that new files get, as an inode says it.
    pub compression: u8,
    /// Check codes that new files get.
    pub check: CheckMethod,
    /// Whether to overwrite what the files hold.
    pub force: bool,
    /// Whether each of the files is to hold all of it.
    pub copies: bool,
}

/// The options as they come.
#[derive(Default)]
pub(super) struct Options {
    force: bool,
    copies: bool,
    /// One that was given and is about making file systems only.
    pub(super) given: Option<&'static str>,
    size: Option<u64>,
    labels: Vec<Vec<u8>>,
    compression: Option<u8>,
    check: Option<CheckMethod>,
}

impl Options {
    pub(super) const fn force(&mut self) {
        self.force = true;
        self.given = Some("force");
    }

    pub(super) const fn copies(&mut self) {
        self.copies = true;
        self.given = Some("copies");
    }

    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |text: &str| format!("--{name} {value}: {text}");
        self.given = Some(match name {
            "size" => {
                self.size =
                    Some(bytes(value).ok_or_else(|| wrong("no size; write e.g. 512M, 10G or 2T"))?);
                "size"
            }
            "label" => {
                self.labels.extend(value.split(',').map(|label| label.as_bytes().to_vec()));
                "label"
            }
            "compression" => {
                self.compression = Some(compression(value).ok_or_else(|| {
                    wrong("unknown; write none, autozero, lz4, zlib or zlib:6 to zlib:9")
                })?);
                "compression"
            }
            _ => {
                self.check = Some(check(value).ok_or_else(|| {
                    wrong("unknown; write xxhash64, sha192, iscsi32, none or disabled")
                })?);
                "check"
            }
        });
        Ok(())
    }

    pub(super) fn finish(&mut self) -> NewFileSystem {
        let labels = match &self.labels[..] {
            [] => vec![b"DATA".to_vec()],
            [one] if one == b"none" => Vec::new(),
            _ => std::mem::take(&mut self.labels),
        };
        NewFileSystem {
            size: self.size,
            labels,
            compression: self.compression.unwrap_or(LZ4),
            check: self.check.unwrap_or(CheckMethod::Xxhash64),
            force: self.force,
            copies: self.copies,
        }
    }
}

/// A number of bytes, with K, M, G or T behind it for the binary multiples.
fn bytes(value: &str) -> Option<u64> {
    let (digits, shift) = match value.as_bytes().last()? {
        b'k' | b'K' => (&value[..value.len() - 1], 10),
        b'm' | b'M' => (&value[..value.len() - 1], 20),
        b'g' | b'G' => (&value[..value.len() - 1], 30),
        b't' | b'T' => (&value[..value.len() - 1], 40),
        _ => (value, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Compression as an inode asks for it.
fn compression(value: &str) -> Option<u8> {
    Some(match value {
        "none" => 0,
        "autozero" => 1,
        "lz4" => LZ4,
        "zlib" => 3,
        _ => match value.strip_prefix("zlib:")?.parse::<u8>().ok()? {
            level @ 6..=9 => level << 4 | 3,
            _ => return None,
        },
    })
}

fn check(value: &str) -> Option<CheckMethod> {
    (0..=4).filter_map(CheckMethod::from_code).find(|method| method.name() == value)
}

const LZ4: u8 = 2;
