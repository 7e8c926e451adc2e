//! `farrier copy-in`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use farrier::control::{Actions, Offline};
use farrier::copy_in::copy_in;
use farrier_core::error::Error;
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::Inum;

use super::failure::{Failure, Outcome, tell};
use super::names::escaped;
use super::target::Target;

/// Copy files and directories into a volume that is not mounted.
///
/// Keeps times, modes, owners, links, holes and special files. Nothing is overwritten; directories
/// that are there are filled up. What cannot be copied is told and left out, and the exit code is
/// then 1.
#[derive(Debug, Args)]
#[command(override_usage = "farrier copy-in [OPTIONS] DEVICE[@LABEL] SOURCE... PATH")]
pub(crate) struct CopyIn {
    #[command(flatten)]
    target: Target,

    /// What to copy, and where to: a directory of the PFS to copy it into, or, for one SOURCE, the
    /// name of the copy.
    #[arg(required = true, num_args = 1.., value_names = ["SOURCE", "PATH"])]
    paths: Vec<OsString>,
}

impl CopyIn {
    pub(crate) fn run(&self) -> Outcome {
        let name = self.target.name();
        if self.target.directory().is_some() {
            return Err(Failure::new(format!("{name}: is mounted; copy into it with cp")));
        }
        let (sources, path) = match &self.paths[..] {
            [sources @ .., path] if !sources.is_empty() => (sources, path),
            _ => return Err(Failure::new("name what to copy, and where to")),
        };
        let volume = self.target.open()?;
        let place = place(&volume, path.as_bytes(), sources.len())?;
        let mut failures = 0;
        for source in sources {
            let source = PathBuf::from(source);
            let own = file_name(&source)?;
            let name = place.1.clone().unwrap_or(own);
            let mut listen = |path: &Path, text: &str| {
                tell(&format!("{}: {text}", escaped(path.as_os_str().as_bytes())));
            };
            let copied = copy_in(&volume, &source, place.0, &name, &mut listen);
            failures += copied.map_err(|error| failed(&self.target, &error))?.failures;
        }
        volume.sync().map_err(|error| failed(&self.target, &error))?;
        match failures {
            0 => Ok(()),
            1 => Err(Failure::new("one thing could not be copied")),
            many => Err(Failure::new(format!("{many} things could not be copied"))),
        }
    }
}

fn failed(target: &Target, error: &Error) -> Failure {
    Failure::new(format!("{}: {error}; what was copied before is there", target.name()))
}

/// The directory to copy into, and the name of the copy where that was given.
fn place(volume: &Offline, path: &[u8], count: usize) -> Result<(Inum, Option<Vec<u8>>), Failure> {
    let told = |text: &str| Failure::new(format!("{}: {text}", escaped(path)));
    match volume.resolve(path) {
        Ok(found) if found.kind == ObjectKind::Directory => Ok((found.inum, None)),
        Ok(_) => Err(told("is there already, and nothing is overwritten")),
        Err(Error::NoEntry) if count == 1 => {
            let trimmed = path.strip_suffix(b"/").unwrap_or(path);
            let at = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            let above = volume.resolve(&trimmed[..at]).map_err(|error| told(&error.to_string()))?;
            Ok((above.inum, Some(trimmed[at..].to_vec())))
        }
        Err(Error::NoEntry) => Err(told("no such directory to copy several things into")),
        Err(error) => Err(told(&error.to_string())),
    }
}

fn file_name(source: &Path) -> Result<Vec<u8>, Failure> {
    let real = match source.file_name() {
        Some(name) => name.to_owned(),
        None => {
            let real = source
                .canonicalize()
                .map_err(|error| Failure::new(format!("{}: {error}", source.display())))?;
            real.file_name().map_or_else(OsString::new, ToOwned::to_owned)
        }
    };
    if real.is_empty() {
        return Err(Failure::new(format!("{}: has no name to copy it under", source.display())));
    }
    Ok(real.as_bytes().to_vec())
}
