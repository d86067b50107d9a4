//! What there is: datasets, pipelines, featuresets, sources, jobs, commits, events, status.

use crate::controller::Controller;
use crate::model::*;
use crate::version::Version;
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_catalog::{Commit, CommitStatus};
use thyme_core::aggregate::AggregateDef;
use thyme_core::definition::{Compiled, CompiledDataset, CompiledFeatureset, CompiledPipeline, FeatureKind};
use thyme_core::definition::{OutputRef, Plan, RefTarget};
use thyme_core::time::ClockMode;
use thyme_core::window::format_duration;
use thyme_core::{Error, Result};
use thyme_engine::{EmissionStatus, FeedStatus, ShardStatus};

/// Most entries of one page.
const MAX_PAGE: u32 = 1000;
const DEFAULT_PAGE: u32 = 50;

/// The state of a dataset's own log.
#[derive(Default, Clone)]
struct LogState {
    counts: Counts,
    /// The smallest over all partitions; `None` as long as one has none.
    watermark: Option<i64>,
    lag: u64,
}

fn log_states(shards: &[ShardStatus]) -> BTreeMap<&str, LogState> {
    let mut found: BTreeMap<&str, (LogState, bool)> = BTreeMap::new();
    for shard in shards {
        let (state, seen) = found.entry(&shard.dataset).or_default();
        state.lag += shard.end.saturating_sub(shard.applied);
        state.counts.dead_letters += shard.counters.dead;
        if shard.is_repartition {
            continue;
        }
        state.counts.accepted += shard.counters.accepted;
        state.counts.late_dropped += shard.counters.late;
        state.counts.duplicates += shard.counters.duplicate;
        state.counts.erased_keys += shard.counters.erases;
        state.watermark = if *seen { state.watermark.min(shard.watermark) } else { shard.watermark };
        *seen = true;
    }
    found.into_iter().map(|(name, (state, _))| (name, state)).collect()
}

impl Controller {
    fn compiled(&self) -> Arc<Compiled> {
        self.serving().live.as_ref().map(|live| live.compiled.clone()).unwrap_or_default()
    }

    pub fn datasets(&self) -> Result<Vec<DatasetView>> {
        let shards = self.parts.engine.status()?;
        let states = log_states(&shards);
        let compiled = self.compiled();
        let view = |dataset: &Arc<CompiledDataset>| {
            dataset_view(dataset, states.get(dataset.name.as_str()).cloned().unwrap_or_default())
        };
        Ok(compiled.datasets.values().map(view).collect())
    }

    pub fn pipelines(&self) -> Result<Vec<PipelineView>> {
        let serving = self.serving();
        let Some(live) = &serving.live else { return Ok(Vec::new()) };
        live.compiled.pipelines.values().map(|pipeline| self.pipeline_view(live, pipeline)).collect()
    }

    /// Of the pipelines that answer, by name and version.
    pub fn pipeline_counts(&self) -> Result<Vec<(String, PipelineCounts)>> {
        let serving = self.serving();
        let Some(live) = &serving.live else { return Ok(Vec::new()) };
        let counts = |pipeline: &Arc<CompiledPipeline>| {
            Ok((format!("{}@{}", pipeline.name, pipeline.version), live.pipeline_counts(&self.parts.engine, pipeline)?))
        };
        live.compiled.pipelines.values().map(counts).collect()
    }

    fn pipeline_view(&self, live: &Version, pipeline: &CompiledPipeline) -> Result<PipelineView> {
        let progress = live.ids.get(&pipeline.table_identity()).map(|id| self.parts.engine.build_progress(*id));
        let progress = progress.unwrap_or_default();
        let texts = aggregate_texts(&live.compiled, pipeline);
        let aggregates = pipeline.plan.outputs.iter().map(|output| AggregateView {
            name: output.name.clone(),
            definition: texts.get(&output.name).cloned().unwrap_or_default(),
            data_type: output.result_type.to_string(),
        });
        Ok(PipelineView {
            name: pipeline.name.clone(),
            version: pipeline.version,
            dataset: pipeline.dataset.clone(),
            input: pipeline.input.clone(),
            group_by: pipeline.group_columns.clone(),
            aggregates: aggregates.collect(),
            lag: progress.total.saturating_sub(progress.done),
            counts: live.pipeline_counts(&self.parts.engine, pipeline)?,
        })
    }

    /// Those that answer, and those that are still being built.
    pub fn featuresets(&self) -> Vec<FeaturesetView> {
        let serving = self.serving();
        let mut found: BTreeMap<&str, FeaturesetView> = BTreeMap::new();
        let versions = [(serving.live.as_ref(), true), (serving.building.as_ref(), false)];
        for (version, available) in versions {
            let Some(version) = version else { continue };
            for featureset in version.compiled.featuresets.values() {
                let is_native =
                    |extractor: &str| self.parts.query.is_native(&version.commit_id, &featureset.name, extractor);
                found
                    .entry(&featureset.name)
                    .or_insert_with(|| featureset_view(&version.compiled, featureset, available, is_native));
            }
        }
        found.into_values().collect()
    }

    pub fn jobs(&self) -> Result<Vec<JobView>> {
        let serving = self.serving();
        let trouble = self.parts.engine.trouble().map(|error| error.to_string());
        let mut jobs = Vec::new();
        for (version, kind) in [(&serving.live, "pipeline"), (&serving.building, "build")] {
            let Some(version) = version else { continue };
            for (identity, id) in &version.ids {
                let is_new = version.new_identities.contains(identity);
                let is_table = identity.starts_with("pipeline:") || identity.starts_with("raw:");
                if !is_table || (kind == "build" && !is_new) {
                    continue;
                }
                let progress = self.parts.engine.build_progress(*id);
                let state = match (&trouble, progress.caught_up) {
                    (Some(_), _) => "failed",
                    (None, true) => "caught_up",
                    (None, false) => "running",
                };
                jobs.push(JobView {
                    id: format!("{kind}:{id}"),
                    kind,
                    name: identity.split_once(':').map_or(identity.clone(), |(_, name)| name.to_string()),
                    state: state.to_string(),
                    done_records: progress.done,
                    total_records: progress.total,
                    error: trouble.clone(),
                });
            }
        }
        for source in self.parts.sources.list() {
            jobs.push(JobView {
                id: format!("source:{}", source.dataset),
                kind: "source",
                name: source.dataset,
                state: source.state,
                done_records: source.rows,
                total_records: source.rows,
                error: source.error,
            });
        }
        Ok(jobs)
    }

    fn builds(&self) -> Vec<BuildView> {
        let serving = self.serving();
        let Some(building) = &serving.building else { return Vec::new() };
        let view = |(identity, id): (&str, u32)| {
            let progress = self.parts.engine.build_progress(id);
            let name = identity.split_once(':').map_or(identity, |(_, name)| name);
            BuildView { pipeline: name.to_string(), done_records: progress.done, total_records: progress.total }
        };
        building.builds().into_iter().map(view).collect()
    }

    /// A commit with the progress of its build. An empty id means the one that is being built, else the live one.
    pub async fn commit_view(&self, id: &str) -> Result<CommitView> {
        let catalog = &self.parts.catalog;
        let found = if !id.is_empty() {
            catalog.commit(id).await?
        } else if let Some(building) = catalog.building_commit().await? {
            Some(building)
        } else {
            catalog.live_commit().await?
        };
        match found {
            Some(commit) => Ok(self.view_of(commit)),
            None if id.is_empty() => Err(Error::not_found("nothing is committed yet")),
            None => Err(Error::not_found(format!("no commit '{id}'")).field("id")),
        }
    }

    pub(crate) fn view_of(&self, commit: Commit) -> CommitView {
        let is_building = commit.status == CommitStatus::Building;
        let plan: Plan = serde_json::from_str(&commit.plan).unwrap_or_default();
        let state = match commit.status {
            CommitStatus::Building => "building",
            CommitStatus::Live => "active",
            CommitStatus::Failed => "failed",
            CommitStatus::Superseded if commit.activated_at.is_some() => "replaced",
            CommitStatus::Superseded => "superseded",
        };
        CommitView {
            state,
            activated_at: commit.activated_at.map(Time),
            id: commit.id,
            message: commit.message,
            created_at: Time(commit.created_at),
            builds: if is_building { self.builds() } else { Vec::new() },
            error: commit.error,
            content_hash: commit.content_hash,
            warnings: plan.warnings,
            sequence: commit.sequence,
        }
    }

    /// Newest first, with the cursor of the next page.
    pub async fn commits(&self, limit: u32, cursor: &str) -> Result<(Vec<CommitView>, Option<String>)> {
        let limit = page_size(limit);
        let mut commits = self.parts.catalog.commits(limit + 1, cursor_of(cursor)?).await?;
        let more = commits.len() > limit as usize;
        commits.truncate(limit as usize);
        let next = commits.last().filter(|_| more).map(|commit| commit.sequence.to_string());
        Ok((commits.into_iter().map(|commit| self.view_of(commit)).collect(), next))
    }

    /// Newest first, with the cursor of the next page. `severity` means that one and above.
    pub async fn events(&self, limit: u32, cursor: &str, severity: &str) -> Result<(Vec<EventView>, Option<String>)> {
        const SEVERITIES: [&str; 4] = ["debug", "info", "warning", "error"];
        let rank = |name: &str| SEVERITIES.iter().position(|known| *known == name);
        let least = if severity.is_empty() { Some(0) } else { rank(severity) };
        let least = least.ok_or_else(|| {
            Error::invalid(format!("unknown severity '{severity}'"))
                .field("severity")
                .hint(thyme_core::suggest::hint(severity, SEVERITIES))
        })?;
        let limit = page_size(limit);
        let mut views = Vec::new();
        let mut before = cursor_of(cursor)?;
        loop {
            let page = self.parts.catalog.events(limit, before).await?;
            let Some(last) = page.last() else { return Ok((views, None)) };
            before = Some(last.id);
            for entry in page {
                if rank(entry.event.severity.name()) < Some(least) {
                    continue;
                }
                if views.len() == limit as usize {
                    let next = views.last().map(|view: &EventView| view.id.to_string());
                    return Ok((views, next));
                }
                let event = entry.event;
                views.push(EventView {
                    id: entry.id,
                    event_type: event.event_type,
                    severity: event.severity.name(),
                    source: event.source,
                    subject: event.subject,
                    message: event.message,
                    detail: event.detail,
                    created_at: Time(event.created_at),
                });
            }
        }
    }

    /// One entry per topic, over its partitions.
    fn emissions(&self) -> Vec<EmissionView> {
        let mut found: BTreeMap<String, EmissionView> = BTreeMap::new();
        let of_topics = self.parts.engine.emissions().into_iter().filter(|emission| !emission.is_feed);
        for EmissionStatus { dataset, topic, lag, .. } in of_topics {
            found.entry(topic.clone()).or_insert(EmissionView { dataset, topic, lag: 0 }).lag += lag;
        }
        found.into_values().collect()
    }

    /// One entry per log of rows, over its partitions.
    fn feeds(&self) -> Vec<FeedView> {
        let mut found: BTreeMap<String, FeedView> = BTreeMap::new();
        for FeedStatus { dataset, topic, lag, .. } in self.parts.engine.feeds() {
            found.entry(topic.clone()).or_insert(FeedView { dataset, topic, emit_lag: None, lag: 0 }).lag += lag;
        }
        for EmissionStatus { topic, lag, .. } in self.parts.engine.emissions() {
            if let Some(feed) = found.get_mut(&topic) {
                *feed.emit_lag.get_or_insert_default() += lag;
            }
        }
        found.into_values().collect()
    }

    pub fn status(&self) -> Result<StatusView> {
        let serving = self.serving();
        let shards = self.parts.engine.status()?;
        let states = log_states(&shards);
        let unopened = || self.unopened.lock().values().next().cloned();
        let trouble = self.parts.engine.trouble().map(|error| error.to_string());
        let trouble = trouble.or_else(unopened).or_else(|| self.kept_out());
        let now = match self.parts.clock_mode {
            ClockMode::Wall => self.now(),
            ClockMode::Event => self.parts.states.snapshot().greatest_event_time()?.unwrap_or(0),
        };
        let dataset = |(name, state): (&&str, &LogState)| DatasetStatus {
            name: name.to_string(),
            counts: state.counts,
            watermark: state.watermark.map(Time),
            lag: state.lag,
        };
        Ok(StatusView {
            version: env!("CARGO_PKG_VERSION"),
            state: match (&trouble, &serving.building) {
                (Some(_), _) => "degraded",
                (None, Some(_)) => "building",
                (None, None) => "ready",
            },
            commit_id: serving.live.as_ref().map(|live| live.commit_id.to_string()).unwrap_or_default(),
            clock: match self.parts.clock_mode {
                ClockMode::Wall => "wall",
                ClockMode::Event => "event",
            },
            now: Time(now),
            started_at: Time(self.started_at),
            datasets: states.iter().map(dataset).collect(),
            builds: self.builds(),
            position: self.parts.engine.applied().encode(),
            lag: states.values().map(|state| state.lag).sum(),
            emissions: self.emissions(),
            feeds: self.feeds(),
            data_dir: self.parts.data_dir.clone(),
            // A follower applies the log too, but the work is another's.
            roles: match (self.leads(), self.owned.borrow().is_empty()) {
                (true, _) => vec!["control", "ingest", "engine", "query"],
                (false, false) => vec!["ingest", "engine", "query"],
                (false, true) => vec!["ingest", "query"],
            },
            slices: self.parts.engine.slices(),
            owned_slices: self.owned.borrow().iter().copied().collect(),
            held_slices: self.parts.engine.held().into_iter().collect(),
            trouble,
            checkpoints: self.parts.checkpoints.status(self.now()),
        })
    }
}

pub(crate) fn page_size(limit: u32) -> u32 {
    if limit == 0 { DEFAULT_PAGE } else { limit.min(MAX_PAGE) }
}

fn cursor_of(text: &str) -> Result<Option<i64>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Error::invalid(format!("not a cursor: '{text}'"))
            .field("cursor")
            .hint("pass the 'next_cursor' of an earlier answer unchanged")
    })
}

fn dataset_view(dataset: &CompiledDataset, state: LogState) -> DatasetView {
    let fields = dataset.fields.iter().map(|field| FieldView {
        name: field.name.clone(),
        data_type: field.data_type.to_string(),
        nullable: field.nullable,
        key: field.key,
        timestamp: field.timestamp,
        description: field.description.clone(),
    });
    DatasetView {
        name: dataset.name.clone(),
        version: dataset.version,
        index: dataset.index,
        fields: fields.collect(),
        max_lateness: dataset.max_lateness.map(format_duration),
        history: dataset.history.map(format_duration),
        partitions: dataset.partitions,
        pipelines: dataset.pipelines.clone(),
        source: dataset.source.as_ref().map(|source| source.kind.clone()),
        metadata: dataset.metadata.clone(),
        counts: state.counts,
        watermark: state.watermark.map(Time),
    }
}

fn featureset_view(
    compiled: &Compiled,
    featureset: &CompiledFeatureset,
    available: bool,
    is_native: impl Fn(&str) -> bool,
) -> FeaturesetView {
    let view = |feature: &thyme_core::definition::CompiledFeature| {
        let (kind, origin) = match &feature.kind {
            FeatureKind::Key => ("key", String::new()),
            FeatureKind::Request => ("request", String::new()),
            FeatureKind::Ref(reference) => {
                let field = match &reference.target {
                    RefTarget::Aggregate(OutputRef { pipeline, output }) => {
                        compiled.pipelines.get(pipeline).map(|found| found.plan.outputs[*output].name.clone())
                    }
                    RefTarget::Column(column) => {
                        compiled.datasets.get(&reference.dataset).map(|found| found.fields[*column].name.clone())
                    }
                };
                ("ref", format!("{}.{}", reference.dataset, field.unwrap_or_default()))
            }
            FeatureKind::Extracted { extractor, .. } => ("extractor", featureset.extractors[*extractor].name.clone()),
        };
        FeatureView {
            name: feature.name.clone(),
            data_type: feature.data_type.to_string(),
            nullable: feature.nullable,
            id: feature.id,
            kind,
            native: kind == "extractor" && is_native(&origin),
            origin,
            description: feature.description.clone(),
            deprecated: feature.deprecated,
        }
    };
    // An earlier name answers too, as deprecated, until it is removed.
    let with_aliases = |feature: &thyme_core::definition::CompiledFeature| {
        let now = view(feature);
        let earlier = feature.aliases.iter().map(|alias| FeatureView {
            name: alias.clone(),
            description: format!("earlier name of {}", feature.name),
            deprecated: true,
            ..now.clone()
        });
        let mut views: Vec<FeatureView> = earlier.collect();
        views.insert(0, now);
        views
    };
    FeaturesetView {
        name: featureset.name.clone(),
        keys: featureset.key_names().map(str::to_string).collect(),
        features: featureset.features.iter().flat_map(with_aliases).collect(),
        metadata: featureset.metadata.clone(),
        available,
    }
}

/// Each aggregate as it was written: `Sum(of=net, window=7d)`.
fn aggregate_texts(compiled: &Compiled, pipeline: &CompiledPipeline) -> BTreeMap<String, String> {
    let defined = compiled.definitions.pipelines.iter();
    let mut defined = defined.filter(|known| format!("{}.{}", known.dataset, known.name) == pipeline.name);
    let Some(definition) = defined.next() else { return BTreeMap::new() };
    definition.aggregates.iter().map(|aggregate| (aggregate.name.clone(), aggregate_text(aggregate))).collect()
}

fn aggregate_text(aggregate: &AggregateDef) -> String {
    let json = serde_json::to_value(&aggregate.op).unwrap_or_default();
    let kind = json.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default();
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let name: String = kind.split('_').filter(|word| !word.is_empty()).map(capital).collect();
    let mut arguments: Vec<String> = aggregate.of.iter().map(|column| format!("of={column}")).collect();
    arguments.push(format!("window={}", aggregate.window));
    for (key, value) in json.as_object().into_iter().flatten() {
        if key != "kind" && !value.is_null() && *value != serde_json::Value::Bool(false) {
            arguments.push(format!("{key}={}", value.to_string().trim_matches('"')));
        }
    }
    arguments.extend(aggregate.predicate.iter().map(|predicate| format!("where={predicate}")));
    arguments.extend(aggregate.default.iter().map(|default| format!("default={default}")));
    format!("{name}({})", arguments.join(", "))
}
