//! What a run reports, as values, and how they travel: the wire between module and embedder.
//!
//! A run with `--postcard` writes *frames*: a length (`u32`, little-endian) and that many bytes of
//! a [`Report`] in postcard. The first is [`Report::Head`] with the [`VERSION`], the last is
//! [`Report::End`]: output without it was cut off. With `--json` the same values are written as
//! JSON, one to a line.
//!
//! Invariants:
//! * Whoever changes a type of this page raises [`VERSION`]; a test holds the bytes of one frame.
//! * A reader returns for every input, and believes no length beyond [`FRAME_LEN_MAX`].
//!
//! Times are microseconds since 1970-01-01 UTC, sizes are bytes.

use std::fmt;
use std::io;

use farrier_core::fs;
use farrier_core::media::inode::ObjectKind;
use farrier_core::scan::{Grade, Summary};
use farrier_core::units::WallTime;
use serde::{Deserialize, Serialize};

use crate::name::Name;

/// Version of the types of this page.
pub const VERSION: u32 = 2;

/// Longest frame: a path of the deepest tree that is walked, and some more.
pub const FRAME_LEN_MAX: usize = 4 << 20;

/// One thing that a run reports.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// The first frame. Its bytes mean the same in every version.
    Head {
        /// Version of what follows.
        version: u32,
    },
    /// The file system as a whole (`info`).
    FileSystem(FileSystem),
    /// One PFS (`pfs`).
    Pfs(Pfs),
    /// One name (`ls`, `tree`, `stat`).
    Entry(Entry),
    /// One finding of the checker (`check`).
    Finding(Finding),
    /// What the checker went through (`check`).
    Checked(Summary),
    /// Something that could not be told; it also stands on the standard error.
    Fault(Fault),
    /// The last frame.
    End {
        /// The exit code of the run.
        code: u8,
    },
    /// A file system was made (`format`).
    Formatted(Formatted),
    /// What was copied (`copy-in`).
    Copied(Copied),
    /// What is free now (`bulkfree`).
    Freed(Freed),
    /// Steps of a script that were done (`script`).
    Done {
        /// How many.
        steps: u64,
    },
}

/// A file system that was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Formatted {
    /// Its id.
    pub id: String,
    /// Version of the media format.
    pub version: u32,
    /// Labels of its PFSs.
    pub labels: Vec<Name>,
    /// Size of all volumes together.
    pub size: u64,
    /// Bytes that files and directories can take.
    pub usable: u64,
    /// What is worth a word beside the figures.
    pub note: Option<String>,
}

/// What a copy into a volume came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Copied {
    /// Files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes in the files.
    pub bytes: u64,
}

/// What a bulk scan freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Freed {
    /// Bytes that nothing referred to.
    pub bytes: u64,
    /// Bytes that something refers to and that were free by the freemap, which was mended.
    pub corrupt_bytes: u64,
    /// Blocks that something refers to.
    pub blocks: u64,
}

/// A file system and the volumes that it consists of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileSystem {
    /// Its id.
    pub id: String,
    /// Version of the media format.
    pub version: u32,
    /// Size of all volumes together.
    pub size: u64,
    /// Room for data when it was made.
    pub allocator_size: u64,
    /// Free room as its writers count it; a grown volume may claim more than there is.
    pub allocator_free: u64,
    /// The media transaction that it is read at.
    pub mirror_tid: u64,
    /// The media transaction up to which its freemap is complete.
    pub freemap_tid: u64,
    /// Its volumes, in order of their place in the address space.
    pub volumes: Vec<Volume>,
    /// Every header copy that a volume has room for.
    pub headers: Vec<Header>,
}

/// One volume of a file system.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// Its number.
    pub id: u8,
    /// The file that it is in.
    pub file: String,
    /// Where it starts in the address space of the file system.
    pub start: u64,
    /// Its size by its header.
    pub size: u64,
    /// Size of the file.
    pub file_size: u64,
}

/// One header copy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The file that it is in.
    pub file: String,
    /// Which copy, 0 to 3.
    pub slot: u8,
    /// Its media transaction, if it is usable.
    pub mirror_tid: Option<u64>,
    /// Why it is not.
    pub fault: Option<String>,
    /// Whether it is the one in use.
    pub is_chosen: bool,
}

/// One PFS of a file system.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pfs {
    /// Its label.
    pub label: Name,
    /// What kind it is, in the words of HAMMER2's tools.
    pub kind: String,
    /// Whether it was made as a snapshot.
    pub is_snapshot: bool,
    /// Id of its cluster.
    pub cluster_id: String,
    /// Its own id.
    pub pfs_id: String,
    /// When it was made.
    pub created_us: i64,
    /// Bytes allocated to it; blocks that it shares are counted in full.
    pub data_bytes: u64,
    /// Inodes in it.
    pub inode_count: u64,
}

/// One name of a tree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its path from the root of the PFS: `/` alone, or `/a/b`.
    pub path: Name,
    /// The inode that it names.
    pub inum: u64,
    /// What it is.
    pub kind: ObjectKind,
    /// What its inode says; missing where it cannot be read, and then a fault says why.
    pub attributes: Option<Attributes>,
    /// Where it points to, if it is a symbolic link that can be read.
    pub target: Option<Name>,
}

/// What an inode says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Names; 1 for a directory.
    pub nlinks: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of the contents; 0 for a directory.
    pub size: u64,
    /// Allocated for contents and tables.
    pub allocated_bytes: u64,
    /// Last change of the contents.
    pub mtime_us: i64,
    /// Last change of the inode.
    pub ctime_us: i64,
    /// Creation.
    pub btime_us: i64,
    /// Major and minor number of a device node, 0 for everything else.
    pub device: (u32, u32),
    /// BSD's file flags.
    pub flags: u32,
}

impl From<&fs::Attributes> for Attributes {
    fn from(attributes: &fs::Attributes) -> Self {
        let &fs::Attributes {
            mode,
            nlinks,
            uid,
            gid,
            size,
            allocated_bytes,
            mtime,
            ctime,
            btime,
            device,
            flags,
            ..
        } = attributes;
        Self {
            mode,
            nlinks,
            uid,
            gid,
            size,
            allocated_bytes,
            mtime_us: microseconds(mtime),
            ctime_us: microseconds(ctime),
            btime_us: microseconds(btime),
            device,
            flags,
        }
    }
}

/// A time as the reports keep it: negative before 1970.
#[must_use]
pub const fn microseconds(time: WallTime) -> i64 {
    time.0.cast_signed()
}

/// One finding of the checker.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// A word that stays the same while texts change.
    pub code: String,
    /// What and where, in a sentence.
    pub text: String,
    /// Label of the PFS that it is in.
    pub pfs: Option<Name>,
    /// The inode that it concerns, within that PFS.
    pub inum: Option<u64>,
    /// A path of that inode, for the first findings that have one.
    pub path: Option<Name>,
}

/// Something that a run could not do or could not tell.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// The path that it is about, if it is about one.
    pub path: Option<Name>,
    /// Why, in a sentence.
    pub text: String,
}

/// Writes `report` as one frame.
///
/// # Errors
/// The output's.
pub fn write_frame(output: &mut impl io::Write, report: &Report) -> io::Result<()> {
    let bytes = postcard::to_allocvec(report).map_err(io::Error::other)?;
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    output.write_all(&len.to_le_bytes())?;
    output.write_all(&bytes)
}

/// Reads the frames of a whole run.
///
/// # Errors
/// They are not the whole output of a run, or of another version.
pub fn read_frames(mut bytes: &[u8]) -> Result<Vec<Report>, FrameFault> {
    let mut reports = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk() {
        let len = u32::from_le_bytes(*len) as usize;
        if len > FRAME_LEN_MAX {
            return Err(FrameFault::Malformed);
        }
        let (frame, rest) = rest.split_at_checked(len).ok_or(FrameFault::CutOff)?;
        let report = postcard::from_bytes(frame).map_err(|_| FrameFault::Malformed)?;
        match report {
            Report::Head { version: VERSION } if reports.is_empty() => {}
            Report::Head { version } if reports.is_empty() => {
                return Err(FrameFault::Version(version));
            }
            Report::Head { .. } => return Err(FrameFault::Malformed),
            _ if reports.is_empty() => return Err(FrameFault::Malformed),
            _ => {}
        }
        reports.push(report);
        bytes = rest;
    }
    match reports.last() {
        Some(Report::End { .. }) if bytes.is_empty() => Ok(reports),
        _ => Err(FrameFault::CutOff),
    }
}

/// Why bytes are not the frames of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameFault {
    /// They end before the run did.
    CutOff,
    /// They are something else.
    Malformed,
    /// They are of another version.
    Version(u32),
}

impl fmt::Display for FrameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff => f.write_str("the module's report ends before the run did"),
            Self::Malformed => f.write_str("the module's report cannot be read; is it ours?"),
            Self::Version(version) => write!(
                f,
                "the module reports in version {version}, this program reads version {VERSION}; \
                 use module and runner of one release"
            ),
        }
    }
}

impl std::error::Error for FrameFault {}

#[cfg(test)]
mod tests;
