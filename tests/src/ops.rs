//! Random operations on a PFS, from a seed.
//!
//! In the manner of swarm testing: each seed turns kinds of operations on or off, and says how
//! large things are. A seed that likes tiny files and renames finds other mistakes than one that
//! punches holes into two large ones.

use farrier_core::error::Error;
use farrier_core::fs::{
    Allocate, Allocation, Clash, CopyRange, Create, Link, New, Pfs, Release, Rename, SetAttributes,
    Unlink, Victim, Write,
};
use farrier_core::media::dirhash::dirhash;
use farrier_core::media::inode::ObjectKind;
use farrier_core::storage::Storage;
use farrier_core::units::{Inum, WallTime};

use crate::model::{Copying, Creation, Model, Renaming, Set};
use crate::writing::WritingHost;

/// Numbers from a seed: xorshift64*, which is enough to choose by.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xff51_afd7_ed55_8ccd) | 1)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % if end == 0 { 1 } else { end }
    }

    /// Yes once in `times`.
    pub const fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of `from`.
    ///
    /// # Panics
    /// There is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).expect("small")]
    }
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the core's operations")]
pub enum Op {
    Create(Creation),
    Link {
        inum: u64,
        directory: u64,
        name: Vec<u8>,
    },
    Unlink {
        directory: u64,
        name: Vec<u8>,
        victim: Victim,
        keep: bool,
    },
    Release {
        inum: u64,
    },
    Rename(Renaming),
    Write {
        inum: u64,
        offset: Option<u64>,
        len: usize,
        fill: u64,
    },
    Set {
        inum: u64,
        set: Set,
    },
    Allocate {
        inum: u64,
        offset: u64,
        len: u64,
        allocation: Allocation,
    },
    Copy(Copying),
    Flush {
        always: bool,
    },
    /// The volume is left as it is and opened again.
    Remount,
}

/// Kinds of operations that a seed likes, as weights.
const KINDS: usize = 11;

/// What a seed likes.
#[derive(Clone, Debug)]
pub struct Swarm {
    weights: [u64; KINDS],
    /// How sizes and offsets are chosen.
    sizes: Vec<Size>,
    names: Vec<Vec<u8>>,
    /// Most inodes.
    inodes_max: usize,
    /// Largest file, for what is dense.
    len_max: u64,
    makes_directories: u64,
    keeps: bool,
    /// Arguments that are errors, once in so many times.
    wrong: u64,
    settings: bool,
}

#[derive(Clone, Copy, Debug)]
enum Size {
    Tiny,
    DirectEdge,
    BlockEdge,
    Block,
    Any,
    Sparse,
}

impl Swarm {
    /// What `random` likes.
    pub fn new(random: &mut Random) -> Self {
        let mut weights = [0; KINDS];
        for weight in &mut weights {
            *weight = *random.pick(&[0, 1, 1, 2, 5, 10]);
        }
        weights[0] = weights[0].max(2);
        weights[5] = weights[5].max(1);
        // flushes and remounts take most of the time
        weights[9] = *random.pick(&[0, 1, 1, 2]);
        weights[10] = *random.pick(&[0, 0, 1]);
        let all =
            [Size::Tiny, Size::DirectEdge, Size::BlockEdge, Size::Block, Size::Any, Size::Sparse];
        let mut sizes: Vec<Size> = all.into_iter().filter(|_| random.once_in(2)).collect();
        if sizes.is_empty() {
            sizes.push(*random.pick(&all));
        }
        Self {
            weights,
            sizes,
            names: names(random),
            inodes_max: *random.pick(&[4, 10, 30, 100, 400]),
            len_max: *random.pick(&[600, 70_000, 300_000, 2_000_000]),
            makes_directories: *random.pick(&[2, 5, 20]),
            keeps: random.once_in(2),
            wrong: *random.pick(&[10, 50, 1000]),
            settings: random.once_in(2),
        }
    }

    /// The next operation on what `model` is now.
    pub fn next(&self, random: &mut Random, model: &Model) -> Op {
        let total: u64 = self.weights.iter().sum();
        let mut at = random.below(total);
        let mut kind = 0;
        while at >= self.weights[kind] {
            at -= self.weights[kind];
            kind += 1;
        }
        let inum = self.inode(random, model, ObjectKind::Regular);
        match kind {
            0 if model.len() > self.inodes_max => self.unlink(random, model),
            0 => self.create(random, model),
            1 => {
                Op::Link { inum, directory: self.directory(random, model), name: self.name(random) }
            }
            2 => self.unlink(random, model),
            3 => {
                let unlinked: Vec<u64> = model
                    .inodes()
                    .filter(|(_, inode)| inode.is_unlinked)
                    .map(|(inum, _)| inum)
                    .collect();
                let inum = if unlinked.is_empty() { inum } else { *random.pick(&unlinked) };
                Op::Release { inum }
            }
            4 => {
                let (directory, name) = self.existing(random, model);
                Op::Rename(Renaming {
                    directory,
                    name,
                    new_directory: self.directory(random, model),
                    new_name: self.name(random),
                    clash: *random.pick(&[Clash::Replace, Clash::Refuse, Clash::Exchange]),
                    keep: self.keeps && random.once_in(2),
                })
            }
            5 => {
                let size = model.get(inum).map_or(0, |inode| inode.contents.size);
                Op::Write {
                    inum,
                    offset: (!random.once_in(4)).then(|| self.offset(random, size)),
                    len: usize::try_from(self.len(random)).unwrap_or(0),
                    fill: random.next(),
                }
            }
            6 => self.set(random, inum, model),
            7 => {
                let size = model.get(inum).map_or(0, |inode| inode.contents.size);
                Op::Allocate {
                    inum,
                    offset: self.offset(random, size),
                    len: self.len(random),
                    allocation: *random.pick(&[
                        Allocation::Extend,
                        Allocation::Punch,
                        Allocation::Punch,
                        Allocation::Zero { keep_size: true },
                        Allocation::Zero { keep_size: false },
                    ]),
                }
            }
            8 => self.copy(random, inum, model),
            9 => Op::Flush { always: random.once_in(8) },
            _ => Op::Remount,
        }
    }

    fn create(&self, random: &mut Random, model: &Model) -> Op {
        let new = if random.once_in(self.makes_directories) {
            New::Directory
        } else {
            match random.below(12) {
                0 => {
                    let len = *random.pick(&[0, 1, 511, 512, 513, 1024, 1025, 4095, 4096]);
                    New::Symlink(fill(random.next(), len))
                }
                1 => New::Fifo,
                2 => New::Socket,
                3 => New::CharDevice(7, 0xffff_ffff),
                4 => New::BlockDevice(1, 2),
                _ => New::File,
            }
        };
        let mode = u32::try_from(random.below(0o1000)).unwrap_or(0);
        let mode = mode | if random.once_in(8) { 0o2000 } else { 0 };
        Op::Create(Creation {
            directory: self.directory(random, model),
            name: self.name(random),
            new,
            mode,
            uid: 1000,
            gid: u32::try_from(random.below(3)).unwrap_or(0),
        })
    }

    fn unlink(&self, random: &mut Random, model: &Model) -> Op {
        let (directory, name) = self.existing(random, model);
        let named = model.get(directory).ok().and_then(|inode| inode.names.get(&name));
        let kind = named.and_then(|inum| model.get(*inum).ok()).map(|inode| inode.kind());
        let is_directory = (kind == Some(ObjectKind::Directory)) != random.once_in(self.wrong);
        let victim = if is_directory { Victim::Directory } else { Victim::File };
        Op::Unlink { directory, name, victim, keep: self.keeps && random.once_in(2) }
    }

    fn set(&self, random: &mut Random, inum: u64, model: &Model) -> Op {
        let mut set = Set::default();
        if random.once_in(2) {
            let size = model.get(inum).map_or(0, |inode| inode.contents.size);
            set.size = Some(if random.once_in(3) {
                random.below(size + 1)
            } else {
                self.offset(random, size)
            });
            return Op::Set { inum, set };
        }
        let any = self.inode(random, model, ObjectKind::Directory);
        let inum = if random.once_in(2) { inum } else { any };
        match random.below(if self.settings { 6 } else { 4 }) {
            0 => set.mode = Some(0o755),
            1 => (set.uid, set.gid) = (Some(5), Some(6)),
            2 => (set.atime, set.mtime) = (Some(random.next()), Some(random.next())),
            3 => (set.ctime, set.flags) = (Some(random.next()), Some(3)),
            4 => set.compression = Some(*random.pick(&[0, 1, 2, 0x12, 3, 0x13, 0x93])),
            _ => set.check = Some(*random.pick(&[0, 1, 2, 3, 4])),
        }
        Op::Set { inum, set }
    }

    fn copy(&self, random: &mut Random, source: u64, model: &Model) -> Op {
        let target =
            if random.once_in(4) { source } else { self.inode(random, model, ObjectKind::Regular) };
        let size = |inum| model.get(inum).map_or(0, |inode| inode.contents.size);
        let align = random.once_in(2);
        let mut offset = |inum| {
            let offset = self.offset(random, size(inum));
            if align { offset & !0xffff } else { offset }
        };
        let (source_offset, target_offset) = (offset(source), offset(target));
        let len = self.len(random) + if random.once_in(2) { 300_000 } else { 0 };
        Op::Copy(Copying { source, source_offset, target, target_offset, len })
    }

    /// An inode, if possible of this kind.
    fn inode(&self, random: &mut Random, model: &Model, kind: ObjectKind) -> u64 {
        if random.once_in(self.wrong) {
            return *random.pick(&[1, 2, 1024, 1 << 40, 1 << 63]);
        }
        let fitting: Vec<u64> = model
            .inodes()
            .filter(|(_, inode)| inode.kind() == kind)
            .map(|(inum, _)| inum)
            .collect();
        if fitting.is_empty() { 1 } else { *random.pick(&fitting) }
    }

    fn directory(&self, random: &mut Random, model: &Model) -> u64 {
        if random.once_in(3) { 1 } else { self.inode(random, model, ObjectKind::Directory) }
    }

    fn name(&self, random: &mut Random) -> Vec<u8> {
        if random.once_in(self.wrong * 2) {
            let wrong: [&[u8]; 6] = [b".", b"..", b"", b"a/b", b"a\0b", &[b'x'; 256]];
            return random.pick(&wrong).to_vec();
        }
        random.pick(&self.names).clone()
    }

    /// A directory and a name in it, if there is one.
    fn existing(&self, random: &mut Random, model: &Model) -> (u64, Vec<u8>) {
        for _ in 0..4 {
            let directory = self.directory(random, model);
            let Ok(inode) = model.get(directory) else { continue };
            let names: Vec<&Vec<u8>> = inode.names.keys().collect();
            if !names.is_empty() && !random.once_in(self.wrong) {
                return (directory, (*random.pick(&names)).clone());
            }
        }
        (self.directory(random, model), self.name(random))
    }

    fn len(&self, random: &mut Random) -> u64 {
        let around = |random: &mut Random, edge: u64| edge + random.below(5) - 2;
        let len = match *random.pick(&self.sizes) {
            Size::Tiny => random.below(64),
            Size::DirectEdge => around(random, 512),
            Size::BlockEdge => {
                let blocks = 1 + random.below(3);
                around(random, 65_536 * blocks)
            }
            Size::Block => 65_536 * (1 + random.below(4)),
            Size::Any => random.below(self.len_max),
            Size::Sparse => random.below(3000),
        };
        len.min(self.len_max)
    }

    fn offset(&self, random: &mut Random, size: u64) -> u64 {
        if random.once_in(self.wrong * 4) {
            return *random.pick(&[u64::MAX, i64::MAX as u64, i64::MAX as u64 - 1000, 1 << 62]);
        }
        match *random.pick(&self.sizes) {
            Size::Tiny => random.below(64),
            Size::DirectEdge => (512 + random.below(5) - 2).min(self.len_max),
            Size::BlockEdge => {
                (65_536 * (1 + random.below(4)) + random.below(5) - 2).min(self.len_max)
            }
            Size::Block => (65_536 * random.below(5)).min(self.len_max),
            Size::Any if random.once_in(2) => random.below(size.min(self.len_max) + 1),
            Size::Any => random.below(self.len_max),
            Size::Sparse => {
                let bits = 10 + random.below(52);
                random.next() & ((1 << bits) - 1)
            }
        }
    }
}

/// Names that a seed likes.
fn names(random: &mut Random) -> Vec<Vec<u8>> {
    let count = *random.pick(&[3, 8, 30, 300]);
    match random.below(4) {
        0 => (0..count).map(|n: u64| format!("n{n}").into_bytes()).collect(),
        1 => (0..count)
            .map(|n| {
                let len = *random.pick(&[1, 63, 64, 65, 254, 255]);
                let mut name = fill_text(n.wrapping_mul(0x1234_5677), len);
                name.truncate(255);
                name
            })
            .collect(),
        2 => colliding_names(usize::try_from(count).unwrap_or(3)),
        _ => {
            // pieces in any order: the upper halves of the hashes are the same
            (0..count)
                .map(|n| {
                    let pieces = ["a", "bb", "ccc", "dddd", "e"];
                    let mut order: Vec<&str> = pieces.to_vec();
                    order.rotate_left(usize::try_from(n % 5).unwrap_or(0));
                    let mut separators = n / 5;
                    let mut name = String::new();
                    for piece in order {
                        name.push_str(piece);
                        name.push(['.', '-', '_', '~'][(separators % 4) as usize]);
                        separators /= 4;
                    }
                    name.into_bytes()
                })
                .collect()
        }
    }
}

/// Names with one hash: of separators only, so that no piece counts, and chosen by linear algebra,
/// since a CRC is linear in the bits that differ between two separators.
///
/// # Panics
/// The hash is another one than it was.
#[must_use]
pub fn colliding_names(count: usize) -> Vec<Vec<u8>> {
    const LEN: usize = 40;
    let name = |choice: u64| -> Vec<u8> {
        (0..LEN).map(|at| if choice >> at & 1 == 0 { b'.' } else { b'-' }).collect()
    };
    let base = dirhash(&name(0));
    // rows in echelon form: what a choice does to the hash, and the choice
    let mut rows: Vec<(u64, u64)> = Vec::new();
    let mut kernel = Vec::new();
    for at in 0..LEN {
        let mut choice = 1_u64 << at;
        let mut effect = dirhash(&name(choice)) ^ base;
        for (row, of) in &rows {
            if effect & (1 << (63 - row.leading_zeros())) != 0 {
                effect ^= row;
                choice ^= of;
            }
        }
        if effect == 0 { kernel.push(choice) } else { rows.push((effect, choice)) }
    }
    let names: Vec<Vec<u8>> = (0..count as u64)
        .map(|number| {
            let mut choice = 0;
            for (bit, of) in kernel.iter().enumerate() {
                choice ^= if number >> bit & 1 == 0 { 0 } else { *of };
            }
            name(choice)
        })
        .collect();
    assert!(names.iter().all(|name| dirhash(name) == base), "a CRC is linear");
    names
}

/// `len` bytes, always the same for a number: some of them zeros, or easy to compress.
#[must_use]
pub fn fill(number: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(number);
    match number % 6 {
        0 => vec![0; len],
        1 => vec![u8::try_from(number >> 8 & 0xff).unwrap_or(1) | 1; len],
        2 => {
            // zeros with something at one place
            let mut bytes = vec![0; len];
            if let Some(last) = bytes.last_mut() {
                *last = 7;
            }
            bytes
        }
        3 => fill_text(number, len),
        _ => {
            let mut bytes = Vec::with_capacity(len + 8);
            while bytes.len() < len {
                bytes.extend_from_slice(&random.next().to_le_bytes()[..7]);
            }
            bytes.truncate(len);
            bytes
        }
    }
}

fn fill_text(number: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(number);
    (0..len).map(|_| b'a' + u8::try_from(random.below(20)).unwrap_or(0)).collect()
}

/// Does `op`, which changes something, to the core and to the model, and compares what they say.
///
/// `NoSpace` is the core's right: what does not fit is not told by the model. It is `Ok(false)`.
///
/// # Errors
/// What they do not agree on.
pub fn apply<S: Storage>(
    host: &WritingHost<S>,
    pfs: Pfs,
    model: &mut Model,
    op: &Op,
    time: u64,
) -> Result<bool, String> {
    let now = WallTime(time);
    let mut after = model.clone();
    let agreed = match op {
        Op::Create(what) => {
            let create = Create {
                pfs,
                directory: Inum(what.directory),
                name: what.name.clone(),
                new: what.new.clone(),
                mode: what.mode,
                uid: what.uid,
                gid: what.gid,
                now,
            };
            let have = host.change(&create);
            let inum = have.as_ref().map_or(u64::MAX, |attributes| attributes.inum.0);
            agree(have, after.create(what, inum, time))
        }
        Op::Link { inum, directory, name } => {
            let link = Link {
                pfs,
                inum: Inum(*inum),
                directory: Inum(*directory),
                name: name.clone(),
                now,
            };
            agree(host.change(&link).map(|_| ()), after.link(*inum, *directory, name, time))
        }
        Op::Unlink { directory, name, victim, keep } => {
            let (victim, keep) = (*victim, *keep);
            let unlink =
                Unlink { pfs, directory: Inum(*directory), name: name.clone(), victim, keep, now };
            let have = host.change(&unlink).map(|inum| inum.0);
            agree(have, after.unlink(*directory, name, victim, keep, time))
        }
        Op::Release { inum } => {
            after.release(*inum);
            agree(host.change(&Release { pfs, inum: Inum(*inum) }), Ok(()))
        }
        Op::Rename(what) => {
            let rename = Rename {
                pfs,
                directory: Inum(what.directory),
                name: what.name.clone(),
                new_directory: Inum(what.new_directory),
                new_name: what.new_name.clone(),
                clash: what.clash,
                keep: what.keep,
                now,
            };
            let have = host.change(&rename).map(|replaced| replaced.map(|inum| inum.0));
            agree(have, after.rename(what, time))
        }
        Op::Write { inum, offset, len, fill: number } => {
            let bytes = fill(*number, *len);
            let write = Write { pfs, inum: Inum(*inum), offset: *offset, bytes: &bytes, now };
            agree(host.change(&write).map(|_| ()), after.write(*inum, *offset, &bytes, time))
        }
        Op::Set { inum, set } => {
            let request = SetAttributes {
                mode: set.mode,
                uid: set.uid,
                gid: set.gid,
                size: set.size,
                atime: set.atime.map(WallTime),
                mtime: set.mtime.map(WallTime),
                ctime: set.ctime.map(WallTime),
                flags: set.flags,
                compression_request: set.compression,
                check_request: set.check,
                ..SetAttributes::new(pfs, Inum(*inum), now)
            };
            let unsized_ = |attributes: farrier_core::fs::Attributes| {
                farrier_core::fs::Attributes { allocated_bytes: 0, ..attributes }
            };
            let want = after.set(*inum, *set, time).map(unsized_);
            agree(host.change(&request).map(unsized_), want)
        }
        Op::Allocate { inum, offset, len, allocation } => {
            let (offset, len, allocation) = (*offset, *len, *allocation);
            let allocate = Allocate { pfs, inum: Inum(*inum), offset, len, allocation, now };
            agree(host.change(&allocate), after.allocate(*inum, offset, len, allocation, time))
        }
        Op::Copy(what) => {
            let copy = CopyRange {
                pfs,
                source: Inum(what.source),
                source_offset: what.source_offset,
                target: Inum(what.target),
                target_offset: what.target_offset,
                len: what.len,
                now,
            };
            match (host.change(&copy), after.copy_len(what)) {
                (Ok(copied), Ok(len)) if copied <= len && (copied > 0) == (len > 0) => {
                    after.copy(what, copied, time);
                    Ok(true)
                }
                (have, want) => agree(have, want),
            }
        }
        Op::Flush { .. } | Op::Remount => Err("no change".into()),
    }?;
    if agreed {
        *model = after;
    }
    Ok(agreed)
}

/// Whether something changed, if both say the same.
fn agree<T: PartialEq + std::fmt::Debug>(
    have: Result<T, Error>,
    want: Result<T, Error>,
) -> Result<bool, String> {
    match have {
        Err(Error::NoSpace) => Ok(false),
        _ if have == want => Ok(have.is_ok()),
        _ => Err(format!("{have:?}, where the model says {want:?}")),
    }
}
