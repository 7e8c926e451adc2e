//! Errors as JavaScript has them: an `Error` with a `code`, and properties that say more.

use farrier_core::error::{Damage, DeviceFault, Error, FaultCause, HeaderFault, Place, Refusal};
use farrier_core::units::Inum;
use js_sys::{JsString, Object};
use wasm_bindgen::JsValue;

use crate::value::{Record, int};

/// What an operation of the bindings can fail with.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The core's errors.
    Core(Error),
    /// An argument that is none.
    Argument(&'static str),
    /// What was asked for cannot be made, in words that say why.
    Refused(String),
    /// A listed name whose inode does not exist.
    Dangling(Inum),
}

impl<E: Into<Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Core(error.into())
    }
}

impl Fault {
    /// As an `Error` to throw.
    pub(crate) fn throw(&self, syscall: &str, path: Option<&JsString>) -> JsValue {
        let error = js_sys::Error::new(&self.message());
        error.set_name("FarrierError");
        let record = Record::from(Object::from(error));
        self.describe(&record);
        record.set("syscall", syscall);
        if let Some(path) = path {
            record.set("path", path.clone());
        }
        record.into()
    }

    /// As a plain object, for a list of what could not be read.
    pub(crate) fn value(&self) -> JsValue {
        let record = Record::new();
        record.set("message", self.message().as_str());
        self.describe(&record);
        record.into()
    }

    fn message(&self) -> String {
        match self {
            Self::Core(Error::Damaged(damage)) => damage.to_string(),
            Self::Core(error) => error.to_string(),
            Self::Argument(text) => (*text).to_owned(),
            Self::Refused(text) => text.clone(),
            Self::Dangling(inum) => format!("this name is of {inum}, which does not exist"),
        }
    }

    fn describe(&self, record: &Record) {
        record.set("code", self.code());
        match self {
            Self::Core(Error::Damaged(Damage { place, .. })) => {
                record.set("reason", "damaged");
                record.set("place", place_value(place));
            }
            Self::Dangling(_) => record.set("reason", "damaged"),
            Self::Refused(_) => record.set("reason", "cannot-format"),
            Self::Core(Error::Device(fault)) => describe_device(fault, record),
            Self::Core(Error::Refused(refusal)) => describe_refusal(refusal, record),
            _ => {}
        }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::Argument(_) | Self::Refused(_) => "EINVAL",
            Self::Dangling(_) => "EIO",
            Self::Core(error) => match error {
                Error::NoEntry | Error::NoInode(_) | Error::NoPfs => "ENOENT",
                Error::TooManyLinks => "ELOOP",
                Error::NotDirectory => "ENOTDIR",
                Error::IsDirectory => "EISDIR",
                Error::NameTooLong => "ENAMETOOLONG",
                Error::NotSymlink
                | Error::NotRegular
                | Error::InvalidArgument
                | Error::Refused(_) => "EINVAL",
                Error::NoData => "ENXIO",
                Error::Exists => "EEXIST",
                Error::NotEmpty => "ENOTEMPTY",
                Error::ReadOnly => "EROFS",
                Error::FileTooLarge => "EFBIG",
                Error::TooManyNames => "EMLINK",
                Error::NotSupported => "ENOTSUP",
                Error::Busy => "EBUSY",
                Error::NoSpace => "ENOSPC",
                Error::Device(DeviceFault { cause: FaultCause::NoSpace, .. }) => "ENOSPC",
                // Damage, devices, and whatever the core learns to report.
                _ => "EIO",
            },
        }
    }
}

fn place_value(place: &Place) -> JsValue {
    let record = Record::new();
    record.set("kind", place.kind.name());
    record.set("offset", place.offset.map_or(JsValue::NULL, |offset| int(offset.0)));
    record.set("key", place.key);
    record.into()
}

fn describe_device(fault: &DeviceFault, record: &Record) {
    record.set("device", fault.device.0);
    record.set("offset", int(fault.offset));
    match fault.cause {
        FaultCause::Gone => record.set("reason", "file-changed"),
        FaultCause::NoSpace => record.set("reason", "device-full"),
        _ => {}
    }
}

/// The words by which the page chooses what to advise; they are part of the interface.
const fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoDevices => "no-devices",
        Refusal::TooManyDevices => "too-many-devices",
        Refusal::TooSmall { .. } => "too-small",
        Refusal::NotHammer2 { .. } => "not-hammer2",
        Refusal::Header { fault, .. } => match fault {
            HeaderFault::ForeignByteOrder => "byte-order",
            HeaderFault::Version(_) => "version",
            HeaderFault::Type(_) => "fs-type",
            HeaderFault::Unreadable => "file-changed",
            _ => "no-header",
        },
        Refusal::Mixed { .. } => "mixed",
        Refusal::SameVolume { .. } => "same-volume",
        Refusal::MissingVolumes { .. } => "missing-volumes",
        Refusal::Geometry { .. } => "geometry",
        Refusal::Truncated { .. } => "truncated",
        _ => "no-super-root",
    }
}

fn describe_refusal(refusal: &Refusal, record: &Record) {
    record.set("reason", reason(refusal));
    if let Some(device) = refusal.device() {
        record.set("device", device.0);
    }
    match *refusal {
        Refusal::TooSmall { size, .. } => record.set("size", int(size)),
        Refusal::Truncated { size, need, .. } => {
            record.set("size", int(size));
            record.set("need", int(need));
        }
        Refusal::MissingVolumes { need, given, missing } => {
            record.set("need", need);
            record.set("given", given);
            record.set("missing", missing);
        }
        Refusal::SameVolume { volume, .. } => record.set("volume", volume),
        _ => {}
    }
}
