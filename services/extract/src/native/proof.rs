//! A program is used only if it gives what its function gives, type for type and bit for bit, wherever it is sure.

use super::program::Program;
use super::{evaluate, samples};
use crate::call::run_row;
use crate::loader::Function;
use pyo3::prelude::*;
use thyme_core::value::Value;
use thyme_query::{Extracted, ExtractorSpec};

const ROWS: usize = 512;

/// Whether the program is of use: it is sure of some row. A row on which they differ is the error.
pub(crate) fn prove(
    py: Python<'_>,
    program: &Program,
    function: &Function,
    spec: &ExtractorSpec,
) -> Result<bool, String> {
    let mut is_used = false;
    for inputs in samples::rows(program, &spec.input_types, ROWS) {
        let Ok(outputs) = evaluate::run(program, &inputs) else { continue };
        is_used = true;
        // It reads no time: any will do.
        let told = match run_row(py, function, spec, 0, &inputs) {
            Ok(Ok(wanted)) if are_same(&outputs, &wanted) => continue,
            Ok(Ok(wanted)) => format!("{wanted:?}"),
            Ok(Err(reason)) => reason.to_string(),
            Err(error) => error.to_string(),
        };
        return Err(format!("{inputs:?} gives {outputs:?} instead of {told}"));
    }
    Ok(is_used)
}

fn are_same(outputs: &[Value], wanted: &[Extracted]) -> bool {
    let same = |(output, wanted): (&Value, &Extracted)| wanted.as_ref().is_ok_and(|wanted| is_same(output, wanted));
    outputs.len() == wanted.len() && outputs.iter().zip(wanted).all(same)
}

fn is_same(output: &Value, wanted: &Value) -> bool {
    match (output, wanted) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(output), Value::Bool(wanted)) => output == wanted,
        (Value::Int(output), Value::Int(wanted)) => output == wanted,
        (Value::Float(output), Value::Float(wanted)) => output.to_bits() == wanted.to_bits(),
        (Value::Str(output), Value::Str(wanted)) => output == wanted,
        _ => false,
    }
}
