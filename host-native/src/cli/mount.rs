//! `farrier mount`: in the foreground, or in a process of its own that is left behind.
//!
//! The process that stays is a second run of this program, started before any thread is. It says
//! on its standard output when the mount answers; if it ends without having said so, its failure
//! is the command's.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use farrier::copies::{FoundCopy, find_others, promote_by_rule, syslog};
use farrier::device::OpenCause;
use farrier::fuse::unmount::{UnmountError, unmount};
use farrier::fuse::{MountOptions, Mounted};
use farrier::image::{Image, OpenError};
use farrier::source::Source;
use farrier::tree::Tree;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::failure::{self, Failure, Outcome};

/// Number of the refusal where no copy holds everything.
const NO_MASTER: &str = "FC-S02";
/// What the process that stays says when the mount answers.
const READY: &str = "mounted";

/// Mount a PFS.
///
/// Returns when the mount answers; a process stays behind and serves it until it is unmounted with
/// `farrier umount DIR`, or gets SIGINT, SIGTERM or SIGHUP. What was changed is on media when that
/// process has ended, which `farrier umount` waits for, or when fsync(2) said so; everything else
/// some seconds later. While a volume is mounted its devices are locked (flock): for others to
/// read, where it is mounted read-only, and for nobody else otherwise. Snapshots are mounted
/// read-only, unless -o rw is given.
#[derive(Debug, Args)]
#[command(after_long_help = OPTIONS_HELP, override_usage = USAGE)]
pub(crate) struct Mount {
    /// Devices of the file system, one of them with @LABEL, and the directory to mount at.
    #[arg(required = true, num_args = 1.., value_names = ["DEVICE[@LABEL]", "DIR"])]
    arguments: Vec<OsString>,

    /// Options, separated by commas; see below (--help).
    #[arg(short = 'o', long = "options", value_name = "OPTIONS")]
    options: Vec<String>,

    /// Let nothing be changed; as -o ro.
    #[arg(short, long)]
    read_only: bool,

    /// Go on without copies that are not here and may have gone on elsewhere; as -o accept_missing.
    #[arg(long)]
    accept_missing: bool,

    /// Use the devices that are named, and do not look for further copies, now or later; as
    /// -o nosearch.
    #[arg(long)]
    only: bool,

    /// Believe the copy in slot N, where the copies do not agree; as -o master=N.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..4))]
    master: Option<u8>,

    /// Show what the copy in slot N holds by itself, read-only; as -o only_copy=N.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..4))]
    only_copy: Option<u8>,

    /// Where the witness of the copies is, if not where it was last; as -o witness=FILE.
    #[arg(long, value_name = "FILE")]
    witness: Option<PathBuf>,

    /// Stay in the foreground.
    #[arg(short, long)]
    foreground: bool,

    /// Say on standard output when the mount answers, then leave the terminal.
    #[arg(long, hide = true)]
    report_ready: bool,
}

const USAGE: &str = "farrier mount [OPTIONS] DEVICE[@LABEL]... DIR";

const OPTIONS_HELP: &str = "\
Options for -o:
  ro, rw                 let nothing be changed, or let it (default)
  allow_other            let everybody use the mount (default for root; others need
                         user_allow_other in /etc/fuse.conf); noallow_other undoes it
  default_permissions    let the kernel check modes and owners (default);
                         nodefault_permissions undoes it
  uid=N, gid=N           show this owner for every file
  cache=SIZE             memory for blocks, such as 64M or 1G (default 256M)
  dirty=SIZE             memory for what was changed and is not on media yet (default: an eighth
                         of all memory, 256M at most); who changes more waits
  commit=SECONDS         how long a change stays in memory at most (default 5)
  threads=N              threads that answer the kernel (default: one for each processor, 4 to 8)
  snapshots              show every snapshot of the volume, read-only, in the directory .snapshots of
                         the root; it is in no list of names. Opening a file then costs a request;
                         nosnapshots undoes it
  header=N               use header copy N (0 to 3) instead of the newest one; read-only
  allow_truncated        mount a device that is shorter than its volume, read-only; what lies
                         behind its end cannot be read
  accept_missing         of a volume of copies: go on without those that are not here, though they
                         may have gone on elsewhere
  stall_timeout=SECONDS  of a volume of copies: how long a device may keep others waiting before it
                         is left behind (default 10; 0: for ever). The last copy is always waited
                         for
  witness=FILE           of a volume of copies: the witness is there, if not where it was last
  nosearch               of a volume of copies: use the devices that are named, and do not look for
                         the others where they were last, beside the first one, and on all block
                         devices, neither now nor later; accept_missing, master and only_copy do not
                         look at the mount either, but take in copies that appear later
  master=N               believe copy N (0 to 3), where the copies do not agree
  only_copy=N            show what copy N holds by itself, whatever the others say; read-only
  fsname=NAME            what lists of mounts call the source (default: the first device)
  subtype=NAME           what lists of mounts call the type, behind `fuse.` (default: farrier)
  dev, suid              let device nodes and set-id bits work (off by default)
  noexec, noatime        as in mount(8)";

impl Mount {
    pub(crate) fn run(&self) -> Outcome {
        // Both are told by the process that stays; found here already, no process is needed.
        let (sources, directory) = self.split()?;
        let mut options = MountOptions::new(rustix::process::geteuid().is_root());
        for list in &self.options {
            options.parse(list).map_err(Failure::new)?;
        }
        options.read_only |= self.read_only;
        options.searches &= !self.only;
        options.writing.only_named = !options.searches;
        options.copies.accept_missing |= self.accept_missing;
        options.copies.master = self.master.or(options.copies.master);
        if let Some(path) = &self.witness {
            options.witness = Some(std::path::absolute(path).map_err(Failure::new)?);
        }
        options.copies.only_copy = self.only_copy.or(options.copies.only_copy);
        if self.foreground || self.report_ready {
            self.serve(sources, directory, &options)
        } else {
            leave_behind()
        }
    }

    fn split(&self) -> Result<(&[OsString], &Path), Failure> {
        match &self.arguments[..] {
            [sources @ .., directory] if !sources.is_empty() => Ok((sources, directory.as_ref())),
            _ => Err(Failure::new("name a device and a directory")),
        }
    }

    fn serve(&self, sources: &[OsString], directory: &Path, options: &MountOptions) -> Outcome {
        let mut source = Source::parse(sources).map_err(Failure::new)?;
        for device in &mut source.devices {
            // whoever serves has another working directory, and looks for devices that come back
            *device = std::path::absolute(&*device).map_err(Failure::new)?;
        }
        // before the devices: a volume that is mounted there already is locked as well
        Mounted::check(directory).map_err(Failure::new)?;
        if options.searches_copies() {
            for FoundCopy { slot, path } in find_others(&source.devices) {
                tell(&format!("{}: found as copy {slot}", path.display()));
                source.devices.push(path);
            }
        }
        let tree = open(&source, options)?;
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Failure::new)?;
        let mounted = Mounted::start(tree, directory, options, tell).map_err(Failure::new)?;
        let place = mounted.directory().to_owned();
        std::thread::spawn(move || {
            signals.forever().for_each(|_| unmount_on_signal(&place));
        });
        if self.report_ready {
            leave_terminal()?;
            IS_UNWATCHED.store(true, Ordering::Relaxed);
        }
        mounted.wait().map_err(Failure::new)
    }
}

/// Tells whoever watches, or else the system's log.
fn tell(text: &str) {
    if IS_UNWATCHED.load(Ordering::Relaxed) {
        syslog::log(text);
    } else {
        failure::tell(text);
    }
}

/// Whether nobody reads what is written to standard error.
static IS_UNWATCHED: AtomicBool = AtomicBool::new(false);

/// The tree to mount: to be changed, if that can be.
fn open(source: &Source, options: &MountOptions) -> Result<Tree, Failure> {
    if options.read_only {
        return open_read_only(source, options);
    }
    if let Some(reason) = options.reason_to_read_only() {
        if options.writes_snapshots {
            return Err(Failure::new(format!("{reason}; leave out rw, or that")));
        }
        let tree = open_read_only(source, options)?;
        tell(&format!("{reason}; mounted read-only"));
        return Ok(tree);
    }
    let image_options = options.image_options();
    let mut opened = Image::open_writable(&source.devices, &image_options, options.writing);
    let mut promoted = None;
    if let Err(OpenError::Copies { code: NO_MASTER, text }) = &mut opened
        && options.goes_by_rule()
    {
        match promote_by_rule(&source.devices, options.witness.as_deref()) {
            Ok(done) => {
                tell(&done);
                promoted = Some(done);
                opened = Image::open_writable(&source.devices, &image_options, options.writing);
            }
            Err(why) => *text = format!("{text} (none is made the master by rule: {why})"),
        }
    }
    let image = match opened {
        Ok(image) => image,
        Err(error @ OpenError::ReadOnly(..)) => {
            tell(&format!("{error}; mounted read-only"));
            return open_read_only(source, options);
        }
        Err(error @ OpenError::CopiesReadOnly { .. }) if !options.writes_snapshots => {
            tell(&format!("{error}; mounted read-only"));
            return open_read_only(source, options);
        }
        Err(OpenError::Device(fault)) if matches!(fault.cause, OpenCause::NotWritable(_)) => {
            return Err(Failure::new(format!("{fault}; or mount it read-only, with -o ro")));
        }
        Err(error) => return Err(error.into()),
    };
    image.blocks().tell_to(tell);
    if let Some(text) = promoted {
        image.blocks().note_promotion(text);
    }
    image.blocks().copies_notes().iter().for_each(|note| tell(note));
    let tree = image.tree(source.label.as_deref())?;
    if tree.is_writable() {
        image.blocks().catch_up();
        return Ok(tree);
    }
    let label = tree.label().escape_ascii().to_string();
    drop((tree, image));
    tell(&format!("{label}: is a snapshot; mounted read-only (-o rw lets it be changed)"));
    open_read_only(source, options)
}

fn open_read_only(source: &Source, options: &MountOptions) -> Result<Tree, Failure> {
    let image = Image::open(&source.devices, &options.image_options())?;
    image.blocks().devices().lock_shared().map_err(|path| {
        Failure::new(format!(
            "{}: in use by another program that has it mounted or open for writing; end that first",
            path.display()
        ))
    })?;
    Ok(image.tree(source.label.as_deref())?)
}

/// The first signal unmounts; where the mount is in use, it is detached and served until its last
/// user goes. A second signal finds nothing mounted and ends the process at once.
fn unmount_on_signal(place: &Path) {
    match unmount(place, false) {
        Ok(()) => {}
        Err(UnmountError::Busy(_)) => {
            tell(&format!("{}: in use; detached, ends with its last user", place.display()));
            if let Err(error) = unmount(place, true) {
                tell(&error.to_string());
            }
        }
        Err(UnmountError::NotMounted(_)) => std::process::exit(1),
        Err(error) => tell(&error.to_string()),
    }
}

/// Starts the process that stays, and waits until it says that the mount answers.
fn leave_behind() -> Outcome {
    let program: PathBuf = std::env::current_exe().map_err(Failure::new)?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--report-ready")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::new(format!("cannot start the process that stays: {error}")))?;
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        // what cannot be read was not said
        let _ = BufReader::new(output).read_line(&mut said);
    }
    if said.trim() == READY {
        return Ok(());
    }
    let status = child.wait().map_err(Failure::new)?;
    if status.success() {
        // it was unmounted before it could say so
        return Ok(());
    }
    Err(Failure::told())
}

/// Says that the mount answers, and lets go of everything that ties the process to its terminal.
fn leave_terminal() -> Outcome {
    // A session of its own; it leads one already where somebody started it so.
    let _ = rustix::process::setsid();
    let nothing = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    std::env::set_current_dir("/")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{READY}")?;
    out.flush()?;
    rustix::stdio::dup2_stdin(&nothing).map_err(Failure::new)?;
    rustix::stdio::dup2_stdout(&nothing).map_err(Failure::new)?;
    rustix::stdio::dup2_stderr(&nothing).map_err(Failure::new)?;
    Ok(())
}
