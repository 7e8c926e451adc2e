//! What fuzzing runs: every decoder on any bytes, and mount-and-walk over a mutated image.
//!
//! The same functions serve the fuzzer of `fuzz/` and a short seeded run among the tests. A mutated
//! image gets its check codes put right, so that what is behind them is reached.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use farrier_core::engine::Want;
use farrier_core::error::{BlockKind, DeviceFault, Error, FaultCause};
use farrier_core::fs::{
    GetAttributes, ListPfs, Lookup, PathOf, Pfs, Read, ReadDir, ReadLink, Seek, SeekTarget,
};
use farrier_core::media::blockref::{Addresses, Blockref, slots};
use farrier_core::media::check::{CheckCode, CheckMethod, Checks};
use farrier_core::media::compress::{Compression, expand};
use farrier_core::media::copy_group::CopyGroup;
use farrier_core::media::damage::DamageList;
use farrier_core::media::dirent::DirentHeader;
use farrier_core::media::dirhash::dirhash;
use farrier_core::media::freemap::{SEGMENT_CHUNKS, chunk_state, segments};
use farrier_core::media::header::VolumeHeader;
use farrier_core::media::inode::Inode;
use farrier_core::scan::{CheckOptions, Summary};
use farrier_core::storage::Storage;
use farrier_core::units::{DeviceIndex, Inum};

use crate::checking::check;
use crate::host::TestHost;

/// Directory entries that one walk looks at: a mutated directory may contain itself.
const ENTRIES_MAX: usize = 2000;

/// Hands `data` to every decoder. Whatever they say, they have to return.
pub fn decoders(data: &[u8]) {
    let checks = Checks::PORTABLE;
    let _ = VolumeHeader::parse(data, &checks).map(|header| header.copy_group());
    let _ = CopyGroup::parse(data).map(|group| assert!(group.store() == *data));
    let list = DamageList::parse(data);
    assert_eq!(DamageList::parse(&list.store()), list);
    let _ = Inode::parse(data).map(|inode| (inode.direct_data().map(<[u8]>::len), inode.label()));
    for raw in slots(data) {
        let _ = Addresses::of(raw);
        let Ok(Some(blockref)) = Blockref::parse(raw) else { continue };
        let _ = (blockref.last_key(), blockref.statistics(), Want::of(&blockref));
        if let Ok(header) = DirentHeader::parse(&blockref) {
            let _ = header.name(&blockref, None);
        }
    }
    for segment in segments(data).unwrap_or_default() {
        let _ = (0..SEGMENT_CHUNKS).map(|at| chunk_state(segment, at)).max();
    }
    let _ = dirhash(data);
    for compression in [Compression::Lz4, Compression::Zlib] {
        if let Ok(stored) = checks.verify(data.to_vec(), CheckCode::Unchecked)
            && let Ok(contents) = expand(stored, compression)
        {
            assert!(contents.len() <= 65536, "{compression:?} leaves the file block");
        }
    }
}

/// An image in memory, and where every block of it is referred to.
#[derive(Debug, Clone)]
pub struct Subject {
    memory: Memory,
    /// Parents before children.
    blocks: Vec<Known>,
}

/// A block of the undamaged image.
#[derive(Debug, Clone, Copy)]
struct Known {
    offset: u64,
    len: usize,
    method: CheckMethod,
    /// Offset of the blockref that refers to it.
    referred_at: u64,
}

/// A sparse device in memory.
#[derive(Debug, Clone, Default)]
struct Memory {
    size: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

const PAGE: u64 = 65536;

impl Memory {
    fn load(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let pages = (0..).zip(bytes.chunks(65536)).filter(|(_, page)| page.iter().any(|b| *b != 0));
        let pages = pages.map(|(index, page)| (index, page.to_vec())).collect();
        Self { size: bytes.len() as u64, pages }
    }

    /// Bytes that do not leave a page: no block does.
    fn get(&self, offset: u64, len: usize) -> Vec<u8> {
        let start = usize::try_from(offset % PAGE).expect("below a page");
        match self.pages.get(&(offset / PAGE)) {
            Some(page) => page[start..start + len].to_vec(),
            None => vec![0; len],
        }
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let start = usize::try_from(offset % PAGE).expect("below a page");
        let page = self.pages.entry(offset / PAGE).or_insert_with(|| vec![0; 65536]);
        page[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

impl Storage for Memory {
    fn device_count(&self) -> usize {
        1
    }

    fn size(&self, _: DeviceIndex) -> u64 {
        self.size
    }

    async fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, DeviceFault> {
        let fault = DeviceFault::read(device, offset, len, FaultCause::OutOfRange);
        let end = offset.checked_add(len as u64).ok_or(fault)?;
        if end > self.size || offset / PAGE != (end - 1) / PAGE {
            return Err(fault);
        }
        Ok(self.get(offset, len))
    }
}

impl Subject {
    /// Takes in the one-volume image at `path`.
    ///
    /// # Panics
    /// It is no sound image.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let memory = Memory::load(path);
        let mut subject = Self { memory, blocks: Vec::new() };
        for slot in 0..4 {
            subject.explore(0x200 + slot * 128);
            subject.explore(0x800 + slot * 128);
        }
        assert!(subject.blocks.len() > 20, "{} blocks", subject.blocks.len());
        subject
    }

    /// Replaces eight bytes wherever a block holds them; tells in how many places.
    pub fn replace(&mut self, from: &[u8; 8], to: &[u8; 8]) -> usize {
        let mut places = 0;
        for known in &self.blocks {
            let block = self.memory.get(known.offset, known.len);
            for at in (0..block.len()).step_by(8).filter(|at| block[*at..].starts_with(from)) {
                self.memory.put(known.offset + at as u64, to);
                places += 1;
            }
        }
        places
    }

    /// Takes note of the block that the blockref at `referred_at` refers to, and of all below it.
    fn explore(&mut self, referred_at: u64) {
        let raw = self.memory.get(referred_at, 128);
        let Ok(Some(blockref)) = Blockref::parse(&slots(&raw)[0]) else { return };
        let Some(location) = blockref.location() else { return };
        let (offset, len) = (location.offset.0, location.len());
        self.blocks.push(Known { offset, len, method: blockref.check_method(), referred_at });
        let block = self.memory.get(offset, len);
        let table = match blockref.kind() {
            BlockKind::Indirect | BlockKind::FreemapNode => 0..len,
            BlockKind::Inode => {
                let inode = Inode::parse(&block).expect("a sound image");
                if inode.has_direct_data() { 0..0 } else { 0x200..0x400 }
            }
            _ => 0..0,
        };
        for at in table.step_by(128) {
            self.explore(offset + at as u64);
        }
    }

    /// Mutates the image as `data` says, puts the check codes right, and goes through all of it.
    ///
    /// `data` is read as patches of four bytes: which block (two bytes), where in it, and what.
    /// Some values stand for a whole word of an extreme number, since those are what arithmetic
    /// fails on and single bytes seldom make.
    ///
    /// Tells what a check came to, where the image still opens.
    pub fn walk_mutated(&self, data: &[u8]) -> Option<Summary> {
        let mut mutated = self.memory.clone();
        for patch in data.chunks_exact(4) {
            let [a, b, at, value] = *patch else { continue };
            let index = usize::from(u16::from_le_bytes([a, b]));
            let known = self.blocks[index % self.blocks.len()];
            // Where structure is: near the start, and in the table of an inode.
            let spread = index / self.blocks.len();
            let at = (usize::from(at) * [1, 3, 17][spread % 3] + 0x200 * (spread / 3)) % known.len;
            let word = match value {
                0xfc => Some(0),
                0xfd => Some(u64::MAX),
                0xfe => Some(i64::MAX.cast_unsigned()),
                0xff => Some(1 << 63),
                _ => None,
            };
            match word {
                Some(word) => mutated.put(known.offset + (at & !7) as u64, &word.to_le_bytes()),
                None => mutated.put(known.offset + at as u64, &[value]),
            }
        }
        for known in self.blocks.iter().rev() {
            restore_check(&mut mutated, known);
        }
        seal_header(&mut mutated);
        go_through(mutated)
    }
}

/// Writes the check code of a block's bytes into the blockref that the sound image had for it.
fn restore_check(memory: &mut Memory, known: &Known) {
    let bytes = memory.get(known.offset, known.len);
    let stored = known.method.stored(&[0; 64]);
    let computed = match Checks::PORTABLE.verify(bytes, stored) {
        Ok(_) => stored,
        Err(mismatch) => mismatch.computed,
    };
    let field = known.referred_at + 0x40;
    match computed {
        CheckCode::Unchecked => {}
        CheckCode::Crc32c(code) => memory.put(field, &code.to_le_bytes()),
        CheckCode::Xxhash64(code) => memory.put(field, &code.to_le_bytes()),
        CheckCode::Sha192(code) => memory.put(field, &code),
    }
}

fn seal_header(memory: &mut Memory) {
    for (covered, at) in [(0x200..0x400, 0x1f8), (0..0x1fc, 0x1fc), (0..0xfffc, 0xfffc)] {
        let header = memory.get(0, 65536);
        let code = Checks::PORTABLE.crc32c(&header[covered]);
        memory.put(at, &code.to_le_bytes());
    }
}

/// Mounts, lists, reads and checks. Errors are fine; panics, endless loops and wrong lengths are
/// not.
fn go_through(memory: Memory) -> Option<Summary> {
    let host = TestHost::over(memory, true, 4 << 20).ok()?;
    let super_root = host.volume().super_root();
    if let Ok(list) = host.run(&ListPfs { super_root }) {
        let mut budget = ENTRIES_MAX;
        for info in list.entries {
            walk_bounded(&host, info.pfs, &mut budget);
        }
    }
    let (findings, summary) = check(&host, CheckOptions { batch: 16, ..CheckOptions::default() });
    for finding in findings {
        let _ = format!("{finding} {}", finding.kind.code());
    }
    Some(summary)
}

fn walk_bounded<S: Storage>(host: &TestHost<S>, pfs: Pfs, budget: &mut usize) {
    let mut stack = vec![Inum::ROOT];
    while let Some(directory) = stack.pop() {
        let mut position = Some(0);
        while let Some(from) = position {
            let list = ReadDir { pfs, directory, position: from, limit: 64, with_attributes: true };
            let Ok(page) = host.run(&list) else { break };
            for entry in &page.entries {
                if *budget == 0 {
                    return;
                }
                *budget -= 1;
                let name = entry.name.clone();
                let _ = host.run(&Lookup { pfs, directory, name });
                look(host, pfs, entry.inum);
                if entry.name != b"." && entry.name != b".." {
                    stack.push(entry.inum);
                }
            }
            assert!(page.next.is_none_or(|next| next > from), "pages go forward");
            position = page.next;
        }
    }
}

fn look<S: Storage>(host: &TestHost<S>, pfs: Pfs, inum: Inum) {
    let Ok(attributes) = host.run(&GetAttributes { pfs, inum }) else { return };
    let _: Result<Vec<u8>, Error> = host.run(&ReadLink { pfs, inum });
    let _ = host.run(&PathOf { pfs, inum });
    for target in [SeekTarget::Data, SeekTarget::Hole] {
        if let Ok(found) = host.run(&Seek { pfs, inum, offset: 0, target }) {
            assert!(found <= attributes.size, "{target:?} at {found} of {}", attributes.size);
        }
    }
    for offset in [0, attributes.size.saturating_sub(1000)] {
        if let Ok(extents) = host.run(&Read { pfs, inum, offset, len: 200_000, ahead: 65536 }) {
            let len: usize = extents.iter().map(|extent| extent.len()).sum();
            let left = attributes.size.saturating_sub(offset);
            assert_eq!(len as u64, left.min(200_000), "a read is as long as the file allows");
        }
    }
}
