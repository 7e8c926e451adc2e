//! Operations give the same answers with a cache that forgets everything, with one that misses at
//! random, and with one that never does; and devices may come in any order.

use farrier_core::drive::run_turn;
use farrier_core::engine::Turn;
use farrier_core::error::{Error, Refusal};
use farrier_core::fs::{LastLink, ListPfs, Lookup, OpenPfs, PathOf, Pfs, ReadDir, Resolve};
use farrier_core::units::Inum;
use farrier_tests::host::{Files, TestHost};
use farrier_tests::images::{shipped, shipped_folder, unpack};
use farrier_tests::walk::walk;

/// What a walk saw, in a form that can be compared.
fn digest(host: &TestHost, label: &str) -> Vec<String> {
    let seen = walk(host, label).unwrap();
    seen.iter().map(|(path, seen)| format!("{path:?} {seen:?}")).collect()
}

/// The largest directory of the image of names: hundreds of them, many with one hash.
fn collide(host: &TestHost) -> (Pfs, Inum) {
    let super_root = host.volume().super_root();
    let pfs = host.run(&OpenPfs { super_root, label: b"DATA".to_vec() }).unwrap();
    let name = b"collide".to_vec();
    (pfs, host.run(&Lookup { pfs, directory: Inum::ROOT, name }).unwrap().inum)
}

#[test]
fn a_cache_of_any_size_gives_the_same_tree() {
    for name in ["links", "sparse", "special-inodes"] {
        let paths = shipped(name);
        let roomy = TestHost::open(&paths, false).unwrap();
        let want = digest(&roomy, "DATA");
        for bytes in [0, 2000, 100_000] {
            let tight = TestHost::over(Files::open(&paths), false, bytes).unwrap();
            assert_eq!(digest(&tight, "DATA"), want, "{name} with a cache of {bytes} bytes");
        }
    }
}

#[test]
fn misses_at_random_change_nothing() {
    let host = TestHost::open(&shipped("names"), false).unwrap();
    let (pfs, directory) = collide(&host);
    let list = ReadDir { pfs, directory, position: 0, limit: 200, with_attributes: true };
    let want = host.run(&list).unwrap();
    for seed in 1..50_u64 {
        let mut turn = Turn::with_misses(seed);
        let got = farrier_core::drive::ready(run_turn(&host, &list, &mut turn)).unwrap();
        assert_eq!(got, want, "SEED={seed}");
    }
}

#[test]
fn wants_come_in_batches() {
    // The attributes of a page are asked for side by side: few runs, however many entries.
    let host = TestHost::over(Files::open(&shipped("names")), false, 0).unwrap();
    let (pfs, directory) = collide(&host);
    let list = ReadDir { pfs, directory, position: 0, limit: 100, with_attributes: true };
    let mut turn = Turn::new();
    let page = farrier_core::drive::ready(run_turn(&host, &list, &mut turn)).unwrap();
    assert!(page.entries.len() == 100, "{} entries", page.entries.len());
    assert!(turn.runs() < 12, "{} runs", turn.runs());
}

#[test]
fn pages_of_any_size_list_the_same_names() {
    let host = TestHost::open(&shipped("names"), false).unwrap();
    let (pfs, directory) = collide(&host);
    let names = |limit| {
        let mut names = Vec::new();
        let mut position = Some(0);
        while let Some(from) = position {
            let list = ReadDir { pfs, directory, position: from, limit, with_attributes: false };
            let page = host.run(&list).unwrap();
            assert_eq!(page.broken, []);
            assert!(page.entries.len() <= limit);
            names.extend(page.entries.into_iter().map(|entry| entry.name));
            position = page.next;
        }
        names
    };
    let whole = names(100_000);
    for limit in [1, 2, 3, 7, 64] {
        assert_eq!(names(limit), whole, "pages of {limit}");
    }
}

#[test]
fn volumes_come_in_any_order_and_none_may_be_missing() {
    let paths = unpack(&shipped_folder(), "empty-multivol");
    let [a, b, c] = &paths[..] else { panic!("three volumes") };
    for order in [[a, b, c], [c, b, a], [b, a, c]] {
        let host = TestHost::open(&order, false).unwrap();
        let list = host.run(&ListPfs { super_root: host.volume().super_root() }).unwrap();
        assert!(!list.entries.is_empty());
    }
    let refusal = |paths: &[&std::path::PathBuf]| match TestHost::open(paths, false) {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let missing = refusal(&[a, c]);
    assert_eq!(missing, Refusal::MissingVolumes { need: 3, given: 2, missing: 1 });
    assert!(matches!(refusal(&[a, b, b]), Refusal::SameVolume { volume: 1, .. }));
    let other = &shipped("empty-64m")[0];
    assert!(matches!(refusal(&[a, b, other]), Refusal::Mixed { .. }));
}

#[test]
fn a_path_leads_to_an_inode_and_back() {
    let host = TestHost::open(&shipped("links"), false).unwrap();
    let super_root = host.volume().super_root();
    let pfs = host.run(&OpenPfs { super_root, label: b"DATA".to_vec() }).unwrap();
    let mut followed = 0;
    for (path, seen) in walk(&host, "DATA").unwrap() {
        let Some(Ok(attributes)) = seen.attributes else { panic!("{path:?}") };
        let back = host.run(&PathOf { pfs, inum: attributes.inum }).unwrap();
        let resolve = Resolve { pfs, path: back, last_link: LastLink::Keep };
        let there = host.run(&resolve).unwrap().attributes;
        assert_eq!(there.inum, attributes.inum, "{}", String::from_utf8_lossy(&path));
        followed += 1;
    }
    assert!(followed > 50, "{followed} paths");
}

#[test]
fn links_are_followed_within_the_tree_and_not_for_ever() {
    let host = TestHost::open(&shipped("links"), false).unwrap();
    let super_root = host.volume().super_root();
    let pfs = host.run(&OpenPfs { super_root, label: b"DATA".to_vec() }).unwrap();
    let (mut followed, mut loops, mut dangling) = (0, 0, 0);
    for (path, seen) in walk(&host, "DATA").unwrap() {
        let Some(Ok(target)) = seen.target else { continue };
        let name = String::from_utf8_lossy(&path).into_owned();
        let kept = Resolve { pfs, path: path.clone(), last_link: LastLink::Keep };
        assert_eq!(
            host.run(&kept).unwrap().attributes,
            seen.attributes.unwrap().unwrap(),
            "{name}"
        );
        match host.run(&Resolve { pfs, path, last_link: LastLink::Follow }) {
            Ok(there) => {
                let again = Resolve { pfs, path: there.path(), last_link: LastLink::Keep };
                assert_eq!(host.run(&again).unwrap(), there, "{name}: names lead through no link");
                followed += 1;
            }
            Err(Error::TooManyLinks) => loops += 1,
            Err(Error::NoEntry | Error::NotDirectory | Error::NameTooLong) => dangling += 1,
            Err(error) => panic!("{name} to {target:?}: {error}"),
        }
    }
    // `dot` and `root` lead somewhere, `sym-loop` to itself.
    assert_eq!((followed, loops), (2, 1));
    assert!(dangling > 20, "{dangling}");
}

#[test]
fn paths_that_lead_nowhere() {
    let host = TestHost::open(&shipped("links"), false).unwrap();
    let super_root = host.volume().super_root();
    let pfs = host.run(&OpenPfs { super_root, label: b"DATA".to_vec() }).unwrap();
    let resolve = |path: &[u8]| {
        host.run(&Resolve { pfs, path: path.to_vec(), last_link: LastLink::Follow })
            .map(|there| there.attributes.inum)
    };
    assert_eq!(resolve(b""), Ok(Inum::ROOT));
    assert_eq!(resolve(b"/../.././"), Ok(Inum::ROOT));
    assert_eq!(resolve(b"/none"), Err(Error::NoEntry));
    assert_eq!(resolve(b"/a/b/../one"), resolve(b"a/one"));
    assert_eq!(resolve(b"/a/one/"), Err(Error::NotDirectory));
    assert_eq!(resolve(&[b'x'; 256]), Err(Error::NameTooLong));
}
