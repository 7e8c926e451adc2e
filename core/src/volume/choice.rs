//! Which copy is asked first (copies 3.4, R1).
//!
//! Where all is well, copies take turns by stretches of 1 MiB: what lies together is read from one
//! device, so that a long read goes on where it was and a small file stays with its neighbours. A copy
//! that takes much longer than another one, or had errors of late, is asked last. So that it can
//! recover, it is asked first once in a while all the same, less and less often if that was in vain.
//!
//! It knows no clock: how long a read took, the host says. Without that, all copies are alike.

use core::sync::atomic::{AtomicU32, Ordering};

/// What reading from a copy was like.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// What a read took on average, in microseconds; 0 if nobody said.
    took_us: AtomicU32,
    /// What errors of late weigh.
    errors: AtomicU32,
    /// Reads for which another copy was asked first since it was tried.
    passed: AtomicU32,
    /// After how many it is tried, as a power of two.
    patience: AtomicU32,
}

impl Standing {
    /// A read took so long. Better times count at once: they are few.
    pub(super) fn note_time(&self, us: u32) {
        let before = self.took_us.load(Ordering::Relaxed);
        let now = match before {
            0 => us,
            before if us < before => before - (before - us).div_ceil(2),
            before => before + (us - before) / 8,
        };
        if us < before / 2 {
            self.patience.store(PATIENCE_MIN, Ordering::Relaxed);
        }
        self.took_us.store(now.max(1), Ordering::Relaxed);
    }

    /// A read failed, or gave something else.
    pub(super) fn note_error(&self) {
        let weight = self.errors.load(Ordering::Relaxed) + ERROR_WEIGHT;
        self.errors.store(weight.min(ERRORS_MAX), Ordering::Relaxed);
    }

    /// A read was as it had to be.
    pub(super) fn note_good(&self) {
        let weight = self.errors.load(Ordering::Relaxed);
        if weight > 0 {
            self.errors.store(weight - 1, Ordering::Relaxed);
            self.patience.store(PATIENCE_MIN, Ordering::Relaxed);
        }
    }

    /// What a read took on average, in microseconds; 0 if nobody said.
    pub(super) fn took_us(&self) -> u32 {
        self.took_us.load(Ordering::Relaxed)
    }

    /// Whether it is asked last, if another copy takes `least_us` and that is the least.
    pub(super) fn is_shunned(&self, least_us: u32) -> bool {
        let limit = least_us.saturating_mul(SLOW_TIMES).max(least_us.saturating_add(SLOW_US));
        self.errors.load(Ordering::Relaxed) >= ERRORS_MANY || least_us > 0 && self.took_us() > limit
    }

    /// Another copy is asked first; whether it is time to try this one instead.
    pub(super) fn pass(&self) -> bool {
        let patience = self.patience.load(Ordering::Relaxed).clamp(PATIENCE_MIN, PATIENCE_MAX);
        let is_due = self.passed.fetch_add(1, Ordering::Relaxed) + 1 >= 1 << patience;
        if is_due {
            self.passed.store(0, Ordering::Relaxed);
            self.patience.store((patience + 1).min(PATIENCE_MAX), Ordering::Relaxed);
        }
        is_due
    }

    /// It is another device now.
    pub(super) fn forget(&self) {
        for one in [&self.took_us, &self.errors, &self.passed, &self.patience] {
            one.store(0, Ordering::Relaxed);
        }
    }
}

/// A copy is slow that takes so many times as long as the fastest,
const SLOW_TIMES: u32 = 4;
/// and so much longer: less is not worth it.
const SLOW_US: u32 = 2000;
/// What an error weighs, in reads that went well.
const ERROR_WEIGHT: u32 = 4;
/// A copy is shunned from two errors on,
const ERRORS_MANY: u32 = 2 * ERROR_WEIGHT;
/// and may have to make up for so many.
const ERRORS_MAX: u32 = 16 * ERROR_WEIGHT;
/// How many reads pass it by before it is tried, at first and at most, as powers of two.
const PATIENCE_MIN: u32 = 5;
const PATIENCE_MAX: u32 = 12;

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn only_what_is_much_slower_is_shunned() {
        let fast = Standing::default();
        (0..20).for_each(|_| fast.note_time(500));
        assert_eq!(fast.took_us(), 500);
        let slow = Standing::default();
        assert!(!slow.is_shunned(0) && !slow.is_shunned(500), "nothing is known of it");
        (0..20).for_each(|_| slow.note_time(2400));
        assert!(!slow.is_shunned(500), "nobody notices that");
        (0..30).for_each(|_| slow.note_time(12_000));
        assert!(slow.is_shunned(500) && !slow.is_shunned(4000) && !slow.is_shunned(0));
        // one that was slow once is forgiven soon
        (0..6).for_each(|_| slow.note_time(600));
        assert!(!slow.is_shunned(500), "{}", slow.took_us());
        slow.note_time(u32::MAX);
        assert!(slow.is_shunned(500));
    }

    #[test]
    fn one_error_is_none_and_many_are_made_up_for() {
        let copy = Standing::default();
        copy.note_error();
        assert!(!copy.is_shunned(0));
        (0..100).for_each(|_| copy.note_error());
        (0..ERRORS_MAX - ERRORS_MANY).for_each(|_| copy.note_good());
        assert!(copy.is_shunned(0));
        copy.note_good();
        assert!(!copy.is_shunned(0));
        (0..100).for_each(|_| copy.note_good());
        copy.note_error();
        assert!(!copy.is_shunned(0));
    }

    #[test]
    fn it_is_tried_less_and_less_often_until_that_helps() {
        let copy = Standing::default();
        let until_tried = || (1..).find(|_| copy.pass()).unwrap();
        let waits: Vec<u32> = (0..9).map(|_| until_tried()).collect();
        assert_eq!(waits, [32, 64, 128, 256, 512, 1024, 2048, 4096, 4096]);
        copy.note_time(1000);
        copy.note_time(1000);
        assert_eq!(until_tried(), 4096);
        copy.note_time(400);
        assert_eq!(until_tried(), 32, "it is better than it was");
    }
}
