//! The work that is timed: plain programs' reading, through ordinary system calls.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::failure::{During, Failure, Outcome};

const MIB: f64 = 1_048_576.0;

/// Reads the first `len` bytes of a file in order, 1 MiB at a time; MiB per second.
///
/// # Errors
/// It cannot be read, or is shorter.
pub fn sequential(path: &Path, len: u64) -> Outcome<f64> {
    let mut buffer = vec![0_u8; 1 << 20];
    let start = Instant::now();
    let mut file = File::open(path).during(path.display())?;
    let mut left = len;
    while left > 0 {
        let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = file.read(&mut buffer[..part]).during(path.display())?;
        if got == 0 {
            return Err(Failure::new(format!("{}: ends too early", path.display())));
        }
        left -= got as u64;
    }
    Ok(len as f64 / MIB / start.elapsed().as_secs_f64())
}

/// Reads `count` aligned 4 KiB pieces of the first `len` bytes of a file, wherever chance (always
/// the same) leads, by `depth` threads; pieces per second.
///
/// # Errors
/// It cannot be read.
pub fn random(path: &Path, len: u64, depth: u64, count: u64) -> Outcome<f64> {
    let file = File::open(path).during(path.display())?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..depth)
            .map(|number| {
                let file = &file;
                scope.spawn(move || {
                    let mut chance = Chance::new(number);
                    let mut piece = [0; 4096];
                    (0..count / depth).try_for_each(|_| {
                        let offset = chance.below(len / 4096) * 4096;
                        file.read_exact_at(black_box(&mut piece), offset)
                    })
                })
            })
            .collect();
        readers.into_iter().try_for_each(|reader| match reader.join() {
            Ok(read) => read.during(path.display()),
            Err(_) => Err(Failure::new("a reader panicked")),
        })
    })?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Lists a directory and asks for each entry's attributes, as `ls -l` and `find` do, up to
/// `entries_max`; entries per second.
///
/// # Errors
/// Something cannot be read.
pub fn list(directory: &Path, entries_max: usize) -> Outcome<f64> {
    let start = Instant::now();
    let mut count = 0;
    for entry in fs::read_dir(directory).during(directory.display())?.take(entries_max) {
        let entry = entry.during(directory.display())?;
        black_box(entry.metadata().during(entry.path().display())?);
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// Opens, reads and closes `files`, each whole; files per second.
///
/// # Errors
/// One cannot be read.
pub fn read_files(files: &[PathBuf]) -> Outcome<f64> {
    let mut contents = Vec::new();
    let start = Instant::now();
    for path in files {
        contents.clear();
        let mut file = File::open(path).during(path.display())?;
        file.read_to_end(&mut contents).during(path.display())?;
        black_box(&contents);
    }
    Ok(files.len() as f64 / start.elapsed().as_secs_f64())
}

/// Median time of one call in microseconds, of many calls.
///
/// # Errors
/// A call failed.
pub fn latency(mut call: impl FnMut() -> Outcome) -> Outcome<f64> {
    let mut times = Vec::with_capacity(2000);
    for _ in 0..2000 {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// xorshift64: the same chance on every machine.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// From a start of its own for each `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (seed + 1) << 32)
    }

    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Some number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Bytes that do not compress.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let next = self.next().to_le_bytes();
            part.copy_from_slice(&next[..part.len()]);
        }
    }
}
