//! [`QueryEngine`]: holds the deployment that serves and takes the views that questions are answered on.

use crate::applied::AppliedWatch;
use crate::calls::Caller;
use crate::deployment::{Deployment, FeaturesetShape, Served, extractor_specs};
use crate::holders::{HolderMap, Holders, Nobody};
use crate::part::{NoPeers, Peers};
use crate::question::Asking;
use crate::run::RunSink;
use crate::runtime::{ExtractorRuntime, LoadReport};
use crate::turns::Turns;
use crate::view::View;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_core::definition::Compiled;
use thyme_core::error::{Error, ErrorKind, Result};
use thyme_core::time::{Clock, ClockMode};
use thyme_state::States;

/// Settings, with the defaults of a server.
#[derive(Debug, Clone)]
pub struct QueryOptions {
    /// How long a question may take, extractors included, unless it says otherwise.
    pub deadline: Duration,
    /// How long one call of an extractor may take unless it says otherwise.
    pub extractor_deadline: Duration,
    /// At most this many entities in one question; exports have no limit.
    pub max_batch: usize,
    /// At most this many contributing events per window in an explanation.
    pub explained_events: usize,
}

impl Default for QueryOptions {
    fn default() -> Self {
        QueryOptions {
            deadline: Duration::from_secs(30),
            extractor_deadline: Duration::from_secs(2),
            max_batch: 100_000,
            explained_events: 100,
        }
    }
}

/// What the engine works with.
pub struct QueryParts {
    /// Of the slices that are here.
    pub states: States,
    pub extractors: Arc<dyn ExtractorRuntime>,
    pub clock: Arc<dyn Clock>,
    pub runs: Arc<dyn RunSink>,
    pub applied: Arc<dyn AppliedWatch>,
    pub options: QueryOptions,
}

/// Answers questions. Cheap to share behind an `Arc`.
pub struct QueryEngine {
    pub(crate) parts: QueryParts,
    pub(crate) holders: Arc<dyn Holders>,
    pub(crate) peers: Arc<dyn Peers>,
    /// Of reads that take long.
    pub(crate) turns: Turns,
    served: ArcSwapOption<Served>,
    /// The commit that served before this one: questions under way may still call its extractors.
    previous: Mutex<Option<Arc<str>>>,
}

impl QueryEngine {
    pub fn new(parts: QueryParts) -> QueryEngine {
        QueryEngine {
            parts,
            holders: Arc::new(Nobody),
            peers: Arc::new(NoPeers),
            turns: Turns::of_this_machine(),
            served: ArcSwapOption::empty(),
            previous: Mutex::new(None),
        }
    }

    /// What is not here is asked of other nodes.
    pub fn with_peers(self, holders: Arc<dyn Holders>, peers: Arc<dyn Peers>) -> QueryEngine {
        QueryEngine { holders, peers, ..self }
    }

    pub fn options(&self) -> &QueryOptions {
        &self.parts.options
    }

    /// Loads the extractors of these definitions under a commit's id: before [`QueryEngine::deploy`], and to check a commit
    /// before it is published.
    pub fn load_extractors(&self, commit_id: &str, compiled: &Compiled) -> LoadReport {
        self.parts.extractors.load(commit_id, &compiled.definitions.modules, &extractor_specs(compiled))
    }

    /// Whether an extractor of a commit that is loaded does without the interpreter.
    pub fn is_native(&self, commit_id: &str, featureset: &str, extractor: &str) -> bool {
        self.parts.extractors.is_native(commit_id, featureset, extractor)
    }

    /// Forgets the extractors of a commit that was checked and not published.
    pub fn unload_extractors(&self, commit_id: &str) {
        self.parts.extractors.unload(commit_id);
    }

    /// Plans a deployment and serves it from now on; questions under way finish on the one they started with. The extractors of
    /// the deployment before the last are forgotten.
    pub fn deploy(&self, deployment: Deployment) {
        let commit_id = deployment.commit_id.clone();
        let replaced = self.served.swap(Some(Arc::new(Served::new(deployment))));
        let Some(replaced) = replaced.map(|served| served.deployment.commit_id.clone()) else { return };
        if replaced == commit_id {
            return;
        }
        let forgotten = self.previous.lock().replace(replaced.clone());
        if let Some(forgotten) = forgotten.filter(|old| *old != commit_id && *old != replaced) {
            self.parts.extractors.unload(&forgotten);
        }
    }

    /// The commit that serves now.
    pub fn commit_id(&self) -> Option<Arc<str>> {
        self.served.load().as_ref().map(|served| served.deployment.commit_id.clone())
    }

    /// The definitions that serve now.
    pub fn compiled(&self) -> Option<Arc<Compiled>> {
        self.served.load().as_ref().map(|served| served.deployment.compiled.clone())
    }

    /// Keys, request features and features of a featureset, with their types.
    pub fn shape(&self, featureset: &str) -> Result<FeaturesetShape> {
        self.served()?.shape(featureset)
    }

    pub(crate) fn served(&self) -> Result<Arc<Served>> {
        self.served.load_full().ok_or_else(|| {
            Error::not_found("nothing is committed yet").hint("commit definitions first: thyme commit features.py")
        })
    }

    /// Who else holds what.
    pub(crate) fn holders(&self) -> Arc<HolderMap> {
        self.holders.map()
    }

    /// Waits for `at_least` where it is asked, then takes the snapshots of what is here that the whole question reads. Now is that of all
    /// slices if it `is_of_now`.
    pub(crate) async fn view(
        &self,
        served: Arc<Served>,
        asking: &Asking,
        is_of_now: bool,
        deadline: Deadline,
    ) -> Result<Arc<View>> {
        let mut view = self.view_of(served, asking, None).await?;
        if is_of_now && view.is_partial() && view.served.deployment.clock == ClockMode::Event {
            let elsewhere = self.greatest_elsewhere(&view, asking, deadline).await?;
            view.now = view.now.max(elsewhere.unwrap_or(0));
        }
        Ok(Arc::new(view))
    }

    /// The same of certain slices, as far as they are here.
    pub(crate) async fn view_of(
        &self,
        served: Arc<Served>,
        asking: &Asking,
        only: Option<&BTreeSet<u16>>,
    ) -> Result<View> {
        let mut waited_for = None;
        if let Some(position) = &asking.at_least {
            let here = self.parts.states.held();
            let slices = only.map_or_else(|| here.clone(), |only| here.intersection(only).copied().collect());
            self.parts.applied.wait_applied(position, &slices, self.deadline(asking)).await?;
            waited_for = Some(slices);
        }
        let mut snapshots = self.parts.states.snapshot();
        // One that came meanwhile was not waited for.
        for some in [waited_for.as_ref(), only].into_iter().flatten() {
            snapshots = snapshots.only(some);
        }
        View::new(served, snapshots, asking, self.parts.clock.as_ref())
    }

    pub(crate) fn caller<'a>(&'a self, view: &'a Arc<View>) -> Caller<'a> {
        Caller { view, runtime: self.parts.extractors.as_ref(), deadline: self.parts.options.extractor_deadline }
    }

    pub(crate) fn deadline(&self, asking: &Asking) -> Duration {
        asking.deadline.unwrap_or(self.parts.options.deadline)
    }
}

/// Until when a question is to be answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub total: Duration,
    begun: Instant,
}

impl Deadline {
    pub fn new(total: Duration) -> Deadline {
        Deadline { total, begun: Instant::now() }
    }
    pub fn left(&self) -> Duration {
        self.total.saturating_sub(self.begun.elapsed())
    }
    pub fn passed(&self) -> Error {
        deadline_passed(self.total)
    }
}

/// The error of a question that took too long.
pub(crate) fn deadline_passed(deadline: Duration) -> Error {
    Error::new(ErrorKind::DeadlineExceeded, format!("not answered within {} ms", deadline.as_millis()))
}
