//! Writing to a file.

use super::contents::FileEdit;
use super::pfs::Pfs;
use crate::dirty::Plan;
use crate::engine::{Change, Stop, View};
use crate::units::{Inum, WallTime};

/// Puts bytes into a regular file; what lies between its end and them becomes a hole.
#[derive(Clone, Copy, Debug)]
pub struct Write<'b> {
    /// The tree.
    pub pfs: Pfs,
    /// The file.
    pub inum: Inum,
    /// Where the bytes go; `None` behind its end.
    pub offset: Option<u64>,
    /// The bytes.
    pub bytes: &'b [u8],
    /// Now.
    pub now: WallTime,
}

impl Change for Write<'_> {
    /// Size of the file then, in bytes.
    type Output = u64;

    fn gather(&self, view: &mut View<'_>) -> Result<(u64, Plan), Stop> {
        let mut edit = FileEdit::begin(view, &self.pfs, self.inum)?;
        let offset = self.offset.unwrap_or(edit.size());
        edit.write(view, offset, self.bytes)?;
        edit.inode().mtime.set(self.now.0);
        edit.inode().ctime.set(self.now.0);
        let size = edit.size();
        Ok((size, edit.finish(None)))
    }
}
