//! The files that somebody chose, as the devices of a volume.
//!
//! The core asks for blocks of 1 to 64 KiB, often for many at once; a browser takes about as long
//! for a small slice as for one of 64 KiB. So requests made in one turn of the event loop are
//! gathered, and those that lie close together are read as one slice: the thousand inodes of a
//! page of a directory are a handful of slices.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use farrier_core::error::{DeviceFault, FaultCause};
use farrier_core::storage::Storage;
use farrier_core::units::DeviceIndex;
use js_sys::Uint8Array;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::Blob;

use crate::local::cause_of;

/// Chosen files, or any other Blobs. Clones share them.
#[derive(Clone)]
pub(crate) struct FileSet(Rc<Inner>);

struct Inner {
    files: Vec<(Blob, u64)>,
    /// Requests of this turn of the event loop, not begun yet.
    waiting: RefCell<Vec<Rc<Request>>>,
}

struct Request {
    device: DeviceIndex,
    offset: u64,
    len: usize,
    answer: Cell<Option<Result<Vec<u8>, FaultCause>>>,
    waker: Cell<Option<Waker>>,
}

impl FileSet {
    pub(crate) fn new(files: Vec<Blob>) -> Self {
        let files = files
            .into_iter()
            .map(|file| {
                // sizes are whole numbers below 2^53
                let size = file.size() as u64;
                (file, size)
            })
            .collect();
        Self(Rc::new(Inner { files, waiting: RefCell::default() }))
    }
}

// A Blob cannot be written: the trait's own refusals stand for the rest.
impl Storage for FileSet {
    fn device_count(&self) -> usize {
        self.0.files.len()
    }

    fn size(&self, device: DeviceIndex) -> u64 {
        self.0.size(device)
    }

    async fn read(
        &self,
        device: DeviceIndex,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, DeviceFault> {
        let fault = |cause| DeviceFault::read(device, offset, len, cause);
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.size(device)) {
            return Err(fault(FaultCause::OutOfRange));
        }
        let request = Rc::new(Request {
            device,
            offset,
            len,
            answer: Cell::default(),
            waker: Cell::default(),
        });
        let is_first = {
            let mut waiting = self.0.waiting.borrow_mut();
            waiting.push(Rc::clone(&request));
            waiting.len() == 1
        };
        if is_first {
            // It begins only when everybody who is being polled now has asked.
            let inner = Rc::clone(&self.0);
            spawn_local(async move { inner.begin() });
        }
        poll_fn(|context| match request.answer.take() {
            Some(answer) => Poll::Ready(answer.map_err(fault)),
            None => {
                request.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

impl Inner {
    fn size(&self, device: DeviceIndex) -> u64 {
        self.files.get(usize::from(device.0)).map_or(0, |(_, size)| *size)
    }

    /// Starts a slice for each run of requests.
    fn begin(self: Rc<Self>) {
        let mut requests = self.waiting.take();
        requests.sort_by_key(|request| (request.device, request.offset));
        for run in runs(requests) {
            let inner = Rc::clone(&self);
            spawn_local(async move { inner.serve(run).await });
        }
    }

    async fn serve(&self, run: Run) {
        match self.slice(run.device, run.start, run.end).await {
            Ok(bytes) => {
                for request in run.requests {
                    // runs() made the slice of these very requests, and no longer than SLICE_BYTES_MAX
                    // or one request
                    let at = (request.offset - run.start) as u32;
                    let part = bytes.subarray(at, at + request.len as u32);
                    request.settle(Ok(part.to_vec()));
                }
            }
            Err(cause) if run.requests.len() == 1 => {
                for request in run.requests {
                    request.settle(Err(cause));
                }
            }
            // One bad sector is no reason to lose its neighbours.
            Err(_) => {
                for request in run.requests {
                    let end = request.offset + request.len as u64;
                    let answer = self.slice(request.device, request.offset, end).await;
                    request.settle(answer.map(|bytes| bytes.to_vec()));
                }
            }
        }
    }

    async fn slice(
        &self,
        device: DeviceIndex,
        start: u64,
        end: u64,
    ) -> Result<Uint8Array, FaultCause> {
        let Some((file, _)) = self.files.get(usize::from(device.0)) else {
            return Err(FaultCause::Gone);
        };
        // offsets are below a Blob's size, which is exact as f64
        let slice = file
            .slice_with_f64_and_f64(start as f64, end as f64)
            .map_err(|error| cause_of(&error))?;
        let buffer =
            JsFuture::from(slice.array_buffer()).await.map_err(|error| cause_of(&error))?;
        let bytes = Uint8Array::new(&buffer);
        if u64::from(bytes.length()) == end - start {
            Ok(bytes)
        } else {
            Err(FaultCause::OutOfRange)
        }
    }
}

impl Request {
    fn settle(&self, answer: Result<Vec<u8>, FaultCause>) {
        self.answer.set(Some(answer));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Requests that one slice answers.
struct Run {
    device: DeviceIndex,
    start: u64,
    end: u64,
    requests: Vec<Rc<Request>>,
}

/// Puts together what lies close together. `requests` are sorted by place.
fn runs(requests: Vec<Rc<Request>>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for request in requests {
        let end = request.offset + request.len as u64;
        match runs.last_mut() {
            Some(run)
                if run.device == request.device
                    && request.offset <= run.end + GAP_BYTES_MAX
                    && end.max(run.end) - run.start <= SLICE_BYTES_MAX =>
            {
                run.end = run.end.max(end);
                run.requests.push(request);
            }
            _ => runs.push(Run {
                device: request.device,
                start: request.offset,
                end,
                requests: vec![request],
            }),
        }
    }
    runs
}

/// Longest slice that requests are gathered into.
const SLICE_BYTES_MAX: u64 = 2 << 20;

/// Longest stretch that nobody asked for and that is read all the same, to save a slice.
const GAP_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(device: u8, offset: u64, len: usize) -> Rc<Request> {
        Rc::new(Request {
            device: DeviceIndex(device),
            offset,
            len,
            answer: Cell::default(),
            waker: Cell::default(),
        })
    }

    fn shape(requests: &[(u8, u64, usize)]) -> Vec<(u64, u64, usize)> {
        let requests =
            requests.iter().map(|(device, offset, len)| request(*device, *offset, *len)).collect();
        runs(requests).iter().map(|run| (run.start, run.end, run.requests.len())).collect()
    }

    #[test]
    fn neighbours_and_overlaps_are_one_slice() {
        assert_eq!(shape(&[(0, 0, 1024), (0, 1024, 4096), (0, 1024, 1024)]), [(0, 5120, 3)]);
    }

    #[test]
    fn a_small_gap_is_read_over() {
        assert_eq!(shape(&[(0, 0, 1024), (0, 4096, 1024)]), [(0, 5120, 2)]);
    }

    #[test]
    fn a_large_gap_or_another_device_begins_a_slice() {
        let far = 1024 + GAP_BYTES_MAX + 1;
        assert_eq!(
            shape(&[(0, 0, 1024), (0, far, 1024), (1, far, 1024)]),
            [(0, 1024, 1), (far, far + 1024, 1), (far, far + 1024, 1)]
        );
    }

    #[test]
    fn a_slice_has_a_limit() {
        let block = 1 << 16;
        let many: Vec<_> = (0..48).map(|n| (0, n * block, 1 << 16)).collect();
        assert_eq!(shape(&many), [(0, 32 * block, 32), (32 * block, 48 * block, 16)]);
    }
}
