//! Changing the members of a group and its rules: the same for a mount and for a volume that is
//! opened for it.
//!
//! Nothing is lost silently: a device that holds something is refused unless the caller says
//! otherwise, and a copy that still serves goes only when its successor holds everything.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use farrier_core::copies::{
    CopyGroup, CopyState, EpochId, OnMissing, Rules, Runtime, TransitionFault, WitnessPlace,
};
use farrier_core::drive::convert::NewGroup;
use farrier_core::drive::copies::{MemberError, NewCopy};
use farrier_core::error::Error;
use farrier_core::media::copy_group::COPIES_MAX;
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, Uuid};
use farrier_core::volume::LiveCopies;
use serde::{Deserialize, Serialize};

use super::record::record_on;
use crate::device::Devices;
use crate::in_use::user_of;
use crate::recognise::contents;

/// A change of the members of a group, or of its rules.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum MemberChange {
    /// A device becomes a copy.
    Add {
        /// Its path, which does not depend on a working directory.
        path: PathBuf,
        /// Whatever it holds.
        force: bool,
        /// Whether a volume without copies becomes one of copies.
        converts: bool,
    },
    /// The volume becomes one without copies.
    Strip {
        /// Slot of the copy whose device it is on from then on.
        copy: u8,
    },
    /// A copy goes for good.
    Remove {
        /// Its slot.
        copy: u8,
    },
    /// A device takes the place of a copy.
    Replace {
        /// Slot of the copy.
        copy: u8,
        /// Path of the device.
        path: PathBuf,
        /// Whatever it holds.
        force: bool,
    },
    /// A copy leaves on purpose and may come back.
    Detach {
        /// Its slot.
        copy: u8,
    },
    /// A copy that was away is on a device that is here again.
    Attach {
        /// Its path, which does not depend on a working directory.
        path: PathBuf,
    },
    /// What a copy with a history of its own holds is given up.
    Discard {
        /// Its slot.
        copy: u8,
    },
    /// What went wrong is counted from zero again.
    Clear {
        /// Slot of the copy; every copy if there is none, and then the list of damage is emptied too.
        copy: Option<u8>,
    },
    /// Other rules; what is left out stays.
    Rules {
        /// Who may go on without whom.
        runtime: Option<RuntimeRule>,
        /// What a mount does if members are missing.
        on_missing: Option<MissingRule>,
        /// Copies in sync that a mount for writing needs.
        min_copies: Option<u8>,
        /// Seconds that a mount may give up unasked.
        #[serde(default)]
        promote: Option<PromoteRule>,
        /// Seconds that a volume which halted waits for its copies.
        #[serde(default)]
        wait_seconds: Option<u16>,
    },
    /// The group gets a witness, another one, or none.
    Witness {
        /// Path of the file, which does not depend on a working directory.
        path: Option<PathBuf>,
    },
    /// The right to write moves to a copy.
    HandOver {
        /// Its slot.
        copy: u8,
    },
}

/// Who may go on without whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeRule {
    /// Whoever is left.
    Any,
    /// More than half of the members.
    Majority,
    /// The copy in that slot, with whoever is left.
    Holder(u8),
}

/// Whether a mount may go on from an older state unasked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromoteRule {
    /// Only the operator may.
    Never,
    /// If no more than so many seconds are lost.
    Auto(u32),
}

/// What a mount does if members are missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingRule {
    /// It is read-only.
    Readonly,
    /// It fails.
    Refuse,
    /// It goes on.
    Accept,
}

impl From<RuntimeRule> for Runtime {
    fn from(rule: RuntimeRule) -> Self {
        match rule {
            RuntimeRule::Any => Self::Any,
            RuntimeRule::Majority => Self::Majority,
            RuntimeRule::Holder(slot) => Self::Holder(slot),
        }
    }
}

impl From<Runtime> for RuntimeRule {
    fn from(rule: Runtime) -> Self {
        match rule {
            Runtime::Any => Self::Any,
            Runtime::Majority => Self::Majority,
            Runtime::Holder(slot) => Self::Holder(slot),
        }
    }
}

impl From<MissingRule> for OnMissing {
    fn from(rule: MissingRule) -> Self {
        match rule {
            MissingRule::Readonly => Self::ReadOnly,
            MissingRule::Refuse => Self::Refuse,
            MissingRule::Accept => Self::Accept,
        }
    }
}

impl From<OnMissing> for MissingRule {
    fn from(rule: OnMissing) -> Self {
        match rule {
            OnMissing::ReadOnly => Self::Readonly,
            OnMissing::Refuse => Self::Refuse,
            OnMissing::Accept => Self::Accept,
        }
    }
}

/// What came of a change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// `farrier-copies-change-1`.
    pub schema: String,
    /// The copy that it was about, if it was about one; of one that was added, its slot.
    pub copy: Option<u8>,
    /// What was done.
    pub text: String,
    /// What comes next, or what to do next.
    pub next: String,
}

/// The rules of a group in words: `any copy may go on alone; ...`.
#[must_use]
pub fn rules(group: &CopyGroup) -> String {
    let Rules { runtime, on_missing, min_copies, promote, wait_seconds } = group.rules();
    let runtime = match runtime {
        Runtime::Any => "whoever is left may go on (any)".to_owned(),
        Runtime::Majority => "more than half of the members may go on (majority)".to_owned(),
        Runtime::Holder(slot) => format!("only copy {slot} may let others write (holder:{slot})"),
    };
    let on_missing = match on_missing {
        OnMissing::ReadOnly => "read-only (readonly)",
        OnMissing::Refuse => "refused (refuse)",
        OnMissing::Accept => "mounted for writing without a question (accept)",
    };
    let mut text = format!(
        "{runtime}; where members are missing that may have gone on, it is {on_missing}; a mount \
         for writing needs {min_copies} in sync"
    );
    if let Some(seconds) = promote {
        let _ = write!(
            text,
            "; where no copy holds everything, a mount goes on from an older state if no more than \
             {seconds} s are lost (auto:{seconds})"
        );
    }
    if wait_seconds > 0 {
        let _ = write!(
            text,
            "; a mounted volume whose last copies are lost waits {wait_seconds} s for them (wait)"
        );
    }
    if group.policy.witness {
        let place = group.witness.place.escape_ascii();
        let _ = write!(text, "; the witness {place} is told of every epoch");
    }
    text
}

/// Who carries changes out: a mount, or a volume that is opened for them.
pub(crate) trait Driver {
    fn devices(&self) -> &Devices;
    fn live(&self) -> Option<&LiveCopies>;
    /// The record of the group as it is now.
    fn group(&self) -> Option<CopyGroup>;

    /// A volume without copies becomes one of copies, of which it is the first.
    fn convert(&self, new: NewGroup) -> Result<(), MemberError>;

    /// A volume of copies becomes one without, on the device of the copy `keep`; the other copies are
    /// taken away. It goes on where it was broken off.
    fn strip(&self, keep: u8) -> Result<(), MemberError>;

    fn add(&self, new: NewCopy) -> Result<u8, MemberError>;
    fn remove(&self, slot: u8) -> Result<(), MemberError>;
    fn replace(&self, slot: u8, new: NewCopy) -> Result<u8, MemberError>;
    fn detach(&self, slot: u8) -> Result<(), MemberError>;
    fn discard(&self, slot: u8, epoch: EpochId) -> Result<(), MemberError>;

    /// Attaches the copy on the device at `path`.
    ///
    /// # Errors
    /// A sentence: why not, and what to do.
    fn attach(&self, path: &Path) -> Result<u8, String>;

    /// Counts what happens to the copy in `slot` from zero again.
    fn reset_counters(&self, slot: u8) -> Result<(), MemberError>;

    /// Forgets what no copy can give.
    fn clear_damage(&self) -> Result<(), MemberError>;

    fn set_rules(&self, rules: Rules) -> Result<(), MemberError>;
    fn set_witness(&self, witness: Option<WitnessPlace>) -> Result<(), MemberError>;

    /// Has the copy `new` filled in, and then takes away `old`, if one is named. Returns what to tell
    /// of that: it may go on beside everything else, or be over.
    ///
    /// # Errors
    /// What to tell if it did not get so far.
    fn fill_in(&self, new: u8, old: Option<u8>) -> Result<String, String>;
}

/// Carries out a change.
///
/// # Errors
/// A sentence: why not, where, and what to do.
pub(crate) fn change(driver: &impl Driver, change: &MemberChange) -> Result<Changed, String> {
    let group = match (driver.group(), change) {
        (Some(group), _) => group,
        (None, MemberChange::Add { path, force, converts: true }) => {
            return add_second(driver, path, *force);
        }
        (None, _) => return Err(no_copies()),
    };
    let name = |slot: u8| name(driver, slot);
    match *change {
        MemberChange::Add { ref path, force, .. } => {
            let slot = add(driver, path, force, |new| driver.add(new))?;
            let next = driver.fill_in(slot, None)?;
            Ok(told(Some(slot), format!("{}: added as copy {slot}", path.display()), next))
        }
        MemberChange::Strip { copy } => {
            let name = name(copy);
            driver.strip(copy).map_err(|error| explain(&error, &name))?;
            (0..COPIES_MAX).filter_map(|slot| u8::try_from(slot).ok()).for_each(|slot| {
                if slot != copy {
                    release(driver, slot);
                }
            });
            let text = format!("{name}: is a volume without copies; the others were taken away");
            let next =
                "where it is not mounted, any program for HAMMER2 may use it; `farrier mount` \
                        takes it alone"
                    .to_owned();
            Ok(told(Some(copy), text, next))
        }
        MemberChange::Remove { copy } => {
            let name = name(copy);
            driver.remove(copy).map_err(|error| explain(&error, &name))?;
            release(driver, copy);
            let next =
                "the device is free for something else; `farrier format --force` or another \
                        use overwrites what is left on it"
                    .to_owned();
            Ok(told(Some(copy), format!("{name}: taken away for good"), next))
        }
        MemberChange::Replace { copy, ref path, force } => {
            replace(driver, &group, copy, path, force)
        }
        MemberChange::Detach { copy } => {
            let name = name(copy);
            driver.detach(copy).map_err(|error| explain(&error, &name))?;
            release(driver, copy);
            let next =
                "it holds everything up to now; mount with all devices and it is brought up \
                        to date; alone it is read-only"
                    .to_owned();
            Ok(told(Some(copy), format!("{name}: detached"), next))
        }
        MemberChange::Attach { ref path } => {
            let slot = driver.attach(path)?;
            let next = driver.fill_in(slot, None)?;
            Ok(told(Some(slot), format!("{}: attached as copy {slot}", path.display()), next))
        }
        MemberChange::Discard { copy } => {
            let name = name(copy);
            let epoch = epoch_of(driver, &group, copy)?;
            driver.discard(copy, epoch).map_err(|error| explain(&error, &name))?;
            let text = format!("{name}: what it held by itself is given up");
            let next = "the next mount with all devices brings it up to date".to_owned();
            Ok(told(Some(copy), text, next))
        }
        MemberChange::Clear { copy } => {
            let is_meant = |slot: &u8| {
                let is_there = group.slot(*slot).is_some_and(|slot| slot.state.is_configured());
                copy.map_or(is_there, |copy| copy == *slot)
            };
            let slots: Vec<u8> = (0..4).filter(is_meant).collect();
            for slot in &slots {
                let name = name(*slot);
                driver.reset_counters(*slot).map_err(|error| explain(&error, &name))?;
            }
            let names: Vec<String> = slots.into_iter().map(name).collect();
            let mut text = format!("{}: counted from zero again", names.join(", "));
            if copy.is_none() {
                driver.clear_damage().map_err(|error| error.to_string())?;
                text.push_str(", and the list of damage is empty");
            }
            Ok(told(copy, text, "`farrier copies scrub` finds what is bad still".to_owned()))
        }
        MemberChange::Rules { runtime, on_missing, min_copies, promote, wait_seconds } => {
            let before = group.rules();
            let wanted = Rules {
                runtime: runtime.map_or(before.runtime, Runtime::from),
                on_missing: on_missing.map_or(before.on_missing, OnMissing::from),
                min_copies: min_copies.unwrap_or(before.min_copies),
                promote: match promote {
                    None => before.promote,
                    Some(PromoteRule::Never) => None,
                    Some(PromoteRule::Auto(seconds)) => Some(seconds),
                },
                wait_seconds: wait_seconds.unwrap_or(before.wait_seconds),
            };
            set_rules(driver, wanted)?;
            let now = driver.group().ok_or_else(no_copies)?;
            Ok(told(None, rules(&now), "none".to_owned()))
        }
        MemberChange::Witness { ref path } => {
            set_witness(driver, &group, path.as_deref())?;
            let now = driver.group().ok_or_else(no_copies)?;
            Ok(told(None, rules(&now), "none".to_owned()))
        }
        MemberChange::HandOver { copy } => {
            let before = group.rules();
            if !matches!(before.runtime, Runtime::Holder(_)) {
                return Err(format!(
                    "no copy holds the right to write: {}; `farrier copies policy --runtime \
                     holder:{copy}` gives it to one",
                    rules(&group)
                ));
            }
            set_rules(driver, Rules { runtime: Runtime::Holder(copy), ..before })?;
            let text = format!("{}: holds the right to write from now on", name(copy));
            let next = "it may be carried away and mounted for writing alone; the others are \
                        read-only without it"
                .to_owned();
            Ok(told(Some(copy), text, next))
        }
    }
}

fn told(copy: Option<u8>, text: String, next: String) -> Changed {
    Changed { schema: "farrier-copies-change-1".to_owned(), copy, text, next }
}

/// A volume without copies gets its first two: what it is on, and the device at `path`.
fn add_second(driver: &impl Driver, path: &Path, force: bool) -> Result<Changed, String> {
    let ids = new_id().and_then(|group| Ok((group, new_id()?)));
    let (group, device) =
        ids.map_err(|error| format!("/dev/urandom: {error}; ids need random bytes"))?;
    // the new device is looked at first: a volume of a single copy is of no use to anybody
    let slot = add(driver, path, force, |new| {
        driver.convert(NewGroup { group, device })?;
        driver.add(new)
    })?;
    let next = driver.fill_in(slot, None)?;
    let text = format!(
        "{}: added as copy {slot}; the volume is one of copies, which other programs do not know",
        path.display()
    );
    Ok(told(Some(slot), text, next))
}

/// The successor is filled in first wherever that can be: until then the old copy serves.
fn replace(
    driver: &impl Driver,
    group: &CopyGroup,
    copy: u8,
    path: &Path,
    force: bool,
) -> Result<Changed, String> {
    let state = group.slot(copy).map_or(CopyState::Empty, |slot| slot.state);
    let old = name(driver, copy);
    if !state.is_configured() {
        return Err(format!("{old}: there is no such copy; `farrier copies status` lists them"));
    }
    let serves = matches!(state, CopyState::InSync | CopyState::Resync);
    let is_room = group.configured() < u8::try_from(COPIES_MAX).unwrap_or(u8::MAX);
    if group.policy.runtime == Runtime::Holder(copy) {
        return Err(explain(&MemberError::Holder, &old));
    }
    let (slot, next) = if serves && is_room {
        let slot = add(driver, path, force, |new| driver.add(new))?;
        (slot, driver.fill_in(slot, Some(copy))?)
    } else {
        let slot = add(driver, path, force, |new| driver.replace(copy, new))?;
        release_unless(driver, copy, slot);
        (slot, driver.fill_in(slot, None)?)
    };
    let text = format!("{}: added as copy {slot} in place of {old}", path.display());
    Ok(told(Some(slot), text, next))
}

/// Opens a device and has it made a copy; lets go of it if that fails.
fn add(
    driver: &impl Driver,
    path: &Path,
    force: bool,
    make: impl FnOnce(NewCopy) -> Result<u8, MemberError>,
) -> Result<u8, String> {
    let devices = driver.devices();
    let named = path.display();
    if let Some(user) = user_of(path) {
        return Err(format!("{named}: {user}"));
    }
    let device = devices.add(path).map_err(|fault| fault.to_string())?;
    let added = may_overwrite(devices, device, path, force).and_then(|()| {
        let id =
            new_id().map_err(|error| format!("/dev/urandom: {error}; ids need random bytes"))?;
        let new = NewCopy { device, size: devices.size(device), id };
        make(new).map_err(|error| explain(&error, &named.to_string()))
    });
    if added.is_err() {
        devices.release(device);
    }
    added
}

fn may_overwrite(
    devices: &Devices,
    device: DeviceIndex,
    path: &Path,
    force: bool,
) -> Result<(), String> {
    match contents(devices, device, path) {
        Some(what) if !force => {
            let path = path.display();
            let what = match record_on(devices, device) {
                Some(record) => format!("{what}, a copy of group {}", record.group),
                None => what.to_owned(),
            };
            Err(format!("{path}: holds {what}; use --force to overwrite it"))
        }
        _ => Ok(()),
    }
}

fn set_rules(driver: &impl Driver, rules: Rules) -> Result<(), String> {
    driver.set_rules(rules).map_err(|error| match (&error, rules.runtime) {
        (MemberError::Transition(TransitionFault::State { slot, .. }), Runtime::Holder(_)) => {
            format!(
                "{}: is not in sync, and only such a copy may hold the right to write; \
                 `farrier copies status` tells why",
                name(driver, *slot)
            )
        }
        (MemberError::Transition(TransitionFault::TooFew { have, need }), _) => {
            format!("{need} copies cannot be wanted: {have} are in sync; add or attach more first")
        }
        (error, _) => explain(error, "the rules"),
    })
}

fn set_witness(driver: &impl Driver, group: &CopyGroup, path: Option<&Path>) -> Result<(), String> {
    let witness = match path {
        None => None,
        Some(path) if super::witness::is_at(path, group) => return Ok(()),
        Some(path) => {
            let id = new_id().map_err(|error| format!("/dev/urandom: {error}"))?;
            Some(super::witness::make(path, id, group)?)
        }
    };
    driver.set_witness(witness).map_err(|error| explain(&error, "the witness"))
}

/// The epoch that a copy which is left alone names as its own.
fn epoch_of(driver: &impl Driver, group: &CopyGroup, copy: u8) -> Result<EpochId, String> {
    let devices = driver.devices();
    let count = u8::try_from(devices.device_count()).unwrap_or(u8::MAX);
    let records = (0..count).filter_map(|index| record_on(devices, DeviceIndex(index)));
    let mut own = records.filter(|record| record.group == group.group && record.self_slot == copy);
    own.next().map(|record| record.epoch.id).ok_or_else(|| {
        format!(
            "copy {copy}: is not here; name its device too, so that it is known what is given up"
        )
    })
}

/// The device of a copy may be used for something else.
fn release(driver: &impl Driver, copy: u8) {
    if let Some(device) = driver.live().and_then(|live| live.device(copy)) {
        driver.devices().release(device);
    }
}

/// The same, unless another device is in its slot already.
fn release_unless(driver: &impl Driver, copy: u8, slot: u8) {
    if copy != slot {
        release(driver, copy);
    }
}

/// What messages call a copy.
pub(crate) fn name(driver: &impl Driver, slot: u8) -> String {
    let device = driver.live().and_then(|live| live.device(slot));
    match device.and_then(|device| driver.devices().path(device)) {
        Some(path) => format!("{} (copy {slot})", path.display()),
        None => format!("copy {slot}"),
    }
}

pub(crate) fn no_copies() -> String {
    "is no volume of copies; `farrier format --copy A --copy B` makes one, and `farrier copies add \
     --convert` makes one of this"
        .to_owned()
}

/// What a person is told about a change of members that cannot be made. `name` is what it is about.
pub(super) fn explain(error: &MemberError, name: &str) -> String {
    use TransitionFault as T;
    match error {
        MemberError::Transition(T::NoSlot(_)) => format!("{name}: copies are numbered 0 to 3"),
        MemberError::Transition(T::State {
            state: CopyState::Empty | CopyState::Retired, ..
        }) => {
            format!("{name}: there is no such copy; `farrier copies status` lists them")
        }
        MemberError::Transition(T::State { state: CopyState::InSync, .. }) => {
            format!("{name}: is in sync, and what it holds is what all of them hold")
        }
        MemberError::Transition(T::State { state, .. }) => format!(
            "{name}: is {}, which does not allow this; `farrier copies status` tells what to do",
            state.name()
        ),
        MemberError::Transition(T::LastInSync(_)) => format!(
            "{name}: is the only one that holds everything; add another with `farrier copies add` \
             and wait for it first"
        ),
        MemberError::Transition(T::TooFew { have, need }) => format!(
            "{name}: {have} in sync would be left, and the group wants {need}; add another first, \
             or change that with `farrier copies policy --min-copies`"
        ),
        MemberError::NoSlot => format!(
            "{name}: there are {COPIES_MAX} copies already; `farrier copies replace` puts it in the \
             place of one"
        ),
        MemberError::TooSmall { need } => {
            format!("{name}: is too small: {need} bytes are needed at least; name a larger one")
        }
        MemberError::InUse => format!("{name}: is a copy of this volume; name another device"),
        MemberError::Holder => format!(
            "{name}: holds the right to write; hand that over with `farrier copies handover`, or \
             change the rule with `farrier copies policy --runtime any`, first"
        ),
        MemberError::Rule => format!(
            "{name}: by the rule of this group the others may not go on without it; add another \
             first, or change the rule with `farrier copies policy --runtime any`"
        ),
        MemberError::Unwritable => {
            format!("{name}: does not take what is written to it; check it, or name another device")
        }
        MemberError::Failed(Error::NotSupported) => format!("{name}: {}", no_copies()),
        error => format!("{name}: {error}"),
    }
}

/// A name that nobody else has.
pub(super) fn new_id() -> std::io::Result<Uuid> {
    let mut id = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut id)?;
    Ok(Uuid(id))
}
