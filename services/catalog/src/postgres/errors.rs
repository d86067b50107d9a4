//! What PostgreSQL reports, as an error that tells the caller what to do. Who asks Thyme is not to blame for a wrong password or a
//! missing right of the server: to him the catalog is unavailable, and the hint tells the operator.

use std::time::Duration;
use thyme_core::{Error, ErrorKind};

pub(super) fn no_answer(place: &str, limit: Duration) -> Error {
    Error::unavailable(format!("the catalog {place} does not answer within {} s", limit.as_secs())).hint(AWAY)
}

const AWAY: &str = "see that PostgreSQL runs there and catalog.url is right; when it answers all goes on by itself";

pub(super) fn from_sqlx(place: &str, error: sqlx::Error) -> Error {
    let message = format!("the catalog {place}: {}", text_of(&error));
    let unavailable = |hint: &str| Error::unavailable(message.clone()).hint(hint);
    let code = error.as_database_error().and_then(|database| database.code());
    let Some(code) = code else { return without_code(place, message, &error) };
    match &*code {
        "28P01" => unavailable("correct the password in catalog.url, or in PGPASSWORD or ~/.pgpass"),
        code if code.starts_with("28") => {
            unavailable("correct the user in catalog.url, or allow it to connect in pg_hba.conf; with sslmode=require if that asks for TLS")
        }
        "3D000" => unavailable("create the database (createdb -E UTF8 -O USER NAME), or correct the name in catalog.url"),
        "42501" => Error::new(ErrorKind::Unavailable, message)
            .hint("let the user make and write tables: ALTER DATABASE … OWNER TO, or GRANT CREATE, USAGE ON SCHEMA and GRANT ALL ON ALL TABLES IN SCHEMA"),
        "3F000" => unavailable("create the schema that search_path names"),
        "42P01" => Error::data_loss(message).hint("a table of the catalog is gone; restore the database from a backup"),
        "53100" => Error::new(ErrorKind::ResourceExhausted, message).hint("free some disk space of PostgreSQL"),
        "53300" => unavailable("raise max_connections of PostgreSQL; a server uses up to 5"),
        "25006" => unavailable("catalog.url must name the primary, not a standby"),
        "55P03" | "57014" => unavailable("another server holds the catalog, or PostgreSQL is busy; try again"),
        // Connection exceptions, operator intervention, lack of resources, serialization and deadlocks, I/O errors.
        code if ["08", "57", "53", "55", "40", "58"].iter().any(|class| code.starts_with(class)) => unavailable(AWAY),
        _ => Error::internal(message),
    }
}

fn without_code(place: &str, message: String, error: &sqlx::Error) -> Error {
    match error {
        sqlx::Error::PoolTimedOut => no_answer(place, super::CONNECT_TIMEOUT),
        sqlx::Error::PoolClosed => Error::unavailable(format!("the catalog {place} is closed")),
        sqlx::Error::Tls(_) => Error::unavailable(message)
            .hint("see that PostgreSQL offers TLS with a certificate for this host name and authority (sslmode, sslrootcert in catalog.url)"),
        // A connection that broke off shows as any of these.
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            Error::unavailable(message).hint(AWAY)
        }
        sqlx::Error::Configuration(_) => Error::invalid(message).field("catalog.url"),
        _ => Error::internal(message),
    }
}

/// Without the words that sqlx puts before it.
fn text_of(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => database.message().to_string(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) => error.to_string(),
        other => other.to_string(),
    }
}
