//! Running the checker to its end.

use std::path::Path;

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

/// Runs the checker that is not ours over `image`, where it is beside the checkout: a second
/// opinion on what was written.
///
/// # Panics
/// It found something.
pub fn second_opinion(image: &Path) {
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tools/check-image.py");
    if !checker.exists() {
        eprintln!("no second checker; {} is checked by our own only", image.display());
        return;
    }
    let output = std::process::Command::new("python3")
        .arg(&checker)
        .arg("--no-tree")
        .arg(image)
        .output()
        .expect("python3 runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}{said}", image.display());
}
