//! Carrying out what [`volume::format`](crate::volume::format) worked out.

use alloc::vec;

use crate::error::{DeviceFault, FaultCause};
use crate::storage::Storage;
use crate::units::DeviceIndex;
use crate::volume::{FormatStep, Formatted};

/// Writes a new file system onto the devices of `storage`: those whose sizes the options named, in
/// the same order. What was on them is lost.
///
/// Zeros are only written where none are yet, so that a sparse file stays one. When this returns,
/// the file system is on the media to stay; when it fails or is dropped, the devices may hold
/// no file system any more.
///
/// # Errors
/// A device did not do what it was asked. If it takes no writes or has become smaller, that is
/// found before anything is written.
pub async fn format<S: Storage>(storage: &S, formatted: &Formatted) -> Result<(), DeviceFault> {
    for volume in &formatted.volumes {
        let fault = |cause| DeviceFault::write(volume.device, 0, 0, cause);
        if !storage.is_writable(volume.device) {
            return Err(fault(FaultCause::ReadOnly));
        }
        if storage.size(volume.device) < volume.device_size {
            return Err(fault(FaultCause::OutOfRange));
        }
    }
    for step in &formatted.steps {
        match step {
            FormatStep::Zero { device, offset, len } => {
                zero(storage, *device, *offset, *len).await?;
            }
            FormatStep::Write { device, offset, bytes } => {
                storage.write(*device, *offset, bytes).await?;
            }
            FormatStep::Barrier => {
                for volume in &formatted.volumes {
                    storage.barrier(volume.device).await?;
                }
            }
        }
    }
    Ok(())
}

async fn zero<S: Storage>(
    storage: &S,
    device: DeviceIndex,
    offset: u64,
    len: u64,
) -> Result<(), DeviceFault> {
    let zeros = vec![0; ZEROS_LEN];
    let (mut at, mut rest) = (offset, len);
    while rest > 0 {
        let piece = usize::try_from(rest).map_or(ZEROS_LEN, |rest| rest.min(ZEROS_LEN));
        // what cannot be read may still be written
        let is_zero = match storage.read(device, at, piece).await {
            Ok(bytes) => bytes == zeros[..piece],
            Err(_) => false,
        };
        if !is_zero {
            storage.write(device, at, &zeros[..piece]).await?;
        }
        at += piece as u64;
        rest -= piece as u64;
    }
    Ok(())
}

/// Zeros are written in pieces of this many bytes.
const ZEROS_LEN: usize = 1 << 20;
