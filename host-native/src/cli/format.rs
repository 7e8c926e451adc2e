//! `farrier format`.
//!
//! Nothing is lost silently: what a device holds is looked at first, and a device in use is refused
//! whatever the options say. Nobody is asked; a script gets the same refusals as a person.

pub(super) mod options;
mod report;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use farrier::device::Devices;
use farrier::in_use::user_of;
use farrier::recognise::contents;
use farrier_core::drive::{self, ready};
use farrier_core::media::check::{CheckMethod, Checks};
use farrier_core::media::copy_group::COPIES_MAX;
use farrier_core::media::header::Version;
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, WallTime};
use farrier_core::volume::{FormatOptions, FormatRefusal, Formatted, format};

use super::failure::{Failure, Outcome};
use super::names::escaped;
use super::new_file::{NewFile, missing};
use report::Report;

/// Make a new HAMMER2 file system. What the devices hold is lost.
///
/// Several DEVICEs become the volumes of one file system, in this order; all but the last are used
/// in steps of 1 GiB. With --copy, each becomes a copy of the same file system instead, which goes on
/// as long as one of them is left; other HAMMER2 tools do not know such volumes. A device in use is refused, and one that holds something is too, unless
/// --force is given.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Format {
    /// Image files or block devices.
    #[arg(required_unless_present = "copies", value_name = "DEVICE")]
    devices: Vec<PathBuf>,

    /// Image file or block device to hold a copy of the file system: repeat it, up to four times.
    #[arg(long = "copy", value_name = "DEVICE", conflicts_with_all = ["devices", "media_version"])]
    copies: Vec<PathBuf>,

    /// Label of a PFS to make beside LOCAL, at most three of them: repeat it, or write commas in
    /// between; `none` for none.
    #[arg(short = 'L', long = "label", value_name = "LABEL", value_delimiter = ',')]
    #[arg(default_value = "DATA")]
    labels: Vec<OsString>,

    /// Size of the file system, such as 512M, 10G or 2T. An image file that is empty or not there
    /// yet is made that large (and takes no space until something is written to it); of copies, all
    /// of them or none.
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    size: Option<u64>,

    /// Size of the boot area, a multiple of 8M (default: up to 64M, by the size of the file system).
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    boot_size: Option<u64>,

    /// Size of the auxiliary area, a multiple of 8M (default: up to 256M, likewise).
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    aux_size: Option<u64>,

    /// Version of the volume format: 1 for old systems only, without several volumes.
    #[arg(long, value_name = "VERSION", default_value = "2", value_parser = options::version)]
    media_version: Version,

    /// Compression that new files get: none, autozero, lz4, zlib, or zlib:LEVEL (6 to 9).
    #[arg(long, value_name = "METHOD", default_value = "lz4", value_parser = options::compression)]
    compression: u8,

    /// Check codes that new files get: xxhash64, sha192, iscsi32, none or disabled.
    #[arg(long, value_name = "METHOD", default_value = "xxhash64", value_parser = options::check)]
    check: CheckMethod,

    /// Overwrite what the devices hold.
    #[arg(short, long)]
    force: bool,

    /// Only tell what would be done.
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Write one JSON document.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  farrier format --size 10G disk.img
  farrier format -L DATA -L BOOT /dev/sdb1
  farrier format --dry-run /dev/sdb /dev/sdc
  farrier format --copy /dev/sdb --copy /dev/sdc";

/// What a device held that is to be overwritten.
struct Replaced {
    device: PathBuf,
    what: &'static str,
}

impl Format {
    pub(crate) fn run(&self) -> Outcome {
        if self.copies.len() > COPIES_MAX {
            return Err(Failure::new(format!(
                "{} copies: a volume has {COPIES_MAX} at most; name fewer",
                self.copies.len()
            )));
        }
        let (formatted, replaced) = match self.size_of_new_files()? {
            Some(size) => self.on_new_files(size)?,
            None => self.on_devices()?,
        };
        Report::new(self, &formatted, &replaced).print(self.json)
    }

    /// The devices, copies or not.
    pub(super) fn devices(&self) -> &[PathBuf] {
        if self.has_copies() { &self.copies } else { &self.devices }
    }

    pub(super) const fn has_copies(&self) -> bool {
        !self.copies.is_empty()
    }

    /// The size that image files have to be made with, if they have to be made.
    fn size_of_new_files(&self) -> Result<Option<u64>, Failure> {
        let devices = self.devices();
        let states: Vec<_> = devices.iter().map(|path| (path, missing(path))).collect();
        let Some((path, state)) = states.iter().find_map(|(path, state)| Some((path, (*state)?)))
        else {
            return Ok(None);
        };
        let name = path.display();
        let are_all = states.iter().all(|(_, state)| state.is_some());
        match self.size {
            Some(size) if are_all && (self.has_copies() || devices.len() == 1) => Ok(Some(size)),
            Some(_) if self.has_copies() => Err(Failure::new(format!(
                "{name}: {state}, and another copy is there already; make it before: truncate -s \
                 SIZE {name}"
            ))),
            Some(_) => Err(Failure::new(format!(
                "{name}: {state}, and --size makes no more than one image file; make it before: \
                 truncate -s SIZE {name}"
            ))),
            None => Err(Failure::new(format!(
                "{name}: {state}; say how large it is to be: farrier format --size 1G {}{name}",
                if self.has_copies() { "--copy " } else { "" }
            ))),
        }
    }

    fn on_new_files(&self, size: u64) -> Result<(Formatted, Vec<Replaced>), Failure> {
        let formatted = self.work_out(vec![size; self.devices().len()], None)?;
        if self.dry_run {
            return Ok((formatted, Vec::new()));
        }
        let make = |path: &PathBuf| {
            NewFile::make(path, size).map_err(|error| {
                Failure::new(format!(
                    "{}: cannot be made with {size} bytes ({error}); name another place or size",
                    path.display()
                ))
            })
        };
        let files = self.devices().iter().map(make).collect::<Result<Vec<_>, _>>()?;
        let devices = Devices::open_writable(self.devices()).map_err(Failure::new)?;
        write(&devices, &formatted)?;
        files.into_iter().for_each(NewFile::keep);
        Ok((formatted, Vec::new()))
    }

    fn on_devices(&self) -> Result<(Formatted, Vec<Replaced>), Failure> {
        for path in self.devices() {
            if let Some(user) = user_of(path) {
                return Err(Failure::new(format!("{}: {user}", path.display())));
            }
        }
        let devices = Devices::open_writable(self.devices()).map_err(Failure::new)?;
        let indices = (0..=u8::MAX).map(DeviceIndex).zip(self.devices());
        let sizes = indices.clone().map(|(index, _)| devices.size(index)).collect();
        let formatted = self.work_out(sizes, self.size)?;
        let replaced: Vec<_> = indices
            .filter_map(|(index, path)| {
                let what = contents(&devices, index, path)?;
                Some(Replaced { device: path.clone(), what })
            })
            .collect();
        if let (Some(Replaced { device, what }), false) = (replaced.first(), self.force) {
            return Err(Failure::new(format!(
                "{}: holds {what}; use --force to overwrite it",
                device.display()
            )));
        }
        if !self.dry_run {
            write(&devices, &formatted)?;
        }
        Ok((formatted, replaced))
    }

    fn work_out(&self, sizes: Vec<u64>, size_max: Option<u64>) -> Result<Formatted, Failure> {
        let options = FormatOptions {
            size_max,
            boot_size: self.boot_size,
            aux_size: self.aux_size,
            version: if self.has_copies() { Version::Copies } else { self.media_version },
            labels: options::labels(&self.labels),
            compression: self.compression,
            check: self.check,
            checks: Checks::with_crc32c(crc32c::crc32c),
            ..FormatOptions::new(sizes, now())
        };
        let pool = random_bytes().map_err(|error| {
            Failure::new(format!("/dev/urandom: {error}; ids need random bytes"))
        })?;
        let mut pieces = pool.chunks_exact(16);
        format(&options, |bytes| {
            // the pool has more pieces than are asked for
            if let Some(piece) = pieces.next() {
                bytes.copy_from_slice(piece);
            }
        })
        .map_err(|refusal| self.refused(&refusal, &options.labels))
    }

    fn refused(&self, refusal: &FormatRefusal, labels: &[Vec<u8>]) -> Failure {
        let device = refusal.device().and_then(|device| self.devices().get(usize::from(device.0)));
        let label = refusal.label().and_then(|index| labels.get(index));
        Failure::new(match (device, label) {
            (Some(device), _) => format!("{}: {refusal}", device.display()),
            (_, Some(label)) => format!("label {}: {refusal}", escaped(label)),
            _ => refusal.to_string(),
        })
    }
}

fn write(devices: &Devices, formatted: &Formatted) -> Outcome {
    ready(drive::format(devices, formatted)).map_err(|fault| {
        let path = devices.path(fault.device).unwrap_or(Path::new("")).display();
        Failure::new(format!(
            "{}; what it held may be lost, and no new file system is there",
            fault.named(path)
        ))
    })
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_micros()).unwrap_or(0))
}

/// More than the ids of a file system take.
fn random_bytes() -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 16 * 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
