//! What the simulator of copies found, and what was mended without a test of its own: each by itself.

use farrier_core::copies::lineage::Options;
use farrier_core::drive::pfs::{Birth, PfsChange};
use farrier_core::drive::ready;
use farrier_core::flush::{HeaderWriter, valid};
use farrier_core::fs::{New, Victim};
use farrier_core::media::blockref::Blockref;
use farrier_core::media::check::Checks;
use farrier_core::media::header::{HEADER_LEN, HEADER_STRIDE, SHADOW_SLOT, VolumeHeader};
use farrier_core::units::{Uuid, WallTime};
use farrier_core::volume::OpenOptions;
use farrier_tests::against::compare_pfs;
use farrier_tests::host::TestHost;
use farrier_tests::model::Creation;
use farrier_tests::mounted::{Mounted, each_holds, format_copies};
use farrier_tests::ops::{Op, Random};
use farrier_tests::rack::{Mode, Rack};
use farrier_tests::writing::WritingHost;
use zerocopy::IntoBytes as _;

/// What is packed into nothing smaller.
const NOISE: u64 = 4;
const STEP: usize = 256 << 10;
/// What a disk writes as a whole.
const SECTOR: usize = 512;

fn used(sizes: &[u64], seed: u64) -> (Rack, Mounted, Random) {
    let rack = Rack::new(sizes);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let mut random = Random::new(seed);
    mounted.work(&mut random, 60).unwrap();
    (rack, mounted, random)
}

fn create(mounted: &mut Mounted, name: &str) -> u64 {
    let name = name.as_bytes().to_vec();
    let (directory, new, mode, uid, gid) = (1, New::File, 0o600, 0, 0);
    let what = Creation { directory, name: name.clone(), new, mode, uid, gid };
    mounted.apply(&Op::Create(what)).unwrap();
    mounted.model.get(1).unwrap().names[&name]
}

fn write(mounted: &mut Mounted, inum: u64, number: u64, len: usize) {
    let offset = Some(number * len as u64);
    mounted.apply(&Op::Write { inum, offset, len, fill: 6 * number + NOISE }).unwrap();
}

/// A copy whose newest header is that of the mount before, by the same commit: it is the other one
/// that is believed.
#[test]
fn the_first_flush_of_a_mount_has_a_number_of_its_own() {
    let (rack, mounted, mut random) = used(&[64 << 20, 64 << 20], 1);
    let then = rack.fork();
    let mut mounted = mounted.again(&rack);
    for _ in 0..5 {
        create(&mut mounted, &format!("new{}", random.next()));
    }
    mounted.flush().unwrap();
    rack.patch(0, 0, &then.bytes(0, 0, 64 << 20));
    mounted.again(&rack).check().unwrap();
}

/// Everything that the freemap of `disk` is made of becomes unreadable.
fn lose_freemap(rack: &Rack, disk: u8) {
    let options = OpenOptions::default();
    let volume = ready(farrier_core::drive::open(rack, options)).unwrap();
    let header = volume.group().unwrap().headers().iter().find(|one| one.copy == disk).unwrap();
    for raw in header.header.freemap_table() {
        if let Some(location) = Blockref::parse(raw).unwrap().and_then(|one| one.location()) {
            rack.patch(disk, location.offset.0, &vec![0; location.len()]);
        }
    }
}

#[test]
fn a_copy_in_sync_that_lost_its_freemap_holds_nobody_up() {
    for seed in 1..5 {
        for disk in [0, 1] {
            let (rack, mounted, mut random) = used(&[64 << 20, 64 << 20], seed);
            lose_freemap(&rack, disk);
            let mut mounted = mounted.again(&rack);
            let free = mounted.host.with_memory(|memory| memory.free_bytes());
            assert!(free > 1 << 20, "{free} bytes are free");
            for _ in 0..4 {
                mounted.work(&mut random, 40).unwrap();
            }
            mounted.check().unwrap();
            each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
        }
    }
}

#[test]
fn a_freemap_that_is_made_anew_keeps_the_root_of_a_copy_that_was_away() {
    for seed in 1..5 {
        let (rack, mut mounted, mut random) = used(&[64 << 20, 64 << 20], seed);
        let then = mounted.committed.settled();
        rack.set(1, Mode::Gone);
        let inum = create(&mut mounted, "large");
        for number in 0..20 {
            write(&mut mounted, inum, number, STEP);
        }
        mounted.flush().unwrap();
        rack.set(1, Mode::Fine);
        lose_freemap(&rack, 1);
        let mut mounted = mounted.again(&rack);
        create(&mut mounted, "later");
        mounted.flush().unwrap();
        assert_eq!(ready(mounted.host.resync(1)).unwrap().behind, 2);
        let copies = Options { only_copy: Some(1), ..Options::default() };
        let options = OpenOptions { copies, ..OpenOptions::default() };
        let alone = TestHost::with(rack.fork().show(&[1]), options, 1 << 20).unwrap();
        compare_pfs(&alone, b"DATA", &then).unwrap();
        while ready(mounted.host.resync(u64::MAX)).unwrap().behind != 0 {}
        mounted.work(&mut random, 40).unwrap();
        each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
    }
}

/// I6: a block that a copy lacks is read once, also an inode that holds all there is of its file.
#[test]
fn nothing_is_read_twice_to_be_filled_in() {
    let (rack, mut mounted, _) = used(&[64 << 20, 64 << 20], 2);
    rack.set(1, Mode::Gone);
    for number in 0..40 {
        let inum = create(&mut mounted, &format!("small{number}"));
        write(&mut mounted, inum, 0, 100);
    }
    mounted.flush().unwrap();
    rack.set(1, Mode::Fine);
    let mut mounted = mounted.again(&rack);
    mounted.flush().unwrap();
    let blocks = mounted.blocks();
    let lacking = mounted.host.with_flusher(|flusher| {
        let set = *flusher.unwrap().writer().copies().unwrap();
        blocks.iter().filter(|one| valid(&set, one.blockref.raw()) & 2 == 0).count() as u64
    });
    let _ = rack.take_traffic(0);
    let _ = rack.take_traffic(1);
    assert_eq!(ready(mounted.host.resync(u64::MAX)).unwrap().joined, 2);
    let (reads, of_target) = (rack.take_traffic(0).reads, rack.take_traffic(1).reads);
    assert!(lacking > 40 && reads <= lacking, "{reads} reads for {lacking} blocks");
    assert_eq!(of_target, 0, "what it lacks is not looked for on it");
}

/// The only header of a small copy is cut short when it goes on after some transactions that it
/// missed: its shadow stands for it.
#[test]
fn a_header_that_missed_transactions_is_cut_short() {
    let (rack, mut mounted, mut random) = used(&[64 << 20, 64 << 20], 3);
    rack.set(1, Mode::Gone);
    for _ in 0..5 {
        mounted.work(&mut random, 10).unwrap();
    }
    rack.set(1, Mode::Fine);
    let before = rack.bytes(1, 0, HEADER_LEN);
    let mut mounted = mounted.again(&rack);
    mounted.flush().unwrap();
    let after = rack.bytes(1, 0, HEADER_LEN);
    drop(mounted);
    // a disk writes in the order that it likes
    let differs = |sector: &usize| {
        let range = sector * SECTOR..(sector + 1) * SECTOR;
        before[range.clone()] != after[range]
    };
    let sectors: Vec<usize> = (0..HEADER_LEN / SECTOR).filter(differs).collect();
    for some in 0..1_u32 << sectors.len() {
        let mut torn = before.clone();
        for (_, sector) in (0..).zip(&sectors).filter(|(bit, _)| some & 1 << bit != 0) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            torn[range.clone()].copy_from_slice(&after[range]);
        }
        let rack = rack.fork();
        rack.patch(1, 0, &torn);
        let host = WritingHost::open(rack, 1 << 20);
        let what = || format!("{some:b} of sectors {sectors:?} are new");
        let host = host.unwrap_or_else(|error| panic!("{}: {error:?}", what()));
        let group = host.volume().group().unwrap();
        assert_eq!(group.headers().len(), 2, "{}: {:?}", what(), group.decision().notes);
        let found = &group.headers()[1].header;
        let is = |whole: &VolumeHeader| found.raw().as_bytes() == whole.raw().as_bytes();
        assert!(is(&whole(&before)) || is(&whole(&after)), "{}: it is neither", what());
    }
}

/// A copy that is behind keeps its root, so that of two headers in one slot nothing but the freemap
/// and what says so is new: with the freemap of one and the rest of the other, what is in use would be
/// handed out again.
#[test]
fn a_header_has_the_freemap_of_its_time() {
    let (rack, mut mounted, mut random) = used(&[3 << 30, 3 << 30], 3);
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 10).unwrap();
    rack.set(1, Mode::Fine);
    let mut mounted = mounted.again(&rack);
    let headers = |rack: &Rack| -> Vec<Vec<u8>> {
        (0..2).map(|slot| rack.bytes(1, slot * HEADER_STRIDE, HEADER_LEN)).collect()
    };
    let mut torn_ones = 0;
    for number in 0..6 {
        let before = headers(&rack);
        create(&mut mounted, &format!("{number} {:0100}", 0));
        mounted.flush().unwrap();
        let after = headers(&rack);
        for (before, after) in before.iter().zip(&after) {
            let differs = |sector: &usize| {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                before[range.clone()] != after[range]
            };
            let sectors: Vec<usize> = (0..HEADER_LEN / SECTOR).filter(differs).collect();
            for some in 1..(1_u32 << sectors.len()).saturating_sub(1) {
                let mut torn = before.clone();
                for (_, sector) in (0..).zip(&sectors).filter(|(bit, _)| some & 1 << bit != 0) {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    torn[range.clone()].copy_from_slice(&after[range]);
                }
                torn_ones += 1;
                if let Ok(found) = VolumeHeader::parse(&torn, &checks()) {
                    let is =
                        |whole: &VolumeHeader| found.raw().as_bytes() == whole.raw().as_bytes();
                    let is_whole = is(&whole(before)) || is(&whole(after));
                    assert!(is_whole, "{some:b} of sectors {sectors:?} are new: it is neither");
                }
            }
        }
    }
    assert!(torn_ones > 100, "{torn_ones}");
}

fn checks() -> Checks {
    Checks::with_crc32c(crc32c::crc32c)
}

fn whole(bytes: &[u8]) -> VolumeHeader {
    VolumeHeader::parse(bytes, &checks()).unwrap()
}

/// A header whose shadow had to stand for it is made whole as it was, also where its copy goes on
/// behind transactions that it missed: a second cut must not leave neither.
#[test]
fn a_header_that_was_cut_short_is_made_whole_as_it_was() {
    let (_rack, mounted, _) = used(&[64 << 20, 64 << 20], 6);
    let checks = Checks::with_crc32c(crc32c::crc32c);
    for one in mounted.host.volume().group().unwrap().headers() {
        let tid = one.header.mirror_tid();
        let mut writer = HeaderWriter::new(&one.header, SHADOW_SLOT);
        writer.raw_mut().mirror_tid.set(tid.0 + 3);
        let bytes = writer.take_torn().expect("it was found in the shadow");
        assert_eq!(VolumeHeader::parse(&bytes, &checks).unwrap().mirror_tid(), tid);
        assert_eq!(writer.take_torn(), None);
    }
}

/// I14: what two trees share is one block on a copy that got it from a resynchronisation, also where
/// another copy had no room for it.
#[test]
fn what_is_shared_is_filled_in_once_beside_a_copy_that_is_full() {
    let (rack, mut mounted, _) = used(&[96 << 20, 24 << 20, 96 << 20], 4);
    rack.set(1, Mode::Gone);
    rack.set(2, Mode::Gone);
    let inum = create(&mut mounted, "large");
    for number in 0..110 {
        write(&mut mounted, inum, number, STEP);
    }
    mounted.flush().unwrap();
    let id = |number: u8| Uuid([number; 16]);
    let birth = Birth { cluster_id: id(5), pfs_id: id(6), now: WallTime(1) };
    let of = mounted.pfs.id();
    let snapshot = PfsChange::Snapshot { of, label: b"SNAP".to_vec(), birth };
    mounted.host.change_pfs(&snapshot).unwrap();
    rack.set(1, Mode::Fine);
    rack.set(2, Mode::Fine);
    let mut mounted = mounted.again(&rack);
    mounted.flush().unwrap();
    let filled = ready(mounted.host.resync(u64::MAX)).unwrap();
    assert_eq!(filled.joined, 0b100, "the second copy is too small");
    let blocks = mounted.references();
    let on = |copy| {
        let mut places: Vec<u64> =
            blocks.iter().filter_map(|one| Some(one.addresses.get(copy)?.0)).collect();
        places.sort_unstable();
        places.dedup();
        places.len()
    };
    assert_eq!(on(2), on(0));
}

/// The tables that a batch writes anew take of the room of the copies in sync: it stops in time.
#[test]
fn a_batch_ends_where_room_does() {
    let (rack, mut mounted, _) = used(&[64 << 20, 96 << 20], 5);
    rack.set(1, Mode::Gone);
    for number in 0..6000 {
        let inum = create(&mut mounted, &format!("small{number}"));
        write(&mut mounted, inum, 0, 600);
    }
    mounted.flush().unwrap();
    let inum = create(&mut mounted, "large");
    let free = |mounted: &Mounted| mounted.host.with_memory(|memory| memory.free_bytes());
    for number in 0.. {
        if free(&mounted) < 5 << 20 {
            break;
        }
        write(&mut mounted, inum, number, 64 << 10);
    }
    mounted.flush().unwrap();
    rack.set(1, Mode::Fine);
    let mut mounted = mounted.again(&rack);
    mounted.flush().unwrap();
    assert!(free(&mounted) >= 4 << 20, "{} bytes are free", free(&mounted));
    for _ in 0..3 {
        ready(mounted.host.resync(u64::MAX)).unwrap();
    }
    // it still can be written, and what makes room can be done
    let (name, victim) = (b"large".to_vec(), Victim::File);
    mounted.apply(&Op::Unlink { directory: 1, name, victim, keep: false }).unwrap();
    assert!(!mounted.model.get(1).unwrap().names.contains_key(&b"large"[..]));
    mounted.flush().unwrap();
    mounted.check().unwrap();
}
