//! What it takes to answer a set of wanted features: the keys and inputs a question must give, the native reads, and the
//! extractor calls in order, over one flat space of value slots. Features of other featuresets are part of the same plan.

use super::compiled::Compiled;
use crate::error::Result;
use crate::value::Value;

/// The plan for a set of wanted features of one featureset.
#[derive(Debug, Clone, PartialEq)]
pub struct FeaturePlan {
    pub featureset: String,
    /// One per feature (of this or another featureset) whose value is needed.
    pub slots: Vec<Slot>,
    /// The slot of each wanted feature, in the order asked.
    pub wanted: Vec<usize>,
    /// (feature, slot) of the key features that the question must give, in class order.
    pub keys: Vec<(usize, usize)>,
    /// (feature, slot) of the request features that the question must give, in class order.
    pub requests: Vec<(usize, usize)>,
    /// Native reads: each fills slots from one table and one key, and needs only keys and requests.
    pub reads: Vec<PlannedRead>,
    /// Extractor calls, in an order in which every input slot is filled before.
    pub calls: Vec<PlannedCall>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    pub featureset: String,
    pub feature: usize,
    /// The feature's default.
    pub default: Option<Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRead {
    pub dataset: String,
    /// The pipeline whose table is read; `None` reads the newest row of a raw dataset.
    pub pipeline: Option<String>,
    /// Slots that hold the key's components, in key order.
    pub key: Vec<usize>,
    /// (output of the pipeline's plan, or column of the raw row; slot to fill).
    pub fills: Vec<(usize, usize)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PlannedCall {
    pub featureset: String,
    /// Index into that featureset's extractors.
    pub extractor: usize,
    pub inputs: Vec<usize>,
    /// The slot of each output; `None` where nothing asks for that output.
    pub outputs: Vec<Option<usize>>,
}

impl Compiled {
    /// The plan for `wanted` features of a featureset, by index into its features.
    pub fn feature_plan(&self, _featureset: &str, _wanted: &[usize]) -> Result<FeaturePlan> {
        Err(crate::error::Error::internal("not built yet"))
    }
}
