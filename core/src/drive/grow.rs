//! A volume takes in what its device grew by (media format 11.3).

use super::change::WriteHost;
use super::commit::{Flusher, flush};
use super::finish::Lineage;
use super::open::load_freemap;
use crate::error::Error;
use crate::flush::HeaderWriter;
use crate::freemap::Freemap;
use crate::media::header::{HEADER_SLOTS, Version};

/// A volume ends at a multiple of this, 8 MiB.
const VOLUME_ALIGN: u64 = 8 << 20;

/// What growing came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grown {
    /// Size before, in bytes.
    pub from: u64,
    /// Size now.
    pub to: u64,
    /// Bytes that came free.
    pub freed: u64,
}

/// Makes a file system of one volume as large as its device, which has `device_size` bytes; of a
/// volume of copies, `copy`, whose device that is. What is in memory of the volume stays as it was:
/// it has to be opened anew to use the space.
///
/// # Errors
/// [`Error::NotSupported`] for a file system of several volumes, and for a copy that is not written
/// to; [`Error::InvalidArgument`] if the device is smaller than the volume; or the volume failed.
pub async fn grow<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    copy: u8,
    device_size: u64,
) -> Result<Grown, Error> {
    let raw = header_of(flusher, copy)?.raw_mut();
    let (version, from) = (raw.version.get(), raw.volu_size.get());
    // version 1 and copies know no total, and whoever sets one is refused everywhere
    let has_total = version == Version::V2.number();
    if has_total && raw.nvolumes > 1 {
        return Err(Error::NotSupported);
    }
    let to = device_size / VOLUME_ALIGN * VOLUME_ALIGN;
    if to < from {
        return Err(Error::InvalidArgument);
    }
    if to == from {
        return Ok(Grown { from, to, freed: 0 });
    }
    flush(host, flusher, false).await?;
    let own = |of: &(u8, &mut Freemap)| of.0 == copy;
    let (_, freemap) = flusher.writer.freemaps_mut().find(own).ok_or(Error::NotSupported)?;
    load_freemap(host, copy, freemap, u64::MAX).await?;
    // all of it was loaded; a zone that cannot be is one that cannot be grown
    let freed = freemap.grow(to).map_err(|_| Error::NotSupported)?;
    let live = flusher.lineage.as_ref().map(Lineage::live);
    if let Some((live, device)) = live.and_then(|live| Some((live, live.device(copy)?))) {
        // the freemap may put its blocks into what is new
        live.place(copy, device, to, device_size);
    }
    let raw = header_of(flusher, copy)?.raw_mut();
    raw.volu_size.set(to);
    if has_total {
        raw.total_size.set(to);
    }
    raw.allocator_size.set(raw.allocator_size.get().saturating_add(freed));
    // every slot, the new ones too, has a header of the new size then
    for _ in 0..HEADER_SLOTS {
        flush(host, flusher, true).await?;
    }
    Ok(Grown { from, to, freed })
}

fn header_of(flusher: &mut Flusher, copy: u8) -> Result<&mut HeaderWriter, Error> {
    let own = flusher.headers.iter_mut().find(|(of, _)| *of == copy);
    own.map(|(_, header)| header).ok_or(Error::NotSupported)
}
