//! Listing a directory in pages (media format 6.5).

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::node::Node;
use super::pfs::Pfs;
use crate::engine::{Operation, Stop, View, Want};
use crate::error::{Damage, DamageKind, Error};
use crate::media::blockref::Blockref;
use crate::media::dirent::DirentHeader;
use crate::media::dirhash::NAME_BIT;
use crate::media::inode::ObjectKind;
use crate::tree::{Found, search};
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
        let table = directory.table(&self.pfs)?;
        let found = search(view, &table, from, u64::MAX, room)?;
        for found in &found {
            match found {
                Found::Broken { error, .. } => page.broken.push(*error),
                Found::Leaf(blockref) => match named(view, blockref) {
                    Some(Ok(entry)) => page.entries.push(entry),
                    Some(Err(error)) => page.broken.push(error),
                    None => {}
                },
            }
        }
        view.settle()?;
        if self.with_attributes {
            self.add_attributes(view, &mut page.entries)?;
        }
        if found.len() >= room {
            page.next = found.last().and_then(|found| next_position(found.last_key()));
        }
        Ok(page)
    }
}

impl ReadDir {
    fn dots(&self, view: &mut View<'_>, directory: &Node, page: &mut DirPage) -> Result<(), Stop> {
        let attributes = Attributes::of(directory);
        for (name, inum, next) in [
            (&b"."[..], attributes.inum, AFTER_DOT),
            (&b".."[..], attributes.parent, AFTER_DOT_DOT),
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
            match Node::find(view, &self.pfs, entry.inum) {
                Ok(node) => entry.attributes = Some(Ok(Attributes::of(&node))),
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

/// The entry that `blockref` is; `None` where its name is not in memory yet, which is noted.
fn named(view: &mut View<'_>, blockref: &Blockref) -> Option<Result<DirEntry, Error>> {
    let damage = |kind| Error::from(Damage::new(blockref.place(), kind));
    if blockref.key() & NAME_BIT == 0 {
        return Some(Err(damage(DamageKind::NotAllowed)));
    }
    let header = match DirentHeader::parse(blockref) {
        Ok(header) => header,
        Err(fault) => return Some(Err(damage(DamageKind::Dirent(fault)))),
    };
    let block = match Want::of(blockref).map(|want| view.want(&want)) {
        None => None,
        Some(None) => return None,
        Some(Some(Ok(block))) => Some(block),
        Some(Some(Err(error))) => return Some(Err(error)),
    };
    Some(match header.name(blockref, block.as_deref()) {
        Ok(name) => Ok(DirEntry {
            name: name.to_vec(),
            inum: header.target,
            kind: header.kind,
            // the last possible key is followed by the end, not by the start
            next: next_position(blockref.last_key()).unwrap_or(NAME_BIT - 1),
            attributes: None,
        }),
        Err(fault) => Err(damage(DamageKind::Dirent(fault))),
    })
}

fn next_position(last_key: u64) -> Option<u64> {
    last_key.checked_add(1).map(|next| next & !NAME_BIT)
}
