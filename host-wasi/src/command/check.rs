//! `check`: reads and verifies everything that the volume refers to.

use farrier_core::drive::{self, ready};
use farrier_core::fs::{PathOf, Pfs};
use farrier_core::scan::{Check, CheckOptions, Finding, FindingKind, Grade, Step, Summary};
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

/// Checks; the result is the exit code. Of a volume of copies each that is in sync is checked by
/// itself.
pub(super) fn run(session: &Session, output: &mut Output) -> Result<u8, Failure> {
    let copies = Check::copies(session.volume());
    let summary = if copies.is_empty() {
        check(session, None, output)?
    } else {
        let mut sum = Summary::default();
        for copy in copies {
            sum += check(session, Some(copy), output)?;
        }
        sum
    };
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

fn check(session: &Session, copy: Option<u8>, output: &mut Output) -> Result<Summary, Failure> {
    let options = CheckOptions { copy, ..CheckOptions::default() };
    let mut check = Check::new(session.volume(), options);
    let mut telling = Telling { copy, paths_left: PATHS_MAX };
    loop {
        let step = check.step();
        telling.findings(session, &mut check, output)?;
        let Step::Read(wants) = step else { break };
        // Past the cache: nothing is asked for twice.
        let read = |want| ready(drive::read_block(session.volume(), session.devices(), want));
        check.resume(wants.iter().map(read).collect());
    }
    telling.findings(session, &mut check, output)?;
    Ok(check.summary())
}

/// What findings are told with.
struct Telling {
    copy: Option<u8>,
    paths_left: u32,
}

impl Telling {
    fn findings(
        &mut self,
        session: &Session,
        check: &mut Check,
        output: &mut Output,
    ) -> Result<(), Failure> {
        for finding in check.take_findings() {
            let finding = self.report(session, check, &finding);
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

    fn report(&mut self, session: &Session, check: &Check, finding: &Finding) -> report::Finding {
        let pfs = finding.pfs.and_then(|index| usize::try_from(index).ok());
        let text = match finding.kind {
            FindingKind::Header { device, .. } | FindingKind::Truncated { device, .. } => {
                format!("{}: {finding}", Name::from(session.devices().name(device).as_bytes()))
            }
            _ => finding.to_string(),
        };
        let device = self.copy.and_then(|copy| session.volume().copies()?.device(copy));
        let text = match (self.copy, device) {
            (Some(copy), Some(device)) => {
                let name = Name::from(session.devices().name(device).as_bytes());
                format!("copy {copy} ({name}): {text}")
            }
            _ => text,
        };
        let root = pfs.and_then(|index| check.root(index));
        let path = root.zip(finding.inum).and_then(|(root, inum)| {
            self.paths_left = self.paths_left.checked_sub(1)?;
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
}
