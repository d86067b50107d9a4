//! Deadlines. The watchdog never takes the interpreter, so that native code that holds it cannot stop it; a thread of its own
//! raises the interrupts.

use crate::glue::glue;
use crate::pool::{Pool, Worker};
use pyo3::prelude::*;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often deadlines are looked at.
const EVERY: Duration = Duration::from_millis(5);
/// How long after its interrupt a call may take to end before its worker is given up.
const GRACE: Duration = Duration::from_millis(250);
/// An interrupt that user code swallowed is raised again.
const AGAIN: Duration = Duration::from_millis(50);

pub(crate) fn start(pool: &Arc<Pool>) -> std::io::Result<()> {
    let (interrupts, incoming) = mpsc::channel::<Arc<Worker>>();
    std::thread::Builder::new().name("thyme-interrupts".to_string()).spawn(move || {
        for worker in incoming {
            raise_in(&worker);
            worker.raised.fetch_add(1, Ordering::AcqRel);
        }
    })?;
    let pool = pool.clone();
    std::thread::Builder::new().name("thyme-watchdog".to_string()).spawn(move || {
        loop {
            std::thread::sleep(EVERY);
            look(&pool, &interrupts);
        }
    })?;
    Ok(())
}

fn look(pool: &Arc<Pool>, interrupts: &mpsc::Sender<Arc<Worker>>) {
    let now = pool.now();
    let mut lost = Vec::new();
    pool.workers.lock().retain(|worker| {
        if let Some(visit) = &worker.visit {
            visit.relieve(now, EVERY);
        }
        let mut running = worker.running.lock();
        let Some(job) = running.as_mut() else { return true };
        let elapsed = Duration::from_micros(now.saturating_sub(worker.row_started.load(Ordering::Acquire)));
        if job.reply.as_ref().is_some_and(oneshot::Sender::is_closed) {
            // Its caller has gone, or the caller's own deadline has passed: what is left of its time is taken from others.
            job.deadline = job.deadline.min(elapsed);
        }
        if elapsed <= job.deadline {
            return true;
        }
        if elapsed > job.deadline + GRACE {
            // Counted before the answer goes out: whoever has it finds it counted.
            pool.lost.fetch_add(1, Ordering::AcqRel);
            metrics::counter!("thyme_extractor_workers_lost_total").increment(1);
            worker.abandoned.store(true, Ordering::Release);
            if let Some(reply) = job.reply.take() {
                let reason: Arc<str> = format!(
                    "did not return within {} ms and could not be interrupted; its worker was replaced",
                    job.deadline.as_millis()
                )
                .into();
                drop(reply.send(vec![Err(reason); job.row_count]));
            }
            lost.push(worker.clone());
            return false;
        }
        if job.interrupted.is_none_or(|before| before.elapsed() >= AGAIN) {
            job.interrupted = Some(Instant::now());
            worker.sent.fetch_add(1, Ordering::AcqRel);
            // The receiver lives as long as the process.
            drop(interrupts.send(worker.clone()));
        }
        true
    });
    for worker in lost {
        tracing::warn!("an extractor is stuck in native code: its request failed and its worker was replaced");
        // A runtime has threads to spare.
        if worker.visit.is_none()
            && !pool.is_closing()
            && let Err(error) = pool.start_worker()
        {
            tracing::error!(%error, "a lost extractor worker could not be replaced");
        }
    }
}

/// Raises in the worker's thread. The worker does not leave the row that was interrupted before this is done.
fn raise_in(worker: &Worker) {
    Python::attach(|py| {
        let thread = worker.thread.load(Ordering::Acquire);
        if let Err(error) = glue(py).and_then(|glue| glue.call_method1("interrupt", (thread,))) {
            tracing::error!(%error, "an extractor could not be interrupted");
        }
    });
}
