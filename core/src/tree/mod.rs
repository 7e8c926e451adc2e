//! The radix tree of blockrefs: tables, the search for a range of keys in them, and their change in
//! bulk. Floor 4.
//!
//! Every inode, and the volume header for the super-root and the freemap, holds a small table of
//! blockrefs; what does not fit hangs in indirect blocks below it (media format 4). A search goes
//! down in key order and answers with leaves.
//!
//! Invariants of what comes out, whatever the media says: leaves come in ascending order, lie in
//! the range that was asked for, have a kind that belongs into the table, and no path is deeper
//! than 64 indirect blocks (each covers fewer keys than the one above).
//!
//! A change ([`edit()`]) collects nothing and writes nothing: it says what the tables of the new tree
//! hold and what the old tree had more.
//!
//! This room knows tables and keys, not inodes or names.

mod edit;
mod render;
mod search;
mod table;

pub use edit::{Dropped, Edit, Edited, Entry, NewNode, edit};
pub use render::{Summary, render, render_into, summarize};
pub use search::{Found, first, range, search};
pub use table::{Holder, Table};
