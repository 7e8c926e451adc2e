//! What a seed chooses once for a whole life: disks, and how they go wrong.

use super::bay::Silent;
use crate::ops::Random;

/// What follows from a seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) seed: u64,
    pub(super) sizes: Vec<u64>,
    /// The disk that goes wrong in silence, and how.
    pub(super) victim: Option<(u8, Silent)>,
    pub(super) steps: u64,
    /// Most operations in a step.
    pub(super) work: u64,
    pub(super) cache: usize,
    /// One disk is small, and much is written.
    pub(super) is_crowded: bool,
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
                (1, true) => 24 << 20,
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
        let victim = u8::try_from(random.below(count)).unwrap_or(0);
        let victim = random.once_in(2).then_some((victim, silent));
        let steps = 8 + random.below(24);
        let work = *random.pick(&[4, 12, 30]);
        let cache = *random.pick(&[64 << 10, 1 << 20]);
        Self { seed, sizes, victim, steps, work, cache, is_crowded }
    }
}
