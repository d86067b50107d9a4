//! Source cursors and the event feed.

use crate::database::{Database, args};
use crate::model::{ActivityEvent, NewActivityEvent, Severity};
use thyme_core::time::Micros;
use thyme_core::{Error, Result};

pub(super) async fn cursor(database: &Database, source: &str) -> Result<Option<String>> {
    let sql = "SELECT cursor FROM cursors WHERE source = $1";
    let row = database.plain().await?.row(sql, &args![source]).await?;
    row.map(|row| row.text("cursor")).transpose()
}

pub(super) async fn save_cursor(database: &Database, source: &str, cursor: &str, at: Micros) -> Result<()> {
    let sql = "INSERT INTO cursors (source, cursor, updated_at) VALUES ($1, $2, $3)
               ON CONFLICT (source) DO UPDATE SET cursor = excluded.cursor, updated_at = excluded.updated_at";
    database.plain().await?.execute(sql, &args![source, cursor, at]).await
}

pub(super) async fn remove_cursor(database: &Database, source: &str) -> Result<()> {
    database.plain().await?.execute("DELETE FROM cursors WHERE source = $1", &args![source]).await
}

pub(super) async fn add_event(database: &Database, event: NewActivityEvent) -> Result<()> {
    let sql = "INSERT INTO events (event_type, severity, source, subject, message, detail, created_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let arguments = args![
        event.event_type,
        event.severity.name(),
        event.source,
        event.subject,
        event.message,
        event.detail.to_string(),
        event.created_at,
    ];
    database.plain().await?.execute(sql, &arguments).await
}

pub(super) async fn events(database: &Database, limit: u32, before: Option<i64>) -> Result<Vec<ActivityEvent>> {
    let sql = "SELECT * FROM events WHERE id < $1 ORDER BY id DESC LIMIT $2";
    let rows = database.plain().await?.rows(sql, &args![before.unwrap_or(i64::MAX), limit]).await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows {
        events.push(ActivityEvent {
            id: row.number("id")?,
            event: NewActivityEvent {
                event_type: row.text("event_type")?,
                severity: Severity::parse(&row.text("severity")?)?,
                source: row.text("source")?,
                subject: row.text("subject")?,
                message: row.text("message")?,
                detail: serde_json::from_str(&row.text("detail")?)
                    .map_err(|error| Error::data_loss(format!("the catalog holds a broken event: {error}")))?,
                created_at: row.number("created_at")?,
            },
        });
    }
    Ok(events)
}
