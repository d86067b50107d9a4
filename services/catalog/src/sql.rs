//! [`SqlCatalog`]: the catalog in a SQLite file or in a PostgreSQL database. What it does is written once, over both.

mod activity;
mod commits;
mod ids;
mod runs;

use crate::database::Database;
use crate::model::{
    ActivityEvent, Commit, CommitStatus, NewActivityEvent, NewCommit, PublishedFeature, QueryRun, RunFilter, RunPage,
};
use crate::postgres::{PostgresPool, PostgresSettings};
use crate::run_pages::RunPages;
use crate::sqlite::{SqlitePools, copy};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::Path;
use thyme_core::Result;
use thyme_core::time::Micros;

pub struct SqlCatalog {
    database: Database,
}

impl SqlCatalog {
    /// Opens or creates the database file. A file of another schema version is refused with both versions named.
    pub async fn sqlite(path: &Path) -> Result<SqlCatalog> {
        Ok(SqlCatalog { database: Database::Sqlite(SqlitePools::open(path).await?) })
    }

    /// A catalog that lives as long as this value.
    pub async fn in_memory() -> Result<SqlCatalog> {
        Ok(SqlCatalog { database: Database::Sqlite(SqlitePools::in_memory().await?) })
    }

    /// Connects, and makes the tables if they are missing. A catalog of another schema version is refused with both versions
    /// named.
    pub async fn postgres(settings: &PostgresSettings) -> Result<SqlCatalog> {
        Ok(SqlCatalog { database: Database::Postgres(PostgresPool::open(settings).await?) })
    }

    /// Tells two catalogs apart that are not files of a data directory.
    pub fn identity(&self) -> Option<&str> {
        match &self.database {
            Database::Sqlite(_) => None,
            Database::Postgres(pool) => Some(pool.identity()),
        }
    }

    /// Waits for running work and closes the connections.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

#[async_trait]
impl crate::Catalog for SqlCatalog {
    async fn begin_commit(&self, commit: NewCommit, supersede: bool) -> Result<()> {
        commits::begin(&self.database, commit, supersede).await
    }
    async fn activate_commit(&self, id: &str, at: Micros, published: &[PublishedFeature]) -> Result<()> {
        commits::activate(&self.database, id, at, published).await
    }
    async fn fail_commit(&self, id: &str, at: Micros, error: &str) -> Result<()> {
        commits::fail(&self.database, id, at, error).await
    }
    async fn live_commit(&self) -> Result<Option<Commit>> {
        commits::with_status(&self.database, CommitStatus::Live).await
    }
    async fn building_commit(&self) -> Result<Option<Commit>> {
        commits::with_status(&self.database, CommitStatus::Building).await
    }
    async fn commit(&self, id: &str) -> Result<Option<Commit>> {
        commits::get(&self.database, id).await
    }
    async fn commits(&self, limit: u32, before: Option<i64>) -> Result<Vec<Commit>> {
        commits::list(&self.database, limit, before).await
    }
    async fn definitions(&self, commit_id: &str) -> Result<String> {
        commits::definitions(&self.database, commit_id).await
    }
    async fn allocate_ids(&self, identities: &[String]) -> Result<BTreeMap<String, u32>> {
        ids::allocate(&self.database, identities).await
    }
    async fn find_ids(&self, identities: &[String]) -> Result<BTreeMap<String, u32>> {
        ids::find(&self.database, identities).await
    }
    async fn retire_ids(&self, identities: &[String]) -> Result<()> {
        ids::retire(&self.database, identities).await
    }
    async fn published_features(&self) -> Result<Vec<PublishedFeature>> {
        ids::published(&self.database).await
    }
    async fn cursor(&self, source: &str) -> Result<Option<String>> {
        activity::cursor(&self.database, source).await
    }
    async fn save_cursor(&self, source: &str, cursor: &str, at: Micros) -> Result<()> {
        activity::save_cursor(&self.database, source, cursor, at).await
    }
    async fn remove_cursor(&self, source: &str) -> Result<()> {
        activity::remove_cursor(&self.database, source).await
    }
    async fn add_event(&self, event: NewActivityEvent) -> Result<()> {
        activity::add_event(&self.database, event).await
    }
    async fn events(&self, limit: u32, before: Option<i64>) -> Result<Vec<ActivityEvent>> {
        activity::events(&self.database, limit, before).await
    }
    async fn add_runs(&self, runs: &RunPages, keep: u64) -> Result<()> {
        runs::add(&self.database, runs, keep, false).await
    }
    async fn add_runs_again(&self, runs: &RunPages, keep: u64) -> Result<()> {
        runs::add(&self.database, runs, keep, true).await
    }
    async fn runs(&self, filter: &RunFilter) -> Result<RunPage> {
        runs::list(&self.database, filter).await
    }
    async fn run(&self, id: &str) -> Result<Option<QueryRun>> {
        runs::get(&self.database, id).await
    }
    async fn forget_entity(&self, components: &[serde_json::Value]) -> Result<u64> {
        runs::forget_entity(&self.database, components).await
    }
    async fn copy_to(&self, file: &Path) -> Result<bool> {
        match &self.database {
            Database::Sqlite(pools) => copy::copy_to(&pools.main, file).await.map(|()| true),
            Database::Postgres(_) => Ok(false),
        }
    }
}
