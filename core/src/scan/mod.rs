//! Long work as cursor machines: the checker, and the scan for what is in use. Floor 7.
//!
//! A machine is stepped by its host: each [`Step`] either asks for blocks or says that the work is
//! done. It keeps its place in itself, does a bounded amount of work per step and a bounded amount
//! of memory altogether.
//!
//! This room reads; what it finds is for people, and later for repair, to act on.

pub mod bulkfree;
pub mod check;
pub mod finding;
mod freemap;
mod names;
mod space;
mod sums;
mod visit;

pub use bulkfree::Bulkfree;
pub use check::{Check, CheckOptions, Progress, Stage, Step, Summary};
pub use finding::{Finding, FindingKind, Grade};
