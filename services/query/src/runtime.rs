//! The seam to user code: extractors are called through [`ExtractorRuntime`], and call back through [`Lookups`].

use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thyme_core::definition::{CallStyle, ModuleDef};
use thyme_core::error::{Error, Result};
use thyme_core::schema::DataType;
use thyme_core::time::Micros;
use thyme_core::value::Value;

/// What a runtime needs to know of one extractor.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtractorSpec {
    pub featureset: Arc<str>,
    pub name: Arc<str>,
    pub module: String,
    /// `UserFeatures.from_stats`.
    pub qualname: String,
    pub style: CallStyle,
    /// Receives and returns columns.
    pub batch: bool,
    /// Names of the arguments, in declared order.
    pub inputs: Vec<String>,
    pub input_types: Vec<DataType>,
    pub outputs: Vec<String>,
    pub output_types: Vec<DataType>,
}

/// What came of loading a deployment's modules.
#[derive(Debug, Clone, Default)]
pub struct LoadReport {
    /// What keeps an extractor from running: import errors, missing packages, missing functions. A commit is refused by one;
    /// a node that starts serves the rest and answers ERROR for those outputs.
    pub errors: Vec<Error>,
    pub warnings: Vec<String>,
}

/// A call of one extractor over a chunk of rows.
pub struct ExtractorCall {
    pub deployment: Arc<str>,
    pub featureset: Arc<str>,
    pub extractor: Arc<str>,
    /// T of each row.
    pub times: Vec<Micros>,
    /// Per row, the inputs in declared order.
    pub rows: Vec<Vec<Value>>,
    pub lookups: Arc<dyn Lookups>,
    /// For each row; for the whole call of a batch extractor.
    pub deadline: Duration,
}

/// Per row: the outputs in declared order, untyped as yet, or why there are none.
pub type ExtractedRows = Vec<Result<Vec<Extracted>, Arc<str>>>;

/// One output of one row, or why it is no value (NaN, an object that has no column type).
pub type Extracted = Result<Value, Arc<str>>;

pub trait ExtractorRuntime: Send + Sync {
    /// Loads modules under a deployment's id; several are alive at once. Loading an id again replaces it.
    fn load(&self, deployment: &str, modules: &[ModuleDef], extractors: &[ExtractorSpec]) -> LoadReport;
    /// Forgets a deployment.
    fn unload(&self, deployment: &str);
    /// Whether an extractor does without the interpreter.
    fn is_native(&self, _deployment: &str, _featureset: &str, _extractor: &str) -> bool {
        false
    }
    /// As many results as rows, always.
    fn call(&self, call: ExtractorCall) -> BoxFuture<'static, ExtractedRows>;
}

/// Reads of the request's own snapshots, under its `known_at` and `exclusive`.
pub trait Lookups: Send + Sync {
    /// All fields of the row by name; `None` for an unknown key of a raw dataset. A time later than the request's greatest T,
    /// an unknown dataset or a key that does not fit is an error.
    fn lookup(
        &self,
        dataset: &str,
        at: Micros,
        row_time: Micros,
        key: &BTreeMap<String, Value>,
    ) -> Result<Option<BTreeMap<String, Value>>>;
}

/// For places without Python: every extractor answers ERROR.
pub struct NoExtractors;

impl ExtractorRuntime for NoExtractors {
    fn load(&self, _deployment: &str, _modules: &[ModuleDef], extractors: &[ExtractorSpec]) -> LoadReport {
        let errors = extractors
            .iter()
            .map(|extractor| {
                Error::unavailable(format!(
                    "no Python here to run extractor {}.{}",
                    extractor.featureset, extractor.name
                ))
            })
            .collect();
        LoadReport { errors, warnings: Vec::new() }
    }
    fn unload(&self, _deployment: &str) {}
    fn call(&self, call: ExtractorCall) -> BoxFuture<'static, ExtractedRows> {
        let reason: Arc<str> = format!("no Python here to run extractor {}.{}", call.featureset, call.extractor).into();
        let rows = call.rows.iter().map(|_| Err(reason.clone())).collect();
        Box::pin(futures::future::ready(rows))
    }
}
