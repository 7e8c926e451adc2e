//! What can be asked of a volume besides what a file system is asked: snapshots, PFSs, free space,
//! settings. A mounted volume is asked through its socket, any other one is opened for it.
//!
//! The socket is a name, not a file: it goes with the process that serves the mount. Requests and
//! replies are one line of JSON each. Who may ask is who mounted, and root.
//!
//! | module | what it is for |
//! |---|---|
//! | `socket` | asking a mount, and being asked |
//! | `perform` | doing it, on any volume that can be written |

mod perform;
mod socket;

pub(crate) use perform::now;
pub use perform::{Actions, Offline, perform};
pub use socket::{AskError, Server, ask};

use serde::{Deserialize, Serialize};

use crate::copies::{Changed, Event, MemberChange, ScrubWish, Status};

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// Commit what was changed.
    Sync,
    /// How much space there is.
    Space,
    /// Copy the PFS as it is now.
    Snapshot {
        /// Label of the copy.
        label: Vec<u8>,
    },
    /// Make an empty PFS.
    CreatePfs {
        /// Its label.
        label: Vec<u8>,
    },
    /// Remove a PFS and everything in it.
    DeletePfs {
        /// Its label.
        label: Vec<u8>,
    },
    /// Give a PFS another label.
    RenamePfs {
        /// The label so far.
        label: Vec<u8>,
        /// The label from now on.
        new_label: Vec<u8>,
    },
    /// Free what nothing refers to.
    Bulkfree,
    /// How the copies are.
    CopiesStatus,
    /// Go on with bringing copies up to date where that could not go on.
    CopiesResync,
    /// Change the members of the group of copies, or its rules.
    CopiesChange {
        /// How.
        change: MemberChange,
    },
    /// Read everything from every copy, or rest from that.
    CopiesScrub {
        /// What to do about it.
        wish: ScrubWish,
        /// Most bytes to read in a second, 0 for as many as can be; nothing: as it is.
        rate: Option<u64>,
    },
    /// What happened to copies.
    CopiesEvents {
        /// Number of the last event that is known already.
        after: u64,
    },
    /// Have new contents of a file, or of what is made in a directory from now on, stored in
    /// another way.
    Set {
        /// Path from the root of the PFS.
        path: Vec<u8>,
        /// Compression, as an inode says it.
        compression: Option<u8>,
        /// Check method, as media code.
        check: Option<u8>,
    },
}

impl Request {
    /// The label that no PFS has any more if it is done.
    #[must_use]
    pub fn label_lost(&self) -> Option<&[u8]> {
        match self {
            Self::DeletePfs { label } | Self::RenamePfs { label, .. } => Some(label),
            _ => None,
        }
    }

    /// Whether PFSs may come, go or get another label by it.
    #[must_use]
    pub const fn changes_pfs(&self) -> bool {
        matches!(
            self,
            Self::Snapshot { .. }
                | Self::CreatePfs { .. }
                | Self::DeletePfs { .. }
                | Self::RenamePfs { .. }
        )
    }
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "done", rename_all = "kebab-case")]
pub enum Reply {
    /// It is done.
    Done,
    /// Space, in bytes.
    Space {
        /// That can hold data.
        size_bytes: u64,
        /// That is free.
        free_bytes: u64,
    },
    /// Space was freed.
    Freed {
        /// How much, in bytes.
        bytes: u64,
        /// In use, but free by the allocator's books; that was mended.
        corrupt_bytes: u64,
        /// Blocks that something refers to.
        blocks: u64,
    },
    /// How the copies are.
    Copies {
        /// That.
        status: Box<Status>,
    },
    /// The members are changed.
    Changed {
        /// What was done, and what comes next.
        changed: Changed,
    },
    /// What happened to copies.
    Events {
        /// That, oldest first.
        events: Vec<Event>,
    },
    /// It cannot be done; the text says what, where and what to do.
    Failed {
        /// One sentence.
        text: String,
    },
}
