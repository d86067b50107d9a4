//! Python arguments to questions, and answers to dicts.

use pyo3::prelude::*;
use pyo3::types::{PyDateTime, PyDict, PyList, PyMapping, PyString};
use std::collections::BTreeMap;
use std::sync::Arc;
use thyme_core::error::{Error, Result};
use thyme_core::position::KnownAt;
use thyme_core::time::{Micros, format_time};
use thyme_core::value::Value;
use thyme_extract::{from_python, raise, to_python};
use thyme_query::{Asking, FeatureValue, Given, GivenMap, Standing};

/// A value of a parameter; `name` is for the message.
fn value(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Value> {
    from_python(object).map_err(|reason| raise(object.py(), &Error::invalid(format!("{name}: {reason}")).field(name)))
}

/// A key: a mapping by name, or the value of the only one.
pub(crate) fn key(object: &Bound<'_, PyAny>) -> PyResult<GivenMap> {
    if object.cast::<PyMapping>().is_ok() {
        return given_map(object);
    }
    Ok(BTreeMap::from([("entity_id".to_string(), Given::Value(value(object, "entity_id")?))]))
}

pub(crate) fn given_map(object: &Bound<'_, PyAny>) -> PyResult<GivenMap> {
    let mut map = GivenMap::new();
    for item in object.call_method0("items")?.try_iter()? {
        let (name, component): (String, Bound<'_, PyAny>) = item?.extract()?;
        let component = value(&component, &name)?;
        map.insert(name, Given::Value(component));
    }
    Ok(map)
}

/// A datetime with a zone.
pub(crate) fn time(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Micros> {
    let wrong = |reason: String| {
        raise(
            object.py(),
            &Error::invalid(format!("{name}: {reason}")).field(name).hint("write datetime(..., tzinfo=timezone.utc)"),
        )
    };
    if !object.is_instance_of::<PyDateTime>() {
        return Err(wrong(format!("expected a datetime, got {}", object.get_type().name()?)));
    }
    match from_python(object) {
        Ok(Value::Time(micros)) => Ok(micros),
        Ok(other) => Err(wrong(format!("expected a datetime, got {}", other.type_name()))),
        Err(reason) => Err(wrong(reason)),
    }
}

pub(crate) fn asking(known_at: Option<&Bound<'_, PyAny>>, exclusive: bool) -> PyResult<Asking> {
    let known_at = match known_at {
        None => None,
        Some(text) if text.is_instance_of::<PyString>() => {
            let text: String = text.extract()?;
            Some(text)
        }
        Some(when) => Some(format_time(time(when, "known_at")?)),
    };
    Ok(Asking {
        known_at: known_at.as_deref().map(known).transpose().map_err(raise_later)?,
        exclusive,
        ..Asking::default()
    })
}

fn known(text: &str) -> Result<KnownAt> {
    KnownAt::parse(text)
}

fn raise_later(error: Error) -> PyErr {
    Python::attach(|py| raise(py, &error))
}

/// A row of an ingest.
pub(crate) fn row(object: &Bound<'_, PyAny>) -> Result<BTreeMap<String, Value>> {
    let Ok(dict) = object.cast::<PyDict>() else { return Err(Error::invalid("a row must be a dict by field name")) };
    let mut row = BTreeMap::new();
    for (name, item) in dict.iter() {
        let name: String = name.extract().map_err(|_| Error::invalid("a row has a key that is not text"))?;
        let value = from_python(&item)
            .map_err(|reason| Error::invalid(format!("field '{name}': {reason}")).field(name.as_str()))?;
        row.insert(name, value);
    }
    Ok(row)
}

/// Puts what an answer stands on.
pub(crate) fn put_standing(dict: &Bound<'_, PyDict>, standing: &Standing, run_id: &str) -> PyResult<()> {
    let py = dict.py();
    dict.set_item("mode", standing.mode.name())?;
    dict.set_item("ts", to_python(py, &Value::Time(standing.ts))?)?;
    let watermark = standing.watermark.map_or(Value::Null, Value::Time);
    dict.set_item("watermark", to_python(py, &watermark)?)?;
    dict.set_item("position", standing.position.encode())?;
    dict.set_item("final", standing.is_final)?;
    dict.set_item("query_run_id", run_id)
}

/// Puts values, statuses and reasons under `name`, `statuses` and `errors`.
pub(crate) fn put_values<'a>(
    dict: &Bound<'_, PyDict>,
    name: &str,
    values: impl Iterator<Item = (&'a Arc<str>, &'a FeatureValue)>,
) -> PyResult<()> {
    let py = dict.py();
    let (features, statuses, errors) = (PyDict::new(py), PyDict::new(py), PyDict::new(py));
    for (name, feature) in values {
        features.set_item(name.as_ref(), to_python(py, &feature.value)?)?;
        statuses.set_item(name.as_ref(), feature.status.name())?;
        if let Some(reason) = feature.status.reason() {
            errors.set_item(name.as_ref(), reason)?;
        }
    }
    dict.set_item(name, features)?;
    dict.set_item("statuses", statuses)?;
    dict.set_item("errors", errors)
}

/// `[(index, reason), …]`.
pub(crate) fn rejected<'py>(
    py: Python<'py>,
    rows: impl Iterator<Item = (u64, String)>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for row in rows {
        list.append(row)?;
    }
    Ok(list)
}
