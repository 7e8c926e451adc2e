//! Why a step of the bench did not work: one sentence.

use std::fmt::{self, Display};

/// A sentence for a person.
#[derive(Clone, Debug)]
pub struct Failure(String);

/// What a step comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure that says `sentence`.
    #[must_use]
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Says what was being done when the system refused.
pub trait During<T> {
    /// `what` is what was being done.
    ///
    /// # Errors
    /// The same, as a sentence.
    fn during(self, what: impl Display) -> Outcome<T>;
}

impl<T, E: Display> During<T> for Result<T, E> {
    fn during(self, what: impl Display) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}
