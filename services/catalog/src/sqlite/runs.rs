//! Query runs: written in batches off the request path, the newest kept.

use super::{SqliteCatalog, from_sqlx};
use crate::model::{QueryRun, RunFilter, RunPage};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};
use thyme_core::{Error, Result};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;
/// Rows per statement: SQLite allows 32,766 bound values.
const ROWS_PER_INSERT: usize = 1000;

pub(super) async fn add(catalog: &SqliteCatalog, runs: &[QueryRun], keep: u64) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let mut transaction = catalog.runs.begin_with("BEGIN IMMEDIATE").await.map_err(from_sqlx)?;
    for chunk in runs.chunks(ROWS_PER_INSERT) {
        let mut insert: QueryBuilder<'_, Sqlite> = QueryBuilder::new(
            "INSERT INTO query_runs (id, featureset, entity_ids, requested_timestamp, kind, row_count, hit_count,
             latency_us, api_key_fingerprint, commit_id, watermark, error, created_at) ",
        );
        insert.push_values(chunk, |mut row, run| {
            let entity_ids = serde_json::to_string(&run.entity_ids).unwrap_or_else(|_| "[]".to_string());
            row.push_bind(&run.id)
                .push_bind(&run.featureset)
                .push_bind(entity_ids)
                .push_bind(run.requested_timestamp)
                .push_bind(&run.kind)
                .push_bind(signed(run.row_count))
                .push_bind(signed(run.hit_count))
                .push_bind(signed(run.latency_us))
                .push_bind(&run.api_key_fingerprint)
                .push_bind(&run.commit_id)
                .push_bind(run.watermark)
                .push_bind(&run.error)
                .push_bind(run.created_at);
        });
        insert.build().execute(&mut *transaction).await.map_err(from_sqlx)?;
    }
    sqlx::query("DELETE FROM query_runs WHERE sequence <= (SELECT max(sequence) FROM query_runs) - ?")
        .bind(signed(keep))
        .execute(&mut *transaction)
        .await
        .map_err(from_sqlx)?;
    transaction.commit().await.map_err(from_sqlx)
}

pub(super) async fn list(catalog: &SqliteCatalog, filter: &RunFilter) -> Result<RunPage> {
    let limit = if filter.limit == 0 { DEFAULT_LIMIT } else { filter.limit.min(MAX_LIMIT) };
    let before = match &filter.cursor {
        Some(text) => text.parse::<i64>().map_err(|_| {
            Error::invalid(format!("not a cursor: '{text}'"))
                .field("cursor")
                .hint("pass the 'next_cursor' of an earlier answer unchanged")
        })?,
        None => i64::MAX,
    };
    let mut select: QueryBuilder<'_, Sqlite> = QueryBuilder::new("SELECT * FROM query_runs WHERE sequence < ");
    select.push_bind(before);
    if let Some(featureset) = &filter.featureset {
        select.push(" AND featureset = ").push_bind(featureset);
    }
    if let Some(kind) = &filter.kind {
        select.push(" AND kind = ").push_bind(kind);
    }
    select.push(" ORDER BY sequence DESC LIMIT ").push_bind(limit + 1);
    let rows = select.build().fetch_all(&catalog.main).await.map_err(from_sqlx)?;
    let shown = &rows[..rows.len().min(limit as usize)];
    let mut next_cursor = None;
    if rows.len() > shown.len()
        && let Some(last) = shown.last()
    {
        let sequence: i64 = last.try_get("sequence").map_err(from_sqlx)?;
        next_cursor = Some(sequence.to_string());
    }
    let runs: Result<Vec<QueryRun>> = shown.iter().map(read).collect();
    Ok(RunPage { runs: runs?, next_cursor })
}

pub(super) async fn get(catalog: &SqliteCatalog, id: &str) -> Result<Option<QueryRun>> {
    let row = sqlx::query("SELECT * FROM query_runs WHERE id = ?")
        .bind(id)
        .fetch_optional(&catalog.main)
        .await
        .map_err(from_sqlx)?;
    row.map(|row| read(&row)).transpose()
}

pub(super) async fn forget_entity(catalog: &SqliteCatalog, components: &[serde_json::Value]) -> Result<u64> {
    let Some(first) = components.first() else { return Ok(0) };
    let is_it = |entry: &serde_json::Value| match entry {
        serde_json::Value::Object(keys) => {
            components.iter().all(|component| keys.values().any(|value| value == component))
        }
        bare => components.len() == 1 && bare == first,
    };
    let mut transaction = catalog.write().await?;
    // The text filter is only a prefilter: serde_json writes a value the same way everywhere.
    let rows = sqlx::query("SELECT sequence, entity_ids FROM query_runs WHERE instr(entity_ids, ?) > 0")
        .bind(first.to_string())
        .fetch_all(&mut *transaction)
        .await
        .map_err(from_sqlx)?;
    let mut changed = 0;
    for row in rows {
        let sequence: i64 = row.try_get("sequence").map_err(from_sqlx)?;
        let mut entity_ids = read_entities(&row)?;
        if !entity_ids.iter().any(is_it) {
            continue;
        }
        entity_ids.iter_mut().filter(|entry| is_it(entry)).for_each(|entry| *entry = serde_json::Value::Null);
        sqlx::query("UPDATE query_runs SET entity_ids = ? WHERE sequence = ?")
            .bind(serde_json::Value::Array(entity_ids).to_string())
            .bind(sequence)
            .execute(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
        changed += 1;
    }
    transaction.commit().await.map_err(from_sqlx)?;
    Ok(changed)
}

fn read_entities(row: &SqliteRow) -> Result<Vec<serde_json::Value>> {
    let text: String = row.try_get("entity_ids").map_err(from_sqlx)?;
    serde_json::from_str(&text)
        .map_err(|error| Error::data_loss(format!("the catalog holds a broken query run: {error}")))
}

fn read(row: &SqliteRow) -> Result<QueryRun> {
    Ok(QueryRun {
        id: row.try_get("id").map_err(from_sqlx)?,
        featureset: row.try_get("featureset").map_err(from_sqlx)?,
        entity_ids: read_entities(row)?,
        requested_timestamp: row.try_get("requested_timestamp").map_err(from_sqlx)?,
        kind: row.try_get("kind").map_err(from_sqlx)?,
        row_count: unsigned(row, "row_count")?,
        hit_count: unsigned(row, "hit_count")?,
        latency_us: unsigned(row, "latency_us")?,
        api_key_fingerprint: row.try_get("api_key_fingerprint").map_err(from_sqlx)?,
        commit_id: row.try_get("commit_id").map_err(from_sqlx)?,
        watermark: row.try_get("watermark").map_err(from_sqlx)?,
        error: row.try_get("error").map_err(from_sqlx)?,
        created_at: row.try_get("created_at").map_err(from_sqlx)?,
    })
}

fn unsigned(row: &SqliteRow, column: &str) -> Result<u64> {
    let number: i64 = row.try_get(column).map_err(from_sqlx)?;
    Ok(u64::try_from(number).unwrap_or(0))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
