//! What it costs a copy to catch up: bytes on each device, counted, and the time of the core alone
//! over devices in memory. `cargo xtask bench resync` builds and starts this.
//!
//! A volume of two copies gets a file; one device is pulled, some of the file is overwritten, the
//! device comes back. It takes twice the size of the volume in memory.

use std::process::ExitCode;
use std::time::Instant;

use farrier_benches::failure::{During, Failure, Outcome};
use farrier_core::drive::change::Origin;
use farrier_core::drive::ready;
use farrier_core::fs::{Create, GetAttributes, New, Pfs, Write};
use farrier_core::media::header::Version;
use farrier_core::units::{Inum, Uuid, WallTime};
use farrier_core::volume::{FormatOptions, format};
use farrier_tests::rack::{Mode, Rack, Traffic};
use farrier_tests::writing::WritingHost;

const BLOCK: u64 = 64 << 10;
const MIB: u64 = 1 << 20;
/// Bytes that one batch of a resync fills in.
const BATCH: u64 = 32 << 20;
const CACHE: usize = 64 << 20;

struct Amounts {
    device: u64,
    file: u64,
    changed: u64,
    /// Bytes of each change, at a multiple of them.
    piece: u64,
}

fn main() -> ExitCode {
    let whole = Amounts { device: 2 << 30, file: 1500 * MIB, changed: 64 * MIB, piece: BLOCK };
    let quick = Amounts { device: 256 * MIB, file: 100 * MIB, changed: 8 * MIB, piece: BLOCK };
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let amounts = if is_quick { quick } else { whole };
    let small = Amounts { piece: 16 << 10, ..amounts };
    match measure(&amounts).and_then(|()| measure(&small)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("resync: {failure}");
            ExitCode::FAILURE
        }
    }
}

struct Mounted {
    host: WritingHost<Rack>,
    pfs: Pfs,
}

impl Mounted {
    fn open(rack: &Rack, number: u8) -> Result<Self, Failure> {
        let host = WritingHost::open(rack.clone(), CACHE).during("opening")?;
        let id = [number; 16];
        host.set_origin(Origin { id, host: Uuid([1; 16]), time: WallTime(0) });
        let pfs = host.open_pfs("DATA").during("opening a PFS")?;
        Ok(Self { host, pfs })
    }

    fn write(&self, inum: Inum, offset: u64, bytes: &[u8]) -> Outcome {
        let now = WallTime(0);
        let write = Write { pfs: self.pfs, inum, offset: Some(offset), bytes, now };
        self.host.change(&write).during("writing")?;
        Ok(())
    }

    fn flush(&self) -> Outcome {
        self.host.flush().during("a flush").map(drop)
    }
}

fn measure(amounts: &Amounts) -> Outcome {
    let rack = formatted(amounts.device)?;
    let mut noise = Noise(1);
    let mounted = Mounted::open(&rack, 1)?;
    let inum = create(&mounted)?;
    for number in 0..amounts.file / BLOCK {
        mounted.write(inum, number * BLOCK, &noise.bytes(BLOCK))?;
        if number % 512 == 511 {
            mounted.flush()?;
        }
    }
    mounted.flush()?;
    rack.set(1, Mode::Gone);
    let mut blocks = std::collections::BTreeSet::new();
    for number in 0..amounts.changed / amounts.piece {
        let offset = noise.next() % (amounts.file / amounts.piece) * amounts.piece;
        blocks.insert(offset / BLOCK);
        mounted.write(inum, offset, &noise.bytes(amounts.piece))?;
        if number % 512 == 511 {
            mounted.flush()?;
        }
    }
    mounted.flush()?;
    drop(mounted);
    rack.set(1, Mode::Fine);
    let mounted = Mounted::open(&rack, 2)?;
    for disk in 0..2 {
        let _ = rack.take_traffic(disk);
    }
    let began = Instant::now();
    let (mut leaves, mut tables) = (0, 0);
    loop {
        let filled = ready(mounted.host.resync(BATCH)).during("a resync")?;
        leaves += filled.leaf_bytes;
        tables += filled.tables;
        if filled.behind == 0 {
            break;
        }
    }
    let took = began.elapsed();
    let changed = blocks.len() as u64 * BLOCK;
    println!(
        "{} MiB changed in pieces of {} KiB: {} MiB of blocks, {} tables, {:.2} s",
        amounts.changed >> 20,
        amounts.piece >> 10,
        changed >> 20,
        tables,
        took.as_secs_f64()
    );
    for disk in 0..2 {
        let Traffic { read_bytes, written_bytes, .. } = rack.take_traffic(disk);
        println!(
            "  device {disk}: {:.1} MiB read, {:.1} MiB written, {:.2} and {:.2} of the blocks",
            read_bytes as f64 / MIB as f64,
            written_bytes as f64 / MIB as f64,
            read_bytes as f64 / changed as f64,
            written_bytes as f64 / changed as f64
        );
    }
    println!("  filled in: {} MiB of leaves", leaves >> 20);
    Ok(())
}

fn formatted(device: u64) -> Result<Rack, Failure> {
    let rack = Rack::new(&[device, device]);
    let options = FormatOptions {
        version: Version::Copies,
        ..FormatOptions::new(vec![device, device], WallTime(0))
    };
    let mut number = 0_u8;
    let formatted = format(&options, |bytes| {
        number += 1;
        bytes.fill(number);
    });
    let formatted = formatted.during("working out a volume")?;
    ready(farrier_core::drive::format(&rack, &formatted)).during("formatting")?;
    Ok(rack)
}

fn create(mounted: &Mounted) -> Result<Inum, Failure> {
    let pfs = mounted.pfs;
    let root = mounted.host.run(&GetAttributes { pfs, inum: Inum::ROOT }).during("the root")?;
    let create = Create {
        pfs,
        directory: root.inum,
        name: b"file".to_vec(),
        new: New::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        now: WallTime(0),
    };
    Ok(mounted.host.change(&create).during("making a file")?.inum)
}

/// Bytes that nothing compresses.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}
