//! Single blocks and headers, between a storage and whoever wants or made them: which device, and what
//! to do if it fails.

use alloc::vec::Vec;

use crate::engine::{Block, Want};
use crate::error::{Damage, DamageKind, DeviceFault, DeviceOp, Error};
use crate::flush::Piece;
use crate::storage::Storage;
use crate::units::MediaOffset;
use crate::volume::{CopyEvent, LiveCopies, Volume};

/// A block, and the copies that could not give it.
#[derive(Clone, Debug)]
pub struct Got<T> {
    /// What was wanted.
    pub block: T,
    /// Copies whose block there is not what it has to be, and where.
    pub bad: Vec<(u8, MediaOffset)>,
}

/// Reads, checks and expands one block.
///
/// # Errors
/// The device's fault, or why the block is not the one that was wanted.
pub async fn read_block<S: Storage>(
    volume: &Volume,
    storage: &S,
    want: &Want,
) -> Result<Block, Error> {
    Ok(read_any(volume, storage, want).await?.block)
}

/// As [`read_block`], and says which copies have to be healed.
///
/// # Errors
/// As [`read_block`], of the first copy, where none has the block.
pub async fn read_any<S: Storage>(
    volume: &Volume,
    storage: &S,
    want: &Want,
) -> Result<Got<Block>, Error> {
    let admit = |stored| want.admit(stored, volume.checks());
    read_with(volume, storage, want, admit).await
}

/// The block as it is stored: checked, but not expanded. With the copies that have to be healed.
///
/// # Errors
/// As [`read_any`].
pub async fn read_stored<S: Storage>(
    volume: &Volume,
    storage: &S,
    want: &Want,
) -> Result<Got<Vec<u8>>, Error> {
    read_with(volume, storage, want, |stored| want.check(stored, volume.checks())).await
}

async fn read_with<S: Storage, T>(
    volume: &Volume,
    storage: &S,
    want: &Want,
    admit: impl Fn(Vec<u8>) -> Result<T, Damage>,
) -> Result<Got<T>, Error> {
    let len = want.location().len();
    let Some(live) = volume.copies() else {
        let (device, offset) = volume.locate(want.location(), want.place())?;
        let block = admit(storage.read(device, offset, len).await?)?;
        return Ok(Got { block, bad: Vec::new() });
    };
    let mut failed: Option<Error> = None;
    let mut bad = Vec::new();
    for (copy, device, offset) in live.to_ask(want) {
        // what is known to be bad was counted then
        let counts = !want.is_trial() && !live.is_bad(copy, offset);
        let error = match volume.on_copy(copy, offset, len) {
            Err(damage) => Error::from(damage),
            Ok(_) => match storage.read(device, offset.0, len).await {
                Err(fault) => {
                    count_if(counts, live, copy, CopyEvent::Read);
                    bad.push((copy, offset));
                    fault.into()
                }
                Ok(stored) => match admit(stored) {
                    Ok(block) => {
                        live.note_good(copy);
                        return Ok(Got { block, bad });
                    }
                    Err(damage) => {
                        count_if(counts, live, copy, CopyEvent::Check);
                        bad.push((copy, offset));
                        damage.into()
                    }
                },
            },
        };
        failed.get_or_insert(error);
    }
    Err(failed.unwrap_or_else(|| Damage::new(want.place(), DamageKind::NoCopy).into()))
}

fn count_if(counts: bool, live: &LiveCopies, copy: u8, event: CopyEvent) {
    if counts {
        live.count(copy, event);
    }
}

/// Writes a piece where it belongs. On a volume with copies a device that fails is no error: its
/// copy is lost, and what is written to a lost copy goes nowhere.
///
/// # Errors
/// The device's fault, or the piece belongs nowhere.
pub async fn write_piece<S: Storage>(
    volume: &Volume,
    storage: &S,
    piece: &Piece,
) -> Result<(), Error> {
    let (device, offset) = match volume.copies() {
        Some(live) if !is_written(live, piece.copy) => return Ok(()),
        Some(_) => volume.on_copy(piece.copy, piece.offset, piece.bytes.len())?,
        None => volume.place_of(piece.offset, piece.bytes.len())?,
    };
    volume.absorb(device, storage.write(device, offset, &piece.bytes).await)
}

/// Writes a piece where it belongs on its copy. That the device fails is for the caller to judge:
/// nothing is lost by it.
///
/// # Errors
/// The device's fault; the piece belongs nowhere, or its copy is not written to.
pub async fn rewrite_piece<S: Storage>(
    volume: &Volume,
    storage: &S,
    piece: &Piece,
) -> Result<(), Error> {
    if !volume.copies().is_some_and(|live| is_written(live, piece.copy)) {
        return Err(Error::ReadOnly);
    }
    let (device, offset) = volume.on_copy(piece.copy, piece.offset, piece.bytes.len())?;
    Ok(storage.write(device, offset, &piece.bytes).await?)
}

/// Writes a header, or a part of one, at `offset` of the root volume's device, or of `copy`.
///
/// # Errors
/// As [`write_piece`].
pub async fn write_header<S: Storage>(
    volume: &Volume,
    storage: &S,
    copy: u8,
    offset: u64,
    bytes: &[u8],
) -> Result<(), Error> {
    let device = match volume.copies() {
        None => volume.root_device(),
        Some(live) if !is_written(live, copy) => return Ok(()),
        Some(live) => live.device(copy).ok_or(Error::ReadOnly)?,
    };
    volume.absorb(device, storage.write(device, offset, bytes).await)
}

fn is_written(live: &LiveCopies, copy: u8) -> bool {
    live.written() & 1 << copy != 0
}

impl Volume {
    /// What it means that `device` did or did not do what it was told.
    ///
    /// # Errors
    /// Its fault, on a volume without copies. With copies the copy is lost instead.
    pub fn absorb(
        &self,
        device: crate::units::DeviceIndex,
        done: Result<(), DeviceFault>,
    ) -> Result<(), Error> {
        match (done, self.copies()) {
            (Ok(()), _) => Ok(()),
            (Err(fault), None) => Err(fault.into()),
            (Err(fault), Some(live)) => match live.copy_on(device) {
                Some(copy) => {
                    let is_barrier = fault.op == DeviceOp::Barrier;
                    live.lose_by(
                        copy,
                        if is_barrier { CopyEvent::Barrier } else { CopyEvent::Write },
                    );
                    Ok(())
                }
                None => Err(fault.into()),
            },
        }
    }
}
