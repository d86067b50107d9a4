//! What `thyme._runtime.current()` returns on a worker: the lookups of the call under way.

use crate::glue::raise;
use crate::values::{from_python, micros, to_python};
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDateTime, PyDict};
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::error::Error;
use thyme_core::time::Micros;
use thyme_core::value::Value;
use thyme_query::Lookups;

/// The lookups of one call, and the T of the row under way.
#[derive(Clone)]
pub(crate) struct Current {
    pub lookups: Arc<dyn Lookups>,
    pub row_time: Micros,
}

#[pyclass(frozen)]
pub(crate) struct LookupContext {
    current: Mutex<Option<Current>>,
}

impl LookupContext {
    pub fn new() -> LookupContext {
        LookupContext { current: Mutex::new(None) }
    }
    pub fn set(&self, current: Option<Current>) {
        *self.current.lock() = current;
    }
    pub fn set_row_time(&self, row_time: Micros) {
        if let Some(current) = self.current.lock().as_mut() {
            current.row_time = row_time;
        }
    }
}

#[pymethods]
impl LookupContext {
    /// The row of a dataset for a key as of `ts`, as a dict; None for an unknown key of a raw dataset.
    fn lookup<'py>(
        &self,
        py: Python<'py>,
        dataset: &str,
        ts: &Bound<'py, PyAny>,
        key: &Bound<'py, PyDict>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let current = self.current.lock().clone();
        let current = current.ok_or_else(|| PyRuntimeError::new_err("a lookup outside of an extractor"))?;
        let at = lookup_time(py, ts)?;
        let mut components: BTreeMap<String, Value> = BTreeMap::new();
        for (name, component) in key.iter() {
            let name: String = name.extract()?;
            let value = from_python(&component).map_err(|reason| {
                raise(py, &Error::invalid(format!("key '{name}' of {dataset}.lookup: {reason}")).field(name.as_str()))
            })?;
            components.insert(name, value);
        }
        let found = py.detach(|| current.lookups.lookup(dataset, at, current.row_time, &components));
        let Some(row) = found.map_err(|error| raise(py, &error))? else { return Ok(None) };
        let dict = PyDict::new(py);
        for (name, value) in &row {
            dict.set_item(name, to_python(py, value)?)?;
        }
        Ok(Some(dict))
    }
}

fn lookup_time(py: Python<'_>, ts: &Bound<'_, PyAny>) -> PyResult<Micros> {
    if !ts.is_instance_of::<PyDateTime>() {
        let got = ts.get_type().name()?;
        let error = Error::invalid(format!("a lookup takes a datetime as ts, got {got}"))
            .field("ts")
            .hint("pass on the ts that the extractor was given");
        return Err(raise(py, &error));
    }
    micros(ts).map_err(|error| {
        let reason = error.value(py).to_string();
        raise(py, &Error::invalid(format!("the ts of a lookup is {reason}")).field("ts"))
    })
}
