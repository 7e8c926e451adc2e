//! What happens to disks, and what is written meanwhile.

use farrier_core::copies::epoch::may_continue;
use farrier_core::drive::ready;
use farrier_core::drive::resume::{self, ResumeError};
use farrier_core::error::Error;
use farrier_core::fs::{New, Victim};

use super::{Life, Stop, each, settled};
use crate::model::Creation;
use crate::ops::Op;
use crate::rack::Mode;

/// Bytes that are written at once.
const STEP_LEN: usize = 256 << 10;

impl Life {
    pub(super) fn pull(&mut self) {
        let good = self.good();
        let whole: Vec<u8> =
            each(self.fine() & self.shown).filter(|disk| good & !(1 << disk) != 0).collect();
        if whole.is_empty() || self.bay.switches() {
            return;
        }
        let disk = *self.random.pick(&whole);
        let mode = *self.random.pick(&[Mode::Gone, Mode::Late, Mode::NoWrites]);
        self.ran.pulled += 1;
        let after = self.random.below(40);
        self.tell(|| format!("disk {disk} is {mode:?}"));
        if self.random.once_in(2) {
            self.bay.set_after(after, disk, mode);
        } else {
            self.bay.set(disk, mode);
        }
    }

    /// Two disks forget what they are told, and say so at the same barrier.
    pub(super) fn pull_pair(&mut self) -> Result<(), Stop> {
        let good = self.good();
        let pair: Vec<u8> = each(good).skip(1).take(2).collect();
        if pair.len() < 2 || good.count_ones() < 3 {
            return Ok(());
        }
        self.work()?;
        pair.iter().for_each(|disk| self.bay.set(*disk, Mode::Late));
        self.ran.pulled += 2;
        self.work()?;
        if self.plan.is_crowded {
            self.bulk()?;
        }
        self.commit(true)?;
        self.give_back();
        self.remount()
    }

    /// Two copies lose blocks of one flush. When they are back, one of them has no room for what it
    /// missed, so only the other one gets them again: what the first one still names must not be
    /// believed (T4).
    pub(super) fn lose_pair(&mut self) -> Result<(), Stop> {
        const SMALL: u8 = 1;
        let good = self.good();
        let small = self.plan.is_crowded && good & 1 << SMALL != 0;
        let others: Vec<u8> = each(good & !(1 << SMALL)).collect();
        let [keeps, loses, ..] = others[..] else { return Ok(()) };
        let lost = 1 << SMALL | 1 << loses;
        let left = self.in_sync() & !lost;
        let may = may_continue(self.runtime(), self.in_sync(), left);
        if !small || !may || left & 1 << keeps == 0 {
            return Ok(());
        }
        // what is filled in first, and what was lost
        let (first, last) = (self.file("first")?, self.file("last")?);
        let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
        self.commit(true)?;
        each(lost).for_each(|disk| self.bay.set(disk, Mode::Late));
        self.ran.pulled += 2;
        self.write_much(last, 2)?;
        self.commit(true)?;
        let room = self.bay.disk_size(SMALL) / STEP_LEN as u64;
        self.write_much(first, room)?;
        self.commit(true)?;
        each(lost).for_each(|disk| self.bay.set(disk, Mode::Fine));
        self.bay.forgive();
        self.remount()?;
        let behind = self.behind();
        self.tell(|| format!("{lost:b} lost the same, {behind:b} are behind"));
        self.batch(u64::MAX)?;
        self.tell(|| format!("{:b} are in sync", self.in_sync()));
        self.look()?;
        // room again
        let name = self.name("first");
        let victim = Victim::File;
        self.data(&Op::Unlink { directory: 1, name, victim, keep: false })
    }

    /// Some megabytes at once.
    pub(super) fn bulk(&mut self) -> Result<(), Stop> {
        let steps = 8 + self.random.below(24);
        match self.file("bulk")? {
            Some(inum) => self.write_much(inum, steps),
            None => Ok(()),
        }
    }

    fn name(&self, what: &str) -> Vec<u8> {
        format!("{what}{}", self.step).into_bytes()
    }

    fn data(&mut self, op: &Op) -> Result<(), Stop> {
        let label = b"DATA".to_vec();
        let pfs = self.open_tree(&label)?;
        self.within(&label, pfs, op)
    }

    /// A new file; `None` if there is no room for it.
    fn file(&mut self, what: &str) -> Result<Option<u64>, Stop> {
        let (directory, name) = (1, self.name(what));
        let (new, mode, uid, gid) = (New::File, 0o600, 0, 0);
        self.data(&Op::Create(Creation { directory, name: name.clone(), new, mode, uid, gid }))?;
        let root = self.trees[&b"DATA"[..]].model.get(1).ok();
        Ok(root.and_then(|root| root.names.get(&name)).copied())
    }

    /// What is packed into nothing smaller.
    fn write_much(&mut self, inum: u64, steps: u64) -> Result<(), Stop> {
        for step in 0..steps {
            let fill = 6 * self.random.below(1 << 40) + 4;
            let offset = Some(step * STEP_LEN as u64);
            self.data(&Op::Write { inum, offset, len: STEP_LEN, fill })?;
        }
        Ok(())
    }

    /// Disks that failed work again, most of them.
    pub(super) fn give_back(&mut self) {
        self.bay.switch_now();
        let away = self.shown_mask(|disk| self.bay.mode(disk) != Mode::Fine);
        for disk in each(away) {
            if !self.random.once_in(3) {
                self.bay.set(disk, Mode::Fine);
            }
        }
    }

    /// All disks are lost, the last one perhaps in the midst of a commit, and come back, with what their
    /// caches held or without: the volume goes on, and nothing is lost.
    pub(super) fn blackout(&mut self) -> Result<(), Stop> {
        self.work()?;
        let (good, needed) = (self.good(), self.needed());
        let is_still = self.bay.is_still(needed) && !self.bay.switches() && !self.bay.has_fuse();
        // of one that lies, more may be lost
        if good == 0 || !is_still || needed & self.victim() != 0 {
            return Ok(());
        }
        let last = *self.random.pick(&each(good).collect::<Vec<_>>());
        let modes = [Mode::Gone, Mode::Late, Mode::NoWrites];
        for disk in each(needed & !(1 << last)) {
            if !self.random.once_in(4) {
                self.bay.set(disk, *self.random.pick(&modes));
            }
        }
        let (after, mode) = (self.random.below(30), *self.random.pick(&modes));
        self.bay.set_after(after, last, mode);
        let (commits, now) = (self.commits(), settled(&self.trees));
        self.maybe.push(now.clone());
        let committed = self.host().flush_always(true);
        self.tell(|| {
            format!("{needed:b} are lost, disk {last} after {after} writes: {committed:?}")
        });
        self.bay.switch_now();
        self.bay.set(last, Mode::Fine);
        if committed.is_ok() {
            // it came too late, or one stood in for it
            self.bay.forgive();
            self.done(commits, now);
            return Ok(self.epoch_on_all()?);
        }
        if self.random.once_in(2) {
            self.bay.power_cycle();
        }
        self.come_back()?;
        self.ran.resumed += 1;
        self.done(commits, now);
        if let Some(scan) = self.scan.take() {
            let freed = ready(self.host().finish_bulkfree(scan));
            if freed != Err(Error::Busy) {
                return Err(Stop::Wrong(format!("a scan of before freed {freed:?}")));
            }
        }
        Ok(self.epoch_on_all()?)
    }

    /// All disks of a volume that halted are there again, and it goes on.
    fn come_back(&mut self) -> Result<(), Stop> {
        let needed = self.needed();
        each(needed).for_each(|disk| self.bay.set(disk, Mode::Fine));
        let devices: Vec<_> = each(needed).filter_map(|one| self.view.device_of(one)).collect();
        let resume = || ready(self.host().resume(&devices));
        let mut resumed = resume();
        if !self.bay.is_still(needed) || matches!(resumed, Err(ResumeError::Failed(Error::Halted)))
        {
            // it had forgotten something, and had not said so yet
            resumed = resume();
        }
        resumed.map_err(|error| Stop::Wrong(format!("{needed:b} do not go on: {error:?}")))
    }

    /// Copies that took part in the last commit, or in the one that failed.
    fn needed(&self) -> u8 {
        self.host().with_flusher(|flusher| flusher.map_or(0, resume::needed))
    }

    /// The power goes soon.
    pub(super) fn cut(&mut self) -> Result<(), Stop> {
        let fuse = self.random.below(60);
        self.bay.set_fuse(fuse);
        let budget = self.random.below(2 << 20);
        if self.random.once_in(2) {
            self.batch(budget)?;
        }
        self.work()?;
        self.commit(true)
    }
}
