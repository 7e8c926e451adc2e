//! The record of a group of copies, in the volume header of each of them (copies, layout).
//!
//! It says which devices are copies of each other, which of them are believed, and by which
//! *epochs* the group came to where it is. What follows from that is not decided here but in the
//! room `copies`.

mod bound;
mod policy;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::check::{Checks, crc32c};
use super::distrust::{Distrust, INTERVALS_MAX, Interval};
use super::raw::{RawCopyGroup, RawCopySlot, RawEpoch, RawVolumeHeader};
use crate::units::{Tid, Uuid, WallTime};

pub use policy::{OnMissing, Policy, Runtime, WitnessPlace};

/// Most copies of a group.
pub const COPIES_MAX: usize = 4;
/// Size of the record in bytes.
pub const COPY_GROUP_LEN: usize = 4096;
/// Epochs before the current one that are kept.
pub const EPOCHS_MAX: usize = 15;
/// Longest hint of where a device is, in bytes.
pub const HINT_MAX: usize = 192;
/// Bytes of a check code that a slot keeps.
pub const ROOT_CHECK_LEN: usize = 40;
/// First word of the record: `FARCOPY1` in ASCII.
pub const COPY_GROUP_MAGIC: u64 = u64::from_le_bytes(*b"FARCOPY1");
/// The one format of the record so far.
pub const COPY_GROUP_FORMAT: u32 = 1;
/// Blockrefs that name no copies are on the copy that the record says (copies, plain blockrefs).
pub const INCOMPAT_PLAIN: u64 = 1;
/// Features that a program has to know to read the group, and that this one knows.
pub const INCOMPAT_KNOWN: u64 = INCOMPAT_PLAIN;
/// A witness has to be told of epochs: who does not know that must not begin any.
pub const RO_COMPAT_WITNESS: u64 = 1;
/// Features that a program has to know to write the group, and that this one knows.
pub const RO_COMPAT_KNOWN: u64 = RO_COMPAT_WITNESS;

/// All slots.
const ALL: u8 = (1 << COPIES_MAX) - 1;
/// Bytes that the record's check code covers.
const CHECKED: usize = COPY_GROUP_LEN - 4;

/// The name of an epoch: 16 random bytes, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EpochId(pub [u8; 16]);

impl EpochId {
    /// No epoch: the parent of the first one.
    pub const NONE: Self = Self([0; 16]);
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why an epoch began.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// The group was made.
    Created,
    /// A copy failed while mounted.
    Ejected,
    /// A copy came back in sync.
    Joined,
    /// The group was mounted without all of its members, lawfully: a witness, a majority, the
    /// holder or a stored rule said so.
    Degraded,
    /// The group was mounted without members that may have gone on: the operator said so.
    AcceptedMissing,
    /// A copy that was not the newest was made the master.
    Promoted,
    /// A copy was taken out of the group for good.
    Removed,
    /// The rules of the group, or the holder, changed.
    Policy,
    /// As [`Promoted`](Self::Promoted), by a rule that was stored beforehand.
    PromotedByRule,
    /// A cause that a later program wrote.
    Other(u8),
}

impl Cause {
    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Created,
            2 => Self::Ejected,
            3 => Self::Joined,
            4 => Self::Degraded,
            5 => Self::AcceptedMissing,
            6 => Self::Promoted,
            7 => Self::Removed,
            8 => Self::Policy,
            9 => Self::PromotedByRule,
            other => Self::Other(other),
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Created => 1,
            Self::Ejected => 2,
            Self::Joined => 3,
            Self::Degraded => 4,
            Self::AcceptedMissing => 5,
            Self::Promoted => 6,
            Self::Removed => 7,
            Self::Policy => 8,
            Self::PromotedByRule => 9,
            Self::Other(code) => code,
        }
    }
}

/// A stretch of the group's history with one set of members (redundancy design 3.6).
///
/// It begins when the set changes, and is durable on all of its members before anything that is
/// written under it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epoch {
    /// Its name.
    pub id: EpochId,
    /// The epoch that it followed; [`EpochId::NONE`] for the first.
    pub parent: EpochId,
    /// Its number: one more than its parent's. The first has 1.
    pub seq: u64,
    /// The first media transaction that was written under it.
    pub start_tid: Tid,
    /// The copies that hold everything acknowledged under it, a bit for each; one at least.
    pub members: u8,
    /// Why it began.
    pub cause: Cause,
    /// The host that began it.
    pub host: Uuid,
    /// When, by that host's clock: for people to read, nothing is decided by it.
    pub time: WallTime,
}

/// State of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum CopyState {
    /// No copy.
    #[default]
    Empty,
    /// Holds everything.
    InSync,
    /// Is being brought up to date, and gets every new block.
    Resync,
    /// Attached, of proven lineage, out of date.
    Stale,
    /// Absent, or thrown out.
    Out,
    /// Thrown out because of too many errors.
    Faulted,
    /// Has a history of its own.
    Diverged,
    /// No copy any more; addresses on it may linger.
    Retired,
    /// Was just added and holds nothing.
    New,
}

impl CopyState {
    /// Every state, by its code on media.
    pub const ALL: [Self; 9] = [
        Self::Empty,
        Self::InSync,
        Self::Resync,
        Self::Stale,
        Self::Out,
        Self::Faulted,
        Self::Diverged,
        Self::Retired,
        Self::New,
    ];

    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::InSync => "insync",
            Self::Resync => "resync",
            Self::Stale => "stale",
            Self::Out => "out",
            Self::Faulted => "faulted",
            Self::Diverged => "diverged",
            Self::Retired => "retired",
            Self::New => "new",
        }
    }

    /// Whether a copy in this state is one that the group is made of.
    #[must_use]
    pub const fn is_configured(self) -> bool {
        !matches!(self, Self::Empty | Self::Retired)
    }

    /// Its code on media.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// What happened to a copy since it was added.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counters {
    /// Reads that failed.
    pub read: u64,
    /// Writes that failed.
    pub write: u64,
    /// Barriers that failed.
    pub flush: u64,
    /// Blocks that had not the check code that they should.
    pub check: u64,
    /// Bad blocks that were written again.
    pub healed: u64,
    /// Bad blocks that were written elsewhere.
    pub relocated: u64,
}

impl Counters {
    /// Errors of all kinds.
    #[must_use]
    pub const fn errors(&self) -> u64 {
        let io = self.read.saturating_add(self.write);
        io.saturating_add(self.flush).saturating_add(self.check)
    }
}

/// How far a resynchronisation came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Progress {
    /// The transaction that it began with.
    pub since: Tid,
    /// Bytes of file contents and metadata that were written to the copy.
    pub done_bytes: u64,
}

/// What the group knows of one copy: the same on all members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopySlot {
    /// The device that is this copy.
    pub device: Uuid,
    /// Its state.
    pub state: CopyState,
    /// Raised whenever a writer attaches the copy: the device refuses writers with less.
    pub attach_gen: u64,
    /// The last transaction up to which the copy is known to hold everything that was sent to it.
    pub barrier_tid: Tid,
    /// The last epoch that the copy was a member of, once it is none any more; for one whose
    /// history was given up, the last epoch of that.
    pub left: EpochId,
    /// The copy's last complete root: its transaction.
    pub root_tid: Tid,
    /// And the check code in its blockref.
    pub root_check: [u8; ROOT_CHECK_LEN],
    /// When the last commit was made that the copy has whole; 0 if nobody knows.
    pub root_time: WallTime,
    /// What happened to it.
    pub counters: Counters,
    /// How far its resynchronisation came.
    pub resync: Progress,
    /// The transactions that it is not believed.
    pub distrust: Distrust,
    /// Where it was seen last: a path, or its last [`HINT_MAX`] bytes.
    pub hint: Vec<u8>,
}

impl CopySlot {
    /// A slot without a copy.
    pub const EMPTY: Self = Self {
        device: Uuid([0; 16]),
        state: CopyState::Empty,
        attach_gen: 0,
        barrier_tid: Tid(0),
        left: EpochId::NONE,
        root_tid: Tid(0),
        root_check: [0; ROOT_CHECK_LEN],
        root_time: WallTime(0),
        counters: Counters { read: 0, write: 0, flush: 0, check: 0, healed: 0, relocated: 0 },
        resync: Progress { since: Tid(0), done_bytes: 0 },
        distrust: Distrust::NONE,
        hint: Vec::new(),
    };

    /// Keeps where the device was seen; of what is too long, the end, which tells most.
    pub fn set_hint(&mut self, path: &[u8]) {
        self.hint = path[path.len().saturating_sub(HINT_MAX)..].to_vec();
    }
}

/// A group of copies, as one of them knows it.
#[derive(Clone)]
pub struct CopyGroup {
    /// Features that any program may use the group without knowing.
    pub compat: u64,
    /// Features that a program has to know to write the group.
    pub ro_compat: u64,
    /// Features that a program has to know to read the group.
    pub incompat: u64,
    /// The copy that blockrefs are on which name none: those of a volume that had no copies, or is
    /// to have none any more.
    pub plain_slot: u8,
    /// The slot of the device that this record lies on.
    pub self_slot: u8,
    /// Copies in sync that a mount for writing needs, 1 to 4.
    pub min_copies: u8,
    /// The rules of the group.
    pub policy: Policy,
    /// The witness, if there is one.
    pub witness: WitnessPlace,
    /// When the commit was made that this is a part of; 0 if nobody knows.
    pub commit_time: WallTime,
    /// The group's name, the same on all of its devices.
    pub group: Uuid,
    /// The name of the device that this record lies on.
    pub device: Uuid,
    /// Counts the flushes of the group, the minting of an epoch included.
    pub flush_seq: u64,
    /// The current epoch.
    pub epoch: Epoch,
    /// The epochs before it, newest first: at most 15.
    pub past: Vec<Epoch>,
    /// The copies.
    pub slots: [CopySlot; COPIES_MAX],
    /// The record as it was read with zeros for all that is above: what nobody here understands.
    unknown: Box<RawCopyGroup>,
}

impl CopyGroup {
    /// A group of one copy, in slot 0, in its first epoch.
    #[must_use]
    pub fn new(group: Uuid, device: Uuid, epoch: Epoch) -> Self {
        let first = CopySlot { device, state: CopyState::InSync, ..CopySlot::EMPTY };
        Self {
            compat: 0,
            ro_compat: 0,
            incompat: 0,
            plain_slot: 0,
            self_slot: 0,
            min_copies: 1,
            policy: Policy::default(),
            witness: WitnessPlace::default(),
            commit_time: WallTime(0),
            group,
            device,
            flush_seq: 1,
            epoch,
            past: Vec::new(),
            slots: [first, CopySlot::EMPTY, CopySlot::EMPTY, CopySlot::EMPTY],
            unknown: Box::new(RawCopyGroup::new_zeroed()),
        }
    }

    /// Reads the record.
    ///
    /// # Errors
    /// Why it is of no use. Magic, check code, format and features come first, in this order; the
    /// rest is believed only if it makes sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, CopyGroupFault> {
        let raw = RawCopyGroup::ref_from_bytes(bytes).map_err(|_| CopyGroupFault::Length)?;
        if raw.magic.get() != COPY_GROUP_MAGIC {
            return Err(CopyGroupFault::Magic(raw.magic.get()));
        }
        let (stored, computed) = (raw.crc.get(), crc32c(&bytes[..CHECKED]));
        if stored != computed {
            return Err(CopyGroupFault::Check { stored, computed });
        }
        if raw.format.get() != COPY_GROUP_FORMAT {
            return Err(CopyGroupFault::Format(raw.format.get()));
        }
        let beyond = raw.incompat.get() & !INCOMPAT_KNOWN;
        if beyond != 0 {
            return Err(CopyGroupFault::Features(beyond));
        }
        let (epoch, past) = parse_epochs(&raw.epochs)?;
        let mut slots = [const { CopySlot::EMPTY }; COPIES_MAX];
        for ((number, slot), raw) in (0_u8..).zip(&mut slots).zip(&raw.slots) {
            *slot = parse_slot(raw).ok_or(CopyGroupFault::Slot(number))?;
        }
        let mut group = Self {
            compat: raw.compat.get(),
            ro_compat: raw.ro_compat.get(),
            incompat: raw.incompat.get(),
            plain_slot: raw.plain_slot,
            self_slot: raw.self_slot,
            min_copies: raw.min_copies,
            policy: Policy::parse(raw).ok_or(CopyGroupFault::Policy)?,
            witness: WitnessPlace::parse(raw).ok_or(CopyGroupFault::Policy)?,
            commit_time: WallTime(raw.commit_time.get()),
            group: Uuid(raw.group),
            device: Uuid(raw.device),
            flush_seq: raw.flush_seq.get(),
            epoch,
            past,
            slots,
            unknown: Box::new(raw.clone()),
        };
        group.check_sense(raw)?;
        // What is known is written over with nothing, so that equal groups are equal.
        let nothing = Self::new(Uuid::default(), Uuid::default(), NO_EPOCH);
        nothing.write_into(&mut group.unknown);
        group.unknown.crc.set(0);
        Ok(group)
    }

    /// The record's bytes. Reading them gives an equal group, if this one makes sense.
    #[must_use]
    pub fn store(&self) -> [u8; COPY_GROUP_LEN] {
        self.store_with(&Checks::PORTABLE)
    }

    fn store_with(&self, checks: &Checks) -> [u8; COPY_GROUP_LEN] {
        let mut raw = self.unsealed();
        let crc = checks.crc32c(&raw.as_bytes()[..CHECKED]);
        raw.crc.set(crc);
        zerocopy::transmute!(*raw)
    }

    fn unsealed(&self) -> Box<RawCopyGroup> {
        let mut raw = self.unknown.clone();
        self.write_into(&mut raw);
        raw
    }

    /// Puts the record into a volume header, which still has to be sealed.
    pub fn put(&self, header: &mut RawVolumeHeader, checks: &Checks) {
        header.copyinfo[..COPY_GROUP_LEN].copy_from_slice(&self.store_with(checks));
    }

    /// Number of copies that the group is made of, whatever their state.
    #[must_use]
    pub fn configured(&self) -> u8 {
        self.slots_where(CopyState::is_configured).count_ones().to_le_bytes()[0]
    }

    /// The slots whose state is one of those, a bit for each.
    #[must_use]
    pub fn slots_where(&self, is_one: impl Fn(CopyState) -> bool) -> u8 {
        let slots = (0_u8..).zip(&self.slots);
        slots.filter(|(_, slot)| is_one(slot.state)).fold(0, |mask, (at, _)| mask | 1 << at)
    }

    /// The copy in `slot`, if there can be one.
    #[must_use]
    pub fn slot(&self, slot: u8) -> Option<&CopySlot> {
        self.slots.get(usize::from(slot))
    }

    /// The slot of the device `device`.
    #[must_use]
    pub fn slot_of(&self, device: Uuid) -> Option<u8> {
        let is_it = |slot: &CopySlot| slot.state != CopyState::Empty && slot.device == device;
        (0_u8..).zip(&self.slots).find_map(|(at, slot)| is_it(slot).then_some(at))
    }

    /// The record as it has to lie on the copy in `slot`: the same but for whose it is. `None` if
    /// there is no copy.
    #[must_use]
    pub fn for_slot(&self, slot: u8) -> Option<Self> {
        let copy = self.slot(slot).filter(|copy| copy.state != CopyState::Empty)?;
        Some(Self { self_slot: slot, device: copy.device, ..self.clone() })
    }

    /// The current epoch and those before it, newest first.
    pub fn history(&self) -> impl Iterator<Item = &Epoch> {
        core::iter::once(&self.epoch).chain(&self.past)
    }

    fn write_into(&self, raw: &mut RawCopyGroup) {
        raw.magic.set(COPY_GROUP_MAGIC);
        raw.format.set(COPY_GROUP_FORMAT);
        raw.self_slot = self.self_slot;
        raw.configured = self.configured();
        raw.min_copies = self.min_copies;
        self.policy.store(raw);
        self.witness.store(raw);
        raw.commit_time.set(self.commit_time.0);
        raw.compat.set(self.compat);
        raw.ro_compat.set(self.ro_compat);
        raw.incompat.set(self.incompat);
        raw.plain_slot = self.plain_slot;
        raw.group = self.group.0;
        raw.device = self.device.0;
        raw.flush_seq.set(self.flush_seq);
        // the header says it when it is sealed
        raw.header_tid.set(0);
        raw.header_crc.set(0);
        raw.changed = [0; 16];
        raw.epochs = [RawEpoch::new_zeroed(); EPOCHS_MAX + 1];
        for (raw, epoch) in raw.epochs.iter_mut().zip(self.history()) {
            store_epoch(epoch, raw);
        }
        for (raw, slot) in raw.slots.iter_mut().zip(&self.slots) {
            store_slot(slot, raw);
        }
    }

    /// What the parts say of each other.
    fn check_sense(&self, raw: &RawCopyGroup) -> Result<(), CopyGroupFault> {
        let own = self.slot(self.self_slot);
        if !own.is_some_and(|own| own.state != CopyState::Empty && own.device == self.device) {
            return Err(CopyGroupFault::OwnSlot(self.self_slot));
        }
        if self.configured() != raw.configured || !(1..=4).contains(&self.min_copies) {
            return Err(CopyGroupFault::Count);
        }
        if usize::from(self.plain_slot) >= COPIES_MAX {
            return Err(CopyGroupFault::Slot(self.plain_slot));
        }
        let configured = self.slots_where(CopyState::is_configured);
        if self.epoch.members & !configured != 0 {
            return Err(CopyGroupFault::History(0));
        }
        for (number, slot) in (0_u8..).zip(&self.slots) {
            if slot.state != CopyState::Empty && self.slot_of(slot.device) != Some(number) {
                return Err(CopyGroupFault::Slot(number));
            }
        }
        Ok(())
    }
}

impl PartialEq for CopyGroup {
    fn eq(&self, other: &Self) -> bool {
        self.unsealed().as_bytes() == other.unsealed().as_bytes()
    }
}

impl Eq for CopyGroup {}

impl fmt::Debug for CopyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = self.slots.each_ref().map(|slot| slot.state.name());
        write!(f, "CopyGroup(slot {}, flush {}, ", self.self_slot, self.flush_seq)?;
        write!(f, "{:?}, {states:?})", self.epoch)
    }
}

/// What an unused place of the history holds.
const NO_EPOCH: Epoch = Epoch {
    id: EpochId::NONE,
    parent: EpochId::NONE,
    seq: 0,
    start_tid: Tid(0),
    members: 0,
    cause: Cause::Other(0),
    host: Uuid([0; 16]),
    time: WallTime(0),
};

fn is_whole(raw: &RawCopyGroup, checks: &Checks) -> bool {
    let is_one = raw.magic.get() == COPY_GROUP_MAGIC;
    is_one && raw.crc.get() == checks.crc32c(&raw.as_bytes()[..CHECKED])
}

/// The current epoch and its ancestors: each names the next as its parent.
pub(super) fn parse_epochs(raws: &[RawEpoch]) -> Result<(Epoch, Vec<Epoch>), CopyGroupFault> {
    let used = raws.iter().take_while(|raw| raw.id != [0; 16]).count();
    let mut epochs = Vec::new();
    for (number, raw) in (0_u8..).zip(raws) {
        let is_used = usize::from(number) < used;
        if !is_used && raw.as_bytes().iter().all(|byte| *byte == 0) {
            continue;
        }
        let epoch = parse_epoch(raw);
        let is_first = (epoch.seq == 1) == (epoch.parent == EpochId::NONE);
        let has_members = epoch.members != 0 && epoch.members & !ALL == 0;
        let follows = epochs.last().is_none_or(|next: &Epoch| {
            next.parent == epoch.id
                && epoch.seq.checked_add(1) == Some(next.seq)
                && epoch.start_tid <= next.start_tid
        });
        let is_new = epochs.iter().all(|other: &Epoch| other.id != epoch.id);
        let is_sound = is_used && is_first && has_members && follows && is_new;
        if !is_sound || epoch.seq == 0 || raw.reserved_4a != [0; 6] {
            return Err(CopyGroupFault::History(number));
        }
        epochs.push(epoch);
    }
    if epochs.is_empty() {
        return Err(CopyGroupFault::History(0));
    }
    let current = epochs.remove(0);
    Ok((current, epochs))
}

fn parse_epoch(raw: &RawEpoch) -> Epoch {
    Epoch {
        id: EpochId(raw.id),
        parent: EpochId(raw.parent),
        seq: raw.seq.get(),
        start_tid: Tid(raw.start_tid.get()),
        members: raw.members,
        cause: Cause::from_code(raw.cause),
        host: Uuid(raw.host),
        time: WallTime(raw.time.get()),
    }
}

pub(super) fn store_epoch(epoch: &Epoch, raw: &mut RawEpoch) {
    raw.id = epoch.id.0;
    raw.parent = epoch.parent.0;
    raw.host = epoch.host.0;
    raw.seq.set(epoch.seq);
    raw.start_tid.set(epoch.start_tid.0);
    raw.time.set(epoch.time.0);
    raw.members = epoch.members;
    raw.cause = epoch.cause.code();
}

fn parse_slot(raw: &RawCopySlot) -> Option<CopySlot> {
    let (used, unused) = raw.distrust.split_at_checked(usize::from(raw.distrusted))?;
    let (hint, behind) = raw.hint.split_at_checked(usize::from(raw.hint_len))?;
    if unused.as_bytes().iter().chain(behind).any(|byte| *byte != 0) {
        return None;
    }
    let mut intervals = [Interval::default(); INTERVALS_MAX];
    for (interval, [low, high]) in intervals.iter_mut().zip(used) {
        *interval = Interval { low: Tid(low.get()), high: Tid(high.get()) };
    }
    let [read, write, flush, check, healed, relocated] = raw.counters.map(U64::get);
    Some(CopySlot {
        device: Uuid(raw.device),
        state: *CopyState::ALL.get(usize::from(raw.state))?,
        attach_gen: raw.attach_gen.get(),
        barrier_tid: Tid(raw.barrier_tid.get()),
        left: EpochId(raw.left),
        root_tid: Tid(raw.root_tid.get()),
        root_check: raw.root_check,
        root_time: WallTime(raw.root_time.get()),
        counters: Counters { read, write, flush, check, healed, relocated },
        resync: Progress { since: Tid(raw.resync_since.get()), done_bytes: raw.resync_done.get() },
        distrust: Distrust::from_intervals(&intervals[..used.len()])?,
        hint: hint.to_vec(),
    })
}

fn store_slot(slot: &CopySlot, raw: &mut RawCopySlot) {
    raw.device = slot.device.0;
    raw.state = slot.state.code();
    raw.attach_gen.set(slot.attach_gen);
    raw.barrier_tid.set(slot.barrier_tid.0);
    raw.left = slot.left.0;
    raw.root_tid.set(slot.root_tid.0);
    raw.root_check = slot.root_check;
    raw.root_time.set(slot.root_time.0);
    let Counters { read, write, flush, check, healed, relocated } = slot.counters;
    raw.counters = [read, write, flush, check, healed, relocated].map(U64::new);
    raw.resync_since.set(slot.resync.since.0);
    raw.resync_done.set(slot.resync.done_bytes);
    raw.distrust = [[U64::ZERO; 2]; INTERVALS_MAX];
    raw.distrusted = 0;
    for (raw_pair, one) in raw.distrust.iter_mut().zip(slot.distrust.intervals()) {
        *raw_pair = [one.low.0, one.high.0].map(U64::new);
        raw.distrusted += 1;
    }
    raw.hint = [0; HINT_MAX];
    raw.hint_len = 0;
    for (place, byte) in raw.hint.iter_mut().zip(&slot.hint) {
        *place = *byte;
        raw.hint_len += 1;
    }
}

/// Why a volume header has no usable record of copies (copies, layout).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CopyGroupFault {
    /// The volume has no copies.
    Absent,
    /// Not 4 KiB.
    Length,
    /// Something else stands in its place.
    Magic(u64),
    /// Its check code differs, though the header's is right.
    Check {
        /// What the record says.
        stored: u32,
        /// What its bytes have.
        computed: u32,
    },
    /// A format of a later program.
    Format(u32),
    /// Features that a program has to know to read it, and this one does not.
    Features(u64),
    /// Rules that are none.
    Policy,
    /// An epoch that cannot be one, or does not follow the one that it should; 0 is the current.
    History(u8),
    /// A slot that cannot be one.
    Slot(u8),
    /// The slot that it says is its device's is not.
    OwnSlot(u8),
    /// Numbers of copies that contradict each other.
    Count,
}

impl CopyGroupFault {
    /// Whether it is whole, and only beyond this program.
    #[must_use]
    pub const fn is_beyond(&self) -> bool {
        matches!(self, Self::Format(_) | Self::Features(_))
    }
}

impl fmt::Display for CopyGroupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("the volume has no copies"),
            Self::Length => f.write_str("a record of copies has 4096 bytes"),
            Self::Magic(magic) => write!(f, "no record of copies (magic {magic:016x})"),
            Self::Check { stored, computed } => {
                write!(f, "check code of the copies is {stored:08x}, they have {computed:08x}")
            }
            Self::Format(format) => write!(f, "unknown format {format} of the record of copies"),
            Self::Features(bits) => write!(f, "unknown features {bits:#x} of copies"),
            Self::Policy => f.write_str("the copies have rules that are none"),
            Self::History(at) => write!(f, "epoch {at} of the copies' history cannot be one"),
            Self::Slot(slot) => write!(f, "slot {slot} of the copies cannot be one"),
            Self::OwnSlot(slot) => write!(f, "slot {slot} of the copies is not this device's"),
            Self::Count => f.write_str("numbers of copies contradict each other"),
        }
    }
}

#[cfg(test)]
mod tests;
