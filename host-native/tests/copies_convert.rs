//! A mounted volume gets copies, and has none again, while programs go on.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use common::copies::{end, serve, status, wait_for_resync};
use common::volume::{Service, Volume, noise, shell};
use common::{can_mount, farrier, run, told, wait_for};
use farrier::copies::record_at;
use farrier_core::copies::CopyState;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// Somebody who makes files one after the other, and knows which of them last.
struct Writer {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Writer {
    fn start(folder: &Path) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (folder, over) = (folder.to_owned(), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                let made = File::create(folder.join(format!("file-{count}")))
                    .and_then(|mut file| file.write_all(&contents(count)).and(file.sync_all()))
                    .and_then(|()| File::open(&folder)?.sync_all());
                if made.is_err() {
                    // the mount is gone
                    break;
                }
                count += 1;
            }
            count
        });
        Self { is_over, thread }
    }

    /// How many files last.
    fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn contents(number: u64) -> Vec<u8> {
    noise(20_000, number + 1)
}

fn assert_there(folder: &Path, count: u64) {
    for number in 0..count {
        let read = fs::read(folder.join(format!("file-{number}"))).unwrap();
        assert!(read == contents(number), "file-{number} of {count}");
    }
}

fn copies<S: AsRef<std::ffi::OsStr>>(words: &[S]) -> (String, i32) {
    let (text, error, code) = told(farrier().arg("copies").args(words).output().unwrap());
    (text + &error, code)
}

fn add(mount: &Service, second: &Path) {
    let at = mount.path.to_str().unwrap();
    let second = second.to_str().unwrap();
    let (text, code) = copies(&["add", "--convert", "--size", "256M", at, second]);
    assert!(code == 0 && text.contains("added as copy 1; the volume is one of copies"), "{text}");
}

/// Nothing is wrong with the volume, which is one that every program for HAMMER2 knows.
fn assert_stock(image: &Path) {
    let (text, error, code) = run(&["check".as_ref(), image.as_os_str()]);
    assert_eq!(code, 0, "{text}{error}");
    let (text, _, code) = run(&["info".as_ref(), image.as_os_str()]);
    assert!(code == 0 && text.contains("HAMMER2 version 1"), "{text}");
    assert!(record_at(image).is_none());
}

fn second(volume: &Volume) -> PathBuf {
    volume.folder.join("second.img")
}

#[test]
fn a_volume_in_use_gets_copies_and_has_none_again() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("converted-live", "256M");
    let (first, second) = (&volume.image, &second(&volume));
    let mount = volume.mount();
    shell(&mount.path, &format!("cp -a {SOURCE} tree"));
    let at = mount.path.to_str().unwrap().to_owned();
    wait_for("the mount answers", || status(&[&mount.path]).0.contains("no volume of copies"));
    let plain = ["add", "--size", "256M", &at, second.to_str().unwrap()];
    let (text, code) = copies(&plain);
    assert!(code == 1 && text.contains("is no volume of copies"), "{text}");
    assert!(!second.exists());

    let writer = Writer::start(&mount.path);
    add(&mount, second);
    wait_for_resync(&mount);
    let (text, code) = status(&[&mount.path]);
    assert!(code == 0 && text.starts_with("state:  healthy [2/2] [II]"), "{text}");
    let (text, error, _) = run(&["events", &at]);
    assert!(text.contains("holds everything again"), "{text}{error}");

    let (text, code) = copies(&["strip", &at, "1"]);
    assert!(
        code == 0 && text.contains("second.img (copy 1): is a volume without copies"),
        "{text}"
    );
    let (text, code) = status(&[&mount.path]);
    assert!(code == 1 && text.contains("is no volume of copies"), "{text}");
    let (text, code) = copies(&["add", "--convert", "--size", "256M", &at, "third.img"]);
    assert!(code == 1 && text.contains("mount"), "{text}");
    // whoever had the volume open goes on
    let count = writer.end();
    assert!(count > 0);
    assert_there(&mount.path, count);
    shell(&mount.path, &format!("echo after >after; diff -r {SOURCE} tree"));
    end(mount);
    assert_stock(second);
    // the other one is no copy of anything any more
    assert_eq!(record_at(first).unwrap().slots[0].state, CopyState::Retired);

    let mount = Service::start(second, &[]);
    assert_there(&mount.path, count);
    shell(&mount.path, &format!("test -e after; diff -r {SOURCE} tree"));
    mount.unmount();
}

#[test]
fn a_mount_that_is_killed_on_the_way_loses_nothing() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("converted-killed", "256M");
    let (first, second) = (&volume.image, &second(&volume));
    let mount = volume.mount();
    fs::write(mount.path.join("large"), noise(60 << 20, 7)).unwrap();
    File::open(mount.path.join("large")).unwrap().sync_all().unwrap();
    wait_for("the mount answers", || status(&[&mount.path]).0.contains("no volume of copies"));
    let writer = Writer::start(&mount.path);
    // it is being filled in
    add(&mount, second);
    mount.kill();
    let count = writer.end();

    let both = [first.clone(), second.clone()];
    let mount = serve(&both, &[]);
    wait_for_resync(&mount);
    assert_there(&mount.path, count);
    let at = mount.path.to_str().unwrap().to_owned();
    let mut strip = farrier().args(["copies", "strip", &at, "1"]).spawn().unwrap();
    let is_retired = |record: farrier_core::copies::CopyGroup| {
        record.slots.first().is_some_and(|slot| slot.state == CopyState::Retired)
    };
    wait_for("the walk begins", || record_at(first).is_some_and(is_retired));
    mount.kill();
    // it may have come to its end before
    let _ = strip.wait().unwrap();

    let mount = Service::start(second, &[]);
    assert_there(&mount.path, count);
    assert!(fs::read(mount.path.join("large")).unwrap() == noise(60 << 20, 7));
    end(mount);
    if record_at(second).is_some() {
        let (text, code) = copies(&["strip", second.to_str().unwrap(), "1"]);
        assert_eq!(code, 0, "{text}");
    }
    assert_stock(second);
}
