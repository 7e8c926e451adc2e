//! The class `Volume`.

use std::rc::Rc;

use farrier_core::volume::OpenOptions;
use js_sys::{Array, Function, JsString};
use wasm_bindgen::prelude::*;
use web_sys::Blob;

use crate::engine::Engine;
use crate::failure::Fault;
use crate::local::BlockDevice;
use crate::pfs::Pfs;
use crate::{checking, names, value};

#[wasm_bindgen]
extern "C" {
    /// The options of `Volume.open`.
    #[wasm_bindgen(typescript_type = "OpenOptions")]
    #[derive(Debug)]
    pub type JsOpenOptions;

    #[wasm_bindgen(method, getter, structural, js_name = allowTruncated)]
    fn allow_truncated(this: &JsOpenOptions) -> Option<bool>;
}

/// A HAMMER2 file system, on one volume or on several that belong together. Chosen files are only
/// read.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Volume {
    engine: Rc<Engine>,
}

impl Volume {
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

#[wasm_bindgen]
impl Volume {
    /// Opens the file system that these files hold together, in any order. Reads a few headers.
    ///
    /// # Errors
    /// Why they hold none that can be read; see `reason`.
    pub async fn open(files: Vec<Blob>, options: Option<JsOpenOptions>) -> Result<Self, JsValue> {
        let allow_truncated = options.and_then(|options| options.allow_truncated());
        let options = OpenOptions {
            allow_truncated: allow_truncated.unwrap_or(false),
            ..OpenOptions::default()
        };
        match Engine::open(files, options).await {
            Ok(engine) => Ok(Self { engine: Rc::new(engine) }),
            Err(error) => Err(Fault::Core(error).throw("open", None)),
        }
    }

    /// Opens the file system on `device` for reading and writing. Nobody else may use the device
    /// meanwhile.
    ///
    /// # Errors
    /// Why it holds none that can be written; see `reason`.
    #[wasm_bindgen(js_name = openForWriting)]
    pub async fn open_for_writing(device: BlockDevice) -> Result<Self, JsValue> {
        match Engine::open_for_writing(device).await {
            Ok(engine) => Ok(Self { engine: Rc::new(engine) }),
            Err(error) => Err(Fault::Core(error).throw("openForWriting", None)),
        }
    }

    /// What the volume headers said when it was opened.
    #[wasm_bindgen(unchecked_return_type = "Facts")]
    #[must_use]
    pub fn facts(&self) -> JsValue {
        value::facts(self.engine.volume())
    }

    /// The file systems and snapshots in it, as far as they can be read.
    ///
    /// # Errors
    /// The list itself cannot be read.
    #[wasm_bindgen(
        unchecked_return_type = "{ entries: PfsInfo[]; broken: { message: string; code: string }[] }"
    )]
    pub async fn pfs(&self) -> Result<JsValue, JsValue> {
        let list = self
            .engine
            .run(self.engine.list_pfs())
            .await
            .map_err(|error| Fault::Core(error).throw("pfs", None))?;
        let entries: Array = list.entries.iter().map(value::pfs_info).collect();
        let broken: Array =
            list.broken.into_iter().map(|error| Fault::Core(error).value()).collect();
        let record = value::Record::new();
        record.set("entries", entries);
        record.set("broken", broken);
        Ok(record.into())
    }

    /// The file system with this label: for writing if the volume is, and it is no snapshot.
    ///
    /// # Errors
    /// ENOENT, or its root cannot be read.
    #[wasm_bindgen(js_name = openPfs)]
    pub async fn open_pfs(&self, label: JsString) -> Result<Pfs, JsValue> {
        match self.engine.open_pfs(names::from_js(&label)).await {
            Ok(pfs) => Ok(Pfs::new(Rc::clone(&self.engine), pfs)),
            Err(error) => Err(Fault::Core(error).throw("openPfs", Some(&label))),
        }
    }

    /// Reads and checks everything: check codes, tables, names, links, the freemap. Changes
    /// nothing. `onProgress` is called now and then, and may return a promise to be waited for;
    /// the check ends early once `shouldStop` returns true.
    ///
    /// # Errors
    /// What a callback threw, or a file that is gone. Whatever is wrong with the volume is a
    /// finding, not an error.
    #[wasm_bindgen(unchecked_return_type = "CheckReport")]
    pub async fn check(
        &self,
        #[wasm_bindgen(
            js_name = onProgress,
            unchecked_param_type = "(progress: CheckProgress) => void | Promise<void>"
        )]
        on_progress: Function,
        #[wasm_bindgen(js_name = shouldStop, unchecked_param_type = "() => boolean")]
        should_stop: Function,
    ) -> Result<JsValue, JsValue> {
        checking::run(&self.engine, &on_progress, &should_stop).await
    }
}
