//! What the catalog says comes back: at a start, when a node becomes the owner, and after a commit that failed halfway.

use crate::commit::LOOK_EVERY;
use crate::controller::{Controller, Serving};
use crate::version::{Version, identities};
use std::sync::Arc;
use std::time::Duration;
use thyme_catalog::Commit;
use thyme_core::position::PositionSet;
use thyme_core::slice::slice_of;
use thyme_core::{Error, Result};

/// A state that is whole but for the last tick is waited for; what takes longer is watched in the background.
const AT_ONCE: Duration = Duration::from_secs(2);

impl Controller {
    /// Reads live and building commit from the catalog and makes everything equal to them: the live one serves as soon as this
    /// node's state is whole, and one that was being built goes on. Call with `changing` held.
    pub(crate) async fn resume(self: Arc<Self>) -> Result<()> {
        let catalog = self.parts.catalog.clone();
        let mut live = None;
        if let Some(commit) = catalog.live_commit().await? {
            let Some(version) = self.clone().serve_when_whole(&commit).await? else { return Ok(()) };
            self.drop_old_forms(&version).await?;
            self.drop_leftovers(&commit).await?;
            live = Some(version);
        }
        let Some(commit) = catalog.building_commit().await? else {
            return self.serve(Serving { live, building: None }).await;
        };
        let mut building = self.load_version(&commit).await?;
        building.sources = self.sources_of(&building)?;
        let building = Arc::new(building);
        self.load_extractors_for_serving(&building).await;
        self.serve(Serving { live, building: Some(building) }).await?;
        self.watch_build();
        Ok(())
    }

    /// The live commit, once this node's state has all of its tables. `None` if that takes longer: the watch on the build goes on
    /// from here then, and until it is done nothing answers that would be short.
    async fn serve_when_whole(self: Arc<Self>, commit: &Commit) -> Result<Option<Arc<Version>>> {
        let version = self.build_live(commit).await?;
        let until = tokio::time::Instant::now() + AT_ONCE;
        while !version.is_built(&self.parts.engine) {
            if tokio::time::Instant::now() > until {
                tracing::info!(commit = %version.commit_id, "the state is built from the log before it serves");
                self.watch_build();
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let version = Arc::new(Version { new_identities: Vec::new(), goal: None, ..version.as_ref().clone() });
        let before = self.serving().live.clone();
        self.serve(Serving { live: Some(version.clone()), building: None }).await?;
        if let Some(before) = before {
            self.drop_all_but(&before, Some(&version)).await?;
        }
        Ok(Some(version))
    }

    /// Builds the live commit beside what this node served before. That is let go at once, with its state, if it has logs that the live
    /// commit has not: they are deleted or will be, and an owner must not make them again, empty.
    pub(crate) async fn build_live(&self, commit: &Commit) -> Result<Arc<Version>> {
        let serving = self.serving();
        let begun = serving.building.as_ref().filter(|version| *version.commit_id == *commit.id);
        let mut version = self.load_version(commit).await?;
        version.new_identities = identities(&version.compiled).into_iter().collect();
        version.goal = match begun.and_then(|version| version.goal.clone()) {
            Some(goal) => Some(goal),
            None => Some(self.goal_of(&version)?),
        };
        let version = Arc::new(version);
        self.load_extractors_for_serving(&version).await;
        let before = serving.live.clone().filter(|before| version.has_logs_of(before));
        let gone = serving.live.as_ref().filter(|_| before.is_none());
        self.serve(Serving { live: before.clone(), building: Some(version.clone()) }).await?;
        if let Some(gone) = gone {
            tracing::info!(commit = %gone.commit_id, "what this node served is gone: the live commit is built first");
            self.drop_all_but(gone, Some(&version)).await?;
        }
        Ok(version)
    }

    /// What this node's state must have reached before it serves a live version, so that no answer is short: where the logs end now.
    /// A state that was there when the process began goes on where it was, but for logs that it has nothing of.
    pub(crate) fn goal_of(&self, version: &Version) -> Result<PositionSet> {
        let served = self.serving().live.clone();
        if served.as_ref().is_some_and(|live| live.commit_id == version.commit_id) {
            return Ok(PositionSet::default());
        }
        let goes_on = served.is_none() && !self.parts.state_is_new;
        let mut goal = self.ends_of_logs(version)?;
        if !goes_on {
            return Ok(goal);
        }
        let states = self.parts.engine.states();
        for dataset in version.compiled.datasets.values().filter(|dataset| dataset.is_raw()) {
            let log_id = version.log_id(dataset)?;
            for partition in 0..dataset.partitions {
                let slice = slice_of(partition, dataset.partitions, self.parts.engine.slices());
                let Some(state) = states.get(&slice) else { continue };
                if state.snapshot().progress(log_id, partition)?.is_some() {
                    goal.0.remove(&(log_id, partition));
                }
            }
        }
        Ok(goal)
    }

    /// Where the datasets' own logs end now, those of all slices.
    pub(crate) fn ends_of_logs(&self, version: &Version) -> Result<PositionSet> {
        let mut ends = PositionSet::default();
        for dataset in version.compiled.datasets.values().filter(|dataset| dataset.is_raw()) {
            let log_id = version.log_id(dataset)?;
            for partition in 0..dataset.partitions {
                // A topic that could not be made yet holds nothing.
                let end = match self.parts.log.end_offset(&dataset.topic(), partition) {
                    Err(error) if error.kind() == thyme_core::ErrorKind::NotFound => 0,
                    asked => asked?,
                };
                if end > 0 {
                    ends.set(log_id, partition, end);
                }
            }
        }
        Ok(ends)
    }

    /// Tables that an older build kept in another form were built anew from the log, since their identity is another; now those
    /// go. If this is cut short, the next start finds them and does it again.
    async fn drop_old_forms(&self, live: &Version) -> Result<()> {
        let pipelines = live.compiled.pipelines.values().filter(|pipeline| pipeline.plan.layout.form() > 1);
        let old: Vec<String> = pipelines.map(|pipeline| pipeline.table_identity_of_old()).collect();
        self.drop_identities(&old).await
    }

    /// State and logs that a takeover dropped, if it was cut short before it had done so. What a later commit has of the same names is
    /// not that: it began when this was done.
    async fn drop_leftovers(&self, live: &Commit) -> Result<()> {
        let plan: thyme_core::definition::Plan = serde_json::from_str(&live.plan)
            .map_err(|error| Error::data_loss(format!("the plan of commit {} does not parse: {error}", live.id)))?;
        let mut dropped: Vec<String> = plan.dropped.into_iter().map(|item| item.identity).collect();
        if dropped.is_empty() {
            return Ok(());
        }
        let newest = self.parts.catalog.commits(1, None).await?.into_iter().next();
        if let Some(later) = newest.filter(|newest| newest.sequence > live.sequence) {
            dropped.retain(|name| !later.new_identities.contains(name));
        }
        let Some(version) = self.serving().live.clone() else { return Ok(()) };
        self.drop_once_left(dropped, &version).await
    }
}
