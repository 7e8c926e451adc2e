//! `pfs`: the mountable trees of a volume.

use farrier_core::fs::ListPfs;
use farrier_wasi::name::Name;
use farrier_wasi::report::{self, Report, microseconds};

use crate::failure::Failure;
use crate::output::Output;
use crate::render;
use crate::session::Session;

pub(super) fn run(session: &Session, output: &mut Output) -> Result<(), Failure> {
    let super_root = session.volume().super_root();
    let list = session.run(&ListPfs { super_root }).map_err(|error| session.failure(error))?;
    for info in list.entries {
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
        output.report(&Report::Pfs(pfs.clone()), |out| render::pfs(out, &pfs))?;
    }
    for error in list.broken {
        output.fault(&session.failure(error));
    }
    Ok(())
}
