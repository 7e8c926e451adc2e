//! Mounts that come and go while something is measured.

use std::fs;
use std::path::Path;

use crate::failure::{Failure, Outcome};
use crate::run::{run, wait_until};

/// Does `work` until it works, for some seconds: devices stay busy for a moment after a program that
/// had them is gone.
///
/// # Errors
/// What the last try came to.
pub fn again(work: impl Fn() -> Outcome) -> Outcome {
    let mut last = Ok(());
    wait_until(|| {
        last = work();
        last.is_ok()
    });
    last
}

/// Unmounts what is mounted at `at`.
///
/// # Errors
/// It stays busy.
pub fn unmount(at: &Path) -> Outcome {
    match wait_until(|| run("umount", &[at]).is_ok() || !is_mount_point(at)) {
        true => Ok(()),
        false => Err(Failure::new(format!("{} stays busy", at.display()))),
    }
}

/// Whether something is mounted at `at`.
#[must_use]
pub fn is_mount_point(at: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let at = at.to_string_lossy();
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(&at))
}
