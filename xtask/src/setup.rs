//! What the machine must have, and getting it.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Failure, Outcome};
use crate::run::{capture, find_program, run, succeeds};
use crate::toolchain::{Route, WasmToolchain};
use crate::web;
use crate::workspace::Workspace;

/// A program that something here starts, and the Debian package that brings it.
#[derive(Debug)]
pub(crate) struct Need {
    /// Any one of these will do.
    programs: &'static [&'static str],
    package: &'static str,
    purpose: &'static str,
}

/// Everything. `web` leaves out what only the page and its tests need.
pub(crate) fn set_up(workspace: &Workspace, route: Route, web: bool) -> Outcome {
    install(&[MOUNT, UNPACK, GIT, SQLITE, RSYNC])?;
    if web {
        install(&[BROWSER, NODE, NPM])?;
    }
    let toolchain = WasmToolchain::ready(workspace, route)?;
    println!("wasm toolchain: cargo +{}", toolchain.name);
    if web {
        browser_tests(workspace)?;
        let tool = web::bindgen(workspace)?;
        println!("bindgen tool: {}", workspace.shown(&tool));
    }
    Ok(())
}

/// Installs the packages of those `needs` whose programs are missing, or says how.
pub(crate) fn install(needs: &[Need]) -> Outcome {
    let missing: Vec<&Need> =
        needs.iter().filter(|need| find_program(need.programs).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        println!("missing: {} (package {}), {}", need.programs[0], need.package, need.purpose);
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let list = packages.join(" ");
    let Some(apt_get) = find_program(&["apt-get"]) else {
        return Err(Failure::new(format!(
            "install {list} (so Debian calls them) with your system's package manager, then run this again"
        )));
    };
    let Some(privilege) = Privilege::of_this_process() else {
        return Err(Failure::new(format!(
            "run `sudo apt-get install --no-install-recommends {list}`, then run this again"
        )));
    };
    let attempt = || {
        run(privilege
            .command(&apt_get)
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&packages)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // The package lists may be missing or old; fetching them first would cost every run its time.
    attempt().or_else(|_| {
        run(privilege.command(&apt_get).arg("update"))?;
        attempt()
    })
}

/// The npm packages of the browser tests, as locked.
fn browser_tests(workspace: &Workspace) -> Outcome {
    check_node(&capture(Command::new("node").arg("--version"))?)?;
    let folder = workspace.path("tests/web");
    let modified = |file| fs::metadata(folder.join(file)).and_then(|meta| meta.modified());
    // npm writes the first of these at the end of an installation.
    if let (Ok(installed), Ok(locked)) =
        (modified("node_modules/.package-lock.json"), modified("package-lock.json"))
        && installed >= locked
    {
        return Ok(());
    }
    run(Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&folder))
}

/// `version` is what `node --version` says.
fn check_node(version: &str) -> Outcome {
    let version = version.trim();
    let major = version.trim_start_matches('v').split('.').next().and_then(|n| n.parse().ok());
    match major {
        Some(NODE_MAJOR_MIN..) => Ok(()),
        _ => Err(Failure::new(format!(
            "node is {version}, the browser tests need {NODE_MAJOR_MIN} or newer: install one, or leave the page out with `--no-web`"
        ))),
    }
}

/// How this process may install packages.
enum Privilege {
    Root,
    Sudo(PathBuf),
}

impl Privilege {
    fn of_this_process() -> Option<Self> {
        if capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
            return Some(Self::Root);
        }
        let sudo = find_program(&["sudo"])?;
        // Without a terminal nobody can answer sudo's question.
        let usable =
            io::stdin().is_terminal() || succeeds(Command::new(&sudo).args(["-n", "true"]));
        usable.then_some(Self::Sudo(sudo))
    }

    fn command(&self, program: &PathBuf) -> Command {
        match self {
            Self::Root => Command::new(program),
            Self::Sudo(sudo) => {
                let mut command = Command::new(sudo);
                command.arg(program);
                command
            }
        }
    }
}

pub(crate) const MOUNT: Need =
    Need { programs: &["fusermount3"], package: "fuse3", purpose: "to mount without being root" };
pub(crate) const UNPACK: Need =
    Need { programs: &["zstd"], package: "zstd", purpose: "to unpack the sample volumes" };
const GIT: Need = Need { programs: &["git"], package: "git", purpose: "to be run on a mount" };
const SQLITE: Need =
    Need { programs: &["sqlite3"], package: "sqlite3", purpose: "to be run on a mount" };
const RSYNC: Need =
    Need { programs: &["rsync"], package: "rsync", purpose: "to be run on a mount" };
const BROWSER: Need = Need {
    programs: &["chromium", "chromium-browser"],
    package: "chromium",
    purpose: "to test the page",
};
const NODE: Need =
    Need { programs: &["node"], package: "nodejs", purpose: "to drive the browser in tests" };
const NPM: Need = Need { programs: &["npm"], package: "npm", purpose: "to fetch what drives it" };

/// The oldest that playwright-core runs on.
const NODE_MAJOR_MIN: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_is_taken_from_its_oldest_version_on() {
        assert!(check_node("v20.0.0\n").is_ok());
        assert!(check_node("v124.1.0\n").is_ok());
        let old = check_node("v18.20.4\n").unwrap_err().to_string();
        assert!(old.contains("v18.20.4") && old.contains("--no-web"), "{old}");
        assert!(check_node("").is_err());
    }

    #[test]
    fn nothing_is_installed_when_nothing_is_missing() {
        let present = Need { programs: &["no-such-program-here", "sh"], package: "", purpose: "" };
        assert!(install(&[present]).is_ok());
    }
}
