//! Answers of the module as Rust values: it is asked for frames of postcard, and they are read.

use std::ffi::OsString;
use std::path::Path;

use farrier_wasi::arguments::{self, Asked};
use farrier_wasi::report::{Entry, Fault, Report, read_frames};

use crate::failure::Failure;
use crate::grant::{Preopen, grants};
use crate::runner::Runner;

/// What the module reported, and how the run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Its reports, in order, without the frames that begin and end them.
    pub reports: Vec<Report>,
    /// What it wrote to its standard error: a sentence for each fault.
    pub stderr: String,
}

impl Answer {
    /// The names that it reported.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.reports.iter().filter_map(|report| match report {
            Report::Entry(entry) => Some(entry),
            _ => None,
        })
    }

    /// What it could not tell.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.reports.iter().filter_map(|report| match report {
            Report::Fault(fault) => Some(fault),
            _ => None,
        })
    }
}

impl Runner {
    /// Runs a command line, granting the directories that it names, and reads its reports.
    ///
    /// `arguments` are those of the module without `--postcard`.
    ///
    /// # Errors
    /// The run did not come to its end. Faults that the module reports are in the answer.
    pub fn ask(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let preopens = self.preopens(arguments)?;
        let arguments = [&["--postcard"], arguments].concat();
        let output = self.run(&arguments, &preopens)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.stdout.is_empty() && output.code != 0 {
            // it did not come so far as to report
            return Err(Failure::Failed(stderr.trim_end().to_owned()));
        }
        let mut reports = read_frames(&output.stdout)?;
        reports.retain(|report| !matches!(report, Report::Head { .. } | Report::End { .. }));
        Ok(Answer { code: output.code, reports, stderr })
    }

    /// The directory `path` of `image`, every name with its attributes.
    ///
    /// # Errors
    /// Also if only a part of the directory can be told; [`Runner::ask`] gives that part.
    pub fn list(&self, image: &Path, path: &str) -> Result<Vec<Entry>, Failure> {
        let image = image.to_str().ok_or_else(|| Failure::Outside {
            path: image.to_owned(),
            text: "its name is not UTF-8, which WASI asks for".to_owned(),
        })?;
        let answer = self.ask(&["ls", "-l", "--", image, path])?;
        if answer.code != 0 {
            return Err(Failure::Failed(answer.stderr.trim_end().to_owned()));
        }
        Ok(answer.entries().cloned().collect())
    }

    /// The directories that a command line needs. One that cannot be understood needs none: the
    /// module will say what is wrong with it.
    ///
    /// # Errors
    /// A file or directory that it names is not there.
    pub fn preopens(&self, arguments: &[&str]) -> Result<Vec<Preopen>, Failure> {
        let words = arguments.iter().map(OsString::from);
        let is_file = |name: &str| Path::new(name).exists() && !Path::new(name).is_dir();
        match arguments::parse(words, is_file) {
            Ok(Asked::Run(request)) => grants(&request),
            Ok(Asked::Help | Asked::Version) | Err(_) => Ok(Vec::new()),
        }
    }
}
