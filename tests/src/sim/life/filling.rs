//! Copies get what they lack: resynchronisation, healing, and bulk scans beside them.

use farrier_core::drive::ready;
use farrier_core::drive::scrub::Scrub;
use farrier_core::error::Error;
use farrier_core::units::MediaOffset;

use super::super::bay::Silent;
use super::super::media::Walked;
use super::super::media::is_starved;
use super::{Life, Stop, each, settled};
use crate::rack::{Mode, Traffic};

/// What a batch writes beside blocks of the tree: freemaps and headers, of two commits.
const BESIDE: u64 = 2 << 20;

impl Life {
    pub(super) fn behind(&self) -> u8 {
        self.host().with_flusher(|flusher| {
            let set = flusher.and_then(|flusher| flusher.lineage()).map(|lineage| lineage.set());
            set.map_or(0, |set| set.attached() & !set.in_sync())
        })
    }

    pub(super) fn resync(&mut self) -> Result<(), Stop> {
        let budget = match self.random.below(4) {
            0 => u64::MAX,
            1 => 1,
            _ => self.random.below(4 << 20),
        };
        if self.random.once_in(4) {
            self.pull();
        }
        self.commit(false)?;
        let behind = self.behind();
        let was_still = self.bay.is_still(self.shown);
        let before = self.walked()?;
        for disk in each(self.shown) {
            let _ = self.bay.take_traffic(disk);
        }
        self.batch(budget)?;
        let is_still = was_still && self.bay.is_still(self.shown);
        let is_quiet = self.victim() == 0 && is_still;
        let traffic: Vec<(u8, Traffic)> =
            each(self.shown).map(|disk| (disk, self.bay.take_traffic(disk))).collect();
        if is_quiet && behind.count_ones() == 1 {
            let traffic = traffic.iter().find(|(disk, _)| behind == 1 << *disk);
            if let Some((disk, traffic)) = traffic.filter(|(_, traffic)| traffic.reads > 0) {
                return Err(Stop::Wrong(format!("I6: copy {disk} was read: {traffic:?}")));
            }
        }
        // the look at media does not see what was deleted and is open
        let has_orphans = self
            .host()
            .with_memory(|memory| memory.trees().any(|(_, tree)| tree.orphans().next().is_some()));
        if is_quiet
            && !has_orphans
            && !self.plan.is_crowded
            && let Some(before) = &before
        {
            self.check_bound(before, behind, &traffic)?;
        }
        if let (Some(before), Some(after)) = (before, self.walked()?) {
            for disk in each(behind).filter(|_| is_quiet) {
                let at = usize::from(disk);
                let (was, is) = (before.lacking[at], after.lacking[at]);
                if is.leaves > was.leaves {
                    return Err(Stop::Wrong(format!("I7: copy {disk} lacks {is:?}, not {was:?}")));
                }
            }
        }
        Ok(())
    }

    /// I6: no more is read than what is lacking, each block once, and no more is written.
    fn check_bound(
        &self,
        before: &Walked,
        behind: u8,
        traffic: &[(u8, Traffic)],
    ) -> Result<(), String> {
        let (mut reads, mut tables) = (0, 0);
        for lacking in each(behind).map(|copy| before.lacking[usize::from(copy)]) {
            reads += lacking.leaves + lacking.tables + lacking.repeats;
            tables += lacking.table_bytes + lacking.repeat_bytes;
        }
        let mut asked = 0;
        for (disk, Traffic { reads: count, written_bytes, .. }) in traffic {
            asked += count;
            let leaves = match behind & 1 << disk {
                0 => 0,
                _ => before.lacking[usize::from(*disk)].leaf_bytes,
            };
            if *written_bytes > leaves + tables + BESIDE {
                return Err(format!(
                    "I6: {written_bytes} bytes were written to copy {disk}: {before:?}"
                ));
            }
        }
        if asked > reads {
            return Err(format!("I6: {asked} blocks were read, and {reads} are lacking"));
        }
        Ok(())
    }

    pub(super) fn batch(&mut self, budget: u64) -> Result<(u8, u8), Stop> {
        let commits = self.commits();
        self.maybe.push(settled(&self.trees));
        self.ran.batches += 1;
        let filled = ready(self.host().resync(budget)).map_err(|error| self.told(error))?;
        self.done(commits, settled(&self.trees));
        self.tell(|| format!("{filled:?}"));
        if filled.unreadable != 0 && !self.bay.is_dark() {
            return Err(Stop::Wrong(format!("nobody has what is missing: {filled:?}")));
        }
        self.ran.joined += u64::from(filled.joined.count_ones());
        self.epoch_on_all()?;
        Ok((filled.joined, filled.behind))
    }

    pub(super) fn begin_scan(&mut self) -> Result<(), Stop> {
        let (commits, now) = (self.commits(), settled(&self.trees));
        self.maybe.push(now.clone());
        let scan = ready(self.host().begin_bulkfree()).map_err(|error| self.told(error))?;
        self.done(commits, now);
        (self.scan, self.is_overtaken) = (Some(scan), false);
        self.scanned = self.in_sync();
        Ok(())
    }

    pub(super) fn end_scan(&mut self) -> Result<(), Stop> {
        let Some(scan) = self.scan.take() else { return Ok(()) };
        let now = settled(&self.trees);
        self.maybe.push(now.clone());
        match ready(self.host().finish_bulkfree(scan)) {
            Ok(freed) if freed.corrupt_bytes == 0 => {
                self.ran.scans += 1;
                self.acknowledged(now, self.in_sync());
                Ok(())
            }
            Ok(freed) => Err(Stop::Wrong(format!("I9: a scan found {freed:?}"))),
            Err(Error::Busy) if self.is_overtaken || self.scanned == 0 => Ok(()),
            Err(error) => {
                // whoever had all of it is gone, and the others got what is there now
                let is_gone = matches!(error, Error::Device(_) | Error::Damaged(_))
                    && self.scanned & self.good() == 0;
                match self.told(error) {
                    Stop::Wrong(_) if is_gone => Ok(()),
                    stop => Err(stop),
                }
            }
        }
    }

    /// I17: blocks that went bad on one copy are healed, and nothing else changes.
    pub(super) fn heal(&mut self) -> Result<(), Stop> {
        self.commit(true)?;
        let good = self.good();
        let may_be_bad = self.in_sync() & self.victim() != 0;
        if good.count_ones() < 2
            || may_be_bad
            || self.bay.has_fuse()
            || !self.bay.is_still(self.shown)
        {
            return Ok(());
        }
        let Some(walked) = self.walked()? else { return Ok(()) };
        let target = *self.random.pick(&each(good).collect::<Vec<_>>());
        let mut places = walked.places(target);
        // what did not stay where it was written is not written there again, but elsewhere
        if let Some(live) = self.host().volume().copies() {
            places.retain(|offset| !live.is_bad(target, MediaOffset(*offset)));
        }
        if places.is_empty() {
            return Ok(());
        }
        let count = 1 + self.random.below(6);
        while places.len() as u64 > count {
            let at = self.random.below(places.len() as u64);
            places.swap_remove(usize::try_from(at).unwrap_or(0));
        }
        places.iter().for_each(|offset| self.bay.spoil(target, *offset));
        // one that takes nothing and does not say so
        let is_lying = self.random.once_in(2);
        if is_lying {
            self.bay.set_silent(target, Silent { lost: 1, ..Silent::default() });
        }
        let before = self.record();
        let mut scrub = Scrub::new();
        let budget = 1 << self.random.below(24);
        while ready(self.host().scrub(&mut scrub, budget)).map_err(|error| self.told(error))? {}
        let (healed, after) = (scrub.found().healed, self.record());
        let spoiled = places.len() as u64;
        self.ran.healed += healed.healed;
        if before != after {
            return Err(Stop::Wrong(format!("I17: {before:?} became {after:?}")));
        }
        // a copy that took some of them wrong is given up
        let expected = if is_lying { (0, true) } else { (spoiled, false) };
        if (healed.healed, healed.failed > 0) != expected {
            return Err(Stop::Wrong(format!(
                "heal: {spoiled} blocks of copy {target} were bad, lying {is_lying}: {healed:?}"
            )));
        }
        if is_lying {
            self.bay.set_silent(target, Silent::default());
            places.iter().for_each(|offset| self.bay.spoil(target, *offset));
            // whether it is given up is known before another disk fails
            self.commit(true)?;
        }
        self.look()
    }

    /// I8: without faults everything gets in sync.
    pub(super) fn end(&mut self) -> Result<(), String> {
        if self.bay.has_fuse() {
            self.power_cut()?;
        }
        self.bay.switch_now();
        for disk in each(self.all()) {
            self.bay.set(disk, Mode::Fine);
            self.bay.set_silent(disk, Silent::default());
        }
        self.bay.forgive();
        self.settle()?;
        let done = self.finish();
        done.map_err(|stop| match stop {
            Stop::Dark => "dark without a fuse".to_string(),
            Stop::Halted => "halted without a fault".to_string(),
            Stop::Wrong(error) => error,
        })
    }

    fn finish(&mut self) -> Result<(), Stop> {
        self.commit(true)?;
        self.converge()?;
        self.look()?;
        self.check_memory()?;
        let is_well = self.behind() == 0 && self.good() != 0;
        if is_well && self.random.once_in(6) { self.convert() } else { Ok(()) }
    }

    fn converge(&mut self) -> Result<(), Stop> {
        let mut behind = self.behind();
        for number in 0..60 {
            if behind == 0 {
                return Ok(());
            }
            let budget = (64 << 10) + self.random.below(8 << 20);
            behind = self.batch(budget)?.1;
            if number % 10 == 9 {
                // tables that were written anew leave their places behind
                self.begin_scan()?;
                self.end_scan()?;
            }
        }
        // what has no room waits until it has some
        if is_starved(&self.bay.show(self.shown), self.looking())? {
            self.ran.full += 1;
            return Ok(());
        }
        Err(Stop::Wrong(format!("I8: {behind:b} do not get in sync")))
    }
}
