//! The wire: what it looks like, and what a reader does with what it must not look like.

use super::*;

fn entry() -> Report {
    Report::Entry(Entry {
        path: Name(b"/a\xff".to_vec()),
        inum: 1026,
        kind: ObjectKind::Symlink,
        attributes: Some(Attributes {
            mode: 0o755,
            nlinks: 1,
            uid: 1000,
            gid: 0,
            size: 300,
            allocated_bytes: 1024,
            mtime_us: -1,
            ctime_us: 2,
            btime_us: 3,
            device: (8, 1),
            flags: 0,
        }),
        target: Some(Name(b"b".to_vec())),
    })
}

fn frames(reports: &[Report]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for report in reports {
        write_frame(&mut bytes, report).unwrap();
    }
    bytes
}

const HEAD: Report = Report::Head { version: VERSION };
const END: Report = Report::End { code: 0 };

/// If this fails, the types changed: raise [`VERSION`] and write down the new bytes.
#[test]
fn the_bytes_of_version_2() {
    let expected = [
        &[2, 0, 0, 0, 0, 2][..],
        &[28, 0, 0, 0, 3, 3, b'/', b'a', 0xff, 0x82, 0x08, 5],
        &[1, 0xed, 0x03, 1, 0xe8, 0x07, 0, 0xac, 0x02, 0x80, 0x08],
        &[1, 4, 6, 8, 1, 0, 1, 1, b'b'],
        &[2, 0, 0, 0, 7, 0],
    ];
    assert_eq!(frames(&[HEAD, entry(), END]), expected.concat());
    let checked = frames(&[Report::Checked(Summary::default())]);
    assert_eq!(checked, [11, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn what_is_written_is_read() {
    let reports = [HEAD, entry(), END];
    assert_eq!(read_frames(&frames(&reports)), Ok(reports.to_vec()));
}

#[test]
fn every_cut_is_noticed() {
    let whole = frames(&[HEAD, entry(), END]);
    for len in 0..whole.len() {
        assert_eq!(read_frames(&whole[..len]), Err(FrameFault::CutOff), "{len}");
    }
}

#[test]
fn another_version_is_refused_before_anything_is_believed() {
    let mut bytes = frames(&[Report::Head { version: 7 }]);
    bytes.extend([1, 0, 0, 0, 250]);
    assert_eq!(read_frames(&bytes), Err(FrameFault::Version(7)));
}

#[test]
fn what_is_no_report_is_refused() {
    assert_eq!(read_frames(&[0xff; 64]), Err(FrameFault::Malformed));
    assert_eq!(read_frames(b"\x01\0\0\0\xfa"), Err(FrameFault::Malformed));
    assert_eq!(read_frames(&frames(&[HEAD, HEAD, END])), Err(FrameFault::Malformed));
    assert_eq!(read_frames(&frames(&[entry(), END])), Err(FrameFault::Malformed));
}
