//! Source cursors and the event feed.

use super::{SqliteCatalog, from_sqlx};
use crate::model::{ActivityEvent, NewActivityEvent, Severity};
use sqlx::Row;
use thyme_core::time::Micros;
use thyme_core::{Error, Result};

pub(super) async fn cursor(catalog: &SqliteCatalog, source: &str) -> Result<Option<String>> {
    sqlx::query_scalar("SELECT cursor FROM cursors WHERE source = ?")
        .bind(source)
        .fetch_optional(&catalog.main)
        .await
        .map_err(from_sqlx)
}

pub(super) async fn save_cursor(catalog: &SqliteCatalog, source: &str, cursor: &str, at: Micros) -> Result<()> {
    sqlx::query(
        "INSERT INTO cursors (source, cursor, updated_at) VALUES (?, ?, ?)
         ON CONFLICT (source) DO UPDATE SET cursor = excluded.cursor, updated_at = excluded.updated_at",
    )
    .bind(source)
    .bind(cursor)
    .bind(at)
    .execute(&catalog.main)
    .await
    .map_err(from_sqlx)?;
    Ok(())
}

pub(super) async fn remove_cursor(catalog: &SqliteCatalog, source: &str) -> Result<()> {
    sqlx::query("DELETE FROM cursors WHERE source = ?").bind(source).execute(&catalog.main).await.map_err(from_sqlx)?;
    Ok(())
}

pub(super) async fn add_event(catalog: &SqliteCatalog, event: NewActivityEvent) -> Result<()> {
    sqlx::query(
        "INSERT INTO events (event_type, severity, source, subject, message, detail, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(event.event_type)
    .bind(event.severity.name())
    .bind(event.source)
    .bind(event.subject)
    .bind(event.message)
    .bind(event.detail.to_string())
    .bind(event.created_at)
    .execute(&catalog.main)
    .await
    .map_err(from_sqlx)?;
    Ok(())
}

pub(super) async fn events(catalog: &SqliteCatalog, limit: u32, before: Option<i64>) -> Result<Vec<ActivityEvent>> {
    let rows = sqlx::query("SELECT * FROM events WHERE id < ? ORDER BY id DESC LIMIT ?")
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&catalog.main)
        .await
        .map_err(from_sqlx)?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        let severity: String = row.try_get("severity").map_err(from_sqlx)?;
        let detail: String = row.try_get("detail").map_err(from_sqlx)?;
        events.push(ActivityEvent {
            id: row.try_get("id").map_err(from_sqlx)?,
            event: NewActivityEvent {
                event_type: row.try_get("event_type").map_err(from_sqlx)?,
                severity: Severity::parse(&severity)?,
                source: row.try_get("source").map_err(from_sqlx)?,
                subject: row.try_get("subject").map_err(from_sqlx)?,
                message: row.try_get("message").map_err(from_sqlx)?,
                detail: serde_json::from_str(&detail)
                    .map_err(|error| Error::data_loss(format!("the catalog holds a broken event: {error}")))?,
                created_at: row.try_get("created_at").map_err(from_sqlx)?,
            },
        });
    }
    Ok(events)
}
