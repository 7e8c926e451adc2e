//! Every golden image reads back exactly as its manifest says.

use farrier_core::fs::ListPfs;
use farrier_tests::host::TestHost;
use farrier_tests::images::{all_golden, manifest, unpack};
use farrier_tests::walk::{differences, walk};

#[test]
fn every_entry_of_every_image() {
    let mut entries = 0;
    let mut wrong = Vec::new();
    for (folder, name) in all_golden() {
        let manifest = manifest(&folder, &name);
        let host = TestHost::open(&unpack(&folder, &name), false)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        // Other tools count the space of a grown volume twice.
        let space = host.volume().space();
        assert!(space.free_bytes <= space.size_bytes, "{name}: {space:?}");
        let labels = host.run(&ListPfs { super_root: host.volume().super_root() }).unwrap();
        assert_eq!(labels.broken, [], "{name}");
        let mut have: Vec<_> =
            labels.entries.iter().map(|info| String::from_utf8_lossy(&info.label)).collect();
        have.sort();
        let want: Vec<_> = manifest.pfs.keys().cloned().collect();
        assert_eq!(have, want, "{name}: the labels");
        for (label, tree) in &manifest.pfs {
            let mut seen = walk(&host, label).unwrap();
            for entry in &tree.entries {
                entries += 1;
                let place = format!("{name}@{label}:{}", entry.path);
                match seen.remove(&entry.path_bytes()) {
                    None => wrong.push(format!("{place}: missing")),
                    Some(seen) => {
                        wrong.extend(seen.broken.iter().map(|e| format!("{place}: {e}")));
                        wrong.extend(
                            differences(entry, &seen).iter().map(|d| format!("{place}: {d}")),
                        );
                    }
                }
            }
            wrong.extend(seen.keys().map(|path| {
                format!("{name}@{label}: unexpected {}", String::from_utf8_lossy(path))
            }));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differences\n{}",
        wrong.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
    println!("{entries} entries compared");
}
