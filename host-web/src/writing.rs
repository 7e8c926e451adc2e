//! What changes a file system: the other half of the class `Pfs`, and of `Volume`.
//!
//! A change is in memory when its promise resolves, and on the device when `Volume.sync` has.
//! Changes of one volume must not overlap: who makes several awaits one after the other, as the
//! page's worker does. Reading may go on beside them.

use farrier_core::drive::pfs::{Birth, PfsChange, check_label};
use farrier_core::fs::{
    Attributes, Clash, Create, LastLink, Link, New, Rename, Resolve, SetAttributes, Unlink, Victim,
    Write,
};
use farrier_core::units::{Inum, Uuid, WallTime};
use farrier_core::volume::{FormatOptions, FormatRefusal, Formatted, format};
use js_sys::{Date, JsString, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::failure::Fault;
use crate::local::{BlockDevice, Devices, LocalDevice};
use crate::names;
use crate::pfs::{Pfs, whole};
use crate::value::{self, Record, int};
use crate::volume::Volume;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues, catch)]
    fn fill_random(bytes: &Uint8Array) -> Result<JsValue, JsValue>;

    /// The options of `Volume.format`.
    #[wasm_bindgen(typescript_type = "FormatOptions")]
    #[derive(Debug)]
    pub type JsFormatOptions;

    #[wasm_bindgen(method, getter, structural)]
    fn label(this: &JsFormatOptions) -> Option<JsString>;

    #[wasm_bindgen(method, getter, structural)]
    fn compression(this: &JsFormatOptions) -> Option<String>;

    /// What `Pfs.setAttributes` changes.
    #[wasm_bindgen(typescript_type = "NewAttributes")]
    #[derive(Debug)]
    pub type JsAttributes;

    #[wasm_bindgen(method, getter, structural)]
    fn mode(this: &JsAttributes) -> Option<u32>;

    #[wasm_bindgen(method, getter, structural)]
    fn uid(this: &JsAttributes) -> Option<u32>;

    #[wasm_bindgen(method, getter, structural)]
    fn gid(this: &JsAttributes) -> Option<u32>;

    #[wasm_bindgen(method, getter, structural)]
    fn size(this: &JsAttributes) -> Option<f64>;

    #[wasm_bindgen(method, getter, structural, js_name = mtimeMs)]
    fn mtime_ms(this: &JsAttributes) -> Option<f64>;

    #[wasm_bindgen(method, getter, structural, js_name = atimeMs)]
    fn atime_ms(this: &JsAttributes) -> Option<f64>;
}

impl Pfs {
    /// The directory that a path leads through, and the name in it.
    async fn split(&self, path: &JsString) -> Result<(Inum, Vec<u8>), Fault> {
        let path = names::from_js(path);
        let (parent, name) = parent_and_name(&path).ok_or(Fault::Argument(NO_NAME))?;
        let resolve =
            Resolve { pfs: self.tree(), path: parent.to_vec(), last_link: LastLink::Follow };
        let found = self.engine().run(resolve).await?;
        Ok((found.attributes.inum, name.to_vec()))
    }

    async fn make(&self, path: &JsString, new: New, mode: u32) -> Result<Attributes, Fault> {
        let (directory, name) = self.split(path).await?;
        let pfs = self.tree();
        let create = Create { pfs, directory, name, new, mode, uid: 0, gid: 0, now: now() };
        Ok(self.engine().change(create).await?)
    }

    async fn remove(&self, path: &JsString, victim: Victim) -> Result<(), Fault> {
        let (directory, name) = self.split(path).await?;
        let pfs = self.tree();
        let unlink = Unlink { pfs, directory, name, victim, keep: false, now: now() };
        self.engine().change(unlink).await?;
        Ok(())
    }

    async fn put(&self, path: &JsString, offset: Option<f64>, bytes: &[u8]) -> Result<(), Fault> {
        let offset = offset.map(|offset| whole(offset, OFFSET)).transpose()?;
        let inum = self.find(path, LastLink::Follow).await?.attributes.inum;
        let pfs = self.tree();
        self.engine().change(Write { pfs, inum, offset, bytes, now: now() }).await?;
        Ok(())
    }

    async fn move_name(&self, from: &JsString, to: &JsString, clash: Clash) -> Result<(), Fault> {
        let (directory, name) = self.split(from).await?;
        let (new_directory, new_name) = self.split(to).await?;
        let pfs = self.tree();
        let (keep, now) = (false, now());
        let rename = Rename { pfs, directory, name, new_directory, new_name, clash, keep, now };
        self.engine().change(rename).await?;
        Ok(())
    }

    async fn add_name(&self, path: &JsString, new_path: &JsString) -> Result<(), Fault> {
        let inum = self.find(path, LastLink::Keep).await?.attributes.inum;
        let (directory, name) = self.split(new_path).await?;
        let pfs = self.tree();
        self.engine().change(Link { pfs, inum, directory, name, now: now() }).await?;
        Ok(())
    }

    async fn set(&self, path: &JsString, new: &JsAttributes) -> Result<Attributes, Fault> {
        let inum = self.find(path, LastLink::Follow).await?.attributes.inum;
        let mut change = SetAttributes::new(self.tree(), inum, now());
        change.mode = new.mode();
        change.uid = new.uid();
        change.gid = new.gid();
        change.size = new.size().map(|size| whole(size, OFFSET)).transpose()?;
        change.mtime = new.mtime_ms().map(wall_time);
        change.atime = new.atime_ms().map(wall_time);
        Ok(self.engine().change(change).await?)
    }
}

#[wasm_bindgen]
impl Pfs {
    /// Makes a directory.
    ///
    /// # Errors
    /// EEXIST, ENOENT, ENOTDIR, ENAMETOOLONG, EINVAL, ENOSPC, EROFS, EIO.
    pub async fn mkdir(&self, path: JsString, mode: Option<u32>) -> Result<(), JsValue> {
        let made = self.make(&path, New::Directory, mode.unwrap_or(0o755)).await;
        made.map(drop).map_err(|fault| fault.throw("mkdir", Some(&path)))
    }

    /// Makes an empty file; the name must not be there.
    ///
    /// # Errors
    /// As `mkdir`.
    pub async fn create(&self, path: JsString, mode: Option<u32>) -> Result<(), JsValue> {
        let made = self.make(&path, New::File, mode.unwrap_or(0o644)).await;
        made.map(drop).map_err(|fault| fault.throw("create", Some(&path)))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As `mkdir`; ENOENT also for an empty target.
    pub async fn symlink(&self, target: JsString, path: JsString) -> Result<(), JsValue> {
        let made = self.make(&path, New::Symlink(names::from_js(&target)), 0o777).await;
        made.map(drop).map_err(|fault| fault.throw("symlink", Some(&path)))
    }

    /// Gives what has one name another one; not for directories.
    ///
    /// # Errors
    /// As `mkdir`; EISDIR, EMLINK.
    pub async fn link(&self, path: JsString, new_path: JsString) -> Result<(), JsValue> {
        let linked = self.add_name(&path, &new_path).await;
        linked.map_err(|fault| fault.throw("link", Some(&new_path)))
    }

    /// Puts bytes into a file at `offset`, or behind its end if that is undefined or null; what lies
    /// between its end and them becomes a hole.
    ///
    /// # Errors
    /// EISDIR, EINVAL, EFBIG, ENOSPC, EROFS, EIO; else as `stat`.
    pub async fn write(
        &self,
        path: JsString,
        offset: Option<f64>,
        bytes: Vec<u8>,
    ) -> Result<(), JsValue> {
        let put = self.put(&path, offset, &bytes).await;
        put.map_err(|fault| fault.throw("write", Some(&path)))
    }

    /// Changes attributes: what is undefined stays. `size` cuts a file off or lets it grow by a
    /// hole. Symbolic links are followed.
    ///
    /// # Errors
    /// As `write`.
    #[wasm_bindgen(js_name = setAttributes, unchecked_return_type = "Stats")]
    pub async fn set_attributes(
        &self,
        path: JsString,
        attributes: JsAttributes,
    ) -> Result<JsValue, JsValue> {
        match self.set(&path, &attributes).await {
            Ok(attributes) => Ok(value::stats(&attributes).into()),
            Err(fault) => Err(fault.throw("setAttributes", Some(&path))),
        }
    }

    /// Gives an entry another name, perhaps in another directory. A name that is there already is
    /// replaced if `replace` says so.
    ///
    /// # Errors
    /// EEXIST, ENOTEMPTY, EISDIR, ENOTDIR; else as `mkdir`.
    pub async fn rename(
        &self,
        path: JsString,
        new_path: JsString,
        replace: bool,
    ) -> Result<(), JsValue> {
        let clash = if replace { Clash::Replace } else { Clash::Refuse };
        let renamed = self.move_name(&path, &new_path, clash).await;
        renamed.map_err(|fault| fault.throw("rename", Some(&path)))
    }

    /// Takes away the name of anything but a directory.
    ///
    /// # Errors
    /// EISDIR; else as `stat`.
    pub async fn unlink(&self, path: JsString) -> Result<(), JsValue> {
        let removed = self.remove(&path, Victim::File).await;
        removed.map_err(|fault| fault.throw("unlink", Some(&path)))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// ENOTEMPTY, ENOTDIR; else as `stat`.
    pub async fn rmdir(&self, path: JsString) -> Result<(), JsValue> {
        let removed = self.remove(&path, Victim::Directory).await;
        removed.map_err(|fault| fault.throw("rmdir", Some(&path)))
    }
}

impl Volume {
    async fn change_pfs(&self, change: PfsChange) -> Result<(), Fault> {
        Ok(self.engine().solo().change_pfs(&change).await?)
    }

    async fn copy_pfs(&self, of: &JsString, label: &JsString) -> Result<(), Fault> {
        let label = names::from_js(label);
        check_label(&label)?;
        let of = self.engine().open_pfs(names::from_js(of)).await?.id();
        self.change_pfs(PfsChange::Snapshot { of, label, birth: birth()? }).await
    }

    async fn make_pfs(&self, label: &JsString) -> Result<(), Fault> {
        let label = names::from_js(label);
        check_label(&label)?;
        self.change_pfs(PfsChange::Create { label, birth: birth()? }).await
    }

    async fn label_pfs(&self, label: &JsString, new_label: &JsString) -> Result<(), Fault> {
        let (label, new_label) = (names::from_js(label), names::from_js(new_label));
        check_label(&new_label)?;
        self.change_pfs(PfsChange::Rename { label, new_label }).await
    }
}

#[wasm_bindgen]
impl Volume {
    /// Makes a new file system on `device`: what was there is lost.
    ///
    /// # Errors
    /// EINVAL: there can be no such file system, the message says why; or the device failed.
    pub async fn format(
        device: BlockDevice,
        options: Option<JsFormatOptions>,
    ) -> Result<(), JsValue> {
        let made = make_volume(device, options.as_ref()).await;
        made.map_err(|fault| fault.throw("format", None))
    }

    /// Commits what was changed: when this resolves, it lasts. Says whether anything was.
    ///
    /// # Errors
    /// What the device said; then the volume takes no more changes.
    pub async fn sync(&self) -> Result<bool, JsValue> {
        let flushed = self.engine().solo().flush(false).await;
        flushed.map_err(|error| Fault::Core(error).throw("sync", None))
    }

    /// Whether something was changed that `sync` has not committed.
    #[wasm_bindgen(getter, js_name = isDirty)]
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.engine().solo().with_memory(|memory| memory.is_some_and(|memory| memory.is_dirty()))
    }

    /// Size of the volume and free space, with what was changed counted in.
    #[wasm_bindgen(unchecked_return_type = "{ size: Int; free: Int }")]
    #[must_use]
    pub fn space(&self) -> JsValue {
        let record = Record::new();
        record.set("size", int(self.engine().volume().space().size_bytes));
        record.set("free", int(self.engine().free_bytes()));
        record.into()
    }

    /// Makes a snapshot of the file system `of`, as it is now, and commits.
    ///
    /// # Errors
    /// EEXIST, ENOENT, EINVAL, ENAMETOOLONG: the label; or the device failed.
    pub async fn snapshot(&self, of: JsString, label: JsString) -> Result<(), JsValue> {
        let made = self.copy_pfs(&of, &label).await;
        made.map_err(|fault| fault.throw("snapshot", Some(&label)))
    }

    /// Makes an empty file system, and commits.
    ///
    /// # Errors
    /// As `snapshot`.
    #[wasm_bindgen(js_name = createPfs)]
    pub async fn create_pfs(&self, label: JsString) -> Result<(), JsValue> {
        let made = self.make_pfs(&label).await;
        made.map_err(|fault| fault.throw("createPfs", Some(&label)))
    }

    /// Gives a file system or a snapshot that is not open for writing another label, and commits.
    ///
    /// # Errors
    /// As `snapshot` and `deletePfs`.
    #[wasm_bindgen(js_name = renamePfs)]
    pub async fn rename_pfs(&self, label: JsString, new_label: JsString) -> Result<(), JsValue> {
        let renamed = self.label_pfs(&label, &new_label).await;
        renamed.map_err(|fault| fault.throw("renamePfs", Some(&label)))
    }

    /// Removes a file system or a snapshot that is not open for writing, and commits.
    ///
    /// # Errors
    /// ENOENT; EBUSY; or the device failed.
    #[wasm_bindgen(js_name = deletePfs)]
    pub async fn delete_pfs(&self, label: JsString) -> Result<(), JsValue> {
        let change = PfsChange::Delete { label: names::from_js(&label) };
        let removed = self.change_pfs(change).await;
        removed.map_err(|fault| fault.throw("deletePfs", Some(&label)))
    }

    /// Looks for space that nothing refers to, and frees it: what deleted snapshots held comes
    /// back by this only. Reads all of the metadata.
    ///
    /// # Errors
    /// What could not be read: then nothing was freed. Or the device failed.
    #[wasm_bindgen(js_name = freeUnused, unchecked_return_type = "{ bytes: Int; corruptBytes: Int }")]
    pub async fn free_unused(&self) -> Result<JsValue, JsValue> {
        let solo = self.engine().solo();
        let freed = async { solo.finish_bulkfree(solo.begin_bulkfree().await?).await };
        let freed = freed.await.map_err(|error| Fault::Core(error).throw("freeUnused", None))?;
        let record = Record::new();
        record.set("bytes", int(freed.bytes));
        record.set("corruptBytes", int(freed.corrupt_bytes));
        Ok(record.into())
    }
}

async fn make_volume(device: BlockDevice, options: Option<&JsFormatOptions>) -> Result<(), Fault> {
    let local = LocalDevice::new(device);
    let mut format_options = FormatOptions::new(vec![local.size()], now());
    if let Some(label) = options.and_then(JsFormatOptions::label) {
        format_options.labels = vec![names::from_js(&label)];
    }
    if let Some(name) = options.and_then(JsFormatOptions::compression) {
        format_options.compression = compression_of(&name)?;
    }
    let formatted = plan(&format_options)?;
    farrier_core::drive::format(&Devices::Local(local), &formatted).await?;
    Ok(())
}

fn plan(options: &FormatOptions) -> Result<Formatted, Fault> {
    let mut is_random = true;
    let formatted = format(options, |bytes| match random() {
        Ok(random) => *bytes = random,
        Err(_) => is_random = false,
    });
    if !is_random {
        return Err(Fault::Argument(NO_RANDOM));
    }
    formatted.map_err(|refusal: FormatRefusal| Fault::Refused(refusal.to_string()))
}

fn compression_of(name: &str) -> Result<u8, Fault> {
    match name {
        "none" => Ok(0),
        "autozero" => Ok(1),
        "lz4" => Ok(2),
        "zlib" => Ok(3),
        _ => Err(Fault::Argument("compression is none, autozero, lz4 or zlib")),
    }
}

fn birth() -> Result<Birth, Fault> {
    Ok(Birth { cluster_id: Uuid(random()?), pfs_id: Uuid(random()?), now: now() })
}

fn random() -> Result<[u8; 16], Fault> {
    let array = Uint8Array::new_with_length(16);
    fill_random(&array).map_err(|_| Fault::Argument(NO_RANDOM))?;
    let mut bytes = [0; 16];
    array.copy_to(&mut bytes);
    // a random UUID says that it is one: version 4, variant 1
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(bytes)
}

fn now() -> WallTime {
    wall_time(Date::now())
}

/// Milliseconds since 1970 as the media has them.
fn wall_time(ms: f64) -> WallTime {
    // saturates at both ends; what is no number is 1970
    WallTime(((ms * 1000.0).round() as i64).cast_unsigned())
}

/// Where a path's last name begins; trailing slashes count for nothing. `None` for one that names
/// no entry: the root, or nothing.
fn parent_and_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = path.iter().rposition(|byte| *byte != b'/')? + 1;
    let path = path.get(..end)?;
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    Some(path.split_at(start))
}

const NO_NAME: &str = "the path must name an entry of a directory";
const OFFSET: &str = "an offset or size must be a whole number from 0 to 2^53 - 1";
const NO_RANDOM: &str = "this browser gives no random numbers";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        let split = |path: &'static str| {
            parent_and_name(path.as_bytes()).map(|(parent, name)| {
                (str::from_utf8(parent).unwrap(), str::from_utf8(name).unwrap())
            })
        };
        assert_eq!(split("/a/b"), Some(("/a/", "b")));
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("a//"), Some(("", "a")));
        assert_eq!(split("///"), None);
        assert_eq!(split(""), None);
    }

    #[test]
    fn times_come_back_and_nonsense_is_1970() {
        assert_eq!(wall_time(1.5), WallTime(1500));
        assert_eq!(wall_time(-1.0), WallTime((-1000_i64).cast_unsigned()));
        assert_eq!(wall_time(f64::NAN), WallTime(0));
    }
}
