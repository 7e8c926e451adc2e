//! Running operations over a [`Storage`]: the only place of the core that waits. Floor 9.
//!
//! The host owns the cache and says how it is shared ([`Host`]); everything else is here. Dropping
//! a future of this module is harmless at any time: operations have changed nothing.

pub mod attach;
mod blocks;
pub mod bulkfree;
pub mod change;
pub mod commit;
pub mod convert;
pub mod copies;
pub mod damage;
mod fill;
mod finish;
mod format;
pub mod grow;
pub mod heal;
mod judge;
pub mod open;
pub mod pfs;
pub mod promote;
pub mod relocate;
pub mod repair;
pub mod resume;
pub mod resync;
pub mod scrub;
pub mod solo;
mod space;
pub mod witness;

pub use blocks::{
    Got, read_any, read_block, read_stored, rewrite_piece, write_header, write_piece,
};
pub use format::format;
pub use judge::{may_write, refused};
pub use open::load_freemap;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;

use crate::dirty::Memory;
use crate::engine::{Block, Cache, Operation, Stop, Turn, View, Want};
use crate::error::{Error, Limit, Refusal};
use crate::storage::Storage;
use crate::units::DeviceIndex;
use crate::volume::{GotHeader, OpenOptions, Volume, header_reads, root_reads};

/// Runs after which an operation is taken to be endless. The longest path through the deepest legal
/// tree needs a part of that.
const RUNS_MAX: u32 = 1 << 16;

/// What a host brings: a cache that many operations share, and the way to fill it.
pub trait Host: Cache {
    /// Fetches a block that is not in the cache, and puts it there.
    ///
    /// Most hosts call [`read_block`]; a host with threads makes sure that a block wanted by
    /// several is read once. It may be called for a block that came into the cache meanwhile.
    fn fetch(&self, want: &Want) -> impl Future<Output = Result<Block, Error>>;

    /// Lets `look` see what was changed; there is nothing on a volume that is not open for writing.
    fn look<R>(&self, look: impl FnOnce(Option<&Memory>) -> R) -> R {
        look(None)
    }

    /// Blocks that will probably be wanted soon. A host may fetch them beside its other work, or
    /// do nothing.
    fn advise(&self, _wants: Vec<Want>) {}

    /// Decides at which places a debug build misses blocks that are in memory. A host that gives
    /// another number each time finds more.
    fn miss_seed(&self) -> u64 {
        0x2545_f491_4f6c_dd1d
    }
}

/// Opens the file system that the devices of `storage` hold.
///
/// # Errors
/// Why they hold none that we can read.
pub async fn open<S: Storage>(storage: &S, options: OpenOptions) -> Result<Volume, Error> {
    let Headers { sizes, got, rootless } = read_headers(storage, &options).await?;
    Ok(Volume::assemble_rooted(&sizes, &got, &rootless, options)?)
}

/// What is read of devices before it is judged.
struct Headers {
    sizes: Vec<u64>,
    got: Vec<GotHeader>,
    rootless: Vec<(DeviceIndex, u8)>,
}

async fn read_headers<S: Storage>(storage: &S, options: &OpenOptions) -> Result<Headers, Refusal> {
    let count = u8::try_from(storage.device_count()).unwrap_or(u8::MAX);
    let sizes: Vec<u64> = (0..count).map(|index| storage.size(DeviceIndex(index))).collect();
    let mut got = Vec::new();
    for read in header_reads(&sizes)? {
        got.push((read, storage.read(read.device, read.offset, read.len).await));
    }
    let mut rootless = Vec::new();
    for device in (0..count).map(DeviceIndex) {
        for (slot, root) in root_reads(device, &got, &options.checks) {
            if let Some(root) = root
                && let Ok(stored) = storage.read(device, root.offset, root.len).await
                && root.is_it(stored, &options.checks)
            {
                break;
            }
            rootless.push((device, slot));
        }
    }
    Ok(Headers { sizes, got, rootless })
}

/// Runs `operation` to its end.
///
/// # Errors
/// Why the operation failed.
pub async fn run<O: Operation>(host: &impl Host, operation: &O) -> Result<O::Output, Error>
where
    O::Output: core::fmt::Debug,
{
    // A debug build misses blocks that are there, to find operations that are not pure.
    let mut turn =
        if cfg!(debug_assertions) { Turn::with_misses(host.miss_seed()) } else { Turn::new() };
    run_turn(host, operation, &mut turn).await
}

/// As [`run`], over a turn of the caller's: for tests that make it miss.
///
/// # Errors
/// Why the operation failed.
pub async fn run_turn<O: Operation>(
    host: &impl Host,
    operation: &O,
    turn: &mut Turn,
) -> Result<O::Output, Error>
where
    O::Output: core::fmt::Debug,
{
    let mut commits = commits_of(host);
    for _ in 0..ANEW_MAX {
        let outcome = run_once(host, operation, turn).await;
        // Space that was given back is used again some commits later: who has gone on for so long
        // may have read something else at an address that he knew.
        let now = commits_of(host);
        if now < commits + REUSE_DELAY as u64 {
            return outcome;
        }
        commits = now;
        *turn = Turn::new();
    }
    Err(Error::Limit(Limit::Runs))
}

/// Commits for which space that was given back is left alone.
pub(crate) const REUSE_DELAY: usize = 4;
/// Times that an operation is begun anew because many commits went by.
const ANEW_MAX: usize = 64;

fn commits_of(host: &impl Host) -> u64 {
    host.look(|memory| memory.map_or(0, Memory::commits))
}

async fn run_once<O: Operation>(
    host: &impl Host,
    operation: &O,
    turn: &mut Turn,
) -> Result<O::Output, Error>
where
    O::Output: core::fmt::Debug,
{
    while turn.runs() < RUNS_MAX {
        let run = host.look(|memory| {
            let mut view = View::over(turn, host, memory);
            let output = operation.gather(&mut view)?;
            let advice = view.take_advice();
            #[cfg(debug_assertions)]
            if let Ok(again) = operation.gather(&mut View::over(turn, host, memory)) {
                // It may miss blocks that were evicted meanwhile; then there is nothing to compare.
                assert!(again == output, "an operation gave two answers: {output:?} and {again:?}");
            }
            Ok((output, advice))
        });
        match run {
            Ok((output, advice)) => {
                if !advice.is_empty() {
                    host.advise(advice);
                }
                return Ok(output);
            }
            Err(Stop::Fail(error)) => return Err(error),
            Err(Stop::Need(wants)) => fetch_all(host, turn, &wants).await,
        }
    }
    Err(Error::Limit(Limit::Runs))
}

/// Gets what a run stopped for.
async fn fetch_all(host: &impl Host, turn: &mut Turn, wants: &[Want]) {
    let fetches = wants.iter().map(|want| host.fetch(want)).collect();
    for (want, got) in wants.iter().zip(join_all(fetches).await) {
        turn.admit(want, got);
    }
}

/// Waits for all of `futures`, which go on side by side; the results keep their order.
pub async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *result = Some(output),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// Runs a future that never waits: for hosts whose storage answers at once.
///
/// # Panics
/// The future was pending, against the promise of the caller.
pub fn ready<F: Future>(future: F) -> F::Output {
    let mut future = core::pin::pin!(future);
    let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a storage that promised to answer at once is waiting"),
    }
}
