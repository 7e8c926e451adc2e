//! Which copies are there, and what each of them is believed.

use super::mutations::Rule;
use crate::media::copy_group::{COPIES_MAX, CopyGroup, CopyState};
use crate::media::distrust::Distrust;
use crate::units::Tid;

/// State and distrust of every copy: what reading and writing have to know (redundancy design 3.2
/// to 3.4). Sets of copies are masks with a bit for each slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CopySet {
    states: [CopyState; COPIES_MAX],
    distrust: [Distrust; COPIES_MAX],
    plain: u8,
}

impl CopySet {
    /// The copies of `group`.
    #[must_use]
    pub fn of(group: &CopyGroup) -> Self {
        Self {
            states: group.slots.each_ref().map(|slot| slot.state),
            distrust: group.slots.each_ref().map(|slot| slot.distrust),
            plain: group.plain_slot,
        }
    }

    /// The copy that blockrefs are on which name none.
    #[must_use]
    pub const fn plain(&self) -> u8 {
        self.plain
    }

    /// State of the copy in `slot`.
    #[must_use]
    pub fn state(&self, slot: u8) -> CopyState {
        self.states.get(usize::from(slot)).copied().unwrap_or_default()
    }

    /// What the copy in `slot` is not believed.
    #[must_use]
    pub fn distrust(&self, slot: u8) -> &Distrust {
        self.distrust.get(usize::from(slot)).unwrap_or(&Distrust::NONE)
    }

    /// Changes state and distrust of the copy in `slot`.
    pub fn set(&mut self, slot: u8, state: CopyState, distrust: Distrust) {
        let at = usize::from(slot);
        if let (Some(a), Some(b)) = (self.states.get_mut(at), self.distrust.get_mut(at)) {
            (*a, *b) = (state, distrust);
        }
    }

    /// The copies of `mask`, which a blockref names, that are believed what `tid` wrote, whether
    /// they are attached or not: those that the blockref is *valid* on. `tid` is the `mirror_tid`
    /// of the blockref. A slot without a copy of this group's history is believed nothing.
    #[must_use]
    pub fn valid_mask(&self, mask: u8, tid: Tid) -> u8 {
        use CopyState as S;
        let copies = self.mask(|state| !matches!(state, S::Empty | S::Retired | S::Diverged));
        if Rule::Distrust.is_off() {
            return mask & copies;
        }
        let distrust = (0_u8..).zip(&self.distrust);
        let doubted = distrust.filter(|(_, distrust)| distrust.contains(tid));
        doubted.fold(mask & copies, |valid, (at, _)| valid & !(1 << at))
    }

    /// The copies that get every new block: in sync, or being brought up to date.
    #[must_use]
    pub fn attached(&self) -> u8 {
        self.mask(|state| matches!(state, CopyState::InSync | CopyState::Resync))
    }

    /// The copies that hold everything.
    #[must_use]
    pub fn in_sync(&self) -> u8 {
        self.mask(|state| state == CopyState::InSync)
    }

    /// The copies that may answer reads of what is valid on them: those in sync, and behind them
    /// those that are attached and out of date.
    #[must_use]
    pub fn readable(&self) -> u8 {
        self.mask(|state| matches!(state, CopyState::InSync | CopyState::Resync | CopyState::Stale))
    }

    fn mask(&self, is_one: impl Fn(CopyState) -> bool) -> u8 {
        let states = (0_u8..).zip(&self.states);
        states.filter(|(_, state)| is_one(**state)).fold(0, |mask, (at, _)| mask | 1 << at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_by_address_and_transaction() {
        let mut set = CopySet::default();
        set.set(0, CopyState::InSync, Distrust::NONE);
        let mut missed = Distrust::NONE;
        missed.add(Tid(10), Tid(20));
        set.set(1, CopyState::Resync, missed);
        set.set(2, CopyState::Out, Distrust::all_until(Tid(15)));
        assert_eq!(set.valid_mask(0b111, Tid(5)), 0b011);
        assert_eq!(set.valid_mask(0b111, Tid(10)), 0b011);
        assert_eq!(set.valid_mask(0b111, Tid(11)), 0b001);
        assert_eq!(set.valid_mask(0b111, Tid(20)), 0b101);
        assert_eq!(set.valid_mask(0b010, Tid(21)), 0b010);
        assert_eq!(set.valid_mask(0b010, Tid(12)), 0);
    }

    #[test]
    fn states_say_who_reads_and_writes() {
        let mut readable = 0;
        for state in CopyState::ALL {
            let mut set = CopySet::default();
            set.set(3, state, Distrust::NONE);
            let masks = [set.readable(), set.attached(), set.in_sync()];
            let expected = match state {
                CopyState::InSync => [8, 8, 8],
                CopyState::Resync => [8, 8, 0],
                CopyState::Stale => [8, 0, 0],
                _ => [0, 0, 0],
            };
            assert_eq!(masks, expected, "{state:?}");
            readable += masks[0];
            set.set(4, CopyState::InSync, Distrust::NONE);
            assert_eq!(set.state(4), CopyState::Empty, "there is no fifth");
        }
        assert_eq!(readable, 24);
    }
}
