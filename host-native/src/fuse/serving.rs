//! What the answers to the kernel's requests have in common.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};

use farrier_core::error::Error;
use farrier_core::fs::{Attributes, Create, DirEntry, New, Read, ReadDir, Release, Unlink, Victim};
use farrier_core::media::FILE_BLOCK_LEN;
use farrier_core::media::damage::DamagedBlock;
use farrier_core::media::inode::ObjectKind;
use farrier_core::units::Inum;
use fuser::{Errno, INodeNo, InitFlags, ReplyEmpty, ReplyEntry, ReplyLseek, Request};

use super::attributes::{Owner, file_attr};
use super::changes::now;
use super::filesystem::{FOREVER, GENERATION};
use super::known::Known;
use super::report::Report;
use super::seeker::{Mountpoint, Question, Seeker};
use super::snapshots::Found;
use super::streams::Streams;
use crate::blocks::lock;
use crate::errno::errno;
use crate::snapshots::Snapshots;
use crate::tree::Tree;

#[derive(Debug)]
pub(crate) struct TreeFilesystem {
    pub(super) tree: Tree,
    pub(super) owner: Owner,
    pub(super) report: Arc<Report>,
    pub(super) seeker: Option<Seeker>,
    pub(super) streams: Streams,
    pub(super) known: Known,
    /// Directories that something in could not be told of: their listings end with an error.
    broken: Mutex<BTreeSet<INodeNo>>,
    /// Those that are shown.
    pub(super) snapshots: Option<Snapshots>,
    /// What the kernel offers, as far as answers depend on it.
    pub(super) offered: InitFlags,
}

impl TreeFilesystem {
    pub(crate) fn new(
        tree: Tree,
        snapshots: Option<Snapshots>,
        owner: Owner,
        report: Report,
        mountpoint: Mountpoint,
    ) -> Self {
        let report = Arc::new(report);
        let (of_seeker, tells) = (tree.clone(), Arc::clone(&report));
        let seek = move |question, reply| answer_seek(&of_seeker, &tells, question, reply);
        let seeker = match tree.is_writable() {
            true => Seeker::start(mountpoint, Box::new(seek)),
            false => None,
        };
        Self {
            tree,
            seeker,
            owner,
            report,
            streams: Streams::new(),
            known: Known::new(),
            broken: Mutex::default(),
            snapshots,
            offered: InitFlags::empty(),
        }
    }

    /// Answers with an inode that has a name; the kernel knows it from then on.
    pub(super) fn answer(&self, found: Result<Attributes, Error>, reply: ReplyEntry) {
        match found {
            Ok(attributes) => {
                self.known.tell(attributes.inum.0);
                reply.entry(&FOREVER, &file_attr(&attributes, self.owner), GENERATION);
            }
            Err(error) => reply.error(self.refusal(&error)),
        }
    }

    pub(super) fn answer_empty(&self, done: Result<(), Error>, reply: ReplyEmpty) {
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(self.refusal(&error)),
        }
    }

    pub(super) fn create_new(
        &self,
        request: &Request,
        (directory, name): (INodeNo, &OsStr),
        new: New,
        mode: u32,
    ) -> Result<Attributes, Error> {
        self.check_name(directory, name)?;
        self.tree.change(&Create {
            pfs: self.tree.pfs(),
            directory: Inum(directory.0),
            name: name.as_bytes().to_vec(),
            new,
            mode,
            uid: request.uid(),
            gid: request.gid(),
            now: now(),
        })
    }

    pub(super) fn remove(
        &self,
        directory: INodeNo,
        name: &OsStr,
        victim: Victim,
        reply: ReplyEmpty,
    ) {
        let removed = self.check_name(directory, name).and_then(|()| {
            self.tree.change(&Unlink {
                pfs: self.tree.pfs(),
                directory: Inum(directory.0),
                name: name.as_bytes().to_vec(),
                victim,
                keep: true,
                now: now(),
            })
        });
        let done = removed.map(|inum| self.after_losing_name(inum));
        self.answer_empty(done, reply);
    }

    /// An inode that the kernel does not know goes with its last name; others when the kernel
    /// forgets them.
    pub(super) fn after_losing_name(&self, inum: Inum) {
        if self.known.lose_name(inum.0) {
            self.release_inode(inum.0);
        }
    }

    pub(super) fn release_inode(&self, inum: u64) {
        let release = Release { pfs: self.tree.pfs(), inum: Inum(inum) };
        if let Err(error) = self.tree.change(&release) {
            // nobody waits for an answer
            self.refusal(&error);
        }
    }

    /// Answers with something outside of the mounted tree, of which nothing has to be kept.
    pub(super) fn answer_outside(&self, found: Result<Found, Errno>, reply: ReplyEntry) {
        match found {
            Ok(found) => reply.entry(&found.ttl, &found.attr, found.generation),
            Err(errno) => reply.error(errno),
        }
    }

    /// Whether the range could be filled: space cannot be set aside, but there must be some.
    pub(super) fn check_allocation(&self, inum: Inum, offset: u64, len: u64) -> Result<(), Error> {
        let attributes = self.tree.attributes(inum)?;
        match attributes.kind {
            ObjectKind::Regular => {}
            ObjectKind::Directory => return Err(Error::IsDirectory),
            _ => return Err(Error::NotRegular),
        }
        if len == 0 {
            return Err(Error::InvalidArgument);
        }
        let end = offset.checked_add(len).filter(|end| *end <= i64::MAX.cast_unsigned());
        end.ok_or(Error::FileTooLarge)?;
        let has = attributes.allocated_bytes;
        let free = self.tree.image().blocks().space().free_bytes;
        if len > free.saturating_add(has) { Err(Error::NoSpace) } else { Ok(()) }
    }

    /// A read failed: lists which blocks of the file no copy can give.
    pub(super) fn note_unread(&self, error: &Error, ino: INodeNo, offset: u64, len: usize) {
        let is_lost = |error: &Error| matches!(error, Error::Damaged(_) | Error::Device(_));
        if !is_lost(error) {
            return;
        }
        let blocks = self.tree.image().blocks();
        let end = offset.saturating_add(len as u64);
        let mut start = offset - offset % FILE_BLOCK_LEN;
        while start < end {
            let place = Cell::new(None);
            let read = self.run(ino, |pfs, inum| {
                place.set(Some((pfs.id().0, inum)));
                Read { pfs, inum, offset: start, len: 1, ahead: 0 }
            });
            if let (Some((pfs, inum)), Some(error)) = (place.get(), read.err())
                && is_lost(&error)
            {
                let stretch = (start, FILE_BLOCK_LEN);
                blocks.note_damage(DamagedBlock::unread(pfs, inum, stretch, now()));
            }
            start = start.saturating_add(FILE_BLOCK_LEN);
        }
    }

    pub(super) fn refusal(&self, error: &Error) -> Errno {
        refusal(&self.tree, &self.report, error)
    }
}

impl TreeFilesystem {
    /// Something in `directory` cannot be told: its listing has to end with an error.
    pub(super) fn is_short(&self, directory: INodeNo) {
        lock(&self.broken).insert(directory);
    }

    /// Hands the names of `directory` behind `position` to `add`, until that says stop.
    ///
    /// Fails only where it has nothing to hand out: the kernel throws away what comes with an
    /// error.
    pub(super) fn list(
        &self,
        directory: INodeNo,
        position: u64,
        page_len: usize,
        mut add: impl FnMut(&DirEntry) -> bool,
        with_attributes: bool,
    ) -> Result<(), Errno> {
        let mut position = Some(position);
        let mut has_added = false;
        while let Some(from) = position {
            let page = self.run(directory, |pfs, directory| ReadDir {
                pfs,
                directory,
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
                self.is_short(directory);
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
        if !has_added && lock(&self.broken).contains(&directory) {
            return Err(Errno::EIO);
        }
        Ok(())
    }
}

pub(super) fn answer_seek(tree: &Tree, report: &Report, question: Question, reply: ReplyLseek) {
    match tree.seek(question.inum, question.offset, question.target) {
        // stored as i64: a file is no longer than that
        Ok(Some(found)) => reply.offset(found.cast_signed()),
        Ok(None) => reply.error(Errno::ENXIO),
        Err(error) => reply.error(refusal(tree, report, &error)),
    }
}

fn refusal(tree: &Tree, report: &Report, error: &Error) -> Errno {
    report.tell(error, || tree.image().blocks().explain(error));
    Errno::from_i32(errno(error).raw_os_error())
}
