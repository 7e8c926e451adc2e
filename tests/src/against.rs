//! A PFS against its model: everything that a user can see of it is as the model says.

use std::collections::BTreeMap;
use std::fmt;

use farrier_core::drive::{self, Host};
use farrier_core::engine::Operation;
use farrier_core::error::Error;
use farrier_core::fs::{
    Attributes, Extent, GetAttributes, ListPfs, OpenPfs, Pfs, Read, ReadDir, ReadLink, Seek,
    SeekTarget,
};
use farrier_core::media::inode::ObjectKind;
use farrier_core::scan::{CheckOptions, Finding, FindingKind};
use farrier_core::storage::Storage;
use farrier_core::units::Inum;

use crate::checking::check;
use crate::host::TestHost;
use crate::model::{Inode, Model};

/// Longest read at once.
const READ_LEN: u64 = 1 << 20;

/// What of `pfs` is not as `model` says; inodes without a name are looked at only in memory that
/// has them.
///
/// # Errors
/// The first difference.
pub fn compare<H: Host>(
    host: &H,
    pfs: Pfs,
    model: &Model,
    with_unlinked: bool,
) -> Result<(), String> {
    for (inum, inode) in model.inodes() {
        if !inode.is_unlinked || with_unlinked {
            compare_inode(host, pfs, inum, inode)
                .map_err(|what| format!("inode {inum}: {what}"))?;
        }
    }
    Ok(())
}

/// What lies on `storage` is clean, and its PFS `label` is as `model` says.
///
/// # Errors
/// The first difference.
pub fn compare_media<S: Storage + Clone>(
    storage: &S,
    label: &str,
    model: &Model,
    allowed: fn(&FindingKind) -> bool,
) -> Result<(), String> {
    let host =
        TestHost::over(storage.clone(), false, 8 << 20).map_err(|error| error.to_string())?;
    compare_pfs(&host, label.as_bytes(), model)?;
    let findings = dirt(&host, allowed);
    if findings.is_empty() { Ok(()) } else { Err(format!("a check finds {findings:#?}")) }
}

/// What lies on `storage` is clean, and its PFSs are those of `trees`, and as they say; LOCAL may be
/// there beside them.
///
/// # Errors
/// The first difference.
pub fn compare_trees<S: Storage + Clone>(
    storage: &S,
    trees: &BTreeMap<Vec<u8>, Model>,
    allowed: fn(&FindingKind) -> bool,
) -> Result<(), String> {
    let host =
        TestHost::over(storage.clone(), false, 8 << 20).map_err(|error| error.to_string())?;
    compare_all(&host, trees)?;
    let findings = dirt(&host, allowed);
    if findings.is_empty() { Ok(()) } else { Err(format!("a check finds {findings:#?}")) }
}

/// The PFSs of `host` are those of `trees`, and as they say; LOCAL may be there beside them.
///
/// # Errors
/// The first difference.
pub fn compare_all<S: Storage>(
    host: &TestHost<S>,
    trees: &BTreeMap<Vec<u8>, Model>,
) -> Result<(), String> {
    let list = run(host, &ListPfs { super_root: host.volume().super_root() })?;
    let extra = |label: &&Vec<u8>| !trees.contains_key(*label) && label[..] != b"LOCAL"[..];
    if let Some(label) = list.entries.iter().map(|info| &info.label).find(extra) {
        return Err(format!("PFS {} should not be there", label.escape_ascii()));
    }
    for (label, model) in trees {
        compare_pfs(host, label, model)
            .map_err(|what| format!("{}: {what}", label.escape_ascii()))?;
    }
    Ok(())
}

/// PFS `label` of `host` is as `model` says, but for what has no name.
///
/// # Errors
/// The first difference.
pub fn compare_pfs<S: Storage>(
    host: &TestHost<S>,
    label: &[u8],
    model: &Model,
) -> Result<(), String> {
    let settled = model.settled();
    let super_root = host.volume().super_root();
    let pfs = run(host, &OpenPfs { super_root, label: label.into() })?;
    compare(host, pfs, &settled, false)?;
    let list = run(host, &ListPfs { super_root })?;
    let info = list.entries.iter().find(|info| info.label == label);
    let info = info.ok_or("the PFS is not listed")?;
    // the root counts itself
    let counted = info.inode_count;
    let expected = settled.len() as u64;
    if counted != expected && counted + 1 != expected {
        return Err(format!("{counted} inodes are counted, not {expected}"));
    }
    Ok(())
}

/// What a check of `host` finds, but for space that waits to be used again and what is allowed.
pub fn dirt<S: Storage>(host: &TestHost<S>, allowed: fn(&FindingKind) -> bool) -> Vec<Finding> {
    let (mut findings, _) = check(host, CheckOptions::default());
    findings.retain(|finding| {
        !matches!(finding.kind, FindingKind::Unreferenced { .. }) && !allowed(&finding.kind)
    });
    findings
}

fn run<H: Host, O: Operation>(host: &H, operation: &O) -> Result<O::Output, String>
where
    O::Output: fmt::Debug,
{
    drive::ready(drive::run(host, operation)).map_err(|error| format!("{error} ({error:?})"))
}

fn compare_inode<H: Host>(host: &H, pfs: Pfs, inum: u64, inode: &Inode) -> Result<(), String> {
    let have = run(host, &GetAttributes { pfs, inum: Inum(inum) })?;
    compare_attributes(&have, &inode.attributes())?;
    match inode.kind() {
        ObjectKind::Directory => compare_names(host, pfs, inum, inode),
        ObjectKind::Regular => compare_contents(host, pfs, inum, inode),
        ObjectKind::Symlink => {
            let have = run(host, &ReadLink { pfs, inum: Inum(inum) })?;
            let len = usize::try_from(inode.contents.size).expect("a target is short");
            let want = inode.contents.read(0, len);
            if have == want { Ok(()) } else { Err("another target".into()) }
        }
        _ => Ok(()),
    }
}

/// What is allocated depends on more than a model knows.
fn compare_attributes(have: &Attributes, want: &Attributes) -> Result<(), String> {
    let have = Attributes { allocated_bytes: 0, ..*have };
    let want = Attributes { allocated_bytes: 0, ..*want };
    if have == want { Ok(()) } else { Err(format!("{have:#?}\nin place of {want:#?}")) }
}

fn compare_names<H: Host>(host: &H, pfs: Pfs, inum: u64, inode: &Inode) -> Result<(), String> {
    let mut have = BTreeMap::new();
    let mut position = Some(0);
    // another page length for each directory
    let limit = 3 + usize::try_from(inum % 97).unwrap_or(0);
    while let Some(from) = position {
        let directory = Inum(inum);
        let list = ReadDir { pfs, directory, position: from, limit, with_attributes: false };
        let page = run(host, &list)?;
        if let Some(error) = page.broken.first() {
            return Err(format!("a broken name: {error}"));
        }
        for entry in page.entries {
            if have.insert(entry.name.clone(), (entry.inum.0, entry.kind)).is_some() {
                return Err(format!("{} is listed twice", entry.name.escape_ascii()));
            }
        }
        position = page.next;
    }
    let dots = [(b".".to_vec(), inum), (b"..".to_vec(), inode.attributes.parent.0)];
    for (name, want) in dots {
        if have.remove(&name).map(|(inum, _)| inum) != Some(want) {
            return Err(format!("{} is not {want}", name.escape_ascii()));
        }
    }
    let names: BTreeMap<_, _> =
        have.iter().map(|(name, (inum, _))| (name.clone(), *inum)).collect();
    for (name, want) in &inode.names {
        if names.get(name) != Some(want) {
            return Err(format!("{} is {:?}, not {want}", name.escape_ascii(), names.get(name)));
        }
    }
    match names.keys().find(|name| !inode.names.contains_key(*name)) {
        Some(name) => Err(format!("{} should not be there", name.escape_ascii())),
        None => Ok(()),
    }
}

fn compare_contents<H: Host>(host: &H, pfs: Pfs, inum: u64, inode: &Inode) -> Result<(), String> {
    let (inum, contents) = (Inum(inum), &inode.contents);
    // where the media has something
    let mut offset = 0;
    while offset < contents.size {
        let data = match drive::ready(drive::run(
            host,
            &Seek { pfs, inum, offset, target: SeekTarget::Data },
        )) {
            Err(Error::NoData) => break,
            data => data.map_err(|error| error.to_string())?,
        };
        if let Some(missed) = contents.next_data(offset).filter(|missed| *missed < data) {
            // a page may hold zeros only
            let len = usize::try_from((data - missed).min(READ_LEN)).unwrap_or(0);
            if contents.read(missed, len).iter().any(|byte| *byte != 0) {
                return Err(format!("a hole at {missed}, where something is"));
            }
        }
        let hole = run(host, &Seek { pfs, inum, offset: data, target: SeekTarget::Hole })?;
        if hole <= data || hole > contents.size {
            return Err(format!("a hole behind {data} at {hole}"));
        }
        let mut at = data;
        while at < hole {
            compare_range(host, pfs, inum, inode, at, READ_LEN.min(hole - at))?;
            at += READ_LEN.min(hole - at);
        }
        offset = hole;
    }
    // where the model has something, and at the end
    let mut at = 0;
    while let Some(data) = contents.next_data(at) {
        let len = (256 << 10).min(contents.size - data);
        compare_range(host, pfs, inum, inode, data, len)?;
        at = data + len;
    }
    let tail = contents.size.saturating_sub(70_000);
    compare_range(host, pfs, inum, inode, tail, contents.size - tail)?;
    let behind = Read { pfs, inum, offset: contents.size, len: 100, ahead: 0 };
    let is_empty = run(host, &behind)?.iter().all(Extent::is_empty);
    if is_empty { Ok(()) } else { Err("something behind the end".into()) }
}

fn compare_range<H: Host>(
    host: &H,
    pfs: Pfs,
    inum: Inum,
    inode: &Inode,
    offset: u64,
    len: u64,
) -> Result<(), String> {
    let len = usize::try_from(len).expect("a short range");
    let have = read(host, pfs, inum, offset, len)?;
    let want = inode.contents.read(offset, len);
    if have == want {
        return Ok(());
    }
    let at = have.iter().zip(&want).position(|(have, want)| have != want);
    Err(format!(
        "{len} bytes at {offset} of {}: {} were read, the first that differs is {at:?}",
        inode.contents.size,
        have.len()
    ))
}

/// Bytes of a file.
///
/// # Errors
/// Why they cannot be read.
pub fn read<H: Host>(
    host: &H,
    pfs: Pfs,
    inum: Inum,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(len);
    for extent in run(host, &Read { pfs, inum, offset, len, ahead: 0 })? {
        match extent {
            Extent::Zeros(len) => bytes.resize(bytes.len() + len, 0),
            Extent::Bytes(block, range) => bytes.extend_from_slice(&block[range]),
        }
    }
    Ok(bytes)
}
