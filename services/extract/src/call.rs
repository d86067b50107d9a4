//! Runs one job on a worker: each row, or all rows as columns, and reads what came back.

use crate::context::{Current, LookupContext};
use crate::glue::{describe_error, glue};
use crate::loader::{Function, Loaded};
use crate::pool::{Pool, Worker};
use crate::values::{datetime, from_python, to_python};
use arrow_pyarrow::ToPyArrow;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::sync::Arc;
use thyme_core::definition::CallStyle;
use thyme_core::schema::DataType;
use thyme_core::value::Value;
use thyme_query::{Extracted, ExtractedRows, ExtractorCall, ExtractorSpec, to_array};

pub(crate) type Row = Result<Vec<Extracted>, Arc<str>>;

pub(crate) fn run(
    py: Python<'_>,
    pool: &Pool,
    worker: &Worker,
    context: &Bound<'_, LookupContext>,
    loaded: &Loaded,
    call: ExtractorCall,
) -> ExtractedRows {
    let function = match &loaded.function {
        Ok(function) => function,
        Err(reason) => return vec![Err(reason.clone()); call.rows.len()],
    };
    let row_time = call.times.iter().copied().max().unwrap_or(i64::MIN);
    context.get().set(Some(Current { lookups: call.lookups.clone(), row_time }));
    if loaded.spec.batch {
        let answer = run_batch(py, function, &loaded.spec, &call);
        let late = pool.end_row(py, worker);
        return answer.unwrap_or_else(|error| {
            let reason = reason_of(py, &error, late, &call);
            vec![Err(reason); call.rows.len()]
        });
    }
    let mut rows: ExtractedRows = Vec::with_capacity(call.rows.len());
    for (inputs, &time) in call.rows.iter().zip(&call.times) {
        pool.begin_row(worker);
        context.get().set_row_time(time);
        let answer = run_row(py, function, &loaded.spec, time, inputs);
        let late = pool.end_row(py, worker);
        match answer {
            Ok(row) => rows.push(row),
            Err(error) => {
                let reason = reason_of(py, &error, late, &call);
                rows.push(Err(reason.clone()));
                if late {
                    // A function that hangs once is likely to hang again: the rest of the chunk is not tried.
                    rows.resize(call.rows.len(), Err(reason));
                    break;
                }
            }
        }
    }
    rows
}

/// One row in Python.
pub(crate) fn run_row(
    py: Python<'_>,
    function: &Function,
    spec: &ExtractorSpec,
    time: i64,
    inputs: &[Value],
) -> PyResult<Row> {
    let ts = datetime(py, time)?;
    let result = match spec.style {
        CallStyle::Dict => {
            let named = PyDict::new(py);
            for (name, value) in spec.inputs.iter().zip(inputs) {
                named.set_item(name, to_python(py, value)?)?;
            }
            function.0.bind(py).call1((ts, named))?
        }
        CallStyle::Arguments => {
            let mut arguments = Vec::with_capacity(inputs.len() + 1);
            arguments.push(ts);
            for value in inputs {
                arguments.push(to_python(py, value)?);
            }
            function.0.bind(py).call1(PyTuple::new(py, arguments)?)?
        }
    };
    Ok(outputs(&result, spec).map(|outputs| outputs.iter().map(read_output).collect()))
}

fn read_output(output: &Bound<'_, PyAny>) -> Extracted {
    from_python(output).map_err(Arc::from)
}

/// Takes a result apart: a value, a tuple in output order, or a dict by name.
fn outputs<'py>(result: &Bound<'py, PyAny>, spec: &ExtractorSpec) -> Result<Vec<Bound<'py, PyAny>>, Arc<str>> {
    let names = &spec.outputs;
    let only_type = (names.len() == 1).then(|| &spec.output_types[0]);
    if let Ok(dict) = result.cast::<PyDict>()
        && !matches!(only_type, Some(DataType::Map(_)))
    {
        return by_name(dict, names);
    }
    if let Ok(tuple) = result.cast::<PyTuple>()
        && !matches!(only_type, Some(DataType::List(_)))
    {
        if tuple.len() != names.len() {
            return Err(format!("returned a tuple of {} for {} outputs", tuple.len(), names.len()).into());
        }
        return Ok(tuple.iter().collect());
    }
    if only_type.is_some() {
        return Ok(vec![result.clone()]);
    }
    if let Ok(list) = result.cast::<PyList>()
        && list.len() == names.len()
    {
        return Ok(list.iter().collect());
    }
    let got = result.get_type().name().map_or_else(|_| "an object".to_string(), |name| name.to_string());
    Err(format!("returned {got}, expected a tuple or dict of {} outputs: {}", names.len(), names.join(", ")).into())
}

fn by_name<'py>(dict: &Bound<'py, PyDict>, names: &[String]) -> Result<Vec<Bound<'py, PyAny>>, Arc<str>> {
    for key in dict.keys() {
        let known = key.extract::<String>().is_ok_and(|key| names.contains(&key));
        if !known {
            return Err(format!("returned a dict with '{key}', its outputs are {}", names.join(", ")).into());
        }
    }
    names
        .iter()
        .map(|name| match dict.get_item(name) {
            Ok(Some(value)) => Ok(value),
            _ => Err(Arc::from(format!("returned a dict without '{name}'"))),
        })
        .collect()
}

fn run_batch(
    py: Python<'_>,
    function: &Function,
    spec: &ExtractorSpec,
    call: &ExtractorCall,
) -> PyResult<ExtractedRows> {
    let count = call.rows.len();
    let times: Vec<Value> = call.times.iter().map(|&time| Value::Time(time)).collect();
    let ts = column(py, times.iter(), &DataType::Time)?;
    let mut columns = Vec::with_capacity(spec.inputs.len());
    for (index, data_type) in spec.input_types.iter().enumerate() {
        let values: Vec<&Value> = call.rows.iter().map(|row| &row[index]).collect();
        columns.push(column(py, values.into_iter(), data_type)?);
    }
    let result = match spec.style {
        CallStyle::Dict => {
            let named = PyDict::new(py);
            for (name, values) in spec.inputs.iter().zip(columns) {
                named.set_item(name, values)?;
            }
            function.0.bind(py).call1((ts, named))?
        }
        CallStyle::Arguments => {
            let arguments = std::iter::once(ts).chain(columns);
            function.0.bind(py).call1(PyTuple::new(py, arguments.collect::<Vec<_>>())?)?
        }
    };
    let made = match outputs(&result, spec) {
        Ok(made) => made,
        Err(reason) => return Ok(vec![Err(reason); count]),
    };
    let mut rows: Vec<Vec<Extracted>> = (0..count).map(|_| Vec::with_capacity(made.len())).collect();
    for (values, name) in made.iter().zip(&spec.outputs) {
        let items = glue(py)?.call_method1("to_list", (values,))?;
        let items = items.cast::<PyList>()?;
        if items.len() != count {
            let reason: Arc<str> = format!("returned {} values for '{name}', expected {count}", items.len()).into();
            return Ok(vec![Err(reason); count]);
        }
        for (row, item) in rows.iter_mut().zip(items.iter()) {
            row.push(read_output(&item));
        }
    }
    Ok(rows.into_iter().map(Ok).collect())
}

fn column<'a, 'py>(
    py: Python<'py>,
    values: impl ExactSizeIterator<Item = &'a Value>,
    data_type: &DataType,
) -> PyResult<Bound<'py, PyAny>> {
    let array = to_array(values, data_type).map_err(|error| crate::glue::raise(py, &error))?;
    array.to_data().to_pyarrow(py)
}

fn reason_of(py: Python<'_>, error: &PyErr, late: bool, call: &ExtractorCall) -> Arc<str> {
    if late {
        return format!("did not return within {} ms and was interrupted", call.deadline.as_millis()).into();
    }
    format!("raised {}", describe_error(py, error)).into()
}
