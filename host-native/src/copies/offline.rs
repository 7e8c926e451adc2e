//! A volume of copies that is not mounted, opened to change its members or to read all of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use farrier_core::copies::{CopyGroup, EpochId, Rules, WitnessPlace, lineage};
use farrier_core::drive::convert::NewGroup;
use farrier_core::drive::copies::{MemberError, NewCopy};
use farrier_core::drive::ready;
use farrier_core::drive::scrub::Scrub;
use farrier_core::drive::solo::Solo;
use farrier_core::media::check::Checks;
use farrier_core::units::DeviceIndex;
use farrier_core::volume::{LiveCopies, OpenOptions};

use super::members::{Driver, change, name, no_copies};
use super::witness::WitnessLine;
use super::{Changed, MemberChange, ScrubState, ScrubStatus, Seen, Status, milliseconds, of_open};
use crate::device::{Devices, explain};
use crate::writing::{note_scrub, rest_of_scrub};

/// Memory for blocks meanwhile.
const CACHE_BYTES: usize = 64 << 20;
/// Bytes that are filled in with one commit.
const BATCH: u64 = 32 << 20;
/// Bytes that are read in one step of a scrub.
const STEP: u64 = 8 << 20;

/// A volume of copies, ours alone as long as this lives.
pub struct OfflineGroup {
    solo: Solo<Devices>,
    witness: Arc<WitnessLine>,
    /// Told how many bytes are filled in.
    filled: Box<dyn Fn(u64)>,
}

impl std::fmt::Debug for OfflineGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OfflineGroup({:?})", self.solo)
    }
}

impl OfflineGroup {
    /// Opens the volume on `devices` for writing; with `converts` also one that has no copies so far.
    /// `filled` is told how many bytes were filled in where
    /// that takes time.
    ///
    /// # Errors
    /// A sentence: what, where, and what to do.
    pub fn open(
        devices: &[PathBuf],
        copies: lineage::Options,
        converts: bool,
        filled: impl Fn(u64) + 'static,
    ) -> Result<Self, String> {
        let path = devices.first().cloned().unwrap_or_default();
        let path = path.display();
        let opened = Devices::open_writable(devices).map_err(|fault| fault.to_string())?;
        let checks = Checks::with_crc32c(crc32c::crc32c);
        let (witness, heard) = WitnessLine::ask(&opened, None);
        let copies = lineage::Options { witness: heard, ..copies };
        let options = OpenOptions { checks, copies, ..OpenOptions::default() };
        super::may_write(&opened, &options).map_err(|text| text + &witness.unheard())?;
        let named = |index: DeviceIndex| devices.get(usize::from(index.0)).map(PathBuf::as_path);
        let solo = ready(Solo::open_for_writing(opened, options, CACHE_BYTES))
            .map_err(|error| format!("{path}: {}", explain(&error, named)))?;
        if let Some(origin) = super::origin() {
            solo.set_origin(origin);
        }
        let witness = Arc::new(witness);
        let line = Arc::clone(&witness);
        solo.set_tell(Box::new(move |telling| line.tell(telling)));
        let group = Self { solo, witness, filled: Box::new(filled) };
        match group.group().is_some() || converts {
            true => Ok(group),
            false => Err(format!("{path}: {}", no_copies())),
        }
    }

    /// Changes members or rules.
    ///
    /// # Errors
    /// A sentence: why not, and what to do.
    pub fn change(&self, wanted: &MemberChange) -> Result<Changed, String> {
        change(self, wanted)
    }

    /// The record of the group.
    ///
    /// # Errors
    /// It has none.
    pub fn record(&self) -> Result<CopyGroup, String> {
        self.group().ok_or_else(no_copies)
    }

    /// How the copies are now; `None` where there are none any more.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        let is_stripped = self.solo.with_flusher(|flusher| {
            let lineage = flusher.and_then(|flusher| flusher.lineage());
            lineage.is_some_and(|lineage| lineage.is_stripped())
        });
        if is_stripped {
            return None;
        }
        let damage = self.solo.with_flusher(|flusher| flusher?.damage().cloned());
        let seen = Seen { group: self.group(), damage, ..Seen::default() };
        let (volume, devices) = (self.solo.volume(), self.solo.storage());
        let status = of_open(volume, devices, Some(seen), &self.witness, &self.solo)?;
        Some(Status { is_mounted: false, ..status })
    }

    /// Reads everything from every copy in sync, `rate` bytes in a second at most (0: as many as can
    /// be), and heals what is bad. `tell` is told how far it is.
    ///
    /// # Errors
    /// The volume failed.
    pub fn scrub(&self, rate: u64, tell: impl Fn(&ScrubStatus)) -> Result<ScrubStatus, String> {
        let began = Instant::now();
        let mut scrub = Scrub::new();
        let mut status = ScrubStatus { rate, ..ScrubStatus::begun() };
        loop {
            let (step, before) = (Instant::now(), scrub.found().bytes);
            let goes_on = ready(self.solo.scrub(&mut scrub, STEP));
            note_scrub(&mut status, &scrub.found());
            status.ms = milliseconds(began.elapsed());
            tell(&status);
            match goes_on {
                Ok(true) => {}
                Ok(false) => {
                    self.relocate()?;
                    return Ok(ScrubStatus { state: ScrubState::Done, ..status });
                }
                Err(error) => return Err(self.solo.storage().explain(&error)),
            }
            let rest = rest_of_scrub(status.bytes - before, rate, step.elapsed());
            // nobody else waits for these devices
            std::thread::sleep(if rate == 0 { Duration::ZERO } else { rest });
        }
    }

    /// Blocks whose places take nothing any more get others.
    fn relocate(&self) -> Result<(), String> {
        loop {
            let step = ready(self.solo.relocate(STEP));
            let step = step.map_err(|error| self.solo.storage().explain(&error))?;
            if !step.goes_on {
                return Ok(());
            }
        }
    }

    /// Commits what there is.
    ///
    /// # Errors
    /// The volume failed.
    pub fn close(self) -> Result<(), String> {
        ready(self.solo.close()).map_err(|error| self.solo.storage().explain(&error))
    }

    fn fill(&self, new: u8) -> Result<(), String> {
        let mut bytes = 0;
        loop {
            let filled = ready(self.solo.resync(BATCH));
            let filled = filled.map_err(|error| self.solo.storage().explain(&error))?;
            bytes += filled.leaf_bytes;
            (self.filled)(bytes);
            let is_behind = filled.behind & 1 << new != 0;
            if !is_behind {
                return Ok(());
            }
            if filled.leaves == 0 && filled.tables == 0 && filled.joined == 0 {
                let why = match filled.unreadable {
                    0 => "there is too little free space; free some".to_owned(),
                    count => format!(
                        "no copy could give {count} blocks; remove what `farrier check` names"
                    ),
                };
                return Err(format!(
                    "{}: was added, but cannot be filled in: {why}, and mount the volume, which \
                     goes on with it",
                    name(self, new)
                ));
            }
        }
    }
}

impl Driver for OfflineGroup {
    fn devices(&self) -> &Devices {
        self.solo.storage()
    }

    fn live(&self) -> Option<&LiveCopies> {
        self.solo.volume().copies()
    }

    fn group(&self) -> Option<CopyGroup> {
        self.solo.with_flusher(|flusher| Some(flusher?.lineage()?.group().clone()))
    }

    fn convert(&self, new: NewGroup) -> Result<(), MemberError> {
        ready(self.solo.to_copies(new))
    }

    fn strip(&self, keep: u8) -> Result<(), MemberError> {
        while !ready(self.solo.strip(keep, BATCH))?.is_done {}
        Ok(())
    }

    fn add(&self, new: NewCopy) -> Result<u8, MemberError> {
        ready(self.solo.add_copy(new))
    }

    fn remove(&self, slot: u8) -> Result<(), MemberError> {
        ready(self.solo.remove_copy(slot))
    }

    fn replace(&self, slot: u8, new: NewCopy) -> Result<u8, MemberError> {
        ready(self.solo.replace_copy(slot, new))
    }

    fn detach(&self, slot: u8) -> Result<(), MemberError> {
        ready(self.solo.detach_copy(slot))
    }

    fn attach(&self, path: &Path) -> Result<u8, String> {
        Err(format!(
            "{}: mount the volume with all its devices instead, which brings it up to date",
            path.display()
        ))
    }

    fn discard(&self, slot: u8, epoch: EpochId) -> Result<(), MemberError> {
        ready(self.solo.discard_copy(slot, epoch))
    }

    fn reset_counters(&self, slot: u8) -> Result<(), MemberError> {
        ready(self.solo.reset_counters(slot))
    }

    fn clear_damage(&self) -> Result<(), MemberError> {
        ready(self.solo.clear_damage())
    }

    fn set_rules(&self, rules: Rules) -> Result<(), MemberError> {
        ready(self.solo.set_rules(rules))
    }

    fn set_witness(&self, witness: Option<WitnessPlace>) -> Result<(), MemberError> {
        ready(self.solo.set_witness(witness))
    }

    fn fill_in(&self, new: u8, old: Option<u8>) -> Result<String, String> {
        self.fill(new)?;
        let Some(old) = old else {
            return Ok("it holds everything; name it too when the volume is mounted".to_owned());
        };
        let old_name = name(self, old);
        Driver::remove(self, old).map_err(|error| {
            format!("copy {new} holds everything, but {old_name} could not be taken away: {error}")
        })?;
        Ok(format!(
            "it holds everything, and {old_name} was taken away; name the new one instead of it when \
             the volume is mounted"
        ))
    }
}
