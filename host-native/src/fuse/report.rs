//! Read errors, each told once.

use std::sync::Mutex;

use farrier_core::error::Error;

use crate::blocks::{Sink, lock};

/// Errors that are told apart; a disk that dies has more, and nobody reads them.
const TOLD_MAX: usize = 256;

pub(crate) struct Report {
    told: Mutex<Vec<Error>>,
    sink: Sink,
}

impl Report {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { told: Mutex::default(), sink }
    }

    /// Tells of `error`, unless it is an answer rather than a fault, or was told before.
    pub(crate) fn tell(&self, error: &Error, text: impl FnOnce() -> String) {
        if !matches!(error, Error::Damaged(_) | Error::Device(_) | Error::Limit(_)) {
            return;
        }
        let count = {
            let mut told = lock(&self.told);
            if told.len() >= TOLD_MAX || told.contains(error) {
                return;
            }
            told.push(*error);
            told.len()
        };
        (self.sink)(&text());
        if count == TOLD_MAX {
            (self.sink)("further errors are not told");
        }
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Report({} told)", lock(&self.told).len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_core::error::{Damage, DamageKind};
    use farrier_core::volume::Volume;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_fault_is_told_once_and_an_answer_never() {
        let told = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&told);
        let report = Report::new(Box::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        let damage = Error::Damaged(Damage::new(Volume::place(), DamageKind::KeyOrder));
        for error in [damage, damage, Error::NoEntry] {
            report.tell(&error, String::new);
        }
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }
}
