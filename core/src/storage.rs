//! The one door to bytes outside: a set of devices. Floor 1.

use alloc::vec::Vec;

use crate::error::DeviceFault;
use crate::units::DeviceIndex;

/// A set of devices, each with a small index: files, block devices, blobs of a page.
///
/// The futures of a native set are ready at once; those of a page are promises. The trait says
/// nothing of what lies on the devices and promises nothing about it: every block is checked by
/// whoever asked for it.
pub trait Storage {
    /// Number of devices; they have the indices below it.
    fn device_count(&self) -> usize;

    /// Size of `device` in bytes, as it was when the set was opened.
    fn size(&self, device: DeviceIndex) -> u64;

    /// The `len` bytes at `offset`, all of them.
    ///
    /// # Errors
    /// The device cannot give them; a short read is a fault, never a short answer.
    fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> impl Future<Output = Result<Vec<u8>, DeviceFault>>;
}

impl<S: Storage + ?Sized> Storage for &S {
    fn device_count(&self) -> usize {
        (**self).device_count()
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        (**self).size(device)
    }

    fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> impl Future<Output = Result<Vec<u8>, DeviceFault>> {
        (**self).read(device, offset, len)
    }
}
