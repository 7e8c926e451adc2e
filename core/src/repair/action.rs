//! Repairs by name: what is done, and to what.

use alloc::vec::Vec;
use core::fmt;

use crate::error::Place;
use crate::units::{DeviceIndex, Inum, MediaOffset};

/// A directory entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NameAt {
    /// The directory that it is in.
    pub directory: Inum,
    /// Its key there.
    pub key: u64,
    /// The name.
    pub name: Vec<u8>,
    /// The inode that it names.
    pub target: Inum,
}

/// One repair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    /// Index of the PFS, in the order of [`Check::labels`](crate::scan::Check::labels).
    pub pfs: Option<u32>,
    /// What is done.
    pub action: Action,
}

/// What a repair does. In the order in which they are done.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Action {
    /// Blocks that are in use are marked so in the freemap.
    MarkAllocated {
        /// First byte of the stretch.
        start: MediaOffset,
        /// Its length in bytes.
        len: u64,
    },
    /// A freemap block that cannot be read is made again from what is in use.
    RebuildFreemap(Place),
    /// A freemap block goes to one of its reserved places.
    MoveFreemap(Place),
    /// The sums of a freemap segment are made what its bitmap says, and reserved space is closed.
    CorrectSegment(MediaOffset),
    /// The PFS goes on with this inode number, behind all that are in use.
    ReserveNumbers {
        /// The next number.
        next: Inum,
    },
    /// The root of a PFS says that it is one, and has its number, 1.
    SetRoot,
    /// An inode is no root of a PFS, and says so.
    ClearRootFlag(Inum),
    /// The inode says as many names as it has.
    SetLinks {
        /// The inode.
        inum: Inum,
        /// What it says.
        stored: u64,
        /// Names found.
        counted: u32,
    },
    /// A directory entry says the kind that its inode has.
    SetKind(NameAt),
    /// What is below a table is summed up again.
    Recount {
        /// The inode that it belongs to; a table of the super-root belongs to none.
        inum: Option<Inum>,
        /// The table.
        place: Place,
    },
    /// A directory entry that names nothing goes.
    RemoveName(NameAt),
    /// An inode without a name gets one in `lost+found`.
    Attach(Inum),
    /// An inode without a name goes, with what is in it.
    Delete(Inum),
    /// A header copy is written again.
    RewriteHeader {
        /// On which device.
        device: DeviceIndex,
        /// Which copy.
        slot: u8,
        /// Whether it is the copy that was written last, perhaps, and may have held a newer state
        /// than the one that is used.
        may_be_newer: bool,
    },
}

impl Action {
    /// A word that stays the same while texts change: for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::MarkAllocated { .. } => "mark-allocated",
            Self::RebuildFreemap(_) => "rebuild-freemap",
            Self::MoveFreemap(_) => "move-freemap",
            Self::CorrectSegment(_) => "correct-segment",
            Self::ReserveNumbers { .. } => "reserve-numbers",
            Self::SetRoot => "set-root",
            Self::ClearRootFlag(_) => "clear-root-flag",
            Self::SetLinks { .. } => "set-links",
            Self::SetKind(_) => "set-kind",
            Self::Recount { .. } => "recount",
            Self::RemoveName(_) => "remove-name",
            Self::Attach(_) => "attach",
            Self::Delete(_) => "delete",
            Self::RewriteHeader { .. } => "rewrite-header",
        }
    }

    /// The inode that it is about, where it is one.
    #[must_use]
    pub const fn inum(&self) -> Option<Inum> {
        match self {
            Self::ClearRootFlag(inum)
            | Self::SetLinks { inum, .. }
            | Self::Attach(inum)
            | Self::Delete(inum) => Some(*inum),
            Self::SetKind(name) | Self::RemoveName(name) => Some(name.directory),
            Self::Recount { inum, .. } => *inum,
            Self::ReserveNumbers { .. } | Self::SetRoot => Some(Inum::ROOT),
            Self::MarkAllocated { .. }
            | Self::RebuildFreemap(_)
            | Self::MoveFreemap(_)
            | Self::CorrectSegment(_)
            | Self::RewriteHeader { .. } => None,
        }
    }

    /// Whether it is about the freemap.
    #[must_use]
    pub const fn is_of_freemap(&self) -> bool {
        matches!(
            self,
            Self::MarkAllocated { .. }
                | Self::RebuildFreemap(_)
                | Self::MoveFreemap(_)
                | Self::CorrectSegment(_)
        )
    }

    /// Its place in the order: numbers are reserved before one is handed out.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::MarkAllocated { .. } => 0,
            Self::RebuildFreemap(_) => 1,
            Self::MoveFreemap(_) => 2,
            Self::CorrectSegment(_) => 3,
            Self::ReserveNumbers { .. } => 4,
            Self::SetRoot => 5,
            Self::ClearRootFlag(_) => 6,
            Self::SetLinks { .. } => 7,
            Self::SetKind(_) => 8,
            Self::Recount { .. } => 9,
            Self::RemoveName(_) => 10,
            Self::Attach(_) => 11,
            Self::Delete(_) => 12,
            Self::RewriteHeader { .. } => 13,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MarkAllocated { start, len } => {
                write!(f, "mark {len} bytes at {start} as in use in the freemap")
            }
            Self::RebuildFreemap(place) => {
                write!(f, "{place}: make it again from what is in use")
            }
            Self::MoveFreemap(place) => {
                write!(f, "{place}: write it to one of its reserved places")
            }
            Self::CorrectSegment(segment) => {
                write!(f, "correct the sums and the reserved space of the segment at {segment}")
            }
            Self::ReserveNumbers { next } => {
                write!(f, "go on with inode number {}, behind all that are in use", next.0)
            }
            Self::SetRoot => f.write_str("mark it as the root of its PFS, with the number 1"),
            Self::ClearRootFlag(_) => f.write_str("mark it as no root of a PFS"),
            Self::SetLinks { stored, counted, .. } => {
                write!(f, "set its number of names to {counted}; it says {stored}")
            }
            Self::SetKind(name) => {
                write!(f, "let the name {} say the kind of {}", escaped(name), name.target)
            }
            Self::Recount { place, .. } => write!(f, "{place}: sum up what is below it again"),
            Self::RemoveName(name) => {
                write!(f, "remove the name {}, for there is no {}", escaped(name), name.target)
            }
            Self::Attach(inum) => write!(f, "give it the name lost+found/#{}", inum.0),
            Self::Delete(_) => f.write_str("delete it with what is in it, for it has no name"),
            Self::RewriteHeader { device, slot, may_be_newer } => {
                write!(
                    f,
                    "write volume header {slot} of {device} again from the one that is used"
                )?;
                if *may_be_newer {
                    f.write_str("; if it held a newer state, that is given up")?;
                }
                Ok(())
            }
        }
    }
}

fn escaped(name: &NameAt) -> impl fmt::Display {
    name.name.escape_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn texts_name_the_thing_and_what_is_done() {
        let name = NameAt { directory: Inum(1), key: 7, name: b"a\tb".to_vec(), target: Inum(9) };
        assert_eq!(
            Action::RemoveName(name).to_string(),
            "remove the name a\\tb, for there is no inode 9"
        );
        let links = Action::SetLinks { inum: Inum(1030), stored: 7, counted: 2 };
        assert_eq!(links.to_string(), "set its number of names to 2; it says 7");
        let actions = [links, Action::Attach(Inum(1031)), Action::SetRoot];
        let codes: Vec<_> = actions.iter().map(Action::code).collect();
        assert_eq!(codes, ["set-links", "attach", "set-root"]);
        assert!(actions[2].rank() < actions[0].rank());
    }
}
