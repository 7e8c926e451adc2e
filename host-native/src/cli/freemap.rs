//! `farrier freemap`.

use std::io::{self, BufWriter, Write};

use clap::Args;
use farrier::image::Image;
use farrier_core::engine::Want;
use farrier_core::error::BlockKind;
use farrier_core::media::blockref::{Blockref, slots};
use farrier_core::media::freemap::{ChunkState, SEGMENT_CHUNKS, chunk_state, segments};
use farrier_core::media::raw::RawBlockref;
use farrier_core::media::{CHUNK_LEN, SEGMENT_LEN, ZONE_LEN};
use serde::Serialize;

use super::failure::{Failure, Outcome, tell};
use super::info::bytes;
use super::source::DeviceArguments;

/// Tell how the space is used, by the freemap.
#[derive(Debug, Args)]
pub(crate) struct Freemap {
    #[command(flatten)]
    devices: DeviceArguments,

    /// Tell it for each zone of 1 GiB.
    #[arg(short, long)]
    zones: bool,

    /// Write one JSON document.
    #[arg(long)]
    json: bool,
}

/// Bytes in each state.
#[derive(Clone, Copy, Default, Serialize)]
struct Use {
    free_bytes: u64,
    reserved_bytes: u64,
    possibly_free_bytes: u64,
    allocated_bytes: u64,
}

#[derive(Serialize)]
struct Zone {
    start: u64,
    #[serde(flatten)]
    used: Use,
}

#[derive(Serialize)]
struct Report {
    format: &'static str,
    total_bytes: u64,
    /// Zones that nothing was ever allocated in have no leaf and are not counted.
    never_used_bytes: u64,
    #[serde(flatten)]
    sum: Use,
    zones: Vec<Zone>,
    broken: Vec<String>,
}

impl Freemap {
    pub(crate) fn run(&self) -> Outcome {
        let image = self.devices.open()?;
        let mut walk = Walk { image: &image, zones: Vec::new(), broken: Vec::new() };
        walk.table(image.volume().header().freemap_table(), 64);
        let report = walk.report();
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            serde_json::to_writer_pretty(&mut out, &report)?;
            writeln!(out)?;
        } else {
            self.write(&mut out, &report)?;
        }
        out.flush()?;
        for text in &report.broken {
            tell(&format!("{}: {text}", image.path().display()));
        }
        if report.broken.is_empty() { Ok(()) } else { Err(Failure::told()) }
    }

    fn write(&self, out: &mut impl Write, report: &Report) -> io::Result<()> {
        if self.zones {
            writeln!(
                out,
                "{:>18} {:>14} {:>14} {:>14} {:>14}",
                "ZONE", "ALLOCATED", "POSSIBLY-FREE", "FREE", "RESERVED"
            )?;
            for zone in &report.zones {
                writeln!(
                    out,
                    "{:#18x} {:>14} {:>14} {:>14} {:>14}",
                    zone.start,
                    zone.used.allocated_bytes,
                    zone.used.possibly_free_bytes,
                    zone.used.free_bytes,
                    zone.used.reserved_bytes
                )?;
            }
        }
        let sum = &report.sum;
        writeln!(out, "size            {}", bytes(report.total_bytes))?;
        writeln!(out, "allocated       {}", bytes(sum.allocated_bytes))?;
        writeln!(out, "possibly free   {}", bytes(sum.possibly_free_bytes))?;
        writeln!(out, "free            {}", bytes(sum.free_bytes))?;
        writeln!(out, "reserved        {}", bytes(sum.reserved_bytes))?;
        writeln!(out, "never used      {}", bytes(report.never_used_bytes))
    }
}

struct Walk<'a> {
    image: &'a Image,
    zones: Vec<Zone>,
    broken: Vec<String>,
}

impl Walk<'_> {
    /// A table of the freemap; what hangs in it has to cover less than `key_bits`, so that the
    /// recursion ends.
    fn table(&mut self, table: &[RawBlockref], key_bits: u8) {
        for raw in table {
            match Blockref::parse(raw) {
                Ok(None) => {}
                Ok(Some(blockref)) if blockref.key_bits() < key_bits => self.block(&blockref),
                Ok(Some(blockref)) => self.broken.push(format!("{}: a loop", blockref.place())),
                Err(fault) => self.broken.push(fault.to_string()),
            }
        }
    }

    fn block(&mut self, blockref: &Blockref) {
        let Some(want) = Want::of(blockref) else {
            return;
        };
        match (self.image.blocks().get(&want), blockref.kind()) {
            (Err(error), _) => self.broken.push(self.image.blocks().explain(&error)),
            (Ok(block), BlockKind::FreemapNode) => {
                self.table(slots(&block), blockref.key_bits());
            }
            (Ok(block), BlockKind::FreemapLeaf) => self.leaf(blockref.key(), &block),
            (Ok(_), _) => self.broken.push(format!("{}: not in a freemap", blockref.place())),
        }
    }

    /// Only chunks within the volume count: the last zone is rarely whole.
    fn leaf(&mut self, start: u64, block: &[u8]) {
        let total = self.image.volume().header().total_size();
        let mut used = Use::default();
        for (segment, at) in segments(block).unwrap_or_default().iter().zip(0_u64..) {
            for (chunk, in_segment) in (0..SEGMENT_CHUNKS).zip(0_u64..) {
                let offset =
                    start.saturating_add(at * SEGMENT_LEN).saturating_add(in_segment * CHUNK_LEN);
                if offset >= total {
                    break;
                }
                *match chunk_state(segment, chunk) {
                    ChunkState::Free => &mut used.free_bytes,
                    ChunkState::Reserved => &mut used.reserved_bytes,
                    ChunkState::PossiblyFree => &mut used.possibly_free_bytes,
                    ChunkState::Allocated => &mut used.allocated_bytes,
                } += CHUNK_LEN;
            }
        }
        self.zones.push(Zone { start, used });
    }

    fn report(self) -> Report {
        let total_bytes = self.image.volume().header().total_size();
        let mut sum = Use::default();
        let mut counted = 0;
        for zone in &self.zones {
            sum.free_bytes += zone.used.free_bytes;
            sum.reserved_bytes += zone.used.reserved_bytes;
            sum.possibly_free_bytes += zone.used.possibly_free_bytes;
            sum.allocated_bytes += zone.used.allocated_bytes;
            counted += ZONE_LEN.min(total_bytes.saturating_sub(zone.start));
        }
        Report {
            format: "farrier-freemap-1",
            total_bytes,
            never_used_bytes: total_bytes.saturating_sub(counted),
            sum,
            zones: self.zones,
            broken: self.broken,
        }
    }
}
