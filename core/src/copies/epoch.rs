//! Epochs: when a new one begins, and what a group remembers of the old ones.

use crate::media::copy_group::{Cause, CopyGroup, EPOCHS_MAX, Epoch, EpochId, Runtime};
use crate::units::{Tid, Uuid, WallTime};

use super::transitions::TransitionFault;

/// What a new epoch needs of the world outside: the core has neither clock nor randomness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// 16 random bytes, never all zero: nobody else may draw the same.
    pub id: EpochId,
    /// The host that mints it.
    pub host: Uuid,
    /// The time there.
    pub time: WallTime,
    /// The first media transaction that is written under the epoch: after all that any device was
    /// seen to hold.
    pub start_tid: Tid,
}

/// The epoch that follows `parent`, with these members (redundancy design 3.6, E1).
#[must_use]
pub fn mint(parent: &Epoch, members: u8, cause: Cause, stamp: &Stamp) -> Epoch {
    Epoch {
        id: stamp.id,
        parent: parent.id,
        seq: parent.seq.saturating_add(1),
        start_tid: stamp.start_tid.max(parent.start_tid),
        members,
        cause,
        host: stamp.host,
        time: stamp.time,
    }
}

/// Whether `survivors` of an epoch with `members` may go on without the others, who are there no
/// more: the rule while mounted (redundancy design 3.6, E5 and E6). If not, the group has to halt.
///
/// The rule of mounting is made so that the two can never be said yes to by two sides.
#[must_use]
pub fn may_continue(runtime: Runtime, members: u8, survivors: u8) -> bool {
    let survivors = survivors & members;
    match runtime {
        Runtime::Any => survivors != 0,
        Runtime::Majority => is_majority(members, survivors),
        Runtime::Holder(slot) => survivors.checked_shr(slot.into()).is_some_and(|at| at & 1 == 1),
    }
}

/// Whether `here`, by themselves, may be mounted for writing unasked, if the newest epoch that they
/// know has `members` (redundancy design 3.6, step 5). A witness aside, who allows less.
#[must_use]
pub fn may_mount(runtime: Runtime, members: u8, here: u8) -> bool {
    match runtime {
        Runtime::Any => members & !here == 0,
        Runtime::Majority | Runtime::Holder(_) => may_continue(runtime, members, here),
    }
}

/// Whether `some` are more than half of `members`.
#[must_use]
const fn is_majority(members: u8, some: u8) -> bool {
    2 * (some & members).count_ones() > members.count_ones()
}

impl CopyGroup {
    /// Whether the copies in sync are others than the members of the epoch: a new one has to begin
    /// before anything is acknowledged.
    #[must_use]
    pub fn needs_epoch(&self) -> bool {
        self.epoch.members != self.in_sync()
    }

    /// Begins a new epoch, whose members are the copies in sync. It has to be durable on all of
    /// them before anything written under it is acknowledged, and known to the witness if there
    /// is one.
    ///
    /// # Errors
    /// No copy is in sync, or the stamp's id is not a new one. Then nothing has changed.
    pub fn begin(&mut self, cause: Cause, stamp: &Stamp) -> Result<(), TransitionFault> {
        let members = self.in_sync();
        if members == 0 {
            return Err(TransitionFault::NoneInSync);
        }
        if stamp.id == EpochId::NONE || self.descends_from(stamp.id) {
            return Err(TransitionFault::Id);
        }
        let new = mint(&self.epoch, members, cause, stamp);
        self.past.insert(0, core::mem::replace(&mut self.epoch, new));
        self.past.truncate(EPOCHS_MAX);
        Ok(())
    }

    /// Whether `id` is the current epoch or one before it, as far as they are remembered.
    #[must_use]
    pub fn descends_from(&self, id: EpochId) -> bool {
        self.history().any(|epoch| epoch.id == id)
    }

    /// Whether the group knows what became of the history that ended with `id` on the copy in
    /// `slot`: its own past, or what it gave up.
    #[must_use]
    pub fn knows(&self, id: EpochId, slot: u8) -> bool {
        let is_left = |known: EpochId| known == id && id != EpochId::NONE;
        self.descends_from(id) || self.slot(slot).is_some_and(|slot| is_left(slot.left))
    }

    /// The epoch that followed `id` in this history.
    #[must_use]
    pub fn successor_of(&self, id: EpochId) -> Option<&Epoch> {
        self.history().find(|epoch| epoch.parent == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u8, tid: u64) -> Stamp {
        let id = EpochId([number; 16]);
        Stamp { id, host: Uuid([7; 16]), time: WallTime(5), start_tid: Tid(tid) }
    }

    fn first() -> Epoch {
        let none = Epoch {
            id: EpochId::NONE,
            parent: EpochId::NONE,
            seq: 0,
            start_tid: Tid(1),
            members: 0,
            cause: Cause::Created,
            host: Uuid::default(),
            time: WallTime(0),
        };
        mint(&none, 1, Cause::Created, &stamp(1, 1))
    }

    #[test]
    fn the_ring_keeps_fifteen_and_reads_back() {
        let mut group = CopyGroup::new(Uuid([1; 16]), Uuid([2; 16]), first());
        for number in 2..40 {
            group.begin(Cause::Policy, &stamp(number, 10 * u64::from(number))).unwrap();
            assert_eq!(CopyGroup::parse(&group.store()).as_ref(), Ok(&group));
        }
        assert_eq!((group.epoch.seq, group.past.len()), (39, EPOCHS_MAX));
        assert!(group.descends_from(EpochId([24; 16])));
        assert!(!group.descends_from(EpochId([23; 16])), "too long ago");
        assert_eq!(group.successor_of(EpochId([38; 16])), Some(&group.epoch));
        assert_eq!(group.successor_of(group.epoch.id), None);
        let ids = [EpochId::NONE, EpochId([38; 16])];
        for id in ids {
            let reused = Stamp { id, ..stamp(0, 1000) };
            assert_eq!(group.begin(Cause::Policy, &reused), Err(TransitionFault::Id));
        }
        let clock_back = Stamp { start_tid: Tid(3), ..stamp(50, 0) };
        group.begin(Cause::Policy, &clock_back).unwrap();
        assert_eq!(group.epoch.start_tid, Tid(390), "transactions never go back");
    }

    #[test]
    fn who_may_go_on() {
        for (runtime, members, survivors, expected) in [
            (Runtime::Any, 0b11, 0b01, true),
            (Runtime::Any, 0b11, 0b00, false),
            (Runtime::Any, 0b01, 0b10, false),
            (Runtime::Majority, 0b11, 0b01, false),
            (Runtime::Majority, 0b111, 0b011, true),
            (Runtime::Majority, 0b111, 0b100, false),
            (Runtime::Majority, 0b1111, 0b0011, false),
            (Runtime::Holder(1), 0b11, 0b01, false),
            (Runtime::Holder(1), 0b11, 0b10, true),
            (Runtime::Holder(200), 0b11, 0b11, false),
        ] {
            let may = may_continue(runtime, members, survivors);
            assert_eq!(may, expected, "{runtime:?} {members:b} {survivors:b}");
        }
    }

    /// However the members of an epoch are parted, not both sides may go on: one that was mounted, the
    /// other when it is found by itself.
    #[test]
    fn never_two_sides() {
        let rules = [Runtime::Any, Runtime::Majority, Runtime::Holder(0), Runtime::Holder(3)];
        for runtime in rules {
            for members in 1..16_u8 {
                for left in 0..16 {
                    let others = members & !left;
                    let both =
                        may_continue(runtime, members, left) && may_mount(runtime, members, others);
                    assert!(!both, "{runtime:?} {members:b}: {left:b} and {others:b}");
                }
            }
        }
    }
}
