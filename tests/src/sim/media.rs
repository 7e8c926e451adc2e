//! What lies on the disks of a group of copies, looked at block by block: the invariants that speak
//! of media. Nothing here asks the engine what it believes; it only uses the core's parsers.

use std::collections::BTreeMap;

use farrier_core::copies::lineage;
use farrier_core::copies::{CopyGroup, CopySet};
use farrier_core::drive::{Host as _, load_freemap, ready};
use farrier_core::engine::Want;
use farrier_core::error::{BlockKind, Error};
use farrier_core::flush::valid;
use farrier_core::freemap::Freemap;
use farrier_core::media::addresses::Addresses;
use farrier_core::media::blockref::{Blockref, slots};
use farrier_core::media::check::Checks;
use farrier_core::media::freemap::ChunkState;
use farrier_core::media::inode::{CONTENT_START, Inode};
use farrier_core::media::raw::RawBlockref;
use farrier_core::storage::Storage as _;
use farrier_core::units::{DeviceIndex, MediaOffset};
use farrier_core::volume::{CopyHeader, OpenOptions, header_reads_of, newest_header};

use super::bay::Bay;
use crate::against::dirt;
use crate::host::TestHost;
use crate::ram::RamDisk;
use crate::session::a_header;

const CACHE: usize = 4 << 20;
const CHUNK: u64 = 16 << 10;

/// What a look at all blocks came to.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// What does not count on a copy, by copy.
    pub lacking: [Lacking; 4],
    /// Blocks.
    pub blocks: u64,
    /// Copies that are attached and not in sync.
    pub behind: u8,
    owners: BTreeMap<(u8, u64), Owner>,
    /// The copies that lack what lies at an address, as far as those who refer to it by the same
    /// transaction said so: others are filled in by themselves.
    told: BTreeMap<(u8, u64, u64), u8>,
}

impl Walked {
    /// Where blocks lie that count on `copy`.
    #[must_use]
    pub fn places(&self, copy: u8) -> Vec<u64> {
        self.owners.range((copy, 0)..(copy + 1, 0)).map(|((_, offset), _)| *offset).collect()
    }
}

/// Blocks that a copy lacks; one that several trees share, once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lacking {
    /// Blocks that refer to nothing.
    pub leaves: u64,
    /// Their bytes.
    pub leaf_bytes: u64,
    /// The others.
    pub tables: u64,
    /// Their bytes.
    pub table_bytes: u64,
    /// Those of them that are named by several transactions, once for each beyond the first: such were
    /// filled in on another copy by different batches, and are filled in one by one again.
    pub repeats: u64,
    /// Their bytes.
    pub repeat_bytes: u64,
}

/// What lies at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Owner {
    len: u64,
    code: [u8; 40],
    /// The copies that lack it, as far as anybody who refers to it said so.
    lacking: u8,
}

struct Walk<'a> {
    bay: &'a Bay,
    host: &'a TestHost<Bay>,
    set: CopySet,
    here: u8,
    /// Copies whose blocks may be anything.
    doubtful: u8,
    walked: Walked,
}

/// Opens what `bay` shows, as a copy of it that does not fail.
///
/// # Errors
/// It cannot be opened.
pub fn open(bay: &Bay, copies: lineage::Options) -> Result<TestHost<Bay>, String> {
    try_open(bay, copies).map_err(|error| format!("{error:?}"))
}

/// As [`open`], and tells why not.
///
/// # Errors
/// As it is.
pub fn try_open(bay: &Bay, copies: lineage::Options) -> Result<TestHost<Bay>, Error> {
    let options = OpenOptions { copies, ..OpenOptions::default() };
    TestHost::with(bay.clone(), options, CACHE)
}

/// The record in the newest whole header of a disk.
#[must_use]
pub fn record_on(disk: &RamDisk) -> Option<CopyGroup> {
    let device = DeviceIndex(0);
    let reads = header_reads_of(device, disk.size(device)).ok()?;
    let got: Vec<_> = reads
        .into_iter()
        .map(|read| (read, ready(disk.read(device, read.offset, read.len))))
        .collect();
    let checks = Checks::with_crc32c(crc32c::crc32c);
    let (_, header) = newest_header(device, &got, &checks).ok()?;
    header.copy_group().ok()
}

/// I3, I4 and the first half of I9: every block that counts on a copy is there, whole, with all that
/// hangs below it, and nothing else lies in the same place.
///
/// # Errors
/// The first block for which that does not hold.
pub fn merkle_and_identity(
    bay: &Bay,
    options: lineage::Options,
    doubtful: u8,
) -> Result<Walked, String> {
    let bay = bay.fork();
    let host = open(&bay, options)?;
    let group = host.volume().group().ok_or("no copies")?;
    let set = CopySet::of(group.group());
    let here = group.headers().iter().fold(0, |mask, one| mask | 1 << one.copy);
    let behind = here & set.attached() & !set.in_sync();
    let walked = Walked { behind, ..Walked::default() };
    let mut walk = Walk { bay: &bay, host: &host, set, here, doubtful, walked };
    walk.run(*host.volume().super_root().raw())?;
    let in_sync = set.in_sync() & here;
    for (copy, lacking) in (0_u8..).zip(&walk.walked.lacking) {
        if in_sync & 1 << copy != 0 && lacking.leaves + lacking.tables > 0 {
            return Err(format!("I20: copy {copy} is said to be in sync, and lacks {lacking:?}"));
        }
    }
    freemap_superset(&host, &walk.walked)?;
    Ok(walk.walked)
}

impl Walk<'_> {
    fn run(&mut self, root: RawBlockref) -> Result<(), String> {
        let mut stack = vec![(root, 0)];
        while let Some((raw, above)) = stack.pop() {
            let parsed = Blockref::parse(&raw).map_err(|fault| format!("I3: {fault:?}"))?;
            let Some(blockref) = parsed else { continue };
            let Some(want) = Want::of(&blockref) else { continue };
            let counts = valid(&self.set, &raw) & self.here;
            let place = blockref.place();
            if above & !counts != 0 {
                return Err(format!(
                    "I3: {place:?} of {} counts on {counts:b}, its table on {above:b}",
                    raw.mirror_tid.get()
                ));
            }
            let is_table = matches!(blockref.kind(), BlockKind::Inode | BlockKind::Indirect);
            let (is_new, unheard, known) = self.block(&raw, &want, counts)?;
            if !is_new && unheard == 0 {
                continue;
            }
            let block = ready(self.host.fetch(&want))
                .map_err(|error| format!("I1: {place:?} is on no copy: {error:?}"))?;
            let mut below = Vec::new();
            if is_table {
                let table = match blockref.kind() {
                    BlockKind::Inode => {
                        let inode = Inode::parse(&block).map_err(|fault| format!("{fault:?}"))?;
                        let content = block.get(CONTENT_START..).unwrap_or_default();
                        if inode.has_direct_data() { &[][..] } else { content }
                    }
                    _ => &block[..],
                };
                below.extend(slots(table).iter().filter(|raw| raw.kind != 0));
            }
            let len = want.location().len() as u64;
            for (copy, lacking) in (0_u8..).zip(&mut self.walked.lacking) {
                if unheard & known & 1 << copy != 0 {
                    lacking.repeats += 1;
                    lacking.repeat_bytes += len;
                }
                match (unheard & !known & 1 << copy != 0, below.is_empty()) {
                    (false, _) => {}
                    (true, true) => {
                        lacking.leaves += 1;
                        lacking.leaf_bytes += len;
                    }
                    (true, false) => {
                        lacking.tables += 1;
                        lacking.table_bytes += len;
                    }
                }
            }
            stack.extend(below.into_iter().map(|raw| (raw, counts)));
        }
        Ok(())
    }

    /// Looks at one block on each of its copies; whether it was not seen there before, the copies that
    /// lack it of which nobody of the same transaction said so before, and those of which anybody did.
    fn block(
        &mut self,
        raw: &RawBlockref,
        want: &Want,
        counts: u8,
    ) -> Result<(bool, u8, u8), String> {
        let addresses = Addresses::of(raw).map_err(|fault| format!("I3: {fault:?}"))?;
        let len = want.location().len();
        let mut code = [0; 40];
        code.copy_from_slice(&raw.check[..40]);
        let places = || addresses.iter().filter(|(copy, _)| counts & 1 << copy != 0);
        let tid = raw.mirror_tid.get();
        let told = &mut self.walked.told;
        let known = places().filter_map(|place| told.get(&(place.0, place.1.0, tid)));
        let told_before = known.fold(0, |mask, lacking| mask | lacking);
        let lacking = self.here & !counts;
        told.extend(places().map(|place| ((place.0, place.1.0, tid), lacking | told_before)));
        let known = places().filter_map(|place| self.walked.owners.get(&(place.0, place.1.0)));
        let known = known.fold(0, |mask, owner| mask | owner.lacking);
        let owner = Owner { len: len as u64, code, lacking: lacking | known };
        let checks = Checks::with_crc32c(crc32c::crc32c);
        let mut is_new = false;
        for (copy, offset) in places() {
            match self.walked.owners.insert((copy, offset.0), owner) {
                Some(before) if (before.len, before.code) == (owner.len, owner.code) => continue,
                Some(before) => {
                    return Err(format!(
                        "I9: {offset} of copy {copy} has two owners: {before:?} and {owner:?}"
                    ));
                }
                None => is_new = true,
            }
            let stored = self.bay.bytes(copy, offset.0, len);
            if self.doubtful & 1 << copy == 0
                && let Err(damage) = want.check(stored, &checks)
            {
                return Err(format!("I3: copy {copy}, {damage:?}"));
            }
        }
        self.walked.blocks += u64::from(is_new);
        Ok((is_new, lacking & !told_before, known))
    }
}

/// I9: whatever counts on a copy is in use in its freemap, and nothing overlaps.
fn freemap_superset(host: &TestHost<Bay>, walked: &Walked) -> Result<(), String> {
    let mut end = (0, 0);
    for ((copy, offset), Owner { len, .. }) in &walked.owners {
        if end.0 == *copy && end.1 > *offset {
            return Err(format!("I9: blocks overlap at {offset:#x} of copy {copy}"));
        }
        end = (*copy, offset + len);
    }
    let newest = host.volume().header().mirror_tid();
    for one in host.volume().group().map_or(&[][..], |group| group.headers()) {
        let header = &one.header;
        if header.freemap_tid() < newest {
            // it is made good for at the next opening
            continue;
        }
        let freemap = freemap_of(host, one)?;
        for ((_, offset), Owner { len, .. }) in
            walked.owners.range((one.copy, 0)..(one.copy + 1, 0))
        {
            let mut at = offset / CHUNK * CHUNK;
            while at < offset + len {
                if freemap.state(MediaOffset(at)) == Some(ChunkState::Free) {
                    return Err(format!("I9: {at:#x} of copy {} is in use and free", one.copy));
                }
                at += CHUNK;
            }
        }
    }
    Ok(())
}

fn freemap_of(host: &TestHost<Bay>, one: &CopyHeader) -> Result<Freemap, String> {
    let header = &one.header;
    let table = &header.raw().freemap_blockset;
    let (size, from) = (header.total_size(), header.allocator_beg());
    let mut freemap = Freemap::new(size, from, table, header.allocator_free(), 4)
        .map_err(|damage| format!("{damage:?}"))?;
    ready(load_freemap(host, one.copy, &mut freemap, u64::MAX))
        .map_err(|error| format!("{error:?}"))?;
    Ok(freemap)
}

/// Whether a copy has so little room, or so little of its freemap can be read, that nothing is
/// filled in.
///
/// # Errors
/// It cannot be opened.
pub fn is_starved(bay: &Bay, options: lineage::Options) -> Result<bool, String> {
    const ROOM: u64 = 6 << 20;
    let host = open(&bay.fork(), options)?;
    for one in host.volume().group().map_or(&[][..], |group| group.headers()) {
        if freemap_of(&host, one)?.counts().free_groups * (64 << 10) < ROOM {
            return Ok(true);
        }
    }
    Ok(false)
}

/// I10: a copy that is not in sync holds a root of its own that is whole, by itself. The copies in
/// `skip` are not looked at.
///
/// # Errors
/// Which does not.
pub fn fallback_roots(
    bay: &Bay,
    options: lineage::Options,
    skip: u8,
) -> Result<Vec<(u8, TestHost<Bay>)>, String> {
    let whole = open(&bay.fork(), options)?;
    let group = whole.volume().group().ok_or("no copies")?;
    let mut roots = Vec::new();
    for one in group.headers() {
        // one that never was in sync, or of which only the others know that it is, has no root yet
        let has_root = one.header.raw().sroot_blockset.iter().any(|raw| raw.kind != 0);
        if skip & 1 << one.copy != 0 || !has_root {
            continue;
        }
        let options = lineage::Options { only_copy: Some(one.copy), ..lineage::Options::default() };
        let alone = open(&bay.show(1 << one.copy).fork(), options)
            .map_err(|error| format!("I10: copy {} by itself: {error}", one.copy))?;
        let findings = dirt(&alone, a_header);
        if !findings.is_empty() {
            return Err(format!("I10: copy {} by itself: {findings:#?}", one.copy));
        }
        roots.push((one.copy, alone));
    }
    Ok(roots)
}
