//! Listing a directory in pages (media format 6.5).

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::names::{self, Listed};
use super::node::Node;
use super::pfs::Pfs;
use crate::engine::{Operation, Stop, View};
use crate::error::Error;
use crate::media::dirhash::NAME_BIT;
use crate::media::inode::ObjectKind;
use crate::units::Inum;

/// Position behind `.`.
const AFTER_DOT: u64 = 1;
/// Position behind `..`. Every hash has bit 15 set, so names come far behind.
const AFTER_DOT_DOT: u64 = 2;

/// One name of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// The name: any bytes but `/` and NUL.
    pub name: Vec<u8>,
    /// What it names.
    pub inum: Inum,
    /// Kind of what it names, as the entry says.
    pub kind: ObjectKind,
    /// Position to go on from behind this entry.
    pub next: u64,
    /// Attributes, where they were asked for: or why they cannot be had.
    pub attributes: Option<Result<Attributes, Error>>,
}

/// A page of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirPage {
    /// Names in hash order.
    pub entries: Vec<DirEntry>,
    /// What could not be told in the range of this page. A lister has to report it at the end:
    /// a short directory must not look like a whole one.
    pub broken: Vec<Error>,
    /// Position of the next page; `None` at the end.
    pub next: Option<u64>,
}

/// Lists a directory.
///
/// Positions are those of the media: stable while other names come and go.
#[derive(Clone, Copy, Debug)]
pub struct ReadDir {
    /// The tree.
    pub pfs: Pfs,
    /// The directory.
    pub directory: Inum,
    /// 0, or the `next` of an earlier entry or page.
    pub position: u64,
    /// Most entries of the page.
    pub limit: usize,
    /// Whether the entries shall have attributes.
    pub with_attributes: bool,
}

impl Operation for ReadDir {
    type Output = DirPage;

    fn gather(&self, view: &mut View<'_>) -> Result<DirPage, Stop> {
        let directory = Node::find_directory(view, &self.pfs, self.directory)?;
        let mut page = DirPage { entries: Vec::new(), broken: Vec::new(), next: None };
        self.dots(view, &directory, &mut page)?;
        let room = self.limit.saturating_sub(page.entries.len());
        if room == 0 {
            page.next = page.entries.last().map(|entry| entry.next);
            return Ok(page);
        }
        let from = self.position.max(AFTER_DOT_DOT) | NAME_BIT;
        let mut low = Some(from);
        while let Some(from) = low {
            let (listed, next) = names::list(view, &self.pfs, &directory, from, room)?;
            low = next;
            for listed in listed {
                match listed {
                    Listed::Broken(_, error) => page.broken.push(error),
                    Listed::Entry(entry) => page.entries.push(DirEntry {
                        // the last possible key is followed by the end, not by the start
                        next: next_position(entry.key).unwrap_or(NAME_BIT - 1),
                        name: entry.name,
                        inum: entry.target,
                        kind: entry.kind,
                        attributes: None,
                    }),
                }
            }
            // what was removed may leave nothing of a page
            if !page.entries.is_empty() || !page.broken.is_empty() {
                break;
            }
        }
        if self.with_attributes {
            self.add_attributes(view, &mut page.entries)?;
        }
        page.next = low.map(|low| low & !NAME_BIT);
        Ok(page)
    }
}

impl ReadDir {
    fn dots(&self, view: &mut View<'_>, directory: &Node, page: &mut DirPage) -> Result<(), Stop> {
        for (name, inum, next) in [
            (&b"."[..], directory.inum(), AFTER_DOT),
            (&b".."[..], directory.parent(), AFTER_DOT_DOT),
        ] {
            if self.position < next && page.entries.len() < self.limit {
                page.entries.push(DirEntry {
                    name: name.to_vec(),
                    inum,
                    kind: ObjectKind::Directory,
                    next,
                    attributes: None,
                });
            }
        }
        if self.with_attributes {
            self.add_attributes(view, &mut page.entries)?;
        }
        Ok(())
    }

    /// All inodes are asked for side by side: a page costs a few rounds, not one per entry.
    fn add_attributes(&self, view: &mut View<'_>, entries: &mut [DirEntry]) -> Result<(), Stop> {
        let mut missing = Vec::new();
        for entry in entries.iter_mut().filter(|entry| entry.attributes.is_none()) {
            let found = Node::find(view, &self.pfs, entry.inum)
                .and_then(|node| Attributes::of(view, &self.pfs, &node));
            match found {
                Ok(attributes) => entry.attributes = Some(Ok(attributes)),
                Err(Stop::Fail(error)) => entry.attributes = Some(Err(error)),
                Err(Stop::Need(wants)) => {
                    for want in wants {
                        if !missing.contains(&want) {
                            missing.push(want);
                        }
                    }
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(Stop::Need(missing)) }
    }
}

fn next_position(last_key: u64) -> Option<u64> {
    last_key.checked_add(1).map(|next| next & !NAME_BIT)
}
