//! What is answered: values with their statuses, and what they stand on: time, watermark, position, finality.

use crate::run::RunRecord;
use std::sync::Arc;
use thyme_core::position::PositionSet;
use thyme_core::schema::DataType;
use thyme_core::time::Micros;
use thyme_core::value::Value;

/// How a value came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    Ok,
    /// The window was empty, or the key is unknown.
    Default,
    /// No value, with the reason.
    Error(Arc<str>),
}

impl Status {
    /// `OK`, `DEFAULT` or `ERROR`.
    pub fn name(&self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::Default => "DEFAULT",
            Status::Error(_) => "ERROR",
        }
    }
    pub fn reason(&self) -> Option<&str> {
        match self {
            Status::Error(reason) => Some(reason),
            Status::Ok | Status::Default => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureValue {
    pub value: Value,
    pub status: Status,
}

impl FeatureValue {
    pub fn ok(value: Value) -> FeatureValue {
        FeatureValue { value, status: Status::Ok }
    }
    pub fn default_of(value: Value) -> FeatureValue {
        FeatureValue { value, status: Status::Default }
    }
    pub fn error(reason: impl Into<Arc<str>>) -> FeatureValue {
        FeatureValue { value: Value::Null, status: Status::Error(reason.into()) }
    }
}

/// `online` or `point_in_time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Online,
    PointInTime,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Online => "online",
            Mode::PointInTime => "point_in_time",
        }
    }
}

/// What every answer says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub mode: Mode,
    /// The question's T; with a time per row, the greatest of them.
    pub ts: Micros,
    /// The smallest watermark of the partitions that can carry the keys; `None` where nothing is ever late
    /// (`max_lateness` unset) or such a partition is still empty.
    pub watermark: Option<Micros>,
    /// How far every log partition that was read had been applied.
    pub position: PositionSet,
    /// Whether T is below the watermark: later events cannot change the answer.
    pub is_final: bool,
    pub commit_id: Arc<str>,
}

/// One feature over all rows of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureColumn {
    /// As asked: an old name answers under the old name.
    pub name: Arc<str>,
    pub data_type: DataType,
    pub values: Vec<FeatureValue>,
}

/// Columnar: `columns[f].values[row]`, `keys[k].1[row]`.
#[derive(Debug, Clone)]
pub struct Answer {
    pub featureset: Arc<str>,
    pub row_count: usize,
    /// The keys that the features needed, typed, one value per row.
    pub keys: Vec<(Arc<str>, Vec<Value>)>,
    pub columns: Vec<FeatureColumn>,
    pub standing: Standing,
    pub run: RunRecord,
}

/// One field of a looked-up row.
#[derive(Debug, Clone, PartialEq)]
pub struct LookupField {
    pub name: Arc<str>,
    pub data_type: DataType,
    pub value: FeatureValue,
}

#[derive(Debug, Clone)]
pub struct LookupAnswer {
    pub dataset: Arc<str>,
    pub key: Vec<(Arc<str>, Value)>,
    /// All fields of the dataset in class order; `None` for an unknown key of a raw dataset.
    pub row: Option<Vec<LookupField>>,
    pub standing: Standing,
    pub run: RunRecord,
}

/// An event that lies in a window.
#[derive(Debug, Clone, PartialEq)]
pub struct ContributingEvent {
    pub time: Micros,
    pub append_time: Micros,
    /// Partition and offset in the dataset's own log.
    pub partition: u16,
    pub offset: u64,
    /// The stored columns, by name.
    pub values: Vec<(Arc<str>, Value)>,
}

/// How one feature came to its value.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureExplanation {
    pub name: Arc<str>,
    pub data_type: DataType,
    pub value: FeatureValue,
    pub how: How,
}

#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// It is a key or was given with the request.
    Given,
    /// A native read of a window: `Stats.n`, the operator, the closed window, its events (newest first, capped).
    Window {
        source: String,
        operator: String,
        window: String,
        /// `None` is unbounded.
        start: Option<Micros>,
        end: Micros,
        events: Vec<ContributingEvent>,
        /// There are more than were returned.
        truncated: bool,
    },
    /// A native read of the newest raw row.
    Newest { source: String, event: Option<ContributingEvent> },
    /// A Python extractor, with its inputs.
    Extractor { name: String, inputs: Vec<(String, Value)> },
}

#[derive(Debug, Clone)]
pub struct Explanation {
    pub answer: Answer,
    pub features: Vec<FeatureExplanation>,
}

/// [`Explanation`] of a dataset's row.
#[derive(Debug, Clone)]
pub struct LookupExplanation {
    pub answer: LookupAnswer,
    pub features: Vec<FeatureExplanation>,
}
