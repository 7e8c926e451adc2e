//! A freemap that is older than the tree (media format 9.3): other writers may leave one, and the
//! headers say so. Whoever writes then has to find out first what the freemap missed.
//!
//! `FARRIER_RECOVERY_SEED` is the first seed, `FARRIER_RECOVERY_RUNS` how many.
//! `FARRIER_CHECK_IMAGE=1` takes the whole set of images, where it is there.

use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use farrier_core::drive::ready;
use farrier_core::error::Error;
use farrier_core::fs::{Create, New, Write};
use farrier_core::media::blockref::{Blockref, slots};
use farrier_core::media::check::{CheckMethod, Checks, store};
use farrier_core::media::freemap::ChunkState;
use farrier_core::media::header::{HEADER_LEN, VolumeHeader};
use farrier_core::media::inode::Inode;
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, Inum, MediaOffset, WallTime};
use farrier_tests::against::{compare_pfs, dirt};
use farrier_tests::host::{Files, TestHost};
use farrier_tests::images::{all_golden, copies, manifest, scratch, shipped_folder, unpack};
use farrier_tests::model::Creation;
use farrier_tests::ops::{Op, Random, Swarm, fill};
use farrier_tests::ram::RamDisk;
use farrier_tests::session::{LABEL, Session};
use farrier_tests::walk::{differences, walk};
use farrier_tests::writing::{WritingHost, format_storage};

const NOW: WallTime = WallTime(1_700_000_000_000_000);
const STRIDE: u64 = 2 << 30;
const CHUNK: u64 = 16 << 10;

/// Fields of a header (media format 1.4): the freemap's table, the transaction up to which it is
/// complete, how much is free, and of how much.
const TABLE: Range<usize> = 0x800..0xa00;
const TID: Range<usize> = 0x90..0x98;
const FREE: Range<usize> = 0x68..0x70;
const SIZE: Range<usize> = 0x60..0x68;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn checks() -> Checks {
    Checks::with_crc32c(crc32c::crc32c)
}

/// `header` with the freemap of an older one, or of none.
fn with_freemap_of(header: &[u8], older: Option<&[u8]>) -> Vec<u8> {
    let mut header = header.to_vec();
    match older {
        Some(older) => {
            for range in [TABLE, TID, FREE] {
                header[range.clone()].copy_from_slice(&older[range]);
            }
        }
        None => {
            header[TABLE].fill(0);
            header[TID].fill(0);
            header.copy_within(SIZE, FREE.start);
        }
    }
    // each code covers the one before
    for (from, to, at) in [(0x200, 0x400, 0x1f8), (0, 0x1fc, 0x1fc), (0, 0xfffc, 0xfffc)] {
        let code = checks().crc32c(&header[from..to]).to_le_bytes();
        header[at..at + 4].copy_from_slice(&code);
    }
    header
}

/// Every block that the trees of a volume refer to: offset and length.
fn referenced(image: &mut impl FnMut(u64, usize) -> Vec<u8>, header: &[u8]) -> Vec<(u64, u64)> {
    let mut stack = slots(&header[0x200..0x400]).to_vec();
    let mut found = Vec::new();
    while let Some(raw) = stack.pop() {
        let Some(blockref) = Blockref::parse(&raw).unwrap() else { continue };
        let Some(location) = blockref.location() else { continue };
        found.push((location.offset.0, location.len() as u64));
        if !matches!(raw.kind, 1 | 2) {
            continue;
        }
        let block = image(location.offset.0, location.len());
        match raw.kind {
            1 if Inode::parse(&block).unwrap().has_direct_data() => {}
            1 => stack.extend(slots(&block[0x200..0x400])),
            _ => stack.extend(slots(&block)),
        }
    }
    found
}

/// What is in use is allocated, in memory of who has just opened the volume.
fn assert_allocated<S: Storage>(
    host: &WritingHost<S>,
    blocks: &[(u64, u64)],
    base: u64,
    place: &str,
) -> usize {
    let mut upper = 0;
    host.with_flusher(|flusher| {
        let freemap = flusher.unwrap().writer().freemap();
        for (offset, len) in blocks.iter().filter(|(offset, _)| *offset >= base) {
            for chunk in offset / CHUNK..(offset + len).div_ceil(CHUNK) {
                let state = freemap.state(MediaOffset(chunk * CHUNK));
                let number = chunk % 32;
                assert_eq!(state, Some(ChunkState::Allocated), "{place}: {offset:#x}, {number}");
                upper += usize::from(number >= 16);
            }
        }
    });
    upper
}

/// Images of other writers, as if their freemap had never been written: there is no leaf, some names
/// have no block of their own, and chunks lie in every part of a word of the bitmap.
#[test]
fn golden_images_without_their_freemap_can_be_written() {
    let folder = scratch("recovered");
    let everything = std::env::var_os("FARRIER_CHECK_IMAGE").is_some();
    let shipped = |name: &String| shipped_folder().join(format!("{name}.json")).exists();
    let (mut images, mut chunks, mut written, mut lagging) = (0, 0, 0, 0);
    for (from, name) in all_golden().into_iter().filter(|(_, name)| everything || shipped(name)) {
        let listed = manifest(&from, &name);
        let originals = unpack(&from, &name);
        let before = TestHost::open(&originals, false).unwrap();
        let header = before.volume().header();
        lagging += usize::from(header.freemap_tid() < header.mirror_tid());
        let baseline = bad(&before);
        let paths = copies(&originals, &folder);
        let root = &paths[usize::from(before.volume().root_device().0)];
        let slot = u64::from(before.volume().chosen_slot());
        let mut bytes = vec![0; HEADER_LEN];
        let file = OpenOptions::new().read(true).write(true).open(root).unwrap();
        file.read_exact_at(&mut bytes, slot * STRIDE).unwrap();
        file.write_all_at(&with_freemap_of(&bytes, None), slot * STRIDE).unwrap();
        if before.volume().pieces().len() == 1 {
            let mut read = |offset, len| {
                let mut block = vec![0; len];
                file.read_exact_at(&mut block, offset).unwrap();
                block
            };
            let blocks = referenced(&mut read, &bytes);
            let host = WritingHost::open(Files::open_writable(&paths), 4 << 20).unwrap();
            let base = header.allocator_beg().0.next_multiple_of(4 << 20);
            chunks += assert_allocated(&host, &blocks, base, &name);
        }
        written += write_much(&paths, listed.pfs.keys().next());
        let after = TestHost::open(&paths, false).unwrap();
        assert_eq!(bad(&after), baseline, "{name}");
        for (label, tree) in &listed.pfs {
            let seen = walk(&after, label).unwrap();
            for entry in tree.entries.iter().filter(|entry| entry.path_bytes() != b"/") {
                let seen = seen.get(&entry.path_bytes());
                let seen = seen.unwrap_or_else(|| panic!("{name}:{}", entry.path));
                let differ = differences(entry, seen);
                assert!(differ.is_empty(), "{name}:{}: {differ:?}", entry.path);
            }
        }
        images += 1;
        paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    }
    println!(
        "{images} images, {lagging} of them with a freemap that is late by itself; {chunks} chunks \
         in upper halves of words, {} MiB written over what was thought free",
        written >> 20
    );
    assert!(images > 5 && chunks > 100);
}

/// What a check finds that is worse than information.
fn bad(host: &TestHost<Files>) -> Vec<&'static str> {
    let found = dirt(host, |kind| {
        use farrier_core::scan::FindingKind as Kind;
        matches!(kind, Kind::AllocatorFree { .. } | Kind::Header { .. })
    });
    let mut codes: Vec<_> = found.iter().map(|one| one.kind.code()).collect();
    codes.sort_unstable();
    codes
}

/// Writes until the volume is full, or for 24 MiB; returns how much.
fn write_much(paths: &[impl AsRef<Path>], label: Option<&String>) -> u64 {
    let Some(label) = label else { return 0 };
    let host = WritingHost::open(Files::open_writable(paths), 4 << 20).unwrap();
    let pfs = host.open_pfs(label).unwrap();
    let name = b"farrier made this".to_vec();
    let (directory, new, mode, uid, gid, now) = (Inum::ROOT, New::File, 0o600, 0, 0, NOW);
    let created = host.change(&Create { pfs, directory, name, new, mode, uid, gid, now });
    let inum = match created {
        Ok(created) => created.inum,
        Err(error) => {
            assert_eq!(error, Error::NoSpace);
            return 0;
        }
    };
    let mut done = 0;
    for number in 0..24 {
        let bytes = fill(6 * number + 4, 1 << 20);
        let offset = Some(number << 20);
        match host.change(&Write { pfs, inum, offset, bytes: &bytes, now: NOW }) {
            Ok(_) => done += 1 << 20,
            Err(error) => {
                assert_eq!(error, Error::NoSpace);
                break;
            }
        }
    }
    host.flush().unwrap();
    done
}

/// The newest header of a volume, and where it lies.
fn newest_header(disk: &RamDisk) -> (u64, Vec<u8>) {
    let of = |slot: u64| {
        let bytes = ready(disk.read(DeviceIndex(0), slot * STRIDE, HEADER_LEN)).ok()?;
        let tid = VolumeHeader::parse(&bytes, &checks()).ok()?.mirror_tid();
        Some((tid, slot * STRIDE, bytes))
    };
    let newest = (0..4).filter_map(of).max_by_key(|(tid, ..)| *tid);
    newest.map(|(_, offset, bytes)| (offset, bytes)).expect("a header")
}

/// Our own volumes, with the freemap of some commits ago.
fn late_freemap(seed: u64) -> Result<usize, String> {
    let mut random = Random::new(seed);
    let swarm = Swarm::new(&mut random);
    let mut session = Session::new(*random.pick(&[64 << 20, 3 << 30]), 1 << 20);
    let commits = 2 + random.below(5);
    let known_at = random.below(commits - 1);
    let mut headers = Vec::new();
    for number in 0..commits {
        for _ in 0..5 + random.below(40) {
            match swarm.next(&mut random, &session.model) {
                Op::Flush { .. } | Op::Remount => {}
                op => session.apply(&op)?,
            }
        }
        let create = Creation {
            directory: 1,
            name: format!("commit {number}").into_bytes(),
            new: New::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
        };
        session.apply(&Op::Create(create))?;
        session.apply(&Op::Flush { always: true })?;
        headers.push(newest_header(&session.disk));
    }
    let (offset, newest) = headers.pop().ok_or("no commit")?;
    let (_, older) = &headers[usize::try_from(known_at).unwrap_or(0)];
    let older = (!random.once_in(5)).then_some(&older[..]);
    session.disk.patch(offset, &with_freemap_of(&newest, older));
    let disk = session.disk.clone();
    let committed = session.committed.clone();
    let mut session = Session::open(disk.clone(), 1 << 20, Some(committed.clone()))
        .map_err(|error| format!("opening: {error:?}"))?;
    let mut read = |offset: u64, len: usize| ready(disk.read(DeviceIndex(0), offset, len)).unwrap();
    let blocks = referenced(&mut read, &newest);
    let upper = assert_allocated(&session.host, &blocks, 0, &format!("seed {seed}"));
    session.apply(&Op::Flush { always: true })?;
    let host = TestHost::over(disk.clone(), false, 8 << 20).map_err(|e| e.to_string())?;
    compare_pfs(&host, LABEL.as_bytes(), &committed)?;
    let found =
        dirt(&host, |kind| matches!(kind, farrier_core::scan::FindingKind::AllocatorFree { .. }));
    if !found.is_empty() {
        return Err(format!("a check finds {found:#?}"));
    }
    for _ in 0..80 {
        match swarm.next(&mut random, &session.model) {
            Op::Remount => {}
            op => session.apply(&op)?,
        }
    }
    session.apply(&Op::Flush { always: false })?;
    session.check_memory()?;
    let host = TestHost::over(disk, false, 8 << 20).map_err(|e| e.to_string())?;
    compare_pfs(&host, LABEL.as_bytes(), &session.committed)?;
    let found =
        dirt(&host, |kind| matches!(kind, farrier_core::scan::FindingKind::AllocatorFree { .. }));
    if found.is_empty() { Ok(upper) } else { Err(format!("a check finds {found:#?}")) }
}

#[test]
fn what_a_late_freemap_missed_is_found() {
    let first = setting("FARRIER_RECOVERY_SEED", 1);
    let runs = setting("FARRIER_RECOVERY_RUNS", 40);
    let mut upper = 0;
    for seed in first..first + runs {
        upper += late_freemap(seed).unwrap_or_else(|error| {
            panic!(
                "seed {seed}: {error}\nFARRIER_RECOVERY_SEED={seed} FARRIER_RECOVERY_RUNS=1 \
                 cargo test -p farrier-tests --test recovery late"
            )
        });
    }
    println!("{runs} seeds, {upper} chunks in upper halves of words");
}

/// Gives every block on the way to what `change` changed its new check code.
fn rewrite(image: &mut Vec<u8>, slot: &mut [u8], change: &mut impl FnMut(u8, u64, &mut [u8])) {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let (kind, key, data_off) = (slot[0], number(&slot[8..16]), number(&slot[32..40]));
    if !matches!(kind, 1 | 2) {
        return;
    }
    let start = usize::try_from(data_off & !0x3f).unwrap();
    let range = start..start + (1 << (data_off & 0x3f));
    let mut block = image[range.clone()].to_vec();
    change(kind, key, &mut block);
    let table = match kind {
        1 if block[0x51] & 1 == 0 => 0x200..0x400,
        2 => 0..block.len(),
        _ => 0..0,
    };
    for slot in block[table].chunks_mut(128) {
        rewrite(image, slot, change);
    }
    let method = CheckMethod::from_code(slot[1] >> 4).unwrap();
    let code: &mut [u8; 64] = (&mut slot[64..128]).try_into().unwrap();
    store(checks().compute(&block, method), code);
    image[range].copy_from_slice(&block);
}

/// What cannot be understood may refer to anything: a volume whose freemap does not know of it is
/// not written.
#[test]
fn a_late_freemap_of_what_is_damaged_is_not_believed() {
    let disk = RamDisk::new(64 << 20);
    format_storage(&disk);
    let mut session = Session::open(disk.clone(), 1 << 20, None).unwrap();
    let inum = session.next_inum();
    let (mode, uid, gid, new) = (0o600, 0, 0, New::File);
    let create = Creation { directory: 1, name: b"file".to_vec(), new, mode, uid, gid };
    session.apply(&Op::Create(create)).unwrap();
    let write = Op::Write { inum, offset: Some(0), len: 300_000, fill: 4 };
    session.apply(&write).unwrap();
    session.apply(&Op::Flush { always: false }).unwrap();
    let (offset, newest) = newest_header(&disk);
    assert_eq!(offset, 0);
    // nothing is wrong; the kind of the inode; the kind of a blockref in it
    for (at, value, opens) in [(0x50, 2, true), (0x50, 0x77, false), (0x200, 0x77, false)] {
        let mut image = disk.bytes();
        let mut slot = image[0x200..0x280].to_vec();
        let mut changed = 0;
        rewrite(&mut image, &mut slot, &mut |kind, key, block| {
            if kind == 1 && key == inum {
                block[at] = value;
                changed += 1;
            }
        });
        assert_eq!(changed, 1);
        let mut header = newest.clone();
        header[0x200..0x280].copy_from_slice(&slot);
        image[..HEADER_LEN].copy_from_slice(&with_freemap_of(&header, None));
        let opened = WritingHost::open(RamDisk::with(image), 1 << 20);
        assert_eq!(opened.is_ok(), opens, "{at:#x}: {:?}", opened.err());
    }
}
