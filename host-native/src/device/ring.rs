//! Reads that their caller can stop waiting for: the system does them on the side (io_uring).
//!
//! The only room with `unsafe` of ours: what the system fills has to stay where it is until the system
//! is done. So all that a read needs is of one [`Flight`], which lets go of it only when the answer is
//! there. One that nobody waits for any more is left to a thread that does; if there is none to be had,
//! its memory is never given back. What is to be written must not come here: that goes in order.
//!
//! Where the system has no io_uring, or forbids it, [`read`] does nothing: whoever asks has threads then.

#![allow(unsafe_code, reason = "the system writes to memory that it was given a while ago")]

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use farrier_core::error::FaultCause;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use rustix::io::Errno;

use super::lane::Lane;
use super::raw::{Raw, cause};

/// The system has none, or lets us have none.
static IS_MISSING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// A thread does one read at a time.
    static IDLE: Cell<Option<IoUring>> = const { Cell::new(None) };
}

/// Who is asked whether a device is still waited for.
pub(super) trait Patience {
    /// How long the device may take.
    fn limit(&self) -> Duration;

    /// It took that long. Whether nobody waits for it any more.
    fn gives_up(&self) -> bool;

    /// It answered within that time, and what it gave was not in memory.
    fn took(&self, time: Duration);
}

impl Patience for Lane {
    fn limit(&self) -> Duration {
        self.limit()
    }

    fn gives_up(&self) -> bool {
        self.give_up()
    }

    fn took(&self, time: Duration) {
        self.took(time);
    }
}

/// Reads `len` bytes. `None` if that cannot be done here; nothing was read then.
pub(super) fn read(
    raw: &Arc<Raw>,
    offset: u64,
    len: usize,
    patience: &impl Patience,
) -> Option<Result<Vec<u8>, FaultCause>> {
    let bytes = Vec::with_capacity(len);
    let mut flight = Flight::new(idle_ring()?, Arc::clone(raw), bytes);
    let mut waited = None;
    let mut filled = 0;
    while filled < len {
        flight.begin(offset, filled..len)?;
        let answer = flight.at_once().or_else(|| {
            let began = Instant::now();
            let answer = flight.answer(patience);
            waited = Some(waited.unwrap_or_default() + began.elapsed());
            answer
        });
        match answer {
            Some(Ok(0)) => return Some(Err(FaultCause::OutOfRange)),
            Some(Ok(count)) => filled += count,
            Some(Err(Fault::Failed(Errno::INTR))) => {}
            Some(Err(Fault::Failed(error))) => return Some(Err(cause(error))),
            Some(Err(Fault::Late)) => return Some(Err(FaultCause::Stalled)),
            None => {
                IS_MISSING.store(true, Ordering::Relaxed);
                return None;
            }
        }
    }
    if let Some(time) = waited {
        patience.took(time);
    }
    flight.land(len).map(Ok)
}

fn idle_ring() -> Option<IoUring> {
    if let Some(ring) = IDLE.take() {
        return Some(ring);
    }
    if IS_MISSING.load(Ordering::Relaxed) {
        return None;
    }
    // a wait that has an end is younger than the rest
    let ring = IoUring::new(1).ok().filter(|ring| ring.params().is_feature_ext_arg());
    IS_MISSING.fetch_or(ring.is_none(), Ordering::Relaxed);
    ring
}

/// Why nothing was read.
enum Fault {
    Failed(Errno),
    /// There is no answer yet, and nobody waits for it.
    Late,
}

/// So many bytes, or why there are none.
type Answer = Result<usize, Fault>;

/// A read, and all that it needs.
struct Flight {
    /// There until it has landed.
    cargo: Option<Cargo>,
    /// The system may still write to the bytes.
    is_airborne: bool,
}

struct Cargo {
    ring: IoUring,
    raw: Arc<Raw>,
    bytes: Vec<u8>,
}

impl Flight {
    const fn new(ring: IoUring, raw: Arc<Raw>, bytes: Vec<u8>) -> Self {
        Self { cargo: Some(Cargo { ring, raw, bytes }), is_airborne: false }
    }

    /// Asks for the bytes of `range`, counted from `offset`.
    fn begin(&mut self, offset: u64, range: Range<usize>) -> Option<()> {
        let Cargo { ring, raw, bytes } = self.cargo.as_mut()?;
        let to_fill = bytes.spare_capacity_mut().get_mut(range.clone())?;
        let len = u32::try_from(to_fill.len()).ok()?;
        let at = offset.checked_add(range.start as u64)?;
        let fd = Fd(raw.file().as_raw_fd());
        let entry = opcode::Read::new(fd, to_fill.as_mut_ptr().cast(), len).offset(at).build();
        self.is_airborne = true;
        // SAFETY: the bytes and the descriptor are of the same cargo. It is dropped, and its bytes are
        // touched again, only when the answer has been seen: see `seen` and `Drop`.
        let pushed = unsafe { ring.submission().push(&entry) };
        if pushed.is_err() {
            self.is_airborne = false;
        }
        pushed.ok()
    }

    /// The answer, if the system had the bytes in memory.
    fn at_once(&mut self) -> Option<Answer> {
        let ring = &mut self.cargo.as_mut()?.ring;
        // if it fails, so it does when it is waited for
        let _ = ring.submit();
        self.seen()
    }

    /// Waits for the answer. `None` if the system does not do such reads after all.
    fn answer(&mut self, patience: &impl Patience) -> Option<Answer> {
        let limit = patience.limit();
        let time = Timespec::from(limit);
        let until = SubmitArgs::new().timespec(&time);
        let mut began = Instant::now();
        while self.is_airborne {
            let waited = self.cargo.as_mut()?.ring.submitter().submit_with_args(1, &until);
            if let Some(answer) = self.seen() {
                return Some(answer);
            }
            match waited.map_err(|error| Errno::from_io_error(&error)) {
                Ok(_) | Err(Some(Errno::TIME | Errno::INTR)) => {}
                Err(_) => return None,
            }
            if began.elapsed() >= limit {
                if patience.gives_up() {
                    return Some(Err(Fault::Late));
                }
                began = Instant::now();
            }
        }
        None
    }

    /// What the system has answered.
    fn seen(&mut self) -> Option<Answer> {
        let result = self.cargo.as_mut()?.ring.completion().next()?.result();
        self.is_airborne = false;
        match usize::try_from(result) {
            Ok(count) => Some(Ok(count)),
            Err(_) => match Errno::from_raw_os_error(result.saturating_neg()) {
                // it knows no such request
                Errno::INVAL | Errno::OPNOTSUPP | Errno::AGAIN => None,
                error => Some(Err(Fault::Failed(error))),
            },
        }
    }

    /// The first `len` bytes, all of which were read.
    fn land(mut self, len: usize) -> Option<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.cargo.as_mut()?.bytes);
        // SAFETY: the system has filled them, and said so
        unsafe { bytes.set_len(len) };
        Some(bytes)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let Some(cargo) = self.cargo.take() else { return };
        if !self.is_airborne {
            IDLE.set(Some(cargo.ring));
            return;
        }
        // if there is no thread to be had, it is never dropped
        let mut cargo = ManuallyDrop::new(cargo);
        let wait = move || {
            loop {
                let waited = cargo.ring.submit_and_wait(1);
                if cargo.ring.completion().next().is_some() {
                    break;
                }
                if waited.is_err_and(|error| Errno::from_io_error(&error) != Some(Errno::INTR)) {
                    return;
                }
            }
            drop(ManuallyDrop::into_inner(cargo));
        };
        let _ = std::thread::Builder::new().name("device-late".into()).spawn(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    /// Gives up when it was asked so often.
    struct Times(u32, Cell<u32>);

    impl Patience for Times {
        fn limit(&self) -> Duration {
            Duration::from_millis(2)
        }

        fn gives_up(&self) -> bool {
            self.1.set(self.1.get() + 1);
            self.1.get() == self.0
        }

        fn took(&self, _: Duration) {}
    }

    /// Reads without giving up; `None` where the system has nothing to read with.
    fn read_all(raw: &Arc<Raw>, offset: u64, len: usize) -> Option<Result<Vec<u8>, FaultCause>> {
        read(raw, offset, len, &Times(u32::MAX, Cell::new(0)))
    }

    fn skipped() {
        assert!(IS_MISSING.load(Ordering::Relaxed), "there is a ring, and it does not read");
        eprintln!("skipped: the system has no io_uring for us");
    }

    #[test]
    fn a_file_is_read_and_never_short() {
        let path = std::env::temp_dir().join(format!("farrier-ring-{}", std::process::id()));
        let bytes: Vec<u8> = (0..300_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        std::fs::write(&path, &bytes).unwrap();
        let raw = Arc::new(Raw::new(File::open(&path).unwrap(), bytes.len() as u64));
        std::fs::remove_file(&path).unwrap();
        for (offset, len) in [(0, 300_000), (7, 4096), (299_999, 1), (0, 0)] {
            let Some(got) = read_all(&raw, offset, len) else { return skipped() };
            let at = usize::try_from(offset).unwrap();
            assert_eq!(got.as_deref(), Ok(&bytes[at..at + len]));
        }
        assert_eq!(read_all(&raw, 299_999, 2), Some(Err(FaultCause::OutOfRange)));
        assert_eq!(read_all(&raw, 0, 10), Some(Ok(bytes[..10].to_vec())), "it goes on after that");
        assert_eq!(Arc::strong_count(&raw), 1);
    }

    /// A pipe that nobody writes to is a device that hangs.
    #[test]
    fn what_hangs_is_left_behind_until_it_answers() {
        let (read_end, mut write_end) = std::io::pipe().unwrap();
        let raw = Arc::new(Raw::new(File::from(OwnedFd::from(read_end)), 1000));
        let patience = Times(3, Cell::new(0));
        let Some(got) = read(&raw, 0, 100, &patience) else { return skipped() };
        assert_eq!((got, patience.1.get()), (Err(FaultCause::Stalled), 3));
        assert_eq!(Arc::strong_count(&raw), 2, "somebody waits for it");
        // the thread that was left alone reads on
        std::thread::scope(|scope| {
            let other = scope.spawn(|| read_all(&raw, 0, 100));
            // enough for both of them
            write_end.write_all(&[7; 200]).unwrap();
            while !other.is_finished() || Arc::strong_count(&raw) > 1 {
                std::thread::yield_now();
            }
            assert_eq!(other.join().unwrap(), Some(Ok(vec![7; 100])));
        });
    }
}
