//! The one door to bytes outside: a set of devices. Floor 1.

use alloc::vec::Vec;

use crate::error::{DeviceFault, FaultCause};
use crate::units::DeviceIndex;

/// A set of devices, each with a small index: files, block devices, blobs of a page.
///
/// The futures of a native set are ready at once; those of a page are promises. The trait says
/// nothing of what lies on the devices and promises nothing about it: every block is checked by
/// whoever asked for it.
///
/// A set that can only be read implements the first three methods; the others refuse.
///
/// # Writing
/// A write is visible to every read that begins after it completed, but lasts only from the next
/// [`barrier`](Self::barrier) of its device on. Until then a crash or power cut may have brought any
/// part of it to the medium: writes between two barriers become durable in any order, and one of
/// them may be torn at any byte. Of two writes to the same bytes that were under way together,
/// either may win. A failed write leaves its bytes undefined: old, new, or a mixture.
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

    /// Whether [`write`](Self::write) may be asked of `device`. Wrappers of a set hand it on.
    fn is_writable(&self, _device: DeviceIndex) -> bool {
        false
    }

    /// Puts `bytes` at `offset`, all of them. A device never grows: what would leave it is
    /// [`FaultCause::OutOfRange`].
    ///
    /// # Errors
    /// The device does not take them all; [`FaultCause::ReadOnly`] if it takes none ever.
    fn write(
        &self,
        device: DeviceIndex,
        offset: u64,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), DeviceFault>> {
        let fault = DeviceFault::write(device, offset, bytes.len(), FaultCause::ReadOnly);
        core::future::ready(Err(fault))
    }

    /// Completes when every write to `device` that had completed before the call is durable: it
    /// survives a crash and a power cut, caches of the device included. Writes that begin after it
    /// completed reach the medium after all of those; of writes under way during the call it says
    /// nothing. It orders one device only: who wants an order between devices waits for the
    /// barriers of the earlier ones first.
    ///
    /// # Errors
    /// The device cannot promise it. Then it is not known what of the writes since the last barrier
    /// will last, and another try may succeed without having made them durable: they have to be
    /// written again, or given up.
    fn barrier(&self, device: DeviceIndex) -> impl Future<Output = Result<(), DeviceFault>> {
        core::future::ready(Err(DeviceFault::barrier(device, FaultCause::ReadOnly)))
    }
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

    fn is_writable(&self, device: DeviceIndex) -> bool {
        (**self).is_writable(device)
    }

    fn write(
        &self,
        device: DeviceIndex,
        offset: u64,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), DeviceFault>> {
        (**self).write(device, offset, bytes)
    }

    fn barrier(&self, device: DeviceIndex) -> impl Future<Output = Result<(), DeviceFault>> {
        (**self).barrier(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::ready;
    use alloc::string::ToString;
    use alloc::vec;

    struct ReadOnly;

    impl Storage for ReadOnly {
        fn device_count(&self) -> usize {
            1
        }

        fn size(&self, _: DeviceIndex) -> u64 {
            8
        }

        async fn read(&self, _: DeviceIndex, _: u64, len: usize) -> Result<Vec<u8>, DeviceFault> {
            Ok(vec![0; len])
        }
    }

    #[test]
    fn a_storage_that_says_nothing_of_writing_refuses_it() {
        let device = DeviceIndex(0);
        // through a reference, as the drivers see it
        let storage = &ReadOnly;
        assert!(!storage.is_writable(device));
        let write = ready(storage.write(device, 4096, b"abc")).unwrap_err();
        assert_eq!(write, DeviceFault::write(device, 4096, 3, FaultCause::ReadOnly));
        let barrier = ready(storage.barrier(device)).unwrap_err();
        assert_eq!(barrier.cause, FaultCause::ReadOnly);
        assert_eq!(
            write.to_string(),
            "device 0: writing 3 bytes at 0x1000 failed: the device is open for reading only"
        );
        assert!(barrier.to_string().contains("bringing what was written to the medium failed"));
    }
}
