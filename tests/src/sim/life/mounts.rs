//! The volume is left, in whatever way, and mounted again.

use farrier_core::copies::epoch::may_continue;
use farrier_core::copies::lineage::{self, Decision, Note};
use farrier_core::copies::{CopyState, OnMissing, Runtime};
use farrier_core::drive::change::Origin;
use farrier_core::error::{Error, Refusal};
use farrier_core::units::{DeviceIndex, Uuid, WallTime};
use farrier_core::volume::OpenOptions;

use super::super::bay::Bay;
use super::super::media::{open, record_on, try_open};
use super::{Life, START, Stop, Tree, each};
use crate::against::compare_all;
use crate::host::TestHost;
use crate::model::Model;
use crate::rack::Mode;
use crate::writing::WritingHost;

impl Life {
    /// The volume is left as it is, and mounted with the disks that are there.
    pub(super) fn remount(&mut self) -> Result<(), Stop> {
        if self.random.once_in(2) {
            self.commit(false)?;
        }
        if self.bay.is_dark() {
            // it may have met what is of no account, such as a last word to a copy that left
            return Err(Stop::Dark);
        }
        self.settle()?;
        Ok(())
    }

    /// Mounts what there is, after it was left in whatever state.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.bay.switch_now();
        self.host = None;
        self.scan = None;
        // what was held back by a cache is not lost by a mere unmounting
        self.stale_mounts()?;
        let fine = self.shown_mask(|disk| self.bay.mode(disk) == Mode::Fine);
        self.mount(fine)
    }

    pub(super) fn power_cut(&mut self) -> Result<(), String> {
        self.ran.cuts += 1;
        self.host = None;
        self.bay.power_cycle();
        self.settle()
    }

    /// The copies that are left may not go on by the rule of the group (I16): the others are made to
    /// work.
    pub(super) fn halted(&mut self) -> Result<(), String> {
        let members = self.in_sync();
        let lost = self.host().volume().copies().map_or(0, |live| live.lost());
        let left = members & self.fine() & !lost & !self.victim();
        let (rule, line) = (self.runtime(), self.line);
        // a copy that has just joined may not go on without those of before: they may not know of it
        if may_continue(rule, members, left) && may_continue(rule, line, left & line) {
            return Err(format!("I16: halted, though {left:b} of {members:b} may go on"));
        }
        self.ran.halts += 1;
        self.bay.switch_now();
        each(self.all()).for_each(|disk| self.bay.set(disk, Mode::Fine));
        self.settle()
    }

    pub(super) fn mount(&mut self, shown: u8) -> Result<(), String> {
        self.ran.mounts += 1;
        // a disk that lied may have no header left: it is not named then
        let has_header = |disk: u8| {
            let alone = lineage::Options { only_copy: Some(disk), ..Default::default() };
            self.victim() & 1 << disk == 0 || open(&self.bay.show(1 << disk).fork(), alone).is_ok()
        };
        let shown = shown & self.shown_mask(|disk| has_header(disk) && self.has_headers(disk));
        self.shown = shown;
        self.view = self.bay.show(shown);
        let bay = self.view.clone();
        let (looked, copies) = self.met(&bay.fork())?;
        self.tell(|| format!("mounts {shown:b} {copies:?}"));
        self.adopt(&looked)?;
        let mut copies = copies;
        let mut opened = self.opened(&bay, copies);
        if opened.is_err() && shown & self.victim() != 0 && !copies.accept_missing {
            // its root could be read when it was looked at, and could not now
            copies.accept_missing = true;
            self.is_parted |= self.plan.policy.runtime != Runtime::Any;
            opened = self.opened(&bay, copies);
        }
        let host = opened.map_err(|error| format!("mounting {shown:b}: {error:?}"))?;
        if host.volume().header().mirror_tid() != looked.volume().header().mirror_tid() {
            // nor its root of a commit that nobody was told of
            let others = self.bay.show(shown & !self.victim()).fork();
            let copies = lineage::Options { accept_missing: true, ..copies };
            self.adopt(&open(&others, copies)?)?;
        }
        self.time += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&(self.time + 1).to_le_bytes());
        host.set_origin(Origin { id, host: Uuid([7; 16]), time: WallTime(START + self.time) });
        self.host = Some(host);
        // who was taken away is no part of it any more
        self.shown &= self.configured();
        if copies.accept_missing || copies.master.is_some() {
            self.line = self.in_sync();
        }
        Ok(())
    }

    fn configured(&self) -> u8 {
        self.host().with_flusher(|flusher| {
            let group = flusher.and_then(|flusher| flusher.lineage()).map(|one| one.group());
            group.map_or(0, |group| group.slots_where(CopyState::is_configured))
        })
    }

    fn opened(&self, bay: &Bay, copies: lineage::Options) -> Result<WritingHost<Bay>, Error> {
        let options = OpenOptions { copies, ..OpenOptions::default() };
        WritingHost::with(bay.clone(), options, self.plan.cache)
    }

    /// What is there, and what the operator has to say so that it may be written.
    fn met(&mut self, bay: &Bay) -> Result<(TestHost<Bay>, lineage::Options), String> {
        let mut copies = lineage::Options::default();
        let is_any = self.plan.policy.runtime == Runtime::Any;
        for _ in 0..8 {
            match try_open(bay, copies) {
                Ok(looked) => {
                    let decision = looked.volume().group().ok_or("no copies")?.decision();
                    match decision.writable {
                        Ok(()) => return Ok((looked, copies)),
                        Err(why) if copies.accept_missing => return Err(format!("{why:?}")),
                        Err(_) => {}
                    }
                }
                Err(Error::Refused(Refusal::Copies { code: "FC-S10" }))
                    if !copies.accept_missing => {}
                Err(Error::Refused(Refusal::Copies { code: "FC-S01" }))
                    if copies.master.is_none() && (self.is_parted || !is_any) =>
                {
                    copies.master = self.side(bay, copies);
                    self.is_parted = true;
                    continue;
                }
                Err(error) => return Err(format!("{error:?}")),
            }
            self.ran.accepted += 1;
            self.is_parted |= !is_any || self.is_any_ahead();
            copies.accept_missing = true;
        }
        Err("it cannot be mounted".into())
    }

    /// A disk that is not shown knows an epoch that none of the others does: power went, or the group
    /// halted, while it was written, and nobody was told of it.
    fn is_any_ahead(&self) -> bool {
        let record = |disk| record_on(&self.bay.view_of(disk));
        let here: Vec<_> = each(self.shown).filter_map(record).collect();
        each(self.ever & !self.shown).filter_map(record).any(|away| {
            let (id, slot) = (away.epoch.id, away.self_slot);
            !here.iter().any(|one| one.knows(id, slot))
        })
    }

    /// A side of a split that has everything: power went while a new epoch was written.
    fn side(&self, bay: &Bay, copies: lineage::Options) -> Option<u8> {
        each(self.shown).find(|slot| {
            // members may be missing on that side as well
            let chosen = lineage::Options { master: Some(*slot), accept_missing: true, ..copies };
            let now = || [&self.acked].into_iter().chain(&self.maybe);
            open(bay, chosen).is_ok_and(|host| now().any(|one| compare_all(&host, one).is_ok()))
        })
    }

    /// I1 and I2: what is visible is what was acknowledged last, or a later flush. Which one it is
    /// lasts only with the next commit.
    pub(super) fn adopt(&mut self, host: &TestHost<Bay>) -> Result<(), String> {
        let mut wrong = String::new();
        for trees in [&self.acked].into_iter().chain(self.maybe.iter().rev()) {
            match compare_all(host, trees) {
                Ok(()) => {
                    let tree = |(label, model): (&Vec<u8>, &Model)| {
                        (label.clone(), Tree { pfs: None, model: model.clone() })
                    };
                    self.trees = trees.iter().map(tree).collect();
                    return Ok(());
                }
                Err(error) => wrong = format!("{wrong}\n{error}"),
            }
        }
        Err(format!("I1: neither of the states that may be there: {wrong}"))
    }

    /// I13: who may be written unasked has all that was acknowledged, unless the operator let others
    /// go on without it. I2 for those that may only be read.
    pub(super) fn stale_mounts(&mut self) -> Result<(), String> {
        for mask in 1..=self.all() {
            let bay = self.bay.show(mask).fork();
            let Ok(host) = open(&bay, lineage::Options::default()) else { continue };
            let group = host.volume().group().ok_or("no copies")?;
            let is_writable = group.decision().writable.is_ok();
            let now = [&self.acked].into_iter().chain(&self.maybe);
            let mut past = now.clone().chain(self.history.iter().rev());
            // by the rule of a holder or a majority, one that lies may be left alone with what it lost
            let bad = self.victim() | self.old | self.lost;
            // so may it with those that its record, the newest, takes for gone
            let standing = mask & self.line & !bad & !set_aside(group.decision(), mask);
            let is_doubtful = mask & bad != 0 && standing == 0;
            if is_doubtful || mask & !bad == 0 {
                continue;
            }
            let may_be_old = self.is_parted && mask & self.line & !self.lost == 0
                || self.plan.policy.on_missing == OnMissing::Accept;
            if is_writable && !may_be_old {
                let mut now = now.map(|trees| compare_all(&host, trees));
                let first = now.next().unwrap_or(Ok(()));
                if first.is_err() && !now.any(|same| same.is_ok()) {
                    let who = self.told_headers(&host);
                    return Err(format!("I13: {mask:b} may be written: {who}: {first:?}"));
                }
            } else if mask & bad == 0
                && self.random.once_in(4)
                && !past.any(|trees| compare_all(&host, trees).is_ok())
            {
                return Err(format!("I2: {mask:b} shows what never was a flush"));
            }
        }
        Ok(())
    }

    /// What decides who is believed, for messages.
    fn told_headers(&self, host: &TestHost<Bay>) -> String {
        let Some(group) = host.volume().group() else { return String::new() };
        let decision = group.decision();
        let headers = group.headers().iter().map(|one| {
            let record = one.header.copy_group().ok();
            let flush = record.map(|group| (group.flush_seq, group.epoch.seq));
            format!("copy {}: {:?}, flush and epoch {flush:?}", one.copy, one.header.mirror_tid())
        });
        let headers: Vec<String> = headers.collect();
        format!("master {}, {:?}, {headers:?}", decision.master, decision.notes)
    }
}

/// Which of the disks that are shown are no copies any more.
fn set_aside(decision: &Decision, shown: u8) -> u8 {
    let is_aside = |device| decision.notes.contains(&Note::Aside(DeviceIndex(device)));
    let aside = (0..).zip(each(shown)).filter(|(device, _)| is_aside(*device));
    aside.fold(0, |mask, (_, disk)| mask | 1 << disk)
}
