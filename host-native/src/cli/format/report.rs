//! What `farrier format` tells in the end.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use farrier_core::text;
use farrier_core::volume::Formatted;
use serde::Serialize;

use super::super::failure::Outcome;
use super::super::info::bytes;
use super::super::names::{JsonName, escaped};
use super::{Format, Replaced};

#[derive(Serialize)]
pub(super) struct Report {
    format: &'static str,
    is_dry_run: bool,
    version: u32,
    /// Nothing in a dry run: the next one gives another.
    #[serde(skip_serializing_if = "Option::is_none")]
    fsid: Option<String>,
    labels: Vec<JsonName>,
    total_bytes: u64,
    usable_bytes: u64,
    boot_area: (u64, u64),
    aux_area: (u64, u64),
    compression: String,
    check: &'static str,
    /// Whether each volume is a copy of the file system, and not a part of it.
    are_copies: bool,
    volumes: Vec<VolumeReport>,
    replaced: Vec<ReplacedReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// What to type next.
    next: String,
    #[serde(skip)]
    label_text: String,
}

#[derive(Serialize)]
struct VolumeReport {
    volume: u8,
    device: String,
    start: u64,
    bytes: u64,
    device_bytes: u64,
}

#[derive(Serialize)]
struct ReplacedReport {
    device: String,
    held: &'static str,
}

impl Report {
    pub(super) fn new(command: &Format, formatted: &Formatted, replaced: &[Replaced]) -> Self {
        let volumes = command.devices().iter().zip(&formatted.volumes);
        let labels: Vec<_> = formatted.labels.iter().map(|label| escaped(label)).collect();
        Self {
            format: "farrier-format-1",
            is_dry_run: command.dry_run,
            version: formatted.version.number(),
            fsid: (!command.dry_run).then(|| formatted.fsid.to_string()),
            labels: formatted.labels.iter().map(|label| JsonName::new(label)).collect(),
            total_bytes: formatted.total_size,
            usable_bytes: formatted.usable_size,
            boot_area: formatted.boot_area,
            aux_area: formatted.aux_area,
            compression: text::compression_request(command.compression),
            check: command.check.name(),
            are_copies: command.has_copies(),
            volumes: volumes
                .map(|(device, volume)| VolumeReport {
                    volume: volume.device.0,
                    device: device.display().to_string(),
                    start: volume.start.0,
                    bytes: volume.size,
                    device_bytes: volume.device_size,
                })
                .collect(),
            replaced: replaced
                .iter()
                .map(|one| ReplacedReport {
                    device: one.device.display().to_string(),
                    held: one.what,
                })
                .collect(),
            note: formatted.note().map(|note| note.to_string()),
            next: next_command(command, formatted),
            label_text: labels.join(", "),
        }
    }

    pub(super) fn print(&self, as_json: bool) -> Outcome {
        let mut out = io::stdout().lock();
        if as_json {
            serde_json::to_writer_pretty(&mut out, self)?;
            writeln!(out)?;
        } else {
            self.write(&mut out)?;
        }
        Ok(out.flush()?)
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if self.is_dry_run {
            writeln!(out, "Nothing was written; this is what would be made.")?;
        }
        for one in &self.replaced {
            let tense = if self.is_dry_run { "would overwrite" } else { "overwritten    " };
            writeln!(out, "{tense} {} on {}", one.held, one.device)?;
        }
        match &self.fsid {
            Some(fsid) => writeln!(out, "HAMMER2 version {}, {fsid}", self.version)?,
            None => writeln!(out, "HAMMER2 version {}", self.version)?,
        }
        writeln!(out, "labels          {}", self.label_text)?;
        writeln!(out, "size            {}", bytes(self.total_bytes))?;
        writeln!(out, "usable          {}", bytes(self.usable_bytes))?;
        writeln!(out, "boot area       {}", bytes(self.boot_area.1 - self.boot_area.0))?;
        writeln!(out, "auxiliary area  {}", bytes(self.aux_area.1 - self.aux_area.0))?;
        writeln!(out, "new files       compression {}, check {}", self.compression, self.check)?;
        for volume in &self.volumes {
            let (number, device) = (volume.volume, &volume.device);
            let of = match volume.device_bytes - volume.bytes {
                0 => String::new(),
                unused => format!(", {} left unused", bytes(unused)),
            };
            let word = if self.are_copies { "copy  " } else { "volume" };
            writeln!(out, "{word} {number:<2}       {} on {device}{of}", bytes(volume.bytes))?;
        }
        if let Some(note) = &self.note {
            writeln!(out, "note            {note}")?;
        }
        if !self.is_dry_run {
            writeln!(out, "Next: {}", self.next)?;
        }
        Ok(())
    }
}

/// What somebody with a new file system will want to type. Without a label, DATA is mounted, or the
/// only one that is not LOCAL.
fn next_command(command: &Format, formatted: &Formatted) -> String {
    let mut devices: Vec<_> = command.devices().iter().map(|path| quoted(path)).collect();
    let local = formatted.labels.first();
    let others = formatted.labels.get(1..).unwrap_or_default();
    let goes_without = others.len() == 1 || others.iter().any(|label| label == b"DATA");
    let label = others.first().or(local).filter(|_| !goes_without);
    if let (Some(label), Some(last)) = (label, devices.last_mut()) {
        last.push('@');
        last.push_str(&quoted(Path::new(OsStr::from_bytes(label))));
    }
    format!("farrier mount {} /mnt", devices.join(" "))
}

/// A word as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if text.chars().all(is_plain) && !text.starts_with('-') {
        text
    } else if text.starts_with('-') {
        format!("./'{}'", text.replace('\'', "'\\''"))
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
