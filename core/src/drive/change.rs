//! Running operations that change something.

use alloc::vec::Vec;

use super::{Host, fetch_all};
use crate::dirty::Memory;
use crate::engine::{Change, Stop, Turn, View};
use crate::error::{Error, Limit};
use crate::flush::{Piece, Placed};

/// What a change has to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// There is no room on media for what it may need. What is reserved becomes less with a flush;
    /// this is the how-manieth time that it is asked for, from 0.
    Space(u32),
}

/// Times that a change asks for space before it fails.
const SPACE_MAX: u32 = 3;

/// What a host brings that can write.
pub trait WriteHost: Host {
    /// Lets `alter` change what is in memory; nobody else sees it meanwhile.
    fn alter<R>(&self, alter: impl FnOnce(&mut Memory) -> R) -> R;

    /// Waits until a change may go on: a host that holds much that was not flushed makes changes
    /// wait here.
    ///
    /// # Errors
    /// The volume failed.
    fn admit(&self) -> impl Future<Output = Result<(), Error>>;

    /// Makes room: flushes, at least; a scan for free space is worth it when that did not help.
    ///
    /// # Errors
    /// The volume failed.
    fn relieve(&self, pressure: Pressure) -> impl Future<Output = Result<(), Error>>;

    /// Writes pieces, in any order.
    ///
    /// # Errors
    /// What a device said.
    fn write(&self, pieces: Vec<Piece>) -> impl Future<Output = Result<(), Error>>;

    /// Writes a header, or part of one, at `offset` of the device of the root volume.
    ///
    /// # Errors
    /// What the device said.
    fn write_header(&self, offset: u64, bytes: Vec<u8>) -> impl Future<Output = Result<(), Error>>;

    /// Everything written before stays, whatever happens, when this is done.
    ///
    /// # Errors
    /// What a device said.
    fn barrier(&self) -> impl Future<Output = Result<(), Error>>;

    /// Applies `work` to every item, in parallel if the host can; results in the same order.
    fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        items.into_iter().map(work).collect()
    }

    /// Blocks that were just made, for the cache.
    fn keep(&self, placed: Vec<Placed>);
}

/// Runs `change` to its end, and makes it.
///
/// # Errors
/// Why it failed: then nothing has changed.
pub async fn change<C: Change>(host: &impl WriteHost, change: &C) -> Result<C::Output, Error>
where
    C::Output: core::fmt::Debug,
{
    host.admit().await?;
    let mut turn = new_turn(host);
    let mut commits = host.look(|memory| memory.map_or(0, Memory::commits));
    let mut pressed = 0;
    while turn.runs() < super::RUNS_MAX {
        match host.alter(|memory| run_once(host, change, &mut turn, memory, commits)) {
            Outcome::Done(output) => return Ok(output),
            Outcome::Stopped(Stop::Fail(error)) => return Err(error),
            Outcome::Stopped(Stop::Need(wants)) => fetch_all(host, &mut turn, &wants).await,
            Outcome::Stale => {
                commits = host.look(|memory| memory.map_or(0, Memory::commits));
                turn = Turn::new();
            }
            Outcome::NoRoom if pressed == SPACE_MAX => return Err(Error::NoSpace),
            Outcome::NoRoom => {
                host.relieve(Pressure::Space(pressed)).await?;
                pressed += 1;
                commits = host.look(|memory| memory.map_or(0, Memory::commits));
                turn = Turn::new();
            }
        }
    }
    Err(Error::Limit(Limit::Runs))
}

enum Outcome<T> {
    Done(T),
    Stopped(Stop),
    /// So many commits went by that addresses may mean something else now.
    Stale,
    NoRoom,
}

fn run_once<C: Change>(
    host: &impl WriteHost,
    change: &C,
    turn: &mut Turn,
    memory: &mut Memory,
    commits: u64,
) -> Outcome<C::Output>
where
    C::Output: core::fmt::Debug,
{
    if memory.commits() >= commits + super::REUSE_DELAY as u64 {
        return Outcome::Stale;
    }
    let gathered = change.gather(&mut View::over(turn, host, Some(memory)));
    let (output, plan) = match gathered {
        Ok(gathered) => gathered,
        Err(stop) => return Outcome::Stopped(stop),
    };
    #[cfg(debug_assertions)]
    if let Ok((again, _)) = change.gather(&mut View::over(turn, host, Some(memory))) {
        assert!(again == output, "an operation gave two answers: {output:?} and {again:?}");
    }
    if plan.edits.is_empty() {
        return Outcome::Done(output);
    }
    match memory.apply(plan) {
        Ok(()) => Outcome::Done(output),
        Err(_) => Outcome::NoRoom,
    }
}

fn new_turn(host: &impl Host) -> Turn {
    if cfg!(debug_assertions) { Turn::with_misses(host.miss_seed()) } else { Turn::new() }
}
