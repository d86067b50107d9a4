//! SQLite: one file in write-ahead mode.
//!
//! Definitions are written through connections that sync every commit; query runs through one that leaves syncing to the next
//! checkpoint, because losing the last runs in a power cut is allowed and a sync per batch is not worth it.

pub(crate) mod copy;
pub(crate) mod schema;

use crate::database::{Argument, Row};
use sqlx::SqliteConnection;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use std::path::Path;
use std::time::Duration;
use thyme_core::{Error, ErrorKind, Result};

/// How long a writer waits for another before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct SqlitePools {
    /// Everything but new query runs: a commit is on disk when it returns.
    pub(crate) main: SqlitePool,
    /// New query runs.
    pub(crate) runs: SqlitePool,
}

impl SqlitePools {
    pub(crate) async fn open(path: &Path) -> Result<SqlitePools> {
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
        Ok(SqlitePools { main, runs })
    }

    pub(crate) async fn in_memory() -> Result<SqlitePools> {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(SqliteConnectOptions::new().in_memory(true).foreign_keys(true))
            .await
            .map_err(from_sqlx)?;
        schema::migrate(&pool).await?;
        Ok(SqlitePools { main: pool.clone(), runs: pool })
    }
}

type Statement<'q> = Query<'q, sqlx::Sqlite, SqliteArguments<'q>>;

fn statement<'q>(sql: &'q str, arguments: &'q [Argument<'_>]) -> Statement<'q> {
    arguments.iter().fold(sqlx::query(sql), |query, argument| match argument {
        Argument::Text(text) => query.bind(text.as_deref()),
        Argument::Number(number) => query.bind(*number),
    })
}

pub(crate) async fn execute(link: &mut SqliteConnection, sql: &str, arguments: &[Argument<'_>]) -> Result<()> {
    statement(sql, arguments).execute(link).await.map_err(from_sqlx)?;
    Ok(())
}

pub(crate) async fn rows(link: &mut SqliteConnection, sql: &str, arguments: &[Argument<'_>]) -> Result<Vec<Row>> {
    let rows = statement(sql, arguments).fetch_all(link).await.map_err(from_sqlx)?;
    Ok(rows.into_iter().map(Row::Sqlite).collect())
}

/// What SQLite reports, as an error that tells the caller what to do.
pub(crate) fn from_sqlx(error: sqlx::Error) -> Error {
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
