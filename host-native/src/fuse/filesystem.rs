//! The kernel's requests, answered from a [`Tree`].
//!
//! All that changes here is changed through the kernel, which knows what its own requests make
//! untrue. So it may keep all it learns: entries, attributes, missing names, links, contents and
//! listings. Opening and closing cost no request at all (`ENOSYS` tells the kernel so, where it is
//! new enough), which also means that there is no state per open file: an inode without a name stays
//! until the kernel forgets it.
//!
//! What is written is collected in the kernel's cache; for regular files it is the kernel that knows
//! sizes and times, and tells them when it writes.
//!
//! Invariant: a directory that is damaged never looks short. Its readable names are listed, then
//! the listing fails.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use farrier_core::error::Error;
use farrier_core::fs::{
    Allocate, CopyRange, DirEntry, Extent, Link, New, Read, ReadLink, Rename, Seek, SeekTarget,
    SetAttributes, Victim, Write,
};
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::Inum;
use farrier_core::volume::Space;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::attributes::{bare_attr, file_attr, file_type};
use super::changes::{self, now};
use super::connection;
use super::seeker::Question;
use super::serving::{TreeFilesystem, answer_seek};
use super::snapshots::{self, Realm};

/// How long the kernel may believe what it was told: as good as for ever.
pub(super) const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// What may not be believed at all.
const NEVER: Duration = Duration::ZERO;
/// Inode numbers are not used again.
pub(super) const GENERATION: Generation = Generation(0);
/// Open files have no state, so their handles say nothing.
const NO_HANDLE: FileHandle = FileHandle(0);
/// Names that a directory is read by, without and with attributes. What does not fit the kernel's
/// buffer is read again, so these are about half a buffer.
const PAGE: usize = 512;
const PAGE_PLUS: usize = 96;

thread_local! {
    /// Where a thread puts the extents of one read together; kept, for fresh memory costs a fault
    /// for each of its pages.
    static ASSEMBLY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Filesystem for TreeFilesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.offered = config.capabilities();
        if self.snapshots.is_some() && self.tree.is_writable() {
            // what is open nobody asks about again: who opens a snapshot's file to write it has to
            // be told then
            self.offered.remove(InitFlags::FUSE_NO_OPEN_SUPPORT);
        }
        connection::ask_for(config, self.tree.is_writable());
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let is_outside = self.realm(parent) != Realm::MOUNTED;
        if is_outside && (parent, name) != (snapshots::DIRECTORY, "..".as_ref()) {
            return self.answer_outside(self.find_outside(parent, name), reply);
        }
        // An exported handle of a file is looked up by `.`, which only directories have.
        let found = match name.as_bytes() {
            _ if is_outside => self.tree.attributes(Inum::ROOT),
            b"." => self.tree.attributes(Inum(parent.0)),
            name => self.tree.lookup(Inum(parent.0), name),
        };
        match found {
            Err(Error::NoEntry) if self.is_directory_of_snapshots(parent, name) => {
                self.answer_outside(self.find_outside(parent, name), reply);
            }
            // Inode 0 says that there is none, and that this may be remembered.
            Err(Error::NoEntry) => {
                reply.entry(&FOREVER, &bare_attr(0, ObjectKind::Regular), GENERATION);
            }
            other => self.answer(other, reply),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        if self.known.forget(ino.0, count) {
            self.release_inode(ino.0);
        }
    }

    fn destroy(&mut self) {
        if !self.tree.is_writable() {
            return;
        }
        for inum in self.known.nameless() {
            self.release_inode(inum);
        }
        if let Err(error) = self.tree.sync_all() {
            self.refusal(&error);
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
        let now = now();
        let mut set = SetAttributes::new(self.tree.pfs(), Inum(ino.0), now);
        (set.mode, set.uid, set.gid, set.size) = (mode, uid, gid, size);
        set.atime = atime.map(|time| changes::time_or_now(time, now));
        set.mtime = mtime.map(|time| changes::time_or_now(time, now));
        set.ctime = ctime.map(changes::wall_time);
        let done = if let Err(error) = self.check_change(ino) {
            Err(error)
        } else if changes::asks_for_nothing(&set) {
            self.tree.attributes(set.inum)
        } else {
            self.tree.change(&set)
        };
        match done {
            Ok(attributes) => reply.attr(&FOREVER, &file_attr(&attributes, self.owner)),
            Err(error) => reply.error(self.refusal(&error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        let made = changes::new_node(mode, device)
            .and_then(|new| self.create_new(request, (parent, name), new, mode));
        self.answer(made, reply);
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
        let made = self.create_new(request, (parent, name), New::Directory, mode);
        self.answer(made, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let new = New::Symlink(target.as_os_str().as_bytes().to_vec());
        self.answer(self.create_new(request, (parent, name), new, 0o777), reply);
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
        // The kernel then makes a node and opens it without asking: no file has to be closed.
        if self.offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT) {
            return reply.error(Errno::ENOSYS);
        }
        match self.create_new(request, (parent, name), New::File, mode) {
            Ok(attributes) => {
                self.known.tell(attributes.inum.0);
                let attr = file_attr(&attributes, self.owner);
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&FOREVER, &attr, GENERATION, NO_HANDLE, flags);
            }
            Err(error) => reply.error(self.refusal(&error)),
        }
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if let Err(error) = self.check_name(parent, name) {
            return reply.error(self.refusal(&error));
        }
        if self.realm(ino) != Realm::MOUNTED {
            return reply.error(Errno::EXDEV);
        }
        let linked = self.tree.change(&Link {
            pfs: self.tree.pfs(),
            inum: Inum(ino.0),
            directory: Inum(parent.0),
            name: name.as_bytes().to_vec(),
            now: now(),
        });
        match linked {
            Err(Error::IsDirectory) => reply.error(Errno::EPERM),
            other => self.answer(other, reply),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, Victim::File, reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(parent, name, Victim::Directory, reply);
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
        let renamed = changes::clash(flags).and_then(|clash| {
            self.check_name(parent, name)?;
            self.check_name(newparent, newname)?;
            self.tree.change(&Rename {
                pfs: self.tree.pfs(),
                directory: Inum(parent.0),
                name: name.as_bytes().to_vec(),
                new_directory: Inum(newparent.0),
                new_name: newname.as_bytes().to_vec(),
                clash,
                keep: true,
                now: now(),
            })
        });
        let done = renamed.map(|replaced| {
            if let Some(inum) = replaced {
                self.after_losing_name(inum);
            }
        });
        self.answer_empty(done, reply);
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
        let write = Write {
            pfs: self.tree.pfs(),
            inum: Inum(ino.0),
            offset: Some(offset),
            bytes: data,
            now: now(),
        };
        match self.check_change(ino).and_then(|()| self.tree.change(&write)) {
            // no request is as long as that
            Ok(_) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(self.refusal(&error)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (pfs, inum) = (self.tree.pfs(), Inum(ino.0));
        let done = changes::allocation(mode).and_then(|allocation| {
            self.check_change(ino)?;
            if matches!(allocation, None | Some(farrier_core::fs::Allocation::Extend)) {
                self.check_allocation(inum, offset, length)?;
            }
            let Some(allocation) = allocation else {
                return Ok(());
            };
            self.tree.change(&Allocate { pfs, inum, offset, len: length, allocation, now: now() })
        });
        self.answer_empty(done, reply);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        ino_in: INodeNo,
        _: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _: FileHandle,
        offset_out: u64,
        len: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        if flags != CopyFileRangeFlags::empty() {
            return reply.error(Errno::EINVAL);
        }
        if self.realm(ino_out) != Realm::MOUNTED {
            return reply.error(Errno::EROFS);
        }
        if self.realm(ino_in) != Realm::MOUNTED {
            // the kernel then copies by reading and writing
            return reply.error(Errno::EXDEV);
        }
        let copied = self.tree.change(&CopyRange {
            pfs: self.tree.pfs(),
            source: Inum(ino_in.0),
            source_offset: offset_in,
            target: Inum(ino_out.0),
            target_offset: offset_out,
            // what the answer can tell
            len: len.min(u64::from(u32::MAX)),
            now: now(),
        });
        match copied {
            Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
            Err(error) => reply.error(self.refusal(&error)),
        }
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.answer_empty(self.tree.sync(Inum(ino.0)), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // Who asks it of the root means everything: so does `farrier umount`.
        let done = match Inum(ino.0) {
            Inum::ROOT => self.tree.sync_all(),
            inum => self.tree.sync(inum),
        };
        self.answer_empty(done, reply);
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

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if self.realm(ino) != Realm::MOUNTED {
            return match self.attributes_outside(ino) {
                Ok(found) => reply.attr(&found.ttl, &found.attr),
                Err(errno) => reply.error(errno),
            };
        }
        match self.tree.attributes(Inum(ino.0)) {
            Ok(attributes) => reply.attr(&FOREVER, &file_attr(&attributes, self.owner)),
            Err(error) => reply.error(self.refusal(&error)),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.run(ino, |pfs, inum| ReadLink { pfs, inum }) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(self.refusal(&error)),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.realm(ino) != Realm::MOUNTED && flags.acc_mode() != OpenAccMode::O_RDONLY {
            reply.error(Errno::EROFS);
        } else if self.offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT) {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE);
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
        // Linux has at least 32 bits of address space
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        let ahead = self.streams.observe(ino.0, offset, len);
        let extents = self.run(ino, |pfs, inum| Read { pfs, inum, offset, len, ahead });
        match extents.as_deref() {
            Ok([]) => reply.data(&[]),
            Ok([Extent::Bytes(block, range)]) => reply.data(&block[range.clone()]),
            Ok(extents) => ASSEMBLY.with_borrow_mut(|bytes| {
                assemble(bytes, extents);
                reply.data(bytes);
            }),
            Err(error) => {
                self.note_unread(error, ino, offset, len);
                reply.error(self.refusal(error));
            }
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT) {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(NO_HANDLE, FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if ino == snapshots::DIRECTORY && self.snapshots.is_some() {
            let add = |node, next, name: &OsStr| reply.add(node, next, snapshots::KIND, name);
            return match self.list_snapshots(offset, add) {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            };
        }
        let add = |entry: &DirEntry| {
            let name = OsStr::from_bytes(&entry.name);
            reply.add(self.listed(ino, entry), entry.next, file_type(entry.kind), name)
        };
        match self.list(ino, offset, PAGE, add, false) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
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
        if ino == snapshots::DIRECTORY && self.snapshots.is_some() {
            let add = |node: INodeNo, next, name: &OsStr| {
                let (attr, generation) = match self.attributes_outside(node) {
                    Ok(found) => (found.attr, found.generation),
                    Err(_) => (bare_attr(node.0, ObjectKind::Directory), GENERATION),
                };
                reply.add(node, next, name, &NEVER, &attr, generation)
            };
            return match self.list_snapshots(offset, add) {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            };
        }
        let realm = self.realm(ino);
        let generation = self.generation(realm);
        let add = |entry: &DirEntry| {
            let (ttl, mut attr) = match &entry.attributes {
                Some(Ok(attributes)) => (FOREVER, file_attr(attributes, self.owner)),
                // The name stays visible; whoever asks for more is told what is wrong.
                _ => (NEVER, bare_attr(entry.inum.0, entry.kind)),
            };
            attr.ino = self.listed(ino, entry);
            let name = OsStr::from_bytes(&entry.name);
            let is_dots = matches!(name.as_bytes(), b"." | b"..");
            if self.realm(attr.ino) != realm && !is_dots {
                // a number that no inode can have
                self.is_short(ino);
                return false;
            }
            let is_full = reply.add(attr.ino, entry.next, name, &ttl, &attr, generation);
            if !is_full && !is_dots && realm == Realm::MOUNTED {
                self.known.tell(entry.inum.0);
            }
            is_full
        };
        match self.list(ino, offset, PAGE_PLUS, add, true) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        const UNIT: u32 = 16 << 10;
        let Space { size_bytes, free_bytes } = self.tree.image().blocks().space();
        let blocks = |bytes: u64| bytes / u64::from(UNIT);
        let files = self.tree.inode_count();
        // an inode takes a block of 1 KiB
        let files_free = if self.tree.is_writable() { free_bytes / 1024 } else { 0 };
        let free = blocks(free_bytes);
        let files = files.saturating_add(files_free);
        reply.statfs(blocks(size_bytes), free, free, files, files_free, UNIT, 255, UNIT);
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        // the kernel's numbers of SEEK_DATA and SEEK_HOLE
        let target = match whence {
            3 => SeekTarget::Data,
            4 => SeekTarget::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        if self.realm(ino) != Realm::MOUNTED {
            let found = self.run(ino, |pfs, inum| Seek { pfs, inum, offset, target });
            return match found {
                Ok(found) => reply.offset(found.cast_signed()),
                Err(error) => reply.error(self.refusal(&error)),
            };
        }
        let question = Question { inum: Inum(ino.0), offset, target };
        if !self.tree.is_writable() {
            return answer_seek(&self.tree, &self.report, question, reply);
        }
        match &self.seeker {
            // without a thread that could wait, everything is data
            None => reply.error(Errno::ENOSYS),
            Some(seeker) => {
                if let Err(reply) = seeker.ask(question, reply) {
                    reply.error(Errno::EIO);
                }
            }
        }
    }
}

fn assemble(bytes: &mut Vec<u8>, extents: &[Extent]) {
    bytes.clear();
    for extent in extents {
        match extent {
            Extent::Zeros(len) => bytes.resize(bytes.len() + len, 0),
            Extent::Bytes(block, range) => bytes.extend_from_slice(&block[range.clone()]),
        }
    }
}
