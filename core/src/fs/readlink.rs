//! The target of a symbolic link.

use alloc::vec;
use alloc::vec::Vec;

use super::node::Node;
use super::pfs::Pfs;
use super::read::{Extent, contents};
use crate::engine::{Operation, Stop, View};
use crate::error::{Damage, DamageKind, Error, InodeFault};
use crate::media::inode::ObjectKind;
use crate::units::Inum;

/// Longest target that is believed; BSD's and Linux's own limit lies below.
const TARGET_LEN_MAX: u64 = 65536;

/// Reads the target of a symbolic link.
#[derive(Clone, Copy, Debug)]
pub struct ReadLink {
    /// The tree.
    pub pfs: Pfs,
    /// The link.
    pub inum: Inum,
}

impl Operation for ReadLink {
    type Output = Vec<u8>;

    fn gather(&self, view: &mut View<'_>) -> Result<Vec<u8>, Stop> {
        let node = Node::find(view, &self.pfs, self.inum)?;
        if node.kind() != ObjectKind::Symlink {
            return Err(Error::NotSymlink.into());
        }
        let size = node.inode().size();
        let len = usize::try_from(size)
            .ok()
            .filter(|_| size <= TARGET_LEN_MAX)
            .ok_or_else(|| Damage::new(node.place(), DamageKind::Inode(InodeFault::Size(size))))?;
        let mut target = Vec::with_capacity(len);
        for extent in contents(view, &self.pfs, &node, 0, len, 0)? {
            match extent {
                Extent::Zeros(len) => target.extend(vec![0; len]),
                Extent::Bytes(block, range) => target.extend_from_slice(&block[range]),
            }
        }
        Ok(target)
    }
}
