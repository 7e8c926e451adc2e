//! Why devices that are copies cannot be opened, or not be written: at length, for a person. The errors
//! of opening itself only carry a code.

use alloc::string::{String, ToString};

use super::{Headers, open, read_headers};
use crate::copies::lineage::Refused;
use crate::error::{Error, Refusal};
use crate::storage::Storage;
use crate::volume::{OpenOptions, explain_copies};

/// Why the devices of `storage` make no volume of copies; `None` if they do, or if that is not what
/// is wrong with them.
pub async fn refused<S: Storage>(storage: &S, options: &OpenOptions) -> Option<Refused> {
    match open(storage, *options).await {
        Err(Error::Refused(Refusal::Copies { .. })) => explain(storage, options).await,
        _ => None,
    }
}

/// Whether the devices of `storage`, if they are copies, may be written. Devices are called by their
/// numbers; see [`with_names`](crate::text::with_names). What else is wrong with them is told by
/// whoever opens them.
///
/// # Errors
/// Why not: what, where, and what to do next.
pub async fn may_write<S: Storage>(storage: &S, options: &OpenOptions) -> Result<(), String> {
    match open(storage, *options).await {
        Ok(volume) => match volume.group().map(|group| group.decision().writable) {
            Some(Err(reason)) => Err(reason.to_string()),
            _ => Ok(()),
        },
        Err(Error::Refused(Refusal::Copies { .. })) => {
            explain(storage, options).await.map_or(Ok(()), |refused| Err(refused.to_string()))
        }
        Err(_) => Ok(()),
    }
}

/// Reads the headers again, for what each of them says.
async fn explain<S: Storage>(storage: &S, options: &OpenOptions) -> Option<Refused> {
    let Headers { sizes, got, rootless } = read_headers(storage, options).await.ok()?;
    explain_copies(&sizes, &got, &rootless, options).err()
}
