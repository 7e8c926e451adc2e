//! Finding what is in use, so that the rest can be freed (media format 8.6).
//!
//! HAMMER2 never frees a block when it is deleted: snapshots and shared blocks mean that nobody
//! knows who else refers to it. A bulk scan walks everything that is referred to and marks it; what
//! is not marked is free.
//!
//! Invariants:
//! * Marks come out only if *everything* was read. One block that cannot be believed, and nothing is
//!   freed: what hangs below it would be.
//! * A table that several trees share is read once, as far as memory for that is set aside.
//!
//! This room does not free anything; the allocator does, on the word of the marks.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::check::Step;
use crate::engine::{Block, Want};
use crate::error::{BlockKind, Damage, DamageKind, Error, Place};
use crate::freemap::Marks;
use crate::media::blockref::{Blockref, Seat, slots};
use crate::media::inode::{CONTENT_START, Inode};
use crate::units::Tid;

/// Blocks that are read side by side.
const BATCH: usize = 64;
/// Shared tables that are remembered; more of them are read again for every tree that has them.
const SEEN_MAX: usize = 1 << 20;

/// A scan for what is in use. Resumable: each step is one batch of blocks.
#[derive(Debug)]
pub struct Bulkfree {
    /// What is in use of each copy; on a volume without copies, of none in particular.
    marks: Vec<(Option<Seat>, Marks)>,
    /// Tables and inodes still to be read.
    stack: Vec<Blockref>,
    asked: Vec<Blockref>,
    /// By the lowest of its copies, its address there, and its transaction: an address that a copy
    /// lost is named by old tables, and may be that of another block by now.
    seen: BTreeSet<(u64, Tid)>,
    blocks: u64,
    failed: Option<Error>,
    number: Option<u64>,
}

impl Bulkfree {
    /// A scan of everything below `super_root`, on a volume of `total_size` bytes.
    #[must_use]
    pub fn new(super_root: Blockref, total_size: u64) -> Self {
        Self::of_copies(super_root, &[(None, total_size)])
    }

    /// As [`Bulkfree::new`], for the copies that have space to give back, and their sizes.
    #[must_use]
    pub fn of_copies(super_root: Blockref, copies: &[(Option<Seat>, u64)]) -> Self {
        let marks = copies.iter().map(|(copy, size)| (*copy, Marks::new(*size)));
        let mut scan = Self {
            marks: marks.collect(),
            stack: Vec::new(),
            asked: Vec::new(),
            seen: BTreeSet::new(),
            blocks: 0,
            failed: None,
            number: None,
        };
        scan.refer(&super_root);
        scan
    }

    /// Notes which scan of the allocator this is: the marks are good for no other.
    pub const fn set_number(&mut self, number: Option<u64>) {
        self.number = number;
    }

    /// Which scan of the allocator this is.
    #[must_use]
    pub const fn number(&self) -> Option<u64> {
        self.number
    }

    /// Adds an inode that no table refers to, by its 1024 bytes: what hangs in it is in use.
    pub fn add_orphan(&mut self, image: &[u8]) {
        let place = Place { kind: BlockKind::Inode, offset: None, key: 0 };
        if let Err(error) = self.inode(image, place) {
            self.fail(error);
        }
    }

    /// Blocks marked so far.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// What to read next.
    pub fn step(&mut self) -> Step {
        if self.failed.is_some() {
            return Step::Done;
        }
        let from = self.stack.len().saturating_sub(BATCH);
        self.asked = self.stack.split_off(from);
        let wants: Vec<Want> = self.asked.iter().filter_map(Want::of).collect();
        if wants.is_empty() { Step::Done } else { Step::Read(wants) }
    }

    /// Takes what was read, in the order in which it was asked for.
    pub fn resume(&mut self, got: Vec<Result<Block, Error>>) {
        let asked = core::mem::take(&mut self.asked);
        for (blockref, got) in asked.iter().zip(got) {
            let result = got.and_then(|block| match blockref.kind() {
                BlockKind::Inode => self.inode(&block, blockref.place()),
                _ => self.table(&block, blockref.place()),
            });
            if let Err(error) = result {
                self.fail(error);
            }
        }
    }

    /// The marks of a scan that is done.
    ///
    /// # Errors
    /// What could not be read, or is damaged: then nothing may be freed.
    pub fn finish(self) -> Result<Vec<(Option<Seat>, Marks)>, Error> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.marks),
        }
    }

    fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    fn inode(&mut self, image: &[u8], place: Place) -> Result<(), Error> {
        let fault = |fault| Damage::new(place, DamageKind::Inode(fault));
        let inode = Inode::parse(image).map_err(fault)?;
        if inode.has_direct_data() {
            return Ok(());
        }
        self.table(image.get(CONTENT_START..).unwrap_or_default(), place)
    }

    fn table(&mut self, table: &[u8], place: Place) -> Result<(), Error> {
        for raw in slots(table) {
            let fault = |fault| Damage::new(place, DamageKind::Blockref(fault));
            if let Some(blockref) = Blockref::parse(raw).map_err(fault)? {
                self.refer(&blockref);
            }
        }
        Ok(())
    }

    fn refer(&mut self, blockref: &Blockref) {
        let Some(location) = blockref.location() else {
            return;
        };
        let mut home = 0;
        for (seat, marks) in &mut self.marks {
            if let Some(location) = blockref.location_on(*seat) {
                marks.mark(location);
            }
            if seat.is_some() {
                // the same address is another block on another copy
                home = blockref.address_key().0.into();
            }
        }
        self.blocks += 1;
        if matches!(blockref.kind(), BlockKind::Inode | BlockKind::Indirect) {
            // the low bits of an address are free
            let name = (location.offset.0 | home, blockref.mirror_tid());
            let is_new = !self.seen.contains(&name);
            if is_new && self.seen.len() < SEEN_MAX {
                self.seen.insert(name);
            }
            if is_new {
                self.stack.push(*blockref);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use zerocopy::{FromZeros, IntoBytes};

    use super::*;
    use crate::media::addresses::Addresses;
    use crate::media::inode::INODE_LEN;
    use crate::media::raw::{RawBlockref, RawInode};
    use crate::units::MediaOffset;

    const BASE: u64 = 4 << 20;

    fn blockref(kind: u8, key: u64, tid: u64, radix: u64, places: [u64; 2]) -> RawBlockref {
        let mut raw = RawBlockref::new_zeroed();
        raw.kind = kind;
        raw.methods = 4 << 4;
        raw.key.set(key);
        raw.key_bits = if kind == 2 { 20 } else { 0 };
        raw.mirror_tid.set(tid);
        raw.data_off.set(radix);
        let places = (0..).zip(places.map(MediaOffset));
        Addresses::from_places(places).expect("two copies").put(&mut raw);
        raw
    }

    /// The older one lost its block on copy 0 and was not filled in yet: the address there is that of
    /// the newer one by now.
    #[test]
    fn tables_that_name_the_same_address_on_a_copy_are_told_apart() {
        let (kib, mib) = (1 << 10, 1 << 20);
        let old = blockref(2, 0, 20, 14, [BASE + 64 * kib, BASE + mib]);
        let new = blockref(2, 1 << 20, 30, 14, [BASE + 64 * kib, BASE + 2 * mib]);
        let mut inode = RawInode::new_zeroed();
        inode.version.set(1);
        inode.kind = 1;
        let mut image = inode.as_bytes().to_vec();
        image[CONTENT_START..CONTENT_START + 128].copy_from_slice(old.as_bytes());
        image[CONTENT_START + 128..CONTENT_START + 256].copy_from_slice(new.as_bytes());
        assert_eq!(image.len(), INODE_LEN);
        let root = blockref(1, 0, 30, 10, [BASE, BASE]);
        let root = Blockref::parse(&root).expect("a blockref").expect("one with a block");
        let mut scan = Bulkfree::of_copies(root, &[(Some(Seat { copy: 1, plain: 0 }), 64 * mib)]);
        assert!(matches!(scan.step(), Step::Read(wants) if wants.len() == 1));
        let block = |bytes| Ok(Block::new(crate::media::check::Verified::ours(bytes)));
        scan.resume(vec![block(image)]);
        assert!(matches!(scan.step(), Step::Read(wants) if wants.len() == 2), "both are read");
    }
}
