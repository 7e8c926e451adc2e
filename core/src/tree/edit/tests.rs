//! Edits against a model: batches drawn from seeds over a small media in memory, each tree walked
//! and held against media format 4.1. Then cases with names.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::engine::{Block, BlockId, Cache, Turn};
use crate::error::{Error, Place};
use crate::media::blockref::{is_zeroed, slots};
use crate::media::check::{CheckCode, Checks};
use crate::media::dirhash::{NAME_BIT, dirhash};
use crate::media::{ZONE_LEN, ZONE_RESERVED_LEN};
use crate::tree::{render, render_into, summarize};

mod cases;

/// Blocks at increasing offsets, and the root table of one tree.
struct Media {
    holder: Holder,
    root: Vec<RawBlockref>,
    blocks: BTreeMap<BlockId, Block>,
    next: u64,
    tid: u64,
}

impl Cache for Media {
    fn peek(&self, id: &BlockId) -> Option<Block> {
        self.blocks.get(id).cloned()
    }
}

struct Cold;

impl Cache for Cold {
    fn peek(&self, _: &BlockId) -> Option<Block> {
        None
    }
}

impl Media {
    fn new(holder: Holder) -> Self {
        Self { holder, root: Vec::new(), blocks: BTreeMap::new(), next: 0x80_0000, tid: 1 }
    }

    fn table(&self) -> Table {
        let mut inode = vec![0; 1024];
        render_into(&self.root, &mut inode[0x200..0x400]);
        let block = Checks::PORTABLE.verify(inode, CheckCode::Unchecked).unwrap();
        let place = Place { kind: BlockKind::Inode, offset: None, key: 0 };
        Table::of_inode(Block::new(block), place, self.holder)
    }

    fn allocate(&mut self, radix: u8) -> u64 {
        while self.next % ZONE_LEN < ZONE_RESERVED_LEN {
            self.next += 0x1_0000;
        }
        self.next += 0x1_0000;
        (self.next - 0x1_0000) | u64::from(radix)
    }

    /// A leaf like no other, with a block where its kind has one.
    fn leaf(&mut self, key: u64) -> RawBlockref {
        let mut raw = RawBlockref::new_zeroed();
        raw.methods = 0x30;
        raw.key.set(key);
        self.tid += 1;
        raw.modify_tid.set(self.tid);
        (raw.kind, raw.key_bits) = match self.holder {
            Holder::File => (3, 16),
            Holder::Directory => (4, 0),
            Holder::PfsRoot if key & NAME_BIT != 0 => (4, 0),
            _ => (1, 0),
        };
        match raw.kind {
            3 => raw.data_off.set(self.allocate(16)),
            1 => raw.data_off.set(self.allocate(10)),
            _ => {}
        }
        raw
    }

    fn puts(&mut self, keys: impl IntoIterator<Item = u64>) -> Vec<Edit> {
        let keys: BTreeSet<u64> = keys.into_iter().collect();
        keys.into_iter().map(|key| Edit::Put(self.leaf(key))).collect()
    }

    /// An indirect block with these entries.
    fn indirect(&mut self, mut raw: RawBlockref, entries: &[RawBlockref]) -> RawBlockref {
        // the radix is given in the offset's place
        let radix = Radix::new(u8::try_from(raw.data_off.get()).unwrap()).unwrap();
        raw.kind = 2;
        raw.methods = 0x30;
        raw.data_off.set(self.allocate(radix.bits()));
        let summary = summarize(entries);
        raw.leaf_count.set(summary.leaf_count);
        raw.embed = summary.embed();
        let bytes = render(entries, radix);
        let zero = CheckCode::Xxhash64(0);
        let CheckCode::Xxhash64(code) =
            Checks::PORTABLE.verify(bytes.clone(), zero).unwrap_err().computed
        else {
            panic!("asked for another check code");
        };
        raw.check[..8].copy_from_slice(&code.to_le_bytes());
        let want = Want::of(&Blockref::parse(&raw).unwrap().unwrap()).unwrap();
        let block = want.admit(bytes, &Checks::PORTABLE).unwrap();
        self.blocks.insert(*want.id(), block);
        raw
    }

    fn node(&mut self, key: u64, key_bits: u8, radix: u8, entries: &[RawBlockref]) -> RawBlockref {
        let mut raw = RawBlockref::new_zeroed();
        raw.key.set(key);
        raw.key_bits = key_bits;
        raw.data_off.set(u64::from(radix));
        self.indirect(raw, entries)
    }

    /// What the flush does.
    fn place(&mut self, entries: &[Entry], case: &str) -> Vec<RawBlockref> {
        let mut placed = Vec::new();
        for entry in entries {
            placed.push(match entry {
                Entry::Kept(raw) | Entry::Put(raw) => *raw,
                Entry::Node(node) => {
                    let least = if node.old.is_none() { 2 } else { 1 };
                    assert!(node.entries.len() >= least, "{case}: a chain");
                    let below = self.place(&node.entries, case);
                    let mut raw = node.old.unwrap_or_else(RawBlockref::new_zeroed);
                    raw.key.set(node.key);
                    raw.key_bits = node.key_bits;
                    raw.data_off.set(u64::from(node.radix.bits()));
                    self.indirect(raw, &below)
                }
            });
        }
        placed
    }

    fn edit_warm(&self, edits: &[Edit]) -> Result<Edited, Stop> {
        let mut turn = Turn::new();
        edit(&mut View::new(&mut turn, self), &self.table(), edits)
    }

    /// Runs over nothing in memory, until it ends: the answer, the runs, and the blocks it asked
    /// for.
    fn edit_cold(&self, edits: &[Edit]) -> (Result<Edited, Error>, u32, usize) {
        self.edit_over(Turn::new(), &Cold, edits)
    }

    fn edit_over(
        &self,
        mut turn: Turn,
        cache: &dyn Cache,
        edits: &[Edit],
    ) -> (Result<Edited, Error>, u32, usize) {
        let table = self.table();
        let mut read = BTreeSet::new();
        loop {
            let result = edit(&mut View::new(&mut turn, cache), &table, edits);
            match result {
                Ok(edited) => return (Ok(edited), turn.runs(), read.len()),
                Err(Stop::Fail(error)) => return (Err(error), turn.runs(), read.len()),
                Err(Stop::Need(wants)) => {
                    assert!(!wants.is_empty() && turn.runs() < 1000);
                    for want in wants {
                        read.insert(*want.id());
                        turn.admit(&want, Ok(self.peek(want.id()).unwrap()));
                    }
                }
            }
        }
    }

    /// Edits for good; the new tree is walked, and the account of what was dropped held against
    /// both.
    fn apply(&mut self, edits: &[Edit], case: &str) -> Edited {
        let edited = self.edit_warm(edits).unwrap_or_else(|stop| panic!("{case}: {stop:?}"));
        let old = self.walk(case);
        assert!(edited.entries.len() <= ROOT_SLOTS, "{case}: too many for the root");
        self.root = self.place(&edited.entries, case);
        let new = self.walk(case);
        let mut account = count_common(&old.references, &new.references);
        for dropped in &edited.dropped {
            match dropped {
                Dropped::Leaf(raw) | Dropped::Table(raw) => count(&mut account, raw),
                Dropped::Subtree(raw) => {
                    count(&mut account, raw);
                    let mut below = Walk::default();
                    self.walk_below(raw, 64, 1, &mut below, case);
                    for (raw, times) in below.references {
                        *account.entry(raw).or_default() += times;
                    }
                }
            }
        }
        assert_eq!(
            account.len(),
            old.references.len(),
            "{case}: dropped and kept are the old tree"
        );
        assert!(account == old.references, "{case}: dropped and kept are not the old tree");
        edited
    }

    fn walk(&self, case: &str) -> Walk {
        let mut walk = Walk::default();
        self.walk_table(&self.root, (0, u64::MAX, 64), 0, &mut walk, case);
        walk
    }

    /// Every rule of media format 4.1.
    fn walk_table(
        &self,
        table: &[RawBlockref],
        (low, high, bits): (u64, u64, u8),
        depth: u32,
        walk: &mut Walk,
        case: &str,
    ) {
        walk.depth = walk.depth.max(depth);
        let mut previous: Option<u64> = None;
        for raw in table {
            let Some(blockref) = Blockref::parse(raw).unwrap() else {
                assert!(is_zeroed(raw), "{case}: an empty slot that is not");
                continue;
            };
            let (key, last) = (blockref.key(), blockref.last_key());
            assert!(previous.is_none_or(|previous| key > previous), "{case}: order");
            assert!(key >= low && last <= high, "{case}: range");
            assert!(self.holder.allows(blockref.kind()), "{case}: kind");
            previous = Some(last);
            count(&mut walk.references, raw);
            if blockref.kind() == BlockKind::Indirect {
                self.walk_below(raw, bits, depth + 1, walk, case);
            } else {
                assert!(walk.leaves.insert(key, *raw).is_none(), "{case}: a key twice");
            }
        }
        assert!(depth == 0 || previous.is_some(), "{case}: an empty node");
    }

    fn walk_below(&self, raw: &RawBlockref, bits: u8, depth: u32, walk: &mut Walk, case: &str) {
        let blockref = Blockref::parse(raw).unwrap().unwrap();
        assert!(blockref.key_bits() < bits.min(64), "{case}: nesting");
        let want = Want::of(&blockref).unwrap();
        let block = self.peek(want.id()).unwrap();
        assert_eq!(block.len(), want.location().len(), "{case}");
        let range = (blockref.key(), blockref.last_key(), blockref.key_bits());
        self.walk_table(slots(&block), range, depth, walk, case);
    }
}

#[derive(Default)]
struct Walk {
    leaves: BTreeMap<u64, RawBlockref>,
    references: BTreeMap<Vec<u8>, usize>,
    depth: u32,
}

fn count(counts: &mut BTreeMap<Vec<u8>, usize>, raw: &RawBlockref) {
    *counts.entry(raw.as_bytes().to_vec()).or_default() += 1;
}

fn count_common(
    a: &BTreeMap<Vec<u8>, usize>,
    b: &BTreeMap<Vec<u8>, usize>,
) -> BTreeMap<Vec<u8>, usize> {
    let both = a.iter().filter_map(|(raw, count)| Some((raw.clone(), *count.min(b.get(raw)?))));
    both.collect()
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<const N: usize>(&mut self, from: [u64; N]) -> u64 {
        from[usize::try_from(self.below(N as u64)).unwrap()]
    }
}

/// Where keys come from.
#[derive(Clone, Copy, Debug)]
enum Keys {
    /// Runs of blocks of a file.
    Sequential,
    /// Blocks all over a file.
    Sparse,
    /// Hashes, some of them colliding.
    Names,
    /// Inode numbers, ascending, and names.
    Index,
    /// Labels of PFSs, and a few at the end of the key space.
    Labels,
}

impl Keys {
    const ALL: [Self; 5] = [Self::Sequential, Self::Sparse, Self::Names, Self::Index, Self::Labels];

    const fn holder(self) -> Holder {
        match self {
            Self::Sequential | Self::Sparse => Holder::File,
            Self::Names => Holder::Directory,
            Self::Index => Holder::PfsRoot,
            Self::Labels => Holder::SuperRoot,
        }
    }

    /// `many` keys or somewhat more.
    fn draw(self, many: u64, round: u64, random: &mut Random) -> Vec<u64> {
        let mut keys = Vec::new();
        while (keys.len() as u64) < many {
            match self {
                Self::Sequential => {
                    let start = random.below(4000);
                    let run = 1 + random.below(200).min(many);
                    keys.extend((start..start + run).map(|block| block << 16));
                }
                Self::Sparse => {
                    let shift = random.below(48);
                    keys.push((random.next() >> shift) & !0xffff);
                }
                Self::Names => {
                    let hash = NAME_BIT | (random.next() & !0x7fff) | 0x8000;
                    keys.extend((0..1 + random.below(10) / 9 * 40).map(|n| hash + n));
                }
                Self::Index => {
                    keys.push(0x400 + round * 150 + random.below(600));
                    keys.push(NAME_BIT | random.next());
                }
                Self::Labels => {
                    keys.push(NAME_BIT | random.next());
                    keys.push(u64::MAX - random.below(300));
                }
            }
        }
        keys
    }
}

/// A batch of edits, legal for `media`, and what the model becomes by it.
fn draw_batch(
    media: &mut Media,
    model: &mut BTreeMap<u64, RawBlockref>,
    keys: Keys,
    round: u64,
    random: &mut Random,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    // how many there are for each that is removed, at least; 1: none is
    let spare = random.pick([2, 10, 1, 1, 40]);
    let many = random.pick([1, 10, 300, 1500]);
    if spare != 10 {
        edits = media.puts(keys.draw(many, round, random));
    }
    let chance = random.below(10);
    for key in model.keys() {
        if spare != 1 && random.below(spare * 10) < chance * 2 {
            edits.push(Edit::Remove(*key));
        }
    }
    edits.push(Edit::Remove(keys.draw(1, round, random)[0] ^ random.below(3)));
    if random.below(3) == 0 {
        let (a, b) = (keys.draw(1, round, random)[0], keys.draw(1, round, random)[0]);
        let high = random.pick([a.max(b), u64::MAX, a.min(b) | 0xf_ffff]);
        edits.push(Edit::Cut { low: a.min(b), high });
    }
    // where two overlap, the one that begins first stays
    edits.sort_by_key(|edit| (edit.key(), matches!(edit, Edit::Cut { .. })));
    let mut previous = None;
    edits.retain(|edit| {
        let is_free = previous.is_none_or(|previous| edit.key() > previous);
        if is_free {
            previous = Some(edit.last_key());
        }
        is_free
    });
    for edit in &edits {
        match edit {
            Edit::Put(raw) => {
                model.insert(raw.key.get(), *raw);
            }
            Edit::Remove(key) => {
                model.remove(key);
            }
            Edit::Cut { low, high } => {
                model.retain(|_, raw| {
                    raw.key.get() > *high || span_last(raw.key.get(), raw.key_bits) < *low
                });
            }
        }
    }
    edits
}

#[test]
fn batches_from_seeds_agree_with_the_model() {
    let mut deepest = 0;
    for keys in Keys::ALL {
        for seed in 1..=8 {
            let mut random = Random::new(seed);
            let mut media = Media::new(keys.holder());
            let mut model = BTreeMap::new();
            for round in 0..25 {
                let case = format!("{keys:?}, seed {seed}, round {round}");
                let edits = draw_batch(&mut media, &mut model, keys, round, &mut random);
                deepest = deepest.max(round_of(&mut media, &model, &edits, &case));
            }
        }
    }
    assert!(deepest >= 4, "the trees are too flat ({deepest}) to prove anything");
}

/// Warm, cold and half warm give one answer; the tree is the model. Returns its depth.
fn round_of(
    media: &mut Media,
    model: &BTreeMap<u64, RawBlockref>,
    edits: &[Edit],
    case: &str,
) -> u32 {
    let depth = media.walk(case).depth;
    let warm = media.edit_warm(edits).unwrap();
    let (cold, runs, read) = media.edit_cold(edits);
    assert!(cold == Ok(warm.clone()), "{case}: cold is not warm");
    // a run for each level, and more only where one stop cannot ask for all
    let runs_max = depth + 1 + u32::try_from(read / 256).unwrap();
    assert!(runs <= runs_max, "{case}: {runs} runs for {read} blocks at depth {depth}");
    let (half, ..) = media.edit_over(Turn::with_misses(runs.into()), media, edits);
    assert!(half == Ok(warm), "{case}: half warm is not warm");
    media.apply(edits, case);
    let walk = media.walk(case);
    assert_eq!(walk.leaves.len(), model.len(), "{case}");
    assert!(walk.leaves == *model, "{case}: not the model");
    walk.depth
}
