//! What a newcomer sees first: a HAMMER2 volume mounted, and the page served.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::failure::{During, Failure, Outcome};
use crate::mounted::{Mounted, is_mounted};
use crate::run::{capture, run};
use crate::serve::Server;
use crate::setup::{MOUNT, UNPACK, install};
use crate::toolchain::{Route, WasmToolchain};
use crate::web::{self, Effort, Page};
use crate::workspace::Workspace;

/// When the demo ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// When somebody presses Enter or Ctrl-C.
    Asked,
    After(Duration),
    /// As soon as the page was seen to be served.
    AtOnce,
}

/// Builds everything, mounts the sample volume, serves the page at `port`, and cleans up at `end`.
pub(crate) fn show(workspace: &Workspace, route: Route, end: End, port: u16) -> Outcome {
    install(&[MOUNT, UNPACK])?;
    step("Building the farrier command");
    let farrier = build_farrier(workspace)?;
    step("Building the page");
    let toolchain = WasmToolchain::ready(workspace, route)?;
    let page = web::build(workspace, &toolchain, Effort::Plain)?;

    let mount_point = workspace.path("sample/mnt");
    release(&farrier, &mount_point)?;
    let image = unpack(workspace)?;
    let shown_image = workspace.shown(&image);
    step(&format!("farrier info {shown_image}"));
    run(Command::new(&farrier).arg("info").arg(&image))?;

    step(&format!("farrier mount {shown_image}@DATA {}", workspace.shown(&mount_point)));
    let mounted = Mounted::mount(&farrier, "ro", &image, &mount_point)?;
    list(&mount_point)?;

    let server = Server::start(&page.folder, port)?;
    step(&format!("The page is at {}", server.url()));
    match end {
        End::Asked => wait_for_person(workspace, &mount_point),
        End::After(time) => thread::sleep(time),
        End::AtOnce => check_served(&server, &page)?,
    }
    mounted.unmount()
}

fn step(what: &str) {
    println!("\n== {what}");
}

fn build_farrier(workspace: &Workspace) -> Outcome<PathBuf> {
    run(workspace
        .cargo()
        .args(["build", "--release", "--package", "farrier", "--bin", "farrier"])
        .env("CARGO_TARGET_DIR", &workspace.target))?;
    Ok(workspace.target.join("release/farrier"))
}

/// A fresh copy of the sample volume each time: a person may have written to the last one.
fn unpack(workspace: &Workspace) -> Outcome<PathBuf> {
    let packed = workspace.path("tests/images/small-files.img.zst");
    let image = workspace.path("sample/small-files.img");
    let folder = workspace.path("sample");
    fs::create_dir_all(&folder).during(|| format!("make {}", folder.display()))?;
    if image.exists() {
        // Not written over: a mount that somebody still uses may be reading it.
        fs::remove_file(&image).during(|| format!("remove {}", image.display()))?;
    }
    run(Command::new("zstd")
        .args(["--decompress", "--sparse", "--quiet", "-o"])
        .arg(&image)
        .arg(&packed))?;
    Ok(image)
}

/// The head of `ls -l`: enough to see that it is a directory like others.
fn list(folder: &Path) -> Outcome {
    let listing = capture(Command::new("ls").arg("-l").arg(folder))?;
    let lines: Vec<&str> = listing.lines().collect();
    let (head, rest) = lines.split_at(lines.len().min(LISTED_LINES_MAX));
    println!("{}", head.join("\n"));
    if !rest.is_empty() {
        println!("... and {} more", rest.len());
    }
    Ok(())
}

fn wait_for_person(workspace: &Workspace, mount_point: &Path) {
    println!("The volume is at {}.", workspace.shown(mount_point));
    println!("Enter or Ctrl-C unmounts it and ends the server.");
    let read = io::stdin().read_line(&mut String::new());
    // Without a terminal there is nobody to press Enter: stay until we are ended from outside.
    while matches!(read, Ok(0) | Err(_)) && !io::stdin().is_terminal() {
        thread::park();
    }
}

/// The demo's own proof: what is fetched is what was built, and a browser would accept it.
fn check_served(server: &Server, page: &Page) -> Outcome {
    for (path, file, kind) in [
        ("/", page.folder.join("index.html"), "text/html"),
        ("/farrier_web_bg.wasm", page.module.clone(), "application/wasm"),
    ] {
        let (head, body) = server.fetch(path)?;
        let built = fs::read(&file).during(|| format!("read {}", file.display()))?;
        if body != built || !head.contains(&format!("Content-Type: {kind}")) {
            return Err(Failure::new(format!("{path} is not served as it was built: {head}")));
        }
        println!("fetched {path}: {} bytes, {kind}", body.len());
    }
    Ok(())
}

/// Unmounts what an earlier demo has left behind, if it has.
fn release(farrier: &Path, mount_point: &Path) -> Outcome {
    if is_mounted(mount_point)? {
        run(Command::new(farrier).args(["umount", "--lazy"]).arg(mount_point))?;
    }
    Ok(())
}

const LISTED_LINES_MAX: usize = 12;
