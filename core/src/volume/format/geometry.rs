//! Where the volumes, the areas and the first blocks of a new file system lie (media format 1.1,
//! 1.3, 1.5).
//!
//! What [`Geometry::of`] returns adds up: every volume is larger than the reserve of its start, the
//! areas end within the root volume and the first zone, and the total fits a signed number.

use alloc::vec::Vec;

use super::refusal::{Area, FormatRefusal};
use super::{FormatOptions, FormattedVolume};
use crate::media::header::{VOLUMES_MAX, Version};
use crate::media::{SEGMENT_LEN, ZONE_LEN, ZONE_RESERVED_LEN};
use crate::units::{DeviceIndex, MediaOffset};

/// Sizes of a new file system, in bytes.
pub(super) struct Geometry {
    pub(super) volumes: Vec<FormattedVolume>,
    pub(super) total: u64,
    pub(super) boot_end: u64,
    /// End of the auxiliary area: here stands the block with the super-root.
    pub(super) aux_end: u64,
}

impl Geometry {
    pub(super) fn of(options: &FormatOptions) -> Result<Self, FormatRefusal> {
        let volumes = volumes(options)?;
        let total = volumes.iter().map(|volume| volume.size).sum();
        let boot = area(Area::Boot, options.boot_size, total)?;
        let aux = area(Area::Aux, options.aux_size, total)?;
        let boot_end = ZONE_RESERVED_LEN + boot;
        let aux_end = boot_end + aux;
        if aux_end >= ZONE_LEN {
            return Err(FormatRefusal::AreasTooLarge { boot, aux });
        }
        let root = volumes.first().map_or(0, |volume| volume.size);
        if aux_end >= root {
            let need = (aux_end + 1).next_multiple_of(VOLUME_UNIT);
            return Err(FormatRefusal::TooSmall { device: DeviceIndex(0), size: root, need });
        }
        Ok(Self { volumes, total, boot_end, aux_end })
    }

    /// Data space as a header tells it: without the reserve of each zone and the areas.
    pub(super) const fn allocator_size(&self) -> u64 {
        let zones = self.total.div_ceil(ZONE_LEN);
        self.total - ZONE_RESERVED_LEN * zones - (self.aux_end - ZONE_RESERVED_LEN)
    }

    /// What of it can be allocated: the segment with the super-root cannot.
    pub(super) const fn usable(&self) -> u64 {
        self.allocator_size() - SEGMENT_LEN
    }
}

fn volumes(options: &FormatOptions) -> Result<Vec<FormattedVolume>, FormatRefusal> {
    let sizes = &options.device_sizes;
    if sizes.is_empty() {
        return Err(FormatRefusal::NoDevices);
    }
    if sizes.len() > VOLUMES_MAX {
        return Err(FormatRefusal::TooManyDevices { count: sizes.len() });
    }
    if sizes.len() > 1 && options.version == Version::V1 {
        return Err(FormatRefusal::SeveralVolumes);
    }
    let have = sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
    let mut limit = options.size_max.unwrap_or(u64::MAX);
    if options.size_max.is_some() && limit > have {
        return Err(FormatRefusal::BeyondDevices { wanted: limit, have });
    }
    let mut start = 0_u64;
    let mut volumes = Vec::with_capacity(sizes.len());
    for (index, &device_size) in (0_u8..).zip(sizes) {
        let device = DeviceIndex(index);
        let is_last = usize::from(index) + 1 == sizes.len();
        let (unit, need) = match (is_last, index) {
            (false, _) => (ZONE_LEN, ZONE_LEN),
            (true, 0) => (VOLUME_UNIT, ROOT_SIZE_MIN),
            (true, _) => (VOLUME_UNIT, VOLUME_UNIT),
        };
        let size = device_size.min(if is_last { limit } else { u64::MAX }) / unit * unit;
        if size < need {
            // the device itself may be large enough, where a limit says less
            return Err(if device_size < need || options.size_max.is_none() || index == 0 {
                FormatRefusal::TooSmall { device, size: device_size.min(limit), need }
            } else {
                FormatRefusal::LimitLeavesOut { device, need: start.saturating_add(need) }
            });
        }
        limit = limit.saturating_sub(size);
        volumes.push(FormattedVolume { device, start: MediaOffset(start), size, device_size });
        start = start
            .checked_add(size)
            .filter(|end| *end <= TOTAL_MAX)
            .ok_or(FormatRefusal::TooLarge)?;
    }
    Ok(volumes)
}

/// Size of an area: as asked for, or by its rule.
fn area(area: Area, wanted: Option<u64>, total: u64) -> Result<u64, FormatRefusal> {
    let Some(size) = wanted else {
        let mut size = area.default_size();
        while size > total / 20 {
            size >>= 1;
        }
        return Ok(size.max(VOLUME_UNIT).next_multiple_of(VOLUME_UNIT));
    };
    if (VOLUME_UNIT..=area.max_size()).contains(&size) && size.is_multiple_of(VOLUME_UNIT) {
        Ok(size)
    } else {
        Err(FormatRefusal::AreaSize { area, size })
    }
}

/// The last volume, and each area, is a multiple of this.
const VOLUME_UNIT: u64 = 8 << 20;
/// Reserve, both areas at their smallest, and a unit with the super-root.
const ROOT_SIZE_MIN: u64 = 24 << 20;
const TOTAL_MAX: u64 = i64::MAX.cast_unsigned();
