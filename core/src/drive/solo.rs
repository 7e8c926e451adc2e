//! A host of one thread, for a page, a module, a test: everything a volume needs but its devices.
//!
//! Reads go through a cache; with [`Solo::open_for_writing`] changes are taken too. Operations may
//! wait for the storage, and others go on meanwhile; of flushes there is one at a time, and who
//! asks for another one gets [`Error::Busy`].

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

use super::attach::{AttachError, attach, identify};
use super::bulkfree::{self, Freed};
use super::change::{self, Origin, Pressure, WriteHost};
use super::commit::{self, Flusher};
use super::convert::{self, NewGroup, Stripped};
use super::copies::{self, MemberError, NewCopy};
use super::grow::{Grown, grow};
use super::heal::{HealQueue, HealRequest, Healed, heal};
use super::open::{load_freemap, open_for_writing, open_tree};
use super::pfs::PfsChange;
use super::relocate::{Relocated, relocate};
use super::resume::{ResumeError, resume};
use super::resync::{Filled, resync};
use super::scrub::{self, Scrub};
use super::{Host, read_any, read_stored, repair, rewrite_piece, run, write_header, write_piece};
use crate::copies::witness::{Telling, WitnessFault};
use crate::copies::{EpochId, Rules, WitnessPlace};
use crate::dirty::{Budget, Memory};
use crate::engine::{Block, BlockCache, BlockId, Cache, Change, Operation, Want};
use crate::error::Error;
use crate::flush::{Piece, Placed};
use crate::fs::Pfs;
use crate::media::damage::DamagedBlock;
use crate::repair::Plan;
use crate::scan::Bulkfree;
use crate::storage::Storage;
use crate::units::{DeviceIndex, WallTime};
use crate::volume::{OpenOptions, Volume};

/// Memory that changes may take before a flush is made of them, by default.
const DIRTY_MAX: u64 = 16 << 20;
/// Bytes of tables that a flush looks through for blocks that need another place.
const RELOCATE_BYTES: u64 = 4 << 20;

/// A volume, its cache, and what was changed.
pub struct Solo<S> {
    storage: S,
    volume: Volume,
    cache: RefCell<BlockCache>,
    memory: RefCell<Option<Memory>>,
    flusher: RefCell<Option<Box<Flusher>>>,
    dirty_max: Cell<u64>,
    seed: Cell<u64>,
    origin: Cell<Option<Origin>>,
    bad: RefCell<HealQueue>,
    tell: RefCell<Option<Tell>>,
}

/// Tells a witness; see [`WriteHost::tell_witness`].
pub type Tell = Box<dyn Fn(&Telling) -> Result<(), WitnessFault>>;

impl<S> fmt::Debug for Solo<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Solo({:?})", self.volume)
    }
}

impl<S: Storage> Solo<S> {
    /// Opens the file system on `storage`, to read it, with a cache of about `cache_bytes`.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub async fn open(storage: S, options: OpenOptions, cache_bytes: usize) -> Result<Self, Error> {
        let volume = super::open(&storage, options).await?;
        Ok(Self {
            storage,
            volume,
            cache: RefCell::new(BlockCache::new(cache_bytes)),
            memory: RefCell::new(None),
            flusher: RefCell::new(None),
            dirty_max: Cell::new(DIRTY_MAX),
            seed: Cell::new(1),
            origin: Cell::new(None),
            bad: RefCell::new(HealQueue::new()),
            tell: RefCell::new(None),
        })
    }

    /// As [`Solo::open`], for writing too.
    ///
    /// # Errors
    /// Why it cannot be opened, or not be written.
    pub async fn open_for_writing(
        storage: S,
        options: OpenOptions,
        cache_bytes: usize,
    ) -> Result<Self, Error> {
        let host = Self::open(storage, options, cache_bytes).await?;
        if host.volume.pieces().iter().any(|piece| !host.storage.is_writable(piece.device)) {
            return Err(Error::ReadOnly);
        }
        let (flusher, memory) = open_for_writing(&host, &host.volume).await?;
        host.memory.replace(Some(memory));
        host.flusher.replace(Some(Box::new(flusher)));
        Ok(host)
    }

    /// As [`Solo::open_for_writing`], to carry out a plan of repairs: a freemap that it puts right
    /// is right before anything is written. See [`Solo::repair`].
    ///
    /// # Errors
    /// Why it cannot be opened, or not be written; [`Error::ReadOnly`] if the plan has a
    /// [doubt](Plan::doubt).
    pub async fn open_for_repair(
        storage: S,
        options: OpenOptions,
        cache_bytes: usize,
        plan: &Plan,
    ) -> Result<Self, Error> {
        let host = Self::open(storage, options, cache_bytes).await?;
        if host.volume.pieces().iter().any(|piece| !host.storage.is_writable(piece.device)) {
            return Err(Error::ReadOnly);
        }
        let (flusher, memory) = repair::open(&host, &host.volume, plan).await?;
        host.memory.replace(Some(memory));
        host.flusher.replace(Some(Box::new(flusher)));
        Ok(host)
    }

    /// Fills in what copies lack, up to about `budget` bytes; see [`resync`].
    ///
    /// # Errors
    /// The volume failed; [`Error::Busy`] while a flush is on its way.
    pub async fn resync(&self, budget: u64) -> Result<Filled, Error> {
        let mut flusher = self.take_flusher()?;
        let result = resync(self, &mut flusher, budget).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Adds a copy; see [`add`](super::copies::add).
    ///
    /// # Errors
    /// Why it cannot be added; [`Error::Busy`] while a flush is on its way.
    pub async fn add_copy(&self, new: NewCopy) -> Result<u8, MemberError> {
        let mut flusher = self.take_flusher()?;
        let result = copies::add(self, &mut flusher, new).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Attaches a copy that came back on `device`; see [`attach`].
    ///
    /// # Errors
    /// Why it cannot be attached; [`Error::Busy`] while a flush is on its way.
    pub async fn attach_copy(
        &self,
        device: DeviceIndex,
        is_asked_for: bool,
    ) -> Result<u8, AttachError> {
        let found = identify(&self.storage, device, self.volume.checks()).await?;
        let mut flusher = self.take_flusher()?;
        let result = attach(self, &mut flusher, &found, is_asked_for).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Goes on after the volume halted, with the copies on these devices; see [`resume`].
    ///
    /// # Errors
    /// Why it cannot; [`Error::Busy`] while a flush is on its way.
    pub async fn resume(&self, devices: &[DeviceIndex]) -> Result<(), ResumeError> {
        let mut found = Vec::with_capacity(devices.len());
        for device in devices {
            let appeared = identify(&self.storage, *device, self.volume.checks()).await;
            found.push(appeared.map_err(ResumeError::Device)?);
        }
        let mut flusher = self.take_flusher()?;
        let result = resume(self, &mut flusher, &found).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Takes a copy away for good; see [`remove`](super::copies::remove).
    ///
    /// # Errors
    /// Why it cannot be taken away; [`Error::Busy`] while a flush is on its way.
    pub async fn remove_copy(&self, slot: u8) -> Result<(), MemberError> {
        let mut flusher = self.take_flusher()?;
        let result = copies::remove(self, &mut flusher, slot).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Puts a new device in the place of a copy; see [`replace`](super::copies::replace).
    ///
    /// # Errors
    /// Why it cannot be done; [`Error::Busy`] while a flush is on its way.
    pub async fn replace_copy(&self, slot: u8, new: NewCopy) -> Result<u8, MemberError> {
        let mut flusher = self.take_flusher()?;
        let result = copies::replace(self, &mut flusher, slot, new).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Leaves a copy behind on purpose; see [`detach`](super::copies::detach).
    ///
    /// # Errors
    /// Why it cannot be; [`Error::Busy`] while a flush is on its way.
    pub async fn detach_copy(&self, slot: u8) -> Result<(), MemberError> {
        let mut flusher = self.take_flusher()?;
        let result = copies::detach(self, &mut flusher, slot).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Makes a volume without copies one of copies; see [`to_copies`](super::convert::to_copies).
    ///
    /// # Errors
    /// Why it cannot be; [`Error::Busy`] while a flush is on its way.
    pub async fn to_copies(&self, new: NewGroup) -> Result<(), MemberError> {
        let mut flusher = self.take_flusher()?;
        let result = convert::to_copies(self, &mut flusher, &self.volume, new).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Counts what happens to a copy from zero again; see
    /// [`reset_counters`](super::copies::reset_counters).
    ///
    /// # Errors
    /// Why not; [`Error::Busy`] while a flush is on its way.
    pub async fn reset_counters(&self, slot: u8) -> Result<(), MemberError> {
        let mut flusher = self.take_flusher()?;
        let result = copies::reset_counters(self, &mut flusher, slot).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Forgets what is known to be damaged; see [`clear_damage`](super::damage::clear_damage).
    ///
    /// # Errors
    /// Why not; [`Error::Busy`] while a flush is on its way.
    pub async fn clear_damage(&self) -> Result<(), MemberError> {
        let mut flusher = self.take_flusher()?;
        let result = super::damage::clear_damage(self, &mut flusher).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Names a block that is good on no copy; the next commit makes that last.
    ///
    /// # Errors
    /// [`Error::Busy`] while a flush is on its way.
    pub fn note_damage(&self, block: DamagedBlock) -> Result<(), Error> {
        let mut flusher = self.take_flusher()?;
        flusher.note_damage(block);
        self.flusher.replace(Some(flusher));
        Ok(())
    }

    /// Changes the rules of the group; see [`set_rules`](super::copies::set_rules).
    ///
    /// # Errors
    /// Why they cannot be these; [`Error::Busy`] while a flush is on its way.
    pub async fn set_rules(&self, rules: Rules) -> Result<(), MemberError> {
        let mut flusher = self.take_flusher()?;
        let result = copies::set_rules(self, &mut flusher, rules).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Gives the group a witness, another one, or none; see [`set_witness`](super::witness::set_witness).
    ///
    /// # Errors
    /// Why it cannot be that; [`Error::Busy`] while a flush is on its way.
    pub async fn set_witness(&self, witness: Option<WitnessPlace>) -> Result<(), MemberError> {
        let mut flusher = self.take_flusher()?;
        let result = super::witness::set_witness(self, &mut flusher, witness).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Witnesses are told like this from now on; without, none can be reached.
    pub fn set_tell(&self, tell: Tell) {
        self.tell.replace(Some(tell));
    }

    /// Makes a volume of copies one without, a part at a time; see [`strip`](super::convert::strip).
    ///
    /// # Errors
    /// Why it cannot be; [`Error::Busy`] while a flush is on its way.
    pub async fn strip(&self, keep: u8, budget: u64) -> Result<Stripped, MemberError> {
        let mut flusher = self.take_flusher()?;
        let result = convert::strip(self, &mut flusher, keep, budget).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Gives up what a copy holds; see [`discard`](super::promote::discard).
    ///
    /// # Errors
    /// Why it cannot be; [`Error::Busy`] while a flush is on its way.
    pub async fn discard_copy(&self, copy: u8, epoch: EpochId) -> Result<(), MemberError> {
        let mut flusher = self.take_flusher()?;
        let result = super::promote::discard(self, &mut flusher, copy, epoch).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Chance, clock and host of the epochs of copies that begin from now on; the bytes are changed
    /// a little for each.
    pub fn set_origin(&self, origin: Origin) {
        self.origin.set(Some(origin));
    }

    /// Opens a PFS for writing.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub async fn open_tree(&self, label: &[u8]) -> Result<Pfs, Error> {
        open_tree(self, label).await
    }

    /// The devices.
    pub const fn storage(&self) -> &S {
        &self.storage
    }

    /// The volume as it was opened.
    pub const fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Memory that changes may take before a flush is made of them, in bytes.
    pub fn set_dirty_max(&self, bytes: u64) {
        self.dirty_max.set(bytes);
    }

    /// Runs an operation that changes nothing.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn run<O: Operation>(&self, operation: &O) -> Result<O::Output, Error>
    where
        O::Output: fmt::Debug,
    {
        run(self, operation).await
    }

    /// Runs an operation that changes something.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn change<C: Change>(&self, change: &C) -> Result<C::Output, Error>
    where
        C::Output: fmt::Debug,
    {
        change::change(self, change).await
    }

    /// Commits what was changed, and returns whether anything was. With `always`, a commit is made
    /// even if nothing was.
    ///
    /// # Errors
    /// What a device said; [`Error::Busy`] while another flush is on its way.
    pub async fn flush(&self, always: bool) -> Result<bool, Error> {
        let mut flusher = self.take_flusher()?;
        let result = self.flush_healed(&mut flusher, always).await;
        self.flusher.replace(Some(flusher));
        result
    }

    async fn flush_healed(&self, flusher: &mut Flusher, always: bool) -> Result<bool, Error> {
        heal(self, flusher, self.take_bad()).await?;
        let flushed = commit::flush(self, flusher, always).await?;
        relocate(self, flusher, RELOCATE_BYTES).await?;
        Ok(flushed)
    }

    /// Writes again what was read since the last time and was bad on a copy. Every flush does so
    /// first.
    ///
    /// # Errors
    /// The volume failed; [`Error::Busy`] while a flush is on its way.
    pub async fn heal(&self) -> Result<Healed, Error> {
        let mut flusher = self.take_flusher()?;
        let result = heal(self, &mut flusher, self.take_bad()).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// What was read since the last time and was bad on a copy.
    pub fn take_bad(&self) -> Vec<HealRequest> {
        self.bad.borrow_mut().take()
    }

    /// Writes these blocks again; see [`heal`].
    ///
    /// # Errors
    /// As [`Solo::heal`].
    pub async fn heal_these(&self, requests: Vec<HealRequest>) -> Result<Healed, Error> {
        let mut flusher = self.take_flusher()?;
        let result = heal(self, &mut flusher, requests).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Gives blocks that could not be healed another place; see [`relocate`].
    ///
    /// # Errors
    /// The volume failed; [`Error::Busy`] while a flush is on its way.
    pub async fn relocate(&self, budget: u64) -> Result<Relocated, Error> {
        let mut flusher = self.take_flusher()?;
        let result = relocate(self, &mut flusher, budget).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Reads about `budget` bytes from every copy, and heals what is bad; whether there is more to
    /// do. See [`scrub`].
    ///
    /// # Errors
    /// The volume failed; [`Error::Busy`] while a flush is on its way.
    pub async fn scrub(&self, scrub: &mut Scrub, budget: u64) -> Result<bool, Error> {
        let mut flusher = self.take_flusher()?;
        let result = scrub::step(self, &mut flusher, scrub, budget).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Commits what was changed, for the last time; see [`commit::close`].
    ///
    /// # Errors
    /// What a device said; [`Error::Busy`] while a flush is on its way.
    pub async fn close(&self) -> Result<(), Error> {
        let mut flusher = self.take_flusher()?;
        let result = commit::close(self, &mut flusher).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Commits a change of the PFSs.
    ///
    /// # Errors
    /// Why it cannot be made; [`Error::Busy`] while a flush is on its way.
    pub async fn change_pfs(&self, change: &PfsChange) -> Result<(), Error> {
        let mut flusher = self.take_flusher()?;
        let result = commit::change_pfs(self, &mut flusher, change).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Begins a scan for what nothing refers to; see [`bulkfree`].
    ///
    /// # Errors
    /// The volume failed; [`Error::Busy`] while a flush is on its way.
    pub async fn begin_bulkfree(&self) -> Result<Bulkfree, Error> {
        let mut flusher = self.take_flusher()?;
        let result = bulkfree::begin(self, &mut flusher).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Runs the scan to its end and frees what it did not find.
    ///
    /// # Errors
    /// What could not be read; [`Error::Busy`] while a flush is on its way.
    pub async fn finish_bulkfree(&self, mut scan: Bulkfree) -> Result<Freed, Error> {
        bulkfree::run_scan(self, &mut scan).await;
        let mut flusher = self.take_flusher()?;
        let result = bulkfree::finish(self, &mut flusher, scan).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Makes a file system of one volume as large as its device, or `copy` of a volume of copies; see
    /// [`grow`](super::grow). It has to be opened anew then.
    ///
    /// # Errors
    /// Why it cannot grow; [`Error::Busy`] while a flush is on its way.
    pub async fn grow(&self, copy: u8) -> Result<Grown, Error> {
        let device = match self.volume.copies() {
            None => self.volume.root_device(),
            Some(live) => live.device(copy).ok_or(Error::NotSupported)?,
        };
        let size = self.storage.size(device);
        let mut flusher = self.take_flusher()?;
        let result = grow(self, &mut flusher, copy, size).await;
        self.flusher.replace(Some(flusher));
        result
    }

    /// Lets `look` see what is in memory.
    pub fn with_memory<R>(&self, look: impl FnOnce(Option<&Memory>) -> R) -> R {
        look(self.memory.borrow().as_ref())
    }

    /// Lets `look` see the flusher; `None` if there is none, or it is at work.
    pub fn with_flusher<R>(&self, look: impl FnOnce(Option<&Flusher>) -> R) -> R {
        look(self.flusher.borrow().as_deref())
    }

    fn take_flusher(&self) -> Result<Box<Flusher>, Error> {
        let is_writable = self.memory.borrow().is_some();
        let none = if is_writable { Error::Busy } else { Error::ReadOnly };
        self.flusher.borrow_mut().take().ok_or(none)
    }

    /// More of the freemap, where that is what is missing.
    async fn load_more(&self) -> Result<(), Error> {
        let mut flusher = self.take_flusher()?;
        let loaded = load_freemap(self, 0, flusher.writer_mut().freemap_mut(), u64::MAX).await;
        let budget = flusher.writer().budget();
        self.flusher.replace(Some(flusher));
        self.alter(|memory| memory.set_budget(budget));
        loaded
    }
}

impl<S: Storage> Cache for Solo<S> {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        self.cache.borrow().peek(id)
    }
}

impl<S: Storage> Host for Solo<S> {
    async fn fetch(&self, want: &Want) -> Result<Block, Error> {
        let got = read_any(&self.volume, &self.storage, want).await?;
        self.cache.borrow_mut().insert(*want.id(), Block::clone(&got.block));
        if let Some(request) = HealRequest::of(want, &got.bad) {
            self.bad.borrow_mut().push(request);
        }
        Ok(got.block)
    }

    fn look<R>(&self, look: impl FnOnce(Option<&Memory>) -> R) -> R {
        look(self.memory.borrow().as_ref())
    }

    fn miss_seed(&self) -> u64 {
        let seed = self.seed.get().wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        self.seed.set(seed);
        seed
    }
}

impl<S: Storage> WriteHost for Solo<S> {
    fn alter<R>(&self, alter: impl FnOnce(&mut Memory) -> R) -> R {
        let mut memory = self.memory.borrow_mut();
        // Only what was opened for writing gets here; a volume that was not has no room for
        // anything.
        alter(
            memory.get_or_insert_with(|| Memory::new(self.volume.super_root(), Budget::default())),
        )
    }

    async fn admit(&self) -> Result<(), Error> {
        let dirty = self.look(|memory| memory.map_or(0, Memory::dirty_bytes));
        if dirty > self.dirty_max.get() && self.flusher.borrow().is_some() {
            self.flush(false).await?;
        }
        Ok(())
    }

    async fn relieve(&self, pressure: Pressure) -> Result<(), Error> {
        let Pressure::Space(asked) = pressure;
        let reuse_delay = self.with_flusher(|flusher| flusher.map_or(0, Flusher::reuse_delay));
        match asked {
            0 => {
                self.flush(false).await?;
            }
            1 => {
                self.load_more().await?;
                for _ in 0..=reuse_delay {
                    self.flush(true).await?;
                }
            }
            _ => {
                let scan = self.begin_bulkfree().await?;
                match self.finish_bulkfree(scan).await {
                    // another one is on its way: it makes room as well
                    Ok(_) | Err(Error::Busy) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    async fn fetch_stored(&self, want: &Want) -> Result<Vec<u8>, Error> {
        Ok(read_stored(&self.volume, &self.storage, want).await?.block)
    }

    async fn write(&self, pieces: Vec<Piece>) -> Result<(), Error> {
        for piece in pieces {
            write_piece(&self.volume, &self.storage, &piece).await?;
        }
        Ok(())
    }

    async fn rewrite(&self, piece: Piece) -> Result<(), Error> {
        rewrite_piece(&self.volume, &self.storage, &piece).await
    }

    async fn write_header(&self, copy: u8, offset: u64, bytes: Vec<u8>) -> Result<(), Error> {
        write_header(&self.volume, &self.storage, copy, offset, &bytes).await
    }

    async fn barrier(&self) -> Result<(), Error> {
        for device in self.volume.written_devices() {
            let done = self.storage.barrier(device).await;
            self.volume.absorb(device, done)?;
        }
        Ok(())
    }

    async fn tell_witness(&self, telling: &Telling) -> Result<(), WitnessFault> {
        let tell = self.tell.borrow();
        tell.as_ref().map_or(Err(WitnessFault::Unreachable), |tell| tell(telling))
    }

    fn time(&self) -> Option<WallTime> {
        Some(self.origin.get()?.time)
    }

    fn origin(&self) -> Option<Origin> {
        let mut origin = self.origin.get()?;
        let drawn = origin;
        // no two epochs of one host have one name
        for byte in &mut origin.id {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        self.origin.set(Some(origin));
        Some(drawn)
    }

    fn keep(&self, placed: Vec<Placed>) {
        let mut cache = self.cache.borrow_mut();
        for Placed { want, block } in placed {
            cache.insert(*want.id(), block);
        }
    }
}
