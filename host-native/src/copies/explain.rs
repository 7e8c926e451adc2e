//! What the core says of copies, with paths in place of device numbers.

use std::path::Path;

use farrier_core::copies::lineage::{Decision, Note, Refused};
use farrier_core::drive::{self, ready};
use farrier_core::storage::Storage;
use farrier_core::text::with_names;
use farrier_core::units::DeviceIndex;
use farrier_core::volume::{OpenOptions, Volume};

use crate::device::Devices;

/// `text` with the path of each device that `name` knows in place of `device N`.
pub(crate) fn with_paths<'a>(text: &str, name: impl Fn(DeviceIndex) -> Option<&'a Path>) -> String {
    with_names(text, |index| name(index).map(|path| path.display().to_string()))
}

/// Why `devices` make no volume of copies, at length.
pub(crate) fn refused(devices: &Devices, options: &OpenOptions) -> Option<Refused> {
    ready(drive::refused(devices, options))
}

/// Whether `devices`, if they are copies, may be written.
///
/// # Errors
/// Why not, at length.
pub(crate) fn may_write(devices: &Devices, options: &OpenOptions) -> Result<(), String> {
    ready(drive::may_write(devices, options))
        .map_err(|text| with_paths(&text, |index| devices.path(index)))
}

/// What somebody should know who has just opened the volume: a line for each thing.
pub(crate) fn notes(volume: &Volume, devices: &Devices) -> Vec<String> {
    let Some(group) = volume.group() else {
        return Vec::new();
    };
    let decision = group.decision();
    let unused = unused(decision, devices);
    let device = |slot: u8| {
        let index = decision.devices.get(usize::from(slot)).copied().flatten();
        let path = index.or(unused).and_then(|index| devices.path(index));
        path.map_or_else(
            || format!("copy {slot}"),
            |path| format!("{} (copy {slot})", path.display()),
        )
    };
    let note = |note: &Note| match *note {
        Note::Lagging(slot) => {
            format!(
                "{}: was caught by a crash between two headers; it gets its header",
                device(slot)
            )
        }
        Note::RolledBack(slot, flushes) => format!(
            "{}: was put back to a state of {flushes} flushes before; it is brought up to date",
            device(slot)
        ),
        Note::Diverged(slot) => format!(
            "{}: has a history of its own and is left alone; look at it with --only-copy {slot}, \
             or give it up with `farrier copies rejoin --discard-its-data DIR {slot}`",
            device(slot)
        ),
        Note::Aside(index) => {
            let path = devices.path(index).map(|path| path.display().to_string());
            format!(
                "{}: was a copy of this volume once and is none any more; leave it out",
                path.unwrap_or_else(|| index.to_string())
            )
        }
        Note::NoHeader(index) => {
            let path = devices.path(index).map(|path| path.display().to_string());
            format!(
                "{}: has no header that is whole, and nobody knows which copy it was; see to the \
                 device, or replace the copy that is missing",
                path.unwrap_or_else(|| index.to_string())
            )
        }
        Note::NoRoot(slot) => {
            format!("{}: has no root that can be read; the others go on", device(slot))
        }
    };
    decision.notes.iter().map(note).collect()
}

/// The device that is left alone, where it is only one.
fn unused(decision: &Decision, devices: &Devices) -> Option<DeviceIndex> {
    let count = u8::try_from(devices.device_count()).unwrap_or(u8::MAX);
    let is_aside = |index: DeviceIndex| decision.notes.contains(&Note::Aside(index));
    let mut unused = (0..count)
        .map(DeviceIndex)
        .filter(|index| !decision.devices.contains(&Some(*index)) && !is_aside(*index));
    unused.next().filter(|_| unused.next().is_none())
}
