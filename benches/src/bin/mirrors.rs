//! A copy that was away catches up: Farrier beside a Btrfs RAID1 and a ZFS mirror (zfs-fuse), in the
//! same run. `cargo xtask bench mirrors` builds and starts this; it wants root and loop devices.
//!
//! Each system gets two new devices in each round, and a file of noise. One device is taken away, some
//! of the file is overwritten in aligned pieces at random places, the device comes back. What is
//! counted is what the kernel counts at the devices from then on, until the system says that both
//! hold everything. Peers that are not installed are left out.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use farrier_benches::failure::{During, Failure, Outcome};
use farrier_benches::mounts::{again, is_mount_point, unmount};
use farrier_benches::place::{Stop, Work};
use farrier_benches::run::{find, run, wait_until};
use farrier_benches::systems::Loop;
use lexopt::ValueExt;

const MIB: u64 = 1 << 20;
const POOL: &str = "farriermirror";

const USAGE: &str = "\
mirrors --farrier PROGRAM [--rounds N] [--work DIR] [--only NAME,...] [--piece KIB] [--quick]

  --rounds N      rounds (default 3); cells are the best and the median
  --work DIR      where images go (default: a tmpfs)
  --only NAME,... of farrier, btrfs and zfs-fuse
  --piece KIB     bytes of each change (default 64)
  --quick         small amounts, one round
";

fn main() -> ExitCode {
    let outcome = Options::parse().and_then(|options| match options {
        Some(options) => measure(&options),
        None => Ok(()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("mirrors: {failure}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    farrier: PathBuf,
    work: PathBuf,
    only: Vec<String>,
    rounds: usize,
    amounts: Amounts,
}

#[derive(Clone, Copy)]
struct Amounts {
    device: u64,
    file: u64,
    changed: u64,
    piece: u64,
}

impl Options {
    fn parse() -> Outcome<Option<Self>> {
        use lexopt::prelude::{Long, Short};
        let mut parser = lexopt::Parser::from_env();
        let (mut farrier, mut work, mut only) = (None, Work::usual_parent(), Vec::new());
        let (mut rounds, mut piece, mut is_quick) = (3, 64, false);
        let wrong = |error: lexopt::Error| Failure::new(error.to_string());
        while let Some(argument) = parser.next().map_err(wrong)? {
            match argument {
                Long("farrier") => farrier = Some(parser.value().map_err(wrong)?.into()),
                Long("work") => work = parser.value().map_err(wrong)?.into(),
                Long("rounds") => rounds = number(&mut parser).map_err(wrong)?,
                Long("piece") => piece = number(&mut parser).map_err(wrong)?,
                Long("only") => {
                    let list = parser.value().and_then(ValueExt::string).map_err(wrong)?;
                    only = list.split(',').map(str::to_owned).collect();
                }
                Long("quick") => is_quick = true,
                Long("help") | Short('h') => {
                    print!("{USAGE}");
                    return Ok(None);
                }
                other => return Err(wrong(other.unexpected())),
            }
        }
        let farrier = farrier.ok_or_else(|| Failure::new("name the program: --farrier PROGRAM"))?;
        let piece = piece as u64 * 1024;
        if !piece.is_power_of_two() || piece > MIB {
            return Err(Failure::new("--piece: a power of two, 1024 at most"));
        }
        let whole = Amounts { device: 4 << 30, file: 1500 * MIB, changed: 64 * MIB, piece };
        let quick = Amounts { device: 1 << 30, file: 100 * MIB, changed: 8 * MIB, piece };
        let (rounds, amounts) = if is_quick { (1, quick) } else { (rounds, whole) };
        Ok(Some(Self { farrier, work, only, rounds: rounds.max(1), amounts }))
    }
}

fn number(parser: &mut lexopt::Parser) -> Result<usize, lexopt::Error> {
    parser.value()?.parse()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Farrier,
    Btrfs,
    ZfsFuse,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Farrier, Self::Btrfs, Self::ZfsFuse];

    const fn name(self) -> &'static str {
        match self {
            Self::Farrier => "farrier",
            Self::Btrfs => "btrfs",
            Self::ZfsFuse => "zfs-fuse",
        }
    }

    /// Why it cannot be measured here, if it cannot.
    fn missing(self) -> Option<String> {
        let programs: &[&str] = match self {
            Self::Farrier => &[],
            Self::Btrfs => &["btrfs", "mkfs.btrfs"],
            Self::ZfsFuse => &["zfs-fuse", "zpool"],
        };
        if let Some(name) = programs.iter().find(|name| find(None, name).is_none()) {
            return Some(format!("{name} is not installed"));
        }
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if self == Self::Btrfs && !known.lines().any(|line| line.ends_with("btrfs")) {
            return Some("the kernel has no btrfs".to_owned());
        }
        if self == Self::ZfsFuse && run("zpool", &["list"]).is_ok() {
            return Some("another zfs-fuse runs here".to_owned());
        }
        None
    }
}

/// What it came to.
#[derive(Clone, Copy, Default)]
struct Figures {
    seconds: f64,
    /// Read and written, of the device that stayed and of the one that was away.
    traffic: [(u64, u64); 2],
}

fn measure(options: &Options) -> Outcome {
    let stop = Stop::watch()?;
    let work = Work::make(&options.work)?;
    let is_wanted = |kind: &Kind| {
        options.only.is_empty() || options.only.iter().any(|only| only == kind.name())
    };
    let mut kinds = Vec::new();
    for kind in Kind::ALL.into_iter().filter(is_wanted) {
        match kind.missing() {
            Some(why) => println!("{}: left out: {why}", kind.name()),
            None => kinds.push((kind, Vec::new())),
        }
    }
    for round in 0..options.rounds {
        for at in 0..kinds.len() {
            stop.go_on()?;
            let number = (at + round) % kinds.len();
            let Some((kind, figures)) = kinds.get_mut(number) else { continue };
            eprintln!("round {}: {}", round + 1, kind.name());
            let mut pair = Pair::make(&work.0, options)?;
            figures.push(match kind {
                Kind::Farrier => pair.farrier(&options.farrier)?,
                Kind::Btrfs => pair.btrfs()?,
                Kind::ZfsFuse => pair.zfs()?,
            });
        }
    }
    println!(
        "{} MiB of {} MiB changed in pieces of {} KiB; best (median) of {} rounds",
        options.amounts.changed / MIB,
        options.amounts.file / MIB,
        options.amounts.piece / 1024,
        options.rounds
    );
    println!(
        "| | s | stayed: read, MiB | written | was away: read | written |\n\
         |---|---:|---:|---:|---:|---:|"
    );
    for (kind, figures) in &kinds {
        println!("{}", row(kind.name(), figures));
    }
    Ok(())
}

fn row(name: &str, figures: &[Figures]) -> String {
    let cell = |of: &dyn Fn(&Figures) -> f64| {
        let mut all: Vec<f64> = figures.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        let best = all.first().copied().unwrap_or(0.0);
        let median = all.get(all.len() / 2).copied().unwrap_or(0.0);
        format!("{best:.2} ({median:.2})")
    };
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    let cells = [
        cell(&|one| one.seconds),
        cell(&|one| mib(one.traffic[0].0)),
        cell(&|one| mib(one.traffic[0].1)),
        cell(&|one| mib(one.traffic[1].0)),
        cell(&|one| mib(one.traffic[1].1)),
    ];
    format!("| {name} | {} |", cells.join(" | "))
}

/// Two devices, and where they are mounted.
struct Pair {
    images: [PathBuf; 2],
    loops: [Option<Loop>; 2],
    at: PathBuf,
    amounts: Amounts,
    daemon: Option<Child>,
}

impl Pair {
    fn make(work: &Path, options: &Options) -> Outcome<Self> {
        let images = ["a.img", "b.img"].map(|name| work.join(name));
        for image in &images {
            let file = File::create(image).during(image.display())?;
            file.set_len(options.amounts.device).during(image.display())?;
        }
        let at = work.join("mnt");
        fs::create_dir_all(&at).during(at.display())?;
        let loops = [Some(Loop::over(&images[0])?), Some(Loop::over(&images[1])?)];
        Ok(Self { images, loops, at, amounts: options.amounts, daemon: None })
    }

    fn device(&self, which: usize) -> PathBuf {
        let device = self.loops.get(which).and_then(Option::as_ref);
        device.map_or_else(PathBuf::new, |device| device.path().to_owned())
    }

    fn traffic(&self) -> Outcome<[(u64, u64); 2]> {
        let of = |which: usize| match &self.loops[which] {
            Some(device) => device.traffic(),
            None => Ok((0, 0)),
        };
        Ok([of(0)?, of(1)?])
    }

    /// What `work` costs.
    fn count(&self, work: impl FnOnce() -> Outcome) -> Outcome<Figures> {
        let before = self.traffic()?;
        let began = Instant::now();
        work()?;
        let seconds = began.elapsed().as_secs_f64();
        let after = self.traffic()?;
        let less = |now: (u64, u64), then: (u64, u64)| (now.0 - then.0, now.1 - then.1);
        Ok(Figures { seconds, traffic: [less(after[0], before[0]), less(after[1], before[1])] })
    }

    fn fill(&self, folder: &Path) -> Outcome {
        let mut noise = Noise(1);
        let path = folder.join("file");
        let mut file = File::create(&path).during(path.display())?;
        for _ in 0..self.amounts.file / MIB {
            file.write_all(&noise.bytes(MIB)).during(path.display())?;
        }
        file.sync_all().during(path.display())
    }

    /// Every piece at another place.
    fn change(&self, folder: &Path) -> Outcome {
        let (mut noise, piece) = (Noise(2), self.amounts.piece);
        let path = folder.join("file");
        let file = File::options().write(true).open(&path).during(path.display())?;
        let mut places = std::collections::BTreeSet::new();
        while (places.len() as u64) < self.amounts.changed / piece {
            let place = noise.next() % (self.amounts.file / piece) * piece;
            if places.insert(place) {
                file.write_all_at(&noise.bytes(piece), place).during(path.display())?;
            }
        }
        file.sync_all().during(path.display())
    }

    /// Taken away while the others are changed, and mounted again: nothing is in memory.
    fn farrier(&mut self, farrier: &Path) -> Outcome<Figures> {
        let [a, b] = [self.device(0), self.device(1)];
        let at = self.at.clone();
        let command = |words: &[&std::ffi::OsStr]| run(farrier, words).map(drop);
        command(&[
            "format".as_ref(),
            "--copy".as_ref(),
            a.as_ref(),
            "--copy".as_ref(),
            b.as_ref(),
        ])?;
        command(&["mount".as_ref(), a.as_ref(), b.as_ref(), at.as_ref()])?;
        self.fill(&at)?;
        unmount(&at)?;
        let options = ["mount", "--accept-missing", "--only"].map(std::ffi::OsStr::new);
        let alone = [&options[..], &[a.as_ref(), at.as_ref()]].concat();
        again(|| command(&alone))?;
        self.change(&at)?;
        unmount(&at)?;
        let figures = self.count(|| {
            again(|| command(&["mount".as_ref(), a.as_ref(), b.as_ref(), at.as_ref()]))?;
            let resync = ["copies".as_ref(), "resync".as_ref(), "--wait".as_ref(), at.as_ref()];
            again(|| command(&resync))
        });
        unmount(&at)?;
        figures
    }

    /// The scrub, and what makes chunks redundant that were written while one device was away.
    fn btrfs(&mut self) -> Outcome<Figures> {
        let [a, b] = [self.device(0), self.device(1)];
        let at = self.at.clone();
        let make = ["-q", "-f", "-K", "-d", "raid1", "-m", "raid1"].map(std::ffi::OsStr::new);
        run("mkfs.btrfs", &[&make[..], &[a.as_ref(), b.as_ref()]].concat())?;
        let mount = |options: &str| {
            let words = ["-t", "btrfs", "-o", options].map(std::ffi::OsStr::new);
            run("mount", &[&words[..], &[a.as_ref(), at.as_ref()]].concat()).map(drop)
        };
        let forget = || run("btrfs", &["device", "scan", "--forget"]).map(drop);
        mount("nodiscard")?;
        self.fill(&at)?;
        unmount(&at)?;
        self.loops[1] = None;
        forget()?;
        mount("degraded,nodiscard")?;
        self.change(&at)?;
        unmount(&at)?;
        forget()?;
        self.loops[1] = Some(Loop::over(&self.images[1])?);
        let b = self.device(1);
        run("btrfs", &["device".as_ref(), "scan".as_ref(), b.as_os_str(), a.as_os_str()])?;
        mount("nodiscard")?;
        let figures = self.count(|| {
            run("btrfs", &["scrub".as_ref(), "start".as_ref(), "-B".as_ref(), at.as_os_str()])
                .map(drop)
                .or_else(|failure| {
                    // it ends like that if it found errors, which it had to
                    if failure.to_string().contains("exit status: 3") {
                        Ok(())
                    } else {
                        Err(failure)
                    }
                })?;
            let soft = ["-f", "-dconvert=raid1,soft", "-mconvert=raid1,soft"];
            let soft = ["balance", "start"].into_iter().chain(soft).map(std::ffi::OsStr::new);
            run("btrfs", &soft.chain([at.as_os_str()]).collect::<Vec<_>>()).map(drop)
        });
        unmount(&at)?;
        forget()?;
        figures
    }

    fn zfs(&mut self) -> Outcome<Figures> {
        let [a, b] = [self.device(0), self.device(1)];
        let at = self.at.clone();
        let daemon = find(None, "zfs-fuse").ok_or_else(|| Failure::new("no zfs-fuse"))?;
        let mut command = Command::new(daemon);
        command.arg("-n").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.daemon = Some(command.spawn().during("cannot start zfs-fuse")?);
        if !wait_until(|| run("zpool", &["list"]).is_ok()) {
            return Err(Failure::new("zfs-fuse does not answer"));
        }
        let zpool = |words: &[&std::ffi::OsStr]| run("zpool", words);
        let create = ["create".as_ref(), "-f".as_ref(), "-m".as_ref(), at.as_os_str()];
        let pool = std::ffi::OsStr::new(POOL);
        zpool(&[&create[..], &[pool, "mirror".as_ref(), a.as_ref(), b.as_ref()]].concat())?;
        self.fill(&at)?;
        zpool(&["offline".as_ref(), pool, b.as_ref()])?;
        self.change(&at)?;
        run("sync", &["-f".as_ref(), at.as_os_str()])?;
        let figures = self.count(|| {
            zpool(&["online".as_ref(), pool, b.as_ref()])?;
            let is_done = || {
                let said = zpool(&["status".as_ref(), pool]).unwrap_or_default();
                let is_over =
                    said.contains("resilver completed") || said.contains("scan: resilvered");
                is_over && !said.contains("in progress")
            };
            match (0..60).any(|_| wait_until(is_done)) {
                true => Ok(()),
                false => Err(Failure::new("zfs-fuse does not come to the end of its resilver")),
            }
        });
        wait_until(|| zpool(&["destroy".as_ref(), "-f".as_ref(), pool]).is_ok());
        figures
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // what is left after an error
        if is_mount_point(&self.at) {
            let _ = run("umount", &["--lazy".as_ref(), self.at.as_os_str()]);
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Bytes that nothing compresses, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}
