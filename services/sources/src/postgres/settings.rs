//! Where the table is. What is not set comes from the server's environment, by the names that every PostgreSQL client reads.

use crate::settings::{port, secret, secret_name, text};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use thyme_core::definition::SourceDef;
use thyme_core::{Error, Result, suggest};

pub const NAMES: &[&str] =
    &["table", "schema", "host", "port", "database", "username", "password", "sslmode", "sslrootcert"];

const SSL_MODES: &[(&str, PgSslMode)] = &[
    ("disable", PgSslMode::Disable),
    ("prefer", PgSslMode::Prefer),
    ("require", PgSslMode::Require),
    ("verify-ca", PgSslMode::VerifyCa),
    ("verify-full", PgSslMode::VerifyFull),
];

/// Holds no secret, only the name of its variable.
pub struct Settings {
    pub table: String,
    /// Found by the search path where it is not set.
    pub schema: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    username: Option<String>,
    password_from: Option<String>,
    ssl_mode: Option<PgSslMode>,
    ssl_root_cert: Option<String>,
}

impl Settings {
    pub fn of(source: &SourceDef) -> Result<Settings> {
        let owned = |name: &str| -> Result<Option<String>> {
            Ok(text(source, name)?.filter(|text| !text.is_empty()).map(str::to_string))
        };
        let table = owned("table")?;
        let ssl_mode = match owned("sslmode")? {
            None => None,
            Some(name) => Some(ssl_mode(&name)?),
        };
        Ok(Settings {
            table: table.ok_or_else(|| Error::definition("a PostgreSQL source needs a table").field("table"))?,
            schema: owned("schema")?,
            host: owned("host")?,
            port: port(source, "port")?,
            database: owned("database")?,
            username: owned("username")?,
            password_from: secret_name(source, "password")?.map(str::to_string),
            ssl_mode,
            ssl_root_cert: owned("sslrootcert")?,
        })
    }

    pub fn options(&self) -> Result<PgConnectOptions> {
        // PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, PGSSLMODE, PGSSLROOTCERT.
        self.options_over(PgConnectOptions::new_without_pgpass())
    }

    /// `environment`: what the server's environment says.
    pub fn options_over(&self, environment: PgConnectOptions) -> Result<PgConnectOptions> {
        let is_servers_own = self.host.as_deref().is_none_or(|host| host == environment.get_host())
            && self.port.is_none_or(|port| port == environment.get_port());
        let mut options = environment;
        // Whoever commits says where the table is: PGPASSWORD goes to the server of PGHOST only. An empty password is none.
        if !is_servers_own {
            options = options.password("");
        }
        if let Some(host) = &self.host {
            options = options.host(host);
        }
        if let Some(port) = self.port {
            options = options.port(port);
        }
        if let Some(database) = &self.database {
            options = options.database(database);
        }
        if let Some(username) = &self.username {
            options = options.username(username);
        }
        if let Some(variable) = &self.password_from {
            options = options.password(&secret(variable, "password")?);
        }
        if let Some(mode) = self.ssl_mode {
            options = options.ssl_mode(mode);
        }
        if let Some(path) = &self.ssl_root_cert {
            options = options.ssl_root_cert(path);
        }
        // What a pooler may not know is set by each poll.
        Ok(options.application_name("thyme").extra_float_digits(None).disable_statement_logging())
    }

    /// For messages: never a secret.
    pub fn place(&self) -> String {
        format!("PostgreSQL at {}", self.address())
    }

    /// Host and port.
    pub fn address(&self) -> String {
        let options = PgConnectOptions::new_without_pgpass();
        let host = self.host.as_deref().unwrap_or(options.get_host());
        format!("{host}:{}", self.port.unwrap_or(options.get_port()))
    }
}

fn ssl_mode(name: &str) -> Result<PgSslMode> {
    let found = SSL_MODES.iter().find(|(known, _)| *known == name);
    found.map(|(_, mode)| *mode).ok_or_else(|| {
        let hint = suggest::hint(name, SSL_MODES.iter().map(|(known, _)| *known));
        Error::definition(format!("unknown sslmode '{name}'")).field("sslmode").hint(hint)
    })
}
