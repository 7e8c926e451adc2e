//! What the module tells of golden images is what their manifests say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use farrier_tests::images::{all_golden, manifest, unpack};
use farrier_tests::manifest::Tree;
use farrier_wasi::report::{Entry, Report};

use crate::harness::{Image, differences};

/// Larger files are read by the test of copies.
const CAT_MAX: u64 = 256 << 20;

#[derive(Debug, Default)]
struct Compared {
    entries: usize,
    files: usize,
    bytes: u64,
}

#[test]
fn every_entry_of_every_image() {
    let mut compared = Compared::default();
    let mut differ = Vec::new();
    let images = all_golden();
    for (folder, name) in &images {
        let image = Image::new(&unpack(folder, name));
        for (label, tree) in &manifest(folder, name).pfs {
            let found = compare(&image, label, tree, &mut compared);
            differ.extend(found.into_iter().map(|text| format!("{name}@{label}: {text}")));
        }
    }
    println!("{} images: {compared:?}", images.len());
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

fn compare(image: &Image, label: &str, tree: &Tree, compared: &mut Compared) -> Vec<String> {
    let mut seen = BTreeMap::new();
    for words in [&["stat", "@"][..], &["ls", "-lR", "@"]] {
        let answer = image.ask(Some(label), words);
        let answer = answer.unwrap_or_else(|error| panic!("{label}: {error}"));
        assert_eq!((answer.code, &*answer.stderr), (0, ""), "{label}: {words:?}");
        let entries = answer.entries().cloned();
        seen.extend(entries.map(|entry| (entry.path.as_bytes().to_vec(), entry)));
    }
    let mut differ = Vec::new();
    let mut files: Vec<(&Entry, &str)> = Vec::new();
    let mut missing = Vec::new();
    for wanted in &tree.entries {
        compared.entries += 1;
        let Some(entry) = seen.get(&wanted.path_bytes()) else {
            missing.push(format!("{} is missing", wanted.path));
            continue;
        };
        let found = differences(wanted, entry);
        differ.extend(found.into_iter().map(|text| format!("{}: {text}", wanted.path)));
        if let Some(hash) = wanted.sha256.as_deref().filter(|_| wanted.size <= Some(CAT_MAX)) {
            files.push((entry, hash));
        }
    }
    if seen.len() != tree.entries.len() {
        differ.push(format!("{} entries, not {}", seen.len(), tree.entries.len()));
    }
    let numbers: Vec<_> = files
        .iter()
        .map(|(entry, _)| (entry.inum, entry.attributes.map_or(0, |a| a.size)))
        .collect();
    for ((entry, wanted), seen) in files.iter().zip(image.hashes(label, &numbers)) {
        if *wanted != seen {
            differ.push(format!("{}: other contents", entry.path));
        }
    }
    compared.files += files.len();
    compared.bytes += numbers.iter().map(|(_, size)| size).sum::<u64>();
    differ.extend(missing);
    differ
}

#[test]
fn names_that_no_command_line_carries_are_listed_whole() {
    let image = Image::new(&farrier_tests::images::shipped("names"));
    let answer = image.ask(None, &["ls", "-R", "@"]).unwrap();
    let odd = answer.entries().filter(|entry| str::from_utf8(entry.path.as_bytes()).is_err());
    assert!(odd.count() > 0);
    let json = image.run(None, &["ls", "-R", "@", "--json"]).unwrap();
    let json = String::from_utf8(json.stdout).unwrap();
    assert!(json.contains(r#""path":{"hex":"#));
    let shown = image.run(None, &["ls", "-R", "@"]).unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.lines().all(|line| !line.chars().any(char::is_control)));
}

#[test]
fn the_headers_and_volumes_of_a_file_system() {
    let image = Image::new(&farrier_tests::images::shipped("empty-multivol"));
    let answer = image.ask(None, &["info", "@"]).unwrap();
    let [Report::FileSystem(about)] = &answer.reports[..] else {
        panic!("{:?}", answer.reports);
    };
    let sizes: Vec<_> = about.volumes.iter().map(|volume| volume.size >> 20).collect();
    assert_eq!(sizes, [1024, 2048, 72]);
    assert_eq!(about.headers.iter().filter(|header| header.is_chosen).count(), 3);
}

#[test]
fn a_missing_volume_is_named_and_their_order_does_not_matter() {
    let mut files = farrier_tests::images::shipped("empty-multivol");
    let run = |files: &[PathBuf]| {
        let output = Image::new(files).run(None, &["ls", "@"]).unwrap();
        (output.code, String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&files[..1]);
    let expected = "the file system needs 3 volumes, 1 given; add the device with volume 1\n";
    assert_eq!(code, 1);
    assert!(said.ends_with(&format!("empty-multivol.vol0.img: {expected}")), "{said}");
    let (code, said) = run(&[files[0].clone(), files[0].clone(), files[2].clone()]);
    assert_eq!(code, 1);
    assert!(said.contains("is volume 0, which was given already"), "{said}");
    files.reverse();
    assert_eq!(run(&files), (0, String::new()));
}

#[test]
fn every_pfs_is_listed_and_a_label_is_asked_for_where_none_goes_without_saying() {
    let image = Image::new(&farrier_tests::images::shipped("pfs-snapshots"));
    let answer = image.ask(None, &["pfs", "@"]).unwrap();
    let mut labels: Vec<_> = answer
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::Pfs(pfs) => Some((pfs.label.to_string(), pfs.is_snapshot)),
            _ => None,
        })
        .collect();
    labels.sort();
    let snapshots: Vec<_> = labels.iter().filter(|(_, is)| *is).map(|(l, _)| &**l).collect();
    assert_eq!(labels.len(), 6);
    assert_eq!(snapshots, ["BETA.snap1", "BETA.snap2"]);
    let output = image.run(None, &["ls", "@"]).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.code, 1);
    assert!(said.contains("which PFS is meant? Write DEVICE@LABEL with one of ALPHA,"), "{said}");
}

#[test]
fn paths_lead_through_links_and_stat_stops_at_them() {
    let image = Image::new(&farrier_tests::images::shipped("d-base1"));
    let cat = image.run(None, &["cat", "@", "/link"]).unwrap();
    let direct = image.run(None, &["cat", "@", "dir/../dir/f1"]).unwrap();
    assert_eq!((cat.code, cat.stdout), (0, direct.stdout));
    let stat = image.run(None, &["stat", "@", "link"]).unwrap();
    assert!(stat.stdout.starts_with(b"/link -> dir/f1\n"));
    let tree = image.run(None, &["tree", "@", "dir"]).unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.starts_with("/dir\n├── f0\n├── f1\n"), "{tree}");
}

#[test]
fn a_typed_listing() {
    let files = farrier_tests::images::shipped("d-base1");
    let entries = crate::harness::runner().list(&files[0], "/dir").unwrap();
    let names: Vec<_> = entries.iter().map(|entry| entry.path.to_string()).collect();
    assert_eq!(names[..2], ["/dir/f0", "/dir/f1"]);
    assert!(entries.iter().all(|entry| entry.attributes.is_some()));
    let failure = crate::harness::runner().list(Path::new("no/image"), "/").unwrap_err();
    assert_eq!(failure.to_string(), "no/image: no such file or directory");
}
