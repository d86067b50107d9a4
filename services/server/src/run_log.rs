//! Query runs on their way to the catalog: a bounded queue that never blocks a request, and a writer in the background.

use std::sync::Arc;
use std::time::Duration;
use thyme_catalog::{Catalog, QueryRun};
use thyme_core::position::PositionSet;
use thyme_query::{RunRecord, RunSink};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

/// How many runs may wait; more are dropped and counted.
const QUEUE: usize = 65_536;
/// Most runs of one write.
const BATCH: usize = 4_096;
/// Pause between writes, so that a busy server writes few large batches. Nobody waits for it: who asks for runs, and who stops
/// the server, ends it.
const PAUSE: Duration = Duration::from_millis(50);

enum Message {
    Run(Box<RunRecord>),
    /// Answered once everything before it is written.
    Flush(oneshot::Sender<()>),
}

/// The sending side.
pub struct RunLog {
    sender: mpsc::Sender<Message>,
    /// Ends the writer's pause early.
    asked: Arc<Notify>,
}

impl RunLog {
    /// Starts the writer; it ends, with everything written, when the `RunLog` is gone.
    pub fn start(catalog: Arc<dyn Catalog>, keep: u64) -> (Arc<RunLog>, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let asked = Arc::new(Notify::new());
        let writer = tokio::spawn(write(catalog, keep, receiver, asked.clone()));
        (Arc::new(RunLog { sender, asked }), writer)
    }

    /// Returns when all runs recorded so far are in the catalog.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).await.is_ok() {
            self.asked.notify_one();
            // An error means that the writer ended, so there is nothing left to wait for.
            let _ended = wait.await;
        }
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        // The writer need not sleep on for runs that cannot come.
        self.asked.notify_one();
    }
}

impl RunSink for RunLog {
    fn record(&self, mut run: RunRecord) {
        // Not stored, and while it waited its memory would be missing from the requests' working set.
        run.position = PositionSet::default();
        if self.sender.try_send(Message::Run(Box::new(run))).is_err() {
            metrics::counter!("thyme_query_runs_dropped_total").increment(1);
        }
    }
}

async fn write(catalog: Arc<dyn Catalog>, keep: u64, mut receiver: mpsc::Receiver<Message>, asked: Arc<Notify>) {
    let mut messages = Vec::with_capacity(BATCH);
    while receiver.recv_many(&mut messages, BATCH).await > 0 {
        let mut runs = Vec::with_capacity(messages.len());
        let mut waiting = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Run(run) => runs.push(stored(*run)),
                Message::Flush(done) => waiting.push(done),
            }
        }
        if let Err(error) = catalog.add_runs(&runs, keep).await {
            metrics::counter!("thyme_query_runs_dropped_total").increment(runs.len() as u64);
            tracing::warn!(runs = runs.len(), %error, "query runs were not recorded");
        }
        for done in waiting {
            // The one who waited may have gone away.
            let _gone = done.send(());
        }
        if receiver.is_empty() && !receiver.is_closed() {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = asked.notified() => {}
            }
        }
    }
}

fn stored(run: RunRecord) -> QueryRun {
    QueryRun {
        id: run.id.to_string(),
        featureset: run.featureset.to_string(),
        entity_ids: run.entity_ids,
        requested_timestamp: run.requested_timestamp,
        kind: run.kind.name().to_string(),
        row_count: run.row_count,
        hit_count: run.hit_count,
        latency_us: run.latency_us,
        api_key_fingerprint: run.api_key_fingerprint.map(|fingerprint| fingerprint.to_string()),
        commit_id: run.commit_id.to_string(),
        watermark: run.watermark,
        error: run.error,
        created_at: run.created_at,
    }
}
