//! `MockEngine`: the real engine in memory, for `thyme.testing.MockContext`.

mod clock;
mod convert;
mod world;

use crate::closing::away;
use crate::definitions::{all_in_one, compile_text};
use arrow_array::ffi_stream::ArrowArrayStreamReader;
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_pyarrow::{FromPyArrow, IntoPyArrow, Table};
use convert::{asking, given_map, key, put_standing, put_values, rejected, row, time};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use thyme_core::error::{Error, Result};
use thyme_core::pin::Pin;
use thyme_core::time::{Clock, ClockMode};
use thyme_core::value::Value;
use thyme_extract::{PythonExtractors, raise, to_python};
use thyme_ingest::{GivenKey, RowIds, Rows};
use thyme_query::{At, ExportQuestion, ExtractorRuntime, LookupQuestion, Question, RunKind, extractor_specs};
use world::World;

/// Threads that run extractors.
const WORKERS: usize = 2;

#[pyclass(module = "thyme._native", frozen)]
pub struct MockEngine {
    world: parking_lot::RwLock<Option<Arc<World>>>,
    warnings: Vec<String>,
    native_extractors: Vec<String>,
}

impl MockEngine {
    fn world(&self) -> PyResult<Arc<World>> {
        self.world.read().clone().ok_or_else(|| PyRuntimeError::new_err("the engine is closed"))
    }

    /// Runs with the interpreter let go, so that extractors can take it.
    fn run<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&World) -> Result<T> + Send) -> PyResult<T> {
        let world = self.world()?;
        away(py, || work(&world))?.map_err(|error| raise(py, &error))
    }
}

#[pymethods]
impl MockEngine {
    #[new]
    #[pyo3(signature = (definitions_json, functions=None, clock="event"))]
    fn new(
        py: Python<'_>,
        definitions_json: &str,
        functions: Option<HashMap<String, Py<PyAny>>>,
        clock: &str,
    ) -> PyResult<MockEngine> {
        let clock = match clock {
            "event" => ClockMode::Event,
            "wall" => ClockMode::Wall,
            other => {
                let error =
                    Error::invalid(format!("not a clock: '{other}'")).field("clock").hint("allowed: event, wall");
                return Err(raise(py, &error));
            }
        };
        let made = away(py, || {
            let compiled = compile_text(definitions_json).map_err(|errors| all_in_one(&errors))?;
            let extractors = Arc::new(PythonExtractors::new(WORKERS)?);
            let specs = extractor_specs(&compiled);
            let report = match &functions {
                Some(functions) => extractors.load_functions("mock", &specs, functions),
                None => extractors.load("mock", &compiled.definitions.modules, &specs),
            };
            if !report.errors.is_empty() {
                return Err(all_in_one(&report.errors));
            }
            let native = specs.iter().filter(|spec| extractors.is_native("mock", &spec.featureset, &spec.name));
            let native: Vec<String> = native.map(|spec| format!("{}.{}", spec.featureset, spec.name)).collect();
            Ok((World::new(compiled, extractors, clock)?, report.warnings, native))
        })?;
        let (world, warnings, native_extractors) = made.map_err(|error| raise(py, &error))?;
        Ok(MockEngine { world: parking_lot::RwLock::new(Some(Arc::new(world))), warnings, native_extractors })
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    #[getter]
    fn native_extractors(&self) -> Vec<String> {
        self.native_extractors.clone()
    }

    #[pyo3(signature = (dataset, rows, event_ids=None))]
    fn add_events<'py>(
        &self,
        py: Python<'py>,
        dataset: &str,
        rows: &Bound<'py, PyAny>,
        event_ids: Option<Vec<String>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let rows = match rows.cast::<PyList>() {
            Ok(list) => Rows::Named(list.iter().map(|item| row(&item)).collect()),
            Err(_) => Rows::Arrow(batches(rows)?.1),
        };
        let ids = RowIds { event_ids: event_ids.unwrap_or_default(), ..RowIds::default() };
        let receipt = self.run(py, |world| world.add(dataset, rows, &ids))?;
        let answer = PyDict::new(py);
        answer.set_item("accepted", receipt.accepted)?;
        answer
            .set_item("rejected", rejected(py, receipt.rejected.iter().map(|row| (row.index, row.reason.clone())))?)?;
        answer.set_item("position", receipt.position.encode())?;
        Ok(answer)
    }

    fn erase(&self, py: Python<'_>, dataset: &str, keys: Vec<Bound<'_, PyAny>>) -> PyResult<u64> {
        let mut given = Vec::with_capacity(keys.len());
        for key in &keys {
            given.push(GivenKey::Named(row(key).map_err(|error| raise(py, &error))?));
        }
        self.run(py, |world| world.erase(dataset, given))
    }

    #[pyo3(signature = (featureset, key, *, ts=None, known_at=None, exclusive=false, inputs=None, features=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of the Python interface")]
    fn query<'py>(
        &self,
        py: Python<'py>,
        featureset: String,
        key: &Bound<'py, PyAny>,
        ts: Option<Bound<'py, PyAny>>,
        known_at: Option<Bound<'py, PyAny>>,
        exclusive: bool,
        inputs: Option<Bound<'py, PyAny>>,
        features: Option<Vec<String>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let question = Question {
            featureset,
            keys: vec![self::key(key)?],
            inputs: inputs.as_ref().map(given_map).transpose()?.into_iter().collect(),
            features,
            at: ts.as_ref().map(|ts| time(ts, "ts")).transpose()?.map_or(At::Now, At::Time),
            asking: asking(known_at.as_ref(), exclusive)?,
            kind: RunKind::Online,
        };
        let answer = self.run(py, |world| world.wait(world.query.answer(question)))?;
        let dict = PyDict::new(py);
        dict.set_item("featureset", answer.featureset.as_ref())?;
        let keys = PyDict::new(py);
        for (name, values) in &answer.keys {
            keys.set_item(name.as_ref(), to_python(py, &values[0])?)?;
        }
        dict.set_item("key", keys)?;
        put_values(&dict, "features", answer.columns.iter().map(|column| (&column.name, &column.values[0])))?;
        put_standing(&dict, &answer.standing, &answer.run.id)?;
        Ok(dict)
    }

    #[pyo3(signature = (dataset, key, *, ts=None, known_at=None, exclusive=false))]
    fn lookup<'py>(
        &self,
        py: Python<'py>,
        dataset: String,
        key: &Bound<'py, PyAny>,
        ts: Option<Bound<'py, PyAny>>,
        known_at: Option<Bound<'py, PyAny>>,
        exclusive: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let question = LookupQuestion {
            dataset,
            key: self::key(key)?,
            at: ts.as_ref().map(|ts| time(ts, "ts")).transpose()?,
            asking: asking(known_at.as_ref(), exclusive)?,
        };
        let answer = self.run(py, |world| world.wait(world.query.lookup(question)))?;
        let dict = PyDict::new(py);
        dict.set_item("dataset", answer.dataset.as_ref())?;
        let keys = PyDict::new(py);
        for (name, value) in &answer.key {
            keys.set_item(name.as_ref(), to_python(py, value)?)?;
        }
        dict.set_item("key", keys)?;
        let fields = answer.row.iter().flatten();
        put_values(&dict, "row", fields.map(|field| (&field.name, &field.value)))?;
        if answer.row.is_none() {
            dict.set_item("row", py.None())?;
        }
        put_standing(&dict, &answer.standing, &answer.run.id)?;
        Ok(dict)
    }

    #[pyo3(signature = (featureset, spine, *, timestamp_column, entity_columns=None, features=None, known_at=None,
        exclusive=false, statuses=false, pin=None, featuresets=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of the Python interface")]
    fn query_offline<'py>(
        &self,
        py: Python<'py>,
        featureset: String,
        spine: &Bound<'py, PyAny>,
        timestamp_column: String,
        entity_columns: Option<BTreeMap<String, String>>,
        features: Option<Vec<String>>,
        known_at: Option<Bound<'py, PyAny>>,
        exclusive: bool,
        statuses: bool,
        pin: Option<&str>,
        featuresets: Option<Vec<String>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (schema, spine) = batches(spine)?;
        let question = ExportQuestion {
            featureset,
            featuresets: featuresets.unwrap_or_default(),
            features,
            entity_columns: entity_columns.unwrap_or_default(),
            timestamp_column,
            statuses,
            pin: pin.map(Pin::decode).transpose().map_err(|error| raise(py, &error))?,
            asking: asking(known_at.as_ref(), exclusive)?,
        };
        let (schema, joined) = self.run(py, |world| {
            world.wait(async {
                let mut export = world.query.export(question, schema).await?;
                let mut joined = Vec::with_capacity(spine.len());
                for batch in spine {
                    joined.push(export.join(batch).await?);
                }
                Ok((export.schema(), joined))
            })
        })?;
        let table = Table::try_new(joined, schema).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        table.into_pyarrow(py)
    }

    fn set_now(&self, py: Python<'_>, now: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let now = now.as_ref().map(|now| time(now, "now")).transpose()?;
        self.run(py, |world| world.set_now(now))
    }

    fn now<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let now = self.run(py, |world| {
            if !world.clock.is_set() && world.is_on_event_clock() {
                return Ok(world.state.snapshot().greatest_event_time()?.unwrap_or(0));
            }
            Ok(world.clock.now())
        })?;
        to_python(py, &Value::Time(now))
    }

    fn close(&self, py: Python<'_>) {
        let world = self.world.write().take();
        py.detach(|| drop(world));
    }
}

/// The record batches of anything with `__arrow_c_stream__` (a table, a reader, a data frame) or of one batch.
fn batches(object: &Bound<'_, PyAny>) -> PyResult<(arrow_schema::SchemaRef, Vec<RecordBatch>)> {
    if let Ok(batch) = RecordBatch::from_pyarrow_bound(object) {
        return Ok((batch.schema(), vec![batch]));
    }
    let reader = ArrowArrayStreamReader::from_pyarrow_bound(object)?;
    let schema = reader.schema();
    let batches: std::result::Result<Vec<RecordBatch>, _> = reader.collect();
    batches.map(|batches| (schema, batches)).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}
