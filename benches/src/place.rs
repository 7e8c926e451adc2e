//! The folder of a run, which goes with it, and the wish to stop.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{During, Failure, Outcome};

/// A folder of this run, which goes with it.
#[derive(Debug)]
pub struct Work(pub PathBuf);

impl Work {
    /// Makes it below `parent`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(parent: &Path) -> Outcome<Self> {
        let folder = parent.join(format!("farrier-bench-{}", std::process::id()));
        fs::create_dir(&folder).during(folder.display())?;
        Ok(Self(folder))
    }

    /// The tmpfs of the system, if it has one.
    #[must_use]
    pub fn usual_parent() -> PathBuf {
        let tmpfs = Path::new("/dev/shm");
        if tmpfs.is_dir() { tmpfs.to_owned() } else { std::env::temp_dir() }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Mounts are gone by now; if one is not, its files must not be deleted through it.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if mounts.contains(&*self.0.to_string_lossy()) {
            eprintln!("something is still mounted below {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Whether somebody pressed Ctrl-C.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Watches for SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn watch() -> Outcome<Self> {
        let stop = Self::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0))
                .during("cannot watch for signals")?;
        }
        Ok(stop)
    }

    /// Whether it came.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Asked between steps.
    ///
    /// # Errors
    /// It came.
    pub fn go_on(&self) -> Outcome {
        if self.has_come() { Err(Failure::new("stopped")) } else { Ok(()) }
    }
}
