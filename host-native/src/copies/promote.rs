//! Making a copy the master by the operator's word, from what it holds by itself (copies 3.7).

use std::path::{Path, PathBuf};

use farrier_core::copies::promotion::{GivenUp, by_rule};
use farrier_core::copies::witness::Heard;
use farrier_core::copies::{CopyGroup, CopyState, TransitionFault, lineage};
use farrier_core::drive::copies::MemberError;
use farrier_core::drive::promote::{Promotion, plan, promote};
use farrier_core::drive::{self, ready};
use farrier_core::error::Error;
use farrier_core::media::check::Checks;
use farrier_core::text;
use farrier_core::units::DeviceIndex;
use farrier_core::volume::{OpenOptions, Volume};
use serde::Serialize;

use super::record::{record_at, record_on};
use super::witness::WitnessLine;
use super::{no_copies, origin};
use crate::device::Devices;

/// A promotion that is worked out and not carried out.
#[derive(Debug)]
pub struct Promoting {
    path: PathBuf,
    devices: Devices,
    volume: Volume,
    promotion: Promotion,
    record: CopyGroup,
    witness: WitnessLine,
    heard: Option<Heard>,
}

/// What a promotion gives up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Loss {
    /// `farrier-copies-promote-1`.
    pub schema: String,
    /// The device.
    pub device: String,
    /// The slot of its copy.
    pub copy: u8,
    /// The state of the copy by its own record.
    pub state: String,
    /// The group.
    pub group: String,
    /// The last transaction that it holds whole.
    pub root_transaction: u64,
    /// The newest one that it knows of.
    pub known_transaction: u64,
    /// When the last commit was made that it holds whole, in microseconds since 1970; 0 if nobody
    /// knows.
    pub root_us: u64,
    /// When the newest commit was made that it knows of; 0 if nobody knows.
    pub known_us: u64,
    /// When the newest epoch that it knows of began, in microseconds since 1970.
    pub known_epoch_us: u64,
    /// Copies whose history is given up: they are diverged from then on.
    pub diverged: Vec<u8>,
    /// Copies that are taken for missing.
    pub out: Vec<u8>,
}

impl Promoting {
    /// Works out what it means to make the copy on `path` the master. Nothing is written.
    ///
    /// # Errors
    /// A sentence: why it cannot be the master.
    pub fn plan(path: &Path) -> Result<Self, String> {
        let named = path.display();
        let devices =
            Devices::open_writable(&[path.to_owned()]).map_err(|fault| fault.to_string())?;
        let record = record_on(&devices, DeviceIndex(0))
            .ok_or_else(|| format!("{named}: {}", no_copies()))?;
        let copies =
            lineage::Options { only_copy: Some(record.self_slot), ..lineage::Options::default() };
        let (witness, heard) = WitnessLine::ask(&devices, None);
        let checks = Checks::with_crc32c(crc32c::crc32c);
        let options = OpenOptions { checks, copies, ..OpenOptions::default() };
        let volume = match ready(drive::open(&devices, options)) {
            Ok(volume) => volume,
            Err(error) => {
                let text = super::refused(&devices, &options).map(|refused| refused.to_string());
                let text = text.unwrap_or_else(|| error.to_string());
                return Err(format!("{named}: {}", super::with_paths(&text, |_| Some(path))));
            }
        };
        let origin = origin().ok_or_else(|| {
            format!("{named}: /dev/urandom cannot be read; an epoch needs random bytes")
        })?;
        let promotion = plan(&volume, origin).map_err(|error| refused(&named, &error))?;
        let path = path.to_owned();
        Ok(Self { path, devices, volume, promotion, record, witness, heard })
    }

    /// What is given up by it.
    #[must_use]
    pub fn loss(&self) -> Loss {
        let Promotion { copy, root_tid, known_tid, diverged, .. } = self.promotion;
        let others = (0_u8..4).filter(|slot| *slot != copy);
        let is_there =
            |slot: &u8| self.record.slot(*slot).is_some_and(|one| one.state.is_configured());
        // a root that did not change with the last commits is still that of the last one
        let is_in_sync = self.record.slot(copy).is_some_and(|one| one.state == CopyState::InSync);
        let holds = if is_in_sync { self.volume.header().mirror_tid() } else { root_tid };
        let (diverged, out) = others.filter(is_there).partition(|slot| diverged & 1 << slot != 0);
        Loss {
            schema: "farrier-copies-promote-1".to_owned(),
            device: self.path.display().to_string(),
            copy,
            state: self.record.slot(copy).map_or("empty", |slot| slot.state.name()).to_owned(),
            group: self.record.group.to_string(),
            root_transaction: holds.0,
            known_transaction: known_tid.0,
            root_us: if is_in_sync { self.record.commit_time.0 } else { self.root_time() },
            known_us: self.record.commit_time.0,
            known_epoch_us: self.record.epoch.time.0,
            diverged,
            out,
        }
    }

    fn root_time(&self) -> u64 {
        self.record.slot(self.promotion.copy).map_or(0, |slot| slot.root_time.0)
    }

    /// Makes the copy the master. The witness, if there is one, is told before; returns why it was not,
    /// which keeps nobody from it: its word is what is overruled.
    ///
    /// # Errors
    /// A sentence: its device failed.
    pub fn carry_out(&self) -> Result<Option<String>, String> {
        let telling = self.promotion.telling(self.heard.as_ref());
        let untold = telling.and_then(|telling| self.witness.tell(&telling).err());
        ready(promote(&self.devices, &self.volume, &self.promotion))
            .map_err(|error| self.devices.explain(&error))?;
        Ok(untold.map(|fault| self.witness.fault().unwrap_or_else(|| fault.to_string())))
    }
}

/// Makes one of the copies on `devices` the master, where none is that holds everything, if the rule of
/// the group allows that unasked: the one with which least is lost. `named` is where the witness is, if
/// not where it was. Returns what was done and given up.
///
/// # Errors
/// A sentence: why none was.
pub fn promote_by_rule(devices: &[PathBuf], named: Option<&Path>) -> Result<String, String> {
    let heard = {
        let opened = Devices::open(devices).map_err(|fault| fault.to_string())?;
        WitnessLine::ask(&opened, named).1
    };
    let mut best: Option<(GivenUp, &Path)> = None;
    let mut why = String::new();
    for path in devices {
        let Some(record) = record_at(path) else { continue };
        match by_rule(&record, heard.as_ref()) {
            Ok(one) if best.is_none_or(|(best, _)| one.root_time > best.root_time) => {
                best = Some((one, path));
            }
            Ok(_) => {}
            Err(not) => why = format!("{}: {not}", path.display()),
        }
    }
    let (given_up, path) = best.ok_or(why)?;
    let mut promoting = Promoting::plan(path)?;
    promoting.promotion = promoting.promotion.clone().by_rule();
    let untold = promoting.carry_out()?;
    let slot = given_up.slot;
    let mut text = format!(
        "{} (copy {slot}): was made the master by the rule of the group, for no copy that holds \
         everything is here; what others wrote from {} to {} and later is given up; they are left alone \
         when they are here",
        path.display(),
        text::time(given_up.root_time),
        text::time(given_up.known_time),
    );
    if let Some(untold) = untold {
        text = format!("{text}; {untold}");
    }
    Ok(text)
}

fn refused(named: &impl std::fmt::Display, error: &MemberError) -> String {
    match error {
        MemberError::Transition(TransitionFault::NoRoot(slot)) => format!(
            "{named}: copy {slot} never held everything, so there is no state of it to go on from; \
             promote another copy"
        ),
        MemberError::Transition(TransitionFault::State { slot, state }) => format!(
            "{named}: copy {slot} is {}, and has no history of its own to go on from; promote \
             another copy",
            state.name()
        ),
        MemberError::Failed(Error::ReadOnly) => format!(
            "{named}: its own last state was not finished; `farrier check --only-copy` tells more; \
             promote another copy if there is one"
        ),
        error => format!("{named}: {error}"),
    }
}
