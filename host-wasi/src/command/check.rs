//! `check`: reads and verifies everything that the volume refers to.

use farrier_core::drive::{self, ready};
use farrier_core::scan::{Check, CheckOptions, Finding, Grade, Step};
use farrier_wasi::name::Name;
use farrier_wasi::report::{self, Report};

use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// Findings that a repair can put right.
const REPAIRABLE: u8 = 1;
/// Something that was stored cannot be had.
const DAMAGE: u8 = 4;

/// Checks; the result is the exit code.
pub(super) fn run(session: &Session, output: &mut Output) -> Result<u8, Failure> {
    let mut check = Check::new(session.volume(), CheckOptions::default());
    loop {
        let step = check.step();
        report_findings(&mut check, output)?;
        let Step::Read(wants) = step else { break };
        // Past the cache: nothing is asked for twice.
        let read = |want| ready(drive::read_block(session.volume(), session.devices(), want));
        check.resume(wants.iter().map(read).collect());
    }
    report_findings(&mut check, output)?;
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

fn report_findings(check: &mut Check, output: &mut Output) -> Result<(), Failure> {
    for finding in check.take_findings() {
        let finding = report(check, &finding);
        output.report(&Report::Finding(finding.clone()), |out| {
            write!(out, "{}: ", finding.grade.name())?;
            if let Some(label) = &finding.pfs {
                write!(out, "PFS {label}: ")?;
            }
            if let Some(inum) = finding.inum {
                write!(out, "inode {inum}: ")?;
            }
            writeln!(out, "{}", finding.text)
        })?;
    }
    Ok(())
}

fn report(check: &Check, finding: &Finding) -> report::Finding {
    let pfs = finding.pfs.and_then(|index| {
        let index = usize::try_from(index).ok()?;
        check.labels().nth(index).map(Name::from)
    });
    report::Finding {
        grade: finding.grade(),
        code: finding.kind.code().to_owned(),
        text: finding.to_string(),
        pfs,
        inum: finding.inum.map(|inum| inum.0),
    }
}
