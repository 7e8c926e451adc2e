//! The commands that do not mount, over golden and damaged images.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use common::{differences, farrier, fresh, hex, run, told};
use farrier_tests::images::{Damaged, manifest, shipped, shipped_folder};
use serde_json::Value;

fn one(name: &str) -> String {
    shipped(name).remove(0).into_os_string().into_string().unwrap()
}

fn damaged(name: &str) -> String {
    let path = Damaged::named(name).make(&fresh("damaged"));
    path.into_os_string().into_string().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let (text, error, _) = run(arguments);
    serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{arguments:?}: {fault}: {error}"))
}

#[test]
fn info_knows_volumes_and_headers() {
    let mut devices = shipped("empty-multivol");
    // any order will do
    devices.rotate_left(1);
    let names: Vec<_> = devices.iter().map(|path| path.to_str().unwrap()).collect();
    let report = json(&[&["info", "--json"], &names[..]].concat());
    assert_eq!(report["volumes"].as_array().unwrap().len(), 3);
    assert_eq!(report["volumes"][0]["start"], 0);
    assert_eq!(report["version"], 2);
    assert!(report["headers"].as_array().unwrap().iter().any(|slot| slot["is_chosen"] == true));
    let (text, _, code) = run(&["info", &one("empty-64m-v1")]);
    assert!(code == 0 && text.contains("HAMMER2 version 1"), "{text}");
}

#[test]
fn pfs_lists_every_label() {
    let wanted = manifest(&shipped_folder(), "pfs-snapshots");
    let report = json(&["pfs", "--json", &one("pfs-snapshots")]);
    let rows = report["pfs"].as_array().unwrap();
    let mut labels: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    labels.sort_unstable();
    assert_eq!(labels, wanted.pfs.keys().collect::<Vec<_>>());
    assert!(rows.iter().any(|row| row["is_snapshot"] == true));
}

#[test]
fn ls_stat_and_tree_agree_with_the_manifest() {
    let wanted = manifest(&shipped_folder(), "names");
    let entries = &wanted.pfs["DATA"].entries;
    let (text, _, code) = run(&["tree", "--json", &one("names")]);
    assert_eq!(code, 0);
    assert_eq!(text.lines().count() + 1, entries.len(), "all but the root");
    let entry = entries.iter().find(|entry| entry.kind == "file").unwrap();
    let about = json(&["stat", "--json", &one("names"), &entry.path]);
    assert_eq!(about["size"].as_u64(), entry.size);
    assert_eq!(about["inum"].as_u64(), entry.inum);
    let listing = json(&["ls", "--json", &one("names"), "/"]);
    assert!(!listing["entries"].as_array().unwrap().is_empty());
    let (long, _, code) = run(&["ls", "-l", &one("special-inodes"), "/dev"]);
    assert!(code == 0 && long.contains("8, 1"), "{long}");
}

#[test]
fn cat_writes_the_contents_and_follows_links() {
    let wanted = manifest(&shipped_folder(), "links");
    let entries = &wanted.pfs["DATA"].entries;
    let file = entries.iter().find(|e| e.kind == "file" && e.size > Some(1000)).unwrap();
    let output = farrier().args(["cat", &one("links"), &file.path]).output().unwrap();
    assert_eq!(Some(hex(&output.stdout)), file.sha256);
    let (_, error, code) = run(&["cat", &one("links"), "/"]);
    assert_eq!((code, error.trim()), (1, "farrier: /: is a directory"));
}

#[test]
fn nobody_listening_is_no_failure() {
    let mut child = farrier()
        .args(["cat", &one("small-files"), "/"])
        .arg("/none")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(!child.wait().unwrap().success(), "a real failure is told");
    let mut child = farrier()
        .args(["show", &one("names")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let (_, error, code) = told(child.wait_with_output().unwrap());
    assert_eq!((code, error.as_str()), (0, ""));
}

#[test]
fn copy_out_keeps_everything() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: owners and device nodes are root's to give");
        return;
    }
    for name in ["sparse", "links", "names", "small-files", "special-inodes"] {
        let mut tree = manifest(&shipped_folder(), name).pfs.remove("DATA").unwrap();
        let copy = fresh("copy").join(name);
        let (_, error, code) = run(&["copy-out", &one(name), "/", copy.to_str().unwrap()]);
        // one device number of the image is more than Linux has
        let beyond = tree.entries.iter().position(|entry| entry.rdev > Some((0xfff, 0)));
        if let Some(at) = beyond {
            let path = tree.entries.remove(at).path;
            assert!(code == 1 && error.contains(&path), "{error}");
        } else {
            assert_eq!((code, error.as_str()), (0, ""), "{name}");
        }
        assert_eq!(differences(&tree, &copy), Vec::<String>::new(), "{name}");
        if name == "sparse" {
            let (size, allocated) = usage(&copy);
            assert!(size > 1 << 30 && allocated < 64 << 20, "{size} bytes in {allocated}");
        }
        fs::remove_dir_all(copy.parent().unwrap()).unwrap();
    }
}

/// Bytes that files have, and bytes that they take.
fn usage(folder: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let below = if metadata.is_dir() { usage(&path) } else { (0, 0) };
        sum = (sum.0 + metadata.size() + below.0, sum.1 + metadata.blocks() * 512 + below.1);
    }
    sum
}

#[test]
fn copy_out_goes_round_damage_and_never_over_files() {
    let folder = fresh("rescue");
    let target = folder.join("all");
    let (_, error, code) =
        run(&["copy-out", &damaged("d-data-block"), "/", target.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(error.contains("bytes 196608 to 262144 are lost"), "{error}");
    let about = Damaged::named("d-data-block");
    let mut tree = about.before().pfs.remove("DATA").unwrap();
    tree.entries.retain(|entry| entry.path != about.affected_paths[0]);
    if rustix::process::geteuid().is_root() {
        let told = differences(&tree, &target);
        assert_eq!(told.len(), 1, "the damaged file itself: {told:?}");
    }
    let (_, error, code) =
        run(&["copy-out", &damaged("d-data-block"), "/blocks", target.to_str().unwrap()]);
    assert!(code == 1 && error.contains("is there already"), "{error}");
    let (_, error, code) =
        run(&["copy-out", &damaged("d-dir-loop"), "/", folder.join("loop").to_str().unwrap()]);
    assert!(code == 1 && error.contains("second name, or below itself"), "{error}");
}

#[test]
fn check_says_how_bad_it_is() {
    for (image, expected, result) in [
        (one("small-files"), 0, "clean"),
        (damaged("d-freemap-lost"), 1, "repairable"),
        (damaged("d-data-block"), 4, "damaged"),
        // a check looks at what is left, and tells that something is missing
        (damaged("d-trunc-tail"), 4, "damaged"),
    ] {
        let (text, error, code) = run(&["check", &image]);
        assert_eq!((code, error.as_str()), (expected, ""), "{image}: {text}");
        let report = json(&["check", "--json", &image]);
        assert_eq!(report["result"], result, "{image}");
        assert_eq!(report["exit_code"], expected);
    }
    let report = json(&["check", "--json", &damaged("d-data-block")]);
    assert_eq!(report["findings"][0]["code"], "check-data");
    assert_eq!(report["findings"][0]["path"]["name"], "/blocks");
    let (_, _, code) = run(&["check", "--no-data", &damaged("d-data-block")]);
    assert_eq!(code, 0, "its structure is sound");
    assert_eq!(run(&["check", "/no/such/device"]).2, 8);
    assert_eq!(run(&["check"]).2, 16);
}

#[test]
fn show_and_freemap_tell_of_blocks() {
    let (text, _, code) = run(&["show", &one("small-files")]);
    assert!(code == 0 && text.contains("PFS DATA") && text.contains("data block"), "{text}");
    let report = json(&["freemap", "--json", &one("small-files")]);
    let sum: u64 = ["free_bytes", "reserved_bytes", "possibly_free_bytes", "allocated_bytes"]
        .iter()
        .map(|name| report[name].as_u64().unwrap())
        .sum();
    let never = report["never_used_bytes"].as_u64().unwrap();
    assert_eq!(report["total_bytes"].as_u64(), Some(sum + never));
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let (text, _, code) = run(&["completions", shell]);
        assert!(code == 0 && text.contains("copy-out"), "{shell}");
    }
    let folder = fresh("man");
    assert_eq!(run(&["man", folder.to_str().unwrap()]).2, 0);
    let page = fs::read_to_string(folder.join("farrier-mount.1")).unwrap();
    assert!(page.contains("allow_truncated") && !page.contains("report"), "{page}");
}
