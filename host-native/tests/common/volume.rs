//! A volume of a test's own: made by the command, served by a process that can be killed, checked
//! at the end. And other people's programs on it, each with an end in sight.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{farrier, fresh, is_mounted, run};

/// For one program, on a machine that has other things to do.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(240);

/// For what a mount does by itself: to answer, to commit and end.
const SERVICE_TIME_MAX: Duration = Duration::from_secs(60);

/// A fresh file system in an image file, removed with its test.
pub(crate) struct Volume {
    pub(crate) folder: PathBuf,
    pub(crate) image: PathBuf,
}

impl Volume {
    pub(crate) fn new(name: &str, size: &str) -> Self {
        let folder = fresh(name);
        let image = folder.join("image");
        let (_, error, code) = run(&["format", "--size", size, image.to_str().unwrap()]);
        assert_eq!((code, error.as_str()), (0, ""));
        Self { folder, image }
    }

    pub(crate) fn mount(&self) -> Service {
        Service::start(&self.image, &[])
    }

    /// Everything that checks media finds nothing wrong.
    pub(crate) fn assert_clean(&self) {
        let (text, error, code) = run(&["check", self.image.to_str().unwrap()]);
        assert_eq!(code, 0, "{text}{error}");
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tools/check-image.py");
        if script.exists() {
            let mut checker = Command::new("python3");
            checker.arg(script).args(["--no-tree", "--no-data"]).arg(&self.image);
            let output = bounded(&mut checker, "");
            assert!(output.text.contains("\"result\": \"consistent\""), "{}", output.text);
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A mount and the process that serves it. Both end with the test, however that ends: what hangs
/// in the mount comes free when the process is gone.
pub(crate) struct Service {
    pub(crate) path: PathBuf,
    child: Child,
    log: PathBuf,
}

/// Unmounts `path`: what the command said, and its exit code.
///
/// Tests that run beside this one start programs, and such a one has every open file of this process
/// until it runs what it is for. So the mount may be busy for a moment, by nobody's fault.
pub(crate) fn unmounted(path: &Path) -> (String, i32) {
    let end = Instant::now() + SERVICE_TIME_MAX;
    loop {
        let (_, error, code) = run(&["umount".as_ref(), path.as_os_str()]);
        if !error.contains(": busy;") || Instant::now() > end {
            return (error, code);
        }
        std::thread::yield_now();
    }
}

impl Service {
    /// Mounts `device`, which may carry a label.
    pub(crate) fn start(device: &Path, options: &[&str]) -> Self {
        let path = fresh("served");
        let log = path.with_extension("log");
        let child = farrier()
            .args(["mount", "--foreground"])
            .args(options)
            .arg(device)
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut service = Self { path, child, log };
        let end = Instant::now() + SERVICE_TIME_MAX;
        while !is_mounted(&service.path) {
            let ended = service.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", service.said());
            assert!(Instant::now() < end, "no mount within {SERVICE_TIME_MAX:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        service
    }

    /// Ends it as a person would. The process has nothing to complain of.
    pub(crate) fn unmount(mut self) {
        let (error, code) = unmounted(&self.path);
        assert_eq!((code, error.as_str()), (0, ""), "{}", self.said());
        let status = ended(&mut self.child, SERVICE_TIME_MAX).expect("the process ends");
        assert!(status.success(), "{status}: {}", self.said());
        assert_eq!(self.said(), "");
    }

    /// Ends it as a power cut would end its process. Returns when nothing is mounted any more.
    pub(crate) fn kill(mut self) {
        self.end();
        assert!(!is_mounted(&self.path));
    }

    /// SIGKILL, at once; what used the mount gets errors from here on.
    pub(crate) fn signal_kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// It answers nothing from now on, until it goes on.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// It answers again.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// What the process said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if is_mounted(&self.path) {
            let _ = farrier().args(["umount", "--lazy"]).arg(&self.path).output();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir(&self.path);
        let _ = fs::remove_file(&self.log);
    }
}

/// Whether all of these programs are here. Where tests may not be left out, one that is missing is
/// a failure.
pub(crate) fn have(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        |name: &&&str| !std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let missing: Vec<_> = programs.iter().filter(is_there).collect();
    if missing.is_empty() {
        return true;
    }
    let told = format!("not installed: {missing:?} (`cargo xtask setup` installs them)");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{told}");
    eprintln!("skipped: {told}");
    false
}

/// What became of a program.
pub(crate) struct Ran {
    /// Both outputs, as they came.
    pub(crate) text: String,
    pub(crate) is_success: bool,
}

/// Runs a program that reads `input`; ends it and the test when it takes too long.
pub(crate) fn bounded(command: &mut Command, input: &str) -> Ran {
    let folder = fresh("program");
    let (given, told) = (folder.join("in"), folder.join("out"));
    File::create(&given).unwrap().write_all(input.as_bytes()).unwrap();
    let out = File::create(&told).unwrap();
    command.stdin(File::open(given).unwrap()).stdout(out.try_clone().unwrap()).stderr(out);
    let mut child = command.process_group(0).spawn().unwrap();
    let status = ended(&mut child, PROGRAM_TIME_MAX);
    let text = String::from_utf8_lossy(&fs::read(&told).unwrap()).into_owned();
    let _ = fs::remove_dir_all(&folder);
    let Some(status) = status else {
        // It is not waited for: it may hang in a mount, which ends with this panic.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        panic!("{command:?} did not end within {PROGRAM_TIME_MAX:?}: {text}");
    };
    Ran { text, is_success: status.success() }
}

fn ended(child: &mut Child, time_max: Duration) -> Option<std::process::ExitStatus> {
    let end = Instant::now() + time_max;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs shell commands in `folder` and stops at the first that fails, which fails the test.
/// Returns what they wrote, both outputs in one.
pub(crate) fn shell(folder: &Path, commands: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-e", "-u", "-c", commands]).current_dir(folder);
    // whose machine it is must not matter
    shell.env("LC_ALL", "C").env("TZ", "UTC").env("HOME", folder);
    let ran = bounded(&mut shell, "");
    assert!(ran.is_success, "{commands}\n---\n{}", ran.text);
    ran.text
}

/// Bytes that no two places have in common.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed | 1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&numbers.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Numbers drawn from a seed other than 0 (xorshift).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }
}
