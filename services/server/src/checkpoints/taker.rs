//! Takes checkpoints of the running state and stores them; a follower compares its own state with them (`compare`). Streaming never waits for it: the copy is hard links, and what the store
//! does or does not do is seen in the status, in metrics and in the event feed.

use super::compare::Comparing;
use super::{CATALOG, look, restore};
use crate::config::CheckpointConfig;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_catalog::{Catalog, NewActivityEvent, Severity};
use thyme_checkpoint::{Checkpoints, Facts, Manifest, Saved};
use thyme_control::{CheckpointBoard, CheckpointStatus, Controller, Time};
use thyme_core::slice::Slice;
use thyme_core::time::Clock;
use thyme_core::{Error, Result};
use thyme_state::StateStore;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// After a failure, wait this long, doubling up to the interval.
const RETRY: Duration = Duration::from_secs(2);
/// What is younger stays in any case: it may belong to an upload under way, or be read by a server that is just starting.
const GRACE: Duration = Duration::from_secs(3600);

/// What is needed to take checkpoints.
pub struct Taker {
    pub checkpoints: Arc<Checkpoints>,
    pub slice: Slice,
    pub config: CheckpointConfig,
    /// Where the copy is made; on the file system of the state.
    pub directory: PathBuf,
    /// Of the slice.
    pub state: Arc<StateStore>,
    pub controller: Arc<Controller>,
    pub catalog: Arc<dyn Catalog>,
    pub board: Arc<CheckpointBoard>,
    pub clock: Arc<dyn Clock>,
}

/// The task that takes them, until it is stopped.
pub struct RunningTaker {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl RunningTaker {
    /// An upload under way is cut short, which leaves the store as it was.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if self.task.await.is_err() {
            tracing::error!("the task that takes checkpoints panicked");
        }
    }
}

impl Taker {
    pub fn start(self) -> RunningTaker {
        let (stop, stopping) = watch::channel(false);
        RunningTaker { stop, task: tokio::spawn(self.run(stopping)) }
    }

    async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut retry = RETRY;
        let mut comparing = Comparing::default();
        let mut pause = tokio::select! {
            pause = self.first_pause() => pause,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            let taken = tokio::select! {
                taken = self.take(&mut comparing) => taken,
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            // It would keep the space of files that the state has deleted since.
            match taken.and_then(|()| if comparing.holds() { Ok(()) } else { restore::remove(&self.directory) }) {
                Ok(()) => {
                    pause = self.config.interval;
                    retry = RETRY;
                }
                Err(error) => {
                    self.failed(&error).await;
                    pause = retry.min(self.config.interval);
                    retry = (retry * 2).min(self.config.interval.max(RETRY));
                }
            }
        }
    }

    /// What is left of the interval since the newest checkpoint, so that restarts do not make for more of them or fewer.
    async fn first_pause(&self) -> Duration {
        let newest = match self.checkpoints.newest().await {
            Ok(newest) => newest,
            Err(error) => {
                self.failed(&error).await;
                return RETRY.min(self.config.interval);
            }
        };
        let Some(newest) = newest else { return Duration::from_secs(1).min(self.config.interval) };
        self.board.update(self.slice.index, |status| show(status, &newest));
        let age = self.clock.now().saturating_sub(newest.facts.created_at);
        let age = Duration::from_micros(u64::try_from(age).unwrap_or_default());
        self.config.interval.saturating_sub(age)
    }

    fn owns(&self) -> bool {
        self.controller.owned().borrow().contains(&self.slice.index)
    }

    /// Takes one. Before the first commit there is nothing to take, and a follower leaves it to the owner.
    async fn take(&self, comparing: &mut Comparing) -> Result<()> {
        if !self.owns() {
            return self.compare(comparing).await;
        }
        *comparing = Comparing::default();
        let Some(live) = self.controller.serving().live.clone() else { return Ok(()) };
        let started = Instant::now();
        let facts = self.copy(live.commit_id.to_string()).await?;
        let created_at = facts.created_at;
        let saved = self.checkpoints.save(&self.directory, facts).await?;
        let seconds = started.elapsed().as_secs_f64();
        match saved {
            Saved::Written(manifest, upload) => {
                tracing::info!(
                    checkpoint = manifest.number,
                    bytes = manifest.size(),
                    sent = upload.bytes,
                    seconds,
                    "saved"
                );
                metrics::counter!("thyme_checkpoints_total").increment(1);
                metrics::counter!("thyme_checkpoint_uploaded_bytes_total").increment(upload.bytes);
                self.board.update(self.slice.index, |status| {
                    show(status, &manifest);
                    status.uploaded_bytes = upload.bytes;
                    status.duration_seconds = seconds;
                });
            }
            Saved::Current(manifest) => self.board.update(self.slice.index, |status| {
                show(status, &manifest);
                status.current_at = Some(created_at);
            }),
            Saved::Superseded(other) => {
                tracing::warn!(checkpoint = other.number, "another server has stored a newer checkpoint");
                self.board.update(self.slice.index, |status| show(status, &other));
            }
            Saved::Diverged(other) => self.diverged(&other).await,
        }
        self.recovered().await;
        if !self.board.is_diverged(self.slice.index) {
            // Of two states that differ one is wrong, and nobody knows yet which: nothing is deleted.
            self.checkpoints.prune(self.config.keep, GRACE, self.clock.now()).await?;
        }
        Ok(())
    }

    /// A copy of the state and then of the catalog, which so knows every table in it.
    async fn copy(&self, commit: String) -> Result<Facts> {
        let (state, directory) = (self.state.clone(), self.directory.clone());
        let created_at = self.clock.now();
        blocking(move || {
            restore::remove(&directory)?;
            state.checkpoint(&directory)
        })
        .await?;
        self.catalog.copy_to(&self.directory.join(CATALOG)).await?;
        let directory = self.directory.clone();
        blocking(move || look::facts_of(&directory, commit, created_at)).await
    }

    async fn failed(&self, error: &Error) {
        let done = if self.owns() { "stored" } else { "compared" };
        tracing::warn!(%error, "no checkpoint was {done}; streaming goes on");
        metrics::counter!("thyme_checkpoint_failures_total").increment(1);
        let mut is_first = false;
        self.board.update(self.slice.index, |status| {
            is_first = status.trouble.is_none();
            status.failures += 1;
            status.trouble = Some(error.to_string());
        });
        if is_first {
            let message = format!("no checkpoint was {done}, streaming goes on: {error}");
            self.report("checkpoint.failed", Severity::Warning, message).await;
        }
    }

    pub(super) async fn recovered(&self) {
        let mut had_failed = false;
        self.board.update(self.slice.index, |status| had_failed = status.trouble.take().is_some());
        if had_failed {
            self.report("checkpoint.recovered", Severity::Info, "checkpoints are stored again".to_string()).await;
        }
    }

    pub(super) async fn diverged(&self, other: &Manifest) {
        let message = format!(
            "the state and checkpoint {} are at the same place in the log and differ: one of them is wrong; run thyme rebuild",
            other.number
        );
        tracing::error!("{message}");
        metrics::counter!("thyme_checkpoint_divergences_total").increment(1);
        let mut is_new = false;
        self.board.update(self.slice.index, |status| {
            show(status, other);
            is_new = status.diverged.as_ref() != Some(&message);
            status.diverged = Some(message.clone());
        });
        if is_new {
            self.report("checkpoint.diverged", Severity::Error, message).await;
        }
    }

    /// An entry of the event feed, which is for people: a failure to write it stops nothing.
    async fn report(&self, event_type: &str, severity: Severity, message: String) {
        report(self.catalog.as_ref(), self.clock.now(), event_type, severity, message).await;
    }
}

pub async fn report(catalog: &dyn Catalog, now: i64, event_type: &str, severity: Severity, message: String) {
    let event = NewActivityEvent {
        event_type: event_type.to_string(),
        severity,
        source: "checkpoints".to_string(),
        subject: String::new(),
        message,
        detail: serde_json::json!({}),
        created_at: now,
    };
    if let Err(error) = catalog.add_event(event).await {
        tracing::warn!(%error, "an event was not recorded");
    }
}

pub(super) fn show(status: &mut CheckpointStatus, newest: &Manifest) {
    status.number = Some(newest.number);
    status.taken_at = Some(Time(newest.facts.created_at));
    status.current_at = Some(newest.facts.created_at);
    status.size_bytes = newest.size();
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error.to_string()))?
}
