//! [`Controller`]: holds what serves and what is being built, and keeps engine, query side and ingest in step with it.

use crate::checkpoints::CheckpointBoard;
use crate::leftovers::Leftover;
use crate::sources::SourceBoard;
use crate::version::{Version, identities, job_spec, topic_of};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use thyme_catalog::{Catalog, Commit, NewActivityEvent, Severity};
use thyme_core::definition::{Compiled, CompiledDataset, Definitions, compile};
use thyme_core::position::PositionSet;
use thyme_core::time::{Clock, ClockMode, Micros};
use thyme_core::{Error, Result};
use thyme_engine::EngineHandle;
use thyme_log::{EventLog, Member};
use thyme_query::{Deployment, QueryEngine};
use thyme_state::States;
use tokio::sync::{Mutex, watch};

/// A raw dataset that takes events.
#[derive(Debug, Clone)]
pub struct IngestDataset {
    pub dataset: Arc<CompiledDataset>,
    pub log_id: u32,
}

/// Who takes events: told as a whole whenever the definitions change. `ids` has the id of every log identity.
pub trait IngestTarget: Send + Sync {
    fn deploy(&self, compiled: &Compiled, ids: &BTreeMap<String, u32>) -> Result<()>;
}

/// What the controller works with.
pub struct ControlParts {
    pub catalog: Arc<dyn Catalog>,
    pub log: Arc<dyn EventLog>,
    /// Of the slices that this node answers for.
    pub states: States,
    /// Of the slices that are here.
    pub engine: EngineHandle,
    /// Tells who owns the work where this node does not.
    pub member: Arc<dyn Member>,
    pub query: Arc<QueryEngine>,
    pub ingest: Arc<dyn IngestTarget>,
    pub sources: Arc<SourceBoard>,
    pub checkpoints: Arc<CheckpointBoard>,
    pub clock: Arc<dyn Clock>,
    pub clock_mode: ClockMode,
    /// Shown by the status.
    pub data_dir: String,
    /// The state was empty or restored when this process began: it may be behind what was answered out of another before.
    pub state_is_new: bool,
}

/// The versions of the moment.
#[derive(Debug, Clone, Default)]
pub struct Serving {
    pub live: Option<Arc<Version>>,
    pub building: Option<Arc<Version>>,
}

impl Serving {
    pub fn versions(&self) -> Vec<&Version> {
        self.live.iter().chain(&self.building).map(Arc::as_ref).collect()
    }
}

pub struct Controller {
    pub(crate) parts: ControlParts,
    pub(crate) serving: ArcSwap<Serving>,
    /// Whether this node leads: it owns the first slice (see `nodes.rs`).
    pub(crate) leads: AtomicBool,
    /// The slices whose work this node owns.
    pub(crate) owned: watch::Sender<BTreeSet<u16>>,
    /// Of what is deployed (see `leftovers.rs`).
    pub(crate) number: AtomicU64,
    /// When it was last asked what other owners have built.
    pub(crate) asked_at: parking_lot::Mutex<Option<Instant>>,
    /// What is to be deleted once no owner fills it any more (see `leftovers.rs`).
    pub(crate) leftovers: parking_lot::Mutex<Vec<Leftover>>,
    /// Slices that this node is to have and cannot open, and why.
    pub(crate) unopened: parking_lot::Mutex<BTreeMap<u16, String>>,
    /// Held while versions change: by a commit, and by a takeover.
    pub(crate) changing: Mutex<()>,
    pub(crate) datasets: watch::Sender<Arc<Vec<IngestDataset>>>,
    /// One rebuild at a time.
    pub(crate) rebuilding: AtomicBool,
    pub(crate) started_at: Micros,
}

impl Controller {
    /// Nothing serves yet: [`Controller::own`] or [`Controller::follow`] brings back what the catalog says.
    pub fn new(parts: ControlParts) -> Arc<Controller> {
        let started_at = parts.clock.now();
        let datasets = watch::Sender::new(Arc::new(Vec::new()));
        let serving = ArcSwap::from_pointee(Serving::default());
        let (changing, rebuilding, leads) = (Mutex::new(()), AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Controller {
            parts,
            serving,
            leads,
            owned: watch::Sender::default(),
            number: AtomicU64::new(0),
            asked_at: Default::default(),
            leftovers: Default::default(),
            unopened: Default::default(),
            changing,
            datasets,
            rebuilding,
            started_at,
        })
    }

    pub(crate) fn now(&self) -> Micros {
        self.parts.clock.now()
    }

    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// The raw datasets that take events; changes with every takeover.
    pub fn ingest_datasets(&self) -> watch::Receiver<Arc<Vec<IngestDataset>>> {
        self.datasets.subscribe()
    }

    pub(crate) async fn compiled_of(&self, commit: &Commit) -> Result<Compiled> {
        let text = self.parts.catalog.definitions(&commit.id).await?;
        let definitions: Definitions = serde_json::from_str(&text).map_err(|error| {
            Error::data_loss(format!("the definitions of commit {} do not parse: {error}", commit.id))
        })?;
        compile(&definitions).map_err(|errors| {
            let first = errors.into_iter().next().unwrap_or_else(|| Error::internal("no reason given"));
            first.context(format!("the definitions of commit {} do not compile", commit.id))
        })
    }

    pub(crate) async fn load_version(&self, commit: &Commit) -> Result<Version> {
        let compiled = self.compiled_of(commit).await?;
        let wanted: Vec<String> = identities(&compiled).into_iter().collect();
        let ids = self.parts.catalog.allocate_ids(&wanted).await?;
        let mut new_identities = commit.new_identities.clone();
        // What an older build was to build in another form is to be built in this one.
        let renamed = compiled.pipelines.values().filter(|pipeline| {
            let identity = pipeline.table_identity_of_old();
            identity != pipeline.table_identity() && commit.new_identities.contains(&identity)
        });
        new_identities.extend(renamed.map(|pipeline| pipeline.table_identity()));
        let commit_id = commit.id.as_str().into();
        let sequence = commit.sequence;
        let (goal, sources) = (None, PositionSet::default());
        Ok(Version { commit_id, sequence, compiled: Arc::new(compiled), ids, new_identities, goal, sources })
    }

    /// A node that cannot load a module serves the rest.
    pub(crate) async fn load_extractors_for_serving(&self, version: &Arc<Version>) {
        self.load_for_serving(&version.commit_id, &version.compiled).await;
    }

    pub(crate) async fn load_for_serving(&self, commit_id: &Arc<str>, compiled: &Arc<Compiled>) {
        let report = load_extractors(self.parts.query.clone(), commit_id.clone(), compiled.clone()).await;
        for error in report.errors {
            tracing::error!(commit = %commit_id, %error, "an extractor cannot run and will answer ERROR");
            let detail = serde_json::json!({"commit_id": &**commit_id});
            self.report("extractor.unavailable", Severity::Error, commit_id, error.to_string(), detail).await;
        }
    }

    /// Makes engine, query side and ingest equal to `serving`.
    pub(crate) async fn serve(&self, serving: Serving) -> Result<()> {
        self.run(&serving).await?;
        let serving = Arc::new(serving);
        self.serving.store(serving.clone());
        self.publish(&serving)
    }

    /// Makes the engine's work equal to `serving`.
    pub(crate) async fn run(&self, serving: &Serving) -> Result<()> {
        let mut spec = job_spec(&serving.versions())?;
        let number = self.number_of(serving).await?;
        spec.number = number;
        self.parts.engine.deploy(spec).await?;
        self.number.store(number, Ordering::Release);
        Ok(())
    }

    /// The query side and ingest, in one go.
    pub(crate) fn publish(&self, serving: &Serving) -> Result<()> {
        let Some(base) = serving.live.as_ref().or(serving.building.as_ref()) else { return Ok(()) };
        let shown = Shown::new(serving);
        let mut unavailable = BTreeMap::new();
        if let Some(building) = &serving.building {
            let progress = self.progress_in_words(building);
            unavailable.extend(shown.only_building.iter().map(|name| (name.clone(), progress.clone())));
        }
        let compiled = Arc::new(shown.compiled);
        self.parts.query.deploy(Deployment {
            commit_id: base.commit_id.clone(),
            compiled: compiled.clone(),
            tables: serving.live.as_ref().map(|live| live.served_tables()).transpose()?.unwrap_or_default(),
            clock: self.parts.clock_mode,
            unavailable,
        });
        self.parts.ingest.deploy(&compiled, &shown.ids)?;
        self.datasets.send_replace(Arc::new(ingest_datasets(serving)?));
        Ok(())
    }

    pub(crate) fn progress_in_words(&self, building: &Version) -> String {
        let (mut done, mut total) = (0, 0);
        if let Some(goal) = building.goal.as_ref().filter(|goal| !goal.0.is_empty()) {
            let applied = self.parts.engine.applied();
            for ((log, partition), end) in &goal.0 {
                done += applied.get(*log, *partition).unwrap_or_default().min(*end);
                total += end;
            }
            return format!("{done} of {total} records read");
        }
        for (_, id) in building.builds() {
            let progress = self.parts.engine.build_progress(id);
            done += progress.done;
            total += progress.total;
        }
        format!("{done} of {total} records read")
    }

    /// Deletes state, logs and ids of identities that nothing runs any more, in this order, so that one cut short is done again.
    pub(crate) async fn drop_identities(&self, names: &[String]) -> Result<()> {
        let ids = self.parts.catalog.find_ids(names).await?;
        if ids.is_empty() {
            return Ok(());
        }
        self.parts.engine.drop_state(ids.values().copied().collect()).await?;
        for topic in ids.keys().filter_map(|identity| topic_of(identity)) {
            match self.parts.log.delete_topic(&topic) {
                Err(error) if error.kind() != thyme_core::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        let names: Vec<String> = ids.into_keys().collect();
        self.parts.catalog.retire_ids(&names).await
    }

    /// An entry of the event feed. The feed is for people: a failure to write it stops nothing.
    pub(crate) async fn report(
        &self,
        event_type: &str,
        severity: Severity,
        subject: &str,
        message: String,
        detail: serde_json::Value,
    ) {
        let event = NewActivityEvent {
            event_type: event_type.to_string(),
            severity,
            source: "control".to_string(),
            subject: subject.to_string(),
            message,
            detail,
            created_at: self.now(),
        };
        if let Err(error) = self.parts.catalog.add_event(event).await {
            tracing::warn!(%error, "an event was not recorded");
        }
    }
}

/// Loading imports Python modules, which takes its time.
pub(crate) async fn load_extractors(
    query: Arc<QueryEngine>,
    commit_id: Arc<str>,
    compiled: Arc<Compiled>,
) -> thyme_query::LoadReport {
    let loaded = tokio::task::spawn_blocking(move || query.load_extractors(&commit_id, &compiled)).await;
    loaded.unwrap_or_else(|error| thyme_query::LoadReport {
        errors: vec![Error::internal(format!("loading the extractors failed: {error}"))],
        warnings: Vec::new(),
    })
}

/// What clients may name: all of the live version, and what only the one being built has. New datasets take events at once;
/// what reads them is unavailable until the takeover.
struct Shown {
    compiled: Compiled,
    ids: BTreeMap<String, u32>,
    /// Datasets and featuresets that are not served yet.
    only_building: Vec<String>,
}

impl Shown {
    fn new(serving: &Serving) -> Shown {
        let mut shown = Shown { compiled: Compiled::default(), ids: BTreeMap::new(), only_building: Vec::new() };
        if let Some(live) = &serving.live {
            shown.compiled = live.compiled.as_ref().clone();
            shown.ids.clone_from(&live.ids);
        }
        let Some(building) = &serving.building else { return shown };
        for (identity, id) in &building.ids {
            shown.ids.entry(identity.clone()).or_insert(*id);
        }
        let mut only_building = Vec::new();
        add_missing(&mut shown.compiled.datasets, &building.compiled.datasets, &mut only_building);
        add_missing(&mut shown.compiled.featuresets, &building.compiled.featuresets, &mut only_building);
        add_missing(&mut shown.compiled.pipelines, &building.compiled.pipelines, &mut Vec::new());
        shown.only_building = only_building;
        shown
    }
}

fn add_missing<T>(known: &mut BTreeMap<String, Arc<T>>, more: &BTreeMap<String, Arc<T>>, added: &mut Vec<String>) {
    for (name, entry) in more {
        if !known.contains_key(name) {
            known.insert(name.clone(), entry.clone());
            added.push(name.clone());
        }
    }
}

/// Raw datasets of the live version, and the new ones of the version being built: nothing of theirs changes at the takeover.
fn ingest_datasets(serving: &Serving) -> Result<Vec<IngestDataset>> {
    let mut found: BTreeMap<String, IngestDataset> = BTreeMap::new();
    for version in serving.versions() {
        for (name, dataset) in &version.compiled.datasets {
            if dataset.is_raw() && !found.contains_key(name) {
                let entry = IngestDataset { dataset: dataset.clone(), log_id: version.log_id(dataset)? };
                found.insert(name.clone(), entry);
            }
        }
    }
    Ok(found.into_values().collect())
}
