//! What the tests of the command share: running it, mounting with it, comparing with a manifest.

#![allow(dead_code, reason = "every test program uses its own part")]
#![allow(missing_docs, reason = "nothing here leaves the tests")]

pub(crate) mod copies;
pub(crate) mod loops;
pub(crate) mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use farrier_tests::images::scratch;
use farrier_tests::manifest::{Entry, Tree};
use sha2::{Digest, Sha256};

/// Largest file that is read whole; larger ones are compared without their holes.
const WHOLE_MAX: u64 = 1 << 28;

pub(crate) fn farrier() -> Command {
    Command::new(env!("CARGO_BIN_EXE_farrier"))
}

/// Runs the command; standard output and error as text, and the exit code.
pub(crate) fn run<S: AsRef<OsStr>>(arguments: &[S]) -> (String, String, i32) {
    told(farrier().args(arguments).output().expect("the command can be started"))
}

pub(crate) fn told(output: Output) -> (String, String, i32) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap_or(-1))
}

/// A fresh empty folder.
pub(crate) fn fresh(name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = scratch("native").join(format!("{name}-{}-{number}", std::process::id()));
    // of an earlier process with the same number
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Whether this machine lets us mount; says so where it does not.
pub(crate) fn can_mount() -> bool {
    let door = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if door.is_err() {
        eprintln!("skipped: /dev/fuse cannot be opened here");
    }
    door.is_ok()
}

/// A mount that ends with its test.
pub(crate) struct Mounted {
    pub(crate) path: PathBuf,
}

impl Mounted {
    /// Mounts read-only in the background: when the command returns, the mount must answer.
    pub(crate) fn new(name: &str, devices: &[PathBuf], label: Option<&str>) -> Self {
        Self::with("ro", name, devices, label)
    }

    /// As [`Mounted::new`], to be written.
    pub(crate) fn writable(name: &str, device: &Path) -> Self {
        Self::with("rw", name, &[device.to_owned()], None)
    }

    /// As [`Mounted::new`], with these options.
    pub(crate) fn with(
        options: &str,
        name: &str,
        devices: &[PathBuf],
        label: Option<&str>,
    ) -> Self {
        let path = fresh(name);
        let mut arguments: Vec<OsString> = devices.iter().map(OsString::from).collect();
        if let (Some(label), Some(last)) = (label, arguments.last_mut()) {
            last.push("@");
            last.push(label);
        }
        let output =
            farrier().args(["mount", "-o", options]).args(arguments).arg(&path).output().unwrap();
        let (_, error, code) = told(output);
        assert_eq!((code, error.as_str()), (0, ""), "mount of {name}");
        Self { path }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = farrier().args(["umount", "--lazy"]).arg(&self.path).output();
        let _ = fs::remove_dir(&self.path);
    }
}

pub(crate) fn is_mounted(path: &Path) -> bool {
    farrier::fuse::unmount::mounted_at(path).unwrap().is_some()
}

/// Waits for `condition`, which is a matter of milliseconds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How a tree of files differs from what a manifest says; nothing if it does not.
pub(crate) fn differences(wanted: &Tree, root: &Path) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut told = Vec::new();
    collect(root, b"", &mut found, &mut told);
    let mut links: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for entry in &wanted.entries {
        let name = entry.path_bytes();
        let name = name.strip_prefix(b"/").unwrap_or(&name);
        let name = name.strip_suffix(b"/").unwrap_or(name);
        if !name.is_empty() && !found.remove(name) {
            told.push(format!("{}: missing", entry.path));
            continue;
        }
        match compare(entry, &root.join(OsStr::from_bytes(name))) {
            Ok(number) => {
                if let (Some(inum), "file") = (entry.inum, entry.kind.as_str()) {
                    links.entry(inum).or_default().insert(number);
                }
            }
            Err(text) => told.push(format!("{}: {text}", entry.path)),
        }
    }
    told.extend(found.iter().map(|name| format!("{}: unexpected", name.escape_ascii())));
    let split = links.iter().filter(|(_, numbers)| numbers.len() > 1);
    told.extend(split.map(|(inum, _)| format!("inode {inum}: hard links came apart")));
    told
}

fn collect(root: &Path, below: &[u8], found: &mut BTreeSet<Vec<u8>>, told: &mut Vec<String>) {
    let folder = root.join(OsStr::from_bytes(below));
    let listing = match fs::read_dir(&folder) {
        Ok(listing) => listing,
        Err(error) => return told.push(format!("{}: {error}", folder.display())),
    };
    for entry in listing {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return told.push(format!("{}: {error}", folder.display())),
        };
        let mut name = below.to_vec();
        if !name.is_empty() {
            name.push(b'/');
        }
        name.extend(entry.file_name().into_vec());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(root, &name, found, told);
        }
        found.insert(name);
    }
}

/// Compares one object; its inode number if it is as it should be.
fn compare(entry: &Entry, path: &Path) -> Result<u64, String> {
    let metadata = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    let kind = kind(&metadata);
    same("type", kind, entry.kind.as_str())?;
    let mode = format!("{:04o}", metadata.permissions().mode() & 0o7777);
    if let Some(wanted) = &entry.mode {
        same("mode", &mode, wanted)?;
    }
    if kind == "file" {
        same("size", &Some(metadata.size()), &entry.size)?;
    }
    if kind != "dir" {
        same("links", &Some(metadata.nlink()), &entry.nlink.map(u64::from))?;
    }
    let owner = (Some(metadata.uid()), Some(metadata.gid()));
    same("owner", &owner, &(entry.uid, entry.gid))?;
    let micros =
        i128::from(metadata.mtime()) * 1_000_000 + i128::from(metadata.mtime_nsec() / 1000);
    if let Some(wanted) = entry.mtime_us {
        same("mtime", &micros, &i128::from(wanted.cast_signed()))?;
    }
    if let (Some((major, minor)), "cdev" | "bdev") = (entry.rdev, kind) {
        // Linux has 12 and 20 bits
        let number = rustix::fs::makedev(major & 0xfff, minor & 0xf_ffff);
        same("device", &metadata.rdev(), &number)?;
    }
    if kind == "symlink" {
        let target = fs::read_link(path).map_err(|error| error.to_string())?;
        same("target", &Some(target.into_os_string().into_vec()), &entry.target_bytes())?;
    }
    if kind == "file" {
        compare_contents(entry, path, metadata.size()).map_err(|error| format!("read: {error}"))?;
    }
    Ok(metadata.ino())
}

fn same<A: PartialEq<B> + std::fmt::Debug + ?Sized, B: std::fmt::Debug + ?Sized>(
    what: &str,
    found: &A,
    wanted: &B,
) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{what} is {found:?}, not {wanted:?}")) }
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () if kind.is_char_device() => "cdev",
        () if kind.is_block_device() => "bdev",
        () => "file",
    }
}

fn compare_contents(entry: &Entry, path: &Path, size: u64) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    if let Some(wanted) = entry.sha256.as_ref().filter(|_| size <= WHOLE_MAX) {
        return same("contents", &hex(&fs::read(path).map_err(text)?), wanted);
    }
    match &entry.sparse_sha256 {
        Some(wanted) => same("contents", &sparse_hash(path).map_err(text)?, wanted),
        None => Ok(()),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    digits(Sha256::digest(bytes).as_slice())
}

fn digits(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Over each 64 KiB block that is not all zeros: its offset and its bytes, filled up.
fn sparse_hash(path: &Path) -> std::io::Result<String> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut hash = Sha256::new();
    let mut offset = 0;
    while offset < size {
        let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(offset)) else {
            break;
        };
        offset = data - data % 65536;
        let mut block = vec![0; 65536];
        let len = usize::try_from(size - offset).unwrap_or(65536).min(65536);
        file.read_exact_at(&mut block[..len], offset)?;
        if block.iter().any(|byte| *byte != 0) {
            hash.update(offset.to_le_bytes());
            hash.update(&block);
        }
        offset += 65536;
    }
    Ok(digits(hash.finalize().as_slice()))
}
