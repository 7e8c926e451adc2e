//! `stat`: everything about files.

use farrier_core::fs::Pfs;
use farrier_wasi::arguments::Target;
use farrier_wasi::report::Report;

use super::entry;
use crate::failure::Failure;
use crate::output::Output;
use crate::render;
use crate::session::Session;

pub(super) fn run(
    session: &Session,
    pfs: &Pfs,
    targets: &[Target],
    output: &mut Output,
) -> Result<(), Failure> {
    for target in targets {
        match session.find(pfs, target, false) {
            Err(failure) => output.fault(&failure),
            Ok((path, attributes)) => {
                let entry = entry(session, pfs, &path, &attributes, output);
                output.report(&Report::Entry(entry.clone()), |out| render::stat(out, &entry))?;
            }
        }
    }
    Ok(())
}
