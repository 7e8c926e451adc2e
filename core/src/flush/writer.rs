//! Places and blockrefs for what a commit writes.

use alloc::vec::Vec;

use zerocopy::FromZeros;

use super::prepare::{Prepared, Stored};
use crate::dirty::Budget;
use crate::engine::{Block, Want};
use crate::error::Error;
use crate::freemap::{Class, Freemap};
use crate::media::blockref::Blockref;
use crate::media::check::{CheckMethod, Checks, Verified, store};
use crate::media::compress::Compression;
use crate::media::dirent::EMBEDDED_MAX;
use crate::media::inode::{Inode, ObjectKind};
use crate::media::raw::RawBlockref;
use crate::tree::{Entry, NewNode, render, summarize};
use crate::units::{Inum, MediaOffset, Radix, Tid};

/// What every blockref of a commit is stamped with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The media transaction.
    pub mirror: Tid,
    /// The transaction of the PFS.
    pub modify: Tid,
}

/// Bytes on their way to media.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// Nobody else has them.
    Owned(Vec<u8>),
    /// Shared with readers.
    Shared(Block),
}

impl core::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(block) => block,
        }
    }
}

/// Something to write.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Where, in the address space of the volume.
    pub offset: MediaOffset,
    /// What.
    pub bytes: Bytes,
}

/// A block that was given a place, for whoever wants it next: it need not be read.
#[derive(Clone, Debug)]
pub struct Placed {
    /// How it will be asked for.
    pub want: Want,
    /// Its contents.
    pub block: Block,
}

/// Gives blocks their places. Lives as long as the volume is open for writing.
#[derive(Debug)]
pub struct Writer {
    freemap: Freemap,
    checks: Checks,
    /// Blocks of transactions up to this one may be referred to from several places.
    shared_tid: Tid,
    pieces: Vec<Piece>,
    pieces_bytes: usize,
    placed: Vec<Placed>,
    /// Bytes that are no longer referred to and that only a bulk scan can give back.
    leaked_bytes: u64,
    data_near: Option<MediaOffset>,
}

/// Small pieces that follow each other are put together up to this length.
const PIECE_MAX: usize = 256 << 10;

impl Writer {
    /// A writer over `freemap`. Nothing that was written up to `shared_tid` is given back directly.
    #[must_use]
    pub const fn new(freemap: Freemap, shared_tid: Tid, checks: Checks) -> Self {
        Self {
            freemap,
            checks,
            shared_tid,
            pieces: Vec::new(),
            pieces_bytes: 0,
            placed: Vec::new(),
            leaked_bytes: 0,
            data_near: None,
        }
    }

    /// The allocator.
    #[must_use]
    pub const fn freemap(&self) -> &Freemap {
        &self.freemap
    }

    /// The allocator, to be changed.
    pub const fn freemap_mut(&mut self) -> &mut Freemap {
        &mut self.freemap
    }

    /// The arithmetic of check codes.
    #[must_use]
    pub const fn checks(&self) -> &Checks {
        &self.checks
    }

    /// What can be allocated now.
    #[must_use]
    pub const fn budget(&self) -> Budget {
        let counts = self.freemap.counts();
        Budget { free_chunks: counts.free_chunks, free_groups: counts.free_groups }
    }

    /// Everything that was written up to `tid` may be shared from now on.
    pub fn share(&mut self, tid: Tid) {
        self.shared_tid = self.shared_tid.max(tid);
        self.freemap.forget_young();
    }

    /// Blocks of transactions up to this one may be referred to from several places.
    #[must_use]
    pub const fn shared_tid(&self) -> Tid {
        self.shared_tid
    }

    /// Bytes that only a bulk scan can give back, about; starts again from zero.
    pub const fn take_leaked(&mut self) -> u64 {
        core::mem::replace(&mut self.leaked_bytes, 0)
    }

    /// Bytes that only a bulk scan can give back, about.
    #[must_use]
    pub const fn leaked_bytes(&self) -> u64 {
        self.leaked_bytes
    }

    /// Counts bytes that only a bulk scan can give back.
    pub const fn leak(&mut self, bytes: u64) {
        self.leaked_bytes = self.leaked_bytes.saturating_add(bytes);
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub const fn waiting_bytes(&self) -> usize {
        self.pieces_bytes
    }

    /// What waits to be written; it has to be written before the next header.
    pub fn take_pieces(&mut self) -> Vec<Piece> {
        self.pieces_bytes = 0;
        core::mem::take(&mut self.pieces)
    }

    /// Blocks that were given a place since the last time.
    pub fn take_placed(&mut self) -> Vec<Placed> {
        core::mem::take(&mut self.placed)
    }

    /// A reference is gone. If nothing else can refer to its block, the block is given back.
    pub fn retire(&mut self, raw: &RawBlockref) {
        let Ok(Some(blockref)) = Blockref::parse(raw) else {
            return;
        };
        let Some(location) = blockref.location() else {
            return;
        };
        if blockref.mirror_tid() > self.shared_tid {
            self.freemap.retire(location);
        } else {
            self.leaked_bytes += location.len() as u64;
        }
    }

    /// Places a file block; `None` is a hole.
    ///
    /// # Errors
    /// There is no room, against all reservations.
    pub fn data(
        &mut self,
        key: u64,
        prepared: Prepared,
        contents: &Block,
        stamp: Stamp,
    ) -> Result<Option<RawBlockref>, Error> {
        let Prepared::Block { bytes, compression, method, check } = prepared else {
            return Ok(None);
        };
        let mut raw = fresh(3, key, 16, stamp);
        raw.methods = method.code() << 4
            | match compression {
                Compression::None => 0,
                Compression::Lz4 => 2,
                Compression::Zlib => 3,
            };
        store(check, &mut raw.check);
        let bytes = match bytes {
            Stored::Made(bytes) => Bytes::Owned(bytes),
            Stored::Whole(contents) => Bytes::Shared(contents),
        };
        self.locate(&mut raw, Class::Data, &bytes)?;
        self.remember(&raw, Block::clone(contents));
        self.push(&raw, bytes);
        Ok(Some(raw))
    }

    /// Places a directory entry; a name of more than 64 bytes needs a block (media format 6.2).
    ///
    /// # Errors
    /// There is no room, against all reservations.
    pub fn dirent(
        &mut self,
        key: u64,
        name: &[u8],
        target: Inum,
        kind: ObjectKind,
        methods: u8,
        stamp: Stamp,
    ) -> Result<RawBlockref, Error> {
        let mut raw = fresh(4, key, 0, stamp);
        raw.methods = methods;
        raw.embed[..8].copy_from_slice(&target.0.to_le_bytes());
        // at most 255
        let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
        raw.embed[8..10].copy_from_slice(&len.to_le_bytes());
        raw.embed[10] = kind.code();
        if name.len() <= EMBEDDED_MAX {
            raw.check[..name.len()].copy_from_slice(name);
        } else {
            let mut block = name.to_vec();
            block.resize(1024, 0);
            self.metadata(&mut raw, Class::Dirent, block)?;
        }
        Ok(raw)
    }

    /// Places an inode. `old` is the blockref that this one takes the place of: what nobody
    /// understands in it stays.
    ///
    /// # Errors
    /// There is no room, against all reservations.
    pub fn inode(
        &mut self,
        old: Option<&RawBlockref>,
        key: u64,
        image: Vec<u8>,
        methods: u8,
        entries: &[RawBlockref],
        stamp: Stamp,
    ) -> Result<RawBlockref, Error> {
        let mut raw = match old {
            Some(old) => restamped(old, stamp),
            None => fresh(1, key, 0, stamp),
        };
        if old.is_none() {
            raw.methods = methods;
        }
        // what the header says of the super-root stays as it is
        if key != 0 {
            set_root_flag(&mut raw, &image);
        }
        let summary = summarize(entries);
        raw.embed = summary.embed();
        raw.leaf_count.set(summary.leaf_count);
        self.metadata(&mut raw, Class::Inode, image)?;
        Ok(raw)
    }

    /// Places the tables among `entries`, from the bottom up: the slots of the table above.
    ///
    /// # Errors
    /// There is no room, against all reservations.
    pub fn entries(
        &mut self,
        entries: Vec<Entry>,
        methods: u8,
        stamp: Stamp,
    ) -> Result<Vec<RawBlockref>, Error> {
        let mut slots = Vec::with_capacity(entries.len());
        for entry in entries {
            slots.push(match entry {
                Entry::Kept(raw) | Entry::Put(raw) => raw,
                Entry::Node(node) => self.node(node, methods, stamp)?,
            });
        }
        Ok(slots)
    }

    fn node(&mut self, node: NewNode, methods: u8, stamp: Stamp) -> Result<RawBlockref, Error> {
        // tables are at most 64 deep
        let slots = self.entries(node.entries, methods, stamp)?;
        let mut raw = match &node.old {
            Some(old) => restamped(old, stamp),
            None => fresh(2, node.key, node.key_bits, stamp),
        };
        if node.old.is_none() {
            // the check method of what it hangs in, and no compression (media format 3)
            raw.methods = methods & 0xf0;
        }
        let summary = summarize(&slots);
        raw.embed = summary.embed();
        raw.leaf_count.set(summary.leaf_count);
        self.metadata(&mut raw, Class::Indirect, render(&slots, node.radix))?;
        Ok(raw)
    }

    /// Gives `raw` a place and a check code for `bytes`, which are structure: "no check" becomes
    /// XXH64 (media format 2.2).
    fn metadata(
        &mut self,
        raw: &mut RawBlockref,
        class: Class,
        bytes: Vec<u8>,
    ) -> Result<(), Error> {
        let method = match CheckMethod::from_code(raw.methods >> 4) {
            None | Some(CheckMethod::None | CheckMethod::Freemap) => CheckMethod::Xxhash64,
            Some(method) => method,
        };
        raw.methods = method.code() << 4 | raw.methods & 15;
        store(self.checks.compute(&bytes, method), &mut raw.check);
        let block = Block::new(Verified::ours(bytes));
        let bytes = Bytes::Shared(Block::clone(&block));
        self.locate(raw, class, &bytes)?;
        self.remember(raw, block);
        self.push(raw, bytes);
        Ok(())
    }

    fn locate(&mut self, raw: &mut RawBlockref, class: Class, bytes: &[u8]) -> Result<(), Error> {
        let bits = u8::try_from(bytes.len().trailing_zeros()).unwrap_or(0);
        let radix = Radix::new(bits).filter(|radix| radix.len() == bytes.len());
        // what is stored is always a power of two
        let radix = radix.ok_or(Error::InvalidArgument)?;
        let near = if class == Class::Data { self.data_near } else { None };
        let offset = self.freemap.allocate(class, radix, near).ok_or(Error::NoSpace)?;
        if class == Class::Data {
            self.data_near = Some(MediaOffset(offset.0 + bytes.len() as u64));
        }
        raw.data_off.set(offset.0 | u64::from(radix.bits()));
        Ok(())
    }

    fn remember(&mut self, raw: &RawBlockref, block: Block) {
        if let Ok(Some(blockref)) = Blockref::parse(raw)
            && let Some(want) = Want::of(&blockref)
        {
            self.placed.push(Placed { want, block });
        }
    }

    /// Small pieces that lie one behind the other are written as one.
    fn push(&mut self, raw: &RawBlockref, bytes: Bytes) {
        let offset = MediaOffset(raw.data_off.get() & !0x3f);
        self.pieces_bytes += bytes.len();
        if bytes.len() < LARGE
            && let Some(Piece { offset: start, bytes: Bytes::Owned(before) }) =
                self.pieces.last_mut()
            && start.0 + before.len() as u64 == offset.0
            && before.len() + bytes.len() <= PIECE_MAX
        {
            before.extend_from_slice(&bytes);
            return;
        }
        let bytes = match bytes {
            Bytes::Shared(block) if block.len() < LARGE => Bytes::Owned(block.to_vec()),
            other => other,
        };
        self.pieces.push(Piece { offset, bytes });
    }
}

/// Blocks of this size are written as they are.
const LARGE: usize = 32 << 10;

/// A blockref to the root inode of a PFS.
const FLAG_PFS_ROOT: u8 = 0x01;

/// Inode and blockref agree on whether it is the root of a PFS.
fn set_root_flag(raw: &mut RawBlockref, image: &[u8]) {
    let is_root = Inode::parse(image).is_ok_and(|inode| inode.is_pfs_root());
    raw.flags = raw.flags & !FLAG_PFS_ROOT | if is_root { FLAG_PFS_ROOT } else { 0 };
}

/// A blockref of something new.
fn fresh(kind: u8, key: u64, key_bits: u8, stamp: Stamp) -> RawBlockref {
    let mut raw = RawBlockref::new_zeroed();
    raw.kind = kind;
    raw.key.set(key);
    raw.key_bits = key_bits;
    raw.mirror_tid.set(stamp.mirror.0);
    raw.modify_tid.set(stamp.modify.0);
    raw
}

/// A blockref of something that changed.
fn restamped(old: &RawBlockref, stamp: Stamp) -> RawBlockref {
    let mut raw = *old;
    raw.mirror_tid.set(stamp.mirror.0);
    raw.modify_tid.set(stamp.modify.0.max(old.modify_tid.get()));
    raw
}
