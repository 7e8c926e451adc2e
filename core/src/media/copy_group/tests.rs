//! The record of copies: there and back, and every refusal.

use alloc::format;

use super::*;
use crate::error::HeaderFault;
use crate::media::check::Checks;
use crate::media::header::{FSTYPE, FSTYPE_COPIES, MAGIC, Version, VolumeHeader, seal};
use alloc::string::ToString;
use alloc::vec;

fn epoch(seq: u64, members: u8) -> Epoch {
    let id = |seq: u64| EpochId(if seq == 0 { [0; 16] } else { [seq.to_le_bytes()[0]; 16] });
    Epoch {
        id: id(seq),
        parent: id(seq - 1),
        seq,
        start_tid: Tid(100 * seq),
        members,
        cause: Cause::Ejected,
        host: Uuid([9; 16]),
        time: WallTime(1_700_000_000_000_000),
    }
}

/// A group that uses every field.
fn group() -> CopyGroup {
    let mut group = CopyGroup::new(Uuid([1; 16]), Uuid([2; 16]), epoch(18, 0b101));
    group.past = (3..18).rev().map(|seq| epoch(seq, 0b111)).collect();
    (group.compat, group.ro_compat) = (1 << 63 | 1, 1 << 40);
    (group.incompat, group.plain_slot) = (INCOMPAT_PLAIN, 2);
    (group.min_copies, group.flush_seq) = (2, 900);
    group.policy = Policy {
        runtime: Runtime::Holder(2),
        on_missing: OnMissing::Refuse,
        witness: true,
        wait_seconds: 300,
        promote: Some(86_400),
    };
    group.witness = WitnessPlace::new(Uuid([6; 16]), b"/media/stick/group.witness");
    group.commit_time = WallTime(1_700_000_000_000_003);
    let mut out = CopySlot {
        device: Uuid([3; 16]),
        state: CopyState::Out,
        attach_gen: 7,
        barrier_tid: Tid(1700),
        left: EpochId([17; 16]),
        root_tid: Tid(1699),
        root_check: [0x5a; ROOT_CHECK_LEN],
        root_time: WallTime(1_700_000_000_000_002),
        counters: Counters { read: 1, write: 2, flush: 3, check: 4, healed: 5, relocated: 6 },
        resync: Progress { since: Tid(1200), done_bytes: 1 << 40 },
        ..CopySlot::EMPTY
    };
    for n in 0..8 {
        out.distrust.add(Tid(n * 100), Tid(n * 100 + 10));
    }
    out.set_hint(format!("/dev/disk/by-id/usb-{}-0:0", "a-long-name".repeat(20)).as_bytes());
    group.slots[1] = out;
    group.slots[2] =
        CopySlot { device: Uuid([4; 16]), state: CopyState::InSync, ..CopySlot::EMPTY };
    group
}

fn sealed(bytes: &mut [u8; COPY_GROUP_LEN]) {
    let crc = crc32c(&bytes[..CHECKED]);
    bytes[CHECKED..].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn every_field_goes_there_and_back() {
    let bytes = group().store();
    let read = CopyGroup::parse(&bytes).unwrap();
    assert_eq!(read, group());
    assert_eq!((read.epoch, read.past.len()), (epoch(18, 0b101), EPOCHS_MAX));
    assert_eq!(read.slots, group().slots);
    assert_eq!(read.policy, group().policy);
    assert_eq!((read.compat, read.ro_compat), (group().compat, group().ro_compat));
    assert_eq!((read.incompat, read.plain_slot), (1, 2));
    assert_eq!(read.configured(), 3);
    assert!(read.slots[1].hint.ends_with(b"-0:0") && read.slots[1].hint.len() == HINT_MAX);
    assert_eq!(read.for_slot(2).unwrap().device, Uuid([4; 16]));
    assert!(read.for_slot(3).is_none() && read.for_slot(4).is_none());
}

#[test]
fn what_nobody_understands_survives() {
    let mut bytes = group().store();
    for at in [0x17, 0x580, 0x5ff, 0x613, 0x7e8, 0x837, 0xf12, 0xfd8, 0xffb] {
        bytes[at] = 0xee;
    }
    sealed(&mut bytes);
    let read = CopyGroup::parse(&bytes).unwrap();
    assert_ne!(read, group());
    assert_eq!(read.store(), bytes);
}

#[test]
fn the_layout_is_where_the_document_says() {
    let bytes = group().store();
    assert_eq!(&bytes[..8], b"FARCOPY1");
    assert_eq!(bytes[0x8..0x14], [1, 0, 0, 0, 0, 3, 2, 2, 2, 1, 1, 2]);
    assert_eq!(bytes[0x14..0x18], [44, 1, 1, 0]);
    assert_eq!(bytes[0x64..0x68], 86_400_u32.to_le_bytes());
    assert_eq!(bytes[0x68..0x70], 1_700_000_000_000_003_u64.to_le_bytes());
    assert_eq!((bytes[0xf00], bytes[0xf10], bytes[0xf11], bytes[0xf18]), (6, 0, 26, b'/'));
    assert_eq!(bytes[0x840 + 0x238..0x840 + 0x240], 1_700_000_000_000_002_u64.to_le_bytes());
    assert_eq!(bytes[0x28..0x30], 1_u64.to_le_bytes());
    assert_eq!(bytes[0x30..0x50], [[1; 16], [2; 16]].concat());
    assert_eq!(bytes[0x50..0x58], 900_u64.to_le_bytes());
    assert_eq!(bytes[0x80..0xa0], [[18; 16], [17; 16]].concat());
    assert_eq!((bytes[0xc8], bytes[0xc9]), (0b101, 2));
    assert_eq!((bytes[0x840], bytes[0x850], bytes[0x851], bytes[0x852]), (3, 4, 8, 192));
}

type Change = fn(&mut [u8; COPY_GROUP_LEN]);

#[test]
fn every_refusal() {
    assert_eq!(CopyGroup::parse(&[0; 100]), Err(CopyGroupFault::Length));
    assert_eq!(CopyGroup::parse(&[0; COPY_GROUP_LEN]), Err(CopyGroupFault::Magic(0)));
    let mut bytes = group().store();
    bytes[0x700] ^= 1;
    assert!(matches!(CopyGroup::parse(&bytes), Err(CopyGroupFault::Check { .. })));
    let cases: [(Change, CopyGroupFault); 26] = [
        (|b| b[0x8] = 2, CopyGroupFault::Format(2)),
        (|b| b[0x2f] = 0x80, CopyGroupFault::Features(1 << 63)),
        (|b| b[0xf] = 3, CopyGroupFault::Policy),
        (|b| b[0x10] = 4, CopyGroupFault::Policy),
        (|b| b[0x11] = 3, CopyGroupFault::Policy),
        (|b| b[0x12] = 2, CopyGroupFault::Policy),
        (|b| b[0x16] = 2, CopyGroupFault::Policy),
        (|b| b[0x16] = 0, CopyGroupFault::Policy),
        (|b| b[0xf11] = 25, CopyGroupFault::Policy),
        (|b| b[0x80..0x580].fill(0), CopyGroupFault::History(0)),
        (|b| b[0x90] ^= 1, CopyGroupFault::History(1)),
        (|b| b[0xd0 + 0x30] = 99, CopyGroupFault::History(1)),
        (|b| b[0xc8] = 0, CopyGroupFault::History(0)),
        (|b| b[0xc8] = 0x15, CopyGroupFault::History(0)),
        (|b| b[0xc8] = 0b1001, CopyGroupFault::History(0)),
        (|b| b[0xca] = 1, CopyGroupFault::History(0)),
        (|b| b[0x120..0x170].fill(0), CopyGroupFault::History(3)),
        (|b| b[0xd0 + 0x3f] = 1, CopyGroupFault::History(1)),
        (|b| b[0x850] = 9, CopyGroupFault::Slot(1)),
        (|b| b[0x851] = 9, CopyGroupFault::Slot(1)),
        (|b| b[0x851] = 7, CopyGroupFault::Slot(1)),
        (|b| b[0x852] = 63, CopyGroupFault::Slot(1)),
        (|b| b[0x8e8] = 0xff, CopyGroupFault::Slot(1)),
        (|b| b[0x840..0x850].fill(2), CopyGroupFault::Slot(1)),
        (|b| b[0xc] = 1, CopyGroupFault::OwnSlot(1)),
        (|b| b[0xe] = 0, CopyGroupFault::Count),
    ];
    for (number, (change, fault)) in cases.into_iter().enumerate() {
        let mut bytes = group().store();
        change(&mut bytes);
        sealed(&mut bytes);
        assert_eq!(CopyGroup::parse(&bytes), Err(fault), "case {number}");
        assert!(!fault.to_string().is_empty());
    }
}

/// `mirror_tid` of the header, in the record.
const OF_HEADER: core::ops::Range<usize> = 0x58..0x64;
/// Where it says by what a shadow's header differs from the one before it.
const OF_SHADOW: core::ops::Range<usize> = 0x70..0x80;

#[test]
fn a_record_is_of_one_header() {
    let mut raw = RawVolumeHeader::new_zeroed();
    group().put(&mut raw, &Checks::PORTABLE);
    assert!(CopyGroup::is_bound(&raw, &Checks::PORTABLE), "it does not say");
    raw.mirror_tid.set(7);
    CopyGroup::bind(&mut raw, &Checks::PORTABLE);
    assert_eq!(CopyGroup::parse(&raw.copyinfo[..COPY_GROUP_LEN]), Ok(group()));
    assert!(CopyGroup::is_bound(&raw, &Checks::PORTABLE));
    raw.mirror_tid.set(8);
    assert!(!CopyGroup::is_bound(&raw, &Checks::PORTABLE));
    raw.mirror_tid.set(7);
    raw.freemap_blockset[0].data_off.set(1);
    assert!(!CopyGroup::is_bound(&raw, &Checks::PORTABLE));
    // one that is damaged stays what it is, for others to judge
    raw.copyinfo[100] ^= 1;
    let before = raw.copyinfo;
    CopyGroup::bind(&mut raw, &Checks::PORTABLE);
    assert!(raw.copyinfo == before && CopyGroup::is_bound(&raw, &Checks::PORTABLE));
}

#[test]
fn any_bytes_get_an_answer_and_what_is_read_comes_back() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut read = 0;
    for round in 0..20_000 {
        let mut bytes = group().store();
        for _ in 0..=round % 4 {
            let [low, high, value, ..] = next();
            bytes[usize::from(u16::from_le_bytes([low, high])) % CHECKED] = value;
        }
        sealed(&mut bytes);
        // what it says of the header is said anew by each header
        let mut kept = bytes;
        kept[OF_HEADER].fill(0);
        kept[OF_SHADOW].fill(0);
        sealed(&mut kept);
        if let Ok(group) = CopyGroup::parse(&bytes) {
            read += 1;
            assert!(group.store() == kept, "round {round}");
        }
    }
    assert!(read > 1000, "{read}");
}

fn header(version: u32, fstype: [u8; 16]) -> Result<VolumeHeader, HeaderFault> {
    let mut raw = Box::new(RawVolumeHeader::new_zeroed());
    raw.magic.set(MAGIC);
    raw.version.set(version);
    raw.fstype = fstype;
    raw.volu_size.set(1 << 30);
    if version == 2 {
        (raw.nvolumes, raw.volu_loff) = (1, [U64::new(u64::MAX); 64]);
        raw.volu_loff[0].set(0);
        raw.total_size.set(1 << 30);
    }
    group().put(&mut raw, &Checks::PORTABLE);
    seal(&mut raw, &Checks::PORTABLE);
    VolumeHeader::parse(raw.as_bytes(), &Checks::PORTABLE)
}

#[test]
fn the_gate_lets_in_what_belongs_together() {
    let copies = header(16, FSTYPE_COPIES).unwrap();
    assert_eq!((copies.version(), copies.volume_count()), (Version::Copies, 1));
    assert_eq!((copies.total_size(), copies.volume_start(1)), (1 << 30, None));
    assert_eq!(copies.copy_group(), Ok(group()));
    for version in [1, 2] {
        let stock = header(version, FSTYPE).unwrap();
        assert_eq!(stock.copy_group(), Err(CopyGroupFault::Absent));
        let type_fault = HeaderFault::Type(Uuid(FSTYPE_COPIES));
        assert_eq!(header(version, FSTYPE_COPIES).unwrap_err(), type_fault);
    }
    for version in [0, 3, 15, 17] {
        for fstype in [FSTYPE, FSTYPE_COPIES, [7; 16]] {
            assert_eq!(header(version, fstype).unwrap_err(), HeaderFault::Version(version));
        }
    }
    assert_eq!(header(16, FSTYPE).unwrap_err(), HeaderFault::Version(16));
    assert_eq!(header(16, [7; 16]).unwrap_err(), HeaderFault::Type(Uuid([7; 16])));
    assert_eq!(Uuid(FSTYPE_COPIES).to_string(), "7a3ec0b1-5d24-4f68-9c1e-66a2d0c4f517");
    let numbers = [Version::V1, Version::V2, Version::Copies].map(Version::number);
    assert_eq!(numbers.map(|number| Version::from_number(number).is_some()), [true; 3]);
    assert_eq!(vec![1, 2, 16], numbers);
}
