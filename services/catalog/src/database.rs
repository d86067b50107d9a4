//! Where the two databases differ: connections, transactions, errors, two words of SQL. Everything above is written once, in SQL
//! that both understand, over text, whole numbers and null.

use crate::postgres::PostgresPool;
use crate::postgres::session::PostgresSession;
use crate::sqlite::{self, SqlitePools};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};
use std::borrow::Cow;
use thyme_core::{Error, Result};

pub(crate) enum Database {
    Sqlite(SqlitePools),
    Postgres(PostgresPool),
}

/// What a transaction writes. Two that write the same follow one another, also those of two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    Commits,
    Ids,
    Runs,
    /// Rewrites runs, and is on disk when it returns.
    Erasure,
}

impl Database {
    /// For reads and single statements: each is a transaction of its own.
    pub(crate) async fn plain(&self) -> Result<Session> {
        Ok(match self {
            Database::Sqlite(pools) => {
                Session::Sqlite(Box::new(pools.main.acquire().await.map_err(sqlite::from_sqlx)?))
            }
            Database::Postgres(pool) => Session::Postgres(Box::new(pool.session().await?)),
        })
    }

    /// A transaction that has the lock of its writer from the start, so that it never fails halfway because another came first.
    pub(crate) async fn write(&self, writer: Writer) -> Result<Session> {
        Ok(match self {
            Database::Sqlite(pools) => {
                let pool = if writer == Writer::Runs { &pools.runs } else { &pools.main };
                let transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(sqlite::from_sqlx)?;
                Session::SqliteTransaction(Box::new(transaction))
            }
            Database::Postgres(pool) => Session::Postgres(Box::new(pool.transaction(writer).await?)),
        })
    }

    /// The condition that text of a column contains a text.
    pub(crate) fn contains(&self, column: &str, text: &str) -> String {
        match self {
            Database::Sqlite(_) => format!("instr({column}, {text}) > 0"),
            Database::Postgres(_) => format!("strpos({column}, {text}) > 0"),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Database::Sqlite(pools) => {
                pools.main.close().await;
                pools.runs.close().await;
            }
            Database::Postgres(pool) => pool.close().await,
        }
    }
}

/// A value for a `$n` of a statement.
#[derive(Debug, Clone)]
pub(crate) enum Argument<'a> {
    Text(Option<Cow<'a, str>>),
    Number(i64),
}

impl<'a> From<&'a str> for Argument<'a> {
    fn from(text: &'a str) -> Self {
        Argument::Text(Some(text.into()))
    }
}
impl<'a> From<&'a String> for Argument<'a> {
    fn from(text: &'a String) -> Self {
        text.as_str().into()
    }
}
impl From<String> for Argument<'_> {
    fn from(text: String) -> Self {
        Argument::Text(Some(text.into()))
    }
}
impl<'a> From<Option<&'a str>> for Argument<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Argument::Text(text.map(Cow::from))
    }
}
impl From<i64> for Argument<'_> {
    fn from(number: i64) -> Self {
        Argument::Number(number)
    }
}
impl From<u32> for Argument<'_> {
    fn from(number: u32) -> Self {
        Argument::Number(number.into())
    }
}

/// The arguments of a statement: `&args![id, at]`.
macro_rules! args {
    ($($value:expr),* $(,)?) => { [$($crate::database::Argument::from($value)),*] };
}
pub(crate) use args;

/// A connection, in a transaction or not. A transaction that is dropped before its commit never happened.
pub(crate) enum Session {
    Sqlite(Box<PoolConnection<Sqlite>>),
    SqliteTransaction(Box<Transaction<'static, Sqlite>>),
    Postgres(Box<PostgresSession>),
}

impl Session {
    pub(crate) async fn execute(&mut self, sql: &str, arguments: &[Argument<'_>]) -> Result<()> {
        match self {
            Session::Sqlite(connection) => sqlite::execute(connection, sql, arguments).await,
            Session::SqliteTransaction(transaction) => sqlite::execute(transaction, sql, arguments).await,
            Session::Postgres(session) => session.execute(sql, arguments).await,
        }
    }

    pub(crate) async fn rows(&mut self, sql: &str, arguments: &[Argument<'_>]) -> Result<Vec<Row>> {
        Ok(match self {
            Session::Sqlite(connection) => sqlite::rows(connection, sql, arguments).await?,
            Session::SqliteTransaction(transaction) => sqlite::rows(transaction, sql, arguments).await?,
            Session::Postgres(session) => session.rows(sql, arguments).await?,
        })
    }

    /// The first row, where there is at most one.
    pub(crate) async fn row(&mut self, sql: &str, arguments: &[Argument<'_>]) -> Result<Option<Row>> {
        Ok(self.rows(sql, arguments).await?.into_iter().next())
    }

    pub(crate) async fn commit(self) -> Result<()> {
        match self {
            Session::Sqlite(_) => Ok(()),
            Session::SqliteTransaction(transaction) => transaction.commit().await.map_err(sqlite::from_sqlx),
            Session::Postgres(session) => session.commit().await,
        }
    }
}

pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(crate) fn text(&self, column: &str) -> Result<String> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
        .map_err(unreadable)
    }

    pub(crate) fn number(&self, column: &str) -> Result<i64> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
        .map_err(unreadable)
    }

    pub(crate) fn text_or_null(&self, column: &str) -> Result<Option<String>> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
        .map_err(unreadable)
    }

    pub(crate) fn number_or_null(&self, column: &str) -> Result<Option<i64>> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
        .map_err(unreadable)
    }
}

fn unreadable(error: sqlx::Error) -> Error {
    Error::data_loss(format!("the catalog holds a row that cannot be read: {error}"))
}
