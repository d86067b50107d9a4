//! Values to Python and back. Times are datetimes with the zone UTC, decimals `decimal.Decimal`; NumPy scalars are read as what they hold.

use crate::glue::glue;
use pyo3::IntoPyObjectExt;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDateTime, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::decimal::Decimal;
use thyme_core::value::Value;

pub fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(flag) => flag.into_bound_py_any(py),
        Value::Int(number) => number.into_bound_py_any(py),
        Value::Float(number) => number.into_bound_py_any(py),
        Value::Str(text) => text.as_ref().into_bound_py_any(py),
        Value::Bytes(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
        Value::Time(micros) => datetime(py, *micros),
        Value::Decimal(number) => decimal_class(py)?.call1((number.to_string(),)),
        Value::List(items) => {
            let list = PyList::empty(py);
            for item in items.iter() {
                list.append(to_python(py, item)?)?;
            }
            Ok(list.into_any())
        }
        Value::Map(entries) => {
            let dict = PyDict::new(py);
            for (name, item) in entries.iter() {
                dict.set_item(name.as_ref(), to_python(py, item)?)?;
            }
            Ok(dict.into_any())
        }
    }
}

fn decimal_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "decimal", "Decimal")
}

/// A datetime with the zone UTC.
pub(crate) fn datetime(py: Python<'_>, micros: i64) -> PyResult<Bound<'_, PyAny>> {
    glue(py)?.call_method1(intern!(py, "to_datetime"), (micros,))
}

/// Microseconds of a datetime that has a zone.
pub(crate) fn micros(when: &Bound<'_, PyAny>) -> PyResult<i64> {
    glue(when.py())?.call_method1(intern!(when.py(), "to_micros"), (when,))?.extract()
}

/// Why a Python object is no value, as part of a sentence about a feature.
pub fn from_python(object: &Bound<'_, PyAny>) -> Result<Value, String> {
    if object.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(flag) = object.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if object.is_instance_of::<PyInt>() {
        return object.extract().map(Value::Int).map_err(|_| format!("{object} is beyond 64 bits"));
    }
    if object.is_instance_of::<PyFloat>() {
        let number = object.extract::<f64>().map_err(|error: PyErr| error.to_string())?;
        return Value::float(number).ok_or_else(|| format!("{} is not a value", float_name(number)));
    }
    if object.is_instance_of::<PyString>() {
        let text: String = object.extract().map_err(|_| "the text is not valid Unicode".to_string())?;
        return Ok(Value::str(text));
    }
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Value::Bytes(bytes.as_bytes().into()));
    }
    if object.is_instance_of::<PyDateTime>() {
        return micros(object).map(Value::Time).map_err(|error| error.value(object.py()).to_string());
    }
    if decimal_class(object.py()).is_ok_and(|class| object.is_instance(class).unwrap_or(false)) {
        let text = object.str().and_then(|text| text.extract::<String>()).map_err(|error| error.to_string())?;
        return Decimal::parse(&text).map(Value::Decimal).map_err(|error| error.message().to_string());
    }
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        let items: Result<Vec<Value>, String> = object
            .try_iter()
            .map_err(|error| error.to_string())?
            .map(|item| from_python(&item.map_err(|error| error.to_string())?))
            .collect();
        return Ok(Value::List(items?.into()));
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        let mut entries = BTreeMap::new();
        for (name, item) in dict.iter() {
            let name: String = name.extract().map_err(|_| "a dict has a key that is not text".to_string())?;
            entries.insert(Arc::from(name), from_python(&item)?);
        }
        return Ok(Value::Map(Arc::new(entries)));
    }
    // NumPy: scalars and arrays say what they hold.
    if object.hasattr("dtype").unwrap_or(false)
        && let Ok(plain) = object.call_method0("tolist")
        && !plain.get_type().is(object.get_type())
    {
        return from_python(&plain);
    }
    Err(format!("a {} is not a value", object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string())))
}

fn float_name(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "inf"
    } else {
        "-inf"
    }
}
