//! The copies of a volume while it is open: which devices they are on, and which of them count now.
//!
//! Everybody who reads or writes shares it, so it is all atomics: a copy that fails is left out from
//! the next read and write on, whoever met the fault. What that means for the lineage is decided
//! by the next commit ([`drive::commit`](crate::drive::commit)), not here.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use alloc::vec::Vec;

use super::choice::Standing;
use super::places::BadPlaces;

use crate::copies::epoch::may_continue;
use crate::copies::{CopySet, Runtime};
use crate::engine::Want;
use crate::error::BlockKind;
use crate::media::addresses::Addresses;
use crate::media::blockref::Location;
use crate::media::copy_group::{COPIES_MAX, Counters as Kept};
use crate::units::{DeviceIndex, MediaOffset, Tid};

/// Bytes after which reading goes on with another copy, so that all devices work.
const TURN_BITS: u32 = 20;
/// No number of a device.
const NO_DEVICE: u16 = u16::MAX;

/// The copies of an open volume.
#[derive(Debug)]
pub struct LiveCopies {
    /// The volume has copies: one that has none may get some while it is open.
    is_on: AtomicBool,
    /// The copy that blockrefs are on which name none.
    plain: AtomicU8,
    /// Numbers of devices, or [`NO_DEVICE`].
    devices: [AtomicU16; COPIES_MAX],
    /// Sizes of those that came later: of the copy by its header, and of the device.
    added: [(AtomicU64, AtomicU64); COPIES_MAX],
    /// The copy whose header the volume was opened by.
    master: u8,
    /// Copies that may be read.
    readable: AtomicU8,
    /// Copies that are written to.
    attached: AtomicU8,
    /// Copies that hold everything.
    in_sync: AtomicU8,
    /// Who may go on without whom.
    rules: AtomicU32,
    /// Copies that did not take a write since they were last asked for.
    lost: AtomicU8,
    /// Transactions of which a copy may lack blocks, as one interval: above the first, up to the
    /// second.
    distrust: [(AtomicU64, AtomicU64); COPIES_MAX],
    counters: [Counters; COPIES_MAX],
    /// What the record said of each copy when it was opened.
    kept: [Counters; COPIES_MAX],
    /// What reading from each was like.
    standings: [Standing; COPIES_MAX],
    /// What does not stay where it is written.
    places: [BadPlaces; COPIES_MAX],
}

/// What happened on one device since the volume was opened.
#[derive(Debug, Default)]
struct Counters {
    reads: AtomicU64,
    writes: AtomicU64,
    barriers: AtomicU64,
    checks: AtomicU64,
    healed: AtomicU64,
    relocated: AtomicU64,
    /// Blocks that were written anew and came back as something else, which are among the writes.
    unhealed: AtomicU64,
}

/// What happened on one device since the volume was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes and barriers that failed.
    pub write_errors: u64,
    /// Blocks that were not what they had to be.
    pub check_errors: u64,
    /// Barriers that failed, which are among those.
    pub barrier_errors: u64,
    /// Blocks that were written anew from another copy.
    pub healed: u64,
    /// Blocks that were written to another place.
    pub relocated: u64,
}

/// How good a place to read from is, the best one first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    /// It is to show that it is better than it was.
    Tried,
    /// As it should be.
    Fine,
    /// Much slower than another one, or with errors of late.
    Shunned,
    /// It is being brought up to date and has enough to do.
    Behind,
    /// What was written there did not stay.
    Bad,
}

/// What went wrong with a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyEvent {
    /// The device did not give a block.
    Read,
    /// The device did not take a block.
    Write,
    /// The device did not make last what it took.
    Barrier,
    /// It gave something else.
    Check,
    /// A block was written anew.
    Healed,
    /// A block that was written anew came back as something else.
    Unhealed,
    /// A block was written to another place.
    Relocated,
}

impl LiveCopies {
    /// Copies on these devices, as `set` says, opened by the header of `master`.
    #[must_use]
    pub fn new(devices: [Option<DeviceIndex>; COPIES_MAX], master: u8, set: &CopySet) -> Self {
        let number = |device: Option<DeviceIndex>| {
            AtomicU16::new(device.map_or(NO_DEVICE, |device| device.0.into()))
        };
        let live = Self {
            is_on: AtomicBool::new(true),
            plain: AtomicU8::new(0),
            devices: devices.map(number),
            added: Default::default(),
            master,
            readable: AtomicU8::new(0),
            attached: AtomicU8::new(0),
            in_sync: AtomicU8::new(0),
            rules: AtomicU32::new(0),
            lost: AtomicU8::new(0),
            distrust: Default::default(),
            counters: Default::default(),
            kept: Default::default(),
            standings: Default::default(),
            places: Default::default(),
        };
        live.set(set);
        live
    }

    /// None: the volume has no copies so far.
    #[must_use]
    pub fn none() -> Self {
        let live = Self::new([None; COPIES_MAX], 0, &CopySet::default());
        live.is_on.store(false, Ordering::Release);
        live
    }

    /// Whether the volume has copies.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// From now on the volume has copies, of which the first holds everything so far.
    pub fn turn_on(&self) {
        self.is_on.store(true, Ordering::Release);
    }

    /// The copy that blockrefs are on which name none.
    #[must_use]
    pub fn plain(&self) -> u8 {
        self.plain.load(Ordering::Acquire)
    }

    /// From now on they are as `set` says.
    pub fn set(&self, set: &CopySet) {
        let present = (0_u8..)
            .take(COPIES_MAX)
            .filter(|copy| self.device(*copy).is_some())
            .fold(0, |mask, copy| mask | 1 << copy);
        for (copy, (low, high)) in (0_u8..).zip(&self.distrust) {
            let intervals = set.distrust(copy).intervals();
            let from = intervals.first().map_or(0, |first| first.low.0);
            let to = intervals.last().map_or(0, |last| last.high.0);
            low.store(from, Ordering::Relaxed);
            high.store(to, Ordering::Relaxed);
        }
        self.plain.store(set.plain(), Ordering::Release);
        self.readable.store(set.readable() & present, Ordering::Release);
        self.attached.store(set.attached() & present, Ordering::Release);
        self.in_sync.store(set.in_sync() & present, Ordering::Release);
    }

    /// From now on `runtime` says who may go on without whom, in an epoch with these members, as long
    /// as so many are left.
    pub fn set_rules(&self, runtime: Runtime, members: u8, min_copies: u8) {
        let (code, holder) = match runtime {
            Runtime::Any => (0, 0),
            Runtime::Majority => (1, 0),
            Runtime::Holder(slot) => (2, slot),
        };
        self.rules
            .store(u32::from_le_bytes([code, holder, members, min_copies]), Ordering::Release);
    }

    /// Whether the volume can go on without `copy`, by its rules and with what others hold.
    #[must_use]
    pub fn is_spare(&self, copy: u8) -> bool {
        self.can_lose(copy, self.lost())
    }

    /// As [`lose`](Self::lose), if the volume can go on without `copy`; whether it does.
    pub fn lose_spare(&self, copy: u8) -> bool {
        let lose = |lost: u8| {
            let is_lost = lost & 1 << copy != 0;
            (is_lost || self.can_lose(copy, lost)).then_some(lost | 1 << copy)
        };
        self.lost.fetch_update(Ordering::AcqRel, Ordering::Acquire, lose).is_ok()
    }

    fn can_lose(&self, copy: u8, lost: u8) -> bool {
        let [code, holder, members, min_copies] = self.rules.load(Ordering::Acquire).to_le_bytes();
        let runtime = match code {
            0 => Runtime::Any,
            1 => Runtime::Majority,
            _ => Runtime::Holder(holder),
        };
        let in_sync = self.in_sync.load(Ordering::Acquire);
        let left = in_sync & !lost & !(1 << copy);
        // while only reading, what counts is that somebody has everything
        let is_enough = left.count_ones() >= u32::from(min_copies);
        left != 0 && (members == 0 || is_enough && may_continue(runtime, members, left))
    }

    /// The copy whose header the volume was opened by.
    #[must_use]
    pub const fn master(&self) -> u8 {
        self.master
    }

    /// The device of a copy, if it is there.
    #[must_use]
    pub fn device(&self, copy: u8) -> Option<DeviceIndex> {
        let number = self.devices.get(usize::from(copy))?.load(Ordering::Acquire);
        u8::try_from(number).ok().map(DeviceIndex)
    }

    /// From now on `copy` is on another device, which has so many bytes, of which the copy uses so
    /// many. It is read and written from the next [`set`](Self::set) on that says so.
    pub fn place(&self, copy: u8, device: DeviceIndex, size: u64, device_size: u64) {
        let at = usize::from(copy);
        if let (Some(number), Some(added)) = (self.devices.get(at), self.added.get(at)) {
            added.0.store(size, Ordering::Relaxed);
            added.1.store(device_size, Ordering::Relaxed);
            number.store(device.0.into(), Ordering::Release);
        }
    }

    /// Sizes of a copy and of its device, if it came while the volume was open.
    #[must_use]
    pub fn added_sizes(&self, copy: u8) -> Option<(u64, u64)> {
        let (size, device_size) = self.added.get(usize::from(copy))?;
        let size = Some(size.load(Ordering::Relaxed)).filter(|size| *size > 0)?;
        Some((size, device_size.load(Ordering::Relaxed)))
    }

    /// The copy on a device.
    #[must_use]
    pub fn copy_on(&self, device: DeviceIndex) -> Option<u8> {
        (0..).take(COPIES_MAX).find(|copy| self.device(*copy) == Some(device))
    }

    /// Copies that are written to.
    #[must_use]
    pub fn written(&self) -> u8 {
        self.attached.load(Ordering::Acquire) & !self.lost.load(Ordering::Acquire)
    }

    /// Whether `copy` is written to, until the next [`set`](Self::set): for one that is about to be
    /// added.
    pub fn set_written(&self, copy: u8, is_written: bool) {
        if is_written {
            self.attached.fetch_or(1 << copy, Ordering::AcqRel);
        } else {
            self.attached.fetch_and(!(1 << copy), Ordering::AcqRel);
        }
    }

    /// Copies that did not take a write. They are written to no more.
    #[must_use]
    pub fn lost(&self) -> u8 {
        self.lost.load(Ordering::Acquire)
    }

    /// `copy` did not take a write: nothing is read from it or written to it any more.
    pub fn lose(&self, copy: u8) {
        self.lose_by(copy, CopyEvent::Write);
    }

    /// As [`lose`](Self::lose), by another fault than that of a write.
    pub fn lose_by(&self, copy: u8, fault: CopyEvent) {
        self.count(copy, fault);
        self.lost.fetch_or(1 << copy, Ordering::AcqRel);
    }

    /// `copies` are back, or their loss is on record.
    pub fn settle(&self, copies: u8) {
        self.lost.fetch_and(!copies, Ordering::AcqRel);
    }

    /// `copies` are as good as lost still, and nothing new happened to them.
    pub fn lose_again(&self, copies: u8) {
        self.lost.fetch_or(copies, Ordering::AcqRel);
    }

    /// Counts what happened on a copy.
    pub fn count(&self, copy: u8, event: CopyEvent) {
        if matches!(event, CopyEvent::Read | CopyEvent::Check) {
            self.standing(copy).into_iter().for_each(Standing::note_error);
        }
        if let Some(counters) = self.counters.get(usize::from(copy)) {
            let counter = match event {
                CopyEvent::Read => &counters.reads,
                CopyEvent::Write => &counters.writes,
                CopyEvent::Barrier => &counters.barriers,
                CopyEvent::Check => &counters.checks,
                CopyEvent::Healed => &counters.healed,
                CopyEvent::Relocated => &counters.relocated,
                CopyEvent::Unhealed => {
                    counters.writes.fetch_add(1, Ordering::Relaxed);
                    &counters.unhealed
                }
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What happened on a copy.
    #[must_use]
    pub fn counts(&self, copy: u8) -> Counts {
        let Some(counters) = self.counters.get(usize::from(copy)) else {
            return Counts::default();
        };
        Counts {
            read_errors: counters.reads.load(Ordering::Relaxed),
            write_errors: counters.writes.load(Ordering::Relaxed)
                + counters.barriers.load(Ordering::Relaxed),
            barrier_errors: counters.barriers.load(Ordering::Relaxed),
            check_errors: counters.checks.load(Ordering::Relaxed),
            healed: counters.healed.load(Ordering::Relaxed),
            relocated: counters.relocated.load(Ordering::Relaxed),
        }
    }

    /// Blocks that were written anew on a copy and came back as something else, since the volume was
    /// opened.
    #[must_use]
    pub fn unhealed(&self, copy: u8) -> u64 {
        let counters = self.counters.get(usize::from(copy));
        counters.map_or(0, |counters| counters.unhealed.load(Ordering::Relaxed))
    }

    /// What the record says of a copy, to which is added what happens from now on.
    pub fn set_kept(&self, copy: u8, record: &Kept) {
        if let Some(kept) = self.kept.get(usize::from(copy)) {
            kept.reads.store(record.read, Ordering::Relaxed);
            kept.writes.store(record.write, Ordering::Relaxed);
            kept.barriers.store(record.flush, Ordering::Relaxed);
            kept.checks.store(record.check, Ordering::Relaxed);
            kept.healed.store(record.healed, Ordering::Relaxed);
            kept.relocated.store(record.relocated, Ordering::Relaxed);
        }
    }

    /// What happened on a copy since it was added, or since its counters were reset: what its next
    /// record says.
    #[must_use]
    pub fn totals(&self, copy: u8) -> Kept {
        let at = usize::from(copy);
        let (Some(kept), Some(now)) = (self.kept.get(at), self.counters.get(at)) else {
            return Kept::default();
        };
        let sum = |of: fn(&Counters) -> &AtomicU64| {
            of(kept).load(Ordering::Relaxed).saturating_add(of(now).load(Ordering::Relaxed))
        };
        Kept {
            read: sum(|one| &one.reads),
            write: sum(|one| &one.writes),
            flush: sum(|one| &one.barriers),
            check: sum(|one| &one.checks),
            healed: sum(|one| &one.healed),
            relocated: sum(|one| &one.relocated),
        }
    }

    /// Everything about a copy is counted from zero again, and what was bad is forgotten.
    pub fn reset_counts(&self, copy: u8) {
        let at = usize::from(copy);
        for one in self.kept.get(at).into_iter().chain(self.counters.get(at)) {
            let all = [&one.reads, &one.writes, &one.barriers, &one.checks, &one.healed];
            all.into_iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
            one.relocated.store(0, Ordering::Relaxed);
            one.unhealed.store(0, Ordering::Relaxed);
        }
        self.places.get(at).into_iter().for_each(BadPlaces::forget_all);
        self.standings.get(at).into_iter().for_each(Standing::forget);
    }

    /// What is written to that place of a copy does not stay there.
    pub fn note_bad(&self, copy: u8, location: Location) {
        self.places.get(usize::from(copy)).into_iter().for_each(|places| places.note(location));
    }

    /// Whether that was noted of a place, and not for too long ago.
    #[must_use]
    pub fn is_bad(&self, copy: u8, offset: MediaOffset) -> bool {
        self.places.get(usize::from(copy)).is_some_and(|places| places.has(offset))
    }

    /// The places of a copy of which it was noted.
    #[must_use]
    pub fn bad_places(&self, copy: u8) -> Vec<Location> {
        self.places.get(usize::from(copy)).map_or_else(Vec::new, BadPlaces::list)
    }

    /// Where a block may be read: every copy that has it and counts, the one to be asked first in
    /// front (copies 3.4, R1, R7).
    #[must_use]
    pub fn candidates(&self, want: &Want) -> Vec<(u8, DeviceIndex, MediaOffset)> {
        self.in_order(want, |_| false)
    }

    /// As [`candidates`](Self::candidates), for who asks them now: once in a while one is in front that
    /// was asked last for long, so that it can show that it is better now.
    pub(crate) fn to_ask(&self, want: &Want) -> Vec<(u8, DeviceIndex, MediaOffset)> {
        self.in_order(want, |copy| self.standing(copy).is_some_and(Standing::pass))
    }

    fn in_order(
        &self,
        want: &Want,
        is_tried: impl Fn(u8) -> bool,
    ) -> Vec<(u8, DeviceIndex, MediaOffset)> {
        // what every copy has of its own is the one that the volume was opened by
        let own = matches!(want.place().kind, BlockKind::FreemapNode | BlockKind::FreemapLeaf);
        if let Some(copy) = want.only().or(own.then_some(self.master)) {
            let device = self.device(copy);
            return device.map(|device| (copy, device, want.only_at())).into_iter().collect();
        }
        let tid = want.tid();
        let readable = self.readable.load(Ordering::Acquire) & !self.lost.load(Ordering::Acquire);
        let mut candidates: Vec<_> = want
            .addresses()
            .map(|addresses| addresses.settled(self.plain()))
            .iter()
            .flat_map(Addresses::iter)
            .filter(|(copy, _)| readable & 1 << copy != 0 && !self.is_distrusted(*copy, tid))
            .filter_map(|(copy, offset)| Some((copy, self.device(copy)?, offset)))
            .collect();
        if candidates.len() > 1 {
            let turn = want.location().offset.0 >> TURN_BITS;
            let first = usize::try_from(turn % candidates.len() as u64).unwrap_or(0);
            candidates.rotate_left(first);
            let took = candidates.iter().filter_map(|(copy, ..)| self.standing(*copy));
            let least_us = took.map(Standing::took_us).filter(|us| *us > 0).min().unwrap_or(0);
            // stable: those of one rank stay in turn
            candidates.sort_by_cached_key(|(copy, _, offset)| {
                let rank = self.rank(*copy, *offset, least_us);
                if rank == Rank::Shunned && is_tried(*copy) { Rank::Tried } else { rank }
            });
        }
        candidates
    }

    fn rank(&self, copy: u8, offset: MediaOffset, least_us: u32) -> Rank {
        let standing = self.standing(copy);
        if self.is_bad(copy, offset) {
            Rank::Bad
        } else if self.in_sync.load(Ordering::Acquire) & 1 << copy == 0 {
            Rank::Behind
        } else if standing.is_some_and(|standing| standing.is_shunned(least_us)) {
            Rank::Shunned
        } else {
            Rank::Fine
        }
    }

    fn standing(&self, copy: u8) -> Option<&Standing> {
        self.standings.get(usize::from(copy))
    }

    /// A read from a copy took so many microseconds. Who asks for blocks goes by that; a host that has
    /// no clock need not say it.
    pub fn note_time(&self, copy: u8, us: u32) {
        if let Some(standing) = self.standing(copy) {
            standing.note_time(us);
        }
    }

    /// A copy gave what it had to.
    pub(crate) fn note_good(&self, copy: u8) {
        if let Some(standing) = self.standing(copy) {
            standing.note_good();
        }
    }

    fn is_distrusted(&self, copy: u8, tid: Tid) -> bool {
        self.distrust.get(usize::from(copy)).is_none_or(|(low, high)| {
            low.load(Ordering::Relaxed) < tid.0 && tid.0 <= high.load(Ordering::Relaxed)
        })
    }
}
