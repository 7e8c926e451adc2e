//! Copying out of a tree into the system's files: contents, holes, times, modes, links, and for
//! root owners and device nodes.
//!
//! Invariants:
//! * What is copied never leaves the destination: every name is made relative to the open directory
//!   above it, and links in the way are not followed.
//! * One thing that cannot be copied keeps nothing else from being copied: it is told, counted, and
//!   the work goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use farrier_core::error::Error;
use farrier_core::fs::{Attributes, Extent, ReadAhead, SeekTarget};
use farrier_core::media::FILE_BLOCK_LEN;
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::{Inum, WallTime};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::tree::Tree;

/// Directories inside each other; each holds a file descriptor while it is copied.
const DEPTH_MAX: usize = 512;
/// Bytes that are read in one go.
const STEP: usize = 1 << 20;
/// Linux's device numbers have 12 and 20 bits.
const MAJOR_MAX: u32 = 0xfff;
const MINOR_MAX: u32 = 0xf_ffff;

/// What a copy tells while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// Work on this object begins; its path within the destination.
    Begin(&'a Path),
    /// This many bytes were written.
    Bytes(u64),
    /// Something could not be copied: its path, and why.
    Failed(&'a Path, String),
}

/// What a copy came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Copied {
    /// Objects made.
    pub objects: u64,
    /// Bytes written; holes are none.
    pub bytes: u64,
    /// Things that could not be copied.
    pub failures: u64,
}

/// A copy under way.
struct Copy<'a> {
    tree: &'a Tree,
    is_root: bool,
    tell: &'a mut dyn FnMut(Event<'_>),
    base: OwnedFd,
    /// Files with several names, and the first of them, relative to `base`.
    links: BTreeMap<Inum, PathBuf>,
    /// Directories that are copied: a second name for one would lead round in a circle.
    directories: BTreeSet<Inum>,
    copied: Copied,
}

/// Copies `source` as `name` into the directory `base`, with all below it. A directory of that name
/// may be there already and is added to; nothing else that is there is touched.
///
/// # Errors
/// `base` cannot be opened. Everything else is told and counted.
pub fn copy_out(
    tree: &Tree,
    source: &Attributes,
    base: &Path,
    name: &OsStr,
    tell: &mut dyn FnMut(Event<'_>),
) -> std::io::Result<Copied> {
    let mut copy = Copy {
        tree,
        is_root: rustix::process::geteuid().is_root(),
        tell,
        base: open_directory(CWD, base.as_os_str(), OFlags::empty())?,
        links: BTreeMap::new(),
        directories: BTreeSet::new(),
        copied: Copied::default(),
    };
    let directory = copy.base.try_clone()?;
    copy.object(&directory, Path::new(""), name, source, 0);
    Ok(copy.copied)
}

fn open_directory(
    at: impl std::os::fd::AsFd,
    name: &OsStr,
    more: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | more;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Why one object was not copied.
struct Fault(String);

impl From<Errno> for Fault {
    fn from(error: Errno) -> Self {
        Self(match error {
            Errno::EXIST => "is there already; name another destination".to_owned(),
            Errno::NOSPC => "no space left on the destination".to_owned(),
            other => other.to_string(),
        })
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        error
            .raw_os_error()
            .map_or_else(|| Self(error.to_string()), |code| Errno::from_raw_os_error(code).into())
    }
}

impl Copy<'_> {
    /// Copies one object, and what is below it.
    fn object(
        &mut self,
        directory: &OwnedFd,
        parent: &Path,
        name: &OsStr,
        attributes: &Attributes,
        depth: usize,
    ) {
        let path = parent.join(name);
        (self.tell)(Event::Begin(&path));
        let made = match attributes.kind {
            ObjectKind::Directory => self.directory(directory, &path, name, attributes, depth),
            _ => self.leaf(directory, &path, name, attributes),
        };
        match made {
            Ok(()) => self.copied.objects += 1,
            Err(Fault(text)) => self.failed(&path, text),
        }
    }

    fn failed(&mut self, path: &Path, text: String) {
        self.copied.failures += 1;
        (self.tell)(Event::Failed(path, text));
    }

    fn read_fault(&self, error: &Error) -> Fault {
        Fault(self.tree.image().blocks().explain(error))
    }

    fn directory(
        &mut self,
        above: &OwnedFd,
        path: &Path,
        name: &OsStr,
        attributes: &Attributes,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth >= DEPTH_MAX {
            return Err(Fault(format!("deeper than {DEPTH_MAX} directories; copy it by itself")));
        }
        if !self.directories.insert(attributes.inum) {
            return Err(Fault("a directory with a second name, or below itself".to_owned()));
        }
        let listing =
            self.tree.list(attributes.inum, true).map_err(|error| self.read_fault(&error))?;
        match rustix::fs::mkdirat(above, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let directory =
            open_directory(above, name, OFlags::NOFOLLOW).map_err(|error| match error {
                Errno::NOTDIR | Errno::LOOP => Errno::EXIST,
                other => other,
            })?;
        for error in &listing.broken {
            let Fault(text) = self.read_fault(error);
            self.failed(path, text);
        }
        for entry in listing.entries {
            let name = OsStr::from_bytes(&entry.name);
            match entry.attributes {
                Some(Ok(attributes)) => self.object(&directory, path, name, &attributes, depth + 1),
                Some(Err(error)) => {
                    let Fault(text) = self.read_fault(&error);
                    self.failed(&path.join(name), text);
                }
                None => {}
            }
        }
        // Last, for what is put into a directory changes its time, and its mode may forbid it.
        self.finish(&directory, attributes)
    }

    /// Owner, mode and times of an open file or directory.
    fn finish(&self, file: &OwnedFd, attributes: &Attributes) -> Result<(), Fault> {
        if self.is_root {
            rustix::fs::fchown(file, uid(attributes), gid(attributes))?;
        }
        rustix::fs::fchmod(file, self.mode(attributes))?;
        Ok(rustix::fs::futimens(file, &times(attributes))?)
    }

    /// Set-id bits speak of an owner, which only root can give.
    fn mode(&self, attributes: &Attributes) -> Mode {
        let kept = if self.is_root { 0o7777 } else { 0o1777 };
        Mode::from_bits_truncate(attributes.mode & kept)
    }

    fn leaf(
        &mut self,
        directory: &OwnedFd,
        path: &Path,
        name: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        if let Some(first) = self.links.get(&attributes.inum) {
            return Ok(rustix::fs::linkat(&self.base, first, directory, name, AtFlags::empty())?);
        }
        match attributes.kind {
            ObjectKind::Regular => self.file(directory, path, name, attributes)?,
            ObjectKind::Symlink => {
                let target = self
                    .tree
                    .read_link(attributes.inum)
                    .map_err(|error| self.read_fault(&error))?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), directory, name)?;
                self.finish_by_name(directory, name, attributes)?;
            }
            _ => self.special(directory, name, attributes)?,
        }
        if attributes.nlinks > 1 {
            self.links.insert(attributes.inum, path.to_owned());
        }
        Ok(())
    }

    fn special(
        &self,
        directory: &OwnedFd,
        name: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        let kind = match attributes.kind {
            ObjectKind::Fifo => FileType::Fifo,
            ObjectKind::Socket => FileType::Socket,
            ObjectKind::CharDevice if self.is_root => FileType::CharacterDevice,
            ObjectKind::BlockDevice if self.is_root => FileType::BlockDevice,
            ObjectKind::CharDevice | ObjectKind::BlockDevice => {
                return Err(Fault("only root can make device nodes".to_owned()));
            }
            _ => return Err(Fault("Linux has nothing of this kind".to_owned())),
        };
        let (major, minor) = attributes.device;
        if major > MAJOR_MAX || minor > MINOR_MAX {
            return Err(Fault(format!("Linux has no device number {major}, {minor}")));
        }
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(directory, name, kind, Mode::RUSR | Mode::WUSR, device)?;
        self.finish_by_name(directory, name, attributes)?;
        // mknod has just made a node of that name, so there is no link to be followed.
        Ok(rustix::fs::chmodat(directory, name, self.mode(attributes), AtFlags::empty())?)
    }

    /// Owner and times of what must not be opened.
    fn finish_by_name(
        &self,
        directory: &OwnedFd,
        name: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        let link = AtFlags::SYMLINK_NOFOLLOW;
        if self.is_root {
            rustix::fs::chownat(directory, name, uid(attributes), gid(attributes), link)?;
        }
        Ok(rustix::fs::utimensat(directory, name, &times(attributes), link)?)
    }

    fn file(
        &mut self,
        directory: &OwnedFd,
        path: &Path,
        name: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = File::from(rustix::fs::openat(directory, name, flags, mode)?);
        // What is not written stays a hole.
        file.set_len(attributes.size)?;
        self.contents(&file, path, attributes)?;
        self.finish(&file.into(), attributes)
    }

    fn contents(&mut self, file: &File, path: &Path, attributes: &Attributes) -> Result<(), Fault> {
        let mut ahead = ReadAhead::default();
        let mut offset = 0;
        while offset < attributes.size {
            match self.tree.seek(attributes.inum, offset, SeekTarget::Data) {
                Ok(Some(data)) => offset = data,
                Ok(None) => break,
                // The read that follows tells which part is damaged.
                Err(_) => {}
            }
            let len = match self.tree.read(attributes.inum, offset, STEP, &mut ahead) {
                Ok(extents) => self.write(file, offset, &extents)?,
                Err(_) => self.salvage(file, path, attributes, offset)?,
            };
            if len == 0 {
                break;
            }
            offset += len;
        }
        Ok(())
    }

    /// Goes block by block through a stretch that cannot be read as a whole; what cannot be had
    /// stays a hole.
    fn salvage(
        &mut self,
        file: &File,
        path: &Path,
        attributes: &Attributes,
        start: u64,
    ) -> Result<u64, Fault> {
        let end = attributes.size.min(start.saturating_add(STEP as u64));
        let mut offset = start;
        while offset < end {
            let block_end = (offset / FILE_BLOCK_LEN + 1).saturating_mul(FILE_BLOCK_LEN).min(end);
            // at most one block
            let len = usize::try_from(block_end - offset).unwrap_or(0);
            match self.tree.read(attributes.inum, offset, len, &mut ReadAhead::default()) {
                Ok(extents) => {
                    self.write(file, offset, &extents)?;
                }
                Err(error) => {
                    let Fault(text) = self.read_fault(&error);
                    self.failed(path, format!("bytes {offset} to {block_end} are lost: {text}"));
                }
            }
            offset = block_end;
        }
        Ok(end - start)
    }

    fn write(&mut self, file: &File, offset: u64, extents: &[Extent]) -> Result<u64, Fault> {
        let mut at = offset;
        for extent in extents {
            if let Extent::Bytes(block, range) = extent {
                file.write_all_at(&block[range.clone()], at)?;
                self.copied.bytes += extent.len() as u64;
                (self.tell)(Event::Bytes(extent.len() as u64));
            }
            at += extent.len() as u64;
        }
        Ok(at - offset)
    }
}

fn uid(attributes: &Attributes) -> Option<Uid> {
    // the highest number means "leave it" to the system call
    (attributes.uid != u32::MAX).then(|| Uid::from_raw(attributes.uid))
}

fn gid(attributes: &Attributes) -> Option<Gid> {
    (attributes.gid != u32::MAX).then(|| Gid::from_raw(attributes.gid))
}

fn times(attributes: &Attributes) -> Timestamps {
    Timestamps {
        last_access: timespec(attributes.atime),
        last_modification: timespec(attributes.mtime),
    }
}

fn timespec(time: WallTime) -> Timespec {
    Timespec { tv_sec: time.seconds(), tv_nsec: time.nanoseconds().into() }
}
