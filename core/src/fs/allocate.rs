//! `fallocate`, as far as a copy-on-write file system can keep what it promises.

use super::contents::{FileEdit, SIZE_MAX};
use super::pfs::Pfs;
use crate::dirty::Plan;
use crate::engine::{Change, Stop, View};
use crate::error::Error;
use crate::units::{Inum, WallTime};

/// What to do with a range of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocation {
    /// The file reaches to its end at least. No space is set aside: a block that is written gets
    /// new space each time, so that space set aside for it could not be kept for it.
    Extend,
    /// It becomes a hole; the size stays.
    Punch,
    /// It reads as zeros; the file grows to hold it unless told otherwise.
    Zero {
        /// The size stays.
        keep_size: bool,
    },
}

/// Makes a range of a regular file into something.
#[derive(Clone, Copy, Debug)]
pub struct Allocate {
    /// The tree.
    pub pfs: Pfs,
    /// The file.
    pub inum: Inum,
    /// First byte of the range.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// What to do.
    pub allocation: Allocation,
    /// Now.
    pub now: WallTime,
}

impl Change for Allocate {
    type Output = ();

    fn gather(&self, view: &mut View<'_>) -> Result<((), Plan), Stop> {
        if self.len == 0 {
            return Err(Error::InvalidArgument.into());
        }
        let end = self.offset.checked_add(self.len).filter(|end| *end <= SIZE_MAX);
        let end = end.ok_or(Error::FileTooLarge)?;
        let mut edit = FileEdit::begin(view, &self.pfs, self.inum)?;
        let keeps_size =
            matches!(self.allocation, Allocation::Punch | Allocation::Zero { keep_size: true });
        let grows = !keeps_size && end > edit.size();
        if grows {
            edit.seal_tail(view)?;
        }
        match self.allocation {
            Allocation::Extend => {}
            Allocation::Punch | Allocation::Zero { .. } => {
                edit.frees();
                edit.punch(view, self.offset, end)?;
            }
        }
        if grows {
            edit.resize(view, end)?;
        }
        Ok(((), edit.finish(Some(self.now))))
    }
}
