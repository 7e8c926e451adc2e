//! A volume of copies that is in use, beside what it should hold.

use farrier_core::copies::CopyState;
use farrier_core::drive::change::Origin;
use farrier_core::drive::{Host as _, ready};
use farrier_core::engine::Want;
use farrier_core::error::BlockKind;
use farrier_core::fs::{New, Pfs};
use farrier_core::media::addresses::Addresses;
use farrier_core::media::blockref::{Blockref, slots};
use farrier_core::media::header::Version;
use farrier_core::media::inode::{CONTENT_START, Inode};
use farrier_core::storage::Storage as _;
use farrier_core::units::{DeviceIndex, Inum, Uuid, WallTime};
use farrier_core::volume::{FormatOptions, LiveCopies, OpenOptions, format};

use crate::against::{compare, compare_media};
use crate::model::{Creation, Model};
use crate::ops::{Op, Random, Swarm, apply};
use crate::rack::Rack;
use crate::session::nothing;
use crate::writing::WritingHost;

const LABEL: &str = "DATA";
const START: u64 = 1_700_000_000_000_000;
/// A few blocks: nearly everything is read from the disks.
const CACHE: usize = 64 << 10;

/// Makes a file system with a copy on each disk that `rack` shows.
///
/// # Panics
/// It cannot be made.
pub fn format_copies(rack: &Rack) {
    format_copies_named(rack, 0);
}

/// As [`format_copies`], with ids that only who says the same `name` gets.
///
/// # Panics
/// It cannot be made.
pub fn format_copies_named(rack: &Rack, name: u8) {
    let count = u8::try_from(rack.device_count()).expect("a few disks");
    let sizes = (0..count).map(|index| rack.size(DeviceIndex(index))).collect();
    let mut number = name;
    let options = FormatOptions {
        version: Version::Copies,
        ..FormatOptions::new(sizes, WallTime(1_600_000_000_000_000))
    };
    let formatted = format(&options, |bytes| {
        number += 1;
        bytes.fill(number);
    });
    ready(farrier_core::drive::format(rack, &formatted.expect("sizes that will do")))
        .expect("disks that work");
}

/// A block of a tree.
#[derive(Clone, Copy, Debug)]
pub struct TreeBlock {
    /// What refers to it.
    pub blockref: Blockref,
    /// How it is asked for.
    pub want: Want,
    /// Where it lies.
    pub addresses: Addresses,
    /// It is the super-root or the root of a PFS.
    pub is_root: bool,
}

impl TreeBlock {
    /// Its length on media.
    #[must_use]
    pub fn len(&self) -> usize {
        self.want.location().len()
    }

    /// Never.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// A mounted volume and what it should hold.
#[derive(Debug)]
pub struct Mounted {
    /// The volume.
    pub host: WritingHost<Rack>,
    /// Its PFS.
    pub pfs: Pfs,
    /// What was done.
    pub model: Model,
    /// What was committed.
    pub committed: Model,
    /// Operations so far.
    pub time: u64,
}

/// Copies on disks of these sizes, mounted, after `count` things were done and committed, so many
/// `times`.
///
/// # Panics
/// That cannot be done.
#[must_use]
pub fn used(sizes: &[u64], (times, count): (u64, u64), seed: u64) -> (Rack, Mounted, Random) {
    let rack = Rack::new(sizes);
    format_copies(&rack);
    let mut mounted = Mounted::open(&rack, None, 0);
    let mut random = Random::new(seed);
    for _ in 0..times {
        mounted.work(&mut random, count).expect("it works");
    }
    (rack, mounted, random)
}

impl Mounted {
    /// Mounts the disks that `rack` shows, with nothing on them or what `model` says.
    ///
    /// # Panics
    /// They cannot be mounted.
    #[must_use]
    pub fn open(rack: &Rack, model: Option<Model>, time: u64) -> Self {
        Self::open_with(rack, model, time, OpenOptions::default())
    }

    /// As [`Mounted::open`], opened as `options` say.
    ///
    /// # Panics
    /// As [`Mounted::open`].
    #[must_use]
    pub fn open_with(rack: &Rack, model: Option<Model>, time: u64, options: OpenOptions) -> Self {
        let host = WritingHost::with(rack.clone(), options, CACHE).expect("it can be opened");
        let mut id = [0; 16];
        id[8..].copy_from_slice(&(time + 1).to_le_bytes());
        host.set_origin(Origin { id, host: Uuid([7; 16]), time: WallTime(START + time) });
        let pfs = host.open_pfs(LABEL).expect("it has that PFS");
        let model = model.unwrap_or_else(|| {
            let root = farrier_core::fs::GetAttributes { pfs, inum: Inum::ROOT };
            Model::new(host.run(&root).expect("it has a root"))
        });
        Self { host, pfs, committed: model.clone(), model, time }
    }

    /// The same disks, mounted anew; what was not committed is lost.
    #[must_use]
    pub fn again(self, rack: &Rack) -> Self {
        let (committed, time) = (self.committed.settled(), self.time);
        drop(self.host);
        Self::open(rack, Some(committed), time)
    }

    /// Makes an empty file in the root: its number.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn new_file(&mut self, name: &[u8]) -> u64 {
        let creation = Creation {
            directory: Inum::ROOT.0,
            name: name.to_vec(),
            new: New::File,
            mode: 0o644,
            uid: 1000,
            gid: 1000,
        };
        self.apply(&Op::Create(creation)).expect("a new name");
        self.model.get(Inum::ROOT.0).expect("the root").names[name]
    }

    /// Does one thing.
    ///
    /// # Errors
    /// It was not done as the model did it.
    pub fn apply(&mut self, op: &Op) -> Result<(), String> {
        self.time += 1;
        match op {
            Op::Flush { always } => {
                self.host.flush_always(*always).map_err(|error| format!("a flush: {error:?}"))?;
                self.committed = self.model.settled();
            }
            Op::Remount => {}
            op => {
                apply(&self.host, self.pfs, &mut self.model, op, START + self.time * 1000)?;
            }
        }
        Ok(())
    }

    /// Commits.
    ///
    /// # Errors
    /// It could not be done.
    pub fn flush(&mut self) -> Result<(), String> {
        self.apply(&Op::Flush { always: true })
    }

    /// Does `count` things of all kinds and commits.
    ///
    /// # Errors
    /// As [`Mounted::apply`].
    pub fn work(&mut self, random: &mut Random, count: u64) -> Result<(), String> {
        let swarm = Swarm::new(random);
        for _ in 0..count {
            let op = swarm.next(random, &self.model);
            self.apply(&op)?;
        }
        self.flush()
    }

    /// Everything can be read and is as the model says.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self) -> Result<(), String> {
        compare(&self.host, self.pfs, &self.model, true)
    }

    /// What each slot of the group is.
    ///
    /// # Panics
    /// The volume has no copies.
    #[must_use]
    pub fn states(&self) -> Vec<CopyState> {
        self.host.with_flusher(|flusher| {
            let lineage = flusher.and_then(|flusher| flusher.lineage()).expect("it has copies");
            lineage.group().slots.iter().map(|slot| slot.state).collect()
        })
    }

    /// Every block of the trees as of the last commit, each once.
    ///
    /// # Panics
    /// One cannot be read.
    #[must_use]
    pub fn blocks(&self) -> Vec<TreeBlock> {
        self.walk(true)
    }

    /// As [`blocks`](Self::blocks), one that is referred to several times as often.
    ///
    /// # Panics
    /// As that.
    #[must_use]
    pub fn references(&self) -> Vec<TreeBlock> {
        self.walk(false)
    }

    fn walk(&self, is_once: bool) -> Vec<TreeBlock> {
        let root = self.host.with_memory(|memory| *memory.super_root());
        let commits = self.host.with_memory(farrier_core::dirty::Memory::commits);
        let mut stack = vec![(root, true, true)];
        let mut blocks: Vec<TreeBlock> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        let plain = self.host.volume().copies().map_or(0, LiveCopies::plain);
        while let Some((blockref, is_root, is_super)) = stack.pop() {
            let Some(want) = Want::of(&blockref) else { continue };
            let addresses =
                Addresses::of(blockref.raw()).expect("a volume of copies").settled(plain);
            if !seen.insert(addresses.lowest()) && is_once {
                continue;
            }
            blocks.push(TreeBlock { blockref, want: want.known_at(commits), addresses, is_root });
            let block = match blockref.kind() {
                BlockKind::Inode | BlockKind::Indirect => {
                    ready(self.host.fetch(&want)).expect("a sound volume")
                }
                _ => continue,
            };
            let table = match blockref.kind() {
                BlockKind::Inode if Inode::parse(&block).expect("sound").has_direct_data() => {
                    continue;
                }
                BlockKind::Inode => &block[CONTENT_START..],
                _ => &block[..],
            };
            for raw in slots(table) {
                if let Some(below) = Blockref::parse(raw).expect("sound") {
                    // the super-root's table needs no indirect blocks here
                    stack.push((below, is_super, false));
                }
            }
        }
        blocks
    }
}

/// Each of `disks` alone holds what was committed.
///
/// # Errors
/// The first difference.
pub fn each_holds(rack: &Rack, disks: &[u8], committed: &Model) -> Result<(), String> {
    for disk in disks {
        let alone = rack.fork().show(&[*disk]);
        compare_media(&alone, LABEL, committed, nothing)
            .map_err(|error| format!("disk {disk} alone: {error}"))?;
    }
    Ok(())
}
