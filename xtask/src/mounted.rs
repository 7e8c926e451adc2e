//! A mounted volume for the tasks that show or test one.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::failure::{During, Failure, Outcome};
use crate::run::run;

/// A mounted volume that is unmounted whatever becomes of this process.
///
/// A second process waits for the end of its input, which comes when this one drops it or dies of
/// any cause; then it unmounts. So Ctrl-C needs no signal handler, and even SIGKILL leaves nothing
/// mounted.
#[derive(Debug)]
pub(crate) struct Mounted {
    guard: Child,
    mount_point: PathBuf,
}

impl Mounted {
    /// Mounts the DATA of `image`, with these options for -o.
    pub(crate) fn mount(
        farrier: &Path,
        options: &str,
        image: &Path,
        mount_point: &Path,
    ) -> Outcome<Self> {
        fs::create_dir_all(mount_point).during(|| format!("make {}", mount_point.display()))?;
        let mut volume = image.as_os_str().to_owned();
        volume.push("@DATA");
        let guard = Self::guard(farrier, mount_point)?;
        // From here on an early return unmounts.
        let mounted = Self { guard, mount_point: mount_point.to_owned() };
        // Returns when the mount answers; what serves it stays behind.
        run(Command::new(farrier).args(["mount", "-o", options]).arg(volume).arg(mount_point))?;
        if !is_mounted(mount_point)? {
            return Err(Failure::new("farrier mount returned, but nothing is mounted"));
        }
        Ok(mounted)
    }

    fn guard(farrier: &Path, mount_point: &Path) -> Outcome<Child> {
        Command::new("sh")
            .args(["-c", GUARD])
            .arg(farrier)
            .arg(mount_point)
            .stdin(Stdio::piped())
            // A group of its own: Ctrl-C must not reach it.
            .process_group(0)
            .spawn()
            .during(|| "start the process that unmounts at the end".to_owned())
    }

    pub(crate) fn unmount(mut self) -> Outcome {
        self.let_guard_work();
        if is_mounted(&self.mount_point)? {
            return Err(Failure::new(format!(
                "{} is still mounted: run `farrier umount` on it",
                self.mount_point.display()
            )));
        }
        println!("unmounted");
        Ok(())
    }

    fn let_guard_work(&mut self) {
        drop(self.guard.stdin.take());
        // Whether it worked is seen in the mount table.
        let _ = self.guard.wait();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.let_guard_work();
    }
}

pub(crate) fn is_mounted(folder: &Path) -> Outcome<bool> {
    let table = fs::read("/proc/self/mounts").during(|| "read the mount table".to_owned())?;
    Ok(mounts_at(&table, folder.as_os_str()))
}

/// Whether a mount table in the form of fstab(5) has something at `folder`.
fn mounts_at(table: &[u8], folder: &OsStr) -> bool {
    let mut escaped = Vec::new();
    for byte in folder.as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").bytes()),
            _ => escaped.push(*byte),
        }
    }
    table
        .split(|byte| *byte == b'\n')
        .any(|line| line.split(|byte| *byte == b' ').nth(1) == Some(&escaped[..]))
}

/// `$0` is the farrier command, `$1` the mount point. When nothing was mounted there is nothing to
/// do. Lazily: a shell that somebody has left standing there must not keep it alive.
const GUARD: &str = r#"cat >/dev/null; if mountpoint -q "$1"; then "$0" umount --lazy "$1"; fi"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_found_by_its_whole_escaped_name() {
        let table = b"a /mnt ext4 rw 0 0\nfarrier /home/a\\040b fuse rw 0 0\n";
        assert!(mounts_at(table, OsStr::new("/mnt")));
        assert!(mounts_at(table, OsStr::new("/home/a b")));
        assert!(!mounts_at(table, OsStr::new("/home/a")));
        assert!(!mounts_at(table, OsStr::new("farrier")));
    }

    #[test]
    fn the_guard_ends_when_its_input_does() {
        // Nothing is mounted there, so the command it would call is not called.
        let folder = std::env::temp_dir();
        let guard = Mounted::guard(Path::new("/bin/false"), &folder.join("no-mount")).unwrap();
        let mounted = Mounted { guard, mount_point: folder.join("no-mount") };
        assert!(mounted.unmount().is_ok());
    }
}
