//! From a command line to the directories that it needs, and no others.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use farrier_wasi::arguments::{Command, Request};

use crate::failure::Failure;

/// A directory that the module gets to see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preopen {
    /// Where it is on this machine.
    pub host: PathBuf,
    /// What the module calls it.
    pub guest: String,
    /// What the module may do there.
    pub access: Access,
}

/// What a module may do in a directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// Read.
    Read,
    /// Read, make, write and remove.
    Write,
}

/// The directories that `request` needs: those that the volumes are in, to read, or for a command
/// that changes volumes to write; for a copy the one that it goes to, to write, or comes from, to
/// read.
///
/// The module calls them as the command line does, so that its messages do too. WASI grants
/// directories, not files: it can also read, or write, what lies beside an image.
///
/// # Errors
/// A file or directory that it names is not there.
pub fn grants(request: &Request) -> Result<Vec<Preopen>, Failure> {
    let mut preopens = Vec::new();
    let access = if request.command.writes() { Access::Write } else { Access::Read };
    for volume in &request.volumes {
        let image = Path::new(volume);
        let is_new = matches!(request.command, Command::Format(_)) && !is_there(image);
        let directory = if is_new { directory_of_new(image)? } else { of_image(image)? };
        add(&mut preopens, volume, directory, access);
    }
    match &request.command {
        Command::CopyOut { destination, .. } => {
            let path = Path::new(destination);
            if path.is_dir() {
                whole(&mut preopens, destination, Access::Write);
            } else {
                add(&mut preopens, destination, directory_of_new(path)?, Access::Write);
            }
        }
        Command::CopyIn { sources, .. } => {
            for source in sources {
                let path = Path::new(source);
                if path.is_dir() {
                    whole(&mut preopens, source, Access::Read);
                } else {
                    add(&mut preopens, source, of_file(path)?, Access::Read);
                }
            }
        }
        Command::Script { file } => {
            add(&mut preopens, file, of_image(Path::new(file))?, Access::Read);
        }
        _ => {}
    }
    Ok(preopens)
}

/// Locks that hold other programs off the volumes that are written to: WASI has none.
///
/// A volume that is not among `preopens` is left alone; the module will not find it either.
///
/// # Errors
/// Another program has one of them locked.
pub(crate) fn lock(request: &Request, preopens: &[Preopen]) -> Result<Vec<File>, Failure> {
    let mut locks = Vec::new();
    if !request.command.writes() {
        return Ok(locks);
    }
    for volume in &request.volumes {
        let Some(path) = on_host(Path::new(volume), preopens) else { continue };
        // one that is not there yet, or not to be had, is for the module to tell
        let Ok(file) = File::open(&path) else { continue };
        match file.try_lock() {
            Ok(()) => locks.push(file),
            Err(TryLockError::WouldBlock) => {
                let text = "another program has it locked for itself; wait until that is done";
                return Err(Failure::Outside { path, text: text.to_owned() });
            }
            // a file system without locks: as it would be without this
            Err(TryLockError::Error(_)) => {}
        }
    }
    Ok(locks)
}

/// Where a file is that the module calls `guest`.
pub(crate) fn on_host(guest: &Path, preopens: &[Preopen]) -> Option<PathBuf> {
    let directory = guest_parent(guest)?;
    let preopen = preopens.iter().find(|preopen| preopen.guest == directory)?;
    Some(preopen.host.join(guest.file_name()?))
}

/// A link that leads nowhere is there: a file made through it would be somewhere else.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The directory of a file that is going to be made.
fn directory_of_new(path: &Path) -> Result<PathBuf, Failure> {
    let directory = host_parent(path);
    if directory.is_dir() {
        return Ok(directory);
    }
    Err(outside(&directory, &io::Error::from(io::ErrorKind::NotFound)))
}

/// The directory of a file to read, whatever it is; a link in it may lead out of the sandbox.
fn of_file(path: &Path) -> Result<PathBuf, Failure> {
    if path.is_symlink() {
        return of_image(path);
    }
    fs::symlink_metadata(path).map_err(|error| outside(path, &error))?;
    Ok(host_parent(path))
}

/// The directory of an image.
///
/// A link that leads to another directory would lead out of the sandbox, which refuses it without
/// saying so: whoever names one learns here what to name instead.
fn of_image(image: &Path) -> Result<PathBuf, Failure> {
    let found = fs::canonicalize(image).map_err(|error| outside(image, &error))?;
    let directory = host_parent(image);
    let expected = fs::canonicalize(&directory).map_err(|error| outside(&directory, &error))?;
    if found.is_dir() {
        let error = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(outside(image, &error));
    }
    if image.is_symlink() && found.parent() != Some(&expected) {
        return Err(Failure::Outside {
            path: image.to_owned(),
            text: format!(
                "a link that leads out of its directory; name {} itself",
                found.display()
            ),
        });
    }
    Ok(directory)
}

fn add(preopens: &mut Vec<Preopen>, named: &str, host: PathBuf, access: Access) {
    let guest = guest_parent(Path::new(named)).unwrap_or(".");
    let preopen = Preopen { host, guest: guest.to_owned(), access };
    merge(preopens, preopen);
}

/// A directory by itself.
fn whole(preopens: &mut Vec<Preopen>, named: &str, access: Access) {
    let preopen = Preopen { host: PathBuf::from(named), guest: named.to_owned(), access };
    merge(preopens, preopen);
}

/// What the module calls the directory of `path`.
fn guest_parent(path: &Path) -> Option<&str> {
    match path.parent().and_then(Path::to_str) {
        Some("") => Some("."),
        parent => parent,
    }
}

/// One name is one directory: who may write somewhere may do so under every name of it.
fn merge(preopens: &mut Vec<Preopen>, new: Preopen) {
    match preopens.iter_mut().find(|old| old.guest == new.guest) {
        Some(old) => old.access = old.access.max(new.access),
        None => preopens.push(new),
    }
}

fn host_parent(path: &Path) -> PathBuf {
    match path.parent() {
        None => path.to_owned(),
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
    }
}

fn outside(path: &Path, error: &io::Error) -> Failure {
    let text = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory, not an image".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    Failure::Outside { path: path.to_owned(), text }
}
