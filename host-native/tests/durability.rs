//! What fsync promised: it reaches the device, and it outlives the process that serves the mount.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::loops::Loop;
use common::volume::{Numbers, Service, Volume, noise};
use common::{can_mount, farrier, fresh, is_mounted, wait_for};

#[test]
fn every_fsync_reaches_the_device() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("flushes", "64M");
    let Some(device) = Loop::over(&volume.image) else {
        return;
    };
    if flush_count(&device).is_none() {
        eprintln!("skipped: the kernel does not count flushes");
        return;
    }
    let mount = Service::start(&device.path, &[]);
    let mut file = File::create(mount.path.join("file")).unwrap();
    file.sync_all().unwrap();
    let before = flush_count(&device).unwrap();
    for number in 0..FSYNC_COUNT {
        file.write_all(&noise(512, number + 1)).unwrap();
        file.sync_all().unwrap();
    }
    let flushes = flush_count(&device).unwrap() - before;
    drop(file);
    mount.unmount();
    assert!(flushes >= FSYNC_COUNT, "{flushes} flushes for {FSYNC_COUNT} times fsync");
    eprintln!("{flushes} flushes for {FSYNC_COUNT} times fsync");
    drop(device);
    volume.assert_clean();
}

const FSYNC_COUNT: u64 = 50;

/// How often a device was flushed; `None` where the kernel does not count that.
fn flush_count(device: &Loop) -> Option<u64> {
    let name = device.path.file_name().unwrap();
    let text = fs::read_to_string(Path::new("/sys/block").join(name).join("stat")).unwrap();
    text.split_whitespace().nth(FLUSH_FIELD).map(|number| number.parse().unwrap())
}

/// Flush requests completed; see Linux, Documentation/block/stat.rst.
const FLUSH_FIELD: usize = 15;

#[test]
fn what_was_acknowledged_outlives_a_killed_mount() {
    if !can_mount() {
        return;
    }
    let seed = std::env::var("FARRIER_KILL_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(4711).max(1);
    eprintln!(
        "repeat: FARRIER_KILL_SEED={seed} cargo test -p farrier --test durability killed_mount"
    );
    let mut numbers = Numbers(seed);
    let volume = Volume::new("kill", "256M");
    let mount = volume.mount();
    fs::create_dir(mount.path.join(FOLDER)).unwrap();
    mount.unmount();
    let mut known = Known::default();
    for round in 0..KILL_ROUND_COUNT {
        let mount = volume.mount();
        known.assert_kept(&mount.path.join(FOLDER), round);
        let writer = Writer {
            folder: mount.path.join(FOLDER),
            numbers: Numbers(numbers.next() | 1),
            known: std::mem::take(&mut known),
        };
        // somewhere in the middle of what the writer does; sometimes before it has done anything
        known = kill_in_the_middle(mount, writer, numbers.below(120), round);
        volume.assert_clean();
    }
    let mount = volume.mount();
    known.assert_kept(&mount.path.join(FOLDER), KILL_ROUND_COUNT);
    eprintln!("{} files kept, {} acknowledgements", known.files.len(), known.acknowledged_count);
    assert!(known.acknowledged_count > KILL_ROUND_COUNT);
    mount.unmount();
    volume.assert_clean();
}

/// Kills the mount when the writer has made so many calls. Returns what it was told until then.
fn kill_in_the_middle(mount: Service, mut writer: Writer, kill_at: u64, round: u64) -> Known {
    let calls = &AtomicU64::new(0);
    let (ended, end) = mpsc::channel();
    std::thread::scope(|scope| {
        // dropped, and the mount with it, before a panic waits for the writer
        let mut mount = mount;
        scope.spawn(move || {
            let error = writer.write_until_it_fails(calls);
            let _ = ended.send((writer.known, error));
        });
        let until = Instant::now() + CALLS_TIME_MAX;
        while calls.load(Ordering::Relaxed) <= kill_at {
            assert!(Instant::now() < until, "round {round}: the writer hangs");
            std::thread::sleep(Duration::from_micros(50));
        }
        mount.signal_kill();
        let (known, error) = end.recv_timeout(CALLS_TIME_MAX).expect("a killed mount gives errors");
        let code = error.raw_os_error();
        let is_expected = matches!(code, Some(ENOTCONN | ECONNABORTED | EIO));
        assert!(is_expected, "round {round}: the writer ended by itself: {error}");
        mount.kill();
        known
    })
}

const KILL_ROUND_COUNT: u64 = 10;

/// For all calls of a round, on a busy machine.
const CALLS_TIME_MAX: Duration = Duration::from_secs(90);

const EIO: i32 = 5;
const ECONNABORTED: i32 = 103;
const ENOTCONN: i32 = 107;

/// What a file holds: noise of this length, from this seed, which no other file has.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Contents {
    len: usize,
    seed: u64,
}

impl Contents {
    fn bytes(self) -> Vec<u8> {
        noise(self.len, self.seed)
    }

    fn is(self, bytes: Option<&Vec<u8>>) -> bool {
        bytes.is_some_and(|bytes| *bytes == self.bytes())
    }
}

/// A change that was begun. As long as it is not acknowledged, it may have happened or not.
#[derive(Clone, Debug)]
enum Change {
    Made {
        name: String,
    },
    Longer {
        name: String,
        by_len: usize,
    },
    Moved {
        from: String,
        to: String,
    },
    /// As editors do it: written under one name, then moved onto the other.
    Replaced {
        name: String,
        by: String,
        contents: Contents,
    },
    Removed {
        name: String,
    },
}

/// What the writer was told is there.
#[derive(Default)]
struct Known {
    files: BTreeMap<String, Contents>,
    begun: Option<Change>,
    acknowledged_count: u64,
    /// As many as were given away.
    seed_count: u64,
}

impl Known {
    /// All that was acknowledged is there and nothing else, except for what was begun: that may be
    /// seen or not, and is known afterwards.
    fn assert_kept(&mut self, folder: &Path, round: u64) {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            found.insert(name, fs::read(entry.path()).unwrap());
        }
        if let Some(change) = self.begun.take() {
            let told = format!("round {round}: {change:?}");
            self.settle(change, &mut found, folder, &told);
            // what was removed here must not come back
            File::open(folder).unwrap().sync_all().unwrap();
        }
        for (name, contents) in &self.files {
            assert!(found.contains_key(name), "round {round}: {name} is missing");
            assert!(contents.is(found.get(name)), "round {round}: {name} is not {contents:?}");
        }
        let came_back: Vec<_> =
            found.keys().filter(|name| !self.files.contains_key(*name)).collect();
        assert!(came_back.is_empty(), "round {round}: {came_back:?}");
    }

    fn settle(
        &mut self,
        change: Change,
        found: &mut BTreeMap<String, Vec<u8>>,
        folder: &Path,
        told: &str,
    ) {
        match change {
            Change::Made { name } => discard(folder, found, &name),
            Change::Removed { name } => {
                if !found.contains_key(&name) {
                    self.files.remove(&name);
                }
            }
            Change::Moved { from, to } => {
                let is_moved = found.contains_key(&to);
                assert_ne!(is_moved, found.contains_key(&from), "at one place: {told}");
                if is_moved {
                    let contents = self.files.remove(&from).unwrap();
                    self.files.insert(to, contents);
                }
            }
            Change::Replaced { name, by, contents } => {
                discard(folder, found, &by);
                if contents.is(found.get(&name)) {
                    self.files.insert(name, contents);
                }
            }
            Change::Longer { name, by_len } => {
                let old = self.files[&name].bytes();
                let bytes = &found[&name];
                assert!(bytes.starts_with(&old), "the old part is as it was: {told}");
                assert!(bytes.len() <= old.len() + by_len, "{told}: {} bytes", bytes.len());
                discard(folder, found, &name);
                self.files.remove(&name);
            }
        }
    }
}

/// Of a file that was not synced any part may be there.
fn discard(folder: &Path, found: &mut BTreeMap<String, Vec<u8>>, name: &str) {
    if found.remove(name).is_some() {
        fs::remove_file(folder.join(name)).unwrap();
    }
}

struct Writer {
    folder: PathBuf,
    numbers: Numbers,
    known: Known,
}

impl Writer {
    fn write_until_it_fails(&mut self, calls: &AtomicU64) -> io::Error {
        loop {
            let change = self.draw();
            self.known.begun = Some(change.clone());
            if let Err(error) = self.perform(change, calls) {
                return error;
            }
            self.known.begun = None;
            self.known.acknowledged_count += 1;
        }
    }

    fn draw(&mut self) -> Change {
        let choice = self.numbers.below(10);
        let place = self.numbers.below(self.known.files.len().max(1) as u64);
        let name = self.known.files.keys().nth(usize::try_from(place).unwrap()).cloned();
        let by_len = self.len();
        self.known.seed_count += 1;
        let new = format!("file {}", self.known.seed_count);
        match (choice, name) {
            (0..=1, Some(from)) => Change::Moved { from, to: new },
            (2..=3, Some(name)) => {
                let contents = self.contents();
                Change::Replaced { name, by: new, contents }
            }
            (4, Some(name)) => Change::Removed { name },
            (5..=6, Some(name)) => Change::Longer { name, by_len },
            _ => Change::Made { name: new },
        }
    }

    /// Makes one change, up to its acknowledgement.
    fn perform(&mut self, change: Change, calls: &AtomicU64) -> io::Result<()> {
        let call = || calls.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.clone();
        let sync_folder = || {
            call();
            File::open(&folder)?.sync_all()
        };
        let make = |name: &String, contents: Contents| {
            call();
            let mut file = File::create(folder.join(name))?;
            call();
            file.write_all(&contents.bytes())?;
            call();
            file.sync_all()
        };
        match change {
            Change::Made { name } => {
                let contents = self.contents();
                make(&name, contents)?;
                sync_folder()?;
                self.known.files.insert(name, contents);
            }
            Change::Longer { name, by_len } => {
                let contents = self.known.files.get_mut(&name).unwrap();
                let longer = Contents { len: contents.len + by_len, ..*contents };
                call();
                let mut file = OpenOptions::new().append(true).open(folder.join(&name))?;
                file.write_all(&longer.bytes()[contents.len..])?;
                call();
                file.sync_data()?;
                *contents = longer;
            }
            Change::Moved { from, to } => {
                call();
                fs::rename(folder.join(&from), folder.join(&to))?;
                sync_folder()?;
                let contents = self.known.files.remove(&from).unwrap();
                self.known.files.insert(to, contents);
            }
            Change::Replaced { name, by, contents } => {
                make(&by, contents)?;
                call();
                fs::rename(folder.join(&by), folder.join(&name))?;
                sync_folder()?;
                self.known.files.insert(name, contents);
            }
            Change::Removed { name } => {
                call();
                fs::remove_file(folder.join(&name))?;
                sync_folder()?;
                self.known.files.remove(&name);
            }
        }
        Ok(())
    }

    fn contents(&mut self) -> Contents {
        self.known.seed_count += 1;
        Contents { len: self.len(), seed: self.known.seed_count * 2 + 1 }
    }

    fn len(&mut self) -> usize {
        let at_most = [0, 100, 512, 4000, 70_000, 200_000];
        let at_most = at_most[usize::try_from(self.numbers.below(6)).unwrap()];
        usize::try_from(self.numbers.below(at_most + 1)).unwrap()
    }
}

const FOLDER: &str = "files";

/// Whoever asks his own mount and is killed meanwhile neither answers nor ends.
#[test]
fn a_mount_that_is_killed_as_it_begins_ends() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("killed-early", "64M");
    for _ in 0..10 {
        let path = fresh("killed-early-mount");
        let mut child = farrier()
            .args(["mount", "--foreground"])
            .args([&volume.image, &path])
            .stdin(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !is_mounted(&path) {
            assert!(child.try_wait().unwrap().is_none());
        }
        child.kill().unwrap();
        wait_for("the process ends", || child.try_wait().unwrap().is_some());
        let _ = farrier().args(["umount", "--lazy"]).arg(&path).output();
        let _ = fs::remove_dir(&path);
    }
    volume.assert_clean();
}
