//! What a check found, turned into named repairs. Floor 8.
//!
//! The checker grades; this room decides. A [`Planner`] takes the findings one by one and says of
//! each whether it will be put right; then a [`Search`] looks up the directory entries that some
//! repairs are about, and the outcome is a [`Plan`]: every repair by name, nothing done yet. The
//! driver carries a plan out ([`drive::repair`](crate::drive::repair)).
//!
//! Invariants:
//! * Nothing is planned that loses what could still be had. What takes something away, if only a
//!   name of nothing, waits for consent ([`RepairOptions`]).
//! * What was lost is never made to look whole: damage of contents is told and left.
//! * In doubt about which space is in use, nothing is planned to be written ([`Doubt`]).
//!
//! It knows nothing of how changes are made, and reads nothing itself.

mod action;
mod plan;
mod search;

pub use action::{Action, NameAt, Repair};
pub use plan::{Beyond, Doubt, Orphans, Plan, Planner, RepairOptions, Verdict};
pub use search::Search;
