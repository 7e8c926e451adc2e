//! HAMMER2 on Linux, over files and block devices.
//!
//! This crate gives [`farrier_core`] what it lacks by design: devices, threads, a shared cache and
//! the FUSE door of the kernel.
//!
//! | module | what it is for |
//! |---|---|
//! | [`source`] | `DEVICE@LABEL` as people write it |
//! | [`device`] | files and block devices as a storage |
//! | [`blocks`] | the shared cache, single flight, read-ahead |
//! | [`writing`] | what was changed, and its way to the devices |
//! | [`image`] | an opened file system, with blocking calls |
//! | [`tree`] | one PFS of it: paths, contents, directories |
//! | `snapshots` | which there are while the volume is open |
//! | [`copy`] | copying out of a tree |
//! | [`copy_in`] | copying into a volume |
//! | [`copies`] | volumes of copies: how they are, and what is told of them |
//! | [`control`] | what can be asked of a volume, mounted or not |
//! | [`check`] | running the checker with several threads |
//! | [`repair`] | planning repairs, and making them |
//! | [`recognise`] | what lies on a device already, HAMMER2 or not |
//! | [`in_use`] | who uses a device: mounts, loop devices |
//! | [`errno`] | errors as the kernel wants them |
//! | [`fuse`] | mounting and unmounting |
//!
//! To read a file: [`image::Image::open`], [`image::Image::tree`], [`tree::Tree::resolve`],
//! [`tree::Tree::read`]. What the command line looks like is no business of the library.

#![deny(unsafe_code)]

pub mod blocks;
pub mod check;
pub mod control;
pub mod copies;
pub mod copy;
pub mod copy_in;
pub mod device;
pub mod errno;
pub mod fuse;
pub mod image;
pub mod in_use;
pub mod recognise;
pub mod repair;
pub mod source;
pub mod tree;
pub mod writing;

mod ahead;
mod snapshots;
