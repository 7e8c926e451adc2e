//! `tree`: everything below a directory, drawn. For programs it is the list that `ls -R` gives.

use farrier_core::fs::Pfs;
use farrier_wasi::name::Name;
use farrier_wasi::report::{Entry, Report};

use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Session, absolute};
use crate::walk::{Step, Walk};

pub(super) fn run(
    session: &Session,
    pfs: &Pfs,
    path: &[u8],
    output: &mut Output,
) -> Result<(), Failure> {
    let root = absolute(path);
    let found = session.resolve(pfs, path, true)?;
    if output.is_text() {
        output.bytes(format!("{}\n", Name::from(&root[..])).as_bytes())?;
    }
    // which of the directories above have more to come, and so a line through this one
    let mut lines: Vec<bool> = Vec::new();
    for step in Walk::new(session, pfs, root, found.inum).recursive(true) {
        match step {
            Step::Fault(fault) => output.fault(&fault),
            Step::Leave => {}
            Step::Entry { path, entry, depth, is_last } => {
                lines.truncate(depth);
                let name = Name(entry.name);
                let report = Report::Entry(Entry {
                    path: Name(path),
                    inum: entry.inum.0,
                    kind: entry.kind,
                    attributes: None,
                    target: None,
                });
                output.report(&report, |out| {
                    for goes_on in &lines {
                        out.write_all(if *goes_on { "│   " } else { "    " }.as_bytes())?;
                    }
                    writeln!(out, "{} {name}", if is_last { "└──" } else { "├──" })
                })?;
                lines.push(!is_last);
            }
        }
    }
    Ok(())
}
