//! Other people's programs on a real mount, each with its own checks; media is clean afterwards.

#![allow(missing_docs, reason = "tests")]

mod common;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use common::volume::{Ran, Service, Volume, bounded, have, noise, shell};
use common::{can_mount, fresh, run};

#[test]
fn git_keeps_a_repository_and_its_clones() {
    if !can_mount() || !have(&["git"]) {
        return;
    }
    let volume = Volume::new("git", "512M");
    let mount = volume.mount();
    shell(&mount.path, &format!("{GIT}\n{GIT_WORK}\n{GIT_CHECKS}"));
    mount.unmount();
    volume.assert_clean();

    let mount = volume.mount();
    shell(&mount.path, &format!("{GIT}\n{GIT_CHECKS}"));
    mount.unmount();
}

/// Nothing of the machine's own settings.
const GIT: &str = "
    export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_COUNT=2
    export GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=Tester
    export GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=tester@example.org";

const GIT_WORK: &str = "
    git init --quiet --initial-branch=main a
    cd a
    i=0
    while [ $i -lt 400 ]; do
        mkdir -p d$((i % 20))
        seq $i $((i + 300)) > d$((i % 20))/f$i
        i=$((i + 1))
    done
    ln -s d1/f1 link
    chmod +x d2/f2
    git add --all
    git commit --quiet --message=first
    for i in 1 2 3; do
        seq $i 20000 > d$i/f$i
        git mv d$((i + 3))/f$((i + 3)) d$i/moved
        git rm --quiet -r d$((i + 10))
        git commit --quiet --all --message=\"again $i\"
    done
    cd ..
    git clone --quiet a b
    git clone --quiet --no-local a c
    git -C a branch side HEAD~2
    git -C a checkout --quiet side
    git -C a checkout --quiet main
    git -C a gc --quiet --prune=now";

const GIT_CHECKS: &str = "
    for clone in a b c; do
        git -C $clone fsck --full --strict --no-progress
        git -C $clone status --porcelain > status
        test ! -s status
        test $(git -C $clone log --oneline | wc -l) = 4
        test $(git -C $clone ls-files | wc -l) = 341
        git -C $clone diff --exit-code
    done
    diff -r --exclude=.git a b
    diff -r --exclude=.git a c";

#[test]
fn sqlite_keeps_a_database_in_wal_mode() {
    if !can_mount() || !have(&["sqlite3"]) {
        return;
    }
    let volume = Volume::new("sqlite", "256M");
    let mount = volume.mount();
    let database = mount.path.join("database");
    let made = sqlite(&database, "PRAGMA journal_mode=WAL; CREATE TABLE t(w, n, x);");
    assert_eq!(made.text.trim(), "wal");
    let rows = |writer: u64| {
        let mut commands = String::from(".timeout 120000\n");
        for transaction in 0..20 {
            commands.push_str("BEGIN IMMEDIATE;\n");
            for row in 0..100 {
                let number = transaction * 100 + row;
                writeln!(commands, "INSERT INTO t VALUES({writer},{number},hex(zeroblob(90)));")
                    .unwrap();
            }
            commands.push_str("COMMIT;\n");
        }
        commands
    };
    // two at once: they share locks and mapped memory
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (database, commands) = (&database, rows(writer));
            scope.spawn(move || assert_eq!(sqlite(database, &commands).text, ""));
        }
    });
    let changes = "CREATE INDEX i ON t(n, w); DELETE FROM t WHERE n % 5 = 0; \
        UPDATE t SET x = n * 2 WHERE n % 7 = 0; VACUUM;";
    assert_eq!(sqlite(&database, changes).text, "");
    let questions = "PRAGMA integrity_check; SELECT w, count(*), sum(n) FROM t GROUP BY w;";
    let wanted = "ok\n0|1600|1600000\n1|1600|1600000\n";
    assert_eq!(sqlite(&database, questions).text, wanted);
    mount.unmount();
    volume.assert_clean();

    let mount = volume.mount();
    assert_eq!(sqlite(&mount.path.join("database"), questions).text, wanted);
    mount.unmount();
}

fn sqlite(database: &Path, commands: &str) -> Ran {
    let mut sqlite = Command::new("sqlite3");
    let ran =
        bounded(sqlite.args(["-batch", "-bail", "-init", "/dev/null"]).arg(database), commands);
    assert!(ran.is_success, "{}", ran.text);
    ran
}

#[test]
fn sqlite_has_what_it_acknowledged_when_the_mount_was_killed() {
    if !can_mount() || !have(&["sqlite3"]) {
        return;
    }
    for (mode, acknowledged_count) in [("wal", 40), ("delete", 15), ("wal", 3)] {
        let volume = Volume::new("sqlite-killed", "128M");
        let acknowledged = commit_until_killed(volume.mount(), mode, acknowledged_count);
        assert!(acknowledged >= acknowledged_count, "{mode}: {acknowledged}");
        volume.assert_clean();

        let mount = volume.mount();
        let questions = "PRAGMA integrity_check; SELECT count(*) = max(n), max(n) FROM t;";
        let told = sqlite(&mount.path.join("database"), questions).text;
        let count = told.strip_prefix("ok\n1|").and_then(|text| text.trim().parse::<u64>().ok());
        let count = count.unwrap_or_else(|| panic!("{mode}: {told}"));
        assert!(count >= acknowledged, "{mode}: {acknowledged} acknowledged, {count} there");
        mount.unmount();
        volume.assert_clean();
    }
}

/// Commits one row after the other until the mount, killed after so many, answers no more; how
/// many were acknowledged.
fn commit_until_killed(mut mount: Service, mode: &str, kill_count: u64) -> u64 {
    let mut command = Command::new("sqlite3");
    command.args(["-batch", "-bail", "-init", "/dev/null"]).arg(mount.path.join("database"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // In delete mode a row is committed by removing the journal, and only EXTRA makes that last.
    let setting = format!(
        "PRAGMA journal_mode={mode}; PRAGMA synchronous=EXTRA; CREATE TABLE t(n INTEGER PRIMARY KEY, x);"
    );
    let writer = std::thread::spawn(move || {
        let _ = writeln!(input, "{setting}");
        for number in 1..=5000 {
            let row = format!("INSERT INTO t VALUES({number}, printf('%0800d', {number}));");
            if writeln!(input, "{row} SELECT 'done', {number};").is_err() {
                return;
            }
        }
    });
    let mut acknowledged = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Ok(line) = line else { break };
        if let Some(number) = line.strip_prefix("done|") {
            acknowledged = number.parse().unwrap();
        }
        if acknowledged == kill_count {
            mount.signal_kill();
        }
    }
    mount.kill();
    let _ = child.kill();
    let _ = child.wait();
    writer.join().unwrap();
    acknowledged
}

#[test]
fn what_a_compiler_wrote_is_run() {
    if !can_mount() || !have(&["cc"]) {
        return;
    }
    let volume = Volume::new("compiler", "128M");
    let mount = volume.mount();
    let commands = "
        cat > library.c <<'END'
int answer(int of) { return of * 6; }
END
        cat > main.c <<'END'
#include <stdio.h>
int answer(int);
int main(void) { return printf(\"%d\\n\", answer(7)) < 0; }
END
        cc -O1 -g -shared -fPIC -o liblibrary.so library.c
        cc -O1 -g -o program main.c -L. -llibrary -Wl,-rpath,'$ORIGIN'
        ./program";
    assert_eq!(shell(&mount.path, commands), "42\n");
    // built again while the old one is run
    let commands = "mv program old; cc -O0 -o program main.c library.c; ./program; ./old";
    assert_eq!(shell(&mount.path, commands), "42\n42\n");
    mount.unmount();
    volume.assert_clean();

    let mount = volume.mount();
    assert_eq!(shell(&mount.path, "./program; ./old"), "42\n42\n");
    mount.unmount();
}

/// Makes `source` in `folder`, with a bit of everything that programs copy.
fn make_tree(folder: &Path) {
    std::fs::write(folder.join("noise"), noise(3_000_000, 77)).unwrap();
    shell(folder, TREE);
}

const TREE: &str = "
    mkdir -p source/deep/er/and/deeper source/empty source/many
    cd source
    i=0
    while [ $i -lt 150 ]; do
        seq 1 $((i * i)) > many/$i
        touch -d @$((1500000000 + i)).123456 many/$i
        i=$((i + 1))
    done
    mv ../noise deep/er/random
    printf head > sparse
    truncate -s 20M sparse
    printf tail >> sparse
    : > nothing
    echo name > \"$(printf 'a\\tname\\nin two lines \\303\\274')\"
    mkdir \"$(printf %0200d 7)\"
    echo long > \"$(printf %0200d 7)/$(printf %0255d 8)\"
    ln many/100 deep/hard
    ln many/100 harder
    ln -s deep/hard soft
    ln -s nowhere/at/all broken
    ln -s \"$(printf %01000d 9)\" long
    mkfifo fifo
    chmod 0640 many/1; chmod 4755 many/2; chmod 0000 many/3; chmod 1777 empty
    chown 1234:5678 many/4 many/5 soft
    chown -h 1234:5678 broken
    # media keeps microseconds
    find . ! -type d ! -path './many/*' -exec touch -h -d @1450000000.25 {} +
    touch -h -d @1234567890.5 broken
    find . -depth -type d -exec touch -d @1400000000.654321 {} +
    cd ..";

#[test]
fn tar_takes_a_tree_there_and_back() {
    if !can_mount() || !have(&["tar", "diff", "cmp"]) {
        return;
    }
    let volume = Volume::new("tar", "256M");
    let outside = fresh("tar-source");
    make_tree(&outside);
    let archive = "tar --format=posix --sort=name --pax-option=delete=atime,delete=ctime";
    shell(&outside, &format!("{archive} -C source -cf archive ."));
    let mount = volume.mount();
    let (from, to) = (outside.display(), mount.path.display().to_string());
    shell(&mount.path, &format!("tar --numeric-owner -xpf {from}/archive"));
    let checks = format!(
        "diff -r --no-dereference --exclude=fifo {from}/source {to}
         tar -C {to} --numeric-owner --compare -f {from}/archive
         {archive} -C {to} -cf {from}/back .
         cmp {from}/archive {from}/back"
    );
    assert_eq!(shell(&outside, &checks), "");
    mount.unmount();
    volume.assert_clean();

    let mount = volume.mount();
    let after = checks.replace(&to, mount.path.to_str().unwrap());
    assert_eq!(shell(&outside, &after), "");
    mount.unmount();
    let _ = std::fs::remove_dir_all(&outside);
}

#[test]
fn rsync_transfers_once() {
    if !can_mount() || !have(&["rsync"]) {
        return;
    }
    let volume = Volume::new("rsync", "256M");
    let outside = fresh("rsync-source");
    make_tree(&outside);
    let mount = volume.mount();
    let to = mount.path.join("copy");
    let copy =
        format!("rsync -aH --numeric-ids --delete --itemize-changes source/ {}", to.display());
    let first = shell(&outside, &copy);
    assert!(first.lines().count() > 150, "{first}");
    assert_eq!(shell(&outside, &copy), "", "the second run");
    let changes = "
        rm -r source/many/1*
        mv source/deep/er source/er
        ln source/sparse source/empty/sparse
        echo more >> source/er/random
        rm source/soft; mkdir source/soft; chmod 0700 source/soft";
    shell(&outside, changes);
    assert_ne!(shell(&outside, &copy), "");
    assert_same(&outside.join("source"), &to);
    mount.unmount();
    volume.assert_clean();

    let mount = volume.mount();
    assert_same(&outside.join("source"), &mount.path.join("copy"));
    mount.unmount();
    let _ = std::fs::remove_dir_all(&outside);
}

/// Contents, links, owners, modes and times are the same, and nothing else is there.
fn assert_same(from: &Path, to: &Path) {
    let compare = format!(
        "rsync -aHn --numeric-ids --delete --itemize-changes --checksum {}/ {}/",
        from.display(),
        to.display()
    );
    assert_eq!(shell(Path::new("/"), &compare), "");
}

#[test]
fn a_snapshot_keeps_what_was_there() {
    if !can_mount() || !have(&["rsync"]) {
        return;
    }
    let volume = Volume::new("snapshot", "256M");
    let kept = fresh("snapshot-kept");
    let mount = volume.mount();
    make_tree(&mount.path);
    let copy = format!("rsync -aH --numeric-ids {}/ {}/", mount.path.display(), kept.display());
    shell(&kept, &copy);
    let (_, error, code) = run(&["snapshot".as_ref(), mount.path.as_os_str(), "then".as_ref()]);
    assert_eq!((code, error.as_str()), (0, ""));
    let changes = "
        rm -r source/many/2* source/deep
        seq 1 50000 > source/sparse
        echo more >> source/harder
        mv source/empty elsewhere
        chmod 0777 source/many/3
        truncate -s 3 source/many/99";
    shell(&mount.path, changes);
    mount.unmount();
    volume.assert_clean();

    let mut device = volume.image.clone().into_os_string();
    device.push("@then");
    let mount = Service::start(device.as_ref(), &["--read-only"]);
    assert_same(&kept, &mount.path);
    let refused = std::fs::write(mount.path.join("new"), "").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    mount.unmount();
    let mount = volume.mount();
    assert_eq!(shell(&mount.path, "tail -n 1 source/harder; ls elsewhere | wc -l"), "more\n0\n");
    mount.unmount();
    let _ = std::fs::remove_dir_all(&kept);
}
