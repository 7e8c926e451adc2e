//! The WASI module.

use std::fs;
use std::path::PathBuf;

use crate::failure::{During, Failure, Outcome};
use crate::run::run;
use crate::toolchain::WasmToolchain;
use crate::workspace::Workspace;

/// Builds `farrier-wasi` and lays it down where its runner and the tests look for it.
pub(crate) fn build(workspace: &Workspace, toolchain: &WasmToolchain) -> Outcome<PathBuf> {
    run(toolchain
        .cargo(workspace)
        .args(["build", "--package", "farrier-wasi", "--target", TARGET, "--profile", "wasm"])
        .env("CARGO_TARGET_DIR", &workspace.target))?;
    let built = workspace.target.join(TARGET).join("wasm/farrier-wasi.wasm");
    if !built.exists() {
        return Err(Failure::new(format!(
            "farrier-wasi made no {}: it must have a binary of its own name",
            workspace.shown(&built)
        )));
    }
    let module = workspace.target.join("wasi/farrier.wasm");
    let folder = workspace.target.join("wasi");
    fs::create_dir_all(&folder).during(|| format!("make {}", folder.display()))?;
    let bytes = fs::copy(&built, &module).during(|| format!("write {}", module.display()))?;
    println!("{}: {bytes} bytes", workspace.shown(&module));
    Ok(module)
}

const TARGET: &str = "wasm32-wasip1";
