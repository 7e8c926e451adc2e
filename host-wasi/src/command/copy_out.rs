//! `copy-out`: a file or a tree, written below a directory that the sandbox may write to.
//!
//! Whatever is there already stays as it is: every file and directory is made anew, so names of a
//! hostile volume cannot lead the copy through links that it has just written.
//!
//! What a sandbox can make of a file is its contents, holes and time of change, links and
//! directories. It can set no owner, mode or device, and knows names in UTF-8 only.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use farrier_core::error::Error;
use farrier_core::fs::read::{Extent, Read};
use farrier_core::fs::{Attributes, Pfs, Seek as SeekOperation, SeekTarget};
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::WallTime;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Session, absolute};
use crate::walk::{Step, Walk};

/// Bytes that are copied at once: a multiple of a file's block, so that no block is read twice.
const READ_LEN: usize = 1 << 20;

pub(super) fn run(
    session: &Session,
    pfs: &Pfs,
    path: &[u8],
    destination: &str,
    output: &mut Output,
) -> Result<(), Failure> {
    let copy = Copy { session, pfs };
    let source = session.resolve(pfs, path, true)?;
    let root = absolute(path);
    let target = copy.target(&root, destination)?;
    if source.kind != ObjectKind::Directory {
        return copy.leaf(&root, &source, &target);
    }
    if !target.is_dir() || root != b"/" {
        copy.directory(&target)?;
    }
    copy.tree(root, &source, target, output);
    Ok(())
}

struct Copy<'a> {
    session: &'a Session,
    pfs: &'a Pfs,
}

impl Copy<'_> {
    /// What the copy will be called: `destination`, or if that is a directory a name in it.
    fn target(&self, root: &[u8], destination: &str) -> Result<PathBuf, Failure> {
        let destination = PathBuf::from(destination);
        let name = root.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if name.is_empty() || !destination.is_dir() {
            return Ok(destination);
        }
        Ok(destination.join(self.name(root, name)?))
    }

    /// A name as the sandbox takes it.
    fn name<'n>(&self, path: &[u8], name: &'n [u8]) -> Result<&'n str, Failure> {
        let text = str::from_utf8(name);
        text.map_err(|_| self.fail(path, "its name is not UTF-8, which WASI asks for; not copied"))
    }

    fn tree(&self, root: Vec<u8>, source: &Attributes, target: PathBuf, output: &mut Output) {
        let mut directories = vec![(target, source.mtime)];
        let mut walk = Walk::new(self.session, self.pfs, root, source.inum)
            .with_attributes(true)
            .recursive(true);
        while let Some(step) = walk.next() {
            match step {
                Step::Fault(fault) => output.fault(&fault),
                // only now: whatever is made in a directory changes its time
                Step::Leave => {
                    if let Some((directory, mtime)) = directories.pop()
                        && let Err(failure) = set_directory_time(&directory, mtime)
                    {
                        output.fault(&failure);
                    }
                }
                Step::Entry { path, entry, .. } => {
                    // where they are missing, the walk has said why
                    let Some(Ok(attributes)) = entry.attributes else {
                        walk.stay_out();
                        continue;
                    };
                    let Some((directory, _)) = directories.last() else {
                        return;
                    };
                    let copied = self.name(&path, &entry.name).and_then(|name| {
                        let target = directory.join(name);
                        match entry.kind {
                            ObjectKind::Directory => self.directory(&target).map(|()| Some(target)),
                            _ => self.leaf(&path, &attributes, &target).map(|()| None),
                        }
                    });
                    match copied {
                        Ok(None) => {}
                        Ok(Some(target)) => directories.push((target, attributes.mtime)),
                        Err(failure) => {
                            walk.stay_out();
                            output.fault(&failure);
                        }
                    }
                }
            }
        }
    }

    fn directory(&self, target: &Path) -> Result<(), Failure> {
        fs::create_dir(target).map_err(|error| outside(target, &error))
    }

    /// Anything but a directory.
    fn leaf(&self, path: &[u8], attributes: &Attributes, target: &Path) -> Result<(), Failure> {
        match attributes.kind {
            ObjectKind::Regular => self.file(path, attributes, target),
            ObjectKind::Symlink => {
                let link = self.session.read_link(self.pfs, attributes.inum);
                let link = link.map_err(|error| self.fail(path, &error.to_string()))?;
                let link = str::from_utf8(&link).map_err(|_| {
                    self.fail(path, "its target is not UTF-8, which WASI asks for; not copied")
                })?;
                make_link(link, target).map_err(|error| {
                    if link.starts_with('/') {
                        self.fail(
                            path,
                            "the sandbox makes no link with an absolute target; not copied",
                        )
                    } else {
                        outside(target, &error)
                    }
                })
            }
            kind => {
                let text = format!("a {} cannot be made inside a sandbox; not copied", kind.name());
                Err(self.fail(path, &text))
            }
        }
    }

    fn file(&self, path: &[u8], attributes: &Attributes, target: &Path) -> Result<(), Failure> {
        let outside = |error: io::Error| outside(target, &error);
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(target).map_err(outside)?;
        let mut offset = 0;
        loop {
            let read =
                Read { pfs: *self.pfs, inum: attributes.inum, offset, len: READ_LEN, ahead: 0 };
            let extents = self.session.run(&read);
            let extents = extents.map_err(|error| self.fail(path, &error.to_string()))?;
            let Some(last) = extents.last() else { break };
            let ends_in_hole = matches!(last, Extent::Zeros(_));
            for extent in extents {
                if let Extent::Bytes(block, range) = &extent {
                    file.seek(SeekFrom::Start(offset))
                        .and_then(|_| file.write_all(&block[range.clone()]))
                        .map_err(outside)?;
                }
                offset += extent.len() as u64;
            }
            // over a hole in one step, however long somebody says that it is
            if ends_in_hole {
                match self.next_data(attributes, offset) {
                    Ok(Some(next)) => offset = next,
                    Ok(None) => break,
                    Err(error) => return Err(self.fail(path, &error.to_string())),
                }
            }
        }
        file.set_len(attributes.size).map_err(outside)?;
        set_time(&file, attributes.mtime).map_err(outside)
    }

    fn next_data(&self, attributes: &Attributes, offset: u64) -> Result<Option<u64>, Error> {
        let seek = SeekOperation {
            pfs: *self.pfs,
            inum: attributes.inum,
            offset,
            target: SeekTarget::Data,
        };
        match self.session.run(&seek) {
            Ok(next) => Ok(Some(next)),
            Err(Error::NoData) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn fail(&self, path: &[u8], text: &str) -> Failure {
        self.session.failure(Failure::new(text).at(path))
    }
}

fn outside(target: &Path, error: &io::Error) -> Failure {
    Failure::file(&target.to_string_lossy(), error)
}

/// A time before 1970 cannot be set in a sandbox; the file keeps the time of the copy.
fn set_time(file: &File, mtime: WallTime) -> io::Result<()> {
    let since =
        u64::try_from(mtime.seconds()).map(|seconds| Duration::new(seconds, mtime.nanoseconds()));
    match since.ok().and_then(|since| UNIX_EPOCH.checked_add(since)) {
        Some(time) => file.set_times(FileTimes::new().set_modified(time)),
        None => Ok(()),
    }
}

fn set_directory_time(directory: &Path, mtime: WallTime) -> Result<(), Failure> {
    File::open(directory)
        .and_then(|opened| set_time(&opened, mtime))
        .map_err(|error| outside(directory, &error))
}

#[expect(deprecated, reason = "the one stable function of std that makes a symbolic link on WASI")]
fn make_link(link: &str, target: &Path) -> io::Result<()> {
    fs::soft_link(link, target)
}
