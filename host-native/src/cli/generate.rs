//! `farrier completions` and `farrier man`: what is made from the description of the arguments.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Arguments;
use super::failure::{Failure, Outcome};

/// Write completions for a shell to standard output.
///
/// For bash: farrier completions bash > ~/.local/share/bash-completion/completions/farrier
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "farrier", &mut script);
        Ok(io::stdout().lock().write_all(&script)?)
    }
}

/// Write the manual pages into a directory.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The directory; it is made if it is not there.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    pub(crate) fn run(&self) -> Outcome {
        let directory = &self.directory;
        std::fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory))
            .map_err(|error| {
                Failure::new(format!(
                    "{}: {error}; name a directory that can be written to",
                    directory.display()
                ))
            })
    }
}
