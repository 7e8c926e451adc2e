//! `script`: does what stands in a file, one step after the other, in one run.
//!
//! The first step that fails ends it; what was done before is committed. The format is JSON, and
//! stands in the README.

use std::fs;

use farrier_core::drive::pfs::PfsChange;
use farrier_core::error::Error;
use farrier_core::fs::{New, Victim};
use farrier_core::units::WallTime;
use farrier_wasi::report::Report;
use serde::Deserialize;

use crate::clock::birth;
use crate::edit::Edit;
use crate::failure::Failure;
use crate::output::Output;

/// Longest file that is read, and most bytes that one step writes.
const LEN_MAX: usize = 64 << 20;

#[derive(Debug, Deserialize)]
struct Script {
    format: String,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    count: Option<u32>,
    error: Option<String>,
    #[serde(flatten)]
    operation: Operation,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Operation {
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

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Contents {
    Text { text: String, times: Option<u64> },
    Noise { noise: u32, length: u64 },
}

pub(super) fn run(edit: &Edit<'_>, file: &str, output: &mut Output) -> Result<(), Failure> {
    let script = read(file)?;
    let mut done = 0;
    let failure = (0..).zip(&script.steps).find_map(|(index, step)| {
        let ended = all(edit, step, &mut done).err()?;
        Some(Failure::new(format!("step {}: {ended}", index + 1_usize)).in_file(file))
    });
    edit.session().commit().map_err(|error| edit.session().failure(error))?;
    output.report(&Report::Done { steps: done }, |out| writeln!(out, "{done} steps done"))?;
    failure.map_or(Ok(()), Err)
}

fn read(file: &str) -> Result<Script, Failure> {
    let text = fs::read(file).map_err(|error| Failure::file(file, &error))?;
    let wrong = |text: String| Failure::new(text).in_file(file);
    if text.len() > LEN_MAX {
        return Err(wrong(format!("longer than {LEN_MAX} bytes; make several scripts of it")));
    }
    let script: Script =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("no script: {error}")))?;
    if script.format != FORMAT {
        return Err(wrong(format!("a script of another format; this program knows {FORMAT}")));
    }
    Ok(script)
}

/// A step, for each of its numbers. The error is a sentence.
fn all(edit: &Edit<'_>, step: &Step, done: &mut u64) -> Result<(), String> {
    for number in 0..step.count.unwrap_or(1) {
        let one = One { edit, number: step.count.map(|_| number) };
        match (one.run(&step.operation), step.error.as_deref()) {
            (Ok(()), None) => {}
            (Err(Wrong::Failed(error)), Some(expected)) if code(&error) == expected => {}
            (Ok(()), Some(expected)) => return Err(format!("should have failed with {expected}")),
            (Err(Wrong::Failed(error)), _) => return Err(error.to_string()),
            (Err(Wrong::Step(text)), _) => return Err(text),
        }
        *done += 1;
    }
    Ok(())
}

/// Why an operation was not done.
enum Wrong {
    /// It failed.
    Failed(Error),
    /// The step makes no sense, or the sandbox does not give what it takes.
    Step(String),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct One<'a> {
    edit: &'a Edit<'a>,
    number: Option<u32>,
}

impl One<'_> {
    fn run(&self, operation: &Operation) -> Result<(), Wrong> {
        let edit = self.edit;
        match operation {
            Operation::Mkdir { path, mode } => {
                let mode = octal(mode.as_deref().unwrap_or("0755"))?;
                edit.create(&self.path(path), New::Directory, mode)?;
            }
            Operation::Write { path, offset, contents } => {
                let path = self.path(path);
                let inum = match edit.resolve(&path) {
                    Err(Error::NoEntry) => edit.create(&path, New::File, 0o644)?.inum,
                    found => found?.inum,
                };
                edit.write(inum, Some(offset.unwrap_or(0)), &self.bytes(contents)?)?;
            }
            Operation::Append { path, contents } => {
                let inum = edit.resolve(&self.path(path))?.inum;
                edit.write(inum, None, &self.bytes(contents)?)?;
            }
            Operation::Truncate { path, size } => {
                let inum = edit.resolve(&self.path(path))?.inum;
                edit.set(inum, |set| set.size = Some(*size))?;
            }
            Operation::Chmod { path, mode } => {
                let inum = edit.resolve(&self.path(path))?.inum;
                let mode = octal(mode)?;
                edit.set(inum, |set| set.mode = Some(mode))?;
            }
            Operation::Utimes { path, mtime_us } => {
                let inum = edit.resolve(&self.path(path))?.inum;
                edit.set(inum, |set| set.mtime = Some(WallTime(*mtime_us)))?;
            }
            Operation::Rename { path, new } => edit.rename(&self.path(path), &self.path(new))?,
            Operation::Link { path, new } => edit.link(&self.path(path), &self.path(new))?,
            Operation::Symlink { path, target } => {
                let new = New::Symlink(target.clone().into_bytes());
                edit.create(&self.path(path), new, 0o777)?;
            }
            Operation::Unlink { path } => edit.unlink(&self.path(path), Victim::File)?,
            Operation::Rmdir { path } => edit.unlink(&self.path(path), Victim::Directory)?,
            Operation::Bulkfree => drop(edit.session().bulkfree()?),
            Operation::Sync => edit.session().commit()?,
            Operation::Snapshot { .. }
            | Operation::CreatePfs { .. }
            | Operation::DeletePfs { .. }
            | Operation::RenamePfs { .. } => self.change_pfs(operation)?,
        }
        Ok(())
    }

    fn change_pfs(&self, operation: &Operation) -> Result<(), Wrong> {
        let birth = birth().map_err(|failure| Wrong::Step(failure.to_string()))?;
        let label = |text: &str| text.as_bytes().to_vec();
        let change = match operation {
            Operation::Snapshot { label: new } => {
                PfsChange::Snapshot { of: self.edit.pfs().id(), label: label(new), birth }
            }
            Operation::CreatePfs { label: new } => PfsChange::Create { label: label(new), birth },
            Operation::DeletePfs { label: old } => PfsChange::Delete { label: label(old) },
            Operation::RenamePfs { label: old, new } => {
                PfsChange::Rename { label: label(old), new_label: label(new) }
            }
            _ => return Ok(()),
        };
        Ok(self.edit.session().change_pfs(&change)?)
    }

    fn path(&self, path: &str) -> Vec<u8> {
        match self.number {
            Some(number) => path.replace('#', &number.to_string()).into_bytes(),
            None => path.as_bytes().to_vec(),
        }
    }

    fn bytes(&self, contents: &Contents) -> Result<Vec<u8>, Wrong> {
        let (len, times) = match contents {
            Contents::Text { text, times } => (text.len() as u64, times.unwrap_or(1)),
            Contents::Noise { length, .. } => (*length, 1),
        };
        let whole = len.checked_mul(times).filter(|len| *len <= LEN_MAX as u64);
        let (Some(_), Ok(times)) = (whole, usize::try_from(times)) else {
            return Err(Wrong::Step(format!("writes more than {LEN_MAX} bytes; make more steps")));
        };
        Ok(match contents {
            Contents::Text { text, .. } => text.repeat(times).into_bytes(),
            Contents::Noise { noise, length } => {
                let mut state = noise.wrapping_add(self.number.unwrap_or(0));
                let mut next = || {
                    state ^= state << 13;
                    state ^= state >> 17;
                    state ^= state << 5;
                    state.to_le_bytes()[0]
                };
                (0..*length).map(|_| next()).collect()
            }
        })
    }
}

fn octal(mode: &str) -> Result<u32, Wrong> {
    let number = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777);
    number.ok_or_else(|| Wrong::Step(format!("{mode} is no mode; write it as in \"0755\"")))
}

/// The POSIX name of `error`.
const fn code(error: &Error) -> &'static str {
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

const FORMAT: &str = "farrier-script-1";
