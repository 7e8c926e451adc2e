//! Running the checker with several threads: they read, verify and expand blocks; the machine looks
//! at them in its own order.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use farrier_core::engine::{Block, Want};
use farrier_core::error::Error;
use farrier_core::scan::{Check, CheckOptions, Finding, Progress, Step, Summary};

use crate::blocks::{Blocks, lock};
use crate::image::Image;

/// Blocks that one step asks for: enough to keep the threads busy while the machine looks, and few
/// enough that 64 KiB of each stay in the processor's caches.
const BATCH: usize = 64;
/// Blocks of one job: handing one over costs about as much as checking a small block.
const PART: usize = 8;

/// Who listens to a check.
pub trait Listener {
    /// What a finding is told with.
    type Failure;

    /// Something was found.
    ///
    /// # Errors
    /// It cannot be told; the check ends.
    fn found(&mut self, check: &Check, finding: &Finding) -> Result<(), Self::Failure>;

    /// The check went on.
    fn went_on(&mut self, progress: Progress);
}

/// Checks `image`; with its file contents if `with_data`.
///
/// # Errors
/// What the listener failed with.
pub fn check<L: Listener>(
    image: &Image,
    with_data: bool,
    listener: &mut L,
) -> Result<Summary, L::Failure> {
    let options = CheckOptions { data: with_data, batch: BATCH, ..CheckOptions::default() };
    let mut machine = Check::new(image.volume(), options);
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(8));
    let (jobs, queue) = channel();
    let queue = Mutex::new(queue);
    let (results, done) = channel();
    std::thread::scope(|scope| {
        // The jobs' sender ends with this closure, however it ends, and the threads with it.
        let jobs = jobs;
        for _ in 0..threads {
            let results = results.clone();
            scope.spawn(|| work(image.blocks(), &queue, results));
        }
        loop {
            let step = machine.step();
            for finding in machine.take_findings() {
                listener.found(&machine, &finding)?;
            }
            listener.went_on(machine.progress());
            match step {
                Step::Done => return Ok(machine.summary()),
                Step::Read(wants) => machine.resume(fetch(&wants, &jobs, &done)),
            }
        }
    })
}

/// Blocks to read, and the place of the first of them in the batch.
type Job = (usize, Vec<Want>);
type Outcome = (usize, Vec<Result<Block, Error>>);

fn work(blocks: &Blocks, queue: &Mutex<Receiver<Job>>, results: Sender<Outcome>) {
    loop {
        let job = lock(queue).recv();
        let Ok((start, wants)) = job else {
            return;
        };
        // Contents are read once; what is structure may be met again.
        let read = |want: &Want| if want.is_data() { blocks.read(want) } else { blocks.get(want) };
        if results.send((start, wants.iter().map(read).collect())).is_err() {
            return;
        }
    }
}

/// All of `wants`, in their order.
fn fetch(
    wants: &[Want],
    jobs: &Sender<Job>,
    done: &Receiver<Outcome>,
) -> Vec<Result<Block, Error>> {
    for (number, part) in wants.chunks(PART).enumerate() {
        // the receiver lives as long as the scope
        let _ = jobs.send((number * PART, part.to_vec()));
    }
    let mut got: Vec<Option<Result<Block, Error>>> = wants.iter().map(|_| None).collect();
    for (start, outcomes) in done.iter().take(wants.len().div_ceil(PART)) {
        for (place, outcome) in got[start..].iter_mut().zip(outcomes) {
            *place = Some(outcome);
        }
    }
    got.into_iter().flatten().collect()
}
