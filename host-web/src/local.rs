//! A device that JavaScript brings, and with it the devices of a volume: either chosen files, which
//! are only read, or one device that is written too.
//!
//! The page's device (`page/device.js`) keeps its bytes in IndexedDB. It is JavaScript because an
//! IndexedDB transaction ends as soon as nobody in its callbacks asks for more: there a promise of
//! ours in between would end it, and every request would need a closure across the border.
//! Here is only what the core needs of it; a device of somebody else's will do as well.

use farrier_core::error::{DeviceFault, FaultCause};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;
use js_sys::{Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::files::FileSet;

#[wasm_bindgen]
extern "C" {
    /// A device of JavaScript's: see the type of this name in the `.d.ts`.
    #[wasm_bindgen(typescript_type = "BlockDevice")]
    #[derive(Debug, Clone)]
    pub type BlockDevice;

    #[wasm_bindgen(method, getter, structural)]
    fn size(this: &BlockDevice) -> f64;

    #[wasm_bindgen(method, structural, catch)]
    fn read(this: &BlockDevice, offset: f64, length: f64) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn write(this: &BlockDevice, offset: f64, bytes: Uint8Array) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn barrier(this: &BlockDevice) -> Result<JsValue, JsValue>;
}

/// The devices of a volume.
pub(crate) enum Devices {
    /// Files that somebody chose.
    Files(FileSet),
    /// A device that takes writes.
    Local(LocalDevice),
}

/// A [`BlockDevice`] with the size that it had when it was given.
pub(crate) struct LocalDevice {
    device: BlockDevice,
    size: u64,
}

impl LocalDevice {
    pub(crate) fn new(device: BlockDevice) -> Self {
        // saturates at both ends, and what is no number becomes 0: a device without room
        let size = device.size() as u64;
        Self { device, size }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    fn check(&self, offset: u64, len: usize) -> Result<(), FaultCause> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(FaultCause::OutOfRange),
        }
    }

    async fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, FaultCause> {
        self.check(offset, len)?;
        // both are at most the size, which came as f64
        let bytes = settle(self.device.read(offset as f64, len as f64)).await?;
        let bytes: Uint8Array = bytes.dyn_into().map_err(|_| FaultCause::Medium(0))?;
        if bytes.length() as usize == len {
            Ok(bytes.to_vec())
        } else {
            Err(FaultCause::OutOfRange)
        }
    }

    async fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), FaultCause> {
        self.check(offset, bytes.len())?;
        // A copy: a view of our memory would be kept by the device, and move under it.
        let copy = Uint8Array::from(bytes);
        settle(self.device.write(offset as f64, copy)).await.map(drop)
    }
}

impl Storage for Devices {
    fn device_count(&self) -> usize {
        match self {
            Self::Files(files) => files.device_count(),
            Self::Local(_) => 1,
        }
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        match self {
            Self::Files(files) => files.size(device),
            Self::Local(local) => local.size,
        }
    }

    async fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, DeviceFault> {
        match self {
            Self::Files(files) => files.read(device, offset, len).await,
            Self::Local(local) => local
                .read(offset, len)
                .await
                .map_err(|cause| DeviceFault::read(device, offset, len, cause)),
        }
    }

    fn is_writable(&self, _: DeviceIndex) -> bool {
        matches!(self, Self::Local(_))
    }

    async fn write(
        &self,
        device: DeviceIndex,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceFault> {
        let written = match self {
            Self::Files(_) => Err(FaultCause::ReadOnly),
            Self::Local(local) => local.write(offset, bytes).await,
        };
        written.map_err(|cause| DeviceFault::write(device, offset, bytes.len(), cause))
    }

    async fn barrier(&self, device: DeviceIndex) -> Result<(), DeviceFault> {
        let done = match self {
            Self::Files(_) => Err(FaultCause::ReadOnly),
            Self::Local(local) => settle(local.device.barrier()).await.map(drop),
        };
        done.map_err(|cause| DeviceFault::barrier(device, cause))
    }
}

/// What became of a call that may have answered with a promise.
async fn settle(called: Result<JsValue, JsValue>) -> Result<JsValue, FaultCause> {
    let answer = match called {
        Ok(answer) => match answer.dyn_into::<Promise>() {
            Ok(promise) => JsFuture::from(promise).await,
            Err(value) => Ok(value),
        },
        Err(error) => Err(error),
    };
    answer.map_err(|error| cause_of(&error))
}

/// What an exception of a device or a Blob means. A file that was changed or removed after it was
/// chosen cannot be read any more; a database that was removed or closed neither.
pub(crate) fn cause_of(error: &JsValue) -> FaultCause {
    let name = Reflect::get(error, &JsValue::from_str("name")).ok();
    match name.and_then(|name| name.as_string()).as_deref() {
        Some("NotReadableError" | "NotFoundError" | "InvalidStateError") => FaultCause::Gone,
        Some("SecurityError" | "NotAllowedError") => FaultCause::Denied,
        Some("QuotaExceededError") => FaultCause::NoSpace,
        _ => FaultCause::Medium(0),
    }
}
