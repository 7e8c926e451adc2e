//! Which transactions a copy of a volume is not believed (copies, distrust).

use core::fmt;

use crate::units::Tid;

/// Most intervals that are kept for one copy.
pub const INTERVALS_MAX: usize = 8;
/// The end of an interval that has none yet: the copy is away.
pub const FOREVER: Tid = Tid(u64::MAX);

/// Transactions after `low`, up to and including `high`: `(low, high]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interval {
    /// The last transaction before them.
    pub low: Tid,
    /// The last of them; [`FOREVER`] while there is no end.
    pub high: Tid,
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:#x}, {:#x}]", self.low.0, self.high.0)
    }
}

/// A set of media transactions: what a copy holds of them is not to be believed, whatever a
/// blockref says, since it may never have arrived there.
///
/// At most eight intervals, in ascending order and apart from each other. If there would be more,
/// the two that are nearest to each other are joined with what lies between them: that costs work
/// when the copy is brought up to date, and is never wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Distrust {
    len: usize,
    intervals: [Interval; INTERVALS_MAX],
}

impl Distrust {
    /// Nothing is distrusted.
    pub const NONE: Self =
        Self { len: 0, intervals: [Interval { low: Tid(0), high: Tid(0) }; INTERVALS_MAX] };

    /// Every transaction up to `high`: of a new copy, or one that starts from nothing.
    #[must_use]
    pub fn all_until(high: Tid) -> Self {
        let mut all = Self::NONE;
        all.add(Tid(0), high);
        all
    }

    /// The set of these intervals, if they are few enough, none is empty, and they stand in
    /// ascending order and apart.
    #[must_use]
    pub fn from_intervals(intervals: &[Interval]) -> Option<Self> {
        let mut set = Self::NONE;
        set.intervals.get_mut(..intervals.len())?.copy_from_slice(intervals);
        set.len = intervals.len();
        let is_apart = intervals.windows(2).all(|pair| pair[0].high < pair[1].low);
        (is_apart && intervals.iter().all(|one| one.low < one.high)).then_some(set)
    }

    /// The intervals, in ascending order.
    #[must_use]
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals[..self.len]
    }

    /// Whether nothing is distrusted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the copy is not to be believed what `tid` wrote.
    #[must_use]
    pub fn contains(&self, tid: Tid) -> bool {
        self.intervals().iter().any(|one| one.low < tid && tid <= one.high)
    }

    /// Whether it goes on without end: the copy is away.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.intervals().last().is_some_and(|last| last.high == FOREVER)
    }

    /// Adds `(low, high]`; nothing if it is empty.
    pub fn add(&mut self, low: Tid, high: Tid) {
        if low >= high {
            return;
        }
        let mut new = Interval { low, high };
        // One more than is kept: it is joined with a neighbour below.
        let mut all = [Interval::default(); INTERVALS_MAX + 1];
        let mut len = 0;
        let mut placed = false;
        for &one in self.intervals() {
            let touches = one.low <= new.high && new.low <= one.high;
            if touches {
                new = Interval { low: one.low.min(new.low), high: one.high.max(new.high) };
                continue;
            }
            if !placed && new.high < one.low {
                all[len] = new;
                len += 1;
                placed = true;
            }
            all[len] = one;
            len += 1;
        }
        if !placed {
            all[len] = new;
            len += 1;
        }
        if len > INTERVALS_MAX {
            join_nearest(&mut all);
            len -= 1;
        }
        *self = Self::NONE;
        self.len = len;
        self.intervals[..len].copy_from_slice(&all[..len]);
    }

    /// Ends an interval without end at `high`: the copy is attached again, and sees whatever comes
    /// after that. An interval that would begin later goes.
    pub fn close(&mut self, high: Tid) {
        if !self.is_open() {
            return;
        }
        let last = self.intervals[self.len - 1];
        self.len -= 1;
        self.intervals[self.len] = Interval::default();
        self.add(last.low, high);
    }
}

impl fmt::Debug for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.intervals()).finish()
    }
}

/// Joins the two neighbours with the least between them; the last place becomes free.
fn join_nearest(all: &mut [Interval; INTERVALS_MAX + 1]) {
    let gap = |at: usize| all[at + 1].low.0.saturating_sub(all[at].high.0);
    let nearest = (0..INTERVALS_MAX).min_by_key(|&at| gap(at)).unwrap_or(0);
    all[nearest].high = all[nearest + 1].high;
    all.copy_within(nearest + 2.., nearest + 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn of(pairs: &[(u64, u64)]) -> Distrust {
        let mut set = Distrust::NONE;
        for &(low, high) in pairs {
            set.add(Tid(low), Tid(high));
        }
        set
    }

    fn pairs(set: &Distrust) -> Vec<(u64, u64)> {
        set.intervals().iter().map(|one| (one.low.0, one.high.0)).collect()
    }

    #[test]
    fn what_touches_becomes_one() {
        assert_eq!(pairs(&of(&[(5, 9), (1, 3)])), [(1, 3), (5, 9)]);
        assert_eq!(pairs(&of(&[(1, 3), (3, 5)])), [(1, 5)]);
        assert_eq!(pairs(&of(&[(1, 3), (7, 9), (2, 8)])), [(1, 9)]);
        assert_eq!(pairs(&of(&[(4, 4), (9, 2)])), []);
        let low_is_outside = of(&[(5, 9)]);
        let inside: Vec<u64> = (0..12).filter(|tid| low_is_outside.contains(Tid(*tid))).collect();
        assert_eq!(inside, [6, 7, 8, 9]);
    }

    #[test]
    fn a_copy_that_is_away_is_never_believed_until_it_returns() {
        let mut set = of(&[(2, 4)]);
        set.add(Tid(7), FOREVER);
        assert!(set.is_open() && set.contains(Tid(u64::MAX)) && set.contains(Tid(8)));
        set.close(Tid(20));
        assert_eq!(pairs(&set), [(2, 4), (7, 20)]);
        set.close(Tid(30));
        assert_eq!(pairs(&set), [(2, 4), (7, 20)], "it was closed already");
        set.add(Tid(20), FOREVER);
        set.close(Tid(5));
        assert_eq!(pairs(&set), [(2, 4)], "returned before it left: nothing of it was missed");
    }

    #[test]
    fn only_what_is_in_order_comes_from_media() {
        let one = |low, high| Interval { low: Tid(low), high: Tid(high) };
        let good = [one(1, 2), one(4, 6)];
        assert_eq!(Distrust::from_intervals(&good).map(|set| pairs(&set).len()), Some(2));
        for bad in [
            [one(4, 6), one(1, 2)],
            [one(1, 4), one(4, 6)],
            [one(1, 4), one(3, 6)],
            [one(1, 1), one(3, 6)],
        ] {
            assert_eq!(Distrust::from_intervals(&bad), None, "{bad:?}");
        }
        let many: Vec<_> = (0..9).map(|n| one(n * 10, n * 10 + 1)).collect();
        assert_eq!(Distrust::from_intervals(&many), None);
    }

    #[test]
    fn the_ninth_interval_joins_the_nearest() {
        let mut set = of(&(0..8).map(|n| (n * 100, n * 100 + 10 + n)).collect::<Vec<_>>());
        set.add(Tid(2000), Tid(2001));
        assert_eq!(set.intervals().len(), 8);
        assert_eq!(set.intervals()[6], Interval { low: Tid(600), high: Tid(717) });
    }

    /// Beside a set of numbers: whatever was added is contained, the form is kept, and as long as
    /// nothing had to be joined, nothing else is contained.
    #[test]
    fn random_sets_beside_a_model() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) % below
        };
        for _ in 0..2000 {
            let (mut set, mut model) = (Distrust::NONE, [false; 64]);
            let mut joined = false;
            for _ in 0..next(14) {
                let low = next(63);
                let high = low + next(5);
                let before = set.intervals().len();
                set.add(Tid(low), Tid(high));
                joined |= before == INTERVALS_MAX;
                (low + 1..=high).for_each(|tid| {
                    if let Some(known) = model.get_mut(usize::try_from(tid).unwrap()) {
                        *known = true;
                    }
                });
                assert_eq!(Distrust::from_intervals(set.intervals()), Some(set));
                for (tid, known) in (0..).zip(model) {
                    let contains = set.contains(Tid(tid));
                    assert!(contains || !known, "{tid} is lost of {set:?}");
                    assert!(joined || contains == known, "{tid} is too much in {set:?}");
                }
            }
        }
    }
}
