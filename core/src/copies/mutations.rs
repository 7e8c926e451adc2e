//! Rules of copies that a test can switch off, one at a time, to see that it notices.
//!
//! Without the feature `mutations`, which nothing but such a test asks for, every rule always holds
//! and nothing of this is compiled in.

/// A rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Rule {
    /// A table goes only to copies that have everything below it.
    FullTables = 1,
    /// What is filled in is of the commit that fills it in.
    Restamp = 2,
    /// What is filled in loses the addresses that do not count.
    Zeroing = 3,
    /// What a copy missed is not believed.
    Distrust = 4,
    /// An epoch lasts on all of its members before anything under it is acknowledged.
    EpochFirst = 5,
    /// A copy that is not in sync keeps its own root.
    FallbackRoot = 6,
    /// What was healed is read back.
    HealVerify = 7,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::FullTables,
        Self::Restamp,
        Self::Zeroing,
        Self::Distrust,
        Self::EpochFirst,
        Self::FallbackRoot,
        Self::HealVerify,
    ];

    /// Whether it does not hold now.
    #[cfg(feature = "mutations")]
    pub(crate) fn is_off(self) -> bool {
        switch::OFF.load(core::sync::atomic::Ordering::Relaxed) == self as u8
    }

    /// Whether it does not hold now: it does.
    #[cfg(not(feature = "mutations"))]
    pub(crate) const fn is_off(self) -> bool {
        false
    }
}

/// Only this rule does not hold from now on, in the whole process; `None` if all do.
#[cfg(feature = "mutations")]
pub fn switch_off(rule: Option<Rule>) {
    switch::OFF.store(rule.map_or(0, |rule| rule as u8), core::sync::atomic::Ordering::Relaxed);
}

#[cfg(feature = "mutations")]
mod switch {
    use core::sync::atomic::AtomicU8;

    pub(super) static OFF: AtomicU8 = AtomicU8::new(0);
}
