//! Query runs: one record per question, handed to a [`RunSink`] off the request's path.

use crate::question::RunKind;
use std::sync::Arc;
use thyme_core::position::PositionSet;
use thyme_core::time::Micros;

/// At most this many entities of a question are kept in its record.
pub const RECORDED_ENTITIES: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// UUIDv7 text.
    pub id: Arc<str>,
    /// Featureset, or the dataset of a lookup.
    pub featureset: Arc<str>,
    pub kind: RunKind,
    /// The entities' keys as JSON: the bare value for one key, an object for several; the first [`RECORDED_ENTITIES`].
    pub entity_ids: Vec<serde_json::Value>,
    /// The `ts` that was asked for; `None` is now.
    pub requested_timestamp: Option<Micros>,
    /// The T that was answered.
    pub ts: Micros,
    pub exclusive: bool,
    pub row_count: u64,
    /// Entities with an accepted event at or before T in a pipeline that was read.
    pub hit_count: u64,
    pub latency_us: u64,
    pub api_key_fingerprint: Option<Arc<str>>,
    pub commit_id: Arc<str>,
    pub watermark: Option<Micros>,
    pub position: PositionSet,
    /// Why the question failed as a whole, or that an export was broken off.
    pub error: Option<String>,
    pub created_at: Micros,
}

impl RunRecord {
    /// Latency in milliseconds, fractional.
    pub fn latency_ms(&self) -> f64 {
        self.latency_us as f64 / 1000.0
    }
}

/// Where run records go. `record` never blocks: a full queue drops the record and counts it.
pub trait RunSink: Send + Sync {
    fn record(&self, run: &RunRecord);
}

/// Keeps no runs.
pub struct NoRuns;

impl RunSink for NoRuns {
    fn record(&self, _run: &RunRecord) {}
}
