//! Every transition, and what it may not do.

use super::*;
use crate::media::copy_group::Epoch;
use crate::units::WallTime;

const A: Uuid = Uuid([1; 16]);
const B: Uuid = Uuid([2; 16]);
const C: Uuid = Uuid([3; 16]);

fn stamp(id: u8, tid: u64) -> Stamp {
    Stamp { id: EpochId([id; 16]), host: A, time: WallTime(1), start_tid: Tid(tid) }
}

fn one() -> CopyGroup {
    let epoch = Epoch {
        id: EpochId([1; 16]),
        parent: EpochId::NONE,
        seq: 1,
        start_tid: Tid(1),
        members: 1,
        cause: Cause::Created,
        host: A,
        time: WallTime(0),
    };
    CopyGroup::new(Uuid([9; 16]), A, epoch)
}

fn two() -> CopyGroup {
    let mut group = one();
    group.add(1, B, Tid(50)).unwrap();
    group.rejoin(1, Tid(50)).unwrap();
    group.resync(1, Tid(50)).unwrap();
    group.joined(1, Tid(60)).unwrap();
    assert!(group.needs_epoch());
    group.begin(Cause::Joined, &stamp(2, 61)).unwrap();
    group
}

fn doubts(group: &CopyGroup, slot: usize, tid: u64) -> bool {
    group.slots[slot].distrust.contains(Tid(tid))
}

fn sound(group: &CopyGroup) {
    assert_eq!(CopyGroup::parse(&group.store()).as_ref(), Ok(group));
}

#[test]
fn a_copy_is_added_and_believed_when_it_is_in_sync() {
    let mut group = one();
    group.add(1, B, Tid(50)).unwrap();
    sound(&group);
    assert_eq!((group.slots[1].state, group.configured()), (CopyState::New, 2));
    assert!(doubts(&group, 1, 50) && !doubts(&group, 1, 51), "what comes after it may be sent");
    assert!(!group.needs_epoch());
    let group = two();
    sound(&group);
    assert_eq!((group.epoch.members, group.slots[1].state), (0b11, CopyState::InSync));
    assert!(group.slots[1].distrust.is_empty());
}

#[test]
fn a_copy_fails_and_returns_and_fails_again() {
    let mut group = two();
    group.eject(1, Tid(70), false).unwrap();
    assert_eq!((group.slots[1].left, group.slots[1].state), (group.epoch.id, CopyState::Out));
    assert!(doubts(&group, 1, u64::MAX) && doubts(&group, 1, 71) && !doubts(&group, 1, 70));
    group.begin(Cause::Ejected, &stamp(3, 71)).unwrap();
    sound(&group);
    group.rejoin(1, Tid(80)).unwrap();
    assert!(doubts(&group, 1, 80) && !doubts(&group, 1, 81));
    group.resync(1, Tid(80)).unwrap();
    group.eject(1, Tid(85), true).unwrap();
    assert_eq!(group.slots[1].state, CopyState::Faulted);
    assert_eq!(group.slots[1].left, EpochId([2; 16]), "it was no member in between");
    group.rejoin(1, Tid(90)).unwrap();
    let counted: u64 = (0..200).filter(|tid| doubts(&group, 1, *tid)).count() as u64;
    assert_eq!(counted, (80 - 70) + (90 - 85));
    group.resync(1, Tid(90)).unwrap();
    group.joined(1, Tid(95)).unwrap();
    assert!(group.slots[1].distrust.is_empty());
    sound(&group);
}

#[test]
fn a_copy_that_is_away_stays_distrusted_from_where_it_was() {
    let mut group = two();
    group.eject(1, Tid(70), false).unwrap();
    group.eject(1, Tid(90), false).unwrap();
    assert!(doubts(&group, 1, 71), "told twice");
    assert_eq!(group.slots[1].barrier_tid, Tid(70));
    group.rejoin(1, Tid(100)).unwrap();
    group.eject(1, Tid(100), false).unwrap();
    assert!(doubts(&group, 1, 71) && !doubts(&group, 1, 70));
}

#[test]
fn a_slot_that_is_used_again_believes_nothing_of_before() {
    let mut group = two();
    group.retire(1).unwrap();
    group.begin(Cause::Removed, &stamp(3, 71)).unwrap();
    assert!(doubts(&group, 1, 1) && doubts(&group, 1, u64::MAX));
    assert_eq!((group.configured(), group.slots[1].left), (1, EpochId([2; 16])));
    assert_eq!(group.add(1, B, Tid(80)), Err(TransitionFault::SameDevice), "it needs a new name");
    group.add(1, C, Tid(80)).unwrap();
    assert!(doubts(&group, 1, 1) && doubts(&group, 1, 80) && !doubts(&group, 1, 81));
    assert!(group.slots[1].attach_gen > two().slots[1].attach_gen);
    sound(&group);
    let mut group = two();
    group.replace(1, C, Tid(80)).unwrap();
    assert_eq!((group.slots[1].state, group.in_sync()), (CopyState::New, 1));
    assert!(doubts(&group, 1, 80) && group.needs_epoch());
}

#[test]
fn the_last_copy_stays() {
    let mut group = two();
    group.eject(1, Tid(70), false).unwrap();
    assert_eq!(group.retire(0), Err(TransitionFault::LastInSync(0)));
    assert_eq!(group.replace(0, C, Tid(70)), Err(TransitionFault::LastInSync(0)));
    group.eject(0, Tid(70), false).unwrap();
    assert_eq!(group.begin(Cause::Ejected, &stamp(3, 71)), Err(TransitionFault::NoneInSync));
    assert_eq!(group.epoch, two().epoch);
}

#[test]
fn what_a_state_does_not_allow() {
    let state = |slot, state| Err(TransitionFault::State { slot, state });
    let mut group = two();
    assert_eq!(group.rejoin(1, Tid(1)), state(1, CopyState::InSync));
    assert_eq!(group.resync(1, Tid(1)), state(1, CopyState::InSync));
    assert_eq!(group.joined(1, Tid(1)), state(1, CopyState::InSync));
    assert_eq!(group.add(1, C, Tid(1)), state(1, CopyState::InSync));
    assert_eq!(group.discard(1, EpochId([7; 16]), Tid(1)), state(1, CopyState::InSync));
    assert_eq!(group.eject(2, Tid(1), false), state(2, CopyState::Empty));
    assert_eq!(group.promote(2, Tid(1), &stamp(9, 9)), state(2, CopyState::Empty));
    let held = Rules { runtime: Runtime::Holder(2), ..group.rules() };
    assert_eq!(group.set_rules(held), state(2, CopyState::Empty));
    assert_eq!(group.detach(2), state(2, CopyState::Empty));
    assert_eq!(group.retire(3), state(3, CopyState::Empty));
    for slot in [4, 255] {
        assert_eq!(group.eject(slot, Tid(1), false), Err(TransitionFault::NoSlot(slot)));
        assert_eq!(group.retire(slot), Err(TransitionFault::NoSlot(slot)));
    }
    group.diverged(1).unwrap();
    assert_eq!(group.rejoin(1, Tid(1)), state(1, CopyState::Diverged));
    assert_eq!(group.eject(1, Tid(1), false), state(1, CopyState::Diverged));
    let mut group = one();
    group.add(1, B, Tid(50)).unwrap();
    group.rejoin(1, Tid(50)).unwrap();
    assert_eq!(group.promote(1, Tid(1), &stamp(9, 9)), Err(TransitionFault::NoRoot(1)));
    assert_eq!(group.promote(0, Tid(1), &stamp(1, 9)), Err(TransitionFault::Id));
}

#[test]
fn a_member_that_is_promoted_leaves_the_others_out() {
    let mut group = two();
    group.min_copies = 2;
    group.promote(1, Tid(60), &stamp(3, 100)).unwrap();
    sound(&group);
    assert_eq!(
        group.slots.each_ref().map(|slot| slot.state)[..2],
        [CopyState::Out, CopyState::InSync]
    );
    assert_eq!((group.epoch.parent, group.epoch.cause), (EpochId([2; 16]), Cause::Promoted));
    assert_eq!((group.slots[0].left, group.min_copies), (EpochId([2; 16]), 1));
}

#[test]
fn a_promotion_leaves_copies_of_the_common_past_out_and_others_diverged() {
    // 2 left first, then 1; 0 went on alone. 1 is promoted.
    let mut group = two();
    group.add(2, C, Tid(60)).unwrap();
    group.rejoin(2, Tid(60)).unwrap();
    group.resync(2, Tid(60)).unwrap();
    group.joined(2, Tid(65)).unwrap();
    group.begin(Cause::Joined, &stamp(3, 66)).unwrap();
    let all = group.clone();
    group.eject(2, Tid(70), false).unwrap();
    group.begin(Cause::Ejected, &stamp(4, 71)).unwrap();
    group.eject(1, Tid(80), false).unwrap();
    group.begin(Cause::Ejected, &stamp(5, 81)).unwrap();
    let mut first = group.clone();
    first.promote(1, Tid(80), &stamp(6, 90)).unwrap();
    let states = |group: &CopyGroup| group.slots.each_ref().map(|slot| slot.state);
    use CopyState::{Diverged, Empty, InSync, Out};
    assert_eq!(states(&first), [Diverged, InSync, Out, Empty]);
    assert_eq!((first.epoch.parent, first.slots[0].left), (EpochId([4; 16]), EpochId([5; 16])));
    sound(&first);
    // 2 is promoted, whose root is older than where 1 left.
    group.promote(2, Tid(70), &stamp(7, 90)).unwrap();
    assert_eq!(states(&group), [Diverged, Diverged, InSync, Empty]);
    assert_eq!((group.epoch.parent, group.epoch.seq), (all.epoch.id, all.epoch.seq + 1));
    sound(&group);
}
