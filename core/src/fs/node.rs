//! From an inode number to its inode, and from there to its table.

use alloc::sync::Arc;
use core::cell::OnceCell;

use zerocopy::IntoBytes;

use super::pfs::Pfs;
use crate::dirty::{DirtyInode, Head, Standing, Tree};
use crate::engine::{Block, Stop, View, Want};
use crate::error::{BlockKind, Damage, DamageKind, Error, InodeFault, Place};
use crate::media::blockref::Blockref;
use crate::media::dirhash::NAME_BIT;
use crate::media::inode::{Inode, ObjectKind};
use crate::media::raw::RawInode;
use crate::tree::{Holder, Table, first};
use crate::units::Inum;

/// An inode as it is now: as the media has it, or as it was changed.
#[derive(Clone, Debug)]
pub struct Node {
    bytes: Bytes,
    /// Where the media has it, as far as that was looked up.
    blockref: Option<Blockref>,
    inum: Inum,
    kind: ObjectKind,
    standing: Standing,
    /// What the last commit left of it, once somebody asked.
    base: OnceCell<Option<Base>>,
}

#[derive(Clone)]
enum Bytes {
    Media(Block),
    Changed(Arc<RawInode>),
}

impl core::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Media(_) => "Media",
            Self::Changed(_) => "Changed",
        })
    }
}

/// An inode as the last commit left it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// Its block, or what became of it where it has no name.
    pub block: Block,
    /// What refers to it; an orphan is referred to by nobody.
    pub blockref: Option<Blockref>,
    place: Place,
}

impl Node {
    /// The inode that `blockref` refers to, as it is on media.
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
        let inode = parse(&block, blockref.place())?;
        let (kind, inum) = (inode.kind(), inode.inum());
        let base = Base {
            block: Block::clone(&block),
            blockref: Some(*blockref),
            place: blockref.place(),
        };
        Ok(Self {
            bytes: Bytes::Media(block),
            blockref: Some(*blockref),
            inum,
            kind,
            standing: Standing::Named,
            base: OnceCell::from(Some(base)),
        })
    }

    /// Inode `inum` of `pfs`.
    ///
    /// # Errors
    /// [`Stop::Need`]; [`Error::NoInode`]; or why its inode cannot be had.
    pub fn find(view: &mut View<'_>, pfs: &Pfs, inum: Inum) -> Result<Self, Stop> {
        if let Some(head) = tree_of(view, pfs).and_then(|tree| tree.head(inum)) {
            return Self::changed(head, inum);
        }
        let base = Base::find(view, pfs, inum)?.ok_or(Error::NoInode(inum))?;
        let kind = parse(&base.block, base.place)?.kind();
        let standing = match base.blockref {
            Some(_) => Standing::Named,
            None => Standing::Unlinked,
        };
        let (bytes, blockref) = (Bytes::Media(Block::clone(&base.block)), base.blockref);
        Ok(Self { bytes, blockref, inum, kind, standing, base: OnceCell::from(Some(base)) })
    }

    fn changed(head: &Head, inum: Inum) -> Result<Self, Stop> {
        let standing = match head {
            Head::Present(_) => Standing::Named,
            Head::Unlinked(_) => Standing::Unlinked,
            Head::Removed => return Err(Error::NoInode(inum).into()),
        };
        let inode = head.inode().ok_or(Error::NoInode(inum))?;
        let place = Place { kind: BlockKind::Inode, offset: None, key: inum.0 };
        let kind = parse(inode.as_bytes(), place)?.kind();
        let bytes = Bytes::Changed(Arc::clone(inode));
        Ok(Self { bytes, blockref: None, inum, kind, standing, base: OnceCell::new() })
    }

    /// Directory `inum` of `pfs`.
    ///
    /// # Errors
    /// As [`Node::find`], and [`Error::NotDirectory`].
    pub fn find_directory(view: &mut View<'_>, pfs: &Pfs, inum: Inum) -> Result<Self, Stop> {
        let node = Self::find(view, pfs, inum)?;
        if node.kind == ObjectKind::Directory { Ok(node) } else { Err(Error::NotDirectory.into()) }
    }

    /// The directory that it was made in or moved to last; the root is its own.
    #[must_use]
    pub fn parent(&self) -> Inum {
        let inode = self.inode();
        if inode.is_pfs_root() { self.inum() } else { inode.parent() }
    }

    /// The inode itself.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "new() parsed these very bytes")]
    pub fn inode(&self) -> Inode<'_> {
        let bytes = match &self.bytes {
            Bytes::Media(block) => &block[..],
            Bytes::Changed(inode) => inode.as_bytes(),
        };
        Inode::parse(bytes).expect("parsed when the node was made")
    }

    /// Its 1024 bytes, to be changed. The root of a PFS may say another number than its own on
    /// media: it is put right by whoever changes it.
    #[must_use]
    pub fn raw(&self) -> RawInode {
        let mut raw = self.inode().raw().clone();
        raw.inum.set(self.inum.0);
        raw
    }

    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// Its number.
    #[must_use]
    pub const fn inum(&self) -> Inum {
        self.inum
    }

    /// How it stands in its tree.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// The blockref that it was found by, if it was found on media.
    #[must_use]
    pub const fn blockref(&self) -> Option<&Blockref> {
        self.blockref.as_ref()
    }

    /// Bytes allocated for its contents and tables: by its blockref, and what was changed since.
    ///
    /// # Errors
    /// [`Stop::Need`], or why what the last commit left of it cannot be had.
    pub fn allocated_bytes(&self, view: &mut View<'_>, pfs: &Pfs) -> Result<u64, Stop> {
        let mut changed = 0;
        if let Some(tree) = tree_of(view, pfs) {
            changed = tree.layers(self.inum).map(DirtyInode::content_bytes).sum();
            let counts = tree.layers(self.inum).all(|layer| layer.cut != Some(0));
            if !counts || !tree.has_base(self.inum) {
                return Ok(changed);
            }
        }
        let base = self.base(view, pfs)?;
        Ok(changed + data_count(base.and_then(|base| base.blockref.as_ref())))
    }

    /// What the last commit left of it. Operations that change names ask for it several times.
    fn base(&self, view: &mut View<'_>, pfs: &Pfs) -> Result<Option<&Base>, Stop> {
        if let Some(base) = self.base.get() {
            return Ok(base.as_ref());
        }
        let base = Base::find(view, pfs, self.inum)?;
        Ok(self.base.get_or_init(|| base).as_ref())
    }

    /// A block that holds its direct data, at their place within an inode.
    #[must_use]
    pub fn block(&self) -> Block {
        match &self.bytes {
            Bytes::Media(block) => Block::clone(block),
            Bytes::Changed(inode) => {
                Block::new(crate::media::check::Verified::ours(inode.as_bytes().to_vec()))
            }
        }
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn place(&self) -> Place {
        self.blockref
            .map_or(Place { kind: BlockKind::Inode, offset: None, key: self.inum.0 }, |blockref| {
                blockref.place()
            })
    }

    /// The table of its names or blocks, as the last commit left it; `None` if there was none, or
    /// what was in it does not count any more.
    ///
    /// # Errors
    /// [`Stop::Need`], or what keeps it from having one.
    pub fn table(&self, view: &mut View<'_>, pfs: &Pfs) -> Result<Option<Table>, Stop> {
        let tree = tree_of(view, pfs);
        if let Some(tree) = tree
            && !tree.has_base(self.inum)
        {
            return Ok(None);
        }
        match self.base(view, pfs)? {
            Some(base) => Ok(base.table(self.holder())?),
            None => Ok(None),
        }
    }

    /// What its table is a table of.
    #[must_use]
    pub fn holder(&self) -> Holder {
        match self.kind {
            ObjectKind::Directory if self.inum == Inum::ROOT => Holder::PfsRoot,
            ObjectKind::Directory => Holder::Directory,
            _ => Holder::File,
        }
    }
}

impl Base {
    /// What the last commit left of inode `inum` of `pfs`.
    ///
    /// # Errors
    /// [`Stop::Need`], or why its inode cannot be had.
    pub fn find(view: &mut View<'_>, pfs: &Pfs, inum: Inum) -> Result<Option<Self>, Stop> {
        let root = root_of(view, pfs);
        if inum == Inum::ROOT {
            return Self::load(view, &root).map(Some);
        }
        if inum.0 & NAME_BIT != 0 {
            return Ok(None);
        }
        if let Some(orphan) = tree_of(view, pfs).and_then(|tree| tree.orphan(inum)) {
            let place = Place { kind: BlockKind::Inode, offset: None, key: inum.0 };
            let block = Block::clone(&orphan.image);
            return Ok(Some(Self { block, blockref: None, place }));
        }
        let table = Self::load(view, &root)?.table(Holder::PfsRoot)?;
        let Some(table) = table else {
            return Err(Damage::new(root.place(), DamageKind::NotAllowed).into());
        };
        let Some(blockref) = first(view, &table, inum.0, inum.0)? else {
            return Ok(None);
        };
        if blockref.kind() != BlockKind::Inode {
            return Err(Damage::new(blockref.place(), DamageKind::NotAllowed).into());
        }
        let base = Self::load(view, &blockref)?;
        match parse(&base.block, base.place)?.inum() {
            number if number == inum => Ok(Some(base)),
            other => {
                let fault = DamageKind::Inode(InodeFault::Number(other));
                Err(Damage::new(blockref.place(), fault).into())
            }
        }
    }

    fn load(view: &mut View<'_>, blockref: &Blockref) -> Result<Self, Stop> {
        let want = Want::of(blockref).ok_or_else(|| not_an_inode(blockref))?;
        let block = view.block(&want)?;
        parse(&block, blockref.place())?;
        Ok(Self { block, blockref: Some(*blockref), place: blockref.place() })
    }

    /// The table in it; direct data leaves no room for one.
    ///
    /// # Errors
    /// A directory without a table cannot be.
    pub fn table(&self, holder: Holder) -> Result<Option<Table>, Damage> {
        let inode = parse(&self.block, self.place)?;
        if inode.has_direct_data() {
            return match holder {
                Holder::File => Ok(None),
                _ => Err(Damage::new(self.place, DamageKind::NotAllowed)),
            };
        }
        Ok(Some(Table::of_inode(Block::clone(&self.block), self.place, holder)))
    }
}

/// The tree of `pfs`, if it is open for writing.
#[must_use]
pub fn tree_of<'a>(view: &View<'a>, pfs: &Pfs) -> Option<&'a Tree> {
    view.memory()?.tree(pfs.id())
}

/// The root of `pfs` as the last commit left it.
#[must_use]
pub fn root_of(view: &View<'_>, pfs: &Pfs) -> Blockref {
    if let Some(tree) = tree_of(view, pfs) {
        return *tree.root();
    }
    // as it was when it was opened, which may be long ago
    view.doubt();
    *pfs.root()
}

fn parse(bytes: &[u8], place: Place) -> Result<Inode<'_>, Damage> {
    Inode::parse(bytes).map_err(|fault| Damage::new(place, DamageKind::Inode(fault)))
}

fn data_count(blockref: Option<&Blockref>) -> u64 {
    blockref.and_then(Blockref::statistics).unwrap_or_default().data_count
}

fn not_an_inode(blockref: &Blockref) -> Damage {
    Damage::new(blockref.place(), DamageKind::NotAllowed)
}
