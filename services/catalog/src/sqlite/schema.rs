//! The tables, as a list of steps; `PRAGMA user_version` says how many were taken.

use super::from_sqlx;
use sqlx::sqlite::SqlitePool;
use sqlx::{Executor, Row};
use thyme_core::{Error, Result};

/// Step n brings a database of version n to version n + 1. A step that was released never changes.
pub(super) const STEPS: &[&str] = &["
CREATE TABLE commits (
    sequence       INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    message        TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    activated_at   INTEGER,
    finished_at    INTEGER,
    status         TEXT NOT NULL,
    content_hash   TEXT NOT NULL,
    definitions    TEXT NOT NULL,
    plan           TEXT NOT NULL,
    new_identities TEXT NOT NULL,
    error          TEXT
);
CREATE UNIQUE INDEX one_live_commit ON commits (status) WHERE status = 'live';
CREATE UNIQUE INDEX one_building_commit ON commits (status) WHERE status = 'building';
CREATE TABLE ids (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    identity TEXT NOT NULL UNIQUE
);
CREATE TABLE published_features (
    featureset TEXT NOT NULL,
    id         INTEGER NOT NULL,
    name       TEXT NOT NULL,
    PRIMARY KEY (featureset, id)
);
CREATE TABLE cursors (
    source     TEXT PRIMARY KEY,
    cursor     TEXT NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    event_type TEXT NOT NULL,
    severity   TEXT NOT NULL,
    source     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    message    TEXT NOT NULL,
    detail     TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE TABLE query_runs (
    sequence            INTEGER PRIMARY KEY AUTOINCREMENT,
    id                  TEXT NOT NULL UNIQUE,
    featureset          TEXT NOT NULL,
    entity_ids          TEXT NOT NULL,
    requested_timestamp INTEGER,
    kind                TEXT NOT NULL,
    row_count           INTEGER NOT NULL,
    hit_count           INTEGER NOT NULL,
    latency_us          INTEGER NOT NULL,
    api_key_fingerprint TEXT,
    commit_id           TEXT NOT NULL,
    watermark           INTEGER,
    error               TEXT,
    created_at          INTEGER NOT NULL
);
"];

pub(super) async fn migrate(pool: &SqlitePool) -> Result<()> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(from_sqlx)?;
    let row = transaction.fetch_one("PRAGMA user_version").await.map_err(from_sqlx)?;
    let found: i64 = row.try_get(0).map_err(from_sqlx)?;
    let known = STEPS.len() as i64;
    let row = transaction.fetch_one("SELECT count(*) FROM sqlite_schema").await.map_err(from_sqlx)?;
    let objects: i64 = row.try_get(0).map_err(from_sqlx)?;
    if found < 0 || found > known || (found == 0 && objects > 0) {
        return Err(Error::precondition(format!("schema version {found} is not known, this build knows 1 to {known}"))
            .hint("run the version of thyme that wrote this data directory, or choose another with --data-dir"));
    }
    for step in &STEPS[found as usize..] {
        transaction.execute(*step).await.map_err(from_sqlx)?;
    }
    if found < known {
        transaction.execute(format!("PRAGMA user_version = {known}").as_str()).await.map_err(from_sqlx)?;
    }
    transaction.commit().await.map_err(from_sqlx)
}
