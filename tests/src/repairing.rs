//! Repairs as tests make them: looking, carrying out, and whether anything got worse.

use std::collections::BTreeMap;

use farrier_core::drive::ready;
use farrier_core::drive::repair::{Examined, Repaired, examine};
use farrier_core::drive::solo::Solo;
use farrier_core::error::Error;
use farrier_core::fs::ListPfs;
use farrier_core::repair::{Plan, RepairOptions};
use farrier_core::scan::CheckOptions;
use farrier_core::units::WallTime;
use farrier_core::volume::OpenOptions;

use crate::host::TestHost;
use crate::ram::RamDisk;
use crate::walk::{Seen, walk};

const CACHE: usize = 1 << 20;
/// When repairs are made.
pub const NOW: WallTime = WallTime(1_700_000_000_000_000);
/// Everything that needs consent has it.
pub const ALL: RepairOptions =
    RepairOptions { drop_dangling: true, orphans: farrier_core::repair::Orphans::Attach };

/// A truncated device is looked at too.
fn options() -> OpenOptions {
    OpenOptions { allow_truncated: true, ..OpenOptions::default() }
}

/// Checks, and plans.
///
/// # Errors
/// It cannot be opened.
pub fn look(disk: &RamDisk, wanted: RepairOptions) -> Result<Examined, Error> {
    let solo = ready(Solo::open(disk.clone(), options(), CACHE))?;
    Ok(ready(examine(&solo, solo.volume(), CheckOptions::default(), wanted)))
}

/// Carries a plan out.
///
/// # Errors
/// The volume cannot be written, or failed.
pub fn apply(disk: &RamDisk, plan: &Plan) -> Result<Repaired, Error> {
    let solo = ready(Solo::open_for_repair(disk.clone(), options(), CACHE, plan))?;
    ready(solo.repair(plan, NOW))
}

/// Everything that can be read, by PFS and path.
///
/// # Panics
/// The volume cannot be opened.
pub fn contents(disk: &RamDisk) -> BTreeMap<(String, Vec<u8>), String> {
    let host = TestHost::over(disk.clone(), true, CACHE).unwrap();
    let super_root = host.volume().super_root();
    let mut all = BTreeMap::new();
    let Ok(list) = host.run(&ListPfs { super_root }) else { return all };
    for info in list.entries {
        let label = String::from_utf8_lossy(&info.label).into_owned();
        let Ok(seen) = walk(&host, &label) else { continue };
        for (path, seen) in seen {
            all.extend(readable(&seen).map(|text| ((label.clone(), path), text)));
        }
    }
    all
}

/// What is known of a path, if nothing of it is broken; times of directories aside, which change
/// when a name comes or goes.
fn readable(seen: &Seen) -> Option<String> {
    let attributes = seen.attributes.as_ref()?.as_ref().ok()?;
    let is_whole = seen.sha256.as_ref().is_none_or(Result::is_ok)
        && seen.target.as_ref().is_none_or(Result::is_ok);
    let farrier_core::fs::Attributes { kind, mode, size, uid, gid, inum, .. } = attributes;
    let text =
        format!("{inum} {kind:?} {mode:o} {size} {uid} {gid} {:?} {:?}", seen.sha256, seen.target);
    is_whole.then_some(text)
}

/// Whether everything of `before` is still there and says the same.
///
/// # Panics
/// It is not.
pub fn nothing_is_worse(name: &str, before: &RamDisk, after: &RamDisk) {
    let after = contents(after);
    for (path, text) in contents(before) {
        let place = format!("{name}: {}@{}", path.1.escape_ascii(), path.0);
        assert_eq!(after.get(&path), Some(&text), "{place}");
    }
}
