//! What a seed chooses: disks, how they go wrong, and the steps of a life.
//!
//! Every step has random numbers of its own, so that a schedule stays what it is when other steps
//! are taken out of it.

use farrier_core::copies::{OnMissing, Policy, Runtime};

use super::bay::Silent;
use crate::ops::Random;

/// What happens in a step, behind some work on files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Nothing more.
    Rest,
    /// Some megabytes are written, on a crowded volume.
    Bulk,
    /// A disk fails, or will soon.
    Pull,
    /// Two disks forget what they are told, and say so at the same barrier.
    PullPair,
    /// Two copies lose blocks of one flush, and one of them has no room to get them back (T4).
    LosePair,
    /// Disks that failed work again.
    GiveBack,
    /// The volume is left as it is, and mounted with what is there.
    Remount,
    /// A batch of resynchronisation.
    Resync,
    /// The power goes after some writes, perhaps.
    Cut,
    /// A snapshot is made, or deleted.
    Snapshot,
    /// A bulk scan begins.
    BeginScan,
    /// It ends.
    EndScan,
    /// Two sides go on without each other.
    Split,
    /// Every set of disks is looked at: who may be written?
    Mounts,
    /// Every block is looked at.
    Look,
    /// Blocks of a copy go bad, and are healed.
    Heal,
    /// A copy is added, taken away, replaced, detached or attached.
    Members,
    /// A disk loses all that it held.
    Lose,
    /// An image of a disk is made, or put back.
    PutBack,
    /// An older copy is promoted, or one with a history of its own given up.
    Promote,
    /// All disks are lost at once, and come back without a mount.
    Blackout,
}

/// A step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// What it chooses by.
    pub seed: u64,
}

/// What follows from a seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of what no step chooses.
    pub seed: u64,
    /// Sizes of the disks.
    pub sizes: Vec<u64>,
    /// The disk that goes wrong in silence, and how.
    pub victim: Option<(u8, Silent)>,
    /// Most operations in a step.
    pub work: u64,
    /// Bytes that the mounted volume keeps in memory.
    pub cache: usize,
    /// One disk is small, and much is written.
    pub is_crowded: bool,
    /// The rules of the group.
    pub policy: Policy,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Of this seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let count = *random.pick(&[2, 2, 3, 3, 4]);
        let is_crowded = random.once_in(4);
        let sizes: Vec<u64> = (0..count)
            .map(|disk| match (disk, is_crowded) {
                (1, true) => *random.pick(&[24_u64, 40]) << 20,
                _ => *random.pick(&[64_u64, 64, 96, 1100, 3000]) << 20,
            })
            .collect();
        let some = |random: &mut Random| *random.pick(&[0, 0, 20, 100]);
        let silent = Silent {
            flips: some(&mut random),
            lost: some(&mut random),
            astray: some(&mut random),
            reads: some(&mut random),
            lies: random.once_in(4),
        };
        let disk = |random: &mut Random| u8::try_from(random.below(count)).unwrap_or(0);
        let victim = disk(&mut random);
        let victim = random.once_in(2).then_some((victim, silent));
        let work = *random.pick(&[4, 12, 30]);
        let cache = *random.pick(&[64 << 10, 1 << 20]);
        let runtime = match random.below(6) {
            0 => Runtime::Majority,
            1 => Runtime::Holder(disk(&mut random)),
            _ => Runtime::Any,
        };
        let on_missing = match random.below(8) {
            0 => OnMissing::Accept,
            1 => OnMissing::Refuse,
            _ => OnMissing::ReadOnly,
        };
        let policy = Policy { runtime, on_missing, ..Policy::default() };
        let steps = 8 + random.below(24);
        let steps = (0..steps).map(|_| Step::any(&mut random)).collect();
        Self { seed, sizes, victim, work, cache, is_crowded, policy, steps }
    }

    /// The same with other steps.
    #[must_use]
    pub fn with_steps(&self, steps: Vec<Step>) -> Self {
        Self { steps, ..self.clone() }
    }
}

impl Step {
    /// A step, to be written down in a test.
    #[must_use]
    pub const fn new(action: Action, seed: u64) -> Self {
        Self { action, seed }
    }

    fn any(random: &mut Random) -> Self {
        use Action as A;
        let action = match random.below(30) {
            0 | 1 => A::Pull,
            2 | 3 => A::GiveBack,
            4 | 5 => A::Remount,
            6..=9 => A::Resync,
            10 | 11 => A::Cut,
            12 => A::Snapshot,
            13 => A::BeginScan,
            14 => A::EndScan,
            15 => A::Split,
            16 => A::Mounts,
            17 => A::Look,
            18 => A::PullPair,
            19 => A::LosePair,
            20 => A::Heal,
            21 => A::Bulk,
            22..=24 => A::Members,
            25 => A::Lose,
            26 | 27 => A::PutBack,
            28 => A::Promote,
            29 => A::Blackout,
            _ => A::Rest,
        };
        Self { action, seed: random.next() }
    }
}
