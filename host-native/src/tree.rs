//! One PFS of an image: from paths to inodes, and what lies behind them.

use std::sync::Arc;

use farrier_core::engine::Operation;
use farrier_core::error::Error;
use farrier_core::fs::{
    Attributes, DirEntry, Extent, GetAttributes, Lookup, PathOf, Pfs, PfsInfo, Read, ReadAhead,
    ReadDir, ReadLink, Seek, SeekTarget,
};
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::Inum;

use crate::image::Image;

/// Symbolic links that one path may lead through, as in Linux.
const LINKS_MAX: usize = 40;
/// Entries that a directory is read by.
const PAGE: usize = 1024;

/// One PFS of an image.
#[derive(Clone, Debug)]
pub struct Tree {
    image: Arc<Image>,
    pfs: Pfs,
    label: Vec<u8>,
    inode_count: u64,
}

/// What to do with a symbolic link at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastLink {
    /// Go where it points to.
    Follow,
    /// Take the link itself.
    Keep,
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
    pub(crate) fn new(image: Arc<Image>, info: &PfsInfo) -> Self {
        Self { image, pfs: info.pfs, label: info.label.clone(), inode_count: info.inode_count }
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
        self.image.run(operation)
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
        let root = self.attributes(Inum::ROOT)?;
        let mut at = root;
        let mut parts = reversed_parts(path);
        // a slash behind the last name asks for a directory, as everywhere
        let wants_directory = path.ends_with(b"/");
        let mut links = 0;
        while let Some(part) = parts.pop() {
            let next = self.lookup(at.inum, &part)?;
            let follows = !parts.is_empty() || wants_directory || last_link == LastLink::Follow;
            if next.kind != ObjectKind::Symlink || !follows {
                at = next;
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(Error::NoEntry);
            }
            let target = self.read_link(next.inum)?;
            if target.starts_with(b"/") {
                at = root;
            }
            parts.extend(reversed_parts(&target));
        }
        if wants_directory && at.kind != ObjectKind::Directory {
            return Err(Error::NotDirectory);
        }
        Ok(at)
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

/// The names of a path, last one first.
fn reversed_parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
        .rev()
        .map(<[u8]>::to_vec)
        .collect()
}
