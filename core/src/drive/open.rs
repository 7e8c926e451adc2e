//! Opening a volume for writing: its freemap, and what the freemap may have missed.

use alloc::vec::Vec;

use super::commit::Flusher;
use super::damage::Known;
use super::finish::Lineage;
use super::space::allocator;
use super::{Host, REUSE_DELAY, run};
use crate::copies::CopySet;
use crate::copies::lineage::Decision;
use crate::dirty::{Memory, Tree};
use crate::engine::Want;
use crate::error::{BlockKind, Damage, DamageKind, Error};
use crate::flush::FindBase;
use crate::flush::{HeaderWriter, Writer};
use crate::freemap::{Class, Freemap};
use crate::fs::{OpenPfs, Pfs};
use crate::media::blockref::{Blockref, Seat, slots};
use crate::media::check::Checks;
use crate::media::header::VolumeHeader;
use crate::media::inode::{CONTENT_START, Inode};
use crate::units::{Inum, Tid};
use crate::volume::{Copies, CopyHeader, Volume};

/// Free space that is looked for before a volume is ready: the rest of a large freemap is read when
/// it is needed.
const FREE_BYTES_WANTED: u64 = 8 << 30;
/// Freemap blocks that are read side by side.
const BATCH: usize = 64;
/// First inode number that is not used for something special (media format 5.4).
const FIRST_INUM: u64 = 1024;

/// Prepares `volume` for writing.
///
/// # Errors
/// The freemap cannot be trusted, or a device failed: the volume can still be read.
pub async fn open_for_writing<H: Host>(
    host: &H,
    volume: &Volume,
) -> Result<(Flusher, Memory), Error> {
    if let Some(copies) = volume.group() {
        return open_copies(host, volume, copies).await;
    }
    let header = volume.header();
    let mut freemap = freemap_of(header)?;
    load_freemap(host, 0, &mut freemap, FREE_BYTES_WANTED).await?;
    if header.mirror_tid() > header.freemap_tid() {
        let roots = Vec::from([volume.super_root()]);
        recover(host, roots, header.freemap_tid(), None, &mut freemap).await?;
    }
    let writer = Writer::new(freemap, header.mirror_tid(), *volume.checks());
    let memory = memory_of(volume, &writer);
    let flusher = Flusher::new(writer, HeaderWriter::new(header, volume.chosen_slot()));
    Ok((flusher, memory))
}

/// The allocator that a header refers to; nothing of it is loaded yet.
pub(super) fn freemap_of(header: &VolumeHeader) -> Result<Freemap, Error> {
    Ok(Freemap::new(
        header.total_size(),
        header.allocator_beg(),
        &header.raw().freemap_blockset,
        header.allocator_free(),
        REUSE_DELAY,
    )?)
}

/// As [`open_for_writing`]: every copy has a freemap of its own.
async fn open_copies<H: Host>(
    host: &H,
    volume: &Volume,
    copies: &Copies,
) -> Result<(Flusher, Memory), Error> {
    if copies.decision().writable.is_err() {
        return Err(Error::ReadOnly);
    }
    let decision = copies.decision();
    let (root, checks) = (volume.super_root(), *volume.checks());
    let (writer, headers) =
        writer_of_copies(host, root, decision, copies.headers(), checks).await?;
    let memory = memory_of(volume, &writer);
    let lineage = Lineage::of(decision, copies.live(), Known::new(copies.damage().clone()));
    Ok((Flusher::of_copies(writer, headers, lineage), memory))
}

/// The allocators of the copies that are written to, and their next headers. What is newer than a
/// freemap is looked for below `root`.
///
/// # Errors
/// As [`recover`]; [`Error::Halted`] if there is no copy to write to.
pub(super) async fn writer_of_copies<H: Host>(
    host: &H,
    root: Blockref,
    decision: &Decision,
    found: &[CopyHeader],
    checks: Checks,
) -> Result<(Writer, Vec<(u8, HeaderWriter)>), Error> {
    let (set, after) = (CopySet::of(&decision.group), decision.after);
    let (mut freemaps, mut headers) = (Vec::new(), Vec::new());
    for one in found {
        if set.attached() & 1 << one.copy == 0 {
            continue;
        }
        let is_in_sync = set.in_sync() & 1 << one.copy != 0;
        let seat = Seat { copy: one.copy, plain: set.plain() };
        let freemap = allocator(host, root, seat, &one.header, is_in_sync).await?;
        freemaps.push((one.copy, freemap));
        let mut writer = HeaderWriter::new(&one.header, one.slot);
        // a copy that lags goes on with the others, behind what any of them ever wrote
        writer.raw_mut().mirror_tid.set(after.0);
        headers.push((one.copy, writer));
    }
    if freemaps.is_empty() {
        return Err(Error::Halted);
    }
    Ok((Writer::of_copies(freemaps, set, after, checks), headers))
}

/// What is in memory of a volume that nothing was changed of yet.
pub(super) fn memory_of(volume: &Volume, writer: &Writer) -> Memory {
    Memory::new(volume.super_root(), writer.budget())
}

/// Loads freemap blocks of `copy` (0 on a volume without copies) until `free_bytes` are known to be free, or all of it is in memory. Blocks
/// that cannot be had are set aside: their zones are left alone.
///
/// # Errors
/// None so far: damage only makes space unusable.
pub async fn load_freemap<H: Host>(
    host: &H,
    copy: u8,
    freemap: &mut Freemap,
    free_bytes: u64,
) -> Result<(), Error> {
    loop {
        let counts = freemap.counts();
        let has_enough = counts.free_groups.saturating_mul(64 << 10) >= free_bytes;
        let unread = freemap.unread(BATCH);
        let leads_to_more = unread.iter().any(|one| one.kind() == BlockKind::FreemapNode);
        if unread.is_empty() || (has_enough && !leads_to_more) {
            return Ok(());
        }
        load_blocks(host, copy, freemap, &unread).await;
    }
}

async fn load_blocks<H: Host>(host: &H, copy: u8, freemap: &mut Freemap, blockrefs: &[Blockref]) {
    let on_copy = |blockref| Want::of(blockref).map(|want| want.only_on(copy));
    let wants: Vec<Option<Want>> = blockrefs.iter().map(on_copy).collect();
    let fetches = wants.iter().flatten().map(|want| host.fetch(want)).collect();
    let mut got = super::join_all(fetches).await.into_iter();
    for (blockref, want) in blockrefs.iter().zip(wants) {
        let block = want.and_then(|_| got.next());
        let is_loaded = match block {
            Some(Ok(block)) => freemap.load(blockref, &block).is_ok(),
            _ => false,
        };
        if !is_loaded {
            freemap.unusable(blockref);
        }
    }
}

/// Opens `label` for writing.
///
/// # Errors
/// There is no such PFS, or its root cannot be read.
pub async fn open_tree<H: super::change::WriteHost>(host: &H, label: &[u8]) -> Result<Pfs, Error> {
    let super_root = host.look(|memory| memory.map(|memory| *memory.super_root()));
    let super_root = super_root.ok_or(Error::ReadOnly)?;
    let pfs = run(host, &OpenPfs { super_root, label: label.to_vec() }).await?;
    open_root(host, pfs).await?;
    Ok(pfs)
}

/// Opens a PFS by its root for writing; one that is open stays as it is.
pub(super) async fn open_root<H: super::change::WriteHost>(
    host: &H,
    pfs: Pfs,
) -> Result<(), Error> {
    let base = run(host, &FindBase { pfs, inum: Inum::ROOT }).await?;
    let base = base.ok_or(Error::NoPfs)?;
    let counted = Inode::parse(&base.block).map_or(0, |inode| inode.next_inum().0);
    let next = Inum(counted.saturating_add(1).max(FIRST_INUM));
    host.alter(|memory| memory.open(pfs.id(), Tree::new(*pfs.root(), next)));
    Ok(())
}

/// Marks what was written below `roots` after the freemap was, which knows everything up to `known` (media format
/// 9.3): other writers may leave a freemap that is a little older than the tree, and a copy that
/// failed has the freemap of the commit before. With copies, what lies on `copy`.
///
/// # Errors
/// Damage in what is newer than the freemap, or [`Error::ReadOnly`] where the freemap cannot take it
/// in: something that is in use might be handed out.
pub(super) async fn recover<H: Host>(
    host: &H,
    roots: Vec<Blockref>,
    known: Tid,
    seat: Option<Seat>,
    freemap: &mut Freemap,
) -> Result<(), Error> {
    let mut stack = roots;
    while let Some(blockref) = stack.pop() {
        if blockref.mirror_tid() <= known {
            continue;
        }
        if let (Some(location), Some(class)) =
            (blockref.location_on(seat), Class::of(blockref.kind()))
        {
            while let Some(unread) = freemap.unread_for(location.offset) {
                load_blocks(host, seat.map_or(0, |seat| seat.copy), freemap, &[unread]).await;
            }
            if freemap.mark_recovered(location, class).is_err() {
                return Err(Error::ReadOnly);
            }
        }
        let is_table = matches!(blockref.kind(), BlockKind::Inode | BlockKind::Indirect);
        let Some(want) = Want::of(&blockref).filter(|_| is_table) else {
            continue;
        };
        let block = host.fetch(&want).await?;
        // What cannot be understood may refer to anything.
        let damage = |kind| Damage::new(blockref.place(), kind);
        let table = match blockref.kind() {
            BlockKind::Inode => {
                let inode = Inode::parse(&block).map_err(|f| damage(DamageKind::Inode(f)))?;
                if inode.has_direct_data() {
                    continue;
                }
                block.get(CONTENT_START..).unwrap_or_default()
            }
            _ => &block[..],
        };
        for raw in slots(table) {
            let below = Blockref::parse(raw).map_err(|f| damage(DamageKind::Blockref(f)))?;
            stack.extend(below);
        }
    }
    Ok(())
}
