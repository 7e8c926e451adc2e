//! One command a file. Each gets an opened volume and says what comes out; none knows another.

mod bulkfree;
mod cat;
mod check;
mod copy_in;
mod copy_out;
mod format;
mod info;
mod list;
mod names;
mod pfs;
mod script;
mod stat;
mod tree;

use farrier_core::drive::pfs::PfsChange;
use farrier_core::fs::{Attributes, Pfs};
use farrier_core::media::inode::ObjectKind;
use farrier_wasi::arguments::{Command, Request};
use farrier_wasi::name::Name;
use farrier_wasi::report::Entry;

use crate::clock::birth;
use crate::edit::Edit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// Does what `request` says; the result is the exit code as far as the command decides it.
pub(crate) fn run(request: &Request, output: &mut Output) -> Result<u8, Failure> {
    if let Command::Format(wanted) = &request.command {
        return format::run(request, wanted, output).map(|()| 0);
    }
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
        _ => change(session, request, output)?,
    }
    Ok(0)
}

/// The commands that change the volume; they leave nothing uncommitted.
fn change(session: &Session, request: &Request, output: &mut Output) -> Result<(), Failure> {
    let edit = || session.pfs_to_write(request).map(|pfs| Edit::new(session, pfs));
    let pfs = |change: &PfsChange, output: &mut Output| pfs::change(session, change, output);
    match &request.command {
        Command::CopyIn { sources, path } => copy_in::run(edit()?, sources, path, output)?,
        Command::MakeDirectories { paths } => names::make(&edit()?, paths, output),
        Command::Remove { paths, recursive } => {
            names::remove(&edit()?, paths, *recursive, output);
        }
        Command::Script { file } => script::run(&edit()?, file, output)?,
        Command::Bulkfree => bulkfree::run(session, output)?,
        Command::Snapshot { label } => {
            let of = session.pfs_to_write(request)?.id();
            pfs(&PfsChange::Snapshot { of, label: label.clone(), birth: birth()? }, output)?;
        }
        Command::CreatePfs { label } => {
            pfs(&PfsChange::Create { label: label.clone(), birth: birth()? }, output)?;
        }
        Command::DeletePfs { label } => {
            pfs(&PfsChange::Delete { label: label.clone() }, output)?;
        }
        Command::RenamePfs { label, new_label } => {
            let (label, new_label) = (label.clone(), new_label.clone());
            pfs(&PfsChange::Rename { label, new_label }, output)?;
        }
        // run() has them
        Command::Info
        | Command::Pfs
        | Command::List { .. }
        | Command::Tree { .. }
        | Command::Cat { .. }
        | Command::Stat { .. }
        | Command::CopyOut { .. }
        | Command::Check
        | Command::Format(_) => {}
    }
    session.commit().map_err(|error| session.failure(error))?;
    let behind = session.catch_up().map_err(|error| session.failure(error))?;
    let copies: Vec<_> = (0..8).filter(|slot| behind & 1 << slot != 0).collect();
    if !copies.is_empty() {
        output.fault(&session.failure(Failure::new(format!(
            "copies {copies:?} are still behind; see whether there is room, and what `check` says"
        ))));
    }
    Ok(())
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
