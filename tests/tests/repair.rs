//! Repair: what the checker grades repairable is put right, nothing gets worse, and a power cut at
//! any moment leaves what was there before or what is there after.

use std::collections::BTreeMap;

use farrier_core::drive::repair::{Examined, Repaired};
use farrier_core::error::Error;
use farrier_core::repair::{Doubt, RepairOptions};
use farrier_core::scan::{Grade, Summary};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;
use farrier_tests::checking::second_opinion;
use farrier_tests::images::{Damaged, scratch};
use farrier_tests::ram::{Event, RamDisk};
use farrier_tests::repairing::{ALL, apply, contents, look, nothing_is_worse};

fn disk_of(damaged: &Damaged, folder: &std::path::Path) -> RamDisk {
    let path = damaged.make(folder);
    let disk = RamDisk::with(std::fs::read(&path).unwrap());
    std::fs::remove_file(path).unwrap();
    disk
}

/// Findings that are left and could have been put right.
fn left(examined: &Examined) -> Vec<String> {
    let repairable = examined.findings.iter().filter(|one| one.grade() == Grade::Repairable);
    repairable.map(ToString::to_string).collect()
}

fn ask_the_other(name: &str, disk: &RamDisk) {
    let path = scratch("repair-other").join(format!("{name}.img"));
    std::fs::write(&path, disk.bytes()).unwrap();
    second_opinion(&path);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn every_damaged_image_is_repaired_as_far_as_it_can_be() {
    let folder = scratch("repair-damaged");
    let (mut repaired, mut refused, mut lost) = (0, 0, 0);
    for damaged in Damaged::all() {
        let name = &damaged.name;
        let disk = disk_of(&damaged, &folder);
        let before = disk.fork();
        disk.record();
        let Ok(examined) = look(&disk, ALL) else {
            refused += 1;
            continue;
        };
        assert_eq!(disk.events(), [], "{name}: looking writes");
        let Examined { summary, plan, .. } = &examined;
        if let Some(doubt) = plan.doubt() {
            assert_eq!(doubt, Doubt::Truncated, "{name}");
            assert_eq!(apply(&disk, plan), Err(Error::ReadOnly), "{name}");
            assert_eq!(disk.events(), [], "{name}: a doubt writes");
            refused += 1;
            continue;
        }
        assert_eq!(plan.repairs().is_empty(), summary.repairable == 0, "{name}: {plan:?}");
        let outcome = apply(&disk, plan).unwrap();
        assert_eq!(outcome.failed, [], "{name}");
        assert_eq!(outcome.done, plan.repairs().len(), "{name}");
        assert_eq!(disk.events().is_empty(), outcome.done == 0, "{name}");
        let after = look(&disk, ALL).unwrap();
        assert_eq!(left(&after), [""; 0], "{name}");
        assert!(after.summary.fatal <= summary.fatal, "{name}: {:#?}", after.findings);
        nothing_is_worse(name, &before, &disk);
        if after.summary.fatal == 0 {
            ask_the_other(name, &disk);
        } else {
            lost += 1;
        }
        repaired += usize::from(outcome.done > 0);
    }
    println!("{repaired} repaired, {lost} with losses that stay, {refused} refused");
    assert!(repaired >= 12 && lost >= 20 && refused >= 10);
}

/// A state of the medium in the middle of a repair: what a check of it says, and what is in it.
type State = (Summary, BTreeMap<(String, Vec<u8>), String>);

fn state(disk: &RamDisk) -> State {
    (look(disk, ALL).unwrap().summary, contents(disk))
}

#[test]
fn a_power_cut_leaves_the_old_state_or_the_new_one() {
    let folder = scratch("repair-crash");
    let mut states = 0;
    for name in [
        "d-hdr-newest-crc",
        "d-freemap-lost",
        "d-freemap-crc",
        "d-freemap-reserved",
        "d-nlinks-wrong",
        "d-dirent-dangling",
        "d-dirent-slash",
    ] {
        let disk = disk_of(&Damaged::named(name), &folder);
        let before = disk.fork();
        let plan = look(&disk, ALL).unwrap().plan;
        disk.record();
        apply(&disk, &plan).unwrap();
        let allowed = [state(&before), state(&disk)];
        let is_header = |event: &Event| {
            matches!(event, Event::Write { offset, bytes, .. }
                if offset % (2 << 30) == 0 && bytes.len() == 65_536)
        };
        let cut = before.fork();
        for (number, event) in disk.events().iter().enumerate() {
            let Event::Write { offset, bytes, .. } = event else { continue };
            // torn in the middle, then whole
            for part in [bytes.len() / 2 / 512 * 512, bytes.len()] {
                cut.patch(*offset, &bytes[..part]);
                let (summary, contents) = state(&cut);
                let place = format!("{name}: event {number}, {part} bytes: {summary:?}");
                let fits = allowed.iter().any(|(like, _)| {
                    (like.repairable, like.fatal) == (summary.repairable, summary.fatal)
                });
                // some header copies are the new ones, and some are not yet
                assert!(fits || summary.repairable <= allowed[0].0.repairable + 1, "{place}");
                assert!(fits || is_header(event) || plan.rewrites_headers(), "{place}");
                assert!(allowed.iter().any(|(_, like)| *like == contents), "{place}");
                states += 1;
            }
        }
        assert_eq!(cut.bytes(), disk.bytes(), "{name}");
    }
    println!("{states} states");
    assert!(states > 60, "only {states} states");
}

#[test]
fn names_of_nothing_wait_for_consent() {
    let disk = disk_of(&Damaged::named("d-dirent-dangling"), &scratch("repair-consent"));
    let shy = RepairOptions::default();
    let examined = look(&disk, shy).unwrap();
    let plan = &examined.plan;
    let codes = |repairs: &[farrier_core::repair::Repair]| {
        repairs.iter().map(|repair| repair.action.code()).collect::<Vec<_>>()
    };
    assert_eq!(
        (codes(plan.repairs()), codes(plan.withheld())),
        (vec!["attach"], vec!["remove-name"])
    );
    apply(&disk, plan).unwrap();
    let after = look(&disk, shy).unwrap();
    assert_eq!(after.summary.repairable, 1, "{:?}", after.findings);
    assert_eq!((after.plan.repairs().len(), after.plan.withheld().len()), (0, 1));
}

#[test]
fn a_volume_that_is_sound_is_left_alone() {
    let path = farrier_tests::images::shipped("pfs-snapshots").remove(0);
    let disk = RamDisk::with(std::fs::read(path).unwrap());
    disk.record();
    let examined = look(&disk, ALL).unwrap();
    assert!(examined.plan.repairs().is_empty() && examined.plan.withheld().is_empty());
    assert_eq!(apply(&disk, &examined.plan).unwrap(), Repaired::default());
    assert_eq!(disk.events(), []);
    assert!(disk.size(DeviceIndex(0)) > 0);
}
