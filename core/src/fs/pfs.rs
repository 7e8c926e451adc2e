//! PFSs: the mountable trees of a volume, snapshots among them (media format 10).

use alloc::vec::Vec;

use super::node::Node;
use crate::dirty::TreeId;
use crate::engine::{Operation, Stop, View, Want};
use crate::error::{Damage, DamageKind, Error};
use crate::media::blockref::Blockref;
use crate::media::dirhash::{COLLISION_MASK, dirhash};
use crate::media::inode::{ObjectKind, PfsKind};
use crate::tree::{Found, Holder, Table, search};
use crate::units::{Inum, Uuid, WallTime};

/// PFS roots that are looked at in one go.
const BATCH: usize = 64;

/// An opened PFS: a handle that every other operation takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pfs {
    root: Blockref,
}

impl Pfs {
    /// The PFS whose root inode `root` refers to.
    #[must_use]
    pub const fn new(root: Blockref) -> Self {
        Self { root }
    }

    /// What it is called in memory.
    #[must_use]
    pub fn id(&self) -> TreeId {
        TreeId(self.root.key())
    }

    /// Blockref of its root inode, as of when it was opened.
    #[must_use]
    pub const fn root(&self) -> &Blockref {
        &self.root
    }
}

/// What a list of PFSs tells of each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PfsInfo {
    /// Its handle.
    pub pfs: Pfs,
    /// Its label: any bytes but NUL.
    pub label: Vec<u8>,
    /// What kind it is.
    pub kind: PfsKind,
    /// Whether it was made as a snapshot.
    pub is_snapshot: bool,
    /// Id of its cluster.
    pub cluster_id: Uuid,
    /// Its own id.
    pub pfs_id: Uuid,
    /// Next inode number that it hands out.
    pub next_inum: Inum,
    /// When it was made.
    pub created: WallTime,
    /// Bytes allocated to it; blocks that it shares are counted in full.
    pub data_bytes: u64,
    /// Inodes in it.
    pub inode_count: u64,
}

/// A list of PFSs, as far as it can be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PfsList {
    /// In key order.
    pub entries: Vec<PfsInfo>,
    /// What could not be read.
    pub broken: Vec<Error>,
}

/// Lists the PFSs of a volume.
#[derive(Clone, Copy, Debug)]
pub struct ListPfs {
    /// Blockref of the super-root.
    pub super_root: Blockref,
}

impl Operation for ListPfs {
    type Output = PfsList;

    fn gather(&self, view: &mut View<'_>) -> Result<PfsList, Stop> {
        let table = super_root_table(view, &self.super_root)?;
        let mut list = PfsList::default();
        let mut low = Some(0);
        while let Some(from) = low {
            let found = search(view, &table, from, u64::MAX, BATCH)?;
            low = next_key(&found);
            collect(view, &found, &mut list);
            view.settle()?;
        }
        Ok(list)
    }
}

/// Opens the PFS with a label.
#[derive(Clone, Debug)]
pub struct OpenPfs {
    /// Blockref of the super-root.
    pub super_root: Blockref,
    /// The label, exactly as it is on media.
    pub label: Vec<u8>,
}

impl Operation for OpenPfs {
    type Output = Pfs;

    fn gather(&self, view: &mut View<'_>) -> Result<Pfs, Stop> {
        let table = super_root_table(view, &self.super_root)?;
        let hash = dirhash(&self.label);
        let mut low = Some(hash);
        let mut broken = None;
        while let Some(from) = low {
            let found = search(view, &table, from, hash | COLLISION_MASK, BATCH)?;
            low = next_key(&found);
            let mut list = PfsList::default();
            collect(view, &found, &mut list);
            view.settle()?;
            if let Some(info) = list.entries.into_iter().find(|info| info.label == self.label) {
                return Ok(info.pfs);
            }
            broken = broken.or(list.broken.into_iter().next());
        }
        // A root that cannot be read may be the one that was asked for.
        Err(broken.unwrap_or(Error::NoPfs).into())
    }
}

/// The table of the super-root.
///
/// # Errors
/// [`Stop::Need`], or why it cannot be had.
pub fn super_root_table(view: &mut View<'_>, super_root: &Blockref) -> Result<Table, Stop> {
    let super_root = view.memory().map_or(*super_root, |memory| *memory.super_root());
    let node = Node::load(view, &super_root)?;
    let is_super_root = node.inode().pfs_kind() == PfsKind::SuperRoot;
    if node.kind() != ObjectKind::Directory || !is_super_root {
        return Err(Damage::new(node.place(), DamageKind::NoSuperRoot).into());
    }
    Ok(Table::of_inode(node.block(), node.place(), Holder::SuperRoot))
}

/// Adds what is found to `list`; roots that are not in memory are noted as wanted.
fn collect(view: &mut View<'_>, found: &[Found], list: &mut PfsList) {
    for found in found {
        let blockref = match found {
            Found::Leaf(blockref) => blockref,
            Found::Broken { error, .. } => {
                list.broken.push(*error);
                continue;
            }
        };
        // parse() gives every inode blockref a location
        let Some(want) = Want::of(blockref) else {
            continue;
        };
        match view.want(&want) {
            None => {}
            Some(Err(error)) => list.broken.push(error),
            Some(Ok(block)) => match Node::new(block, blockref) {
                Ok(node) if node.kind() == ObjectKind::Directory => {
                    list.entries.push(info(&node, blockref));
                }
                Ok(node) => {
                    list.broken.push(Damage::new(node.place(), DamageKind::NotAllowed).into());
                }
                Err(damage) => list.broken.push(damage.into()),
            },
        }
    }
}

fn info(node: &Node, blockref: &Blockref) -> PfsInfo {
    let inode = node.inode();
    let statistics = blockref.statistics().unwrap_or_default();
    PfsInfo {
        pfs: Pfs::new(*blockref),
        label: inode.label().to_vec(),
        kind: inode.pfs_kind(),
        is_snapshot: inode.is_snapshot(),
        cluster_id: inode.cluster_id(),
        pfs_id: inode.pfs_id(),
        next_inum: inode.next_inum(),
        created: inode.btime(),
        data_bytes: statistics.data_count,
        inode_count: statistics.inode_count,
    }
}

/// Where to go on after a batch; `None` where it was the last.
fn next_key(found: &[Found]) -> Option<u64> {
    if found.len() < BATCH { None } else { found.last()?.last_key().checked_add(1) }
}
