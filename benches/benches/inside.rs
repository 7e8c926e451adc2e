//! What the core costs without a kernel in between: hashes, decoders, searches, operations.
//!
//! `cargo bench -p farrier-benches`; a name as argument picks some. Only images that ship with the
//! repository are used, so that the figures of two machines are of the same work.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use farrier_core::engine::{Block, BlockId, Cache, Turn, View, Want};
use farrier_core::fs::{DirEntry, GetAttributes, Lookup, OpenPfs, Pfs, Read, ReadDir};
use farrier_core::media::blockref::Blockref;
use farrier_core::media::check::{CheckCode, Checks, Verified, crc32c};
use farrier_core::media::compress::{Compression, expand};
use farrier_core::media::raw::RawBlockref;
use farrier_core::scan::CheckOptions;
use farrier_core::tree::{Holder, Table, first};
use farrier_core::units::Inum;
use farrier_tests::checking;
use farrier_tests::host::{Files, TestHost};
use farrier_tests::images;
use zerocopy::{FromZeros, IntoBytes};

const BLOCK: usize = 64 << 10;
/// HAMMER2's seed of XXH64.
const SEED: u64 = 0x4d61_7474_446c_6c6e;

fn main() {
    divan::main();
}

mod checks {
    use super::*;

    #[divan::bench]
    fn crc32c_portable(bencher: Bencher<'_, '_>) {
        let bytes = noise(BLOCK);
        bencher.counter(BytesCount::new(BLOCK)).bench(|| crc32c(black_box(&bytes)));
    }

    #[divan::bench]
    fn crc32c_hardware(bencher: Bencher<'_, '_>) {
        let bytes = noise(BLOCK);
        bencher.counter(BytesCount::new(BLOCK)).bench(|| ::crc32c::crc32c(black_box(&bytes)));
    }

    #[divan::bench]
    fn xxh64(bencher: Bencher<'_, '_>) {
        let bytes = noise(BLOCK);
        let code = CheckCode::Xxhash64(xxhash_rust::xxh64::xxh64(&bytes, SEED));
        // bytes go in and come out by value: nothing is copied
        bencher
            .counter(BytesCount::new(BLOCK))
            .with_inputs(|| bytes.clone())
            .bench_values(|bytes| Checks::PORTABLE.verify(bytes, code).is_ok());
    }

    #[divan::bench]
    fn sha192(bencher: Bencher<'_, '_>) {
        let bytes = noise(BLOCK);
        bencher
            .counter(BytesCount::new(BLOCK))
            .with_inputs(|| bytes.clone())
            .bench_values(|bytes| Checks::PORTABLE.verify(bytes, CheckCode::Sha192([0; 24])));
    }
}

/// Half of each block is noise, so that the decoders have both literals and matches.
mod expanding {
    use super::*;

    #[divan::bench]
    fn lz4(bencher: Bencher<'_, '_>) {
        let stream = lz4_flex::block::compress(&half_noise());
        let mut stored = u32::try_from(stream.len()).expect("below 64 KiB").to_le_bytes().to_vec();
        stored.extend(stream);
        bench(bencher, &stored, Compression::Lz4);
    }

    #[divan::bench]
    fn zlib(bencher: Bencher<'_, '_>) {
        let stored = miniz_oxide::deflate::compress_to_vec_zlib(&half_noise(), 6);
        bench(bencher, &stored, Compression::Zlib);
    }

    fn bench(bencher: Bencher<'_, '_>, stored: &[u8], compression: Compression) {
        bencher
            .counter(BytesCount::new(BLOCK))
            .with_inputs(|| believed(stored))
            .bench_values(|stored| expand(stored, compression).expect("compressed above").len());
    }

    fn believed(stored: &[u8]) -> Verified {
        let verified = Checks::PORTABLE.verify(stored.to_vec(), CheckCode::Unchecked);
        verified.expect("nothing to compare")
    }
}

/// One full indirect block of 64 KiB: 512 blockrefs.
#[divan::bench(args = [0, 255, 511])]
fn table_search_of_512(bencher: Bencher<'_, '_>, slot: u64) {
    let table = full_table();
    bencher.counter(ItemsCount::new(1_u32)).bench(|| {
        let mut turn = Turn::new();
        let mut view = View::new(&mut turn, &NoBlocks);
        let key = black_box(slot) << 16;
        first(&mut view, &table, key, key).expect("all in memory").is_some()
    });
}

/// Operations over an image file. With a cache every block is in memory after the first round;
/// without one, every round reads, checks and expands what it needs. The file itself stays in the
/// kernel's page cache.
mod operations {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Start {
        Warm,
        Cold,
    }

    use Start::{Cold, Warm};

    impl Start {
        const fn bytes(self) -> usize {
            match self {
                Self::Warm => 32 << 20,
                Self::Cold => 0,
            }
        }
    }

    #[divan::bench(args = [Warm, Cold])]
    fn lookup(bencher: Bencher<'_, '_>, start: Start) {
        let image = Opened::new(start.bytes());
        let lookup = Lookup { pfs: image.pfs, directory: Inum::ROOT, name: image.name.clone() };
        bencher.bench_local(|| image.host.run(&lookup).expect("it was listed").inum);
    }

    #[divan::bench(args = [Warm, Cold])]
    fn attributes(bencher: Bencher<'_, '_>, start: Start) {
        let image = Opened::new(start.bytes());
        let get = GetAttributes { pfs: image.pfs, inum: image.inum };
        bencher.bench_local(|| image.host.run(&get).expect("it was listed").size);
    }

    #[divan::bench(args = [Warm, Cold])]
    fn read_64_kib(bencher: Bencher<'_, '_>, start: Start) {
        let image = Opened::new(start.bytes());
        let read = Read { pfs: image.pfs, inum: image.inum, offset: 0, len: BLOCK, ahead: 0 };
        bencher
            .counter(BytesCount::new(BLOCK))
            .bench_local(|| image.host.run(&read).expect("an undamaged file").len());
    }

    #[divan::bench(args = [Warm, Cold])]
    fn list_100_with_attributes(bencher: Bencher<'_, '_>, start: Start) {
        let image = Opened::new(start.bytes());
        let list = ReadDir {
            pfs: image.pfs,
            directory: Inum::ROOT,
            position: 0,
            limit: 100,
            with_attributes: true,
        };
        bencher.counter(ItemsCount::new(100_u32)).bench_local(|| {
            let page = image.host.run(&list).expect("an undamaged directory");
            assert_eq!(page.entries.len(), 100);
        });
    }
}

/// The whole check, contents included, by one thread.
#[divan::bench(args = ["small-files", "names", "links", "check-freemap"], sample_count = 10)]
fn check(bencher: Bencher<'_, '_>, name: &str) {
    let host = TestHost::open(&images::shipped(name), false).expect("a shipped image");
    bencher.bench_local(|| checking::check(&host, CheckOptions::default()).1);
}

/// An image, and the largest file in its root directory.
struct Opened {
    host: TestHost,
    pfs: Pfs,
    inum: Inum,
    name: Vec<u8>,
}

impl Opened {
    fn new(cache_bytes: usize) -> Self {
        let files = Files::open(&images::shipped("small-files"));
        let host = TestHost::over(files, false, cache_bytes).expect("a shipped image");
        let super_root = host.volume().super_root();
        let label = b"DATA".to_vec();
        let pfs = host.run(&OpenPfs { super_root, label }).expect("every image has one");
        let list = ReadDir {
            pfs,
            directory: Inum::ROOT,
            position: 0,
            limit: usize::MAX,
            with_attributes: true,
        };
        let entries = host.run(&list).expect("an undamaged directory").entries;
        let size = |entry: &DirEntry| match &entry.attributes {
            Some(Ok(attributes)) => attributes.size,
            _ => 0,
        };
        let largest = entries.into_iter().max_by_key(size).expect("it has files");
        Self { host, pfs, inum: largest.inum, name: largest.name }
    }
}

/// A cache of nothing.
struct NoBlocks;

impl Cache for NoBlocks {
    fn peek(&self, _: &BlockId) -> Option<Block> {
        None
    }
}

/// A table of 512 data blockrefs, one for each 64 KiB of a file.
fn full_table() -> Table {
    let mut slots = vec![RawBlockref::new_zeroed(); 512];
    for (number, slot) in (0_u64..).zip(&mut slots) {
        slot.kind = 3;
        slot.key_bits = 16;
        slot.key.set(number << 16);
        slot.data_off.set((0x80_0000 + (number << 16)) | 16);
    }
    let mut raw = RawBlockref::new_zeroed();
    raw.kind = 2;
    raw.key_bits = 25;
    raw.data_off.set(0x40_0000 | 16);
    let blockref = Blockref::parse(&raw).expect("a legal blockref").expect("not empty");
    let want = Want::of(&blockref).expect("it has a location");
    let block = want.admit(slots.as_bytes().to_vec(), &Checks::PORTABLE).expect("unchecked");
    Table::of_indirect(block, &blockref, Holder::File, 64).expect("narrower than all")
}

/// Bytes that do not compress: xorshift64 from a fixed seed.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A file block of which every other 4 KiB are noise.
fn half_noise() -> Vec<u8> {
    let mut bytes = noise(BLOCK);
    for part in bytes.chunks_mut(8192) {
        part[4096..].fill(b'f');
    }
    bytes
}
