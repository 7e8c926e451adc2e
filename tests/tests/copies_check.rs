//! Each copy is checked by itself: what another one could give hides nothing.

use farrier_core::drive::{read_block, ready};
use farrier_core::error::Error;
use farrier_core::scan::{Check, CheckOptions, Finding, FindingKind, Grade, Step, Summary};
use farrier_tests::mounted::{Mounted, format_copies};
use farrier_tests::ops::Random;
use farrier_tests::rack::{Mode, Rack};

/// A volume that was used and is as it was committed, opened anew.
fn used(sizes: &[u64], seed: u64) -> (Rack, Mounted) {
    let rack = Rack::new(sizes);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let mut random = Random::new(seed);
    for _ in 0..5 {
        mounted.work(&mut random, 60).unwrap();
    }
    let mounted = mounted.again(&rack);
    (rack, mounted)
}

fn check(mounted: &Mounted, copy: Option<u8>) -> (Vec<Finding>, Summary) {
    let (volume, storage) = (mounted.host.volume(), mounted.host.storage());
    let mut check = Check::new(volume, CheckOptions { copy, ..CheckOptions::default() });
    let mut findings = Vec::new();
    loop {
        let step = check.step();
        findings.extend(check.take_findings());
        match step {
            Step::Done => return (findings, check.summary()),
            Step::Read(wants) => {
                let read = |want| ready(read_block(volume, storage, want));
                check.resume(wants.iter().map(read).collect());
            }
        }
    }
}

#[test]
fn every_copy_of_a_sound_volume_is_clean() {
    for seed in 1..6 {
        let (_rack, mounted) = used(&[64 << 20, 3 << 30, 96 << 20], seed);
        assert_eq!(Check::copies(mounted.host.volume()), [0, 1, 2]);
        let (_, all) = check(&mounted, None);
        for copy in 0..3 {
            let (findings, summary) = check(&mounted, Some(copy));
            assert!(
                summary.worst() <= Some(Grade::Information),
                "seed {seed}, copy {copy}: {findings:?}"
            );
            // the trees are the same everywhere
            assert_eq!((summary.blocks, summary.bytes), (all.blocks, all.bytes), "seed {seed}");
            assert_eq!((summary.inodes, summary.names), (all.inodes, all.names), "seed {seed}");
        }
    }
}

#[test]
fn what_is_bad_on_one_copy_is_found_there_only() {
    let mut found_bad = 0;
    for seed in 1..9 {
        let (rack, mounted) = used(&[64 << 20, 96 << 20], seed);
        let mut random = Random::new(seed);
        let blocks = mounted.blocks();
        let block = blocks[usize::try_from(random.below(blocks.len() as u64)).unwrap()];
        let copy = u8::try_from(random.below(2)).unwrap();
        let at = block.addresses.get(copy).unwrap().0 + random.below(block.len() as u64);
        let byte = rack.bytes(copy, at, 1)[0];
        rack.patch(copy, at, &[byte ^ 0x10]);
        let (findings, summary) = check(&mounted, Some(copy));
        let is_it = |finding: &&Finding| {
            matches!(finding.kind, FindingKind::Damaged(Error::Damaged(damage))
                if damage.place == block.blockref.place())
        };
        assert_eq!(findings.iter().filter(is_it).count(), 1, "seed {seed}: {findings:?}");
        assert!(summary.fatal > 0, "seed {seed}");
        // the other one is whole, and so is what both together give
        for sound in [Some(1 - copy), None] {
            let (findings, summary) = check(&mounted, sound);
            assert_eq!(summary.fatal, 0, "seed {seed}, {sound:?}: {findings:?}");
        }
        found_bad += 1;
    }
    assert_eq!(found_bad, 8);
}

/// The freemap of the master says nothing of the others'.
#[test]
fn a_freemap_that_misses_something_is_found_on_its_copy() {
    for copy in 0..2_u8 {
        let (rack, mounted) = used(&[64 << 20, 96 << 20], 3);
        let headers = mounted.host.volume().group().unwrap().headers();
        let table = headers[usize::from(copy)].header.freemap_table();
        let node = table.iter().find(|raw| raw.kind != 0).unwrap();
        let at = node.data_off.get() & !0x3f;
        let byte = rack.bytes(copy, at, 1)[0];
        rack.patch(copy, at, &[!byte]);
        let (findings, _) = check(&mounted, Some(copy));
        assert!(
            findings.iter().any(|one| matches!(one.kind, FindingKind::FreemapDamaged(_))),
            "copy {copy}: {findings:?}"
        );
        let (findings, summary) = check(&mounted, Some(1 - copy));
        assert!(summary.worst() <= Some(Grade::Information), "copy {copy}: {findings:?}");
    }
}

/// A copy that is being filled in is no volume of its own yet.
#[test]
fn a_copy_that_is_behind_is_not_checked() {
    let (rack, mut mounted) = used(&[64 << 20, 96 << 20], 4);
    let mut random = Random::new(4);
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 40).unwrap();
    assert_eq!(mounted.host.volume().copies().unwrap().lost(), 0, "its loss is on record");
    rack.set(1, Mode::Fine);
    let mounted = mounted.again(&rack);
    assert_eq!(Check::copies(mounted.host.volume()), [0]);
    let (findings, summary) = check(&mounted, Some(0));
    assert!(summary.worst() <= Some(Grade::Information), "{findings:?}");
}
