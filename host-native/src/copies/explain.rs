//! What the core says of copies, with paths in place of device numbers.

use std::path::Path;

use farrier_core::copies::lineage::{Decision, Note, Refused};
use farrier_core::drive::{self, ready};
use farrier_core::error::{Error, Refusal};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;
use farrier_core::volume::{OpenOptions, Volume, explain_copies, header_reads};

use crate::device::Devices;

/// What the core calls a device, in front of its number.
const DEVICE: &str = "device ";

/// `text` with the path of each device that `name` knows in place of `device N`.
pub(crate) fn with_paths<'a>(text: &str, name: impl Fn(DeviceIndex) -> Option<&'a Path>) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(DEVICE) {
        let (before, from) = rest.split_at(at);
        let behind = from.get(DEVICE.len()..).unwrap_or_default();
        let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
        let after = behind.get(digits..).unwrap_or_default();
        // the id of a device follows that word as well, and begins with a digit at times
        let is_number = digits > 0 && !after.starts_with(|c: char| c.is_alphanumeric());
        let number = behind.get(..digits).filter(|_| is_number);
        let index = number.and_then(|number| number.parse().ok()).map(DeviceIndex);
        told.push_str(before);
        match index.and_then(&name) {
            Some(path) => {
                told.push_str(&path.display().to_string());
                rest = after;
            }
            None => {
                told.push_str(DEVICE);
                rest = behind;
            }
        }
    }
    told.push_str(rest);
    told
}

/// Why `devices` make no volume of copies, at length.
pub(crate) fn refused(devices: &Devices, options: &OpenOptions) -> Option<Refused> {
    let count = u8::try_from(devices.device_count()).unwrap_or(u8::MAX);
    let sizes: Vec<u64> = (0..count).map(|index| devices.size(DeviceIndex(index))).collect();
    let reads = header_reads(&sizes).ok()?;
    let read = |read: farrier_core::volume::HeaderRead| {
        let got = ready(devices.read(read.device, read.offset, read.len));
        (read, got)
    };
    let got = reads.into_iter().map(read).collect();
    explain_copies(&sizes, got, options).err()
}

/// Whether `devices`, if they are copies, may be written.
///
/// # Errors
/// Why not, at length.
pub(crate) fn may_write(devices: &Devices, options: &OpenOptions) -> Result<(), String> {
    let text = match ready(drive::open(devices, *options)) {
        Ok(volume) => match volume.group().map(|group| group.decision().writable) {
            Some(Err(reason)) => reason.to_string(),
            _ => return Ok(()),
        },
        Err(Error::Refused(Refusal::Copies { .. })) => match refused(devices, options) {
            Some(refused) => refused.to_string(),
            None => return Ok(()),
        },
        // whoever opens it tells that
        Err(_) => return Ok(()),
    };
    Err(with_paths(&text, |index| devices.path(index)))
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
             or give it up with `farrier copies rejoin {slot} --discard`",
            device(slot)
        ),
        Note::Aside(index) => {
            let path = devices.path(index).map(|path| path.display().to_string());
            format!(
                "{}: was a copy of this volume once and is none any more; leave it out",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_devices_become_paths_and_ids_stay() {
        let paths = ["/a", "/device 0"];
        let name = |index: DeviceIndex| paths.get(usize::from(index.0)).map(Path::new);
        let told = |text: &str| with_paths(text, name);
        assert_eq!(told("device 0 and device 1: no"), "/a and /device 0: no");
        assert_eq!(told("device 0"), "/a");
        assert_eq!(told("device 00ab-cd"), "device 00ab-cd");
        assert_eq!(told("device 7 (copy 1)"), "device 7 (copy 1)");
        assert_eq!(told("the device is"), "the device is");
    }
}
