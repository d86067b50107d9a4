//! Sources from outside: what they say of themselves, and test, pause, resume, reset.
//!
//! A source takes its turn for every poll, up to the moment its cursor is saved. Whoever pauses or resets it takes a turn
//! too: afterwards nothing of the old state can be written any more. An order makes a poll that still reads give up, so that nobody
//! waits for a database that does not answer.

use crate::controller::Controller;
use crate::model::{SourceTestView, SourceView, UnfitRowView};
use parking_lot::Mutex;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thyme_catalog::Severity;
use thyme_core::definition::{Compiled, CompiledDataset};
use thyme_core::window::format_duration;
use thyme_core::{Error, Result, suggest};
use thyme_sources::Poll;
use tokio::sync::{Mutex as Turn, MutexGuard, watch};

/// Rows that a test shows unless told otherwise, and at most.
const TEST_ROWS: usize = 5;
const MOST_TEST_ROWS: u32 = 1000;
/// How long a test may take.
const TEST_DEADLINE: Duration = Duration::from_secs(30);
/// The shortest `dedup_window` of a dataset with a source: a day.
const LEAST_DEDUP_WINDOW: i64 = 86_400_000_000;

/// What the sources say of themselves, and who may move one now.
#[derive(Default)]
pub struct SourceBoard {
    sources: Mutex<BTreeMap<String, SourceView>>,
    gates: Mutex<BTreeMap<String, Arc<SourceGate>>>,
}

/// Of one source.
#[derive(Default)]
pub struct SourceGate {
    turn: Turn<()>,
    orders: watch::Sender<u64>,
}

impl SourceGate {
    /// Held while the source is polled or changed.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
    /// Changes when the source is paused, resumed or reset: a poll that still reads gives up, one that rests looks again.
    pub fn orders(&self) -> watch::Receiver<u64> {
        self.orders.subscribe()
    }
    fn order(&self) {
        self.orders.send_modify(|count| *count += 1);
    }
}

impl SourceBoard {
    /// Adds or changes the entry of a dataset.
    pub fn put(&self, view: SourceView) {
        self.sources.lock().insert(view.dataset.clone(), view);
    }
    pub fn update(&self, dataset: &str, change: impl FnOnce(&mut SourceView)) {
        if let Some(view) = self.sources.lock().get_mut(dataset) {
            change(view);
        }
    }
    pub fn remove(&self, dataset: &str) {
        self.sources.lock().remove(dataset);
    }
    pub fn list(&self) -> Vec<SourceView> {
        self.sources.lock().values().cloned().collect()
    }
    pub fn find(&self, dataset: &str) -> Option<SourceView> {
        self.sources.lock().get(dataset).cloned()
    }
    /// Of a source by its dataset's identity.
    pub fn gate(&self, identity: &str) -> Arc<SourceGate> {
        self.gates.lock().entry(identity.to_string()).or_default().clone()
    }
}

impl Controller {
    pub fn sources(&self) -> Vec<SourceView> {
        self.parts.sources.list()
    }

    /// Reads the first rows (`limit`, 0: 5) as a new source would, and publishes nothing.
    pub async fn test_source(&self, dataset: &str, limit: u32) -> Result<SourceTestView> {
        let dataset = self.dataset_with_source(dataset)?;
        let Some(definition) = dataset.source.clone() else { return Err(no_source(&dataset.name)) };
        let rows = if limit == 0 { TEST_ROWS } else { limit.min(MOST_TEST_ROWS) as usize };
        let fields = dataset.fields.clone();
        let read = tokio::task::spawn_blocking(move || thyme_sources::open(&definition, &fields)?.poll(None, rows));
        let Ok(read) = tokio::time::timeout(TEST_DEADLINE, read).await else {
            let seconds = TEST_DEADLINE.as_secs();
            let message = format!("the source of {} did not answer within {seconds} s", dataset.name);
            return Err(Error::unavailable(message).hint("is what it reads from up and reachable from the server?"));
        };
        let poll = read.map_err(|error| Error::internal(error.to_string()))??;
        Ok(test_view(&dataset, poll))
    }

    /// When it returns, nothing more is published until [`Controller::resume_source`], over restarts too.
    pub async fn pause_source(&self, dataset: &str) -> Result<SourceView> {
        let dataset = self.dataset_with_source(dataset)?;
        self.check_polls(&dataset)?;
        let identity = dataset.identity();
        let gate = self.parts.sources.gate(&identity);
        self.parts.catalog.pause(&identity, self.now()).await?;
        gate.order();
        let _turn = gate.turn().await;
        self.parts.sources.update(&dataset.name, |view| {
            view.state = "paused".to_string();
            view.error = None;
        });
        self.ordered(&dataset.name, "source.paused", "paused").await
    }

    pub async fn resume_source(&self, dataset: &str) -> Result<SourceView> {
        let dataset = self.dataset_with_source(dataset)?;
        self.check_polls(&dataset)?;
        let identity = dataset.identity();
        let gate = self.parts.sources.gate(&identity);
        self.parts.catalog.resume(&identity).await?;
        self.parts.sources.update(&dataset.name, |view| view.state = "waiting".to_string());
        gate.order();
        self.ordered(&dataset.name, "source.resumed", "resumed").await
    }

    /// From the beginning again. Rows keep their ids, so within `dedup_window` none counts twice.
    pub async fn reset_source(&self, dataset: &str) -> Result<SourceView> {
        let dataset = self.dataset_with_source(dataset)?;
        self.check_polls(&dataset)?;
        let identity = dataset.identity();
        let gate = self.parts.sources.gate(&identity);
        gate.order();
        let turn = gate.turn().await;
        self.parts.catalog.remove_cursor(&identity).await?;
        self.parts.sources.update(&dataset.name, |view| view.cursor = String::new());
        drop(turn);
        gate.order();
        self.ordered(&dataset.name, "source.reset", "reset: it is read from the beginning again").await
    }

    async fn ordered(&self, dataset: &str, event_type: &str, message: &str) -> Result<SourceView> {
        self.report(event_type, Severity::Info, dataset, message.to_string(), serde_json::json!({})).await;
        self.parts.sources.find(dataset).ok_or_else(|| {
            Error::unavailable(format!("the source of {dataset} does not run on this server"))
                .hint("the order is kept; a server with the ingest role follows it")
        })
    }

    /// A deployed dataset by name, if it has a source.
    fn dataset_with_source(&self, name: &str) -> Result<Arc<CompiledDataset>> {
        let deployed = self.datasets.borrow().clone();
        let found = deployed.iter().find(|entry| entry.dataset.name == name && entry.dataset.source.is_some());
        if let Some(found) = found {
            return Ok(found.dataset.clone());
        }
        let serving = self.serving();
        let has_name = |version: &&crate::Version| version.compiled.datasets.contains_key(name);
        if serving.versions().iter().any(has_name) {
            return Err(no_source(name));
        }
        let known = deployed.iter().filter(|entry| entry.dataset.source.is_some());
        let hint = suggest::hint(name, known.map(|entry| entry.dataset.name.as_str()));
        Err(Error::not_found(format!("unknown dataset '{name}'")).field("dataset").hint(hint))
    }
}

/// The settings of every source, as its connector reads them, and what its dataset must have. Nothing outside is touched.
pub(crate) fn check_sources(compiled: &Compiled) -> Result<(), Vec<Error>> {
    let mut errors = Vec::new();
    for dataset in compiled.datasets.values() {
        let Some(source) = &dataset.source else { continue };
        let unfit = thyme_sources::open(source, &dataset.fields).err();
        for error in unfit.into_iter().chain(check_dedup_window(dataset).err()) {
            let error = error.context(format_args!("source of dataset '{}'", dataset.name));
            errors.push(match source.location.as_ref().or(dataset.location.as_ref()) {
                Some(location) => error.at(format!("{}:{}", location.file, location.line)),
                None => error,
            });
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// A server that hung and was replaced may still publish what it had read, which others have published meanwhile: ids tell.
fn check_dedup_window(dataset: &CompiledDataset) -> Result<()> {
    if dataset.dedup_window >= LEAST_DEDUP_WINDOW {
        return Ok(());
    }
    let (window, least) = (format_duration(dataset.dedup_window), format_duration(LEAST_DEDUP_WINDOW));
    let message = format!(
        "dedup_window {window} is shorter than {least}: rows that a server publishes after it was replaced would count twice"
    );
    let hint = format!("set dedup_window= to at least {least}, or leave it out (seven days)");
    Err(Error::definition(message).field("dedup_window").hint(hint))
}

fn no_source(dataset: &str) -> Error {
    Error::precondition(format!("dataset '{dataset}' has no source")).field("dataset")
}

fn test_view(dataset: &CompiledDataset, poll: Poll) -> SourceTestView {
    let object = |values: &[thyme_core::Value]| {
        let named = dataset.fields.iter().zip(values).map(|(field, value)| (field.name.clone(), value.to_json()));
        Json::Object(named.collect::<Map<String, Json>>())
    };
    let unfit = |row: &thyme_sources::RejectedRow| UnfitRowView {
        place: row.place.to_string(),
        reason: row.reason.to_string(),
        sample: row.sample.clone(),
    };
    SourceTestView {
        rows: poll.rows.iter().map(|row| object(&row.values)).collect(),
        rejected: poll.rejected.iter().map(unfit).collect(),
        pending: poll.pending,
        has_more: poll.has_more,
    }
}
