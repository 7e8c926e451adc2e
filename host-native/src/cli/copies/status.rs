//! `farrier copies status`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use farrier::control::{Reply, Request, ask};
use farrier::copies::{CopyStatus, Status, look};
use farrier::source::Source;
use farrier_core::copies::{CopyState, lineage};
use farrier_core::text;
use farrier_core::units::WallTime;

use crate::cli::failure::{Failure, Outcome};
use crate::cli::info::bytes;

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
        [directory] if directory.is_dir() => of_mount(directory),
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
    writeln!(out, "state:  {}{}", status.state.name(), map(&status.copies))?;
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
            "{:<4} {:<9} {:>6} {:>6} {:>6} {:>6} DEVICE",
            "COPY", "STATE", "READ", "WRITE", "CHECK", "HEALED"
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
        write!(out, "{check_errors:>6} {healed:>6} {device}")?;
        if let Some(fault) = &copy.fault {
            write!(out, ": {fault}")?;
        }
        if let Some(filled) = copy.resynced_bytes {
            write!(out, ": {} filled in", bytes(filled))?;
        }
        writeln!(out)?;
    }
    for event in status.events.iter().rev().take(EVENTS_MAX).rev() {
        writeln!(out, "{}  {}", text::time(WallTime(event.time_us)), event.text)?;
    }
    Ok(())
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
