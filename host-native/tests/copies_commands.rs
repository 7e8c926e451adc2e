//! The commands of copies: on mounted volumes, and on ones that are not.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::copies::{Copies, end, serve, status, wait_for_resync};
use common::volume::{Volume, noise, shell};
use common::{can_mount, farrier, fresh, run};
use farrier_core::copies::CopyState;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// `farrier copies` with these arguments: both outputs, and the exit code.
fn copies<S: AsRef<std::ffi::OsStr>>(action: &str, arguments: &[S]) -> (String, i32) {
    let mut command = farrier();
    let output = command.args(["copies", action]).args(arguments).output().unwrap();
    let (text, error, code) = common::told(output);
    (text + &error, code)
}

fn done<S: AsRef<std::ffi::OsStr>>(action: &str, arguments: &[S]) -> String {
    let (text, code) = copies(action, arguments);
    assert_eq!(code, 0, "{text}");
    text
}

/// It fails with exit code 1 and says that.
fn refused<S: AsRef<std::ffi::OsStr>>(action: &str, arguments: &[S], parts: &[&str]) {
    let (text, code) = copies(action, arguments);
    assert_eq!(code, 1, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The number of bad blocks of a copy that were written again, by its status.
fn count_of(directory: &Path, what: &str) -> u64 {
    let (text, _) = copies("status", &["--json".as_ref(), directory.as_os_str()]);
    let status = json(&text);
    let copies = status["copies"].as_array().unwrap();
    copies.iter().map(|copy| copy[what].as_u64().unwrap()).sum()
}

/// Types of the events of a mount, in their order.
fn events(directory: &Path) -> Vec<String> {
    let (text, error, code) = run(&["events".as_ref(), "--json".as_ref(), directory.as_os_str()]);
    assert_eq!((code, error.as_str()), (0, ""));
    let events: Vec<_> = text.lines().map(json).collect();
    let numbers = events.iter().map(|event| event["seq"].as_u64().unwrap());
    assert!(numbers.is_sorted(), "{text}");
    events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn copies_of_a_mounted_volume_come_and_go() {
    if !can_mount() {
        return;
    }
    let volume = Copies::new("members", 2);
    let [a, b] = [&volume.images[0], &volume.images[1]];
    let [c, d] = ["c.img", "d.img"].map(|name| volume.folder.join(name));
    let mount = volume.mount(&[]);
    let at = mount.path.clone();
    shell(&at, &format!("cp -a {SOURCE} tree"));
    refused("add", &[&at, &c], &["does not exist; say how large it is to be, with --size"]);
    assert!(!c.exists());
    let (text, code) =
        copies("add", &[at.as_os_str(), c.as_os_str(), "--size".as_ref(), "300M".as_ref()]);
    assert!(code == 0 && text.contains("added as copy 2"), "{text}");
    assert!(
        text.starts_with("state:  ") && text.contains("next:   it is being filled in"),
        "{text}"
    );
    wait_for_resync(&mount);
    assert!(status(&[&at]).0.starts_with("state:  healthy [3/3] [III]"));

    // by its device: it serves until the new one holds everything
    let size = ["--size".as_ref(), "256M".as_ref()];
    let text =
        done("replace", &[&[at.as_os_str(), a.as_os_str(), d.as_os_str()], &size[..]].concat());
    assert!(text.contains("added as copy 3 in place of") && text.contains("copy 0 goes"), "{text}");
    common::wait_for("the old copy is gone", || status(&[&at]).0.contains("[3/3] [III]"));
    let now = json(&copies("status", &["--json".as_ref(), at.as_os_str()]).0);
    let devices = now["copies"].as_array().unwrap().iter().map(|copy| copy["device"].as_str());
    assert!(!devices.flatten().any(|device| Path::new(device) == a), "{now}");
    // it is free for something else
    let text = run(&["format".as_ref(), "--force".as_ref(), a.as_os_str()]);
    assert_eq!(text.2, 0, "{text:?}");

    let text = done("remove", &[at.as_os_str(), "2".as_ref()]);
    assert!(text.contains("(copy 2): taken away for good"), "{text}");
    let text = done("detach", &[at.as_os_str(), b.as_os_str()]);
    assert!(text.contains("(copy 1): detached"), "{text}");
    let (text, code) = status(&[&at]);
    assert!(code == 2 && text.contains("detached; copy 3 goes on"), "{text}");
    refused("remove", &[at.as_os_str(), "3".as_ref()], &["is the only one that holds everything"]);
    refused("detach", &[at.as_os_str(), "3".as_ref()], &["is the only one that holds everything"]);
    refused("remove", &[at.as_os_str(), "2".as_ref()], &["copy 2", "there is no such copy"]);
    refused("remove", &[at.as_os_str(), "7".as_ref()], &["copies are numbered 0 to 3"]);
    shell(&at, "echo more >more");
    let kinds = events(&at);
    for kind in [
        "copy_added",
        "resync_started",
        "resync_done",
        "copy_removed",
        "copy_detached",
        "epoch_minted",
    ] {
        assert!(kinds.iter().any(|one| one == kind), "{kind}: {kinds:?}");
    }
    end(mount);

    // the one that was detached is back and lacks what came after; alone it may not be written
    let alone = serve(std::slice::from_ref(b), &[]);
    assert!(alone.said().contains("FC-D03"), "{}", alone.said());
    shell(&alone.path, &format!("diff -r {SOURCE} tree; test ! -e more"));
    end(alone);
    let mount = serve(&[d.clone(), b.clone()], &[]);
    wait_for_resync(&mount);
    end(mount);
    for image in [b, &d] {
        volume.look_at(image, |path| {
            shell(path, &format!("diff -r {SOURCE} tree; cat more")).clear()
        });
        assert_eq!(run(&["check".as_ref(), image.as_os_str()]).2, 0);
    }
    // one that was taken away knows it
    let (text, code) = status(&[&c]);
    assert!(code == 5 && text.contains("FC-S02"), "{text}");
}

#[test]
fn a_device_that_is_added_may_hold_nothing_and_serve_nobody() {
    if !can_mount() {
        return;
    }
    let volume = Copies::new("new-device", 2);
    let [a, b] = [&volume.images[0], &volume.images[1]];
    let mount = volume.mount(&[]);
    let at = &mount.path.clone();
    let other = Volume::new("other-device", "256M");
    let force = "--force".as_ref();
    refused("add", &[at, &other.image], &["holds a HAMMER2 volume; use --force to overwrite it"]);
    refused("add", &[at, a], &["0.img"]);
    let foreign = other.mount();
    let used = [at.as_os_str(), other.image.as_os_str(), force];
    refused("add", &used, &["in use by another program that has it open or mounted"]);
    refused("remove", &[at, &other.image], &["no copy of this volume is there"]);
    foreign.unmount();
    refused("add", &[at, at], &["is a directory"]);
    let text = volume.folder.join("text");
    fs::write(&text, "some text of somebody's").unwrap();
    refused("add", &[at, &text], &["holds data of a kind that farrier does not know"]);
    let small = volume.folder.join("small");
    File::create(&small).unwrap().set_len(3 << 20).unwrap();
    refused("add", &[at, &small], &["small: is too small:", "bytes are needed at least"]);
    let size = [at.as_os_str(), small.as_os_str(), "--size".as_ref(), "64M".as_ref()];
    refused("add", &size, &["is there already"]);
    assert_eq!(fs::read_to_string(&text).unwrap(), "some text of somebody's");
    let group = json(&copies("status", &["--json".as_ref(), at.as_os_str()]).0)["group"].clone();
    let twin = Copies::new("twin", 2);
    let twins = [at.as_os_str(), twin.images[0].as_os_str()];
    refused("remove", &twins, &["is a copy of another volume", group.as_str().unwrap()]);
    refused("add", &twins, &["a copy of group", "use --force"]);
    let forced = done("add", &[&twins[..], &[force]].concat());
    assert!(forced.contains("added as copy 2"), "{forced}");
    wait_for_resync(&mount);
    let listing = [a.clone(), b.clone()].map(|image| image.display().to_string());
    let (text, code) = status(&[at]);
    assert!(code == 0 && listing.iter().all(|name| text.contains(name)), "{text}");
    end(mount);
    // a mount that is read-only takes none
    let mount = serve(&[a.clone(), b.clone()], &["-r"]);
    refused("remove", &[mount.path.as_os_str(), "0".as_ref()], &["is mounted read-only"]);
    end(mount);
    refused("add", &[&other.image, &small], &["other-device"]);
    let plain = other.mount();
    refused("scrub", &[&plain.path], &["is no volume of copies"]);
    plain.unmount();
    refused("remove", &[at.as_os_str(), "0".as_ref()], &["no such file or device"]);
}

#[test]
fn the_same_without_a_mount() {
    let volume = Copies::new("offline", 2);
    let [a, b] = [&volume.images[0], &volume.images[1]];
    let into = [a.as_os_str(), "--volume".as_ref(), b.as_os_str()];
    let tree =
        run(&[&["copy-in".as_ref()], &into[..], &[SOURCE.as_ref(), "/tree".as_ref()]].concat());
    assert_eq!(tree.2, 0, "{tree:?}");
    let c = volume.folder.join("c.img");
    let d = volume.folder.join("d.img");
    let sized = |path: &Path| [path.into(), "--size".into(), "256M".into()];
    let devices = |images: &[&PathBuf]| -> Vec<std::ffi::OsString> {
        images.iter().map(|image| image.as_os_str().to_owned()).collect()
    };
    let text = done("add", &[devices(&[a, b]), sized(&c).into()].concat());
    assert!(text.starts_with("state:  healthy [3/3] [III]"), "{text}");
    let text =
        done("replace", &[devices(&[a, b, &c]), vec!["1".into()], sized(&d).into()].concat());
    assert!(text.contains("added as copy 3 in place of") && text.contains("[3/3] [III]"), "{text}");
    let text = done("remove", &[devices(&[a, &c, &d]), vec![a.into()]].concat());
    assert!(text.contains("0.img (copy 0): taken away for good"), "{text}");
    let text = done("detach", &[devices(&[&c, &d]), vec!["2".into()]].concat());
    assert!(text.contains("c.img (copy 2): detached"), "{text}");
    assert_eq!(status(&[&d]).1, 2, "{}", status(&[&d]).0);
    assert_eq!(status(&[&c]).1, 6, "{}", status(&[&c]).0);
    refused("detach", &[c.as_os_str(), "2".as_ref()], &["FC-D03", "--accept-missing"]);
    let (text, code) = copies("scrub", &[&c, &d]);
    assert!(
        code == 0 && text.starts_with("scrub:  done; ") && text.contains("no bad block"),
        "{text}"
    );
    refused("scrub", &["--pause".as_ref(), c.as_os_str()], &["is no directory of a mount"]);
    for image in [&c, &d] {
        assert_eq!(run(&["check".as_ref(), image.as_os_str()]).2, 0);
    }
}

#[test]
fn the_rules_of_a_group_are_kept_to() {
    let volume = Copies::new("rules", 3);
    let all: Vec<_> = volume.images.iter().map(|image| image.as_os_str()).collect();
    let with = |options: &[&'static str]| -> Vec<std::ffi::OsString> {
        let all = all.iter().map(Into::into);
        options.iter().map(Into::into).chain(all).collect()
    };
    let text = done("policy", &all);
    assert!(text.starts_with("rules:  whoever is left may go on (any)"), "{text}");
    let rules = json(&done("policy", &with(&["--json"])));
    assert_eq!((&rules["runtime"], &rules["min_copies"]), (&"any".into(), &1.into()));
    refused(
        "handover",
        &[&all[..], &["1".as_ref()]].concat(),
        &["no copy holds the right to write"],
    );
    let (text, code) = copies("policy", &with(&["--runtime", "holder:7"]));
    assert!(code == 2 && text.contains("any, majority, or holder:N"), "{text}");
    refused("policy", &with(&["--runtime", "holder:3"]), &["copy 3: is not in sync"]);
    refused("policy", &with(&["--min-copies", "4"]), &["4 copies cannot be wanted: 3 are in sync"]);
    // two of three suffice, one does not
    done("policy", &with(&["--runtime", "majority"]));
    assert_eq!(status(&volume.images[..2]).1, 2);
    assert_eq!(status(&volume.images[..1]).1, 6);
    let min = done("policy", &with(&["--min-copies", "3", "--on-missing", "refuse"]));
    assert!(
        min.contains("(majority)") && min.contains("(refuse)") && min.contains("needs 3"),
        "{min}"
    );
    refused(
        "detach",
        &[&all[..], &["1".as_ref()]].concat(),
        &["2 in sync would be left", "wants 3"],
    );
    // the right to write is one copy's
    done(
        "policy",
        &with(&["--min-copies", "1", "--on-missing", "readonly", "--runtime", "holder:0"]),
    );
    refused("detach", &[&all[..], &["0".as_ref()]].concat(), &["holds the right to write"]);
    assert_eq!([0, 1].map(|slot| status(&[&volume.images[slot]]).1), [2, 6]);
    let text = done("handover", &[&all[..], &["1".as_ref()]].concat());
    assert!(text.contains("1.img (copy 1): holds the right to write"), "{text}");
    assert_eq!([0, 1].map(|slot| status(&[&volume.images[slot]]).1), [6, 2]);
    let alone = status(&[&volume.images[0]]).0;
    assert!(alone.contains("FC-D04") && alone.contains("copy 1, which alone"), "{alone}");
}

#[test]
fn an_older_state_is_gone_on_from_only_when_the_loss_is_accepted() {
    if !can_mount() {
        return;
    }
    let volume = Copies::new("promoted", 2);
    let [a, b] = [&volume.images[0], &volume.images[1]];
    let mount = volume.mount(&[]);
    shell(&mount.path, "echo old >old");
    done("detach", &[mount.path.as_os_str(), "1".as_ref()]);
    shell(&mount.path, "echo new >new");
    end(mount);
    // it is filled in, and cut short: the other one is lost then
    let devices = [a, b].map(|image| image.as_os_str());
    assert_eq!(status(&devices).1, 2);
    let before = fs::read(b).unwrap();
    let (text, code) = copies("promote", &[b.as_os_str(), "--dry-run".as_ref()]);
    assert!(code == 0 && text.contains("would be lost") && text.contains("copy 0: "), "{text}");
    let (text, code) = copies("promote", &[b]);
    assert!(code == 6 && text.contains("say --accept-loss"), "{text}");
    assert!(fs::read(b).unwrap() == before, "nothing was changed");
    let loss = copies("promote", &[b.as_os_str(), "--accept-loss".as_ref(), "--json".as_ref()]);
    assert_eq!(loss.1, 0, "{}", loss.0);
    assert_eq!(json(&loss.0)["promoted"], true);

    let mount = serve(std::slice::from_ref(b), &[]);
    shell(&mount.path, "test -e old; test ! -e new; echo other >other");
    end(mount);
    // both went on: nobody is written over
    let (text, code) = status(&devices);
    assert!(code == 5 && text.contains("FC-S01"), "{text}");
    let arguments = [a.as_os_str(), b.as_os_str(), "0".as_ref()];
    let (text, code) = copies("rejoin", &arguments);
    assert!(code == 6 && text.contains("say so with --discard-its-data"), "{text}");
    let yes = ["--discard-its-data", "--master", "1"].map(AsRef::as_ref);
    let text = done("rejoin", &[&yes[..], &arguments[..]].concat());
    assert!(text.contains("what it held by itself is given up"), "{text}");
    let mount = volume.mount(&[]);
    wait_for_resync(&mount);
    end(mount);
    for image in [a, b] {
        volume.look_at(image, |path| {
            shell(path, "test -e old; test -e other; test ! -e new");
        });
    }
    let plain = Volume::new("no-copies", "64M");
    refused("promote", &[&plain.image], &["is no volume of copies"]);
    refused("promote", &[&volume.folder.join("none")], &["no such file or device"]);
}

/// Spoils the bytes of `image` where `contents` lie.
fn spoil(image: &Path, contents: &[u8]) -> usize {
    let bytes = fs::read(image).unwrap();
    let file = File::options().write(true).open(image).unwrap();
    let mut spoiled = 0;
    for (at, block) in (0_u64..).step_by(1 << 16).zip(bytes.chunks(1 << 16)) {
        if contents.chunks(1 << 16).any(|one| one == block) {
            file.write_all_at(&[0x5a; 512], at + 1000).unwrap();
            spoiled += 1;
        }
    }
    spoiled
}

#[test]
fn a_scrub_heals_what_nobody_reads() {
    if !can_mount() {
        return;
    }
    let volume = Copies::new("scrub", 2);
    let [a, b] = [&volume.images[0], &volume.images[1]];
    let contents = noise(24 << 20, 11);
    let mount = volume.mount(&[]);
    fs::write(mount.path.join("file"), &contents).unwrap();
    end(mount);
    let bad = spoil(b, &contents[..8 << 20]) as u64;
    assert!(bad >= 100, "{bad}");
    let mount = volume.mount(&[]);
    let at = mount.path.as_os_str();
    refused("scrub", &["--stop".as_ref(), at], &["there is no scrub"]);
    let slow = ["--rate".as_ref(), "1".as_ref(), at];
    done("scrub", &slow);
    let text = done("scrub", &["--pause".as_ref(), at]);
    assert!(text.starts_with("scrub:  paused; "), "{text}");
    refused("scrub", &[at], &["a scrub goes on already"]);
    assert!(status(&[at]).0.contains("scrub:  paused; "), "{}", status(&[at]).0);
    done("scrub", &["--resume".as_ref(), "--rate".as_ref(), "0".as_ref(), at]);
    let text = done("scrub", &["--wait".as_ref(), at]);
    assert!(text.contains(&format!("{bad} bad blocks, {bad} written again, 0 not")), "{text}");
    assert_eq!(count_of(&mount.path, "healed"), bad);
    let kinds = events(&mount.path);
    for kind in ["scrub_started", "healed", "scrub_done"] {
        assert!(kinds.iter().any(|one| one == kind), "{kind}: {kinds:?}");
    }
    let again = done("scrub", &["--wait".as_ref(), "--json".as_ref(), at]);
    assert_eq!((&json(&again)["bad"], &json(&again)["state"]), (&0.into(), &"done".into()));
    done("scrub", &slow);
    let text = done("scrub", &["--stop".as_ref(), at]);
    assert!(text.contains("stopped after"), "{text}");
    // so many within minutes are too many: the next commit leaves it behind
    shell(&mount.path, "echo more >more; sync more");
    let (text, code) = status(&[&mount.path]);
    assert!(code == 2 && text.contains("not in use for bad blocks; copy 0 goes on"), "{text}");
    assert!(text.contains("action: see to the device, then `farrier copies attach"), "{text}");
    done("attach", &[at, b.as_os_str()]);
    wait_for_resync(&mount);
    let said = end(mount);
    assert!(said.contains("bad blocks were written again from another copy"), "{said}");
    assert!(said.contains("too many of its blocks were bad"), "{said}");
    volume.look_at(b, |path| assert!(fs::read(path.join("file")).unwrap() == contents));
    // what is bad on both is told, and nothing else is harmed
    spoil(a, &contents[..1 << 16]);
    spoil(b, &contents[..1 << 16]);
    let (text, code) = copies("scrub", &[a, b]);
    assert!(code == 3 && text.contains("2 bad blocks, 0 written again, 2 not"), "{text}");
    assert!(text.contains("`farrier copies status` names the files"), "{text}");
}

#[test]
fn what_went_wrong_is_counted_until_somebody_clears_it() {
    if !can_mount() {
        return;
    }
    let volume = Copies::new("cleared", 2);
    let [a, b] = [&volume.images[0], &volume.images[1]];
    let contents = noise(4 << 20, 13);
    let mount = volume.mount(&[]);
    fs::write(mount.path.join("file"), &contents).unwrap();
    end(mount);
    let bad = spoil(b, &contents[..3 << 16]) as u64;
    assert_eq!(bad, 3);
    let mount = volume.mount(&[]);
    done("scrub", &["--wait".as_ref(), mount.path.as_os_str()]);
    // it is kept with a commit
    shell(&mount.path, "echo more >more");
    end(mount);
    let mount = volume.mount(&[]);
    let at = mount.path.as_os_str();
    assert_eq!(count_of(&mount.path, "healed"), bad);
    refused("clear", &["--copy".as_ref(), "3".as_ref(), at], &["there is no such copy"]);
    let text = done("clear", &["--copy".as_ref(), "0".as_ref(), at]);
    assert!(text.contains("(copy 0): counted from zero again"), "{text}");
    assert_eq!(count_of(&mount.path, "healed"), bad, "it is another copy's");
    let text = done("clear", &[at]);
    assert!(text.contains("(copy 0), ") && text.contains("(copy 1): counted"), "{text}");
    assert_eq!(count_of(&mount.path, "healed"), 0);
    end(mount);
    let mount = volume.mount(&[]);
    assert_eq!(count_of(&mount.path, "healed"), 0);
    end(mount);
    done("clear", &[a, b]);
}

#[test]
fn events_are_followed_until_the_mount_ends() {
    if !can_mount() {
        return;
    }
    let volume = Copies::new("followed", 2);
    let mount = volume.mount(&[]);
    let mut follower = farrier()
        .args(["events", "--follow", "--json"])
        .arg(&mount.path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap());
    done("detach", &[mount.path.as_os_str(), "1".as_ref()]);
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let event = json(&line);
    assert_eq!((&event["type"], &event["seq"]), (&"copy_detached".into(), &1.into()));
    assert_eq!(event["copy"], 1);
    end(mount);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(rest.lines().all(|line| json(line)["seq"].as_u64() > Some(1)), "{rest}");
    assert!(follower.wait().unwrap().success());
    let (_, error, code) = run(&["events", volume.images[0].to_str().unwrap()]);
    assert!(code == 1 && error.contains("only a mounted volume has events"), "{error}");
    let folder = fresh("nothing");
    let (_, error, code) = run(&["events".as_ref(), folder.as_os_str()]);
    assert!(code == 1 && error.contains("no volume that farrier mounted"), "{error}");
    fs::remove_dir(&folder).unwrap();
    let record = farrier::copies::record_at(&volume.images[0]).unwrap();
    assert_eq!(record.slots[1].state, CopyState::Out);
}

#[test]
fn the_other_copies_are_found_where_they_were_or_beside() {
    if !can_mount() {
        return;
    }
    let volume = Copies::new("places", 3);
    let mount = volume.mount(&[]);
    shell(&mount.path, "echo text >file");
    end(mount);
    // one is where it was, one was carried to another folder with the first
    let away = fresh("carried");
    let moved = [0, 1].map(|slot| away.join(format!("{slot}.img")));
    for slot in [0, 1] {
        fs::rename(&volume.images[slot], &moved[slot]).unwrap();
    }
    // what only has the name is not taken for it
    fs::write(&volume.images[0], "something else").unwrap();
    fs::write(away.join("2.img"), "something else").unwrap();
    let path = fresh("found");
    let output = farrier().arg("mount").args([&moved[0], &path]).output().unwrap();
    let (_, error, code) = common::told(output);
    let found = |image: &Path, slot: u8| format!("{}: found as copy {slot}\n", image.display());
    assert_eq!(code, 0, "{error}");
    assert!(error.contains(&found(&moved[1], 1)), "{error}");
    assert!(error.contains(&found(&volume.images[2], 2)), "{error}");
    let (text, code) = status(&[&path]);
    assert!(code == 0 && text.starts_with("state:  healthy [3/3]"), "{text}");
    shell(&path, "echo more >more");
    assert_eq!(run(&["umount".as_ref(), path.as_os_str()]).2, 0);
    // now the record says where they are
    let record = farrier::copies::record_at(&volume.images[2]).unwrap();
    let hint = String::from_utf8_lossy(&record.slots[1].hint).into_owned();
    assert!(moved[1].to_str().unwrap().ends_with(&hint) && hint.ends_with("1.img"), "{hint}");
    let only = ["mount", "-o", "nosearch"];
    let output = farrier().args(only).args([&moved[0], &path]).output().unwrap();
    let (_, error, _) = common::told(output);
    assert!(error.contains("FC-D03") && !error.contains("found as copy"), "{error}");
    assert_eq!(run(&["umount".as_ref(), path.as_os_str()]).2, 0);
    fs::remove_dir_all(&away).unwrap();
    fs::remove_dir(&path).unwrap();
}

#[test]
fn a_volume_gets_copies_and_has_none_again() {
    let volume = Volume::new("converted", "256M");
    let second = volume.folder.join("second.img");
    let copied =
        run(&["copy-in".as_ref(), volume.image.as_os_str(), SOURCE.as_ref(), "/tree".as_ref()]);
    assert_eq!(copied.2, 0, "{copied:?}");
    let sized = [volume.image.as_os_str(), second.as_os_str(), "--size".as_ref(), "256M".as_ref()];
    refused("add", &sized, &["is no volume of copies", "--convert"]);
    assert!(!second.exists());
    let text = done("add", &[&["--convert".as_ref()], &sized[..]].concat());
    assert!(text.contains("added as copy 1"), "{text}");
    let both = [volume.image.as_os_str(), second.as_os_str()];
    assert_eq!(status(&both).1, 0, "{}", status(&both).0);
    let text = done("strip", &[&both[..], &["1".as_ref()]].concat());
    assert!(text.contains("second.img (copy 1): is a volume without copies"), "{text}");
    let (text, error, code) = run(&["check".as_ref(), second.as_os_str()]);
    assert_eq!(code, 0, "{text}{error}");
    let (text, code) = status(&[&second]);
    assert!(code == 1 && text.contains("is no volume of copies"), "{text}");
    let out = volume.folder.join("out");
    let copied = run(&["copy-out".as_ref(), second.as_os_str(), "/tree".as_ref(), out.as_os_str()]);
    assert_eq!(copied.2, 0, "{copied:?}");
    shell(&volume.folder, &format!("diff -r {SOURCE} out"));
    // the one that was left is no copy of anything any more
    assert_eq!(status(&[&volume.image]).1, 5, "{}", status(&[&volume.image]).0);
}

#[test]
fn devices_may_be_named_from_here_and_options_stand_anywhere() {
    if !can_mount() {
        return;
    }
    let volume = Copies::new("from-here", 2);
    let path = fresh("found-from-here");
    let names = volume.images.iter().map(|image| image.file_name().unwrap());
    let output = farrier()
        .arg("mount")
        .args(names)
        .args(["-o", "commit=1"])
        .arg(&path)
        .current_dir(volume.images[0].parent().unwrap())
        .output()
        .unwrap();
    let (_, error, code) = common::told(output);
    assert_eq!((code, error.as_str()), (0, ""));
    // who asks later may be somewhere else
    let (text, code) = status(&[&path]);
    assert_eq!(code, 0, "{text}");
    for image in &volume.images {
        assert!(text.contains(image.to_str().unwrap()), "{text}");
    }
    assert_eq!(run(&["umount".as_ref(), path.as_os_str()]).2, 0);
    let (_, error, code) = run(&["mount", "nowhere"]);
    assert!(code != 0 && error.contains("name a device and a directory"), "{error}");
}
