//! Aggregates: what they are ([`AggregateDef`]), the partials they share ([`partial`]), and how a window becomes a value.

mod avg;
mod compile;
mod count;
mod decay;
mod digest;
mod distinct;
mod extreme;
mod last;
mod last_k;
mod layout;
mod operator;
pub mod oracle;
mod partial;
mod percentile;
mod plan;
mod registry;
mod sketch;
mod sum;
#[cfg(test)]
mod tests;
mod top_k;
mod variance;

pub use digest::{Standing, ValueDigest};
pub use layout::{MAX_PREDICATES, PartialKind, PartialSpec, Scan, ScanItem, TableLayout, WindowData, WindowRead};
pub use partial::Partial;
pub use plan::{ColumnType, Columns, Number, Outcome, OutputPlan, OutputRead, PartialRead, ReadPlan, Shown, TablePlan};
pub use sketch::DistinctSketch;

use crate::expr::{Expr, Literal};
use crate::window::Window;
use serde::{Deserialize, Serialize};

/// One aggregate of a pipeline, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateDef {
    /// The field of the aggregated dataset.
    pub name: String,
    pub op: AggregateOp,
    /// The column it aggregates; only Count may go without.
    #[serde(default)]
    pub of: Option<String>,
    pub window: Window,
    /// Only rows for which this is true.
    #[serde(default, rename = "where")]
    pub predicate: Option<Expr>,
    #[serde(default)]
    pub default: Option<Literal>,
}

/// Which operator, with its own parameters. JSON: `"sum"`-like unit names as `{"kind": "sum"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum AggregateOp {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    /// Without `pct`: mid-rank (0..1) of the newest value; with it: the value at that percentile (0..100).
    ApproxPercentile {
        #[serde(default)]
        pct: Option<f64>,
    },
    Last {
        #[serde(default)]
        dropnull: bool,
    },
    First {
        #[serde(default)]
        dropnull: bool,
    },
    LastK {
        k: u32,
        #[serde(default)]
        dedup: bool,
        #[serde(default)]
        dropnull: bool,
    },
    FirstK {
        k: u32,
        #[serde(default)]
        dedup: bool,
        #[serde(default)]
        dropnull: bool,
    },
    Stddev {
        #[serde(default)]
        sample: bool,
    },
    Variance {
        #[serde(default)]
        sample: bool,
    },
    CountDistinct {
        #[serde(default)]
        approx: bool,
    },
    TopK {
        k: u32,
    },
    ExpDecaySum {
        half_life: String,
    },
}
