//! Volumes of copies, as far as the host has a part in them: who it is, what it tells people, how
//! the copies are.
//!
//! | module | what it is for |
//! |---|---|
//! | `damage` | what no copy can give, by the names of files |
//! | `events` | what happened to copies, kept for a while |
//! | `explain` | texts of the core with paths in place of device numbers |
//! | `members` | changing the members of a group and its rules |
//! | `offline` | a volume that is opened for a change of its members |
//! | `origin` | where and when an epoch begins |
//! | `places` | where the copies are, and looking for them |
//! | `promote` | making an older state the current one |
//! | `record` | what a device says of its group |
//! | `status` | how the copies are, for `farrier copies status` |
//! | `syslog` | the system's log |
//! | `witness` | the file that is told of epochs |
//!
//! What happens to copies while they are written is in [`writing`](crate::writing).

mod damage;
mod events;
mod explain;
mod members;
mod offline;
mod origin;
mod places;
mod promote;
mod record;
mod status;
pub mod syslog;
mod witness;

pub use crate::writing::ScrubWish;
pub use damage::{DamageStatus, LostPart};
pub(crate) use events::Log;
pub use events::{Event, EventKind};
pub(crate) use explain::{may_write, notes, refused, with_paths};
pub use members::{Changed, MemberChange, MissingRule, PromoteRule, RuntimeRule, rules};
pub(crate) use members::{Driver, change, no_copies};
pub use offline::OfflineGroup;
pub(crate) use origin::origin;
pub(crate) use places::places;
pub use places::{FoundCopy, find_others};
pub use promote::{Loss, Promoting, promote_by_rule};
pub use record::record_at;
pub use status::{
    CopyStatus, EpochStatus, RulesStatus, ScrubState, ScrubStatus, State, Status, WitnessStatus,
    look,
};
pub(crate) use status::{Seen, milliseconds, of_open};
pub(crate) use witness::WitnessLine;
