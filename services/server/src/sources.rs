//! Polling sources: one task per dataset that has one. Rows are published through ingest under ids that depend on their place,
//! then the cursor is saved; a crash in between polls them again, and those that are in the log already are left out (see `recall.rs`).
//! A row that is none of the dataset goes the same way, as a record for the dead letters.

mod recall;

use recall::{Recall, Saved};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thyme_catalog::{Catalog, NewActivityEvent, Severity};
use thyme_control::{Controller, SourceBoard, SourceView, Time};
use thyme_core::definition::{CompiledDataset, SourceDef};
use thyme_core::position::PositionSet;
use thyme_core::record::EventId;
use thyme_core::time::Clock;
use thyme_core::window::parse_duration;
use thyme_core::{Error, Result, Value};
use thyme_ingest::rows::{EncodedRows, Ids, RowEncoder, Unreadable};
use thyme_ingest::{Ingestor, Target};
use thyme_log::EventLog;
use thyme_sources::{Place, Poll, Source};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Rows of one poll.
const POLL_ROWS: usize = 10_000;
/// After an error a source rests this long at least.
const RETRY: Duration = Duration::from_secs(1);

/// The running sources.
pub struct Sources {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

struct Shared {
    ingestor: Arc<Ingestor>,
    log: Arc<dyn EventLog>,
    catalog: Arc<dyn Catalog>,
    board: Arc<SourceBoard>,
    clock: Arc<dyn Clock>,
}

impl Sources {
    /// Follows the deployed datasets, and which of their sources this node polls: a new one starts, one that is gone stops.
    pub fn start(
        controller: Arc<Controller>,
        ingestor: Arc<Ingestor>,
        log: Arc<dyn EventLog>,
        catalog: Arc<dyn Catalog>,
        board: Arc<SourceBoard>,
        clock: Arc<dyn Clock>,
    ) -> Sources {
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared { ingestor, log, catalog, board, clock });
        let task = tokio::spawn(follow(controller, shared, stopping));
        Sources { stop, task }
    }

    /// Polls under way are finished.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the sources ended badly");
        }
    }
}

struct Running {
    source: SourceDef,
    dataset: String,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    async fn end(self, board: &SourceBoard) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, dataset = self.dataset, "a source ended badly");
        }
        board.remove(&self.dataset);
    }
}

async fn follow(controller: Arc<Controller>, shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut running: BTreeMap<String, Running> = BTreeMap::new();
    let (mut datasets, mut owned) = (controller.ingest_datasets(), controller.owned());
    loop {
        owned.mark_unchanged();
        let deployed = datasets.borrow_and_update().clone();
        let mut wanted = BTreeMap::new();
        for entry in deployed.iter().filter(|entry| controller.polls(&entry.dataset)) {
            if let Some(source) = &entry.dataset.source {
                wanted.insert(entry.dataset.identity(), (entry.dataset.clone(), source.clone()));
            }
        }
        let gone: Vec<String> = running
            .iter()
            .filter(|(identity, known)| wanted.get(*identity).is_none_or(|(_, source)| *source != known.source))
            .map(|(identity, _)| identity.clone())
            .collect();
        for identity in gone {
            if let Some(known) = running.remove(&identity) {
                known.end(&shared.board).await;
            }
        }
        for (identity, (dataset, source)) in wanted {
            running.entry(identity).or_insert_with(|| start(dataset, source, shared.clone()));
        }
        tokio::select! {
            changed = datasets.changed() => if changed.is_err() { break },
            changed = owned.changed() => if changed.is_err() { break },
            _ = stopping.wait_for(|stop| *stop) => break,
        }
    }
    for (_, known) in running {
        known.end(&shared.board).await;
    }
}

fn start(dataset: Arc<CompiledDataset>, source: SourceDef, shared: Arc<Shared>) -> Running {
    let (stop, stopping) = watch::channel(false);
    shared.board.put(SourceView {
        dataset: dataset.name.clone(),
        kind: source.kind.clone(),
        state: "waiting".to_string(),
        cursor: String::new(),
        rows: 0,
        rejected: 0,
        error: None,
        last_poll: None,
        metadata: source.metadata.clone(),
        settings: source.settings.clone(),
    });
    let name = dataset.name.clone();
    let task = tokio::spawn(poll_until_stopped(dataset, source.clone(), shared, stopping));
    Running { source, dataset: name, stop, task }
}

async fn poll_until_stopped(
    dataset: Arc<CompiledDataset>,
    definition: SourceDef,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<bool>,
) {
    let every = definition.every.as_deref().and_then(|text| parse_duration(text).ok());
    let every = every.and_then(|micros| u64::try_from(micros).ok()).map(Duration::from_micros);
    let every = every.unwrap_or_else(|| thyme_sources::default_every(&definition.kind));
    let mut source: Option<Box<dyn Source>> = None;
    // Until the source has been read to its end, some of it may have been published before.
    let mut recall = Some(Recall::default());
    let mut last_error = String::new();
    let gate = shared.board.gate(&dataset.identity());
    let mut orders = gate.orders();
    while !*stopping.borrow() {
        let turn = gate.turn().await;
        // What is being read when somebody gives an order is not published: it is read again.
        let read = tokio::select! {
            read = read_once(&dataset, &definition, &mut source, &shared) => Some(read),
            _ = orders.changed() => None,
            _ = stopping.wait_for(|stop| *stop) => None,
        };
        let polled = match read {
            None => continue,
            Some(Ok(Some(read))) => take(&dataset, read, &mut recall, &shared).await,
            Some(Ok(None)) => Ok(false),
            Some(Err(error)) => Err(error),
        };
        drop(turn);
        let rest = match polled {
            Ok(has_more) => {
                last_error.clear();
                if has_more { Duration::ZERO } else { every }
            }
            Err(error) => {
                source = None;
                recall = Some(Recall::default());
                let text = error.to_string();
                if text != last_error {
                    tracing::warn!(dataset = dataset.name, %error, "a source failed and will be tried again");
                    report(&shared, &dataset, "source.failed", Severity::Error, text.clone(), serde_json::json!({}))
                        .await;
                }
                shared.board.update(&dataset.name, |view| {
                    view.state = "failed".to_string();
                    view.error = Some(text.clone());
                });
                last_error = text;
                every.max(RETRY)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            _ = orders.changed() => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }
}

/// What a poll found, and the cursor it began with.
struct Read {
    poll: Poll,
    saved: Option<Saved>,
}

/// Changes nothing, so it may be given up anywhere. `None` if the source is paused.
async fn read_once(
    dataset: &Arc<CompiledDataset>,
    definition: &SourceDef,
    source: &mut Option<Box<dyn Source>>,
    shared: &Shared,
) -> Result<Option<Read>> {
    let identity = dataset.identity();
    if shared.catalog.is_paused(&identity).await? {
        *source = None;
        shared.board.update(&dataset.name, |view| {
            view.state = "paused".to_string();
            view.error = None;
        });
        return Ok(None);
    }
    let saved = shared.catalog.cursor(&identity).await?.as_deref().map(Saved::read);
    let cursor = saved.as_ref().and_then(|saved| saved.cursor.clone()).map(String::into_bytes);
    let mut polled = match source.take() {
        Some(source) => source,
        None => thyme_sources::open(definition, &dataset.fields)?,
    };
    // On a thread that may block.
    let read = tokio::task::spawn_blocking(move || {
        let poll = polled.poll(cursor.as_deref(), POLL_ROWS);
        (polled, poll)
    });
    let (polled, poll) = read.await.map_err(|error| thyme_core::Error::internal(error.to_string()))?;
    let poll = poll?;
    *source = Some(polled);
    Ok(Some(Read { poll, saved }))
}

/// Rows to the log, then the cursor to the catalog. Whether another poll is worth while at once.
async fn take(
    dataset: &Arc<CompiledDataset>,
    read: Read,
    recall: &mut Option<Recall>,
    shared: &Shared,
) -> Result<bool> {
    let Read { poll, saved } = read;
    let target = shared.ingestor.target(&dataset.name)?;
    let before = saved.clone();
    let mut saved = saved.unwrap_or_default();
    let has_rows = !poll.rows.is_empty() || !poll.rejected.is_empty();
    if saved.log.is_empty() {
        let (log, topic, partitions) = (shared.log.clone(), target.topic.clone(), dataset.partitions);
        saved.log = blocking(move || recall::ends(log.as_ref(), &topic, partitions)).await?;
        if has_rows {
            save(dataset, &saved, shared).await?;
        }
    }
    let mut accepted = 0;
    if has_rows {
        let (appended, position) = publish(dataset, &target, &poll, (recall, &saved.log), shared).await?;
        accepted = appended;
        saved.log.extend(position.0.into_iter().map(|((_, partition), next)| (partition, next)));
    }
    let cursor = String::from_utf8(poll.cursor).map_err(|_| Error::internal("a source's cursor is not text"))?;
    saved.cursor = Some(cursor.clone());
    if before.as_ref() != Some(&saved) {
        save(dataset, &saved, shared).await?;
    }
    if !poll.has_more {
        *recall = None;
    }
    let now = shared.clock.now();
    shared.board.update(&dataset.name, |view| {
        view.state = if poll.has_more { "running" } else { "waiting" }.to_string();
        view.cursor = cursor;
        view.rows += accepted;
        view.error = poll.pending.clone();
        view.last_poll = Some(Time(now));
    });
    Ok(poll.has_more)
}

async fn save(dataset: &CompiledDataset, saved: &Saved, shared: &Shared) -> Result<()> {
    shared.catalog.save_cursor(&dataset.identity(), &saved.written()?, shared.clock.now()).await
}

/// On a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error.to_string()))?
}

/// Leaves out what is in the log behind the saved cursor, while that may be.
async fn leave_out(
    rows: EncodedRows,
    topic: &str,
    (recall, from): (&mut Option<Recall>, &BTreeMap<u16, u64>),
    shared: &Shared,
) -> Result<EncodedRows> {
    let Some(mut known) = recall.take() else { return Ok(rows) };
    let (log, topic, from) = (shared.log.clone(), topic.to_string(), from.clone());
    let (known, rows) = blocking(move || {
        let rows = known.leave_out(log.as_ref(), &topic, &from, rows)?;
        Ok((known, rows))
    })
    .await?;
    *recall = Some(known);
    Ok(rows)
}

/// How many rows were appended, and where what was appended ends.
async fn publish(
    dataset: &Arc<CompiledDataset>,
    target: &Target,
    poll: &Poll,
    recall: (&mut Option<Recall>, &BTreeMap<u16, u64>),
    shared: &Shared,
) -> Result<(u64, PositionSet)> {
    let mut encoder = shared.ingestor.encoder(target, Ids::None);
    let mut reasons = Vec::new();
    let dead = |encoder: &mut RowEncoder<'_>, values: &[Value], id: &EventId, reason: &str, text: &str| {
        let key: Option<Vec<Value>> =
            dataset.key_columns.iter().map(|&column| values.get(column).filter(|v| !v.is_null()).cloned()).collect();
        encoder.unreadable(Unreadable { id, reason, key: key.as_deref(), text });
    };
    for row in &poll.rejected {
        let reason = format!("{}: {}", row.place, row.reason);
        dead(&mut encoder, &row.values, &row.id, &reason, &row.sample);
        // The feed gets no key: an erase does not reach it.
        reasons.push(if matches!(row.place, Place::Key(_)) { row.reason.to_string() } else { reason });
    }
    for row in &poll.rows {
        let named: BTreeMap<String, Value> =
            dataset.fields.iter().map(|field| field.name.clone()).zip(row.values.iter().cloned()).collect();
        let EventId::Given(id) = &row.id else { continue };
        encoder.named(Ok(named), Some(id.as_ref()));
        // What reads as a row and still is none, such as one of the year 20000.
        for rejected in encoder.take_rejected() {
            let reason = format!("row {}: {}", String::from_utf8_lossy(id), rejected.reason);
            dead(&mut encoder, &row.values, &row.id, &reason, "");
            reasons.push(reason);
        }
    }
    let rows = leave_out(encoder.finish(), &target.topic, recall, shared).await?;
    let receipt = shared.ingestor.append(target, rows).await?;
    note_rejected(dataset, reasons.len(), shared);
    if let Some(first) = reasons.first() {
        let more = if reasons.len() > 1 { format!(" (and {} more rows)", reasons.len() - 1) } else { String::new() };
        // Without the row itself: an erase does not reach this feed.
        let detail = serde_json::json!({"rows": reasons.len()});
        report(shared, dataset, "source.row_rejected", Severity::Warning, format!("{first}{more}"), detail).await;
    }
    Ok((receipt.accepted, receipt.position))
}

fn note_rejected(dataset: &CompiledDataset, rows: usize, shared: &Shared) {
    let counter = metrics::counter!("thyme_source_rejected_rows_total", "dataset" => dataset.name.clone());
    counter.increment(rows as u64);
    shared.board.update(&dataset.name, |view| view.rejected += rows as u64);
}

async fn report(
    shared: &Shared,
    dataset: &CompiledDataset,
    event_type: &str,
    severity: Severity,
    message: String,
    detail: serde_json::Value,
) {
    let event = NewActivityEvent {
        event_type: event_type.to_string(),
        severity,
        source: "sources".to_string(),
        subject: dataset.name.clone(),
        message,
        detail,
        created_at: shared.clock.now(),
    };
    if let Err(error) = shared.catalog.add_event(event).await {
        tracing::warn!(%error, "an event was not recorded");
    }
}
