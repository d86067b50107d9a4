//! Short calls run on the thread of the runtime that asks: to wake another thread and be woken by it takes several times as long
//! as a short function does.
//!
//! What deadlines promise holds here, too. The call is a task of its own, so that the watchdog can answer in its place. A thread
//! that is stuck keeps its seat, and seats are fewer than the runtime's threads: whatever hangs, some are left. These may all be
//! asleep when the thread that watched the sockets starts a call, so the watchdog wakes one of them when a call turns out long.

use crate::context::LookupContext;
use crate::glue::glue;
use crate::pool::{Job, Pool, Worker};
use pyo3::intern;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};

/// A call that is expected to take longer is handed to a worker.
const SHORT: Duration = Duration::from_micros(200);
/// Stands for "not in a call".
const NEVER: u64 = u64::MAX;

/// What the watchdog knows of a runtime's thread besides its rows.
pub(crate) struct Visit {
    runtime: Handle,
    /// Microseconds since the pool's start at which it began to ask for the interpreter.
    entered: AtomicU64,
    /// Whether another thread was woken because this one takes long.
    relieved: AtomicBool,
}

impl Visit {
    /// Wakes another thread of the runtime if this one was not back after `limit`.
    pub fn relieve(&self, now: u64, limit: Duration) {
        let inside = Duration::from_micros(now.saturating_sub(self.entered.load(Ordering::Acquire)));
        if inside > limit && !self.relieved.swap(true, Ordering::AcqRel) {
            // A task without work: the thread that takes it looks for others, and then at the sockets.
            self.runtime.spawn(async {});
        }
    }
}

/// The runtime whose threads may take calls, where this is one.
fn host() -> Option<Handle> {
    let runtime = Handle::try_current().ok()?;
    (runtime.runtime_flavor() == RuntimeFlavor::MultiThread).then_some(runtime)
}

/// Runs a job soon: here if it is expected to be short, else on a worker.
pub(crate) fn submit(pool: &Arc<Pool>, job: Job) {
    let is_short = job.loaded.pace.expected(job.call.rows.len()).is_some_and(|expected| expected <= SHORT);
    let Some(runtime) = host().filter(|_| is_short) else { return pool.push(job) };
    let (pool, own) = (pool.clone(), runtime.clone());
    runtime.spawn(async move {
        // Whatever else is ready goes first: nothing is left in the queue of a thread that may not come back soon.
        tokio::task::yield_now().await;
        let seats = own.metrics().num_workers().saturating_sub(1);
        let Some(seat) = pool.take_seat(seats) else { return pool.push(job) };
        run(&pool, own, job);
        drop(seat);
    });
}

fn run(pool: &Arc<Pool>, runtime: Handle, job: Job) {
    if job.reply.is_closed() {
        return;
    }
    let worker = introduce(pool, runtime);
    let Some(_busy) = pool.enter(&worker) else { return };
    if let Some(visit) = &worker.visit {
        // The interpreter may be busy: to wait for it is to be away, though the call's own deadline has not begun.
        visit.relieved.store(false, Ordering::Release);
        visit.entered.store(pool.now(), Ordering::Release);
    }
    let answered = Python::attach(|py| match context(py, &worker) {
        Ok(context) => pool.serve(py, &worker, &context, job),
        Err(error) => {
            tracing::error!(%error, "a thread cannot call extractors");
            None
        }
    });
    if let Some(visit) = &worker.visit {
        visit.entered.store(NEVER, Ordering::Release);
    }
    if worker.abandoned.swap(false, Ordering::AcqRel) {
        // It came back after all.
        pool.lost.fetch_sub(1, Ordering::AcqRel);
        pool.workers.lock().push(worker.clone());
    }
    if let Some((reply, answer)) = answered {
        // Nobody waits any more if the request was given up.
        drop(reply.send(answer));
    }
}

thread_local! {
    static GUEST: RefCell<Option<Guest>> = const { RefCell::new(None) };
}

/// A thread that called an extractor before.
struct Guest {
    pool: Arc<Pool>,
    worker: Arc<Worker>,
    /// None until it had the interpreter.
    context: Option<Py<LookupContext>>,
}

/// What the watchdog sees of this thread; made when it comes first.
fn introduce(pool: &Arc<Pool>, runtime: Handle) -> Arc<Worker> {
    GUEST.with_borrow_mut(|guest| {
        let guest = guest.get_or_insert_with(|| {
            let visit = Visit { runtime, entered: AtomicU64::new(NEVER), relieved: AtomicBool::new(false) };
            let worker = Arc::new(Worker::new(Some(visit)));
            pool.workers.lock().push(worker.clone());
            Guest { pool: pool.clone(), worker, context: None }
        });
        guest.worker.clone()
    })
}

/// The context of this thread. It keeps its Python thread state from now on: to make one takes longer than a short call.
fn context<'py>(py: Python<'py>, worker: &Worker) -> PyResult<Bound<'py, LookupContext>> {
    let known = GUEST.with_borrow(|guest| Some(guest.as_ref()?.context.as_ref()?.clone_ref(py)));
    if let Some(known) = known {
        return Ok(known.into_bound(py));
    }
    let context = Bound::new(py, LookupContext::new())?;
    let thread: u64 = glue(py)?.call_method1("start_guest", (&context,))?.extract()?;
    worker.thread.store(thread, Ordering::Release);
    GUEST.with_borrow_mut(|guest| {
        if let Some(guest) = guest {
            guest.context = Some(context.clone().unbind());
        }
    });
    Ok(context)
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.pool.workers.lock().retain(|worker| !Arc::ptr_eq(worker, &self.worker));
        if self.context.is_none() {
            return;
        }
        Python::try_attach(|py| {
            if let Err(error) = glue(py).and_then(|glue| glue.call_method0(intern!(py, "end_guest"))) {
                tracing::debug!(%error, "the Python state of a thread was not released");
            }
        });
    }
}
