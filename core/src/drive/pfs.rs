//! Making, copying, renaming and removing PFSs (media format 10).
//!
//! They change with a commit, not before it: a snapshot is of what that very commit writes.

use alloc::vec::Vec;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::change::WriteHost;
use super::run;
use crate::dirty::TreeId;
use crate::engine::{Block, Want};
use crate::error::Error;
use crate::flush::{Stamp, Writer};
use crate::fs::{ListPfs, PfsInfo};
use crate::media::dirhash::{COLLISION_MASK, dirhash};
use crate::media::inode::OP_PFS_ROOT;
use crate::media::raw::{RawBlockref, RawInode};
use crate::tree::Edit;
use crate::units::{Tid, Uuid, WallTime};

/// Longest label.
pub const LABEL_LEN_MAX: usize = 255;

/// A change of the PFSs of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PfsChange {
    /// An empty one.
    Create {
        /// Its label.
        label: Vec<u8>,
        /// Its ids, and when.
        birth: Birth,
    },
    /// A copy of one that is open for writing, as it is now.
    Snapshot {
        /// Of which.
        of: TreeId,
        /// Its label.
        label: Vec<u8>,
        /// Its ids, and when.
        birth: Birth,
    },
    /// It goes, with everything in it.
    Delete {
        /// Its label.
        label: Vec<u8>,
    },
    /// It gets another label.
    Rename {
        /// The label so far.
        label: Vec<u8>,
        /// The label from now on.
        new_label: Vec<u8>,
    },
}

/// What makes a new PFS unlike any other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Birth {
    /// Cluster id: random, for two PFSs with the same one are taken for one (media format 13.23).
    pub cluster_id: Uuid,
    /// Own id: random.
    pub pfs_id: Uuid,
    /// When.
    pub now: WallTime,
}

/// A change that was found possible.
#[derive(Clone, Debug)]
pub(super) struct PlannedPfs {
    change: PfsChange,
    /// Key of the new root, or of the one that goes.
    key: u64,
    /// What is there so far: its blockref and its 1024 bytes.
    old: Option<(RawBlockref, Block)>,
}

/// Whether a PFS can be called so.
///
/// # Errors
/// Why not.
pub fn check_label(label: &[u8]) -> Result<(), Error> {
    if label.len() > LABEL_LEN_MAX {
        return Err(Error::NameTooLong);
    }
    if label.is_empty() || label.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(Error::InvalidArgument);
    }
    Ok(())
}

/// Finds out whether `change` can be made.
pub(super) async fn plan<H: WriteHost>(host: &H, change: &PfsChange) -> Result<PlannedPfs, Error> {
    let super_root = host.look(|memory| memory.map(|memory| *memory.super_root()));
    let super_root = super_root.ok_or(Error::ReadOnly)?;
    let list = run(host, &ListPfs { super_root }).await?;
    // a root that cannot be read may have the very label or key
    if let Some(error) = list.broken.first() {
        return Err(*error);
    }
    let change = change.clone();
    match &change {
        PfsChange::Create { label, .. } | PfsChange::Snapshot { label, .. } => {
            let key = new_key(&list.entries, label)?;
            Ok(PlannedPfs { change, key, old: None })
        }
        PfsChange::Delete { label } => {
            let (raw, block) = existing(host, &list.entries, label).await?;
            Ok(PlannedPfs { key: raw.key.get(), change, old: Some((raw, block)) })
        }
        PfsChange::Rename { label, new_label } => {
            let old = existing(host, &list.entries, label).await?;
            let key = new_key(&list.entries, new_label)?;
            Ok(PlannedPfs { change, key, old: Some(old) })
        }
    }
}

/// A free key for a new label, chosen as other writers do (media format 6.4).
fn new_key(entries: &[PfsInfo], label: &[u8]) -> Result<u64, Error> {
    check_label(label)?;
    if entries.iter().any(|info| info.label == label) {
        return Err(Error::Exists);
    }
    let hash = dirhash(label);
    let is_taken = |key: &u64| entries.iter().any(|info| info.pfs.root().key() == *key);
    (hash + 1..=hash | COLLISION_MASK).find(|key| !is_taken(key)).ok_or(Error::NoSpace)
}

/// A PFS that nobody has open.
async fn existing<H: WriteHost>(
    host: &H,
    entries: &[PfsInfo],
    label: &[u8],
) -> Result<(RawBlockref, Block), Error> {
    let info = entries.iter().find(|info| info.label == label).ok_or(Error::NoPfs)?;
    if host.look(|memory| memory.is_some_and(|memory| memory.tree(info.pfs.id()).is_some())) {
        return Err(Error::Busy);
    }
    let root = info.pfs.root();
    let want = Want::of(root).ok_or(Error::NoPfs)?;
    Ok((*root.raw(), host.fetch(&want).await?))
}

impl PlannedPfs {
    /// The tree that is copied, if one is.
    pub(super) const fn source(&self) -> Option<TreeId> {
        match &self.change {
            PfsChange::Snapshot { of, .. } => Some(*of),
            _ => None,
        }
    }

    /// What changes in the super-root's table. `source` is the root of the tree that is copied, as
    /// this commit writes it.
    pub(super) fn edits(
        &self,
        writer: &mut Writer,
        tid: Tid,
        source: Option<(&RawBlockref, &[u8])>,
    ) -> Result<Vec<Edit>, Error> {
        match (&self.change, &self.old, source) {
            (PfsChange::Create { label, birth }, ..) => {
                let image = new_root(self.key, label, birth);
                let stamp = Stamp { mirror: tid, modify: Tid(1) };
                let raw = writer.inode(None, self.key, image, ROOT_METHODS, &[], stamp)?;
                Ok(alloc::vec![Edit::Put(marked(raw))])
            }
            (PfsChange::Snapshot { label, birth, .. }, _, Some((root, image))) => {
                let stamp = Stamp { mirror: tid, modify: Tid(root.modify_tid.get()) };
                let image = copied_root(image, self.key, label, birth)?;
                let slots = table_of(&image);
                let raw = writer.inode(None, self.key, image, ROOT_METHODS, &slots, stamp)?;
                Ok(alloc::vec![Edit::Put(marked(raw))])
            }
            (PfsChange::Rename { new_label, .. }, Some((raw, block)), _) => {
                let mut image = block.to_vec();
                let inode = inode_mut(&mut image)?;
                set_label(inode, self.key, new_label);
                let slots = table_of(&image);
                let mut old = *raw;
                old.key.set(self.key);
                let stamp = Stamp { mirror: tid, modify: Tid(raw.modify_tid.get()) };
                let new = writer.inode(Some(&old), self.key, image, raw.methods, &slots, stamp)?;
                writer.retire(raw);
                Ok(alloc::vec![Edit::Remove(raw.key.get()), Edit::Put(new)])
            }
            (PfsChange::Delete { .. }, Some((raw, _)), _) => {
                writer.retire(raw);
                writer.leak(data_count(raw));
                Ok(alloc::vec![Edit::Remove(raw.key.get())])
            }
            _ => Err(Error::NoPfs),
        }
    }
}

/// Check XXH64, compression noise of the super-root (media format 10).
const ROOT_METHODS: u8 = 0x31;
/// A blockref to the root inode of a PFS.
const FLAG_PFS_ROOT: u8 = 0x01;

fn marked(mut raw: RawBlockref) -> RawBlockref {
    raw.flags |= FLAG_PFS_ROOT;
    raw
}

fn data_count(raw: &RawBlockref) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = raw.embed;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn table_of(image: &[u8]) -> Vec<RawBlockref> {
    let table = image.get(0x200..).unwrap_or_default();
    let slots = crate::media::blockref::slots(table);
    slots.iter().filter(|raw| raw.kind != 0).copied().collect()
}

fn inode_mut(image: &mut [u8]) -> Result<&mut RawInode, Error> {
    RawInode::mut_from_bytes(image).map_err(|_| Error::NoPfs)
}

fn set_label(inode: &mut RawInode, key: u64, label: &[u8]) {
    inode.name_key.set(key);
    // at most 255
    inode.name_len.set(u16::try_from(label.len()).unwrap_or(0));
    inode.filename.fill(0);
    if let Some(field) = inode.filename.get_mut(..label.len()) {
        field.copy_from_slice(label);
    }
}

fn set_birth(inode: &mut RawInode, birth: &Birth) {
    inode.pfs_clid = birth.cluster_id.0;
    inode.pfs_fsid = birth.pfs_id.0;
    inode.ctime.set(birth.now.0);
    inode.btime.set(birth.now.0);
}

fn new_root(key: u64, label: &[u8], birth: &Birth) -> Vec<u8> {
    let mut inode = RawInode::new_zeroed();
    inode.version.set(1);
    set_birth(&mut inode, birth);
    inode.mtime.set(birth.now.0);
    inode.atime.set(birth.now.0);
    inode.kind = 1;
    inode.op_flags = OP_PFS_ROOT;
    inode.mode.set(0o755);
    inode.inum.set(1);
    inode.nlinks.set(1);
    inode.iparent.set(1);
    let is_boot = label.eq_ignore_ascii_case(b"BOOT");
    inode.comp_algo = if is_boot { 1 } else { 2 };
    inode.check_algo = 3;
    inode.pfs_type = 6;
    set_label(&mut inode, key, label);
    inode.as_bytes().to_vec()
}

/// The root of a snapshot. Other writers give it the mode 0755 and no owner; here it keeps the
/// source's, lest a directory that was closed stand open in its snapshots.
fn copied_root(image: &[u8], key: u64, label: &[u8], birth: &Birth) -> Result<Vec<u8>, Error> {
    let mut image = image.to_vec();
    let inode = inode_mut(&mut image)?;
    set_birth(inode, birth);
    set_label(inode, key, label);
    inode.pfs_subtype = 1;
    inode.pfs_type = 6;
    inode.iparent.set(1);
    inode.pfs_inum.set(inode.pfs_inum.get().saturating_add(1));
    Ok(image)
}
