//! How the copies of a volume are: the answer to "am I safe, and what do I do?".

use std::path::PathBuf;
use std::time::Duration;

use farrier_core::copies::lineage::{self, Decision, ReadOnly};
use farrier_core::copies::{Cause, CopyGroup, CopyState};
use farrier_core::drive::{self, Host, ready};
use farrier_core::error::{Error, Refusal};
use farrier_core::media::check::Checks;
use farrier_core::media::copy_group::COPIES_MAX;
use farrier_core::media::damage::DamageList;
use farrier_core::text;
use farrier_core::units::DeviceIndex;
use farrier_core::volume::{Copies, OpenOptions, Volume};
use serde::{Deserialize, Serialize};

use super::damage::{self, lost};
use super::{
    DamageStatus, Event, MissingRule, RuntimeRule, WitnessLine, refused, rules, with_paths,
};
use crate::blocks::Blocks;
use crate::device::Devices;

/// What the whole comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Every copy holds everything.
    Healthy,
    /// Something is missing or was met; what was written is there.
    Degraded,
    /// A copy is being brought up to date.
    Resync,
    /// Nothing can be changed any more.
    Halted,
    /// The copies went on without each other, or cannot be told which is the newest.
    Split,
    /// The devices make no volume.
    Failed,
}

impl State {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Resync => "resync",
            Self::Halted => "halted",
            Self::Split => "split",
            Self::Failed => "failed",
        }
    }
}

/// How the copies of a volume are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// `farrier-copies-1`.
    pub schema: String,
    /// What it comes to.
    pub state: State,
    /// Number of the rule that stands in the way, if one does.
    pub code: Option<String>,
    /// What is the matter.
    pub status: String,
    /// What to do about it, if anything.
    pub action: Option<String>,
    /// 0 healthy, 2 degraded or resync, 3 damage, 4 halted, 5 split or lineage refused, 6 the
    /// operator's word is wanted, 7 made by a newer program.
    pub exit_code: u8,
    /// Whether this comes from a mount.
    pub is_mounted: bool,
    /// Whether it can be written.
    pub is_writable: bool,
    /// The group's id; none where the devices make no group.
    pub group: Option<String>,
    /// The current epoch.
    pub epoch: Option<EpochStatus>,
    /// The rules of the group.
    pub rules: Option<RulesStatus>,
    /// The copy that was opened by.
    pub master: Option<u8>,
    /// Every slot that has a copy.
    pub copies: Vec<CopyStatus>,
    /// Blocks that no copy can give, as far as they are known.
    pub damage: Vec<DamageStatus>,
    /// Whether there are more than the volume can keep a list of.
    pub has_more_damage: bool,
    /// The witness, if there is one.
    pub witness: Option<WitnessStatus>,
    /// The scrub that goes on, or was the last of this mount.
    pub scrub: Option<ScrubStatus>,
    /// What happened to copies since it was mounted, oldest first; the last ones, if it was much.
    pub events: Vec<Event>,
}

/// The current epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EpochStatus {
    /// Its name.
    pub id: String,
    /// Its number.
    pub seq: u64,
    /// When it began, in microseconds since 1970.
    pub since_us: u64,
    /// The slots of its members.
    pub members: Vec<u8>,
}

/// The witness of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WitnessStatus {
    /// Where it is looked for.
    pub place: String,
    /// Whether it could be asked.
    pub is_reached: bool,
    /// Whether it knows the current epoch.
    pub is_current: bool,
    /// What it said, or why it did not.
    pub text: String,
}

/// The rules of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RulesStatus {
    /// Who may go on without whom.
    pub runtime: RuntimeRule,
    /// What a mount does if members are missing.
    pub on_missing: MissingRule,
    /// Copies in sync that a mount for writing needs.
    pub min_copies: u8,
    /// Seconds that a mount may give up unasked; none if it may not.
    pub promote_seconds: Option<u32>,
    /// Seconds that a mounted volume waits for its last copies when they are lost.
    #[serde(default)]
    pub wait_seconds: u16,
    /// The same in words.
    pub text: String,
}

/// How one copy is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CopyStatus {
    /// Its slot.
    pub slot: u8,
    /// Its device, if it is here.
    pub device: Option<String>,
    /// Its state.
    pub state: CopyState,
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes and barriers that failed.
    pub write_errors: u64,
    /// Blocks that were not what they had to be.
    pub check_errors: u64,
    /// Blocks that were written anew from another copy.
    pub healed: u64,
    /// Blocks that were written elsewhere.
    pub relocated: u64,
    /// What its device failed with first, since it was opened.
    pub fault: Option<String>,
    /// Bytes filled in so far, while it is brought up to date.
    pub resynced_bytes: Option<u64>,
    /// Bytes that there are to fill in, about; nothing where that cannot be told before the walk
    /// through the tree has come to its end.
    pub resync_expected_bytes: Option<u64>,
    /// How long that has gone on, in milliseconds.
    pub resync_ms: Option<u64>,
}

/// Reading everything from every copy in sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Whether it goes on.
    pub state: ScrubState,
    /// Bytes read so far, from all copies.
    pub bytes: u64,
    /// Bytes that there are to read, about.
    pub expected_bytes: u64,
    /// How long it has gone on, pauses not counted, in milliseconds.
    pub ms: u64,
    /// Most bytes that it reads in a second; 0 for as many as it can.
    pub rate: u64,
    /// Blocks that were bad, counted for each copy.
    pub bad: u64,
    /// Those that were written again.
    pub healed: u64,
    /// Those that a copy did not take.
    pub failed: u64,
    /// Those that no copy could give.
    pub unreadable: u64,
}

impl ScrubStatus {
    /// One that has just begun.
    pub(crate) const fn begun() -> Self {
        Self {
            state: ScrubState::Running,
            bytes: 0,
            expected_bytes: 0,
            ms: 0,
            rate: 0,
            bad: 0,
            healed: 0,
            failed: 0,
            unreadable: 0,
        }
    }
}

/// Whether a scrub goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScrubState {
    /// It reads.
    Running,
    /// It waits until somebody has it go on.
    Paused,
    /// Everything was read.
    Done,
    /// Somebody stopped it.
    Stopped,
    /// The volume failed.
    Failed,
}

/// What a mount knows beside what was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The record of the group as it is now.
    pub(crate) group: Option<CopyGroup>,
    /// Why nothing can be changed any more.
    pub(crate) failed: Option<String>,
    /// Why a copy cannot be brought up to date.
    pub(crate) stalled: Option<String>,
    /// Blocks of it that nobody has.
    pub(crate) unreadable: u64,
    /// Bytes filled in so far, while that goes on.
    pub(crate) bytes: Option<u64>,
    /// Bytes that there are to fill in, as far as that can be told.
    pub(crate) expected_bytes: Option<u64>,
    /// For how long it has gone on.
    pub(crate) time: Option<Duration>,
    /// A scrub.
    pub(crate) scrub: Option<ScrubStatus>,
    /// Copies that were left behind because somebody said so.
    pub(crate) detached: u8,
    /// Reads that failed on each copy since it came in sync: one that was pulled fails many.
    pub(crate) failed_reads: [u64; COPIES_MAX],
    /// What no copy can give.
    pub(crate) damage: Option<DamageList>,
    /// What happened.
    pub(crate) events: Vec<Event>,
}

/// The outcome: state, exit code, number, what is the matter, what to do.
struct Verdict {
    state: State,
    exit_code: u8,
    code: Option<String>,
    status: String,
    action: Option<String>,
}

impl Verdict {
    fn new(state: State, exit_code: u8, status: impl Into<String>) -> Self {
        Self { state, exit_code, code: None, status: status.into(), action: None }
    }

    fn then(self, action: impl Into<String>) -> Self {
        Self { action: Some(action.into()), ..self }
    }
}

/// Memory for blocks while damage is looked up.
const CACHE_BYTES: usize = 16 << 20;

/// What a mount would find on `devices`.
///
/// # Errors
/// A sentence: they cannot be opened, somebody writes to them, or they hold no copies.
pub fn look(devices: &[PathBuf], copies: lineage::Options) -> Result<Status, String> {
    let open = || Devices::open(devices).map_err(|fault| fault.to_string());
    // the lock goes at once: nobody who is about to mount shall be kept out
    open()?.lock_shared().map_err(|path| {
        format!(
            "{}: somebody writes to it, and knows more; name the directory that it is mounted at",
            path.display()
        )
    })?;
    let opened = open()?;
    let checks = Checks::with_crc32c(crc32c::crc32c);
    let (witness, heard) = WitnessLine::ask(&opened, None);
    let copies = lineage::Options { witness: heard, ..copies };
    let options = OpenOptions { checks, copies, ..OpenOptions::default() };
    let first = devices.first().map(|path| path.display().to_string()).unwrap_or_default();
    match ready(drive::open(&opened, options)) {
        Ok(volume) => {
            let blocks = Blocks::with(volume, opened, witness, (CACHE_BYTES, 0));
            blocks.copies_found().ok_or_else(|| {
                format!(
                    "{first}: is no volume of copies; `farrier format --copy A --copy B` makes one"
                )
            })
        }
        Err(Error::Refused(Refusal::Copies { code })) => {
            let text = refused(&opened, &options).map(|refused| refused.to_string());
            let text = with_paths(&text.unwrap_or_default(), |index| opened.path(index));
            Ok(not_opened(code, &text))
        }
        Err(error) => Err(format!("{first}: {error}")),
    }
}

/// Devices that make no volume.
fn not_opened(code: &str, text: &str) -> Status {
    let (state, exit_code) = match code {
        "FC-S01" | "FC-S02" => (State::Split, 5),
        "FC-S10" => (State::Failed, 6),
        "FC-S07" | "FC-S08" => (State::Failed, 7),
        _ => (State::Failed, 5),
    };
    let (status, action) = parted(text);
    let verdict = Verdict { state, exit_code, code: Some(code.to_owned()), status, action };
    from(verdict)
}

fn from(verdict: Verdict) -> Status {
    let Verdict { state, exit_code, code, status, action } = verdict;
    Status {
        schema: "farrier-copies-1".to_owned(),
        state,
        code,
        status,
        action,
        exit_code,
        is_mounted: false,
        is_writable: false,
        group: None,
        epoch: None,
        rules: None,
        master: None,
        copies: Vec::new(),
        damage: Vec::new(),
        has_more_damage: false,
        witness: None,
        scrub: None,
        events: Vec::new(),
    }
}

/// The core's texts say what is the matter, then what to do.
fn parted(text: &str) -> (String, Option<String>) {
    match text.rsplit_once("; ") {
        Some((what, next)) => (what.to_owned(), Some(next.to_owned())),
        None => (text.to_owned(), None),
    }
}

/// How the copies of an open volume are; of one that is mounted, with what was `seen` since. What is
/// damaged is read from `host` by name. `None` if it has none.
pub(crate) fn of_open(
    volume: &Volume,
    devices: &Devices,
    seen: Option<Seen>,
    witness: &WitnessLine,
    host: &impl Host,
) -> Option<Status> {
    let is_mounted = seen.is_some();
    let seen = seen.unwrap_or_default();
    // one that got copies while it was open was not opened by a decision
    let decision = volume.group().map(|found| found.decision());
    let group = seen.group.as_ref().or(decision.map(|decision| &decision.group))?;
    let name = |index: DeviceIndex| devices.path(index);
    let copies = copies_of(volume, devices, group, &seen);
    let known = volume.group().map(Copies::damage);
    let nothing = DamageList::EMPTY;
    let list = seen.damage.as_ref().or(known).unwrap_or(&nothing);
    let verdict = match &seen.failed {
        Some(text) => Verdict::new(State::Halted, 4, text.clone()),
        None => match decision.and_then(not_writable) {
            Some(reason) => {
                let text = with_paths(&reason.to_string(), name);
                let (status, action) = parted(&text);
                let (state, exit_code) = (State::Degraded, code_of(&reason));
                Verdict { state, exit_code, code: Some(reason.code().to_owned()), status, action }
            }
            None => with_damage(verdict(&copies, &seen), &seen, list),
        },
    };
    let mut verdict = verdict;
    let epoch = group.epoch;
    if epoch.cause == Cause::PromotedByRule {
        let when = text::time(epoch.time);
        let what = "a copy was made the master by the rule of the group, and what others held beyond its \
                    state is given up";
        verdict.status = format!("{}; at {when} {what}", verdict.status);
    }
    let members = (0..8).filter(|slot| epoch.members & 1 << slot != 0).collect();
    Some(Status {
        is_mounted,
        is_writable: decision.is_none_or(|decision| decision.writable.is_ok())
            && seen.failed.is_none(),
        group: Some(group.group.to_string()),
        epoch: Some(EpochStatus {
            id: epoch.id.to_string(),
            seq: epoch.seq,
            since_us: epoch.time.0,
            members,
        }),
        rules: Some(RulesStatus {
            runtime: group.policy.runtime.into(),
            on_missing: group.policy.on_missing.into(),
            min_copies: group.min_copies,
            promote_seconds: group.policy.promote,
            wait_seconds: group.policy.wait_seconds,
            text: rules(group),
        }),
        master: match decision {
            Some(decision) => Some(decision.master),
            None => volume.copies().map(|live| live.master()),
        },
        copies,
        damage: damage::named(list, volume, host),
        has_more_damage: list.is_full(),
        witness: group.policy.witness.then(|| witness_of(group, witness)),
        scrub: seen.scrub,
        events: seen.events,
        ..from(verdict)
    })
}

fn witness_of(group: &CopyGroup, line: &WitnessLine) -> WitnessStatus {
    let place = line.path(&group.witness);
    let place = place.map_or_else(|| "an unknown place".to_owned(), |p| p.display().to_string());
    let seen =
        line.look(group).map(|holds| holds.epochs.first().map(|epoch| (epoch.id, epoch.seq)));
    let (is_reached, is_current, text) = match seen {
        Err(text) => (false, false, text),
        Ok(Some((id, _))) if id == group.epoch.id => {
            (true, true, "knows the current epoch".to_owned())
        }
        Ok(Some((id, seq))) if group.descends_from(id) => (
            true,
            false,
            format!("knows epoch {seq}, and is told of this one with the next commit"),
        ),
        Ok(seen) => {
            let id = seen.map_or_else(String::new, |(id, _)| id.to_string());
            (true, false, format!("knows epoch {id}, which no copy here knows"))
        }
    };
    WitnessStatus { place, is_reached, is_current, text }
}

/// Why it cannot be written; that somebody asked for that is no state of the copies.
fn not_writable(decision: &Decision) -> Option<ReadOnly> {
    decision.writable.err().filter(|reason| !matches!(reason, ReadOnly::Asked))
}

const fn code_of(reason: &ReadOnly) -> u8 {
    match reason {
        ReadOnly::Asked | ReadOnly::OneCopy { .. } => 2,
        ReadOnly::Record { .. } | ReadOnly::DamageList | ReadOnly::OlderRoot { .. } => 3,
        ReadOnly::Features { .. } => 7,
        _ => 6,
    }
}

fn copies_of(
    volume: &Volume,
    devices: &Devices,
    group: &CopyGroup,
    seen: &Seen,
) -> Vec<CopyStatus> {
    let live = volume.copies();
    let slots = (0..).zip(&group.slots).filter(|(_, slot)| slot.state.is_configured());
    let one = |(slot, record): (u8, &farrier_core::media::copy_group::CopySlot)| {
        let index = live.and_then(|live| live.device(slot));
        let path = index.and_then(|index| devices.path(index));
        let fault = index.and_then(|index| devices.first_fault(index));
        // what the record says has become more since it was read
        let counted = live.map_or(record.counters, |live| live.totals(slot));
        let is_behind = record.state == CopyState::Resync;
        // the next commit puts it on record
        let is_lost = live.is_some_and(|live| live.lost() & 1 << slot != 0);
        let is_attached =
            matches!(record.state, CopyState::InSync | CopyState::Resync | CopyState::Stale);
        let state = if is_lost && is_attached { CopyState::Out } else { record.state };
        CopyStatus {
            slot,
            device: path.map(|path| path.display().to_string()),
            state,
            read_errors: counted.read,
            write_errors: counted.write.saturating_add(counted.flush),
            check_errors: counted.check,
            healed: counted.healed,
            fault: fault.map(|fault| fault.cause.to_string()),
            relocated: counted.relocated,
            resynced_bytes: seen.bytes.filter(|_| is_behind),
            resync_expected_bytes: seen.expected_bytes.filter(|_| is_behind),
            resync_ms: seen.time.filter(|_| is_behind).map(milliseconds),
        }
    };
    slots.map(one).collect()
}

/// As many as a number can say.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What they come to if there is something that no copy can give.
fn with_damage(verdict: Verdict, seen: &Seen, list: &DamageList) -> Verdict {
    if list.is_empty() {
        return verdict;
    }
    let (lost, action) = lost(list);
    // what else is wrong is told first, but for bad blocks, which are these
    if verdict.exit_code == 2 || seen.stalled.is_some() {
        let status = format!("{}; {lost}", verdict.status);
        let action = match &verdict.action {
            Some(first) => format!("{first}; and {action}"),
            None => action,
        };
        Verdict { exit_code: 3, status, ..verdict }.then(action)
    } else {
        Verdict::new(State::Degraded, 3, lost).then(action)
    }
}

/// What the copies of a volume that can be used come to.
fn verdict(copies: &[CopyStatus], seen: &Seen) -> Verdict {
    let where_in = |wanted: fn(CopyState) -> bool| -> Vec<&CopyStatus> {
        copies.iter().filter(|copy| wanted(copy.state)).collect()
    };
    let behind = where_in(|state| matches!(state, CopyState::Resync | CopyState::Stale));
    let lost = where_in(|state| {
        !matches!(state, CopyState::InSync | CopyState::Resync | CopyState::Stale)
    });
    let healthy = where_in(|state| state == CopyState::InSync);
    if let Some(text) = &seen.stalled {
        let code = if seen.unreadable > 0 { 3 } else { 2 };
        let (status, action) = parted(text);
        return Verdict { action, ..Verdict::new(State::Degraded, code, status) };
    }
    if !lost.is_empty() && lost.iter().all(|copy| seen.detached & 1 << copy.slot != 0) {
        let status = format!("{} detached; {} on", told(&lost), going(&healthy));
        return Verdict::new(State::Degraded, 2, status)
            .then("none; mounted with all devices, what it lacks is filled in");
    }
    if !lost.is_empty() && lost.iter().all(|copy| copy.state == CopyState::Faulted) {
        let status = format!("{} not in use for bad blocks; {} on", told(&lost), going(&healthy));
        return Verdict::new(State::Degraded, 2, status).then(
            "see to the device, then `farrier copies attach DIR DEVICE`, or `farrier copies replace`",
        );
    }
    if !lost.is_empty() {
        let status = format!("{} not in use; {} on", told(&lost), going(&healthy));
        return Verdict::new(State::Degraded, 2, status).then(
            "see to the device, unmount, and mount with all devices: what a copy lacks is filled in",
        );
    }
    if !behind.is_empty() {
        let is_writing = seen.group.is_some();
        let how = if is_writing { "being brought up to date" } else { "behind" };
        let verdict = Verdict::new(State::Resync, 2, format!("{} {how}", told(&behind)));
        return match is_writing {
            true => verdict.then("none; `farrier copies resync --wait DIR` waits for it"),
            false => verdict.then("mount with all devices for writing, which brings it up to date"),
        };
    }
    // reads that failed on a copy that was left behind for it say nothing of its blocks
    let failed_reads = |slot: u8| seen.failed_reads.get(usize::from(slot)).copied().unwrap_or(0);
    let errors = |copy: &&CopyStatus| {
        copy.check_errors.saturating_add(failed_reads(copy.slot))
            > copy.healed.saturating_add(copy.relocated)
    };
    let bad: Vec<_> = copies.iter().filter(errors).collect();
    if !bad.is_empty() {
        let status = format!("bad blocks on {}, which other copies gave", named(&bad));
        return Verdict::new(State::Degraded, 3, status)
            .then("check the device and its cable; `farrier check` tells what is damaged");
    }
    Verdict::new(State::Healthy, 0, "every copy holds everything")
}

/// `copy 1 (b.img) is`, `copies 1 (b.img), 2 are`.
fn told(copies: &[&CopyStatus]) -> String {
    format!("{} {}", named(copies), if copies.len() == 1 { "is" } else { "are" })
}

/// `copy 1 (b.img)`, `copies 1 (b.img), 2`.
fn named(copies: &[&CopyStatus]) -> String {
    let name = |copy: &&CopyStatus| match &copy.device {
        Some(device) => format!("{} ({device})", copy.slot),
        None => copy.slot.to_string(),
    };
    let names: Vec<_> = copies.iter().map(name).collect();
    match copies {
        [_] => format!("copy {}", names.join(", ")),
        _ => format!("copies {}", names.join(", ")),
    }
}

fn going(copies: &[&CopyStatus]) -> String {
    let slots: Vec<_> = copies.iter().map(|copy| copy.slot.to_string()).collect();
    match copies {
        [_] => format!("copy {} goes", slots.join(", ")),
        _ => format!("copies {} go", slots.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_core::media::damage::DamagedBlock;
    use farrier_core::units::{Inum, WallTime};

    fn copy(slot: u8, state: CopyState) -> CopyStatus {
        CopyStatus {
            slot,
            device: Some(format!("{slot}.img")),
            state,
            read_errors: 0,
            write_errors: 0,
            check_errors: 0,
            healed: 0,
            relocated: 0,
            fault: None,
            resynced_bytes: None,
            resync_expected_bytes: None,
            resync_ms: None,
        }
    }

    #[test]
    fn the_worst_copy_says_what_it_comes_to() {
        let judged = |copies: &[CopyStatus]| {
            let verdict = verdict(copies, &Seen::default());
            (verdict.state, verdict.exit_code)
        };
        let good = copy(0, CopyState::InSync);
        assert_eq!(judged(&[good.clone(), copy(1, CopyState::InSync)]), (State::Healthy, 0));
        assert_eq!(judged(&[good.clone(), copy(1, CopyState::Resync)]), (State::Resync, 2));
        assert_eq!(judged(&[good.clone(), copy(1, CopyState::Out)]), (State::Degraded, 2));
        let faulted = [good.clone(), copy(1, CopyState::Faulted)];
        let told = verdict(&faulted, &Seen::default());
        assert!(told.exit_code == 2 && told.action.unwrap().contains("copies attach"));
        let bad = CopyStatus { check_errors: 2, healed: 1, ..copy(1, CopyState::InSync) };
        assert_eq!(judged(&[good.clone(), bad.clone()]), (State::Degraded, 3));
        assert_eq!(
            judged(&[good.clone(), CopyStatus { healed: 2, ..bad.clone() }]),
            (State::Healthy, 0)
        );
        let moved = CopyStatus { relocated: 1, ..bad };
        assert_eq!(judged(&[good.clone(), moved]), (State::Healthy, 0));
        // it was pulled, and is back
        let was_away = [good.clone(), CopyStatus { read_errors: 4, ..copy(1, CopyState::InSync) }];
        assert_eq!(judged(&was_away), (State::Healthy, 0));
        let seen = Seen { failed_reads: [0, 1, 0, 0], ..Seen::default() };
        assert_eq!(verdict(&was_away, &seen).exit_code, 3);
        let stalled = Some("copy 1 lacks 3 blocks that nobody has; repair".to_owned());
        let seen = Seen { stalled, unreadable: 3, ..Seen::default() };
        let verdict = verdict(&[good, copy(1, CopyState::Resync)], &seen);
        assert_eq!((verdict.exit_code, verdict.action.as_deref()), (3, Some("repair")));
    }

    #[test]
    fn what_no_copy_can_give_is_damage_whatever_else_there_is() {
        let copies = [copy(0, CopyState::InSync), copy(1, CopyState::InSync)];
        let judged = |copies: &[CopyStatus], list: &DamageList| {
            let seen = Seen::default();
            with_damage(verdict(copies, &seen), &seen, list)
        };
        let mut list = DamageList::EMPTY;
        assert_eq!(judged(&copies, &list).exit_code, 0);
        let block = |offset| DamagedBlock::unread(1, Inum(9), (offset, 1), WallTime(0));
        list.note(block(0));
        let one = judged(&copies, &list);
        assert_eq!((one.state, one.exit_code), (State::Degraded, 3));
        assert!(one.status.starts_with("1 block,") && one.action.unwrap().contains("scrub"));
        let behind = [copy(0, CopyState::InSync), copy(1, CopyState::Resync)];
        let both = judged(&behind, &list);
        assert_eq!((both.state, both.exit_code), (State::Resync, 3));
        assert!(both.status.contains("copy 1 (1.img) is behind; 1 block"), "{}", both.status);
        list.set_full(true);
        let full = judged(&copies, &list);
        assert!(full.status.contains("and more,") && full.action.unwrap().contains("FC-D09"));
        list.retain(|_| false);
        assert!(judged(&copies, &list).status.starts_with("more blocks than are known"));
    }

    #[test]
    fn every_refusal_has_its_exit_code() {
        let code = |code| not_opened(code, "FC: no; do it").exit_code;
        assert_eq!(["FC-S01", "FC-S05", "FC-S08", "FC-S10"].map(code), [5, 5, 7, 6]);
        assert_eq!(code_of(&ReadOnly::Missing { members: 2 }), 6);
        assert_eq!(code_of(&ReadOnly::DamageList), 3);
    }
}
