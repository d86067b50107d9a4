//! Definitions after [`super::compile`]: everything resolved to indices and bound programs, nothing looked up by name per row.

use super::program::{KeyProgram, RowProgram};
use super::{CallStyle, Definitions, Location, Metadata, SourceDef};
use crate::aggregate::TablePlan;
use crate::schema::{DataType, Field};
use crate::value::Value;
use crate::window::format_duration;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All definitions of a deployment, checked and bound.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    pub datasets: BTreeMap<String, Arc<CompiledDataset>>,
    /// By `Dataset.pipeline`.
    pub pipelines: BTreeMap<String, Arc<CompiledPipeline>>,
    pub featuresets: BTreeMap<String, Arc<CompiledFeatureset>>,
    /// What this was compiled from: all definitions, as merged.
    pub definitions: Arc<Definitions>,
}

/// A dataset: raw (ingested, it has a log) or aggregated (filled by pipelines, it has none).
#[derive(Debug, Clone)]
pub struct CompiledDataset {
    pub name: String,
    pub version: u32,
    /// Whether it can be looked up. A raw dataset with an index has a table of its rows.
    pub index: bool,
    /// In stored order: the order of the rows in the log.
    pub fields: Vec<Field>,
    /// Types of `fields`.
    pub types: Vec<DataType>,
    /// Columns of the key, in key order.
    pub key_columns: Vec<usize>,
    pub time_column: usize,
    /// `None`: nothing is ever late. The source's value wins over the dataset's. Microseconds, as all lengths here. This, `partitions`
    /// and `history` are those of the raw dataset behind it where one pipeline fills the dataset.
    pub max_lateness: Option<i64>,
    pub max_future: i64,
    pub dedup_window: i64,
    pub partitions: u16,
    /// Answers exist for T >= watermark - history; `None`: for any T.
    pub history: Option<i64>,
    /// Whether the pipeline that fills it writes a row per accepted event to a topic ([`super::Emission`]).
    pub emit: bool,
    /// Pipelines that fill it, as `Dataset.pipeline`; empty for a raw dataset.
    pub pipelines: Vec<String>,
    /// Aggregated field -> the pipeline and output that produce it; empty for a raw dataset.
    pub outputs: BTreeMap<String, OutputRef>,
    pub source: Option<SourceDef>,
    pub metadata: Metadata,
    pub location: Option<Location>,
}

/// An output of a pipeline: `compiled.pipelines[pipeline].plan.outputs[output]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputRef {
    pub pipeline: String,
    pub output: usize,
}

impl CompiledDataset {
    /// `Order@1`.
    pub fn identity(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
    /// Topic of its log: `Order.v1`.
    pub fn topic(&self) -> String {
        format!("{}.v{}", self.name, self.version)
    }
    /// Identity of its log in the catalog: `log:Order@1`.
    pub fn log_identity(&self) -> String {
        format!("log:{}", self.identity())
    }
    /// Identity of the table of its rows (raw with `index=True`) in the catalog: `raw:Order@1`.
    pub fn table_identity(&self) -> String {
        format!("raw:{}", self.identity())
    }
    /// Ingested, not filled by pipelines.
    pub fn is_raw(&self) -> bool {
        self.pipelines.is_empty()
    }
    /// Raw and looked up: a table of its rows is kept.
    pub fn has_row_table(&self) -> bool {
        self.is_raw() && self.index
    }
    pub fn column(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
    /// Names of the key fields, in key order.
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key_columns.iter().map(|&column| self.fields[column].name.as_str())
    }
    /// The encoded key of a row in stored order; `None` if a component is null.
    pub fn key_of(&self, row: &[Value]) -> Option<Vec<u8>> {
        let components: Vec<Value> = self.key_columns.iter().map(|&column| row[column].clone()).collect();
        crate::key::encode_key(&components)
    }
}

/// Rows of a dataset, filtered and extended, grouped and aggregated.
#[derive(Debug, Clone)]
pub struct CompiledPipeline {
    /// `UserStats.compute`.
    pub name: String,
    pub version: u32,
    /// The aggregated dataset that it fills.
    pub dataset: String,
    /// The dataset that it reads.
    pub input: String,
    /// The raw dataset whose events they are: the input itself, or what is behind it.
    pub root: String,
    /// The pipeline that fills the input; `None` where that is raw.
    pub upstream: Option<String>,
    pub program: RowProgram,
    /// In the order of the aggregated dataset's key.
    pub group_columns: Vec<String>,
    /// The log that it reads. `None`: that of the raw dataset itself, whose records carry the group key already.
    pub route: Option<Route>,
    /// For each partition of the root's log, the place below which the table leaves out what is erased there; empty where nothing
    /// is, or the route does already. Without a route an erase takes the key's rows out of the table.
    pub erased: Vec<u64>,
    pub plan: Arc<TablePlan>,
    /// For each output of the plan, the column of the aggregated dataset that it fills.
    pub output_columns: Vec<usize>,
    pub location: Option<Location>,
}

impl CompiledPipeline {
    /// `UserStats.compute@1`.
    pub fn identity(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
    /// Identity of its table in the catalog: `pipeline:UserStats.compute@1`, for a later form of rows with that behind it:
    /// `pipeline:UserStats.compute@1+form2`, for one that keeps its events only so long, how long: `…+kept37d`, and for one that
    /// leaves out what was erased, up to where: `…+erased151`.
    pub fn table_identity(&self) -> String {
        let mut identity = self.table_identity_of_old();
        if let form @ 2.. = self.plan.layout.form() {
            identity.push_str(&format!("+form{form}"));
        }
        if let Some(kept) = self.plan.layout.kept {
            identity.push_str(&format!("+kept{}", format_duration(kept)));
        }
        identity.push_str(&erased_suffix('+', self.known_erases()));
        identity
    }
    /// The places up to which the table is without what is erased, because it leaves that out or its log does.
    pub fn known_erases(&self) -> &[u64] {
        match &self.route {
            Some(route) if self.erased.is_empty() => &route.erased,
            _ => &self.erased,
        }
    }
    /// `compute`.
    pub fn short_name(&self) -> &str {
        self.name.split_once('.').map_or(self.name.as_str(), |(_, name)| name)
    }
    /// What the table was called when rows had their first form.
    pub fn table_identity_of_old(&self) -> String {
        format!("pipeline:{}", self.identity())
    }
}

/// The repartition log between a dataset and the pipelines that group it by another key, or that read the rows of an aggregated
/// one. Shared by all pipelines with the same input and the same key (columns and, if computed, expressions): those have equal `id`
/// and `topic`.
#[derive(Debug, Clone)]
pub struct Route {
    /// `Order@1:carrier`; `UserStats@1:compute@1:city` for rows that a pipeline makes, `…+erased151` where these are without what was
    /// erased below there.
    pub id: String,
    /// `Order.v1.by.carrier`, `UserStats.v1.compute.v1.by.city`, `….erased151`.
    pub topic: String,
    /// `carrier`.
    pub columns: String,
    pub key_program: KeyProgram,
    /// The key is the input's own: a partition is filled by the partition of the same number alone.
    pub is_aligned: bool,
    /// See [`CompiledPipeline::known_erases`]: those of the pipeline whose rows it has.
    pub erased: Vec<u64>,
}

impl Route {
    /// Identity of the repartition log in the catalog: `route:Order@1:carrier`.
    pub fn log_identity(&self) -> String {
        format!("route:{}", self.id)
    }
}

/// The end of a name of what is without what is erased. The places only grow, so their sum tells one from another.
pub(super) fn erased_suffix(sign: char, places: &[u64]) -> String {
    if places.is_empty() { String::new() } else { format!("{sign}erased{}", places.iter().sum::<u64>()) }
}

#[derive(Debug, Clone)]
pub struct CompiledFeatureset {
    pub name: String,
    /// In class order.
    pub features: Vec<CompiledFeature>,
    /// The features that nothing produces and no request supplies, in class order.
    pub keys: Vec<usize>,
    pub extractors: Vec<CompiledExtractor>,
    pub metadata: Metadata,
    pub location: Option<Location>,
}

#[derive(Debug, Clone)]
pub struct CompiledFeature {
    pub name: String,
    pub data_type: DataType,
    pub nullable: bool,
    pub id: Option<u32>,
    pub kind: FeatureKind,
    /// Replaces the value of an empty window; the aggregate's own default comes after it.
    pub default: Option<Value>,
    pub deprecated: bool,
    /// Earlier names of the same id: they answer too, as deprecated.
    pub aliases: Vec<String>,
    pub description: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeatureKind {
    /// Given by every question that depends on it.
    Key,
    /// Supplied with each query.
    Request,
    Ref(CompiledRef),
    /// `outputs[output]` of `extractors[extractor]`.
    Extracted {
        extractor: usize,
        output: usize,
    },
}

/// A native lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledRef {
    pub dataset: String,
    pub target: RefTarget,
    /// For each key column of the dataset, in key order, the feature (a key or request feature) that holds it.
    pub binding: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefTarget {
    /// A field of an aggregated dataset.
    Aggregate(OutputRef),
    /// A column of the newest row of a raw dataset.
    Column(usize),
}

#[derive(Debug, Clone)]
pub struct CompiledExtractor {
    pub name: String,
    pub version: u32,
    pub inputs: Vec<CompiledInput>,
    /// Features of this featureset.
    pub outputs: Vec<usize>,
    /// Datasets it looks up; all have an index.
    pub deps: Vec<String>,
    pub style: CallStyle,
    pub batch: bool,
    pub module: String,
    pub qualname: String,
    pub deadline_ms: Option<u32>,
    pub source_hash: String,
    pub location: Option<Location>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompiledInput {
    /// A feature of this featureset.
    Own(usize),
    /// A feature of another one.
    Other {
        featureset: String,
        feature: usize,
        /// Key and request features of the other featureset that the feature depends on -> the key or request feature of this
        /// one that supplies it.
        binding: BTreeMap<usize, usize>,
    },
}

impl CompiledFeatureset {
    /// The feature of that name, or whose earlier name it is.
    pub fn feature(&self, name: &str) -> Option<usize> {
        let by_name = self.features.iter().position(|feature| feature.name == name);
        by_name.or_else(|| self.features.iter().position(|feature| feature.aliases.iter().any(|alias| alias == name)))
    }
    pub fn key_names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|&key| self.features[key].name.as_str())
    }
}
