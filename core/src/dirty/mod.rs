//! What was changed and is not on media yet. Floor 2.
//!
//! A writable volume in memory ([`Memory`]) is what its last commit left on media, and *layers* of
//! changes over it: the *active* one, which operations add to, and the *frozen* one, which is on
//! its way to media. Whoever looks something up asks the layers from the top down and then the
//! media. Tables of blockrefs are not changed here: a layer says what became of inodes, names and
//! file blocks, and the flush works that into the trees, all at once.
//!
//! Invariants:
//! * An operation describes what it wants changed as a [`Plan`]; applying a plan cannot fail, and a
//!   plan is applied as a whole. So an operation is wholly in one layer, and in one commit.
//! * A layer that is frozen never changes again.
//! * What the layers may need on media is reserved when a plan is applied, so that the operation is
//!   told that there is no space, and the flush never is.
//!
//! This room knows no device, no address and no table, and does not look at what it keeps beyond
//! what it needs to count it.

mod budget;
mod layer;
mod memory;
mod plan;

pub use budget::{Budget, Cost};
pub use layer::{DirtyBlock, DirtyInode, DirtyName, Head, Layer};
pub use memory::{Memory, Orphan, Tree, TreeId};
pub use plan::{Edit, InodeImage, Plan, Standing};

use alloc::sync::Arc;

use crate::media::check::Verified;

/// Contents of a file block, shared with whoever reads them.
pub type Contents = Arc<Verified>;
