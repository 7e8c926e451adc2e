//! Running operations that change something.

use alloc::vec::Vec;

use super::{Host, fetch_all};
use crate::copies::EpochId;
use crate::copies::epoch::Stamp;
use crate::copies::witness::{Telling, WitnessFault};
use crate::dirty::Memory;
use crate::engine::{Change, Stop, Turn, View, Want};
use crate::error::{Error, Limit};
use crate::flush::{Piece, Placed};
use crate::units::{Tid, Uuid, WallTime};

/// What a change has to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// There is no room on media for what it may need. What is reserved becomes less with a flush;
    /// this is the how-manieth time that it is asked for, from 0.
    Space(u32),
}

/// Where and when an epoch of copies begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Random bytes, never all zero: its name.
    pub id: [u8; 16],
    /// The host.
    pub host: Uuid,
    /// Its clock.
    pub time: WallTime,
}

impl Origin {
    /// An epoch from here that begins with the transaction `tid`.
    pub(super) const fn stamp(self, tid: Tid) -> Stamp {
        Stamp { id: EpochId(self.id), host: self.host, time: self.time, start_tid: tid }
    }
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

    /// Fetches a block as it is stored: checked, not expanded, and not kept.
    ///
    /// # Errors
    /// As [`fetch`](Host::fetch).
    fn fetch_stored(&self, want: &Want) -> impl Future<Output = Result<Vec<u8>, Error>>;

    /// Writes pieces, in any order. On a volume with copies a device that fails keeps nobody else
    /// from getting theirs: the copy is [lost](crate::volume::LiveCopies::lose), and that is no
    /// error.
    ///
    /// # Errors
    /// What a device said.
    fn write(&self, pieces: Vec<Piece>) -> impl Future<Output = Result<(), Error>>;

    /// Writes a piece over what is there, at once. Unlike [`write`](Self::write), it is for the
    /// caller to say what it means that a device does not take it.
    ///
    /// # Errors
    /// What a device said.
    fn rewrite(&self, piece: Piece) -> impl Future<Output = Result<(), Error>>;

    /// Writes a header, or part of one, at `offset` of the device of the root volume, or of `copy`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn write_header(
        &self,
        copy: u8,
        offset: u64,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<(), Error>>;

    /// Everything written before stays, whatever happens, when this is done.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn barrier(&self) -> impl Future<Output = Result<(), Error>>;

    /// Chance, clock and name of this host, for the lineage of copies; `None` where there are none:
    /// then a copy that fails ends all writing.
    fn origin(&self) -> Option<Origin> {
        None
    }

    /// The clock of this host, as in [`origin`](Self::origin).
    fn time(&self) -> Option<WallTime> {
        self.origin().map(|origin| origin.time)
    }

    /// Tells the witness of the group of copies: asks it what it holds, has that
    /// [judged](Telling::judge), and replaces it, with nobody else between; it lasts when this is
    /// done. It comes to an end within some seconds whatever the witness does.
    ///
    /// # Errors
    /// It was not told, as far as is known.
    fn tell_witness(&self, telling: &Telling) -> impl Future<Output = Result<(), WitnessFault>> {
        let _ = telling;
        core::future::ready(Err(WitnessFault::Unreachable))
    }

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
