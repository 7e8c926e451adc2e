//! A plan of repairs is carried out (see [`crate::repair`]).
//!
//! What is in use is marked before anything is written; then every repair is an ordinary change,
//! and all of them go to media with one commit, as far as memory for that is allowed: a power cut
//! leaves what was there before, or what is there after. Only header copies that no volume could
//! be opened by are written in place.

use alloc::format;
use alloc::vec::Vec;

use super::commit::Flusher;
use super::open::{load_freemap, memory_of, open_for_writing, open_root};
use super::solo::Solo;
use super::{Host, REUSE_DELAY, join_all};
use crate::dirty::Memory;
use crate::error::Error;
use crate::flush::{HeaderWriter, Writer};
use crate::freemap::Freemap;
use crate::fs::adopt::Adopt;
use crate::fs::correct::{Correct, Correction};
use crate::fs::{Create, Lookup, New, Pfs};
use crate::media::header::{HEADER_LEN, HEADER_SLOTS, HEADER_STRIDE};
use crate::media::inode::ObjectKind;
use crate::repair::{Action, Plan, Planner, Repair, RepairOptions, Search};
use crate::scan::{Check, CheckOptions, Finding, Step, Summary};
use crate::storage::Storage;
use crate::units::{DeviceIndex, Inum, WallTime};
use crate::volume::Volume;

/// Names that are tried for `lost+found`, and for what goes there.
const NAMES_TRIED: usize = 16;

/// What a check found, and what is to be done about it.
#[derive(Debug)]
pub struct Examined {
    /// Every finding.
    pub findings: Vec<Finding>,
    /// What they came to.
    pub summary: Summary,
    /// What is to be done.
    pub plan: Plan,
}

/// What repairs came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Repaired {
    /// How many were done.
    pub done: usize,
    /// Which were not, and why: indices into [`Plan::repairs`].
    pub failed: Vec<(usize, Error)>,
}

/// Checks `volume` and plans its repairs. Hosts with threads run the machines themselves.
pub async fn examine<H: Host>(
    host: &H,
    volume: &Volume,
    check: CheckOptions,
    options: RepairOptions,
) -> Examined {
    let mut check = Check::new(volume, check);
    let mut planner = Planner::new(volume, options);
    let mut findings = Vec::new();
    loop {
        let step = check.step();
        findings.extend(check.take_findings());
        match step {
            Step::Done => break,
            Step::Read(wants) => {
                check.resume(join_all(wants.iter().map(|want| host.fetch(want)).collect()).await);
            }
        }
    }
    for finding in &findings {
        planner.consider(finding);
    }
    let mut search = planner.search(&check);
    run_search(host, &mut search).await;
    let summary = check.summary();
    Examined { findings, summary, plan: planner.finish(&check, search) }
}

/// Lets a search run to its end.
pub async fn run_search<H: Host>(host: &H, search: &mut Search) {
    while let Step::Read(wants) = search.step() {
        search.resume(join_all(wants.iter().map(|want| host.fetch(want)).collect()).await);
    }
}

/// As [`open_for_writing`], with a freemap that `plan` puts right first.
pub(super) async fn open<H: Host>(
    host: &H,
    volume: &Volume,
    plan: &Plan,
) -> Result<(Flusher, Memory), Error> {
    if plan.doubt().is_some() {
        return Err(Error::ReadOnly);
    }
    let Some(marks) = plan.marks() else {
        // Nothing is known to be wrong with the freemap, but not everything is known.
        return open_for_writing(host, volume).await;
    };
    let header = volume.header();
    let mut freemap = Freemap::salvaged(
        header.total_size(),
        header.allocator_beg(),
        &header.raw().freemap_blockset,
        header.allocator_free(),
        REUSE_DELAY,
    )?;
    load_freemap(host, 0, &mut freemap, u64::MAX).await?;
    freemap.rebuild();
    freemap.keep(marks);
    for repair in plan.repairs() {
        match &repair.action {
            Action::RebuildFreemap(place) | Action::MoveFreemap(place) => {
                freemap.rewrite(place.key);
            }
            Action::CorrectSegment(segment) => freemap.correct(*segment),
            _ => {}
        }
    }
    if plan.changes_freemap() {
        freemap.recount_free(header.allocator_size());
    }
    let writer = Writer::new(freemap, header.mirror_tid(), *volume.checks());
    let memory = memory_of(volume, &writer);
    let flusher = Flusher::new(writer, HeaderWriter::new(header, volume.chosen_slot()));
    Ok((flusher, memory))
}

impl<S: Storage> Solo<S> {
    /// Carries out `plan`, by which it was [opened](Solo::open_for_repair). A repair that cannot be
    /// made is passed over.
    ///
    /// # Errors
    /// The volume failed: what was not committed before is as it was.
    pub async fn repair(&self, plan: &Plan, now: WallTime) -> Result<Repaired, Error> {
        let mut outcome = Repaired::default();
        for (index, repair) in plan.repairs().iter().enumerate() {
            match self.repair_one(plan, repair, now).await {
                Ok(()) => outcome.done += 1,
                Err(error) => outcome.failed.push((index, error)),
            }
            if let Some(error) = self.with_memory(|memory| memory.and_then(Memory::failed)) {
                return Err(error);
            }
        }
        if outcome.done == 0 {
            return Ok(outcome);
        }
        // a super-root of which only tables are to be summed up has no other change
        self.flush(true).await?;
        if plan.rewrites_headers() {
            for _ in 1..HEADER_SLOTS {
                self.flush(true).await?;
            }
        }
        for repair in plan.repairs() {
            if let Action::RewriteHeader { device, slot, .. } = repair.action
                && device != self.volume().root_device()
            {
                self.copy_header(device, slot).await?;
            }
        }
        Ok(outcome)
    }

    async fn repair_one(&self, plan: &Plan, repair: &Repair, now: WallTime) -> Result<(), Error> {
        let what = match &repair.action {
            // done when the volume was opened, and by the commit
            Action::MarkAllocated { .. }
            | Action::RebuildFreemap(_)
            | Action::MoveFreemap(_)
            | Action::CorrectSegment(_)
            | Action::RewriteHeader { .. } => return Ok(()),
            Action::ReserveNumbers { next } => Correction::NextNumber(*next),
            Action::SetRoot => Correction::Root,
            Action::ClearRootFlag(inum) => Correction::NoRoot { inum: *inum },
            Action::SetLinks { inum, counted, .. } => {
                Correction::Links { inum: *inum, count: u64::from(*counted) }
            }
            Action::SetKind(name) => Correction::Kind { directory: name.directory, key: name.key },
            Action::RemoveName(name) => {
                Correction::NoName { directory: name.directory, key: name.key }
            }
            Action::Delete(inum) => Correction::NoInode { inum: *inum },
            Action::Recount { inum, place } => match inum {
                Some(inum) if place.kind == crate::error::BlockKind::Inode => {
                    Correction::Sums { inum: *inum }
                }
                Some(inum) => Correction::SumsBelow { inum: *inum, key: place.key },
                // any root below it takes the tables that lead there along
                None => {
                    let root = plan.root_at(place.key).ok_or(Error::NoPfs)?;
                    return self
                        .correct(Pfs::new(*root), Correction::Sums { inum: Inum::ROOT })
                        .await;
                }
            },
            Action::Attach(inum) => {
                let pfs = self.open_planned(plan, repair).await?;
                return self.attach(pfs, *inum, now).await;
            }
        };
        let pfs = self.open_planned(plan, repair).await?;
        self.change(&Correct { pfs, what }).await
    }

    async fn correct(&self, pfs: Pfs, what: Correction) -> Result<(), Error> {
        open_root(self, pfs).await?;
        self.change(&Correct { pfs, what }).await
    }

    async fn open_planned(&self, plan: &Plan, repair: &Repair) -> Result<Pfs, Error> {
        let root = repair.pfs.and_then(|pfs| plan.root(pfs)).ok_or(Error::NoPfs)?;
        let pfs = Pfs::new(*root);
        open_root(self, pfs).await?;
        Ok(pfs)
    }

    /// Gives `inum` a name in `lost+found`.
    async fn attach(&self, pfs: Pfs, inum: Inum, now: WallTime) -> Result<(), Error> {
        let directory = self.lost_found(pfs, now).await?;
        for number in 0..NAMES_TRIED {
            let name = match number {
                0 => format!("#{}", inum.0),
                more => format!("#{}.{more}", inum.0),
            };
            let adopt = Adopt { pfs, inum, directory, name: name.into_bytes(), now };
            match self.change(&adopt).await {
                Err(Error::Exists) => {}
                other => return other,
            }
        }
        Err(Error::Exists)
    }

    async fn lost_found(&self, pfs: Pfs, now: WallTime) -> Result<Inum, Error> {
        for number in 0..NAMES_TRIED {
            let name = match number {
                0 => "lost+found".into(),
                more => format!("lost+found.{more}"),
            };
            let (name, directory) = (name.into_bytes(), Inum::ROOT);
            let lookup = Lookup { pfs, directory, name: name.clone() };
            match self.run(&lookup).await {
                Ok(found) if found.kind == ObjectKind::Directory => return Ok(found.inum),
                Ok(_) => {}
                Err(Error::NoEntry) => {
                    let (new, mode) = (New::Directory, 0o700);
                    let create = Create { pfs, directory, name, new, mode, uid: 0, gid: 0, now };
                    return self.change(&create).await.map(|made| made.inum);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Exists)
    }

    /// Headers of other volumes than the root's never change: a damaged copy becomes what the good
    /// one is.
    async fn copy_header(&self, device: DeviceIndex, slot: u8) -> Result<(), Error> {
        let chosen = self.volume().header_slots().iter();
        let chosen = chosen.clone().find(|one| one.is_chosen && one.device == device);
        let from = u64::from(chosen.ok_or(Error::ReadOnly)?.slot) * HEADER_STRIDE;
        let bytes = self.storage().read(device, from, HEADER_LEN).await?;
        self.storage().write(device, u64::from(slot) * HEADER_STRIDE, &bytes).await?;
        Ok(self.storage().barrier(device).await?)
    }
}
