//! Looking for data and holes in files that the kernel has not written yet.
//!
//! The kernel asks where data is without first handing over what it collected, and would be told
//! that there is none: a copy made with that answer would lack it. So the answer waits until the
//! kernel has written. That is a request which others have to serve meanwhile, so it is made by a
//! thread of its own; those that serve requests only hand over the question.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};

use farrier_core::fs::SeekTarget;
use farrier_core::units::Inum;
use fuser::{INodeNo, Notifier, ReplyLseek};

/// Where data is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Question {
    pub(super) inum: Inum,
    pub(super) offset: u64,
    pub(super) target: SeekTarget,
}

/// What answers a question.
pub(super) type Answer = dyn Fn(Question, ReplyLseek) + Send;

/// The way to have the kernel write and forget; known when the mount is made.
#[derive(Clone, Default, Debug)]
pub(crate) struct Mountpoint(Arc<OnceLock<(PathBuf, Notifier)>>);

impl Mountpoint {
    /// The mount is there.
    pub(crate) fn set(&self, directory: PathBuf, notifier: Notifier) {
        // there is one mount
        let _ = self.0.set((directory, notifier));
    }

    /// Has the kernel write what it collected for `inum`. Letting go of a file's contents, it writes
    /// them first, and waits for that; but page by page. So it is told before to write everything,
    /// in large requests, which it does not wait for.
    fn write_back(&self, inum: Inum) {
        let Some((directory, notifier)) = self.0.get() else {
            return;
        };
        if let Ok(root) = File::open(directory)
            && root.metadata().is_ok_and(|root| root.ino() == Inum::ROOT.0)
            && is_fuse(&root)
        {
            // what cannot be written, who wrote it is told
            let _ = rustix::fs::syncfs(&root);
        }
        // where it is not in memory there is nothing to write
        let _ = notifier.inval_inode(INodeNo(inum.0), 0, 0);
    }

    /// Has the kernel forget what it knows of a directory, and what `name` is in it.
    pub(crate) fn forget(&self, directory: INodeNo, name: Option<&[u8]>) {
        let Some((_, notifier)) = self.0.get() else {
            return;
        };
        // what it does not know it need not forget
        let _ = notifier.inval_inode(directory, 0, 0);
        if let Some(name) = name {
            let _ = notifier.inval_entry(directory, OsStr::from_bytes(name));
        }
    }
}

/// Whether a file lies on a FUSE mount: by the number that the kernel has for them.
fn is_fuse(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|told| told.f_type == 0x6573_5546)
}

/// The thread that answers, as long as this lives.
#[derive(Debug)]
pub(super) struct Seeker {
    questions: Sender<(Question, ReplyLseek)>,
}

impl Seeker {
    /// Starts the thread, where there can be one.
    pub(super) fn start(mountpoint: Mountpoint, answer: Box<Answer>) -> Option<Self> {
        let (questions, receiver) = channel();
        std::thread::Builder::new()
            .name("seek".to_owned())
            .spawn(move || work(&receiver, &mountpoint, &*answer))
            .ok()?;
        Some(Self { questions })
    }

    /// Has `reply` sent when the kernel has written; gives it back if nobody can.
    pub(super) fn ask(&self, question: Question, reply: ReplyLseek) -> Result<(), ReplyLseek> {
        self.questions.send((question, reply)).map_err(|refused| refused.0.1)
    }
}

fn work(receiver: &Receiver<(Question, ReplyLseek)>, mountpoint: &Mountpoint, answer: &Answer) {
    while let Ok((question, reply)) = receiver.recv() {
        mountpoint.write_back(question.inum);
        answer(question, reply);
    }
}
