//! Query runs: written in batches off the request path, the newest kept.
//!
//! A row is a page of runs: a row for each would cost several times as much to write, and runs are written far more often than
//! read. A page is a JSON array with one array per run; its runs have the sequence numbers up to `last_sequence`, in order.

use crate::database::{Database, Row, Session, Writer, args};
use crate::model::{QueryRun, RunFilter, RunPage};
use crate::run_pages::{RunPages, read_page};
use thyme_core::{Error, Result};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;
/// How many pages are read at a time.
const PAGES: u32 = 8;

/// The runs of a page with their sequence numbers, oldest first.
fn numbered(row: &Row) -> Result<Vec<(i64, QueryRun)>> {
    let last = row.number("last_sequence")?;
    let runs = read_page(&row.text("runs")?)?;
    let first = last + 1 - runs.len() as i64;
    Ok((first..).zip(runs).collect())
}

pub(super) async fn add(database: &Database, runs: &RunPages, keep: u64, may_be_there: bool) -> Result<()> {
    let Some(first) = runs.first_id() else { return Ok(()) };
    let mut transaction = database.write(Writer::Runs).await?;
    // Under the lock: a commit that nobody waits for any more may still be on its way.
    if may_be_there && find(database, &mut transaction, first, i64::MIN).await?.is_some() {
        return transaction.commit().await;
    }
    let newest = transaction.row("SELECT max(last_sequence) AS newest FROM run_pages", &[]).await?;
    let newest = newest.map(|row| row.number_or_null("newest")).transpose()?.flatten();
    let mut last = newest.unwrap_or(0);
    let forgotten = (last + runs.len() as i64).saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX));
    for page in runs.pages() {
        let (text, count) = page?;
        let count = count as i64;
        last += count;
        let sql = "INSERT INTO run_pages (last_sequence, count, forgotten, runs) VALUES ($1, $2, $3, $4)";
        transaction.execute(sql, &args![last, count, forgotten, text]).await?;
    }
    transaction.execute("DELETE FROM run_pages WHERE last_sequence <= $1", &args![forgotten]).await?;
    transaction.commit().await
}

/// Runs up to this number are no longer kept, though the page they share with others may be there.
async fn forgotten(session: &mut Session) -> Result<i64> {
    let newest = session.row("SELECT forgotten FROM run_pages ORDER BY last_sequence DESC LIMIT 1", &[]).await?;
    newest.map_or(Ok(0), |row| row.number("forgotten"))
}

pub(super) async fn list(database: &Database, filter: &RunFilter) -> Result<RunPage> {
    let limit = if filter.limit == 0 { DEFAULT_LIMIT } else { filter.limit.min(MAX_LIMIT) } as usize;
    let before = match &filter.cursor {
        Some(text) => text.parse::<i64>().map_err(|_| {
            Error::invalid(format!("not a cursor: '{text}'"))
                .field("cursor")
                .hint("pass the 'next_cursor' of an earlier answer unchanged")
        })?,
        None => i64::MAX,
    };
    let mut session = database.plain().await?;
    let forgotten = forgotten(&mut session).await?;
    let is_wanted = |sequence: i64, run: &QueryRun| {
        sequence < before
            && sequence > forgotten
            && filter.featureset.as_ref().is_none_or(|featureset| run.featureset == *featureset)
            && filter.kind.as_ref().is_none_or(|kind| run.kind == *kind)
    };
    let sql = "SELECT last_sequence, runs FROM run_pages WHERE last_sequence - count + 1 < $1 AND last_sequence < $2
               ORDER BY last_sequence DESC LIMIT $3";
    let mut found: Vec<(i64, QueryRun)> = Vec::new();
    let mut unread = i64::MAX;
    while found.len() <= limit {
        let pages = session.rows(sql, &args![before, unread, PAGES]).await?;
        let Some(oldest) = pages.last() else { break };
        unread = oldest.number("last_sequence")?;
        for page in &pages {
            found.extend(numbered(page)?.into_iter().rev().filter(|(sequence, run)| is_wanted(*sequence, run)));
        }
    }
    let is_more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| is_more).map(|(sequence, _)| sequence.to_string());
    Ok(RunPage { runs: found.into_iter().map(|(_, run)| run).collect(), next_cursor })
}

/// Pages that contain the text of a JSON value. This is only a prefilter: serde_json writes a value the same way everywhere.
async fn pages_with(database: &Database, session: &mut Session, value: &serde_json::Value) -> Result<Vec<Row>> {
    let contains = database.contains("runs", "$1");
    let sql = format!("SELECT last_sequence, runs FROM run_pages WHERE {contains} ORDER BY last_sequence DESC");
    session.rows(&sql, &args![value.to_string()]).await
}

pub(super) async fn get(database: &Database, id: &str) -> Result<Option<QueryRun>> {
    let mut session = database.plain().await?;
    let forgotten = forgotten(&mut session).await?;
    find(database, &mut session, id, forgotten).await
}

async fn find(database: &Database, session: &mut Session, id: &str, forgotten: i64) -> Result<Option<QueryRun>> {
    for page in pages_with(database, session, &serde_json::Value::from(id)).await? {
        let mut runs = numbered(&page)?.into_iter();
        if let Some((_, run)) = runs.find(|(sequence, run)| *sequence > forgotten && run.id == id) {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

pub(super) async fn forget_entity(database: &Database, components: &[serde_json::Value]) -> Result<u64> {
    let Some(first) = components.first() else { return Ok(0) };
    let is_it = |entry: &serde_json::Value| match entry {
        serde_json::Value::Object(keys) => {
            components.iter().all(|component| keys.values().any(|value| value == component))
        }
        bare => components.len() == 1 && bare == first,
    };
    let mut transaction = database.write(Writer::Erasure).await?;
    let mut changed = 0;
    for page in pages_with(database, &mut transaction, first).await? {
        let mut runs: Vec<QueryRun> = numbered(&page)?.into_iter().map(|(_, run)| run).collect();
        let before = changed;
        for run in runs.iter_mut().filter(|run| run.entity_ids.iter().any(is_it)) {
            run.entity_ids.iter_mut().filter(|entry| is_it(entry)).for_each(|entry| *entry = serde_json::Value::Null);
            changed += 1;
        }
        if changed == before {
            continue;
        }
        let last = page.number("last_sequence")?;
        for page in RunPages::of(&runs)?.pages() {
            let sql = "UPDATE run_pages SET runs = $1 WHERE last_sequence = $2";
            transaction.execute(sql, &args![page?.0, last]).await?;
        }
    }
    transaction.commit().await?;
    Ok(changed)
}
