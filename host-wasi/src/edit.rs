//! Changing a PFS by paths. Nothing here lasts before the session commits.

use farrier_core::error::Error;
use farrier_core::fs::{
    Attributes, Clash, Create, LastLink, Link, Lookup, New, Pfs, Rename, Resolve, SetAttributes,
    Unlink, Victim, Write,
};
use farrier_core::units::Inum;

use crate::clock::now;
use crate::session::Session;

/// A PFS that is open for writing.
///
/// What is made belongs to 0 and 0: preview 1 knows no owners.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit<'a> {
    session: &'a Session,
    pfs: Pfs,
}

impl<'a> Edit<'a> {
    pub(crate) const fn new(session: &'a Session, pfs: Pfs) -> Self {
        Self { session, pfs }
    }

    pub(crate) const fn session(&self) -> &'a Session {
        self.session
    }

    pub(crate) const fn pfs(&self) -> &Pfs {
        &self.pfs
    }

    /// What `path` leads to, through the links in it.
    pub(crate) fn resolve(&self, path: &[u8]) -> Result<Attributes, Error> {
        let resolve = Resolve { pfs: self.pfs, path: path.to_vec(), last_link: LastLink::Follow };
        self.session.run(&resolve).map(|found| found.attributes)
    }

    /// The directory that the last name of `path` is in, and that name. Slashes at its end are
    /// left out; the root has no name.
    pub(crate) fn parent(&self, path: &[u8]) -> Result<(Inum, Vec<u8>), Error> {
        let len = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let path = &path[..len];
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (parent, name) = path.split_at(start);
        match name {
            b"" => Err(Error::Busy),
            b"." | b".." => Err(Error::InvalidArgument),
            name => Ok((self.resolve(parent)?.inum, name.to_vec())),
        }
    }

    /// Makes something new; it may not be there yet.
    pub(crate) fn create(&self, path: &[u8], new: New, mode: u32) -> Result<Attributes, Error> {
        let (directory, name) = self.parent(path).map_err(|error| match error {
            Error::Busy => Error::Exists,
            error => error,
        })?;
        self.create_in(directory, &name, new, mode)
    }

    pub(crate) fn create_in(
        &self,
        directory: Inum,
        name: &[u8],
        new: New,
        mode: u32,
    ) -> Result<Attributes, Error> {
        let (pfs, name) = (self.pfs, name.to_vec());
        self.session.change(&Create { pfs, directory, name, new, mode, uid: 0, gid: 0, now: now() })
    }

    /// Writes at `offset`, or behind the end.
    pub(crate) fn write(&self, inum: Inum, offset: Option<u64>, bytes: &[u8]) -> Result<(), Error> {
        let write = Write { pfs: self.pfs, inum, offset, bytes, now: now() };
        self.session.change(&write).map(drop)
    }

    pub(crate) fn set(
        &self,
        inum: Inum,
        what: impl FnOnce(&mut SetAttributes),
    ) -> Result<(), Error> {
        let mut set = SetAttributes::new(self.pfs, inum, now());
        what(&mut set);
        self.session.change(&set).map(drop)
    }

    pub(crate) fn rename(&self, path: &[u8], new: &[u8]) -> Result<(), Error> {
        let (directory, name) = self.parent(path)?;
        let (new_directory, new_name) = self.parent(new)?;
        let rename = Rename {
            pfs: self.pfs,
            directory,
            name,
            new_directory,
            new_name,
            clash: Clash::Replace,
            keep: false,
            now: now(),
        };
        self.session.change(&rename).map(drop)
    }

    pub(crate) fn link(&self, path: &[u8], new: &[u8]) -> Result<(), Error> {
        let (directory, name) = self.parent(path)?;
        let found = self.session.run(&Lookup { pfs: self.pfs, directory, name })?;
        let (directory, name) = self.parent(new)?;
        let link = Link { pfs: self.pfs, inum: found.inum, directory, name, now: now() };
        self.session.change(&link).map(drop)
    }

    pub(crate) fn unlink(&self, path: &[u8], victim: Victim) -> Result<(), Error> {
        let (directory, name) = self.parent(path)?;
        self.unlink_in(directory, &name, victim)
    }

    pub(crate) fn unlink_in(
        &self,
        directory: Inum,
        name: &[u8],
        victim: Victim,
    ) -> Result<(), Error> {
        let (pfs, name) = (self.pfs, name.to_vec());
        let unlink = Unlink { pfs, directory, name, victim, keep: false, now: now() };
        self.session.change(&unlink).map(drop)
    }
}
