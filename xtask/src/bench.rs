//! `cargo xtask bench`: the inside of the core, and whole mounts beside their peers.

use crate::failure::{Failure, Outcome};
use crate::run::run;
use crate::workspace::Workspace;

const PACKAGE: &str = "farrier-benches";

/// Runs all benches, or the one that the first of `words` names; the words behind it are its own.
pub(crate) fn bench(workspace: &Workspace, words: &[String]) -> Outcome {
    match words.split_first() {
        None => {
            inside(workspace, &[])?;
            mounts(workspace, "outside", &[])?;
            mounts(workspace, "writing", &[])
        }
        Some((which, words)) => match which.as_str() {
            "inside" => inside(workspace, words),
            "outside" | "writing" | "mirrors" | "copies" => mounts(workspace, which, words),
            "encodings" | "resync" => program(workspace, which, words),
            _ => Err(Failure::new(format!(
                "`bench {which}`: name `inside`, `outside`, `writing`, `copies`, `mirrors`, \
                 `encodings` or `resync`, then its own arguments"
            ))),
        },
    }
}

fn inside(workspace: &Workspace, words: &[String]) -> Outcome {
    let mut cargo = workspace.cargo();
    run(cargo.args(["bench", "--package", PACKAGE, "--bench", "inside", "--"]).args(words))
}

fn program(workspace: &Workspace, program: &str, words: &[String]) -> Outcome {
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--release", "--package", PACKAGE, "--bin", program, "--"]);
    run(cargo.args(words))
}

/// The program that mounts has to be the one that was just built.
fn mounts(workspace: &Workspace, program: &str, words: &[String]) -> Outcome {
    run(workspace.cargo().args(["build", "--release", "--package", "farrier"]))?;
    let farrier = workspace.target.join("release/farrier");
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--release", "--package", PACKAGE, "--bin", program, "--"]);
    run(cargo.arg("--farrier").arg(farrier).args(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_bench_is_refused_with_what_there_is() {
        let workspace = Workspace::locate().unwrap();
        let failure = bench(&workspace, &["both".to_owned()]).unwrap_err().to_string();
        assert!(failure.contains("inside") && failure.contains("writing"), "{failure}");
    }
}
