//! Names against inodes of one PFS: link counts, kinds, and whether directories hang together.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::finding::{FindingKind, Unchecked};
use crate::media::dirhash::NAME_BIT;
use crate::media::inode::ObjectKind;
use crate::units::Inum;

/// What is known of one inode number.
#[derive(Clone, Copy, Default)]
struct Entry {
    names: u32,
    nlinks: u32,
    /// Kind by the inode, and by the names; 0 while unknown.
    kind: u8,
    named_kind: u8,
    flags: u8,
}

const EXISTS: u8 = 1;
/// Its block could not be read: what it says is unknown, but it is not missing.
const UNREADABLE: u8 = 2;
const KINDS_DIFFER: u8 = 4;

/// A directory: the inode's word on its parent, and where it was found.
#[derive(Clone, Copy, Default)]
struct Directory {
    stored_parent: Option<u64>,
    found_in: Option<u64>,
}

/// Inode numbers `start .. start + len` of a PFS.
///
/// A window keeps memory bounded: the machine goes through a PFS with more numbers in several
/// passes. A pass goes on where a number was met, so gaps cost nothing, however wide.
pub(super) struct Names {
    start: u64,
    entries: Vec<Entry>,
    /// The lowest number behind the window that was met: where the next one starts.
    next: Option<u64>,
    directories: BTreeMap<u64, Directory>,
    directories_max: usize,
    is_incomplete: bool,
}

impl core::fmt::Debug for Names {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Names({} from {})", self.entries.len(), self.start)
    }
}

impl Names {
    /// A window over `len` numbers from `start`.
    pub(super) fn new(start: u64, len: usize, directories_max: usize) -> Self {
        Self {
            start,
            entries: vec![Entry::default(); len],
            next: None,
            directories: BTreeMap::new(),
            directories_max,
            is_incomplete: false,
        }
    }

    fn entry(&mut self, inum: u64) -> Option<&mut Entry> {
        // No inode has such a number; whoever names one is told at once.
        if inum & NAME_BIT != 0 {
            return None;
        }
        let end = self.start.saturating_add(self.entries.len() as u64);
        if inum >= end {
            self.next = Some(self.next.map_or(inum, |next| next.min(inum)));
            return None;
        }
        let index = usize::try_from(inum.checked_sub(self.start)?).ok()?;
        self.entries.get_mut(index)
    }

    /// An inode was found.
    pub(super) fn inode(&mut self, inum: u64, kind: ObjectKind, nlinks: u64, parent: Inum) {
        let Some(entry) = self.entry(inum) else {
            return;
        };
        entry.flags |= EXISTS;
        entry.kind = code(kind);
        entry.nlinks = u32::try_from(nlinks).unwrap_or(u32::MAX);
        if kind == ObjectKind::Directory
            && let Some(directory) = self.directory(inum)
        {
            directory.stored_parent = Some(parent.0);
        }
    }

    /// An inode is there but cannot be read.
    pub(super) fn unreadable(&mut self, inum: u64) {
        if let Some(entry) = self.entry(inum) {
            entry.flags |= EXISTS | UNREADABLE;
        }
    }

    /// Directory `from` names `inum`, as being of `kind`.
    pub(super) fn name(&mut self, from: u64, inum: u64, kind: ObjectKind) {
        let Some(entry) = self.entry(inum) else {
            return;
        };
        entry.names = entry.names.saturating_add(1);
        if entry.named_kind != 0 && entry.named_kind != code(kind) {
            entry.flags |= KINDS_DIFFER;
        }
        entry.named_kind = code(kind);
        if kind == ObjectKind::Directory
            && let Some(directory) = self.directory(inum)
        {
            directory.found_in = Some(from);
        }
    }

    fn directory(&mut self, inum: u64) -> Option<&mut Directory> {
        if self.directories.len() >= self.directories_max && !self.directories.contains_key(&inum) {
            self.is_incomplete = true;
            return None;
        }
        Some(self.directories.entry(inum).or_default())
    }

    /// Where the next window has to start, if numbers behind this one were met.
    pub(super) const fn next(&self) -> Option<u64> {
        self.next
    }

    /// What does not fit together. `is_whole` tells whether every name of the PFS was seen: if
    /// not, a missing name is no news.
    pub(super) fn findings(&self, is_whole: bool, mut report: impl FnMut(Inum, FindingKind)) {
        for (inum, entry) in (self.start..).zip(&self.entries) {
            let exists = entry.flags & EXISTS != 0;
            let readable = exists && entry.flags & UNREADABLE == 0;
            let mut report = |kind| report(Inum(inum), kind);
            let is_directory = entry.kind == code(ObjectKind::Directory);
            if !exists {
                if entry.names > 0 && is_whole {
                    report(FindingKind::Dangling);
                }
                continue;
            }
            if inum == Inum::ROOT.0 {
                continue;
            }
            if entry.names == 0 {
                // An unreadable inode without name may have lost it in the same damage.
                if is_whole && readable {
                    report(if entry.nlinks == 0 {
                        FindingKind::Unlinked
                    } else {
                        FindingKind::Orphan
                    });
                }
                continue;
            }
            if !readable {
                continue;
            }
            if entry.flags & KINDS_DIFFER != 0 || entry.kind != entry.named_kind {
                report(FindingKind::WrongKind);
            }
            if is_directory {
                if entry.names > 1 {
                    report(FindingKind::DirectoryLoop);
                }
            } else if entry.nlinks != entry.names && is_whole {
                let stored = u64::from(entry.nlinks);
                report(FindingKind::Links { stored, counted: entry.names });
            }
        }
        self.directory_findings(report);
    }

    fn directory_findings(&self, mut report: impl FnMut(Inum, FindingKind)) {
        // Of the directories that lead to the root, and of those that do not, each once.
        let mut rooted: BTreeMap<u64, bool> = BTreeMap::from([(Inum::ROOT.0, true)]);
        for (&inum, directory) in &self.directories {
            if let (Some(stored), Some(found)) = (directory.stored_parent, directory.found_in)
                && stored != found
            {
                let (stored, found) = (Inum(stored), Inum(found));
                report(Inum(inum), FindingKind::Parent { stored, found });
            }
            let mut path = Vec::new();
            let mut at = inum;
            let outcome = loop {
                if let Some(&known) = rooted.get(&at) {
                    break known;
                }
                path.push(at);
                // until the path is told, who is on it counts as not rooted: a loop ends here
                rooted.insert(at, false);
                match self.directories.get(&at).and_then(|directory| directory.found_in) {
                    Some(parent) => at = parent,
                    // outside of this window, or without name, which is told elsewhere
                    None => break true,
                }
            };
            if outcome {
                for inum in path {
                    rooted.insert(inum, true);
                }
            } else if path.first() == Some(&inum) && path.contains(&at) {
                report(Inum(inum), FindingKind::DirectoryLoop);
            }
        }
        if self.is_incomplete {
            report(Inum::ROOT, FindingKind::NotChecked(Unchecked::DirectoryTree));
        }
    }
}

/// A code that is never 0.
const fn code(kind: ObjectKind) -> u8 {
    match kind {
        ObjectKind::Directory => 1,
        ObjectKind::Regular => 2,
        ObjectKind::Fifo => 4,
        ObjectKind::CharDevice => 5,
        ObjectKind::BlockDevice => 6,
        ObjectKind::Symlink => 7,
        ObjectKind::Socket => 9,
        ObjectKind::Whiteout => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &Names) -> Vec<(u64, FindingKind)> {
        let mut findings = Vec::new();
        names.findings(true, |inum, kind| findings.push((inum.0, kind)));
        findings
    }

    fn tree() -> Names {
        let mut names = Names::new(0, 2048, 100);
        names.inode(1024, ObjectKind::Directory, 1, Inum::ROOT);
        names.name(1, 1024, ObjectKind::Directory);
        names.inode(1025, ObjectKind::Regular, 2, Inum(1024));
        names.name(1024, 1025, ObjectKind::Regular);
        names.name(1, 1025, ObjectKind::Regular);
        names
    }

    #[test]
    fn a_tree_that_fits_together() {
        assert_eq!(found(&tree()), []);
    }

    #[test]
    fn every_finding() {
        let mut names = tree();
        names.name(1024, 1025, ObjectKind::Fifo);
        names.name(1024, 1500, ObjectKind::Regular);
        names.name(1024, 0x34_5678, ObjectKind::Regular);
        names.name(1024, 0x12_3456, ObjectKind::Regular);
        names.name(1024, u64::MAX, ObjectKind::Regular);
        assert_eq!(names.next(), Some(0x12_3456), "another window looks at these");
        names.inode(1030, ObjectKind::Regular, 1, Inum::ROOT);
        names.inode(1031, ObjectKind::Regular, 0, Inum::ROOT);
        let links = FindingKind::Links { stored: 2, counted: 3 };
        assert_eq!(
            found(&names),
            [
                (1025, FindingKind::WrongKind),
                (1025, links),
                (1030, FindingKind::Orphan),
                (1031, FindingKind::Unlinked),
                (1500, FindingKind::Dangling),
            ]
        );
    }

    #[test]
    fn directories_that_only_contain_each_other() {
        let mut names = tree();
        for (inum, parent) in [(1040, 1041), (1041, 1040)] {
            names.inode(inum, ObjectKind::Directory, 1, Inum(parent));
            names.name(parent, inum, ObjectKind::Directory);
        }
        assert_eq!(found(&names), [(1040, FindingKind::DirectoryLoop)]);
    }

    #[test]
    fn a_directory_within_itself_has_two_names() {
        let mut names = tree();
        names.name(1024, 1024, ObjectKind::Directory);
        let kinds: Vec<_> = found(&names).into_iter().map(|(_, kind)| kind.code()).collect();
        assert!(kinds.contains(&"dir-loop"), "{kinds:?}");
    }
}
