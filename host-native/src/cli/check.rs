//! `farrier check`.

use std::io::{self, StdoutLock, Write};
use std::sync::Arc;

use clap::Args;
use farrier::check::{Listener, check};
use farrier::image::Image;
use farrier::tree::Tree;
use farrier_core::error::Place;
use farrier_core::scan::{Check, Finding, FindingKind, Grade, Progress, Summary};
use farrier_core::units::Inum;
use indicatif::ProgressBar;
use serde::Serialize;

use super::failure::{Failure, Outcome};
use super::info::bytes;
use super::names::{JsonName, escaped};
use super::progress;
use super::source::DeviceArguments;

/// Findings that the path of their file is looked up for: each lookup reads directories.
const PATHS_MAX: usize = 200;

/// Check a file system: every block, every name, the freemap.
///
/// Of a volume of copies, every copy that is in sync is checked by itself.
///
/// Exit code: 0 clean, 1 something can be put right, 4 something is lost, 8 the check could not
/// run, 16 wrong arguments.
#[derive(Debug, Args)]
pub(crate) struct CheckCommand {
    #[command(flatten)]
    devices: DeviceArguments,

    /// Check structure only, and leave out the contents of files.
    #[arg(long)]
    no_data: bool,

    /// Leave out what is only worth knowing.
    #[arg(short, long)]
    quiet: bool,

    /// Write one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct FindingReport {
    grade: Grade,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pfs: Option<JsonName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inum: Option<Inum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<JsonName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    text: String,
}

#[derive(Serialize)]
struct End {
    result: &'static str,
    exit_code: u8,
    summary: Summary,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    copies: Vec<CopyEnd>,
}

/// What the check of one copy came to.
#[derive(Serialize)]
struct CopyEnd {
    copy: u8,
    path: String,
    /// None of a copy that is behind: it is no whole volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Summary>,
}

impl CheckCommand {
    pub(crate) fn run(&self) -> Outcome {
        let image = self.devices.open_what_is_left().map_err(|failure| failure.with_code(8))?;
        let mut telling = Telling {
            image: Arc::clone(&image),
            out: io::stdout().lock(),
            bar: progress::bytes_bar(),
            is_json: self.json,
            is_quiet: self.quiet,
            is_first: true,
            copy: None,
            paths: Paths::default(),
        };
        if self.json {
            write!(telling.out, "{{\"format\":\"farrier-check-1\",\"findings\":[")?;
        }
        let copies = self.check_copies(&image, &mut telling)?;
        let summary = match copies.is_empty() {
            true => check(&image, !self.no_data, None, &mut telling)?,
            false => copies.iter().filter_map(|one| one.summary).fold(
                Summary::default(),
                |mut sum, one| {
                    sum += one;
                    sum
                },
            ),
        };
        telling.bar.finish_and_clear();
        let (result, code) = match summary.worst() {
            None | Some(Grade::Information) => ("clean", 0),
            Some(Grade::Repairable) => ("repairable", 1),
            Some(Grade::Fatal) => ("damaged", 4),
        };
        if self.json {
            let end = serde_json::to_string(&End { result, exit_code: code, summary, copies })?;
            // the document goes on with the end's own fields
            writeln!(telling.out, "],{}", end.trim_start_matches('{'))?;
        } else {
            write_summary(&mut telling.out, &image, result, &summary, &copies)?;
        }
        telling.out.flush()?;
        if code == 0 { Ok(()) } else { Err(Failure::told().with_code(code)) }
    }
}

impl CheckCommand {
    /// Checks the copies of a volume one by one; nothing comes of a volume without.
    fn check_copies(
        &self,
        image: &Arc<Image>,
        telling: &mut Telling,
    ) -> Result<Vec<CopyEnd>, Failure> {
        let volume = image.volume();
        let checked = Check::copies(volume);
        let mut ends = Vec::new();
        for one in volume.group().map_or(&[][..], |copies| copies.headers()) {
            let path = image.blocks().devices().path(one.device);
            let path = path.map(|path| path.display().to_string()).unwrap_or_default();
            let copy = one.copy;
            telling.copy = Some((copy, path.clone()));
            let summary = match checked.contains(&copy) {
                true => Some(check(image, !self.no_data, Some(copy), telling)?),
                false => None,
            };
            ends.push(CopyEnd { copy, path, summary });
        }
        telling.copy = None;
        if checked.is_empty() {
            // what is shown of such a volume is checked as it is shown
            ends.clear();
        }
        Ok(ends)
    }
}

/// Writes findings as they come.
struct Telling {
    image: Arc<Image>,
    out: StdoutLock<'static>,
    bar: ProgressBar,
    is_json: bool,
    is_quiet: bool,
    is_first: bool,
    /// The copy that is being checked, and its device.
    copy: Option<(u8, String)>,
    paths: Paths,
}

impl Listener for Telling {
    type Failure = Failure;

    fn found(&mut self, check: &Check, finding: &Finding) -> Outcome {
        let is_information = finding.grade() == Grade::Information;
        if is_information && self.is_quiet {
            return Ok(());
        }
        let label = label_of(check, finding);
        let path = match is_information {
            true => None,
            false => self.paths.of(&self.image, label.as_deref(), finding.inum),
        };
        let text = text_of(&self.image, finding);
        if self.is_json {
            let report = FindingReport {
                grade: finding.grade(),
                code: finding.kind.code(),
                copy: self.copy.as_ref().map(|(copy, _)| *copy),
                pfs: label.as_deref().map(JsonName::new),
                inum: finding.inum,
                path: path.as_deref().map(JsonName::new),
                place: finding.place,
                text,
            };
            let comma = if self.is_first { "" } else { "," };
            self.is_first = false;
            let json = serde_json::to_string(&report)?;
            return Ok(write!(self.out, "{comma}\n{json}")?);
        }
        let mut line = format!("{}: ", finding.grade().name());
        if let Some((copy, path)) = &self.copy {
            line.push_str(&format!("copy {copy} ({path}): "));
        }
        if let Some(label) = &label {
            line.push_str(&escaped(label));
            line.push_str(": ");
        }
        match (&path, finding.inum) {
            (Some(path), _) => line.push_str(&format!("{}: ", escaped(path))),
            (None, Some(inum)) => line.push_str(&format!("{inum}: ")),
            (None, None) => {}
        }
        line.push_str(&text);
        let out = &mut self.out;
        // a line across a progress bar would be torn
        Ok(self.bar.suspend(|| writeln!(out, "{line}"))?)
    }

    fn went_on(&mut self, progress: Progress) {
        self.bar.set_length(progress.bytes_expected);
        self.bar.set_position(progress.bytes);
    }
}

fn label_of(check: &Check, finding: &Finding) -> Option<Vec<u8>> {
    let index = usize::try_from(finding.pfs?).ok()?;
    check.labels().nth(index).map(<[u8]>::to_vec)
}

/// The finding, with the names of devices in place of their numbers.
pub(super) fn text_of(image: &Image, finding: &Finding) -> String {
    let name = |device| {
        let path = image.blocks().devices().path(device);
        path.map(|path| path.display().to_string()).unwrap_or_default()
    };
    let kind = match &finding.kind {
        FindingKind::Header { device, slot, fault } => {
            format!("{}: volume header {slot}: {fault}", name(*device))
        }
        FindingKind::Truncated { device, size, need } => {
            format!("{}: has {size} bytes, its volume needs {need}", name(*device))
        }
        FindingKind::Damaged(error @ farrier_core::error::Error::Device(_))
        | FindingKind::FreemapDamaged(error @ farrier_core::error::Error::Device(_)) => {
            image.blocks().explain(error)
        }
        other => other.to_string(),
    };
    match &finding.place {
        Some(place) => format!("{place}: {kind}"),
        None => kind,
    }
}

/// Paths of the files that findings are about, as far as they can be told.
#[derive(Default)]
pub(super) struct Paths {
    looked_up: usize,
    tree: Option<(Vec<u8>, Tree)>,
    last: Option<(Vec<u8>, Inum, Option<Vec<u8>>)>,
}

impl Paths {
    pub(super) fn of(
        &mut self,
        image: &Arc<Image>,
        label: Option<&[u8]>,
        inum: Option<Inum>,
    ) -> Option<Vec<u8>> {
        let (label, inum) = (label?, inum?);
        if let Some((last_label, last, path)) = &self.last
            && (&last_label[..], *last) == (label, inum)
        {
            return path.clone();
        }
        if self.looked_up >= PATHS_MAX {
            return None;
        }
        self.looked_up += 1;
        if self.tree.as_ref().is_none_or(|(open, _)| open != label) {
            self.tree = Some((label.to_vec(), image.tree(Some(label)).ok()?));
        }
        let path = self.tree.as_ref().and_then(|(_, tree)| tree.path_of(inum));
        self.last = Some((label.to_vec(), inum, path.clone()));
        path
    }
}

fn write_summary(
    out: &mut impl Write,
    image: &Image,
    result: &str,
    summary: &Summary,
    copies: &[CopyEnd],
) -> io::Result<()> {
    for one in copies {
        let (copy, path) = (one.copy, &one.path);
        match &one.summary {
            Some(one) => writeln!(
                out,
                "copy {copy} ({path}): {} fatal, {} repairable; {} in use",
                one.fatal,
                one.repairable,
                bytes(one.allocated_bytes)
            )?,
            None => writeln!(
                out,
                "copy {copy} ({path}): not checked: it does not hold the newest state; mount the \
                 volume with it, which brings it up to date"
            )?,
        }
    }
    writeln!(
        out,
        "{}: {result}: {} fatal, {} repairable, {} worth knowing",
        image.path().display(),
        summary.fatal,
        summary.repairable,
        summary.information
    )?;
    writeln!(
        out,
        "{} blocks, {}; {} inodes, {} names",
        summary.blocks,
        bytes(summary.bytes),
        summary.inodes,
        summary.names
    )?;
    writeln!(
        out,
        "freemap: {} in use, {} of it unreferenced, {} staged for freeing",
        bytes(summary.allocated_bytes),
        bytes(summary.unreferenced_bytes),
        bytes(summary.possibly_free_bytes)
    )
}
