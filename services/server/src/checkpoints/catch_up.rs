//! A state that was restored, or is built from nothing, is behind what the server has answered before: it answers again when it has
//! come as far as the log was at the start. Answers are never short.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_control::{Controller, Version};
use thyme_core::Result;
use thyme_core::position::PositionSet;
use thyme_engine::EngineHandle;
use thyme_log::EventLog;
use thyme_state::StateStore;

const LOOK_EVERY: Duration = Duration::from_millis(20);
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Returns when everything that the live commit serves is as far as the log is now.
pub async fn catch_up(controller: &Controller, engine: &EngineHandle, log: Arc<dyn EventLog>) -> Result<()> {
    let Some(live) = controller.serving().live.clone() else { return Ok(()) };
    let tables: Vec<u32> = live.served_tables()?.into_values().map(|served| served.consumer).collect();
    let asked = live.clone();
    let ends = tokio::task::spawn_blocking(move || ends_of(&asked, log.as_ref())).await;
    let ends = ends.map_err(|error| thyme_core::Error::internal(error.to_string()))??;
    let is_built = |table: &u32| {
        let progress = engine.build_progress(*table);
        // A table that nothing fills has no progress.
        progress.caught_up || progress.total == 0
    };
    let started = Instant::now();
    let mut said = started;
    while !(engine.is_applied(&ends) && tables.iter().all(is_built)) {
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let lag: u64 = engine.status()?.iter().map(|shard| shard.end.saturating_sub(shard.applied)).sum();
            let trouble = engine.trouble().map(|error| error.to_string());
            tracing::info!(lag, trouble, "working off the log before anything is answered");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tracing::info!(seconds = started.elapsed().as_secs_f64(), "the state is as far as the log was");
    Ok(())
}

fn ends_of(live: &Version, log: &dyn EventLog) -> Result<PositionSet> {
    let mut ends = PositionSet::default();
    for dataset in live.compiled.datasets.values().filter(|dataset| dataset.is_raw()) {
        for partition in 0..dataset.partitions {
            ends.set(live.log_id(dataset)?, partition, log.end_offset(&dataset.topic(), partition)?);
        }
    }
    Ok(ends)
}

/// Deletes tables that a checkpoint has and no definition knows any more: they were dropped after it was taken, and their ids are
/// nobody's.
pub async fn drop_unknown(controller: &Controller, engine: &EngineHandle, state: &Arc<StateStore>) -> Result<()> {
    let serving = controller.serving();
    let known: BTreeSet<u32> = serving.versions().iter().flat_map(|version| version.ids.values().copied()).collect();
    let unknown: Vec<u32> = state.snapshot().tables()?.into_iter().filter(|id| !known.contains(id)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    tracing::info!(tables = ?unknown, "tables of the checkpoint that nothing defines any more are dropped");
    engine.drop_state(unknown).await
}
