//! A script of operations that every host can run: `tests/script.json`.
//!
//! The hosts run it over a new volume of 64 MiB that holds LOCAL and DATA, each by its own way of
//! writing, and what they leave behind is compared: `tests/script-manifest.json` has the paths,
//! kinds, modes, sizes, contents and links of every PFS. Times are not compared, but for those that
//! `utimes` set.
//!
//! # The format
//!
//! ```json
//! { "format": "farrier-script-1", "steps": [ { "do": "mkdir", "path": "/dir" } ] }
//! ```
//!
//! | `do` | members | meaning |
//! |---|---|---|
//! | `mkdir` | `path`, `mode` ("0755") | makes a directory |
//! | `write` | `path`, `offset` (0), `contents` | makes the file with mode 0644 if it is not there, and writes; what else it holds stays |
//! | `append` | `path`, `contents` | writes behind the end of a file that is there |
//! | `truncate` | `path`, `size` | makes it shorter or longer |
//! | `rename` | `path`, `new` | as `rename(2)`: what is there is replaced |
//! | `link` | `path`, `new` | another name |
//! | `symlink` | `path`, `target` | mode 0777 |
//! | `unlink`, `rmdir` | `path` | as the system calls |
//! | `chmod` | `path`, `mode` | |
//! | `utimes` | `path`, `mtime_us` | microseconds since 1970 |
//! | `snapshot` | `label` | of DATA |
//! | `create-pfs`, `delete-pfs` | `label` | |
//! | `rename-pfs` | `label`, `new` | |
//! | `bulkfree` | | frees what nothing refers to |
//! | `sync` | | commits |
//!
//! Paths are those of DATA. Links within them are followed, the last one too except by `rename`,
//! `link`, `unlink` and `rmdir`. Owner and group of all that is made are 0. Modes are strings of
//! octal digits.
//!
//! `contents` is `{"text": T, "times": N}` (T in UTF-8, N times, default once), or
//! `{"noise": SEED, "length": N}`: N bytes of xorshift32. Its state is a `u32` that starts as SEED
//! (never 0); for each byte `x ^= x << 13; x ^= x >>> 17; x ^= x << 5`, and the byte is `x & 255`.
//!
//! Any step may have
//! * `"count": N`: it is done for each number from 0 to N - 1; `#` in `path` stands for the number,
//!   which is also added to SEED;
//! * `"error": CODE`: it has to fail, with the POSIX name of the reason: EEXIST, ENOENT (also for a
//!   PFS that is not there), ENOTDIR, EISDIR, ENOTEMPTY, EINVAL.

use std::fmt::Write as _;
use std::path::Path;

use farrier_core::drive::pfs::{Birth, PfsChange};
use farrier_core::error::Error;
use farrier_core::fs::{
    Attributes, Clash, Create, LastLink, Link, Lookup, New, Pfs, Rename, Resolve, SetAttributes,
    Unlink, Victim, Write,
};
use farrier_core::storage::Storage;
use farrier_core::units::{Inum, Uuid, WallTime};
use serde::Deserialize;

use crate::writing::WritingHost;

/// Size of the volume that a script runs over.
pub const VOLUME_BYTES: usize = 64 << 20;

/// A whole script.
#[derive(Clone, Debug, Deserialize)]
pub struct Script {
    /// Its format: `farrier-script-1`.
    pub format: String,
    /// What to do, in this order.
    pub steps: Vec<Step>,
}

/// One operation, once or for a count of numbers.
#[derive(Clone, Debug, Deserialize)]
pub struct Step {
    /// For each number below; `#` in the path stands for it.
    pub count: Option<u32>,
    /// It has to fail so.
    pub error: Option<String>,
    /// What to do.
    #[serde(flatten)]
    pub operation: Operation,
}

/// What to do; the table of this page has the meaning.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "described in the table of this page")]
pub enum Operation {
    Mkdir { path: String, mode: Option<String> },
    Write { path: String, offset: Option<u64>, contents: Contents },
    Append { path: String, contents: Contents },
    Truncate { path: String, size: u64 },
    Rename { path: String, new: String },
    Link { path: String, new: String },
    Symlink { path: String, target: String },
    Unlink { path: String },
    Rmdir { path: String },
    Chmod { path: String, mode: String },
    Utimes { path: String, mtime_us: u64 },
    Snapshot { label: String },
    CreatePfs { label: String },
    DeletePfs { label: String },
    RenamePfs { label: String, new: String },
    Bulkfree,
    Sync,
}

/// Bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Contents {
    /// A text, some times over.
    Text {
        /// The text.
        text: String,
        /// How often, if not once.
        times: Option<usize>,
    },
    /// Numbers that look random.
    Noise {
        /// Their seed.
        noise: u32,
        /// How many bytes.
        length: usize,
    },
}

impl Contents {
    /// The bytes, for the step of that number.
    #[must_use]
    pub fn bytes(&self, number: u32) -> Vec<u8> {
        match self {
            Self::Text { text, times } => text.repeat(times.unwrap_or(1)).into_bytes(),
            Self::Noise { noise, length } => {
                let mut state = noise.wrapping_add(number);
                let mut next = || {
                    state ^= state << 13;
                    state ^= state >> 17;
                    state ^= state << 5;
                    state.to_le_bytes()[0]
                };
                (0..*length).map(|_| next()).collect()
            }
        }
    }
}

impl Script {
    /// The script of `tests/script.json`.
    ///
    /// # Panics
    /// It is not one.
    #[must_use]
    pub fn shared() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("script.json");
        let text = std::fs::read_to_string(file).expect("the script is in the repository");
        let script: Self = serde_json::from_str(&text).expect("it is a script");
        assert_eq!(script.format, "farrier-script-1");
        script
    }

    /// Runs every step over `host`, whose volume was just made.
    ///
    /// # Panics
    /// A step fails, or does not fail as it has to.
    pub fn run<S: Storage>(&self, host: &WritingHost<S>) {
        let pfs = host.open_pfs("DATA").expect("the volume has a PFS DATA");
        let mut run = Run { host, pfs, clock: 1_700_000_000_000_000, births: 0 };
        for step in &self.steps {
            for number in 0..step.count.unwrap_or(1) {
                let outcome = run.step(step, number);
                let code = outcome.as_ref().err().map(code);
                assert_eq!(code, step.error.as_deref(), "{step:?} ({number}): {outcome:?}");
            }
        }
    }
}

/// The POSIX name of `error`.
#[must_use]
pub fn code(error: &Error) -> &'static str {
    match error {
        Error::Exists => "EEXIST",
        Error::NoEntry | Error::NoPfs => "ENOENT",
        Error::NotDirectory => "ENOTDIR",
        Error::IsDirectory => "EISDIR",
        Error::NotEmpty => "ENOTEMPTY",
        Error::InvalidArgument => "EINVAL",
        Error::Busy => "EBUSY",
        Error::NoSpace => "ENOSPC",
        _ => "EIO",
    }
}

struct Run<'a, S> {
    host: &'a WritingHost<S>,
    pfs: Pfs,
    clock: u64,
    births: u8,
}

impl<S: Storage> Run<'_, S> {
    fn step(&mut self, step: &Step, number: u32) -> Result<(), Error> {
        let numbered = |path: &str| match step.count {
            Some(_) => path.replace('#', &number.to_string()),
            None => path.to_owned(),
        };
        self.clock += 1;
        match &step.operation {
            Operation::Mkdir { path, mode } => {
                let mode = octal(mode.as_deref().unwrap_or("0755"));
                self.create(&numbered(path), New::Directory, mode).map(drop)
            }
            Operation::Write { path, offset, contents } => {
                let path = numbered(path);
                let inum = match self.resolve(&path, LastLink::Follow) {
                    Err(Error::NoEntry) => self.create(&path, New::File, 0o644)?.inum,
                    found => found?.inum,
                };
                self.write(inum, Some(offset.unwrap_or(0)), &contents.bytes(number))
            }
            Operation::Append { path, contents } => {
                let inum = self.resolve(&numbered(path), LastLink::Follow)?.inum;
                self.write(inum, None, &contents.bytes(number))
            }
            Operation::Symlink { path, target } => {
                let new = New::Symlink(target.clone().into_bytes());
                self.create(&numbered(path), new, 0o777).map(drop)
            }
            Operation::Rename { path, new } => self.rename(&numbered(path), &numbered(new)),
            Operation::Link { path, new } => self.link(&numbered(path), &numbered(new)),
            Operation::Unlink { path } => self.unlink(&numbered(path), Victim::File),
            Operation::Rmdir { path } => self.unlink(&numbered(path), Victim::Directory),
            Operation::Truncate { path, size } => {
                self.set(&numbered(path), |set| set.size = Some(*size))
            }
            Operation::Chmod { path, mode } => {
                self.set(&numbered(path), |set| set.mode = Some(octal(mode)))
            }
            Operation::Utimes { path, mtime_us } => {
                self.set(&numbered(path), |set| set.mtime = Some(WallTime(*mtime_us)))
            }
            Operation::Bulkfree => self.host.bulkfree(|_| ()).map(drop),
            Operation::Sync => self.host.flush().map(drop),
            of_pfs => self.change_pfs(of_pfs),
        }
    }

    fn change_pfs(&mut self, operation: &Operation) -> Result<(), Error> {
        self.births += 1;
        let ids = [self.births, self.births | 0x80].map(|number| Uuid([number; 16]));
        let birth = Birth { cluster_id: ids[0], pfs_id: ids[1], now: self.now() };
        let label = |text: &str| text.as_bytes().to_vec();
        self.host.change_pfs(&match operation {
            Operation::Snapshot { label: of } => {
                PfsChange::Snapshot { of: self.pfs.id(), label: label(of), birth }
            }
            Operation::CreatePfs { label: of } => PfsChange::Create { label: label(of), birth },
            Operation::DeletePfs { label: of } => PfsChange::Delete { label: label(of) },
            Operation::RenamePfs { label: of, new } => {
                PfsChange::Rename { label: label(of), new_label: label(new) }
            }
            other => panic!("{other:?} is about no PFS"),
        })
    }

    const fn now(&self) -> WallTime {
        WallTime(self.clock)
    }

    fn resolve(&self, path: &str, last_link: LastLink) -> Result<Attributes, Error> {
        let resolve = Resolve { pfs: self.pfs, path: path.into(), last_link };
        self.host.run(&resolve).map(|found| found.attributes)
    }

    /// The directory that `path` lies in, and its last name.
    fn parent(&self, path: &str) -> Result<(Inum, Vec<u8>), Error> {
        let (parent, name) = path.rsplit_once('/').expect("paths of scripts start with a slash");
        Ok((self.resolve(parent, LastLink::Follow)?.inum, name.into()))
    }

    fn create(&self, path: &str, new: New, mode: u32) -> Result<Attributes, Error> {
        let (directory, name) = self.parent(path)?;
        let (pfs, now) = (self.pfs, self.now());
        self.host.change(&Create { pfs, directory, name, new, mode, uid: 0, gid: 0, now })
    }

    fn write(&self, inum: Inum, offset: Option<u64>, bytes: &[u8]) -> Result<(), Error> {
        let (pfs, now) = (self.pfs, self.now());
        self.host.change(&Write { pfs, inum, offset, bytes, now }).map(drop)
    }

    fn set(&self, path: &str, what: impl FnOnce(&mut SetAttributes)) -> Result<(), Error> {
        let inum = self.resolve(path, LastLink::Follow)?.inum;
        let mut set = SetAttributes::new(self.pfs, inum, self.now());
        what(&mut set);
        self.host.change(&set).map(drop)
    }

    fn rename(&self, path: &str, new: &str) -> Result<(), Error> {
        let (directory, name) = self.parent(path)?;
        let (new_directory, new_name) = self.parent(new)?;
        let (pfs, now, clash) = (self.pfs, self.now(), Clash::Replace);
        let rename =
            Rename { pfs, directory, name, new_directory, new_name, clash, keep: false, now };
        self.host.change(&rename).map(drop)
    }

    fn link(&self, path: &str, new: &str) -> Result<(), Error> {
        let (from, name) = self.parent(path)?;
        let found = self.host.run(&Lookup { pfs: self.pfs, directory: from, name })?;
        let (directory, name) = self.parent(new)?;
        let (pfs, now) = (self.pfs, self.now());
        self.host.change(&Link { pfs, inum: found.inum, directory, name, now }).map(drop)
    }

    fn unlink(&self, path: &str, victim: Victim) -> Result<(), Error> {
        let (directory, name) = self.parent(path)?;
        let (pfs, now) = (self.pfs, self.now());
        self.host.change(&Unlink { pfs, directory, name, victim, keep: false, now }).map(drop)
    }
}

fn octal(mode: &str) -> u32 {
    u32::from_str_radix(mode, 8).expect("a mode is octal")
}

/// `tests/script-manifest.json` as it would have to be for the volume on `storage`: all PFSs, paths
/// in order.
///
/// # Panics
/// Something on it cannot be read.
pub fn manifest_of<S: Storage + Clone>(storage: &S) -> String {
    use crate::host::TestHost;
    use farrier_core::fs::ListPfs;

    let host = TestHost::over(storage.clone(), false, 32 << 20).expect("a volume");
    let list = host.run(&ListPfs { super_root: host.volume().super_root() }).expect("its PFSs");
    let mut labels: Vec<_> =
        list.entries.iter().map(|info| String::from_utf8(info.label.clone()).unwrap()).collect();
    labels.sort();
    let mut text = String::from("{\n  \"images\": [],\n  \"pfs\": {\n");
    for (index, label) in labels.iter().enumerate() {
        let entries: Vec<_> = crate::walk::walk(&host, label)
            .expect("a PFS")
            .iter()
            .map(|(path, seen)| format!("      {}", entry(path, seen)))
            .collect();
        let comma = if index + 1 == labels.len() { "" } else { "," };
        let entries = entries.join(",\n");
        let _ = writeln!(text, "    \"{label}\": {{ \"entries\": [\n{entries}\n    ] }}{comma}");
    }
    text + "  }\n}\n"
}

fn entry(path: &[u8], seen: &crate::walk::Seen) -> serde_json::Value {
    assert!(seen.broken.is_empty(), "{seen:?}");
    let attributes = seen.attributes.expect("a walk gets attributes").expect("and reads them");
    let mut entry = serde_json::json!({
        "path": str::from_utf8(path).expect("paths of scripts are UTF-8"),
        "type": attributes.kind.name(),
        "mode": format!("{:04o}", attributes.mode),
        "size": attributes.size,
        "nlink": attributes.nlinks,
    });
    if let Some(target) = &seen.target {
        let target = target.clone().expect("a link can be read");
        entry["target"] = String::from_utf8(target).expect("targets are UTF-8").into();
    }
    if let Some(hash) = &seen.sha256 {
        entry["sha256"] = hash.clone().expect("contents can be read").into();
    }
    if attributes.mtime == WallTime(1_234_567_890_123_456) {
        entry["mtime_us"] = attributes.mtime.0.into();
    }
    entry
}
