//! Proof that `farrier-core` needs no more than `core` and `alloc`.
//!
//! `#![no_std]` at its root says nothing about its dependencies: a feature switched on somewhere
//! is enough to bring `std` back, and on a target that has a `std` nobody notices. So the core is
//! built for wasm against a sysroot that holds no `std` at all.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{During, Failure, Outcome};
use crate::run::run;
use crate::toolchain::{WasmToolchain, libraries_in_sysroot};
use crate::workspace::Workspace;

/// Builds the core without and with each of its features against the reduced sysroot, after
/// showing that this sysroot does refuse what uses `std`.
pub(crate) fn prove(workspace: &Workspace, toolchain: &WasmToolchain) -> Outcome {
    let folder = workspace.target.join("core-proof");
    let sysroot = lay_out_sysroot(&folder, toolchain)?;
    self_test(&folder, &sysroot, toolchain)?;
    for features in FEATURE_SETS {
        println!(
            "farrier-core with features: {}",
            if features.is_empty() { "none" } else { features }
        );
        // Set for the target only: procedural macros and build scripts go on using the host's std.
        run(toolchain
            .cargo(workspace)
            .args(["build", "--quiet", "--package", "farrier-core", "--lib"])
            .args(["--target", TARGET, "--profile", "wasm"])
            .args(["--no-default-features", "--features", features])
            .env("CARGO_TARGET_DIR", &workspace.target)
            .env(
                "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
                format!("--sysroot={}", sysroot.display()),
            ))?;
    }
    println!("farrier-core builds where only {} exist", LIBRARIES.join(", "));
    Ok(())
}

/// Makes a sysroot of the few libraries that the core may use.
fn lay_out_sysroot(folder: &Path, toolchain: &WasmToolchain) -> Outcome<PathBuf> {
    let sysroot = folder.join("sysroot");
    let target = sysroot.join(libraries_in_sysroot(TARGET));
    if sysroot.exists() {
        fs::remove_dir_all(&sysroot).during(|| format!("remove {}", sysroot.display()))?;
    }
    fs::create_dir_all(&target).during(|| format!("make {}", target.display()))?;
    let source = toolchain.libraries(TARGET);
    for library in LIBRARIES {
        let file = find_library(&source, library)?;
        let copy = target.join(file.file_name().unwrap_or_default());
        std::os::unix::fs::symlink(&file, &copy).during(|| format!("make {}", copy.display()))?;
    }
    Ok(sysroot)
}

/// `lib<name>-<hash>.rlib` in `folder`.
fn find_library(folder: &Path, name: &str) -> Outcome<PathBuf> {
    let entries = fs::read_dir(folder).during(|| format!("read {}", folder.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let hash = file.strip_prefix("lib").and_then(|rest| rest.strip_prefix(name));
            hash.is_some_and(|hash| hash.starts_with('-') && hash.ends_with(".rlib"))
        })
        .ok_or_else(|| {
            let folder = folder.display();
            Failure::new(format!(
                "{folder} holds no lib{name}: run `xtask/wasm-toolchain.sh --force`"
            ))
        })
}

/// A proof that cannot fail proves nothing: of two small crates, the one that uses `std` must be
/// refused for that reason, and the one that does not must pass.
fn self_test(folder: &Path, sysroot: &Path, toolchain: &WasmToolchain) -> Outcome {
    let compile = |name: &str, text: &str| -> Outcome<(bool, String)> {
        let source = folder.join(name).with_extension("rs");
        fs::write(&source, text).during(|| format!("write {}", source.display()))?;
        let output = toolchain
            .rustc()
            .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata"])
            .args(["--target", TARGET, "--out-dir"])
            .arg(folder)
            .arg("--sysroot")
            .arg(sysroot)
            .arg(&source)
            .output()
            .during(|| "start the wasm toolchain's rustc".to_owned())?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (built, messages) = compile("without_std", WITHOUT_STD)?;
    if !built {
        return Err(Failure::new(format!(
            "the reduced sysroot refuses even a crate without std: {messages}"
        )));
    }
    let (built, messages) = compile("with_std", WITH_STD)?;
    if built || !messages.contains("can't find crate for `std`") {
        return Err(Failure::new(format!(
            "the reduced sysroot does not refuse a crate that uses std, so it proves nothing {messages}"
        )));
    }
    println!("the reduced sysroot refuses a crate that uses std, as it should");
    Ok(())
}

const TARGET: &str = "wasm32-unknown-unknown";

/// `compiler_builtins` is what compiled code calls for arithmetic that the machine lacks.
const LIBRARIES: &[&str] = &["core", "alloc", "compiler_builtins"];

const FEATURE_SETS: &[&str] = &["", "serde"];

const WITHOUT_STD: &str = "\
#![no_std]
extern crate alloc;
pub fn twice(text: &str) -> alloc::string::String {
    alloc::format!(\"{text}{text}\")
}
";

const WITH_STD: &str = "\
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_found_by_its_whole_name() {
        let folder = std::env::temp_dir().join(format!("xtask-core-proof-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for file in ["libcore_simd-1.rlib", "libcore-2.rmeta", "libcore-3.rlib", "notes"] {
            fs::write(folder.join(file), "").unwrap();
        }
        let found = find_library(&folder, "core");
        let missing = find_library(&folder, "alloc");
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.unwrap().file_name().unwrap(), "libcore-3.rlib");
        assert!(missing.unwrap_err().to_string().contains("liballoc"));
    }
}
