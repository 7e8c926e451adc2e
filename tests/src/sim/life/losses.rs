//! What happens to disks while nothing is mounted: one is lost, an old image is put back, an older copy
//! is promoted, and what another one holds is given up.

use farrier_core::copies::lineage;
use farrier_core::copies::{CopyGroup, CopyState, EpochId, TransitionFault};
use farrier_core::drive::change::Origin;
use farrier_core::drive::copies::MemberError;
use farrier_core::drive::promote;
use farrier_core::drive::ready;
use farrier_core::error::{Error, Refusal};
use farrier_core::media::check::Checks;
use farrier_core::units::{Uuid, WallTime};
use farrier_core::volume::OpenOptions;

use super::super::Trees;
use super::super::media::{open, record_on};
use super::{Life, START, Stop, each, settled};
use crate::against::compare_all;
use crate::rack::Mode;

impl Life {
    fn group(&self) -> Option<CopyGroup> {
        self.host().with_flusher(|flusher| Some(flusher?.lineage()?.group().clone()))
    }

    /// Disks of copies that others can stand in for, and whose own root there is.
    fn replaceable(&self) -> Vec<u8> {
        let (good, group) = (self.good(), self.group());
        let has_root = |disk: &u8| {
            let slot = group.as_ref().and_then(|group| group.slot(*disk));
            slot.is_some_and(|slot| {
                slot.state == CopyState::InSync
                    || slot.state.is_configured() && slot.left != EpochId::NONE
            })
        };
        let disks = each(self.ever & !self.victim()).filter(has_root);
        disks.filter(|disk| good & !(1 << disk) != 0).collect()
    }

    /// All that a disk held is gone, with its headers or without.
    pub(super) fn lose_disk(&mut self) -> Result<(), Stop> {
        self.commit(true)?;
        let disks = self.replaceable();
        if disks.is_empty() || self.bay.switches() {
            return Ok(());
        }
        let disk = *self.random.pick(&disks);
        let has_headers = self.random.once_in(2);
        self.tell(|| format!("disk {disk} is lost, headers {has_headers}"));
        self.host = None;
        if has_headers {
            self.bay.scramble(disk);
        } else {
            self.bay.renew(disk, self.bay.disk_size(disk));
        }
        self.lost |= 1 << disk;
        self.ran.losses += 1;
        Ok(self.settle()?)
    }

    /// An image of a disk is made, or the one that there is put back, if it is older than by the one
    /// flush that a crash would explain.
    pub(super) fn put_back(&mut self) -> Result<(), Stop> {
        self.commit(true)?;
        let disks = self.replaceable();
        let Some((disk, image, was_lost)) = self.image.take() else {
            let sound: Vec<u8> = disks.into_iter().filter(|one| self.bay.is_sound(*one)).collect();
            if !sound.is_empty() {
                let disk = *self.random.pick(&sound);
                let was_lost = self.lost & 1 << disk != 0;
                self.image = Some((disk, self.bay.durable_disk(disk), was_lost));
            }
            return Ok(());
        };
        let (then, now) = (record_on(&image), record_on(&self.bay.durable_disk(disk)));
        let (Some(then), Some(group)) = (then, self.group()) else { return Ok(()) };
        let is_same = group.slot(disk).is_some_and(|slot| slot.device == then.device);
        let is_older = then.flush_seq + 3 < group.flush_seq;
        let is_there = now.is_some() && self.lost & 1 << disk == 0;
        if !disks.contains(&disk) || !is_same || !is_older || !is_there || self.bay.switches() {
            return Ok(());
        }
        self.tell(|| format!("disk {disk} is what it was at flush {}", then.flush_seq));
        self.host = None;
        self.bay.put(disk, &image);
        self.old |= 1 << disk;
        // it had no root of its own then
        self.lost |= u8::from(was_lost) << disk;
        self.ran.losses += 1;
        Ok(self.settle()?)
    }

    /// A copy that is out of date becomes the master, with what it has; or one that was the master
    /// before is given up.
    pub(super) fn promote(&mut self) -> Result<(), Stop> {
        self.commit(false)?;
        let Some(group) = self.group() else { return Ok(()) };
        let of_state = |state| move |disk: &u8| group_state(&group, *disk) == state;
        let fine = self.fine();
        let diverged = each(self.ever & fine).find(of_state(CopyState::Diverged));
        if let Some(slot) = diverged {
            return self.give_up(slot);
        }
        let behind = self.shown & fine & !self.in_sync() & !self.victim() & !self.old & !self.lost;
        let behind: Vec<u8> =
            self.replaceable().into_iter().filter(|disk| behind & 1 << disk != 0).collect();
        if behind.is_empty() || self.bay.switches() || self.bay.has_fuse() {
            return Ok(());
        }
        let disk = *self.random.pick(&behind);
        self.host = None;
        let is_done = self.promoted(disk)?;
        self.tell(|| format!("copy {disk} is promoted: {is_done}"));
        Ok(self.settle()?)
    }

    fn promoted(&mut self, disk: u8) -> Result<bool, String> {
        let bay = self.bay.show(1 << disk);
        let copies = lineage::Options { only_copy: Some(disk), ..Default::default() };
        let checks = Checks::with_crc32c(crc32c::crc32c);
        let options = OpenOptions { copies, checks, ..OpenOptions::default() };
        let volume = ready(farrier_core::drive::open(&bay, options));
        let volume = match volume {
            Ok(volume) => volume,
            // only the others know that it was in sync: it has no root yet
            Err(Error::Refused(Refusal::Copies { code: "FC-S12" })) => return Ok(false),
            Err(error) => return Err(format!("promoting {disk}: {error:?}")),
        };
        self.time += 1;
        let mut id = [0x77; 16];
        id[8..].copy_from_slice(&self.time.to_le_bytes());
        let origin = Origin { id, host: Uuid([7; 16]), time: WallTime(START + self.time) };
        let promotion = match promote::plan(&volume, origin) {
            Ok(promotion) => promotion,
            // its freemap is behind its root
            Err(MemberError::Failed(Error::ReadOnly)) => return Ok(false),
            // it was taken away by those who are given up
            Err(MemberError::Transition(TransitionFault::State {
                state: CopyState::Retired,
                ..
            })) => return Ok(false),
            Err(error) => return Err(format!("promoting {disk}: {error:?}")),
        };
        ready(promote::promote(&bay, &volume, &promotion))
            .map_err(|error| format!("promoting {disk}: {error:?}"))?;
        let host = open(&bay.fork(), copies)?;
        let is_shown = |trees: &&Trees| compare_all(&host, trees).is_ok();
        let past =
            core::iter::once(&self.acked).chain(&self.maybe).chain(self.history.iter().rev());
        let Some(trees) = past.clone().find(is_shown).cloned() else {
            return Err(format!("I10: copy {disk} was promoted, and shows what never was"));
        };
        self.ran.promoted += 1;
        self.acknowledged(trees, 1 << disk);
        self.is_parted = true;
        Ok(true)
    }

    /// What a copy with a history of its own holds is given up: it is brought up to date from the next
    /// mount on.
    fn give_up(&mut self, slot: u8) -> Result<(), Stop> {
        let Some(record) = record_on(&self.bay.durable_disk(slot)) else { return Ok(()) };
        self.tell(|| format!("copy {slot} is given up"));
        let (commits, now) = (self.commits(), settled(&self.trees));
        self.maybe.push(now.clone());
        match ready(self.host().discard_copy(slot, record.epoch.id)) {
            Ok(()) => self.done(commits, now),
            Err(error) => return Err(self.stopped(|| format!("giving up {slot}: {error:?}"))),
        }
        self.epoch_on_all()?;
        self.remount()
    }

    /// Copies that were lost have no part in what is there.
    pub(super) fn has_headers(&self, disk: u8) -> bool {
        self.bay.mode(disk) != Mode::Fine || record_on(&self.bay.view_of(disk)).is_some()
    }
}

fn group_state(group: &CopyGroup, disk: u8) -> CopyState {
    group.slot(disk).map_or(CopyState::Empty, |slot| slot.state)
}
