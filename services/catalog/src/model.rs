//! What the catalog stores, as plain values.

use thyme_core::time::Micros;
use thyme_core::{Error, Result};

/// A new id: UUID v7 of the given time, so that ids sort by creation.
pub fn new_id(at: Micros) -> String {
    let seconds = u64::try_from(at.div_euclid(1_000_000)).unwrap_or(0);
    let nanos = u32::try_from(at.rem_euclid(1_000_000)).unwrap_or(0) * 1_000;
    uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos)).to_string()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitStatus {
    /// New pipelines are being built in the background; the predecessor serves.
    Building,
    /// Serves.
    Live,
    /// Could not be completed; see the commit's error.
    Failed,
    /// Another commit took its place, before or after it went live.
    Superseded,
}

impl CommitStatus {
    pub fn name(self) -> &'static str {
        match self {
            CommitStatus::Building => "building",
            CommitStatus::Live => "live",
            CommitStatus::Failed => "failed",
            CommitStatus::Superseded => "superseded",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<CommitStatus> {
        [CommitStatus::Building, CommitStatus::Live, CommitStatus::Failed, CommitStatus::Superseded]
            .into_iter()
            .find(|status| status.name() == text)
            .ok_or_else(|| Error::data_loss(format!("the catalog holds an unknown commit status '{text}'")))
    }
}

/// A commit to be recorded.
#[derive(Debug, Clone)]
pub struct NewCommit {
    pub id: String,
    pub message: String,
    pub created_at: Micros,
    /// Tells whether two commits carry the same content.
    pub content_hash: String,
    /// The merged definitions as JSON.
    pub definitions: String,
    /// The plan as JSON.
    pub plan: String,
    /// Identities that exist only because of this commit; retired if it is given up.
    pub new_identities: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    pub id: String,
    /// Order of commits; the cursor of [`crate::Catalog::commits`].
    pub sequence: i64,
    pub message: String,
    pub created_at: Micros,
    /// When it went live.
    pub activated_at: Option<Micros>,
    /// When it went live, failed, or was superseded while it was being built.
    pub finished_at: Option<Micros>,
    pub status: CommitStatus,
    pub content_hash: String,
    /// The plan as JSON.
    pub plan: String,
    pub new_identities: Vec<String>,
    pub error: Option<String>,
}

/// A feature id that was live once: it is never given to another feature.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishedFeature {
    pub featureset: String,
    pub id: u32,
    /// The name under which it was published last.
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Info,
    Warning,
    Error,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Severity> {
        [Severity::Info, Severity::Warning, Severity::Error]
            .into_iter()
            .find(|severity| severity.name() == text)
            .ok_or_else(|| Error::data_loss(format!("the catalog holds an unknown severity '{text}'")))
    }
}

/// Something worth showing in the event feed.
#[derive(Debug, Clone, PartialEq)]
pub struct NewActivityEvent {
    /// Such as `commit.live`.
    pub event_type: String,
    pub severity: Severity,
    /// The component that reports, such as `control`.
    pub source: String,
    /// What it is about, such as a commit id.
    pub subject: String,
    pub message: String,
    /// Free JSON.
    pub detail: serde_json::Value,
    pub created_at: Micros,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ActivityEvent {
    pub id: i64,
    pub event: NewActivityEvent,
}

/// One answered (or failed) question.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryRun {
    pub id: String,
    pub featureset: String,
    /// One JSON value per entity: a scalar, or an object for several keys.
    pub entity_ids: Vec<serde_json::Value>,
    pub requested_timestamp: Option<Micros>,
    /// `online`, `batch`, `offline` or `lookup`.
    pub kind: String,
    pub row_count: u64,
    pub hit_count: u64,
    pub latency_us: u64,
    pub api_key_fingerprint: Option<String>,
    pub commit_id: String,
    pub watermark: Option<Micros>,
    pub error: Option<String>,
    pub created_at: Micros,
}

#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// At most this many; 0 means 50.
    pub limit: u32,
    pub featureset: Option<String>,
    pub kind: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RunPage {
    pub runs: Vec<QueryRun>,
    /// Where the next page starts; `None` at the end.
    pub next_cursor: Option<String>,
}
