//! From entries to the bytes of a table, and to what its blockref says of them.
//!
//! Knows nothing of where a table lies or how it is checked: that is the flush's.

use alloc::vec;
use alloc::vec::Vec;

use zerocopy::IntoBytes;

use crate::error::BlockKind;
use crate::media::blockref::{Blockref, Statistics};
use crate::media::raw::RawBlockref;
use crate::units::{Radix, Tid};

/// What a blockref says of the table below it (media format 3.2 to 3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Bytes allocated below.
    pub data_count: u64,
    /// Inodes below.
    pub inode_count: u64,
    /// Leaves below, up to the next inodes; stops at 65535.
    pub leaf_count: u16,
    /// The latest logical change below.
    pub max_modify_tid: Tid,
}

impl Summary {
    /// The embedded field of a blockref to an inode or indirect block.
    #[must_use]
    pub fn embed(&self) -> [u8; 16] {
        let mut embed = [0; 16];
        embed[..8].copy_from_slice(&self.data_count.to_le_bytes());
        embed[8..].copy_from_slice(&self.inode_count.to_le_bytes());
        embed
    }
}

/// The bytes of an indirect block with `entries`: packed from its first slot on, the rest zero
/// (media format 4.1).
///
/// # Panics
/// If there are more entries than slots.
#[must_use]
pub fn render(entries: &[RawBlockref], radix: Radix) -> Vec<u8> {
    let mut table = vec![0; radix.len()];
    render_into(entries, &mut table);
    table
}

/// As [`render`], into a table that is part of something else, such as an inode.
///
/// # Panics
/// If there are more entries than slots.
pub fn render_into(entries: &[RawBlockref], table: &mut [u8]) {
    let bytes = entries.as_bytes();
    assert!(bytes.len() <= table.len(), "an edit gives no more entries than slots");
    let (live, empty) = table.split_at_mut(bytes.len());
    live.copy_from_slice(bytes);
    empty.fill(0);
}

/// Sums up the entries of a table.
///
/// What cannot be a blockref counts for nothing but its transaction; sums of hostile numbers wrap
/// around, as they do in the checker.
#[must_use]
pub fn summarize(entries: &[RawBlockref]) -> Summary {
    let mut summary = Summary::default();
    for raw in entries {
        if let Ok(Some(blockref)) = Blockref::parse(raw) {
            summary.add(&blockref);
        }
        summary.max_modify_tid = summary.max_modify_tid.max(Tid(raw.modify_tid.get()));
    }
    summary
}

impl Summary {
    fn add(&mut self, child: &Blockref) {
        let own = child.location().map_or(0, |location| location.len() as u64);
        let Statistics { data_count, inode_count } = child.statistics().unwrap_or_default();
        let inode = u64::from(child.kind() == BlockKind::Inode);
        self.data_count = self.data_count.wrapping_add(own).wrapping_add(data_count);
        self.inode_count = self.inode_count.wrapping_add(inode).wrapping_add(inode_count);
        let leaves = match child.kind() {
            BlockKind::Inode | BlockKind::Data | BlockKind::Dirent => 1,
            BlockKind::Indirect => child.leaf_count(),
            BlockKind::FreemapNode | BlockKind::FreemapLeaf | BlockKind::Volume => 0,
        };
        self.leaf_count = self.leaf_count.saturating_add(leaves);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::blockref::slots;
    use zerocopy::FromZeros;

    fn entry(kind: u8, data_off: u64) -> RawBlockref {
        let mut raw = RawBlockref::new_zeroed();
        raw.kind = kind;
        raw.methods = 0x30;
        raw.data_off.set(data_off);
        raw
    }

    fn indirect(data_count: u64, inode_count: u64, leaf_count: u16) -> RawBlockref {
        let mut raw = entry(2, 0x90_0000 | 14);
        raw.key_bits = 63;
        raw.leaf_count.set(leaf_count);
        raw.modify_tid.set(9);
        raw.embed = Summary { data_count, inode_count, ..Summary::default() }.embed();
        raw
    }

    #[test]
    fn every_kind_counts_as_the_specification_says() {
        let mut inode = entry(1, 0x80_0000 | 10);
        inode.embed = Summary { data_count: 5000, inode_count: 3, ..Summary::default() }.embed();
        // an inode's own hint ends with it
        inode.leaf_count.set(77);
        let short_name = entry(4, 0);
        let long_name = entry(4, 0x80_0400 | 10);
        let summary = summarize(&[inode, short_name, long_name, indirect(100, 7, 40)]);
        assert_eq!(summary.data_count, 1024 + 5000 + 1024 + 16384 + 100);
        assert_eq!(summary.inode_count, 1 + 3 + 7);
        assert_eq!(summary.leaf_count, 3 + 40);
        assert_eq!(summary.max_modify_tid, Tid(9));
    }

    #[test]
    fn sums_neither_overflow_nor_stop() {
        let summary = summarize(&[indirect(u64::MAX, u64::MAX, 65535), indirect(2, 2, 10)]);
        assert_eq!(summary.leaf_count, u16::MAX);
        assert_eq!(summary.inode_count, 1);
        assert_eq!(summarize(&[]), Summary::default());
    }

    #[test]
    fn a_table_is_packed_and_its_rest_is_zero() {
        let entries = [entry(4, 0), indirect(1, 1, 1)];
        let bytes = render(&entries, Radix::new(12).unwrap());
        assert_eq!((bytes.len(), &slots(&bytes)[..2]), (4096, &entries[..]));
        assert!(bytes[256..].iter().all(|byte| *byte == 0));
        let mut root = [0xff; 512];
        render_into(&entries[..1], &mut root);
        assert!(root[128..].iter().all(|byte| *byte == 0));
    }
}
