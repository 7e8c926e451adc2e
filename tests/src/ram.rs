//! A device in memory that remembers what was written to it, and in which order.
//!
//! Only what is not zero takes memory, so it may be as large as a test needs; a copy shares what
//! neither changes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use farrier_core::error::{DeviceFault, FaultCause};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;

/// What happened to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These bytes were written here.
    Write {
        /// The device.
        device: DeviceIndex,
        /// Offset on the device.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// All that was written to this device was made to last.
    Barrier(DeviceIndex),
}

/// A device in memory, or several; clones are the same ones.
#[derive(Clone, Debug)]
pub struct RamDisk {
    inner: Rc<RefCell<Inner>>,
}

/// Grain in which memory is taken.
const PAGE: u64 = 16 << 10;

#[derive(Clone, Debug, Default)]
struct Pages {
    len: u64,
    /// Shared with devices that were the same not long ago.
    pages: Rc<BTreeMap<u64, Rc<Vec<u8>>>>,
}

#[derive(Debug)]
struct Inner {
    devices: Vec<Pages>,
    events: Option<Vec<Event>>,
    /// Writes and barriers left until the device fails.
    fails_after: Option<u64>,
}

impl RamDisk {
    /// A device of `len` zeros.
    pub fn new(len: usize) -> Self {
        Self::of(&[len as u64])
    }

    /// Devices of these many zeros.
    pub fn of(sizes: &[u64]) -> Self {
        let device = |len: &u64| Pages { len: *len, ..Pages::default() };
        Self::over(sizes.iter().map(device).collect())
    }

    /// A device with these contents.
    pub fn with(bytes: Vec<u8>) -> Self {
        let mut pages = Pages { len: bytes.len() as u64, ..Pages::default() };
        for (number, page) in bytes.chunks(index(PAGE)).enumerate() {
            if page.iter().any(|byte| *byte != 0) {
                pages.write(number as u64 * PAGE, page);
            }
        }
        Self::over(vec![pages])
    }

    fn over(devices: Vec<Pages>) -> Self {
        let inner = Inner { devices, events: None, fails_after: None };
        Self { inner: Rc::new(RefCell::new(inner)) }
    }

    /// Another device with the same contents: what happens to one does not happen to the other.
    pub fn fork(&self) -> Self {
        Self::over(self.inner.borrow().devices.clone())
    }

    /// Each device by itself, with the same contents.
    pub fn each_alone(&self) -> Vec<Self> {
        let devices = &self.inner.borrow().devices;
        devices.iter().map(|device| Self::over(vec![device.clone()])).collect()
    }

    /// Contents of the first device.
    pub fn bytes(&self) -> Vec<u8> {
        let pages = &self.inner.borrow().devices[0];
        pages.read(0, index(pages.len))
    }

    /// Pages of the first device that hold something, with their offsets.
    pub fn pages(&self) -> Vec<(u64, Rc<Vec<u8>>)> {
        self.pages_of(DeviceIndex(0))
    }

    /// Pages of a device that hold something, with their offsets.
    pub fn pages_of(&self, device: DeviceIndex) -> Vec<(u64, Rc<Vec<u8>>)> {
        let pages = &self.inner.borrow().devices[usize::from(device.0)].pages;
        pages.iter().map(|(number, page)| (number * PAGE, Rc::clone(page))).collect()
    }

    /// A device has another length from now on; what it gains is zeros.
    pub fn grow(&self, device: DeviceIndex, len: u64) {
        self.inner.borrow_mut().devices[usize::from(device.0)].len = len;
    }

    /// Writes to the first device behind everybody's back: no event, no failure.
    ///
    /// # Panics
    /// Behind the end.
    pub fn patch(&self, offset: u64, bytes: &[u8]) {
        self.patch_on(DeviceIndex(0), offset, bytes);
    }

    /// As [`RamDisk::patch`], on any device.
    ///
    /// # Panics
    /// Behind the end.
    pub fn patch_on(&self, device: DeviceIndex, offset: u64, bytes: &[u8]) {
        let pages = &mut self.inner.borrow_mut().devices[usize::from(device.0)];
        assert!(offset + bytes.len() as u64 <= pages.len, "a patch within the device");
        pages.write(offset, bytes);
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

impl Pages {
    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let end = offset + len as u64;
        for (number, page) in self.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let start = number * PAGE;
            let (from, to) = (start.max(offset), (start + PAGE).min(end));
            bytes[index(from - offset)..index(to - offset)]
                .copy_from_slice(&page[index(from - start)..index(to - start)]);
        }
        bytes
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            let start = at / PAGE * PAGE;
            let to = (start + PAGE).min(end);
            let page = Rc::make_mut(&mut self.pages).entry(at / PAGE);
            let page = page.or_insert_with(|| Rc::new(vec![0; index(PAGE)]));
            Rc::make_mut(page)[index(at - start)..index(to - start)]
                .copy_from_slice(&bytes[index(at - offset)..index(to - offset)]);
            at = to;
        }
    }
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("within memory")
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
        self.inner.borrow().devices.len()
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        self.inner.borrow().devices[usize::from(device.0)].len
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
        let inner = self.inner.borrow();
        let pages = &inner.devices[usize::from(device.0)];
        if offset.checked_add(len as u64).is_none_or(|end| end > pages.len) {
            return Err(DeviceFault::read(device, offset, len, FaultCause::OutOfRange));
        }
        Ok(pages.read(offset, len))
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
        let pages = &mut inner.devices[usize::from(device.0)];
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > pages.len) {
            return Err(fault(FaultCause::OutOfRange));
        }
        pages.write(offset, bytes);
        if let Some(events) = &mut inner.events {
            events.push(Event::Write { device, offset, bytes: bytes.to_vec() });
        }
        Ok(())
    }

    async fn barrier(&self, device: DeviceIndex) -> Result<(), DeviceFault> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.is_failing() {
            return Err(DeviceFault::barrier(device, FaultCause::Medium(5)));
        }
        if let Some(events) = &mut inner.events {
            events.push(Event::Barrier(device));
        }
        Ok(())
    }
}
