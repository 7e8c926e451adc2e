//! A volume with its devices and its cache: the core's host of one thread, and what a page needs
//! besides.

use std::fmt;

use farrier_core::drive::{self, Host, solo::Solo};
use farrier_core::engine::{Change, Operation};
use farrier_core::error::Error;
use farrier_core::fs::{ListPfs, OpenPfs, Pfs};
use farrier_core::volume::{OpenOptions, Volume};
use web_sys::Blob;

use crate::files::FileSet;
use crate::local::{BlockDevice, Devices, LocalDevice};

/// No borrow of the cache lives across an await: operations overlap as promises do.
pub(crate) struct Engine {
    solo: Solo<Devices>,
    is_writable: bool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("solo", &self.solo).finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) async fn open(files: Vec<Blob>, options: OpenOptions) -> Result<Self, Error> {
        let devices = Devices::Files(FileSet::new(files));
        let solo = Solo::open(devices, options, CACHE_BYTES_MAX).await?;
        Ok(Self { solo, is_writable: false })
    }

    pub(crate) async fn open_for_writing(device: BlockDevice) -> Result<Self, Error> {
        let devices = Devices::Local(LocalDevice::new(device));
        let options = OpenOptions::default();
        let solo = Solo::open_for_writing(devices, options, CACHE_BYTES_MAX).await?;
        solo.set_dirty_max(DIRTY_BYTES_MAX);
        Ok(Self { solo, is_writable: true })
    }

    pub(crate) const fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// The volume as it was opened.
    pub(crate) const fn volume(&self) -> &Volume {
        self.solo.volume()
    }

    /// The volume as it is on its devices now.
    pub(crate) async fn fresh_volume(&self) -> Result<Volume, Error> {
        drive::open(self.solo.storage(), OpenOptions::default()).await
    }

    pub(crate) const fn devices(&self) -> &Devices {
        self.solo.storage()
    }

    pub(crate) const fn solo(&self) -> &Solo<Devices> {
        &self.solo
    }

    pub(crate) async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, Error>
    where
        O::Output: fmt::Debug,
    {
        self.solo.run(&operation).await
    }

    pub(crate) async fn change<C: Change>(&self, change: C) -> Result<C::Output, Error>
    where
        C::Output: fmt::Debug,
    {
        self.solo.change(&change).await
    }

    /// Lists the PFSs, as of the last commit.
    pub(crate) fn list_pfs(&self) -> ListPfs {
        ListPfs { super_root: self.volume().super_root() }
    }

    /// Opens the PFS `label`: for writing if the volume is. A snapshot is only read: it is to stay
    /// what it was made as.
    pub(crate) async fn open_pfs(&self, label: Vec<u8>) -> Result<Pfs, Error> {
        let super_root = self.volume().super_root();
        if self.is_writable {
            let list = self.run(self.list_pfs()).await?;
            let is_snapshot =
                list.entries.iter().any(|info| info.label == label && info.is_snapshot);
            if !is_snapshot {
                return self.solo.open_tree(&label).await;
            }
        }
        self.run(OpenPfs { super_root, label }).await
    }

    /// Free bytes: those that nothing holds, and for a volume that is written without what its
    /// changes have reserved.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.solo.look(|memory| match memory {
            Some(memory) => memory.free_bytes(),
            None => self.volume().space().free_bytes,
        })
    }
}

/// Blocks kept in memory: the whole metadata of most volumes, and little beside a tab's own needs.
const CACHE_BYTES_MAX: usize = 32 << 20;

/// Changes kept in memory before they are committed in any case. One flush of so much is a
/// transaction of some hundred records.
const DIRTY_BYTES_MAX: u64 = 16 << 20;
