//! Query runs: written in batches off the request path, the newest kept.
//!
//! A row is a page of runs: a row for each would cost several times as much to write, and runs are written far more often than
//! read. A page is a JSON array with one array per run; its runs have the sequence numbers up to `last_sequence`, in order.

use super::{SqliteCatalog, from_sqlx};
use crate::model::{QueryRun, RunFilter, RunPage};
use crate::run_pages::{RunPages, read_page};
use futures::TryStreamExt as _;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use thyme_core::{Error, Result};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;
/// The runs of a page with their sequence numbers, oldest first.
fn numbered(row: &SqliteRow) -> Result<Vec<(i64, QueryRun)>> {
    let last: i64 = row.try_get("last_sequence").map_err(from_sqlx)?;
    let runs = read_page(row.try_get("runs").map_err(from_sqlx)?)?;
    let first = last + 1 - runs.len() as i64;
    Ok((first..).zip(runs).collect())
}

pub(super) async fn add(catalog: &SqliteCatalog, runs: RunPages, keep: u64) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let mut transaction = catalog.runs.begin_with("BEGIN IMMEDIATE").await.map_err(from_sqlx)?;
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(last_sequence) FROM run_pages")
        .fetch_one(&mut *transaction)
        .await
        .map_err(from_sqlx)?;
    let mut last = newest.unwrap_or(0);
    let forgotten = (last + runs.len() as i64).saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX));
    for page in runs.into_pages() {
        let (text, count) = page?;
        last += count as i64;
        sqlx::query("INSERT INTO run_pages (last_sequence, count, forgotten, runs) VALUES (?, ?, ?, ?)")
            .bind(last)
            .bind(count as i64)
            .bind(forgotten)
            .bind(text)
            .execute(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
    }
    sqlx::query("DELETE FROM run_pages WHERE last_sequence <= ?")
        .bind(forgotten)
        .execute(&mut *transaction)
        .await
        .map_err(from_sqlx)?;
    transaction.commit().await.map_err(from_sqlx)
}

/// Runs up to this number are no longer kept, though the page they share with others may be there.
async fn forgotten(catalog: &SqliteCatalog) -> Result<i64> {
    let newest: Option<i64> = sqlx::query_scalar("SELECT forgotten FROM run_pages ORDER BY last_sequence DESC LIMIT 1")
        .fetch_optional(&catalog.main)
        .await
        .map_err(from_sqlx)?;
    Ok(newest.unwrap_or(0))
}

pub(super) async fn list(catalog: &SqliteCatalog, filter: &RunFilter) -> Result<RunPage> {
    let limit = if filter.limit == 0 { DEFAULT_LIMIT } else { filter.limit.min(MAX_LIMIT) } as usize;
    let before = match &filter.cursor {
        Some(text) => text.parse::<i64>().map_err(|_| {
            Error::invalid(format!("not a cursor: '{text}'"))
                .field("cursor")
                .hint("pass the 'next_cursor' of an earlier answer unchanged")
        })?,
        None => i64::MAX,
    };
    let forgotten = forgotten(catalog).await?;
    let is_wanted = |sequence: i64, run: &QueryRun| {
        sequence < before
            && sequence > forgotten
            && filter.featureset.as_ref().is_none_or(|featureset| run.featureset == *featureset)
            && filter.kind.as_ref().is_none_or(|kind| run.kind == *kind)
    };
    let mut pages = sqlx::query(
        "SELECT last_sequence, runs FROM run_pages WHERE last_sequence - count + 1 < ? ORDER BY last_sequence DESC",
    )
    .bind(before)
    .fetch(&catalog.main);
    let mut found: Vec<(i64, QueryRun)> = Vec::new();
    while found.len() <= limit
        && let Some(row) = pages.try_next().await.map_err(from_sqlx)?
    {
        found.extend(numbered(&row)?.into_iter().rev().filter(|(sequence, run)| is_wanted(*sequence, run)));
    }
    let is_more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| is_more).map(|(sequence, _)| sequence.to_string());
    Ok(RunPage { runs: found.into_iter().map(|(_, run)| run).collect(), next_cursor })
}

pub(super) async fn get(catalog: &SqliteCatalog, id: &str) -> Result<Option<QueryRun>> {
    let forgotten = forgotten(catalog).await?;
    // The text filter is only a prefilter, here and below: serde_json writes a value the same way everywhere.
    let mut pages =
        sqlx::query("SELECT last_sequence, runs FROM run_pages WHERE instr(runs, ?) > 0 ORDER BY last_sequence DESC")
            .bind(serde_json::Value::from(id).to_string())
            .fetch(&catalog.main);
    while let Some(row) = pages.try_next().await.map_err(from_sqlx)? {
        let mut runs = numbered(&row)?.into_iter();
        if let Some((_, run)) = runs.find(|(sequence, run)| *sequence > forgotten && run.id == id) {
            return Ok(Some(run));
        }
    }
    Ok(None)
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
    let rows = sqlx::query("SELECT last_sequence, runs FROM run_pages WHERE instr(runs, ?) > 0")
        .bind(first.to_string())
        .fetch_all(&mut *transaction)
        .await
        .map_err(from_sqlx)?;
    let mut changed = 0;
    for row in rows {
        let mut runs: Vec<QueryRun> = numbered(&row)?.into_iter().map(|(_, run)| run).collect();
        let before = changed;
        for run in runs.iter_mut().filter(|run| run.entity_ids.iter().any(is_it)) {
            run.entity_ids.iter_mut().filter(|entry| is_it(entry)).for_each(|entry| *entry = serde_json::Value::Null);
            changed += 1;
        }
        if changed == before {
            continue;
        }
        let last: i64 = row.try_get("last_sequence").map_err(from_sqlx)?;
        for page in RunPages::of(&runs)?.into_pages() {
            sqlx::query("UPDATE run_pages SET runs = ? WHERE last_sequence = ?")
                .bind(page?.0)
                .bind(last)
                .execute(&mut *transaction)
                .await
                .map_err(from_sqlx)?;
        }
    }
    transaction.commit().await.map_err(from_sqlx)?;
    Ok(changed)
}
