//! Query runs on their way to the catalog: bounded pages that never block a request, and a writer in the background. While the
//! catalog is away they wait; only what finds no room is dropped, and counted.

#[cfg(test)]
mod tests;

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thyme_catalog::{Catalog, NewRun, RunPages};
use thyme_core::{Error, ErrorKind, Result};
use thyme_query::{RunRecord, RunSink};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// How many runs may wait, those on their way included; more are dropped and counted.
const MAX_WAITING: usize = 65_536;
/// Pause between writes, so that a busy server writes few large batches. Nobody waits for it: who asks for runs, and who stops
/// the server, ends it.
const PAUSE: Duration = Duration::from_millis(50);
/// Pause before runs that were not taken are written again.
const RETRY: Duration = Duration::from_millis(500);

/// The sending side.
pub struct RunLog {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something to write where there was nothing, or nothing more will come.
    filled: Notify,
    /// Ends the writer's pause early.
    asked: Notify,
    /// Runs that the writer holds.
    under_way: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    /// Written as they are stored: as text they take a tenth of their memory, which requests would miss in their working set.
    runs: RunPages,
    /// Answered once everything before is written, or has just been refused.
    flushes: Vec<oneshot::Sender<Result<()>>>,
    is_closed: bool,
}

impl RunLog {
    /// Starts the writer; it ends, with everything written, when the `RunLog` is gone.
    pub fn start(catalog: Arc<dyn Catalog>, keep: u64) -> (Arc<RunLog>, JoinHandle<()>) {
        let shared = Arc::new(Shared::default());
        let writer = tokio::spawn(write(catalog, keep, shared.clone()));
        (Arc::new(RunLog { shared }), writer)
    }

    /// Returns when all runs recorded so far are in the catalog; an error when it does not take them now.
    pub async fn flush(&self) -> Result<()> {
        let (done, wait) = oneshot::channel();
        self.shared.waiting.lock().flushes.push(done);
        self.shared.wake();
        // No answer means that the writer ended, so there is nothing left to wait for.
        wait.await.unwrap_or(Ok(()))
    }
}

impl Shared {
    fn wake(&self) {
        self.filled.notify_one();
        self.asked.notify_one();
    }

    /// Everything that waits.
    fn take(&self) -> Waiting {
        let mut waiting = self.waiting.lock();
        let is_closed = waiting.is_closed;
        let taken = std::mem::replace(&mut *waiting, Waiting { is_closed, ..Waiting::default() });
        self.under_way.store(taken.runs.len(), Ordering::Relaxed);
        taken
    }

    async fn pause(&self, pause: Duration) {
        if !self.waiting.lock().is_closed {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.asked.notified() => {}
            }
        }
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        self.shared.waiting.lock().is_closed = true;
        self.shared.wake();
    }
}

impl RunSink for RunLog {
    fn record(&self, run: &RunRecord) {
        let mut waiting = self.shared.waiting.lock();
        let before = waiting.runs.len();
        if before + self.shared.under_way.load(Ordering::Relaxed) >= MAX_WAITING
            || waiting.runs.push(&stored(run)).is_err()
        {
            drop(waiting);
            metrics::counter!("thyme_query_runs_dropped_total").increment(1);
        } else if before == 0 {
            drop(waiting);
            self.shared.filled.notify_one();
        }
    }
}

async fn write(catalog: Arc<dyn Catalog>, keep: u64, shared: Arc<Shared>) {
    loop {
        let Waiting { runs, flushes, is_closed } = shared.take();
        if runs.is_empty() && flushes.is_empty() {
            if is_closed {
                return;
            }
            shared.filled.notified().await;
        } else {
            write_until_taken(catalog.as_ref(), keep, &shared, runs, flushes).await;
        }
        shared.pause(PAUSE).await;
    }
}

/// The catalog may be away: the runs are kept until it takes them or nothing more can come. Those who wait for a flush do not wait
/// for that.
async fn write_until_taken(
    catalog: &dyn Catalog,
    keep: u64,
    shared: &Shared,
    runs: RunPages,
    mut flushes: Vec<oneshot::Sender<Result<()>>>,
) {
    let mut is_told = false;
    let mut written = catalog.add_runs(&runs, keep).await;
    while let Err(error) = &written {
        flushes.append(&mut shared.waiting.lock().flushes);
        answer(&mut flushes, &written);
        if !is_passing(error) || shared.waiting.lock().is_closed {
            metrics::counter!("thyme_query_runs_dropped_total").increment(runs.len() as u64);
            tracing::warn!(runs = runs.len(), %error, "query runs were not recorded");
            break;
        }
        if !is_told {
            tracing::warn!(%error, "query runs wait for the catalog");
            is_told = true;
        }
        shared.pause(RETRY).await;
        written = catalog.add_runs_again(&runs, keep).await;
    }
    if is_told && written.is_ok() {
        tracing::info!(runs = runs.len(), "the catalog takes query runs again");
    }
    shared.under_way.store(0, Ordering::Relaxed);
    answer(&mut flushes, &written);
}

/// Whether the catalog may take the same runs later. Anything else would keep all later ones waiting for nothing.
fn is_passing(error: &Error) -> bool {
    use ErrorKind::{DeadlineExceeded, FailedPrecondition, ResourceExhausted, Unavailable};
    matches!(error.kind(), Unavailable | ResourceExhausted | DeadlineExceeded | FailedPrecondition)
}

fn answer(flushes: &mut Vec<oneshot::Sender<Result<()>>>, written: &Result<()>) {
    for done in flushes.drain(..) {
        // The one who waited may have gone away.
        let _gone = done.send(written.clone());
    }
}

fn stored(run: &RunRecord) -> NewRun<'_> {
    NewRun {
        id: &run.id,
        featureset: &run.featureset,
        entity_ids: &run.entity_ids,
        requested_timestamp: run.requested_timestamp,
        kind: run.kind.name(),
        row_count: run.row_count,
        hit_count: run.hit_count,
        latency_us: run.latency_us,
        api_key_fingerprint: run.api_key_fingerprint.as_deref(),
        commit_id: &run.commit_id,
        watermark: run.watermark,
        error: run.error.as_deref(),
        created_at: run.created_at,
    }
}
