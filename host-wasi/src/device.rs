//! The volumes of a file system as files under the preopened directories.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use farrier_core::error::{DeviceFault, FaultCause};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;

use crate::failure::Failure;

/// Opened files. They answer at once.
#[derive(Debug)]
pub(crate) struct Devices {
    devices: Vec<Device>,
    is_writable: bool,
}

#[derive(Debug)]
struct Device {
    name: String,
    file: File,
    size: u64,
}

impl Devices {
    /// Opens `names` for reading, and for writing too if `is_writable`: then the directory that
    /// holds a file has to be granted for writing.
    pub(crate) fn open(names: &[String], is_writable: bool) -> Result<Self, Failure> {
        let device = |name: &String| {
            let mut file = File::options().read(true).write(is_writable).open(name)?;
            // a directory opens too, and fails with its first read
            if file.metadata()?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            // the end instead of the metadata: right for block devices too
            let size = file.seek(SeekFrom::End(0))?;
            Ok(Device { name: name.clone(), file, size })
        };
        let opened =
            names.iter().map(|name| device(name).map_err(|error| Failure::file(name, &error)));
        Ok(Self { devices: opened.collect::<Result<_, _>>()?, is_writable })
    }

    fn file_to_write(&self, device: DeviceIndex) -> Result<&File, FaultCause> {
        let of_device = self.devices.get(usize::from(device.0)).ok_or(FaultCause::Gone)?;
        if self.is_writable { Ok(&of_device.file) } else { Err(FaultCause::ReadOnly) }
    }

    /// Name of `device`, as it was given.
    pub(crate) fn name(&self, device: DeviceIndex) -> &str {
        self.devices.get(usize::from(device.0)).map_or("", |device| &device.name)
    }
}

impl Storage for Devices {
    fn device_count(&self) -> usize {
        self.devices.len()
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        self.devices.get(usize::from(device.0)).map_or(0, |device| device.size)
    }

    async fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, DeviceFault> {
        let fault = |cause| DeviceFault::read(device, offset, len, cause);
        let of_device = self.devices.get(usize::from(device.0));
        // `File` seeks and reads through a shared reference. std's positioned read for WASI is not
        // stable yet, and with one thread nobody moves the position between the two.
        let mut file = &of_device.ok_or_else(|| fault(FaultCause::Gone))?.file;
        let mut bytes = vec![0; len];
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|error| fault(cause(&error)))?;
        Ok(bytes)
    }

    fn is_writable(&self, _: DeviceIndex) -> bool {
        self.is_writable
    }

    async fn write(
        &self,
        device: DeviceIndex,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceFault> {
        let fault = |cause| DeviceFault::write(device, offset, bytes.len(), cause);
        let mut file = self.file_to_write(device).map_err(fault)?;
        // behind its end a file would grow, which a device never does
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.size(device)) {
            return Err(fault(FaultCause::OutOfRange));
        }
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.write_all(bytes))
            .map_err(|error| fault(cause(&error)))
    }

    async fn barrier(&self, device: DeviceIndex) -> Result<(), DeviceFault> {
        self.file_to_write(device)
            .and_then(|file| file.sync_data().map_err(|error| cause(&error)))
            .map_err(|cause| DeviceFault::barrier(device, cause))
    }
}

fn cause(error: &io::Error) -> FaultCause {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FaultCause::OutOfRange,
        io::ErrorKind::PermissionDenied => FaultCause::Denied,
        io::ErrorKind::ReadOnlyFilesystem => FaultCause::ReadOnly,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FaultCause::NoSpace,
        _ => FaultCause::Medium(error.raw_os_error().unwrap_or(0)),
    }
}
