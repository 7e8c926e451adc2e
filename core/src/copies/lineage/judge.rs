//! The newest epoch, its members that are here, and what becomes of each copy.

use alloc::vec::Vec;

use crate::media::copy_group::{COPIES_MAX, CopyGroup, CopyState, EpochId, Runtime};
use crate::units::{DeviceIndex, Tid};

use super::super::epoch::may_mount;
use super::super::witness::{Heard, Word};
use super::{Found, Note, Options, ReadOnly, Record, Refused, Side};

/// Flushes that a member may be behind without having been put back: the one that was under way
/// (redundancy design 3.3).
const LAG_MAX: u64 = 1;

/// The newest epoch: the one that no other device knows as its past.
///
/// # Errors
/// There are several, and the operator chose none of them; or devices contradict each other.
pub(super) fn choose_head(records: &[Record<'_>], master: Option<u8>) -> Result<EpochId, Refused> {
    for (at, one) in records.iter().enumerate() {
        let contradicts = |other: &&Record<'_>| {
            one.group
                .history()
                .any(|epoch| other.group.history().any(|same| same.id == epoch.id && same != epoch))
        };
        if let Some(other) = records[..at].iter().find(contradicts) {
            return Err(Refused::Contradiction { first: other.device, second: one.device });
        }
    }
    let is_head = |one: &Record<'_>| {
        let id = one.group.epoch.id;
        records.iter().all(|other| other.group.epoch.id == id || !other.group.knows(id, one.slot()))
    };
    let mut heads: Vec<&Record<'_>> = records.iter().filter(|one| is_head(one)).collect();
    if heads.is_empty() {
        // each is another's past: no history is like that
        heads.extend(records);
    }
    let chosen = master.and_then(|slot| {
        let own = records.iter().find(|one| one.slot() == slot)?;
        let is_there = |head: &&&Record<'_>| head.slot() == slot || is_to_follow(own, head);
        let mut there = heads.iter().filter(is_there);
        let first = there.next()?.group.epoch.id;
        there.all(|other| other.group.epoch.id == first).then_some(first)
    });
    match (chosen, heads.first()) {
        (Some(head), _) => Ok(head),
        (None, Some(first)) if heads.iter().all(|o| o.group.epoch.id == first.group.epoch.id) => {
            Ok(first.group.epoch.id)
        }
        (None, Some(_)) => {
            let side = |head: &Record<'_>| {
                let is_member = is_in(head, head.slot());
                let member = records.iter().find(|one| !is_member && is_to_follow(one, head));
                member
                    .map_or(Side::of(head), |one| Side { epoch: head.group.epoch, ..Side::of(one) })
            };
            Err(Refused::Split { sides: heads.into_iter().map(side).collect() })
        }
        (None, None) => Err(Refused::Nothing),
    }
}

/// Whether the copy in `slot` is a member of the epoch that `head` has as its newest.
fn is_in(head: &Record<'_>, slot: u8) -> bool {
    head.group.epoch.members & 1 << slot != 0
}

/// Whether `one` is a member of the newest epoch of `head` that a crash caught before it got the header
/// with it. A copy that is being filled in may have got one.
fn is_to_follow(one: &Record<'_>, head: &Record<'_>) -> bool {
    let id = one.group.epoch.id;
    is_in(head, one.slot()) && head.group.epoch.id != id && head.group.descends_from(id)
}

/// What a device is to the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// A member of the newest epoch with a root.
    Member,
    /// A member without a root that can be read.
    Rootless,
    /// No member, of proven lineage.
    Follower,
    /// A history of its own.
    Diverged,
    /// No copy of the group any more.
    Aside,
}

/// How a copy that is met again may come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    /// Its history is a part of ours: it may be brought up to date. What is distrusted, beside what
    /// the group has on record, are the transactions after this one, if any.
    Stale(Option<Tid>),
    /// It has a history of its own, or one that cannot be proven: it must not be written.
    Diverged,
    /// It is out until the operator says otherwise.
    Faulted,
    /// It is no copy of this group any more, or never was.
    Aside,
}

/// Whether the copy on a device may come back to `book`, the group as its members know it
/// (redundancy design 3.6, E3). The device is no member. For a device that appears while mounted,
/// and for every one that is found at a mount.
#[must_use]
pub fn returning(book: &CopyGroup, found: &Found) -> Return {
    let Found { device, fsid, tid, root_behind, .. } = *found;
    match &found.group {
        Ok(group) if group.group == book.group => {
            follower(book, &Record { device, fsid, group, tid, root_behind })
        }
        _ => Return::Aside,
    }
}

fn follower(book: &CopyGroup, one: &Record<'_>) -> Return {
    let Some(copy) = book.slot(one.slot()).filter(|copy| copy.device == one.group.device) else {
        return Return::Aside;
    };
    let is_out = matches!(copy.state, CopyState::Empty | CopyState::Retired);
    if is_out || one.state() == CopyState::Retired {
        return Return::Aside;
    }
    let id = one.group.epoch.id;
    if copy.state == CopyState::Diverged || !book.knows(id, one.slot()) {
        return Return::Diverged;
    }
    // What it wrote after the others had gone on is no part of their history.
    let was_discarded = copy.left == id && !book.descends_from(id);
    let fork = book.successor_of(id).map(|next| next.start_tid);
    let was_member = one.group.epoch.members & 1 << one.slot() != 0;
    if was_member && !was_discarded && fork.is_some_and(|fork| one.tid > fork) {
        return Return::Diverged;
    }
    if copy.state == CopyState::Faulted {
        return Return::Faulted;
    }
    // One that is being brought up to date gets a header with every commit. Where that of the last one
    // is not there, a crash may have come before it, or the copy was put back: what it got is filled in
    // once more.
    let is_behind = copy.state == CopyState::Resync && one.group.flush_seq < book.flush_seq;
    let is_older = is_behind || one.tid < copy.barrier_tid;
    let is_clean = copy.state == CopyState::InSync;
    // one that was in sync once has a root of its own: where that is lost, more may be
    let is_lost = one.root_behind.is_none() && copy.left != EpochId::NONE;
    Return::Stale(match is_clean || is_lost {
        true => Some(Tid(0)),
        false => is_older.then_some(one.tid),
    })
}

/// The devices beside the newest epoch.
pub(super) struct Bench<'a> {
    book: &'a CopyGroup,
    parts: Vec<(Record<'a>, Part)>,
    /// The newest flush of any member.
    newest: u64,
    /// The newest flush of any member whose root can be read.
    best: u64,
    after: Tid,
    flush_seq: u64,
}

impl<'a> Bench<'a> {
    /// Sorts the devices by what they are to the epoch `head`.
    ///
    /// # Errors
    /// No member of it is here with a root.
    pub(super) fn new(records: &[Record<'a>], head: EpochId) -> Result<Self, Refused> {
        let carriers = records.iter().filter(|one| one.group.epoch.id == head);
        let is_own = |one: &Record<'_>| one.group.epoch.members & 1 << one.slot() != 0;
        let book = carriers.max_by_key(|one| (one.group.flush_seq, is_own(one)));
        let book = book.ok_or(Refused::Nothing)?.group;
        let parts: Vec<_> = records.iter().map(|one| (*one, part(book, one))).collect();
        let members = || {
            let is_member = |part: &Part| matches!(part, Part::Member | Part::Rootless);
            parts.iter().filter(move |(_, part)| is_member(part)).map(|(one, _)| one)
        };
        let newest = members().map(|one| one.group.flush_seq).max();
        let best = members().filter(|one| is_own(one)).filter_map(seq_of_root).max();
        let (Some(newest), Some(best)) = (newest, best) else {
            return Err(Refused::NoMaster { sides: records.iter().map(Side::of).collect() });
        };
        let after = records.iter().map(|one| one.tid).max().unwrap_or_default();
        let flush_seq = records.iter().map(|one| one.group.flush_seq).max().unwrap_or(newest);
        Ok(Self { book, parts, newest, best, after, flush_seq })
    }

    pub(super) const fn book(&self) -> &CopyGroup {
        self.book
    }

    pub(super) const fn after(&self) -> Tid {
        self.after
    }

    pub(super) fn sides(&self) -> Vec<Side> {
        self.parts.iter().map(|(one, _)| Side::of(one)).collect()
    }

    /// The copy whose root is the newest: of several, the one with the fewest errors, then the one
    /// in the lowest slot.
    pub(super) fn master(&self, wanted: Option<u8>) -> Result<u8, Refused> {
        let is_best = |one: &Record<'_>| {
            let is_own = one.group.epoch.members & 1 << one.slot() != 0;
            is_own && seq_of_root(one) == Some(self.best)
        };
        let candidates = self.with_part(Part::Member).filter(|one| is_best(one)).map(Record::slot);
        let errors = |slot: u8| self.book.slot(slot).map_or(0, |copy| copy.counters.errors());
        let chosen = match wanted {
            Some(slot) => candidates.into_iter().find(|candidate| *candidate == slot),
            None => candidates.min_by_key(|slot| (errors(*slot), *slot)),
        };
        chosen.ok_or(Refused::NoSuchMaster { slot: wanted.unwrap_or(0) })
    }

    /// Members of the newest epoch that are not here. One without a root is: its headers tell that it
    /// did not go on, which is all that is asked.
    pub(super) fn missing(&self) -> u8 {
        self.book.epoch.members & !self.mask(Part::Member) & !self.mask(Part::Rootless)
    }

    /// Members that need a header: behind by the flush that was under way, or by the epoch that was
    /// being written.
    pub(super) fn lagging(&self) -> u8 {
        let members = self.with_part(Part::Member).filter(|one| !self.is_rolled_back(one));
        let is_behind = |one: &&Record<'_>| {
            one.group.flush_seq < self.newest
                || one.group.epoch.id != self.book.epoch.id
                || one.root_behind != Some(0)
        };
        members.filter(is_behind).fold(0, |mask, one| mask | 1 << one.slot())
    }

    /// Members that a crash caught before they got the header that tells of the newest epoch.
    pub(super) fn uninformed(&self) -> u8 {
        let members = self.with_part(Part::Member);
        let uninformed = members.filter(|one| one.group.epoch.id != self.book.epoch.id);
        uninformed.fold(0, |mask, one| mask | 1 << one.slot())
    }

    /// Whether no copy that is not here can have gone on (redundancy design 3.6, step 5).
    pub(super) fn safety(&self, options: &Options) -> Result<(), ReadOnly> {
        let epoch = &self.book.epoch;
        let policy = self.book.policy;
        let missing = self.missing();
        let word = options.witness.filter(|_| policy.witness).map(|heard| self.word(&heard));
        if let Some(Word::Forbids(seen)) = word {
            return Err(ReadOnly::Witness { seen });
        }
        // A copy that was put back to an older state proves nothing of what came after it.
        let proof: u8 = self
            .with_part(Part::Member)
            .filter(|one| !self.is_rolled_back(one))
            .fold(0, |mask, one| mask | 1 << one.slot());
        // One that has lost its root did not go on, which is all that is asked where everybody is wanted.
        let here = match policy.runtime {
            Runtime::Any => epoch.members & !missing,
            Runtime::Majority | Runtime::Holder(_) => proof,
        };
        // Where a majority or a holder may go on unasked, a witness that stood in for them would let two
        // sides go on; where everybody is wanted, it may.
        let is_confirmed = policy.runtime == Runtime::Any && word == Some(Word::Confirms);
        let is_safe = is_confirmed || may_mount(policy.runtime, epoch.members, here);
        if is_safe {
            return Ok(());
        }
        Err(match policy.runtime {
            Runtime::Holder(slot) => ReadOnly::NoHolder { slot },
            Runtime::Any => ReadOnly::Missing { members: missing },
            Runtime::Majority => ReadOnly::Missing { members: epoch.members & !proof },
        })
    }

    /// What the witness said comes to. An epoch that nobody here knows is void if one of its members
    /// is here, up to the commit before it: it would know.
    fn word(&self, heard: &Heard) -> Word {
        heard.word(self.book, |seen| {
            let members = self.with_part(Part::Member).filter(|one| !self.is_rolled_back(one));
            let mut members = members.filter(|one| seen.members & 1 << one.slot() != 0);
            members.any(|one| {
                let is_up_to_it = one.tid.0.saturating_add(1) >= seen.start_tid.0;
                is_up_to_it && !one.group.descends_from(seen.id)
            })
        })
    }

    /// The member whose newest root cannot be read, if what that holds may have been acknowledged.
    pub(super) fn unacknowledged_root(&self) -> Option<u8> {
        let behind = self.newest - self.best;
        let mut members = self.with_part(Part::Member).chain(self.with_part(Part::Rootless));
        let newest = members.find(|one| one.group.flush_seq == self.newest)?.slot();
        // A member whose newest header is the one before never heard of the flush, so nobody did.
        let proves = |one: &Record<'_>| {
            one.root_behind == Some(0) && one.group.flush_seq == self.best && behind <= LAG_MAX
        };
        let is_proven = self.with_part(Part::Member).any(proves);
        (behind > 0 && !is_proven).then_some(newest)
    }

    /// The group as it is from now on.
    pub(super) fn settle(&self, master: u8) -> (CopyGroup, Vec<Note>) {
        let mut notes = Vec::new();
        let own = self.book.for_slot(master);
        let mut group = own.unwrap_or_else(|| self.book.clone());
        group.flush_seq = self.flush_seq;
        for slot in (0_u8..).take(COPIES_MAX) {
            let here =
                self.parts.iter().find(|(one, part)| one.slot() == slot && *part != Part::Aside);
            match here {
                Some((one, part)) => self.settle_here(&mut group, one, *part, &mut notes),
                None => away(&mut group, slot),
            }
        }
        let aside = self.with_part(Part::Aside).map(|one| Note::Aside(one.device));
        notes.extend(aside);
        (group, notes)
    }

    /// The devices that take part.
    pub(super) fn devices(&self, group: &CopyGroup) -> [Option<DeviceIndex>; COPIES_MAX] {
        let mut devices = [None; COPIES_MAX];
        for (one, part) in &self.parts {
            let state = group.slot(one.slot()).map_or(CopyState::Empty, |copy| copy.state);
            let takes_part = matches!(state, CopyState::InSync | CopyState::Stale);
            if takes_part
                && *part != Part::Aside
                && let Some(place) = devices.get_mut(usize::from(one.slot()))
            {
                *place = Some(one.device);
            }
        }
        devices
    }

    fn settle_here(
        &self,
        group: &mut CopyGroup,
        one: &Record<'_>,
        part: Part,
        notes: &mut Vec<Note>,
    ) {
        let slot = one.slot();
        // The states below allow these, so there is nothing to hear of their results.
        match part {
            Part::Member if !self.is_rolled_back(one) => {
                if self.lagging() & 1 << slot != 0 {
                    notes.push(Note::Lagging(slot));
                }
            }
            Part::Member => {
                let seq = seq_of_root(one).unwrap_or(0);
                notes.push(Note::RolledBack(slot, self.best.saturating_sub(seq)));
                let _ = group.eject(slot, one.tid, false);
                let _ = group.rejoin(slot, self.after);
            }
            Part::Rootless => {
                notes.push(Note::NoRoot(slot));
                let _ = group.eject(slot, Tid(0), false);
                let _ = group.rejoin(slot, self.after);
            }
            Part::Diverged => {
                notes.push(Note::Diverged(slot));
                let _ = group.diverged(slot);
            }
            Part::Follower => {
                if let Return::Stale(from) = follower(self.book, one)
                    && group.rejoin(slot, self.after).is_ok()
                    && let Some(copy) = group.slots.get_mut(usize::from(slot))
                    && let Some(from) = from
                {
                    copy.distrust.add(from, self.after);
                }
            }
            Part::Aside => {}
        }
    }

    /// Whether a member is behind by more than the flush that was under way: it was put back.
    fn is_rolled_back(&self, one: &Record<'_>) -> bool {
        seq_of_root(one).is_none_or(|seq| self.best.saturating_sub(seq) > LAG_MAX)
    }

    fn with_part(&self, wanted: Part) -> impl Iterator<Item = &Record<'a>> {
        self.parts.iter().filter(move |(_, part)| *part == wanted).map(|(one, _)| one)
    }

    fn mask(&self, wanted: Part) -> u8 {
        self.with_part(wanted).fold(0, |mask, one| mask | 1 << one.slot())
    }
}

/// The flush whose root is the newest that can be read on a device.
fn seq_of_root(one: &Record<'_>) -> Option<u64> {
    Some(one.group.flush_seq.saturating_sub(one.root_behind?))
}

fn part(book: &CopyGroup, one: &Record<'_>) -> Part {
    let slot = one.slot();
    let known = book.slot(slot).is_some_and(|copy| copy.device == one.group.device);
    let is_member = book.epoch.members & 1 << slot != 0;
    if known && is_member && book.descends_from(one.group.epoch.id) {
        return if one.root_behind.is_some() { Part::Member } else { Part::Rootless };
    }
    match follower(book, one) {
        Return::Aside => Part::Aside,
        Return::Diverged => Part::Diverged,
        Return::Stale(_) | Return::Faulted => Part::Follower,
    }
}

/// A copy that is not here.
fn away(group: &mut CopyGroup, slot: u8) {
    let Some(copy) = group.slot(slot) else { return };
    let barrier = copy.barrier_tid;
    if matches!(
        copy.state,
        CopyState::InSync | CopyState::Resync | CopyState::Stale | CopyState::New
    ) {
        // the state allows it
        let _ = group.eject(slot, barrier, false);
    }
}
