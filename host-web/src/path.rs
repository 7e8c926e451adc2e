//! From a path to an inode.

use std::collections::VecDeque;

use farrier_core::error::Error;
use farrier_core::fs::{Attributes, GetAttributes, Lookup, Pfs, ReadLink};
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::Inum;

use crate::engine::Engine;
use crate::failure::Fault;

/// What to do with a symbolic link at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LastLink {
    Follow,
    Keep,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) attributes: Attributes,
    /// The names from the root, without links and dots.
    names: Vec<Vec<u8>>,
}

impl Found {
    /// The path without links and dots.
    pub(crate) fn path(&self) -> Vec<u8> {
        if self.names.is_empty() {
            return b"/".to_vec();
        }
        let mut path = Vec::new();
        for name in &self.names {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }
}

/// Walks `path` from the root of `pfs`. A relative path is one from the root, too.
pub(crate) async fn resolve(
    engine: &Engine,
    pfs: Pfs,
    path: &[u8],
    last: LastLink,
) -> Result<Found, Fault> {
    let root = engine.run(GetAttributes { pfs, inum: Inum::ROOT }).await?;
    // The directories that were gone through; `..` pops one.
    let mut trail = vec![(Vec::new(), root)];
    let mut ahead: VecDeque<Vec<u8>> = VecDeque::new();
    push_front(&mut ahead, path);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        let here = trail.last().map_or(root, |(_, attributes)| *attributes);
        if here.kind != ObjectKind::Directory {
            return Err(Error::NotDirectory.into());
        }
        match &name[..] {
            b"." => continue,
            b".." => {
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            _ => {}
        }
        let lookup = Lookup { pfs, directory: here.inum, name: name.clone() };
        let found = engine.run(lookup).await?;
        let follows = last == LastLink::Follow || !ahead.is_empty();
        if found.kind != ObjectKind::Symlink || !follows {
            trail.push((name, found));
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Fault::TooManyLinks);
        }
        let inum = found.inum;
        let target = engine.run(ReadLink { pfs, inum }).await?;
        if target.starts_with(b"/") {
            trail.truncate(1);
        }
        push_front(&mut ahead, &target);
    }
    let attributes = trail.last().map_or(root, |(_, attributes)| *attributes);
    let names = trail.into_iter().skip(1).map(|(name, _)| name).collect();
    Ok(Found { attributes, names })
}

/// Puts the names of `path` before `ahead`. A slash at the end asks for a directory.
fn push_front(ahead: &mut VecDeque<Vec<u8>>, path: &[u8]) {
    if path.ends_with(b"/") {
        ahead.push_front(b".".to_vec());
    }
    for name in path.rsplit(|byte| *byte == b'/') {
        if !name.is_empty() {
            ahead.push_front(name.to_vec());
        }
    }
}

/// Symbolic links that one path may lead through, as on Linux.
const LINKS_MAX: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_goes_before_what_is_left() {
        let mut ahead = VecDeque::from([b"rest".to_vec()]);
        push_front(&mut ahead, b"../a//b/");
        assert_eq!(ahead, [&b".."[..], b"a", b"b", b".", b"rest"]);
    }
}
