//! Files and block devices as a [`Storage`].
//!
//! Invariants: a read or write does all its bytes or gives a fault with its cause; sizes are those
//! of the moment of opening, and no file grows. A device that was let go is written to no more, and
//! is not opened again before everything that was under way on it is over. Devices that are open for writing are ours alone, as
//! far as others keep to the same convention. What lies on the devices is none of this module's
//! business.

mod lane;
mod raw;
mod ring;

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use farrier_core::error::{DeviceFault, Error, FaultCause};
use farrier_core::flush::Bytes;
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use crate::blocks::lock;
use lane::{Calls, Lane, Pending};
use raw::Raw;

pub(crate) use lane::Spare;

/// Opened devices, in the order in which they were named. Others may come while the set is in use;
/// numbers stay what they are.
#[derive(Debug)]
pub struct Devices {
    /// Filled from the front.
    seats: Box<[OnceLock<Seat>]>,
    /// Devices that were let go, and may still have work under way. Held while a seat is filled.
    leaving: Mutex<Vec<(Identity, Weak<Raw>)>>,
    is_writable: bool,
    guard: OnceLock<Guard>,
}

/// How long devices may take to answer, and which of them the volume can do without.
struct Guard {
    limit: Duration,
    spare: Box<dyn Fn(DeviceIndex) -> Box<dyn Spare> + Send + Sync>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard({:?})", self.limit)
    }
}

/// The place of a device in the set.
#[derive(Debug)]
struct Seat {
    path: PathBuf,
    /// None once it was [let go](Devices::release).
    device: RwLock<Option<Arc<Device>>>,
    /// The first write or barrier that failed since it was opened, or read that it did not answer;
    /// kept when it is let go.
    fault: Mutex<Option<DeviceFault>>,
}

/// Whoever has work for a device holds it, so that it is closed when the last of that is over.
#[derive(Debug)]
struct Device {
    raw: Arc<Raw>,
    identity: Identity,
    /// Its threads, where it may not keep others waiting.
    lane: OnceLock<Lane>,
}

impl Device {
    /// The threads that it is read and written by, if the volume can do without it.
    fn lane(&self) -> Option<&Lane> {
        self.lane.get().filter(|lane| lane.is_spare() || lane.is_given_up())
    }

    /// As [`lane`](Self::lane); also where they still have something to write, or to tell.
    fn lane_to_settle(&self) -> Option<&Lane> {
        self.lane.get().filter(|lane| lane.is_spare() || lane.is_given_up() || lane.is_unsettled())
    }
}

/// A barrier that is under way, or is yet to be.
#[must_use]
pub(crate) struct Barrier {
    index: DeviceIndex,
    device: Option<Arc<Device>>,
    pending: Option<Result<Pending, FaultCause>>,
}

/// What two names of one file or block device have in common.
type Identity = (bool, u64, u64);

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
    /// The system itself uses the block device: it is mounted, swap, or part of another device.
    Busy,
    /// Another process has it open, by the convention of [`Devices::lock_shared`] and
    /// [`Devices::open_writable`].
    Locked,
    /// It was named twice.
    Twice,
    /// It is one of the set already.
    Own,
    /// It was let go, and something that was sent to it before is still under way.
    Stuck,
    /// There are as many devices as can be told apart.
    TooMany,
    /// It is to be written, and may only be read.
    NotWritable(io::Error),
    /// The system said no.
    Io(io::Error),
}

impl Devices {
    /// Opens `paths` for reading.
    ///
    /// # Errors
    /// The first one that cannot be opened, and why.
    pub fn open(paths: &[PathBuf]) -> Result<Self, OpenFault> {
        let devices = Self::empty(false);
        for path in paths {
            let fault = |cause| OpenFault { path: path.clone(), cause };
            let device = open_one(path).map_err(fault)?;
            devices.seat(path, device).map_err(fault)?;
        }
        Ok(devices)
    }

    /// Opens `paths` for reading and writing, and keeps others out as long as `self` lives: a
    /// second writer and, by the convention of [`lock_shared`](Self::lock_shared), a mount that
    /// reads. A block device is claimed from the kernel too, which refuses while it is mounted.
    ///
    /// # Errors
    /// The first one that cannot be opened, is in use or was named twice, and why.
    pub fn open_writable(paths: &[PathBuf]) -> Result<Self, OpenFault> {
        let devices = Self::empty(true);
        for path in paths {
            devices.open_one_more(path).map_err(|fault| match fault.cause {
                OpenCause::Own => OpenFault { cause: OpenCause::Twice, ..fault },
                _ => fault,
            })?;
        }
        Ok(devices)
    }

    fn empty(is_writable: bool) -> Self {
        let seats = (0..SEATS).map(|_| OnceLock::new()).collect();
        let (leaving, guard) = (Mutex::default(), OnceLock::new());
        Self { seats, leaving, is_writable, guard }
    }

    /// Opens one more device, as the others were, while they are in use. One that was
    /// [let go](Self::release) under the same path gets the number that it had. What it holds is read
    /// anew, whatever the system has in memory.
    ///
    /// # Errors
    /// It cannot be opened, or is one of the set already.
    pub fn add(&self, path: &Path) -> Result<DeviceIndex, OpenFault> {
        let index = self.open_one_more(path)?;
        if let Some(device) = self.device(index) {
            device.raw.forget();
        }
        Ok(index)
    }

    fn open_one_more(&self, path: &Path) -> Result<DeviceIndex, OpenFault> {
        let fault = |cause| OpenFault { path: path.to_owned(), cause };
        let metadata = look_at(path).map_err(fault)?;
        let identity = identity(&metadata);
        let is_it = |device: Arc<Device>| device.identity == identity;
        if (0..SEATS).any(|at| self.device(DeviceIndex(at)).is_some_and(is_it)) {
            return Err(fault(OpenCause::Own));
        }
        let leaving = lock(&self.leaving);
        // a write that comes late must not meet what is written from now on
        if leaving.iter().any(|(one, raw)| *one == identity && raw.strong_count() > 0) {
            return Err(fault(OpenCause::Stuck));
        }
        drop(leaving);
        let device = match self.is_writable {
            true => claim_one(path, &metadata),
            false => open_one(path),
        };
        self.seat(path, device.map_err(fault)?).map_err(fault)
    }

    /// Lets go of a device: from now on it is gone for everybody who asks for it. It is closed, and
    /// others may have it, when what is under way on it has come to its end.
    pub fn release(&self, index: DeviceIndex) {
        if let Some(seat) = self.seat_at(index) {
            let mut leaving = lock(&self.leaving);
            leaving.retain(|(_, raw)| raw.strong_count() > 0);
            // nothing can panic under this lock
            let gone = seat.device.write().unwrap_or_else(PoisonError::into_inner).take();
            leaving.extend(gone.map(|gone| (gone.identity, Arc::downgrade(&gone.raw))));
        }
    }

    fn seat(&self, path: &Path, device: Device) -> Result<DeviceIndex, OpenCause> {
        let _one_at_a_time = lock(&self.leaving);
        for (at, place) in (0..).zip(&self.seats) {
            let index = DeviceIndex(at);
            let Some(seat) = place.get() else {
                self.guard_one(index, &device);
                let device = RwLock::new(Some(Arc::new(device)));
                // nobody else fills it meanwhile
                let _ = place.set(Seat { path: path.to_owned(), device, fault: Mutex::default() });
                return Ok(index);
            };
            let mut seated = seat.device.write().unwrap_or_else(PoisonError::into_inner);
            if seated.is_none() && seat.path == path {
                self.guard_one(index, &device);
                *lock(&seat.fault) = None;
                *seated = Some(Arc::new(device));
                return Ok(index);
            }
        }
        Err(OpenCause::TooMany)
    }

    /// From now on no device, whether it is here or comes later, keeps anybody waiting for longer than
    /// `limit` that the volume can do without, as `spare` says: then it is given up.
    pub(crate) fn guard(
        &self,
        limit: Duration,
        spare: impl Fn(DeviceIndex) -> Box<dyn Spare> + Send + Sync + 'static,
    ) {
        let _one_at_a_time = lock(&self.leaving);
        // the first one stays
        let _ = self.guard.set(Guard { limit, spare: Box::new(spare) });
        for index in (0..SEATS).map(DeviceIndex) {
            if let Some(device) = self.device(index) {
                self.guard_one(index, &device);
            }
        }
    }

    fn guard_one(&self, index: DeviceIndex, device: &Device) {
        if let Some(Guard { limit, spare }) = self.guard.get() {
            device.lane.get_or_init(|| {
                device.raw.expect_jumps();
                let calls: Arc<dyn Calls> = Arc::clone(&device.raw) as _;
                Lane::new(calls, spare(index), *limit)
            });
        }
    }

    /// Whether a device is read and written by threads of its own.
    pub(crate) fn has_threads(&self, index: DeviceIndex) -> bool {
        self.device(index).is_some_and(|device| device.lane().is_some())
    }

    /// Has `bytes` written: at once, or soon by the device's own threads. What fails later is told by
    /// the next barrier.
    pub(crate) fn send(
        &self,
        index: DeviceIndex,
        offset: u64,
        bytes: Bytes,
    ) -> Result<(), DeviceFault> {
        let len = bytes.len();
        let sent = self.to_write(index).and_then(|device| match device.lane() {
            Some(lane) => lane.send(offset, bytes),
            None => device.raw.write(offset, &bytes),
        });
        sent.map_err(|cause| self.remember(DeviceFault::write(index, offset, len, cause)))
    }

    /// Begins a barrier, if the device has threads of its own, so that several wait together.
    pub(crate) fn begin_barrier(&self, index: DeviceIndex) -> Barrier {
        let device = self.device(index).filter(|_| self.is_writable);
        let lane = device.as_ref().and_then(|device| device.lane_to_settle());
        let pending = lane.map(Lane::begin_barrier);
        Barrier { index, device, pending }
    }

    /// Waits for a barrier, or does it.
    pub(crate) fn end_barrier(&self, barrier: Barrier) -> Result<(), DeviceFault> {
        let Barrier { index, device, pending } = barrier;
        let ended = match (&device, pending) {
            (None, _) => self.to_write(index).map(drop),
            (Some(device), None) => device.raw.barrier(),
            (Some(device), Some(pending)) => {
                let lane = device.lane.get().ok_or(FaultCause::Gone);
                lane.and_then(|lane| lane.wait(&pending?))
            }
        };
        ended.map_err(|cause| self.remember(DeviceFault::barrier(index, cause)))
    }

    fn seat_at(&self, index: DeviceIndex) -> Option<&Seat> {
        self.seats.get(usize::from(index.0))?.get()
    }

    fn device(&self, index: DeviceIndex) -> Option<Arc<Device>> {
        let seat = self.seat_at(index)?;
        seat.device.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The path that `index` was named by.
    #[must_use]
    pub fn path(&self, index: DeviceIndex) -> Option<&Path> {
        Some(&self.seat_at(index)?.path)
    }

    /// `error` with the path of the device that it is about in place of its number.
    #[must_use]
    pub fn explain(&self, error: &Error) -> String {
        explain(error, |index| self.path(index))
    }

    /// The first write or barrier that a device failed with since it was opened, or a read that it did
    /// not answer in time.
    #[must_use]
    pub fn first_fault(&self, index: DeviceIndex) -> Option<DeviceFault> {
        *lock(&self.seat_at(index)?.fault)
    }

    fn remember(&self, fault: DeviceFault) -> DeviceFault {
        if let Some(seat) = self.seat_at(fault.device) {
            // the first one tells most
            lock(&seat.fault).get_or_insert(fault);
        }
        fault
    }

    /// Whether a device is here, and was not let go.
    pub(crate) fn is_open(&self, index: DeviceIndex) -> bool {
        self.device(index).is_some()
    }

    /// Takes a shared lock on every device, which lasts as long as `self`: whoever writes to them
    /// by the same convention takes an exclusive one and is kept out.
    ///
    /// # Errors
    /// The first device that somebody holds exclusively.
    pub fn lock_shared(&self) -> Result<(), &Path> {
        for (at, seat) in (0..).zip(self.seats.iter().map_while(OnceLock::get)) {
            let Some(device) = self.device(DeviceIndex(at)) else { continue };
            let lock = rustix::fs::flock(device.raw.file(), FlockOperation::NonBlockingLockShared);
            if lock == Err(Errno::WOULDBLOCK) {
                return Err(&seat.path);
            }
        }
        Ok(())
    }

    /// Tells the system that a range will be read soon, so that it comes in large pieces and while
    /// we do other things.
    pub(crate) fn will_need(&self, index: DeviceIndex, offset: u64, len: u64) {
        let Some(device) = self.device(index) else { return };
        match device.lane() {
            _ if device.raw.is_in_memory() => {}
            Some(lane) => lane.will_need(offset, len),
            None => device.raw.will_need(offset, len),
        }
    }

    fn read_now(&self, index: DeviceIndex, offset: u64, len: usize) -> Result<Vec<u8>, FaultCause> {
        let device = self.device(index).ok_or(FaultCause::Gone)?;
        let Some(lane) = device.lane() else {
            return device.raw.read(offset, len, Vec::new());
        };
        if !lane.is_given_up() {
            if device.raw.is_in_memory() {
                return device.raw.read(offset, len, Vec::new());
            }
            if device.raw.is_prompt()
                && let Some(aside) = ring::read(&device.raw, offset, len, lane)
            {
                return aside;
            }
        }
        // what is in memory keeps nobody waiting
        let mut bytes = vec![0; len];
        if !lane.is_given_up() && device.raw.read_cached(offset, &mut bytes) {
            return Ok(bytes);
        }
        bytes.clear();
        let began = Instant::now();
        let read = lane.read(offset, len, bytes);
        if read.is_ok() {
            lane.took(began.elapsed());
        }
        read
    }

    /// The device, if it may be written.
    fn to_write(&self, index: DeviceIndex) -> Result<Arc<Device>, FaultCause> {
        let device = self.device(index).ok_or(FaultCause::Gone)?;
        if self.is_writable { Ok(device) } else { Err(FaultCause::ReadOnly) }
    }

    fn write_now(&self, index: DeviceIndex, offset: u64, bytes: &[u8]) -> Result<(), FaultCause> {
        let device = self.to_write(index)?;
        match device.lane() {
            Some(lane) => lane.write(offset, Bytes::Owned(bytes.to_vec())),
            None => device.raw.write(offset, bytes),
        }
    }
}

impl Storage for Devices {
    fn device_count(&self) -> usize {
        self.seats.iter().map_while(OnceLock::get).count()
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        self.device(device).map_or(0, |device| device.raw.size())
    }

    fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> impl Future<Output = Result<Vec<u8>, DeviceFault>> {
        let got = self.read_now(device, offset, len).map_err(|cause| {
            let fault = DeviceFault::read(device, offset, len, cause);
            // a block that cannot be read says nothing of the device; that it does not answer does
            if cause == FaultCause::Stalled { self.remember(fault) } else { fault }
        });
        std::future::ready(got)
    }

    fn is_writable(&self, device: DeviceIndex) -> bool {
        self.to_write(device).is_ok()
    }

    fn write(
        &self,
        device: DeviceIndex,
        offset: u64,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), DeviceFault>> {
        let done = self.write_now(device, offset, bytes);
        let fault = |cause| DeviceFault::write(device, offset, bytes.len(), cause);
        std::future::ready(done.map_err(|cause| self.remember(fault(cause))))
    }

    fn barrier(&self, device: DeviceIndex) -> impl Future<Output = Result<(), DeviceFault>> {
        std::future::ready(self.end_barrier(self.begin_barrier(device)))
    }
}

/// `error` with the name of the device that it is about, as `name` knows it.
pub(crate) fn explain<'a>(error: &Error, name: impl Fn(DeviceIndex) -> Option<&'a Path>) -> String {
    match error {
        Error::Device(fault) => match name(fault.device) {
            Some(path) => fault.named(path.display()).to_string(),
            None => fault.to_string(),
        },
        other => other.to_string(),
    }
}

/// Opening a pipe would wait for its other end, so its kind is looked at before.
fn look_at(path: &Path) -> Result<Metadata, OpenCause> {
    let metadata = std::fs::metadata(path).map_err(OpenCause::Io)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(OpenCause::Kind("a directory"));
    }
    if !kind.is_file() && !kind.is_block_device() {
        return Err(OpenCause::Kind("neither a file nor a block device"));
    }
    Ok(metadata)
}

fn identity(metadata: &Metadata) -> Identity {
    if metadata.file_type().is_block_device() {
        (true, metadata.rdev(), 0)
    } else {
        (false, metadata.dev(), metadata.ino())
    }
}

fn open_one(path: &Path) -> Result<Device, OpenCause> {
    look_at(path)?;
    device(File::open(path).map_err(OpenCause::Io)?)
}

/// Opens a device for writing, for us alone.
fn claim_one(path: &Path, metadata: &Metadata) -> Result<Device, OpenCause> {
    let is_block_device = metadata.file_type().is_block_device();
    let mut options = File::options();
    options.read(true).write(true);
    if is_block_device {
        // without CREATE this claims a block device from the kernel
        options.custom_flags(OFlags::EXCL.bits().cast_signed());
    }
    let file = options.open(path).map_err(|error| match error.kind() {
        ErrorKind::ResourceBusy => OpenCause::Busy,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            OpenCause::NotWritable(error)
        }
        _ => OpenCause::Io(error),
    })?;
    // Whoever looks at new devices, such as udev, locks them for a moment.
    let patience = if is_block_device { LOCK_TRIES_MAX } else { 1 };
    for attempt in 1..=patience {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if attempt == patience => return Err(OpenCause::Locked),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            // a file system that knows no locks cannot tell us more
            _ => break,
        }
    }
    device(file)
}

fn device(mut file: File) -> Result<Device, OpenCause> {
    let size = file.seek(SeekFrom::End(0)).map_err(OpenCause::Io)?;
    // of what was opened: the name may mean something else by now
    let identity = identity(&file.metadata().map_err(OpenCause::Io)?);
    let raw = Arc::new(Raw::new(file, size));
    Ok(Device { raw, identity, lane: OnceLock::new() })
}

impl std::fmt::Display for OpenFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        match &self.cause {
            OpenCause::Kind(kind) => {
                write!(f, "{path}: is {kind}; name an image file or a block device")
            }
            OpenCause::Busy => write!(
                f,
                "{path}: in use by the system: mounted, swap, or part of another device; unmount \
                 it or take it out of use"
            ),
            OpenCause::Locked => write!(
                f,
                "{path}: in use by another program that has it open or mounted; end that first"
            ),
            OpenCause::Twice => write!(f, "{path}: named twice; leave out one of them"),
            OpenCause::Own => {
                write!(f, "{path}: is a device of this volume already; name another one")
            }
            OpenCause::Stuck => write!(
                f,
                "{path}: something that was sent to it before is still under way; wait until it \
                 answers or is gone, then try again"
            ),
            OpenCause::TooMany => write!(
                f,
                "{path}: there are {SEATS} devices that were seen since the volume was opened; \
                 unmount it and mount it again"
            ),
            OpenCause::NotWritable(error) => match error.kind() {
                ErrorKind::ReadOnlyFilesystem => write!(
                    f,
                    "{path}: read-only; name a device that can be written, or remount what holds it"
                ),
                _ => write!(
                    f,
                    "{path}: permission denied; become a user who may write it, such as root"
                ),
            },
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

/// How often a lock on a block device is tried for, with [`LOCK_PAUSE`] in between.
const LOCK_TRIES_MAX: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Devices that can be told apart by their number.
const SEATS: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_core::drive::ready;
    use std::io::Write;

    const FIRST: DeviceIndex = DeviceIndex(0);

    /// A file of 1000 sevens that goes away with its guard.
    struct Sevens(PathBuf);

    impl Sevens {
        fn new(test: &str) -> Self {
            let name = format!("farrier-device-{test}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            File::create(&path).unwrap().write_all(&[7; 1000]).unwrap();
            Self(path)
        }

        fn paths(&self) -> &[PathBuf] {
            std::slice::from_ref(&self.0)
        }
    }

    impl Drop for Sevens {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_read_behind_the_end_is_a_fault_and_never_short() {
        let file = Sevens::new("read");
        let devices = Devices::open(file.paths()).unwrap();
        assert_eq!(devices.size(FIRST), 1000);
        assert_eq!(ready(devices.read(FIRST, 990, 10)).unwrap(), [7; 10]);
        let fault = ready(devices.read(FIRST, 990, 11)).unwrap_err();
        assert_eq!(fault.cause, FaultCause::OutOfRange);
        let fault = ready(devices.read(DeviceIndex(1), 0, 1)).unwrap_err();
        assert_eq!(fault.cause, FaultCause::Gone);
    }

    #[test]
    fn what_is_written_is_read_and_the_file_does_not_grow() {
        let file = Sevens::new("write");
        let devices = Devices::open_writable(file.paths()).unwrap();
        assert!(devices.is_writable(FIRST) && !devices.is_writable(DeviceIndex(1)));
        ready(devices.write(FIRST, 998, b"ab")).unwrap();
        ready(devices.barrier(FIRST)).unwrap();
        assert_eq!(ready(devices.read(FIRST, 997, 3)).unwrap(), b"\x07ab");
        let fault = ready(devices.write(FIRST, 999, b"cd")).unwrap_err();
        assert_eq!(fault, DeviceFault::write(FIRST, 999, 2, FaultCause::OutOfRange));
        let fault = ready(devices.write(FIRST, u64::MAX, b"cd")).unwrap_err();
        assert_eq!(fault.cause, FaultCause::OutOfRange);
        assert_eq!(ready(devices.barrier(DeviceIndex(1))).unwrap_err().cause, FaultCause::Gone);
        assert_eq!(std::fs::metadata(&file.0).unwrap().len(), 1000);
    }

    #[test]
    fn what_is_open_for_reading_refuses_writes() {
        let file = Sevens::new("refuse");
        let devices = Devices::open(file.paths()).unwrap();
        assert!(!devices.is_writable(FIRST));
        let fault = ready(devices.write(FIRST, 0, b"ab")).unwrap_err();
        assert_eq!(fault.cause, FaultCause::ReadOnly);
        assert_eq!(ready(devices.barrier(FIRST)).unwrap_err().cause, FaultCause::ReadOnly);
        assert_eq!(ready(devices.read(FIRST, 0, 2)).unwrap(), [7; 2]);
    }

    #[test]
    fn a_writer_keeps_out_writers_and_mounts() {
        let file = Sevens::new("lock");
        let locked = || Devices::open_writable(file.paths()).unwrap_err().to_string();
        let reader = Devices::open(file.paths()).unwrap();
        reader.lock_shared().unwrap();
        assert!(locked().contains("in use by another program"), "{}", locked());
        drop(reader);
        let writer = Devices::open_writable(file.paths()).unwrap();
        assert!(locked().contains("in use by another program"));
        let reader = Devices::open(file.paths()).unwrap();
        assert_eq!(reader.lock_shared(), Err(file.0.as_path()));
        drop(writer);
        reader.lock_shared().unwrap();
    }

    #[test]
    fn a_device_named_twice_is_told_so() {
        let file = Sevens::new("twice");
        let dotted = file.0.parent().unwrap().join(".").join(file.0.file_name().unwrap());
        let fault = Devices::open_writable(&[file.0.clone(), dotted]).unwrap_err();
        assert!(matches!(fault.cause, OpenCause::Twice), "{fault}");
    }

    #[test]
    fn a_device_is_added_let_go_and_added_again() {
        let (first, second) = (Sevens::new("stays"), Sevens::new("comes"));
        let devices = Devices::open_writable(first.paths()).unwrap();
        let cause = |path: &Path| devices.add(path).unwrap_err().cause;
        assert!(matches!(cause(&first.0), OpenCause::Own));
        let index = devices.add(&second.0).unwrap();
        assert_eq!((index, devices.device_count()), (DeviceIndex(1), 2));
        assert_eq!(devices.path(index), Some(second.0.as_path()));
        ready(devices.write(index, 0, b"ab")).unwrap();
        assert!(ready(devices.write(index, 1000, b"c")).is_err());
        assert!(devices.first_fault(index).is_some());
        assert!(matches!(cause(&second.0), OpenCause::Own));

        // somebody still has work for it
        let at_work = Arc::clone(&devices.device(index).unwrap().raw);
        devices.release(index);
        let fault = ready(devices.read(index, 0, 2)).unwrap_err();
        assert_eq!((fault.cause, devices.size(index)), (FaultCause::Gone, 0));
        assert_eq!(devices.path(index), Some(second.0.as_path()));
        assert!(matches!(cause(&second.0), OpenCause::Stuck));
        drop(at_work);
        assert_eq!(devices.add(&second.0).unwrap(), index);
        assert_eq!(ready(devices.read(index, 0, 2)).unwrap(), b"ab");
        assert_eq!(devices.first_fault(index), None);
    }

    #[test]
    fn a_directory_and_a_missing_file_are_told_apart() {
        let told = |path: &str| Devices::open(&[PathBuf::from(path)]).unwrap_err().to_string();
        assert!(told("/").contains("is a directory; name"));
        assert!(told("/dev/null").contains("neither a file nor a block device"));
        assert!(told("/no/such").contains("no such file or device"));
        let to_write = Devices::open_writable(&[PathBuf::from("/dev/null")]).unwrap_err();
        assert!(to_write.to_string().contains("neither a file nor a block device"));
    }
}
