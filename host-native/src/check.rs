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
/// Largest block that is read together with its neighbours, and how far these may reach.
const SMALL_MAX: usize = 16 << 10;
const STRETCH_MAX: u64 = 64 << 10;
/// A batch with no more bytes is not worth waking threads for.
const ALONE_MAX: usize = 256 << 10;
/// Larger blocks of one job: handing a job over takes a good part of the time of checking one.
const LARGE_PER_JOB: usize = 8;

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

/// Checks `image`; with its file contents if `with_data`. With `copy`, that copy is checked and no
/// other one asked ([`CheckOptions::copy`]).
///
/// # Errors
/// What the listener failed with.
pub fn check<L: Listener>(
    image: &Image,
    with_data: bool,
    copy: Option<u8>,
    listener: &mut L,
) -> Result<Summary, L::Failure> {
    let options = CheckOptions { data: with_data, copy, ..CheckOptions::default() };
    run(image, options, listener).map(|machine| machine.summary())
}

/// As [`check`] without a copy, and gives the machine, which knows more than it found.
///
/// # Errors
/// What the listener failed with.
pub fn examine<L: Listener>(
    image: &Image,
    with_data: bool,
    listener: &mut L,
) -> Result<Check, L::Failure> {
    run(image, CheckOptions { data: with_data, ..CheckOptions::default() }, listener)
}

fn run<L: Listener>(
    image: &Image,
    options: CheckOptions,
    listener: &mut L,
) -> Result<Check, L::Failure> {
    let mut machine = Check::new(image.volume(), CheckOptions { batch: BATCH, ..options });
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
                Step::Done => return Ok(machine),
                Step::Read(wants) => machine.resume(fetch(image.blocks(), &wants, &jobs, &done)),
            }
        }
    })
}

/// Wants of a batch that one thread takes, each with its place in the batch.
type Job = Vec<(usize, Want)>;
type Outcome = Vec<(usize, Result<Block, Error>)>;

fn work(blocks: &Blocks, queue: &Mutex<Receiver<Job>>, results: Sender<Outcome>) {
    loop {
        let job = lock(queue).recv();
        let Ok(job) = job else {
            return;
        };
        if results.send(read_job(blocks, &job)).is_err() {
            return;
        }
    }
}

/// Reads what lies close together in one go: a volume of small files is mostly inodes of 1 KiB, and
/// a read costs more than they do.
fn read_job(blocks: &Blocks, job: &Job) -> Outcome {
    let one_by_one = || job.iter().map(|(place, want)| (*place, blocks.read(want))).collect();
    let [(_, first), .., (_, last)] = &job[..] else {
        return one_by_one();
    };
    if first.location().len() > SMALL_MAX {
        return one_by_one();
    }
    let start = first.location().offset.0;
    let end = last.location().offset.0 + last.location().len() as u64;
    let Ok(bytes) = blocks.read_stretch(first, start..end) else {
        // One bad sector is no reason to lose its neighbours.
        return one_by_one();
    };
    let checks = blocks.volume().checks();
    let admit = |want: &Want| {
        // split() made the stretch of these very wants
        let at = usize::try_from(want.location().offset.0 - start).unwrap_or(usize::MAX);
        match bytes.get(at..at.saturating_add(want.location().len())) {
            Some(stored) => Ok(want.admit(stored.to_vec(), checks)?),
            None => blocks.read(want),
        }
    };
    job.iter().map(|(place, want)| (*place, admit(want))).collect()
}

/// Splits a batch into jobs: some large blocks, or small ones that lie close together.
fn split(wants: &[Want]) -> Vec<Job> {
    let mut sorted: Vec<(usize, Want)> = wants.iter().copied().enumerate().collect();
    sorted.sort_by_key(|(_, want)| want.location());
    let mut jobs: Vec<Job> = Vec::new();
    for (place, want) in sorted {
        let end = want.location().offset.0.saturating_add(want.location().len() as u64);
        let joins = |job: &Job| {
            let [(_, first), ..] = &job[..] else { return false };
            if first.location().len() > SMALL_MAX || want.location().len() > SMALL_MAX {
                return first.location().len() > SMALL_MAX
                    && want.location().len() > SMALL_MAX
                    && job.len() < LARGE_PER_JOB;
            }
            // A stretch stays within an aligned one of its largest size, and so within a volume.
            first.location().offset.0 / STRETCH_MAX == (end - 1) / STRETCH_MAX
        };
        match jobs.last_mut() {
            Some(job) if joins(job) => job.push((place, want)),
            _ => jobs.push(vec![(place, want)]),
        }
    }
    jobs
}

/// All of `wants`, in their order.
fn fetch(
    blocks: &Blocks,
    wants: &[Want],
    jobs: &Sender<Job>,
    done: &Receiver<Outcome>,
) -> Vec<Result<Block, Error>> {
    let split = split(wants);
    let mut got: Vec<Option<Result<Block, Error>>> = wants.iter().map(|_| None).collect();
    let mut settle = |outcomes: Outcome| {
        for (place, outcome) in outcomes {
            got[place] = Some(outcome);
        }
    };
    let bytes: usize = wants.iter().map(|want| want.location().len()).sum();
    if bytes <= ALONE_MAX {
        split.iter().for_each(|job| settle(read_job(blocks, job)));
    } else {
        let count = split.len();
        for job in split {
            // the receiver lives as long as the scope
            let _ = jobs.send(job);
        }
        done.iter().take(count).for_each(settle);
    }
    got.into_iter().flatten().collect()
}
