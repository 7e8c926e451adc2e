//! A volume in memory and its model, side by side: operations, flushes, remounts.

use farrier_core::error::Error;
use farrier_core::fs::{GetAttributes, Pfs};
use farrier_core::scan::FindingKind;
use farrier_core::units::Inum;

use crate::against::{compare, compare_media};
use crate::model::Model;
use crate::ops::{Op, Random, Swarm, apply};
use crate::ram::RamDisk;
use crate::writing::{WritingHost, format_storage};

/// The PFS that is worked in.
pub const LABEL: &str = "DATA";

/// Time of the first operation.
const START: u64 = 1_700_000_000_000_000;

/// A volume that is open for writing, and what it should hold.
#[derive(Debug)]
pub struct Session {
    /// The device.
    pub disk: RamDisk,
    /// The volume.
    pub host: WritingHost<RamDisk>,
    /// The PFS that is worked in.
    pub pfs: Pfs,
    /// What it should hold.
    pub model: Model,
    /// What the last flush left on media.
    pub committed: Model,
    /// Operations so far.
    pub operations: u64,
    /// Operations that found no space.
    pub full: u64,
    /// Operations that both refused.
    pub refused: u64,
    cache_bytes: usize,
}

/// Nothing beyond space that waits is allowed on media.
pub fn nothing(_: &FindingKind) -> bool {
    false
}

/// A header slot may be broken: a torn write leaves it so.
///
/// And where a commit changes no root, only the freemap, a header of which the first kilobyte alone
/// is new has good check codes: what is in front of the root's table always ends in a code of its
/// own, so the code over everything does not depend on it (media format 1.4). Then the old freemap
/// counts, which has all in use that the new one has, and the count of free space is off.
pub fn a_header(kind: &FindingKind) -> bool {
    matches!(kind, FindingKind::Header { .. } | FindingKind::AllocatorFree { .. })
}

impl Session {
    /// A new volume of `len` bytes.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new(len: u64, cache_bytes: usize) -> Self {
        let disk = RamDisk::new(usize::try_from(len).expect("sizes fit"));
        format_storage(&disk);
        Self::open(disk, cache_bytes, None).expect("a new volume can be opened")
    }

    /// The volume on `disk`, which should hold `model`; without one, its PFS is empty.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(disk: RamDisk, cache_bytes: usize, model: Option<Model>) -> Result<Self, Error> {
        let host = WritingHost::open(disk.clone(), cache_bytes)?;
        let pfs = host.open_pfs(LABEL)?;
        let model = match model {
            Some(model) => model.settled(),
            None => Model::new(host.run(&GetAttributes { pfs, inum: Inum::ROOT })?),
        };
        let committed = model.clone();
        Ok(Self {
            disk,
            host,
            pfs,
            model,
            committed,
            operations: 0,
            full: 0,
            refused: 0,
            cache_bytes,
        })
    }

    /// The number of the next inode.
    ///
    /// # Panics
    /// Its PFS is not open.
    #[must_use]
    pub fn next_inum(&self) -> u64 {
        self.host.with_memory(|memory| memory.tree(self.pfs.id()).unwrap().next_inum().0)
    }

    /// Does `op` to both.
    ///
    /// # Errors
    /// What they do not agree on.
    pub fn apply(&mut self, op: &Op) -> Result<(), String> {
        self.operations += 1;
        match op {
            Op::Flush { always } => {
                self.host.flush_always(*always).map_err(|error| format!("a flush: {error:?}"))?;
                self.committed = self.model.settled();
            }
            Op::Remount => {
                let (operations, full, refused) = (self.operations, self.full, self.refused);
                let committed = self.committed.clone();
                let again = Self::open(self.disk.clone(), self.cache_bytes, Some(committed));
                *self = again.map_err(|error| format!("opening: {error:?}"))?;
                (self.operations, self.full, self.refused) = (operations, full, refused);
            }
            op => {
                let commits = self.host.with_memory(|memory| memory.commits());
                let before = self.model.clone();
                let time = START + self.operations * 1000;
                let changed = apply(&self.host, self.pfs, &mut self.model, op, time);
                // an operation that finds no room flushes what was changed before it
                if self.host.with_memory(|memory| memory.commits()) != commits {
                    self.committed = before.settled();
                    self.full += u64::from(changed == Ok(false));
                }
                self.refused += u64::from(!changed?);
            }
        }
        Ok(())
    }

    /// What is in memory is as the model says.
    ///
    /// # Errors
    /// The first difference.
    pub fn check_memory(&self) -> Result<(), String> {
        compare(&self.host, self.pfs, &self.model, true).map_err(|what| format!("memory: {what}"))
    }

    /// What is on media is as the last flush left it, and clean.
    ///
    /// # Errors
    /// The first difference.
    pub fn check_media(&self) -> Result<(), String> {
        compare_media(&self.disk, LABEL, &self.committed, nothing)
            .map_err(|what| format!("media: {what}"))
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ran {
    /// Operations.
    pub operations: u64,
    /// Operations that found no space.
    pub full: u64,
    /// Operations that both refused.
    pub refused: u64,
    /// Comparisons with what is on media.
    pub compared: u64,
}

/// Runs the first `count` operations of `seed`, with comparisons in between.
///
/// # Errors
/// At which operation they differ, and in what.
pub fn run_seed(seed: u64, count: u64, show: bool) -> Result<Ran, String> {
    let mut random = Random::new(seed);
    let swarm = Swarm::new(&mut random);
    let len = *random.pick(&[40, 64, 64, 128, 1100]) << 20;
    let cache = *random.pick(&[64 << 10, 1 << 20, 16 << 20]);
    let mut session = Session::new(len, cache);
    let mut compared = 0;
    // what is compared when must not depend on the number of operations
    let mut sampler = Random::new(seed ^ 0xabcd);
    let dense = *random.pick(&[1, 3, 10]);
    for number in 0..count {
        let op = swarm.next(&mut random, &session.model);
        if show {
            println!("{number}: {}", text(&op));
        }
        let failed = |what: String| format!("operation {number}, {}: {what}", text(&op));
        session.apply(&op).map_err(failed)?;
        if matches!(op, Op::Flush { .. } | Op::Remount) && sampler.once_in(dense) {
            session.check_memory().and_then(|()| session.check_media()).map_err(failed)?;
            compared += 1;
        }
    }
    let end = |what| format!("after operation {count}: {what}");
    session.check_memory().map_err(end)?;
    session.apply(&Op::Flush { always: false }).map_err(end)?;
    session.check_memory().and_then(|()| session.check_media()).map_err(end)?;
    session.apply(&Op::Remount).map_err(end)?;
    session.check_memory().map_err(end)?;
    Ok(Ran {
        operations: count,
        full: session.full,
        refused: session.refused,
        compared: compared + 1,
    })
}

/// An operation in a line.
#[must_use]
pub fn text(op: &Op) -> String {
    let mut text = format!("{op:?}");
    if text.len() > 400 {
        text = format!("{}...", text.chars().take(400).collect::<String>());
    }
    text
}

/// Runs `seed`; a failure tells how to have it again, with as few operations as show it.
///
/// # Panics
/// They differ.
pub fn run_seed_or_panic(seed: u64, count: u64) -> Ran {
    run_or_panic(seed, count, |count| run_seed(seed, count, false), "")
}

/// Lets `run` do the first `count` operations of `seed`; a failure tells how to have it again, with
/// as few operations as show it. `filter` names the test.
///
/// # Panics
/// It fails.
pub fn run_or_panic<R>(
    seed: u64,
    count: u64,
    run: impl Fn(u64) -> Result<R, String> + std::panic::RefUnwindSafe,
    filter: &str,
) -> R {
    let run = |count| {
        std::panic::catch_unwind(|| run(count)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let short = || panic.downcast_ref::<&str>().map_or("a panic", |text| text).to_string();
            Err(format!("a panic: {}", text.unwrap_or_else(short)))
        })
    };
    let first = match run(count) {
        Ok(ran) => return ran,
        Err(first) => first,
    };
    // the least that fails, if failing lasts
    let (mut passes, mut fails, mut what) = (0, count, first.clone());
    while passes + 1 < fails {
        let middle = passes.midpoint(fails);
        match run(middle) {
            Ok(_) => passes = middle,
            Err(now) => (fails, what) = (middle, now),
        }
    }
    panic!(
        "seed {seed}: {first}\nwith the first {fails} operations: {what}\n\
         FARRIER_MODEL_SEED={seed} FARRIER_MODEL_RUNS=1 FARRIER_MODEL_OPS={fails} \
         cargo test -p farrier-tests --test model {filter}"
    );
}
