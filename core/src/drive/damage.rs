//! What is known to be good on no copy, from where it is met to the headers (copies 3.4, R6).
//!
//! A block that no copy gives is named here by whoever met it: a [scrub](super::scrub), a
//! [resynchronisation](super::resync), a read of the host. The next commit makes that last, on all
//! copies, and there is one even if nothing else was changed.
//!
//! Invariants:
//! * Nothing on media is decided by the list but whether the next opening may write: one that had no
//!   room for everything that it should name may not, unless the operator says so.
//! * Only a scrub that came to its end, or the operator, takes something from it.

use super::change::WriteHost;
use super::commit::{Flusher, check_alive, flush};
use super::copies::{MemberError, lineage_of};
use crate::error::{BlockKind, Error};
use crate::media::blockref::Blockref;
use crate::media::damage::{DamageList, DamagedBlock, Noted};
use crate::units::{Inum, WallTime};

/// The list, and what the headers do not say of it yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    list: DamageList,
    is_new: bool,
    /// Blocks that there was no room for since the volume was opened.
    turned_away: u64,
}

impl Known {
    pub(super) const fn new(list: DamageList) -> Self {
        Self { list, is_new: false, turned_away: 0 }
    }

    pub(super) const fn list(&self) -> &DamageList {
        &self.list
    }

    /// Whether the headers say something else.
    pub(super) const fn is_new(&self) -> bool {
        self.is_new
    }

    /// The headers say it.
    pub(super) const fn committed(&mut self) {
        self.is_new = false;
    }

    fn note(&mut self, block: DamagedBlock) -> Noted {
        let was_full = self.list.is_full();
        let noted = self.list.note(block);
        self.is_new |= noted == Noted::New || was_full != self.list.is_full();
        self.turned_away += u64::from(noted == Noted::NoRoom);
        noted
    }

    fn replace(&mut self, list: DamageList) {
        self.is_new |= self.list != list;
        self.list = list;
    }
}

/// What a scrub met, to be put in the place of what was known when it began.
#[derive(Clone, Debug, Default)]
pub(super) struct Met {
    /// What was known at the beginning; `None` before that.
    before: Option<DamageList>,
    list: DamageList,
    /// Blocks of others and of this that there was no room for.
    turned_away: u64,
    /// Something was passed by, of which it does not know how it is.
    is_partial: bool,
}

impl Met {
    /// It begins, if it has not yet.
    pub(super) fn begin(&mut self, known: &Known) {
        if self.before.is_none() {
            self.before = Some(known.list.clone());
            self.turned_away = known.turned_away;
        }
    }

    /// It met that; at once everybody knows.
    pub(super) fn note(&mut self, known: &mut Known, block: DamagedBlock) {
        let before = self.before.iter().flat_map(DamageList::blocks);
        let seen = before.into_iter().find(|old| old.is_same_place(&block)).map(|old| old.seen);
        self.list.note(DamagedBlock { seen: seen.unwrap_or(block.seen), ..block });
        if known.note(block) == Noted::NoRoom {
            self.turned_away = self.turned_away.saturating_add(1);
        }
    }

    /// It passed something by.
    pub(super) const fn pass_by(&mut self) {
        self.is_partial = true;
    }

    /// It came to its end: what was known before and was not met again is mended, or gone. What
    /// others met meanwhile stays. One that did not see everything knows nothing of that.
    pub(super) fn end(&self, known: &mut Known) {
        let Some(before) = self.before.as_ref().filter(|_| !self.is_partial) else { return };
        let is_among = |list: &DamageList, block: &DamagedBlock| {
            list.blocks().iter().any(|one| one.is_same_place(block))
        };
        let mut list = self.list.clone();
        for block in known.list.blocks() {
            if !is_among(before, block) {
                list.note(*block);
            }
        }
        if known.turned_away != self.turned_away {
            list.set_full(true);
        }
        known.replace(list);
    }
}

/// What a block is called that `blockref` refers to, in the inode `inum` of the PFS `pfs`.
pub(super) fn named(
    blockref: &Blockref,
    (pfs, inum): (u64, Inum),
    now: Option<WallTime>,
) -> DamagedBlock {
    let (first, last) = (blockref.key(), blockref.last_key());
    DamagedBlock {
        pfs,
        inum,
        kind: blockref.kind(),
        offset: first,
        len: (last - first).saturating_add(1),
        tid: blockref.mirror_tid(),
        seen: now.unwrap_or_default(),
    }
}

/// The PFS and the inode that a block belongs to, or is, by the keys of the inodes between it and
/// the super-root; `None` for the super-root itself.
pub(super) fn owner(above: Option<&[u64]>, blockref: &Blockref) -> (u64, Inum) {
    let is_inode = blockref.kind() == BlockKind::Inode;
    match above {
        Some([]) if is_inode => (blockref.key(), Inum::ROOT),
        Some([pfs]) if is_inode => (*pfs, Inum(blockref.key())),
        Some([pfs]) => (*pfs, Inum::ROOT),
        Some([pfs, inum, ..]) => (*pfs, Inum(*inum)),
        _ => (0, Inum(0)),
    }
}

impl Flusher {
    /// Blocks that are known to be good on no copy; `None` on a volume without copies.
    #[must_use]
    pub fn damage(&self) -> Option<&DamageList> {
        Some(self.lineage.as_ref()?.known.list())
    }

    /// Names a block that is good on no copy. The next commit makes that last.
    pub fn note_damage(&mut self, block: DamagedBlock) {
        if let Some(lineage) = &mut self.lineage {
            lineage.known.note(block);
        }
    }

    /// Whether the list of damage is another one than the headers say: a commit is due, even if
    /// nothing else was changed.
    #[must_use]
    pub fn has_new_damage(&self) -> bool {
        self.lineage.as_ref().is_some_and(|lineage| lineage.known.is_new())
    }
}

/// Forgets what is known to be damaged: the operator has seen to it, or wants to look anew. What was
/// changed is committed.
///
/// # Errors
/// [`Error::NotSupported`] on a volume without copies. Or the volume failed.
pub async fn clear_damage<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
) -> Result<(), MemberError> {
    check_alive(host)?;
    lineage_of(flusher)?;
    let lineage = flusher.lineage.as_mut().ok_or(Error::NotSupported)?;
    lineage.known.replace(DamageList::EMPTY);
    flush(host, flusher, true).await?;
    Ok(())
}
