//! Faults planted in sound volumes, with every check code put right again.

use farrier_core::drive::ready;
use farrier_core::drive::solo::Solo;
use farrier_core::error::{BlockKind, DeviceFault};
use farrier_core::media::blockref::{Blockref, slots};
use farrier_core::media::check::{CheckMethod, Checks, store};
use farrier_core::media::inode::{Inode, ObjectKind};
use farrier_core::media::raw::RawInode;
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;
use farrier_core::volume::OpenOptions;

use crate::images::shipped;
use crate::ram::RamDisk;

const DEVICE: DeviceIndex = DeviceIndex(0);
/// Distance of the header slots.
const STRIDE: u64 = 2 << 30;
const SUPER_ROOT_TABLE: u64 = 0x200;
/// The freemap's table in a header.
pub const FREEMAP_TABLE: u64 = 0x800;
/// The flags of a blockref.
pub const FLAGS: u64 = 0x05;
/// Its key.
pub const KEY: u64 = 0x08;
/// Its address.
pub const DATA_OFF: u64 = 0x20;
/// What is embedded in it.
pub const EMBED: u64 = 0x30;
/// Its check code.
const CHECK: u64 = 0x40;

/// Every blockref of a sound volume, and where it stands: parents before what is below them.
#[derive(Debug)]
pub struct Surgeon {
    /// The device.
    pub disk: RamDisk,
    /// Where the header in use lies.
    pub header: u64,
    /// Every blockref, and where it stands.
    pub refs: Vec<(u64, Blockref)>,
}

impl Surgeon {
    /// The shipped golden image `name`.
    ///
    /// # Panics
    /// It is no sound image of one volume.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let path = shipped(name).remove(0);
        let disk = RamDisk::with(std::fs::read(path).unwrap());
        let solo = ready(Solo::open(disk.clone(), OpenOptions::default(), 1 << 20)).unwrap();
        let header = u64::from(solo.volume().chosen_slot()) * STRIDE;
        let mut surgeon = Self { disk, header, refs: Vec::new() };
        for slot in 0..4 {
            surgeon.explore(header + SUPER_ROOT_TABLE + slot * 128);
            surgeon.explore(header + FREEMAP_TABLE + slot * 128);
        }
        surgeon
    }

    /// The same volume once more, to plant something else in.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { disk: self.disk.fork(), header: self.header, refs: self.refs.clone() }
    }

    /// Bytes of the device.
    ///
    /// # Panics
    /// Behind its end.
    #[must_use]
    pub fn get(&self, offset: u64, len: usize) -> Vec<u8> {
        self.read(offset, len).unwrap()
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, DeviceFault> {
        ready(self.disk.read(DEVICE, offset, len))
    }

    /// Plants bytes.
    pub fn put(&self, offset: u64, bytes: &[u8]) {
        self.disk.patch(offset, bytes);
    }

    fn explore(&mut self, at: u64) {
        let raw = self.get(at, 128);
        let Ok(Some(blockref)) = Blockref::parse(&slots(&raw)[0]) else { return };
        self.refs.push((at, blockref));
        let Some(location) = blockref.location() else { return };
        let block = self.get(location.offset.0, location.len());
        let table = match blockref.kind() {
            BlockKind::Indirect | BlockKind::FreemapNode => 0..block.len(),
            BlockKind::Inode if !Inode::parse(&block).unwrap().has_direct_data() => 0x200..0x400,
            _ => 0..0,
        };
        for slot in table.step_by(128) {
            self.explore(location.offset.0 + slot as u64);
        }
    }

    /// Puts every check code right, from the leaves up to the header, of what lies on the device.
    ///
    /// # Panics
    /// The header does not.
    pub fn mend(&self) {
        for (at, blockref) in self.refs.iter().rev() {
            let raw = self.get(*at, 128);
            // what was planted may have moved the block
            let Ok(Some(now)) = Blockref::parse(&slots(&raw)[0]) else { continue };
            let Some(location) = now.location() else { continue };
            let method = blockref.check_method();
            if method == CheckMethod::None {
                continue;
            }
            let Ok(bytes) = self.read(location.offset.0, location.len()) else { continue };
            let mut field: [u8; 64] = raw[64..].try_into().unwrap();
            if method == CheckMethod::Freemap {
                field[..4].copy_from_slice(&Checks::PORTABLE.crc32c(&bytes).to_le_bytes());
            } else {
                store(Checks::PORTABLE.compute(&bytes, method), &mut field);
            }
            self.put(at + CHECK, &field);
        }
        for (covered, at) in [(0x200..0x400, 0x1f8), (0..0x1fc, 0x1fc), (0..0xfffc, 0xfffc)] {
            let header = self.get(self.header, 65536);
            let code = Checks::PORTABLE.crc32c(&header[covered]);
            self.put(self.header + at, &code.to_le_bytes());
        }
    }

    /// The inode that a blockref refers to, and where it lies.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn inode(&self, blockref: &Blockref) -> Option<(u64, RawInode)> {
        let location = blockref.location().filter(|_| blockref.kind() == BlockKind::Inode)?;
        let block = self.get(location.offset.0, location.len());
        Some((location.offset.0, Inode::parse(&block).unwrap().raw().clone()))
    }

    /// Where inodes lie that `wanted` wants, behind where their blockrefs stand.
    pub fn inodes(&self, wanted: impl Fn(&Blockref, &RawInode) -> bool) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        for (at, blockref) in &self.refs {
            if let Some((offset, raw)) = self.inode(blockref)
                && wanted(blockref, &raw)
            {
                found.push((*at, offset));
            }
        }
        found
    }

    /// Roots of PFSs: where their blockrefs stand, and where they lie.
    #[must_use]
    pub fn roots(&self) -> Vec<(u64, u64)> {
        self.inodes(|blockref, _| blockref.is_pfs_root() && blockref.key() != 0)
    }

    /// Regular files, as [`roots`](Self::roots).
    #[must_use]
    pub fn files(&self) -> Vec<(u64, u64)> {
        let file = ObjectKind::Regular.code();
        self.inodes(|blockref, raw| !blockref.is_pfs_root() && raw.kind == file)
    }
}
