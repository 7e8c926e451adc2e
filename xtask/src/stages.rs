//! What must hold before a change is merged, cheapest first. CI runs exactly this.

use std::cell::OnceCell;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::conformance;
use crate::core_proof;
use crate::demo::{self, End};
use crate::failure::{Failure, Outcome};
use crate::imports::{self, GLUE_MODULE, WASI_MODULE};
use crate::run::{find_program, run, succeeds};
use crate::setup;
use crate::toolchain::{Route, WasmToolchain};
use crate::wasi;
use crate::web::{self, Effort};
use crate::workspace::Workspace;

/// Which stages to run.
#[derive(Debug)]
pub(crate) enum Choice {
    All,
    /// What finds most mistakes in little time: no wasm, no browser.
    Quick,
    /// These, by name.
    Only(Vec<String>),
}

/// Runs the chosen stages and stops at the first that fails.
pub(crate) fn test(workspace: &Workspace, route: Route, choice: &Choice) -> Outcome {
    let chosen = choose(choice)?;
    let context = Context { workspace, route, toolchain: OnceCell::new() };
    let start = Instant::now();
    let mut times = Vec::new();
    for (index, stage) in chosen.iter().enumerate() {
        println!("\n=== {} ({} of {}): {}", stage.name, index + 1, chosen.len(), stage.about);
        let begun = Instant::now();
        let outcome = (stage.run)(&context);
        let time = begun.elapsed();
        if let Err(failure) = outcome {
            return Err(Failure::new(format!(
                "stage {name} failed after {}: {failure} (again: `cargo xtask test --only {name}`)",
                seconds(time),
                name = stage.name,
            )));
        }
        println!("=== {}: {}", stage.name, seconds(time));
        times.push((stage.name, time));
    }
    println!("\nAll passed in {}:", seconds(start.elapsed()));
    for (name, time) in times {
        println!("  {name:<12} {:>9}", seconds(time));
    }
    Ok(())
}

/// Prints the stages in their order.
pub(crate) fn list() {
    for stage in STAGES {
        let quick = if stage.quick { "quick" } else { "" };
        println!("{:<12} {quick:<6} {}", stage.name, stage.about);
    }
}

fn choose(choice: &Choice) -> Outcome<Vec<&'static Stage>> {
    match choice {
        Choice::All => Ok(STAGES.iter().collect()),
        Choice::Quick => Ok(STAGES.iter().filter(|stage| stage.quick).collect()),
        Choice::Only(names) => names
            .iter()
            .map(|name| {
                STAGES.iter().find(|stage| stage.name == name).ok_or_else(|| {
                    let known: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
                    Failure::new(format!("no stage `{name}`; there are {}", known.join(", ")))
                })
            })
            .collect(),
    }
}

struct Stage {
    name: &'static str,
    about: &'static str,
    quick: bool,
    run: fn(&Context<'_>) -> Outcome,
}

struct Context<'a> {
    workspace: &'a Workspace,
    route: Route,
    toolchain: OnceCell<WasmToolchain>,
}

impl Context<'_> {
    fn cargo(&self) -> Command {
        self.workspace.cargo()
    }

    /// Looked for once, and only by the stages that need it.
    fn toolchain(&self) -> Outcome<&WasmToolchain> {
        if self.toolchain.get().is_none() {
            let toolchain = WasmToolchain::ready(self.workspace, self.route)?;
            return Ok(self.toolchain.get_or_init(|| toolchain));
        }
        self.toolchain.get().ok_or_else(|| Failure::new("the wasm toolchain went away"))
    }
}

fn format(context: &Context<'_>) -> Outcome {
    run(context.cargo().args(["fmt", "--all", "--check"]))?;
    // Outside the workspace, so not among --all.
    let bindgen = context.workspace.path("xtask/bindgen/Cargo.toml");
    run(context.cargo().args(["fmt", "--check", "--manifest-path"]).arg(bindgen))
}

fn dependencies(context: &Context<'_>) -> Outcome {
    if find_program(&["cargo-deny"]).is_none() {
        println!("skipped: cargo-deny is not installed (`cargo install cargo-deny`)");
        return Ok(());
    }
    run(context.cargo().args(["deny", "check", "bans", "licenses", "sources"]))?;
    // Comes from elsewhere than the crates do: not every place that builds can reach it.
    if !succeeds(context.cargo().args(["deny", "fetch", "db"])) {
        println!("advisories skipped: their database cannot be fetched");
        return Ok(());
    }
    run(context.cargo().args(["deny", "check", "advisories"]))
}

fn set_up(context: &Context<'_>) -> Outcome {
    setup::set_up(context.workspace, context.route, true)
}

fn native_tests(context: &Context<'_>) -> Outcome {
    run(context.cargo().arg("test"))
}

fn clippy(context: &Context<'_>) -> Outcome {
    run(context.cargo().args(["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]))
}

fn wasm_lints(context: &Context<'_>) -> Outcome {
    let toolchain = context.toolchain()?;
    for (package, target) in WASM_PACKAGES {
        let mut cargo = toolchain.cargo(context.workspace);
        cargo.env("CARGO_TARGET_DIR", &context.workspace.target);
        // In the profile of the builds: what runs on the host (procedural macros) is shared with them.
        let selection = ["--package", package, "--target", target, "--profile", "wasm"];
        if toolchain.has_clippy() {
            run(cargo.arg("clippy").args(selection).args(["--", "-Dwarnings"]))?;
        } else {
            println!("cargo +{} has no clippy: the compiler's own warnings only", toolchain.name);
            run(cargo.arg("check").args(selection).env("RUSTFLAGS", "-Dwarnings"))?;
        }
    }
    Ok(())
}

fn core_alone(context: &Context<'_>) -> Outcome {
    core_proof::prove(context.workspace, context.toolchain()?)
}

fn wasi_module(context: &Context<'_>) -> Outcome {
    let module = wasi::build(context.workspace, context.toolchain()?)?;
    imports::check(&module, &[WASI_MODULE])
}

fn wasi_runner(context: &Context<'_>) -> Outcome {
    run(context.cargo().args(["test", "--package", "farrier-wasi-runner"]))
}

fn page(context: &Context<'_>) -> Outcome {
    let page = web::build(context.workspace, context.toolchain()?, Effort::Plain)?;
    imports::check(&page.module, &[GLUE_MODULE])
}

fn browser(context: &Context<'_>) -> Outcome {
    // From inside the folder: how `node --test` takes a folder differs between its versions.
    run(Command::new("node")
        .args(["--test", "--test-reporter=spec"])
        .current_dir(context.workspace.path("tests/web")))
}

fn show_demo(context: &Context<'_>) -> Outcome {
    demo::show(context.workspace, context.route, End::AtOnce, 0)
}

fn documentation(context: &Context<'_>) -> Outcome {
    run(context.cargo().args(["doc", "--no-deps", "--workspace"]).env("RUSTDOCFLAGS", "-Dwarnings"))
}

fn mount_conformance(context: &Context<'_>) -> Outcome {
    conformance::prove(context.workspace)
}

const WASM_PACKAGES: &[(&str, &str)] = &[
    ("farrier-core", "wasm32-unknown-unknown"),
    ("farrier-web", "wasm32-unknown-unknown"),
    ("farrier-wasi", "wasm32-wasip1"),
];

const STAGES: &[Stage] = &[
    Stage { name: "fmt", quick: true, about: "the code is formatted", run: format },
    Stage {
        name: "deny",
        quick: true,
        about: "licences and sources of dependencies are as agreed",
        run: dependencies,
    },
    Stage { name: "setup", quick: false, about: "what the rest needs is there", run: set_up },
    Stage {
        name: "test",
        quick: true,
        about: "unit, golden-image, mount and documentation tests",
        run: native_tests,
    },
    Stage { name: "clippy", quick: true, about: "lints, natively", run: clippy },
    Stage {
        name: "wasm-lints",
        quick: false,
        about: "lints, on both wasm targets",
        run: wasm_lints,
    },
    Stage {
        name: "core-proof",
        quick: false,
        about: "the core builds where no std exists",
        run: core_alone,
    },
    Stage {
        name: "wasi",
        quick: false,
        about: "the WASI module builds and imports WASI only",
        run: wasi_module,
    },
    Stage {
        name: "web",
        quick: false,
        about: "the page builds, is small, and imports its glue only",
        run: page,
    },
    Stage { name: "browser", quick: false, about: "the page in a real browser", run: browser },
    Stage { name: "demo", quick: false, about: "the first command of the README", run: show_demo },
    Stage { name: "docs", quick: false, about: "the documentation builds", run: documentation },
    Stage {
        name: "conformance",
        quick: false,
        about: "pjdfstest and fsx on a mount (root)",
        run: mount_conformance,
    },
    Stage {
        name: "wasi-runner",
        quick: false,
        about: "the WASI module in wasmtime",
        run: wasi_runner,
    },
];

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(choice: &Choice) -> Vec<&'static str> {
        choose(choice).unwrap().iter().map(|stage| stage.name).collect()
    }

    #[test]
    fn stage_names_are_unique() {
        let unique: BTreeSet<_> = STAGES.iter().map(|stage| stage.name).collect();
        assert_eq!(unique.len(), STAGES.len());
    }

    #[test]
    fn quick_is_a_part_of_all_in_the_same_order() {
        let (all, quick) = (names(&Choice::All), names(&Choice::Quick));
        assert!(!quick.is_empty() && quick.len() < all.len());
        let kept: Vec<_> = all.into_iter().filter(|name| quick.contains(name)).collect();
        assert_eq!(kept, quick);
    }

    #[test]
    fn set_up_comes_before_what_needs_it() {
        let all = names(&Choice::All);
        let place = |name| all.iter().position(|other| *other == name).unwrap();
        for later in
            ["test", "wasm-lints", "core-proof", "wasi", "web", "browser", "demo", "conformance"]
        {
            assert!(place("setup") < place(later), "{later}");
        }
        assert!(place("web") < place("browser"));
        assert!(place("wasi") < place("wasi-runner"));
    }

    #[test]
    fn stages_are_chosen_by_name_and_unknown_ones_refused() {
        let only = |name: &str| Choice::Only(vec![name.to_owned()]);
        assert_eq!(names(&only("web")), ["web"]);
        let Err(failure) = choose(&only("wbe")) else { panic!("an unknown stage was taken") };
        assert!(failure.to_string().contains("wasm-lints"));
    }
}
