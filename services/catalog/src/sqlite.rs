//! The default backend: one SQLite file in write-ahead mode.
//!
//! Definitions are written through connections that sync every commit; query runs through one that leaves syncing to the next
//! checkpoint, because losing the last runs in a power cut is allowed and a sync per batch is not worth it.

mod activity;
mod commits;
mod copy;
mod ids;
mod runs;
mod schema;

use crate::model::{
    ActivityEvent, Commit, NewActivityEvent, NewCommit, PublishedFeature, QueryRun, RunFilter, RunPage,
};
use crate::run_pages::RunPages;
use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use thyme_core::time::Micros;
use thyme_core::{Error, ErrorKind, Result};

/// How long a writer waits for another before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

pub struct SqliteCatalog {
    /// Everything but new query runs: a commit is on disk when it returns.
    main: SqlitePool,
    /// New query runs.
    runs: SqlitePool,
}

impl SqliteCatalog {
    /// Opens or creates the database file. A file of another schema version is refused with both versions named.
    pub async fn open(path: &Path) -> Result<SqliteCatalog> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let opening = |error: Error| error.context(format!("cannot open the catalog {}", path.display()));
        let main = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options.clone().synchronous(SqliteSynchronous::Full))
            .await
            .map_err(|error| opening(from_sqlx(error)))?;
        schema::migrate(&main).await.map_err(opening)?;
        let runs = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.synchronous(SqliteSynchronous::Normal))
            .await
            .map_err(|error| opening(from_sqlx(error)))?;
        Ok(SqliteCatalog { main, runs })
    }

    /// A catalog that lives as long as this value.
    pub async fn in_memory() -> Result<SqliteCatalog> {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(SqliteConnectOptions::new().in_memory(true).foreign_keys(true))
            .await
            .map_err(from_sqlx)?;
        schema::migrate(&pool).await?;
        Ok(SqliteCatalog { main: pool.clone(), runs: pool })
    }

    /// Waits for running work and closes the file.
    pub async fn close(&self) {
        self.main.close().await;
        self.runs.close().await;
    }

    /// A transaction that takes the write lock at once, so that it never fails halfway because another writer came first.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>> {
        self.main.begin_with("BEGIN IMMEDIATE").await.map_err(from_sqlx)
    }
}

/// What SQLite reports, as an error that tells the caller what to do.
fn from_sqlx(error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|database| database.code());
    let primary = code.and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
    let message = format!("catalog: {error}");
    match primary {
        Some(5 | 6) => Error::unavailable(message).hint("another process holds the catalog; try again"),
        Some(8 | 3 | 14) => Error::precondition(message).hint("make the data directory writable for this user"),
        Some(11 | 26) => Error::data_loss(message),
        Some(13) => Error::new(ErrorKind::ResourceExhausted, message).hint("free some disk space"),
        _ => match error {
            sqlx::Error::PoolTimedOut => Error::unavailable("catalog: no free connection"),
            sqlx::Error::PoolClosed => Error::unavailable("catalog: closed"),
            sqlx::Error::Io(_) => Error::unavailable(message),
            _ => Error::internal(message),
        },
    }
}

#[async_trait]
impl crate::Catalog for SqliteCatalog {
    async fn begin_commit(&self, commit: NewCommit, supersede: bool) -> Result<()> {
        commits::begin(self, commit, supersede).await
    }
    async fn activate_commit(&self, id: &str, at: Micros, published: &[PublishedFeature]) -> Result<()> {
        commits::activate(self, id, at, published).await
    }
    async fn fail_commit(&self, id: &str, at: Micros, error: &str) -> Result<()> {
        commits::fail(self, id, at, error).await
    }
    async fn live_commit(&self) -> Result<Option<Commit>> {
        commits::with_status(self, crate::CommitStatus::Live).await
    }
    async fn building_commit(&self) -> Result<Option<Commit>> {
        commits::with_status(self, crate::CommitStatus::Building).await
    }
    async fn commit(&self, id: &str) -> Result<Option<Commit>> {
        commits::get(self, id).await
    }
    async fn commits(&self, limit: u32, before: Option<i64>) -> Result<Vec<Commit>> {
        commits::list(self, limit, before).await
    }
    async fn definitions(&self, commit_id: &str) -> Result<String> {
        commits::definitions(self, commit_id).await
    }
    async fn allocate_ids(&self, identities: &[String]) -> Result<BTreeMap<String, u32>> {
        ids::allocate(self, identities).await
    }
    async fn find_ids(&self, identities: &[String]) -> Result<BTreeMap<String, u32>> {
        ids::find(self, identities).await
    }
    async fn retire_ids(&self, identities: &[String]) -> Result<()> {
        ids::retire(self, identities).await
    }
    async fn published_features(&self) -> Result<Vec<PublishedFeature>> {
        ids::published(self).await
    }
    async fn cursor(&self, source: &str) -> Result<Option<String>> {
        activity::cursor(self, source).await
    }
    async fn save_cursor(&self, source: &str, cursor: &str, at: Micros) -> Result<()> {
        activity::save_cursor(self, source, cursor, at).await
    }
    async fn remove_cursor(&self, source: &str) -> Result<()> {
        activity::remove_cursor(self, source).await
    }
    async fn add_event(&self, event: NewActivityEvent) -> Result<()> {
        activity::add_event(self, event).await
    }
    async fn events(&self, limit: u32, before: Option<i64>) -> Result<Vec<ActivityEvent>> {
        activity::events(self, limit, before).await
    }
    async fn add_runs(&self, runs: RunPages, keep: u64) -> Result<()> {
        runs::add(self, runs, keep).await
    }
    async fn runs(&self, filter: &RunFilter) -> Result<RunPage> {
        runs::list(self, filter).await
    }
    async fn run(&self, id: &str) -> Result<Option<QueryRun>> {
        runs::get(self, id).await
    }
    async fn forget_entity(&self, components: &[serde_json::Value]) -> Result<u64> {
        runs::forget_entity(self, components).await
    }
    async fn copy_to(&self, file: &Path) -> Result<bool> {
        copy::copy_to(self, file).await.map(|()| true)
    }
}
