//! What is mounted where, and unmounting it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

/// One line of the kernel's list of mounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountPoint {
    /// Where.
    pub path: PathBuf,
    /// Type of file system.
    pub kind: String,
    /// What was mounted.
    pub source: OsString,
    /// Number of the device that its files are on, by the kernel.
    pub device: u64,
}

/// Why something cannot be unmounted. Each text names the directory and the remedy.
#[derive(Debug)]
pub enum UnmountError {
    /// Nothing is mounted there.
    NotMounted(PathBuf),
    /// Something else is mounted there: its type.
    Foreign(PathBuf, String),
    /// It is in use.
    Busy(PathBuf),
    /// Only who mounted it, or root, may.
    Denied(PathBuf),
    /// There is no program that unmounts for ordinary users.
    NoHelper(PathBuf),
    /// Whatever else the system says.
    Other(PathBuf, String),
}

impl fmt::Display for UnmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMounted(path) => write!(
                f,
                "{}: nothing is mounted there; name the directory that was given to farrier mount",
                path.display()
            ),
            Self::Foreign(path, kind) => write!(
                f,
                "{}: this is a mount of type {kind}, not one of farrier's; use umount",
                path.display()
            ),
            Self::Busy(path) => write!(
                f,
                "{}: busy; end the programs that use files or directories in it, or detach it now \
                 with --lazy",
                path.display()
            ),
            Self::Denied(path) => write!(
                f,
                "{}: not permitted; only the user who mounted it and root may unmount it",
                path.display()
            ),
            Self::NoHelper(path) => write!(
                f,
                "{}: fusermount3 not found; install fuse3, or unmount as root",
                path.display()
            ),
            Self::Other(path, text) => {
                write!(f, "{}: cannot be unmounted: {text}", path.display())
            }
        }
    }
}

impl std::error::Error for UnmountError {}

/// What is mounted at `path`, the topmost of several.
///
/// # Errors
/// The kernel's list cannot be read.
pub fn mounted_at(path: &Path) -> io::Result<Option<MountPoint>> {
    let list = std::fs::read("/proc/self/mountinfo")?;
    Ok(list.split(|byte| *byte == b'\n').filter_map(parse_line).rfind(|mount| mount.path == path))
}

/// Whether `path` is a directory. What is mounted there is not asked: one that waits for its devices
/// may have nobody left to answer.
#[must_use]
pub fn is_directory(path: &Path) -> bool {
    matches!(mounted_at(&real_path(path)), Ok(Some(_))) || path.is_dir()
}

/// `path` without symbolic links, also where its last part is a mount that nobody serves any more.
#[must_use]
pub fn real_path(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (absolute.parent().map(Path::canonicalize), absolute.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => absolute,
    }
}

/// Unmounts what farrier mounted at `directory`; `is_lazy` detaches it even while it is in use.
///
/// # Errors
/// Why that cannot be done.
pub fn unmount(directory: &Path, is_lazy: bool) -> Result<(), UnmountError> {
    let path = real_path(directory);
    let named = || directory.to_owned();
    let mount = mounted_at(&path)
        .map_err(|error| UnmountError::Other(named(), error.to_string()))?
        .ok_or_else(|| UnmountError::NotMounted(named()))?;
    if !mount.kind.starts_with("fuse.") && mount.kind != "fuse" {
        return Err(UnmountError::Foreign(named(), mount.kind));
    }
    let flags = if is_lazy { UnmountFlags::DETACH } else { UnmountFlags::NOFOLLOW };
    match rustix::mount::unmount(&path, flags) {
        Ok(()) => Ok(()),
        Err(Errno::PERM | Errno::ACCESS) => helper(&path, directory, is_lazy),
        Err(Errno::BUSY) => Err(UnmountError::Busy(named())),
        Err(Errno::INVAL | Errno::NOENT) => Err(UnmountError::NotMounted(named())),
        Err(error) => Err(UnmountError::Other(named(), error.to_string())),
    }
}

/// The program that mounts and unmounts for ordinary users, if it is there.
pub(crate) fn find_helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/bin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join("fusermount3"))
        .find(|program| program.is_file())
}

/// Only root may unmount; for everybody else a program of FUSE's does it.
fn helper(path: &Path, directory: &Path, is_lazy: bool) -> Result<(), UnmountError> {
    let named = || directory.to_owned();
    let program = find_helper().ok_or_else(|| UnmountError::NoHelper(named()))?;
    let mut command = Command::new(program);
    command.arg("-u").args(is_lazy.then_some("-z")).arg("--").arg(path);
    let output = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| UnmountError::Other(named(), error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(if said.contains("busy") {
        UnmountError::Busy(named())
    } else if said.contains("ermi") || said.contains("not found in /etc/mtab") {
        UnmountError::Denied(named())
    } else {
        UnmountError::Other(named(), said)
    })
}

/// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/root rw`
fn parse_line(line: &[u8]) -> Option<MountPoint> {
    let mut fields = line.split(|byte| *byte == b' ');
    let number = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = number.split_once(':')?;
    let path = fields.nth(1)?;
    let mut behind = fields.skip_while(|field| *field != b"-").skip(1);
    Some(MountPoint {
        path: unescape(path).into(),
        kind: String::from_utf8_lossy(behind.next()?).into_owned(),
        source: unescape(behind.next()?),
        device: rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?),
    })
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'\\'
            && let [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] = rest
        {
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    OsString::from_vec(bytes)
}

/// `name` as a mount option can carry it: commas and backslashes separate options.
pub(crate) fn option_value(name: &OsStr) -> String {
    String::from_utf8_lossy(name.as_bytes())
        .chars()
        .map(|c| if c == ',' || c == '\\' || c.is_control() { '_' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list() {
        let line = b"36 35 98:0 / /a\\040b rw,noatime shared:1 master:2 - fuse.farrier /x\\134y rw";
        let mount = parse_line(line).unwrap();
        assert_eq!(mount.path, Path::new("/a b"));
        assert_eq!(mount.kind, "fuse.farrier");
        assert_eq!(mount.source, "/x\\y");
        assert_eq!(mount.device, rustix::fs::makedev(98, 0));
        assert_eq!(parse_line(b""), None);
    }

    #[test]
    fn the_root_of_the_system_is_mounted_and_no_farrier_mount() {
        assert!(mounted_at(Path::new("/")).unwrap().is_some());
        assert!(matches!(unmount(Path::new("/"), false), Err(UnmountError::Foreign(..))));
        assert!(matches!(
            unmount(Path::new("/proc/self"), false),
            Err(UnmountError::NotMounted(_))
        ));
    }
}
