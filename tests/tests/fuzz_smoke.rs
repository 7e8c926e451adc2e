//! A short, seeded run of what `fuzz/` runs for hours.
//!
//! `FARRIER_FUZZ_SEED` starts elsewhere, `FARRIER_FUZZ_RUNS` runs longer. A failing run names its
//! seed; what it found becomes a case of `known_cases`.

use farrier_tests::fuzzing::{Subject, decoders};
use farrier_tests::images::shipped;

/// A generator that needs nothing but a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Tells the seed of the run that panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "FARRIER_FUZZ_SEED={} FARRIER_FUZZ_RUNS=1 cargo test --test fuzz_smoke",
                self.0
            );
        }
    }
}

fn seeds(runs: u64) -> impl Iterator<Item = Seed> {
    let start = number("FARRIER_FUZZ_SEED", 1);
    (start..start + number("FARRIER_FUZZ_RUNS", runs)).map(Seed)
}

#[test]
fn decoders_take_any_bytes() {
    for seed in seeds(3000) {
        let mut random = Random(seed.0);
        let len = [0, 3, 64, 127, 128, 300, 512, 1024, 4096, 32768, 65536];
        let len = len[usize::try_from(random.next() % 11).unwrap()];
        let mut data = random.bytes(len);
        // Mostly zeros look more like media than noise does.
        if random.next().is_multiple_of(2) {
            data.iter_mut().filter(|byte| **byte > 24).for_each(|byte| *byte = 0);
        }
        decoders(&data);
    }
}

fn subjects() -> Vec<Subject> {
    ["d-base1", "special-inodes", "links"]
        .iter()
        .map(|name| Subject::load(&shipped(name)[0]))
        .collect()
}

fn mutate(subjects: &[Subject], seed: &Seed) {
    let mut random = Random(seed.0);
    let subject = &subjects[usize::try_from(seed.0 % 3).unwrap()];
    let patches = 1 + usize::try_from(random.next() % 12).unwrap();
    let mut data = random.bytes(patches * 4);
    // Every other patch puts in an extreme number.
    for value in data.iter_mut().skip(3).step_by(8) {
        *value |= 0xfc;
    }
    let _ = subject.walk_mutated(&data);
}

#[test]
fn mutated_images_are_walked_to_the_end() {
    let subjects = subjects();
    for seed in seeds(400) {
        mutate(&subjects, &seed);
    }
}

/// Runs that once found something: which image, and how it was mutated.
const KNOWN: &[(usize, &[u8])] = &[
    // a PFS root that claims 2^56 inode numbers kept the checker busy for ever
    (2, &[21, 153, 146, 231, 15, 183, 143, 175]),
];

#[test]
fn known_cases() {
    let subjects = subjects();
    for (subject, data) in KNOWN {
        let _ = subjects[*subject].walk_mutated(data);
    }
}

#[test]
fn an_image_without_mutation_is_sound() {
    // Otherwise the check codes are not put right, and nothing behind them is reached.
    let subject = Subject::load(&shipped("d-base1")[0]);
    let summary = subject.walk_mutated(&[]).unwrap();
    assert_eq!((summary.fatal, summary.repairable), (0, 0), "{summary:?}");
}
