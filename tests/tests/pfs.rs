//! PFSs come, go and are copied; what nothing refers to is freed.

use farrier_core::drive::pfs::{Birth, PfsChange};
use farrier_core::drive::ready;
use farrier_core::error::Error;
use farrier_core::fs::{Create, ListPfs, Lookup, New, Pfs, Unlink, Victim, Write};
use farrier_core::scan::{CheckOptions, FindingKind};
use farrier_core::units::{Inum, Uuid, WallTime};
use farrier_tests::checking::check;
use farrier_tests::host::TestHost;
use farrier_tests::ram::RamDisk;
use farrier_tests::walk::walk;
use farrier_tests::writing::{WritingHost, format_storage};

const NOW: WallTime = WallTime(1_700_000_000_000_000);

type Host = WritingHost<RamDisk>;

fn fresh() -> (Host, Pfs) {
    let disk = RamDisk::new(64 << 20);
    format_storage(&disk);
    let host = WritingHost::open(disk, 16 << 20).unwrap();
    let pfs = host.open_pfs("DATA").unwrap();
    (host, pfs)
}

fn birth(number: u8) -> Birth {
    Birth { cluster_id: Uuid([number; 16]), pfs_id: Uuid([number | 0x80; 16]), now: NOW }
}

fn snapshot(host: &Host, pfs: Pfs, label: &str, number: u8) -> Result<(), Error> {
    let (of, label) = (pfs.id(), label.into());
    host.change_pfs(&PfsChange::Snapshot { of, label, birth: birth(number) })
}

fn file(host: &Host, pfs: Pfs, name: &str, contents: &[u8]) -> Inum {
    let create = Create {
        pfs,
        directory: Inum::ROOT,
        name: name.into(),
        new: New::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        now: NOW,
    };
    let inum = host.change(&create).unwrap().inum;
    host.change(&Write { pfs, inum, offset: Some(0), bytes: contents, now: NOW }).unwrap();
    inum
}

fn unlink(host: &Host, pfs: Pfs, name: &str) {
    let unlink = Unlink {
        pfs,
        directory: Inum::ROOT,
        name: name.into(),
        victim: Victim::File,
        keep: false,
        now: NOW,
    };
    host.change(&unlink).unwrap();
}

fn noise(len: u32) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

/// Bytes that the media has in use and nothing refers to; everything else has to be clean.
fn unreferenced(host: &Host) -> u64 {
    let opened = TestHost::over(host.storage().clone(), false, 16 << 20).unwrap();
    let (findings, _) = check(&opened, CheckOptions::default());
    let mut bytes = 0;
    for finding in findings {
        match finding.kind {
            FindingKind::Unreferenced { bytes: found } => bytes += found,
            _ => panic!("{finding:?}"),
        }
    }
    bytes
}

fn labels(host: &Host) -> Vec<String> {
    let list = host.run(&ListPfs { super_root: host.volume().super_root() }).unwrap();
    list.entries.iter().map(|info| String::from_utf8_lossy(&info.label).into_owned()).collect()
}

fn names(host: &Host, label: &str) -> Vec<String> {
    let opened = TestHost::over(host.storage().clone(), false, 16 << 20).unwrap();
    let seen = walk(&opened, label).unwrap();
    seen.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

#[test]
fn a_snapshot_keeps_what_was_and_can_be_changed_itself() {
    let (host, pfs) = fresh();
    let contents = noise(300_000);
    file(&host, pfs, "kept", &contents);
    file(&host, pfs, "goes", b"short");
    snapshot(&host, pfs, "before", 1).unwrap();
    unlink(&host, pfs, "goes");
    file(&host, pfs, "new", &contents);
    host.flush().unwrap();
    assert_eq!(names(&host, "before"), ["/", "/goes", "/kept"]);
    assert_eq!(names(&host, "DATA"), ["/", "/kept", "/new"]);
    let copy = host.open_pfs("before").unwrap();
    unlink(&host, copy, "kept");
    host.flush().unwrap();
    assert_eq!(names(&host, "before"), ["/", "/goes"]);
    assert_eq!(names(&host, "DATA"), ["/", "/kept", "/new"]);
    unreferenced(&host);
}

#[test]
fn labels_are_unique_and_one_in_use_stays() {
    let (host, pfs) = fresh();
    snapshot(&host, pfs, "snap", 1).unwrap();
    assert_eq!(snapshot(&host, pfs, "snap", 2), Err(Error::Exists));
    assert_eq!(snapshot(&host, pfs, "", 2), Err(Error::InvalidArgument));
    let create = PfsChange::Create { label: b"empty".to_vec(), birth: birth(3) };
    host.change_pfs(&create).unwrap();
    let delete = |label: &str| host.change_pfs(&PfsChange::Delete { label: label.into() });
    assert_eq!(delete("DATA"), Err(Error::Busy));
    assert_eq!(delete("none"), Err(Error::NoPfs));
    let (label, new_label) = (b"snap".to_vec(), b"renamed".to_vec());
    host.change_pfs(&PfsChange::Rename { label, new_label }).unwrap();
    let mut there = labels(&host);
    there.sort();
    assert_eq!(there, ["DATA", "LOCAL", "empty", "renamed"]);
    delete("renamed").unwrap();
    unreferenced(&host);
    assert_eq!(labels(&host).len(), 3);
}

#[test]
fn many_snapshots_fit_and_go() {
    let (host, pfs) = fresh();
    for number in 0..40 {
        file(&host, pfs, &format!("file {number}"), &noise(5000));
        snapshot(&host, pfs, &format!("snapshot {number}"), number + 1).unwrap();
    }
    assert_eq!(labels(&host).len(), 42);
    assert_eq!(names(&host, "snapshot 20").len(), 22);
    unreferenced(&host);
    for number in 0..40 {
        let label = format!("snapshot {number}").into_bytes();
        host.change_pfs(&PfsChange::Delete { label }).unwrap();
    }
    assert!(unreferenced(&host) > 0);
    host.bulkfree(|_| ()).unwrap();
    // what was given back directly takes a few commits more
    for _ in 0..6 {
        host.flush_always(true).unwrap();
    }
    assert_eq!(unreferenced(&host), 0);
    assert_eq!(names(&host, "DATA").len(), 41);
}

#[test]
fn a_scan_frees_what_snapshots_held_and_nothing_that_came_meanwhile() {
    let (host, pfs) = fresh();
    let contents = noise(4_000_000);
    file(&host, pfs, "large", &contents);
    snapshot(&host, pfs, "snap", 1).unwrap();
    unlink(&host, pfs, "large");
    host.flush().unwrap();
    let first = host.bulkfree(|_| ()).unwrap();
    assert!(first.bytes < 1 << 20, "the snapshot still has it: {first:?}");
    host.change_pfs(&PfsChange::Delete { label: b"snap".to_vec() }).unwrap();
    let freed = host
        .bulkfree(|host| {
            for number in 0..10 {
                file(host, pfs, &format!("meanwhile {number}"), &noise(100_000));
                host.flush().unwrap();
            }
            unlink(host, pfs, "meanwhile 3");
            host.flush().unwrap();
        })
        .unwrap();
    assert!(freed.bytes >= 4_000_000, "{freed:?}");
    assert_eq!(freed.corrupt_bytes, 0);
    for _ in 0..6 {
        host.flush_always(true).unwrap();
    }
    assert_eq!(names(&host, "DATA").len(), 10);
    host.bulkfree(|_| ()).unwrap();
    assert_eq!(unreferenced(&host), 0);
    let name = b"meanwhile 5".to_vec();
    assert!(host.run(&Lookup { pfs, directory: Inum::ROOT, name }).is_ok());
}

/// Of two scans at once, the one that began first does not know what the other let happen.
#[test]
fn a_scan_that_another_one_overtook_frees_nothing() {
    let (host, pfs) = fresh();
    file(&host, pfs, "gone", &noise(1_000_000));
    snapshot(&host, pfs, "snap", 1).unwrap();
    unlink(&host, pfs, "gone");
    host.change_pfs(&PfsChange::Delete { label: b"snap".to_vec() }).unwrap();
    let overtaken = host.bulkfree(|host| {
        file(host, pfs, "before", &noise(300_000));
        host.flush().unwrap();
        let inner = host.bulkfree(|host| {
            file(host, pfs, "beside", &noise(200_000));
            host.flush().unwrap();
        });
        assert!(inner.unwrap().bytes >= 1_000_000);
        file(host, pfs, "behind", &noise(100_000));
        host.flush().unwrap();
    });
    assert_eq!(overtaken, Err(Error::Busy));
    unreferenced(&host);
    for _ in 0..6 {
        host.flush_always(true).unwrap();
    }
    host.bulkfree(|_| ()).unwrap();
    for _ in 0..6 {
        host.flush_always(true).unwrap();
    }
    assert_eq!(unreferenced(&host), 0);
    assert_eq!(names(&host, "DATA"), ["/", "/before", "/behind", "/beside"]);
}

/// A snapshot takes little space, but all that was written before it cannot be given back.
#[test]
fn a_full_volume_takes_no_more_snapshots_and_lives_on() {
    let disk = RamDisk::new(32 << 20);
    format_storage(&disk);
    let host = WritingHost::open(disk, 1 << 20).unwrap();
    let pfs = host.open_pfs("DATA").unwrap();
    let small = 300;
    for number in 0..small {
        file(&host, pfs, &format!("{number:0>100}"), b"short");
    }
    let inum = file(&host, pfs, "large", b"");
    let bytes = noise(65_536);
    let is_full = |number: u64| {
        let offset = Some(number * 65_536);
        host.change(&Write { pfs, inum, offset, bytes: &bytes, now: NOW }).is_err()
    };
    assert!((0..10_000).any(is_full));
    let (mut made, mut gone, mut refused) = (0_u16, 0, 0);
    while refused < 8 {
        assert!(made < 2000, "it does not become full");
        // a name that goes leaves tables behind that the snapshot has
        let name = format!("{gone:0>100}").into_bytes();
        let (directory, victim, keep) = (Inum::ROOT, Victim::File, false);
        match host.change(&Unlink { pfs, directory, name, victim, keep, now: NOW }) {
            Ok(_) => gone += 1,
            Err(error) => assert!(error == Error::NoSpace || gone == small, "{error:?}"),
        }
        match snapshot(&host, pfs, &format!("snapshot {made}"), 1) {
            Ok(()) => made += 1,
            Err(Error::NoSpace) => refused += 1,
            Err(error) => panic!("{made} snapshots, {gone} files gone: {error:?}"),
        }
    }
    println!("{made} snapshots, {gone} files gone");
    let empty = PfsChange::Create { label: b"empty".to_vec(), birth: birth(201) };
    assert_eq!(host.change_pfs(&empty), Err(Error::NoSpace));
    host.flush_always(true).unwrap();
    unreferenced(&host);
    // what makes room can be done still
    for number in 0..made {
        let label = format!("snapshot {number}").into_bytes();
        host.change_pfs(&PfsChange::Delete { label }).unwrap();
    }
    unlink(&host, pfs, "large");
    host.flush().unwrap();
    host.bulkfree(|_| ()).unwrap();
    host.change_pfs(&empty).unwrap();
    unreferenced(&host);
}

#[test]
fn a_volume_grows_with_its_device() {
    let (host, pfs) = fresh();
    file(&host, pfs, "before", &noise(500_000));
    host.flush().unwrap();
    let before = host.volume().space();
    let mut bytes = host.storage().bytes();
    drop(host);
    bytes.resize((200 << 20) + 12345, 0);
    let host = WritingHost::open(RamDisk::with(bytes), 16 << 20).unwrap();
    let grown = ready(host.grow(0)).unwrap();
    assert_eq!((grown.from, grown.to), (64 << 20, 200 << 20));
    assert_eq!(grown.freed, 136 << 20);
    let disk = host.storage().clone();
    drop(host);
    let host = WritingHost::open(disk, 16 << 20).unwrap();
    let after = host.volume().space();
    assert_eq!(after.size_bytes - before.size_bytes, 136 << 20);
    assert_eq!(ready(host.grow(0)).unwrap().freed, 0);
    let pfs = host.open_pfs("DATA").unwrap();
    for number in 0..30 {
        file(&host, pfs, &format!("new {number}"), &noise(4_000_000));
        host.flush().unwrap();
    }
    unreferenced(&host);
    assert_eq!(names(&host, "DATA").len(), 32);
}
