//! At its end a group may become a volume without copies, and that a group again (I18).

use farrier_core::copies::lineage;
use farrier_core::drive::change::Origin;
use farrier_core::drive::convert::NewGroup;
use farrier_core::drive::copies::{MemberError, NewCopy};
use farrier_core::drive::ready;
use farrier_core::media::header::Version;
use farrier_core::units::{Uuid, WallTime};

use super::super::media::{merkle_and_identity, open};
use super::{Life, START, Stop, each};
use crate::against::{compare_all, dirt};
use crate::session::a_header;
use crate::writing::WritingHost;

impl Life {
    /// I18: what has no copies any more is what it would be if it had never had any.
    pub(super) fn convert(&mut self) -> Result<(), Stop> {
        // what was deleted is not open any more, and lies nowhere
        self.remount()?;
        let keep = *self.random.pick(&each(self.good()).collect::<Vec<_>>());
        let budget = 1 << (10 + self.random.below(14));
        loop {
            match ready(self.host().strip(keep, budget)) {
                Ok(done) if done.is_done => break,
                Ok(_) => {}
                Err(MemberError::NoRoom) => {
                    self.ran.full += 1;
                    return Ok(());
                }
                // what the copy holds the right to write to, it has to be
                Err(MemberError::Holder) => return Ok(()),
                Err(error) => return Err(self.stopped(|| format!("I18: {error:?}"))),
            }
        }
        self.ran.converted += 1;
        self.host = None;
        let bay = self.bay.show(1 << keep);
        let host = open(&bay.fork(), lineage::Options::default())?;
        if host.volume().group().is_some() || host.volume().header().version() != Version::V1 {
            return Err(Stop::Wrong("I18: the volume still has copies".into()));
        }
        compare_all(&host, &self.acked).map_err(|error| format!("I18: {error}"))?;
        let findings = dirt(&host, a_header);
        if !findings.is_empty() {
            return Err(Stop::Wrong(format!("I18: {findings:#?}")));
        }
        let volume = self.bay.view_of(keep);
        self.bay.put(0, &volume);
        Ok(self.convert_back()?)
    }

    /// The volume on the first disk gets a second copy on the next.
    fn convert_back(&mut self) -> Result<(), String> {
        self.bay.renew(1, self.bay.disk_size(0));
        let bay = self.bay.show(1);
        let host = WritingHost::open(bay.clone(), 1 << 20).map_err(|error| format!("{error:?}"))?;
        let time = WallTime(START + self.time);
        host.set_origin(Origin { id: [0x99; 16], host: Uuid([7; 16]), time });
        let new = NewGroup { group: Uuid([0xaa; 16]), device: Uuid([0xab; 16]) };
        ready(host.to_copies(new)).map_err(|error| format!("I18: {error:?}"))?;
        let (device, size) = (bay.reveal(1), self.bay.disk_size(1));
        let new = NewCopy { device, size, id: Uuid([0xac; 16]) };
        ready(host.add_copy(new)).map_err(|error| format!("I18: {error:?}"))?;
        for _ in 0..60 {
            let filled = ready(host.resync(4 << 20)).map_err(|error| format!("I18: {error:?}"))?;
            if filled.behind == 0 {
                let both = self.bay.show(0b11);
                let walked = merkle_and_identity(&both, lineage::Options::default(), 0)?;
                let host = open(&both.fork(), lineage::Options::default())?;
                let same = compare_all(&host, &self.acked);
                return same.map_err(|error| format!("I18: with {walked:?}: {error}"));
            }
        }
        // what has no room waits until it has some
        self.ran.full += 1;
        Ok(())
    }
}
