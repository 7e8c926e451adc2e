//! Several disks in memory that can be pulled, lie and come back: what a volume of copies is on.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use farrier_core::error::{DeviceFault, FaultCause};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;

use crate::ram::RamDisk;

/// What a disk does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// What it is told.
    #[default]
    Fine,
    /// Nothing: it was pulled.
    Gone,
    /// It takes writes and forgets them; the next barrier says so.
    Late,
    /// It is read, but takes no writes.
    NoWrites,
    /// It takes writes and forgets them, and never says so.
    Forgetful,
}

/// What a place on a disk does that is otherwise fine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spot {
    /// It takes no writes.
    Refuses,
    /// It takes writes and forgets them.
    Forgets,
}

/// A disk, some of its bytes, and what they do.
type BadSpot = (u8, Range<u64>, Spot);

/// Counts of what was asked of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// Some of the disks of a rack, in an order: what a host opens.
#[derive(Clone, Debug)]
pub struct Rack {
    disks: RamDisk,
    state: Rc<RefCell<Vec<(Mode, Traffic)>>>,
    shown: Rc<RefCell<Vec<u8>>>,
    spots: Rc<RefCell<Vec<BadSpot>>>,
    /// Writes and barriers left until the power goes.
    left: Rc<RefCell<Option<u64>>>,
}

impl Rack {
    /// Empty disks of these sizes, all of them shown.
    ///
    /// # Panics
    /// More than 255 of them.
    #[must_use]
    pub fn new(sizes: &[u64]) -> Self {
        let count = u8::try_from(sizes.len()).expect("a few disks");
        Self {
            disks: RamDisk::of(sizes),
            state: Rc::new(RefCell::new(vec![<_>::default(); sizes.len()])),
            shown: Rc::new(RefCell::new((0..count).collect())),
            spots: Rc::default(),
            left: Rc::default(),
        }
    }

    /// The same disks, of which only `disks` are there, in this order.
    #[must_use]
    pub fn show(&self, disks: &[u8]) -> Self {
        Self { shown: Rc::new(RefCell::new(disks.to_vec())), ..self.clone() }
    }

    /// From now on `disk` is there as well, for whoever has this rack open.
    pub fn reveal(&self, disk: u8) {
        self.shown.borrow_mut().push(disk);
    }

    /// A rack of its own with what is on the disks now; all of them work.
    #[must_use]
    pub fn fork(&self) -> Self {
        let count = self.state.borrow().len();
        Self {
            disks: self.disks.fork(),
            state: Rc::new(RefCell::new(vec![<_>::default(); count])),
            shown: Rc::new(RefCell::new(self.shown.borrow().clone())),
            spots: Rc::default(),
            left: Rc::default(),
        }
    }

    /// From now on `disk` does this.
    pub fn set(&self, disk: u8, mode: Mode) {
        self.state.borrow_mut()[usize::from(disk)].0 = mode;
    }

    /// From now on these bytes of `disk` do this.
    pub fn set_spot(&self, disk: u8, bytes: Range<u64>, spot: Spot) {
        self.spots.borrow_mut().push((disk, bytes, spot));
    }

    fn spot(&self, device: DeviceIndex, offset: u64, len: usize) -> Option<Spot> {
        let (disk, end) = (self.disk(device).0, offset + len as u64);
        let spots = self.spots.borrow();
        let mut met = spots
            .iter()
            .filter(|(one, bytes, _)| *one == disk && bytes.start < end && offset < bytes.end);
        met.next().map(|(.., spot)| *spot)
    }

    /// After the next `count` writes and barriers the power goes: nothing more reaches any disk.
    pub fn cut_after(&self, count: Option<u64>) {
        *self.left.borrow_mut() = count;
    }

    /// Whether the power has gone; if not, one thing more is done.
    fn is_cut(&self) -> bool {
        match &mut *self.left.borrow_mut() {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// What was asked of `disk` since the last time.
    #[must_use]
    pub fn take_traffic(&self, disk: u8) -> Traffic {
        std::mem::take(&mut self.state.borrow_mut()[usize::from(disk)].1)
    }

    /// Changes bytes on a disk behind everybody's back.
    pub fn patch(&self, disk: u8, offset: u64, bytes: &[u8]) {
        self.disks.patch_on(DeviceIndex(disk), offset, bytes);
    }

    /// A disk has another length from now on; what it gains is zeros.
    pub fn grow(&self, disk: u8, len: u64) {
        self.disks.grow(DeviceIndex(disk), len);
    }

    /// What is on a disk.
    ///
    /// # Panics
    /// It cannot be that long.
    #[must_use]
    pub fn bytes(&self, disk: u8, offset: u64, len: usize) -> Vec<u8> {
        farrier_core::drive::ready(self.disks.read(DeviceIndex(disk), offset, len))
            .expect("within the disk")
    }

    /// Pages of a disk that hold something, with their offsets.
    #[must_use]
    pub fn pages(&self, disk: u8) -> Vec<(u64, Rc<Vec<u8>>)> {
        self.disks.pages_of(DeviceIndex(disk))
    }

    /// Whether a host sees `disk`.
    #[must_use]
    pub fn is_shown(&self, disk: u8) -> bool {
        self.shown.borrow().contains(&disk)
    }

    fn disk(&self, device: DeviceIndex) -> DeviceIndex {
        DeviceIndex(self.shown.borrow()[usize::from(device.0)])
    }

    fn mode(&self, device: DeviceIndex) -> Mode {
        self.state.borrow()[usize::from(self.disk(device).0)].0
    }

    fn count(&self, device: DeviceIndex, count: impl FnOnce(&mut Traffic)) {
        count(&mut self.state.borrow_mut()[usize::from(self.disk(device).0)].1);
    }
}

impl Storage for Rack {
    fn device_count(&self) -> usize {
        self.shown.borrow().len()
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        self.disks.size(self.disk(device))
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
        self.count(device, |traffic| {
            traffic.reads += 1;
            traffic.read_bytes += len as u64;
        });
        if self.mode(device) == Mode::Gone {
            return Err(DeviceFault::read(device, offset, len, FaultCause::Gone));
        }
        self.disks.read(self.disk(device), offset, len).await
    }

    async fn write(
        &self,
        device: DeviceIndex,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceFault> {
        self.count(device, |traffic| {
            traffic.writes += 1;
            traffic.written_bytes += bytes.len() as u64;
        });
        let fault = |cause| DeviceFault::write(device, offset, bytes.len(), cause);
        if self.is_cut() {
            return Err(fault(FaultCause::Gone));
        }
        match self.spot(device, offset, bytes.len()) {
            Some(Spot::Refuses) => return Err(fault(FaultCause::Medium(5))),
            Some(Spot::Forgets) => return Ok(()),
            None => {}
        }
        match self.mode(device) {
            Mode::Gone => Err(fault(FaultCause::Gone)),
            Mode::NoWrites => Err(fault(FaultCause::Medium(5))),
            Mode::Late | Mode::Forgetful => Ok(()),
            Mode::Fine => self.disks.write(self.disk(device), offset, bytes).await,
        }
    }

    async fn barrier(&self, device: DeviceIndex) -> Result<(), DeviceFault> {
        if self.is_cut() {
            return Err(DeviceFault::barrier(device, FaultCause::Gone));
        }
        match self.mode(device) {
            Mode::Fine | Mode::Forgetful => self.disks.barrier(self.disk(device)).await,
            _ => Err(DeviceFault::barrier(device, FaultCause::Medium(5))),
        }
    }
}
