//! What the SDK and the command line check before a commit.

use pyo3::prelude::*;
use serde_json::{Value as Json, json};
use thyme_core::definition::{Compiled, Definitions, PublishedIds, compile, diff};
use thyme_core::error::{Error, Result};
use thyme_core::window::Window;
use thyme_extract::raise;

/// Checks definitions: errors, and the plan of a first commit, as JSON.
#[pyfunction]
pub fn validate(py: Python<'_>, definitions_json: &str) -> String {
    py.detach(|| {
        let checked = compile_text(definitions_json)
            .and_then(|compiled| diff(&Compiled::default(), &compiled, &PublishedIds::default()));
        match checked {
            Ok(plan) => json!({"errors": [], "plan": plan, "rendered": plan.render()}),
            Err(errors) => {
                let errors: Vec<Json> = errors.iter().map(error_json).collect();
                json!({"errors": errors, "plan": null, "rendered": ""})
            }
        }
        .to_string()
    })
}

/// Microseconds of a window; `None` for `forever`.
#[pyfunction]
pub fn parse_window(py: Python<'_>, text: &str) -> PyResult<Option<i64>> {
    match Window::parse(text) {
        Ok(Window::Length(micros)) => Ok(Some(micros)),
        Ok(Window::Forever) => Ok(None),
        Err(error) => Err(raise(py, &error)),
    }
}

/// Reads and compiles the JSON of a commit; all errors.
pub(crate) fn compile_text(definitions_json: &str) -> Result<Compiled, Vec<Error>> {
    let definitions: Definitions = serde_json::from_str(definitions_json)
        .map_err(|error| vec![Error::definition(format!("the definitions are not in format 1: {error}"))])?;
    compile(&definitions)
}

/// Several errors as one, the first one's kind and place, all messages.
pub(crate) fn all_in_one(errors: &[Error]) -> Error {
    match errors {
        [] => Error::internal("failed without an error"),
        [only] => only.clone(),
        [first, ..] => {
            let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Error::new(first.kind(), format!("{} errors:\n{}", errors.len(), told.join("\n")))
        }
    }
}

fn error_json(error: &Error) -> Json {
    json!({
        "code": error.kind().table().code,
        "message": error.message(),
        "field": error.field_name(),
        "hint": error.hint_text(),
        "location": error.location(),
    })
}
