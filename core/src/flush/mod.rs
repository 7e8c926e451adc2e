//! From memory to media: what one commit is made of. Floor 7.
//!
//! A flush takes the frozen layers and writes everything bottom-up to space that nothing refers
//! to: file blocks, tables, inodes, roots, the super-root, the freemap. Then, behind a barrier, one
//! header makes all of it true. A crash at any point leaves the commit before (media format 9.2).
//!
//! The steps that wait are in [`drive::commit`](crate::drive::commit); here is what they do in
//! between: [`prepare`] turns contents into what is stored, [`Writer`] gives blocks their places
//! and their blockrefs, [`HeaderWriter`] makes headers.
//!
//! Invariants:
//! * No block is written over that any header refers to which could be fallen back to.
//! * Every new blockref is stamped with the transaction of the commit, and the freemap of the
//!   commit marks every block that it refers to: `freemap_tid` is `mirror_tid` (media format 9.3).
//! * What is not understood in a blockref, an inode or the header stays as it is.

mod headers;
mod prepare;
mod trees;
mod writer;

pub use headers::{HeaderWriter, Roots};
pub use prepare::{Prepared, Shape, Stored, prepare};
pub use trees::{EditTree, FindBase, YoungBlocks};
pub use writer::{Bytes, Piece, Placed, Stamp, Writer, valid};
