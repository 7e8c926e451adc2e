//! One PFS of an image: from paths to inodes, and what lies behind them.

use std::sync::Arc;

use farrier_core::engine::{Change, Operation};
use farrier_core::error::Error;
use farrier_core::fs::{
    Attributes, DirEntry, Extent, GetAttributes, Lookup, PathOf, Pfs, PfsInfo, Read, ReadAhead,
    ReadDir, ReadLink, Resolve, Seek, SeekTarget,
};
use farrier_core::units::Inum;

pub use farrier_core::fs::LastLink;

use crate::image::Image;

/// Entries that a directory is read by.
const PAGE: usize = 1024;

/// One PFS of an image.
#[derive(Clone, Debug)]
pub struct Tree {
    image: Arc<Image>,
    pfs: Pfs,
    label: Vec<u8>,
    inode_count: u64,
    is_writable: bool,
}

/// A directory, as far as it can be read.
#[derive(Debug, Default)]
pub struct Listing {
    /// Its names in hash order, without `.` and `..`.
    pub entries: Vec<DirEntry>,
    /// What could not be told.
    pub broken: Vec<Error>,
}

impl Tree {
    pub(crate) fn new(image: Arc<Image>, info: &PfsInfo, pfs: Pfs, is_writable: bool) -> Self {
        let (label, inode_count) = (info.label.clone(), info.inode_count);
        Self { image, pfs, label, inode_count, is_writable }
    }

    /// Whether it is open for writing: a snapshot never is.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// The image that it is part of.
    #[must_use]
    pub const fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// Its handle for operations.
    #[must_use]
    pub const fn pfs(&self) -> Pfs {
        self.pfs
    }

    /// Its label.
    #[must_use]
    pub fn label(&self) -> &[u8] {
        &self.label
    }

    /// Inodes in it, by its writer's count.
    #[must_use]
    pub const fn inode_count(&self) -> u64 {
        self.inode_count
    }

    /// Runs `operation`; waits for what it needs.
    ///
    /// # Errors
    /// Why the operation failed.
    pub fn run<O: Operation>(&self, operation: &O) -> Result<O::Output, Error>
    where
        O::Output: core::fmt::Debug,
    {
        self.image.blocks().outlast(|| self.image.run(operation))
    }

    /// Makes a change; waits for what it needs.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn change<C: Change>(&self, change: &C) -> Result<C::Output, Error>
    where
        C::Output: core::fmt::Debug,
    {
        let blocks = self.image.blocks();
        blocks.outlast(|| blocks.change(change))
    }

    /// What was changed about `inum` before is on media when this is done.
    ///
    /// # Errors
    /// The volume failed.
    pub fn sync(&self, inum: Inum) -> Result<(), Error> {
        match self.image.blocks().writing() {
            Ok(writing) => writing.outlast(|| writing.sync_inode(self.pfs.id(), inum)),
            Err(_) => Ok(()),
        }
    }

    /// Everything that was changed before is on media when this is done.
    ///
    /// # Errors
    /// The volume failed.
    pub fn sync_all(&self) -> Result<(), Error> {
        let blocks = self.image.blocks();
        blocks.outlast(|| blocks.sync())
    }

    /// Attributes of an inode.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn attributes(&self, inum: Inum) -> Result<Attributes, Error> {
        let pfs = self.pfs;
        self.run(&GetAttributes { pfs, inum })
    }

    /// What a directory calls `name`.
    ///
    /// # Errors
    /// Nothing, or it cannot be told.
    pub fn lookup(&self, directory: Inum, name: &[u8]) -> Result<Attributes, Error> {
        self.run(&Lookup { pfs: self.pfs, directory, name: name.to_vec() })
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// It is none, or cannot be read.
    pub fn read_link(&self, inum: Inum) -> Result<Vec<u8>, Error> {
        let pfs = self.pfs;
        self.run(&ReadLink { pfs, inum })
    }

    /// What `path` leads to, from the root of the PFS; a leading `/` changes nothing.
    ///
    /// # Errors
    /// A part of it does not exist, is no directory, or cannot be read.
    pub fn resolve(&self, path: &[u8], last_link: LastLink) -> Result<Attributes, Error> {
        let resolve = Resolve { pfs: self.pfs, path: path.to_vec(), last_link };
        Ok(self.run(&resolve)?.attributes)
    }

    /// Reads a range of a file; see [`Read`].
    ///
    /// # Errors
    /// It is no file, or the range is damaged.
    pub fn read(
        &self,
        inum: Inum,
        offset: u64,
        len: usize,
        ahead: &mut ReadAhead,
    ) -> Result<Vec<Extent>, Error> {
        self.run(&Read { pfs: self.pfs, inum, offset, len, ahead: ahead.observe(offset, len) })
    }

    /// Next data or hole of a file; `None` behind the last.
    ///
    /// # Errors
    /// It is no file, or its tables are damaged.
    pub fn seek(&self, inum: Inum, offset: u64, target: SeekTarget) -> Result<Option<u64>, Error> {
        let found = self.run(&Seek { pfs: self.pfs, inum, offset, target });
        match found {
            Ok(offset) => Ok(Some(offset)),
            Err(Error::NoData) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists a directory, with attributes if `with_attributes`.
    ///
    /// # Errors
    /// It is none, or its inode cannot be read.
    pub fn list(&self, directory: Inum, with_attributes: bool) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        let mut position = Some(0);
        while let Some(from) = position {
            let page = self.run(&ReadDir {
                pfs: self.pfs,
                directory,
                position: from,
                limit: PAGE,
                with_attributes,
            })?;
            position = page.next;
            listing.broken.extend(page.broken);
            let names =
                page.entries.into_iter().filter(|entry| !matches!(&entry.name[..], b"." | b".."));
            listing.entries.extend(names);
        }
        Ok(listing)
    }
}

impl Tree {
    /// A path that leads to `inum`, as far as the media can tell: by the parent that each inode
    /// says it has.
    #[must_use]
    pub fn path_of(&self, inum: Inum) -> Option<Vec<u8>> {
        self.run(&PathOf { pfs: self.pfs, inum }).ok()
    }
}
