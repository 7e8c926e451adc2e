//! `farrier repair`: it tells before it does, does what it told, and leaves the rest.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use common::{fresh, run};
use farrier_tests::checking::second_opinion;
use farrier_tests::images::{Damaged, copies, shipped};
use serde_json::Value;

fn damaged(name: &str) -> PathBuf {
    Damaged::named(name).make(&fresh("repair"))
}

fn repair(arguments: &[&str], image: &Path) -> (String, String, i32) {
    run(&[&["repair"], arguments, &[image.to_str().unwrap()]].concat())
}

#[test]
fn a_dry_run_tells_everything_and_writes_nothing() {
    for (name, text, wanted) in [
        ("d-nlinks-wrong", "DATA: /dir/hard2: set its number of names to 2; it says 7", 1),
        ("d-hdr-newest-crc", "write volume header 0 of ", 1),
        ("d-freemap-lost", "mark 65536 bytes at 0x2090000 as in use", 1),
        ("d-freemap-crc", "make it again from what is in use", 1),
        ("d-dirent-dangling", "lost+found/#1033", 1),
        ("d-data-block", "beyond repair: DATA: /blocks: data block", 4),
        ("d-dir-loop", "nobody can tell which one is right", 4),
        ("d-trunc-data", "nothing is written: a device ends before its volume does", 4),
    ] {
        let path = damaged(name);
        let before = fs::read(&path).unwrap();
        let (out, error, code) = repair(&[], &path);
        assert!(out.contains(text), "{name}: {out}");
        assert_eq!((error.as_str(), code), ("", wanted), "{name}: {out}");
        assert!(fs::read(&path).unwrap() == before, "{name}: it writes");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_was_told_is_done_and_checked() {
    for (name, arguments, wanted) in [
        ("d-nlinks-wrong", &["--apply"][..], 1),
        ("d-hdr-newest-crc", &["--apply"], 1),
        ("d-freemap-crc", &["--apply", "--no-data"], 1),
        ("d-dirent-dangling", &["--apply", "--drop-dangling"], 1),
        ("d-dirent-dangling", &["--apply"], 4),
    ] {
        let path = damaged(name);
        let (out, error, code) = repair(arguments, &path);
        assert_eq!((error.as_str(), code), ("", wanted), "{name}: {out}");
        let (checked, _, code) = run(&["check", path.to_str().unwrap()]);
        assert_eq!(code, i32::from(wanted == 4), "{name}: {checked}");
        if wanted == 1 {
            assert!(out.ends_with(": now: clean\n"), "{name}: {out}");
            second_opinion(&path);
            let (out, _, code) = repair(&["--apply"], &path);
            assert_eq!(code, 0, "{name}: there is more to do: {out}");
        } else {
            assert!(out.contains("with consent: DATA: /dir: remove the name f4"), "{out}");
        }
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn what_has_no_name_is_kept_deleted_or_left() {
    for (what, is_there) in [("attach", true), ("delete", false), ("leave", false)] {
        let path = damaged("d-dirent-dangling");
        let arguments = ["--apply", "--drop-dangling", "--orphans", what];
        let (out, _, code) = repair(&arguments, &path);
        assert_eq!(code, if what == "leave" { 4 } else { 1 }, "{what}: {out}");
        let (out, _, code) = run(&["cat", path.to_str().unwrap(), "/lost+found/#1033"]);
        assert_eq!((code == 0, !out.is_empty()), (is_there, is_there), "{what}");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn json_has_every_repair_and_loss() {
    let path = damaged("d-dirent-slash");
    let (out, _, code) = repair(&["--json"], &path);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["format"], &report["is_applied"]),
        (&"farrier-repair-1".into(), &false.into())
    );
    assert_eq!((code, &report["exit_code"]), (4, &4.into()));
    assert_eq!(report["repairs"][0]["code"], "attach");
    assert_eq!(report["beyond"][0]["code"], "dirent");
    let (out, _, _) = repair(&["--json", "--apply"], &path);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["before"]["repairable"], &report["after"]["repairable"]),
        (&1.into(), &0.into())
    );
    assert_eq!((&report["result"], &report["after"]["fatal"]), (&"left".into(), &1.into()));
    fs::remove_file(path).unwrap();
}

#[test]
fn what_is_in_use_or_no_volume_is_refused() {
    let path = damaged("d-nlinks-wrong");
    let lock = File::options().read(true).write(true).open(&path).unwrap();
    lock.lock().unwrap();
    for arguments in [&[][..], &["--apply"]] {
        let (out, error, code) = repair(arguments, &path);
        assert_eq!((out.as_str(), code), ("", 8), "{error}");
        assert!(error.contains("in use by another program"), "{error}");
    }
    drop(lock);
    let (_, error, code) = repair(&[], &damaged("d-magic-zero"));
    assert!(code == 8 && error.contains("not a HAMMER2 volume"), "{error}");
    let (_, _, code) = run(&["repair", "--never"]);
    assert_eq!(code, 16);
}

#[test]
fn a_sound_volume_is_left_as_it_is() {
    let path = copies(&shipped("links"), &fresh("repair")).remove(0);
    let before = fs::read(&path).unwrap();
    let (out, _, code) = repair(&["--apply"], &path);
    assert_eq!(code, 0, "{out}");
    assert!(fs::read(&path).unwrap() == before);
    fs::remove_file(path).unwrap();
}
