//! Definitions as users wrote them: the JSON that a commit carries (format 1), nothing resolved yet.
//!
//! The Python SDK writes this form. [`merge`] adds a commit to what there is, [`compile`] checks it and binds it to indices,
//! [`diff`] tells what the commit changes. The JSON is documented in `docs/definition-format.md`.

mod chains;
mod closure;
mod compile;
mod compiled;
mod cross;
mod dag;
mod datasets;
mod diff;
mod diff_features;
mod emission;
mod features;
mod featuresets;
mod findings;
mod merge;
mod pipelines;
mod plan;
mod program;
mod state_plan;
mod steps;

pub use closure::DefinitionHash;
pub use compile::compile;
pub use compiled::{
    Compiled, CompiledDataset, CompiledExtractor, CompiledFeature, CompiledFeatureset, CompiledInput, CompiledPipeline,
    CompiledRef, FeatureKind, OutputRef, RefTarget, Route,
};
pub use dag::{FeaturePlan, PlannedCall, PlannedRead, Slot};
pub use diff::{PublishedIds, diff};
pub use emission::Emission;
pub use merge::merge;
pub use plan::{Plan, PlanItem, Renamed, StateItem};
pub use program::{Evaluated, KeyProgram, RowProgram};

use crate::aggregate::AggregateDef;
use crate::expr::Expr;
use crate::schema::{DataType, Field};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything one commit carries.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definitions {
    /// Always 1.
    pub format: u32,
    #[serde(default)]
    pub datasets: Vec<DatasetDef>,
    #[serde(default)]
    pub pipelines: Vec<PipelineDef>,
    #[serde(default)]
    pub featuresets: Vec<FeaturesetDef>,
    /// Python modules that hold the extractors, with their helpers, as source.
    #[serde(default)]
    pub modules: Vec<ModuleDef>,
    /// Raw dataset (`Order@1`) -> for each partition of its log a place below which its erases are known: tables that group it by
    /// another key leave out what these erase. Kept by the server; a commit leaves it out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub erased: BTreeMap<String, Vec<u64>>,
}

/// Where in the user's source a definition stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    pub file: String,
    pub line: u32,
}

/// What people read in the catalog; no effect on values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metadata {
    pub description: String,
    pub owner: String,
    pub tags: Vec<String>,
    pub project: String,
    pub deprecated: bool,
    pub replacement: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetDef {
    pub name: String,
    pub version: u32,
    /// Whether it can be looked up.
    pub index: bool,
    /// In class order, keys and timestamp included.
    pub fields: Vec<Field>,
    /// As written, for example `"36h"`; unset means nothing is ever late. A source's own value wins.
    #[serde(default)]
    pub max_lateness: Option<String>,
    #[serde(default)]
    pub max_future: Option<String>,
    #[serde(default)]
    pub dedup_window: Option<String>,
    #[serde(default)]
    pub partitions: Option<u16>,
    /// How far below the watermark a question may ask, for example `"90d"`; unset: any time, everything is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// Whether the pipeline that fills it writes its rows to a topic for other consumers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emit: bool,
    #[serde(default)]
    pub source: Option<SourceDef>,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub location: Option<Location>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceDef {
    /// Connector name: `file` or `postgres`.
    pub kind: String,
    /// The connector's own settings, for `file`: `path`, `format` (`jsonl`, `csv`, `parquet`). A secret is `{"env": NAME}`.
    pub settings: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub every: Option<String>,
    #[serde(default)]
    pub max_lateness: Option<String>,
    /// `append`.
    pub cdc: String,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub location: Option<Location>,
}

/// One `@pipeline`: rows of `input`, filtered and extended, grouped and aggregated into `dataset`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineDef {
    /// The Python method's name; unique within its dataset.
    pub name: String,
    pub version: u32,
    /// The aggregated dataset that it fills.
    pub dataset: String,
    pub input: String,
    #[serde(default)]
    pub steps: Vec<StepDef>,
    pub group_by: Vec<String>,
    pub aggregates: Vec<AggregateDef>,
    #[serde(default)]
    pub location: Option<Location>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum StepDef {
    /// Keeps a row only when the predicate is true (not false, not null).
    Filter { expr: Expr },
    /// Adds or replaces columns, in order.
    Assign { columns: Vec<AssignDef> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignDef {
    pub name: String,
    pub expr: Expr,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeaturesetDef {
    pub name: String,
    pub features: Vec<FeatureDef>,
    #[serde(default)]
    pub extractors: Vec<ExtractorDef>,
    #[serde(default)]
    pub metadata: Metadata,
    #[serde(default)]
    pub location: Option<Location>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureDef {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: DataType,
    #[serde(default)]
    pub nullable: bool,
    /// Optional stable id, unique in the featureset, never reused.
    #[serde(default)]
    pub id: Option<u32>,
    /// Supplied with each query.
    #[serde(default)]
    pub request: bool,
    #[serde(default, rename = "ref")]
    pub reference: Option<FieldRef>,
    /// Dataset key field -> feature that holds it, for refs whose names do not match.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub on: BTreeMap<String, String>,
    /// Replaces the value of an empty window.
    #[serde(default)]
    pub default: Option<crate::expr::Literal>,
    #[serde(default)]
    pub deprecated: bool,
    /// Earlier names of the same id, which answer until they are removed. Kept by [`merge`]; a commit leaves it out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub location: Option<Location>,
}

/// `Dataset.field`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldRef {
    pub dataset: String,
    pub field: String,
}

/// `Featureset.feature`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureRef {
    pub featureset: String,
    pub feature: String,
}

/// How an extractor takes its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallStyle {
    /// `(cls, ts, inputs)`: one dict by feature name.
    Dict,
    /// `(cls, ts, a, b, …)`: one argument per input.
    Arguments,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractorDef {
    pub name: String,
    pub version: u32,
    pub inputs: Vec<FeatureRef>,
    /// Names of features of this featureset.
    pub outputs: Vec<String>,
    /// Datasets it looks up.
    #[serde(default)]
    pub deps: Vec<String>,
    pub style: CallStyle,
    #[serde(default)]
    pub batch: bool,
    /// Module and qualified name of the function: `features`, `UserFeatures.from_stats`.
    pub module: String,
    pub qualname: String,
    /// Longest run, such as `100ms`, in milliseconds; unset means the server's default.
    #[serde(default)]
    pub deadline_ms: Option<u32>,
    /// Hash of the function's source: tells whether it changed.
    pub source_hash: String,
    #[serde(default)]
    pub source: String,
    /// What a static look found (clock, randomness, network): warnings in the plan.
    #[serde(default)]
    pub impure: Vec<String>,
    #[serde(default)]
    pub location: Option<Location>,
}

/// A Python module that travels with the commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleDef {
    /// Dotted name.
    pub name: String,
    /// Path below the committed directory.
    pub path: String,
    pub source: String,
}

#[cfg(test)]
mod tests;
