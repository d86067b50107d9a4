//! What is served: compiled definitions with the tables that hold their state, and the plans made from them.

use crate::lookups::LookupPlan;
use crate::plan::{Planned, plan_features};
use crate::runtime::ExtractorSpec;
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use thyme_core::definition::{Compiled, CompiledDataset, CompiledFeatureset, DefinitionHash, FeatureKind};
use thyme_core::error::{Error, Result};
use thyme_core::schema::DataType;
use thyme_core::suggest;
use thyme_core::time::ClockMode;
use thyme_state::Table;

/// Plans for subsets of a featureset's features that are kept; more than this and they are made anew.
const KEPT_SUBSETS: usize = 256;

/// One published state of the catalog, taken over as a whole.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub commit_id: Arc<str>,
    pub compiled: Arc<Compiled>,
    /// By table identity: `raw:Order@1`, `pipeline:UserStats.compute@1`.
    pub tables: BTreeMap<String, ServedTable>,
    pub clock: ClockMode,
    /// Featuresets and datasets that are still being built, with their progress in words: they answer `Unavailable`.
    pub unavailable: BTreeMap<String, String>,
}

/// A table and the log that fills it.
#[derive(Debug, Clone)]
pub struct ServedTable {
    pub table: Table,
    /// Id of the log that its shards read: the dataset's own, or the repartition log.
    pub log: u32,
    /// Consumer under which the state keeps its progress.
    pub consumer: u32,
}

/// A served table with what decides its watermark.
#[derive(Debug)]
pub(crate) struct Source {
    /// `UserStats.compute` or `Order`, for messages.
    pub name: String,
    /// The raw dataset whose events they are.
    pub root: Arc<str>,
    pub served: ServedTable,
    /// Of the log that its shards read.
    pub partitions: u16,
    /// Of the log that fills that, as many as fill one partition.
    pub source_partitions: u16,
    pub max_lateness: Option<i64>,
    /// That of the raw dataset: T before watermark - history is refused.
    pub history: Option<i64>,
}

/// What a featureset asks for and gives, as the surfaces need to know it.
#[derive(Debug, Clone, PartialEq)]
pub struct FeaturesetShape {
    pub name: Arc<str>,
    pub keys: Vec<(Arc<str>, DataType)>,
    pub requests: Vec<(Arc<str>, DataType)>,
    /// What a question without `features` answers.
    pub features: Vec<(Arc<str>, DataType)>,
}

struct ServedFeatureset {
    name: Arc<str>,
    compiled: Arc<CompiledFeatureset>,
    /// Plans by the names asked; the empty list stands for all.
    plans: RwLock<HashMap<Vec<String>, Arc<Planned>>>,
    definition: OnceLock<DefinitionHash>,
}

/// A deployment with its plans.
pub(crate) struct Served {
    pub deployment: Deployment,
    sources: BTreeMap<String, Arc<Source>>,
    featuresets: BTreeMap<String, ServedFeatureset>,
    lookups: RwLock<HashMap<String, Arc<LookupPlan>>>,
}

impl Served {
    pub fn new(deployment: Deployment) -> Served {
        let sources = sources_of(&deployment);
        let featuresets = deployment.compiled.featuresets.iter().map(|(name, compiled)| {
            let served = ServedFeatureset {
                name: Arc::from(name.as_str()),
                compiled: compiled.clone(),
                plans: RwLock::new(HashMap::new()),
                definition: OnceLock::new(),
            };
            (name.clone(), served)
        });
        let featuresets = featuresets.collect();
        let served = Served { deployment, sources, featuresets, lookups: RwLock::new(HashMap::new()) };
        // A featureset that cannot be planned (its tables are still being built) says so when it is asked.
        for name in served.featuresets.keys() {
            if let Err(error) = served.plan(name, None) {
                tracing::info!(featureset = name, %error, "not served yet");
            }
        }
        served
    }

    pub fn compiled(&self) -> &Compiled {
        &self.deployment.compiled
    }

    fn check_available(&self, what: &str, name: &str) -> Result<()> {
        match self.deployment.unavailable.get(name) {
            None => Ok(()),
            Some(progress) => Err(Error::unavailable(format!("{what} '{name}' is still being built: {progress}"))
                .field(what)
                .hint("ask again when `thyme status` shows it as serving")),
        }
    }

    fn featureset(&self, name: &str) -> Result<&ServedFeatureset> {
        self.featuresets.get(name).ok_or_else(|| {
            let names = self.featuresets.keys().map(String::as_str);
            Error::not_found(format!("unknown featureset '{name}'"))
                .field("featureset")
                .hint(suggest::hint(name, names))
        })
    }

    /// The plan for the features asked, from the cache or made now.
    pub fn plan(&self, featureset: &str, features: Option<&[String]>) -> Result<Arc<Planned>> {
        let served = self.featureset(featureset)?;
        self.check_available("featureset", featureset)?;
        let asked = features.unwrap_or(&[]);
        if features.is_some() && asked.is_empty() {
            return Err(Error::invalid("no features are asked for").field("features").hint("leave it out to get all"));
        }
        if let Some(planned) = served.plans.read().get(asked) {
            return Ok(planned.clone());
        }
        let planned = Arc::new(plan_features(self, &served.name, &served.compiled, asked)?);
        let mut plans = served.plans.write();
        if plans.len() < KEPT_SUBSETS {
            plans.insert(asked.to_vec(), planned.clone());
        }
        Ok(planned)
    }

    pub fn definition(&self, featureset: &str) -> Result<DefinitionHash> {
        let served = self.featureset(featureset)?;
        if let Some(known) = served.definition.get() {
            return Ok(*known);
        }
        let hash = self.compiled().definition_hash(featureset)?;
        Ok(*served.definition.get_or_init(|| hash))
    }

    pub fn shape(&self, featureset: &str) -> Result<FeaturesetShape> {
        let served = self.featureset(featureset)?;
        let of_kind = |wanted: fn(&FeatureKind) -> bool| {
            let features = served.compiled.features.iter().filter(|feature| wanted(&feature.kind));
            features.map(|feature| (Arc::from(feature.name.as_str()), feature.data_type.clone())).collect()
        };
        Ok(FeaturesetShape {
            name: served.name.clone(),
            keys: of_kind(|kind| matches!(kind, FeatureKind::Key)),
            requests: of_kind(|kind| matches!(kind, FeatureKind::Request)),
            features: of_kind(|kind| matches!(kind, FeatureKind::Ref(_) | FeatureKind::Extracted { .. })),
        })
    }

    pub fn dataset(&self, name: &str) -> Result<Arc<CompiledDataset>> {
        let datasets = &self.compiled().datasets;
        let dataset = datasets.get(name).ok_or_else(|| {
            let names = datasets.keys().map(String::as_str);
            Error::not_found(format!("unknown dataset '{name}'")).field("dataset").hint(suggest::hint(name, names))
        })?;
        self.check_available("dataset", name)?;
        Ok(dataset.clone())
    }

    /// How a dataset is looked up, from the cache or planned now.
    pub fn lookup_plan(&self, dataset: &str) -> Result<Arc<LookupPlan>> {
        if let Some(plan) = self.lookups.read().get(dataset) {
            return Ok(plan.clone());
        }
        let plan = Arc::new(LookupPlan::new(self, dataset)?);
        self.lookups.write().insert(dataset.to_string(), plan.clone());
        Ok(plan)
    }

    /// The served table with this identity; `owner` is for the message.
    pub fn source(&self, identity: &str, owner: &str) -> Result<Arc<Source>> {
        self.sources.get(identity).cloned().ok_or_else(|| {
            Error::unavailable(format!("the state of '{owner}' is still being built"))
                .hint("ask again when `thyme status` shows it as serving")
        })
    }

    /// All tables a lookup in this dataset reads.
    pub fn sources_of_dataset(&self, dataset: &CompiledDataset) -> Result<Vec<Arc<Source>>> {
        if dataset.is_raw() {
            return Ok(vec![self.source(&dataset.table_identity(), &dataset.name)?]);
        }
        let pipelines = dataset.pipelines.iter().filter_map(|name| self.compiled().pipelines.get(name));
        pipelines.map(|pipeline| self.source(&pipeline.table_identity(), &pipeline.name)).collect()
    }
}

fn sources_of(deployment: &Deployment) -> BTreeMap<String, Arc<Source>> {
    let compiled = &deployment.compiled;
    let mut sources = BTreeMap::new();
    let mut add = |identity: String, name: &str, root: &CompiledDataset, is_aligned: bool| {
        if let Some(served) = deployment.tables.get(&identity) {
            let source = Source {
                name: name.to_string(),
                root: Arc::from(root.name.as_str()),
                served: served.clone(),
                partitions: root.partitions,
                source_partitions: if is_aligned { 1 } else { root.partitions },
                max_lateness: root.max_lateness,
                history: root.history,
            };
            sources.insert(identity, Arc::new(source));
        }
    };
    for dataset in compiled.datasets.values().filter(|dataset| dataset.has_row_table()) {
        add(dataset.table_identity(), &dataset.name, dataset, false);
    }
    for pipeline in compiled.pipelines.values() {
        if let Some(root) = compiled.datasets.get(&pipeline.root) {
            let is_aligned = pipeline.route.as_ref().is_some_and(|route| route.is_aligned);
            add(pipeline.table_identity(), &pipeline.name, root, is_aligned);
        }
    }
    sources
}

/// What a runtime needs to know of all extractors of these definitions.
pub fn extractor_specs(compiled: &Compiled) -> Vec<ExtractorSpec> {
    let mut specs = Vec::new();
    for featureset in compiled.featuresets.values() {
        for extractor in &featureset.extractors {
            let inputs =
                extractor.inputs.iter().filter_map(|input| crate::plan::input_feature(compiled, featureset, input));
            let (inputs, input_types) = inputs.map(|given| (given.name.clone(), given.data_type.clone())).unzip();
            let outputs = extractor.outputs.iter().map(|&output| &featureset.features[output]);
            let (outputs, output_types) = outputs.map(|made| (made.name.clone(), made.data_type.clone())).unzip();
            specs.push(ExtractorSpec {
                featureset: Arc::from(featureset.name.as_str()),
                name: Arc::from(extractor.name.as_str()),
                module: extractor.module.clone(),
                qualname: extractor.qualname.clone(),
                style: extractor.style,
                batch: extractor.batch,
                inputs,
                input_types,
                outputs,
                output_types,
            });
        }
    }
    specs
}
