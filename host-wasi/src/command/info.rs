//! `info`: what the file system is, and which header it is read by.

use farrier_core::units::DeviceIndex;
use farrier_wasi::report::{FileSystem, Header, Report, Volume};

use crate::failure::Failure;
use crate::output::Output;
use crate::render;
use crate::session::Session;

pub(super) fn run(session: &Session, output: &mut Output) -> Result<(), Failure> {
    let volume = session.volume();
    let header = volume.header();
    let file = |device: DeviceIndex| session.devices().name(device).to_owned();
    let volumes = volume.pieces().iter().map(|piece| Volume {
        id: piece.id,
        file: file(piece.device),
        start: piece.start.0,
        size: piece.size,
        file_size: piece.device_size,
    });
    let headers = volume.header_slots().iter().map(|slot| Header {
        file: file(slot.device),
        slot: slot.slot,
        mirror_tid: slot.state.ok().map(|tid| tid.0),
        fault: slot.state.err().map(|fault| fault.to_string()),
        is_chosen: slot.is_chosen,
    });
    let about = FileSystem {
        id: header.fsid().to_string(),
        version: header.version().number(),
        size: header.total_size(),
        allocator_size: volume.space().size_bytes,
        allocator_free: volume.space().free_bytes,
        mirror_tid: header.mirror_tid().0,
        freemap_tid: header.freemap_tid().0,
        volumes: volumes.collect(),
        headers: headers.collect(),
    };
    output.report(&Report::FileSystem(about.clone()), |out| render::file_system(out, &about))
}
