//! A volume takes in what its device grew by (media format 11.3).

use super::change::WriteHost;
use super::commit::{Flusher, flush};
use super::open::load_freemap;
use crate::error::Error;
use crate::media::header::HEADER_SLOTS;

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

/// Makes a file system of one volume as large as its device, which has `device_size` bytes. What is
/// in memory of the volume stays as it was: it has to be opened anew to use the space.
///
/// # Errors
/// [`Error::NotSupported`] for a file system of several volumes; [`Error::InvalidArgument`] if the
/// device is smaller than the volume; or the volume failed.
pub async fn grow<H: WriteHost>(
    host: &H,
    flusher: &mut Flusher,
    device_size: u64,
) -> Result<Grown, Error> {
    let raw = flusher.header().raw();
    let (version, from) = (raw.version.get(), raw.volu_size.get());
    if version > 1 && raw.nvolumes > 1 {
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
    load_freemap(host, 0, flusher.writer_mut().freemap_mut(), u64::MAX).await?;
    // all of it was loaded; a zone that cannot be is one that cannot be grown
    let freed = flusher.writer_mut().freemap_mut().grow(to).map_err(|_| Error::NotSupported)?;
    let raw = flusher.header_mut().raw_mut();
    raw.volu_size.set(to);
    // version 1 knows no total, and whoever sets one is refused everywhere
    if version > 1 {
        raw.total_size.set(to);
    }
    raw.allocator_size.set(raw.allocator_size.get().saturating_add(freed));
    // every slot, the new ones too, has a header of the new size then
    for _ in 0..HEADER_SLOTS {
        flush(host, flusher, true).await?;
    }
    Ok(Grown { from, to, freed })
}
