//! The command line: arguments, one command per file, and how failures end.

mod bulkfree;
mod cat;
mod check;
mod copies;
mod copy_in;
mod copy_out;
mod df;
mod events;
mod failure;
mod format;
mod freemap;
mod generate;
mod grow;
mod info;
mod ls;
mod mount;
mod names;
mod new_file;
mod pfs;
mod progress;
mod repair;
mod set;
mod show;
mod snapshot;
mod source;
mod stat;
mod target;
mod tree;
mod umount;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// HAMMER2 volumes on Linux: make them, look into them, copy from them, check them, mount them.
///
/// DEVICE is an image file or a block device; several DEVICEs are the volumes of one file system, or
/// its copies, in any order. DEVICE@LABEL names one of its PFSs (a snapshot is one too); without a label it is
/// DATA, else the only one that is not LOCAL.
#[derive(Debug, Parser)]
#[command(name = "farrier", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Format(format::Format),
    Info(info::Info),
    Pfs(pfs::PfsCommand),
    Ls(ls::Ls),
    Tree(tree::TreeCommand),
    Cat(cat::Cat),
    Stat(stat::Stat),
    CopyOut(copy_out::CopyOut),
    CopyIn(copy_in::CopyIn),
    Check(check::CheckCommand),
    Copies(copies::CopiesCommand),
    Events(events::Events),
    Repair(repair::RepairCommand),
    Show(show::Show),
    Freemap(freemap::Freemap),
    Mount(mount::Mount),
    Umount(umount::Umount),
    Snapshot(snapshot::Snapshot),
    Set(set::Set),
    Df(df::Df),
    Bulkfree(bulkfree::Bulkfree),
    Grow(grow::Grow),
    Completions(generate::Completions),
    Man(generate::Man),
}

/// Runs the command that the arguments ask for.
pub(crate) fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return end_usage(&error),
    };
    let done = match arguments.command {
        Command::Format(command) => command.run(),
        Command::Info(command) => command.run(),
        Command::Pfs(command) => command.run(),
        Command::Ls(command) => command.run(),
        Command::Tree(command) => command.run(),
        Command::Cat(command) => command.run(),
        Command::Stat(command) => command.run(),
        Command::CopyOut(command) => command.run(),
        Command::CopyIn(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Copies(command) => command.run(),
        Command::Events(command) => command.run(),
        Command::Repair(command) => command.run(),
        Command::Show(command) => command.run(),
        Command::Freemap(command) => command.run(),
        Command::Mount(command) => command.run(),
        Command::Umount(command) => command.run(),
        Command::Snapshot(command) => command.run(),
        Command::Set(command) => command.run(),
        Command::Df(command) => command.run(),
        Command::Bulkfree(command) => command.run(),
        Command::Grow(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.end(),
    }
}

/// Help and version are no failure. Wrong arguments of `check` and `repair` have the exit code that
/// fsck gives them, for 2 means something else there.
fn end_usage(error: &clap::Error) -> ExitCode {
    // where nobody reads it, nothing can be told
    let _ = error.print();
    let command = std::env::args_os().nth(1).unwrap_or_default();
    let is_check = command == "check" || command == "repair";
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_check => ExitCode::from(16),
        _ => ExitCode::from(2),
    }
}
