//! A device that hangs holds nobody up: it is left behind, and the others go on.
//!
//! The device is an image file in another mount of ours, or a loop device over that: when its process is
//! stopped, every call that reaches it waits, as for a disk whose cable came loose.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::loops::Loop;
use common::volume::{Service, Volume, have, shell};
use common::{can_mount, fresh, run, wait_for};

/// Two copies, of which the second one lies in a mount that can be stopped.
struct Copies {
    outer: Option<Service>,
    mount: Option<Service>,
    block_device: Option<Loop>,
    folder: PathBuf,
    images: [PathBuf; 2],
    volume: Volume,
}

impl Copies {
    fn new(name: &str, options: &str) -> Self {
        let volume = Volume::new(&format!("{name}-outer"), "2G");
        let outer = volume.mount();
        let folder = fresh(name);
        let images = [folder.join("a.img"), folder.join("b.img")];
        for image in [&images[0], &outer.path.join("b.img")] {
            File::create(image).unwrap().set_len(256 << 20).unwrap();
        }
        symlink(outer.path.join("b.img"), &images[1]).unwrap();
        Self::of(volume, outer, None, folder, images, options)
    }

    /// As [`new`](Self::new), with a block device; `None` where there is none to be had.
    fn on_block_device(name: &str, options: &str) -> Option<Self> {
        let volume = Volume::new(&format!("{name}-outer"), "2G");
        let outer = volume.mount();
        let folder = fresh(name);
        let (a, b) = (folder.join("a.img"), outer.path.join("b.img"));
        for image in [&a, &b] {
            File::create(image).unwrap().set_len(256 << 20).unwrap();
        }
        let block_device = Loop::over(&b)?;
        let images = [a, block_device.path.clone()];
        Some(Self::of(volume, outer, Some(block_device), folder, images, options))
    }

    fn of(
        volume: Volume,
        outer: Service,
        block_device: Option<Loop>,
        folder: PathBuf,
        images: [PathBuf; 2],
        options: &str,
    ) -> Self {
        let [a, b] = images.each_ref().map(|path| path.to_str().unwrap());
        let made = run(&["format", "--copy", a, "--copy", b]);
        assert_eq!((made.2, made.1.as_str()), (0, ""));
        let mount = Service::start(&images[1], &["-o", options, a]);
        let (outer, mount) = (Some(outer), Some(mount));
        let copies = Self { outer, mount, block_device, folder, images, volume };
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

    fn wait_until_healthy(&self) {
        wait_for("the copy comes back", || self.status().1 == 0);
    }

    /// Unmounts the copies, and gives what their process said.
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
        if let (Some(outer), Some(_)) = (&self.outer, &self.block_device) {
            outer.go_on();
            drop(self.mount.take());
            drop(self.block_device.take());
        }
        drop(self.outer.take());
        drop(self.mount.take());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Has the system drop what it has of a file in memory.
fn forget(folder: &Path, name: &str) {
    shell(folder, &format!("dd status=none if={name} iflag=nocache count=0"));
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
    // the answer that comes too late is of no account, and the device that gave it comes back
    copies.outer().go_on();
    shell(copies.path(), "echo after > file && sync file && cat file");
    copies.wait_until_healthy();
    let said = copies.end();
    assert!(said.contains("did not answer in time) and was left behind"), "{said}");
    assert!(said.contains("b.img (copy 1): is back"), "{said}");
    let alone = Service::start(&copies.images[1], &["-o", "ro"]);
    assert_eq!(fs::read_to_string(alone.path.join("file")).unwrap(), "after\n");
    let (_, error, code) = run(&["umount".as_ref(), alone.path.as_os_str()]);
    assert_eq!((code, error.as_str()), (0, ""));
}

#[test]
fn a_device_that_was_pulled_comes_back_by_itself() {
    if !can_mount() {
        return;
    }
    let mut copies = Copies::new("pulled", "stall_timeout=2,cache=8M");
    shell(copies.path(), "echo before > file && sync file");
    shell(copies.path(), "head -c 30000000 /dev/urandom > large && sync large");
    // nothing of both is in memory
    forget(copies.path(), "large");
    forget(&copies.outer().path, "b.img");
    // who held the device is gone, and everything fails that is asked of it
    copies.outer.take().unwrap().kill();
    shell(copies.path(), "cat large > /dev/null");
    shell(copies.path(), "echo behind > file && sync file");
    let (text, code) = copies.status();
    assert!(code == 2 && text.contains("[2/1] [I_]"), "{text}");
    // it appears under the same name, and is another device by all that the system knows
    let outer = copies.volume.mount();
    fs::remove_file(&copies.images[1]).unwrap();
    symlink(outer.path.join("b.img"), &copies.images[1]).unwrap();
    copies.outer = Some(outer);
    copies.wait_until_healthy();
    shell(copies.path(), "echo after > file && sync file");
    let said = copies.end();
    assert!(said.contains("b.img (copy 1): is back"), "{said}");
    let alone = Service::start(&copies.images[1], &["-o", "ro"]);
    assert_eq!(fs::read_to_string(alone.path.join("file")).unwrap(), "after\n");
    let (_, error, code) = run(&["umount".as_ref(), alone.path.as_os_str()]);
    assert_eq!((code, error.as_str()), (0, ""));
}

#[test]
fn a_copy_that_was_missing_or_detached_is_attached_when_somebody_says_so() {
    if !can_mount() {
        return;
    }
    let mut copies = Copies::new("attach", "stall_timeout=2");
    shell(copies.path(), "echo before > file && sync file");
    let _ = copies.end();
    let [a, b] = copies.images.each_ref().map(|path| path.to_str().unwrap().to_owned());
    let mount = Service::start(Path::new(&a), &["-o", "accept_missing"]);
    let mount = copies.mount.insert(mount).path.clone();
    wait_for("the mount answers", || copies.status().1 != 1);
    let attach = |device: &str| {
        let arguments = ["copies", "attach", mount.to_str().unwrap(), device];
        let (text, error, code) = run(&arguments);
        (text + &error, code)
    };
    let (text, code) = attach("/no/such");
    assert!(code != 0 && text.contains("no such file or device"), "{text}");
    let (text, code) = attach(&a);
    assert!(code != 0 && text.contains("is a device of this volume already"), "{text}");
    let other = copies.volume.image.to_str().unwrap();
    let (text, code) = attach(other);
    assert!(code != 0 && text.contains("in use"), "{text}");
    shell(&mount, "echo behind > file && sync file");
    let (text, code) = attach(&b);
    assert!(code == 0 || text.contains("is a device of this volume already"), "{text}");
    copies.wait_until_healthy();
    let path = mount.to_str().unwrap();
    let detached = run(&["copies", "detach", path, "1"]);
    assert_eq!(detached.2, 0, "{detached:?}");
    let (text, code) = copies.status();
    assert!(code == 2 && text.contains("[2/1] [I_]"), "{text}");
    let (text, code) = attach(&b);
    assert!(code == 0 && text.contains("attached as copy 1"), "{text}");
    copies.wait_until_healthy();
    let _ = copies.end();
}

#[test]
fn a_copy_that_was_left_out_stays_out_though_it_is_there() {
    if !can_mount() {
        return;
    }
    let mut copies = Copies::new("left-out", "stall_timeout=2");
    let third = copies.folder.join("c.img");
    let third = third.to_str().unwrap();
    let path = copies.path().to_str().unwrap().to_owned();
    let added = run(&["copies", "add", "--size", "256M", &path, third]);
    assert_eq!(added.2, 0, "{added:?}");
    copies.wait_until_healthy();
    let _ = copies.end();
    let only = ["-o", "nosearch,accept_missing,stall_timeout=2", third];
    copies.mount = Some(Service::start(&copies.images[1], &only));
    wait_for("the mount answers", || copies.status().1 != 1);
    shell(copies.path(), "echo without > file && sync file");
    // whoever looks for a copy that was pulled comes by the one that was left out
    copies.outer.take().unwrap().kill();
    shell(copies.path(), "echo behind > file && sync file");
    let outer = copies.volume.mount();
    fs::remove_file(&copies.images[1]).unwrap();
    symlink(outer.path.join("b.img"), &copies.images[1]).unwrap();
    copies.outer = Some(outer);
    wait_for("the pulled one comes back", || copies.status().0.contains("[3/2] [_II]"));
    let path = copies.path().to_str().unwrap().to_owned();
    let left_out = copies.images[0].to_str().unwrap();
    let attached = run(&["copies", "attach", &path, left_out]);
    assert!(attached.0.contains("attached as copy 0"), "{attached:?}");
    copies.wait_until_healthy();
    let _ = copies.end();
}

#[test]
fn reads_go_on_when_a_device_hangs() {
    if can_mount() {
        reads_go_on(Copies::new("stall-read", "stall_timeout=1,cache=8M"));
    }
}

/// Where the system itself reads on the side.
#[test]
fn reads_go_on_when_a_block_device_hangs() {
    if !can_mount() {
        return;
    }
    if let Some(copies) = Copies::on_block_device("stall-block", "stall_timeout=1,cache=8M") {
        reads_go_on(copies);
    }
}

fn reads_go_on(mut copies: Copies) {
    shell(copies.path(), "head -c 40000000 /dev/urandom > file && sync file && md5sum file > sum");
    // nothing of it is in memory
    let _ = copies.end();
    forget(&copies.folder, copies.images[1].to_str().unwrap());
    forget(&copies.outer().path, "b.img");
    let a = copies.images[0].to_str().unwrap().to_owned();
    let options = ["-o", "stall_timeout=1,cache=8M", &a];
    copies.mount = Some(Service::start(&copies.images[1], &options));
    shell(copies.path(), "cat sum");
    copies.outer().stop();
    shell(copies.path(), "md5sum -c sum");
    let (text, _) = copies.status();
    copies.outer().go_on();
    assert!(text.contains("did not answer in time"), "{text}");
    let _ = copies.end();
}
