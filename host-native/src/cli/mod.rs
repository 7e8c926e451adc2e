//! The command line: arguments, one command per file, and how failures end.

mod cat;
mod failure;
mod info;
mod ls;
mod mount;
mod names;
mod pfs;
mod source;
mod stat;
mod times;
mod umount;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// HAMMER2 volumes on Linux: look into them, copy from them, check them, mount them.
///
/// DEVICE is an image file or a block device; several DEVICEs are the volumes of one file system,
/// in any order. DEVICE@LABEL names one of its PFSs (a snapshot is one too); without a label it is
/// DATA, else the only one that is not LOCAL.
#[derive(Debug, Parser)]
#[command(name = "farrier", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell what a file system is and where its volumes are.
    Info(info::Info),
    /// List the PFSs, snapshots among them.
    Pfs(pfs::PfsCommand),
    /// List directories.
    Ls(ls::Ls),
    /// Write the contents of files to standard output.
    Cat(cat::Cat),
    /// Tell all about files.
    Stat(stat::Stat),
    /// Mount a PFS, read-only.
    Mount(mount::Mount),
    /// Unmount what was mounted.
    Umount(umount::Umount),
}

/// Runs the command that the arguments ask for.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Info(command) => command.run(),
        Command::Pfs(command) => command.run(),
        Command::Ls(command) => command.run(),
        Command::Cat(command) => command.run(),
        Command::Stat(command) => command.run(),
        Command::Mount(command) => command.run(),
        Command::Umount(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.end(),
    }
}
