//! `format`: a new file system on the files that the sandbox shows.
//!
//! What a file holds is looked at first: nothing is lost without `--force`.

use std::fs::{self, File};
use std::io::ErrorKind;

use farrier_core::drive::{self, ready};
use farrier_core::media::header::{HEADER_SLOTS, HEADER_STRIDE, MAGIC, Version};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;
use farrier_core::volume::{self, FormatOptions, FormatRefusal};
use farrier_wasi::arguments::{NewFileSystem, Request};
use farrier_wasi::name::Name;
use farrier_wasi::report::{Formatted, Report};

use crate::clock;
use crate::device::Devices;
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(
    request: &Request,
    wanted: &NewFileSystem,
    output: &mut Output,
) -> Result<(), Failure> {
    let formatted = match file_to_make(request, wanted)? {
        Some((name, size)) => on_new_file(request, wanted, name, size)?,
        None => on_files(request, wanted)?,
    };
    let report = Formatted {
        id: formatted.fsid.to_string(),
        version: formatted.version.number(),
        labels: formatted.labels.iter().map(|label| Name::from(&label[..])).collect(),
        size: formatted.total_size,
        usable: formatted.usable_size,
        note: formatted.note().map(|note| note.to_string()),
    };
    output.report(&Report::Formatted(report.clone()), |out| {
        let labels: Vec<_> = report.labels.iter().map(Name::to_string).collect();
        writeln!(out, "file system {}", report.id)?;
        writeln!(out, "  version     {}", report.version)?;
        writeln!(out, "  labels      {}", labels.join(", "))?;
        writeln!(out, "  size        {} bytes, {} for files", report.size, report.usable)?;
        report.note.iter().try_for_each(|note| writeln!(out, "  note        {note}"))
    })
}

/// The file that has to be made or made large first, and its size.
fn file_to_make<'r>(
    request: &'r Request,
    wanted: &NewFileSystem,
) -> Result<Option<(&'r str, u64)>, Failure> {
    for name in &request.volumes {
        let state = match fs::metadata(name) {
            Ok(found) if found.is_file() && found.len() == 0 => "is empty",
            Err(error) if error.kind() == ErrorKind::NotFound => "does not exist",
            // whatever else is wrong is told when it is opened
            _ => continue,
        };
        let text = match (wanted.size, &request.volumes[..]) {
            (Some(size), [_]) => return Ok(Some((name, size))),
            (Some(_), _) => format!(
                "{state}, and --size makes no more than one file; make it before, outside of the \
                 sandbox"
            ),
            (None, _) => format!("{state}; say how large it is to be, as with --size 1G"),
        };
        return Err(Failure::new(text).in_file(name));
    }
    Ok(None)
}

fn on_new_file(
    request: &Request,
    wanted: &NewFileSystem,
    name: &str,
    size: u64,
) -> Result<volume::Formatted, Failure> {
    let formatted = work_out(request, wanted, vec![size], None)?;
    let make = || {
        let file = File::options().write(true).create(true).truncate(false).open(name)?;
        file.set_len(size)
    };
    make().map_err(|error| Failure::file(name, &error))?;
    let written = Devices::open(&request.volumes, true)
        .and_then(|devices| write(&devices, &formatted).map(|()| formatted));
    if written.is_err() {
        // Empty again, as it was; what went wrong is told already.
        let _ = File::options().write(true).open(name).and_then(|file| file.set_len(0));
    }
    written
}

fn on_files(request: &Request, wanted: &NewFileSystem) -> Result<volume::Formatted, Failure> {
    let devices = Devices::open(&request.volumes, true)?;
    let indices = (0..=u8::MAX).map(DeviceIndex).take(devices.device_count());
    let sizes = indices.clone().map(|index| devices.size(index)).collect();
    let formatted = work_out(request, wanted, sizes, wanted.size)?;
    if !wanted.force {
        for index in indices {
            if let Some(what) = contents(&devices, index) {
                let text = format!("holds {what}; use --force to overwrite it");
                return Err(Failure::new(text).in_file(devices.name(index)));
            }
        }
    }
    write(&devices, &formatted)?;
    Ok(formatted)
}

fn work_out(
    request: &Request,
    wanted: &NewFileSystem,
    sizes: Vec<u64>,
    size_max: Option<u64>,
) -> Result<volume::Formatted, Failure> {
    let options = FormatOptions {
        size_max,
        labels: wanted.labels.clone(),
        compression: wanted.compression,
        check: wanted.check,
        version: if wanted.copies { Version::Copies } else { Version::V2 },
        ..FormatOptions::new(sizes, clock::now())
    };
    let mut broken = None;
    let formatted = volume::format(&options, |bytes| match clock::random() {
        Ok(random) => *bytes = random,
        Err(failure) => broken = Some(failure),
    });
    match (broken, formatted) {
        (Some(failure), _) => Err(failure),
        (None, Err(refusal)) => Err(refused(request, wanted, &refusal)),
        (None, Ok(formatted)) => Ok(formatted),
    }
}

fn refused(request: &Request, wanted: &NewFileSystem, refusal: &FormatRefusal) -> Failure {
    let device = refusal.device().and_then(|device| request.volumes.get(usize::from(device.0)));
    let label = refusal.label().and_then(|index| wanted.labels.get(index));
    match (device, label) {
        (Some(name), _) => Failure::new(refusal.to_string()).in_file(name),
        (_, Some(label)) => Failure::new(format!("label {}: {refusal}", Name::from(&label[..]))),
        _ => Failure::new(refusal.to_string()),
    }
}

/// What a file holds. One that cannot be read is taken to hold something.
fn contents(devices: &Devices, device: DeviceIndex) -> Option<&'static str> {
    let size = devices.size(device);
    let read = |offset: u64, len: usize| {
        let rest = usize::try_from(size.saturating_sub(offset)).unwrap_or(len);
        ready(devices.read(device, offset, rest.min(len)))
    };
    let is_header = |slot: u64| {
        let magic = read(slot * HEADER_STRIDE, 8).unwrap_or_default();
        magic == MAGIC.to_le_bytes() || magic == MAGIC.swap_bytes().to_le_bytes()
    };
    let mut slots = (0..HEADER_SLOTS).filter(|slot| slot * HEADER_STRIDE < size);
    if slots.any(is_header) {
        return Some("a HAMMER2 volume");
    }
    match read(0, HEAD_LEN) {
        Ok(head) if head.iter().all(|byte| *byte == 0) => None,
        Ok(_) => Some("data of a kind that is not known here"),
        Err(_) => Some("something that cannot be read"),
    }
}

fn write(devices: &Devices, formatted: &volume::Formatted) -> Result<(), Failure> {
    ready(drive::format(devices, formatted)).map_err(|fault| {
        let text = format!("{fault}; what it held may be lost, and no new file system is there");
        Failure::new(text).in_file(devices.name(fault.device))
    })
}

/// Others keep what makes them recognised within this.
const HEAD_LEN: usize = 1 << 20;
