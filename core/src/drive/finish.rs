//! The end of a commit: the freemaps, a barrier, the headers, a barrier (media format 9.2).
//!
//! With copies this is also where a copy that failed meanwhile is left behind (copies 3.3): behind
//! the first barrier it is known who has everything of this commit. Who has not is in no header that
//! is written from then on, and the headers say so in a new epoch, before anybody is told that what
//! he wrote will last. Nothing is kept for a copy that was left behind.

use alloc::sync::Arc;
use alloc::vec::Vec;

use zerocopy::FromZeros;

use super::change::{Origin, WriteHost};
use super::commit::Flusher;
use super::convert::{may_be_without_copies, without_copies};
use super::damage::Known;
use super::witness::{is_heard, tell};
use crate::copies::epoch::{may_continue, may_mount};
use crate::copies::lineage::{Decision, Mint};
use crate::copies::mutations::Rule;
use crate::copies::witness::Told;
use crate::copies::{CopyGroup, CopySet, Rules, Runtime, TransitionFault, WitnessPlace};
use crate::error::Error;
use crate::flush::{Bytes, Piece, Roots, Writer, valid};
use crate::media::copy_group::{COPIES_MAX, Cause};
use crate::media::raw::RawBlockref;
use crate::units::{Tid, WallTime};
use crate::volume::LiveCopies;

/// Which copies there are, and how they came to be what they are.
#[derive(Debug)]
pub struct Lineage {
    group: CopyGroup,
    /// The epoch that the next commit begins, if it does.
    pending: Option<Mint>,
    /// What the witness was told.
    pub(super) told: Told,
    /// A member has no header of the state that the volume was opened with.
    is_lagging: bool,
    /// The rule before this commit, which changes it.
    old_rule: Option<Runtime>,
    /// The members of the epochs that may be the newest ones that a copy's media know of.
    known_epochs: [u8; 2],
    /// The next header may say that there are no copies any more.
    is_ending: bool,
    /// The headers say that there are no copies any more.
    is_stripped: bool,
    /// What went wrong of late, for each copy.
    spells: [Spell; COPIES_MAX],
    live: Arc<LiveCopies>,
    /// What the next header says is good on no copy.
    pub(super) known: Known,
    /// It was opened without members that may have gone on, by the operator's word.
    pub(super) is_accepted: bool,
}

impl Lineage {
    /// As `decision` found it.
    pub(super) fn of(decision: &Decision, live: &Arc<LiveCopies>, known: Known) -> Self {
        let lineage = Self::new(
            decision.group.clone(),
            (decision.mint, decision.told),
            (decision.lagging != 0, decision.uninformed != 0),
            Arc::clone(live),
            known,
        );
        Self { is_accepted: decision.is_accepted, ..lineage }
    }

    pub(super) fn new(
        mut group: CopyGroup,
        (pending, told): (Option<Mint>, Told),
        (is_lagging, is_uninformed): (bool, bool),
        live: Arc<LiveCopies>,
        known: Known,
    ) -> Self {
        // the number of the next flush: the last one that was found has its own
        group.flush_seq = group.flush_seq.saturating_add(1);
        let (is_ending, is_stripped) = (false, false);
        let spells = core::array::from_fn(|copy| {
            Spell::new(Faults::of(&live, u8::try_from(copy).unwrap_or(u8::MAX)))
        });
        let is_accepted = pending.is_some_and(|mint| mint.is_accepted);
        let known_epochs = known_epochs(&group, is_uninformed, is_accepted);
        let old_rule = None;
        let lineage = Self {
            group,
            pending,
            told,
            is_lagging,
            old_rule,
            known_epochs,
            is_ending,
            is_stripped,
            spells,
            live,
            known,
            is_accepted: false,
        };
        lineage.tell_rules();
        lineage
    }

    /// Everybody who waits for a device has to know whether it can be done without.
    fn tell_rules(&self) {
        let (runtime, members) = (self.group.policy.runtime, self.group.epoch.members);
        self.live.set_rules(runtime, members, self.group.min_copies);
    }

    /// Whether a commit has to follow the opening even if nothing is changed: what the volume shows
    /// is on a part of its members only, and the next who asks for it to last is told that it does.
    #[must_use]
    pub const fn is_lagging(&self) -> bool {
        self.is_lagging
    }

    /// Whether the media hold a volume without copies by now: it was
    /// [stripped](super::convert::strip).
    #[must_use]
    pub const fn is_stripped(&self) -> bool {
        self.is_stripped
    }

    /// Whether the next header may say that there are no copies any more.
    pub(super) const fn set_ending(&mut self, is_ending: bool) {
        self.is_ending = is_ending;
    }

    /// What the next header says of copies.
    #[must_use]
    pub const fn group(&self) -> &CopyGroup {
        &self.group
    }

    /// Which copies there are, and what of theirs counts.
    #[must_use]
    pub fn set(&self) -> CopySet {
        CopySet::of(&self.group)
    }

    /// `copies` failed in the midst of the commit `tid`: what was sent to them since the last one
    /// may not be there, though tables may say so (T1).
    ///
    /// # Errors
    /// [`Error::Halted`]: by the rules of the group, those that are left may not go on.
    fn eject(&mut self, copies: u8, faulty: u8, origin: Origin, tid: Tid) -> Result<(), Error> {
        if !self.may_lose(copies) {
            return Err(Error::Halted);
        }
        let group = &mut self.group;
        for copy in each(copies) {
            let barrier = group.slot(copy).map_or(Tid(0), |slot| slot.barrier_tid);
            // a copy that is attached can be ejected
            group.eject(copy, barrier, faulty & 1 << copy != 0).map_err(|_| Error::Halted)?;
        }
        self.begin(Cause::Ejected, origin, tid)
    }

    /// Whether the volume may go on without `copies`, by the rules of the group and with as many
    /// copies as it wants.
    fn may_lose(&self, copies: u8) -> bool {
        let group = &self.group;
        let members = group.epoch.members;
        // while the rule changes, what was allowed before has to be allowed as well: who did not
        // get this header goes by the old one
        let rules = [Some(group.policy.runtime), self.old_rule];
        let left = group.in_sync() & !copies;
        let is_enough =
            group.in_sync() & copies == 0 || left.count_ones() >= u32::from(group.min_copies);
        // and as long as this epoch is on nobody's media for sure, the others go by the one that they
        // know: they must not be enough by that
        let others_may = |rule| {
            let known = self.known_epochs.into_iter().filter(|members| *members != 0);
            known.into_iter().any(|known| may_mount(rule, known, known & !left))
        };
        is_enough
            && rules
                .into_iter()
                .flatten()
                .all(|rule| may_continue(rule, members, left) && !others_may(rule))
    }

    /// Copies that had too many faults of late, as far as the volume can do without them: one with bad
    /// blocks is better than none (copies 3.4, R5). `lost` are left behind anyway.
    fn faulty(&mut self, lost: u8, now: WallTime) -> u8 {
        let mut faulty = 0;
        for copy in each(self.group.in_sync() & !lost) {
            let faults = Faults::of(&self.live, copy);
            let Some(spell) = self.spells.get_mut(usize::from(copy)) else { continue };
            let is_over = spell.goes_over(faults, now);
            if is_over && self.may_lose(lost | faulty | 1 << copy) {
                faulty |= 1 << copy;
            }
        }
        faulty
    }

    /// Whether anything went wrong since [`faulty`](Self::faulty) looked.
    fn has_new_faults(&self) -> bool {
        let copies = (0..).zip(&self.spells);
        copies.into_iter().any(|(copy, spell)| spell.is_news(Faults::of(&self.live, copy)))
    }

    /// What happened to copies goes into their record.
    fn keep_counters(&mut self) {
        for (copy, slot) in (0..).zip(&mut self.group.slots) {
            if slot.state.is_configured() {
                slot.counters = self.live.totals(copy);
            }
        }
    }

    /// `copies` have everything from the commit `tid` on.
    pub(super) fn join(&mut self, copies: u8, origin: Origin, tid: Tid) -> Result<(), Error> {
        for copy in each(copies) {
            self.group.joined(copy, Tid(tid.0 - 1)).map_err(|_| Error::Busy)?;
            if let Some(spell) = self.spells.get_mut(usize::from(copy)) {
                // what went wrong before it was left behind led to that already
                *spell = Spell::new(Faults::of(&self.live, copy));
            }
        }
        self.begin(Cause::Joined, origin, tid)?;
        self.live.set(&self.set());
        Ok(())
    }

    /// Changes the record of the group.
    ///
    /// # Errors
    /// What `change` says; nothing has changed then.
    pub(super) fn change(
        &mut self,
        change: impl FnOnce(&mut CopyGroup) -> Result<(), TransitionFault>,
    ) -> Result<(), TransitionFault> {
        let mut group = self.group.clone();
        change(&mut group)?;
        self.group = group;
        self.tell_rules();
        Ok(())
    }

    /// Begins an epoch, if the copies in sync are others than before.
    pub(super) fn begin(&mut self, cause: Cause, origin: Origin, tid: Tid) -> Result<(), Error> {
        if !self.group.needs_epoch() {
            return Ok(());
        }
        let before = self.group.epoch.members;
        self.group.begin(cause, &origin.stamp(tid)).map_err(|_| Error::Halted)?;
        self.told.note(before, self.group.epoch.members);
        self.tell_rules();
        Ok(())
    }

    /// Keeps where the devices of copies are seen; whether that is new.
    pub(super) fn set_hints(&mut self, hints: &[(u8, Vec<u8>)]) -> bool {
        let mut is_new = false;
        for (copy, hint) in hints {
            if let Some(slot) = self.group.slots.get_mut(usize::from(*copy)) {
                let before = slot.hint.clone();
                slot.set_hint(hint);
                is_new |= slot.hint != before;
            }
        }
        is_new
    }

    /// Begins an epoch with other rules.
    pub(super) fn change_rules(
        &mut self,
        rules: Rules,
        origin: Origin,
        tid: Tid,
    ) -> Result<(), TransitionFault> {
        let mut group = self.group.clone();
        group.set_rules(rules)?;
        group.begin(Cause::Policy, &origin.stamp(tid))?;
        self.old_rule = Some(self.group.policy.runtime);
        self.group = group;
        Ok(())
    }

    /// Begins an epoch with another witness.
    pub(super) fn change_witness(
        &mut self,
        witness: Option<WitnessPlace>,
        origin: Origin,
        tid: Tid,
    ) -> Result<(), TransitionFault> {
        self.change(|group| {
            group.set_witness(witness);
            group.begin(Cause::Policy, &origin.stamp(tid))
        })
    }

    /// Keeps where the witness is; whether that is new.
    pub(super) fn set_witness_place(&mut self, place: &[u8]) -> bool {
        let witness = WitnessPlace::new(self.group.witness.id, place);
        let is_new = self.group.policy.witness && witness != self.group.witness;
        if is_new {
            self.group.witness = witness;
        }
        is_new
    }

    /// The copy that gets the right to write by this commit.
    fn heir(&self) -> Option<u8> {
        match (self.old_rule?, self.group.policy.runtime) {
            (old, new @ Runtime::Holder(slot)) if old != new => Some(slot),
            _ => None,
        }
    }

    fn committed(&mut self, tid: Tid) {
        let attached = self.set().attached();
        self.known.committed();
        self.old_rule = None;
        self.known_epochs = [self.group.epoch.members, 0];
        self.is_lagging = false;
        self.group.flush_seq = self.group.flush_seq.saturating_add(1);
        let (in_sync, time) = (self.group.in_sync(), self.group.commit_time);
        for (copy, slot) in (0_u8..).zip(&mut self.group.slots) {
            if in_sync & 1 << copy != 0 {
                slot.root_time = time;
            }
            if attached & 1 << copy != 0 {
                slot.barrier_tid = tid;
            }
        }
    }

    /// The copies that everybody shares.
    #[must_use]
    pub fn live(&self) -> &LiveCopies {
        &self.live
    }

    pub(super) const fn shared(&self) -> &Arc<LiveCopies> {
        &self.live
    }
}

/// What went wrong with a copy within some minutes.
#[derive(Clone, Copy, Debug)]
struct Spell {
    /// When it began, if anything happened.
    began: Option<WallTime>,
    /// What had happened before.
    before: Faults,
    /// What had happened when it was looked at last.
    seen: Faults,
}

/// What a copy may do a few times and not often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Faults {
    /// Blocks that were bad, each once: those that had to be written again.
    bad: u64,
    /// Those of them that came back as something else.
    writes: u64,
}

impl Faults {
    const NONE: Self = Self { bad: 0, writes: 0 };

    fn of(live: &LiveCopies, copy: u8) -> Self {
        let totals = live.totals(copy);
        let bad = totals.healed.saturating_add(totals.relocated);
        Self { bad, writes: live.unhealed(copy) }
    }
}

impl Spell {
    const fn new(now: Faults) -> Self {
        Self { began: None, before: now, seen: now }
    }

    fn is_news(&self, faults: Faults) -> bool {
        faults != self.seen
    }

    /// Whether too much went wrong since it began; it begins anew if that was long ago.
    fn goes_over(&mut self, faults: Faults, now: WallTime) -> bool {
        if faults.bad < self.seen.bad || faults.writes < self.seen.writes {
            // they were reset
            *self = Self::new(Faults::NONE);
        }
        // a clock that was put back tells nothing of how long ago it was
        if self.began.is_none_or(|began| now.0.abs_diff(began.0) > SPELL_MICROSECONDS) {
            (self.began, self.before) = (Some(now), self.seen);
        }
        self.seen = faults;
        faults.bad - self.before.bad >= BAD_MAX || faults.writes - self.before.writes >= WRITES_MAX
    }
}

/// Bad blocks of a copy within a spell with which it is left behind (copies 3.4, R5).
const BAD_MAX: u64 = 32;
/// Blocks that may come back from a copy as something else than was just written, within a spell.
const WRITES_MAX: u64 = 3;
/// How long a spell is: ten minutes.
const SPELL_MICROSECONDS: u64 = 10 * 60 * 1_000_000;

/// The members of the epochs by which copies go that do not get the next header: the one that was
/// found, and the one before it if a crash caught a member before it got the header that tells of it.
/// Whoever was left out by the operator's word may go on by that as well, and does not count.
fn known_epochs(group: &CopyGroup, is_uninformed: bool, is_accepted: bool) -> [u8; 2] {
    let before = group.past.first().filter(|_| is_uninformed).map_or(0, |epoch| epoch.members);
    let counted = if is_accepted { group.in_sync() } else { u8::MAX };
    [group.epoch.members & counted, before & counted]
}

/// The copies in a mask.
fn each(copies: u8) -> impl Iterator<Item = u8> {
    (0..8).filter(move |copy| copies & 1 << copy != 0)
}

/// What a copy's header will say of its freemap.
struct Sealed {
    copy: u8,
    freemap: [RawBlockref; 4],
    free_bytes: u64,
}

/// Makes the commit `tid` true: everything before this was written, but nobody refers to it.
pub(super) async fn finish<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    super_root: &RawBlockref,
    tid: Tid,
) -> Result<(), Error> {
    host.keep(flusher.writer.take_placed());
    host.write(flusher.writer.take_pieces()).await?;
    let sealed = seal_freemaps(host, &mut flusher.writer, super_root, tid).await?;
    restore_torn(host, flusher).await?;
    begin_pending(host, flusher, tid)?;
    if let Some(lineage) = &mut flusher.lineage {
        lineage.group.commit_time = host.time().unwrap_or_default();
    }
    if let Some(lineage) = &mut flusher.lineage
        && lineage.is_ending
        && may_be_without_copies(super_root)
    {
        lineage.is_stripped = true;
    }
    leave_what_lacks(flusher, super_root);
    advance(flusher, super_root, &sealed, tid);
    loop {
        if let Some(lineage) = &mut flusher.lineage {
            lineage.keep_counters();
        }
        tell(host, flusher, tid).await?;
        name_copies(flusher);
        write_shadows(host, flusher).await?;
        host.barrier().await?;
        if eject_lost(host, flusher, tid).await? {
            continue;
        }
        if let Some(heir) = flusher.lineage.as_ref().and_then(Lineage::heir) {
            // whoever had the right knows that it is gone before somebody else has it
            write_headers(host, flusher, !(1 << heir)).await?;
            host.barrier().await?;
            if eject_lost(host, flusher, tid).await? {
                continue;
            }
        }
        write_headers(host, flusher, u8::MAX).await?;
        host.barrier().await?;
        if !eject_lost(host, flusher, tid).await? || Rule::EpochFirst.is_off() {
            break;
        }
    }
    for (_, freemap) in flusher.writer.freemaps_mut() {
        freemap.committed();
    }
    for (_, header) in &mut flusher.headers {
        header.committed();
    }
    flusher.left.clear();
    if let Some(lineage) = &mut flusher.lineage {
        lineage.committed(tid);
    }
    Ok(())
}

async fn seal_freemaps<H: WriteHost>(
    host: &H,
    writer: &mut Writer,
    super_root: &RawBlockref,
    tid: Tid,
) -> Result<Vec<Sealed>, Error> {
    let modify = Tid(super_root.modify_tid.get());
    let checks = *writer.checks();
    let mut all = Vec::new();
    let mut pieces = Vec::new();
    for (copy, freemap) in writer.freemaps_mut() {
        let sealed = freemap.seal(tid, modify, &checks);
        pieces.extend(sealed.blocks.into_iter().map(|(offset, bytes)| Piece {
            copy,
            offset,
            bytes: Bytes::Owned(bytes),
        }));
        all.push(Sealed { copy, freemap: sealed.root, free_bytes: freemap.free_bytes() });
    }
    host.write(pieces).await?;
    Ok(all)
}

/// A copy in sync that is not given the root, such as for want of room, cannot have a header that refers
/// to it: it is left behind like one that failed, and brought up to date again.
fn leave_what_lacks(flusher: &Flusher, super_root: &RawBlockref) {
    let (Some(set), Some(lineage)) = (flusher.writer.copies(), &flusher.lineage) else { return };
    let lacking = set.in_sync() & !valid(set, super_root);
    if lacking != set.in_sync() {
        each(lacking).for_each(|copy| lineage.live.lose(copy));
    }
}

/// A header that its shadow had to stand for is made whole before the shadow is written over.
async fn restore_torn<H: WriteHost>(host: &H, flusher: &mut Flusher) -> Result<(), Error> {
    let mut is_torn = false;
    for (copy, header) in &mut flusher.headers {
        if let Some(bytes) = header.take_torn() {
            is_torn = true;
            host.write_header(*copy, 0, bytes).await?;
        }
    }
    if is_torn { host.barrier().await } else { Ok(()) }
}

/// Puts into every header what it will say. A copy that is not in sync keeps the root that it has:
/// what hangs there is whole, while what it is getting is not yet (copies 3.7).
fn advance(flusher: &mut Flusher, super_root: &RawBlockref, sealed: &[Sealed], tid: Tid) {
    let in_sync = flusher.writer.copies().map_or(1, CopySet::in_sync);
    for (copy, header) in &mut flusher.headers {
        let Some(sealed) = sealed.iter().find(|sealed| sealed.copy == *copy) else {
            continue;
        };
        let own = header.super_root().copied();
        // a copy that was added has none yet
        let own = own.unwrap_or_else(RawBlockref::new_zeroed);
        let is_advanced = in_sync & 1 << *copy != 0 || Rule::FallbackRoot.is_off();
        let root = if is_advanced { *super_root } else { own };
        let (freemap, free_bytes) = (&sealed.freemap, sealed.free_bytes);
        header.next(Roots { super_root: &root, freemap, free_bytes, tid });
    }
}

/// The headers that can be torn without there being another one have a shadow.
async fn write_shadows<H: WriteHost>(host: &H, flusher: &mut Flusher) -> Result<(), Error> {
    let checks = *flusher.writer.checks();
    for (copy, header) in flusher.headers.iter_mut().filter(|(_, header)| header.is_single()) {
        for (offset, bytes) in header.shadow_changes(&checks) {
            host.write_header(*copy, offset, bytes).await?;
        }
    }
    Ok(())
}

async fn write_headers<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    copies: u8,
) -> Result<(), Error> {
    let checks = *flusher.writer.checks();
    for (copy, header) in flusher.headers.iter_mut().filter(|(copy, _)| copies & 1 << copy != 0) {
        for (offset, bytes) in header.changes(&checks) {
            host.write_header(*copy, offset, bytes).await?;
        }
    }
    Ok(())
}

/// Has the headers say what is known of copies.
fn name_copies(flusher: &mut Flusher) {
    let checks = *flusher.writer.checks();
    let Some(lineage) = &flusher.lineage else { return };
    for (copy, header) in &mut flusher.headers {
        let raw = header.raw_mut();
        if lineage.is_stripped {
            without_copies(raw, &checks);
        } else if let Some(group) = lineage.group.for_slot(*copy) {
            group.put(raw, &checks);
            lineage.known.list().put(raw, &checks);
        }
    }
}

/// The epoch that the opening made necessary begins with the first commit.
fn begin_pending<H: WriteHost>(host: &H, flusher: &mut Flusher, tid: Tid) -> Result<(), Error> {
    if let Some(lineage) = &mut flusher.lineage
        && let Some(mint) = lineage.pending.take()
    {
        lineage.begin(mint.cause, host.origin().ok_or(Error::ReadOnly)?, tid)?;
        if mint.is_accepted {
            lineage.told.forgive();
        }
    }
    Ok(())
}

/// Leaves behind the copies that did not take everything; whether there were any.
async fn eject_lost<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    tid: Tid,
) -> Result<bool, Error> {
    let Some(lineage) = &mut flusher.lineage else {
        return Ok(false);
    };
    let lost = lineage.live.lost() & CopySet::of(&lineage.group).attached();
    let mut faulty = match lineage.has_new_faults() {
        true => host.origin().map_or(0, |origin| lineage.faulty(lost, origin.time)),
        false => 0,
    };
    // nobody is left behind by choice whom the witness would not hear of
    if faulty != 0 && !is_heard(host, lineage, Tid(tid.0 - 1)).await {
        faulty = 0;
    }
    let lost = lost | faulty;
    if lost == 0 {
        return Ok(false);
    }
    let origin = host.origin().ok_or(Error::ReadOnly)?;
    lineage.eject(lost, faulty, origin, tid)?;
    lineage.keep_counters();
    let set = lineage.set();
    lineage.live.set(&set);
    lineage.live.settle(lost);
    let left = flusher.headers.extract_if(.., |(copy, _)| lost & 1 << *copy != 0);
    flusher.left.extend(left);
    flusher.writer.set_copies(set);
    Ok(true)
}
