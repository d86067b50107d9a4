//! One row of text or JSON as the dataset's fields.

use serde_json::{Map, Value as Json};
use thyme_core::schema::Field;
use thyme_core::{Error, Result, Value, suggest};

/// A text that is one JSON object.
pub fn object(bytes: &[u8]) -> Result<Map<String, Json>> {
    let json: Json = serde_json::from_slice(bytes).map_err(|error| {
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        Error::invalid(format!("not valid JSON: {what} at column {}", error.column()))
    })?;
    match json {
        Json::Object(object) => Ok(object),
        _ => Err(Error::invalid("not a JSON object")),
    }
}

/// The values of a JSON object in field order. Members that are no fields are ignored.
pub fn from_object(object: &Map<String, Json>, fields: &[Field]) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(fields.len());
    for field in fields {
        let value = match object.get(&field.name) {
            Some(json) => Value::from_json(json, &field.data_type).map_err(|error| of_field(field, error))?,
            None if field.nullable => Value::Null,
            None => {
                let hint = suggest::hint(&field.name, object.keys().map(String::as_str));
                return Err(Error::invalid(format!("no field '{}'", field.name)).field(&field.name).hint(hint));
            }
        };
        values.push(checked(value, field)?);
    }
    Ok(values)
}

/// What can be read of a JSON object, null where nothing can.
pub fn readable(object: &Map<String, Json>, fields: &[Field]) -> Vec<Value> {
    let read = |field: &Field| object.get(&field.name).and_then(|json| Value::from_json(json, &field.data_type).ok());
    fields.iter().map(|field| read(field).unwrap_or(Value::Null)).collect()
}

/// A cell of a text table: empty is null.
pub fn from_cell(text: &str, field: &Field) -> Result<Value> {
    if text.is_empty() {
        return checked(Value::Null, field);
    }
    Value::from_text(text, &field.data_type).map_err(|error| of_field(field, error))
}

/// Refuses a null in a field that is not Optional.
pub fn checked(value: Value, field: &Field) -> Result<Value> {
    if value.is_null() && !field.nullable {
        let message = format!("field '{}' is null", field.name);
        let hint = format!("declare it Optional[{}] to accept rows without it", field.data_type);
        return Err(Error::invalid(message).field(&field.name).hint(hint));
    }
    Ok(value)
}

pub fn of_field(field: &Field, error: Error) -> Error {
    error.context(format_args!("field '{}'", field.name)).field(&field.name)
}

/// The beginning of a text, for people.
pub fn sample(bytes: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONGEST)]);
    let text = text.trim_end_matches(['\r', '\n']);
    if text.chars().count() <= LONGEST { text.to_string() } else { text.chars().take(LONGEST).chain(['…']).collect() }
}
