//! The witness of a group: a small third place that holds the newest epoch (copies, witness;
//! redundancy design 3.6).
//!
//! It is told of an epoch *before* any copy has a header of it, and one that leaves a member out is
//! in no header before the witness knows it. So the witness never lags behind what was
//! acknowledged; it may be ahead, by an epoch that a crash kept from every copy. Such a one is
//! *void*, and proven to be by any of its own members that is here and does not know it, though it has
//! the commit before: had anything been acknowledged under it, that member would.
//!
//! What a witness holds is only replaced by what follows it. Two sides that both want to go on
//! without each other cannot both be told yes.

use core::fmt;

use crate::media::copy_group::{CopyGroup, Epoch, EpochId, Runtime};
use crate::media::witness::{Testimony, WITNESS_EPOCHS_MAX};
use crate::units::Tid;

/// What a witness said when it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// The newest epoch and those before it.
    epochs: [Option<Seen>; WITNESS_EPOCHS_MAX],
}

/// An epoch that a witness was told, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) id: EpochId,
    pub(super) start_tid: Tid,
    pub(super) members: u8,
}

impl Heard {
    /// What is in `testimony`.
    #[must_use]
    pub fn of(testimony: &Testimony) -> Self {
        let mut epochs = [None; WITNESS_EPOCHS_MAX];
        for (place, epoch) in epochs.iter_mut().zip(&testimony.epochs) {
            let Epoch { id, start_tid, members, .. } = *epoch;
            *place = Some(Seen { id, start_tid, members });
        }
        Self { epochs }
    }

    /// The newest epoch.
    #[must_use]
    pub fn newest(&self) -> EpochId {
        self.epochs[0].map_or(EpochId::NONE, |seen| seen.id)
    }

    /// What it means for those who are at the epoch of `book`. `is_void` says of an epoch whether a
    /// member of it proves that nothing was acknowledged under it.
    pub(super) fn word(&self, book: &CopyGroup, is_void: impl Fn(&Seen) -> bool) -> Word {
        for seen in self.epochs.iter().flatten() {
            if seen.id == book.epoch.id {
                return Word::Confirms;
            }
            if book.descends_from(seen.id) {
                return Word::Behind;
            }
            if !is_void(seen) {
                break;
            }
        }
        Word::Forbids(self.newest())
    }
}

/// What the word of a witness comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// Nobody has gone on from the epoch that is here.
    Confirms,
    /// It knows an older one only.
    Behind,
    /// Others may have gone on, to this epoch.
    Forbids(EpochId),
}

/// What the witness of a mounted group was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// The last epoch, if it is known that it has it.
    epoch: Option<EpochId>,
    /// What it may hold though nobody here knows it: the operator said to go on all the same.
    over: Option<EpochId>,
    /// A member was left out since: nothing may be acknowledged before the witness knows.
    is_owed: bool,
}

impl Told {
    /// At the opening of a volume whose witness said that; with `over` by the operator's word, whatever
    /// that was.
    #[must_use]
    pub fn opened(heard: Option<&Heard>, is_over: bool) -> Self {
        let over = heard.filter(|_| is_over).map(Heard::newest);
        Self { epoch: None, over, is_owed: false }
    }

    /// The members become others.
    pub fn note(&mut self, before: u8, after: u8) {
        self.is_owed |= before & !after != 0;
    }

    /// What the operator accepted, nobody has to be told.
    pub fn forgive(&mut self) {
        self.is_owed = false;
    }

    /// Whether nothing may be acknowledged before the witness knows the epoch of `group`. A majority
    /// or a holder is proof enough without it.
    #[must_use]
    pub fn is_owed(&self, group: &CopyGroup) -> bool {
        self.is_owed && needs_witness(group) && self.epoch != Some(group.epoch.id)
    }

    /// What the witness has to be told, if anything. `tid` is the last transaction that all members
    /// of `group` have a header of.
    #[must_use]
    pub fn telling(&self, group: &CopyGroup, tid: Tid) -> Option<Telling> {
        let is_due = group.policy.witness && self.epoch != Some(group.epoch.id);
        is_due.then(|| self.again(group, tid))
    }

    /// The same, though it may know that already.
    #[must_use]
    pub fn again(&self, group: &CopyGroup, tid: Tid) -> Telling {
        Telling { group: group.clone(), tid, over: self.over }
    }

    /// It knows that epoch.
    pub fn done(&mut self, epoch: EpochId) {
        *self = Self { epoch: Some(epoch), over: None, is_owed: false };
    }
}

/// Whether copies of `group` may be left behind only if a witness knows.
#[must_use]
pub fn needs_witness(group: &CopyGroup) -> bool {
    group.policy.witness && group.policy.runtime == Runtime::Any
}

/// What a witness is to be told.
#[derive(Clone, Debug)]
pub struct Telling {
    group: CopyGroup,
    tid: Tid,
    over: Option<EpochId>,
}

impl Telling {
    /// The group, whose record says where the witness is.
    #[must_use]
    pub const fn group(&self) -> &CopyGroup {
        &self.group
    }

    /// What the witness is to hold from now on, if it may.
    #[must_use]
    pub fn testimony(&self) -> Testimony {
        Testimony::of(&self.group)
    }

    /// Whether that may replace what the witness holds now. Nobody else may change it between this and
    /// the replacing.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, held: &Testimony) -> Result<(), WitnessFault> {
        if held.group != self.group.group || held.witness != self.group.witness.id {
            return Err(WitnessFault::Foreign);
        }
        let heard = Heard::of(held);
        let members = self.group.in_sync();
        // all of them have the commit before, and none knows another epoch than ours
        let is_void = |seen: &Seen| {
            seen.members & members != 0 && seen.start_tid.0 <= self.tid.0.saturating_add(1)
        };
        match heard.word(&self.group, is_void) {
            Word::Forbids(seen) if self.over != Some(seen) => Err(WitnessFault::Overtaken(seen)),
            _ => Ok(()),
        }
    }
}

/// Why a witness was not told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WitnessFault {
    /// It cannot be reached, or did not answer.
    Unreachable,
    /// What is there is none, or is that of another group.
    Foreign,
    /// It was told of an epoch that nobody here knows: others have gone on.
    Overtaken(EpochId),
}

impl fmt::Display for WitnessFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("cannot be reached"),
            Self::Foreign => f.write_str("is that of another volume"),
            Self::Overtaken(epoch) => {
                write!(f, "was told of epoch {epoch} by others, who have gone on")
            }
        }
    }
}
