//! Copies: the same file system on several devices, and which of them to believe. Floor 2.
//!
//! Pure rules over what stands on media ([`crate::media::copy_group`]): which blocks of which copy
//! are believed ([`CopySet`]), what the copies that were found make together ([`lineage`]), how the
//! record changes when a copy fails, comes back, is added or taken away ([`transitions`]), the epochs in
//! between ([`epoch`]), what a third place is told of them ([`witness`]), and when an older state may be gone on from
//! ([`promotion`]). This room knows no device, no clock and no randomness: what it
//! needs of them are arguments. `docs/copies.md` tells it in order.

pub mod epoch;
pub mod lineage;
pub mod mutations;
pub mod promotion;
mod set;
pub mod transitions;
pub mod witness;

pub use crate::media::copy_group::{
    Cause, CopyGroup, CopyGroupFault, CopySlot, CopyState, Epoch, EpochId, OnMissing, Policy,
    Runtime, WitnessPlace,
};
pub use crate::media::distrust::{Distrust, FOREVER, Interval};
pub use set::CopySet;
pub use transitions::{Rules, TransitionFault};

#[cfg(test)]
mod model;
