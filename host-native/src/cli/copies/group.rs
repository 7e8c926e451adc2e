//! The volume of copies that a command is about: one that is mounted, by its directory, or one that
//! is not, by its devices.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use farrier::control::{Reply, Request, ask};
use farrier::copies::{Changed, MemberChange, OfflineGroup, Status, record_at};
use farrier::fuse::unmount::is_directory;
use farrier::source::Source;
use farrier_core::copies::lineage;

use super::status::{of_mount, status};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::info::bytes;
use crate::cli::new_file::{NewFile, missing};

/// How to open a volume that is not mounted, and how to tell what was done.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct How {
    /// Of devices that are not mounted: go on without copies that are not here and may have gone on
    /// elsewhere.
    #[arg(long)]
    accept_missing: bool,

    /// The copy to go on from, where the copies do not agree.
    #[arg(skip)]
    master: Option<u8>,

    /// Whether a volume without copies becomes one of copies.
    #[arg(skip)]
    converts: bool,

    /// Whether the volume is opened for writing though its list of damage is full.
    #[arg(skip)]
    accept_damage: bool,

    /// Write one JSON document.
    #[arg(long)]
    json: bool,
}

impl How {
    pub(super) const fn with_conversion(self, converts: bool) -> Self {
        Self { converts, ..self }
    }

    pub(super) const fn past_damage(self, accept_damage: bool) -> Self {
        Self { accept_damage, ..self }
    }

    pub(super) const fn json(self) -> bool {
        self.json
    }

    pub(super) const fn with_master(self, master: Option<u8>) -> Self {
        Self { master, ..self }
    }
}

/// A volume of copies.
#[derive(Debug)]
pub(super) enum Group {
    /// It is mounted there.
    Mounted(PathBuf),
    /// It is not mounted.
    Devices(Vec<PathBuf>),
}

impl Group {
    pub(super) fn parse(targets: &[OsString]) -> Result<Self, Failure> {
        if let [one] = targets
            && is_directory(Path::new(one))
        {
            return Ok(Self::Mounted(one.into()));
        }
        if let Some(directory) = targets.iter().find(|target| is_directory(Path::new(target))) {
            return Err(Failure::new(format!(
                "{}: is a directory, and named among others; name the directory of a mounted \
                 volume alone, or the devices of one that is not mounted",
                Path::new(directory).display()
            )));
        }
        Ok(Self::Devices(Source::parse(targets).map_err(Failure::new)?.devices))
    }

    /// What messages call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Mounted(directory) => directory.display().to_string(),
            Self::Devices(devices) => {
                devices.first().map(|path| path.display().to_string()).unwrap_or_default()
            }
        }
    }

    pub(super) fn status(&self) -> Result<Status, Failure> {
        match self {
            Self::Mounted(directory) => of_mount(directory),
            Self::Devices(devices) => {
                let targets: Vec<OsString> = devices.iter().map(OsString::from).collect();
                status(&targets)
            }
        }
    }

    /// The path of a file that is to be the witness: not one on the volume itself.
    pub(super) fn place_for_witness(&self, path: &Path) -> Result<PathBuf, Failure> {
        let path = std::path::absolute(path).map_err(Failure::new)?;
        let system = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
        if let Self::Mounted(directory) = self
            && let Some(parent) = path.parent()
            && system(parent).is_some_and(|number| Some(number) == system(directory))
        {
            return Err(Failure::new(format!(
                "{}: is on the volume itself; name a file on another disk, a stick or a share",
                path.display()
            )));
        }
        Ok(path)
    }

    /// The slot that a person means by a number, or by a device.
    pub(super) fn copy(&self, argument: &OsStr) -> Result<u8, Failure> {
        if let Some(number) = argument.to_str().and_then(|text| text.parse::<u8>().ok()) {
            return match number {
                0..4 => Ok(number),
                _ => Err(Failure::new(format!("{number}: copies are numbered 0 to 3"))),
            };
        }
        let path = Path::new(argument);
        let status = self.status()?;
        // the record on the device itself says it best, but one that is broken has none
        if let Some(record) = record_at(path) {
            return match &status.group {
                Some(group) if *group != record.group.to_string() => Err(Failure::new(format!(
                    "{}: is a copy of another volume (group {}); name one of group {group}",
                    path.display(),
                    record.group
                ))),
                _ => Ok(record.self_slot),
            };
        }
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let is_it = |device: &String| real(Path::new(device)) == real(path);
        let copy = status.copies.iter().find(|copy| copy.device.as_ref().is_some_and(is_it));
        copy.map(|copy| copy.slot).ok_or_else(|| {
            Failure::new(format!(
                "{}: no copy of this volume is there; name a copy by its number, as `farrier copies \
                 status` lists them, or by its device",
                path.display()
            ))
        })
    }

    /// Carries a change out and tells what came of it.
    pub(super) fn change(&self, change: &MemberChange, how: How) -> Outcome {
        let (changed, status) = match self {
            Self::Mounted(directory) => {
                let request = Request::CopiesChange { change: change.clone() };
                let changed = match ask(directory, &request).map_err(Failure::new)? {
                    Reply::Changed { changed } => changed,
                    other => return Err(self.not_done(other)),
                };
                (changed, of_mount(directory).ok())
            }
            Self::Devices(_) => {
                let group = self.open(how)?;
                let changed = group.change(change).map_err(|text| self.failed(&text))?;
                let status = group.status();
                group.close().map_err(|text| self.failed(&text))?;
                (changed, status)
            }
        };
        tell(&changed, status.as_ref(), how.json)
    }

    /// The volume, opened for writing; it must not be mounted.
    pub(super) fn open(&self, how: How) -> Result<OfflineGroup, Failure> {
        let Self::Devices(devices) = self else {
            return Err(Failure::new(format!("{}: is mounted", self.name())));
        };
        let How { accept_missing, accept_damage, master, .. } = how;
        let options = lineage::Options {
            accept_missing,
            accept_damage,
            master,
            ..lineage::Options::default()
        };
        let shows = io::stderr().is_terminal();
        let filled = move |count: u64| {
            if shows {
                eprint!("\r{} filled in ", bytes(count));
            }
        };
        OfflineGroup::open(devices, options, how.converts, filled).map_err(Failure::new)
    }

    pub(super) fn not_done(&self, reply: Reply) -> Failure {
        match reply {
            Reply::Failed { text } => self.failed(&text),
            _ => self.failed("an answer to another question"),
        }
    }

    /// A text that says what it is about does so in front.
    fn failed(&self, text: &str) -> Failure {
        let is_about =
            text.starts_with("copy ") || text.starts_with('/') || text.contains("(copy ");
        match is_about {
            true => Failure::new(text),
            false => Failure::new(format!("{}: {text}", self.name())),
        }
    }
}

pub(super) fn tell(changed: &Changed, status: Option<&Status>, json: bool) -> Outcome {
    let mut out = io::stdout().lock();
    if json {
        let mut document = serde_json::to_value(changed)?;
        if let (Some(fields), Some(status)) = (document.as_object_mut(), status) {
            fields.insert("state".to_owned(), serde_json::to_value(status.state)?);
        }
        serde_json::to_writer_pretty(&mut out, &document)?;
        writeln!(out)?;
    } else {
        if let Some(status) = status {
            super::status::write_state(&mut out, status)?;
        }
        writeln!(out, "done:   {}", changed.text)?;
        writeln!(out, "next:   {}", changed.next)?;
    }
    out.flush()?;
    Ok(())
}

/// The last of several arguments, and those before it.
pub(super) fn split_last<'a>(
    arguments: &'a [OsString],
    what: &str,
) -> Result<(&'a [OsString], &'a OsStr), Failure> {
    match arguments {
        [targets @ .., last] if !targets.is_empty() => Ok((targets, last)),
        _ => Err(Failure::new(format!(
            "name the directory of a mounted volume, or the devices of one that is not, and {what}"
        ))),
    }
}

/// A device that is to become a copy.
#[derive(Debug, Args)]
pub(super) struct NewDevice {
    /// Overwrite what the new device holds.
    #[arg(short, long)]
    force: bool,

    /// Size of an image file that is not there yet, such as 512M, 10G or 2T; it is made.
    #[arg(long, value_name = "SIZE", value_parser = crate::cli::format::options::size)]
    size: Option<u64>,
}

impl NewDevice {
    /// Carries out a change with the device at `path`, which is made first if it has to be.
    pub(super) fn with(
        &self,
        path: &OsStr,
        change: impl FnOnce(PathBuf, bool) -> Outcome,
    ) -> Outcome {
        let path = Path::new(path);
        let named = path.display();
        let made = match (missing(path), self.size) {
            (Some(state), None) => {
                return Err(Failure::new(format!(
                    "{named}: {state}; say how large it is to be, with --size, or name a device"
                )));
            }
            (Some(_), Some(size)) => Some(NewFile::make(path, size).map_err(|error| {
                Failure::new(format!(
                    "{named}: cannot be made with {size} bytes ({error}); name another place or size"
                ))
            })?),
            (None, Some(_)) => {
                return Err(Failure::new(format!(
                    "{named}: is there already and has its size; leave out --size"
                )));
            }
            (None, None) => None,
        };
        // who serves a mount has another working directory
        let absolute = std::path::absolute(path).map_err(Failure::new)?;
        change(absolute, self.force)?;
        if let Some(made) = made {
            made.keep();
        }
        Ok(())
    }
}
