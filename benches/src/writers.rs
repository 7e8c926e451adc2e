//! The work that is timed: plain programs' writing, through ordinary system calls.
//!
//! Each figure is what a program waits for. Where the kernel or a daemon may still hold changes
//! back, [`settle`] is what brings them to media, timed where the caller wants it.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::failure::{During, Failure, Outcome};
use crate::place::Stop;
use crate::readers::Chance;

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;
/// Small files in one directory.
const IN_ONE: usize = 1000;
/// Steps between two looks at whether to stop.
const STEPS: usize = 256;

/// Writes `len` bytes that do not compress and are nowhere the same, 1 MiB at a time, and syncs the
/// file; MiB per second.
///
/// # Errors
/// It cannot be written, or somebody wants to stop.
pub fn sequential(path: &Path, len: u64, stop: &Stop) -> Outcome<f64> {
    let mut buffer = vec![0; MIB];
    Chance::new(2).fill(&mut buffer);
    let mut file = File::create(path).during(path.display())?;
    let start = Instant::now();
    for number in 0..len / MIB as u64 {
        for (page, bytes) in buffer.chunks_exact_mut(PAGE).enumerate() {
            let stamp = number << 8 | page as u64;
            bytes[..8].copy_from_slice(&stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        }
        file.write_all(&buffer).during(path.display())?;
        stop.go_on()?;
    }
    file.sync_all().during(path.display())?;
    Ok(len as f64 / MIB as f64 / start.elapsed().as_secs_f64())
}

/// How long synced overwrites took.
#[derive(Clone, Copy, Debug)]
pub struct Overwritten {
    /// Pieces per second.
    pub per_second: f64,
    /// Microseconds of the middle one.
    pub median_us: f64,
}

/// Overwrites `count` aligned pieces of 4 KiB of a file of `len` bytes, wherever chance (always the
/// same) leads, and syncs the file after each.
///
/// # Errors
/// It cannot be written, or somebody wants to stop.
pub fn overwrite(path: &Path, len: u64, count: u32, stop: &Stop) -> Outcome<Overwritten> {
    let file = OpenOptions::new().write(true).open(path).during(path.display())?;
    let mut chance = Chance::new(3);
    let mut piece = [0; PAGE];
    chance.fill(&mut piece);
    let mut times = Vec::new();
    let start = Instant::now();
    for number in 0..count {
        piece[..4].copy_from_slice(&number.to_le_bytes());
        let offset = chance.below(len / PAGE as u64) * PAGE as u64;
        let began = Instant::now();
        file.write_all_at(&piece, offset).during(path.display())?;
        file.sync_data().during(path.display())?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
        stop.go_on()?;
    }
    let per_second = f64::from(count) / start.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let median_us = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    Ok(Overwritten { per_second, median_us })
}

/// Small files, and what is done with all of them in their order.
#[derive(Debug)]
pub struct SmallFiles {
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
    contents: Vec<u8>,
    stop: Stop,
}

impl SmallFiles {
    /// `count` of 1 KiB, 1,000 to a directory; makes only the directories, below `root`.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn plan(root: &Path, count: usize, stop: &Stop) -> Outcome<Self> {
        let mut contents = vec![0; 1024];
        Chance::new(4).fill(&mut contents);
        let mut directories = Vec::new();
        let mut files = Vec::with_capacity(count);
        for number in 0..count {
            if number % IN_ONE == 0 {
                let directory = root.join(format!("small-{:03}", number / IN_ONE));
                fs::create_dir(&directory).during(directory.display())?;
                directories.push(directory);
            }
            let directory = &directories[number / IN_ONE];
            files.push(directory.join(format!("file-{number:06}")));
        }
        Ok(Self { directories, files, contents, stop: stop.clone() })
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.files.len()
    }

    fn each(&self, mut step: impl FnMut(&Path) -> std::io::Result<()>) -> Outcome {
        for part in self.files.chunks(STEPS) {
            self.stop.go_on()?;
            for path in part {
                step(path).during(path.display())?;
            }
        }
        Ok(())
    }

    /// Makes each with its contents.
    ///
    /// # Errors
    /// One cannot be made, or somebody wants to stop.
    pub fn create(&self) -> Outcome {
        self.each(|path| File::create_new(path)?.write_all(&self.contents))
    }

    /// Asks for attributes.
    ///
    /// # Errors
    /// One is not there, or somebody wants to stop.
    pub fn stat(&self) -> Outcome {
        self.each(|path| black_box(fs::symlink_metadata(path)).map(|_| ()))
    }

    /// Reads each whole.
    ///
    /// # Errors
    /// One cannot be read, or somebody wants to stop.
    pub fn read(&self) -> Outcome {
        self.each(|path| black_box(fs::read(path)).map(drop))
    }

    /// Gives each another name, in the same directory.
    ///
    /// # Errors
    /// One is not there, or somebody wants to stop.
    pub fn rename(&mut self) -> Outcome {
        self.each(|path| fs::rename(path, renamed(path)))?;
        for path in &mut self.files {
            *path = renamed(path);
        }
        Ok(())
    }

    /// Removes each.
    ///
    /// # Errors
    /// One cannot be removed, or somebody wants to stop.
    pub fn unlink(&self) -> Outcome {
        self.each(|path| fs::remove_file(path))
    }

    /// Removes the directories, when they are empty.
    ///
    /// # Errors
    /// One is not empty.
    pub fn remove_directories(&self) -> Outcome {
        self.directories.iter().try_for_each(|path| fs::remove_dir(path).during(path.display()))
    }
}

fn renamed(path: &Path) -> PathBuf {
    path.with_extension("renamed")
}

/// Seconds that `work` takes.
///
/// # Errors
/// Those of `work`.
pub fn seconds(work: impl FnOnce() -> Outcome) -> Outcome<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Brings everything below `root` to media. A FUSE program is not told of `syncfs`, only sent what
/// the kernel still held; syncing the root directory is what it is told.
///
/// # Errors
/// The system says that it did not work.
pub fn settle(root: &Path) -> Outcome {
    let directory = File::open(root).during(root.display())?;
    rustix::fs::syncfs(&directory).during("cannot sync the file system")?;
    directory.sync_all().during("cannot sync the root directory")
}

/// Seconds of `count` transactions of one row each by `sqlite3` with a write-ahead log, each synced.
///
/// # Errors
/// `sqlite3` fails.
pub fn transactions(root: &Path, count: u32) -> Outcome<f64> {
    let database = root.join("bench.sqlite");
    let wal = "PRAGMA journal_mode=WAL;\n";
    let synced = "PRAGMA synchronous=FULL;\n";
    sqlite(&database, &format!("{wal}CREATE TABLE rows (number INTEGER, text TEXT);\n"))?;
    let mut script = synced.to_owned();
    for number in 0..count {
        script.push_str(&format!(
            "INSERT INTO rows VALUES ({number}, 'a row of the bench, long enough to be one');\n"
        ));
    }
    let time = seconds(|| sqlite(&database, &script))?;
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(root.join(format!("bench.sqlite{end}")));
    }
    Ok(time)
}

fn sqlite(database: &Path, script: &str) -> Outcome {
    let mut child = Command::new("sqlite3")
        .args(["-batch", "-bail"])
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .during("cannot start sqlite3")?;
    let told = child.stdin.take().map(|mut stdin| stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().during("sqlite3")?;
    if output.status.success() && matches!(told, Some(Ok(()))) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or("it said nothing");
    Err(Failure::new(format!("sqlite3 failed ({}): {said}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_come_change_their_names_and_go() {
        let root = std::env::temp_dir().join(format!("farrier-writers-{}", std::process::id()));
        fs::create_dir(&root).unwrap();
        let mut small = SmallFiles::plan(&root, 1001, &Stop::default()).unwrap();
        small.create().unwrap();
        small.stat().unwrap();
        small.read().unwrap();
        small.rename().unwrap();
        assert!(root.join("small-001/file-001000.renamed").exists());
        small.unlink().unwrap();
        small.remove_directories().unwrap();
        fs::remove_dir(&root).unwrap();
    }
}
