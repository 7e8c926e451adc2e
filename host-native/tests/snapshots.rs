//! `.snapshots` on real mounts: `-o snapshots`.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::volume::{Service, Volume, noise, shell};
use common::{Mounted, can_mount, differences, run};
use farrier_tests::images::{manifest, shipped, shipped_folder};

const ROFS: Option<i32> = Some(30);
const STALE: Option<i32> = Some(116);
const XDEV: Option<i32> = Some(18);

fn mounted(volume: &Volume) -> Service {
    Service::start(&volume.image, &["-o", "snapshots"])
}

fn done(arguments: &[&str], path: &Path, rest: &[&str]) -> String {
    let mut all: Vec<&str> = arguments.to_vec();
    all.push(path.to_str().unwrap());
    all.extend(rest);
    let (out, err, code) = run(&all);
    assert_eq!(code, 0, "{all:?}: {err}");
    out
}

fn names(folder: &Path) -> BTreeSet<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    fs::read_dir(folder).unwrap().map(|e| name(e).into_string().unwrap()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn snapshots_come_and_go_while_the_volume_is_mounted() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("snap-live", "128M");
    let service = mounted(&volume);
    let root = service.path.clone();
    let all = root.join(".snapshots");
    assert_eq!(names(&root), set(&[]), "it is in no list");
    assert_eq!(names(&all), set(&[]));
    assert_eq!(fs::metadata(&all).unwrap().mode() & 0o7777, 0o555);
    assert!(fs::metadata(all.join("one")).is_err(), "and the kernel must not keep that");

    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::write(root.join("deep/er/file"), b"first").unwrap();
    std::os::unix::fs::symlink("er/file", root.join("deep/link")).unwrap();
    done(&["snapshot"], &root, &["one"]);
    assert_eq!(fs::read(all.join("one/deep/er/file")).unwrap(), b"first");
    fs::write(root.join("deep/er/file"), b"second, and longer").unwrap();
    done(&["snapshot"], &root, &["two"]);
    fs::remove_dir_all(root.join("deep")).unwrap();
    assert_eq!(names(&all), set(&["one", "two"]));
    assert_eq!(fs::read(all.join("one/deep/er/file")).unwrap(), b"first");
    assert_eq!(fs::read(all.join("two/deep/link")).unwrap(), b"second, and longer");
    assert_eq!(fs::read(all.join("two/deep/../deep/er/../link")).unwrap(), b"second, and longer");
    assert!(fs::metadata(root.join("deep")).is_err());

    // the same list, held open, is a new one from its start
    let list = rustix::fs::open(
        &all,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let held = |list: &rustix::fd::OwnedFd| rustix::fs::Dir::read_from(list).unwrap().count();
    assert_eq!(held(&list), 4);
    done(&["pfs", "rename"], &root, &["two", "three"]);
    done(&["pfs", "delete"], &root, &["one"]);
    assert_eq!(held(&list), 3);
    assert_eq!(names(&all), set(&["three"]));
    assert!(fs::metadata(all.join("one")).is_err() && fs::metadata(all.join("two")).is_err());
    assert_eq!(fs::read(all.join("three/deep/link")).unwrap(), b"second, and longer");
    drop(list);
    // the name is free for another one
    fs::write(root.join("file"), b"later").unwrap();
    done(&["snapshot"], &root, &["one"]);
    assert_eq!(fs::read(all.join("one/file")).unwrap(), b"later");
    assert_eq!(names(&all.join("one")), set(&["file"]));
    service.unmount();
    volume.assert_clean();
}

#[test]
fn nothing_can_be_changed_in_a_snapshot() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("snap-ro", "64M");
    let service = mounted(&volume);
    let root = service.path.clone();
    fs::write(root.join("file"), b"as it was").unwrap();
    done(&["snapshot"], &root, &["one"]);
    let all = root.join(".snapshots");
    let file = all.join("one/file");
    let refused = [
        ("write", OpenOptions::new().write(true).open(&file).err()),
        ("append", OpenOptions::new().append(true).open(&file).err()),
        ("read and write", OpenOptions::new().read(true).write(true).open(&file).err()),
        ("truncate", File::create(&file).err()),
        ("create", File::create(all.join("one/new")).err()),
        ("create beside", File::create(all.join("new")).err()),
        ("mkdir", fs::create_dir(all.join("one/new")).err()),
        ("mkdir beside", fs::create_dir(all.join("new")).err()),
        ("unlink", fs::remove_file(&file).err()),
        ("rmdir", fs::remove_dir(all.join("one")).err()),
        ("rmdir of all", fs::remove_dir(&all).err()),
        ("rename", fs::rename(&file, all.join("one/other")).err()),
        ("rename out", fs::rename(&file, root.join("other")).err()),
        ("rename in", fs::rename(root.join("file"), all.join("one/other")).err()),
        ("rename of one", fs::rename(all.join("one"), all.join("two")).err()),
        ("rename of all", fs::rename(&all, root.join("else")).err()),
        ("symlink", std::os::unix::fs::symlink("x", all.join("one/link")).err()),
        ("link in", fs::hard_link(root.join("file"), all.join("one/link")).err()),
        ("chmod", fs::set_permissions(&file, PermissionsOf::mode(0o600)).err()),
        ("times", File::open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).err()),
    ];
    for (what, error) in refused {
        let error = error.unwrap_or_else(|| panic!("{what} was done"));
        assert_eq!(error.raw_os_error(), ROFS, "{what}: {error}");
    }
    let made = fs::create_dir(&all).unwrap_err();
    assert_eq!(made.kind(), std::io::ErrorKind::AlreadyExists);
    let linked = fs::hard_link(&file, root.join("link")).unwrap_err();
    assert_eq!(linked.raw_os_error(), XDEV, "a file of another tree");
    assert_eq!(names(&root), set(&["file"]));
    assert_eq!(fs::read(&file).unwrap(), b"as it was");
    // what is there for it: getting something back
    fs::write(root.join("file"), b"spoilt").unwrap();
    fs::copy(&file, root.join("file")).unwrap();
    assert_eq!(fs::read(root.join("file")).unwrap(), b"as it was");
    service.unmount();
    volume.assert_clean();
}

struct PermissionsOf;

impl PermissionsOf {
    fn mode(mode: u32) -> fs::Permissions {
        std::os::unix::fs::PermissionsExt::from_mode(mode)
    }
}

#[test]
fn numbers_say_what_is_the_same_file() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("snap-ino", "64M");
    let service = mounted(&volume);
    let root = service.path.clone();
    fs::write(root.join("file"), b"x").unwrap();
    fs::hard_link(root.join("file"), root.join("again")).unwrap();
    for label in ["one", "two"] {
        done(&["snapshot"], &root, &[label]);
    }
    let id = |path: &str| {
        let metadata = fs::metadata(root.join(path)).unwrap();
        (metadata.dev(), metadata.ino())
    };
    let trees = ["", ".snapshots/one/", ".snapshots/two/"];
    let mut all = BTreeSet::new();
    for tree in trees {
        assert_eq!(id(&format!("{tree}file")), id(&format!("{tree}again")));
        all.insert(id(&format!("{tree}file")));
        all.insert(id(&format!("{tree}.")));
        // what lists say is what asking says
        for entry in fs::read_dir(root.join(tree)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert_eq!(std::os::unix::fs::DirEntryExt::ino(&entry), id(&format!("{tree}{name}")).1);
        }
    }
    all.insert(id(".snapshots"));
    assert_eq!(all.len(), 7, "{all:?}");
    assert_eq!(id(".snapshots/one/.."), id(".snapshots"));
    assert_eq!(id(".snapshots/.."), id(""));
    let text = shell(
        &root,
        "find . | wc -l; find .snapshots -type f | wc -l; find .snapshots -samefile \
         .snapshots/one/file | wc -l; tar cf - .snapshots | tar tvf - | grep -c 'link to'; \
         cp -a .snapshots copy; find copy -links 2 | wc -l",
    );
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["3", "4", "2", "2", "4"]);
    service.unmount();
    volume.assert_clean();
}

#[test]
fn a_snapshot_that_goes_while_it_is_read_gives_no_wrong_byte() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("snap-gone", "64M");
    let service = mounted(&volume);
    let root = service.path.clone();
    // without check codes nothing else would tell what took the place of a block
    done(&["set"], &root, &["--check", "none", "--compression", "none"]);
    let data = noise(12 << 20, 7);
    fs::write(root.join("file"), &data).unwrap();
    done(&["snapshot"], &root, &["one"]);
    fs::remove_file(root.join("file")).unwrap();
    let file = File::open(root.join(".snapshots/one/file")).unwrap();
    let mut start = vec![0; 4096];
    file.read_exact_at(&mut start, 0).unwrap();
    assert!(start == data[..4096]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut count = 0_u32;
            let mut piece = vec![0; 65536];
            while !is_over.load(Ordering::Relaxed) {
                for at in (0..data.len()).step_by(65536) {
                    // past what the kernel keeps
                    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
                    match file.read_exact_at(&mut piece, at as u64) {
                        Ok(()) => assert!(piece == data[at..at + 65536], "wrong bytes at {at}"),
                        Err(error) => {
                            assert_eq!(error.raw_os_error(), STALE, "{error}");
                            count += 1;
                        }
                    }
                }
            }
            count
        });
        done(&["pfs", "delete"], &root, &["one"]);
        // its space is used again
        for round in 0..3 {
            done(&["bulkfree"], &root, &[]);
            fs::write(root.join("other"), noise(30 << 20, 100 + round)).unwrap();
            File::open(root.join("other")).unwrap().sync_all().unwrap();
            fs::remove_file(root.join("other")).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0, "reads fail when it is gone");
    });
    drop(file);
    service.unmount();
    volume.assert_clean();
}

#[test]
fn a_name_of_the_volume_itself_wins() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("snap-real", "64M");
    let service = volume.mount();
    assert!(fs::metadata(service.path.join(".snapshots")).is_err(), "off unless asked for");
    fs::create_dir(service.path.join(".snapshots")).unwrap();
    fs::write(service.path.join(".snapshots/mine"), b"mine").unwrap();
    service.unmount();
    let service = mounted(&volume);
    assert_eq!(names(&service.path.join(".snapshots")), set(&["mine"]));
    assert!(service.said().contains("has a .snapshots of its own"), "{}", service.said());
    fs::write(service.path.join(".snapshots/more"), b"more").unwrap();
}

#[test]
fn a_label_that_is_no_name_is_told() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("snap-dots", "64M");
    let service = volume.mount();
    for label in ["..", "..."] {
        done(&["snapshot"], &service.path, &[label]);
    }
    service.unmount();
    let service = mounted(&volume);
    assert_eq!(names(&service.path.join(".snapshots")), set(&["..."]));
    assert!(service.said().contains("option snapshots: .. can be no name"), "{}", service.said());
}

#[test]
fn snapshots_made_by_others_read_as_their_manifests_say() {
    if !can_mount() {
        return;
    }
    let devices = shipped("pfs-snapshots");
    let wanted = manifest(&shipped_folder(), "pfs-snapshots");
    // one of them does not show itself
    for (label, expected) in
        [("BETA", &["BETA.snap1", "BETA.snap2"][..]), ("BETA.snap2", &["BETA.snap1"])]
    {
        let mounted = Mounted::with("ro,snapshots", "snap-golden", &devices, Some(label));
        let all = mounted.path.join(".snapshots");
        assert_eq!(names(&all), set(expected));
        for label in expected {
            assert_eq!(differences(&wanted.pfs[*label], &all.join(label)), Vec::<String>::new());
        }
        let listed = fs::read(&all).unwrap_err();
        assert_eq!(listed.raw_os_error(), Some(21), "a directory");
        assert_eq!(File::create(all.join("new")).unwrap_err().raw_os_error(), ROFS);
    }
}
