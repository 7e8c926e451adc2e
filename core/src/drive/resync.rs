//! Resynchronisation: what a copy lacks is filled in, a batch with each commit (copies 3.5).
//!
//! No list is kept of what a copy missed. The tree says it: an entry that counts on a copy is there
//! with everything below it, so a walk from the root stops at once at every branch that is in sync,
//! and what is left is what has to be copied. Progress is the tree itself: an interrupted walk begins
//! again at the root and finds done what was done.
//!
//! Invariants:
//! * The copy that is filled is not read to find out what it lacks.
//! * What is filled in gets the transaction of this commit, and loses every address that does not
//!   count any more at that moment: else an address that is not believed would be from then on (T4).
//! * A table goes to a copy only if everything that it refers to is there (W2, in the writer).
//! * A copy is in sync only if it has the files as well that are deleted and in use, which are in no
//!   tree.
//! * A block that several trees share is filled in once, as far as the memory set aside for that
//!   goes (T2).
//!
//! A batch runs while the flusher is held: other commits wait for as long as it takes, reading and
//! changing go on.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::change::WriteHost;
use super::commit::{Flusher, check_alive, flush, parsed};
use super::fill::{Fill, Goal, orphan_slots};
use super::finish::finish;
use super::relocate::Cursor;
use crate::dirty::{Cost, Memory, Orphan, Tree, TreeId};
use crate::engine::Block;
use crate::error::Error;
use crate::flush::{Stamp, valid};
use crate::media::check::Verified;
use crate::media::raw::RawBlockref;
use crate::units::{Inum, Tid};

/// What a batch came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filled {
    /// Blocks that were copied as they are.
    pub leaves: u64,
    /// Their bytes.
    pub leaf_bytes: u64,
    /// Tables that were written anew.
    pub tables: u64,
    /// Blocks that no copy could give.
    pub unreadable: u64,
    /// Copies that came in sync with it.
    pub joined: u8,
    /// Copies that are not in sync yet.
    pub behind: u8,
    /// Copies among them that had no room for a block that they lack.
    pub full: u8,
    /// The room was used up that could be set aside on the copies in sync for the tables that have to be
    /// written anew. If nothing was done at all, there is too little.
    pub is_short: bool,
}

/// Fills in what copies lack, up to about `budget` bytes, and commits that. Copies that then lack
/// nothing are in sync.
///
/// # Errors
/// The volume failed. What a copy lacks and nobody has is no error: it is counted.
pub async fn resync<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    budget: u64,
) -> Result<Filled, Error> {
    check_alive(host)?;
    flush(host, flusher, false).await?;
    let targets = behind(flusher);
    if targets == 0 {
        return Ok(Filled::default());
    }
    let goal = Goal::On(targets);
    let mut done = walk(host, flusher, goal, budget, Cursor::default()).await?.done;
    let joined = join(host, flusher, targets)?;
    if joined != 0 {
        // now their headers refer to the root that they have
        flush(host, flusher, true).await?;
    }
    (done.joined, done.behind) = (joined, targets & !joined);
    Ok(done)
}

/// What a walk came to.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) done: Filled,
    /// The copies that blocks got another place on, one for each.
    pub(super) moved: Vec<u8>,
    /// Where it goes on.
    pub(super) place: Cursor,
    /// It came to its end.
    pub(super) is_through: bool,
}

/// Goes through what falls short of `goal`, puts it right and commits it.
pub(super) async fn walk<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    goal: Goal,
    budget: u64,
    place: Cursor,
) -> Result<Walked, Error> {
    let root = host.look(|memory| memory.map(|memory| *memory.super_root()));
    let root = root.ok_or(Error::ReadOnly)?;
    // changes that are made meanwhile have to fit beside it
    let room = ROOMS.into_iter().find(|room| host.alter(|memory| memory.reserve(*room)));
    let Some(room) = room else {
        let done = Filled { is_short: true, ..Filled::default() };
        return Ok(Walked { done, place, ..Walked::default() });
    };
    let before = flusher.header().mirror_tid().0;
    let tid = Tid(before.checked_add(1).ok_or(Error::ReadOnly)?);
    let mut fill = Fill {
        room,
        writer: &mut flusher.writer,
        goal,
        stamp: Stamp { mirror: tid, modify: Tid(0) },
        left: budget,
        stack: Vec::new(),
        memo: BTreeMap::new(),
        roots: Vec::new(),
        done: Filled::default(),
        place,
        moved: Vec::new(),
        is_cut: false,
        orphan: None,
        lost: Vec::new(),
    };
    let filled = fill_all(host, &mut fill, *root.raw()).await;
    let is_through = !fill.is_cut;
    let (done, roots) = (fill.done, core::mem::take(&mut fill.roots));
    let lost = core::mem::take(&mut fill.lost);
    let walked = Walked { done, moved: fill.moved, place: fill.place, is_through };
    for block in lost {
        flusher.note_damage(block);
    }
    let committed = match filled {
        Ok((new, orphans)) if new.is_some() || !orphans.is_empty() => {
            let new = new.unwrap_or(*root.raw());
            commit_filled(host, flusher, &new, (roots, orphans), tid).await
        }
        Ok(_) => {
            host.alter(|memory| memory.release(room));
            Ok(())
        }
        Err(error) => Err(error),
    };
    if let Err(error) = committed {
        host.alter(|memory| memory.fail(error));
        return Err(error);
    }
    Ok(walked)
}

/// Makes blockrefs plain, up to about `budget` bytes of tables, and commits that: a part of
/// [`strip`](super::convert::strip). The writer is stripping.
///
/// # Errors
/// The volume failed.
pub(super) async fn strip_some<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    budget: u64,
) -> Result<Filled, Error> {
    flush(host, flusher, false).await?;
    Ok(walk(host, flusher, Goal::Plain, budget, Cursor::default()).await?.done)
}

/// Copies that are written to and are not in sync.
fn behind(flusher: &Flusher) -> u8 {
    flusher.writer().copies().map_or(0, |set| set.attached() & !set.in_sync())
}

/// A file that is in no tree, and its image from now on.
type NewOrphan = (TreeId, Inum, Vec<u8>);

/// Walks through the tree, and behind it through the files that are in none any more and in use: who
/// uses them wants to have them as long as there is a copy.
async fn fill_all<H: WriteHost>(
    host: &H,
    fill: &mut Fill<'_>,
    root: RawBlockref,
) -> Result<(Option<RawBlockref>, Vec<NewOrphan>), Error> {
    let new = fill.run(host, root).await?;
    let mut changed = Vec::new();
    if !matches!(fill.goal, Goal::On(_)) {
        return Ok((new, changed));
    }
    for (id, inum, orphan) in orphans(host) {
        if fill.left == 0 || fill.done.is_short {
            break;
        }
        if let Some(image) = fill.run_orphan(host, &orphan.image).await? {
            changed.push((id, inum, image));
        }
    }
    Ok((new, changed))
}

/// Files that are in no tree any more and in use.
fn orphans<H: WriteHost>(host: &H) -> Vec<(TreeId, Inum, Orphan)> {
    host.look(|memory| {
        let trees = memory.into_iter().flat_map(Memory::trees);
        let of = |(id, tree): (TreeId, &Tree)| -> Vec<_> {
            tree.orphans().map(|(inum, orphan)| (id, inum, orphan.clone())).collect()
        };
        trees.flat_map(of).collect()
    })
}

async fn commit_filled<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    super_root: &RawBlockref,
    (roots, orphans): (Vec<RawBlockref>, Vec<NewOrphan>),
    tid: Tid,
) -> Result<(), Error> {
    finish(host, flusher, super_root, tid).await?;
    // What was filled in looks new, but others may refer to the same blocks: nothing of it is given
    // back without a scan.
    flusher.writer_mut().share(tid);
    let budget = flusher.writer().budget();
    let super_root = parsed(super_root)?;
    let roots = roots.iter().map(parsed).collect::<Result<Vec<_>, Error>>()?;
    host.alter(|memory| {
        for root in roots {
            memory.rebase(root);
        }
        for (id, inum, image) in orphans {
            memory.rebase_orphan(id, inum, Orphan { image: Block::new(Verified::ours(image)) });
        }
        memory.committed(super_root, budget);
    });
    Ok(())
}

/// Copies of `targets` that lack nothing any more are in sync from the next commit on.
fn join<H: WriteHost>(host: &H, flusher: &mut Flusher, targets: u8) -> Result<u8, Error> {
    let root = host.look(|memory| memory.map(|memory| *memory.super_root().raw()));
    let (Some(root), Some(set)) = (root, flusher.writer().copies()) else {
        return Ok(0);
    };
    // who has everything but what is deleted and in use could not go on alone with that
    let slots = orphans(host).into_iter().filter_map(|(.., orphan)| orphan_slots(&orphan.image));
    let of_orphans = slots.flatten().fold(u8::MAX, |copies, raw| copies & valid(set, &raw));
    let joined = valid(set, &root) & targets & of_orphans;
    if joined == 0 {
        return Ok(0);
    }
    let tid = Tid(flusher.header().mirror_tid().0 + 1);
    let origin = host.origin().ok_or(Error::ReadOnly)?;
    if let Some(lineage) = &mut flusher.lineage {
        lineage.join(joined, origin, tid)?;
        let set = lineage.set();
        flusher.writer.set_copies(set);
    }
    Ok(joined)
}

/// Space that a batch may take on the copies in sync, for the tables that it writes anew: as much as
/// there is, and at least so much that the way to one block fits, which takes less than ten tables.
const ROOMS: [Cost; 4] = [
    Cost { large: 24 << 20, small: 8 << 20 },
    Cost { large: 6 << 20, small: 2 << 20 },
    Cost { large: 2 << 20, small: 512 << 10 },
    Cost { large: 640 << 10, small: 64 << 10 },
];
