//! Blocks in memory and their names.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::{BlockKind, Damage, DamageKind, Place};
use crate::media::addresses::{Addresses, is_plain};
use crate::media::blockref::{Blockref, Location};
use crate::media::check::{CheckCode, Checks, Verified};
use crate::media::compress::{self, Compression};
use crate::units::{MediaOffset, Tid};

/// A block's believed and expanded bytes, shared by everybody who holds it.
pub type Block = Arc<Verified>;

/// The identity of a block's *contents*: a reused address is another block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockId {
    location: Location,
    check: CheckCode,
    compression: Compression,
    /// Tells generations of unchecked blocks apart; 0 where the check code does.
    generation: u64,
}

/// A block that somebody wants to have in memory, and how to make sure that it is the right one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    id: BlockId,
    place: Place,
    tid: Tid,
    /// What its blockref says of copies; noise on a volume without.
    addresses: Option<Addresses>,
    /// The one copy that it is wanted from.
    only: Option<u8>,
    /// Where it lies there, if that is not the address that its blockref names first.
    only_at: Option<MediaOffset>,
    /// Number of the commit at which it was certainly in use.
    known: Option<u64>,
    /// It is read only to see whether it stayed where it was just written.
    is_trial: bool,
}

impl BlockId {
    /// Its address.
    #[must_use]
    pub const fn offset(&self) -> MediaOffset {
        self.location.offset
    }
}

impl Want {
    /// The block that `blockref` refers to, if it has one.
    #[must_use]
    pub fn of(blockref: &Blockref) -> Option<Self> {
        let location = blockref.location()?;
        let check = blockref.check_code();
        let generation = if check == CheckCode::Unchecked { blockref.mirror_tid().0 } else { 0 };
        let id = BlockId { location, check, compression: blockref.compression(), generation };
        let raw = blockref.raw();
        let addresses = if is_plain(raw) {
            Some(Addresses::plain(location.offset))
        } else {
            Addresses::of(raw).ok()
        };
        Some(Self {
            id,
            place: blockref.place(),
            tid: blockref.mirror_tid(),
            addresses,
            only: None,
            only_at: None,
            known: None,
            is_trial: false,
        })
    }

    /// The same, from `copy` only, where it lies at the address that the blockref names first: so
    /// it is with what every copy has of its own.
    #[must_use]
    pub const fn only_on(self, copy: u8) -> Self {
        Self { only: Some(copy), ..self }
    }

    /// The same; if its blockref names no copies, it is on the copy `plain`.
    #[must_use]
    pub fn settled(self, plain: u8) -> Self {
        Self { addresses: self.addresses.map(|addresses| addresses.settled(plain)), ..self }
    }

    /// The same, from `copy` only, at its address there; `None` if it is not on that copy.
    #[must_use]
    pub fn on(self, copy: u8) -> Option<Self> {
        let at = self.addresses?.get(copy)?;
        Some(Self { only: Some(copy), only_at: Some(at), ..self })
    }

    /// The one copy that it is wanted from, unless it does not matter which.
    #[must_use]
    pub const fn only(&self) -> Option<u8> {
        self.only
    }

    /// Where it lies on the [one copy](Self::only) that it is wanted from.
    #[must_use]
    pub fn only_at(&self) -> MediaOffset {
        self.only_at.unwrap_or(self.id.location.offset)
    }

    /// The same, of which is known that something referred to it when there had been `commits`.
    #[must_use]
    pub const fn known_at(self, commits: u64) -> Self {
        Self { known: Some(commits), ..self }
    }

    /// How many commits there had been when something certainly referred to it: from then on, its
    /// place is not used for something else for [some commits](crate::drive::heal). `None` if who
    /// wants it cannot tell.
    #[must_use]
    pub const fn known(&self) -> Option<u64> {
        self.known
    }

    /// The same, only to see whether it stayed where it was just written: that it was bad there was
    /// counted before.
    #[must_use]
    pub const fn trial(self) -> Self {
        Self { is_trial: true, ..self }
    }

    /// Whether it is wanted for that.
    #[must_use]
    pub const fn is_trial(&self) -> bool {
        self.is_trial
    }

    /// The transaction that wrote it.
    #[must_use]
    pub const fn tid(&self) -> Tid {
        self.tid
    }

    /// Where it lies on each copy, on a volume that has copies; `None` if what its blockref says of
    /// that cannot be.
    #[must_use]
    pub const fn addresses(&self) -> Option<Addresses> {
        self.addresses
    }

    /// Its identity.
    #[must_use]
    pub const fn id(&self) -> &BlockId {
        &self.id
    }

    /// Where it lies.
    #[must_use]
    pub const fn location(&self) -> Location {
        self.id.location
    }

    /// What refers to it, for messages.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Whether it holds file contents rather than structure.
    #[must_use]
    pub fn is_data(&self) -> bool {
        self.place.kind == BlockKind::Data
    }

    /// What a device gave, if it is what was wanted.
    ///
    /// # Errors
    /// The bytes are not the block that was wanted.
    pub fn check(&self, mut stored: Vec<u8>, checks: &Checks) -> Result<Vec<u8>, Damage> {
        let damage = |mismatch| Damage::new(self.place, DamageKind::Check(mismatch));
        let mut verified =
            checks.verify(core::mem::take(&mut stored), self.id.check).map_err(damage)?;
        Ok(core::mem::take(verified.ours_mut()))
    }

    /// Makes a block of what a device gave: checks it and expands it.
    ///
    /// # Errors
    /// The bytes are not the block that was wanted.
    pub fn admit(&self, stored: Vec<u8>, checks: &Checks) -> Result<Block, Damage> {
        let damage = |kind| Damage::new(self.place, kind);
        let verified = checks
            .verify(stored, self.id.check)
            .map_err(|mismatch| damage(DamageKind::Check(mismatch)))?;
        compress::expand(verified, self.id.compression)
            .map(Arc::new)
            .map_err(|fault| damage(DamageKind::Expand(fault)))
    }
}
