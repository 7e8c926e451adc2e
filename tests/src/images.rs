//! Golden images: where they are, and how they become files.
//!
//! A small set ships with the repository in `tests/images`. The whole set lies in a folder named
//! by `FARRIER_IMAGES`, or in `../shared/images` beside the checkout; tests use it when it is
//! there. Damaged images are kept as a few bytes of change to four undamaged ones.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde::Deserialize;

use crate::manifest::Manifest;

/// The images that ship with the repository.
#[must_use]
pub fn shipped_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("images")
}

/// The whole set, if this machine has it.
#[must_use]
pub fn full_folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/images");
    std::env::var_os("FARRIER_IMAGES")
        .map(PathBuf::from)
        .into_iter()
        .chain([beside])
        .find(|folder| folder.join("big.json").exists())
}

/// Every golden image that this machine has: its folder and its name.
///
/// # Panics
/// The folder cannot be read, or holds hardly anything.
#[must_use]
pub fn all_golden() -> Vec<(PathBuf, String)> {
    let folder = full_folder().unwrap_or_else(shipped_folder);
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| {
            let name = name.strip_suffix(".zst").unwrap_or(&name);
            name.strip_suffix(".json").map(str::to_owned)
        })
        .filter(|name| !name.starts_with("d-") && name != "damaged")
        .collect();
    names.sort();
    names.dedup();
    assert!(names.len() > 10, "{} holds no golden images", folder.display());
    names.into_iter().map(|name| (folder.clone(), name)).collect()
}

/// The manifest of golden image `name`.
///
/// # Panics
/// It is missing or no manifest.
#[must_use]
pub fn manifest(folder: &Path, name: &str) -> Manifest {
    let plain = folder.join(format!("{name}.json"));
    let text = if plain.exists() {
        fs::read(&plain).unwrap_or_else(|error| panic!("{}: {error}", plain.display()))
    } else {
        let packed = folder.join(format!("{name}.json.zst"));
        let output = Command::new("zstd").arg("-dcq").arg(&packed).output();
        output.unwrap_or_else(|error| panic!("zstd is needed to unpack images: {error}")).stdout
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("manifest of {name}: {error}"))
}

/// The unpacked files of golden image `name`: one for each volume, in order.
///
/// # Panics
/// The image cannot be unpacked.
#[must_use]
pub fn unpack(folder: &Path, name: &str) -> Vec<PathBuf> {
    manifest(folder, name)
        .images
        .iter()
        .map(|image| unpack_file(&folder.join(&image.file)))
        .collect()
}

/// One shipped image, unpacked.
#[must_use]
pub fn shipped(name: &str) -> Vec<PathBuf> {
    unpack(&shipped_folder(), name)
}

/// A damaged image: an undamaged one and what was done to it.
#[derive(Debug, Deserialize)]
pub struct Damaged {
    /// Its name.
    pub name: String,
    /// The undamaged image.
    pub base: String,
    /// Length that it was cut to.
    pub truncate: Option<u64>,
    /// Offsets and bytes (hex) written over it.
    pub patches: Vec<(u64, String)>,
    /// What was done, in words.
    pub damage: String,
    /// What a correct reader does, in words.
    pub expect: String,
    /// Paths that may not read as before.
    pub affected_paths: Vec<String>,
    /// The only range of the affected file that may not read as before.
    pub file_range: Option<(u64, u64)>,
}

impl Damaged {
    /// The list of damaged images.
    ///
    /// # Panics
    /// It cannot be read.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let text = fs::read(shipped_folder().join("damaged.json")).expect("tests/images is whole");
        serde_json::from_slice(&text).expect("damaged.json is what we wrote")
    }

    /// The damaged image called `name`.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut all = Self::all();
        let index = all.iter().position(|one| one.name == name);
        all.swap_remove(index.unwrap_or_else(|| panic!("no damaged image {name}")))
    }

    /// Makes the image as a file in `folder`.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn make(&self, folder: &Path) -> PathBuf {
        let path = folder.join(format!("{}.img", self.name));
        let base = unpack_file(&shipped_folder().join(format!("{}.img.zst", self.base)));
        copy_sparse(&base, &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = OpenOptions::new().write(true).open(&path).expect("the copy was just made");
        if let Some(length) = self.truncate {
            file.set_len(length).expect("a file can be cut");
        }
        for (offset, hex) in &self.patches {
            file.write_all_at(&from_hex(hex), *offset).expect("the patch lies in the file");
        }
        path
    }

    /// What the undamaged image holds.
    #[must_use]
    pub fn before(&self) -> Manifest {
        manifest(&shipped_folder(), &self.base)
    }
}

/// Copies of unpacked files in `folder`, to be changed.
///
/// # Panics
/// They cannot be made.
#[must_use]
pub fn copies(paths: &[PathBuf], folder: &Path) -> Vec<PathBuf> {
    let copy = |source: &PathBuf| {
        let target = folder.join(source.file_name().expect("an image has a name"));
        copy_sparse(source, &target)
            .unwrap_or_else(|error| panic!("{}: {error}", target.display()));
        target
    };
    paths.iter().map(copy).collect()
}

/// Copies `source` with its holes.
fn copy_sparse(source: &Path, target: &Path) -> io::Result<()> {
    let status = Command::new("cp").arg("--sparse=always").arg(source).arg(target).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("cp failed")) }
}

/// Bytes from hexadecimal digits.
///
/// # Panics
/// Not pairs of digits.
#[must_use]
pub fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("hex digits are ASCII");
            u8::from_str_radix(pair, 16).expect("hex digits")
        })
        .collect()
}

/// Unpacks once per build folder; later runs find the file.
fn unpack_file(packed: &Path) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let folder = scratch("unpacked");
    let name = Path::new(packed.file_stem().expect("an image has a name"));
    let path = folder.join(name);
    if path.exists() {
        return path;
    }
    // another process may be at it as well: whoever renames last leaves the same bytes
    let part = folder.join(format!("{}.{}", name.display(), std::process::id()));
    let status = Command::new("zstd")
        .args(["-dqf", "--sparse"])
        .arg(packed)
        .arg("-o")
        .arg(&part)
        .status()
        .expect("zstd is needed to unpack images");
    assert!(status.success(), "{} cannot be unpacked", packed.display());
    fs::rename(&part, &path).expect("one folder is one file system");
    path
}

/// A folder below the build folder, for files of tests.
///
/// # Panics
/// It cannot be made.
#[must_use]
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("FARRIER_SCRATCH")).join(name);
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}
