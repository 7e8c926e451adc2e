//! `farrier copies scrub`.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;
use farrier::control::{Request, ask};
use farrier::copies::{ScrubState, ScrubStatus, ScrubWish};

use super::group::{Group, How};
use super::status::{of_mount, scrub_line};
use crate::cli::failure::{Failure, Outcome};

/// How often a mount is asked.
const PAUSE: Duration = Duration::from_millis(200);

/// Read everything from every copy, and write again what is bad on one from another.
///
/// Of a mounted volume it goes on beside everything else, and `farrier copies status` tells how far it
/// is; it ends with the mount. Of one that is not mounted, the command does it and returns at the end.
/// Copies that are behind are not read, and neither are the freemaps.
///
/// Exit code, where it is waited for: 0 everything could be read, or was written again; 3 blocks are
/// bad and could not be written again; 1 it did not come to its end.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(super) struct ScrubCommand {
    /// Directory of a mounted volume, or all the devices of one that is not mounted.
    #[arg(required = true, value_name = "DIR-or-DEVICE")]
    targets: Vec<OsString>,

    /// Return when it is at its end.
    #[arg(short, long)]
    wait: bool,

    /// Let the one that goes on rest.
    #[arg(long, conflicts_with_all = ["resume", "stop", "wait"])]
    pause: bool,

    /// Go on with the one that rests.
    #[arg(long, conflicts_with = "stop")]
    resume: bool,

    /// End the one that goes on.
    #[arg(long, conflicts_with = "wait")]
    stop: bool,

    /// Read so many MiB in a second at most, from all copies together; 0 for as many as can be. Also
    /// of one that goes on already.
    #[arg(long, value_name = "MIB_PER_S")]
    rate: Option<u64>,

    #[command(flatten)]
    how: How,
}

impl ScrubCommand {
    pub(super) fn run(&self) -> Outcome {
        let rate = match self.rate.map(|rate| rate.checked_mul(1 << 20)) {
            Some(None) => return Err(Failure::new("--rate: too large; leave it out for no limit")),
            rate => rate.flatten(),
        };
        let group = Group::parse(&self.targets)?;
        match &group {
            Group::Mounted(directory) => self.beside(&group, directory, rate),
            Group::Devices(_) => self.offline(&group, rate.unwrap_or(0)),
        }
    }

    fn beside(&self, group: &Group, directory: &Path, rate: Option<u64>) -> Outcome {
        let wish = match (self.pause, self.resume, self.stop) {
            (true, ..) => ScrubWish::Pause,
            (_, true, _) => ScrubWish::Resume,
            (.., true) => ScrubWish::Stop,
            _ => ScrubWish::Start,
        };
        // who waits for one that goes on need not begin it
        let goes_on =
            |status: &ScrubStatus| matches!(status.state, ScrubState::Running | ScrubState::Paused);
        let is_there =
            || Ok::<_, Failure>(of_mount(directory)?.scrub.is_some_and(|one| goes_on(&one)));
        if !(wish == ScrubWish::Start && self.wait && rate.is_none() && is_there()?) {
            match ask(directory, &Request::CopiesScrub { wish, rate }).map_err(Failure::new)? {
                farrier::control::Reply::Done => {}
                other => return Err(group.not_done(other)),
            }
        }
        if self.wait {
            return self.wait(directory);
        }
        let status = of_mount(directory)?.scrub;
        self.tell(status.as_ref())
    }

    fn wait(&self, directory: &Path) -> Outcome {
        let shows = io::stderr().is_terminal();
        loop {
            let Some(status) = of_mount(directory)?.scrub else {
                return Err(Failure::new(format!("{}: there is no scrub", directory.display())));
            };
            match status.state {
                ScrubState::Running | ScrubState::Paused => {}
                _ => return self.end(&status),
            }
            if shows {
                eprint!("\r{} ", scrub_line(&status));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn offline(&self, group: &Group, rate: u64) -> Outcome {
        if self.pause || self.resume || self.stop {
            return Err(Failure::new(format!(
                "{}: is no directory of a mount; only the scrub of a mounted volume can be paused \
                 or stopped by another command",
                group.name()
            )));
        }
        let opened = group.open(self.how)?;
        let shows = io::stderr().is_terminal();
        let last = RefCell::new(std::time::Instant::now());
        let tell = |status: &ScrubStatus| {
            if shows && last.borrow().elapsed() >= PAUSE {
                last.replace(std::time::Instant::now());
                eprint!("\r{} ", scrub_line(status));
            }
        };
        let status = opened.scrub(rate, tell).map_err(Failure::new)?;
        opened.close().map_err(Failure::new)?;
        self.end(&status)
    }

    fn end(&self, status: &ScrubStatus) -> Outcome {
        self.tell(Some(status))?;
        match status.state {
            ScrubState::Done if status.unreadable + status.failed == 0 => Ok(()),
            ScrubState::Done => Err(Failure::told().with_code(3)),
            _ => Err(Failure::told()),
        }
    }

    fn tell(&self, status: Option<&ScrubStatus>) -> Outcome {
        let mut out = io::stdout().lock();
        match status {
            Some(status) if self.how.json() => {
                serde_json::to_writer_pretty(&mut out, status)?;
                writeln!(out)?;
            }
            Some(status) => writeln!(out, "scrub:  {}", scrub_line(status))?,
            None => {}
        }
        if let Some(status) = status.filter(|status| status.unreadable > 0 && !self.how.json()) {
            writeln!(
                out,
                "next:   `farrier copies status` names the files that {} blocks belong to; restore \
                 those from a backup or delete them, and scrub again",
                status.unreadable
            )?;
        }
        out.flush()?;
        Ok(())
    }
}
