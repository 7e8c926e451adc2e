//! What a person or an embedder is told when something cannot be done: one sentence.

use std::fmt;
use std::io;

use farrier_core::error::Error;
use farrier_wasi::name::Name;

/// A sentence, and what it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// The file outside, or nothing where the run itself is at fault.
    file: Option<String>,
    /// The path inside the volume.
    path: Option<Name>,
    text: String,
}

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { file: None, path: None, text: text.into() }
    }

    /// A file outside that could not be used.
    pub(crate) fn file(name: &str, error: &io::Error) -> Self {
        let text = match error.kind() {
            io::ErrorKind::NotFound => "no such file; has the sandbox been given its directory?",
            io::ErrorKind::AlreadyExists => "is there already, and nothing is overwritten",
            _ if is_outside(error) => {
                "lies outside the directories that the sandbox was given, or may only be read there"
            }
            io::ErrorKind::PermissionDenied => "permission denied",
            _ => return Self::new(error.to_string()).in_file(name),
        };
        Self::new(text).in_file(name)
    }

    /// The standard output broke.
    pub(crate) fn output(error: &io::Error) -> Self {
        Self::new(error.to_string()).in_file("standard output")
    }

    pub(crate) fn in_file(mut self, name: &str) -> Self {
        self.file = Some(name.to_owned());
        self
    }

    pub(crate) fn at(mut self, path: &[u8]) -> Self {
        self.path = Some(Name::from(path));
        self
    }

    /// The path inside the volume that it is about.
    pub(crate) const fn path(&self) -> Option<&Name> {
        self.path.as_ref()
    }

    /// The sentence without what it is about.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(match error {
            Error::NoSpace => {
                format!("{error}; remove something, or see whether `bulkfree` frees some")
            }
            error => error.to_string(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", Name::from(file.as_bytes()))?;
        }
        if let Some(path) = &self.path {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.text)
    }
}

/// Whether WASI says that no preopened directory leads there. `std` has no kind for it.
fn is_outside(error: &io::Error) -> bool {
    const NOT_CAPABLE: i32 = 76;
    const NOT_PERMITTED: i32 = 63;
    cfg!(target_os = "wasi") && matches!(error.raw_os_error(), Some(NOT_CAPABLE | NOT_PERMITTED))
}
