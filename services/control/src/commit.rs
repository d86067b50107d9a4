//! A commit from JSON to takeover: merge, compile, plan, load modules, allocate, build, take over.

use crate::controller::{Controller, Serving, load_extractors};
use crate::sources::check_sources;
use crate::version::{Version, identities, topic_of};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;
use thyme_catalog::{Commit, NewCommit, PublishedFeature, Severity, new_id};
use thyme_core::definition::{Compiled, Definitions, Plan, PublishedIds, StateItem, compile, diff, merge};
use thyme_core::position::PositionSet;
use thyme_core::{Error, Result};

/// How often a build is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How often the progress that clients see is brought up to date.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a client sends.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// The definition format, JSON.
    pub definitions: Vec<u8>,
    pub message: String,
    /// Names to remove.
    pub remove: Vec<String>,
    /// Checks everything, changes nothing.
    pub dry_run: bool,
    /// Replaces a build that is under way.
    pub supersede: bool,
}

/// What came of it: the plan, and unless it was a dry run the commit, live already or being built.
#[derive(Debug, Clone)]
pub struct CommitResult {
    pub commit: Option<Commit>,
    pub plan: Plan,
}

/// Definitions that passed every check.
pub(crate) struct Candidate {
    pub(crate) compiled: Arc<Compiled>,
    text: String,
    content_hash: String,
    plan: Plan,
}

impl Controller {
    /// [`Controller::commit`] on a task of its own: it goes on to its end even if the caller goes away.
    pub async fn commit_to_end(self: &Arc<Self>, request: CommitRequest) -> Result<CommitResult, Vec<Error>> {
        let controller = self.clone();
        let task = tokio::spawn(async move { controller.commit(request).await });
        task.await.unwrap_or_else(|error| Err(vec![Error::internal(format!("the commit stopped: {error}"))]))
    }

    /// Idempotent by content. Returns once the commit is live, or once its build is under way.
    pub async fn commit(self: &Arc<Self>, request: CommitRequest) -> Result<CommitResult, Vec<Error>> {
        loop {
            if let Some(done) = self.commit_unless_changed(&request).await? {
                return Ok(done);
            }
        }
    }

    /// `None` if something else was changed while other nodes were waited for: what was checked is to be checked again.
    async fn commit_unless_changed(
        self: &Arc<Self>,
        request: &CommitRequest,
    ) -> Result<Option<CommitResult>, Vec<Error>> {
        let changing = self.changing.lock().await;
        self.check_leads().map_err(|error| vec![error])?;
        let candidate = self.check(request).await?;
        let commit_id: Arc<str> = new_id(self.now()).into();
        if request.dry_run {
            let plan = self.load_modules(&commit_id, candidate).await?.plan;
            self.unload(commit_id).await;
            return Ok(Some(CommitResult { commit: None, plan }));
        }
        let one = |error: Error| vec![error];
        if let Some(done) = self.same_content(&candidate, request.supersede).await.map_err(one)? {
            return Ok(Some(CommitResult { commit: Some(done), plan: candidate.plan }));
        }
        let candidate = self.load_modules(&commit_id, candidate).await?;
        let plan = candidate.plan.clone();
        let _changing = match self.wait_for_others(changing, &candidate.compiled).await {
            Ok(Some(changing)) => changing,
            stopped => {
                self.unload(commit_id).await;
                return stopped.map(|_| None).map_err(one);
            }
        };
        self.build(commit_id.clone(), request, candidate).await.map_err(one)?;
        let commit = self.parts.catalog.commit(&commit_id).await.map_err(one)?;
        Ok(Some(CommitResult { commit, plan }))
    }

    /// Begins, and takes over at once if there is nothing to wait for. Call with `changing` held, the modules loaded, and nothing in the
    /// way.
    pub(crate) async fn build(
        self: &Arc<Self>,
        commit_id: Arc<str>,
        request: &CommitRequest,
        candidate: Candidate,
    ) -> Result<()> {
        if let Err(error) = self.begin(commit_id.clone(), request, candidate).await {
            self.unload(commit_id).await;
            self.resume_or_later().await;
            return Err(error);
        }
        self.clone().watch_build();
        self.advance().await
    }

    /// Whatever was half done is brought back to what the catalog says, as soon as it says anything.
    async fn resume_or_later(self: &Arc<Self>) {
        let Err(error) = self.clone().resume().await else { return };
        tracing::warn!(%error, "what serves is compared with the catalog later");
        let controller = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TELL_EVERY).await;
                let Some(controller) = controller.upgrade() else { return };
                let _changing = controller.changing.lock().await;
                if !controller.leads() || controller.clone().resume().await.is_ok() {
                    return;
                }
            }
        });
    }

    /// Everything that can be wrong with the definitions themselves, at once.
    pub(crate) async fn check(&self, request: &CommitRequest) -> Result<Candidate, Vec<Error>> {
        let change: Definitions = serde_json::from_slice(&request.definitions).map_err(|error| {
            vec![Error::definition(format!("not valid definitions: {error}")).field("definitions_json")]
        })?;
        if !change.erased.is_empty() {
            let error = Error::definition("what is erased is kept by the server, not by a commit").field("erased");
            return Err(vec![error.hint("leave it out; keys are erased with Client.erase")]);
        }
        let serving = self.serving();
        let (current, current_definitions) = match &serving.live {
            Some(live) => (live.compiled.clone(), live.compiled.definitions.clone()),
            None => (Arc::default(), Arc::new(Definitions { format: 1, ..Definitions::default() })),
        };
        let mut merged = merge(&current_definitions, &change, &request.remove)?;
        let mut compiled = compile(&merged)?;
        // What is built now leaves out what is erased by now.
        let erased = self.erased_so_far(&compiled).await.map_err(|error| vec![error])?;
        if merged.erased != erased {
            merged.erased = erased;
            compiled = compile(&merged)?;
        }
        let compiled = Arc::new(compiled);
        check_sources(&compiled)?;
        let mut published = PublishedIds::new();
        for feature in self.parts.catalog.published_features().await.map_err(|error| vec![error])? {
            published.insert((feature.featureset, feature.id), feature.name);
        }
        let mut plan = diff(&current, &compiled, &published)?;
        self.count_replays(&compiled, &mut plan);
        let text = written(&merged)?;
        // The content is what was asked for: the same commit once more is the same whatever was erased meanwhile.
        merged.erased.clear();
        let content_hash =
            Sha256::digest(written(&merged)?.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Candidate { compiled, text, content_hash, plan })
    }

    fn count_replays(&self, compiled: &Compiled, plan: &mut Plan) {
        for item in plan.built.iter_mut().chain(&mut plan.rebuilt) {
            let Some(dataset) = item.input.as_ref().and_then(|name| compiled.datasets.get(name)) else { continue };
            // A topic that is not there yet has nothing to replay.
            let ends =
                (0..dataset.partitions).map(|part| self.parts.log.end_offset(&dataset.topic(), part).unwrap_or(0));
            item.replay_records = Some(ends.sum());
        }
    }

    /// A commit that is or will be what this one asks for. A build of other content is in the way unless it may be superseded.
    async fn same_content(self: &Arc<Self>, candidate: &Candidate, supersede: bool) -> Result<Option<Commit>> {
        let catalog = &self.parts.catalog;
        let live = catalog.live_commit().await?;
        if let Some(building) = catalog.building_commit().await? {
            if self.serving().building.as_ref().is_none_or(|known| *known.commit_id != *building.id) {
                // Begun by another server, or by this one and the answer was lost.
                self.clone().resume().await?;
            }
            if building.content_hash == candidate.content_hash {
                return Ok(Some(building));
            }
            if !supersede {
                let what = match building.message.as_str() {
                    "" => String::new(),
                    message => format!(": {message}"),
                };
                return Err(Error::conflict(format!("commit {} is still being built{what}", building.id))
                    .hint("wait for it (thyme status), or replace it with --supersede"));
            }
            return Ok(None);
        }
        let serving = self.serving();
        let erased = serving.live.as_ref().map(|version| &version.compiled.definitions.erased);
        let leaves_out_the_same = erased == Some(&candidate.compiled.definitions.erased);
        let is_live = |commit: &Commit| {
            candidate.plan.is_empty() || leaves_out_the_same && commit.content_hash == candidate.content_hash
        };
        Ok(live.filter(is_live))
    }

    async fn load_modules(&self, commit_id: &Arc<str>, mut candidate: Candidate) -> Result<Candidate, Vec<Error>> {
        let query = self.parts.query.clone();
        let report = load_extractors(query, commit_id.clone(), candidate.compiled.clone()).await;
        if !report.errors.is_empty() {
            self.unload(commit_id.clone()).await;
            return Err(report.errors);
        }
        candidate.plan.warnings.extend(report.warnings);
        Ok(candidate)
    }

    pub(crate) async fn unload(&self, commit_id: Arc<str>) {
        let query = self.parts.query.clone();
        let unloaded = tokio::task::spawn_blocking(move || query.unload_extractors(&commit_id)).await;
        if let Err(error) = unloaded {
            tracing::warn!(%error, "unloading extractors failed");
        }
    }

    /// Records the commit and starts its build.
    async fn begin(&self, commit_id: Arc<str>, request: &CommitRequest, candidate: Candidate) -> Result<()> {
        let serving = self.serving();
        // Where others work too, it is given up already.
        if let Some(superseded) = &serving.building {
            self.give_up(&serving, superseded, &candidate).await?;
        }
        let live = serving.live.clone();
        let wanted: Vec<String> = identities(&candidate.compiled).into_iter().collect();
        let old = live.as_ref().map(|version| identities(&version.compiled)).unwrap_or_default();
        let new_identities: Vec<String> = wanted.iter().filter(|name| !old.contains(*name)).cloned().collect();
        let ids = self.parts.catalog.allocate_ids(&wanted).await?;
        let plan = serde_json::to_string(&candidate.plan).map_err(|error| Error::internal(error.to_string()))?;
        let commit = NewCommit {
            id: commit_id.to_string(),
            message: request.message.clone(),
            created_at: self.now(),
            content_hash: candidate.content_hash,
            definitions: candidate.text,
            plan,
            new_identities: new_identities.clone(),
        };
        let mut version = Version {
            commit_id: commit_id.clone(),
            sequence: 0,
            compiled: candidate.compiled,
            ids,
            new_identities,
            goal: None,
            sources: PositionSet::default(),
        };
        version.sources = self.sources_of(&version)?;
        self.parts.catalog.begin_commit(commit, request.supersede && self.is_alone()).await?;
        version.sequence = self.parts.catalog.commit(&commit_id).await?.map_or(0, |commit| commit.sequence);
        let version = Arc::new(version);
        if let Some(superseded) = &serving.building {
            let id = superseded.commit_id.as_ref();
            let message = format!("commit {id} was superseded by {commit_id}");
            self.report("commit.superseded", Severity::Warning, id, message, serde_json::json!({})).await;
            self.unload(superseded.commit_id.clone()).await;
        }
        let detail = serde_json::json!({"built": version.builds().len()});
        let message = match request.message.as_str() {
            "" => format!("commit {commit_id} is being built"),
            told => format!("commit {commit_id} is being built: {told}"),
        };
        self.report("commit.building", Severity::Info, &commit_id, message, detail).await;
        if let Err(error) = self.serve(Serving { live, building: Some(version) }).await {
            self.parts.catalog.fail_commit(&commit_id, self.now(), &error.to_string()).await?;
            self.report("commit.failed", Severity::Error, &commit_id, error.to_string(), serde_json::json!({})).await;
            return Err(error);
        }
        Ok(())
    }

    /// Stops a build that is superseded and drops what only it had.
    async fn give_up(&self, serving: &Serving, superseded: &Version, next: &Candidate) -> Result<()> {
        self.run(&Serving { live: serving.live.clone(), building: None }).await?;
        let is_kept = |identity: &&String| is_kept(identity, &superseded.compiled, &next.compiled);
        let dropped: Vec<String> =
            superseded.new_identities.iter().filter(|identity| !is_kept(identity)).cloned().collect();
        self.drop_identities(&dropped).await
    }

    /// Takes over if everything that is being built has caught up. Call with `changing` held.
    pub(crate) async fn advance(&self) -> Result<()> {
        let serving = self.serving();
        let Some(building) = &serving.building else { return Ok(()) };
        if !building.is_built(&self.parts.engine) || !self.is_built_by_all(&serving, building).await? {
            return Ok(());
        }
        let published: Vec<PublishedFeature> = published_by(&building.compiled);
        self.parts.catalog.activate_commit(&building.commit_id, self.now(), &published).await?;
        let next = Serving { live: Some(building.clone()), building: None };
        self.serving.store(Arc::new(next.clone()));
        self.publish(&next)?;
        let message = format!("commit {} is live", building.commit_id);
        tracing::info!(commit = %building.commit_id, "took over");
        self.report("commit.live", Severity::Info, &building.commit_id, message, serde_json::json!({})).await;
        // The old version's work stops only now, after the new one answers.
        self.run(&next).await?;
        if let Some(old) = &serving.live {
            let still_used = identities(&building.compiled);
            let dropped: Vec<String> =
                identities(&old.compiled).into_iter().filter(|name| !still_used.contains(name)).collect();
            self.drop_once_left(dropped, building).await?;
        }
        Ok(())
    }

    /// Looks at the build until it has taken over or is replaced.
    pub(crate) fn watch_build(self: Arc<Self>) {
        let Some(watched) = self.serving().building.as_ref().map(|version| version.commit_id.clone()) else { return };
        let controller = Arc::downgrade(&self);
        drop(self);
        tokio::spawn(async move {
            let mut looks: u32 = 0;
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(controller) = controller.upgrade() else { return };
                let changing = controller.changing.lock().await;
                let is_over = controller.serving().building.as_ref().is_none_or(|version| version.commit_id != watched);
                if is_over || !controller.leads() {
                    return;
                }
                // What is live already and this node has come to is served as after any start.
                let is_live = controller.serving().building.as_ref().is_some_and(|version| version.goal.is_some());
                let is_whole = is_live
                    && controller.serving().building.iter().all(|version| version.is_built(&controller.parts.engine));
                let moved = match (is_live, is_whole) {
                    (true, true) => controller.clone().resume().await,
                    (true, false) => Ok(()),
                    (false, _) => controller.advance().await,
                };
                if let Err(error) = moved {
                    tracing::error!(%error, "the takeover failed and will be tried again");
                    if controller.serving().building.is_none() {
                        // It is live, and what was left behind is still there.
                        controller.resume_or_later().await;
                    }
                    drop(changing);
                    tokio::time::sleep(TELL_EVERY).await;
                    continue;
                }
                looks += 1;
                let tells = TELL_EVERY.as_millis() / LOOK_EVERY.as_millis();
                if u128::from(looks) % tells == 0
                    && let Err(error) = controller.publish(&controller.serving())
                {
                    tracing::error!(%error, "the progress of the build could not be told");
                }
            }
        });
    }
}

/// Of a build that is given up, the logs of datasets that the next commit has too: they may have taken events.
pub(crate) fn is_kept(identity: &str, given_up: &Compiled, next: &Compiled) -> bool {
    let Some(dataset) = identity.strip_prefix("log:") else { return false };
    let find = |compiled: &Compiled| compiled.datasets.values().find(|one| one.identity() == dataset).cloned();
    let both = find(given_up).zip(find(next));
    both.is_some_and(|(old, new)| old.types == new.types && old.partitions == new.partitions)
}

/// As the catalog keeps them.
fn written(definitions: &Definitions) -> Result<String, Vec<Error>> {
    serde_json::to_string(definitions).map_err(|error| vec![Error::internal(error.to_string())])
}

fn published_by(compiled: &Compiled) -> Vec<PublishedFeature> {
    let mut published = Vec::new();
    for featureset in compiled.featuresets.values() {
        for feature in &featureset.features {
            if let Some(id) = feature.id {
                let (featureset, name) = (featureset.name.clone(), feature.name.clone());
                published.push(PublishedFeature { featureset, id, name });
            }
        }
    }
    published
}

/// For a plan as people read it: `rows of Order@1` instead of `raw:Order@1`.
pub fn state_name(item: &StateItem) -> String {
    match item.identity.split_once(':') {
        Some(("log", dataset)) => format!("log of {dataset}"),
        Some(("raw", dataset)) => format!("rows of {dataset}"),
        Some(("route", route)) => match route.split_once(':') {
            Some((dataset, key)) => match key.split_once(':') {
                Some((pipeline, key)) => format!("rows of {dataset} by {pipeline}, by {key}"),
                None => format!("repartition of {dataset} by {key}"),
            },
            None => format!("repartition of {route}"),
        },
        Some(("emit", _)) => format!("topic {}", topic_of(&item.identity).unwrap_or_default()),
        Some((_, name)) => name.to_string(),
        None => item.identity.clone(),
    }
}
