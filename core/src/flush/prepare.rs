//! From the contents of a file block to what is stored of it (media format 7.2, 7.3). Pure, so that
//! a host may do many at a time.

use alloc::vec::Vec;

use crate::dirty::Contents;
use crate::media::check::{CheckCode, CheckMethod, Checks};
use crate::media::compress::{Compression, Request, compress};
use crate::media::inode::Inode;

/// How a file wants its blocks stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Compression.
    pub request: Request,
    /// Check method.
    pub check: CheckMethod,
}

impl Shape {
    /// What `inode` asks for; a method that we do not know is taken as XXH64.
    #[must_use]
    pub fn of(inode: &Inode<'_>) -> Self {
        let check = CheckMethod::from_code(inode.check_request())
            .filter(|method| *method != CheckMethod::Freemap)
            .unwrap_or(CheckMethod::Xxhash64);
        Self { request: Request::from_code(inode.compression_request()), check }
    }
}

impl Shape {
    /// The same, but with a check code in any case: a block that several copies should have the
    /// same of has to be told from what one of them might give instead.
    #[must_use]
    pub const fn checked(self) -> Self {
        let check = match self.check {
            CheckMethod::None | CheckMethod::Disabled => CheckMethod::Xxhash64,
            other => other,
        };
        Self { check, ..self }
    }
}

/// What is to be stored of a file block.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// Nothing: it is all zeros.
    Hole,
    /// This.
    Block {
        /// The stored bytes: a power of two from 1 KiB to 64 KiB.
        bytes: Stored,
        /// How they are compressed.
        compression: Compression,
        /// Their check method.
        method: CheckMethod,
        /// Their check code.
        check: CheckCode,
    },
}

/// Stored bytes: made for it, or the contents themselves.
#[derive(Clone, Debug)]
pub enum Stored {
    /// Made for it.
    Made(Vec<u8>),
    /// The contents, which fill the block.
    Whole(Contents),
}

impl core::ops::Deref for Stored {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Made(bytes) => bytes,
            Self::Whole(contents) => contents,
        }
    }
}

/// Prepares one block. Contents behind their end are zero.
#[must_use]
pub fn prepare(contents: &Contents, shape: Shape, checks: &Checks) -> Prepared {
    let looks_for_zeros = shape.request != Request::Store && shape.check != CheckMethod::None;
    if looks_for_zeros && is_zero(contents) {
        return Prepared::Hole;
    }
    let len = contents.len().next_power_of_two().max(1024);
    let whole = if contents.len() == len {
        Stored::Whole(Contents::clone(contents))
    } else {
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(contents);
        bytes.resize(len, 0);
        Stored::Made(bytes)
    };
    let (bytes, compression) = match compress(&whole, shape.request) {
        Some((bytes, compression)) => (Stored::Made(bytes), compression),
        None => (whole, Compression::None),
    };
    let check = checks.compute(&bytes, shape.check);
    Prepared::Block { bytes, compression, method: shape.check, check }
}

/// Whether all bytes are zero; sixteen at a time, since every block that is written asks.
fn is_zero(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks_exact(16);
    chunks.all(|chunk| chunk == [0; 16]) && chunks.remainder().iter().all(|byte| *byte == 0)
}
