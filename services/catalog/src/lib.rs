//! What Thyme remembers apart from events and state: definitions and their commits, allocated ids, published feature ids,
//! source cursors, the event feed and query runs.
//!
//! [`Catalog`] is the trait; [`SqlCatalog`] keeps it in a SQLite file or in PostgreSQL. One conformance suite runs on both. Text
//! that others own (definitions, plans, cursors) is stored as it came: the catalog never looks into it.

mod database;
mod model;
mod postgres;
mod run_history;
mod run_pages;
mod sql;
mod sqlite;

pub use model::{
    ActivityEvent, Commit, CommitStatus, NewActivityEvent, NewCommit, PublishedFeature, QueryRun, RunFilter, RunPage,
    Severity, new_id,
};
pub use postgres::{PostgresSettings, redacted};
pub use run_history::RunHistory;
pub use run_pages::{NewRun, RunPages};
pub use sql::SqlCatalog;

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::Path;
use thyme_core::Result;
use thyme_core::time::Micros;

/// The catalog. Every method is one transaction.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Records a commit as `building`. Another one that is still building is a `Conflict` that names it, unless `supersede`: then
    /// that one becomes `superseded` in the same transaction.
    async fn begin_commit(&self, commit: NewCommit, supersede: bool) -> Result<()>;
    /// The takeover: the commit becomes `live`, its predecessor `superseded`, and its feature ids are published.
    /// Does nothing for a commit that is live; `FailedPrecondition` for one that is neither.
    async fn activate_commit(&self, id: &str, at: Micros, published: &[PublishedFeature]) -> Result<()>;
    /// A building commit could not be completed.
    async fn fail_commit(&self, id: &str, at: Micros, error: &str) -> Result<()>;
    /// The commit that serves; at most one.
    async fn live_commit(&self) -> Result<Option<Commit>>;
    /// The commit that is being built; at most one.
    async fn building_commit(&self) -> Result<Option<Commit>>;
    async fn commit(&self, id: &str) -> Result<Option<Commit>>;
    /// Newest first, those older than `before` (a commit's `sequence`).
    async fn commits(&self, limit: u32, before: Option<i64>) -> Result<Vec<Commit>>;
    /// The merged definitions of a commit, as given to [`Catalog::begin_commit`].
    async fn definitions(&self, commit_id: &str) -> Result<String>;

    /// The small id of each identity (`log:Order@1`, `pipeline:UserStats.compute@1`), allocated on first use. An id is never
    /// given to another identity.
    async fn allocate_ids(&self, identities: &[String]) -> Result<BTreeMap<String, u32>>;
    /// The ids of those identities that have one.
    async fn find_ids(&self, identities: &[String]) -> Result<BTreeMap<String, u32>>;
    /// Forgets identities whose state was dropped: the next use gets a new id.
    async fn retire_ids(&self, identities: &[String]) -> Result<()>;

    /// Every feature id that was ever live, of all featuresets.
    async fn published_features(&self) -> Result<Vec<PublishedFeature>>;

    async fn cursor(&self, source: &str) -> Result<Option<String>>;
    async fn save_cursor(&self, source: &str, cursor: &str, at: Micros) -> Result<()>;
    async fn remove_cursor(&self, source: &str) -> Result<()>;
    /// Whether a source rests until somebody resumes it.
    async fn is_paused(&self, source: &str) -> Result<bool> {
        Ok(self.cursor(&pause_entry(source)).await?.is_some())
    }
    /// Over restarts, until it is resumed. Its cursor stays.
    async fn pause(&self, source: &str, at: Micros) -> Result<()> {
        self.save_cursor(&pause_entry(source), "paused", at).await
    }
    async fn resume(&self, source: &str) -> Result<()> {
        self.remove_cursor(&pause_entry(source)).await
    }

    async fn add_event(&self, event: NewActivityEvent) -> Result<()>;
    /// Newest first, those older than `before` (an event's `id`).
    async fn events(&self, limit: u32, before: Option<i64>) -> Result<Vec<ActivityEvent>>;

    /// Adds runs and keeps the newest `keep` of all.
    async fn add_runs(&self, runs: &RunPages, keep: u64) -> Result<()>;
    /// The same after an error: adds nothing if the runs were added and only the answer was lost.
    async fn add_runs_again(&self, runs: &RunPages, keep: u64) -> Result<()>;
    /// Newest first.
    async fn runs(&self, filter: &RunFilter) -> Result<RunPage>;
    async fn run(&self, id: &str) -> Result<Option<QueryRun>>;
    /// Removes an erased key from what runs remember: an entry of `entity_ids` that is its only component, or an object with all
    /// its components among the values, becomes null. Returns how many runs changed.
    async fn forget_entity(&self, components: &[serde_json::Value]) -> Result<u64>;

    /// Writes all but the query runs to a new file, which opens as a catalog. False where the catalog is not a file of this machine
    /// and has backups of its own.
    async fn copy_to(&self, _file: &Path) -> Result<bool> {
        Ok(false)
    }
}

/// A pause is an entry beside the cursors: no dataset's identity has a colon.
fn pause_entry(source: &str) -> String {
    format!("paused:{source}")
}
