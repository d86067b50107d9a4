//! Definitions with the ids of their state: what the engine, the query side and ingest are told.

use crate::model::PipelineCounts;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thyme_core::aggregate::TableLayout;
use thyme_core::definition::{Compiled, CompiledDataset, CompiledPipeline, Emission};
use thyme_core::position::PositionSet;
use thyme_core::{Error, Result};
use thyme_engine::{DatasetJob, EmitJob, EngineHandle, FeedJob, JobSpec, PipelineJob, RouteJob};
use thyme_query::ServedTable;
use thyme_state::Table;

/// One commit's definitions, compiled, with the ids of their logs and tables.
#[derive(Debug, Clone)]
pub struct Version {
    pub commit_id: Arc<str>,
    /// The commit's place among all.
    pub sequence: i64,
    pub compiled: Arc<Compiled>,
    pub ids: BTreeMap<String, u32>,
    /// What was not there before this commit.
    pub new_identities: Vec<String>,
    /// Where the logs ended when this node began to build a version that is live already: what its state must have reached
    /// before it serves.
    pub goal: Option<PositionSet>,
    /// Where the logs ended when this node began to build a version that is not live yet; nothing where all slices are here.
    pub sources: PositionSet,
}

/// The catalog identities of all logs and tables that these definitions need.
pub fn identities(compiled: &Compiled) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for dataset in compiled.datasets.values().filter(|dataset| dataset.is_raw()) {
        found.insert(dataset.log_identity());
        if dataset.has_row_table() {
            found.insert(dataset.table_identity());
        }
    }
    for pipeline in compiled.pipelines.values() {
        found.insert(pipeline.table_identity());
        found.extend(pipeline.route.as_ref().map(|route| route.log_identity()));
    }
    found.extend(compiled.emissions().map(|emission| emission.identity()));
    found
}

/// The topic of a log's identity: `log:Order@1` is `Order.v1`, `route:Order@1:carrier` is `Order.v1.by.carrier`,
/// `route:UserStats@1:compute@1:city+erased7` is `UserStats.v1.compute.v1.by.city.erased7`, `emit:UserStats@1:compute@1` is
/// `UserStats.v1.compute.v1`.
pub fn topic_of(identity: &str) -> Option<String> {
    let versioned = |text: &str| text.split_once('@').map(|(name, version)| format!("{name}.v{version}"));
    if let Some(rest) = identity.strip_prefix("log:") {
        return versioned(rest);
    }
    if let Some((dataset, pipeline)) = identity.strip_prefix("emit:").and_then(|rest| rest.split_once(':')) {
        return Some(format!("{}.{}", versioned(dataset)?, versioned(pipeline)?));
    }
    let (source, columns) = identity.strip_prefix("route:")?.rsplit_once(':')?;
    let source: Option<Vec<String>> = source.split(':').map(versioned).collect();
    Some(format!("{}.by.{}", source?.join("."), columns.replace('+', ".")))
}

impl Version {
    fn id(&self, identity: &str) -> Result<u32> {
        self.ids.get(identity).copied().ok_or_else(|| Error::internal(format!("no id for {identity}")))
    }

    fn row_table(&self, dataset: &CompiledDataset) -> Result<Option<Table>> {
        if !dataset.has_row_table() {
            return Ok(None);
        }
        let layout = Arc::new(TableLayout::raw(dataset.types.clone()));
        Ok(Some(Table { id: self.id(&dataset.table_identity())?, layout, routed: false }))
    }

    fn pipeline_table(&self, pipeline: &CompiledPipeline) -> Result<Table> {
        let layout = Arc::new(pipeline.plan.layout.clone());
        Ok(Table { id: self.id(&pipeline.table_identity())?, layout, routed: pipeline.route.is_some() })
    }

    /// What the pipeline writes for other consumers, if its dataset asks for it.
    fn emit_job(&self, pipeline: &Arc<CompiledPipeline>) -> Result<Option<EmitJob>> {
        let Some(dataset) = self.compiled.datasets.get(&pipeline.dataset).filter(|dataset| dataset.emit) else {
            return Ok(None);
        };
        let emission = Emission::new(dataset.clone(), pipeline.clone());
        Ok(Some(EmitJob { id: self.id(&emission.identity())?, emission: Arc::new(emission) }))
    }

    pub fn log_id(&self, dataset: &CompiledDataset) -> Result<u32> {
        self.id(&dataset.log_identity())
    }

    /// The logs that are filled from a dataset, by way of others too.
    pub fn route_logs(&self, dataset: &CompiledDataset) -> Result<BTreeSet<u32>> {
        let pipelines = self.compiled.pipelines.values().filter(|pipeline| pipeline.root == dataset.name);
        pipelines.filter_map(|pipeline| pipeline.route.as_ref()).map(|route| self.id(&route.log_identity())).collect()
    }

    /// Tables by identity, as the query side reads them.
    pub fn served_tables(&self) -> Result<BTreeMap<String, ServedTable>> {
        let mut tables = BTreeMap::new();
        for dataset in self.compiled.datasets.values() {
            if let Some(table) = self.row_table(dataset)? {
                let served = ServedTable { consumer: table.id, log: self.log_id(dataset)?, table };
                tables.insert(dataset.table_identity(), served);
            }
        }
        for pipeline in self.compiled.pipelines.values() {
            let log = match &pipeline.route {
                Some(route) => self.id(&route.log_identity())?,
                None => self.log_id(self.root(pipeline)?)?,
            };
            let table = self.pipeline_table(pipeline)?;
            tables.insert(pipeline.table_identity(), ServedTable { consumer: table.id, log, table });
        }
        Ok(tables)
    }

    fn root(&self, pipeline: &CompiledPipeline) -> Result<&Arc<CompiledDataset>> {
        self.compiled
            .datasets
            .get(&pipeline.root)
            .ok_or_else(|| Error::internal(format!("pipeline {} reads no dataset", pipeline.name)))
    }

    fn upstream(&self, pipeline: &CompiledPipeline) -> Option<&Arc<CompiledPipeline>> {
        self.compiled.pipelines.get(pipeline.upstream.as_ref()?)
    }

    /// All pipelines; one comes after that whose rows it reads.
    fn upstream_first(&self) -> Vec<&Arc<CompiledPipeline>> {
        let depth = |pipeline: &&Arc<CompiledPipeline>| {
            std::iter::successors(self.upstream(pipeline), |upstream| self.upstream(upstream)).count()
        };
        let mut ordered: Vec<&Arc<CompiledPipeline>> = self.compiled.pipelines.values().collect();
        ordered.sort_by_key(depth);
        ordered
    }

    /// Whether it has all logs and topics of another.
    pub fn has_logs_of(&self, other: &Version) -> bool {
        let mut logs = other.ids.iter().filter(|(identity, _)| topic_of(identity).is_some());
        logs.all(|(identity, id)| self.ids.get(identity) == Some(id))
    }

    /// Whether this node's state has all that this version needs to serve.
    pub fn is_built(&self, engine: &EngineHandle) -> bool {
        // What this node serves until then may have logs that the owner fills no more, since the takeover there.
        let has_reached = |goal| engine.is_applied_in(goal, &self.ids.values().copied().collect());
        let has_reached_goal = self.goal.iter().chain([&self.sources]).all(has_reached);
        has_reached_goal && self.builds().iter().all(|(_, id)| engine.build_progress(*id).caught_up)
    }

    /// What a pipeline has made of the rows that it read.
    pub fn pipeline_counts(&self, engine: &EngineHandle, pipeline: &CompiledPipeline) -> Result<PipelineCounts> {
        let log = pipeline.route.as_ref().map(|route| self.id(&route.log_identity())).transpose()?;
        let counters = engine.pipeline_counters(self.id(&pipeline.table_identity())?, log)?;
        Ok(PipelineCounts {
            accepted: counters.accepted,
            filtered: counters.filtered,
            null_key: counters.null_key,
            warnings: counters.warnings,
        })
    }

    /// The ids of the tables that must have been built before this version may serve, by identity.
    pub fn builds(&self) -> Vec<(&str, u32)> {
        let tables =
            self.new_identities.iter().filter(|name| name.starts_with("pipeline:") || name.starts_with("raw:"));
        tables.filter_map(|name| self.ids.get(name).map(|id| (name.as_str(), *id))).collect()
    }
}

/// What the engine runs for several versions at once; what they share runs once, as the later one says.
pub fn job_spec(versions: &[&Version]) -> Result<JobSpec> {
    let mut jobs: BTreeMap<String, DatasetJob> = BTreeMap::new();
    for version in versions {
        for dataset in version.compiled.datasets.values().filter(|dataset| dataset.is_raw()) {
            let log_id = version.log_id(dataset)?;
            let raw_table = version.row_table(dataset)?;
            let job = jobs.entry(dataset.identity()).or_insert_with(|| DatasetJob {
                dataset: dataset.clone(),
                log_id,
                raw_table: None,
                pipelines: Vec::new(),
                routes: Vec::new(),
            });
            job.dataset = dataset.clone();
            job.raw_table = raw_table.or(job.raw_table.take());
        }
        for pipeline in version.upstream_first() {
            let root = version.root(pipeline)?.identity();
            let Some(job) = jobs.get_mut(&root) else { continue };
            add_pipeline(version, pipeline, job)?;
        }
    }
    Ok(JobSpec { datasets: jobs.into_values().collect(), number: 0 })
}

fn add_pipeline(version: &Version, pipeline: &Arc<CompiledPipeline>, job: &mut DatasetJob) -> Result<()> {
    let mut added = PipelineJob {
        pipeline: pipeline.clone(),
        table: version.pipeline_table(pipeline)?,
        emit: version.emit_job(pipeline)?,
        feeds: Vec::new(),
    };
    // While a table is built anew under the same version, the one that serves goes on filling the topic.
    if job.emits().any(|known| Some(known.id) == added.emit.as_ref().map(|emit| emit.id)) && !job.fills(added.table.id)
    {
        added.emit = None;
    }
    let siblings = siblings_of(version, pipeline, job)?;
    match siblings.iter_mut().find(|known| known.table.id == added.table.id) {
        Some(known) => {
            added.feeds = std::mem::take(&mut known.feeds);
            *known = added;
        }
        None => siblings.push(added),
    }
    Ok(())
}

/// All pipelines of the log that a pipeline reads; the log is added to the job if it is not there.
fn siblings_of<'a>(
    version: &Version,
    pipeline: &CompiledPipeline,
    job: &'a mut DatasetJob,
) -> Result<&'a mut Vec<PipelineJob>> {
    let Some(route) = &pipeline.route else { return Ok(&mut job.pipelines) };
    let log_id = version.id(&route.log_identity())?;
    let route = RouteJob { route: Arc::new(route.clone()), log_id, pipelines: Vec::new() };
    let Some(upstream) = version.upstream(pipeline) else {
        let index = job.routes.iter().position(|known| known.log_id == log_id).unwrap_or_else(|| {
            job.routes.push(route);
            job.routes.len() - 1
        });
        return Ok(&mut job.routes[index].pipelines);
    };
    // While the table of the rows is built anew under the same version, the one that serves goes on filling the log.
    if !job.derived().iter().any(|known| known.route.log_id == log_id) {
        let dataset = version.compiled.datasets.get(&upstream.dataset);
        let dataset = dataset.ok_or_else(|| Error::internal(format!("pipeline {} fills no dataset", upstream.name)))?;
        let emission = Arc::new(Emission::new(dataset.clone(), upstream.clone()));
        let table = version.id(&upstream.table_identity())?;
        let filled_by = find_pipeline(job, &|known| known.table.id == table);
        let filled_by = filled_by.ok_or_else(|| Error::internal(format!("pipeline {} does not run", upstream.name)))?;
        filled_by.feeds.push(FeedJob { emission, route });
    }
    let fills = |known: &PipelineJob| known.feeds.iter().any(|feed| feed.route.log_id == log_id);
    let feeds = find_pipeline(job, &fills).map(|filled_by| &mut filled_by.feeds);
    let mut feeds = feeds.into_iter().flatten();
    let feed = feeds.find(|feed| feed.route.log_id == log_id);
    feed.map(|feed| &mut feed.route.pipelines).ok_or_else(|| Error::internal("a log is filled by no pipeline"))
}

/// A pipeline of the job, also one that reads others' rows.
fn find_pipeline<'a>(job: &'a mut DatasetJob, is_it: &dyn Fn(&PipelineJob) -> bool) -> Option<&'a mut PipelineJob> {
    let by_route = job.routes.iter_mut().map(|route| &mut route.pipelines);
    std::iter::once(&mut job.pipelines).chain(by_route).find_map(|list| find_among(list, is_it))
}

fn find_among<'a>(
    pipelines: &'a mut [PipelineJob],
    is_it: &dyn Fn(&PipelineJob) -> bool,
) -> Option<&'a mut PipelineJob> {
    for pipeline in pipelines {
        if is_it(pipeline) {
            return Some(pipeline);
        }
        let below = pipeline.feeds.iter_mut().find_map(|feed| find_among(&mut feed.route.pipelines, is_it));
        if below.is_some() {
            return below;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::topic_of;

    #[test]
    fn topics_follow_from_identities() {
        assert_eq!(topic_of("log:Order@2").as_deref(), Some("Order.v2"));
        assert_eq!(topic_of("route:Order@1:carrier-tail").as_deref(), Some("Order.v1.by.carrier-tail"));
        let rows = "route:UserStats@1:compute@2:city";
        assert_eq!(topic_of(rows).as_deref(), Some("UserStats.v1.compute.v2.by.city"));
        let without = format!("{rows}+erased7");
        assert_eq!(topic_of(&without).as_deref(), Some("UserStats.v1.compute.v2.by.city.erased7"));
        assert_eq!(topic_of("emit:Stats@3:compute@2").as_deref(), Some("Stats.v3.compute.v2"));
        assert_eq!(topic_of("raw:Order@1"), None);
    }
}
