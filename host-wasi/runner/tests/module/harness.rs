//! The module, compiled once; command lines over images; contents and their hashes.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use farrier_tests::manifest;
use farrier_wasi::report::Entry;
use farrier_wasi_runner::{Answer, Failure, Output, Runner};
use sha2::{Digest, Sha256};

/// Files that `cat` is asked for at once, in bytes.
const BATCH_BYTES: u64 = 32 << 20;
/// Files that `cat` is asked for at once.
const BATCH_FILES: usize = 2000;

/// Where `cargo xtask wasi` puts the module: below the build folder that this test is in, wherever
/// that is; or below the usual one.
fn built_module() -> PathBuf {
    let module = |target: &Path| target.join("wasi/farrier.wasm");
    // a test is <target>/<profile>/deps/<name>
    let test = std::env::current_exe().expect("a test is a program");
    let beside = test.ancestors().nth(3).map(module).filter(|file| file.exists());
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    beside.unwrap_or_else(|| module(&usual))
}

/// The bytes of the module.
pub(crate) fn module_bytes() -> Vec<u8> {
    let file = std::env::var_os("FARRIER_WASI_MODULE").map_or_else(built_module, PathBuf::from);
    fs::read(&file).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; run `cargo xtask wasi` first, or name the module in \
             FARRIER_WASI_MODULE",
            file.display()
        )
    })
}

pub(crate) fn runner() -> &'static Runner {
    static RUNNER: OnceLock<Runner> = OnceLock::new();
    RUNNER.get_or_init(|| Runner::new(&module_bytes()).unwrap_or_else(|error| panic!("{error}")))
}

/// An image, named as on a command line.
#[derive(Debug)]
pub(crate) struct Image {
    first: String,
    others: Vec<String>,
}

impl Image {
    pub(crate) fn new(files: &[PathBuf]) -> Self {
        let mut names = files.iter().map(|file| text(file));
        Self { first: names.next().expect("an image has a file"), others: names.collect() }
    }

    /// `command` over this image: the device and its label stand where `words` has `@`.
    fn line(&self, label: Option<&str>, words: &[&str]) -> Vec<String> {
        let device = match label {
            Some(label) => format!("{}@{label}", self.first),
            None => self.first.clone(),
        };
        let volumes = self.others.iter().flat_map(|file| ["--volume", file]);
        let words = words.iter().map(|word| if *word == "@" { &device } else { *word });
        words.chain(volumes).map(str::to_owned).collect()
    }

    pub(crate) fn ask(&self, label: Option<&str>, words: &[&str]) -> Result<Answer, Failure> {
        let line = self.line(label, words);
        runner().ask(&line.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn run(&self, label: Option<&str>, words: &[&str]) -> Result<Output, Failure> {
        let line = self.line(label, words);
        let line: Vec<_> = line.iter().map(String::as_str).collect();
        runner().run(&line, &runner().preopens(&line)?)
    }

    /// SHA-256 of the contents of `files` (number and size), in their order.
    pub(crate) fn hashes(&self, label: &str, files: &[(u64, u64)]) -> Vec<String> {
        let mut hashes = Vec::with_capacity(files.len());
        let mut rest = files;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(_, size): &&(u64, u64)| {
                bytes += size;
                bytes <= BATCH_BYTES
            };
            let count = rest.iter().take(BATCH_FILES).take_while(fits).count();
            let (batch, behind) = rest.split_at(count.max(1));
            rest = behind;
            let inodes = batch.iter().map(|(inum, _)| format!("--inode={inum}"));
            let words: Vec<_> = ["cat".into(), "@".into()].into_iter().chain(inodes).collect();
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let output = self.run(Some(label), &words).unwrap_or_else(|e| panic!("{e}"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.code, &*said), (0, ""), "{}@{label}", self.first);
            let mut contents = &output.stdout[..];
            for (_, size) in batch {
                let size = usize::try_from(*size).expect("a batch is small");
                let (file, behind) = contents.split_at(size);
                hashes.push(hex(&Sha256::digest(file)));
                contents = behind;
            }
            assert!(contents.is_empty(), "cat gave more than the sizes say");
        }
        hashes
    }
}

/// A path as text: those of the tests are.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("paths of tests are UTF-8").to_owned()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What differs between an entry of a manifest and what the module reports of it.
pub(crate) fn differences(wanted: &manifest::Entry, seen: &Entry) -> Vec<String> {
    let Some(attributes) = &seen.attributes else {
        return vec!["no attributes".to_owned()];
    };
    let mut differ = Vec::new();
    let mut compare = |what: &str, wanted: Option<String>, seen: String| {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != seen) {
            differ.push(format!("{what} is {seen}, not {wanted}"));
        }
    };
    let text = |number: Option<u64>| number.map(|number| number.to_string());
    let mode = format!("{:04o}", attributes.mode);
    compare("type", Some(wanted.kind.clone()), seen.kind.name().into());
    compare("mode", wanted.mode.clone(), mode);
    compare("size", text(wanted.size), attributes.size.to_string());
    compare("nlink", text(wanted.nlink.map(u64::from)), attributes.nlinks.to_string());
    compare("uid", text(wanted.uid.map(u64::from)), attributes.uid.to_string());
    compare("gid", text(wanted.gid.map(u64::from)), attributes.gid.to_string());
    compare("mtime", text(wanted.mtime_us), attributes.mtime_us.to_string());
    compare("ctime", text(wanted.ctime_us), attributes.ctime_us.to_string());
    compare("inum", text(wanted.inum), seen.inum.to_string());
    compare("flags", text(wanted.uflags.map(u64::from)), attributes.flags.to_string());
    let device = wanted.rdev.map(|device| format!("{device:?}"));
    compare("rdev", device, format!("{:?}", attributes.device));
    let target = wanted.target_bytes().map(|target| hex(&target));
    let seen_target = seen.target.as_ref().map(|target| hex(target.as_bytes()));
    compare("target", target, seen_target.unwrap_or_else(|| "missing".into()));
    differ
}
