//! What a witness of a group of copies holds: the newest epoch that it was told, and up to three
//! before it (copies, witness).
//!
//! 512 bytes with a check code of their own, wherever they are kept. Who wrote them is not to be
//! trusted more than any device.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::check::crc32c;
use super::copy_group::{CopyGroup, Epoch, parse_epochs, store_epoch};
use super::raw::{RawEpoch, RawWitness};
use crate::units::Uuid;

/// Size of what a witness holds in bytes.
pub const WITNESS_LEN: usize = 512;
/// Most epochs that it holds.
pub const WITNESS_EPOCHS_MAX: usize = 4;

/// `FARWITN1` in ASCII.
const MAGIC: u64 = u64::from_le_bytes(*b"FARWITN1");
/// The one format so far.
const FORMAT: u32 = 1;
/// Bytes that the check code covers.
const CHECKED: usize = WITNESS_LEN - 4;

/// What a witness holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Testimony {
    /// The name of the witness.
    pub witness: Uuid,
    /// The group that it is of.
    pub group: Uuid,
    /// The newest epoch that it was told, and those before it, newest first: 1 to 4.
    pub epochs: Vec<Epoch>,
}

impl Testimony {
    /// What the witness of `group` has to be told.
    #[must_use]
    pub fn of(group: &CopyGroup) -> Self {
        Self {
            witness: group.witness.id,
            group: group.group,
            epochs: group.history().take(WITNESS_EPOCHS_MAX).copied().collect(),
        }
    }

    /// Reads what a witness holds.
    ///
    /// # Errors
    /// Why it is of no use.
    pub fn parse(bytes: &[u8]) -> Result<Self, TestimonyFault> {
        let raw = RawWitness::ref_from_bytes(bytes).map_err(|_| TestimonyFault::Length)?;
        if raw.magic.get() != MAGIC {
            return Err(TestimonyFault::Magic);
        }
        let checked = bytes.get(..CHECKED).ok_or(TestimonyFault::Length)?;
        if raw.crc.get() != crc32c(checked) {
            return Err(TestimonyFault::Check);
        }
        if raw.format.get() != FORMAT {
            return Err(TestimonyFault::Format(raw.format.get()));
        }
        let epochs = parse_epochs(&raw.epochs).map_err(|_| TestimonyFault::Epochs)?;
        let epochs: Vec<Epoch> = core::iter::once(epochs.0).chain(epochs.1).collect();
        Ok(Self { witness: Uuid(raw.witness), group: Uuid(raw.group), epochs })
    }

    /// The bytes of it.
    #[must_use]
    pub fn store(&self) -> [u8; WITNESS_LEN] {
        let mut raw = Box::new(RawWitness::new_zeroed());
        raw.magic.set(MAGIC);
        raw.format.set(FORMAT);
        (raw.witness, raw.group) = (self.witness.0, self.group.0);
        raw.epochs = [RawEpoch::new_zeroed(); WITNESS_EPOCHS_MAX];
        for (raw, epoch) in raw.epochs.iter_mut().zip(&self.epochs) {
            store_epoch(epoch, raw);
        }
        let crc = crc32c(&raw.as_bytes()[..CHECKED]);
        raw.crc.set(crc);
        zerocopy::transmute!(*raw)
    }
}

/// Why what a witness holds is of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TestimonyFault {
    /// Not 512 bytes.
    Length,
    /// It is something else.
    Magic,
    /// Its check code is wrong.
    Check,
    /// A later program wrote it.
    Format(u32),
    /// Epochs that cannot be.
    Epochs,
}

impl fmt::Display for TestimonyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "has not the {WITNESS_LEN} bytes of a witness"),
            Self::Magic => f.write_str("is no witness"),
            Self::Check => f.write_str("is damaged: its check code is wrong"),
            Self::Format(format) => write!(f, "has format {format}, which a newer program made"),
            Self::Epochs => f.write_str("names epochs that cannot be"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::copy_group::{Cause, EpochId};
    use crate::units::{Tid, WallTime};

    fn testimony(count: u8) -> Testimony {
        let epoch = |seq: u8| Epoch {
            id: EpochId([seq; 16]),
            parent: EpochId([seq - 1; 16]),
            seq: seq.into(),
            start_tid: Tid(u64::from(seq) * 10),
            members: 3,
            cause: Cause::Ejected,
            host: Uuid([9; 16]),
            time: WallTime(7),
        };
        let epochs = (1..=9).rev().take(usize::from(count)).map(epoch).collect();
        Testimony { witness: Uuid([1; 16]), group: Uuid([2; 16]), epochs }
    }

    #[test]
    fn it_goes_there_and_back() {
        for count in 1..=4 {
            let bytes = testimony(count).store();
            assert_eq!(Testimony::parse(&bytes), Ok(testimony(count)));
        }
        let bytes = testimony(2).store();
        assert_eq!(&bytes[..8], b"FARWITN1");
        assert_eq!(bytes[0x10..0x30], [[1; 16], [2; 16]].concat());
        assert_eq!(bytes[0x40..0x60], [[9; 16], [8; 16]].concat());
    }

    #[test]
    fn anything_else_is_refused() {
        use TestimonyFault as F;
        let good = testimony(3).store();
        for (at, with, fault) in
            [(0, 0, F::Magic), (8, 2, F::Format(2)), (0x50, 7, F::Epochs), (0x88, 0, F::Epochs)]
        {
            let mut bytes = good;
            bytes[at] = with;
            assert!(matches!(Testimony::parse(&bytes), Err(F::Check | F::Magic)));
            let crc = crc32c(&bytes[..CHECKED]);
            bytes[CHECKED..].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(Testimony::parse(&bytes), Err(fault));
        }
        let none = Testimony { epochs: Vec::new(), ..testimony(1) };
        assert_eq!(Testimony::parse(&none.store()), Err(F::Epochs));
        for len in [0, 1, 511] {
            assert_eq!(Testimony::parse(&good[..len]), Err(F::Length));
        }
        // whatever the bytes are, there is an answer
        for at in 0..WITNESS_LEN {
            let mut bytes = good;
            bytes[at] ^= 0xff;
            assert!(Testimony::parse(&bytes).is_err());
        }
    }
}
