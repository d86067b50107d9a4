//! What the engine is told to run. It takes a job and handles; it never sees a catalog.

use std::sync::Arc;
use thyme_core::definition::{CompiledDataset, CompiledPipeline, Emission, Route};
use thyme_core::slice::Slice;
use thyme_core::time::ClockMode;
use thyme_state::Table;

/// Everything that runs at one time. `Engine::deploy` makes the engine's work equal to it: what is new is built from the start
/// of the log, what is gone stops.
#[derive(Clone, Default)]
pub struct JobSpec {
    pub datasets: Vec<DatasetJob>,
    /// Grows with every change of the definitions, the same on all nodes; 0 where nobody else works on the log. See `notes.rs`.
    pub number: u64,
}

/// One raw dataset with all that reads its log.
#[derive(Clone)]
pub struct DatasetJob {
    pub dataset: Arc<CompiledDataset>,
    /// Id of the dataset's log.
    pub log_id: u32,
    /// Rows as they came, for `index=True`.
    pub raw_table: Option<Table>,
    /// Pipelines whose group key is the dataset's key.
    pub pipelines: Vec<PipelineJob>,
    pub routes: Vec<RouteJob>,
}

impl DatasetJob {
    /// All logs that are filled from the dataset's own: by its routers, and by its pipelines' rows. A log comes after the one that it is
    /// filled from.
    pub fn derived(&self) -> Vec<Derived<'_>> {
        let by_routers =
            self.routes.iter().map(|route| Derived { route, dataset: &self.dataset, of_aligned: true, is_feed: false });
        let mut found: Vec<Derived<'_>> = by_routers.collect();
        found.extend(feeds_of(&self.pipelines, true));
        let mut at = 0;
        while let Some(Derived { route, of_aligned, .. }) = found.get(at).copied() {
            found.extend(feeds_of(&route.pipelines, of_aligned && route.route.is_aligned));
            at += 1;
        }
        found
    }

    /// All that its events go through.
    pub fn all_pipelines(&self) -> impl Iterator<Item = &PipelineJob> {
        self.pipelines.iter().chain(self.derived().into_iter().flat_map(|derived| &derived.route.pipelines))
    }

    /// The topics that its pipelines write for other consumers.
    pub fn emits(&self) -> impl Iterator<Item = &EmitJob> {
        self.all_pipelines().filter_map(|pipeline| pipeline.emit.as_ref())
    }

    /// Whether one of its pipelines fills the table.
    pub fn fills(&self, table: u32) -> bool {
        self.all_pipelines().any(|pipeline| pipeline.table.id == table)
    }
}

/// A log that is filled from another one.
#[derive(Clone, Copy)]
pub struct Derived<'a> {
    pub route: &'a RouteJob,
    /// What its rows are.
    pub dataset: &'a Arc<CompiledDataset>,
    /// Whether each partition of the log that it is filled from holds events of the raw dataset's partition of the same number alone.
    pub of_aligned: bool,
    /// It is filled by a pipeline's rows, not by a router.
    pub is_feed: bool,
}

fn feeds_of(pipelines: &[PipelineJob], of_aligned: bool) -> impl Iterator<Item = Derived<'_>> {
    let feeds = pipelines.iter().flat_map(|pipeline| &pipeline.feeds);
    feeds.map(move |feed| Derived { route: &feed.route, dataset: &feed.emission.dataset, of_aligned, is_feed: true })
}

#[derive(Clone)]
pub struct PipelineJob {
    pub pipeline: Arc<CompiledPipeline>,
    pub table: Table,
    /// Its rows, for other consumers.
    pub emit: Option<EmitJob>,
    /// Its rows, for pipelines that read its dataset.
    pub feeds: Vec<FeedJob>,
}

/// A log with one row per accepted event of a pipeline, and the pipelines that read it.
#[derive(Clone)]
pub struct FeedJob {
    pub emission: Arc<Emission>,
    pub route: RouteJob,
}

/// A topic with one row per accepted event of a pipeline.
#[derive(Clone)]
pub struct EmitJob {
    pub emission: Arc<Emission>,
    /// Under which its progress is kept; given out by the catalog, never reused.
    pub id: u32,
}

/// A repartition: a dataset's accepted events, or rows of an aggregated one, in a log of their own, keyed by a group key.
#[derive(Clone)]
pub struct RouteJob {
    pub route: Arc<Route>,
    /// Id of the repartition log; also the id of the router that fills it.
    pub log_id: u32,
    pub pipelines: Vec<PipelineJob>,
}

/// Whether an engine's outputs are its own to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Sends what routers make, and fences every earlier owner; that of the first slice makes topics.
    #[default]
    Owner,
    /// Applies the same logs to a state of its own and writes nothing to them: a replica.
    Follower,
}

/// How the engine runs; nothing here changes a value, except the clock mode, which switches the far-future rule.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// On the event clock no event is too far in the future.
    pub clock: ClockMode,
    /// Most records that one shard takes into a tick.
    pub tick_records: usize,
    /// Whether a tick is synced to disk before it becomes visible (off only in memory).
    pub durable: bool,
    /// Name of the transactional producer: one per log and slice, so that one owner fences another.
    pub producer_id: String,
    /// The share of all logs that is worked on.
    pub slice: Slice,
    /// What the engine begins as.
    pub role: Role,
    /// A round waits for records that are in the log and still on their way here, so that one without work has worked off all there is.
    /// Who is woken when they come need not wait.
    pub awaits_log: bool,
}

impl EngineOptions {
    /// Of the slice.
    pub(crate) fn transactional_id(&self) -> String {
        self.slice.name(&self.producer_id)
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            clock: ClockMode::Wall,
            tick_records: 8192,
            durable: true,
            producer_id: "thyme-engine".to_string(),
            slice: Slice::WHOLE,
            role: Role::Owner,
            awaits_log: true,
        }
    }
}
