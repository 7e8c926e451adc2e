//! Results as JavaScript has them.

use farrier_core::error::Error;
use farrier_core::fs::{Attributes, DirEntry, PfsInfo};
use farrier_core::media::check::CheckMethod;
use farrier_core::scan::Finding;
use farrier_core::text;
use farrier_core::units::WallTime;
use farrier_core::volume::Volume;
use js_sys::{Array, Object, Reflect};
use wasm_bindgen::JsValue;

use crate::failure::Fault;
use crate::names;

/// A 64-bit quantity: a number where that is exact, else a bigint.
pub(crate) fn int(value: u64) -> JsValue {
    if value <= SAFE_INTEGER_MAX { JsValue::from_f64(value as f64) } else { JsValue::from(value) }
}

/// Milliseconds since 1970, with the fraction that the media has.
fn milliseconds(time: WallTime) -> f64 {
    time.0.cast_signed() as f64 / 1000.0
}

/// An object under construction.
#[derive(Debug)]
pub(crate) struct Record(Object);

impl Record {
    pub(crate) fn new() -> Self {
        Self(Object::new())
    }

    pub(crate) fn set(&self, key: &str, value: impl Into<JsValue>) {
        // A key is the same few words again and again: interned, it crosses the border once. A
        // plain object of ours takes any property, so there is no failure to report.
        let key = JsValue::from_str(wasm_bindgen::intern(key));
        let _ = Reflect::set(&self.0, &key, &value.into());
    }
}

impl From<Object> for Record {
    fn from(object: Object) -> Self {
        Self(object)
    }
}

impl From<Record> for JsValue {
    fn from(record: Record) -> Self {
        record.0.into()
    }
}

fn list<T>(items: impl IntoIterator<Item = T>, value: impl Fn(T) -> JsValue) -> JsValue {
    items.into_iter().map(value).collect::<Array>().into()
}

/// `Stats` of the `.d.ts`.
pub(crate) fn stats(attributes: &Attributes) -> Record {
    let record = Record::new();
    record.set("type", attributes.kind.name());
    record.set("ino", int(attributes.inum.0));
    record.set("mode", attributes.mode);
    record.set("nlink", attributes.nlinks);
    record.set("uid", attributes.uid);
    record.set("gid", attributes.gid);
    record.set("size", int(attributes.size));
    record.set("allocated", int(attributes.allocated_bytes));
    let is_device = matches!(attributes.kind.name(), "cdev" | "bdev");
    let (major, minor) = attributes.device;
    record.set(
        "rdev",
        if is_device { Array::of2(&major.into(), &minor.into()).into() } else { JsValue::NULL },
    );
    record.set("flags", attributes.flags);
    record.set("atimeMs", milliseconds(attributes.atime));
    record.set("mtimeMs", milliseconds(attributes.mtime));
    record.set("ctimeMs", milliseconds(attributes.ctime));
    record.set("birthtimeMs", milliseconds(attributes.btime));
    record.set("mtimeUs", int(attributes.mtime.0));
    record.set("ctimeUs", int(attributes.ctime.0));
    record.set("compression", text::compression_request(attributes.compression_request).as_str());
    record.set("check", check_name(attributes.check_request));
    record
}

fn check_name(request: u8) -> &'static str {
    CheckMethod::from_code(request & 0x0f).map_or("unknown", CheckMethod::name)
}

/// `Entry` of the `.d.ts`.
pub(crate) fn entry(entry: &DirEntry) -> JsValue {
    let record = match &entry.attributes {
        Some(Ok(attributes)) => stats(attributes),
        other => {
            let record = Record::new();
            record.set("type", entry.kind.name());
            record.set("ino", int(entry.inum.0));
            if let Some(Err(error)) = other {
                let fault = match *error {
                    Error::NoInode(inum) => Fault::Dangling(inum),
                    error => Fault::Core(error),
                };
                record.set("error", fault.value());
            }
            record
        }
    };
    record.set("name", names::to_js(&entry.name));
    record.into()
}

/// `Finding` of the `.d.ts`.
pub(crate) fn finding(finding: &Finding, label: Option<&[u8]>, path: Option<&[u8]>) -> JsValue {
    let record = Record::new();
    record.set("grade", finding.grade().name());
    record.set("code", finding.kind.code());
    record.set("message", finding.to_string().as_str());
    record.set("pfs", label.map_or(JsValue::NULL, names::to_js));
    record.set("ino", finding.inum.map_or(JsValue::NULL, |inum| int(inum.0)));
    record.set("path", path.map_or(JsValue::NULL, names::to_js));
    record.into()
}

/// `PfsInfo` of the `.d.ts`.
pub(crate) fn pfs_info(info: &PfsInfo) -> JsValue {
    let record = Record::new();
    record.set("label", names::to_js(&info.label));
    record.set("type", info.kind.name());
    record.set("snapshot", info.is_snapshot);
    record.set("clusterId", info.cluster_id.to_string().as_str());
    record.set("pfsId", info.pfs_id.to_string().as_str());
    record.set("createdMs", milliseconds(info.created));
    record.set("bytes", int(info.data_bytes));
    record.set("inodes", int(info.inode_count));
    record.into()
}

/// `Facts` of the `.d.ts`.
pub(crate) fn facts(volume: &Volume) -> JsValue {
    let header = volume.header();
    let record = Record::new();
    record.set("size", int(header.total_size()));
    record.set("free", int(volume.space().free_bytes));
    record.set("version", header.version().number());
    record.set("fsid", header.fsid().to_string().as_str());
    record.set("mirrorTid", int(header.mirror_tid().0));
    record.set("freemapTid", int(header.freemap_tid().0));
    let volumes = list(volume.pieces(), |piece| {
        let record = Record::new();
        record.set("device", piece.device.0);
        record.set("volume", piece.id);
        record.set("start", int(piece.start.0));
        record.set("size", int(piece.size));
        record.set("deviceSize", int(piece.device_size));
        let chosen =
            volume.header_slots().iter().find(|slot| slot.device == piece.device && slot.is_chosen);
        record.set("header", chosen.map_or(0, |slot| slot.slot));
        record.into()
    });
    record.set("volumes", volumes);
    let headers = list(volume.header_slots(), |slot| {
        let record = Record::new();
        record.set("device", slot.device.0);
        record.set("slot", slot.slot);
        record.set("chosen", slot.is_chosen);
        record.set("mirrorTid", slot.state.map_or(JsValue::NULL, |tid| int(tid.0)));
        record.set(
            "fault",
            slot.state
                .map_or_else(|fault| JsValue::from_str(&fault.to_string()), |_| JsValue::NULL),
        );
        record.into()
    });
    record.set("headers", headers);
    record.into()
}

/// Largest whole number up to which every one is exact in JavaScript.
pub(crate) const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_negative() {
        let before = WallTime((-1_500_000_i64).cast_unsigned());
        assert!((milliseconds(before) + 1500.0).abs() < f64::EPSILON);
    }
}
