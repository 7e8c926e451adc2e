//! The formatter: byte for byte what another one makes, and clean to both checkers.

use std::cell::RefCell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use farrier_core::drive::{self, ready};
use farrier_core::error::{DeviceFault, FaultCause};
use farrier_core::media::check::CheckMethod;
use farrier_core::media::header::Version;
use farrier_core::scan::{CheckOptions, Grade};
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, WallTime};
use farrier_core::volume::{FormatOptions, Formatted, OpenOptions, format};
use farrier_tests::checking::check;
use farrier_tests::host::{Files, TestHost};
use farrier_tests::images::{full_folder, scratch, shipped_folder, unpack};
use rustix::fs::SeekFrom;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A golden image, and what its maker was asked for (`made_with` of its manifest).
fn golden() -> Vec<(&'static str, FormatOptions)> {
    let of = |sizes: &[u64]| FormatOptions::new(sizes.to_vec(), WallTime(1));
    let labelled = |sizes: &[u64], labels: &[&[u8]]| FormatOptions {
        labels: labels.iter().map(|label| label.to_vec()).collect(),
        ..of(sizes)
    };
    vec![
        ("empty-default-labels", of(&[64 * MIB])),
        ("empty-64m", of(&[64 * MIB])),
        ("empty-64m-v1", FormatOptions { version: Version::V1, ..of(&[64 * MIB]) }),
        ("empty-24m", of(&[24 * MIB])),
        ("empty-3labels-10g", labelled(&[10 * GIB], &[b"BOOT", b"ROOT", b"DATA"])),
        (
            "empty-areas",
            FormatOptions {
                boot_size: Some(16 * MIB),
                aux_size: Some(64 * MIB),
                ..of(&[256 * MIB])
            },
        ),
        ("empty-multivol", of(&[GIB, 2 * GIB, 72 * MIB])),
        ("empty-nopfs", labelled(&[64 * MIB], &[])),
    ]
}

fn random() -> impl FnMut(&mut [u8; 16]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |bytes| {
        for byte in bytes {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            *byte = state.to_le_bytes()[7];
        }
    }
}

/// Fresh sparse files of these sizes.
fn blank(name: &str, sizes: &[u64]) -> Vec<PathBuf> {
    let folder = scratch("formatted");
    let make = |(number, size): (usize, &u64)| {
        let path = folder.join(format!("{name}-{}-{number}", std::process::id()));
        File::create(&path).unwrap().set_len(*size).unwrap();
        path
    };
    sizes.iter().enumerate().map(make).collect()
}

fn make(name: &str, options: &FormatOptions) -> (Vec<PathBuf>, Formatted) {
    let paths = blank(name, &options.device_sizes);
    let formatted = format(options, random()).unwrap();
    ready(drive::format(&Files::open_writable(&paths), &formatted)).unwrap();
    (paths, formatted)
}

fn remove(paths: &[PathBuf]) {
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
}

/// Sets to zero what differs from one run of a formatter to the next: ids, times, and the check
/// codes over them.
fn mask(piece: &mut [u8], start: u64, inodes_at: Option<u64>) {
    let mut clear = |at: u64, len: u64| {
        for offset in at..at + len {
            if let Some(byte) =
                offset.checked_sub(start).and_then(|at| piece.get_mut(usize::try_from(at).unwrap()))
            {
                *byte = 0;
            }
        }
    };
    for slot in (0..4).map(|slot| slot * 2 * GIB) {
        clear(slot + 0x40, 16);
        clear(slot + 0x1f8, 8);
        clear(slot + 0x240, 8);
        clear(slot + 0xfffc, 4);
    }
    let Some(inodes_at) = inodes_at else { return };
    for inode in (0..5).map(|place| inodes_at + place * 1024) {
        clear(inode + 0x10, 16);
        clear(inode + 0x28, 8);
        clear(inode + 0x90, 32);
    }
    for slot in 0..4 {
        clear(inodes_at + 0x200 + slot * 128 + 0x40, 8);
    }
}

fn assert_equal(name: &str, ours: &Path, golden: &Path, inodes_at: Option<u64>) {
    let [ours, golden] = [ours, golden].map(|path| File::open(path).unwrap());
    let len = golden.metadata().unwrap().len();
    assert_eq!(ours.metadata().unwrap().len(), len, "{name}");
    let piece_len = 4 * MIB;
    let mut pieces = [vec![0; 4 << 20], vec![0; 4 << 20]];
    let mut next = 0;
    while next < len {
        // a hole of both is equal
        let data = [&ours, &golden].map(|file| rustix::fs::seek(file, SeekFrom::Data(next)));
        let Some(data) = data.into_iter().flatten().min() else { break };
        let start = data / piece_len * piece_len;
        next = start + piece_len;
        let here = usize::try_from(piece_len.min(len - start)).unwrap();
        for (file, piece) in [&ours, &golden].into_iter().zip(&mut pieces) {
            piece.resize(here, 0);
            file.read_exact_at(piece, start).unwrap();
        }
        if pieces[0] == pieces[1] {
            continue;
        }
        pieces.iter_mut().for_each(|piece| mask(piece, start, inodes_at));
        let different = pieces[0].iter().zip(&pieces[1]).position(|(ours, golden)| ours != golden);
        if let Some(at) = different {
            panic!(
                "{name}: differs at {:#x}: {:02x?} instead of {:02x?}",
                start + at as u64,
                &pieces[0][at..(at + 16).min(here)],
                &pieces[1][at..(at + 16).min(here)]
            );
        }
    }
}

#[test]
fn byte_for_byte_what_another_formatter_makes() {
    let mut compared = 0;
    for (name, options) in golden() {
        let has = |folder: &PathBuf| folder.join(format!("{name}.json")).exists();
        let Some(folder) = [Some(shipped_folder()), full_folder()].into_iter().flatten().find(has)
        else {
            eprintln!("skipped: {name} is not on this machine");
            continue;
        };
        let (paths, formatted) = make(name, &options);
        let golden = unpack(&folder, name);
        assert_eq!(paths.len(), golden.len(), "{name}");
        for (number, (ours, golden)) in paths.iter().zip(&golden).enumerate() {
            let inodes_at = (number == 0).then_some(formatted.aux_area.1);
            assert_equal(name, ours, golden, inodes_at);
        }
        remove(&paths);
        compared += 1;
    }
    assert!(compared >= 5, "only {compared} compared");
}

/// Runs the checker that shares no code with us, where this machine has it.
fn independent_check(name: &str, paths: &[PathBuf]) {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tools/check-image.py");
    if !tool.exists() {
        eprintln!("skipped: check-image.py is not on this machine");
        return;
    }
    let output = Command::new("python3")
        .arg(&tool)
        .args(["-q", "--strict", "--strict-leaks", "--all-headers"])
        .args(paths)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {told}");
}

#[test]
fn both_checkers_find_nothing() {
    let mut all: Vec<_> = golden();
    for (name, check) in [
        ("sha192", CheckMethod::Sha192),
        ("iscsi32", CheckMethod::Iscsi32),
        ("none", CheckMethod::None),
        ("disabled", CheckMethod::Disabled),
    ] {
        let options = FormatOptions::new(vec![40 * MIB], WallTime(1));
        all.push((name, FormatOptions { check, compression: 0x63, ..options }));
    }
    all.push(("odd-sizes", FormatOptions::new(vec![2 * GIB + 12345, 100 * MIB], WallTime(1))));
    let limited = FormatOptions::new(vec![5 * GIB], WallTime(1));
    all.push(("limited", FormatOptions { size_max: Some(3 * GIB), ..limited }));
    for (name, options) in all {
        let (paths, formatted) = make(&format!("checked-{name}"), &options);
        let host = TestHost::open(&paths, false).unwrap();
        assert_eq!(host.volume().header().fsid(), formatted.fsid, "{name}");
        assert_eq!(host.volume().header().total_size(), formatted.total_size, "{name}");
        assert!(
            host.volume()
                .header_slots()
                .iter()
                .all(|slot| slot.state.is_ok() || slot.slot > 1 && name == "limited")
        );
        let (findings, _) = check(&host, CheckOptions::default());
        let wrong: Vec<_> =
            findings.iter().filter(|one| one.grade() > Grade::Information).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        independent_check(name, &paths);
        remove(&paths);
    }
}

/// A device full of bytes that are not ours, in memory, that can be told to fail.
struct Junk {
    bytes: RefCell<Vec<u8>>,
    /// What happens: `w` a write, `b` a barrier.
    log: RefCell<String>,
    writes_left: RefCell<usize>,
}

impl Junk {
    fn new(len: u64, writes: usize) -> Self {
        let bytes = vec![0xa5; usize::try_from(len).unwrap()];
        Self { bytes: bytes.into(), log: RefCell::default(), writes_left: writes.into() }
    }
}

impl Storage for Junk {
    fn device_count(&self) -> usize {
        1
    }

    fn size(&self, _: DeviceIndex) -> u64 {
        self.bytes.borrow().len() as u64
    }

    async fn read(&self, _: DeviceIndex, offset: u64, len: usize) -> Result<Vec<u8>, DeviceFault> {
        let start = usize::try_from(offset).unwrap();
        Ok(self.bytes.borrow()[start..start + len].to_vec())
    }

    fn is_writable(&self, _: DeviceIndex) -> bool {
        *self.writes_left.borrow() > 0
    }

    async fn write(&self, device: DeviceIndex, at: u64, bytes: &[u8]) -> Result<(), DeviceFault> {
        let mut left = self.writes_left.borrow_mut();
        *left = left.checked_sub(1).ok_or(DeviceFault::write(
            device,
            at,
            bytes.len(),
            FaultCause::Medium(5),
        ))?;
        assert!(bytes.len() <= 1 << 20, "zeros come in pieces");
        let start = usize::try_from(at).unwrap();
        self.bytes.borrow_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        self.log.borrow_mut().push('w');
        Ok(())
    }

    async fn barrier(&self, _: DeviceIndex) -> Result<(), DeviceFault> {
        self.log.borrow_mut().push('b');
        Ok(())
    }
}

#[test]
fn old_bytes_go_where_they_would_be_taken_for_ours() {
    let options = FormatOptions::new(vec![40 * MIB], WallTime(1));
    let formatted = format(&options, random()).unwrap();
    let junk = Junk::new(40 * MIB, usize::MAX);
    ready(drive::format(&junk, &formatted)).unwrap();
    let bytes = junk.bytes.borrow();
    let at = |offset: u64| bytes[usize::try_from(offset).unwrap()];
    for zero in [0x10000, 4 * MIB, 20 * MIB - 1, 20 * MIB + 0xffff, 39 * MIB, 40 * MIB - 1] {
        assert_eq!(at(zero), 0, "{zero:#x}");
    }
    // space is not touched
    assert_eq!((at(20 * MIB + 0x10000), at(39 * MIB - 1)), (0xa5, 0xa5));
    let log = junk.log.borrow();
    assert!(log.starts_with("wbw") && log.ends_with("wbwb"), "{log}");
    assert_eq!(log.matches('b').count(), 3);
}

#[test]
fn formatting_that_is_cut_short_leaves_no_file_system() {
    let options = FormatOptions::new(vec![40 * MIB], WallTime(1));
    let formatted = format(&options, random()).unwrap();
    let whole = Junk::new(40 * MIB, usize::MAX);
    ready(drive::format(&whole, &formatted)).unwrap();
    let writes = whole.log.borrow().matches('w').count();
    let again = FormatOptions { now: WallTime(2), ..options };
    let again = format(&again, random()).unwrap();
    for count in 0..writes {
        let junk = Junk::new(40 * MIB, usize::MAX);
        // over a file system of before
        ready(drive::format(&junk, &formatted)).unwrap();
        junk.writes_left.replace(count);
        if ready(drive::format(&junk, &again)).is_ok() {
            // zeros that are there already are not written
            assert!(count > 2, "{count} writes");
            continue;
        }
        let opened = ready(drive::open(&junk, OpenOptions::default()));
        assert_eq!(opened.is_ok(), count == 0, "after {count} of {writes} writes");
    }
}

#[test]
fn devices_that_cannot_be_written_are_not_begun() {
    let options = FormatOptions::new(vec![40 * MIB], WallTime(1));
    let formatted = format(&options, random()).unwrap();
    let shorter = Junk::new(39 * MIB, usize::MAX);
    let fault = ready(drive::format(&shorter, &formatted)).unwrap_err();
    assert_eq!(fault.cause, FaultCause::OutOfRange);
    let paths = blank("read-only", &[40 * MIB]);
    let fault = ready(drive::format(&Files::open(&paths), &formatted)).unwrap_err();
    assert_eq!(fault.cause, FaultCause::ReadOnly);
    assert!(shorter.log.borrow().is_empty());
    remove(&paths);
}
