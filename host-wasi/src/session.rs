//! An opened volume: its devices, its cache, and the way from labels and paths to inodes.

use std::fmt::Debug;

use farrier_core::copies::lineage;
use farrier_core::drive::bulkfree::Freed;
use farrier_core::drive::change::Origin;
use farrier_core::drive::pfs::PfsChange;
use farrier_core::drive::solo::Solo;
use farrier_core::drive::{self, ready};
use farrier_core::engine::{Change, Operation};
use farrier_core::error::Error;
use farrier_core::fs::{
    Attributes, GetAttributes, LastLink, ListPfs, OpenPfs, Pfs, PfsInfo, ReadLink, Resolve,
};
use farrier_core::storage::Storage;
use farrier_core::text::with_names;
use farrier_core::units::{DeviceIndex, Inum, Uuid};
use farrier_core::volume::{OpenOptions, Volume};
use farrier_wasi::arguments::{Request, Target};
use farrier_wasi::name::Name;

use crate::clock;
use crate::device::Devices;
use crate::failure::Failure;

/// A volume that is open, for reading or for writing too.
#[derive(Debug)]
pub(crate) struct Session {
    solo: Solo<Devices>,
}

impl Session {
    /// Opens the volumes that `request` names: for writing if that is what it asks for.
    pub(crate) fn open(request: &Request) -> Result<Self, Failure> {
        let devices = Devices::open(&request.volumes, request.command.writes())?;
        let copies = lineage::Options {
            read_only: !request.command.writes(),
            accept_missing: request.copies.accept_missing,
            master: request.copies.master,
            only_copy: request.copies.only,
            ..lineage::Options::default()
        };
        let options = OpenOptions {
            allow_truncated: request.allow_truncated,
            slot: request.header,
            copies,
            ..OpenOptions::default()
        };
        if let Err(text) = may_open(&devices, &options, request) {
            let name = |device| Some(devices.name(device).to_owned());
            return Err(Failure::new(with_names(&text, name)));
        }
        let opened = if request.command.writes() {
            ready(Solo::open_for_writing(devices, options, request.cache_bytes))
        } else {
            ready(Solo::open(devices, options, request.cache_bytes))
        };
        let solo = opened.map_err(|error| {
            let device = match error {
                Error::Refused(refusal) => refusal.device(),
                Error::Device(fault) => Some(fault.device),
                _ => None,
            };
            let index = device.map_or(0, |device| usize::from(device.0));
            let name = request.volumes.get(index).map_or("", |name| name);
            Failure::from(error).in_file(name)
        })?;
        if request.command.writes() && solo.volume().group().is_some() {
            // a sandbox has no name by which people would know it again
            let host = Uuid([0; 16]);
            solo.set_origin(Origin { id: clock::random()?, host, time: clock::now() });
        }
        Ok(Self { solo })
    }

    /// Brings copies up to date that are behind, and says which still are: a bit for each slot.
    pub(crate) fn catch_up(&self) -> Result<u8, Error> {
        if self.volume().group().is_none() {
            return Ok(0);
        }
        loop {
            let filled = ready(self.solo.resync(FILL_BYTES))?;
            let has_done = filled.leaves > 0 || filled.tables > 0 || filled.joined != 0;
            if filled.behind == 0 || !has_done {
                return Ok(filled.behind);
            }
        }
    }

    pub(crate) const fn volume(&self) -> &Volume {
        self.solo.volume()
    }

    pub(crate) const fn devices(&self) -> &Devices {
        self.solo.storage()
    }

    /// Runs an operation to its end.
    pub(crate) fn run<O>(&self, operation: &O) -> Result<O::Output, Error>
    where
        O: Operation,
        O::Output: Debug,
    {
        ready(self.solo.run(operation))
    }

    /// Makes a change; it lasts when it was committed.
    pub(crate) fn change<C>(&self, change: &C) -> Result<C::Output, Error>
    where
        C: Change,
        C::Output: Debug,
    {
        ready(self.solo.change(change))
    }

    /// Commits what was changed.
    pub(crate) fn commit(&self) -> Result<(), Error> {
        ready(self.solo.flush(false)).map(drop)
    }

    /// Commits a change of the PFSs.
    pub(crate) fn change_pfs(&self, change: &PfsChange) -> Result<(), Error> {
        ready(self.solo.change_pfs(change))
    }

    /// Frees what nothing refers to.
    pub(crate) fn bulkfree(&self) -> Result<Freed, Error> {
        let scan = ready(self.solo.begin_bulkfree())?;
        ready(self.solo.finish_bulkfree(scan))
    }

    /// A failure that is about the volume itself.
    pub(crate) fn failure(&self, failure: impl Into<Failure>) -> Failure {
        let device = DeviceIndex(0);
        debug_assert!(self.devices().device_count() > 0, "a volume has a device");
        failure.into().in_file(self.devices().name(device))
    }

    /// The PFS that `request` names, or the one that is meant when it names none.
    pub(crate) fn pfs(&self, request: &Request) -> Result<Pfs, Failure> {
        let super_root = self.volume().super_root();
        let label = request.label.as_deref().unwrap_or(b"DATA");
        match self.run(&OpenPfs { super_root, label: label.to_vec() }) {
            Err(Error::NoPfs) => Ok(self.only_pfs(request.label.as_deref())?.pfs),
            opened => opened.map_err(|error| self.failure(error)),
        }
    }

    /// As [`Session::pfs`], open for writing.
    pub(crate) fn pfs_to_write(&self, request: &Request) -> Result<Pfs, Failure> {
        let open = |label: &[u8]| ready(self.solo.open_tree(label));
        match open(request.label.as_deref().unwrap_or(b"DATA")) {
            Err(Error::NoPfs) => {
                let only = self.only_pfs(request.label.as_deref())?;
                open(&only.label).map_err(|error| self.failure(error))
            }
            opened => opened.map_err(|error| self.failure(error)),
        }
    }

    /// The PFS that goes without saying where `label` is none and there is no DATA.
    fn only_pfs(&self, label: Option<&[u8]>) -> Result<PfsInfo, Failure> {
        let list = self.list_pfs()?;
        let labels: Vec<_> =
            list.iter().map(|pfs| Name::from(&pfs.label[..]).to_string()).collect();
        let labels = labels.join(", ");
        if let Some(label) = label {
            let label = Name::from(label);
            let text = format!("no PFS labelled {label}; there is {labels}");
            return Err(self.failure(Failure::new(text)));
        }
        let mut own = list.into_iter().filter(|pfs| pfs.label != b"LOCAL");
        match (own.next(), own.next()) {
            (Some(only), None) => Ok(only),
            _ if labels.is_empty() => {
                Err(self
                    .failure(Failure::new("holds no PFS at all; make one where it was formatted")))
            }
            _ => Err(self.failure(Failure::new(format!(
                "which PFS is meant? Write DEVICE@LABEL with one of {labels}"
            )))),
        }
    }

    /// All PFSs; it fails if one cannot be read, for that may be the one that is meant.
    pub(crate) fn list_pfs(&self) -> Result<Vec<PfsInfo>, Failure> {
        let super_root = self.volume().super_root();
        let list = self.run(&ListPfs { super_root }).map_err(|error| self.failure(error))?;
        match list.broken.first() {
            Some(error) => Err(self.failure(*error)),
            None => Ok(list.entries),
        }
    }

    /// The inode at `path`. Symbolic links on the way are followed within the PFS, the last one
    /// only with `follow`.
    pub(crate) fn resolve(
        &self,
        pfs: &Pfs,
        path: &[u8],
        follow: bool,
    ) -> Result<Attributes, Failure> {
        let last_link = if follow { LastLink::Follow } else { LastLink::Keep };
        let resolve = Resolve { pfs: *pfs, path: path.to_vec(), last_link };
        let found = self.run(&resolve);
        found
            .map(|there| there.attributes)
            .map_err(|error| self.failure(Failure::from(error).at(path)))
    }

    /// The inode that `target` names, and the path that reports give it.
    pub(crate) fn find(
        &self,
        pfs: &Pfs,
        target: &Target,
        follow: bool,
    ) -> Result<(Vec<u8>, Attributes), Failure> {
        match target {
            Target::Path(path) => Ok((absolute(path), self.resolve(pfs, path, follow)?)),
            Target::Inode(number) => {
                let inum = Inum(*number);
                let attributes = self
                    .run(&GetAttributes { pfs: *pfs, inum })
                    .map_err(|error| self.failure(error))?;
                Ok((format!("inode {number}").into_bytes(), attributes))
            }
        }
    }

    pub(crate) fn read_link(&self, pfs: &Pfs, inum: Inum) -> Result<Vec<u8>, Error> {
        self.run(&ReadLink { pfs: *pfs, inum })
    }
}

/// Whether devices that are copies are ones to do that with.
fn may_open(devices: &Devices, options: &OpenOptions, request: &Request) -> Result<(), String> {
    if request.command.writes() {
        return ready(drive::may_write(devices, options));
    }
    ready(drive::refused(devices, options)).map_or(Ok(()), |refused| Err(refused.to_string()))
}

/// Bytes that are filled in with one commit.
const FILL_BYTES: u64 = 32 << 20;

/// The names of a path, as reports write it.
fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
}

/// `path` as reports write it: from the root, without doubled slashes.
pub(crate) fn absolute(path: &[u8]) -> Vec<u8> {
    let mut absolute = Vec::with_capacity(path.len() + 1);
    for name in names(path) {
        absolute.push(b'/');
        absolute.extend(name);
    }
    if absolute.is_empty() {
        absolute.push(b'/');
    }
    absolute
}

/// `name` below the absolute path `directory`.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if directory != b"/" {
        path.push(b'/');
    }
    path.extend(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_one_way() {
        assert_eq!(absolute(b""), b"/");
        assert_eq!(absolute(b"a//b/./c/"), b"/a/b/c");
        assert_eq!(join(b"/", b"a"), b"/a");
        assert_eq!(join(b"/a", b"b"), b"/a/b");
    }
}
