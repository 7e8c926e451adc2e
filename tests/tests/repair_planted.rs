//! Repair of faults that no golden image has: they are planted, with every check code put right, and
//! each has to be found, repaired, and gone.

use std::mem::offset_of;

use farrier_core::drive::ready;
use farrier_core::drive::repair::{Examined, examine};
use farrier_core::drive::solo::Solo;
use farrier_core::error::{BlockKind, Error};
use farrier_core::media::blockref::{Blockref, slots};
use farrier_core::media::check::{CheckMethod, Checks, store};
use farrier_core::media::inode::{Inode, ObjectKind};
use farrier_core::media::raw::RawInode;
use farrier_core::repair::{Doubt, Orphans, RepairOptions};
use farrier_core::scan::{CheckOptions, Grade};
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, WallTime};
use farrier_core::volume::OpenOptions;
use farrier_tests::checking::second_opinion;
use farrier_tests::images::{Damaged, manifest, scratch, shipped, shipped_folder};
use farrier_tests::ram::RamDisk;

const ALL: RepairOptions = RepairOptions { drop_dangling: true, orphans: Orphans::Attach };
const DEVICE: DeviceIndex = DeviceIndex(0);
/// Distance of the header slots, and what lies where in a header and a blockref.
const STRIDE: u64 = 2 << 30;
const SUPER_ROOT_TABLE: u64 = 0x200;
const FREEMAP_TABLE: u64 = 0x800;
const FLAGS: u64 = 0x05;
const KEY: u64 = 0x08;
const DATA_OFF: u64 = 0x20;
const EMBED: u64 = 0x30;
const CHECK: u64 = 0x40;

/// Every blockref of a sound volume, and where it stands: parents before what is below them.
struct Surgeon {
    disk: RamDisk,
    header: u64,
    refs: Vec<(u64, Blockref)>,
}

impl Surgeon {
    fn new(name: &str) -> Self {
        let path = shipped(name).remove(0);
        let disk = RamDisk::with(std::fs::read(path).unwrap());
        let solo = ready(Solo::open(disk.clone(), OpenOptions::default(), 1 << 20)).unwrap();
        let header = u64::from(solo.volume().chosen_slot()) * STRIDE;
        let mut surgeon = Self { disk, header, refs: Vec::new() };
        for slot in 0..4 {
            surgeon.explore(header + SUPER_ROOT_TABLE + slot * 128);
            surgeon.explore(header + FREEMAP_TABLE + slot * 128);
        }
        surgeon
    }

    /// The same volume once more, to plant something else in.
    fn fork(&self) -> Self {
        Self { disk: self.disk.fork(), header: self.header, refs: self.refs.clone() }
    }

    fn get(&self, offset: u64, len: usize) -> Vec<u8> {
        ready(self.disk.read(DEVICE, offset, len)).unwrap()
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        self.disk.patch(offset, bytes);
    }

    fn explore(&mut self, at: u64) {
        let raw = self.get(at, 128);
        let Ok(Some(blockref)) = Blockref::parse(&slots(&raw)[0]) else { return };
        self.refs.push((at, blockref));
        let Some(location) = blockref.location() else { return };
        let block = self.get(location.offset.0, location.len());
        let table = match blockref.kind() {
            BlockKind::Indirect | BlockKind::FreemapNode => 0..block.len(),
            BlockKind::Inode if !Inode::parse(&block).unwrap().has_direct_data() => 0x200..0x400,
            _ => 0..0,
        };
        for slot in table.step_by(128) {
            self.explore(location.offset.0 + slot as u64);
        }
    }

    /// Puts every check code right, from the leaves up to the header.
    fn mend(&self) {
        for (at, blockref) in self.refs.iter().rev() {
            let raw = self.get(*at, 128);
            // what was planted may have moved the block
            let Ok(Some(now)) = Blockref::parse(&slots(&raw)[0]) else { continue };
            let Some(location) = now.location() else { continue };
            let method = blockref.check_method();
            if method == CheckMethod::None {
                continue;
            }
            let bytes = self.get(location.offset.0, location.len());
            let mut field: [u8; 64] = raw[CHECK as usize..].try_into().unwrap();
            if method == CheckMethod::Freemap {
                field[..4].copy_from_slice(&Checks::PORTABLE.crc32c(&bytes).to_le_bytes());
            } else {
                store(Checks::PORTABLE.compute(&bytes, method), &mut field);
            }
            self.put(at + CHECK, &field);
        }
        for (covered, at) in [(0x200..0x400, 0x1f8), (0..0x1fc, 0x1fc), (0..0xfffc, 0xfffc)] {
            let header = self.get(self.header, 65536);
            let code = Checks::PORTABLE.crc32c(&header[covered]);
            self.put(self.header + at, &code.to_le_bytes());
        }
    }

    fn look(&self, options: RepairOptions) -> Examined {
        let solo = ready(Solo::open(self.disk.clone(), OpenOptions::default(), 1 << 20)).unwrap();
        ready(examine(&solo, solo.volume(), CheckOptions::default(), options))
    }

    /// Finds `code`, repairs, and leaves nothing to repair; tells in how many rounds.
    fn heals(&self, what: &str, code: &str) -> usize {
        self.mend();
        let mut examined = self.look(ALL);
        let found: Vec<_> = examined.findings.iter().map(|one| one.kind.code()).collect();
        assert!(found.contains(&code), "{what}: {:#?}", examined.findings);
        assert_eq!(examined.summary.fatal, 0, "{what}: {:#?}", examined.findings);
        let mut rounds = 0;
        while !examined.plan.repairs().is_empty() {
            assert!(rounds < 4, "{what}: {:#?}", examined.findings);
            let (options, plan) = (OpenOptions::default(), &examined.plan);
            let solo = Solo::open_for_repair(self.disk.clone(), options, 1 << 20, plan);
            let now = WallTime(1_700_000_000_000_000);
            let outcome = ready(ready(solo).unwrap().repair(plan, now)).unwrap();
            assert_eq!(outcome.failed, [], "{what}: {:?}", plan.repairs());
            examined = self.look(ALL);
            rounds += 1;
        }
        let wrong = examined.findings.iter().filter(|one| one.grade() > Grade::Information);
        let wrong: Vec<_> = wrong.map(ToString::to_string).collect();
        assert_eq!(wrong, [""; 0], "{what}");
        rounds
    }

    fn ask_the_other(&self, name: &str) {
        let path = scratch("repair-planted").join(format!("{name}.img"));
        std::fs::write(&path, self.disk.bytes()).unwrap();
        second_opinion(&path);
        std::fs::remove_file(path).unwrap();
    }

    fn inode(&self, blockref: &Blockref) -> Option<(u64, RawInode)> {
        let location = blockref.location().filter(|_| blockref.kind() == BlockKind::Inode)?;
        let block = self.get(location.offset.0, location.len());
        Some((location.offset.0, Inode::parse(&block).unwrap().raw().clone()))
    }

    /// Where inodes lie that `wanted` wants, with where their blockrefs stand.
    fn inodes(&self, wanted: impl Fn(&Blockref, &RawInode) -> bool) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        for (at, blockref) in &self.refs {
            if let Some((offset, raw)) = self.inode(blockref)
                && wanted(blockref, &raw)
            {
                found.push((*at, offset));
            }
        }
        found
    }

    fn roots(&self) -> Vec<(u64, u64)> {
        self.inodes(|blockref, _| blockref.is_pfs_root() && blockref.key() != 0)
    }

    fn files(&self) -> Vec<(u64, u64)> {
        let file = ObjectKind::Regular.code();
        self.inodes(|blockref, raw| !blockref.is_pfs_root() && raw.kind == file)
    }
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
            let rounds = ill.heals(&format!("{name}: {}", blockref.place()), "stats");
            assert_eq!(rounds, 1, "{name}: {}", blockref.place());
            planted += 1;
            if planted % 8 == 1 {
                ill.ask_the_other("stats");
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
        ill.heals(what, "pfs");
        ill.ask_the_other("roots");
    }
}

#[test]
fn numbers_that_would_be_given_again_are_reserved() {
    let ill = Surgeon::new("d-base1");
    for (_, root) in ill.roots() {
        ill.put(root + offset_of!(RawInode, pfs_inum) as u64, &1030_u64.to_le_bytes());
    }
    assert_eq!(ill.heals("numbers", "inum-allocator"), 1);
    ill.ask_the_other("numbers");
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
        assert_eq!(ill.heals(&format!("{kind:?} at {at:#x}"), "dirent-type"), 1);
        ill.ask_the_other("kinds");
        // the bit that keys of names have: no inode has such a number
        let ill = sound.fork();
        ill.put(at + EMBED, &u64::MAX.to_le_bytes());
        ill.heals("an impossible number", "dangling-dirent");
        ill.ask_the_other("impossible");
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
    sound.heals("a shared inode", "nlinks");
    sound.ask_the_other("shared");
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
        ill.heals(what, code);
        ill.ask_the_other("freemap");
    }
    // to the place of another level, with all that is in it
    let ill = sound.fork();
    let elsewhere = offset / (4 << 20) * (4 << 20) + 0x2_0000;
    ill.put(elsewhere, &bytes);
    ill.put(at + DATA_OFF, &(elsewhere | 15).to_le_bytes());
    ill.heals("a block out of place", "freemap-slot");
    ill.ask_the_other("freemap");
}

#[test]
fn in_doubt_about_free_space_nothing_is_written() {
    let path = Damaged::named("d-indirect-dir").make(&scratch("repair-doubt"));
    let disk = RamDisk::with(std::fs::read(&path).unwrap());
    let ill = Surgeon { disk: disk.clone(), header: 0, refs: Vec::new() };
    let leaf = u64::from_le_bytes(ill.get(FREEMAP_TABLE + DATA_OFF, 8).try_into().unwrap());
    ill.put((leaf & !63) + 8, &[9; 8]);
    disk.record();
    let examined = ill.look(ALL);
    assert_eq!(examined.plan.doubt(), Some(Doubt::Hidden), "{:#?}", examined.findings);
    let (options, plan) = (OpenOptions::default(), &examined.plan);
    let solo = ready(Solo::open_for_repair(disk.clone(), options, 1 << 20, plan));
    assert!(matches!(solo, Err(Error::ReadOnly)));
    assert_eq!(disk.events(), []);
    std::fs::remove_file(path).unwrap();
    // the images that this relies on
    assert!(manifest(&shipped_folder(), "d-base1").pfs.contains_key("DATA"));
}
