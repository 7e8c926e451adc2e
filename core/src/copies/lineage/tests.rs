//! The table of cases (redundancy design 3.6), the rules E1 to E6, and every refusal.

use super::*;
use crate::copies::witness::WitnessFault;
use crate::copies::{Distrust, Interval, Rules};
use crate::media::copy_group::{CopySlot, Epoch, EpochId, Policy, Runtime, WitnessPlace};
use crate::media::witness::Testimony;
use crate::units::WallTime;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;

const GROUP: Uuid = Uuid([0xaa; 16]);

fn stamp(id: u8, tid: u64) -> Stamp {
    let host = Uuid([0xbb; 16]);
    Stamp { id: EpochId([id; 16]), host, time: WallTime(1_000_000), start_tid: Tid(tid) }
}

/// `count` copies in sync, in epoch 1, after flush 10 with transaction 100.
fn group(count: u8) -> CopyGroup {
    let epoch = Epoch {
        id: EpochId([1; 16]),
        parent: EpochId::NONE,
        seq: 1,
        start_tid: Tid(1),
        members: (1 << count) - 1,
        cause: Cause::Created,
        host: Uuid([0xbb; 16]),
        time: WallTime(0),
    };
    let mut group = CopyGroup::new(GROUP, Uuid([1; 16]), epoch);
    for slot in 0..count {
        let copy = CopySlot { state: InSync, barrier_tid: Tid(99), ..CopySlot::EMPTY };
        group.slots[usize::from(slot)] = CopySlot { device: Uuid([slot + 1; 16]), ..copy };
    }
    group.flush_seq = 10;
    group
}

/// The device of `slot` with that record, after `flushes` more of ten transactions each.
fn at(group: &CopyGroup, slot: u8, flushes: u64) -> Found {
    let mut group = group.for_slot(slot).unwrap();
    group.flush_seq += flushes;
    Found {
        device: DeviceIndex(slot),
        fsid: Uuid([0xcc; 16]),
        tid: Tid(group.flush_seq * 10),
        group: Ok(group),
        root_behind: Some(0),
    }
}

/// The group after `slot` failed at flush 11, in an epoch with that id.
fn without(group: &CopyGroup, slot: u8, id: u8) -> CopyGroup {
    let mut group = group.clone();
    group.eject(slot, Tid(group.flush_seq * 10), false).unwrap();
    group.begin(Cause::Ejected, &stamp(id, group.flush_seq * 10 + 10)).unwrap();
    group.flush_seq += 1;
    group
}

fn with_rule(count: u8, runtime: Runtime) -> CopyGroup {
    let mut group = group(count);
    group.policy = Policy { runtime, ..Policy::default() };
    group
}

fn plain(found: &[Found]) -> Result<Decision, Refused> {
    decide(found, &Options::default())
}

fn accepting(found: &[Found]) -> Decision {
    decide(found, &Options { accept_missing: true, ..Options::default() }).unwrap()
}

fn states(decision: &Decision) -> [CopyState; 4] {
    decision.group.slots.each_ref().map(|slot| slot.state)
}

fn pairs(distrust: &Distrust) -> Vec<(u64, u64)> {
    distrust.intervals().iter().map(|Interval { low, high }| (low.0, high.0)).collect()
}

use CopyState::{Diverged, Empty, Faulted, InSync, Out, Stale};

const MISSING_1: Result<(), ReadOnly> = Err(ReadOnly::Missing { members: 0b10 });

#[test]
fn clean() {
    let decision = plain(&[at(&group(2), 1, 0), at(&group(2), 0, 0)]).unwrap();
    assert_eq!((decision.writable, decision.master, decision.lagging), (Ok(()), 0, 0));
    assert_eq!((decision.mint, decision.after), (None, Tid(100)), "E1: not at every mount");
    assert_eq!(decision.devices, [Some(DeviceIndex(0)), Some(DeviceIndex(1)), None, None]);
    assert!(decision.notes.is_empty());
}

#[test]
fn a_crash_with_one_copy_a_flush_ahead() {
    for (ahead, behind) in [(0, 1), (1, 0)] {
        let found = [at(&group(2), ahead, 1), at(&group(2), behind, 0)];
        let decision = plain(&found).unwrap();
        assert_eq!((decision.writable, decision.master), (Ok(()), ahead));
        assert_eq!((decision.lagging, decision.mint), (1 << behind, None));
        assert_eq!(states(&decision), [InSync, InSync, Empty, Empty]);
        assert_eq!(decision.notes, [Note::Lagging(behind)]);
    }
}

#[test]
fn a_copy_died_while_mounted_and_the_other_boots_alone() {
    let alone = without(&group(2), 1, 2);
    let decision = plain(&[at(&alone, 0, 5)]).unwrap();
    assert_eq!((decision.writable, decision.mint), (Ok(()), None), "no question");
    assert_eq!(states(&decision), [InSync, Out, Empty, Empty]);
    assert_eq!(pairs(&decision.group.slots[1].distrust), [(100, u64::MAX)]);
}

#[test]
fn a_copy_died_while_powered_off() {
    let found = [at(&group(2), 0, 0)];
    assert_eq!(plain(&found).unwrap().writable, MISSING_1);
    assert_eq!(plain(&found).unwrap().mint, None, "who writes nothing begins nothing");
    let mut decision = accepting(&found);
    assert_eq!(decision.writable, Ok(()));
    assert_eq!(
        decision.mint,
        Some(Mint { members: 1, cause: Cause::AcceptedMissing, is_accepted: true })
    );
    decision.begin(&stamp(2, 101)).unwrap();
    let group = &decision.group;
    assert_eq!((group.epoch.members, group.epoch.parent), (1, EpochId([1; 16])));
    assert_eq!((group.flush_seq, group.slots[1].left), (11, EpochId([1; 16])));
    assert_eq!(pairs(&group.slots[1].distrust), [(99, u64::MAX)]);
    assert_eq!(CopyGroup::parse(&group.store()).as_ref(), Ok(group));
}

#[test]
fn the_ejected_copy_alone_cannot_prove_that_it_is_current() {
    let found = [at(&group(2), 1, 0)];
    assert_eq!(plain(&found).unwrap().writable, Err(ReadOnly::Missing { members: 1 }));
}

#[test]
fn each_forced_alone_is_a_split() {
    let sides = [at(&without(&group(2), 1, 2), 0, 0), at(&without(&group(2), 0, 3), 1, 40)];
    let Err(Refused::Split { sides: told }) = plain(&sides) else { panic!("no split") };
    assert_eq!(told.iter().map(|side| side.slot).collect::<Vec<_>>(), [0, 1]);
    let token = Options { accept_missing: true, ..Options::default() };
    assert!(matches!(decide(&sides, &token), Err(Refused::Split { .. })), "nor with a token");
    // Each side alone goes on, and the operator may choose one: the other is left as it is.
    for slot in [0, 1] {
        assert_eq!(plain(&sides[usize::from(slot)..=usize::from(slot)]).unwrap().writable, Ok(()));
        let choice = Options { master: Some(slot), ..Options::default() };
        let decision = decide(&sides, &choice).unwrap();
        assert_eq!((decision.writable, decision.master), (Ok(()), slot));
        assert_eq!(states(&decision)[usize::from(1 - slot)], Diverged);
        assert_eq!(decision.devices[usize::from(1 - slot)], None);
        assert_eq!(decision.after, Tid(510), "nobody's transactions are used again");
    }
    let view = Options { only_copy: Some(1), ..Options::default() };
    let decision = decide(&sides, &view).unwrap();
    assert_eq!(decision.writable, Err(ReadOnly::OneCopy { slot: 1 }));
    assert_eq!(states(&decision)[..2], [Out, InSync]);
}

#[test]
fn a_side_whose_member_did_not_get_its_epoch_yet_can_be_chosen() {
    let mut both = without(&group(3), 1, 2);
    both.rejoin(1, Tid(110)).unwrap();
    both.resync(1, Tid(110)).unwrap();
    // copy 2 fails; a crash comes when only the copy that is filled in knows of it
    let left = without(&both, 2, 3);
    // and it was forced to go on alone
    let mut forced = without(&both, 0, 4);
    forced.eject(1, Tid(110), false).unwrap();
    let found = vec![at(&both, 0, 0), at(&left, 1, 0), at(&forced, 2, 0)];
    let Err(Refused::Split { sides }) = plain(&found) else { panic!("one history") };
    let named: Vec<_> = sides.iter().map(|side| (side.slot, side.epoch.id.0[0])).collect();
    assert_eq!(named, [(0, 3), (2, 4)], "by who can be chosen");
    let chosen = |slot| decide(&found, &Options { master: Some(slot), ..Options::default() });
    let decision = chosen(0).unwrap();
    assert_eq!((decision.master, decision.writable), (0, Ok(())));
    assert_eq!(decision.group.epoch.id, EpochId([3; 16]), "of the newest epoch that it is in");
    assert_eq!((decision.lagging, states(&decision)[2]), (0b1, Diverged));
    assert_eq!(chosen(2).unwrap().group.epoch.id, EpochId([4; 16]));
    assert_eq!(chosen(1).unwrap_err().code(), "FC-S12", "it does not hold everything");
}

#[test]
fn a_copy_forced_after_the_other_moved_on_is_a_split_when_that_returns() {
    let moved_on = without(&group(2), 1, 2);
    let mut forced = accepting(&[at(&group(2), 1, 0)]);
    forced.begin(&stamp(3, 101)).unwrap();
    let found = [at(&moved_on, 0, 9), at(&forced.group, 1, 0)];
    assert!(matches!(plain(&found), Err(Refused::Split { .. })));
}

#[test]
fn an_image_of_last_week_is_brought_up_to_date() {
    let found = [at(&group(2), 0, 890), at(&group(2), 1, 390)];
    let decision = plain(&found).unwrap();
    assert_eq!((decision.writable, decision.master), (Ok(()), 0));
    assert_eq!(states(&decision), [InSync, Stale, Empty, Empty]);
    assert_eq!(pairs(&decision.group.slots[1].distrust), [(4000, 9000)]);
    assert_eq!(decision.notes, [Note::RolledBack(1, 500)]);
    assert_eq!(decision.mint.unwrap().members, 1);
    assert_eq!(decision.devices[1], Some(DeviceIndex(1)));
}

#[test]
fn a_copy_that_was_away_and_lost_its_root_is_believed_nothing() {
    let old = group(2);
    let mut found = [at(&without(&old, 1, 2), 0, 20), at(&old, 1, 0)];
    let distrust = |found: &[Found]| pairs(&plain(found).unwrap().group.slots[1].distrust);
    assert_eq!(distrust(&found), [(100, 310)], "it has what it had");
    found[1].root_behind = None;
    assert_eq!(distrust(&found), [(0, 310)]);
    // one that never was in sync has no root to lose
    let Ok(group) = &mut found[0].group else { panic!("it has a record") };
    group.slots[1].left = EpochId::NONE;
    assert_eq!(distrust(&found), [(100, 310)]);
}

#[test]
fn the_lag_rule_allows_one_flush() {
    for (lag, expected) in [(0, InSync), (1, InSync), (2, Stale), (3, Stale)] {
        let found = [at(&group(2), 0, 9), at(&group(2), 1, 9 - lag)];
        assert_eq!(states(&plain(&found).unwrap())[1], expected, "{lag}");
    }
}

#[test]
fn a_member_with_the_epoch_before_lags_and_one_that_left_is_stale() {
    // E4: the epoch without copy 2 reached copy 0 only.
    let old = group(3);
    let new = without(&old, 2, 2);
    let found = vec![at(&new, 0, 0), at(&old, 1, 0), at(&old, 2, 0)];
    let decision = plain(&found).unwrap();
    assert_eq!((decision.writable, decision.master), (Ok(()), 0));
    assert_eq!((decision.lagging, decision.mint), (0b010, None));
    assert_eq!(states(&decision), [InSync, InSync, Stale, Empty]);
    assert_eq!(pairs(&decision.group.slots[2].distrust), [(100, 110)]);
}

#[test]
fn a_copy_that_became_a_member_by_the_others_only_lags_and_alone_is_no_master() {
    let mut resyncing = without(&group(2), 1, 2);
    resyncing.rejoin(1, Tid(110)).unwrap();
    resyncing.resync(1, Tid(110)).unwrap();
    let mut joined = resyncing.clone();
    joined.joined(1, Tid(120)).unwrap();
    joined.begin(Cause::Joined, &stamp(3, 120)).unwrap();
    let own = at(&resyncing, 1, 0);
    let decision = plain(&[at(&joined, 0, 1), own.clone()]).unwrap();
    assert_eq!((decision.writable, decision.lagging), (Ok(()), 0b10));
    assert_eq!(states(&decision), [InSync, InSync, Empty, Empty]);
    assert!(matches!(plain(&[own]), Err(Refused::NoMaster { .. })));
    // On the copy that joined only: it is the master, and the other a lagging member.
    let decision = plain(&[at(&joined, 1, 1), at(&resyncing, 0, 0)]).unwrap();
    assert_eq!((decision.master, decision.lagging, decision.mint), (1, 0b01, None));
}

#[test]
fn a_member_that_never_was_in_sync_by_its_own_header_is_no_master() {
    // The epoch that copy 1 joined reached copy 2 only, which is no member.
    let mut resyncing = without(&without(&group(3), 2, 2), 1, 3);
    resyncing.rejoin(1, Tid(120)).unwrap();
    resyncing.resync(1, Tid(120)).unwrap();
    let mut joined = resyncing.clone();
    joined.joined(1, Tid(130)).unwrap();
    joined.begin(Cause::Joined, &stamp(4, 130)).unwrap();
    let found = [at(&resyncing, 1, 0), at(&joined, 2, 1)];
    assert!(matches!(plain(&found), Err(Refused::NoMaster { .. })));
}

#[test]
fn a_member_that_went_another_way_is_diverged() {
    // The epoch without copy 1 reached copy 0 only; later 1 and 2 were forced without 0.
    let ours = without(&group(3), 1, 2);
    let theirs = without(&group(3), 0, 3);
    let found = [at(&ours, 0, 0), at(&theirs, 2, 0)];
    assert!(matches!(plain(&found), Err(Refused::Split { .. })));
    let chosen = Options { master: Some(0), accept_missing: true, ..Options::default() };
    let decision = decide(&found, &chosen).unwrap();
    assert_eq!(decision.writable, Ok(()));
    assert_eq!(states(&decision)[..3], [InSync, Out, Diverged]);
    assert_eq!(decision.mint.unwrap().members, 1);
}

#[test]
fn an_unacknowledged_tail_is_no_reason_to_refuse_and_more_than_that_is() {
    // Copy 1 had the header of flush 11 when copy 0 went on without it from there.
    let moved_on = without(&group(2), 1, 2);
    for (flushes, expected) in [(0, Stale), (1, Stale), (2, Diverged)] {
        let found = [at(&moved_on, 0, 9), at(&group(2), 1, flushes)];
        let decision = plain(&found).unwrap();
        assert_eq!(states(&decision)[..2], [InSync, expected], "{flushes} flushes");
        assert_eq!(decision.writable, Ok(()));
    }
}

#[test]
fn a_history_that_is_too_long_ago_is_known_by_what_the_slot_says() {
    let mut old = without(&group(3), 1, 2);
    for number in 3..60 {
        old.begin(Cause::Policy, &stamp(number, u64::from(number) * 100)).unwrap();
        old.flush_seq += 1;
    }
    assert!(!old.descends_from(EpochId([1; 16])));
    let found = vec![at(&old, 0, 0), at(&old, 2, 0), at(&group(3), 1, 0)];
    assert_eq!(states(&plain(&found).unwrap())[..3], [InSync, Stale, InSync]);
    let mut unknown = old.clone();
    unknown.slots[1].left = EpochId::NONE;
    let found = vec![at(&unknown, 0, 0), at(&unknown, 2, 0), at(&group(3), 1, 0)];
    assert!(matches!(plain(&found), Err(Refused::Split { .. })), "what is not proven is refused");
}

#[test]
fn two_of_three_do_not_suffice_where_one_may_go_on_alone() {
    // E5: copy 2 may have gone on alone.
    let old = with_rule(3, Runtime::Any);
    let two = [at(&old, 0, 0), at(&old, 1, 0)];
    assert_eq!(plain(&two).unwrap().writable, Err(ReadOnly::Missing { members: 0b100 }));
    let majority = with_rule(3, Runtime::Majority);
    let two = [at(&majority, 0, 0), at(&majority, 1, 0)];
    let decision = plain(&two).unwrap();
    assert_eq!(decision.writable, Ok(()));
    assert_eq!(
        decision.mint,
        Some(Mint { members: 0b011, cause: Cause::Degraded, is_accepted: false })
    );
    assert_eq!(plain(&two[..1]).unwrap().writable, Err(ReadOnly::Missing { members: 0b110 }));
    // Copies that were put back to an older state are no proof.
    let back = vec![at(&majority, 0, 9), at(&majority, 1, 0), at(&majority, 2, 0)];
    assert_eq!(plain(&back).unwrap().writable, Err(ReadOnly::Missing { members: 0b110 }));
}

#[test]
fn the_holder_suffices_and_is_needed() {
    // E6
    let old = with_rule(3, Runtime::Holder(1));
    let decision = plain(&[at(&old, 1, 0)]).unwrap();
    assert_eq!(decision.writable, Ok(()));
    assert_eq!(
        decision.mint,
        Some(Mint { members: 0b010, cause: Cause::Degraded, is_accepted: false })
    );
    let others = [at(&old, 0, 0), at(&old, 2, 0)];
    assert_eq!(plain(&others).unwrap().writable, Err(ReadOnly::NoHolder { slot: 1 }));
    assert_eq!(accepting(&others).writable, Ok(()));
}

#[test]
fn after_a_hand_over_the_old_holder_may_only_follow() {
    let old = with_rule(2, Runtime::Holder(0));
    let mut new = old.clone();
    new.set_rules(Rules { runtime: Runtime::Holder(1), ..new.rules() }).unwrap();
    new.begin(Cause::Policy, &stamp(2, 101)).unwrap();
    new.flush_seq += 1;
    let held_by_1 = Err(ReadOnly::NoHolder { slot: 1 });
    assert_eq!(plain(&[at(&new, 0, 0)]).unwrap().writable, held_by_1);
    assert_eq!(plain(&[at(&new, 1, 0)]).unwrap().writable, Ok(()));
    // a crash between: the old holder is told first, so nobody may go on alone
    assert_eq!(plain(&[at(&old, 1, 0)]).unwrap().writable, Err(ReadOnly::NoHolder { slot: 0 }));
    let decision = plain(&[at(&new, 0, 0), at(&old, 1, 0)]).unwrap();
    assert_eq!((decision.writable, decision.lagging), (Ok(()), 0b10));
    assert_eq!(states(&decision)[..2], [InSync, InSync]);
}

/// The witness of `group`, which was told of it.
fn told_of(group: &CopyGroup) -> Options {
    Options { witness: Some(Heard::of(&Testimony::of(group))), ..Options::default() }
}

fn witnessed(count: u8) -> CopyGroup {
    let mut group = group(count);
    group.set_witness(Some(WitnessPlace::new(Uuid([7; 16]), b"/w")));
    group
}

#[test]
fn the_witness_stands_in_for_the_missing_and_vetoes() {
    let mut both = witnessed(2);
    let without_1 = without(&both, 1, 2);
    let here = |group: &CopyGroup, slot| [at(group, slot, 0)];
    let ask = |found: &[Found], witness: &CopyGroup| decide(found, &told_of(witness)).unwrap();
    let unused = group(2);
    assert_eq!(ask(&here(&unused, 0), &both).writable, MISSING_1, "the group does not use it");
    assert_eq!(plain(&here(&both, 0)).unwrap().writable, MISSING_1, "it cannot be asked");
    let alone = ask(&here(&both, 0), &both);
    let mint = Mint { members: 1, cause: Cause::Degraded, is_accepted: false };
    assert_eq!((alone.writable, alone.mint), (Ok(()), Some(mint)));
    // one copy died while mounted, and the machine starts with the other one, or with that one
    assert_eq!(ask(&here(&without_1, 0), &without_1).writable, Ok(()));
    let vetoed = Err(ReadOnly::Witness { seen: EpochId([2; 16]) });
    assert_eq!(ask(&here(&both, 1), &without_1).writable, vetoed);
    assert_eq!(ask(&here(&without_1, 0), &both).writable, Ok(()), "the witness may be behind");
    both.policy.runtime = Runtime::Majority;
    assert_eq!(ask(&here(&both, 0), &both).writable, MISSING_1, "the majority may have gone on");
}

#[test]
fn an_epoch_that_only_the_witness_has_is_void_if_a_member_of_it_is_here() {
    let both = witnessed(2);
    // the transaction before the one that begins the epoch
    let at = |group: &CopyGroup, slot| Found { tid: Tid(109), ..at(group, slot, 0) };
    let without_1 = without(&both, 1, 2);
    // power failed when the witness knew and no copy did
    let ask = |found: &[Found]| decide(found, &told_of(&without_1)).unwrap().writable;
    assert_eq!(ask(&[at(&both, 0)]), Ok(()), "it would know, had anything been acknowledged");
    assert_eq!(ask(&[at(&both, 0), at(&both, 1)]), Ok(()));
    let vetoed = Err(ReadOnly::Witness { seen: EpochId([2; 16]) });
    assert_eq!(ask(&[at(&both, 1)]), vetoed, "the other one may have gone on");
    // an old image of the copy that went on proves nothing
    let mut old = at(&both, 0);
    old.tid = Tid(90);
    assert_eq!(ask(&[old]), vetoed);
    // and one more began before any header
    let mut twice = without_1.clone();
    twice.begin(Cause::Policy, &stamp(3, 110)).unwrap();
    assert_eq!(decide(&[at(&both, 0)], &told_of(&twice)).unwrap().writable, Ok(()));
    // of a history that is not ours nothing is void
    let mut other = witnessed(1);
    other.epoch.id = EpochId([5; 16]);
    let other = told_of(&other);
    let seen = EpochId([5; 16]);
    let both = [at(&both, 0), at(&both, 1)];
    assert_eq!(decide(&both, &other).unwrap().writable, Err(ReadOnly::Witness { seen }));
}

#[test]
fn a_stored_rule_does_not_overrule_the_witness_and_the_operator_does() {
    let mut both = witnessed(2);
    both.policy.on_missing = OnMissing::Accept;
    let without_1 = without(&both, 1, 2);
    let found = [at(&both, 1, 0)];
    let vetoed = Err(ReadOnly::Witness { seen: EpochId([2; 16]) });
    assert_eq!(decide(&found, &told_of(&without_1)).unwrap().writable, vetoed);
    assert_eq!(plain(&found).unwrap().writable, Ok(()), "it cannot be asked");
    let accepting = Options { accept_missing: true, ..told_of(&without_1) };
    let mut decision = decide(&found, &accepting).unwrap();
    assert_eq!(decision.mint.unwrap().cause, Cause::AcceptedMissing);
    decision.begin(&stamp(4, 200)).unwrap();
    assert!(!decision.told.is_owed(&decision.group));
    let telling = decision.told.telling(&decision.group, Tid(199)).unwrap();
    assert_eq!(telling.judge(&Testimony::of(&without_1)), Ok(()), "told all the same");
    let third = without(&both, 1, 9);
    let overtaken = WitnessFault::Overtaken(EpochId([9; 16]));
    assert_eq!(telling.judge(&Testimony::of(&third)), Err(overtaken));
}

#[test]
fn a_mount_that_leaves_members_behind_needs_its_witness() {
    let both = witnessed(2);
    let rootless = Found { root_behind: None, ..at(&both, 1, 0) };
    let found = [at(&both, 0, 0), rootless];
    let unheard = Err(ReadOnly::Unwitnessed { members: 2 });
    assert_eq!(plain(&found).unwrap().writable, unheard);
    let mut decision = decide(&found, &told_of(&both)).unwrap();
    assert_eq!(decision.writable, Ok(()));
    decision.begin(&stamp(4, 200)).unwrap();
    assert!(decision.told.is_owed(&decision.group));
    assert_eq!(accepting(&found).writable, Ok(()));
    let both = [at(&both, 0, 0), at(&both, 1, 0)];
    assert_eq!(plain(&both).unwrap().writable, Ok(()), "nobody else can have gone on");
}

#[test]
fn the_rule_for_missing_members() {
    let mut strict = group(2);
    strict.policy.on_missing = OnMissing::Refuse;
    let refused = plain(&[at(&strict, 0, 0)]);
    assert!(matches!(refused, Err(Refused::Missing { members: 0b10, .. })));
    assert_eq!(accepting(&[at(&strict, 0, 0)]).writable, Ok(()));
    strict.policy.on_missing = OnMissing::Accept;
    let decision = plain(&[at(&strict, 0, 0)]).unwrap();
    assert_eq!(decision.mint, Some(Mint { members: 1, cause: Cause::Degraded, is_accepted: true }));
}

#[test]
fn too_few_in_sync() {
    let mut picky = without(&group(3), 2, 2);
    picky.min_copies = 3;
    let found = [at(&picky, 0, 0), at(&picky, 1, 0)];
    let few = Err(ReadOnly::TooFew { have: 2, need: 3 });
    assert_eq!(plain(&found).unwrap().writable, few);
    assert_eq!(accepting(&found).writable, few);
}

#[test]
fn roots_that_cannot_be_read() {
    let bad = |mut found: Found, behind| {
        found.root_behind = behind;
        found
    };
    // The other member has it, and the headers of this one tell that it did not go on alone.
    let decision = plain(&[bad(at(&group(2), 0, 1), None), at(&group(2), 1, 1)]).unwrap();
    assert_eq!((decision.master, decision.writable), (1, Ok(())));
    assert_eq!(decision.mint, Some(Mint { members: 2, cause: Cause::Ejected, is_accepted: false }));
    let newer = [bad(at(&group(2), 0, 2), None), at(&group(2), 1, 0)];
    assert_eq!(plain(&newer).unwrap().writable, Err(ReadOnly::OlderRoot { slot: 0 }));
    assert_eq!(decision.notes, [Note::NoRoot(0)]);
    assert_eq!(states(&decision)[..2], [Stale, InSync]);
    let none = [bad(at(&group(2), 0, 1), None), bad(at(&group(2), 1, 1), None)];
    assert!(matches!(plain(&none), Err(Refused::NoMaster { .. })));
    // An older root is used only if the newest was never acknowledged, or by the operator's word.
    let older = [bad(at(&group(1), 0, 1), Some(1))];
    assert_eq!(plain(&older).unwrap().writable, Err(ReadOnly::OlderRoot { slot: 0 }));
    let chosen = Options { master: Some(0), ..Options::default() };
    assert_eq!(decide(&older, &chosen).unwrap().writable, Ok(()));
    let proven = [bad(at(&group(2), 0, 1), Some(1)), at(&group(2), 1, 0)];
    assert_eq!(plain(&proven).unwrap().writable, Ok(()));
    let doubtful = [bad(at(&group(2), 0, 1), Some(1)), bad(at(&group(2), 1, 1), Some(1))];
    assert!(plain(&doubtful).unwrap().writable.is_err());
}

#[test]
fn the_promoted_copy_gives_up_the_newer_history() {
    // Copy 0 died while copy 1 was being brought up to date.
    let mut resyncing = without(&group(2), 1, 2);
    resyncing.rejoin(1, Tid(150)).unwrap();
    resyncing.resync(1, Tid(150)).unwrap();
    let mut promoted = resyncing.for_slot(1).unwrap();
    promoted.promote(1, Tid(100), &stamp(3, 200)).unwrap();
    assert_eq!((promoted.epoch.parent, promoted.epoch.members), (EpochId([1; 16]), 0b10));
    assert_eq!(CopyGroup::parse(&promoted.store()).as_ref(), Ok(&promoted));
    let decision = plain(&[at(&promoted, 1, 0)]).unwrap();
    assert_eq!((decision.writable, decision.mint), (Ok(()), None));
    // The old master returns: it is diverged, no question and no merge.
    let found = [at(&promoted, 1, 9), at(&resyncing, 0, 3)];
    let decision = plain(&found).unwrap();
    assert_eq!((decision.writable, decision.master), (Ok(()), 1));
    assert_eq!(states(&decision)[..2], [Diverged, InSync]);
    assert_eq!(decision.notes, [Note::Diverged(0)]);
    // Given up by the operator's word, it comes back from nothing.
    let mut group = decision.group;
    group.discard(0, EpochId([2; 16]), Tid(210)).unwrap();
    let decision = plain(&[at(&group, 1, 9), at(&resyncing, 0, 3)]).unwrap();
    assert_eq!(states(&decision)[..2], [Stale, InSync]);
    assert_eq!(pairs(&decision.group.slots[0].distrust), [(0, 210)]);
}

#[test]
fn who_is_no_copy_any_more_is_left_alone() {
    let mut smaller = group(3);
    smaller.retire(2).unwrap();
    smaller.begin(Cause::Removed, &stamp(2, 101)).unwrap();
    for own in [at(&group(3), 2, 0), at(&smaller, 2, 1)] {
        let found = vec![at(&smaller, 0, 1), at(&smaller, 1, 1), own];
        let decision = plain(&found).unwrap();
        assert_eq!((decision.writable, decision.devices[2]), (Ok(()), None));
        assert_eq!(decision.notes, [Note::Aside(DeviceIndex(2))]);
    }
    let mut replaced = group(2);
    replaced.replace(1, Uuid([9; 16]), Tid(100)).unwrap();
    replaced.begin(Cause::Removed, &stamp(2, 101)).unwrap();
    let decision = plain(&[at(&replaced, 0, 1), at(&group(2), 1, 0)]).unwrap();
    assert_eq!((decision.writable, decision.devices[1]), (Ok(()), None));
    let mut faulted = group(2);
    faulted.eject(1, Tid(90), true).unwrap();
    faulted.begin(Cause::Ejected, &stamp(2, 101)).unwrap();
    let decision = plain(&[at(&faulted, 0, 1), at(&group(2), 1, 0)]).unwrap();
    assert_eq!((states(&decision)[1], decision.devices[1]), (Faulted, None));
}

#[test]
fn the_copy_with_fewer_errors_is_the_master() {
    let mut group = group(2);
    group.slots[0].counters.check = 3;
    let found = [at(&group, 0, 0), at(&group, 1, 0)];
    assert_eq!(plain(&found).unwrap().master, 1);
    let chosen = Options { master: Some(0), ..Options::default() };
    assert_eq!(decide(&found, &chosen).unwrap().master, 0);
    let none = Options { master: Some(3), ..Options::default() };
    assert_eq!(decide(&found, &none).unwrap_err(), Refused::NoSuchMaster { slot: 3 });
}

#[test]
fn one_that_appears_while_mounted() {
    let book = without(&group(2), 1, 2);
    assert_eq!(returning(&book, &at(&group(2), 1, 0)), Return::Stale(None));
    let older = Found { tid: Tid(70), ..at(&group(2), 1, 0) };
    assert_eq!(returning(&book, &older), Return::Stale(Some(Tid(70))));
    assert_eq!(returning(&book, &at(&without(&group(2), 0, 7), 1, 0)), Return::Diverged);
    let mut foreign = group(2);
    foreign.group = Uuid([5; 16]);
    assert_eq!(returning(&book, &at(&foreign, 1, 0)), Return::Aside);
}

#[test]
fn every_refusal_says_what_where_and_what_next() {
    let (a, b) = (at(&group(2), 0, 0), at(&group(2), 1, 0));
    let faulty = |fault| Found { group: Err(fault), ..b.clone() };
    let mut same_slot = without(&group(2), 1, 2);
    same_slot.slots[0].device = Uuid([7; 16]);
    let same_slot = Found { device: DeviceIndex(1), ..at(&same_slot, 0, 0) };
    let mut foreign = group(2);
    foreign.group = Uuid([5; 16]);
    let mut liar = at(&group(2), 1, 0);
    if let Ok(group) = &mut liar.group {
        group.epoch.members = 0b10;
    }
    let mut resyncing = without(&group(2), 1, 2);
    resyncing.rejoin(1, Tid(110)).unwrap();
    let mut strict = group(2);
    strict.policy.on_missing = OnMissing::Refuse;
    let cases: [(&str, Vec<Found>); 13] = [
        ("FC-S01", vec![at(&without(&group(2), 1, 2), 0, 0), at(&without(&group(2), 0, 3), 1, 0)]),
        ("FC-S02", vec![at(&resyncing, 1, 0)]),
        ("FC-S03", vec![a.clone(), same_slot]),
        ("FC-S04", vec![a.clone(), Found { device: DeviceIndex(1), ..a.clone() }]),
        ("FC-S05", vec![a.clone(), at(&foreign, 1, 0)]),
        ("FC-S05", vec![a.clone(), Found { fsid: Uuid([1; 16]), ..b.clone() }]),
        ("FC-S06", vec![a.clone(), faulty(CopyGroupFault::Absent)]),
        ("FC-S07", vec![a.clone(), faulty(CopyGroupFault::Format(2))]),
        ("FC-S08", vec![a.clone(), faulty(CopyGroupFault::Features(4))]),
        ("FC-S09", vec![faulty(CopyGroupFault::Policy)]),
        ("FC-S10", vec![at(&strict, 0, 0)]),
        ("FC-S11", vec![a.clone(), liar]),
        ("FC-S13", vec![]),
    ];
    for (code, found) in cases {
        let refused = plain(&found).unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        let text = refused.to_string();
        assert!(text.starts_with(&format!("{code}: ")) && text.contains("; "), "{text}");
        if found.len() > 1 {
            assert!(text.contains("device 1"), "{text}");
        }
    }
    let chosen = Options { only_copy: Some(3), ..Options::default() };
    assert_eq!(decide(&[a], &chosen).unwrap_err().code(), "FC-S12");
}

#[test]
fn every_reason_not_to_write() {
    let (a, b) = (at(&group(2), 0, 0), at(&group(2), 1, 0));
    let both = [a.clone(), b.clone()];
    let reason = |found: &[Found], options: Options| {
        let reason = decide(found, &options).unwrap().writable.unwrap_err();
        let text = reason.to_string();
        assert!(text.starts_with(reason.code()) && text.contains("; "), "{text}");
        reason.code()
    };
    let none = Options::default();
    assert_eq!(reason(&both, Options { read_only: true, ..none }), "FC-D01");
    assert_eq!(reason(&both, Options { only_copy: Some(0), ..none }), "FC-D02");
    assert_eq!(reason(&both[..1], none), "FC-D03");
    let held = with_rule(2, Runtime::Holder(1));
    assert_eq!(reason(&[at(&held, 0, 0)], none), "FC-D04");
    let fault = CopyGroupFault::Check { stored: 1, computed: 2 };
    let broken = [a.clone(), Found { group: Err(fault), ..b }];
    assert_eq!(reason(&broken, none), "FC-D07");
    assert_eq!(accepting(&broken).mint.unwrap().members, 1);
    let mut newer = group(1);
    newer.ro_compat = 2;
    assert_eq!(reason(&[at(&newer, 0, 0)], none), "FC-D08");
    let full = Options { damage_list_full: true, ..none };
    assert_eq!(reason(&both, full), "FC-D09");
    assert!(decide(&both, &Options { accept_damage: true, ..full }).unwrap().writable.is_ok());
    let texts = [
        ReadOnly::Witness { seen: EpochId([1; 16]) },
        ReadOnly::Unwitnessed { members: 2 },
        ReadOnly::TooFew { have: 1, need: 2 },
        ReadOnly::OlderRoot { slot: 1 },
    ];
    assert!(texts.iter().all(|reason| reason.to_string().starts_with(reason.code())));
}

/// Records that say anything: an answer, and never one that writes over a history.
#[test]
fn any_records_get_an_answer() {
    let mut state = 0x0bad_cafe_0bad_cafe_u64;
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % below
    };
    let mut decided = 0;
    for _ in 0..3000 {
        let mut found = Vec::new();
        for slot in 0..3_u8 {
            let mut bytes = without(&group(3), 2, 2).for_slot(slot).unwrap().store();
            for _ in 0..next(4) {
                let places = [0xc, 0xe, 0xf, 0x10, 0x50, 0x80, 0x90, 0xb0, 0xb8, 0xc8, 0xd0, 0x610];
                let at = places[usize::try_from(next(12)).unwrap()];
                bytes[at] = next(8).to_le_bytes()[0];
            }
            let crc = crate::media::check::crc32c(&bytes[..4092]);
            bytes[4092..].copy_from_slice(&crc.to_le_bytes());
            let group = CopyGroup::parse(&bytes);
            let root_behind = [None, Some(0), Some(0), Some(u64::MAX)];
            let root_behind = root_behind[usize::try_from(next(4)).unwrap()];
            let (device, fsid) = (DeviceIndex(slot), Uuid([0xcc; 16]));
            found.push(Found { device, fsid, group, tid: Tid(next(300)), root_behind });
        }
        let slot = |n: u64| (n < 4).then_some(n.to_le_bytes()[0]);
        let options = Options {
            accept_missing: next(2) == 0,
            master: slot(next(12)),
            only_copy: slot(next(40)),
            ..Options::default()
        };
        if let Ok(mut decision) = decide(&found, &options) {
            decided += 1;
            let stored = decision.group.store();
            if decision.writable.is_ok() {
                let begun = decision.begin(&stamp(77, decision.after.0 + 1));
                assert!(begun.is_ok(), "{begun:?}");
                assert_eq!(CopyGroup::parse(&decision.group.store()), Ok(decision.group));
            }
            assert_eq!(stored.len(), 4096);
        }
    }
    assert!(decided > 100, "{decided}");
}
