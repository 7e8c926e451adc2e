//! Damaged images: each gives its documented finding, none reads wrong bytes, and what is not
//! damaged stays readable.

use std::collections::BTreeMap;

use farrier_core::error::{Error, HeaderFault, Refusal};
use farrier_core::fs::{ListPfs, Lookup, OpenPfs};
use farrier_core::scan::{CheckOptions, Grade};
use farrier_core::units::Inum;
use farrier_tests::checking::check;
use farrier_tests::fuzzing::Subject;
use farrier_tests::host::TestHost;
use farrier_tests::images::{Damaged, scratch};
use farrier_tests::walk::{Seen, differences, read, walk};

/// What opening an image does.
enum Opens {
    /// It is refused.
    No(fn(&Refusal) -> bool),
    /// It opens, and a check finds these codes at this grade at least.
    Yes(Grade, &'static [&'static str]),
}

fn documented(name: &str) -> Opens {
    use Grade::{Fatal, Information, Repairable};
    let header = |wanted: fn(&Refusal) -> bool| Opens::No(wanted);
    match name {
        "d-hdr-newest-crc"
        | "d-hdr-older-crc"
        | "d-hdr-newest-sector0"
        | "d-magic-wrong-newest" => Opens::Yes(Repairable, &["volume-header"]),
        "d-hdr-all-crc" => {
            header(|r| matches!(r, Refusal::Header { fault: HeaderFault::Check { .. }, .. }))
        }
        "d-magic-zero" | "d-magic-wrong" => header(|r| matches!(r, Refusal::NotHammer2 { .. })),
        "d-byteswapped" => {
            header(|r| matches!(r, Refusal::Header { fault: HeaderFault::ForeignByteOrder, .. }))
        }
        "d-version-99" => {
            header(|r| matches!(r, Refusal::Header { fault: HeaderFault::Version(99), .. }))
        }
        "d-fstype-wrong" => {
            header(|r| matches!(r, Refusal::Header { fault: HeaderFault::Type(_), .. }))
        }
        "d-volume-missing" => {
            header(|r| matches!(r, Refusal::MissingVolumes { need: 2, given: 1, missing: 1 }))
        }
        "d-trunc-32k" | "d-trunc-0" => header(|r| matches!(r, Refusal::TooSmall { .. })),
        "d-size-too-big" | "d-trunc-tail" | "d-trunc-2hdr" => Opens::Yes(Fatal, &["truncated"]),
        "d-trunc-data" => Opens::Yes(Fatal, &["truncated", "behind-device"]),
        "d-data-block" | "d-data-lz4" => Opens::Yes(Fatal, &["check-data"]),
        "d-lz4-bad-stream" | "d-lz4-bad-size" | "d-lz4-neg-size" | "d-zlib-bad-stream" => {
            Opens::Yes(Fatal, &["decompress"])
        }
        "d-data-nocheck" => Opens::Yes(Information, &[]),
        "d-indirect-file" | "d-indirect-dir" | "d-indirect-pfs" => {
            Opens::Yes(Fatal, &["check-indirect"])
        }
        "d-inode-file" | "d-inode-dir" | "d-inode-pfsroot" | "d-inode-superroot" => {
            Opens::Yes(Fatal, &["check-inode"])
        }
        "d-dirent-name" => Opens::Yes(Fatal, &["check-dirent"]),
        "d-freemap-crc" => Opens::Yes(Repairable, &["freemap"]),
        "d-freemap-lost" => Opens::Yes(Repairable, &["not-allocated"]),
        "d-freemap-possibly-free" => Opens::Yes(Repairable, &["possibly-free"]),
        "d-freemap-reserved" => Opens::Yes(Repairable, &["freemap-reserved"]),
        "d-loop-indirect" => Opens::Yes(Fatal, &["loop"]),
        "d-off-beyond-end" | "d-off-reserved" => Opens::Yes(Fatal, &["bad-offset"]),
        // an inode has one size only, so retyped data is one of a wrong size
        "d-radix-63" | "d-radix-17" | "d-radix-9" | "d-bref-type-inode" => {
            Opens::Yes(Fatal, &["bad-radix"])
        }
        "d-bref-type-9" => Opens::Yes(Fatal, &["bad-type"]),
        "d-check-type-12" => Opens::Yes(Fatal, &["bad-check"]),
        "d-comp-type-9" => Opens::Yes(Fatal, &["bad-compression"]),
        "d-key-order" => Opens::Yes(Fatal, &["key-order"]),
        "d-inode-huge-size" | "d-inode-bad-type" => Opens::Yes(Fatal, &["inode"]),
        "d-nlinks-wrong" => Opens::Yes(Repairable, &["nlinks"]),
        "d-dirent-dangling" => Opens::Yes(Repairable, &["dangling-dirent", "orphan-inode"]),
        "d-dirent-namlen" | "d-dirent-slash" => Opens::Yes(Fatal, &["dirent", "orphan-inode"]),
        "d-dir-loop" => Opens::Yes(Fatal, &["dir-loop", "orphan-inode"]),
        other => panic!("what does {other} do?"),
    }
}

#[test]
fn every_damaged_image_gives_its_finding() {
    let folder = scratch("damaged-check");
    let all = Damaged::all();
    assert_eq!(all.len(), 54, "the list of damaged images");
    for damaged in all {
        let name = &damaged.name;
        let path = damaged.make(&folder);
        match (documented(name), TestHost::open(&[&path], true)) {
            (Opens::No(wanted), Err(Error::Refused(refusal))) => {
                assert!(wanted(&refusal), "{name}: {refusal:?}");
            }
            (Opens::Yes(grade, codes), Ok(host)) => {
                let (findings, summary) = check(&host, CheckOptions::default());
                let worst = summary.worst().unwrap_or(Grade::Information);
                assert_eq!(worst, grade, "{name}: {findings:#?}");
                for code in codes {
                    let found = findings.iter().any(|one| one.kind.code() == *code);
                    assert!(found, "{name}: no {code} among {findings:#?}");
                }
            }
            (_, opened) => panic!("{name}: {opened:?}"),
        }
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_truncated_volume_is_refused_unless_asked_for() {
    let folder = scratch("damaged-truncated");
    for name in ["d-trunc-tail", "d-trunc-data", "d-size-too-big"] {
        let path = Damaged::named(name).make(&folder);
        let refused = TestHost::open(&[&path], false).map(|_| ()).unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::Truncated { .. })), "{name}");
    }
}

/// Whether a path may differ from what it was before the damage.
fn is_affected(damaged: &Damaged, path: &str) -> bool {
    damaged.affected_paths.iter().any(|affected| match affected.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == affected,
    })
}

#[test]
fn what_is_not_damaged_stays_readable() {
    let folder = scratch("damaged-read");
    let mut compared = 0;
    for damaged in Damaged::all() {
        let path = damaged.make(&folder);
        let Ok(host) = TestHost::open(&[&path], true) else {
            continue;
        };
        // Images whose newest header is unusable show an older state, without the PFS "NEWER".
        for (label, tree) in damaged.before().pfs {
            let seen = match walk(&host, &label) {
                Ok(seen) => seen,
                Err(_) if damaged.affected_paths.iter().any(|path| path == "*") => continue,
                Err(Error::NoPfs) if label == "NEWER" => continue,
                Err(error) => panic!("{}@{label}: {error}", damaged.name),
            };
            for entry in tree.entries {
                let place = format!("{}@{label}:{}", damaged.name, entry.path);
                if is_affected(&damaged, &entry.path)
                    || damaged.affected_paths.iter().any(|path| path == "*")
                {
                    assert_not_wrong(&place, &damaged, &entry, &seen);
                    continue;
                }
                let found = seen.get(&entry.path_bytes());
                let differ = found.map(|found| differences(&entry, found));
                assert_eq!(differ, Some(vec![]), "{place}");
                compared += 1;
            }
        }
        std::fs::remove_file(path).unwrap();
    }
    println!("{compared} entries of damaged images compared");
    assert!(compared > 2000, "only {compared}");
}

/// An affected path may fail, but whatever it says must be what it said before.
fn assert_not_wrong(
    place: &str,
    damaged: &Damaged,
    entry: &farrier_tests::manifest::Entry,
    seen: &BTreeMap<Vec<u8>, Seen>,
) {
    // What carries no check code, and what was changed together with its check code.
    if ["d-data-nocheck", "d-nlinks-wrong", "d-inode-huge-size"].contains(&damaged.name.as_str()) {
        return;
    }
    let Some(found) = seen.get(&entry.path_bytes()) else {
        return;
    };
    if let (Some(want), Some(Ok(have))) = (&entry.sha256, &found.sha256) {
        assert_eq!(want, have, "{place} reads wrong bytes");
    }
    if let (Some(want), Some(Ok(have))) = (entry.target_bytes(), &found.target) {
        assert_eq!(&want, have, "{place} has a wrong target");
    }
}

#[test]
fn only_the_damaged_range_of_a_file_fails() {
    let folder = scratch("damaged-range");
    let mut images = 0;
    for damaged in Damaged::all() {
        let Some((start, end)) = damaged.file_range else {
            continue;
        };
        let undamaged = scratch("unpacked").join(format!("{}.img", damaged.base));
        let path = damaged.make(&folder);
        let (was, is) = (
            TestHost::open(&[&undamaged], false).unwrap(),
            TestHost::open(&[&path], false).unwrap(),
        );
        let name = damaged.affected_paths[0].trim_start_matches('/').as_bytes().to_vec();
        let open = |host: &TestHost| {
            let super_root = host.volume().super_root();
            let pfs = host.run(&OpenPfs { super_root, label: b"DATA".to_vec() }).unwrap();
            let name = name.clone();
            (pfs, host.run(&Lookup { pfs, directory: Inum::ROOT, name }).unwrap())
        };
        let ((was_pfs, was_file), (is_pfs, is_file)) = (open(&was), open(&is));
        assert_eq!(was_file.size, is_file.size);
        for offset in (0..was_file.size).step_by(65536) {
            let good = read(&was, was_pfs, was_file.inum, offset, 65536).unwrap();
            let place = format!("{} at {offset}", damaged.name);
            match read(&is, is_pfs, is_file.inum, offset, 65536) {
                Ok(bytes) if (start..end).contains(&offset) => {
                    // Nobody can see what no check code covers.
                    assert_eq!(damaged.name, "d-data-nocheck", "{place} does not fail");
                    let differ = bytes.iter().zip(&good).filter(|(a, b)| a != b).count();
                    assert_eq!(differ, 1, "{place}");
                }
                Ok(bytes) => assert_eq!(bytes, good, "{place}"),
                Err(Error::Damaged(_)) => {
                    // An entry out of order hides what stands behind it.
                    let hidden = damaged.name == "d-key-order";
                    assert!((start..end).contains(&offset) || hidden, "{place} fails");
                }
                Err(error) => panic!("{place}: {error}"),
            }
        }
        images += 1;
        std::fs::remove_file(path).unwrap();
    }
    assert!(images >= 15, "only {images} images with a damaged range");
}

#[test]
fn a_damaged_newest_header_falls_back_to_the_state_before() {
    let folder = scratch("damaged-header");
    for (name, newer) in [
        ("d-hdr-newest-crc", false),
        ("d-hdr-newest-sector0", false),
        ("d-magic-wrong-newest", false),
        ("d-hdr-older-crc", true),
    ] {
        let path = Damaged::named(name).make(&folder);
        let host = TestHost::open(&[&path], false).unwrap();
        let list = host.run(&ListPfs { super_root: host.volume().super_root() }).unwrap();
        let has_newer = list.entries.iter().any(|info| info.label == b"NEWER");
        assert_eq!(has_newer, newer, "{name}");
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_name_of_an_impossible_inode_is_dangling() {
    // The number has the bit that keys of names have: no inode can, and no window may start there.
    let path = Damaged::named("d-dirent-dangling").make(&scratch("damaged-inum"));
    let mut subject = Subject::load(&path);
    assert_eq!(subject.replace(&0x12_3456_u64.to_le_bytes(), &u64::MAX.to_le_bytes()), 1);
    let summary = subject.walk_mutated(&[]).unwrap();
    // The name, and the inode that lost it.
    assert_eq!((summary.repairable, summary.fatal), (2, 0), "{summary:?}");
}
