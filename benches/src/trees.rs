//! Trees that are the same on every machine: for `tar`, and as a repository for `git`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{During, Failure, Outcome};
use crate::readers::Chance;
use crate::run::run;

/// Sizes are spread evenly over the logarithms in between: the mean is 12 KB.
const SIZE_MIN: f64 = 100.0;
const SIZE_MAX: f64 = 80_000.0;
/// What the contents are made of: about as compressible as source text.
const WORDS: [&str; 24] = [
    "static ",
    "const ",
    "struct ",
    "return ",
    "if (",
    "else ",
    "while (",
    "for (",
    "int ",
    "uint64_t ",
    "value",
    "offset",
    "length",
    "->",
    " = ",
    ";\n",
    ") {\n",
    "}\n\n",
    "\t",
    "\t\t",
    "/* ",
    " */\n",
    "buffer",
    "next",
];
/// Who made a commit, and when: the same for all.
const GIT: [(&str, &str); 8] = [
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_AUTHOR_NAME", "bench"),
    ("GIT_AUTHOR_EMAIL", "bench@localhost"),
    ("GIT_AUTHOR_DATE", "1700000000 +0000"),
    ("GIT_COMMITTER_NAME", "bench"),
    ("GIT_COMMITTER_EMAIL", "bench@localhost"),
    ("GIT_COMMITTER_DATE", "1700000000 +0000"),
];

/// A tree as `tar` and `git` hold it.
#[derive(Debug)]
pub struct Tree {
    /// Not packed.
    pub tar: PathBuf,
    /// A bare repository, if git is there.
    pub repository: Option<PathBuf>,
}

impl Tree {
    /// Makes `files` files in `directories` directories, and what holds them, below `work`.
    ///
    /// # Errors
    /// The work folder is full, or `tar` fails.
    pub fn make(work: &Path, files: u64, directories: u64, with_git: bool) -> Outcome<Self> {
        let folder = work.join("source");
        fill(&folder, files, directories)?;
        let tar = work.join("source.tar");
        let mut command = Command::new("tar");
        command.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
        command.args(["--mtime=@1700000000", "-cf"]).arg(&tar).arg("-C").arg(work).arg("source");
        quiet(&mut command)?;
        let repository = work.join("source.git");
        if with_git {
            let steps: [&[&str]; 3] = [
                &["init", "--quiet"],
                &["add", "."],
                &["commit", "--quiet", "--message", "all of it"],
            ];
            for step in steps {
                quiet(git().arg("-C").arg(&folder).args(step))?;
            }
            let mut clone = git();
            clone.args(["clone", "--quiet", "--bare", "--no-hardlinks"]);
            quiet(clone.arg(&folder).arg(&repository))?;
            quiet(git().arg("-C").arg(&repository).args(["gc", "--quiet"]))?;
        }
        fs::remove_dir_all(&folder).during(folder.display())?;
        Ok(Self { tar, repository: with_git.then_some(repository) })
    }
}

/// Git without what its user told it.
#[must_use]
pub fn git() -> Command {
    let mut command = Command::new("git");
    command.envs(GIT);
    command
}

/// Runs a program and throws away what it says, unless it fails.
///
/// # Errors
/// It cannot be started, or fails.
pub fn quiet(command: &mut Command) -> Outcome {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .during(format_args!("cannot start {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or("it said nothing").to_owned();
    Err(Failure::new(format!("{name} failed ({}): {said}", output.status)))
}

/// Whether a program can be started from `PATH`.
#[must_use]
pub fn is_there(program: &str) -> bool {
    run(program, &["--version"]).is_ok()
}

fn fill(folder: &Path, files: u64, directories: u64) -> Outcome {
    let mut chance = Chance::new(1);
    let mut places = vec![folder.to_owned()];
    for number in 1..directories.max(1) {
        // up to eight below each
        let above = usize::try_from((number - 1) / 8).unwrap_or(0);
        places.push(places[above].join(format!("part-{number:03}")));
    }
    for place in &places {
        fs::create_dir(place).during(place.display())?;
    }
    for (number, place) in (0..files).zip(places.iter().cycle()) {
        let path = place.join(format!("unit_{number:05}.c"));
        let mut file = File::create(&path).during(path.display())?;
        file.write_all(&text(&mut chance)).during(path.display())?;
    }
    Ok(())
}

fn text(chance: &mut Chance) -> Vec<u8> {
    let at = chance.below(1 << 20) as f64 / f64::from(1 << 20);
    // between the two ends, so it fits
    let len = (SIZE_MIN * (SIZE_MAX / SIZE_MIN).powf(at)) as usize;
    let mut text = Vec::with_capacity(len + 16);
    while text.len() < len {
        let word = usize::try_from(chance.below(WORDS.len() as u64 * 2)).unwrap_or(0);
        match WORDS.get(word) {
            Some(word) => text.extend_from_slice(word.as_bytes()),
            None => text.extend_from_slice(format!("{:x}", chance.below(1 << 24)).as_bytes()),
        }
    }
    text.truncate(len);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_start_makes_the_same_texts_within_bounds() {
        let (mut one, mut other) = (Chance::new(7), Chance::new(7));
        let mut sum = 0;
        for _ in 0..200 {
            let made = text(&mut one);
            assert_eq!(made, text(&mut other));
            assert!((100..80_000).contains(&made.len()), "{}", made.len());
            sum += made.len();
        }
        assert!((1_000_000..5_000_000).contains(&sum), "about 2.4 MB: {sum}");
    }
}
