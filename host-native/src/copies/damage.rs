//! What no copy can give, by the names of the files that it is of.

use std::collections::BTreeMap;

use farrier_core::drive::{self, Host, ready};
use farrier_core::engine::Operation;
use farrier_core::error::Error;
use farrier_core::fs::{ListPfs, PathOf, PfsInfo};
use farrier_core::media::damage::{DamageList, DamagedBlock, Lost};
use farrier_core::units::Inum;
use farrier_core::volume::Volume;
use serde::{Deserialize, Serialize};

/// A block that is good on no copy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DamageStatus {
    /// Label of its PFS; none if there is none any more, or it is the list of PFSs itself.
    pub label: Option<String>,
    /// Inode number of the file or directory that it is of.
    pub inum: u64,
    /// A path of that within its PFS, if it can be found.
    pub path: Option<String>,
    /// What is lost with it.
    pub what: LostPart,
    /// First byte of a stretch, or first inode number of some.
    pub offset: u64,
    /// How many.
    pub len: u64,
    /// When it was met first, in microseconds since 1970.
    pub since_us: u64,
    /// The same in words.
    pub text: String,
}

/// What is lost with a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostPart {
    /// A part of the list of PFSs.
    PfsList,
    /// A file or directory as a whole.
    Whole,
    /// A stretch of a file.
    Stretch,
    /// Some names in a directory.
    Names,
    /// Several files, by their inode numbers.
    Files,
}

impl From<Lost> for LostPart {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Super => Self::PfsList,
            Lost::Inode => Self::Whole,
            Lost::Stretch => Self::Stretch,
            Lost::Names => Self::Names,
            Lost::Files => Self::Files,
        }
    }
}

/// What it comes to that a list is not empty, and what to do about it.
pub(super) fn lost(list: &DamageList) -> (String, String) {
    let count = list.blocks().len();
    let what = match (count, list.is_full()) {
        (1, false) => "1 block, which is named below,".to_owned(),
        (_, false) => format!("{count} blocks, which are named below,"),
        (0, true) => "more blocks than are known".to_owned(),
        (_, true) => format!("{count} blocks, which are named below, and more,"),
    };
    let mut action =
        "put the files back from a backup or delete them, then `farrier copies scrub`, \
                      which looks again"
            .to_owned();
    if list.is_full() {
        action.push_str("; do so before it is unmounted, or the next mount is read-only (FC-D09)");
    }
    (format!("{what} can be had from no copy"), action)
}

/// What a list names, with labels and paths as far as they can be read.
pub(crate) fn named<H: Host>(list: &DamageList, volume: &Volume, host: &H) -> Vec<DamageStatus> {
    if list.blocks().is_empty() {
        return Vec::new();
    }
    let super_root = volume.super_root();
    let trees = run(host, &ListPfs { super_root }).map(|list| list.entries).unwrap_or_default();
    let mut paths: BTreeMap<(u64, u64), Option<String>> = BTreeMap::new();
    let one = |block: &DamagedBlock| {
        let tree = trees.iter().find(|info| info.pfs.id().0 == block.pfs);
        let path = tree.filter(|_| block.inum != Inum(0)).and_then(|info| {
            let path = || run(host, &PathOf { pfs: info.pfs, inum: block.inum });
            let known = paths.entry((block.pfs, block.inum.0));
            known.or_insert_with(|| path().ok().map(text_of)).clone()
        });
        told(block, tree, path)
    };
    list.blocks().iter().map(one).collect()
}

fn run<H: Host, O: Operation>(host: &H, operation: &O) -> Result<O::Output, Error>
where
    O::Output: core::fmt::Debug,
{
    ready(drive::run(host, operation))
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().escape_ascii().to_string())
}

fn told(block: &DamagedBlock, tree: Option<&PfsInfo>, path: Option<String>) -> DamageStatus {
    let label = tree.map(|info| text_of(info.label.clone()));
    let inum = block.inum.0;
    let of = match &label {
        Some(label) => label.clone(),
        None => format!("a PFS that is gone ({:016x})", block.pfs),
    };
    let file = match &path {
        Some(path) => format!("{of}:{path}"),
        None => format!("inode {inum} of {of}"),
    };
    let DamagedBlock { offset, len, .. } = *block;
    let last = offset.saturating_add(len.saturating_sub(1));
    let lost = block.lost();
    let text = match lost {
        Lost::Super => "the list of PFSs, or a part of it".to_owned(),
        Lost::Inode => format!("{file}: all of it"),
        Lost::Stretch => format!("{file}: bytes {offset} to {last}"),
        Lost::Names => format!("{file}: some of the names in it"),
        Lost::Files => format!("{of}: the files with inode numbers {offset} to {last}"),
    };
    let (what, since_us) = (LostPart::from(lost), block.seen.0);
    DamageStatus { label, inum, path, what, offset, len, since_us, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_core::error::BlockKind;
    use farrier_core::units::{Tid, WallTime};

    #[test]
    fn it_is_told_as_well_as_it_can_be_named() {
        let block = DamagedBlock::unread(0xab, Inum(1030), (1 << 16, 1 << 16), WallTime(7));
        let text = |block: &DamagedBlock, path: Option<&str>| {
            told(block, None, path.map(str::to_owned)).text
        };
        let gone = "a PFS that is gone (00000000000000ab)";
        assert_eq!(text(&block, Some("/a/b")), format!("{gone}:/a/b: bytes 65536 to 131071"));
        assert_eq!(text(&block, None), format!("inode 1030 of {gone}: bytes 65536 to 131071"));
        let whole = DamagedBlock { kind: BlockKind::Inode, ..block };
        assert_eq!(text(&whole, Some("/a")), format!("{gone}:/a: all of it"));
        let table = DamagedBlock { kind: BlockKind::Indirect, inum: Inum::ROOT, ..block };
        let expected = format!("{gone}: the files with inode numbers 65536 to 131071");
        assert_eq!(text(&table, Some("/")), expected);
        let names = DamagedBlock { offset: 1 << 63, tid: Tid(3), ..table };
        assert_eq!(text(&names, Some("/")), format!("{gone}:/: some of the names in it"));
        let all = DamagedBlock { inum: Inum(0), ..table };
        assert_eq!(text(&all, None), "the list of PFSs, or a part of it");
        let status = told(&block, None, None);
        assert_eq!((status.what, status.since_us), (LostPart::Stretch, 7));
    }
}
