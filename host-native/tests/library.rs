//! The library by itself: paths, blocks that many want at once, read-ahead.

#![allow(missing_docs, reason = "tests")]

use std::sync::{Arc, Barrier};

use farrier::image::{Image, Options};
use farrier::tree::{LastLink, Tree};
use farrier_core::drive::Host;
use farrier_core::engine::{Block, Want};
use farrier_core::error::Error;
use farrier_core::fs::{Extent, ReadAhead};
use farrier_core::media::inode::ObjectKind;
use farrier_tests::images::{manifest, shipped, shipped_folder};

fn open(name: &str, options: &Options) -> Tree {
    let image = Image::open(&shipped(name), options).unwrap();
    image.tree(None).unwrap()
}

#[test]
fn paths_are_walked_as_everywhere() {
    let tree = open("links", &Options::default());
    let kind = |path: &str| {
        tree.resolve(path.as_bytes(), LastLink::Follow).map(|attributes| attributes.kind)
    };
    assert_eq!(kind(""), Ok(ObjectKind::Directory));
    assert_eq!(kind("//a/./b/../../a"), Ok(ObjectKind::Directory));
    assert_eq!(kind("/.."), Ok(ObjectKind::Directory), "the root is its own parent");
    assert_eq!(kind("big"), Ok(ObjectKind::Regular));
    assert_eq!(kind("big/"), Err(Error::NotDirectory));
    assert_eq!(kind("big/x"), Err(Error::NotDirectory));
    assert_eq!(kind("none"), Err(Error::NoEntry));
    // dangling links and loops among them
    let wanted = manifest(&shipped_folder(), "links");
    for entry in wanted.pfs["DATA"].entries.iter().filter(|entry| entry.kind == "symlink") {
        let path = entry.path_bytes();
        let link = tree.resolve(&path, LastLink::Keep).unwrap();
        assert_eq!(Some(tree.read_link(link.inum).unwrap()), entry.target_bytes());
        // wherever it leads to, it comes to an end
        let _ = tree.resolve(&path, LastLink::Follow);
    }
}

#[test]
fn a_path_is_found_for_every_number() {
    let tree = open("small-files", &Options::default());
    for entry in &manifest(&shipped_folder(), "small-files").pfs["DATA"].entries {
        let found = tree.resolve(&entry.path_bytes(), LastLink::Keep).unwrap();
        let path = tree.path_of(found.inum).unwrap();
        // another of its names may come first
        assert_eq!(tree.resolve(&path, LastLink::Keep).unwrap().inum, found.inum);
    }
}

#[test]
fn a_block_that_many_want_at_once_is_one_block() {
    let tree = open("small-files", &Options::default());
    let blocks = tree.image().blocks();
    let want = Want::of(tree.pfs().root()).unwrap();
    const THREADS: usize = 8;
    let barrier = Barrier::new(THREADS);
    let got: Vec<Block> = std::thread::scope(|scope| {
        let run = || {
            barrier.wait();
            blocks.get(&want).unwrap()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(got.iter().all(|block| Arc::ptr_eq(block, &got[0])), "each of them read it");
}

#[test]
fn advice_brings_a_block_into_memory_and_no_threads_take_none() {
    use farrier_core::engine::Cache;
    for (ahead_threads, is_read) in [(2, true), (0, false)] {
        let options = Options { ahead_threads, ..Options::default() };
        let image = Image::open(&shipped("links"), &options).unwrap();
        let want = Want::of(&image.volume().super_root()).unwrap();
        let blocks = image.blocks();
        blocks.advise(vec![want]);
        let is_there = (0..if is_read { 2000 } else { 20 }).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            blocks.peek(want.id()).is_some()
        });
        assert_eq!(is_there, is_read);
    }
}

#[test]
fn the_smallest_cache_makes_slow_and_never_wrong() {
    let options = Options { cache_bytes: 0, ahead_threads: 1, ..Options::default() };
    let (small, large) = (open("small-files", &options), open("small-files", &Options::default()));
    for entry in &manifest(&shipped_folder(), "small-files").pfs["DATA"].entries {
        if entry.kind == "file" {
            let read = |tree: &Tree| -> Vec<Extent> {
                let file = tree.resolve(&entry.path_bytes(), LastLink::Keep).unwrap();
                tree.read(file.inum, 0, 1 << 20, &mut ReadAhead::default()).unwrap()
            };
            assert_eq!(read(&small), read(&large), "{}", entry.path);
        }
    }
}
