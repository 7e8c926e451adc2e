//! Why copies cannot be used together, or not be written: what, where, and what to do next.

use alloc::vec::Vec;
use core::fmt;

use crate::error::HeaderFault;
use crate::media::copy_group::{CopyGroupFault, Epoch, EpochId};
use crate::units::{DeviceIndex, Tid, Uuid};

use super::Record;

/// What one device says of the group's history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Side {
    /// The device.
    pub device: DeviceIndex,
    /// The slot that it is.
    pub slot: u8,
    /// The epoch that it knows as the newest.
    pub epoch: Epoch,
    /// The media transaction of its newest header.
    pub tid: Tid,
}

impl Side {
    pub(super) const fn of(record: &Record<'_>) -> Self {
        let group = record.group;
        Self { device: record.device, slot: group.self_slot, epoch: group.epoch, tid: record.tid }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Epoch { id, parent, members, host, time, .. } = self.epoch;
        write!(f, "{} (copy {}): epoch {id} of copies ", self.device, self.slot)?;
        write_slots(f, members)?;
        write!(f, ", after {parent}, transaction {:#x}, ", self.tid.0)?;
        write!(f, "begun by host {host} {} s after 1970", time.seconds())
    }
}

/// Why devices cannot be used together, or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refused {
    /// No device was given.
    Nothing,
    /// Several histories, of which none is the past of another.
    Split {
        /// What each side says.
        sides: Vec<Side>,
    },
    /// No member of the newest epoch is here with a root that can be read.
    NoMaster {
        /// What is here.
        sides: Vec<Side>,
    },
    /// Two devices say that they are the copy in the same slot.
    SameSlot {
        /// One of them.
        first: DeviceIndex,
        /// The other.
        second: DeviceIndex,
        /// The slot.
        slot: u8,
    },
    /// Two devices say that they are the same one.
    SameDevice {
        /// One of them.
        first: DeviceIndex,
        /// The other.
        second: DeviceIndex,
        /// The name that both have.
        device: Uuid,
    },
    /// A device belongs to another group or file system than the first.
    Foreign {
        /// The device.
        device: DeviceIndex,
        /// Its group.
        group: Uuid,
        /// The group of the first device.
        expected: Uuid,
    },
    /// A device is no copy at all.
    NoCopy {
        /// The device.
        device: DeviceIndex,
    },
    /// The record is of a format of a later program.
    Format {
        /// The device.
        device: DeviceIndex,
        /// The format.
        format: u32,
    },
    /// The record needs features that this program does not know.
    Features {
        /// The device.
        device: DeviceIndex,
        /// A bit for each of them.
        bits: u64,
    },
    /// No device has a record that can be read.
    NoRecord {
        /// The first of them.
        device: DeviceIndex,
        /// What is wrong with its record.
        fault: CopyGroupFault,
    },
    /// Members are missing that may have gone on, and the group's rule is to refuse then.
    Missing {
        /// Which, a bit for each slot.
        members: u8,
        /// What is here.
        sides: Vec<Side>,
    },
    /// Two devices tell the same epoch differently.
    Contradiction {
        /// One of them.
        first: DeviceIndex,
        /// The other.
        second: DeviceIndex,
    },
    /// The copy that was asked for cannot be the master, or is not here with a root of its own.
    NoSuchMaster {
        /// Its slot.
        slot: u8,
    },
}

impl Refused {
    /// Its number, for documents and programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Split { .. } => "FC-S01",
            Self::NoMaster { .. } => "FC-S02",
            Self::SameSlot { .. } => "FC-S03",
            Self::SameDevice { .. } => "FC-S04",
            Self::Foreign { .. } => "FC-S05",
            Self::NoCopy { .. } => "FC-S06",
            Self::Format { .. } => "FC-S07",
            Self::Features { .. } => "FC-S08",
            Self::NoRecord { .. } => "FC-S09",
            Self::Missing { .. } => "FC-S10",
            Self::Contradiction { .. } => "FC-S11",
            Self::NoSuchMaster { .. } => "FC-S12",
            Self::Nothing => "FC-S13",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code())?;
        match self {
            Self::Nothing => f.write_str("no device given; name the copies"),
            Self::Split { sides } => {
                f.write_str("split: the copies went on without each other, and were not merged: ")?;
                write_sides(f, sides)?;
                f.write_str(
                    "; look at each with --only-copy N, then go on from one with --master N, and give up \
                     the other with 'farrier copies rejoin --discard-its-data'",
                )
            }
            Self::NoMaster { sides } => {
                f.write_str("no copy that holds everything is here: ")?;
                write_sides(f, sides)?;
                f.write_str(
                    "; attach one that does, or make an older state the current one with \
                     'farrier copies promote DEVICE'",
                )
            }
            Self::SameSlot { first, second, slot } => write!(
                f,
                "{first} and {second} both say that they are copy {slot}; leave out the one that \
                 was replaced or copied"
            ),
            Self::SameDevice { first, second, device } => write!(
                f,
                "{first} and {second} are the same device {device}: one is an image of the other, \
                 or both are paths to one; leave out one"
            ),
            Self::Foreign { device, group, expected } => write!(
                f,
                "{device} is a copy of another file system (group {group}, the first device is of \
                 {expected}); leave it out"
            ),
            Self::NoCopy { device } => write!(
                f,
                "{device} holds a volume without copies; leave it out, or add it to the group \
                 with 'farrier copies add'"
            ),
            Self::Format { device, format } => write!(
                f,
                "the record of copies on {device} has format {format}, which a newer program made; \
                 use that"
            ),
            Self::Features { device, bits } => write!(
                f,
                "the copies on {device} have features {bits:#x}, which this program does not know; \
                 use a newer one"
            ),
            Self::NoRecord { device, fault } => write!(
                f,
                "{device}: {fault}; attach another copy, or restore the volume from a backup"
            ),
            Self::Missing { members, sides } => {
                write_missing(f, *members)?;
                f.write_str(" and the rule of this group is to refuse; here are: ")?;
                write_sides(f, sides)?;
                f.write_str("; attach them, or go on without them with --accept-missing")
            }
            Self::Contradiction { first, second } => write!(
                f,
                "{first} and {second} tell the same epoch differently; look at each with \
                 --only-copy N, and leave out the one that is wrong"
            ),
            Self::NoSuchMaster { slot } => write!(
                f,
                "copy {slot} is not here with a newest root of its own; choose another, or make \
                 its older state the current one with 'farrier copies promote DEVICE'"
            ),
        }
    }
}

impl core::error::Error for Refused {}

/// Why nothing may be written, though all can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReadOnly {
    /// The operator wants it so.
    Asked,
    /// One copy is looked at by itself.
    OneCopy {
        /// Its slot.
        slot: u8,
    },
    /// Members that may have gone on are not here.
    Missing {
        /// Which, a bit for each slot.
        members: u8,
    },
    /// As [`Missing`](Self::Missing), and a device is here that may be one of them, but has no header.
    NoHeader {
        /// Which are missing, a bit for each slot.
        members: u8,
        /// The device.
        device: DeviceIndex,
        /// What is wrong with its headers.
        fault: HeaderFault,
    },
    /// The copy that has the right to write is not here.
    NoHolder {
        /// Its slot.
        slot: u8,
    },
    /// The witness saw an epoch that nobody here knows.
    Witness {
        /// Which.
        seen: EpochId,
    },
    /// Members have to be left behind, of which the witness has to be told, and it cannot be reached.
    Unwitnessed {
        /// Which, a bit for each slot.
        members: u8,
    },
    /// Fewer copies in sync than the group wants.
    TooFew {
        /// How many there would be.
        have: u8,
        /// How many the group wants.
        need: u8,
    },
    /// The record of a device cannot be read, though its header can.
    Record {
        /// The device.
        device: DeviceIndex,
        /// What is wrong with it.
        fault: CopyGroupFault,
    },
    /// Features that a program has to know to write.
    Features {
        /// The device.
        device: DeviceIndex,
        /// A bit for each of them.
        bits: u64,
    },
    /// The list of known damage had no room for all that it should name.
    DamageList,
    /// The newest root of a member cannot be read, and what it holds may have been acknowledged.
    OlderRoot {
        /// The member's slot.
        slot: u8,
    },
}

impl ReadOnly {
    /// Its number, for documents and programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Asked => "FC-D01",
            Self::OneCopy { .. } => "FC-D02",
            Self::Missing { .. } | Self::NoHeader { .. } => "FC-D03",
            Self::NoHolder { .. } => "FC-D04",
            Self::Witness { .. } => "FC-D05",
            Self::TooFew { .. } => "FC-D06",
            Self::Record { .. } => "FC-D07",
            Self::Features { .. } => "FC-D08",
            Self::DamageList => "FC-D09",
            Self::OlderRoot { .. } => "FC-D10",
            Self::Unwitnessed { .. } => "FC-D11",
        }
    }
}

impl fmt::Display for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: read-only: ", self.code())?;
        match self {
            Self::Asked => f.write_str("as asked; mount without --read-only to write"),
            Self::OneCopy { slot } => write!(
                f,
                "copy {slot} by itself; to go on from it, unmount and use \
                 'farrier copies promote DEVICE'"
            ),
            Self::Missing { members } => {
                write_missing(f, *members)?;
                f.write_str("; attach them, or go on without them with --accept-missing")
            }
            Self::NoHeader { members, device, fault } => {
                write!(f, "{device} has no header that is whole ({fault}), and ")?;
                write_missing(f, *members)?;
                f.write_str(
                    "; see whether it is the right device and can be read, or go on without them \
                     with --accept-missing and replace them",
                )
            }
            Self::NoHolder { slot } => write!(
                f,
                "copy {slot}, which alone may let others write, is not here or was put back to an \
                 older state; attach it, or move the right with 'farrier copies promote DEVICE'"
            ),
            Self::Witness { seen } => write!(
                f,
                "the witness saw epoch {seen}, which no copy here knows: others have gone on; \
                 attach them, or go on without them with --accept-missing"
            ),
            Self::Unwitnessed { members } => {
                f.write_str("copies ")?;
                write_slots(f, *members)?;
                f.write_str(
                    " have to be left behind, of which the witness has to be told, and it cannot be \
                     reached; attach it, or go on without it with --accept-missing",
                )
            }
            Self::TooFew { have, need } => write!(
                f,
                "{have} copies in sync, the group wants {need}; attach more, or change that with \
                 'farrier copies policy'"
            ),
            Self::Record { device, fault } => write!(
                f,
                "{device}: {fault}; check the device, or go on without it with --accept-missing"
            ),
            Self::Features { device, bits } => write!(
                f,
                "the copies on {device} have features {bits:#x}, which this program cannot write; \
                 use a newer one"
            ),
            Self::DamageList => f.write_str(
                "more is damaged on all copies than the list of known damage has room for, and \
                 nobody knows how much; save what can be read, then unmount, and empty the list \
                 with 'farrier copies clear', naming the devices: after that the volume can be \
                 written, and what is damaged be deleted or replaced",
            ),
            Self::OlderRoot { slot } => write!(
                f,
                "the newest root of copy {slot} cannot be read, and the one in use is older; \
                 attach another copy, or go on from the older root with --master N"
            ),
        }
    }
}

fn write_missing(f: &mut fmt::Formatter<'_>, members: u8) -> fmt::Result {
    f.write_str("copies ")?;
    write_slots(f, members)?;
    f.write_str(
        " are not here, or were put back to an older state, and may have gone on without us",
    )
}

/// `{0,2}`.
fn write_slots(f: &mut fmt::Formatter<'_>, mask: u8) -> fmt::Result {
    let mut open = '{';
    for slot in (0..8).filter(|slot| mask & 1 << slot != 0) {
        write!(f, "{open}{slot}")?;
        open = ',';
    }
    f.write_str(if open == '{' { "{}" } else { "}" })
}

fn write_sides(f: &mut fmt::Formatter<'_>, sides: &[Side]) -> fmt::Result {
    for (number, side) in sides.iter().enumerate() {
        write!(f, "{}{side}", if number == 0 { "" } else { "; " })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! What a person reads, word by word, where no device of the tests leads to it.

    use super::*;
    use alloc::string::ToString;

    #[test]
    fn refusals_that_no_device_leads_to_yet() {
        assert_eq!(Refused::Nothing.to_string(), "FC-S13: no device given; name the copies");
        assert_eq!(
            ReadOnly::Witness { seen: EpochId([0xab; 16]) }.to_string(),
            "FC-D05: read-only: the witness saw epoch abababababab, which no copy here knows: \
             others have gone on; attach them, or go on without them with --accept-missing"
        );
        assert_eq!(
            ReadOnly::DamageList.to_string(),
            "FC-D09: read-only: more is damaged on all copies than the list of known damage has \
             room for, and nobody knows how much; save what can be read, then unmount, and empty \
             the list with 'farrier copies clear', naming the devices: after that the volume can \
             be written, and what is damaged be deleted or replaced"
        );
        assert_eq!(
            ReadOnly::OlderRoot { slot: 1 }.to_string(),
            "FC-D10: read-only: the newest root of copy 1 cannot be read, and the one in use is \
             older; attach another copy, or go on from the older root with --master N"
        );
    }
}
