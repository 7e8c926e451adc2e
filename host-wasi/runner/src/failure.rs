//! Why a run did not come to its end: one sentence each.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use farrier_wasi::report::FrameFault;

/// Why there is no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The module cannot be compiled, or is no command.
    NotAModule(String),
    /// The module wants what no sandbox gives it.
    Import {
        /// Where from.
        module: String,
        /// What.
        name: String,
    },
    /// A file or directory outside cannot be used.
    Outside {
        /// Which.
        path: PathBuf,
        /// Why.
        text: String,
    },
    /// It needed more memory than it may have.
    Memory {
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// It used up its fuel.
    Fuel,
    /// It took longer than it may.
    Deadline(Duration),
    /// It wrote more than is kept.
    Output {
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// It broke.
    Trapped(String),
    /// It said something that is no report.
    Frames(FrameFault),
    /// It ran and failed: what it said.
    Failed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAModule(text) => {
                write!(f, "not a module that can be run ({text}); build it with `cargo xtask wasi`")
            }
            Self::Import { module, name } => write!(
                f,
                "the module imports `{name}` from `{module}`; only WASI preview 1 is given"
            ),
            Self::Outside { path, text } => write!(f, "{}: {text}", path.display()),
            Self::Memory { bytes_max } => write!(
                f,
                "the module needs more than its {bytes_max} bytes of memory; give it more with \
                 --memory"
            ),
            Self::Fuel => f.write_str("the module used up its fuel; give it more with --fuel"),
            Self::Deadline(time) => write!(
                f,
                "the module was not done after {} s; give it longer with --timeout",
                time.as_secs_f64()
            ),
            Self::Output { bytes_max } => {
                write!(f, "the module wrote more than the {bytes_max} bytes that are kept")
            }
            Self::Trapped(text) => {
                write!(f, "the module broke ({text}); please report this with the image")
            }
            Self::Frames(fault) => fault.fmt(f),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

impl From<FrameFault> for Failure {
    fn from(fault: FrameFault) -> Self {
        Self::Frames(fault)
    }
}
