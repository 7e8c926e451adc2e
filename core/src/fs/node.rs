//! From an inode number to its inode, and from there to its table.

use super::pfs::Pfs;
use crate::engine::{Block, Stop, View, Want};
use crate::error::{BlockKind, Damage, DamageKind, Error, InodeFault, Place};
use crate::media::blockref::Blockref;
use crate::media::dirhash::NAME_BIT;
use crate::media::inode::{Inode, ObjectKind};
use crate::tree::{Holder, Table, first};
use crate::units::Inum;

/// An inode in memory, with the blockref that it was found by.
#[derive(Clone, Debug)]
pub struct Node {
    block: Block,
    blockref: Blockref,
    kind: ObjectKind,
}

impl Node {
    /// The inode that `blockref` refers to.
    ///
    /// # Errors
    /// [`Stop::Need`], or why there is no legal inode there.
    pub fn load(view: &mut View<'_>, blockref: &Blockref) -> Result<Self, Stop> {
        let want = Want::of(blockref).ok_or_else(|| not_an_inode(blockref))?;
        let block = view.block(&want)?;
        Ok(Self::new(block, blockref)?)
    }

    /// The inode in `block`, which `blockref` refers to.
    ///
    /// # Errors
    /// It is no legal inode.
    pub fn new(block: Block, blockref: &Blockref) -> Result<Self, Damage> {
        let damage = |fault| Damage::new(blockref.place(), DamageKind::Inode(fault));
        let inode = Inode::parse(&block).map_err(damage)?;
        let kind = inode.kind();
        Ok(Self { block, blockref: *blockref, kind })
    }

    /// Inode `inum` of `pfs`.
    ///
    /// # Errors
    /// [`Stop::Need`]; [`Error::NoInode`]; or why its inode cannot be had.
    pub fn find(view: &mut View<'_>, pfs: &Pfs, inum: Inum) -> Result<Self, Stop> {
        if inum == Inum::ROOT {
            return Self::load(view, pfs.root());
        }
        if inum.0 & NAME_BIT != 0 {
            return Err(Error::NoInode(inum).into());
        }
        let root = Self::load(view, pfs.root())?;
        let found = first(view, &root.table(pfs)?, inum.0, inum.0)?;
        let blockref = found.ok_or(Error::NoInode(inum))?;
        if blockref.kind() != BlockKind::Inode {
            return Err(Damage::new(blockref.place(), DamageKind::NotAllowed).into());
        }
        let node = Self::load(view, &blockref)?;
        match node.inode().inum() {
            number if number == inum => Ok(node),
            other => {
                let fault = DamageKind::Inode(InodeFault::Number(other));
                Err(Damage::new(blockref.place(), fault).into())
            }
        }
    }

    /// Directory `inum` of `pfs`.
    ///
    /// # Errors
    /// As [`Node::find`], and [`Error::NotDirectory`].
    pub fn find_directory(view: &mut View<'_>, pfs: &Pfs, inum: Inum) -> Result<Self, Stop> {
        let node = Self::find(view, pfs, inum)?;
        if node.kind == ObjectKind::Directory { Ok(node) } else { Err(Error::NotDirectory.into()) }
    }

    /// The inode itself.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "new() parsed these very bytes")]
    pub fn inode(&self) -> Inode<'_> {
        Inode::parse(&self.block).expect("parsed when the node was made")
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// The blockref that it was found by.
    #[must_use]
    pub const fn blockref(&self) -> &Blockref {
        &self.blockref
    }

    /// Its block, for what is read out of the inode itself.
    #[must_use]
    pub const fn block(&self) -> &Block {
        &self.block
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn place(&self) -> Place {
        self.blockref.place()
    }

    /// The table of an inode that keeps its contents outside itself.
    ///
    /// # Errors
    /// An inode with direct data has none: a directory cannot be one.
    pub fn table(&self, pfs: &Pfs) -> Result<Table, Damage> {
        let holder = match self.kind {
            ObjectKind::Directory if self.blockref == *pfs.root() => Holder::PfsRoot,
            ObjectKind::Directory => Holder::Directory,
            _ => Holder::File,
        };
        if self.inode().has_direct_data() {
            return Err(Damage::new(self.place(), DamageKind::NotAllowed));
        }
        Ok(Table::of_inode(Block::clone(&self.block), self.place(), holder))
    }
}

fn not_an_inode(blockref: &Blockref) -> Damage {
    Damage::new(blockref.place(), DamageKind::NotAllowed)
}
