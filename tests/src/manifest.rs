//! Manifests: what a correct reader finds in a golden image.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::images::from_hex;

/// What an image holds.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    /// Its files.
    pub images: Vec<ImageFile>,
    /// Its trees by label.
    pub pfs: BTreeMap<String, Tree>,
}

/// A file of an image.
#[derive(Debug, Deserialize)]
pub struct ImageFile {
    /// Name of the packed file.
    pub file: String,
}

/// One PFS.
#[derive(Debug, Deserialize)]
pub struct Tree {
    /// Everything in it.
    pub entries: Vec<Entry>,
}

/// A file, directory or whatever has a path.
#[derive(Debug, Deserialize, Clone)]
#[allow(missing_docs, reason = "described in the README of the images")]
pub struct Entry {
    pub path: String,
    pub path_hex: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    pub mode: Option<String>,
    pub size: Option<u64>,
    pub nlink: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime_us: Option<u64>,
    pub ctime_us: Option<u64>,
    pub rdev: Option<(u32, u32)>,
    pub uflags: Option<u32>,
    pub target: Option<String>,
    pub target_hex: Option<String>,
    pub sha256: Option<String>,
    pub sparse_sha256: Option<String>,
    pub inum: Option<u64>,
}

impl Entry {
    /// The path in bytes.
    #[must_use]
    pub fn path_bytes(&self) -> Vec<u8> {
        self.path_hex.as_deref().map_or_else(|| self.path.clone().into_bytes(), from_hex)
    }

    /// The target of a symbolic link in bytes.
    #[must_use]
    pub fn target_bytes(&self) -> Option<Vec<u8>> {
        match (&self.target_hex, &self.target) {
            (Some(hex), _) => Some(from_hex(hex)),
            (None, target) => target.clone().map(String::into_bytes),
        }
    }
}
