//! What copies cost: a mount of one device, of two copies, and of one of two copies whose other one is
//! away, in the same run. `cargo xtask bench copies` builds and starts this.
//!
//! Each has new images in each round, and they take turns, another one first in each round. What is
//! read was written a moment ago by another mount, which is gone by then, and the system has dropped
//! what it held of the images: on a disk, they are read from there.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use farrier_benches::failure::{During, Failure, Outcome};
use farrier_benches::mounts::{again, is_mount_point, unmount};
use farrier_benches::place::{Stop, Work};
use farrier_benches::readers;
use farrier_benches::run::run;
use farrier_benches::table::{Table, Unit};
use farrier_benches::writers;
use lexopt::ValueExt;

const MIB: u64 = 1 << 20;

const USAGE: &str = "\
copies --farrier PROGRAM [--rounds N] [--work DIR] [--quick]

  --rounds N   rounds (default 5); cells are the best and the median, and how many times as fast as
               one device the median is
  --work DIR   where images go (default: a tmpfs); twice 2 GiB
  --quick      small amounts, one round
";

fn main() -> ExitCode {
    let outcome = Options::parse().and_then(|options| match options {
        Some(options) => measure(&options),
        None => Ok(()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("copies: {failure}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    farrier: PathBuf,
    work: PathBuf,
    rounds: usize,
    amounts: Amounts,
}

#[derive(Clone, Copy)]
struct Amounts {
    device: u64,
    file: u64,
    overwrites: u32,
    reads: u64,
}

impl Options {
    fn parse() -> Outcome<Option<Self>> {
        use lexopt::prelude::{Long, Short};
        let mut parser = lexopt::Parser::from_env();
        let (mut farrier, mut work) = (None, Work::usual_parent());
        let (mut rounds, mut is_quick) = (None, false);
        let wrong = |error: lexopt::Error| Failure::new(error.to_string());
        while let Some(argument) = parser.next().map_err(wrong)? {
            match argument {
                Long("farrier") => farrier = Some(parser.value().map_err(wrong)?.into()),
                Long("work") => work = parser.value().map_err(wrong)?.into(),
                Long("rounds") => {
                    let value = parser.value().and_then(|value| value.parse());
                    rounds = Some(value.map_err(wrong)?);
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
        let usual = Amounts { device: 2 << 30, file: 512 * MIB, overwrites: 2000, reads: 20_000 };
        let quick = Amounts { device: 512 * MIB, file: 64 * MIB, overwrites: 200, reads: 2000 };
        let amounts = if is_quick { quick } else { usual };
        let rounds: usize = rounds.unwrap_or(if is_quick { 1 } else { 5 });
        Ok(Some(Self { farrier, work, rounds: rounds.max(1), amounts }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Both,
    OneOfTwo,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Single, Self::Both, Self::OneOfTwo];

    const fn name(self) -> &'static str {
        match self {
            Self::Single => "one device",
            Self::Both => "two copies",
            Self::OneOfTwo => "one of two copies",
        }
    }
}

fn measure(options: &Options) -> Outcome {
    let stop = Stop::watch()?;
    let work = Work::make(&options.work)?;
    let mut table = Table::default();
    for round in 0..options.rounds {
        for at in 0..Kind::ALL.len() {
            let kind = Kind::ALL[(at + round) % Kind::ALL.len()];
            eprintln!("round {}: {}", round + 1, kind.name());
            let mut turn = Turn { kind, options, work: &work.0, table: &mut table, stop: &stop };
            turn.take()?;
        }
    }
    println!("{}", table.markdown_beside(Some(Kind::Single.name())));
    Ok(())
}

/// One mount's turn in one round.
struct Turn<'a> {
    kind: Kind,
    options: &'a Options,
    work: &'a Path,
    table: &'a mut Table,
    stop: &'a Stop,
}

impl Turn<'_> {
    fn take(&mut self) -> Outcome {
        let images = ["a.img", "b.img"].map(|name| self.work.join(name));
        for image in &images {
            let _ = fs::remove_file(image);
            let file = File::create(image).during(image.display())?;
            file.set_len(self.options.amounts.device).during(image.display())?;
        }
        let at = self.work.join("mnt");
        fs::create_dir_all(&at).during(at.display())?;
        let done = self.on(&images, &at);
        if done.is_err() && is_mount_point(&at) {
            let _ = run("umount", &["--lazy".as_ref(), at.as_os_str()]);
        }
        done
    }

    /// Writes and reads, each by a mount that knows nothing of what is there.
    fn on(&mut self, [a, b]: &[PathBuf; 2], at: &Path) -> Outcome {
        let copy = OsString::from("--copy");
        let devices: Vec<OsString> = match self.kind {
            Kind::Single => vec![a.into()],
            _ => vec![copy.clone(), a.into(), copy, b.into()],
        };
        self.farrier(&[vec!["format".into()], devices].concat())?;
        let words: Vec<OsString> = match self.kind {
            Kind::Single => vec![a.into()],
            Kind::Both => vec![a.into(), b.into()],
            Kind::OneOfTwo => vec!["--accept-missing".into(), "--only".into(), a.into()],
        };
        let mount = [vec!["mount".into()], words, vec![at.into()]].concat();
        for part in [Self::write, Self::read_here_and_there, Self::read_in_order] {
            self.stop.go_on()?;
            [a, b].into_iter().try_for_each(|image| forget(image))?;
            again(|| self.farrier(&mount))?;
            let done = part(self, at);
            unmount(at)?;
            done?;
        }
        Ok(())
    }

    fn farrier<S: AsRef<OsStr>>(&self, words: &[S]) -> Outcome {
        run(&self.options.farrier, words).map(drop)
    }

    fn add(&mut self, line: &str, unit: Unit, figure: f64) {
        self.table.add(line, unit, self.kind.name(), figure);
    }

    fn write(&mut self, at: &Path) -> Outcome {
        let Amounts { file, overwrites, .. } = self.options.amounts;
        let path = at.join("file");
        let figure = writers::sequential(&path, file, self.stop)?;
        self.add(&format!("write {} MiB, fsync", file / MIB), Unit::MibPerSecond, figure);
        let figure = writers::overwrite(&path, file, overwrites, self.stop)?;
        let line = "overwrite 4 KiB anywhere, fsync each";
        self.add(line, Unit::PerSecond, figure.per_second);
        self.add(&format!("{line}: median"), Unit::Microseconds, figure.median_us);
        writers::settle(at)
    }

    fn read_here_and_there(&mut self, at: &Path) -> Outcome {
        let Amounts { file, reads, .. } = self.options.amounts;
        let path = at.join("file");
        let figure = readers::random(&path, file, 1, reads / 4)?;
        self.add("read 4 KiB anywhere, one at a time", Unit::PerSecond, figure);
        let figure = readers::random(&path, file, 8, reads)?;
        self.add("read 4 KiB anywhere, eight at a time", Unit::PerSecond, figure);
        Ok(())
    }

    fn read_in_order(&mut self, at: &Path) -> Outcome {
        let figure = readers::sequential(&at.join("file"), self.options.amounts.file)?;
        self.add("read in order, cold", Unit::MibPerSecond, figure);
        Ok(())
    }
}

/// Has the system drop what it holds of an image in memory, as far as that is not all there is of it.
fn forget(image: &Path) -> Outcome {
    let file = File::open(image).during(image.display())?;
    file.sync_all().during(image.display())?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).during(image.display())
}
