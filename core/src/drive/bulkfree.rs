//! Freeing what nothing refers to (media format 8.6): a scan beside live work, then two commits.
//!
//! A host calls [`begin`] and [`finish`] while it holds the flusher, and lets the scan run between
//! them without it: operations and flushes go on. What they allocate meanwhile counts as in use,
//! and what they give back waits until the scan is done.

use super::change::WriteHost;
use super::commit::{Flusher, flush};
use super::{Host, join_all, load_freemap};
use crate::error::Error;
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
    load_freemap(host, flusher.writer_mut().freemap_mut(), u64::MAX).await?;
    let total_size = match flusher.header().raw().version.get() {
        1 => flusher.header().raw().volu_size.get(),
        _ => flusher.header().raw().total_size.get(),
    };
    let mut scan = host.look(|memory| {
        let memory = memory.ok_or(Error::ReadOnly)?;
        let mut scan = Bulkfree::new(*memory.super_root(), total_size);
        for (_, tree) in memory.trees() {
            for (_, orphan) in tree.orphans() {
                scan.add_orphan(&orphan.image);
            }
        }
        Ok::<_, Error>(scan)
    })?;
    let freemap = flusher.writer_mut().freemap_mut();
    freemap.begin_scan();
    scan.set_number(freemap.scan_number());
    Ok(scan)
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
    if scan.number().is_none() || scan.number() != flusher.writer().freemap().scan_number() {
        return Err(Error::Busy);
    }
    let blocks = scan.blocks();
    let marks = match scan.finish() {
        Ok(marks) => marks,
        Err(error) => {
            flusher.writer_mut().freemap_mut().end_scan();
            return Err(error);
        }
    };
    flusher.writer_mut().take_leaked();
    let staged = flusher.writer_mut().freemap_mut().stage(&marks);
    for _ in 0..flusher.reuse_delay() {
        flush(host, flusher, true).await?;
    }
    let freed = flusher.writer_mut().freemap_mut().free_staged(&marks);
    flusher.writer_mut().freemap_mut().end_scan();
    flush(host, flusher, true).await?;
    let corrupt_bytes = (staged.corrupt + freed.corrupt) * CHUNK_LEN;
    Ok(Freed { bytes: freed.freed * CHUNK_LEN, corrupt_bytes, blocks })
}

const CHUNK_LEN: u64 = 16 << 10;
