//! Every wrong input ends with one sentence that names the thing and the remedy.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Mounted, can_mount, fresh, run};
use farrier_tests::images::{Damaged, shipped};

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

fn one(name: &str) -> String {
    text(shipped(name).remove(0))
}

fn damaged(name: &str) -> String {
    text(Damaged::named(name).make(&fresh("damaged")))
}

/// One line on standard error with all of `parts`, and that exit code.
fn refused(arguments: &[&str], code: i32, parts: &[&str]) {
    let (_, error, found) = run(arguments);
    assert_eq!(found, code, "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    for part in parts {
        assert!(error.contains(part), "{arguments:?}: `{part}` is not in: {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn devices_that_cannot_be_opened() {
    refused(&["info", "/no/such"], 1, &["/no/such: no such file", "check the spelling"]);
    refused(&["check", "/no/such"], 8, &["/no/such: no such file"]);
    refused(&["info", "/tmp"], 1, &["/tmp: is a directory; name"]);
    refused(&["info", "/dev/null"], 1, &["/dev/null", "neither a file nor a block device"]);
    let small = fresh("small").join("image");
    fs::write(&small, b"x").unwrap();
    refused(&["info", small.to_str().unwrap()], 1, &["too small (1 bytes)", "copied whole?"]);
}

#[test]
fn media_that_we_cannot_read() {
    let named = |name: &str, code, parts: &[&str]| {
        let path = damaged(name);
        let parts = [&[path.as_str()], parts].concat();
        refused(&["check", &path], code, &parts);
        refused(&["ls", &path], 1, &parts);
    };
    named("d-magic-wrong", 8, &["not a HAMMER2 volume", "name the partition"]);
    named("d-byteswapped", 8, &["opposite byte order", "machine like the"]);
    named("d-version-99", 8, &["unsupported version 99", "versions 1 and 2"]);
    named("d-fstype-wrong", 8, &["is not HAMMER2", "another program"]);
    named("d-hdr-all-crc", 8, &["no valid volume header", "backup"]);
    let path = damaged("d-trunc-tail");
    refused(&["ls", &path], 1, &[path.as_str(), "truncated", "--allow-truncated"]);
    assert_eq!(run(&["ls", "--allow-truncated", &path]).2, 0);
    refused(&["ls", &damaged("d-inode-superroot")], 1, &["inode with key", "farrier check"]);
}

#[test]
fn volumes_and_labels_that_are_missing() {
    let devices = shipped("empty-multivol");
    let first = devices[0].to_str().unwrap();
    refused(&["info", first], 1, &["needs 3 volumes, 1 given", "add the device with volume 1"]);
    refused(&["info", first, first], 1, &["is volume 0, which was given already"]);
    refused(
        &["info", first, &one("links")],
        1,
        &["another file system", "name the volumes of one"],
    );
    let links = one("links");
    refused(&["ls", &format!("{links}@NONE")], 1, &["no PFS labelled NONE", "DATA"]);
    let snapshots = one("pfs-snapshots");
    refused(&["ls", &snapshots], 1, &["which PFS is meant", "@LABEL", "ALPHA"]);
    refused(&["ls", &one("empty-nopfs")], 1, &["LOCAL"]);
}

#[test]
fn paths_that_are_not_there() {
    let links = one("links");
    refused(&["cat", &links, "/none"], 1, &["/none: no such file or directory"]);
    refused(&["ls", &links, "/none"], 1, &["/none: no such file or directory"]);
    refused(&["stat", &links, "/big/x"], 1, &["/big/x: not a directory"]);
    let nowhere = ["copy-out", &links, "/", "/no/such/place"];
    refused(&nowhere, 1, &["name a directory that exists"]);
}

#[test]
fn mounts_that_cannot_be() {
    let links = one("links");
    refused(&["mount", &links, "/no/such"], 1, &["/no/such: the mount point does not exist"]);
    refused(&["mount", &links, "/etc/passwd"], 1, &["is not a directory; name one"]);
    refused(&["mount", "-o", "blink", &links, "/tmp"], 1, &["option blink: unknown", "--help"]);
    refused(&["mount", "/no/such", "/tmp"], 1, &["/no/such: no such file"]);
    refused(&["umount", "/no/such"], 1, &["/no/such: nothing is mounted there; name"]);
    refused(&["umount", "/proc"], 1, &["/proc: this is a mount of type proc", "use umount"]);
    if can_mount() {
        let mounted = Mounted::new("twice", &shipped("links"), None);
        let path = mounted.path.to_str().unwrap();
        refused(
            &["mount", "-r", &links, path],
            1,
            &["links.img is mounted there already; unmount it"],
        );
    }
}
