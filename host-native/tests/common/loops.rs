//! Loop devices.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device, given back with its test.
pub(crate) struct Loop {
    pub(crate) path: PathBuf,
}

impl Loop {
    /// None where there are none to be had, which is told.
    pub(crate) fn over(image: &Path) -> Option<Self> {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(image).output();
        let text = match made {
            Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
            Ok(output) => {
                eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim());
                return None;
            }
            Err(error) => {
                eprintln!("skipped: losetup: {error}");
                return None;
            }
        };
        Some(Self { path: PathBuf::from(text.trim()) })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).output();
    }
}
