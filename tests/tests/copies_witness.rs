//! A witness: what it is told and when, what a mount makes of its word, and a power cut at every
//! write while a copy is left behind.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use farrier_core::copies::lineage::{Options, ReadOnly};
use farrier_core::copies::witness::{Heard, Telling, WitnessFault};
use farrier_core::copies::{CopyGroup, CopyState, WitnessPlace};
use farrier_core::drive::copies::MemberError;
use farrier_core::drive::ready;
use farrier_core::error::Error;
use farrier_core::media::witness::Testimony;
use farrier_core::units::Uuid;
use farrier_core::volume::OpenOptions;
use farrier_tests::mounted::{Mounted, each_holds, format_copies};
use farrier_tests::ops::Random;
use farrier_tests::rack::{Mode, Rack};

const SIZE: u64 = 64 << 20;

/// A third place in memory.
#[derive(Clone, Debug, Default)]
struct Place {
    holds: Rc<RefCell<Vec<u8>>>,
    is_away: Rc<Cell<bool>>,
    told: Rc<Cell<u64>>,
}

impl Place {
    fn holds(&self) -> Testimony {
        Testimony::parse(&self.holds.borrow()).unwrap()
    }

    fn put(&self, testimony: &Testimony) {
        *self.holds.borrow_mut() = testimony.store().to_vec();
    }

    fn tell(&self, telling: &Telling) -> Result<(), WitnessFault> {
        if self.is_away.get() {
            return Err(WitnessFault::Unreachable);
        }
        telling.judge(&self.holds())?;
        self.put(&telling.testimony());
        self.told.set(self.told.get() + 1);
        Ok(())
    }

    /// What is there now, for a world that goes on by itself.
    fn fork(&self) -> Self {
        let place = Self::default();
        place.holds.borrow_mut().clone_from(&self.holds.borrow());
        place
    }

    fn options(&self) -> OpenOptions {
        let witness = (!self.is_away.get()).then(|| Heard::of(&self.holds()));
        let copies = Options { witness, ..Options::default() };
        OpenOptions { copies, ..OpenOptions::default() }
    }

    fn serve(&self, mounted: &Mounted) {
        let place = self.clone();
        mounted.host.set_tell(Box::new(move |telling| place.tell(telling)));
    }
}

fn group(mounted: &Mounted) -> CopyGroup {
    mounted.host.with_flusher(|flusher| flusher.unwrap().lineage().unwrap().group().clone())
}

/// Sets up a witness in `place` as a host does it.
fn set_up(mounted: &Mounted, place: &Place) -> Result<(), MemberError> {
    let witness = WitnessPlace::new(Uuid([0x77; 16]), b"/elsewhere");
    let group = group(mounted);
    place.put(&Testimony { witness: witness.id, ..Testimony::of(&group) });
    ready(mounted.host.set_witness(Some(witness)))
}

fn witnessed(count: usize) -> (Rack, Mounted, Place, Random) {
    let rack = Rack::new(&vec![SIZE; count]);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let place = Place::default();
    place.serve(&mounted);
    set_up(&mounted, &place).unwrap();
    let mut random = Random::new(7);
    mounted.work(&mut random, 40).unwrap();
    (rack, mounted, place, random)
}

/// Whether disks with what is in `place` may be written, and by which rule not.
fn judged(rack: &Rack, disks: &[u8], place: &Place) -> Result<(), ReadOnly> {
    let shown = rack.fork().show(disks);
    let volume = ready(farrier_core::drive::open(&shown, place.options())).unwrap();
    volume.group().unwrap().decision().writable
}

#[test]
fn two_copies_and_a_witness_outlive_either_copy() {
    let (rack, mut mounted, place, mut random) = witnessed(2);
    assert_eq!(place.holds().epochs[0], group(&mounted).epoch);
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 40).unwrap();
    let epoch = group(&mounted).epoch;
    assert_eq!((place.holds().epochs[0], epoch.members), (epoch, 1));
    let committed = mounted.committed.settled();
    drop(mounted);
    // the machine starts with the survivor, or with the other one
    assert_eq!(judged(&rack, &[0], &place), Ok(()));
    let seen = epoch.id;
    assert_eq!(judged(&rack, &[1], &place), Err(ReadOnly::Witness { seen }));
    place.is_away.set(true);
    assert_eq!(judged(&rack, &[0], &place), Ok(()));
    assert_eq!(judged(&rack, &[1], &place), Err(ReadOnly::Missing { members: 1 }));
    place.is_away.set(false);
    // and if one dies while the machine is off, the other one goes on as well
    let survivor = rack.fork();
    let mut both = Mounted::open_with(&survivor, Some(committed), 1000, place.options());
    place.serve(&both);
    both.work(&mut random, 5).unwrap();
    while ready(both.host.resync(1 << 30)).unwrap().behind != 0 {}
    let committed = both.committed.settled();
    drop(both);
    let place_before = place.fork();
    for disk in [0, 1] {
        let (rack, place) = (survivor.fork().show(&[disk]), place_before.fork());
        let mut alone = Mounted::open_with(&rack, Some(committed.clone()), 2000, place.options());
        place.serve(&alone);
        alone.work(&mut random, 10).unwrap();
        assert_eq!(place.holds().epochs[0].members, 1 << disk);
        drop(alone);
        assert!(judged(&survivor, &[1 - disk], &place).is_err(), "not both");
    }
}

#[test]
fn a_copy_is_left_behind_only_if_the_witness_knows() {
    let (rack, mut mounted, place, mut random) = witnessed(2);
    place.is_away.set(true);
    mounted.work(&mut random, 10).unwrap();
    let (told, before) = (place.told.get(), group(&mounted).epoch);
    // what adds nobody and takes nobody away waits for nobody
    let rules = farrier_core::copies::Rules { wait_seconds: 0, ..group(&mounted).rules() };
    let rules = farrier_core::copies::Rules { promote: Some(60), ..rules };
    ready(mounted.host.set_rules(rules)).unwrap();
    assert_ne!(group(&mounted).epoch.id, before.id);
    assert_eq!(place.told.get(), told);
    // nobody is detached or taken away whom it would not hear of
    let refused = Err(MemberError::Witness(WitnessFault::Unreachable));
    assert_eq!(ready(mounted.host.detach_copy(1)), refused);
    assert_eq!(ready(mounted.host.remove_copy(1)), refused);
    mounted.work(&mut random, 10).unwrap();
    rack.set(1, Mode::Gone);
    let committed = mounted.committed.settled();
    assert_eq!(mounted.host.flush_always(true), Err(Error::Unwitnessed));
    drop(mounted);
    rack.set(1, Mode::Fine);
    each_holds(&rack, &[0, 1], &committed).unwrap();
    // nothing of it is on media, and nothing has to be decided
    assert_eq!(judged(&rack, &[0, 1], &place), Ok(()));
    place.is_away.set(false);
    assert_eq!(judged(&rack, &[0, 1], &place), Ok(()));
    let mounted = Mounted::open_with(&rack, Some(committed), 3000, place.options());
    place.serve(&mounted);
    mounted.host.flush_always(true).unwrap();
    assert_eq!(place.holds().epochs[0], group(&mounted).epoch, "told when it is back");
    assert_eq!(ready(mounted.host.detach_copy(1)), Ok(()));
    assert_eq!(place.holds().epochs[0].members, 1);
}

#[test]
fn a_witness_that_others_told_something_else_stops_whoever_would_go_on_alone() {
    let (rack, mut mounted, place, mut random) = witnessed(2);
    let mut other = place.holds();
    let epoch = farrier_core::copies::Epoch {
        id: farrier_core::copies::EpochId([0x99; 16]),
        parent: other.epochs[0].id,
        seq: other.epochs[0].seq + 1,
        members: 2,
        start_tid: farrier_core::units::Tid(1 << 40),
        ..other.epochs[0]
    };
    other.epochs.insert(0, epoch);
    place.put(&other);
    mounted.work(&mut random, 10).unwrap();
    rack.set(1, Mode::Gone);
    assert_eq!(mounted.host.flush_always(true), Err(Error::Unwitnessed));
    assert_eq!(place.holds().epochs[0], epoch);
}

#[test]
fn a_group_gets_a_witness_another_one_and_none() {
    let (rack, mut mounted, place, mut random) = witnessed(2);
    assert!(group(&mounted).policy.witness);
    let epoch = group(&mounted).epoch.seq;
    let next = Place::default();
    next.serve(&mounted);
    next.is_away.set(true);
    let failed = set_up(&mounted, &next);
    assert_eq!(failed, Err(MemberError::Witness(WitnessFault::Unreachable)));
    assert_eq!(group(&mounted).epoch.seq, epoch, "the old one stays");
    next.is_away.set(false);
    set_up(&mounted, &next).unwrap();
    assert_eq!(group(&mounted).epoch.seq, epoch + 2);
    mounted.work(&mut random, 10).unwrap();
    drop(mounted);
    assert_eq!(judged(&rack, &[0], &next), Ok(()));
    let seen = next.holds().epochs[0].id;
    assert_eq!(judged(&rack, &[0], &place), Err(ReadOnly::Missing { members: 2 }), "{seen}");
    let mounted = Mounted::open_with(&rack, None, 9000, next.options());
    next.serve(&mounted);
    ready(mounted.host.set_witness(None)).unwrap();
    let record = group(&mounted);
    assert_eq!((record.policy.witness, record.ro_compat), (false, 0));
    drop(mounted);
    assert_eq!(judged(&rack, &[0], &next), Err(ReadOnly::Missing { members: 2 }));
}

/// The power goes at every write and barrier while a copy is left behind. Afterwards no acknowledged
/// write is missing from what may be written without a question, and never both copies go on alone.
#[test]
fn a_crash_at_every_write_while_a_copy_is_left_behind() {
    let (rack, mut mounted, place, mut random) = witnessed(2);
    mounted.work(&mut random, 10).unwrap();
    let (committed, time) = (mounted.committed.settled(), mounted.time);
    drop(mounted);
    let (mut ended, mut told, mut vetoed) = (false, 0, 0);
    for count in 0.. {
        let (rack, place) = (rack.fork(), place.fork());
        let mut mounted = Mounted::open_with(&rack, Some(committed.clone()), time, place.options());
        place.serve(&mounted);
        rack.set(1, Mode::Gone);
        rack.cut_after(Some(count));
        let mut random = Random::new(count);
        let worked = mounted.work(&mut random, 10);
        let is_new = group_of(&mounted).is_some_and(|group| group.epoch.members == 1);
        let acknowledged = mounted.committed.settled();
        drop(mounted);
        let rack = rack.fork();
        told += u64::from(place.holds().epochs[0].members == 1);
        let alone = [judged(&rack, &[0], &place), judged(&rack, &[1], &place)];
        assert_eq!(alone[0], Ok(()), "cut after {count}: the survivor goes on");
        if worked.is_ok() && is_new {
            each_holds(&rack, &[0], &acknowledged).unwrap();
            assert!(alone[1].is_err(), "cut after {count}: the other one lacks what was done");
            ended = true;
        }
        vetoed += u64::from(matches!(alone[1], Err(ReadOnly::Witness { .. })));
        // with both, it is one file system
        let mut both = Mounted::open_with(&rack, None, 50_000, place.options());
        place.serve(&both);
        both.host.flush_always(true).unwrap();
        assert_eq!(both.host.with_flusher(states)[0], CopyState::InSync);
        both.time += 1;
        drop(both);
        if ended {
            break;
        }
    }
    assert!(told > 1 && vetoed > 1, "{told} {vetoed}");
}

fn group_of(mounted: &Mounted) -> Option<CopyGroup> {
    mounted.host.with_flusher(|flusher| Some(flusher?.lineage()?.group().clone()))
}

fn states(flusher: Option<&farrier_core::drive::commit::Flusher>) -> Vec<CopyState> {
    let group = flusher.unwrap().lineage().unwrap().group();
    group.slots.iter().map(|slot| slot.state).collect()
}
