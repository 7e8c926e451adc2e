//! Farrier's core: HAMMER2 without I/O.
//!
//! No clock, no randomness, no threads, no files, no sockets, no globals: bytes come in through
//! [`storage::Storage`], everything else is an argument. So the same code is the mount, the WASI
//! module, the page and the tests.
//!
//! Rooms by floor; a room imports only lower floors (checked by `tests/tests/tidy.rs`):
//!
//! | floor | room | what it is for |
//! |---|---|---|
//! | 0 | [`units`], [`error`] | quantities, and what can go wrong |
//! | 1 | [`media`] | bytes and their meaning |
//! | 1 | [`storage`] | the door to devices |
//! | 2 | [`copies`] | copies of a volume: which are believed, and how they came there |
//! | 2 | [`dirty`] | what was changed and is not on media yet |
//! | 2 | [`text`] | how people write what the media says |
//! | 3 | [`engine`] | what makes an operation restartable |
//! | 4 | [`tree`] | the radix tree of blockrefs: search and change |
//! | 4 | [`freemap`] | the block allocator |
//! | 5 | [`fs`] | what a virtual file system asks for |
//! | 6 | [`volume`] | a volume as a whole: format, open, locate |
//! | 7 | [`flush`] | from memory to media: everything changed, in one commit |
//! | 7 | [`scan`] | long work as cursor machines: the checker, and the scan for what is in use |
//! | 8 | [`drive`] | runs operations and machines over a storage |
//!
//! To read a file: [`drive::open()`] a [`volume::Volume`], run [`fs::OpenPfs`], [`fs::Lookup`] and
//! [`fs::Read`] with [`drive::run`].

#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::alloc_instead_of_core,
    clippy::cast_possible_truncation,
    clippy::large_stack_arrays,
    clippy::needless_pass_by_ref_mut,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used
)]

extern crate alloc;

pub mod copies;
pub mod dirty;
pub mod drive;
pub mod engine;
pub mod error;
pub mod flush;
pub mod freemap;
pub mod fs;
pub mod media;
pub mod repair;
pub mod scan;
pub mod storage;
pub mod text;
pub mod tree;
pub mod units;
pub mod volume;

const _: fn() = || {
    // a host may share all of these between threads
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<volume::Volume>();
    assert_send_sync::<engine::BlockCache>();
    assert_send_sync::<engine::Turn>();
    assert_send_sync::<error::Error>();
};
