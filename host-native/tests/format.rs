//! `farrier format`: what it makes, and what it refuses to destroy.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::loops::Loop;
use common::{Mounted, can_mount, fresh, run};
use farrier_tests::images::shipped;
use rustix::fs::FlockOperation;
use serde_json::Value;

const MIB: u64 = 1 << 20;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn sparse(path: &Path, size: u64) -> PathBuf {
    File::create(path).unwrap().set_len(size).unwrap();
    path.to_owned()
}

fn made(arguments: &[&str]) -> String {
    let (out, error, code) = run(&[&["format"], arguments].concat());
    assert_eq!((code, error.as_str()), (0, ""), "{arguments:?}");
    out
}

fn json(arguments: &[&str]) -> Value {
    let (out, error, _) = run(arguments);
    serde_json::from_str(&out).unwrap_or_else(|fault| panic!("{arguments:?}: {fault}: {error}"))
}

/// One line on standard error with all of `parts`, and exit code 1.
fn refused(arguments: &[&str], parts: &[&str]) {
    let (out, error, code) = run(&[&["format"], arguments].concat());
    assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    for part in parts {
        assert!(error.contains(part), "{arguments:?}: `{part}` is not in: {error}");
    }
}

fn is_clean(devices: &[&str]) {
    let (_, error, code) = run(&[&["check"], devices].concat());
    assert_eq!(code, 0, "{error}");
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tools/check-image.py");
    if tool.exists() {
        let mut python = Command::new("python3");
        let output = python.arg(tool).args(["-q", "--strict"]).args(devices).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_new_image_file_is_made_and_stays_sparse() {
    let image = fresh("format").join("disk.img");
    let name = text(&image);
    refused(&[name], &[name, "does not exist", "farrier format --size 1G"]);
    assert!(!image.exists());
    let out = made(&["--size", "1G", name]);
    for part in ["LOCAL, DATA", "1073741824 bytes (1.0 GiB)", "usable", "compression lz4"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(out.ends_with(&format!("Next: farrier mount {name} /mnt\n")), "{out}");
    let metadata = fs::metadata(&image).unwrap();
    assert_eq!(metadata.len(), 1 << 30);
    assert!(metadata.blocks() * 512 < MIB, "{} blocks", metadata.blocks());
    is_clean(&[name]);
    let report = json(&["info", "--json", name]);
    assert_eq!((&report["total_bytes"], &report["pfs_count"]), (&(1 << 30).into(), &2.into()));
    assert_eq!(run(&["ls", name]), (String::new(), String::new(), 0));
    if can_mount() {
        let mounted = Mounted::new("formatted", &[image], None);
        assert_eq!(fs::read_dir(&mounted.path).unwrap().count(), 0);
    }
}

#[test]
fn an_empty_file_needs_a_size_too() {
    let image = sparse(&fresh("format").join("disk.img"), 0);
    let name = text(&image);
    refused(&[name], &[name, "is empty", "--size 1G"]);
    refused(&["--size", "8M", name], &[name, "too small", "24 MiB"]);
    assert_eq!(fs::metadata(&image).unwrap().len(), 0);
    made(&["--size", "64M", name]);
    is_clean(&[name]);
}

#[test]
fn what_fails_leaves_no_file_behind() {
    let image = fresh("format").join("disk.img");
    let name = text(&image);
    refused(&["--size", "8M", name], &["too small", "24 MiB"]);
    refused(&["--size", "7000000T", name], &[name, "cannot be made"]);
    refused(&["--size", "1G", "-L", "a/b", name], &["label a/b", "choose another"]);
    refused(&["--size", "1G", "-L", "A,B,C,D", name], &["at most 3", "name fewer"]);
    refused(&["--size", "1G", "-L", "LOCAL", name], &["label LOCAL", "leave it out"]);
    refused(&["--size", "1G", "--boot-size", "9M", name], &["boot area", "multiple of 8 MiB"]);
    refused(&["--size", "1G", "/no/such/folder/disk.img"], &["/no/such/folder", "another place"]);
    refused(&["--size", "1G", "/dev/no-such"], &["/dev/no-such: no such file or device"]);
    refused(&["--size", "1G", name, "other.img"], &["no more than one image file", "truncate"]);
    assert!(!image.exists());
    for wrong in [["--size", "1X"], ["--compression", "gzip"], ["--media-version", "3"]] {
        let (_, error, code) = run(&[&["format", name], &wrong[..]].concat());
        assert!(code == 2 && error.contains(wrong[0]), "{error}");
    }
}

#[test]
fn every_option_arrives() {
    let image = sparse(&fresh("format").join("an image.img"), 1 << 30);
    let name = text(&image);
    let out = made(&[
        "--json",
        "--size",
        "300M",
        "-L",
        "BOOT",
        "--label",
        "HOME",
        "--boot-size",
        "16M",
        "--aux-size",
        "24M",
        "--media-version",
        "1",
        "--compression",
        "zlib:9",
        "--check",
        "sha192",
        name,
    ]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["total_bytes"], 296 * MIB);
    assert_eq!(report["usable_bytes"], (296 - 4 - 16 - 24 - 4) * MIB);
    assert_eq!(report["next"], format!("farrier mount '{name}'@BOOT /mnt"));
    assert_eq!((&report["version"], &report["is_dry_run"]), (&1.into(), &false.into()));
    is_clean(&[name]);
    let info = json(&["info", "--json", name]);
    assert_eq!((&info["version"], &info["fsid"]), (&1.into(), &report["fsid"]));
    assert_eq!(info["boot_area"][1], 20 * MIB);
    assert_eq!(info["aux_area"][1], 44 * MIB);
    let home = json(&["stat", "--json", &format!("{name}@HOME"), "/"]);
    assert_eq!((&home["compression_request"], &home["check_request"]), (&0x93.into(), &4.into()));
    let boot = json(&["stat", "--json", &format!("{name}@BOOT"), "/"]);
    assert_eq!(boot["compression_request"], 1);
    let none = made(&["--force", "-L", "none", name]);
    assert!(none.contains("'@LOCAL /mnt"), "{none}");
}

#[test]
fn several_devices_become_one_file_system() {
    let folder = fresh("format");
    let sizes = [(1 << 30) + 5 * MIB, 2 << 30, 40 * MIB];
    let paths: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(number, size)| sparse(&folder.join(format!("{number}.img")), *size))
        .collect();
    let names: Vec<_> = paths.iter().map(|path| text(path)).collect();
    let out = made(&names);
    assert!(out.contains("volume 1        2147483648 bytes"), "{out}");
    assert!(out.contains("5242880 bytes (5.0 MiB) left unused"), "{out}");
    is_clean(&names);
    refused(&[names[0], names[0]], &["named twice"]);
    refused(&["-f", "--media-version", "1", names[0], names[1]], &["one volume only"]);
}

#[test]
fn what_is_there_is_not_destroyed_without_force() {
    let folder = fresh("format");
    let image = folder.join("old.img");
    fs::copy(shipped("links").remove(0), &image).unwrap();
    let name = text(&image);
    let before = fs::read(&image).unwrap();
    refused(&[name], &[name, "holds a HAMMER2 volume", "--force"]);
    refused(&["--dry-run", name], &["holds a HAMMER2 volume"]);
    let out = made(&["--dry-run", "--force", name]);
    assert!(out.starts_with("Nothing was written") && out.contains("would overwrite"), "{out}");
    assert!(!out.contains("Next"), "{out}");
    assert!(fs::read(&image).unwrap() == before);
    let out = made(&["--force", name]);
    assert!(out.contains("overwritten     a HAMMER2 volume"), "{out}");
    is_clean(&[name]);
    // the second device counts as well
    let new = sparse(&folder.join("new.img"), 1 << 30);
    refused(&[text(&new), name], &[name, "holds a HAMMER2 volume"]);

    let letter = folder.join("letter");
    fs::write(&letter, [b"Dear Ann".repeat(10), vec![0; 64 << 20]].concat()).unwrap();
    refused(&[text(&letter)], &["data of a kind that farrier does not know", "--force"]);
    let dry = folder.join("dry.img");
    made(&["-n", "--size", "64M", text(&dry)]);
    assert!(!dry.exists());
}

#[test]
fn what_other_programs_make_is_recognised() {
    let folder = fresh("format");
    let image = sparse(&folder.join("other.img"), 64 << 20);
    let name = text(&image);
    for (program, arguments, what) in [
        ("mkfs.ext4", &["-q", "-F"][..], "ext4"),
        ("mkswap", &["-q"], "swap"),
        ("mkfs.vfat", &[], "FAT"),
        ("mkfs.xfs", &["-q", "-f"], "XFS"),
        ("mkfs.btrfs", &["-q", "-f"], "Btrfs"),
    ] {
        // its remains must not be taken for the next
        File::create(&image).unwrap().set_len(320 << 20).unwrap();
        let Ok(status) = Command::new(program).args(arguments).arg(&image).status() else {
            eprintln!("skipped: no {program} here");
            continue;
        };
        assert!(status.success(), "{program}");
        refused(&[name], &[what, "--force"]);
        made(&["--force", name]);
        is_clean(&[name]);
    }
}

#[test]
fn what_is_in_use_is_refused_even_with_force() {
    let image = sparse(&fresh("format").join("used.img"), 64 << 20);
    let name = text(&image);
    let user = File::open(&image).unwrap();
    rustix::fs::flock(&user, FlockOperation::LockShared).unwrap();
    refused(&["--force", name], &[name, "in use by another program"]);
    drop(user);
    made(&[name]);
    if can_mount() {
        let _mounted = Mounted::new("used", std::slice::from_ref(&image), None);
        refused(&["--force", name], &[name, "in use by another program"]);
    }
}

#[test]
fn a_block_device_is_formatted_unless_it_is_mounted() {
    let folder = fresh("format");
    let image = sparse(&folder.join("disk.img"), (64 << 20) + 512);
    let Some(device) = Loop::over(&image) else {
        return;
    };
    let name = text(&device.path);
    refused(&["-f", text(&image)], &["in use by /dev/loop", "losetup -d"]);
    made(&[name]);
    is_clean(&[name]);
    refused(&[name], &["holds a HAMMER2 volume"]);
    let at = folder.join("at");
    fs::create_dir(&at).unwrap();
    let ext4 = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&device.path).status();
    let mount = || Command::new("mount").arg(&device.path).arg(&at).status();
    if ext4.is_ok_and(|status| status.success()) && mount().is_ok_and(|status| status.success()) {
        refused(&["--force", name], &[name, "mounted at", text(&at), "umount"]);
        assert!(Command::new("umount").arg(&at).status().unwrap().success());
    } else {
        eprintln!("skipped: ext4 cannot be mounted here");
    }
}
