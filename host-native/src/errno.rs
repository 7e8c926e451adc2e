//! Errors as the kernel wants them: the only place that turns an [`Error`] into an error number.

use farrier_core::error::{DeviceFault, Error, FaultCause};
use rustix::io::Errno;

/// The error number for `error`.
#[must_use]
pub fn errno(error: &Error) -> Errno {
    match error {
        Error::NoEntry | Error::NoPfs => Errno::NOENT,
        // only a handle that outlived its inode can ask for one
        Error::NoInode(_) => Errno::STALE,
        Error::NotDirectory => Errno::NOTDIR,
        Error::IsDirectory => Errno::ISDIR,
        Error::NotSymlink | Error::NotRegular | Error::InvalidArgument => Errno::INVAL,
        Error::NameTooLong => Errno::NAMETOOLONG,
        Error::TooManyLinks => Errno::LOOP,
        Error::NoData => Errno::NXIO,
        Error::Exists => Errno::EXIST,
        Error::NotEmpty => Errno::NOTEMPTY,
        Error::NoSpace => Errno::NOSPC,
        Error::ReadOnly => Errno::ROFS,
        Error::FileTooLarge => Errno::FBIG,
        Error::TooManyNames => Errno::MLINK,
        Error::NotSupported => Errno::OPNOTSUPP,
        Error::Halted | Error::Unwitnessed => Errno::IO,
        Error::Busy => Errno::BUSY,
        Error::Device(DeviceFault { cause: FaultCause::ReadOnly, .. }) => Errno::ROFS,
        Error::Device(DeviceFault { cause: FaultCause::NoSpace, .. }) => Errno::NOSPC,
        Error::Damaged(_) | Error::Device(_) | Error::Refused(_) | Error::Limit(_) => Errno::IO,
        // what the core may learn to report before this function does
        _ => Errno::IO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_core::error::{Damage, DamageKind, HeaderFault, Limit, Refusal};
    use farrier_core::units::{DeviceIndex, Inum};
    use farrier_core::volume::Volume;

    #[test]
    fn every_kind_has_its_number() {
        let device = DeviceIndex(0);
        let fault = |cause| Error::Device(DeviceFault::read(device, 0, 1, cause));
        let write = |cause| Error::Device(DeviceFault::write(device, 0, 1, cause));
        let header = Refusal::Header { device, fault: HeaderFault::Length };
        let expected = [
            (Error::NoEntry, Errno::NOENT),
            (Error::NoPfs, Errno::NOENT),
            (Error::NoInode(Inum(5)), Errno::STALE),
            (Error::NotDirectory, Errno::NOTDIR),
            (Error::IsDirectory, Errno::ISDIR),
            (Error::NotSymlink, Errno::INVAL),
            (Error::NotRegular, Errno::INVAL),
            (Error::InvalidArgument, Errno::INVAL),
            (Error::NameTooLong, Errno::NAMETOOLONG),
            (Error::TooManyLinks, Errno::LOOP),
            (Error::NoData, Errno::NXIO),
            (Error::Exists, Errno::EXIST),
            (Error::NotEmpty, Errno::NOTEMPTY),
            (Error::NoSpace, Errno::NOSPC),
            (Error::ReadOnly, Errno::ROFS),
            (Error::FileTooLarge, Errno::FBIG),
            (Error::TooManyNames, Errno::MLINK),
            (Error::NotSupported, Errno::OPNOTSUPP),
            (Error::Busy, Errno::BUSY),
            (Error::Damaged(Damage::new(Volume::place(), DamageKind::KeyOrder)), Errno::IO),
            (fault(FaultCause::Medium(5)), Errno::IO),
            (fault(FaultCause::OutOfRange), Errno::IO),
            (fault(FaultCause::Gone), Errno::IO),
            (fault(FaultCause::Denied), Errno::IO),
            (write(FaultCause::ReadOnly), Errno::ROFS),
            (write(FaultCause::NoSpace), Errno::NOSPC),
            (Error::Refused(header), Errno::IO),
            (Error::Limit(Limit::Runs), Errno::IO),
        ];
        for (error, number) in expected {
            assert_eq!(errno(&error), number, "{error}");
        }
    }
}
