//! Walking a PFS through the core, into what a manifest lists.

use std::collections::BTreeMap;
use std::fmt::Write;

use farrier_core::error::Error;
use farrier_core::fs::{
    Attributes, Extent, GetAttributes, OpenPfs, Pfs, Read, ReadDir, ReadLink, Seek, SeekTarget,
};
use farrier_core::media::inode::ObjectKind;
use farrier_core::storage::Storage;
use farrier_core::units::Inum;
use sha2::{Digest, Sha256};

use crate::host::TestHost;
use crate::manifest::Entry;

/// Longest file that is hashed as a whole.
const WHOLE_HASH_MAX: u64 = 256 << 20;

/// What was found at a path.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Attributes, or why there are none.
    pub attributes: Option<Result<Attributes, Error>>,
    /// Kind by the directory entry.
    pub kind: Option<ObjectKind>,
    /// Target of a symbolic link.
    pub target: Option<Result<Vec<u8>, Error>>,
    /// SHA-256 of the contents, of files up to 256 MiB.
    pub sha256: Option<Result<String, Error>>,
    /// SHA-256 over blocks that hold something, as the manifests define it.
    pub sparse_sha256: Option<Result<String, Error>>,
    /// What could not be listed below it.
    pub broken: Vec<Error>,
}

/// Everything below the root of the PFS `label`, by path.
///
/// # Errors
/// The PFS cannot be opened.
///
/// # Panics
/// Never: a walk starts at the root.
pub fn walk<S: Storage>(host: &TestHost<S>, label: &str) -> Result<BTreeMap<Vec<u8>, Seen>, Error> {
    let super_root = host.volume().super_root();
    let pfs = host.run(&OpenPfs { super_root, label: label.into() })?;
    let root = host.run(&GetAttributes { pfs, inum: Inum::ROOT })?;
    let kind = Some(ObjectKind::Directory);
    let root = Seen { attributes: Some(Ok(root)), kind, ..Seen::default() };
    let mut seen = BTreeMap::from([(b"/".to_vec(), root)]);
    let mut stack = vec![(Vec::new(), vec![Inum::ROOT])];
    while let Some((path, ancestors)) = stack.pop() {
        list(host, pfs, &path, &ancestors, &mut seen, &mut stack);
    }
    Ok(seen)
}

type Stack = Vec<(Vec<u8>, Vec<Inum>)>;

fn list<S: Storage>(
    host: &TestHost<S>,
    pfs: Pfs,
    path: &[u8],
    ancestors: &[Inum],
    seen: &mut BTreeMap<Vec<u8>, Seen>,
    stack: &mut Stack,
) {
    let directory = *ancestors.last().expect("a walk starts at the root");
    let key = if path.is_empty() { b"/".to_vec() } else { path.to_vec() };
    let mut position = Some(0);
    while let Some(from) = position {
        let page = ReadDir { pfs, directory, position: from, limit: 100, with_attributes: true };
        let page = match host.run(&page) {
            Ok(page) => page,
            Err(error) => {
                seen.entry(key).or_default().broken.push(error);
                return;
            }
        };
        seen.entry(key.clone()).or_default().broken.extend(&page.broken);
        for entry in page.entries {
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            let child = [path, b"/", &entry.name].concat();
            let is_directory = entry.kind == ObjectKind::Directory;
            if is_directory && ancestors.contains(&entry.inum) {
                let error = Error::NoInode(entry.inum);
                seen.entry(key.clone()).or_default().broken.push(error);
                continue;
            }
            if is_directory {
                stack.push((child.clone(), [ancestors, &[entry.inum]].concat()));
            }
            let attributes = entry.attributes.expect("they were asked for");
            seen.insert(child, look(host, pfs, entry.kind, attributes));
        }
        position = page.next;
    }
}

fn look<S: Storage>(
    host: &TestHost<S>,
    pfs: Pfs,
    kind: ObjectKind,
    attributes: Result<Attributes, Error>,
) -> Seen {
    let mut seen = Seen { attributes: Some(attributes), kind: Some(kind), ..Seen::default() };
    let Ok(attributes) = attributes else {
        return seen;
    };
    match attributes.kind {
        ObjectKind::Symlink => {
            seen.target = Some(host.run(&ReadLink { pfs, inum: attributes.inum }));
        }
        ObjectKind::Regular => {
            if attributes.size <= WHOLE_HASH_MAX {
                seen.sha256 = Some(whole_hash(host, pfs, &attributes));
            }
            seen.sparse_sha256 = Some(sparse_hash(host, pfs, &attributes));
        }
        _ => {}
    }
    seen
}

/// Bytes `offset .. offset + len` of a file.
///
/// # Errors
/// Why they cannot be read.
pub fn read<S: Storage>(
    host: &TestHost<S>,
    pfs: Pfs,
    inum: Inum,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(len);
    for extent in host.run(&Read { pfs, inum, offset, len, ahead: 0 })? {
        match extent {
            Extent::Zeros(len) => bytes.resize(bytes.len() + len, 0),
            Extent::Bytes(block, range) => bytes.extend_from_slice(&block[range]),
        }
    }
    Ok(bytes)
}

fn whole_hash<S: Storage>(
    host: &TestHost<S>,
    pfs: Pfs,
    attributes: &Attributes,
) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut offset = 0;
    while offset < attributes.size {
        let bytes = read(host, pfs, attributes.inum, offset, 1 << 20)?;
        assert!(!bytes.is_empty(), "a read before the end gives something");
        hash.update(&bytes);
        offset += bytes.len() as u64;
    }
    Ok(hex(&hash.finalize()))
}

fn sparse_hash<S: Storage>(
    host: &TestHost<S>,
    pfs: Pfs,
    attributes: &Attributes,
) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let inum = attributes.inum;
    let mut offset = 0;
    while offset < attributes.size {
        let data = match host.run(&Seek { pfs, inum, offset, target: SeekTarget::Data }) {
            Err(Error::NoData) => break,
            found => found? & !0xffff,
        };
        let mut bytes = read(host, pfs, inum, data, 65536)?;
        if bytes.iter().any(|byte| *byte != 0) {
            bytes.resize(65536, 0);
            hash.update(data.to_le_bytes());
            hash.update(&bytes);
        }
        offset = data + 65536;
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What differs between `entry` of a manifest and what was seen at its path.
#[must_use]
pub fn differences(entry: &Entry, seen: &Seen) -> Vec<String> {
    let mut differ = Vec::new();
    let attributes = match seen.attributes {
        Some(Ok(attributes)) => attributes,
        other => return vec![format!("no attributes: {other:?}")],
    };
    let mut compare = |what: &str, want: Option<String>, have: String| {
        if want.as_ref().is_some_and(|want| *want != have) {
            differ.push(format!("{what} is {have}, not {}", want.unwrap_or_default()));
        }
    };
    let is_directory = attributes.kind == ObjectKind::Directory;
    compare("type", Some(entry.kind.clone()), attributes.kind.name().into());
    compare("mode", entry.mode.clone(), format!("{:04o}", attributes.mode));
    compare("size", text(entry.size), attributes.size.to_string());
    compare("nlink", text(entry.nlink).filter(|_| !is_directory), attributes.nlinks.to_string());
    compare("uid", text(entry.uid), attributes.uid.to_string());
    compare("gid", text(entry.gid), attributes.gid.to_string());
    compare("mtime", text(entry.mtime_us), attributes.mtime.0.to_string());
    compare("ctime", text(entry.ctime_us), attributes.ctime.0.to_string());
    compare("inum", text(entry.inum), attributes.inum.0.to_string());
    compare("flags", text(entry.uflags), attributes.flags.to_string());
    let rdev = entry.rdev.map(|rdev| format!("{rdev:?}"));
    compare("rdev", rdev, format!("{:?}", attributes.device));
    if let Some(target) = entry.target_bytes() {
        compare("target", Some(format!("{:?}", Ok::<_, Error>(target))), debug(&seen.target));
    }
    let hash = |want: &Option<String>| want.as_ref().map(|hash| format!("Ok({hash:?})"));
    if seen.sha256.is_some() {
        compare("contents", hash(&entry.sha256), debug(&seen.sha256));
    }
    compare("sparse contents", hash(&entry.sparse_sha256), debug(&seen.sparse_sha256));
    differ
}

fn text<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn debug<T: std::fmt::Debug>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "missing".into(), |value| format!("{value:?}"))
}
