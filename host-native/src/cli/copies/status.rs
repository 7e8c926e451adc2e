//! `farrier copies status`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use farrier::control::{Reply, Request, ask};
use farrier::copies::{CopyStatus, ScrubState, ScrubStatus, Status, look};
use farrier::fuse::unmount::is_directory;
use farrier::source::Source;
use farrier_core::copies::{CopyState, lineage};
use farrier_core::text;
use farrier_core::units::WallTime;

use crate::cli::failure::{Failure, Outcome};
use crate::cli::info::rounded;
use crate::cli::names::escaped;

/// Events that are told; --json has more.
const EVENTS_MAX: usize = 5;

/// Tell how the copies of a volume are: whether they are safe, and what to do.
///
/// Of a mounted volume by its directory, of any other by its devices; then it tells what a mount
/// would find.
///
/// Exit code: 0 healthy, 1 it cannot be told, 2 degraded or being brought up to date, and serving;
/// 3 damage was met; 4 halted: nothing can be changed; 5 split, or copies that do not belong
/// together; 6 the operator has to decide (--accept-missing) before it can be written; 7 made by a
/// newer program.
#[derive(Debug, Args)]
pub(crate) struct StatusCommand {
    /// Directory of a mounted volume, or all the devices of one that is not mounted.
    #[arg(required = true, value_name = "DIR-or-DEVICE")]
    targets: Vec<OsString>,

    /// Say nothing where every copy is healthy.
    #[arg(short = 'x', long)]
    only_trouble: bool,

    /// Write one JSON document.
    #[arg(long)]
    json: bool,
}

impl StatusCommand {
    pub(crate) fn run(&self) -> Outcome {
        let status = status(&self.targets)?;
        if !self.only_trouble || status.exit_code != 0 {
            let mut out = io::stdout().lock();
            if self.json {
                serde_json::to_writer_pretty(&mut out, &status)?;
                writeln!(out)?;
            } else {
                write_status(&mut out, &status)?;
            }
            out.flush()?;
        }
        match status.exit_code {
            0 => Ok(()),
            code => Err(Failure::told().with_code(code)),
        }
    }
}

/// How the copies of a mount, or on these devices, are.
pub(super) fn status(targets: &[OsString]) -> Result<Status, Failure> {
    let paths: Vec<_> = targets.iter().map(Path::new).collect();
    match paths[..] {
        [directory] if is_directory(directory) => of_mount(directory),
        _ => {
            let source = Source::parse(targets).map_err(Failure::new)?;
            look(&source.devices, lineage::Options::default()).map_err(Failure::new)
        }
    }
}

/// How the copies of the mount at `directory` are.
pub(super) fn of_mount(directory: &Path) -> Result<Status, Failure> {
    let name = directory.display();
    match ask(directory, &Request::CopiesStatus).map_err(Failure::new)? {
        Reply::Copies { status } => Ok(*status),
        Reply::Failed { text } => Err(Failure::new(format!("{name}: {text}"))),
        _ => Err(Failure::new(format!("{name}: an answer to another question"))),
    }
}

fn write_status(out: &mut impl Write, status: &Status) -> io::Result<()> {
    write_state(out, status)?;
    match &status.code {
        Some(code) if !status.status.starts_with(code) => {
            writeln!(out, "status: {code}: {}", status.status)?;
        }
        _ => writeln!(out, "status: {}", status.status)?,
    }
    if let Some(action) = &status.action {
        writeln!(out, "action: {action}")?;
    }
    if let (Some(group), Some(epoch)) = (&status.group, &status.epoch) {
        let since = text::time(WallTime(epoch.since_us));
        writeln!(out, "group:  {group}")?;
        writeln!(out, "epoch:  {}, number {}, since {since}", epoch.id, epoch.seq)?;
    }
    if !status.copies.is_empty() {
        writeln!(
            out,
            "{:<4} {:<9} {:>6} {:>6} {:>6} {:>6} {:>6} DEVICE",
            "COPY", "STATE", "READ", "WRITE", "CHECK", "HEALED", "MOVED"
        )?;
    }
    for copy in &status.copies {
        let state = copy.state.name();
        let otherwise = match copy.state {
            CopyState::Diverged => "left alone",
            _ => "not here",
        };
        let device = copy.device.as_deref().unwrap_or(otherwise);
        let CopyStatus { slot, read_errors, write_errors, check_errors, healed, .. } = copy;
        write!(out, "{slot:<4} {state:<9} {read_errors:>6} {write_errors:>6} ")?;
        let relocated = copy.relocated;
        write!(out, "{check_errors:>6} {healed:>6} {relocated:>6} {device}")?;
        if let Some(fault) = &copy.fault {
            write!(out, ": {fault}")?;
        }
        writeln!(out)?;
    }
    for damage in &status.damage {
        writeln!(out, "damage: {}", escaped(damage.text.as_bytes()))?;
    }
    if status.has_more_damage {
        writeln!(out, "damage: and more, which there was no room to name")?;
    }
    for copy in &status.copies {
        if let Some(filled) = copy.resynced_bytes {
            let (expected, ms) = (copy.resync_expected_bytes, copy.resync_ms.unwrap_or(0));
            writeln!(out, "resync: copy {}: {}", copy.slot, progress(filled, expected, ms))?;
        }
    }
    if let Some(witness) = &status.witness {
        match witness.is_reached {
            true => writeln!(out, "third:  witness {}: {}", witness.place, witness.text)?,
            false => writeln!(out, "third:  {}", witness.text)?,
        }
    }
    if let Some(scrub) = &status.scrub {
        writeln!(out, "scrub:  {}", scrub_line(scrub))?;
    }
    for event in status.events.iter().rev().take(EVENTS_MAX).rev() {
        writeln!(out, "{}  {}", text::time(WallTime(event.time_us)), event.text)?;
    }
    Ok(())
}

/// The line that says whether everything is safe.
pub(super) fn write_state(out: &mut impl Write, status: &Status) -> io::Result<()> {
    writeln!(out, "state:  {}{}", status.state.name(), map(&status.copies))
}

/// `about 37.2 % of 81.5 GiB, 210 MiB/s, 0:04:12 left`; without a known end, what is done so far.
fn progress(done: u64, expected: Option<u64>, ms: u64) -> String {
    let rate = u128::from(done) * 1000 / u128::from(ms.max(1));
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    let per_second = format!("{}/s", rounded(rate));
    match expected.filter(|expected| *expected > 0) {
        Some(expected) => {
            let expected = expected.max(done);
            let tenths = u128::from(done) * 1000 / u128::from(expected);
            let left = match rate {
                0 => String::new(),
                _ => format!(", {} left", clock((expected - done) / rate)),
            };
            let percent = format!("{}.{} %", tenths / 10, tenths % 10);
            format!("about {percent} of {}, {per_second}{left}", rounded(expected))
        }
        None => format!("{} filled in, {per_second}", rounded(done)),
    }
}

/// How far a scrub is, and what it found.
pub(super) fn scrub_line(scrub: &ScrubStatus) -> String {
    let ScrubStatus { state, bytes: done, expected_bytes, ms, bad, healed, .. } = *scrub;
    let failed = scrub.failed + scrub.unreadable;
    let how = match state {
        ScrubState::Running => progress(done, Some(expected_bytes), ms),
        ScrubState::Paused => {
            format!("paused; {}", progress(done, Some(expected_bytes), ms))
        }
        ScrubState::Done => format!("done; {} read in {}", rounded(done), clock(ms / 1000)),
        ScrubState::Stopped => format!("stopped after {}", rounded(done)),
        ScrubState::Failed => format!("ended with the volume after {}", rounded(done)),
    };
    match bad {
        0 => format!("{how}; no bad block"),
        _ => format!("{how}; {bad} bad blocks, {healed} written again, {failed} not"),
    }
}

/// `0:04:12`.
fn clock(seconds: u64) -> String {
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// ` [2/1] [I_]`: how many there are, how many hold everything, and which.
fn map(copies: &[CopyStatus]) -> String {
    if copies.is_empty() {
        return String::new();
    }
    let mark = |copy: &CopyStatus| match copy.state {
        CopyState::InSync => 'I',
        CopyState::Resync => 'R',
        CopyState::Stale => 'S',
        _ => '_',
    };
    let marks: String = copies.iter().map(mark).collect();
    let whole = marks.chars().filter(|mark| *mark == 'I').count();
    format!(" [{}/{whole}] [{marks}]", copies.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_what_is_known() {
        let gib = 1 << 30;
        assert_eq!(
            progress(gib / 4, Some(gib), 1000),
            "about 25.0 % of 1.0 GiB, 256.0 MiB/s, 0:00:03 left"
        );
        assert_eq!(progress(0, Some(gib), 0), "about 0.0 % of 1.0 GiB, 0 bytes/s");
        assert_eq!(progress(gib, None, 2000), "1.0 GiB filled in, 512.0 MiB/s");
        assert_eq!(
            progress(2 * gib, Some(gib), 1000),
            "about 100.0 % of 2.0 GiB, 2.0 GiB/s, 0:00:00 left"
        );
        assert_eq!(clock(3723), "1:02:03");
    }
}
