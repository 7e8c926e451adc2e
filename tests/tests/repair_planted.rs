//! Repair of faults that no golden image has: they are planted, with every check code put right, and
//! each has to be found, repaired, and gone.

use std::mem::offset_of;

use farrier_core::error::{BlockKind, Error};
use farrier_core::fs::{Create, New, ReadDir};
use farrier_core::media::blockref::Blockref;
use farrier_core::media::inode::ObjectKind;
use farrier_core::media::raw::RawInode;
use farrier_core::repair::Doubt;
use farrier_core::scan::{Finding, Grade};
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, Inum, WallTime};
use farrier_tests::checking::second_opinion;
use farrier_tests::images::{Damaged, scratch};
use farrier_tests::ops::Random;
use farrier_tests::ram::RamDisk;
use farrier_tests::repairing::{ALL, apply, look, nothing_is_worse};
use farrier_tests::surgeon::{DATA_OFF, EMBED, FLAGS, FREEMAP_TABLE, KEY, Surgeon};
use farrier_tests::writing::{WritingHost, format_storage};

/// Finds `code`, repairs, and leaves nothing to repair; tells in how many rounds.
fn heals(ill: &Surgeon, what: &str, code: &str) -> usize {
    ill.mend();
    let mut examined = look(&ill.disk, ALL).unwrap();
    let found: Vec<_> = examined.findings.iter().map(|one| one.kind.code()).collect();
    assert!(found.contains(&code), "{what}: {:#?}", examined.findings);
    assert_eq!(examined.summary.fatal, 0, "{what}: {:#?}", examined.findings);
    let mut rounds = 0;
    while !examined.plan.repairs().is_empty() {
        assert!(rounds < 4, "{what}: {:#?}", examined.findings);
        let outcome = apply(&ill.disk, &examined.plan).unwrap();
        assert_eq!(outcome.failed, [], "{what}: {:?}", examined.plan.repairs());
        examined = look(&ill.disk, ALL).unwrap();
        rounds += 1;
    }
    let wrong = examined.findings.iter().filter(|one| one.grade() > Grade::Information);
    let wrong: Vec<_> = wrong.map(ToString::to_string).collect();
    assert_eq!(wrong, [""; 0], "{what}");
    rounds
}

fn ask_the_other(healed: &Surgeon, name: &str) {
    let path = scratch("repair-planted").join(format!("{name}.img"));
    std::fs::write(&path, healed.disk.bytes()).unwrap();
    second_opinion(&path);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn sums_of_every_table_are_made_right() {
    let mut planted = 0;
    for name in ["d-base1", "names"] {
        let sound = Surgeon::new(name);
        let has_table = |blockref: &Blockref| match blockref.kind() {
            BlockKind::Indirect => true,
            BlockKind::Inode => sound.inode(blockref).is_some_and(|(_, raw)| {
                blockref.key() != 0 && raw.kind == ObjectKind::Directory.code()
            }),
            _ => false,
        };
        let tables: Vec<_> = sound.refs.iter().filter(|(_, one)| has_table(one)).collect();
        let step = tables.len().div_ceil(24).max(1);
        for (at, blockref) in tables.into_iter().step_by(step) {
            let ill = sound.fork();
            let count = blockref.statistics().unwrap().data_count;
            ill.put(at + EMBED, &(count + 0x1_2345).to_le_bytes());
            let rounds = heals(&ill, &format!("{name}: {}", blockref.place()), "stats");
            assert_eq!(rounds, 1, "{name}: {}", blockref.place());
            planted += 1;
            if planted % 8 == 1 {
                ask_the_other(&ill, "stats");
            }
        }
    }
    assert!(planted > 20, "only {planted}");
}

#[test]
fn roots_and_those_that_are_none_say_so() {
    let sound = Surgeon::new("d-base1");
    let (root_at, root) = sound.roots()[0];
    let (file_at, file) = sound.files()[0];
    let flags = offset_of!(RawInode, op_flags) as u64;
    let plants: [(&str, u64, Vec<u8>); 5] = [
        ("the blockref of a root", root_at + FLAGS, vec![0]),
        ("a root", root + flags, vec![0]),
        ("the blockref of a file", file_at + FLAGS, vec![1]),
        ("a file", file + flags, vec![sound.get(file + flags, 1)[0] | 2]),
        ("the number", root + offset_of!(RawInode, inum) as u64, 77_u64.to_le_bytes().to_vec()),
    ];
    for (what, at, bytes) in plants {
        let ill = sound.fork();
        ill.put(at, &bytes);
        heals(&ill, what, "pfs");
        ask_the_other(&ill, "roots");
    }
}

/// Whoever changes such a root does not lose what he wrote, and puts the number right.
#[test]
fn a_root_of_another_number_is_written_like_any() {
    let ill = Surgeon::new("d-base1");
    for (_, root) in ill.roots() {
        ill.put(root + offset_of!(RawInode, inum) as u64, &77_u64.to_le_bytes());
    }
    ill.mend();
    let make = |name: &str| {
        let host = WritingHost::open(ill.disk.clone(), 1 << 20).unwrap();
        let pfs = host.open_pfs("DATA").unwrap();
        let (directory, name) = (Inum::ROOT, name.as_bytes().to_vec());
        let now = WallTime(1_700_000_000_000_000);
        let (new, mode, uid, gid) = (New::Directory, 0o755, 0, 0);
        host.change(&Create { pfs, directory, name, new, mode, uid, gid, now }).unwrap();
        host.flush().unwrap();
        let list = ReadDir { pfs, directory, position: 0, limit: 99, with_attributes: true };
        let names = host.run(&list).unwrap().entries;
        names.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    make("one");
    let names = make("two");
    assert!(names.contains(&b"one".to_vec()) && names.contains(&b"two".to_vec()), "{names:?}");
    let wrong = look(&ill.disk, ALL).unwrap().findings;
    let of_data = |one: &&Finding| one.kind.code() == "pfs" && one.pfs.is_some();
    let of_data = wrong.iter().filter(of_data).count();
    assert!(of_data < ill.roots().len(), "one of the roots is right now: {wrong:?}");
}

#[test]
fn numbers_that_would_be_given_again_are_reserved() {
    let ill = Surgeon::new("d-base1");
    for (_, root) in ill.roots() {
        ill.put(root + offset_of!(RawInode, pfs_inum) as u64, &1030_u64.to_le_bytes());
    }
    assert_eq!(heals(&ill, "numbers", "inum-allocator"), 1);
    ask_the_other(&ill, "numbers");
}

#[test]
fn names_say_the_kind_and_the_number_that_there_is() {
    let sound = Surgeon::new("names");
    let is_name = |one: &&(u64, Blockref)| one.1.kind() == BlockKind::Dirent;
    let (embedded, long): (Vec<_>, Vec<_>) =
        sound.refs.iter().filter(is_name).partition(|(_, name)| name.location().is_none());
    for (at, name) in [embedded[0], embedded[embedded.len() / 2], long[0]] {
        let ill = sound.fork();
        let kind = ObjectKind::from_code(name.raw().embed[10]).unwrap();
        let other = match kind {
            ObjectKind::Fifo => ObjectKind::Socket,
            _ => ObjectKind::Fifo,
        };
        ill.put(at + EMBED + 10, &[other.code()]);
        assert_eq!(heals(&ill, &format!("{kind:?} at {at:#x}"), "dirent-type"), 1);
        ask_the_other(&ill, "kinds");
        // the bit that keys of names have: no inode has such a number
        let ill = sound.fork();
        ill.put(at + EMBED, &u64::MAX.to_le_bytes());
        heals(&ill, "an impossible number", "dangling-dirent");
        ask_the_other(&ill, "impossible");
    }
}

#[test]
fn what_snapshots_share_is_repaired_in_each() {
    let sound = Surgeon::new("pfs-snapshots");
    let shared = sound.files().into_iter().find(|(_, offset)| {
        let at = |one: &Blockref| one.location().is_some_and(|at| at.offset.0 == *offset);
        sound.refs.iter().filter(|(_, one)| at(one)).count() > 1
    });
    let (_, file) = shared.expect("snapshots share inodes");
    sound.put(file + offset_of!(RawInode, nlinks) as u64, &9_u64.to_le_bytes());
    heals(&sound, "a shared inode", "nlinks");
    ask_the_other(&sound, "shared");
}

#[test]
fn the_freemap_is_made_right() {
    let sound = Surgeon::new("d-base1");
    let leaf = sound.refs.iter().find(|(_, one)| one.kind() == BlockKind::FreemapLeaf);
    let (at, leaf) = leaf.expect("files were written");
    let offset = leaf.location().unwrap().offset.0;
    // the segment that most is in use of: 128 bytes for each, `linear` first, `avail` at 0x1c
    let bytes = sound.get(offset, 32768);
    let in_use = |segment: &usize| {
        let bitmap = &bytes[segment * 128 + 64..segment * 128 + 128];
        bitmap.iter().map(|byte| byte.count_ones()).sum::<u32>() % 512
    };
    let segment = (2..256_usize).max_by_key(in_use).unwrap() as u64 * 128;
    let last = sound.refs.iter().filter_map(|(_, one)| one.location());
    let last = last.filter(|one| one.offset.0 / (4 << 20) == segment / 128 && one.len() == 1024);
    let used = last.map(|one| one.offset.0 % (4 << 20)).min().unwrap_or(1024);
    let promise = u32::try_from(used).unwrap();
    let plants: [(&str, u64, Vec<u8>, &str); 5] = [
        ("avail", offset + segment + 0x1c, vec![1, 2, 3, 0], "freemap-avail"),
        ("linear", offset + segment, promise.to_le_bytes().to_vec(), "freemap-linear"),
        ("no linear", offset + segment, 0x7777_7777_u32.to_le_bytes().to_vec(), "freemap-linear"),
        ("everything free", offset + segment + 64, vec![0; 64], "not-allocated"),
        ("an entry out of place", at + KEY, (3_u64 << 20).to_le_bytes().to_vec(), "freemap"),
    ];
    for (what, at, bytes, code) in plants {
        let ill = sound.fork();
        ill.put(at, &bytes);
        heals(&ill, what, code);
        ask_the_other(&ill, "freemap");
    }
    // to the place of another level, with all that is in it
    let ill = sound.fork();
    let elsewhere = offset / (4 << 20) * (4 << 20) + 0x2_0000;
    ill.put(elsewhere, &bytes);
    ill.put(at + DATA_OFF, &(elsewhere | 15).to_le_bytes());
    heals(&ill, "a block out of place", "freemap-slot");
    ask_the_other(&ill, "freemap");
}

#[test]
fn in_doubt_about_free_space_nothing_is_written() {
    let path = Damaged::named("d-indirect-dir").make(&scratch("repair-doubt"));
    let disk = RamDisk::with(std::fs::read(&path).unwrap());
    let ill = Surgeon { disk: disk.clone(), header: 0, refs: Vec::new() };
    let leaf = u64::from_le_bytes(ill.get(FREEMAP_TABLE + DATA_OFF, 8).try_into().unwrap());
    ill.put((leaf & !63) + 8, &[9; 8]);
    disk.record();
    let examined = look(&disk, ALL).unwrap();
    assert_eq!(examined.plan.doubt(), Some(Doubt::Hidden), "{:#?}", examined.findings);
    assert_eq!(apply(&disk, &examined.plan), Err(Error::ReadOnly));
    assert_eq!(disk.events(), []);
    std::fs::remove_file(path).unwrap();
}

/// Any word of any block of structure, wrong in any way: a repair neither panics nor takes away
/// what could be read.
#[test]
fn random_faults_get_no_worse() {
    let cases = std::env::var("FARRIER_REPAIR_CASES").ok().and_then(|n| n.parse().ok());
    let seed = std::env::var("FARRIER_REPAIR_SEED").ok().and_then(|n| n.parse().ok());
    let (mut repaired, mut failed) = (0, 0);
    for name in ["links", "small-files", "d-base1"] {
        let sound = Surgeon::new(name);
        let is_table = |kind| !matches!(kind, BlockKind::Data | BlockKind::Dirent);
        let blocks: Vec<_> = sound.refs.iter().filter(|(_, one)| is_table(one.kind())).collect();
        for case in 0..cases.unwrap_or(40) {
            let number = seed.unwrap_or(0) + case;
            let mut random = Random::new(number);
            let ill = sound.fork();
            for _ in 0..=random.below(3) {
                let index = usize::try_from(random.below(blocks.len() as u64)).unwrap();
                let (stands_at, blockref) = blocks[index];
                let Some(location) = blockref.location() else { continue };
                // in the blockref; where structure is in the block; anywhere in it
                let at = match random.below(3) {
                    0 => stands_at + random.below(8) * 8,
                    1 => location.offset.0 + random.below(32) * 8,
                    _ => location.offset.0 + random.below(location.len() as u64 / 8) * 8,
                };
                let old = u64::from_le_bytes(ill.get(at, 8).try_into().unwrap());
                let words =
                    [0, u64::MAX, 1 << 63, old.wrapping_add(1), old ^ 1 << random.below(64)];
                let which = usize::try_from(random.below(words.len() as u64)).unwrap();
                ill.put(at, &words[which].to_le_bytes());
            }
            ill.mend();
            let (before, what) = (ill.disk.fork(), format!("{name}, case {number}"));
            let Ok(examined) = look(&ill.disk, ALL) else { continue };
            let Ok(outcome) = apply(&ill.disk, &examined.plan) else {
                failed += 1;
                let (was, is) = (look(&before, ALL).unwrap(), look(&ill.disk, ALL).unwrap());
                assert_eq!(was.findings, is.findings, "{what}");
                continue;
            };
            let after = look(&ill.disk, ALL).unwrap();
            assert!(after.summary.fatal <= examined.summary.fatal, "{what}: {:#?}", after.findings);
            nothing_is_worse(&what, &before, &ill.disk);
            repaired += usize::from(outcome.done > 0);
        }
    }
    println!("{repaired} repaired, {failed} left as they were");
    assert!(repaired > 5, "only {repaired}");
}

/// Volumes behind the first one have headers too, which no commit writes.
#[test]
fn header_copies_of_other_volumes_are_written_again() {
    let disk = RamDisk::of(&[3 << 30, 3 << 30]);
    format_storage(&disk);
    let second = DeviceIndex(1);
    let read = |offset| farrier_core::drive::ready(disk.read(second, offset, 65536)).unwrap();
    let sound = read(2 << 30);
    disk.patch_on(second, (2 << 30) + 0x300, &[0xa5; 16]);
    let examined = look(&disk, ALL).unwrap();
    let codes: Vec<_> = examined.plan.repairs().iter().map(|one| one.action.code()).collect();
    assert_eq!(codes, ["rewrite-header"], "{:#?}", examined.findings);
    apply(&disk, &examined.plan).unwrap();
    assert!(read(2 << 30) == sound);
    assert_eq!(look(&disk, ALL).unwrap().summary.repairable, 0);
}
