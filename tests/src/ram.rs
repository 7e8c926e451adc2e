//! A device in memory that remembers what was written to it, and in which order.

use std::cell::RefCell;
use std::rc::Rc;

use farrier_core::error::{DeviceFault, FaultCause};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;

/// What happened to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These bytes were written here.
    Write {
        /// Offset on the device.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// All of it was made to last.
    Barrier,
}

/// One device in memory; clones are the same device.
#[derive(Clone, Debug)]
pub struct RamDisk {
    inner: Rc<RefCell<Inner>>,
}

#[derive(Debug)]
struct Inner {
    bytes: Vec<u8>,
    events: Option<Vec<Event>>,
    /// Writes and barriers left until the device fails.
    fails_after: Option<u64>,
}

impl RamDisk {
    /// A device of `len` zeros.
    pub fn new(len: usize) -> Self {
        Self::with(vec![0; len])
    }

    /// A device with these contents.
    pub fn with(bytes: Vec<u8>) -> Self {
        let inner = Inner { bytes, events: None, fails_after: None };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    /// Its contents.
    pub fn bytes(&self) -> Vec<u8> {
        self.inner.borrow().bytes.clone()
    }

    /// Remembers what happens from now on.
    pub fn record(&self) {
        self.inner.borrow_mut().events = Some(Vec::new());
    }

    /// What happened since [`RamDisk::record`].
    pub fn events(&self) -> Vec<Event> {
        self.inner.borrow().events.clone().unwrap_or_default()
    }

    /// Number of events since [`RamDisk::record`].
    pub fn event_count(&self) -> usize {
        self.inner.borrow().events.as_ref().map_or(0, Vec::len)
    }

    /// Every write and barrier after the next `count` fails.
    pub fn fail_after(&self, count: Option<u64>) {
        self.inner.borrow_mut().fails_after = count;
    }
}

impl Inner {
    fn is_failing(&mut self) -> bool {
        match &mut self.fails_after {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

impl Storage for RamDisk {
    fn device_count(&self) -> usize {
        1
    }

    fn size(&self, _: DeviceIndex) -> u64 {
        self.inner.borrow().bytes.len() as u64
    }

    fn is_writable(&self, _: DeviceIndex) -> bool {
        true
    }

    async fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, DeviceFault> {
        let at = usize::try_from(offset).unwrap();
        let fault = || DeviceFault::read(device, offset, len, FaultCause::OutOfRange);
        self.inner.borrow().bytes.get(at..at + len).map(<[u8]>::to_vec).ok_or_else(fault)
    }

    async fn write(
        &self,
        device: DeviceIndex,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceFault> {
        let fault = |cause| DeviceFault::write(device, offset, bytes.len(), cause);
        let inner = &mut *self.inner.borrow_mut();
        if inner.is_failing() {
            return Err(fault(FaultCause::Medium(5)));
        }
        let at = usize::try_from(offset).unwrap();
        let place = inner.bytes.get_mut(at..at + bytes.len());
        place.ok_or_else(|| fault(FaultCause::OutOfRange))?.copy_from_slice(bytes);
        if let Some(events) = &mut inner.events {
            events.push(Event::Write { offset, bytes: bytes.to_vec() });
        }
        Ok(())
    }

    async fn barrier(&self, device: DeviceIndex) -> Result<(), DeviceFault> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.is_failing() {
            return Err(DeviceFault::barrier(device, FaultCause::Medium(5)));
        }
        if let Some(events) = &mut inner.events {
            events.push(Event::Barrier);
        }
        Ok(())
    }
}
