//! Checking a volume: the core's machine over files, telling a page how it goes.

use std::collections::BTreeMap;

use farrier_core::drive;
use farrier_core::engine::Block;
use farrier_core::error::{Error, FaultCause};
use farrier_core::fs::{PathOf, Pfs};
use farrier_core::scan::{Check, CheckOptions, Finding, Stage, Step};
use farrier_core::units::Inum;
use js_sys::{Array, Date, Function, Promise};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::engine::Engine;
use crate::failure::Fault;
use crate::names;
use crate::value::{Record, finding, int};

/// Checks everything. `on_progress` gets a `CheckProgress` now and then, and may return a promise
/// to be waited for; the check ends early once `should_stop` returns true.
pub(crate) async fn run(
    engine: &Engine,
    on_progress: &Function,
    should_stop: &Function,
) -> Result<JsValue, JsValue> {
    // What was committed since the volume was opened counts, too.
    let committed = match engine.is_writable() {
        true => Some(engine.fresh_volume().await.map_err(|error| thrown(&error))?),
        false => None,
    };
    let volume = committed.as_ref().unwrap_or(engine.volume());
    let mut check = Check::new(volume, OPTIONS);
    let mut paths = Paths::default();
    let mut told = f64::NEG_INFINITY;
    let mut fresh = Array::new();
    let stopped = loop {
        let step = check.step();
        for each in check.take_findings() {
            let path = paths.of(engine, &check, &each).await;
            fresh.push(&finding(&each, label(&check, &each), path.as_deref()));
        }
        let Step::Read(wants) = step else { break false };
        if should_stop.call0(&JsValue::NULL)?.is_truthy() {
            break true;
        }
        let now = Date::now();
        if now - told >= PROGRESS_EVERY_MS {
            told = now;
            let record = report(&check, std::mem::take(&mut fresh));
            let answer = on_progress.call1(&JsValue::NULL, &record.into())?;
            if let Ok(promise) = answer.dyn_into::<Promise>() {
                JsFuture::from(promise).await?;
            }
        }
        // Past the cache: what counts is what the file says, and it would only push out what a
        // page needs to list its folders meanwhile.
        let reads =
            wants.iter().map(|want| drive::read_block(volume, engine.devices(), want)).collect();
        let got = drive::join_all(reads).await;
        if let Some(gone) = got.iter().find_map(gone) {
            return Err(thrown(&gone));
        }
        check.resume(got);
    };
    let record = report(&check, fresh);
    record.set("stopped", stopped);
    Ok(record.into())
}

fn thrown(error: &Error) -> JsValue {
    Fault::Core(*error).throw("check", None)
}

/// A file that was changed or removed says nothing about the volume: a thousand findings would.
fn gone(got: &Result<Block, Error>) -> Option<Error> {
    match got {
        Err(Error::Device(fault)) if fault.cause == FaultCause::Gone => Some(Error::Device(*fault)),
        _ => None,
    }
}

fn label<'a>(check: &'a Check, finding: &Finding) -> Option<&'a [u8]> {
    check.labels().nth(finding.pfs? as usize)
}

fn report(check: &Check, fresh: Array) -> Record {
    let progress = check.progress();
    let summary = check.summary();
    let record = Record::new();
    let (stage, pfs) = match progress.stage {
        Stage::SuperRoot => ("super-root", None),
        Stage::Pfs { index, .. } => ("pfs", check.labels().nth(index)),
        Stage::Freemap => ("freemap", None),
        Stage::Done => ("done", None),
    };
    record.set("stage", stage);
    record.set("pfs", pfs.map_or(JsValue::NULL, names::to_js));
    record.set("done", int(progress.bytes));
    record.set("total", int(progress.bytes_expected));
    record.set("blocks", int(summary.blocks));
    record.set("bytes", int(summary.bytes));
    record.set("inodes", int(summary.inodes));
    record.set("names", int(summary.names));
    record.set("fatal", int(summary.fatal));
    record.set("repairable", int(summary.repairable));
    record.set("information", int(summary.information));
    record.set("fresh", fresh);
    record
}

/// Paths of inodes that findings are about.
#[derive(Default)]
struct Paths {
    known: BTreeMap<(u32, Inum), Option<Vec<u8>>>,
}

impl Paths {
    async fn of(&mut self, engine: &Engine, check: &Check, finding: &Finding) -> Option<Vec<u8>> {
        let key = (finding.pfs?, finding.inum?);
        if let Some(path) = self.known.get(&key) {
            return path.clone();
        }
        if self.known.len() >= PATHS_MAX {
            return None;
        }
        let pfs = Pfs::new(check.root(key.0 as usize)?);
        // Where something on the way is damaged, the inode's number has to do.
        let path = engine.run(PathOf { pfs, inum: key.1 }).await.ok();
        self.known.insert(key, path.clone());
        path
    }
}

/// How often a page is told at most.
const PROGRESS_EVERY_MS: f64 = 80.0;

/// Files whose path is looked up for a finding; a badly damaged volume has more than anybody
/// reads, and each may cost the reading of a directory.
const PATHS_MAX: usize = 200;

/// What fits beside everything else that a tab holds.
const OPTIONS: CheckOptions = CheckOptions {
    data: true,
    batch: 64,
    inums_per_pass: 1 << 20,
    directories_per_pass: 256 << 10,
    shared_files: 128 << 10,
    overlap_memory: 64 << 20,
    copy: None,
};
