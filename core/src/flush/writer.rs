//! Places and blockrefs for what a commit writes.

use alloc::vec::Vec;

use zerocopy::FromZeros;

use super::prepare::{Prepared, Stored};
use crate::copies::CopySet;
use crate::copies::mutations::Rule;
use crate::dirty::Budget;
use crate::engine::{Block, Want};
use crate::error::Error;
use crate::freemap::{Class, Freemap};
use crate::media::addresses::{Addresses, is_plain};
use crate::media::blockref::{Blockref, Location};
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

impl Bytes {
    /// The same, so that many can have them.
    fn shared(self) -> Self {
        match self {
            Self::Owned(bytes) => Self::Shared(Block::new(Verified::ours(bytes))),
            shared @ Self::Shared(_) => shared,
        }
    }
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
    /// To which copy; 0 on a volume without copies.
    pub copy: u8,
    /// Where, in the address space of the volume or the copy.
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

/// The space of one copy, and what waits to be written there.
#[derive(Debug)]
struct Shelf {
    copy: u8,
    freemap: Freemap,
    pieces: Vec<Piece>,
    data_near: Option<MediaOffset>,
}

/// Gives blocks their places. Lives as long as the volume is open for writing.
///
/// A volume without copies has one shelf. With copies there is one for each copy that is written
/// to, and a block gets a place on every one that may have it (copies 3.3, W1 and W2).
#[derive(Debug)]
pub struct Writer {
    /// Never empty; ascending by copy.
    shelves: Vec<Shelf>,
    /// Which copies there are, and what of theirs counts; `None` on a volume without copies.
    set: Option<CopySet>,
    /// Blockrefs are to be plain, as far as everything below them is.
    is_stripping: bool,
    checks: Checks,
    /// Blocks of transactions up to this one may be referred to from several places.
    shared_tid: Tid,
    pieces_bytes: usize,
    placed: Vec<Placed>,
    /// Bytes that are no longer referred to and that only a bulk scan can give back.
    leaked_bytes: u64,
    /// Copies that had no room for what they were to be filled with.
    full: u8,
}

/// Small pieces that follow each other are put together up to this length.
const PIECE_MAX: usize = 256 << 10;

impl Writer {
    /// A writer over `freemap`. Nothing that was written up to `shared_tid` is given back directly.
    #[must_use]
    pub fn new(freemap: Freemap, shared_tid: Tid, checks: Checks) -> Self {
        Self {
            shelves: alloc::vec![Shelf::new(0, freemap)],
            set: None,
            is_stripping: false,
            checks,
            shared_tid,
            pieces_bytes: 0,
            placed: Vec::new(),
            leaked_bytes: 0,
            full: 0,
        }
    }

    /// As [`Writer::new`], for a volume of copies: the allocator of each that is written to.
    #[must_use]
    pub fn of_copies(
        freemaps: Vec<(u8, Freemap)>,
        set: CopySet,
        shared_tid: Tid,
        checks: Checks,
    ) -> Self {
        let shelves = freemaps.into_iter().map(|(copy, freemap)| Shelf::new(copy, freemap));
        Self {
            shelves: shelves.collect(),
            set: Some(set),
            is_stripping: false,
            checks,
            shared_tid,
            pieces_bytes: 0,
            placed: Vec::new(),
            leaked_bytes: 0,
            full: 0,
        }
    }

    /// The allocator, of the first copy if there are several.
    ///
    /// # Panics
    /// There is none: a volume whose last copy is gone has no writer any more.
    #[must_use]
    pub fn freemap(&self) -> &Freemap {
        &self.shelves.first().expect("a writer has an allocator").freemap
    }

    /// The allocator, of the first copy if there are several, to be changed.
    ///
    /// # Panics
    /// As [`Writer::freemap`].
    pub fn freemap_mut(&mut self) -> &mut Freemap {
        &mut self.shelves.first_mut().expect("a writer has an allocator").freemap
    }

    /// The allocators of all copies that are written to, by copy.
    pub fn freemaps_mut(&mut self) -> impl Iterator<Item = (u8, &mut Freemap)> {
        self.shelves.iter_mut().map(|shelf| (shelf.copy, &mut shelf.freemap))
    }

    /// The copies, and what of theirs counts.
    #[must_use]
    pub const fn copies(&self) -> Option<&CopySet> {
        self.set.as_ref()
    }

    /// The copies are like this from now on. Those that are not written to any more lose their
    /// allocator, and what waits for them.
    pub fn set_copies(&mut self, set: CopySet) {
        let attached = set.attached();
        if self.shelves.iter().any(|shelf| attached & 1 << shelf.copy != 0) {
            self.shelves.retain(|shelf| attached & 1 << shelf.copy != 0);
        }
        self.set = Some(set);
    }

    /// From now on new blockrefs name no copies, where nothing below them does
    /// ([`drive::convert`](crate::drive::convert)). There has to be one copy only, the one that
    /// plain blockrefs are on.
    pub const fn set_stripping(&mut self, is_stripping: bool) {
        self.is_stripping = is_stripping;
    }

    /// `raw` as it is on a volume without copies; `None` if it has no block, or none on the copy that
    /// plain blockrefs are on.
    #[must_use]
    pub fn plain(&self, raw: &RawBlockref) -> Option<RawBlockref> {
        let plain = self.set.as_ref()?.plain();
        if !has_block(raw) {
            return None;
        }
        let offset = Addresses::of(raw).ok()?.settled(plain).get(plain)?;
        let mut raw = *raw;
        Addresses::plain(offset).put(&mut raw);
        Some(raw)
    }

    /// `raw`, which was taken from another place of the tree, as it has to be in new tables.
    #[must_use]
    pub fn plain_if_stripping(&self, raw: &RawBlockref) -> RawBlockref {
        if self.is_stripping { self.plain(raw).unwrap_or(*raw) } else { *raw }
    }

    /// From now on `copy` is written to as well.
    pub fn add_copy(&mut self, copy: u8, freemap: Freemap) {
        self.shelves.retain(|shelf| shelf.copy != copy);
        self.shelves.push(Shelf::new(copy, freemap));
        self.shelves.sort_by_key(|shelf| shelf.copy);
    }

    /// The arithmetic of check codes.
    #[must_use]
    pub const fn checks(&self) -> &Checks {
        &self.checks
    }

    /// What can be allocated now.
    #[must_use]
    pub fn budget(&self) -> Budget {
        let counts_for = |shelf: &&Shelf| {
            self.set.as_ref().is_none_or(|set| set.in_sync() & 1 << shelf.copy != 0)
        };
        // what every copy has to have room for is what the fullest one has room for
        let budgets = self.shelves.iter().filter(counts_for).map(|shelf| {
            let counts = shelf.freemap.counts();
            let total_bytes = shelf.freemap.total_bytes();
            Budget::of(total_bytes, counts.free_chunks, counts.free_groups)
        });
        budgets.reduce(Budget::least).unwrap_or_default()
    }

    /// Everything that was written up to `tid` may be shared from now on.
    pub fn share(&mut self, tid: Tid) {
        self.shared_tid = self.shared_tid.max(tid);
        for shelf in &mut self.shelves {
            shelf.freemap.forget_young();
        }
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

    /// Copies that had no room for what [`fill`](Self::fill) was to put there, since the last time.
    pub const fn take_full(&mut self) -> u8 {
        core::mem::replace(&mut self.full, 0)
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
        let mut shelves = self.shelves.iter_mut();
        let mut pieces =
            shelves.next().map_or_else(Vec::new, |shelf| core::mem::take(&mut shelf.pieces));
        for shelf in shelves {
            pieces.append(&mut shelf.pieces);
        }
        pieces
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
            let addresses = match &self.set {
                None => None,
                Some(set) => match Addresses::of(raw) {
                    Ok(addresses) => {
                        let addresses = addresses.settled(set.plain());
                        // a place that does not count may be somebody else's by now, such as one that
                        // a former copy in the slot had
                        let valid = set.valid_mask(addresses.mask(), blockref.mirror_tid());
                        Some((addresses, valid))
                    }
                    // what lies nowhere has nothing to give back
                    Err(_) => return,
                },
            };
            for shelf in &mut self.shelves {
                let offset = match &addresses {
                    None => Some(location.offset),
                    Some((_, valid)) if valid & 1 << shelf.copy == 0 => None,
                    Some((addresses, _)) => addresses.get(shelf.copy),
                };
                if let Some(offset) = offset {
                    shelf.freemap.retire(Location { offset, ..location });
                }
            }
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
        self.put(&mut raw, Class::Data, self.leaf_copies() | self.leaf_form(), bytes)?;
        self.remember(&raw, Block::clone(contents));
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
            let copies = self.leaf_copies() | self.leaf_form();
            self.metadata(&mut raw, Class::Dirent, copies, block)?;
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
        self.metadata(&mut raw, Class::Inode, self.table_copies(entries), image)?;
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
        let copies = self.table_copies(&slots);
        self.metadata(&mut raw, Class::Indirect, copies, render(&slots, node.radix))?;
        Ok(raw)
    }

    /// Gives the block of `raw`, whose bytes on media are `stored`, places on those of `copies` that
    /// lack it, or have it at a place that is `bad`; `None` if there is none that it could be given. It
    /// is of this commit from now on, and addresses that do not count are gone (copies 3.5, T4).
    ///
    /// # Errors
    /// None but for what cannot be: a block without any copy.
    pub fn fill(
        &mut self,
        raw: &RawBlockref,
        (copies, bad): (u8, u8),
        stored: &[u8],
        stamp: Stamp,
    ) -> Result<Option<RawBlockref>, Error> {
        let Some(set) = &self.set else {
            return Ok(None);
        };
        let (Ok(Some(blockref)), Ok(addresses)) = (Blockref::parse(raw), Addresses::of(raw)) else {
            return Ok(None);
        };
        let (Some(location), Some(class)) = (blockref.location(), Class::of(blockref.kind()))
        else {
            return Ok(None);
        };
        let addresses = addresses.settled(set.plain());
        let valid = valid(set, raw);
        let doubted = if Rule::Zeroing.is_off() { 0 } else { !valid };
        let Some(mut addresses) = addresses.without(doubted) else {
            return Ok(None);
        };
        let bytes = Bytes::Owned(stored.to_vec()).shared();
        let mut is_filled = false;
        for shelf in &mut self.shelves {
            if copies & (!valid | bad) & 1 << shelf.copy == 0 {
                continue;
            }
            // a copy without room for it waits until it has some
            let Some(offset) = shelf.allocate(class, location.radix) else {
                self.full |= 1 << shelf.copy;
                continue;
            };
            addresses = addresses.with(shelf.copy, offset).ok_or(Error::InvalidArgument)?;
            self.pieces_bytes += stored.len();
            shelf.push(offset, bytes.clone());
            is_filled = true;
        }
        if !is_filled {
            return Ok(None);
        }
        let mut raw = *raw;
        if !Rule::Restamp.is_off() {
            raw.mirror_tid.set(stamp.mirror.0);
        }
        self.give_check(&mut raw, stored);
        addresses.put(&mut raw);
        Ok(Some(raw))
    }

    /// What had no check code before the volume had copies gets one with its second copy: from then
    /// on one has to be told from the other.
    fn give_check(&self, raw: &mut RawBlockref, stored: &[u8]) {
        let method = CheckMethod::from_code(raw.methods >> 4);
        if matches!(method, Some(CheckMethod::None | CheckMethod::Disabled)) {
            raw.methods = CheckMethod::Xxhash64.code() << 4 | raw.methods & 15;
            store(self.checks.compute(stored, CheckMethod::Xxhash64), &mut raw.check);
        }
    }

    /// Gives `raw` places on `copies` and a check code for `bytes`, which are structure: "no check"
    /// becomes XXH64 (media format 2.2).
    fn metadata(
        &mut self,
        raw: &mut RawBlockref,
        class: Class,
        copies: u8,
        bytes: Vec<u8>,
    ) -> Result<(), Error> {
        let method = match CheckMethod::from_code(raw.methods >> 4) {
            None | Some(CheckMethod::None | CheckMethod::Freemap) => CheckMethod::Xxhash64,
            Some(CheckMethod::Disabled) if self.set.is_some() => CheckMethod::Xxhash64,
            Some(method) => method,
        };
        raw.methods = method.code() << 4 | raw.methods & 15;
        store(self.checks.compute(&bytes, method), &mut raw.check);
        let block = Block::new(Verified::ours(bytes));
        self.put(raw, class, copies, Bytes::Shared(Block::clone(&block)))?;
        self.remember(raw, block);
        Ok(())
    }

    /// The copies that a block goes to which refers to nothing: all that are written to.
    fn leaf_copies(&self) -> u8 {
        self.shelves.iter().fold(0, |copies, shelf| copies | 1 << shelf.copy)
    }

    /// The copies that a block with `slots` goes to: those that have everything below (copies 3.2).
    fn table_copies(&self, slots: &[RawBlockref]) -> u8 {
        let all = self.leaf_copies();
        let copies = match &self.set {
            None => all,
            Some(_) if Rule::FullTables.is_off() => all,
            Some(set) => slots.iter().fold(all, |copies, raw| copies & valid(set, raw)),
        };
        let all_plain = slots.iter().all(|raw| !has_block(raw) || is_plain(raw));
        if all_plain { copies | self.leaf_form() } else { copies }
    }

    /// [`PLAIN`], if what refers to nothing is to name no copies.
    const fn leaf_form(&self) -> u8 {
        if self.is_stripping { PLAIN } else { 0 }
    }

    /// Gives `raw` places on `copies`, and has `bytes` written there; with [`PLAIN`] among them, `raw`
    /// does not say so.
    fn put(
        &mut self,
        raw: &mut RawBlockref,
        class: Class,
        copies: u8,
        bytes: Bytes,
    ) -> Result<(), Error> {
        let bits = u8::try_from(bytes.len().trailing_zeros()).unwrap_or(0);
        let radix = Radix::new(bits).filter(|radix| radix.len() == bytes.len());
        // what is stored is always a power of two
        let radix = radix.ok_or(Error::InvalidArgument)?;
        let in_sync = self.set.as_ref().map_or(1, CopySet::in_sync);
        // bytes for several devices are shared between them
        let mut bytes = if self.shelves.len() > 1 { bytes.shared() } else { bytes };
        let mut places = Vec::new();
        let mut left = copies & !PLAIN;
        for shelf in &mut self.shelves {
            if copies & 1 << shelf.copy == 0 {
                continue;
            }
            left &= !(1 << shelf.copy);
            let Some(offset) = shelf.allocate(class, radix) else {
                // a copy that is not in sync yet catches up later, when it has room
                if in_sync & 1 << shelf.copy == 0 {
                    continue;
                }
                return Err(Error::NoSpace);
            };
            places.push((shelf.copy, offset));
            self.pieces_bytes += bytes.len();
            let bytes = match left {
                0 => core::mem::replace(&mut bytes, Bytes::Owned(Vec::new())),
                _ => bytes.clone(),
            };
            shelf.push(offset, bytes);
        }
        let addresses = Addresses::from_places(places).ok_or(Error::ReadOnly)?;
        let (_, lowest) = addresses.lowest();
        raw.data_off.set(lowest.0 | u64::from(radix.bits()));
        if copies & PLAIN != 0 {
            Addresses::plain(lowest).put(raw);
        } else if self.set.is_some() {
            addresses.put(raw);
        }
        Ok(())
    }

    fn remember(&mut self, raw: &RawBlockref, block: Block) {
        if let Ok(Some(blockref)) = Blockref::parse(raw)
            && let Some(want) = Want::of(&blockref)
        {
            self.placed.push(Placed { want, block });
        }
    }
}

impl Shelf {
    const fn new(copy: u8, freemap: Freemap) -> Self {
        Self { copy, freemap, pieces: Vec::new(), data_near: None }
    }

    fn allocate(&mut self, class: Class, radix: Radix) -> Option<MediaOffset> {
        let near = if class == Class::Data { self.data_near } else { None };
        let offset = self.freemap.allocate(class, radix, near)?;
        if class == Class::Data {
            self.data_near = Some(MediaOffset(offset.0 + radix.len() as u64));
        }
        Some(offset)
    }

    /// Small pieces that lie one behind the other are written as one.
    fn push(&mut self, offset: MediaOffset, bytes: Bytes) {
        if bytes.len() < LARGE
            && let Some(Piece { offset: start, bytes: Bytes::Owned(before), .. }) =
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
        self.pieces.push(Piece { copy: self.copy, offset, bytes });
    }
}

/// The copies that an entry counts on (copies 3.2): all of them, if it has no block.
#[must_use]
pub fn valid(set: &CopySet, raw: &RawBlockref) -> u8 {
    if !has_block(raw) {
        return u8::MAX;
    }
    // what says nothing sensible of copies is on none
    Addresses::of(raw).map_or(0, |addresses| {
        set.valid_mask(addresses.settled(set.plain()).mask(), Tid(raw.mirror_tid.get()))
    })
}

/// Whether an entry refers to a block.
fn has_block(raw: &RawBlockref) -> bool {
    raw.kind != 0 && raw.data_off.get() != 0
}

/// Among copies: the blockref is not to name them.
const PLAIN: u8 = 0x80;
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
