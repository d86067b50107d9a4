//! What PostgreSQL says, as errors that tell what to do. None repeats a password: neither does the server.

use thyme_core::{Error, ErrorKind};

pub fn from_sqlx(place: &str, error: &sqlx::Error) -> Error {
    match error {
        sqlx::Error::Database(database) => {
            let message = format!("{place}: {}", database.message());
            let code = database.code().unwrap_or_default();
            let (kind, hint) = of_code(&code);
            match hint {
                Some(hint) => Error::new(kind, message).hint(hint),
                None => Error::new(kind, message),
            }
        }
        sqlx::Error::Io(error) => {
            Error::unavailable(format!("cannot reach {place}: {error}")).hint("check host and port, and that it is up")
        }
        sqlx::Error::Tls(error) => Error::new(ErrorKind::FailedPrecondition, format!("{place}: no TLS: {error}"))
            .hint("check sslmode and sslrootcert"),
        other => Error::unavailable(format!("{place}: {other}")),
    }
}

/// That the database refuses the server is no fault of the caller's own key: never "unauthenticated".
fn of_code(code: &str) -> (ErrorKind, Option<&'static str>) {
    match code {
        "28P01" | "28000" => (
            ErrorKind::FailedPrecondition,
            Some(
                "check username, and the variable that its password=Secret(env=…) names; PGPASSWORD is sent to the server of PGHOST only",
            ),
        ),
        "3D000" => (ErrorKind::NotFound, Some("check the name of the database")),
        "42501" => (ErrorKind::FailedPrecondition, Some("grant the user SELECT on the table and USAGE on its schema")),
        "42P01" | "42703" => (ErrorKind::FailedPrecondition, Some("the table changes while it is read; try again")),
        "57014" => (
            ErrorKind::Unavailable,
            Some("an index on (cursor, primary key) makes the first read fast, every=\"…\" the later ones rarer"),
        ),
        // A standby gave way to its primary.
        "40001" => (ErrorKind::Unavailable, None),
        // Shutting down, starting up, too many connections, and what a lost connection leaves.
        _ if code.starts_with("57P") || code.starts_with("53") || code.starts_with("08") => {
            (ErrorKind::Unavailable, None)
        }
        _ => (ErrorKind::FailedPrecondition, None),
    }
}
