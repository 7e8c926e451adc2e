//! Running the checker to its end.

use farrier_core::drive::{self, Host};
use farrier_core::scan::{Check, CheckOptions, Finding, Step, Summary};
use farrier_core::storage::Storage;

use crate::host::TestHost;

/// All findings of a check of `host`'s volume, and what it came to.
///
/// # Panics
/// The checker does not come to an end.
pub fn check<S: Storage>(host: &TestHost<S>, options: CheckOptions) -> (Vec<Finding>, Summary) {
    let mut check = Check::new(host.volume(), options);
    let mut findings = check.take_findings();
    // No image of the tests has that many blocks: beyond them it goes in circles.
    for _ in 0..2_000_000 {
        match check.step() {
            Step::Done => {
                findings.extend(check.take_findings());
                return (findings, check.summary());
            }
            Step::Read(wants) => {
                let got = wants.iter().map(|want| drive::ready(host.fetch(want))).collect();
                check.resume(got);
                findings.extend(check.take_findings());
            }
        }
    }
    panic!("the checker does not come to an end");
}
