//! The space of one copy, when it is opened or comes back: what its freemap says, and what that
//! missed (copies 3.8).
//!
//! A disk that lost its freemap still has everything else. What is in use there is what the tree
//! of the group names on it, so the freemap is made anew from that: its copy is brought up to date
//! and written to like any other, and the volume is not held up by it.
//!
//! Invariants: nothing comes free that the tree refers to, that an open inode without a name holds,
//! or, on a copy that is not in sync, that hangs in the root of its own, as far as that can be read.

use alloc::vec::Vec;

use super::Host;
use super::bulkfree::run_scan;
use super::change::WriteHost;
use super::open::{freemap_of, load_freemap, recover};
use crate::engine::{Block, Want};
use crate::error::{BlockKind, Error};
use crate::freemap::{Class, Freemap};
use crate::media::blockref::{Blockref, Seat, slots};
use crate::media::header::VolumeHeader;
use crate::media::inode::{CONTENT_START, Inode};
use crate::media::raw::RawBlockref;
use crate::scan::Bulkfree;

/// The allocator of the copy in `seat`, whose newest header this is, on a volume with this super-root. All of it
/// is in memory.
///
/// # Errors
/// Damage in the tree, where it has to be known what the freemap does not say.
pub(super) async fn allocator<H: Host>(
    host: &H,
    super_root: Blockref,
    seat: Seat,
    header: &VolumeHeader,
    is_in_sync: bool,
) -> Result<Freemap, Error> {
    let mut freemap = freemap_of(header)?;
    // what is free of a copy is looked for in all of it: no other one makes up for it
    load_freemap(host, seat.copy, &mut freemap, u64::MAX).await?;
    if freemap.is_damaged() {
        rebuild(host, super_root, seat, header, &mut freemap).await?;
        if !is_in_sync {
            keep_own_root(host, seat, header, &mut freemap).await;
        }
        freemap.recount_free(header.allocator_size());
        return Ok(freemap);
    }
    let mut roots = Vec::from([super_root]);
    host.look(|memory| {
        let trees = memory.into_iter().flat_map(|memory| memory.trees());
        for (_, orphan) in trees.flat_map(|(_, tree)| tree.orphans()) {
            let image = orphan.image.get(CONTENT_START..).unwrap_or_default();
            let has_table = Inode::parse(&orphan.image).is_ok_and(|inode| !inode.has_direct_data());
            let table = if has_table { slots(image) } else { &[] };
            roots.extend(table.iter().filter_map(parsed));
        }
    });
    recover(host, roots, header.freemap_tid(), Some(seat), &mut freemap).await?;
    Ok(freemap)
}

/// Puts what cannot be read of a freemap in the state that the tree tells.
async fn rebuild<H: Host>(
    host: &H,
    super_root: Blockref,
    seat: Seat,
    header: &VolumeHeader,
    freemap: &mut Freemap,
) -> Result<(), Error> {
    let mut scan = Bulkfree::of_copies(super_root, &[(Some(seat), header.total_size())]);
    host.look(|memory| {
        let trees = memory.into_iter().flat_map(|memory| memory.trees());
        for (_, orphan) in trees.flat_map(|(_, tree)| tree.orphans()) {
            scan.add_orphan(&orphan.image);
        }
    });
    run_scan(host, &mut scan).await;
    let marks = scan.finish()?;
    freemap.rebuild();
    for (_, marks) in &marks {
        freemap.keep(marks);
    }
    Ok(())
}

/// Whether the root that a copy has of its own, by its newest header, can be read from it.
pub(super) async fn has_root<H: WriteHost>(host: &H, seat: Seat, header: &VolumeHeader) -> bool {
    for blockref in header.super_root_table().iter().filter_map(parsed) {
        let want = Want::of(&blockref);
        let want = want.map(|want| want.on(seat.copy).unwrap_or(want.only_on(seat.copy)));
        if let Some(want) = want
            && host.fetch_stored(&want).await.is_err()
        {
            return false;
        }
    }
    true
}

/// Marks what hangs in the root that a copy has of its own. What of it cannot be read is lost
/// already, and holds up nothing.
async fn keep_own_root<H: Host>(
    host: &H,
    seat: Seat,
    header: &VolumeHeader,
    freemap: &mut Freemap,
) {
    let mut stack: Vec<Blockref> = header.super_root_table().iter().filter_map(parsed).collect();
    while let Some(blockref) = stack.pop() {
        if let (Some(location), Some(class)) =
            (blockref.location_on(Some(seat)), Class::of(blockref.kind()))
        {
            // what lies outside of the copy cannot be handed out
            let _ = freemap.mark_recovered(location, class);
        }
        let is_table = matches!(blockref.kind(), BlockKind::Inode | BlockKind::Indirect);
        let is_here = blockref.location_on(Some(seat)).is_some();
        let want = Want::of(&blockref).filter(|_| is_table && is_here);
        // one that names no copy lies where it says
        let want = want.map(|want| want.on(seat.copy).unwrap_or(want.only_on(seat.copy)));
        let Some(want) = want else { continue };
        let Ok(block) = host.fetch(&want).await else { continue };
        stack.extend(table_of(&blockref, &block).iter().filter_map(parsed));
    }
}

fn parsed(raw: &RawBlockref) -> Option<Blockref> {
    Blockref::parse(raw).ok().flatten()
}

fn table_of<'b>(blockref: &Blockref, block: &'b Block) -> &'b [RawBlockref] {
    match blockref.kind() {
        BlockKind::Inode => match Inode::parse(block) {
            Ok(inode) if !inode.has_direct_data() => {
                slots(block.get(CONTENT_START..).unwrap_or_default())
            }
            _ => &[],
        },
        _ => slots(block),
    }
}
