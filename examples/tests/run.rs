//! Every example runs and shows what it says.

use std::path::Path;
use std::process::{Command, Output};

use farrier_tests::images::{Damaged, manifest, scratch, shipped, shipped_folder};

fn run(program: &str, arguments: &[&Path]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn read_file_writes_the_contents() {
    let image = &shipped("small-files")[0];
    let tree = &manifest(&shipped_folder(), "small-files").pfs["DATA"];
    let file = tree.entries.iter().find(|entry| entry.size == Some(131_072)).unwrap();
    let output = run(env!("CARGO_BIN_EXE_read-file"), &[image, Path::new(&file.path)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout.len(), 131_072);
}

#[test]
fn list_tree_shows_every_pfs_and_name() {
    let listed = text(&run(env!("CARGO_BIN_EXE_list-tree"), &[&shipped("pfs-snapshots")[0]]));
    for (label, tree) in &manifest(&shipped_folder(), "pfs-snapshots").pfs {
        assert!(listed.lines().any(|line| line.split(' ').next() == Some(label)), "{listed}");
        for entry in tree.entries.iter().filter(|entry| entry.path != "/") {
            let name = entry.path.rsplit('/').next().unwrap();
            assert!(listed.contains(name), "{label} without {name}");
        }
    }
}

#[test]
fn check_image_tells_sound_from_damaged() {
    let program = env!("CARGO_BIN_EXE_check-image");
    text(&run(program, &[&shipped("links")[0]]));
    let damaged = Damaged::named("d-data-block").make(&scratch("examples"));
    let output = run(program, &[&damaged]);
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stdout).contains("[check-data]"));
}

#[test]
fn own_storage_lists_a_root() {
    let listed = text(&run(env!("CARGO_BIN_EXE_own-storage"), &[&shipped("links")[0]]));
    assert!(listed.lines().count() > 20, "{listed}");
}
