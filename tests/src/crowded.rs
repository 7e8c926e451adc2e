//! Volumes on which hardly anything is free: what is written there lies where a test wants it, on
//! several devices or in several zones, with little of it.

use farrier_core::drive::{open, ready};
use farrier_core::flush::{HeaderWriter, Roots};
use farrier_core::freemap::{Class, Freemap};
use farrier_core::media::blockref::Location;
use farrier_core::media::check::Checks;
use farrier_core::storage::Storage;
use farrier_core::units::{MediaOffset, Radix, Tid};
use farrier_core::volume::OpenOptions;

/// Takes space of a new file system by groups of 64 KiB, as `taken` says: for blocks of a class, by
/// which its segment is known from then on, or not. Nothing refers to what was taken: a bulk scan
/// gives it back.
///
/// # Panics
/// The file system is no new one, or a device failed.
pub fn crowd<S: Storage>(storage: &S, taken: impl Fn(MediaOffset) -> Option<Class>) {
    let checks = Checks::with_crc32c(crc32c::crc32c);
    let options = OpenOptions { checks, ..OpenOptions::default() };
    let volume = ready(open(storage, options)).expect("a new file system");
    let header = volume.header();
    let new = || {
        let (table, free) = (header.raw().freemap_blockset, header.allocator_free());
        let freemap = Freemap::new(header.total_size(), header.allocator_beg(), &table, free, 1);
        freemap.expect("a new freemap")
    };
    let radix = Radix::new(16).expect("64 KiB");
    let (mut scout, mut freemap) = (new(), new());
    assert!(scout.is_whole(), "a new file system has no freemap yet");
    while let Some(offset) = scout.allocate(Class::Data, radix, None) {
        if let Some(class) = taken(offset) {
            let marked = freemap.mark_recovered(Location { offset, radix }, class);
            assert_eq!(marked, Ok(4), "every group is free");
        }
    }
    let mut writer = HeaderWriter::new(header, volume.chosen_slot());
    let super_root = volume.super_root();
    let tid = Tid(writer.mirror_tid().0 + 1);
    let sealed = freemap.seal(tid, super_root.modify_tid(), &checks);
    for (offset, bytes) in sealed.blocks {
        let (device, at) = volume.place_of(offset, bytes.len()).expect("within the volumes");
        ready(storage.write(device, at, &bytes)).expect("a device in order");
    }
    let roots = Roots {
        super_root: super_root.raw(),
        freemap: &sealed.root,
        free_bytes: freemap.free_bytes(),
        tid,
    };
    writer.next(roots);
    let (at, bytes) = writer.sealed(&checks);
    ready(storage.write(volume.root_device(), at, bytes)).expect("a device in order");
}
