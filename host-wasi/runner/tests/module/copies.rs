//! Copies out of a volume: contents, holes, links and times, and never over anything.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use farrier_tests::images::{all_golden, manifest, scratch, shipped, shipped_folder, unpack};
use sha2::{Digest, Sha256};

use crate::harness::{Image, hex, text};

const BLOCK: usize = 64 << 10;

/// A new empty directory.
fn empty(name: &str) -> PathBuf {
    let folder = scratch("wasi-copies").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The hash of the manifests that leaves blocks of zeros out.
fn sparse_hash(file: &Path) -> String {
    let mut file = File::open(file).unwrap();
    let mut hash = Sha256::new();
    let zeros = vec![0; BLOCK];
    let mut offset = 0_u64;
    loop {
        let mut block = Vec::with_capacity(BLOCK);
        let len = Read::by_ref(&mut file).take(BLOCK as u64).read_to_end(&mut block).unwrap();
        if len == 0 {
            return hex(&hash.finalize());
        }
        block.resize(BLOCK, 0);
        if block != zeros {
            hash.update(offset.to_le_bytes());
            hash.update(&block);
        }
        offset += BLOCK as u64;
    }
}

#[test]
fn copies_of_whole_images() {
    let mut files = 0;
    for (folder, name) in all_golden() {
        let wanted = ["sparse", "small-files", "comp-zlib", "big", "multivol", "deep"];
        if !wanted.contains(&&*name) {
            continue;
        }
        let image = Image::new(&unpack(&folder, &name));
        let out = empty(&name);
        let copied = image.run(Some("DATA"), &["copy-out", "@", "/", &text(&out)]).unwrap();
        let said = String::from_utf8(copied.stderr).unwrap();
        for entry in &manifest(&folder, &name).pfs["DATA"].entries {
            let copy = out.join(entry.path.trim_start_matches('/'));
            let about = fs::symlink_metadata(&copy);
            match &*entry.kind {
                "file" => {
                    let about = about.unwrap_or_else(|e| panic!("{}: {e}", copy.display()));
                    assert_eq!(Some(about.len()), entry.size, "{}", copy.display());
                    let mtime = about.mtime() * 1_000_000 + about.mtime_nsec() / 1000;
                    assert_eq!(Some(mtime.cast_unsigned()), entry.mtime_us);
                    if let Some(wanted) = &entry.sparse_sha256 {
                        assert_eq!(*wanted, sparse_hash(&copy), "{}", copy.display());
                    } else if let Some(wanted) = &entry.sha256 {
                        let hash = hex(&Sha256::digest(fs::read(&copy).unwrap()));
                        assert_eq!(*wanted, hash, "{}", copy.display());
                    }
                    files += 1;
                }
                "dir" => assert!(about.unwrap().is_dir()),
                "symlink" => {
                    let target = entry.target.as_deref().unwrap();
                    assert_eq!(fs::read_link(&copy).unwrap(), Path::new(target));
                }
                _ => {
                    assert!(about.is_err());
                    assert!(said.contains("cannot be made inside a sandbox; not copied"));
                }
            }
        }
        assert_eq!(copied.code, i32::from(!said.is_empty()), "{name}: {said}");
        if name == "sparse" {
            let blocks: u64 = fs::read_dir(&out)
                .unwrap()
                .map(|entry| entry.unwrap().metadata().unwrap().blocks())
                .sum();
            // of 9 GiB that it pretends to have
            assert!(blocks * 512 < 64 << 20, "holes were filled: {blocks} blocks");
        }
        fs::remove_dir_all(&out).unwrap();
    }
    println!("{files} files");
    assert!(files > 50);
}

#[test]
fn what_a_sandbox_cannot_make_is_named_and_the_rest_is_copied() {
    let image = Image::new(&shipped("links"));
    let out = empty("links");
    let copied = image.run(None, &["copy-out", "@", "/", &text(&out)]).unwrap();
    let said = String::from_utf8(copied.stderr).unwrap();
    assert_eq!(copied.code, 1);
    for sentence in [
        "/bin: its target is not UTF-8, which WASI asks for; not copied",
        "/fifo: a fifo cannot be made inside a sandbox; not copied",
        "/root: the sandbox makes no link with an absolute target; not copied",
    ] {
        assert!(said.contains(sentence), "{said}");
    }
    let mut made = 0;
    for entry in &manifest(&shipped_folder(), "links").pfs["DATA"].entries {
        let copy = fs::symlink_metadata(out.join(entry.path.trim_start_matches('/')));
        let is_named = said.contains(&format!(": {}: ", entry.path));
        assert_eq!(copy.is_err(), is_named, "{}: {said}", entry.path);
        made += usize::from(!is_named);
    }
    assert!(made > 80, "{made}");
}

#[test]
fn nothing_is_overwritten() {
    let image = Image::new(&shipped("d-base1"));
    let out = empty("taken");
    let there = out.join("text-300k");
    fs::write(&there, "mine").unwrap();
    let copied = image.run(None, &["copy-out", "@", "/text-300k", &text(&there)]).unwrap();
    let said = String::from_utf8(copied.stderr).unwrap();
    assert_eq!(copied.code, 1);
    assert!(said.ends_with("text-300k: is there already, and nothing is overwritten\n"), "{said}");
    let copied = image.run(None, &["copy-out", "@", "/", &text(&out)]).unwrap();
    assert_eq!(copied.code, 1);
    assert_eq!(fs::read(&there).unwrap(), b"mine");
    assert!(out.join("dir/f1").exists(), "the rest is copied");
}

#[test]
fn a_copy_gets_the_name_that_it_is_given_or_its_own_in_a_directory() {
    let image = Image::new(&shipped("d-base1"));
    let out = empty("named");
    for (path, destination, made) in [
        ("/dir", out.join("new"), "new/f1"),
        ("/dir", out.clone(), "dir/f1"),
        ("/dir/f1", out.join("file"), "file"),
        ("/dir/f1", out.clone(), "f1"),
    ] {
        let copied = image.run(None, &["copy-out", "@", path, &text(&destination)]).unwrap();
        let said = String::from_utf8(copied.stderr).unwrap();
        assert_eq!((copied.code, &*said), (0, ""));
        assert!(out.join(made).is_file(), "{made}");
    }
}
