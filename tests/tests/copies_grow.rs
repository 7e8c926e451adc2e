//! The copies of a volume grow with their devices.

use farrier_core::dirty::Memory;
use farrier_core::drive::ready;
use farrier_core::error::Error;
use farrier_tests::mounted::{Mounted, each_holds, format_copies};
use farrier_tests::ops::Random;
use farrier_tests::rack::{Mode, Rack};

/// Every copy grows with its own device; the volume has what the smallest of them has.
#[test]
fn copies_grow_with_their_devices() {
    let sizes = [64 << 20, 64 << 20];
    let rack = Rack::new(&sizes);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let mut random = Random::new(5);
    mounted.work(&mut random, 100).unwrap();
    let free = |mounted: &Mounted| mounted.host.with_memory(Memory::free_bytes);
    let before = free(&mounted);
    for (disk, size) in [(0, 200 << 20), (1, (3 << 30) + 12345)] {
        rack.grow(disk, size);
        mounted = mounted.again(&rack);
        let grown = ready(mounted.host.grow(disk)).unwrap();
        assert_eq!((grown.from, grown.to), (64 << 20, size / (8 << 20) * (8 << 20)));
        assert_eq!(ready(mounted.host.grow(disk)).unwrap().freed, 0);
        // it goes on without being opened anew, too
        mounted.work(&mut random, 100).unwrap();
        mounted.check().unwrap();
        mounted = mounted.again(&rack);
        mounted.check().unwrap();
        let gained = free(&mounted).saturating_sub(before);
        let expected = if disk == 0 { 0 } else { 100 << 20 };
        assert!(gained >= expected && (disk == 1 || gained < 30 << 20), "{disk}: {gained}");
    }
    let model = mounted.committed.clone();
    each_holds(&rack, &[0, 1], &model).unwrap();
    assert!(matches!(ready(mounted.host.grow(2)), Err(Error::NotSupported)));
    // one that was left behind is not written to
    rack.set(1, Mode::Gone);
    mounted.work(&mut random, 10).unwrap();
    assert!(matches!(ready(mounted.host.grow(1)), Err(Error::NotSupported)), "it is out");
}
