//! What can be asked: features of entities, a lookup in a dataset, an export over a spine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::error::{Error, Result};
use thyme_core::pin::Pin;
use thyme_core::position::{KnownAt, PositionSet};
use thyme_core::schema::DataType;
use thyme_core::time::Micros;
use thyme_core::value::Value;

/// A key component or request input as it arrived: every surface hands on what it has, the engine reads it by the declared type.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// Typed already (gRPC, Arrow, Python). An int is accepted where a float or Decimal is declared.
    Value(Value),
    /// Text of a URL parameter or of the command line.
    Text(String),
    Json(serde_json::Value),
}

impl Given {
    /// The value as `data_type`; an error names what was expected.
    pub fn read(&self, data_type: &DataType) -> Result<Value> {
        match self {
            Given::Text(text) => Value::from_text(text, data_type),
            Given::Json(json) => Value::from_json(json, data_type),
            Given::Value(value) => {
                let widened = value.clone().widened(data_type);
                let wrong = || Error::invalid(format!("expected {data_type}, got {}", value.type_name()));
                if widened.has_type(data_type) { Ok(widened) } else { Err(wrong()) }
            }
        }
    }
}

impl From<Value> for Given {
    fn from(value: Value) -> Given {
        Given::Value(value)
    }
}

/// By name of key feature (or request input). A featureset with one key also takes the name `entity_id`, and `entity_id` with
/// a JSON object gives several keys at once.
pub type GivenMap = BTreeMap<String, Given>;

/// The event time of a question.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum At {
    /// The wall clock, or the event clock where the server runs on it: mode `online`.
    #[default]
    Now,
    /// One time for all rows: mode `point_in_time`.
    Time(Micros),
    /// One per row; `None` makes an ERROR row.
    Each(Vec<Option<Micros>>),
}

/// What kind of run a question is recorded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    Online,
    Batch,
    Offline,
    Lookup,
}

impl RunKind {
    pub fn name(self) -> &'static str {
        match self {
            RunKind::Online => "online",
            RunKind::Batch => "batch",
            RunKind::Offline => "offline",
            RunKind::Lookup => "lookup",
        }
    }
}

/// How a question is to be read and recorded, whatever it asks.
#[derive(Debug, Clone, Default)]
pub struct Asking {
    /// Only events known then.
    pub known_at: Option<KnownAt>,
    /// Windows are `[T - w, T)`.
    pub exclusive: bool,
    /// Wait until the state has applied these positions (read your writes).
    pub at_least: Option<PositionSet>,
    /// How long the caller waits; the server's default where unset.
    pub deadline: Option<Duration>,
    /// First 8 hex digits of the SHA-256 of the API key, for the run record.
    pub api_key_fingerprint: Option<Arc<str>>,
}

/// Features of one or many entities.
#[derive(Debug, Clone)]
pub struct Question {
    pub featureset: String,
    /// One per row of the answer.
    pub keys: Vec<GivenMap>,
    /// Request features: none, one map for all rows, or one per row.
    pub inputs: Vec<GivenMap>,
    /// These features only (and only the keys they need); `None` is all.
    pub features: Option<Vec<String>>,
    pub at: At,
    pub asking: Asking,
    pub kind: RunKind,
}

impl Question {
    /// All features of one entity, now.
    pub fn online(featureset: impl Into<String>, key: GivenMap) -> Question {
        Question {
            featureset: featureset.into(),
            keys: vec![key],
            inputs: Vec::new(),
            features: None,
            at: At::Now,
            asking: Asking::default(),
            kind: RunKind::Online,
        }
    }
}

/// One row of a dataset: the newest of a raw dataset, or all aggregates of an aggregated one.
#[derive(Debug, Clone)]
pub struct LookupQuestion {
    pub dataset: String,
    /// By name of key field; `entity_id` where there is one.
    pub key: GivenMap,
    /// `None` is now.
    pub at: Option<Micros>,
    pub asking: Asking,
}

/// The header of an export; its spine comes in Arrow batches.
#[derive(Debug, Clone, Default)]
pub struct ExportQuestion {
    pub featureset: String,
    /// Several instead: then features are asked and columns named as `Featureset.feature`.
    pub featuresets: Vec<String>,
    pub features: Option<Vec<String>>,
    /// Key or request feature -> spine column, where the names differ. One entry under `entity_id` is the column of the only key. Of
    /// several featuresets it is that of all which have it, or with `Featureset.` before it of one.
    pub entity_columns: BTreeMap<String, String>,
    /// The spine's time column.
    pub timestamp_column: String,
    /// Adds a `<feature>__status` column per feature.
    pub statuses: bool,
    /// What an earlier export stood on: exactly that once more, or an error.
    pub pin: Option<Pin>,
    pub asking: Asking,
}
