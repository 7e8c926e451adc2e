//! `.snapshots` in the root of a mount: a directory that is on no media, with a directory in it for
//! each snapshot of the volume (docs/decisions/0013-snapshots-in-the-mount.md).
//!
//! The kernel knows an inode of a snapshot by the inode's number below the snapshot's, with the top
//! bit set, which no number of an inode has. Numbers of nodes and of inodes are the same in the tree
//! that is mounted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use farrier_core::engine::Operation;
use farrier_core::error::Error;
use farrier_core::fs::{Attributes, DirEntry, GetAttributes, Lookup, Pfs};
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::Inum;
use fuser::{Errno, FileAttr, FileType, Generation, INodeNo};

use super::attributes::{bare_attr, file_attr, system_time};
use super::filesystem::{FOREVER, GENERATION};
use super::serving::TreeFilesystem;
use crate::snapshots::{Snapshot, Snapshots};
use crate::tree::Tree;

/// What the directory is called.
pub(crate) const NAME: &str = ".snapshots";
/// How long the kernel may believe what it was told of the directory and of names in it. It is told
/// what changes; but an answer that was on its way then may come later.
const SOON: Duration = Duration::from_secs(1);
/// In the number of every node outside of the mounted tree.
const OUTSIDE: u64 = 1 << 63;
/// Bits of a node's number that are its inode's, outside of the mounted tree.
const INUM_BITS: u32 = 48;
/// The directory itself.
pub(super) const DIRECTORY: INodeNo = INodeNo(OUTSIDE);

/// What stands above an inode's number in its node's: which tree it lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Realm(u64);

impl Realm {
    /// The tree that is mounted.
    pub(super) const MOUNTED: Self = Self(0);

    const fn of_snapshot(number: u16) -> Self {
        Self(OUTSIDE | (number as u64) << INUM_BITS)
    }

    const fn of_node(ino: INodeNo) -> Self {
        let is_outside = ino.0 & OUTSIDE != 0;
        if is_outside { Self(ino.0 >> INUM_BITS << INUM_BITS) } else { Self::MOUNTED }
    }

    /// The snapshot's number, outside of the mounted tree.
    const fn number(self) -> u16 {
        ((self.0 & !OUTSIDE) >> INUM_BITS) as u16
    }

    /// The node of an inode in it.
    pub(super) fn node(self, inum: Inum) -> Result<INodeNo, Errno> {
        let is_too_large = self != Self::MOUNTED && inum.0 >> INUM_BITS != 0;
        if is_too_large { Err(Errno::EOVERFLOW) } else { Ok(INodeNo(self.0 | inum.0)) }
    }
}

const fn inum_of(ino: INodeNo) -> Inum {
    Inum(ino.0 & ((1 << INUM_BITS) - 1))
}

/// The snapshots to show in a mount of `tree`; `None` where something of their directory's name is
/// there already, which is told.
pub(super) fn open(tree: &Tree, tell: &dyn Fn(&str)) -> Option<Snapshots> {
    match tree.lookup(Inum::ROOT, NAME.as_bytes()) {
        Err(Error::NoEntry) => {}
        Ok(_) => {
            tell(&format!(
                "option snapshots: the volume has a {NAME} of its own, which is what is seen; \
                 rename it and mount again to see the snapshots"
            ));
            return None;
        }
        Err(error) => {
            let text = tree.image().blocks().explain(&error);
            tell(&format!("option snapshots: they are not seen: {text}"));
            return None;
        }
    }
    let snapshots = Snapshots::new(tree);
    // what cannot be listed now is met again by who lists it
    for label in snapshots.nameless().unwrap_or_default() {
        tell(&format!(
            "option snapshots: {} can be no name and is not seen; mount it by its label",
            label.escape_ascii()
        ));
    }
    Some(snapshots)
}

/// Something in a snapshot, or their directory, as the kernel is answered.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) ttl: Duration,
    pub(super) attr: FileAttr,
    pub(super) generation: Generation,
}

impl TreeFilesystem {
    /// Where a node lies. It costs nothing where snapshots are not shown.
    pub(super) fn realm(&self, ino: INodeNo) -> Realm {
        if self.snapshots.is_some() { Realm::of_node(ino) } else { Realm::MOUNTED }
    }

    /// Runs an operation on the tree that `ino` lies in.
    pub(super) fn run<O: Operation>(
        &self,
        ino: INodeNo,
        operation: impl Fn(Pfs, Inum) -> O,
    ) -> Result<O::Output, Error>
    where
        O::Output: core::fmt::Debug,
    {
        match &self.snapshots {
            Some(snapshots) if ino.0 & OUTSIDE != 0 => {
                let number = Realm::of_node(ino).number();
                let run = || snapshots.run(number, |pfs| operation(pfs, inum_of(ino)));
                self.tree.image().blocks().outlast(run)
            }
            _ => self.tree.run(&operation(self.tree.pfs(), Inum(ino.0))),
        }
    }

    /// Whether a node can be changed.
    pub(super) fn check_change(&self, ino: INodeNo) -> Result<(), Error> {
        if self.realm(ino) == Realm::MOUNTED { Ok(()) } else { Err(Error::ReadOnly) }
    }

    /// Whether a name can come and go.
    pub(super) fn check_name(&self, directory: INodeNo, name: &OsStr) -> Result<(), Error> {
        self.check_change(directory)?;
        if self.is_directory_of_snapshots(directory, name) { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Whether `name` is the directory of snapshots, if it is nothing else.
    pub(super) fn is_directory_of_snapshots(&self, parent: INodeNo, name: &OsStr) -> bool {
        parent == INodeNo::ROOT && self.snapshots.is_some() && name == NAME
    }

    /// What a directory outside of the mounted tree calls `name`; the root has one such name.
    pub(super) fn find_outside(&self, parent: INodeNo, name: &OsStr) -> Result<Found, Errno> {
        let name = name.as_bytes();
        match (parent, inum_of(parent)) {
            (INodeNo::ROOT, _) => self.directory_of_snapshots(),
            (DIRECTORY, _) if name == b"." => self.directory_of_snapshots(),
            (DIRECTORY, _) => self.find_snapshot(name),
            (_, Inum::ROOT) if name == b".." => self.directory_of_snapshots(),
            (_, inum) if name == b"." => self.attributes_outside(self.realm(parent).node(inum)?),
            _ => {
                let found = self.run(parent, |pfs, directory| {
                    let name = name.to_vec();
                    Lookup { pfs, directory, name }
                });
                self.outside(self.realm(parent), found)
            }
        }
    }

    fn find_snapshot(&self, name: &[u8]) -> Result<Found, Errno> {
        let Some(snapshots) = &self.snapshots else {
            return Err(Errno::ENOENT);
        };
        let number = snapshots.find(name).map_err(|error| self.refusal(&error))?;
        let realm = Realm::of_snapshot(number);
        let found = self.attributes_outside(realm.node(Inum::ROOT)?)?;
        Ok(Found { ttl: SOON, ..found })
    }

    /// Attributes of a node outside of the mounted tree.
    pub(super) fn attributes_outside(&self, ino: INodeNo) -> Result<Found, Errno> {
        if ino == DIRECTORY {
            return self.directory_of_snapshots();
        }
        let found = self.run(ino, |pfs, inum| GetAttributes { pfs, inum });
        self.outside(self.realm(ino), found)
    }

    fn outside(&self, realm: Realm, found: Result<Attributes, Error>) -> Result<Found, Errno> {
        let attributes = found.map_err(|error| self.refusal(&error))?;
        let mut attr = file_attr(&attributes, self.owner);
        attr.ino = realm.node(attributes.inum)?;
        Ok(Found { ttl: FOREVER, attr, generation: self.generation(realm) })
    }

    /// As long as a mount is there numbers are not used again; afterwards another snapshot may have
    /// one, and whoever remembers it from before must not be given that.
    pub(super) fn generation(&self, realm: Realm) -> Generation {
        match &self.snapshots {
            Some(snapshots) if realm != Realm::MOUNTED => {
                Generation(u64::from(snapshots.mark(realm.number())))
            }
            _ => GENERATION,
        }
    }

    fn directory_of_snapshots(&self) -> Result<Found, Errno> {
        let snapshots = self.snapshots.as_ref().ok_or(Errno::ENOENT)?;
        let told = |error| self.refusal(&error);
        let root = self.tree.attributes(Inum::ROOT).map_err(told)?;
        let changed = system_time(snapshots.changed().map_err(told)?);
        let attr = FileAttr {
            perm: 0o555,
            atime: changed,
            mtime: changed,
            ctime: changed,
            uid: self.owner.uid.unwrap_or(root.uid),
            gid: self.owner.gid.unwrap_or(root.gid),
            ..bare_attr(DIRECTORY.0, ObjectKind::Directory)
        };
        Ok(Found { ttl: SOON, attr, generation: GENERATION })
    }

    /// What a list of the names in `directory` says where `entry` leads. A number that cannot be is
    /// left as it is: who asks for more is told.
    pub(super) fn listed(&self, directory: INodeNo, entry: &DirEntry) -> INodeNo {
        let realm = self.realm(directory);
        let is_root = realm != Realm::MOUNTED && inum_of(directory) == Inum::ROOT;
        if is_root && entry.name == b".." {
            return DIRECTORY;
        }
        realm.node(entry.inum).unwrap_or(INodeNo(entry.inum.0))
    }

    /// Hands the names in the directory of snapshots behind `position` to `add`, until that says
    /// stop.
    pub(super) fn list_snapshots(
        &self,
        position: u64,
        mut add: impl FnMut(INodeNo, u64, &OsStr) -> bool,
    ) -> Result<(), Errno> {
        let snapshots = self.snapshots.as_ref().ok_or(Errno::ENOENT)?;
        let (all, broken) = snapshots.list().map_err(|error| self.refusal(&error))?;
        // a position is the number of a snapshot, behind those of the dots
        let dots = [(1, DIRECTORY, OsStr::new(".")), (2, INodeNo::ROOT, OsStr::new(".."))];
        let names = all.iter().map(|Snapshot { number, label }| {
            let root = INodeNo(Realm::of_snapshot(*number).0 | Inum::ROOT.0);
            (u64::from(*number) + 2, root, OsStr::from_bytes(label))
        });
        let mut has_added = false;
        for (next, node, name) in dots.into_iter().chain(names) {
            if next > position {
                if add(node, next, name) {
                    return Ok(());
                }
                has_added = true;
            }
        }
        match broken.first() {
            Some(error) if !has_added => Err(self.refusal(error)),
            _ => Ok(()),
        }
    }
}

/// What lists of names say of everything in the directory of snapshots.
pub(super) const KIND: FileType = FileType::Directory;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_which_tree_it_is_of() {
        let mounted = INodeNo(1 << 62 | 5);
        assert_eq!(Realm::of_node(mounted), Realm::MOUNTED);
        assert_eq!(Realm::MOUNTED.node(Inum(1 << 62 | 5)), Ok(mounted));
        let realm = Realm::of_snapshot(32767);
        let node = realm.node(Inum(0xffff_ffff_ffff)).unwrap();
        assert_eq!(node, INodeNo(u64::MAX));
        assert_eq!((Realm::of_node(node).number(), inum_of(node).0), (32767, 0xffff_ffff_ffff));
        assert!(realm.node(Inum(1 << 48)).is_err(), "it would be another snapshot's");
        assert_eq!((Realm::of_node(DIRECTORY).number(), inum_of(DIRECTORY).0), (0, 0));
    }
}
