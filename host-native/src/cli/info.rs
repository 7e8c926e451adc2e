//! `farrier info`.

use std::io::{self, Write};

use clap::Args;
use farrier::copies::Status;
use farrier::image::Image;
use farrier_core::text;
use farrier_core::units::WallTime;
use serde::Serialize;

use super::failure::Outcome;
use super::source::DeviceArguments;

/// Tell what a file system is and where its volumes are.
#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    devices: DeviceArguments,

    /// Write one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    format: &'static str,
    version: u32,
    fsid: String,
    mirror_tid: u64,
    freemap_tid: u64,
    total_bytes: u64,
    allocator_bytes: u64,
    free_bytes: u64,
    boot_area: (u64, u64),
    aux_area: (u64, u64),
    volumes: Vec<VolumeReport>,
    headers: Vec<HeaderReport>,
    pfs_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    copies: Option<Status>,
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
struct HeaderReport {
    device: String,
    slot: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror_tid: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    is_chosen: bool,
}

impl Info {
    pub(crate) fn run(&self) -> Outcome {
        let image = self.devices.open()?;
        let report = Report::of(&image)?;
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        } else {
            report.write(&mut out)?;
        }
        Ok(out.flush()?)
    }
}

impl Report {
    fn of(image: &Image) -> Result<Self, super::failure::Failure> {
        let volume = image.volume();
        let header = volume.header();
        let name = |device| {
            let path = image.blocks().devices().path(device);
            path.map(|path| path.display().to_string()).unwrap_or_default()
        };
        Ok(Self {
            format: "farrier-info-1",
            version: header.version().number(),
            fsid: header.fsid().to_string(),
            mirror_tid: header.mirror_tid().0,
            freemap_tid: header.freemap_tid().0,
            total_bytes: header.total_size(),
            allocator_bytes: volume.space().size_bytes,
            free_bytes: volume.space().free_bytes,
            boot_area: header.boot_area(),
            aux_area: header.aux_area(),
            volumes: volume
                .pieces()
                .iter()
                .map(|piece| VolumeReport {
                    volume: piece.id,
                    device: name(piece.device),
                    start: piece.start.0,
                    bytes: piece.size,
                    device_bytes: piece.device_size,
                })
                .collect(),
            headers: volume
                .header_slots()
                .iter()
                .map(|slot| HeaderReport {
                    device: name(slot.device),
                    slot: slot.slot,
                    mirror_tid: slot.state.ok().map(|tid| tid.0),
                    fault: slot.state.err().map(|fault| fault.to_string()),
                    is_chosen: slot.is_chosen,
                })
                .collect(),
            pfs_count: image.list_pfs()?.entries.len(),
            copies: image.blocks().copies_status(),
        })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "HAMMER2 version {}, {}", self.version, self.fsid)?;
        writeln!(out, "size            {}", bytes(self.total_bytes))?;
        writeln!(out, "free            {}", bytes(self.free_bytes))?;
        writeln!(out, "transaction     {:#x}", self.mirror_tid)?;
        writeln!(out, "freemap up to   {:#x}", self.freemap_tid)?;
        writeln!(out, "PFSs            {}", self.pfs_count)?;
        if let Some(copies) = &self.copies {
            write_copies(out, copies)?;
        }
        let parts = self.volumes.iter().filter(|_| self.copies.is_none());
        for volume in parts {
            writeln!(
                out,
                "volume {}        {} from {:#x}, on {}",
                volume.volume,
                bytes(volume.bytes),
                volume.start,
                volume.device
            )?;
        }
        for header in &self.headers {
            let state = match (&header.mirror_tid, &header.fault) {
                (Some(tid), _) => format!("transaction {tid:#x}"),
                (None, Some(fault)) => format!("not usable: {fault}"),
                (None, None) => String::new(),
            };
            let chosen = if header.is_chosen { ", in use" } else { "" };
            writeln!(out, "header {}        {state}{chosen} ({})", header.slot, header.device)?;
        }
        Ok(())
    }
}

fn write_copies(out: &mut impl Write, status: &Status) -> io::Result<()> {
    if let Some(group) = &status.group {
        writeln!(out, "copies          group {group}")?;
    }
    if let Some(epoch) = &status.epoch {
        let (id, number) = (&epoch.id, epoch.seq);
        let since = text::time(WallTime(epoch.since_us));
        writeln!(out, "epoch           {id}, number {number}, since {since}")?;
    }
    for copy in &status.copies {
        let device = copy.device.as_deref().unwrap_or("not here");
        writeln!(out, "copy {}          {}, {device}", copy.slot, copy.state.name())?;
    }
    Ok(())
}

/// `123456789 bytes (117.7 MiB)`
pub(crate) fn bytes(number: u64) -> String {
    if number < 1024 {
        return rounded(number);
    }
    format!("{number} bytes ({})", rounded(number))
}

/// `117.7 MiB`
pub(crate) fn rounded(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    // one decimal is shown, so that a rounding error cannot be seen
    let mut scaled = number as f64;
    let mut unit = None;
    for name in UNITS {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = Some(name);
    }
    match unit {
        Some(unit) => format!("{scaled:.1} {unit}"),
        None => format!("{number} bytes"),
    }
}
