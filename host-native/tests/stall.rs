//! A device that hangs holds nobody up: it is left behind, and the others go on.
//!
//! The device is an image file in another mount of ours, whose process is stopped: every call that
//! reaches it waits, as for a disk whose cable came loose.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::volume::{Service, Volume, have, shell};
use common::{can_mount, fresh, run, wait_for};

/// Two copies, of which the second one lies in a mount that can be stopped.
struct Copies {
    outer: Option<Service>,
    mount: Option<Service>,
    folder: PathBuf,
    images: [PathBuf; 2],
    _volume: Volume,
}

impl Copies {
    fn new(name: &str, options: &str) -> Self {
        let volume = Volume::new(&format!("{name}-outer"), "2G");
        let outer = volume.mount();
        let folder = fresh(name);
        let images = [folder.join("a.img"), outer.path.join("b.img")];
        let [a, b] = images.each_ref().map(|path| path.to_str().unwrap());
        let made = run(&["format", "--size", "256M", "--copy", a, "--copy", b]);
        assert_eq!((made.2, made.1.as_str()), (0, ""));
        let mount = Service::start(&images[1], &["-o", options, a]);
        let copies =
            Self { outer: Some(outer), mount: Some(mount), folder, images, _volume: volume };
        wait_for("the mount answers", || copies.status().1 != 1);
        copies
    }

    fn path(&self) -> &Path {
        &self.mount.as_ref().unwrap().path
    }

    fn outer(&self) -> &Service {
        self.outer.as_ref().unwrap()
    }

    fn status(&self) -> (String, i32) {
        let arguments = ["copies".as_ref(), "status".as_ref(), self.path().as_os_str()];
        let (text, error, code) = run(&arguments);
        (text + &error, code)
    }

    /// Unmounts both, and gives what the inner one said.
    fn end(&mut self) -> String {
        let mount = self.mount.take().unwrap();
        let (_, error, code) = run(&["umount".as_ref(), mount.path.as_os_str()]);
        assert_eq!((code, error.as_str()), (0, ""), "{}", mount.said());
        mount.said()
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        // what hangs comes free with the process that it hangs at
        drop(self.outer.take());
        drop(self.mount.take());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_device_that_hangs_is_left_behind_and_programs_go_on() {
    if !can_mount() {
        return;
    }
    let mut copies = Copies::new("stall", "stall_timeout=1");
    shell(copies.path(), "echo before > file && sync file");
    assert!(copies.status().0.starts_with("state:  healthy [2/2] [II]\n"));
    copies.outer().stop();
    shell(copies.path(), "echo behind > file && sync file && cat file");
    let (text, code) = copies.status();
    assert!(code == 2 && text.contains("[2/1] [I_]"), "{text}");
    assert!(text.contains("did not answer in time"), "{text}");
    if have(&["git"]) {
        let commit = "git init -q . && git add -A && \
             git -c user.name=n -c user.email=e commit -qm one && git fsck --full";
        shell(copies.path(), &format!("mkdir git && cd git && echo a > a && {commit}"));
    }
    if have(&["sqlite3"]) {
        shell(copies.path(), "sqlite3 db 'create table t(a); insert into t values (7)'");
    }
    // the answer that comes too late is of no account
    copies.outer().go_on();
    shell(copies.path(), "echo after > file && sync file && cat file");
    let said = copies.end();
    assert!(said.contains("did not answer in time) and was left behind"), "{said}");
    let mount = Service::start(&copies.images[1], &[copies.images[0].to_str().unwrap()]);
    assert_eq!(fs::read_to_string(mount.path.join("file")).unwrap(), "after\n");
    let waited = ["copies".as_ref(), "resync".as_ref(), "--wait".as_ref(), mount.path.as_os_str()];
    wait_for("the mount answers", || run(&waited).2 == 0);
    let (_, error, code) = run(&["umount".as_ref(), mount.path.as_os_str()]);
    assert_eq!((code, error.as_str()), (0, ""), "{}", mount.said());
}

#[test]
fn reads_go_on_when_a_device_hangs() {
    if !can_mount() {
        return;
    }
    let mut copies = Copies::new("stall-read", "stall_timeout=1,cache=8M");
    shell(copies.path(), "head -c 40000000 /dev/urandom > file && sync file && md5sum file > sum");
    // nothing of it is in memory
    let _ = copies.end();
    let a = copies.images[0].to_str().unwrap().to_owned();
    let options = ["-o", "stall_timeout=1,cache=8M", &a];
    copies.mount = Some(Service::start(&copies.images[1], &options));
    shell(copies.path(), "cat sum");
    copies.outer().stop();
    shell(copies.path(), "md5sum -c sum");
    let (text, _) = copies.status();
    copies.outer().go_on();
    assert!(text.contains("did not answer in time") || text.contains("healthy"), "{text}");
    let _ = copies.end();
}
