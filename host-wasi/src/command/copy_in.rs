//! `copy-in`: files and trees of the sandbox, written into the volume.
//!
//! Whatever is there already stays as it is: every file and directory is made anew. Links below
//! what was named are copied as links.
//!
//! What a sandbox tells of a file is its contents, its time of change, and where links point to. It
//! tells no mode and no owner: files get the mode 0644, directories 0755, and all belong to 0.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::vec;

use farrier_core::error::Error;
use farrier_core::fs::{New, Victim};
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::{Inum, WallTime};
use farrier_wasi::report::{Copied, Report};

use crate::clock::wall_time;
use crate::edit::Edit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{absolute, join};

/// Bytes that are copied at once: a multiple of a file's block.
const WRITE_LEN: usize = 1 << 20;
/// A block of a file: where it is all zeros, it is left out.
const BLOCK_LEN: usize = 64 << 10;

const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
const LINK_MODE: u32 = 0o777;

pub(super) fn run(
    edit: Edit<'_>,
    sources: &[String],
    path: &[u8],
    output: &mut Output,
) -> Result<(), Failure> {
    let mut copy = Copy { edit, copied: Copied::default() };
    let target = match edit.resolve(path) {
        Ok(found) if found.kind == ObjectKind::Directory => Target::Into(found.inum),
        Ok(_) => return Err(copy.fail(path, "is there already, and nothing is overwritten")),
        Err(Error::NoEntry) if sources.len() == 1 => Target::New,
        Err(Error::NoEntry) => {
            return Err(copy.fail(path, "no such directory to copy several sources into"));
        }
        Err(error) => return Err(edit.session().failure(Failure::from(error).at(path))),
    };
    for source in sources {
        match copy.source(source, &absolute(path), &target, output) {
            Ok(()) => {}
            // there is no point in going on, but what was copied so far is worth keeping
            Err(Stop::All(failure)) => {
                output.fault(&failure);
                break;
            }
            Err(Stop::One(failure)) => output.fault(&failure),
        }
    }
    edit.session().commit().map_err(|error| edit.session().failure(error))?;
    let Copied { files, directories, links, bytes } = copy.copied;
    output.report(&Report::Copied(copy.copied), |out| {
        writeln!(
            out,
            "{files} files with {bytes} bytes, {directories} directories, {links} links copied"
        )
    })
}

/// Where a source goes.
enum Target {
    /// Into this directory, under its own name.
    Into(Inum),
    /// It gets the name that the command line says.
    New,
}

/// What ends with a failure.
enum Stop {
    /// The copy of this one.
    One(Failure),
    /// All of it: the volume is full, or its device failed.
    All(Failure),
}

struct Copy<'a> {
    edit: Edit<'a>,
    copied: Copied,
}

/// A directory whose contents are being copied.
struct Level {
    entries: vec::IntoIter<OsString>,
    source: PathBuf,
    path: Vec<u8>,
    inum: Inum,
    mtime: Option<WallTime>,
}

impl Copy<'_> {
    /// Something that the command line names.
    fn source(
        &mut self,
        source: &str,
        path: &[u8],
        target: &Target,
        output: &mut Output,
    ) -> Result<(), Stop> {
        let own_name = own_name(source);
        let source = Path::new(source);
        let about = fs::metadata(source).map_err(|error| outside(source, &error))?;
        let (parent, path, name) = match (target, own_name) {
            (Target::New, _) => {
                let (parent, name) =
                    self.edit.parent(path).map_err(|error| self.stop(path, error))?;
                (parent, path.to_vec(), name)
            }
            (Target::Into(inum), Some(name)) => {
                let name = name.as_encoded_bytes().to_vec();
                (*inum, join(path, &name), name)
            }
            // what is in it is meant
            (Target::Into(inum), None) => {
                let level = self.open(source, path.to_vec(), *inum, None)?;
                return self.tree(level, output);
            }
        };
        if !about.is_dir() {
            return self.leaf(source, &about, &path, parent, &name);
        }
        let inum = self.directory(&path, parent, &name)?;
        let level = self.open(source, path, inum, modified(&about))?;
        self.tree(level, output)
    }

    fn tree(&mut self, level: Level, output: &mut Output) -> Result<(), Stop> {
        let mut levels = vec![level];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.entries.next() else {
                // only now: whatever is made in a directory changes its time
                if let Some(mtime) = level.mtime {
                    let set = self.edit.set(level.inum, |set| set.mtime = Some(mtime));
                    set.map_err(|error| self.stop(&level.path, error))?;
                }
                levels.pop();
                continue;
            };
            let source = level.source.join(&name);
            let path = join(&level.path, name.as_encoded_bytes());
            match self.entry(&source, path, level.inum, name.as_encoded_bytes()) {
                Ok(None) => {}
                Ok(Some(below)) => levels.push(below),
                Err(Stop::One(failure)) => output.fault(&failure),
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// One name of a directory; a directory of it is returned, to be gone through next.
    fn entry(
        &mut self,
        source: &Path,
        path: Vec<u8>,
        parent: Inum,
        name: &[u8],
    ) -> Result<Option<Level>, Stop> {
        let about = fs::symlink_metadata(source).map_err(|error| outside(source, &error))?;
        if !about.is_dir() {
            return self.leaf(source, &about, &path, parent, name).map(|()| None);
        }
        let inum = self.directory(&path, parent, name)?;
        self.open(source, path, inum, modified(&about)).map(Some)
    }

    fn open(
        &self,
        source: &Path,
        path: Vec<u8>,
        inum: Inum,
        mtime: Option<WallTime>,
    ) -> Result<Level, Stop> {
        let names = fs::read_dir(source).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect()
        });
        let mut names: Vec<OsString> = names.map_err(|error| outside(source, &error))?;
        names.sort();
        Ok(Level { entries: names.into_iter(), source: source.to_owned(), path, inum, mtime })
    }

    fn directory(&mut self, path: &[u8], parent: Inum, name: &[u8]) -> Result<Inum, Stop> {
        let made = self.edit.create_in(parent, name, New::Directory, DIRECTORY_MODE);
        let made = made.map_err(|error| self.stop(path, error))?;
        self.copied.directories += 1;
        Ok(made.inum)
    }

    /// Anything but a directory.
    fn leaf(
        &mut self,
        source: &Path,
        about: &Metadata,
        path: &[u8],
        parent: Inum,
        name: &[u8],
    ) -> Result<(), Stop> {
        if about.is_symlink() {
            let target = fs::read_link(source).map_err(|error| outside(source, &error))?;
            let target = target.into_os_string().into_encoded_bytes();
            let made = self.edit.create_in(parent, name, New::Symlink(target), LINK_MODE);
            let made = made.map_err(|error| self.stop(path, error))?;
            self.copied.links += 1;
            return self.set_time(path, made.inum, modified(about));
        }
        if !about.is_file() {
            let text = "is neither a file, a directory nor a link; not copied";
            return Err(Stop::One(Failure::new(text).in_file(&source.to_string_lossy())));
        }
        let file = File::open(source).map_err(|error| outside(source, &error))?;
        let made = self.edit.create_in(parent, name, New::File, FILE_MODE);
        let inum = made.map_err(|error| self.stop(path, error))?.inum;
        let copied = self.contents(file, source, path, inum);
        let copied = copied.and_then(|len| {
            self.copied.files += 1;
            self.copied.bytes += len;
            self.set_time(path, inum, modified(about))
        });
        if copied.is_err() {
            // a part of a file is not a copy; if it cannot go, the failure is told all the same
            let _ = self.edit.unlink_in(parent, name, Victim::File);
        }
        copied
    }

    /// Copies what is in `file`; the result is its length.
    fn contents(
        &self,
        mut file: File,
        source: &Path,
        path: &[u8],
        inum: Inum,
    ) -> Result<u64, Stop> {
        let mut buffer = Vec::with_capacity(WRITE_LEN);
        let mut offset = 0;
        loop {
            buffer.clear();
            let read = Read::by_ref(&mut file).take(WRITE_LEN as u64).read_to_end(&mut buffer);
            read.map_err(|error| outside(source, &error))?;
            if buffer.is_empty() {
                break;
            }
            for (start, bytes) in stretches(&buffer) {
                let written = self.edit.write(inum, Some(offset + start as u64), bytes);
                written.map_err(|error| self.stop(path, error))?;
            }
            offset += buffer.len() as u64;
        }
        // it may end in a hole
        let sized = self.edit.set(inum, |set| set.size = Some(offset));
        sized.map_err(|error| self.stop(path, error))?;
        Ok(offset)
    }

    fn set_time(&self, path: &[u8], inum: Inum, mtime: Option<WallTime>) -> Result<(), Stop> {
        let set = self.edit.set(inum, |set| set.mtime = mtime);
        set.map_err(|error| self.stop(path, error))
    }

    fn stop(&self, path: &[u8], error: Error) -> Stop {
        match error {
            Error::Exists => {
                Stop::One(self.fail(path, "is there already, and nothing is overwritten"))
            }
            Error::NoSpace | Error::ReadOnly | Error::Device(_) => {
                Stop::All(self.edit.session().failure(Failure::from(error).at(path)))
            }
            error => Stop::One(self.edit.session().failure(Failure::from(error).at(path))),
        }
    }

    fn fail(&self, path: &[u8], text: &str) -> Failure {
        self.edit.session().failure(Failure::new(text).at(path))
    }
}

/// The last name of `source`. One that ends in `.` has none, nor have the root and `..`.
fn own_name(source: &str) -> Option<&OsStr> {
    let without_slash = source.trim_end_matches('/');
    let is_nameless = without_slash == "." || without_slash.ends_with("/.");
    if is_nameless { None } else { Path::new(source).file_name() }
}

/// The parts of `bytes` that hold something, as runs of whole blocks, each with where it starts.
fn stretches(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let mut at = 0;
    std::iter::from_fn(move || {
        let from =
            at + bytes[at..].chunks(BLOCK_LEN).take_while(|b| is_zero(b)).count() * BLOCK_LEN;
        let rest = bytes.get(from..).filter(|rest| !rest.is_empty())?;
        let blocks = rest.chunks(BLOCK_LEN).take_while(|block| !is_zero(block)).count();
        let found = &rest[..rest.len().min(blocks * BLOCK_LEN)];
        at = from + found.len();
        Some((from, found))
    })
}

fn outside(source: &Path, error: &io::Error) -> Stop {
    Stop::One(Failure::file(&source.to_string_lossy(), error))
}

/// When it was changed, if the sandbox tells.
fn modified(about: &Metadata) -> Option<WallTime> {
    about.modified().ok().map(wall_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_in_a_dot_has_no_name() {
        for (source, name) in [("a/b", "b"), ("a/b/", "b"), ("b", "b"), ("./b", "b"), ("b.", "b.")]
        {
            assert_eq!(own_name(source), Some(OsStr::new(name)), "{source}");
        }
        assert!(
            [".", "./", "a/.", "a/./", "/", "..", "a/.."]
                .into_iter()
                .all(|s| own_name(s).is_none())
        );
    }

    #[test]
    fn blocks_of_zeros_are_left_out() {
        let mut bytes = vec![0; 5 * BLOCK_LEN + 7];
        let found = |bytes: &[u8]| -> Vec<_> {
            stretches(bytes).map(|(start, bytes)| (start, bytes.len())).collect()
        };
        assert_eq!(found(&bytes), []);
        assert_eq!(found(&[]), []);
        bytes[BLOCK_LEN] = 1;
        bytes[3 * BLOCK_LEN - 1] = 1;
        bytes[5 * BLOCK_LEN + 6] = 1;
        assert_eq!(found(&bytes), [(BLOCK_LEN, 2 * BLOCK_LEN), (5 * BLOCK_LEN, 7)]);
        bytes.fill(1);
        assert_eq!(found(&bytes), [(0, bytes.len())]);
    }
}
