//! The house rules that a program can check: floors of the core, sizes of files, words that must
//! not stand in the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of the core and their floors (`docs/architecture.md`). A room imports only lower ones.
const FLOORS: &[(&str, u32)] = &[
    ("units", 0),
    ("error", 0),
    ("media", 1),
    ("storage", 1),
    ("copies", 2),
    ("dirty", 2),
    ("text", 2),
    ("engine", 3),
    ("tree", 4),
    ("freemap", 4),
    ("fs", 5),
    ("volume", 6),
    ("flush", 7),
    ("scan", 7),
    ("repair", 8),
    ("drive", 9),
];

/// Rooms of floor 0 may know each other, nobody else may know a neighbour.
const NEIGHBOURS: &[(&str, &str)] = &[("error", "units")];

/// Longest source file before its tests.
const LINES_MAX: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust source below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut stack = vec![folder.to_path_buf()];
    while let Some(folder) = stack.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", "node_modules", "dist", ".git"].contains(&name.as_str())
            {
                stack.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn floor_of(room: &str) -> u32 {
    let known = FLOORS.iter().find(|(name, _)| *name == room);
    known.unwrap_or_else(|| panic!("room {room} stands in no table of floors")).1
}

/// Rooms named by `crate::ROOM`, of code outside of tests and comments.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.match_indices("crate::").map(move |(at, _)| &line[at + 7..]))
        .map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap().into())
        .filter(|room: &String| !room.is_empty())
        .collect()
}

#[test]
fn rooms_import_only_lower_floors() {
    let core = root().join("core/src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in sources(&core) {
        let inside = path.strip_prefix(&core).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let room = first.trim_end_matches(".rs").to_owned();
        if room == "lib" {
            continue;
        }
        for other in imports(&fs::read_to_string(&path).unwrap()) {
            seen += 1;
            let is_neighbour = NEIGHBOURS.contains(&(room.as_str(), other.as_str()));
            if other != room && !is_neighbour && floor_of(&other) >= floor_of(&room) {
                wrong.push(format!("{} imports crate::{other}", inside.display()));
            }
        }
    }
    assert!(seen > 50, "only {seen} imports seen: does this test still look at the right place?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn operations_do_not_know_each_other() {
    // What they share stands in these.
    let shared = ["node", "pfs", "attributes", "names", "blocks", "read", "change", "contents"];
    let folder = root().join("core/src/fs");
    for path in sources(&folder) {
        let text = fs::read_to_string(&path).unwrap();
        // Made of others by design.
        if path.ends_with("mod.rs") || path.ends_with("resolve.rs") {
            continue;
        }
        for line in text.lines().filter(|line| line.starts_with("use super::")) {
            let other = line["use super::".len()..].split([':', ';', '{']).next().unwrap();
            let allowed = shared.contains(&other) || other == "*";
            assert!(allowed, "{}: {line}", path.display());
        }
    }
}

#[test]
fn the_core_names_no_std() {
    let core = root().join("core/src");
    let lib = fs::read_to_string(core.join("lib.rs")).unwrap();
    assert!(lib.contains("#![no_std]") && lib.contains("#![forbid(unsafe_code)]"));
    for path in sources(&core) {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in (1..).zip(code.lines()) {
            let is_comment = line.trim_start().starts_with("//");
            let names_std = line.contains("std::") || line.contains("async fn gather");
            assert!(is_comment || !names_std, "{}:{number}: {line}", path.display());
        }
    }
}

#[test]
fn no_file_is_too_long_and_every_file_says_what_it_is_for() {
    for package in ["core", "host-native", "host-wasi", "host-web", "tests", "examples", "xtask"] {
        for path in sources(&root().join(package)) {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let lines = code.lines().count();
            assert!(lines <= LINES_MAX, "{}: {lines} lines", path.display());
            assert!(text.starts_with("//!"), "{} says nothing of itself", path.display());
        }
    }
}

#[test]
fn nothing_unfinished_is_left_behind() {
    let words = ["todo!(", "unimplemented!(", "FIXME", "XXX", "dbg!("];
    for package in ["core", "host-native", "host-wasi", "host-web", "examples"] {
        for path in sources(&root().join(package)) {
            let text = fs::read_to_string(&path).unwrap();
            for word in words {
                assert!(!text.contains(word), "{} says {word}", path.display());
            }
        }
    }
}
