//! Files and block devices as a [`Storage`].
//!
//! Invariants: a read gives all its bytes or a fault with its cause; sizes are those of the moment
//! of opening. What lies on the devices is none of this module's business.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use farrier_core::error::{DeviceFault, FaultCause};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, FlockOperation};
use rustix::io::Errno;

/// Opened devices, in the order in which they were named.
#[derive(Debug)]
pub struct Devices {
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    path: PathBuf,
    file: File,
    size: u64,
}

/// Why a device cannot be opened.
#[derive(Debug)]
pub struct OpenFault {
    /// Which device.
    pub path: PathBuf,
    /// Why.
    pub cause: OpenCause,
}

/// Causes of an [`OpenFault`].
#[derive(Debug)]
pub enum OpenCause {
    /// It is something else, such as a directory.
    Kind(&'static str),
    /// The system said no.
    Io(io::Error),
}

impl Devices {
    /// Opens `paths` for reading.
    ///
    /// # Errors
    /// The first one that cannot be opened, and why.
    pub fn open(paths: &[PathBuf]) -> Result<Self, OpenFault> {
        let devices = paths
            .iter()
            .map(|path| open_one(path).map_err(|cause| OpenFault { path: path.clone(), cause }))
            .collect::<Result<_, _>>()?;
        Ok(Self { devices })
    }

    /// The path that `index` was named by.
    #[must_use]
    pub fn path(&self, index: DeviceIndex) -> Option<&Path> {
        let device = self.devices.get(usize::from(index.0))?;
        Some(&device.path)
    }

    /// Takes a shared lock on every device, which lasts as long as `self`: whoever writes to them
    /// by the same convention takes an exclusive one and is kept out.
    ///
    /// # Errors
    /// The first device that somebody holds exclusively.
    pub fn lock_shared(&self) -> Result<(), &Path> {
        for device in &self.devices {
            let lock = rustix::fs::flock(&device.file, FlockOperation::NonBlockingLockShared);
            if lock == Err(Errno::WOULDBLOCK) {
                return Err(&device.path);
            }
        }
        Ok(())
    }

    /// Tells the system that a range will be read soon, so that it comes in large pieces and while
    /// we do other things.
    pub(crate) fn will_need(&self, index: DeviceIndex, offset: u64, len: u64) {
        if let (Some(device), Some(len)) =
            (self.devices.get(usize::from(index.0)), NonZeroU64::new(len))
        {
            // only advice
            let _ = rustix::fs::fadvise(&device.file, offset, Some(len), Advice::WillNeed);
        }
    }

    fn read_now(&self, index: DeviceIndex, offset: u64, len: usize) -> Result<Vec<u8>, FaultCause> {
        let device = self.devices.get(usize::from(index.0)).ok_or(FaultCause::Gone)?;
        // Not zeroed first: pread fills the spare capacity.
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset.checked_add(bytes.len() as u64).ok_or(FaultCause::OutOfRange)?;
            match rustix::io::pread(&device.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(FaultCause::OutOfRange),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(cause(error)),
            }
        }
        // an allocator may give more than was asked for, and pread fills that too
        bytes.truncate(len);
        Ok(bytes)
    }
}

impl Storage for Devices {
    fn device_count(&self) -> usize {
        self.devices.len()
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        self.devices.get(usize::from(device.0)).map_or(0, |device| device.size)
    }

    fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> impl Future<Output = Result<Vec<u8>, DeviceFault>> {
        let got = self.read_now(device, offset, len).map_err(|cause| DeviceFault {
            device,
            offset,
            len,
            cause,
        });
        std::future::ready(got)
    }
}

fn open_one(path: &Path) -> Result<Device, OpenCause> {
    // Opening a pipe would wait for its other end, so its kind is looked at before.
    let kind = std::fs::metadata(path).map_err(OpenCause::Io)?.file_type();
    if kind.is_dir() {
        return Err(OpenCause::Kind("a directory"));
    }
    if !kind.is_file() && !kind.is_block_device() {
        return Err(OpenCause::Kind("neither a file nor a block device"));
    }
    let mut file = File::open(path).map_err(OpenCause::Io)?;
    let size = file.seek(SeekFrom::End(0)).map_err(OpenCause::Io)?;
    Ok(Device { path: path.to_owned(), file, size })
}

fn cause(error: Errno) -> FaultCause {
    match error {
        Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM => FaultCause::Gone,
        Errno::ACCESS | Errno::PERM => FaultCause::Denied,
        other => FaultCause::Medium(other.raw_os_error()),
    }
}

impl std::fmt::Display for OpenFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        match &self.cause {
            OpenCause::Kind(kind) => {
                write!(f, "{path}: is {kind}; name an image file or a block device")
            }
            OpenCause::Io(error) => match error.kind() {
                ErrorKind::NotFound => {
                    write!(f, "{path}: no such file or device; check the spelling")
                }
                ErrorKind::PermissionDenied => write!(
                    f,
                    "{path}: permission denied; become a user who may read it, such as root"
                ),
                _ => {
                    write!(f, "{path}: cannot be opened ({error}); check the device and its cable")
                }
            },
        }
    }
}

impl std::error::Error for OpenFault {}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_core::drive::ready;
    use std::io::Write;

    const FIRST: DeviceIndex = DeviceIndex(0);

    #[test]
    fn a_read_behind_the_end_is_a_fault_and_never_short() {
        let dir = std::env::temp_dir().join(format!("farrier-device-{}", std::process::id()));
        let mut file = File::create(&dir).unwrap();
        file.write_all(&[7; 1000]).unwrap();
        let devices = Devices::open(std::slice::from_ref(&dir)).unwrap();
        std::fs::remove_file(&dir).unwrap();
        assert_eq!(devices.size(FIRST), 1000);
        assert_eq!(ready(devices.read(FIRST, 990, 10)).unwrap(), [7; 10]);
        let fault = ready(devices.read(FIRST, 990, 11)).unwrap_err();
        assert_eq!(fault.cause, FaultCause::OutOfRange);
        let fault = ready(devices.read(DeviceIndex(1), 0, 1)).unwrap_err();
        assert_eq!(fault.cause, FaultCause::Gone);
    }

    #[test]
    fn a_directory_and_a_missing_file_are_told_apart() {
        let told = |path: &str| Devices::open(&[PathBuf::from(path)]).unwrap_err().to_string();
        assert!(told("/").contains("is a directory; name"));
        assert!(told("/dev/null").contains("neither a file nor a block device"));
        assert!(told("/no/such").contains("no such file or device"));
    }
}
