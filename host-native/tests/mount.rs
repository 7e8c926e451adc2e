//! Real mounts of golden and damaged images.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{
    Mounted, can_mount, differences, farrier, fresh, hex, is_mounted, run, told, wait_for,
};
use farrier_tests::images::{Damaged, all_golden, manifest, shipped, shipped_folder, unpack};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn every_golden_image_reads_as_its_manifest_says() {
    if !can_mount() {
        return;
    }
    let images = if cfg!(debug_assertions) && std::env::var_os("FARRIER_IMAGES").is_none() {
        // the shipped ones; the whole set is for whoever asks for it
        let names = [
            "check-freemap",
            "empty-24m",
            "empty-64m",
            "empty-64m-v1",
            "empty-multivol",
            "label",
            "links",
            "names",
            "pfs-snapshots",
            "small-files",
            "sparse",
            "special-inodes",
            "version1",
        ];
        names.iter().map(|name| (shipped_folder(), (*name).to_owned())).collect()
    } else {
        all_golden()
    };
    for (folder, name) in images {
        let devices = unpack(&folder, &name);
        for (label, tree) in &manifest(&folder, &name).pfs {
            let mounted = Mounted::new(&name, &devices, Some(label));
            assert_eq!(differences(tree, &mounted.path), Vec::<String>::new(), "{name}@{label}");
        }
    }
}

#[test]
fn several_threads_read_the_same_files_at_once() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new("threads", &shipped("small-files"), None);
    let wanted = manifest(&shipped_folder(), "small-files");
    let files: Vec<_> = wanted.pfs["DATA"].entries.iter().filter(|e| e.kind == "file").collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (files, root) = (&files, &mounted.path);
            scope.spawn(move || {
                for entry in files.iter().skip(thread).chain(files.iter().take(thread)) {
                    let path = root.join(entry.path.trim_start_matches('/'));
                    let read = backwards(&File::open(&path).unwrap());
                    assert_eq!(Some(hex(&read)), entry.sha256, "{}", entry.path);
                }
            });
        }
    });
}

/// A file, read from its end in pieces that fit nothing.
fn backwards(file: &File) -> Vec<u8> {
    let size = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let mut bytes = vec![0; size];
    for start in (0..size).step_by(5000).rev() {
        let end = size.min(start + 5000);
        file.read_exact_at(&mut bytes[start..end], start as u64).unwrap();
    }
    bytes
}

fn damaged(name: &str) -> PathBuf {
    Damaged::named(name).make(&fresh("damaged"))
}

#[test]
fn a_damaged_block_fails_the_reads_of_its_range_and_no_other() {
    if !can_mount() {
        return;
    }
    for name in ["d-data-block", "d-data-lz4", "d-lz4-bad-stream", "d-off-beyond-end", "d-radix-63"]
    {
        let about = Damaged::named(name);
        let (from, to) = about.file_range.unwrap();
        let mounted = Mounted::new(name, &[damaged(name)], None);
        let path = &about.affected_paths[0];
        let file = File::open(mounted.path.join(path.trim_start_matches('/'))).unwrap();
        for step in [4096_usize, 65536] {
            let mut piece = vec![0; step];
            for offset in (0..file.metadata().unwrap().len()).step_by(step) {
                let read = file.read_at(&mut piece, offset);
                let is_hit = offset < to && offset + step as u64 > from;
                let code = read.err().and_then(|error| error.raw_os_error());
                assert_eq!(code, is_hit.then_some(5), "{name} at {offset}");
            }
        }
        let before = about.before();
        let tree = before.pfs.get("DATA").unwrap();
        let told = differences(tree, &mounted.path);
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        assert!(told[0].starts_with(path.as_str()), "{told:?}");
    }
}

#[test]
fn a_damaged_directory_never_looks_short() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new("short", &[damaged("d-indirect-dir")], None);
    // twice: what the kernel learnt from the first listing must not hide the damage
    for _ in 0..2 {
        let listing = fs::read_dir(mounted.path.join("big")).unwrap();
        let (names, errors): (Vec<_>, Vec<_>) = listing.partition(Result::is_ok);
        assert!(!names.is_empty(), "what can be read is listed");
        assert_eq!(errors.len(), 1, "and then the listing fails");
    }
    let names = Command::new("ls").arg("-l").arg(mounted.path.join("big")).output().unwrap();
    assert!(!names.status.success());
}

#[test]
fn an_inode_that_cannot_be_read_keeps_its_name() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new("inode", &[damaged("d-inode-file")], None);
    let folder = mounted.path.join("dir");
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name == "f3"), "{names:?}");
    let listing = Command::new("ls").arg("-l").arg(&folder).output().unwrap();
    let (_, error, code) = told(listing);
    assert!(code != 0 && error.contains("f3"), "{error}");
    assert_eq!(fs::symlink_metadata(folder.join("f3")).unwrap_err().raw_os_error(), Some(5));
    assert!(fs::symlink_metadata(folder.join("f2")).is_ok());
}

#[test]
fn names_that_are_not_there_and_numbers_that_are() {
    if !can_mount() {
        return;
    }
    let mounted = Mounted::new("lookup", &shipped("links"), None);
    for _ in 0..2 {
        let missing = fs::symlink_metadata(mounted.path.join("no-such-name"));
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let long = fs::symlink_metadata(mounted.path.join("x".repeat(256)));
    assert_eq!(long.unwrap_err().raw_os_error(), Some(36), "ENAMETOOLONG");
    assert_eq!(fs::metadata(&mounted.path).unwrap().ino(), 1, "the root is inode 1");
    let write = File::create(mounted.path.join("new")).unwrap_err();
    assert_eq!(write.kind(), ErrorKind::ReadOnlyFilesystem);
    let space = rustix::fs::statvfs(&mounted.path).unwrap();
    assert!(space.f_blocks > 0 && space.f_bfree <= space.f_blocks && space.f_namemax == 255);
}

/// A mount in the foreground, as a service manager would have it.
fn foreground(devices: &[PathBuf], path: &Path) -> Child {
    let mut command = farrier();
    command.args(["mount", "-r", "--foreground"]).args(devices).arg(path);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_for("a mount", || is_mounted(path));
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_signal_unmounts() {
    if !can_mount() {
        return;
    }
    for one in [Signal::TERM, Signal::INT, Signal::HUP] {
        let path = fresh("signal");
        let child = foreground(&shipped("links"), &path);
        signal(&child, one);
        let (_, error, code) = told(child.wait_with_output().unwrap());
        assert_eq!((code, error.as_str()), (0, ""), "{one:?}");
        assert!(!is_mounted(&path));
    }
}

#[test]
fn a_mount_in_use_is_detached_by_a_signal_and_served_to_its_end() {
    if !can_mount() {
        return;
    }
    let path = fresh("busy");
    let child = foreground(&shipped("small-files"), &path);
    let wanted = manifest(&shipped_folder(), "small-files");
    let entry = wanted.pfs["DATA"].entries.iter().find(|e| e.size == Some(262_144)).unwrap();
    let file = File::open(path.join(entry.path.trim_start_matches('/'))).unwrap();

    let (_, error, code) = run(&["umount".as_ref(), path.as_os_str()]);
    assert_eq!(code, 1);
    assert!(error.contains("busy; end the programs"), "{error}");

    signal(&child, Signal::TERM);
    wait_for("the mount to go", || !is_mounted(&path));
    assert_eq!(Some(hex(&backwards(&file))), entry.sha256, "still served");
    drop(file);
    let (_, error, code) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 0);
    assert!(error.contains("in use; detached"), "{error}");
}

#[test]
fn a_mount_that_lost_its_server_is_told_and_cleared() {
    if !can_mount() {
        return;
    }
    let path = fresh("dead");
    let mut child = foreground(&shipped("links"), &path);
    child.kill().unwrap();
    child.wait().unwrap();
    let image = shipped("links").remove(0);
    let (_, error, code) =
        run(&["mount".as_ref(), "-r".as_ref(), image.as_os_str(), path.as_os_str()]);
    assert_eq!(code, 1);
    assert!(error.contains("whose program is gone") && error.contains("farrier umount"), "{error}");
    assert_eq!(run(&["umount".as_ref(), path.as_os_str()]).2, 0);
    assert!(!is_mounted(&path));
}

#[test]
fn an_ordinary_user_mounts_with_the_helper() {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    // nobody's numbers, and no group of root's
    let become_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let nobody = || {
        let mut command = Command::new("setpriv");
        command.args(become_nobody).arg(env!("CARGO_BIN_EXE_farrier"));
        command
    };
    let path = std::env::temp_dir().join(format!("farrier-user-{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    let image = shipped("links").remove(0);
    let may_run = nobody().arg("info").arg(&image).output().is_ok_and(|o| o.status.success());
    let has_helper = Command::new("fusermount3").arg("-V").output().is_ok();
    // some machines keep the door for root
    let has_door = fs::metadata("/dev/fuse").is_ok_and(|door| door.mode() & 0o006 == 0o006);
    if !may_run || !has_helper || !has_door {
        eprintln!("skipped: nobody cannot run the command or use FUSE here");
        fs::remove_dir(&path).unwrap();
        return;
    }
    let (_, error, code) =
        told(nobody().args(["mount", "-r"]).arg(&image).arg(&path).output().unwrap());
    assert_eq!((code, error.as_str()), (0, ""));
    let list = Command::new("setpriv").args(become_nobody).arg("ls").arg(&path).output().unwrap();
    assert!(list.status.success() && !list.stdout.is_empty());
    let (_, error, code) =
        told(nobody().args(["mount", "-r"]).arg(&image).arg(&path).output().unwrap());
    assert_eq!(code, 1);
    assert!(error.contains("is mounted there already"), "{error}");
    let (_, error, code) = told(nobody().arg("umount").arg(&path).output().unwrap());
    assert_eq!((code, error.as_str()), (0, ""));
    fs::remove_dir(&path).unwrap();
}

#[test]
fn lists_of_mounts_say_what_is_mounted() {
    if !can_mount() || !rustix::process::geteuid().is_root() {
        return;
    }
    let mounted = Mounted::new("list", &shipped("links"), None);
    let entry = farrier::fuse::unmount::mounted_at(&mounted.path).unwrap().unwrap();
    assert_eq!(entry.kind, "fuse.farrier");
    assert!(entry.source.to_string_lossy().ends_with("links.img"), "{:?}", entry.source);
}

#[test]
fn a_mount_that_cannot_be_written_says_why() {
    if !can_mount() {
        return;
    }
    let image = shipped("links").remove(0);
    for (option, reason) in [
        ("header=0", "option header: header copy 0"),
        ("allow_truncated", "option allow_truncated"),
    ] {
        // each mount ends with its guard, whatever becomes of the test
        let mount = |options: &str| {
            let guard = Mounted { path: fresh("why") };
            let mut command = farrier();
            command.args(["mount", "-o", options]).arg(&image).arg(&guard.path);
            let (_, error, code) = told(command.output().unwrap());
            (error, code, is_mounted(&guard.path))
        };
        let (error, code, is_there) = mount(option);
        assert_eq!((code, error.lines().count(), is_there), (0, 1, true), "{error}");
        assert!(error.contains(reason) && error.contains("mounted read-only"), "{error}");
        // who asks for nothing else need not be told
        assert_eq!(mount(&format!("ro,{option}")), (String::new(), 0, true));
        let (error, code, is_there) = mount(&format!("{option},rw"));
        assert_eq!((code, error.lines().count(), is_there), (1, 1, false), "{error}");
        assert!(error.contains(reason) && error.contains("leave out rw"), "{error}");
    }
}

#[test]
fn what_damage_does_not_touch_reads_as_before() {
    if !can_mount() {
        return;
    }
    for about in Damaged::all() {
        let name = &about.name;
        let path = fresh("harm");
        let image = about.make(&path);
        let point = fresh(name);
        let output = farrier()
            .args(["mount", "-o", "allow_truncated"])
            .arg(&image)
            .arg(&point)
            .output()
            .unwrap();
        let (_, error, code) = told(output);
        assert!(!error.contains("panicked"), "{name}: {error}");
        if code == 0 {
            let mounted = Mounted { path: point };
            let before = about.before();
            // the newer of two states may be the one that was damaged
            let tree = &before.pfs["DATA"];
            let mut told = differences(tree, &mounted.path);
            told.retain(|text| !about.affected_paths.iter().any(|path| is_about(text, path)));
            assert_eq!(told, Vec::<String>::new(), "{name}: {}", about.expect);
        } else {
            assert_eq!((code, error.lines().count()), (1, 1), "{name}: {error}");
            let may_refuse = ["efuse", "annot be mounted", "Nothing can be mounted", "*"];
            let said = format!("{} {}", about.expect, about.affected_paths.join(" "));
            assert!(may_refuse.iter().any(|part| said.contains(part)), "{name}: {error}: {said}");
        }
        fs::remove_dir_all(path).unwrap();
    }
}

/// Whether a difference is about `path`, which may end with `*`: its own, or that the listing which
/// has to hold it fails.
fn is_about(text: &str, path: &str) -> bool {
    let stem = path.trim_end_matches('*').trim_end_matches('/');
    let parent = stem.rsplit_once('/').map_or("", |(parent, _)| parent);
    let fails = |folder: &str| {
        !folder.is_empty() && text.contains(&format!("{folder}: ")) && text.contains("os error")
    };
    text.starts_with(stem)
        || text.starts_with(stem.trim_start_matches('/'))
        || fails(stem)
        || fails(parent)
}
