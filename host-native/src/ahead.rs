//! Threads that read blocks before they are wanted.
//!
//! Advice is never waited for and never piles up: what does not fit the queue is dropped, and read
//! when it is wanted. Threads start with the first advice, so that a program that only looks at a
//! header has none.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use farrier_core::engine::Want;

use crate::blocks::{Store, lock};

/// Most blocks that wait to be read ahead: 16 MiB of file contents.
const QUEUE_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct ReadAheadPool {
    shared: Arc<Shared>,
    threads_max: usize,
    threads: OnceLock<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    queue: Mutex<Queue>,
    signal: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    wants: VecDeque<Want>,
    is_closed: bool,
}

impl ReadAheadPool {
    pub(crate) fn new(store: Arc<Store>, threads_max: usize) -> Self {
        let shared = Shared { store, queue: Mutex::default(), signal: Condvar::new() };
        Self { shared: Arc::new(shared), threads_max, threads: OnceLock::new() }
    }

    pub(crate) fn advise(&self, wants: Vec<Want>) {
        if self.threads_max == 0 {
            return;
        }
        self.threads.get_or_init(|| self.start());
        let mut queue = lock(&self.shared.queue);
        for want in wants {
            if queue.wants.len() < QUEUE_MAX && !queue.wants.contains(&want) {
                queue.wants.push_back(want);
            }
        }
        drop(queue);
        self.shared.signal.notify_all();
    }

    /// A thread that cannot be had is done without.
    fn start(&self) -> Vec<JoinHandle<()>> {
        (0..self.threads_max)
            .filter_map(|number| {
                let shared = Arc::clone(&self.shared);
                std::thread::Builder::new()
                    .name(format!("ahead-{number}"))
                    .spawn(move || shared.work())
                    .ok()
            })
            .collect()
    }
}

impl Shared {
    fn work(&self) {
        while let Some(want) = self.next() {
            self.store.get_ahead(&want);
        }
    }

    fn next(&self) -> Option<Want> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(want) = queue.wants.pop_front() {
                return Some(want);
            }
            queue = self.signal.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for ReadAheadPool {
    fn drop(&mut self) {
        lock(&self.shared.queue).is_closed = true;
        self.shared.signal.notify_all();
        for thread in self.threads.take().into_iter().flatten() {
            // a thread that panicked has nothing to give back
            let _ = thread.join();
        }
    }
}
