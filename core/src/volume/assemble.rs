//! Judging volume headers, and putting volumes together.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::group::Copies;
use super::headers::{Chosen, GotHeader, choose_each, find_super_root, judge};
use super::live::LiveCopies;
use crate::copies::lineage;
use crate::error::{BlockKind, Damage, DamageKind, HeaderFault, Place, Refusal};
use crate::media::blockref::{Blockref, Location, Seat};
use crate::media::check::Checks;
use crate::media::header::{Version, VolumeHeader};
use crate::units::{DeviceIndex, MediaOffset, Tid};

/// How to open.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// The arithmetic of check codes.
    pub checks: Checks,
    /// Accept a device that is shorter than its volume: what lies behind its end is reported as
    /// damage where it is met.
    pub allow_truncated: bool,
    /// Use this header copy of the root volume instead of the newest one.
    pub slot: Option<u8>,
    /// What the operator says about copies.
    pub copies: lineage::Options,
}

/// What was found in a header slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderSlot {
    /// On which device.
    pub device: DeviceIndex,
    /// Which copy, 0 to 3.
    pub slot: u8,
    /// Its transaction, or why it is not usable.
    pub state: Result<Tid, HeaderFault>,
    /// Whether it is the one in use.
    pub is_chosen: bool,
}

/// One volume of the file system and the device that it is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Its number.
    pub id: u8,
    /// The device.
    pub device: DeviceIndex,
    /// Where it starts in the logical address space.
    pub start: MediaOffset,
    /// Its size by its header.
    pub size: u64,
    /// Size of the device.
    pub device_size: u64,
}

/// How much a file system holds, as `statfs` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Bytes that can hold data.
    pub size_bytes: u64,
    /// Bytes of them that are free.
    pub free_bytes: u64,
}

/// An opened file system: read-only so far, and the same for ever.
#[derive(Clone, Debug)]
pub struct Volume {
    header: VolumeHeader,
    pieces: Vec<Piece>,
    slots: Vec<HeaderSlot>,
    super_root: Blockref,
    checks: Checks,
    copies: Option<Arc<Copies>>,
    live: Arc<LiveCopies>,
}

impl Volume {
    /// Puts a file system together from the header copies of its devices.
    ///
    /// `got` answers the requests of [`header_reads`](super::header_reads) for `device_sizes`, in any order. Devices may
    /// be given in any order.
    ///
    /// # Errors
    /// Why these devices are not one whole file system that we can read.
    pub fn assemble(
        device_sizes: &[u64],
        got: &[GotHeader],
        options: OpenOptions,
    ) -> Result<Self, Refusal> {
        Self::assemble_rooted(device_sizes, got, &[], options)
    }

    /// As [`Volume::assemble`], for devices of which the roots were looked at that
    /// [`root_reads`](super::root_reads) names. `rootless` are the header copies whose root is not what it has to be: an
    /// older one is used instead, as far as copies may do that.
    ///
    /// # Errors
    /// As [`Volume::assemble`].
    pub fn assemble_rooted(
        device_sizes: &[u64],
        got: &[GotHeader],
        rootless: &[(DeviceIndex, u8)],
        options: OpenOptions,
    ) -> Result<Self, Refusal> {
        let candidates = judge(got, &options.checks);
        let (mut chosen, unknown) = choose_each(device_sizes, &candidates, rootless, &options)?;
        let copies = match chosen.iter().any(|one| one.header.version() == Version::Copies) {
            true => Some(Copies::judge(&mut chosen, &unknown, &options)?),
            false => None,
        };
        let pieces = match &copies {
            Some(_) => chosen.iter().map(Chosen::piece).collect(),
            None => fit_together(&mut chosen)?,
        };
        if !options.allow_truncated
            && let Some(piece) = pieces.iter().find(|piece| piece.size > piece.device_size)
        {
            let Piece { device, device_size: size, size: need, .. } = *piece;
            return Err(Refusal::Truncated { device, size, need });
        }
        let slots = candidates
            .iter()
            .map(|candidate| HeaderSlot {
                device: candidate.device,
                slot: candidate.slot,
                state: candidate.header.as_ref().map(VolumeHeader::mirror_tid).map_err(|e| *e),
                is_chosen: chosen
                    .iter()
                    .any(|one| one.device == candidate.device && one.slot == candidate.slot),
            })
            .collect();
        let root = chosen.swap_remove(0);
        let super_root = find_super_root(&root.header)?;
        let copies = copies.map(Arc::new);
        let live = copies
            .as_ref()
            .map_or_else(|| Arc::new(LiveCopies::none()), |copies| Arc::clone(copies.live()));
        let (header, checks) = (root.header, options.checks);
        Ok(Self { header, pieces, slots, super_root, checks, copies, live })
    }

    /// The header in use.
    #[must_use]
    pub const fn header(&self) -> &VolumeHeader {
        &self.header
    }

    /// Its volumes, in order of their place in the address space.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The copies that it consists of, if it is a volume of copies.
    #[must_use]
    pub fn copies(&self) -> Option<&LiveCopies> {
        Some(&*self.live).filter(|live| live.is_on())
    }

    /// What everybody shares who reads and writes copies, also of a volume that has none yet.
    #[must_use]
    pub const fn live(&self) -> &Arc<LiveCopies> {
        &self.live
    }

    /// The copy whose freemap and header are meant where only one can be; `None` on a volume
    /// without copies.
    #[must_use]
    pub fn home(&self) -> Option<u8> {
        self.copies().map(LiveCopies::master)
    }

    /// A copy, with what has to be known to tell what lies there; `None` on a volume without copies.
    #[must_use]
    pub fn seat(&self, copy: Option<u8>) -> Option<Seat> {
        let plain = self.copies()?.plain();
        copy.map(|copy| Seat { copy, plain })
    }

    /// All that was found about its copies when it was opened, if it was a volume of copies then.
    #[must_use]
    pub fn group(&self) -> Option<&Copies> {
        self.copies.as_deref()
    }

    /// The devices that are written to.
    #[must_use]
    pub fn written_devices(&self) -> Vec<DeviceIndex> {
        match self.copies() {
            None => self.pieces.iter().map(|piece| piece.device).collect(),
            Some(live) => {
                let written = live.written();
                let copies = (0..8).filter(|copy| written & 1 << copy != 0);
                copies.filter_map(|copy| live.device(copy)).collect()
            }
        }
    }

    /// Where `len` bytes at `offset` of `copy` lie.
    ///
    /// # Errors
    /// Outside of the copy, or behind the end of its device; the copy is not there.
    pub fn on_copy(
        &self,
        copy: u8,
        offset: MediaOffset,
        len: usize,
    ) -> Result<(DeviceIndex, u64), Damage> {
        let place = Place { kind: BlockKind::Volume, offset: Some(offset), key: 0 };
        let damage = |kind| Damage::new(place, kind);
        let live = self.copies();
        let device = live.and_then(|live| live.device(copy));
        let device = device.ok_or_else(|| damage(DamageKind::NoCopy))?;
        let added = live.and_then(|live| live.added_sizes(copy));
        let piece = || self.pieces.iter().find(|piece| piece.device == device);
        let sizes = added.or_else(|| piece().map(|piece| (piece.size, piece.device_size)));
        let (size, device_size) = sizes.ok_or_else(|| damage(DamageKind::NoCopy))?;
        let end = offset.0.saturating_add(len as u64);
        if end > size {
            return Err(damage(DamageKind::OutsideVolume));
        }
        if end > device_size {
            return Err(damage(DamageKind::BehindDevice));
        }
        Ok((device, offset.0))
    }

    /// Every header slot that a device has room for.
    #[must_use]
    pub fn header_slots(&self) -> &[HeaderSlot] {
        &self.slots
    }

    /// Blockref of the super-root, where everything starts.
    #[must_use]
    pub const fn super_root(&self) -> Blockref {
        self.super_root
    }

    /// Size and free space, by the volume header.
    ///
    /// Growing a volume with other tools makes them count its new space twice, so what is free is
    /// cut to what there is. The exact count is in the freemap.
    #[must_use]
    pub fn space(&self) -> Space {
        let size_bytes = self.header.allocator_size();
        Space { size_bytes, free_bytes: self.header.allocator_free().min(size_bytes) }
    }

    /// The slot of the root volume that the header in use was found in.
    #[must_use]
    pub fn chosen_slot(&self) -> u8 {
        let root = self.root_device();
        let chosen = self.slots.iter().find(|slot| slot.is_chosen && slot.device == root);
        chosen.map_or(0, |slot| slot.slot)
    }

    /// The device of the root volume.
    #[must_use]
    pub fn root_device(&self) -> DeviceIndex {
        self.pieces.first().map_or(DeviceIndex(0), |piece| piece.device)
    }

    /// The arithmetic of check codes.
    #[must_use]
    pub const fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Where a block lies: on which device, and at which offset there.
    ///
    /// # Errors
    /// Outside of every volume, or behind the end of a truncated device.
    pub fn locate(&self, location: Location, place: Place) -> Result<(DeviceIndex, u64), Damage> {
        let named = |damage: Damage| Damage::new(place, damage.kind);
        self.place_of(location.offset, location.len()).map_err(named)
    }

    /// Where `len` bytes at `offset` of the address space lie, to write them.
    ///
    /// # Errors
    /// Outside of every volume, or behind the end of a truncated device.
    pub fn place_of(&self, offset: MediaOffset, len: usize) -> Result<(DeviceIndex, u64), Damage> {
        let place = Place { kind: BlockKind::Volume, offset: Some(offset), key: 0 };
        let damage = |kind| Damage::new(place, kind);
        let piece = self.pieces.iter().rfind(|piece| piece.start <= offset);
        let piece = piece.ok_or_else(|| damage(DamageKind::OutsideVolume))?;
        let at = offset.0 - piece.start.0;
        let end = at.saturating_add(len as u64);
        if end > piece.size {
            return Err(damage(DamageKind::OutsideVolume));
        }
        if end > piece.device_size {
            return Err(damage(DamageKind::BehindDevice));
        }
        Ok((piece.device, at))
    }

    /// How a message names the header itself.
    #[must_use]
    pub const fn place() -> Place {
        Place { kind: BlockKind::Volume, offset: None, key: 0 }
    }
}

impl Chosen {
    /// The volume as far as it lies on this device, which is all of it.
    fn piece(&self) -> Piece {
        Piece {
            id: self.header.volume_id(),
            device: self.device,
            start: MediaOffset(0),
            size: self.header.volume_size(),
            device_size: self.device_size,
        }
    }
}

/// Sorts the volumes by number and checks that they are all of one file system.
fn fit_together(chosen: &mut [Chosen]) -> Result<Vec<Piece>, Refusal> {
    if let [first, rest @ ..] = &chosen[..]
        && let Some(other) = rest.iter().find(|one| one.header.fsid() != first.header.fsid())
    {
        return Err(Refusal::Mixed { device: other.device });
    }
    chosen.sort_by_key(|one| (one.header.volume_id(), one.device));
    if let Some(pair) =
        chosen.windows(2).find(|pair| pair[0].header.volume_id() == pair[1].header.volume_id())
    {
        let volume = pair[1].header.volume_id();
        return Err(Refusal::SameVolume { device: pair[1].device, volume });
    }
    // Ids are below the count in each header, so the first gap is the first missing volume.
    let need = chosen.iter().map(|one| one.header.volume_count()).max().unwrap_or(1);
    let gap = (0..need).find(|id| chosen.iter().all(|one| one.header.volume_id() != *id));
    if let Some(missing) = gap {
        let given = u8::try_from(chosen.len()).unwrap_or(u8::MAX);
        return Err(Refusal::MissingVolumes { need, given, missing });
    }
    let mut end = 0;
    let root = &chosen[0].header;
    let mut pieces = Vec::with_capacity(chosen.len());
    for one in chosen.iter() {
        let header = &one.header;
        let start = root.volume_start(header.volume_id());
        let agrees = header.version() == root.version()
            && header.volume_count() == root.volume_count()
            && header.total_size() == root.total_size()
            && header.volume_start(header.volume_id()) == start;
        let Some(start) = start.filter(|start| agrees && start.0 == end) else {
            return Err(Refusal::Geometry { device: one.device });
        };
        // parse() keeps start + size within the total
        end = start.0 + header.volume_size();
        pieces.push(Piece {
            id: header.volume_id(),
            device: one.device,
            start,
            size: header.volume_size(),
            device_size: one.device_size,
        });
    }
    if end == root.total_size() {
        Ok(pieces)
    } else {
        Err(Refusal::Geometry { device: chosen[0].device })
    }
}
