//! Where things are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Outcome};
use crate::run::capture;

/// The folders of the project, and cargo as it was when this program was started by it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Cargo's target directory, wherever the user has put it.
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn locate() -> Outcome<Self> {
        // Set by `cargo run`; the other is right as long as the working tree has not moved.
        let own = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = own.parent().unwrap_or(Path::new(".")).to_path_buf();
        let metadata = capture(cargo_in(&root).args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ]))?;
        let target = string_field(&metadata, "target_directory")
            .ok_or_else(|| Failure::new("cargo metadata names no target directory"))?;
        Ok(Self { root, target: PathBuf::from(target) })
    }

    /// The cargo that started us, at the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        cargo_in(&self.root)
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// `path` as a person at the workspace's root would write it.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

fn cargo_in(root: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}

/// The first string called `name` in a JSON text. Enough for one field of `cargo metadata`, and
/// cheaper for everybody who builds this crate than a JSON library.
fn string_field(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    let mut value = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return Some(value),
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\' | '/') => value.push(escaped),
                _ => return None,
            },
            plain => value.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_field_is_read_with_its_escapes() {
        let json = r#"{"version":1,"target_directory":"/home/a \"b\"/c\\d","root":"/x"}"#;
        assert_eq!(string_field(json, "target_directory").unwrap(), r#"/home/a "b"/c\d"#);
        assert_eq!(string_field(json, "root").unwrap(), "/x");
    }

    #[test]
    fn a_field_that_is_absent_cut_off_or_oddly_escaped_is_none() {
        assert_eq!(string_field("{}", "target_directory"), None);
        assert_eq!(string_field(r#"{"a":"unfinished"#, "a"), None);
        assert_eq!(string_field(r#"{"a":"\u0041"}"#, "a"), None);
    }
}
