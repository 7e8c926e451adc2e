//! The module writes: new file systems, a script of operations, copies in; and only where it may.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use farrier_core::scan::{CheckOptions, FindingKind};
use farrier_tests::checking::{check, second_opinion};
use farrier_tests::host::TestHost;
use farrier_tests::images::scratch;
use farrier_tests::manifest::Manifest;
use farrier_tests::walk::{differences, walk};
use farrier_wasi::report::Report;
use farrier_wasi_runner::{Access, Preopen};

use crate::harness::{runner, text};

/// A new empty folder, and the name of an image in it.
fn place(name: &str) -> (PathBuf, String) {
    let folder = scratch("wasi-module-writing").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let image = text(&folder.join("disk.img"));
    (folder, image)
}

/// Runs a command line with what it is granted: exit code and standard error.
fn run(words: &[&str]) -> (i32, String) {
    let output = runner().run(words, &runner().preopens(words).unwrap()).unwrap();
    (output.code, String::from_utf8(output.stderr).unwrap())
}

fn done(words: &[&str]) {
    assert_eq!(run(words), (0, String::new()), "{words:?}");
}

fn formatted(name: &str) -> (PathBuf, String) {
    let (folder, image) = place(name);
    done(&["format", "--size", "64M", &image]);
    (folder, image)
}

fn assert_clean(image: &str) {
    let host = TestHost::open(&[image], false).unwrap();
    let (mut findings, _) = check(&host, CheckOptions::default());
    // what was replaced waits for its space to be used again
    findings.retain(|finding| !matches!(finding.kind, FindingKind::Unreferenced { .. }));
    assert!(findings.is_empty(), "{findings:#?}");
    second_opinion(Path::new(image));
}

#[test]
fn the_script_leaves_what_its_manifest_says() {
    let (_, image) = formatted("script");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    let script = text(&tests.canonicalize().unwrap().join("script.json"));
    let answer = runner().ask(&["script", &image, &script]).unwrap();
    assert_eq!((answer.code, &*answer.stderr), (0, ""));
    assert!(matches!(answer.reports[..], [Report::Done { steps }] if steps > 600));
    assert_clean(&image);
    let manifest = fs::read(tests.join("script-manifest.json")).unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    let host = TestHost::open(&[&image], false).unwrap();
    let mut count = 0;
    for (label, tree) in &manifest.pfs {
        let seen = walk(&host, label).unwrap();
        assert_eq!(seen.len(), tree.entries.len(), "{label}");
        for entry in &tree.entries {
            let found = &seen[&entry.path_bytes()];
            assert_eq!(differences(entry, found), [""; 0], "{label}: {}", entry.path);
            count += 1;
        }
    }
    println!("{count} entries are as they shall be");
}

#[test]
fn what_goes_in_comes_out_again() {
    let (folder, image) = formatted("copies");
    let source = folder.join("from/source");
    fs::create_dir_all(source.join("sub")).unwrap();
    let noise: Vec<u8> = (0..900_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    fs::write(source.join("sub/long"), &noise).unwrap();
    std::os::unix::fs::symlink("sub/long", source.join("link")).unwrap();
    File::create(source.join("sparse")).unwrap().set_len(30 << 20).unwrap();
    let (from, back) = (text(&source), text(&folder.join("back")));
    done(&["copy-in", &image, &from, &text(&source.join("sub/long")), "/"]);
    assert_clean(&image);
    done(&["copy-out", &image, "/source", &back]);
    let back = folder.join("back");
    assert!(fs::read(back.join("sub/long")).unwrap() == noise);
    assert_eq!(fs::read_link(back.join("link")).unwrap(), Path::new("sub/long"));
    for name in ["sparse", "sub/long", "sub"] {
        let time = |folder: &Path| {
            let time = fs::metadata(folder.join(name)).unwrap().modified().unwrap();
            time.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros()
        };
        assert_eq!(time(&back), time(&source), "{name}");
    }
    done(&["rm", "-R", &image, "/source"]);
    done(&["snapshot", &image, "kept"]);
    done(&["rm", &image, "/long"]);
    done(&["bulkfree", &image]);
    assert_clean(&image);
    let answer = runner().ask(&["ls", &format!("{image}@kept")]).unwrap();
    assert_eq!(answer.entries().count(), 1);
}

#[test]
fn copies_are_written_and_brought_up_to_date() {
    let (folder, a) = place("copies-of-a-volume");
    let b = text(&folder.join("other.img"));
    for image in [&a, &b] {
        File::create(image).unwrap().set_len(64 << 20).unwrap();
    }
    done(&["format", "--copies", &a, "--volume", &b]);
    done(&["mkdir", &a, "/both", "--volume", &b]);
    let (code, said) = run(&["mkdir", &b, "/alone"]);
    assert!(code == 1 && said.contains("FC-D03"), "{said}");
    done(&["mkdir", &b, "/alone", "--accept-missing"]);
    done(&["mkdir", &a, "/again", "--volume", &b]);
    for image in [&a, &b] {
        let answer = runner().ask(&["ls", image]).unwrap();
        assert_eq!(answer.entries().count(), 3, "{image} holds all of it by itself");
    }
    done(&["check", &a, "--volume", &b]);
}

#[test]
fn ids_are_random() {
    let id = |name: &str| {
        let (_, image) = place(name);
        let answer = runner().ask(&["format", "--size", "64M", &image]).unwrap();
        match &answer.reports[..] {
            [Report::Formatted(formatted)] => formatted.id.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_ne!(id("first"), id("second"));
}

#[test]
fn volumes_are_granted_for_writing_to_commands_that_write_only() {
    let (folder, image) = formatted("grants");
    fs::create_dir(folder.join("source")).unwrap();
    let (here, source) = (text(&folder), text(&folder.join("source")));
    let access = |words: &[&str]| -> Vec<_> {
        let preopens = runner().preopens(words).unwrap();
        preopens.into_iter().map(|preopen| (preopen.guest, preopen.access)).collect()
    };
    let read = [(here.clone(), Access::Read)];
    let write = [(here.clone(), Access::Write)];
    for words in [&["ls", &image][..], &["pfs", &image], &["pfs", "list", &image]] {
        assert_eq!(access(words), read, "{words:?}");
    }
    for words in [
        &["mkdir", &image, "/x"][..],
        &["bulkfree", &image],
        &["pfs", "create", &image, "x"],
        &["format", "--size", "1G", &text(&folder.join("new.img"))],
    ] {
        assert_eq!(access(words), write, "{words:?}");
    }
    let copy = access(&["copy-in", &image, &source, "/"]);
    assert_eq!(copy, [(here, Access::Write), (source, Access::Read)]);
}

#[test]
fn a_volume_that_is_granted_to_read_is_not_written() {
    let (folder, image) = formatted("read-only");
    let before = fs::read(&image).unwrap();
    let grants = [Preopen { host: folder, guest: ".".to_owned(), access: Access::Read }];
    for words in [
        &["mkdir", "disk.img", "/x"][..],
        &["format", "-f", "disk.img"],
        &["pfs", "create", "disk.img", "x"],
        &["format", "--size", "64M", "new.img"],
    ] {
        let output = runner().run(words, &grants).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.code, said.lines().count()), (1, 1), "{words:?}: {said}");
    }
    assert!(fs::read(&image).unwrap() == before);
}

#[test]
fn a_volume_that_another_program_writes_is_left_alone() {
    let (_, image) = formatted("locked");
    let held = File::open(&image).unwrap();
    held.lock().unwrap();
    let refused = runner().ask(&["mkdir", &image, "/x"]).unwrap_err().to_string();
    let expected = "disk.img: another program has it locked for itself; wait until that is done";
    assert!(refused.ends_with(expected), "{refused}");
    assert_eq!(runner().ask(&["ls", &image]).unwrap().code, 0, "to read it is no harm");
    drop(held);
    done(&["mkdir", &image, "/x"]);
}
