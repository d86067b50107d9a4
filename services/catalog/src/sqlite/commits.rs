//! Commits and their definitions.

use super::{SqliteCatalog, from_sqlx};
use crate::model::{Commit, CommitStatus, NewCommit, PublishedFeature};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};
use thyme_core::time::Micros;
use thyme_core::{Error, Result};

const COLUMNS: &str =
    "sequence, id, message, created_at, activated_at, finished_at, status, content_hash, plan, new_identities, error";

pub(super) async fn begin(catalog: &SqliteCatalog, commit: NewCommit, supersede: bool) -> Result<()> {
    let mut transaction = catalog.write().await?;
    let building: Option<String> = sqlx::query_scalar("SELECT id FROM commits WHERE status = 'building'")
        .fetch_optional(&mut *transaction)
        .await
        .map_err(from_sqlx)?;
    if let Some(other) = building {
        if !supersede {
            return Err(Error::conflict(format!("commit {other} is still being built"))
                .hint("wait for it (thyme status), or replace it with --supersede"));
        }
        finish(&mut transaction, &other, CommitStatus::Superseded, commit.created_at, None).await?;
    }
    let new_identities =
        serde_json::to_string(&commit.new_identities).map_err(|error| Error::internal(error.to_string()))?;
    sqlx::query(
        "INSERT INTO commits (id, message, created_at, status, content_hash, definitions, plan, new_identities)
         VALUES (?, ?, ?, 'building', ?, ?, ?, ?)",
    )
    .bind(commit.id)
    .bind(commit.message)
    .bind(commit.created_at)
    .bind(commit.content_hash)
    .bind(commit.definitions)
    .bind(commit.plan)
    .bind(new_identities)
    .execute(&mut *transaction)
    .await
    .map_err(from_sqlx)?;
    transaction.commit().await.map_err(from_sqlx)
}

pub(super) async fn activate(
    catalog: &SqliteCatalog,
    id: &str,
    at: Micros,
    published: &[PublishedFeature],
) -> Result<()> {
    let mut transaction = catalog.write().await?;
    require_building(&mut transaction, id).await?;
    sqlx::query("UPDATE commits SET status = 'superseded' WHERE status = 'live'")
        .execute(&mut *transaction)
        .await
        .map_err(from_sqlx)?;
    finish(&mut transaction, id, CommitStatus::Live, at, None).await?;
    sqlx::query("UPDATE commits SET activated_at = ? WHERE id = ?")
        .bind(at)
        .bind(id)
        .execute(&mut *transaction)
        .await
        .map_err(from_sqlx)?;
    for feature in published {
        sqlx::query(
            "INSERT INTO published_features (featureset, id, name) VALUES (?, ?, ?)
             ON CONFLICT (featureset, id) DO UPDATE SET name = excluded.name",
        )
        .bind(&feature.featureset)
        .bind(feature.id)
        .bind(&feature.name)
        .execute(&mut *transaction)
        .await
        .map_err(from_sqlx)?;
    }
    transaction.commit().await.map_err(from_sqlx)
}

pub(super) async fn fail(catalog: &SqliteCatalog, id: &str, at: Micros, error: &str) -> Result<()> {
    let mut transaction = catalog.write().await?;
    require_building(&mut transaction, id).await?;
    finish(&mut transaction, id, CommitStatus::Failed, at, Some(error)).await?;
    transaction.commit().await.map_err(from_sqlx)
}

async fn require_building(transaction: &mut Transaction<'_, Sqlite>, id: &str) -> Result<()> {
    let status: Option<String> = sqlx::query_scalar("SELECT status FROM commits WHERE id = ?")
        .bind(id)
        .fetch_optional(&mut **transaction)
        .await
        .map_err(from_sqlx)?;
    match status.as_deref() {
        Some("building") => Ok(()),
        Some(other) => Err(Error::precondition(format!("commit {id} is {other}, not building"))),
        None => Err(Error::not_found(format!("no commit {id}"))),
    }
}

async fn finish(
    transaction: &mut Transaction<'_, Sqlite>,
    id: &str,
    status: CommitStatus,
    at: Micros,
    error: Option<&str>,
) -> Result<()> {
    sqlx::query("UPDATE commits SET status = ?, finished_at = ?, error = ? WHERE id = ?")
        .bind(status.name())
        .bind(at)
        .bind(error)
        .bind(id)
        .execute(&mut **transaction)
        .await
        .map_err(from_sqlx)?;
    Ok(())
}

pub(super) async fn with_status(catalog: &SqliteCatalog, status: CommitStatus) -> Result<Option<Commit>> {
    let row = sqlx::query(&format!("SELECT {COLUMNS} FROM commits WHERE status = ?"))
        .bind(status.name())
        .fetch_optional(&catalog.main)
        .await
        .map_err(from_sqlx)?;
    row.map(|row| read(&row)).transpose()
}

pub(super) async fn get(catalog: &SqliteCatalog, id: &str) -> Result<Option<Commit>> {
    let row = sqlx::query(&format!("SELECT {COLUMNS} FROM commits WHERE id = ?"))
        .bind(id)
        .fetch_optional(&catalog.main)
        .await
        .map_err(from_sqlx)?;
    row.map(|row| read(&row)).transpose()
}

pub(super) async fn list(catalog: &SqliteCatalog, limit: u32, before: Option<i64>) -> Result<Vec<Commit>> {
    let rows = sqlx::query(&format!("SELECT {COLUMNS} FROM commits WHERE sequence < ? ORDER BY sequence DESC LIMIT ?"))
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&catalog.main)
        .await
        .map_err(from_sqlx)?;
    rows.iter().map(read).collect()
}

pub(super) async fn definitions(catalog: &SqliteCatalog, commit_id: &str) -> Result<String> {
    sqlx::query_scalar("SELECT definitions FROM commits WHERE id = ?")
        .bind(commit_id)
        .fetch_optional(&catalog.main)
        .await
        .map_err(from_sqlx)?
        .ok_or_else(|| Error::not_found(format!("no commit {commit_id}")))
}

fn read(row: &SqliteRow) -> Result<Commit> {
    let status: String = row.try_get("status").map_err(from_sqlx)?;
    let new_identities: String = row.try_get("new_identities").map_err(from_sqlx)?;
    Ok(Commit {
        id: row.try_get("id").map_err(from_sqlx)?,
        sequence: row.try_get("sequence").map_err(from_sqlx)?,
        message: row.try_get("message").map_err(from_sqlx)?,
        created_at: row.try_get("created_at").map_err(from_sqlx)?,
        activated_at: row.try_get("activated_at").map_err(from_sqlx)?,
        finished_at: row.try_get("finished_at").map_err(from_sqlx)?,
        status: CommitStatus::parse(&status)?,
        content_hash: row.try_get("content_hash").map_err(from_sqlx)?,
        plan: row.try_get("plan").map_err(from_sqlx)?,
        new_identities: serde_json::from_str(&new_identities)
            .map_err(|error| Error::data_loss(format!("the catalog holds a broken identity list: {error}")))?,
        error: row.try_get("error").map_err(from_sqlx)?,
    })
}
