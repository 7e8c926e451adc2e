//! `farrier copies`: what people ask of a volume of copies. A file for each command.

mod group;
mod members;
mod promote;
mod resync;
mod scrub;
mod status;

use clap::{Args, Subcommand};

use super::failure::Outcome;

/// Volumes of copies: the same file system on up to four devices.
///
/// `farrier format --copy A --copy B` makes one; `farrier mount A B DIR` mounts it. A copy that fails
/// is left behind while the others go on; when it comes back, it is brought up to date.
/// `farrier events` tells what happened. Most commands work on a mounted volume, named by its
/// directory, and on one that is not, named by all its devices.
#[derive(Debug, Args)]
pub(crate) struct CopiesCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Status(status::StatusCommand),
    Add(members::Add),
    Remove(members::Remove),
    Replace(members::Replace),
    Detach(members::Detach),
    Attach(members::Attach),
    Resync(resync::ResyncCommand),
    Scrub(scrub::ScrubCommand),
    Promote(promote::PromoteCommand),
    Rejoin(members::Rejoin),
    #[command(name = "handover")]
    HandOver(members::HandOver),
    Policy(members::PolicyCommand),
    Clear(members::Clear),
    Strip(members::Strip),
}

impl CopiesCommand {
    pub(crate) fn run(&self) -> Outcome {
        match &self.action {
            Action::Status(command) => command.run(),
            Action::Add(command) => command.run(),
            Action::Remove(command) => command.run(),
            Action::Replace(command) => command.run(),
            Action::Detach(command) => command.run(),
            Action::Attach(command) => command.run(),
            Action::Resync(command) => command.run(),
            Action::Scrub(command) => command.run(),
            Action::Promote(command) => command.run(),
            Action::Rejoin(command) => command.run(),
            Action::HandOver(command) => command.run(),
            Action::Policy(command) => command.run(),
            Action::Clear(command) => command.run(),
            Action::Strip(command) => command.run(),
        }
    }
}
