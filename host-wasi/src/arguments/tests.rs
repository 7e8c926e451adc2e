//! What command lines mean.

use super::*;

fn parsed(line: &str) -> Result<Asked, String> {
    let files = ["d", "a@b", "a@b@c", "x/y@z/d"];
    parse(line.split(' ').map(OsString::from), |name| files.contains(&name))
}

fn request(line: &str) -> Request {
    match parsed(line) {
        Ok(Asked::Run(request)) => request,
        other => panic!("{line}: {other:?}"),
    }
}

fn device(line: &str) -> (String, Option<String>) {
    let request = request(&format!("ls {line}"));
    let label = request.label.map(|label| String::from_utf8(label).unwrap());
    (request.volumes[0].clone(), label)
}

#[test]
fn the_label_begins_where_the_file_ends() {
    let some = |label: &str| Some(label.to_owned());
    assert_eq!(device("d"), ("d".into(), None));
    assert_eq!(device("d@ROOT"), ("d".into(), some("ROOT")));
    assert_eq!(device("a@b@c"), ("a@b@c".into(), None));
    assert_eq!(device("a@b@ROOT"), ("a@b".into(), some("ROOT")));
    assert_eq!(device("x/y@z/d@a@b"), ("x/y@z/d".into(), some("a@b")));
    assert_eq!(device("missing@ROOT"), ("missing".into(), some("ROOT")));
}

#[test]
fn options_stand_anywhere() {
    let request = request("ls --cache 4M d -lR /x --volume e --volume=f --postcard");
    assert_eq!(request.volumes, ["d", "e", "f"]);
    assert_eq!(request.format, Format::Postcard);
    assert_eq!(request.cache_bytes, 4 << 20);
    let expected = Command::List { path: b"/x".to_vec(), long: true, recursive: true };
    assert_eq!(request.command, expected);
}

#[test]
fn files_go_by_path_or_number() {
    let expected = Command::Cat { targets: vec![Target::Path(b"a".to_vec()), Target::Inode(12)] };
    assert_eq!(request("cat d --inode 12 a").command, expected);
}

#[test]
fn what_cannot_be_meant_is_said() {
    for (line, expected) in [
        ("", "unknown command ; see --help"),
        ("ls", "ls needs a device; see --help"),
        ("mount d", "unknown command mount; see --help"),
        ("ls d a b", "ls takes fewer arguments; see --help"),
        ("cat d", "cat needs a path"),
        ("ls d --inode 3", "ls takes no --inode"),
        ("copy-out d a", "copy-out needs a path in the volume and a destination"),
        ("info d@ROOT", "info is about the whole volume; leave out the @LABEL"),
        ("ls d --header 4", "no header copy 4; they are numbered 0 to 3"),
        ("ls d --cache 1T", "1T is no size; write 1000000, 64K, 16M or 1G"),
        ("ls d --bogus", "unknown option --bogus; see --help"),
        ("ls d -x", "unknown option -x; see --help"),
    ] {
        assert_eq!(parsed(line), Err(expected.to_owned()), "{line}");
    }
}

#[test]
fn commands_that_write() {
    let copy = request("copy-in d@DATA a b /there").command;
    let sources = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(copy, Command::CopyIn { sources, path: b"/there".to_vec() });
    let rename = request("pfs rename d old new").command;
    let (label, new_label) = (b"old".to_vec(), b"new".to_vec());
    assert_eq!(rename, Command::RenamePfs { label, new_label });
    assert_eq!(request("pfs list d").command, Command::Pfs);
    assert_eq!(request("pfs d").command, Command::Pfs);
    assert_eq!(request("pfs ./create").volumes, ["./create"]);
    let writing = ["snapshot d@DATA s", "bulkfree d", "rm -R d /x", "mkdir d /x", "script d f"];
    assert!(writing.iter().all(|line| request(line).command.writes()));
    let reading = ["check d", "copy-out d / x", "pfs d", "ls d"];
    assert!(!reading.iter().any(|line| request(line).command.writes()));
}

#[test]
fn what_a_new_file_system_is_to_be() {
    let new = |line: &str| match request(line).command {
        Command::Format(new) => new,
        other => panic!("{other:?}"),
    };
    let plain = new("format d");
    assert_eq!((plain.size, plain.labels, plain.compression), (None, vec![b"DATA".to_vec()], 2));
    let full = new("format new --size 2T -L A,B --label C --compression zlib:9 --check sha192 -f");
    assert_eq!(full.size, Some(2 << 40));
    assert_eq!(full.labels, [b"A", b"B", b"C"]);
    assert_eq!((full.compression, full.check.name(), full.force), (0x93, "sha192", true));
    assert_eq!(new("format d -L none").labels, Vec::<Vec<u8>>::new());
    assert_eq!(new("format d -L none -L A").labels.len(), 2);
}

#[test]
fn what_writing_commands_cannot_mean_is_said() {
    for (line, expected) in [
        ("copy-in d a", "copy-in needs what to copy and a path in the volume"),
        ("mkdir d", "mkdir needs a path"),
        ("snapshot d", "snapshot needs a label"),
        ("pfs rename d a", "pfs rename needs the label so far and the new one"),
        ("pfs create d a b", "pfs create takes fewer arguments; see --help"),
        ("pfs create", "pfs create needs a label"),
        ("bulkfree d@A", "bulkfree is about the whole volume; leave out the @LABEL"),
        ("format new@A", "format is about the whole volume; leave out the @LABEL"),
        ("format d --size 1X", "--size 1X: no size; write e.g. 512M, 10G or 2T"),
        (
            "format d --check crc",
            "--check crc: unknown; write xxhash64, sha192, iscsi32, none or disabled",
        ),
        ("ls d --force", "ls takes no --force"),
        (
            "rm d /x --header 1",
            "rm writes, and takes no --header and no --allow-truncated: they are for rescuing what \
             can still be read",
        ),
    ] {
        assert_eq!(parsed(line), Err(expected.to_owned()), "{line}");
    }
}
