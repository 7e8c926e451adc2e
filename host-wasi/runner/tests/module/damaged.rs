//! Damaged images give the documented sentence and exit code, and read no wrong bytes.

use std::collections::BTreeMap;
use std::fs;

use farrier_tests::images::{Damaged, scratch};
use farrier_wasi::report::Report;
use sha2::{Digest, Sha256};

use crate::harness::{Image, differences, hex};

/// What is documented of an image.
enum Documented {
    /// It is refused, with this sentence behind its name.
    Refused(&'static str),
    /// It is too short for its volume: refused with this, or read as far as it goes.
    Short(&'static str),
    /// It opens: the exit codes of a list of everything and of a check, and a code of a finding.
    Opens(i32, i32, &'static str),
}

fn documented(name: &str) -> Documented {
    use Documented::{Opens, Refused, Short};
    const NO_HEADER: &str = "no valid volume header (check code is 1cc7fc47, the header has \
                             a51ff4ac); restore the volume from a backup";
    const OTHER: &str =
        "not a HAMMER2 volume (bad magic); if it is a whole disk, name the partition";
    const NAMELESS: &str = "file system type 00000000-0000-0000-0000-000000000000 is not HAMMER2; \
                            another program made this volume";
    match name {
        "d-hdr-newest-crc" | "d-hdr-older-crc" => Opens(0, 1, "volume-header"),
        "d-hdr-newest-sector0" | "d-magic-wrong-newest" => Opens(0, 1, "volume-header"),
        "d-hdr-all-crc" => Refused(NO_HEADER),
        "d-magic-zero" | "d-magic-wrong" => Refused(OTHER),
        "d-byteswapped" => Refused(
            "HAMMER2 of the opposite byte order; it can only be read by a machine like the one \
             that wrote it",
        ),
        "d-version-99" => Refused(
            "unsupported version 99; this program knows versions 1 and 2, a newer one may do",
        ),
        "d-fstype-wrong" => Refused(NAMELESS),
        "d-volume-missing" => {
            Refused("the file system needs 2 volumes, 1 given; add the device with volume 1")
        }
        "d-trunc-32k" => Refused(
            "too small (32768 bytes) to hold a HAMMER2 volume header; is this the right file, and \
             was it copied whole?",
        ),
        "d-trunc-0" => Refused(
            "too small (0 bytes) to hold a HAMMER2 volume header; is this the right file, and was \
             it copied whole?",
        ),
        "d-size-too-big" => Short("1099511627776 bytes, the device only 41943040"),
        "d-trunc-tail" => Short("41943040 bytes, the device only 37879808"),
        "d-trunc-data" => Short("41943040 bytes, the device only 33755136"),
        "d-trunc-2hdr" => Short("2214592512 bytes, the device only 2147483648"),
        "d-data-block" | "d-data-lz4" => Opens(0, 4, "check-data"),
        "d-lz4-bad-stream" | "d-lz4-bad-size" | "d-lz4-neg-size" => Opens(0, 4, "decompress"),
        "d-zlib-bad-stream" => Opens(0, 4, "decompress"),
        "d-data-nocheck" => Opens(0, 0, ""),
        "d-indirect-file" => Opens(0, 4, "check-indirect"),
        "d-indirect-dir" | "d-indirect-pfs" => Opens(1, 4, "check-indirect"),
        "d-inode-file" | "d-inode-dir" | "d-inode-pfsroot" => Opens(1, 4, "check-inode"),
        "d-inode-superroot" => Opens(1, 4, "check-inode"),
        "d-dirent-name" => Opens(1, 4, "check-dirent"),
        "d-freemap-crc" => Opens(0, 1, "freemap"),
        "d-freemap-lost" => Opens(0, 1, "not-allocated"),
        "d-freemap-possibly-free" => Opens(0, 1, "possibly-free"),
        "d-freemap-reserved" => Opens(0, 1, "freemap-reserved"),
        "d-loop-indirect" => Opens(0, 4, "loop"),
        "d-off-beyond-end" | "d-off-reserved" => Opens(0, 4, "bad-offset"),
        "d-radix-63" | "d-radix-17" | "d-radix-9" => Opens(0, 4, "bad-radix"),
        "d-bref-type-inode" => Opens(0, 4, "bad-radix"),
        "d-bref-type-9" => Opens(0, 4, "bad-type"),
        "d-check-type-12" => Opens(0, 4, "bad-check"),
        "d-comp-type-9" => Opens(0, 4, "bad-compression"),
        "d-key-order" => Opens(0, 4, "key-order"),
        "d-inode-huge-size" | "d-inode-bad-type" => Opens(1, 4, "inode"),
        "d-nlinks-wrong" => Opens(0, 1, "nlinks"),
        "d-dirent-dangling" => Opens(1, 1, "dangling-dirent"),
        "d-dirent-namlen" | "d-dirent-slash" => Opens(1, 4, "dirent"),
        "d-dir-loop" => Opens(1, 4, "dir-loop"),
        other => panic!("what does {other} do?"),
    }
}

fn with_each(folder: &str, mut look: impl FnMut(&Damaged, &Image)) {
    let folder = scratch("wasi-damaged").join(folder);
    fs::create_dir_all(&folder).unwrap();
    for damaged in Damaged::all() {
        let file = damaged.make(&folder);
        look(&damaged, &Image::new(std::slice::from_ref(&file)));
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn each_gives_its_sentence_and_exit_code() {
    let mut count = 0;
    with_each("sentences", |damaged, image| {
        let name = &damaged.name;
        let run = |words: &[&str]| {
            let output = image.run(None, words).unwrap_or_else(|e| panic!("{name}: {e}"));
            (output.code, String::from_utf8(output.stderr).unwrap())
        };
        let (list, list_said) = run(&["ls", "-lR", "@"]);
        let (check, check_said) = run(&["check", "@"]);
        match documented(name) {
            Documented::Refused(sentence) => {
                assert_eq!((list, check), (1, 8), "{name}");
                let expected = format!("/{name}.img: {sentence}\n");
                assert!(list_said.ends_with(&expected), "{list_said}");
                assert_eq!(list_said, check_said);
                assert_eq!(list_said.lines().count(), 1);
            }
            Documented::Short(part) => {
                assert_eq!((list, check), (1, 4), "{name}");
                assert_eq!(check_said, "", "{name}");
                let expected = format!("/{name}.img: truncated: the volume has {part}; ");
                assert!(list_said.contains(&expected), "{list_said}");
            }
            Documented::Opens(list_code, check_code, finding) => {
                assert_eq!((list, check), (list_code, check_code), "{name}: {list_said}");
                assert_eq!(list == 0, list_said.is_empty(), "{name}: {list_said}");
                assert_eq!(check_said, "", "{name}");
                let answer = image.ask(None, &["check", "@"]).unwrap();
                assert_eq!(answer.code, check_code);
                let mut codes = answer.reports.iter().filter_map(|report| match report {
                    Report::Finding(finding) => Some(&*finding.code),
                    _ => None,
                });
                assert!(finding.is_empty() || codes.any(|code| code == finding), "{name}");
            }
        }
        count += 1;
    });
    assert_eq!(count, 54, "the list of damaged images");
}

#[test]
fn what_is_not_damaged_stays_readable_and_nothing_reads_wrong() {
    let (mut same, mut failed) = (0, 0);
    with_each("reads", |damaged, image| {
        let is_affected = |path: &str| {
            damaged.affected_paths.iter().any(|affected| {
                let prefix = affected.strip_suffix('*');
                prefix.map_or(path == affected, |prefix| path.starts_with(prefix))
            })
        };
        let is_lost = damaged.affected_paths.iter().any(|path| path == "*");
        for (label, tree) in damaged.before().pfs {
            let words = ["ls", "-lR", "@", "--allow-truncated"];
            let Ok(answer) = image.ask(Some(&label), &words) else {
                continue;
            };
            if answer.entries().count() == 0 && (is_lost || !answer.stderr.is_empty()) {
                let refused = documented(&damaged.name);
                let is_documented = is_lost
                    || matches!(refused, Documented::Refused(_))
                    || answer.stderr.contains("no PFS labelled NEWER; there is ");
                assert!(is_documented, "{}: {}", damaged.name, answer.stderr);
                continue;
            }
            let seen: BTreeMap<_, _> =
                answer.entries().map(|entry| (entry.path.as_bytes(), entry)).collect();
            for wanted in tree.entries.iter().filter(|entry| entry.path != "/") {
                let place = format!("{}@{label}:{}", damaged.name, wanted.path);
                let path = wanted.path_bytes();
                let may_differ = is_lost || is_affected(&wanted.path);
                let Some(entry) = seen.get(&path[..]) else {
                    assert!(may_differ, "{place} is missing");
                    failed += 1;
                    continue;
                };
                let differ = differences(wanted, entry);
                assert!(may_differ || differ.is_empty(), "{place}: {differ:?}");
                let Some(hash) = &wanted.sha256 else { continue };
                let inode = format!("--inode={}", entry.inum);
                let words = ["cat", "@", &inode, "--allow-truncated"];
                let output = image.run(Some(&label), &words).unwrap();
                if output.code != 0 {
                    assert!(may_differ && !output.stderr.is_empty(), "{place}");
                    failed += 1;
                    continue;
                }
                // nobody can see what no check code covers
                let is_unseen = may_differ && damaged.name == "d-data-nocheck";
                let is_same = *hash == hex(&Sha256::digest(&output.stdout));
                assert!(is_same || is_unseen, "{place} reads wrong bytes");
                same += 1;
            }
        }
    });
    println!("{same} files as before, {failed} failed as documented");
    assert!(same > 1000 && failed > 20, "{same} {failed}");
}
