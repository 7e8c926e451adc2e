//! Writing to a file.

use super::attributes::Attributes;
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
    /// The file as it is then.
    type Output = Attributes;

    fn gather(&self, view: &mut View<'_>) -> Result<(Attributes, Plan), Stop> {
        let mut edit = FileEdit::begin(view, &self.pfs, self.inum)?;
        let offset = self.offset.unwrap_or(edit.size());
        edit.write(view, offset, self.bytes)?;
        let allocated = edit.node().allocated_bytes();
        edit.inode().mtime.set(self.now.0);
        edit.inode().ctime.set(self.now.0);
        let attributes = Attributes::of_raw(edit.inode(), allocated)?;
        Ok((attributes, edit.finish(None)))
    }
}
