//! `bulkfree`: frees what nothing refers to.

use farrier_core::error::Error;
use farrier_wasi::report::{Freed, Report};

use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

pub(super) fn run(session: &Session, output: &mut Output) -> Result<(), Failure> {
    let freed = session.bulkfree().map_err(|error| {
        session.failure(match error {
            Error::Damaged(damage) => Failure::new(format!(
                "nothing was freed, for not everything can be read: {damage}; `check` tells what \
                 else is damaged"
            )),
            error => error.into(),
        })
    })?;
    let freed =
        Freed { bytes: freed.bytes, corrupt_bytes: freed.corrupt_bytes, blocks: freed.blocks };
    output.report(&Report::Freed(freed), |out| {
        writeln!(out, "{} bytes freed; {} blocks are in use", freed.bytes, freed.blocks)?;
        match freed.corrupt_bytes {
            0 => Ok(()),
            bytes => writeln!(out, "{bytes} bytes in use were free by the freemap; mended"),
        }
    })
}
