//! Several nodes on one log and one catalog, which share the work by slices: the owner of the first slice leads, that is takes commits,
//! lets builds take over and deletes what nobody needs any more; the others keep up with the catalog and change nothing there.

use crate::controller::{Controller, Serving};
use crate::version::Version;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thyme_catalog::Commit;
use thyme_core::definition::CompiledDataset;
use thyme_core::key::partition;
use thyme_core::position::PositionSet;
use thyme_core::{Error, Result};
use thyme_engine::Role;
use tokio::sync::watch;

impl Controller {
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    /// The slices whose work this node owns; changes with [`Controller::own`].
    pub fn owned(&self) -> watch::Receiver<BTreeSet<u16>> {
        self.owned.subscribe()
    }

    /// This node owns the work on these slices from now on, and on no others, and so do its engines. Whoever owns the first leads: it
    /// takes commits and lets builds take over, and brings back now what the catalog says. Called again after an error.
    pub async fn own(self: &Arc<Self>, slices: &BTreeSet<u16>) -> Result<()> {
        let own = self.parts.engine.slices();
        if let Some(other) = slices.iter().find(|slice| **slice >= own) {
            // Others share the work by another number of slices: one of theirs must not be sent by one of this number's.
            self.leads.store(false, Ordering::Release);
            let before = self.owned.borrow().clone();
            self.give_back(before.iter()).await?;
            let message = format!(
                "this server knows {own} slices of the work on its log and was given slice {other}: there are more by now"
            );
            return Err(Error::precondition(message).hint(format!(
                "stop all servers on this log, delete the state of this one (state… in {}), and start them again: it is built anew",
                self.parts.data_dir
            )));
        }
        let may_lead = slices.contains(&0);
        if !may_lead {
            // What is under way ends as this node's; who leads reads the catalog and finds it done, or to be done.
            self.leads.store(false, Ordering::Release);
        }
        // A change that is under way does not keep what is others' by now.
        let before = self.owned.borrow().clone();
        self.give_back(before.difference(slices)).await?;
        let _changing = self.changing.lock().await;
        let before = self.owned.borrow().clone();
        let gained: Vec<u16> = slices.difference(&before).copied().collect();
        if gained.is_empty() && self.leads() == may_lead {
            return Ok(());
        }
        let (has_let_go, outcome) = self.gain(gained).await;
        if !self.owned.borrow().contains(&0) || (self.leads() && !has_let_go) {
            return outcome;
        }
        self.lead().await.and(outcome)
    }

    /// Brings back what the catalog says and what is left to be done. Call with `changing` held, as the owner of the first slice.
    async fn lead(self: &Arc<Self>) -> Result<()> {
        self.leads.store(true, Ordering::Release);
        self.leftovers.lock().clear();
        if let Err(error) = self.clone().resume().await {
            // It is tried again as long as this node may lead; until then the engine must not act as the one that leads.
            self.leads.store(false, Ordering::Release);
            self.give_back([0].iter()).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Owns what it can of these slices: one that cannot be had now keeps no other from it. Whether what ran here has been let go, and
    /// the first error.
    async fn gain(&self, slices: Vec<u16>) -> (bool, Result<()>) {
        let mut outcome = Ok(());
        let mut fenced = Vec::new();
        // First the fence, then a look at the catalog: whatever it does not say any more, the owner before sends no more either.
        // All at the same time: a broker takes a second to end what an owner that died has left open.
        let fence = async |slice: &u16| self.parts.engine.slice(*slice)?.fence().await;
        let fences = futures::future::join_all(slices.iter().map(fence)).await;
        for (slice, fence) in slices.into_iter().zip(fences) {
            match fence {
                Ok(()) => fenced.push(slice),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        let mut has_let_go = false;
        if !fenced.is_empty() {
            match self.let_go().await {
                Ok(has) => has_let_go = has,
                Err(error) => return (false, Err(error)),
            }
        }
        for slice in fenced {
            let own = async { self.parts.engine.slice(slice)?.set_role(Role::Owner).await };
            match own.await {
                Ok(()) => {
                    self.owned.send_if_modified(|owned| owned.insert(slice));
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        (has_let_go, outcome)
    }

    async fn give_back(&self, slices: impl Iterator<Item = &u16>) -> Result<()> {
        for slice in slices {
            self.parts.engine.slice(*slice)?.set_role(Role::Follower).await?;
            self.owned.send_if_modified(|owned| owned.remove(slice));
        }
        Ok(())
    }

    /// A follower may run what the catalog knows no more. It stops doing so before it is the owner of the logs, and makes them. Whether
    /// there was anything but what is live.
    async fn let_go(&self) -> Result<bool> {
        let live = self.parts.catalog.live_commit().await?;
        let is_live = |version: &&Version| live.as_ref().is_some_and(|commit| *version.commit_id == *commit.id);
        if self.serving().versions().iter().all(is_live) {
            // What others have noted meanwhile this node has come to as well.
            if !self.is_alone() {
                self.run(&self.serving()).await?;
            }
            return Ok(false);
        }
        match live {
            Some(live) => {
                self.build_live(&live).await?;
            }
            None => self.serve(Serving::default()).await?,
        }
        Ok(true)
    }

    /// One look at the catalog, for the node that leads, where others own slices: another may have led for a moment longer than it
    /// should. What that began or finished is this node's now. What no owner fills any more is deleted.
    pub async fn keep_up(self: &Arc<Self>) -> Result<()> {
        let Ok(_changing) = self.changing.try_lock() else { return Ok(()) };
        if !self.leads() || self.is_alone() {
            return Ok(());
        }
        let live = self.parts.catalog.live_commit().await?.map(|commit| commit.id);
        let building = self.parts.catalog.building_commit().await?.map(|commit| commit.id);
        let serving = self.serving();
        let id = |version: &Option<Arc<Version>>| version.as_ref().map(|version| version.commit_id.to_string());
        let (served, built) = (id(&serving.live), id(&serving.building));
        // A live commit that is being built here comes first.
        let is_known = if live.is_some() && built == live { true } else { served == live && built == building };
        if !is_known {
            tracing::warn!(?live, ?building, "the catalog was changed by another node that led");
            self.lead().await?;
        }
        self.drop_left().await
    }

    /// One look at the catalog, for a node that does not lead: what is live there is built here and then served.
    pub async fn follow(&self) -> Result<()> {
        let _changing = self.changing.lock().await;
        if self.leads() {
            return Ok(());
        }
        let live = self.parts.catalog.live_commit().await?;
        let building = self.parts.catalog.building_commit().await?;
        let serving = self.serving();
        let is_served = |commit: &Commit| serving.live.as_ref().is_some_and(|version| *version.commit_id == *commit.id);
        match (live.filter(|commit| !is_served(commit)), building) {
            (Some(live), _) => self.approach(&serving, &live, true).await,
            (None, Some(building)) => self.approach(&serving, &building, false).await,
            (None, None) => match &serving.building {
                Some(given_up) => {
                    self.serve(Serving { live: serving.live.clone(), building: None }).await?;
                    self.drop_all_but(given_up, serving.live.as_deref()).await
                }
                None => self.renumber(&serving).await,
            },
        }
    }

    /// Builds a commit beside what serves; serves it once it is live in the catalog and whole here.
    async fn approach(&self, serving: &Serving, commit: &Commit, is_live: bool) -> Result<()> {
        let known = serving.building.as_ref().filter(|version| *version.commit_id == *commit.id);
        if known.is_none_or(|version| version.goal.is_some() != is_live) {
            let mut version = self.load_version(commit).await?;
            version.new_identities = not_in(&version, serving.live.as_deref());
            version.goal = if is_live { Some(self.goal_of(&version)?) } else { None };
            version.sources = if is_live { PositionSet::default() } else { self.sources_of(&version)? };
            let version = Arc::new(version);
            self.load_extractors_for_serving(&version).await;
            self.serve(Serving { live: serving.live.clone(), building: Some(version) }).await?;
        }
        if !is_live {
            let serving = self.serving();
            self.publish(&serving)?;
            return self.renumber(&serving).await;
        }
        self.serve_if_built().await
    }

    /// The version that is live in the catalog serves, if this node's state has come to it; what only its predecessor had goes.
    pub(crate) async fn serve_if_built(&self) -> Result<()> {
        let serving = self.serving();
        let Some(version) = &serving.building else { return Ok(()) };
        if !version.is_built(&self.parts.engine) {
            return self.publish(&serving);
        }
        let version = Arc::new(Version { new_identities: Vec::new(), goal: None, ..version.as_ref().clone() });
        tracing::info!(commit = %version.commit_id, "this node serves the commit");
        self.serve(Serving { live: Some(version.clone()), building: None }).await?;
        match &serving.live {
            Some(old) => self.drop_all_but(old, Some(&version)).await,
            None => Ok(()),
        }
    }

    /// Drops the state of what `old` has and `kept` has not. Topics and ids are the owner's to delete.
    pub(crate) async fn drop_all_but(&self, old: &Version, kept: Option<&Version>) -> Result<()> {
        let is_kept = |id: &u32| kept.is_some_and(|kept| kept.ids.values().any(|other| other == id));
        let gone = old.ids.values().filter(|id| !is_kept(id)).copied().collect();
        self.parts.engine.drop_state(gone).await
    }

    /// How far the state is that has to be built before the live commit serves, in words; `None` where it serves.
    pub fn being_built(&self) -> Option<String> {
        let serving = self.serving();
        let building = serving.building.as_ref().filter(|version| serving.live.is_none() && version.goal.is_some())?;
        Some(format!("the state is being built from the log: {}", self.progress_in_words(building)))
    }

    /// Commits are the owner's, once it serves what is live.
    pub(crate) fn check_leads(&self) -> Result<()> {
        self.check_owns()?;
        let serving = self.serving();
        let Some(building) = serving.building.as_ref().filter(|version| version.goal.is_some()) else { return Ok(()) };
        let message = format!("the state is being built from the log: {}", self.progress_in_words(building));
        Err(Error::unavailable(message).hint("commit again when it is done"))
    }

    fn check_owns(&self) -> Result<()> {
        if self.leads() { Ok(()) } else { Err(self.not_the_owner("this server does not lead the work on its log", 0)) }
    }

    /// Whether this node polls the source of a dataset: sources are shared like the rest of the work.
    pub fn polls(&self, dataset: &CompiledDataset) -> bool {
        self.owned.borrow().contains(&self.slice_of_source(dataset))
    }

    fn slice_of_source(&self, dataset: &CompiledDataset) -> u16 {
        partition(dataset.identity().as_bytes(), self.parts.engine.slices())
    }

    /// Orders to a source are for whoever polls it.
    pub(crate) fn check_polls(&self, dataset: &CompiledDataset) -> Result<()> {
        if self.polls(dataset) {
            return Ok(());
        }
        let message = format!("this server does not poll the source of {}", dataset.name);
        Err(self.not_the_owner(&message, self.slice_of_source(dataset)))
    }

    fn not_the_owner(&self, message: &str, slice: u16) -> Error {
        let owner = self.parts.member.owner(slice);
        // Who is kept out is not told either who else is there, and does not come to own anything by waiting.
        if let (Ok(None) | Err(_), Some(error)) = (&owner, self.parts.log.trouble()) {
            return error.context(message);
        }
        let owner = match owner {
            Ok(Some(url)) => format!("send it to the one that does: {url}"),
            Ok(None) => "no server does at the moment; try again in a few seconds".to_string(),
            Err(error) => format!("which one does could not be found out: {error}"),
        };
        Error::unavailable(message).hint(owner)
    }

    /// Why this node has not its place among those on its log, in words; `None` where it has, or is coming to it.
    pub fn kept_out(&self) -> Option<String> {
        self.parts.log.trouble().map(|error| format!("this server is kept out of a group of its log: {error}"))
    }
}

/// What a version has and another has not.
fn not_in(version: &Version, other: Option<&Version>) -> Vec<String> {
    let is_new = |name: &&String| other.is_none_or(|other| !other.ids.contains_key(*name));
    version.ids.keys().filter(is_new).cloned().collect()
}
