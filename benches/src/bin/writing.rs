//! Farrier's mount, written to beside other file systems and beside the ceiling of FUSE: a file
//! system that does nothing. `cargo xtask bench writing` builds and starts this.
//!
//! Each system has a new, empty image in each round. The systems take turns, another one first in
//! each round; a figure is quoted as the best and the median of the rounds. Whatever is mounted or
//! attached here is gone when the program ends, also after an error or Ctrl-C.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use farrier_benches::ceiling;
use farrier_benches::failure::{During, Outcome};
use farrier_benches::place::{Stop, Work};
use farrier_benches::run::run;
use farrier_benches::systems::{self, CEILING, Kind, Places, System};
use farrier_benches::table::{Table, Unit};
use farrier_benches::trees::{self, Tree};
use farrier_benches::writers::{self, SmallFiles};
use lexopt::ValueExt;
use rustix::process::Resource;

const VOLUME: &str = "writing";
/// Small files where a program keeps a descriptor for each and may have no more than this many.
const DESCRIPTORS: u64 = 24_000;
const FILES_FEW: usize = 15_000;
/// Small files at the first snapshot.
const SNAPSHOT_FILES: usize = 100;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() == Some(OsStr::new(CEILING)) {
        let place = PathBuf::from(arguments.next().unwrap_or_default());
        return told(ceiling::serve(&place));
    }
    match Options::parse() {
        Ok(Some(options)) => told(measure(&options)),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("writing: {error}");
            ExitCode::from(2)
        }
    }
}

fn told(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("writing: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// How much of everything.
struct Amounts {
    rounds: usize,
    image_bytes: u64,
    file_bytes: u64,
    overwrites: u32,
    files: usize,
    tree_files: u64,
    tree_directories: u64,
    transactions: u32,
}

const USUAL: Amounts = Amounts {
    rounds: 3,
    image_bytes: 3 << 30,
    file_bytes: 512 << 20,
    overwrites: 1000,
    files: 20_000,
    tree_files: 5000,
    tree_directories: 300,
    transactions: 1000,
};

const QUICK: Amounts = Amounts {
    rounds: 1,
    image_bytes: 768 << 20,
    file_bytes: 64 << 20,
    overwrites: 200,
    files: 2000,
    tree_files: 500,
    tree_directories: 30,
    transactions: 200,
};

fn measure(options: &Options) -> Outcome {
    let stop = Stop::watch()?;
    let work = Work::make(&options.work)?;
    let places = Places {
        work: work.0.clone(),
        farrier: options.farrier.clone(),
        peers: options.peers.clone(),
    };
    let mut table = Table::default();
    let load_before = load();
    let kinds = kinds(options, &places, &mut table);
    let amounts = amounts(&options.amounts, &kinds, &mut table);
    eprintln!("a tree of {} files", amounts.tree_files);
    let with_git = trees::is_there("git");
    let tree = Tree::make(&places.work, amounts.tree_files, amounts.tree_directories, with_git)?;
    for round in 0..amounts.rounds {
        for number in 0..kinds.len() {
            let kind = kinds[(number + round) % kinds.len()];
            eprintln!("round {}: {}", round + 1, name(kind));
            let (tree, amounts, stop) = (&tree, &amounts, &stop);
            let mut turn = Turn { kind, places: &places, table: &mut table, amounts, tree, stop };
            turn.take()?;
        }
    }
    println!("{}", table.markdown_beside(Some(name(Kind::FarrierFile))));
    println!("\n{}", noise(&table, &load_before));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&table).during("figures as JSON")?;
        fs::write(path, text).during(path.display())?;
    }
    Ok(())
}

/// What tables call it: here Farrier is always that over a file.
const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::FarrierFile => Kind::Farrier.name(),
        other => other.name(),
    }
}

/// The systems that are asked for and can be had.
fn kinds(options: &Options, places: &Places, table: &mut Table) -> Vec<Kind> {
    let can_loop = places.can_loop();
    let is_wanted = |kind: &Kind| {
        options.only.is_empty() || options.only.iter().any(|only| only == name(*kind))
    };
    let mut kinds = Vec::new();
    for kind in Kind::WRITABLE.into_iter().filter(is_wanted) {
        let ready = places.has(kind).and_then(|()| match kind.needs_loop() {
            true => can_loop.clone(),
            false => Ok(()),
        });
        match ready {
            Ok(()) => kinds.push(kind),
            Err(failure) => table.skip(format!("{}: {failure}", name(kind))),
        }
    }
    kinds
}

/// As many small files for all as the poorest of them can have.
fn amounts(wanted: &Amounts, kinds: &[Kind], table: &mut Table) -> Amounts {
    let limit = rustix::process::getrlimit(Resource::Nofile).maximum;
    let is_poor = limit.is_some_and(|limit| limit < DESCRIPTORS)
        && kinds.iter().any(|kind| kind.keeps_descriptors());
    let files = if is_poor { wanted.files.min(FILES_FEW) } else { wanted.files };
    if files < wanted.files {
        table.skip(format!(
            "{} small files: a passing program may not keep that many open here; {files} it is",
            wanted.files
        ));
    }
    Amounts { files, ..*wanted }
}

/// One system's turn in one round.
struct Turn<'a> {
    kind: Kind,
    places: &'a Places,
    table: &'a mut Table,
    amounts: &'a Amounts,
    tree: &'a Tree,
    stop: &'a Stop,
}

/// Something that is done with a mounted system.
type Part = fn(&mut Turn<'_>, &Path) -> Outcome;

const PARTS: [(&str, Part); 5] = [
    ("large file", |turn, root| turn.large_file(root)),
    ("small files", |turn, root| turn.small_files(root)),
    ("tar", |turn, root| turn.tar(root)),
    ("git", |turn, root| turn.git(root)),
    ("sqlite", |turn, root| turn.sqlite(root)),
];

impl Turn<'_> {
    fn take(&mut self) -> Outcome {
        self.on_new_volume(&PARTS)?;
        if self.kind == Kind::FarrierFile {
            self.on_new_volume(&[("snapshots", |turn, root| turn.snapshots(root))])?;
        }
        Ok(())
    }

    /// What fails is left out and named; only what stays mounted, or Ctrl-C, ends all.
    fn on_new_volume(&mut self, parts: &[(&str, Part)]) -> Outcome {
        self.stop.go_on()?;
        systems::make_empty(self.kind, VOLUME, self.amounts.image_bytes, self.places)?;
        let mut system = System::over(self.kind, VOLUME, self.places)?;
        system.cold()?;
        let root = system.root().to_owned();
        for (part, work) in parts {
            let outcome = work(self, &root);
            self.stop.go_on()?;
            if let Err(failure) = outcome {
                self.table.skip(format!("{part}, {}: {failure}", name(self.kind)));
            }
        }
        system.unmount()?;
        drop(system);
        systems::remove(self.kind, VOLUME, self.places)
    }

    fn add(&mut self, line: &str, unit: Unit, figure: f64) {
        self.table.add(line, unit, name(self.kind), figure);
    }

    fn large_file(&mut self, root: &Path) -> Outcome {
        let path = root.join("large");
        let len = self.amounts.file_bytes;
        let figure = writers::sequential(&path, len, self.stop)?;
        self.add(&format!("write {} MiB, fsync", len >> 20), Unit::MibPerSecond, figure);
        let figure = writers::overwrite(&path, len, self.amounts.overwrites, self.stop)?;
        self.add("overwrite 4 KiB anywhere, fsync each", Unit::PerSecond, figure.per_second);
        fs::remove_file(&path).during("cannot remove the large file")?;
        writers::settle(root)
    }

    fn small_files(&mut self, root: &Path) -> Outcome {
        let mut small = SmallFiles::plan(root, self.amounts.files, self.stop)?;
        let count = small.count() as f64;
        writers::settle(root)?;
        let (alone, synced) = with_sync(root, || small.create())?;
        self.add("small files: create", Unit::PerSecond, count / alone);
        self.add("small files: create, until synced", Unit::PerSecond, count / synced);
        // the kernel does not trust what it knew before it wrote
        let time = writers::seconds(|| small.stat())?;
        self.add("small files: stat, first after writing", Unit::PerSecond, count / time);
        let time = writers::seconds(|| small.stat())?;
        self.add("small files: stat, warm", Unit::PerSecond, count / time);
        let time = writers::seconds(|| small.read())?;
        self.add("small files: read, warm", Unit::PerSecond, count / time);
        let (alone, synced) = with_sync(root, || small.rename())?;
        self.add("small files: rename", Unit::PerSecond, count / alone);
        self.add("small files: rename, until synced", Unit::PerSecond, count / synced);
        let (alone, synced) = with_sync(root, || small.unlink())?;
        self.add("small files: unlink", Unit::PerSecond, count / alone);
        self.add("small files: unlink, until synced", Unit::PerSecond, count / synced);
        small.remove_directories()?;
        writers::settle(root)
    }

    fn tar(&mut self, root: &Path) -> Outcome {
        let line = format!("untar {} files", self.amounts.tree_files);
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(&self.tree.tar).arg("-C").arg(root);
        let (alone, synced) = with_sync(root, || trees::quiet(&mut tar))?;
        self.add(&line, Unit::Seconds, alone);
        self.add(&format!("{line}, until synced"), Unit::Seconds, synced);
        Ok(())
    }

    fn git(&mut self, root: &Path) -> Outcome {
        let Some(repository) = &self.tree.repository else {
            self.table.skip("git: it is not installed".to_owned());
            return Ok(());
        };
        let clone = root.join("clone");
        let mut command = trees::git();
        // through the protocol: else the pack would be linked or copied as a file
        command.args(["clone", "--quiet", "--no-local"]).arg(repository).arg(&clone);
        let (alone, synced) = with_sync(root, || trees::quiet(&mut command))?;
        self.add("git clone", Unit::Seconds, alone);
        self.add("git clone, until synced", Unit::Seconds, synced);
        let mut command = trees::git();
        command.arg("-C").arg(&clone).args(["status", "--porcelain"]);
        let time = writers::seconds(|| trees::quiet(&mut command))?;
        self.add("git status", Unit::Seconds, time);
        Ok(())
    }

    fn sqlite(&mut self, root: &Path) -> Outcome {
        if !trees::is_there("sqlite3") {
            self.table.skip("sqlite: sqlite3 is not installed".to_owned());
            return Ok(());
        }
        let count = self.amounts.transactions;
        let time = writers::transactions(root, count)?;
        self.add("sqlite transactions, WAL, FULL", Unit::PerSecond, f64::from(count) / time);
        Ok(())
    }

    /// Whole processes of `farrier snapshot` on the mounted volume.
    fn snapshots(&mut self, root: &Path) -> Outcome {
        for count in [SNAPSHOT_FILES, self.amounts.files] {
            let folder = root.join(format!("of-{count}"));
            fs::create_dir(&folder).during(folder.display())?;
            SmallFiles::plan(&folder, count, self.stop)?.create()?;
            writers::settle(root)?;
            let label = format!("SNAP{count}");
            let arguments = ["snapshot".as_ref(), root.as_os_str(), label.as_ref()];
            let time = writers::seconds(|| run(&self.places.farrier, &arguments).map(drop))?;
            let line = format!("snapshot with {count} files");
            self.add(&line, Unit::Milliseconds, time * 1e3);
        }
        Ok(())
    }
}

/// Seconds of `work` alone, and of `work` until it is on media.
fn with_sync(root: &Path, work: impl FnOnce() -> Outcome) -> Outcome<(f64, f64)> {
    let alone = writers::seconds(work)?;
    let sync = writers::seconds(|| writers::settle(root))?;
    Ok((alone, alone + sync))
}

/// How far figures can be trusted.
fn noise(table: &Table, load_before: &str) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!(
        "noise: {cores} cores; load {load_before} before and {} after, our own included",
        load()
    );
    match table.spread() {
        Some((usual, most)) => text.push_str(&format!(
            "; rounds of one cell lie {:.0} % of its median apart (median of the cells; at most \
             {:.0} %)",
            usual * 100.0,
            most * 100.0
        )),
        None => text.push_str("; a single round says nothing about differences"),
    }
    text
}

/// Of the last minute.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

struct Options {
    farrier: PathBuf,
    work: PathBuf,
    peers: Option<PathBuf>,
    amounts: Amounts,
    only: Vec<String>,
    json: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::{Long, Short};
        let mut options = Self {
            farrier: "farrier".into(),
            work: Work::usual_parent(),
            peers: std::env::var_os("FARRIER_PEERS").map(PathBuf::from),
            amounts: USUAL,
            only: Vec::new(),
            json: None,
        };
        let mut rounds = None;
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("farrier") => options.farrier = parser.value()?.into(),
                Long("work") => options.work = parser.value()?.into(),
                Long("peers") => options.peers = Some(parser.value()?.into()),
                Long("quick") => options.amounts = QUICK,
                Long("rounds") => rounds = Some(parser.value()?.parse()?),
                Long("only") => {
                    let list = parser.value()?.string()?;
                    options.only.extend(list.split(',').map(str::to_owned));
                }
                Long("json") => options.json = Some(parser.value()?.into()),
                Long("help") | Short('h') => {
                    print!("{HELP}");
                    return Ok(None);
                }
                other => return Err(other.unexpected()),
            }
        }
        options.amounts.rounds = rounds.unwrap_or(options.amounts.rounds);
        let known = |only: &String| Kind::WRITABLE.iter().any(|kind| name(*kind) == only);
        if let Some(only) = options.only.iter().find(|only| !known(only)) {
            return Err(format!("--only {only}: no such system, see --help").into());
        }
        Ok(Some(options))
    }
}

const HELP: &str = "\
writing [OPTIONS]: Farrier's mount, written to beside peers and beside the ceiling of FUSE

  --quick          one round with a tenth of everything
  --rounds N       rounds of each figure (default 3; 1 with --quick)
  --only NAME,...  only these: farrier, ceiling, passthrough_hp, passthrough_ll,
                   'passthrough_ll (folder)', bindfs, ntfs-3g, redoxfs, zfs-fuse, ext4, btrfs
  --farrier FILE   the program (default: farrier on PATH)
  --peers DIR      where passthrough_hp and passthrough_ll are, if not on PATH
                   (default: FARRIER_PEERS)
  --work DIR       where images and mount points are made (default: the tmpfs of the system; a
                   folder on a disk gives the figures of that disk); takes 4 GiB there
  --json FILE      all figures of all rounds

Peers need root and loop devices; what is missing is left out and named.
";
