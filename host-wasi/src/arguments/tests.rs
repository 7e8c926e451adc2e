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
