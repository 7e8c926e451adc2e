//! The command line of the module. An embedder parses it too, to know which files a run names.
//!
//! This page knows no file system: whether an `@` belongs to a file's name is asked of whoever
//! parses ([`parse`]).

use std::ffi::OsString;

use lexopt::prelude::{Long, Short, Value};
use lexopt::{Arg, Parser, ValueExt};

/// What `--help` prints.
pub const HELP: &str = include_str!("help.txt");

/// Default of `--cache` in bytes.
pub const CACHE_DEFAULT: usize = 16 << 20;

/// A whole command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The volumes of the file system, as files; the first is the one before the `@`.
    pub volumes: Vec<String>,
    /// Label of the PFS, if one was named.
    pub label: Option<Vec<u8>>,
    /// What to do.
    pub command: Command,
    /// How to write what comes out.
    pub format: Format,
    /// Limit of the block cache in bytes.
    pub cache_bytes: usize,
    /// Whether to accept files that are shorter than their volume.
    pub allow_truncated: bool,
    /// Header copy to use instead of the newest.
    pub header: Option<u8>,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Tell of the file system as a whole.
    Info,
    /// List the PFSs.
    Pfs,
    /// List a directory.
    List {
        /// The directory, or another file.
        path: Vec<u8>,
        /// With attributes.
        long: bool,
        /// With everything below it.
        recursive: bool,
    },
    /// Draw the tree below a directory.
    Tree {
        /// The directory.
        path: Vec<u8>,
    },
    /// Write the contents of files.
    Cat {
        /// The files.
        targets: Vec<Target>,
    },
    /// Tell everything of files.
    Stat {
        /// The files.
        targets: Vec<Target>,
    },
    /// Copy a file or a tree out of the volume.
    CopyOut {
        /// What to copy.
        path: Vec<u8>,
        /// Where to.
        destination: String,
    },
    /// Check everything that the volume refers to.
    Check,
}

/// A file, by path or by number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// By path.
    Path(Vec<u8>),
    /// By inode number: for names that no command line can carry, and inodes without any.
    Inode(u64),
}

/// How to write what comes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// A JSON value to a line.
    Json,
    /// Frames of postcard; see [`crate::report`].
    Postcard,
}

/// What a command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// This.
    Run(Request),
    /// The help text.
    Help,
    /// The version.
    Version,
}

/// Parses the arguments behind the program's name. `is_file` says whether a file of that name is
/// there; it decides where a device ends and its label begins.
///
/// # Errors
/// A sentence that says what is wrong with them.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    is_file: impl Fn(&str) -> bool,
) -> Result<Asked, String> {
    let mut raw = Raw::default();
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        match argument {
            Short('h') | Long("help") => return Ok(Asked::Help),
            Short('V') | Long("version") => return Ok(Asked::Version),
            Value(word) => raw.words.push(word),
            option => raw.option(&option.into_owned(), &mut parser)?,
        }
    }
    raw.request(is_file).map(Asked::Run)
}

/// An option's own copy: taking its value needs the parser that lent it.
enum Named {
    Letter(char),
    Word(String),
}

trait IntoOwned {
    fn into_owned(self) -> Named;
}

impl IntoOwned for Arg<'_> {
    fn into_owned(self) -> Named {
        match self {
            Short(letter) => Named::Letter(letter),
            Long(word) => Named::Word(word.to_owned()),
            Value(word) => Named::Word(word.to_string_lossy().into_owned()),
        }
    }
}

#[derive(Default)]
struct Raw {
    words: Vec<OsString>,
    volumes: Vec<String>,
    inodes: Vec<u64>,
    long: bool,
    recursive: bool,
    format: Format,
    cache_bytes: Option<usize>,
    allow_truncated: bool,
    header: Option<u8>,
}

impl Raw {
    fn option(&mut self, option: &Named, parser: &mut Parser) -> Result<(), String> {
        let name = match option {
            Named::Letter('l') => "long",
            Named::Letter('R') => "recursive",
            Named::Letter(letter) => return Err(format!("unknown option -{letter}; see --help")),
            Named::Word(word) => word,
        };
        let mut value = || {
            let value = parser.value().map_err(|e| e.to_string())?;
            value.string().map_err(|_| format!("the value of --{name} is not UTF-8"))
        };
        match name {
            "long" => self.long = true,
            "recursive" => self.recursive = true,
            "json" => self.format = Format::Json,
            "postcard" => self.format = Format::Postcard,
            "allow-truncated" => self.allow_truncated = true,
            "volume" => self.volumes.push(value()?),
            "cache" => self.cache_bytes = Some(size(&value()?)?),
            "inode" => self.inodes.push(number(&value()?)?),
            "header" => match number(&value()?)? {
                slot @ 0..4 => self.header = u8::try_from(slot).ok(),
                slot => return Err(format!("no header copy {slot}; they are numbered 0 to 3")),
            },
            _ => return Err(format!("unknown option --{name}; see --help")),
        }
        Ok(())
    }

    fn request(self, is_file: impl Fn(&str) -> bool) -> Result<Request, String> {
        let mut words = self.words.into_iter();
        let name = words.next().ok_or("no command given; see --help")?;
        let device = words.next();
        let mut words = words.map(|word| word.as_encoded_bytes().to_vec()).collect();
        let name = name.to_string_lossy();
        let mut inodes: Vec<Target> = self.inodes.into_iter().map(Target::Inode).collect();
        let takes_pfs = !matches!(&*name, "info" | "pfs" | "check");
        let command = match &*name {
            "info" => Command::Info,
            "pfs" => Command::Pfs,
            "check" => Command::Check,
            "ls" => Command::List {
                path: path_or_root(&mut words),
                long: self.long,
                recursive: self.recursive,
            },
            "tree" => Command::Tree { path: path_or_root(&mut words) },
            "cat" | "stat" => {
                let mut targets: Vec<_> = words.drain(..).map(Target::Path).collect();
                targets.append(&mut inodes);
                match &*name {
                    "cat" if targets.is_empty() => return Err("cat needs a path".into()),
                    "cat" => Command::Cat { targets },
                    _ if targets.is_empty() => {
                        Command::Stat { targets: vec![Target::Path(b"/".to_vec())] }
                    }
                    _ => Command::Stat { targets },
                }
            }
            "copy-out" => {
                let destination = words.pop().filter(|_| !words.is_empty());
                let destination = destination
                    .ok_or("copy-out needs a path in the volume and a destination")
                    .map(String::from_utf8)?
                    .map_err(|_| "the destination is not UTF-8, which WASI asks for")?;
                let path = path_or_root(&mut words);
                Command::CopyOut { path, destination }
            }
            other => return Err(format!("unknown command {other}; see --help")),
        };
        if !words.is_empty() {
            return Err(format!("{name} takes fewer arguments; see --help"));
        }
        if !inodes.is_empty() {
            return Err(format!("{name} takes no --inode"));
        }
        let device = device.ok_or_else(|| format!("{name} needs a device; see --help"))?;
        let device = device
            .into_string()
            .map_err(|_| "the device's name is not UTF-8, which WASI asks for")?;
        let (first, label) = split_label(&device, is_file);
        if label.is_some() && !takes_pfs {
            return Err(format!("{name} is about the whole volume; leave out the @LABEL"));
        }
        let mut volumes = vec![first.to_owned()];
        volumes.extend(self.volumes);
        let is_check = matches!(command, Command::Check);
        Ok(Request {
            volumes,
            label: label.map(|label| label.as_bytes().to_vec()),
            command,
            format: self.format,
            cache_bytes: self.cache_bytes.unwrap_or(CACHE_DEFAULT),
            // A check tells by itself that a device is short, and what that costs.
            allow_truncated: self.allow_truncated || is_check,
            header: self.header,
        })
    }
}

fn path_or_root(words: &mut Vec<Vec<u8>>) -> Vec<u8> {
    if words.is_empty() { b"/".to_vec() } else { words.remove(0) }
}

/// `FILE@LABEL`, where either may hold an `@` too: the shortest file that is there wins, unless
/// the whole is one.
fn split_label(device: &str, is_file: impl Fn(&str) -> bool) -> (&str, Option<&str>) {
    if !device.contains('@') || is_file(device) {
        return (device, None);
    }
    let mut splits = device.match_indices('@').map(|(at, _)| at);
    let split = splits.clone().find(|at| is_file(&device[..*at])).or_else(|| splits.next());
    match split {
        Some(at) => (&device[..at], Some(&device[at + 1..])),
        None => (device, None),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

/// A size in bytes, or with the suffix K, M or G.
///
/// # Errors
/// It is none.
pub fn size(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let size = digits.parse::<usize>().ok().and_then(|n| n.checked_mul(1 << shift));
    size.ok_or_else(|| format!("{text} is no size; write 1000000, 64K, 16M or 1G"))
}

#[cfg(test)]
mod tests;
