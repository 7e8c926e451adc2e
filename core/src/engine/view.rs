//! What one run of an operation sees, and what an operation holds on to between its runs.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::Cell;

use super::{Block, BlockId, Stop, Want};
use crate::dirty::Memory;
use crate::error::Error;

/// Most blocks that one stop asks for; what is left over is asked for by a later run.
pub const WANTS_MAX: usize = 256;

/// A cache that never waits.
pub trait Cache {
    /// The block `id`, if it is in memory.
    fn peek(&self, id: &BlockId) -> Option<Block>;
}

/// The life of one operation: what was fetched for it, faults included.
#[derive(Debug, Default)]
pub struct Turn {
    pins: BTreeMap<BlockId, Result<Block, Error>>,
    runs: u32,
    injector: Injector,
}

impl Turn {
    /// A turn that nothing was fetched for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A turn whose runs miss blocks that are in memory, at places that `seed` decides; fewer and
    /// fewer with each run. For builds that look for impure operations.
    #[must_use]
    pub fn with_misses(seed: u64) -> Self {
        Self { injector: Injector { state: seed | 1 }, ..Self::default() }
    }

    /// Pins what the driver got for `want`: a block, or the fault that the next run will see.
    pub fn admit(&mut self, want: &Want, got: Result<Block, Error>) {
        self.pins.insert(*want.id(), got);
    }

    /// Number of runs begun.
    #[must_use]
    pub const fn runs(&self) -> u32 {
        self.runs
    }
}

/// One run's window onto memory: the turn's pins, then the shared cache, then [`Stop::Need`].
pub struct View<'a> {
    turn: &'a mut Turn,
    cache: &'a dyn Cache,
    memory: Option<&'a Memory>,
    /// Blocks of the shared cache that this run used; pinned if the run stops.
    used: Vec<(BlockId, Block)>,
    wants: Vec<Want>,
    ahead: Vec<Want>,
    /// What the run wants may be referred to by nobody any more.
    is_doubtful: Cell<bool>,
}

impl core::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "View(run {}, {} wants)", self.turn.runs, self.wants.len())
    }
}

impl<'a> View<'a> {
    /// The window of the next run of `turn` onto a volume that nobody changes.
    pub fn new(turn: &'a mut Turn, cache: &'a dyn Cache) -> Self {
        Self::over(turn, cache, None)
    }

    /// The window of the next run of `turn`; what was changed is in `memory`.
    pub fn over(turn: &'a mut Turn, cache: &'a dyn Cache, memory: Option<&'a Memory>) -> Self {
        turn.runs += 1;
        Self {
            turn,
            cache,
            memory,
            used: Vec::new(),
            wants: Vec::new(),
            ahead: Vec::new(),
            is_doubtful: Cell::new(false),
        }
    }

    /// What was changed, on a volume that is open for writing.
    #[must_use]
    pub const fn memory(&self) -> Option<&'a Memory> {
        self.memory
    }

    /// The block, now; if it is missing the run stops for it and for all wants noted before.
    ///
    /// # Errors
    /// [`Stop::Need`], or the fault that reading it met.
    pub fn block(&mut self, want: &Want) -> Result<Block, Stop> {
        match self.want(want) {
            Some(got) => Ok(got?),
            None => Err(Stop::Need(self.take_wants())),
        }
    }

    /// The block if it is in memory, or the fault that reading it met; `None` notes it as wanted.
    /// The run goes on, to find out what else it wants, and ends with [`View::settle`].
    pub fn want(&mut self, want: &Want) -> Option<Result<Block, Error>> {
        if let Some(pinned) = self.turn.pins.get(want.id()) {
            return Some(pinned.clone());
        }
        if !self.turn.injector.miss(self.turn.runs)
            && let Some(block) = self.cache.peek(want.id())
        {
            self.used.push((*want.id(), Block::clone(&block)));
            return Some(Ok(block));
        }
        let want = self.dated(want);
        if self.wants.len() < WANTS_MAX && !self.wants.contains(&want) {
            self.wants.push(want);
        }
        None
    }

    /// The run goes by a root that it brought along, and not by one that is in use now: what it
    /// finds there may be gone, and its place used for something else.
    pub fn doubt(&self) {
        self.is_doubtful.set(true);
    }

    /// What a run finds is in use as of the last commit.
    fn dated(&self, want: &Want) -> Want {
        match self.memory {
            Some(memory) if !self.is_doubtful.get() => want.known_at(memory.commits()),
            _ => *want,
        }
    }

    /// Stops if anything was noted as wanted.
    ///
    /// # Errors
    /// [`Stop::Need`] with everything noted.
    pub fn settle(&mut self) -> Result<(), Stop> {
        if self.wants.is_empty() { Ok(()) } else { Err(Stop::Need(self.take_wants())) }
    }

    /// Advises that `want` will be wanted soon. Changes no result.
    pub fn advise(&mut self, want: Want) {
        if self.cache.peek(want.id()).is_none() && self.ahead.len() < WANTS_MAX {
            self.ahead.push(want);
        }
    }

    /// What the run advised, for the driver.
    #[must_use]
    pub fn take_advice(&mut self) -> Vec<Want> {
        core::mem::take(&mut self.ahead)
    }

    fn take_wants(&mut self) -> Vec<Want> {
        // Progress is certain only if the next run finds what this one found.
        for (id, block) in self.used.drain(..) {
            self.turn.pins.insert(id, Ok(block));
        }
        core::mem::take(&mut self.wants)
    }
}

/// Decides where a debug build misses a block that is there. A state of 0 never does.
#[derive(Debug, Default)]
struct Injector {
    state: u64,
}

impl Injector {
    fn miss(&mut self, run: u32) -> bool {
        if self.state == 0 || run > 6 {
            return false;
        }
        // xorshift64: no more randomness is needed than this
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.trailing_zeros() > run
    }
}
