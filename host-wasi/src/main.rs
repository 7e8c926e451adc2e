//! HAMMER2 inside a WASI sandbox: reads and writes volumes that lie as files under the preopened
//! directories.
//!
//! | module | what it is for |
//! |---|---|
//! | [`device`] | the files of a volume as the core's storage |
//! | [`session`] | an opened volume: cache, PFS, paths |
//! | [`edit`] | changing a PFS by paths |
//! | [`clock`] | time and randomness |
//! | [`walk`] | a tree, entry by entry, whatever the media says |
//! | [`output`], [`render`] | reports, for programs and for people |
//! | [`command`] | one command a file |
//!
//! Invariants:
//! * One thread, and no call that waits: a file answers at once, so the core's futures are ready.
//! * Files are opened for writing only by commands that write: the volumes, and what is below a
//!   `copy-out`'s destination, all of which is new. Nothing is removed or renamed.
//! * A command that changes a volume commits what it did before it ends, also if it failed half-way:
//!   what it had told or done is there, and never half a change.
//! * Whatever could not be told is on the standard error, and the exit code says that there was
//!   something: a short list must not look like a whole one.
//!
//! It also compiles for the machine itself, which is how its unit tests run. Nothing may come in
//! that WASI preview 1 does not have: threads, sockets, permissions.

#![forbid(unsafe_code)]

mod clock;
mod command;
mod device;
mod edit;
mod failure;
mod output;
mod render;
mod session;
mod walk;

use std::io::{self, Write};
use std::process::ExitCode;

use farrier_wasi::arguments::{self, Asked, Command, Request};

use crate::failure::Failure;
use crate::output::Output;

/// Something failed.
const FAILED: u8 = 1;
/// `check` could not run, as with fsck.
const NOT_CHECKED: u8 = 8;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let asked = arguments::parse(arguments, |name| {
        std::fs::metadata(name).is_ok_and(|found| !found.is_dir())
    });
    let code = match asked {
        Ok(Asked::Run(request)) => run(&request),
        Ok(Asked::Help) => say(arguments::HELP),
        Ok(Asked::Version) => say(concat!("farrier-wasi ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(sentence) => {
            complain(&sentence);
            let is_check = std::env::args_os().any(|word| word == "check");
            if is_check { NOT_CHECKED } else { FAILED }
        }
    };
    ExitCode::from(code)
}

fn say(text: &str) -> u8 {
    u8::from(io::stdout().write_all(text.as_bytes()).is_err())
}

/// There is nowhere to report a broken standard error to.
fn complain(sentence: &str) {
    let _ = writeln!(io::stderr(), "{sentence}");
}

fn run(request: &Request) -> u8 {
    let mut output = Output::new(request.format);
    let (code, failure) = match command::run(request, &mut output) {
        Ok(code) => (code, None),
        Err(failure) if request.command == Command::Check => (NOT_CHECKED, Some(failure)),
        Err(failure) => (FAILED, Some(failure)),
    };
    if let Some(failure) = failure {
        output.fault(&failure);
    }
    let code = if code == 0 && output.fault_count() > 0 { FAILED } else { code };
    match output.finish(code) {
        Ok(()) => code,
        Err(error) => {
            complain(&Failure::output(&error).to_string());
            code.max(FAILED)
        }
    }
}
