//! `serve`: the server in this process, so that extractors import from the user's own environment.

use pyo3::prelude::*;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use thyme_core::error::{Error, Result};
use thyme_extract::{PythonExtractors, raise};
use thyme_server::Config;

/// What the command line found.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Started {
    config_file: Option<PathBuf>,
    #[serde(default)]
    flags: serde_json::Map<String, serde_json::Value>,
}

/// Runs the server until SIGINT or SIGTERM. The interpreter is let go, so that extractors can take it.
#[pyfunction]
pub fn serve(py: Python<'_>, config_json: &str) -> PyResult<()> {
    py.detach(|| run(config_json)).map_err(|error| raise(py, &error))
}

fn run(config_json: &str) -> Result<()> {
    let mut started: Started = serde_json::from_str(config_json)
        .map_err(|error| Error::invalid(format!("the arguments of serve do not read: {error}")))?;
    started.flags.retain(|_, value| !value.is_null());
    let flags = serde_json::Value::Object(started.flags);
    let config = Config::load(started.config_file.as_deref(), std::env::vars(), &flags)?;
    let extractors = Arc::new(PythonExtractors::new(config.query.extractor_workers)?);
    thyme_server::run_blocking(config, extractors.clone(), thyme_server::stop_signal())?;
    if extractors.has_stuck_thread() {
        eprintln!("an extractor still hangs in native code: leaving without ending the interpreter");
        std::process::exit(0);
    }
    Ok(())
}
