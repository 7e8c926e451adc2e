//! `farrier copies resync`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use farrier::control::{Reply, Request, ask};
use farrier::copies::{State, Status};
use farrier::fuse::unmount::is_directory;

use super::status::of_mount;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::info::bytes;

/// How often a mount is asked.
const PAUSE: Duration = Duration::from_millis(200);

/// Go on with bringing copies up to date, where that could not go on; or wait for it.
///
/// A mount does it by itself; this is for after it stopped, such as for want of space. With --wait
/// the exit code is that of `farrier copies status` in the end.
#[derive(Debug, Args)]
pub(crate) struct ResyncCommand {
    /// Directory of a mounted volume.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Return when no copy is behind, or it does not go on.
    #[arg(short, long)]
    wait: bool,
}

impl ResyncCommand {
    pub(crate) fn run(&self) -> Outcome {
        let name = self.directory.display();
        if !is_directory(&self.directory) {
            return Err(Failure::new(format!(
                "{name}: no directory of a mount; mount the volume with all its devices, which \
                 brings copies up to date"
            )));
        }
        match ask(&self.directory, &Request::CopiesResync).map_err(Failure::new)? {
            Reply::Done => {}
            Reply::Failed { text } => return Err(Failure::new(format!("{name}: {text}"))),
            _ => return Err(Failure::new(format!("{name}: an answer to another question"))),
        }
        if self.wait { self.wait() } else { Ok(()) }
    }

    fn wait(&self) -> Outcome {
        let shows = std::io::stderr().is_terminal();
        loop {
            let status = of_mount(&self.directory)?;
            let goes_on = status.copies.iter().any(|copy| copy.resynced_bytes.is_some());
            if status.state != State::Resync && !goes_on {
                println!("{}: {}", status.state.name(), status.status);
                return match status.exit_code {
                    0 => Ok(()),
                    code => Err(Failure::told().with_code(code)),
                };
            }
            if shows {
                eprint!("\r{} filled in ", bytes(filled(&status)));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn filled(status: &Status) -> u64 {
    status.copies.iter().filter_map(|copy| copy.resynced_bytes).max().unwrap_or(0)
}
