//! Volumes whose bytes somebody made up, of copies most of all: whatever they say, opening, reading, writing,
//! filling in, scrubbing and checking come to an end, and nothing panics.
//!
//! What is changed gets its check codes put right on every copy, so that what is behind them is
//! reached. `FARRIER_FUZZ_SEED` starts elsewhere, `FARRIER_FUZZ_RUNS` runs longer; a run that fails
//! names its seed.

use farrier_core::copies::lineage;
use farrier_core::drive::change::Origin;
use farrier_core::drive::scrub::Scrub;
use farrier_core::drive::{Host as _, ready};
use farrier_core::engine::Want;
use farrier_core::error::BlockKind;
use farrier_core::fs::GetAttributes;
use farrier_core::media::blockref::{Blockref, slots};
use farrier_core::media::check::{CheckCode, CheckMethod, Checks};
use farrier_core::media::header::{HEADER_LEN, seal};
use farrier_core::media::inode::Inode;
use farrier_core::media::raw::RawVolumeHeader;
use farrier_core::scan::{Check, CheckOptions, Step};
use farrier_core::units::{Inum, MediaOffset, Uuid, WallTime};
use farrier_core::volume::OpenOptions;
use farrier_tests::model::Model;
use farrier_tests::mounted::{Mounted, format_copies};
use farrier_tests::ops::{Op, Random, Swarm};
use farrier_tests::rack::{Mode, Rack};
use farrier_tests::writing::{WritingHost, format_storage};
use zerocopy::FromBytes as _;

/// The record of the group, in a header.
const RECORD: usize = 0x1000;
const RECORD_LEN: usize = 0x1000;
/// The blockref of the super-root, in a header.
const SUPER_ROOT: usize = 0x200;
/// Those of the freemap.
const FREEMAP: usize = 0x800;

/// Where the blockref of a block stands.
#[derive(Clone, Copy, Debug)]
enum Referred {
    /// In the headers of these disks, so far from their start.
    Headers { disks: u8, at: usize },
    /// In another block.
    Block { index: usize, at: usize },
}

/// A block of the sound volume: the same bytes on every copy that has it.
#[derive(Clone, Debug)]
struct Known {
    places: Vec<(u8, MediaOffset)>,
    bytes: Vec<u8>,
    method: CheckMethod,
    by: Referred,
}

/// A sound volume, and everything in it.
struct Subject {
    rack: Rack,
    disks: u8,
    has_copies: bool,
    /// Parents before children.
    blocks: Vec<Known>,
    headers: Vec<Vec<u8>>,
}

impl Subject {
    /// A volume without copies: what holds for reading such ones ([`farrier_tests::fuzzing`]) has to
    /// hold for writing them.
    fn plain(seed: u64) -> Self {
        let rack = Rack::new(&[64 << 20]);
        format_storage(&rack);
        let mut mounted = Mounted::open(&rack, None, 0);
        let mut random = Random::new(seed);
        for _ in 0..12 {
            mounted.work(&mut random, 60).unwrap();
        }
        drop(mounted);
        Self::of(rack, 1, false, 1)
    }

    /// A volume of copies; with `away`, the last of them is behind.
    fn new(sizes: &[u64], seed: u64, away: bool) -> Self {
        let rack = Rack::new(sizes);
        format_copies(&rack);
        let mut mounted = Mounted::open(&rack, None, 0);
        let mut random = Random::new(seed);
        // each time it likes other things
        while mounted.blocks().len() < 40 {
            mounted.work(&mut random, 60).unwrap();
        }
        if away {
            // the last disk is behind, with a history of its own in the record
            let last = u8::try_from(sizes.len() - 1).unwrap();
            rack.set(last, Mode::Gone);
            mounted.work(&mut random, 20).unwrap();
            rack.set(last, Mode::Fine);
        }
        drop(mounted);
        let disks = u8::try_from(sizes.len()).unwrap();
        Self::of(rack, disks, true, if away { disks - 1 } else { disks })
    }

    fn of(rack: Rack, disks: u8, has_copies: bool, in_sync: u8) -> Self {
        let headers = (0..disks).map(|disk| rack.bytes(disk, 0, HEADER_LEN)).collect();
        let mut subject = Self { rack, disks, has_copies, blocks: Vec::new(), headers };
        subject.explore(Referred::Headers { disks: (1 << in_sync) - 1, at: SUPER_ROOT });
        for disk in 0..disks {
            for slot in 0..4 {
                subject.explore(Referred::Headers { disks: 1 << disk, at: FREEMAP + slot * 128 });
            }
        }
        assert!(subject.blocks.len() > 20, "{} blocks", subject.blocks.len());
        subject
    }

    fn explore(&mut self, by: Referred) {
        let raw = match by {
            Referred::Headers { disks, at } => {
                &self.headers[disks.trailing_zeros() as usize][at..at + 128]
            }
            Referred::Block { index, at } => &self.blocks[index].bytes[at..at + 128],
        };
        let raw = slots(raw)[0];
        let Ok(Some(blockref)) = Blockref::parse(&raw) else { return };
        let Some(want) = Want::of(&blockref) else { return };
        let is_own = !self.has_copies
            || matches!(blockref.kind(), BlockKind::FreemapNode | BlockKind::FreemapLeaf);
        let places: Vec<_> = match (want.addresses(), by, is_own) {
            (Some(addresses), _, false) => addresses.iter().collect(),
            // what a copy has for itself
            (_, Referred::Headers { disks, .. }, _) => {
                vec![(u8::try_from(disks.trailing_zeros()).unwrap(), want.location().offset)]
            }
            (_, Referred::Block { index, .. }, _) => {
                vec![(self.blocks[index].places[0].0, want.location().offset)]
            }
        };
        let len = want.location().len();
        let bytes = self.rack.bytes(places[0].0, places[0].1.0, len);
        let table = match blockref.kind() {
            BlockKind::Indirect | BlockKind::FreemapNode => 0..len,
            BlockKind::Inode if !Inode::parse(&bytes).expect("sound").has_direct_data() => {
                0x200..0x400
            }
            _ => 0..0,
        };
        let index = self.blocks.len();
        self.blocks.push(Known { places, bytes, method: blockref.check_method(), by });
        for at in table.step_by(128) {
            self.explore(Referred::Block { index, at });
        }
    }

    /// The volume with some things changed, and all check codes right.
    fn mutated(&self, random: &mut Random) -> Rack {
        let (mut blocks, mut headers) = (self.blocks.clone(), self.headers.clone());
        for _ in 0..random.below(8) {
            let index = usize::try_from(random.below(blocks.len() as u64)).unwrap();
            let bytes = &mut blocks[index].bytes;
            // blockrefs and the fields of inodes are what the rest hangs on
            let near = bytes.len().min(0x400) as u64;
            let reach = if random.once_in(3) { bytes.len() as u64 } else { near };
            let at = random.below(reach);
            change(bytes, usize::try_from(at).unwrap(), random);
        }
        let most = if random.once_in(3) { 5 } else { 1 };
        for header in headers.iter_mut().filter(|_| self.has_copies) {
            for _ in 0..random.below(most) {
                // the epoch and the slots are in the first KiB
                let reach = if random.once_in(3) { 0xff0 } else { 0x400 };
                let at = random.below(reach);
                change(&mut header[RECORD..], usize::try_from(at).unwrap(), random);
            }
        }
        self.written(blocks, headers)
    }

    /// The volume with these contents, and all check codes right.
    fn written(&self, mut blocks: Vec<Known>, mut headers: Vec<Vec<u8>>) -> Rack {
        for index in (0..blocks.len()).rev() {
            let Known { bytes, method, by, .. } = &blocks[index];
            let Some(code) = code(bytes, *method) else { continue };
            match *by {
                Referred::Block { index, at } => {
                    blocks[index].bytes[at + 0x40..][..code.len()].copy_from_slice(&code);
                }
                Referred::Headers { disks, at } => {
                    for (disk, header) in headers.iter_mut().enumerate() {
                        if disks & 1 << disk != 0 {
                            header[at + 0x40..][..code.len()].copy_from_slice(&code);
                        }
                    }
                }
            }
        }
        let rack = self.rack.fork();
        for known in &blocks {
            for (disk, offset) in &known.places {
                rack.patch(*disk, offset.0, &known.bytes);
            }
        }
        for (disk, header) in (0..self.disks).zip(&mut headers) {
            if self.has_copies {
                let record = &mut header[RECORD..RECORD + RECORD_LEN];
                let code = Checks::PORTABLE.crc32c(&record[..RECORD_LEN - 4]);
                record[RECORD_LEN - 4..].copy_from_slice(&code.to_le_bytes());
            }
            seal(RawVolumeHeader::mut_from_bytes(header).unwrap(), &Checks::PORTABLE);
            rack.patch(disk, 0, header);
        }
        rack
    }
}

/// Puts in an extreme word, a small one, or a byte.
fn change(bytes: &mut [u8], at: usize, random: &mut Random) {
    let word = match random.below(8) {
        0 => Some(0),
        1 => Some(u64::MAX),
        2 => Some(i64::MAX.cast_unsigned()),
        3 => Some(1 << 63),
        4 => Some(random.below(20)),
        _ => None,
    };
    match word {
        Some(word) => bytes[at & !7..][..8].copy_from_slice(&word.to_le_bytes()),
        None => bytes[at] ^= 1 << random.below(8),
    }
}

fn code(bytes: &[u8], method: CheckMethod) -> Option<Vec<u8>> {
    let stored = method.stored(&[0; 64]);
    let computed = match Checks::PORTABLE.verify(bytes.to_vec(), stored) {
        Ok(_) => stored,
        Err(mismatch) => mismatch.computed,
    };
    match computed {
        CheckCode::Unchecked => None,
        CheckCode::Crc32c(code) => Some(code.to_le_bytes().to_vec()),
        CheckCode::Xxhash64(code) => Some(code.to_le_bytes().to_vec()),
        CheckCode::Sha192(code) => Some(code.to_vec()),
    }
}

/// What the mutated volumes came to.
#[derive(Default, Debug)]
struct Came {
    refused: u64,
    read: u64,
    written: u64,
    filled: u64,
}

/// Opens it as somebody might, and does everything that can be done with it.
fn go_through(rack: &Rack, random: &mut Random, came: &mut Came) {
    let copies = lineage::Options {
        accept_missing: random.once_in(2),
        master: random.once_in(4).then(|| u8::try_from(random.below(4)).unwrap()),
        only_copy: random.once_in(6).then(|| u8::try_from(random.below(4)).unwrap()),
        ..lineage::Options::default()
    };
    let options = OpenOptions { copies, ..OpenOptions::default() };
    let Ok(reading) = ready(farrier_core::drive::solo::Solo::open(rack.clone(), options, 1 << 16))
    else {
        came.refused += 1;
        return;
    };
    came.read += 1;
    let checked = Check::copies(reading.volume()).into_iter().map(Some);
    for copy in [None].into_iter().chain(checked) {
        let mut check = Check::new(reading.volume(), CheckOptions { copy, ..<_>::default() });
        while let Step::Read(wants) = check.step() {
            check.resume(wants.iter().map(|want| ready(reading.fetch(want))).collect());
        }
        for finding in check.take_findings() {
            let _ = format!("{finding} {}", finding.kind.code());
        }
    }
    drop(reading);
    let Ok(host) = WritingHost::with(rack.clone(), options, 1 << 16) else { return };
    host.set_origin(Origin { id: [9; 16], host: Uuid([7; 16]), time: WallTime(1) });
    came.written += 1;
    if let Ok(pfs) = host.open_pfs("DATA")
        && let Ok(root) = host.run(&GetAttributes { pfs, inum: Inum::ROOT })
    {
        let model = Model::new(root);
        let mut mounted = Mounted { host, pfs, committed: model.clone(), model, time: 0 };
        let swarm = Swarm::new(random);
        for _ in 0..20 {
            let op = swarm.next(random, &mounted.model);
            // what is there is not what the model knows
            if mounted.apply(&op).is_err() {
                break;
            }
        }
        let _ = mounted.apply(&Op::Flush { always: true });
        after(&mounted.host, random, came);
    } else {
        let _ = host.flush_always(true);
        after(&host, random, came);
    }
}

fn after(host: &WritingHost<Rack>, random: &mut Random, came: &mut Came) {
    for _ in 0..20 {
        match ready(host.resync(1 << 20)) {
            Ok(filled) if filled.leaves + filled.tables > 0 || filled.joined != 0 => {
                came.filled += filled.leaves;
            }
            _ => break,
        }
    }
    let mut scrub = Scrub::new();
    for _ in 0..1000 {
        if !ready(host.scrub(&mut scrub, 1 << 20)).unwrap_or(false) {
            break;
        }
    }
    let _ = ready(host.heal());
    if random.once_in(2) {
        let _ = host.bulkfree(|_| {});
    }
    if random.once_in(3) {
        let slot = u8::try_from(random.below(4)).unwrap();
        let _ = ready(host.remove_copy(slot));
    }
    let _ = ready(host.close());
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn made_up_volumes_are_gone_through_to_the_end() {
    let subjects = [
        Subject::new(&[64 << 20, 96 << 20], 1, false),
        Subject::new(&[64 << 20, 64 << 20, 96 << 20], 2, false),
        Subject::new(&[64 << 20, 96 << 20], 3, true),
        Subject::new(&[64 << 20, 64 << 20, 96 << 20], 4, true),
        Subject::plain(5),
    ];
    let mut came = Came::default();
    let start = number("FARRIER_FUZZ_SEED", 1);
    for seed in start..start + number("FARRIER_FUZZ_RUNS", 400) {
        let mut random = Random::new(seed);
        let subject = &subjects[usize::try_from(seed % 5).unwrap()];
        let rack = subject.mutated(&mut random);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            go_through(&rack, &mut random, &mut came);
        }));
        assert!(outcome.is_ok(), "seed {seed} went wrong");
    }
    println!("{came:?}");
}

/// Otherwise check codes are not put right, and nothing behind them is reached.
#[test]
fn copies_without_mutation_are_sound() {
    let subject = Subject::new(&[64 << 20, 96 << 20], 1, false);
    let rack = subject.written(subject.blocks.clone(), subject.headers.clone());
    for disk in 0..2 {
        assert!(rack.bytes(disk, 0, HEADER_LEN) == subject.headers[usize::from(disk)]);
    }
    let host = WritingHost::open(rack, 1 << 16).unwrap();
    assert_eq!(Check::copies(host.volume()), [0, 1]);
    for copy in 0..2 {
        let options = CheckOptions { copy: Some(copy), ..CheckOptions::default() };
        let mut check = Check::new(host.volume(), options);
        while let Step::Read(wants) = check.step() {
            check.resume(wants.iter().map(|want| ready(host.fetch(want))).collect());
        }
        assert_eq!((check.summary().fatal, check.summary().repairable), (0, 0), "copy {copy}");
    }
}
