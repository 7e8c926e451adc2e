//! `mkdir` and `rm`.

use farrier_core::error::Error;
use farrier_core::fs::{New, ReadDir, Victim};
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::Inum;

use crate::edit::Edit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{absolute, join};

/// Mode of a new directory.
const MODE: u32 = 0o755;
/// Names that are asked for at once.
const PAGE: usize = 1024;

pub(super) fn make(edit: &Edit<'_>, paths: &[Vec<u8>], output: &mut Output) {
    for path in paths {
        if let Err(error) = edit.create(path, New::Directory, MODE) {
            output.fault(&edit.session().failure(Failure::from(error).at(path)));
        }
    }
}

pub(super) fn remove(edit: &Edit<'_>, paths: &[Vec<u8>], recursive: bool, output: &mut Output) {
    for path in paths {
        let result = match edit.unlink(path, Victim::File) {
            Err(Error::IsDirectory) if recursive => tree(edit, path),
            Err(Error::IsDirectory) => Err(edit
                .session()
                .failure(Failure::new("is a directory; -R removes it and all below it").at(path))),
            result => result.map_err(|e| edit.session().failure(Failure::from(e).at(path))),
        };
        if let Err(failure) = result {
            output.fault(&failure);
        }
    }
}

/// A directory that is being emptied.
struct Level {
    path: Vec<u8>,
    parent: Inum,
    name: Vec<u8>,
    inum: Inum,
}

/// Removes a directory, from its leaves up. The first thing that cannot be removed ends it.
fn tree(edit: &Edit<'_>, path: &[u8]) -> Result<(), Failure> {
    let fail = |error: Error, path: &[u8]| edit.session().failure(Failure::from(error).at(path));
    let (parent, name) = edit.parent(path).map_err(|error| fail(error, path))?;
    let inum = edit.resolve(path).map_err(|error| fail(error, path))?.inum;
    let mut levels = vec![Level { path: absolute(path), parent, name, inum }];
    while let Some(level) = levels.last() {
        let empty = empty(edit, level).map_err(|(error, path)| fail(error, &path))?;
        match empty {
            // a directory that holds itself would be emptied for ever
            Some(below) if levels.iter().any(|level| level.inum == below.inum) => {
                let text = format!("damaged media: names {}, which it lies in", below.inum);
                return Err(edit.session().failure(Failure::new(text).at(&below.path)));
            }
            Some(below) => levels.push(below),
            None => {
                edit.unlink_in(level.parent, &level.name, Victim::Directory)
                    .map_err(|error| fail(error, &level.path))?;
                levels.pop();
            }
        }
    }
    Ok(())
}

/// Removes what `level` holds up to the first directory, which is returned: to be emptied first.
fn empty(edit: &Edit<'_>, level: &Level) -> Result<Option<Level>, (Error, Vec<u8>)> {
    let directory = level.inum;
    loop {
        let (pfs, limit) = (*edit.pfs(), PAGE);
        let page = ReadDir { pfs, directory, position: 0, limit, with_attributes: false };
        let page = edit.session().run(&page).map_err(|error| (error, level.path.clone()))?;
        if let Some(error) = page.broken.first() {
            return Err((*error, level.path.clone()));
        }
        let mut names =
            page.entries.into_iter().filter(|e| e.name != b"." && e.name != b"..").peekable();
        if names.peek().is_none() {
            return Ok(None);
        }
        for entry in names {
            let path = join(&level.path, &entry.name);
            if entry.kind == ObjectKind::Directory {
                let (parent, inum) = (directory, entry.inum);
                return Ok(Some(Level { path, parent, name: entry.name, inum }));
            }
            let removed = edit.unlink_in(directory, &entry.name, Victim::File);
            removed.map_err(|error| (error, path))?;
        }
    }
}
