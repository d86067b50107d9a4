//! The pool: a queue of calls and the worker threads that take them, and seats for threads that take their own.

use crate::call;
use crate::context::LookupContext;
use crate::glue::glue;
use crate::guest::Visit;
use crate::loader::Loaded;
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thyme_query::{ExtractedRows, ExtractorCall};
use tokio::sync::oneshot;

/// A call with the function it is for and the place for its answer.
pub(crate) struct Job {
    pub call: ExtractorCall,
    pub loaded: Arc<Loaded>,
    pub reply: oneshot::Sender<ExtractedRows>,
}

/// The call a worker is busy with.
pub(crate) struct Running {
    pub deadline: Duration,
    pub row_count: usize,
    /// Taken by whoever answers first: the worker, or the watchdog.
    pub reply: Option<oneshot::Sender<ExtractedRows>>,
    /// When the watchdog last interrupted it.
    pub interrupted: Option<Instant>,
}

/// What the watchdog sees of a worker.
pub(crate) struct Worker {
    pub running: Mutex<Option<Running>>,
    /// Microseconds since the pool's start at which the present row began.
    pub row_started: AtomicU64,
    /// Python's identity of the thread.
    pub thread: AtomicU64,
    /// Interrupts that the watchdog asked for in this row, and those that were raised.
    pub sent: AtomicU32,
    pub raised: AtomicU32,
    /// While it starts, and from taking a job to having answered it.
    pub busy: AtomicBool,
    /// Given up: a worker thread was replaced and ends when it comes back.
    pub abandoned: AtomicBool,
    /// Where it is a thread of a runtime that runs calls of its own.
    pub visit: Option<Visit>,
}

impl Worker {
    pub fn new(visit: Option<Visit>) -> Worker {
        Worker {
            running: Mutex::new(None),
            row_started: AtomicU64::new(0),
            thread: AtomicU64::new(0),
            sent: AtomicU32::new(0),
            raised: AtomicU32::new(0),
            busy: AtomicBool::new(visit.is_none()),
            abandoned: AtomicBool::new(false),
            visit,
        }
    }
}

/// Ends a worker's call when it goes.
struct End<'w>(&'w Worker);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.row_started.store(u64::MAX, Ordering::Release);
        self.0.running.lock().take();
    }
}

impl Worker {
    /// Ends the time of the call under way; whether there is one.
    fn hurry(&self) -> bool {
        if let Some(call) = self.running.lock().as_mut() {
            call.deadline = Duration::ZERO;
        }
        self.busy.load(Ordering::Acquire)
    }
}

pub(crate) struct Pool {
    queue: Mutex<VecDeque<Job>>,
    arrived: Condvar,
    pub workers: Mutex<Vec<Arc<Worker>>>,
    /// How many threads of runtimes may be in a call at once, and how many are.
    seats: usize,
    seats_taken: AtomicUsize,
    /// Threads that were given up and have not come back.
    pub lost: AtomicUsize,
    started: Instant,
    /// The interpreter is about to end: no more calls.
    closing: AtomicBool,
}

/// A thread is busy as long as this lives.
pub(crate) struct Busy<'w>(&'w Worker);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// Leave for a thread of a runtime to run a call.
pub(crate) struct Seat<'p>(&'p Pool);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.seats_taken.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Pool {
    pub fn new(seats: usize) -> Arc<Pool> {
        Arc::new(Pool {
            queue: Mutex::new(VecDeque::new()),
            arrived: Condvar::new(),
            workers: Mutex::new(Vec::new()),
            seats,
            seats_taken: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            started: Instant::now(),
            closing: AtomicBool::new(false),
        })
    }

    /// After [`Pool::close`] the job is dropped, and its caller told that there is no worker any more.
    pub fn push(&self, job: Job) {
        let mut queue = self.queue.lock();
        if !self.is_closing() {
            queue.push_back(job);
            self.arrived.notify_one();
        }
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Takes no more calls and waits until none runs: the deadline of those under way is over, so that the watchdog interrupts
    /// them or gives their worker up. Must not be called with the interpreter held.
    pub fn close(&self) {
        let waiting = {
            let mut queue = self.queue.lock();
            self.closing.store(true, Ordering::Release);
            std::mem::take(&mut *queue)
        };
        drop(waiting);
        while self.workers.lock().iter().any(|worker| worker.hurry()) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// None where all are taken, or `limit` of them.
    pub fn take_seat(&self, limit: usize) -> Option<Seat<'_>> {
        let limit = limit.min(self.seats);
        let more = |taken| (taken < limit).then_some(taken + 1);
        self.seats_taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Seat(self))
    }

    /// Begins a call on a thread that is no worker's. After [`Pool::close`] there is none.
    pub fn enter<'w>(&self, worker: &'w Worker) -> Option<Busy<'w>> {
        let _queue = self.queue.lock();
        if self.is_closing() {
            return None;
        }
        worker.busy.store(true, Ordering::Release);
        Some(Busy(worker))
    }

    /// The next job. After [`Pool::close`] there is none: the thread waits here until the process ends, because it could not
    /// take an interpreter that is going away.
    fn pop(&self, worker: &Worker) -> Job {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.pop_front() {
                worker.busy.store(true, Ordering::Release);
                return job;
            }
            self.arrived.wait(&mut queue);
        }
    }

    /// Microseconds since the pool's start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Starts one more worker thread.
    pub fn start_worker(self: &Arc<Self>) -> std::io::Result<()> {
        let worker = Arc::new(Worker::new(None));
        let (pool, own) = (self.clone(), worker.clone());
        std::thread::Builder::new().name("thyme-extractor".to_string()).spawn(move || pool.work(&own))?;
        self.workers.lock().push(worker);
        Ok(())
    }

    fn work(self: &Arc<Self>, worker: &Arc<Worker>) {
        Python::attach(|py| {
            if let Err(error) = self.work_attached(py, worker) {
                tracing::error!(error = %error, "an extractor worker ended");
            }
            worker.busy.store(false, Ordering::Release);
        });
    }

    fn work_attached(self: &Arc<Self>, py: Python<'_>, worker: &Arc<Worker>) -> PyResult<()> {
        let context = Bound::new(py, LookupContext::new())?;
        let thread: u64 = glue(py)?.call_method1("start_worker", (&context,))?.extract()?;
        worker.thread.store(thread, Ordering::Release);
        worker.busy.store(false, Ordering::Release);
        loop {
            // The thread keeps its Python thread state; only the interpreter is let go while it waits.
            let job = py.detach(|| self.pop(worker));
            if job.reply.is_closed() {
                worker.busy.store(false, Ordering::Release);
                continue;
            }
            if let Some((reply, answer)) = self.serve(py, worker, &context, job) {
                // Nobody waits any more if the request was given up.
                drop(reply.send(answer));
            }
            worker.busy.store(false, Ordering::Release);
            if worker.abandoned.load(Ordering::Acquire) {
                self.lost.fetch_sub(1, Ordering::AcqRel);
                return Ok(());
            }
        }
    }

    /// Runs a job on this thread. The answer comes with its place, unless the watchdog took that.
    pub fn serve(
        &self,
        py: Python<'_>,
        worker: &Worker,
        context: &Bound<'_, LookupContext>,
        job: Job,
    ) -> Option<(oneshot::Sender<ExtractedRows>, ExtractedRows)> {
        let Job { call, loaded, reply } = job;
        let row_count = call.rows.len();
        let began = Instant::now();
        self.begin_row(worker);
        *worker.running.lock() =
            Some(Running { deadline: call.deadline, row_count, reply: Some(reply), interrupted: None });
        // However it ends, nothing of it stays behind for the watchdog.
        let _end = End(worker);
        let answer = call::run(py, self, worker, context, &loaded, call);
        context.get().set(None);
        loaded.pace.record(row_count, began.elapsed());
        let running = worker.running.lock().take();
        Some((running?.reply?, answer))
    }

    /// Starts the clock of a row.
    pub fn begin_row(&self, worker: &Worker) {
        worker.row_started.store(self.now(), Ordering::Release);
    }

    /// Stops the clock of a row. An interrupt that was asked for but came too late is waited for and taken back, so that it
    /// does not hit the next row. Returns whether there was one.
    pub fn end_row(&self, py: Python<'_>, worker: &Worker) -> bool {
        worker.row_started.store(u64::MAX, Ordering::Release);
        // The watchdog decides under this lock: after it, no more interrupts are sent for this row.
        drop(worker.running.lock());
        let sent = worker.sent.load(Ordering::Acquire);
        if sent == 0 {
            return false;
        }
        while worker.raised.load(Ordering::Acquire) < sent {
            py.detach(|| std::thread::sleep(Duration::from_millis(1)));
        }
        if let Err(error) = glue(py).and_then(|glue| glue.call_method0("clear_interrupt")) {
            tracing::debug!(%error, "an interrupt came while it was taken back");
        }
        worker.sent.store(0, Ordering::Release);
        worker.raised.store(0, Ordering::Release);
        true
    }
}
