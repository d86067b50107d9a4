//! What a takeover leaves behind, where owners of other slices may still fill its logs: it is deleted once all of them have noted that
//! they do not (`notes.rs` of the engine).

use crate::commit::is_kept;
use crate::controller::{Controller, Serving};
use crate::version::{Version, identities};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use thyme_catalog::{CommitStatus, Severity};
use thyme_core::definition::Compiled;
use thyme_core::position::PositionSet;
use thyme_core::{Error, Result};
use thyme_engine::number::{begun, built, over};
use tokio::sync::MutexGuard;

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
        if ids.is_empty() {
            return Ok(());
        }
        if self.is_alone() {
            self.leftovers.lock().push(Leftover { names, number: 0 });
            return self.drop_left().await;
        }
        self.parts.engine.drop_state(ids.into_values().collect()).await?;
        self.leftovers.lock().push(Leftover { names, number: over(version.sequence) });
        if let Err(error) = self.drop_left().await {
            tracing::warn!(%error, "what is not needed any more is deleted later");
        }
        Ok(())
    }

    /// Deletes what no owner fills any more. Call with `changing` held.
    pub(crate) async fn drop_left(&self) -> Result<()> {
        if !self.leads() || self.leftovers.lock().is_empty() {
            return Ok(());
        }
        let noted = if self.is_alone() { 0 } else { self.parts.engine.noted_by_all().await? };
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

    /// Waits until the next commit may begin; `changing` is let go meanwhile. `None` if something else has changed by then.
    pub(crate) async fn wait_for_others<'a>(
        &'a self,
        mut changing: MutexGuard<'a, ()>,
        next: &Compiled,
    ) -> Result<Option<MutexGuard<'a, ()>>> {
        let until = tokio::time::Instant::now() + LONGEST;
        while !self.make_way(next).await? {
            if tokio::time::Instant::now() > until {
                return Err(others_are_behind());
            }
            let serving = self.serving();
            drop(changing);
            tokio::time::sleep(LOOK_EVERY).await;
            changing = self.changing.lock().await;
            if !Arc::ptr_eq(&serving, &self.serving()) {
                return Ok(None);
            }
        }
        Ok(Some(changing))
    }

    /// One look at whether the next commit may begin: what it defines may have the names of what the one before has dropped, or of what a
    /// build has that failed or is given up for it now, and must not find what is in those logs. Until all owners have left them it
    /// may not. Call with `changing` held.
    pub(crate) async fn make_way(&self, next: &Compiled) -> Result<bool> {
        self.check_leads()?;
        self.drop_left().await?;
        if !self.leftovers.lock().is_empty() {
            return Ok(false);
        }
        if self.is_alone() {
            return Ok(true);
        }
        let serving = self.serving();
        if let Some(given_up) = &serving.building {
            self.give_up_for_another(&serving, given_up).await?;
        }
        self.drop_failed(next).await
    }

    /// Stops a build on all nodes, unless some slice has nobody to hear of it.
    async fn give_up_for_another(&self, serving: &Serving, given_up: &Version) -> Result<()> {
        let (member, slices) = (self.parts.member.clone(), self.parts.engine.slices());
        let asked = tokio::task::spawn_blocking(move || {
            (0..slices).find_map(|slice| match member.owner(slice) {
                Ok(owner) => owner.is_none().then_some(Ok(slice)),
                Err(error) => Some(Err(error)),
            })
        });
        if let Some(slice) = asked.await.map_err(|error| Error::internal(error.to_string()))?.transpose()? {
            let message = format!("no server works on slice {slice} at the moment, so a build cannot be given up");
            return Err(Error::unavailable(message).hint("commit again in a few seconds"));
        }
        let id = &*given_up.commit_id;
        self.parts.catalog.fail_commit(id, self.now(), "it was given up for another commit").await?;
        self.serve(Serving { live: serving.live.clone(), building: None }).await?;
        let message = format!("commit {id} was given up for another one");
        self.report("commit.superseded", Severity::Warning, id, message, serde_json::json!({})).await;
        self.unload(given_up.commit_id.clone()).await;
        Ok(())
    }

    /// Deletes what only a build has that failed, if all owners have left it.
    async fn drop_failed(&self, next: &Compiled) -> Result<bool> {
        let newest = self.parts.catalog.commits(1, None).await?.into_iter().next();
        let Some(failed) = newest.filter(|commit| commit.status == CommitStatus::Failed) else { return Ok(true) };
        let serving = self.serving();
        let live = serving.live.as_ref().map(|live| identities(&live.compiled)).unwrap_or_default();
        let only_its: Vec<String> =
            failed.new_identities.iter().filter(|name| !live.contains(*name)).cloned().collect();
        let left: Vec<String> = self.parts.catalog.find_ids(&only_its).await?.into_keys().collect();
        if left.is_empty() {
            return Ok(true);
        }
        let compiled = self.compiled_of(&failed).await?;
        let names: Vec<String> = left.into_iter().filter(|name| !is_kept(name, &compiled, next)).collect();
        if names.is_empty() {
            return Ok(true);
        }
        self.renumber(&serving).await?;
        if self.parts.engine.noted_by_all().await? < over(failed.sequence) {
            return Ok(false);
        }
        self.drop_identities(&names).await?;
        Ok(true)
    }
}

fn others_are_behind() -> Error {
    Error::unavailable("other servers still work by the commit before")
        .hint("commit again in a few seconds; thyme status of each server says by which commit it works")
}
