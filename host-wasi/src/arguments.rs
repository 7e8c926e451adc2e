//! The command line of the module. An embedder parses it too, to know which files a run names.
//!
//! This page knows no file system: whether an `@` belongs to a file's name is asked of whoever
//! parses ([`parse`]).

mod format;

pub use format::NewFileSystem;

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
    /// What is to become of the copies of a volume.
    pub copies: Copies,
}

/// What is to become of the copies of a volume, where they do not go without saying.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Copies {
    /// Go on without those that are not here, though they may have gone on elsewhere.
    pub accept_missing: bool,
    /// The slot of the one to believe.
    pub master: Option<u8>,
    /// The slot of the one to show as it is by itself.
    pub only: Option<u8>,
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
    /// Make a new file system.
    Format(NewFileSystem),
    /// Copy files and trees into the volume.
    CopyIn {
        /// What to copy.
        sources: Vec<String>,
        /// Where to.
        path: Vec<u8>,
    },
    /// Make directories.
    MakeDirectories {
        /// Their paths.
        paths: Vec<Vec<u8>>,
    },
    /// Take names away.
    Remove {
        /// Their paths.
        paths: Vec<Vec<u8>>,
        /// Directories too, with everything below them.
        recursive: bool,
    },
    /// Copy a PFS as it is.
    Snapshot {
        /// Label of the copy.
        label: Vec<u8>,
    },
    /// Make an empty PFS.
    CreatePfs {
        /// Its label.
        label: Vec<u8>,
    },
    /// Remove a PFS and everything in it.
    DeletePfs {
        /// Its label.
        label: Vec<u8>,
    },
    /// Give a PFS another label.
    RenamePfs {
        /// The label so far.
        label: Vec<u8>,
        /// The label from now on.
        new_label: Vec<u8>,
    },
    /// Free what nothing refers to.
    Bulkfree,
    /// Do what stands in a file.
    Script {
        /// The file, outside of the volume.
        file: String,
    },
}

impl Command {
    /// Whether the volumes are written to.
    #[must_use]
    pub const fn writes(&self) -> bool {
        match self {
            Self::Info
            | Self::Pfs
            | Self::List { .. }
            | Self::Tree { .. }
            | Self::Cat { .. }
            | Self::Stat { .. }
            | Self::CopyOut { .. }
            | Self::Check => false,
            Self::Format(_)
            | Self::CopyIn { .. }
            | Self::MakeDirectories { .. }
            | Self::Remove { .. }
            | Self::Snapshot { .. }
            | Self::CreatePfs { .. }
            | Self::DeletePfs { .. }
            | Self::RenamePfs { .. }
            | Self::Bulkfree
            | Self::Script { .. } => true,
        }
    }
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
    output: Format,
    cache_bytes: Option<usize>,
    allow_truncated: bool,
    header: Option<u8>,
    copies: Copies,
    file_system: format::Options,
}

impl Raw {
    fn option(&mut self, option: &Named, parser: &mut Parser) -> Result<(), String> {
        let name = match option {
            Named::Letter('l') => "long",
            Named::Letter('R') => "recursive",
            Named::Letter('L') => "label",
            Named::Letter('f') => "force",
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
            "json" => self.output = Format::Json,
            "postcard" => self.output = Format::Postcard,
            "allow-truncated" => self.allow_truncated = true,
            "volume" => self.volumes.push(value()?),
            "cache" => self.cache_bytes = Some(size(&value()?)?),
            "inode" => self.inodes.push(number(&value()?)?),
            "header" => self.header = Some(one_of_four("header copy", &value()?)?),
            "accept-missing" => self.copies.accept_missing = true,
            "master" => self.copies.master = Some(one_of_four("copy", &value()?)?),
            "only-copy" => self.copies.only = Some(one_of_four("copy", &value()?)?),
            "force" => self.file_system.force(),
            "copies" => self.file_system.copies(),
            "size" | "label" | "compression" | "check" => {
                self.file_system.set(name, &value()?)?;
            }
            _ => return Err(format!("unknown option --{name}; see --help")),
        }
        Ok(())
    }

    fn request(mut self, is_file: impl Fn(&str) -> bool) -> Result<Request, String> {
        let mut words = std::mem::take(&mut self.words).into_iter().peekable();
        let mut name = words.next().ok_or("no command given; see --help")?;
        if name == "pfs" && words.peek().is_some_and(is_pfs_verb) {
            name.push(" ");
            name.extend(words.next());
        }
        let device = words.next();
        let mut words = words.map(|word| word.as_encoded_bytes().to_vec()).collect();
        let name = name.to_string_lossy();
        let command = self.command(&name, &mut words)?;
        if !words.is_empty() {
            return Err(format!("{name} takes fewer arguments; see --help"));
        }
        self.check_options(&name, &command)?;
        let device = device.ok_or_else(|| format!("{name} needs a device; see --help"))?;
        let device = device
            .into_string()
            .map_err(|_| "the device's name is not UTF-8, which WASI asks for")?;
        let (first, label) = split_label(&device, is_file);
        if label.is_some() && !takes_pfs(&command) {
            return Err(format!("{name} is about the whole volume; leave out the @LABEL"));
        }
        let mut volumes = vec![first.to_owned()];
        volumes.extend(self.volumes);
        let is_check = matches!(command, Command::Check);
        Ok(Request {
            volumes,
            label: label.map(|label| label.as_bytes().to_vec()),
            command,
            format: self.output,
            cache_bytes: self.cache_bytes.unwrap_or(CACHE_DEFAULT),
            // A check tells by itself that a device is short, and what that costs.
            allow_truncated: self.allow_truncated || is_check,
            header: self.header,
            copies: self.copies,
        })
    }

    /// The command `name`; it takes its own of the `words` behind the device.
    fn command(&mut self, name: &str, words: &mut Vec<Vec<u8>>) -> Result<Command, String> {
        Ok(match name {
            "info" => Command::Info,
            "pfs" | "pfs list" => Command::Pfs,
            "check" => Command::Check,
            "ls" => Command::List {
                path: path_or_root(words),
                long: self.long,
                recursive: self.recursive,
            },
            "tree" => Command::Tree { path: path_or_root(words) },
            "cat" | "stat" => self.files(name, words)?,
            "copy-out" => {
                let destination = words.pop().filter(|_| !words.is_empty());
                let destination =
                    destination.ok_or("copy-out needs a path in the volume and a destination")?;
                let path = path_or_root(words);
                Command::CopyOut { path, destination: utf8("the destination", destination)? }
            }
            "format" => Command::Format(self.file_system.finish()),
            "copy-in" => {
                let path = words.pop().filter(|_| !words.is_empty());
                let path = path.ok_or("copy-in needs what to copy and a path in the volume")?;
                let sources = words.drain(..).map(|word| utf8("what to copy", word));
                Command::CopyIn { sources: sources.collect::<Result<_, _>>()?, path }
            }
            "mkdir" => Command::MakeDirectories { paths: some_paths(name, words)? },
            "rm" => Command::Remove { paths: some_paths(name, words)?, recursive: self.recursive },
            "snapshot" => Command::Snapshot { label: label(name, words)? },
            "pfs create" => Command::CreatePfs { label: label(name, words)? },
            "pfs delete" => Command::DeletePfs { label: label(name, words)? },
            "pfs rename" => {
                let old = label(name, words)?;
                if words.is_empty() {
                    return Err("pfs rename needs the label so far and the new one".into());
                }
                Command::RenamePfs { label: old, new_label: words.remove(0) }
            }
            "bulkfree" => Command::Bulkfree,
            "script" => {
                let file = words.pop().ok_or("script needs the file with what to do")?;
                Command::Script { file: utf8("the script's name", file)? }
            }
            other => return Err(format!("unknown command {other}; see --help")),
        })
    }

    fn files(&mut self, name: &str, words: &mut Vec<Vec<u8>>) -> Result<Command, String> {
        let mut targets: Vec<_> = words.drain(..).map(Target::Path).collect();
        targets.extend(self.inodes.drain(..).map(Target::Inode));
        Ok(match name {
            "cat" if targets.is_empty() => return Err("cat needs a path".into()),
            "cat" => Command::Cat { targets },
            _ if targets.is_empty() => Command::Stat { targets: vec![Target::Path(b"/".to_vec())] },
            _ => Command::Stat { targets },
        })
    }

    /// Options that would do nothing are a misunderstanding.
    fn check_options(&self, name: &str, command: &Command) -> Result<(), String> {
        if !self.inodes.is_empty() {
            return Err(format!("{name} takes no --inode"));
        }
        if let Some(option) = self.file_system.given
            && !matches!(command, Command::Format(_))
        {
            return Err(format!("{name} takes no --{option}"));
        }
        let has_copies = self.copies != Copies::default();
        if has_copies && matches!(command, Command::Format(_)) {
            return Err(format!(
                "{name} takes no --accept-missing, --master and --only-copy: they are for volumes \
                 that are there"
            ));
        }
        if command.writes() && self.copies.only.is_some() {
            return Err(format!("{name} writes, and what --only-copy shows is only read"));
        }
        if command.writes() && (self.header.is_some() || self.allow_truncated) {
            return Err(format!(
                "{name} writes, and takes no --header and no --allow-truncated: they are for \
                 rescuing what can still be read"
            ));
        }
        Ok(())
    }
}

/// Whether it is about one tree of the volume, that a label may name.
const fn takes_pfs(command: &Command) -> bool {
    match command {
        Command::List { .. }
        | Command::Tree { .. }
        | Command::Cat { .. }
        | Command::Stat { .. }
        | Command::CopyOut { .. }
        | Command::CopyIn { .. }
        | Command::MakeDirectories { .. }
        | Command::Remove { .. }
        | Command::Snapshot { .. }
        | Command::Script { .. } => true,
        Command::Info
        | Command::Pfs
        | Command::Check
        | Command::Format(_)
        | Command::CreatePfs { .. }
        | Command::DeletePfs { .. }
        | Command::RenamePfs { .. }
        | Command::Bulkfree => false,
    }
}

fn utf8(what: &str, word: Vec<u8>) -> Result<String, String> {
    String::from_utf8(word).map_err(|_| format!("{what} is not UTF-8, which WASI asks for"))
}

fn some_paths(name: &str, words: &mut Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, String> {
    if words.is_empty() {
        return Err(format!("{name} needs a path"));
    }
    Ok(std::mem::take(words))
}

fn label(name: &str, words: &mut Vec<Vec<u8>>) -> Result<Vec<u8>, String> {
    if words.is_empty() {
        return Err(format!("{name} needs a label"));
    }
    Ok(words.remove(0))
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

/// One of four `things`, by number.
fn one_of_four(thing: &str, text: &str) -> Result<u8, String> {
    match number(text)? {
        slot @ 0..4 => Ok(u8::try_from(slot).unwrap_or_default()),
        slot => Err(format!("no {thing} {slot}; they are numbered 0 to 3")),
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

/// Whether it stands behind `pfs`, where otherwise a device would.
fn is_pfs_verb(word: &OsString) -> bool {
    ["list", "create", "delete", "rename"].iter().any(|verb| word == verb)
}

#[cfg(test)]
mod tests;
