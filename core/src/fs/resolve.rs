//! From a path to an inode, for hosts whose kernel does not walk paths for them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::attributes::{Attributes, GetAttributes};
use super::lookup::Lookup;
use super::pfs::Pfs;
use super::readlink::ReadLink;
use crate::engine::{Operation, Stop, View};
use crate::error::Error;
use crate::media::inode::ObjectKind;
use crate::units::Inum;

/// Symbolic links that one path may lead through: as many as on Linux.
const LINKS_MAX: usize = 40;

/// What to do with a symbolic link at the end of a path; those before it are always followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastLink {
    /// Go where it leads.
    Follow,
    /// It is what was meant.
    Keep,
}

/// Where a path leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// Attributes of what is there.
    pub attributes: Attributes,
    /// The names from the root to it, through no symbolic link.
    pub names: Vec<Vec<u8>>,
}

impl Resolved {
    /// The path through no symbolic link, `/` for the root.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        if self.names.is_empty() {
            return b"/".to_vec();
        }
        self.names.iter().flat_map(|name| b"/".iter().chain(name)).copied().collect()
    }
}

/// Walks a path from the root of a PFS, which is also where absolute links lead.
///
/// `..` goes back the way that was come, and stays at the root. A slash at the end asks for a
/// directory.
#[derive(Clone, Debug)]
pub struct Resolve {
    /// The tree.
    pub pfs: Pfs,
    /// The path, with or without a slash at its start.
    pub path: Vec<u8>,
    /// What to do with a link at its end.
    pub last_link: LastLink,
}

impl Operation for Resolve {
    type Output = Resolved;

    fn gather(&self, view: &mut View<'_>) -> Result<Resolved, Stop> {
        let pfs = self.pfs;
        let root = GetAttributes { pfs, inum: Inum::ROOT }.gather(view)?;
        // The directories that were gone through; `..` pops one.
        let mut trail: Vec<(Vec<u8>, Attributes)> = Vec::new();
        let mut ahead = VecDeque::new();
        push_front(&mut ahead, &self.path);
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            let here = trail.last().map_or(root, |(_, attributes)| *attributes);
            if here.kind != ObjectKind::Directory {
                return Err(Error::NotDirectory.into());
            }
            match &name[..] {
                b"." => continue,
                b".." => {
                    trail.pop();
                    continue;
                }
                _ => {}
            }
            let found = Lookup { pfs, directory: here.inum, name: name.clone() }.gather(view)?;
            let follows = self.last_link == LastLink::Follow || !ahead.is_empty();
            if found.kind != ObjectKind::Symlink || !follows {
                trail.push((name, found));
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(Error::TooManyLinks.into());
            }
            let target = ReadLink { pfs, inum: found.inum }.gather(view)?;
            if target.starts_with(b"/") {
                trail.clear();
            }
            push_front(&mut ahead, &target);
        }
        let attributes = trail.last().map_or(root, |(_, attributes)| *attributes);
        Ok(Resolved { attributes, names: trail.into_iter().map(|(name, _)| name).collect() })
    }
}

/// Puts the names of `path` before `ahead`.
fn push_front(ahead: &mut VecDeque<Vec<u8>>, path: &[u8]) {
    if path.ends_with(b"/") {
        ahead.push_front(b".".to_vec());
    }
    for name in path.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        ahead.push_front(name.to_vec());
    }
}
