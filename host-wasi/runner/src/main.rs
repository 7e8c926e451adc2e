//! `farrier-wasi-run`: the module's command line, run in a sandbox that sees only what it names.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use farrier_wasi::arguments;
use farrier_wasi_runner::{Limits, Runner};
use lexopt::ValueExt;
use lexopt::prelude::{Long, Short, Value};

const HELP: &str = "\
farrier-wasi-run: reads and writes HAMMER2 volumes in a WASI sandbox

usage: farrier-wasi-run [OPTIONS] COMMAND DEVICE[@LABEL] [ARGUMENTS]

  --module FILE      the module (default: $FARRIER_WASI_MODULE, farrier.wasm beside this
                     program, target/wasi/farrier.wasm)
  --memory SIZE      most memory of the module (default 512M)
  --fuel NUMBER      most instructions, about
  --timeout SECONDS  longest time that it may compute
  -h, --help         this text, and then the module's
  -V, --version      the version

Options of the runner stand before the command. The module sees the directories that the volumes
are in, to read, or to write if the command changes volumes; what copy-in and script read; and the
one that copy-out writes to; nothing else.

";

/// Where `cargo xtask wasi` puts the module.
const BUILT: &str = "target/wasi/farrier.wasm";
/// Beside this program.
const INSTALLED: &str = "farrier.wasm";

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(sentence) => {
            eprintln!("{sentence}");
            // as fsck has it, for the command that follows fsck
            let is_check = std::env::args_os().any(|word| word == "check");
            ExitCode::from(if is_check { 8 } else { 1 })
        }
    }
}

fn run() -> Result<u8, String> {
    let own = match parse()? {
        Asked::Run(own) => own,
        Asked::Help => {
            print!("{HELP}{}", arguments::HELP);
            return Ok(0);
        }
        Asked::Version => {
            println!("farrier-wasi-run {}", env!("CARGO_PKG_VERSION"));
            return Ok(0);
        }
    };
    let file = own.module.map_or_else(find_module, Ok)?;
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let module = std::fs::read(&file).map_err(|error| named(&error))?;
    let runner = Runner::with_limits(&module, own.limits).map_err(|error| named(&error))?;
    let words: Vec<&str> = own.words.iter().map(String::as_str).collect();
    let preopens = runner.preopens(&words).map_err(|error| error.to_string())?;
    let code = runner.run_attached(&words, &preopens);
    let code = code.map_err(|error| error.to_string())?;
    Ok(u8::try_from(code).unwrap_or(1))
}

enum Asked {
    Run(Own),
    Help,
    Version,
}

struct Own {
    module: Option<PathBuf>,
    limits: Limits,
    /// The command line of the module.
    words: Vec<String>,
}

/// Own options up to the command.
fn parse() -> Result<Asked, String> {
    let mut own = Own { module: None, limits: Limits::default(), words: Vec::new() };
    let mut parser = lexopt::Parser::from_env();
    let wrong = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            Short('h') | Long("help") => return Ok(Asked::Help),
            Short('V') | Long("version") => return Ok(Asked::Version),
            Long("module") => own.module = Some(parser.value().map_err(wrong)?.into()),
            Long("memory") => {
                let size = parser.value().and_then(ValueExt::string).map_err(wrong)?;
                own.limits.memory_bytes = arguments::size(&size)?;
            }
            Long("fuel") => {
                let fuel = parser.value().and_then(|fuel| fuel.parse());
                own.limits.fuel = Some(fuel.map_err(wrong)?);
            }
            Long("timeout") => {
                let seconds = parser.value().and_then(|seconds| seconds.parse::<f64>());
                let time = Duration::try_from_secs_f64(seconds.map_err(wrong)?);
                own.limits.deadline = Some(time.map_err(|error| error.to_string())?);
            }
            Value(command) => {
                let rest = parser.raw_args().map_err(wrong)?;
                let words = std::iter::once(command).chain(rest);
                own.words = words.map(utf8).collect::<Result<_, _>>()?;
            }
            other => return Err(format!("{}; see --help", other.unexpected())),
        }
    }
    Ok(Asked::Run(own))
}

fn utf8(word: OsString) -> Result<String, String> {
    word.into_string().map_err(|word| {
        format!(
            "{}: not UTF-8, which WASI asks for; name files inside a volume with --inode",
            word.display()
        )
    })
}

fn find_module() -> Result<PathBuf, String> {
    let named = std::env::var_os("FARRIER_WASI_MODULE").map(PathBuf::from);
    let beside =
        std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join(INSTALLED)));
    let built = Path::new(BUILT).to_owned();
    let mut places = [beside, Some(built)].into_iter().flatten();
    named.or_else(|| places.find(|place| place.exists())).ok_or_else(|| {
        "no module found; build it with `cargo xtask wasi`, or name it with --module".to_owned()
    })
}
