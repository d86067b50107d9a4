//! Log to state: acceptance, repartition, pipelines, ticks, recovery, background builds.
//!
//! The engine takes a [`JobSpec`] and handles to a log and a state; it knows no catalog, reads no clock and no randomness. Its
//! unit is the shard, one partition of one log. See `docs/decisions/0004-engine.md`.

mod accept;
mod applied;
mod assembly;
mod consume;
mod dedup;
mod derived;
mod emit;
mod engine;
mod erased;
mod foreign;
mod handle;
mod notes;
pub mod number;
mod offsets;
mod poison;
mod rebuild;
mod runner;
mod shard;
mod spec;

pub use consume::is_router;
pub use engine::{Engine, end_open};
pub use handle::{BuildProgress, EmissionStatus, EngineHandle, FeedStatus, ShardStatus};
pub use rebuild::{Comparison, catch_up, rebuild};
pub use runner::RunningEngine;
pub use spec::{DatasetJob, EmitJob, EngineOptions, FeedJob, JobSpec, PipelineJob, Role, RouteJob};
