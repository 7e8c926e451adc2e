//! Freeing what nothing refers to (media format 8.6): a scan beside live work, then two commits.
//!
//! A host calls [`begin`] and [`finish`] while it holds the flusher, and lets the scan run between
//! them without it: operations and flushes go on. What they allocate meanwhile counts as in use,
//! and what they give back waits until the scan is done.

use alloc::vec::Vec;

use super::change::WriteHost;
use super::commit::{Flusher, flush};
use super::{Host, join_all, load_freemap};
use crate::copies::CopySet;
use crate::error::Error;
use crate::freemap::{Freemap, Marks};
use crate::media::blockref::Seat;
use crate::scan::{Bulkfree, Step};

/// What a bulk scan freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Freed {
    /// Bytes that were in use by the freemap and by nobody else, and are free now.
    pub bytes: u64,
    /// Bytes that something refers to and the freemap had free: corruption, which is mended.
    pub corrupt_bytes: u64,
    /// Blocks that something refers to.
    pub blocks: u64,
}

/// Begins a scan: commits what was changed, so that the media says what is in use.
///
/// # Errors
/// The volume failed.
pub async fn begin<H: WriteHost>(host: &H, flusher: &mut Flusher) -> Result<Bulkfree, Error> {
    flush(host, flusher, false).await?;
    // what a copy keeps that is not in sync yet is not for the tree of the others to say
    let in_sync = flusher.writer().copies().map(CopySet::in_sync);
    let plain = flusher.writer().copies().map_or(0, CopySet::plain);
    let sizes: Vec<(u8, u64)> =
        flusher.headers.iter().map(|(copy, header)| (*copy, header.total_size())).collect();
    let mut copies = Vec::new();
    for (copy, freemap) in flusher.writer_mut().freemaps_mut() {
        if in_sync.is_none_or(|in_sync| in_sync & 1 << copy != 0) {
            load_freemap(host, copy, freemap, u64::MAX).await?;
            let size = sizes.iter().find(|(one, _)| *one == copy).map_or(0, |(_, size)| *size);
            copies.push((in_sync.map(|_| Seat { copy, plain }), size));
        }
    }
    let mut scan = host.look(|memory| {
        let memory = memory.ok_or(Error::ReadOnly)?;
        let mut scan = Bulkfree::of_copies(*memory.super_root(), &copies);
        for (_, tree) in memory.trees() {
            for (_, orphan) in tree.orphans() {
                scan.add_orphan(&orphan.image);
            }
        }
        Ok::<_, Error>(scan)
    })?;
    for (copy, freemap) in flusher.writer_mut().freemaps_mut() {
        if copies.iter().any(|(one, _)| one.is_none_or(|one| one.copy == copy)) {
            freemap.begin_scan();
        }
    }
    // one number for all allocators: those of copies that come and go count for themselves
    flusher.scans += 1;
    scan.set_number(Some(flusher.scans));
    Ok(scan)
}

/// Which scan is on its way.
fn scan_number(flusher: &mut Flusher) -> Option<u64> {
    let scans = flusher.scans;
    let mut freemaps = flusher.writer_mut().freemaps_mut();
    freemaps.any(|(_, freemap)| freemap.scan_number().is_some()).then_some(scans)
}

/// Lets a scan run to its end. Hosts with their own way of reading many blocks do this themselves.
pub async fn run_scan<H: Host>(host: &H, scan: &mut Bulkfree) {
    while let Step::Read(wants) = scan.step() {
        let fetches = wants.iter().map(|want| host.fetch(want)).collect();
        scan.resume(join_all(fetches).await);
    }
}

/// Frees what the scan did not find: stages it, and frees it as many commits later as it takes for
/// every header that could be fallen back to to be one that knows.
///
/// # Errors
/// What the scan could not read, or [`Error::Busy`] if another one began meanwhile, for it does not
/// know what was allocated before that: in both cases nothing is freed. Or the volume failed.
pub async fn finish<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    scan: Bulkfree,
) -> Result<Freed, Error> {
    if scan.number().is_none() || scan.number() != scan_number(flusher) {
        return Err(Error::Busy);
    }
    let blocks = scan.blocks();
    let marks = match scan.finish() {
        Ok(marks) => marks,
        Err(error) => {
            end_scan(flusher);
            return Err(error);
        }
    };
    flusher.writer_mut().take_leaked();
    let mut freed = Freed { blocks, ..Freed::default() };
    each_marked(flusher, &marks, |freemap, marks| {
        freed.corrupt_bytes += freemap.stage(marks).corrupt * CHUNK_LEN;
    });
    for _ in 0..flusher.reuse_delay() {
        flush(host, flusher, true).await?;
    }
    each_marked(flusher, &marks, |freemap, marks| {
        let staged = freemap.free_staged(marks);
        freed.corrupt_bytes += staged.corrupt * CHUNK_LEN;
        freed.bytes = freed.bytes.max(staged.freed * CHUNK_LEN);
    });
    end_scan(flusher);
    flush(host, flusher, true).await?;
    Ok(freed)
}

/// Gives up a scan: nothing is freed.
pub fn end_scan(flusher: &mut Flusher) {
    for (_, freemap) in flusher.writer_mut().freemaps_mut() {
        freemap.end_scan();
    }
}

fn each_marked(
    flusher: &mut Flusher,
    all: &[(Option<Seat>, Marks)],
    mut work: impl FnMut(&mut Freemap, &Marks),
) {
    for (copy, freemap) in flusher.writer_mut().freemaps_mut() {
        // a device that took a copy's place since then knows nothing of the scan
        if freemap.scan_number().is_none() {
            continue;
        }
        if let Some((_, marks)) = all.iter().find(|(one, _)| one.is_none_or(|one| one.copy == copy))
        {
            work(freemap, marks);
        }
    }
}

const CHUNK_LEN: u64 = 16 << 10;
