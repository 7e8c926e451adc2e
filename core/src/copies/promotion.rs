//! Whether an older state may become the current one without anybody being asked (copies, promotion
//! by rule; redundancy design 3.7).
//!
//! Only for a copy that knows itself that it is out of date, and of which it is known how much is given
//! up: the time from its last whole root to the newest commit that it heard of. A copy that was cut
//! off does not know what it lacks, and is never promoted like that.

use core::fmt;

use super::witness::Heard;
use crate::media::copy_group::{CopyGroup, CopyState};
use crate::units::WallTime;

/// What a promotion by rule gives up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GivenUp {
    /// The copy that becomes the master.
    pub slot: u8,
    /// When the last commit was made that it has whole.
    pub root_time: WallTime,
    /// When the newest one was made that it knows of.
    pub known_time: WallTime,
}

impl GivenUp {
    /// How much, in microseconds.
    #[must_use]
    pub const fn microseconds(&self) -> u64 {
        self.known_time.0.saturating_sub(self.root_time.0)
    }
}

/// Why a copy does not become the master by rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotByRule {
    /// The rule of the group is that only the operator may.
    Never,
    /// The copy does not know how much it lacks.
    CutOff,
    /// Nobody knows when its root was written, or a clock was put back.
    Time,
    /// More would be lost than the rule allows.
    TooMuch {
        /// How much, in seconds.
        seconds: u64,
        /// What the rule allows.
        most: u32,
    },
    /// The group wants more copies than one.
    TooFew,
    /// The witness was not asked, or knows of more.
    Witness,
}

impl fmt::Display for NotByRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("the rule of the group is to ask"),
            Self::CutOff => f.write_str("it was cut off, and does not know how much it lacks"),
            Self::Time => f.write_str("nobody knows when its state was the current one"),
            Self::TooMuch { seconds, most } => {
                write!(f, "{seconds} s would be lost, and the rule of the group allows {most} s")
            }
            Self::TooFew => f.write_str("the group wants more than one copy"),
            Self::Witness => f.write_str("the witness cannot be asked, or knows of newer ones"),
        }
    }
}

/// Whether the copy whose own newest record `own` is may become the master by the rule of its group,
/// where none is here that holds everything. `heard` is what the witness said, if it could be asked.
///
/// # Errors
/// Why it may not.
pub fn by_rule(own: &CopyGroup, heard: Option<&Heard>) -> Result<GivenUp, NotByRule> {
    let most = own.policy.promote.ok_or(NotByRule::Never)?;
    let slot = own.self_slot;
    let copy = own.slot(slot).ok_or(NotByRule::CutOff)?;
    if !matches!(copy.state, CopyState::Resync | CopyState::Stale) {
        return Err(NotByRule::CutOff);
    }
    if own.min_copies > 1 {
        return Err(NotByRule::TooFew);
    }
    if own.policy.witness && heard.is_none_or(|heard| !own.descends_from(heard.newest())) {
        return Err(NotByRule::Witness);
    }
    let times = own.slots.iter().map(|copy| copy.root_time);
    let known_time = times.fold(own.commit_time.max(own.epoch.time), Ord::max);
    let given_up = GivenUp { slot, root_time: copy.root_time, known_time };
    if copy.root_time == WallTime(0) || own.commit_time < copy.root_time {
        return Err(NotByRule::Time);
    }
    let most_microseconds = u64::from(most) * 1_000_000;
    if given_up.microseconds() > most_microseconds {
        let seconds = given_up.microseconds().div_ceil(1_000_000);
        return Err(NotByRule::TooMuch { seconds, most });
    }
    Ok(given_up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::copy_group::{Cause, CopySlot, Epoch, EpochId, WitnessPlace};
    use crate::media::witness::Testimony;
    use crate::units::{Tid, Uuid};

    const SECOND: u64 = 1_000_000;

    /// The record on copy 1, which is being filled in: its root is of second 1000, the newest commit
    /// of second 1060.
    fn behind() -> CopyGroup {
        let epoch = Epoch {
            id: EpochId([1; 16]),
            parent: EpochId::NONE,
            seq: 1,
            start_tid: Tid(1),
            members: 1,
            cause: Cause::Created,
            host: Uuid([0; 16]),
            time: WallTime(900 * SECOND),
        };
        let mut group = CopyGroup::new(Uuid([5; 16]), Uuid([6; 16]), epoch);
        group.slots[0].root_time = WallTime(1055 * SECOND);
        let (state, root_time) = (CopyState::Resync, WallTime(1000 * SECOND));
        group.slots[1] = CopySlot { device: Uuid([7; 16]), state, root_time, ..CopySlot::EMPTY };
        group.commit_time = WallTime(1060 * SECOND);
        group.policy.promote = Some(60);
        group.for_slot(1).unwrap()
    }

    #[test]
    fn only_what_is_known_to_be_little_is_given_up() {
        let (root_time, known_time) = (WallTime(1000 * SECOND), WallTime(1060 * SECOND));
        assert_eq!(by_rule(&behind(), None), Ok(GivenUp { slot: 1, root_time, known_time }));
        let with = |change: fn(&mut CopyGroup)| {
            let mut group = behind();
            change(&mut group);
            by_rule(&group, None).map(|given_up| given_up.microseconds())
        };
        assert_eq!(with(|group| group.slots[1].state = CopyState::Stale), Ok(60 * SECOND));
        assert_eq!(with(|group| group.policy.promote = None), Err(NotByRule::Never));
        let too_much = NotByRule::TooMuch { seconds: 60, most: 59 };
        assert_eq!(with(|group| group.policy.promote = Some(59)), Err(too_much));
        let too_much = NotByRule::TooMuch { seconds: 61, most: 60 };
        assert_eq!(with(|group| group.commit_time.0 += 1), Err(too_much));
        assert_eq!(with(|group| group.slots[0].root_time.0 += 6 * SECOND), Err(too_much));
        assert_eq!(with(|group| group.slots[1].root_time = WallTime(0)), Err(NotByRule::Time));
        assert_eq!(with(|group| group.commit_time = WallTime(0)), Err(NotByRule::Time));
        assert_eq!(with(|group| group.min_copies = 2), Err(NotByRule::TooFew));
        // a member does not know what others did without it, and one that failed too often waits
        for state in [CopyState::InSync, CopyState::Out, CopyState::Faulted, CopyState::New] {
            let mut group = behind();
            group.slots[1].state = state;
            assert_eq!(by_rule(&group, None), Err(NotByRule::CutOff));
        }
    }

    #[test]
    fn a_witness_has_to_agree() {
        let mut group = behind();
        group.set_witness(Some(WitnessPlace::new(Uuid([9; 16]), b"/w")));
        let told = Heard::of(&Testimony::of(&group));
        assert_eq!(by_rule(&group, None), Err(NotByRule::Witness));
        assert!(by_rule(&group, Some(&told)).is_ok());
        group.epoch.id = EpochId([2; 16]);
        assert_eq!(by_rule(&group, Some(&told)), Err(NotByRule::Witness));
    }
}
