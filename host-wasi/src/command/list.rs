//! `ls`: a directory, or everything below it.

use farrier_core::fs::Pfs;
use farrier_core::media::inode::ObjectKind;
use farrier_wasi::name::Name;
use farrier_wasi::report::{Entry, Report};

use super::entry;
use crate::failure::Failure;
use crate::output::Output;
use crate::render;
use crate::session::{Session, absolute};
use crate::walk::{Step, Walk};

/// What to list, and how.
#[derive(Debug)]
pub(super) struct List<'a> {
    pub(super) path: &'a [u8],
    pub(super) long: bool,
    pub(super) recursive: bool,
}

pub(super) fn run(
    session: &Session,
    pfs: &Pfs,
    list: &List<'_>,
    output: &mut Output,
) -> Result<(), Failure> {
    let root = absolute(list.path);
    let found = session.resolve(pfs, list.path, true)?;
    if found.kind != ObjectKind::Directory {
        let entry = entry(session, pfs, &root, &found, output);
        let name = Name(root);
        return write(output, entry, &name, list.long);
    }
    let walk = Walk::new(session, pfs, root.clone(), found.inum)
        .with_attributes(list.long)
        .recursive(list.recursive);
    for step in walk {
        match step {
            Step::Fault(fault) => output.fault(&fault),
            Step::Leave => {}
            Step::Entry { path, entry: listed, .. } => {
                let entry = match &listed.attributes {
                    Some(Ok(attributes)) => entry(session, pfs, &path, attributes, output),
                    // why they are missing the walk has said
                    _ => Entry {
                        path: Name::from(&path[..]),
                        inum: listed.inum.0,
                        kind: listed.kind,
                        attributes: None,
                        target: None,
                    },
                };
                let below = path.strip_prefix(&root[..]).unwrap_or(&path);
                let name = Name::from(below.strip_prefix(b"/").unwrap_or(below));
                write(output, entry, &name, list.long)?;
            }
        }
    }
    Ok(())
}

fn write(output: &mut Output, entry: Entry, name: &Name, long: bool) -> Result<(), Failure> {
    let report = Report::Entry(entry);
    output.report(&report, |out| match &report {
        Report::Entry(entry) if long => render::long(out, entry, name),
        _ => writeln!(out, "{name}"),
    })
}
