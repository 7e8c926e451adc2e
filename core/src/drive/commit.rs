//! Flushing: from frozen layers to a commit on media (media format 9.2).
//!
//! One flush at a time; operations go on beside it. Nothing that is written here is referred to by
//! anybody before the header is, and the header is written behind a barrier.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use zerocopy::{FromBytes, IntoBytes};

use super::change::WriteHost;
use super::finish::{Lineage, finish};
use super::pfs::{self, PfsChange, PlannedPfs};
use super::relocate::Moves;
use super::{REUSE_DELAY, run};
use crate::dirty::{DirtyBlock, DirtyInode, Head, Layer, Memory, Orphan, Tree, TreeId};
use crate::engine::Block;
use crate::error::{BlockKind, Error, Place};
use crate::flush::{
    EditTree, FindBase, HeaderWriter, Prepared, Shape, Stamp, Writer, YoungBlocks, prepare, valid,
};
use crate::fs::Pfs;
use crate::fs::node::Base;
use crate::media::FILE_BLOCK_LEN;
use crate::media::blockref::Blockref;
use crate::media::check::Verified;
use crate::media::inode::{INODE_LEN, Inode, OP_DIRECT_DATA, ObjectKind};
use crate::media::raw::{RawBlockref, RawInode};
use crate::tree::{Dropped, Edit, Edited, Holder, Table, render_into};
use crate::units::{Inum, Tid};

/// File blocks that are prepared side by side.
const BATCH: usize = 64;
/// Bytes that are collected before they are written.
const WRITE_LEN: usize = 8 << 20;

/// What a volume needs to write commits.
#[derive(Debug)]
pub struct Flusher {
    pub(super) writer: Writer,
    /// One for each copy that is written to, by copy; exactly one on a volume without copies. The
    /// first is of a copy that is in sync.
    pub(super) headers: Vec<(u8, HeaderWriter)>,
    /// Those of copies that were left behind by a commit that has not come to its end.
    pub(super) left: Vec<(u8, HeaderWriter)>,
    /// What the headers say of copies.
    pub(super) lineage: Option<Lineage>,
    /// Scans for free space that began.
    pub(super) scans: u64,
    /// A barrier came after all that the volume was opened with.
    is_settled: bool,
    /// Blocks that have to get another place on a copy.
    pub(super) moves: Moves,
}

impl Flusher {
    pub(super) fn new(writer: Writer, header: HeaderWriter) -> Self {
        let (headers, moves) = (alloc::vec![(0, header)], Moves::default());
        let left = Vec::new();
        Self { writer, headers, left, lineage: None, scans: 0, is_settled: true, moves }
    }

    pub(super) fn of_copies(
        writer: Writer,
        headers: Vec<(u8, HeaderWriter)>,
        lineage: Lineage,
    ) -> Self {
        let (left, moves) = (Vec::new(), Moves::default());
        let lineage = Some(lineage);
        Self { writer, headers, left, lineage, scans: 0, is_settled: false, moves }
    }

    /// What the headers say of copies; `None` on a volume without.
    #[must_use]
    pub const fn lineage(&self) -> Option<&Lineage> {
        self.lineage.as_ref()
    }

    /// Keeps where the devices of copies are seen, a path for each, for whoever looks for them later.
    /// Returns whether any is seen elsewhere than before; the next header says so then.
    pub fn set_hints(&mut self, hints: &[(u8, Vec<u8>)]) -> bool {
        self.lineage.as_mut().is_some_and(|lineage| lineage.set_hints(hints))
    }

    /// Keeps where the witness of the group is seen. Returns whether that is elsewhere than before.
    pub fn set_witness_place(&mut self, place: &[u8]) -> bool {
        self.lineage.as_mut().is_some_and(|lineage| lineage.set_witness_place(place))
    }

    /// Bytes that are allocated on a copy that is written to; `None` for another one.
    pub fn used_bytes(&mut self, copy: u8) -> Option<u64> {
        let (_, header) = self.headers.iter().find(|(one, _)| *one == copy)?;
        let size = header.raw().allocator_size.get();
        let (_, freemap) = self.writer.freemaps_mut().find(|(one, _)| *one == copy)?;
        Some(size.saturating_sub(freemap.free_bytes()))
    }

    /// Places for blocks.
    #[must_use]
    pub const fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Places for blocks, to be changed.
    pub const fn writer_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// The header of the last commit.
    ///
    /// # Panics
    /// There is none: a volume whose last copy is gone has no flusher any more.
    #[must_use]
    pub fn header(&self) -> &HeaderWriter {
        &self.headers.first().expect("a flusher has a header").1
    }

    /// The header of the last commit, to be changed.
    ///
    /// # Panics
    /// As [`Flusher::header`].
    pub fn header_mut(&mut self) -> &mut HeaderWriter {
        &mut self.headers.first_mut().expect("a flusher has a header").1
    }

    /// Commits that a block which is given back waits for before its space is used again.
    #[must_use]
    pub const fn reuse_delay(&self) -> usize {
        REUSE_DELAY
    }
}

/// A frozen tree.
struct Frozen {
    id: TreeId,
    pfs: Pfs,
    layer: Arc<Layer>,
    orphans: BTreeMap<u64, Orphan>,
    next_inum: Inum,
}

/// What a tree's flush came to.
struct Flushed {
    id: TreeId,
    root: RawBlockref,
    /// The 1024 bytes of its root.
    image: Vec<u8>,
    orphans: BTreeMap<u64, Orphan>,
}

/// Commits everything that was changed, and returns whether that was anything.
///
/// With `always`, if a copy lacks the newest header, or if damage was met, a commit is made even if
/// nothing was: space that was given back comes nearer to being used again.
///
/// # Errors
/// What a device said, or damage in a table that had to be changed. The volume takes no more
/// changes then; what is in memory stays readable.
pub async fn flush<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    always: bool,
) -> Result<bool, Error> {
    check_alive(host)?;
    let is_lagging = flusher.lineage.as_ref().is_some_and(Lineage::is_lagging);
    let is_due = always || is_lagging || flusher.has_new_damage();
    let (frozen, super_root) = freeze(host);
    if frozen.is_empty() && !is_due && settle(host, flusher).await? {
        return Ok(false);
    }
    commit_or_fail(host, flusher, frozen, super_root, None).await.map(|()| true)
}

/// What the volume was opened with lasts from now on. Who wrote it may have failed at the barrier behind
/// it, and devices give back what they did not make last. Returns whether no copy was lost by that.
async fn settle<H: WriteHost>(host: &H, flusher: &mut Flusher) -> Result<bool, Error> {
    if !core::mem::replace(&mut flusher.is_settled, true) {
        host.barrier().await?;
        let lost = |lineage: &Lineage| lineage.live().lost() & lineage.set().attached();
        return Ok(flusher.lineage.as_ref().is_none_or(|lineage| lost(lineage) == 0));
    }
    Ok(true)
}

/// Commits everything that was changed, for the last time: commits follow until space that was
/// given back is free on media too, and no scan has to find it.
///
/// # Errors
/// As [`flush`].
pub async fn close<H: WriteHost>(host: &H, flusher: &mut Flusher) -> Result<(), Error> {
    flush(host, flusher, false).await?;
    if flusher.writer.freemap().waiting_chunks() > 0 {
        for _ in 0..=REUSE_DELAY {
            flush(host, flusher, true).await?;
        }
    }
    Ok(())
}

/// Commits everything that was changed, and a change of the PFSs with it.
///
/// # Errors
/// Why the change cannot be made: then nothing has changed, but where there is no room for it, what
/// was changed before was committed. What a device said, or damage in a table that had to be
/// changed: the volume takes no more changes then.
pub async fn change_pfs<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    change: &PfsChange,
) -> Result<(), Error> {
    check_alive(host)?;
    let mut planned = pfs::plan(host, change).await?;
    if let PfsChange::Snapshot { of, .. } = change {
        host.look(|memory| memory?.tree(*of).map(|_| ())).ok_or(Error::NoPfs)?;
    }
    let frees = matches!(change, PfsChange::Delete { .. });
    if !host.alter(|memory| memory.reserve_roots(frees)) {
        // what was reserved becomes less with a commit, and what was given back comes free
        for number in 0..=REUSE_DELAY + 1 {
            flush(host, flusher, number > 0).await?;
        }
        planned = pfs::plan(host, change).await?;
        if !host.alter(|memory| memory.reserve_roots(frees)) {
            return Err(Error::NoSpace);
        }
    }
    let (mut frozen, super_root) = freeze(host);
    if let PfsChange::Snapshot { of, .. } = change
        && frozen.iter().all(|frozen| frozen.id != *of)
    {
        frozen.push(host.look(|memory| {
            let tree = memory.and_then(|memory| memory.tree(*of)).ok_or(Error::NoPfs)?;
            Ok::<_, Error>(Frozen::of(*of, tree, Arc::default()))
        })?);
    }
    commit_or_fail(host, flusher, frozen, super_root, Some(&planned)).await
}

/// A reference that we made ourselves.
pub(super) fn parsed(raw: &RawBlockref) -> Result<Blockref, Error> {
    Blockref::parse(raw).ok().flatten().ok_or(Error::InvalidArgument)
}

pub(super) fn check_alive<H: WriteHost>(host: &H) -> Result<(), Error> {
    match host.look(|memory| memory.and_then(Memory::failed)) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn freeze<H: WriteHost>(host: &H) -> (Vec<Frozen>, Blockref) {
    host.alter(|memory| {
        memory.freeze();
        let frozen = memory
            .trees()
            .filter_map(|(id, tree)| Some(Frozen::of(id, tree, Arc::clone(tree.frozen()?))))
            .collect();
        (frozen, *memory.super_root())
    })
}

impl Frozen {
    fn of(id: TreeId, tree: &Tree, layer: Arc<Layer>) -> Self {
        Self {
            id,
            pfs: Pfs::new(*tree.root()),
            layer,
            orphans: tree.orphans().map(|(inum, orphan)| (inum.0, orphan.clone())).collect(),
            next_inum: tree.next_inum(),
        }
    }
}

async fn commit_or_fail<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    frozen: Vec<Frozen>,
    super_root: Blockref,
    planned: Option<&PlannedPfs>,
) -> Result<(), Error> {
    let committed = commit(host, flusher, frozen, super_root, planned).await;
    if let Err(error) = committed {
        host.alter(|memory| memory.fail(error));
    }
    committed
}

async fn commit<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    frozen: Vec<Frozen>,
    super_root: Blockref,
    planned: Option<&PlannedPfs>,
) -> Result<(), Error> {
    let before = flusher.header().mirror_tid();
    // a header behind the last transaction would never be taken for the newest one
    let tid = Tid(before.0.checked_add(1).ok_or(Error::ReadOnly)?);
    let shares = frozen.iter().any(|frozen| frozen.layer.shares());
    if shares {
        flusher.writer.share(before);
    }
    let mut trees = Vec::with_capacity(frozen.len());
    for frozen in frozen {
        let is_source = planned.is_some_and(|planned| planned.source() == Some(frozen.id));
        trees.push(flush_tree(host, &mut flusher.writer, frozen, tid, is_source).await?);
    }
    let mut edits: Vec<Edit> = trees.iter().map(|tree| Edit::Put(tree.root)).collect();
    if let Some(planned) = planned {
        let source = trees.iter().find(|tree| planned.source() == Some(tree.id));
        let source = source.map(|tree| (&tree.root, &tree.image[..]));
        edits.extend(planned.edits(&mut flusher.writer, tid, source)?);
    }
    edits.sort_by_key(Edit::key);
    let super_root = flush_super_root(host, &mut flusher.writer, &super_root, &edits, tid).await?;
    finish(host, flusher, &super_root, tid).await?;
    flusher.is_settled = true;
    let is_copied = planned.is_some_and(|planned| planned.source().is_some());
    if is_copied || shares && flusher.writer.copies().is_some() {
        // every block of the source has two referrers now; what is shared and was filled in looks new
        flusher.writer.share(tid);
    }
    let budget = flusher.writer.budget();
    let super_root = parsed(&super_root)?;
    let roots = trees
        .into_iter()
        .map(|tree| Ok((tree.id, parsed(&tree.root)?, tree.orphans)))
        .collect::<Result<Vec<_>, Error>>()?;
    host.alter(|memory| {
        for (id, root, orphans) in roots {
            memory.retire(id, root, orphans);
        }
        memory.committed(super_root, budget);
    });
    Ok(())
}

/// The super-root with `edits` worked into its table.
async fn flush_super_root<H: WriteHost>(
    host: &H,
    writer: &mut Writer,
    super_root: &Blockref,
    edits: &[Edit],
    tid: Tid,
) -> Result<RawBlockref, Error> {
    if edits.is_empty() {
        return Ok(*super_root.raw());
    }
    let want = crate::engine::Want::of(super_root).ok_or(Error::NoPfs)?;
    let block = host.fetch(&want).await?;
    let table = Table::of_inode(Block::clone(&block), super_root.place(), Holder::SuperRoot);
    let edited = edit_table(host, table, edits).await?;
    retire_dropped(writer, &edited.dropped);
    let stamp = Stamp { mirror: tid, modify: next(super_root.modify_tid()) };
    let methods = super_root.raw().methods;
    let slots = writer.entries(edited.entries, methods, stamp)?;
    let mut image = block.to_vec();
    if let Some(table) = image.get_mut(TABLE) {
        render_into(&slots, table);
    }
    let raw = writer.inode(Some(super_root.raw()), 0, image, methods, &slots, stamp)?;
    writer.retire(super_root.raw());
    Ok(raw)
}

/// The transaction after `tid`, of which the media may say anything.
const fn next(tid: Tid) -> Tid {
    Tid(tid.0.saturating_add(1))
}

/// Where an inode keeps its table.
const TABLE: core::ops::Range<usize> = 0x200..INODE_LEN;

async fn flush_tree<H: WriteHost>(
    host: &H,
    writer: &mut Writer,
    mut frozen: Frozen,
    tid: Tid,
    is_source: bool,
) -> Result<Flushed, Error> {
    let modify = next(frozen.pfs.root().modify_tid());
    let stamp = Stamp { mirror: tid, modify };
    let layer = Arc::clone(&frozen.layer);
    let mut contents = flush_contents(host, writer, &layer, stamp).await?;
    let mut index = Vec::new();
    for (inum, inode) in layer.inodes().filter(|(inum, _)| *inum != Inum::ROOT) {
        let edits = contents.remove(&inum.0).unwrap_or_default();
        let changed = flush_inode(host, writer, &mut frozen, (inum, inode), edits, stamp).await?;
        index.extend(changed);
        write_waiting(host, writer).await?;
    }
    let (root, image) = flush_root(host, writer, &frozen, index, stamp, is_source).await?;
    Ok(Flushed { id: frozen.id, root, image, orphans: frozen.orphans })
}

/// Writes the changed file blocks of a layer: what became of each, by file, ascending.
async fn flush_contents<H: WriteHost>(
    host: &H,
    writer: &mut Writer,
    layer: &Layer,
    stamp: Stamp,
) -> Result<BTreeMap<u64, Vec<Edit>>, Error> {
    let mut edits: BTreeMap<u64, Vec<Edit>> = BTreeMap::new();
    let mut jobs = Vec::with_capacity(BATCH);
    for (inum, inode) in layer.inodes() {
        let Some(mut shape) = shape_of(inode) else {
            continue;
        };
        if writer.copies().is_some() {
            shape = shape.checked();
        }
        for (index, block) in &inode.blocks {
            let key = index * FILE_BLOCK_LEN;
            let edit = match block {
                DirtyBlock::Bytes(contents) => {
                    jobs.push((inum, key, Block::clone(contents), shape));
                    // the place in the order; what it becomes is told below
                    Edit::Remove(key)
                }
                DirtyBlock::Shared(raw) => {
                    let raw = writer.plain_if_stripping(raw);
                    let mut raw = on_all_in_sync(host, writer, raw, stamp).await?;
                    raw.modify_tid.set(stamp.modify.0);
                    Edit::Put(raw)
                }
                DirtyBlock::Hole => Edit::Remove(key),
            };
            edits.entry(inum.0).or_default().push(edit);
            if jobs.len() == BATCH {
                place_contents(host, writer, &mut jobs, &mut edits, stamp)?;
                write_waiting(host, writer).await?;
            }
        }
    }
    place_contents(host, writer, &mut jobs, &mut edits, stamp)?;
    Ok(edits)
}

/// `raw` was taken from the tree some time ago. A copy that came in sync since then has the block,
/// but not by this reference; a table with it would not be there.
async fn on_all_in_sync<H: WriteHost>(
    host: &H,
    writer: &mut Writer,
    raw: RawBlockref,
    stamp: Stamp,
) -> Result<RawBlockref, Error> {
    let lacking = writer.copies().map_or(0, |set| set.in_sync() & !valid(set, &raw));
    let want = crate::engine::Want::of(&parsed(&raw)?).filter(|_| lacking != 0);
    let Some(want) = want else { return Ok(raw) };
    // what nobody can read is as bad by any reference
    let Ok(stored) = host.fetch_stored(&want).await else { return Ok(raw) };
    Ok(writer.fill(&raw, (lacking, 0), &stored, stamp)?.unwrap_or(raw))
}

type Job = (Inum, u64, Block, Shape);

fn place_contents<H: WriteHost>(
    host: &H,
    writer: &mut Writer,
    jobs: &mut Vec<Job>,
    edits: &mut BTreeMap<u64, Vec<Edit>>,
    stamp: Stamp,
) -> Result<(), Error> {
    let checks = *writer.checks();
    let prepared = host.map(core::mem::take(jobs), |(inum, key, contents, shape)| {
        let prepared = prepare(&contents, shape, &checks);
        (inum, key, contents, prepared)
    });
    for (inum, key, contents, prepared) in prepared {
        if matches!(prepared, Prepared::Hole) {
            continue;
        }
        let Some(raw) = writer.data(key, prepared, &contents, stamp)? else {
            continue;
        };
        if let Some(list) = edits.get_mut(&inum.0)
            && let Ok(at) = list.binary_search_by_key(&key, Edit::key)
            && let Some(edit) = list.get_mut(at)
        {
            *edit = Edit::Put(raw);
        }
    }
    Ok(())
}

fn shape_of(inode: &DirtyInode) -> Option<Shape> {
    let inode = inode.head.inode()?;
    Inode::parse(inode.as_bytes()).ok().map(|inode| Shape::of(&inode))
}

async fn write_waiting<H: WriteHost>(host: &H, writer: &mut Writer) -> Result<(), Error> {
    if writer.waiting_bytes() >= WRITE_LEN {
        host.keep(writer.take_placed());
        host.write(writer.take_pieces()).await?;
    }
    Ok(())
}

/// Flushes one inode; what changes about it in the index of its tree.
async fn flush_inode<H: WriteHost>(
    host: &H,
    writer: &mut Writer,
    frozen: &mut Frozen,
    (inum, inode): (Inum, &DirtyInode),
    edits: Vec<Edit>,
    stamp: Stamp,
) -> Result<Option<Edit>, Error> {
    let base = match inode.is_new {
        true => None,
        false => run(host, &FindBase { pfs: frozen.pfs, inum }).await?,
    };
    let old = base.as_ref().and_then(|base| base.blockref);
    match &inode.head {
        Head::Removed => {
            frozen.orphans.remove(&inum.0);
            if let Some(base) = &base {
                retire_inode(host, writer, base).await?;
            }
            Ok(old.map(|_| Edit::Remove(inum.0)))
        }
        Head::Present(raw) => {
            let (image, slots, methods) =
                flush_table(host, writer, inode, raw, base.as_ref(), edits, stamp).await?;
            let old_raw = old.as_ref().map(Blockref::raw);
            let new = writer.inode(old_raw, inum.0, image, methods, &slots, stamp)?;
            if let Some(old) = &old {
                writer.retire(old.raw());
            }
            Ok(Some(Edit::Put(new)))
        }
        Head::Unlinked(raw) => {
            let (image, ..) =
                flush_table(host, writer, inode, raw, base.as_ref(), edits, stamp).await?;
            let image = Block::new(Verified::ours(image));
            frozen.orphans.insert(inum.0, Orphan { image });
            if let Some(old) = &old {
                writer.retire(old.raw());
            }
            Ok(old.map(|_| Edit::Remove(inum.0)))
        }
    }
}

/// The 1024 bytes of an inode with its changes worked into its table, the slots of the table, and
/// the methods of what hangs in it.
async fn flush_table<H: WriteHost>(
    host: &H,
    writer: &mut Writer,
    inode: &DirtyInode,
    raw: &RawInode,
    base: Option<&Base>,
    edits: Vec<Edit>,
    stamp: Stamp,
) -> Result<(Vec<u8>, Vec<RawBlockref>, u8), Error> {
    let inum = Inum(raw.inum.get());
    let holder = match ObjectKind::from_code(raw.kind) {
        Some(ObjectKind::Directory) if inum == Inum::ROOT => Holder::PfsRoot,
        Some(ObjectKind::Directory) => Holder::Directory,
        _ => Holder::File,
    };
    let methods = match base.and_then(|base| base.blockref) {
        Some(old) => old.raw().methods,
        None => (raw.check_algo & 15) << 4 | raw.comp_algo & 15,
    };
    let mut image = raw.as_bytes().to_vec();
    if raw.op_flags & OP_DIRECT_DATA != 0 {
        return Ok((image, Vec::new(), methods));
    }
    let table = match base {
        Some(base) => base.table(holder)?,
        None => None,
    };
    let mut edits = with_cut(edits, inode.cut.filter(|_| table.is_some()));
    edits.extend(name_edits(writer, inode, methods, stamp)?);
    let table = table.unwrap_or_else(|| empty_table(inum, holder));
    let slots = if edits.is_empty() {
        table.slots().iter().filter(|raw| raw.kind != 0).copied().collect()
    } else {
        let edited = edit_table(host, table, &edits).await?;
        retire_dropped(writer, &edited.dropped);
        writer.entries(edited.entries, methods, stamp)?
    };
    if let Some(table) = image.get_mut(TABLE) {
        render_into(&slots, table);
    }
    Ok((image, slots, methods))
}

fn empty_table(inum: Inum, holder: Holder) -> Table {
    let place = Place { kind: BlockKind::Inode, offset: None, key: inum.0 };
    Table::of_inode(Block::new(Verified::ours(alloc::vec![0; INODE_LEN])), place, holder)
}

/// The changed names of a directory, ascending.
fn name_edits(
    writer: &mut Writer,
    inode: &DirtyInode,
    methods: u8,
    stamp: Stamp,
) -> Result<Vec<Edit>, Error> {
    let mut edits = Vec::with_capacity(inode.names.len());
    for (key, name) in &inode.names {
        edits.push(match name {
            None => Edit::Remove(*key),
            Some(name) => {
                let (target, kind) = (name.target, name.kind);
                Edit::Put(writer.dirent(*key, &name.name, target, kind, methods, stamp)?)
            }
        });
    }
    Ok(edits)
}

/// Changes of file blocks, with everything from `cut` on gone that is not among them.
fn with_cut(edits: Vec<Edit>, cut: Option<u64>) -> Vec<Edit> {
    let Some(mut low) = cut.and_then(|cut| cut.checked_mul(FILE_BLOCK_LEN)) else {
        return edits;
    };
    let mut all = Vec::with_capacity(edits.len() + 1);
    for edit in edits {
        if edit.key() > low {
            all.push(Edit::Cut { low, high: edit.key() - 1 });
        }
        low = low.max(edit.key().saturating_add(FILE_BLOCK_LEN));
        // a removal speaks of one key only
        all.push(match edit {
            Edit::Remove(key) if key >= cut.unwrap_or(0).saturating_mul(FILE_BLOCK_LEN) => {
                Edit::Cut { low: key, high: key + (FILE_BLOCK_LEN - 1) }
            }
            other => other,
        });
    }
    all.push(Edit::Cut { low, high: u64::MAX });
    all
}

async fn flush_root<H: WriteHost>(
    host: &H,
    writer: &mut Writer,
    frozen: &Frozen,
    mut index: Vec<Edit>,
    stamp: Stamp,
    is_source: bool,
) -> Result<(RawBlockref, Vec<u8>), Error> {
    let root = *frozen.pfs.root();
    let base = run(host, &FindBase { pfs: frozen.pfs, inum: Inum::ROOT }).await?;
    let base = base.ok_or(Error::NoInode(Inum::ROOT))?;
    let methods = root.raw().methods;
    let changed = frozen.layer.get(Inum::ROOT);
    let mut image = base.block.to_vec();
    if let Some(changed) = changed {
        index.extend(name_edits(writer, changed, methods, stamp)?);
        if let Some(raw) = changed.head.inode() {
            image = raw.as_bytes().to_vec();
        }
    }
    if let Ok(raw) = RawInode::mut_from_bytes(&mut image) {
        raw.pfs_inum.set(frozen.next_inum.0.max(raw.pfs_inum.get()));
        if is_source {
            raw.pfs_lsnap_tid.set(stamp.modify.0);
        }
    }
    let table = Table::of_inode(Block::clone(&base.block), root.place(), Holder::PfsRoot);
    let edited = edit_table(host, table, &index).await?;
    retire_dropped(writer, &edited.dropped);
    let slots = writer.entries(edited.entries, methods, stamp)?;
    if let Some(table) = image.get_mut(TABLE) {
        render_into(&slots, table);
    }
    let kept = image.clone();
    let raw = writer.inode(Some(root.raw()), root.key(), image, methods, &slots, stamp)?;
    writer.retire(root.raw());
    Ok((raw, kept))
}

async fn edit_table<H: WriteHost>(host: &H, table: Table, edits: &[Edit]) -> Result<Edited, Error> {
    run(host, &EditTree { table, edits }).await
}

/// Gives back what hung in a tree. An inode was given back with what replaced it.
fn retire_dropped(writer: &mut Writer, dropped: &[Dropped]) {
    for dropped in dropped {
        match dropped {
            Dropped::Leaf(raw) if raw.kind == 1 => {}
            Dropped::Leaf(raw) | Dropped::Table(raw) => writer.retire(raw),
            Dropped::Subtree(raw) => {
                writer.retire(raw);
                if let Ok(Some(blockref)) = Blockref::parse(raw) {
                    writer.leak(blockref.statistics().unwrap_or_default().data_count);
                }
            }
        }
    }
}

/// Gives back an inode that is gone, and what hung in it.
async fn retire_inode<H: WriteHost>(
    host: &H,
    writer: &mut Writer,
    base: &Base,
) -> Result<(), Error> {
    let tid = writer.shared_tid();
    if let Some(blockref) = &base.blockref {
        writer.retire(blockref.raw());
        if blockref.mirror_tid() <= tid {
            writer.leak(blockref.statistics().unwrap_or_default().data_count);
            return Ok(());
        }
    }
    let inode = Inode::parse(&base.block).ok();
    let holder = match inode.map(|inode| inode.kind()) {
        Some(ObjectKind::Directory) => Holder::Directory,
        _ => Holder::File,
    };
    let Some(table) = base.table(holder)? else {
        return Ok(());
    };
    for raw in table.slots() {
        // what is older than the young blocks stays for a scan
        if let Ok(Some(blockref)) = Blockref::parse(raw)
            && blockref.mirror_tid() <= tid
        {
            let len = blockref.location().map_or(0, |location| location.len() as u64);
            writer.leak(len + blockref.statistics().unwrap_or_default().data_count);
        }
    }
    for raw in run(host, &YoungBlocks { table, tid }).await? {
        writer.retire(&raw);
    }
    Ok(())
}
