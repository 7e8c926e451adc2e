//! The snapshots of a volume while it is open: which there are, each with a number of its own.
//!
//! The media does not say of what a snapshot is one, so these are all snapshots of the volume, but
//! the tree that they are looked at from.
//!
//! Invariants:
//! * A number means the same snapshot as long as the volume is open, and none when that is gone;
//!   another label changes nothing about that.
//! * What an operation answers was read while its snapshot was there: nothing that it is made of can
//!   have been given to something else meanwhile.

use std::sync::{Arc, PoisonError, RwLock};

use farrier_core::engine::Operation;
use farrier_core::error::Error;
use farrier_core::fs::{ListPfs, pfs::PfsList};
use farrier_core::fs::{Pfs, PfsInfo};
use farrier_core::units::{Inum, Uuid, WallTime};

use crate::control::now;
use crate::image::Image;
use crate::tree::Tree;

/// Numbers that there can be; they are not used again.
const NUMBERS: usize = 1 << 15;
/// Times that an operation is begun anew because its snapshot was changed meanwhile.
const ANEW_MAX: usize = 16;

/// The snapshots of a volume.
#[derive(Debug)]
pub(crate) struct Snapshots {
    image: Arc<Image>,
    /// The tree that they are looked at from.
    own: Pfs,
    table: RwLock<Table>,
}

#[derive(Debug)]
struct Table {
    /// The state of the PFSs that this is true of; `None` if it is of none for sure.
    state: Option<u64>,
    /// When it was changed last.
    changed: WallTime,
    /// By number, less one.
    known: Vec<Known>,
    /// What could not be told.
    broken: Vec<Error>,
}

#[derive(Clone, Debug)]
struct Known {
    id: Uuid,
    label: Vec<u8>,
    /// `None` when it is gone.
    pfs: Option<Pfs>,
}

/// One that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot {
    /// Its number: 1 at least, below 2^15.
    pub(crate) number: u16,
    /// Its label, which can be the name of a directory.
    pub(crate) label: Vec<u8>,
}

impl Snapshots {
    /// The snapshots of the volume that `tree` is of.
    pub(crate) fn new(tree: &Tree) -> Self {
        let table = Table { state: None, changed: now(), known: Vec::new(), broken: Vec::new() };
        Self { image: Arc::clone(tree.image()), own: tree.pfs(), table: RwLock::new(table) }
    }

    /// Those that there are, in the order of their numbers, and what could not be told.
    pub(crate) fn list(&self) -> Result<(Vec<Snapshot>, Vec<Error>), Error> {
        self.with_table(|table| {
            let there = table.known.iter().enumerate().filter(|(_, known)| known.pfs.is_some());
            let there = there.map(|(index, known)| Snapshot {
                number: number_of(index),
                label: known.label.clone(),
            });
            (there.collect(), table.broken.clone())
        })
    }

    /// The number of the one that is labelled so.
    pub(crate) fn find(&self, label: &[u8]) -> Result<u16, Error> {
        self.with_table(|table| {
            let is_it = |known: &Known| known.pfs.is_some() && known.label == label;
            match table.known.iter().position(is_it) {
                Some(index) => Ok(number_of(index)),
                // one that cannot be read may be the one
                None => Err(table.broken.first().copied().unwrap_or(Error::NoEntry)),
            }
        })?
    }

    /// When one came or went last.
    pub(crate) fn changed(&self) -> Result<WallTime, Error> {
        self.with_table(|table| table.changed)
    }

    /// A number that no other snapshot has, on no volume: for those who remember for longer than a
    /// mount is there.
    pub(crate) fn mark(&self, number: u16) -> u32 {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let id = index_of(number).and_then(|index| table.known.get(index)).map(|known| known.id.0);
        let [a, b, c, d, ..] = id.unwrap_or_default();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Labels of snapshots that cannot be the name of a directory.
    pub(crate) fn nameless(&self) -> Result<Vec<Vec<u8>>, Error> {
        let list = self.read_list()?;
        Ok(list.entries.into_iter().map(|info| info.label).filter(|l| !is_name(l)).collect())
    }

    /// Runs an operation on a snapshot.
    ///
    /// # Errors
    /// Why it failed; [`Error::NoInode`] if the snapshot is gone, even if it went meanwhile.
    pub(crate) fn run<O: Operation>(
        &self,
        number: u16,
        operation: impl Fn(Pfs) -> O,
    ) -> Result<O::Output, Error>
    where
        O::Output: core::fmt::Debug,
    {
        for _ in 0..ANEW_MAX {
            let pfs = self.pfs(number)?;
            let outcome = self.image.run(&operation(pfs));
            // Who went on while it was removed may have read what took its place.
            if self.pfs(number)? == pfs {
                return outcome;
            }
        }
        Err(Error::Busy)
    }

    fn pfs(&self, number: u16) -> Result<Pfs, Error> {
        self.with_table(|table| {
            let known = index_of(number).and_then(|index| table.known.get(index));
            known.and_then(|known| known.pfs).ok_or(Error::NoInode(Inum::ROOT))
        })?
    }

    /// Lets `look` see the table as it is now.
    fn with_table<R>(&self, look: impl FnOnce(&Table) -> R) -> Result<R, Error> {
        {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            if table.state.is_some() && table.state == self.image.blocks().pfs_state() {
                return Ok(look(&table));
            }
        }
        // What panicked has not changed it by halves: see `Table::take_in`.
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let state = self.image.blocks().pfs_state();
        if state.is_none() || table.state != state {
            table.take_in(self.read_list()?);
            table.state = state;
        }
        Ok(look(&table))
    }

    /// The snapshots as the media lists them now.
    fn read_list(&self) -> Result<PfsList, Error> {
        let super_root = self.image.volume().super_root();
        let mut list = self.image.run(&ListPfs { super_root })?;
        list.entries.retain(|info| info.is_snapshot && info.pfs.id() != self.own.id());
        Ok(list)
    }
}

impl Table {
    fn take_in(&mut self, list: PfsList) {
        let mut known = self.known.clone();
        for known in &mut known {
            known.pfs = None;
        }
        let mut rest: Vec<&PfsInfo> = Vec::new();
        let infos: Vec<_> = list.entries.iter().filter(|info| is_name(&info.label)).collect();
        for info in &infos {
            let is_it = |known: &&mut Known| known.id == info.pfs_id && known.label == info.label;
            match known.iter_mut().find(is_it) {
                Some(known) => known.pfs = Some(info.pfs),
                None => rest.push(info),
            }
        }
        let mut broken = list.broken;
        for info in rest {
            // Ids are there to be unique; where they are not, labels have to tell apart.
            let is_unique = infos.iter().filter(|other| other.pfs_id == info.pfs_id).count() == 1;
            let former = known.iter().position(|known| is_unique && known.id == info.pfs_id);
            let now = Known { id: info.pfs_id, label: info.label.clone(), pfs: Some(info.pfs) };
            match former {
                Some(index) => known[index] = now,
                None if known.len() + 1 < NUMBERS => known.push(now),
                None => broken.push(Error::NoSpace),
            }
        }
        let names = |all: &[Known]| -> Vec<Option<Vec<u8>>> {
            all.iter().map(|known| known.pfs.map(|_| known.label.clone())).collect()
        };
        if names(&known) != names(&self.known) {
            // two changes within the grain of the clock are two
            self.changed = WallTime(now().0.max(self.changed.0 + 1));
        }
        (self.known, self.broken) = (known, broken);
    }
}

/// Whether a directory can be called so.
fn is_name(label: &[u8]) -> bool {
    !matches!(label, b"" | b"." | b"..") && !label.contains(&b'/')
}

fn number_of(index: usize) -> u16 {
    // there are fewer than 2^15
    u16::try_from(index + 1).unwrap_or(u16::MAX)
}

fn index_of(number: u16) -> Option<usize> {
    usize::from(number).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_core::media::blockref::{Blockref, slots};
    use farrier_core::media::inode::PfsKind;

    fn info(label: &str, id: u8, key: u64) -> PfsInfo {
        let mut raw = slots(&[0; 128])[0];
        raw.kind = 1;
        raw.key.set(key);
        raw.data_off.set(0x40_0000 | 10);
        let root = Blockref::parse(&raw).unwrap().unwrap();
        PfsInfo {
            pfs: Pfs::new(root),
            label: label.as_bytes().to_vec(),
            kind: PfsKind::Master,
            is_snapshot: true,
            cluster_id: Uuid([id; 16]),
            pfs_id: Uuid([id; 16]),
            next_inum: Inum(2),
            created: WallTime(0),
            data_bytes: 0,
            inode_count: 1,
        }
    }

    fn take_in(table: &mut Table, entries: Vec<PfsInfo>) -> Vec<Option<String>> {
        table.take_in(PfsList { entries, broken: Vec::new() });
        let label = |known: &Known| String::from_utf8(known.label.clone()).unwrap();
        table.known.iter().map(|known| known.pfs.map(|_| label(known))).collect()
    }

    fn there(labels: &[&str]) -> Vec<Option<String>> {
        labels.iter().map(|l| (!l.is_empty()).then(|| (*l).to_owned())).collect()
    }

    #[test]
    fn a_number_stays_with_its_snapshot() {
        let mut table =
            Table { state: None, changed: WallTime(0), known: Vec::new(), broken: Vec::new() };
        let [a, b, c] = [info("a", 1, 1), info("b", 2, 2), info("c", 3, 3)];
        assert_eq!(take_in(&mut table, vec![a.clone(), b.clone()]), there(&["a", "b"]));
        let first = table.changed;
        assert_eq!(take_in(&mut table, vec![a.clone(), b.clone()]), there(&["a", "b"]));
        assert_eq!(table.changed, first, "nothing came or went");
        assert_eq!(take_in(&mut table, vec![b.clone(), c.clone()]), there(&["", "b", "c"]));
        assert!(table.changed.0 > first.0);
        let renamed = info("bb", 2, 9);
        assert_eq!(take_in(&mut table, vec![c.clone(), renamed]), there(&["", "bb", "c"]));
        // another one takes the label of one that is gone
        let again = info("a", 4, 1);
        assert_eq!(take_in(&mut table, vec![again, c]), there(&["", "", "c", "a"]));
    }

    #[test]
    fn equal_ids_are_told_apart_by_label() {
        let mut table =
            Table { state: None, changed: WallTime(0), known: Vec::new(), broken: Vec::new() };
        let [a, b] = [info("a", 1, 1), info("b", 1, 2)];
        assert_eq!(take_in(&mut table, vec![a, b.clone()]), there(&["a", "b"]));
        let renamed = info("c", 1, 3);
        assert_eq!(take_in(&mut table, vec![renamed, b]), there(&["", "b", "c"]));
    }

    #[test]
    fn labels_that_are_no_names() {
        for label in [&b""[..], b".", b"..", b"a/b"] {
            assert!(!is_name(label));
        }
        assert!(is_name(b"...") && is_name(b"a.b"));
    }
}
