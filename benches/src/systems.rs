//! Who serves a tree: Farrier, kernel file systems, other FUSE file systems.
//!
//! All stand on the same ground: an image in the work folder behind a loop device that does not
//! cache (`--direct-io`). Cold means unmounted, the device's pages dropped and mounted again,
//! which also ends a FUSE program and its cache.
//!
//! Invariant: a [`System`] or [`Loop`] that is dropped, for whatever reason, is unmounted or
//! detached.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::FlockOperation;
use rustix::process::Resource;

use crate::failure::{During, Failure, Outcome};
use crate::run::{find, run, wait_until};

/// The word that makes a program of ours serve the ceiling, with a folder behind it.
pub const CEILING: &str = "--serve-ceiling";

/// A file system driver, or a program in place of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Farrier, over the loop device.
    Farrier,
    /// Farrier, over the image file itself.
    FarrierFile,
    /// The kernel's.
    Ext4,
    /// The kernel's.
    Btrfs,
    /// A FUSE file system over a device.
    Ntfs3g,
    /// A FUSE file system over a device; its fsync does not reach the device.
    Redoxfs,
    /// A FUSE file system over a device.
    ZfsFuse,
    /// A FUSE program that passes on what ext4 holds: libfuse's fastest example.
    PassthroughHp,
    /// libfuse's low level example.
    PassthroughLl,
    /// As above, over a folder in the work folder instead of ext4 on a loop device.
    PassthroughLlFolder,
    /// A FUSE program that passes on what ext4 holds, over libfuse's high level interface.
    Bindfs,
    /// A FUSE program that does nothing: [`crate::ceiling`], only for writing.
    Ceiling,
}

impl Kind {
    /// Those that can be written, ours first.
    pub const WRITABLE: [Self; 11] = [
        Self::FarrierFile,
        Self::Ceiling,
        Self::PassthroughHp,
        Self::PassthroughLl,
        Self::PassthroughLlFolder,
        Self::Bindfs,
        Self::Ntfs3g,
        Self::Redoxfs,
        Self::ZfsFuse,
        Self::Ext4,
        Self::Btrfs,
    ];

    /// Those that can hold a tree to be read, ours first.
    pub const ALL: [Self; 9] = [
        Self::Farrier,
        Self::FarrierFile,
        Self::PassthroughHp,
        Self::PassthroughLl,
        Self::PassthroughLlFolder,
        Self::Bindfs,
        Self::Ntfs3g,
        Self::Ext4,
        Self::Btrfs,
    ];

    /// What tables call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Farrier => "farrier",
            Self::FarrierFile => "farrier (file)",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
            Self::Ntfs3g => "ntfs-3g",
            Self::Redoxfs => "redoxfs",
            Self::ZfsFuse => "zfs-fuse",
            Self::PassthroughHp => "passthrough_hp",
            Self::PassthroughLl => "passthrough_ll",
            Self::PassthroughLlFolder => "passthrough_ll (folder)",
            Self::Bindfs => "bindfs",
            Self::Ceiling => "ceiling",
        }
    }

    /// Whether it needs a loop device.
    #[must_use]
    pub const fn needs_loop(self) -> bool {
        !matches!(self, Self::FarrierFile | Self::PassthroughLlFolder | Self::Ceiling)
    }

    /// Whether its program keeps a descriptor for each file that the kernel knows.
    #[must_use]
    pub const fn keeps_descriptors(self) -> bool {
        matches!(self, Self::PassthroughHp | Self::PassthroughLl | Self::PassthroughLlFolder)
    }

    const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Farrier | Self::FarrierFile | Self::Ceiling => &[],
            Self::Ext4 => &["mkfs.ext4"],
            Self::Btrfs => &["mkfs.btrfs"],
            Self::Ntfs3g => &["mkfs.ntfs", "ntfs-3g"],
            Self::Redoxfs => &["redoxfs-mkfs", "redoxfs"],
            Self::ZfsFuse => &["zfs-fuse", "zpool"],
            Self::PassthroughHp => &["mkfs.ext4", "passthrough_hp"],
            Self::PassthroughLl => &["mkfs.ext4", "passthrough_ll"],
            Self::PassthroughLlFolder => &["passthrough_ll"],
            Self::Bindfs => &["mkfs.ext4", "bindfs"],
        }
    }

    /// Which image holds its tree.
    const fn ground(self) -> Ground {
        match self {
            Self::Farrier => Ground::Hammer2,
            Self::FarrierFile => Ground::Hammer2File,
            Self::Ext4 | Self::PassthroughHp | Self::PassthroughLl | Self::Bindfs => Ground::Ext4,
            Self::Btrfs => Ground::Btrfs,
            Self::Ntfs3g => Ground::Ntfs,
            Self::Redoxfs => Ground::Redox,
            Self::ZfsFuse => Ground::Zfs,
            Self::PassthroughLlFolder => Ground::Folder,
            Self::Ceiling => Ground::Nothing,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ground {
    Hammer2,
    Hammer2File,
    Ext4,
    Btrfs,
    Ntfs,
    Redox,
    Zfs,
    Folder,
    Nothing,
}

impl Ground {
    const fn file_name(self) -> &'static str {
        match self {
            Self::Hammer2 | Self::Hammer2File => "hammer2",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
            Self::Ntfs => "ntfs",
            Self::Redox => "redox",
            Self::Zfs => "zfs",
            Self::Folder => "folder",
            Self::Nothing => "nothing",
        }
    }
}

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Places {
    /// A folder for images and mount points, best on a tmpfs.
    pub work: PathBuf,
    /// The farrier program.
    pub farrier: PathBuf,
    /// Where else to look for peers' programs.
    pub peers: Option<PathBuf>,
}

impl Places {
    fn program(&self, name: &str) -> Outcome<PathBuf> {
        find(self.peers.as_deref(), name)
            .ok_or_else(|| Failure::new(format!("{name} is not installed")))
    }

    /// Whether `kind` can be had here.
    ///
    /// # Errors
    /// What is missing.
    pub fn has(&self, kind: Kind) -> Outcome {
        kind.programs().iter().try_for_each(|name| self.program(name).map(drop))?;
        if matches!(kind, Kind::Ext4 | Kind::Btrfs) {
            let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
            if !known.lines().any(|line| line.ends_with(kind.name())) {
                return Err(Failure::new(format!("the kernel has no {}", kind.name())));
            }
        }
        Ok(())
    }

    /// Whether this user and machine can have loop devices.
    ///
    /// # Errors
    /// Why not.
    pub fn can_loop(&self) -> Outcome {
        let probe = self.work.join("probe");
        File::create(&probe)
            .and_then(|file| file.set_len(1 << 20))
            .during("cannot write into the work folder")?;
        let outcome = Loop::over(&probe).map(drop);
        let _ = fs::remove_file(&probe);
        outcome
    }
}

/// What the kernel counts in.
const SECTOR: u64 = 512;

/// A loop device.
#[derive(Debug)]
pub struct Loop {
    device: PathBuf,
}

impl Loop {
    /// One over `image`, which does not cache where that can be had.
    ///
    /// # Errors
    /// There can be none.
    pub fn over(image: &Path) -> Outcome<Self> {
        let image = image.as_os_str();
        let device = ["--direct-io=on", "--direct-io=off"]
            .iter()
            .map(|direct| {
                run("losetup", &["--find".as_ref(), "--show".as_ref(), direct.as_ref(), image])
            })
            .find(Result::is_ok)
            .unwrap_or_else(|| Err(Failure::new("no loop device (root and /dev/loop* needed)")))?;
        Ok(Self { device: device.into() })
    }

    /// The device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.device
    }

    /// Bytes read from it and written to it since it was attached, as the kernel counts them.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn traffic(&self) -> Outcome<(u64, u64)> {
        let name = self.device.file_name().unwrap_or_default();
        let path = Path::new("/sys/block").join(name).join("stat");
        let text = fs::read_to_string(&path).during(path.display())?;
        let sectors = |field: usize| -> u64 {
            text.split_whitespace().nth(field).and_then(|word| word.parse().ok()).unwrap_or(0)
        };
        Ok((sectors(2) * SECTOR, sectors(6) * SECTOR))
    }

    fn drop_pages(&self) {
        // only what is cached is lost; where it cannot be, the next figure shows it
        let _ = run("blockdev", &["--flushbufs".as_ref(), self.device.as_os_str()]);
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // busy for a moment after the last mount is gone
        wait_until(|| run("losetup", &["--detach".as_ref(), self.device.as_os_str()]).is_ok());
    }
}

/// One system and its tree.
#[derive(Debug)]
pub struct System {
    kind: Kind,
    places: Places,
    image: PathBuf,
    device: Option<Loop>,
    mount_point: PathBuf,
    is_mounted: bool,
    /// Where the file system below a passing program is mounted.
    below: Option<PathBuf>,
    child: Option<Child>,
}

impl System {
    /// `kind` over the image that [`make`] made for `volume` (Farrier: over the volume itself).
    ///
    /// # Errors
    /// No loop device.
    pub fn over(kind: Kind, volume: &str, places: &Places) -> Outcome<Self> {
        let image = places.work.join(format!("{volume}.{}", kind.ground().file_name()));
        let device = match kind.ground() {
            Ground::Hammer2File | Ground::Folder | Ground::Nothing => None,
            _ => Some(Loop::over(&image)?),
        };
        let mount_point = places.work.join("mnt");
        fs::create_dir_all(&mount_point).during("cannot make the mount point")?;
        let (is_mounted, below, child) = (false, None, None);
        let places = places.clone();
        Ok(Self { kind, places, image, device, mount_point, is_mounted, below, child })
    }

    /// Where its tree is seen.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.mount_point
    }

    /// Unmounts, drops what is cached, and mounts.
    ///
    /// # Errors
    /// It cannot be mounted or unmounted.
    pub fn cold(&mut self) -> Outcome {
        self.unmount()?;
        self.mount()
    }

    fn source(&self) -> &Path {
        self.device.as_ref().map_or(&self.image, |device| &device.device)
    }

    fn mount(&mut self) -> Outcome {
        let source = self.source().to_owned();
        let at = self.mount_point.clone();
        match self.kind {
            Kind::Farrier | Kind::FarrierFile => {
                let farrier = &self.places.farrier;
                run(farrier, &["mount".as_ref(), source.as_os_str(), at.as_os_str()])?;
            }
            Kind::Ext4 => mount("ext4", &source, &at)?,
            Kind::Btrfs => mount("btrfs", &source, &at)?,
            Kind::Ntfs3g => {
                let program = self.places.program("ntfs-3g")?;
                let options = "no_detach,big_writes,permissions";
                let arguments =
                    ["-o".as_ref(), options.as_ref(), source.as_os_str(), at.as_os_str()];
                self.serve(&program, &arguments)?;
            }
            Kind::Redoxfs => {
                let program = self.places.program("redoxfs")?;
                let arguments = ["--no-daemon".as_ref(), source.as_os_str(), at.as_os_str()];
                self.serve(&program, &arguments)?;
            }
            Kind::ZfsFuse => self.mount_zfs(&source, &at)?,
            Kind::PassthroughHp => {
                let below = self.mount_below(&source)?;
                let program = self.places.program("passthrough_hp")?;
                let arguments = ["--foreground".as_ref(), below.as_os_str(), at.as_os_str()];
                self.serve(&program, &arguments)?;
            }
            Kind::PassthroughLl => {
                let below = self.mount_below(&source)?;
                self.serve_passthrough_ll(&below, &at)?;
            }
            Kind::PassthroughLlFolder => self.serve_passthrough_ll(&source, &at)?,
            Kind::Ceiling => {
                let ourselves = std::env::current_exe().during("cannot find this program")?;
                self.serve(&ourselves, &[CEILING.as_ref(), at.as_os_str()])?;
            }
            Kind::Bindfs => {
                let below = self.mount_below(&source)?;
                let program = self.places.program("bindfs")?;
                self.serve(&program, &["-f".as_ref(), below.as_os_str(), at.as_os_str()])?;
            }
        }
        self.is_mounted = true;
        Ok(())
    }

    /// Its daemon mounts by itself: a pool that is there, or a new one.
    fn mount_zfs(&mut self, source: &Path, at: &Path) -> Outcome {
        let (daemon, zpool) = (self.places.program("zfs-fuse")?, self.places.program("zpool")?);
        self.start(&daemon, &["-n".as_ref()])?;
        if !wait_until(|| run(&zpool, &["list"]).is_ok()) {
            return Err(Failure::new("zfs-fuse does not answer"));
        }
        let folder = source.parent().unwrap_or(source);
        let import = ["import".as_ref(), "-d".as_ref(), folder.as_os_str(), POOL.as_ref()];
        if run(&zpool, &import).is_err() {
            let create = ["create".as_ref(), "-f".as_ref(), "-m".as_ref(), at.as_os_str()];
            let create: Vec<_> =
                create.into_iter().chain([POOL.as_ref(), source.as_os_str()]).collect();
            run(&zpool, &create)?;
        }
        match wait_until(|| is_mount_point(at)) {
            true => Ok(()),
            false => Err(Failure::new("zfs-fuse does not mount")),
        }
    }

    fn serve_passthrough_ll(&mut self, below: &Path, at: &Path) -> Outcome {
        let program = self.places.program("passthrough_ll")?;
        let mut options = std::ffi::OsString::from("default_permissions,source=");
        options.push(below);
        self.serve(&program, &["-f".as_ref(), "-o".as_ref(), options.as_os_str(), at.as_os_str()])
    }

    fn mount_below(&mut self, source: &Path) -> Outcome<PathBuf> {
        let below = self.places.work.join("below");
        fs::create_dir_all(&below).during("cannot make the mount point")?;
        mount("ext4", source, &below)?;
        self.below = Some(below.clone());
        Ok(below)
    }

    /// Starts a program that stays, and waits until its mount is there.
    fn serve(&mut self, program: &Path, arguments: &[&std::ffi::OsStr]) -> Outcome {
        self.start(program, arguments)?;
        let at = &self.mount_point;
        if wait_until(|| is_mount_point(at)) {
            self.is_mounted = true;
            return Ok(());
        }
        Err(Failure::new(format!("{} does not mount", self.kind.name())))
    }

    /// Starts a program that stays.
    fn start(&mut self, program: &Path, arguments: &[&std::ffi::OsStr]) -> Outcome {
        // These programs keep a descriptor for each file that the kernel knows.
        let mut limit = rustix::process::getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        let _ = rustix::process::setrlimit(Resource::Nofile, limit);
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .during(format_args!("cannot start {}", self.kind.name()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Unmounts it and drops what is cached of its device.
    ///
    /// # Errors
    /// It stays busy.
    pub fn unmount(&mut self) -> Outcome {
        if self.is_mounted && self.kind == Kind::ZfsFuse {
            let zpool = self.places.program("zpool")?;
            if !wait_until(|| run(&zpool, &["export", POOL]).is_ok()) {
                return Err(Failure::new("the pool stays busy"));
            }
            self.is_mounted = false;
            // it would stay
            if let Some(child) = &mut self.child {
                let _ = child.kill();
            }
        }
        if self.is_mounted {
            unmount(&self.mount_point)?;
            self.is_mounted = false;
        }
        if let Some(mut child) = self.child.take() {
            let is_over = wait_until(|| matches!(child.try_wait(), Ok(Some(_)) | Err(_)));
            if !is_over {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if let Some(below) = self.below.take() {
            unmount(&below)?;
        }
        if matches!(self.kind, Kind::Farrier | Kind::FarrierFile) {
            self.wait_for_farrier()?;
        }
        if let Some(device) = &self.device {
            device.drop_pages();
        }
        Ok(())
    }

    /// Its process holds a shared lock on the device as long as it lives.
    fn wait_for_farrier(&self) -> Outcome {
        let source = File::open(self.source()).during(self.source().display())?;
        let lock = || rustix::fs::flock(&source, FlockOperation::NonBlockingLockExclusive).is_ok();
        if wait_until(lock) {
            return Ok(());
        }
        Err(Failure::new("farrier does not end after its mount is gone"))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if self.unmount().is_err() {
            for place in [&self.mount_point, &self.places.work.join("below")] {
                let _ = run("umount", &["--lazy".as_ref(), place.as_os_str()]);
            }
        }
    }
}

/// Makes `kind`'s image of `volume`, once for each kind of image, with the tree that `fill` writes
/// into the folder that it is given.
///
/// # Errors
/// It cannot be made or filled.
pub fn make(
    kind: Kind,
    volume: &str,
    size: u64,
    places: &Places,
    fill: impl FnOnce(&Path) -> Outcome,
) -> Outcome {
    let ground = kind.ground();
    let image = places.work.join(format!("{volume}.{}", ground.file_name()));
    if image.exists() {
        return Ok(());
    }
    let path = image.as_os_str();
    let native = match ground {
        Ground::Hammer2 | Ground::Hammer2File => {
            return Err(Failure::new(format!("{volume}: there is no volume")));
        }
        Ground::Nothing => return Err(Failure::new("the ceiling holds no tree")),
        Ground::Folder => {
            fs::create_dir(&image).during("cannot make a folder")?;
            return fill(&image);
        }
        Ground::Ext4 => Kind::Ext4,
        Ground::Btrfs => Kind::Btrfs,
        Ground::Ntfs => Kind::Ntfs3g,
        Ground::Redox | Ground::Zfs => return Err(Failure::new("it is only for writing")),
    };
    let file = File::create(&image).during("cannot make an image")?;
    file.set_len(size).during("cannot make an image")?;
    let options: &[&str] = match ground {
        Ground::Ext4 => &["-q", "-F", "-N", "40000", "-E", "lazy_itable_init=0,nodiscard"],
        Ground::Btrfs => &["-q", "-f", "-K"],
        _ => &["-q", "-Q", "-F"],
    };
    let format = places.program(native.programs()[0])?;
    let mut arguments: Vec<&std::ffi::OsStr> = options.iter().map(AsRef::as_ref).collect();
    arguments.push(path);
    run(format, &arguments)?;
    let mut system = System::over(native, volume, places)?;
    system.mount()?;
    fill(system.root())?;
    system.unmount()
}

/// Makes an empty file system of `kind` in a new image of `volume`, which takes the space of all of
/// its `size` at once: who gets a page first would pay for it otherwise.
///
/// # Errors
/// It cannot be made.
pub fn make_empty(kind: Kind, volume: &str, size: u64, places: &Places) -> Outcome {
    let ground = kind.ground();
    remove(kind, volume, places)?;
    let image = places.work.join(format!("{volume}.{}", ground.file_name()));
    let format = match ground {
        Ground::Nothing => return Ok(()),
        Ground::Folder => return fs::create_dir(&image).during("cannot make a folder"),
        Ground::Hammer2 | Ground::Hammer2File => places.farrier.clone(),
        Ground::Ext4 => places.program("mkfs.ext4")?,
        Ground::Btrfs => places.program("mkfs.btrfs")?,
        Ground::Ntfs => places.program("mkfs.ntfs")?,
        Ground::Redox => places.program("redoxfs-mkfs")?,
        // the first mount makes the pool
        Ground::Zfs => places.program("zpool")?,
    };
    let file = File::create(&image).during("cannot make an image")?;
    let flags = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&file, flags, 0, size).during("no space for an image")?;
    let options: &[&str] = match ground {
        Ground::Ext4 => &["-q", "-F", "-N", "100000", "-E", "lazy_itable_init=0,nodiscard"],
        Ground::Btrfs => &["-q", "-f", "-K"],
        Ground::Ntfs => &["-q", "-Q", "-F"],
        Ground::Redox => &[],
        Ground::Zfs => return Ok(()),
        _ => &["format"],
    };
    let mut arguments: Vec<&std::ffi::OsStr> = options.iter().map(AsRef::as_ref).collect();
    arguments.push(image.as_os_str());
    run(format, &arguments).map(drop)
}

/// Removes `kind`'s image of `volume`, if it is there.
///
/// # Errors
/// It cannot be removed.
pub fn remove(kind: Kind, volume: &str, places: &Places) -> Outcome {
    let image = places.work.join(format!("{volume}.{}", kind.ground().file_name()));
    let gone = if image.is_dir() { fs::remove_dir_all(&image) } else { fs::remove_file(&image) };
    match gone {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).during(image.display())
        }
        _ => Ok(()),
    }
}

/// The pool of zfs-fuse.
const POOL: &str = "farrierbench";

fn mount(kind: &str, source: &Path, at: &Path) -> Outcome {
    let arguments = ["-t".as_ref(), kind.as_ref(), source.as_os_str(), at.as_os_str()];
    run("mount", &arguments).map(drop)
}

fn unmount(at: &Path) -> Outcome {
    // somebody may still look at what was mounted
    if wait_until(|| run("umount", &[at]).is_ok() || !is_mount_point(at)) {
        return Ok(());
    }
    Err(Failure::new(format!("{} stays busy", at.display())))
}

fn is_mount_point(at: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let at = at.to_string_lossy();
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(&at))
}
