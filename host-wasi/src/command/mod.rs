//! One command a file. Each gets an opened volume and says what comes out; none knows another.

mod cat;
mod check;
mod copy_out;
mod info;
mod list;
mod pfs;
mod stat;
mod tree;

use farrier_core::fs::{Attributes, Pfs};
use farrier_core::media::inode::ObjectKind;
use farrier_wasi::arguments::{Command, Request};
use farrier_wasi::name::Name;
use farrier_wasi::report::Entry;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// Does what `request` says; the result is the exit code as far as the command decides it.
pub(crate) fn run(request: &Request, output: &mut Output) -> Result<u8, Failure> {
    let session = &Session::open(request)?;
    match &request.command {
        Command::Info => info::run(session, output)?,
        Command::Pfs => pfs::run(session, output)?,
        Command::Check => return check::run(session, output),
        Command::List { path, long, recursive } => {
            let list = list::List { path, long: *long, recursive: *recursive };
            list::run(session, &session.pfs(request)?, &list, output)?;
        }
        Command::Tree { path } => tree::run(session, &session.pfs(request)?, path, output)?,
        Command::Cat { targets } => cat::run(session, &session.pfs(request)?, targets, output)?,
        Command::Stat { targets } => stat::run(session, &session.pfs(request)?, targets, output)?,
        Command::CopyOut { path, destination } => {
            copy_out::run(session, &session.pfs(request)?, path, destination, output)?;
        }
    }
    Ok(0)
}

/// The report of one inode under the name `path`; a link that cannot be read is a fault.
fn entry(
    session: &Session,
    pfs: &Pfs,
    path: &[u8],
    attributes: &Attributes,
    output: &mut Output,
) -> Entry {
    let target =
        (attributes.kind == ObjectKind::Symlink).then(|| session.read_link(pfs, attributes.inum));
    let target = match target {
        Some(Ok(target)) => Some(Name(target)),
        Some(Err(error)) => {
            output.fault(&session.failure(Failure::from(error).at(path)));
            None
        }
        None => None,
    };
    Entry {
        path: Name::from(path),
        inum: attributes.inum.0,
        kind: attributes.kind,
        attributes: Some(attributes.into()),
        target,
    }
}
