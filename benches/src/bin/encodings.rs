//! What three ways to note the addresses of copies cost, counted on trees of the sizes that HAMMER2
//! has. `cargo xtask bench encodings` builds and starts this; decision 14 quotes it.
//!
//! * *inside*: one entry per key, the addresses of all copies inside (what Farrier does).
//! * *duplicates*: one entry per key and copy, as the DESIGN text of HAMMER2 has it.
//! * *equal*: one address for all copies; a copy that was away is known by intervals only.
//!
//! Nothing is timed: blocks and bytes are counted, so any machine gives the same figures.

use std::collections::BTreeSet;
use std::process::ExitCode;

/// Bytes of a full table, and of a file block.
const BLOCK: u64 = 64 << 10;
/// Entries of a table in an inode and of a full table.
const ROOT_SLOTS: u64 = 4;
const SLOTS: u64 = 512;
const COPIES: u64 = 2;

/// A way to note addresses.
#[derive(Clone, Copy)]
struct Encoding {
    name: &'static str,
    /// Entries that one key takes.
    entries: u64,
    /// Whether filling in what a copy lacks changes the tables above.
    rewrites: bool,
}

const ENCODINGS: [Encoding; 3] = [
    Encoding { name: "inside", entries: 1, rewrites: true },
    Encoding { name: "duplicates", entries: COPIES, rewrites: true },
    Encoding { name: "equal", entries: 1, rewrites: false },
];

impl Encoding {
    /// Keys that a table has room for, as a power of two: tables split in halves.
    fn keys(self) -> u64 {
        1 << (SLOTS / self.entries).ilog2()
    }

    /// Levels of tables below the inode for `leaves` keys.
    fn levels(self, leaves: u64) -> u32 {
        let mut held = ROOT_SLOTS / self.entries;
        let mut levels = 0;
        while held < leaves {
            held *= self.keys();
            levels += 1;
        }
        levels
    }

    /// Tables on the way to each of `changed`, all levels together.
    fn tables(self, leaves: u64, changed: &BTreeSet<u64>) -> u64 {
        let mut tables = 0;
        let mut span = 1;
        for _ in 0..self.levels(leaves) {
            span *= self.keys();
            tables += changed.iter().map(|key| key / span).collect::<BTreeSet<_>>().len() as u64;
        }
        tables
    }

    /// Bytes written to both devices, where `changed` leaves of `size` bytes change at once.
    fn written(self, leaves: u64, changed: &BTreeSet<u64>, size: u64) -> u64 {
        COPIES * (changed.len() as u64 * size + self.tables(leaves, changed) * BLOCK)
    }

    /// Blocks read and written, all devices together, until a copy that missed `changed` has it.
    fn resync(self, leaves: u64, changed: &BTreeSet<u64>) -> (u64, u64) {
        let (count, tables) = (changed.len() as u64, self.tables(leaves, changed));
        // tables that change go to both devices; those that do not are copied to the one
        let written = if self.rewrites { COPIES * tables } else { tables };
        (count + tables, count + written)
    }
}

/// So many of `leaves`, anywhere; the same ones each time.
fn some(count: u64, leaves: u64) -> BTreeSet<u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chosen = BTreeSet::new();
    while (chosen.len() as u64) < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chosen.insert(state % leaves);
    }
    chosen
}

fn main() -> ExitCode {
    let file = (16 << 30) / BLOCK;
    let files = 100_000;
    println!("two copies, full tables of 64 KiB\n");
    println!("| | inside | duplicates | equal |");
    println!("|---|---:|---:|---:|");
    row("tables on the way to a block of a 16 GiB file", |one| one.levels(file).to_string());
    row("tables in the way of 100 blocks read cold", |one| {
        one.tables(file, &some(100, file)).to_string()
    });
    row("MiB written for 100,000 new inodes", |one| {
        mib(one.written(files, &(0..files).collect(), 1 << 10))
    });
    row("KiB written for one block of 64 KiB and fsync, 16 GiB file", |one| {
        (one.written(file, &some(1, file), BLOCK) >> 10).to_string()
    });
    row("resync after 10 % of a 16 GiB file: blocks read / written", |one| {
        let (read, written) = one.resync(file, &some(file / 10, file));
        format!("{read} / {written}")
    });
    row("resync after 64 MiB at random of a 2 GiB file: the same", |one| {
        let (read, written) = one.resync(1 << 15, &some(1 << 10, 1 << 15));
        format!("{read} / {written}")
    });
    ExitCode::SUCCESS
}

fn row(what: &str, figure: impl Fn(Encoding) -> String) {
    let figures: Vec<_> = ENCODINGS.iter().map(|one| figure(*one)).collect();
    println!("| {what} | {} |", figures.join(" | "));
    debug_assert_eq!(ENCODINGS.map(|one| one.name), ["inside", "duplicates", "equal"]);
}

fn mib(bytes: u64) -> String {
    (bytes >> 20).to_string()
}
