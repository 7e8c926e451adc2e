//! From a directory and a name to an inode (media format 6.4).

use alloc::vec::Vec;

use super::attributes::Attributes;
use super::node::Node;
use super::pfs::Pfs;
use crate::engine::{Operation, Stop, View, Want};
use crate::error::{Damage, DamageKind, Error};
use crate::media::blockref::Blockref;
use crate::media::dirent::{DirentHeader, NAME_LEN_MAX};
use crate::media::dirhash::{COLLISION_MASK, dirhash};
use crate::tree::{Table, range};
use crate::units::Inum;

/// Entries with one hash that are compared in one go; nearly always there is only one.
const BATCH: usize = 16;

/// Looks up a name in a directory.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The tree.
    pub pfs: Pfs,
    /// The directory.
    pub directory: Inum,
    /// The name; `.` and `..` are understood.
    pub name: Vec<u8>,
}

impl Operation for Lookup {
    type Output = Attributes;

    fn gather(&self, view: &mut View<'_>) -> Result<Attributes, Stop> {
        let directory = Node::find_directory(view, &self.pfs, self.directory)?;
        if self.name.len() > NAME_LEN_MAX {
            return Err(Error::NameTooLong.into());
        }
        let attributes = Attributes::of(&directory);
        match &self.name[..] {
            b"." => return Ok(attributes),
            b".." => {
                let parent = Node::find_directory(view, &self.pfs, attributes.parent)?;
                return Ok(Attributes::of(&parent));
            }
            _ => {}
        }
        let table = directory.table(&self.pfs)?;
        let (entry, header) = find_entry(view, &table, &self.name)?.ok_or(Error::NoEntry)?;
        match Node::find(view, &self.pfs, header.target) {
            Err(Stop::Fail(Error::NoInode(inum))) => {
                Err(Damage::new(entry.place(), DamageKind::Dangling(inum)).into())
            }
            found => Ok(Attributes::of(&found?)),
        }
    }
}

/// The entry called `name`. A broken entry that might be it fails the search: it must not look as
/// if the name did not exist.
fn find_entry(
    view: &mut View<'_>,
    table: &Table,
    name: &[u8],
) -> Result<Option<(Blockref, DirentHeader)>, Stop> {
    let hash = dirhash(name);
    let mut low = Some(hash);
    while let Some(from) = low {
        let batch = range(view, table, from, hash | COLLISION_MASK, BATCH)?;
        for blockref in &batch {
            let damage = |fault| Damage::new(blockref.place(), DamageKind::Dirent(fault));
            let header = DirentHeader::parse(blockref).map_err(damage)?;
            if header.name_len != name.len() {
                continue;
            }
            let block = Want::of(blockref).map(|want| view.block(&want)).transpose()?;
            if header.name(blockref, block.as_deref()).map_err(damage)? == name {
                return Ok(Some((*blockref, header)));
            }
        }
        let last = batch.last().filter(|_| batch.len() == BATCH);
        low = last.and_then(|last| last.last_key().checked_add(1));
    }
    Ok(None)
}
