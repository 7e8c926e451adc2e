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
use farrier_core::media::check::{CheckMethod, Checks, store};
use farrier_core::media::inode::ObjectKind;
use farrier_core::scan::{CheckOptions, Finding, Grade};
use farrier_core::units::{Inum, WallTime};
use farrier_tests::against::dirt;
use farrier_tests::checking::check;
use farrier_tests::host::{Files, TestHost};
use farrier_tests::images::{
    Damaged, all_golden, copies, manifest, scratch, shipped_folder, unpack,
};
use farrier_tests::manifest::Entry;
use farrier_tests::ram::RamDisk;
use farrier_tests::session::nothing;
use farrier_tests::walk::{Seen, differences, walk};
use farrier_tests::writing::{WritingHost, format_storage};

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
fn in_root(tree: &Tree, kind: ObjectKind) -> impl Iterator<Item = (&[u8], Inum, u64)> {
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

/// A volume as bytes, and every reference of its trees.
struct Bytes {
    image: Vec<u8>,
    checks: Checks,
    /// Whether junk is planted on the way.
    plants: bool,
    /// What nobody understands, by where it stands.
    found: BTreeMap<Reference, Kept>,
}

/// The inode that it hangs in, kind, key, length of the key.
type Reference = (u64, u8, u64, u8);
/// Unknown bytes of the reference, and of what it refers to.
type Kept = (Vec<u8>, Vec<u8>);

const JUNK: [u8; 56] = *b"junk that nobody understands and everybody keeps, always";

impl Bytes {
    /// Goes through what hangs in the reference at `at` of `block`.
    fn visit(&mut self, holder: u64, reference: &mut [u8]) {
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let (kind, data_off) = (reference[0], number(&reference[32..40]));
        if !matches!(kind, 1..=3) {
            return;
        }
        let (key, key_bits) = (number(&reference[8..16]), reference[3]);
        let start = usize::try_from(data_off & !0x3f).unwrap();
        let range = start..start + (1 << (data_off & 0x3f));
        let mut block = self.image[range.clone()].to_vec();
        let table = match kind {
            1 if block[0x51] & 1 == 0 => 0x200..0x400,
            2 => 0..block.len(),
            _ => 0..0,
        };
        let below = if kind == 1 { number(&block[0x58..0x60]) } else { holder };
        // every PFS numbers its inodes for itself
        let below = if holder >> 32 == 0 && kind == 1 { key | 1 << 63 } else { below };
        let mut slots = block[table.clone()].to_vec();
        slots.chunks_mut(128).for_each(|slot| self.visit(below, slot));
        block[table].copy_from_slice(&slots);
        if self.plants {
            if kind == 1 {
                for (at, len) in RESERVED {
                    block[at..at + len].copy_from_slice(&JUNK[..len]);
                }
            }
            reference[2] = 0x5a;
            reference[4] = 0x77;
            reference[40..48].copy_from_slice(&JUNK[..8]);
            let method = CheckMethod::from_code(reference[1] >> 4).unwrap();
            let mut code = JUNK[..].to_vec();
            code.resize(64, 0x99);
            let code: &mut [u8; 64] = (&mut code[..]).try_into().unwrap();
            store(self.checks.compute(&block, method), code);
            reference[64..128].copy_from_slice(code);
            self.image[range].copy_from_slice(&block);
        }
        let mut kept = reference[2..3].to_vec();
        kept.extend_from_slice(&reference[4..5]);
        kept.extend_from_slice(&reference[40..48]);
        kept.extend_from_slice(&reference[88..128]);
        let inside = match kind {
            1 => RESERVED.iter().flat_map(|(at, len)| block[*at..at + len].to_vec()).collect(),
            _ => Vec::new(),
        };
        self.found.insert((holder, kind, key, key_bits), (kept, inside));
    }

    fn visit_all(&mut self) {
        let mut slot = self.image[0x200..0x280].to_vec();
        self.visit(0, &mut slot);
        self.image[0x200..0x280].copy_from_slice(&slot);
    }
}

/// Parts of an inode that nobody uses (media format 5).
const RESERVED: [(usize, usize); 6] =
    [(0x02, 1), (0x84, 1), (0xb8, 8), (0xc8, 8), (0xd8, 8), (0xe8, 24)];

#[test]
fn what_nobody_understands_stays() {
    let disk = RamDisk::new(64 << 20);
    format_storage(&disk);
    let host = WritingHost::open(disk, 1 << 20).unwrap();
    let pfs = host.open_pfs("DATA").unwrap();
    let create = |host: &WritingHost<RamDisk>, directory, name: &str, new| {
        let name = name.as_bytes().to_vec();
        let (mode, uid, gid, now) = (0o700, 3, 4, NOW);
        host.change(&Create { pfs, directory, name, new, mode, uid, gid, now }).unwrap().inum
    };
    let directory = create(&host, Inum::ROOT, "directory", New::Directory);
    let files: Vec<Inum> =
        (0..400).map(|n| create(&host, directory, &format!("file {n}"), New::File)).collect();
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    let write = |host: &WritingHost<RamDisk>, inum, offset, bytes: &[u8]| {
        host.change(&Write { pfs, inum, offset: Some(offset), bytes, now: NOW }).unwrap();
    };
    write(&host, files[0], 0, &bytes);
    write(&host, files[1], 0, &bytes[..100_000]);
    host.flush().unwrap();
    let (checks, found) = (Checks::with_crc32c(crc32c::crc32c), BTreeMap::new());
    let mut media = Bytes { image: host.storage().bytes(), checks, plants: true, found };
    media.visit_all();
    // the header is in sectors with three codes, each over what the one before is in
    media.image[0x8000..0x8038].copy_from_slice(&JUNK);
    for (from, to, at) in [(0x200, 0x400, 0x1f8), (0, 0x1fc, 0x1fc), (0, 0xfffc, 0xfffc)] {
        let code = checks.crc32c(&media.image[from..to]).to_le_bytes();
        media.image[at..at + 4].copy_from_slice(&code);
    }
    let before = std::mem::take(&mut media.found);
    assert!(before.keys().filter(|(_, kind, ..)| *kind == 2).count() > 4, "there are tables");
    let disk = RamDisk::with(media.image);
    let clean = |disk: &RamDisk| {
        let host = TestHost::over(disk.clone(), false, 8 << 20).unwrap();
        let found = dirt(&host, nothing);
        assert!(found.is_empty(), "{found:#?}");
    };
    clean(&disk);
    let host = WritingHost::open(disk, 1 << 20).unwrap();
    let pfs = host.open_pfs("DATA").unwrap();
    write(&host, files[0], 70_000, b"changed");
    write(&host, files[2], 0, b"short");
    for n in 0..10 {
        create(&host, directory, &format!("new {n}"), New::File);
    }
    let size = Some(200_000);
    host.change(&SetAttributes { size, ..SetAttributes::new(pfs, files[0], NOW) }).unwrap();
    let (victim, keep, name) = (Victim::File, false, b"file 7".to_vec());
    host.change(&Unlink { pfs, directory, name, victim, keep, now: NOW }).unwrap();
    host.flush().unwrap();
    clean(host.storage());
    let image = host.storage().bytes();
    assert_eq!(image[0x8000..0x8038], JUNK);
    let mut media = Bytes { image, checks, plants: false, found: BTreeMap::new() };
    media.visit_all();
    let mut kept = 0;
    for (place, after) in &media.found {
        // a file block that was written is another one
        let Some(before) = before.get(place).filter(|_| place.1 != 3) else { continue };
        assert_eq!(after, before, "{place:x?}");
        kept += 1;
    }
    println!("{kept} of {} references kept what they had", before.len());
    assert!(kept > 380);
}
