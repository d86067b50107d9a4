//! A connection in use. Whatever did not end well closes it: a server that stands still must not keep its place in the pool, and
//! a transaction without a commit is rolled back by the end of its connection.

use super::errors::{from_sqlx, no_answer};
use crate::database::{Argument, Row};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::Result;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct PostgresSession {
    connection: PoolConnection<Postgres>,
    place: Arc<str>,
    in_transaction: bool,
    /// The last statement has not been answered, or not well.
    is_broken: bool,
}

impl PostgresSession {
    pub(super) fn new(connection: PoolConnection<Postgres>, place: Arc<str>) -> PostgresSession {
        PostgresSession { connection, place, in_transaction: false, is_broken: false }
    }

    pub(super) async fn begin(&mut self) -> Result<()> {
        self.in_transaction = true;
        // Whatever the database's default: what is read after the lock was taken is what the writer before has left.
        self.execute("BEGIN ISOLATION LEVEL READ COMMITTED", &[]).await
    }

    pub(crate) async fn execute(&mut self, sql: &str, arguments: &[Argument<'_>]) -> Result<()> {
        self.is_broken = true;
        let connection: &mut PgConnection = &mut self.connection;
        limited(&self.place, ANSWER_TIMEOUT, statement(sql, arguments).execute(connection)).await?;
        self.is_broken = false;
        Ok(())
    }

    pub(crate) async fn rows(&mut self, sql: &str, arguments: &[Argument<'_>]) -> Result<Vec<Row>> {
        self.is_broken = true;
        let connection: &mut PgConnection = &mut self.connection;
        let rows = limited(&self.place, ANSWER_TIMEOUT, statement(sql, arguments).fetch_all(connection)).await?;
        self.is_broken = false;
        Ok(rows.into_iter().map(Row::Postgres).collect())
    }

    /// After an error here nobody knows whether it was made.
    pub(crate) async fn commit(mut self) -> Result<()> {
        self.execute("COMMIT", &[]).await?;
        self.in_transaction = false;
        Ok(())
    }
}

impl Drop for PostgresSession {
    fn drop(&mut self) {
        if self.in_transaction || self.is_broken {
            self.connection.close_on_drop();
        }
    }
}

/// What PostgreSQL answers within a time.
pub(super) async fn limited<T>(
    place: &str,
    limit: Duration,
    answer: impl Future<Output = sqlx::Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answered) => answered.map_err(|error| from_sqlx(place, error)),
        Err(_) => Err(no_answer(place, limit)),
    }
}

fn statement<'q>(sql: &'q str, arguments: &'q [Argument<'_>]) -> Query<'q, Postgres, PgArguments> {
    arguments.iter().fold(sqlx::query(sql), |query, argument| match argument {
        // The one character that PostgreSQL does not keep; only messages of others can hold it.
        Argument::Text(Some(text)) if text.contains('\0') => query.bind(text.replace('\0', "\u{fffd}")),
        Argument::Text(text) => query.bind(text.as_deref()),
        Argument::Number(number) => query.bind(*number),
    })
}
