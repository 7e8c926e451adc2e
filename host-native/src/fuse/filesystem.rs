//! The kernel's requests, answered from a [`Tree`].
//!
//! Nothing here ever changes, so the kernel may keep all it learns: entries, attributes, missing
//! names, links, contents and listings. Opening and closing cost no request at all (`ENOSYS` tells
//! the kernel so, where it is new enough), which also means that there is no state per open file.
//!
//! Invariant: a directory that is damaged never looks short. Its readable names are listed, then
//! the listing fails.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;
use std::time::Duration;

use farrier_core::error::Error;
use farrier_core::fs::{DirEntry, Extent, Read, ReadDir, SeekTarget};
use farrier_core::units::Inum;
use farrier_core::volume::Space;
use fuser::{
    Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, Request,
};

use super::attributes::{Owner, bare_attr, file_attr, file_type};
use super::report::Report;
use super::streams::Streams;
use crate::blocks::lock;
use crate::errno::errno;
use crate::tree::Tree;

/// How long the kernel may believe what it was told: as good as for ever.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// What may not be believed at all.
const NEVER: Duration = Duration::ZERO;
/// Inode numbers are not used again while a volume is mounted read-only.
const GENERATION: Generation = Generation(0);
/// Open files have no state, so their handles say nothing.
const NO_HANDLE: FileHandle = FileHandle(0);
/// Names that a directory is read by, without and with attributes. What does not fit the kernel's
/// buffer is read again, so these are about half a buffer.
const PAGE: usize = 512;
const PAGE_PLUS: usize = 96;
/// Largest request that the kernel shall make, where it can.
const REQUEST_MAX: u32 = 1 << 20;
/// Reads that the kernel may have under way beside the ones that somebody waits for.
const BACKGROUND_MAX: u16 = 64;
/// What the kernel is asked for, each only where it offers it.
const CAPABILITIES: [InitFlags; 8] = [
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_EXPORT_SUPPORT,
];

#[derive(Debug)]
pub(crate) struct TreeFilesystem {
    tree: Tree,
    owner: Owner,
    report: Report,
    streams: Streams,
    /// Directories that something in could not be told of: their listings end with an error.
    broken: Mutex<BTreeSet<Inum>>,
    /// What the kernel offers, as far as answers depend on it.
    offered: InitFlags,
}

thread_local! {
    /// Where a thread puts the extents of one read together; kept, for fresh memory costs a fault
    /// for each of its pages.
    static ASSEMBLY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl TreeFilesystem {
    pub(crate) fn new(tree: Tree, owner: Owner, report: Report) -> Self {
        Self {
            tree,
            owner,
            report,
            streams: Streams::new(),
            broken: Mutex::default(),
            offered: InitFlags::empty(),
        }
    }

    fn refusal(&self, error: &Error) -> Errno {
        self.report.tell(error, || self.tree.image().blocks().explain(error));
        Errno::from_i32(errno(error).raw_os_error())
    }

    /// Hands the names of `directory` behind `position` to `add`, until that says stop.
    ///
    /// Fails only where it has nothing to hand out: the kernel throws away what comes with an
    /// error.
    fn list(
        &self,
        directory: INodeNo,
        position: u64,
        page_len: usize,
        mut add: impl FnMut(&DirEntry) -> bool,
        with_attributes: bool,
    ) -> Result<(), Errno> {
        let inum = Inum(directory.0);
        let mut position = Some(position);
        let mut has_added = false;
        while let Some(from) = position {
            let page = self.tree.run(&ReadDir {
                pfs: self.tree.pfs(),
                directory: inum,
                position: from,
                limit: page_len,
                with_attributes,
            });
            let page = match page {
                Ok(page) => page,
                Err(error) if has_added => {
                    // the next request will meet it first thing
                    self.refusal(&error);
                    return Ok(());
                }
                Err(error) => return Err(self.refusal(&error)),
            };
            for error in &page.broken {
                lock(&self.broken).insert(inum);
                self.refusal(error);
            }
            for entry in &page.entries {
                if add(entry) {
                    return Ok(());
                }
                has_added = true;
            }
            position = page.next;
        }
        if !has_added && lock(&self.broken).contains(&inum) {
            return Err(Errno::EIO);
        }
        Ok(())
    }
}

impl Filesystem for TreeFilesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.offered = config.capabilities();
        for capability in CAPABILITIES {
            // an older kernel does without
            let _ = config.add_capabilities(capability);
        }
        // The kernel derives the largest read from the largest write.
        let _ = config.set_max_write(REQUEST_MAX);
        if let Err(most) = config.set_max_readahead(REQUEST_MAX) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.as_bytes();
        // An exported handle of a file is looked up by `.`, which only directories have.
        let found = if name == b"." {
            self.tree.attributes(Inum(parent.0))
        } else {
            self.tree.lookup(Inum(parent.0), name)
        };
        match found {
            Ok(attributes) => {
                reply.entry(&FOREVER, &file_attr(&attributes, self.owner), GENERATION);
            }
            // Inode 0 says that there is none, and that this may be remembered.
            Err(Error::NoEntry) => reply.entry(
                &FOREVER,
                &bare_attr(0, farrier_core::media::inode::ObjectKind::Regular),
                GENERATION,
            ),
            Err(error) => reply.error(self.refusal(&error)),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.tree.attributes(Inum(ino.0)) {
            Ok(attributes) => reply.attr(&FOREVER, &file_attr(&attributes, self.owner)),
            Err(error) => reply.error(self.refusal(&error)),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.tree.read_link(Inum(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(self.refusal(&error)),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT) {
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
        let extents = self.tree.run(&Read {
            pfs: self.tree.pfs(),
            inum: Inum(ino.0),
            offset,
            len,
            ahead: self.streams.observe(ino.0, offset, len),
        });
        match extents.as_deref() {
            Ok([]) => reply.data(&[]),
            Ok([Extent::Bytes(block, range)]) => reply.data(&block[range.clone()]),
            Ok(extents) => ASSEMBLY.with_borrow_mut(|bytes| {
                assemble(bytes, extents);
                reply.data(bytes);
            }),
            Err(error) => reply.error(self.refusal(error)),
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
        let add = |entry: &DirEntry| {
            reply.add(
                INodeNo(entry.inum.0),
                entry.next,
                file_type(entry.kind),
                OsStr::from_bytes(&entry.name),
            )
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
        let add = |entry: &DirEntry| {
            let (ttl, attr) = match &entry.attributes {
                Some(Ok(attributes)) => (FOREVER, file_attr(attributes, self.owner)),
                // The name stays visible; whoever asks for more is told what is wrong.
                _ => (NEVER, bare_attr(entry.inum.0, entry.kind)),
            };
            let name = OsStr::from_bytes(&entry.name);
            reply.add(attr.ino, entry.next, name, &ttl, &attr, GENERATION)
        };
        match self.list(ino, offset, PAGE_PLUS, add, true) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        const UNIT: u32 = 16 << 10;
        let Space { size_bytes, free_bytes } = self.tree.image().volume().space();
        let blocks = |bytes: u64| bytes / u64::from(UNIT);
        let files = self.tree.inode_count();
        let free = blocks(free_bytes);
        reply.statfs(blocks(size_bytes), free, free, files, 0, UNIT, 255, UNIT);
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
        match self.tree.seek(Inum(ino.0), offset, target) {
            // stored as i64: a file is no longer than that
            Ok(Some(found)) => reply.offset(found.cast_signed()),
            Ok(None) => reply.error(Errno::ENXIO),
            Err(error) => reply.error(self.refusal(&error)),
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
