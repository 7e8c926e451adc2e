//! `farrier copies`: what people ask of a volume of copies. A file for each command.

mod resync;
mod status;

use clap::{Args, Subcommand};

use super::failure::Outcome;

/// Volumes of copies: the same file system on up to four devices.
///
/// `farrier format --copy A --copy B` makes one; `farrier mount A B DIR` mounts it. A copy that fails
/// is left behind while the others go on; the next mount with all devices brings it up to date.
#[derive(Debug, Args)]
pub(crate) struct CopiesCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Status(status::StatusCommand),
    Resync(resync::ResyncCommand),
}

impl CopiesCommand {
    pub(crate) fn run(&self) -> Outcome {
        match &self.action {
            Action::Status(command) => command.run(),
            Action::Resync(command) => command.run(),
        }
    }
}
