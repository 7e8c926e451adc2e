//! Copies that come and go, and the rules of their group: `farrier copies add`, `remove`, `replace`,
//! `detach`, `rejoin`, `handover` and `policy`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use farrier::copies::{MemberChange, MissingRule, PromoteRule, RuntimeRule};

use super::group::{Group, How, NewDevice, split_last};
use crate::cli::failure::{Failure, Outcome};

const TARGETS: &str = "DIR-or-DEVICE";
const COPY: &str = "the copy, by its number or device";
const NEW: &str = "the new device";

/// Make a device a further copy of a volume.
///
/// What the device holds is lost; it is refused if it holds something that is recognised, unless
/// --force is given, and if it is in use. Of a mounted volume it is filled in beside everything else
/// (`farrier copies resync --wait` waits for that); otherwise before the command returns.
#[derive(Debug, Args)]
#[command(override_usage = "farrier copies add [OPTIONS] DIR NEWDEVICE\n       \
                            farrier copies add [OPTIONS] DEVICE... NEWDEVICE")]
pub(super) struct Add {
    /// Directory of a mounted volume, or all the devices of one that is not mounted; and the device
    /// that is to become a copy.
    #[arg(required = true, num_args = 1.., value_names = [TARGETS, "NEWDEVICE"])]
    arguments: Vec<OsString>,

    /// Of a volume without copies: make it one of copies first. Other HAMMER2 tools do not know it any
    /// more then, until `farrier copies strip`.
    #[arg(long)]
    convert: bool,

    #[command(flatten)]
    new: NewDevice,

    #[command(flatten)]
    how: How,
}

impl Add {
    pub(super) fn run(&self) -> Outcome {
        let (targets, path) = split_last(&self.arguments, NEW)?;
        let group = Group::parse(targets)?;
        let (how, converts) = (self.how.with_conversion(self.convert), self.convert);
        self.new.with(path, |path, force| {
            group.change(&MemberChange::Add { path, force, converts }, how)
        })
    }
}

/// Make a volume of copies one without, on the device of one copy. The other copies are taken away.
///
/// Other HAMMER2 tools know it again then. It may be in use meanwhile. What was broken off goes on the
/// next time.
#[derive(Debug, Args)]
#[command(override_usage = "farrier copies strip [OPTIONS] DIR COPY\n       \
                            farrier copies strip [OPTIONS] DEVICE... COPY")]
pub(super) struct Strip {
    /// Directory of a mounted volume, or all the devices of one that is not mounted; and the copy that
    /// stays, by its number (0 to 3) or its device.
    #[arg(required = true, num_args = 1.., value_names = [TARGETS, "COPY"])]
    arguments: Vec<OsString>,

    #[command(flatten)]
    how: How,
}

impl Strip {
    pub(super) fn run(&self) -> Outcome {
        let (targets, copy) = split_last(&self.arguments, COPY)?;
        let group = Group::parse(targets)?;
        let copy = group.copy(copy)?;
        group.change(&MemberChange::Strip { copy }, self.how)
    }
}

/// Take a copy away for good.
///
/// The others must hold everything without it. Its device is told, so that it cannot come back by
/// accident; to have it back later use `farrier copies detach`.
#[derive(Debug, Args)]
#[command(override_usage = "farrier copies remove [OPTIONS] DIR COPY\n       \
                            farrier copies remove [OPTIONS] DEVICE... COPY")]
pub(super) struct Remove {
    /// Directory of a mounted volume, or all the devices of one that is not mounted; and the copy, by
    /// its number (0 to 3) or its device.
    #[arg(required = true, num_args = 1.., value_names = [TARGETS, "COPY"])]
    arguments: Vec<OsString>,

    #[command(flatten)]
    how: How,
}

impl Remove {
    pub(super) fn run(&self) -> Outcome {
        let (targets, copy) = split_last(&self.arguments, COPY)?;
        let group = Group::parse(targets)?;
        let copy = group.copy(copy)?;
        group.change(&MemberChange::Remove { copy }, self.how)
    }
}

/// Put a device in the place of a copy.
///
/// A copy that still serves does so until the new one holds everything, and is taken away then; one
/// that failed or is missing goes at once.
#[derive(Debug, Args)]
#[command(override_usage = "farrier copies replace [OPTIONS] DIR COPY NEWDEVICE\n       \
                            farrier copies replace [OPTIONS] DEVICE... COPY NEWDEVICE")]
pub(super) struct Replace {
    /// Directory of a mounted volume, or all the devices of one that is not mounted; the copy, by its
    /// number (0 to 3) or its device; and the device that takes its place.
    #[arg(required = true, num_args = 1.., value_names = [TARGETS, "COPY", "NEWDEVICE"])]
    arguments: Vec<OsString>,

    #[command(flatten)]
    new: NewDevice,

    #[command(flatten)]
    how: How,
}

impl Replace {
    pub(super) fn run(&self) -> Outcome {
        let (rest, path) = split_last(&self.arguments, NEW)?;
        let (targets, copy) = split_last(rest, COPY)?;
        let group = Group::parse(targets)?;
        let copy = group.copy(copy)?;
        self.new.with(path, |path, force| {
            group.change(&MemberChange::Replace { copy, path, force }, self.how)
        })
    }
}

/// Leave a copy behind that is sound: to carry it away, or to let its device rest.
///
/// It gets everything that was changed so far. Alone it is read-only, for the others may have gone on;
/// mounted with them it is brought up to date.
#[derive(Debug, Args)]
#[command(override_usage = "farrier copies detach [OPTIONS] DIR COPY\n       \
                            farrier copies detach [OPTIONS] DEVICE... COPY")]
pub(super) struct Detach {
    /// Directory of a mounted volume, or all the devices of one that is not mounted; and the copy, by
    /// its number (0 to 3) or its device.
    #[arg(required = true, num_args = 1.., value_names = [TARGETS, "COPY"])]
    arguments: Vec<OsString>,

    #[command(flatten)]
    how: How,
}

impl Detach {
    pub(super) fn run(&self) -> Outcome {
        let (targets, copy) = split_last(&self.arguments, COPY)?;
        let group = Group::parse(targets)?;
        let copy = group.copy(copy)?;
        group.change(&MemberChange::Detach { copy }, self.how)
    }
}

/// Attach a copy that was away, on a device that is here again.
///
/// A mounted volume looks for copies that failed or are missing by itself, where they were last; this is
/// for one that is somewhere else, that was detached, or that was left behind for its errors. It is
/// brought up to date beside everything else.
#[derive(Debug, Args)]
pub(super) struct Attach {
    /// Directory of the mounted volume.
    #[arg(value_name = "DIR")]
    directory: OsString,

    /// The device that the copy is on.
    #[arg(value_name = "DEVICE")]
    device: PathBuf,

    #[command(flatten)]
    how: How,
}

impl Attach {
    pub(super) fn run(&self) -> Outcome {
        let device = self.device.display();
        let path = std::path::absolute(&self.device)
            .map_err(|error| Failure::new(format!("{device}: {error}")))?;
        let group = Group::parse(std::slice::from_ref(&self.directory))?;
        group.change(&MemberChange::Attach { path }, self.how)
    }
}

/// Give up what a copy with a history of its own holds, so that it may come back.
///
/// A copy that went on without the others is left alone: what it holds is nowhere else. Look at it
/// first, with `farrier mount --only-copy N`. The next mount with all devices brings it up to date.
#[derive(Debug, Args)]
#[command(override_usage = "farrier copies rejoin --discard-its-data [OPTIONS] DIR COPY\n       \
                            farrier copies rejoin --discard-its-data [OPTIONS] DEVICE... COPY")]
pub(super) struct Rejoin {
    /// Directory of a mounted volume, or all the devices of one that is not mounted, the copy's
    /// among them; and the copy, by its number (0 to 3) or its device.
    #[arg(required = true, num_args = 1.., value_names = [TARGETS, "COPY"])]
    arguments: Vec<OsString>,

    /// Yes: what that copy holds and the others do not is lost.
    #[arg(long)]
    discard_its_data: bool,

    /// Of devices that are not mounted: the copy to go on from, where the copies do not agree.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..4))]
    master: Option<u8>,

    #[command(flatten)]
    how: How,
}

impl Rejoin {
    pub(super) fn run(&self) -> Outcome {
        let (targets, copy) = split_last(&self.arguments, COPY)?;
        let group = Group::parse(targets)?;
        let copy = group.copy(copy)?;
        if !self.discard_its_data {
            return Err(Failure::new(format!(
                "copy {copy}: what it holds and the others do not would be lost; look at it with \
                 `farrier mount --only-copy {copy}`, then say so with --discard-its-data"
            ))
            .with_code(6));
        }
        group.change(&MemberChange::Discard { copy }, self.how.with_master(self.master))
    }
}

/// Count what went wrong with copies from zero again, and empty the list of damage, once it was seen
/// to.
///
/// The list names what no copy can give (`farrier copies status`). It is of all copies together: with
/// --copy it stays. A scrub names again what is damaged still. On devices that are not mounted, this is
/// the way out for a volume that is read-only because the list is full (FC-D09).
#[derive(Debug, Args)]
pub(super) struct Clear {
    /// Directory of a mounted volume, or all the devices of one that is not mounted.
    #[arg(required = true, value_name = TARGETS)]
    targets: Vec<OsString>,

    /// Only of this copy, by its number (0 to 3) or its device; else of all.
    #[arg(short, long, value_name = "COPY")]
    copy: Option<OsString>,

    #[command(flatten)]
    how: How,
}

impl Clear {
    pub(super) fn run(&self) -> Outcome {
        let group = Group::parse(&self.targets)?;
        let copy = self.copy.as_ref().map(|copy| group.copy(copy)).transpose()?;
        let how = self.how.past_damage(copy.is_none());
        group.change(&MemberChange::Clear { copy }, how)
    }
}

/// Move the right to write to another copy, where one copy holds it.
///
/// From then on that copy may be carried away and be written alone, and the others are read-only
/// without it.
#[derive(Debug, Args)]
#[command(override_usage = "farrier copies handover [OPTIONS] DIR COPY\n       \
                            farrier copies handover [OPTIONS] DEVICE... COPY")]
pub(super) struct HandOver {
    /// Directory of a mounted volume, or all the devices of one that is not mounted; and the copy, by
    /// its number (0 to 3) or its device.
    #[arg(required = true, num_args = 1.., value_names = [TARGETS, "COPY"])]
    arguments: Vec<OsString>,

    #[command(flatten)]
    how: How,
}

impl HandOver {
    pub(super) fn run(&self) -> Outcome {
        let (targets, copy) = split_last(&self.arguments, COPY)?;
        let group = Group::parse(targets)?;
        let copy = group.copy(copy)?;
        group.change(&MemberChange::HandOver { copy }, self.how)
    }
}

/// Show the rules of a group, or change them.
///
/// any: whoever is left goes on when others fail; a mount wants all members. majority: more than half
/// of them, for both. holder:N: copy N, with whoever is left, for both. Where members are missing that
/// may have gone on, a mount is read-only (readonly) or fails (refuse); with `accept` it goes on, and
/// copies that went on without each other are found to be split when they meet.
#[derive(Debug, Args)]
pub(super) struct PolicyCommand {
    /// Directory of a mounted volume, or all the devices of one that is not mounted.
    #[arg(required = true, value_name = TARGETS)]
    targets: Vec<OsString>,

    /// Who may go on without whom.
    #[arg(long, value_name = "any|majority|holder:N", value_parser = runtime)]
    runtime: Option<RuntimeRule>,

    /// What a mount does if members are missing that may have gone on.
    #[arg(long, value_name = "RULE")]
    on_missing: Option<Missing>,

    /// Copies in sync that a mount for writing needs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..5))]
    min_copies: Option<u8>,

    /// Where no copy that holds everything is here, a mount goes on from an older state if it is known
    /// that no more than so much is lost. By default, only who says so may (`promote`).
    #[arg(long, value_name = "never|auto:SECONDS", value_parser = promotion)]
    promote: Option<PromoteRule>,

    /// How long a mounted volume whose last copies are lost waits for them: programs wait meanwhile,
    /// and go on when the copies are back as they were. 0, as at first: everything fails at once.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u16>,

    /// A file that is told of every epoch before anything is acknowledged in it, on none of the
    /// copies; `none` for no witness. With one, a mount needs no question if one of two copies is
    /// gone.
    #[arg(long, value_name = "FILE|none")]
    witness: Option<PathBuf>,

    #[command(flatten)]
    how: How,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Missing {
    Readonly,
    Refuse,
    Accept,
}

impl From<Missing> for MissingRule {
    fn from(rule: Missing) -> Self {
        match rule {
            Missing::Readonly => Self::Readonly,
            Missing::Refuse => Self::Refuse,
            Missing::Accept => Self::Accept,
        }
    }
}

fn runtime(value: &str) -> Result<RuntimeRule, String> {
    match value {
        "any" => Ok(RuntimeRule::Any),
        "majority" => Ok(RuntimeRule::Majority),
        _ => match value.strip_prefix("holder:").and_then(|slot| slot.parse().ok()) {
            Some(slot @ 0..4) => Ok(RuntimeRule::Holder(slot)),
            _ => Err("unknown; write any, majority, or holder:N with a copy from 0 to 3".into()),
        },
    }
}

fn promotion(value: &str) -> Result<PromoteRule, String> {
    let seconds = value.strip_prefix("auto:").and_then(|seconds| seconds.parse().ok());
    match (value, seconds) {
        ("never", _) => Ok(PromoteRule::Never),
        (_, Some(seconds)) => Ok(PromoteRule::Auto(seconds)),
        _ => Err("unknown; write never, or auto:SECONDS".into()),
    }
}

impl PolicyCommand {
    pub(super) fn run(&self) -> Outcome {
        let group = Group::parse(&self.targets)?;
        let on_missing = self.on_missing.map(MissingRule::from);
        let Self { runtime, min_copies, promote, wait: wait_seconds, .. } = *self;
        let rules = MemberChange::Rules { runtime, on_missing, min_copies, promote, wait_seconds };
        let changes_rules = runtime.is_some()
            || on_missing.is_some()
            || min_copies.is_some()
            || promote.is_some()
            || wait_seconds.is_some();
        if !changes_rules && self.witness.is_none() {
            let rules = group.status()?.rules.ok_or_else(|| {
                Failure::new(format!(
                    "{}: the copies cannot be used together; `farrier copies status` tells why",
                    group.name()
                ))
            })?;
            let mut out = io::stdout().lock();
            if self.how.json() {
                serde_json::to_writer_pretty(&mut out, &rules)?;
                writeln!(out)?;
            } else {
                writeln!(out, "rules:  {}", rules.text)?;
            }
            out.flush()?;
            return Ok(());
        }
        if let Some(witness) = &self.witness {
            let path = match witness.to_str() {
                Some("none") => None,
                _ => Some(group.place_for_witness(witness)?),
            };
            group.change(&MemberChange::Witness { path }, self.how)?;
        }
        match changes_rules {
            true => group.change(&rules, self.how),
            false => Ok(()),
        }
    }
}
