//! What is asked of disks and of the mounted volume beside what it shows.

use farrier_core::copies::EpochId;
use farrier_core::copies::lineage;
use farrier_core::drive::change::Origin;
use farrier_core::error::{Error, Refusal};
use farrier_core::units::{Tid, Uuid, WallTime};
use farrier_core::volume::OpenOptions;

use super::super::media::{Walked, fallback_roots, merkle_and_identity, record_on};
use super::{Life, START, Stop, each};
use crate::against::compare_all;
use crate::host::TestHost;
use crate::writing::WritingHost;

impl Life {
    /// Epoch, flush, transaction and root of the mounted volume.
    pub(super) fn record(&self) -> Option<(EpochId, u64, Tid, Vec<u8>)> {
        let root = self.host().with_memory(|memory| memory.super_root().raw().check.to_vec());
        self.host().with_flusher(|flusher| {
            let flusher = flusher?;
            let group = flusher.lineage()?.group();
            Some((group.epoch.id, group.flush_seq, flusher.header().mirror_tid(), root))
        })
    }

    /// I11: what was acknowledged has its epoch on every copy in sync.
    pub(super) fn epoch_on_all(&self) -> Result<(), String> {
        let is_begun = self.host().with_flusher(|flusher| {
            let lineage = flusher.and_then(|flusher| flusher.lineage());
            lineage.map(|lineage| (lineage.group().epoch.id, lineage.set().in_sync()))
        });
        let Some((id, members)) = is_begun else { return Ok(()) };
        for disk in each(members & !self.victim()) {
            let found = record_on(&self.bay.durable_disk(disk)).map(|group| group.epoch.id);
            if found != Some(id) {
                return Err(format!("I11: copy {disk} has {found:?}, not {id:?}"));
            }
        }
        Ok(())
    }

    pub(super) fn walked(&mut self) -> Result<Option<Walked>, String> {
        let fine = self.fine() & self.shown;
        if self.in_sync() & !fine != 0
            || self.host().volume().copies().is_some_and(|l| l.lost() != 0)
        {
            return Ok(None);
        }
        self.ran.looks += 1;
        merkle_and_identity(&self.bay.show(self.shown), self.looking(), self.victim()).map(Some)
    }

    /// I12: two sides that went on without each other are met as a split.
    pub(super) fn split(&mut self) -> Result<(), Stop> {
        self.commit(true)?;
        let good = self.good();
        let members = self.in_sync();
        if good.count_ones() < 2
            || members & !good & !self.victim() != 0
            || !self.bay.is_still(self.shown)
        {
            return Ok(());
        }
        let first = 1 << good.trailing_zeros();
        let bay = self.bay.fork();
        for (side, number) in [(first, 1), (good & !first, 2)] {
            let copies = lineage::Options { accept_missing: true, ..Default::default() };
            let options = OpenOptions { copies, ..OpenOptions::default() };
            let host = WritingHost::with(bay.show(side), options, 1 << 20)
                .map_err(|error| format!("a side by itself: {error:?}"))?;
            let id = [number; 16];
            host.set_origin(Origin { id, host: Uuid(id), time: WallTime(START) });
            host.flush_always(true).map_err(|error| format!("a side by itself: {error:?}"))?;
        }
        self.ran.splits += 1;
        let met = TestHost::over(bay.show(good), false, 1 << 20);
        match met.map(|_| ()) {
            Err(Error::Refused(Refusal::Copies { code: "FC-S01" })) => Ok(()),
            other => Err(Stop::Wrong(format!("I12: a split is {other:?}"))),
        }
    }

    /// The invariants that speak of media.
    pub(super) fn look(&mut self) -> Result<(), Stop> {
        self.commit(false)?;
        if self.walked()?.is_none() {
            return Ok(());
        }
        let roots = fallback_roots(
            &self.bay.show(self.shown),
            self.looking(),
            self.victim() | self.lost | !self.fine(),
        )?;
        for (copy, host) in roots {
            let mut past =
                [&self.acked].into_iter().chain(&self.maybe).chain(self.history.iter().rev());
            if !past.any(|trees| compare_all(&host, trees).is_ok()) {
                return Err(Stop::Wrong(format!("I10: copy {copy} shows what never was")));
            }
        }
        Ok(())
    }
}
