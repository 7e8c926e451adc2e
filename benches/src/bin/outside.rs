//! Farrier's mount beside other file systems that hold the same trees, and `farrier check` beside
//! `cat`. `cargo xtask bench outside` builds and starts this.
//!
//! The systems take turns, another one first in each round; a figure is quoted as the best and the
//! median of the rounds. Whatever is mounted or attached here is gone when the program ends, also
//! after an error or Ctrl-C.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use farrier_benches::failure::{During, Failure, Outcome};
use farrier_benches::place::{Stop, Work};
use farrier_benches::readers;
use farrier_benches::run::run;
use farrier_benches::systems::{self, Kind, Places, System};
use farrier_benches::table::{Table, Unit};
use farrier_benches::volumes;
use lexopt::ValueExt;

/// Entries that are listed: a passing program keeps a descriptor for each, and 20,000 is a usual
/// limit.
const LISTED_MAX: usize = 15_000;
/// Small files that are opened and read.
const FILES_MAX: usize = 5_000;
/// The image with the large file, and how much of that is contents.
const LARGE: &str = "freemap-node";
const LARGE_LEN: u64 = 4_233_626_377;
/// Memory that a check of it without holes takes, peers' copies included.
const DENSE_MEMORY: u64 = 14 << 30;
/// Random reads of one figure.
const RANDOM_COUNT: u64 = 8_192;

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outside: {error}");
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(table) => {
            println!("{}", table.markdown());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("outside: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Outcome<Table> {
    let work = Work::make(&options.work)?;
    let places = Places {
        work: work.0.clone(),
        farrier: options.farrier.clone(),
        peers: options.peers.clone(),
    };
    let mut bench = Bench { options, places, table: Table::default(), stop: Stop::watch()? };
    for case in CASES {
        if options.only.is_empty() || options.only.iter().any(|name| name == case.volume) {
            bench.volume(&case)?;
        }
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&bench.table).during("figures as JSON")?;
        fs::write(path, text).during(path.display())?;
    }
    Ok(bench.table)
}

/// A volume and what is done with it.
struct Case {
    volume: &'static str,
    /// Size of the peers' images in MiB.
    image_mib: u64,
    lines: fn(&mut Session<'_>) -> Outcome,
    /// What the peers get a copy of.
    copy: fn(&Options, &Path, &Path) -> Outcome,
}

const CASES: [Case; 4] = [
    Case { volume: LARGE, image_mib: 1024, lines: large_file, copy: copy_head },
    Case { volume: "big", image_mib: 384, lines: compressed_file, copy: copy_all },
    Case { volume: "dir20k", image_mib: 384, lines: large_directory, copy: copy_all },
    Case { volume: "small-files", image_mib: 384, lines: small_files, copy: copy_all },
];

struct Bench<'a> {
    options: &'a Options,
    places: Places,
    table: Table,
    stop: Stop,
}

impl Bench<'_> {
    fn volume(&mut self, case: &Case) -> Outcome {
        let work = self.places.work.clone();
        let Some(image) = volumes::unpack(case.volume, &work)? else {
            self.table.skip(format!(
                "{}: the image is not on this machine (FARRIER_IMAGES names its folder)",
                case.volume
            ));
            return Ok(());
        };
        let mut is_sparse = false;
        if case.volume == LARGE {
            // the image and its bytes once more, without holes, where memory is plenty
            is_sparse = memory_available() < DENSE_MEMORY;
            let len = if is_sparse { self.options.file_bytes } else { LARGE_LEN };
            volumes::fill(&image, "wide.bin", len)?;
        }
        self.check_beside_cat(case.volume, &image, is_sparse)?;
        let kinds = self.prepare(case)?;
        for round in 0..self.options.rounds {
            for number in 0..kinds.len() {
                let kind = kinds[(number + round) % kinds.len()];
                self.stop.go_on()?;
                eprintln!("{}, round {}: {}", case.volume, round + 1, kind.name());
                let system = System::over(kind, case.volume, &self.places)?;
                let (table, options) = (&mut self.table, self.options);
                let mut session = Session { system, kind, table, options };
                let outcome = (case.lines)(&mut session);
                let gone = session.system.unmount();
                if let Err(failure) = outcome {
                    self.table.skip(format!("{}, {}: {failure}", case.volume, kind.name()));
                }
                gone?;
            }
        }
        self.clear(case.volume)
    }

    /// The systems that can be had, with their copies of the tree.
    fn prepare(&mut self, case: &Case) -> Outcome<Vec<Kind>> {
        if let Err(failure) = self.places.can_loop() {
            self.table.skip(format!("all but farrier over the image file: {failure}"));
            return Ok(vec![Kind::FarrierFile]);
        }
        let mut kinds = Vec::new();
        let mut source = SourceMount::start(&self.places, case.volume)?;
        for kind in Kind::ALL {
            self.stop.go_on()?;
            if !self.options.peers_only.is_empty()
                && !self.options.peers_only.iter().any(|name| name == kind.name())
            {
                continue;
            }
            let size = case.image_mib << 20;
            let ready = self.places.has(kind).and_then(|()| match kind {
                Kind::Farrier | Kind::FarrierFile => Ok(()),
                _ => systems::make(kind, case.volume, size, &self.places, |folder| {
                    (case.copy)(self.options, &source.place, folder)
                }),
            });
            match ready {
                Ok(()) => kinds.push(kind),
                Err(failure) => {
                    self.table.skip(format!("{}, {}: {failure}", case.volume, kind.name()));
                }
            }
        }
        source.end()?;
        Ok(kinds)
    }

    /// Whole processes, from start to end, over the same bytes: the check reads them where they
    /// lie in the image, `cat` from a file that holds nothing else.
    fn check_beside_cat(&mut self, volume: &str, image: &Path, is_sparse: bool) -> Outcome {
        let bytes = self.places.work.join("bytes");
        let count = volumes::write_checked_bytes(image, &bytes, is_sparse)?;
        let holes = if is_sparse { ", most of them holes" } else { "" };
        let line = format!("{volume}: check, {} MiB{holes}", count >> 20);
        for round in 0..self.options.rounds.max(3) {
            self.stop.go_on()?;
            let check = || {
                let mut command = Command::new(&self.places.farrier);
                whole(command.arg("check").arg("--quiet").arg(image))
            };
            let cat = || whole(Command::new("cat").arg(&bytes));
            let (ours, theirs) = if round % 2 == 0 {
                let ours = check()?;
                (ours, cat()?)
            } else {
                let theirs = cat()?;
                (check()?, theirs)
            };
            self.table.add(&line, Unit::Milliseconds, "farrier check", ours);
            self.table.add(&line, Unit::Milliseconds, "cat", theirs);
        }
        fs::remove_file(&bytes).during("cannot remove a file of the bench")
    }

    fn clear(&self, volume: &str) -> Outcome {
        let prefix = format!("{volume}.");
        for entry in fs::read_dir(&self.places.work).during("the work folder")? {
            let path = entry.during("the work folder")?.path();
            let is_ours =
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
            if is_ours && path.is_dir() {
                fs::remove_dir_all(&path).during(path.display())?;
            } else if is_ours {
                fs::remove_file(&path).during(path.display())?;
            }
        }
        Ok(())
    }
}

/// Bytes of memory that can be had without pushing anything out; 0 if nobody knows.
fn memory_available() -> u64 {
    let facts = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = facts.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Milliseconds from a program's start to its end.
fn whole(command: &mut Command) -> Outcome<f64> {
    let start = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .during("cannot start a program")?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    if status.success() { Ok(time) } else { Err(Failure::new(format!("a program: {status}"))) }
}

/// One system's turn.
struct Session<'a> {
    system: System,
    kind: Kind,
    table: &'a mut Table,
    options: &'a Options,
}

impl Session<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.system.root().join(name)
    }

    fn add(&mut self, line: &str, unit: Unit, figure: f64) {
        self.table.add(line, unit, self.kind.name(), figure);
    }
}

fn large_file(session: &mut Session<'_>) -> Outcome {
    let file = session.path("wide.bin");
    let len = session.options.file_bytes;
    session.system.cold()?;
    let figure = readers::sequential(&file, len)?;
    session.add("large file: sequential, cold", Unit::MibPerSecond, figure);
    let figure = readers::sequential(&file, len)?;
    session.add("large file: sequential, warm", Unit::MibPerSecond, figure);
    for depth in [1, 8] {
        session.system.cold()?;
        let figure = readers::random(&file, len, depth, RANDOM_COUNT)?;
        session.add(
            &format!("large file: random 4 KiB, depth {depth}, cold"),
            Unit::PerSecond,
            figure,
        );
    }
    Ok(())
}

fn compressed_file(session: &mut Session<'_>) -> Outcome {
    let file = session.path("big.bin");
    session.system.cold()?;
    let len = fs::metadata(&file).during(file.display())?.len();
    let figure = readers::sequential(&file, len)?;
    session.add("mixed file (LZ4, holes): sequential, cold", Unit::MibPerSecond, figure);
    Ok(())
}

fn large_directory(session: &mut Session<'_>) -> Outcome {
    let directory = session.path("many");
    session.system.cold()?;
    let figure = readers::list(&directory, LISTED_MAX)?;
    session.add("large directory: list and stat, cold", Unit::PerSecond, figure);
    let figure = readers::list(&directory, LISTED_MAX)?;
    session.add("large directory: list and stat, warm", Unit::PerSecond, figure);
    let mut files = Vec::new();
    for entry in fs::read_dir(&directory).during(directory.display())?.take(FILES_MAX) {
        files.push(entry.during(directory.display())?.path());
    }
    files.sort();
    session.system.cold()?;
    let figure = readers::read_files(&files)?;
    session.add("large directory: open and read, cold", Unit::PerSecond, figure);
    let figure = readers::read_files(&files)?;
    session.add("large directory: open and read, warm", Unit::PerSecond, figure);
    Ok(())
}

fn small_files(session: &mut Session<'_>) -> Outcome {
    session.system.cold()?;
    let mut files = Vec::new();
    for entry in fs::read_dir(session.system.root()).during("the mount")? {
        let entry = entry.during("the mount")?;
        if entry.metadata().during(entry.path().display())?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    session.system.cold()?;
    let figure = readers::read_files(&files)?;
    session.add("small files: open and read, cold", Unit::PerSecond, figure);
    let many: Vec<_> = files.iter().cycle().take(files.len() * 20).cloned().collect();
    let figure = readers::read_files(&many)?;
    session.add("small files: open and read, warm", Unit::PerSecond, figure);
    let Some(file) = files.first() else {
        return Err(Failure::new("the volume has no files"));
    };
    let missing = session.path("no such name");
    let figure = readers::latency(|| fs::symlink_metadata(file).map(drop).during(file.display()))?;
    session.add("one file: stat, warm", Unit::Microseconds, figure);
    let figure = readers::latency(|| match fs::symlink_metadata(&missing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(Failure::new("a name is there that should not be")),
    })?;
    session.add("one missing name: stat, warm", Unit::Microseconds, figure);
    let figure = readers::latency(|| File::open(file).map(drop).during(file.display()))?;
    session.add("one file: open and close, warm", Unit::Microseconds, figure);
    Ok(())
}

fn copy_all(_: &Options, from: &Path, to: &Path) -> Outcome {
    let from = from.join(".");
    run("cp", &["-a".as_ref(), from.as_os_str(), to.as_os_str()]).map(drop)
}

/// The first part of the large file: all of it would not fit.
fn copy_head(options: &Options, from: &Path, to: &Path) -> Outcome {
    let source = File::open(from.join("wide.bin")).during("the large file")?;
    let mut target = File::create(to.join("wide.bin")).during("a copy")?;
    let mut left = options.file_bytes;
    let mut source = source.take(left);
    let mut buffer = vec![0; 1 << 20];
    // by hand, so that no zeros become a hole
    while left > 0 {
        let got = source.read(&mut buffer).during("the large file")?;
        if got == 0 {
            return Err(Failure::new("the large file ends too early"));
        }
        target.write_all(&buffer[..got]).during("a copy")?;
        left -= got as u64;
    }
    target.sync_all().during("a copy")
}

/// Farrier's mount that the copies are made from, at a place of its own.
struct SourceMount {
    farrier: PathBuf,
    place: PathBuf,
    is_mounted: bool,
}

impl SourceMount {
    fn start(places: &Places, volume: &str) -> Outcome<Self> {
        let place = places.work.join("source");
        fs::create_dir_all(&place).during("cannot make the mount point")?;
        let image = places.work.join(format!("{volume}.hammer2"));
        run(&places.farrier, &["mount".as_ref(), image.as_os_str(), place.as_os_str()])?;
        Ok(Self { farrier: places.farrier.clone(), place, is_mounted: true })
    }

    fn end(&mut self) -> Outcome {
        self.is_mounted = false;
        run(&self.farrier, &["umount".as_ref(), self.place.as_os_str()]).map(drop)
    }
}

impl Drop for SourceMount {
    fn drop(&mut self) {
        if self.is_mounted && self.end().is_err() {
            let _ = run("umount", &["--lazy".as_ref(), self.place.as_os_str()]);
        }
    }
}

struct Options {
    farrier: PathBuf,
    work: PathBuf,
    peers: Option<PathBuf>,
    rounds: usize,
    file_bytes: u64,
    only: Vec<String>,
    peers_only: Vec<String>,
    json: Option<PathBuf>,
}

impl Options {
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::{Long, Short};
        let mut options = Self {
            farrier: "farrier".into(),
            work: Work::usual_parent(),
            peers: std::env::var_os("FARRIER_PEERS").map(PathBuf::from),
            rounds: 3,
            file_bytes: 512 << 20,
            only: Vec::new(),
            peers_only: Vec::new(),
            json: None,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("farrier") => options.farrier = parser.value()?.into(),
                Long("work") => options.work = parser.value()?.into(),
                Long("peers") => options.peers = Some(parser.value()?.into()),
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("file-mib") => options.file_bytes = parser.value()?.parse::<u64>()? << 20,
                Long("only") => options.only.push(parser.value()?.string()?),
                Long("system") => options.peers_only.push(parser.value()?.string()?),
                Long("json") => options.json = Some(parser.value()?.into()),
                Long("help") | Short('h') => {
                    print!("{HELP}");
                    return Ok(None);
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

const HELP: &str = "\
outside [OPTIONS]: Farrier's mount beside peers, `farrier check` beside `cat`

  --farrier FILE   the program (default: farrier on PATH)
  --rounds N       rounds of each figure (default 3)
  --file-mib N     how much of the large file is read (default 512)
  --only VOLUME    freemap-node, big, dir20k or small-files; may be repeated
  --system NAME    only this one, as in the table's head; may be repeated
  --peers DIR      where passthrough_hp and passthrough_ll are, if not on PATH
                   (default: FARRIER_PEERS)
  --work DIR       where images and mount points are made (default: the tmpfs of the system)
  --json FILE      all figures of all rounds

Images other than small-files come from the folder FARRIER_IMAGES. Peers need root and loop
devices; what is missing is left out and named.
";
