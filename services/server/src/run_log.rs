//! Query runs on their way to the catalog: bounded pages that never block a request, and a writer in the background.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use thyme_catalog::{Catalog, NewRun, RunPages};
use thyme_query::{RunRecord, RunSink};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// How many runs may wait; more are dropped and counted.
const MAX_WAITING: usize = 65_536;
/// Pause between writes, so that a busy server writes few large batches. Nobody waits for it: who asks for runs, and who stops
/// the server, ends it.
const PAUSE: Duration = Duration::from_millis(50);

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
}

#[derive(Default)]
struct Waiting {
    /// Written as they are stored: as text they take a tenth of their memory, which requests would miss in their working set.
    runs: RunPages,
    /// Answered once everything before is written.
    flushes: Vec<oneshot::Sender<()>>,
    is_closed: bool,
}

impl RunLog {
    /// Starts the writer; it ends, with everything written, when the `RunLog` is gone.
    pub fn start(catalog: Arc<dyn Catalog>, keep: u64) -> (Arc<RunLog>, JoinHandle<()>) {
        let shared = Arc::new(Shared::default());
        let writer = tokio::spawn(write(catalog, keep, shared.clone()));
        (Arc::new(RunLog { shared }), writer)
    }

    /// Returns when all runs recorded so far are in the catalog.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        self.shared.waiting.lock().flushes.push(done);
        self.shared.wake();
        // An error means that the writer ended, so there is nothing left to wait for.
        let _ended = wait.await;
    }
}

impl Shared {
    fn wake(&self) {
        self.filled.notify_one();
        self.asked.notify_one();
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
        if before >= MAX_WAITING || waiting.runs.push(&stored(run)).is_err() {
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
        let Waiting { runs, flushes, is_closed } = {
            let mut waiting = shared.waiting.lock();
            let is_closed = waiting.is_closed;
            std::mem::replace(&mut *waiting, Waiting { is_closed, ..Waiting::default() })
        };
        if runs.is_empty() && flushes.is_empty() {
            if is_closed {
                return;
            }
            shared.filled.notified().await;
        } else {
            let count = runs.len();
            if count > 0
                && let Err(error) = catalog.add_runs(runs, keep).await
            {
                metrics::counter!("thyme_query_runs_dropped_total").increment(count as u64);
                tracing::warn!(runs = count, %error, "query runs were not recorded");
            }
            for done in flushes {
                // The one who waited may have gone away.
                let _gone = done.send(());
            }
        }
        if !shared.waiting.lock().is_closed {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = shared.asked.notified() => {}
            }
        }
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
