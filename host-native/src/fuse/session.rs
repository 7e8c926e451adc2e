//! Mounting, and serving until somebody unmounts.

use std::ffi::CString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use fuser::{Config, MountOption, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::options::MountOptions;
use super::report::Report;
use super::seeker::Mountpoint;
use super::serving::TreeFilesystem;
use super::snapshots;
use super::unmount::{find_helper, mounted_at, option_value, real_path, unmount};
use crate::control::{Server, perform};
use crate::image::Image;
use crate::tree::Tree;

/// The kernel's door.
const DOOR: &str = "/dev/fuse";
/// What the kernel shall read ahead, where we may tell it; its own default is 128.
const KERNEL_AHEAD_KIB: &str = "1024";

/// Why a mount cannot be made. Each text names the thing and the remedy.
#[derive(Debug)]
pub enum MountError {
    /// The mount point does not exist.
    Missing(PathBuf),
    /// The mount point is no directory.
    NotDirectory(PathBuf),
    /// Something is mounted there already: its source.
    Busy(PathBuf, String),
    /// A mount is there that nobody serves any more.
    Dead(PathBuf),
    /// This user may not mount there.
    Denied(PathBuf),
    /// `allow_other` is not for ordinary users here.
    AllowOther,
    /// The kernel has no FUSE.
    NoFuse,
    /// FUSE is there, but not for this user.
    FuseDenied,
    /// The program that mounts for ordinary users is missing.
    NoHelper,
    /// Whatever else the system says.
    Other(PathBuf, String),
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(
                f,
                "{}: the mount point does not exist; make the directory first",
                path.display()
            ),
            Self::NotDirectory(path) => {
                write!(f, "{}: the mount point is not a directory; name one", path.display())
            }
            Self::Busy(path, source) => write!(
                f,
                "{}: busy, {source} is mounted there already; unmount it or name another directory",
                path.display()
            ),
            Self::Dead(path) => write!(
                f,
                "{path}: a mount whose program is gone is still there; clear it with \
                 `farrier umount {path}`",
                path = path.display()
            ),
            Self::Denied(path) => write!(
                f,
                "{}: not permitted to mount there; name a directory that you own, or become root",
                path.display()
            ),
            Self::AllowOther => f.write_str(
                "option allow_other: root has to permit it with the line user_allow_other in \
                 /etc/fuse.conf; or leave it out",
            ),
            Self::NoFuse => write!(
                f,
                "{DOOR}: not there; load the kernel's module with `modprobe fuse`, or let the \
                 container have the device"
            ),
            Self::FuseDenied => write!(
                f,
                "{DOOR}: permission denied; let this user read and write it, or become root"
            ),
            Self::NoHelper => f.write_str(
                "fusermount3: not found, and only root can mount without it; install fuse3",
            ),
            Self::Other(path, text) => write!(f, "{}: cannot mount: {text}", path.display()),
        }
    }
}

impl std::error::Error for MountError {}

/// A mounted tree that is being served.
#[derive(Debug)]
pub struct Mounted {
    image: Arc<Image>,
    directory: PathBuf,
    server: JoinHandle<io::Result<()>>,
    requests: Option<Server>,
}

impl Mounted {
    /// Mounts `tree` at `directory` and serves it with threads of its own. Read errors are told to
    /// `tell`, each once. Whoever asks the mount from then on gets an answer.
    ///
    /// # Errors
    /// Why it cannot be mounted.
    pub fn start(
        tree: Tree,
        directory: &Path,
        options: &MountOptions,
        tell: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, MountError> {
        let directory = check_directory(directory)?;
        check_door()?;
        let source = options
            .fsname
            .clone()
            .unwrap_or_else(|| option_value(real_path(tree.image().path()).as_os_str()));
        let snapshots = options.snapshots.then(|| snapshots::open(&tree, &tell)).flatten();
        let has_snapshots = snapshots.is_some();
        let report = Report::new(Box::new(tell));
        let image = Arc::clone(tree.image());
        let is_writable = tree.is_writable();
        let asked = tree.clone();
        let mountpoint = Mountpoint::default();
        let filesystem =
            TreeFilesystem::new(tree, snapshots, options.owner, report, mountpoint.clone());
        let session = open_session(filesystem, &directory, options, &source, is_writable)?;
        mountpoint.set(directory.clone(), session.notifier());
        let server = std::thread::Builder::new()
            .name("fuse".to_owned())
            .spawn(move || session.run())
            .map_err(|error| MountError::Other(directory.clone(), error.to_string()))?;
        // From the kernel's list, and not by asking the mount: who is killed while he waits for an
        // answer of his own can neither give it nor end, for he holds the door that it comes through.
        let device = mounted_at(&directory).ok().flatten().map(|mount| mount.device);
        if let Some(device) = device {
            // a hint to the kernel that only root may give
            let device = (rustix::fs::major(device), rustix::fs::minor(device));
            let hint = format!("/sys/class/bdi/{}:{}/read_ahead_kb", device.0, device.1);
            let _ = std::fs::write(hint, KERNEL_AHEAD_KIB);
        }
        let answer = move |request: &_| {
            let reply = perform(&asked, request);
            if has_snapshots && request.changes_pfs() {
                mountpoint.forget(snapshots::DIRECTORY, request.label_lost());
            }
            reply
        };
        // Where nobody can be asked, the mount works all the same.
        let is_asked = is_writable || image.volume().copies().is_some();
        let device = device.filter(|_| is_asked);
        let requests = device.and_then(|device| Server::start(device, answer).ok());
        Ok(Self { image, directory, server, requests })
    }

    /// Whether something can be mounted at `directory`.
    ///
    /// # Errors
    /// Why not.
    pub fn check(directory: &Path) -> Result<(), MountError> {
        check_directory(directory).map(|_| ())
    }

    /// Where it is mounted.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Serves until it is unmounted, by whomever, and commits what was changed.
    ///
    /// # Errors
    /// The connection to the kernel broke, or not everything could be committed.
    pub fn wait(self) -> io::Result<()> {
        let served = self
            .server
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread that served the mount panicked")));
        drop(self.requests);
        let blocks = self.image.blocks();
        let committed = blocks.finish().map_err(|error| {
            let text = blocks.explain(&error);
            io::Error::other(format!("what was changed last is not on media: {text}"))
        });
        served.and(committed)
    }
}

/// The directory's real path, if something can be mounted there.
fn check_directory(directory: &Path) -> Result<PathBuf, MountError> {
    let named = || directory.to_owned();
    let real = real_path(directory);
    // Before all else: what another user mounted may not even be looked at. Where the kernel's
    // list cannot be read, the kernel decides.
    if let Ok(Some(mount)) = mounted_at(&real) {
        // unlike its attributes, the kernel cannot know this of a mount that nobody serves
        return Err(match rustix::fs::statfs(&real) {
            Err(Errno::NOTCONN) => MountError::Dead(named()),
            _ => MountError::Busy(named(), mount.source.to_string_lossy().into_owned()),
        });
    }
    let metadata = std::fs::metadata(directory);
    let metadata = metadata.map_err(|error| match error.kind() {
        ErrorKind::NotFound => MountError::Missing(named()),
        ErrorKind::PermissionDenied => MountError::Denied(named()),
        ErrorKind::NotADirectory => MountError::NotDirectory(named()),
        _ => MountError::Other(named(), error.to_string()),
    })?;
    if metadata.is_dir() { Ok(real) } else { Err(MountError::NotDirectory(named())) }
}

fn check_door() -> Result<(), MountError> {
    match open_door() {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Err(MountError::NoFuse),
            _ => Err(MountError::FuseDenied),
        },
    }
}

fn open_door() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(DOOR)
}

fn open_session(
    filesystem: TreeFilesystem,
    directory: &Path,
    options: &MountOptions,
    source: &str,
    is_writable: bool,
) -> Result<Session<TreeFilesystem>, MountError> {
    let acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let mut config = Config::default();
    config.acl = acl;
    config.n_threads = Some(options.threads);
    config.clone_fd = true;
    match mount_ourselves(directory, options, source, is_writable) {
        Ok(door) => Session::from_fd(filesystem, door.into(), acl, config).map_err(|error| {
            // a mount that never answered must not stay
            let _ = unmount(directory, true);
            MountError::Other(directory.to_owned(), error.to_string())
        }),
        // Only root may; for everybody else a program of FUSE's does it.
        Err(Errno::PERM) if find_helper().is_none() => Err(MountError::NoHelper),
        Err(Errno::PERM) => {
            config.mount_options = helper_options(options, source, is_writable);
            Session::new(filesystem, directory, &config)
                .map_err(|error| helper_error(directory, &error))
        }
        Err(Errno::ACCESS) => Err(MountError::Denied(directory.to_owned())),
        Err(Errno::NODEV) => Err(MountError::NoFuse),
        Err(error) => Err(MountError::Other(directory.to_owned(), error.to_string())),
    }
}

/// The mount as root makes it, without a helper: the type in lists of mounts is then ours.
fn mount_ourselves(
    directory: &Path,
    options: &MountOptions,
    source: &str,
    is_writable: bool,
) -> Result<File, Errno> {
    let other = |error: io::Error| {
        Errno::from_raw_os_error(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()))
    };
    let mode = std::fs::metadata(directory).map_err(other)?.permissions().mode();
    let door = open_door().map_err(other)?;
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={}",
        door.as_raw_fd(),
        mode & 0o170_000,
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if options.default_permissions {
        data.push_str(",default_permissions");
    }
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let mut flags = MountFlags::empty();
    for (is_set, flag) in [
        (!is_writable, MountFlags::RDONLY),
        (!options.flags.dev, MountFlags::NODEV),
        (!options.flags.suid, MountFlags::NOSUID),
        (options.flags.noexec, MountFlags::NOEXEC),
        (options.flags.noatime, MountFlags::NOATIME),
    ] {
        if is_set {
            flags |= flag;
        }
    }
    let kind = format!("fuse.{}", options.subtype);
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(source, directory, kind, flags, Some(data.as_c_str()))?;
    Ok(door)
}

fn helper_options(options: &MountOptions, source: &str, is_writable: bool) -> Vec<MountOption> {
    let mut list = vec![
        if is_writable { MountOption::RW } else { MountOption::RO },
        MountOption::FSName(source.to_owned()),
        MountOption::Subtype(options.subtype.clone()),
    ];
    for (is_set, option) in [
        (options.default_permissions, MountOption::DefaultPermissions),
        (options.flags.dev, MountOption::Dev),
        (options.flags.suid, MountOption::Suid),
        (options.flags.noexec, MountOption::NoExec),
        (options.flags.noatime, MountOption::NoAtime),
    ] {
        if is_set {
            list.push(option);
        }
    }
    list
}

fn helper_error(directory: &Path, error: &io::Error) -> MountError {
    let text = error.to_string();
    if text.contains("user_allow_other") {
        MountError::AllowOther
    } else if error.kind() == ErrorKind::NotFound {
        MountError::NoHelper
    } else if error.kind() == ErrorKind::PermissionDenied
        || ["ermi", "no write access"].iter().any(|part| text.contains(part))
    {
        MountError::Denied(directory.to_owned())
    } else {
        MountError::Other(directory.to_owned(), text.trim().to_owned())
    }
}
