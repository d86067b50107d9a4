//! PostgreSQL: one database, shared by the servers that `catalog.url` points to it.

mod errors;
mod migrations;
pub(crate) mod session;
mod settings;

pub use settings::{PostgresSettings, redacted};

use crate::database::Writer;
use errors::from_sqlx;
use session::{PostgresSession, limited};
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};
use std::sync::Arc;
use std::time::Duration;
use thyme_core::{Error, Result};

/// Connections of one server.
const CONNECTIONS: u32 = 5;
/// How long a caller waits for a connection, so that a commit is refused soon when PostgreSQL is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server gives up before the client does, so that the client hears why. A server that stands still in the middle of a
/// transaction loses it, and with it the lock.
const SESSION: &str =
    "SET lock_timeout = '5s'; SET statement_timeout = '8s'; SET idle_in_transaction_session_timeout = '15s'";

pub(crate) struct PostgresPool {
    pool: PgPool,
    place: Arc<str>,
    identity: String,
}

impl PostgresPool {
    pub(crate) async fn open(settings: &PostgresSettings) -> Result<PostgresPool> {
        let place: Arc<str> = settings.place().into();
        let opening = |error: Error| error.context("cannot open the catalog").field("catalog.url");
        let identity = prepare(settings, &place).await.map_err(opening)?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT_TIMEOUT)
            .after_connect(|connection, _| Box::pin(async move { connection.execute(SESSION).await.map(|_| ()) }))
            .connect_lazy_with(settings.options().clone());
        Ok(PostgresPool { pool, place, identity })
    }

    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    pub(crate) async fn session(&self) -> Result<PostgresSession> {
        let connection = self.pool.acquire().await.map_err(|error| from_sqlx(&self.place, error))?;
        Ok(PostgresSession::new(connection, self.place.clone()))
    }

    /// The lock is of the schema, so that catalogs in one database do not wait for one another.
    pub(crate) async fn transaction(&self, writer: Writer) -> Result<PostgresSession> {
        let mut session = self.session().await?;
        session.begin().await?;
        let what: i64 = match writer {
            Writer::Commits => 1,
            Writer::Ids => 2,
            Writer::Runs | Writer::Erasure => 3,
        };
        let lock = "SELECT pg_advisory_xact_lock(hashtext(current_schema()), $1::int)";
        session.execute(lock, &crate::database::args![what]).await?;
        Ok(session)
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// On a connection of its own, whose errors say why: the tables, and what cannot work later. Returns the catalog's identity.
async fn prepare(settings: &PostgresSettings, place: &Arc<str>) -> Result<String> {
    let mut connection = limited(place, CONNECT_TIMEOUT, settings.options().connect()).await?;
    let prepared = prepare_on(&mut connection, place).await;
    // Also ends the lock of a migration that failed.
    let closed = connection.close().await;
    let identity = prepared?;
    closed.map_err(|error| from_sqlx(place, error))?;
    Ok(identity)
}

async fn prepare_on(connection: &mut PgConnection, place: &Arc<str>) -> Result<String> {
    let wrong = |error| from_sqlx(place, error);
    let encoding: String =
        sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *connection).await.map_err(wrong)?;
    if encoding != "UTF8" {
        return Err(Error::precondition(format!("the database {place} keeps text as {encoding}, not as UTF8"))
            .hint("create it with ENCODING 'UTF8' TEMPLATE template0"));
    }
    migrations::run(connection, place).await?;
    let row = sqlx::query("SELECT id FROM catalog").fetch_one(&mut *connection).await.map_err(wrong)?;
    row.try_get("id").map_err(wrong)
}
