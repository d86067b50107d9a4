//! Extractors without the interpreter: a function whose body stays within plain expressions is turned into a [`Program`] when it
//! is loaded (`compiler.py` reads its source), proven against the function there and then, and evaluated here from then on.
//!
//! A program has the semantics of Python, or none: whatever CPython's answer is not certain for (an exception, an int beyond 64
//! bits, an int beyond 2^53 that meets a float, an infinity, the case of a letter that is not ASCII) is [`Unsure`], and that row
//! is computed by the function. So an answer, and an error, is always the one that Python gives.

mod evaluate;
mod number;
mod program;
mod proof;
mod samples;
mod text;

use crate::loader::Function;
use program::Program;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use std::ffi::CString;
use thyme_core::definition::CallStyle;
use thyme_core::schema::DataType;
use thyme_core::value::Value;
use thyme_query::{ExtractedRows, ExtractorCall, ExtractorSpec};

/// Python's answer is not certain: ask Python.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsure;

pub(crate) type Sure<T> = Result<T, Unsure>;

/// An extractor that runs here.
pub(crate) struct Native(Program);

/// The rows of a call that are for Python, and where they belong.
pub(crate) struct Rest {
    pub call: ExtractorCall,
    pub positions: Vec<usize>,
}

impl Native {
    /// All rows in their places; those of the rest are still empty.
    pub fn run(&self, mut call: ExtractorCall) -> (ExtractedRows, Option<Rest>) {
        let mut positions = Vec::new();
        let run_row = |(position, inputs): (usize, &Vec<Value>)| {
            let outputs = evaluate::run(&self.0, inputs).unwrap_or_else(|Unsure| {
                positions.push(position);
                Vec::new()
            });
            Ok(outputs.into_iter().map(Ok).collect())
        };
        let rows: ExtractedRows = call.rows.iter().enumerate().map(run_row).collect();
        if positions.is_empty() {
            return (rows, None);
        }
        call.times = positions.iter().map(|&position| call.times[position]).collect();
        call.rows = positions.iter().map(|&position| std::mem::take(&mut call.rows[position])).collect();
        (rows, Some(Rest { call, positions }))
    }
}

/// The program of an extractor, if it has one that agrees with it. A disagreement is a fault of ours: a warning.
pub(crate) fn compile(
    py: Python<'_>,
    function: &Function,
    spec: &ExtractorSpec,
    warnings: &mut Vec<String>,
) -> Option<Native> {
    if spec.batch {
        return None;
    }
    let text = match source_of(py, function, spec) {
        Ok(text) => text?,
        Err(error) => {
            tracing::warn!(%error, "the source of {}.{} could not be read", spec.featureset, spec.name);
            return None;
        }
    };
    // Programs that are nested too deeply do not parse.
    let program: Program = serde_json::from_str(&text).ok()?;
    match proof::prove(py, &program, function, spec) {
        Ok(is_used) => is_used.then_some(Native(program)),
        Err(difference) => {
            let warning = format!(
                "extractor {}.{} stays in Python: its native form is wrong, please report it ({difference})",
                spec.featureset, spec.name
            );
            tracing::warn!("{warning}");
            warnings.push(warning);
            None
        }
    }
}

fn source_of(py: Python<'_>, function: &Function, spec: &ExtractorSpec) -> PyResult<Option<String>> {
    let types = spec.input_types.iter().map(is_known);
    let inputs: Vec<(&String, bool)> = spec.inputs.iter().zip(types).collect();
    let only_output = match spec.output_types.as_slice() {
        [DataType::List(_)] => Some("list"),
        [DataType::Map(_)] => Some("dict"),
        _ => None,
    };
    let arguments = (&function.0, spec.style == CallStyle::Dict, inputs, &spec.outputs, only_output);
    compiler(py)?.call_method1("program", arguments)?.extract()
}

/// Whether programs know values of a type.
fn is_known(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Bool | DataType::Int | DataType::Float | DataType::Str)
}

static COMPILER: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn compiler(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let module = COMPILER.get_or_try_init(py, || {
        let code = CString::new(include_str!("compiler.py"))?;
        PyModule::from_code(py, &code, c"thyme/_compiler.py", c"thyme._compiler").map(Bound::unbind)
    })?;
    Ok(module.bind(py))
}
