//! Commands that change a volume, mounted or not.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::volume::Volume;
use common::{can_mount, fresh, run};

/// A formatted image in a directory of its own.
fn image(name: &str, size: &str) -> (PathBuf, PathBuf) {
    let folder = fresh(name);
    let image = folder.join("disk.img");
    done(&["format", "--size", size, text(&image)]);
    (folder, image)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a command that has to succeed says.
fn done(arguments: &[&str]) -> String {
    let (out, err, code) = run(arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    out
}

/// What a command that has to fail says.
fn refused(arguments: &[&str]) -> String {
    let (_, err, code) = run(arguments);
    assert_ne!(code, 0, "{arguments:?} succeeded");
    err
}

fn labels(image: &Path) -> Vec<String> {
    let report: serde_json::Value =
        serde_json::from_str(&done(&["pfs", "--json", text(image)])).unwrap();
    let rows = report["pfs"].as_array().unwrap();
    let mut labels: Vec<_> =
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    labels.sort();
    labels
}

fn assert_clean(image: &Path) {
    let (out, err, code) = run(&["check", text(image)]);
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn pfs_are_made_copied_renamed_and_removed() {
    let (folder, image) = image("volumes-pfs", "64M");
    let device = text(&image);
    fs::write(folder.join("file"), b"contents").unwrap();
    done(&["copy-in", device, text(&folder.join("file")), "/"]);
    done(&["snapshot", device, "first"]);
    assert!(refused(&["snapshot", device, "first"]).contains("exists already"));
    assert!(refused(&["snapshot", device, "a/b"]).contains("a label is not empty"));
    done(&["pfs", "create", device, "empty"]);
    done(&["pfs", "rename", device, "first", "second"]);
    assert_eq!(labels(&image), ["DATA", "LOCAL", "empty", "second"]);
    assert_eq!(done(&["cat", &format!("{device}@second"), "/file"]), "contents");
    done(&["pfs", "delete", device, "empty"]);
    assert!(refused(&["pfs", "delete", device, "empty"]).contains("no PFS labelled empty"));
    assert!(done(&["bulkfree", device]).contains("bytes freed"));
    assert_clean(&image);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_copied_in_comes_out_the_same() {
    let (folder, image) = image("volumes-copy", "64M");
    let source = folder.join("source");
    fs::create_dir_all(source.join("deep/er")).unwrap();
    fs::write(source.join("deep/er/file"), vec![7; 200_000]).unwrap();
    fs::hard_link(source.join("deep/er/file"), source.join("again")).unwrap();
    std::os::unix::fs::symlink("deep/er/file", source.join("link")).unwrap();
    let device = text(&image);
    done(&["copy-in", device, text(&source), "/copy"]);
    let copy = folder.join("copy");
    done(&["copy-out", device, "/copy", text(&copy)]);
    assert_eq!(fs::read(copy.join("deep/er/file")).unwrap(), vec![7; 200_000]);
    assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("deep/er/file"));
    use std::os::unix::fs::MetadataExt;
    let metadata = |name: &str| fs::metadata(copy.join(name)).unwrap();
    assert_eq!(metadata("again").ino(), metadata("deep/er/file").ino());
    assert_eq!(
        fs::metadata(source.join("again")).unwrap().mtime(),
        metadata("deep/er/file").mtime()
    );
    assert!(refused(&["copy-in", device, text(&source), "/copy/again"]).contains("is there"));
    assert_clean(&image);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_volume_grows_with_its_file() {
    let (folder, image) = image("volumes-grow", "64M");
    let device = text(&image);
    assert!(done(&["grow", device]).contains("as large as its device already"));
    fs::File::options().write(true).open(&image).unwrap().set_len(3 << 30).unwrap();
    assert!(done(&["grow", device]).contains("from 67108864 to 3221225472 bytes"));
    assert_clean(&image);
    fs::File::options().write(true).open(&image).unwrap().set_len(1 << 30).unwrap();
    assert!(refused(&["grow", device]).contains("truncated"), "a part of the volume is gone");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_mounted_volume_is_asked_through_its_directory() {
    if !can_mount() {
        return;
    }
    let (folder, image) = image("volumes-mounted", "128M");
    let (device, mount) = (text(&image).to_owned(), folder.join("mnt"));
    fs::create_dir(&mount).unwrap();
    assert!(refused(&["snapshot", text(&mount), "x"]).contains("no volume that farrier mounted"));
    done(&["mount", &device, text(&mount)]);
    let outcome = std::panic::catch_unwind(|| while_mounted(&device, &mount));
    let (_, err, code) = run(&["umount", text(&mount)]);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    assert_eq!(code, 0, "{err}");
    assert_eq!(done(&["cat", &format!("{device}@before"), "/file"]), "one");
    assert_eq!(done(&["cat", &device, "/file"]), "two");
    let snapshot = format!("{device}@before");
    for (options, is_changed) in [("defaults", false), ("rw", true)] {
        done(&["mount", "-o", options, &snapshot, text(&mount)]);
        let written = fs::write(mount.join("file"), b"three");
        done(&["umount", text(&mount)]);
        assert_eq!(written.is_ok(), is_changed, "{options}: {written:?}");
    }
    assert_eq!(done(&["cat", &snapshot, "/file"]), "three");
    assert_eq!(done(&["cat", &device, "/file"]), "two");
    assert_clean(&image);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_mount_that_is_asked_names_the_device_that_fails() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("volumes-fault", "64M");
    let service = volume.mount();
    for number in 0..200 {
        let folder = service.path.join(format!("{number}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), [7; 3000]).unwrap();
    }
    service.unmount();
    let service = volume.mount();
    // the end of the file goes while it is mounted
    fs::File::options().write(true).open(&volume.image).unwrap().set_len(4 << 20).unwrap();
    let error = refused(&["bulkfree", text(&service.path)]);
    let is_named = error.contains(text(&volume.image)) && !error.contains("device 0");
    assert!(is_named, "{error}");
    service.kill();
}

fn while_mounted(device: &str, mount: &Path) {
    let file = mount.join("file");
    fs::write(&file, b"one").unwrap();
    done(&["snapshot", text(mount), "before"]);
    fs::write(&file, b"two").unwrap();
    assert!(refused(&["snapshot", device, "x"]).contains("in use"), "the mount holds its lock");
    assert!(refused(&["pfs", "delete", text(mount), "DATA"]).contains("is mounted"));
    assert!(refused(&["grow", text(mount)]).contains("run `farrier grow` with its device"));
    done(&["set", text(mount), "--compression", "none"]);
    assert!(refused(&["set", text(mount), "nothing", "--check", "sha192"]).contains("nothing"));
    // a hundred blocks of noise come and go
    let noise: Vec<u8> = (0..6_553_600_u64)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).to_le_bytes()[0])
        .collect();
    fs::write(mount.join("large"), &noise).unwrap();
    done(&["snapshot", text(mount), "large"]);
    fs::remove_file(mount.join("large")).unwrap();
    done(&["pfs", "delete", text(mount), "large"]);
    done(&["bulkfree", text(mount)]);
    let space: serde_json::Value =
        serde_json::from_str(&done(&["df", "--json", text(mount)])).unwrap();
    let used = space["used_bytes"].as_u64().unwrap();
    assert!(used < 8_000_000, "{used} bytes in use after everything large is gone");
}
