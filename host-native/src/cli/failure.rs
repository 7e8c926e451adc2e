//! How a command fails: one sentence on standard error, and an exit code.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

/// Result of a command.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Nothing where everything was told already.
    text: Option<String>,
    code: u8,
}

impl Failure {
    /// Something went wrong: exit code 1.
    pub(crate) fn new(text: impl Display) -> Self {
        Self { text: Some(text.to_string()), code: 1 }
    }

    /// What went wrong was told where it happened.
    pub(crate) const fn told() -> Self {
        Self { text: None, code: 1 }
    }

    /// The same with another exit code; nobody reading standard output stays no failure.
    pub(crate) fn with_code(self, code: u8) -> Self {
        let code = if self.code == 0 { 0 } else { code };
        Self { code, ..self }
    }

    pub(crate) fn end(self) -> ExitCode {
        if let Some(text) = self.text {
            tell(&text);
        }
        ExitCode::from(self.code)
    }
}

/// A sentence on standard error.
pub(crate) fn tell(text: &str) {
    eprintln!("farrier: {text}");
}

impl From<farrier::image::OpenError> for Failure {
    fn from(error: farrier::image::OpenError) -> Self {
        Self::new(error)
    }
}

/// Writing to standard output failed. Where nobody reads it any more, that is how it should end.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self { text: None, code: 0 }
        } else {
            Self::new(format!("standard output: {error}; is the disk full?"))
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}
