//! What a newcomer sees first: a HAMMER2 volume mounted, and the page served.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::failure::{During, Failure, Outcome};
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
    let mounted = Mounted::mount(&farrier, &image, &mount_point)?;
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

/// A mounted volume that is unmounted whatever becomes of this process.
///
/// A second process waits for the end of its input, which comes when this one drops it or dies of
/// any cause; then it unmounts. So Ctrl-C needs no signal handler, and even SIGKILL leaves nothing
/// mounted.
struct Mounted {
    guard: Child,
    mount_point: PathBuf,
}

impl Mounted {
    fn mount(farrier: &Path, image: &Path, mount_point: &Path) -> Outcome<Self> {
        fs::create_dir_all(mount_point).during(|| format!("make {}", mount_point.display()))?;
        let mut volume = image.as_os_str().to_owned();
        volume.push("@DATA");
        let guard = Self::guard(farrier, mount_point)?;
        // From here on an early return unmounts.
        let mounted = Self { guard, mount_point: mount_point.to_owned() };
        // Returns when the mount answers; what serves it stays behind.
        run(Command::new(farrier).args(["mount", "-o", "ro"]).arg(volume).arg(mount_point))?;
        if !is_mounted(mount_point)? {
            return Err(Failure::new("farrier mount returned, but nothing is mounted"));
        }
        Ok(mounted)
    }

    fn guard(farrier: &Path, mount_point: &Path) -> Outcome<Child> {
        Command::new("sh")
            .args(["-c", GUARD])
            .arg(farrier)
            .arg(mount_point)
            .stdin(Stdio::piped())
            // A group of its own: Ctrl-C must not reach it.
            .process_group(0)
            .spawn()
            .during(|| "start the process that unmounts at the end".to_owned())
    }

    fn unmount(mut self) -> Outcome {
        self.let_guard_work();
        if is_mounted(&self.mount_point)? {
            return Err(Failure::new(format!(
                "{} is still mounted: run `farrier umount` on it",
                self.mount_point.display()
            )));
        }
        println!("unmounted");
        Ok(())
    }

    fn let_guard_work(&mut self) {
        drop(self.guard.stdin.take());
        // Whether it worked is seen in the mount table.
        let _ = self.guard.wait();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.let_guard_work();
    }
}

/// Unmounts what an earlier demo has left behind, if it has.
fn release(farrier: &Path, mount_point: &Path) -> Outcome {
    if is_mounted(mount_point)? {
        run(Command::new(farrier).args(["umount", "--lazy"]).arg(mount_point))?;
    }
    Ok(())
}

fn is_mounted(folder: &Path) -> Outcome<bool> {
    let table = fs::read("/proc/self/mounts").during(|| "read the mount table".to_owned())?;
    Ok(mounts_at(&table, folder.as_os_str()))
}

/// Whether a mount table in the form of fstab(5) has something at `folder`.
fn mounts_at(table: &[u8], folder: &OsStr) -> bool {
    let mut escaped = Vec::new();
    for byte in folder.as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").bytes()),
            _ => escaped.push(*byte),
        }
    }
    table
        .split(|byte| *byte == b'\n')
        .any(|line| line.split(|byte| *byte == b' ').nth(1) == Some(&escaped[..]))
}

const LISTED_LINES_MAX: usize = 12;

/// `$0` is the farrier command, `$1` the mount point. When nothing was mounted there is nothing to
/// do. Lazily: a shell that somebody has left standing there must not keep the demo alive.
const GUARD: &str = r#"cat >/dev/null; if mountpoint -q "$1"; then "$0" umount --lazy "$1"; fi"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_found_by_its_whole_escaped_name() {
        let table = b"a /mnt ext4 rw 0 0\nfarrier /home/a\\040b fuse rw 0 0\n";
        assert!(mounts_at(table, OsStr::new("/mnt")));
        assert!(mounts_at(table, OsStr::new("/home/a b")));
        assert!(!mounts_at(table, OsStr::new("/home/a")));
        assert!(!mounts_at(table, OsStr::new("farrier")));
    }

    #[test]
    fn the_guard_ends_when_its_input_does() {
        // Nothing is mounted there, so the command it would call is not called.
        let folder = std::env::temp_dir();
        let guard = Mounted::guard(Path::new("/bin/false"), &folder.join("no-mount")).unwrap();
        let mounted = Mounted { guard, mount_point: folder.join("no-mount") };
        assert!(mounted.unmount().is_ok());
    }
}
