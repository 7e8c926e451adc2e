//! Volumes of copies on real mounts: they hold the same, go on without one, and catch up.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::copies::{Copies, end, serve, status, wait_for_resync};
use common::volume::{Service, Volume, have, noise, shell};
use common::{can_mount, farrier, fresh, run, wait_for};
use farrier_core::copies::CopyState;
use farrier_core::media::check::{Checks, crc32c};
use farrier_core::media::header::seal;
use farrier_core::media::raw::RawVolumeHeader;
use zerocopy::FromBytes;

/// Mounting these fails with this text; the state of them has this exit code.
fn assert_refused(images: &[&Path], options: &[&str], parts: &[&str], exit_code: i32) {
    let folder = fresh("refused");
    let mut command = farrier();
    command.args(["mount", "--only"]).args(options).args(images).arg(&folder);
    let output = command.output().unwrap();
    let (_, error, code) = common::told(output);
    if code == 0 {
        let _ = run(&["umount".as_ref(), folder.as_os_str()]);
    }
    assert_eq!(code, 1, "{error}");
    for part in parts {
        assert!(error.contains(part), "{part}: {error}");
    }
    // not by number; an id may begin with one
    for number in ["device 0 ", "device 0:", "device 1 ", "device 1:"] {
        assert!(!error.contains(number), "{error}");
    }
    if options.is_empty() || options == ["-o", "rw"] {
        assert_eq!(status(images).1, exit_code, "{}", status(images).0);
    }
    let _ = fs::remove_dir(&folder);
}

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

#[test]
fn a_copy_that_was_away_catches_up_and_each_holds_the_same() {
    if !can_mount() {
        return;
    }
    let copies = Copies::new("copies", 2);
    let [a, b] = [&copies.images[0], &copies.images[1]];
    let mount = copies.mount(&[]);
    shell(&mount.path, &format!("cp -a {SOURCE} first"));
    let (text, code) = status(&[&mount.path]);
    assert!(code == 0 && text.starts_with("state:  healthy [2/2] [II]\n"), "{text}");
    let quiet = run(&["copies".as_ref(), "status".as_ref(), "-x".as_ref(), mount.path.as_os_str()]);
    assert_eq!(quiet, (String::new(), String::new(), 0));
    let (text, code) = status(&[a, b]);
    assert!(code == 1 && text.contains("name the directory"), "{text}");
    mount.unmount();

    // alone, nobody knows whether the other one has gone on
    let mount = serve(std::slice::from_ref(a), &[]);
    assert!(
        mount.said().contains("FC-D03: read-only: copies {1} are not here"),
        "{}",
        mount.said()
    );
    assert!(fs::write(mount.path.join("file"), "").is_err());
    let (text, code) = status(&[&mount.path]);
    assert!(code == 6 && text.contains("action: attach them, or go on without"), "{text}");
    end(mount);
    assert_refused(&[a], &["-o", "rw"], &["FC-D03", "--accept-missing"], 6);

    let mount = serve(std::slice::from_ref(a), &["--accept-missing"]);
    shell(&mount.path, &format!("cp -a {SOURCE} second"));
    let (text, code) = status(&[&mount.path]);
    assert!(code == 2 && text.contains("[2/1] [I_]") && text.contains("not here"), "{text}");
    mount.unmount();
    let (text, code) = status(&[b, a]);
    assert!(code == 2 && text.contains("state:  resync [2/1] [IR]"), "{text}");
    let (text, _, _) = run(&["info".as_ref(), b.as_os_str(), a.as_os_str()]);
    assert!(text.contains("copies          group ") && text.contains("number 2"), "{text}");

    let mount = serve(&[b.clone(), a.clone()], &[]);
    wait_for_resync(&mount);
    assert_eq!(status(&[&mount.path]).1, 0);
    let said = end(mount);
    let name = format!("{} (copy 1)", b.display());
    assert!(said.contains(&format!("{name}: behind; now being brought up to date")), "{said}");
    assert!(said.contains(&format!("{name}: holds everything again")), "{said}");
    for image in [a, b] {
        copies.look_at(image, |path| {
            shell(path, &format!("diff -r {SOURCE} first; diff -r {SOURCE} second"));
        });
        let (text, error, code) = run(&["check".as_ref(), image.as_os_str()]);
        assert_eq!(code, 0, "{text}{error}");
    }
    let mount = copies.mount(&["-o", "only_copy=1"]);
    assert!(mount.said().contains("only_copy: what copy 1 holds"), "{}", mount.said());
    shell(&mount.path, &format!("diff -r {SOURCE} second"));
    end(mount);
}

#[test]
fn a_device_that_is_pulled_is_left_behind_while_git_works() {
    if !can_mount() || !have(&["git"]) {
        return;
    }
    // a device that can be pulled: a file in a mount of its own
    let outer = Volume::new("outer", "600M");
    let mut below = outer.mount();
    let mut copies = Copies::new("pulled", 1);
    let kept = copies.images[0].clone();
    let pulled = below.path.join("image");
    fs::remove_file(&kept).unwrap();
    File::create(&pulled).unwrap();
    copies.images.push(pulled.clone());
    copies.format();
    let mount = copies.mount(&[]);
    let git = "git -c user.name=a -c user.email=a@b -c core.fsync=all";
    shell(&mount.path, &format!("cp -a {SOURCE} tree; git init -q tree; cd tree; {git} add ."));
    let path = mount.path.clone();
    let work = std::thread::spawn(move || {
        let commits =
            "for n in 1 2 3 4 5 6 7 8 9; do echo $n >n; git add n; GIT commit -qm $n; done";
        shell(&path.join("tree"), &commits.replace("GIT", git));
    });
    std::thread::sleep(Duration::from_millis(100));
    below.signal_kill();
    work.join().unwrap();
    wait_for("the copy is left behind", || mount.said().contains("left behind"));
    let said = mount.said();
    assert!(said.contains(&format!("{} (copy 1): failed (", pulled.display())), "{said}");
    assert!(said.contains("os error") && said.contains("when it comes back"), "{said}");
    let (text, code) = status(&[&mount.path]);
    assert!(code == 2 && text.starts_with("state:  degraded [2/1] [I_]"), "{text}");
    assert!(text.contains("(copy 1): failed ("), "{text}");
    shell(&mount.path.join("tree"), "git fsck --full");
    end(mount);

    // on record as failed: the one that is left needs no word of anybody
    let mount = serve(std::slice::from_ref(&kept), &[]);
    shell(&mount.path, "echo more >more");
    mount.unmount();
    drop(below);

    let below = outer.mount();
    copies.images[1] = below.path.join("image");
    let mount = copies.mount(&[]);
    wait_for_resync(&mount);
    end(mount);
    copies.look_at(&copies.images[1], |path| {
        shell(path, "test -e more; cd tree; git -c safe.directory='*' fsck --full");
        shell(
            path,
            &format!("diff -r -x .git {SOURCE} tree | grep -v '^Only in tree: n$' || true"),
        );
    });
    below.unmount();
}

#[test]
fn without_any_copy_left_the_volume_halts() {
    if !can_mount() {
        return;
    }
    let outer = Volume::new("both", "600M");
    let mut below = outer.mount();
    let images = ["a", "b"].map(|name| below.path.join(name));
    images.iter().for_each(|image| drop(File::create(image).unwrap()));
    let copies = Copies { folder: fresh("halted"), images: images.into() };
    copies.format();
    let mount = copies.mount(&[]);
    let file = File::create(mount.path.join("file")).unwrap();
    file.sync_all().unwrap();
    below.signal_kill();
    file.write_all_at(&noise(1 << 20, 3), 0).unwrap();
    assert!(file.sync_all().is_err());
    drop(file);
    let (text, code) = status(&[&mount.path]);
    assert!(code == 4 && text.starts_with("state:  halted"), "{text}");
    assert!(text.contains("os error") && text.contains("copies promote"), "{text}");
    assert!(mount.said().contains("nothing can be changed any more"), "{}", mount.said());
    assert!(fs::write(mount.path.join("other"), "").is_err());
    mount.kill();
    drop(below);

    // nobody went on: what was acknowledged is on both
    let below = outer.mount();
    let images = ["a", "b"].map(|name| below.path.join(name));
    let mount = serve(&images, &[]);
    assert_eq!(status(&[&mount.path]).1, 0, "{}", status(&[&mount.path]).0);
    assert!(mount.path.join("file").exists());
    mount.unmount();
    below.unmount();
}

/// Two copies on one device that can be lost: files in a mount of its own, under a name that stays.
struct Losable {
    outer: Volume,
    below: Option<Service>,
    copies: Copies,
}

impl Losable {
    fn new(name: &str) -> Self {
        let outer = Volume::new(&format!("{name}-outer"), "600M");
        let folder = fresh(name);
        let images = ["a", "b"].map(|image| folder.join("below").join(image));
        let copies = Copies { folder, images: images.into() };
        let mut losable = Self { outer, below: None, copies };
        losable.come_back();
        losable.copies.images.iter().for_each(|image| drop(File::create(image).unwrap()));
        losable.copies.format();
        losable
    }

    fn lose(&mut self) {
        for image in &self.copies.images {
            // what the kernel has of it can be read even then
            let image = File::open(image).unwrap();
            rustix::fs::fadvise(&image, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
        self.below.as_mut().unwrap().signal_kill();
    }

    fn come_back(&mut self) {
        drop(self.below.take());
        let link = self.copies.folder.join("below");
        let _ = fs::remove_file(&link);
        let below = self.outer.mount();
        std::os::unix::fs::symlink(&below.path, &link).unwrap();
        self.below = Some(below);
    }
}

/// A volume that halted waits so long.
fn set_wait(path: &Path, seconds: &str) {
    let policy = ["copies", "policy", "--wait", seconds].map(OsStr::new);
    let (text, error, code) = run(&[&policy[..], &[path.as_os_str()]].concat());
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(text.contains(&format!("waits {seconds} s for them")), "{text}");
}

#[test]
fn a_volume_that_halted_goes_on_when_its_copies_are_back() {
    if !can_mount() {
        return;
    }
    let mut losable = Losable::new("returns");
    let (old, new) = (noise(4 << 20, 5), noise(1 << 20, 6));
    let kept = losable.copies.folder.join("kept");
    fs::write(&kept, &new).unwrap();
    let mount = losable.copies.mount(&[]);
    fs::write(mount.path.join("old"), &old).unwrap();
    fs::write(losable.copies.folder.join("old"), &old).unwrap();
    set_wait(&mount.path, "240");
    end(mount);

    let mount = losable.copies.mount(&[]);
    let here = losable.copies.folder.display().to_string();
    // by programs of their own: whoever has a file open that waits cannot begin another program
    let beside = |script: String| {
        let path = mount.path.clone();
        std::thread::spawn(move || shell(&path, &script))
    };
    losable.lose();
    let reads = beside(format!("cmp old {here}/old"));
    let writes = beside(format!("dd if={here}/kept of=new conv=fsync status=none"));
    wait_for("it is waited", || mount.said().contains("everything waits up to 240 s for"));
    let (text, code) = status(&[&mount.path]);
    assert!(code == 4 && text.starts_with("state:  halted"), "{text}");
    assert!(text.contains("everything waits for them, up to"), "{text}");
    assert!(!reads.is_finished() && !writes.is_finished());

    losable.come_back();
    reads.join().unwrap();
    writes.join().unwrap();
    let said = mount.said();
    assert!(said.contains("back; the volume goes on"), "{said}");
    assert!(!said.contains("nothing can be changed any more"), "{said}");
    assert_eq!(status(&[&mount.path]).1, 0, "{}", status(&[&mount.path]).0);

    // and once more
    losable.lose();
    let writes = beside("echo more | dd of=more conv=fsync status=none".to_owned());
    let waits = || mount.said().matches("everything waits up to").count() == 2;
    wait_for("it is waited again", waits);
    losable.come_back();
    writes.join().unwrap();
    assert_eq!(status(&[&mount.path]).1, 0, "{}", status(&[&mount.path]).0);
    end(mount);
    for image in &losable.copies.images {
        losable.copies.look_at(image, |path| {
            assert!(fs::read(path.join("old")).unwrap() == old);
            assert!(fs::read(path.join("new")).unwrap() == new);
            assert_eq!(fs::read(path.join("more")).unwrap(), b"more\n");
        });
        let (text, error, code) = run(&["check".as_ref(), image.as_os_str()]);
        assert_eq!(code, 0, "{text}{error}");
    }
}

#[test]
fn a_volume_that_halted_waits_for_so_long_and_no_longer() {
    if !can_mount() {
        return;
    }
    let mut losable = Losable::new("stays-away");
    let mount = losable.copies.mount(&[]);
    set_wait(&mount.path, "1");
    let file = File::create(mount.path.join("file")).unwrap();
    file.sync_all().unwrap();
    losable.lose();
    file.write_all_at(&noise(1 << 20, 3), 0).unwrap();
    assert!(file.sync_all().is_err());
    assert!(mount.said().contains("nothing can be changed any more"), "{}", mount.said());
    let (text, code) = status(&[&mount.path]);
    assert!(code == 4 && !text.contains("everything waits for them, up to"), "{text}");
    // nobody waits a second time
    assert!(fs::write(mount.path.join("other"), "").is_err());
    mount.kill();
}

#[test]
fn a_killed_resync_goes_on() {
    if !can_mount() {
        return;
    }
    let copies = Copies::new("resync", 2);
    let [a, b] = [&copies.images[0], &copies.images[1]];
    let contents = noise(120 << 20, 7);
    let mount = serve(std::slice::from_ref(a), &["--accept-missing"]);
    fs::write(mount.path.join("file"), &contents).unwrap();
    mount.unmount();
    let folder = fresh("killed");
    let mut killed = farrier()
        .args(["mount", "--foreground"])
        .args([a, b, &folder])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    let mut errors = killed.stderr.take().unwrap();
    while !String::from_utf8_lossy(&said).contains("now being") {
        let mut byte = [0];
        errors.read_exact(&mut byte).unwrap();
        said.extend(byte);
    }
    // a batch is done, and there are others
    let is_begun = || {
        let record = farrier::copies::record_at(b);
        record.is_some_and(|record| record.slots[1].state == CopyState::Resync)
    };
    let in_vain = Instant::now() + Duration::from_secs(20);
    while !is_begun() && Instant::now() < in_vain {}
    killed.kill().unwrap();
    killed.wait().unwrap();
    let _ = run(&["umount".as_ref(), "--lazy".as_ref(), folder.as_os_str()]);
    let (text, code) = status(&[a, b]);
    assert!(code == 2 && text.contains("[IR]"), "{text}");

    // what is half filled in is no master
    assert_refused(&[b], &[], &["FC-S02: no copy that holds everything", "copies promote"], 5);
    let mount = copies.mount(&[]);
    wait_for_resync(&mount);
    end(mount);
    copies.look_at(b, |path| assert!(fs::read(path.join("file")).unwrap() == contents));
    let _ = fs::remove_dir(&folder);
}

#[test]
fn histories_that_part_are_refused_by_name() {
    if !can_mount() {
        return;
    }
    let copies = Copies::new("split", 2);
    let [a, b] = [&copies.images[0], &copies.images[1]];
    copies.go_on_alone(0, "here");
    copies.go_on_alone(1, "there");
    let names = [a.to_str().unwrap(), b.to_str().unwrap()];
    let parts = ["FC-S01: split", names[0], names[1], "--only-copy N", "rejoin --discard-its-data"];
    assert_refused(&[a, b], &[], &parts, 5);
    let mount = copies.mount(&["-o", "only_copy=1"]);
    assert!(mount.path.join("there").exists());
    end(mount);
    // the operator's choice: the other one is left alone
    let mount = copies.mount(&["--master", "1"]);
    let told = format!("{} (copy 0): has a history", names[0]);
    assert!(mount.said().contains(&told), "{}", mount.said());
    assert!(mount.path.join("there").exists());
    end(mount);
    assert_refused(&[a, b], &["--master", "3"], &["FC-S01"], 5);
    assert_refused(&[a, b], &["--only-copy", "3"], &["FC-S12: copy 3 is not here"], 5);
}

#[test]
fn devices_that_do_not_belong_together_are_refused_by_name() {
    let copies = Copies::new("foreign", 2);
    let other = Copies::new("other", 2);
    let [a, b] = [&copies.images[0], &copies.images[1]];
    let image_of_a = copies.folder.join("copy-of-0.img");
    fs::copy(a, &image_of_a).unwrap();
    let name = image_of_a.to_str().unwrap();
    assert_refused(&[a, &image_of_a], &[], &["FC-S04", "the same device", name], 5);
    let name = other.images[1].to_str().unwrap();
    assert_refused(&[a, &other.images[1]], &[], &["FC-S05", "of another file system", name], 5);
    let plain = Volume::new("plain", "64M");
    let name = plain.image.to_str().unwrap();
    assert_refused(&[a, b, &plain.image], &[], &["FC-S06", "without copies", name], 5);
    assert_eq!(status(&[&plain.image]).1, 1);
}

#[test]
fn what_the_records_say_is_kept_to() {
    if !can_mount() {
        return;
    }
    let copies = Copies::new("records", 2);
    let [a, b] = [&copies.images[0], &copies.images[1]];
    let name = b.to_str().unwrap();
    let kept: Vec<_> = copies.images.iter().map(header).collect();
    let restore = || {
        for (image, bytes) in copies.images.iter().zip(&kept) {
            File::options().write(true).open(image).unwrap().write_all_at(bytes, 0).unwrap();
        }
    };
    let both = |at: usize, value: u8| {
        restore();
        change(a, at, value);
        change(b, at, value);
    };
    // refuse where members are missing; reading is allowed all the same
    both(0x11, 1);
    assert_refused(&[a], &[], &["FC-S10", "the rule of this group is to refuse"], 6);
    copies.look_at(a, |path| assert!(path.is_dir()));
    // copy 1 holds the right to write
    both(0x0f, 2);
    change(a, 0x10, 1);
    change(b, 0x10, 1);
    assert_refused(&[a], &["-o", "rw"], &["FC-D04", "copy 1, which alone"], 6);
    // both are wanted
    both(0x0e, 2);
    let wanted = ["FC-D06", "1 copies in sync, the group wants 2"];
    assert_refused(&[a], &["-o", "rw,accept_missing"], &wanted, 6);
    // a newer program's format, features to read, features to write
    restore();
    change(b, 0x08, 2);
    assert_refused(&[a, b], &[], &["FC-S07", name, "has format"], 7);
    restore();
    change(b, 0x28, 0x80);
    assert_refused(&[a, b], &[], &["FC-S08", name, "features 0x80"], 7);
    restore();
    change(b, 0x20, 2);
    assert_refused(&[a, b], &["-o", "rw"], &["FC-D08", name, "cannot write"], 7);
    // another device that says it is the same copy; the same history told differently
    restore();
    let replaced = copies.folder.join("was-copy-0.img");
    fs::copy(a, &replaced).unwrap();
    change(&replaced, 0x40, 0x77);
    change(&replaced, 0x600, 0x77);
    let golden = format!(
        "FC-S03: {} and {} both say that they are copy 0; leave out the one that was replaced or \
         copied",
        a.display(),
        replaced.display()
    );
    assert_refused(&[a, &replaced], &[], &[&golden], 5);
    let host = header(b)[RECORD + 0xa0];
    change(b, 0xa0, host ^ 1);
    let golden = format!(
        "FC-S11: {} and {name} tell the same epoch differently; look at each with --only-copy N, \
         and leave out the one that is wrong",
        a.display()
    );
    assert_refused(&[a, b], &[], &[&golden], 5);
    // a record that is damaged in a whole header
    restore();
    damage(b);
    assert_refused(&[a, b], &["-o", "rw"], &["FC-D07", name, "--accept-missing"], 3);
    assert_refused(&[b], &[], &["FC-S09", name, "attach another copy"], 5);
}

#[test]
fn an_older_root_is_not_gone_on_from_without_a_word() {
    if !can_mount() {
        return;
    }
    let folder = fresh("older-root");
    let images: Vec<PathBuf> = ["a.img", "b.img"].map(|name| folder.join(name)).into();
    let copies = Copies { folder, images };
    let [a, b] = [&copies.images[0], &copies.images[1]];
    // with more than one place for headers there are older ones
    let [first, second] = [a.to_str().unwrap(), b.to_str().unwrap()];
    let made = run(&["format", "--size", "5G", "--copy", first, "--copy", second]);
    assert_eq!((made.2, made.1.as_str()), (0, ""));
    let mount = copies.mount(&[]);
    for name in ["one", "two", "three"] {
        shell(&mount.path, &format!("echo {name} >{name}; sync {name} ."));
    }
    mount.kill();
    spoil_newest_root(a);
    spoil_newest_root(b);
    let parts = ["FC-D10", "the newest root of copy 0 cannot be read", "--master"];
    assert_refused(&[a, b], &["-o", "rw"], &parts, 3);
    // it can be read as it was before
    let mount = serve(&copies.images, &["-o", "ro"]);
    shell(&mount.path, "test -e one");
    mount.unmount();
    // the operator says so
    let mount = serve(&copies.images, &["-o", "master=0"]);
    shell(&mount.path, "test -e one; echo after >after");
    end(mount);
}

/// The block that the newest header refers to is another one.
fn spoil_newest_root(image: &Path) {
    const PLACES: u64 = 2 << 30;
    let file = File::options().read(true).write(true).open(image).unwrap();
    let number = |place: u64, at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, place * PLACES + at).unwrap();
        u64::from_le_bytes(bytes)
    };
    // mirror_tid; the super-root's address, whose lowest bits say how large it is
    let newest = (0..3).max_by_key(|place| number(*place, 0x78)).unwrap();
    let slot = header_slot(&file, newest * PLACES);
    let at = match slot {
        0 => number(newest, 0x220),
        slot => number(newest, 0x260 + 8 * u64::from(slot)),
    };
    file.write_all_at(&[0xee; 64], at & !0x3f).unwrap();
}

/// The slot of the copy by its header at `place`.
fn header_slot(file: &File, place: u64) -> u8 {
    let mut slot = [0];
    file.read_exact_at(&mut slot, place + RECORD as u64 + 0x0c).unwrap();
    slot[0]
}

const HEADER_LEN: usize = 0x1_0000;
const RECORD: usize = 0x1000;

fn header(image: &PathBuf) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    File::open(image).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Changes a byte of the record in the header of `image`, and makes both whole again.
fn change(image: &PathBuf, at: usize, value: u8) {
    write(image, |record| {
        record[at] = value;
        let code = crc32c(&record[..0xffc]);
        record[0xffc..].copy_from_slice(&code.to_le_bytes());
    });
}

/// Breaks the record, but not the header that it is in.
fn damage(image: &PathBuf) {
    write(image, |record| record[0x500] ^= 1);
}

fn write(image: &PathBuf, alter: impl Fn(&mut [u8])) {
    let mut bytes = header(image);
    alter(&mut bytes[RECORD..RECORD + 4096]);
    let raw = RawVolumeHeader::mut_from_bytes(&mut bytes).unwrap();
    seal(raw, &Checks::default());
    File::options().write(true).open(image).unwrap().write_all_at(&bytes, 0).unwrap();
}

#[test]
fn copies_are_formatted_or_refused() {
    let folder = fresh("format-copies");
    let [a, b, plain] = ["a.img", "b.img", "plain.img"].map(|name| folder.join(name));
    let [a, b, plain] = [&a, &b, &plain].map(|path| path.to_str().unwrap());
    let refused = |arguments: &[&str], part: &str| {
        let (_, error, code) = run(arguments);
        assert!(code != 0 && error.contains(part), "{arguments:?}: {error}");
    };
    refused(&["format", "--copy", a, b], "cannot be used with");
    refused(&["format", "--copy", a, "--media-version", "1"], "cannot be used with");
    refused(&["format", "--media-version", "16", a], "made with --copy A --copy B");
    refused(&["format", "--copy", a, "--copy", b], "say how large it is to be");
    let five = ["format", "--copy", a, "--copy", a, "--copy", a, "--copy", a, "--copy", a];
    refused(&five, "a volume has 4 at most");
    refused(&["format", "--size", "64M", "--copy", a, "--copy", a], "it has just been written to");
    assert!(!Path::new(a).exists());
    let dry = run(&["format", "-n", "--size", "64M", "--copy", a, "--copy", b]);
    assert!(dry.2 == 0 && dry.0.contains("copy   1") && !Path::new(a).exists(), "{dry:?}");
    let made = run(&["format", "--size", "64M", "--copy", a, "--copy", b]);
    assert!(made.2 == 0 && made.0.contains(&format!("farrier mount {a} {b}")), "{made:?}");
    refused(&["format", "--copy", a, "--copy", b], "use --force");
    assert_eq!(run(&["format", "--size", "64M", plain]).2, 0);
    refused(&["copies", "status", plain], "is no volume of copies");
    refused(&["copies", "resync", plain], "no directory of a mount");
    refused(&["repair", "--apply", a, b], "repairs of those are not made");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn copies_grow_and_are_checked_each_by_itself() {
    let folder = fresh("grow-copies");
    let images = ["a.img", "b.img"].map(|name| folder.join(name));
    let [a, b] = [&images[0], &images[1]].map(|path| path.to_str().unwrap());
    assert_eq!(run(&["format", "--size", "64M", "--copy", a, "--copy", b]).2, 0);
    let folder_of_files = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = folder_of_files.to_str().unwrap();
    assert_eq!(run(&["copy-in", a, "--volume", b, files, "/"]).2, 0);
    File::options().write(true).open(&images[1]).unwrap().set_len(1 << 30).unwrap();
    let (text, error, code) = run(&["grow", a, "--volume", b]);
    assert!(code == 0 && text.contains("copy 0: 67108864 bytes, as large"), "{text}{error}");
    assert!(text.contains("copy 1: from 67108864 to 1073741824 bytes"), "{text}");
    let (text, error, code) = run(&["check", a, b]);
    assert!(code == 0 && text.contains(": clean: 0 fatal"), "{text}{error}");
    for (copy, path) in [(0, a), (1, b)] {
        assert!(text.contains(&format!("copy {copy} ({path}): 0 fatal, 0 repairable")), "{text}");
    }
    // the first megabyte of blocks of one copy is lost; the other has it
    let noise = [0x5a; 1 << 20];
    let used = 8 << 20;
    for at in (used..32 << 20).step_by(1 << 20) {
        File::options().write(true).open(&images[1]).unwrap().write_all_at(&noise, at).unwrap();
    }
    let (text, error, code) = run(&["check", a, b]);
    assert!(code == 4 && text.contains(&format!("fatal: copy 1 ({b}): ")), "{text}{error}");
    assert!(!text.contains(&format!("fatal: copy 0 ({a}): ")), "{text}");
    assert!(text.contains(&format!("copy 0 ({a}): 0 fatal")), "{text}");
    let (json, _, code) = run(&["check", "--json", a, b]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, 4);
    assert_eq!(json["copies"][0]["summary"]["fatal"], 0, "{json}");
    assert_ne!(json["copies"][1]["summary"]["fatal"], 0, "{json}");
    assert!(json["findings"].as_array().unwrap().iter().all(|one| one["copy"] == 1), "{json}");
    fs::remove_dir_all(&folder).unwrap();
}
