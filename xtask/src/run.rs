//! Running other programs.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Failure, Outcome};

/// Runs `command` with its output shown; anything but success is a failure that names it.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("`{}` failed ({status})", shown(command))))
}

/// Runs `command` and returns what it wrote to stdout; stderr is shown.
pub(crate) fn capture(command: &mut Command) -> Outcome<String> {
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|error| not_started(command, &error))?;
    if !output.status.success() {
        return Err(Failure::new(format!("`{}` failed ({})", shown(command), output.status)));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::new(format!("`{}` wrote something that is not text", shown(command))))
}

/// Whether `command` can be started and succeeds. Nothing is shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The first of `names` that stands on `PATH`.
pub(crate) fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    names.iter().find_map(|name| {
        folders.iter().map(|folder| folder.join(name)).find(|program| is_executable(program))
    })
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn not_started(command: &Command, error: &io::Error) -> Failure {
    let program = command.get_program().display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(format!("`{program}` is not installed: run `cargo xtask setup`"))
        }
        _ => Failure::new(format!("cannot start `{program}`: {error}")),
    }
}

/// The command as a person would type it, without the folders in front of the program.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_its_arguments() {
        let failure = run(Command::new("/bin/sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert_eq!(failure, "`sh -c exit 3` failed (exit status: 3)");
    }

    #[test]
    fn a_missing_program_says_what_to_do() {
        let failure = run(&mut Command::new("no-such-program-here")).unwrap_err().to_string();
        assert!(failure.contains("cargo xtask setup"), "{failure}");
    }

    #[test]
    fn capture_returns_stdout() {
        assert_eq!(capture(Command::new("echo").arg("word")).unwrap(), "word\n");
    }

    #[test]
    fn programs_are_found_by_the_first_name_that_exists() {
        let found = find_program(&["no-such-program-here", "sh"]).unwrap();
        assert_eq!(found.file_name().unwrap(), "sh");
        assert_eq!(find_program(&["no-such-program-here"]), None);
    }
}
