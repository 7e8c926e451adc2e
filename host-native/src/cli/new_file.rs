//! Image files that a command makes for what it is to put on them.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why an image file has to be made first, if it has to.
pub(crate) fn missing(path: &Path) -> Option<&'static str> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => Some("is empty"),
        Err(error) if error.kind() == ErrorKind::NotFound && is_for_files(path) => {
            Some("does not exist")
        }
        // whatever else is wrong is told when it is opened
        _ => None,
    }
}

/// A name below /dev is one of a device, misspelt or not there.
fn is_for_files(path: &Path) -> bool {
    !std::path::absolute(path).is_ok_and(|path| path.starts_with("/dev"))
}

/// An image file that was made, or made large, for a file system that is not on it yet: it goes, or
/// is empty again, if that fails.
pub(crate) struct NewFile {
    path: PathBuf,
    was_there: bool,
    is_kept: bool,
}

impl NewFile {
    /// Makes it `size` bytes long.
    pub(crate) fn make(path: &Path, size: u64) -> io::Result<Self> {
        let was_there = path.exists();
        let file = File::options().write(true).create_new(!was_there).open(path)?;
        if file.metadata()?.len() > 0 {
            return Err(io::Error::other("it has just been written to"));
        }
        let made = Self { path: path.to_owned(), was_there, is_kept: false };
        file.set_len(size)?;
        // the name has to last as what it names does
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(made)
    }

    /// There is something on it now.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // what went wrong is told already
        let _ = if self.was_there {
            File::options().write(true).open(&self.path).and_then(|file| file.set_len(0))
        } else {
            fs::remove_file(&self.path)
        };
    }
}
