//! The threads of one device, so that nobody else waits in a call that it may never answer.
//!
//! A device of a volume that can go on without it is read and written here only: one thread writes,
//! in the order in which it is told to, and others read. Who waits for them waits for a while.
//!
//! Invariants:
//! * What waits to be written is bounded, and so is what a device has taken without having been told
//!   to make it last: who has more of it waits.
//! * A write that failed is told by the next barrier at the latest, and nothing is written after it.
//! * A device that was given up gets nothing any more. A call that hangs is left behind with its
//!   thread, its bytes and its descriptor; what it says in the end is of no account.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use farrier_core::error::FaultCause;
use farrier_core::flush::Bytes;

/// Most bytes that wait to be written.
const WAITING_MAX: usize = 64 << 20;
/// Bytes that are written before the device has to make them last: a barrier that comes then has no
/// more to wait for than that.
const UNSYNCED_MAX: usize = 64 << 20;
/// Most threads that read, and so most reads that can hang.
const READERS_MAX: usize = 8;

/// Calls that return when the device has answered.
pub(super) trait Calls: Send + Sync {
    /// Reads `len` bytes into the empty `buffer`.
    fn read(&self, offset: u64, len: usize, buffer: Vec<u8>) -> Result<Vec<u8>, FaultCause>;

    /// Has the system read ahead.
    fn will_need(&self, offset: u64, len: u64);

    /// Writes all of `bytes`.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), FaultCause>;

    /// Makes last what was written.
    fn barrier(&self) -> Result<(), FaultCause>;
}

/// How long threads are waited for that have nothing to do any more.
const PATIENCE_AT_END: Duration = Duration::from_secs(1);

/// Who knows whether a device may be left behind.
pub(crate) trait Spare: Send + Sync {
    /// Whether the volume can go on without the device.
    fn is_spare(&self) -> bool;

    /// Does without the device from now on, if that can be: nobody may ask for it any more then.
    fn give_up(&self) -> bool;

    /// The device took so long to read something that was not in memory.
    fn took(&self, time: Duration) {
        let _ = time;
    }
}

/// The threads of a device.
pub(super) struct Lane {
    shared: Arc<Shared>,
    spare: Box<dyn Spare>,
    limit: Duration,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    calls: Arc<dyn Calls>,
    state: Mutex<State>,
    /// There is something to write, or the lane is closed.
    to_write: Condvar,
    /// There is something to read, or the lane is closed.
    to_read: Condvar,
    /// Something was written.
    written: Condvar,
    is_given_up: AtomicBool,
}

#[derive(Default)]
struct State {
    writes: VecDeque<Order>,
    reads: VecDeque<Query>,
    /// Bytes that wait or are being written.
    waiting: usize,
    /// Since when the thread that writes has been in one call.
    since: Option<Instant>,
    /// The first write that failed since it was last told.
    error: Option<FaultCause>,
    readers: usize,
    /// Readers that wait for something to read.
    idle: usize,
    has_writer: bool,
    /// Threads that have not ended.
    alive: usize,
    is_closed: bool,
}

type Answer<T> = SyncSender<Result<T, FaultCause>>;

/// For the thread that writes.
enum Order {
    Write { offset: u64, bytes: Bytes, answer: Option<Answer<()>> },
    Barrier(Answer<()>),
}

/// For the threads that read.
enum Query {
    /// Into an empty buffer.
    Read {
        offset: u64,
        len: usize,
        buffer: Vec<u8>,
        answer: Answer<Vec<u8>>,
    },
    WillNeed {
        offset: u64,
        len: u64,
    },
}

/// A barrier that is under way.
#[must_use]
pub(super) struct Pending(Receiver<Result<(), FaultCause>>);

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lane({:?})", self.limit)
    }
}

impl Lane {
    /// Threads for a device, which has `limit` for each answer as long as it is `spare`.
    pub(super) fn new(calls: Arc<dyn Calls>, spare: Box<dyn Spare>, limit: Duration) -> Self {
        let shared = Shared {
            calls,
            state: Mutex::default(),
            to_write: Condvar::new(),
            to_read: Condvar::new(),
            written: Condvar::new(),
            is_given_up: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), spare, limit, threads: Mutex::default() }
    }

    /// Whether the volume can go on without the device. If not, it is as well to wait for it where
    /// one is.
    pub(super) fn is_spare(&self) -> bool {
        self.spare.is_spare()
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.shared.is_given_up.load(Ordering::Acquire)
    }

    /// Reads `len` bytes into the empty `buffer`.
    pub(super) fn read(
        &self,
        offset: u64,
        len: usize,
        buffer: Vec<u8>,
    ) -> Result<Vec<u8>, FaultCause> {
        let (answer, answered) = sync_channel(1);
        self.ask(Query::Read { offset, len, buffer, answer })?;
        loop {
            match answered.recv_timeout(self.limit) {
                Ok(read) => return read,
                Err(RecvTimeoutError::Timeout) if self.give_up() => {
                    return Err(FaultCause::Stalled);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(FaultCause::Stalled),
            }
        }
    }

    /// A read took so long.
    pub(super) fn took(&self, time: Duration) {
        self.spare.took(time);
    }

    /// Has the system read ahead.
    pub(super) fn will_need(&self, offset: u64, len: u64) {
        // only advice
        let _ = self.ask(Query::WillNeed { offset, len });
    }

    /// Has `bytes` written soon. That it could not be done is told later.
    pub(super) fn send(&self, offset: u64, bytes: Bytes) -> Result<(), FaultCause> {
        self.order(Order::Write { offset, bytes, answer: None })
    }

    /// Writes `bytes` before it returns.
    pub(super) fn write(&self, offset: u64, bytes: Bytes) -> Result<(), FaultCause> {
        let (answer, answered) = sync_channel(1);
        self.order(Order::Write { offset, bytes, answer: Some(answer) })?;
        self.wait(&Pending(answered))
    }

    /// Begins to make last what was written.
    pub(super) fn begin_barrier(&self) -> Result<Pending, FaultCause> {
        let (answer, answered) = sync_channel(1);
        self.order(Order::Barrier(answer))?;
        Ok(Pending(answered))
    }

    /// Waits until it is done.
    pub(super) fn wait(&self, pending: &Pending) -> Result<(), FaultCause> {
        loop {
            match pending.0.recv_timeout(self.patience()) {
                Ok(done) => return done,
                Err(RecvTimeoutError::Timeout) => self.look_for_stall()?,
                Err(RecvTimeoutError::Disconnected) => return Err(FaultCause::Stalled),
            }
        }
    }

    /// Whether something waits to be written, or is, or failed without anybody having been told: then
    /// a barrier has to go through here, also when the device cannot be done without any more.
    pub(super) fn is_unsettled(&self) -> bool {
        let state = self.lock();
        state.since.is_some() || !state.writes.is_empty() || state.error.is_some()
    }

    fn order(&self, order: Order) -> Result<(), FaultCause> {
        self.need_writer()?;
        let mut state = self.lock();
        if let Order::Write { bytes, .. } = &order {
            while state.waiting > WAITING_MAX && state.error.is_none() && !self.is_given_up() {
                let patience = patience(&state, self.limit);
                let waited = self.shared.written.wait_timeout(state, patience);
                let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = again;
                if timeout.timed_out() {
                    drop(state);
                    self.look_for_stall()?;
                    state = self.lock();
                }
            }
            // the barrier tells it too, to whoever asks for that
            if let Some(cause) = state.error {
                return Err(cause);
            }
            state.waiting += bytes.len();
        }
        if self.is_given_up() {
            return Err(FaultCause::Stalled);
        }
        state.writes.push_back(order);
        drop(state);
        self.shared.to_write.notify_one();
        Ok(())
    }

    fn ask(&self, query: Query) -> Result<(), FaultCause> {
        let mut state = self.lock();
        if self.is_given_up() {
            return Err(FaultCause::Stalled);
        }
        let needs_one = state.idle <= state.reads.len() && state.readers < READERS_MAX;
        if needs_one {
            state.readers += 1;
        }
        drop(state);
        if needs_one && !self.start("read", Shared::read_on) {
            let mut state = self.lock();
            state.readers -= 1;
            if state.readers == 0 {
                drop(state);
                // nobody else does it
                self.shared.answer(query);
                return Ok(());
            }
        }
        self.lock().reads.push_back(query);
        self.shared.to_read.notify_one();
        Ok(())
    }

    fn need_writer(&self) -> Result<(), FaultCause> {
        let has_writer = std::mem::replace(&mut self.lock().has_writer, true);
        if has_writer || self.start("write", Shared::write_on) {
            return Ok(());
        }
        self.lock().has_writer = false;
        // no more threads: errno 11
        Err(FaultCause::Medium(11))
    }

    fn start(&self, what: &str, work: fn(&Shared)) -> bool {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(format!("device-{what}"));
        self.lock().alive += 1;
        let work = move || {
            work(&shared);
            shared.lock().alive -= 1;
            shared.written.notify_all();
        };
        match thread.spawn(work) {
            Ok(thread) => {
                self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
                true
            }
            Err(_) => {
                self.lock().alive -= 1;
                false
            }
        }
    }

    /// How long the call that the writing thread is in has left.
    fn patience(&self) -> Duration {
        patience(&self.lock(), self.limit)
    }

    /// Gives up the device if it has been in one call for too long, and nobody needs it.
    fn look_for_stall(&self) -> Result<(), FaultCause> {
        if self.is_given_up() {
            return Err(FaultCause::Stalled);
        }
        let is_stalled = self.lock().since.is_some_and(|since| since.elapsed() >= self.limit);
        if is_stalled && self.give_up() { Err(FaultCause::Stalled) } else { Ok(()) }
    }

    /// How long the device may take for one call.
    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Gives up the device, which did not answer in time, if that can be.
    pub(super) fn give_up(&self) -> bool {
        if !self.spare.give_up() {
            return false;
        }
        let mut state = self.lock();
        self.shared.is_given_up.store(true, Ordering::Release);
        // who waits for one of these hears that nobody will answer
        state.writes.clear();
        state.reads.clear();
        state.waiting = 0;
        drop(state);
        self.shared.to_write.notify_all();
        self.shared.to_read.notify_all();
        self.shared.written.notify_all();
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

fn patience(state: &State, limit: Duration) -> Duration {
    let spent = state.since.map_or(Duration::ZERO, |since| since.elapsed());
    limit.saturating_sub(spent).max(Duration::from_millis(1))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // nothing that can panic runs under it
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, state: &State) -> bool {
        state.is_closed || self.is_given_up.load(Ordering::Acquire)
    }

    /// Writes until the lane is closed and everything is done, or the device is given up.
    fn write_on(&self) {
        let mut unsynced = 0;
        let mut state = self.lock();
        loop {
            let Some(order) = state.writes.pop_front() else {
                if self.is_over(&state) {
                    return;
                }
                state = self.to_write.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            // what follows a write that failed is not written
            let error = state.error;
            state.since = Some(Instant::now());
            drop(state);
            state = match order {
                Order::Write { offset, bytes, answer } => {
                    let done = error.map_or_else(|| self.calls.write(offset, &bytes), Err);
                    let len = bytes.len();
                    drop(bytes);
                    unsynced += len;
                    let mut state = self.lock();
                    state.waiting = state.waiting.saturating_sub(len);
                    match answer {
                        // who waits for it hears it now; nobody else is told
                        Some(answer) => drop(answer.try_send(done)),
                        None => state.error = state.error.or(done.err()),
                    }
                    state
                }
                Order::Barrier(answer) => {
                    let done = error.map_or_else(|| self.calls.barrier(), Err);
                    unsynced = 0;
                    let mut state = self.lock();
                    state.error = None;
                    let _ = answer.try_send(done);
                    state
                }
            };
            if unsynced >= UNSYNCED_MAX && !self.is_over(&state) {
                unsynced = 0;
                state.since = Some(Instant::now());
                drop(state);
                let done = self.calls.barrier();
                state = self.lock();
                state.error = state.error.or(done.err());
            }
            state.since = None;
            self.written.notify_all();
        }
    }

    fn read_on(&self) {
        let mut state = self.lock();
        loop {
            if let Some(query) = state.reads.pop_front() {
                drop(state);
                self.answer(query);
                state = self.lock();
            } else if self.is_over(&state) {
                return;
            } else {
                state.idle += 1;
                state = self.to_read.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }

    fn answer(&self, query: Query) {
        match query {
            Query::Read { offset, len, buffer, answer } => {
                // nobody may be waiting any more
                let _ = answer.try_send(self.calls.read(offset, len, buffer));
            }
            Query::WillNeed { offset, len } => self.calls.will_need(offset, len),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.lock().is_closed = true;
        self.shared.to_write.notify_all();
        self.shared.to_read.notify_all();
        // nobody waits for what they may be at, and it may never return
        let patience = self.limit.min(PATIENCE_AT_END);
        let ended =
            self.shared.written.wait_timeout_while(self.lock(), patience, |state| state.alive > 0);
        if ended.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            return;
        }
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // a thread that panicked has nothing to give back
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// A device in memory that can be made to hang.
    #[derive(Default)]
    struct Fake {
        bytes: Mutex<Vec<u8>>,
        hangs: Mutex<bool>,
        goes_on: Condvar,
        barriers: AtomicUsize,
    }

    impl Fake {
        fn hang(&self, hangs: bool) {
            *self.hangs.lock().unwrap() = hangs;
            self.goes_on.notify_all();
        }

        fn call(&self) {
            let hangs = self.hangs.lock().unwrap();
            drop(self.goes_on.wait_while(hangs, |hangs| *hangs).unwrap());
        }
    }

    impl Calls for Fake {
        fn read(
            &self,
            offset: u64,
            len: usize,
            mut buffer: Vec<u8>,
        ) -> Result<Vec<u8>, FaultCause> {
            self.call();
            let at = usize::try_from(offset).unwrap();
            let bytes = self.bytes.lock().unwrap();
            buffer.extend(bytes.get(at..at + len).ok_or(FaultCause::OutOfRange)?);
            Ok(buffer)
        }

        fn will_need(&self, _: u64, _: u64) {
            self.call();
        }

        fn write(&self, offset: u64, new: &[u8]) -> Result<(), FaultCause> {
            self.call();
            let at = usize::try_from(offset).unwrap();
            let mut bytes = self.bytes.lock().unwrap();
            let place = bytes.get_mut(at..at + new.len()).ok_or(FaultCause::OutOfRange)?;
            place.copy_from_slice(new);
            Ok(())
        }

        fn barrier(&self) -> Result<(), FaultCause> {
            self.call();
            self.barriers.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    /// Whether the volume can do without the device, and how often that was wanted.
    #[derive(Clone)]
    struct Told(Arc<(AtomicBool, AtomicUsize)>);

    impl Spare for Told {
        fn is_spare(&self) -> bool {
            self.0.0.load(Ordering::Relaxed)
        }

        fn give_up(&self) -> bool {
            self.0.1.fetch_add(1, Ordering::Relaxed);
            self.is_spare()
        }
    }

    const LEN: usize = 1 << 20;
    const END: u64 = LEN as u64;
    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(2);

    fn lane(is_spare: bool, limit: Duration) -> (Lane, Arc<Fake>, Told) {
        let fake = Arc::new(Fake { bytes: Mutex::new(vec![0; LEN]), ..Fake::default() });
        let told = Told(Arc::new((AtomicBool::new(is_spare), AtomicUsize::new(0))));
        let lane = Lane::new(Arc::clone(&fake) as _, Box::new(told.clone()), limit);
        (lane, fake, told)
    }

    fn bytes(value: u8, len: usize) -> Bytes {
        Bytes::Owned(vec![value; len])
    }

    fn barrier(lane: &Lane) -> Result<(), FaultCause> {
        lane.begin_barrier().and_then(|pending| lane.wait(&pending))
    }

    #[test]
    fn what_is_sent_is_there_behind_the_barrier_and_in_order() {
        let (lane, _, _) = lane(true, LONG);
        for value in 0..200 {
            lane.send(u64::from(value) * 100, bytes(value, 4096)).unwrap();
        }
        barrier(&lane).unwrap();
        assert!(lane.lock().writes.is_empty());
        for value in 0..200_u8 {
            let read = lane.read(u64::from(value) * 100, 100, Vec::new()).unwrap();
            assert_eq!(read, vec![value; 100]);
        }
    }

    #[test]
    fn a_write_that_fails_is_told_by_the_barrier_and_only_once() {
        let (lane, _, _) = lane(true, LONG);
        lane.send(END - 1, bytes(1, 2)).unwrap();
        assert_eq!(barrier(&lane), Err(FaultCause::OutOfRange));
        lane.send(0, bytes(2, 2)).unwrap();
        assert_eq!(barrier(&lane), Ok(()));
        // who waits for a write hears of it himself
        assert_eq!(lane.write(END, bytes(3, 1)), Err(FaultCause::OutOfRange));
        assert_eq!(barrier(&lane), Ok(()));
        assert_eq!(lane.read(END, 1, Vec::new()), Err(FaultCause::OutOfRange));
    }

    #[test]
    fn a_write_that_failed_is_owed_to_the_next_barrier() {
        let (lane, _, told) = lane(true, LONG);
        lane.send(END - 1, bytes(1, 2)).unwrap();
        while lane.lock().error.is_none() {
            std::thread::yield_now();
        }
        // meanwhile the others are gone
        told.0.0.store(false, Ordering::Relaxed);
        assert!(lane.is_unsettled());
        assert_eq!(barrier(&lane), Err(FaultCause::OutOfRange));
        while lane.lock().since.is_some() {
            std::thread::yield_now();
        }
        assert!(!lane.is_unsettled());
    }

    #[test]
    fn much_is_made_to_last_before_anybody_asks() {
        let (lane, fake, _) = lane(true, LONG);
        for _ in 0..UNSYNCED_MAX / LEN + 1 {
            lane.send(0, bytes(1, LEN)).unwrap();
        }
        barrier(&lane).unwrap();
        assert_eq!(fake.barriers.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_device_that_hangs_is_given_up_and_gets_nothing_any_more() {
        type Call = fn(&Lane) -> Result<(), FaultCause>;
        let calls: [Call; 4] = [
            |lane| lane.read(0, 4, Vec::new()).map(drop),
            |lane| lane.write(0, bytes(2, 4)),
            barrier,
            // as much as may wait, and more
            |lane| (0..200).try_for_each(|_| lane.send(0, bytes(2, LEN))),
        ];
        for call in calls {
            let (lane, fake, told) = lane(true, SHORT);
            fake.hang(true);
            assert_eq!(call(&lane), Err(FaultCause::Stalled));
            assert!(lane.is_given_up() && told.0.1.load(Ordering::Relaxed) > 0);
            assert_eq!(lane.lock().waiting, 0, "what waited is let go");
            for call in calls {
                assert_eq!(call(&lane), Err(FaultCause::Stalled));
            }
            drop(lane);
            fake.hang(false);
        }
    }

    #[test]
    fn a_device_that_is_needed_is_waited_for() {
        let (lane, fake, told) = lane(false, SHORT);
        fake.hang(true);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| lane.read(0, 4, Vec::new()));
            let writer = scope.spawn(|| {
                lane.send(0, bytes(7, 4))?;
                barrier(&lane)
            });
            while told.0.1.load(Ordering::Relaxed) < 10 {
                std::thread::yield_now();
            }
            assert!(!reader.is_finished() && !writer.is_finished());
            fake.hang(false);
            assert_eq!(reader.join().unwrap().map(|read| read.len()), Ok(4));
            assert_eq!(writer.join().unwrap(), Ok(()));
        });
        assert!(!lane.is_given_up());
    }

    #[test]
    fn many_read_at_once() {
        let (lane, _, _) = lane(true, LONG);
        std::thread::scope(|scope| {
            for thread in 0..16_u64 {
                let lane = &lane;
                scope.spawn(move || {
                    for at in 0..100 {
                        let read = lane.read(thread * at * 10, 1000, vec![]).unwrap();
                        assert_eq!(read, vec![0; 1000]);
                    }
                });
            }
        });
        assert!(lane.lock().readers <= READERS_MAX);
    }
}
