//! What a takeover leaves behind, where owners of other slices may still fill its logs: it is deleted once all of them have noted that
//! they do not (`notes.rs` of the engine). Numbers of deployments: 2n while commit n is being built, 2n+1 once that is over, however it ended.

use crate::controller::{Controller, Serving};
use crate::version::Version;
use std::sync::Arc;
use std::time::Duration;
use thyme_catalog::CommitStatus;
use thyme_core::{Error, Result};

/// How long a commit waits for what the one before left behind.
const LONGEST: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Identities that are nobody's any more after a deployment.
pub(crate) struct Leftover {
    names: Vec<String>,
    number: u64,
}

fn over(sequence: i64) -> u64 {
    2 * sequence.unsigned_abs() + 1
}

impl Controller {
    /// Of what is deployed. Where a build is over that was not taken over, the catalog says so: it must be read after that.
    pub(crate) async fn number_of(&self, serving: &Serving) -> Result<u64> {
        if self.parts.engine.slices() == 1 {
            return Ok(0);
        }
        let (mut only, building) = (serving.live.as_ref(), serving.building.as_ref());
        if let Some(building) = building {
            // A live commit that this node is still building, beside nothing else, is all there is.
            let is_all = only.is_none_or(|live| live.commit_id == building.commit_id);
            if building.goal.is_none() || !is_all {
                return Ok(2 * building.sequence.unsigned_abs());
            }
            only = Some(building);
        }
        let own = only.map_or(0, |only| over(only.sequence));
        let newest = self.parts.catalog.commits(1, None).await?.into_iter().next();
        let live = self.parts.catalog.live_commit().await?;
        let is_live = live.map(|commit| commit.id).as_deref() == only.map(|only| &*only.commit_id);
        match newest {
            Some(newest) if is_live && newest.status != CommitStatus::Building => Ok(own.max(over(newest.sequence))),
            _ => Ok(own),
        }
    }

    fn owns_all(&self) -> bool {
        self.owned.borrow().len() == usize::from(self.parts.engine.slices())
    }

    /// Deletes what a version that has taken over has not, now or when all owners have come to it.
    pub(crate) async fn drop_once_left(&self, names: Vec<String>, version: &Version) -> Result<()> {
        let ids = self.parts.catalog.find_ids(&names).await?;
        if ids.is_empty() || self.owns_all() {
            return self.drop_identities(&names).await;
        }
        self.parts.engine.drop_state(ids.into_values().collect()).await?;
        self.leftovers.lock().push(Leftover { names, number: over(version.sequence) });
        Ok(())
    }

    /// Deletes what no owner fills any more. Called again and again by the node that leads.
    pub async fn work_off_leftovers(&self) -> Result<()> {
        let Ok(_changing) = self.changing.try_lock() else { return Ok(()) };
        self.drop_left().await
    }

    async fn drop_left(&self) -> Result<()> {
        if !self.leads() || self.leftovers.lock().is_empty() {
            return Ok(());
        }
        let noted = self.parts.engine.noted_by_all().await?;
        let is_left = |leftover: &&Leftover| leftover.number <= noted;
        let names: Vec<String> =
            self.leftovers.lock().iter().filter(is_left).flat_map(|leftover| leftover.names.clone()).collect();
        if names.is_empty() {
            return Ok(());
        }
        self.drop_identities(&names).await?;
        self.leftovers.lock().retain(|leftover| leftover.number > noted);
        Ok(())
    }

    /// What a commit defines may have the names of what the one before has dropped. Call with `changing` held.
    pub(crate) async fn wait_for_leftovers(&self) -> Result<()> {
        let until = tokio::time::Instant::now() + LONGEST;
        loop {
            self.drop_left().await?;
            if self.leftovers.lock().is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() > until {
                return Err(others_are_behind());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stops a build that is given up, on all nodes: what only it has is deleted then, and may be made again at once.
    pub(crate) async fn stop_build(&self, live: &Option<Arc<Version>>, given_up: &Version) -> Result<()> {
        let only_live = Serving { live: live.clone(), building: None };
        if self.owns_all() {
            return self.run(&only_live).await;
        }
        self.parts.catalog.fail_commit(&given_up.commit_id, self.now(), "another commit took its place").await?;
        self.serve(only_live).await?;
        let until = tokio::time::Instant::now() + LONGEST;
        while self.parts.engine.noted_by_all().await? < over(given_up.sequence) {
            if tokio::time::Instant::now() > until {
                return Err(others_are_behind());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

fn others_are_behind() -> Error {
    Error::unavailable("other servers still work by the commit before")
        .hint("commit again in a few seconds; thyme status of each server says by which commit it works")
}
