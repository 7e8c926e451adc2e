//! `cat`: the contents of files.

use farrier_core::fs::read::{Extent, Read};
use farrier_core::fs::{Attributes, Pfs};
use farrier_core::media::inode::ObjectKind;
use farrier_wasi::arguments::Target;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// Bytes that are read at once: a multiple of a file's block, so that no block is read twice.
const READ_LEN: usize = 1 << 20;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

pub(super) fn run(
    session: &Session,
    pfs: &Pfs,
    targets: &[Target],
    output: &mut Output,
) -> Result<(), Failure> {
    for target in targets {
        let read = session
            .find(pfs, target, true)
            .and_then(|(path, attributes)| file(session, pfs, &path, &attributes, output));
        match read {
            Err(failure) if output.is_broken() => return Err(failure),
            Err(failure) => output.fault(&failure),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn file(
    session: &Session,
    pfs: &Pfs,
    path: &[u8],
    attributes: &Attributes,
    output: &mut Output,
) -> Result<(), Failure> {
    let fail = |failure: Failure| session.failure(failure.at(path));
    match attributes.kind {
        ObjectKind::Regular | ObjectKind::Directory => {}
        // by its number a link is not followed; its target is what it contains
        ObjectKind::Symlink => {
            let target =
                session.read_link(pfs, attributes.inum).map_err(|error| fail(error.into()))?;
            return output.bytes(&target);
        }
        kind => {
            return Err(fail(Failure::new(format!("a {} has no contents", kind.name()))));
        }
    }
    let mut offset = 0;
    loop {
        let read = Read { pfs: *pfs, inum: attributes.inum, offset, len: READ_LEN, ahead: 0 };
        let extents = session.run(&read).map_err(|error| fail(error.into()))?;
        if extents.is_empty() {
            return Ok(());
        }
        for extent in extents {
            offset += extent.len() as u64;
            match extent {
                Extent::Bytes(block, range) => output.bytes(&block[range])?,
                Extent::Zeros(mut len) => {
                    while len > 0 {
                        let now = len.min(ZEROS.len());
                        output.bytes(&ZEROS[..now])?;
                        len -= now;
                    }
                }
            }
        }
    }
}
