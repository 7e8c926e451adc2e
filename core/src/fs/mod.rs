//! What a virtual file system asks for, one operation per file. Floor 5.
//!
//! Every operation is a value that implements [`Operation`](crate::engine::Operation): pure,
//! restartable, and started by the driver. They share what [`node`] offers and do not know each
//! other, but for [`resolve`], which is made of others.

pub mod attributes;
pub mod lookup;
pub mod node;
pub mod path_of;
pub mod pfs;
pub mod read;
pub mod readdir;
pub mod readlink;
pub mod resolve;
pub mod seek;

pub use attributes::{Attributes, GetAttributes};
pub use lookup::Lookup;
pub use path_of::PathOf;
pub use pfs::{ListPfs, OpenPfs, Pfs, PfsInfo};
pub use read::{Extent, Read, ReadAhead};
pub use readdir::{DirEntry, DirPage, ReadDir};
pub use readlink::ReadLink;
pub use resolve::{LastLink, Resolve, Resolved};
pub use seek::{Seek, SeekTarget};
