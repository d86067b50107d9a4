//! What a takeover leaves behind, where owners of other slices may still fill its logs: it is deleted once all of them have noted that
//! they do not (`notes.rs` of the engine). What owners note of commit n: 3n while it is being built, 3n+1 once what is new in it is built in
//! the slices of a node, 3n+2 once that is over, however it ended.

use crate::controller::{Controller, Serving};
use crate::version::{Version, identities};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use thyme_catalog::CommitStatus;
use thyme_core::definition::Compiled;
use thyme_core::position::PositionSet;
use thyme_core::{Error, Result};

/// How long a commit waits for what the one before left behind.
const LONGEST: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often it is asked whether others have built what takes over next.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Identities that are nobody's any more after a deployment.
pub(crate) struct Leftover {
    names: Vec<String>,
    number: u64,
}

fn begun(sequence: i64) -> u64 {
    3 * sequence.unsigned_abs()
}

pub(crate) fn built(sequence: i64) -> u64 {
    begun(sequence) + 1
}

fn over(sequence: i64) -> u64 {
    begun(sequence) + 2
}

impl Controller {
    /// Whether the work has one slice, and so one owner.
    pub(crate) fn is_alone(&self) -> bool {
        self.parts.engine.slices() == 1
    }

    /// Of what is deployed. Where a build is over that was not taken over, the catalog says so: it must be read after that.
    pub(crate) async fn number_of(&self, serving: &Serving) -> Result<u64> {
        if self.is_alone() {
            return Ok(0);
        }
        let (mut only, building) = (serving.live.as_ref(), serving.building.as_ref());
        if let Some(building) = building {
            // Beside a live commit that this node still builds there may be one whose logs it has all: then it is all there is.
            let is_all = building.goal.is_some() && only.is_none_or(|live| building.has_logs_of(live));
            if !is_all {
                let is_built = building.is_built(&self.parts.engine);
                return Ok(if is_built { built(building.sequence) } else { begun(building.sequence) });
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

    /// A build that is done here, or over before this node has seen it, changes nothing here, but others wait to hear that.
    pub(crate) async fn renumber(&self, serving: &Serving) -> Result<()> {
        if self.is_alone() || self.owned.borrow().is_empty() {
            return Ok(());
        }
        let number = self.number_of(serving).await?;
        if number == self.number.load(Ordering::Acquire) {
            return Ok(());
        }
        self.parts.engine.renumber(number).await?;
        self.number.store(number, Ordering::Release);
        Ok(())
    }

    /// Where the logs end now, if slices of the work may be elsewhere: what is built here must come to there through logs that others
    /// fill, too.
    pub(crate) fn sources_of(&self, version: &Version) -> Result<PositionSet> {
        if self.is_alone() { Ok(PositionSet::default()) } else { self.ends_of_logs(version) }
    }

    /// Whether what is new in a version, which is built here, is built in the slices of all owners, as far as is known. Call with
    /// `changing` held.
    pub(crate) async fn is_built_by_all(&self, serving: &Serving, version: &Version) -> Result<bool> {
        let owns_all = self.owned.borrow().len() == usize::from(self.parts.engine.slices());
        if owns_all || version.builds().is_empty() {
            return Ok(true);
        }
        self.renumber(serving).await?;
        if self.asked_at.lock().is_some_and(|at| at.elapsed() < ASK_EVERY) {
            return Ok(false);
        }
        let noted = self.parts.engine.noted_by_all().await?;
        *self.asked_at.lock() = Some(Instant::now());
        Ok(noted >= built(version.sequence))
    }

    /// Deletes what a version that has taken over has not, now or when all owners have come to it.
    pub(crate) async fn drop_once_left(&self, names: Vec<String>, version: &Version) -> Result<()> {
        let ids = self.parts.catalog.find_ids(&names).await?;
        if ids.is_empty() || self.is_alone() {
            return self.drop_identities(&names).await;
        }
        self.parts.engine.drop_state(ids.into_values().collect()).await?;
        self.leftovers.lock().push(Leftover { names, number: over(version.sequence) });
        let owns_all = self.owned.borrow().len() == usize::from(self.parts.engine.slices());
        if owns_all && let Err(error) = self.wait_for_leftovers().await {
            tracing::warn!(%error, "what is not needed any more is deleted later");
        }
        Ok(())
    }

    /// Deletes what no owner fills any more. Call with `changing` held.
    pub(crate) async fn drop_left(&self) -> Result<()> {
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

    /// Stops a build that is given up, on all nodes, and drops what only it has, now or with the next commit: what that defines may
    /// have the same names, and must not find what is in the logs. `is_kept` is about identities.
    pub(crate) async fn drop_failed(
        &self,
        serving: &Serving,
        is_kept: impl Fn(&Compiled, &String) -> bool,
    ) -> Result<()> {
        if let Some(given_up) = &serving.building {
            self.parts.catalog.fail_commit(&given_up.commit_id, self.now(), "another commit took its place").await?;
            self.serve(Serving { live: serving.live.clone(), building: None }).await?;
        }
        let newest = self.parts.catalog.commits(1, None).await?.into_iter().next();
        let Some(failed) = newest.filter(|commit| commit.status == CommitStatus::Failed) else { return Ok(()) };
        let live = serving.live.as_ref().map(|live| identities(&live.compiled)).unwrap_or_default();
        let only_its: Vec<String> =
            failed.new_identities.iter().filter(|name| !live.contains(*name)).cloned().collect();
        let left: Vec<String> = self.parts.catalog.find_ids(&only_its).await?.into_keys().collect();
        if left.is_empty() {
            return Ok(());
        }
        let compiled = self.compiled_of(&failed).await?;
        let names: Vec<String> = left.into_iter().filter(|name| !is_kept(&compiled, name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        self.renumber(&Serving { live: serving.live.clone(), building: None }).await?;
        let until = tokio::time::Instant::now() + LONGEST;
        while self.parts.engine.noted_by_all().await? < over(failed.sequence) {
            if tokio::time::Instant::now() > until {
                return Err(others_are_behind());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.drop_identities(&names).await
    }
}

fn others_are_behind() -> Error {
    Error::unavailable("other servers still work by the commit before")
        .hint("commit again in a few seconds; thyme status of each server says by which commit it works")
}
