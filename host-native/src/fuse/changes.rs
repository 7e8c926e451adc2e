//! Requests of the kernel that change something, as changes of the core.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farrier_core::error::Error;
use farrier_core::fs::{Allocation, Clash, New, SetAttributes};
use farrier_core::units::WallTime;
use fuser::{RenameFlags, TimeOrNow};
use rustix::time::{ClockId, clock_gettime};

/// Bits of a mode that say what kind of object it is.
const KIND: u32 = 0o170_000;

/// Now, by the clock that the kernel stamps files with: another one would have times go backwards.
pub(super) fn now() -> WallTime {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    micros(now.tv_sec, now.tv_nsec / 1000)
}

fn micros(seconds: i64, micros: i64) -> WallTime {
    let whole = seconds.saturating_mul(1_000_000).saturating_add(micros);
    WallTime(whole.cast_unsigned())
}

/// A time of the kernel's. Before 1970 the library counts the fraction in the wrong direction: the
/// kernel's seconds are rounded down, and its fraction is added to them.
pub(super) fn wall_time(time: SystemTime) -> WallTime {
    let parts = |span: Duration| {
        let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        (seconds, i64::from(span.subsec_micros()))
    };
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => {
            let (seconds, fraction) = parts(after);
            micros(seconds, fraction)
        }
        Err(before) => {
            let (seconds, fraction) = parts(before.duration());
            micros(-seconds, fraction)
        }
    }
}

pub(super) fn time_or_now(time: TimeOrNow, now: WallTime) -> WallTime {
    match time {
        TimeOrNow::SpecificTime(time) => wall_time(time),
        TimeOrNow::Now => now,
    }
}

/// What `mknod` asks for.
pub(super) fn new_node(mode: u32, device: u32) -> Result<New, Error> {
    // as Linux packs it
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    match mode & KIND {
        0 | 0o100_000 => Ok(New::File),
        0o010_000 => Ok(New::Fifo),
        0o140_000 => Ok(New::Socket),
        0o020_000 => Ok(New::CharDevice(major, minor)),
        0o060_000 => Ok(New::BlockDevice(major, minor)),
        _ => Err(Error::InvalidArgument),
    }
}

pub(super) fn clash(flags: RenameFlags) -> Result<Clash, Error> {
    match flags {
        flags if flags.is_empty() => Ok(Clash::Replace),
        RenameFlags::RENAME_NOREPLACE => Ok(Clash::Refuse),
        RenameFlags::RENAME_EXCHANGE => Ok(Clash::Exchange),
        _ => Err(Error::InvalidArgument),
    }
}

/// What `fallocate` asks for; `None` where nothing is to be done but to look whether it could be.
pub(super) fn allocation(mode: i32) -> Result<Option<Allocation>, Error> {
    const KEEP_SIZE: i32 = 0x01;
    const PUNCH_HOLE: i32 = 0x02;
    const ZERO_RANGE: i32 = 0x10;
    const PUNCH: i32 = PUNCH_HOLE | KEEP_SIZE;
    const ZERO_KEEP: i32 = ZERO_RANGE | KEEP_SIZE;
    match mode {
        0 => Ok(Some(Allocation::Extend)),
        KEEP_SIZE => Ok(None),
        PUNCH => Ok(Some(Allocation::Punch)),
        ZERO_RANGE => Ok(Some(Allocation::Zero { keep_size: false })),
        ZERO_KEEP => Ok(Some(Allocation::Zero { keep_size: true })),
        _ => Err(Error::NotSupported),
    }
}

/// Whether a request of `setattr` asks for anything.
pub(super) const fn asks_for_nothing(set: &SetAttributes) -> bool {
    set.mode.is_none()
        && set.uid.is_none()
        && set.gid.is_none()
        && set.size.is_none()
        && set.atime.is_none()
        && set.mtime.is_none()
        && set.ctime.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_fraction() {
        // the library makes this of -2 seconds and half a second
        let told = UNIX_EPOCH - Duration::new(2, 500_000_000);
        assert_eq!(wall_time(told), WallTime((-1_500_000_i64).cast_unsigned()));
        let after = UNIX_EPOCH + Duration::new(2, 500_000_999);
        assert_eq!(wall_time(after), WallTime(2_500_000));
    }

    #[test]
    fn device_numbers_as_linux_packs_them() {
        assert_eq!(new_node(0o020_644, 0x801), Ok(New::CharDevice(8, 1)));
        assert_eq!(new_node(0o060_644, u32::MAX), Ok(New::BlockDevice(0xfff, 0xf_ffff)));
        assert_eq!(new_node(0o040_755, 0), Err(Error::InvalidArgument));
    }

    #[test]
    fn what_cannot_be_allocated_is_not_supported() {
        assert_eq!(allocation(0x1), Ok(None));
        assert_eq!(allocation(0x3), Ok(Some(Allocation::Punch)));
        for mode in [0x2, 0x8, 0x20, 0x40] {
            assert_eq!(allocation(mode), Err(Error::NotSupported), "{mode}");
        }
    }
}
