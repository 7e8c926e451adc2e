//! Other people's suites on a fresh volume, mounted for real: pjdfstest for what POSIX says of
//! files and directories, fsx for what is in a file after any sequence of operations.
//!
//! Root only: pjdfstest acts as several users.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::failure::{During, Failure, Outcome};
use crate::mounted::Mounted;
use crate::run::{capture, run};
use crate::workspace::Workspace;

/// Runs both suites and checks the volume behind each of them.
pub(crate) fn prove(workspace: &Workspace) -> Outcome {
    if let Some(obstacle) = obstacle() {
        if env::var_os("CI").is_some_and(|value| !value.is_empty()) {
            return Err(Failure::new(obstacle));
        }
        println!("skipped: {obstacle}");
        return Ok(());
    }
    let tools = workspace.target.join("tools");
    for (name, version) in [PJDFSTEST, FSX] {
        install_tool(workspace, &tools, name, version)?;
    }
    // As the tests built it: with its assertions.
    run(workspace
        .cargo()
        .args(["build", "--package", "farrier", "--bin", "farrier"])
        .env("CARGO_TARGET_DIR", &workspace.target))?;
    let farrier = workspace.target.join("debug/farrier");
    let folder = Folder::new()?;
    on_volume(&farrier, &folder, "posix", |mount_point| {
        posix(&tools.join("bin/pjdfstest"), &folder, mount_point)
    })?;
    on_volume(&farrier, &folder, "contents", |mount_point| {
        MIXES.iter().try_for_each(|mix| mix.run(&tools.join("bin/fsx"), &folder, mount_point))
    })
}

fn obstacle() -> Option<&'static str> {
    if !capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
        return Some("only root can act as several users");
    }
    if fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
        return Some("/dev/fuse cannot be opened here");
    }
    None
}

/// From crates.io, with the versions of everything in it as its authors locked them.
fn install_tool(workspace: &Workspace, tools: &Path, name: &str, version: &str) -> Outcome {
    let installed = fs::read_to_string(tools.join(".crates.toml")).unwrap_or_default();
    if installed.contains(&format!("\"{name} {version} (")) && tools.join("bin").join(name).exists()
    {
        return Ok(());
    }
    run(workspace
        .cargo()
        .args(["install", "--quiet", "--locked", "--version", version, "--root"])
        .arg(tools)
        .arg("--target-dir")
        .arg(tools.join("build"))
        .arg(name))
}

/// Formats a volume, mounts it, does `work` at the mount point, unmounts, checks.
fn on_volume(
    farrier: &Path,
    folder: &Folder,
    name: &str,
    work: impl FnOnce(&Path) -> Outcome,
) -> Outcome {
    let image = folder.0.join(format!("{name}.img"));
    let mount_point = folder.0.join(name);
    run(Command::new(farrier).args(["format", "--size", "1G"]).arg(&image))?;
    let mounted = Mounted::mount(farrier, "rw", &image, &mount_point)?;
    fs::set_permissions(&mount_point, Permissions::from_mode(0o755))
        .during(|| format!("make {} accessible", mount_point.display()))?;
    work(&mount_point)?;
    // Unlike the guard's, this waits until all is on media.
    run(Command::new(farrier).arg("umount").arg(&mount_point))?;
    mounted.unmount()?;
    run(Command::new(farrier).arg("check").arg(&image))
}

fn posix(pjdfstest: &Path, folder: &Folder, mount_point: &Path) -> Outcome {
    // Links and renames to elsewhere have to fail; any other file system will do.
    let elsewhere = folder.0.join("elsewhere");
    fs::create_dir_all(&elsewhere).during(|| format!("make {}", elsewhere.display()))?;
    fs::set_permissions(&elsewhere, Permissions::from_mode(0o777))
        .during(|| format!("make {} accessible", elsewhere.display()))?;
    let configuration = folder.0.join("pjdfstest.toml");
    write(&configuration, &posix_configuration(&elsewhere))?;
    let start = Instant::now();
    let output = bounded()
        .args(["sh", "-c", r#"umask 0; exec "$@""#, "sh"])
        .arg(pjdfstest)
        .arg("--configuration-file")
        .arg(&configuration)
        .arg("--path")
        .arg(mount_point)
        .env("NO_COLOR", "1")
        .output()
        .during(|| "start pjdfstest".to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = text.lines().rev().find(|line| line.starts_with("Summary:"));
    println!("pjdfstest in {:.1} s: {}", start.elapsed().as_secs_f64(), summary.unwrap_or("-"));
    let complaints = complaints(&text);
    if !complaints.is_empty() {
        return Err(Failure::new(format!("pjdfstest complains:\n{}", complaints.join("\n"))));
    }
    match summary.and_then(Counts::parse) {
        Some(counts) if counts == COUNTS && output.status.success() => Ok(()),
        Some(counts) => Err(Failure::new(format!("{counts:?}, expected {COUNTS:?}"))),
        None => {
            let error = String::from_utf8_lossy(&output.stderr);
            Err(Failure::new(format!("pjdfstest ended early ({}): {error}", output.status)))
        }
    }
}

fn posix_configuration(elsewhere: &Path) -> String {
    let names: Vec<String> =
        EXPECTED_FAILURES.iter().map(|(name, _)| format!("{name:?}")).collect();
    format!(
        r#"
[features]
secondary_fs = {elsewhere:?}
posix_fallocate = {{}}
rename_ctime = {{}}
utime_now = {{}}
utimensat = {{}}

[settings]
naptime = 0.01
# It would call mount(2), which cannot change a FUSE mount.
allow_remount = false
expected_failures = [{names}]

# Users that every Debian has.
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#,
        names = names.join(", ")
    )
}

/// What failed with its reason, and what was expected to fail and did not.
fn complaints(text: &str) -> Vec<&str> {
    let mut complaints = Vec::new();
    let mut is_reason = false;
    for line in text.lines() {
        let is_case = line.ends_with(" FAILED") || line.ends_with(" PASSED UNEXPECTEDLY");
        is_reason = is_case || (is_reason && line.starts_with(['\t', ' ']));
        if is_reason {
            complaints.push(line);
        }
    }
    complaints
}

/// How many cases ended how.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    failed: usize,
    skipped: usize,
    passed: usize,
    failed_as_expected: usize,
}

impl Counts {
    /// Of `Summary: 0 failed, 13 skipped, 385 passed, 0 expected failures, 398 total`.
    fn parse(summary: &str) -> Option<Self> {
        let counts = summary.strip_prefix("Summary:")?;
        let mut counts = counts.split(',').map(|part| part.split_whitespace().next()?.parse().ok());
        let mut next = || counts.next().flatten();
        Some(Self {
            failed: next()?,
            skipped: next()?,
            passed: next()?,
            failed_as_expected: next()?,
        })
    }
}

/// Operations that fsx draws from, by their weights.
struct Mix {
    name: &'static str,
    seed: u32,
    operation_count: u32,
    file_bytes_max: u32,
    operation_bytes_max: u32,
    /// Of reads and writes through mapped memory.
    mapped: u32,
    /// Of what has the kernel copy: sendfile, copy_file_range; and of advice.
    copied: u32,
    /// Of punched holes and of space asked for in advance.
    holes: u32,
}

impl Mix {
    fn run(&self, fsx: &Path, folder: &Folder, mount_point: &Path) -> Outcome {
        let configuration = folder.0.join("fsx.toml");
        write(&configuration, &self.configuration())?;
        let start = Instant::now();
        let output = bounded()
            .arg(fsx)
            .arg("-f")
            .arg(&configuration)
            .args(["-N", &self.operation_count.to_string(), "-S", &self.seed.to_string()])
            .arg("-P")
            .arg(&folder.0)
            .arg(mount_point.join(self.name))
            .output()
            .during(|| "start fsx".to_owned())?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines.len().saturating_sub(LINES_SHOWN_MAX);
            return Err(Failure::new(format!(
                "fsx, mix {}, seed {}: {}\n{}",
                self.name,
                self.seed,
                output.status,
                lines[tail..].join("\n")
            )));
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("fsx {}, {} operations: {seconds:.1} s", self.name, self.operation_count);
        Ok(())
    }

    fn configuration(&self) -> String {
        let Self { file_bytes_max, operation_bytes_max, mapped, copied, holes, .. } = self;
        // Pages are thrown out of the cache now and then, so that they are read again.
        let invalidate = if *mapped > 0 { 0.1 } else { 0.0 };
        format!(
            "
flen = {file_bytes_max}
nomsyncafterwrite = true
[opsize]
min = 0
max = {operation_bytes_max}
align = 1
[weights]
close_open = 1
read = 10
write = 10
mapread = {mapped}
mapwrite = {mapped}
invalidate = {invalidate:?}
truncate = 5
fsync = 0.1
fdatasync = 0.1
sendfile = {copied}
posix_fadvise = {copied}
copy_file_range = {copied}
punch_hole = {holes}
posix_fallocate = {holes}
"
        )
    }
}

/// A folder that every user can reach, gone with this value.
///
/// Its name must not be too short: where the path at which pjdfstest works has 31 bytes, the paths
/// of greatest length that it makes up come out wrong.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Outcome<Self> {
        let path = env::temp_dir().join(format!("farrier-conformance-{}", std::process::id()));
        fs::create_dir(&path).during(|| format!("make {}", path.display()))?;
        let folder = Self(path);
        fs::set_permissions(&folder.0, Permissions::from_mode(0o755))
            .during(|| format!("make {} accessible", folder.0.display()))?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What follows is ended when it takes far too long.
fn bounded() -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "300"]);
    command
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).during(|| format!("write {}", path.display()))
}

const PJDFSTEST: (&str, &str) = ("pjdfstest", "0.2.2");
const FSX: (&str, &str) = ("fsx", "0.3.2");

/// With reasons. One that passes is a complaint too: then it has no place here any more.
const EXPECTED_FAILURES: &[(&str, &str)] = &[(
    "rename::updates_link_parent",
    "HAMMER2 does not count the directories in a directory: its link count is always 1",
)];

/// Skipped are 13 that remount, and the one that needs the largest link count, which the C library
/// does not know of a FUSE mount.
const COUNTS: Counts = Counts {
    failed: 0,
    skipped: 14,
    passed: 384 - EXPECTED_FAILURES.len(),
    failed_as_expected: EXPECTED_FAILURES.len(),
};

const PLAIN: Mix = Mix {
    name: "plain",
    seed: 1,
    operation_count: 20_000,
    file_bytes_max: 1 << 18,
    operation_bytes_max: 1 << 16,
    mapped: 0,
    copied: 0,
    holes: 0,
};

const MIXES: &[Mix] = &[
    PLAIN,
    Mix { name: "mapped", seed: 2, mapped: 10, ..PLAIN },
    Mix { name: "holes", seed: 3, mapped: 10, copied: 2, holes: 2, ..PLAIN },
    // beyond what one level of block references holds
    Mix {
        name: "large",
        seed: 4,
        operation_count: 2000,
        file_bytes_max: 1 << 24,
        operation_bytes_max: 1 << 20,
        mapped: 10,
        copied: 2,
        holes: 2,
    },
];

const LINES_SHOWN_MAX: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_counted() {
        let line = "Summary: 1 failed, 13 skipped, 383 passed, 1 expected failures, 398 total";
        let counts = Counts { failed: 1, skipped: 13, passed: 383, failed_as_expected: 1 };
        assert_eq!(Counts::parse(line), Some(counts));
        assert_eq!(Counts::parse("Summary: none"), None);
        assert_eq!(Counts::parse("1 failed"), None);
    }

    #[test]
    fn complaints_come_with_their_reasons() {
        let text = "a::b   ok\na::c   FAILED\n\tleft: 1\na::d   ok\n\tno reason\n\
            a::e   PASSED UNEXPECTEDLY\na::f   failed as expected\n";
        let wanted = ["a::c   FAILED", "\tleft: 1", "a::e   PASSED UNEXPECTEDLY"];
        assert_eq!(complaints(text), wanted);
    }
}
