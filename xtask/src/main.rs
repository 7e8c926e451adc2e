//! `cargo xtask`: set-up, builds, tests and benches of the workspace, in one program that needs
//! nothing but a Rust toolchain. See `cargo xtask help`.
//!
//! Everybody who works on the project compiles this crate, so it depends on `std` only.

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::demo::End;
use crate::failure::{Failure, Outcome};
use crate::imports::{GLUE_MODULE, WASI_MODULE};
use crate::stages::Choice;
use crate::toolchain::{Route, WasmToolchain};
use crate::web::Effort;
use crate::workspace::Workspace;

mod bench;
mod conformance;
mod core_proof;
mod demo;
mod failure;
mod imports;
mod mounted;
mod run;
mod serve;
mod setup;
mod stages;
mod toolchain;
mod wasi;
mod web;
mod workspace;

fn main() -> ExitCode {
    let mut words = env::args().skip(1);
    let Some(task) = words.next() else {
        print!("{HELP}");
        return ExitCode::from(2);
    };
    match perform(&task, Arguments(words.collect())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask {task}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: &str, mut arguments: Arguments) -> Outcome {
    match task {
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        "setup" => {
            let route = arguments.route();
            let web = !arguments.flag("--no-web");
            arguments.end()?;
            setup::set_up(&Workspace::locate()?, route, web)
        }
        "demo" => perform_demo(arguments),
        "test" => perform_test(arguments),
        "bench" => bench::bench(&Workspace::locate()?, &arguments.0),
        "web" => {
            let release = arguments.flag("--release");
            let (workspace, toolchain) = with_toolchain(arguments)?;
            let effort = if release { Effort::Release } else { Effort::Plain };
            let page = web::build(&workspace, &toolchain, effort)?;
            println!("the page is in {}", workspace.shown(&page.folder));
            Ok(())
        }
        "wasi" => {
            let (workspace, toolchain) = with_toolchain(arguments)?;
            wasi::build(&workspace, &toolchain).map(drop)
        }
        "core-proof" => {
            let (workspace, toolchain) = with_toolchain(arguments)?;
            core_proof::prove(&workspace, &toolchain)
        }
        "imports" => perform_imports(arguments),
        _ => Err(Failure::new("no such task; `cargo xtask help` lists them")),
    }
}

fn perform_demo(mut arguments: Arguments) -> Outcome {
    let route = arguments.route();
    let once = arguments.flag("--once");
    let seconds: Option<u64> = arguments.number("--seconds")?;
    let port: Option<u16> = arguments.number("--port")?;
    arguments.end()?;
    let end = match (once, seconds) {
        (true, Some(_)) => return Err(Failure::new("--once and --seconds exclude each other")),
        (true, None) => End::AtOnce,
        (false, Some(seconds)) => End::After(Duration::from_secs(seconds)),
        (false, None) => End::Asked,
    };
    // Nobody opens the page of a demo that ends at once: any free port will do.
    let port = port.unwrap_or(if once { 0 } else { PORT });
    demo::show(&Workspace::locate()?, route, end, port)
}

fn perform_test(mut arguments: Arguments) -> Outcome {
    let route = arguments.route();
    if arguments.flag("--list") {
        arguments.end()?;
        stages::list();
        return Ok(());
    }
    let quick = arguments.flag("--quick");
    let mut only = Vec::new();
    while let Some(name) = arguments.value("--only")? {
        only.push(name);
    }
    arguments.end()?;
    let choice = match (quick, only.is_empty()) {
        (true, false) => return Err(Failure::new("--quick and --only exclude each other")),
        (true, true) => Choice::Quick,
        (false, false) => Choice::Only(only),
        (false, true) => Choice::All,
    };
    stages::test(&Workspace::locate()?, route, &choice)
}

fn perform_imports(mut arguments: Arguments) -> Outcome {
    let mut allowed = Vec::new();
    while let Some(module) = arguments.value("--allow")? {
        allowed.push(module);
    }
    let mut allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    if allowed.is_empty() {
        allowed.extend([WASI_MODULE, GLUE_MODULE]);
    }
    let file = arguments.positional().ok_or_else(|| Failure::new("which file? (FILE.wasm)"))?;
    arguments.end()?;
    imports::check(Path::new(&file), &allowed)
}

fn with_toolchain(mut arguments: Arguments) -> Outcome<(Workspace, WasmToolchain)> {
    let route = arguments.route();
    arguments.end()?;
    let workspace = Workspace::locate()?;
    let toolchain = WasmToolchain::ready(&workspace, route)?;
    Ok((workspace, toolchain))
}

/// The words after the task. Each is taken out by what it means; what is left is a mistake.
struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() < before
    }

    /// The word after `name`.
    fn value(&mut self, name: &str) -> Outcome<Option<String>> {
        let Some(place) = self.0.iter().position(|word| word == name) else {
            return Ok(None);
        };
        self.0.remove(place);
        if place == self.0.len() {
            return Err(Failure::new(format!("{name} needs a value")));
        }
        Ok(Some(self.0.remove(place)))
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str) -> Outcome<Option<T>> {
        let Some(word) = self.value(name)? else {
            return Ok(None);
        };
        let number = word.parse();
        number.map(Some).map_err(|_| Failure::new(format!("{name} {word}: not a number it can be")))
    }

    fn positional(&mut self) -> Option<String> {
        let place = self.0.iter().position(|word| !word.starts_with('-'))?;
        Some(self.0.remove(place))
    }

    fn route(&mut self) -> Route {
        Route::choose(self.flag("--skip-rustup"))
    }

    fn end(self) -> Outcome {
        match self.0.first() {
            None => Ok(()),
            Some(word) => {
                Err(Failure::new(format!("what does `{word}` mean? (`cargo xtask help`)")))
            }
        }
    }
}

/// Where the demo serves the page.
const PORT: u16 = 8080;

const HELP: &str = "\
cargo xtask TASK [OPTIONS]

  demo [--once | --seconds N] [--port N]
                  build all, mount a sample volume in sample/mnt, serve the page at
                  127.0.0.1:8080; Enter or Ctrl-C ends it
                  --once   fetch the page, unmount and end (what CI does)
  test [--quick | --only STAGE ... | --list]
                  what must hold before a change is merged, cheapest first
                  --quick  without wasm and browser
                  --list   name the stages
  setup [--no-web]
                  get what is missing: Debian packages, both wasm targets, npm packages
                  --no-web without browser, Node.js and bindgen
  bench [inside [ARGS] | outside [ARGS] | writing [ARGS] | copies [ARGS]]
                  inside   the core's own parts (ARGS: `--help` of divan)
                  outside  mounts beside peers, check beside cat (ARGS: `outside --help`; root)
                  writing  mounts that are written to, beside peers and a ceiling (likewise)
                  copies   mounts of two copies and of one of them, beside one device
  web [--release] build the page into host-web/dist
                  --release  also shrink it with binaryen
  wasi            build the WASI module into target/wasi/farrier.wasm
  core-proof      build farrier-core where only core and alloc exist
  imports FILE.wasm [--allow MODULE ...]
                  list what a wasm module imports, refuse what its hosts do not have
  help            this

Tasks that build for wasm also take --skip-rustup: use Debian's packages at once instead of
asking rustup for the wasm targets first. Set CI to have that always.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn words_are_taken_out_by_meaning_in_any_order() {
        let mut words = arguments("--once file --port 81");
        assert_eq!(words.number::<u16>("--port").unwrap(), Some(81));
        assert!(words.flag("--once") && !words.flag("--once"));
        assert_eq!(words.positional().unwrap(), "file");
        assert!(words.end().is_ok());
    }

    #[test]
    fn what_is_left_over_is_a_mistake_and_named() {
        let failure = arguments("--onec").end().unwrap_err().to_string();
        assert!(failure.contains("--onec"), "{failure}");
    }

    #[test]
    fn values_that_are_missing_or_out_of_range_are_refused() {
        assert!(arguments("--port").value("--port").is_err());
        assert!(arguments("--port 65536").number::<u16>("--port").is_err());
        assert!(arguments("--port x").number::<u16>("--port").is_err());
        assert_eq!(arguments("").number::<u16>("--port").unwrap(), None);
    }

    #[test]
    fn the_help_names_every_task() {
        for task in ["demo", "test", "setup", "bench", "web", "wasi", "core-proof", "imports"] {
            assert!(HELP.lines().any(|line| line.starts_with(&format!("  {task}"))), "{task}");
        }
    }

    #[test]
    fn an_unknown_task_and_contradictions_are_refused() {
        assert!(perform("tset", arguments("")).is_err());
        assert!(perform("demo", arguments("--once --seconds 1")).is_err());
        assert!(perform("test", arguments("--quick --only fmt")).is_err());
    }
}
