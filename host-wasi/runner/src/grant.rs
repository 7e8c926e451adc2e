//! From a command line to the directories that it needs, and no others.

use std::fs;
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

/// The directories that `request` needs: those that the volumes are in, to read; for a copy the
/// one that it goes to, to write.
///
/// The module calls them as the command line does, so that its messages do too. WASI grants
/// directories, not files: it can also read what lies beside an image.
///
/// # Errors
/// A file or directory that it names is not there.
pub fn grants(request: &Request) -> Result<Vec<Preopen>, Failure> {
    let mut preopens = Vec::new();
    for volume in &request.volumes {
        let directory = of_image(Path::new(volume))?;
        add(&mut preopens, volume, directory, Access::Read);
    }
    if let Command::CopyOut { destination, .. } = &request.command {
        let path = Path::new(destination);
        if path.is_dir() {
            let preopen = Preopen {
                host: path.to_owned(),
                guest: destination.clone(),
                access: Access::Write,
            };
            merge(&mut preopens, preopen);
        } else {
            let directory = host_parent(path);
            if !directory.is_dir() {
                let error = io::Error::from(io::ErrorKind::NotFound);
                return Err(outside(&directory, &error));
            }
            add(&mut preopens, destination, directory, Access::Write);
        }
    }
    Ok(preopens)
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
    let guest = match Path::new(named).parent().and_then(Path::to_str) {
        None | Some("") => ".",
        Some(parent) => parent,
    };
    let preopen = Preopen { host, guest: guest.to_owned(), access };
    merge(preopens, preopen);
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
