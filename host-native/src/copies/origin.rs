//! Where and when an epoch of copies begins.

use std::fs::File;
use std::io::Read;

use farrier_core::drive::change::Origin;
use farrier_core::media::check::{CheckCode, CheckMethod, Checks};
use farrier_core::units::Uuid;

use crate::control::now;

/// Where the system keeps what tells it from others.
const MACHINE_ID: &str = "/etc/machine-id";

/// A new name for an epoch, this host, and its clock. `None` where there is no chance to be had:
/// then no epoch can begin.
pub(crate) fn origin() -> Option<Origin> {
    let mut id = [0; 16];
    File::open("/dev/urandom").and_then(|mut chance| chance.read_exact(&mut id)).ok()?;
    (id != [0; 16]).then(|| Origin { id, host: host(), time: now() })
}

/// A name for this host that does not give away the system's own.
fn host() -> Uuid {
    let name = match std::fs::read(MACHINE_ID) {
        Ok(id) if !id.trim_ascii().is_empty() => id.trim_ascii().to_vec(),
        _ => rustix::system::uname().nodename().to_bytes().to_vec(),
    };
    let salted = [b"farrier host ", &name[..]].concat();
    let mut host = [0; 16];
    if let CheckCode::Sha192(code) = Checks::default().compute(&salted, CheckMethod::Sha192) {
        host.iter_mut().zip(code).for_each(|(place, byte)| *place = byte);
    }
    Uuid(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_another_name_and_the_host_stays() {
        let (a, b) = (origin().unwrap(), origin().unwrap());
        assert_ne!(a.id, b.id);
        assert_eq!(a.host, b.host);
        assert_ne!(a.host, Uuid([0; 16]));
        assert!(a.time.0 > 1_600_000_000_000_000);
    }
}
