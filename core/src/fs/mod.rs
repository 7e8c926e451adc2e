//! What a virtual file system asks for, one operation per file. Floor 5.
//!
//! Every operation is a value that implements [`Operation`](crate::engine::Operation): pure,
//! restartable, and started by the driver. They share what [`node`] offers and do not know each
//! other, but for [`resolve`], which is made of others.

pub mod adopt;
pub mod allocate;
pub mod attributes;
pub mod blocks;
mod change;
mod contents;
pub mod copy_range;
pub mod correct;
pub mod create;
pub mod link;
pub mod lookup;
pub mod names;
pub mod node;
pub mod path_of;
pub mod pfs;
pub mod read;
pub mod readdir;
pub mod readlink;
pub mod rename;
pub mod resolve;
pub mod seek;
pub mod set_attributes;
pub mod unlink;
pub mod write;

pub use allocate::{Allocate, Allocation};
pub use attributes::{Attributes, GetAttributes};
pub use copy_range::CopyRange;
pub use create::{Create, New};
pub use link::Link;
pub use lookup::Lookup;
pub use path_of::PathOf;
pub use pfs::{ListPfs, OpenPfs, Pfs, PfsInfo};
pub use read::{Extent, Read, ReadAhead};
pub use readdir::{DirEntry, DirPage, ReadDir};
pub use readlink::ReadLink;
pub use rename::{Clash, Rename};
pub use resolve::{LastLink, Resolve, Resolved};
pub use seek::{Seek, SeekTarget};
pub use set_attributes::SetAttributes;
pub use unlink::{Release, Unlink, Victim};
pub use write::Write;
