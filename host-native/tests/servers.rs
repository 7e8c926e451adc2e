//! Programs that come with helpers of their own on a real mount: a build, and a database server that
//! loses its disk.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::volume::{Ran, Service, Volume, bounded};
use common::{can_mount, wait_for};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn cargo_builds_a_crate_and_knows_what_it_built() {
    if !can_mount() {
        return;
    }
    let volume = Volume::new("cargo", "512M");
    let mount = volume.mount();
    let krate = mount.path.join("krate");
    make_crate(&krate);
    let first = cargo(&krate);
    assert!(first.contains("Compiling krate"), "{first}");
    assert_eq!(run_built(&krate), "the sum is 780\n");
    assert!(cargo(&krate).contains("Fresh krate"));
    mount.unmount();
    volume.assert_clean();

    // times that came back from media are what the build wrote
    let mount = volume.mount();
    let krate = mount.path.join("krate");
    assert!(cargo(&krate).contains("Fresh krate"));
    fs::write(krate.join("src/m3.rs"), module(1003)).unwrap();
    let again = cargo(&krate);
    assert!(again.contains("Dirty krate"), "{again}");
    assert_eq!(run_built(&krate), "the sum is 1780\n");
    mount.unmount();
    volume.assert_clean();
}

/// A crate of many modules, with a build script and without dependencies.
fn make_crate(folder: &Path) {
    const MODULES: u64 = 40;
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest =
        "[package]\nname = \"krate\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("build.rs"), BUILD_SCRIPT).unwrap();
    let mut main = String::from("include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\n");
    let mut sum = String::from("0");
    for number in 0..MODULES {
        fs::write(folder.join(format!("src/m{number}.rs")), module(number)).unwrap();
        writeln!(main, "mod m{number};").unwrap();
        write!(sum, " + m{number}::value()").unwrap();
    }
    writeln!(main, "fn main() {{ println!(\"{{TEXT}} {{}}\", {sum}); }}").unwrap();
    fs::write(folder.join("src/main.rs"), main).unwrap();
}

const BUILD_SCRIPT: &str = r#"
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let path = std::path::Path::new(&std::env::var_os("OUT_DIR").unwrap()).join("made.rs");
    std::fs::write(path, "const TEXT: &str = \"the sum is\";").unwrap();
}
"#;

fn module(number: u64) -> String {
    format!("pub fn value() -> u64 {{ std::hint::black_box({number}) }}\n")
}

fn cargo(folder: &Path) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(["build", "--offline", "--verbose", "--color=never"]).current_dir(folder);
    // what the tests themselves are built with
    for name in ["CARGO_TARGET_DIR", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WRAPPER"] {
        command.env_remove(name);
    }
    let ran = bounded(&mut command, "");
    assert!(ran.is_success, "{}", ran.text);
    ran.text
}

fn run_built(folder: &Path) -> String {
    let ran = bounded(&mut Command::new(folder.join("target/debug/krate")), "");
    assert!(ran.is_success, "{}", ran.text);
    ran.text
}

#[test]
fn postgres_has_what_it_acknowledged_when_the_mount_was_killed() {
    let Some(postgres) = Postgres::find() else {
        return;
    };
    if !can_mount() {
        return;
    }
    let volume = Volume::new("postgres", "512M");
    let mut mount = volume.mount();
    if !postgres.can_reach(&mount.path) {
        return;
    }
    postgres.make(&mount.path);
    let mut acknowledged = 0;
    for kill_after in [40, 90] {
        let server = postgres.start(&mount.path);
        postgres.check(acknowledged);
        acknowledged = postgres.commit_until_killed(mount, kill_after);
        drop(server);
        volume.assert_clean();
        mount = volume.mount();
    }
    let server = postgres.start(&mount.path);
    let kept = postgres.check(acknowledged);
    eprintln!("{acknowledged} transactions acknowledged, {kept} kept");
    postgres.stop(&mount.path, server);
    mount.unmount();
    volume.assert_clean();
}

fn data(mount: &Path) -> PathBuf {
    mount.join("data")
}

/// The server's programs, run by a user whom nothing belongs to: the server refuses root.
struct Postgres {
    programs: PathBuf,
    socket_folder: PathBuf,
}

impl Postgres {
    const NOBODY: u32 = 65534;

    /// None where it is not installed, or not for us to run.
    fn find() -> Option<Self> {
        let versions = fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
        let programs = versions.map(|entry| entry.path().join("bin"));
        let Some(programs) = programs.filter(|path| path.join("initdb").is_file()).max() else {
            eprintln!("skipped: not installed: postgresql");
            return None;
        };
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can run it as somebody else");
            return None;
        }
        // the path of a socket is short
        let name = format!("farrier-pg-{}", std::process::id());
        let socket_folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&socket_folder).unwrap();
        chown(&socket_folder, Some(Self::NOBODY), Some(Self::NOBODY)).unwrap();
        Some(Self { programs, socket_folder })
    }

    /// Whether the way there is open to everybody: a home may be closed.
    fn can_reach(&self, mount: &Path) -> bool {
        let mut list = self.command("/usr/bin/ls");
        let can = list.arg(mount).output().is_ok_and(|output| output.status.success());
        if !can {
            eprintln!("skipped: {} is not for everybody to reach", mount.display());
        }
        can
    }

    /// One of the server's programs, or any by its path.
    fn command(&self, program: &str) -> Command {
        let nobody = Self::NOBODY;
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={nobody}"), format!("--regid={nobody}")])
            .arg("--clear-groups")
            .arg(self.programs.join(program))
            .current_dir(&self.socket_folder)
            .env("PGHOST", &self.socket_folder)
            .env("PGUSER", "tester")
            .env("PGDATABASE", "postgres")
            .env("PGCONNECT_TIMEOUT", "20")
            .env("LC_ALL", "C");
        command
    }

    fn make(&self, mount: &Path) {
        fs::set_permissions(mount, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(data(mount)).unwrap();
        chown(data(mount), Some(Self::NOBODY), Some(Self::NOBODY)).unwrap();
        let options = ["--no-locale", "--username=tester", "--auth=trust", "--no-sync", "-D"];
        let made = bounded(self.command("initdb").args(options).arg(data(mount)), "");
        assert!(made.is_success, "{}", made.text);
        let server = self.start(mount);
        let tables = "CREATE TABLE t(n int PRIMARY KEY, x text); CREATE TABLE s(k int, n int); \
            INSERT INTO s VALUES (1, 0);";
        let made = self.ask(tables);
        assert!(made.is_success, "{}", made.text);
        self.stop(mount, server);
    }

    fn start(&self, mount: &Path) -> Server {
        let mut server = self.spawn(mount);
        wait_for("the server", || {
            // processes of one that was killed may take a moment to go, and keep the next one out
            if server.0.try_wait().unwrap().is_some() {
                server = self.spawn(mount);
            }
            self.ask("SELECT 1;").is_success
        });
        server
    }

    fn spawn(&self, mount: &Path) -> Server {
        let log = fs::File::create(self.socket_folder.join("log")).unwrap();
        let mut sockets = OsString::from("unix_socket_directories=");
        sockets.push(&self.socket_folder);
        let mut command = self.command("postgres");
        command.args(["-c", "listen_addresses=", "-c"]).arg(sockets).arg("-D").arg(data(mount));
        Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn stop(&self, mount: &Path, mut server: Server) {
        let mut stop = self.command("pg_ctl");
        let stopped = bounded(stop.args(["stop", "-m", "fast", "-D"]).arg(data(mount)), "");
        assert!(stopped.is_success, "{}", stopped.text);
        assert!(server.0.wait().unwrap().success());
    }

    fn ask(&self, commands: &str) -> Ran {
        bounded(
            self.command("psql").args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]),
            commands,
        )
    }

    /// What there is belongs together, and nothing is missing; how many transactions it is.
    fn check(&self, acknowledged: u64) -> u64 {
        let questions = "SELECT count(*), coalesce(max(n), 0), coalesce(sum(length(x)), 0) FROM t; \
            SELECT n FROM s; SET enable_seqscan = off; SELECT count(*) FROM t WHERE n > 0;";
        let told = self.ask(questions);
        assert!(told.is_success, "{}", told.text);
        let kept: u64 = told.text.split('|').next().unwrap().parse().unwrap();
        let wanted = format!("{kept}|{kept}|{}\n{kept}\n{kept}\n", kept * 3000);
        assert_eq!(told.text, wanted);
        assert!(kept >= acknowledged, "{kept} kept of {acknowledged}");
        kept
    }

    /// Commits one transaction after the other, and kills the mount when so many more were
    /// acknowledged; the last number that was.
    fn commit_until_killed(&self, mut mount: Service, kill_after: u64) -> u64 {
        let told = self.socket_folder.join("told");
        let from = self.ask("SELECT n FROM s;").text.trim().parse::<u64>().unwrap();
        let mut commands = String::new();
        for number in from + 1..from + 20_000 {
            writeln!(
                commands,
                "BEGIN; INSERT INTO t VALUES ({number}, repeat('{:03}', 1000)); UPDATE s SET n = \
                 {number}; COMMIT; \\echo {number}",
                number % 1000
            )
            .unwrap();
        }
        let input = self.socket_folder.join("input");
        fs::write(&input, commands).unwrap();
        let mut writer = self.command("psql");
        writer.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
        writer.stdin(fs::File::open(&input).unwrap()).stderr(Stdio::null());
        let mut writer = writer.stdout(fs::File::create(&told).unwrap()).spawn().unwrap();
        let count = || fs::read_to_string(&told).unwrap().lines().count() as u64;
        wait_for("transactions", || count() >= kill_after);
        mount.signal_kill();
        let end = Instant::now() + Duration::from_secs(20);
        while writer.try_wait().unwrap().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = writer.kill();
        let _ = writer.wait();
        mount.kill();
        from + count()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.socket_folder);
    }
}

/// The server; it ends at once, with what it started, and gives back the memory that it shared.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let has_ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
        if !has_ended(&mut self.0) {
            let _ = kill_process(Pid::from_child(&self.0), Signal::QUIT);
        }
        let end = Instant::now() + Duration::from_secs(10);
        while !has_ended(&mut self.0) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
