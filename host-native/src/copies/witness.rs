//! The witness of a group, as a file: asked at a mount, and told of epochs (copies, witness).
//!
//! The file is anywhere but on the copies: on another disk, a stick, a share. It is written as a new
//! one that takes the old one's name, with the folder locked meanwhile, so that it is whole whenever
//! the power goes, and two programs do not both replace what they read.
//!
//! Invariants:
//! * It is only made where somebody asked for it. A folder without it may be one that nothing is
//!   mounted at now: what was made there would speak for nobody later.
//! * Nobody waits for it for longer than [`PATIENCE`]. What it then does, late, is of an epoch that was
//!   given up, and is never done after something newer.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

use farrier_core::copies::witness::{Heard, Telling, WitnessFault};
use farrier_core::copies::{CopyGroup, WitnessPlace};
use farrier_core::media::witness::{Testimony, WITNESS_LEN};
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, Uuid};
use rustix::fs::{FlockOperation, flock};

use super::record::record_on;
use crate::blocks::lock;
use crate::device::Devices;

/// How long it is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the new file is called until it takes the name of the old one.
const NEW_SUFFIX: &str = ".new";

/// What a witness said, or why it said nothing.
type Answer = Result<Testimony, String>;

/// The way to the witness of a group.
#[derive(Debug, Default)]
pub(crate) struct WitnessLine {
    state: Mutex<LineState>,
}

#[derive(Debug, Default)]
struct LineState {
    /// Where somebody said that the witness with that name is.
    named: Option<(Uuid, PathBuf)>,
    /// A call that has not come to its end in time.
    hanging: Option<Receiver<Answer>>,
    /// What the last call came to, if it failed.
    fault: Option<String>,
}

impl WitnessLine {
    /// Asks the witness of the group that `devices` are of, if it has one, at the place that somebody
    /// `named` or that its record says.
    pub(crate) fn ask(devices: &Devices, named: Option<&Path>) -> (Self, Option<Heard>) {
        let line = Self::default();
        let count = u8::try_from(devices.device_count()).unwrap_or(u8::MAX);
        let records = (0..count).filter_map(|index| record_on(devices, DeviceIndex(index)));
        // the one that knows most
        let record = records.max_by_key(|record| (record.epoch.seq, record.flush_seq));
        let Some(record) = record.filter(|record| record.policy.witness) else {
            return (line, None);
        };
        if let Some(path) = named {
            lock(&line.state).named = Some((record.witness.id, path.to_owned()));
        }
        let heard = line.look(&record).ok().map(|testimony| Heard::of(&testimony));
        (line, heard)
    }

    /// What the witness of `group` holds now.
    ///
    /// # Errors
    /// A sentence: why it cannot be asked.
    pub(crate) fn look(&self, group: &CopyGroup) -> Answer {
        let wanted = (group.group, group.witness.id);
        self.call(&group.witness, move |path| {
            let holds = read(path)?;
            match (holds.group, holds.witness) == wanted {
                true => Ok(holds),
                false => Err(WitnessFault::Foreign.to_string()),
            }
        })
    }

    /// Tells the witness, if it may be told.
    pub(crate) fn tell(&self, telling: &Telling) -> Result<(), WitnessFault> {
        let told = telling.clone();
        let mut overtaken = None;
        let answer = self.call(&telling.group().witness, move |path| replace(path, &told));
        if let Ok(holds) = &answer {
            overtaken = telling.judge(holds).err();
        }
        match (answer, overtaken) {
            (Ok(_), None) => Ok(()),
            (Ok(_), Some(fault)) => {
                lock(&self.state).fault = Some(fault.to_string());
                Err(fault)
            }
            (Err(_), _) => Err(WitnessFault::Unreachable),
        }
    }

    /// Where the witness with that name is, if somebody said so.
    pub(crate) fn named(&self, id: Uuid) -> Option<PathBuf> {
        let state = lock(&self.state);
        state.named.as_ref().filter(|(named, _)| *named == id).map(|(_, path)| path.clone())
    }

    /// Why the last call failed: with the path.
    pub(crate) fn fault(&self) -> Option<String> {
        lock(&self.state).fault.clone()
    }

    /// What to add to a refusal: why the witness was not asked, if that failed.
    pub(crate) fn unheard(&self) -> String {
        self.fault().map_or_else(String::new, |fault| format!(" ({fault})"))
    }

    /// Where the witness is looked for.
    pub(crate) fn path(&self, witness: &WitnessPlace) -> Option<PathBuf> {
        self.named(witness.id).or_else(|| {
            let path = PathBuf::from(OsString::from_vec(witness.place.clone()));
            (witness.kind == 0 && path.is_absolute()).then_some(path)
        })
    }

    /// Has `work` done at the place of `witness` by a thread that is not waited for without end.
    fn call(
        &self,
        witness: &WitnessPlace,
        work: impl FnOnce(&Path) -> Answer + Send + 'static,
    ) -> Answer {
        let path = self.path(witness);
        let mut state = lock(&self.state);
        let answer = match path {
            None => {
                Err("the place of the witness is not known; name it with -o witness=FILE".into())
            }
            Some(path) => {
                let named = path.display().to_string();
                let answer = call_within(&mut state.hanging, move || work(&path));
                answer.map_err(|text| format!("witness {named}: {text}"))
            }
        };
        state.fault = answer.as_ref().err().cloned();
        answer
    }
}

fn call_within(
    hanging: &mut Option<Receiver<Answer>>,
    work: impl FnOnce() -> Answer + Send + 'static,
) -> Answer {
    const HANGS: &str = "does not answer";
    if let Some(before) = hanging
        && matches!(before.try_recv(), Err(TryRecvError::Empty))
    {
        return Err(HANGS.to_owned());
    }
    *hanging = None;
    let (sender, receiver) = sync_channel(1);
    let work = move || {
        // who waited may have gone
        let _ = sender.send(work());
    };
    std::thread::Builder::new()
        .name("witness".to_owned())
        .spawn(work)
        .map_err(|error| error.to_string())?;
    match receiver.recv_timeout(PATIENCE) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => {
            *hanging = Some(receiver);
            Err(HANGS.to_owned())
        }
        Err(RecvTimeoutError::Disconnected) => Err(HANGS.to_owned()),
    }
}

/// Makes a witness at `path`, which holds what `group` is at, and gives it a name. One that is there
/// already and is of the same group is replaced.
///
/// # Errors
/// A sentence: why not.
pub(crate) fn make(path: &Path, id: Uuid, group: &CopyGroup) -> Result<WitnessPlace, String> {
    let named = path.display();
    let witness = WitnessPlace::new(id, path.as_os_str().as_bytes());
    if witness.place != path.as_os_str().as_bytes() || !path.is_absolute() {
        return Err(format!("{named}: too long for the record of the group; name a shorter path"));
    }
    match (path.symlink_metadata(), read(path)) {
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {}
        (_, Ok(held)) if held.group == group.group => {}
        (_, Ok(held)) => {
            return Err(format!(
                "{named}: is the witness of group {}; name another file",
                held.group
            ));
        }
        (Ok(_), Err(_)) => {
            return Err(format!("{named}: is there, and is no witness; name another file"));
        }
        (Err(error), _) => return Err(format!("{named}: {error}")),
    }
    let holds = Testimony { witness: id, ..Testimony::of(group) };
    let made = folder_of(path).and_then(|folder| put(&folder, path, &holds));
    made.map_err(|error| format!("{named}: {error}; name a file in a folder that can be written"))?;
    Ok(witness)
}

/// Whether the witness of `group` is at `path`, and answers.
pub(crate) fn is_at(path: &Path, group: &CopyGroup) -> bool {
    let is_there = group.policy.witness && group.witness.place == path.as_os_str().as_bytes();
    is_there && read(path).is_ok_and(|held| held.witness == group.witness.id)
}

/// What the witness at `path` held before, after it was replaced if that may be.
fn replace(path: &Path, telling: &Telling) -> Answer {
    let folder = folder_of(path).map_err(|error| error.to_string())?;
    let locked = flock(&folder, FlockOperation::LockExclusive);
    // where there are no locks, there is at most one program
    if let Err(error) = locked
        && error != rustix::io::Errno::OPNOTSUPP
        && error != rustix::io::Errno::NOLCK
    {
        return Err(error.to_string());
    }
    let held = read(path)?;
    if telling.judge(&held).is_ok() {
        put(&folder, path, &telling.testimony()).map_err(|error| error.to_string())?;
    }
    Ok(held)
}

/// The witness at `path` holds `testimony` from now on, whatever happens.
fn put(folder: &File, path: &Path, testimony: &Testimony) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(NEW_SUFFIX);
    let new = PathBuf::from(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
    file.write_all(&testimony.store())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    folder.sync_all()
}

fn folder_of(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("/")))
}

fn read(path: &Path) -> Answer {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::with_capacity(WITNESS_LEN + 1);
    file.take(WITNESS_LEN as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Testimony::parse(&bytes).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_core::copies::{Cause, Epoch, EpochId};
    use farrier_core::units::{Tid, WallTime};
    use std::sync::mpsc::channel;

    fn group() -> CopyGroup {
        let epoch = Epoch {
            id: EpochId([1; 16]),
            parent: EpochId::NONE,
            seq: 1,
            start_tid: Tid(1),
            members: 1,
            cause: Cause::Created,
            host: Uuid([0; 16]),
            time: WallTime(0),
        };
        CopyGroup::new(Uuid([5; 16]), Uuid([6; 16]), epoch)
    }

    #[test]
    fn a_file_is_made_asked_and_told() {
        let folder = std::env::temp_dir().join(format!("farrier-witness-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("w");
        let mut group = group();
        let place = make(&path, Uuid([9; 16]), &group).unwrap();
        assert!(make(&path, Uuid([9; 16]), &group).is_ok(), "it is of the same group");
        group.set_witness(Some(place));
        let line = WitnessLine::default();
        assert_eq!(line.look(&group).unwrap(), Testimony::of(&group));
        group.witness.id = Uuid([8; 16]);
        assert!(line.look(&group).unwrap_err().ends_with("is that of another volume"));
        let mut other = group.clone();
        other.group = Uuid([7; 16]);
        assert!(
            make(&path, Uuid([9; 16]), &other).unwrap_err().contains("is the witness of group")
        );
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        assert!(make(&path, Uuid([9; 16]), &group).unwrap_err().contains("is no witness"));
        assert!(line.look(&group).unwrap_err().ends_with("has not the 512 bytes of a witness"));
        assert!(make(&folder, Uuid([9; 16]), &group).is_err());
        let long = folder.join("x".repeat(200));
        assert!(make(&long, Uuid([9; 16]), &group).unwrap_err().contains("too long"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(line.look(&group).is_err());
        assert!(line.fault().is_some_and(|fault| fault.contains("/w: ")));
    }

    #[test]
    fn a_witness_that_hangs_is_not_asked_again_before_it_answered() {
        let (go, wait) = channel::<()>();
        let (sender, receiver) = sync_channel(1);
        let mut hanging = Some(receiver);
        let thread = std::thread::spawn(move || {
            wait.recv().unwrap();
            sender.send(Err("late".to_owned())).unwrap();
        });
        let asked = call_within(&mut hanging, || unreachable!("the one before has not ended"));
        assert_eq!(asked.unwrap_err(), "does not answer");
        go.send(()).unwrap();
        thread.join().unwrap();
        assert_eq!(call_within(&mut hanging, || Err("now".into())).unwrap_err(), "now");
        assert!(hanging.is_none());
    }
}
