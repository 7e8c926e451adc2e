//! Which copy is asked first: the one that answers well.

use farrier_core::drive::change::WriteHost as _;
use farrier_core::drive::ready;
use farrier_core::fs::New;
use farrier_core::units::{DeviceIndex, Inum};
use farrier_core::volume::LiveCopies;
use farrier_tests::model::Creation;
use farrier_tests::mounted::{Mounted, TreeBlock, format_copies};
use farrier_tests::ops::{Op, Random};
use farrier_tests::rack::{Mode, Rack};

/// A volume with a file of 16 MiB on `count` disks, and the blocks of the file.
fn used(count: usize, seed: u64) -> (Rack, Mounted, Vec<TreeBlock>) {
    let rack = Rack::new(&vec![64 << 20; count]);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let creation = Creation {
        directory: Inum::ROOT.0,
        name: b"file".to_vec(),
        new: New::File,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
    };
    mounted.apply(&Op::Create(creation)).unwrap();
    let inum = mounted.model.get(Inum::ROOT.0).unwrap().names[&b"file"[..]];
    for part in 0..16 {
        let write = Op::Write { inum, offset: Some(part << 20), len: 1 << 20, fill: seed + part };
        mounted.apply(&write).unwrap();
    }
    mounted.flush().unwrap();
    let blocks = data(&mounted);
    assert!(blocks.len() > 150);
    for disk in (0..4).take(count) {
        let _ = rack.take_traffic(disk);
    }
    (rack, mounted, blocks)
}

fn data(mounted: &Mounted) -> Vec<TreeBlock> {
    mounted.blocks().into_iter().filter(|block| block.want.is_data()).collect()
}

fn live(mounted: &Mounted) -> &LiveCopies {
    mounted.host.volume().copies().unwrap()
}

/// Reads `count` blocks past the cache, each taking as long as `took_us` says of the copy that gave it;
/// reads of each copy.
fn read(
    rack: &Rack,
    mounted: &Mounted,
    blocks: &[TreeBlock],
    count: usize,
    took_us: &[u32],
) -> Vec<u64> {
    let mut reads = vec![0; took_us.len()];
    for block in blocks.iter().cycle().take(count) {
        ready(mounted.host.fetch_stored(&block.want)).unwrap();
        for (copy, us) in (0..).zip(took_us) {
            let traffic = rack.take_traffic(copy);
            reads[usize::from(copy)] += traffic.reads;
            if traffic.reads > 0 && *us > 0 {
                live(mounted).note_time(copy, *us);
            }
        }
    }
    reads
}

#[test]
fn all_copies_work_and_neighbours_stay_together() {
    let (rack, mounted, blocks) = used(3, 1);
    let reads = read(&rack, &mounted, &blocks, 3000, &[900, 1000, 1100]);
    assert!(reads.iter().all(|reads| *reads > 300), "{reads:?}");
    // by 1 MiB of the address
    let mut of_stretch = std::collections::BTreeMap::new();
    for block in &blocks {
        let first = live(&mounted).candidates(&block.want)[0].0;
        let stretch = block.want.location().offset.0 >> 20;
        assert_eq!(*of_stretch.entry(stretch).or_insert(first), first);
    }
}

#[test]
fn a_slow_copy_is_asked_last_and_may_recover() {
    let (rack, mounted, blocks) = used(2, 2);
    read(&rack, &mounted, &blocks, 200, &[1000, 1000]);
    // one hiccup is nothing
    live(&mounted).note_time(1, 20_000);
    read(&rack, &mounted, &blocks, 200, &[1000, 1000]);
    read(&rack, &mounted, &blocks, 200, &[1000, 50_000]);
    let reads = read(&rack, &mounted, &blocks, 4000, &[1000, 50_000]);
    assert!(reads[1] > 0 && reads[1] < 80, "{reads:?}");
    // it is fast again
    let reads = read(&rack, &mounted, &blocks, 6000, &[1000, 1000]);
    assert!(reads[1] > 500, "{reads:?}");
    let reads = read(&rack, &mounted, &blocks, 1000, &[1000, 1000]);
    assert!(reads[1] > 200, "{reads:?}");
    // where nobody measures, all are alike
    let (rack, mounted, blocks) = used(2, 2);
    let reads = read(&rack, &mounted, &blocks, 1000, &[0, 0]);
    assert!(reads.iter().all(|reads| *reads > 200), "{reads:?}");
}

#[test]
fn a_copy_with_errors_is_avoided() {
    let (rack, mounted, blocks) = used(2, 3);
    for block in &blocks {
        let offset = block.addresses.get(0).unwrap().0;
        let byte = rack.bytes(0, offset, 1)[0];
        rack.patch(0, offset, &[byte ^ 1]);
    }
    let reads = read(&rack, &mounted, &blocks, 2000, &[0, 0]);
    assert!(reads[0] > 1 && reads[0] < 100, "{reads:?}");
    assert_eq!(reads[1], 2000);
    // it is mended: what is read well makes up for what was not
    for block in &blocks {
        let offset = block.addresses.get(0).unwrap().0;
        let byte = rack.bytes(0, offset, 1)[0];
        rack.patch(0, offset, &[byte ^ 1]);
    }
    let reads = read(&rack, &mounted, &blocks, 6000, &[0, 0]);
    assert!(reads[0] > 500, "{reads:?}");
    assert_eq!(reads[0] + reads[1], 6000);
}

#[test]
fn a_copy_that_catches_up_is_read_only_where_nobody_else_is() {
    let (rack, mut mounted, _) = used(2, 4);
    let mut random = Random::new(4);
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 40).unwrap();
    rack.set(1, Mode::Fine);
    assert_eq!(ready(mounted.host.attach_copy(DeviceIndex(1), false)), Ok(1));
    let blocks = data(&mounted);
    let is_on_both = |block: &&TreeBlock| live(&mounted).candidates(&block.want).len() == 2;
    let both: Vec<_> = blocks.iter().filter(is_on_both).copied().collect();
    assert!(both.len() > 10);
    let _ = (rack.take_traffic(0), rack.take_traffic(1));
    assert_eq!(read(&rack, &mounted, &both, 500, &[0, 0]), [500, 0]);
    // a slow or erring one comes before it as well
    for _ in 0..50 {
        live(&mounted).note_time(0, 100_000);
        live(&mounted).note_time(1, 100);
    }
    assert_eq!(read(&rack, &mounted, &both, 500, &[0, 0]), [500, 0]);
    // but what is bad there is had from it
    for block in &both {
        let offset = block.addresses.get(0).unwrap().0;
        let byte = rack.bytes(0, offset, 1)[0];
        rack.patch(0, offset, &[byte ^ 1]);
    }
    let reads = read(&rack, &mounted, &both, both.len(), &[0, 0]);
    assert_eq!(reads, [both.len() as u64; 2]);
}
