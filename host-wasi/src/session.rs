//! An opened volume: its devices, its cache, and the way from labels and paths to inodes.

use std::cell::RefCell;
use std::fmt::Debug;

use farrier_core::drive::{self, Host};
use farrier_core::engine::{Block, BlockCache, BlockId, Cache, Operation, Want};
use farrier_core::error::Error;
use farrier_core::fs::{
    Attributes, GetAttributes, LastLink, ListPfs, OpenPfs, Pfs, ReadLink, Resolve,
};
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, Inum};
use farrier_core::volume::{OpenOptions, Volume};
use farrier_wasi::arguments::{Request, Target};
use farrier_wasi::name::Name;

use crate::device::Devices;
use crate::failure::Failure;

/// A volume that is open for reading.
#[derive(Debug)]
pub(crate) struct Session {
    devices: Devices,
    volume: Volume,
    cache: RefCell<BlockCache>,
}

impl Cache for Session {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        self.cache.borrow().peek(id)
    }
}

impl Host for Session {
    async fn fetch(&self, want: &Want) -> Result<Block, Error> {
        let block = drive::read_block(&self.volume, &self.devices, want).await?;
        // Every command reads contents once, from the start to the end: kept, they would only
        // drive out the tables that lead to the rest.
        if !want.is_data() {
            self.cache.borrow_mut().insert(*want.id(), Block::clone(&block));
        }
        Ok(block)
    }
}

impl Session {
    /// Opens the volumes that `request` names.
    pub(crate) fn open(request: &Request) -> Result<Self, Failure> {
        let devices = Devices::open(&request.volumes, false)?;
        let options = OpenOptions {
            allow_truncated: request.allow_truncated,
            slot: request.header,
            ..OpenOptions::default()
        };
        let volume = drive::ready(drive::open(&devices, options)).map_err(|error| {
            let device = match error {
                Error::Refused(refusal) => refusal.device(),
                Error::Device(fault) => Some(fault.device),
                _ => None,
            };
            Failure::from(error).in_file(devices.name(device.unwrap_or(DeviceIndex(0))))
        })?;
        Ok(Self { devices, volume, cache: RefCell::new(BlockCache::new(request.cache_bytes)) })
    }

    pub(crate) const fn volume(&self) -> &Volume {
        &self.volume
    }

    pub(crate) const fn devices(&self) -> &Devices {
        &self.devices
    }

    /// Runs an operation to its end.
    pub(crate) fn run<O>(&self, operation: &O) -> Result<O::Output, Error>
    where
        O: Operation,
        O::Output: Debug,
    {
        drive::ready(drive::run(self, operation))
    }

    /// A failure that is about the volume itself.
    pub(crate) fn failure(&self, failure: impl Into<Failure>) -> Failure {
        let device = DeviceIndex(0);
        debug_assert!(self.devices.device_count() > 0, "a volume has a device");
        failure.into().in_file(self.devices.name(device))
    }

    /// The PFS that `request` names, or the one that is meant when it names none.
    pub(crate) fn pfs(&self, request: &Request) -> Result<Pfs, Failure> {
        let super_root = self.volume.super_root();
        let open = |label: &[u8]| self.run(&OpenPfs { super_root, label: label.to_vec() });
        let label = request.label.as_deref().unwrap_or(b"DATA");
        match open(label) {
            Err(Error::NoPfs) => {}
            opened => return opened.map_err(|error| self.failure(error)),
        }
        let list = self.run(&ListPfs { super_root }).map_err(|error| self.failure(error))?;
        // what is meant may be among those that cannot be read
        if let Some(error) = list.broken.first() {
            return Err(self.failure(*error));
        }
        let labels: Vec<_> =
            list.entries.iter().map(|pfs| Name::from(&pfs.label[..]).to_string()).collect();
        let labels = labels.join(", ");
        if request.label.is_some() {
            let label = Name::from(label);
            let text = format!("no PFS labelled {label}; there is {labels}");
            return Err(self.failure(Failure::new(text)));
        }
        let mut own = list.entries.iter().filter(|pfs| pfs.label != b"LOCAL");
        match (own.next(), own.next()) {
            (Some(only), None) => Ok(only.pfs),
            _ if labels.is_empty() => {
                Err(self
                    .failure(Failure::new("holds no PFS at all; make one where it was formatted")))
            }
            _ => Err(self.failure(Failure::new(format!(
                "which PFS is meant? Write DEVICE@LABEL with one of {labels}"
            )))),
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
