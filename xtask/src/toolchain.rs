//! The toolchain that builds for wasm, as `wasm-toolchain.sh` found or made it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Outcome};
use crate::run::{capture, find_program};
use crate::workspace::Workspace;

/// Which way to the wasm targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Ask rustup, take Debian's packages where it cannot.
    RustupFirst,
    /// Debian's packages only: what must keep working without downloads from elsewhere. CI takes
    /// this way always, so that it is tested always.
    Debian,
}

impl Route {
    pub(crate) fn choose(skip_rustup: bool) -> Self {
        let ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
        if skip_rustup || ci { Self::Debian } else { Self::RustupFirst }
    }
}

#[derive(Debug)]
pub(crate) struct WasmToolchain {
    /// The word after `cargo +`.
    pub(crate) name: String,
    pub(crate) sysroot: PathBuf,
}

impl WasmToolchain {
    /// Finds the toolchain or makes it; at once when it is there.
    pub(crate) fn ready(workspace: &Workspace, route: Route) -> Outcome<Self> {
        let mut script = Command::new(workspace.path("xtask/wasm-toolchain.sh"));
        // Cargo and rustup set these for us, not for the compilers that the script starts.
        script.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").current_dir(&workspace.root);
        if route == Route::Debian {
            script.arg("--skip-rustup");
        }
        let answer = capture(&mut script)?;
        Self::from_answer(&answer)
            .ok_or_else(|| Failure::new("wasm-toolchain.sh ended without naming a toolchain"))
    }

    fn from_answer(answer: &str) -> Option<Self> {
        let value = |key| answer.lines().rev().find_map(|line| line.strip_prefix(key));
        Some(Self {
            name: value("WASM_TOOLCHAIN=")?.to_owned(),
            sysroot: PathBuf::from(value("WASM_TOOLCHAIN_DIR=")?),
        })
    }

    /// Its cargo, at the workspace's root, free of settings meant for native builds.
    pub(crate) fn cargo(&self, workspace: &Workspace) -> Command {
        let mut cargo = match find_program(&["rustup"]) {
            Some(rustup) => {
                let mut command = Command::new(rustup);
                command.args(["run", &self.name, "cargo"]);
                command
            }
            None => {
                let mut command = Command::new(self.sysroot.join("bin/cargo"));
                command.env("RUSTC", self.sysroot.join("bin/rustc"));
                command
            }
        };
        for variable in NATIVE_SETTINGS {
            cargo.env_remove(variable);
        }
        cargo.current_dir(&workspace.root);
        cargo
    }

    /// Its compiler, for what is smaller than a package.
    pub(crate) fn rustc(&self) -> Command {
        Command::new(self.sysroot.join("bin/rustc"))
    }

    /// Whether it has clippy: rustup's has, Debian's has not.
    pub(crate) fn has_clippy(&self) -> bool {
        self.sysroot.join("bin/cargo-clippy").is_file()
    }

    /// The compiled libraries of `target`.
    pub(crate) fn libraries(&self, target: &str) -> PathBuf {
        self.sysroot.join(libraries_in_sysroot(target))
    }
}

/// Where a sysroot keeps the compiled libraries of `target`.
pub(crate) fn libraries_in_sysroot(target: &str) -> PathBuf {
    Path::new("lib/rustlib").join(target).join("lib")
}

const NATIVE_SETTINGS: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_last_assignment_of_each_name() {
        let answer = "noise\nWASM_TOOLCHAIN=a\nWASM_TOOLCHAIN=b\nWASM_TOOLCHAIN_DIR=/d e\n";
        let toolchain = WasmToolchain::from_answer(answer).unwrap();
        assert_eq!(toolchain.name, "b");
        assert_eq!(toolchain.sysroot, Path::new("/d e"));
    }

    #[test]
    fn half_an_answer_is_none() {
        assert!(WasmToolchain::from_answer("WASM_TOOLCHAIN=a\n").is_none());
        assert!(WasmToolchain::from_answer("").is_none());
    }
}
