//! Blocks in memory, shared by every thread: the sharded cache, the table of reads under way, and
//! the door to read-ahead. This is what makes a [`Host`] of devices.
//!
//! Invariants:
//! * A block is read once, however many threads want it: the first one reads, the others wait.
//! * No lock is held while a device is read, a check code computed or a block expanded.
//! * A thread that waits for a read holds none of its own, so nobody waits in a circle.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use farrier_core::copies::lineage::ReadOnly;
use farrier_core::dirty::Memory;
use farrier_core::drive::bulkfree::Freed;
use farrier_core::drive::heal::{HealQueue, HealRequest};
use farrier_core::drive::pfs::PfsChange;
use farrier_core::drive::{self, Host, read_any, ready};
use farrier_core::engine::{Block, BlockCache, BlockId, Cache, Change, Operation, Want};
use farrier_core::error::{DeviceFault, Error, FaultCause};
use farrier_core::media::damage::DamagedBlock;
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;
use farrier_core::volume::{LiveCopies, Space, Volume};

use crate::ahead::ReadAheadPool;
use crate::copies::{self, MemberChange, ScrubWish, WitnessLine};
use crate::device::{Devices, Spare};
use crate::writing::{Flushing, WriteOptions, Writing};

/// Parts of the cache with a lock of their own.
const SHARDS: usize = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 4;
/// The smallest block has so many bytes, as a power of two.
const ADDRESS_BITS: u32 = 10;
/// The part of the cache that file contents may take, one in so many: who reads them keeps them
/// (the kernel, for a mount), and memory that is soon used again costs no page faults.
const DATA_SHARE: usize = 4;

/// The blocks of one file system, and the threads that read ahead.
#[derive(Debug)]
pub struct Blocks {
    store: Arc<Store>,
    ahead: ReadAheadPool,
    flushing: Option<Mutex<Flushing>>,
    writing: Option<Arc<Writing>>,
    pfs_changes: PfsChanges,
}

/// Changes of the PFSs, counted.
#[derive(Debug, Default)]
struct PfsChanges {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// What [`Blocks`] shares with its threads.
pub(crate) struct Store {
    volume: Volume,
    devices: Devices,
    shards: Vec<Shard>,
    /// Where is told what nobody is there to be told of.
    sink: OnceLock<Sink>,
    seed: AtomicU64,
    /// What has to be healed by who writes.
    bad: Mutex<HealQueue>,
    /// The way to the witness of the copies.
    pub(crate) witness: WitnessLine,
}

/// Where to tell.
pub(crate) type Sink = Box<dyn Fn(&str) + Send + Sync>;

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({:?})", self.devices)
    }
}

#[derive(Debug)]
struct Shard {
    cache: RwLock<ShardCache>,
    flights: Mutex<HashMap<BlockId, Arc<Flight>, BuildHasherDefault<DefaultHasher>>>,
}

#[derive(Debug)]
struct ShardCache {
    structure: BlockCache,
    data: BlockCache,
}

/// The copy on a device, whichever that is.
struct CopyOn {
    live: Arc<LiveCopies>,
    device: DeviceIndex,
}

impl Spare for CopyOn {
    fn is_spare(&self) -> bool {
        // of a volume of copies, what holds none is needed by nobody
        self.live.is_on()
            && self.live.copy_on(self.device).is_none_or(|copy| self.live.is_spare(copy))
    }

    fn give_up(&self) -> bool {
        self.live.is_on()
            && self.live.copy_on(self.device).is_none_or(|copy| self.live.lose_spare(copy))
    }

    fn took(&self, time: Duration) {
        if let Some(copy) = self.live.copy_on(self.device) {
            self.live.note_time(copy, u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        }
    }
}

/// A read under way.
#[derive(Debug, Default)]
struct Flight {
    landed: Mutex<Option<Result<Block, Error>>>,
    signal: Condvar,
}

impl Blocks {
    /// The blocks of `volume`, with a cache of about `cache_bytes` and `ahead_threads` threads
    /// that read ahead (none: no read-ahead).
    #[must_use]
    pub fn new(volume: Volume, devices: Devices, cache_bytes: usize, ahead_threads: usize) -> Self {
        Self::with(volume, devices, WitnessLine::default(), (cache_bytes, ahead_threads))
    }

    /// The same, with the way to the witness of the copies.
    pub(crate) fn with(
        volume: Volume,
        devices: Devices,
        witness: WitnessLine,
        (cache_bytes, ahead_threads): (usize, usize),
    ) -> Self {
        let shard_bytes = cache_bytes / SHARDS;
        let data_bytes = shard_bytes / DATA_SHARE;
        let shards = (0..SHARDS)
            .map(|_| Shard {
                cache: RwLock::new(ShardCache {
                    structure: BlockCache::new(shard_bytes - data_bytes),
                    data: BlockCache::new(data_bytes),
                }),
                flights: Mutex::default(),
            })
            .collect();
        let (sink, seed) = (OnceLock::new(), AtomicU64::new(1));
        let bad = Mutex::default();
        let store = Arc::new(Store { volume, devices, shards, sink, seed, bad, witness });
        let ahead = ReadAheadPool::new(Arc::clone(&store), ahead_threads);
        let pfs_changes = PfsChanges::default();
        Self { ahead, store, flushing: None, writing: None, pfs_changes }
    }

    /// From now on nobody waits for a device for longer than `limit` if it holds a copy that the volume
    /// can do without: the copy is lost then, and what was asked for comes from another one.
    pub fn limit_stalls(&self, limit: Duration) {
        let live = Arc::clone(self.volume().live());
        let spare = move |device| -> Box<dyn Spare> {
            Box::new(CopyOn { live: Arc::clone(&live), device })
        };
        self.devices().guard(limit, spare);
    }

    /// What to add to a refusal to write: why the witness was not asked, if that failed.
    pub(crate) fn unheard(&self) -> String {
        self.store.witness.unheard()
    }

    /// Opens the volume for writing too; its devices must be.
    ///
    /// # Errors
    /// Why it can only be read.
    pub fn open_for_writing(&mut self, options: WriteOptions) -> Result<(), Error> {
        let writing = Arc::new(Writing::open(&self.store, options)?);
        // what is shown has to be on every copy before anybody is told that it lasts
        writing.settle()?;
        self.flushing = Some(Mutex::new(Flushing::start(Arc::clone(&writing))?));
        self.writing = Some(writing);
        Ok(())
    }

    /// Has copies that are behind brought up to date beside everything else, as long as the volume
    /// is open for writing.
    pub fn catch_up(&self) {
        if let Some(flushing) = &self.flushing {
            lock(flushing).catch_up();
        }
    }

    /// Goes on with that where it could not go on before.
    ///
    /// # Errors
    /// The volume is not open for writing, or has no copies.
    pub fn catch_up_again(&self) -> Result<(), Error> {
        self.volume().copies().ok_or(Error::NotSupported)?;
        self.writing()?.catch_up_again();
        Ok(())
    }

    /// Changes the members of the group of copies, or its rules.
    ///
    /// # Errors
    /// A sentence: why not, where, and what to do.
    pub fn change_members(&self, change: &MemberChange) -> Result<copies::Changed, String> {
        let changed =
            copies::change(self.writing.as_deref().ok_or_else(|| self.read_only())?, change)?;
        // the first copies need somebody who fills them in and looks for them
        self.catch_up();
        Ok(changed)
    }

    /// Does what is wished about reading everything from every copy.
    ///
    /// # Errors
    /// A sentence: why that makes no sense now.
    pub fn scrub(&self, wish: ScrubWish, rate: Option<u64>) -> Result<(), String> {
        self.writing_of_copies()?;
        let flushing = self.flushing.as_ref().ok_or_else(|| self.read_only())?;
        lock(flushing).scrub(wish, rate)
    }

    /// What happened to copies behind the event with that number, oldest first; `None` where nobody
    /// keeps that.
    #[must_use]
    pub fn events_after(&self, seq: u64) -> Option<Vec<copies::Event>> {
        self.writing.as_ref()?.events_after(seq)
    }

    fn writing_of_copies(&self) -> Result<&Writing, String> {
        self.volume().copies().ok_or_else(copies::no_copies)?;
        self.writing.as_deref().ok_or_else(|| self.read_only())
    }

    /// Why nothing may be written, and what to do.
    fn read_only(&self) -> String {
        match self.volume().group().map(|group| group.decision().writable) {
            Some(Err(why)) if why != ReadOnly::Asked => format!("is mounted read-only: {why}"),
            _ => "is mounted read-only; mount it for writing first".to_owned(),
        }
    }

    /// How the copies of the volume are; `None` if it has none.
    #[must_use]
    pub fn copies_status(&self) -> Option<copies::Status> {
        let seen = match &self.writing {
            Some(writing) => writing.seen()?,
            None => copies::Seen::default(),
        };
        copies::of_open(self.volume(), self.devices(), Some(seen), &self.store.witness, self)
    }

    /// The same of a volume that nobody has mounted.
    pub(crate) fn copies_found(&self) -> Option<copies::Status> {
        copies::of_open(self.volume(), self.devices(), None, &self.store.witness, self)
    }

    /// A stretch of a file could not be read from any copy: it is listed, where that can be written.
    pub(crate) fn note_damage(&self, block: DamagedBlock) {
        if let (Some(_), Some(writing)) = (self.volume().copies(), &self.writing) {
            writing.note_damage(block);
        }
    }

    /// Keeps for those who ask that a copy was made the master by rule.
    pub fn note_promotion(&self, text: String) {
        if let Some(writing) = &self.writing {
            writing.note_promotion(text);
        }
    }

    /// What somebody should know of the copies who has just opened the volume.
    #[must_use]
    pub fn copies_notes(&self) -> Vec<String> {
        copies::notes(self.volume(), self.devices())
    }

    /// Whether the volume is open for writing.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.writing.is_some()
    }

    /// From now on, faults that nobody waits for are told to `sink`.
    pub fn tell_to(&self, sink: impl Fn(&str) + Send + Sync + 'static) {
        // the first one stays
        let _ = self.store.sink.set(Box::new(sink));
    }

    /// The file system that they are of.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        &self.store.volume
    }

    /// The devices that they are on.
    #[must_use]
    pub fn devices(&self) -> &Devices {
        &self.store.devices
    }

    /// Runs `operation`; waits for what it needs.
    ///
    /// # Errors
    /// Why the operation failed.
    pub fn run<O: Operation>(&self, operation: &O) -> Result<O::Output, Error>
    where
        O::Output: core::fmt::Debug,
    {
        ready(drive::run(self, operation))
    }

    /// Does `work`, and once more when the volume had halted meanwhile and went on: for programs, which
    /// have to wait as long as the rules of the group say. Whoever answers questions about the
    /// volume itself does not.
    pub(crate) fn outlast<R>(&self, work: impl Fn() -> Result<R, Error>) -> Result<R, Error> {
        match &self.writing {
            Some(writing) => writing.outlast(work),
            None => work(),
        }
    }

    /// Makes a change; waits for what it needs.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn change<C: Change>(&self, change: &C) -> Result<C::Output, Error>
    where
        C::Output: core::fmt::Debug,
    {
        self.writing()?.change(change)
    }

    /// Everything that was changed before is on media when this is done.
    ///
    /// # Errors
    /// The volume failed.
    pub fn sync(&self) -> Result<(), Error> {
        self.writing.as_ref().map_or(Ok(()), |writing| writing.sync())
    }

    /// Commits a change of the PFSs, and everything that was changed before.
    ///
    /// # Errors
    /// Why it cannot be made, or the volume failed.
    pub fn change_pfs(&self, change: &PfsChange) -> Result<(), Error> {
        let writing = self.writing()?;
        self.pfs_changes.begun.fetch_add(1, Ordering::SeqCst);
        let done = writing.change_pfs(change);
        self.pfs_changes.ended.fetch_add(1, Ordering::SeqCst);
        done
    }

    /// As long as this says the same, no PFS came, went or was renamed; `None` while that happens.
    pub(crate) fn pfs_state(&self) -> Option<u64> {
        // in this order: what ended before has not begun since
        let ended = self.pfs_changes.ended.load(Ordering::SeqCst);
        let begun = self.pfs_changes.begun.load(Ordering::SeqCst);
        (begun == ended).then_some(begun)
    }

    /// Frees what nothing refers to, beside everything else.
    ///
    /// # Errors
    /// What could not be read, or the volume failed.
    pub fn bulkfree(&self) -> Result<Freed, Error> {
        self.writing()?.bulkfree()
    }

    /// As [`sync`](Self::sync), for the last time.
    ///
    /// # Errors
    /// The volume failed.
    pub fn finish(&self) -> Result<(), Error> {
        self.flushing.as_ref().map_or(Ok(()), |flushing| lock(flushing).finish())
    }

    /// The space of the volume, as it is now.
    #[must_use]
    pub fn space(&self) -> Space {
        let space = self.volume().space();
        match &self.writing {
            Some(writing) => Space { free_bytes: writing.free_bytes(), ..space },
            None => space,
        }
    }

    /// The write side, if there is one.
    pub(crate) fn writing(&self) -> Result<&Writing, Error> {
        self.writing.as_deref().ok_or(Error::ReadOnly)
    }

    /// One block, from memory or from its device.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn get(&self, want: &Want) -> Result<Block, Error> {
        self.store.get(want)
    }

    /// One block, from its device and past the cache: for those who read everything once.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn read(&self, want: &Want) -> Result<Block, Error> {
        self.store.read(want)
    }
}

impl Blocks {
    /// Stored bytes of a stretch of the address space that lies within the volume of `first`, past
    /// the cache. Nobody has checked them.
    pub(crate) fn read_stretch(&self, first: &Want, stretch: Range<u64>) -> Result<Vec<u8>, Error> {
        if self.volume().copies().is_some() {
            // neighbours on one copy need not be any on the next
            return Err(Error::NotSupported);
        }
        let (device, offset) = self.volume().locate(first.location(), first.place())?;
        let len = usize::try_from(stretch.end - stretch.start).unwrap_or(0);
        Ok(ready(self.devices().read(device, offset, len))?)
    }
}

impl Cache for Blocks {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        self.store.shard(id).peek(id)
    }
}

impl Host for Blocks {
    fn fetch(&self, want: &Want) -> impl Future<Output = Result<Block, Error>> {
        let want = *want;
        // lazily: a future that is never polled must not read
        async move { self.store.get(&want) }
    }

    fn look<R>(&self, look: impl FnOnce(Option<&Memory>) -> R) -> R {
        match &self.writing {
            Some(writing) => writing.with_memory(|memory| look(Some(memory))),
            None => look(None),
        }
    }

    fn advise(&self, wants: Vec<Want>) {
        self.store.announce(&wants);
        self.ahead.advise(wants);
    }

    fn miss_seed(&self) -> u64 {
        self.store.miss_seed()
    }
}

impl Cache for Store {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        self.shard(id).peek(id)
    }
}

impl Host for Store {
    fn fetch(&self, want: &Want) -> impl Future<Output = Result<Block, Error>> {
        let want = *want;
        async move { self.get(&want) }
    }

    fn miss_seed(&self) -> u64 {
        // only for builds that look for operations which are not pure
        self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) | 1
    }
}

impl Store {
    pub(crate) const fn volume(&self) -> &Volume {
        &self.volume
    }

    pub(crate) const fn devices(&self) -> &Devices {
        &self.devices
    }

    pub(crate) fn tell(&self, text: &str) {
        if let Some(sink) = self.sink.get() {
            sink(text);
        }
    }

    /// `error` with the name of the device that it is about in place of its number.
    pub(crate) fn explain(&self, error: &Error) -> String {
        self.devices.explain(error)
    }

    /// Puts a block that was just made into the cache.
    pub(crate) fn keep(&self, want: &Want, block: Block) {
        self.shard(want.id()).insert(want, block);
    }

    fn shard(&self, id: &BlockId) -> &Shard {
        // Fibonacci hashing of the address: neighbours come to lie apart, and it costs nothing
        let hash = (id.offset().0 >> ADDRESS_BITS).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // what is shifted out leaves a number below the number of shards
        &self.shards[usize::try_from(hash >> (u64::BITS - SHARD_BITS)).unwrap_or(0)]
    }

    /// Tells the devices what will be read soon, neighbours as one range: threads that read ahead
    /// block by block look like chance to a kernel, which then reads little ahead itself.
    fn announce(&self, wants: &[Want]) {
        let mut range: Option<(DeviceIndex, u64, u64)> = None;
        for want in wants {
            let location = want.location();
            let place = match self.volume.copies() {
                Some(live) => live.candidates(want).first().map(|(_, device, at)| (*device, at.0)),
                None => self.volume.locate(location, want.place()).ok(),
            };
            let Some((device, offset)) = place else {
                continue;
            };
            let len = location.len() as u64;
            match &mut range {
                Some((last, start, so_far)) if *last == device && *start + *so_far == offset => {
                    *so_far += len;
                }
                _ => {
                    if let Some((device, offset, len)) = range.replace((device, offset, len)) {
                        self.devices.will_need(device, offset, len);
                    }
                }
            }
        }
        if let Some((device, offset, len)) = range {
            self.devices.will_need(device, offset, len);
        }
    }

    fn read(&self, want: &Want) -> Result<Block, Error> {
        let got = ready(read_any(&self.volume, &self.devices, want))?;
        if let Some(request) = HealRequest::of(want, &got.bad) {
            lock(&self.bad).push(request);
        }
        Ok(got.block)
    }

    /// What was bad on a copy since the last time.
    pub(crate) fn take_bad(&self) -> Vec<HealRequest> {
        lock(&self.bad).take()
    }

    fn get(&self, want: &Want) -> Result<Block, Error> {
        let shard = self.shard(want.id());
        if let Some(block) = shard.peek(want.id()) {
            return Ok(block);
        }
        match shard.board(want.id()) {
            Boarding::First(flight) => self.fly(shard, want, flight),
            Boarding::UnderWay(flight) => flight.wait(),
        }
    }

    /// Brings a block into the cache, unless it is there or on its way.
    pub(crate) fn get_ahead(&self, want: &Want) {
        let shard = self.shard(want.id());
        if shard.peek(want.id()).is_none()
            && let Boarding::First(flight) = shard.board(want.id())
        {
            // A fault will be met again, and told, by whoever really wants the block.
            let _ = self.fly(shard, want, flight);
        }
    }

    fn fly(&self, shard: &Shard, want: &Want, flight: Arc<Flight>) -> Result<Block, Error> {
        let landing = Landing { shard, want, flight };
        let got = match shard.peek(want.id()) {
            // it landed between the look into the cache and the boarding
            Some(block) => Ok(block),
            None => self.read(want),
        };
        if let Ok(block) = &got {
            shard.insert(want, Block::clone(block));
        }
        landing.flight.land(got.clone());
        got
    }
}

enum Boarding {
    First(Arc<Flight>),
    UnderWay(Arc<Flight>),
}

impl Shard {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        // Nothing that can panic runs under these locks; a poisoned one is as good as new.
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        cache.structure.peek(id).or_else(|| cache.data.peek(id))
    }

    fn insert(&self, want: &Want, block: Block) {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        let part = if want.is_data() { &mut cache.data } else { &mut cache.structure };
        part.insert(*want.id(), block);
    }

    fn board(&self, id: &BlockId) -> Boarding {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(id) {
            return Boarding::UnderWay(Arc::clone(flight));
        }
        let flight = Arc::new(Flight::default());
        flights.insert(*id, Arc::clone(&flight));
        Boarding::First(flight)
    }
}

impl Flight {
    fn land(&self, got: Result<Block, Error>) {
        *lock(&self.landed) = Some(got);
        self.signal.notify_all();
    }

    fn wait(&self) -> Result<Block, Error> {
        let mut landed = lock(&self.landed);
        loop {
            if let Some(got) = &*landed {
                return got.clone();
            }
            landed = self.signal.wait(landed).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Takes a flight off the table when it is over; even if the reader panicked, nobody waits on.
struct Landing<'a> {
    shard: &'a Shard,
    want: &'a Want,
    flight: Arc<Flight>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        lock(&self.shard.flights).remove(self.want.id());
        let is_over = lock(&self.flight.landed).is_some();
        if !is_over {
            let location = self.want.location();
            self.flight.land(Err(Error::Device(DeviceFault::read(
                DeviceIndex(0),
                location.offset.0,
                location.len(),
                FaultCause::Gone,
            ))));
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the devices of `blocks` are called.
impl Blocks {
    /// `error` with the name of the device that it is about in place of its number.
    #[must_use]
    pub fn explain(&self, error: &Error) -> String {
        self.store.explain(error)
    }

    /// Size of a device in bytes.
    #[must_use]
    pub fn device_size(&self, device: DeviceIndex) -> u64 {
        self.devices().size(device)
    }
}
