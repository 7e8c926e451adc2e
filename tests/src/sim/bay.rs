//! Disks with caches that a simulated run pulls, lies with, and takes the power from.
//!
//! What is written is seen by reads at once, and lasts only behind a barrier. When the power goes,
//! of what no barrier covered any part is on the medium, torn and in any order.

use std::cell::RefCell;
use std::rc::Rc;

use farrier_core::error::{DeviceFault, FaultCause};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;

use crate::ops::Random;
use crate::rack::{Mode, Traffic};
use crate::ram::RamDisk;

/// Where metadata and data are, and nothing that a device has only once: behind headers and freemap.
const RESERVED_LEN: u64 = 4 << 20;
/// Distance of the reserved stretches.
const ZONE_LEN: u64 = 1 << 30;
/// What a device writes as a whole.
const SECTOR: u64 = 512;

/// What one disk does wrong without telling anybody; once in so many writes or reads, 0 for never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Silent {
    /// A bit of what is written is another one.
    pub flips: u64,
    /// What is written goes nowhere.
    pub lost: u64,
    /// What is written goes elsewhere.
    pub astray: u64,
    /// A read fails.
    pub reads: u64,
    /// Barriers do nothing.
    pub lies: bool,
}

#[derive(Debug)]
struct Disk {
    /// What is read.
    view: RamDisk,
    /// What lasts.
    durable: RamDisk,
    /// What the cache holds beyond that.
    pending: Vec<(u64, Vec<u8>)>,
    mode: Mode,
    /// It forgot something, and the next barrier has to say so.
    owes: bool,
    silent: Silent,
    traffic: Traffic,
}

#[derive(Debug)]
struct Inner {
    disks: Vec<Disk>,
    random: Random,
    /// Writes and barriers until the power goes.
    fuse: Option<u64>,
    is_dark: bool,
    /// Writes and barriers until a disk does something else.
    switch: Option<(u64, u8, Mode)>,
    harm: u64,
}

/// Disks, of which some are shown.
#[derive(Clone, Debug)]
pub struct Bay {
    inner: Rc<RefCell<Inner>>,
    shown: Rc<RefCell<Vec<u8>>>,
}

impl Bay {
    /// Empty disks of these sizes.
    #[must_use]
    pub fn new(sizes: &[u64], random: Random) -> Self {
        let disk = |size: &u64| Disk::over(RamDisk::of(&[*size]));
        Self::of(sizes.iter().map(disk).collect(), random)
    }

    fn of(disks: Vec<Disk>, random: Random) -> Self {
        let shown = listed((0..).zip(&disks).map(|(number, _)| number).collect());
        let (fuse, is_dark, switch, harm) = (None, false, None, 0);
        let inner = Inner { disks, random, fuse, is_dark, switch, harm };
        Self { inner: Rc::new(RefCell::new(inner)), shown }
    }

    /// The disks hold what the devices of `contents` do.
    pub fn fill(&self, contents: &RamDisk) {
        let disks = &mut self.inner.borrow_mut().disks;
        for (disk, contents) in disks.iter_mut().zip(contents.each_alone()) {
            *disk = Disk::over(contents);
        }
    }

    /// The same disks, of which those in `mask` are there.
    #[must_use]
    pub fn show(&self, mask: u8) -> Self {
        let shown = listed((0..8).filter(|disk| mask & 1 << disk != 0).collect());
        Self { inner: Rc::clone(&self.inner), shown }
    }

    /// Puts an empty disk of `size` bytes in the place of `disk`.
    pub fn renew(&self, disk: u8, size: u64) {
        self.with(disk, |disk| *disk = Disk::over(RamDisk::of(&[size])));
    }

    /// What is read of `disk`, as a disk of its own.
    #[must_use]
    pub fn view_of(&self, disk: u8) -> RamDisk {
        self.with(disk, |disk| disk.view.fork())
    }

    /// `disk` holds what `image` does.
    pub fn put(&self, disk: u8, image: &RamDisk) {
        self.with(disk, |disk| {
            let (silent, mode) = (disk.silent, disk.mode);
            *disk = Disk { silent, mode, ..Disk::over(image.fork()) };
        });
    }

    /// Whatever `disk` holds is something else, but for headers and freemap.
    pub fn scramble(&self, disk: u8) {
        let inner = &mut *self.inner.borrow_mut();
        let (disk, random) = (&mut inner.disks[usize::from(disk)], &mut inner.random);
        for (offset, page) in disk.view.pages() {
            if offset % ZONE_LEN >= RESERVED_LEN {
                let noise = page.iter().map(|_| random.next().to_le_bytes()[0]).collect::<Vec<_>>();
                disk.view.patch(offset, &noise);
            }
        }
        disk.pending.clear();
        disk.durable = disk.view.fork();
    }

    /// The number that `disk` has for whoever has this bay open, if it is there.
    #[must_use]
    pub fn device_of(&self, disk: u8) -> Option<DeviceIndex> {
        let number = self.shown.borrow().iter().position(|shown| *shown == disk)?;
        u8::try_from(number).ok().map(DeviceIndex)
    }

    /// From now on `disk` is there as well for whoever has this bay open: its number there.
    ///
    /// # Panics
    /// There are too many.
    #[must_use]
    pub fn reveal(&self, disk: u8) -> DeviceIndex {
        let mut shown = self.shown.borrow_mut();
        shown.push(disk);
        DeviceIndex(u8::try_from(shown.len() - 1).expect("a few disks"))
    }

    /// What goes wrong from now on follows from this.
    pub fn reseed(&self, random: Random) {
        self.inner.borrow_mut().random = random;
    }

    /// A bit of what lies on `disk` is another one, in the cache and below it.
    pub fn spoil(&self, disk: u8, offset: u64) {
        let byte = self.bytes(disk, offset, 1)[0] ^ 1;
        self.with(disk, |disk| {
            disk.view.patch(offset, &[byte]);
            disk.durable.patch(offset, &[byte]);
        });
    }

    /// Other disks that hold what these show now, without a fault.
    #[must_use]
    pub fn fork(&self) -> Self {
        let inner = self.inner.borrow();
        let disks = inner.disks.iter().map(|disk| Disk::over(disk.view.fork())).collect();
        let shown = listed(self.shown.borrow().clone());
        Self { shown, ..Self::of(disks, inner.random.clone()) }
    }

    /// Bytes that `disk` has.
    #[must_use]
    pub fn disk_size(&self, disk: u8) -> u64 {
        self.with(disk, |disk| disk.view.size(DeviceIndex(0)))
    }

    /// From now on `disk` does this.
    pub fn set(&self, disk: u8, mode: Mode) {
        self.with(disk, |disk| disk.mode = mode);
    }

    /// What `disk` does.
    #[must_use]
    pub fn mode(&self, disk: u8) -> Mode {
        self.with(disk, |disk| disk.mode)
    }

    /// After `count` more writes and barriers `disk` does this.
    pub fn set_after(&self, count: u64, disk: u8, mode: Mode) {
        self.inner.borrow_mut().switch = Some((count, disk, mode));
    }

    /// What waits to happen to a disk happens now.
    pub fn switch_now(&self) {
        let switch = self.inner.borrow_mut().switch.take();
        if let Some((_, disk, mode)) = switch {
            self.set(disk, mode);
        }
    }

    /// Whether something waits to happen to a disk.
    #[must_use]
    pub fn switches(&self) -> bool {
        self.inner.borrow().switch.is_some()
    }

    /// Whether `disk` does what it is told, and nothing waits to happen to it.
    #[must_use]
    pub fn is_sound(&self, disk: u8) -> bool {
        let waits = self.inner.borrow().switch.is_some_and(|(_, one, _)| one == disk);
        !waits && self.with(disk, |disk| disk.mode == Mode::Fine && !disk.owes)
    }

    /// Whether all disks in `mask` are [sound](Self::is_sound).
    #[must_use]
    pub fn is_still(&self, mask: u8) -> bool {
        (0..8).filter(|disk| mask & 1 << disk != 0).all(|disk| self.is_sound(disk))
    }

    /// Whether the power will go.
    #[must_use]
    pub fn has_fuse(&self) -> bool {
        self.inner.borrow().fuse.is_some()
    }

    /// What was forgotten is not spoken of any more: it was not acknowledged.
    pub fn forgive(&self) {
        self.inner.borrow_mut().disks.iter_mut().for_each(|disk| disk.owes = false);
    }

    /// Another disk that holds what would last on `disk` if the power went now.
    #[must_use]
    pub fn durable_disk(&self, disk: u8) -> RamDisk {
        self.with(disk, |disk| disk.durable.fork())
    }

    /// What `disk` does wrong in silence.
    pub fn set_silent(&self, disk: u8, silent: Silent) {
        self.with(disk, |disk| disk.silent = silent);
    }

    /// The power goes after so many writes and barriers.
    pub fn set_fuse(&self, count: u64) {
        self.inner.borrow_mut().fuse = Some(count);
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_dark(&self) -> bool {
        self.inner.borrow().is_dark
    }

    /// Times that something went wrong in silence.
    #[must_use]
    pub fn harm(&self) -> u64 {
        self.inner.borrow().harm
    }

    /// What was asked of `disk` since the last time.
    #[must_use]
    pub fn take_traffic(&self, disk: u8) -> Traffic {
        self.with(disk, |disk| std::mem::take(&mut disk.traffic))
    }

    /// Cuts the power and brings it back: what the caches held is there in part.
    pub fn power_cycle(&self) {
        let inner = &mut *self.inner.borrow_mut();
        (inner.fuse, inner.is_dark) = (None, false);
        for disk in &mut inner.disks {
            let style = inner.random.below(4);
            for (offset, bytes) in std::mem::take(&mut disk.pending) {
                let sectors = (bytes.len() as u64).div_ceil(SECTOR);
                let (from, to) = match (style, inner.random.below(8)) {
                    (0, _) | (2 | 3, 0..=2) => (0, 0),
                    (3, 3) => (0, inner.random.below(sectors + 1) * SECTOR),
                    (3, 4) => (inner.random.below(sectors + 1) * SECTOR, u64::MAX),
                    _ => (0, u64::MAX),
                };
                let to = to.min(bytes.len() as u64);
                if from < to {
                    let part = &bytes[index(from)..index(to)];
                    disk.durable.patch(offset + from, part);
                }
            }
            disk.view = disk.durable.fork();
            disk.owes = false;
        }
    }

    /// Bytes of a disk as they are read.
    ///
    /// # Panics
    /// Behind its end.
    #[must_use]
    pub fn bytes(&self, disk: u8, offset: u64, len: usize) -> Vec<u8> {
        let view = self.with(disk, |disk| disk.view.clone());
        farrier_core::drive::ready(view.read(DeviceIndex(0), offset, len)).expect("within the disk")
    }

    fn with<R>(&self, disk: u8, work: impl FnOnce(&mut Disk) -> R) -> R {
        work(&mut self.inner.borrow_mut().disks[usize::from(disk)])
    }

    fn disk_of(&self, device: DeviceIndex) -> u8 {
        self.shown.borrow()[usize::from(device.0)]
    }
}

fn listed(disks: Vec<u8>) -> Rc<RefCell<Vec<u8>>> {
    Rc::new(RefCell::new(disks))
}

impl Disk {
    fn over(disk: RamDisk) -> Self {
        Self {
            view: disk.fork(),
            durable: disk,
            pending: Vec::new(),
            mode: Mode::Fine,
            owes: false,
            silent: Silent::default(),
            traffic: Traffic::default(),
        }
    }

    fn put(&mut self, offset: u64, bytes: Vec<u8>) {
        self.view.patch(offset, &bytes);
        self.pending.push((offset, bytes));
    }
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("within memory")
}

impl Inner {
    /// Time goes on by a write or a barrier; whether there is power.
    fn tick(&mut self) -> bool {
        if let Some((left, disk, mode)) = &mut self.switch {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => {
                    self.disks[usize::from(*disk)].mode = *mode;
                    self.switch = None;
                }
            }
        }
        match &mut self.fuse {
            Some(0) => self.is_dark = true,
            Some(left) => *left -= 1,
            None => {}
        }
        !self.is_dark
    }

    fn chance(&mut self, times: u64) -> bool {
        let hit = times > 0 && self.random.once_in(times);
        self.harm += u64::from(hit);
        hit
    }

    /// A write to `disk`, as it goes wrong.
    fn write(&mut self, disk: usize, offset: u64, bytes: &[u8]) {
        let silent = self.disks[disk].silent;
        let mut bytes = bytes.to_vec();
        if offset % ZONE_LEN >= RESERVED_LEN {
            if self.chance(silent.lost) {
                return;
            }
            if self.chance(silent.flips) {
                let at = index(self.random.below(bytes.len() as u64));
                bytes[at] ^= 1 << self.random.below(8);
            }
            let elsewhere = (offset ^ 1 << 16 << self.random.below(3)) & !0xffff;
            let size = self.disks[disk].view.size(DeviceIndex(0));
            if elsewhere % ZONE_LEN >= RESERVED_LEN
                && elsewhere + bytes.len() as u64 <= size
                && self.chance(silent.astray)
            {
                return self.disks[disk].put(elsewhere, bytes);
            }
        }
        self.disks[disk].put(offset, bytes);
    }
}

impl Storage for Bay {
    fn device_count(&self) -> usize {
        self.shown.borrow().len()
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        self.with(self.disk_of(device), |disk| disk.view.size(DeviceIndex(0)))
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
        let number = usize::from(self.disk_of(device));
        let fault = |cause| DeviceFault::read(device, offset, len, cause);
        let view = {
            let inner = &mut *self.inner.borrow_mut();
            let fails =
                offset % ZONE_LEN >= RESERVED_LEN && inner.chance(inner.disks[number].silent.reads);
            let disk = &mut inner.disks[number];
            disk.traffic.reads += 1;
            disk.traffic.read_bytes += len as u64;
            if inner.is_dark || disk.mode == Mode::Gone {
                return Err(fault(FaultCause::Gone));
            }
            if fails {
                return Err(fault(FaultCause::Medium(5)));
            }
            disk.view.clone()
        };
        view.read(DeviceIndex(0), offset, len).await.map_err(|found| fault(found.cause))
    }

    async fn write(
        &self,
        device: DeviceIndex,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceFault> {
        let number = usize::from(self.disk_of(device));
        let fault = |cause| DeviceFault::write(device, offset, bytes.len(), cause);
        let inner = &mut *self.inner.borrow_mut();
        if !inner.tick() {
            return Err(fault(FaultCause::Gone));
        }
        let disk = &mut inner.disks[number];
        disk.traffic.writes += 1;
        disk.traffic.written_bytes += bytes.len() as u64;
        if offset + bytes.len() as u64 > disk.view.size(DeviceIndex(0)) {
            return Err(fault(FaultCause::OutOfRange));
        }
        match disk.mode {
            Mode::Gone => Err(fault(FaultCause::Gone)),
            Mode::NoWrites => Err(fault(FaultCause::Medium(5))),
            Mode::Late | Mode::Forgetful => {
                disk.owes = true;
                Ok(())
            }
            Mode::Fine => {
                inner.write(number, offset, bytes);
                Ok(())
            }
        }
    }

    async fn barrier(&self, device: DeviceIndex) -> Result<(), DeviceFault> {
        let number = usize::from(self.disk_of(device));
        let inner = &mut *self.inner.borrow_mut();
        let has_power = inner.tick();
        let disk = &mut inner.disks[number];
        if !has_power || disk.mode != Mode::Fine || std::mem::take(&mut disk.owes) {
            return Err(DeviceFault::barrier(device, FaultCause::Medium(5)));
        }
        if disk.silent.lies {
            inner.harm += 1;
            return Ok(());
        }
        for (offset, bytes) in std::mem::take(&mut disk.pending) {
            disk.durable.patch(offset, &bytes);
        }
        Ok(())
    }
}
