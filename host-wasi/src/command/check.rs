//! `check`: reads and verifies everything that the volume refers to.

use farrier_core::drive::{self, ready};
use farrier_core::fs::{PathOf, Pfs};
use farrier_core::scan::{Check, CheckOptions, Finding, FindingKind, Grade, Step};
use farrier_wasi::name::Name;
use farrier_wasi::report::{self, Report};

use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// Findings that a repair can put right.
const REPAIRABLE: u8 = 1;
/// Something that was stored cannot be had.
const DAMAGE: u8 = 4;
/// Findings that a path is looked up for: each reads the directories that lead there.
const PATHS_MAX: u32 = 200;

/// Checks; the result is the exit code.
pub(super) fn run(session: &Session, output: &mut Output) -> Result<u8, Failure> {
    let mut check = Check::new(session.volume(), CheckOptions::default());
    let mut paths_left = PATHS_MAX;
    loop {
        let step = check.step();
        report_findings(session, &mut check, &mut paths_left, output)?;
        let Step::Read(wants) = step else { break };
        // Past the cache: nothing is asked for twice.
        let read = |want| ready(drive::read_block(session.volume(), session.devices(), want));
        check.resume(wants.iter().map(read).collect());
    }
    report_findings(session, &mut check, &mut paths_left, output)?;
    let summary = check.summary();
    output.report(&Report::Checked(summary), |out| {
        writeln!(
            out,
            "{} blocks with {} bytes, {} inodes, {} names; damage: {}, repairable: {}, notices: {}",
            summary.blocks,
            summary.bytes,
            summary.inodes,
            summary.names,
            summary.fatal,
            summary.repairable,
            summary.information
        )
    })?;
    Ok(match summary.worst() {
        None | Some(Grade::Information) => 0,
        Some(Grade::Repairable) => REPAIRABLE,
        Some(Grade::Fatal) => DAMAGE,
    })
}

fn report_findings(
    session: &Session,
    check: &mut Check,
    paths_left: &mut u32,
    output: &mut Output,
) -> Result<(), Failure> {
    for finding in check.take_findings() {
        let finding = report(session, check, &finding, paths_left);
        output.report(&Report::Finding(finding.clone()), |out| {
            write!(out, "{}: ", finding.grade.name())?;
            if let Some(label) = &finding.pfs {
                write!(out, "PFS {label}: ")?;
            }
            match (&finding.path, finding.inum) {
                (Some(path), Some(inum)) => write!(out, "{path} (inode {inum}): ")?,
                (None, Some(inum)) => write!(out, "inode {inum}: ")?,
                _ => {}
            }
            writeln!(out, "{}", finding.text)
        })?;
    }
    Ok(())
}

fn report(
    session: &Session,
    check: &Check,
    finding: &Finding,
    paths_left: &mut u32,
) -> report::Finding {
    let pfs = finding.pfs.and_then(|index| usize::try_from(index).ok());
    let text = match finding.kind {
        FindingKind::Header { device, .. } | FindingKind::Truncated { device, .. } => {
            format!("{}: {finding}", Name::from(session.devices().name(device).as_bytes()))
        }
        _ => finding.to_string(),
    };
    let root = pfs.and_then(|index| check.root(index));
    let path = root.zip(finding.inum).and_then(|(root, inum)| {
        *paths_left = paths_left.checked_sub(1)?;
        let pfs = Pfs::new(root);
        // a name that cannot be had is what other findings are about
        session.run(&PathOf { pfs, inum }).ok().map(Name)
    });
    report::Finding {
        grade: finding.grade(),
        code: finding.kind.code().to_owned(),
        text,
        pfs: pfs.and_then(|index| check.labels().nth(index).map(Name::from)),
        inum: finding.inum.map(|inum| inum.0),
        path,
    }
}
