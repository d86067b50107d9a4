//! The tables, as a list of steps; `PRAGMA user_version` says how many were taken.

use crate::sqlite::from_sqlx;
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
",
    "
CREATE TABLE run_pages (
    last_sequence INTEGER PRIMARY KEY,
    count         INTEGER NOT NULL,
    forgotten     INTEGER NOT NULL,
    runs          TEXT NOT NULL
);
INSERT INTO run_pages (last_sequence, count, forgotten, runs)
SELECT sequence, 1, 0, json_array(json_array(id, featureset, json(entity_ids), requested_timestamp, kind, row_count, hit_count,
       latency_us, api_key_fingerprint, commit_id, watermark, error, created_at))
FROM query_runs;
DROP TABLE query_runs;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunFilter;
    use crate::{Catalog as _, RunPages, SqlCatalog};
    use sqlx::sqlite::SqliteConnectOptions;

    #[tokio::test]
    async fn runs_of_version_1_are_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        pool.execute(STEPS[0]).await.unwrap();
        pool.execute("PRAGMA user_version = 1").await.unwrap();
        for (id, error) in [("r1", "NULL"), ("r2", "'say \"no\"'")] {
            let insert = format!(
                "INSERT INTO query_runs (id, featureset, entity_ids, requested_timestamp, kind, row_count, hit_count, latency_us,
                 api_key_fingerprint, commit_id, watermark, error, created_at)
                 VALUES ('{id}', 'F', '[1,{{\"a\":\"x\"}}]', 5, 'online', 2, 1, 30, NULL, 'c', -7, {error}, 1700000000000000)"
            );
            pool.execute(insert.as_str()).await.unwrap();
        }
        pool.close().await;
        let catalog = SqlCatalog::sqlite(&path).await.unwrap();
        let runs = catalog.runs(&RunFilter::default()).await.unwrap().runs;
        assert_eq!(runs.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["r2", "r1"]);
        assert_eq!(runs[0].error.as_deref(), Some("say \"no\""));
        assert_eq!(runs[1].error, None);
        assert_eq!(runs[1].entity_ids, vec![serde_json::json!(1), serde_json::json!({"a": "x"})]);
        let (asked, watermark) = (runs[1].requested_timestamp, runs[1].watermark);
        assert_eq!((asked, watermark, runs[1].created_at), (Some(5), Some(-7), 1_700_000_000_000_000));
        catalog.add_runs(&RunPages::of(&runs[..1]).unwrap(), 2).await.unwrap();
        let kept = catalog.runs(&RunFilter::default()).await.unwrap().runs;
        assert_eq!(kept.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["r2", "r2"]);
    }
}
