//! Commits and their definitions.

use crate::database::{Database, Row, Session, Writer, args};
use crate::model::{Commit, CommitStatus, NewCommit, PublishedFeature};
use thyme_core::time::Micros;
use thyme_core::{Error, Result};

const COLUMNS: &str =
    "sequence, id, message, created_at, activated_at, finished_at, status, content_hash, plan, new_identities, error";

pub(super) async fn begin(database: &Database, commit: NewCommit, supersede: bool) -> Result<()> {
    let mut transaction = database.write(Writer::Commits).await?;
    let building = transaction.row("SELECT id FROM commits WHERE status = 'building'", &[]).await?;
    if let Some(row) = building {
        let other = row.text("id")?;
        if !supersede {
            return Err(Error::conflict(format!("commit {other} is still being built"))
                .hint("wait for it (thyme status), or replace it with --supersede"));
        }
        finish(&mut transaction, &other, CommitStatus::Superseded, commit.created_at, None).await?;
    }
    let new_identities =
        serde_json::to_string(&commit.new_identities).map_err(|error| Error::internal(error.to_string()))?;
    let sql = "INSERT INTO commits (id, message, created_at, status, content_hash, definitions, plan, new_identities)
               VALUES ($1, $2, $3, 'building', $4, $5, $6, $7)";
    let arguments = args![
        commit.id,
        commit.message,
        commit.created_at,
        commit.content_hash,
        commit.definitions,
        commit.plan,
        new_identities,
    ];
    transaction.execute(sql, &arguments).await?;
    transaction.commit().await
}

pub(super) async fn activate(database: &Database, id: &str, at: Micros, published: &[PublishedFeature]) -> Result<()> {
    let mut transaction = database.write(Writer::Commits).await?;
    if status_of(&mut transaction, id).await? == CommitStatus::Live {
        // It was this takeover, and its answer was lost.
        return transaction.commit().await;
    }
    require_building(&mut transaction, id).await?;
    transaction.execute("UPDATE commits SET status = 'superseded' WHERE status = 'live'", &[]).await?;
    finish(&mut transaction, id, CommitStatus::Live, at, None).await?;
    transaction.execute("UPDATE commits SET activated_at = $1 WHERE id = $2", &args![at, id]).await?;
    for feature in published {
        let sql = "INSERT INTO published_features (featureset, id, name) VALUES ($1, $2, $3)
                   ON CONFLICT (featureset, id) DO UPDATE SET name = excluded.name";
        transaction.execute(sql, &args![&feature.featureset, feature.id, &feature.name]).await?;
    }
    transaction.commit().await
}

pub(super) async fn fail(database: &Database, id: &str, at: Micros, error: &str) -> Result<()> {
    let mut transaction = database.write(Writer::Commits).await?;
    require_building(&mut transaction, id).await?;
    finish(&mut transaction, id, CommitStatus::Failed, at, Some(error)).await?;
    transaction.commit().await
}

async fn status_of(transaction: &mut Session, id: &str) -> Result<CommitStatus> {
    let row = transaction.row("SELECT status FROM commits WHERE id = $1", &args![id]).await?;
    CommitStatus::parse(&row.ok_or_else(|| no_commit(id))?.text("status")?)
}

async fn require_building(transaction: &mut Session, id: &str) -> Result<()> {
    match status_of(transaction, id).await? {
        CommitStatus::Building => Ok(()),
        other => Err(Error::precondition(format!("commit {id} is {}, not building", other.name()))),
    }
}

fn no_commit(id: &str) -> Error {
    Error::not_found(format!("no commit {id}"))
}

async fn finish(
    transaction: &mut Session,
    id: &str,
    status: CommitStatus,
    at: Micros,
    error: Option<&str>,
) -> Result<()> {
    let sql = "UPDATE commits SET status = $1, finished_at = $2, error = $3 WHERE id = $4";
    transaction.execute(sql, &args![status.name(), at, error, id]).await
}

pub(super) async fn with_status(database: &Database, status: CommitStatus) -> Result<Option<Commit>> {
    let sql = format!("SELECT {COLUMNS} FROM commits WHERE status = $1");
    let row = database.plain().await?.row(&sql, &args![status.name()]).await?;
    row.map(|row| read(&row)).transpose()
}

pub(super) async fn get(database: &Database, id: &str) -> Result<Option<Commit>> {
    let sql = format!("SELECT {COLUMNS} FROM commits WHERE id = $1");
    let row = database.plain().await?.row(&sql, &args![id]).await?;
    row.map(|row| read(&row)).transpose()
}

pub(super) async fn list(database: &Database, limit: u32, before: Option<i64>) -> Result<Vec<Commit>> {
    let sql = format!("SELECT {COLUMNS} FROM commits WHERE sequence < $1 ORDER BY sequence DESC LIMIT $2");
    let rows = database.plain().await?.rows(&sql, &args![before.unwrap_or(i64::MAX), limit]).await?;
    rows.iter().map(read).collect()
}

pub(super) async fn definitions(database: &Database, commit_id: &str) -> Result<String> {
    let sql = "SELECT definitions FROM commits WHERE id = $1";
    let row = database.plain().await?.row(sql, &args![commit_id]).await?;
    row.ok_or_else(|| no_commit(commit_id))?.text("definitions")
}

fn read(row: &Row) -> Result<Commit> {
    Ok(Commit {
        id: row.text("id")?,
        sequence: row.number("sequence")?,
        message: row.text("message")?,
        created_at: row.number("created_at")?,
        activated_at: row.number_or_null("activated_at")?,
        finished_at: row.number_or_null("finished_at")?,
        status: CommitStatus::parse(&row.text("status")?)?,
        content_hash: row.text("content_hash")?,
        plan: row.text("plan")?,
        new_identities: serde_json::from_str(&row.text("new_identities")?)
            .map_err(|error| Error::data_loss(format!("the catalog holds a broken identity list: {error}")))?,
        error: row.text_or_null("error")?,
    })
}
