//! What happened to copies, in the order in which it did: kept for a while, for whoever asks.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::control::now;

/// Events that are kept; older ones are forgotten, and their numbers show it.
const KEPT_MAX: usize = 256;

/// Something that happened to a copy, or to all of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 with each mount; where numbers are missing, events are.
    pub seq: u64,
    /// When, in microseconds since 1970.
    pub time_us: u64,
    /// What kind of thing.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The copy that it is about, if it is about one.
    pub copy: Option<u8>,
    /// What, where, and what to do.
    pub text: String,
}

/// Kinds of events. A program has to expect others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A copy failed and was left behind.
    CopyEjected,
    /// A copy was left behind because somebody said so.
    CopyDetached,
    /// A device was added as a copy.
    CopyAdded,
    /// A copy was taken away.
    CopyRemoved,
    /// A copy that was away is here again.
    CopyReturned,
    /// A device that came back may not be a copy any more, or failed at once.
    CopyRefused,
    /// A stretch of history with other members or rules began.
    EpochMinted,
    /// Filling in what copies lack began.
    ResyncStarted,
    /// It has come so far.
    ResyncProgress,
    /// A copy holds everything.
    ResyncDone,
    /// Filling in cannot go on.
    ResyncStalled,
    /// Bad blocks were written again from another copy.
    Healed,
    /// Bad blocks were written elsewhere.
    Relocated,
    /// Blocks were bad on a copy.
    Damage,
    /// Reading everything from every copy began.
    ScrubStarted,
    /// It came to its end, or was stopped.
    ScrubDone,
    /// The rules of the group changed.
    PolicyChanged,
    /// Nothing can be changed any more.
    MasterLost,
    /// Nothing can be changed before copies are back, and it is waited for them.
    Halted,
    /// They are, and everything goes on.
    Resumed,
    /// A copy with an older state was made the master by the rule of the group.
    Promoted,
    /// The witness was not told: no copy can be left behind until it is.
    WitnessLost,
    /// It was told.
    WitnessTold,
}

impl EventKind {
    /// Its name, as programs read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CopyEjected => "copy_ejected",
            Self::CopyDetached => "copy_detached",
            Self::CopyAdded => "copy_added",
            Self::CopyRemoved => "copy_removed",
            Self::CopyReturned => "copy_returned",
            Self::CopyRefused => "copy_refused",
            Self::EpochMinted => "epoch_minted",
            Self::ResyncStarted => "resync_started",
            Self::ResyncProgress => "resync_progress",
            Self::ResyncDone => "resync_done",
            Self::ResyncStalled => "resync_stalled",
            Self::Healed => "healed",
            Self::Relocated => "relocated",
            Self::Damage => "damage",
            Self::ScrubStarted => "scrub_started",
            Self::ScrubDone => "scrub_done",
            Self::PolicyChanged => "policy_changed",
            Self::MasterLost => "master_lost",
            Self::Halted => "halted",
            Self::Resumed => "resumed",
            Self::Promoted => "promoted",
            Self::WitnessLost => "witness_lost",
            Self::WitnessTold => "witness_told",
        }
    }
}

/// The last events of a mount.
#[derive(Debug, Default)]
pub(crate) struct Log {
    kept: VecDeque<Event>,
    /// How many there were.
    count: u64,
}

impl Log {
    /// Keeps an event that happens now.
    pub(crate) fn push(&mut self, kind: EventKind, copy: Option<u8>, text: String) {
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        self.count += 1;
        self.kept.push_back(Event { seq: self.count, time_us: now().0, kind, copy, text });
    }

    /// The events behind number `seq`, oldest first, as far as they are kept.
    pub(crate) fn after(&self, seq: u64) -> Vec<Event> {
        self.kept.iter().filter(|event| event.seq > seq).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_where_events_are_forgotten() {
        let mut log = Log::default();
        assert!(log.after(0).is_empty());
        for number in 0..KEPT_MAX + 3 {
            log.push(EventKind::Healed, Some(1), number.to_string());
        }
        let all = log.after(0);
        assert_eq!((all.len(), all[0].seq, all[0].text.as_str()), (KEPT_MAX, 4, "3"));
        assert_eq!(log.after(KEPT_MAX as u64 + 2).len(), 1);
        assert!(log.after(1 << 40).is_empty());
    }

    #[test]
    fn names_are_those_that_programs_read() {
        let event = |kind| serde_json::to_value(kind).unwrap();
        for kind in [EventKind::CopyEjected, EventKind::ResyncDone, EventKind::MasterLost] {
            assert_eq!(event(kind), kind.name());
        }
    }
}
