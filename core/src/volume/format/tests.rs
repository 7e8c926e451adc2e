//! Sizes, order and refusals. That the bytes are right is compared with images of another formatter
//! in `tests/tests/format.rs`.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::media::header::VolumeHeader;
use crate::text;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn options(sizes: &[u64]) -> FormatOptions {
    FormatOptions::new(sizes.to_vec(), WallTime(1_700_000_000_000_000))
}

fn counting() -> impl FnMut(&mut [u8; 16]) {
    let mut count = 0_u8;
    move |bytes| {
        count += 1;
        bytes.fill(count);
    }
}

fn made(options: &FormatOptions) -> Formatted {
    format(options, counting()).unwrap()
}

fn refused(sizes: &[u64], change: impl FnOnce(&mut FormatOptions)) -> FormatRefusal {
    let mut options = options(sizes);
    change(&mut options);
    let refusal = format(&options, counting()).unwrap_err();
    // a text ends with what to do
    let text = refusal.to_string();
    assert!(text.contains(';'), "{text}");
    refusal
}

fn header_of(formatted: &Formatted, volume: u8) -> VolumeHeader {
    let header = formatted.steps.iter().rev().find_map(|step| match step {
        FormatStep::Write { device, bytes, .. } if device.0 == volume => {
            VolumeHeader::parse(bytes, &Checks::PORTABLE).ok()
        }
        _ => None,
    });
    header.unwrap()
}

#[test]
fn sizes_of_the_specification() {
    for (size, areas_end, usable) in [
        (2 * GIB, 0x840_0000, 0x7780_0000),
        (8 * GIB, 0x1440_0000, 0x1_ea00_0000),
        (1000 * MIB, 68 * MIB, 932 * MIB),
        (64 * MIB, 20 * MIB, 44 * MIB),
    ] {
        let formatted = made(&options(&[size]));
        let header = header_of(&formatted, 0);
        assert_eq!(header.allocator_size(), usable);
        assert_eq!(header.allocator_free(), usable);
        assert_eq!(formatted.aux_area.1, areas_end);
        assert_eq!(header.allocator_beg(), MediaOffset(areas_end + 0xc00));
        assert_eq!((header.mirror_tid().0, header.freemap_tid().0), (16, 16));
        assert_eq!(formatted.usable_size, usable - 4 * MIB);
        assert_eq!((formatted.total_size, formatted.note()), (size, None));
    }
}

#[test]
fn the_smallest_volume_has_no_room_and_says_so() {
    let smallest = made(&options(&[24 * MIB]));
    assert_eq!(smallest.usable_size, 0);
    assert!(smallest.note().unwrap().to_string().contains("at least 32 MiB"));
    assert_eq!(made(&options(&[32 * MIB])).usable_size, 8 * MIB);
    let mut crowded = options(&[64 * MIB]);
    crowded.boot_size = Some(48 * MIB);
    assert_eq!(made(&crowded).note(), Some(FormatNote::NoRoom));
}

#[test]
fn volumes_take_whole_units() {
    let formatted = made(&options(&[GIB + 5, 3 * GIB - 1, 80 * MIB - 1]));
    let sizes: Vec<_> = formatted.volumes.iter().map(|one| (one.start.0, one.size)).collect();
    assert_eq!(sizes, [(0, GIB), (GIB, 2 * GIB), (3 * GIB, 72 * MIB)]);
    let last = header_of(&formatted, 2);
    assert_eq!((last.volume_id(), last.volume_count()), (2, 3));
    assert_eq!(last.volume_start(1), Some(MediaOffset(GIB)));
    assert!(last.super_root_table().iter().all(|slot| slot.kind == 7));
    assert_eq!((last.allocator_free(), last.allocator_beg().0), (0, 0));
    assert_eq!(made(&options(&[100 * MIB])).total_size, 96 * MIB);
    let limited = |sizes: &[u64], limit| {
        made(&FormatOptions { size_max: Some(limit), ..options(sizes) }).total_size
    };
    assert_eq!(limited(&[GIB], 100 * MIB), 96 * MIB);
    assert_eq!(limited(&[GIB, GIB], GIB + 8 * MIB), GIB + 8 * MIB);
}

#[test]
fn no_header_before_the_rest_and_none_of_a_former_system_after() {
    // a limit below the device: slots 1 to 3 lie behind the volume, slot 3 at the device's end
    let limited = FormatOptions { size_max: Some(GIB), ..options(&[6 * GIB + 5000]) };
    for options in [limited, options(&[7 * GIB]), options(&[GIB, 5 * GIB])] {
        let formatted = made(&options);
        let phases: Vec<_> = formatted.steps.split(|step| *step == FormatStep::Barrier).collect();
        let [former, rest, headers, []] = phases[..] else { panic!("{} phases", phases.len()) };
        for volume in &formatted.volumes {
            let wiped: Vec<_> = former
                .iter()
                .filter_map(|step| match *step {
                    FormatStep::Zero { device, offset, len } if device == volume.device => {
                        Some((offset, len))
                    }
                    _ => None,
                })
                .collect();
            let all = (0..4).map(|slot| slot * 2 * GIB).filter(|at| *at < volume.device_size);
            let all: Vec<_> = all.map(|at| (at, (volume.device_size - at).min(65536))).collect();
            assert_eq!(wiped, all);
        }
        let is_header = |step: &FormatStep| match step {
            FormatStep::Write { offset, bytes, .. } => {
                offset % (2 * GIB) == 0 && bytes.starts_with(&MAGIC.to_le_bytes())
            }
            _ => false,
        };
        assert!(headers.iter().all(is_header) && !rest.iter().any(is_header));
        let expected: u64 =
            formatted.volumes.iter().map(|volume| volume.size.div_ceil(2 * GIB).min(4)).sum();
        assert_eq!(headers.len() as u64, expected);
        assert!(matches!(headers.last(), Some(FormatStep::Write { device: DeviceIndex(0), .. })));
    }
}

#[test]
fn nothing_leaves_its_device_or_a_limit() {
    for (options, limit) in [
        (options(&[24 * MIB]), None),
        (options(&[2 * GIB + 1000, 8 * MIB]), None),
        (FormatOptions { size_max: Some(GIB), ..options(&[2 * GIB]) }, Some(GIB)),
    ] {
        for step in made(&options).steps {
            let (device, offset, len) = match step {
                FormatStep::Zero { device, offset, len } => (device, offset, len),
                FormatStep::Write { device, offset, bytes } => (device, offset, bytes.len() as u64),
                FormatStep::Barrier => continue,
            };
            let size = options.device_sizes[usize::from(device.0)];
            assert!(len > 0 && offset + len <= limit.unwrap_or(size), "{offset:#x} {len:#x}");
        }
    }
}

#[test]
fn what_was_asked_for_stands_in_the_roots() {
    let mut options = options(&[64 * MIB]);
    options.labels = vec![b"boot".to_vec(), b"DATA".to_vec(), vec![b'x'; 255]];
    options.compression = 0x93;
    options.check = CheckMethod::Sha192;
    let formatted = made(&options);
    assert_eq!(formatted.labels[0], b"LOCAL");
    let block = formatted.steps.iter().find_map(|step| match step {
        FormatStep::Write { offset, bytes, .. } if *offset == formatted.aux_area.1 => Some(bytes),
        _ => None,
    });
    let block = block.unwrap();
    let inode = |place: usize| {
        crate::media::inode::Inode::parse(&block[place * 1024..(place + 1) * 1024]).unwrap()
    };
    for (place, label) in (1..).zip(&formatted.labels) {
        assert_eq!(inode(place).label(), label);
        assert_eq!(inode(place).check_request(), 4);
        let expected = if label == b"boot" { "autozero" } else { "zlib:9" };
        assert_eq!(text::compression_request(inode(place).compression_request()), expected);
    }
    assert_eq!(inode(0).compression_request(), 1);
    assert_eq!(inode(0).check_request(), 3);
    // version 4 in each, and no two alike
    assert!(inode(1).cluster_id().to_string()[14..].starts_with('4'));
    assert_ne!(inode(1).cluster_id(), inode(1).pfs_id());
}

#[test]
fn labels_with_one_hash_get_keys_of_their_own() {
    let mut other = RawBlockref::new_zeroed();
    other.key.set(dirhash(b"DATA"));
    assert_eq!(free_key(b"DATA", &[other]), dirhash(b"DATA") + 1);
}

#[test]
fn sizes_that_cannot_be() {
    let device = DeviceIndex(0);
    assert_eq!(refused(&[], |_| {}), FormatRefusal::NoDevices);
    assert_eq!(refused(&[GIB; 65], |_| {}), FormatRefusal::TooManyDevices { count: 65 });
    assert_eq!(made(&options(&[GIB; 64])).volumes.len(), 64);
    for size in [0, 1, 24 * MIB - 1] {
        let need = 24 * MIB;
        assert_eq!(refused(&[size], |_| {}), FormatRefusal::TooSmall { device, size, need });
    }
    assert_eq!(
        refused(&[GIB - 1, GIB], |_| {}),
        FormatRefusal::TooSmall { device, size: GIB - 1, need: GIB }
    );
    assert_eq!(
        refused(&[GIB, MIB], |_| {}),
        FormatRefusal::TooSmall { device: DeviceIndex(1), size: MIB, need: 8 * MIB }
    );
    let v1 = |options: &mut FormatOptions| options.version = Version::V1;
    assert_eq!(refused(&[GIB, GIB], v1), FormatRefusal::SeveralVolumes);
    assert_eq!(refused(&[u64::MAX], |_| {}), FormatRefusal::TooLarge);
    assert_eq!(refused(&[1 << 62, 1 << 62], |_| {}), FormatRefusal::TooLarge);
    let limit = |size| move |options: &mut FormatOptions| options.size_max = Some(size);
    assert_eq!(
        refused(&[GIB], limit(GIB + 1)),
        FormatRefusal::BeyondDevices { wanted: GIB + 1, have: GIB }
    );
    assert_eq!(
        refused(&[GIB, GIB], limit(GIB)),
        FormatRefusal::LimitLeavesOut { device: DeviceIndex(1), need: GIB + 8 * MIB }
    );
    assert_eq!(
        refused(&[GIB], limit(MIB)),
        FormatRefusal::TooSmall { device, size: MIB, need: 24 * MIB }
    );
}

#[test]
fn areas_that_cannot_be() {
    let boot = |size| move |options: &mut FormatOptions| options.boot_size = Some(size);
    let aux = |size| move |options: &mut FormatOptions| options.aux_size = Some(size);
    for size in [0, 1, 12 * MIB, 264 * MIB, u64::MAX] {
        let area = Area::Boot;
        assert_eq!(refused(&[4 * GIB], boot(size)), FormatRefusal::AreaSize { area, size });
    }
    let too_large = FormatRefusal::AreasTooLarge { boot: 64 * MIB, aux: GIB };
    assert_eq!(refused(&[4 * GIB], aux(GIB)), too_large);
    assert_eq!(
        refused(&[64 * MIB], aux(64 * MIB)),
        FormatRefusal::TooSmall { device: DeviceIndex(0), size: 64 * MIB, need: 80 * MIB }
    );
}

#[test]
fn labels_and_methods_that_cannot_be() {
    let labels = |labels: &[&[u8]]| {
        let labels = labels.iter().map(|label| label.to_vec()).collect();
        move |options: &mut FormatOptions| options.labels = labels
    };
    let of = |list: &[&[u8]]| refused(&[GIB], labels(list));
    assert_eq!(of(&[b"a", b"b", b"c", b"d"]), FormatRefusal::TooManyLabels { count: 4 });
    assert_eq!(of(&[b""]), FormatRefusal::EmptyLabel);
    assert_eq!(of(&[&[b'a'; 256]]), FormatRefusal::LabelTooLong { index: 0 });
    for label in [&b"a/b"[..], b"a\0", b".", b".."] {
        assert_eq!(of(&[b"ok", label]), FormatRefusal::IllegalLabel { index: 1 });
    }
    assert_eq!(of(&[b"a", b"b", b"a"]), FormatRefusal::DuplicateLabel { index: 2 });
    assert_eq!(of(&[b"LOCAL"]), FormatRefusal::DuplicateLabel { index: 0 });
    assert_eq!(made(&FormatOptions { labels: vec![], ..options(&[GIB]) }).labels, [b"LOCAL"]);
    for code in [4, 15, 0x12, 0x13, 0x53, 0xa3, 0x60] {
        let refusal = refused(&[GIB], |options| options.compression = code);
        assert_eq!(refusal, FormatRefusal::Compression(code));
    }
    assert_eq!(
        refused(&[GIB], |options| options.check = CheckMethod::Freemap),
        FormatRefusal::Check(CheckMethod::Freemap)
    );
    let constant = format(&options(&[GIB]), |bytes| bytes.fill(7));
    assert_eq!(constant.unwrap_err(), FormatRefusal::Randomness);
}
