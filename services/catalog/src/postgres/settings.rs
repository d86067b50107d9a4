//! `catalog.url = "postgres://…"`: read by sqlx, like libpq; passwords appear nowhere.

use sqlx::postgres::PgConnectOptions;
use std::fmt;
use std::str::FromStr as _;
use thyme_core::{Error, Result, suggest};

/// What may follow the `?`. sqlx passes over others.
const PARAMETERS: &[&str] = &[
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "statement-cache-capacity",
];

/// Where the database is and who asks.
#[derive(Clone)]
pub struct PostgresSettings {
    options: PgConnectOptions,
    place: String,
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl PostgresSettings {
    /// `postgres://user:password@host:port/database?sslmode=…`. What is left out comes from the variables of libpq (`PGPASSWORD`,
    /// `PGUSER`, …) and `~/.pgpass`.
    pub fn parse(url: &str) -> Result<PostgresSettings> {
        // No message here quotes the text: a password that is not escaped can be anywhere in it.
        let wrong = |what: String| {
            Error::invalid(format!("catalog.url: {what}")).field("catalog.url").hint(
                "write postgres://USER:PASSWORD@HOST:5432/DATABASE, with special characters of the password as %XX",
            )
        };
        let query = url.split_once('?').map_or("", |(_, query)| query);
        for name in query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty()) {
            let is_option = name.starts_with("options[") || name.to_lowercase().starts_with("options%5b");
            if !is_option && !PARAMETERS.contains(&name) {
                if name.contains(|c: char| !c.is_ascii_lowercase() && c != '_' && c != '-') {
                    return Err(wrong("what follows the ? are no parameters".to_string()));
                }
                return Err(Error::invalid(format!("catalog.url: unknown parameter '{name}'"))
                    .field("catalog.url")
                    .hint(suggest::hint(name, PARAMETERS.iter().copied())));
            }
        }
        let options = PgConnectOptions::from_str(url).map_err(|error| match error {
            sqlx::Error::Configuration(reason) => wrong(reason.to_string()),
            other => wrong(other.to_string()),
        })?;
        let options =
            if options.get_application_name().is_none() { options.application_name("thyme") } else { options };
        let Some(database) = options.get_database() else { return Err(wrong("it names no database".to_string())) };
        if database.contains(['@', '/', ':']) {
            return Err(wrong("the name of the database is none".to_string()));
        }
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_string(),
        };
        let place = format!("postgres://{}@{host}:{}/{database}", options.get_username(), options.get_port());
        Ok(PostgresSettings { options, place })
    }

    /// The address without the password.
    pub fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }
}

/// An address as it may be shown: nothing of what could be a password is left.
pub fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let is_secret = rest.contains(['@', '?']);
    match (is_secret, scheme) {
        (false, _) => url.to_string(),
        (true, "") => "…".to_string(),
        (true, scheme) => format!("{scheme}://…"),
    }
}
