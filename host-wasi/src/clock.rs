//! What the core may not ask for by itself: the time and randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use farrier_core::drive::pfs::Birth;
use farrier_core::units::{Uuid, WallTime};

use crate::failure::Failure;

/// Now, as the media counts time; 1970 where the clock stands before that.
pub(crate) fn now() -> WallTime {
    wall_time(SystemTime::now())
}

/// `time` as the media counts it.
pub(crate) fn wall_time(time: SystemTime) -> WallTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_micros()).unwrap_or(0))
}

/// Random bytes of the sandbox.
pub(crate) fn random() -> Result<[u8; 16], Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(format!("the sandbox gives no random bytes, which ids are made of ({error})"))
    })?;
    Ok(bytes)
}

/// What makes a new PFS unlike any other.
pub(crate) fn birth() -> Result<Birth, Failure> {
    Ok(Birth { cluster_id: uuid()?, pfs_id: uuid()?, now: now() })
}

/// A random UUID (version 4), its first three fields little-endian as on media.
fn uuid() -> Result<Uuid, Failure> {
    let mut bytes = random()?;
    bytes[7] = bytes[7] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(Uuid(bytes))
}
