//! `pfs`: the mountable trees of a volume; `snapshot` and `pfs create|delete|rename`: their change.

use farrier_core::drive::pfs::PfsChange;
use farrier_core::error::Error;
use farrier_core::fs::{ListPfs, PfsInfo};
use farrier_wasi::name::Name;
use farrier_wasi::report::{self, Report, microseconds};

use crate::failure::Failure;
use crate::output::Output;
use crate::render;
use crate::session::Session;

/// Lists them.
pub(super) fn run(session: &Session, output: &mut Output) -> Result<(), Failure> {
    let super_root = session.volume().super_root();
    let list = session.run(&ListPfs { super_root }).map_err(|error| session.failure(error))?;
    for info in list.entries {
        tell(info, output)?;
    }
    for error in list.broken {
        output.fault(&session.failure(error));
    }
    Ok(())
}

/// Changes them, and tells of the one that is there now.
pub(super) fn change(
    session: &Session,
    change: &PfsChange,
    output: &mut Output,
) -> Result<(), Failure> {
    session.change_pfs(change).map_err(|error| session.failure(explain(change, error)))?;
    let new = match change {
        PfsChange::Create { label, .. } | PfsChange::Snapshot { label, .. } => label,
        PfsChange::Rename { new_label, .. } => new_label,
        PfsChange::Delete { .. } => return Ok(()),
    };
    match session.list_pfs()?.into_iter().find(|info| info.label == *new) {
        Some(info) => tell(info, output),
        None => Ok(()),
    }
}

fn tell(info: PfsInfo, output: &mut Output) -> Result<(), Failure> {
    let pfs = report::Pfs {
        label: Name(info.label),
        kind: info.kind.name().to_owned(),
        is_snapshot: info.is_snapshot,
        cluster_id: info.cluster_id.to_string(),
        pfs_id: info.pfs_id.to_string(),
        created_us: microseconds(info.created),
        data_bytes: info.data_bytes,
        inode_count: info.inode_count,
    };
    output.report(&Report::Pfs(pfs.clone()), |out| render::pfs(out, &pfs))
}

/// What a person is told about a change that failed.
fn explain(change: &PfsChange, error: Error) -> Failure {
    let named = |label: &[u8]| Name::from(label);
    Failure::new(match (change, error) {
        (
            PfsChange::Create { label, .. }
            | PfsChange::Snapshot { label, .. }
            | PfsChange::Rename { new_label: label, .. },
            Error::Exists,
        ) => format!("a PFS labelled {} exists already; choose another label", named(label)),
        (_, Error::NameTooLong) => "a label has 255 bytes at most; choose a shorter one".to_owned(),
        (_, Error::InvalidArgument) => {
            "a label is not empty and has no `/` and no NUL in it; choose another one".to_owned()
        }
        (PfsChange::Delete { label } | PfsChange::Rename { label, .. }, Error::NoPfs) => {
            format!("no PFS labelled {}; `pfs` lists those there are", named(label))
        }
        (_, error) => error.to_string(),
    })
}
