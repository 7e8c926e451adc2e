//! Copies whose headers or roots are damaged: the others go on by the rules, and say which it is.

use farrier_core::copies::lineage::{Note, Options, ReadOnly};
use farrier_core::copies::{CopyState, OnMissing, Rules, Runtime};
use farrier_core::drive::copies::NewCopy;
use farrier_core::drive::{self, ready};
use farrier_core::error::Error;
use farrier_core::storage::Storage as _;
use farrier_core::units::{DeviceIndex, Uuid};
use farrier_core::volume::{OpenOptions, Volume};
use farrier_tests::against::compare_media;
use farrier_tests::mounted::{self, Mounted, each_holds};
use farrier_tests::ops::Random;
use farrier_tests::rack::Rack;
use farrier_tests::session::a_header;
use farrier_tests::writing::WritingHost;
use zerocopy::IntoBytes as _;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn options(copies: Options) -> OpenOptions {
    OpenOptions { copies, ..OpenOptions::default() }
}

fn open(rack: &Rack, copies: Options) -> Result<Volume, Error> {
    ready(drive::open(rack, options(copies)))
}

fn used(sizes: &[u64], seed: u64) -> (Rack, Mounted, Random) {
    mounted::used(sizes, (5, 30), seed)
}

/// No header of a disk is whole any more.
fn spoil_headers(rack: &Rack, disk: u8, how: &[u8]) {
    let size = rack.size(DeviceIndex(disk));
    let headers = (0..4).map(|slot| slot * 2 * GIB).chain([0x3f_0000]);
    for offset in headers.filter(|offset| offset + 0x1_0000 <= size) {
        rack.patch(disk, offset + 64, how);
    }
}

#[test]
fn a_copy_without_headers_is_one_that_is_missing() {
    for (seed, size) in (1..5).zip([64 * MIB, 9 * GIB, 64 * MIB, 3 * GIB]) {
        let (rack, mounted, mut random) = used(&[size, 64 * MIB, 64 * MIB], seed);
        let bad = u8::try_from(random.below(2)).unwrap();
        let how = if seed % 2 == 0 { vec![0x5a; 4096] } else { vec![0; 0x1_0000 - 64] };
        spoil_headers(&rack, bad, &how);
        if seed % 2 == 1 {
            // not even the first word is there
            rack.patch(bad, 0, &[0; 64]);
        }
        // read, and told which
        let volume = open(&rack, Options::default()).unwrap();
        let decision = volume.group().unwrap().decision();
        let Err(reason @ ReadOnly::NoHeader { members, device, .. }) = decision.writable else {
            panic!("seed {seed}: {:?}", decision.writable);
        };
        assert_eq!((members, device, reason.code()), (1 << bad, DeviceIndex(bad), "FC-D03"));
        let text = reason.to_string();
        assert!(text.contains(&format!("device {bad}")) && text.contains("--accept-missing"));
        assert!(decision.notes.contains(&Note::NoHeader(DeviceIndex(bad))));
        compare_media(&rack.fork(), "DATA", &mounted.committed, a_header).unwrap();
        assert!(WritingHost::open(rack.clone(), 1 << 20).is_err(), "not without the word");
        // with the operator's word it goes on, and the copy is replaced on the same device
        let accept = Options { accept_missing: true, ..Options::default() };
        let committed = mounted.committed.settled();
        let time = mounted.time;
        drop(mounted);
        let mut mounted = Mounted::open_with(&rack, Some(committed), time, options(accept));
        mounted.work(&mut random, 20).unwrap();
        let state = |mounted: &Mounted| {
            mounted.host.with_flusher(|flusher| {
                let group = flusher.unwrap().lineage().unwrap().group().clone();
                group.slots.map(|slot| slot.state)
            })
        };
        assert_eq!(state(&mounted)[usize::from(bad)], CopyState::Out);
        let size = rack.size(DeviceIndex(bad));
        let new = NewCopy { device: DeviceIndex(bad), size, id: Uuid([200; 16]) };
        let slot = ready(mounted.host.replace_copy(bad, new)).unwrap();
        while ready(mounted.host.resync(1 << 20)).unwrap().behind != 0 {}
        assert_eq!(state(&mounted)[usize::from(slot)], CopyState::InSync);
        mounted.work(&mut random, 20).unwrap();
        each_holds(&rack, &[0, 1, 2], &mounted.committed).unwrap();
        let mounted = mounted.again(&rack);
        mounted.check().unwrap();
    }
}

#[test]
fn a_majority_goes_on_unasked() {
    let (rack, mut mounted, mut random) = used(&[64 * MIB; 3], 9);
    let (runtime, on_missing, min_copies) = (Runtime::Majority, OnMissing::ReadOnly, 1);
    let rules = Rules { runtime, on_missing, min_copies, wait_seconds: 0, promote: None };
    ready(mounted.host.set_rules(rules)).unwrap();
    mounted.work(&mut random, 10).unwrap();
    spoil_headers(&rack, 2, &[7; 512]);
    let mut mounted = mounted.again(&rack);
    mounted.work(&mut random, 20).unwrap();
    each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
}

#[test]
fn only_copies_can_do_without_a_header() {
    let rack = Rack::new(&[GIB, GIB]);
    farrier_tests::writing::format_storage(&rack);
    spoil_headers(&rack, 1, &[7; 512]);
    let refused = open(&rack, Options::default());
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    let (rack, ..) = used(&[64 * MIB; 2], 2);
    spoil_headers(&rack, 0, &[7; 512]);
    spoil_headers(&rack, 1, &[7; 512]);
    let refused = open(&rack, Options::default());
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
}

/// Where the newest root lies on a disk.
fn root_on(mounted: &Mounted, copy: u8) -> u64 {
    let blocks = mounted.blocks();
    let root = blocks.iter().find(|block| block.is_root).expect("the first of them");
    root.addresses.get(copy).expect("it is in sync").0
}

#[test]
fn a_root_that_cannot_be_read_is_an_older_one() {
    for seed in 1..5 {
        let (rack, mut mounted, mut random) = used(&[9 * GIB, 9 * GIB], seed);
        let bad = u8::try_from(seed % 2).unwrap();
        mounted.flush().unwrap();
        let older = mounted.committed.settled();
        // the last commit changes the root
        loop {
            mounted.work(&mut random, 5).unwrap();
            if mounted.committed.settled() != older {
                break;
            }
        }
        let at = root_on(&mounted, bad);
        rack.patch(bad, at, &[0xee; 1024]);
        let (time, committed) = (mounted.time, mounted.committed.settled());
        drop(mounted);
        // beside another copy it needs a header
        let volume = open(&rack.fork(), Options::default()).unwrap();
        let decision = volume.group().unwrap().decision();
        assert_eq!(decision.writable, Ok(()), "seed {seed}");
        assert_eq!((decision.master, decision.lagging), (1 - bad, 1 << bad));
        let both = rack.fork();
        let mut mounted = Mounted::open(&both, Some(committed.clone()), time);
        mounted.work(&mut random, 10).unwrap();
        each_holds(&both, &[0, 1], &mounted.committed).unwrap();
        // by itself it shows what was before, and is not written unasked
        let alone = rack.fork().show(&[bad]);
        let accept = Options { accept_missing: true, ..Options::default() };
        let volume = open(&alone, accept).unwrap();
        let reason = volume.group().unwrap().decision().writable.unwrap_err();
        assert_eq!(reason, ReadOnly::OlderRoot { slot: bad }, "seed {seed}");
        assert_eq!(reason.code(), "FC-D10");
        assert!(volume.super_root().mirror_tid() < volume.group().unwrap().decision().after);
        let choose = Options { master: Some(bad), ..accept };
        let host = WritingHost::with(alone.clone(), options(choose), 1 << 20).unwrap();
        host.set_origin(drive::change::Origin {
            id: [99; 16],
            host: Uuid([7; 16]),
            time: farrier_core::units::WallTime(1),
        });
        for _ in 0..6 {
            host.flush_always(true).unwrap();
        }
        drop(host);
        let volume = open(&alone, Options::default()).unwrap();
        assert_eq!(volume.group().unwrap().decision().writable, Ok(()));
    }
}

#[test]
fn a_copy_without_any_root_is_filled_in_anew() {
    for seed in 1..4 {
        // there is one header only
        let (rack, mounted, mut random) = used(&[64 * MIB, 64 * MIB], seed);
        let at = root_on(&mounted, 0);
        rack.patch(0, at, &[0xee; 1024]);
        let volume = open(&rack, Options::default()).unwrap();
        let decision = volume.group().unwrap().decision();
        assert!(decision.notes.contains(&Note::NoRoot(0)), "{:?}", decision.notes);
        let alone = open(&rack.fork().show(&[0]), Options::default());
        assert!(alone.is_err(), "by itself it is nothing");
        // its headers tell that it did not go on alone: the other one may
        let mut mounted = mounted.again(&rack);
        mounted.work(&mut random, 10).unwrap();
        while ready(mounted.host.resync(1 << 20)).unwrap().behind != 0 {}
        mounted.work(&mut random, 10).unwrap();
        each_holds(&rack, &[0, 1], &mounted.committed).unwrap();
    }
}

/// A disk whose barriers do nothing may hold a header that the commit before left torn, beside the shadow
/// of a commit that never came to its barrier: what that one names is on no other copy.
#[test]
fn a_shadow_counts_only_where_its_own_header_was_torn() {
    let (rack, mut mounted, mut random) = used(&[64 * MIB, 64 * MIB], 3);
    let read = |offset| ready(rack.read(DeviceIndex(0), offset, 0x1_0000)).unwrap();
    let count = |header: &[u8]| u64::from_le_bytes(header[0x1050..0x1058].try_into().unwrap());
    let mut headers: Vec<Vec<u8>> = Vec::new();
    while headers.len() < 3 {
        mounted.work(&mut random, 2).unwrap();
        let header = read(0);
        let follows = |last: &Vec<u8>| count(&header) == count(last) + 1;
        if !headers.last().is_none_or(follows) {
            headers.clear();
        }
        headers.push(header);
    }
    let [first, second, third] = <[_; 3]>::try_from(headers).unwrap();
    assert_ne!(read(0x3f_0000), third, "the shadow says more");
    let open_torn = |before: &[u8], after: &[u8], sector: usize| {
        let mut torn = before.to_vec();
        let range = sector * 512..(sector + 1) * 512;
        torn[range.clone()].copy_from_slice(&after[range]);
        let rack = rack.fork();
        rack.patch(0, 0, &torn);
        open(&rack, Options::default()).unwrap()
    };
    let differ = |one: &[u8], other: &[u8]| {
        let sectors = one.chunks(512).zip(other.chunks(512)).enumerate();
        let differ = sectors.filter(|(_, (one, other))| one != other);
        differ.map(|(sector, _)| sector).collect::<Vec<_>>()
    };
    let sectors = differ(&second, &third);
    assert!(sectors.len() > 3, "{sectors:?}");
    for sector in sectors {
        let volume = open_torn(&second, &third, sector);
        let one = &volume.group().unwrap().headers()[0];
        assert_eq!((one.copy, one.slot), (0, 4), "sector {sector}");
        // it says nothing more than the header that it stands for
        assert_eq!(one.header.raw().as_bytes(), third, "sector {sector}");
    }
    for sector in differ(&first, &second) {
        let volume = open_torn(&first, &second, sector);
        let decision = volume.group().unwrap().decision();
        assert!(decision.notes.contains(&Note::NoHeader(DeviceIndex(0))), "sector {sector}");
    }
}
