//! What changing operations share: the way to a writable tree, new inodes, and names in plans.

use zerocopy::FromZeros;

use super::names::{self, Entry, Probe};
use super::node::{Node, tree_of};
use super::pfs::Pfs;
use crate::dirty::{DirtyName, Edit, Plan, Standing, Tree};
use crate::engine::{Stop, View};
use crate::error::Error;
use crate::media::dirent::{NAME_LEN_MAX, is_legal_name};
use crate::media::inode::ObjectKind;
use crate::media::raw::RawInode;
use crate::units::{Inum, WallTime};

/// Most names of one inode: what `stat` can tell.
pub(super) const NAMES_MAX: u64 = u32::MAX as u64;

/// The tree of `pfs`, to be changed.
///
/// # Errors
/// [`Error::ReadOnly`], or what made the volume so.
pub(super) fn writable<'a>(view: &View<'a>, pfs: &Pfs) -> Result<&'a Tree, Error> {
    if let Some(error) = view.memory().and_then(|memory| memory.failed()) {
        return Err(error);
    }
    tree_of(view, pfs).ok_or(Error::ReadOnly)
}

/// A directory that can take names.
///
/// # Errors
/// [`Stop::Need`]; it is none, or it was removed.
pub(super) fn living_directory(view: &mut View<'_>, pfs: &Pfs, inum: Inum) -> Result<Node, Stop> {
    Ok(alive(Node::find_directory(view, pfs, inum)?)?)
}

/// `directory`, unless it was removed.
///
/// # Errors
/// [`Error::NoEntry`].
pub(super) fn alive(directory: Node) -> Result<Node, Error> {
    match directory.standing() {
        Standing::Unlinked => Err(Error::NoEntry),
        Standing::New | Standing::Named => Ok(directory),
    }
}

/// Whether a new entry can have this name.
///
/// # Errors
/// Why not.
pub(super) fn check_name(name: &[u8]) -> Result<(), Error> {
    match name {
        b"." | b".." => Err(Error::Exists),
        name if name.len() > NAME_LEN_MAX => Err(Error::NameTooLong),
        name if is_legal_name(name) => Ok(()),
        _ => Err(Error::InvalidArgument),
    }
}

/// The entry called `name`, which has to be there.
///
/// # Errors
/// [`Stop::Need`]; [`Error::NoEntry`]; or why it cannot be told.
pub(super) fn existing(
    view: &mut View<'_>,
    pfs: &Pfs,
    directory: &Node,
    name: &[u8],
) -> Result<Entry, Stop> {
    match name {
        b"." | b".." => return Err(Error::InvalidArgument.into()),
        name if name.len() > NAME_LEN_MAX => return Err(Error::NameTooLong.into()),
        _ => {}
    }
    Ok(names::find(view, pfs, directory, name)?.ok_or(Error::NoEntry)?)
}

/// A key for a new entry called `name`, which must not be there.
///
/// # Errors
/// [`Stop::Need`]; [`Error::Exists`]; or why there is none.
pub(super) fn new_key(
    view: &mut View<'_>,
    pfs: &Pfs,
    directory: &Node,
    name: &[u8],
) -> Result<u64, Stop> {
    check_name(name)?;
    match names::probe(view, pfs, directory, name)? {
        Probe::Found(_) => Err(Error::Exists.into()),
        Probe::Full => Err(Error::NoSpace.into()),
        Probe::Free(key) => Ok(key),
    }
}

/// An edit that gives `directory` an entry.
#[must_use]
pub(super) fn put_name(
    directory: Inum,
    key: u64,
    name: &[u8],
    target: Inum,
    kind: ObjectKind,
) -> Edit {
    Edit::Name { directory, key, name: Some(DirtyName { name: name.into(), target, kind }) }
}

/// Adds to `plan` that the names of `directory` changed.
pub(super) fn touch(plan: &mut Plan, directory: &Node, now: WallTime) {
    let mut inode = directory.raw();
    inode.mtime.set(now.0);
    inode.ctime.set(now.0);
    plan.set_inode(inode, directory.standing());
}

/// Adds to `plan` that `node` lost a name. `keep` says whether somebody may still use it without
/// one.
pub(super) fn drop_name(plan: &mut Plan, node: &Node, now: WallTime, keep: bool) {
    let mut inode = node.raw();
    let left = match node.kind() {
        // directories do not count theirs
        ObjectKind::Directory => 0,
        _ => inode.nlinks.get().saturating_sub(1),
    };
    if left > 0 {
        inode.nlinks.set(left);
        inode.ctime.set(now.0);
        plan.set_inode(inode, node.standing());
    } else if keep {
        inode.nlinks.set(0);
        inode.ctime.set(now.0);
        plan.set_inode(inode, Standing::Unlinked);
    } else {
        plan.edits.push(Edit::Remove { inum: node.inum() });
    }
}

/// A new inode of `kind` in `parent`, without contents (media format 5).
#[must_use]
pub(super) fn new_inode(inum: Inum, kind: ObjectKind, parent: &Node, now: WallTime) -> RawInode {
    let mut inode = RawInode::new_zeroed();
    let above = parent.inode();
    inode.version.set(1);
    for time in [&mut inode.ctime, &mut inode.mtime, &mut inode.atime, &mut inode.btime] {
        time.set(now.0);
    }
    inode.kind = kind.code();
    inode.inum.set(inum.0);
    inode.nlinks.set(1);
    inode.iparent.set(parent.inum().0);
    inode.name_key.set(inum.0);
    inode.comp_algo = above.compression_request();
    inode.check_algo = above.raw().check_algo;
    if matches!(kind, ObjectKind::Regular | ObjectKind::Symlink) {
        inode.op_flags = crate::media::inode::OP_DIRECT_DATA;
    }
    let name = alloc::format!("0x{:016x}", inum.0);
    inode.name_len.set(18);
    inode.filename[..18].copy_from_slice(name.as_bytes());
    inode
}
