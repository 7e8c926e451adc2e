//! Writing through the core: what was written is there, on media that checkers accept.

use farrier_core::error::Error;
use farrier_core::fs::{
    Allocate, Allocation, Clash, CopyRange, Create, Extent, GetAttributes, Link, Lookup, New, Pfs,
    Read, Rename, SetAttributes, Unlink, Victim, Write,
};
use farrier_core::scan::{CheckOptions, FindingKind};
use farrier_core::units::{Inum, WallTime};
use farrier_tests::checking::check;
use farrier_tests::host::TestHost;
use farrier_tests::ram::{Event, RamDisk};
use farrier_tests::walk::walk;
use farrier_tests::writing::{WritingHost, format_storage};

const NOW: WallTime = WallTime(1_700_000_000_000_000);

type Host = WritingHost<RamDisk>;

fn fresh(len: usize) -> (Host, Pfs) {
    let disk = RamDisk::new(len);
    format_storage(&disk);
    let host = WritingHost::open(disk, 16 << 20).unwrap();
    let pfs = host.open_pfs("DATA").unwrap();
    (host, pfs)
}

fn create(host: &Host, pfs: Pfs, directory: Inum, name: &str, new: New) -> Inum {
    let create = Create {
        pfs,
        directory,
        name: name.into(),
        new,
        mode: 0o644,
        uid: 1000,
        gid: 100,
        now: NOW,
    };
    host.change(&create).unwrap().inum
}

fn write(host: &Host, pfs: Pfs, inum: Inum, offset: u64, bytes: &[u8]) {
    host.change(&Write { pfs, inum, offset: Some(offset), bytes, now: NOW }).unwrap();
}

fn read(host: &Host, pfs: Pfs, inum: Inum) -> Vec<u8> {
    let mut bytes = Vec::new();
    let len = 8 << 20;
    for extent in host.run(&Read { pfs, inum, offset: 0, len, ahead: 0 }).unwrap() {
        match extent {
            Extent::Zeros(len) => bytes.resize(bytes.len() + len, 0),
            Extent::Bytes(block, range) => bytes.extend_from_slice(&block[range]),
        }
    }
    bytes
}

/// The image as it is on media has nothing that a checker finds.
fn assert_clean(host: &Host) {
    let opened = TestHost::over(host.storage().clone(), false, 16 << 20).unwrap();
    let (mut findings, _) = check(&opened, CheckOptions::default());
    // what was replaced waits for its space to be used again
    findings.retain(|finding| !matches!(finding.kind, FindingKind::Unreferenced { .. }));
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn what_was_written_is_there_before_and_after_a_flush() {
    let (host, pfs) = fresh(64 << 20);
    let directory = create(&host, pfs, Inum::ROOT, "directory", New::Directory);
    let short = create(&host, pfs, directory, "short", New::File);
    write(&host, pfs, short, 0, b"short");
    let long = create(
        &host,
        pfs,
        directory,
        "a name that is longer than sixty-four bytes, so that it needs a block of its own on media",
        New::File,
    );
    let contents: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    write(&host, pfs, long, 0, &contents);
    write(&host, pfs, long, 100_000, b"patched");
    let mut expected = contents;
    expected[100_000..100_007].copy_from_slice(b"patched");
    for _ in 0..2 {
        assert_eq!(read(&host, pfs, short), b"short");
        assert!(read(&host, pfs, long) == expected);
        host.flush().unwrap();
        assert_clean(&host);
    }
    assert_eq!(host.run(&Lookup { pfs, directory, name: b"short".to_vec() }).unwrap().inum, short);
}

#[test]
fn many_names_come_and_go() {
    let (host, pfs) = fresh(128 << 20);
    let directory = create(&host, pfs, Inum::ROOT, "many", New::Directory);
    for number in 0..3000 {
        let inum = create(&host, pfs, directory, &format!("file {number}"), New::File);
        write(&host, pfs, inum, 0, format!("contents of {number}").as_bytes());
        if number % 700 == 0 {
            host.flush().unwrap();
        }
    }
    host.flush().unwrap();
    assert_clean(&host);
    for number in 0..3000 {
        if number % 3 != 0 {
            let name = format!("file {number}").into_bytes();
            let victim = Victim::File;
            host.change(&Unlink { pfs, directory, name, victim, keep: false, now: NOW }).unwrap();
        }
    }
    host.flush().unwrap();
    assert_clean(&host);
    for number in (0..3000).step_by(3) {
        let name = format!("file {number}").into_bytes();
        let found = host.run(&Lookup { pfs, directory, name }).unwrap();
        assert_eq!(read(&host, pfs, found.inum), format!("contents of {number}").as_bytes());
    }
}

#[test]
fn names_links_and_sizes() {
    let (host, pfs) = fresh(64 << 20);
    let a = create(&host, pfs, Inum::ROOT, "a", New::Directory);
    let b = create(&host, pfs, a, "b", New::Directory);
    let file = create(&host, pfs, b, "file", New::File);
    host.change(&Link { pfs, inum: file, directory: a, name: b"link".to_vec(), now: NOW }).unwrap();
    assert_eq!(host.run(&GetAttributes { pfs, inum: file }).unwrap().nlinks, 2);
    host.flush().unwrap();
    let rename = |from: Inum, name: &str, to: Inum, new_name: &str, clash| {
        host.change(&Rename {
            pfs,
            directory: from,
            name: name.into(),
            new_directory: to,
            new_name: new_name.into(),
            clash,
            keep: false,
            now: NOW,
        })
    };
    assert_eq!(rename(Inum::ROOT, "a", b, "loop", Clash::Replace), Err(Error::InvalidArgument));
    rename(a, "b", Inum::ROOT, "c", Clash::Replace).unwrap();
    rename(Inum::ROOT, "c", Inum::ROOT, "a", Clash::Exchange).unwrap();
    assert_eq!(rename(Inum::ROOT, "a", Inum::ROOT, "c", Clash::Refuse), Err(Error::Exists));
    assert_eq!(rename(Inum::ROOT, "a", Inum::ROOT, "c", Clash::Replace), Err(Error::NotEmpty));
    let found = host.run(&Lookup { pfs, directory: Inum::ROOT, name: b"a".to_vec() }).unwrap();
    assert_eq!(found.inum, b);
    write(&host, pfs, file, 300_000, b"end");
    host.flush().unwrap();
    assert_clean(&host);
    let size = Some(100_000);
    let attributes =
        host.change(&SetAttributes { size, ..SetAttributes::new(pfs, file, NOW) }).unwrap();
    assert_eq!(attributes.size, 100_000);
    host.flush().unwrap();
    assert_clean(&host);
    assert!(read(&host, pfs, file) == vec![0; 100_000]);
}

#[test]
fn a_volume_with_one_header_survives_a_torn_one() {
    let (host, pfs) = fresh(64 << 20);
    create(&host, pfs, Inum::ROOT, "first", New::File);
    host.flush().unwrap();
    let before = host.storage().bytes();
    create(&host, pfs, Inum::ROOT, "second", New::File);
    host.flush().unwrap();
    let after = host.storage().bytes();
    for sectors in (1..128).step_by(6) {
        // the first or the last sectors of the new header came to the medium
        for is_head in [true, false] {
            let mut torn = after.clone();
            let kept = if is_head { sectors * 512..65536 } else { 0..65536 - sectors * 512 };
            torn[kept.clone()].copy_from_slice(&before[kept]);
            let opened = TestHost::over(RamDisk::with(torn), false, 16 << 20);
            let seen = walk(&opened.expect("the shadow stands for it"), "DATA").unwrap();
            assert!(seen.contains_key(&b"/first"[..]), "{sectors} {is_head}");
        }
    }
    // what other tools wrote since, the shadow does not stand for
    let mut foreign = after.clone();
    foreign[0x78] += 2;
    assert!(TestHost::over(RamDisk::with(foreign), false, 16 << 20).is_err());
}

#[test]
fn a_copy_ends_where_files_end() {
    let (host, pfs) = fresh(64 << 20);
    let file = create(&host, pfs, Inum::ROOT, "file", New::File);
    write(&host, pfs, file, 0, &[1; 200_000]);
    let copy = |source: Inum, target: Inum, target_offset| {
        let (source_offset, len) = (0, u64::MAX);
        let now = NOW;
        host.change(&CopyRange { pfs, source, source_offset, target, target_offset, len, now })
    };
    let other = create(&host, pfs, Inum::ROOT, "other", New::File);
    let last = i64::MAX as u64;
    for offset in [u64::MAX, !0xffff, last, last & !0xffff] {
        assert_eq!(copy(file, file, offset), Err(Error::FileTooLarge), "{offset:#x}");
        assert_eq!(copy(file, other, offset), Err(Error::FileTooLarge), "{offset:#x}");
    }
    assert_eq!(copy(file, file, 1), Err(Error::InvalidArgument));
    let empty = CopyRange {
        pfs,
        source: other,
        source_offset: u64::MAX,
        target: other,
        target_offset: u64::MAX,
        len: 1,
        now: NOW,
    };
    assert_eq!(host.change(&empty), Ok(0));
}

#[test]
fn a_volume_with_one_header_survives_two_torn_ones() {
    let (host, pfs) = fresh(64 << 20);
    create(&host, pfs, Inum::ROOT, "first", New::File);
    host.flush().unwrap();
    let (before, torn) = (host.storage().bytes(), host.storage().fork());
    create(&host, pfs, Inum::ROOT, "second", New::File);
    host.flush().unwrap();
    // the blocks and the shadow of the second commit came to the medium, and a part of its header
    for (offset, page) in host.storage().pages() {
        torn.patch(offset, &page);
    }
    torn.patch(512, &before[512..65536]);
    let host = WritingHost::open(torn, 1 << 20).unwrap();
    let pfs = host.open_pfs("DATA").unwrap();
    let disk = host.storage().fork();
    host.storage().record();
    create(&host, pfs, Inum::ROOT, "third", New::File);
    host.flush().unwrap();
    // power goes again, before each of its writes, or when the next one is half done
    for event in host.storage().events() {
        for part in [0, 1, 2] {
            if let Event::Write { offset, bytes, .. } = &event {
                disk.patch(*offset, &bytes[..bytes.len() * part / 2]);
            }
            let opened = TestHost::over(disk.fork(), false, 1 << 20).expect("a header is whole");
            let seen = walk(&opened, "DATA").unwrap();
            assert!(seen.contains_key(&b"/second"[..]));
        }
    }
}

/// Where a page of the device begins with `bytes`.
fn find(host: &Host, bytes: &[u8]) -> u64 {
    let pages = host.storage().pages();
    let found = pages.iter().find_map(|(offset, page)| {
        let at = page.chunks(1024).position(|chunk| chunk.starts_with(bytes))?;
        Some(offset + at as u64 * 1024)
    });
    found.expect("it lies on the device")
}

#[test]
fn what_others_left_behind_the_end_of_a_file_never_shows() {
    for case in 0..7 {
        let (host, pfs) = fresh(64 << 20);
        let file = create(&host, pfs, Inum::ROOT, "file", New::File);
        let raw = SetAttributes {
            compression_request: Some(0),
            check_request: Some(0),
            ..SetAttributes::new(pfs, file, NOW)
        };
        host.change(&raw).unwrap();
        let other = create(&host, pfs, Inum::ROOT, "other", New::File);
        write(&host, pfs, other, 0, &[9; 300_000]);
        let contents: Vec<u8> = (0..700_u32).flat_map(|n| (n + 1).to_le_bytes()).collect();
        write(&host, pfs, file, 0, &contents);
        host.flush().unwrap();
        let at = find(&host, &contents[..1024]);
        // no check code tells of it
        host.storage().patch(at + contents.len() as u64, &[0xee; 1000]);
        let host = WritingHost::open(host.storage().clone(), 1 << 20).unwrap();
        let pfs = host.open_pfs("DATA").unwrap();
        let mut expected = contents.clone();
        let allocate = |offset, len, allocation| {
            host.change(&Allocate { pfs, inum: file, offset, len, allocation, now: NOW }).unwrap();
        };
        let zero = Allocation::Zero { keep_size: false };
        match case {
            0 => {
                allocate(1000, 4000, zero);
                expected.truncate(1000);
                expected.resize(5000, 0);
            }
            1 => {
                allocate(0, 4000, zero);
                expected = vec![0; 4000];
            }
            2 => {
                allocate(0, 100_000, Allocation::Extend);
                expected.resize(100_000, 0);
            }
            3 => {
                write(&host, pfs, file, 3000, b"x");
                expected.resize(3000, 0);
                expected.push(b'x');
            }
            4 => {
                write(&host, pfs, file, 100_000, b"x");
                expected.resize(100_000, 0);
                expected.push(b'x');
            }
            5 => {
                let size = Some(4000);
                host.change(&SetAttributes { size, ..SetAttributes::new(pfs, file, NOW) }).unwrap();
                expected.resize(4000, 0);
            }
            _ => {
                let (source, target, len) = (other, file, 65_536);
                let (source_offset, target_offset, now) = (65_536, 65_536, NOW);
                let copy =
                    CopyRange { pfs, source, source_offset, target, target_offset, len, now };
                assert_eq!(host.change(&copy), Ok(65_536));
                expected.resize(65_536, 0);
                expected.resize(131_072, 9);
            }
        }
        assert!(read(&host, pfs, file) == expected, "case {case}, before the flush");
        host.flush().unwrap();
        assert!(read(&host, pfs, file) == expected, "case {case}, after the flush");
        assert_clean(&host);
    }
}

#[test]
fn requests_that_no_block_can_follow_do_no_harm() {
    for (compression, check) in [(9, 12), (0xff, 5), (2, 15), (15, 3)] {
        let (host, pfs) = fresh(64 << 20);
        let directory = create(&host, pfs, Inum::ROOT, "directory", New::Directory);
        let request = SetAttributes {
            compression_request: Some(compression),
            check_request: Some(check),
            ..SetAttributes::new(pfs, directory, NOW)
        };
        if host.change(&request).is_err() {
            continue;
        }
        let below = create(&host, pfs, directory, "below", New::Directory);
        for number in 0..600 {
            let file = create(&host, pfs, below, &format!("file {number}"), New::File);
            if number % 100 == 0 {
                write(&host, pfs, file, 0, &[5; 200_000]);
            }
        }
        create(&host, pfs, below, &"long".repeat(40), New::Symlink(vec![b'x'; 900]));
        host.flush().unwrap();
        let found = host.run(&Lookup { pfs, directory: below, name: b"file 100".to_vec() });
        assert!(read(&host, pfs, found.unwrap().inum) == [5; 200_000], "{compression} {check}");
        assert_clean(&host);
    }
}
