//! What the engine is told to run. It takes a job and handles; it never sees a catalog.

use std::sync::Arc;
use thyme_core::definition::{CompiledDataset, CompiledPipeline, Emission, Route};
use thyme_core::time::ClockMode;
use thyme_state::Table;

/// Everything that runs at one time. `Engine::deploy` makes the engine's work equal to it: what is new is built from the start
/// of the log, what is gone stops.
#[derive(Clone, Default)]
pub struct JobSpec {
    pub datasets: Vec<DatasetJob>,
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
    fn all_pipelines(&self) -> impl Iterator<Item = &PipelineJob> {
        self.pipelines.iter().chain(self.routes.iter().flat_map(|route| &route.pipelines))
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

#[derive(Clone)]
pub struct PipelineJob {
    pub pipeline: Arc<CompiledPipeline>,
    pub table: Table,
    /// Its rows, for other consumers.
    pub emit: Option<EmitJob>,
}

/// A topic with one row per accepted event of a pipeline.
#[derive(Clone)]
pub struct EmitJob {
    pub emission: Arc<Emission>,
    /// Under which its progress is kept; given out by the catalog, never reused.
    pub id: u32,
}

/// A repartition: the dataset's accepted events in a log of their own, keyed by another group key.
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
    /// Makes topics, sends what routers make, and fences every earlier owner.
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
    /// Name of the transactional producer: one per log, so that one owner fences another.
    pub producer_id: String,
    /// What the engine begins as.
    pub role: Role,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            clock: ClockMode::Wall,
            tick_records: 8192,
            durable: true,
            producer_id: "thyme-engine".to_string(),
            role: Role::Owner,
        }
    }
}
