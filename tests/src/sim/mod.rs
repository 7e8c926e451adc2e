//! The simulator of copies: one seed is one life of a group of copies over the real core, with disks
//! that fail in every way, compared with models that know everything.
//!
//! What is checked, by the names of the design:
//!
//! | | where |
//! |---|---|
//! | I1 acknowledged durability, I2 prefix | `Life::adopt`: after every mount what is visible is one of the states that may be there |
//! | I3 Merkle, I4 identity, I9 freemap superset | [`media::merkle_and_identity`] |
//! | I5 no read of what was not verified | `Life::check_memory`: after every step all files are read and compared, also while a disk flips bits, gives back what it held before, or something from elsewhere |
//! | I6 resync bound, I7 monotone | `Life::resync`: the copy that is filled is not read; what is lacking is read once, and no more is written than that, the tables and what stands beside the tree; the copy lacks less after it |
//! | I8 convergence | `Life::finish` |
//! | I10 fallback root | [`media::fallback_roots`], and each is a state that once was a flush; so is what is promoted |
//! | I11 epochs | `Life::epoch_on_all`: what is acknowledged has its epoch on every copy in sync |
//! | I12 split | `Life::split`: two sides that went on are never merged |
//! | I13 no stale mount | `Life::stale_mounts`: every set of disks that may be written unasked has all that was acknowledged, unless the operator let others go on |
//! | I14 sharing | not here: what is filled in by several batches may be copied once for each; `copies_found` |
//! | I15 bounded memory | `Life::check_memory`, in part: nothing waits to be written between operations, however long a copy is away. The limits themselves are constants of the core |
//! | I16 progress | an operation that fails, though the group may go on, ends the life; `Life::halted`: it may not. How long a disk may hang is the host's business (`stall` there) |
//! | I17 heal neutrality | `Life::heal`: epoch, flush, transaction and root stay; what was not taken is not said to be healed |
//! | I18 stock media | `Life::convert`: a group that has no copies any more is clean by the check of volumes without, and the same files; and back. That other programs refuse copies: `golden` and the conformance stage |
//! | I19 slot reuse | `members`: a new copy gets the slot of one that was taken away, on an empty disk or on one with all that the old copy left; I3 holds |
//! | I20 status truth | [`media::merkle_and_identity`]: a copy that is said to be in sync lacks nothing |
//! | resuming | `Life::blackout`: where all disks were lost in a commit and are back, everything goes on, and what was changed and not committed is there |
//! | I21 generation | not here: two writers at once are kept apart by locks of the host, and by the message layer; the core only counts who attached |
//!
//! Groups have every rule of who may go on (any, majority, holder) and of missing members. Disks fail
//! loudly and come back, lose all that they held, or are put back to an image of before; copies are
//! added, taken away, replaced, detached, attached, promoted and given up. There are no witnesses here
//! (`copies_witness`, and the model in `copies::model` of the core).
//!
//! The budget of silent faults: they are on one disk, and beside it there always is another copy in
//! sync that works. What nobody could tell is not asked for: a disk that was put back by a single flush
//! is like one that a crash caught, and by itself an old image is what it says.

mod bay;
mod group;
mod life;
pub mod media;
mod plan;
mod shrink;

pub use bay::{Bay, Silent};
pub use life::Life;
pub use plan::{Action, Plan, Step};
pub use shrink::{outcome, shrink};

use std::collections::BTreeMap;

use crate::model::Model;

/// What PFSs hold, by label.
pub type Trees = BTreeMap<Vec<u8>, Model>;

/// What runs came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ran {
    /// Operations on files.
    pub operations: u64,
    /// Commits that were acknowledged.
    pub commits: u64,
    /// Mounts.
    pub mounts: u64,
    /// Times that the power went.
    pub cuts: u64,
    /// Disks that were pulled, or went wrong loudly.
    pub pulled: u64,
    /// Writes and reads that went wrong in silence.
    pub harm: u64,
    /// Batches of resynchronisation.
    pub batches: u64,
    /// Copies that came in sync.
    pub joined: u64,
    /// Bulk scans that came to their end.
    pub scans: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Operations without room.
    pub full: u64,
    /// Mounts without members, by the operator's word.
    pub accepted: u64,
    /// Splits that were met.
    pub splits: u64,
    /// Looks at all of the media.
    pub looks: u64,
    /// Groups that had to stop, by their own rule.
    pub halts: u64,
    /// Groups that went on after all disks had been lost.
    pub resumed: u64,
    /// Blocks that were healed.
    pub healed: u64,
    /// Copies that came and went.
    pub members: u64,
    /// Disks that lost what they held, or were put back to what they held before.
    pub losses: u64,
    /// Promotions.
    pub promoted: u64,
    /// Groups that became volumes without copies.
    pub converted: u64,
}

impl Ran {
    /// Both together.
    pub const fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.commits += other.commits;
        self.mounts += other.mounts;
        self.cuts += other.cuts;
        self.pulled += other.pulled;
        self.harm += other.harm;
        self.batches += other.batches;
        self.joined += other.joined;
        self.scans += other.scans;
        self.snapshots += other.snapshots;
        self.full += other.full;
        self.accepted += other.accepted;
        self.splits += other.splits;
        self.looks += other.looks;
        self.halts += other.halts;
        self.resumed += other.resumed;
        self.healed += other.healed;
        self.members += other.members;
        self.losses += other.losses;
        self.promoted += other.promoted;
        self.converted += other.converted;
    }
}

/// Lives the life of `plan`.
///
/// # Errors
/// What went wrong.
pub fn run_plan(plan: &Plan, show: bool) -> Result<Ran, String> {
    let mut life = Life::new(plan.clone(), show);
    life.live().map_err(|error| format!("{error:.600}\n(at step {})", life.step()))
}
