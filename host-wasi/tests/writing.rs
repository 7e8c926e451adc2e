//! The commands that write, as a program of the machine itself: the same code as in the sandbox,
//! where the tests of the runner have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use farrier_core::scan::{CheckOptions, FindingKind};
use farrier_tests::checking::{check, second_opinion};
use farrier_tests::host::{Files, TestHost};
use farrier_tests::images::scratch;
use farrier_tests::manifest::Manifest;
use farrier_tests::walk::{differences, walk};

/// A new empty folder.
fn folder(name: &str) -> PathBuf {
    let folder = scratch("wasi-writing").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs the module's command line in `folder`: exit code and both outputs.
fn run(folder: &Path, words: &[&str]) -> (i32, String, String) {
    let program = env!("CARGO_BIN_EXE_farrier-wasi");
    let output = Command::new(program).current_dir(folder).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What it prints; it has to do what it is asked.
fn done(folder: &Path, words: &[&str]) -> String {
    let (code, out, said) = run(folder, words);
    assert_eq!((code, &*said), (0, ""), "{words:?}");
    out
}

/// What it says is wrong; it has to fail.
fn refused(folder: &Path, words: &[&str]) -> String {
    let (code, _, said) = run(folder, words);
    assert_eq!(code, 1, "{words:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

fn assert_clean(image: &Path) {
    let host = TestHost::open(&[image], false).unwrap();
    let (mut findings, _) = check(&host, CheckOptions::default());
    // what was replaced waits for its space to be used again
    findings.retain(|finding| !matches!(finding.kind, FindingKind::Unreferenced { .. }));
    assert!(findings.is_empty(), "{findings:#?}");
    second_opinion(image);
}

#[test]
fn the_script_leaves_what_its_manifest_says() {
    let folder = folder("script");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
    done(&folder, &["format", "--size", "64M", "d.img"]);
    let script = tests.join("script.json");
    let out = done(&folder, &["script", "d.img", script.to_str().unwrap(), "--json"]);
    assert!(out.starts_with("{\"done\":{\"steps\":"), "{out}");
    let image = folder.join("d.img");
    assert_clean(&image);
    let manifest = fs::read(tests.join("script-manifest.json")).unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    let host = TestHost::<Files>::open(&[&image], false).unwrap();
    for (label, tree) in &manifest.pfs {
        let seen = walk(&host, label).unwrap();
        assert_eq!(seen.len(), tree.entries.len(), "{label}");
        for entry in &tree.entries {
            let found = &seen[&entry.path_bytes()];
            assert_eq!(differences(entry, found), [""; 0], "{label}: {}", entry.path);
        }
    }
}

#[test]
fn what_goes_in_comes_out_again() {
    let folder = folder("copies");
    let source = folder.join("source");
    fs::create_dir_all(source.join("sub/empty")).unwrap();
    fs::write(source.join("short"), "short").unwrap();
    fs::write(source.join("sub/nothing"), "").unwrap();
    let noise: Vec<u8> = (0..900_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    fs::write(source.join("sub/long"), &noise).unwrap();
    let sparse = fs::File::create(source.join("sub/sparse")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    std::os::unix::fs::symlink("../short", source.join("sub/link")).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_micros(1_111_111_111_111_111);
    sparse.set_modified(old).unwrap();
    fs::File::open(source.join("sub")).unwrap().set_modified(old).unwrap();

    done(&folder, &["format", "--size", "64M", "d.img"]);
    let out = done(&folder, &["copy-in", "d.img", "source", "/"]);
    let bytes = 5 + noise.len() + (40 << 20);
    let expected = format!("4 files with {bytes} bytes, 3 directories, 1 links copied\n");
    assert_eq!(out, expected);
    done(&folder, &["copy-in", "d.img", "source/short", "/renamed"]);
    done(&folder, &["mkdir", "d.img", "/into"]);
    done(&folder, &["copy-in", "d.img", "source/.", "/into"]);
    let said = refused(&folder, &["copy-in", "d.img", "source/short", "/into"]);
    assert!(
        said.ends_with("/into/short: is there already, and nothing is overwritten\n"),
        "{said}"
    );
    let said = refused(&folder, &["copy-in", "d.img", "source", "source", "/none"]);
    assert!(said.contains("no such directory to copy several sources into"), "{said}");
    refused(&folder, &["copy-in", "d.img", "missing", "/"]);
    assert_clean(&folder.join("d.img"));

    for (path, copy) in [("/source", "back"), ("/into", "again")] {
        done(&folder, &["copy-out", "d.img", path, copy]);
        let copy = folder.join(copy);
        assert_eq!(fs::read(copy.join("short")).unwrap(), b"short");
        assert!(fs::read(copy.join("sub/long")).unwrap() == noise);
        assert_eq!(fs::read(copy.join("sub/nothing")).unwrap(), b"");
        assert!(copy.join("sub/empty").is_dir());
        assert_eq!(fs::read_link(copy.join("sub/link")).unwrap(), Path::new("../short"));
        let sparse = fs::metadata(copy.join("sub/sparse")).unwrap();
        assert_eq!((sparse.len(), sparse.modified().unwrap()), (40 << 20, old));
        assert_eq!(fs::metadata(copy.join("sub")).unwrap().modified().unwrap(), old);
    }
    assert_eq!(done(&folder, &["cat", "d.img", "/renamed"]), "short");
    let said = refused(&folder, &["rm", "d.img", "/source"]);
    assert!(said.ends_with("/source: is a directory; -R removes it and all below it\n"), "{said}");
    done(&folder, &["rm", "-R", "d.img", "/source", "/into", "/renamed"]);
    assert_eq!(done(&folder, &["ls", "d.img"]), "");
    done(&folder, &["bulkfree", "d.img"]);
    assert_clean(&folder.join("d.img"));
}

#[test]
fn snapshots_and_other_pfss() {
    let folder = folder("pfs");
    fs::write(folder.join("file"), "first").unwrap();
    done(&folder, &["format", "--size", "64M", "-L", "MINE", "d.img"]);
    done(&folder, &["copy-in", "d.img", "file", "/"]);
    let out = done(&folder, &["snapshot", "d.img", "before", "--json"]);
    assert!(out.contains("\"label\":\"before\"") && out.contains("\"is_snapshot\":true"), "{out}");
    done(&folder, &["rm", "d.img@MINE", "/file"]);
    assert_eq!(done(&folder, &["cat", "d.img@before", "/file"]), "first");
    let said = refused(&folder, &["snapshot", "d.img@MINE", "before"]);
    let expected = "d.img: a PFS labelled before exists already; choose another label\n";
    assert_eq!(said, expected);
    done(&folder, &["pfs", "create", "d.img", "new"]);
    done(&folder, &["pfs", "rename", "d.img", "new", "newer"]);
    let said = refused(&folder, &["pfs", "delete", "d.img", "new"]);
    assert_eq!(said, "d.img: no PFS labelled new; `pfs` lists those there are\n");
    assert!(refused(&folder, &["pfs", "create", "d.img", "a/b"]).contains("choose another one"));
    done(&folder, &["pfs", "delete", "d.img", "before"]);
    let mut labels: Vec<_> = done(&folder, &["pfs", "list", "d.img"])
        .lines()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    labels.sort();
    assert_eq!(labels, ["LOCAL", "MINE", "newer"]);
    assert_clean(&folder.join("d.img"));
}

#[test]
fn nothing_is_formatted_over_without_force() {
    let folder = folder("format");
    assert!(refused(&folder, &["format", "d.img"]).contains("does not exist; say how large"));
    done(&folder, &["format", "--size", "64M", "d.img"]);
    let said = refused(&folder, &["format", "d.img"]);
    assert_eq!(said, "d.img: holds a HAMMER2 volume; use --force to overwrite it\n");
    let first = done(&folder, &["info", "d.img"]);
    let forced = ["format", "-f", "d.img", "--compression", "none", "--check", "iscsi32", "--json"];
    let out = done(&folder, &forced);
    assert!(out.starts_with("{\"formatted\":{\"id\":\""), "{out}");
    assert_ne!(first.lines().next(), done(&folder, &["info", "d.img"]).lines().next());
    let stat = done(&folder, &["check", "d.img"]);
    assert!(stat.contains("damage: 0, repairable: 0"), "{stat}");
    let text = vec![b'x'; 32 << 20];
    fs::write(folder.join("text"), &text).unwrap();
    let said = refused(&folder, &["format", "text"]);
    assert!(said.contains("holds data of a kind that is not known here"), "{said}");
    assert!(fs::read(folder.join("text")).unwrap() == text);
    // two volumes
    for name in ["a", "b"] {
        fs::File::create(folder.join(name)).unwrap().set_len(2 << 30).unwrap();
    }
    done(&folder, &["format", "a", "--volume", "b"]);
    done(&folder, &["copy-in", "a", "--volume", "b", "text", "/"]);
    assert!(done(&folder, &["cat", "b", "--volume", "a", "/text"]).into_bytes() == text);
    // refused by the core: nothing is made
    let said = refused(&folder, &["format", "--size", "1M", "small"]);
    assert!(said.starts_with("small: "), "{said}");
    assert!(!folder.join("small").exists());
}

#[test]
fn a_script_that_fails_says_where_and_keeps_what_was_done() {
    let folder = folder("failing");
    done(&folder, &["format", "--size", "64M", "d.img"]);
    let script = |steps: &str| {
        let text = format!("{{\"format\":\"farrier-script-1\",\"steps\":[{steps}]}}");
        fs::write(folder.join("s"), text).unwrap();
        refused(&folder, &["script", "d.img", "s"])
    };
    let first = r#"{"do":"mkdir","path":"/a#","count":2}"#;
    let missing = script(&format!(r#"{first},{{"do":"unlink","path":"/none"}}"#));
    assert_eq!(missing, "s: step 2: no such file or directory\n");
    assert_eq!(done(&folder, &["ls", "d.img"]).lines().count(), 2);
    let other = script(r#"{"do":"unlink","path":"/none","error":"EEXIST"}"#);
    assert_eq!(other, "s: step 1: no such file or directory\n");
    let none = script(r#"{"do":"sync","error":"EIO"}"#);
    assert_eq!(none, "s: step 1: should have failed with EIO\n");
    let mode = script(r#"{"do":"chmod","path":"/","mode":"rwx"}"#);
    assert_eq!(mode, "s: step 1: rwx is no mode; write it as in \"0755\"\n");
    let much = script(
        r#"{"do":"write","path":"/x","contents":{"text":"0123456789","times":1844674407370955162}}"#,
    );
    assert!(much.contains("writes more than"), "{much}");
    assert!(script(r#"{"do":"fly"}"#).contains("no script: "));
    assert_clean(&folder.join("d.img"));
}

#[test]
fn copies_are_made_written_and_brought_up_to_date() {
    let folder = folder("copies");
    fs::write(folder.join("a.txt"), "one").unwrap();
    for name in ["a.img", "b.img"] {
        fs::File::create(folder.join(name)).unwrap().set_len(64 << 20).unwrap();
    }
    let both = ["--volume", "b.img"];
    let with = |words: &[&'static str]| [words, &both].concat();
    done(&folder, &with(&["format", "--copies", "a.img"]));
    done(&folder, &with(&["copy-in", "a.img", "a.txt", "/"]));
    for image in ["a.img", "b.img"] {
        assert_eq!(done(&folder, &["cat", image, "/a.txt"]), "one", "{image} alone is read");
    }
    // the other one may have gone on meanwhile
    let text = refused(&folder, &["mkdir", "a.img", "/new"]);
    assert!(text.contains("FC-D03") && text.contains("accept-missing"), "{text}");
    done(&folder, &["mkdir", "a.img", "/new", "--accept-missing"]);
    let text = done(&folder, &["ls", "b.img"]);
    assert!(!text.contains("new"), "it was not here: {text}");
    let text = done(&folder, &with(&["ls", "a.img"]));
    assert!(text.contains("new"), "{text}");
    // whatever writes brings up to date what is behind
    done(&folder, &with(&["mkdir", "a.img", "/newer"]));
    let text = done(&folder, &["ls", "b.img"]);
    assert!(text.contains("new") && text.contains("newer"), "{text}");
    done(&folder, &with(&["check", "a.img"]));
    let text = done(&folder, &["ls", "a.img", "--only-copy", "0"]);
    assert!(text.contains("newer"), "{text}");
    let text = refused(&folder, &["mkdir", "a.img", "/x", "--only-copy", "0"]);
    assert!(text.contains("only read"), "{text}");
    // two halves that were written apart
    done(&folder, &["mkdir", "a.img", "/a", "--accept-missing"]);
    done(&folder, &["mkdir", "b.img", "/b", "--accept-missing"]);
    let text = refused(&folder, &with(&["ls", "a.img"]));
    assert!(text.contains("FC-S01") && text.contains("a.img (copy 0)"), "{text}");
}
