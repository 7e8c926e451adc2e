//! The class `Pfs`: one mountable tree, in the manner of Node's `fs.promises`.

use std::rc::Rc;

use farrier_core::fs::read::READ_MAX;
use farrier_core::fs::{
    Extent, LastLink, Pfs as Tree, Read, ReadDir, ReadLink, Resolve, Resolved, Seek, SeekTarget,
};
use js_sys::{Array, JsString, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::engine::Engine;
use crate::failure::Fault;
use crate::value::SAFE_INTEGER_MAX;
use crate::{names, value};

/// One file system of a volume, or a snapshot. One of a volume that was opened for writing can be
/// changed, unless it is a snapshot.
///
/// Paths are strings from the root, `/` between the names. Operations may overlap.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Pfs {
    engine: Rc<Engine>,
    tree: Tree,
}

impl Pfs {
    pub(crate) const fn new(engine: Rc<Engine>, tree: Tree) -> Self {
        Self { engine, tree }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) const fn tree(&self) -> Tree {
        self.tree
    }

    /// A relative path is one from the root, too.
    pub(crate) async fn find(
        &self,
        path: &JsString,
        last_link: LastLink,
    ) -> Result<Resolved, Fault> {
        let path = names::from_js(path);
        Ok(self.engine.run(Resolve { pfs: self.tree, path, last_link }).await?)
    }

    async fn seek(&self, path: &JsString, offset: f64, target: SeekTarget) -> Result<f64, Fault> {
        let found = self.find(path, LastLink::Follow).await?;
        let operation = Seek {
            pfs: self.tree,
            inum: found.attributes.inum,
            offset: whole(offset, "offset must be a whole number from 0 to 2^53 - 1")?,
            target,
        };
        // a file's size is below 2^63; above 2^53 the answer is rounded, as the argument was
        Ok(self.engine.run(operation).await? as f64)
    }

    async fn page(
        &self,
        path: &JsString,
        cursor: Option<u64>,
        limit: Option<u32>,
    ) -> Result<JsValue, Fault> {
        let found = self.find(path, LastLink::Follow).await?;
        let limit = limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        let page = self
            .engine
            .run(ReadDir {
                pfs: self.tree,
                directory: found.attributes.inum,
                position: cursor.unwrap_or(AFTER_DOTS).max(AFTER_DOTS),
                limit: limit as usize,
                with_attributes: true,
            })
            .await?;
        let entries: Array = page.entries.iter().map(value::entry).collect();
        let broken: Array =
            page.broken.into_iter().map(|error| Fault::Core(error).value()).collect();
        let record = value::Record::new();
        record.set("entries", entries);
        record.set("broken", broken);
        record.set("cursor", page.next.map_or(JsValue::NULL, JsValue::from));
        Ok(record.into())
    }

    async fn bytes(&self, path: &JsString, offset: f64, length: u32) -> Result<Uint8Array, Fault> {
        let found = self.find(path, LastLink::Follow).await?;
        let extents = self
            .engine
            .run(Read {
                pfs: self.tree,
                inum: found.attributes.inum,
                offset: whole(offset, "offset must be a whole number from 0 to 2^53 - 1")?,
                len: (length as usize).min(READ_MAX),
                ahead: 0,
            })
            .await?;
        let len: usize = extents.iter().map(Extent::len).sum();
        // An array of its own, filled once: what JavaScript gets must not look into our memory,
        // which moves when it grows. It is made of zeros, so holes are there already.
        let bytes = Uint8Array::new_with_length(u32::try_from(len).unwrap_or(u32::MAX));
        let mut at = 0;
        for extent in &extents {
            // both ends are at most READ_MAX
            let end = at + extent.len() as u32;
            if let Extent::Bytes(block, range) = extent
                && let Some(part) = block.get(range.clone())
            {
                bytes.subarray(at, end).copy_from(part);
            }
            at = end;
        }
        Ok(bytes)
    }
}

#[wasm_bindgen]
impl Pfs {
    /// Attributes of what the path leads to.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, ELOOP, EIO.
    #[wasm_bindgen(unchecked_return_type = "Stats")]
    pub async fn stat(&self, path: JsString) -> Result<JsValue, JsValue> {
        match self.find(&path, LastLink::Follow).await {
            Ok(found) => Ok(value::stats(&found.attributes).into()),
            Err(fault) => Err(fault.throw("stat", Some(&path))),
        }
    }

    /// As `stat`, of a symbolic link itself.
    ///
    /// # Errors
    /// As `stat`.
    #[wasm_bindgen(unchecked_return_type = "Stats")]
    pub async fn lstat(&self, path: JsString) -> Result<JsValue, JsValue> {
        match self.find(&path, LastLink::Keep).await {
            Ok(found) => Ok(value::stats(&found.attributes).into()),
            Err(fault) => Err(fault.throw("lstat", Some(&path))),
        }
    }

    /// The path without links and dots.
    ///
    /// # Errors
    /// As `stat`.
    #[wasm_bindgen(unchecked_return_type = "string")]
    pub async fn realpath(&self, path: JsString) -> Result<JsValue, JsValue> {
        match self.find(&path, LastLink::Follow).await {
            Ok(found) => Ok(names::to_js(&found.path())),
            Err(fault) => Err(fault.throw("realpath", Some(&path))),
        }
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL: it is none; else as `stat`.
    #[wasm_bindgen(unchecked_return_type = "string")]
    pub async fn readlink(&self, path: JsString) -> Result<JsValue, JsValue> {
        let target = async {
            let found = self.find(&path, LastLink::Keep).await?;
            let operation = ReadLink { pfs: self.tree, inum: found.attributes.inum };
            Ok::<_, Fault>(self.engine.run(operation).await?)
        };
        match target.await {
            Ok(target) => Ok(names::to_js(&target)),
            Err(fault) => Err(fault.throw("readlink", Some(&path))),
        }
    }

    /// A page of a directory, in the order of the media, with attributes: from `cursor` (of the
    /// page before), at most `limit` names.
    ///
    /// # Errors
    /// As `stat`.
    #[wasm_bindgen(unchecked_return_type = "DirectoryPage")]
    pub async fn readdir(
        &self,
        path: JsString,
        cursor: Option<u64>,
        limit: Option<u32>,
    ) -> Result<JsValue, JsValue> {
        let page = self.page(&path, cursor, limit).await;
        page.map_err(|fault| fault.throw("readdir", Some(&path)))
    }

    /// Up to `length` bytes from `offset`, at most 8 MiB; fewer mean the end of the file.
    ///
    /// # Errors
    /// EISDIR, EINVAL: no regular file; EIO; else as `stat`.
    pub async fn read(
        &self,
        path: JsString,
        offset: f64,
        length: u32,
    ) -> Result<Uint8Array, JsValue> {
        let bytes = self.bytes(&path, offset, length).await;
        bytes.map_err(|fault| fault.throw("read", Some(&path)))
    }

    /// The first offset from `offset` on that is stored; ENXIO where only a hole follows.
    ///
    /// # Errors
    /// As `read`.
    #[wasm_bindgen(js_name = seekData)]
    pub async fn seek_data(&self, path: JsString, offset: f64) -> Result<f64, JsValue> {
        let found = self.seek(&path, offset, SeekTarget::Data).await;
        found.map_err(|fault| fault.throw("seekData", Some(&path)))
    }

    /// The first offset from `offset` on that is not stored; the end of the file is one.
    ///
    /// # Errors
    /// As `read`.
    #[wasm_bindgen(js_name = seekHole)]
    pub async fn seek_hole(&self, path: JsString, offset: f64) -> Result<f64, JsValue> {
        let found = self.seek(&path, offset, SeekTarget::Hole).await;
        found.map_err(|fault| fault.throw("seekHole", Some(&path)))
    }
}

/// A whole number that JavaScript meant exactly.
pub(crate) fn whole(value: f64, complaint: &'static str) -> Result<u64, Fault> {
    if value.fract() == 0.0 && (0.0..=SAFE_INTEGER_MAX as f64).contains(&value) {
        Ok(value as u64)
    } else {
        Err(Fault::Argument(complaint))
    }
}

/// Position behind `.` and `..`, which a list in a page does not want.
const AFTER_DOTS: u64 = 2;

/// Entries of a page where nobody says how many.
const PAGE_DEFAULT: u32 = 512;

/// Most entries of one page.
const PAGE_MAX: u32 = 8192;
