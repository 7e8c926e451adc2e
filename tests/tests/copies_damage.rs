//! What is good on no copy is listed in the headers until it is mended or gone, and a list that had
//! no room for everything keeps the volume from being written until the operator says otherwise.

use farrier_core::copies::lineage::{self, ReadOnly};
use farrier_core::drive::convert::NewGroup;
use farrier_core::drive::copies::NewCopy;
use farrier_core::drive::scrub::Scrub;
use farrier_core::drive::{self, ready};
use farrier_core::error::{BlockKind, Error};
use farrier_core::fs::Victim;
use farrier_core::media::damage::{DAMAGE_LEN, DAMAGE_MAX, DamageList, DamagedBlock, Lost};
use farrier_core::media::header::SHADOW_OFFSET;
use farrier_core::storage::Storage as _;
use farrier_core::units::{DeviceIndex, Inum, Uuid, WallTime};
use farrier_core::volume::{OpenOptions, Volume};
use farrier_tests::mounted::{Mounted, TreeBlock, format_copies};
use farrier_tests::ops::Op;
use farrier_tests::rack::Rack;
use farrier_tests::writing::{WritingHost, format_storage};

const BLOCK: usize = 64 << 10;
/// Where the list lies in a header.
const AT: u64 = 0x2000;

fn fresh(sizes: &[u64]) -> (Rack, Mounted) {
    let rack = Rack::new(sizes);
    format_copies(&rack);
    let mounted = Mounted::open(&rack, None, 0);
    (rack, mounted)
}

/// A file of `blocks` blocks, and these, in order.
fn file(mounted: &mut Mounted, name: &[u8], blocks: usize) -> (u64, Vec<TreeBlock>) {
    let before = data(mounted);
    let inum = mounted.new_file(name);
    write(mounted, inum, 0, blocks * BLOCK);
    let is_new =
        |one: &TreeBlock| before.iter().all(|old| old.blockref.raw() != one.blockref.raw());
    let mut new: Vec<_> = data(mounted).into_iter().filter(is_new).collect();
    new.sort_by_key(|block| block.blockref.key());
    assert_eq!(new.len(), blocks);
    (inum, new)
}

fn data(mounted: &Mounted) -> Vec<TreeBlock> {
    mounted.blocks().into_iter().filter(|block| block.want.is_data()).collect()
}

fn write(mounted: &mut Mounted, inum: u64, offset: u64, len: usize) {
    // bytes that fill every block
    let fill = mounted.time * 6 + 4;
    mounted.apply(&Op::Write { inum, offset: Some(offset), len, fill }).unwrap();
    mounted.flush().unwrap();
}

/// The block is bad on these copies.
fn spoil(rack: &Rack, block: &TreeBlock, copies: &[u8]) {
    for copy in copies {
        let offset = block.addresses.get(*copy).unwrap().0 + block.len() as u64 / 2;
        let byte = rack.bytes(*copy, offset, 1)[0];
        rack.patch(*copy, offset, &[byte ^ 0x10]);
    }
}

fn scrub(mounted: &Mounted) -> u64 {
    let mut scrub = Scrub::new();
    while ready(mounted.host.scrub(&mut scrub, 1 << 20)).unwrap() {}
    scrub.found().healed.unhealable
}

fn listed(mounted: &Mounted) -> DamageList {
    mounted.host.with_flusher(|flusher| flusher.unwrap().damage().unwrap().clone())
}

/// Where a list says that damage is.
fn places(list: &DamageList) -> Vec<(u64, BlockKind, u64)> {
    list.blocks().iter().map(|one| (one.inum.0, one.kind, one.offset)).collect()
}

/// The volume on the disks that `rack` shows, as it would be opened.
fn opened(rack: &Rack, copies: lineage::Options) -> Volume {
    let options = OpenOptions { copies, ..OpenOptions::default() };
    ready(drive::open(rack, options)).expect("copies of a volume")
}

fn found(rack: &Rack) -> DamageList {
    opened(rack, lineage::Options::default()).group().expect("copies").damage().clone()
}

/// What stands in the header of a disk that has only one.
fn on_media(rack: &Rack, disk: u8) -> Vec<u8> {
    rack.bytes(disk, AT, DAMAGE_LEN)
}

#[test]
fn a_scrub_lists_what_is_bad_on_all_copies_and_the_next_takes_away_what_was_mended() {
    let (rack, mut mounted) = fresh(&[64 << 20, 96 << 20]);
    let (other, others) = file(&mut mounted, b"other", 2);
    let (inum, blocks) = file(&mut mounted, b"file", 6);
    assert_eq!(scrub(&mounted), 0);
    assert!(listed(&mounted).is_empty() && on_media(&rack, 0) == [0; DAMAGE_LEN]);

    // bad on one copy is healed, bad on both is not
    spoil(&rack, &blocks[1], &[0]);
    for block in [&blocks[3], &blocks[4], &others[1]] {
        spoil(&rack, block, &[0, 1]);
    }
    let mut mounted = mounted.again(&rack);
    assert_eq!(scrub(&mounted), 6);
    let block = BLOCK as u64;
    let (data, expected) = (BlockKind::Data, listed(&mounted));
    let bad = [(other, data, block), (inum, data, 3 * block), (inum, data, 4 * block)];
    assert_eq!(places(&expected), bad);
    for one in expected.blocks() {
        assert_eq!((one.pfs, one.len, one.lost()), (mounted.pfs.id().0, block, Lost::Stretch));
        assert!(one.seen > WallTime(0) && one.tid.0 > 0);
    }
    // nothing else was changed, and it lasts all the same, once
    assert!(found(&rack).is_empty());
    assert!(mounted.host.flush().unwrap());
    assert!(!mounted.host.flush().unwrap(), "once is enough");
    for disk in [0, 1] {
        assert_eq!(found(&rack.fork().show(&[disk])), expected);
    }
    assert_eq!(on_media(&rack, 0), expected.store());

    // found again it is the same, with the time when it was met first
    mounted = mounted.again(&rack);
    assert_eq!(listed(&mounted), expected);
    assert_eq!(scrub(&mounted), 6);
    assert_eq!(listed(&mounted), expected);
    assert!(!mounted.host.flush().unwrap());

    // written anew, or deleted
    write(&mut mounted, inum, 3 * block, BLOCK);
    assert_eq!(listed(&mounted), expected, "nobody has looked yet");
    assert_eq!(scrub(&mounted), 4);
    assert_eq!(places(&listed(&mounted)), [bad[0], bad[2]]);
    for name in [&b"other"[..], b"file"] {
        let (directory, name) = (Inum::ROOT.0, name.to_vec());
        mounted.apply(&Op::Unlink { directory, name, victim: Victim::File, keep: false }).unwrap();
    }
    mounted.flush().unwrap();
    assert_eq!(scrub(&mounted), 0);
    assert!(listed(&mounted).is_empty());
    mounted.flush().unwrap();
    assert_eq!(
        (on_media(&rack, 0), on_media(&rack, 1)),
        (vec![0; DAMAGE_LEN], vec![0; DAMAGE_LEN])
    );
    mounted.check().unwrap();
}

#[test]
fn what_is_not_seen_is_not_taken_for_mended() {
    let (rack, mut mounted) = fresh(&[64 << 20, 64 << 20]);
    let (inum, blocks) = file(&mut mounted, b"file", 20);
    let read = |offset: u64| {
        let stretch = (offset * BLOCK as u64, BLOCK as u64);
        DamagedBlock::unread(mounted.pfs.id().0, Inum(inum), stretch, WallTime(5))
    };
    // one that a read met before, and one that a read meets while a scrub is behind it
    ready(mounted.host.heal()).unwrap();
    spoil(&rack, &blocks[2], &[0, 1]);
    spoil(&rack, &blocks[9], &[0, 1]);
    mounted.host.note_damage(read(2)).unwrap();
    mounted.host.note_damage(read(7)).unwrap();
    assert!(mounted.host.flush().unwrap());
    let mut one = Scrub::new();
    while ready(mounted.host.scrub(&mut one, 1)).unwrap() {
        if one.found().healed.unhealable == 2 {
            mounted.host.note_damage(read(1)).unwrap();
        }
        // one that is stopped takes nothing away
        assert_eq!(places(&listed(&mounted))[1].2, 7 * BLOCK as u64);
    }
    let offsets: Vec<_> = listed(&mounted).blocks().iter().map(|one| one.offset).collect();
    let block = BLOCK as u64;
    assert_eq!(offsets, [2 * block, 9 * block, block], "7 is good");
    assert_eq!(listed(&mounted).blocks()[0].seen, WallTime(5));
}

#[test]
fn a_resynchronisation_lists_what_nobody_has() {
    let rack = Rack::new(&[64 << 20, 64 << 20]);
    let shown = rack.show(&[0]);
    format_copies(&shown);
    let mut mounted = Mounted::open(&shown, None, 0);
    let (inum, blocks) = file(&mut mounted, b"file", 4);
    spoil(&rack, &blocks[2], &[0]);
    let mounted = mounted.again(&shown);
    shown.reveal(1);
    let new = NewCopy { device: DeviceIndex(1), size: 64 << 20, id: Uuid([77; 16]) };
    ready(mounted.host.add_copy(new)).unwrap();
    let filled = ready(mounted.host.resync(1 << 30)).unwrap();
    assert_eq!((filled.unreadable, filled.joined), (1, 0));
    let list = listed(&mounted);
    assert_eq!(places(&list), [(inum, BlockKind::Data, 2 * BLOCK as u64)]);
    mounted.host.flush().unwrap();
    // also where it is not in sync
    assert_eq!(
        (on_media(&rack, 0), on_media(&rack, 1)),
        (list.store().into(), list.store().into())
    );
    // and again it is no news
    ready(mounted.host.resync(1 << 30)).unwrap();
    assert_eq!(listed(&mounted), list);
    assert!(!mounted.host.flush().unwrap());
}

#[test]
fn tables_and_inodes_are_listed_for_what_they_are() {
    let (rack, mut mounted) = fresh(&[64 << 20, 64 << 20]);
    let (inum, _) = file(&mut mounted, b"file", 20);
    let all = mounted.blocks();
    let inode = |block: &&TreeBlock| {
        block.blockref.kind() == BlockKind::Inode && block.blockref.key() == inum
    };
    let table = |block: &&TreeBlock| block.blockref.kind() == BlockKind::Indirect;
    let (inode, table) = (*all.iter().find(inode).unwrap(), *all.iter().find(table).unwrap());
    spoil(&rack, &table, &[0, 1]);
    let mounted = mounted.again(&rack);
    assert_eq!(scrub(&mounted), 2);
    let list = listed(&mounted);
    assert_eq!(places(&list), [(inum, BlockKind::Indirect, table.blockref.key())]);
    assert!(list.blocks()[0].len > BLOCK as u64, "all that it leads to");
    // what is below it is known by it only
    spoil(&rack, &inode, &[0, 1]);
    let mounted = mounted.again(&rack);
    assert_eq!(scrub(&mounted), 2);
    assert_eq!(places(&listed(&mounted)), [(inum, BlockKind::Inode, inum)]);
    assert_eq!(listed(&mounted).blocks()[0].lost(), Lost::Inode);
}

#[test]
fn a_list_without_room_is_read_only_until_it_is_emptied() {
    let (rack, mut mounted) = fresh(&[64 << 20, 64 << 20]);
    let (inum, blocks) = file(&mut mounted, b"file", DAMAGE_MAX + 5);
    for block in &blocks[..=DAMAGE_MAX] {
        spoil(&rack, block, &[0, 1]);
    }
    let mut mounted = mounted.again(&rack);
    scrub(&mounted);
    assert!(listed(&mounted).is_full() && listed(&mounted).blocks().len() == DAMAGE_MAX);
    // what is mounted goes on
    write(&mut mounted, inum, (DAMAGE_MAX as u64 + 1) * BLOCK as u64, BLOCK);
    let (committed, time) = (mounted.committed.clone(), mounted.time);
    drop(mounted);

    let none = lineage::Options::default();
    let writable = |options| opened(&rack, options).group().unwrap().decision().writable;
    assert_eq!(writable(none), Err(ReadOnly::DamageList));
    assert_eq!(ReadOnly::DamageList.code(), "FC-D09");
    let told = OpenOptions { copies: none, ..OpenOptions::default() };
    let told = ready(drive::may_write(&rack, &told)).unwrap_err();
    assert!(told.starts_with("FC-D09: read-only: ") && told.contains("farrier copies clear"));
    let refused = WritingHost::with(rack.clone(), OpenOptions::default(), 1 << 20);
    assert_eq!(refused.err(), Some(Error::ReadOnly));
    assert_eq!(found(&rack).blocks().len(), DAMAGE_MAX, "it can be read");

    // the way out
    let accepting = lineage::Options { accept_damage: true, ..none };
    assert_eq!(writable(accepting), Ok(()));
    let options = OpenOptions { copies: accepting, ..OpenOptions::default() };
    let mounted = Mounted::open_with(&rack, Some(committed.clone()), time, options);
    ready(mounted.host.clear_damage()).unwrap();
    drop(mounted);
    assert_eq!((writable(none), on_media(&rack, 1)), (Ok(()), vec![0; DAMAGE_LEN]));
    // and what is damaged still is met again, until it is mended
    let mut mounted = Mounted::open(&rack, Some(committed), time);
    write(&mut mounted, inum, 0, 2 * BLOCK);
    scrub(&mounted);
    assert!(!listed(&mounted).is_full());
    assert_eq!(listed(&mounted).blocks().len(), DAMAGE_MAX - 1);
    mounted.host.flush().unwrap();
    assert_eq!(writable(none), Ok(()));
    write(&mut mounted, inum, 0, (DAMAGE_MAX + 1) * BLOCK);
    scrub(&mounted);
    mounted.flush().unwrap();
    assert!(found(&rack).is_empty());
    mounted.check().unwrap();
}

#[test]
fn a_scrub_makes_room_in_a_list_that_was_full() {
    let (_, mut mounted) = fresh(&[64 << 20, 64 << 20]);
    let (inum, _) = file(&mut mounted, b"file", 3);
    let read = |number: u64| {
        let stretch = (number * BLOCK as u64, BLOCK as u64);
        DamagedBlock::unread(mounted.pfs.id().0, Inum(inum), stretch, WallTime(5))
    };
    for number in 0..=DAMAGE_MAX as u64 {
        mounted.host.note_damage(read(number)).unwrap();
    }
    assert!(listed(&mounted).is_full());
    // what others met and had no room for while it went on is still unknown
    let mut one = Scrub::new();
    assert!(ready(mounted.host.scrub(&mut one, 1)).unwrap());
    mounted.host.note_damage(read(500)).unwrap();
    while ready(mounted.host.scrub(&mut one, 1 << 20)).unwrap() {}
    assert!(listed(&mounted).is_full() && listed(&mounted).blocks().is_empty());
    scrub(&mounted);
    assert!(listed(&mounted).is_empty());
}

#[test]
fn copies_that_come_and_go_keep_the_list_and_a_volume_without_copies_has_none() {
    let rack = Rack::new(&[64 << 20, 64 << 20, 64 << 20]).show(&[0]);
    format_storage(&rack);
    let mounted = Mounted::open(&rack, None, 0);
    ready(mounted.host.to_copies(NewGroup { group: Uuid([9; 16]), device: Uuid([8; 16]) }))
        .unwrap();
    assert!(listed(&mounted).is_empty());
    assert_eq!(on_media(&rack, 0), [0; DAMAGE_LEN]);
    let block = DamagedBlock::unread(mounted.pfs.id().0, Inum(4000), (0, 1 << 16), WallTime(5));
    mounted.host.note_damage(block).unwrap();
    let mut expected = DamageList::EMPTY;
    expected.note(block);
    for disk in [1, 2] {
        rack.reveal(disk);
        let device = DeviceIndex(disk);
        let new = NewCopy { device, size: rack.size(device), id: Uuid([disk + 20; 16]) };
        ready(mounted.host.add_copy(new)).unwrap();
        while ready(mounted.host.resync(1 << 30)).unwrap().behind != 0 {}
        assert_eq!(on_media(&rack, disk), expected.store());
    }
    ready(mounted.host.remove_copy(1)).unwrap();
    drop(mounted);
    assert_eq!(found(&rack.fork().show(&[0, 2])), expected);
    let rack = rack.show(&[0, 2]);
    let mounted = Mounted::open(&rack, None, 100);
    assert_eq!(listed(&mounted), expected);
    while !ready(mounted.host.strip(0, 1 << 30)).unwrap().is_done {}
    drop(mounted);
    // the header and the one that stands for it if it is torn
    for at in [AT, SHADOW_OFFSET + AT] {
        assert_eq!(rack.bytes(0, at, DAMAGE_LEN), [0; DAMAGE_LEN]);
    }
    let header = opened(&rack.show(&[0]), lineage::Options::default());
    assert!(header.group().is_none() && header.header().damage().is_empty());
}

#[test]
fn a_list_that_is_damaged_itself_is_no_reason_to_give_up() {
    let (rack, mounted) = fresh(&[64 << 20, 64 << 20]);
    drop(mounted);
    for bytes in [&b"FARDAMG1"[..], &[0xff; DAMAGE_LEN]] {
        let rack = rack.fork();
        for disk in [0, 1] {
            reseal(&rack, disk, |raw| {
                raw.copyinfo[0x1000..0x1000 + bytes.len()].copy_from_slice(bytes);
            });
        }
        assert!(found(&rack).is_full() && found(&rack).blocks().is_empty());
        let volume = opened(&rack, lineage::Options::default());
        assert_eq!(volume.group().unwrap().decision().writable, Err(ReadOnly::DamageList));
    }
}

/// Changes the header of a disk that has only one.
fn reseal(rack: &Rack, disk: u8, change: impl Fn(&mut farrier_core::media::raw::RawVolumeHeader)) {
    use zerocopy::{FromBytes as _, IntoBytes as _};
    let bytes = rack.bytes(disk, 0, 0x1_0000);
    let mut raw =
        Box::new(farrier_core::media::raw::RawVolumeHeader::read_from_bytes(&bytes).unwrap());
    change(&mut raw);
    let checks = farrier_core::media::check::Checks::with_crc32c(crc32c::crc32c);
    farrier_core::media::header::seal(&mut raw, &checks);
    rack.patch(disk, 0, raw.as_bytes());
}
