//! What makes an operation restartable. Floor 3.
//!
//! An [`Operation`] is a synchronous function over a [`View`]. When it needs a block that is not
//! in memory it stops with [`Stop::Need`], naming every block that it already knows it wants; the
//! driver fetches them with no lock held, pins them to the operation's [`Turn`], and runs the
//! operation again from the start. So an operation never waits, and one that failed has changed
//! nothing.
//!
//! Invariants:
//! * `gather` is pure: the same blocks give the same answer. A debug build runs every successful
//!   gather twice, and injects misses, to find one that is not.
//! * Blocks that a run used stay with the turn until the operation ends: a cache that is too small
//!   makes operations slow, never endless.
//! * A block's identity includes its check code, so a reused address is another block.
//!
//! This room knows no file system: what the blocks mean is for the floors above.

pub mod block;
pub mod cache;
pub mod view;

pub use block::{Block, BlockId, Want};
pub use cache::BlockCache;
pub use view::{Cache, Turn, View};

use alloc::vec::Vec;

use crate::dirty::Plan;
use crate::error::Error;

/// Why a run ended without a result. Control flow, not an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// These blocks are needed first.
    Need(Vec<Want>),
    /// The operation failed.
    Fail(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Fail(error.into())
    }
}

/// A request to the file system, as a value.
pub trait Operation {
    /// What it results in.
    type Output: PartialEq;

    /// One run over what is in memory.
    ///
    /// # Errors
    /// Blocks that are missing, or why the operation fails.
    fn gather(&self, view: &mut View<'_>) -> Result<Self::Output, Stop>;
}

/// A request that changes something, as a value.
///
/// It says what it wants changed and changes nothing itself; the driver applies the plan in the
/// same breath, so nothing can have come between.
pub trait Change {
    /// What it results in.
    type Output: PartialEq;

    /// One run over what is in memory.
    ///
    /// # Errors
    /// Blocks that are missing, or why the request fails.
    fn gather(&self, view: &mut View<'_>) -> Result<(Self::Output, Plan), Stop>;
}
