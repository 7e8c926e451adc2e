//! Threads that write to the devices, so that a flush prepares what comes next meanwhile.
//!
//! Invariants: what waits is bounded; [`WriteQueue::settle`] returns when everything handed in
//! before has been written, or says what could not be; that error is never lost.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use farrier_core::drive::{ready, write_piece};
use farrier_core::error::Error;
use farrier_core::flush::Piece;

use crate::blocks::{Store, lock};

/// Most bytes that wait.
const WAITING_MAX: usize = 32 << 20;
/// Less than this is written at once: handing it over would take longer.
const DIRECT_MAX: usize = 512 << 10;
/// Threads that write.
const THREADS: usize = 2;

#[derive(Debug)]
pub(super) struct WriteQueue {
    shared: Arc<Shared>,
    threads: OnceLock<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    state: Mutex<State>,
    /// There is something to write, or the queue is closed.
    work: Condvar,
    /// Something was written.
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// Bytes that wait or are being written.
    bytes: usize,
    error: Option<Error>,
    is_closed: bool,
}

impl WriteQueue {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let (work, done) = (Condvar::new(), Condvar::new());
        let shared = Shared { store, state: Mutex::default(), work, done };
        Self { shared: Arc::new(shared), threads: OnceLock::new() }
    }

    /// Writes `pieces`, now or soon.
    ///
    /// # Errors
    /// A write failed: perhaps an earlier one.
    pub(super) fn write(&self, pieces: Vec<Piece>) -> Result<(), Error> {
        let bytes: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        let threads = || self.threads.get_or_init(|| self.start());
        if bytes < DIRECT_MAX || threads().is_empty() {
            return pieces.iter().try_for_each(|piece| self.shared.write(piece));
        }
        let mut state = lock(&self.shared.state);
        for piece in pieces {
            while state.bytes > WAITING_MAX && state.error.is_none() {
                state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if let Some(error) = state.error {
                return Err(error);
            }
            state.bytes += piece.bytes.len();
            state.pieces.push_back(piece);
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// Something could not be, since the queue was made.
    pub(super) fn settle(&self) -> Result<(), Error> {
        let mut state = lock(&self.shared.state);
        while state.bytes > 0 && state.error.is_none() {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.error.map_or(Ok(()), Err)
    }

    /// A thread that cannot be had is done without.
    fn start(&self) -> Vec<JoinHandle<()>> {
        (0..THREADS)
            .filter_map(|number| {
                let shared = Arc::clone(&self.shared);
                std::thread::Builder::new()
                    .name(format!("write-{number}"))
                    .spawn(move || shared.work())
                    .ok()
            })
            .collect()
    }
}

impl Shared {
    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(piece) = state.pieces.pop_front() {
                drop(state);
                let written = self.write(&piece);
                state = lock(&self.state);
                state.bytes -= piece.bytes.len();
                if let Err(error) = written {
                    state.error.get_or_insert(error);
                }
                self.done.notify_all();
            } else if state.is_closed {
                return;
            } else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn write(&self, piece: &Piece) -> Result<(), Error> {
        ready(write_piece(self.store.volume(), self.store.devices(), piece))
    }
}

impl Drop for WriteQueue {
    fn drop(&mut self) {
        lock(&self.shared.state).is_closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.take().into_iter().flatten() {
            // a thread that panicked has nothing to give back
            let _ = thread.join();
        }
    }
}
