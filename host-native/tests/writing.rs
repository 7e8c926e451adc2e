//! Real mounts that write: what was done is there after the next mount, on media that is clean.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Mounted, can_mount, farrier, fresh, is_mounted, run, told, wait_for};
use rustix::fs::{FallocateFlags, RenameFlags, SeekFrom as At, fallocate, renameat_with, seek};

/// A fresh volume in an image file.
struct Volume {
    folder: PathBuf,
    image: PathBuf,
}

impl Volume {
    fn new(name: &str, size: &str) -> Self {
        let folder = fresh(name);
        let image = folder.join("image");
        let image_text = image.to_str().unwrap();
        let (_, error, code) = run(&["format", "--size", size, image_text]);
        assert_eq!((code, error.as_str()), (0, ""));
        Self { folder, image }
    }

    fn mount(&self) -> Writable {
        Writable { mounted: Some(Mounted::writable("rw", &self.image)) }
    }

    /// Everything that checks media finds nothing wrong.
    fn assert_clean(&self) {
        let (text, error, code) = run(&["check", self.image.to_str().unwrap()]);
        assert_eq!(code, 0, "{text}{error}");
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tools/check-image.py");
        if script.exists() {
            let output = Command::new("python3").arg(script).arg(&self.image).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("\"result\": \"consistent\""), "{text}");
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A mount that is unmounted properly before anybody looks at its devices.
struct Writable {
    mounted: Option<Mounted>,
}

impl Writable {
    fn path(&self) -> &Path {
        &self.mounted.as_ref().unwrap().path
    }

    fn unmount(mut self) {
        let mounted = self.mounted.take().unwrap();
        let (_, error, code) = run(&["umount".as_ref(), mounted.path.as_os_str()]);
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(!is_mounted(&mounted.path));
    }
}

/// Bytes that no two places have in common.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn what_was_written_is_there_after_the_next_mount() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("written", "256M");
    let mount = volume.mount();
    let root = mount.path().to_owned();
    let sizes = [0, 1, 511, 512, 513, 4096, 65535, 65536, 65537, 1 << 20, 5_000_000];
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    for size in sizes {
        fs::write(root.join(format!("a/b/{size}")), noise(size, size as u64)).unwrap();
    }
    fs::hard_link(root.join("a/b/513"), root.join("a/link")).unwrap();
    symlink("b/513", root.join("a/symlink")).unwrap();
    symlink("x".repeat(1000), root.join("a/long symlink")).unwrap();
    fs::set_permissions(root.join("a/b/1"), PermissionsExt::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(root.join("a/b/1"), Some(1000), Some(100)).unwrap();
    fs::rename(root.join("a/b/512"), root.join("moved")).unwrap();
    fs::write(root.join("a/b/512"), "another one").unwrap();
    for _ in 0..2 {
        let there = fs::metadata(root.join("a/b/513")).unwrap();
        assert_eq!((there.nlink(), there.size()), (2, 513));
    }
    mount.unmount();
    volume.assert_clean();

    let mount = volume.mount();
    let root = mount.path();
    for size in sizes.into_iter().filter(|size| *size != 512) {
        let read = fs::read(root.join(format!("a/b/{size}"))).unwrap();
        assert!(read == noise(size, size as u64), "{size}");
    }
    assert_eq!(fs::read(root.join("moved")).unwrap(), noise(512, 512));
    assert_eq!(fs::read(root.join("a/b/512")).unwrap(), b"another one");
    assert_eq!(fs::read(root.join("a/symlink")).unwrap(), noise(513, 513));
    assert_eq!(fs::read_link(root.join("a/long symlink")).unwrap().as_os_str().len(), 1000);
    let link = fs::metadata(root.join("a/link")).unwrap();
    assert_eq!((link.nlink(), link.ino()), (2, fs::metadata(root.join("a/b/513")).unwrap().ino()));
    let owned = fs::metadata(root.join("a/b/1")).unwrap();
    assert_eq!((owned.uid(), owned.gid(), owned.mode() & 0o777), (1000, 100, 0o751));
    mount.unmount();
    volume.assert_clean();
}

#[test]
fn a_file_without_a_name_lives_as_long_as_it_is_open() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("nameless", "64M");
    let mount = volume.mount();
    let root = mount.path();
    let open = |name: &str| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        options.open(root.join(name)).unwrap()
    };
    let (removed, replaced) = (open("removed"), open("replaced"));
    removed.write_all_at(&noise(300_000, 1), 0).unwrap();
    replaced.write_all_at(&noise(300_000, 2), 0).unwrap();
    removed.sync_all().unwrap();
    fs::remove_file(root.join("removed")).unwrap();
    fs::write(root.join("new"), "new").unwrap();
    fs::rename(root.join("new"), root.join("replaced")).unwrap();
    // once more behind a commit that they are not in
    File::open(root).unwrap().sync_all().unwrap();
    for (file, seed) in [(&removed, 1), (&replaced, 2)] {
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        file.write_all_at(&noise(100_000, 3), 250_000).unwrap();
        file.sync_all().unwrap();
        let mut read = vec![0; 350_000];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read[..250_000] == noise(300_000, seed)[..250_000]);
        assert!(read[250_000..] == noise(100_000, 3));
    }
    assert_eq!(fs::read(root.join("replaced")).unwrap(), b"new");
    drop((removed, replaced));
    mount.unmount();
    volume.assert_clean();
    let mount = volume.mount();
    let names: Vec<_> =
        fs::read_dir(mount.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["replaced"]);
}

#[test]
fn several_append_to_one_file() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("append", "64M");
    let mount = volume.mount();
    let path = mount.path().join("log");
    std::thread::scope(|scope| {
        for thread in 0..3_u8 {
            let path = &path;
            scope.spawn(move || {
                let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
                for _ in 0..500 {
                    file.write_all(&[b'a' + thread; 100]).unwrap();
                }
            });
        }
    });
    mount.unmount();
    let mount = volume.mount();
    let read = fs::read(mount.path().join("log")).unwrap();
    assert_eq!(read.len(), 3 * 500 * 100);
    let mut counts = BTreeMap::new();
    for line in read.chunks(100) {
        assert!(line.iter().all(|byte| *byte == line[0]), "lines are whole");
        *counts.entry(line[0]).or_insert(0) += 1;
    }
    assert!(counts.values().all(|count| *count == 500), "{counts:?}");
}

#[test]
fn holes_are_made_and_found() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("holes", "64M");
    let mount = volume.mount();
    let path = mount.path().join("sparse");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all_at(b"start", 0).unwrap();
    file.write_all_at(b"far", 10 << 20).unwrap();
    // What the kernel has not written yet is data too.
    assert_eq!(seek(&file, At::Data(65536)).unwrap(), 10 << 20, "before it is written");
    file.sync_all().unwrap();
    assert_eq!(seek(&file, At::Hole(0)).unwrap(), 65536);
    assert_eq!(seek(&file, At::Data(65536)).unwrap(), 10 << 20);
    file.write_all_at(&noise(1 << 20, 4), 0).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, 100_000, 400_000).unwrap();
    let mut expected = noise(1 << 20, 4);
    expected[100_000..500_000].fill(0);
    // what lay behind a new end is gone when the file grows again
    file.set_len(700_001).unwrap();
    file.set_len(1 << 20).unwrap();
    expected[700_001..].fill(0);
    let check = |file: &File| {
        let mut read = vec![1; 1 << 20];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == expected);
        assert_eq!(seek(file, At::Hole(0)).unwrap(), 131_072);
    };
    check(&file);
    fallocate(&file, FallocateFlags::empty(), 0, 2 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 2 << 20);
    let refused = fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 65536).unwrap_err();
    assert_eq!(refused, rustix::io::Errno::OPNOTSUPP);
    drop(file);
    mount.unmount();
    volume.assert_clean();
    let mount = volume.mount();
    check(&File::open(mount.path().join("sparse")).unwrap());
}

#[test]
fn a_mapping_is_written() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("mapped", "64M");
    let mount = volume.mount();
    let path = mount.path().join("mapped");
    fs::write(&path, vec![b'.'; 200_000]).unwrap();
    let script = "import mmap,sys\n\
        f=open(sys.argv[1],'r+b'); m=mmap.mmap(f.fileno(),0)\n\
        m[100000:100005]=b'hello'; m.flush()\n";
    let Ok(output) = Command::new("python3").args(["-c", script]).arg(&path).output() else {
        eprintln!("skipped: no python3 here");
        return;
    };
    assert!(output.status.success(), "{output:?}");
    mount.unmount();
    let mount = volume.mount();
    let read = fs::read(mount.path().join("mapped")).unwrap();
    assert_eq!(&read[99_999..100_006], b".hello.");
}

#[test]
fn many_files_in_one_directory() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("many", "128M");
    let mount = volume.mount();
    let folder = mount.path().join("many");
    fs::create_dir(&folder).unwrap();
    for number in 0..10_000 {
        fs::write(folder.join(format!("file {number}")), number.to_string()).unwrap();
    }
    for number in (0..10_000).step_by(2) {
        fs::remove_file(folder.join(format!("file {number}"))).unwrap();
    }
    mount.unmount();
    volume.assert_clean();
    let mount = volume.mount();
    let folder = mount.path().join("many");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 5000);
    for number in (1..10_000).step_by(2) {
        let read = fs::read_to_string(folder.join(format!("file {number}"))).unwrap();
        assert_eq!(read, number.to_string());
    }
    assert_eq!(fs::remove_dir(&folder).unwrap_err().raw_os_error(), Some(39), "ENOTEMPTY");
    fs::remove_dir_all(&folder).unwrap();
    mount.unmount();
    volume.assert_clean();
}

#[test]
fn names_change_places() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("exchange", "64M");
    let mount = volume.mount();
    let root = mount.path();
    fs::write(root.join("a"), "a").unwrap();
    fs::create_dir(root.join("b")).unwrap();
    let folder = File::open(root).unwrap();
    let rename = |flags| renameat_with(&folder, "a", &folder, "b", flags);
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(rustix::io::Errno::EXIST));
    let whiteout = renameat_with(&folder, "a", &folder, "c", RenameFlags::WHITEOUT);
    assert_eq!(whiteout, Err(rustix::io::Errno::INVAL));
    rename(RenameFlags::EXCHANGE).unwrap();
    assert!(fs::metadata(root.join("a")).unwrap().is_dir());
    assert_eq!(fs::read(root.join("b")).unwrap(), b"a");
    drop(folder);
    let linked = fs::hard_link(root.join("a"), root.join("c")).unwrap_err();
    assert_eq!(linked.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn a_full_volume_says_so_and_can_be_emptied() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("full", "32M");
    let mount = volume.mount();
    let root = mount.path();
    let fill = |name: &str| -> (u64, Option<i32>) {
        let mut file = File::create(root.join(name)).unwrap();
        for number in 0..64 {
            let piece = noise(1 << 20, number + 1);
            if let Err(error) = file.write_all(&piece).and_then(|()| file.sync_data()) {
                return (number, error.raw_os_error());
            }
        }
        (64, None)
    };
    for round in 0..3 {
        let (written, error) = fill("large");
        assert_eq!(error, Some(28), "ENOSPC in round {round}");
        assert!(written >= 4, "{written} MiB in round {round}");
        fs::remove_file(root.join("large")).unwrap();
    }
    fs::write(root.join("small"), noise(100_000, 9)).unwrap();
    mount.unmount();
    volume.assert_clean();
    let mount = volume.mount();
    assert_eq!(fs::read(mount.path().join("small")).unwrap(), noise(100_000, 9));
}

/// A mount in the foreground, for whoever ends it in other ways.
fn foreground(volume: &Volume, path: &Path) -> Child {
    let mut command = farrier();
    command.args(["mount", "--foreground"]).arg(&volume.image).arg(path);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_for("a mount", || is_mounted(path));
    child
}

#[test]
fn what_was_synced_outlives_the_process() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("killed", "64M");
    let path = fresh("killed-mount");
    let mut child = foreground(&volume, &path);
    fs::create_dir(path.join("d")).unwrap();
    for number in 0..20_u64 {
        let mut file = File::create(path.join(format!("d/{number}"))).unwrap();
        file.write_all(&noise(50_000, number + 1)).unwrap();
        file.sync_all().unwrap();
        fs::write(path.join(format!("d/unsynced {number}")), "perhaps").unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(run(&["umount".as_ref(), path.as_os_str()]).2, 0);
    volume.assert_clean();
    let mount = volume.mount();
    for number in 0..20_u64 {
        let read = fs::read(mount.path().join(format!("d/{number}"))).unwrap();
        assert!(read == noise(50_000, number + 1), "{number}");
    }
    mount.unmount();
    let _ = fs::remove_dir(path);
}

#[test]
fn a_signal_commits_what_was_changed() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("signalled", "64M");
    let path = fresh("signalled-mount");
    let child = foreground(&volume, &path);
    fs::write(path.join("file"), "contents").unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let (_, error, code) = told(child.wait_with_output().unwrap());
    assert_eq!((code, error.as_str()), (0, ""));
    volume.assert_clean();
    let mount = volume.mount();
    assert_eq!(fs::read(mount.path().join("file")).unwrap(), b"contents");
    let _ = fs::remove_dir(path);
}

#[test]
fn a_volume_is_mounted_once() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("once", "64M");
    let (image, other) = (volume.image.as_os_str(), fresh("second"));
    let mount = volume.mount();
    for options in ["rw", "ro"] {
        let arguments =
            ["mount".as_ref(), "-o".as_ref(), options.as_ref(), image, other.as_os_str()];
        let (_, error, code) = run(&arguments);
        assert_eq!(code, 1, "{options}");
        assert!(error.contains("in use by another program"), "{error}");
    }
    mount.unmount();
    // readers share it with each other, and with nobody else
    let (_, error, code) = run(&["mount".as_ref(), "-r".as_ref(), image, other.as_os_str()]);
    assert_eq!((code, error.as_str()), (0, ""));
    let refused = File::create(other.join("new")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    let third = fresh("third");
    let (_, error, code) = run(&["mount".as_ref(), image, third.as_os_str()]);
    assert_eq!(code, 1);
    assert!(error.contains("in use by another program"), "{error}");
    assert_eq!(run(&["umount".as_ref(), other.as_os_str()]).2, 0);
    let mut seen = Vec::new();
    let mut file = File::open(&volume.image).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.take(8).read_to_end(&mut seen).unwrap();
    assert_eq!(seen.len(), 8);
    for folder in [other, third] {
        let _ = fs::remove_dir(folder);
    }
}
