//! A tree, entry by entry. Returns for every media.
//!
//! HAMMER2 has one name for a directory. A tree where two names lead to one directory is damaged,
//! and the second is reported and not entered: so a walk ends even where a directory holds itself.

use std::collections::BTreeSet;
use std::vec;

use farrier_core::fs::{DirEntry, Pfs, ReadDir};
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::Inum;

use crate::failure::Failure;
use crate::session::{Session, join};

/// Deepest tree that is walked. BSD's own paths end at 1024 bytes.
const DEPTH_MAX: usize = 2048;
/// Entries that are asked for at once.
const PAGE: usize = 1024;

/// Goes through everything below a directory, names in the order of their bytes, a directory
/// before what is in it.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    session: &'a Session,
    pfs: Pfs,
    levels: Vec<Level>,
    entered: BTreeSet<Inum>,
    with_attributes: bool,
    recursive: bool,
    /// The directory to enter before the next entry.
    descend: Option<(Vec<u8>, Inum)>,
    faults: vec::IntoIter<Failure>,
}

#[derive(Debug)]
struct Level {
    path: Vec<u8>,
    entries: vec::IntoIter<DirEntry>,
}

/// One step of a walk.
#[derive(Debug)]
pub(crate) enum Step {
    /// A name.
    Entry {
        /// Its path from the root of the PFS.
        path: Vec<u8>,
        /// What it is.
        entry: DirEntry,
        /// 0 right below the directory where the walk began.
        depth: usize,
        /// Whether it is the last of its directory.
        is_last: bool,
    },
    /// Something that could not be told.
    Fault(Failure),
    /// All of a directory was given.
    Leave,
}

impl<'a> Walk<'a> {
    /// A walk of what is in the directory `inum`, which has the path `path`.
    pub(crate) fn new(session: &'a Session, pfs: &Pfs, path: Vec<u8>, inum: Inum) -> Self {
        Self {
            session,
            pfs: *pfs,
            levels: Vec::new(),
            entered: BTreeSet::new(),
            with_attributes: false,
            recursive: false,
            descend: Some((path, inum)),
            faults: Vec::new().into_iter(),
        }
    }

    /// Whether the entries shall have attributes.
    pub(crate) const fn with_attributes(mut self, with_attributes: bool) -> Self {
        self.with_attributes = with_attributes;
        self
    }

    /// Whether directories are entered.
    pub(crate) const fn recursive(mut self, recursive: bool) -> Self {
        self.recursive = recursive;
        self
    }

    /// Does not enter the directory that was given last.
    pub(crate) fn stay_out(&mut self) {
        self.descend = None;
    }

    fn enter(&mut self, path: Vec<u8>, inum: Inum) {
        let refusal = if !self.entered.insert(inum) {
            format!("damaged media: names {inum}, a directory that has another name")
        } else if self.levels.len() == DEPTH_MAX {
            format!("more than {DEPTH_MAX} directories deep; not entered")
        } else {
            let (entries, faults) = self.list(&path, inum);
            self.faults = faults.into_iter();
            self.push(path, entries);
            return;
        };
        self.faults = vec![self.fault(&path, Failure::new(refusal))].into_iter();
        // left all the same: one Leave for every directory that was given
        self.push(path, Vec::new());
    }

    fn push(&mut self, path: Vec<u8>, entries: Vec<DirEntry>) {
        self.levels.push(Level { path, entries: entries.into_iter() });
    }

    fn fault(&self, path: &[u8], failure: impl Into<Failure>) -> Failure {
        self.session.failure(failure.into().at(path))
    }

    /// The names in the directory `inum` by their bytes, and what could not be told of it.
    fn list(&self, path: &[u8], inum: Inum) -> (Vec<DirEntry>, Vec<Failure>) {
        let mut entries: Vec<DirEntry> = Vec::new();
        let mut faults = Vec::new();
        let mut next = Some(0);
        while let Some(position) = next {
            let page = ReadDir {
                pfs: self.pfs,
                directory: inum,
                position,
                limit: PAGE,
                with_attributes: self.with_attributes,
            };
            match self.session.run(&page) {
                Ok(page) => {
                    entries.extend(page.entries);
                    faults.extend(page.broken.into_iter().map(|e| self.fault(path, e)));
                    next = page.next;
                }
                Err(error) => {
                    faults.push(self.fault(path, error));
                    next = None;
                }
            }
        }
        entries.retain(|entry| entry.name != b"." && entry.name != b"..");
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in &entries {
            if let Some(Err(error)) = &entry.attributes {
                faults.push(self.fault(&join(path, &entry.name), *error));
            }
        }
        (entries, faults)
    }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some((path, inum)) = self.descend.take() {
            self.enter(path, inum);
        }
        if let Some(fault) = self.faults.next() {
            return Some(Step::Fault(fault));
        }
        let depth = self.levels.len().checked_sub(1)?;
        let level = self.levels.last_mut()?;
        let Some(entry) = level.entries.next() else {
            self.levels.pop();
            return Some(Step::Leave);
        };
        let path = join(&level.path, &entry.name);
        // one that cannot be read was a fault of its entry, and need not be another
        let is_lost = matches!(entry.attributes, Some(Err(_)));
        if self.recursive && entry.kind == ObjectKind::Directory && !is_lost {
            self.descend = Some((path.clone(), entry.inum));
        }
        Some(Step::Entry { path, is_last: level.entries.len() == 0, entry, depth })
    }
}
