//! What a stored table holds, and what a question reads from it: the contract between the planner and the state layer.

use super::partial::Partial;
use crate::exact::FADED;
use crate::position::Position;
use crate::schema::DataType;
use crate::time::Micros;
use crate::value::Value;
use crate::window::Window;
use serde::{Deserialize, Serialize};

/// A mergeable summary that a table keeps for every stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartialKind {
    /// Rows, or with a column its values that are not null.
    Count,
    SumInt,
    SumFloat,
    SquaresInt,
    SquaresFloat,
    Min,
    Max,
    /// HyperLogLog; up to 4 KB.
    DistinctSketch,
    /// The sum of values that fade by half in every half-life (microseconds).
    DecayedSum {
        half_life: Micros,
    },
    /// Ranks and percentiles; up to some KB. Digests are put together along the stretches of time of the state's trie.
    DigestInt,
    /// Of decimals too, as their nearest floats.
    DigestFloat,
    SumDecimal,
    SquaresDecimal,
}

impl PartialKind {
    /// Whether the way in which its parts are put together shows in the result, so that it must follow fixed stretches of time.
    pub fn is_digest(self) -> bool {
        matches!(self, PartialKind::DigestInt | PartialKind::DigestFloat)
    }

    /// How long a row can matter to it, whatever the window.
    pub fn reach(self) -> Option<Micros> {
        match self {
            PartialKind::DecayedSum { half_life } => Some(half_life.saturating_mul(FADED)),
            _ => None,
        }
    }
}

/// One partial of a table; operators and windows share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartialSpec {
    pub kind: PartialKind,
    /// Index into [`TableLayout::columns`]; only Count goes without (then it counts rows).
    pub column: Option<u16>,
    /// Index of the predicate that a row must fulfil to count.
    pub predicate: Option<u16>,
}

/// The most distinct `where=` predicates of one pipeline: an event carries one bit for each.
pub const MAX_PREDICATES: usize = 64;

/// What a stored table holds per event and per stretch of time. A raw (`index=True`) table has all dataset columns, no
/// predicates and no partials.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableLayout {
    pub columns: Vec<DataType>,
    /// How many predicate bits an event carries, at most [`MAX_PREDICATES`].
    pub predicates: u16,
    pub partials: Vec<PartialSpec>,
    /// How far below the watermark events are kept: the dataset's `history=` and the longest window. `None`: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Micros>,
}

impl TableLayout {
    /// The form of its rows. Of operators that were once read event by event, tables now keep partials: rows of an older form of
    /// such a table cannot be read, so that the form is part of the table's identity.
    pub fn form(&self) -> u32 {
        let is_later = |spec: &PartialSpec| spec.kind.is_digest() || spec.kind.reach().is_some();
        if self.partials.iter().any(is_later) { 2 } else { 1 }
    }

    /// The layout of a raw table.
    pub fn raw(columns: Vec<DataType>) -> TableLayout {
        TableLayout { columns, predicates: 0, partials: Vec::new(), kept: None }
    }

    /// Whether it may gain columns at its end while its rows stay as they are: null is what they hold there.
    pub fn grows(&self) -> bool {
        self.predicates == 0 && self.partials.is_empty()
    }
}

/// One distinct window of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRead {
    pub window: Window,
    /// Indices into [`TableLayout::partials`].
    pub partials: Vec<u16>,
    pub scans: Vec<Scan>,
}

/// Events of a window, one by one, in canonical order: by time, ties by origin (reversed when newest first).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Whose values; without a column the items carry null.
    pub column: Option<u16>,
    pub predicate: Option<u16>,
    /// Leave out events whose value is null.
    pub skip_null: bool,
    pub newest_first: bool,
    /// At most this many items (after the predicate and `skip_null`).
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanItem {
    pub time: Micros,
    pub origin: Position,
    pub value: Value,
}

/// What state answers for one [`WindowRead`]: both lists are parallel to its `partials` and `scans`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WindowData {
    pub partials: Vec<Partial>,
    pub scans: Vec<Vec<ScanItem>>,
}
