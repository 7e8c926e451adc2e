//! The page: the wasm module, its JavaScript glue and the static files, together in
//! `host-web/dist`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{During, Failure, Outcome};
use crate::run::run;
use crate::toolchain::WasmToolchain;
use crate::workspace::Workspace;

/// How much work goes into the module's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What cargo and bindgen make.
    Plain,
    /// Also binaryen's optimiser: a tenth less to compile for the browser, hardly less to download.
    Release,
}

/// What is served, and the module in it.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) folder: PathBuf,
    pub(crate) module: PathBuf,
}

/// Builds the page into `host-web/dist` and fails if its module has grown past the limit.
pub(crate) fn build(
    workspace: &Workspace,
    toolchain: &WasmToolchain,
    effort: Effort,
) -> Outcome<Page> {
    let linked = compile(workspace, toolchain)?;
    let folder = workspace.path("host-web/dist");
    if folder.exists() {
        fs::remove_dir_all(&folder).during(|| format!("remove {}", folder.display()))?;
    }
    let source = workspace.path("host-web/page");
    if !source.join("index.html").exists() {
        let source = workspace.shown(&source);
        return Err(Failure::new(format!(
            "{source} holds no index.html: there is no page to build"
        )));
    }
    copy_tree(&source, &folder)?;
    run(Command::new(bindgen(workspace)?).arg(&linked).arg(&folder))?;
    let module = folder.join("farrier_web_bg.wasm");
    if effort == Effort::Release {
        optimise(&module)?;
    }
    check_size(workspace, &module)?;
    Ok(Page { folder, module })
}

/// Builds the tool that writes the glue, and returns it. At once when it is there.
pub(crate) fn bindgen(workspace: &Workspace) -> Outcome<PathBuf> {
    check_versions(workspace)?;
    // A target directory of its own: its lock is not held while the workspace builds.
    let target = workspace.target.join("bindgen");
    let tool = target.join("release/farrier-bindgen");
    if !tool.exists() {
        println!("building the bindgen tool (one to three minutes, once)");
    }
    run(workspace
        .cargo()
        .args(["build", "--quiet", "--release", "--locked", "--manifest-path"])
        .arg(workspace.path("xtask/bindgen/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target))?;
    Ok(tool)
}

fn compile(workspace: &Workspace, toolchain: &WasmToolchain) -> Outcome<PathBuf> {
    run(toolchain
        .cargo(workspace)
        .args(["build", "--package", "farrier-web", "--lib", "--target", TARGET])
        .args(["--profile", "wasm"])
        .env("CARGO_TARGET_DIR", &workspace.target))?;
    let linked = workspace.target.join(TARGET).join("wasm/farrier_web.wasm");
    if linked.exists() {
        return Ok(linked);
    }
    let linked = workspace.shown(&linked);
    Err(Failure::new(format!("farrier-web made no {linked}: its crate-type must name cdylib")))
}

/// The crate and the tool understand each other only when they are of the same version.
fn check_versions(workspace: &Workspace) -> Outcome {
    let read =
        |file: &str| fs::read_to_string(workspace.path(file)).during(|| format!("read {file}"));
    let used = read("Cargo.lock")?;
    let tool = read("xtask/bindgen/Cargo.lock")?;
    let used = locked_version(&used, "wasm-bindgen");
    let tool = locked_version(&tool, "wasm-bindgen-cli-support");
    match (used, tool) {
        (Some(used), Some(tool)) if used != tool => Err(Failure::new(format!(
            "farrier-web uses wasm-bindgen {used} but xtask/bindgen is {tool}: set both to the same version"
        ))),
        _ => Ok(()),
    }
}

/// The version of `package` in the text of a Cargo.lock.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, rest) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split_once('"').map(|(version, _)| version)
}

fn optimise(module: &Path) -> Outcome {
    let optimised = module.with_extension("optimised");
    run(Command::new("npm")
        .args(["exec", "--yes", "--package=binaryen@132.0.0", "--", "wasm-opt", "-Os"])
        .args(WASM_OPT_FEATURES)
        .arg(module)
        .arg("-o")
        .arg(&optimised))?;
    fs::rename(&optimised, module).during(|| format!("write {}", module.display()))
}

fn check_size(workspace: &Workspace, module: &Path) -> Outcome {
    let raw = fs::metadata(module).during(|| format!("read {}", module.display()))?.len();
    let gzip = Command::new("gzip")
        .args(["-9", "--no-name", "--stdout"])
        .arg(module)
        .output()
        .during(|| "run gzip".to_owned())?;
    let zipped = gzip.stdout.len();
    println!("{}: {raw} bytes, {zipped} gzipped", workspace.shown(module));
    if !gzip.status.success() || zipped == 0 {
        return Err(Failure::new("gzip did not pack the page's module"));
    }
    if zipped > GZIPPED_BYTES_MAX {
        return Err(Failure::new(format!(
            "the page's module is {zipped} bytes gzipped, more than the {GZIPPED_BYTES_MAX} it may have: \
             find what came in (twiggy, cargo tree), or raise the limit in xtask/src/web.rs and say why"
        )));
    }
    Ok(())
}

fn copy_tree(source: &Path, target: &Path) -> Outcome {
    fs::create_dir_all(target).during(|| format!("make {}", target.display()))?;
    let entries = fs::read_dir(source).during(|| format!("read {}", source.display()))?;
    for entry in entries {
        let entry = entry.during(|| format!("read {}", source.display()))?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        if from.is_dir() {
            copy_tree(&from, &to)?;
        } else {
            fs::copy(&from, &to).during(|| format!("write {}", to.display()))?;
        }
    }
    Ok(())
}

const TARGET: &str = "wasm32-unknown-unknown";

/// A page that is to open at once on a slow line. It was 300,000 bytes for a page that only reads;
/// writing took it to 270,000 and copies to 324,000, most of it state machines of commits.
const GZIPPED_BYTES_MAX: usize = 360_000;

/// Exactly what rustc's output uses. With `--all-features` binaryen writes what browsers refuse.
const WASM_OPT_FEATURES: &[&str] = &[
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-reference-types",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-multivalue",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_version_is_that_of_the_package_named() {
        let lock = "\
[[package]]
name = \"wasm-bindgen-shared\"
version = \"0.2.1\"

[[package]]
name = \"wasm-bindgen\"
version = \"0.2.130\"
source = \"somewhere\"
";
        assert_eq!(locked_version(lock, "wasm-bindgen"), Some("0.2.130"));
        assert_eq!(locked_version(lock, "wasm-bindgen-shared"), Some("0.2.1"));
        assert_eq!(locked_version(lock, "wasm"), None);
    }

    #[test]
    fn a_tree_is_copied_with_its_folders() {
        let folder = std::env::temp_dir().join(format!("xtask-web-{}", std::process::id()));
        let (source, target) = (folder.join("page"), folder.join("dist"));
        fs::create_dir_all(source.join("icons")).unwrap();
        fs::write(source.join("index.html"), "page").unwrap();
        fs::write(source.join("icons/a.svg"), "icon").unwrap();
        let copied = copy_tree(&source, &target);
        let icon = fs::read_to_string(target.join("icons/a.svg"));
        fs::remove_dir_all(&folder).unwrap();
        copied.unwrap();
        assert_eq!(icon.unwrap(), "icon");
    }
}
