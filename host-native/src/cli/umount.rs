//! `farrier umount`.
//!
//! The kernel forgets a mount before the process that served it has ended. So what was changed is
//! brought to media first, where a failure can still be told, and then the end of the process is
//! waited for: whoever looks at the devices afterwards finds them unused.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use farrier::control::{Reply, Request, ask};
use farrier::fuse::unmount::{mounted_at, real_path, unmount};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::failure::{Failure, Outcome};

/// How long the process that served a mount may take to end: everything is on media already.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one that could change nothing is waited for.
const PATIENCE_READING: Duration = Duration::from_secs(1);
/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(5);

/// Unmount what was mounted.
///
/// When it returns, everything that was changed is on media and the devices are free again; with
/// --lazy that is so when the last user has gone. Ordinary users can unmount what they mounted; that
/// needs fusermount3.
#[derive(Debug, Args)]
pub(crate) struct Umount {
    /// The directory where it is mounted.
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Detach it even while it is in use; it goes when its last user goes.
    #[arg(short, long)]
    lazy: bool,
}

impl Umount {
    pub(crate) fn run(&self) -> Outcome {
        let mount = mounted_at(&real_path(&self.directory)).ok().flatten();
        let ours = mount.filter(|mount| mount.kind.starts_with("fuse"));
        let committed = match &ours {
            Some(_) => commit(&self.directory),
            None => Ok(()),
        };
        unmount(&self.directory, self.lazy).map_err(Failure::new)?;
        if let Some(mount) = ours.filter(|_| !self.lazy) {
            wait_for(Path::new(&mount.source))?;
        }
        committed
    }
}

/// Brings what was changed to media. Where nobody serves the mount, or nothing can be changed,
/// there is nothing to bring.
fn commit(directory: &Path) -> Outcome {
    let failed = |text: &str| {
        let directory = directory.display();
        Failure::new(format!("{directory}: what was changed last is not on media: {text}"))
    };
    if let Ok(file) = File::open(directory) {
        // What could not be written, who wrote it was told when he closed or synced the file.
        let _ = rustix::fs::syncfs(&file);
    }
    match ask(directory, &Request::Sync) {
        Ok(Reply::Failed { text }) => Err(failed(&text)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Waits until nobody holds `device`. A mount may say that its source is something else, which
/// tells nothing then.
fn wait_for(device: &Path) -> Outcome {
    let Ok(file) = File::open(device) else {
        return Ok(());
    };
    let end = Instant::now() + PATIENCE;
    // A mount that writes shares its lock with nobody.
    while rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    {
        if Instant::now() > end {
            return Err(Failure::new(format!(
                "{}: unmounted, but the process that served it has not ended yet; its devices are \
                 still in use",
                device.display()
            )));
        }
        std::thread::sleep(PAUSE);
    }
    // Who only read lets go in a moment; if others read as well, there is nothing to wait for.
    let end = Instant::now() + PATIENCE_READING;
    while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        == Err(Errno::WOULDBLOCK)
        && Instant::now() < end
    {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
