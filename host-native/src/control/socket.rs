//! Asking the process that serves a mount, and being asked.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Reply, Request};
use crate::fuse::unmount::{mounted_at, real_path};

/// Longest request: labels and paths are far shorter.
const REQUEST_MAX: u64 = 64 << 10;
/// How long a peer may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often an address is tried for that is still in use.
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// Why a mount cannot be asked.
#[derive(Debug)]
pub enum AskError {
    /// No farrier serves that directory.
    NotServed(PathBuf),
    /// Something broke on the way.
    Broken(PathBuf, io::Error),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotServed(path) => write!(
                f,
                "{}: no volume that farrier mounted read-write; name the mount point, or the \
                 device of a volume that is not mounted",
                path.display()
            ),
            Self::Broken(path, error) => {
                write!(f, "{}: the mount does not answer ({error}); try again", path.display())
            }
        }
    }
}

impl std::error::Error for AskError {}

/// Asks the mount that `directory` lies in.
///
/// # Errors
/// Nobody answers.
pub fn ask(directory: &Path, request: &Request) -> Result<Reply, AskError> {
    let broken = |error| AskError::Broken(directory.to_owned(), error);
    // a mount that waits for its devices may have nobody left who tells its number
    let device = match mounted_at(&real_path(directory)) {
        Ok(Some(mount)) => mount.device,
        _ => std::fs::metadata(directory).map_err(broken)?.dev(),
    };
    let address = address(device).map_err(broken)?;
    let mut stream = UnixStream::connect_addr(&address)
        .map_err(|_| AskError::NotServed(directory.to_owned()))?;
    let mut line = serde_json::to_vec(request).map_err(|error| broken(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(broken)?;
    serde_json::from_str(&answer).map_err(|error| broken(error.into()))
}

/// The end of a mount that is asked; it stops with its owner.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers requests about the mount whose files are on `device`, by the kernel's number.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(
        device: u64,
        answer: impl Fn(&Request) -> Reply + Send + 'static,
    ) -> io::Result<Self> {
        let address = address(device)?;
        let listener = bind_unless_used(&address)?;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (stop, place) = (Arc::clone(&is_stopped), address.clone());
        let thread = std::thread::Builder::new().name("requests".to_owned()).spawn(move || {
            let Some(listener) = listener.or_else(|| bind_when_free(&place, &stop)) else { return };
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                // a peer that breaks off is no concern of the mount
                let _ = serve_one(stream, &answer);
            }
        })?;
        Ok(Self { address, is_stopped, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
        // wakes the thread up
        let woken = UnixStream::connect_addr(&self.address);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            // a thread that panicked has nothing to give back
            let _ = thread.join();
        }
    }
}

/// `None` if somebody has the address: the kernel gives the number of a mount that has just ended to
/// the next one, and the process of that may not be through yet.
fn bind_unless_used(address: &SocketAddr) -> io::Result<Option<UnixListener>> {
    match UnixListener::bind_addr(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for the address, until it is stopped.
fn bind_when_free(address: &SocketAddr, stop: &AtomicBool) -> Option<UnixListener> {
    while !stop.load(Ordering::Acquire) {
        match bind_unless_used(address) {
            Ok(None) => std::thread::sleep(BIND_PAUSE),
            Ok(listener) => return listener,
            Err(_) => return None,
        }
    }
    None
}

fn serve_one(stream: UnixStream, answer: &impl Fn(&Request) -> Reply) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let reply = if may_ask(&stream) {
        let mut line = String::new();
        BufReader::new((&stream).take(REQUEST_MAX)).read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(request) => answer(&request),
            Err(error) => Reply::Failed { text: format!("not a request that is known: {error}") },
        }
    } else {
        let text = "not permitted; only the user who mounted the volume and root may ask this";
        Reply::Failed { text: text.to_owned() }
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    (&stream).write_all(&line)
}

/// Root, and the user that the process runs as.
fn may_ask(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == own)
}

/// Numbers of mounted devices are unique while they are mounted.
fn address(device: u64) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("farrier-mount-{device:x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_asked_though_the_one_before_it_had_its_number() {
        // no mount has such a number
        let device = u64::MAX - u64::from(std::process::id());
        let place = address(device).unwrap();
        let ended = UnixListener::bind_addr(&place).unwrap();
        let answer = |_: &Request| Reply::Done;
        let server = Server::start(device, answer).unwrap();
        drop(ended);
        let mut stream = loop {
            match UnixStream::connect_addr(&place) {
                Ok(stream) => break stream,
                Err(_) => std::thread::yield_now(),
            }
        };
        stream.write_all(b"\"Sync\"\n").unwrap();
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).unwrap();
        assert!(!reply.is_empty(), "nobody answers");
        drop(server);
        assert!(UnixStream::connect_addr(&place).is_err(), "it has ended");
        // one that never gets the address ends as well
        let held = UnixListener::bind_addr(&place).unwrap();
        drop(Server::start(device, answer).unwrap());
        drop(held);
    }
}
