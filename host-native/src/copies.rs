//! Volumes of copies, as far as the host has a part in them: who it is, what it tells people, how
//! the copies are.
//!
//! | module | what it is for |
//! |---|---|
//! | `explain` | texts of the core with paths in place of device numbers |
//! | `origin` | where and when an epoch begins |
//! | `status` | how the copies are, for `farrier copies status` |
//!
//! What happens to copies while they are written is in [`writing`](crate::writing).

mod explain;
mod origin;
mod status;

pub(crate) use explain::{may_write, notes, refused, with_paths};
pub(crate) use origin::origin;
pub use status::{CopyStatus, EpochStatus, Event, State, Status, look};
pub(crate) use status::{Seen, of_open};
