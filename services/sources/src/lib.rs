//! Connectors: where rows come from when nobody pushes them.
//!
//! A [`Source`] is polled: it is told the cursor of the last poll and gives the rows after it, the rows that it could not
//! read, and the next cursor. It keeps no state of its own that matters, so a source may be closed and opened at any time.
//! Exactly once: every row has an event id that depends on its place and its content only. Whoever publishes rows and then
//! saves the cursor may crash in between; the rows polled again carry the same ids and are dropped as duplicates.
//!
//! One connector = one module and one line in [`CONNECTORS`].

mod coerce;
mod columns;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub mod file;
pub mod kafka;
pub mod postgres;
mod saved;
mod settings;

use std::fmt;
use std::time::Duration;
use thyme_core::definition::SourceDef;
use thyme_core::record::EventId;
use thyme_core::schema::Field;
use thyme_core::{Error, ErrorKind, Result, Value, suggest};

pub trait Source: Send {
    /// The rows after `cursor` (`None`: from the beginning), about `max_rows` of them. Never waits: an empty poll is a normal
    /// answer. An error is about the source as a whole; the caller keeps its cursor and may poll again later.
    fn poll(&mut self, cursor: Option<&[u8]>, max_rows: usize) -> Result<Poll>;
}

/// What one poll found.
#[derive(Debug, Clone, PartialEq)]
pub struct Poll {
    pub rows: Vec<SourceRow>,
    /// Rows for the dead letters; the source goes on behind them.
    pub rejected: Vec<RejectedRow>,
    /// To be saved once `rows` and `rejected` are.
    pub cursor: Vec<u8>,
    /// Whether another poll is worth while at once.
    pub has_more: bool,
    /// Why what is there was not read to its end, if so: `line 12 is incomplete`.
    pub pending: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SourceRow {
    /// One per field of the dataset, in stored order, each of the field's type.
    pub values: Vec<Value>,
    /// Always [`EventId::Given`].
    pub id: EventId,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RejectedRow {
    pub place: Place,
    pub reason: Error,
    /// The beginning of its text.
    pub sample: String,
    /// What could be read of it: one per field of the dataset, null where nothing could; none at all if nothing could.
    pub values: Vec<Value>,
    /// Tells a row that is reported again after a crash.
    pub id: EventId,
}

/// Where a row stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Of a text, from 1.
    Line(u64),
    /// Of a file, from 1.
    Row(u64),
    /// Of a table, by its key: `id=7`. The key is data.
    Key(String),
    /// Of a topic.
    Record { partition: i32, offset: u64 },
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(number) => write!(formatter, "line {number}"),
            Place::Row(number) => write!(formatter, "row {number}"),
            Place::Key(key) => write!(formatter, "row {key}"),
            Place::Record { partition, offset } => write!(formatter, "partition {partition} offset {offset}"),
        }
    }
}

/// Checks the settings and makes a source of rows with these fields.
pub type Open = fn(&SourceDef, &[Field]) -> Result<Box<dyn Source>>;

/// A kind of source.
pub struct Connector {
    /// As in [`SourceDef::kind`].
    pub kind: &'static str,
    /// Names of the settings it takes.
    pub settings: &'static [&'static str],
    /// How often it is polled unless told otherwise.
    pub every: Duration,
    pub open: Open,
}

pub const CONNECTORS: &[Connector] = &[file::CONNECTOR, kafka::CONNECTOR, postgres::CONNECTOR];

/// How often a source of this kind is polled unless its definition says so.
pub fn default_every(kind: &str) -> Duration {
    let found = CONNECTORS.iter().find(|connector| connector.kind == kind);
    found.map_or(Duration::from_secs(1), |connector| connector.every)
}

/// Checks the settings and makes the source of a dataset with these fields (in stored order). Touches nothing outside yet.
pub fn open(source: &SourceDef, fields: &[Field]) -> Result<Box<dyn Source>> {
    let Some(connector) = CONNECTORS.iter().find(|connector| connector.kind == source.kind) else {
        let hint = suggest::hint(&source.kind, CONNECTORS.iter().map(|connector| connector.kind));
        let message = format!("source kind '{}' is not offered by this version", source.kind);
        return Err(Error::new(ErrorKind::Unimplemented, message).hint(hint));
    };
    for name in source.settings.keys() {
        if !connector.settings.contains(&name.as_str()) {
            let message = format!("unknown setting '{name}' of a {} source", connector.kind);
            let hint = suggest::hint(name, connector.settings.iter().copied());
            return Err(Error::definition(message).field(name).hint(hint));
        }
    }
    (connector.open)(source, fields)
}
