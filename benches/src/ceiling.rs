//! A file system that does nothing: everything is in memory, nothing is checked or kept. It asks the
//! kernel for what Farrier's mount asks for and gives the same answers (see `host-native`,
//! `fuse/filesystem.rs`), so what it costs is the trips to the kernel and back. No FUSE program can
//! be faster without fewer trips.
//!
//! Contents of a file are kept up to `KEPT_MAX`; what lies behind reads as zeros.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, Session, SessionACL, TimeOrNow,
    WriteFlags,
};

use crate::failure::{During, Outcome};

const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const GENERATION: Generation = Generation(0);
const NO_HANDLE: FileHandle = FileHandle(0);
const REQUEST_MAX: u32 = 1 << 20;
const BACKGROUND_MAX: u16 = 64;
const TIME_GRAIN: Duration = Duration::from_micros(1);
const CAPABILITIES: [InitFlags; 9] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_EXPORT_SUPPORT,
    InitFlags::FUSE_WRITEBACK_CACHE,
];
/// Farrier's fewest and most threads by default.
const THREADS: (usize, usize) = (4, 8);
/// What the kernel shall read ahead.
const KERNEL_AHEAD_KIB: &str = "1024";

/// Contents of one file that are kept.
const KEPT_MAX: u64 = 128 << 20;
/// Contents are kept in pieces of this size, so that a file that grows is not copied.
const PIECE: usize = 128 << 10;
const SHARDS: usize = 64;
const ROOT: u64 = 1;

/// Mounts it at `directory` and serves it until it is unmounted.
///
/// # Errors
/// It cannot be mounted.
pub fn serve(directory: &Path) -> Outcome {
    let mut config = Config::default();
    config.acl =
        if rustix::process::getuid().is_root() { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(
        std::thread::available_parallelism()
            .map_or(THREADS.0, |count| count.get().clamp(THREADS.0, THREADS.1)),
    );
    config.clone_fd = true;
    config.mount_options = vec![
        MountOption::RW,
        MountOption::FSName("ceiling".to_owned()),
        MountOption::DefaultPermissions,
    ];
    let session =
        Session::new(Ceiling::new(), directory, &config).during("cannot mount the ceiling")?;
    let at = directory.to_owned();
    let hint = std::thread::spawn(move || hint(&at));
    let served = session.run().during("serving the ceiling");
    let _ = hint.join();
    served
}

/// Only root may give it; Farrier does the same.
fn hint(directory: &Path) {
    use std::os::unix::fs::MetadataExt;
    if let Ok(root) = std::fs::metadata(directory) {
        let (major, minor) = (rustix::fs::major(root.dev()), rustix::fs::minor(root.dev()));
        let place = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
        let _ = std::fs::write(place, KERNEL_AHEAD_KIB);
    }
}

/// The file system.
#[derive(Debug)]
pub struct Ceiling {
    shards: Vec<Mutex<HashMap<u64, Arc<Inode>>>>,
    next: std::sync::atomic::AtomicU64,
    offered: InitFlags,
}

#[derive(Debug)]
struct Inode {
    /// Size included.
    facts: Mutex<Facts>,
    body: Body,
}

#[derive(Debug)]
struct Facts {
    attr: FileAttr,
    /// How often the kernel was told of it.
    told: u64,
}

#[derive(Debug)]
enum Body {
    File(Mutex<Vec<Vec<u8>>>),
    Directory(Mutex<Directory>),
    Symlink(Vec<u8>),
    Other,
}

#[derive(Debug)]
struct Directory {
    parent: u64,
    names: HashMap<OsString, Entry>,
    /// Positions of a listing; they only grow.
    order: BTreeMap<u64, OsString>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    inum: u64,
    kind: FileType,
    position: u64,
}

impl Directory {
    fn new(parent: u64) -> Self {
        // positions 1 and 2 are `.` and `..`
        Self { parent, names: HashMap::new(), order: BTreeMap::new(), next: 3 }
    }

    fn insert(&mut self, name: &OsStr, inum: u64, kind: FileType) {
        let position = self.next;
        self.next += 1;
        self.names.insert(name.to_owned(), Entry { inum, kind, position });
        self.order.insert(position, name.to_owned());
    }

    fn remove(&mut self, name: &OsStr) -> Option<Entry> {
        let entry = self.names.remove(name)?;
        self.order.remove(&entry.position);
        Some(entry)
    }
}

impl Default for Ceiling {
    fn default() -> Self {
        Self::new()
    }
}

impl Ceiling {
    /// With nothing in it but the root.
    #[must_use]
    pub fn new() -> Self {
        let new = Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next: std::sync::atomic::AtomicU64::new(ROOT + 1),
            offered: InitFlags::empty(),
        };
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let root = Inode {
            facts: Mutex::new(Facts {
                attr: new_attr(ROOT, FileType::Directory, 0o755, owner),
                told: 1,
            }),
            body: Body::Directory(Mutex::new(Directory::new(ROOT))),
        };
        lock(new.shard(ROOT)).insert(ROOT, Arc::new(root));
        new
    }

    fn shard(&self, inum: u64) -> &Mutex<HashMap<u64, Arc<Inode>>> {
        &self.shards[usize::try_from(inum).unwrap_or(0) % SHARDS]
    }

    fn inode(&self, inum: u64) -> Result<Arc<Inode>, Errno> {
        lock(self.shard(inum)).get(&inum).cloned().ok_or(Errno::ENOENT)
    }

    fn make(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        (kind, mode): (FileType, u32),
        body: Body,
    ) -> Result<FileAttr, Errno> {
        let home = self.inode(parent.0)?;
        let inum = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut attr = new_attr(inum, kind, mode, (request.uid(), request.gid()));
        if let Body::Symlink(target) = &body {
            attr.size = target.len() as u64;
        }
        let mut directory = home.directory()?;
        if directory.names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let inode = Arc::new(Inode { facts: Mutex::new(Facts { attr, told: 1 }), body });
        lock(self.shard(inum)).insert(inum, inode);
        directory.insert(name, inum, kind);
        drop(directory);
        home.touch(i64::from(kind == FileType::Directory));
        Ok(attr)
    }

    fn take_out(&self, parent: INodeNo, name: &OsStr, wants_directory: bool) -> Result<(), Errno> {
        let home = self.inode(parent.0)?;
        let mut directory = home.directory()?;
        let entry = *directory.names.get(name).ok_or(Errno::ENOENT)?;
        let is_directory = entry.kind == FileType::Directory;
        let victim = self.inode(entry.inum)?;
        match (is_directory, wants_directory) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            (true, true) if !victim.directory()?.names.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        directory.remove(name);
        drop(directory);
        home.touch(-i64::from(is_directory));
        self.lose_name(entry.inum, &victim);
        Ok(())
    }

    fn lose_name(&self, inum: u64, victim: &Inode) {
        let mut facts = lock(&victim.facts);
        let is_directory = facts.attr.kind == FileType::Directory;
        facts.attr.nlink = if is_directory { 0 } else { facts.attr.nlink.saturating_sub(1) };
        facts.attr.ctime = SystemTime::now();
        let is_over = facts.attr.nlink == 0 && facts.told == 0;
        drop(facts);
        if is_over {
            lock(self.shard(inum)).remove(&inum);
        }
    }

    fn move_name(
        &self,
        (parent, name): (INodeNo, &OsStr),
        (new_parent, new_name): (INodeNo, &OsStr),
        refuses: bool,
    ) -> Result<(), Errno> {
        let (from, to) = (self.inode(parent.0)?, self.inode(new_parent.0)?);
        let entry = *from.directory()?.names.get(name).ok_or(Errno::ENOENT)?;
        let there = to.directory()?.names.get(new_name).copied();
        if let Some(there) = there {
            if refuses {
                return Err(Errno::EEXIST);
            }
            if there.inum == entry.inum {
                return Ok(());
            }
            self.take_out(new_parent, new_name, entry.kind == FileType::Directory)?;
        }
        // the kernel holds both directories while it asks this
        from.directory()?.remove(name);
        to.directory()?.insert(new_name, entry.inum, entry.kind);
        let is_directory = i64::from(entry.kind == FileType::Directory);
        from.touch(-is_directory);
        to.touch(is_directory);
        let moved = self.inode(entry.inum)?;
        if let Body::Directory(directory) = &moved.body {
            lock(directory).parent = new_parent.0;
        }
        lock(&moved.facts).attr.ctime = SystemTime::now();
        Ok(())
    }

    /// Hands the entries behind `position` out until `add` says that it is full.
    fn list(
        &self,
        inum: INodeNo,
        position: u64,
        mut add: impl FnMut(&Inode, u64, u64, FileType, &OsStr) -> bool,
    ) -> Result<(), Errno> {
        let home = self.inode(inum.0)?;
        let directory = home.directory()?;
        for (number, name, target) in [(1, ".", inum.0), (2, "..", directory.parent)] {
            if position < number {
                let inode = self.inode(target)?;
                if add(&inode, target, number, FileType::Directory, name.as_ref()) {
                    return Ok(());
                }
            }
        }
        for (number, name) in directory.order.range(position.max(2) + 1..) {
            let Some(entry) = directory.names.get(name) else { continue };
            let inode = self.inode(entry.inum)?;
            if add(&inode, entry.inum, *number, entry.kind, name) {
                break;
            }
        }
        Ok(())
    }
}

impl Inode {
    fn directory(&self) -> Result<MutexGuard<'_, Directory>, Errno> {
        match &self.body {
            Body::Directory(directory) => Ok(lock(directory)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn file(&self) -> Result<MutexGuard<'_, Vec<Vec<u8>>>, Errno> {
        match &self.body {
            Body::File(pieces) => Ok(lock(pieces)),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Its names changed, among them so many directories.
    fn touch(&self, directories: i64) {
        let mut facts = lock(&self.facts);
        let now = SystemTime::now();
        (facts.attr.mtime, facts.attr.ctime) = (now, now);
        let links = i64::from(facts.attr.nlink) + directories;
        facts.attr.nlink = u32::try_from(links).unwrap_or(u32::MAX);
    }

    fn tell(&self) -> FileAttr {
        let mut facts = lock(&self.facts);
        facts.told += 1;
        facts.attr
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let end = offset + data.len() as u64;
        if end <= KEPT_MAX {
            write_pieces(&mut *self.file()?, usize::try_from(offset).unwrap_or(0), data);
        }
        let mut facts = lock(&self.facts);
        facts.attr.size = facts.attr.size.max(end);
        facts.attr.blocks = facts.attr.size.div_ceil(512);
        let now = SystemTime::now();
        (facts.attr.mtime, facts.attr.ctime) = (now, now);
        Ok(())
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let size = lock(&self.facts).attr.size;
        let len = usize::try_from(size.saturating_sub(offset)).unwrap_or(len).min(len);
        let mut bytes = vec![0; len];
        if offset < KEPT_MAX {
            read_pieces(&self.file()?, usize::try_from(offset).unwrap_or(0), &mut bytes);
        }
        Ok(bytes)
    }

    fn resize(&self, size: u64) -> Result<(), Errno> {
        let kept = usize::try_from(size.min(KEPT_MAX)).unwrap_or(0);
        let mut pieces = self.file()?;
        pieces.truncate(kept.div_ceil(PIECE));
        if let Some(last) = pieces.get_mut(kept / PIECE) {
            last.truncate(kept % PIECE);
        }
        Ok(())
    }
}

/// What is not there yet reads as zeros.
fn write_pieces(pieces: &mut Vec<Vec<u8>>, mut offset: usize, mut data: &[u8]) {
    while !data.is_empty() {
        let (number, start) = (offset / PIECE, offset % PIECE);
        let part = data.len().min(PIECE - start);
        if pieces.len() <= number {
            pieces.resize_with(number + 1, Vec::new);
        }
        let piece = &mut pieces[number];
        if piece.len() < start + part {
            piece.resize(start + part, 0);
        }
        piece[start..start + part].copy_from_slice(&data[..part]);
        offset += part;
        data = &data[part..];
    }
}

fn read_pieces(pieces: &[Vec<u8>], offset: usize, bytes: &mut [u8]) {
    let mut done = 0;
    while done < bytes.len() {
        let (number, start) = ((offset + done) / PIECE, (offset + done) % PIECE);
        let part = (bytes.len() - done).min(PIECE - start);
        let Some(piece) = pieces.get(number) else { return };
        let has = piece.len().saturating_sub(start).min(part);
        bytes[done..done + has].copy_from_slice(&piece[start.min(piece.len())..][..has]);
        done += part;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_attr(inum: u64, kind: FileType, mode: u32, (uid, gid): (u32, u32)) -> FileAttr {
    let now = SystemTime::now();
    FileAttr {
        ino: INodeNo(inum),
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind,
        // twelve bits
        perm: (mode & 0o7777) as u16,
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        uid,
        gid,
        rdev: 0,
        blksize: 65536,
        flags: 0,
    }
}

/// Inode 0 says that there is none, and that this may be remembered.
fn missing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 65536,
        flags: 0,
    }
}

const fn kind_of(mode: u32) -> FileType {
    match mode & 0o170_000 {
        0o010_000 => FileType::NamedPipe,
        0o140_000 => FileType::Socket,
        0o020_000 => FileType::CharDevice,
        0o060_000 => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn time_of(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

fn answer(found: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match found {
        Ok(attr) => reply.entry(&FOREVER, &attr, GENERATION),
        Err(error) => reply.error(error),
    }
}

fn answer_empty(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Ceiling {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.offered = config.capabilities();
        for capability in CAPABILITIES {
            let _ = config.add_capabilities(capability);
        }
        let _ = config.set_time_granularity(TIME_GRAIN);
        let _ = config.set_max_write(REQUEST_MAX);
        if let Err(most) = config.set_max_readahead(REQUEST_MAX) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.inode(parent.0).and_then(|home| {
            if name == "." {
                return Ok(Some(home));
            }
            let entry = home.directory()?.names.get(name).copied();
            entry.map(|entry| self.inode(entry.inum)).transpose()
        });
        match found {
            Ok(Some(inode)) => answer(Ok(inode.tell()), reply),
            Ok(None) => answer(Ok(missing()), reply),
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        let Ok(inode) = self.inode(ino.0) else { return };
        let mut facts = lock(&inode.facts);
        facts.told = facts.told.saturating_sub(count);
        let is_over = facts.told == 0 && facts.attr.nlink == 0;
        drop(facts);
        if is_over {
            lock(self.shard(ino.0)).remove(&ino.0);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.inode(ino.0) {
            Ok(inode) => reply.attr(&FOREVER, &lock(&inode.facts).attr),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let inode = match self.inode(ino.0) {
            Ok(inode) => inode,
            Err(error) => return reply.error(error),
        };
        if let Some(Err(error)) = size.map(|size| inode.resize(size)) {
            return reply.error(error);
        }
        let mut facts = lock(&inode.facts);
        let attr = &mut facts.attr;
        if let Some(mode) = mode {
            // twelve bits
            attr.perm = (mode & 0o7777) as u16;
        }
        if let Some(size) = size {
            (attr.size, attr.blocks) = (size, size.div_ceil(512));
        }
        attr.uid = uid.unwrap_or(attr.uid);
        attr.gid = gid.unwrap_or(attr.gid);
        attr.atime = atime.map_or(attr.atime, time_of);
        attr.mtime = mtime.map_or(attr.mtime, time_of);
        attr.ctime = ctime.unwrap_or_else(SystemTime::now);
        reply.attr(&FOREVER, attr);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.inode(ino.0).as_deref() {
            Ok(Inode { body: Body::Symlink(target), .. }) => reply.data(target),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(*error),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        let kind = kind_of(mode);
        let body = match kind {
            FileType::RegularFile => Body::File(Mutex::default()),
            _ => Body::Other,
        };
        answer(self.make(request, parent, name, (kind, mode), body), reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let body = Body::Directory(Mutex::new(Directory::new(parent.0)));
        answer(self.make(request, parent, name, (FileType::Directory, mode), body), reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let body = Body::Symlink(target.as_os_str().as_bytes().to_vec());
        answer(self.make(request, parent, name, (FileType::Symlink, 0o777), body), reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        if self.offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT) {
            return reply.error(Errno::ENOSYS);
        }
        let body = Body::File(Mutex::default());
        match self.make(request, parent, name, (FileType::RegularFile, mode), body) {
            Ok(attr) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&FOREVER, &attr, GENERATION, NO_HANDLE, flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.inode(ino.0).and_then(|inode| {
            let home = self.inode(parent.0)?;
            let mut directory = home.directory()?;
            if directory.names.contains_key(name) {
                return Err(Errno::EEXIST);
            }
            let mut facts = lock(&inode.facts);
            directory.insert(name, ino.0, facts.attr.kind);
            facts.attr.nlink += 1;
            facts.told += 1;
            Ok(facts.attr)
        });
        answer(linked, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.take_out(parent, name, false), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.take_out(parent, name, true), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let refuses = flags == RenameFlags::RENAME_NOREPLACE;
        if !flags.is_empty() && !refuses {
            return reply.error(Errno::EINVAL);
        }
        answer_empty(self.move_name((parent, name), (newparent, newname), refuses), reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT) {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT) {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        match self.inode(ino.0).and_then(|inode| inode.read(offset, len)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.inode(ino.0).and_then(|inode| inode.write(offset, data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn setxattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let done = self.list(ino, offset, |_, inum, next, kind, name| {
            reply.add(INodeNo(inum), next, kind, name)
        });
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let done = self.list(ino, offset, |inode, inum, next, _, name| {
            let mut facts = lock(&inode.facts);
            let is_full = reply.add(INodeNo(inum), next, name, &FOREVER, &facts.attr, GENERATION);
            facts.told += u64::from(!is_full && name != "." && name != "..");
            is_full
        });
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        const BLOCKS: u64 = 1 << 20;
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, 16 << 10, 255, 16 << 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_over_two_pieces_is_read_again() {
        let mut pieces = Vec::new();
        let data: Vec<u8> = (0..10_u8).collect();
        write_pieces(&mut pieces, PIECE - 4, &data);
        let mut bytes = [9; 20];
        read_pieces(&pieces, PIECE - 8, &mut bytes[..14]);
        assert_eq!(bytes[..14], [0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_hole_reads_as_zeros() {
        let mut pieces = Vec::new();
        write_pieces(&mut pieces, 2 * PIECE, &[1]);
        let mut bytes = [0; 4];
        read_pieces(&pieces, PIECE - 2, &mut bytes);
        assert_eq!(bytes, [0; 4]);
    }

    #[test]
    fn an_entry_that_is_gone_leaves_no_position() {
        let mut directory = Directory::new(ROOT);
        directory.insert(OsStr::new("a"), 2, FileType::RegularFile);
        directory.insert(OsStr::new("b"), 3, FileType::RegularFile);
        assert!(directory.remove(OsStr::new("a")).is_some());
        let names: Vec<_> = directory.order.values().collect();
        assert_eq!(names, ["b"]);
    }
}
