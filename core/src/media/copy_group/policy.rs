//! The rules of a group of copies as they stand in its record, and where its witness is.

use alloc::vec::Vec;

use super::COPIES_MAX;
use crate::media::raw::RawCopyGroup;
use crate::units::Uuid;

/// Who may go on without whom while mounted, and be mounted without whom (redundancy design 3.6,
/// E5 and E6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Runtime {
    /// One good copy keeps the group up; mounting wants all members.
    #[default]
    Any,
    /// More than half of the members.
    Majority,
    /// The copy in this slot, whoever else is there.
    Holder(u8),
}

/// What a mount does if members are missing that may have gone on elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnMissing {
    /// It is read-only.
    #[default]
    ReadOnly,
    /// It fails.
    Refuse,
    /// It goes on: the operator took the risk beforehand.
    Accept,
}

/// The rules of a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Policy {
    /// Who may go on without whom.
    pub runtime: Runtime,
    /// What a mount does if members are missing.
    pub on_missing: OnMissing,
    /// Whether a witness is told of every epoch before anything is acknowledged under it. Only then
    /// is its word any proof.
    pub witness: bool,
    /// How long a mount waits for the last copy that was lost to come back, in seconds, before it
    /// gives up what was changed since the last commit.
    /// Kept, and nobody goes by it yet.
    pub wait_seconds: u16,
    /// How much a mount may give up, in seconds, to go on from an older state where no copy is here
    /// that holds everything; `None`: only the operator may.
    pub promote: Option<u32>,
}

impl Policy {
    pub(super) fn parse(raw: &RawCopyGroup) -> Option<Self> {
        let runtime = match (raw.runtime, raw.holder) {
            (0, 0) => Runtime::Any,
            (1, 0) => Runtime::Majority,
            (2, slot) if usize::from(slot) < COPIES_MAX => Runtime::Holder(slot),
            _ => return None,
        };
        let on_missing = match raw.on_missing {
            0 => OnMissing::ReadOnly,
            1 => OnMissing::Refuse,
            2 => OnMissing::Accept,
            _ => return None,
        };
        let promote = match (raw.promote, raw.promote_seconds.get()) {
            (0, 0) => None,
            (1, seconds) => Some(seconds),
            _ => return None,
        };
        let (witness, wait_seconds) = (raw.witness == 1, raw.wait_seconds.get());
        let policy = Self { runtime, on_missing, witness, wait_seconds, promote };
        (raw.witness <= 1).then_some(policy)
    }

    pub(super) fn store(&self, raw: &mut RawCopyGroup) {
        (raw.runtime, raw.holder) = match self.runtime {
            Runtime::Any => (0, 0),
            Runtime::Majority => (1, 0),
            Runtime::Holder(slot) => (2, slot),
        };
        raw.on_missing = self.on_missing as u8;
        raw.witness = u8::from(self.witness);
        raw.wait_seconds.set(self.wait_seconds);
        raw.promote = u8::from(self.promote.is_some());
        raw.promote_seconds.set(self.promote.unwrap_or(0));
    }
}

/// Where the witness of a group is: a file, so far.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct WitnessPlace {
    /// Its name: what is found at the place has the same one, or is something else.
    pub id: Uuid,
    /// What kind of place; 0 for a file.
    pub kind: u8,
    /// The end of its path, as much as fits. Only a hint.
    pub place: Vec<u8>,
}

impl WitnessPlace {
    /// A witness at that path: of what is too long, the end is kept.
    #[must_use]
    pub fn new(id: Uuid, path: &[u8]) -> Self {
        Self { id, kind: 0, place: path[path.len().saturating_sub(PLACE_MAX)..].to_vec() }
    }

    pub(super) fn parse(raw: &RawCopyGroup) -> Option<Self> {
        let (place, behind) = raw.witness_place.split_at_checked(usize::from(raw.witness_len))?;
        let is_clean = behind.iter().all(|byte| *byte == 0);
        let (id, kind) = (Uuid(raw.witness_id), raw.witness_kind);
        is_clean.then(|| Self { id, kind, place: place.to_vec() })
    }

    pub(super) fn store(&self, raw: &mut RawCopyGroup) {
        raw.witness_id = self.id.0;
        raw.witness_kind = self.kind;
        raw.witness_len = 0;
        raw.witness_place = [0; PLACE_MAX];
        for (byte, from) in raw.witness_place.iter_mut().zip(&self.place) {
            *byte = *from;
            raw.witness_len += 1;
        }
    }
}

/// Longest place of a witness, in bytes.
const PLACE_MAX: usize = 192;
