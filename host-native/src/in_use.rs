//! Who uses a device, as far as the kernel tells: mounts and loop devices.
//!
//! Only for better messages and for image files, which nothing but a lock protects: block devices
//! in use are refused by the kernel itself ([`Devices::open_writable`](crate::device::Devices)).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Who uses a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum User {
    /// It is mounted there.
    Mount(PathBuf),
    /// That loop device shows the image file as a block device.
    Loop(PathBuf),
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mount(at) => {
                write!(f, "mounted at {0}; unmount it first: umount {0}", at.display())
            }
            Self::Loop(device) => write!(
                f,
                "in use by {0}; name that instead, or detach it: losetup -d {0}",
                device.display()
            ),
        }
    }
}

/// Who uses the device at `path`; nobody if the kernel does not tell.
#[must_use]
pub fn user_of(path: &Path) -> Option<User> {
    let metadata = fs::metadata(path).ok()?;
    if metadata.file_type().is_block_device() {
        let list = fs::read("/proc/self/mountinfo").ok()?;
        mount_of(&list, metadata.rdev()).map(User::Mount)
    } else {
        loop_of(Path::new("/sys/block"), &path.canonicalize().ok()?).map(User::Loop)
    }
}

/// Where the block device with number `device` is mounted, by the kernel's list.
fn mount_of(list: &[u8], device: u64) -> Option<PathBuf> {
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    list.split(|byte| *byte == b'\n').find_map(|line| {
        // id, parent, major:minor, root, place, ...
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let is_it = fields.next()? == number.as_bytes();
        is_it.then(|| fields.nth(1)).flatten().map(unescaped)
    })
}

/// Blanks stand as `\040` in the kernel's list.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *byte == b'\\');
        let code =
            octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The loop device over `file`, by the kernel's list at `block`.
fn loop_of(block: &Path, file: &Path) -> Option<PathBuf> {
    fs::read_dir(block).ok()?.flatten().find_map(|entry| {
        let backing = fs::read(entry.path().join("loop/backing_file")).ok()?;
        let backing = backing.strip_suffix(b"\n").unwrap_or(&backing);
        (backing == file.as_os_str().as_bytes()).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] = b"\
22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
23 22 0:5 / /proc rw - proc proc rw\n\
24 22 259:3 / /mnt/my\\040disk\\134 rw - vfat /dev/nvme0n1p3 rw\n";

    #[test]
    fn a_mounted_device_is_found_by_its_number() {
        let at = |major, minor| mount_of(LIST, rustix::fs::makedev(major, minor));
        assert_eq!(at(8, 1), Some(PathBuf::from("/")));
        assert_eq!(at(259, 3), Some(PathBuf::from("/mnt/my disk\\")));
        assert_eq!(at(8, 2), None);
        assert_eq!(mount_of(b"\n1 2\n", rustix::fs::makedev(8, 1)), None);
    }

    #[test]
    fn an_image_under_a_loop_device_is_found() {
        let block = std::env::temp_dir().join(format!("farrier-block-{}", std::process::id()));
        fs::create_dir_all(block.join("loop7/loop")).unwrap();
        fs::create_dir_all(block.join("sda")).unwrap();
        fs::write(block.join("loop7/loop/backing_file"), "/images/a.img\n").unwrap();
        let of = |file: &str| loop_of(&block, Path::new(file));
        assert_eq!(of("/images/a.img"), Some(PathBuf::from("/dev/loop7")));
        assert_eq!(of("/images/a"), None);
        fs::remove_dir_all(&block).unwrap();
    }
}
