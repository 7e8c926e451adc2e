//! A new file system of several copies: the same on every device, but for sizes and names.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::geometry::Geometry;
use super::{
    FIRST_TID, FormatOptions, FormatRefusal, FormatStep, Formatted, Header, LOCAL, Roots, Uuids,
    clear, forget_former, slots, write,
};
use crate::media::ZONE_RESERVED_LEN;
use crate::media::copy_group::{COPIES_MAX, Cause, CopyGroup, CopyState, Epoch, EpochId};
use crate::media::inode::INODE_LEN;
use crate::units::{DeviceIndex, Tid, Uuid};

/// Works it out. All copies have boot and auxiliary areas of one size, so that what is written
/// first has the same place on all of them.
pub(super) fn format(
    options: &FormatOptions,
    random: &mut dyn FnMut(&mut [u8; 16]),
) -> Result<Formatted, FormatRefusal> {
    let count = options.device_sizes.len();
    if count > COPIES_MAX {
        return Err(FormatRefusal::TooManyDevices { count });
    }
    let geometries = geometries(options)?;
    let mut uuids = Uuids { random, given: Vec::new() };
    let fsid = uuids.next()?;
    let mut labels = vec![LOCAL.to_vec()];
    labels.extend_from_slice(&options.labels);
    let smallest =
        geometries.iter().min_by_key(|geometry| geometry.total).ok_or(FormatRefusal::NoDevices)?;
    let copies = u8::try_from(count).unwrap_or(u8::MAX);
    let roots = Roots { options, geometry: smallest, copies: Some(copies) };
    let (inodes, super_root) = roots.block(&labels, &mut uuids)?;
    let inodes: Arc<[u8]> = inodes.into();
    let group = group(options, copies, &mut uuids)?;

    let mut steps = Vec::new();
    for geometry in &geometries {
        forget_former(geometry, &mut steps);
    }
    steps.push(FormatStep::Barrier);
    for (geometry, device) in geometries.iter().zip(0..) {
        clear(options, geometry, &mut steps);
        steps.push(write(DeviceIndex(device), geometry.aux_end, Arc::clone(&inodes)));
    }
    steps.push(FormatStep::Barrier);
    let first_free = smallest.aux_end + (INODE_LEN * (1 + labels.len())) as u64;
    for (geometry, slot) in geometries.iter().zip(0..) {
        let Some(group) = group.for_slot(slot) else { continue };
        let header = Header { options, geometry, fsid, group: Some(&group) };
        for volume in &geometry.volumes {
            let header: Arc<[u8]> = header.bytes(volume, first_free, &super_root).into();
            for offset in slots(volume.size) {
                steps.push(write(volume.device, offset, Arc::clone(&header)));
            }
        }
    }
    steps.push(FormatStep::Barrier);
    Ok(Formatted {
        steps,
        version: options.version,
        fsid,
        labels,
        boot_area: (ZONE_RESERVED_LEN, smallest.boot_end),
        aux_area: (smallest.boot_end, smallest.aux_end),
        total_size: smallest.total,
        usable_size: smallest.usable(),
        volumes: geometries.into_iter().flat_map(|geometry| geometry.volumes).collect(),
    })
}

/// The layout of each copy.
fn geometries(options: &FormatOptions) -> Result<Vec<Geometry>, FormatRefusal> {
    let least = options.device_sizes.iter().copied().min().ok_or(FormatRefusal::NoDevices)?;
    let of = |size: u64, boot: Option<u64>, aux: Option<u64>| {
        Geometry::of(&FormatOptions {
            device_sizes: vec![size],
            boot_size: boot,
            aux_size: aux,
            ..options.clone()
        })
    };
    let smallest = of(least, options.boot_size, options.aux_size)?;
    let boot = Some(smallest.boot_end - ZONE_RESERVED_LEN);
    let aux = Some(smallest.aux_end - smallest.boot_end);
    options
        .device_sizes
        .iter()
        .zip(0..)
        .map(|(size, device)| {
            let mut geometry = of(*size, boot, aux)?;
            for volume in &mut geometry.volumes {
                volume.device = DeviceIndex(device);
            }
            Ok(geometry)
        })
        .collect()
}

/// All of them in sync, in the first epoch.
fn group(
    options: &FormatOptions,
    copies: u8,
    uuids: &mut Uuids<'_>,
) -> Result<CopyGroup, FormatRefusal> {
    let epoch = Epoch {
        id: EpochId(uuids.next()?.0),
        parent: EpochId::NONE,
        seq: 1,
        start_tid: Tid(FIRST_TID),
        members: (1 << copies) - 1,
        cause: Cause::Created,
        host: Uuid::default(),
        time: options.now,
    };
    let name = uuids.next()?;
    let mut group = CopyGroup::new(name, uuids.next()?, epoch);
    for (slot, number) in group.slots.iter_mut().zip(0..copies) {
        if number > 0 {
            (slot.device, slot.state) = (uuids.next()?, CopyState::InSync);
        }
        slot.barrier_tid = Tid(FIRST_TID);
    }
    Ok(group)
}
