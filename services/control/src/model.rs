//! What listings and the status show. The JSON of `/api/v1/*` is these types as they stand; gRPC carries the same fields.

use crate::checkpoints::CheckpointStatus;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use thyme_core::definition::Metadata;
use thyme_core::time::{Micros, format_time};

/// Micros on the inside, ISO-8601 with `Z` in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Micros);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_time(self.0))
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct FieldView {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: String,
    pub nullable: bool,
    pub key: bool,
    pub timestamp: bool,
    pub description: String,
}

/// Rows since the beginning, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub accepted: u64,
    pub late_dropped: u64,
    pub duplicates: u64,
    pub dead_letters: u64,
    pub erased_keys: u64,
}

/// Rows that a pipeline has read since the beginning, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PipelineCounts {
    pub accepted: u64,
    pub filtered: u64,
    /// Rows without a group key.
    pub null_key: u64,
    /// Expressions that came to null by overflow, division by zero or a value that is none.
    pub warnings: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct DatasetView {
    pub name: String,
    pub version: u32,
    pub index: bool,
    pub fields: Vec<FieldView>,
    /// As a length such as `1h`; `None`: nothing is ever late.
    pub max_lateness: Option<String>,
    /// How far below the watermark a question may ask; `None`: any time.
    pub history: Option<String>,
    pub partitions: u16,
    pub pipelines: Vec<String>,
    /// The source's connector.
    pub source: Option<String>,
    pub metadata: Metadata,
    pub counts: Counts,
    pub watermark: Option<Time>,
}

#[derive(Debug, Clone, Serialize)]
pub struct AggregateView {
    pub name: String,
    pub definition: String,
    #[serde(rename = "type")]
    pub data_type: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct PipelineView {
    pub name: String,
    pub version: u32,
    pub dataset: String,
    pub input: String,
    pub group_by: Vec<String>,
    pub aggregates: Vec<AggregateView>,
    /// Records of its input that it has not read yet.
    pub lag: u64,
    pub counts: PipelineCounts,
}

#[derive(Debug, Clone, Serialize)]
pub struct FeatureView {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: String,
    pub nullable: bool,
    pub id: Option<u32>,
    /// `key`, `request`, `ref` or `extractor`.
    pub kind: &'static str,
    /// `UserStats.orders_1h`, or the extractor's name.
    pub origin: String,
    pub description: String,
    pub deprecated: bool,
    /// Its extractor is computed without the interpreter.
    pub native: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct FeaturesetView {
    pub name: String,
    pub keys: Vec<String>,
    pub features: Vec<FeatureView>,
    pub metadata: Metadata,
    /// False while a pipeline it needs is being built for the first time.
    pub available: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct SourceView {
    pub dataset: String,
    pub kind: String,
    /// `running`, `waiting`, `failed` or `paused`.
    pub state: String,
    pub cursor: String,
    pub rows: u64,
    /// Rows that could not be processed, since the server started; which and why is listed by `rejected`.
    pub rejected: u64,
    pub error: Option<String>,
    pub last_poll: Option<Time>,
    pub metadata: Metadata,
    pub settings: BTreeMap<String, serde_json::Value>,
}

/// The first rows of a source, as they would be published.
#[derive(Debug, Clone, Serialize)]
pub struct SourceTestView {
    /// Each an object.
    pub rows: Vec<serde_json::Value>,
    pub rejected: Vec<UnfitRowView>,
    /// Why not all of what is there can be read yet.
    pub pending: Option<String>,
    pub has_more: bool,
}

/// A row of a source that does not fit the dataset.
#[derive(Debug, Clone, Serialize)]
pub struct UnfitRowView {
    /// `line 12`.
    pub place: String,
    pub reason: String,
    /// The beginning of its text.
    pub sample: String,
}

/// A row that did not become an event.
#[derive(Debug, Clone, Serialize)]
pub struct RejectedView {
    /// `late` (a sample), `dead_letter` or `source`.
    pub kind: &'static str,
    pub reason: String,
    /// Where it stands in the dataset's log.
    pub partition: Option<u16>,
    pub offset: Option<u64>,
    pub arrived: Time,
    /// The row by field; of a source the beginning of its text, null where its key could not be read (so no erase finds it).
    pub row: serde_json::Value,
}

/// Work in the background.
#[derive(Debug, Clone, Serialize)]
pub struct JobView {
    pub id: String,
    /// `pipeline`, `build` or `source`.
    pub kind: &'static str,
    pub name: String,
    /// `running`, `caught_up`, `waiting` or `failed`.
    pub state: String,
    pub done_records: u64,
    pub total_records: u64,
    pub error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct BuildView {
    /// `UserStats.compute@2`.
    pub pipeline: String,
    pub done_records: u64,
    pub total_records: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct CommitView {
    pub id: String,
    /// `building`, `active`, `replaced`, `superseded` or `failed`.
    pub state: &'static str,
    pub message: String,
    pub created_at: Time,
    pub activated_at: Option<Time>,
    pub builds: Vec<BuildView>,
    pub error: Option<String>,
    pub content_hash: String,
    pub warnings: Vec<String>,
    /// Where a page that starts after this commit goes on.
    #[serde(skip)]
    pub sequence: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct EventView {
    pub id: i64,
    pub event_type: String,
    pub severity: &'static str,
    pub source: String,
    pub subject: String,
    pub message: String,
    pub detail: serde_json::Value,
    pub created_at: Time,
}

#[derive(Debug, Clone, Serialize)]
pub struct DatasetStatus {
    pub name: String,
    pub counts: Counts,
    pub watermark: Option<Time>,
    pub lag: u64,
}

/// The topic of an aggregated dataset.
#[derive(Debug, Clone, Serialize)]
pub struct EmissionView {
    pub dataset: String,
    pub topic: String,
    /// Log records that the pipeline has taken in and whose rows are not written yet.
    pub lag: u64,
}

/// A log of rows that pipelines on an aggregated dataset read.
#[derive(Debug, Clone, Serialize)]
pub struct FeedView {
    pub dataset: String,
    pub topic: String,
    /// Log records that the pipeline has taken in and whose rows are not written yet, in the slices that this node owns; `None`
    /// where it owns none.
    pub emit_lag: Option<u64>,
    /// Records of the raw dataset's log in state that are not in the tables behind it yet.
    pub lag: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct StatusView {
    pub version: &'static str,
    /// `ready`, `building` or `degraded`.
    pub state: &'static str,
    pub commit_id: String,
    /// `wall` or `event`.
    pub clock: &'static str,
    pub now: Time,
    pub started_at: Time,
    pub datasets: Vec<DatasetStatus>,
    pub builds: Vec<BuildView>,
    pub position: String,
    pub lag: u64,
    /// Of the slices that this node owns.
    pub emissions: Vec<EmissionView>,
    pub feeds: Vec<FeedView>,
    pub data_dir: String,
    pub roles: Vec<&'static str>,
    /// How many slices the work on the log has, and which of them are this node's.
    pub slices: u16,
    pub owned_slices: Vec<u16>,
    /// Those whose state this node has: datasets, builds, position and lag are about these.
    pub held_slices: Vec<u16>,
    /// What keeps the engine from going on.
    pub trouble: Option<String>,
    /// `None` where no checkpoints are taken.
    pub checkpoints: Option<CheckpointStatus>,
}
