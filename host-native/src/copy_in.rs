//! Copying files and directories into a volume that is not mounted.
//!
//! Keeps times, modes, owners, symbolic links, hard links among what is copied, holes of 64 KiB,
//! fifos, sockets and device nodes. What is there already stays: nothing is overwritten, but
//! directories are filled up. What cannot be copied is told and left out.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use farrier_core::drive::ready;
use farrier_core::error::Error;
use farrier_core::fs::{Create, Link, Lookup, New, SetAttributes, Write};
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::{Inum, WallTime};

use crate::control::{Actions, Offline, now};

/// Bytes that are copied in one piece.
const PIECE_LEN: usize = 1 << 20;
/// Zeros of this length at their place become a hole.
const BLOCK_LEN: usize = 64 << 10;
/// Directories in each other that are followed.
const DEPTH_MAX: usize = 1000;

/// What came of copying.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CopiedIn {
    /// Things copied.
    pub copied: u64,
    /// Things that could not be copied; each was told.
    pub failures: u64,
}

/// Copies `source` into `directory` of the volume under `name`.
///
/// # Errors
/// The volume failed: there is no point in going on.
pub fn copy_in(
    volume: &Offline,
    source: &Path,
    directory: Inum,
    name: &[u8],
    tell: &mut dyn FnMut(&Path, &str),
) -> Result<CopiedIn, Error> {
    let mut copy = CopyIn { volume, links: HashMap::new(), done: CopiedIn::default(), tell };
    copy.any(source, directory, name, 0)?;
    Ok(copy.done)
}

struct CopyIn<'v> {
    volume: &'v Offline,
    /// Inodes of files with several names, by what they are in the source.
    links: HashMap<(u64, u64), Inum>,
    done: CopiedIn,
    tell: &'v mut dyn FnMut(&Path, &str),
}

/// Why one thing could not be copied.
enum Fault {
    /// The source said so.
    Source(io::Error),
    /// The volume said so.
    Volume(Error),
    /// Something is in the way.
    Clash(&'static str),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Source(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Volume(error)
    }
}

impl CopyIn<'_> {
    fn any(
        &mut self,
        source: &Path,
        directory: Inum,
        name: &[u8],
        depth: usize,
    ) -> Result<(), Error> {
        match self.try_any(source, directory, name, depth) {
            Ok(()) => self.done.copied += 1,
            Err(Fault::Volume(error @ (Error::Device(_) | Error::ReadOnly | Error::NoSpace))) => {
                return Err(error);
            }
            Err(fault) => {
                let text = match fault {
                    Fault::Source(error) => error.to_string(),
                    Fault::Volume(error) => error.to_string(),
                    Fault::Clash(text) => text.to_owned(),
                };
                (self.tell)(source, &text);
                self.done.failures += 1;
            }
        }
        Ok(())
    }

    fn try_any(
        &mut self,
        source: &Path,
        directory: Inum,
        name: &[u8],
        depth: usize,
    ) -> Result<(), Fault> {
        let metadata = fs::symlink_metadata(source)?;
        let identity = (metadata.dev(), metadata.ino());
        let is_linked = metadata.nlink() > 1 && !metadata.is_dir();
        if let Some(inum) = self.links.get(&identity).filter(|_| is_linked) {
            let (pfs, inum) = (self.volume.pfs(), *inum);
            let link = Link { pfs, inum, directory, name: name.to_vec(), now: now() };
            ready(self.volume.solo().change(&link))?;
            return Ok(());
        }
        let inum = self.make(source, &metadata, directory, name)?;
        if is_linked {
            self.links.insert(identity, inum);
        }
        if metadata.is_dir() {
            if depth >= DEPTH_MAX {
                return Err(Fault::Clash("too many directories in each other"));
            }
            let mut names: Vec<_> = fs::read_dir(source)?.collect::<Result<_, _>>()?;
            names.sort_by_key(fs::DirEntry::file_name);
            for entry in names {
                self.any(&entry.path(), inum, entry.file_name().as_bytes(), depth + 1)?;
            }
        } else if metadata.is_file() {
            self.contents(source, inum)?;
        }
        self.times(inum, &metadata)?;
        Ok(())
    }

    /// Makes the inode; a directory that is there already is taken as it is.
    fn make(
        &self,
        source: &Path,
        metadata: &Metadata,
        directory: Inum,
        name: &[u8],
    ) -> Result<Inum, Fault> {
        let pfs = self.volume.pfs();
        let create = Create {
            pfs,
            directory,
            name: name.to_vec(),
            new: what(source, metadata)?,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            now: now(),
        };
        match ready(self.volume.solo().change(&create)) {
            Ok(made) => Ok(made.inum),
            Err(Error::Exists) => {
                let lookup = Lookup { pfs, directory, name: name.to_vec() };
                let there = ready(self.volume.solo().run(&lookup))?;
                if metadata.is_dir() && there.kind == ObjectKind::Directory {
                    Ok(there.inum)
                } else {
                    Err(Fault::Clash("is there already, and nothing is overwritten"))
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn contents(&self, source: &Path, inum: Inum) -> Result<(), Fault> {
        let (pfs, now) = (self.volume.pfs(), now());
        let mut file = File::open(source)?;
        let mut piece = vec![0; PIECE_LEN];
        let mut offset = 0;
        loop {
            let got = read_full(&mut file, &mut piece)?;
            for (number, block) in piece[..got].chunks(BLOCK_LEN).enumerate() {
                if block.iter().all(|byte| *byte == 0) {
                    continue;
                }
                let at = offset + (number * BLOCK_LEN) as u64;
                let write = Write { pfs, inum, offset: Some(at), bytes: block, now };
                ready(self.volume.solo().change(&write))?;
            }
            offset += got as u64;
            if got < PIECE_LEN {
                break;
            }
        }
        // it may end in a hole, or have changed under way
        let size = Some(offset);
        let resize = SetAttributes { size, ..SetAttributes::new(pfs, inum, now) };
        ready(self.volume.solo().change(&resize))?;
        Ok(())
    }

    fn times(&self, inum: Inum, metadata: &Metadata) -> Result<(), Fault> {
        let mut change = SetAttributes::new(self.volume.pfs(), inum, now());
        change.atime = Some(time(metadata.atime(), metadata.atime_nsec()));
        change.mtime = Some(time(metadata.mtime(), metadata.mtime_nsec()));
        ready(self.volume.solo().change(&change))?;
        Ok(())
    }
}

fn what(source: &Path, metadata: &Metadata) -> Result<New, Fault> {
    let kind = metadata.file_type();
    let device = metadata.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(match () {
        () if kind.is_file() => New::File,
        () if kind.is_dir() => New::Directory,
        () if kind.is_symlink() => {
            New::Symlink(fs::read_link(source)?.as_os_str().as_bytes().to_vec())
        }
        () if kind.is_fifo() => New::Fifo,
        () if kind.is_socket() => New::Socket,
        () if kind.is_char_device() => New::CharDevice(major, minor),
        () if kind.is_block_device() => New::BlockDevice(major, minor),
        () => return Err(Fault::Clash("a kind of file that has no place in HAMMER2")),
    })
}

fn time(seconds: i64, nanoseconds: i64) -> WallTime {
    let micros = seconds.wrapping_mul(1_000_000).wrapping_add(nanoseconds / 1000);
    WallTime(micros.cast_unsigned())
}

/// As much as there is, up to the whole buffer.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
