//! Golden and damaged images that are changed: what was not touched stays as it was, what nobody
//! understands is kept, and nothing becomes worse.
//!
//! `FARRIER_CHECK_IMAGE=1` takes the whole set of images, where it is there, and asks the independent
//! checker about each; without it, a few of those that ship.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use farrier_core::error::Error;
use farrier_core::fs::{
    Clash, Create, GetAttributes, ListPfs, New, Pfs, Rename, SetAttributes, Unlink, Victim, Write,
};
use farrier_core::media::inode::ObjectKind;
use farrier_core::scan::{CheckOptions, Finding, Grade};
use farrier_core::units::{Inum, WallTime};
use farrier_tests::checking::check;
use farrier_tests::host::{Files, TestHost};
use farrier_tests::images::{
    Damaged, all_golden, copies, manifest, scratch, shipped_folder, unpack,
};
use farrier_tests::manifest::Entry;
use farrier_tests::walk::{Seen, differences, walk};
use farrier_tests::writing::WritingHost;

const NOW: WallTime = WallTime(1_700_000_000_000_000);

type Host = WritingHost<Files>;
type Tree = BTreeMap<Vec<u8>, Seen>;

/// What was done to a PFS.
#[derive(Debug, Default)]
struct Touched {
    /// Inodes that are not as they were.
    inums: BTreeSet<u64>,
    /// Paths that are gone.
    gone: BTreeSet<Vec<u8>>,
    /// Operations that did something.
    done: usize,
}

/// Entries of the root that `fits`.
fn in_root<'t>(tree: &'t Tree, kind: ObjectKind) -> impl Iterator<Item = (&'t [u8], Inum, u64)> {
    tree.iter().filter_map(move |(path, seen)| {
        let Some(Ok(attributes)) = seen.attributes else { return None };
        let name = path.strip_prefix(b"/")?;
        let fits = !name.is_empty() && !name.contains(&b'/') && attributes.kind == kind;
        (fits && attributes.nlinks == 1 && attributes.size < 1 << 30).then_some((
            name,
            attributes.inum,
            attributes.size,
        ))
    })
}

/// Makes, grows, cuts, renames and deletes a few things; errors are for the caller to judge.
fn change_a_few(host: &Host, pfs: Pfs, before: &Tree) -> (Touched, Vec<Error>) {
    let mut touched = Touched { inums: BTreeSet::from([1]), ..Touched::default() };
    let mut errors = Vec::new();
    let create = |directory, name: &[u8], new| {
        let (mode, uid, gid, now) = (0o700, 3, 4, NOW);
        let name = name.to_vec();
        host.change(&Create { pfs, directory, name, new, mode, uid, gid, now })
    };
    let directory = match create(Inum::ROOT, b"farrier made this", New::Directory) {
        Ok(directory) => directory.inum,
        Err(error) => {
            errors.push(error);
            Inum::ROOT
        }
    };
    let bytes: Vec<u8> = (0..50_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    match create(directory, &[b'x'; 100], New::File) {
        Ok(file) => {
            let write = Write { pfs, inum: file.inum, offset: Some(1000), bytes: &bytes, now: NOW };
            errors.extend(host.change(&write).err());
        }
        Err(error) => errors.push(error),
    }
    errors.extend(create(directory, b"link", New::Symlink(vec![b'y'; 1000])).err());
    for (number, (name, inum, size)) in in_root(before, ObjectKind::Regular).take(8).enumerate() {
        let name = name.to_vec();
        let done = match number % 4 {
            0 => {
                let (victim, keep) = (Victim::File, false);
                let unlink = Unlink {
                    pfs,
                    directory: Inum::ROOT,
                    name: name.clone(),
                    victim,
                    keep,
                    now: NOW,
                };
                host.change(&unlink).map(|_| _ = touched.gone.insert([b"/", &name[..]].concat()))
            }
            1 => host
                .change(&Write { pfs, inum, offset: None, bytes: &bytes[..70_000], now: NOW })
                .map(|_| ()),
            2 => {
                let rename = Rename {
                    pfs,
                    directory: Inum::ROOT,
                    name: name.clone(),
                    new_directory: directory,
                    new_name: name.clone(),
                    clash: Clash::Replace,
                    keep: false,
                    now: NOW,
                };
                host.change(&rename).map(|_| _ = touched.gone.insert([b"/", &name[..]].concat()))
            }
            _ => {
                let size = Some(size / 2);
                host.change(&SetAttributes { size, ..SetAttributes::new(pfs, inum, NOW) })
                    .map(|_| ())
            }
        };
        match done {
            Ok(()) => {
                touched.inums.insert(inum.0);
                touched.done += 1;
            }
            Err(error) => errors.push(error),
        }
    }
    (touched, errors)
}

/// How often a check finds what, of what is worse than information.
fn counted(host: &TestHost<Files>) -> BTreeMap<&'static str, usize> {
    let (findings, _) = check(host, CheckOptions::default());
    let mut counted = BTreeMap::new();
    let is_bad = |one: &&Finding| one.grade() > Grade::Information;
    for finding in findings.iter().filter(is_bad) {
        *counted.entry(finding.kind.code()).or_default() += 1;
    }
    counted
}

/// What the independent checker says: its exit status; `None` where it is not there.
fn independent(paths: &[PathBuf]) -> Option<(i32, String)> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tools/check-image.py");
    if !tool.exists() {
        return None;
    }
    let output = Command::new("python3")
        .arg(tool)
        .args(["--no-tree", "--no-data", "-q"])
        .args(paths)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Some((output.status.code()?, text))
}

#[test]
fn golden_images_can_be_changed() {
    let folder = scratch("changed");
    let everything = std::env::var_os("FARRIER_CHECK_IMAGE").is_some();
    let (mut images, mut done, mut asked) = (0, 0, 0);
    let mut wrong = Vec::new();
    let shipped = |name: &String| shipped_folder().join(format!("{name}.json")).exists();
    for (from, name) in all_golden().into_iter().filter(|(_, name)| everything || shipped(name)) {
        let listed = manifest(&from, &name);
        let originals = unpack(&from, &name);
        let paths = copies(&originals, &folder);
        let before = TestHost::open(&originals, false).unwrap();
        let labels = before.run(&ListPfs { super_root: before.volume().super_root() }).unwrap();
        let host = Host::open(Files::open_writable(&paths), 16 << 20)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut touched = BTreeMap::new();
        for info in &labels.entries {
            let label = String::from_utf8_lossy(&info.label).into_owned();
            let pfs = host.open_pfs(&label).unwrap();
            let (touch, errors) = change_a_few(&host, pfs, &walk(&before, &label).unwrap());
            let is_full = |error: &Error| *error == Error::NoSpace;
            wrong.extend(
                errors.iter().filter(|e| !is_full(e)).map(|e| format!("{name}@{label}: {e:?}")),
            );
            done += touch.done;
            touched.insert(label, touch);
        }
        host.flush().unwrap_or_else(|error| panic!("{name}: {error}"));
        host.flush_always(true).unwrap_or_else(|error| panic!("{name}: {error}"));
        let after = TestHost::open(&paths, false).unwrap();
        let (was, is) = (counted(&before), counted(&after));
        if was != is {
            wrong.push(format!("{name}: found {is:?}, before {was:?}"));
        }
        for (label, tree) in &listed.pfs {
            let seen = walk(&after, label).unwrap();
            let differ = untouched(&tree.entries, &touched[label], &seen);
            wrong.extend(differ.iter().map(|what| format!("{name}@{label}{what}")));
        }
        if (everything || asked < 4)
            && let Some((status, text)) = independent(&paths)
        {
            asked += 1;
            if status != 0 && independent(&originals).is_some_and(|(before, _)| before != status) {
                wrong.push(format!("{name}: the independent checker says {status}: {text}"));
            }
        }
        images += 1;
        paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
    println!("{images} images, {done} changes, {asked} times the independent checker");
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(done > 20);
}

/// What differs from the manifest of what was not touched.
fn untouched(entries: &[Entry], touched: &Touched, seen: &Tree) -> Vec<String> {
    let mut differ = Vec::new();
    for entry in entries {
        let path = entry.path_bytes();
        match seen.get(&path) {
            None if touched.gone.contains(&path) => {}
            None => differ.push(format!(":{}: missing", entry.path)),
            Some(Seen { attributes: Some(Ok(attributes)), .. })
                if touched.inums.contains(&attributes.inum.0) => {}
            Some(seen) => differ.extend(
                differences(entry, seen).iter().map(|what| format!(":{}: {what}", entry.path)),
            ),
        }
    }
    differ
}

#[test]
fn damaged_images_do_not_become_worse() {
    let folder = scratch("changed-damaged");
    let (mut opened, mut done) = (0, 0);
    for damaged in Damaged::all() {
        let name = &damaged.name;
        let path = [damaged.make(&folder)];
        let (Ok(before), Ok(host)) =
            (TestHost::open(&path, false), Host::open(Files::open_writable(&path), 4 << 20))
        else {
            std::fs::remove_file(&path[0]).unwrap();
            continue;
        };
        opened += 1;
        let was = counted(&before);
        let mut trees = Vec::new();
        if let Ok(list) = before.run(&ListPfs { super_root: before.volume().super_root() }) {
            for info in list.entries {
                let label = String::from_utf8_lossy(&info.label).into_owned();
                let Ok(tree) = walk(&before, &label) else { continue };
                let Ok(pfs) = host.open_pfs(&label) else { continue };
                let (touched, _) = change_a_few(&host, pfs, &tree);
                done += touched.done;
                trees.push((label, tree, touched));
            }
        }
        let flushed = host.flush().is_ok() && host.flush_always(true).is_ok();
        let after = TestHost::open(&path, false).unwrap_or_else(|e| panic!("{name}: {e}"));
        let is = counted(&after);
        // the old header may be the only one that was broken
        for (code, count) in &is {
            let had = was.get(code).copied().unwrap_or(0);
            assert!(*count <= had, "{name}, flushed {flushed}: found {is:?}, before {was:?}");
        }
        for (label, tree, touched) in trees {
            let now = walk(&after, &label).unwrap_or_else(|e| panic!("{name}@{label}: {e}"));
            for (path, seen) in tree {
                let place = format!("{name}@{label}:{}", path.escape_ascii());
                let Some(Ok(attributes)) = seen.attributes else { continue };
                let is_touched = touched.inums.contains(&attributes.inum.0);
                match now.get(&path) {
                    None => assert!(touched.gone.contains(&path), "{place} is gone"),
                    Some(_) if is_touched => {}
                    Some(now) => {
                        assert_eq!(now.attributes, seen.attributes, "{place}");
                        assert_eq!(now.target, seen.target, "{place}");
                        let is_same = now.sha256 == seen.sha256;
                        // an error may say another place
                        let had = seen.sha256.as_ref().is_none_or(Result::is_ok);
                        assert!(is_same || !had, "{place} has other contents");
                    }
                }
            }
        }
        // reading is possible also where a flush was not
        if let Ok(pfs) = host.open_pfs("DATA") {
            let _ = host.run(&GetAttributes { pfs, inum: Inum::ROOT });
        }
        std::fs::remove_file(&path[0]).unwrap();
    }
    println!("{opened} damaged images opened for writing, {done} changes");
    assert!(opened > 30 && done > 30);
}
