//! The shared script of operations, run over the core: what it leaves behind is what its manifest
//! says, and clean.

use std::path::Path;

use farrier_core::scan::{CheckOptions, FindingKind};
use farrier_tests::checking::check;
use farrier_tests::host::TestHost;
use farrier_tests::ram::RamDisk;
use farrier_tests::script::{Script, VOLUME_BYTES, manifest_of};
use farrier_tests::writing::{WritingHost, format_storage};

#[test]
fn the_script_leaves_what_its_manifest_says() {
    let disk = RamDisk::new(VOLUME_BYTES);
    format_storage(&disk);
    let host = WritingHost::open(disk.clone(), 16 << 20).unwrap();
    Script::shared().run(&host);
    host.flush().unwrap();
    let opened = TestHost::over(disk.clone(), false, 16 << 20).unwrap();
    let (mut findings, _) = check(&opened, CheckOptions::default());
    // what was replaced waits for its space to be used again
    findings.retain(|finding| !matches!(finding.kind, FindingKind::Unreferenced { .. }));
    assert!(findings.is_empty(), "{findings:#?}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("script-manifest.json");
    let manifest = manifest_of(&disk);
    if std::env::var_os("FARRIER_SCRIPT_MANIFEST").is_some() {
        std::fs::write(&file, &manifest).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert!(
        expected == manifest,
        "{} is not what the script leaves; if that is meant, write it anew: \
         FARRIER_SCRIPT_MANIFEST=1 cargo test --test script",
        file.display()
    );
}
