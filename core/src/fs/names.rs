//! The names of a directory as they are now: what the media has, under what was changed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::node::{Node, tree_of};
use super::pfs::Pfs;
use crate::dirty::DirtyName;
use crate::engine::{Stop, View, Want};
use crate::error::{BlockKind, Damage, DamageKind, Error, Place};
use crate::media::blockref::Blockref;
use crate::media::dirent::DirentHeader;
use crate::media::dirhash::{COLLISION_MASK, NAME_BIT, dirhash};
use crate::media::inode::ObjectKind;
use crate::tree::{Found, range, search};
use crate::units::Inum;

/// Entries with one hash that are compared in one go; nearly always there is only one.
const BATCH: usize = 16;

/// A directory entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its key.
    pub key: u64,
    /// The name.
    pub name: Vec<u8>,
    /// What it names.
    pub target: Inum,
    /// Kind of what it names, as the entry says.
    pub kind: ObjectKind,
}

/// What a listing came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listed {
    /// An entry.
    Entry(Entry),
    /// Something that cannot be told, up to this key.
    Broken(u64, Error),
}

impl Listed {
    fn last_key(&self) -> u64 {
        match self {
            Self::Entry(entry) => entry.key,
            Self::Broken(key, _) => *key,
        }
    }
}

/// The entry called `name` of `directory`.
///
/// A broken entry that might be it fails the search: it must not look as if the name did not
/// exist.
///
/// # Errors
/// [`Stop::Need`], or why it cannot be told.
pub fn find(
    view: &mut View<'_>,
    pfs: &Pfs,
    directory: &Node,
    name: &[u8],
) -> Result<Option<Entry>, Stop> {
    match probe(view, pfs, directory, name)? {
        Probe::Found(entry) => Ok(Some(entry)),
        Probe::Free(_) | Probe::Full => Ok(None),
    }
}

/// What there is about a name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probe {
    /// Its entry.
    Found(Entry),
    /// No entry; a new one can have this key (media format 6.4).
    Free(u64),
    /// No entry, and every key of the name's hash is taken.
    Full,
}

/// Looks for the entry called `name`, and for a key that it can have.
///
/// # Errors
/// As [`find`].
pub fn probe(view: &mut View<'_>, pfs: &Pfs, directory: &Node, name: &[u8]) -> Result<Probe, Stop> {
    let hash = dirhash(name);
    let changed = changed(view, pfs, directory, hash, hash | COLLISION_MASK);
    let mut taken = Vec::new();
    for (key, dirty) in &changed {
        let Some(dirty) = dirty else { continue };
        if *dirty.name == *name {
            return Ok(Probe::Found(entry(*key, dirty)));
        }
        taken.push(*key);
    }
    let mut found = None;
    each_on_media(view, pfs, directory, hash, |view, blockref| {
        if changed.contains_key(&blockref.key()) {
            return Ok(false);
        }
        taken.push(blockref.key());
        found = compare(view, blockref, name)?;
        Ok(found.is_some())
    })?;
    if let Some(entry) = found {
        return Ok(Probe::Found(entry));
    }
    taken.sort_unstable();
    // Other writers begin behind the hash itself, and so do we.
    let mut free = hash + 1;
    for key in taken {
        if key == free {
            free += 1;
        }
    }
    Ok(if free > hash | COLLISION_MASK { Probe::Full } else { Probe::Free(free) })
}

/// The entry that `blockref` is, if it is called `name`.
fn compare(view: &mut View<'_>, blockref: &Blockref, name: &[u8]) -> Result<Option<Entry>, Stop> {
    let damage = |fault| Damage::new(blockref.place(), DamageKind::Dirent(fault));
    let header = DirentHeader::parse(blockref).map_err(damage)?;
    if header.name_len != name.len() {
        return Ok(None);
    }
    let block = Want::of(blockref).map(|want| view.block(&want)).transpose()?;
    if header.name(blockref, block.as_deref()).map_err(damage)? != name {
        return Ok(None);
    }
    let (key, target, kind) = (blockref.key(), header.target, header.kind);
    Ok(Some(Entry { key, name: name.to_vec(), target, kind }))
}

/// The inode that `entry` names.
///
/// # Errors
/// [`Stop::Need`], or why it cannot be had: an entry that names nothing is damage.
pub fn named(view: &mut View<'_>, pfs: &Pfs, entry: &Entry) -> Result<Node, Stop> {
    match Node::find(view, pfs, entry.target) {
        Err(Stop::Fail(Error::NoInode(inum))) => {
            let place = Place { kind: BlockKind::Dirent, offset: None, key: entry.key };
            Err(Damage::new(place, DamageKind::Dangling(inum)).into())
        }
        found => found,
    }
}

/// Makes sure that `directory` has no names.
///
/// # Errors
/// [`Stop::Need`]; [`Error::NotEmpty`]; or why it cannot be told.
pub fn check_empty(view: &mut View<'_>, pfs: &Pfs, directory: &Node) -> Result<(), Stop> {
    let mut low = Some(NAME_BIT);
    while let Some(from) = low {
        let (listed, next) = list(view, pfs, directory, from, BATCH)?;
        if let Some(first) = listed.first() {
            return Err(match first {
                Listed::Entry(_) => Error::NotEmpty.into(),
                Listed::Broken(_, error) => (*error).into(),
            });
        }
        low = next;
    }
    Ok(())
}

/// About `limit` names of `directory` from key `low` on, ascending, and where to go on. A listing
/// may be empty and go on all the same.
///
/// # Errors
/// Only [`Stop::Need`], but for a directory that has no table.
pub fn list(
    view: &mut View<'_>,
    pfs: &Pfs,
    directory: &Node,
    low: u64,
    limit: usize,
) -> Result<(Vec<Listed>, Option<u64>), Stop> {
    let found = match directory.table(view, pfs)? {
        Some(table) => search(view, &table, low, u64::MAX, limit)?,
        None => Vec::new(),
    };
    let covered = if found.len() >= limit {
        found.last().map_or(u64::MAX, Found::last_key)
    } else {
        u64::MAX
    };
    let changed = changed(view, pfs, directory, low, covered);
    let mut listed: Vec<Listed> = changed
        .iter()
        .filter_map(|(key, dirty)| dirty.as_ref().map(|dirty| Listed::Entry(entry(*key, dirty))))
        .collect();
    for found in &found {
        match found {
            Found::Broken { high, error, .. } => listed.push(Listed::Broken(*high, *error)),
            Found::Leaf(blockref) if changed.contains_key(&blockref.key()) => {}
            Found::Leaf(blockref) => match on_media(view, blockref) {
                Some(Ok(entry)) => listed.push(Listed::Entry(entry)),
                Some(Err(error)) => listed.push(Listed::Broken(blockref.key(), error)),
                None => {}
            },
        }
    }
    view.settle()?;
    listed.sort_by_key(Listed::last_key);
    let mut next = covered.checked_add(1);
    if listed.len() > limit {
        listed.truncate(limit);
        next = listed.last().and_then(|last| last.last_key().checked_add(1));
    }
    Ok((listed, next))
}

/// Entries of one hash on media, until `stop` says so.
fn each_on_media(
    view: &mut View<'_>,
    pfs: &Pfs,
    directory: &Node,
    hash: u64,
    mut stop: impl FnMut(&mut View<'_>, &Blockref) -> Result<bool, Stop>,
) -> Result<(), Stop> {
    let Some(table) = directory.table(view, pfs)? else {
        return Ok(());
    };
    let mut low = Some(hash);
    while let Some(from) = low {
        let batch = range(view, &table, from, hash | COLLISION_MASK, BATCH)?;
        for blockref in &batch {
            if stop(view, blockref)? {
                return Ok(());
            }
        }
        let last = batch.last().filter(|_| batch.len() == BATCH);
        low = last.and_then(|last| last.last_key().checked_add(1));
    }
    Ok(())
}

/// Entries of `low ..= high` that were changed: there, or gone. The newest layer has the word.
fn changed(
    view: &View<'_>,
    pfs: &Pfs,
    directory: &Node,
    low: u64,
    high: u64,
) -> BTreeMap<u64, Option<DirtyName>> {
    let mut changed = BTreeMap::new();
    if let Some(tree) = tree_of(view, pfs) {
        for layer in tree.layers(directory.inum()) {
            for (key, name) in layer.names.range(low..=high) {
                changed.entry(*key).or_insert_with(|| name.clone());
            }
        }
    }
    changed
}

fn entry(key: u64, dirty: &DirtyName) -> Entry {
    Entry { key, name: dirty.name.to_vec(), target: dirty.target, kind: dirty.kind }
}

/// The entry that `blockref` is; `None` where its name is not in memory yet, which is noted.
fn on_media(view: &mut View<'_>, blockref: &Blockref) -> Option<Result<Entry, Error>> {
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
        Ok(name) => Ok(Entry {
            key: blockref.key(),
            name: name.to_vec(),
            target: header.target,
            kind: header.kind,
        }),
        Err(fault) => Err(damage(DamageKind::Dirent(fault))),
    })
}
