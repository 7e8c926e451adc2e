//! The checker on golden images: clean where other tools say so, and the same with little memory.

use farrier_core::scan::{CheckOptions, FindingKind, Grade};
use farrier_tests::checking::check;
use farrier_tests::host::TestHost;
use farrier_tests::images::{all_golden, shipped, unpack};

#[test]
fn golden_images_are_clean() {
    for (folder, name) in all_golden() {
        let host = TestHost::open(&unpack(&folder, &name), false).unwrap();
        let (findings, summary) = check(&host, CheckOptions::default());
        let mut wrong: Vec<_> =
            findings.iter().filter(|one| one.grade() > Grade::Information).collect();
        if name == "pfs-destroyed" {
            // Its directory entries were removed with a tool that leaves the inodes behind.
            let orphans = wrong.iter().filter(|one| one.kind == FindingKind::Orphan).count();
            assert_eq!(orphans, 24, "{name}");
            wrong.retain(|one| one.kind != FindingKind::Orphan);
        }
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        assert!(summary.blocks > 0 && summary.inodes > 0, "{name}: {summary:?}");
    }
}

#[test]
fn little_memory_changes_no_finding_about_names() {
    for name in ["names", "links", "pfs-snapshots"] {
        let host = TestHost::open(&shipped(name), false).unwrap();
        let (_, whole) = check(&host, CheckOptions::default());
        let little = CheckOptions {
            batch: 1,
            inums_per_pass: 16,
            shared_files: 0,
            overlap_memory: 0,
            ..CheckOptions::default()
        };
        let (findings, summary) = check(&host, little);
        let wrong: Vec<_> =
            findings.iter().filter(|one| one.grade() > Grade::Information).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        assert_eq!((summary.inodes, summary.names), (whole.inodes, whole.names), "{name}");
    }
}
