//! How people write what the media says: times, modes, compression, and which
//! devices a message is about. Floor 2.
//!
//! One place, so that every host writes it alike. Nothing here reads or decides anything.

use alloc::format;
use alloc::string::String;

use crate::media::inode::ObjectKind;
use crate::units::{DeviceIndex, WallTime};

/// `2024-02-29 12:00:00`, UTC. The calendar has no end here: the media's times reach far.
#[must_use]
pub fn time(time: WallTime) -> String {
    let seconds = time.seconds();
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// What messages call a device, in front of its number.
const DEVICE: &str = "device ";

/// `text` with a name in place of `device N`, for each device that `name` knows.
#[must_use]
pub fn with_names(text: &str, name: impl Fn(DeviceIndex) -> Option<String>) -> String {
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
            Some(name) => {
                told.push_str(&name);
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

/// `drwxr-xr-x`.
#[must_use]
pub fn mode(kind: ObjectKind, mode: u32) -> String {
    let mut text = String::from(match kind {
        ObjectKind::Directory => 'd',
        ObjectKind::Regular => '-',
        ObjectKind::Fifo => 'p',
        ObjectKind::CharDevice => 'c',
        ObjectKind::BlockDevice => 'b',
        ObjectKind::Symlink => 'l',
        ObjectKind::Socket => 's',
        ObjectKind::Whiteout => 'w',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    text
}

/// `lz4`, `zlib:9`: the compression that an inode asks for, as the tools of HAMMER2 name it.
#[must_use]
pub fn compression_request(request: u8) -> String {
    let name = match request & 15 {
        0 => "none",
        1 => "autozero",
        2 => "lz4",
        3 => "zlib",
        _ => "unknown",
    };
    match request >> 4 {
        0 => name.into(),
        level => format!("{name}:{level}"),
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March here, so that the leap day is the last of its year; 400 of them
/// have 146,097 days, and a month begins after (153 * month + 2) / 5 days of its year.
fn date(days: i64) -> (i64, i64, i64) {
    /// From 0000-03-01 to 1970-01-01.
    const EPOCH: i64 = 719_468;
    const CYCLE: i64 = 146_097;
    let day = days + EPOCH;
    let (cycle, day) = (day.div_euclid(CYCLE), day.rem_euclid(CYCLE));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (-2_208_988_800, "1900-01-01 00:00:00"),
        ] {
            assert_eq!(time(WallTime((seconds * 1_000_000_i64).cast_unsigned())), expected);
        }
        // whatever the media says
        let _ = time(WallTime(u64::MAX));
        let _ = time(WallTime(1 << 63));
        let _ = time(WallTime(i64::MAX.cast_unsigned()));
    }

    #[test]
    fn numbers_of_devices_become_names_and_ids_stay() {
        let names = ["/a", "/device 0"];
        let name = |index: DeviceIndex| Some((*names.get(usize::from(index.0))?).into());
        let told = |text: &str| with_names(text, name);
        assert_eq!(told("device 0 and device 1: no"), "/a and /device 0: no");
        assert_eq!(told("device 0"), "/a");
        assert_eq!(told("device 00ab-cd"), "device 00ab-cd");
        assert_eq!(told("device 7 (copy 1)"), "device 7 (copy 1)");
        assert_eq!(told("the device is"), "the device is");
    }

    #[test]
    fn modes() {
        assert_eq!(mode(ObjectKind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode(ObjectKind::Regular, 0o6751), "-rwsr-s--x");
        assert_eq!(mode(ObjectKind::Symlink, 0o7000), "l--S--S--T");
    }

    #[test]
    fn compressions() {
        assert_eq!(compression_request(0x02), "lz4");
        assert_eq!(compression_request(0x93), "zlib:9");
        assert_eq!(compression_request(0x0f), "unknown");
    }
}
