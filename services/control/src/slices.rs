//! Slices that come to this node and go from it while it serves (`docs/decisions/0026-nodes-that-hold-what-they-own.md`).

use crate::controller::Controller;
use crate::version::{identities, job_spec};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use thyme_core::position::PositionSet;
use thyme_core::{Error, Result};
use thyme_engine::EngineHandle;

/// What a slice's state must have reached before this node answers for it: a place in the logs, with all tables of what is live.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SliceGoal {
    position: PositionSet,
    /// Of logs and tables.
    ids: BTreeSet<u32>,
}

impl SliceGoal {
    pub fn is_reached(&self, engine: &EngineHandle) -> bool {
        engine.has_come_to(&self.position, &self.ids)
    }
}

impl Controller {
    /// The engine of a slice, a follower, works with the others from now on. What it must reach to be where the logs are now.
    pub async fn add_slice(&self, engine: &EngineHandle) -> Result<SliceGoal> {
        let _changing = self.changing.lock().await;
        let serving = self.serving();
        let mut goal = SliceGoal::default();
        if !serving.versions().is_empty() {
            let mut spec = job_spec(&serving.versions())?;
            spec.number = self.number.load(Ordering::Acquire);
            engine.deploy(spec).await?;
            self.drop_unknown(engine).await?;
        }
        // What is live and still built here is served at its own goal, which may be of before this slice came.
        let built = serving.building.as_ref().filter(|version| version.goal.is_some());
        if let Some(live) = serving.live.as_ref().or(built) {
            goal = SliceGoal { position: self.ends_of_logs(live)?, ids: live.ids.values().copied().collect() };
        }
        self.parts.engine.add(engine);
        Ok(goal)
    }

    /// Why this node cannot open a slice that it is to have, for the status; `None` once it is open, or not to be here any more.
    pub fn slice_is_unopened(&self, slice: u16, reason: Option<String>) {
        let mut unopened = self.unopened.lock();
        match reason {
            Some(reason) => unopened.insert(slice, reason),
            None => unopened.remove(&slice),
        };
    }

    /// This node has nothing of the slice from now on.
    pub async fn remove_slice(&self, slice: u16) -> Result<()> {
        let _changing = self.changing.lock().await;
        if self.owned.borrow().contains(&slice) {
            return Err(Error::internal(format!("slice {slice} is this node's own")));
        }
        self.parts.states.remove(slice);
        self.parts.engine.remove(slice);
        Ok(())
    }

    /// Deletes tables that a checkpoint has and no definition here knows: they were dropped after it was taken, and their ids are nobody's.
    pub async fn drop_unknown(&self, engine: &EngineHandle) -> Result<()> {
        let serving = self.serving();
        let known: BTreeSet<u32> =
            serving.versions().iter().flat_map(|version| version.ids.values().copied()).collect();
        let mut unknown = BTreeSet::new();
        for state in engine.states().values() {
            unknown.extend(state.snapshot().tables()?.into_iter().filter(|id| !known.contains(id)));
        }
        if unknown.is_empty() {
            return Ok(());
        }
        // A build that this node has not taken up yet goes on with what its slices have of it.
        if let Some(building) = self.parts.catalog.building_commit().await? {
            let names: Vec<String> = identities(&self.compiled_of(&building).await?).into_iter().collect();
            let kept = self.parts.catalog.find_ids(&names).await?;
            unknown.retain(|id| !kept.values().any(|kept| kept == id));
        }
        if unknown.is_empty() {
            return Ok(());
        }
        tracing::info!(tables = ?unknown, "tables of the checkpoint that nothing defines any more are dropped");
        engine.drop_state(unknown.into_iter().collect()).await
    }
}
