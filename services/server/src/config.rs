//! Configuration: `thyme.toml` < environment `THYME_SECTION__KEY` < flags. Settings are data ([`settings::SETTINGS`]); an unknown
//! key is an error that names the nearest one.

mod settings;
#[cfg(test)]
mod tests;

pub use settings::{KAFKA_PROPERTIES, SETTINGS, Setting};

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thyme_catalog::{PostgresSettings, redacted};
use thyme_core::time::ClockMode;
use thyme_core::{Error, ErrorKind, Result, suggest};
use thyme_log::KafkaSettings;

/// Each has a state and a thread on every server.
const MOST_SLICES: u16 = 64;

/// Everything `run` needs to know, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub control_addr: SocketAddr,
    pub query_addr: SocketAddr,
    /// Only answers, out of a replica of the state; never owns the work on the log.
    pub query_only: bool,
    pub clock: ClockMode,
    pub log: LogConfig,
    /// `None`: no checkpoints are taken.
    pub checkpoints: Option<CheckpointConfig>,
    pub catalog: CatalogConfig,
    pub ingest: IngestConfig,
    pub logging: LoggingConfig,
    pub query: QueryConfig,
}

/// Which event log.
#[derive(Debug, Clone)]
pub enum LogConfig {
    /// In the data directory.
    Embedded,
    Kafka(KafkaSettings),
}

/// Which catalog.
#[derive(Debug, Clone)]
pub enum CatalogConfig {
    /// A file in the data directory.
    Sqlite,
    Postgres(Box<PostgresSettings>),
}

#[derive(Debug, Clone)]
pub struct CheckpointConfig {
    /// `file:///folder` or `s3://bucket/prefix`.
    pub url: String,
    /// Of an S3-compatible service that is not AWS.
    pub s3_endpoint: Option<String>,
    pub interval: Duration,
    /// How many are kept.
    pub keep: usize,
}

#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// Most rows of one call.
    pub max_rows: usize,
    /// Largest request of any service, in bytes.
    pub max_bytes: usize,
}

#[derive(Debug, Clone)]
pub struct LoggingConfig {
    pub json: bool,
    /// A `tracing` filter, such as `info` or `thyme=debug`.
    pub level: String,
}

#[derive(Debug, Clone)]
pub struct QueryConfig {
    /// Whether query runs are recorded.
    pub run_log: bool,
    /// How many query runs are kept.
    pub run_log_keep: u64,
    pub extractor_workers: usize,
    pub extractor_deadline: Duration,
}

/// A value and the place it came from, for messages.
struct Given {
    text: String,
    origin: String,
}

impl Config {
    /// Merges the three layers. `file` is `--config`; without it `thyme.toml` of the working directory is read if there is one.
    /// `flags` is JSON of the file's shape.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &serde_json::Value,
    ) -> Result<Config> {
        let mut given: BTreeMap<String, Given> = BTreeMap::new();
        read_file(file, &mut given)?;
        for (name, text) in environment {
            if let Some(key) = key_of_variable(&name) {
                put(&mut given, &key, text, format!("environment variable {name}"))?;
            }
        }
        flatten(flags, "", &mut |key, text| put(&mut given, key, text, "the command line".to_string()))?;
        Self::from_given(&given)
    }

    /// The defaults, with data in `data_dir` and free ports: for tests and tools that start a server of their own.
    pub fn ephemeral(data_dir: &Path) -> Result<Config> {
        let flags = serde_json::json!({
            "data_dir": data_dir.display().to_string(),
            "server": {"control_addr": "127.0.0.1:0", "query_addr": "127.0.0.1:0"},
        });
        let mut given = BTreeMap::new();
        flatten(&flags, "", &mut |key, text| put(&mut given, key, text, "the command line".to_string()))?;
        Self::from_given(&given)
    }

    fn from_given(given: &BTreeMap<String, Given>) -> Result<Config> {
        let reader = Reader { given };
        let config = Config {
            data_dir: PathBuf::from(reader.text("data_dir")),
            control_addr: reader.loopback("server.control_addr")?,
            query_addr: reader.loopback("server.query_addr")?,
            query_only: reader.choice("server.role", &["all", "query"])? == "query",
            log: reader.log()?,
            checkpoints: reader.checkpoints()?,
            catalog: reader.catalog()?,
            clock: match reader.choice("server.clock", &["wall", "event"])?.as_str() {
                "event" => ClockMode::Event,
                _ => ClockMode::Wall,
            },
            ingest: IngestConfig {
                max_rows: reader.number("ingest.max_rows", 1, 100_000_000)?,
                max_bytes: reader.number("ingest.max_bytes", 1024, 2_000_000_000)?,
            },
            logging: LoggingConfig {
                json: reader.choice("logging.format", &["text", "json"])? == "json",
                level: reader.text("logging.level"),
            },
            query: QueryConfig {
                run_log: reader.flag("query.run_log")?,
                run_log_keep: reader.number("query.run_log_keep", 0, 1_000_000_000)? as u64,
                extractor_workers: reader.number("query.extractor_workers", 1, 256)?,
                extractor_deadline: Duration::from_millis(
                    reader.number("query.extractor_deadline_ms", 1, 3_600_000)? as u64
                ),
            },
        };
        config.check_role()?;
        let same = config.control_addr == config.query_addr && config.control_addr.port() != 0;
        if same {
            return Err(Error::invalid(format!(
                "server.control_addr and server.query_addr are the same: {}",
                config.query_addr
            ))
            .field("server.query_addr")
            .hint("give each its own port"));
        }
        Ok(config)
    }

    /// A replica shares log and catalog with the server that owns the work.
    fn check_role(&self) -> Result<()> {
        let missing = match (&self.log, &self.catalog) {
            _ if !self.query_only => return Ok(()),
            (LogConfig::Embedded, _) => "a log that servers can share, and log.url is not set",
            (_, CatalogConfig::Sqlite) => "a catalog that servers can share, and catalog.url is not set",
            _ => return Ok(()),
        };
        Err(Error::invalid(format!("server.role = 'query' needs {missing}")).field("server.role").hint(
            "set log.url (kafka://host:port/PREFIX) and catalog.url (postgres://…) to those of the server that owns the work",
        ))
    }
}

/// `THYME_SECTION__KEY` and, for a key outside sections, `THYME__KEY`. Other names are no configuration.
fn key_of_variable(name: &str) -> Option<String> {
    let rest = name.strip_prefix("THYME_")?;
    if let Some(key) = rest.strip_prefix('_') {
        return Some(key.to_lowercase());
    }
    let (section, key) = rest.split_once("__")?;
    if let Some(property) = key.strip_prefix("KAFKA__").filter(|_| section == "LOG") {
        return Some(format!("log.kafka.{}", property.to_lowercase().replace('_', ".")));
    }
    Some(format!("{}.{}", section.to_lowercase(), key.to_lowercase()))
}

fn read_file(file: Option<&Path>, given: &mut BTreeMap<String, Given>) -> Result<()> {
    let path = file.unwrap_or(Path::new("thyme.toml"));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => return Ok(()),
        Err(error) => return Err(Error::invalid(format!("cannot read {}: {error}", path.display())).field("--config")),
    };
    let origin = path.display().to_string();
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        Error::invalid(format!("{origin} is not valid TOML: {}", error.message())).at(origin.clone())
    })?;
    let json = serde_json::to_value(table).map_err(|error| Error::invalid(error.to_string()).at(origin.clone()))?;
    flatten(&json, "", &mut |key, text| put(given, key, text, origin.clone()))
}

/// Calls `put` with each leaf of nested objects, its keys joined by dots.
fn flatten(json: &serde_json::Value, prefix: &str, put: &mut dyn FnMut(&str, String) -> Result<()>) -> Result<()> {
    match json {
        serde_json::Value::Object(entries) => {
            for (name, entry) in entries {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(entry, &key, put)?;
            }
            Ok(())
        }
        serde_json::Value::Null => Ok(()),
        serde_json::Value::String(text) => put(prefix, text.clone()),
        other => put(prefix, other.to_string()),
    }
}

fn put(given: &mut BTreeMap<String, Given>, key: &str, text: String, origin: String) -> Result<()> {
    let is_property = key.strip_prefix(KAFKA_PROPERTIES.trim_end_matches('*')).is_some_and(|name| !name.is_empty());
    if !is_property && !SETTINGS.iter().any(|setting| setting.key == key) {
        return Err(Error::invalid(format!("unknown setting '{key}' in {origin}"))
            .field(key)
            .hint(suggest::hint(key, SETTINGS.iter().map(|setting| setting.key))));
    }
    given.insert(key.to_string(), Given { text, origin });
    Ok(())
}

struct Reader<'a> {
    given: &'a BTreeMap<String, Given>,
}

impl Reader<'_> {
    fn text(&self, key: &str) -> String {
        if let Some(given) = self.given.get(key) {
            return given.text.clone();
        }
        SETTINGS
            .iter()
            .find(|setting| setting.key == key)
            .map_or_else(String::new, |setting| setting.default.to_string())
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let origin = self.given.get(key).map_or("the defaults", |given| given.origin.as_str());
        // What is wrong may be an address with a password.
        let text = redacted(&self.text(key));
        Error::invalid(format!("{key} is '{text}' in {origin}, expected {expected}")).field(key)
    }

    fn number(&self, key: &str, least: usize, most: usize) -> Result<usize> {
        let number: Option<usize> = self.text(key).parse().ok();
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.wrong(key, &format!("a whole number from {least} to {most}")))
    }

    fn flag(&self, key: &str) -> Result<bool> {
        self.text(key).parse().map_err(|_| self.wrong(key, "true or false"))
    }

    fn choice(&self, key: &str, allowed: &[&str]) -> Result<String> {
        let text = self.text(key);
        if allowed.contains(&text.as_str()) {
            return Ok(text);
        }
        Err(self.wrong(key, &allowed.join(" or ")))
    }

    fn log(&self) -> Result<LogConfig> {
        self.url("log.url", &["embedded", "kafka"])?;
        let prefix = KAFKA_PROPERTIES.trim_end_matches('*');
        let properties: BTreeMap<String, String> = self
            .given
            .iter()
            .filter_map(|(key, given)| Some((key.strip_prefix(prefix)?.to_string(), given.text.clone())))
            .collect();
        let replication = match self.text("log.replication").as_str() {
            "broker" => None,
            text => Some(text.parse().ok().filter(|copies| *copies > 0).ok_or_else(|| {
                self.wrong("log.replication", "a number of copies, or broker for the broker's own default")
            })?),
        };
        let slices = match self.text("log.slices").as_str() {
            "log" => None,
            text => Some(text.parse().ok().filter(|slices| (1..=MOST_SLICES).contains(slices)).ok_or_else(|| {
                let allowed = format!("a number from 1 to {MOST_SLICES}, or log for as many as the log has");
                self.wrong("log.slices", &allowed)
            })?),
        };
        let url = self.text("log.url");
        if url.starts_with("kafka:") {
            let settings = KafkaSettings::parse(&url, replication, properties)?;
            return Ok(LogConfig::Kafka(KafkaSettings { slices, ..settings }));
        }
        if slices.is_some_and(|slices| slices > 1) {
            return Err(Error::invalid("log.slices is set, and log.url is not a Kafka broker")
                .field("log.slices")
                .hint(
                    "set log.url to kafka://host:port/PREFIX, or leave log.slices out: one server does all the work",
                ));
        }
        match properties.keys().next() {
            None => Ok(LogConfig::Embedded),
            Some(name) => {
                Err(Error::invalid(format!("[log.kafka] \"{name}\" is set, and log.url is not a Kafka broker"))
                    .field(format!("{prefix}{name}"))
                    .hint("set log.url to kafka://host:port/PREFIX, or leave [log.kafka] out"))
            }
        }
    }

    fn checkpoints(&self) -> Result<Option<CheckpointConfig>> {
        // Checked also where none are taken: a mistake should not show up only later.
        let seconds = self.number("checkpoints.interval_s", 1, 7 * 24 * 3600)?;
        let keep = self.number("checkpoints.keep", 1, 10_000)?;
        let url = self.text("checkpoints.url");
        if url.is_empty() {
            return Ok(None);
        }
        let s3_endpoint = Some(self.text("checkpoints.endpoint")).filter(|endpoint| !endpoint.is_empty());
        Ok(Some(CheckpointConfig { url, s3_endpoint, interval: Duration::from_secs(seconds as u64), keep }))
    }

    fn catalog(&self) -> Result<CatalogConfig> {
        self.url("catalog.url", &["sqlite", "postgres", "postgresql"])?;
        match self.text("catalog.url").as_str() {
            "sqlite:" => Ok(CatalogConfig::Sqlite),
            url if url.starts_with("sqlite:") => {
                Err(self.wrong("catalog.url", "sqlite: alone: the file is catalog.db in the data directory"))
            }
            url => PostgresSettings::parse(url).map(|settings| CatalogConfig::Postgres(Box::new(settings))),
        }
    }

    fn url(&self, key: &str, allowed: &[&str]) -> Result<()> {
        let text = self.text(key);
        let scheme = text.split(':').next().unwrap_or_default();
        if allowed.contains(&scheme) {
            return Ok(());
        }
        Err(self.wrong(key, &format!("{}:", allowed.join(" or "))))
    }

    /// `host:port` or `:port`. Only loopback: without keys, whoever reaches a port may do anything.
    fn loopback(&self, key: &str) -> Result<SocketAddr> {
        let text = self.text(key);
        let expected = "host:port, such as 127.0.0.1:8080";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| self.wrong(key, expected))?;
        let port: u16 = port.parse().map_err(|_| self.wrong(key, expected))?;
        let address: IpAddr = match host {
            "" | "localhost" => Ipv4Addr::LOCALHOST.into(),
            _ => host.trim_matches(['[', ']']).parse().map_err(|_| self.wrong(key, expected))?,
        };
        if !address.is_loopback() {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                format!(
                    "{key} = '{text}' is not a loopback address, and a server without API keys listens on loopback only"
                ),
            )
            .field(key)
            .hint("listen on 127.0.0.1 and put an authenticating proxy in front"));
        }
        Ok(SocketAddr::new(address, port))
    }
}
