//! What no copy can give: the files are named until they are put back, and a list without room for
//! all of them is a reason to write nothing that the operator can overrule.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::copies::{Copies, end, status};
use common::volume::noise;
use common::{can_mount, run, wait_for};

const BLOCK: usize = 1 << 16;

/// `farrier copies` with these arguments: both outputs, and the exit code.
fn copies<S: AsRef<std::ffi::OsStr>>(action: &str, arguments: &[S]) -> (String, i32) {
    let mut all = vec!["copies".as_ref(), action.as_ref()];
    all.extend(arguments.iter().map(AsRef::as_ref));
    let (text, error, code) = run(&all);
    (text + &error, code)
}

/// Spoils these blocks, wherever they lie on the devices; on each of them once.
fn spoil(volume: &Copies, contents: &[u8]) {
    for image in &volume.images {
        let bytes = fs::read(image).unwrap();
        let file = File::options().write(true).open(image).unwrap();
        let mut spoiled = 0;
        for (at, block) in (0_u64..).step_by(BLOCK).zip(bytes.chunks(BLOCK)) {
            if contents.chunks(BLOCK).any(|one| one == block) {
                file.write_all_at(&[0x5a; 512], at + 1000).unwrap();
                spoiled += 1;
            }
        }
        assert_eq!(spoiled, contents.len() / BLOCK);
    }
}

fn json<S: AsRef<std::ffi::OsStr>>(targets: &[S]) -> serde_json::Value {
    let mut all = vec!["--json".as_ref()];
    all.extend(targets.iter().map(AsRef::as_ref));
    let (text, _) = copies("status", &all);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn scrub(directory: &Path) -> (String, i32) {
    copies("scrub", &["--wait".as_ref(), directory.as_os_str()])
}

#[test]
fn a_damaged_file_is_named_until_it_is_put_back() {
    if !can_mount() {
        return;
    }
    let volume = Copies::new("damage", 2);
    let contents = noise(16 * BLOCK, 5);
    let mount = volume.mount(&[]);
    fs::create_dir(mount.path.join("folder")).unwrap();
    fs::write(mount.path.join("folder/file"), &contents).unwrap();
    fs::write(mount.path.join("other"), noise(4 * BLOCK, 6)).unwrap();
    end(mount);
    spoil(&volume, &contents[3 * BLOCK..4 * BLOCK]);
    spoil(&volume, &contents[12 * BLOCK..13 * BLOCK]);
    let (text, code) = status(&volume.images);
    assert!(code == 0 && !text.contains("damage:"), "nobody has looked yet: {text}");

    // a read meets it
    let mount = volume.mount(&[]);
    let file = mount.path.join("folder/file");
    assert!(fs::read(&file).is_err());
    let first = "damage: DATA:/folder/file: bytes 196608 to 262143";
    wait_for("it is listed", || status(&[&mount.path]).0.contains(first));
    let (text, code) = status(&[&mount.path]);
    assert!(code == 3 && text.starts_with("state:  degraded [2/2] [II]"), "{text}");
    assert!(text.contains("named below, can be had from no copy"), "{text}");
    assert!(text.contains("action: put the files back from a backup or delete them"), "{text}");
    end(mount);
    let (text, code) = status(&volume.images);
    assert!(code == 3 && text.contains(first), "it lasts: {text}");

    // a scrub meets all of it, and says where to look
    let (text, code) = copies("scrub", &volume.images);
    assert!(code == 3 && text.contains("`farrier copies status` names the files"), "{text}");
    let second = "damage: DATA:/folder/file: bytes 786432 to 851967";
    let (text, code) = status(&volume.images);
    assert!(code == 3 && text.contains(first) && text.contains(second), "{text}");
    assert!(text.contains("2 blocks, which are named below,"), "{text}");
    let now = json(&volume.images);
    assert_eq!((&now["exit_code"], &now["has_more_damage"]), (&3.into(), &false.into()));
    let listed = now["damage"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    for (one, offset) in listed.iter().zip([196_608, 786_432]) {
        assert_eq!((&one["label"], &one["path"]), (&"DATA".into(), &"/folder/file".into()));
        assert_eq!((&one["what"], &one["offset"]), (&"stretch".into(), &offset.into()));
        assert!(one["len"] == BLOCK && one["since_us"].as_u64().unwrap() > 0, "{one}");
    }

    // it is called by the name that it has now, and is gone when it was put back and looked at
    let mount = volume.mount(&[]);
    fs::rename(mount.path.join("folder/file"), mount.path.join("moved")).unwrap();
    assert!(status(&[&mount.path]).0.contains("damage: DATA:/moved: bytes 196608"));
    fs::write(mount.path.join("moved"), &contents).unwrap();
    let (text, code) = scrub(&mount.path);
    assert_eq!(code, 0, "{text}");
    assert!(!status(&[&mount.path]).0.contains("damage:"));
    assert!(fs::read(mount.path.join("moved")).unwrap() == contents);
    // what the devices did is counted still, until somebody has seen to them
    let (text, code) = copies("clear", &[&mount.path]);
    assert!(code == 0 && text.contains("the list of damage is empty"), "{text}");
    assert_eq!(status(&[&mount.path]).1, 0, "{}", status(&[&mount.path]).0);
    end(mount);
    let (text, code) = status(&volume.images);
    assert!(code == 0 && !text.contains("damage:"), "{text}");
}

#[test]
fn a_full_list_is_read_only_and_can_be_emptied() {
    if !can_mount() {
        return;
    }
    let volume = Copies::new("damage-full", 2);
    let contents = noise(70 * BLOCK, 7);
    let mount = volume.mount(&[]);
    fs::write(mount.path.join("file"), &contents).unwrap();
    fs::write(mount.path.join("good"), "good").unwrap();
    end(mount);
    spoil(&volume, &contents);
    let mount = volume.mount(&[]);
    assert_eq!(scrub(&mount.path).1, 3);
    let (text, code) = status(&[&mount.path]);
    assert!(code == 3 && text.contains("63 blocks, which are named below, and more,"), "{text}");
    assert!(text.contains("damage: and more, which there was no room to name"), "{text}");
    assert!(text.contains("the next mount is read-only (FC-D09)"), "{text}");
    // this one goes on
    fs::write(mount.path.join("more"), "more").unwrap();
    end(mount);

    let message = "FC-D09: read-only: more is damaged on all copies than the list of known damage has \
                   room for, and nobody knows how much; save what can be read, then unmount, and empty \
                   the list with 'farrier copies clear', naming the devices";
    let mount = volume.mount(&[]);
    assert!(mount.said().contains(message), "{}", mount.said());
    assert!(fs::write(mount.path.join("no"), "").is_err());
    assert_eq!(fs::read(mount.path.join("more")).unwrap(), b"more");
    let (text, code) = status(&[&mount.path]);
    assert!(
        code == 3 && text.contains("status: FC-D09: ") && text.contains("action: save"),
        "{text}"
    );
    assert_eq!(text.matches("damage: DATA:/file: bytes ").count(), 63, "{text}");
    let (text, code) = copies("clear", &[&mount.path]);
    assert!(code == 1 && text.contains(message), "{text}");
    end(mount);

    // nothing else gets by it, and one copy is not all of them
    let (text, code) = copies("scrub", &volume.images);
    assert!(code == 1 && text.contains(message), "{text}");
    let [a, b] = [volume.images[0].as_os_str(), volume.images[1].as_os_str()];
    let (text, code) = copies("clear", &["--copy".as_ref(), "1".as_ref(), a, b]);
    assert!(code == 1 && text.contains("FC-D09"), "{text}");
    let (text, code) = copies("clear", &[a, b]);
    assert!(code == 0 && text.contains("the list of damage is empty"), "{text}");

    let mount = volume.mount(&[]);
    assert_eq!(fs::read(mount.path.join("good")).unwrap(), b"good");
    fs::remove_file(mount.path.join("file")).unwrap();
    let (text, code) = scrub(&mount.path);
    assert_eq!(code, 0, "{text}");
    assert_eq!(json(&[&mount.path])["damage"], serde_json::json!([]));
    end(mount);
    // and the next mount may write
    let mount = volume.mount(&[]);
    fs::write(mount.path.join("file"), "again").unwrap();
    end(mount);
}
